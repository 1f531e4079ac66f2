"""Send single messages without an answer, and learn their outcome from the follower.

An answer for each message would cost as much as storing it. Instead, the follower reports the stored ones: a
message that it brings is stored, and a commit is refused if the follower brings another one of the same node
first. A message that is not decided after a second is unclear, as are all messages after a lost connection.
The caller then sends it again with `store_messages`, and waits for the answer, which names a full disk or a
deleted stream.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from contextvars import Context
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from happen_nb._journal.wire import encode_publish

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from happen_nb._journal.connection import Connection
    from happen_nb._journal.wire import Message
    from happen_nb._model.records import CommitRecord, EventRecord

T = TypeVar("T")

CHECK_SECONDS = 0.5  # interval of the checks of undecided messages
UNCLEAR_SECONDS = 1.0  # time after which an undecided message is unclear
MAX_DIRECT_BYTES = 65_536  # maximum size of a message that another thread than the IO thread sends


class PendingWrite(Generic[T]):
    """A commit or an event of this process that is on its way.

    It can be awaited in the thread of its caller, as `on_io` can: it is sent then, and the caller goes on as
    soon as it is decided (`seen` or `refused`), or unclear.

    The follower recognizes it by its id, the id of the commit or event. Only a single message can be sent
    without an answer; it is refused if another one on `subject` is stored first, and a commit of `node`
    expects the newest one at `expected`. `what` names the call in errors. The `draft` need not be decoded
    when it is stored. The caller completes it by the `request`.
    """

    data = b""  # the message as it is sent; encoded in the thread of the caller
    seen: T | None = None  # the stored record, as the follower has brought it
    refused = False  # True if another commit of the node was stored first
    followed = True  # True while the follower has followed since it was registered, without a new start
    unbroken = True  # True while the follower has missed nothing since it was registered
    generation: Any = None  # that of the journal when it was registered
    cleared = 0  # the newest clear before which it is certainly not stored, unless it was seen
    started = 0.0
    flying = False  # True while its outcome is to be reported
    sent_at: float | None = None  # the loop's time of the first sending
    abandoned: asyncio.Future[None] | None = None
    """Set if its caller was interrupted; resolved when it is decided or unclear."""
    error: BaseException | None = None
    wake: Callable[[PendingWrite[T]], object] | None = None
    future: asyncio.Future[Any] | None = None
    """Resolved when it is seen, if its caller waits for an answer meanwhile."""

    def __init__(
        self,
        outbox: Outbox,
        id: str,
        messages: Sequence[Message] = (),
        what: str = "",
        deadline: float = 0.0,
        *,
        node: str | None = None,
        subject: str | None = None,
        expected: int = 0,
        draft: CommitRecord | EventRecord | None = None,
        request: Any = None,
    ) -> None:
        self.outbox = outbox
        self.id = id
        self.messages = messages
        self.what = what
        self.deadline = deadline
        self.node = node
        self.key = subject or id
        self.expected = expected
        self.draft = draft
        self.request = request

    # -- as a step of its caller ---------------------------------------------------------------------

    def send(self, wake: Callable[[PendingWrite[T]], object]) -> None:
        """Encode it, and send it; call `wake` when it is decided or unclear. On the IO thread."""
        self.data = encode_publish(self.messages[0])
        self.wake = wake
        self.outbox.send(self)

    def __await__(self) -> Generator[Any, None, None]:
        self.data = encode_publish(self.messages[0])
        yield self
        if self.error is not None:
            raise self.error

    def start_here(self, wake: Callable[[], None]) -> bool:
        """Send it from the thread of its caller; False if only the IO thread can."""
        self.wake = lambda _: wake()
        return self.outbox.send_here(self)

    def start(self, wake: Callable[[], None]) -> None:
        """Send it; call `wake` when it is decided or unclear. On the IO thread."""
        self.wake = lambda _: wake()
        try:
            self.outbox.send(self)
        finally:
            self.outbox.coming.discard(self)

    def cancel(self) -> None:
        """Stop waiting for it; it may still be stored. On the IO thread."""
        self.outbox.abandon(self)

    def result(self) -> None:
        """Return nothing, as the value of the step."""

    # -- the outcome, on the IO thread ---------------------------------------------------------------

    @property
    def decided(self) -> bool:
        return self.seen is not None or self.refused or self.error is not None

    def has_headers(self, headers: bytes | dict[str, str]) -> bool:
        """Return True if it was sent with these headers, which have its id, without an answer."""
        start = self.data.find(b"\r\n") + 2
        return isinstance(headers, bytes) and bool(headers) and self.data.startswith(headers, start)

    def to_resolve(self) -> asyncio.Future[Any]:
        """Return a future that is resolved when it is seen."""
        self.future = asyncio.get_running_loop().create_future()
        if self.seen is not None:
            self.future.set_result(self.seen)
        return self.future

    def go_on(self) -> None:
        """Let its caller go on."""
        wake, self.wake = self.wake, None
        if wake is not None:
            wake(self)
        if self.abandoned is not None and not self.abandoned.done():
            self.abandoned.set_result(None)


class Outbox:
    """The pending writes of one connection. On the IO thread.

    `newest` returns the sequence of a node's newest commit as far as the follower is, or 0; `generation` that
    of the journal. `call_last` calls a function when the present work of the loop is done, so that what is
    sent meanwhile leaves together.
    """

    def __init__(
        self,
        connection: Connection,
        newest: Callable[[str], int],
        generation: Callable[[], tuple[int, int]],
        call_last: Callable[[Callable[[], object]], None],
    ) -> None:
        self._connection = connection
        self._newest = newest
        self._generation = generation
        self._call_last = call_last
        self._loop = asyncio.get_running_loop()
        self._pending: dict[str, list[PendingWrite[Any]]] = {}
        self._abandoned: set[asyncio.Future[None]] = set()
        self._decided: list[PendingWrite[Any]] = []
        self._to_write: list[bytes] = []
        self._handed: deque[PendingWrite[Any]] = deque()
        """Writes that other threads send; registered before anything that arrives is processed."""
        self.coming: set[PendingWrite[Any]] = set()
        """Writes that other threads leave to the loop; none may overtake them."""
        self._timer: asyncio.TimerHandle | None = None
        self._closed: Callable[[], BaseException] | None = None
        self.in_order = False  # True while threads store in turn: only the IO thread sends, in that order
        self.refused_nodes: set[str] = set()
        """The nodes whose commits were refused since other writers last let them go first."""
        connection.on_reconnect(self._on_reconnect)
        connection.before_reading(self._take_handed)
        connection.after_reading(self._take_handed)
        connection.after_reading(self._write)

    # -- sending -------------------------------------------------------------------------------------

    def expect(self, write: PendingWrite[T]) -> PendingWrite[T]:
        """Recognize a write when the follower brings it."""
        self._date(write)
        return self._register(write)

    def _date(self, write: PendingWrite[Any]) -> None:
        write.started = time.monotonic()
        write.generation = self._generation()
        write.cleared = write.generation[1]

    def _register(self, write: PendingWrite[T]) -> PendingWrite[T]:
        pending = self._pending.get(write.key)
        if pending is None:
            self._pending[write.key] = [write]
        else:
            pending.append(write)
        return write

    def send(self, write: PendingWrite[Any]) -> None:
        """Send it without an answer; what is sent in the same turn of the loop is written together."""
        if write.generation is not None:  # another thread has handed it over, and could not send it
            self._take_handed()
            if write.flying and not write.decided:
                self._queue(write)
            return
        if self._closed is not None:
            write.error = self._closed()
            write.go_on()
            return
        if self._is_late(write):
            self._refuse(write)
            write.go_on()
            return
        self.expect(write)
        write.flying = True
        if self._connection.stream_is_gone:  # its caller asks for an answer at once
            self._loop.call_soon(self._leave_unclear, write)
        self._queue(write)
        left = write.deadline - write.started
        if left < UNCLEAR_SECONDS:
            self._loop.call_later(max(0.0, left), self._leave_unclear, write)
        self._check_later()

    def _is_late(self, write: PendingWrite[Any]) -> bool:
        """Return True if it is refused: another commit has come since it was computed."""
        return write.node is not None and self._newest(write.node) != write.expected

    def _queue(self, write: PendingWrite[Any]) -> None:
        if self._to_write or self._connection.connected:
            write.sent_at = write.started
            if not self._to_write and not self._connection.reading:
                self._call_last(self._write)
            self._to_write.append(write.data)

    def send_here(self, write: PendingWrite[Any]) -> bool:
        """Send it as `send` does, but from this thread, which saves a hop; False if that is not possible.

        While another one is on its way to the connection, it is not: `send` writes several together.
        """
        left = write.deadline - time.monotonic()
        busy = self.in_order or self._handed or self.coming or self._to_write
        if busy or len(write.data) > MAX_DIRECT_BYTES or left < UNCLEAR_SECONDS or not self._is_open(write):
            self.coming.add(write)
            return False
        self._date(write)
        self._handed.append(write)  # first, so that it is registered before it can arrive
        if not self._connection.send_here(write.data):
            self.coming.add(write)
            return False
        write.sent_at = write.started
        if self._timer is None or not self._is_open(write):  # nothing else may ever arrive
            self._loop.call_soon_threadsafe(self._take_handed, context=Context())
        return True

    def _is_open(self, write: PendingWrite[Any]) -> bool:
        """Return True if nothing is known that prevents its storing."""
        return self._closed is None and not self._connection.stream_is_gone and not self._is_late(write)

    def _take_handed(self) -> None:
        """Register the writes that other threads have sent."""
        while self._handed:
            write = self._handed.popleft()
            self._register(write)
            write.flying = True
            if write.generation[0] != self._generation()[0]:  # a fresh start came in between
                write.unbroken = write.followed = False
            if self._closed is not None:
                write.error = self._closed()
                self._leave_unclear(write)
            elif write.unbroken and self._is_late(write):
                self._refuse(write)
                self._decided.append(write)
                self._loop.call_soon(self.report)
            self._check_later()

    def _check_later(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(CHECK_SECONDS, self._check)

    def _write(self) -> None:
        if self._to_write:
            try:
                self._connection.write(self._to_write)
            finally:
                self._to_write = []

    def forget(self, write: PendingWrite[Any]) -> None:
        """Do not recognize it any more."""
        write.flying = False
        pending = self._pending.get(write.key, [])
        if pending == [write]:
            del self._pending[write.key]
        elif write in pending:
            pending.remove(write)

    def drop(self, write: PendingWrite[Any]) -> None:
        """Stop tracking it: its outcome is no longer needed."""
        write.wake = None
        self.forget(write)

    def abandon(self, write: PendingWrite[Any]) -> None:
        """Stop waiting for it; `wait_abandoned` waits until it is decided."""
        self._take_handed()
        self.coming.discard(write)
        write.wake = None
        if write.flying:
            write.abandoned = self._loop.create_future()
            self._abandoned.add(write.abandoned)
            write.abandoned.add_done_callback(self._abandoned.discard)
        else:
            self.forget(write)

    async def wait_abandoned(self, timeout: float) -> None:
        """Wait for the outcome of interrupted writes, so that later reads see their effects."""
        if self._abandoned:
            await asyncio.wait(set(self._abandoned), timeout=timeout)

    def waits_since(self) -> float:
        """Return the time since which the oldest write is on its way; infinity: none. From any thread."""
        pending = [each[0].started for each in list(self._pending.values())]
        return min([*pending, *(each.started for each in tuple(self._handed))], default=math.inf)

    # -- what becomes of them ------------------------------------------------------------------------

    def find(self, key: str) -> Sequence[PendingWrite[Any]]:
        """Return the pending writes with a key."""
        return self._pending.get(key, ())

    def see(self, write: PendingWrite[T], seen: T) -> None:
        """Note what the follower has brought; `report` lets the caller go on."""
        write.seen = seen
        self._decided.append(write)

    def arrive(self, subject: str, id: str | None, sequence: int, stored: object) -> bool:
        """Note the message that is stored on a subject: writes that expect an earlier one are refused.

        Returns True if it is a write of this process.
        """
        own = False
        for write in self._pending.get(subject, ()):
            if write.id == id:
                own, write.seen = True, stored
                self._decided.append(write)
            elif write.expected < sequence and write.unbroken and not write.decided:
                self._refuse(write)
                self._decided.append(write)
        return own

    def _refuse(self, write: PendingWrite[Any]) -> None:
        write.refused = True
        if write.node is not None:
            self.refused_nodes.add(write.node)

    def clear(self, sequence: int) -> None:
        """Note that the space was emptied: commits that expect an earlier one are refused."""
        for write in self._all():
            if not write.unbroken or write.decided:
                continue
            write.cleared = sequence
            if write.node is not None and write.expected:
                write.refused = True
                self._decided.append(write)

    def report(self) -> None:
        """Let the callers of the decided writes go on. After all that their messages lead to is done."""
        while self._decided:
            write = self._decided.pop()
            if write.future is not None and not write.future.done() and write.seen is not None:
                write.future.set_result(write.seen)
            if write.flying:
                self.forget(write)
                write.go_on()

    def break_off(self, *, following: bool = False) -> None:
        """Note that the follower may have missed the messages of what is pending now.

        If it is `following` all the time, they were removed before they could be delivered.
        """
        for write in self._all():
            write.unbroken = False
            write.followed = write.followed and following

    def _on_reconnect(self) -> None:
        self.break_off()
        for write in self._all():
            self._leave_unclear(write)

    def _all(self) -> list[PendingWrite[Any]]:
        self._take_handed()
        return [write for pending in self._pending.values() for write in pending]

    def _check(self) -> None:
        self._timer = None
        limit = time.monotonic() - UNCLEAR_SECONDS - self._connection.transfer_seconds
        flying = [write for write in self._all() if write.flying]
        late = [write for write in flying if write.started <= limit]
        for write in late:
            self._leave_unclear(write)
        if len(flying) > len(late):
            self._check_later()

    def _leave_unclear(self, write: PendingWrite[Any]) -> None:
        """Let the caller find out; it forgets the write."""
        if write.flying:
            write.flying = False
            if write.abandoned is not None:
                self.forget(write)
            write.go_on()

    def close(self, error: Callable[[], BaseException]) -> None:
        """Raise an error that `error` returns in every waiter."""
        self._closed = error
        if self._timer is not None:
            self._timer.cancel()
        for write in self._all():
            write.error = error()
            if write.future is not None and not write.future.done():
                write.future.set_exception(write.error)
            self._leave_unclear(write)
