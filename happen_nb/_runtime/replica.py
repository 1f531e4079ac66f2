"""The followed states of a space, in memory: one consistent cut at a time.

Written on the IO thread by the follower, read from any thread without waiting.
"""

from __future__ import annotations

import asyncio
import heapq
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from happen_nb._journal.wire import Clear
from happen_nb._model.records import CommitRecord, Cut, revision_after
from happen_nb._runtime.io import within
from happen_nb._runtime.tracebacks import to_raise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from happen_nb._journal.wire import Item
    from happen_nb._model.frozen import FrozenDict

    Listener = Callable[["Applied"], None]


class Applied(NamedTuple):
    """A commit as the replica took it, with what was there before (None: nothing is known)."""

    record: CommitRecord
    previous: CommitRecord | None


@dataclass(eq=False, slots=True)
class Expected:
    """A commit of ours that is on its way; ``future`` may also be resolved by the server's answer."""

    state: FrozenDict
    future: asyncio.Future[Any]
    applied: Applied | None = None


class Replica:
    """Node name -> newest record, and the journal position it is of."""

    def __init__(self) -> None:
        self._records: dict[str, CommitRecord] = {}
        self._shared = False
        self._position = 0
        self._written = 0
        self._told = 0
        self._lock = threading.Lock()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._count = 0
        self._expected: dict[str, Expected] = {}
        self._changes: dict[str, set[asyncio.Future[None]]] = {}
        self._listeners: list[Listener] = []
        self._closed: Exception | None = None

    # -- reading, from any thread --------------------------------------------------------------------

    @property
    def position(self) -> int:
        """The sequence of the last message taken."""
        return self._position

    def newest(self, node: str) -> CommitRecord | None:
        """The newest record of a node, a deletion too; None if nothing is stored."""
        return self._records.get(node)

    def empty(self) -> bool:
        """Whether no node has a state, or ever had one."""
        return not self._records

    def unchanged(self, node: str, cut: Cut) -> bool:
        """Whether a node, and all others, are what they were in `cut`."""
        return self._records.get(node) is cut.nodes.get(node) and self._written == cut.written

    def cut_of(self, node: str) -> Cut:
        """A cut that holds one node only, and costs less."""
        with self._lock:
            record = self._records.get(node)
            return Cut({} if record is None else {node: record}, self._position, self._written)

    def cut(self) -> Cut:
        """All nodes at this moment; later commits do not change it."""
        with self._lock:
            self._shared = True
            return Cut(self._records, self._position, self._written)

    # -- writing, on the IO thread -------------------------------------------------------------------

    def reset(self, records: list[CommitRecord], position: int, *, again: bool) -> None:
        """Begin with these records; tells the listeners of those they have not seen."""
        before = self._records if again else {}
        self._told = self._told if again else 0
        gone = self._records.keys() - {record.node for record in records}
        for record in records:
            held = self._records.get(record.node)
            if record.positions is None and held is not None and held.sequence == record.sequence:
                record.positions = held.positions
        with self._lock:
            self._records = {record.node: record for record in records}
            self._shared = False
            self._position = position
            self._written = max((record.sequence for record in records), default=0)
        news = [record for record in records if record.sequence > self._told]
        for record in sorted(news, key=lambda record: record.sequence):
            self._tell(record, before.get(record.node))
        self._notice(gone)
        self._wake()

    def apply(self, item: Item, sequence: int) -> None:
        """Take the next message of the journal."""
        applied: Applied | None = None
        gone: list[str] = []
        with self._lock:
            if isinstance(item, CommitRecord):
                applied = self._take(item)
            elif isinstance(item, Clear):
                self._unshare()
                gone = [name for name, record in self._records.items() if record.sequence < sequence]
                for name in gone:
                    del self._records[name]
                self._written = max((record.sequence for record in self._records.values()), default=0)
            self._position = max(self._position, sequence)
        if applied is not None:
            self._tell(*applied)
        self._notice(gone)
        self._wake()

    def _take(self, record: CommitRecord) -> Applied | None:
        previous = self._records.get(record.node)
        if previous is not None and record.sequence <= previous.sequence:
            return None  # the to_raise start had it already
        if not record.revision:
            record.revision = revision_after(previous)
        if record.positions is None and previous is not None:
            record.positions = previous.positions  # another client wrote it, or nobody handled anything
        self._unshare()
        self._records[record.node] = record
        self._written = max(self._written, record.sequence)
        return Applied(record, previous)

    def _unshare(self) -> None:
        if self._shared:
            self._records = dict(self._records)
            self._shared = False

    def caught_up(self, position: int) -> None:
        """There is nothing more at or before `position`."""
        with self._lock:
            self._position = max(self._position, position)
        self._wake()

    # -- being told, on the IO thread ----------------------------------------------------------------

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with each commit, in order, from now on; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _tell(self, record: CommitRecord, previous: CommitRecord | None) -> None:
        self._told = max(self._told, record.sequence)
        applied = Applied(record, previous)
        if record.id is not None and (expected := self._expected.get(record.id)):
            if not record.deleted:
                record.adopt(expected.state)
            expected.applied = applied
            if not expected.future.done():
                expected.future.set_result(applied)
        self._notice((record.node,))
        for listener in list(self._listeners):
            listener(applied)

    def _notice(self, nodes: Iterable[str]) -> None:
        """Wake whoever waits for a change of these nodes."""
        for node in nodes:
            for future in self._changes.pop(node, ()):
                if not future.done():
                    future.set_result(None)

    def expect(self, id: str, state: FrozenDict) -> Expected:
        """Look out for the commit `id`: it need not be decoded, and its future resolves when it is seen."""
        expected = self._expected[id] = Expected(state, asyncio.get_running_loop().create_future())
        return expected

    def forget(self, id: str) -> None:
        """The commit `id` is not waited for any longer."""
        self._expected.pop(id, None)

    async def changed(self, node: str, known: CommitRecord | None, timeout: float) -> bool:
        """Wait until a node's newest record is not `known` any more; False after `timeout` seconds."""
        if self._records.get(node) is not known:
            return True
        future = self._future()
        waiting = self._changes.setdefault(node, set())
        waiting.add(future)
        try:
            return await within(timeout, future)
        finally:
            waiting.discard(future)

    async def reached(self, position: int, timeout: float) -> bool:
        """Wait until the replica is at `position`; False if it takes longer than `timeout` seconds."""
        if self._position >= position:
            return True
        future = self._future()
        self._count += 1
        entry = position, self._count, future
        heapq.heappush(self._waiting, entry)
        try:
            return await within(timeout, future)
        finally:
            if future.cancelled() and entry in self._waiting:  # else an idle space would collect them
                self._waiting.remove(entry)
                heapq.heapify(self._waiting)

    def _future(self) -> asyncio.Future[None]:
        if self._closed is not None:
            raise to_raise(self._closed)
        return asyncio.get_running_loop().create_future()

    def close(self, why: Exception) -> None:
        """Nothing follows any more: whoever waits is told `why`."""
        self._closed = why
        waiting = [future for futures in self._changes.values() for future in futures]
        for future in (*waiting, *(future for _, _, future in self._waiting)):
            if not future.done():
                future.set_exception(to_raise(why))

    def _wake(self) -> None:
        while self._waiting and self._waiting[0][0] <= self._position:
            _, _, future = heapq.heappop(self._waiting)
            if not future.done():
                future.set_result(None)
