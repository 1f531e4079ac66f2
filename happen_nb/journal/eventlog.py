"""What the journal holds of events: those that were stored, and what was done with them."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

from happen_nb.journal.read import read
from happen_nb.journal.wire import Handled, Message, decode
from happen_nb.model.commits import CommitRecord, EventRecord
from happen_nb.model.values import loads

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
    if limit is None:
        records = await _between(stream, first, end)
        return [record for record in records if record.position > since and matches(record.type)]
    found: list[EventRecord] = []
    window = max(WINDOW, 2 * limit)
    while end >= first and len(found) < limit:
        start = max(first, end - window + 1)
        heads = await _heads(stream, start, end)
        fitting = [record for record in heads if record.position > since and matches(record.type)]
        left = limit - len(found)
        found = [*fitting[max(0, len(fitting) - left) :], *found]
        end, window = start - 1, 2 * window
    whole = await asyncio.gather(*(_whole(stream, record) for record in found))
    return [record for record in whole if record is not None]


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


async def _heads(stream: Stream, start: int, end: int) -> list[EventRecord]:
    """The same without the payloads of events that have a message of their own.

    A server counts what a filter matches in the whole stream before it gives the first message, so a short
    stretch of a long journal is read without a filter, and without bodies.
    """
    records: list[EventRecord] = []
    for item in await _read(stream, ">", start, end, headers_only=True):
        is_event = item.subject.startswith(stream.subjects.event_prefix)
        record = _decode(stream, replace(item, body=b"null") if is_event else item)
        if isinstance(record, CommitRecord):
            records += record.events
        elif isinstance(record, EventRecord):
            records.append(replace(record, payload=_UNREAD))
    return records


_UNREAD = object()


async def _whole(stream: Stream, record: EventRecord) -> EventRecord | None:
    """An event with its payload; None if it is gone by now."""
    if record.payload is not _UNREAD:
        return record
    request = orjson.dumps({"seq": record.sequence})
    get = Message(f"$JS.API.DIRECT.GET.{stream.subjects.stream}", request, {})
    answer = await stream.connection.call([get], timeout=stream.timeout, what="reading an event")
    if "Status" in (answer.headers or {}):
        return None
    return replace(record, payload=loads(answer.data))


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
