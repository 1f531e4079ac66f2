"""A space: a named, isolated system of nodes on one server."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from happen_nb._api.base import Displayable, Timeout, faces, refuse_in_callback
from happen_nb._api.diagrams import SequenceDiagram
from happen_nb._api.emit import Sender
from happen_nb._api.events import Event, Events, EventSearch, Trace, record_of
from happen_nb._api.failures import Facts, Failures, Unhandled
from happen_nb._api.forks import copy_handlers
from happen_nb._api.handlers import HandlerHost
from happen_nb._api.history import Commit, Journal, Since, Snapshot, check_space, position_after, position_of
from happen_nb._api.node import Node, Nodes
from happen_nb._api.pausing import Pausing
from happen_nb._api.pictures import JournalReader, checked_lanes, matching_events, read_journal
from happen_nb._api.plotting import plot_space
from happen_nb._api.receipts import Receipts
from happen_nb._api.recording import Recording, record
from happen_nb._api.replay import Replay, start_replay
from happen_nb._api.rerun import Rerun, Stages, rerun
from happen_nb._api.schedule import Advance, ScheduledEvents, advance_clock, read_scheduled, target_of
from happen_nb._api.server import NatsServer
from happen_nb._api.state import StateWriter
from happen_nb._api.views import NodeStates, Views, view_pairs
from happen_nb._display.reprs_state import space_page
from happen_nb._journal.copying import copy_stream
from happen_nb._journal.slice import newest_events, read_entries, read_events, with_previous
from happen_nb._model import arguments
from happen_nb._model.arguments import RESERVED, check_name, count
from happen_nb._model.causality import TimeBase
from happen_nb._model.freeze import freeze_initial
from happen_nb._model.paths import Selector
from happen_nb._model.patterns import Pattern
from happen_nb._model.quoting import quote
from happen_nb._model.records import CommitRecord, EventRecord
from happen_nb._runtime import causes
from happen_nb._runtime.effects import Effects, describe_works, find_unhandled, read_effects
from happen_nb._runtime.io import on_io, run_awaitable, run_blocking
from happen_nb._runtime.redirect import Redirected, instead_of
from happen_nb._runtime.replica import forkable_states, records_at
from happen_nb._runtime.stepping import notice_held
from happen_nb.errors import (
    ClockError,
    ForkedError,
    HappenTimeoutError,
    SpaceInUseError,
    SpaceNotEmptyError,
    UnknownEventError,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from datetime import datetime, timedelta
    from types import TracebackType
    from typing import Self

    import pandas as pd
    from plotly.graph_objects import Figure

    from happen_nb._model.frozen import FrozenDict
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.runtime import Runtime
    from happen_nb._server import EmbeddedServer
    from happen_nb._widgets.dashboard import Dashboard
    from happen_nb._widgets.live_graph import LiveGraph
    from happen_nb._widgets.live_plot import LivePlot
    from happen_nb._widgets.live_timeline import LiveTimeline

T = TypeVar("T")

logger = logging.getLogger("happen_nb")
_stages = itertools.count(1)

MAX_STAGE_NAME = 48
"""Characters of the name of a space in that of its rerun."""
MAX_SEQUENCE_RECORDS = 10_000
"""Events and commits among which a sequence diagram looks for the newest causal chains."""


class Space(Displayable, Sender, Pausing):
    """A named, isolated system of nodes on one NATS server or cluster; made by ``connect``.

    Attributes
    ----------
    name : str
        Name of the space.
    views : Views
        Read-only views of the states of all nodes, in every process.
    facts : Facts
        The types of events that need no handler.
    failures : Failures
        The errors of handlers and callbacks, newest last.
    server : NatsServer or None
        The embedded server; None for another server.

    Examples
    --------
    >>> with happen.connect(store=":memory:", name="example") as shop:
    ...     shop.create_node("orders", initial={"open": 0}).state.get("open")
    0
    """

    _page = space_page
    _pickle = "call connect() in the other process"

    _name = Redirected[str]()
    _failures = Redirected[Failures]()
    _facts = Redirected[Facts]()
    _runtime = Redirected["Runtime"]()
    _closed = Redirected["Callable[[Space], None]"]()
    _nodes = Redirected[dict[str, Node]]()
    _receipts = Redirected[Receipts]()
    _views = Redirected[Views]()

    def __init__(
        self,
        name: str,
        runtime: Runtime,
        server: EmbeddedServer | None,
        opener: Callable[[str], Coroutine[Any, Any, tuple[Space, bool]]],
        closed: Callable[[Space], None],
    ) -> None:
        self.server = None if server is None else NatsServer(server)
        self._name = name
        self._failures = Failures()
        self._facts = Facts()
        self._runtime = runtime
        self._opener = opener
        self._closed = closed
        self._nodes = {}
        self._receipts = Receipts(runtime, self._facts)
        self._views = Views(self, NodeStates(runtime))
        runtime.dispatcher.host = HandlerHost(self, runtime, self._nodes)

    @property
    def name(self) -> str:
        return self._name

    @property
    def views(self) -> Views:
        return self._views

    @property
    def facts(self) -> Facts:
        return self._facts

    @property
    def failures(self) -> Failures:
        return self._failures

    @property
    def _emits_as(self) -> tuple[Space, Runtime, str]:
        return instead_of(self), self._runtime, RESERVED

    @property
    def _log(self) -> Log:
        return self._runtime.log

    # Former names of the runtime, for scripts that look inside a space.

    @property
    def _session(self) -> Runtime:
        return self._runtime.checked

    @property
    def _open_session(self) -> Runtime | None:
        return self._runtime if self._runtime.is_open else None

    # -- nodes -----------------------------------------------------------------------------------------

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The nodes that this process has created, by name."""
        return Nodes(instead_of(self), self._runtime, self._nodes)

    async def _create_node(self, name: str, *, initial: Mapping[str, Any] | None = None) -> Node:
        """Create a node, or return the existing one of that name.

        Parameters
        ----------
        name : str
            Name of the node: 1 to 64 of ``A-Z a-z 0-9 _ -``.
        initial : mapping, optional
            The initial state, committed only if the node has no state. Otherwise it is not used, and a
            notice names the node's revision.

        Returns
        -------
        Node
            Always the same object for the same name.

        Raises
        ------
        InvalidNameError
            The name is not valid.

        Examples
        --------
        >>> orders = space.create_node("orders", initial={"open": 0})
        >>> space.create_node("orders") is orders
        True
        """
        name, space = check_name(name, "node"), instead_of(self)
        state = None if initial is None else freeze_initial(initial, node=name)
        node = self._nodes.setdefault(name, Node(space, self._runtime, name))
        newest = self._log.replica.newest(name)
        if state is not None:
            await StateWriter(name, space, self._runtime).commit_initial(state)
            self._notice_unused(name, newest)
        self._runtime.local[name] = newest
        return node

    create_node, acreate_node = faces(_create_node)

    def _notice_unused(self, name: str, before: CommitRecord | None) -> None:
        """Log that an initial state was not used: the node had one, or another process was first."""
        record = self._log.replica.newest(name)
        if record is None or record.deleted:
            return
        first = before is None or before.deleted
        own = (record.id or "").startswith(self._log.address)
        if not first or (not own and record.revision == (0 if before is None else before.revision) + 1):
            logger.warning(
                'node "%s" is at revision %s: initial is not used; connect(fresh=True) empties the space',
                name,
                f"{record.revision:,}",
            )

    # -- time ------------------------------------------------------------------------------------------

    @property
    def clock(self) -> str:  # jedi completes nothing on an object with a property that is a Literal
        """The clock of the space: "real", or "manual" if it stands still until `advance`."""
        return "manual" if self._runtime.checked.clock.manual else "real"

    @property
    def to_come(self) -> int:
        """The number of scheduled events, without reading them as `scheduled` does."""
        return self._runtime.checked.clock.to_come

    @property
    def now(self) -> datetime:
        """The time of the space, in UTC: the server's, or that of a manual clock.

        Examples
        --------
        >>> with happen.connect(store=":memory:", name="lab", clock="manual") as lab:
        ...     print(lab.now)
        2000-01-01 00:00:00+00:00
        """
        return self._runtime.checked.clock.now()

    async def _advance(
        self,
        by: Timeout = None,
        *,
        to: datetime | Event | Literal["next"] | None = None,
        timeout: Timeout = 60.0,
        **parts: float,
    ) -> Advance:
        """Move the manual clock of the space.

        It moves from one due moment to the next. At each it delivers what is due, and waits until that is
        handled with all its effects, in every process. Interrupting the kernel stops it between moments.

        Parameters
        ----------
        by : float or timedelta, optional
            The seconds by which to move it.
        to : datetime, Event or "next", optional
            Move it to this time (a naive datetime is local time), to the due time of a scheduled event, or to
            the next time at which something is due.
        timeout : float or timedelta, optional
            Seconds to wait for the handlers of each moment; None waits without limit.
        **parts : float
            Parts of a timedelta, such as ``days=30`` or ``hours=2``.

        Returns
        -------
        Advance
            The time of the space, and the numbers of events, commits and failures.

        Raises
        ------
        ClockError
            The space has a real clock, or another process moves this one.
        ValueError
            The time is in the past.
        HappenTimeoutError
            A handler still runs after `timeout` seconds.
        HappenError
            It was called in a handler or callback, and would wait for itself.

        Examples
        --------
        >>> with happen.connect(store=":memory:", name="lab", clock="manual") as lab:
        ...     orders = lab.create_node("orders")
        ...     watch = orders.on("order.expired", lambda event: print(lab.now))
        ...     event = orders.broadcast("order.expired", after=3600)
        ...     lab.advance(hours=2)
        2000-01-01 01:00:00+00:00
        Advance · 1 event · now 2000-01-01 02:00:00
        """
        refuse_in_callback("advance")
        runtime, seconds = self._runtime.checked, arguments.timeout(timeout, "advance: timeout")
        if not runtime.clock.manual:
            raise ClockError(
                f'advance: the space "{self.name}" has a real clock; connect(clock="manual", fresh=True) '
                "empties it and starts one that advances"
            )
        target = target_of(runtime.clock, by, to, parts)
        advance = advance_clock(runtime, self.failures, target, seconds)
        conductor = runtime.dispatcher.conductor
        return await (advance if conductor is None else conductor.aside(advance))

    advance, aadvance = faces(_advance, refuse=("space.advance()", "nothing: handlers are what it waits for"))

    @property
    def scheduled(self) -> ScheduledEvents:
        """The events that are to come, and the next tick of each ``every``: a sequence, by due time.

        Examples
        --------
        >>> event = orders.broadcast("order.expired", {"id": "o1"}, after=3600)
        >>> [event.type for event in space.scheduled]
        ['order.expired']
        """
        runtime = self._runtime.checked
        records = run_blocking(_on_io(read_scheduled(runtime)))
        return ScheduledEvents(self.name, "**", [Event(record, runtime) for record in records])

    # -- settling --------------------------------------------------------------------------------------

    async def _settle(self, timeout: Timeout = 10.0) -> None:
        """Wait until everything that this process caused, with its effects here, is committed and handled.

        Parameters
        ----------
        timeout : float or timedelta, optional
            Seconds to wait; None waits without limit.

        Raises
        ------
        HappenTimeoutError
            Something is still running after `timeout` seconds; the message names it.
        HappenError
            It was called in a handler or callback, and would wait for itself.

        Examples
        --------
        >>> seen = []
        >>> watch = orders.state.watch(lambda commit: seen.append(commit.revision))
        >>> commit = orders.state.set({"open": 1})
        >>> space.settle()
        >>> seen
        [1]
        """
        seconds = arguments.timeout(timeout, "settle: timeout")
        refuse_in_callback("settle")
        deadline, in_flight = time.monotonic() + seconds, self._runtime.checked.in_flight
        pending = in_flight.pending()
        if not pending.works:
            notice_held(self._runtime, "settle")
            return
        try:
            drained = on_io(in_flight.drain(pending.includes, deadline))
            left = await self._runtime.dispatcher.waits(drained)
        except KeyboardInterrupt as stop:
            works = in_flight.pending().works
            stop.add_note(
                f"settle: still running: {describe_works(works)}" if works else "settle: all is done"
            )
            raise
        if left:
            raise HappenTimeoutError(f"settle: still running after {seconds:g} s: {describe_works(left)}")
        notice_held(self._runtime, "settle")

    settle, asettle = faces(_settle, refuse=("space.settle()", "nothing: handlers are what it waits for"))

    # -- waiting ---------------------------------------------------------------------------------------

    async def _wait_for(
        self,
        pattern: str | Callable[[str], object],
        where: Callable[[Event], object] | None = None,
        *,
        since: Since | None = None,
        timeout: Timeout = 10.0,
    ) -> Event:
        """Wait for the next event of a type, from any process.

        Already stored events are ignored, unless `since` is given. Interrupting the kernel ends the wait.

        Parameters
        ----------
        pattern : str or callable
            The type, a pattern, or a predicate on the type, as for ``node.on``.
        where : callable, optional
            ``where(event)`` filters further.
        since : Event, Commit, datetime or int, optional
            Return the first event after it, even one that is already stored; an int is a sequence, a naive
            datetime is local time.
        timeout : float or timedelta, optional
            Seconds to wait; None waits without limit.

        Returns
        -------
        Event

        Raises
        ------
        HappenTimeoutError
            No such event came in time; the message names the types of those that came.

        Examples
        --------
        >>> start = orders.broadcast("start")
        >>> paid = orders.broadcast("order.paid")
        >>> space.wait_for("order.*", since=start).type
        'order.paid'
        """
        seconds = arguments.timeout(timeout, "wait_for: timeout")
        deadline, matching = time.monotonic() + seconds, Pattern.of(pattern)
        with closing(EventSearch(self._runtime, matching, where)) as search:
            reached = await position_after(self._log, since)
            stored = [] if since is None else await self._stored(matching, since, None)
            event = await search.first(stored, reached, deadline)
        if event is None:
            raise HappenTimeoutError(
                f'wait_for: no event "{matching.text}" came within {seconds:g} s{search.rejected}'
            )
        return event

    wait_for, await_for = faces(_wait_for, refuse=("space.wait_for()", "await space.await_for(...)"))

    # -- reading ---------------------------------------------------------------------------------------

    async def _events(
        self,
        pattern: str | Callable[[str], object] = "**",
        *,
        since: Since | None = None,
        limit: int | None = None,
    ) -> Events:
        """Read the stored events, newest last.

        Parameters
        ----------
        pattern : str or callable, optional
            The events to read, as for ``node.on``.
        since : Event, Commit, datetime or int, optional
            Read only later events; an int is a sequence, a naive datetime is local time.
        limit : int, optional
            Maximum number of events, the newest.

        Examples
        --------
        >>> event = orders.broadcast("order.paid", {"id": "o1"})
        >>> [event.payload for event in space.events("order.*")]
        [{'id': 'o1'}]
        """
        limit = None if limit is None else arguments.count(limit, "events: limit")
        matching = Pattern.of(pattern)
        records = await self._stored(matching, since, limit)
        return Events(self.name, matching.text, [Event(record, self._runtime) for record in records])

    events, aevents = faces(_events)

    async def _stored(self, pattern: Pattern, since: Since | None, limit: int | None) -> list[EventRecord]:
        log = self._log
        after = await position_after(log, since)
        if pattern.predicate is None:
            reading = read_events(log.stream, pattern.matches, since=after, limit=limit)
            records: list[EventRecord] = await on_io(reading)
            return records
        records = await on_io(read_events(log.stream, lambda _: True, since=after))
        found = matching_events(pattern, records)
        return found if limit is None else found[max(0, len(found) - limit) :]

    async def _journal(self, *, since: Since | None = None, limit: int | None = None) -> Journal:
        """Read the stored commits and events of the space in their one total order, newest last.

        A commit comes just before the events that it emitted.

        Parameters
        ----------
        since : Event, Commit, datetime or int, optional
            Read only later commits and events; an int is a sequence, a naive datetime is local time.
        limit : int, optional
            Maximum number of commits and events, the newest.

        Returns
        -------
        Journal
            A sequence of `Commit` and `Event`, with ``.to_frame()``, ``.commits`` and ``.events``.

        Raises
        ------
        ValueError
            `limit` is negative, or `since` is a pending event.

        Examples
        --------
        >>> commit = orders.state.set({"open": 1})
        >>> event = orders.broadcast("order.paid", {"id": "o1"})
        >>> print(space.journal())
        Journal of ... · 1 commit · 1 event
          node    commit or event  changes or payload
          orders  revision 1       + open  1
          orders  order.paid       {id: "o1"}
        """
        limit = None if limit is None else arguments.count(limit, "journal: limit")
        stream = self._log.stream
        after = await position_after(self._log, since)
        entries = await on_io(read_entries(stream, since=after, limit=limit))
        commits = [entry for entry in entries if isinstance(entry, CommitRecord)]
        changes = {each[0].sequence: each for each in await on_io(with_previous(stream, commits))}
        items = [
            Commit(*changes[each.sequence]) if isinstance(each, CommitRecord) else Event(each, self._runtime)
            for each in entries
        ]
        return Journal(self.name, items)

    journal, ajournal = faces(_journal)

    async def _at(self, when: Any) -> Mapping[str, FrozenDict]:
        """Read the states of all nodes at one point in time.

        Parameters
        ----------
        when : datetime, Event or Commit
            A datetime (naive: local time); an event: all commits before it; or a commit: the snapshot that
            its transform read.

        Returns
        -------
        mapping of str to state
            The states by node name. Accessing a node whose state of that time was trimmed raises
            HistoryGoneError.

        Examples
        --------
        >>> first = orders.state.set({"open": 1})
        >>> second = orders.state.set({"open": 2})
        >>> dict(space.at(second))["orders"]
        {'open': 1}
        """
        position = await on_io(position_of(self._log, when))
        return Snapshot(await on_io(records_at(self._log, position)))

    at, aat = faces(_at)

    @property
    def unhandled(self) -> Unhandled:
        """The events that no handler handled and that are not `facts`, among the newest 10,000.

        Examples
        --------
        >>> event = orders.broadcast("order.payed")
        >>> [(each.event.type, each.reason) for each in space.unhandled]
        [('order.payed', 'no owner')]
        """
        return run_blocking(self._unhandled())

    async def aunhandled(self) -> Unhandled:
        """Async variant of `unhandled`."""
        return await run_awaitable(self._unhandled())

    async def _unhandled(self) -> Unhandled:
        found = await on_io(find_unhandled(self._runtime.checked))
        found = [each for each in found if not self.facts.cover(each.event.type)]
        return Unhandled(self._runtime, found)

    # -- traces ----------------------------------------------------------------------------------------

    async def _trace(self, event: Event | str, *, times: bool = False) -> Trace:
        """Read from the journal what an event has caused so far: a tree of events and commits.

        Parameters
        ----------
        event : Event or str
            The event, or its id.
        times : bool, optional
            Show durations in its text, too.

        Examples
        --------
        >>> event = orders.broadcast("order.paid")
        >>> [node.event.type for node in space.trace(event)]
        ['order.paid']
        """
        check_space(self._log, event, "trace")
        if isinstance(event, Event):
            record = record_of(event)
        elif isinstance(event, str):
            stored = reversed(await self._stored(Pattern.of("**"), None, None))
            found = next((each for each in stored if each.id == event), None)
            if found is None:
                raise UnknownEventError(f"trace: no event with the id {quote(event)} is stored")
            record = found
        else:
            raise TypeError(f"trace: event is {quote(event)}; give an Event, or the id of one")
        (root,) = await on_io(read_effects(self._runtime.checked, Effects([record])))
        return Trace(lambda: root, times=times)

    trace, atrace = faces(_trace)

    # -- pictures --------------------------------------------------------------------------------------
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

        A dot is an event, a bar a handling, a thin line the time for which its event waited, a square a
        commit, and a cross a failure; long idle time is left out. Nodes whose names differ in a number share
        a lane if there are many nodes; pressing its name opens it. In a notebook, the picture follows the
        space. Pointing at a mark shows what it is; pressing it shows its causes and effects, the payload or
        the changes, the trace and the handler. Dragging selects a time, adds up what happened in it, and can
        zoom in. Without the kernel, as in a saved notebook, there is a static picture.

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
        from happen_nb._widgets.live_timeline import LiveTimeline

        if by not in {"time", "occurred"}:
            raise ValueError(f'timeline: by is {by!r}; give "time" or "occurred"')
        limit = count(limit, "timeline: limit", least=1)
        space = instead_of(self)
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

        The types of the events and their counts stand on the arrows. In a notebook, the picture follows the
        space: a dot moves along an arrow for each event. Nodes whose names differ in a number, such as
        ``p1`` to ``p160``, are one node if there are many; pressing it opens it. Without the kernel, as in a
        saved notebook, there is a static picture.

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
        from happen_nb._widgets.live_graph import LiveGraph

        limit = count(limit, "graph: limit", least=1)
        reader = self._reader(pattern, since, limit, commits=False)
        reader.read()
        return LiveGraph(instead_of(self), reader)

    def plot(
        self, lines: Mapping[str, tuple[str | Node, Selector]], *, x: str = "time", together: bool = True
    ) -> Figure:
        """Draw values of several nodes over time in one figure.

        Parameters
        ----------
        lines : mapping of str to (node, path or callable)
            The title of each line, with its node and the part of the node's state.
        x : "time" or "occurred"
            Place the values by the time of storage, or by the event time of the commit's cause.
        together : bool, optional
            Draw all numbers in one row, with a legend. Other values have rows of their own.

        Returns
        -------
        plotly.graph_objects.Figure

        Raises
        ------
        UnknownNodeError
            A node does not exist.

        Examples
        --------
        >>> commits = orders.state.set({"open": 2}), inventory.state.set({"stock": 7})
        >>> figure = space.plot({"open": ("orders", "open"), "stock": ("inventory", "stock")})
        >>> [line.name for line in figure.data]
        ['open', 'stock']
        """
        return plot_space(instead_of(self), lines, by=x, together=together)

    def live_plot(
        self,
        lines: Mapping[str, tuple[str | Node, Selector]],
        *,
        window: str | float | timedelta | None = None,
        together: bool = True,
    ) -> LivePlot:
        """Draw values of several nodes over time in a widget that follows every commit.

        Parameters
        ----------
        lines : mapping of str to (node, path or callable)
            The lines, as for `plot`.
        window : str, float or timedelta, optional
            Show only the last ``"1min"``, or so many seconds, as for ``state.live_plot``.
        together : bool, optional
            Draw all numbers in one row, with a legend. Other values have rows of their own.

        Returns
        -------
        LivePlot
            An ipywidget.

        Examples
        --------
        >>> commits = orders.state.set({"open": 2}), inventory.state.set({"stock": 7})
        >>> lines = {"open": ("orders", "open"), "stock": (inventory, "stock")}
        >>> plot = space.live_plot(lines, window="1min")
        >>> plot.stop()
        """
        from happen_nb._widgets.live_plot import live_plot_of_space

        return live_plot_of_space(instead_of(self), lines, window, together=together)

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
            Show branches that are alike but for their values once, with their number.
        width : int, optional
            Width in pixels, if the lanes have room in it. Without it, the picture fits narrow and wide pages.

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
            found = event if isinstance(event, Trace) else await self._trace(event)
            return found.sequence(times=times, merge=merge, width=width)
        limit = count(limit, "sequence: limit", least=1)
        journal = await read_journal(
            self._runtime, (), Pattern.of("**"), since, MAX_SEQUENCE_RECORDS, commits=True
        )
        events = [each for each in journal.events if each.cause is None]
        commits = [pair for pair in journal.commits if pair[0].origin.cause is None]
        positions = sorted([each.sequence for each in events] + [pair[0].sequence for pair in commits])
        first = positions[-limit] if len(positions) > limit else 0
        events = [each for each in events if each.sequence >= first]
        commits = [pair for pair in commits if pair[0].sequence >= first]
        trees = []
        if events or commits:
            trees = await on_io(read_effects(self._runtime.checked, Effects(events, commits)))
        return SequenceDiagram(self.name, trees, times=times, merge=merge, width=width)

    sequence, asequence = faces(_sequence)

    def _reader(
        self, pattern: str | Callable[[str], object], since: Since | None, limit: int, *, commits: bool
    ) -> JournalReader:
        matching = Pattern.of(pattern)
        return JournalReader(self._runtime, lambda: list(self.views), matching, since, limit, commits=commits)

    # -- recording -------------------------------------------------------------------------------------

    async def _record(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        since: Since | None = None,
        until: Since | None = None,
        title: str | None = None,
        code: bool = True,
        hide: Iterable[str] = (),
    ) -> Recording:
        """Record everything between two moments in one HTML file that plays offline in a browser.

        The page has a lane for each node with its events, handlings and commits, the states, and the source
        of the handler that ran. It needs no kernel and no server, and makes no requests. Of a stretch that
        needs more than 2 MB, the newest records are kept, and the page says so.

        Parameters
        ----------
        path : str or path, optional
            The file; an existing one is replaced. A browser that opens it with ``#play`` at the end of the
            address plays at once. Without a path, the last expression of a cell shows the player in the
            notebook.
        since : Event, Commit, datetime or int, optional
            Record only later events and commits; an int is a sequence, a naive datetime is local time.
        until : Event, Commit, datetime or int, optional
            Record nothing later; an event or a commit is itself recorded.
        title : str, optional
            The title of the page.
        code : bool, optional
            Include the source of handlers that this process has registered.
        hide : str or iterable of str, optional
            Paths whose values are masked: ``"customer.*.email"`` in the states of nodes, ``"**.email"``
            everywhere, in payloads too. ``*`` stands for any characters of one step, ``**`` for any number
            of steps.

        Returns
        -------
        Recording

        Raises
        ------
        TooLargeError
            The states alone do not fit.

        Examples
        --------
        >>> commit = orders.state.set({"o1": {"email": "ada@example.org"}})
        >>> event = orders.broadcast("order.paid", {"email": "ada@example.org"})
        >>> recording = space.record(title="One order", hide=["**.email"])
        >>> print(recording)
        Recording One order · 1 event · 1 commit
        >>> recording.events()[0].payload, recording.journal()[0].after
        ({'email': '•••'}, {'o1': {'email': '•••'}})
        """
        return await record(
            self._runtime, path, since, until, title, hide, code=code, start_space=self._start_from
        )

    record, arecord = faces(_record)

    # -- replaying -------------------------------------------------------------------------------------
    def replay(
        self,
        rows: pd.DataFrame | Iterable[Mapping[str, Any]] | Iterable[Event],
        *,
        type: str | Callable[[Any], str] | None = None,
        time: str | None = None,
        sender: str | Node = RESERVED,
        speed: float | None = None,
        nan: Any = None,
    ) -> Replay:
        """Broadcast many rows as events, in order, thousands per second.

        It returns immediately and continues in the background. The events are stored in the order of the
        rows, each once, even if the connection is interrupted; events of other senders may come between
        them. The replay pauses while 10,000 events wait for handlers of this process, so any number of rows
        can be replayed. Running the cell again stops the previous replay; so does closing the space.

        Parameters
        ----------
        rows : DataFrame, iterable of mappings, or ``space.events(...)``
            Each row becomes the payload of an event. Stored events, of any space, are broadcast again with
            their type, payload and ``occurred``. A generator is read as its rows are needed.
        type : str or callable, optional
            The type of all events, or a function of the row that returns the type. Optional for events,
            which have a type.
        time : str, optional
            The column (or index of a frame) that becomes ``event.occurred`` instead of a part of the
            payload: datetimes or ISO 8601 strings. It may be missing in a row.
        sender : str or Node, optional
            The sender of the events.
        speed : float, optional
            Speed relative to the event times: 60 plays an hour in a minute. By default, as fast as possible.
        nan : optional
            Replacement for NaN, NaT and ``pd.NA``, which have no JSON form; in a frame for None, too.

        Returns
        -------
        Replay
            Shows the progress; ``.wait()`` waits for the end and raises errors; ``.stop()`` stops it.

        Raises
        ------
        ValueError
            The type, the times for a speed, or the column is missing.
        TypeError
            `rows` cannot be replayed.
        PayloadError
            A column name is not a string. A value without a JSON form stops the replay, and ``wait()`` names
            its row.
        HappenError
            It was called in a handler or a transform.

        Examples
        --------
        >>> rows = [{"sensor": "a", "heat": 20.5}, {"sensor": "b", "heat": float("nan")}]
        >>> space.replay(rows, type=lambda row: f"heat.{row['sensor']}").wait()
        Replay · done · 2 events
        >>> [(event.type, event.payload["heat"]) for event in space.events()]
        [('heat.a', 20.5), ('heat.b', None)]
        """
        return start_replay(
            instead_of(self), self._runtime, rows, type=type, time=time, sender=sender, speed=speed, nan=nan
        )

    # -- the whole space -------------------------------------------------------------------------------

    async def _clear(self, *, force: bool = False) -> None:
        """Empty the space for every process in it: states, events and history. Nodes and handlers stay.

        Parameters
        ----------
        force : bool, optional
            Empty it even while other processes are connected.

        Raises
        ------
        SpaceInUseError
            Another process is connected.

        Examples
        --------
        >>> commit = orders.state.set({"open": 1})
        >>> space.clear()
        >>> orders.state.get(), len(space.journal())
        ({}, 0)
        """
        if not force:
            await self._refuse_others("clear", "clear(force=True) empties it anyway")
        await self._empty()

    clear, aclear = faces(_clear)

    async def _refresh(self, clock: Callable[[], str | None] | None = None, *, force: bool) -> None:
        """Empty the space for ``connect(fresh=True)``; `clock` returns the time of a new clock."""
        if not force:
            way_out = 'end it (another notebook\'s kernel?), or fresh="force" empties it anyway'
            await self._refuse_others("connect(fresh=True)", way_out)
        await self._empty(clock)

    async def _empty(self, clock: Callable[[], str | None] | None = None) -> None:
        self.failures.clear()
        self._runtime.dispatcher.spare(causes.current_path())
        await on_io(self._runtime.checked.clear(clock))

    async def _refuse_others(self, call: str, way_out: str) -> None:
        others = await on_io(self._runtime.checked.peers.others())
        if others:
            processes = ", ".join(others)
            raise SpaceInUseError(f'{call}: the space "{self.name}" is in use by {processes}; {way_out}')

    async def _fork(self, name: str, *, at: Any = None, handlers: bool = False) -> Space:
        """Make a new space on the same server that starts from the states of this one.

        Its states start at revision 1; it has no events, and never becomes the current space. This space
        stays unchanged. Invalid states that other clients have stored are left out and logged.

        Parameters
        ----------
        name : str
            The name of the new space.
        at : datetime, Event or Commit, optional
            Start from the states at that time, as for `at`.
        handlers : bool, optional
            Register the handlers of this process in the fork, too, and its watches. They run unchanged, but
            the objects of this space that their code names stand for those of the fork: nodes, their states,
            views, the space, its events, and ``happen.current()``. That holds for the functions that they
            call, asyncio tasks, ``asyncio.to_thread`` and ``happen.carry``. A thread that they start without
            ``carry`` acts on this space. Variables of the notebook are not forked.

        Returns
        -------
        Space
            The new space, connected.

        Raises
        ------
        SpaceNotEmptyError
            The target holds states or events already.
        HistoryGoneError
            Some states of that time are no longer stored; the message names the nodes.

        Examples
        --------
        >>> first = orders.state.set({"open": 1})
        >>> second = orders.state.set({"open": 2})
        >>> what_if = space.fork("what-if", at=second)
        >>> what_if.views.orders.get(), orders.state.get()
        ({'open': 1}, {'open': 2})
        >>> what_if.drop()

        With the handlers, which name the node of this space:

        >>> @orders.on("order.placed")
        ... def count(event):
        ...     orders.state.set(happen.put("open", lambda n: n + 1))
        >>> what_if = space.fork("what-if", handlers=True)
        >>> trace = what_if.broadcast("order.placed").settle()
        >>> what_if.views.orders.get(), orders.state.get()
        ({'open': 3}, {'open': 2})
        >>> what_if.drop()
        """
        check_name(name, "space")
        if not arguments.is_truth(handlers):
            raise TypeError(f"fork: handlers is {quote(handlers)}; give True or False")
        log = self._log
        if at is None:
            await on_io(log.fresh(log.timeout))
            states = forkable_states(log.replica.cut().nodes)
        else:
            position = await on_io(position_of(log, at))
            states = forkable_states(await on_io(records_at(log, position)))
        fork = await self._start_from(name, states)
        if handlers:
            try:
                await self._copy_handlers(fork)
            except BaseException:
                await fork._drop_stream()
                raise
        return fork

    fork, afork = faces(_fork)

    async def _copy_handlers(self, fork: Space) -> None:
        """Give a fork the nodes, handlers and watches of this process."""
        nodes = dict(Nodes(instead_of(self), self._runtime, self._nodes))
        made = {name: await fork._create_node(name) for name in nodes}
        pairs = [(instead_of(self), fork), *((nodes[name], made[name]) for name in nodes)]
        await copy_handlers(
            self._runtime, fork._runtime, made, [*pairs, *view_pairs(self._views, fork._views)]
        )

    async def _rerun(
        self,
        since: Since | None = None,
        *,
        until: Since | None = None,
        instead: Callable[[Event], Any] | None = None,
        name: str | None = None,
        timeout: Timeout = 60.0,
    ) -> Rerun:
        """Run the past once more, with the handlers of now, and show what differs.

        It happens in a fork that starts from the states before `since`; this space stays unchanged. What came
        from outside is put in as it was: events without a cause, commits of cells, scheduled events, and what
        nodes of other processes did. Everything else happens anew, in the recorded order as far as it goes.
        Interrupting the kernel stops it, and nothing is left.

        Parameters
        ----------
        since : Event, Commit, datetime or int, optional
            Where it starts. Unlike in readings, an event or a commit is part of it; it starts after a time or
            a sequence. By default, all that is stored.
        until : Event, Commit, datetime or int, optional
            Where it ends; an event or a commit is part of it, with everything that it caused.
        instead : callable, optional
            ``instead(event)`` is called for each event that is put in. It returns the event, as it was, or
            another payload, or None to leave the event out.
        name : str, optional
            The name of the fork, which is kept then. By default it exists as long as the Rerun.
        timeout : float or timedelta, optional
            Seconds for all of it; None waits without limit.

        Returns
        -------
        Rerun
            Shows what differs. ``.same`` tells if nothing does.

        Raises
        ------
        HistoryGoneError
            Something of that time is no longer stored.
        HappenTimeoutError
            It still runs after `timeout` seconds; the message names what was not done.
        SpaceNotEmptyError
            There is a space of that name already.
        HappenError
            It was called in a handler or callback.

        Examples
        --------
        >>> @inventory.on("order.paid")
        ... def take(event):
        ...     inventory.state.set(happen.put("pens", lambda n: n - event.payload))
        >>> stocked = inventory.state.set({"pens": 7})
        >>> trace = orders.broadcast("order.paid", 2).settle()
        >>> print(space.rerun())
        Rerun of ... · 1 event · the same events and commits in the same order
        >>> again = space.rerun(instead=lambda event: event.payload + 1)
        >>> again.same, again.states["inventory"].now
        (False, {'pens': 4})
        """
        stages = Stages(self._make_stage, self._keep_stage, Space._drop_stream)
        return await rerun(instead_of(self), stages, since, until, instead, name, timeout)

    rerun, arerun = faces(_rerun)

    async def _make_stage(
        self, name: str | None, states: Mapping[str, FrozenDict], clock: str | None
    ) -> Space:
        """Make a fork with the handlers of this process, for a rerun; without a name, one that is dropped."""
        if name is not None:
            stage = await self._start_from(check_name(name, "space"), states, clock)
        else:
            stage = await self._make_unnamed(states, clock)
        stage._runtime.clock.hold()
        try:
            await self._copy_handlers(stage)
        except BaseException:
            await stage._drop_stream()
            raise
        return stage

    async def _make_unnamed(self, states: Mapping[str, FrozenDict], clock: str | None) -> Space:
        # It is never finished: if this process is killed, the next rerun starts it over.
        while True:
            name = f"{self.name[:MAX_STAGE_NAME]}-rerun-{next(_stages)}"
            try:
                return await self._start_from(name, states, clock, finish=False)
            except (SpaceNotEmptyError, SpaceInUseError):
                continue  # another process has it

    async def _keep_stage(self, stage: Space, name: str | None) -> Space:
        """Keep the journal of a fork under a name."""
        log = stage._log
        if name is None and log.info.unfinished:
            raise ValueError('keep: give a name for the space, as in rerun.keep("what-if")')
        if name is None or name == stage.name:
            return stage
        check_name(name, "space")
        await on_io(stage._runtime.dispatcher.close())
        await on_io(copy_stream(log.stream, name))
        await stage._drop_stream()
        kept, _ = await self._opener(name)
        return kept

    async def _start_from(
        self, name: str, states: Mapping[str, FrozenDict], clock: str | None = None, *, finish: bool = True
    ) -> Space:
        """Make a new space on the same server from the states of its nodes.

        A manual clock starts at the time `clock`, by default that of this space.
        """
        log = self._log
        target, opened = await self._opener(name)
        try:
            if target is instead_of(self) or not await on_io(_is_empty(target._log)):
                raise SpaceNotEmptyError(
                    f'fork: the space "{name}" is not empty; take another name, or drop() it first'
                )
            await target._refuse_others("fork", "take another name, or close it there first")
        except (SpaceNotEmptyError, SpaceInUseError):
            if opened:
                await target._close()
            raise
        try:
            await on_io(target._log.change(log.info.options))
            await on_io(target._log.mark_unfinished(self.name))  # until every state is there
            if self._runtime.clock.manual:
                now = self._runtime.clock.now_text() if clock is None else clock
                await on_io(target._runtime.clear(lambda: now))
            for node, state in states.items():
                await target._create_node(node, initial=state)
            if finish:
                await on_io(target._log.mark_unfinished(""))
        except BaseException:
            await target._drop_stream()
            raise
        target._runtime.local.clear()
        return target

    async def _drop(self) -> None:
        """Delete the space permanently, with everything that it holds, and close it.

        Raises
        ------
        SpaceInUseError
            Another process is connected.

        Examples
        --------
        >>> what_if = space.fork("what-if")
        >>> what_if.drop()
        >>> "what-if" in [each.name for each in happen.spaces()]
        False
        """
        await self._refuse_others("drop", "close it there first")
        await self._drop_stream()

    async def _drop_stream(self) -> None:
        # The dispatcher first: it still stores handlings, for which it needs the stream.
        await on_io(self._runtime.checked.dispatcher.close())
        await on_io(self._log.stream.drop())
        await self._close()

    drop, adrop = faces(_drop)

    def dashboard(self) -> Dashboard:
        """Show the space in a widget: states, events, failures, a form to send events, and a time slider.

        Returns
        -------
        Dashboard
            An ipywidget.
        """
        from happen_nb._widgets.dashboard import Dashboard

        return Dashboard(instead_of(self))

    # -- closing ---------------------------------------------------------------------------------------

    async def _close(self) -> None:
        """Disconnect; everything that is stored stays.

        Running handlers may finish and still commit. The embedded server stops soon after its last user has
        disconnected. ``with happen.connect(...) as space:`` closes the space at the end.

        Examples
        --------
        >>> shop = happen.connect(store=":memory:", name="shop")
        >>> shop.close()
        >>> shop.events()
        Traceback (most recent call last):
            ...
        happen_nb.errors.ClosedError: the space "shop" was closed; connect again
        """
        runtime = self._runtime
        if not runtime.is_open or runtime.is_closing:
            return
        runtime.is_closing = True
        self._receipts.show(on=False)
        try:
            await on_io(runtime.dispatcher.close())  # running handlers may finish, and still commit
            if runtime.log.connection.connected:
                runtime.on_closing.emit()
        finally:
            runtime.shut()
            await on_io(runtime.close())
            self._closed(instead_of(self))

    close, aclose = faces(_close)

    def _after_fork_in_child(self) -> None:
        """Release the parent's runtime, which the child must not touch."""
        self._runtime.shut(
            ForkedError(
                f'the space "{self.name}" belongs to the parent of this process, which forked: '
                "call connect() in the child"
            )
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


async def start_from(space: Space, name: str, states: Mapping[str, FrozenDict]) -> Space:
    """Make a new space on the server of another one, from the states of its nodes."""
    return await space._start_from(name, states)


async def _is_empty(log: Log) -> bool:
    """Return True if no node has or had a state, and no event is stored. On the IO thread."""
    return log.replica.empty() and not await newest_events(log.stream, lambda _: True, limit=1)


async def _on_io(work: Coroutine[Any, Any, T]) -> T:
    result: T = await on_io(work)
    return result
