"""Read the journal for the pictures of a space: the timeline and the graph."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from happen_nb._api.history import Since, position_after
from happen_nb._api.node import Node
from happen_nb._api.views import unknown_node
from happen_nb._display.plots.happened import NOTEBOOK, Happened
from happen_nb._journal.slice import (
    commits_before,
    newest_headers,
    read_commits,
    read_handled,
    with_payloads,
)
from happen_nb._model.patterns import Pattern
from happen_nb._runtime.io import on_io, run_blocking

if TYPE_CHECKING:
    from happen_nb._api.space import Space
    from happen_nb._journal.slice import Position
    from happen_nb._model.causality import CommitPair
    from happen_nb._model.records import EventRecord, HandledRecord
    from happen_nb._runtime.session import Session


NOWHERE: Position = (0, 0)  # before all events and commits


async def read_journal(
    space: Space, pattern: Pattern, since: Since | None, limit: int, *, commits: bool
) -> Happened:
    """Read the newest events and commits, `limit` of both together, and how the events were handled."""
    session = space._session
    after = await position_after(session, since)
    await on_io(session.dispatch.flush())
    events = await newest_events(session, pattern, after, limit + 1)
    changes = await on_io(_changes(session, after[0], limit + 1)) if commits else []
    if pattern.text != "**":
        ids = {event.id for event in events}
        changes = [change for change in changes if change[0].origin.cause in ids]
    cut = _after_which(events, changes, limit)
    events = [event for event in events if event.position > cut]
    handled: Iterable[HandledRecord] = ()
    if events:
        handled = await on_io(read_handled(session.stream, since=events[0].sequence))
    return Happened(
        space.name,
        events,
        [change for change in changes if (change[0].sequence, -1) > cut],
        handled,
        sorted({*space.views, *session.dispatch.ownership.names()}),
        limit if cut > NOWHERE else None,
        partial(_whole, session),
    )


def checked_lanes(space: Space, nodes: Iterable[str | Node] | str | Node, found: Happened) -> list[str]:
    """Return the names of nodes; refuse unknown nodes and those of another space."""
    given: Iterable[Any] = [nodes] if isinstance(nodes, str | Node) else nodes
    names = [each if isinstance(each, str) else _name_here(each, space.name) for each in given]
    for name in names:
        _check_known(space, name, found)
    return names


def _name_here(node: Node, space: str) -> str:
    if node.space.name != space:
        raise ValueError(
            f'timeline: the node "{node.name}" belongs to the space "{node.space.name}", not to "{space}"'
        )
    return node.name


def _check_known(space: Space, name: str, found: Happened) -> None:
    known = {NOTEBOOK, *found.nodes, *(event.sender for event in found.events)}
    known |= {change[0].node for change in found.commits} | {record.node for record in found.handled}
    if name not in known:
        raise unknown_node(name, sorted(known), f'the timeline of "{space.name}"')


async def newest_events(
    session: Session, pattern: Pattern, since: tuple[int, int], limit: int
) -> list[EventRecord]:
    """Read the headers of the newest events of a pattern."""
    if pattern.predicate is None:
        reading = newest_headers(session.stream, pattern.matches, since=since, limit=limit)
        records: list[EventRecord] = await on_io(reading)
        return records
    reading = newest_headers(session.stream, lambda _: True, since=since, limit=sys.maxsize)  # all
    return matching_events(pattern, await on_io(reading))[-limit:]


def _whole(session: Session, events: Sequence[EventRecord]) -> Sequence[EventRecord]:
    async def read() -> Sequence[EventRecord]:
        whole: Sequence[EventRecord] = await on_io(with_payloads(session.stream, events))
        return whole

    return run_blocking(read())


async def _changes(session: Session, after: int, limit: int) -> list[CommitPair]:
    """Read the newest commits, each with its predecessor on the node."""
    records = await read_commits(session.stream, None, limit=limit, since=after)
    newest = await commits_before(session.stream, records)
    changes: list[CommitPair] = []
    for record in records:
        changes.append((record, newest.get(record.node)))
        newest[record.node] = record
    return changes


def _after_which(events: list[EventRecord], changes: list[CommitPair], limit: int) -> Position:
    """Return the position after which there are `limit` events and commits."""
    positions = [event.position for event in events] + [(record.sequence, -1) for record, _ in changes]
    return sorted(positions)[-limit - 1] if len(positions) > limit else NOWHERE


def matching_events(pattern: Pattern, records: Sequence[EventRecord]) -> list[EventRecord]:
    """Filter by a predicate. It is the user's code, which never runs on the IO thread."""
    matches = cache(pattern.matches)
    return [record for record in records if matches(record.type)]
