"""A second run of a stretch of the past: put in what came from outside, and let the handlers do the rest."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from happen_nb._journal import encoding, wire
from happen_nb._journal.publish import RefusedError, store_messages
from happen_nb._journal.slice import alarms_at
from happen_nb._model.freeze import dumps, freeze_state
from happen_nb._model.past import changes_of, redo
from happen_nb._model.records import EMPTY, is_stored
from happen_nb._model.schedules import Alarm, from_ns
from happen_nb._runtime.bulk import BATCH_EVENTS, store_all
from happen_nb._runtime.clock import Steering
from happen_nb._runtime.conductor import Conductor
from happen_nb._runtime.effects import describe_works
from happen_nb._runtime.io import seconds_left
from happen_nb._runtime.recorded_order import END, RecordedOrder
from happen_nb._runtime.writer import CommitRequest
from happen_nb.errors import HappenTimeoutError

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Iterator, Sequence

    from happen_nb._model.causality import CommitPair
    from happen_nb._model.frozen import FrozenDict
    from happen_nb._model.past import Past, Put
    from happen_nb._model.records import CommitRecord, EventRecord
    from happen_nb._model.schedules import ClockRecord
    from happen_nb._runtime.runtime import Runtime


PATIENCE_CHECKS: Final = 40
"""Looks of the conductor, four in a second, for which a slow handler keeps the others waiting."""
TASK_PATIENCE_CHECKS: Final = 1
"""The same for a handler of which another task waits for its turn."""
CHECK_SECONDS: Final = 0.05
"""Time between two looks for handlers that wait for the clock, while others run on at the end."""


class SecondRun:
    """A second run in a fork that has the handlers. On the IO thread.

    Parameters
    ----------
    runtime : Runtime
        That of the fork.
    past : Past
    puts : sequence of Put
        What came from outside, or something else in its place.
    context : contextvars.Context, optional
        The one in which the output of handlers is shown.
    """

    def __init__(
        self,
        runtime: Runtime,
        past: Past,
        puts: Sequence[Put],
        context: contextvars.Context | None,
    ) -> None:
        self._runtime = runtime
        self._log = runtime.log
        self._puts = puts
        self._context = context
        self._steering = Steering(runtime.clock.now())
        self._order = RecordedOrder(past, self._steering.timers)
        self._conductor = Conductor(
            runtime.dispatcher,
            self._order.choose,
            PATIENCE_CHECKS,
            TASK_PATIENCE_CHECKS,
            whole_transforms=True,
        )
        self.done = 0
        """The number of those that are put in."""

    async def start(self, deadline: float) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run(deadline))

    async def ended(self, seconds: float) -> bool:
        """Wait for the end; False after so many seconds.

        Raises
        ------
        HappenTimeoutError
            The time was up; the message names what was not done.
        """
        done, _ = await asyncio.wait({self._task}, timeout=seconds)
        if done:
            self._task.result()
        return bool(done)

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _run(self, deadline: float) -> None:
        clock = self._runtime.clock
        disconnect = [
            self._log.on_event.connect(self._arrived),
            self._log.replica.on_commit.connect(lambda applied: self._order.stored(applied.record)),
        ]
        clock.steer(self._steering)
        self._conductor.open()
        try:
            for puts in self._together():
                self._order.limit = puts[0].at
                await self._let_go(deadline)
                await self._put_in(puts, deadline)
                self.done += len(puts)
            self._order.limit = END
            await self._let_go(deadline)
            while await self._runtime.in_flight.drain(lambda _: True, time.monotonic() + CHECK_SECONDS):
                await self._let_go(deadline)
                if time.monotonic() > deadline:
                    raise self._too_late()
        finally:
            for each in disconnect:
                each()
            clock.steer(None)
            self._conductor.close()

    def _together(self) -> Iterator[list[Put]]:
        """Yield what is put in at once: plain events between which no handler began or stored anything."""
        puts: list[Put] = []
        until = END
        for put in self._puts:
            plain = put.event is not None and put.event.alarm is None
            if puts and (not plain or put.at > until or len(puts) == BATCH_EVENTS):
                yield puts
                puts = []
            if plain:
                until = until if puts else self._order.until_next(put.at)
                puts.append(put)
            else:
                yield [put]
        if puts:
            yield puts

    async def _let_go(self, deadline: float) -> None:
        """Let everything happen that goes before what is put in next."""
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
        left = len(self._puts) - self.done
        works = describe_works(self._runtime.in_flight.pending().works) or "nothing"
        more = f"; {left:,} of {len(self._puts):,} events and commits were not put in" if left else ""
        return HappenTimeoutError(f"rerun: timed out; still running: {works}{more}")

    def _arrived(self, event: EventRecord) -> None:
        if self._runtime.recall is not None:
            self._runtime.recall.stored(event)
        self._order.stored(event)
        if self._order.arrived(event.id):
            self._conductor.look_again()

    # -- putting in --------------------------------------------------------------------------------------

    async def _put_in(self, puts: Sequence[Put], deadline: float) -> None:
        first = puts[0]
        self._steering.now = from_ns(first.time) if first.time else self._steering.now
        if first.clock is not None:
            await self._move_clock(first.clock, deadline)
        elif first.commit is not None:
            await self._commit(first.commit, first.events, deadline)
        elif first.event is not None and first.event.alarm is not None:
            await self._deliver(first.event, deadline, expected=first.expected)
        else:
            await self._publish([put.event for put in puts if put.event is not None], deadline)

    async def _publish(self, events: Sequence[EventRecord], deadline: float) -> None:
        log, contexts = self._log, self._runtime.dispatcher.contexts
        ttl = log.info.event_ttl
        batch = [(event, encoding.encode_event(log.subjects, event, ttl=ttl)) for event in events]
        for event in events:
            contexts[event.id] = self._context
            self._order.sent(event)
        try:
            await store_all(log, batch, deadline)
        finally:
            for event in events:
                contexts.pop(event.id, None)

    async def _commit(self, pair: CommitPair, events: Sequence[EventRecord], deadline: float) -> None:
        """Make a change again, on the state that the node has now."""
        record, log = pair[0], self._log
        while True:
            cut = log.replica.cut_of(record.node)
            newest = cut.nodes.get(record.node)
            state, body = (EMPTY, None) if record.deleted else self._changed(pair, newest)
            is_first = newest is None and pair[0].revision == 1  # an empty state is stored, too
            if body is not None and not events and not is_first and is_stored(newest, state, body):
                return
            request = CommitRequest(record.node, state, body, cut, origin=record.origin, events=tuple(events))
            write = self._runtime.writer.prepare(request, f'the commit of node "{record.node}"', deadline)
            if await self._runtime.writer.complete(write, request) is not None:
                return

    def _changed(self, pair: CommitPair, newest: CommitRecord | None) -> tuple[FrozenDict, bytes]:
        now = EMPTY if newest is None else newest.state
        state = freeze_state(redo(changes_of(pair), now), node=pair[0].node)
        return state, dumps(state)

    async def _deliver(self, event: EventRecord, deadline: float, *, expected: bool) -> None:
        """Deliver a scheduled event: the one that is scheduled here, if it is."""
        log = self._log
        alarm = log.alarms.get(event.alarm_id)
        if alarm is None and expected:
            return  # the handler has not scheduled it, or it was cancelled
        if alarm is None:
            name, _, nonce = str(event.alarm).partition(" ")
            alarm = Alarm(name, nonce, 0, event.due or "", log.subjects.event(event), event)
        elif event.tick is None:
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
