"""Following the journal: a fresh start from the newest states, then every message in order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol

from happen_nb._journal.consumer import (
    CREATE_SECONDS,
    FIRST_CREATE_SECONDS,
    SILENCE_SECONDS,
    Consumer,
    StreamMessage,
)
from happen_nb._journal.stream import MAX_CHECKED_KEYS
from happen_nb._journal.wire import Clear, lifetime, revision_of
from happen_nb._model.records import CommitRecord, OwnerRecord
from happen_nb.errors import HappenError, HappenTimeoutError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from happen_nb._journal.connection import Connection
    from happen_nb._journal.stream import Info, Stream
    from happen_nb._journal.wire import Item

log = logging.getLogger("happen_nb")

LOOK = 0.25
"""Seconds between looks at whether the consumer is alive."""
CHECK = 5.0
"""Seconds between checks that what is held is still what is stored."""
CHECK_CLUSTER = 2.0
"""The same where a consumer may be alive and stand still."""
STUCK = 1.5
"""Seconds that a consumer has to bring something that somebody waits for."""
STUCK_CLUSTER = 0.5
"""The same where another consumer may be on a server that does not lag."""
LEADER_SECONDS = 2.0
"""Seconds for which the follower waits for the leader before it looks after its consumer again."""
EXPIRY_SLACK = 1.0
"""Seconds that a server may take to remove what has expired."""


class FreshStart(NamedTuple):
    """The newest messages of a stream, with which to start.

    Parameters
    ----------
    records : list of CommitRecord
        The newest of each node, as of `position` or later.
    owners : list of OwnerRecord
        Those as of the position up to which messages were taken.
    position : int
    again : bool
        Whether the stream is the same as before, so that what was reported is not reported again.
    unknown : set of str
        The nodes whose owner changed since; until that message arrives, their known owner stays.
    """

    records: list[CommitRecord]
    owners: list[OwnerRecord]
    position: int
    again: bool
    unknown: set[str]


class Sink(Protocol):
    """Holds the states, and is given everything in order. Called on the IO thread."""

    def reset(self, start: FreshStart) -> None:
        """Start with the newest messages."""

    def apply(self, item: Item, sequence: int) -> None:
        """Take the next message."""

    def caught_up(self, position: int) -> None:
        """There is nothing more at or before `position`."""

    def held(self) -> Mapping[str, CommitRecord]:
        """The newest record of each node that is held."""

    async def reached(self, position: int, timeout: float) -> bool:
        """Wait until `position` is reached; False after `timeout` seconds."""


class Follower:
    """Keeps a sink up to date with a stream, across lost connections, purges and a new stream.

    Parameters
    ----------
    stream : Stream
    sink : Sink
    """

    # With one server, STREAM.INFO and the number of messages that wait for a consumer are exact. With
    # replicas they are not: a consumer may be on a server that lags, and a leader that was replaced answers
    # for a while. There the position only follows messages that arrived, and a barrier says what must arrive.

    def __init__(self, stream: Stream, sink: Sink) -> None:
        self._stream = stream
        self._sink = sink
        self._connection: Connection = stream.connection
        self._position = 0
        self._created = ""
        self._target = 0
        self._seen = 0
        self._first = 0
        self._news = 0.0
        """When the position moved last, or a consumer was made, by the loop's clock."""
        self._consumer: Consumer | None = None
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._expiring: dict[str, asyncio.TimerHandle] = {}
        self._checks: set[asyncio.Task[None]] = set()
        self.epoch = 0
        """How often it started afresh, so that someone may have missed commits in between."""
        self.cleared = 0
        """The sequence of the newest clear that was seen."""

    @property
    def position(self) -> int:
        """The sequence up to which every message was taken."""
        return self._position

    async def start(self, info: Info) -> int:
        """Read the newest states and start to follow; returns the position from which on reads are exact."""
        position = await self._begin(info)
        self._connection.on_reconnect(self.reconnect)
        self._task = asyncio.create_task(self._keep())
        return position

    def reconnect(self) -> None:
        """Make a new consumer from the position on; nothing is lost or reported twice."""
        self._lost.set()

    def reconnect_if_stuck(self) -> None:
        """Make a new consumer if the present one had its time and brought nothing: its server may lag."""
        quiet = asyncio.get_running_loop().time() - self._news
        stuck = STUCK if self._exact else STUCK_CLUSTER
        if not self._turn.locked() and quiet > stuck and not self._connection.transferring:
            self.reconnect()

    async def stop(self) -> None:
        """Stop following."""
        for timer in self._expiring.values():
            timer.cancel()
        tasks = [task for task in (self._task, *self._checks) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._consumer is not None:
            await self._consumer.stop()

    # -- starting ------------------------------------------------------------------------------------

    async def _begin(self, info: Info) -> int:
        again = info.created == self._created
        if self._consumer is not None:
            await self._consumer.stop()  # else what it delivers meanwhile would be reported twice
        # What is last is asked for after the end of the old consumer: the position has gone on until then.
        last = (await self._stream.bounds())[1] if again or not self._exact else info.last
        subjects = self._stream.subjects
        kinds = [subjects.states, subjects.owners, subjects.clear]
        newest = await self._stream.read(kinds, policy="last_per_subject")
        self.cleared = max((item.sequence for item in newest if item.subject == subjects.clear), default=0)
        # A server that lags may have sent what was there before a clear, and then the clear.
        newest = [item for item in newest if item.sequence >= self.cleared]
        states = [item for item in newest if item.subject.startswith(subjects.state_prefix)]
        records = [await self._record(item) for item in states]
        highest = max((item.sequence for item in states), default=0)
        if not again or self._position > last:
            self._position = last  # else events that were not reported yet are still to come
        self._created = info.created
        self.epoch += 1
        owners, unknown = self._owners(newest)
        position = max(highest, last)
        self._sink.reset(FreshStart(records, owners, position, again, unknown))
        for item in states:
            self._watch_expiry(item)
        await self._follow(last)
        return position

    def _owners(self, newest: list[StreamMessage]) -> tuple[list[OwnerRecord], set[str]]:
        """The owners as of the position, and the nodes whose owner changed later."""
        found: dict[str, OwnerRecord] = {}
        later: set[str] = set()
        for item in newest:
            record = self._stream.decode(item)
            carried = record.owners if isinstance(record, Clear) else (record,)
            owners = [owner for owner in carried if isinstance(owner, OwnerRecord)]
            if item.sequence <= self._position:
                found |= {owner.node: owner for owner in owners}
            else:
                later |= {owner.node for owner in owners}
        return list(found.values()), later - found.keys()

    async def _record(self, item: StreamMessage) -> CommitRecord:
        record = self._stream.decode(item)
        assert isinstance(record, CommitRecord)
        if not record.revision:  # another client's: count on from the newest commit that says
            record.revision = await self._count(record)
        return record

    async def _count(self, record: CommitRecord) -> int:
        subject = self._stream.subjects.state(record.node)
        revision = 0
        for item in await self._stream.read(subject, headers_only=True):
            if item.sequence <= record.sequence:
                revision = revision_of(item.headers) or revision + 1
        return revision

    async def _follow(self, last: int) -> None:
        """Follow from the position on; on one server, pass over what is at or before `last` and gone."""
        self._lost.clear()
        previous, self._consumer = self._consumer, None
        if previous is not None:
            await previous.stop()
        self._target = last
        config = {"deliver_policy": "by_start_sequence", "opt_start_seq": self._position + 1}
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._stream.timeout
        patience = FIRST_CREATE_SECONDS
        while True:
            left = max(0.1, deadline - loop.time())
            consumer = Consumer(self._connection, self._stream.subjects.stream, self._take, self.reconnect)
            try:
                waiting = await consumer.start(config, timeout=left if self._exact else min(left, patience))
                break
            except BaseException as error:
                await consumer.stop()
                if not isinstance(error, HappenTimeoutError) or self._exact or loop.time() > deadline:
                    raise
                patience = CREATE_SECONDS
        self._consumer = consumer
        self._news = loop.time()
        if not waiting:
            self._caught_up()

    @property
    def _exact(self) -> bool:
        return self._stream.replicas == 1

    # -- following -----------------------------------------------------------------------------------

    def _take(self, item: StreamMessage) -> None:
        if item.sequence > self._position:
            self._position = item.sequence
            self._news = asyncio.get_running_loop().time()
            try:
                decoded = self._stream.decode(item)
                if isinstance(decoded, Clear):
                    self.cleared = item.sequence
                self._sink.apply(decoded, item.sequence)
                if isinstance(decoded, CommitRecord):
                    self._watch_expiry(item)
            except Exception:  # of one message: those after it are to be taken all the same
                log.exception("message %d of %s was not taken", item.sequence, self._stream.subjects.stream)
        if item.pending == 0:
            self._caught_up()

    def _caught_up(self) -> None:
        """The consumer has delivered all that its server has."""
        if self._exact:
            self._position = max(self._position, self._target)
            self._sink.caught_up(self._position)

    # -- what goes away without a message ------------------------------------------------------------

    def _watch_expiry(self, item: StreamMessage) -> None:
        """Look at a key again when the value that another client gave a time to live has expired."""
        node = item.subject[len(self._stream.subjects.state_prefix) :]
        if (timer := self._expiring.pop(node, None)) is not None:
            timer.cancel()
        seconds = lifetime(item.headers)
        if seconds is not None:
            left = min(seconds, item.time / 1e9 + seconds - time.time())
            loop = asyncio.get_running_loop()
            self._expiring[node] = loop.call_later(max(0.0, left) + EXPIRY_SLACK, self._expired, node)

    def _expired(self, node: str) -> None:
        del self._expiring[node]
        task = asyncio.get_running_loop().create_task(self._look_at(node))
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)

    async def _look_at(self, node: str) -> None:
        try:
            await self.verify_node(node)
        except HappenError as error:
            log.debug("looking at %s: %s; the next check will do", node, error)

    async def verify_node(self, node: str) -> None:
        """Start afresh if what is held of a node is no longer stored: it expired or was purged."""
        held = self._sink.held().get(node)  # as of before the question: it may go on meanwhile
        subject = self._stream.subjects.state(node)
        newest = await self._stream.get({"last_by_subj": subject})
        if held is not None and _is_older(newest, held) and not self._exact:
            # A new leader may still lack the newest messages: read up to a barrier before it counts as gone.
            found = await self._stream.read(subject, policy="last_per_subject", headers_only=True)
            newest = found[0] if found else None
        if held is not None and _is_older(newest, held):
            await self.verify(gone=True)
        elif held is not None and newest is not None and newest.sequence == held.sequence:
            self._watch_expiry(newest)

    async def _gone(self, info: Info) -> bool:
        """Return whether something that is held is no longer stored, though no message says so."""
        if info.subjects is None or not await self._sink.reached(info.last, LOOK):
            return False
        state = self._stream.subjects.state
        held = self._sink.held().items()
        return any(each.sequence <= info.last and state(node) not in info.subjects for node, each in held)

    # -- watching the consumer -----------------------------------------------------------------------

    async def _keep(self) -> None:
        """Notice a lost consumer, and a stream that was changed behind our back, for as long as it runs."""
        loop = asyncio.get_running_loop()
        checked = loop.time()
        while True:
            with contextlib.suppress(TimeoutError):  # the usual case: nothing was lost
                async with asyncio.timeout(LOOK):
                    await self._lost.wait()
            if not self._connection.connected:
                self._lost.clear()  # the reconnect sets it again
                continue
            due = loop.time() - checked > (CHECK if self._exact else CHECK_CLUSTER)
            limit = SILENCE_SECONDS + self._connection.transfer_seconds
            silent = self._consumer is None or loop.time() - self._consumer.active_at > limit
            if not (due or silent or self._lost.is_set()):
                continue
            checked = loop.time()
            remake = silent or self._lost.is_set()
            try:
                if remake and not self._exact:  # at once, also while nobody leads the stream
                    async with self._turn:
                        await self._follow(0)
                await self.verify(remake=remake and self._exact, keys=True, timeout=LEADER_SECONDS)
            except HappenError as error:
                log.debug("following %s: %s; trying again", self._stream.subjects.stream, error)
                await asyncio.sleep(LOOK)

    async def verify(
        self,
        *,
        remake: bool = False,
        gone: bool = False,
        keys: bool = False,
        timeout: float | None = None,
    ) -> Info:
        """Compare with the stream as it is; start afresh if it was purged or made anew.

        Parameters
        ----------
        remake : bool, optional
            Make a new consumer in any case.
        gone : bool, optional
            Something that is held is no longer stored.
        keys : bool, optional
            Look whether that is so, unless there are very many nodes.
        timeout : float, optional
            Seconds for the question.
        """
        position = self._position  # as of now: it may have passed `info.last` when the answer is here
        keys = keys and len(self._sink.held()) <= MAX_CHECKED_KEYS
        info = await self._stream.info(keys=keys, timeout=timeout)
        gone = gone or await self._gone(info)
        async with self._turn:
            if info.created != self._created:  # another one that waited for its turn may have seen to that
                info = await self._stream.info(timeout=timeout)
            purged = self._is_purged(info, position)
            behind = self._exact and info.last < position
            if info.created != self._created or behind or purged or gone:
                await self._begin(info)
            elif remake:
                await self._follow(info.last)
            elif self._stalled(info, position):
                await self._follow(info.last)
                await self._stream.store_barrier(timeout)  # what is missing may have expired; this arrives
        return info

    def _is_purged(self, info: Info, position: int) -> bool:
        """Return whether the stream lost messages at its beginning that are held, and no mark came by."""
        if info.first == self._first or position < min(info.first, info.last):
            return False
        self._first = info.first
        oldest = min((record.sequence for record in self._sink.held().values()), default=0)
        return 0 < oldest < info.first

    def _stalled(self, info: Info, position: int) -> bool:
        """Return whether the consumer brought nothing since the last look, although there is more."""
        stalled = not self._exact and position < self._seen and self._position == position
        self._seen = info.last
        return stalled


def _is_older(stored: StreamMessage | None, held: CommitRecord) -> bool:
    return stored is None or stored.sequence < held.sequence
