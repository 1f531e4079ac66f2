"""What the journal holds of the past: commits of a node, and states at a position."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import orjson

from happen_nb._journal.read import direct
from happen_nb._journal.wire import Message
from happen_nb._model.arguments import to_utc
from happen_nb._model.records import CommitRecord, revision_after
from happen_nb.errors import HistoryGoneError, UnknownRevisionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nats.aio.msg import Msg

    from happen_nb._journal.read import Stored
    from happen_nb._journal.stream import Stream

TOGETHER = 250
"""Nodes that are asked for in one request; a server gives an answer for 1,024 at most."""
BRIEF = 1.0
"""Seconds to wait for all its answers: who is not among them can be asked for one by one."""
EARLIEST = datetime(1900, 1, 1, tzinfo=UTC)
LATEST = datetime(2200, 1, 1, tzinfo=UTC)
"""Servers count ns in 64 bits, from 1677 to 2262; what is asked for beyond these is asked for here."""


async def commits(
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
    return _number(await stream.read(subject, start=start), stream, previous)


async def oldest_revision(stream: Stream, node: str) -> int:
    """The revision of a node's oldest stored commit; 0 if nothing of it is stored."""
    first = await stream.read(stream.subjects.state(node), headers_only=True, limit=1)
    return _number(first, stream)[0].revision if first else 0


def _number(
    items: list[Stored], stream: Stream, newest: dict[str, CommitRecord] | None = None
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


def _record(stream: Stream, item: Stored) -> CommitRecord:
    record = stream.decode(item)
    assert isinstance(record, CommitRecord)
    return record


async def at_revision(stream: Stream, node: str, revision: int) -> CommitRecord:
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


async def at_sequence(stream: Stream, sequence: int) -> CommitRecord | None:
    """The commit at a sequence; None if there is none any more, or something else."""
    found = await stream.read(stream.subjects.states, start=sequence, limit=1)
    return _record(stream, found[0]) if found and found[0].sequence == sequence else None


async def at_position(stream: Stream, node: str, position: int) -> CommitRecord | None:
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
            return await at_revision(stream, node, newest[0].revision) if newest else None
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


async def many_at_position(stream: Stream, nodes: Sequence[str], position: int) -> dict[str, CommitRecord]:
    """`at_position` of many nodes in few requests; those of which this does not tell are left out.

    With replicas it tells of none: any of them may answer, and the one that does may lag.
    """
    found: dict[str, CommitRecord] = {}
    if position and stream.replicas == 1:
        for at in range(0, len(nodes), TOGETHER):
            for item in await _last_of_each(stream, nodes[at : at + TOGETHER], position):
                record = _record(stream, item)
                if record.revision:
                    found[record.node] = record
    return found


async def _last_of_each(stream: Stream, nodes: Sequence[str], position: int) -> list[Stored]:
    items: list[Stored] = []
    ended = asyncio.Event()

    async def take(answer: Msg) -> None:
        item = direct(answer)
        if item is None:
            ended.set()
        else:
            items.append(item)

    subjects = [stream.subjects.state(node) for node in nodes]
    request = orjson.dumps({"multi_last": subjects, "up_to_seq": position})
    inbox = stream.connection.new_inbox()
    subscription = await stream.connection.subscribe(inbox, take)
    try:
        await stream.connection.publish(f"$JS.API.DIRECT.GET.{stream.subjects.stream}", request, reply=inbox)
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
    item = direct(answer)
    if item is None:
        return None
    record = _record(stream, item)
    if not record.revision:
        heads = _number(await stream.read(subject, headers_only=True), stream)
        record.revision = next(head.revision for head in heads if head.sequence == item.sequence)
    return record


async def before_each(stream: Stream, records: Sequence[CommitRecord]) -> dict[str, CommitRecord]:
    """What each node was before the first of its `records`, where that is stored."""
    first: dict[str, CommitRecord] = {}
    for record in records:
        if record.node not in first:
            first[record.node] = record
    wanted = {name: record for name, record in first.items() if record.revision > 1}
    found: dict[str, CommitRecord] = {}
    if len(wanted) > 1:  # one request for all, where nothing of them lies between
        begin = min(record.sequence for record in wanted.values())
        there = await many_at_position(stream, list(wanted), begin - 1)
        found = {name: each for name, each in there.items() if each.revision == wanted[name].revision - 1}
    for name, record in wanted.items():
        if name not in found:
            with contextlib.suppress(HistoryGoneError):  # it was trimmed: the commit says so itself
                before = await at_position(stream, name, record.sequence - 1)
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


async def position_at(stream: Stream, moment: datetime) -> int:
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

    def reached(item: Stored) -> bool:
        late = item.time >= round(after.timestamp() * 1e6) * 1000
        found.extend([item.sequence] if late else ())
        return late

    await stream.read(">", start=start, headers_only=True, enough=reached)
    return found[0] - 1 if found else last
