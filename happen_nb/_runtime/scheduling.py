"""Storing scheduled events, and cancelling them. Everything here runs on the IO thread."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from happen_nb._journal.outbox import PendingWrite
from happen_nb._journal.publish import RefusedError, Resend, lost_before_clear, part_of, store_messages
from happen_nb._journal.scheduled import Ended
from happen_nb._model.records import NO_ORIGIN, EventRecord, Origin
from happen_nb._runtime.waiting import seconds_left
from happen_nb._runtime.writer import check_same, find_stored, look_up
from happen_nb.errors import NotStoredError, OutcomeUnknownError

if TYPE_CHECKING:
    from happen_nb._journal.wire import Message
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.stored_steps import DurableStep


async def store(
    log: Log, event: EventRecord, deadline: float, step: DurableStep | None = None
) -> EventRecord:
    """Store a scheduled event, in the step of a durable handler if one is given.

    It replaces the event scheduled under its id. Returns the event as stored, with another publish_id if the
    event with the caller's id was already delivered, or if another process has scheduled it in the same step.
    Raises IdTakenError if the event with the caller's id was already delivered with different content.
    """
    what = f'broadcast of "{event.type}"'
    with part_of(what, OutcomeUnknownError):
        return await _store_event(log, event, deadline, step, what)


async def _store_event(
    log: Log, event: EventRecord, deadline: float, step: DurableStep | None, what: str
) -> EventRecord:
    await log.mark_schedules()
    ttl, left = log.info.event_ttl, 0
    while time.monotonic() < deadline:
        # Another process that runs the handler, too, may have scheduled it meanwhile, and cancelled it.
        if step is not None and step.is_done:
            return replace(event, publish_id=None)
        pending = log.alarms.get(event.alarm_id)
        if event.tick is not None and pending is not None:  # sent twice at once, or by another process
            return _as_stored(log, event, pending.sequence)
        messages, generation = log.alarms.messages(event, ttl=ttl, left=left), log.generation()
        log.connection.check_size(messages, what)
        try:
            sequence = await _store(log, messages, deadline, what, event)
        except RefusedError as refusal:
            await _catch_up(log, refusal, deadline)
            stored = await _stored_already(log, event, resent=refusal.resent)
            if stored is not None:
                return stored
            if refusal.resent and generation != log.generation():
                raise lost_before_clear(what) from None
            left = await _left_over(log, event.alarm_id, deadline)
        else:
            await log.reach(sequence, deadline)
            return _as_stored(log, event, sequence)
    raise NotStoredError(f"{what}: timed out; nothing was stored")


def _as_stored(log: Log, event: EventRecord, sequence: int) -> EventRecord:
    return event.as_stored(sequence, log.stream.server_time())


async def _stored_already(log: Log, event: EventRecord, *, resent: bool) -> EventRecord | None:
    """Return the event stored in place of a refused one; None if that may be sent again."""
    alarm = log.alarms.get(event.alarm_id)
    if alarm is not None and alarm.name == event.alarm:  # its first sending, whose answer was lost
        return _as_stored(log, event, alarm.sequence)
    if resent and event.tick is None:
        end = await _end(log, log.subjects.event(event), event.alarm)
        if end is not None:  # of its first sending; what comes of it is after its position all the same
            return _as_stored(log, event, end.sequence - 1)
    if alarm is not None:
        await look_up(log, [alarm])
    found = await find_stored(log, event)
    if event.tick is None:
        return None if found is None else check_same(event, found)
    if alarm is not None or (found is not None and found.sequence > _tick_before(event)):
        return event  # another process schedules the ticks, too
    return None


async def _left_over(log: Log, id: str, deadline: float) -> int:
    """Return the sequence of an alarm that does not count, since it was stored again after its end; or 0."""
    newest = await log.stream.newest(log.subjects.alarm_prefix + id)
    if newest is None:
        return 0
    await log.reach(newest.sequence, deadline)
    return newest.sequence if log.alarms.get(id) is None else 0


def _tick_before(event: EventRecord) -> int:
    """Return the sequence of the tick before, which the name of an alarm ends with."""
    return int((event.alarm or "").rpartition(" ")[2])


async def _store(
    log: Log, messages: list[Message], deadline: float, what: str, event: EventRecord | None = None
) -> int:
    if len(messages) == 1 and event is not None and event.alarm is not None:
        target = log.subjects.event(event) if event.tick is None else None  # ticks share theirs
        return await store_alone(log, event.alarm, messages[0], deadline, what, target=target)
    resend = Resend(log.subjects, log.cleared, log.info.event_ttl)
    left = seconds_left(deadline)
    return int(await store_messages(log.connection, messages, timeout=left, what=what, resend=resend))


async def store_alone(
    log: Log,
    id: str,
    message: Message,
    deadline: float,
    what: str,
    *,
    rivals: str | None = None,
    target: str | None = None,
) -> int:
    """Store a message that the follower recognizes by an id; return its sequence.

    Messages of the same turn of the loop are sent at once, and the server's answers are not waited for.
    `rivals` is the subject of the message if any other message on it, stored first, refuses this one;
    `target` is that of `Resend`. Raises RefusedError if its expectation did not hold.
    """
    write: PendingWrite[Any] = PendingWrite(log.outbox, id, [message], what, deadline, subject=rivals)
    decided = asyncio.Event()
    try:
        write.send(lambda _: decided.set())
        await decided.wait()
        if write.error is not None:
            raise write.error
        if write.refused:
            raise RefusedError(log.replica.position, resent=False)
        stored = write.seen
        if stored is None:
            stored = await store_messages(
                log.connection,
                [message],
                timeout=seconds_left(deadline),
                what=what,
                future=write.to_resolve(),
                resend=Resend(log.subjects, write.cleared, log.info.event_ttl, target),
                sent_at=write.sent_at,
                unbroken=write.unbroken,
            )
        return stored if isinstance(stored, int) else int(stored.sequence)
    finally:
        log.outbox.forget(write)


async def cancel(
    log: Log,
    id: str,
    deadline: float,
    step: DurableStep | None = None,
    *,
    origin: Origin = NO_ORIGIN,
    goes_on: bool = False,
) -> int | None:
    """Cancel the event scheduled under an id, in the step of a durable handler if one is given.

    The handlers of a tick end in every process, unless it `goes_on`.

    Returns None if it is cancelled. If nothing is scheduled, or it is too late, returns the position of the
    journal at which that was the case; also if another process has done the step, so that the event scheduled
    now came later.
    """
    what = f'cancel of "{id}"'
    with part_of(what, OutcomeUnknownError):
        return await _cancel(log, id, deadline, step, what, origin, goes_on=goes_on)


async def _cancel(
    log: Log, id: str, deadline: float, step: DurableStep | None, what: str, origin: Origin, *, goes_on: bool
) -> int | None:
    ttl, key = log.info.event_ttl, None if step is None else step.key
    while step is None or not step.is_done:
        if log.alarms.get(id) is None:
            await log.fresh(seconds_left(deadline))  # another process may just have scheduled it
        alarm = log.alarms.get(id)
        if alarm is None:
            break
        messages = log.alarms.cancel(alarm, ttl=ttl, origin=origin, key=key, goes_on=goes_on)
        try:
            sequence = await _store(log, messages, deadline, what)
        except RefusedError as refusal:
            await _catch_up(log, refusal, deadline)
            if refusal.resent and isinstance(await _end(log, alarm.target, alarm.name), Ended):
                return None
            await look_up(log, [alarm])
        else:
            await log.reach(sequence, deadline)
            return None
    return log.replica.position


async def _catch_up(log: Log, refusal: RefusedError, deadline: float) -> None:
    if refusal.newest > log.replica.position:
        await log.reach(refusal.newest, deadline)
    else:
        await log.fresh(seconds_left(deadline))


async def _end(log: Log, target: str, name: str | None) -> EventRecord | Ended | None:
    """Return what ended an alarm: its delivery or its cancel, whichever came first."""
    for item in await log.stream.read(target):
        found = log.stream.decode(item)
        if isinstance(found, Ended | EventRecord) and found.alarm == name:
            return found
    return None
