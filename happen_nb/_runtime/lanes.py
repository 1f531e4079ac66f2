"""Deliver each event of the journal to each state handler once and in order, whichever process is killed.

A commit of the node carries the positions of its state handlers, and is stored only if nothing else was
stored first. So each event is applied exactly once. Only the owner of the node applies it, which saves work.
A process that starts to serve a node reads the events since that position; later events wait for this.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from happen_nb._journal.slice import WINDOW_MESSAGES, events_between, windows
from happen_nb._model.positions import START, Position
from happen_nb._runtime.holds import HeldForCatchUp
from happen_nb._runtime.in_flight import NamedWork
from happen_nb._runtime.registrations import concerns
from happen_nb._runtime.turns import Part
from happen_nb._runtime.waiting import POLL_SECONDS, RETRY_SECONDS
from happen_nb.errors import HappenError

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable

    from happen_nb._journal.follower import FreshStart
    from happen_nb._model.records import Cut, EventRecord
    from happen_nb._runtime.dispatcher import Dispatcher
    from happen_nb._runtime.in_flight import Work
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.progress import StateHandler
    from happen_nb._runtime.registrations import Registration

logger = logging.getLogger("happen_nb")

MAX_UNFOLDED = 10_000  # maximum number of events that a handler catches up with one by one; more are folded
CATCHING_UP = "catching up "  # prefix of the correlation of the works that read missed events
MAX_QUEUED = 2 * WINDOW_MESSAGES  # maximum number of events that wait for their handler while more are read
LEAVE_SECONDS = 10.0
"""Time for another process that may apply an event that fails here, where none is the owner."""
ASK_SECONDS = 0.5
"""Seconds that other processes have to answer whether they have a handler; then they are asked again."""


class Waiting(NamedTuple):
    """An event that has arrived while its handlers catch up."""

    event: EventRecord
    context: contextvars.Context | None
    snapshot: Cut | None
    late: list[Registration]  # the handlers of the event that are catching up
    others: list[Registration]
    """The other state handlers, and the plain handlers of the node, which see the commits."""
    replies: bool
    work: Work  # registers the event as in flight until it is delivered, for `settle`


class CatchUp:
    """State handlers of a node that read the events they missed; later events wait until all have.

    So they apply those in one order, by position and then by registration.
    """

    def __init__(self) -> None:
        self.ends: dict[Registration, int] = {}
        """The position up to which each handler has read; 0 until then."""
        self.waiting: list[Waiting] = []  # events that have arrived meanwhile


def is_catching_up(work: Work) -> bool:
    """Return True if a work is the reading of events that state handlers have missed."""
    return work.correlation.startswith(CATCHING_UP)


class Lanes:
    """The state handlers of this process. On the IO thread."""

    def __init__(self, log: Log, dispatcher: Dispatcher) -> None:
        self._log = log
        self._dispatcher = dispatcher
        dispatcher.ownership.on_change.connect(self.refresh)
        log.on_fresh_start.connect(self._on_fresh_start)
        self._catching_up: dict[str, CatchUp] = {}

    def _on_fresh_start(self, start: FreshStart) -> None:
        """Apply the events of a space that was recreated, from the beginning; those before it are gone."""
        if start.again:
            return
        self._dispatcher.pipelines.drop(sys.maxsize)
        for node in self._dispatcher.registrations.nodes():
            for registration in self._dispatcher.registrations.of(node):
                if registration.state is not None:
                    self._stop(registration)
                    registration.state.start_over()
            self.refresh(node)
        self._log.background(self._dispatcher.progress.start_again(0))

    def _serves(self, registration: Registration, handler: StateHandler) -> bool:
        """Return True if this process applies it: as the owner, or because the owner lacks the handler."""
        ownership = self._dispatcher.ownership
        owner = ownership.owner_of(registration.node)
        ours = ownership.is_ours(registration.node)
        return ours or (owner is not None and handler.key not in owner.state_handlers)

    async def leave(self, registration: Registration, position: Position) -> bool:
        """Leave a failing event to another process that serves the handler; False if there is none.

        Where the owner lacks the handler, others may have it: they get some time to apply the event, unless
        they have failed, too.
        """
        handler, node = registration.state, registration.node
        assert handler is not None
        if not self._serves(registration, handler):
            self._stop(registration)
            return True
        if self._dispatcher.ownership.is_ours(node):
            return False
        replica, deadline = self._log.replica, time.monotonic() + LEAVE_SECONDS
        handler.failing = position
        try:
            while True:
                newest = replica.newest(node)
                if handler.progress(await self._dispatcher.progress.positions(node, newest)).covers(position):
                    return True
                left = deadline - time.monotonic()
                peers = self._dispatcher.peers
                if left <= 0 or not await peers.may_apply(node, handler.key, position, ASK_SECONDS):
                    return False
                await replica.changed(node, newest, min(left, ASK_SECONDS))
        finally:
            handler.failing = None

    def may_apply(self, node: str, key: str, position: Position) -> bool:
        """Return True if this process has a state handler that applies an event, unless it has failed."""
        handlers = [each.state for each in self._dispatcher.registrations.of(node) if each.state]
        return any(
            each.key == key and each.failing != position and position not in each.failed for each in handlers
        )

    def ahead(self, registration: Registration, most: int) -> list[tuple[EventRecord, Cut | None]]:
        """Return the next events that wait for a handler, with their snapshots. From any thread."""
        waiting = list(self._dispatcher.queue(registration.node).queued)
        mine = [each for each in waiting if registration in each.candidates and not each.cancelled]
        return [(each.event, each.snapshot) for each in mine[:most]]

    def refresh(self, node: str) -> None:
        """Start or stop serving a node's handlers, depending on the owner of the node."""
        starting: list[Registration] = []
        for registration in self._dispatcher.registrations.of(node):
            handler = registration.state
            if handler is None:
                continue
            if not self._serves(registration, handler):
                self._stop(registration)
            elif not handler.live and handler.catching_up is None:
                starting.append(registration)
        if starting:
            self._start(node, starting)

    def offer(
        self,
        registrations: list[Registration],
        event: EventRecord,
        context: contextvars.Context | None,
        *,
        ours: bool,
    ) -> Part | None:
        """Return the handlers of one node to deliver an event to now; None if there are none.

        State handlers come first. While one of the node catches up, no event overtakes those that it has
        missed.
        """
        snapshot: Cut | None = None
        live: list[Registration] = []
        late: list[Registration] = []
        plain = [each for each in registrations if each.state is None] if ours else []
        for registration in registrations:
            handler = registration.state
            if handler is None or not (handler.live or handler.catching_up is not None):
                continue
            if handler.takes_views and snapshot is None:
                snapshot = self._log.replica.cut()
            (live if handler.live else late).append(registration)
        if not (late or live or plain):
            return None
        reading = self._catching_up.get(registrations[0].node)
        if reading is None:
            return Part(registrations[0].node, [*live, *plain], snapshot, ours)
        work = NamedWork(
            event.correlation or event.id,
            lambda: f'"{event.type}" waiting for a state handler',
            event.origin_of_effects(""),
        )
        self._dispatcher.in_flight.start(work)
        reading.waiting.append(Waiting(event, context, snapshot, late, [*live, *plain], ours, work))
        return None

    def catches_up(self, node: str) -> bool:
        """Return True if state handlers of a node read the events that they missed."""
        return node in self._catching_up

    def waiting(self) -> list[str]:
        """Return the ids of the events that wait for a handler that catches up."""
        return [each.event.id for reading in self._catching_up.values() for each in reading.waiting]

    def _stop(self, registration: Registration) -> None:
        """Stop delivering to a handler; a new start reads the missed events."""
        handler = registration.state
        assert handler is not None
        handler.live, reading, handler.catching_up = False, handler.catching_up, None
        if reading is not None:
            del reading.ends[registration]
            self._end_if_read(registration.node, reading)

    def _start(self, node: str, registrations: list[Registration]) -> None:
        """Start to catch up; `settle` waits for the end of it."""
        reading = self._catching_up.setdefault(node, CatchUp())
        for registration in registrations:
            assert registration.state is not None
            registration.state.catching_up = reading
            reading.ends[registration] = 0
        names = ", ".join(registration.name for registration in registrations)
        work = NamedWork(
            f"{CATCHING_UP}{id(registrations)}", lambda: f'node "{node}" catching up with {names}'
        )
        self._dispatcher.in_flight.start(work)
        self._log.background(self._catch_up(node, reading, registrations, work))

    async def _catch_up(
        self, node: str, reading: CatchUp, registrations: list[Registration], work: Work
    ) -> None:
        """Deliver the events that were stored before, then those that have arrived meanwhile."""
        in_flight = self._dispatcher.in_flight

        def going_on() -> list[Registration]:
            return [each for each in registrations if each.state and each.state.catching_up is reading]

        try:
            while going_on():
                try:
                    end = await self._read_up(node, going_on)
                    reading.ends |= dict.fromkeys(going_on(), end)
                    self._end_if_read(node, reading)
                    break
                except HappenError as error:  # events that were delivered already are recognized
                    logger.info('node "%s" catching up: %s; trying again', node, error)
                    await asyncio.sleep(RETRY_SECONDS)
            items = set(self._dispatcher.pipelines.items(node))
            await in_flight.drain(lambda work: work in items, float("inf"))
            queued = set(self._dispatcher.queue(node).open)  # without those behind a handler that sleeps
            await in_flight.drain(lambda work: work in queued, float("inf"))
        finally:
            if not self._dispatcher.ownership.leaving:  # else the next owner goes on: it is not done
                in_flight.finish(work)

    async def _read_up(self, node: str, going_on: Callable[[], list[Registration]]) -> int:
        """Deliver what handlers have missed; return the position up to which that is done."""
        log, progress = self._log, self._dispatcher.progress
        end = log.position  # all later events wait
        positions = await progress.positions(node, log.replica.newest(node))
        after = {each: each.state.progress(positions).position for each in going_on() if each.state}
        late, passed = await progress.report_missed(after)
        for registration in late:
            assert registration.state is not None
            registration.state.pass_over(passed)
            await progress.store(registration.node)
        if after and log.newest_event < min(after.values())[0]:
            return end  # most handlers start with the next event
        first = (await log.stream.info()).first
        at = max(first, min(after.values(), default=START)[0])
        held: list[tuple[EventRecord, list[Registration]]] = []
        """The first events, until their number decides whether they are folded."""
        fold, hold = False, end - at > MAX_UNFOLDED
        for start, until in windows(at, end):
            if not going_on():
                break
            events = await events_between(log.stream, start, until)
            reading = [(each, after[each]) for each in going_on()]
            for event in events:
                position = event.position
                handlers = [each for each, last in reading if position > last and concerns(each, event)]
                if handlers:
                    held.append((event, handlers))
            fold = fold or len(held) > MAX_UNFOLDED
            hold = hold and not fold and until < end
            if not hold:
                self._put_missed(node, held, fold=fold)
                held = []
            while self._dispatcher.is_crowded(node) and going_on():  # noqa: ASYNC110 - threads
                await asyncio.sleep(POLL_SECONDS)
        return end

    def _put_missed(
        self, node: str, events: list[tuple[EventRecord, list[Registration]]], *, fold: bool
    ) -> None:
        """Deliver missed events, without those that wait at the gate."""
        gate, pipelines = self._dispatcher.gate, self._dispatcher.pipelines

        def put(handlers: list[Registration], event: EventRecord) -> None:
            pipelines.put_missed(node, [(event, handlers)], fold=fold)

        if gate.closed:
            events = [
                (event, handlers)
                for event, handlers in events
                if not gate.keep(event, node, HeldForCatchUp(partial(put, handlers)))
            ]
        pipelines.put_missed(node, events, fold=fold)

    def _end_if_read(self, node: str, reading: CatchUp) -> None:
        """Deliver the events that have arrived, if all handlers of a node have read the earlier ones."""
        if not all(reading.ends.values()) or self._catching_up.get(node) is not reading:
            return
        if self._dispatcher.ownership.leaving:
            return  # the next owner of the node applies what waits: it is not done
        del self._catching_up[node]
        for registration in reading.ends:
            assert registration.state is not None
            registration.state.catching_up, registration.state.live = None, True
        for event, context, snapshot, waiting, others, replies, work in reading.waiting:
            late = [each for each in waiting if event.sequence > reading.ends.get(each, event.sequence)]
            ready = [each for each in others if each.state is None or each.state.live]
            handlers = sorted((*late, *ready), key=lambda each: (each.state is None, each.number))
            part = Part(node, handlers, snapshot, replies)
            if handlers and not self._dispatcher.durables.hold(event, context, part):
                self._dispatcher.put(event, context, [part])
            self._dispatcher.in_flight.finish(work)
