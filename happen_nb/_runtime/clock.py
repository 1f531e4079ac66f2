"""The clock of a space: real, or manual, which stands still until it is advanced.

The real clock is that of the server: the clock of this machine may be wrong, and every process of the space
has the same one. The time of a manual clock is a record of the journal. It moves from one due moment to the
next, in all processes of the space.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from datetime import datetime, timedelta
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final

from happen_nb._journal import encoding
from happen_nb._journal.publish import RefusedError, Resend, store_messages
from happen_nb._journal.slice import ClockReader
from happen_nb._model.arguments import nanoseconds
from happen_nb._model.schedules import REAL_CLOCK, Alarm, ClockMoves, from_ns, from_text, utc_text
from happen_nb._runtime import causes
from happen_nb._runtime.in_flight import describe_works
from happen_nb._runtime.io import inbox_of, io_thread, on_io
from happen_nb._runtime.peers import with_wait
from happen_nb._runtime.scheduling import store_alone
from happen_nb._runtime.task_turns import turn_here
from happen_nb._runtime.waiting import seconds_left
from happen_nb._runtime.writer import look_up
from happen_nb.errors import ClockError, HappenError, HappenTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from happen_nb._journal.wire import Message
    from happen_nb._runtime.delivery import NodeQueue
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.runs import Pause
    from happen_nb._runtime.runtime import Runtime

logger = logging.getLogger("happen_nb")

SOON_SECONDS: Final = 60.0
"""The process that scheduled an event also delivers it if it is due within this time."""
MAX_DELIVERING: Final = 100
"""Maximum number of events that a process delivers itself; the server delivers more of them faster."""
LAST_YEAR: Final = 2199  # the last year in which a server can deliver; a manual clock has no such limit
MAX_AT_ONCE: Final = 1000  # maximum number of events that are delivered at once
MAX_KEPT_MOVES: Final = 100_000  # maximum number of clock moves that are kept, to find times in the journal
TRIM_EVERY_MOVES: Final = 1000


class Timer:
    """A call at a time of the space."""

    def __init__(self, call: Callable[[], object], event: str, node: str) -> None:
        self.call: Callable[[], object] | None = call
        self.handle: asyncio.TimerHandle | None = None
        self.event = event  # the id of the event whose handler waits for the timer
        self.node = node

    def cancel(self) -> None:
        """Do not make the call. On the IO thread."""
        self.call = None
        if self.handle is not None:
            self.handle.cancel()

    def fire(self) -> None:
        call, self.call = self.call, None
        if call is not None:
            call()


class Steering:
    """The time of a second run: that of the newest record fed in. Its timers wait until they are chosen."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.timers: list[Timer] = []


class Clock:
    """The time of a space, and the timers of this process that follow it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._timers: list[tuple[str, int, Timer]] = []
        self._count = count()
        self._delivering = 0
        self._steering: Steering | None = None
        self._reader = ClockReader()
        log.on_clock.connect(self._moved)
        log.on_fresh_start.connect(self._forget_moves)
        log.on_clear.connect(self._forget_moves)
        log.on_scheduled.connect(self.deliver_soon)

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
        if manual is not None:
            return from_text(manual.now)
        return from_ns(self._log.stream.server_time()) if self._steering is None else self._steering.now

    def now_text(self) -> str:
        """Return the time of the space as the journal has it. From any thread."""
        manual = self._log.clock
        return utc_text(self.now()) if manual is None else manual.now

    async def moves(self, last: int = 0) -> ClockMoves:
        """Return the moves of a manual clock, at least up to the sequence `last`.

        They are read from the server if this process does not know them yet; a real clock has none.
        """
        log = self._log
        position, newest = log.replica.position, log.clock  # in this order, as in `time_at`
        if newest is None:
            return REAL_CLOCK
        moves: ClockMoves = await on_io(self._reader.read(log.stream, newest, again=position < last))
        return moves

    def time_at(self, sequence: int) -> int | None:
        """Return the time of a manual clock at a position, in ns; None if it is not known without a look.

        It is known until the clock moves on. From any thread.
        """
        position, clock = self._log.replica.position, self._log.clock  # in this order: no move is missed
        if clock is None or not 0 < clock.sequence < sequence <= position:
            return None
        return nanoseconds(from_text(clock.now))

    def after(self, seconds: float) -> datetime:
        """Return the time after this many seconds; OverflowError if that is too late to be scheduled."""
        found = self.now() + timedelta(seconds=seconds)
        self.check(found)
        return found

    def check(self, moment: datetime) -> None:
        """Refuse a time that is later than any that can be scheduled, by an OverflowError."""
        if not self.manual and moment.year > LAST_YEAR:
            raise OverflowError(f"a server delivers until the year {LAST_YEAR}")

    # -- timers, on the IO thread ----------------------------------------------------------------------

    def hold(self) -> None:
        """Let the server deliver no event that is scheduled from now on, until `steer` ends."""
        self._log.alarms.manual = True

    def steer(self, steering: Steering | None) -> None:
        """Replace the time of a real clock by that of a second run; None restores it."""
        if not self.manual:
            self._steering, self._log.alarms.manual = steering, steering is not None

    def call_later(
        self, seconds: float, call: Callable[[], object], event: str = "", node: str = ""
    ) -> Timer:
        """Call a function after `seconds` of the space's time; a handler at `node` may wait for it."""
        timer = Timer(call, event, node)
        if self._steering is not None:
            self._steering.timers.append(timer)
        elif self.manual:
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
        """Make the clock of a new space a manual one; RefusedError if the space has one already."""
        log = self._log
        message = encoding.encode_clock(log.subjects, now, expected=0)
        left = seconds_left(deadline)
        sequence = await store_messages(log.connection, [message], timeout=left, what="connect: clock")
        await log.reach(sequence, deadline)

    # -- delivering in time ----------------------------------------------------------------------------

    def deliver_soon(self, alarm: Alarm) -> None:
        """Deliver an event when it is due, if that is soon: the server looks every 250 ms only.

        If this process ends before that, the server delivers it.
        """
        if self._log.alarms.manual or self._delivering >= MAX_DELIVERING or self._left(alarm) > SOON_SECONDS:
            return
        self._delivering += 1
        self._log.background(self._deliver(alarm))

    def _left(self, alarm: Alarm) -> float:
        return (from_text(alarm.due) - self.now()).total_seconds()

    async def _deliver(self, alarm: Alarm) -> None:
        log = self._log
        try:
            while (left := self._left(alarm)) > 0:  # noqa: ASYNC110 - by the clock of the server
                await asyncio.sleep(left)
            now = log.alarms.get(alarm.id)
            if now is None or now.name != alarm.name or self.manual:
                return  # it was delivered, cancelled or scheduled again
            ttl = log.info.event_ttl
            await store_messages(
                log.connection,
                log.alarms.deliver(alarm, ttl=ttl),
                timeout=log.timeout,
                what=f'delivery of "{alarm.id}"',
                resend=Resend(log.subjects, log.cleared, ttl),
            )
        except (RefusedError, HappenError) as error:
            logger.debug("delivering %s: %s; the server does", alarm.id, error)
        finally:
            self._delivering -= 1

    def _forget_moves(self, *_: object) -> None:
        self._reader = ClockReader()

    def _moved(self) -> None:
        """Make the calls that are due; all of them if the clock is real now."""
        now = self.now_text() if self.manual else None
        while self._timers and (now is None or self._timers[0][0] <= now):
            heapq.heappop(self._timers)[2].fire()


class Sleep:
    """A handler that waits for the clock; on a manual clock, so do its node and the events behind it."""

    idle = False  # True until a manual clock has moved on far enough

    def __init__(self, clock: Clock, queue: NodeQueue, seconds: float, pause: Pause | None) -> None:
        self._clock = clock
        self._queue = queue
        self._scope = causes.current_scope()
        self._seconds = seconds
        self._pause = pause
        self._timer: Timer | None = None

    async def wait(self) -> None:
        """Wait, in the loop of the handler."""
        if not self._clock.manual and self._pause is None:
            await asyncio.sleep(self._seconds)
            return
        loop = asyncio.get_running_loop()
        turn = turn_here(loop)
        arrived: asyncio.Future[None] = loop.create_future()

        def arrive() -> None:
            if not arrived.done():
                arrived.set_result(None)

        def wake() -> None:
            go_on = partial(inbox_of(loop).put, arrive)
            if turn is not None:
                turn.await_next(go_on, lambda: not arrived.done())
            if self.idle:
                self.idle = False
                self._queue.update()
            if self._pause is not None:
                self._pause.over(go_on)
            elif turn is None:
                go_on()

        io_thread().call_soon(self._start, wake)
        try:
            await arrived
        finally:
            io_thread().call_soon(self._end)

    def _start(self, wake: Callable[[], None]) -> None:
        current = self._queue.current
        event = "" if current is None else current.delivery.event.id
        self._timer = self._clock.call_later(self._seconds, wake, event, self._queue.name)
        if self._pause is not None:
            self._pause.begin()
        if self._clock.manual and self._scope is not None:
            self.idle = True
            self._queue.start_waiting(self._scope, self)

    def _end(self) -> None:
        if self._scope is not None and self in self._scope.waits:
            self._queue.stop_waiting(self._scope, self)
        if self._timer is not None and self._timer.call is not None:  # it was cancelled
            self._timer.cancel()
            if self._pause is not None:
                self._pause.end()


# -- advancing a manual clock --------------------------------------------------------------------------


class Advancer:
    """Moves the clock of a space, and waits until everything that is due is handled."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._log = runtime.log
        self._others_next: list[str] = []
        self._moves = 0

    async def go_on(self, until: str | None, timeout: float) -> bool:
        """Move the clock to the next time at which something is due, and wait until that is handled.

        Returns False if nothing is due until then. Raises the errors of `move` and `wait_handled`.
        """
        moment = self._next_moment(until)
        if moment is None:
            return False
        await self.move(moment, timeout)
        await self.wait_handled(timeout)
        return True

    def _next_moment(self, until: str | None) -> str | None:
        """Return the next time at which something is due; None if nothing is until then."""
        clock, alarms = self._runtime.clock, self._log.alarms
        moments = [alarms.next_due(), clock.next_timer(), *self._others_next]
        first = min((each for each in moments if each is not None), default=None)
        if first is None or (until is not None and first > until):
            return None
        return max(first, clock.now_text())

    async def move(self, moment: str, timeout: float) -> None:
        """Move the clock to a time, and deliver the events that are due then, in order.

        Raises ClockError if another process has moved the clock meanwhile.
        """
        # They are not a batch, which takes the server much longer: each message has a guard of its own, and
        # events that were due but not delivered before a kill are delivered by the next advance.
        log, deadline = self._log, time.monotonic() + timeout
        if self._runtime.dispatcher.closing:  # this process schedules no further ticks
            raise log.closed_meanwhile()
        self._others_next = [each for each in self._others_next if each > moment]
        clock, due = log.clock, log.alarms.due(moment)
        if clock is None or clock.now > moment:
            raise self._moved_by_others()
        with self._runtime.dispatcher.workers.held():
            message = encoding.encode_clock(log.subjects, moment, expected=clock.sequence)
            now = self._store(moment, message, deadline, rivals=log.subjects.clock)
            first = (self._deliver(alarm, deadline) for alarm in due[:MAX_AT_ONCE])
            stored = await asyncio.gather(now, *first)
            if not stored[0] and (log.clock is None or log.clock.now != moment):
                if log.clock == clock:
                    await log.find_clock()
                if not clock.sequence or log.clock != clock._replace(sequence=0):  # it was not lost
                    raise self._moved_by_others()
                await self.move(moment, seconds_left(deadline))
                return
            await log.reach(max(stored), deadline)
            while due := log.alarms.due(moment)[:MAX_AT_ONCE]:
                stored = await asyncio.gather(*(self._deliver(alarm, deadline) for alarm in due))
                await log.reach(max(stored), deadline)
        self._moves += 1
        if self._moves % TRIM_EVERY_MOVES == 0:
            log.background(log.stream.keep_newest(log.subjects.clock, MAX_KEPT_MOVES))

    async def _deliver(self, alarm: Alarm, deadline: float) -> int:
        """Deliver an event; return its position, or 0 if it was cancelled or scheduled again."""
        assert alarm.event is not None
        message = encoding.encode_delivery(self._log.subjects, alarm, ttl=self._log.info.event_ttl)
        position = await self._store(alarm.event.id, message, deadline)
        if not position:
            await look_up(self._log, [alarm])  # it may be gone without a message
        return position

    async def _store(self, id: str, message: Message, deadline: float, *, rivals: str | None = None) -> int:
        """Store a message; return its position, or 0 if it was refused, once the reason is known here."""
        try:
            return await store_alone(self._log, id, message, deadline, "advance", rivals=rivals)
        except RefusedError:  # the reason may be that the answer was lost
            await self._log.fresh(seconds_left(deadline))
            return 0

    def _moved_by_others(self) -> ClockError:
        return ClockError(
            f'advance: another process is also moving the clock of the space "{self._log.subjects.space}"; '
            "advance in one process only"
        )

    async def wait_handled(self, timeout: float) -> None:
        """Wait until everything that has happened is handled, in every process.

        Handlers that wait for the clock are left out. Raises HappenTimeoutError after `timeout` seconds.
        """
        runtime, log = self._runtime, self._log
        deadline = time.monotonic() + timeout
        while True:
            left = await runtime.in_flight.drain(lambda _: True, deadline)
            if left:
                raise HappenTimeoutError(
                    f"advance: still running after {timeout:g} s at {runtime.clock.now_text()}: "
                    f"{describe_works(left)}"
                )
            if not runtime.has_other_owners():
                return
            position = log.position
            others_are_done = await self._others_are_done(position, deadline)
            if others_are_done and log.position == position and not runtime.in_flight.pending().works:
                return  # else a reply of theirs has come meanwhile
            if time.monotonic() > deadline:
                raise HappenTimeoutError(
                    f"advance: another process still handles events after {timeout:g} s at "
                    f"{runtime.clock.now_text()}"
                )

    async def _others_are_done(self, position: int, deadline: float) -> bool:
        """Ask the other processes that own nodes, and wait until their records have arrived here."""
        answers, busy = await self._runtime.ask_owners(*with_wait({"clock": True}, position, deadline))
        self._others_next = [answer["next"] for answer in answers if answer["next"]]
        for answer in answers:
            await self._log.reach(answer["position"], deadline)
        return not busy and not any(answer["busy"] for answer in answers)
