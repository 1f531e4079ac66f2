"""Publish many events in order, from the thread that makes them to the journal.

They are stored in atomic batches, one after the other. So a lost answer, a restarted server or a new leader
can neither change their order nor store one twice: from a batch that is sent again, the server takes nothing,
or everything that is missing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from happen_nb._journal import encoding, wire
from happen_nb._journal.outbox import PendingWrite
from happen_nb._journal.publish import RefusedError, Resend, lost_before_clear, part_of, store_messages
from happen_nb._model.records import EventRecord
from happen_nb._runtime.in_flight import NamedWork
from happen_nb._runtime.io import io_thread
from happen_nb._runtime.waiting import POLL_SECONDS, Signal, seconds_left
from happen_nb._runtime.writer import find_stored
from happen_nb.errors import ClosedError, OutcomeUnknownError, TooLargeError

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Sequence
    from typing import Any

    from happen_nb._runtime.log import Log
    from happen_nb._runtime.runtime import Runtime

BATCH_EVENTS = 250
"""Events per batch. Larger batches are hardly faster, and delay the other calls of this process."""
BATCH_BYTES = 1_000_000  # maximum size of a batch with more than one event
MAX_AHEAD = 2 * BATCH_EVENTS  # maximum number of events that are encoded but not stored yet
MAX_BACKLOG = 10_000
"""Maximum number of events that wait for handlers of this process; publishing pauses there."""

Item = tuple[EventRecord, wire.Message]


class BulkPublisher:
    """Stores events in the order in which they are put in.

    `put` and `finish` are for one thread, which makes the events; the rest may be called from any thread.
    `describe` returns its name for a message; `on_end` is called at the end, on the IO thread. The output of
    handlers is shown in `context`.
    """

    def __init__(
        self,
        runtime: Runtime,
        sender: str,
        describe: Callable[[], str],
        context: contextvars.Context | None,
        on_end: Callable[[], object],
    ) -> None:
        self.stored = 0  # the number of events known to be stored
        self.newest: EventRecord | None = None  # the newest of these events
        self.state = "running"  # or ``"done"``, ``"stopped"`` or ``"failed"``
        self.error: BaseException | None = None
        self.backpressured = False  # True if it waits for handlers
        self.closed = False  # True when the publisher accepts no further events
        self.on_change: Signal[[]] = Signal()  # emitted at each change; listeners must return at once
        self._log = runtime.log
        self._dispatcher = runtime.dispatcher
        self._sender = sender
        self._context = context
        self._on_end = on_end
        self._ids = f"{self._log.new_id()}_"
        self._count = 0
        self._waiting: deque[Item] = deque()
        # Queues, since no lock of theirs is held below a signal handler.
        self._room: SimpleQueue[None] = SimpleQueue()  # an item for each event that may be put in
        for _ in range(MAX_AHEAD):
            self._room.put(None)
        self._closing: SimpleQueue[None] = SimpleQueue()  # an item when it is closed
        self._complete = False
        self._ready = asyncio.Event()
        self._work = NamedWork(self._ids, describe)

    def start(self) -> None:
        """Store the events that are put in from now on; `finish` or `close` ends it."""
        io_thread().call_soon(self._start)
        self._dispatcher.in_flight.start(self._work)  # last: it ends where the task does

    def _start(self) -> None:
        self._dispatcher.publishers.add(self)
        self._task = self._log.background(self._run())

    # -- the thread that makes the events ------------------------------------------------------------

    def pause(self, seconds: float) -> bool:
        """Wait for some time; return True at once if the publisher is closed."""
        with suppress(Empty):
            self._closing.get(timeout=seconds)
        return self.closed

    def put(self, type: str, payload: Any, occurred: str | None) -> bool:
        """Add an event, and wait while too many are ahead; False if the publisher is closed.

        Raises TooLargeError if it is larger than the server accepts.
        """
        log, number = self._log, self._count
        record = EventRecord(f"{self._ids}{number}", type, self._sender, payload, occurred=occurred)
        message = encoding.encode_event(log.subjects, record, ttl=log.info.event_ttl)
        if len(message.body) > log.max_body:
            raise TooLargeError(
                f"replay: row {number}: {len(message.body):,} bytes as JSON, but the server accepts at most "
                f"{log.max_body:,}; store it elsewhere and replay its name, or split it"
            )
        self._room.get()
        if self.closed:
            return False
        self._count += 1
        self._waiting.append((record, message))
        if len(self._waiting) == 1:
            io_thread().call_soon(self._ready.set)
        return True

    def finish(self, error: BaseException | None = None) -> None:
        """End when all events are stored, with the error if there is one; no further events are put in."""
        self.error = self.error or error
        self._complete = True
        io_thread().call_soon(self._ready.set)

    # -- the end -------------------------------------------------------------------------------------

    def close(self) -> None:
        """Accept no further events, and drop those that wait."""
        self.closed = True
        self._closing.put(None)
        self._room.put(None)
        io_thread().call_soon(self._ready.set)

    async def ended(self, timeout: float | None = None) -> bool:
        """Wait for the end; False after `timeout` seconds. On the IO thread."""
        done, _ = await asyncio.wait({self._task}, timeout=timeout)
        return bool(done)

    async def stop(self) -> None:
        """Close it, and wait for the outcome of the events that were sent. On the IO thread."""
        self.close()
        await self.ended()

    def end_with_space(self) -> None:
        if self.state == "running":
            self.error = self.error or ClosedError("replay: the space was closed before all rows were stored")
            self.close()

    # -- sending, on the IO thread -------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while batch := await self._next_batch():
                await self._wait_for_handlers()
                if self.closed:
                    break
                await self._store(batch)
                self.stored += len(batch)
                self.newest = batch[-1][0]
                self.on_change.emit()
        except asyncio.CancelledError:
            self.end_with_space()
        except Exception as error:
            self.error = error
        self.close()
        self._waiting.clear()
        all_stored = self._complete and self.stored == self._count
        self.state = "failed" if self.error else "done" if all_stored else "stopped"
        self._dispatcher.publishers.discard(self)
        self._dispatcher.in_flight.finish(self._work)
        self.on_change.emit()
        self._on_end()

    async def _next_batch(self) -> list[Item]:
        """Return the events that wait and fit into a batch; wait for the first; empty at the end."""
        while not self.closed:
            complete = self._complete  # first: what waits then is all there is
            batch: list[Item] = []
            size = 0
            while self._waiting and len(batch) < BATCH_EVENTS:
                size += self._waiting[0][1].size
                if batch and size > BATCH_BYTES:
                    break
                batch.append(self._waiting.popleft())
                self._room.put(None)
            if batch or complete:
                return batch
            self._ready.clear()
            await self._ready.wait()
        return []

    async def _wait_for_handlers(self) -> None:
        while self._dispatcher.queued() >= MAX_BACKLOG and not self.closed:
            if not self.backpressured:
                self.backpressured = True
                self.on_change.emit()
            await asyncio.sleep(POLL_SECONDS)
        self.backpressured = False

    async def _store(self, batch: Sequence[Item]) -> None:
        contexts = self._dispatcher.contexts
        contexts.update((record.id, self._context) for record, _ in batch)
        try:
            await store_all(self._log, batch, time.monotonic() + self._log.timeout)
        finally:
            for record, _ in batch:
                contexts.pop(record.id, None)


async def store_all(log: Log, batch: Sequence[Item], deadline: float) -> None:
    """Store events in their order, each once, and wait until this process has seen them.

    Raises NotStoredError or OutcomeUnknownError if the call timed out, and ServerError if the server refuses
    them.
    """
    last = batch[-1][0]
    pending: PendingWrite[EventRecord] = log.outbox.expect(PendingWrite(log.outbox, last.id))
    resend = Resend(log.subjects, pending.cleared, log.info.event_ttl)
    try:
        while batch:
            messages = [message for _, message in batch]
            what, left = f"replay: {len(batch):,} events", seconds_left(deadline)
            with part_of(what, OutcomeUnknownError):
                try:
                    outcome = await store_messages(
                        log.connection,
                        messages,
                        timeout=left,
                        what=what,
                        future=pending.to_resolve(),
                        resend=resend,
                    )
                except RefusedError:  # it was sent before: a killed server may have stored a part of it
                    await log.fresh(seconds_left(deadline))
                    if pending.seen is None and pending.generation != log.generation():
                        gone = "those that were stored before that are gone"
                        raise lost_before_clear(what, gone) from None
                    batch = await _missing(log, batch) if pending.seen is None else ()
                    continue
                if not isinstance(outcome, EventRecord):
                    await log.reach(outcome, deadline)
            return
    finally:
        log.outbox.forget(pending)


async def _missing(log: Log, batch: Sequence[Item]) -> Sequence[Item]:
    """Return the end of a batch that is not stored."""
    for number, (record, _) in enumerate(batch):
        if await find_stored(log, record) is None:
            return batch[number:]
    return ()
