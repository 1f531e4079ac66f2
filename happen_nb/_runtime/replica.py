"""The states of a space in memory, as consistent snapshots; and a cache of past snapshots.

The follower writes them on the IO thread; any thread reads them without waiting.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from happen_nb._journal.commits import commit_at_position, commits_at_position
from happen_nb._journal.decoding import Clear, Passed
from happen_nb._journal.slice import last_clear
from happen_nb._model.arguments import check_name
from happen_nb._model.frozen import FrozenDict
from happen_nb._model.positions import merged
from happen_nb._model.records import CommitRecord, Cut, revision_after
from happen_nb._model.versions import Versions
from happen_nb._runtime import causes
from happen_nb._runtime.io import io_thread
from happen_nb._runtime.tracebacks import to_raise
from happen_nb._runtime.waiting import NewsWait, Signal, Waiters, within
from happen_nb.errors import HistoryGoneError, InvalidNameError, StateError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from happen_nb._journal.decoding import Item
    from happen_nb._model.positions import Positions
    from happen_nb._runtime.log import Log


class Applied(NamedTuple):
    """A commit as the replica applied it, and the one before it (None: nothing is known)."""

    record: CommitRecord
    previous: CommitRecord | None


class Replica:
    """Node name -> newest record, as of one position of the journal."""

    def __init__(self) -> None:
        self.on_commit: Signal[[Applied]] = Signal()  # emitted with each commit, in order, on the IO thread
        self._versions = Versions()
        self._passed: dict[str, Passed] = {}
        self.position = 0  # the sequence of the last message applied
        self.written = 0  # the sequence of the newest commit of any node
        self._emitted = 0
        self._change = 0  # the number of the change that the IO thread makes now, if it is odd
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0
        self._changes: dict[str, Waiters] = {}
        self._closed: Exception | None = None

    # -- reading, from any thread --------------------------------------------------------------------

    def newest(self, node: str) -> CommitRecord | None:
        """Return the newest record of a node, which may be a deletion; None if nothing is stored."""
        return self._versions.newest.get(node)

    def look(self, node: str) -> CommitRecord | None:
        """Return the newest record of a node, and note the first look of a handler."""
        if causes.first_look(self) is not None:
            return self.cut_of(node).nodes.get(node)
        return self._versions.newest.get(node)

    def note_look(self) -> None:
        """Note that the handler that runs in this context has seen everything up to now."""
        self._note_look(self.position)

    def _note_look(self, position: int) -> None:
        found = causes.first_look(self)
        if found is not None:
            found.looked, found.unseen = position, None

    def newest_sequence(self, node: str) -> int:
        """Return the sequence of the newest record of a node; 0 if nothing is stored."""
        record = self._versions.newest.get(node)
        return 0 if record is None else record.sequence

    def empty(self) -> bool:
        """Return True if no node has a state, or ever had one."""
        return not self._versions.newest

    def positions(self, node: str, record: CommitRecord | None) -> Positions | None:
        """Return the progress of a node's state handlers after a commit; None if that is not known here."""
        found = {} if record is None else record.positions
        passed = self._passed.get(node) if self._passed else None
        if found is None or passed is None or passed.base != _sequence(record):
            return found
        return merged(found, passed.positions)

    def pass_on(self, record: CommitRecord) -> None:
        """Give the positions that were looked up for a commit to the newest one, if none has changed them."""
        newest, passed = self._versions.newest.get(record.node), self._passed.get(record.node)
        if newest is not None and newest.positions is None and (not passed or passed.base <= record.sequence):
            newest.positions = self.positions(record.node, record)

    def unchanged(self, node: str, record: CommitRecord | None, written: int) -> bool:
        """Return True if `record` is the newest one of a node, and `written` the newest commit of all."""
        return self._versions.newest.get(node) is record and self.written == written

    def cut_of(self, node: str) -> Cut:
        """Return a snapshot of one node only, which costs less."""
        while True:
            before = self._change
            record = self._versions.newest.get(node)
            cut = Cut({} if record is None else {node: record}, self.position, self.written)
            if self._is_valid(before):
                self._note_look(cut.position)
                return cut

    def cut(self) -> Cut:
        """Return all nodes as of now; later commits do not change the snapshot."""
        while True:
            before = self._change
            cut = Cut(self._versions.snapshot(), self.position, self.written)
            if self._is_valid(before):
                self._note_look(cut.position)
                return cut

    def _is_valid(self, before: int) -> bool:
        """Return True if nothing has changed since `before`; else let the IO thread go on."""
        # A lock would hang: what a signal handler calls waits for the IO thread, which would wait for the
        # lock that the code below the signal handler has.
        if before == self._change and not before & 1:
            return True
        if io_thread().here:  # a finalizer that interrupts a change
            return True
        time.sleep(0)
        return False

    # -- writing, on the IO thread -------------------------------------------------------------------

    def reset(
        self, records: list[CommitRecord], position: int, passed: Iterable[Passed] = (), *, again: bool
    ) -> None:
        """Start with these records; emit those that were not emitted yet."""
        before = self._versions.newest if again else {}
        self._emitted = self._emitted if again else 0
        gone = self._versions.newest.keys() - {record.node for record in records}
        for record in records:
            held = self._versions.newest.get(record.node)
            if record.positions is None and held is not None and held.sequence == record.sequence:
                record.positions = held.positions
        self._change += 1
        try:
            self._versions = Versions(records)  # earlier snapshots keep the one before
            self.position = position
            self.written = max((record.sequence for record in records), default=0)
            self._passed = {}
            for each in passed:
                self._pass(each)
        finally:
            self._change += 1
        new = [record for record in records if record.sequence > self._emitted]
        for record in sorted(new, key=lambda record: record.sequence):
            self._emit(Applied(record, before.get(record.node)))
        self._wake_changed(gone)
        self._wake_reached()

    def apply(self, item: Item, sequence: int) -> None:
        """Apply the next message; the listeners of a commit are called."""
        applied: Applied | None = None
        gone: list[str] = []
        self._change += 1
        try:
            if type(item) is CommitRecord:
                applied = self._apply_commit(item)
            elif isinstance(item, Clear):
                gone = [name for name, record in self._versions.newest.items() if record.sequence < sequence]
                for name in gone:
                    self._versions.remove(name, sequence)
                self._passed.clear()
                self.written = max((record.sequence for record in self._versions.newest.values()), default=0)
            elif isinstance(item, Passed):
                self._pass(item)
            self.position = max(self.position, sequence)
        finally:
            self._change += 1
        if applied is not None:
            self._emit(applied)
        elif gone:
            self._wake_changed(gone)
        if self._waiting:
            self._wake_reached()

    def _apply_commit(self, record: CommitRecord) -> Applied | None:
        previous = self._versions.newest.get(record.node)
        if previous is not None and record.sequence <= previous.sequence:
            return None  # the fresh start had it already
        if not record.revision:
            record.revision = revision_after(previous)
        if record.positions is None and (previous is not None or record.node in self._passed):
            # another client wrote it, or no handler was done with anything
            record.positions = self.positions(record.node, previous)
        self._versions.put(record)
        self.written = max(self.written, record.sequence)
        return Applied(record, previous)

    def _pass(self, passed: Passed) -> None:
        """Note the progress of state handlers without a commit, if it was stored before the next commit."""
        record, known = self._versions.newest.get(passed.node), self._passed.get(passed.node)
        if passed.base != _sequence(record):
            return
        if known is not None and known.base == passed.base:  # of another process
            passed = passed._replace(positions=merged(known.positions, passed.positions))
        self._passed[passed.node] = passed

    def caught_up(self, position: int) -> None:
        """Move on to `position`: no further messages come at or before it."""
        self.position = max(self.position, position)
        self._wake_reached()

    def _emit(self, applied: Applied) -> None:
        record = applied.record
        self._emitted = max(self._emitted, record.sequence)
        self.on_commit.emit(applied)
        if record.node in self._changes:
            self._wake_changed((record.node,))

    # -- waiting, on the IO thread -------------------------------------------------------------------

    async def changed(
        self, node: str, known: CommitRecord | None, timeout: float, handler: NewsWait | None = None
    ) -> bool:
        """Wait until a node's newest record is no longer `known`; False after `timeout` seconds.

        `handler` is the wait of a handler.
        """
        if self._versions.newest.get(node) is not known:
            return True
        self.check_open()
        return await self._changes.setdefault(node, Waiters()).wait(timeout, handler)

    async def reached(self, position: int, timeout: float) -> bool:
        """Wait until the replica is at `position`; False after `timeout` seconds."""
        if self.position >= position:
            return True
        self.check_open()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._count += 1
        entry = position, self._count, future
        heapq.heappush(self._waiting, entry)
        try:
            return await within(timeout, future)
        finally:
            if future.cancelled() and entry in self._waiting:  # else an idle space would collect them
                self._waiting.remove(entry)
                heapq.heapify(self._waiting)

    def check_open(self) -> None:
        """Raise the reason once the replica is closed."""
        if self._closed is not None:
            raise to_raise(self._closed)

    def _wake_changed(self, nodes: Iterable[str]) -> None:
        for node in nodes:
            if (waiters := self._changes.pop(node, None)) is not None:
                waiters.wake()

    def _wake_reached(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.position:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)

    def close(self, why: Exception) -> None:
        """Raise `why` in every waiter: no further messages arrive."""
        self._closed = why
        for waiters in self._changes.values():
            waiters.fail(lambda: to_raise(why))
        for _, _, future in self._waiting:
            if not future.done():
                future.set_exception(to_raise(why))


def _sequence(record: CommitRecord | None) -> int:
    return 0 if record is None else record.sequence


logger = logging.getLogger("happen_nb")


# -- past positions ------------------------------------------------------------------------------------


MAX_CACHED_BYTES = 64_000_000
RECORD_OVERHEAD_BYTES = 500
MAX_PARALLEL_REQUESTS = 64


class SnapshotCache:
    """A cache of the records of all nodes at past positions, for one task at a time. On the IO thread."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._known: dict[str, list[_CachedRecord]] = {}
        self._size = 0
        self._cleared = 0

    async def at(self, position: int) -> dict[str, CommitRecord | HistoryGoneError]:
        """Return the record of each node that existed at a position, sorted by name."""
        nodes = self._log.replica.cut().nodes
        await self._forget()
        old = [name for name, record in nodes.items() if record.sequence > position]
        await self._read([name for name in old if self._find(name, position) is None], position)
        found = {name: record for name, record in nodes.items() if record.sequence <= position}
        then = {name: known.what for name in old if (known := self._find(name, position))}
        return {
            name: record
            for name, record in sorted((found | then).items())
            if record is not None and (isinstance(record, HistoryGoneError) or not record.deleted)
        }

    async def _forget(self) -> None:
        """Empty the cache if it is full, or if the space was cleared."""
        cleared = await last_clear(self._log.stream)
        if cleared != self._cleared or self._size > MAX_CACHED_BYTES:
            self._known.clear()
            self._size, self._cleared = 0, cleared

    def _find(self, name: str, position: int) -> _CachedRecord | None:
        known = self._known.get(name, ())
        return next((each for each in known if each.since <= position <= each.until), None)

    async def _read(self, names: list[str], position: int) -> None:
        stream = self._log.stream
        found = await commits_at_position(stream, names, position)
        for name, record in found.items():
            self._keep(name, record, record.sequence, position)
        turns = asyncio.Semaphore(MAX_PARALLEL_REQUESTS)

        async def read_one(name: str) -> None:
            async with turns:
                try:
                    record = await commit_at_position(stream, name, position)
                except HistoryGoneError as gone:
                    self._keep(name, gone, 0, position)
                else:
                    self._keep(name, record, 0 if record is None else record.sequence, position)

        await asyncio.gather(*(read_one(name) for name in names if name not in found))

    def _keep(self, name: str, what: CommitRecord | HistoryGoneError | None, since: int, until: int) -> None:
        """Cache a node's record, which is valid at least from one position to another."""
        kept = self._known.setdefault(name, [])
        for each in kept:
            if each.since == since and type(each.what) is type(what):
                each.until = max(each.until, until)
                return
        kept.append(_CachedRecord(what, since, until))
        self._size += RECORD_OVERHEAD_BYTES + (len(what.body or b"") if isinstance(what, CommitRecord) else 0)


class _CachedRecord:
    """The record of a node from one position to another; None if the node did not exist."""

    def __init__(self, what: CommitRecord | HistoryGoneError | None, since: int, until: int) -> None:
        self.what = what
        self.since = since
        self.until = until


async def records_at(log: Log, position: int) -> dict[str, CommitRecord | HistoryGoneError]:
    """Return the record of each node at a position."""
    return await SnapshotCache(log).at(position)


def forkable_states(records: Mapping[str, CommitRecord | HistoryGoneError]) -> dict[str, FrozenDict]:
    """Return the states by node; leave out and log invalid ones, which other clients have stored."""
    gone = [name for name, record in records.items() if isinstance(record, HistoryGoneError)]
    if gone:
        raise HistoryGoneError(f"fork: the states of {', '.join(gone)} at that time are no longer stored")
    states: dict[str, FrozenDict] = {}
    for record in records.values():
        assert isinstance(record, CommitRecord)
        record.check()
        if record.deleted:
            continue
        try:
            states[check_name(record.node, "node")] = record.state
        except (InvalidNameError, StateError) as error:
            logger.warning(
                'fork: node "%s" is left out, since another client stored it: %s', record.node, error
            )
    return states
