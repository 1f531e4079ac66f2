"""Read a stretch of the journal: its commits, events and handlings; and states at a position."""

from __future__ import annotations

import asyncio
import sys
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING, NamedTuple

from happen_nb._journal.commits import with_previous
from happen_nb._journal.consumer import StreamMessage, to_ns
from happen_nb._journal.decoding import UNREAD, Clear, Handled, Item
from happen_nb._journal.scheduled import Ended, Scheduled
from happen_nb._model.arguments import to_utc
from happen_nb._model.positions import Position
from happen_nb._model.records import CommitRecord, EventRecord, HandledRecord
from happen_nb._model.schedules import REAL_CLOCK, ClockMoves, ClockRecord, utc_text

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence

    from happen_nb._journal.stream import Info, Stream
    from happen_nb._model.causality import CommitPair

WINDOW = 256  # messages in the first step of a search backwards; each next step reads twice as many
MAX_PULLED = 10_000  # messages of a window that is pulled; a larger one is pushed
SMALL_BYTES = 500_000  # a journal up to this size is read with all its bodies at once
SPARSE = 4  # of a stretch this many times as long, the wanted messages are read one by one
WINDOW_MESSAGES = 2_000  # messages of a long stretch that are read at once, from the oldest
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)  # servers count ns in 64 bits, from 1677 to 2262;
LATEST = datetime(2200, 1, 1, tzinfo=UTC)  # times beyond these mean these
Entry = CommitRecord | EventRecord  # a commit or an event


class Handlings:
    """Handlings, decoded anew at each iteration: there may be ten for an event, and few are kept."""

    def __init__(self, items: Sequence[Handled]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[HandledRecord]:
        return chain.from_iterable(item.records() for item in self.items)


class Slice(NamedTuple):
    """A stretch of the journal in its order, up to the sequence ``last``.

    ``complete`` means that all bodies were read, and the handlings too; else commits have no state, and
    events that have their own message have `UNREAD` as payload.
    """

    entries: list[Entry]
    last: int
    handled: Sequence[Handled] = ()
    complete: bool = False

    @property
    def events(self) -> list[EventRecord]:
        return [entry for entry in self.entries if isinstance(entry, EventRecord)]

    @property
    def commits(self) -> list[CommitRecord]:
        return [entry for entry in self.entries if isinstance(entry, CommitRecord)]


def entry_position(entry: Entry) -> Position:
    """Return the position of an entry; a commit comes just before the events that it carries."""
    return (entry.sequence, -1) if isinstance(entry, CommitRecord) else entry.position


def entries_of(items: Iterable[Item]) -> Iterator[Entry]:
    """Yield the commits and events in messages, each commit just before the events that it carries."""
    for item in items:
        if isinstance(item, CommitRecord):
            yield item
            yield from item.events
        elif isinstance(item, EventRecord):
            yield item


def _events_of(items: Iterable[Item]) -> list[EventRecord]:
    return [entry for entry in entries_of(items) if isinstance(entry, EventRecord)]


# -- stretches ---------------------------------------------------------------------------------------


async def newest_slice(
    stream: Stream,
    keep: Callable[[Entry], bool],
    *,
    since: Position = (0, 0),
    limit: int,
    counts: Callable[[Entry], bool] | None = None,
) -> Slice:
    """Read the newest entries after a position that `keep` accepts; at least `limit` satisfy `counts`.

    A small journal is read in one pass, with everything. Of a large one, only headers are read, in a backward
    search; `read_changes` and `with_payloads` then read the bodies that are needed.
    """
    info = await stream.exact_info()
    if info.bytes <= SMALL_BYTES:
        found = await _read_all(stream, info, since)
        return found._replace(entries=list(filter(keep, found.entries)))
    kept: list[Entry] = []
    count = 0
    async for entries in _backwards(stream, max(info.first, since[0]), info.last, max(WINDOW, 2 * limit)):
        older = [entry for entry in _after(entries, since) if keep(entry)]
        kept = [*older, *kept]
        count += len(older) if counts is None else sum(map(counts, older))
        if count >= limit:
            break
    return Slice(kept, info.last)


def _after(entries: list[Entry], since: Position) -> list[Entry]:
    """Return the entries after a position; they are in order."""
    return entries[bisect_right(entries, since, key=entry_position) :]


async def _read_all(stream: Stream, info: Info, since: Position) -> Slice:
    """Read everything after a position in one pass."""
    subjects = stream.subjects
    kinds = [subjects.states, subjects.events, subjects.handled]
    decoded = await _decoded(stream, kinds, max(info.first, since[0]), info.last)
    entries = _after(list(entries_of(decoded)), since)
    return Slice(entries, info.last, [item for item in decoded if isinstance(item, Handled)], complete=True)


async def _decoded(
    stream: Stream, kinds: str | list[str], start: int, end: int, *, headers_only: bool = False
) -> list[Item]:
    """Read the messages of some kinds from one sequence to another."""
    if start > end:
        return []
    items = await stream.read(
        kinds,
        start=start,
        headers_only=headers_only,
        limit=end - start + 1,  # otherwise a server pushes many messages after the end
        end=end,
    )
    return await stream.admitted([stream.decode(item) for item in items], start)


async def _backwards(stream: Stream, first: int, end: int, window: int) -> AsyncIterator[list[Entry]]:
    """Yield the entries of one window after the other, without bodies, from `end` back to `first`."""
    while end >= first:
        start = max(first, end - window + 1)
        yield await read_window(stream, start, end)
        end, window = start - 1, 2 * window


async def read_window(stream: Stream, start: int, end: int) -> list[Entry]:
    """Read all commits and events from one sequence to another, without bodies.

    A server counts the matches of a filter in the whole stream before it delivers the first message, so a
    short stretch of a long journal is read without a filter.
    """
    kinds = stream.subjects.state_prefix, stream.subjects.event_prefix
    return list(entries_of(await _window(stream, start, end, kinds)))


async def _window(stream: Stream, start: int, end: int, kinds: tuple[str, ...]) -> list[Item]:
    """Read the messages whose subjects have certain prefixes, without bodies."""
    size = end - start + 1
    if size <= 0:
        return []
    items = await stream.read(
        ">", start=start, headers_only=True, limit=size if size <= MAX_PULLED else None, end=end
    )
    wanted = [stream.decode_head(item) for item in items if item.subject.startswith(kinds)]
    return await stream.admitted(wanted, start)


async def read_entries(stream: Stream, *, since: Position = (0, 0), limit: int | None = None) -> list[Entry]:
    """Read the commits and events after a position, or the newest of them, oldest first."""
    if limit is None:
        last = (await stream.exact_info()).last
    else:
        found = await newest_slice(stream, lambda _: True, since=since, limit=limit)
        entries, last = found.entries[max(0, len(found.entries) - limit) :], found.last
        if found.complete or not entries:
            return entries
        sequence, index = entry_position(entries[0])
        since = sequence, index - 1
    subjects = stream.subjects
    decoded = await _decoded(stream, [subjects.states, subjects.events], max(1, since[0]), last)
    return _after(list(entries_of(decoded)), since)


async def read_changes(
    stream: Stream, found: Slice, start: int, *, states: bool = True
) -> tuple[list[CommitPair], Handlings]:
    """Return the commits of a slice from a sequence on, each with the one before it, and the handlings.

    Without `states`, the commits may lack their states and come without the ones before them: `applied_at`
    reads both of one that is looked at.
    """
    commits = [record for record in found.commits if record.sequence >= start]
    handled = [item for item in found.handled if item.sequence >= start]
    if not found.complete:
        subjects = stream.subjects
        kinds = [subjects.states, subjects.handled] if states else [subjects.handled]
        decoded = await _decoded(stream, kinds, start, found.last)
        handled = [item for item in decoded if isinstance(item, Handled)]
        if states:
            commits = [item for item in decoded if isinstance(item, CommitRecord)]
    is_numbered = all(record.revision for record in commits)  # unless another client wrote one
    pairs: list[CommitPair] = [(record, None) for record in commits]
    if states or not is_numbered:
        pairs = await with_previous(stream, commits)
    return pairs, Handlings(unique(handled))


async def read_handled(stream: Stream, *, since: int) -> Handlings:
    """Read the handlings after a sequence, in the order in which they were stored."""
    items = map(stream.decode, await stream.read(stream.subjects.handled, start=since + 1))
    return Handlings(unique([item for item in items if isinstance(item, Handled)]))


def unique(handled: list[Handled]) -> list[Handled]:
    """Return handlings without those that are stored twice."""
    # A message whose answer was lost is stored twice: no two handlings of a process are the same.
    return list({(item.by, item.body): item for item in handled}.values())


# -- events ------------------------------------------------------------------------------------------


async def read_events(
    stream: Stream, matches: Callable[[str], object], *, since: Position = (0, 0), limit: int | None = None
) -> list[EventRecord]:
    """Read the events after a position whose type matches, or the newest of them, oldest first."""
    if limit is not None:
        return await with_payloads(stream, await newest_events(stream, matches, since=since, limit=limit))
    matches = cache(matches)
    info = await stream.exact_info()
    if info.bytes <= SMALL_BYTES:
        records = (await _read_all(stream, info, since)).events
    else:
        records = await events_between(stream, max(info.first, since[0]), info.last)
    return [record for record in records if record.position > since and matches(record.type)]


async def newest_events(
    stream: Stream, matches: Callable[[str], object], *, since: Position = (0, 0), limit: int
) -> list[EventRecord]:
    """Read the newest events whose type matches; `with_payloads` adds the payloads that are `UNREAD`."""
    matches = cache(matches)
    found = await newest_slice(
        stream,
        lambda entry: isinstance(entry, EventRecord) and bool(matches(entry.type)),
        since=since,
        limit=limit,
    )
    return found.events[max(0, len(found.entries) - limit) :]


def windows(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut a long stretch of the journal into parts, from the first to the last sequence of each."""
    for first in range(start, end + 1, WINDOW_MESSAGES):
        yield first, min(end, first + WINDOW_MESSAGES - 1)


async def events_between(stream: Stream, start: int, end: int) -> list[EventRecord]:
    """Read all events of a long stretch; those on commits are in headers, so no states are read."""
    own = _events_of(await _decoded(stream, stream.subjects.events, start, end))
    commits = await _decoded(stream, stream.subjects.states, start, end, headers_only=True)
    riding = _events_of(commits)
    return sorted([*own, *riding], key=attrgetter("position")) if riding else own


async def find_events(stream: Stream, ids: Collection[str], *, before: int) -> dict[str, EventRecord]:
    """Search for the events with these ids from a sequence backwards; their payloads may be `UNREAD`."""
    found: dict[str, EventRecord] = {}
    async for entries in _backwards(stream, (await stream.info()).first, before, WINDOW):
        found |= {each.id: each for each in entries if isinstance(each, EventRecord) and each.id in ids}
        if len(found) >= len(ids):
            break
    return found


async def read_keyed(stream: Stream, start: int, end: int) -> list[Entry | Ended]:
    """Read what durable handlers have stored from one sequence to another, without bodies."""
    found: list[Entry | Ended] = []
    subjects = stream.subjects
    kinds = subjects.state_prefix, subjects.event_prefix, subjects.alarm_prefix
    for item in await _window(stream, start, end, kinds):
        if isinstance(item, Scheduled) and item.alarm.event is not None:
            found.append(item.alarm.event)
        elif isinstance(item, Ended):
            found.append(item)
        else:
            found += entries_of([item])
    return [each for each in found if isinstance(each, Ended) or each.key is not None]


async def with_payloads(stream: Stream, found: Sequence[EventRecord]) -> list[EventRecord]:
    """Read the payloads that are `UNREAD`; events that are gone meanwhile are left out."""
    unread = [record for record in found if record.payload is UNREAD]
    read: list[EventRecord] = []
    if len(unread) > WINDOW and unread[-1].sequence - unread[0].sequence < SPARSE * len(unread):
        read = await events_between(stream, unread[0].sequence, unread[-1].sequence)
    else:
        for at in range(0, len(unread), WINDOW):
            read += await events_at(stream, [record.sequence for record in unread[at : at + WINDOW]])
    there = {record.position: record for record in read}
    known = [there.get(record.position) if record.payload is UNREAD else record for record in found]
    return [record for record in known if record is not None]


async def events_at(stream: Stream, sequences: Iterable[int]) -> list[EventRecord]:
    """Read the events at some sequences, side by side."""
    items = await asyncio.gather(*(_message_at(stream, sequence) for sequence in sequences))
    return _events_of(stream.decode(item) for item in items if item is not None)


async def event_at(stream: Stream, sequence: int, id: str) -> EventRecord | None:
    """Read the event with an id that is stored or scheduled at a sequence; None if it is gone."""
    found = await stream.get({"seq": sequence})
    if found is None:
        return None
    item = stream.decode(found)
    if isinstance(item, Scheduled):
        return item.alarm.event
    return next((event for event in _events_of([item]) if event.id == id), None)


async def alarms_at(stream: Stream, sequences: Sequence[int]) -> list[EventRecord]:
    """Read the scheduled events whose alarms are at some sequences; those that are gone are left out."""
    if len(sequences) > WINDOW:  # then one by one takes longer than all of them
        stored = {item.sequence: item for item in await stream.read(stream.subjects.alarms)}
        items = [stored.get(sequence) for sequence in sequences]
    else:
        items = await asyncio.gather(*(_message_at(stream, sequence) for sequence in sequences))
    decoded = [stream.decode(item) for item in items if item is not None]
    found = [item.alarm.event for item in decoded if isinstance(item, Scheduled)]
    return [event for event in found if event is not None]


async def _message_at(stream: Stream, sequence: int) -> StreamMessage | None:
    item = await stream.get_direct({"seq": sequence}, "reading an event")
    if item is None and stream.replicas > 1:
        return await stream.get({"seq": sequence})  # the replica that answered may lag
    return item


async def last_clear(stream: Stream) -> int:
    """Return the sequence of the newest clear; 0 if the space never was cleared."""
    item = await stream.newest(stream.subjects.clear)
    return 0 if item is None else item.sequence


async def position_at_time(stream: Stream, moment: datetime) -> int:
    """Return the sequence of the last message stored at or before a time, to the microsecond."""
    moment = min(max(to_utc(moment), EARLIEST), LATEST)
    after = moment + timedelta(microseconds=1)
    start, limit = after.isoformat().replace("+00:00", "Z"), to_ns(after)
    last = (await stream.exact_info()).last
    if stream.replicas == 1:
        later = await stream.read(">", start=start, headers_only=True, limit=1)
        return later[0].sequence - 1 if later else last
    newest = await stream.get({"seq": last})  # None if it was a barrier, and another one has replaced it
    if newest is not None and newest.time < limit:
        return last
    found: list[int] = []

    def reached(item: StreamMessage) -> bool:
        late = item.time >= limit
        found.extend([item.sequence] if late else ())
        return late

    await stream.read(">", start=start, headers_only=True, enough=reached)
    return found[0] - 1 if found else last


async def position_at_space_time(stream: Stream, moment: datetime) -> int:
    """Return the sequence of the last message that was stored while a manual clock was not after a time."""
    last = (await stream.exact_info()).last
    now = utc_text(moment)
    return next((clock.sequence - 1 for clock in await clocks_until(stream, last) if clock.now > now), last)


async def clocks_until(stream: Stream, last: int, *, start: int = 1) -> list[ClockRecord]:
    """Return the times of a manual clock up to a sequence, from its start or the newest clear on.

    A later `start` is a sequence.
    """
    subjects = stream.subjects
    items = map(stream.decode, await stream.read([subjects.clear, subjects.clock], start=start))
    records = [_clock_of(item) if isinstance(item, Clear) else item for item in items]
    return [each for each in records if isinstance(each, ClockRecord) and each.sequence <= last]


class ClockReader:
    """Reads the moves of a manual clock, and then repeatedly the new ones."""

    def __init__(self) -> None:
        self._moves = REAL_CLOCK
        self._newest: ClockRecord | None = None
        self._next = 1

    async def read(self, stream: Stream, newest: ClockRecord, *, again: bool = False) -> ClockMoves:
        """Return all moves; ask the server if the `newest` one is not known yet, or `again`."""
        if again or newest != self._newest:
            moves, start = self._moves, self._next
            records = await clocks_until(stream, sys.maxsize, start=start)
            # All at once, and from what this call began with: another one may have read meanwhile.
            self._moves = moves.followed_by(records)
            self._next = max([start, *(record.sequence + 1 for record in records)])
            self._newest = newest
        return self._moves


def _clock_of(clear: Clear) -> ClockRecord | None:
    return None if clear.clock is None else clear.clock._replace(sequence=clear.sequence)
