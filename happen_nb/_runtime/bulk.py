"""Publish many events in order, from the thread that makes them to the journal.

They are stored in atomic batches, one after the other. So a lost answer, a restarted server or a new leader
can neither change their order nor store one twice: of a batch that is sent again the server takes nothing,
or all that is missing.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from happen_nb._journal import wire
from happen_nb._journal.publish import RefusedError, store_messages
from happen_nb._model.records import EventRecord
from happen_nb._runtime import emitting
from happen_nb._runtime.io import io_thread
from happen_nb._runtime.session import HEADER_RESERVE_BYTES
from happen_nb.errors import ClosedError, OutcomeUnknownError, TooLargeError

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Sequence
    from typing import Any

    from happen_nb._runtime.session import Session

BATCH = 250
"""Events that are stored at once. More are hardly faster, and hold up the other calls of this process."""
BATCH_BYTES = 1_000_000
"""Bytes of a batch, if there is more than one event in it."""
AHEAD = 2 * BATCH
"""Events that may be made before they are stored."""
BACKLOG = 10_000
"""Events that may wait here for their handlers; a line goes on when there are fewer."""
LOOK = 0.01
"""Seconds between looks at how many wait."""

Item = tuple[EventRecord, wire.Message]


class BulkPublisher:
    """Events that are stored in the order in which they are put in.

    `put` and `finish` are for one thread, which makes the events; everything else may be called from any.

    Parameters
    ----------
    session : Session
    sender : str
    describe : callable
        Names the line where something waits for it.
    context : contextvars.Context, optional
        Where the output of handlers goes.
    on_end : callable
        Called at the end, on the IO thread.
    """

    def __init__(
        self,
        session: Session,
        sender: str,
        describe: Callable[[], str],
        context: contextvars.Context | None,
        on_end: Callable[[], object],
    ) -> None:
        self.stored = 0
        """How many are known to be stored."""
        self.newest: EventRecord | None = None
        """The last of them."""
        self.state = "running"
        """Or ``"done"``, ``"stopped"`` or ``"failed"``."""
        self.error: BaseException | None = None
        self.backpressured = False
        """Whether it waits for handlers."""
        self.closed = threading.Event()
        """Set when nothing is taken any more."""
        self._session = session
        self._sender = sender
        self._context = context
        self._on_end = on_end
        self._ids = f"{session.new_id()}_"
        self._count = 0
        self._waiting: deque[Item] = deque()
        self._changed = threading.Condition()
        self._complete = False
        self._news = asyncio.Event()
        self._listeners: list[Callable[[], object]] = []
        self._token = session.dispatch.in_flight.start(self._ids, describe)
        io_thread().call_soon(self._begin)

    def _begin(self) -> None:
        self._session.dispatch.lines.add(self)
        self._task = self._session.background(self._run())

    def listen(self, listener: Callable[[], object]) -> None:
        """Call `listener` when there is news; it must not take time."""
        self._listeners.append(listener)

    # -- the thread that makes them ------------------------------------------------------------------

    def put(self, type: str, payload: Any, occurred: str | None) -> bool:
        """Add an event; waits while enough are ahead. False if nothing is taken any more.

        Raises
        ------
        TooLargeError
            It is larger than the server takes.
        """
        session, number = self._session, self._count
        record = EventRecord(f"{self._ids}{number}", type, self._sender, payload, occurred=occurred)
        message = wire.encode_event(session.subjects, record, ttl=session.info.event_ttl)
        limit = session.connection.max_payload - HEADER_RESERVE_BYTES
        if len(message.body) > limit:
            raise TooLargeError(
                f"replay: row {number}: {len(message.body):,} bytes as JSON, and the server takes {limit:,}"
            )
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) < AHEAD or self.closed.is_set())
            if self.closed.is_set():
                return False
            self._waiting.append((record, message))
            first = len(self._waiting) == 1
        self._count += 1
        if first:
            io_thread().call_soon(self._news.set)
        return True

    def finish(self, error: BaseException | None = None) -> None:
        """No more come: it ends when all are stored, with the error if there is one."""
        with self._changed:
            self._complete = True
            self.error = self.error or error
        io_thread().call_soon(self._news.set)

    # -- the end -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Take nothing any more, and send no more of what waits."""
        with self._changed:
            self.closed.set()
            self._waiting.clear()
            self._changed.notify_all()
        io_thread().call_soon(self._news.set)

    async def ended(self, timeout: float | None = None) -> bool:
        """Wait for the end; False if it takes longer than `timeout` seconds. On the IO thread."""
        done, _ = await asyncio.wait({self._task}, timeout=timeout)
        return bool(done)

    async def stop(self) -> None:
        """Close it; what was sent already is stored or not when this returns. On the IO thread."""
        self.close()
        await self.ended()

    def end_with_space(self) -> None:
        """The space is closed."""
        if self.state == "running":
            self.error = self.error or ClosedError("replay: the space was closed before all was stored")
            self.close()

    # -- sending, on the IO thread -------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while batch := await self._next():
                await self._let_handlers_follow()
                if self.closed.is_set():
                    break
                await self._store(batch)
                self.stored += len(batch)
                self.newest = batch[-1][0]
                self._tell()
        except asyncio.CancelledError:
            self.end_with_space()
        except Exception as error:
            self.error = error
        self.close()
        all_stored = self._complete and self.stored == self._count
        self.state = "failed" if self.error else "done" if all_stored else "stopped"
        self._session.dispatch.lines.discard(self)
        self._session.dispatch.in_flight.finish(self._token)
        self._tell()
        self._on_end()

    async def _next(self) -> list[Item]:
        """As many as there are and fit into a batch; waits for the first, empty at the end."""
        while not self.closed.is_set():
            with self._changed:
                batch: list[Item] = []
                size = 0
                while self._waiting and len(batch) < BATCH:
                    size += self._waiting[0][1].size
                    if batch and size > BATCH_BYTES:
                        break
                    batch.append(self._waiting.popleft())
                if batch:
                    self._changed.notify()
                if batch or self._complete:
                    return batch
                self._news.clear()
            await self._news.wait()
        return []

    async def _let_handlers_follow(self) -> None:
        dispatch = self._session.dispatch
        while dispatch.queued() >= BACKLOG and not self.closed.is_set():
            if not self.backpressured:
                self.backpressured = True
                self._tell()
            await asyncio.sleep(LOOK)
        self.backpressured = False

    async def _store(self, batch: Sequence[Item]) -> None:
        emitted = self._session.dispatch.emitted
        emitted.update((record.id, self._context) for record, _ in batch)
        try:
            await store_all(self._session, batch, time.monotonic() + self._session.timeout)
        finally:
            for record, _ in batch:
                emitted.pop(record.id, None)

    def _tell(self) -> None:
        for listener in list(self._listeners):
            listener()


async def store_all(session: Session, batch: Sequence[Item], deadline: float) -> None:
    """Store events in their order, each once, and wait until this process has seen them.

    Raises
    ------
    NotStoredError, OutcomeUnknownError
        The time was up.
    ServerError
        The server does not take them.
    """
    last = batch[-1][0]
    seen = session.feed.expect(last.id)
    before, resend = session.uncertain(), session.resend(session.info.event_ttl)
    try:
        while batch:
            messages = [message for _, message in batch]
            what, left = f"replay: {len(batch):,} events", max(0.001, deadline - time.monotonic())
            try:
                outcome = await store_messages(
                    session.connection, messages, timeout=left, what=what, future=seen.future, resend=resend
                )
            except RefusedError:  # it was sent before: a server that was killed may have stored a part of it
                await session.fresh(max(0.001, deadline - time.monotonic()))
                if seen.record is None and before != session.uncertain():
                    raise OutcomeUnknownError(
                        f"{what}: the answer was lost and the space was emptied or purged meanwhile; those "
                        "that were stored before that are gone"
                    ) from None
                batch = await _missing(session, batch) if seen.record is None else ()
                continue
            if not isinstance(outcome, EventRecord):
                await session.reach(outcome, deadline)
            return
    finally:
        session.feed.forget(last.id, seen)


async def _missing(session: Session, batch: Sequence[Item]) -> Sequence[Item]:
    """The end of a batch that is not stored."""
    for number, (record, _) in enumerate(batch):
        if await emitting.stored(session, record) is None:
            return batch[number:]
    return ()
