"""Following the journal: a fresh start from the newest states, then every message in order."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from happen_nb.errors import HappenError
from happen_nb.journal.read import SILENCE, Consumer, Stored
from happen_nb.journal.wire import Clear, revision_of
from happen_nb.model.commits import CommitRecord, OwnerRecord

if TYPE_CHECKING:
    from happen_nb.journal.connection import Connection
    from happen_nb.journal.stream import Info, Stream
    from happen_nb.journal.wire import Item

log = logging.getLogger("happen_nb")

LOOK = 0.25
"""Seconds between looks at whether the consumer is alive."""
CHECK = 5.0
"""Seconds between checks that what is held is still what is stored."""


class Sink(Protocol):
    """What follows: it holds states, and is told of everything in order. Called on the IO thread."""

    def reset(
        self, records: list[CommitRecord], owners: list[OwnerRecord], position: int, *, again: bool
    ) -> None:
        """Begin with the newest record of each node, as of `position` or later, and the owners then.

        `again` says that the stream is the same as before, so that what was told is not told again.
        """

    def apply(self, item: Item, sequence: int) -> None:
        """Take the next message."""

    def caught_up(self, position: int) -> None:
        """There is nothing more at or before `position`."""

    def oldest(self) -> int:
        """The smallest sequence of a record that is held; 0 if none is."""


class Follower:
    """Keeps a sink up to date with a stream, across lost connections, purges and a new stream.

    Parameters
    ----------
    stream : Stream
    sink : Sink
    """

    def __init__(self, stream: Stream, sink: Sink) -> None:
        self._stream = stream
        self._sink = sink
        self._connection: Connection = stream.connection
        self._position = 0
        self._created = ""
        self._target = 0
        self._consumer: Consumer | None = None
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self.epoch = 0
        """How often it began afresh, so that someone may have missed commits in between."""

    async def start(self, info: Info) -> None:
        """Read the newest states and begin to follow; returns when reads may open."""
        await self._begin(info)
        self._connection.on_reconnect(self.restart)
        self._task = asyncio.create_task(self._keep())

    def restart(self) -> None:
        """Make a new consumer from the position on; nothing is lost or told twice."""
        self._lost.set()

    async def stop(self) -> None:
        """End following."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._consumer is not None:
            await self._consumer.stop()

    # -- beginning -----------------------------------------------------------------------------------

    async def _begin(self, info: Info) -> None:
        again = info.created == self._created
        if self._consumer is not None:
            await self._consumer.stop()  # else what it delivers meanwhile would be told, and then told again
        subjects = self._stream.subjects
        kinds = [subjects.states, subjects.owners, subjects.clear]
        newest = await self._stream.read(kinds, policy="last_per_subject")
        states = [item for item in newest if item.subject.startswith(subjects.state_prefix)]
        records = [await self._record(item) for item in states]
        highest = max((item.sequence for item in states), default=0)
        if not again or self._position > info.last:
            self._position = info.last  # else events that were not told yet are still to come
        self._created = info.created
        self.epoch += 1
        self._sink.reset(records, self._owners(newest), max(highest, info.last), again=again)
        await self._follow(info)

    def _owners(self, newest: list[Stored]) -> list[OwnerRecord]:
        """The owners as of the position: those from then on are told when they come by."""
        found: dict[str, OwnerRecord] = {}
        for item in newest:
            if item.sequence <= self._position:
                record = self._stream.decode(item)
                carried = record.owners if isinstance(record, Clear) else (record,)
                found |= {owner.node: owner for owner in carried if isinstance(owner, OwnerRecord)}
        return list(found.values())

    async def _record(self, item: Stored) -> CommitRecord:
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

    async def _follow(self, info: Info) -> None:
        """Follow from the position on; whatever is at or before `info.last` and gone is passed over."""
        self._lost.clear()
        previous, self._consumer = self._consumer, None
        if previous is not None:
            await previous.stop()
        self._target = info.last
        consumer = Consumer(self._connection, self._stream.subjects.stream, self._take, self.restart)
        config = {"deliver_policy": "by_start_sequence", "opt_start_seq": self._position + 1}
        waiting = await consumer.start(config, timeout=self._stream.timeout)
        self._consumer = consumer
        if not waiting:
            self._caught_up(info.last)

    # -- following -----------------------------------------------------------------------------------

    def _take(self, item: Stored) -> None:
        if item.sequence > self._position:
            self._position = item.sequence
            try:
                self._sink.apply(self._stream.decode(item), item.sequence)
            except Exception:  # of one message: those after it are to be told all the same
                log.exception("message %d of %s was not taken", item.sequence, self._stream.subjects.stream)
        if item.pending == 0:
            self._caught_up(self._target)

    def _caught_up(self, target: int) -> None:
        self._position = max(self._position, target)
        self._sink.caught_up(self._position)

    async def _keep(self) -> None:
        """Notice a lost consumer, and a stream that was changed behind our back, for as long as it runs."""
        loop = asyncio.get_running_loop()
        checked = loop.time()
        while True:
            try:
                async with asyncio.timeout(LOOK):
                    await self._lost.wait()
            except TimeoutError:
                pass  # the usual case: nothing was lost
            if not self._connection.connected:
                self._lost.clear()  # the reconnect sets it again
                continue
            due = loop.time() - checked > CHECK
            silent = self._consumer is None or loop.time() - self._consumer.heard > SILENCE
            if not (due or silent or self._lost.is_set()):
                continue
            checked = loop.time()
            try:
                await self.check(remake=silent or self._lost.is_set())
            except HappenError as error:
                log.debug("following %s: %s; trying again", self._stream.subjects.stream, error)

    async def check(self, *, remake: bool = False) -> Info:
        """Compare with the stream as it is; begin afresh if it was purged or made anew."""
        position = self._position  # as of now: it may have passed `info.last` when the answer is here
        info = await self._stream.info()
        async with self._turn:
            oldest = self._sink.oldest()
            purged = 0 < oldest < info.first and position >= min(info.first, info.last)  # and no mark came by
            if info.created != self._created or info.last < position or purged:
                await self._begin(info)
            elif remake:
                await self._follow(info)
        return info
