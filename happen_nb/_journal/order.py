"""Commits and events in the one total order of the journal."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from happen_nb._journal import eventlog, history
from happen_nb._model.records import CommitRecord, revision_after
from happen_nb.errors import HistoryGoneError

if TYPE_CHECKING:
    from happen_nb._journal.eventlog import Entry, Position
    from happen_nb._journal.stream import Stream


def position_of(entry: Entry) -> Position:
    """The position of an entry; a commit comes just before the events that it carries."""
    return (entry.sequence, -1) if isinstance(entry, CommitRecord) else entry.position


async def everything(stream: Stream, *, since: Position = (0, 0), limit: int | None = None) -> list[Entry]:
    """Read the stored commits and events, oldest first.

    Parameters
    ----------
    since : (int, int), optional
        Only those after this position.
    limit : int, optional
        Only the newest ones; reads the tail of the journal that holds them.
    """
    if limit == 0:
        return []
    first, last = await stream.bounds()
    start = max(first, since[0])
    if limit is not None:
        start = await _start_of(stream, start, last, since, limit)
    subjects = [stream.subjects.states, stream.subjects.events]
    items = await stream.read(subjects, start=start, enough=lambda item: item.sequence > last)
    entries = [entry for item in items for entry in eventlog.entries_of(stream.decode(item))]
    await _number(stream, entries)
    later = [entry for entry in entries if position_of(entry) > since]
    return later if limit is None else later[-limit:]


async def _start_of(stream: Stream, first: int, last: int, since: Position, limit: int) -> int:
    """The sequence from which the newest `limit` entries are stored."""
    window, found, end = max(eventlog.WINDOW, 2 * limit), 0, last
    while end >= first:
        start = max(first, end - window + 1)
        positions = [position_of(entry) for entry in await eventlog.entries(stream, start, end)]
        later = [position for position in positions if position > since]
        if found + len(later) >= limit:
            return later[found - limit][0]
        found, end, window = found + len(later), start - 1, 2 * window
    return first


async def _number(stream: Stream, entries: list[Entry]) -> None:
    """Number the commits of other clients, which carry no revision."""
    newest: dict[str, CommitRecord | None] = {}
    for record in entries:
        if not isinstance(record, CommitRecord):
            continue
        if not record.revision:
            if record.node not in newest:
                newest[record.node] = await _before(stream, record)
            record.revision = revision_after(newest[record.node])
        newest[record.node] = record


async def _before(stream: Stream, record: CommitRecord) -> CommitRecord | None:
    with suppress(HistoryGoneError):  # it was trimmed, and with it the number
        return await history.at_position(stream, record.node, record.sequence - 1)
    return None
