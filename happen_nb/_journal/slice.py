"""Reading a slice of the journal: events, commits and handlings, and states at a position."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import chain, pairwise
from typing import TYPE_CHECKING

import orjson

from happen_nb._journal.consumer import parse_direct
from happen_nb._journal.wire import UNREAD, Handled, Message
from happen_nb._model.arguments import to_utc
from happen_nb._model.records import CommitRecord, EventRecord, revision_after
from happen_nb.errors import HistoryGoneError, UnknownRevisionError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from nats.aio.msg import Msg

    from happen_nb._journal.consumer import StreamMessage
    from happen_nb._journal.stream import Stream
    from happen_nb._journal.wire import Item
    from happen_nb._model.records import HandledRecord

log = logging.getLogger("happen_nb")

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


async def read_events(
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
        return await with_payloads(stream, await newest_headers(stream, matches, since=since, limit=limit))
    matches = cache(matches)
    first, last = await stream.bounds()
    records = await events_between(stream, max(first, since[0]), last)
    return [record for record in records if record.position > since and matches(record.type)]


async def newest_headers(
    stream: Stream, matches: Callable[[str], object], *, since: Position = (0, 0), limit: int
) -> list[EventRecord]:
    """Read the newest events whose type matches, without the payloads; `with_payloads` adds those."""
    matches = cache(matches)
    first, end = await stream.bounds()
    first = max(first, since[0])
    found: list[EventRecord] = []
    window = max(WINDOW, 2 * limit)
    while end >= first and len(found) < limit:
        start = max(first, end - window + 1)
        there = [
            record for record in await read_window(stream, start, end) if isinstance(record, EventRecord)
        ]
        fitting = [record for record in there if record.position > since and matches(record.type)]
        left = limit - len(found)
        found = [*fitting[max(0, len(fitting) - left) :], *found]
        end, window = start - 1, 2 * window
    return found


async def events_between(stream: Stream, start: int, end: int) -> list[EventRecord]:
    """All events from one sequence to another."""
    subjects = stream.subjects
    own = await _read(stream, subjects.events, start, end)
    commits = await _read(stream, subjects.states, start, end, headers_only=True)
    records = [record for item in (*own, *commits) for record in entries_of(stream.decode(item))]
    events = [record for record in records if isinstance(record, EventRecord)]
    return sorted(events, key=lambda record: record.position)


async def find_events(stream: Stream, ids: Collection[str], *, before: int) -> dict[str, EventRecord]:
    """Events with these ids, as `read_window` gives them.

    They are looked for from a sequence backwards, until all are found.
    """
    first, end, window = (await stream.info()).first, before, WINDOW
    found: dict[str, EventRecord] = {}
    while end >= first and len(found) < len(ids):
        start = max(first, end - window + 1)
        for entry in await read_window(stream, start, end):
            if isinstance(entry, EventRecord) and entry.id in ids:
                found[entry.id] = entry
        end, window = start - 1, 2 * window
    return found


async def read_window(stream: Stream, start: int, end: int) -> list[Entry]:
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


async def with_payloads(stream: Stream, found: Sequence[EventRecord]) -> list[EventRecord]:
    """Events, in the order of the journal, with their payloads; those that are gone by now are left out."""
    unread = [record for record in found if record.payload is UNREAD]
    read: list[EventRecord] = []
    if len(unread) > WINDOW and unread[-1].sequence - unread[0].sequence < SPARSE * len(unread):
        read += await events_between(stream, unread[0].sequence, unread[-1].sequence)
    else:
        for at in range(0, len(unread), WINDOW):
            read += await events_at(stream, [record.sequence for record in unread[at : at + WINDOW]])
    there = {record.position: record for record in read}
    known = [there.get(record.position) if record.payload is UNREAD else record for record in found]
    return [record for record in known if record is not None]


async def events_at(stream: Stream, sequences: Iterable[int]) -> list[EventRecord]:
    """The events at some sequences, asked for side by side."""
    items = await asyncio.gather(*(_at(stream, sequence) for sequence in sequences))
    records = [record for item in items if item is not None for record in entries_of(stream.decode(item))]
    return [record for record in records if isinstance(record, EventRecord)]


async def _at(stream: Stream, sequence: int) -> StreamMessage | None:
    request = orjson.dumps({"seq": sequence})
    get = Message(f"$JS.API.DIRECT.GET.{stream.subjects.stream}", request, {})
    item = parse_direct(await stream.connection.call([get], timeout=stream.timeout, what="reading an event"))
    if item is None and stream.replicas > 1:
        return await stream.get({"seq": sequence})  # the replica that answered may lag
    return item


async def _read(
    stream: Stream, subject: str, start: int, end: int, *, headers_only: bool = False
) -> list[StreamMessage]:
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


async def read_handled(stream: Stream, *, since: int) -> Handlings:
    """What was handled, in the order in which that was stored, after a sequence."""
    items = map(stream.decode, await stream.read(stream.subjects.handled, start=since + 1))
    handled = [item for item in items if isinstance(item, Handled)]
    # A message whose answer was lost is stored twice: no two handlings of a process are the same.
    return Handlings(list({(item.by, item.body): item for item in handled}.values()))


MAX_NODES_PER_REQUEST = 250
"""Nodes that are asked for in one request; a server gives an answer for 1,024 at most."""
BRIEF = 1.0
"""Seconds to wait for all its answers: who is not among them can be asked for one by one."""
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
"""Servers count ns in 64 bits, from 1677 to 2262; what is asked for beyond these is asked for here."""


async def read_commits(
    stream: Stream, node: str | None, *, limit: int | None = None, since: int = 0
) -> list[CommitRecord]:
    """The stored commits of a node, or of all, oldest first.

    Parameters
    ----------
    node : str or None
    limit : int, optional
        Only the newest so many.
    since : int, optional
        Only those after this sequence.
    """
    subjects = stream.subjects
    subject = subjects.states if node is None else subjects.state(node)
    start, previous = since + 1, {}
    if node is not None or limit is not None:
        heads = _number(await stream.read(subject, headers_only=True), stream)
        later = [record for record in heads if record.sequence > since]
        wanted = later[-limit:] if limit else ([] if limit == 0 else later)
        if not wanted:
            return []
        start = wanted[0].sequence
        previous = {record.node: record for record in heads if record.sequence < start}
    records = _number(await stream.read(subject, start=start), stream, previous)
    if node is not None:
        _warn_of_gaps(node, records)
    return records


def _warn_of_gaps(node: str, records: Sequence[CommitRecord]) -> None:
    """Log revisions that are missing between others: nats-server leaves out what it cannot read, silently."""
    for before, after in pairwise(records):
        if after.revision > before.revision + 1:
            log.warning(
                'node "%s": no commit can be read between revisions %s and %s: a file of the store is '
                "damaged, or another client deleted them",
                node,
                f"{before.revision:,}",
                f"{after.revision:,}",
            )


async def oldest_revision(stream: Stream, node: str) -> int:
    """The revision of a node's oldest stored commit; 0 if nothing of it is stored."""
    first = await stream.read(stream.subjects.state(node), headers_only=True, limit=1)
    return _number(first, stream)[0].revision if first else 0


def _number(
    items: list[StreamMessage], stream: Stream, newest: dict[str, CommitRecord] | None = None
) -> list[CommitRecord]:
    """Records with their revisions, also of those that another client wrote."""
    newest = dict(newest or {})
    records = []
    for item in items:
        record = _record(stream, item)
        if not record.revision:
            record.revision = revision_after(newest.get(record.node))
        newest[record.node] = record
        records.append(record)
    return records


def _record(stream: Stream, item: StreamMessage) -> CommitRecord:
    record = stream.decode(item)
    assert isinstance(record, CommitRecord)
    return record


async def commit_at_revision(stream: Stream, node: str, revision: int) -> CommitRecord:
    """The commit that made a revision.

    Raises
    ------
    HistoryGoneError
        It was trimmed.
    UnknownRevisionError
        The node has not got that far.
    """
    heads = _number(await stream.read(stream.subjects.state(node), headers_only=True), stream)
    for record in heads:
        if record.revision == revision:
            found = await stream.read(stream.subjects.state(node), start=record.sequence, limit=1)
            return next(iter(_number(found, stream, {node: _before(record)})))
    if heads and revision > heads[-1].revision:
        newest = heads[-1].revision
        raise UnknownRevisionError(f'node "{node}" has no revision {revision} yet; its newest is {newest}')
    if not heads and not await _cleared_after(stream, 0):
        raise UnknownRevisionError(f'node "{node}" has no revision {revision} yet; it has no commits')
    oldest = f"the oldest is {heads[0].revision}" if heads else "the space was cleared"
    raise HistoryGoneError(f'node "{node}": revision {revision} is not stored any more; {oldest}')


def _before(record: CommitRecord) -> CommitRecord:
    return CommitRecord(record.node, record.sequence - 1, record.revision - 1, record.time, None)


async def commit_at_sequence(stream: Stream, sequence: int) -> CommitRecord | None:
    """The commit at a sequence; None if there is none any more, or something else."""
    found = await stream.read(stream.subjects.states, start=sequence, limit=1)
    return _record(stream, found[0]) if found and found[0].sequence == sequence else None


async def commit_at_position(stream: Stream, node: str, position: int) -> CommitRecord | None:
    """The newest commit of a node at or before `position`; None if it had none then.

    Raises
    ------
    HistoryGoneError
        It was trimmed, or the space was cleared since.
    """
    found = await _last_at(stream, node, position)
    if stream.replicas > 1:
        # A replica that lags answers with an older commit, or with none: is there a later one?
        start = found.sequence + 1 if found is not None else 0
        if await _any_until(stream, node, start, position):
            heads = _number(await stream.read(stream.subjects.state(node), headers_only=True), stream)
            newest = [head for head in heads if head.sequence <= position][-1:]
            return await commit_at_revision(stream, node, newest[0].revision) if newest else None
    if found is None:
        first = await stream.read(stream.subjects.state(node), headers_only=True, limit=1)
        await _must_be_whole(stream, node, position, _number(first, stream))
    return found


async def _any_until(stream: Stream, node: str, start: int, position: int) -> bool:
    """Return whether a node has a commit from one sequence to another."""
    subject = stream.subjects.state(node)
    beyond = await stream.read(
        subject, headers_only=True, start=start, limit=1, enough=lambda item: item.sequence > position
    )
    return bool(beyond)


async def commits_at_position(stream: Stream, nodes: Sequence[str], position: int) -> dict[str, CommitRecord]:
    """`commit_at_position` of many nodes in few requests; those of which this does not tell are left out.

    With replicas it tells of none: any of them may answer, and the one that does may lag.
    """
    found: dict[str, CommitRecord] = {}
    if position and stream.replicas == 1:
        for at in range(0, len(nodes), MAX_NODES_PER_REQUEST):
            for item in await _last_of_each(stream, nodes[at : at + MAX_NODES_PER_REQUEST], position):
                record = _record(stream, item)
                if record.revision:
                    found[record.node] = record
    return found


async def _last_of_each(stream: Stream, nodes: Sequence[str], position: int) -> list[StreamMessage]:
    items: list[StreamMessage] = []
    ended = asyncio.Event()

    async def take(answer: Msg) -> None:
        item = parse_direct(answer)
        if item is None:
            ended.set()
        else:
            items.append(item)

    subjects = [stream.subjects.state(node) for node in nodes]
    request = orjson.dumps({"multi_last": subjects, "up_to_seq": position})
    inbox = stream.connection.new_inbox()
    subscription = await stream.connection.subscribe(inbox, take)
    try:
        await stream.connection.send(f"$JS.API.DIRECT.GET.{stream.subjects.stream}", request, reply=inbox)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), BRIEF)
    finally:
        await stream.connection.unsubscribe(subscription)
    return items


async def last_clear(stream: Stream) -> int:
    """Where the space was cleared last; 0 if it never was."""
    item = await stream.get({"last_by_subj": stream.subjects.clear})
    return 0 if item is None else item.sequence


async def _last_at(stream: Stream, node: str, position: int) -> CommitRecord | None:
    if not position:
        return None  # to the server, up to 0 means up to the end
    subject = stream.subjects.state(node)
    request = orjson.dumps({"multi_last": [subject], "up_to_seq": position})
    get = Message(f"$JS.API.DIRECT.GET.{stream.subjects.stream}", request, {})
    answer: Msg = await stream.connection.call([get], timeout=stream.timeout, what=f'node "{node}"')
    item = parse_direct(answer)
    if item is None:
        return None
    record = _record(stream, item)
    if not record.revision:
        heads = _number(await stream.read(subject, headers_only=True), stream)
        record.revision = next(head.revision for head in heads if head.sequence == item.sequence)
    return record


async def commits_before(stream: Stream, records: Sequence[CommitRecord]) -> dict[str, CommitRecord]:
    """What each node was before the first of its `records`, where that is stored."""
    first: dict[str, CommitRecord] = {}
    for record in records:
        if record.node not in first:
            first[record.node] = record
    wanted = {name: record for name, record in first.items() if record.revision > 1}
    found: dict[str, CommitRecord] = {}
    if len(wanted) > 1:  # one request for all, where nothing of them lies between
        begin = min(record.sequence for record in wanted.values())
        there = await commits_at_position(stream, list(wanted), begin - 1)
        found = {name: each for name, each in there.items() if each.revision == wanted[name].revision - 1}
    for name, record in wanted.items():
        if name not in found:
            with contextlib.suppress(HistoryGoneError):  # it was trimmed: the commit says so itself
                before = await commit_at_position(stream, name, record.sequence - 1)
                found |= {} if before is None else {name: before}
    return found


async def _must_be_whole(stream: Stream, node: str, position: int, first: list[CommitRecord]) -> None:
    trimmed = bool(first) and first[0].revision > 1
    if trimmed or await _cleared_after(stream, position):
        raise HistoryGoneError(
            f'node "{node}": what it was at that moment is not stored any more; '
            "connect with a larger history to keep more"
        )


async def _cleared_after(stream: Stream, position: int) -> bool:
    return bool(await stream.read(stream.subjects.clear, start=position + 1, headers_only=True, limit=1))


async def position_at_time(stream: Stream, moment: datetime) -> int:
    """The sequence of the last message stored at or before a moment, which is a whole microsecond."""
    moment = min(max(to_utc(moment), EARLIEST), LATEST)
    after = moment + timedelta(microseconds=1)
    start = after.isoformat().replace("+00:00", "Z")
    _, last = await stream.bounds()
    if stream.replicas == 1:
        later = await stream.read(">", start=start, headers_only=True, limit=1)
        return later[0].sequence - 1 if later else last
    newest = await stream.get({"seq": last})
    if newest is None or newest.time < round(after.timestamp() * 1e6) * 1000:
        return last
    found: list[int] = []

    def reached(item: StreamMessage) -> bool:
        late = item.time >= round(after.timestamp() * 1e6) * 1000
        found.extend([item.sequence] if late else ())
        return late

    await stream.read(">", start=start, headers_only=True, enough=reached)
    return found[0] - 1 if found else last


def position_of(entry: Entry) -> Position:
    """The position of an entry; a commit comes just before the events that it carries."""
    return (entry.sequence, -1) if isinstance(entry, CommitRecord) else entry.position


async def read_entries(stream: Stream, *, since: Position = (0, 0), limit: int | None = None) -> list[Entry]:
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
    entries = [entry for item in items for entry in entries_of(stream.decode(item))]
    await _number_entries(stream, entries)
    later = [entry for entry in entries if position_of(entry) > since]
    return later if limit is None else later[-limit:]


async def _start_of(stream: Stream, first: int, last: int, since: Position, limit: int) -> int:
    """The sequence from which the newest `limit` entries are stored."""
    window, found, end = max(WINDOW, 2 * limit), 0, last
    while end >= first:
        start = max(first, end - window + 1)
        positions = [position_of(entry) for entry in await read_window(stream, start, end)]
        later = [position for position in positions if position > since]
        if found + len(later) >= limit:
            return later[found - limit][0]
        found, end, window = found + len(later), start - 1, 2 * window
    return first


async def _number_entries(stream: Stream, entries: list[Entry]) -> None:
    """Number the commits of other clients, which carry no revision."""
    newest: dict[str, CommitRecord | None] = {}
    for record in entries:
        if not isinstance(record, CommitRecord):
            continue
        if not record.revision:
            if record.node not in newest:
                newest[record.node] = await _commit_before(stream, record)
            record.revision = revision_after(newest[record.node])
        newest[record.node] = record


async def _commit_before(stream: Stream, record: CommitRecord) -> CommitRecord | None:
    with contextlib.suppress(HistoryGoneError):  # it was trimmed, and with it the number
        return await commit_at_position(stream, record.node, record.sequence - 1)
    return None
