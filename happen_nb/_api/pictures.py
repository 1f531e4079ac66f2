"""Pictures of a space: what happened when, and who says what to whom."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from happen_nb._api.readings import Readings, Since, newest_events, position_after
from happen_nb._api.views import unknown_node
from happen_nb._display.plots.happened import NOTEBOOK, By, Happened
from happen_nb._journal.slice import commits_before, read_commits, read_handled, with_payloads
from happen_nb._model.arguments import count
from happen_nb._model.patterns import Pattern
from happen_nb._runtime.io import on_io, run_blocking

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from happen_nb._api.node import Node
    from happen_nb._api.views import Views
    from happen_nb._journal.slice import Position
    from happen_nb._model.causality import CommitPair
    from happen_nb._model.records import EventRecord, HandledRecord
    from happen_nb._runtime.log import Log


class Pictures(Readings):
    """The part of a `Space` that draws its journal."""

    views: Views

    def timeline(
        self,
        pattern: str | Callable[[str], object] = "**",
        *,
        nodes: Iterable[str | Node] | str | Node | None = None,
        since: Since | None = None,
        limit: int = 2000,
        by: By = "time",
    ) -> Figure:
        """Draw events and commits as marks over time, in one lane per node.

        Marks that would overlap are merged into one with a count; long idle time is folded. Pointing at a
        mark shows its details, its causes and its effects, with arrows from the causes; a click keeps the
        arrows. Without the kernel, as in a saved notebook, the arrows appear on a click only.

        Parameters
        ----------
        pattern : str or callable, optional
            The events to draw, as for ``node.on``. With a pattern, only the commits that these events caused
            are drawn.
        nodes : names or nodes, optional
            The lanes, from top to bottom; ``"notebook"`` is the person at the keyboard.
        since : Event, Commit, datetime or int, optional
            Draw only later events and commits; an int is a sequence.
        limit : int, optional
            Maximum number of events and commits to draw, the newest.
        by : "time" or "occurred"
            Place the marks by the time of storage, or by the event time.

        Returns
        -------
        plotly.graph_objects.Figure

        Raises
        ------
        UnknownNodeError
            A node has never emitted or committed anything.

        Examples
        --------
        >>> event = orders.broadcast("order.paid")
        >>> commit = orders.state.set({"paid": 1})
        >>> figure = space.timeline()
        >>> [trace.name for trace in figure.data if trace.x]
        ['event', 'commit']
        """
        from happen_nb._display.plots.timeline import timeline

        if by not in {"time", "occurred"}:
            raise ValueError(f'timeline: by is {by!r}; give "time" or "occurred"')
        limit = count(limit, "timeline: limit", least=1)
        happened = run_blocking(self._happened(Pattern.of(pattern), since, limit, commits=True))
        lanes = None if nodes is None else _names(nodes, self.name)
        for name in lanes or ():
            self._must_be_known(name, happened)
        return timeline(happened, nodes=lanes, by=by)

    def graph(
        self,
        pattern: str | Callable[[str], object] = "**",
        *,
        since: Since | None = None,
        limit: int = 10_000,
    ) -> Figure:
        """Draw the flow of events: a counted arrow from each sender to each node that handled its events.

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
        plotly.graph_objects.Figure

        Examples
        --------
        >>> counting = inventory.on("order.*", lambda event: None)
        >>> trace = orders.broadcast("order.paid").settle()
        >>> [label for trace in space.graph().data if trace.name == "arrows" for label in trace.text]
        ['<b>1</b>']
        """
        from happen_nb._display.plots.graph import graph

        limit = count(limit, "graph: limit", least=1)
        return graph(run_blocking(self._happened(Pattern.of(pattern), since, limit, commits=False)))

    async def _happened(
        self, pattern: Pattern, since: Since | None, limit: int, *, commits: bool
    ) -> Happened:
        """Read the newest events and commits, `limit` of both together, and how the events were handled."""
        log = self._log
        after = await position_after(log, since)
        await on_io(self._runtime.dispatcher.flush())
        events = await newest_events(log, pattern, after, limit + 1)
        changes = await on_io(_changes(log, after[0], limit + 1)) if commits else []
        if pattern.text != "**":
            ids = {event.id for event in events}
            changes = [change for change in changes if change[0].origin.cause in ids]
        cut = _after_which(events, changes, limit)
        events = [event for event in events if event.position > cut]
        handled: Iterable[HandledRecord] = ()
        if events:
            handled = await on_io(read_handled(log.stream, since=events[0].sequence))
        return Happened(
            self.name,
            events,
            [change for change in changes if (change[0].sequence, -1) > cut],
            handled,
            sorted({*self.views, *self._runtime.ownership.names()}),
            limit if cut > NOWHERE else None,
            partial(_whole, log),
        )

    def _must_be_known(self, name: str, x: Happened) -> None:
        known = {NOTEBOOK, *x.nodes, *(event.sender for event in x.events)}
        known |= {change[0].node for change in x.commits} | {record.node for record in x.handled}
        if name not in known:
            raise unknown_node(name, sorted(known), f'the timeline of "{self.name}"')


def _whole(log: Log, events: Sequence[EventRecord]) -> Sequence[EventRecord]:
    async def read() -> Sequence[EventRecord]:
        whole: Sequence[EventRecord] = await on_io(with_payloads(log.stream, events))
        return whole

    return run_blocking(read())


NOWHERE: Position = (0, 0)
"""Before all events and commits."""


def _names(nodes: Iterable[str | Node] | str | Node, space: str) -> list[str]:
    from happen_nb._api.node import Node

    given: Iterable[Any] = [nodes] if isinstance(nodes, str | Node) else nodes
    return [each if isinstance(each, str) else _name(each, space) for each in given]


def _name(node: Node, space: str) -> str:
    if node.space.name != space:
        raise ValueError(
            f'timeline: the node "{node.name}" belongs to the space "{node.space.name}", not to "{space}"'
        )
    return node.name


async def _changes(log: Log, after: int, limit: int) -> list[CommitPair]:
    """Read the newest commits, each with its predecessor on the node."""
    records = await read_commits(log.stream, None, limit=limit, since=after)
    newest = await commits_before(log.stream, records)
    changes: list[CommitPair] = []
    for record in records:
        changes.append((record, newest.get(record.node)))
        newest[record.node] = record
    return changes


def _after_which(events: list[EventRecord], changes: list[CommitPair], limit: int) -> Position:
    """Return the position after which there are `limit` events and commits."""
    positions = [event.position for event in events] + [(record.sequence, -1) for record, _ in changes]
    return sorted(positions)[-limit - 1] if len(positions) > limit else NOWHERE
