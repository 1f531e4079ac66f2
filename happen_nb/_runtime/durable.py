"""Run durable handlers for each event until they have ended once, whichever process is killed.

The journal shows which handlings have ended. The owner of a node runs the others, in order, before it runs
the handlers for new events, which wait for that. Steps that an earlier run has stored are known by their
keys, and are not repeated, even if two processes run a handler at the same time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from happen_nb._journal import decoding, encoding
from happen_nb._journal.publish import RefusedError, store_messages
from happen_nb._journal.slice import events_between, last_clear, read_handled, windows
from happen_nb._model.positions import LAST_INDEX, START, Position, before, handling_id
from happen_nb._runtime.holds import HeldForCatchUp
from happen_nb._runtime.in_flight import NamedWork
from happen_nb._runtime.io import io_thread
from happen_nb._runtime.lanes import CATCHING_UP
from happen_nb._runtime.registrations import Orphan, awaiting, concerns, count_waiting, newest_like
from happen_nb._runtime.stored_steps import DurableHandler, DurableRun
from happen_nb._runtime.waiting import POLL_SECONDS, RETRY_SECONDS, seconds_left
from happen_nb.errors import HappenError

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Container

    from happen_nb._journal.decoding import Clear
    from happen_nb._journal.follower import FreshStart
    from happen_nb._model.records import EventRecord
    from happen_nb._runtime.dispatcher import Dispatcher
    from happen_nb._runtime.in_flight import Work
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.peers import Peers
    from happen_nb._runtime.registrations import Registration
    from happen_nb._runtime.turns import Part

logger = logging.getLogger("happen_nb")

ANSWER_SECONDS: Final = 1.0  # seconds that the previous owner has to answer which handlings it still runs
BUSY_SECONDS: Final = 5.0
"""Seconds after which a connected previous owner that does not answer is no longer waited for."""
STORE_EVERY: Final = 500  # number of handlings after which the progress of a handler is stored
STORE_SECONDS: Final = 60.0
"""Seconds after which the next handling stores it, too; later events count as missed if they expire."""


class Arrived(NamedTuple):
    """An event that has arrived while durable handlers of a node catch up."""

    event: EventRecord
    context: contextvars.Context | None
    part: Part
    work: Work  # registers the event as in flight until it is delivered, for `settle`


class Reading:
    """Durable handlers of a node that read the events that they missed."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.ends: dict[DurableHandler, int] = {}  # the sequence up to which each handler reads
        self.read: set[DurableHandler] = set()
        self.held: list[Arrived] = []  # the events that have arrived meanwhile
        self.stopped = False


class Durables:
    """The durable handlers of this process. On the IO thread, unless stated otherwise."""

    def __init__(self, log: Log, dispatcher: Dispatcher, peers: Peers) -> None:
        self._log = log
        self._dispatcher = dispatcher
        self._peers = peers
        self._known: dict[tuple[str, str], DurableHandler] = {}
        self._readings: dict[str, Reading] = {}
        dispatcher.ownership.on_change.connect(self.refresh)
        log.on_clear.connect(self._on_clear)
        log.on_fresh_start.connect(self._on_fresh_start)

    # -- registering ---------------------------------------------------------------------------------

    async def prepare(self, registration: Registration, deadline: float) -> Orphan | None:
        """Give a registration the progress of its handler; a handler that is new on the node starts now.

        Returns the handler that the new one may be meant to continue, if no process has it.
        """
        log, node, key = self._log, registration.node, registration.key
        known = self._known.get((node, key))
        if known is not None:
            registration.durable = known
            return None
        pattern = registration.pattern.text if registration.pattern.predicate is None else None
        subject = log.subjects.durable(node, key)
        found = await log.stream.newest(subject)
        if found is None:
            start = await self._start(registration)
            message = encoding.encode_durable(log.subjects, node, key, pattern, start, expected=0)
            left, what = seconds_left(deadline), f'a durable handler of node "{node}"'
            body, sequence = await log.stream.store_first(message, timeout=left, what=what)
            await log.reach(sequence, deadline)
        else:
            body, sequence = found.body, found.sequence
        position = decoding.decode_start(subject, body, sequence).position
        registration.durable = DurableHandler(node, key, pattern, position, sequence)
        self._known[node, key] = registration.durable
        return await self._orphan(registration) if found is None else None

    async def _orphan(self, new: Registration) -> Orphan | None:
        node, log = new.node, self._log
        owner = self._dispatcher.ownership.owner_of(node)
        elsewhere = owner is not None and owner.incarnation != log.incarnation
        served = {*(each.key for each in self._dispatcher.registrations.of(node) if each.durable)}
        served |= dict(owner.sources).keys() if owner is not None and elsewhere else set()
        starts = await self._starts(f"{log.subjects.durable_prefix}{node}.*")
        found = newest_like(new, [(each.position, each) for each in starts if each.pattern], served)
        if found is None:
            return None
        position, start = found
        await self._dispatcher.handled.flush()
        records = await read_handled(log.stream, since=position[0] - 1)
        ended = {each.handling for each in records}

        def is_done(event: EventRecord) -> bool:
            return handling_id(event.id, node, start.key) in ended

        return Orphan(start.key, await count_waiting(log.stream, start, position, log.position, is_done))

    async def _start(self, registration: Registration) -> Position | None:
        """Return where a handler starts whose progress is not stored: after a clear, or now."""
        owner = self._dispatcher.ownership.record(registration.node)
        had = owner is not None and registration.key in dict(owner.sources)
        if owner is not None and had and registration.pattern.text in owner.durable:
            return (await last_clear(self._log.stream), 0)  # which has removed its progress
        return None

    async def _starts(self, subject: str) -> list[decoding.Start]:
        stored = await self._log.stream.read(subject)
        return [decoding.decode_start(each.subject, each.body, each.sequence) for each in stored]

    async def forget(self, node: str) -> None:
        """Remove the stored progress of a deleted node's handlers."""
        self.dropped(node)
        await self._log.stream.remove(f"{self._log.subjects.durable_prefix}{node}.*")

    def dropped(self, node: str) -> None:
        """Forget the handlers of a node that was deleted."""
        self._known = {key: each for key, each in self._known.items() if each.node != node}

    def current(self, registration: Registration) -> Registration | None:
        """Return a registration, or the one that has replaced it in this process. From any thread."""
        if registration.active or registration.durable is None:
            return registration if registration.active else None
        return self._handlers(registration.node).get(registration.durable)

    async def outstanding(self) -> Callable[[EventRecord, Container[str]], bool]:
        """Return a test of events and ended handlings: True if a durable handler will handle the event."""
        starts = await self._starts(self._log.subjects.durables)
        handlers = [(start, awaiting(start, start.position)) for start in starts]
        return lambda event, ended: any(
            waits_for(event) and handling_id(event.id, start.node, start.key) not in ended
            for start, waits_for in handlers
        )

    # -- what is handled here, from any thread -------------------------------------------------------

    def queue(self, handler: DurableHandler, event: EventRecord) -> None:
        """Note that an event waits for a handler."""
        handling = handler.handling(event.id)
        if handling not in handler.queued:
            handler.queued.add(handling)
            handler.open[handling] = event.position
            self._log.steps.hold(handling)

    def begin(self, handler: DurableHandler, event: EventRecord) -> bool:
        """Note that a handler runs for an event; False if another process owns the node now."""
        handler.running.add(handler.handling(event.id))  # first: the new owner asks for what runs
        return self._dispatcher.ownership.is_ours(handler.node)

    def run(self, handler: DurableHandler, event: EventRecord, name: str) -> DurableRun:
        what = f'{name} of node "{handler.node}", handling "{event.type}"'
        return DurableRun(self._log.steps, handler.handling(event.id), what)

    def pause(self, handler: DurableHandler, event: EventRecord) -> None:
        """Note that a handler waits until it is called again."""
        handler.running.discard(handler.handling(event.id))

    def end(self, handler: DurableHandler, event: str) -> None:
        handler.open.pop(handler.handling(event), None)
        self.leave(handler, event)
        handler.count += 1
        if handler.count >= STORE_EVERY or time.monotonic() - handler.stored_at > STORE_SECONDS:
            handler.count, handler.stored_at = 0, time.monotonic()
            io_thread().call_soon(lambda: self._log.background(self._store(handler)))

    def leave(self, handler: DurableHandler, event: str) -> None:
        """Note that a handler does not handle an event now; the later owner of the node runs it."""
        handling = handler.handling(event)
        handler.running.discard(handling)
        if handling in handler.queued:
            handler.queued.discard(handling)
            io_thread().call_soon(self._log.steps.release, handling)

    def _deliver(self, handlers: list[Registration], event: EventRecord) -> None:
        self._dispatcher.deliver(event, handlers[0].node, handlers, None, replies=event.target is not None)

    def _drop(self, handlers: list[DurableHandler], event: str) -> None:
        for handler in handlers:  # the journal shows the next owner of the node that it has not ended
            self.leave(handler, event)

    def run_on(self, node: str) -> bool:
        return any(each.running for each in list(self._known.values()) if each.node == node)

    # -- progress ------------------------------------------------------------------------------------

    async def _store(self, handler: DurableHandler) -> None:
        """Store how far a handler has come, so that the next process need not read from its start."""
        if not handler.live or not self._dispatcher.ownership.is_ours(handler.node):
            return
        await self._dispatcher.handled.flush()
        log = self._log
        position = (log.position, LAST_INDEX)
        waits = self._dispatcher.gate.waits_at(handler.node)
        if handler.open or waits:
            position = before(min([*handler.open.values(), *([waits] if waits else [])]))
        if position > handler.position:
            await self._store_position(handler, position)

    async def _store_position(self, handler: DurableHandler, position: Position) -> None:
        log = self._log
        message = encoding.encode_durable(
            log.subjects, handler.node, handler.key, handler.pattern, position, expected=handler.sequence
        )
        what = f'the progress of node "{handler.node}"'
        try:
            handler.sequence = await store_messages(log.connection, [message], timeout=log.timeout, what=what)
            handler.position = position
        except RefusedError as refusal:  # another process owns the node, or has owned it
            handler.sequence = refusal.newest
        except HappenError as error:
            logger.debug("%s: %s; it is stored later", what, error)

    async def close(self) -> None:
        await asyncio.gather(*(self._store(each) for each in list(self._known.values())))

    def _on_clear(self, clear: Clear, _: int) -> None:
        for handler in self._known.values():
            handler.open.clear()
            handler.position, handler.sequence = (clear.sequence, 0), 0
            if handler.live:
                self._log.background(self._store(handler))

    def _on_fresh_start(self, start: FreshStart) -> None:
        """Read the events that were passed over, if the space was recreated."""
        if start.again:
            return
        for handler in self._known.values():
            handler.live = False
            handler.position, handler.sequence = START, 0
        for node in {handler.node for handler in self._known.values()}:
            self._stop(node)
            self._start_reading(node, start.position)

    # -- catching up ---------------------------------------------------------------------------------

    def _handlers(self, node: str) -> dict[DurableHandler, Registration]:
        mine = self._dispatcher.registrations.of(node)
        return {each.durable: each for each in mine if each.durable is not None}

    def removed(self, registration: Registration) -> None:
        """Note that a handler was unregistered: the events from now on are read when it is back."""
        handler = registration.durable
        if handler is None or handler in self._handlers(handler.node):
            return
        handler.live = False
        reading = self._readings.get(handler.node)
        if reading is not None:
            reading.ends.pop(handler, None)
            reading.read.discard(handler)

    def refresh(self, node: str) -> None:
        """Start or stop serving a node's handlers, depending on the owner of the node."""
        if self._dispatcher.ownership.is_ours(node):
            self._start_reading(node, self._log.position)
            return
        self._stop(node)
        for handler in self._handlers(node):
            handler.live = False

    def _stop(self, node: str) -> None:
        reading = self._readings.pop(node, None)
        if reading is not None:
            reading.stopped = True
            self._release(reading)

    def _start_reading(self, node: str, end: int) -> None:
        late = {handler: each.name for handler, each in self._handlers(node).items() if not handler.live}
        if not late or not self._dispatcher.ownership.is_ours(node):
            return
        started = self._readings.get(node)
        reading = started or self._readings.setdefault(node, Reading(node))
        for handler in late:
            reading.ends.setdefault(handler, end)
        if started is not None:
            return
        names = ", ".join(late.values())
        work = NamedWork(f"{CATCHING_UP}{id(reading)}", lambda: f'node "{node}" catching up with {names}')
        self._dispatcher.in_flight.start(work)
        self._log.background(self._catch_up(reading, work))

    def hold(self, event: EventRecord, context: contextvars.Context | None, part: Part) -> bool:
        """Let an event wait while durable handlers of its node catch up; False if none does."""
        reading = self._readings.get(part.node)
        if reading is None:
            return False
        work = NamedWork(
            event.correlation or event.id,
            lambda: f'"{event.type}" waiting for a durable handler',
            event.origin_of_effects(part.node),
        )
        self._dispatcher.in_flight.start(work)
        reading.held.append(Arrived(event, context, part, work))
        return True

    def catches_up(self, node: str) -> bool:
        return node in self._readings

    def waiting(self) -> list[str]:
        return [each.event.id for reading in self._readings.values() for each in reading.held]

    async def _catch_up(self, reading: Reading, work: Work) -> None:
        """Deliver the events whose handling has not ended, then those that have arrived meanwhile."""
        in_flight = self._dispatcher.in_flight
        try:
            while not reading.stopped:
                try:
                    await self._read_up(reading)
                    break
                except HappenError as error:  # events that were delivered already are recognized
                    logger.info('node "%s" catching up: %s; trying again', reading.node, error)
                    await asyncio.sleep(RETRY_SECONDS)
        finally:  # after the events that are queued now
            self._dispatcher.queue(reading.node).mailbox.put(lambda: in_flight.finish(work))

    async def _read_up(self, reading: Reading) -> None:
        node = reading.node
        await self._let_state_handlers_apply(node)
        await self._wait_for_owner_before(node)
        while not reading.stopped:
            handlers = self._handlers(node)
            left = {each: handlers[each] for each in reading.ends if each in handlers.keys() - reading.read}
            if not left:
                for handler in reading.read & handlers.keys():
                    handler.live, handler.read_to = True, reading.ends[handler]
                del self._readings[node]
                self._release(reading)
                return
            ends = {each: reading.ends[each] for each in left}
            await self._read_missed(reading, left, ends)
            # One that was registered again meanwhile reads again, up to a later position.
            reading.read |= {each for each, end in ends.items() if reading.ends.get(each) == end}

    async def _let_state_handlers_apply(self, node: str) -> None:
        """Wait until the state handlers of a node, which come first, have applied what has arrived."""
        while self._dispatcher.lanes.catches_up(node):  # noqa: ASYNC110 - rare, and at the start
            await asyncio.sleep(POLL_SECONDS)
        items = set(self._dispatcher.pipelines.items(node))
        await self._dispatcher.in_flight.drain(lambda work: work in items, float("inf"))

    async def _read_missed(
        self, reading: Reading, handlers: dict[DurableHandler, Registration], ends: dict[DurableHandler, int]
    ) -> None:
        """Read and deliver the events that some handlers missed."""
        dispatcher, log = self._dispatcher, self._log
        after = {by: each.position for each, by in handlers.items()}
        late, passed = await dispatcher.progress.report_missed(after)
        for registration in late:
            assert registration.durable is not None
            await self._store_position(registration.durable, passed)
        at = max((await log.stream.info()).first, min(each.position[0] for each in handlers))
        end = max(ends.values())
        await dispatcher.handled.flush()
        with log.steps.keeping():  # another process may run and end handlings meanwhile
            records = await read_handled(log.stream, since=at - 1)
            ended = {each.handling for each in records if each.handling}
            for start, until in windows(at, end):
                if reading.stopped:
                    break
                await self._deliver_window(handlers, ends, ended, start, until)
                while dispatcher.is_crowded(reading.node) and not reading.stopped:  # noqa: ASYNC110
                    await asyncio.sleep(POLL_SECONDS)

    async def _deliver_window(
        self,
        handlers: dict[DurableHandler, Registration],
        ends: dict[DurableHandler, int],
        ended: set[str],
        start: int,
        end: int,
    ) -> None:
        missed: list[tuple[EventRecord, dict[DurableHandler, Registration]]] = []
        for event in await events_between(self._log.stream, start, end):
            left = {
                handler: by
                for handler, by in handlers.items()
                if event.sequence <= ends[handler]
                and event.position > handler.position
                and concerns(by, event)
                and (handling := handler.handling(event.id)) not in ended
                and handling not in handler.queued
            }
            if left:
                missed.append((event, left))
        if not missed:
            return
        handlings = {handler.handling(event.id) for event, _ in missed for handler in handlers}
        await self._log.steps.load(self._log.stream, missed[0][0].sequence, handlings)
        gate = self._dispatcher.gate
        for event, left in missed:
            for handler in left:
                self.queue(handler, event)
            deliver = partial(self._deliver, list(left.values()))
            held = HeldForCatchUp(deliver, partial(self._drop, list(left), event.id))
            if not gate.keep(event, next(iter(left)).node, held):
                deliver(event)

    async def _wait_for_owner_before(self, node: str) -> None:
        """Wait until the previous owner of a node no longer runs durable handlers of it."""
        ownership = self._dispatcher.ownership
        incarnation, owner = ownership.previous(node), ownership.record(node)
        busy_since: float | None = None
        while incarnation is not None and owner is not None:
            answer = await self._peers.ask(incarnation, {"events": [], "durable": node}, ANSWER_SECONDS)
            if answer is None or (answer and answer["position"] >= owner.sequence and not answer["durable"]):
                return
            now = time.monotonic()
            busy_since = None if answer else busy_since or now
            if busy_since is not None and now - busy_since > BUSY_SECONDS:
                return
            await asyncio.sleep(POLL_SECONDS)

    def _release(self, reading: Reading) -> None:
        dispatcher = self._dispatcher
        for event, context, part, work in reading.held:
            late = [
                each
                for each in part.handlers
                if (each.durable is None or event.sequence > reading.ends.get(each.durable, 0))
                and (each.state is None or each.state.live)
            ]
            if late:
                dispatcher.put(event, context, [part._replace(handlers=late)])
            dispatcher.in_flight.finish(work)
        reading.held.clear()

    async def recall(self, registration: Registration, event: EventRecord) -> bool:
        """Queue an event for a handler again; False if the handler is durable and has handled it."""
        handler = registration.durable
        if handler is None:
            return True
        handling, log = handler.handling(event.id), self._log
        self.queue(handler, event)
        await self._dispatcher.handled.flush()
        records = await read_handled(log.stream, since=event.sequence)
        if any(each.handling == handling and each.outcome == "done" for each in records):
            self.end(handler, event.id)
            return False
        await log.steps.load(log.stream, event.sequence, {handling}, all=True)
        log.steps.open_again(handling)
        return True
