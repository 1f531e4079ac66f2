"""Read the journal for the pictures of a space: the timeline and the graph."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from happen_nb._api.history import Since, position_after
from happen_nb._api.node import Node
from happen_nb._api.views import unknown_node
from happen_nb._journal.slice import (
    Entry,
    Handlings,
    Slice,
    applied_at,
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
    from happen_nb._journal.stream import Stream
    from happen_nb._model.positions import Position
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.runtime import Runtime


class JournalReader:
    """Reads the part of a journal that a picture shows, and then again and again what is new.

    Parameters
    ----------
    runtime : Runtime
    nodes : callable
        Returns the names of the current nodes.
    pattern : Pattern
        The events to read; with a pattern, only the commits that these events caused.
    since : Event, Commit, datetime or int, optional
        Read only later events and commits.
    limit : int
        Events and commits together, the newest.
    commits : bool
        Read commits too.
    states : bool, optional
        Read their states too; without, ``whole_commit`` of the `JournalSlice` reads that of one commit.
    """

    def __init__(
        self,
        runtime: Runtime,
        nodes: Callable[[], Iterable[str]],
        pattern: Pattern,
        since: Since | None,
        limit: int,
        *,
        commits: bool,
        states: bool = False,
    ) -> None:
        self._runtime, self._nodes, self._commits, self._states = runtime, nodes, commits, states
        self._pattern, self._since, self._limit = pattern, since, limit
        self._cleared = 0
        self.last = 0
        """The sequence up to which everything was read."""
        self.slice = JournalSlice(runtime.space)
        """The records that were read so far."""

    def read(self) -> JournalSlice:
        """Read everything."""
        return run_blocking(self.aread())

    async def aread(self) -> JournalSlice:
        """Read everything."""
        log = self._runtime.log
        self._cleared = log.cleared
        after = await position_after(log, self._since)
        await on_io(self._runtime.dispatcher.flush())
        self.slice = await self._read_after(after, JournalSlice(self._runtime.space))
        return self.slice

    def add_new(self) -> JournalSlice:
        """Read what was stored since the last time, or everything if the space was cleared."""
        if self._runtime.log.cleared != self._cleared:
            self._since = None  # it is gone
            return self.read()
        self.slice = run_blocking(self._read_new())
        return self.slice

    async def _read_new(self) -> JournalSlice:
        return await self._read_after((self.last, sys.maxsize), self.slice)

    async def _read_after(self, after: Position, before: JournalSlice) -> JournalSlice:
        """Return a part of the journal with what was stored after a position."""
        stream = self._runtime.log.stream
        found = await on_io(self._newest(stream, after))
        events = self._matching(found.events)
        ids = {event.id for event in events}
        ids |= before.by_id.keys()
        entries: list[Entry] = [each for each in found.commits if self._reads_all or each.origin.cause in ids]
        entries = sorted([*entries, *events], key=entry_position)
        known = len(before.events) + len(before.commits)
        new = entries[-self._limit :]
        old_handled = before.handled.items if isinstance(before.handled, Handlings) else ()
        start = after[0] + 1 if old_handled or known else new[0].sequence if new else found.last + 1
        changes: list[CommitPair]
        handled: Handlings
        changes, handled = await on_io(read_changes(stream, found, start, states=self._states))
        self.last = max(found.last, after[0])
        sequences = {entry.sequence for entry in new if isinstance(entry, CommitRecord)}
        pairs = [change for change in changes if change[0].sequence in sequences]
        events = [entry for entry in new if isinstance(entry, EventRecord)]
        kept_events, kept_pairs = self._newest_of([*before.events, *events], [*before.commits, *pairs])
        is_cut = known + len(entries) > self._limit or before.newest is not None
        return JournalSlice(
            self._runtime.space,
            kept_events,
            kept_pairs,
            Handlings([*old_handled[-4 * self._limit :], *handled.items]),
            sorted({*self._nodes(), *self._runtime.ownership.names()}),
            self._limit if is_cut else None,
            partial(_whole, self._runtime.log),
            partial(_whole_commit, self._runtime.log),
        )

    @property
    def _reads_all(self) -> bool:
        return self._pattern.text == "**"

    async def _newest(self, stream: Stream, after: Position) -> Slice:
        asked = self._pattern.predicate is not None
        matches = (lambda _: True) if asked else cache(self._pattern.matches)

        def keep(entry: Entry) -> bool:
            return self._commits if isinstance(entry, CommitRecord) else bool(matches(entry.type))

        return await newest_slice(
            stream,
            keep,
            since=after,
            limit=sys.maxsize if asked else self._limit + 1,
            counts=lambda entry: self._reads_all or isinstance(entry, EventRecord),
        )

    def _matching(self, events: Sequence[EventRecord]) -> Sequence[EventRecord]:
        is_asked = self._pattern.predicate is not None
        return matching_events(self._pattern, events) if is_asked else events

    def _newest_of(
        self, events: Sequence[EventRecord], pairs: Sequence[CommitPair]
    ) -> tuple[Sequence[EventRecord], Sequence[CommitPair]]:
        """Leave out the oldest beyond the limit."""
        if len(events) + len(pairs) <= self._limit:
            return events, pairs
        positions = sorted([*(each.position for each in events), *((pair[0].sequence, -1) for pair in pairs)])
        first = positions[-self._limit]
        return (
            [each for each in events if each.position >= first],
            [pair for pair in pairs if (pair[0].sequence, -1) >= first],
        )


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
    reader = JournalReader(runtime, lambda: nodes, pattern, since, limit, commits=commits, states=commits)
    return await reader.aread()


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


def _whole_commit(log: Log, pair: CommitPair) -> CommitPair | None:
    async def read() -> CommitPair | None:
        whole: CommitPair | None = await on_io(applied_at(log.stream, pair[0].sequence))
        return whole

    return run_blocking(read())


def matching_events(pattern: Pattern, records: Sequence[EventRecord]) -> list[EventRecord]:
    """Filter by a predicate. It is the user's code, which never runs on the IO thread."""
    matches = cache(pattern.matches)
    return [record for record in records if matches(record.type)]
