"""The journal of one space: append to it, follow it, and trim it. Everything here runs on the IO thread."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from happen_nb._journal import wire
from happen_nb._journal.alarms import Alarms
from happen_nb._journal.follower import Follower
from happen_nb._journal.publish import RefusedError, Resend, store_messages
from happen_nb._journal.slice import read_commits
from happen_nb._journal.stream import Info, Options, Stream
from happen_nb._journal.wire import Clear, Ended, Scheduled
from happen_nb._model.records import NO_ORIGIN, CommitRecord, Cut, EventRecord, Origin, OwnerRecord
from happen_nb._model.schedules import ClockRecord
from happen_nb._runtime import scheduling
from happen_nb._runtime.io import Signal, within
from happen_nb._runtime.replica import Applied, PendingWrite, Replica
from happen_nb._runtime.tracebacks import to_raise
from happen_nb.errors import HappenError, NotStoredError, OutcomeUnknownError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from happen_nb._journal.connection import Connection
    from happen_nb._journal.follower import FreshStart
    from happen_nb._journal.wire import Item, Subjects
    from happen_nb._model.frozen import FrozenDict
    from happen_nb._model.positions import Positions
    from happen_nb._model.schedules import Alarm

logger = logging.getLogger("happen_nb")

TRIM_EVERY_COMMITS = 256
STALLED_SECONDS = 1.0
"""Time to wait for the follower before its consumer is checked."""
STALLED_CLUSTER_SECONDS = 0.5
"""The same with replicas, where the consumer may be on a server that lags, and is replaced."""


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """A commit to store, and the states that must not have changed since it was computed.

    Parameters
    ----------
    node : str
    state : FrozenDict
    body : bytes or None
        The state as JSON; None deletes the node.
    cut : Cut
        The cut that was read; its record of the node must still be the newest.
    viewed : set of str or None
        The nodes whose state was viewed, if they too must not have changed.
    """

    node: str
    state: FrozenDict
    body: bytes | None
    cut: Cut
    viewed: frozenset[str] | None = None
    origin: Origin = NO_ORIGIN
    events: tuple[EventRecord, ...] = ()
    positions: Positions | None = None
    """The positions of the node's state handlers; None: those of the record before."""
    cancels: tuple[Alarm, ...] = ()
    """Scheduled events that are cancelled, if they are still to come."""

    @property
    def base(self) -> CommitRecord | None:
        """The record that the commit follows."""
        return self.cut.nodes.get(self.node)

    @property
    def schedules(self) -> bool:
        """True if it schedules or cancels events."""
        return bool(self.cancels) or any(event.alarm is not None for event in self.events)

    @property
    def revision(self) -> int:
        return 1 if self.base is None else self.base.revision + 1


class Log:
    """The stream of a space, and the replica that follows it.

    Listeners of its signals find every earlier commit in the replica.

    Parameters
    ----------
    incarnation : str
        The name of this process in the space, until it ends.
    timeout : float
        Seconds for each call that has no other.
    """

    def __init__(self, connection: Connection, subjects: Subjects, incarnation: str, timeout: float) -> None:
        self.connection = connection
        self.subjects = subjects
        self.incarnation = incarnation
        self.timeout = timeout
        self.stream = Stream(connection, subjects, timeout)
        self.replica = Replica()
        self.address = f"{incarnation}{secrets.token_hex(2)}"
        """Starts the ids that this connection gives, and is where replies to its events go."""
        self.on_event: Signal[[EventRecord]] = Signal()
        self.on_owner: Signal[[OwnerRecord]] = Signal()
        self.on_fresh_start: Signal[[FreshStart]] = Signal()
        self.on_clear: Signal[[Clear, int]] = Signal()
        self.on_deletion: Signal[[CommitRecord]] = Signal()
        self.on_clock: Signal[[]] = Signal()
        """Emitted when a manual clock has moved, or the space has another clock."""
        self.alarms = Alarms(subjects)
        self.clock: ClockRecord | None = None
        """The manual clock of the space; None if its clock is real."""
        self._follower = Follower(self.stream, self)
        self._info: Info | None = None
        self._count = count(1)
        self._pending: dict[str, list[PendingWrite[EventRecord]]] = {}
        self._waiting: set[asyncio.Future[None]] = set()
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
    def identity(self) -> tuple[str, str, str]:
        """Differs from that of every other space on any server, also of a copy in another store."""
        return self.subjects.stream, self.info.created, self.connection.server_id

    @property
    def position(self) -> int:
        """The sequence up to which this process has taken every message."""
        return self._follower.position

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
        self.connection.stream_problem = self._stream_problem
        return await self._follower.start(info)

    async def change(self, options: Options) -> None:
        """Store options that were given explicitly."""
        before, self._info = self.info, await self.stream.ensure(options)
        if self._info.created != before.created:
            await self._follower.verify()  # it was dropped, and is made anew

    async def clear(
        self, owners: Callable[[], Iterable[OwnerRecord]], clock: Callable[[], str | None]
    ) -> None:
        """Empty the space but for the owners and a manual clock, and wait until this process sees it."""
        position = await self.stream.clear(owners, self._follower.cleared, clock)
        await self.reach(position, time.monotonic() + self.timeout)

    def background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine that nobody waits for, until the log is closed."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def stop(self, why: Exception) -> None:
        """Cancel what runs in the background, and raise `why` wherever somebody waits."""
        for task in self._tasks:
            task.cancel()
        self.replica.close(why)
        futures: list[asyncio.Future[Any]] = [*self._waiting]
        futures += [pending.future for writes in self._pending.values() for pending in writes]
        for future in futures:
            if not future.done():
                future.set_exception(to_raise(why))

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
        self._set_clock(start.clock)
        self.alarms.reset(start.alarms)
        self.on_fresh_start.emit(start)
        self.replica.reset(start.records, start.position, start.passed, again=start.again)

    def apply(self, item: Item, sequence: int) -> None:
        if isinstance(item, OwnerRecord):
            self.on_owner.emit(item)
        elif isinstance(item, Clear):
            self._set_clock(item.clock)
            self.alarms.clear(sequence)
            self.on_clear.emit(item, sequence)
        elif isinstance(item, ClockRecord):
            self._set_clock(item)
        elif isinstance(item, Ended) or (isinstance(item, EventRecord) and item.alarm is not None):
            self.alarms.end(item.alarm or "")
        self.replica.apply(item, sequence)
        if isinstance(item, EventRecord):
            self._emit(item)
        elif isinstance(item, Scheduled):
            self.alarms.add(item.alarm)
            self._resolve(item.alarm.name, item.alarm.event)
        elif isinstance(item, CommitRecord):
            if item.deleted and item.id is not None:
                self.on_deletion.emit(item)
            for event in item.events:
                self._emit(event)

    def _set_clock(self, clock: ClockRecord | None) -> None:
        if clock != self.clock:
            self.clock, self.alarms.manual = clock, clock is not None
            self.on_clock.emit()

    def _resolve(self, key: str, event: EventRecord | None) -> None:
        for pending in self._pending.pop(key, ()):
            if event is not None:
                pending.resolve(event)

    def _emit(self, event: EventRecord) -> None:
        self.on_event.emit(event)
        self._resolve(event.id, event)
        if event.alarm is not None:
            self._resolve(event.alarm, event)
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    def caught_up(self, position: int) -> None:
        self.replica.caught_up(position)

    def held(self) -> Mapping[str, CommitRecord]:
        return self.replica.cut().nodes

    async def reached(self, position: int, timeout: float) -> bool:
        return await self.replica.reached(position, timeout)

    # -- waiting -------------------------------------------------------------------------------------

    async def next_event(self, timeout: float) -> None:
        """Wait for the next event, or `timeout` seconds."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await within(timeout, future)
        finally:
            self._waiting.discard(future)

    async def reach(self, sequence: int, deadline: float) -> None:
        """Wait until the replica is at `sequence`; check the consumer if it does not come."""
        stalled = STALLED_SECONDS if self.stream.replicas == 1 else STALLED_CLUSTER_SECONDS
        while not await self.replica.reached(sequence, min(stalled, max(0.001, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                raise OutcomeUnknownError(
                    f'the space "{self.subjects.space}" is at {self.replica.position}, and {sequence} '
                    "does not arrive in time"
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
        await self.connection.wait_abandoned(min(timeout / 2, STALLED_SECONDS))
        if self.stream.replicas == 1:
            last = (await self._follower.verify(timeout=max(0.001, timeout))).last
        else:
            barrier = [wire.encode_barrier(self.subjects)]
            last = await store_messages(self.connection, barrier, timeout=timeout, what="a fresh read")
        await self.reach(last, deadline)
        if node is not None and self.replica.newest(node) is not None:
            await self._follower.verify_node(node)

    async def start_afresh(self) -> None:
        """Read again what is stored: some of what is held is gone."""
        await self._follower.verify(gone=True)

    def generation(self) -> tuple[int, int]:
        """Return a mark that changes when stored messages may have been removed, unseen by this process."""
        return self._follower.epoch, self._follower.cleared

    def resend(self, lives: float = float("inf")) -> Resend:
        """Return the guard of messages that are sent again, so that a clear cannot make them count twice."""
        return Resend(self.subjects, self._follower.cleared, lives)

    # -- committing ----------------------------------------------------------------------------------

    async def commit(self, request: CommitRequest, deadline: float) -> Applied | None:
        """Store a commit, and wait until this process sees it.

        Parameters
        ----------
        deadline : float
            By ``time.monotonic()``.

        Returns
        -------
        Applied or None
            None if something else was stored first: the replica has it now, compute again.

        Raises
        ------
        NotStoredError, OutcomeUnknownError
            The time was up.
        TooLargeError, ServerError
            The server does not take it.
        """
        if time.monotonic() >= deadline:
            raise NotStoredError(
                f'state.set of node "{request.node}": other writers were faster until the timeout; '
                "nothing was stored"
            )
        id = self.new_id()
        before = self.generation()
        messages = self._messages(request, id)
        pending = self.replica.expect(id, request.state)
        try:
            applied = await self._store_commit(request, id, messages, pending, deadline)
        except RefusedError as refusal:
            applied = await self._after_refusal(refusal.newest, request, pending, deadline)
            if applied is None and before != self.generation():
                applied = await self._find_own(request, id)
                if applied is None and refusal.resent:
                    raise OutcomeUnknownError(
                        f'state.set of node "{request.node}": the answer was lost and the space was emptied '
                        "or purged meanwhile; if the commit was stored before that, it is gone"
                    ) from None
        finally:
            self.replica.forget(id)
        if applied is not None and applied.record.revision % TRIM_EVERY_COMMITS == 0:
            self.background(self._trim(applied.record, len(request.body or b"")))
        return applied

    def _messages(self, request: CommitRequest, id: str) -> list[wire.Message]:
        base, positions = request.base, request.positions
        if positions is None:
            positions = self.replica.positions(request.node, base)
        commit = wire.encode_commit(
            self.subjects,
            request.node,
            request.body,
            id=id,
            revision=request.revision,
            read=request.cut.position,
            expected=0 if base is None else base.sequence,
            origin=request.origin,
            positions=positions,
        )
        guards: list[wire.Message] = []
        if request.viewed is not None and self.stream.replicas == 1:
            commit = wire.guard_all(self.subjects, commit, request.cut.written)
        elif request.viewed is not None:
            newest = {name: request.cut.nodes.get(name) for name in request.viewed - {request.node}}
            guards = [
                wire.encode_guard(self.subjects, self.subjects.state(name), record.sequence if record else 0)
                for name, record in newest.items()
            ]
        ttl = self.info.event_ttl
        events = [event for event in request.events if not self.alarms.concerns(event)]
        alarms = [self.alarms.cancel(alarm, ttl=ttl) for alarm in request.cancels]
        for event in request.events:
            if self.alarms.concerns(event):
                alarms += self.alarms.messages(event, ttl=ttl)
        most = wire.MAX_BATCH_MESSAGES - len(guards) - len(alarms)
        return [*guards, *wire.with_events(self.subjects, commit, events, ttl=ttl, most=most), *alarms]

    async def _store_commit(
        self,
        request: CommitRequest,
        id: str,
        messages: list[wire.Message],
        pending: PendingWrite[Applied],
        deadline: float,
    ) -> Applied | None:
        outcome = await store_messages(
            self.connection,
            messages,
            timeout=max(0.001, deadline - time.monotonic()),
            what=f'state.set of node "{request.node}"',
            future=pending.future,
            resend=self.resend(),
        )
        if isinstance(outcome, Applied):
            return outcome
        await self.reach(outcome, deadline)
        return pending.seen or await self._passed_over(outcome, request, id)

    async def _passed_over(self, sequence: int, request: CommitRequest, id: str) -> Applied:
        """Return a stored commit that the replica never got: a fresh start or a clear passed over it."""
        now, read = time.time_ns(), request.cut.position
        record = CommitRecord(
            request.node, sequence, request.revision, now, request.body, id, read, request.origin
        )
        if request.body is not None:
            record.adopt(request.state)
        return await self._find_own(request, id) or Applied(record, request.base)

    async def _after_refusal(
        self, newest: int, request: CommitRequest, pending: PendingWrite[Applied], deadline: float
    ) -> Applied | None:
        """Wait until the replica has what stood in the way; it may have been this very commit."""
        if request.schedules:  # an alarm may be what was refused: it was delivered or replaced
            await self.fresh(max(0.001, deadline - time.monotonic()))
            return pending.seen
        # An event with the caller's id may be what was refused: `commit_emitting` looks it up.
        taken = newest > 0 and any(event.has_caller_id for event in request.events)
        if newest > self.replica.position:
            await self.reach(newest, deadline)
        elif not taken and self.replica.unchanged(request.node, request.cut):
            await self.start_afresh()  # what was expected is gone, and no message says so: expired or purged
        return pending.seen

    async def _find_own(self, request: CommitRequest, id: str) -> Applied | None:
        """Look for a commit among the stored ones, when the follower may have missed it."""
        own: Applied | None = None
        previous = request.base
        for record in await read_commits(self.stream, request.node):
            if record.id == id:
                own = Applied(record, previous)
            previous = record
        return own

    async def _trim(self, newest: CommitRecord, size: int) -> None:
        node = newest.node
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

    # -- publishing events, each once ----------------------------------------------------------------

    def expect(self, id: str) -> PendingWrite[EventRecord]:
        pending: PendingWrite[EventRecord] = PendingWrite()
        self._pending.setdefault(id, []).append(pending)
        return pending

    def forget(self, id: str, pending: PendingWrite[EventRecord]) -> None:
        writes = self._pending.get(id, [])
        if pending in writes:
            writes.remove(pending)
        if not writes:
            self._pending.pop(id, None)

    async def publish(self, event: EventRecord, deadline: float) -> EventRecord:
        """Store an event, and wait until this process sees it.

        Returns
        -------
        EventRecord
            As it is stored; with another publish_id if the caller's id was there already.

        Raises
        ------
        IdTakenError
            The caller's id was there with another content.
        """
        if self.alarms.concerns(event):
            return await scheduling.store(self, event, deadline)
        what = f'broadcast of "{event.type}"'
        left = deadline - time.monotonic()
        if left <= 0:
            raise NotStoredError(f"{what}: timed out; nothing was stored")
        ttl = self.info.event_ttl
        message = wire.encode_event(self.subjects, event, ttl=ttl)
        pending = self.expect(event.id)
        before = self.generation()
        try:
            outcome: Any = await store_messages(
                self.connection,
                [message],
                timeout=left,
                what=what,
                future=pending.future,
                resend=self.resend(ttl),
            )
            if not isinstance(outcome, EventRecord):
                await self.reach(outcome, deadline)
                outcome = await self._seen_or_stored(event, pending, outcome)
        except (
            RefusedError
        ) as refusal:  # it is stored: sent earlier by this process, or under the caller's id
            await self.reach(refusal.newest, deadline)
            stored = pending.seen or await self.find_stored(event)
            if stored is None and self.alarms.concerns(event):  # it was cancelled before
                return await scheduling.store(self, event, deadline)
            if stored is None and before != self.generation():
                if not refusal.resent:
                    return await self.publish(event, deadline)  # what had the id is gone
                raise OutcomeUnknownError(
                    f"{what}: the answer was lost and the space was emptied or purged meanwhile; if the "
                    "event was stored before that, it is gone"
                ) from None
            outcome = stored or await self._seen_or_stored(event, pending, refusal.newest)
        finally:
            self.forget(event.id, pending)
        return scheduling.check_same(event, outcome)

    async def commit_emitting(
        self, request: CommitRequest, deadline: float, known: dict[str, EventRecord]
    ) -> tuple[Applied, dict[str, EventRecord]] | None:
        """Store a commit and its events; None if something else was stored first.

        Parameters
        ----------
        known : dict of str to EventRecord
            Of the events with ids of the caller's those that were there already; they are not stored again.
            Filled here.

        Returns
        -------
        Applied and dict of str to EventRecord
            The commit, and its events by their ids, as they are stored.
        """
        new = tuple(event for event in request.events if event.id not in known)
        if any(event.alarm is not None for event in new):
            await self.mark_schedules()
        writes = {event.alarm or event.id: self.expect(event.alarm or event.id) for event in new}
        try:
            applied = await self.commit(replace(request, events=new), deadline)
            if applied is None:
                for event in new:
                    stored = await self.find_stored(event) if event.has_caller_id else None
                    if stored is not None:
                        known[event.id] = scheduling.check_same(event, stored)
                return None
            for pending in writes.values():
                if pending.seen is None:  # it has a message of its own, which is about to arrive
                    left = max(0.001, deadline - time.monotonic())
                    await asyncio.wait([pending.future], timeout=left)
            seen = {each.seen.id: each.seen for each in writes.values() if each.seen is not None}
            return applied, {**known, **seen}
        finally:
            for id, pending in writes.items():
                self.forget(id, pending)

    async def _seen_or_stored(
        self, event: EventRecord, pending: PendingWrite[EventRecord], sequence: int
    ) -> EventRecord:
        """Return the stored event: as the follower brought it, or as it is read if that was long ago."""
        if pending.seen is not None:
            return pending.seen
        return await self.find_stored(event) or EventRecord(
            event.id, event.type, event.sender, event.payload, publish_id=event.publish_id, sequence=sequence
        )

    async def find_stored(self, event: EventRecord) -> EventRecord | None:
        """Return the event that is stored under the same subject, if there is one."""
        # By the leader: one that was replaced may miss it, and then the server refuses the event once more.
        found = await self.stream.newest(self.subjects.event(event))
        record = None if found is None else self.stream.decode(found)
        if isinstance(record, EventRecord) and record.alarm is None:
            return record
        if found is None or not isinstance(record, EventRecord | Ended):
            return None
        delivered = await self.stream.delivered(found.subject)
        if delivered is None:
            self.alarms.note_free(event, found.sequence)
        return delivered

    async def mark_schedules(self) -> None:
        """Mark the space as one with scheduled events, before the first one is stored."""
        if not self.info.schedules:
            self._info = await self.stream.mark_schedules()
