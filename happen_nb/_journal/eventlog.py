"""What the journal holds of events: those that were stored, and what was done with them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING

import orjson

from happen_nb._journal.handlings import Handled
from happen_nb._journal.read import direct
from happen_nb._journal.wire import UNREAD, Message
from happen_nb._model.records import CommitRecord, EventRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from happen_nb._journal.read import Stored
    from happen_nb._journal.stream import Stream
    from happen_nb._journal.wire import Item
    from happen_nb._model.records import HandledRecord

WINDOW = 256
"""Messages that are looked through first where only the newest are asked for."""
PULLED = 10_000
"""Messages in a window that is still pulled; a larger one is pushed."""
SPARSE = 4
"""Of so many times as many messages, those that are wanted are read one by one."""

Position = tuple[int, int]
"""A sequence, and which of the events of one commit."""
Entry = CommitRecord | EventRecord
"""What a person finds in the journal."""


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
    if limit is not None:
        return await whole(stream, await heads(stream, matches, since=since, limit=limit))
    matches = cache(matches)
    first, last = await stream.bounds()
    records = await between(stream, max(first, since[0]), last)
    return [record for record in records if record.position > since and matches(record.type)]


async def heads(
    stream: Stream, matches: Callable[[str], object], *, since: Position = (0, 0), limit: int
) -> list[EventRecord]:
    """The newest events whose type matches, as `entries` gives them; `whole` reads the rest of them."""
    matches = cache(matches)
    first, end = await stream.bounds()
    first = max(first, since[0])
    found: list[EventRecord] = []
    window = max(WINDOW, 2 * limit)
    while end >= first and len(found) < limit:
        start = max(first, end - window + 1)
        there = [record for record in await entries(stream, start, end) if isinstance(record, EventRecord)]
        fitting = [record for record in there if record.position > since and matches(record.type)]
        left = limit - len(found)
        found = [*fitting[max(0, len(fitting) - left) :], *found]
        end, window = start - 1, 2 * window
    return found


async def between(stream: Stream, start: int, end: int) -> list[EventRecord]:
    """All events from one sequence to another."""
    subjects = stream.subjects
    own = await _read(stream, subjects.events, start, end)
    commits = await _read(stream, subjects.states, start, end, headers_only=True)
    records = [record for item in (*own, *commits) for record in entries_of(stream.decode(item))]
    events = [record for record in records if isinstance(record, EventRecord)]
    return sorted(events, key=lambda record: record.position)


async def by_id(stream: Stream, ids: Collection[str], *, before: int) -> dict[str, EventRecord]:
    """Events with these ids, as `entries` gives them.

    They are looked for from a sequence backwards, until all are found.
    """
    first, end, window = (await stream.info()).first, before, WINDOW
    found: dict[str, EventRecord] = {}
    while end >= first and len(found) < len(ids):
        start = max(first, end - window + 1)
        for entry in await entries(stream, start, end):
            if isinstance(entry, EventRecord) and entry.id in ids:
                found[entry.id] = entry
        end, window = start - 1, 2 * window
    return found


async def entries(stream: Stream, start: int, end: int) -> list[Entry]:
    """All commits and events from one sequence to another, as far as their headers tell.

    States cannot be read, and events that have a message of their own have `UNREAD` as payload. A server
    counts what a filter matches in the whole stream before it gives the first message, so a short stretch of
    a long journal is read without a filter, and without bodies.
    """
    found: list[Entry] = []
    for item in await _read(stream, ">", start, end, headers_only=True):
        found += entries_of(stream.head(item))
    return found


def entries_of(item: Item) -> tuple[Entry, ...]:
    """The commit or event that a message is, then the events that it carries."""
    if isinstance(item, CommitRecord):
        return (item, *item.events)
    return (item,) if isinstance(item, EventRecord) else ()


async def whole(stream: Stream, found: Sequence[EventRecord]) -> list[EventRecord]:
    """Events, in the order of the journal, with their payloads; those that are gone by now are left out."""
    unread = [record for record in found if record.payload is UNREAD]
    read: list[EventRecord] = []
    if len(unread) > WINDOW and unread[-1].sequence - unread[0].sequence < SPARSE * len(unread):
        read += await between(stream, unread[0].sequence, unread[-1].sequence)
    else:
        for at in range(0, len(unread), WINDOW):
            read += await at_each(stream, [record.sequence for record in unread[at : at + WINDOW]])
    there = {record.position: record for record in read}
    known = [there.get(record.position) if record.payload is UNREAD else record for record in found]
    return [record for record in known if record is not None]


async def at_each(stream: Stream, sequences: Iterable[int]) -> list[EventRecord]:
    """The events at some sequences, asked for side by side."""
    items = await asyncio.gather(*(_at(stream, sequence) for sequence in sequences))
    records = [record for item in items if item is not None for record in entries_of(stream.decode(item))]
    return [record for record in records if isinstance(record, EventRecord)]


async def _at(stream: Stream, sequence: int) -> Stored | None:
    request = orjson.dumps({"seq": sequence})
    get = Message(f"$JS.API.DIRECT.GET.{stream.subjects.stream}", request, {})
    item = direct(await stream.connection.call([get], timeout=stream.timeout, what="reading an event"))
    if item is None and stream.replicas > 1:
        return await stream.get({"seq": sequence})  # the replica that answered may lag
    return item


async def _read(
    stream: Stream, subject: str, start: int, end: int, *, headers_only: bool = False
) -> list[Stored]:
    size = end - start + 1
    if size <= 0:
        return []
    return await stream.read(
        subject,
        start=start,
        headers_only=headers_only,
        limit=size if size <= PULLED else None,
        enough=lambda item: item.sequence > end,
    )


@dataclass(frozen=True, slots=True)
class Handlings:
    """What was handled, decoded anew each time: there may be ten of an event, and few are kept."""

    items: Sequence[Handled]

    def __iter__(self) -> Iterator[HandledRecord]:
        return chain.from_iterable(item.records() for item in self.items)


async def handled(stream: Stream, *, since: int) -> Handlings:
    """What was handled, in the order in which that was stored, after a sequence."""
    items = map(stream.decode, await stream.read(stream.subjects.handled, start=since + 1))
    handled = [item for item in items if isinstance(item, Handled)]
    # A message whose answer was lost is stored twice: no two handlings of a process are the same.
    return Handlings(list({(item.by, item.body): item for item in handled}.values()))
