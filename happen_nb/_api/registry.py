"""The open spaces of this process, and the embedded servers that they use."""

from __future__ import annotations

import asyncio
import os
import secrets
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Literal, NamedTuple

from happen_nb._api.base import runtime_of
from happen_nb._api.space import Space
from happen_nb._journal.addresses import Credentials
from happen_nb._journal.stream import Info, Options
from happen_nb._runtime.io import io_thread, on_io
from happen_nb._runtime.log import Log
from happen_nb._runtime.redirect import instead_of
from happen_nb._runtime.runtime import Runtime
from happen_nb._server import EmbeddedServer, join
from happen_nb._server.store import KnownPosition
from happen_nb.errors import HappenError, HappenTimeoutError

if TYPE_CHECKING:
    from pathlib import Path


JOIN_TIMEOUT_SECONDS = 10.0  # an embedded server starts slowly on a slow machine
SAVE_INTERVAL_SECONDS = 1.0  # of the position of a space
RECONNECT_TIMEOUT_SECONDS = 1.0  # a connection is back within it when its server is


class Target(NamedTuple):
    """The server to connect to, and how."""

    servers: tuple[str, ...]
    store: Path | None
    sync: Literal["default", "always"]
    credentials: Credentials
    timeout: float

    @property
    def embedded(self) -> bool:
        return not self.servers


class Lease:
    """An embedded server that this process has joined once, and the number of its spaces there."""

    def __init__(self, server: EmbeddedServer) -> None:
        self.server = server
        self.users = 0


class Registry:
    """The open spaces of this process: one for each server and name."""

    def __init__(self) -> None:
        self.incarnation = secrets.token_hex(6)
        self.spaces: dict[tuple[Target, str], Space] = {}
        self._connected: dict[Space, None] = {}
        """The open spaces without forks, in the order in which they were last connected."""
        self.closed = ""
        """The name of the space that was the current one, and was closed; until another one is connected."""
        self.servers: dict[tuple[Path | None, str], Lease] = {}
        self.opening = asyncio.Lock()
        self.unsettled: dict[Space, set[Claim]] = {}
        """The spaces that no call has returned yet, with the calls that are to return them."""

    @property
    def current(self) -> Space | None:
        """The most recently connected open space; in code of a fork, the fork."""
        return instead_of(next(reversed(self._connected), None))

    def note_connected(self, space: Space) -> None:
        """Make a space the current one, until another one is connected."""
        self.closed = ""
        self._connected.pop(space, None)
        self._connected[space] = None

    def add(self, target: Target, name: str, space: Space) -> Space:
        self.spaces[target, name] = space
        return space

    async def same(self, log: Log, info: Info) -> Space | None:
        """Return the space that is already open under another address. On the IO thread."""
        server = log.connection.server_id
        for space in list(self.spaces.values()):
            runtime = runtime_of(space)
            if not runtime.is_open or runtime.log.subjects.stream != log.subjects.stream:
                continue
            other = runtime.log
            if other.info.created != info.created and other.connection.server_id == server:
                await other.change(Options())  # it was deleted, and made again
            if other.info.created != info.created:
                continue
            await other.connection.wait_connected(RECONNECT_TIMEOUT_SECONDS)
            if other.connection.server_id == server:  # else it is a copy in another store
                if not other.connection.connected:  # its credentials may have expired
                    other.connection.use_credentials_of(log.connection)
                return space
        return None

    def forget(self, space: Space) -> None:
        """Unregister a space, so that the next call opens it again."""
        for key, other in list(self.spaces.items()):
            if other is space:
                self.spaces.pop(key, None)

    def remove(self, space: Space) -> None:
        """Unregister a closed space, and release its server."""
        self.forget(space)
        if space is next(reversed(self._connected), None):
            self.closed = space.name
        self._connected.pop(space, None)
        self.leave(_embedded_server(space))

    async def join(self, target: Target) -> EmbeddedServer:
        """Join or start the embedded server of a target. Each call needs one `leave`."""
        key = (target.store, target.sync)
        lease = self.servers.get(key)
        if lease is None:
            lease = self.servers[key] = Lease(await _join(target))
        lease.users += 1
        return lease.server

    def leave(self, server: EmbeddedServer | None) -> None:
        """Release the server for one closed space; close it after the last one."""
        for key, lease in list(self.servers.items()):
            if lease.server is server:
                lease.users -= 1
                if not lease.users and self.servers.pop(key, None) is lease:
                    server.close()

    def after_fork_in_child(self) -> None:
        """Start without spaces in a forked child; the inherited ones raise ForkedError."""
        for space in self.spaces.values():
            space._after_fork_in_child()
        self.__init__()  # type: ignore[misc]


class ServerLink:
    """Connects an open space with its embedded server.

    It follows the server to another port, asks it about failures, and saves the position of the space.
    """

    def __init__(self, log: Log, server: EmbeddedServer) -> None:
        self._log = log
        self._server = server
        server.on_moved(self._moved)
        diagnose_by(log, server)
        if self._server.store is not None:
            log.background(self._keep_saving())

    async def warn_of_loss(self) -> None:
        """Log a warning if the space ends before its last known position."""
        stream, last = self._log.stream, self._log.info.last
        if (known := self._known_position()) is None:
            return
        if (
            last
            and self._server.has_repaired(stream.subjects.stream)
            and await stream.get({"seq": last}) is None
        ):
            there = await stream.read(">", headers_only=True)  # `last` counts what it could not read
            last = there[-1].sequence if there else 0
        known.warn_of_loss(self._log.subjects.space, last)

    def close(self) -> None:
        """Disconnect from the server after the space was closed."""
        self._server.off_moved(self._moved)
        self._save()

    def _moved(self, url: str) -> None:
        io_thread().call_soon(self._log.connection.move_to, url)

    def _known_position(self) -> KnownPosition | None:
        if self._server.store is None:
            return None
        return KnownPosition(self._server.store, self._log.subjects.stream, self._log.info.created)

    def _save(self) -> None:
        if (known := self._known_position()) is not None:
            known.update(self._log.replica.position)

    async def _keep_saving(self) -> None:
        saved = 0
        while True:
            if self._log.replica.position != saved:
                saved = self._log.replica.position
                self._save()
            await asyncio.sleep(SAVE_INTERVAL_SECONDS)


def diagnose_by(log: Log, server: EmbeddedServer) -> None:
    """Ask the server for the reason when a call has no answer."""
    log.connection.diagnose = partial(server.diagnose, server.identity)


registry = Registry()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=registry.after_fork_in_child)


class Claim:
    """One call that opens a space, or gets the one that is open.

    If it fails, it closes the space that it has opened, unless another call has it, too.
    """

    def __init__(self) -> None:
        self._space: Space | None = None
        self.is_new = False  # True if this call has opened the space

    @property
    def space(self) -> Space:
        assert self._space is not None
        return self._space

    def take(self, space: Space, *, is_new: bool = False) -> None:
        """Get a space. On the IO thread, while `Registry.opening` is locked."""
        self._space, self.is_new = space, is_new
        if is_new:
            registry.unsettled[space] = {self}
        elif space in registry.unsettled:
            registry.unsettled[space].add(self)

    def keep(self) -> None:
        """Keep the space open, regardless of other calls."""
        registry.unsettled.pop(self.space, None)

    async def give_up(self, *, drop: bool = False) -> None:
        """Close the space, unless it was open before or another call has it; `drop` deletes a new one."""
        if await on_io(self._release(drop=drop)):
            await self.space._close()

    async def _release(self, *, drop: bool) -> bool:
        """Return whether no other call has the space. On the IO thread."""
        async with registry.opening:  # after this call, if it was interrupted
            space = self._space
            callers = None if space is None else registry.unsettled.get(space)
            if space is None or callers is None:
                return False
            callers.remove(self)
            if callers:
                return False
            del registry.unsettled[space]
            registry.forget(space)
            if drop:
                with suppress(HappenError):  # the server does not answer
                    await runtime_of(space).log.stream.drop_new()
            return True


async def open_here(target: Target, name: str, options: Options) -> Claim:
    """Open a space, or get the open one. The caller ends the claim by `keep` or `give_up`."""
    claim = Claim()
    try:
        await on_io(open_space(target, name, options, claim))
    except (KeyboardInterrupt, asyncio.CancelledError):
        await claim.give_up(drop=True)
        raise
    return claim


async def open_space(target: Target, name: str, options: Options, claim: Claim) -> None:
    """Open a space for a claim, or give it the open one. On the IO thread, one at a time."""
    async with registry.opening, AsyncExitStack() as undo:
        known = registry.spaces.get((target, name))
        if known is not None and runtime_of(known).is_open:  # not while it is being closed
            await _renew(known, options)
            claim.take(known)
            return
        server = await registry.join(target) if target.embedded else None
        undo.callback(registry.leave, server)
        runtime, info = await _connect_runtime(target, server, name, options)
        undo.push_async_callback(runtime.close)
        same = await registry.same(runtime.log, info)
        if same is not None:
            claim.take(registry.add(target, name, same))
            return
        await runtime.open(info)
        link = None if server is None else ServerLink(runtime.log, server)
        if link is not None:
            undo.callback(link.close)
            await link.warn_of_loss()

        def closed(space: Space) -> None:
            if link is not None:
                link.close()
            registry.remove(space)
            runtime.on_closed.emit()

        async def open_other(other: str) -> Claim:
            """Open another space on the same server."""
            return await open_here(target, other, Options())

        space = Space(name, runtime, server, open_other, closed)
        claim.take(registry.add(target, name, space), is_new=True)
        undo.pop_all()


async def _renew(space: Space, options: Options) -> None:
    """Store the options that were passed, and create the space again if it was dropped meanwhile."""
    log = runtime_of(space).log
    if options == Options() and not log.connection.connected:
        return
    try:
        await log.change(options)
    except HappenTimeoutError:
        if options != Options():
            raise
        return  # the server does not answer now, but the states in memory can still be read
    if (server := _embedded_server(space)) is not None:
        diagnose_by(log, server)


def _embedded_server(space: Space) -> EmbeddedServer | None:
    return None if space.server is None else space.server._embedded


async def _join(target: Target) -> EmbeddedServer:
    loop = asyncio.get_running_loop()
    wait = max(target.timeout, JOIN_TIMEOUT_SECONDS)
    joining = loop.run_in_executor(None, lambda: join(target.store, sync=target.sync, timeout=wait))
    try:
        return await asyncio.shield(joining)
    except asyncio.CancelledError:
        joining.add_done_callback(_leave)
        raise


def _leave(joined: asyncio.Future[EmbeddedServer]) -> None:
    if joined.exception() is None:
        joined.result().close()


async def _connect_runtime(
    target: Target, server: EmbeddedServer | None, name: str, options: Options
) -> tuple[Runtime, Info]:
    servers = target.servers if server is None else (server.url,)
    credentials = target.credentials if server is None else target.credentials._replace(token=server.token)
    return await Runtime.connect(
        servers, credentials, name, options, incarnation=registry.incarnation, timeout=target.timeout
    )
