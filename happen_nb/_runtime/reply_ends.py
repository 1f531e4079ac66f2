"""The two ends of a reply: the process that handles the event, and the process that waits."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from happen_nb._model.freeze import dumps, freeze
from happen_nb._model.quoting import error_summary, error_text
from happen_nb._runtime.io import io_thread
from happen_nb._runtime.waiting import Signal, Waiters
from happen_nb.errors import DeadlockError, HandlerError, NoHandlerError, PayloadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from happen_nb._model.records import EventRecord
    from happen_nb._runtime.delivery import Delivery, NodeQueue
    from happen_nb._runtime.replies import ReplyRouter


PROGRESS_SECONDS = 0.02  # the shortest time between two messages of progress
MAX_PROGRESS = 100  # maximum number of progress values in one message, and of those kept for a slow reader
MAX_MESSAGE_LENGTH = 20_000  # maximum length of an error's message in a reply
MAX_TRACEBACK_LENGTH = 50_000  # maximum length of an error's traceback in a reply

FINAL = frozenset(("done", "failed", "cancelled"))

ERROR_KINDS: dict[str, Callable[[str], Exception]] = {
    "NoHandlerError": NoHandlerError,
    "DeadlockError": DeadlockError,
    "PayloadError": PayloadError,
}


class Converted(NamedTuple):
    """A value that fits into a message, frozen, and its size as JSON in bytes."""

    value: Any
    size: int


class Responder:
    """Replies to one event that this process handles. From any thread."""

    def __init__(self, router: ReplyRouter, event: EventRecord) -> None:
        self.event = event
        self.delivery: Delivery | None = None
        self.final: dict[str, Any] | None = None
        self._router = router
        self._progress: deque[Converted] = deque(maxlen=MAX_PROGRESS)
        self._flushing = False

    @property
    def state(self) -> dict[str, Any]:
        return self.final or {"event": self.event.id, "state": "accepted"}

    def convert(self, value: Any, what: str = "the result") -> Converted:
        """Convert a result; PayloadError if it has no JSON form, or is larger than the server accepts."""
        what = f'{what} of "{self.event.type}"'
        try:
            frozen = freeze(value, what=what, error=PayloadError)
            size = len(dumps(frozen))
        except PayloadError:
            raise
        except BaseException as error:  # converting it runs the value's own code
            raise PayloadError(f"{what} cannot be converted: {error_summary(error)}") from error
        if size > self._router.max_body:
            raise PayloadError(
                f"{what} has {size:,} bytes as JSON, but the server accepts at most "
                f"{self._router.max_body:,}; store it elsewhere and reply with its name, or yield it in parts"
            )
        return Converted(frozen, size)

    def progress(self, value: Any) -> None:
        """Report progress; if there is more than can be sent, only the newest values.

        Raises PayloadError if the value has no JSON form, or is larger than the server accepts.
        """
        self._progress.append(self.convert(value, "progress"))
        if not self._flushing:
            self._flushing = True
            io_thread().call_soon(self._flush)

    def _flush(self) -> None:
        if self.final is not None:
            return
        self._flushing = self._send_progress()
        if self._flushing or self._progress:  # some may have been added just now
            io_thread().loop.call_later(PROGRESS_SECONDS, self._flush)

    def _send_progress(self) -> bool:
        """Send the progress that waits, in messages that the server accepts; False if none did."""
        waiting = [self._progress.popleft() for _ in range(len(self._progress))]
        values: list[Any] = []
        left = self._router.max_body
        for value, size in waiting:
            if values and size > left:
                self._router.send(self.event, {**self.state, "progress": values})
                values, left = [], self._router.max_body
            values.append(value)
            left -= size + 1
        if values:
            self._router.send(self.event, {**self.state, "progress": values})
        return bool(waiting)

    def finish(self, result: Converted) -> None:
        self._end({"state": "done", "value": result.value}, result.size)

    def refuse(self, error: Exception) -> None:
        """Reply that the handler has raised, that there is none, or that its result cannot be sent."""
        cut = self._router.cut
        outcome: dict[str, Any] = {"state": "failed", "kind": type(error).__name__}
        if isinstance(error, HandlerError):
            outcome["kind"] = "HandlerError"
            outcome["message"] = cut(error.args[0], MAX_MESSAGE_LENGTH)
            outcome["trace"] = {
                "node": error.node,
                "error": cut(error.error, MAX_MESSAGE_LENGTH),
                "remote_traceback": cut(error.remote_traceback, MAX_TRACEBACK_LENGTH),
            }
        else:
            outcome["message"] = cut(error_text(error), MAX_MESSAGE_LENGTH)
        self._end(outcome, len(outcome["message"]))

    def _end(self, outcome: dict[str, Any], size: int) -> None:
        io_thread().call_soon(self._ended, {"event": self.event.id, **outcome}, size)

    def _ended(self, outcome: dict[str, Any], size: int) -> None:
        if self.final is None:
            self._send_progress()
            self.final = outcome
            self._router.send(self.event, outcome)
            self._router.keep(self.event.id, size)


class PendingReply:
    """The reply to an event that was sent from here. Changed on the IO thread, read from any."""

    def __init__(self, target: str, timeout: float) -> None:
        self.target = target
        self.timeout = timeout
        """Seconds without news after which the owner is asked only while a caller waits."""
        self.event: EventRecord | None = None
        self.owner: str | None = None
        self.awaited = False  # True if a handler waits for it
        self.postponed = False  # True while the event is scheduled and not delivered yet
        self.held = False  # True while the event waits for the end of a pause
        self.asleep = False  # True while the event, or what handles it, waits for a manual clock
        self.refusal: Exception | None = None  # of the event when it comes to its node
        self.waiters: dict[NodeQueue, None] = {}  # the nodes whose handlers wait for it
        self.kept_at: str | None = None  # the subject where it is stored, if a durable handler receives it
        self.final: dict[str, Any] | None = None  # the message that ended it
        self.state = "waiting"
        self.progress: Any = None
        self.value: Any = None
        self.error: BaseException | None = None
        self.changes = 0
        self.newest_at = time.monotonic()  # the time at which the newest progress arrived
        self.first_progress: tuple[float, Any] | None = None
        """The first progress, and the time at which it arrived."""
        self.on_change: Signal[[]] = Signal()  # emitted at each change, on the IO thread
        self._progress: deque[tuple[int, Any]] = deque(maxlen=MAX_PROGRESS)
        self._waiters = Waiters()
        self._wanted = asyncio.Event()

    @property
    def done(self) -> bool:
        return self.state in FINAL

    @property
    def idle(self) -> bool:
        """True while it waits for a manual clock, or for the end of a pause."""
        return self.asleep or self.held

    def note_asleep(self, *, asleep: bool) -> None:
        """Note that the event waits for a manual clock, or that this is over. From any thread."""
        if asleep != self.asleep:
            self.asleep = asleep
            self._wake_waiters()

    def _wake(self) -> None:
        self.held = self.asleep = False
        self._wake_waiters()

    def _wake_waiters(self) -> None:
        for queue in list(self.waiters):
            queue.update()

    def since(self, number: int) -> list[tuple[int, Any]]:
        """Return the newest progress values after the one of that number, with their numbers."""
        return [item for item in list(self._progress) if item[0] > number]

    def update(self, message: dict[str, Any]) -> None:
        """Take a reply, as `presence.decode_reply` gives it. On the IO thread."""
        if not self.done:
            self.take(message)

    def take(self, message: dict[str, Any]) -> None:
        """Take a reply, even if there is one already."""
        for value in message.get("progress", ()):
            self.progress = value
            self.changes += 1
            self._progress.append((self.changes, self.progress))
            self.newest_at = time.monotonic()
            self.first_progress = self.first_progress or (self.newest_at, value)
        self.owner, state = message.get("by", self.owner), message["state"]
        if self.held or state in FINAL:
            self._wake()
        if state == "done":
            self.value = message["value"]
        elif state == "failed":
            kind, text = message["kind"], message["message"]
            trace = message.get("trace", {})
            self.error = ERROR_KINDS[kind](text) if kind in ERROR_KINDS else HandlerError(text, **trace)
        self.final = message if state in FINAL else None
        self.state = state  # last: other threads check it first
        self._changed()

    def note_held(self) -> None:
        """Note that the event waits for the end of a pause. On the IO thread."""
        if self.state == "waiting" and not self.held:
            self.held = True
            self._wake_waiters()
            self._changed()

    def fail(self, error: BaseException, state: str = "failed") -> None:
        """End without a result. On the IO thread."""
        if not self.done:
            self._wake()
            self.error = error
            self.state = state
            self._changed()

    def _changed(self) -> None:
        self.changes += 1
        self._wanted.set()
        self._waiters.wake()
        self.on_change.emit()

    async def changed(self, since: int, timeout: float) -> bool:
        """Wait for more than `since` changes; False after `timeout` seconds. On the IO thread."""
        if self.changes > since or self.done:
            return True
        self._wanted.set()
        return await self._waiters.wait(timeout)

    async def wanted(self, since: float) -> None:
        """Return at once while a caller waits or the timeout runs, otherwise as soon as a caller waits again.

        `since` is when the owner was first asked. On the IO thread.
        """
        while (
            not self.done
            and not self._waiters
            and time.monotonic() > max(since, self.newest_at) + self.timeout
        ):
            self._wanted.clear()
            await self._wanted.wait()
