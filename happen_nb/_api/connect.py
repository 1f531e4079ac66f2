"""Connect to a space, and find the current one."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
from collections.abc import Coroutine, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from happen_nb._api.base import (
    MAX_INT64,
    Displayable,
    Timeout,
    explain_coroutines,
    faces,
    runtime_of,
    shown_by,
)
from happen_nb._api.forks import start_from
from happen_nb._api.node import Node
from happen_nb._api.recording import Recording, read_recording
from happen_nb._api.registry import Target, open_here, registry
from happen_nb._api.space import Space
from happen_nb._journal.addresses import Credentials
from happen_nb._journal.presence import SpaceInfo, list_spaces
from happen_nb._journal.publish import RefusedError
from happen_nb._journal.stream import Options
from happen_nb._model import arguments
from happen_nb._model.arguments import check_name
from happen_nb._model.quoting import quote
from happen_nb._model.schedules import START, utc_text
from happen_nb._runtime.cells import cells, notice
from happen_nb._runtime.io import on_io
from happen_nb._server.store import find_store
from happen_nb.errors import ClockError

if TYPE_CHECKING:
    import ssl

    from happen_nb._model.frozen import FrozenDict

T = TypeVar("T")


class _Number(int):
    """A default that equals the plain number and is recognized by its identity."""

    __slots__ = ()


class _False(int):
    __slots__ = ()

    def __repr__(self) -> str:
        return "False"


# Defaults for new spaces. They never change an existing space; an explicit argument does, even an equal one.
RECEIPTS = cast("bool", _False())
REPLICAS: int = _Number(1)
HISTORY: int = _Number(1000)
EVENT_TTL = timedelta(days=7)
MAX_REPLICAS = 5  # of JetStream
TIMEOUT_SECONDS = 5.0
REPLICATED_TIMEOUT_SECONDS = 15.0


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
    timeout: Timeout = None,
    clock: Literal["real", "manual"] | None = None,
    now: datetime | None = None,
) -> Space:
    """Connect to a space; the same arguments return the same `Space`.

    `receipts`, `replicas`, `history` and `event_ttl` change an existing space only if they are passed; their
    defaults apply to new spaces.

    Parameters
    ----------
    servers : str or iterable of str, optional
        NATS URLs of one server or a cluster. By default ``$NATS_URL`` if it is set, otherwise the embedded
        server. It starts automatically, or is shared with the processes that already use it.
    name : str, optional
        Name of the space: 1 to 64 of ``A-Z a-z 0-9 _ -``.
    store : path, optional
        Folder of the embedded server. By default ``$HAPPEN_STORE``, otherwise the nearest ``.happen`` from
        here up to the project root, otherwise ``./.happen``. ``":memory:"`` is private to this process and
        leaves nothing behind.
    fresh : bool or "force", optional
        Empty the space each time. Refused while another process is connected, unless "force".
    receipts : bool, optional
        After each cell, wait for everything that it caused, and show it below the cell in one collapsible
        line. Interrupting the kernel ends the wait. False for a new space.
    token, user, password : str, optional
        NATS credentials. The embedded server creates its own token; it ignores these and the next two
        arguments, and shows a notice.
    credentials : path, optional
        A NATS ``.creds`` file.
    tls : ssl.SSLContext, optional
        TLS settings of the connection.
    replicas : int, optional
        Number of servers of a cluster that store the space; 1 for a new space.
    history : int, optional
        Number of commits to keep for each node; 1000 for a new space.
    event_ttl : timedelta, optional
        Time to keep events, one second or more; 7 days for a new space.
    sync : "default" or "always", optional
        When the embedded server writes to disk: within two minutes, or at each commit. This matters only
        for a power failure, not when a process is killed.
    timeout : float or timedelta, optional
        Timeout of each call in seconds; 5, or 15 with replicas.
    clock : "real" or "manual", optional
        The clock of the space. A manual one stands still until ``space.advance``, for all processes. By
        default, a space keeps its clock, and a new one has the real clock.
    now : datetime, optional
        Start of a new manual clock; 2000-01-01 00:00 UTC by default, so that each run is the same. A naive
        datetime is local time. An existing clock keeps its time, with a notice; `fresh` restarts it.

    Returns
    -------
    Space
        The open space, which becomes the `current` one.

    Raises
    ------
    HappenConnectionError
        The server cannot be reached within the timeout, refuses the credentials, is too old, or has no
        JetStream.
    SpaceInUseError
        `fresh` is True and another process is connected.
    ClockError
        The space has another clock; `fresh` starts a new one.

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
    start = _clock_start(clock, now)
    if not arguments.is_truth(fresh) and not (isinstance(fresh, str) and fresh == "force"):
        raise ValueError(f'connect: fresh is {quote(fresh)}; pass True, False or "force"')
    if timeout is not None:
        timeout = arguments.seconds(timeout, "connect: timeout", above_zero=True)
    if receipts is not RECEIPTS:
        receipts = arguments.truth(receipts, "connect: receipts")
    options = _options(
        None if replicas is REPLICAS else replicas,
        None if history is HISTORY else history,
        None if event_ttl is EVENT_TTL else event_ttl,
    )
    proof = Credentials(
        _text(token, "token"),
        _text(user, "user"),
        _text(password, "password"),
        _path(credentials, "credentials"),
        tls,
    )
    default = REPLICATED_TIMEOUT_SECONDS if (replicas or 1) > 1 else TIMEOUT_SECONDS
    seconds = default if timeout is None else timeout
    target = _target(servers, store, proof, sync, seconds)
    if target.embedded and (options.replicas or 1) > 1:
        raise ValueError(
            f"connect: replicas is {options.replicas}, but the embedded server is a single one; "
            "pass the servers of a cluster"
        )
    claim = await open_here(target, name, options)
    space = claim.space
    try:
        if fresh:
            await space._refresh(None if clock is None else lambda: start, force=fresh == "force")
        elif clock is not None:
            await _check_clock(space, start, is_given=now is not None)
    except BaseException:
        await claim.give_up()  # left open, it would keep others from their own fresh start
        raise
    claim.keep()
    if claim.is_new and space.paused is not None:
        notice(
            f'the space "{name}" is paused: space.held lists the waiting events, space.resume() releases them'
        )
    _notice_unused(target, proof)
    if receipts is not RECEIPTS:
        space._receipts.show(on=receipts)
    registry.note_connected(space)
    cells.follow_runs()
    explain_coroutines()
    return space


connect, aconnect = faces(_connect)


def _clock_start(clock: Any, now: Any) -> str | None:
    """Return the time at which a manual clock starts; None for a real one."""
    if clock is not None and not (isinstance(clock, str) and clock in ("real", "manual")):
        raise ValueError(f'connect: clock is {quote(clock)}; pass "real" or "manual"')
    if now is not None and clock != "manual":
        raise ValueError('connect: now sets the start of a manual clock; also pass clock="manual"')
    if clock != "manual":
        return None
    return START if now is None else utc_text(arguments.moment(now, "connect: now"))


async def _check_clock(space: Space, start: str | None, *, is_given: bool) -> None:
    """Start a manual clock in a new space; refuse a clock of the other kind in an existing one."""
    runtime = runtime_of(space)
    if start is not None and not runtime.clock.manual and runtime.log.position == 0:
        with contextlib.suppress(RefusedError):  # another process was faster
            await on_io(runtime.clock.start(start, runtime.deadline()))
        await on_io(runtime.log.fresh(runtime.log.timeout))
    if runtime.clock.manual != (start is not None):
        has, wanted = ("manual", "real") if runtime.clock.manual else ("real", "manual")
        raise ClockError(
            f'connect: the space "{space.name}" has a {has} clock; connect(clock="{wanted}", fresh=True) '
            f"empties the space and starts a {wanted} clock"
        )
    if start is not None and is_given and runtime.clock.now_text() != start:
        notice(
            f'connect: ignored now=: the clock of the space "{space.name}" is at {space.now}; '
            "connect(fresh=True) empties the space and starts the clock at that time"
        )


def _options(replicas: int | None, history: int | None, event_ttl: timedelta | None) -> Options:
    replicas = (
        None
        if replicas is None
        else arguments.count(replicas, "connect: replicas", least=1, most=MAX_REPLICAS)
    )
    kept = None if history is None else min(arguments.count(history, "connect: history", least=1), MAX_INT64)
    ttl = None if event_ttl is None else int(arguments.seconds(event_ttl, "connect: event_ttl"))
    if ttl == 0:
        raise ValueError(f"connect: event_ttl is {quote(event_ttl)}; pass a timedelta of a second or more")
    return Options(kept, ttl, replicas)


def _target(
    servers: str | Iterable[str] | None,
    store: str | os.PathLike[str] | None,
    credentials: Credentials,
    sync: Literal["default", "always"],
    timeout: float,
) -> Target:
    if servers is not None and store is not None:
        raise ValueError("connect: pass servers or a store, not both; a store belongs to the embedded server")
    if not isinstance(sync, str) or sync not in ("default", "always"):
        raise ValueError(f'connect: sync is {quote(sync)}; pass "default" or "always"')
    if servers is None and store is None:
        servers = os.environ.get("NATS_URL") or None
    if servers is not None:
        return Target(_urls(servers), None, sync, credentials, timeout)
    return Target((), find_store(_path(store, "store")), sync, Credentials(), timeout)


def _notice_unused(target: Target, proof: Credentials) -> None:
    unused = [name for name, value in proof._asdict().items() if value is not None]
    if target.embedded and unused:
        notice(
            f"connect: ignored {', '.join(unused)}: the embedded server creates its own token; pass servers "
            "to connect to your own server"
        )


def _urls(servers: str | Iterable[str]) -> tuple[str, ...]:
    given = servers.split(",") if isinstance(servers, str) else servers
    urls = tuple(given) if isinstance(given, Iterable) else (given,)
    if not all(isinstance(url, str) for url in urls):
        raise TypeError(f"connect: servers is {quote(servers)}; pass one NATS URL or several")
    found = tuple(url.strip() for url in urls if url.strip())
    if not found:  # such as that of a variable that is not set
        raise ValueError(
            "connect: servers is empty; pass one NATS URL or several, or leave it out for the embedded server"
        )
    return found


def _text(text: str | None, what: str) -> str | None:
    if text is not None and not isinstance(text, str):
        raise TypeError(f"connect: {what} is {quote(text)}; pass a string")
    return text


def _path(path: str | os.PathLike[str] | None, what: str) -> str | None:
    return None if path is None else arguments.path(path, f"connect: {what}")


def current() -> Space:
    """Return the most recently connected open space; connect to the default one if there is none.

    A fork never becomes the current space.

    Examples
    --------
    >>> shop = happen.connect(store=":memory:", name="shop")
    >>> happen.current() is shop
    True
    >>> shop.close()
    """
    closed = registry.closed
    return _instead_of(closed, registry.current or connect())


async def _current() -> Space:
    closed = registry.closed
    return _instead_of(closed, registry.current or await _connect())


def _instead_of(closed: str, space: Space) -> Space:
    """Return the current space; show a notice, once, if another one was closed that was the current one."""
    registry.closed = ""
    if closed not in ("", space.name):
        notice(f'the space "{closed}" is closed; the current space is "{space.name}"')
    return space


async def _create_node(name: str, *, initial: Mapping[str, Any] | None = None) -> Node:
    """Return a node of the current space; see `Space.create_node`.

    Connects to the default space first if there is none.

    Examples
    --------
    >>> with happen.connect(store=":memory:", name="shop"):
    ...     happen.create_node("orders", initial={"open": 0}).state.get("open")
    0
    """
    return await (await _current())._create_node(name, initial=initial)


create_node, acreate_node = faces(_create_node)


class Spaces(Displayable, tuple[SpaceInfo, ...]):
    """The spaces of a server: a tuple of `SpaceInfo`, sorted by name."""

    _page = shown_by("reprs_state.spaces_page")
    __slots__ = ()


async def _spaces() -> Spaces:
    """List the spaces on the current space's server.

    Returns
    -------
    Spaces
        A sequence sorted by name. Each item has ``.name``, ``.nodes`` (the number of nodes with a state),
        ``.bytes`` (on the server's disk) and ``.last_change`` (a datetime in UTC; None if nothing was stored
        yet).

    Examples
    --------
    >>> with happen.connect(store=":memory:", name="shop") as shop:
    ...     node = shop.create_node("orders", initial={"open": 0})
    ...     [(each.name, each.nodes) for each in happen.spaces()]
    [('shop', 1)]
    """
    log = runtime_of(await _current()).log
    return Spaces(await on_io(list_spaces(log.connection, log.timeout)))


spaces, aspaces = faces(_spaces)


def recorded(path: str | os.PathLike[str]) -> Recording:
    """Read the recording in a file that ``space.record`` has written.

    Parameters
    ----------
    path : str or path
        The file; ``.html`` may be left out.

    Returns
    -------
    Recording
        It has ``.events()``, ``.journal()``, ``.at(...)`` and ``.fork(name)``.

    Raises
    ------
    ValueError
        The file is not a recording, or a later version of happen_nb wrote it.
    OSError
        The file cannot be read.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> event = orders.broadcast("order.paid", {"id": "o1"})
    >>> file = space.record().save(mkdtemp() + "/shop.html")
    >>> [event.payload for event in happen.recorded(file).events()]
    [{'id': 'o1'}]
    """
    return read_recording(path, _start_space)


async def _start_space(name: str, states: Mapping[str, FrozenDict], clock: str | None) -> Space:
    return await start_from(await _current(), name, states, clock)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine and return its result, even while the kernel's event loop is running.

    Use it in plain functions; in a cell or an async function, use ``await``.

    Examples
    --------
    >>> async def double(x):
    ...     return 2 * x
    >>> happen.run(double(4))
    8
    """
    if not inspect.isawaitable(coroutine):
        raise TypeError(f"run: {quote(coroutine)} is not a coroutine; call an async function: run(work())")
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    import nest_asyncio2

    nest_asyncio2.apply(loop)
    return loop.run_until_complete(coroutine)
