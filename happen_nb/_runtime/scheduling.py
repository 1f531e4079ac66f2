"""Storing scheduled events, and cancelling them. Everything here runs on the IO thread."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from happen_nb._journal.publish import RefusedError, store_messages
from happen_nb._journal.wire import Ended
from happen_nb._model.frozen import equal
from happen_nb._model.records import EventRecord
from happen_nb.errors import IdTakenError, NotStoredError

if TYPE_CHECKING:
    from happen_nb._model.schedules import Alarm
    from happen_nb._runtime.log import Log


async def store(log: Log, event: EventRecord, deadline: float) -> EventRecord:
    """Store an event that is scheduled, or that takes the place of a scheduled one.

    Returns
    -------
    EventRecord
        As it is stored; with another publish_id if the event with the caller's id was already delivered.

    Raises
    ------
    IdTakenError
        The event with the caller's id was already delivered with another content.
    """
    what = f'broadcast of "{event.type}"'
    if event.alarm is not None:
        await log.mark_schedules()
    ttl, key = log.info.event_ttl, event.alarm or event.id
    while (left := deadline - time.monotonic()) > 0:
        pending = log.expect(key)
        try:
            outcome = await store_messages(
                log.connection,
                log.alarms.messages(event, ttl=ttl),
                timeout=left,
                what=what,
                future=pending.future,
                resend=log.resend(ttl),
            )
            if not isinstance(outcome, EventRecord):
                await log.reach(outcome, deadline)
                outcome = pending.seen or replace(event, sequence=outcome, time=log.stream.server_time())
            return check_same(event, outcome)
        except RefusedError as refusal:
            await _catch_up(log, refusal, deadline)
            found = pending.seen or _own(log, event) or await log.find_stored(event)
            if found is not None and (event.tick is None or found.alarm == event.alarm):
                return check_same(event, found)
            if event.tick is not None:
                raise  # another process schedules the ticks, too
        finally:
            log.forget(key, pending)
    raise NotStoredError(f"{what}: timed out; nothing was stored")


async def cancel(log: Log, id: str, deadline: float) -> bool:
    """Cancel what is scheduled under an id; False if there is nothing, or it is too late."""
    ttl = log.info.event_ttl
    while True:
        left = max(0.001, deadline - time.monotonic())
        if log.alarms.get(id) is None:
            await log.fresh(left)  # another process may just have scheduled it
        alarm = log.alarms.get(id)
        if alarm is None:
            return False
        message = log.alarms.cancel(alarm, ttl=ttl)
        try:
            sequence = await store_messages(
                log.connection, [message], timeout=left, what=f'cancel of "{id}"', resend=log.resend(ttl)
            )
        except RefusedError as refusal:
            await _catch_up(log, refusal, deadline)
            if refusal.resent and await _is_cancelled(log, alarm):
                return True
            if log.alarms.get(id) == alarm:
                await log.start_afresh()  # it is gone, and no message says so
        else:
            await log.reach(sequence, deadline)
            return True


async def _catch_up(log: Log, refusal: RefusedError, deadline: float) -> None:
    if refusal.newest > log.replica.position:
        await log.reach(refusal.newest, deadline)
    else:
        await log.fresh(max(0.001, deadline - time.monotonic()))


def _own(log: Log, event: EventRecord) -> EventRecord | None:
    """Return the event if its first sending, whose answer was lost, has scheduled it."""
    alarm = None if event.alarm is None else log.alarms.get(event.alarm.partition(" ")[0])
    if alarm is None or alarm.name != event.alarm:
        return None
    return replace(event, sequence=alarm.sequence, time=log.stream.server_time())


async def _is_cancelled(log: Log, alarm: Alarm) -> bool:
    """Return True if the cancel of an alarm came before its delivery."""
    for item in await log.stream.read(alarm.target):
        found = log.stream.decode(item)
        if isinstance(found, Ended | EventRecord) and found.alarm == alarm.name:
            return isinstance(found, Ended)
    return False


def check_same(event: EventRecord, stored: EventRecord) -> EventRecord:
    """Return what is stored under the id of an event, if it is the same event.

    Raises
    ------
    IdTakenError
        Its type, payload or target is another.
    """
    if stored.publish_id != event.publish_id:
        content = (stored.type, stored.target) == (event.type, event.target)
        if not content or not equal(stored.payload, event.payload):
            raise IdTakenError(
                f'broadcast: the id "{event.id}" is taken by an event "{stored.type}" of "{stored.sender}" '
                "with another content; an id belongs to one type, payload and target"
            )
    return stored
