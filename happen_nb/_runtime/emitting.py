"""Storing events, each once, also where a caller gave the id. Everything here runs on the IO thread."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from happen_nb._journal import wire
from happen_nb._journal.publish import RefusedError, store_messages
from happen_nb._model.frozen import equal
from happen_nb._model.records import EventRecord
from happen_nb.errors import IdTakenError, NotStoredError, OutcomeUnknownError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from happen_nb._runtime.feed import Awaited
    from happen_nb._runtime.replica import Applied
    from happen_nb._runtime.session import Change, Session


async def publish(session: Session, event: EventRecord, deadline: float) -> EventRecord:
    """Store an event, and wait until this process sees it.

    Returns
    -------
    EventRecord
        As it is stored; with another nonce if the caller's id was there already.

    Raises
    ------
    IdTakenError
        The caller's id was there with another content.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise NotStoredError(f'broadcast of "{event.type}": the time was up; nothing was stored')
    what = f'broadcast of "{event.type}"'
    ttl = session.info.event_ttl
    message = wire.encode_event(session.subjects, event, ttl=ttl)
    seen = session.feed.expect(event.id)
    before = session.uncertain()
    try:
        outcome: Any = await store_messages(
            session.connection,
            [message],
            timeout=left,
            what=what,
            future=seen.future,
            resend=session.resend(ttl),
        )
        if not isinstance(outcome, EventRecord):
            await session.reach(outcome, deadline)
            outcome = await _followed(session, event, seen, outcome)
    except RefusedError as refusal:  # it is stored: by an earlier sending of ours, or under the caller's id
        await session.reach(refusal.newest, deadline)
        there = seen.record or await stored(session, event)
        if there is None and before != session.uncertain():
            if not refusal.resent:
                return await publish(session, event, deadline)  # what had the id is gone
            raise OutcomeUnknownError(
                f"{what}: the answer was lost and the space was emptied or purged meanwhile; if the event "
                "was stored before that, it is gone"
            ) from None
        outcome = there or await _followed(session, event, seen, refusal.newest)
    finally:
        session.feed.forget(event.id, seen)
    return same(event, outcome)


async def commit(
    session: Session, change: Change, deadline: float, known: dict[str, EventRecord]
) -> tuple[Applied, dict[str, EventRecord]] | None:
    """Commit a change that emits; None if something else was stored first.

    Parameters
    ----------
    known : dict of str to EventRecord
        Of the events with ids of the caller's those that were there already; they are not stored again.
        Filled here.

    Returns
    -------
    Applied and dict of str to EventRecord
        The commit, and its events by their ids, as they are stored.
    """
    fresh = tuple(event for event in change.events if event.id not in known)
    seen = {event.id: session.feed.expect(event.id) for event in fresh}
    try:
        applied = await session.commit(replace(change, events=fresh), deadline)
        if applied is None:
            await _look_up(session, fresh, known)
            return None
        for awaited in seen.values():
            if awaited.record is None:  # it has a message of its own, which is about to come by
                await asyncio.wait([awaited.future], timeout=max(0.001, deadline - time.monotonic()))
        return applied, {**known, **{id: each.record for id, each in seen.items() if each.record is not None}}
    finally:
        for id, awaited in seen.items():
            session.feed.forget(id, awaited)


async def _look_up(session: Session, events: Iterable[EventRecord], known: dict[str, EventRecord]) -> None:
    for event in events:
        there = await stored(session, event) if event.has_caller_id else None
        if there is not None:
            known[event.id] = same(event, there)


async def _followed(session: Session, event: EventRecord, seen: Awaited, sequence: int) -> EventRecord:
    """The stored event: as it came by, or as it is read where it came by long ago."""
    if seen.record is not None:
        return seen.record
    return await stored(session, event) or EventRecord(
        event.id, event.type, event.sender, event.payload, publish_id=event.publish_id, sequence=sequence
    )


async def stored(session: Session, event: EventRecord) -> EventRecord | None:
    """The event that is stored under the same subject, if there is one."""
    # By the leader: one that was replaced may miss it, and then the server refuses the event once more.
    found = await session.stream.get({"last_by_subj": session.subjects.event(event)})
    record = None if found is None else session.stream.decode(found)
    return record if isinstance(record, EventRecord) else None


def same(event: EventRecord, there: EventRecord) -> EventRecord:
    """What is stored under the id of an event, if it is the same.

    Raises
    ------
    IdTakenError
        Its type, payload or target is another.
    """
    if there.publish_id != event.publish_id:
        content = (there.type, there.target) == (event.type, event.target)
        if not content or not equal(there.payload, event.payload):
            raise IdTakenError(
                f'broadcast: the id "{event.id}" is taken by an event "{there.type}" of "{there.sender}" '
                "with another content; an id belongs to one type, payload and target"
            )
    return there
