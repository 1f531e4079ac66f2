"""A space: a named, isolated system of nodes on one server; and the embedded server."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from happen_nb._api.base import Displayable, Timeout, faces, refuse_in_callback, shown_by
from happen_nb._api.emit import Sender
from happen_nb._api.failures import Failures
from happen_nb._api.forks import SpaceForks
from happen_nb._api.handlers import HandlerHost
from happen_nb._api.node import Node, Nodes
from happen_nb._api.pausing import SpacePause
from happen_nb._api.pictures import SpacePictures
from happen_nb._api.plotting import SpacePlots
from happen_nb._api.reading import SpaceReading
from happen_nb._api.receipts import Receipts
from happen_nb._api.recording import SpaceRecording
from happen_nb._api.replay import SpaceReplay
from happen_nb._api.rerun import SpaceRerun
from happen_nb._api.schedule import SpaceClock
from happen_nb._api.state_writer import StateWriter
from happen_nb._api.unhandled import Facts
from happen_nb._api.views import NodeStates, Views
from happen_nb._model import arguments
from happen_nb._model.arguments import RESERVED, check_name
from happen_nb._model.freeze import freeze_initial
from happen_nb._model.records import CommitRecord
from happen_nb._runtime import causes
from happen_nb._runtime.effects import notice_held
from happen_nb._runtime.in_flight import Wait, describe_works
from happen_nb._runtime.io import on_io
from happen_nb._runtime.redirect import Redirected
from happen_nb._server import EmbeddedServer
from happen_nb.errors import ClosedError, ForkedError, HappenTimeoutError, SpaceInUseError

if TYPE_CHECKING:
    from happen_nb._api.registry import Claim
    from happen_nb._runtime.runtime import Runtime
    from happen_nb._widgets.dashboard import Dashboard

T = TypeVar("T")
logger = logging.getLogger("happen_nb")


class NatsServer(Displayable):
    """The embedded nats-server, ``space.server``. It starts automatically and stops after its last client.

    Examples
    --------
    >>> space.server.running
    True
    """

    _page = shown_by("reprs_state.server_page")
    _pickle = "pickle its url and token, and give them to connect() in the other process"

    def __init__(self, embedded: EmbeddedServer) -> None:
        self._embedded = embedded

    @property
    def url(self) -> str:
        """The URL at which it listens, on this machine only."""
        return self._embedded.url

    @property
    def token(self) -> str:
        """The token that another client needs to connect."""
        return self._embedded.token

    @property
    def store(self) -> Path | None:
        """The folder of its data; None if it stores nothing on disk."""
        return self._embedded.store

    @property
    def running(self) -> bool:
        """True if it is answering."""
        return self._embedded.running

    @property
    def pid(self) -> int | None:
        """The id of its process; None while it does not answer. A killed server is restarted."""
        return self._embedded.pid

    @property
    def log(self) -> str:
        """The last part of its log."""
        return self._embedded.log


class Space(
    Displayable,
    Sender,
    SpaceClock,
    SpaceReading,
    SpacePictures,
    SpacePlots,
    SpaceRecording,
    SpaceReplay,
    SpaceForks,
    SpaceRerun,
    SpacePause,
):
    """A named, isolated system of nodes on one NATS server or cluster; made by ``connect``.

    Attributes
    ----------
    server : NatsServer or None
        The embedded server; None for another server.

    Examples
    --------
    >>> with happen.connect(store=":memory:", name="example") as shop:
    ...     shop.create_node("orders", initial={"open": 0}).state.get("open")
    0
    """

    _page = shown_by("reprs_state.space_page")
    _pickle = "call connect() in the other process"

    _sender = RESERVED
    _closed = Redirected["Callable[[Space], None]"]()
    _receipts = Redirected[Receipts]()

    def __init__(
        self,
        name: str,
        runtime: Runtime,
        server: EmbeddedServer | None,
        opener: Callable[[str], Coroutine[Any, Any, Claim]],
        closed: Callable[[Space], None],
    ) -> None:
        self.server = None if server is None else NatsServer(server)
        self._name = name
        self._facts = Facts()
        self._runtime = runtime
        self._opener = opener
        self._closed = closed
        self._is_dropped = False
        self._nodes = {}
        self._receipts = Receipts(runtime, self._facts)
        self._views = Views(self, NodeStates(runtime))
        self._failures = Failures(self._views)
        runtime.dispatcher.host = HandlerHost(self, runtime, self._nodes)

    # Former names of the runtime, for scripts that look inside a space.

    @property
    def _session(self) -> Runtime:
        return self._runtime.checked

    @property
    def _open_session(self) -> Runtime | None:
        return self._runtime if self._runtime.is_open else None

    @property
    def nodes(self) -> Mapping[str, Node]:
        """The nodes that this process has created, by name."""
        return Nodes(self._space, self._runtime, self._nodes)

    async def _create_node(self, name: str, *, initial: Mapping[str, Any] | None = None) -> Node:
        """Create a node, or return the existing one of that name.

        Parameters
        ----------
        name : str
            Name of the node: 1 to 64 of ``A-Z a-z 0-9 _ -``.
        initial : mapping, optional
            The initial state, committed only if the node has no state. Otherwise it is ignored, and a notice
            names the node's revision.

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
        name, space = check_name(name, "node"), self._space
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
        """Log that an initial state was ignored: the node had one, or another process was first."""
        record = self._log.replica.newest(name)
        if record is None or record.deleted:
            return
        first = before is None or before.deleted
        own = (record.id or "").startswith(self._log.address)
        if not first or (not own and record.revision == (0 if before is None else before.revision) + 1):
            logger.warning(
                'create_node: ignored initial: node "%s" is at revision %s; '
                "connect(fresh=True) empties the space",
                name,
                f"{record.revision:,}",
            )

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
            Called in a handler or callback, where it would wait for itself.

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
            notice_held(self._runtime)
            return
        try:
            wait = Wait(in_flight, pending.includes, deadline)
            left = await self._runtime.dispatcher.waits(wait)
        except KeyboardInterrupt as stop:
            works = in_flight.pending().works
            stop.add_note(f"settle: still running: {describe_works(works)}" if works else "settle: done")
            raise
        if left:
            raise HappenTimeoutError(f"settle: still running after {seconds:g} s: {describe_works(left)}")
        notice_held(self._runtime)

    settle, asettle = faces(_settle, refuse=("space.settle()", "call it in a cell"))

    async def _clear(self, *, force: bool = False) -> None:
        """Delete states, events and history, for every process in the space. Nodes and handlers stay.

        Parameters
        ----------
        force : bool, optional
            Empty the space even while other processes are connected.

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
        if not arguments.truth(force, "clear: force"):
            await self._refuse_others("clear", "clear(force=True) empties it anyway")
        await self._empty()

    clear, aclear = faces(_clear)

    async def _refresh(self, clock: Callable[[], str | None] | None = None, *, force: bool) -> None:
        """Empty the space for ``connect(fresh=True)``; `clock` returns the time of a new clock."""
        if not force:
            way_out = 'end it (another notebook\'s kernel?), or fresh="force" empties it anyway'
            await self._refuse_others("connect(fresh=True)", way_out)
        await self._empty(clock)
        for registration in self._runtime.registrations.all():
            registration.before_fresh = True

    async def _empty(self, clock: Callable[[], str | None] | None = None) -> None:
        self.failures.clear()
        self._runtime.dispatcher.spare(causes.current_path())
        runtime = self._runtime.checked
        await on_io(runtime.clear(clock))
        await on_io(runtime.dispatcher.ticks.all_scheduled(runtime.deadline()))  # `scheduled` lists them

    async def _refuse_others(self, call: str, way_out: str) -> None:
        others = await on_io(self._runtime.checked.peers.others())
        if others:
            processes = ", ".join(others)
            raise SpaceInUseError(f'{call}: the space "{self.name}" is in use by {processes}; {way_out}')

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
        if self._is_dropped and not self._runtime.is_open:
            return  # an interrupt came after the deletion
        try:
            await self._refuse_others("drop", "close it there first")
            await self._drop_stream()
        except (KeyboardInterrupt, asyncio.CancelledError) as interrupt:
            if not self._is_dropped:
                interrupt.add_note(f'the space "{self.name}" is not dropped yet; call drop() again')
            raise

    async def _drop_stream(self) -> None:
        # The dispatcher first: it still stores handlings, for which it needs the stream.
        await on_io(self._runtime.checked.dispatcher.close())
        self._is_dropped = True
        try:
            await on_io(self._log.stream.drop())
        except (KeyboardInterrupt, asyncio.CancelledError):  # the server deletes it all the same
            await self._close()
            raise
        await self._close()

    drop, adrop = faces(_drop)

    async def _discard(self, why: str) -> None:
        """Delete the space of a fork that belongs to an object which has ended; `why` is in later errors."""
        runtime = self._runtime
        if not runtime.is_open or runtime.is_closing:
            return
        runtime.is_closing = self._is_dropped = True
        self._receipts.show(on=False)
        runtime.on_closing.emit()
        runtime.shut(ClosedError(why))
        try:
            await on_io(runtime.discard())
        finally:
            self._closed(self._space)

    def dashboard(self) -> Dashboard:
        """Show the space in a widget: states, events, failures, a form to send events, and a time slider.

        Returns
        -------
        Dashboard
            An ipywidget.
        """
        from happen_nb._widgets.dashboard import Dashboard

        return Dashboard(self._space)

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
        happen_nb.errors.ClosedError: the space "shop" was closed; connect again, and create its nodes again
        """
        runtime = self._runtime
        if not runtime.is_open or runtime.is_closing or sys.is_finalizing():
            return
        runtime.is_closing = True
        self._receipts.show(on=False)
        dropped = ClosedError(f'the space "{self.name}" was dropped; connect again to create it')
        try:
            await on_io(runtime.dispatcher.close())  # running handlers may finish, and still commit
            if runtime.log.connection.connected:
                runtime.on_closing.emit()
        finally:
            try:
                runtime.shut(dropped if self._is_dropped else None)
                await on_io(runtime.close())
            finally:  # also if it was interrupted: the next connect() opens the space again
                self._closed(self._space)

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

    def __exit__(self, *_error: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.aclose()
