"""Read the journal for the pictures of a space: the timeline and the graph."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from happen_nb._api.history import Since, position_after
from happen_nb._api.node import Node
from happen_nb._api.views import unknown_node
from happen_nb._journal.slice import (
    Entry,
    Handlings,
    entry_position,
    newest_slice,
    read_changes,
    with_payloads,
)
from happen_nb._model.causality import NOTEBOOK, CommitPair, JournalSlice
from happen_nb._model.patterns import Pattern
from happen_nb._model.records import CommitRecord, EventRecord
from happen_nb._runtime.io import on_io, run_blocking

if TYPE_CHECKING:
    from happen_nb._api.space import Space
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.runtime import Runtime


async def read_journal(
    runtime: Runtime,
    nodes: Iterable[str],
    pattern: Pattern,
    since: Since | None,
    limit: int,
    *,
    commits: bool,
) -> JournalSlice:
    """Read the newest events and commits, `limit` of both together, and how the events were handled."""
    log = runtime.log
    after = await position_after(log, since)
    await on_io(runtime.dispatcher.flush())
    every, asked = pattern.text == "**", pattern.predicate is not None
    matches = (lambda _: True) if asked else cache(pattern.matches)

    def keep(entry: Entry) -> bool:
        return commits if isinstance(entry, CommitRecord) else bool(matches(entry.type))

    found = await on_io(
        newest_slice(
            log.stream,
            keep,
            since=after,
            limit=sys.maxsize if asked else limit + 1,
            counts=lambda entry: every or isinstance(entry, EventRecord),
        )
    )
    events = matching_events(pattern, found.events) if asked else found.events
    ids = {event.id for event in events}
    entries: list[Entry] = [each for each in found.commits if every or each.origin.cause in ids]
    entries = sorted([*entries, *events], key=entry_position)
    shown = entries[-limit:]
    start = shown[0].sequence if shown else found.last + 1
    changes: list[CommitPair]
    handled: Handlings
    changes, handled = await on_io(read_changes(log.stream, found, start, states=commits))
    sequences = {entry.sequence for entry in shown if isinstance(entry, CommitRecord)}
    return JournalSlice(
        runtime.space,
        [entry for entry in shown if isinstance(entry, EventRecord)],
        [change for change in changes if change[0].sequence in sequences],
        handled,
        sorted({*nodes, *runtime.ownership.names()}),
        limit if len(entries) > limit else None,
        partial(_whole, log),
    )


def checked_lanes(space: Space, nodes: Iterable[str | Node] | str | Node, found: JournalSlice) -> list[str]:
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


def _check_known(space: Space, name: str, found: JournalSlice) -> None:
    known = {NOTEBOOK, *found.nodes, *(event.sender for event in found.events)}
    known |= {change[0].node for change in found.commits} | {record.node for record in found.handled}
    if name not in known:
        raise unknown_node(name, sorted(known), f'the timeline of "{space.name}"')


def _whole(log: Log, events: Sequence[EventRecord]) -> Sequence[EventRecord]:
    async def read() -> Sequence[EventRecord]:
        whole: Sequence[EventRecord] = await on_io(with_payloads(log.stream, events))
        return whole

    return run_blocking(read())


def matching_events(pattern: Pattern, records: Sequence[EventRecord]) -> list[EventRecord]:
    """Filter by a predicate. It is the user's code, which never runs on the IO thread."""
    matches = cache(pattern.matches)
    return [record for record in records if matches(record.type)]


def show_arrows() -> None:
    """Show the arrows of the mark under the pointer, in the figures below the current cell."""
    from happen_nb._widgets import panes

    panes.show_arrows()
