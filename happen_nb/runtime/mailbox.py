"""Callbacks off the main thread: one at a time a mailbox, different mailboxes side by side."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from happen_nb.runtime import ending

if TYPE_CHECKING:
    from collections.abc import Iterator

IDLE = 5.0
"""Seconds after which a thread without work ends."""
THREADS = 64
"""Threads that may work at once; those that wait in a call of ours do not count."""


class Workers:
    """Threads that are there while there is work: an idle one is used again, else one more starts."""

    def __init__(self) -> None:
        self._work: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._idle = 0
        self._threads = 0
        self._blocked = 0

    def submit(self, work: Callable[[], None]) -> None:
        """Run `work` soon on a thread of the pool; it must not raise."""
        with self._changed:
            self._work.append(work)
            self._provide()

    def _provide(self) -> None:
        """See to a thread for what waits, as far as there may be one more."""
        if self._idle >= len(self._work):
            self._changed.notify()
        elif self._threads - self._blocked < THREADS and not ending.begun():
            self._start_thread()

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._run, name="happen_nb-worker", daemon=True)
        try:
            contextvars.Context().run(thread.start)  # it works for many: it has no context of its own
        except RuntimeError:
            if not ending.begun():  # else the end has begun since we looked, and nothing starts any more
                raise
        else:
            self._threads += 1

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
            work()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self._idle += 1
            try:
                if not self._work and not self._changed.wait_for(lambda: bool(self._work), IDLE):
                    self._threads -= 1
                    return None
                return None if ending.begun() else self._work.popleft()
            finally:
                self._idle -= 1


class _Local(threading.local):
    workers: Workers | None = None


_local = _Local()


def workers_here() -> Workers | None:
    """The pool that the current thread belongs to."""
    return _local.workers


class Pending(Protocol):
    """Work that goes on elsewhere."""

    def then(self, callback: Callable[[], None]) -> bool:
        """Call `callback` when it has ended; False if it has ended already."""


Work = Callable[[], Pending | None]
"""Something to do; what it returns, if anything, still has to end. It must not raise."""


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

    def abandon(self) -> None:
        """Let what runs now go on by itself, and begin with the next."""
        with self._lock:
            if self._running:
                self._turn += 1
                self._running = False
                self._begin()

    def _begin(self) -> None:
        if self._waiting and not self._running:
            self._running = True
            turn = self._turn
            self._workers.submit(lambda: self._drain(turn))

    def _drain(self, turn: int) -> None:
        while (work := self._next(turn)) is not None:
            rest = work()
            if rest is not None and rest.then(lambda: self._drain(turn)):
                return

    def _next(self, turn: int) -> Work | None:
        with self._lock:
            if turn != self._turn:
                return None  # what ran was abandoned: another thread has taken over
            if not self._waiting:
                self._running = False
                return None
            return self._waiting.popleft()
