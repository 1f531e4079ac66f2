"""Hand stored events to the queues of the nodes that this process owns."""

from __future__ import annotations

import asyncio
import difflib
import logging
import time
from typing import TYPE_CHECKING, Any

from happen_nb._journal import wire
from happen_nb._journal.publish import store_messages
from happen_nb._journal.wire import MAX_HANDLED_BYTES, MAX_HANDLINGS
from happen_nb._runtime import causes
from happen_nb._runtime.attempt import CLOSED, DELETED, UNREGISTERED
from happen_nb._runtime.cells import notebook_name
from happen_nb._runtime.delivery import Delivery, NodeQueue
from happen_nb._runtime.effects import InFlight
from happen_nb._runtime.io import io_thread
from happen_nb._runtime.lanes import Lanes
from happen_nb._runtime.ownership import Ownership
from happen_nb._runtime.registrations import Registration, Registrations
from happen_nb._runtime.replies import DeadlockDetector, ReplyRouter
from happen_nb._runtime.workers import Mailbox, Workers, expect_shutdown
from happen_nb.errors import HappenError, NoHandlerError, NotStoredError, OutcomeUnknownError

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Container, Iterable

    from happen_nb._model.records import Cut, EventRecord, HandledRecord, OwnerRecord
    from happen_nb._runtime.bulk import BulkPublisher
    from happen_nb._runtime.delivery import Host
    from happen_nb._runtime.replies import PendingReply
    from happen_nb._runtime.session import Session

log = logging.getLogger("happen_nb")

RECORD_EVERY = 0.02
"""Seconds at most between something was handled and that is stored."""
NAME = 0.5
"""Seconds that another process has to name its notebook."""
LAST = 0.5
"""Seconds at the end in which handlers that run may end, and as many in which those may that are stopped."""


class Dispatcher:
    """Hands events to the handlers of this process, and keeps what was handled.

    Parameters
    ----------
    session : Session

    Attributes
    ----------
    host : Host
        The facade; set before the first handler is registered.
    """

    host: Host

    def __init__(self, session: Session) -> None:
        expect_shutdown()
        self.session = session
        self.in_flight = InFlight()
        self.workers = Workers()
        self.replies = ReplyRouter(session)
        self.registrations = Registrations()
        self.ownership = Ownership(session, self)
        self.lanes = Lanes(session, self)
        self.emitted: dict[str, contextvars.Context | None] = {}
        self.lines: set[BulkPublisher] = set()
        self._boxes: dict[str, NodeQueue] = {}
        self.deadlocks = DeadlockDetector(self._boxes, self.replies)
        self._done: list[HandledRecord] = []
        self._recording: asyncio.Task[None] | None = None
        self._flushing = asyncio.Lock()
        self._spared: frozenset[str] = frozenset()

    # -- what is registered --------------------------------------------------------------------------

    def nodes(self) -> set[str]:
        """The nodes with handlers here."""
        return self.registrations.nodes()

    def patterns(self, node: str) -> tuple[str, ...]:
        """The patterns of a node's handlers here; predicates have none."""
        mine = self.registrations.of(node)
        return tuple(dict.fromkeys(each.pattern.text for each in mine if each.pattern.predicate is None))

    def state_handlers(self, node: str) -> tuple[str, ...]:
        """The keys of a node's state handlers here."""
        return tuple(each.state.key for each in self.registrations.of(node) if each.state is not None)

    def owner_changed(self, node: str) -> None:
        """Start or stop the node's state handlers by who owns it now."""
        self.lanes.refresh(node)

    async def add(
        self, registration: Registration, deadline: float, replaced: Iterable[Registration] = ()
    ) -> OwnerRecord | None:
        """Register a handler, and own its node from here on; returns the owner before, if it was another.

        Those that it replaces go when it is there, so that no event finds neither.
        """
        self.registrations.add(registration)
        for each in replaced:
            self.remove(each)
        try:
            before = await self.ownership.claim(registration.node, deadline)
        except BaseException:
            self.registrations.remove(registration)
            raise
        self.lanes.refresh(registration.node)
        return before

    def remove(self, registration: Registration) -> bool:
        """Unregister a handler; False if it was. What waits to be repeated by it is not. From any thread.

        What it handles at the moment comes to its end.
        """
        removed = self.registrations.remove(registration)
        box = self._boxes.get(registration.node)
        if box is not None:
            for attempt in list(box.waiting):
                if attempt.registration is registration:
                    attempt.stop(UNREGISTERED)
        if removed:
            io_thread().call_soon(self.ownership.renew, registration.node)
        return removed

    def stop(self, node: str, of: Callable[[Registration], bool]) -> bool:
        """Stop handlers of a node that run; whether any did. From any thread.

        The one that this is called in, and those that it is called by, go on.
        """
        return self._stop(node, of, UNREGISTERED, causes.current_path())

    def _stop(self, node: str, of: Callable[[Registration], bool], why: str, spare: Container[str]) -> bool:
        box = self._boxes.get(node)
        return box is not None and box.stop(
            why, lambda each: of(each.registration) and each.delivery.event.id not in spare
        )

    def deleted(self, node: str, path: Container[str] = ()) -> None:
        """The node was deleted: its handlers are gone with it, before the next event is taken.

        Those that it was deleted by, whose events are on the path, come to their end.
        """
        self._unregister(node)
        self._stop(node, lambda _: True, DELETED, path)
        self.session.background(self._let_go(node))

    async def release(self, node: str, path: Container[str]) -> None:
        """Unregister a node's handlers, and let nobody own it; those on the path come to their end."""
        self._unregister(node)
        self._stop(node, lambda _: True, DELETED, path)
        await self._let_go(node)

    def _unregister(self, node: str) -> None:
        for registration in self.registrations.of(node):
            self.remove(registration)

    def spare(self, path: Iterable[str]) -> None:
        """Let what handles these events go on when the space is cleared, since it is what clears it."""
        self._spared = frozenset(path)

    def cleared(self, position: int) -> None:
        """The space was cleared: what is left to do of events before that is not done. On the IO thread."""
        for box in self._boxes.values():
            box.drop("the space was cleared", position, self._spared)
        self._spared = frozenset()

    async def _let_go(self, node: str) -> None:
        try:
            await self.ownership.release(node, time.monotonic() + self.session.timeout)
        except HappenError as error:
            log.debug('letting go of "%s": %s', node, error)

    def queue(self, node: str) -> NodeQueue:
        """A node's mailbox."""
        box = self._boxes.get(node)
        if box is None:
            box = self._boxes[node] = NodeQueue(node, Mailbox(self.workers))
        return box

    # -- taking events, on the IO thread -------------------------------------------------------------

    def dispatch(self, event: EventRecord) -> None:
        """The next event of the journal: to whom it concerns here."""
        context = self.emitted.pop(event.id, None)
        if event.target is not None:
            self.replies.stored(event, self.ownership.owner_of(event.target))
        if self.ownership.leaving:
            return
        candidates = self.registrations.candidates(event.type, event.target)
        for node, registrations in candidates.items():
            ours = self.ownership.is_ours(node)
            handlers, snapshot, replies = self.lanes.offer(registrations, event, context, ours=ours)
            if handlers:
                self.deliver(event, node, handlers, context, snapshot, replies=replies)
        if (
            event.target is not None
            and event.target not in candidates
            and self.ownership.is_ours(event.target)
        ):
            self._no_handler(event)

    def deliver(
        self,
        event: EventRecord,
        node: str,
        registrations: list[Registration],
        context: contextvars.Context | None,
        snapshot: Cut | None = None,
        *,
        replies: bool = True,
    ) -> None:
        """Queue an event for a node's handlers."""
        box = self.queue(node)
        answer = self.replies.open(event) if replies and event.target is not None else None
        delivery = Delivery(self, box, event, registrations, context, answer, snapshot)
        if answer is not None:
            answer.delivery = delivery
        box.mailbox.put(delivery.begin)

    def _no_handler(self, event: EventRecord) -> None:
        known = ", ".join(self.patterns(event.target or "")) or "none"
        problem = f'send: node "{event.target}" has no handler of "{event.type}"; it handles {known}'
        self.replies.open(event).refuse(NoHandlerError(problem))

    # -- sending -------------------------------------------------------------------------------------

    async def prepare(self, request: PendingReply, event: EventRecord) -> bool:
        """Listen for the reply to an event that is about to be stored; False if nobody would handle it."""
        if self.ownership.owner_of(request.target) is None:
            await self.session.fresh(self.session.timeout)
        if self.ownership.owner_of(request.target) is None:
            request.fail(self._nobody(request.target, event.type))
            return False
        self.replies.expect(request, event)
        return True

    async def track(self, request: PendingReply) -> None:
        """It is stored: see to it that the reply comes."""
        owner = self.ownership.owner_of(request.target)
        if request.owner is None and owner is not None:
            request.owner = owner.incarnation
        self.replies.watch(request)

    def _nobody(self, target: str, type: str) -> NoHandlerError:
        others = self.ownership.names()
        near = difflib.get_close_matches(target, others, 1, 0.5)
        hint = (
            f"; did you mean {near[0]}?" if near else f"; nodes with handlers: {', '.join(others) or 'none'}"
        )
        return NoHandlerError(
            f'send: no process handles events of node "{target}", "{type}" was not sent{hint}'
        )

    # -- handling again ------------------------------------------------------------------------------

    async def redeliver(
        self, event: EventRecord, node: str, handler: str | None, context: contextvars.Context | None
    ) -> BaseException | None:
        """Handle an event once more, or late, by the handlers of now; the error if one failed."""
        found = self.registrations.candidates(event.type, node).get(node, [])
        named = [registration for registration in found if registration.name == handler]
        if not found:
            raise NoHandlerError(f'node "{node}" has no handler of "{event.type}" in this process')
        box = self.queue(node)
        ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        delivery = Delivery(self, box, event, named or found, context)

        def end(error: BaseException | None) -> None:
            if not ended.done():  # whoever waited may have been interrupted
                ended.set_result(error)

        delivery.on_end = lambda error: io_thread().call_soon(end, error)
        box.mailbox.put(delivery.begin)
        return await ended

    def open(self, events: Iterable[str]) -> list[str]:
        """Those of the events that wait or are handled here."""
        wanted = set(events)
        boxes = list(self._boxes.values())
        return [each.event.id for box in boxes for each in list(box.open) if each.event.id in wanted]

    def queued(self) -> int:
        """How many events wait here for their handlers."""
        return sum(len(box.queued) for box in self._boxes.values())

    # -- what was handled ----------------------------------------------------------------------------

    def handled(self, record: HandledRecord) -> None:
        """Keep it in the journal, soon. From any thread."""
        self._done.append(record)
        if len(self._done) == 1 or self._recording is None:
            io_thread().call_soon(self._record_soon)

    def _record_soon(self) -> None:
        if self._recording is None and self._done:
            self._recording = self.session.background(self._record())

    async def _record(self) -> None:
        try:
            await asyncio.sleep(RECORD_EVERY)
            await self.flush()
        finally:
            self._recording = None
            if self._done:
                io_thread().call_soon(self._record_soon)

    async def flush(self) -> None:
        """Store what was handled by now; what is handled meanwhile is not waited for."""
        async with self._flushing:
            left = len(self._done)
            while left > 0:
                number = min(left, MAX_HANDLINGS)  # and no more: threads may append between the slices
                records, self._done[:number] = self._done[:number], []
                left -= number
                if not await self._store_handled(records):
                    return

    async def _store_handled(self, records: list[HandledRecord]) -> bool:
        """Store handlings in messages that the server takes; False if it cannot be reached."""
        session = self.session
        limit = min(MAX_HANDLED_BYTES, session.connection.max_payload - wire.HEADER_RESERVE_BYTES)
        messages = wire.encode_handled(
            session.subjects, records, by=session.incarnation, ttl=session.info.event_ttl, limit=limit
        )
        for message, number in messages:
            try:
                sequence = await store_messages(
                    session.connection, [message], timeout=session.timeout, what="what was handled"
                )
            except (NotStoredError, OutcomeUnknownError):
                self._done[:0] = records  # for the next time: stored twice does no harm, lost does
                return False
            except HappenError as error:
                log.warning("what %d handlers did is not stored: %s", number, error)
            except BaseException:  # whoever waits for it was interrupted, not who handled it
                self._done[:0] = records
                io_thread().call_soon(self._record_soon)
                raise
            else:
                await self._reach(sequence)
            records = records[number:]
        return True

    async def _reach(self, sequence: int) -> None:
        try:
            await self.session.reach(sequence, time.monotonic() + self.session.timeout)
        except HappenError as error:
            log.debug("what was handled is stored at %d: %s", sequence, error)

    async def close(self) -> None:
        """Let others take over, begin with no event any more, and store what was handled."""
        for line in list(self.lines):
            line.end_with_space()
            await line.ended(LAST)
        if self.ownership.leaving:
            return
        for box in self._boxes.values():
            box.mailbox.clear()
            for attempt in list(box.waiting):
                attempt.stop(CLOSED)
        if self.session.connection.connected:
            await self.ownership.release_all(1.0)
        self.ownership.leaving = True
        await self._ended(LAST)
        for node in self._boxes:
            self._stop(node, lambda _: True, CLOSED, ())
        await self._ended(LAST)
        if self.session.connection.connected:
            await self.flush()

    async def _ended(self, seconds: float) -> None:
        """Give what runs time to end."""
        deadline = time.monotonic() + seconds
        mailboxes = [box.mailbox for box in self._boxes.values()]
        while any(each.running for each in mailboxes) and time.monotonic() < deadline:  # noqa: ASYNC110 - threads
            await asyncio.sleep(RECORD_EVERY)

    def end(self, why: Exception) -> None:
        """Nothing comes any more."""
        self.replies.close(why)
        for box in self._boxes.values():
            for delivery in list(box.open):
                delivery.give_up(why)

    def lost(self, node: str, owner: OwnerRecord) -> None:
        """Another process acquired a node: say so, and which one it is."""
        self.session.background(self._lost(node, owner))

    async def _lost(self, node: str, owner: OwnerRecord) -> None:
        answer = await self.session.ask(owner.incarnation or "", {}, NAME)
        self.host.lost(node, answer or {})

    async def live(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer another process that asks what is going on here."""
        if "events" in question:
            position, left = self.session.position, self.open(question["events"])
            await self.flush()  # last: what is not open any more is stored when the other one reads it
            return {"position": position, "open": left, "by": self.session.incarnation}
        if question.get("awaited"):
            self.deadlocks.awaited(question["send"])
        if "send" in question or "cancel" in question:
            return self.replies.live(question)
        return {"waiters": self.ownership.asked_by(question.get("from", "")), "notebook": notebook_name()}
