"""The event loop of async handlers, and others that replace it while a handler blocks it."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

from happen_nb._runtime import causes
from happen_nb._runtime.io import IoThread, PerProcess, io_thread
from happen_nb.errors import HappenError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

logger = logging.getLogger("happen_nb")

BLOCKED_SECONDS = 0.5  # seconds without a turn after which a loop counts as blocked
MAX_LOOPS = 16


class HandlerLoops:
    """The loops in use: the first one, unless a handler blocks it."""

    def __init__(self) -> None:
        self._loops = [self._make(0)]
        self._current = self._loops[0]
        self._waiting: deque[_Start] = deque()
        self._watching = False

    @staticmethod
    def _make(number: int) -> IoThread:
        return IoThread(f"happen_nb-handlers-{number}" if number else "happen_nb-handlers", causes.make_task)

    @property
    def here(self) -> bool:
        return any(each.here for each in self._loops)

    def start(self, call: Callable[[], object]) -> None:
        """Call something soon in a loop that is not blocked."""
        start = _Start(call)
        self._waiting.append(start)  # first: a loop that replaces the current one makes all that wait
        self._current.call_soon(start)
        if not self._watching:
            self._watching = True
            io_thread().call_soon(self._watch)

    def avoid(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start new calls in another loop than the blocked one. On the IO thread."""
        if self._current.loop is loop:
            self._replace_blocked()

    def _watch(self) -> None:
        """Check later that the oldest call has started. On the IO thread."""
        while self._waiting and self._waiting[0].started:
            self._waiting.popleft()
        self._watching = bool(self._waiting)
        if self._waiting:  # also if one was added just now
            io_thread().loop.call_later(BLOCKED_SECONDS, self._check, self._waiting[0])

    def _check(self, oldest: _Start) -> None:
        if not oldest.started:
            self._warn_of_blocked()
            self._replace_blocked()
        self._watch()

    def _replace_blocked(self) -> None:
        """Make the waiting calls in another loop, until the blocked one continues."""
        blocked = self._current
        number = self._loops.index(blocked) + 1
        if number == MAX_LOOPS:
            return
        if number == len(self._loops):
            self._loops.append(self._make(number))
        self._current = self._loops[number]
        for start in list(self._waiting):
            self._current.call_soon(start)
        blocked.call_soon(io_thread().call_soon, self._go_back, blocked)

    def _warn_of_blocked(self) -> None:
        if self._loops.index(self._current) + 1 < MAX_LOOPS:
            logger.warning(
                "an async handler blocks the loop of all async handlers (%s), so others start in another "
                "loop; use await asyncio.to_thread(...) for blocking calls",
                self._current.doing(),
            )

    def _go_back(self, free: IoThread) -> None:
        self._current = min(free, self._current, key=self._loops.index)


class _Start:
    """A call that is made once, by the loop that comes to it first."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call: Callable[[], object] | None = call
        self._lock = threading.Lock()

    @property
    def started(self) -> bool:
        return self._call is None

    def __call__(self) -> None:
        with self._lock:
            call, self._call = self._call, None
        if call is not None:
            call()


_loops = PerProcess(HandlerLoops)


def handler_loops() -> HandlerLoops:
    """Return the loops of async handlers; the first call starts one."""
    return _loops.get()


def refuse_on_handler_loop(call: str, advice: str) -> None:
    """Raise HappenError in the thread of a loop of async handlers: the call may depend on that loop."""
    if _loops.made is not None and _loops.made.here:
        raise HappenError(f"{call} would block all async handlers, including any that it waits for: {advice}")
