"""The clock of a space: real, or manual, which stands still until it is advanced.

The real clock is that of the server: the clock of this machine may be wrong, and every process of the space
has the same one. The time of a manual clock is a record of the journal.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING, Final

from happen_nb._journal.publish import store_messages
from happen_nb._journal.wire import encode_clock
from happen_nb._model.schedules import from_ns, from_text, utc_text
from happen_nb._runtime.io import inbox_of, io_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from happen_nb._runtime.delivery import NodeQueue
    from happen_nb._runtime.effects import InFlight
    from happen_nb._runtime.log import Log

RECHECK_SECONDS: Final = 0.05
"""Time after which a handler that still waits for the clock, in another task, is known to."""
LAST_YEAR: Final = 2199
"""The last year in which a server can deliver; a manual clock has no such limit."""


@dataclass(eq=False, slots=True)
class Timer:
    """A call at a time of the space."""

    call: Callable[[], object] | None
    handle: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        """Do not make the call. On the IO thread."""
        self.call = None
        if self.handle is not None:
            self.handle.cancel()

    def fire(self) -> None:
        call, self.call = self.call, None
        if call is not None:
            call()


class Clock:
    """The time of a space, and the timers of this process that follow it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._timers: list[tuple[str, int, Timer]] = []
        self._count = count()
        log.on_clock.connect(self._moved)

    @property
    def manual(self) -> bool:
        """True if the clock stands still until it is advanced."""
        return self._log.clock is not None

    @property
    def to_come(self) -> int:
        """The number of scheduled events. From any thread."""
        return len(self._log.alarms)

    def now(self) -> datetime:
        """Return the time of the space, in UTC. From any thread."""
        manual = self._log.clock
        return from_ns(self._log.stream.server_time()) if manual is None else from_text(manual.now)

    def now_text(self) -> str:
        """Return the time of the space as the journal has it. From any thread."""
        manual = self._log.clock
        return utc_text(self.now()) if manual is None else manual.now

    def after(self, seconds: float) -> datetime:
        """Return the time in so many seconds.

        Raises
        ------
        OverflowError
            It is later than any time that can be scheduled.
        """
        found = self.now() + timedelta(seconds=seconds)
        self.check(found)
        return found

    def check(self, moment: datetime) -> None:
        """Refuse a time that is later than any that can be scheduled, by an OverflowError."""
        if not self.manual and moment.year > LAST_YEAR:
            raise OverflowError(f"a server delivers until the year {LAST_YEAR}")

    # -- timers, on the IO thread ----------------------------------------------------------------------

    def call_later(self, seconds: float, call: Callable[[], object]) -> Timer:
        """Call something in so many seconds of the space's time."""
        timer = Timer(call)
        if self.manual:
            due = utc_text(self.now() + timedelta(seconds=seconds))
            heapq.heappush(self._timers, (due, next(self._count), timer))
        else:
            timer.handle = io_thread().loop.call_later(seconds, timer.fire)
        return timer

    def next_timer(self) -> str | None:
        """Return the time of the next call on a manual clock; None if there is none."""
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    async def start(self, now: str, deadline: float) -> None:
        """Make the clock of a new space a manual one.

        Raises
        ------
        RefusedError
            The space has a manual clock already.
        """
        log = self._log
        message = encode_clock(log.subjects, now, expected=0)
        left = max(0.001, deadline - time.monotonic())
        sequence = await store_messages(log.connection, [message], timeout=left, what="connect: clock")
        await log.reach(sequence, deadline)

    def _moved(self) -> None:
        """Make the calls that are due; all of them if the clock is real now."""
        now = self.now_text() if self.manual else None
        while self._timers and (now is None or self._timers[0][0] <= now):
            heapq.heappop(self._timers)[2].fire()


class Sleep:
    """A handler that waits for the clock; on a manual one, its node and what waits behind it do so, too."""

    def __init__(self, clock: Clock, queue: NodeQueue, in_flight: InFlight, seconds: float) -> None:
        self._clock = clock
        self._queue = queue
        self._in_flight = in_flight
        self._seconds = seconds
        self._timer: Timer | None = None

    async def wait(self) -> None:
        """Wait, in the loop of the handler."""
        if not self._clock.manual:
            await asyncio.sleep(self._seconds)
            return
        loop = asyncio.get_running_loop()
        arrived: asyncio.Future[None] = loop.create_future()

        def arrive() -> None:
            if not arrived.done():
                arrived.set_result(None)

        def wake() -> None:
            self._wake()
            inbox_of(loop).put(arrive)

        io_thread().call_soon(self._start, wake)
        try:
            await arrived
        finally:
            io_thread().call_soon(self._end)

    def _start(self, wake: Callable[[], None]) -> None:
        self._timer = self._clock.call_later(self._seconds, wake)
        self._queue.sleepers += 1
        self._queue.sleep(self._in_flight)

    def _end(self) -> None:
        if self._timer is not None and self._timer.call is not None:  # it was cancelled
            self._timer.cancel()
            self._wake()

    def _wake(self) -> None:
        self._queue.sleepers -= 1
        self._queue.wake(self._in_flight)
        if self._queue.sleepers:  # another task of the handler goes on waiting
            io_thread().loop.call_later(RECHECK_SECONDS, self._recheck)

    def _recheck(self) -> None:
        if self._queue.sleepers:
            self._queue.sleep(self._in_flight)
