"""Read the commits of nodes: histories, revisions, and the newest ones at a position."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from itertools import pairwise
from typing import TYPE_CHECKING

import orjson

from happen_nb._journal.consumer import StreamMessage, parse_direct
from happen_nb._model.quoting import quote
from happen_nb._model.records import CommitRecord, revision_after
from happen_nb.errors import HistoryGoneError, UnknownRevisionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nats.aio.msg import Msg

    from happen_nb._journal.stream import Stream
    from happen_nb._model.causality import CommitPair

# -- commits -----------------------------------------------------------------------------------------

log = logging.getLogger("happen_nb")

MAX_NODES_PER_REQUEST = 250  # a server answers a request for at most 1,024
BATCH_SECONDS = 1.0  # for all answers of such a request; the missing nodes are then read one by one


async def with_previous(stream: Stream, commits: Sequence[CommitRecord]) -> list[CommitPair]:
    """Pair each commit with the one before it on its node, where that is stored.

    `commits` are all that were stored from the sequence of the first on. Those of other clients, which carry
    no revision, are numbered.
    """
    first: dict[str, CommitRecord] = {}
    for record in commits:
        first.setdefault(record.node, record)
    wanted = {node: record for node, record in first.items() if record.revision != 1}
    newest: dict[str, CommitRecord | None] = {}
    if len(wanted) > 1:
        there = await commits_at_position(stream, list(wanted), commits[0].sequence - 1)
        newest |= {node: each for node, each in there.items() if each.revision == wanted[node].revision - 1}
    for node, record in wanted.items():
        if node not in newest:
            with contextlib.suppress(HistoryGoneError):  # it was trimmed: the revision shows it
                newest[node] = await commit_at_position(stream, node, record.sequence - 1)
    changes: list[CommitPair] = []
    for record in commits:
        before = newest.get(record.node)
        record.revision = record.revision or revision_after(before)
        changes.append((record, before))
        newest[record.node] = record
    return changes


async def applied_at(stream: Stream, sequence: int) -> CommitPair | None:
    """Read the commit at a sequence and the one before it; None if it is no longer stored."""
    found = await stream.get({"seq": sequence})
    record = None if found is None else stream.decode(found)
    return (await with_previous(stream, [record]))[0] if isinstance(record, CommitRecord) else None


async def read_commit_headers(stream: Stream, node: str) -> list[CommitRecord]:
    """Read the commits of a node without their states, oldest first."""
    return _numbered(stream, await stream.read(stream.subjects.state(node), headers_only=True))


async def read_commits(stream: Stream, node: str, *, limit: int | None = None) -> list[CommitRecord]:
    """Read the commits of a node, or the newest of them, oldest first."""
    subject = stream.subjects.state(node)
    start = before = 0
    if limit is not None:
        heads = await read_commit_headers(stream, node)
        wanted = heads[max(0, len(heads) - limit) :]
        if not wanted:
            return []
        start, before = wanted[0].sequence, wanted[0].revision - 1
    records = _numbered(stream, await stream.read(subject, start=start), before)
    _warn_of_gaps(node, records)
    return records


def _warn_of_gaps(node: str, records: Sequence[CommitRecord]) -> None:
    """Log revisions that are missing between others: nats-server silently omits those that it cannot read."""
    for before, after in pairwise(records):
        if after.revision > before.revision + 1:
            log.warning(
                'node "%s": no commit can be read between revisions %s and %s: a file of the store is '
                "damaged, or another client deleted them",
                node,
                f"{before.revision:,}",
                f"{after.revision:,}",
            )


def _numbered(stream: Stream, items: list[StreamMessage], before: int = 0) -> list[CommitRecord]:
    """Decode the commits of a node, and number those of other clients from `before` on."""
    records = []
    for item in items:
        record = _commit(stream, item)
        before = record.revision = record.revision or before + 1
        records.append(record)
    return records


def _commit(stream: Stream, item: StreamMessage) -> CommitRecord:
    record = stream.decode(item)
    assert isinstance(record, CommitRecord)
    return record


async def oldest_revision(stream: Stream, node: str) -> int:
    """Return the revision of a node's oldest stored commit; 0 if nothing of it is stored."""
    first = await stream.read(stream.subjects.state(node), headers_only=True, limit=1)
    return _numbered(stream, first)[0].revision if first else 0


async def commit_at_revision(stream: Stream, node: str, revision: int) -> CommitRecord:
    """Return the commit of a revision; HistoryGoneError if trimmed, UnknownRevisionError if too new."""
    heads = await read_commit_headers(stream, node)
    for record in heads:
        if record.revision == revision:
            found = await stream.read(stream.subjects.state(node), start=record.sequence, limit=1)
            if found and found[0].sequence == record.sequence:  # else it was trimmed just now
                return _numbered(stream, found, revision - 1)[0]
    if heads and revision > heads[-1].revision:
        raise _too_new(node, revision, f"its newest is {heads[-1].revision}")
    if not heads and not await stream.was_cleared_after(0):
        raise _too_new(node, revision, "it has no commits")
    oldest = f"the oldest is {heads[0].revision}" if heads else "the space was cleared"
    raise HistoryGoneError(f'node "{node}": revision {quote(revision)} is no longer stored; {oldest}')


def _too_new(node: str, revision: int, known: str) -> UnknownRevisionError:
    return UnknownRevisionError(f'node "{node}" has no revision {quote(revision)} yet; {known}')


# -- states at a position ----------------------------------------------------------------------------


async def commit_at_position(stream: Stream, node: str, position: int) -> CommitRecord | None:
    """Return the newest commit of a node at or before `position`; None if it had none then.

    Raises HistoryGoneError if it was trimmed, or the space was cleared since.
    """
    subject = stream.subjects.state(node)
    found = await _newest_until(stream, node, position)
    if stream.replicas > 1:
        # A replica that lags answers with an older commit, or with none: is there a later one?
        start = found.sequence + 1 if found is not None else 0
        later = await stream.read(subject, headers_only=True, start=start, limit=1, end=position)
        if later:
            heads = await read_commit_headers(stream, node)
            newest = [head for head in heads if head.sequence <= position][-1:]
            return await commit_at_revision(stream, node, newest[0].revision) if newest else None
    if found is None and await stream.was_cleared_after(position):
        raise HistoryGoneError(f'node "{node}": its state of that time is gone: the space was cleared')
    if found is None and await oldest_revision(stream, node) > 1:
        raise HistoryGoneError(
            f'node "{node}": its state of that time is no longer stored; '
            "connect with a larger history to keep more"
        )
    return found


async def _newest_until(stream: Stream, node: str, position: int) -> CommitRecord | None:
    if not position:
        return None  # to the server, up to 0 means up to the end
    request = {"multi_last": [stream.subjects.state(node)], "up_to_seq": position}
    item = await stream.get_direct(request, f'reading node "{node}"')
    if item is None:
        return None
    record = _commit(stream, item)
    if not record.revision:
        heads = await read_commit_headers(stream, node)
        record.revision = next(head.revision for head in heads if head.sequence == item.sequence)
    return record


async def commits_at_position(stream: Stream, nodes: Sequence[str], position: int) -> dict[str, CommitRecord]:
    """Return `commit_at_position` of many nodes in few requests, where these suffice.

    With replicas they never do: any replica may answer, and that one may lag.
    """
    found: dict[str, CommitRecord] = {}
    if position and stream.replicas == 1:
        for at in range(0, len(nodes), MAX_NODES_PER_REQUEST):
            for item in await _newest_of_each(stream, nodes[at : at + MAX_NODES_PER_REQUEST], position):
                record = _commit(stream, item)
                if record.revision:
                    found[record.node] = record
    return found


async def _newest_of_each(stream: Stream, nodes: Sequence[str], position: int) -> list[StreamMessage]:
    items: list[StreamMessage] = []
    ended = asyncio.Event()

    async def on_answer(answer: Msg) -> None:
        item = parse_direct(answer)
        if item is None:
            ended.set()
        else:
            items.append(item)

    subjects = [stream.subjects.state(node) for node in nodes]
    request = orjson.dumps({"multi_last": subjects, "up_to_seq": position})
    connection = stream.connection
    inbox = connection.new_inbox()
    subscription = await connection.subscribe(inbox, on_answer)
    try:
        await connection.send(f"$JS.API.DIRECT.GET.{stream.subjects.stream}", request, reply=inbox)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), BATCH_SECONDS)
    finally:
        await connection.unsubscribe(subscription)
    return items
