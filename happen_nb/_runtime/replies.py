"""Replies to sent events: progress, result or error, over core NATS; a lost one is asked for again."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from happen_nb._journal import fields, presence
from happen_nb._journal.encoding import encode_result
from happen_nb._journal.slice import read_handled
from happen_nb._model.arguments import UNLIMITED
from happen_nb._model.freeze import dumps, freeze
from happen_nb._model.quoting import cut_middle
from happen_nb._runtime.io import io_thread
from happen_nb._runtime.reply_ends import PendingReply, Responder
from happen_nb.errors import (
    CancelledHandlingError,
    DeadlockError,
    HandlerError,
    HappenError,
    NoHandlerError,
    ReplyLostError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from happen_nb._journal.connection import CoreMessage
    from happen_nb._model.records import EventRecord, HandledRecord, OwnerRecord
    from happen_nb._runtime.causes import HandlerScope
    from happen_nb._runtime.delivery import Delivery, NodeQueue
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.peers import Peers

logger = logging.getLogger("happen_nb")

KEPT_SECONDS = 60.0  # seconds for which a result is kept for a sender that asks again
MAX_KEPT_BYTES = 16 << 20  # maximum size of the kept results as JSON; the newest one is always kept
ASK_SECONDS = 0.1  # seconds after which an owner that has not accepted the event is asked
ASK_ACCEPTED_SECONDS = 0.5  # seconds after which an owner that has accepted the event is asked again
GONE_SECONDS = 1.0  # seconds without an answer after which an owner counts as gone
TEXT_SHARE = 8  # each text of an error takes at most this fraction of a message: 1 / TEXT_SHARE


class HeldRequest:
    """A sent event that waits for the end of a pause."""

    def __init__(self, event: EventRecord) -> None:
        self.event = event
        self.cancelled = False


class ReplyRouter:
    """Both sides of the replies of one connection. On the IO thread."""

    def __init__(self, log: Log, peers: Peers) -> None:
        self._log = log
        self._peers = peers
        self._responders: dict[str, Responder] = {}
        self._pending: dict[str, PendingReply] = {}
        self._held: dict[str, HeldRequest] = {}  # sent events that wait for the end of a pause, by their ids
        self._kept: deque[tuple[float, str, int]] = deque()
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def max_body(self) -> int:
        return self._log.max_body

    def cut(self, text: str, length: int) -> str:
        """Cut the middle out of a text of an error that is too long for a message."""
        text = text.encode(errors="replace").decode()  # it may have lone surrogates
        length = min(length, len(text))
        while length and len(dumps(cut_middle(text, length))) > self.max_body // TEXT_SHARE:
            length //= 2
        return cut_middle(text, length)

    # -- replying ------------------------------------------------------------------------------------

    def accept(self, event: EventRecord) -> Responder:
        """Notify the sender of an event that it is handled here."""
        responder = self._responders[event.id] = Responder(self, event)
        self.send(event, responder.state)
        return responder

    def hold(self, event: EventRecord) -> None:
        """Note that an event that was sent to a node of this process waits for the end of a pause."""
        self._held[event.id] = HeldRequest(event)
        if event.id in self._pending:
            self._pending[event.id].note_held()

    def note_idle(self, event: EventRecord, *, idle: bool) -> None:
        """Note that an event that was sent waits for a manual clock or the end of a pause, or continues."""
        pending = self._pending.get(event.id)
        if pending is not None:
            pending.note_asleep(asleep=idle)

    def release_held(self, event: EventRecord) -> bool:
        """Note that an event no longer waits; False if it was cancelled meanwhile."""
        held = self._held.pop(event.id, None)
        return held is None or not held.cancelled

    def drop_held(
        self, concerns: Callable[[EventRecord], bool], why: Callable[[EventRecord], Exception]
    ) -> None:
        """Refuse events that wait for the end of a pause and are never handled."""
        for event in [held.event for held in self._held.values() if concerns(held.event)]:
            del self._held[event.id]
            self.accept(event).refuse(why(event))

    def keep(self, id: str, size: int) -> None:
        """Keep a result of `size` bytes for a sender that asks again, until it is old or others need room."""
        self._kept.append((time.monotonic() + KEPT_SECONDS, id, size))
        self._size += size
        while self._size > MAX_KEPT_BYTES and len(self._kept) > 1:
            self._forget_oldest()
        if self._timer is None:
            self._timer = io_thread().loop.call_later(KEPT_SECONDS, self._forget_old)

    def _forget_oldest(self) -> None:
        _, id, size = self._kept.popleft()
        self._size -= size
        self._responders.pop(id, None)

    def _forget_old(self) -> None:
        self._timer = None
        now = time.monotonic()
        while self._kept and self._kept[0][0] <= now:
            self._forget_oldest()
        if self._kept:
            self._timer = io_thread().loop.call_later(self._kept[0][0] - now, self._forget_old)

    def send(self, event: EventRecord, message: dict[str, Any]) -> None:
        message = {**message, "by": self._log.incarnation}
        address = (event.publish_id or event.id).partition("-")[0]
        if address == self._log.address or event.id in self._pending:
            self._route(message)
        else:
            self._log.background(self._send(self._log.subjects.reply_prefix + address, message))

    async def _send(self, subject: str, message: dict[str, Any]) -> None:
        try:
            await self._log.connection.send(subject, presence.encode_message(message))
        except Exception as error:  # the sender asks for it again
            logger.info("the reply to %s was not sent: %s: %s", subject, type(error).__name__, error)

    def delivery(self, id: str) -> Delivery | None:
        responder = self._responders.get(id)
        return None if responder is None else responder.delivery

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer a process that asks for a reply, or cancels an event that it sent."""
        id = question.get("send") or question.get("cancel") or ""
        responder = self._responders.get(id)
        if responder is None and id in self._held:
            self._held[id].cancelled |= "cancel" in question
            return {"held": True}
        if responder is None:
            return {}
        if "cancel" in question and responder.delivery is not None:
            responder.delivery.cancel("the reply was cancelled")
        idle = responder.delivery is not None and responder.delivery.idle
        return {"send": responder.state, **({"idle": True} if idle else {})}

    # -- sending -------------------------------------------------------------------------------------

    async def on_message(self, message: CoreMessage) -> None:
        try:
            reply = fields.of_type(fields.read_json(message.data), dict)
            id = fields.of_type(reply.get("event"), str)
        except fields.UNREADABLE as error:
            logger.info("a reply on %s cannot be read: %s", message.subject, error)
        else:
            self._read(id, reply)

    def _read(self, id: str, reply: Any) -> None:
        try:
            self._route(presence.decode_reply(id, reply))
        except fields.UNREADABLE as error:
            logger.info("the reply to the event %.100s cannot be read: %s", id, error)
            pending = self._pending.pop(id, None)
            if pending is not None:
                type = "" if pending.event is None else pending.event.type
                problem = (
                    f'the reply of "{pending.target}" to "{type}" cannot be read: {error}. '
                    'The page "Wire format" of the documentation shows what a program replies'
                )
                pending.fail(HandlerError(problem, node=pending.target))

    def _route(self, message: dict[str, Any]) -> None:
        pending = self._pending.get(message["event"])
        if pending is not None:
            pending.update(message)
            if pending.done:
                self._pending.pop(message["event"], None)

    def close(self, why: BaseException) -> None:
        for pending in list(self._pending.values()):
            pending.fail(why)
        if self._timer is not None:
            self._timer.cancel()
        self._responders.clear()
        self._held.clear()
        self._kept.clear()

    def expect(self, pending: PendingReply, event: EventRecord) -> None:
        """Expect the reply to an event that is about to be stored."""
        pending.event = event
        if event.alarm is not None:
            pending.postponed = True
            pending.note_asleep(asleep=self._log.clock is not None)
            pending.newest_at += UNLIMITED  # its timeout starts when it is delivered
        self._pending[event.id] = pending

    def note_owner(self, event: EventRecord, owner: OwnerRecord | None) -> PendingReply | None:
        """Note the owner that an event's target had when it was stored; return a reply that was scheduled."""
        pending = self._pending.get(event.id)
        if pending is None:
            return None
        if pending.owner is None:
            pending.owner = "" if owner is None else owner.incarnation
        if not pending.postponed:
            return None
        pending.postponed, pending.newest_at = False, time.monotonic()
        pending.note_asleep(asleep=False)
        return pending

    def cancelled(self, id: str) -> None:
        """Fail the reply to a scheduled event that was cancelled."""
        pending = self._pending.get(id)
        if pending is not None and pending.postponed:
            del self._pending[id]
            pending.fail(CancelledHandlingError("the scheduled event was cancelled"), "cancelled")

    def refusal(self, event: EventRecord) -> Exception | None:
        """Return the error of a sent event that is refused when it comes to its node."""
        pending = self._pending.get(event.id)
        return None if pending is None else pending.refusal

    def forget(self, event: EventRecord) -> None:
        self._pending.pop(event.id, None)

    def watch(self, pending: PendingReply) -> None:
        """Ask for the reply until it arrives, or its owner is gone; after the event was stored."""
        if pending.owner != self._log.incarnation:
            self._log.background(self._watch(pending))

    async def _watch(self, pending: PendingReply) -> None:
        event = pending.event
        assert event is not None
        gone_since: float | None = None
        started = time.monotonic()
        while not pending.done:
            await asyncio.sleep(ASK_SECONDS if pending.state == "waiting" else ASK_ACCEPTED_SECONDS)
            await pending.wanted(started)
            if pending.done:
                return
            try:
                question = {"send": event.id, "awaited": pending.awaited}
                answer = await self._peers.ask(pending.owner or "", question, ASK_ACCEPTED_SECONDS)
            except HappenError as error:
                logger.debug("asking for a reply: %s", error)
                continue
            if answer is not None:
                gone_since = None
                if (reply := answer.get("send")) is not None:
                    self._read(event.id, reply)
                    pending.note_asleep(asleep=answer.get("idle") is True and not pending.done)
                elif answer.get("held") is True:
                    pending.note_held()
                continue
            if not self._log.connection.connected:
                gone_since = None  # this process is cut off, not the other one
            elif gone_since is None:
                gone_since = time.monotonic()
            elif time.monotonic() - gone_since >= GONE_SECONDS:
                self._lost(pending, event)

    def _lost(self, pending: PendingReply, event: EventRecord) -> None:
        self.forget(event)
        error: HappenError
        if pending.state == "accepted":
            error = ReplyLostError(
                f'send: the process that handled "{event.type}" for node "{pending.target}" ended before it '
                "replied; its commits and events are in the journal"
            )
        else:
            error = NoHandlerError(
                f'send: the process that owned node "{pending.target}" ended before it accepted '
                f'"{event.type}"; it is in space.unhandled'
            )
        pending.fail(error)

    # -- replies that durable handlers receive -------------------------------------------------------

    async def find_kept(self, pending: PendingReply, event: EventRecord) -> bool:
        """Take the reply that an earlier run of a durable handler has received; False if it received none."""
        found = None if pending.kept_at is None else await self._log.stream.newest(pending.kept_at)
        if found is None:
            return False
        pending.event = event
        pending.kept_at = None
        pending.update(presence.decode_reply(event.id, fields.read_json(found.body)))
        return True

    async def keep_received(self, pending: PendingReply) -> None:
        """Store the reply that a durable handler receives: each of its later runs receives this reply."""
        if pending.kept_at is None or pending.final is None or pending.event is None:
            return
        log = self._log
        message = encode_result(pending.kept_at, freeze(pending.final), ttl=log.info.event_ttl)
        body, _ = await log.stream.store_first(message, timeout=log.timeout, what="a reply")
        pending.kept_at = None
        pending.take(presence.decode_reply(pending.event.id, fields.read_json(body)))

    async def find_recorded(
        self, pending: PendingReply, event: EventRecord, answer: Mapping[str, Any]
    ) -> None:
        """Take the reply to an event that was sent earlier from the owner's answer, or from its record."""
        if "send" in answer:
            self._read(event.id, answer["send"])
            return
        handled = await read_handled(self._log.stream, since=event.sequence)
        ends = [each for each in handled if (each.event, each.node) == (event.id, event.target)]
        known = next((each for each in ends if each.reply is not None), None)
        known = known or next((each for each in ends if each.outcome == "failed"), None)
        if known is not None:
            self._take_recorded(event, known)
        elif ends:
            problem = (
                f'send: the reply to "{event.type}" of node "{event.target}" is lost: the process that '
                "sent it has ended before it received the reply, which was too long to be recorded"
            )
            self.forget(event)
            pending.fail(ReplyLostError(problem))

    async def recall(self, pending: PendingReply, event: EventRecord, known: HandledRecord) -> None:
        """Take the reply that is recorded with a handling in another process."""
        self.expect(pending, event)
        self._take_recorded(event, known)

    def _take_recorded(self, event: EventRecord, known: HandledRecord) -> None:
        if known.reply is not None:
            self._read(event.id, {"state": "done", "value": fields.read_json(known.reply)})
            return
        trace = {"node": event.target, "error": known.error}
        text = f'the handler of "{event.type}" at node "{event.target}" raised {known.error}'
        self._read(event.id, {"state": "failed", "message": text, "trace": trace})

    async def cancel(self, pending: PendingReply, why: BaseException) -> None:
        """Cancel a sent event; raise `why` wherever its reply is awaited."""
        event = pending.event
        if pending.done or event is None:
            return
        self.forget(event)
        pending.fail(why, "cancelled")
        question = {"cancel": event.id}
        if pending.owner == self._log.incarnation:
            self.answer(question)
        elif pending.owner is not None:
            await self._peers.ask(pending.owner, question, ASK_ACCEPTED_SECONDS)


class DeadlockDetector:
    """Finds handlers that wait for each other's replies. On the IO thread."""

    def __init__(self, queues: Mapping[str, NodeQueue], replies: ReplyRouter) -> None:
        self._queues = queues
        self._replies = replies

    async def start_waiting(self, scope: HandlerScope | None, pending: PendingReply) -> None:
        """Register that a handler, or a cell, starts to wait for a reply.

        Raises DeadlockError if the handler that should reply waits, directly or through others, for this one.
        """
        if scope is None or scope.event is None or (queue := self._queues.get(scope.node)) is None:
            return
        cycle = self._find_cycle([scope.node, pending.target])
        if cycle and not pending.done:
            error = DeadlockError(
                f'the reply of "{pending.target}" to a handler of "{scope.node}" would never come: each of '
                f"{' -> '.join(cycle)} waits for the next; reply first, or do not wait for the result"
            )
            delivery = None if pending.event is None else self._replies.delivery(pending.event.id)
            if delivery is None and pending.event is not None:  # it waits before it comes to its node
                pending.refusal = error
            elif delivery is not None and delivery in delivery.queue.queued:
                delivery.refuse(error)
            raise error
        pending.waiters[queue] = None
        queue.start_waiting(scope, pending)
        pending.awaited = True
        if pending.event is not None:
            self.mark_awaited(pending.event.id)
        self._check(queue)

    def stop_waiting(self, scope: HandlerScope | None, pending: PendingReply) -> None:
        """Note that a handler, or a cell, no longer waits. From any thread."""
        if scope is None or pending not in scope.waits:
            return
        queue = self._queues[scope.node]
        queue.stop_waiting(scope, pending)
        if pending not in scope.waits:
            pending.waiters.pop(queue, None)

    def mark_awaited(self, id: str) -> None:
        """Note that a handler, in any process, waits for the reply to this event."""
        delivery = self._replies.delivery(id)
        if delivery is not None:
            delivery.awaited = True
            self._check(delivery.queue)

    def _check(self, queue: NodeQueue) -> None:
        """Refuse awaited events behind a handler that itself waits for the reply to one of their causes."""
        ids = {each.event.id for each in _awaited_at(queue) if each.event is not None}
        for delivery in list(queue.queued):
            event = delivery.event
            if delivery.awaited and not ids.isdisjoint(event.path):
                chain = " -> ".join((*event.path, event.id))
                delivery.refuse(
                    DeadlockError(
                        f'send of "{event.type}" to node "{queue.name}": its handler waits for a reply '
                        f"that depends on this one ({chain}), so both would wait forever; reply first, or "
                        "send without waiting for the result"
                    )
                )

    def _find_cycle(self, chain: list[str]) -> list[str]:
        """Return the nodes of a chain of waits that ends where it starts; empty if there is none."""
        if chain[-1] in chain[:-1]:
            return chain if chain[-1] == chain[0] else []
        queue = self._queues.get(chain[-1])
        cycles = (self._find_cycle([*chain, each.target]) for each in _awaited_at(queue))
        return next((found for found in cycles if found), [])


def _awaited_at(queue: NodeQueue | None) -> list[PendingReply]:
    """Return the replies that the running handler of a node waits for."""
    current = None if queue is None else queue.current
    waits = [] if current is None else list(current.scope.waits)
    return [each for each in waits if isinstance(each, PendingReply) and not each.done]
