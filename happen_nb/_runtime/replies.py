"""Replies to sent events: progress, result or error, over core NATS, requested again where one got lost."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from happen_nb._journal import exchange, fields
from happen_nb._journal.wire import HEADER_RESERVE_BYTES
from happen_nb._model.freeze import dumps, freeze
from happen_nb._model.quoting import cut_middle, error_summary, error_text
from happen_nb._runtime.io import io_thread, within
from happen_nb.errors import (
    DeadlockError,
    HandlerError,
    HappenError,
    NoHandlerError,
    PayloadError,
    ReplyLostError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from happen_nb._journal.connection import CoreMessage as Message
    from happen_nb._model.records import EventRecord, OwnerRecord
    from happen_nb._runtime.causes import HandlerScope
    from happen_nb._runtime.delivery import Delivery, NodeQueue
    from happen_nb._runtime.session import Session

log = logging.getLogger("happen_nb")

FLUSH = 0.02
"""Seconds at least between two messages of progress."""
PROGRESS = 100
"""Progress values in one message, and the newest that are kept for who has not looked yet."""
KEPT = 60.0
"""Seconds for which a result is kept for who asks again."""
KEPT_BYTES = 16 << 20
"""Bytes of results, as JSON, that are kept at most; the newest is kept in any case."""
ASK = 0.1
"""Seconds after which an owner is asked that has not accepted yet."""
ASK_ACCEPTED = 0.5
"""The same for one that has."""
GONE = 1.0
"""Seconds without anybody there after which an owner counts as gone."""

LONGEST_MESSAGE = 20_000
"""Characters of an error's message in a reply."""
LONGEST_TRACEBACK = 50_000
"""Characters of its traceback."""
TEXT_SHARE = 8
"""Each text of an error takes up to one part in so many of a message."""

FINAL = frozenset(("done", "failed", "cancelled"))

_KINDS: dict[str, Callable[[str], Exception]] = {
    "NoHandlerError": NoHandlerError,
    "DeadlockError": DeadlockError,
    "PayloadError": PayloadError,
}


class Responder:
    """What this process replies to one event; any thread may call it."""

    def __init__(self, answers: ReplyRouter, event: EventRecord) -> None:
        self.event = event
        self.delivery: Delivery | None = None
        self.final: dict[str, Any] | None = None
        self._answers = answers
        self._waiting: deque[tuple[Any, int]] = deque(maxlen=PROGRESS)
        self._flushing = False
        self._lock = threading.Lock()

    @property
    def state(self) -> dict[str, Any]:
        """What there is to say at the moment."""
        return self.final or {"event": self.event.id, "state": "accepted"}

    def progress(self, value: Any) -> None:
        """Report progress; of more than can be sent only the newest values are.

        Raises
        ------
        PayloadError
            The value has no JSON form, or is larger than the server takes.
        """
        frozen, size = self._frozen(value, f'progress of "{self.event.type}"')
        with self._lock:
            self._waiting.append((frozen, size))
            if self._flushing:
                return
            self._flushing = True
        io_thread().call_soon(self._flush)

    def _frozen(self, value: Any, what: str) -> tuple[Any, int]:
        """A value that fits into a message, and its size in bytes."""
        try:
            frozen = freeze(value, what=what, error=PayloadError)
            size = len(dumps(frozen))
        except PayloadError:
            raise
        except BaseException as error:  # the value's own code runs when it is looked at
            raise PayloadError(f"{what} cannot be converted: {error_summary(error)}") from error
        if size > self._answers.room:
            raise PayloadError(
                f"{what}: {size:,} bytes as JSON, and the server takes {self._answers.room:,}; "
                "store it elsewhere and reply with its name, or yield it in parts"
            )
        return frozen, size

    def _flush(self) -> None:
        if self.final is None and self._take():
            io_thread().loop.call_later(FLUSH, self._flush)

    def _take(self) -> bool:
        """Send the progress that waits, in messages that the server takes; False if none did."""
        with self._lock:
            waiting = list(self._waiting)
            self._waiting.clear()
            self._flushing = bool(waiting)
        values: list[Any] = []
        left = self._answers.room
        for value, size in waiting:
            if values and size > left:
                self._answers.tell(self.event, {**self.state, "progress": values})
                values, left = [], self._answers.room
            values.append(value)
            left -= size + 1
        if values:
            self._answers.tell(self.event, {**self.state, "progress": values})
        return bool(waiting)

    def convert(self, value: Any) -> Any:
        """Convert a result as a payload.

        Raises
        ------
        PayloadError
            It has no JSON form, or is larger than the server takes.
        """
        return self._frozen(value, f'the result of "{self.event.type}"')[0]

    def finish(self, value: Any) -> None:
        """The event was handled, and this is the result."""
        try:
            frozen = self.convert(value)
        except PayloadError as error:
            self.refuse(error)
            return
        self._end({"state": "done", "value": frozen})

    def fail(self, error: HandlerError) -> None:
        """Its handler has raised."""
        cut = self._answers.cut
        trace = {
            "node": error.node,
            "error": cut(error.error, LONGEST_MESSAGE),
            "remote_traceback": cut(error.remote_traceback, LONGEST_TRACEBACK),
        }
        message = cut(error.args[0], LONGEST_MESSAGE)
        self._end({"state": "failed", "kind": "HandlerError", "message": message, "trace": trace})

    def refuse(self, error: Exception) -> None:
        """The event is not handled, or its result cannot be sent."""
        if isinstance(error, HandlerError):
            self.fail(error)
        else:
            message = self._answers.cut(error_text(error), LONGEST_MESSAGE)
            self._end({"state": "failed", "kind": type(error).__name__, "message": message})

    def _end(self, outcome: dict[str, Any]) -> None:
        io_thread().call_soon(self._ended, {"event": self.event.id, **outcome})

    def _ended(self, outcome: dict[str, Any]) -> None:
        if self.final is None:
            self._take()
            self.final = outcome
            self._answers.tell(self.event, outcome)
            self._answers.keep(self.event.id, _size(outcome))


class PendingReply:
    """Something that was sent from here; changed on the IO thread, read from any."""

    def __init__(self, target: str, timeout: float) -> None:
        self.target = target
        self.timeout = timeout
        """Seconds without news after which its owner is asked only while somebody waits."""
        self.event: EventRecord | None = None
        self.owner: str | None = None
        self.awaited = False
        """Whether a handler waits for it."""
        self.state = "waiting"
        self.progress: Any = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.changes = 0
        self.heard = time.monotonic()
        self.unread: deque[tuple[int, Any]] = deque(maxlen=PROGRESS)
        self._waiters: set[asyncio.Future[None]] = set()
        self._wanted = asyncio.Event()
        self._told: list[Callable[[], None]] = []

    @property
    def done(self) -> bool:
        """Whether there is a result or an error."""
        return self.state in FINAL

    def listen(self, callback: Callable[[], None]) -> None:
        """Call `callback` on the IO thread at each change."""
        self._told.append(callback)

    def since(self, number: int) -> list[tuple[int, Any]]:
        """The newest progress values after the one of that number, with theirs."""
        return [item for item in list(self.unread) if item[0] > number]

    def hear(self, message: dict[str, Any]) -> None:
        """Take a message of the other side, as `exchange.decode_reply` gives it. On the IO thread."""
        if self.done:
            return
        for value in message.get("progress", ()):
            self.progress = value
            self.changes += 1
            self.unread.append((self.changes, self.progress))
            self.heard = time.monotonic()
        self.owner = message.get("by", self.owner)
        state = message["state"]
        if state == "done":
            self.value = message["value"]
        elif state == "failed":
            self.error = _error(message)
        self.state = state  # last: other threads look at it first
        self._wake()

    def fail(self, error: BaseException, state: str = "failed") -> None:
        """There will be no result. On the IO thread."""
        if not self.done:
            self.error = error
            self.state = state
            self._wake()

    def _wake(self) -> None:
        self.changes += 1
        self._wanted.set()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        for callback in self._told:
            callback()

    async def changed(self, since: int, timeout: float) -> bool:
        """Wait until there is more than `since` changes; False after `timeout` seconds. On the IO thread."""
        if self.changes > since or self.done:
            return True
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        self._wanted.set()
        try:
            return await within(timeout, waiter)
        finally:
            self._waiters.discard(waiter)

    async def wanted(self, since: float) -> None:
        """Return at once while somebody waits or the timeout runs, else as soon as somebody waits again.

        `since` is when the owner was first asked. On the IO thread.
        """
        while (
            not self.done and not self._waiters and time.monotonic() > max(since, self.heard) + self.timeout
        ):
            self._wanted.clear()
            await self._wanted.wait()


class ReplyRouter:
    """Both sides of the replies of one connection."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._answers: dict[str, Responder] = {}
        self._requests: dict[str, PendingReply] = {}
        self._kept: deque[tuple[float, str, int]] = deque()
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def room(self) -> int:
        """Bytes of a value that the server takes in one message."""
        return self._session.connection.max_payload - HEADER_RESERVE_BYTES

    def cut(self, text: str, characters: int) -> str:
        """A text of an error that fits into a message: without its middle, where it is too long."""
        text = text.encode(errors="replace").decode()  # it may have lone surrogates
        most = min(characters, len(text))
        while most and len(dumps(cut_middle(text, most))) > self.room // TEXT_SHARE:
            most //= 2
        return cut_middle(text, most)

    # -- replying ------------------------------------------------------------------------------------

    def open(self, event: EventRecord) -> Responder:
        """Begin to reply to an event that is handled here."""
        answer = self._answers[event.id] = Responder(self, event)
        self.tell(event, answer.state)
        return answer

    def keep(self, id: str, size: int) -> None:
        """Keep a result for a while for who asks again: the oldest go when they are old, or too large.

        Parameters
        ----------
        size : int
            Its bytes as JSON.
        """
        self._kept.append((time.monotonic() + KEPT, id, size))
        self._size += size
        while self._size > KEPT_BYTES and len(self._kept) > 1:
            self._forget_oldest()
        if self._timer is None:
            self._timer = io_thread().loop.call_later(KEPT, self._forget_old)

    def _forget_oldest(self) -> None:
        _, id, size = self._kept.popleft()
        self._size -= size
        self._answers.pop(id, None)

    def _forget_old(self) -> None:
        self._timer = None
        now = time.monotonic()
        while self._kept and self._kept[0][0] <= now:
            self._forget_oldest()
        if self._kept:
            self._timer = io_thread().loop.call_later(self._kept[0][0] - now, self._forget_old)

    def tell(self, event: EventRecord, message: dict[str, Any]) -> None:
        """Say something to who sent the event."""
        message = {**message, "by": self._session.incarnation}
        address = event.id.partition("-")[0]
        if address == self._session.address:
            self.heard(message)
        else:
            self._session.background(self._published(self._session.subjects.reply_prefix + address, message))

    async def _published(self, subject: str, message: dict[str, Any]) -> None:
        try:
            await self._session.connection.send(subject, exchange.encode(message))
        except Exception as error:  # it is asked for again
            log.info("the reply to %s was not sent: %s: %s", subject, type(error).__name__, error)

    def delivery(self, id: str) -> Delivery | None:
        """The handling of an event that was sent to a node of this process."""
        answer = self._answers.get(id)
        return None if answer is None else answer.delivery

    def live(self, question: dict[str, Any]) -> dict[str, Any]:
        """Responder who asks for the state of what was sent, or cancels it."""
        answer = self._answers.get(question.get("send") or question.get("cancel") or "")
        if answer is None:
            return {}
        if "cancel" in question and answer.delivery is not None:
            answer.delivery.cancel("the reply was cancelled")
        return {"send": answer.state}

    # -- sending -------------------------------------------------------------------------------------

    async def hear(self, message: Message) -> None:
        """Take a reply of another process."""
        try:
            reply = fields.of_type(fields.read_json(message.data), dict)
            id = fields.of_type(reply.get("event"), str)
        except fields.UNREADABLE as error:
            log.info("a reply on %s cannot be read: %s", message.subject, error)
        else:
            self._read(id, reply)

    def _read(self, id: str, reply: Any) -> None:
        """Take a reply of another process; one that cannot be read is the end of its request."""
        try:
            self.heard(exchange.decode_reply(id, reply))
        except fields.UNREADABLE as error:
            log.info("the reply to the event %.100s cannot be read: %s", id, error)
            request = self._requests.pop(id, None)
            if request is not None:
                request.fail(_unreadable(request, error))

    def heard(self, message: dict[str, Any]) -> None:
        """Take a reply, as `exchange.decode_reply` gives it."""
        request = self._requests.get(message["event"])
        if request is not None:
            request.hear(message)
            if request.done:
                self._requests.pop(message["event"], None)

    def close(self, why: BaseException) -> None:
        """There will be no replies any more."""
        for request in list(self._requests.values()):
            request.fail(why)
        if self._timer is not None:
            self._timer.cancel()
        self._answers.clear()
        self._kept.clear()

    def expect(self, request: PendingReply, event: EventRecord) -> None:
        """Listen for the reply to an event; before it is stored."""
        request.event = event
        self._requests[event.id] = request

    def stored(self, event: EventRecord, owner: OwnerRecord | None) -> None:
        """An event was stored, and this is who owned its target then."""
        request = self._requests.get(event.id)
        if request is not None and request.owner is None:
            request.owner = "" if owner is None else owner.incarnation

    def forget(self, event: EventRecord) -> None:
        """It is not to be replied to."""
        self._requests.pop(event.id, None)

    def watch(self, request: PendingReply) -> None:
        """See to it that the reply comes, or that who waits is told; after the event was stored."""
        if request.owner != self._session.incarnation:
            self._session.background(self._watched(request))

    async def _watched(self, request: PendingReply) -> None:
        event = request.event
        assert event is not None
        gone_since: float | None = None
        began = time.monotonic()
        while not request.done:
            await asyncio.sleep(ASK if request.state == "waiting" else ASK_ACCEPTED)
            await request.wanted(began)
            if request.done:
                return
            try:
                question = {"send": event.id, "awaited": request.awaited}
                answer = await self._session.ask(request.owner or "", question, ASK_ACCEPTED)
            except HappenError as error:
                log.debug("asking for a reply: %s", error)
                continue
            if answer is not None:
                gone_since = None
                if (reply := answer.get("send")) is not None:
                    self._read(event.id, reply)
                continue
            if not self._session.connection.connected:
                gone_since = None  # it is we who are gone
            elif gone_since is None:
                gone_since = time.monotonic()
            elif time.monotonic() - gone_since >= GONE:
                self._lost(request, event)

    def _lost(self, request: PendingReply, event: EventRecord) -> None:
        self.forget(event)
        if request.state == "accepted":
            request.fail(
                ReplyLostError(
                    f'send: the process that handled "{event.type}" for node "{request.target}" has ended '
                    "before it replied; what it did until then is in the journal"
                )
            )
        else:
            request.fail(
                NoHandlerError(
                    f'send: the process that owned node "{request.target}" has ended before it took '
                    f'"{event.type}"; it is in space.unhandled'
                )
            )

    async def cancel(self, request: PendingReply, why: BaseException) -> None:
        """Cancel what was sent; who waits for it is told `why`."""
        event = request.event
        if request.done or event is None:
            return
        self.forget(event)
        request.fail(why, "cancelled")
        question = {"cancel": event.id}
        if request.owner == self._session.incarnation:
            self.live(question)
        elif request.owner is not None:
            await self._session.ask(request.owner, question, ASK_ACCEPTED)


def _size(outcome: dict[str, Any]) -> int:
    """Bytes of what is replied, about."""
    try:
        return len(dumps(outcome.get("value"))) + len(outcome.get("message", ""))
    except HappenError:  # it nests too deeply to be sent to another process
        return 0


def _unreadable(request: PendingReply, problem: Exception) -> HandlerError:
    type = "" if request.event is None else request.event.type
    return HandlerError(
        f'the reply of "{request.target}" to "{type}" cannot be read: {problem}. '
        'The page "Wire format" of the documentation shows what a program replies',
        node=request.target,
    )


def _error(message: dict[str, Any]) -> Exception:
    kind, text = message["kind"], message["message"]
    return _KINDS[kind](text) if kind in _KINDS else HandlerError(text, **message.get("trace", {}))


class DeadlockDetector:
    """Which handlers of this process wait for what.

    Parameters
    ----------
    boxes : mapping of str to NodeQueue
        Of the nodes that are handled here.
    answers : ReplyRouter
    """

    def __init__(self, boxes: Mapping[str, NodeQueue], answers: ReplyRouter) -> None:
        self._boxes = boxes
        self._answers = answers

    async def begin(self, scope: HandlerScope | None, request: PendingReply) -> None:
        """A handler, or else somebody who is nobody's reply, begins to wait for one.

        Raises
        ------
        DeadlockError
            Who should reply waits, over however many others, for this handler.
        """
        if scope is None or scope.event is None or (box := self._boxes.get(scope.node)) is None:
            return
        chain = self._circle([scope.node, request.target])
        if chain and not request.done:
            error = DeadlockError(
                f'the reply of "{request.target}" to a handler of "{scope.node}" would never come: each of '
                f"{' -> '.join(chain)} waits for the next; reply first, or do not wait for the result"
            )
            self._refuse(request, error)
            raise error
        scope.waits.append(request)
        request.awaited = True
        if request.event is not None:
            self.awaited(request.event.id)
        self._look(box)

    def end(self, scope: HandlerScope | None, request: PendingReply) -> None:
        """A handler waits no longer."""
        if scope is not None and request in scope.waits:
            scope.waits.remove(request)

    def awaited(self, id: str) -> None:
        """A handler, here or elsewhere, waits for the reply to this event."""
        delivery = self._answers.delivery(id)
        if delivery is not None:
            delivery.awaited = True
            self._look(delivery.box)

    def _look(self, box: NodeQueue) -> None:
        """Refuse what waits for a handler to end that itself waits for what led to it."""
        current = box.current
        if current is None:
            return
        ids = {each.event.id for each in current.scope.waits if each.event is not None and not each.done}
        for delivery in list(box.queued):
            if delivery.awaited and not ids.isdisjoint(delivery.event.path):
                delivery.refuse(_circle(box.name, delivery.event))

    def _refuse(self, request: PendingReply, error: DeadlockError) -> None:
        delivery = None if request.event is None else self._answers.delivery(request.event.id)
        if delivery is not None and delivery in delivery.box.queued:
            delivery.refuse(error)

    def _circle(self, chain: list[str]) -> list[str]:
        """The nodes of a chain of waits that ends where it began, if there is one; else nothing."""
        if chain[-1] in chain[:-1]:
            return chain if chain[-1] == chain[0] else []
        box = self._boxes.get(chain[-1])
        current = box.current if box is not None else None
        waits = [] if current is None else [each for each in list(current.scope.waits) if not each.done]
        circles = (self._circle([*chain, each.target]) for each in waits)
        return next((found for found in circles if found), [])


def _circle(node: str, event: EventRecord) -> DeadlockError:
    chain = " -> ".join((*event.path, event.id))
    return DeadlockError(
        f'send of "{event.type}" to node "{node}": its handler waits for the reply to what led to this '
        f"({chain}), so both would wait for ever; reply first, or send without waiting for the result"
    )
