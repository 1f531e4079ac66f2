"""Events that no handler took, and why not. On the IO thread."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from happen_nb._journal.slice import newest_headers, read_handled, with_payloads
from happen_nb._model.patterns import Pattern, nearest

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from happen_nb._model.records import EventRecord, OwnerRecord
    from happen_nb._runtime.session import Session

LOOKED_AT = 10_000
"""The newest events that are looked at."""
ANSWER = 1.0
"""Seconds for which another process may take to say what it has still to handle."""

NO_PATTERN, WHERE, NO_OWNER, OWNER_DIED = "no pattern", "where", "no owner", "owner died"


@dataclass(frozen=True, slots=True)
class NotHandled:
    """An event that nobody took: the reason, and the pattern that would nearly have taken it."""

    event: EventRecord
    reason: str
    nearest: str | None


async def find_unhandled(session: Session) -> list[NotHandled]:
    """The events that no handler took, oldest first; what is still to be handled is not among them."""
    dispatch = session.dispatch
    await dispatch.flush()
    events = await newest_headers(session.stream, lambda _: True, limit=LOOKED_AT)
    if not events:
        return []
    records = await read_handled(session.stream, since=events[0].sequence - 1)
    taken: set[str] = set()
    refused: set[str] = set()
    for record in records:
        (taken if record.accepted else refused).add(record.event)
    left = [event for event in events if event.id not in taken]
    still, alive, busy = await _still_open(session, [event.id for event in left])
    owners = [_as_of_now(session, owner) for owner in dispatch.owners.all() if owner.incarnation is not None]
    left = [event for event in left if event.id not in still and not _may_come(event, owners, busy)]
    left = await with_payloads(session.stream, left)
    patterns = sorted({pattern for owner in owners for pattern in owner.patterns})
    found = []
    for event in left:
        reason = WHERE if event.id in refused else _reason(event, owners, alive)
        near = nearest(event.type, patterns) if reason in (NO_PATTERN, NO_OWNER) else None
        found.append(NotHandled(event, reason, near))
    return found


def _as_of_now(session: Session, owner: OwnerRecord) -> OwnerRecord:
    """Of a node of ours, with the patterns of now: their record is stored a little later."""
    if owner.incarnation != session.incarnation:
        return owner
    return replace(owner, patterns=session.dispatch.patterns(owner.node))


async def _still_open(session: Session, ids: list[str]) -> tuple[set[str], set[str], set[str]]:
    """The events that are still to be handled, the processes that answer, and those that are too busy."""
    answers, busy = await session.ask_owners({"events": ids}, ANSWER)
    still = {*session.dispatch.open(ids), *(id for answer in answers for id in answer.get("open", ()))}
    return still, {session.incarnation, *(answer["by"] for answer in answers if "by" in answer)}, busy


def _may_come(event: EventRecord, owners: Iterable[OwnerRecord], busy: Container[str | None]) -> bool:
    """Return whether a process that is too busy to say what it has to do may still handle an event."""
    return any(
        owner.incarnation in busy and event.target in (None, owner.node) and owner.claimed < event.sequence
        for owner in owners
    )


def _reason(event: EventRecord, owners: Iterable[OwnerRecord], alive: Container[str | None]) -> str:
    concerned = [owner for owner in owners if event.target in (None, owner.node)]
    matching = [owner for owner in concerned if _matches(owner, event.type)]
    known = [owner for owner in concerned if owner.claimed < event.sequence]
    if any(owner.incarnation in alive for owner in known if owner in matching):
        return NO_PATTERN  # when its turn came, nothing was registered for it any more
    if any(owner.sequence < event.sequence or owner.takeover for owner in matching):
        return OWNER_DIED
    return NO_PATTERN if known else NO_OWNER


def _matches(owner: OwnerRecord, type: str) -> bool:
    return any(Pattern.of(pattern).matches(type) for pattern in owner.patterns)
