"""Let nodes wait before they begin to handle an event, while the space is paused or slow.

The pace of a space is a record of the journal. So every process knows, at each position, which events wait,
and which one is the turn of a step. The gate stands in front of the dispatcher: an event that waits is only a
position there, and is read again when it goes. Events that had arrived before the pause, and had not begun,
are kept.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from bisect import insort
from functools import partial
from typing import TYPE_CHECKING, Final

from happen_nb._journal.slice import WINDOW_MESSAGES, events_between, read_handled, windows
from happen_nb._model.pace import NodeTurn, Pace
from happen_nb._model.patterns import Pattern
from happen_nb._model.records import EventRecord, HandledRecord, OwnerRecord
from happen_nb._runtime.delivery import stopped_error
from happen_nb._runtime.holds import HeldForCatchUp, HeldInMemory, Hold, LocalPause, drop_all
from happen_nb._runtime.in_flight import NamedWork
from happen_nb._runtime.io import io_thread
from happen_nb._runtime.waiting import POLL_SECONDS, RETRY_SECONDS
from happen_nb.errors import HappenError

if TYPE_CHECKING:
    from collections.abc import Callable

    from happen_nb._model.positions import Position
    from happen_nb._runtime.dispatcher import Dispatcher
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.registrations import Registration

logger = logging.getLogger("happen_nb")

READ_AHEAD: Final = 256  # maximum number of events of a node that are read again at once
MAX_CONTEXTS: Final = 1_000
"""Maximum number of waiting events whose context is kept, so that their output finds its cell."""


class Gate:
    """The events that wait in this process. On the IO thread, unless stated otherwise."""

    def __init__(self, log: Log, dispatcher: Dispatcher) -> None:
        self._log = log
        self._dispatcher = dispatcher
        self.local: LocalPause | None = None  # a pause of this process alone
        self._pattern: Pattern | None = None
        self._holds: dict[str, Hold] = {}
        self._turn: NodeTurn | None = None  # the step: the turn that is taken although its event would wait
        self._claims: dict[str, int] = {}
        self._slowly: asyncio.Task[None] | None = None
        self._closed = False
        log.on_pace.connect(self._on_pace)
        dispatcher.ownership.on_change.connect(self._on_owner)

    # -- what waits, from any thread -----------------------------------------------------------------

    @property
    def paused(self) -> bool:
        """True if events wait for a step, or the end of the pause."""
        return self._log.pace.paused or (self.local is not None and self.local.slow is None)

    @property
    def slow(self) -> float | None:
        """Seconds before each event, while the space is slow."""
        return self._log.pace.slow or (None if self.local is None else self.local.slow)

    @property
    def closed(self) -> bool:
        """True if events may have to wait."""
        return self._pattern is not None or self.local is not None or bool(self._holds)

    def turns(self) -> list[NodeTurn]:
        """Return the events that wait here, each once for each node, in the order of their turns."""
        return sorted({turn for hold in list(self._holds.values()) for turn in hold.turns()})

    def count(self) -> int:
        """Return the number of events that wait here, each once for each node."""
        return sum(self.counts().values())

    def counts(self) -> dict[str, int]:
        return {hold.node: hold.count() for hold in list(self._holds.values()) if len(hold)}

    def waits_at(self, node: str) -> Position | None:
        """Return the position of the first event that waits at a node."""
        hold = self._holds.get(node)
        return None if hold is None else hold.first

    @property
    def going_on(self) -> bool:
        """True while events leave the gate."""
        return any(hold.work is not None for hold in list(self._holds.values()))

    # -- what arrives --------------------------------------------------------------------------------

    def pass_on(
        self,
        event: EventRecord,
        context: contextvars.Context | None,
        candidates: dict[str, list[Registration]],
    ) -> dict[str, list[Registration]]:
        """Let an event that has arrived wait where it has to; return the other nodes and their handlers."""
        if not self.closed:
            return candidates
        return {
            node: registrations
            for node, registrations in candidates.items()
            if not self._hold(event, node, registrations, context)
        }

    def _hold(
        self,
        event: EventRecord,
        node: str,
        registrations: list[Registration],
        context: contextvars.Context | None,
    ) -> bool:
        """Let an event wait that has arrived, or that is behind others; False if it need not wait."""
        hold = self._holds.get(node)
        if hold is None and not self._may_wait(event.type):
            return False
        ours = self._dispatcher.ownership.is_ours(node)
        if not ours and not any(each.state is not None and _is_served(each) for each in registrations):
            return False
        hold = hold or self._holds.setdefault(node, Hold(node))
        if event.tick is not None:
            if event.tick in hold.ticks:  # as behind a handler that is slower than its period
                name = registrations[0].name
                self._dispatcher.handled.put(HandledRecord(event.id, node, name, "cancelled"))
                return True
            hold.ticks.add(event.tick)
        if not len(hold):
            hold.read = {event.position: event}
        if context is not None and len(hold.contexts) < MAX_CONTEXTS:
            hold.contexts[event.position] = context
        hold.stored.append(event.position)
        if event.target is not None:
            self._dispatcher.replies.hold(event)
        self._move(hold)
        return True

    def keep(self, event: EventRecord, node: str, missed: HeldForCatchUp) -> bool:
        """Let an event wait that handlers of a node catch up with; False if it need not wait."""
        hold = self._holds.get(node)
        first = None if hold is None else hold.first
        behind = first is not None and first < event.position
        if not behind and not self._may_wait(event.type):
            return False
        hold = hold or self._holds.setdefault(node, Hold(node))
        if hold.insert(event.position):
            hold.only_missed.add(event.position)
        hold.missed.setdefault(event.position, []).append(missed)
        self._look_again(hold)
        return True

    def _may_wait(self, type: str) -> bool:
        shared, local = self._pattern, self.local
        return (shared is not None and bool(shared.matches(type))) or (
            local is not None and bool(local.pattern.matches(type))
        )

    async def _has_to_wait(self, event: EventRecord, node: str) -> bool:
        """Return whether an event that is the first one of a node has to wait."""
        turn, shared, local = NodeTurn(*event.position, node), self._pattern, self.local
        if turn in (self._turn, self._log.pace.next):
            return False
        if shared is not None and shared.matches(event.type):
            return True
        if local is None or not local.pattern.matches(event.type):
            return False
        answered = asyncio.Event()
        answers: list[bool] = []

        def ask() -> None:
            answers.append(local.where(event))
            io_thread().call_soon(answered.set)

        self._dispatcher.workers.submit(ask)
        await answered.wait()
        return answers[0]

    # -- the pace changes ----------------------------------------------------------------------------

    def _on_pace(self) -> None:
        before, pattern = self._pattern, self._log.pace.pattern
        self._pattern = None if pattern is None else Pattern.of(pattern)
        self._changed(wider=self._pattern not in (None, before))

    def pause_here(self, pause: LocalPause | None) -> None:
        """Pause this process alone, or end that."""
        self.local = pause
        self._changed(wider=pause is not None)

    def release_next_here(self, turn: NodeTurn) -> None:
        self._turn = turn
        hold = self._holds.get(turn.node)
        if hold is not None:
            self._look_again(hold)

    def _changed(self, *, wider: bool) -> None:
        if wider:
            self._withdraw()
        for hold in list(self._holds.values()):
            self._look_again(hold)
        if self.slow is not None and self._slowly is None:
            self._slowly = self._log.background(self._release_slowly())

    def _look_again(self, hold: Hold) -> None:
        hold.waits = False
        hold.asked += 1
        self._move(hold)

    def _withdraw(self) -> None:
        """Take events that have not begun out of the queues, from the first of each node that has to wait."""
        for node, queue in self._dispatcher.queues.items():
            queued = list(queue.queued)
            at = (index for index, each in enumerate(queued) if self._may_wait(each.event.type))
            first = next(at, len(queued))
            for delivery in queued[first:]:
                if delivery.park():
                    self._keep(node, HeldInMemory(delivery.event, delivery.unpark, delivery))
        turns = self._dispatcher.turns
        for turn in turns.withdraw(lambda event: self._may_wait(event.type)):
            self._keep(turn.parts[0].node, HeldInMemory(turn.event, partial(turns.put, turn)))
        pipelines = self._dispatcher.pipelines
        for item in pipelines.withdraw(lambda event: self._may_wait(event.type)):
            self._keep(item.node, HeldInMemory(item.event, partial(pipelines.put_again, item)))

    def _keep(self, node: str, held: HeldInMemory) -> None:
        hold = self._holds.setdefault(node, Hold(node))
        insort(hold.in_memory, held, key=lambda each: each.event.position)

    async def _release_slowly(self) -> None:
        """Let one event begin after the other, with a pause before each."""
        try:
            while (seconds := self.slow) is not None:
                waiting = [hold for hold in self._holds.values() if hold.waits and len(hold)]
                if waiting:
                    await asyncio.sleep(seconds)
                    first = self._first()
                    if first is not None and self.slow is not None:
                        self.release_next_here(first)
                await asyncio.sleep(POLL_SECONDS)
        finally:
            self._slowly = None

    # -- releasing -----------------------------------------------------------------------------------

    def _move(self, hold: Hold) -> None:
        """Release the events that need not wait, in the background."""
        if hold.moving or hold.waits or self._closed:
            return
        hold.moving = True
        if hold.work is None:
            hold.work = NamedWork(
                f"held {hold.node}", lambda: f'node "{hold.node}" continuing with held events'
            )
            hold.work.general = True
            self._dispatcher.in_flight.start(hold.work)
        self._log.background(self._release_all(hold))

    async def _release_all(self, hold: Hold) -> None:
        try:
            while len(hold) or hold.recovering:
                try:
                    front = await self._front(hold)
                except HappenError as error:
                    logger.info('node "%s" reading held events: %s; trying again', hold.node, error)
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                if front is None:
                    continue
                asked = hold.asked
                if await self._has_to_wait(front, hold.node):
                    if asked != hold.asked:
                        continue  # the pace has changed meanwhile
                    hold.waits = True
                    break
                if front.position == hold.first:  # else it has gone meanwhile, or another one comes first
                    self._release(hold, front)
                if self._dispatcher.is_crowded(hold.node):
                    await asyncio.sleep(POLL_SECONDS)
        finally:
            hold.moving = False
            self._end_if_empty(hold)
            if hold.work is not None and (self.paused or not hold.waits):
                work, hold.work = hold.work, None
                self._dispatcher.in_flight.finish(work)

    def _end_if_empty(self, hold: Hold) -> None:
        if not len(hold) and not hold.recovering and self._holds.get(hold.node) is hold:
            del self._holds[hold.node]

    async def _front(self, hold: Hold) -> EventRecord | None:
        """Return the first event that waits; None if it has gone meanwhile."""
        while hold.in_memory and hold.in_memory[0].gone:
            del hold.in_memory[0]
        if hold.in_memory and hold.in_memory[0].event.position == hold.first:
            return hold.in_memory[0].event
        dispatcher, node = self._dispatcher, hold.node
        if hold.recovering or dispatcher.lanes.catches_up(node) or dispatcher.durables.catches_up(node):
            await asyncio.sleep(POLL_SECONDS)  # the events that they read come first
            return None
        if not hold.stored:
            return None
        position = hold.stored[0]
        if position not in hold.read:
            await self._read(hold)
            if position not in hold.read and hold.stored and hold.stored[0] == position:
                drop_all(hold.take_first()[1])  # it has expired
                self._refuse(lambda event: event.position == position, "the event has expired")
                return None
        return hold.read.get(position)

    async def _read(self, hold: Hold) -> None:
        first = hold.stored[0]
        wanted = {each for each, _ in zip(hold.stored, range(READ_AHEAD), strict=False)}
        last = min(max(wanted)[0], first[0] + WINDOW_MESSAGES)
        events = await events_between(self._log.stream, first[0], last)
        hold.read = {event.position: event for event in events if event.position in wanted}

    def _release(self, hold: Hold, event: EventRecord) -> None:
        if hold.in_memory and hold.in_memory[0].event is event:
            hold.in_memory.pop(0).release()
            return
        context, missed, only_missed = hold.take_first()
        for each in missed:
            each.release(event)
        if event.tick is not None:
            hold.ticks.discard(event.tick)
        if only_missed:
            return
        if event.target is None or self._dispatcher.replies.release_held(event):
            recovered = event.sequence <= hold.recovered
            self._dispatcher.deliver_held(event, hold.node, context, recovered=recovered)
        else:
            self._dispatcher.cancel(event, hold.node)

    # -- steps ---------------------------------------------------------------------------------------

    def _first(self) -> NodeTurn | None:
        firsts = [NodeTurn(*first, each.node) for each in self._holds.values() if (first := each.first)]
        return min(firsts, default=None)

    async def first(self, deadline: float) -> NodeTurn | None:
        """Return the next turn here, once it is known which events have to wait.

        Raises ClosedError if the space was closed meanwhile.
        """
        await self._wait_while(lambda: self._is_looking, deadline)
        return self._first()

    @property
    def _is_looking(self) -> bool:
        """True until it is known which events have to wait."""
        return any(hold.moving or hold.recovering for hold in self._holds.values())

    async def handled(self, turn: NodeTurn, deadline: float) -> bool:
        """Wait until a turn that was released here has been taken; False at the deadline.

        Raises ClosedError if the space was closed: nothing is released.
        """
        if not await self._wait_while(lambda: self._is_here(turn), deadline):
            return False
        left = await self._dispatcher.in_flight.drain(lambda work: work.takes(turn), deadline)
        return not left

    async def _wait_while(self, holds: Callable[[], bool], deadline: float) -> bool:
        """Wait while a condition holds; False if it still does at the deadline."""
        while holds():
            if self._closed:
                raise self._log.closed_meanwhile()
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(POLL_SECONDS)
        return True

    def _is_here(self, turn: NodeTurn) -> bool:
        hold = self._holds.get(turn.node)
        return hold is not None and (hold.moving or turn in hold.turns())

    # -- other owners --------------------------------------------------------------------------------

    def _on_owner(self, node: str) -> None:
        """Hand over the waiting events, or take over those that have waited for another process."""
        ownership = self._dispatcher.ownership
        owner = ownership.record(node)
        if owner is None or not ownership.is_ours(node):
            self._claims.pop(node, None)
            self._hand_over(node)
        elif self._claims.get(node) != owner.claimed:
            self._claims[node] = owner.claimed
            pace = self._log.pace
            if pace.paused and owner.claimed > pace.pauses[0].sequence:
                hold = self._holds.setdefault(node, Hold(node))
                hold.recovering = True
                self._log.background(self._recover(hold, owner.claimed))

    def _hand_over(self, node: str) -> None:
        """Leave the events that wait for plain handlers to the new owner."""
        hold = self._holds.get(node)
        registrations = self._dispatcher.registrations.of(node)
        if hold is None or any(each.state is not None and _is_served(each) for each in registrations):
            return
        hold.drop_stored()
        self._look_again(hold)
        if self._dispatcher.ownership.owner_of(node) is None:
            why = self._dispatcher.no_handler
            self._dispatcher.replies.drop_held(
                lambda event: event.target == node, lambda event: why(event, node)
            )

    async def _recover(self, hold: Hold, claimed: int) -> None:
        """Let the events wait here that have waited at a node for the owners before."""
        found: list[Position] = []
        while True:
            try:
                found = await self._waited_before(hold.node, claimed)
                break
            except HappenError as error:
                logger.info('node "%s" looking for held events: %s; trying again', hold.node, error)
                await asyncio.sleep(RETRY_SECONDS)
        for position in found:
            if not hold.insert(position):
                hold.only_missed.discard(position)
        hold.recovered, hold.recovering = claimed, False
        self._end_if_empty(hold)
        self._look_again(hold)

    async def _waited_before(self, node: str, claimed: int) -> list[Position]:
        """Return the events that have waited at a node since they were stored, until `claimed`."""
        stream, pace = self._log.stream, self._log.pace
        if not pace.paused:
            return []
        first = pace.pauses[0].sequence
        owners = [
            record
            for item in await stream.read(self._log.subjects.owner_prefix + node)
            if isinstance(record := stream.decode(item), OwnerRecord)
        ]
        paces = [stream.decode(item) for item in await stream.read(self._log.subjects.pace, start=first)]
        begun = {each.next for each in paces if isinstance(each, Pace)}
        await self._dispatcher.handled.flush()
        handled = {each.event for each in await read_handled(stream, since=first) if each.node == node}
        found: list[Position] = []
        for start, end in windows(first + 1, claimed):
            for event in await events_between(stream, start, end):
                waited = event.tick is None and event.target in (None, node)
                waited = waited and pace.has_held(event.type, event.sequence)
                if waited and event.id not in handled and NodeTurn(*event.position, node) not in begun:
                    owner = max(
                        (each for each in owners if each.sequence < event.sequence),
                        key=lambda each: each.sequence,
                        default=None,
                    )
                    if owner is not None and owner.incarnation is not None and owner.handles(event.type):
                        found.append(event.position)
        return found

    # -- the end -------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Forget the waiting events: they are deleted. Deliveries are cancelled by their queues."""
        for hold in list(self._holds.values()):
            hold.drop_stored()
            hold.in_memory.clear()
            self._look_again(hold)
        self._refuse(lambda _: True, "the space was cleared")

    def _refuse(self, concerns: Callable[[EventRecord], bool], why: str) -> None:
        """Reply to the senders of the waiting events that they are never handled."""
        self._dispatcher.replies.drop_held(
            concerns, lambda event: stopped_error(event, event.target or "", why)
        )

    def close(self) -> None:
        """Stop releasing events: those that wait stay stored."""
        self._closed = True


def _is_served(registration: Registration) -> bool:
    """Return whether this process applies a state handler."""
    state = registration.state
    return state is not None and (state.live or state.catching_up is not None)
