"""A second run of a stretch of the past: put in the input from outside, and let the handlers do the rest."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from happen_nb._journal import encoding, wire
from happen_nb._journal.publish import RefusedError, store_messages
from happen_nb._journal.slice import alarms_at
from happen_nb._model.freeze import dumps, freeze_state
from happen_nb._model.past import changes_of, redo
from happen_nb._model.records import EMPTY, is_stored, unstored
from happen_nb._model.schedules import Alarm, from_ns
from happen_nb._runtime import scheduling
from happen_nb._runtime.clock import Steering
from happen_nb._runtime.conductor import Conductor
from happen_nb._runtime.first_run import RecordedOrder
from happen_nb._runtime.in_flight import describe_works
from happen_nb._runtime.io import io_thread
from happen_nb._runtime.waiting import seconds_left, within
from happen_nb._runtime.writer import CommitRequest
from happen_nb.errors import HappenTimeoutError, IdTakenError

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Sequence

    from happen_nb._model.causality import CommitPair
    from happen_nb._model.frozen import FrozenDict
    from happen_nb._model.orders import Choice
    from happen_nb._model.past import Past, Put
    from happen_nb._model.records import CommitRecord, EventRecord
    from happen_nb._model.schedules import ClockRecord
    from happen_nb._runtime.runtime import Runtime


PATIENCE_CHECKS: Final = 40
"""Checks of the conductor (four per second) for which a slow handler delays what is recorded next.

It delays what differs from the record twice as long.
"""
TASK_PATIENCE_CHECKS: Final = 1  # the same for a handler that has another task waiting for its turn
SCHEDULED_AT_ONCE: Final = 50
"""Number of events that are scheduled at once; a server accepts no further batches."""
CHECK_SECONDS: Final = 0.05
"""Seconds between checks, at the end, for handlers that wait for the clock while others still run."""


class SecondRun:
    """A second run in a fork that has the handlers. On the IO thread.

    It puts in the input from outside, or its replacement; the output of handlers is shown in `context`. The
    `changed` handlers, by their nodes and functions, need not do what they did.
    """

    def __init__(
        self,
        runtime: Runtime,
        past: Past,
        puts: Sequence[Put],
        context: contextvars.Context | None,
        changed: set[tuple[str, str]],
    ) -> None:
        self._runtime = runtime
        self._log = runtime.log
        self._context = context
        self._steering = Steering(runtime.clock.now())
        first = takewhile(lambda put: put.alarm is not None, puts)
        self._pending = [put.alarm for put in first if put.alarm is not None]
        rest = puts[len(self._pending) :]
        self._order = RecordedOrder(past, rest, self._send_soon, self._steering.timers)
        self._conductor = Conductor(
            runtime.dispatcher,
            self._choose,
            PATIENCE_CHECKS,
            TASK_PATIENCE_CHECKS,
            next_one=self._next_one,
            rests=self._order.rests,
        )
        self._order.comes = self._conductor.standstill.comes
        self._conductor.standstill.unsteady |= changed
        self._edited = changed
        self._to_send: deque[Put] = deque()
        self._landed = asyncio.Event()
        self._deadline = 0.0
        self._task: asyncio.Task[None] | None = None
        self._error: BaseException | None = None
        self.total = len(puts)
        self.done = 0  # the number of records that were fed in
        self._overtaken: set[tuple[str, str]] = set()

    async def start(self, deadline: float) -> None:
        self._deadline = deadline
        self._task = asyncio.get_running_loop().create_task(self._run(deadline))

    async def ended(self, seconds: float) -> bool:
        """Wait for the end; False if it takes longer than `seconds`.

        Raises HappenTimeoutError if the second run timed out; the message names the unfinished work.
        """
        assert self._task is not None
        done, _ = await asyncio.wait({self._task}, timeout=seconds)
        if done:
            self._task.result()
        return bool(done)

    async def stop(self) -> None:
        """Stop it; an interrupt may come before it has started."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    async def _run(self, deadline: float) -> None:
        clock = self._runtime.clock
        disconnect = [
            self._log.on_event.connect(self._arrived),
            self._log.replica.on_commit.connect(lambda applied: self._order.stored(applied.record)),
            self._log.on_scheduled.connect(self._order.scheduled),
            self._log.on_ended.connect(self._order.cancelled),
        ]
        clock.steer(self._steering)
        self._conductor.open()
        try:
            for at in range(0, len(self._pending), SCHEDULED_AT_ONCE):
                some = self._pending[at : at + SCHEDULED_AT_ONCE]
                await asyncio.gather(*(self._schedule(event, deadline) for event in some))
                self.done += len(some)
            while self.done < self.total or self._order.is_in_flight:
                landed = self._order.landed
                await self._run_until_next_put(deadline)
                if self._order.is_in_flight:
                    await self._wait_landed(deadline)
                elif landed != self._order.landed:
                    continue  # an event that has arrived meanwhile may release something
                elif (put := self._next_put()) is not None:
                    await self._put_in(put, deadline)
                    self._order.note_put_stored()
                    self.done += 1
            await self._run_until_next_put(deadline)
            while await self._runtime.in_flight.drain(lambda _: True, time.monotonic() + CHECK_SECONDS):
                await self._run_until_next_put(deadline)
                if time.monotonic() > deadline:
                    raise self._too_late()
        finally:
            for each in disconnect:
                each()
            clock.steer(None)
            self._conductor.close()

    async def _wait_landed(self, deadline: float) -> None:
        """Wait until all events that were put in have arrived."""
        self._landed.clear()
        if not await within(seconds_left(deadline), asyncio.ensure_future(self._landed.wait())):
            raise self._too_late()
        if self._error is not None:
            raise self._error

    async def _run_until_next_put(self, deadline: float) -> None:
        """Let everything happen that precedes the next record to feed in."""
        while True:
            self._conductor.look_again()
            if not await self._conductor.quiet(deadline):
                raise self._too_late()
            timer = self._order.next_timer()
            if timer is None:
                return
            self._steering.timers.remove(timer)
            timer.fire()

    def _too_late(self) -> HappenTimeoutError:
        left = self.total - self.done
        works = describe_works(self._runtime.in_flight.pending().works) or "nothing"
        more = f"; {left:,} of {self.total:,} events and commits were not put in" if left else ""
        return HappenTimeoutError(f"rerun: timed out; still running: {works}{more}")

    def _arrived(self, event: EventRecord) -> None:
        if self._runtime.recall is not None:
            self._runtime.recall.stored(event)
        if event.alarm is None:
            self._order.stored(event)
        if self._order.arrived(event.id):
            if not self._order.is_in_flight:
                self._landed.set()
            self._conductor.look_again()

    # -- the order ---------------------------------------------------------------------------------------

    def _choose(self, choices: Sequence[Choice]) -> Choice | None:
        skipped = self._order.skipped
        chosen = self._order.choose(choices)
        if chosen is not None:
            self._note_overtaken(skipped)
        return chosen

    def _next_put(self) -> Put | None:
        skipped = self._order.skipped
        put = self._order.next_put()
        self._note_overtaken(skipped)
        return put

    def _note_overtaken(self, skipped: int) -> None:
        """Note which handlers stood still, and may have had their turn first."""
        for run in self._conductor.standstill.given_up:
            if self._order.skipped > skipped or not run.has_looked:
                self._overtaken.add(run.names)

    @property
    def overtaken(self) -> set[tuple[str, str]]:
        """The nodes and functions of handlers that stood still while others did what came later."""
        return self._overtaken | (self._conductor.standstill.unsteady - self._edited)

    # -- putting in --------------------------------------------------------------------------------------

    def _next_one(self, choices: Sequence[Choice]) -> Choice | None:
        chosen = self._order.next_one(choices)
        if io_thread().here:  # what another thread has put in is sent first
            self._send()
        return chosen

    def _send_soon(self, put: Put) -> None:
        """Send a plain event before anything else that is sent from now on. From any thread."""
        self._to_send.append(put)
        if io_thread().here:
            self._send()
        else:
            io_thread().call_soon(self._send)

    def _send(self) -> None:
        while self._to_send:
            put = self._to_send.popleft()
            assert put.event is not None
            self._steering.now = from_ns(put.time)
            self._runtime.dispatcher.contexts[put.event.id] = self._context
            self._runtime.writer.send(put.event, self._deadline, self._sent)
            self.done += 1

    def _sent(self, error: BaseException | None) -> None:
        if error is not None:
            self._error = error
            self._landed.set()

    async def _put_in(self, put: Put, deadline: float) -> None:
        self._steering.now = from_ns(put.time) if put.time else self._steering.now
        if put.clock is not None:
            await self._move_clock(put.clock, deadline)
        elif put.commit is not None:
            await self._commit(put.commit, put.events, deadline)
        elif put.alarm is not None:
            await self._schedule(put.alarm, deadline)
        elif put.cancel is not None:
            await scheduling.cancel(self._log, put.cancel, deadline)
        elif put.event is not None and put.event.alarm is not None:
            await self._deliver(put.event, deadline, expected=put.expected)
        elif put.event is not None:
            await self._publish(put.event, deadline)

    async def _publish(self, event: EventRecord, deadline: float) -> None:
        contexts = self._runtime.dispatcher.contexts
        contexts[event.id] = self._context
        try:
            with suppress(IdTakenError):  # a handler has emitted another event under the id
                await self._runtime.writer.store(event, deadline)
        finally:
            contexts.pop(event.id, None)

    async def _commit(self, pair: CommitPair, events: Sequence[EventRecord], deadline: float) -> None:
        """Make the change of a commit again, on the state that the node has now."""
        record, log = pair[0], self._log
        while True:
            cut = log.replica.cut_of(record.node)
            newest = cut.nodes.get(record.node)
            state, body = (EMPTY, None) if record.deleted else self._changed(pair, newest)
            is_first = newest is None and pair[0].revision == 1  # an empty state is stored, too
            is_same = body is not None and not events and not is_first and is_stored(newest, state, body)
            # A commit that changed nothing was stored together with other messages, which are put in, too.
            if is_same and (record.events or changes_of(pair)):
                return
            new = unstored(record.node, state, body, record.origin, tuple(events))
            request = CommitRequest.after(cut, new)
            write = self._runtime.writer.prepare(request, f'the commit of node "{record.node}"', deadline)
            self._order.note_put(new)
            if await self._runtime.writer.complete(write) is not None:
                return

    def _changed(self, pair: CommitPair, newest: CommitRecord | None) -> tuple[FrozenDict, bytes]:
        now = EMPTY if newest is None else newest.state
        state = freeze_state(redo(changes_of(pair), now), node=pair[0].node)
        return state, dumps(state)

    async def _schedule(self, event: EventRecord, deadline: float) -> None:
        with suppress(IdTakenError):  # as above
            await scheduling.store(self._log, event, deadline)

    async def _deliver(self, event: EventRecord, deadline: float, *, expected: bool) -> None:
        """Deliver a scheduled event: that of the fork, if a handler scheduled it there, too."""
        log = self._log
        if event.tick is not None:
            await self._runtime.dispatcher.ticks.scheduled(event.tick, deadline)
        alarm = log.alarms.get(event.alarm_id)
        if alarm is None and expected:
            return  # a handler has not scheduled it, or has cancelled it
        if alarm is None:
            name, _, nonce = str(event.alarm).partition(" ")
            alarm = Alarm(name, nonce, 0, event.due or "", log.subjects.event(event), event)
        elif expected and event.tick is None:
            alarm = alarm._replace(event=next(iter(await alarms_at(log.stream, [alarm.sequence])), event))
        else:
            alarm = alarm._replace(event=event, target=log.subjects.event(event))
        self._runtime.dispatcher.contexts[event.id] = self._context
        await self._store(log.alarms.deliver(alarm, ttl=log.info.event_ttl), deadline)

    async def _move_clock(self, clock: ClockRecord, deadline: float) -> None:
        log = self._log
        expected = 0 if log.clock is None else log.clock.sequence
        await self._store([encoding.encode_clock(log.subjects, clock.now, expected=expected)], deadline)

    async def _store(self, messages: list[wire.Message], deadline: float) -> None:
        log = self._log
        with suppress(RefusedError):  # its answer was lost, and it was sent again
            sequence = await store_messages(
                log.connection, messages, timeout=seconds_left(deadline), what="rerun"
            )
            await log.reach(sequence, deadline)
