"""Decode scheduled events: their alarms, their deliveries and their cancels."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from sys import intern
from typing import NamedTuple

from happen_nb._journal import fields
from happen_nb._journal.wire import (
    ALARM,
    BY,
    CAUSE,
    DUE,
    EXPECTED,
    EXPECTED_SUBJECT,
    GOES_ON,
    KEY,
    READ,
    SCHEDULED,
    SCHEDULER,
    Subjects,
)
from happen_nb._model.patterns import check_type
from happen_nb._model.records import EventRecord
from happen_nb._model.schedules import Alarm, is_moment_text, utc_text


class Scheduled(NamedTuple):
    """An event was scheduled, in place of the earlier one of its alarm."""

    sequence: int
    alarm: Alarm


class Ended(NamedTuple):
    """A scheduled event was cancelled or replaced: if the server publishes it later, it does not count."""

    sequence: int
    alarm: str
    key: str | None = None  # the key of the step of a durable handler that cancelled it
    goes_on: bool = False  # True for a tick whose handlers stay, in every process that has them
    event: EventRecord | None = None  # the event, without its payload; None in a record of an earlier version
    cause: str | None = None
    """The id of the event that was handled, or of the commit that was watched, when it was cancelled."""
    by: str | None = None  # the node of the handler or the watch that cancelled it
    replaced: bool = False  # True if another one was scheduled in its place

    @property
    def id(self) -> str:
        """The id of the event."""
        return self.alarm.partition(" ")[0]

    @property
    def scheduled_key(self) -> str | None:
        """The key of the step of a durable handler that scheduled it."""
        return self.alarm.partition(" ")[2].partition(":")[2] or None


def as_scheduled(event: EventRecord, headers: Mapping[str, str]) -> EventRecord:
    """Add the name of its alarm and its due time to an event, and return it."""
    id, _, one = fields.label(headers[ALARM]).partition(" ")
    due = _due(headers[DUE])
    if not one or due is None:
        raise ValueError("it is not a scheduled event")
    event.alarm, event.due = f"{fields.event_id(id)} {one}", due
    event.scheduled = _scheduled_at(headers)
    return event


def _scheduled_at(headers: Mapping[str, str]) -> int:
    """Return the sequence at which a delivered event was scheduled, as far as its headers show it; else 0."""
    with suppress(*fields.UNREADABLE):
        if EXPECTED_SUBJECT in headers:  # a process has delivered it, not the server
            return fields.digits(headers[EXPECTED])
        return fields.digits(headers[READ]) + 1
    return 0


def decode_end(subjects: Subjects, subject: str, headers: Mapping[str, str], sequence: int) -> Ended:
    """Decode a cancel, or that another event has taken the place of a scheduled one."""
    alarm = fields.label(headers[ALARM])
    has_caller_id = subject.startswith(f"{subjects.event_prefix}~.")
    return Ended(
        sequence,
        alarm,
        headers.get(KEY),
        GOES_ON in headers,
        _decode_scheduling(alarm, headers.get(SCHEDULED), has_caller_id=has_caller_id),
        headers.get(CAUSE),
        headers.get(BY),
        SCHEDULER not in headers,
    )


def _decode_scheduling(alarm: str, text: str | None, *, has_caller_id: bool) -> EventRecord | None:
    """Decode the description, in a cancel, of the event that it has ended."""
    if text is None:
        return None
    id, _, nonce = alarm.partition(" ")
    try:
        about = fields.of_type(fields.read_json(text), dict)
        cause = fields.optional_path_id(about.get("cause"))
        if not is_moment_text(due := about["due"]):
            return None
        return EventRecord(
            fields.event_id(id),
            check_type(about["type"]),
            fields.label(about["sender"]),
            cause=cause,
            path=() if cause is None else (cause,),
            publish_id=nonce if has_caller_id else None,
            due=due,
            alarm=alarm,
            scheduled=fields.natural(about["sequence"]),
        )
    except fields.UNREADABLE:
        return None


@lru_cache(1024)  # many events may be due at once
def _due(text: str) -> str | None:
    due = fields.iso_time(text)
    return None if due is None else utc_text(due)


def alarm_of(subjects: Subjects, event: EventRecord, subject: str) -> Alarm:
    alarm, due = event.alarm, event.due
    assert alarm is not None
    assert due is not None
    id, _, one = alarm.partition(" ")
    if subject != subjects.alarm_prefix + id:
        raise ValueError("it is the alarm of another event")
    event.scheduled = event.sequence
    cause = event.path[-1] if event.path else event.cause
    target, type, sender = subjects.event(event), intern(event.type), intern(event.sender)
    return Alarm(id, one, event.sequence, due, target, event, type, sender, cause)
