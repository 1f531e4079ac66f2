"""The pictures of what happened in a space: timeline, graph and sequence diagram."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from happen_nb._api.base import SpacePart, faces, unknown_node, wait_on_io
from happen_nb._api.diagrams import SequenceDiagram
from happen_nb._api.events import Event, Trace
from happen_nb._api.history import Since, position_after
from happen_nb._api.node import Node
from happen_nb._api.plotting import name_here
from happen_nb._api.reading import matching_events
from happen_nb._api.schedule import read_next
from happen_nb._journal.commits import applied_at
from happen_nb._journal.slice import Entry, Handlings, Slice, newest_slice, read_changes, with_payloads
from happen_nb._model import arguments
from happen_nb._model.arguments import nanoseconds
from happen_nb._model.patterns import Pattern
from happen_nb._model.quoting import quote
from happen_nb._model.records import CommitRecord, EventRecord
from happen_nb._runtime.effects import Effects, read_effects
from happen_nb._runtime.io import on_io, run_blocking

if TYPE_CHECKING:
    from happen_nb._api.space import Space
    from happen_nb._journal.stream import Stream
    from happen_nb._model.causality import CommitPair, JournalSlice, TimeBase
    from happen_nb._model.positions import Position
    from happen_nb._runtime.runtime import Runtime
    from happen_nb._widgets.live_pictures import LiveGraph, LiveTimeline

MAX_SEQUENCE_RECORDS: Final = 10_000
"""Events and commits among which a sequence diagram looks for the newest causal chains."""
MAX_DRAWN_SCHEDULED: Final = 200  # scheduled events that a timeline draws, those that are due next


class SpacePictures(SpacePart):
    """The part of a space that draws what happened."""

    def timeline(
        self,
        pattern: str | Callable[[str], object] = "**",
        *,
        nodes: Iterable[str | Node] | str | Node | None = None,
        since: Since | None = None,
        limit: int = 2000,
        by: TimeBase = "time",
    ) -> LiveTimeline:
        """Draw what happened on each node and when: a lane for each node, time from left to right.

        A dot is an event, a bar a handling, a thin line the time that its event waited, a square a commit,
        and a cross a failure; long idle times are left out. To the right of now, scheduled events and the
        next tick of each ``every`` are drawn in outline until they are delivered. If there are many nodes
        whose names differ in a number, they share a lane; press its name to open it. In a notebook, the
        picture follows the space. Point at a mark to see its type; press it to see its causes and effects,
        the payload or the changes, the trace and the handler. Drag to select a time, see totals for it, and
        zoom in. Without the kernel, as in a saved notebook, there is a static image. On a manual clock, the
        labels show the time of the space, and the distances how long everything really took.

        Parameters
        ----------
        pattern : str or callable, optional
            The events to draw, as for ``node.on``. With a pattern, only the commits that these events caused
            are drawn.
        nodes : names or nodes, optional
            The lanes, from top to bottom; ``"notebook"`` is the person at the notebook.
        since : Event, Commit, datetime or int, optional
            Draw only later events and commits; an int is a sequence.
        limit : int, optional
            Maximum number of events and commits to draw, the newest.
        by : "time" or "occurred"
            Place the marks by the time of storage, or by the event time.

        Returns
        -------
        LiveTimeline
            An ipywidget, with the picture as ``svg``.

        Raises
        ------
        UnknownNodeError
            A node has never emitted or committed anything.

        Examples
        --------
        >>> event = orders.broadcast("order.paid")
        >>> commit = orders.state.set({"paid": 1})
        >>> space.timeline()
        Timeline of ... · 1 event · 1 commit
          orders  1 event · 1 commit
        """
        from happen_nb._widgets.live_pictures import LiveTimeline

        if not isinstance(by, str) or by not in ("time", "occurred"):
            raise ValueError(f'timeline: by is {quote(by)}; pass "time" or "occurred"')
        limit = arguments.count(limit, "timeline: limit", least=1)
        space = self._space
        reader = self._reader(pattern, since, limit, commits=True)
        found = reader.read()
        return LiveTimeline(space, reader, None if nodes is None else checked_lanes(space, nodes, found), by)

    def graph(
        self,
        pattern: str | Callable[[str], object] = "**",
        *,
        since: Since | None = None,
        limit: int = 10_000,
    ) -> LiveGraph:
        """Draw the flow of events: an arrow from each sender to each node that handled its events.

        The arrows show the types of the events and their counts. In a notebook, the picture follows the
        space: a dot moves along an arrow for each event. If there are many nodes whose names differ in a
        number, such as ``p1`` to ``p160``, they are drawn as one; press it to open it. Without the kernel, as
        in a saved notebook, there is a static image.

        Parameters
        ----------
        pattern : str or callable, optional
            The events to count, as for ``node.on``.
        since : Event, Commit, datetime or int, optional
            Count only later events; an int is a sequence.
        limit : int, optional
            Maximum number of events to count, the newest.

        Returns
        -------
        LiveGraph
            An ipywidget, with the picture as ``svg``.

        Examples
        --------
        >>> counting = inventory.on("order.*", lambda event: None)
        >>> trace = orders.broadcast("order.paid").settle()
        >>> space.graph()
        Graph of ... · 1 event handled
          orders → inventory  order.paid
        """
        from happen_nb._widgets.live_pictures import LiveGraph

        limit = arguments.count(limit, "graph: limit", least=1)
        reader = self._reader(pattern, since, limit, commits=False)
        reader.read()
        return LiveGraph(self._space, reader)

    async def _sequence(
        self,
        event: Event | Trace | str | None = None,
        *,
        since: Since | None = None,
        limit: int = 10,
        times: bool = True,
        merge: bool = True,
        width: int | None = None,
    ) -> SequenceDiagram:
        """Draw a sequence diagram: a lane per node, with messages, replies, and the changes of commits.

        If there are more than 20 nodes, those that send nothing share a lane.

        Parameters
        ----------
        event : Event, Trace or str, optional
            The event whose effects to draw, or its id. Without it, the newest causal chains.
        since : Event, Commit, datetime or int, optional
            Draw only causal chains that started later; an int is a sequence.
        limit : int, optional
            Maximum number of causal chains to draw, the newest.
        times : bool, optional
            Show the time since the start of the chain at each row.
        merge : bool, optional
            Show branches that differ only in their values once, with their number.
        width : int, optional
            Width in pixels, if the lanes fit into it. By default, the picture fits narrow and wide pages.

        Returns
        -------
        SequenceDiagram
            ``.svg`` is the picture, ``.mermaid`` the same as text.

        Examples
        --------
        >>> counting = inventory.on("order.*", lambda event: inventory.state.set({"sold": 1}))
        >>> trace = orders.broadcast("order.paid").settle()
        >>> print(space.sequence())
        Sequence of ... · 1 message · 1 commit
        orders → inventory  order.paid
        inventory           + sold  1
        """
        if event is not None:
            found = event if isinstance(event, Trace) else await self._space._trace_for("sequence", event)
            return found.sequence(times=times, merge=merge, width=width)
        limit = arguments.count(limit, "sequence: limit", least=1)
        journal = await read_journal(self._runtime, since, MAX_SEQUENCE_RECORDS)
        events = [each for each in journal.events if each.cause is None]
        commits = [pair for pair in journal.commits if pair[0].origin.cause is None]
        positions = sorted([each.sequence for each in events] + [pair[0].sequence for pair in commits])
        first = positions[-limit] if len(positions) > limit else 0
        events = [each for each in events if each.sequence >= first]
        commits = [pair for pair in commits if pair[0].sequence >= first]
        trees = []
        if events or commits:
            events = await on_io(with_payloads(self._log.stream, events))
            trees = await on_io(read_effects(self._runtime.checked, Effects(events, commits)))
        return SequenceDiagram(self.name, trees, times=times, merge=merge, width=width)

    sequence, asequence = faces(_sequence)

    def _reader(
        self, pattern: str | Callable[[str], object], since: Since | None, limit: int, *, commits: bool
    ) -> JournalReader:
        matching = Pattern.of(pattern)
        return JournalReader(self._runtime, lambda: list(self.views), matching, since, limit, commits=commits)


class JournalReader:
    """Reads the part of a journal that a picture shows, and then repeatedly the new records.

    `nodes` returns the names of the current nodes. The newest `limit` events and commits after `since` are
    read, of a `pattern` only the events that match, and the commits that they caused. With `commits`, commits
    are read too, and the next scheduled events or, with `states`, the states of the commits; without them,
    ``whole_commit`` of the `JournalSlice` reads that of one commit.
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
        self._reads_all = pattern.text == "**"
        self._cleared = 0
        self.last = 0  # the sequence up to which everything was read
        self.slice = self._nothing()  # the records that were read so far

    def read(self) -> JournalSlice:
        """Read everything."""
        return run_blocking(self.aread())

    async def aread(self) -> JournalSlice:
        """Read everything."""
        log = self._runtime.log
        self._cleared = log.cleared
        after = await position_after(log, self._since)
        await on_io(self._runtime.dispatcher.handled.flush())
        self.slice = await self._read_after(after, self._nothing())
        return self.slice

    def add_new(self) -> JournalSlice:
        """Read what was stored since the last time, or everything if the space was cleared."""
        if self._runtime.log.cleared != self._cleared:
            self._since = None  # it is gone
            return self.read()
        self.slice = run_blocking(self._read_after((self.last, sys.maxsize), self.slice))
        return self.slice

    def _nothing(self) -> JournalSlice:
        """Return a part of the journal without records."""
        from happen_nb._model.causality import JournalSlice

        return JournalSlice(self._runtime.space)

    async def _read_after(self, after: Position, before: JournalSlice) -> JournalSlice:
        """Return a part of the journal with what was stored after a position."""
        from happen_nb._model.causality import JournalSlice

        stream = self._runtime.log.stream
        found = await on_io(self._newest(stream, after))
        entries = self._matching(found, before)
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
        events = [entry for entry in new if not isinstance(entry, CommitRecord)]
        scheduled, to_come = await self._read_scheduled(before.scheduled, found.last)
        clock = await self._runtime.clock.moves(self.last)
        kept_events, kept_pairs = self._newest_of([*before.events, *events], [*before.commits, *pairs])
        is_cut = known + len(entries) > self._limit or before.newest is not None
        return JournalSlice(
            self._runtime.space,
            kept_events,
            kept_pairs,
            Handlings([*old_handled[-4 * self._limit :], *handled.items]),
            sorted({*self._nodes(), *self._runtime.ownership.names()}),
            self._limit if is_cut else None,
            scheduled,
            to_come,
            nanoseconds(self._runtime.clock.now()),
            clock,
            self._runtime.colours(),
            self._pattern.text,
            lambda events: wait_on_io(with_payloads(stream, events)),
            lambda pair: wait_on_io(applied_at(stream, pair[0].sequence)),
        )

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
            counts=None if self._reads_all else lambda entry: isinstance(entry, EventRecord),
        )

    async def _read_scheduled(
        self, known: Sequence[EventRecord], position: int
    ) -> tuple[list[EventRecord], int]:
        """Return the next scheduled events that match, and the number of all."""
        if self._states or not self._commits:
            return [], 0
        log = self._runtime.log
        await on_io(log.reach(position, time.monotonic() + log.timeout))
        events: list[EventRecord]
        events, number = await on_io(read_next(self._runtime, MAX_DRAWN_SCHEDULED, known))
        if not self._reads_all:
            events = matching_events(self._pattern, events)
            number = len(events)
        return events, number

    def _matching(self, found: Slice, before: JournalSlice) -> list[Entry]:
        """Return the matching events, and the commits that they caused."""
        if self._reads_all:
            return found.entries
        events = found.events
        if self._pattern.predicate is not None:
            events = matching_events(self._pattern, events)
        new = {event.id for event in events}
        return [
            entry
            for entry in found.entries
            if (
                entry.id in new
                if isinstance(entry, EventRecord)
                else entry.origin.cause in new or entry.origin.cause in before.by_id
            )
        ]

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


async def read_journal(runtime: Runtime, since: Since | None, limit: int) -> JournalSlice:
    """Read the newest events and commits, `limit` of both together, and how the events were handled."""
    reader = JournalReader(runtime, lambda: (), Pattern.of("**"), since, limit, commits=True, states=True)
    return await reader.aread()


def checked_lanes(space: Space, nodes: Iterable[str | Node] | str | Node, found: JournalSlice) -> list[str]:
    """Return the names of nodes; refuse unknown nodes and those of another space."""
    several = isinstance(nodes, Iterable) and not isinstance(nodes, str)
    given: list[Any] = [*nodes] if several else [nodes]  # type: ignore[misc]
    if not all(isinstance(each, str | Node) for each in given):
        raise TypeError(f"timeline: nodes is {quote(nodes)}; pass nodes, or their names")
    names = [each if isinstance(each, str) else name_here(each, space, "timeline") for each in given]
    for name in names:
        _check_known(space, name, found)
    return names


def _check_known(space: Space, name: str, found: JournalSlice) -> None:
    from happen_nb._model.causality import NOTEBOOK

    known = {NOTEBOOK, *found.nodes, *(event.sender for event in found.events)}
    known |= {change[0].node for change in found.commits} | {record.node for record in found.handled}
    if name not in known:
        raise unknown_node(name, sorted(known), f'the timeline of "{space.name}"')
