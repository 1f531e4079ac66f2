"""The states of all nodes at one moment of the past."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from happen_nb._api.base import Displayable
from happen_nb._display.reprs_state import moment_page
from happen_nb._journal.slice import commit_at_position, commits_at_position, last_clear
from happen_nb._model.records import CommitRecord
from happen_nb.errors import HistoryGoneError

if TYPE_CHECKING:
    from happen_nb._model.frozen import FrozenDict
    from happen_nb._runtime.session import Session

KEPT = 64_000_000
"""Bytes of past states that are kept while somebody moves through time."""
OVERHEAD = 500
"""Bytes that a record takes beside its body."""
SIDE_BY_SIDE = 64
"""Requests under way at once where many nodes are looked up."""


class Moment(Displayable, Mapping[str, "FrozenDict"]):
    """Node name -> state, at one moment; made by ``space.at``."""

    _page = moment_page

    def __init__(self, records: Mapping[str, CommitRecord | HistoryGoneError]) -> None:
        self._records = records

    @property
    def gone(self) -> list[str]:
        """The nodes whose state then is not stored any more."""
        return [name for name, record in self._records.items() if isinstance(record, HistoryGoneError)]

    def __getitem__(self, name: str) -> FrozenDict:
        return self._then(name).get()

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def _then(self, name: str) -> Then:
        record = self._records[name]
        if isinstance(record, HistoryGoneError):
            raise record
        return Then(record)


@dataclass(frozen=True, slots=True)
class Then:
    """A node's state at that moment."""

    record: CommitRecord

    @property
    def revision(self) -> int:
        """Which of its commits it was."""
        return self.record.revision

    def get(self) -> FrozenDict:
        """The frozen state."""
        return self.record.state


class Past:
    """The records of all nodes at one position after another; what was read once is not read again.

    For one task at a time, on the IO thread.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._known: dict[str, list[_Known]] = {}
        self._size = 0
        self._cleared = 0

    async def at(self, position: int) -> dict[str, CommitRecord | HistoryGoneError]:
        """The record of each node that there was at a position, in the order of their names."""
        nodes = self._session.replica.cut().nodes
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
        """Forget all if it is too much, or was cleared since."""
        cleared = await last_clear(self._session.stream)
        if cleared != self._cleared or self._size > KEPT:
            self._known.clear()
            self._size, self._cleared = 0, cleared

    def _find(self, name: str, position: int) -> _Known | None:
        known = self._known.get(name, ())
        return next((each for each in known if each.since <= position <= each.until), None)

    async def _read(self, names: list[str], position: int) -> None:
        stream = self._session.stream
        found = await commits_at_position(stream, names, position)
        for name, record in found.items():
            self._keep(name, record, record.sequence, position)
        turns = asyncio.Semaphore(SIDE_BY_SIDE)

        async def look(name: str) -> None:
            async with turns:
                try:
                    record = await commit_at_position(stream, name, position)
                except HistoryGoneError as gone:
                    self._keep(name, gone, 0, position)
                else:
                    self._keep(name, record, 0 if record is None else record.sequence, position)

        await asyncio.gather(*(look(name) for name in names if name not in found))

    def _keep(self, name: str, what: CommitRecord | HistoryGoneError | None, since: int, until: int) -> None:
        """Note what a node was, from one position to another at least."""
        kept = self._known.setdefault(name, [])
        for each in kept:
            if each.since == since and type(each.what) is type(what):
                each.until = max(each.until, until)
                return
        kept.append(_Known(what, since, until))
        self._size += OVERHEAD + (len(what.body or b"") if isinstance(what, CommitRecord) else 0)


@dataclass(slots=True)
class _Known:
    """What a node was from one position to another."""

    what: CommitRecord | HistoryGoneError | None
    since: int
    until: int


async def records_at(session: Session, position: int) -> dict[str, CommitRecord | HistoryGoneError]:
    """The record of each node at a position."""
    return await Past(session).at(position)
