"""Following the journal: a fresh start from the newest states, then every message in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from happen_nb._journal.alarms import Alarms, Deliveries
from happen_nb._journal.commits import read_commit_headers
from happen_nb._journal.consumer import (
    CREATE_SECONDS,
    FIRST_CREATE_SECONDS,
    SILENCE_SECONDS,
    Consumer,
    StreamMessage,
)
from happen_nb._journal.decoding import Clear, Passed, lifetime
from happen_nb._journal.scheduled import Scheduled
from happen_nb._journal.stream import MAX_CHECKED_KEYS
from happen_nb._model.pace import Pace
from happen_nb._model.records import CommitRecord, OwnerRecord
from happen_nb._model.schedules import ClockRecord
from happen_nb.errors import HappenError, HappenTimeoutError

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from happen_nb._journal.decoding import Item
    from happen_nb._journal.stream import Info, Stream
    from happen_nb._model.schedules import Alarm

log = logging.getLogger("happen_nb")

POLL_SECONDS = 0.25  # interval at which the follower checks that its consumer is alive
VERIFY_SECONDS = 5.0  # interval at which it compares the sink with the stream
VERIFY_SECONDS_CLUSTER = 2.0  # the same where a consumer may be alive and stand still
STUCK_SECONDS = 1.5  # time for a consumer to deliver an awaited message
STUCK_SECONDS_CLUSTER = 0.5  # the same where another consumer may be on a server that does not lag
LEADER_SECONDS = 2.0  # time for the leader to answer before the follower looks after its consumer again
EXPIRY_SLACK_SECONDS = 1.0  # time for a server to remove an expired value


class FreshStart(NamedTuple):
    """The newest messages of a stream, with which to start."""

    records: list[CommitRecord]  # the newest of each node, as of `position` or later
    owners: list[OwnerRecord]  # as of the position up to which messages were applied
    position: int
    again: bool  # the stream is the same as before: nothing is reported twice
    unknown: set[str]  # the nodes whose owner has changed since: their known owners remain
    passed: list[Passed]  # the newest of each node
    alarms: list[Alarm]
    clock: ClockRecord | None  # the manual clock of the space; None if its clock is real
    pace: Pace


class Sink(Protocol):
    """The consumer of a followed journal: it holds the states. Called on the IO thread."""

    alarms: Alarms

    def reset(self, start: FreshStart) -> None:
        """Start with the newest messages."""

    def recognize(self, item: StreamMessage) -> Item | None:
        """Return the record of a message of this process, without decoding it; None for any other message."""

    def apply(self, item: Item, sequence: int) -> None:
        """Apply the next message."""

    def caught_up(self, position: int) -> None:
        """Note that nothing more is stored at or before `position`."""

    def held(self) -> Mapping[str, CommitRecord]:
        """Return the newest record of each node that it holds."""

    async def reached(self, position: int, timeout: float) -> bool:
        """Wait until `position` is reached; False after `timeout` seconds."""


class Follower:
    """Keeps a sink up to date with a stream, across lost connections, purges and a recreated stream."""

    # With one server, STREAM.INFO is exact. With replicas it is not: a consumer may be on a server that lags,
    # and a leader that was replaced answers for a while. There the position only follows messages that
    # arrived, and a barrier is stored that must arrive.

    def __init__(self, stream: Stream, sink: Sink) -> None:
        self._stream = stream
        self._sink = sink
        self._connection = stream.connection
        self.position = 0  # the sequence up to which every message was applied
        self._created = ""
        self._target = 0
        self._last_seen = 0
        self._first_seen = 0
        self._progress_at = 0.0  # when the position moved or a consumer was created, by the loop's clock
        self._consumer: Consumer | None = None
        self._passing: Consumer | None = None
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._expiring: dict[str, asyncio.TimerHandle] = {}
        self._checks: set[asyncio.Task[None]] = set()
        self._deliveries = Deliveries()
        self.epoch = 0  # the number of fresh starts; commits between two of them may have been missed
        self.cleared = 0  # the sequence of the newest clear that was seen

    async def start(self, info: Info) -> int:
        """Read the newest states and start to follow; returns the position from which reads are exact."""
        position = await self._start_fresh(info)
        self._connection.on_reconnect(self.reconnect)
        self._task = asyncio.create_task(self._supervise())
        return position

    def reconnect(self) -> None:
        """Create a new consumer that continues at the position; nothing is lost or reported twice."""
        self._lost.set()

    def reconnect_if_stuck(self) -> None:
        """Create a new consumer if the present one had its time and delivered nothing: its server may lag."""
        quiet = asyncio.get_running_loop().time() - self._progress_at
        limit = STUCK_SECONDS if self._exact else STUCK_SECONDS_CLUSTER
        if not self._lock.locked() and quiet > limit and not self._connection.transferring:
            self.reconnect()

    async def stop(self) -> None:
        for timer in self._expiring.values():
            timer.cancel()
        tasks = [task for task in (self._task, *self._checks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._consumer is not None:
            await self._consumer.stop()

    # -- starting ------------------------------------------------------------------------------------

    async def _start_fresh(self, info: Info) -> int:
        again = info.created == self._created
        if self._consumer is not None:
            await self._consumer.stop()  # else the messages that it delivers meanwhile are reported twice
        # The last sequence is read after the end of the old consumer: the position has moved until then.
        last = (await self._stream.exact_info()).last if again or not self._exact else info.last
        subjects = self._stream.subjects
        kinds = [subjects.states, subjects.owners, subjects.clear, subjects.passed]
        kinds += [subjects.alarms, subjects.clock, subjects.pace]
        newest = await self._stream.read(kinds, policy="last_per_subject")
        marks = [self._stream.decode(item) for item in newest if item.subject == subjects.clear]
        self.cleared = max((mark.sequence for mark in marks if isinstance(mark, Clear)), default=0)
        if info.first < self.cleared:
            await self._stream.finish_clear(self.cleared)
        # A server that lags may have sent the messages from before a clear, and then the clear.
        newest = [item for item in newest if item.sequence >= self.cleared]
        states = [item for item in newest if item.subject.startswith(subjects.state_prefix)]
        records = [await self._numbered(item) for item in states]
        highest = max((item.sequence for item in states), default=0)
        if not again or self.position > last:
            self.position = last  # else events that were not reported yet are still to come
        self._created = info.created
        self.epoch += 1
        owners, unknown = self._owners(newest)
        position = max(highest, last)
        rest = [item for item in newest if item.subject.startswith(subjects.passed_prefix)]
        passed = [each for each in map(self._stream.decode, rest) if isinstance(each, Passed)]
        self._deliveries = Deliveries()
        if info.schedules:
            self._deliveries = await self._stream.ended_before(last + 1, info.first)
        paces = [self._stream.decode(item) for item in newest if item.subject == subjects.pace]
        pace = next((each for each in paces if isinstance(each, Pace)), Pace())
        clock = self._clock(newest)
        alarms = self._scheduled(newest, events=clock is not None)
        self._sink.reset(FreshStart(records, owners, position, again, unknown, passed, alarms, clock, pace))
        for item in states:
            self._watch_expiry(item)
        await self._follow(last)
        return position

    def _owners(self, newest: list[StreamMessage]) -> tuple[list[OwnerRecord], set[str]]:
        """Return the owners as of the position, and the nodes whose owner changed later."""
        found: dict[str, OwnerRecord] = {}
        later: set[str] = set()
        subjects = self._stream.subjects
        for item in newest:
            if not (item.subject.startswith(subjects.owner_prefix) or item.subject == subjects.clear):
                continue  # there may be thousands, which take time to decode
            record = self._stream.decode(item)
            carried = record.owners if isinstance(record, Clear) else (record,)
            owners = [owner for owner in carried if isinstance(owner, OwnerRecord)]
            if item.sequence <= self.position:
                found |= {owner.node: owner for owner in owners}
            else:
                later |= {owner.node for owner in owners}
        return list(found.values()), later - found.keys()

    def _clock(self, newest: list[StreamMessage]) -> ClockRecord | None:
        """Return the time of a manual clock."""
        clock: ClockRecord | None = None
        subjects = self._stream.subjects
        found = [item for item in newest if item.subject in (subjects.clear, subjects.clock)]
        for record in map(self._stream.decode, sorted(found, key=_sequence)):
            if isinstance(record, ClockRecord):
                clock = record
            elif isinstance(record, Clear):
                clock = record.clock
        return clock

    def _scheduled(self, newest: list[StreamMessage], *, events: bool) -> list[Alarm]:
        """Take the scheduled events out of a list, in the order of their scheduling.

        Their events are returned, too, if `events` is True.
        """
        prefix = self._stream.subjects.alarm_prefix
        items = [item for item in newest if item.subject.startswith(prefix)]
        newest.clear()
        items.sort(key=_sequence, reverse=True)
        alarms: list[Alarm] = []
        while items:  # there may be very many: none is kept for longer than this takes
            found = self._deliveries.admit(self._stream.decode(items.pop()))
            if isinstance(found, Scheduled):
                alarms.append(found.alarm if events else found.alarm._replace(event=None))
        return alarms

    async def _numbered(self, item: StreamMessage) -> CommitRecord:
        record = self._stream.decode(item)
        assert isinstance(record, CommitRecord)
        if not record.revision:  # another client's: count on from the newest commit that has one
            for head in await read_commit_headers(self._stream, record.node):
                if head.sequence <= record.sequence:
                    record.revision = head.revision
        return record

    async def _follow(self, last: int) -> None:
        """Follow from the position on; on one server, pass over messages up to `last` that are gone."""
        self._lost.clear()
        previous, self._consumer = self._consumer, None
        if previous is not None:
            await previous.stop()
        self._target = last
        config = {"deliver_policy": "by_start_sequence", "opt_start_seq": self.position + 1}
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._stream.timeout
        seconds = FIRST_CREATE_SECONDS
        while True:
            left = max(0.1, deadline - loop.time())
            consumer = Consumer(
                self._connection, self._stream.subjects.stream, self._on_message, self.reconnect
            )
            try:
                waiting = await consumer.start(config, timeout=left if self._exact else min(left, seconds))
                break
            except BaseException as error:
                await consumer.stop()
                if not isinstance(error, HappenTimeoutError) or self._exact or loop.time() > deadline:
                    raise
                seconds = CREATE_SECONDS
        self._consumer = consumer
        self._progress_at = loop.time()
        if not waiting:
            self._pass_over_gone()

    @property
    def _exact(self) -> bool:
        return self._stream.replicas == 1

    # -- following -----------------------------------------------------------------------------------

    def _on_message(self, item: StreamMessage) -> None:
        if item.sequence > self.position:
            self.position = item.sequence
            self._progress_at = time.monotonic()
            try:
                if not item.pending:
                    self._stream.note_time(item.time)
                decoded = self._sink.recognize(item)
                own = decoded is not None
                if decoded is None:
                    decoded = self._deliveries.admit(self._stream.decode(item))
                    if isinstance(decoded, Clear):
                        self._deliveries = Deliveries()
                        self.cleared = item.sequence
                self._sink.apply(decoded, item.sequence)
                if (self._expiring or not own) and isinstance(decoded, CommitRecord):
                    self._watch_expiry(item)
            except Exception:  # one message must not stop those after it
                log.exception("message %d of %s was not applied", item.sequence, self._stream.subjects.stream)
        if item.pending == 0 and self._target > self.position:
            self._pass_over_gone()

    def _pass_over_gone(self) -> None:
        """Move on to the target as soon as no message up to there is still to come."""
        if self._exact and self._target > self.position and self._passing is not self._consumer:
            self._passing = self._consumer
            self._check(self._reach_target(self._consumer))

    async def _reach_target(self, consumer: Consumer | None) -> None:
        # The server may have counted too few, but it delivers all: so it is asked for the next message.
        while self._consumer is consumer and self.position < self._target:
            try:
                following = await self._stream.get({"seq": self.position + 1, "next_by_subj": ">"})
            except HappenError as error:
                log.debug("following %s: %s; trying again", self._stream.subjects.stream, error)
            else:
                if self._consumer is consumer and (following is None or following.sequence > self._target):
                    self.position = max(self.position, self._target)
                    self._sink.caught_up(self.position)
                    return
            await asyncio.sleep(POLL_SECONDS)

    # -- values that disappear without a message -----------------------------------------------------

    def _watch_expiry(self, item: StreamMessage) -> None:
        """Verify a node when the value that another client stored with a time to live has expired."""
        node = item.subject[len(self._stream.subjects.state_prefix) :]
        if (timer := self._expiring.pop(node, None)) is not None:
            timer.cancel()
        seconds = lifetime(item.headers)
        if seconds is not None:
            left = min(seconds, item.time / 1e9 + seconds - time.time())
            loop = asyncio.get_running_loop()
            self._expiring[node] = loop.call_later(max(0.0, left) + EXPIRY_SLACK_SECONDS, self._expired, node)

    def _expired(self, node: str) -> None:
        del self._expiring[node]
        self._check(self._verify_expired(node))

    def _check(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    async def _verify_expired(self, node: str) -> None:
        try:
            await self.verify_node(node)
        except HappenError as error:
            log.debug("verifying %s: %s; the next verification follows", node, error)

    async def verify_node(self, node: str) -> None:
        """Start afresh if the held state of a node is no longer stored: it expired or was purged."""
        held = self._sink.held().get(node)  # as of before the request: it may change meanwhile
        subject = self._stream.subjects.state(node)
        newest = await self._stream.newest(subject)
        if held is not None and _is_older(newest, held) and not self._exact:
            # A new leader may still lack the newest messages: read up to a barrier before it counts as gone.
            found = await self._stream.read(subject, policy="last_per_subject", headers_only=True)
            newest = found[0] if found else None
        if held is not None and _is_older(newest, held):
            await self.verify(gone=True)
        elif held is not None and newest is not None and newest.sequence == held.sequence:
            self._watch_expiry(newest)

    async def _has_lost_any(self, timeout: float | None) -> bool:
        """Return True if a held state or scheduled event is gone although no message reported it.

        Very many of them are not checked.
        """
        sink, subjects = self._sink, self._stream.subjects
        states, alarms = len(sink.held()), len(sink.alarms)
        if 0 < states <= MAX_CHECKED_KEYS and (info := await self._listed(subjects.states, timeout)):
            held = sink.held().items()
            if any(info.lacks(subjects.state(node), each.sequence) for node, each in held):
                return True
        if 0 < alarms <= MAX_CHECKED_KEYS and (info := await self._listed(subjects.alarms, timeout)):
            return any(
                info.lacks(subjects.alarm_prefix + each.id, each.sequence) for each in sink.alarms.by_due()
            )
        return False

    async def _listed(self, subjects: str, timeout: float | None) -> Info | None:
        """Look up which subjects have messages; None if the sink does not have what is stored soon."""
        info = await self._stream.info(subjects, timeout)
        return info if await self._sink.reached(info.last, POLL_SECONDS) else None

    # -- supervising the consumer --------------------------------------------------------------------

    async def _supervise(self) -> None:
        """Notice a lost consumer, and a stream that others have changed, for as long as it runs."""
        loop = asyncio.get_running_loop()
        verified = loop.time()
        while True:
            with contextlib.suppress(TimeoutError):  # the usual case: nothing was lost
                async with asyncio.timeout(POLL_SECONDS):
                    await self._lost.wait()
            if not self._connection.connected:
                self._lost.clear()  # the reconnect sets it again
                continue
            due = loop.time() - verified > (VERIFY_SECONDS if self._exact else VERIFY_SECONDS_CLUSTER)
            limit = SILENCE_SECONDS + self._connection.transfer_seconds
            silent = self._consumer is None or loop.time() - self._consumer.active_at > limit
            renew = silent or self._lost.is_set()
            if not (due or renew):
                continue
            verified = loop.time()
            try:
                if renew and not self._exact:  # at once, also while the stream has no leader
                    async with self._lock:
                        await self._follow(0)
                await self.verify(renew=renew and self._exact, keys=True, timeout=LEADER_SECONDS)
            except HappenError as error:
                log.debug("following %s: %s; trying again", self._stream.subjects.stream, error)
                await asyncio.sleep(POLL_SECONDS)

    async def verify(
        self, *, renew: bool = False, gone: bool = False, keys: bool = False, timeout: float | None = None
    ) -> Info:
        """Compare with the stream as it is; start afresh if it was purged or recreated.

        `renew` creates a new consumer in any case. `gone` means that something held is no longer stored;
        `keys` checks whether that is so.
        """
        position = self.position  # as of now: it may have passed `info.last` when the answer is here
        info = await self._stream.info(timeout=timeout)
        gone = gone or (keys and await self._has_lost_any(timeout))
        async with self._lock:
            if info.created != self._created:  # another task that waited for the lock may have handled it
                info = await self._stream.info(timeout=timeout)
            purged = self._is_purged(info, position)
            behind = self._exact and info.last < position
            if info.created == self._created and info.first < self.cleared:
                await self._stream.finish_clear(self.cleared)
            if info.created != self._created or behind or purged or gone:
                await self._start_fresh(info)
            elif renew:
                await self._follow(info.last)
            elif self._stalled(info, position):
                await self._follow(info.last)
                await self._stream.store_barrier(timeout)  # a missing message may have expired; this arrives
        return info

    def _is_purged(self, info: Info, position: int) -> bool:
        """Return True if the stream lost held messages at its start without a mark."""
        if info.first == self._first_seen or position < min(info.first, info.last):
            return False
        self._first_seen = info.first
        oldest = min((record.sequence for record in self._sink.held().values()), default=0)
        return 0 < oldest < info.first

    def _stalled(self, info: Info, position: int) -> bool:
        """Return True if the consumer delivered nothing since the last verification, but there is more."""
        stalled = not self._exact and position < self._last_seen and self.position == position
        self._last_seen = info.last
        return stalled


_sequence = attrgetter("sequence")


def _is_older(stored: StreamMessage | None, held: CommitRecord) -> bool:
    return stored is None or stored.sequence < held.sequence
