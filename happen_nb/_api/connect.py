"""Connecting: which server, which space, and the ones that this process has."""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from happen_nb._api.base import Shown, faces
from happen_nb._api.embedding import Embedding, diagnose_by
from happen_nb._api.node import Node
from happen_nb._api.space import Space
from happen_nb._journal.auth import Credentials
from happen_nb._journal.stream import Options, SpaceInfo, list_spaces
from happen_nb._model import arguments
from happen_nb._model.arguments import check_name
from happen_nb._model.quoting import quote
from happen_nb._runtime.io import on_io
from happen_nb._runtime.session import Session
from happen_nb._server import NatsServer, find_store, join
from happen_nb.errors import HappenTimeoutError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine, Iterable, Mapping
    from pathlib import Path

T = TypeVar("T")


class _Number(int):
    """A default that is equal to the plain number, and is recognized by its identity."""

    __slots__ = ()


class _No(int):
    """The same for False."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "False"


# The defaults of what a space may have already: they say what a new one gets, and change nothing. An explicit
# value does, also an equal one.
RECEIPTS = cast("bool", _No())
REPLICAS: int = _Number(1)
HISTORY: int = _Number(1000)
EVENT_TTL = timedelta(days=7)

TIMEOUT = 5.0
TIMEOUT_REPLICATED = 15.0
JOIN_TIMEOUT = 10.0
"""Seconds that an embedded server may take to start on a slow machine."""
RECONNECT_TIMEOUT = 1.0
"""Seconds in which a connection is back when its server is."""


@dataclass(frozen=True)
class Target:
    """Where to connect to, and how."""

    servers: tuple[str, ...]
    store: Path | None
    sync: Literal["default", "always"]
    credentials: Credentials
    timeout: float

    @property
    def embedded(self) -> bool:
        """Whether the server is one that starts by itself."""
        return not self.servers


@dataclass(eq=False)
class Lease:
    """An embedded server that this process has joined once, for all its spaces there."""

    server: NatsServer
    users: int = 0


class Registry:
    """The spaces of this process; one a server and name."""

    def __init__(self) -> None:
        self.incarnation = secrets.token_hex(6)
        self.spaces: dict[tuple[Target, str], Space] = {}
        self.current: Space | None = None
        self.servers: dict[tuple[Path | None, str], Lease] = {}
        self.opening = asyncio.Lock()
        self.lock = threading.Lock()

    def add(self, target: Target, name: str, space: Space) -> Space:
        """Keep a space, unless the same one is there by another address already."""
        with self.lock:
            self.spaces[target, name] = space
        return space

    async def same(self, session: Session) -> Space | None:
        """A space that is open already, by whatever address; on the IO thread."""
        for space in list(self.spaces.values()):
            other = space._open_session
            if other is not None and other.identity[:2] == session.identity[:2]:
                await other.connection.wait_connected(RECONNECT_TIMEOUT)
                if other.identity == session.identity:
                    return space
        return None

    def remove(self, space: Space) -> None:
        """Forget a space that was closed."""
        with self.lock:
            self.spaces = {key: other for key, other in self.spaces.items() if other is not space}
        if self.current is space:
            self.current = None
        self.leave(None if space.server is None else space.server._embedded)

    async def join(self, target: Target) -> NatsServer:
        """The embedded server of a target, joined or started; `leave` once for each call."""
        key = (target.store, target.sync)
        lease = self.servers.get(key)
        if lease is None:
            lease = self.servers[key] = Lease(await _join(target))
        lease.users += 1
        return lease.server

    def leave(self, server: NatsServer | None) -> None:
        """A space of the server was closed."""
        with self.lock:
            for key, lease in list(self.servers.items()):
                if lease.server is server:
                    lease.users -= 1
                    if not lease.users:
                        del self.servers[key]
                        server.close()

    def after_fork_in_child(self) -> None:
        """The child has no spaces; those that it inherited say so."""
        for space in self.spaces.values():
            space._after_fork_in_child()
        for lease in self.servers.values():
            lease.server.after_fork_in_child()
        self.__init__()  # type: ignore[misc]


registry = Registry()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=registry.after_fork_in_child)


async def _connect(
    servers: str | Iterable[str] | None = None,
    *,
    name: str = "default",
    store: str | os.PathLike[str] | None = None,
    fresh: bool | Literal["force"] = False,
    receipts: bool = RECEIPTS,
    token: str | None = None,
    user: str | None = None,
    password: str | None = None,
    credentials: str | os.PathLike[str] | None = None,
    tls: ssl.SSLContext | None = None,
    replicas: int = REPLICAS,
    history: int = HISTORY,
    event_ttl: timedelta = EVENT_TTL,
    sync: Literal["default", "always"] = "default",
    timeout: float | None = None,
) -> Space:
    """Connect to a space; the same arguments again return the same one.

    `receipts`, `replicas`, `history` and `event_ttl` change a space only where they are given: the defaults
    are those of a new space, and leave an existing one as it is.

    Parameters
    ----------
    servers : str or iterable of str, optional
        NATS URLs, of one server or a cluster. Without them ``$NATS_URL`` if it is set, else the embedded
        server, which starts by itself or is shared if another process has started it.
    name : str, optional
        The space's: 1 to 64 of ``A-Z a-z 0-9 _ -``.
    store : path, optional
        The embedded server's folder. Without it ``$HAPPEN_STORE``, else the nearest ``.happen`` upwards to
        the project's root, else ``./.happen``. ``":memory:"``: private, and nothing is left at the end.
    fresh : bool or "force", optional
        Empty the space, at every such call; refused while another process is connected, unless "force".
    receipts : bool, optional
        Wait at the end of each cell for everything that it caused, and show that below it, in one line that
        unfolds. Interrupting the kernel ends the waiting. False for a new space.
    token, user, password : str, optional
        NATS credentials.
    credentials : path, optional
        A NATS ``.creds`` file.
    tls : ssl.SSLContext, optional
    replicas : int, optional
        How many servers of a cluster keep the space; 1 for a new one.
    history : int, optional
        Commits that are kept per node; 1000 for a new space.
    event_ttl : timedelta, optional
        How long events are kept, a second or more; 7 days for a new space.
    sync : "default" or "always", optional
        When the embedded server writes to disk: within two minutes, or at each commit. Only a loss of
        power makes the difference, not the end of a process.
    timeout : float, optional
        Seconds for each call; 5, or 15 with replicas.

    Raises
    ------
    HappenConnectionError
        Nobody there, wrong credentials, too old a server, one without JetStream; within the timeout.
    SpaceInUseError
        ``fresh``, and another process is connected.

    Examples
    --------
    >>> space = happen.connect(store=":memory:", name="shop")
    >>> space.create_node("orders").state.set({"open": 1}).revision
    1
    >>> space.close()

    >>> async def work():
    ...     async with await happen.aconnect(store=":memory:", name="shop") as space:
    ...         orders = await space.acreate_node("orders", initial={"open": 0})
    ...         return await orders.state.aset(lambda s: {"open": s["open"] + 1})
    >>> happen.run(work()).after
    {'open': 1}
    """
    name = check_name(name, "space")
    if not arguments.is_truth(fresh) and not (isinstance(fresh, str) and fresh == "force"):
        raise ValueError(f'connect: fresh is {quote(fresh)}; give True, False or "force"')
    if timeout is not None:
        timeout = arguments.seconds(timeout, "connect: timeout", above_zero=True)
    if not isinstance(receipts, int):
        raise TypeError(f"connect: receipts is {receipts!r}; give True or False")
    options = _options(
        None if replicas is REPLICAS else replicas,
        None if history is HISTORY else history,
        None if event_ttl is EVENT_TTL else event_ttl,
    )
    proof = Credentials(token, user, password, None if credentials is None else os.fspath(credentials), tls)
    seconds = timeout if timeout is not None else (TIMEOUT_REPLICATED if (replicas or 1) > 1 else TIMEOUT)
    target = _target(servers, store, proof, sync, seconds)
    known = list(registry.spaces.values())
    space = await on_io(_open(target, name, options))
    if fresh:
        try:
            await space._refresh(force=fresh == "force")
        except BaseException:
            if space not in known:  # nobody has it: it would keep others from their own fresh start
                await space._close()
            raise
    if receipts is not RECEIPTS:
        space._receipts.show(on=receipts)
    registry.current = space
    return space


connect, aconnect = faces(_connect)


def _options(replicas: int | None, history: int | None, event_ttl: timedelta | None) -> Options:
    replicas = None if replicas is None else arguments.count(replicas, "connect: replicas", least=1)
    history = None if history is None else arguments.count(history, "connect: history", least=1)
    ttl = None if event_ttl is None else int(arguments.seconds(event_ttl, "connect: event_ttl"))
    if ttl == 0:
        raise ValueError(f"connect: event_ttl is {quote(event_ttl)}; give a timedelta of a second or more")
    return Options(history, ttl, replicas)


def _target(
    servers: str | Iterable[str] | None,
    store: str | os.PathLike[str] | None,
    credentials: Credentials,
    sync: Literal["default", "always"],
    timeout: float,
) -> Target:
    if servers is not None and store is not None:
        raise ValueError("connect: give servers or a store, not both; a store is the embedded server's")
    if sync not in ("default", "always"):
        raise ValueError(f'connect: sync is {sync!r}; give "default" or "always"')
    if servers is None and store is None:
        servers = os.environ.get("NATS_URL")
    if servers:
        urls = servers.split(",") if isinstance(servers, str) else servers
        return Target(tuple(url.strip() for url in urls), None, sync, credentials, timeout)
    return Target((), find_store(store), sync, credentials, timeout)


async def _open(target: Target, name: str, options: Options) -> Space:
    """The space of these arguments; on the IO thread, one at a time."""
    async with registry.opening:
        known = registry.spaces.get((target, name))
        if known is not None:
            await _renew(known, options)
            return known
        server = await registry.join(target) if target.embedded else None
        try:
            session = await _session(target, server, name, options)
        except BaseException:
            registry.leave(server)
            raise
        same = await registry.same(session)
        if same is not None:
            await session.close()
            registry.leave(server)
            return registry.add(target, name, same)
        embedding = None if server is None else Embedding(session, server)

        def closed(space: Space) -> None:
            if embedding is not None:
                embedding.end()
            registry.remove(space)

        async def open_other(other: str) -> tuple[Space, bool]:
            """A space beside this one, and whether it was opened just now."""
            known = list(registry.spaces.values())
            space = await on_io(_open(target, other, Options()))
            return space, space not in known

        return registry.add(target, name, Space(name, session, server, open_other, closed))


async def _renew(space: Space, options: Options) -> None:
    """Store options that were given, and make the space anew if it was dropped meanwhile."""
    session = space._session
    if options == Options() and not session.connection.connected:
        return
    try:
        await session.change(options)
    except HappenTimeoutError:
        if options != Options():
            raise
        return  # the server does not answer now; what this process holds can be read all the same
    if space.server is not None:
        diagnose_by(session, space.server._embedded)


async def _join(target: Target) -> NatsServer:
    loop = asyncio.get_running_loop()
    wait = max(target.timeout, JOIN_TIMEOUT)
    joining = loop.run_in_executor(None, lambda: join(target.store, sync=target.sync, timeout=wait))
    try:
        return await asyncio.shield(joining)
    except asyncio.CancelledError:
        joining.add_done_callback(_leave)
        raise


def _leave(joined: asyncio.Future[NatsServer]) -> None:
    if joined.exception() is None:
        joined.result().close()


async def _session(target: Target, server: NatsServer | None, name: str, options: Options) -> Session:
    servers = target.servers if server is None else (server.url,)
    credentials = target.credentials if server is None else replace(target.credentials, token=server.token)
    return await Session.open(
        servers, credentials, name, options, incarnation=registry.incarnation, timeout=target.timeout
    )


def current() -> Space:
    """Return the space that was connected last; connect to the default one if there is none.

    A fork never becomes the current space, and one that was closed no longer is.

    Examples
    --------
    >>> shop = happen.connect(store=":memory:", name="shop")
    >>> happen.current() is shop
    True
    >>> shop.close()
    """
    return registry.current or connect()


async def _create_node(name: str, *, initial: Mapping[str, Any] | None = None) -> Node:
    """Return a node of the current space; see `Space.create_node`.

    Connects to the default space first if there is none.

    Examples
    --------
    >>> with happen.connect(store=":memory:", name="shop"):
    ...     happen.create_node("orders", initial={"open": 0}).state.get("open")
    0
    """
    return await (registry.current or await _connect())._create_node(name, initial=initial)


create_node, acreate_node = faces(_create_node)


class Spaces(Shown, tuple[SpaceInfo, ...], kind="spaces"):
    """The spaces of a server, by name."""

    __slots__ = ()


async def _spaces() -> Spaces:
    """List the spaces on the current space's server.

    Returns
    -------
    Spaces
        A sequence sorted by name; each has ``.name``, ``.nodes`` (how many have a state), ``.bytes`` (on the
        server's disk) and ``.last_change`` (a datetime in UTC).

    Examples
    --------
    >>> with happen.connect(store=":memory:", name="shop") as shop:
    ...     node = shop.create_node("orders", initial={"open": 0})
    ...     [(each.name, each.nodes) for each in happen.spaces()]
    [('shop', 1)]
    """
    session = (registry.current or await _connect())._session
    return Spaces(await on_io(list_spaces(session.connection, session.timeout)))


spaces, aspaces = faces(_spaces)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine, from a cell or a plain function, also while the kernel's loop runs.

    In a cell ``await`` does the same and is better; this is for functions that are not async.

    Examples
    --------
    >>> async def double(x):
    ...     return 2 * x
    >>> happen.run(double(4))
    8
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    import nest_asyncio2

    nest_asyncio2.apply(loop)
    return loop.run_until_complete(coroutine)
