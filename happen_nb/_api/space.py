"""A space: a named, isolated system of nodes on one server."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from happen_nb._api.base import Displayable, faces
from happen_nb._api.emit import Sender
from happen_nb._api.facts import Facts
from happen_nb._api.failures import Failures
from happen_nb._api.forking import states_now, states_then
from happen_nb._api.handlers import Hosting
from happen_nb._api.node import Node, Nodes
from happen_nb._api.pictures import Pictures
from happen_nb._api.readings import Timeout, refuse_in_callback
from happen_nb._api.receipts import Receipts
from happen_nb._api.replay import Replaying
from happen_nb._api.server import NatsServer
from happen_nb._api.views import Views
from happen_nb._display.reprs_state import space_page
from happen_nb._journal.slice import newest_headers
from happen_nb._model import arguments
from happen_nb._model.arguments import RESERVED, check_name
from happen_nb._model.freeze import freeze_initial
from happen_nb._runtime import causes
from happen_nb._runtime.io import io_thread, on_io
from happen_nb._runtime.tracebacks import to_raise
from happen_nb.errors import (
    ClosedError,
    ForkedError,
    HappenTimeoutError,
    SpaceInUseError,
    SpaceNotEmptyError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Coroutine
    from types import TracebackType
    from typing import Self

    from happen_nb._api.watch import Watch
    from happen_nb._model.frozen import FrozenDict
    from happen_nb._model.records import CommitRecord
    from happen_nb._runtime.effects import Work
    from happen_nb._runtime.replica import Applied
    from happen_nb._runtime.runtime import Runtime
    from happen_nb._server import EmbeddedServer
    from happen_nb._widgets.dashboard.widget import Dashboard
    from happen_nb._widgets.throttle import Throttle

log = logging.getLogger("happen_nb")


class Space(Displayable, Sender, Pictures, Replaying):
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
        runtime: Runtime,
        server: EmbeddedServer | None,
        opener: Callable[[str], Coroutine[Any, Any, tuple[Space, bool]]],
        closed: Callable[[Space], None],
    ) -> None:
        self.name = name
        self.server = None if server is None else NatsServer(server)
        self.failures = Failures()
        self.facts = Facts()
        self._runtime = runtime
        self._is_open = True
        self._closing = False
        self._why_closed: Exception = ClosedError(f'the space "{name}" was closed; connect again')
        self._opener = opener
        self._closed = closed
        self._nodes: dict[str, Node] = {}
        self._local: dict[str, CommitRecord | None] = {}
        self._emits_as = self, RESERVED
        runtime.dispatcher.host = Hosting(self)
        self._watches: dict[str, list[Watch]] = {}
        self._throttles: dict[Throttle, None] = {}
        self._receipts = Receipts(self)
        self.views = Views(self)
        io_thread().call_soon(runtime.log.replica.on_commit.connect, self._heard)

    @property
    def _open_runtime(self) -> Runtime:
        """The runtime; raises if the space is closed."""
        if not self._is_open:
            raise to_raise(self._why_closed)
        return self._runtime

    # -- nodes ---------------------------------------------------------------------------------------

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
        newest = self._log.replica.newest(name)
        if state is not None:
            await node.state._begin(state)
            self._notice_unused(name, newest)
        self._local[name] = newest
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

    # -- following -----------------------------------------------------------------------------------

    def _heard(self, applied: Applied) -> None:
        """Hand a commit to the node's watches. On the IO thread."""
        for watch in self._watches.get(applied.record.node, ()):
            watch._take(applied)

    def _watch(self, watch: Watch) -> None:
        name = watch.node.name
        self._log  # noqa: B018 - a closed space has no watches
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
        in_flight = self._open_runtime.in_flight
        try:
            left = await in_flight.wait(in_flight.pending(), deadline)
        except KeyboardInterrupt as stop:
            works = in_flight.pending().works
            stop.add_note(f"settle: still running: {_names(works)}" if works else "settle: all is done")
            raise
        if left:
            raise HappenTimeoutError(f"settle: still running after {seconds:g} s: {_names(left)}")

    settle, asettle = faces(_settle, refuse=("space.settle()", "nothing: handlers are what it waits for"))

    def _deadline(self) -> float:
        """Return the deadline of a call that starts now."""
        return time.monotonic() + self._log.timeout

    # -- the whole space -----------------------------------------------------------------------------

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
        self._runtime.dispatcher.spare(causes.current_path())
        await on_io(self._open_runtime.clear())

    async def _refuse_others(self, call: str, way_out: str) -> None:
        others = await on_io(self._open_runtime.peers.others())
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
            await on_io(target._log.change(self._log.info.options))
            await on_io(target._log.stream.mark_unfinished(self.name))  # until every state is there
            for node, state in states.items():
                await (await target._create_node(node)).state._begin(state)
            await on_io(target._log.stream.mark_unfinished(""))
        except BaseException:
            await target._drop_stream()
            raise
        target._local.clear()
        return target

    fork, afork = faces(_fork)

    async def _is_empty(self) -> bool:
        """Return True if no node has or had a state, and no event is stored."""
        if not self._log.replica.empty():
            return False
        return not await on_io(newest_headers(self._log.stream, lambda _: True, limit=1))

    async def _states(self, at: Any) -> dict[str, FrozenDict]:
        if at is not None:
            return states_then(await self._moment(at))
        await on_io(self._log.fresh(self._log.timeout))
        return states_now(self._log.replica.cut().nodes.values())

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
        await on_io(self._open_runtime.dispatcher.close())  # it stores records, for which it needs the stream
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
        from happen_nb._widgets.dashboard.widget import Dashboard

        return Dashboard(self)

    # -- the end -------------------------------------------------------------------------------------

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
        if not self._is_open or self._closing:
            return
        self._closing = True
        self._receipts.show(on=False)
        try:
            await on_io(runtime.dispatcher.close())  # running handlers may finish, and still commit
            if runtime.log.connection.connected:
                for throttle in list(self._throttles):
                    throttle.finish()
        finally:
            self._is_open = False
            for watch in [watch for watches in self._watches.values() for watch in watches]:
                watch.active = False
            self._watches.clear()
            await on_io(runtime.close())
            self._closed(self)

    close, aclose = faces(_close)

    def _after_fork_in_child(self) -> None:
        """Release the parent's runtime, which the child must not touch."""
        self._why_closed = ForkedError(
            f'the space "{self.name}" belongs to the parent of this process, which forked: '
            "call connect() in the child"
        )
        self._is_open = False

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


def _names(tokens: Collection[Work]) -> str:
    """Describe unfinished work: each name once, and how to finish it."""
    names = Counter(token.describe() for token in tokens)
    hints = dict.fromkeys(hint for token in tokens if token.hint is not None and (hint := token.hint()))
    shown = ", ".join(f"{name} ({times:,})" if times > 1 else name for name, times in names.items())
    return "; ".join([shown, *hints])
