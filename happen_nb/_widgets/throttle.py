"""News of a space at a rate that a person can follow: what widgets are driven by."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from typing import TYPE_CHECKING

from happen_nb._runtime.io import io_thread
from happen_nb.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from happen_nb._api.space import Space
    from happen_nb._runtime.session import Session

_log = logging.getLogger("happen_nb")

INTERVAL = 0.1
"""Seconds at least between two pictures."""
SLOW = 1.0
"""Seconds at least between two pictures that are kept, for where the kernel has ended."""
LOOK = 1.0
"""Seconds after which it is looked for news even if nothing was stored."""
LAST = 1.0
"""Seconds that closing a space waits for a picture that is being made."""


class Pulse:
    """Calls `work` when there is news: at most every `interval` seconds, one at a time, the last always.

    It is called on a worker thread of the space, in a copy of the context that this was made in, so that
    what it writes stands under that cell. A thread is only taken while there is news.

    Parameters
    ----------
    space : Space
    work : callable
        Takes no arguments. A `ClosedError` ends the pulse: what is shown then stays. Any other exception is
        logged, and the next news calls it again.
    interval : float, optional
    kept : bool, optional
        Whether what it writes is what the notebook keeps: then it is called when the space closes, even
        without news. A notebook that is run without a front end keeps only what the running cell does.
    """

    def __init__(
        self, space: Space, work: Callable[[], object], interval: float = INTERVAL, *, kept: bool = False
    ) -> None:
        self._space = space
        self._work = work
        self._interval = interval
        self._kept = kept
        self._context = contextvars.copy_context()
        self._lock = threading.Lock()
        self._working = threading.Lock()
        self._changed: Callable[[], bool] = lambda: False
        self._news = False
        self._running = False
        self._ended = threading.Event()
        self._begun: float | None = None
        """When the call that runs began, on the monotonic clock."""
        space._pulses[self] = None

    def tell(self) -> None:
        """There is news. Any thread may call it, the IO thread too: it never waits."""
        with self._lock:
            self._news = True
            if self._running or not self._goes_on:
                return
            self._running = True
        self._space._dispatch.workers.submit(self._run)

    def follow(self, changed: Callable[[], bool]) -> None:
        """Tell when something was stored in the space and ``changed()`` says that it matters here.

        Parameters
        ----------
        changed : callable
            Asked on the IO thread, so it only compares.
        """
        session = self._space._session
        self._changed = changed
        io_thread().call_soon(lambda: session.background(self._follow(session)))

    def begin(self, seconds: float) -> None:
        """Call it now, and wait for it, but no longer than so many seconds: it may never return."""
        self._apart(seconds, last=False)

    def stop(self) -> None:
        """Call it no more; a call that runs may still end."""
        self._ended.set()
        self._space._pulses.pop(self, None)

    def finish(self) -> None:
        """Call it once more if there is news or it is `kept`, and then no more: the space closes.

        It is called as what the cell does that closes the space.
        """
        begun = self._begun
        if begun is None or time.monotonic() - begun < LAST:
            self._apart(LAST, last=True)
        self.stop()

    def _apart(self, seconds: float, *, last: bool) -> None:
        """Call it on a thread of its own: a function of the user's may never end."""
        run = contextvars.copy_context().run
        name, options = "happen_nb-pulse", {"last": last}
        thread = threading.Thread(target=run, args=(self._call,), kwargs=options, name=name, daemon=True)
        thread.start()
        thread.join(seconds)

    @property
    def stopped(self) -> bool:
        """Whether it was stopped."""
        return self._ended.is_set()

    def _run(self) -> None:
        with self._space._dispatch.workers.blocked():  # it may never return, and handlers need the threads
            while self._take():
                self._context.copy().run(self._call)
                self._ended.wait(self._interval)

    def _call(self, *, last: bool = False) -> None:
        with self._working:
            if self.stopped or (last and not (self._kept or self._news or self._changed())):
                return
            self._begun = time.monotonic()
            try:
                self._work()
            except ClosedError:
                self.stop()
            except BaseException:  # the thread serves others too
                _log.exception("a display could not be drawn; it is drawn again when there is news")
            finally:
                self._begun = None

    def _take(self) -> bool:
        with self._lock:
            self._running = self._news and self._goes_on
            if self._running:
                self._news = False
            return self._running

    @property
    def _goes_on(self) -> bool:
        return not (self._ended.is_set() or self._space._closing)  # what is left is for `finish`

    async def _follow(self, session: Session) -> None:
        """Look at most every `interval` seconds, however much is stored meanwhile."""
        replica = session.replica
        while not self._ended.is_set():
            seen = replica.position
            if self._changed():
                self.tell()
            await asyncio.sleep(self._interval)
            await replica.reached(seen + 1, LOOK)
