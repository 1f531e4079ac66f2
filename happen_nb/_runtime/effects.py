"""What follows from events and commits: what still runs, what they caused, and what no handler handled."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from happen_nb._journal.slice import (
    newest_events,
    read_entries,
    read_handled,
    with_payloads,
    with_previous,
)
from happen_nb._model.causality import TraceNode, build
from happen_nb._model.patterns import Pattern, nearest
from happen_nb._model.records import CommitRecord, EventRecord
from happen_nb._runtime.io import on_io
from happen_nb.errors import HappenTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence

    from happen_nb._model.causality import CommitPair
    from happen_nb._model.records import HandledRecord, Origin, OwnerRecord
    from happen_nb._runtime.replica import Applied
    from happen_nb._runtime.session import Session


DRAIN_POLL_SECONDS = 0.002
DRAIN_POLL_SECONDS_PER_WORK = 5e-6  # checking much unfinished work takes time from doing it


@dataclass(eq=False, slots=True)
class Work:
    """Something that has not ended yet.

    Parameters
    ----------
    correlation : str
        The chain of causes it belongs to.
    describe : callable
        Gives its name for a message.
    hint : callable, optional
        Says what ends it, if it takes long; else returns an empty string.
    """

    correlation: str
    describe: Callable[[], str]
    hint: Callable[[], str] | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """What was open at one moment, and the chains that it belongs to.

    ``families`` are beginnings of chains: one that ends with "_" stands for all that begin with it, as those
    of a replay do.
    """

    works: frozenset[Work]
    correlations: frozenset[str]
    families: tuple[str, ...] = ()


class InFlight:
    """What is open in this process. Any thread may begin and end things."""

    def __init__(self) -> None:
        self._open: set[Work] = set()
        self._lock = threading.Lock()

    def start(
        self, correlation: str, describe: Callable[[], str], hint: Callable[[], str] | None = None
    ) -> Work:
        """Something begins; `end` it."""
        token = Work(correlation, describe, hint)
        with self._lock:
            self._open.add(token)
        return token

    def finish(self, token: Work) -> None:
        """It has ended; whatever it caused here has begun already."""
        with self._lock:
            self._open.discard(token)

    def pending(self) -> Pending:
        """What is open now."""
        with self._lock:
            tokens = frozenset(self._open)
        correlations = frozenset(token.correlation for token in tokens)
        return Pending(tokens, correlations, tuple(each for each in correlations if each.endswith("_")))

    def remaining(self, since: Pending) -> list[Work]:
        """What was open then and still is, and what has followed from it and is open."""
        with self._lock:
            return [
                token
                for token in self._open
                if token in since.works
                or token.correlation in since.correlations
                or token.correlation.startswith(since.families)
            ]


async def drain(in_flight: InFlight, since: Pending, deadline: float) -> list[Work]:
    """Wait until the pending work and its effects are done; returns what is left at the deadline."""
    while (left := in_flight.remaining(since)) and time.monotonic() <= deadline:
        await on_io(asyncio.sleep(DRAIN_POLL_SECONDS + len(left) * DRAIN_POLL_SECONDS_PER_WORK))
    return left


def describe_works(works: Collection[Work]) -> str:
    """Describe unfinished work: each name once, and how to finish it."""
    names = Counter(work.describe() for work in works)
    hints = dict.fromkeys(hint for work in works if work.hint is not None and (hint := work.hint()))
    shown = ", ".join(f"{name} ({times:,})" if times > 1 else name for name, times in names.items())
    return "; ".join([shown, *hints])


LOOK = 0.01
"""Seconds between looks whether something is still handled."""
SLOWER = 1.5
"""Each next look comes so much later, up to `SLOWEST`."""
SLOWEST = 0.2
ANSWER = 2.0
"""Seconds for which another process may take to answer."""


class EventStream:
    """The events from now on."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._events: list[EventRecord] = []
        self._stop = session.feed.listen(self._events.append)

    async def take(self, timeout: float) -> list[EventRecord]:
        """Return the events that have come, as soon as there is one; none of them after `timeout` seconds."""
        # All at once: one by one, each would cost its caller a turn of the IO thread.
        if not self._events:
            await self._session.feed.next(timeout)
        taken = list(self._events)
        self._events.clear()
        return taken

    def close(self) -> None:
        """Follow no longer."""
        self._stop()


class Effects:
    """What events and commits cause, collected as it comes by.

    Parameters
    ----------
    session : Session
    roots : sequence of EventRecord
    commits : sequence of (CommitRecord, CommitRecord or None)
        Each with the one before it on its node.
    """

    def __init__(
        self, session: Session, roots: Sequence[EventRecord], commits: Sequence[CommitPair] = ()
    ) -> None:
        self._session = session
        self._roots = roots
        self._changes = commits
        self._ids = {root.id for root in roots} | {record.causal_id for record, _ in commits}
        self._events: dict[str, EventRecord] = {root.id: root for root in roots}
        self._commits: dict[int, CommitPair] = {}
        self._stops = [session.feed.listen(self._event_came), session.replica.listen(self._commit_came)]

    def _event_came(self, event: EventRecord) -> None:
        if self._follows(event.path, event.cause):
            self._events[event.id] = event

    def _commit_came(self, applied: Applied) -> None:
        if self._follows(applied.record.origin.path, applied.record.origin.cause):
            self._commits[applied.record.sequence] = (applied.record, applied.previous)

    def _follows(self, path: Sequence[str], cause: str | None) -> bool:
        return cause in self._events or not self._ids.isdisjoint(path)  # a long path is not complete

    async def trees(self, timeout: float | None) -> list[TraceNode]:
        """A tree for each root, in journal order: as it is now, or when all is handled, in every process."""
        starts = [root.sequence for root in self._roots] + [record.sequence for record, _ in self._changes]
        start = min(starts)
        try:
            await self._read_stored(start)
            if timeout is None or not self._events:
                await self._session.dispatch.flush()
            else:
                await self._wait(time.monotonic() + timeout, timeout)
            handled = await read_handled(self._session.stream, since=start)
        finally:
            for stop in self._stops:
                stop()
        # A record whose answer was lost may be stored twice.
        found = dict.fromkeys(record for record in handled if record.event in self._events)
        return self._grown(list(found))

    async def _read_stored(self, start: int) -> None:
        """What was stored before this began to listen."""
        stream = self._session.stream
        entries = await read_entries(stream, since=(start, -2))
        commits = [entry for entry in entries if isinstance(entry, CommitRecord)]
        for entry in entries:
            if isinstance(entry, EventRecord):
                self._event_came(entry)
        for record, before in await with_previous(stream, commits):
            if self._follows(record.origin.path, record.origin.cause):
                self._commits.setdefault(record.sequence, (record, before))

    def _grown(self, handled: Sequence[HandledRecord]) -> list[TraceNode]:
        """What was collected, each at the root that it grew from."""
        events: dict[str, list[EventRecord]] = {}
        commits: dict[str, list[CommitPair]] = {}
        roots: dict[str, str] = {id: id for id in self._ids}
        for event in sorted(self._events.values(), key=lambda event: event.position):
            root = roots[event.id] = _root_of(event.origin, roots, event.id)
            events.setdefault(root, []).append(event)
        for change in self._commits.values():
            commits.setdefault(_root_of(change[0].origin, roots), []).append(change)
        done: dict[str, list[HandledRecord]] = {}
        for handling in handled:
            done.setdefault(roots[handling.event], []).append(handling)

        def grow(root: EventRecord) -> TraceNode:
            id = root.id
            return build(root, events.get(id, ()), commits.get(id, ()), done.get(id, ()))

        trees = [(root.position, grow(root)) for root in self._roots]
        for record, before in self._changes:
            stem = grow(EventRecord(record.causal_id, "", record.node))  # an event in the commit's place
            tree = TraceNode(commit=record, before=before, children=stem.children)
            trees.append(((record.sequence, -1), tree))
        return [tree for _, tree in sorted(trees, key=lambda each: each[0])]

    async def _wait(self, deadline: float, timeout: float) -> None:
        pause = LOOK
        while True:
            known = len(self._events)
            still = await self._open()
            if not still and len(self._events) == known:
                return
            if time.monotonic() > deadline:
                types = ", ".join(sorted({self._events[id].type for id in still if id in self._events}))
                raise HappenTimeoutError(f"settle: still handled after {timeout:g} s: {types}")
            if still:
                await asyncio.sleep(pause)
                pause = min(SLOWEST, pause * SLOWER)

    async def _open(self) -> set[str]:
        """Those of the events that some process has still to handle."""
        session = self._session
        ids = list(self._events)
        newest = max(event.sequence for event in self._events.values())
        still = set(session.dispatch.open(ids))
        answers, busy = await session.ask_owners({"events": ids}, ANSWER)
        if busy:
            still |= set(ids[-1:])
        for answer in answers:
            behind = answer["position"] < newest
            still |= set(ids[-1:]) if behind else set(answer["open"])
            await session.reach(answer["position"], time.monotonic() + session.timeout)
        await session.dispatch.flush()
        return still


async def read_effects(
    session: Session,
    events: Sequence[EventRecord],
    commits: Sequence[CommitPair] = (),
    timeout: float | None = None,
) -> list[TraceNode]:
    """Return what events and commits caused: so far, or after waiting until all of it is handled."""
    return await Effects(session, events, commits).trees(timeout)


def _root_of(origin: Origin, roots: Mapping[str, str], *ids: str) -> str:
    """The root of what has this origin: that of the first id of its path that has one."""
    known = (roots[id] for id in (*origin.path, origin.cause or "", *ids) if id in roots)
    return next(known, next(iter(roots)))


LOOKED_AT = 10_000
"""The newest events that are looked at."""
ANSWER = 1.0
"""Seconds for which another process may take to say what it has still to handle."""

NO_PATTERN, WHERE, NO_OWNER, OWNER_DIED = "no pattern", "where", "no owner", "owner died"


@dataclass(frozen=True, slots=True)
class NotHandled:
    """An event that nobody took: the reason, and the pattern that would nearly have taken it."""

    event: EventRecord
    reason: str
    nearest: str | None


async def find_unhandled(session: Session) -> list[NotHandled]:
    """The events that no handler took, oldest first; what is still to be handled is not among them."""
    dispatch = session.dispatch
    await dispatch.flush()
    events = await newest_events(session.stream, lambda _: True, limit=LOOKED_AT)
    if not events:
        return []
    records = await read_handled(session.stream, since=events[0].sequence - 1)
    taken: set[str] = set()
    refused: set[str] = set()
    for record in records:
        (taken if record.accepted else refused).add(record.event)
    left = [event for event in events if event.id not in taken]
    still, alive, busy = await _still_open(session, [event.id for event in left])
    owners = [
        _as_of_now(session, owner) for owner in dispatch.ownership.all() if owner.incarnation is not None
    ]
    applied_later = await dispatch.lanes.outstanding()
    left = [
        event
        for event in left
        if event.id not in still and not _may_come(event, owners, busy) and not applied_later(event)
    ]
    left = await with_payloads(session.stream, left)
    patterns = sorted({pattern for owner in owners for pattern in owner.patterns})
    found = []
    for event in left:
        reason = WHERE if event.id in refused else _reason(event, owners, alive)
        near = nearest(event.type, patterns) if reason in (NO_PATTERN, NO_OWNER) else None
        found.append(NotHandled(event, reason, near))
    return found


def _as_of_now(session: Session, owner: OwnerRecord) -> OwnerRecord:
    """Of a node of ours, with the patterns of now: their record is stored a little later."""
    if owner.incarnation != session.incarnation:
        return owner
    return replace(owner, patterns=session.dispatch.patterns(owner.node))


async def _still_open(session: Session, ids: list[str]) -> tuple[set[str], set[str], set[str]]:
    """The events that are still to be handled, the processes that answer, and those that are too busy."""
    answers, busy = await session.ask_owners({"events": ids}, ANSWER)
    still = {*session.dispatch.open(ids), *(id for answer in answers for id in answer.get("open", ()))}
    return still, {session.incarnation, *(answer["by"] for answer in answers if "by" in answer)}, busy


def _may_come(event: EventRecord, owners: Iterable[OwnerRecord], busy: Container[str | None]) -> bool:
    """Return whether a process that is too busy to say what it has to do may still handle an event."""
    return any(
        owner.incarnation in busy and event.target in (None, owner.node) and owner.claimed < event.sequence
        for owner in owners
    )


def _reason(event: EventRecord, owners: Iterable[OwnerRecord], alive: Container[str | None]) -> str:
    concerned = [owner for owner in owners if event.target in (None, owner.node)]
    matching = [owner for owner in concerned if _matches(owner, event.type)]
    known = [owner for owner in concerned if owner.claimed < event.sequence]
    if any(owner.incarnation in alive for owner in known if owner in matching):
        return NO_PATTERN  # when its turn came, nothing was registered for it any more
    if any(owner.sequence < event.sequence or owner.takeover for owner in matching):
        return OWNER_DIED
    return NO_PATTERN if known else NO_OWNER


def _matches(owner: OwnerRecord, type: str) -> bool:
    return any(Pattern.of(pattern).matches(type) for pattern in owner.patterns)
