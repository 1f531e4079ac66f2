"""Calls that are made again and again, each by a scheduled event: a tick.

When one arrives, the owner of the node schedules the next. A kill in between leaves no tick scheduled; the
next owner of the node continues. A cancel of the next tick ends the handlers in every process, but not a
cancel by `off` or for a shorter period.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from happen_nb._model.freeze import freeze
from happen_nb._model.records import EventRecord
from happen_nb._model.schedules import from_text, utc_text
from happen_nb._runtime import scheduling
from happen_nb._runtime.in_flight import NamedWork
from happen_nb._runtime.waiting import RETRY_SECONDS
from happen_nb.errors import HappenError

if TYPE_CHECKING:
    from happen_nb._journal.scheduled import Ended
    from happen_nb._runtime.dispatcher import Dispatcher
    from happen_nb._runtime.first_run import Recall
    from happen_nb._runtime.registrations import Registration

logger = logging.getLogger("happen_nb")

TYPE: Final = "every"  # the type of ticks, and the pattern of their handlers
_TICK: Final = f"{TYPE}~"
LEAST_SECONDS: Final = 0.001  # the shortest period
KEPT: Final = 1000  # number of ticks that are kept of each ``every``
TRIM_EVERY: Final = 100  # ticks


def tick_id(node: str, key: str) -> str:
    """Return the id of the alarm of a handler's ticks; it cannot be an id that a caller gives."""
    return f"{_TICK}{hashlib.blake2b(f'{node} {key}'.encode(), digest_size=8).hexdigest()}"


class Ticks:
    """Schedules the ticks of this process's handlers. On the IO thread, except `end`."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._log = dispatcher.log
        self.recall: Recall | None = None  # in a second run: the recorded results of the first one
        self._going_on: dict[str, EventRecord | None] = {}
        """The ticks whose next tick is being scheduled, with a tick that has arrived meanwhile."""
        self._turns = defaultdict[str, asyncio.Lock](asyncio.Lock)
        """A lock for each ``every``: a late cancel would otherwise remove the next tick."""
        self._log.on_event.connect(self._on_event)
        self._log.on_ended.connect(self._on_ended)
        self._log.on_clear.connect(lambda *_: self._go_on_all())
        dispatcher.ownership.on_change.connect(self._go_on)

    async def start(self, registration: Registration, deadline: float) -> None:
        """Schedule the next tick of a handler that was just registered."""
        tick = registration.tick
        assert tick is not None
        now = self._dispatcher.clock.now()
        if datetime.max.replace(tzinfo=UTC) - now < timedelta(seconds=registration.period):
            raise ValueError(
                f"every: the first call, {registration.period:g} s after {now:%Y-%m-%d}, would be after the "
                "year 9999; pass fewer seconds"
            )
        async with self._turns[tick]:
            latest = now + timedelta(seconds=registration.period)
            pending = self._log.alarms.get(tick)
            if pending is None:  # it may be under way: then this one is refused
                await self._schedule(registration, deadline)
            elif pending.due > utc_text(latest):  # its period was longer
                await scheduling.cancel(self._log, tick, deadline, goes_on=True)
                await self._schedule(registration, deadline)

    async def stop(self, registration: Registration) -> None:
        """Cancel the next tick, unless the handler is registered again."""
        tick, node = registration.tick, registration.node
        if tick is None:
            return
        async with self._turns[tick]:
            if self._registered(tick, node) or not self._dispatcher.ownership.is_ours(node):
                return
            deadline = time.monotonic() + self._log.timeout
            try:
                await scheduling.cancel(self._log, tick, deadline, goes_on=True)
            except HappenError as error:
                logger.debug("the ticks of %s: %s", registration.name, error)

    def end(self, id: str) -> None:
        """Unregister the handlers here whose next tick was cancelled under an id. From any thread."""
        if not id.startswith(_TICK):
            return
        for registration in self._dispatcher.registrations.all():
            if registration.tick == id:
                self._dispatcher.remove(registration)

    async def scheduled(self, tick: str, deadline: float) -> None:
        """Wait until the next tick is scheduled, if the one before has arrived."""
        await self._dispatcher.in_flight.drain(lambda work: work.correlation == _work_of(tick), deadline)

    async def all_scheduled(self, deadline: float) -> None:
        """Wait until the next ticks of all nodes are scheduled, as after a clear."""
        await self._dispatcher.in_flight.drain(
            lambda work: work.correlation.startswith(_work_of("")), deadline
        )

    def is_late(self, event: EventRecord, node: str) -> bool:
        """Return True if the handler of a tick still runs for the previous one."""
        if event.tick is None:
            return False
        if self.recall is not None and (late := self.recall.was_late(event.id, node)) is not None:
            return late
        return any(each.event.tick == event.tick for each in list(self._dispatcher.queue(node).open))

    def _registered(self, tick: str, node: str) -> Registration | None:
        found = self._dispatcher.registrations.of(node)
        return next((each for each in found if each.tick == tick), None)

    # -- going on ------------------------------------------------------------------------------------

    def _on_event(self, event: EventRecord) -> None:
        if event.tick is None or event.target is None:
            return
        registration = self._registered(event.tick, event.target)
        if registration is not None and self._dispatcher.ownership.is_ours(event.target):
            self._in_background(registration, event)

    def _on_ended(self, cancel: Ended) -> None:
        if not cancel.goes_on:
            self.end(cancel.id)

    def _go_on(self, node: str) -> None:
        """Schedule the next ticks of a node that this process owns now, if none are."""
        if not self._dispatcher.ownership.is_ours(node):
            return
        for registration in self._dispatcher.registrations.of(node):
            if registration.tick is not None and self._log.alarms.get(registration.tick) is None:
                self._in_background(registration, None)

    def _go_on_all(self) -> None:
        for node in self._dispatcher.registrations.nodes():
            self._go_on(node)

    def _in_background(self, registration: Registration, last: EventRecord | None) -> None:
        tick = registration.tick or ""
        if tick in self._going_on:
            self._going_on[tick] = last or self._going_on[tick]
        else:
            self._going_on[tick] = None
            work = NamedWork(_work_of(tick), lambda: f"scheduling the next tick of {registration.name}")
            self._dispatcher.in_flight.start(work)
            self._log.background(self._schedule_next(registration, last, work))

    async def _schedule_next(
        self, registration: Registration, last: EventRecord | None, work: NamedWork
    ) -> None:
        node, tick = registration.node, registration.tick or ""
        try:
            while True:
                async with self._turns[tick]:
                    if not registration.active or not self._dispatcher.ownership.is_ours(node):
                        break
                    try:
                        await self._schedule(registration, time.monotonic() + self._log.timeout, last)
                        break
                    except HappenError as error:
                        logger.info("the next tick of %s: %s; trying again", registration.name, error)
                await asyncio.sleep(RETRY_SECONDS)
        finally:
            arrived = self._going_on.pop(tick)
            if arrived is not None:
                self._on_event(arrived)
            self._dispatcher.in_flight.finish(work)

    async def _schedule(
        self, registration: Registration, deadline: float, last: EventRecord | None = None
    ) -> None:
        """Schedule the tick after the last one, which is read if it is not given."""
        log, node, tick = self._log, registration.node, registration.tick
        subject = log.subjects.ticks(node, tick or "")
        base = 0 if last is None else last.sequence
        is_new = False
        if last is None:
            newest = await log.stream.newest(subject)
            base = log.cleared if newest is None else newest.sequence
            last = None if newest is None else await log.stream.delivered(subject)
            is_new = last is None or last.sequence != base  # after a cancel, it starts again
        number = 1 if last is None else _number(last) + 1
        due = utc_text(self._due(registration, None if is_new or last is None else from_text(last.due or "")))
        event = EventRecord(
            f"{tick}-{number}",
            TYPE,
            node,
            freeze({"n": number}),
            node,
            occurred=due if self._dispatcher.clock.manual else None,
            due=due,
            alarm=f"{tick} {base}",  # the same in each process
        )
        await scheduling.store(log, event, deadline)
        pending = log.alarms.get(event.alarm_id)
        if pending is not None and pending.name == event.alarm:
            self._dispatcher.clock.deliver_soon(pending._replace(event=event))
        if number % TRIM_EVERY == 0:
            await log.stream.keep_newest(subject, KEPT)

    def _due(self, registration: Registration, last: datetime | None) -> datetime:
        """Return when the next tick is due; missed ticks become one, which is due at once."""
        now, period = self._dispatcher.clock.now(), timedelta(seconds=registration.period)
        if last is None:
            return now + period
        late = (now - last) // period
        return last + period * max(1, late if registration.state is None else late + 1)


def _work_of(tick: str) -> str:
    """Return the correlation of the work of scheduling the next tick."""
    return f"ticks {tick}"


def _number(event: EventRecord) -> int:
    number = event.payload.get("n") if hasattr(event.payload, "get") else 0
    return number if isinstance(number, int) else 0
