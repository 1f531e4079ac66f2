"""What the journal holds of events: those that were stored, and what was done with them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from happen_nb.journal.read import read
from happen_nb.journal.wire import Handled, decode
from happen_nb.model.commits import CommitRecord, EventRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from happen_nb.journal.read import Stored
    from happen_nb.journal.stream import Stream
    from happen_nb.model.commits import HandledRecord

WINDOW = 256
"""Messages that are looked through first where only the newest are asked for."""
PULLED = 10_000
"""Messages in a window that is still pulled; a larger one is pushed."""

Position = tuple[int, int]
"""A sequence, and which of the events of one commit."""


async def events(
    stream: Stream,
    matches: Callable[[str], object],
    *,
    since: Position = (0, 0),
    limit: int | None = None,
) -> list[EventRecord]:
    """The stored events whose type matches, oldest first.

    Parameters
    ----------
    matches : callable
        Tells of a type whether it does.
    since : (int, int), optional
        Only those after this position.
    limit : int, optional
        Only the newest so many; it costs the tail of the journal that holds them.
    """
    info = await stream.info()
    first, end = max(info.first, since[0]), info.last
    window = end - first + 1 if limit is None else max(WINDOW, 2 * limit)
    found: list[EventRecord] = []
    while end >= first and (limit is None or len(found) < limit):
        start = max(first, end - window + 1)
        earlier = await _between(stream, start, end)
        found = [e for e in earlier if e.position > since and matches(e.type)] + found
        end, window = start - 1, 2 * window
    return found if limit is None else found[max(0, len(found) - limit) :]


async def _between(stream: Stream, start: int, end: int) -> list[EventRecord]:
    """All events from one sequence to another."""
    subjects = stream.subjects
    own = await _read(stream, subjects.events, start, end)
    commits = await _read(stream, subjects.states, start, end, headers_only=True)
    records: list[EventRecord] = []
    for item in (*own, *commits):
        record = _decode(stream, item)
        if isinstance(record, CommitRecord):
            records += record.events
        elif isinstance(record, EventRecord):
            records.append(record)
    return sorted(records, key=lambda record: record.position)


async def _read(
    stream: Stream, subject: str, start: int, end: int, *, headers_only: bool = False
) -> list[Stored]:
    size = end - start + 1
    return await read(
        stream.connection,
        stream.subjects.stream,
        subject,
        start=start,
        headers_only=headers_only,
        limit=size if size <= PULLED else None,
        enough=lambda item: item.sequence > end,
        timeout=stream.timeout,
    )


def _decode(stream: Stream, item: Stored) -> object:
    return decode(stream.subjects, item.subject, item.headers, item.body, item.sequence, item.time)


async def handled(stream: Stream, *, since: int) -> list[HandledRecord]:
    """What was handled, in the order in which that was stored, after a sequence."""
    items = await read(
        stream.connection,
        stream.subjects.stream,
        stream.subjects.handled,
        start=since + 1,
        timeout=stream.timeout,
    )
    records: list[HandledRecord] = []
    for item in items:
        record = _decode(stream, item)
        if isinstance(record, Handled):
            records += record.records()
    return records
