"""Storing scheduled events, and cancelling them. Everything here runs on the IO thread."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from happen_nb._journal.publish import RefusedError, Resend, store_messages
from happen_nb._journal.wire import Ended
from happen_nb._model.records import EventRecord
from happen_nb._runtime.io import seconds_left
from happen_nb._runtime.writer import check_same, find_stored, look_up
from happen_nb.errors import NotStoredError

if TYPE_CHECKING:
    from happen_nb._journal.wire import Message
    from happen_nb._model.schedules import Alarm
    from happen_nb._runtime.log import Log


STALE_SECONDS = 0.05
"""Pause until the server has removed an alarm that was stored once more after its delivery."""


async def store(log: Log, event: EventRecord, deadline: float) -> EventRecord:
    """Store a scheduled event; it takes the place of what is scheduled under its id.

    Returns
    -------
    EventRecord
        As it is stored; with another publish_id if the event with the caller's id was already delivered.

    Raises
    ------
    IdTakenError
        The event with the caller's id was already delivered with another content.
    RefusedError
        Another process schedules the ticks, too.
    """
    what, ttl = f'broadcast of "{event.type}"', log.info.event_ttl
    await log.mark_schedules()
    while (left := deadline - time.monotonic()) > 0:
        messages = log.alarms.messages(event, ttl=ttl)
        log.connection.check_size(messages, what)
        try:
            sequence = await _store(log, messages, left, what)
        except RefusedError as refusal:
            await _catch_up(log, refusal, deadline)
            alarm = log.alarms.get(event.alarm_id)
            if alarm is not None and alarm.name == event.alarm:  # its first sending, whose answer was lost
                return replace(event, sequence=alarm.sequence, time=log.stream.server_time())
            if alarm is not None:
                await look_up(log, [alarm])
            found = await find_stored(log, event)
            if event.tick is not None:
                if alarm is not None or (found is not None and found.sequence > _tick_before(event)):
                    raise
                await asyncio.sleep(STALE_SECONDS)
            elif found is not None:
                return check_same(event, found)
        else:
            await log.reach(sequence, deadline)
            return replace(event, sequence=sequence, time=log.stream.server_time())
    raise NotStoredError(f"{what}: timed out; nothing was stored")


def _tick_before(event: EventRecord) -> int:
    """Return the sequence of the tick before, which the name of an alarm ends with."""
    return int((event.alarm or "").rpartition(" ")[2])


async def _store(log: Log, messages: list[Message], seconds: float, what: str) -> int:
    resend = Resend(log.subjects, log.cleared, log.info.event_ttl)
    return int(await store_messages(log.connection, messages, timeout=seconds, what=what, resend=resend))


async def cancel(log: Log, id: str, deadline: float) -> bool:
    """Cancel what is scheduled under an id; False if there is nothing, or it is too late."""
    ttl = log.info.event_ttl
    while True:
        left = seconds_left(deadline)
        if log.alarms.get(id) is None:
            await log.fresh(left)  # another process may just have scheduled it
        alarm = log.alarms.get(id)
        if alarm is None:
            return False
        messages = log.alarms.cancel(alarm, ttl=ttl)
        try:
            sequence = await _store(log, messages, left, f'cancel of "{id}"')
        except RefusedError as refusal:
            await _catch_up(log, refusal, deadline)
            if refusal.resent and await _is_cancelled(log, alarm):
                return True
            await look_up(log, [alarm])
            if log.alarms.get(id) == alarm and await log.stream.newest(_subject(log, id)) is None:
                await log.start_afresh()  # it is gone, and no message says so
        else:
            await log.reach(sequence, deadline)
            return True


def _subject(log: Log, id: str) -> str:
    return log.subjects.alarm_prefix + id


async def _catch_up(log: Log, refusal: RefusedError, deadline: float) -> None:
    if refusal.newest > log.replica.position:
        await log.reach(refusal.newest, deadline)
    else:
        await log.fresh(seconds_left(deadline))


async def _is_cancelled(log: Log, alarm: Alarm) -> bool:
    """Return True if the cancel of an alarm came before its delivery."""
    for item in await log.stream.read(alarm.target):
        found = log.stream.decode(item)
        if isinstance(found, Ended | EventRecord) and found.alarm == alarm.name:
            return isinstance(found, Ended)
    return False
