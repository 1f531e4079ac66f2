"""Callbacks off the main thread: one at a time a mailbox, different mailboxes side by side."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

IDLE = 5.0
"""Seconds after which a thread without work ends."""


class Workers:
    """Threads that are there while there is work: an idle one is used again, else one more starts."""

    def __init__(self) -> None:
        self._work: deque[Callable[[], None]] = deque()
        self._changed = threading.Condition()
        self._idle = 0

    def submit(self, work: Callable[[], None]) -> None:
        """Run `work` soon on a thread of its own; it must not raise."""
        with self._changed:
            self._work.append(work)
            if self._idle >= len(self._work):
                self._changed.notify()
                return
        threading.Thread(target=self._run, name="happen_nb-worker", daemon=True).start()

    def _run(self) -> None:
        while (work := self._next()) is not None:
            work()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self._idle += 1
            try:
                if not self._work and not self._changed.wait_for(lambda: bool(self._work), IDLE):
                    return None
                return self._work.popleft()
            finally:
                self._idle -= 1


class Mailbox:
    """Runs what is put into it, one at a time, in order.

    Parameters
    ----------
    workers : Workers
    """

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._waiting: deque[Callable[[], None]] = deque()
        self._running = False
        self._lock = threading.Lock()

    def put(self, work: Callable[[], None]) -> None:
        """Add `work` at the end; it must not raise."""
        with self._lock:
            self._waiting.append(work)
            if self._running:
                return
            self._running = True
        self._workers.submit(self._drain)

    @property
    def busy(self) -> bool:
        """Whether something in it has not ended yet."""
        return self._running

    def empty(self) -> None:
        """Drop what has not begun."""
        with self._lock:
            self._waiting.clear()

    def _drain(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._running = False
                    return
                work = self._waiting.popleft()
            work()
