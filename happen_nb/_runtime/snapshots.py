"""The records of all nodes at past positions, kept while somebody moves through time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from happen_nb._journal.slice import commit_at_position, commits_at_position, last_clear
from happen_nb._model.arguments import check_name
from happen_nb._model.frozen import FrozenDict
from happen_nb._model.records import CommitRecord
from happen_nb.errors import HistoryGoneError, InvalidNameError, StateError

if TYPE_CHECKING:
    from happen_nb._runtime.log import Log

logger = logging.getLogger("happen_nb")

MAX_CACHED_BYTES = 64_000_000
RECORD_OVERHEAD_BYTES = 500
MAX_PARALLEL_REQUESTS = 64


class SnapshotCache:
    """A cache of the records of all nodes at past positions, for one task at a time. On the IO thread."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._known: dict[str, list[_Known]] = {}
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

    def _find(self, name: str, position: int) -> _Known | None:
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
        kept.append(_Known(what, since, until))
        self._size += RECORD_OVERHEAD_BYTES + (len(what.body or b"") if isinstance(what, CommitRecord) else 0)


@dataclass(slots=True)
class _Known:
    """The record of a node from one position to another; None if the node did not exist."""

    what: CommitRecord | HistoryGoneError | None
    since: int
    until: int


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
            logger.warning('fork: "%s" is left out, another client stored it: %s', record.node, error)
    return states
