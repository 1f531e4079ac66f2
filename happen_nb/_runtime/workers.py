"""Threads that run handlers and callbacks, one at a time for each node, and the end of the interpreter."""

from __future__ import annotations

import atexit
import contextvars
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import thread as executors
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

log = logging.getLogger("happen_nb")

IDLE: Final = 5.0
"""Seconds after which a thread without work ends."""
THREADS: Final = 64
"""Threads that may work at once; those that wait in a call of ours do not count."""
MORE: Final = 1024
"""Threads that there may be once all of them have been blocked for a while."""
STUCK: Final = 0.1
"""Seconds without an idle thread after which there are more of them."""


class Workers:
    """Threads that are there while there is work: an idle one is used again, else one more starts.

    If all of them are blocked outside of the library, more start: nothing waits for ever behind a handler
    that it has nothing to do with.
    """

    def __init__(self) -> None:
        self._work: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._idle = 0
        self._threads = 0
        self._blocked = 0
        self._begun = 0
        self._limit = THREADS
        self._growing = False

    def submit(self, work: Callable[[], None]) -> None:
        """Run `work` soon on a thread of the pool."""
        with self._changed:
            self._work.append(work)
            self._provide()

    def _provide(self) -> None:
        """See to a thread for what waits, as far as there may be one more."""
        if self._idle >= len(self._work):
            self._changed.notify()
        elif self._threads - self._blocked < self._limit:
            self._add()
        elif not self._growing and self._limit < MORE and not shutdown_started():
            self._growing = True
            try:
                _start(self._grow, "happen_nb-workers")
            except RuntimeError as refused:  # as for a worker: those that are there go on
                self._growing = False
                log.warning("no more threads for handlers: %s", refused)

    def _add(self) -> None:
        if shutdown_started():
            return
        try:
            _start(self._run, "happen_nb-worker")
        except RuntimeError as refused:  # the system has no more threads: those that are there go on
            if not shutdown_started():  # else the end has begun since we looked, and nothing starts any more
                log.warning("no more threads for handlers: %s", refused)
        else:
            self._threads += 1

    def _grow(self) -> None:
        """Add threads as long as work waits and none of them takes any."""
        with self._changed:
            while self._work and self._limit < MORE:
                begun = self._begun
                self._changed.wait_for(lambda: not self._work, STUCK)
                if self._work and begun == self._begun and not self._idle:
                    self._add_more()
            self._growing = False

    def _add_more(self) -> None:
        if self._limit == THREADS:
            log.warning(
                "%d handlers or callbacks block their threads, and others wait: more threads start; "
                "wait in async handlers, by await, where many wait at once",
                self._threads - self._blocked,
            )
        more = min(THREADS, len(self._work), MORE - self._limit)
        self._limit += more
        for _ in range(more):
            self._add()

    @contextmanager
    def blocked(self) -> Iterator[None]:
        """The thread of the pool that this is waits in a call of ours: another one may take its place."""
        with self._changed:
            self._blocked += 1
            if self._work:
                self._provide()
        try:
            yield
        finally:
            with self._changed:
                self._blocked -= 1

    def _run(self) -> None:
        _local.workers = self
        while (work := self._next()) is not None:
            try:
                work()
            except BaseException:  # it is the library's: a handler's own is a failure
                log.exception("in %r", work)

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self._idle += 1
            try:
                if not self._work and not self._changed.wait_for(lambda: bool(self._work), IDLE):
                    self._threads -= 1
                    return None
                if shutdown_started():
                    return None
                self._begun += 1
                return self._work.popleft()
            finally:
                self._idle -= 1


def _start(run: Callable[[], None], name: str) -> None:
    """Start a thread that works for many, and so has no context of its own."""
    thread = threading.Thread(target=run, name=name, daemon=True)
    contextvars.Context().run(thread.start)


class _Local(threading.local):
    workers: Workers | None = None


_local = _Local()


def current_workers() -> Workers | None:
    """The pool that the current thread belongs to."""
    return _local.workers


class Pending(Protocol):
    """Work that goes on elsewhere."""

    def then(self, callback: Callable[[], None]) -> bool:
        """Call `callback` when it has ended; False if it has ended already."""


Work = Callable[[], Pending | None]
"""Something to do; what it returns, if anything, still has to end. What it raises is logged."""


class Mailbox:
    """Runs what is put into it, one at a time, in order.

    Parameters
    ----------
    workers : Workers
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._waiting: deque[Work] = deque()
        self._running = False
        self._turn = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, work: Work) -> None:
        """Add `work` at the end."""
        with self._lock:
            self._waiting.append(work)
            self._begin()

    def put_first(self, works: Iterable[Work]) -> None:
        """Add works before all others, in their order."""
        with self._lock:
            self._waiting.extendleft(reversed(list(works)))
            self._begin()

    def clear(self) -> None:
        """Drop what has not begun."""
        with self._lock:
            self._waiting.clear()

    @property
    def running(self) -> bool:
        """Whether something has begun and not ended."""
        return self._running

    def let_go(self) -> None:
        """Let what runs now go on by itself: when it ends, nothing begins. `go_on` begins with the next."""
        with self._lock:
            self._turn += 1

    def go_on(self) -> None:
        """Begin with the next, after `let_go`."""
        with self._lock:
            self._running = False
            self._begin()

    def _begin(self) -> None:
        if self._waiting and not self._running:
            self._running = True
            turn = self._turn
            self._workers.submit(lambda: self._drain(turn))

    def _drain(self, turn: int) -> None:
        while (work := self._next(turn)) is not None:
            try:
                rest = work()
                if rest is not None and rest.then(lambda: self._drain(turn)):
                    return
            except BaseException:  # one that breaks does not stop the next
                log.exception("in %r", work)

    def _next(self, turn: int) -> Work | None:
        with self._lock:
            if turn != self._turn:
                return None  # what ran was abandoned: another thread has taken over
            if not self._waiting:
                self._running = False
                return None
            return self._waiting.popleft()


_shutdown = threading.Event()


def expect_shutdown() -> None:
    """Notice the end, before all that was registered until now has cleaned up."""
    atexit.unregister(_shutdown.set)
    atexit.register(_shutdown.set)


def shutdown_started() -> bool:
    """Whether nothing should begin any more."""
    return _shutdown.is_set()


def is_shutdown_error(error: BaseException) -> bool:
    """Whether an error is what the end leads to: executors refuse as soon as the main thread is through."""
    if shutdown_started():
        return True
    if type(error) is not RuntimeError or not getattr(executors, "_shutdown", False):
        return False
    return str(error).startswith("cannot schedule new futures after")
