"""The journal of one space: follow it, wait for it, and trim it. Everything here runs on the IO thread."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from itertools import count
from typing import Any

from happen_nb._journal import wire
from happen_nb._journal.alarms import Alarms
from happen_nb._journal.connection import Connection
from happen_nb._journal.consumer import StreamMessage
from happen_nb._journal.decoding import Clear, Item
from happen_nb._journal.follower import Follower, FreshStart
from happen_nb._journal.outbox import Outbox
from happen_nb._journal.scheduled import Ended, Scheduled
from happen_nb._journal.stream import Info, Options, Stream
from happen_nb._journal.wire import Subjects
from happen_nb._model.pace import Pace
from happen_nb._model.records import CommitRecord, EventRecord, OwnerRecord
from happen_nb._model.schedules import Alarm, ClockRecord
from happen_nb._runtime.io import io_thread
from happen_nb._runtime.replica import Applied, Replica
from happen_nb._runtime.stored_steps import StoredSteps
from happen_nb._runtime.tracebacks import to_raise
from happen_nb._runtime.waiting import NewsWait, Signal, Waiters, seconds_left
from happen_nb.errors import ClosedError, HappenError, HappenTimeoutError

logger = logging.getLogger("happen_nb")

TRIM_EVERY_COMMITS = 256
LAG_SECONDS = 0.1  # seconds without an answer after which the server counts as lagging
STALLED_SECONDS = 1.0  # time to wait for the follower before its consumer is checked
STALLED_CLUSTER_SECONDS = 0.5
"""The same with replicas; the consumer may be on a server that lags, and is replaced."""


class Log:
    """The stream of a space, and the replica that follows it.

    Listeners of its signals find every earlier commit in the replica. `incarnation` names this process in the
    space, until it ends; `timeout` is that of each call that has no other, in seconds.
    """

    def __init__(self, connection: Connection, subjects: Subjects, incarnation: str, timeout: float) -> None:
        self.connection = connection
        self.subjects = subjects
        self.incarnation = incarnation
        self.timeout = timeout
        self.stream = Stream(connection, subjects, timeout)
        self.replica = Replica()
        self.address = f"{incarnation}{secrets.token_hex(2)}"
        """Prefix of the ids that this connection creates; replies to its events arrive there."""
        self.steps = StoredSteps()
        self.on_event: Signal[[EventRecord]] = Signal()
        self.on_owner: Signal[[OwnerRecord]] = Signal()
        self.on_fresh_start: Signal[[FreshStart]] = Signal()
        self.on_clear: Signal[[Clear, int]] = Signal()
        self.on_deletion: Signal[[CommitRecord]] = Signal()
        self.on_clock: Signal[[]] = Signal()
        """Emitted when a manual clock has moved, or the space has another clock."""
        self.on_pace: Signal[[]] = Signal()  # emitted with each record of the pace
        self.on_scheduled: Signal[[Alarm]] = Signal()
        """Emitted with each event that this process has scheduled."""
        self.on_cancelled: Signal[[str]] = Signal()
        """Emitted with the id of a scheduled event that was cancelled or replaced."""
        self.on_ended: Signal[[Ended]] = Signal()  # emitted with each cancel of a scheduled event
        self.alarms = Alarms(subjects, lambda: self.stream.replicas > 1, lambda: self.replica.position)
        self.clock: ClockRecord | None = None  # the manual clock of the space; None if its clock is real
        self.pace = Pace()  # the newest record of the pace of the space
        self.newest_event = 0
        """The sequence of the newest event that has arrived, or the position of the last fresh start."""
        self._follower = Follower(self.stream, self)
        newest, call_last = self.replica.newest_sequence, io_thread().call_last
        self.outbox = Outbox(connection, newest, self.generation, call_last)
        self.replica.on_commit.connect(self._see_commit)
        self._info: Info | None = None
        self._count = count(1)
        self._waiting = Waiters()  # the waiters for the next event
        self._trimmed: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    # -- the stream ----------------------------------------------------------------------------------

    @property
    def info(self) -> Info:
        """The stream as it was when the log was opened, or last looked up."""
        assert self._info is not None
        return self._info

    @property
    def is_open(self) -> bool:
        return self._info is not None

    @property
    def position(self) -> int:
        """The sequence up to which this process has taken every message."""
        return self._follower.position

    def server_lags(self) -> bool:
        """Return True if something has waited for the server for a while. From any thread."""
        since = min(self.connection.calls.waits_since(), self.outbox.waits_since())
        return time.monotonic() - since > LAG_SECONDS

    @property
    def max_body(self) -> int:
        """The bytes that the server accepts as the body of a message."""
        return self.connection.max_payload - wire.HEADER_RESERVE_BYTES

    def new_id(self) -> str:
        """Return an id for an event or a commit. From any thread."""
        return f"{self.address}-{next(self._count)}"

    async def open(self, info: Info) -> int:
        """Start to follow; return the position that the replica has to reach first."""
        self._info = info
        self.connection.calls.stream_problem = self._stream_problem
        return await self._follower.start(info)

    async def change(self, options: Options) -> None:
        """Store the options that were given explicitly."""
        before, self._info = self.info, await self.stream.ensure(options)
        if self._info.created != before.created:
            await self._follower.verify()  # it was dropped, and is made again

    async def clear(
        self, owners: Callable[[], Iterable[OwnerRecord]], clock: Callable[[], str | None]
    ) -> None:
        """Empty the space but for the owners and a manual clock, and wait until this process sees it."""
        position = await self.stream.clear(owners, self._follower.cleared, clock)
        await self.reach(position, time.monotonic() + self.timeout)

    def background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine in the background until the log is closed."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def closed_meanwhile(self) -> ClosedError:
        """Return the error for a call that waits while the space closes."""
        return ClosedError(f'the space "{self.subjects.space}" was closed while this waited')

    def stop(self, why: Exception) -> None:
        """Cancel the background tasks, and raise `why` in every waiter."""
        for task in self._tasks:
            task.cancel()
        self.replica.close(why)
        self.outbox.close(lambda: to_raise(why))
        self._waiting.fail(lambda: to_raise(why))

    async def close(self) -> None:
        await self._follower.stop()
        await self.connection.close()

    async def _stream_problem(self) -> str | None:
        try:
            await self.stream.info()
        except HappenError as error:
            return self.stream.dropped if str(error) == self.stream.dropped else None
        return None

    # -- following: called by the follower -----------------------------------------------------------

    def reset(self, start: FreshStart) -> None:
        clock = start.clock
        if clock is None and self.clock is not None and start.again and self.cleared <= self.clock.sequence:
            clock = self.clock._replace(sequence=0)  # no clear made it real: another client has purged it
        self._set_clock(clock)
        self.alarms.reset(start.alarms)
        self._set_pace(start.pace)
        self.steps.reset(start, self._follower.position)
        self.newest_event = start.position
        self.on_fresh_start.emit(start)
        self.outbox.break_off()
        self.replica.reset(start.records, start.position, start.passed, again=start.again)
        self.outbox.report()

    def recognize(self, item: StreamMessage) -> Item | None:
        for write in self.outbox.find(item.subject) or self.outbox.find(wire.id_token(item.subject)):
            if write.draft is not None and write.has_headers(item.raw_headers):
                return write.draft.as_stored(item.sequence, item.time)
        return None

    def apply(self, item: Item, sequence: int) -> None:
        if sequence > self.replica.position + 1:  # those between were removed before they could be delivered
            self.outbox.break_off(following=True)
        kind = type(item)
        if kind is CommitRecord or kind is EventRecord:
            self.steps.apply(item, sequence)
        else:
            self._prepare(item, sequence)
            self.steps.apply(item.alarm.event if isinstance(item, Scheduled) else item, sequence)
        self.replica.apply(item, sequence)
        if isinstance(item, CommitRecord):
            if item.body is None and item.id is not None:
                self.on_deletion.emit(item)
            for event in item.events:
                self._emit(event)
        elif isinstance(item, EventRecord):
            if item.alarm is not None:
                self.alarms.end(item.alarm)
            self._emit(item)
        self.outbox.report()

    def _prepare(self, item: Item, sequence: int) -> None:
        """Apply a message that is neither a commit nor an event, except to the replica."""
        if isinstance(item, OwnerRecord):
            self.on_owner.emit(item)
        elif isinstance(item, Clear):
            self.outbox.clear(sequence)
            removed = self.alarms.clear(sequence)
            self._set_clock(item.clock)
            self.on_clear.emit(item, sequence)
            self._set_pace(Pace())
            for alarm in removed:
                self.on_cancelled.emit(alarm.id)
        elif isinstance(item, Scheduled):
            self.alarms.add(item.alarm)
            for write in self.outbox.find(item.alarm.name):
                self.outbox.see(write, item.alarm)
            if item.alarm.nonce.startswith(self.address):
                self.on_scheduled.emit(item.alarm)
        elif isinstance(item, ClockRecord):
            self._set_clock(item)
            self.outbox.arrive(self.subjects.clock, item.now, item.sequence, item)
        elif isinstance(item, Pace):
            self._set_pace(item)
        elif isinstance(item, Ended):
            self.alarms.cancelled(item.alarm, item.sequence)
            self.on_cancelled.emit(item.id)
            self.on_ended.emit(item)

    def _set_clock(self, clock: ClockRecord | None) -> None:
        if clock != self.clock:
            self.clock, self.alarms.manual = clock, clock is not None
            self.on_clock.emit()

    async def find_clock(self) -> None:
        """Look up the record of the clock: if another client has removed it, the next one expects none."""
        if self.clock is not None and await self.stream.newest(self.subjects.clock) is None:
            self.clock = self.clock._replace(sequence=0)

    def _set_pace(self, pace: Pace) -> None:
        if pace != self.pace:
            self.pace = pace
            self.on_pace.emit()

    def _see_commit(self, applied: Applied) -> None:
        record = applied.record
        own = self.outbox.arrive(
            self.subjects.state_prefix + record.node, record.id, record.sequence, applied
        )
        if own and record.revision % TRIM_EVERY_COMMITS == 0:
            self.background(self._trim(record))

    def _emit(self, event: EventRecord) -> None:
        self.newest_event = event.sequence
        self.on_event.emit(event)
        for write in self.outbox.find(event.id):
            self.outbox.see(write, event)
        if self._waiting:
            self._waiting.wake()

    def caught_up(self, position: int) -> None:
        self.steps.caught_up(position)
        self.replica.caught_up(position)

    def held(self) -> Mapping[str, CommitRecord]:
        return self.replica.cut().nodes

    async def reached(self, position: int, timeout: float) -> bool:
        return await self.replica.reached(position, timeout)

    # -- waiting -------------------------------------------------------------------------------------

    async def next_event(self, timeout: float, handler: NewsWait | None) -> None:
        """Wait for the next event, or `timeout` seconds. `handler` is the wait of a handler."""
        self.replica.check_open()
        await self._waiting.wait(timeout, handler)

    async def reach(self, sequence: int, deadline: float) -> None:
        """Wait until the replica is at `sequence`; check the consumer if it does not come."""
        stalled = STALLED_SECONDS if self.stream.replicas == 1 else STALLED_CLUSTER_SECONDS
        while not await self.replica.reached(sequence, min(stalled, seconds_left(deadline))):
            if time.monotonic() >= deadline:
                raise HappenTimeoutError(
                    f'the space "{self.subjects.space}": message {sequence} has not arrived in time; '
                    f"the newest one here is {self.replica.position}"
                )
            self._follower.reconnect_if_stuck()
            if self.stream.replicas > 1:  # the message may be gone; a barrier after it arrives all the same
                self.background(self._store_barrier())

    async def _store_barrier(self) -> None:
        try:
            await self.stream.store_barrier()
        except HappenError as error:
            logger.debug("a barrier: %s; the next one will do", error)

    async def fresh(self, timeout: float, node: str | None = None) -> None:
        """Wait until the replica has everything that any process stored before the call.

        With a `node`, check too that its held state is still stored.
        """
        deadline = time.monotonic() + timeout
        patience = min(timeout / 2, STALLED_SECONDS)
        await self.connection.calls.wait_abandoned(patience)
        await self.outbox.wait_abandoned(patience)
        if self.stream.replicas == 1:
            last = (await self._follower.verify(timeout=max(0.001, timeout))).last
        else:
            last = await self.stream.store_barrier(timeout)
        await self.reach(last, deadline)
        if node is not None and self.replica.newest(node) is not None:
            await self._follower.verify_node(node)

    async def start_afresh(self) -> None:
        """Read the stored records again: some of the held ones are gone."""
        await self._follower.verify(gone=True)

    async def mark_schedules(self) -> None:
        """Mark the space as one with scheduled events, before the first one is stored."""
        if not self.info.schedules:
            self._info = await self.stream.mark_schedules()

    async def mark_unfinished(self, source: str, *, temporary: bool = False) -> None:
        """Mark the space as one that a fork of `source` still fills; an empty string removes the mark.

        A `temporary` fork keeps it.
        """
        self._info = await self.stream.mark_unfinished(source, temporary=temporary)

    @property
    def cleared(self) -> int:
        """The sequence of the newest clear that this process has seen."""
        return self._follower.cleared

    def generation(self) -> tuple[int, int]:
        """Return a mark that changes when stored messages may have been removed, unseen by this process."""
        return self._follower.epoch, self._follower.cleared

    # -- trimming ------------------------------------------------------------------------------------

    async def _trim(self, newest: CommitRecord) -> None:
        node, size = newest.node, len(newest.body or b"")
        try:
            self._info = info = await self.stream.info()
            # By the server's clock, as are the times that it compares with: this machine's may be wrong.
            gone = await self.stream.trim(newest, size, info)
        except HappenError as error:
            logger.debug('trimming "%s": %s; the next time will do', node, error)
            return
        if gone and node not in self._trimmed:
            self._trimmed.add(node)
            logger.warning(
                'node "%s": its oldest commits are deleted, the newest %s are kept; '
                "connect(history=...) keeps more",
                node,
                f"{info.history:,}",
            )
