"""Waiting until something happens, and signals that report it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any, Final, Generic, ParamSpec, Protocol

P = ParamSpec("P")

POLL_SECONDS: Final = 0.01  # seconds between checks of something that nothing reports
RETRY_SECONDS: Final = 0.5  # seconds to wait after a failed read


def seconds_left(deadline: float) -> float:
    """Return the seconds until a deadline by ``time.monotonic()``, never less than a moment."""
    return max(0.001, deadline - time.monotonic())


async def within(timeout: float, future: asyncio.Future[Any]) -> bool:
    """Wait for a future; False if it takes longer than `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            await future
    except TimeoutError:
        return False
    return True


class Signal(Generic[P]):
    """Listeners that are called one after the other, in the order in which they were added.

    Any thread may add and remove them.
    """

    __slots__ = ("_listeners",)

    def __init__(self) -> None:
        self._listeners: dict[object, Callable[P, object]] = {}

    def __len__(self) -> int:
        return len(self._listeners)

    def connect(self, listener: Callable[P, object]) -> Callable[[], None]:
        """Call `listener` each time from now on; return a function that ends this."""
        key = object()
        self._listeners[key] = listener

        def disconnect() -> None:
            self._listeners.pop(key, None)

        return disconnect

    def emit(self, *args: P.args, **kwargs: P.kwargs) -> None:
        for listener in list(self._listeners.values()):
            listener(*args, **kwargs)


class Closing:
    """A closing that happens once, and continues if an awaiting caller is interrupted. On the IO thread."""

    def __init__(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._work = work
        self._task: asyncio.Task[None] | None = None

    @property
    def begun(self) -> bool:
        return self._task is not None

    async def run(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._work())
        await asyncio.shield(self._task)


# -- handlers that wait, and the clock -----------------------------------------------------------------------


class HandlerWait(Protocol):
    """A wait of a handler: for a time, for a reply, or for other handlers."""

    @property
    def idle(self) -> bool:
        """True while it may last until a manual clock moves on."""


class NewsWait:
    """The wait of a handler for events or commits, which may come only when a manual clock moves on."""

    def __init__(self, on_change: Callable[[], object]) -> None:
        self.idle = False
        self._on_change = on_change

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Be idle inside this block, until `end` is called. On the IO thread."""
        self._note(idle=True)
        try:
            yield
        finally:
            self.end()

    def end(self) -> None:
        """Note that something has come. On the IO thread."""
        self._note(idle=False)

    def _note(self, *, idle: bool) -> None:
        if idle != self.idle:
            self.idle = idle
            self._on_change()


class Waiters:
    """The waiters for one thing. On the IO thread."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], NewsWait | None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, timeout: float, handler: NewsWait | None = None) -> bool:
        """Wait until it happens; False after `timeout` seconds. `handler` is the wait of a handler."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = handler
        try:
            with nullcontext() if handler is None else handler.waiting():
                return await within(timeout, future)
        finally:
            del self._waiting[future]

    def wake(self) -> None:
        for future, handler in self._waiting.items():
            if not future.done():
                future.set_result(None)
            if handler is not None:
                handler.end()

    def fail(self, error: Callable[[], BaseException]) -> None:
        """Raise an error in each of them."""
        for future in self._waiting:
            if not future.done():
                future.set_exception(error())
