"""The states of all nodes at one moment of the past."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from happen_nb.errors import HistoryGoneError
from happen_nb.journal import history

if TYPE_CHECKING:
    from happen_nb.model.commits import CommitRecord
    from happen_nb.model.frozen import FrozenDict
    from happen_nb.runtime.session import Session

SIDE_BY_SIDE = 64
"""Requests under way at once where many nodes are looked up."""


class Moment(Mapping[str, "FrozenDict"]):
    """Node name -> state, at one moment; made by ``space.at``."""

    def __init__(self, records: Mapping[str, CommitRecord | HistoryGoneError]) -> None:
        self._records = records

    @property
    def gone(self) -> list[str]:
        """The nodes whose state then is not stored any more."""
        return [name for name, record in self._records.items() if isinstance(record, HistoryGoneError)]

    def __getitem__(self, name: str) -> FrozenDict:
        record = self._records[name]
        if isinstance(record, HistoryGoneError):
            raise record
        return record.state

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def __repr__(self) -> str:
        return f"<{len(self)} nodes at one moment: {', '.join(list(self)[:10])}>"


async def records_at(session: Session, position: int) -> dict[str, CommitRecord | HistoryGoneError]:
    """The record of each node at a position; only those that changed since have to be asked for."""
    cut = session.replica.cut()
    found: dict[str, CommitRecord | HistoryGoneError] = {
        name: record for name, record in cut.nodes.items() if record.sequence <= position
    }
    turns = asyncio.Semaphore(SIDE_BY_SIDE)

    async def look(name: str) -> None:
        async with turns:
            try:
                record = await history.at_position(session.stream, name, position)
            except HistoryGoneError as gone:
                found[name] = gone
            else:
                if record is not None:
                    found[name] = record

    await asyncio.gather(*(look(name) for name in cut.nodes if name not in found))
    return {
        name: record
        for name, record in sorted(found.items())
        if isinstance(record, HistoryGoneError) or not record.deleted
    }
