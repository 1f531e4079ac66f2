"""Encode the messages of the journal."""

from __future__ import annotations

import json
from contextlib import suppress
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, TypeVar

import orjson

from happen_nb._journal.wire import (
    ALARM,
    ARGUMENTS,
    BARRIER_SECONDS,
    BATCH_COMMIT,
    BATCH_ID,
    BATCH_SEQUENCE,
    BY,
    CANCEL_MARGIN_SECONDS,
    CAUSE,
    CLEAR,
    CLOCK,
    COMMIT,
    CORRELATION,
    DUE,
    EVENT,
    EVENTS,
    EXPECTED,
    EXPECTED_SUBJECT,
    FOLDED,
    GOES_ON,
    KEY,
    MAX_BATCH_MESSAGES,
    MAX_HANDLED_BYTES,
    MAX_HANDLER_NAME,
    MAX_HANDLINGS,
    MAX_HEADER_BYTES,
    MAX_PATTERN_BYTES,
    MAX_PAUSES,
    MAX_STATE_BYTES_WITH_EVENTS,
    NEVER,
    OMITTED,
    OPERATION,
    PATH,
    POSITIONS,
    READ,
    ROLLUP,
    SCHEDULE,
    SCHEDULE_NEXT,
    SCHEDULE_TARGET,
    SCHEDULE_TTL,
    SCHEDULED,
    SCHEDULER,
    TTL,
    Message,
    Subjects,
)
from happen_nb._model.freeze import dumps
from happen_nb._model.pace import Pace
from happen_nb._model.positions import encode_positions
from happen_nb._model.records import NO_ORIGIN, CommitRecord, EventRecord, HandledRecord, Origin, OwnerRecord
from happen_nb._model.schedules import Alarm

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from happen_nb._model.frozen import Frozen
    from happen_nb._model.positions import Position, Positions


T = TypeVar("T")
_NOTHING_MORE: Final = (None, None, None, None, None)  # at the end of most handlings


def encode_commit(subjects: Subjects, record: CommitRecord, expected: int) -> Message:
    """Encode a commit, stored only if `expected` is still the sequence of the node's newest message.

    Its events are not encoded.
    """
    about = f"{record.id} {record.revision} {record.read_position}"
    headers = {EXPECTED: str(expected), COMMIT: about}
    cause, correlation, by, path, omitted = record.origin
    if cause is not None:
        headers[CAUSE] = cause
    if correlation is not None:
        headers[CORRELATION] = correlation
    if by is not None:
        headers[BY] = by
    if path:
        headers[PATH] = " ".join(path)
    if omitted:
        headers[OMITTED] = str(omitted)
    if record.positions:
        headers[POSITIONS] = encode_positions(record.positions)
    if record.key is not None:
        headers[KEY] = record.key
    if record.folded:
        headers[FOLDED] = " ".join(record.folded)
    body = record.body
    if body is None:
        headers[OPERATION], body = "DEL", b""
    return Message(subjects.state_prefix + record.node, body, headers)


def with_events(
    subjects: Subjects,
    commit: Message,
    events: Iterable[EventRecord],
    *,
    ttl: int,
    most: int = MAX_BATCH_MESSAGES,
) -> list[Message]:
    """Return the messages of a commit that emits: one if the events fit in its header, else a batch.

    Events with an id of the caller's go on subjects of their own, where an id can be unique. A batch of more
    than `most` messages carries as many of its first events as possible in the header of the commit.
    """
    events = list(events)
    if not events:
        return [commit]
    riding: list[str] = []
    if len(commit.body) <= MAX_STATE_BYTES_WITH_EVENTS and not any(event.has_caller_id for event in events):
        riding = _first_fitting(commit, events)
    if len(riding) < len(events):
        riding = _first_fitting(commit, events) if 1 + len(events) > most else []
    if riding:
        commit = commit.with_headers({EVENTS: f"[{','.join(riding)}]"})
    return [commit, *(encode_event(subjects, event, ttl=ttl) for event in events[len(riding) :])]


def _first_fitting(commit: Message, events: Iterable[EventRecord]) -> list[str]:
    """Encode the first events, as many as fit in the header of their commit."""
    room = MAX_HEADER_BYTES - commit.header_size - len(EVENTS) - len(": []\r\n")
    found: list[str] = []
    for event in events:
        if event.has_caller_id:
            break
        text = _ascii(_event_fields(event))
        room -= len(text) + 1
        if room < 0:
            break
        found.append(text)
    return found


def encode_event(subjects: Subjects, event: EventRecord, *, ttl: int, expected: int = 0) -> Message:
    """Encode an event for its own subject, which must be unused, so it is stored once; `ttl` in seconds.

    `expected` is the sequence of what may be there all the same, such as a cancel.
    """
    headers = {EXPECTED: str(expected), EVENT: _about(event), TTL: str(ttl)}
    return Message(subjects.event(event), dumps(event.payload), headers)


def encode_alarm(
    subjects: Subjects, event: EventRecord, *, ttl: int, expected: int, read: int, never: bool = False
) -> Message:
    """Encode an event that the server publishes when it is due, with `ttl` seconds to live.

    `expected` is the sequence of the alarm that it replaces, `read` the position of this process in the
    journal. `never` is for a manual clock, whose `advance` publishes the event.
    """
    alarm, due = event.alarm, event.due
    assert alarm is not None
    assert due is not None
    headers = {
        EXPECTED: str(expected),
        EVENT: _about(event),
        ALARM: alarm,
        DUE: due,
        READ: str(read),
        SCHEDULE: f"@at {NEVER if never else due}",
        SCHEDULE_TARGET: subjects.event(event),
        SCHEDULE_TTL: f"{ttl}s",
    }
    return Message(subjects.alarm_prefix + alarm.partition(" ")[0], dumps(event.payload), headers)


def encode_delivery(subjects: Subjects, alarm: Alarm, *, ttl: int) -> Message:
    """Encode a scheduled event that is delivered now, and removes its alarm, if that is still there."""
    event = alarm.event
    assert event is not None
    headers = {EVENT: _about(event), DUE: alarm.due, TTL: str(ttl), **_ending(subjects, alarm)}
    return Message(alarm.target, dumps(event.payload), headers)


def encode_cancel(
    subjects: Subjects,
    alarm: Alarm,
    *,
    ttl: int,
    origin: Origin = NO_ORIGIN,
    key: str | None = None,
    goes_on: bool = False,
) -> Message:
    """Encode the cancel of a scheduled event, which removes its alarm, if that is still there.

    It is stored where the event would be: if the server publishes that later, readers find the cancel first.
    `goes_on` is True for a tick whose handlers stay.
    """
    headers = {
        TTL: str(ttl + CANCEL_MARGIN_SECONDS),
        **_ending(subjects, alarm),
        SCHEDULED: _scheduling(alarm),
    }
    if origin.path and origin.by is not None:
        headers |= {CAUSE: origin.path[-1], BY: origin.by}
    if key is not None:
        headers[KEY] = key
    if goes_on:
        headers[GOES_ON] = "1"
    return Message(alarm.target, b"", headers)


def encode_replaced(alarm: Alarm, *, ttl: int) -> Message:
    """Encode that another event takes the place of a scheduled one; it goes in a batch with that."""
    headers = {ALARM: alarm.name, TTL: str(ttl + CANCEL_MARGIN_SECONDS), SCHEDULED: _scheduling(alarm)}
    return Message(alarm.target, b"", headers)


def _scheduling(alarm: Alarm) -> str:
    """Describe an event that is never delivered, and when it was scheduled."""
    about = {"sequence": alarm.sequence, "due": alarm.due, "type": alarm.type, "sender": alarm.sender}
    return _ascii(about if alarm.cause is None else {**about, "cause": alarm.cause})


def _ending(subjects: Subjects, alarm: Alarm) -> dict[str, str]:
    subject = subjects.alarm_prefix + alarm.id
    return {
        ALARM: alarm.name,
        SCHEDULER: subject,
        SCHEDULE_NEXT: "purge",
        EXPECTED: str(alarm.sequence),
        EXPECTED_SUBJECT: subject,
    }


def encode_clock(subjects: Subjects, now: str, *, expected: int) -> Message:
    """Encode the time of a manual clock; `expected` is the sequence of the one before."""
    return Message(subjects.clock, orjson.dumps({"now": now}), {EXPECTED: str(expected)})


def encode_pace(subjects: Subjects, pace: Pace) -> Message:
    """Encode the pace of a space; its ``sequence`` is that of the record before.

    A pause whose sequence is 0 begins with this message.
    """
    about: dict[str, Any] = {}
    if pace.pauses:
        about["pauses"] = [
            {"pattern": each.pattern, "since": each.sequence or None} for each in pace.pauses[-MAX_PAUSES:]
        ]
    if pace.next is not None:
        about["next"] = list(pace.next)
    if pace.slow is not None:
        about["slow"] = pace.slow
    if pace.id is not None:
        about["id"] = pace.id
    return Message(subjects.pace, _ascii(about).encode(), {EXPECTED: str(pace.sequence)})


def _about(event: EventRecord) -> str:
    about = _event_fields(event)
    del about["payload"]
    return _ascii(about)


def _ascii(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if text.isascii() else json.dumps(value, separators=(",", ":"))


def _event_fields(event: EventRecord) -> dict[str, Any]:
    about: dict[str, Any] = {"id": event.id, "type": event.type, "sender": event.sender}
    for name in ("target", "cause", "correlation", "occurred"):
        if (value := getattr(event, name)) is not None:
            about[name] = value
    if event.publish_id is not None:
        about["nonce"] = event.publish_id
    if event.key is not None:
        about["key"] = event.key
    if event.path:
        about["path"] = event.path
    if event.omitted:
        about["omitted"] = event.omitted
    return {**about, "payload": event.payload}


def batch(messages: list[Message], id: str) -> list[Message]:
    """Turn messages into one atomic batch: all are stored, or none."""
    numbered = [
        message.with_headers({BATCH_ID: id, BATCH_SEQUENCE: str(number)})
        for number, message in enumerate(messages, 1)
    ]
    return [*numbered[:-1], numbered[-1].with_headers({BATCH_COMMIT: "1"})]


def encode_guard(subjects: Subjects, subject: str, expected: int) -> Message:
    """Encode a guard: a message of a batch that stops it if `subject` has a message after `expected`."""
    return Message(subjects.guard, b"", {EXPECTED: str(expected), EXPECTED_SUBJECT: subject, TTL: "1"})


def guard_all(subjects: Subjects, commit: Message, expected: int) -> Message:
    """Return the commit, stored only if no node at all has changed since `expected`.

    Servers with replicas do not check this guard exactly; there each viewed key has an `encode_guard`.
    """
    return commit.with_headers({EXPECTED: str(expected), EXPECTED_SUBJECT: subjects.states})


def encode_owner(subjects: Subjects, owner: OwnerRecord, *, expected: int) -> Message:
    """Encode the owner of a node; `expected` is the sequence of the record that it replaces."""
    body = json.dumps(_owner_fields(owner)).encode()
    return Message(subjects.owner_prefix + owner.node, body, {EXPECTED: str(expected)})


def _owner_fields(owner: OwnerRecord, *, patterns: bool = True) -> dict[str, Any]:
    more = {
        "state_handlers": list(owner.state_handlers),
        "durable": _fitting(owner.durable) if patterns else [],
        "sources": dict(_fitting(owner.sources)) if patterns else {},
    }
    return {
        "node": owner.node,
        "incarnation": owner.incarnation,
        "patterns": _fitting(owner.patterns) if patterns else [],
        "pid": owner.pid,
        "host": owner.host,
        "since": owner.since,
        "takeover": owner.takeover,
        **{name: value for name, value in more.items() if value},
    }


def _fitting(items: tuple[T, ...]) -> list[T]:
    """Return the first items, as many as an owner record may hold."""
    sizes = accumulate(len(json.dumps(item)) + 2 for item in items)
    return [item for item, size in zip(items, sizes, strict=True) if size <= MAX_PATTERN_BYTES]


def encode_result(subject: str, value: Frozen, *, ttl: int, arguments: str | None = None) -> Message:
    """Encode the result of a call, stored once; `ttl` is in seconds, `arguments` is a digest of them."""
    headers = {EXPECTED: "0", TTL: str(ttl)}
    if arguments is not None:
        headers[ARGUMENTS] = arguments
    return Message(subject, dumps(value), headers)


def encode_start(
    subjects: Subjects, node: str, key: str, pattern: str | None, position: Position | None
) -> Message:
    """Encode the start of a state handler, stored once; a `position` of None means this message's."""
    return Message(subjects.start(node, key), _start_body(key, pattern, position), {EXPECTED: "0"})


def encode_durable(
    subjects: Subjects, node: str, key: str, pattern: str | None, position: Position | None, *, expected: int
) -> Message:
    """Encode the progress of a durable handler: all events up to `position` are done.

    It replaces the one before, at the sequence `expected`. None means the position of this message.
    """
    body = _start_body(key, pattern, position)
    return Message(subjects.durable(node, key), body, {EXPECTED: str(expected), ROLLUP: "sub"})


def _start_body(key: str, pattern: str | None, position: Position | None) -> bytes:
    at = None if position is None else list(position)
    return orjson.dumps({"handler": key, "pattern": pattern, "at": at})


def encode_passed(subjects: Subjects, node: str, base: int, positions: Positions) -> Message:
    """Encode the progress of state handlers without a commit; it replaces the one before.

    It is stored only if `base` is still the sequence of the node's newest commit.
    """
    body = orjson.dumps({"base": base, "handled": encode_positions(positions)})
    guard = {EXPECTED: str(base), EXPECTED_SUBJECT: subjects.state(node), ROLLUP: "sub"}
    return Message(subjects.passed_prefix + node, body, guard)


def encode_handled(
    subjects: Subjects, records: Sequence[HandledRecord], *, by: str, ttl: int, limit: int = MAX_HANDLED_BYTES
) -> Iterator[tuple[Message, int]]:
    """Encode handlings in messages of no more than `limit` bytes, each with the number of its records.

    `ttl` is in seconds.
    """
    subject, headers = subjects.handled_prefix + by, {TTL: str(ttl)}
    if 0 < len(records) <= MAX_HANDLINGS:  # most fit at once
        with suppress(orjson.JSONEncodeError):
            whole = orjson.dumps([_handling_fields(record) for record in records])
            if len(whole) <= limit:
                yield Message(subject, whole, headers), len(records)
                return
    items: list[bytes] = []
    size = 0
    for record in records:
        text = _encode_handling(record, limit)
        if items and (size + len(text) > limit or len(items) == MAX_HANDLINGS):
            yield Message(subject, b"[%s]" % b",".join(items), headers), len(items)
            items, size = [], 0
        items.append(text)
        size += len(text) + 1
    if items:
        yield Message(subject, b"[%s]" % b",".join(items), headers), len(items)


def _handling_fields(record: HandledRecord) -> list[object]:
    """Return the members of a handling as they are stored; those at the end that are None are left out."""
    event, node, handler, outcome, duration, error, attempts, _, waited = record[:9]
    item: list[object] = [
        event,
        node,
        handler[:MAX_HANDLER_NAME],
        outcome,
        _rounded(duration),
        error,
        attempts,
    ]
    item.append(None if waited is None else _rounded(waited))
    if record[9:] != _NOTHING_MORE:
        item += record[9:]
    while item[-1] is None:
        item.pop()
    return item


def _rounded(seconds: float) -> float:
    return int(seconds * 1e6 + 0.5) / 1e6  # in a third of the time of `round`


def _encode_handling(record: HandledRecord, limit: int) -> bytes:
    """Encode one handling; without its reply if that does not fit, and the text of its error is halved."""
    while True:
        item, error = _handling_fields(record), record.error
        try:
            text = orjson.dumps(item)
        except orjson.JSONEncodeError:  # half a character in the text of an error
            text = json.dumps(item).encode()
        if len(text) <= limit or not (record.reply or error):
            return text
        record = record._replace(reply=None, error=error and error[: len(error) // 2])


def encode_clear(
    subjects: Subjects,
    owners: Iterable[OwnerRecord],
    *,
    limit: int,
    id: str,
    expected: int,
    clock: str | None = None,
) -> Message:
    """Encode a clear, stored only if `expected` is still the newest one.

    It carries the owners on, of nodes that have one. If they take more than `limit` bytes, it carries no
    patterns; each owner stores its own again. `clock` is the time of a manual clock, which goes on.
    """
    owners = [owner for owner in owners if owner.incarnation is not None]
    for patterns in (True, False):
        body = json.dumps([_owner_fields(owner, patterns=patterns) for owner in owners]).encode()
        if len(body) <= limit:
            break
    headers = {ROLLUP: "all", EXPECTED: str(expected), CLEAR: id}
    return Message(subjects.clear, body, headers if clock is None else {**headers, CLOCK: clock})


def encode_barrier(subjects: Subjects) -> Message:
    """Encode a barrier; it replaces the one before, whose reader waits for this one instead."""
    return Message(subjects.sync, b"", {TTL: str(BARRIER_SECONDS), ROLLUP: "sub"})
