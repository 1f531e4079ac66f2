"""Replies to what was sent: progress, result or error, over core NATS, asked for again where it got lost."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import orjson

from happen_nb.errors import (
    DeadlockError,
    HandlerError,
    HappenError,
    NoHandlerError,
    PayloadError,
    ReplyLostError,
)
from happen_nb.model.texts import said_by
from happen_nb.model.values import dumps, freeze
from happen_nb.runtime.bridge import bridge, within

if TYPE_CHECKING:
    from collections.abc import Callable

    from happen_nb.journal.connection import Answer as Message
    from happen_nb.model.commits import EventRecord, OwnerRecord
    from happen_nb.runtime.handling import Delivery
    from happen_nb.runtime.session import Session

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

FINAL = frozenset(("done", "failed", "cancelled"))

_KINDS: dict[str, Callable[[str], Exception]] = {
    "NoHandlerError": NoHandlerError,
    "DeadlockError": DeadlockError,
    "PayloadError": PayloadError,
}


class Answer:
    """What this process replies to one event; any thread may call it."""

    def __init__(self, answers: Answers, event: EventRecord) -> None:
        self.event = event
        self.delivery: Delivery | None = None
        self.final: dict[str, Any] | None = None
        self._answers = answers
        self._waiting: deque[Any] = deque(maxlen=PROGRESS)
        self._flushing = False
        self._lock = threading.Lock()

    @property
    def state(self) -> dict[str, Any]:
        """What there is to say at the moment."""
        return self.final or {"event": self.event.id, "state": "accepted"}

    def progress(self, value: Any) -> None:
        """Tell how far it is; the newest values are told where there are too many.

        Raises
        ------
        PayloadError
            It has no JSON form.
        """
        frozen = freeze(value, what=f'progress of "{self.event.type}"', error=PayloadError)
        with self._lock:
            self._waiting.append(frozen)
            if self._flushing:
                return
            self._flushing = True
        bridge().soon(self._flush)

    def _flush(self) -> None:
        if self.final is None and self._take():
            bridge().loop.call_later(FLUSH, self._flush)

    def _take(self) -> bool:
        """Tell what waits; False if nothing did."""
        with self._lock:
            values = list(self._waiting)
            self._waiting.clear()
            self._flushing = bool(values)
        if values:
            self._answers.tell(self.event, {**self.state, "progress": values})
        return bool(values)

    def convert(self, value: Any) -> Any:
        """Convert a result as a payload.

        Raises
        ------
        PayloadError
            It has no JSON form, or its own code raises when it is looked at.
        """
        what = f'the result of "{self.event.type}"'
        try:
            return freeze(value, what=what, error=PayloadError)
        except PayloadError:
            raise
        except BaseException as error:
            raise PayloadError(f"{what} cannot be converted: {said_by(error)}") from error

    def finish(self, value: Any) -> None:
        """It was handled; this is the result."""
        try:
            frozen = self.convert(value)
        except PayloadError as error:
            self.refuse(error)
            return
        self._end({"state": "done", "value": frozen})

    def fail(self, error: HandlerError) -> None:
        """Its handler has raised."""
        trace = {"node": error.node, "error": error.error, "remote_traceback": error.remote_traceback}
        self._end({"state": "failed", "kind": "HandlerError", "message": error.args[0], "trace": trace})

    def refuse(self, error: Exception) -> None:
        """It is not handled, or what came out cannot be told."""
        if isinstance(error, HandlerError):
            self.fail(error)
        else:
            self._end({"state": "failed", "kind": type(error).__name__, "message": str(error)})

    def _end(self, outcome: dict[str, Any]) -> None:
        bridge().soon(self._ended, {"event": self.event.id, **outcome})

    def _ended(self, outcome: dict[str, Any]) -> None:
        if self.final is None:
            self._take()
            self.final = outcome
            self._answers.tell(self.event, outcome)
            self._answers.keep(self.event.id, _size(outcome))


class Request:
    """Something that was sent from here; changed on the IO thread, read from any."""

    def __init__(self, target: str) -> None:
        self.target = target
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
        """The other side says something. On the IO thread."""
        if self.done:
            return
        for value in message.get("progress", ()):
            self.progress = freeze(value)
            self.changes += 1
            self.unread.append((self.changes, self.progress))
            self.heard = time.monotonic()
        self.owner = message.get("by", self.owner)
        state = message["state"]
        if state == "done":
            self.value = freeze(message.get("value"))
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
        try:
            return await within(timeout, waiter)
        finally:
            self._waiters.discard(waiter)


class Answers:
    """Both sides of the replies of one connection."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._answers: dict[str, Answer] = {}
        self._requests: dict[str, Request] = {}
        self._kept: deque[tuple[float, str, int]] = deque()
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None

    # -- replying ------------------------------------------------------------------------------------

    def open(self, event: EventRecord) -> Answer:
        """Begin to reply to an event that is handled here."""
        answer = self._answers[event.id] = Answer(self, event)
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
            self._timer = bridge().loop.call_later(KEPT, self._forget_old)

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
            self._timer = bridge().loop.call_later(self._kept[0][0] - now, self._forget_old)

    def tell(self, event: EventRecord, message: dict[str, Any]) -> None:
        """Say something to who sent the event."""
        message = {**message, "by": self._session.incarnation}
        address = event.id.partition("-")[0]
        if address == self._session.address:
            self.heard(message)
        else:
            subject = self._session.subjects.reply_prefix + address
            self._session.background(self._session.connection.publish(subject, dumps(freeze(message))))

    def delivery(self, id: str) -> Delivery | None:
        """The handling of an event that was sent to a node of this process."""
        answer = self._answers.get(id)
        return None if answer is None else answer.delivery

    def live(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer who asks for the state of what was sent, or cancels it."""
        answer = self._answers.get(question.get("send") or question.get("cancel") or "")
        if answer is None:
            return {}
        if "cancel" in question and answer.delivery is not None:
            answer.delivery.cancel("the reply was cancelled")
        return {"send": answer.state}

    # -- sending -------------------------------------------------------------------------------------

    async def hear(self, message: Message) -> None:
        """A message of the other side has come."""
        self.heard(orjson.loads(message.data))

    def heard(self, message: dict[str, Any]) -> None:
        """The other side says something."""
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

    def begin(self, request: Request, event: EventRecord) -> None:
        """Listen for the reply to an event; before it is stored."""
        request.event = event
        self._requests[event.id] = request

    def stored(self, event: EventRecord, owner: OwnerRecord | None) -> None:
        """An event was stored, and this is who owned its target then."""
        request = self._requests.get(event.id)
        if request is not None and request.owner is None:
            request.owner = "" if owner is None else owner.incarnation

    def end(self, event: EventRecord) -> None:
        """It is not to be replied to."""
        self._requests.pop(event.id, None)

    def watch(self, request: Request) -> None:
        """See to it that the reply comes, or that who waits is told; after the event was stored."""
        if request.owner != self._session.incarnation:
            self._session.background(self._watched(request))

    async def _watched(self, request: Request) -> None:
        event = request.event
        assert event is not None
        gone_since: float | None = None
        while not request.done:
            await asyncio.sleep(ASK if request.state == "waiting" else ASK_ACCEPTED)
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
                if state := answer.get("send"):
                    self.heard(state)
                continue
            if not self._session.connection.connected:
                gone_since = None  # it is we who are gone
            elif gone_since is None:
                gone_since = time.monotonic()
            elif time.monotonic() - gone_since >= GONE:
                self._lost(request, event)

    def _lost(self, request: Request, event: EventRecord) -> None:
        self.end(event)
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

    async def cancel(self, request: Request, why: BaseException) -> None:
        """Cancel what was sent; who waits for it is told `why`."""
        event = request.event
        if request.done or event is None:
            return
        self.end(event)
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


def _error(message: dict[str, Any]) -> Exception:
    kind, text = message["kind"], message["message"]
    if kind == "HandlerError":
        return HandlerError(text, **message["trace"])
    return _KINDS.get(kind, HandlerError)(text)
