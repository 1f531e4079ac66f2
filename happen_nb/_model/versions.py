"""The newest record of each node, and the older ones that a snapshot still shows."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple
from weakref import ref

if TYPE_CHECKING:
    from happen_nb._model.records import CommitRecord


PRUNE_AT = 16  # number of snapshots, or of records of a node, at which unneeded ones are removed


class Replaced(NamedTuple):
    """A record that was the newest of its node before the position `until`."""

    record: CommitRecord
    until: int

    @property
    def since(self) -> int:
        return self.record.sequence


class Made(NamedTuple):
    """A snapshot, as long as somebody has it."""

    position: int
    snapshot: ref[RecordsAt]


class Versions:
    """The records of all nodes. One thread writes, any thread reads, and none waits for another.

    A snapshot costs nothing until one of its nodes commits: from then on, the replaced record is kept as long
    as the snapshot exists.
    """

    def __init__(self, records: Iterable[CommitRecord] = ()) -> None:
        self.newest: dict[str, CommitRecord] = {record.node: record for record in records}
        self._past: dict[str, tuple[Replaced, ...]] = {}
        self._position = max((record.sequence for record in self.newest.values()), default=0)
        """The position of the last change."""
        self._shared: dict[int, RecordsAt] = {}
        """The snapshots made since then, by position: one, and any of a reader that has been overtaken."""
        self._snapshots: list[Made] = []  # the earlier ones, by position
        self._most = PRUNE_AT

    def put(self, record: CommitRecord) -> None:
        self._keep(record.node, record.sequence)
        self.newest[record.node] = record

    def remove(self, node: str, position: int) -> None:
        """Note that a node has no record from a position on."""
        self._keep(node, position)
        del self.newest[node]

    def snapshot(self) -> RecordsAt:
        """Return the records as they are; only valid if no change begins meanwhile."""
        position = self._position
        found = self._shared.get(position)
        return self._shared.setdefault(position, RecordsAt(self, position)) if found is None else found

    def at(self, node: str, position: int) -> CommitRecord | None:
        record = self.newest.get(node)
        if record is not None and record.sequence <= position:
            return record
        past = self._past.get(node, ())
        found = past[: bisect_right(past, position, key=attrgetter("since"))][-1:]
        return found[0].record if found and position < found[0].until else None

    def names_at(self, position: int) -> list[str]:
        names = dict.fromkeys((*list(self.newest), *list(self._past)))
        return [name for name in names if self.at(name, position) is not None]

    def _keep(self, node: str, until: int) -> None:
        """Begin a change: keep the newest record of a node if a snapshot shows it."""
        self._position = until
        if self._shared:
            self._add_shared()
        while self._snapshots and self._snapshots[-1].snapshot() is None:
            self._snapshots.pop()
        record = self.newest.get(node)
        if not self._snapshots:
            self._past.clear()
        elif record is not None and record.sequence <= self._snapshots[-1].position:
            past = self._past.get(node, ())
            if len(past) >= PRUNE_AT and len(past) & (len(past) - 1) == 0:  # seldom, since it looks at all
                past = self._shown(past)
            self._past[node] = (*past, Replaced(record, until))

    def _add_shared(self) -> None:
        while self._shared:  # a reader may add one at any time
            position, snapshot = self._shared.popitem()
            insort(self._snapshots, Made(position, ref(snapshot)), key=attrgetter("position"))
        if len(self._snapshots) >= self._most:
            self._snapshots = [each for each in self._snapshots if each.snapshot() is not None]
            self._most = max(PRUNE_AT, 2 * len(self._snapshots))

    def _shown(self, past: tuple[Replaced, ...]) -> tuple[Replaced, ...]:
        """Return those that a snapshot still shows."""
        positions = [each.position for each in self._snapshots if each.snapshot() is not None]
        return tuple(
            each for each in past if bisect_left(positions, each.since) < bisect_left(positions, each.until)
        )


class RecordsAt(Mapping[str, "CommitRecord"]):
    """Node -> its newest record at a position."""

    __slots__ = ("__weakref__", "_versions", "position")

    def __init__(self, versions: Versions, position: int) -> None:
        self._versions = versions
        self.position = position

    def __getitem__(self, node: str) -> CommitRecord:
        record = self._versions.at(node, self.position)
        if record is None:
            raise KeyError(node)
        return record

    def __iter__(self) -> Iterator[str]:
        return iter(self._versions.names_at(self.position))

    def __len__(self) -> int:
        return len(self._versions.names_at(self.position))
