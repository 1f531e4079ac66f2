"""The effects of events and commits: unfinished work, causal trees, and unhandled events."""

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
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.replica import Applied
    from happen_nb._runtime.runtime import Runtime

DRAIN_POLL_SECONDS = 0.002
"""Pause between checks of what is in flight."""
DRAIN_POLL_SECONDS_PER_WORK = 5e-6
"""Added to the pause for each unfinished work: checking much of it takes time from doing it."""
OPEN_POLL_SECONDS = 0.01
"""First pause between checks if events are still handled in some process."""
OPEN_POLL_FACTOR = 1.5
"""Each next pause is so much longer."""
MAX_OPEN_POLL_SECONDS = 0.2
OPEN_ANSWER_SECONDS = 2.0
"""Time for another process to list the events that it has still to handle."""
UNHANDLED_ANSWER_SECONDS = 1.0
"""The same for `find_unhandled`."""
MAX_EXAMINED_EVENTS = 10_000
"""The newest events that are examined for unhandled ones."""

NO_PATTERN, WHERE, NO_OWNER, OWNER_DIED = "no pattern", "where", "no owner", "owner died"


# -- what is in flight in this process -----------------------------------------------------------------------


@dataclass(eq=False, slots=True)
class Work:
    """A delivery, callback or replay that has not ended.

    Parameters
    ----------
    correlation : str
        The causal chain it belongs to.
    describe : callable
        Returns its name for a message.
    hint : callable, optional
        Returns how to end it, if it takes long; otherwise an empty string.
    """

    correlation: str
    describe: Callable[[], str]
    hint: Callable[[], str] | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """The work in flight at one time, and the causal chains that it belongs to.

    ``families`` are prefixes of chains: one that ends with "_" stands for all chains of a replay.
    """

    works: frozenset[Work]
    correlations: frozenset[str]
    families: tuple[str, ...] = ()


class InFlight:
    """The works in flight in this process. From any thread."""

    def __init__(self) -> None:
        self._works: set[Work] = set()
        self._lock = threading.Lock()

    def start(
        self, correlation: str, describe: Callable[[], str], hint: Callable[[], str] | None = None
    ) -> Work:
        """Register work; `finish` it."""
        work = Work(correlation, describe, hint)
        with self._lock:
            self._works.add(work)
        return work

    def finish(self, work: Work) -> None:
        """Remove work. Call it after the works that it triggered have been registered."""
        with self._lock:
            self._works.discard(work)

    def pending(self) -> Pending:
        with self._lock:
            works = frozenset(self._works)
        correlations = frozenset(work.correlation for work in works)
        return Pending(works, correlations, tuple(each for each in correlations if each.endswith("_")))

    def remaining(self, since: Pending) -> list[Work]:
        """Return what was in flight then and still is, and what has followed from it and is in flight."""
        with self._lock:
            return [
                work
                for work in self._works
                if work in since.works
                or work.correlation in since.correlations
                or work.correlation.startswith(since.families)
            ]


async def drain(in_flight: InFlight, since: Pending, deadline: float) -> list[Work]:
    """Wait until the pending work and its effects are done; return what is left at the deadline."""
    while (left := in_flight.remaining(since)) and time.monotonic() <= deadline:
        await on_io(asyncio.sleep(DRAIN_POLL_SECONDS + len(left) * DRAIN_POLL_SECONDS_PER_WORK))
    return left


def describe_works(works: Collection[Work]) -> str:
    """Describe unfinished work: each name once, and how to finish it."""
    names = Counter(work.describe() for work in works)
    hints = dict.fromkeys(hint for work in works if work.hint is not None and (hint := work.hint()))
    shown = ", ".join(f"{name} ({times:,})" if times > 1 else name for name, times in names.items())
    return "; ".join([shown, *hints])


# -- what events cause, in every process; on the IO thread ---------------------------------------------------


class EventStream:
    """The events from now on."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._events: list[EventRecord] = []
        self.close = log.on_event.connect(self._events.append)

    async def take(self, timeout: float) -> list[EventRecord]:
        """Return the events that have arrived, as soon as there is one; none after `timeout` seconds."""
        # All at once: one by one, each would cost its caller a turn of the IO thread.
        if not self._events:
            await self._log.next_event(timeout)
        taken = list(self._events)
        self._events.clear()
        return taken


class Effects:
    """The effects of events and commits, collected as they are stored.

    The roots may be events and commits.
    """

    def __init__(
        self, runtime: Runtime, roots: Sequence[EventRecord], commits: Sequence[CommitPair] = ()
    ) -> None:
        self._runtime = runtime
        self._log = runtime.log
        self._roots = roots
        self._root_commits = commits
        self._ids = {root.id for root in roots} | {record.causal_id for record, _ in commits}
        self._events: dict[str, EventRecord] = {root.id: root for root in roots}
        self._commits: dict[int, CommitPair] = {}
        self._disconnects = [
            self._log.on_event.connect(self._on_event),
            self._log.replica.on_commit.connect(self._on_commit),
        ]

    def _on_event(self, event: EventRecord) -> None:
        if self._follows(event.path, event.cause):
            self._events[event.id] = event

    def _on_commit(self, applied: Applied) -> None:
        if self._follows(applied.record.origin.path, applied.record.origin.cause):
            self._commits[applied.record.sequence] = (applied.record, applied.previous)

    def _follows(self, path: Sequence[str], cause: str | None) -> bool:
        return cause in self._events or not self._ids.isdisjoint(path)  # a long path is not complete

    async def trees(self, timeout: float | None) -> list[TraceNode]:
        """Return a tree for each root, in journal order.

        Parameters
        ----------
        timeout : float or None
            Seconds to wait until all is handled, in every process; None: the trees as of now.
        """
        starts = [root.sequence for root in self._roots]
        starts += [record.sequence for record, _ in self._root_commits]
        start = min(starts)
        try:
            await self._read_stored(start)
            if timeout is None or not self._events:
                await self._runtime.dispatcher.flush()
            else:
                await self._wait_handled(time.monotonic() + timeout, timeout)
            handled = await read_handled(self._log.stream, since=start)
        finally:
            for disconnect in self._disconnects:
                disconnect()
        # A record whose answer was lost may be stored twice.
        found = dict.fromkeys(record for record in handled if record.event in self._events)
        return self._build(list(found))

    async def _read_stored(self, start: int) -> None:
        """Collect what was stored before the listeners were connected."""
        stream = self._log.stream
        entries = await read_entries(stream, since=(start, -2))
        for entry in entries:
            if isinstance(entry, EventRecord):
                self._on_event(entry)
        commits = [entry for entry in entries if isinstance(entry, CommitRecord)]
        for record, before in await with_previous(stream, commits):
            if self._follows(record.origin.path, record.origin.cause):
                self._commits.setdefault(record.sequence, (record, before))

    def _build(self, handled: Sequence[HandledRecord]) -> list[TraceNode]:
        events: dict[str, list[EventRecord]] = {}
        commits: dict[str, list[CommitPair]] = {}
        handlings: dict[str, list[HandledRecord]] = {}
        roots: dict[str, str] = {id: id for id in self._ids}
        for event in sorted(self._events.values(), key=lambda event: event.position):
            root = roots[event.id] = _root_of(event.origin, roots, event.id)
            events.setdefault(root, []).append(event)
        for pair in self._commits.values():
            commits.setdefault(_root_of(pair[0].origin, roots), []).append(pair)
        for handling in handled:
            handlings.setdefault(roots[handling.event], []).append(handling)

        def tree_of(root: EventRecord) -> TraceNode:
            id = root.id
            return build(root, events.get(id, ()), commits.get(id, ()), handlings.get(id, ()))

        trees = [(root.position, tree_of(root)) for root in self._roots]
        for record, before in self._root_commits:
            stem = tree_of(EventRecord(record.causal_id, "", record.node))  # an event in the commit's place
            tree = TraceNode(commit=record, before=before, children=stem.children)
            trees.append(((record.sequence, -1), tree))
        return [tree for _, tree in sorted(trees, key=lambda each: each[0])]

    async def _wait_handled(self, deadline: float, timeout: float) -> None:
        pause = OPEN_POLL_SECONDS
        while True:
            known = len(self._events)
            still = await self._open_events()
            if not still and len(self._events) == known:
                return
            if time.monotonic() > deadline:
                types = ", ".join(sorted({self._events[id].type for id in still if id in self._events}))
                raise HappenTimeoutError(f"settle: still handled after {timeout:g} s: {types}")
            if still:
                await asyncio.sleep(pause)
                pause = min(MAX_OPEN_POLL_SECONDS, pause * OPEN_POLL_FACTOR)

    async def _open_events(self) -> set[str]:
        """Return those of the events that some process has still to handle."""
        runtime, log = self._runtime, self._log
        ids = list(self._events)
        newest = max(event.sequence for event in self._events.values())
        still = set(runtime.dispatcher.open(ids))
        answers, busy = await runtime.ask_owners({"events": ids}, OPEN_ANSWER_SECONDS)
        if busy:
            still |= set(ids[-1:])
        for answer in answers:
            behind = answer["position"] < newest
            still |= set(ids[-1:]) if behind else set(answer["open"])
            await log.reach(answer["position"], time.monotonic() + log.timeout)
        await runtime.dispatcher.flush()
        return still


async def read_effects(
    runtime: Runtime,
    events: Sequence[EventRecord],
    commits: Sequence[CommitPair] = (),
    timeout: float | None = None,
) -> list[TraceNode]:
    """Return what events and commits caused: so far, or after waiting until all of it is handled."""
    return await Effects(runtime, events, commits).trees(timeout)


def _root_of(origin: Origin, roots: Mapping[str, str], *ids: str) -> str:
    """Return the root of the first id of an origin's path that has one."""
    known = (roots[id] for id in (*origin.path, origin.cause or "", *ids) if id in roots)
    return next(known, next(iter(roots)))


# -- what no handler handled; on the IO thread ---------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NotHandled:
    """An event that no handler handled, the reason, and the nearest pattern."""

    event: EventRecord
    reason: str
    nearest: str | None


async def find_unhandled(runtime: Runtime) -> list[NotHandled]:
    """Return the events that no handler handled, oldest first, without those that may still be handled."""
    log, dispatcher = runtime.log, runtime.dispatcher
    await dispatcher.flush()
    events = await newest_events(log.stream, lambda _: True, limit=MAX_EXAMINED_EVENTS)
    if not events:
        return []
    position = log.position
    accepted, refused = await _read_outcomes(log, events[0].sequence - 1)
    left = [event for event in events if event.id not in accepted]
    ids = [event.id for event in left]
    still = set(dispatcher.open(ids))
    answers, busy = await runtime.ask_owners({"events": ids}, UNHANDLED_ANSWER_SECONDS)
    still |= {id for answer in answers for id in answer.get("open", ())}
    alive = {log.incarnation, *(answer["by"] for answer in answers if "by" in answer)}
    await dispatcher.flush()
    since_then, refused_since = await _read_outcomes(
        log, position
    )  # what has just ended is not open any more
    accepted, refused = accepted | since_then, refused | refused_since
    owners = [
        _as_of_now(runtime, owner) for owner in runtime.ownership.all() if owner.incarnation is not None
    ]
    left = [
        event
        for event in left
        if event.id not in still and event.id not in accepted and not _may_come(event, owners, busy)
    ]
    applied_later = await dispatcher.lanes.outstanding()
    left = [event for event in left if not applied_later(event)]
    patterns = sorted({pattern for owner in owners for pattern in owner.patterns})
    found = []
    for event in await with_payloads(log.stream, left):
        reason = WHERE if event.id in refused else _reason(event, owners, alive)
        near = nearest(event.type, patterns) if reason in (NO_PATTERN, NO_OWNER) else None
        found.append(NotHandled(event, reason, near))
    return found


async def _read_outcomes(log: Log, since: int) -> tuple[set[str], set[str]]:
    """Return the ids of the events that a handler has accepted, and of those that a filter refused."""
    accepted: set[str] = set()
    refused: set[str] = set()
    for record in await read_handled(log.stream, since=since):
        (accepted if record.accepted else refused).add(record.event)
    return accepted, refused


def _as_of_now(runtime: Runtime, owner: OwnerRecord) -> OwnerRecord:
    """Return the record of a node of ours with its current patterns, which are stored a little later."""
    if owner.incarnation != runtime.log.incarnation:
        return owner
    return replace(owner, patterns=runtime.registrations.patterns(owner.node))


def _may_come(event: EventRecord, owners: Iterable[OwnerRecord], busy: Container[str | None]) -> bool:
    """Return True if a process that is too busy to answer may still handle an event."""
    return any(
        owner.incarnation in busy and event.target in (None, owner.node) and owner.claimed < event.sequence
        for owner in owners
    )


def _reason(event: EventRecord, owners: Iterable[OwnerRecord], alive: Container[str | None]) -> str:
    concerned = [owner for owner in owners if event.target in (None, owner.node)]
    matching = [
        owner for owner in concerned if any(Pattern.of(each).matches(event.type) for each in owner.patterns)
    ]
    known = [owner for owner in concerned if owner.claimed < event.sequence]
    if any(owner.incarnation in alive for owner in known if owner in matching):
        return NO_PATTERN  # when its turn came, nothing was registered for it any more
    if any(owner.sequence < event.sequence or owner.takeover for owner in matching):
        return OWNER_DIED
    return NO_PATTERN if known else NO_OWNER
