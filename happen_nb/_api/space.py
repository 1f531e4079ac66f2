"""A space: a named, isolated system of nodes on one server."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from happen_nb._api.base import Displayable, Timeout, faces, refuse_in_callback
from happen_nb._api.emit import Sender
from happen_nb._api.events import Event, Events, Trace
from happen_nb._api.failures import Facts, Failures, HandledAgainError, Unhandled, refuse_retry
from happen_nb._api.handlers import Hosting
from happen_nb._api.history import Commit, Journal, Since, Snapshot, check_space, position_after, position_of
from happen_nb._api.node import Node, Nodes
from happen_nb._api.receipts import Receipts
from happen_nb._api.replay import Replay, ReplaySource, _checked_speed, _refuse_in_handlers_and_transforms
from happen_nb._api.server import NatsServer
from happen_nb._api.views import Views, unknown_node
from happen_nb._display.plots.happened import NOTEBOOK, By, Happened
from happen_nb._display.reprs_state import space_page
from happen_nb._journal.slice import (
    entry_position,
    newest_events,
    newest_slice,
    read_changes,
    read_entries,
    read_events,
    read_handled,
    with_payloads,
    with_previous,
)
from happen_nb._model import arguments
from happen_nb._model.arguments import RESERVED, check_name, count
from happen_nb._model.freeze import freeze_initial
from happen_nb._model.patterns import Pattern
from happen_nb._model.quoting import quote
from happen_nb._model.records import CommitRecord, EventRecord
from happen_nb._runtime import causes
from happen_nb._runtime.causes import output_context
from happen_nb._runtime.cells import cells
from happen_nb._runtime.effects import Effects, EventStream, find_unhandled
from happen_nb._runtime.io import io_thread, on_io, run_awaitable, run_blocking
from happen_nb._runtime.snapshots import records_at
from happen_nb._runtime.tracebacks import to_raise
from happen_nb.errors import (
    ClosedError,
    ForkedError,
    HappenTimeoutError,
    HistoryGoneError,
    InvalidNameError,
    PendingError,
    SpaceInUseError,
    SpaceNotEmptyError,
    StateError,
    UnknownEventError,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Coroutine
    from types import TracebackType
    from typing import Self

    import pandas as pd
    from plotly.graph_objects import Figure

    from happen_nb._api.watch import Watch
    from happen_nb._journal.slice import Entry, Handlings
    from happen_nb._model.causality import CommitPair, TraceNode
    from happen_nb._model.frozen import FrozenDict
    from happen_nb._runtime.effects import Work
    from happen_nb._runtime.replica import Applied
    from happen_nb._runtime.session import Session
    from happen_nb._server import EmbeddedServer
    from happen_nb._widgets.dashboard.widget import Dashboard
    from happen_nb._widgets.throttle import Throttle

log = logging.getLogger("happen_nb")


SETTLE_POLL_SECONDS = 0.002


SETTLE_POLL_SECONDS_PER_WORK = 5e-6  # checking much unfinished work takes time from doing it


class Space(Displayable, Sender):
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

    def __init__(
        self,
        name: str,
        session: Session,
        server: EmbeddedServer | None,
        opener: Callable[[str], Coroutine[Any, Any, tuple[Space, bool]]],
        closed: Callable[[Space], None],
    ) -> None:
        self.name = name
        self.server = None if server is None else NatsServer(server)
        self.failures = Failures()
        self.facts = Facts()
        self._open_session: Session | None = session
        self._closing = False
        self._why_closed: Exception = ClosedError(f'the space "{name}" was closed; connect again')
        self._opener = opener
        self._closed = closed
        self._nodes: dict[str, Node] = {}
        self._local: dict[str, CommitRecord | None] = {}
        self._emits_as = self, RESERVED
        self._dispatch = session.dispatch
        self._dispatch.host = Hosting(self)
        self._watches: dict[str, list[Watch]] = {}
        self._throttles: dict[Throttle, None] = {}
        self._receipts = Receipts(self)
        self.views = Views(self)
        io_thread().call_soon(session.replica.listen, self._heard)

    @property
    def _session(self) -> Session:
        session = self._open_session
        if session is None:
            raise to_raise(self._why_closed)
        return session

    # -- nodes -----------------------------------------------------------------------------------------

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The nodes that this process has created, by name."""
        return Nodes(self)

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
        name = check_name(name, "node")
        state = None if initial is None else freeze_initial(initial, node=name)
        node = self._nodes.setdefault(name, Node(self, name))
        newest = self._session.replica.newest(name)
        if state is not None:
            await node.state._begin(state)
            self._notice_unused(name, newest)
        self._local[name] = newest
        return node

    create_node, acreate_node = faces(_create_node)

    def _notice_unused(self, name: str, before: CommitRecord | None) -> None:
        """Log that an initial state was not used: the node had one, or another process was first."""
        record, session = self._session.replica.newest(name), self._session
        if record is None or record.deleted:
            return
        first = before is None or before.deleted
        own = (record.id or "").startswith(session.address)
        if not first or (not own and record.revision == (0 if before is None else before.revision) + 1):
            log.warning(
                'node "%s" is at revision %s: initial is not used; connect(fresh=True) empties the space',
                name,
                f"{record.revision:,}",
            )

    def _is_local(self, name: str, newest: CommitRecord | None) -> bool:
        """Return True if this process has created the node, and it was not deleted since."""
        return name in self._local and (newest is None or not newest.deleted or newest is self._local[name])

    def _forget(self, node: Node) -> None:
        self._local.pop(node.name, None)
        for watch in list(self._watches.get(node.name, ())):
            watch.stop()

    # -- following -------------------------------------------------------------------------------------

    def _heard(self, applied: Applied) -> None:
        """Hand a commit to the node's watches. On the IO thread."""
        for watch in self._watches.get(applied.record.node, ()):
            watch._take(applied)

    def _watch(self, watch: Watch) -> None:
        name = watch.node.name
        self._session  # noqa: B018 - a closed space has no watches
        self._watches[name] = [*self._watches.get(name, ()), watch]

    def _unwatch(self, watch: Watch) -> None:
        name = watch.node.name
        self._watches[name] = [other for other in self._watches.get(name, ()) if other is not watch]

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
        deadline = time.monotonic() + seconds
        activity = self._session.dispatch.in_flight
        begun = activity.pending()
        try:
            while left := activity.remaining(begun):
                if time.monotonic() > deadline:
                    raise HappenTimeoutError(f"settle: still running after {seconds:g} s: {_describe(left)}")
                await on_io(asyncio.sleep(SETTLE_POLL_SECONDS + len(left) * SETTLE_POLL_SECONDS_PER_WORK))
        except KeyboardInterrupt as stop:
            tokens = activity.pending().works
            stop.add_note(f"settle: still running: {_describe(tokens)}" if tokens else "settle: all is done")
            raise

    settle, asettle = faces(_settle, refuse=("space.settle()", "nothing: handlers are what it waits for"))

    def _deadline(self) -> float:
        """Return the deadline of a call that starts now."""
        return time.monotonic() + self._session.timeout

    # -- events ----------------------------------------------------------------------------------------
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
        matching, session = Pattern.of(pattern), self._session
        _check_where(where)
        seconds = arguments.timeout(timeout, "wait_for: timeout")
        deadline = time.monotonic() + seconds
        coming = EventStream(session)
        refused, others = 0, Counter[str]()
        try:
            reached = await position_after(session, since)
            for record in [] if since is None else await self._stored(matching, since, None):
                reached = record.position
                if _accepts(where, event := self._event(record)):
                    return event
                refused += 1
            while (left := deadline - time.monotonic()) > 0:
                for record in await on_io(coming.take(left)):
                    if record.position <= reached:
                        continue
                    if time.monotonic() >= deadline:  # `where` may be slow, and many events may have come
                        break
                    if not matching.matches(record.type):
                        others[record.type] += 1
                    elif _accepts(where, event := self._event(record)):
                        return event
                    else:
                        refused += 1
        finally:
            coming.close()
        instead = _instead(refused, others)
        raise HappenTimeoutError(f'wait_for: no event "{matching.text}" came within {seconds:g} s{instead}')

    wait_for, await_for = faces(_wait_for, refuse=("space.wait_for()", "await space.await_for(...)"))

    def _event(self, record: EventRecord) -> Event:
        return Event(record, self)

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
        return Events(self.name, matching.text, [self._event(record) for record in records])

    events, aevents = faces(_events)

    async def _stored(self, pattern: Pattern, since: Since | None, limit: int | None) -> list[EventRecord]:
        session = self._session
        after = await position_after(session, since)
        if pattern.predicate is None:
            reading = read_events(session.stream, pattern.matches, since=after, limit=limit)
            records: list[EventRecord] = await on_io(reading)
            return records
        records = await on_io(read_events(session.stream, lambda _: True, since=after))
        found = _matching(pattern, records)
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
        stream = self._session.stream
        after = await position_after(self._session, since)
        entries = await on_io(read_entries(stream, since=after, limit=limit))
        commits = [entry for entry in entries if isinstance(entry, CommitRecord)]
        changes = {each[0].sequence: each for each in await on_io(with_previous(stream, commits))}
        items = [
            Commit(*changes[each.sequence]) if isinstance(each, CommitRecord) else self._event(each)
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
        return await self._snapshot(when)

    at, aat = faces(_at)

    async def _snapshot(self, when: Any) -> Snapshot:
        position = await on_io(position_of(self._session, when))
        return Snapshot(await on_io(records_at(self._session, position)))

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
        found = await on_io(find_unhandled(self._session))
        found = [each for each in found if not self.facts.cover(each.event.type)]
        return Unhandled(self, found)

    # -- what an event caused --------------------------------------------------------------------------

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
        check_space(self._session, event, "trace")
        if isinstance(event, Event):
            record = event._record
        elif isinstance(event, str):
            record = await self._find(event)
        else:
            raise TypeError(f"trace: event is {quote(event)}; give an Event, or the id of one")
        return Trace(await on_io(_effects(self._session, record, None)), times=times)

    trace, atrace = faces(_trace)

    async def _find(self, id: str) -> EventRecord:
        for record in reversed(await self._stored(Pattern.of("**"), None, None)):
            if record.id == id:
                return record
        raise UnknownEventError(f"trace: no event with the id {quote(id)} is stored")

    async def _settle_event(self, event: Event, timeout: Timeout) -> Trace:
        seconds = arguments.timeout(timeout, "settle: timeout")
        if event.pending:
            raise PendingError("settle: the event is pending until its transform has committed")
        refuse_in_callback("settle")
        return Trace(await on_io(_effects(self._session, event._record, seconds)))

    async def _handled_by(self, event: Event) -> tuple[str, ...]:
        if event.pending:
            return ()
        session = self._session
        await on_io(session.dispatch.flush())
        records = await on_io(read_handled(session.stream, since=event._record.sequence))
        return tuple(dict.fromkeys(r.node for r in records if r.event == event.id and r.accepted))

    async def _again(self, record: EventRecord, node: str, handler: str | None) -> BaseException | None:
        """Handle an event again; return the handler's error."""
        refuse_retry(node)
        error: BaseException | None = await on_io(
            self._dispatch.redeliver(record, node, handler, output_context())
        )
        return error

    def _handle_again(self, record: EventRecord, node: str, handler: str | None) -> None:
        error = run_blocking(self._again(record, node, handler))
        if error is not None:
            raise HandledAgainError(error)

    # -- pictures --------------------------------------------------------------------------------------
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
        session = self._session
        after = await position_after(session, since)
        await on_io(session.dispatch.flush())
        every, asked = pattern.text == "**", pattern.predicate is not None
        matches = (lambda _: True) if asked else cache(pattern.matches)

        def keep(entry: Entry) -> bool:
            return commits if isinstance(entry, CommitRecord) else bool(matches(entry.type))

        found = await on_io(
            newest_slice(
                session.stream,
                keep,
                since=after,
                limit=sys.maxsize if asked else limit + 1,
                counts=lambda entry: every or isinstance(entry, EventRecord),
            )
        )
        events = _matching(pattern, found.events) if asked else found.events
        ids = {event.id for event in events}
        entries: list[Entry] = [each for each in found.commits if every or each.origin.cause in ids]
        entries = sorted([*entries, *events], key=entry_position)
        shown = entries[-limit:]
        start = shown[0].sequence if shown else found.last + 1
        changes: list[CommitPair]
        handled: Handlings
        changes, handled = await on_io(read_changes(session.stream, found, start, states=commits))
        sequences = {entry.sequence for entry in shown if isinstance(entry, CommitRecord)}
        return Happened(
            self.name,
            [entry for entry in shown if isinstance(entry, EventRecord)],
            [change for change in changes if change[0].sequence in sequences],
            handled,
            sorted({*self.views, *session.dispatch.ownership.names()}),
            limit if len(entries) > limit else None,
            partial(_whole, session),
        )

    def _must_be_known(self, name: str, x: Happened) -> None:
        known = {NOTEBOOK, *x.nodes, *(event.sender for event in x.events)}
        known |= {change[0].node for change in x.commits} | {record.node for record in x.handled}
        if name not in known:
            raise unknown_node(name, sorted(known), f'the timeline of "{self.name}"')

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
        _refuse_in_handlers_and_transforms()
        speed = None if speed is None else _checked_speed(speed)
        name = sender if isinstance(sender, str) else getattr(sender, "name", sender)
        if name != RESERVED:
            check_name(name, "node")
        there = getattr(getattr(sender, "space", self), "name", self.name)
        if there != self.name:
            raise ValueError(
                f'replay: the node "{name}" belongs to the space "{there}", not to "{self.name}"'
            )
        given = ReplaySource(rows, type=type, time=time, nan=nan, paced=speed is not None)
        replay = Replay(self, given, name, speed)  # type: ignore[arg-type]
        cells.register(replay.stop)
        return replay

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
            await self._refuse_others("clear", "clear(force=True) does it all the same")
        await self._empty()

    clear, aclear = faces(_clear)

    async def _refresh(self, *, force: bool) -> None:
        """Empty the space for ``connect(fresh=True)``."""
        if not force:
            way_out = 'end it (another notebook\'s kernel?), or fresh="force" empties it all the same'
            await self._refuse_others("connect(fresh=True)", way_out)
        await self._empty()

    async def _empty(self) -> None:
        self.failures.clear()
        self._dispatch.spare(causes.current_path())
        await on_io(self._session.clear())

    async def _refuse_others(self, call: str, way_out: str) -> None:
        others = await on_io(self._session.others())
        if others:
            who = ", ".join(others)
            raise SpaceInUseError(f'{call}: the space "{self.name}" is in use by {who}; {way_out}')

    async def _fork(self, name: str, *, at: Any = None) -> Space:
        """Make a new space on the same server that starts from the states of this one.

        Its states start at revision 1; it has no events and no handlers, and never becomes the current space.
        This space stays unchanged. Invalid states that other clients have stored are left out and logged.

        Parameters
        ----------
        name : str
            The name of the new space.
        at : datetime, Event or Commit, optional
            Start from the states at that time, as for `at`.

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
        """
        check_name(name, "space")
        states = await self._states(at)
        target, opened = await self._opener(name)
        if target is self or not await target._is_empty():
            if opened:
                await target._close()
            raise SpaceNotEmptyError(
                f'fork: the space "{name}" is not empty; take another name, or drop() it first'
            )
        try:
            await target._refuse_others("fork", "take another name, or close it there first")
        except SpaceInUseError:
            if opened:
                await target._close()
            raise
        try:
            await on_io(target._session.change(self._session.info.options))
            await on_io(target._session.stream.mark_unfinished(self.name))  # until every state is there
            for node, state in states.items():
                await (await target._create_node(node)).state._begin(state)
            await on_io(target._session.stream.mark_unfinished(""))
        except BaseException:
            await target._drop_stream()
            raise
        target._local.clear()
        return target

    fork, afork = faces(_fork)

    async def _is_empty(self) -> bool:
        """Return True if no node has or had a state, and no event is stored."""
        if not self._session.replica.empty():
            return False
        return not await on_io(newest_events(self._session.stream, lambda _: True, limit=1))

    async def _states(self, at: Any) -> dict[str, FrozenDict]:
        if at is not None:
            return states_then(await self._snapshot(at))
        await on_io(self._session.fresh(self._session.timeout))
        return states_now(self._session.replica.cut().nodes.values())

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
        await on_io(self._session.dispatch.close())  # it stores handlings, for which it needs the stream
        await on_io(self._session.stream.drop())
        await self._close()

    drop, adrop = faces(_drop)

    def dashboard(self) -> Dashboard:
        """Show the space in a widget: states, events, failures, a form to send events, and a time slider.

        Returns
        -------
        Dashboard
            An ipywidget.
        """
        from happen_nb._widgets.dashboard.widget import Dashboard

        return Dashboard(self)

    # -- the end ---------------------------------------------------------------------------------------

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
        session = self._open_session
        if session is None or self._closing:
            return
        self._closing = True
        self._receipts.show(on=False)
        try:
            await on_io(session.dispatch.close())  # running handlers may finish, and still commit
            if session.connection.connected:
                for throttle in list(self._throttles):
                    throttle.finish()
        finally:
            self._open_session = None
            for watch in [watch for watches in self._watches.values() for watch in watches]:
                watch.active = False
            self._watches.clear()
            await on_io(session.close())
            self._closed(self)

    close, aclose = faces(_close)

    def _after_fork_in_child(self) -> None:
        """Release the parent's session, which the child must not touch."""
        self._why_closed = ForkedError(
            f'the space "{self.name}" belongs to the parent of this process, which forked: '
            "call connect() in the child"
        )
        self._open_session = None

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


def _describe(tokens: Collection[Work]) -> str:
    """Describe unfinished work: each name once, and how to finish it."""
    names = Counter(token.describe() for token in tokens)
    hints = dict.fromkeys(hint for token in tokens if token.hint is not None and (hint := token.hint()))
    shown = ", ".join(f"{name} ({times:,})" if times > 1 else name for name, times in names.items())
    return "; ".join([shown, *hints])


log = logging.getLogger("happen_nb")


def states_now(records: Iterable[CommitRecord]) -> dict[str, FrozenDict]:
    """Return the states by node; leave out and log invalid ones, which other clients have stored."""
    states: dict[str, FrozenDict] = {}
    for record in records:
        record.check()
        if record.deleted:
            continue
        try:
            states[check_name(record.node, "node")] = record.state
        except (InvalidNameError, StateError) as error:
            log.warning('fork: "%s" is left out, another client stored it: %s', record.node, error)
    return states


def states_then(snapshot: Snapshot) -> dict[str, FrozenDict]:
    """Return the states of a snapshot; raise HistoryGoneError if some are no longer stored."""
    if snapshot.gone:
        gone = ", ".join(snapshot.gone)
        raise HistoryGoneError(f"fork: the states of {gone} at that time are no longer stored")
    return states_now(snapshot.state_of(name).record for name in snapshot)


MAX_NAMED_TYPES = 3  # of other events, in a message


def _instead(refused: int, others: Counter[str]) -> str:
    """Describe the events that came and did not match."""
    found = [f"`where` refused {refused:,} of this type"] if refused else []
    if others:
        types = ", ".join(f'"{type}"' for type, _ in others.most_common(MAX_NAMED_TYPES))
        found.append(
            f"{others.total():,} of other types came: {types}{', …' if len(others) > MAX_NAMED_TYPES else ''}"
        )
    return "".join(f"; {each}" for each in found)


def _check_where(where: object) -> None:
    if where is not None and not callable(where):
        raise TypeError(f"wait_for: where is {quote(where)}; give a function of an event")


def _accepts(where: Callable[[Event], object] | None, event: Event) -> bool:
    return where is None or bool(where(event))


def _matching(pattern: Pattern, records: Sequence[EventRecord]) -> list[EventRecord]:
    """Filter by a predicate. It is the user's code, which never runs on the IO thread."""
    matches = cache(pattern.matches)
    return [record for record in records if matches(record.type)]


async def _effects(session: Session, record: EventRecord, timeout: float | None) -> TraceNode:
    (tree,) = await Effects(session, [record]).trees(timeout)
    return tree


def _whole(session: Session, events: Sequence[EventRecord]) -> Sequence[EventRecord]:
    async def read() -> Sequence[EventRecord]:
        whole: Sequence[EventRecord] = await on_io(with_payloads(session.stream, events))
        return whole

    return run_blocking(read())


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
