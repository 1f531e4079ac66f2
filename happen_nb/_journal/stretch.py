"""Read a stretch of the journal with its effects; copy a stream to a new space."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from happen_nb._journal.client import server_error
from happen_nb._journal.commits import oldest_revision, with_previous
from happen_nb._journal.decoding import CallResult, Handled
from happen_nb._journal.encoding import encode_alarm
from happen_nb._journal.publish import store_messages
from happen_nb._journal.scheduled import Ended
from happen_nb._journal.slice import (
    Entry,
    Handlings,
    clocks_until,
    entries_of,
    entry_position,
    last_clear,
    unique,
)
from happen_nb._journal.stream import Stream
from happen_nb._journal.wire import ARGUMENTS, Subjects
from happen_nb._model.causality import CommitPair
from happen_nb._model.records import CommitRecord, EventRecord, OwnerRecord
from happen_nb._model.schedules import START, Cancel, ClockRecord
from happen_nb.errors import HappenTimeoutError, SpaceNotEmptyError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from happen_nb._journal.connection import Connection
    from happen_nb._model.positions import Position

KINDS: Final = ("event", "owner", "handled", "start", "passed", "durable", "once")
"""The messages that are copied, with the states, the clock and the clear.

Alarms are stored again: they name the old subject.
"""
POLL_SECONDS: Final = 0.02


class Stretch(NamedTuple):
    """A stretch of the journal, with everything that belongs to it."""

    entries: list[CommitPair | EventRecord]
    """In order; a commit with the one before it on its node, just before the events that it carries."""
    handled: Handlings  # the handlings of these events, and later ones
    clocks: list[ClockRecord]
    owners: list[OwnerRecord]  # all moves that are stored, also earlier ones
    unreadable: list[CommitRecord]
    """Commits of other clients that cannot be read; they are not among the entries."""
    scheduled: list[EventRecord]
    """The events that were scheduled at its start or later, as far as that is known; in order. No ticks."""
    cancels: list[Cancel]
    """The cancels of scheduled events after its start. None of ticks."""


async def read_stretch(
    stream: Stream, start: Position, end: Position, pending: Iterable[EventRecord] = ()
) -> Stretch:
    """Read everything stored from one position to another, both included, and later effects of its events.

    `pending` are the events that are scheduled now.
    """
    subjects = stream.subjects
    kinds = [subjects.states, subjects.events, subjects.clock, subjects.handled]
    items = await stream.read(kinds, start=max(1, start[0]), limit=None)
    decoded = await stream.admitted([stream.decode(item) for item in items], max(1, start[0]))
    commits = [item for item in decoded if isinstance(item, CommitRecord)]
    pairs, unreadable = _readable(await with_previous(stream, commits))
    belonging = list(_belonging(entries_of(decoded), start, end))
    entries = [
        pairs[entry.sequence] if isinstance(entry, CommitRecord) else entry
        for entry in belonging
        if isinstance(entry, EventRecord) or entry.sequence in pairs
    ]
    # Handlers may have waited for the clock before they stored what comes after the end.
    last = max([end[0], *(entry.sequence for entry in belonging[-1:])])
    clocks = [item for item in decoded if isinstance(item, ClockRecord) and start[0] <= item.sequence <= last]
    owners = [stream.decode(item) for item in await stream.read(subjects.owners)]
    ended = [item for item in decoded if isinstance(item, Ended) and item.event is not None]
    delivered = [item for item in decoded if isinstance(item, EventRecord)]
    return Stretch(
        entries,
        Handlings(unique([item for item in decoded if isinstance(item, Handled)])),
        clocks,
        [owner for owner in owners if isinstance(owner, OwnerRecord)],
        [record for record in unreadable if start <= (record.sequence, -1) <= end],
        sorted(
            (
                event
                for event in (*(item.event for item in ended), *delivered, *pending)
                if event is not None and event.tick is None and event.scheduled
            ),
            key=lambda event: event.scheduled,
        ),
        [
            Cancel(item.sequence, item.id, item.cause, item.by)
            for item in ended
            if not item.replaced and "~" not in item.id
        ],
    )


def _readable(pairs: Iterable[CommitPair]) -> tuple[dict[int, CommitPair], list[CommitRecord]]:
    """Return the pairs by sequence, and separately the commits of other clients that cannot be read."""
    readable: dict[int, CommitPair] = {}
    unreadable: list[CommitRecord] = []
    before_it: dict[str, CommitRecord | None] = {}
    for record, stored_before in pairs:
        before = before_it.pop(record.node, stored_before)
        if _can_be_read(record):
            known = before if before is None or _can_be_read(before) else None
            readable[record.sequence] = record, known
        else:
            unreadable.append(record)
            before_it[record.node] = before
    return readable, unreadable


def _can_be_read(record: CommitRecord) -> bool:
    return record.id is not None or record.deleted or record.is_readable


def _belonging(entries: Iterable[Entry], start: Position, end: Position) -> Iterable[Entry]:
    """Yield the entries from a position to another, and later ones that they caused.

    A scheduled event that is due later does not belong to it, unless its handler continued after that: it may
    have waited for the event. Effects of events before the stretch belong to it, too, if they are between the
    later entries.
    """
    entries = list(entries)
    last = {(entry.origin.cause, _maker(entry)): entry_position(entry) for entry in entries}
    inside: set[str] = set()
    after: set[str] = set()
    earlier: list[Entry] = []
    for entry in entries:
        position, origin = entry_position(entry), entry.origin
        if position < start:
            continue
        id = _id(entry)
        causes = {origin.cause, *origin.path[-1:]} - {None}
        is_scheduled = isinstance(entry, EventRecord) and entry.alarm is not None
        is_due = is_scheduled and last[origin.cause, _maker(entry)] == position
        if position <= end or (not is_due and not inside.isdisjoint(causes)):
            yield from earlier
            inside |= {id, *map(_id, earlier)}
            earlier.clear()
            yield entry
        elif is_due or not causes or not after.isdisjoint(causes):
            after.add(id)
        else:
            earlier.append(entry)


def _maker(entry: Entry) -> str | None:
    """Return the node whose handler made an entry."""
    return entry.sender if isinstance(entry, EventRecord) else entry.origin.by


def _id(entry: Entry) -> str:
    return entry.id if isinstance(entry, EventRecord) else entry.causal_id


async def complete_from(stream: Stream, nodes: Iterable[str]) -> int:
    """Return the position after which every commit is stored: of older ones, some were trimmed."""
    newest = 0
    for node in nodes:
        if await oldest_revision(stream, node) > 1:
            first = await stream.read(stream.subjects.state(node), headers_only=True, limit=1)
            newest = max([newest, *(item.sequence for item in first)])
    return newest


async def read_results(stream: Stream, start: int) -> dict[str, CallResult]:
    """Read the results of calls that were stored from a sequence on, by event, node and name."""
    prefix = stream.subjects.once_prefix
    items = await stream.read(f"{prefix}>", start=max(1, start))
    return {
        item.subject.removeprefix(prefix): CallResult(item.body, item.headers.get(ARGUMENTS))
        for item in items
    }


async def clock_at(stream: Stream, position: int) -> str:
    """Return the time of a manual clock at a position; before the newest clear, the time that it kept."""
    moves = await clocks_until(stream, max(position, await last_clear(stream)))
    return moves[-1].now if moves else START


async def copy_stream(source: Stream, space: str, scheduled: Iterable[EventRecord]) -> None:
    """Copy everything to a new space on the same server; SpaceNotEmptyError if there is such a space already.

    The server delivers none of the events that are `scheduled` there.
    """
    target = Stream(source.connection, Subjects(space), source.timeout)
    if await target.exists():
        raise SpaceNotEmptyError(f'keep: the space "{space}" already exists; choose another name')
    info = await source.info()
    config = target.configuration(info.options)
    # A stream with a source cannot schedule.
    filling = {**config, "allow_msg_schedules": False, "sources": [_source(source.subjects, target.subjects)]}
    try:
        await _call(source.connection, "CREATE", filling, source.timeout)
        await _wait_copied(target, source.subjects.stream)
        await _call(source.connection, "UPDATE", config, source.timeout)
        # The positions of state handlers refer to the sequences of the original, which has more of them.
        while (await target.info()).last < info.last:
            await target.store_barrier()
        await _schedule(target, scheduled)
    except BaseException:
        await target.drop()
        raise


async def _schedule(target: Stream, events: Iterable[EventRecord]) -> None:
    """Schedule events that the server never delivers."""
    info = await target.info()
    for event in events:
        if not info.schedules:
            info = await target.mark_schedules()
        message = encode_alarm(
            target.subjects, event, ttl=info.event_ttl, expected=0, read=info.last, never=True
        )
        await store_messages(target.connection, [message], timeout=target.timeout, what="keep")


def _source(here: Subjects, there: Subjects) -> dict[str, Any]:
    rest = [*(f"{kind}.>" for kind in KINDS), "clock", "clear"]
    renamed = [(here.states, there.states)]
    renamed += [(here.rest_prefix + kind, there.rest_prefix + kind) for kind in rest]
    transforms = [{"src": before, "dest": after} for before, after in renamed]
    return {"name": here.stream, "subject_transforms": transforms}


async def _call(connection: Connection, verb: str, config: dict[str, Any], timeout: float) -> None:
    answer = await connection.api(f"STREAM.{verb}.{config['name']}", config, timeout=timeout)
    if error := answer.get("error"):
        raise server_error(f'copying to the stream "{config["name"]}"', error)


async def _wait_copied(target: Stream, source: str) -> None:
    deadline = asyncio.get_running_loop().time() + target.timeout
    while not await target.has_copied(source):
        if asyncio.get_running_loop().time() > deadline:
            raise HappenTimeoutError(f"keep: the journal was not copied within {target.timeout:g} s")
        await asyncio.sleep(POLL_SECONDS)
