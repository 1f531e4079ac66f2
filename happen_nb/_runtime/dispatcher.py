"""Hand stored events to the queues of the nodes that this process owns."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeVar, cast

from happen_nb._model.quoting import near_names, shorten
from happen_nb._model.records import HandledRecord
from happen_nb._runtime import causes
from happen_nb._runtime.attempt import CLOSED, DELETED, UNREGISTERED
from happen_nb._runtime.clock import Clock
from happen_nb._runtime.delivery import Delivery, NodeQueue
from happen_nb._runtime.durable import Durables
from happen_nb._runtime.gate import Gate
from happen_nb._runtime.handled import HandledRecords
from happen_nb._runtime.in_flight import InFlight
from happen_nb._runtime.io import call_after_waking, for_others, io_thread
from happen_nb._runtime.lanes import MAX_QUEUED, Lanes
from happen_nb._runtime.pipelines import Pipelines
from happen_nb._runtime.precedence import Precedence
from happen_nb._runtime.progress import HandlerProgress
from happen_nb._runtime.ticks import Ticks
from happen_nb._runtime.turns import Part, Turn, Turns
from happen_nb._runtime.waiting import Closing, NewsWait
from happen_nb._runtime.workers import Workers, expect_shutdown
from happen_nb.errors import HappenError, NoHandlerError

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping

    from happen_nb._journal.decoding import Clear
    from happen_nb._model.records import CommitRecord, Cut, EventRecord, OwnerRecord
    from happen_nb._runtime.attempt import Attempt
    from happen_nb._runtime.bulk import BulkPublisher
    from happen_nb._runtime.conductor import Conductor
    from happen_nb._runtime.delivery import Host
    from happen_nb._runtime.first_run import Recall
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.ownership import Ownership
    from happen_nb._runtime.peers import Peers
    from happen_nb._runtime.redirect import Redirect
    from happen_nb._runtime.registrations import Registration, Registrations
    from happen_nb._runtime.replies import ReplyRouter
    from happen_nb._runtime.reply_ends import PendingReply

T = TypeVar("T")

logger = logging.getLogger("happen_nb")

NAME_SECONDS = 0.5  # seconds that another process has to answer with the name of its notebook
CLOSE_SECONDS = 0.5
"""Seconds that running handlers have to end at the close, and again after they were stopped."""
END_POLL_SECONDS = 0.02  # seconds between checks that they have ended


class Dispatcher:
    """Hands events to the handlers of this process."""

    host: Host  # the facade; set before the first handler is registered

    def __init__(
        self, log: Log, peers: Peers, registrations: Registrations, ownership: Ownership, replies: ReplyRouter
    ) -> None:
        expect_shutdown()
        self.log = log
        self.registrations = registrations
        self.ownership = ownership
        self.replies = replies
        self.in_flight = InFlight()
        self.workers = Workers(log.server_lags, call_after_waking)
        self.clock = Clock(log)
        self.precedence = Precedence(log, self)
        self.queues: dict[str, NodeQueue] = {}
        self.redirect: Redirect | None = None
        """In a fork with handlers: redirects the objects of the original to those of the fork."""
        self.pipelines = Pipelines(log, self)
        self.progress = HandlerProgress(log, self)
        self.handled = HandledRecords(log, self.progress)
        self.lanes = Lanes(log, self)
        self.durables = Durables(log, self, peers)
        self.turns = Turns(self)
        self.gate = Gate(log, self)
        self.contexts: dict[str, contextvars.Context | None] = {}
        """Event id -> the context in which this process emits it, until it is stored."""
        self.publishers: set[BulkPublisher] = set()
        self.peers = peers
        self._closing = Closing(self._close)
        self._spared: frozenset[str] = frozenset()
        log.on_event.connect(self._on_event)
        log.on_deletion.connect(self._on_deletion)
        log.on_clear.connect(self._on_clear)
        log.on_clock.connect(self._on_clock)
        log.on_cancelled.connect(self.replies.cancelled)
        self.ticks = Ticks(self)
        ownership.on_lost.connect(lambda node, owner: log.background(self._report_lost(node, owner)))

    # -- registering ---------------------------------------------------------------------------------

    async def add(
        self, registration: Registration, deadline: float, replaced: Iterable[Registration] = ()
    ) -> OwnerRecord | None:
        """Register a handler, and acquire its node; return the previous owner if it was another process.

        Replaced handlers are removed after that, so that each event finds one of them.
        """
        self.registrations.add(registration)
        for each in replaced:
            self.remove(each)
        try:
            before = await self.ownership.acquire(registration.node, deadline)
        except BaseException:
            if self.registrations.end(registration):
                self.registrations.remove(registration)
            raise
        self.lanes.refresh(registration.node)
        self.durables.refresh(registration.node)
        return before

    def remove(self, registration: Registration) -> bool:
        """Unregister a handler and its retries; False if it is not registered. From any thread.

        Running calls continue.
        """
        ended = self.registrations.end(registration)
        queue = self.queues.get(registration.node)
        if queue is not None:
            for attempt in list(queue.waiting):
                if attempt.registration is registration:
                    attempt.stop(UNREGISTERED)
        if ended:
            io_thread().call_soon(self._removed, registration)
        return ended

    def _removed(self, registration: Registration) -> None:
        self.registrations.remove(registration)
        if registration.tick is not None:
            self.log.background(self.ticks.stop(registration))
        self.ownership.renew(registration.node)
        if registration.state is not None:
            self.pipelines.abandon(registration)
        self.durables.removed(registration)

    def stop(self, node: str, matches: Callable[[Registration], bool]) -> bool:
        """Stop running handlers of a node; return True if any ran. From any thread.

        The handler that calls this, and those on its causal path, continue.
        """
        return self._stop(node, matches, UNREGISTERED, causes.current_path())

    def _stop(
        self, node: str, matches: Callable[[Registration], bool], why: str, spare: Container[str]
    ) -> bool:
        def is_stopped(attempt: Attempt) -> bool:
            return matches(attempt.registration) and attempt.delivery.event.id not in spare

        queue = self.queues.get(node)
        return queue is not None and queue.stop(why, is_stopped)

    async def release(self, node: str, path: Container[str]) -> None:
        """Unregister a node's handlers, and give it up; handlers of the events on the path continue."""
        self._unregister(node, path)
        if self.recall is None:
            await self._give_up(node)

    def _on_deletion(self, record: CommitRecord) -> None:
        """Unregister the handlers of a deleted node, before the next event is dispatched."""
        self._unregister(record.node, record.origin.path)
        if self.recall is None:
            self.durables.dropped(record.node)
            self.log.background(self._give_up(record.node))

    def _unregister(self, node: str, path: Container[str]) -> None:
        if self.recall is None:  # else the handlers of now stay: they were registered again later
            for registration in self.registrations.of(node):
                self.remove(registration)
        self._stop(node, lambda _: True, DELETED, path)

    async def _give_up(self, node: str) -> None:
        try:
            await self.ownership.release(node, time.monotonic() + self.log.timeout)
        except HappenError as error:
            logger.debug('giving up "%s": %s', node, error)

    def spare(self, path: Iterable[str]) -> None:
        """Let the handlers of these events continue when the space is cleared: one of them clears it."""
        self._spared = frozenset(path)

    def _on_clear(self, _: Clear, position: int) -> None:
        self.gate.clear()
        for queue in self.queues.values():
            queue.drop("the space was cleared", position, self._spared)
        self.pipelines.drop(position)
        self.turns.drop(position)
        self._spared = frozenset()

    def _on_clock(self) -> None:
        self.workers.in_turn = self.clock.manual and self.conductor is None
        self.log.outbox.in_order = self.clock.manual or self.conductor is not None

    # -- conducting ----------------------------------------------------------------------------------

    @property
    def conductor(self) -> Conductor | None:
        """The conductor that decides what begins and stores next, if there is one."""
        return self.workers.conductor

    @property
    def recall(self) -> Recall | None:
        """The memory of the first run, while the past is run again."""
        return None if self.conductor is None else self.ticks.recall

    def conduct(self, conductor: Conductor | None) -> None:
        """Let a conductor decide what starts and stores next; None removes it."""
        self.workers.conductor = conductor
        self._on_clock()

    async def turn(
        self, what: Literal["commit", "emit", "cancel"], target: str, event: EventRecord | None = None
    ) -> None:
        """Wait until the code of this context may store something. In the thread of the caller."""
        if self.conductor is not None:
            await self.conductor.turn(what, target, event)

    def waits(self, step: T) -> T:
        """Return a step during which the code of this context waits for others. For an await."""
        return cast("T", for_others(step) if self.conductor is None else self.conductor.waits(step))

    @contextmanager
    def awaiting_news(self) -> Iterator[NewsWait | None]:
        """Note that a handler waits for events or commits, if a manual clock may bring them."""
        found = causes.current_scope()
        if found is None or found.event is None or not self.clock.manual:
            yield None
            return
        queue = self.queue(found.node)
        wait = NewsWait(queue.update)
        queue.start_waiting(found, wait)
        try:
            yield wait
        finally:
            queue.stop_waiting(found, wait)

    def queue(self, node: str) -> NodeQueue:
        queue = self.queues.get(node)
        if queue is None:
            queue = self.queues[node] = NodeQueue(node, self.workers)
        return queue

    async def _report_lost(self, node: str, owner: OwnerRecord) -> None:
        answer = await self.peers.ask(owner.incarnation or "", {}, NAME_SECONDS)
        self.host.lost(node, answer or {})

    # -- dispatching, on the IO thread ---------------------------------------------------------------

    def _on_event(self, event: EventRecord) -> None:
        context = self.contexts.pop(event.id, None)
        if event.target is not None:
            owner = self.ownership.owner_of(event.target)
            if (reply := self.replies.note_owner(event, owner)) is not None:
                if owner is None:  # of a scheduled event, which was delivered just now
                    self._fail_unowned(reply, event)
                else:
                    self.replies.watch(reply)
        if self.ownership.leaving:
            return
        candidates = self.registrations.candidates(event.type, event.target, event.tick)
        recall, target = self.recall, event.target
        if recall is not None and target is not None and recall.was_cancelled(event, target):
            self.cancel(event, target)
            return
        passed = self.gate.pass_on(event, context, candidates)
        if recall is not None:
            passed = {node: left for node, each in passed.items() if (left := recall.left(event, each))}
        self._dispatch(event, context, passed)
        if target is not None and target not in candidates and self.ownership.is_ours(target):
            self._refuse(event, target)

    def _dispatch(
        self,
        event: EventRecord,
        context: contextvars.Context | None,
        candidates: Mapping[str, list[Registration]],
    ) -> None:
        """Let an event wait for the handlers of each node."""
        parts: list[Part] = []
        lanes, durables = self.lanes, self.durables
        for node, registrations in candidates.items():
            ours = self.ownership.is_ours(node)
            only = registrations[0].state if len(registrations) == 1 else None
            is_simple = only is not None and only.live and not only.takes_views
            if is_simple and not (lanes.catches_up(node) or durables.catches_up(node)):  # most often
                parts.append(Part(node, registrations, None, ours))
                continue
            plain = [each for each in registrations if each.state is None] if ours else []
            if plain and self.ticks.is_late(event, node):
                self.handled.put(HandledRecord(event.id, node, plain[0].name, "cancelled"))
                continue
            part = lanes.offer(registrations, event, context, ours=ours)
            if part is not None and not durables.hold(event, context, part):
                parts.append(part)
        if parts:
            self.put(event, context, parts)

    def put(self, event: EventRecord, context: contextvars.Context | None, parts: list[Part]) -> None:
        """Let an event wait for handlers; on a manual clock, state handlers have their turn together."""
        if not self.workers.in_turn:
            self.pipelines.put(event, context, parts)
            return
        later: list[Part] = []
        with self.workers.held():  # else the last node could begin before the first
            for part in parts:
                is_plain = any(each.state is None for each in part.handlers)
                if is_plain and not self.turns.waits_at(part.node):
                    self.pipelines.put(event, context, [part])
                else:
                    later.append(part)
            if later:
                self.turns.put(Turn(event, context, later))

    def deliver_held(
        self, event: EventRecord, node: str, context: contextvars.Context | None, *, recovered: bool
    ) -> None:
        """Queue an event that has waited at the gate for the handlers of a node that match now.

        A recovered event has waited in another process: state handlers and durable handlers have read it.
        """
        found = self.registrations.candidates(event.type, event.target, event.tick).get(node, [])
        registrations = [
            each
            for each in found
            if each.state is not None or each.durable is None or event.sequence > each.durable.read_to
        ]
        if recovered:
            registrations = [each for each in found if each.state is None and each.durable is None]
        if registrations:
            self._dispatch(event, context, {node: registrations})
        elif event.target is not None and not found and self.ownership.is_ours(node):
            self._refuse(event, node)

    def cancel(self, event: EventRecord, node: str) -> None:
        """Record that the handlers of a node do not handle an event that has waited at the gate."""
        for each in self.registrations.candidates(event.type, event.target, event.tick).get(node, []):
            self.handled.put(HandledRecord(event.id, node, each.name, "cancelled"))

    def _refuse(self, event: EventRecord, target: str) -> None:
        self.replies.accept(event).refuse(self.no_handler(event, target))

    def no_handler(self, event: EventRecord, target: str) -> NoHandlerError:
        """Return the error for an event that no handler of its target is registered for."""
        known = ", ".join(self.registrations.patterns(target)) or "none"
        return NoHandlerError(f'send: node "{target}" has no handler of "{event.type}"; it handles {known}')

    def deliver(
        self,
        event: EventRecord,
        node: str,
        registrations: list[Registration],
        context: contextvars.Context | None,
        snapshot: Cut | None = None,
        *,
        replies: bool = True,
        error: BaseException | None = None,
    ) -> None:
        """Queue an event for a node's handlers; `error` is that of the state handler, if it ran already."""
        queue = self.queue(node)
        replies = replies and event.target is not None and event.tick is None
        responder = self.replies.accept(event) if replies else None
        delivery = Delivery(self, queue, event, registrations, context, responder, snapshot, error)
        for registration in registrations:
            if registration.durable is not None:
                self.durables.queue(registration.durable, event)
        if responder is not None:
            responder.delivery = delivery
            if (refusal := self.replies.refusal(event)) is not None:
                delivery.refuse(refusal)
                return
        delivery.put()

    async def redeliver(
        self, event: EventRecord, node: str, handler: str | None, context: contextvars.Context | None
    ) -> BaseException | None:
        """Handle an event again, or late, with the current handlers; return the error if one failed.

        Raises NoHandlerError if no handler of this process accepts it.
        """
        found = self.registrations.candidates(event.type, node, event.tick).get(node, [])
        named = [registration for registration in found if registration.name == handler]
        if not found:
            raise NoHandlerError(f'node "{node}" has no handler of "{event.type}" in this process')
        found = [each for each in named or found if await self.durables.recall(each, event)]
        if not found:
            return None  # it is done
        queue = self.queue(node)
        ended: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()
        delivery = Delivery(self, queue, event, found, context)
        delivery.again = True

        def end(error: BaseException | None) -> None:
            if not ended.done():  # the caller may have been interrupted
                ended.set_result(error)

        delivery.on_end = lambda error: io_thread().call_soon(end, error)
        delivery.put()
        error = await ended
        if error is not None and delivery.unaccepted:
            raise error
        return error

    def open(self, events: Iterable[str]) -> list[str]:
        """Return the events that wait or are being handled here."""
        wanted = set(events)
        if self.gate.going_on:
            return list(wanted)  # it is not known which of them are still to go
        queues = list(self.queues.values())
        handled = [each.event.id for queue in queues for each in list(queue.open)]
        late = (*self.lanes.waiting(), *self.pipelines.open(), *self.turns.waiting())
        waiting = (*late, *self.durables.waiting())
        return [id for id in (*handled, *waiting) if id in wanted]

    def running(self) -> list[tuple[str, str]]:
        """Return the ids of the events whose handlers run here, each with its node."""
        current = [(queue.name, queue.current) for queue in list(self.queues.values())]
        found = [(attempt.delivery.event.id, node) for node, attempt in current if attempt is not None]
        return [*found, *self.pipelines.running()]

    def busy(self, node: str) -> tuple[float, int]:
        """Return for how many seconds a node has handled its event, and how many events wait."""
        seconds, waiting = self.queue(node).busy()
        return max(seconds, self.pipelines.busy(node)), waiting + self.pipelines.queued(node)

    def is_crowded(self, node: str) -> bool:
        """Return True if so many events wait at a node that further ones are read later."""
        return len(self.queue(node).queued) + self.pipelines.queued(node) > MAX_QUEUED

    def queued(self) -> int:
        return sum(len(queue.queued) for queue in self.queues.values()) + self.pipelines.queued()

    # -- sending -------------------------------------------------------------------------------------

    async def prepare(self, reply: PendingReply, event: EventRecord) -> bool:
        """Expect the reply to an event that is about to be stored; False if no process would handle it."""
        if self.ownership.owner_of(reply.target) is None:
            await self.log.fresh(self.log.timeout)
        if self.ownership.owner_of(reply.target) is None:
            reply.fail(self.no_owner(reply.target, event.type))
            return False
        self.replies.expect(reply, event)
        return True

    async def track(self, reply: PendingReply) -> None:
        """Ask for the reply to an event, now that it is stored, until it arrives."""
        owner = self.ownership.owner_of(reply.target)
        if reply.owner is None and owner is not None:
            reply.owner = owner.incarnation
        if owner is None and reply.owner == "":  # nor when the event was stored, as one of a transform may be
            assert reply.event is not None
            self._fail_unowned(reply, reply.event)
        else:
            self.replies.watch(reply)

    def _fail_unowned(self, reply: PendingReply, event: EventRecord) -> None:
        self.replies.forget(event)
        reply.fail(self.no_owner(reply.target, event.type, is_stored=True))

    async def resume(self, reply: PendingReply, event: EventRecord) -> None:
        """Find the reply to an event that an earlier run of a durable handler sent, or wait for it."""
        if await self.replies.find_kept(reply, event):
            return
        self.replies.expect(reply, event)
        owner, question = self.ownership.owner_of(reply.target), {"send": event.id}
        if owner is not None:
            ours = owner.incarnation == self.log.incarnation
            answer = self.replies.answer(question)
            if not ours:
                answer = await self.peers.ask(str(owner.incarnation), question, NAME_SECONDS) or {}
            await self.replies.find_recorded(reply, event, answer)
        if not reply.done:
            await self.track(reply)

    def no_owner(self, target: str, type: str, *, is_stored: bool = False) -> NoHandlerError:
        """Return the error of a send to a node that no process owns."""
        others = self.ownership.names()
        near = near_names(target, others, 1, 0.5)
        hint = (
            f"; did you mean {near[0]}?" if near else f"; nodes with handlers: {', '.join(others) or 'none'}"
        )
        outcome = f'; "{type}" is in space.unhandled' if is_stored else f', so "{type}" was not sent'
        return NoHandlerError(f'send: no process handles events of node "{shorten(target)}"{outcome}{hint}')

    # -- the end -------------------------------------------------------------------------------------

    @property
    def closing(self) -> bool:
        return self._closing.begun

    async def close(self) -> None:
        """Let other processes take over, start no further events, and store the records.

        It continues if its caller is interrupted.
        """
        await self._closing.run()

    async def _close(self) -> None:
        if self.conductor is not None:
            self.conductor.close()
        for publisher in list(self.publishers):
            publisher.end_with_space()
            await publisher.ended(CLOSE_SECONDS)
        if self.log.connection.connected:
            await self.progress.close()
        self.ownership.leaving = True  # at once: what arrives from now on is not handled here
        self.gate.close()
        self.turns.close()
        for queue in self.queues.values():
            queue.close()
        self.pipelines.close()
        if self.log.connection.connected:
            await self.durables.close()
            await self.ownership.release_all(1.0)
        await self._wait_ended(CLOSE_SECONDS)
        await self._stop_all()

    async def _stop_all(self) -> None:
        """Stop running handlers, and store their handlings; abandon those that do not end soon."""
        for queue in self.queues.values():
            queue.stop(CLOSED, lambda attempt: not attempt.stopped)
        await self._wait_ended(CLOSE_SECONDS)
        for queue in self.queues.values():
            current = queue.current  # a worker may end it meanwhile
            if current is not None:
                current.abandon()
        if self.log.connection.connected:
            await self.handled.flush()

    async def _wait_ended(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        mailboxes = [queue.mailbox for queue in self.queues.values()]
        while time.monotonic() < deadline:
            if not any(each.running for each in mailboxes) and not self.pipelines.flying:
                return
            await asyncio.sleep(END_POLL_SECONDS)

    def give_up(self, why: Exception) -> None:
        """End everything that is still open, with the error `why`."""
        self.replies.close(why)
        for queue in self.queues.values():
            for delivery in list(queue.open):
                delivery.give_up(why)
