"""The effects of events and commits: causal trees, and unhandled events."""

from __future__ import annotations

import asyncio
import math
import time
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

from happen_nb._journal.commits import with_previous
from happen_nb._journal.slice import newest_events, read_entries, read_handled, read_window, with_payloads
from happen_nb._model.patterns import nearest
from happen_nb._model.records import CommitRecord, EventRecord, HandledRecord, Origin, OwnerRecord
from happen_nb._runtime.cells import notice
from happen_nb._runtime.in_flight import Work, describe_works
from happen_nb._runtime.peers import with_wait

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from happen_nb._model.causality import CommitPair, TraceNode
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.ownership import PastOwner
    from happen_nb._runtime.runtime import Runtime

ASK_AGAIN_SECONDS = 0.01  # first pause before asking processes again that still have events to handle
ASK_AGAIN_FACTOR = 1.5  # factor by which each further pause is longer
MAX_ASK_AGAIN_SECONDS = 0.2
UNHANDLED_ANSWER_SECONDS = 1.0  # seconds that another process has to answer `find_unhandled`
MAX_EXAMINED_EVENTS = 10_000  # number of the newest events that are examined for unhandled ones

NO_PATTERN, WHERE, NO_OWNER, OWNER_DIED = "no pattern", "where", "no owner", "owner died"


# -- what events cause, in every process; on the IO thread ---------------------------------------------------


class Effects:
    """The effects of events and commits, which are the roots."""

    def __init__(self, events: Sequence[EventRecord], commits: Sequence[CommitPair] = ()) -> None:
        self.events = events
        self.commits = commits
        self.roots = {event.id for event in events} | {record.causal_id for record, _ in commits}
        origins = [event.origin for event in events] + [record.origin for record, _ in commits]
        self.correlations = self.roots | {origin.correlation for origin in origins if origin.correlation}
        self.start = min([event.sequence for event in events] + [record.sequence for record, _ in commits])
        self.ids = {event.id: event for event in events}
        """The events among them that are known so far, with the roots."""

    def add(self, event: EventRecord) -> None:
        """Note an event, if it is one of the effects."""
        if self.includes(event.origin):
            self.ids[event.id] = event

    def includes(self, origin: Origin) -> bool:
        """Return True if a record with this origin is an effect."""
        # A long path is not complete.
        return origin.cause in self.ids or not self.roots.isdisjoint(origin.path)

    def includes_work(self, work: Work) -> bool:
        """Return True if the work handles a root, or an effect."""
        if work.general or work.correlation in self.roots:
            return True
        if work.correlation not in self.correlations:
            return False
        origin = work.origin()
        return bool(origin.omitted) or self.includes(origin)


async def wait_handled(runtime: Runtime, effects: Effects, deadline: float) -> list[str]:
    """Wait until effects are handled, in every process; return the works that remain at the deadline.

    A process that owns nodes is asked, and answers when it has ended its part.
    """
    log, ids = runtime.log, effects.ids
    disconnect = log.on_event.connect(effects.add)
    read_to, pause = 0, ASK_AGAIN_SECONDS
    try:
        while True:
            left = await runtime.in_flight.drain(effects.includes_work, deadline)
            if left:
                return [describe_works(left)]
            if not ids or not runtime.has_other_owners():
                return []
            if not read_to:
                read_to = log.position  # later ones are listened to
                for entry in await read_window(log.stream, effects.start, read_to):
                    if isinstance(entry, EventRecord):
                        effects.add(entry)
            known = len(ids)
            still = await _ask_open(runtime, ids, deadline)
            if not still and len(ids) == known:
                return []
            if time.monotonic() > deadline:
                return sorted({ids[id].type for id in still if id in ids})
            if still:  # by a process that does not wait, or that is too busy
                await asyncio.sleep(pause)
                pause = min(MAX_ASK_AGAIN_SECONDS, pause * ASK_AGAIN_FACTOR)
    finally:
        disconnect()


async def _ask_open(runtime: Runtime, events: Mapping[str, EventRecord], deadline: float) -> set[str]:
    """Return the events that another process has yet to handle, after giving it time to do so."""
    log, ids = runtime.log, list(events)
    newest = max(event.sequence for event in events.values())
    answers, busy = await runtime.ask_owners(*with_wait({"events": ids}, newest, deadline))
    still = set(ids[-1:]) if busy else set()
    for answer in answers:
        behind = answer["position"] < newest
        still |= set(ids[-1:]) if behind else set(answer["open"])
        await log.reach(answer["position"], time.monotonic() + log.timeout)
    return still


def notice_held(runtime: Runtime) -> None:
    """Print how many events ``settle`` did not wait for, because the space is paused."""
    gate = runtime.dispatcher.gate
    number = gate.count() if gate.paused else 0
    if number:
        waits = "1 event is held" if number == 1 else f"{number:,} events are held"
        notice(f"settle: {waits}; space.step() lets the next one begin, space.resume() releases all")


async def read_effects(runtime: Runtime, effects: Effects) -> list[TraceNode]:
    """Read what events and commits have caused so far: a tree for each, in journal order."""
    stream = runtime.log.stream
    await runtime.dispatcher.handled.flush()
    entries = await read_entries(stream, since=(effects.start, -2))
    commits = [entry for entry in entries if isinstance(entry, CommitRecord)]
    for entry in entries:
        if isinstance(entry, EventRecord):
            effects.add(entry)
    pairs = [
        pair
        for pair in await with_previous(stream, commits)
        if effects.includes(pair[0].origin) or not effects.ids.keys().isdisjoint(pair[0].folded)
    ]
    handled = await read_handled(stream, since=effects.start)
    # A record whose answer was lost may be stored twice.
    handlings = dict.fromkeys(record for record in handled if record.event in effects.ids)
    still = open_here(runtime, list(effects.ids.values()), {record.event for record in handlings})
    colours = runtime.colours()
    return [replace(tree, colours=colours) for tree in _build(effects, pairs, handlings, still)]


def open_here(
    runtime: Runtime, events: Sequence[EventRecord], handled: Container[str]
) -> dict[str, dict[str, str]]:
    """Return the events that may still be handled: id -> node -> "running" or "held".

    The nodes are those of this process. There are none if a handler in any process matches the type of an
    event, and nothing else is known here.
    """
    dispatcher, has_handler = runtime.dispatcher, cache(partial(_has_handler, runtime))
    ids = {event.position: event.id for event in events}
    turns = [(ids.get(turn.position), turn.node, "held") for turn in dispatcher.gate.turns()]
    running = [(id, node, "running") for id, node in dispatcher.running()]
    known: dict[str | None, dict[str, str]] = {}
    for id, node, state in (*turns, *running):
        known.setdefault(id, {})[node] = state
    return {
        event.id: known.get(event.id, {})
        for event in events
        if event.id in known
        or (event.id not in handled and has_handler(event.type, event.target, event.tick))
    }


def _has_handler(runtime: Runtime, type: str, target: str | None, tick: str | None) -> bool:
    if runtime.registrations.candidates(type, target, tick):
        return True
    owners = (owner for owner in runtime.ownership.all() if owner.incarnation is not None)
    return any(target in (None, owner.node) and owner.handles(type) for owner in owners)


def _build(
    effects: Effects,
    pairs: Iterable[CommitPair],
    handled: Iterable[HandledRecord],
    still: Mapping[str, Mapping[str, str]],
) -> list[TraceNode]:
    from happen_nb._model.causality import TraceNode, build

    events: dict[str, list[EventRecord]] = {}
    commits: dict[str, list[CommitPair]] = {}
    handlings: dict[str, list[HandledRecord]] = {}
    roots: dict[str, str] = {id: id for id in effects.roots}
    for event in sorted(effects.ids.values(), key=lambda event: event.position):
        root = roots[event.id] = _root_of(event.origin, roots, event.id)
        events.setdefault(root, []).append(event)
    for pair in pairs:
        found = {roots[id] for id in pair[0].folded if id in roots}
        if effects.includes(pair[0].origin) or not found:
            found.add(_root_of(pair[0].origin, roots))
        for root in found:
            commits.setdefault(root, []).append(pair)
    for handling in handled:
        handlings.setdefault(roots[handling.event], []).append(handling)

    def tree_of(root: EventRecord) -> TraceNode:
        id = root.id
        return build(root, events.get(id, ()), commits.get(id, ()), handlings.get(id, ()), still)

    trees = [(root.position, tree_of(root)) for root in effects.events]
    for record, before in effects.commits:
        stem = tree_of(EventRecord(record.causal_id, "", record.node))  # an event in the commit's place
        tree = TraceNode(commit=record, before=before, children=stem.children)
        trees.append(((record.sequence, -1), tree))
    return [tree for _, tree in sorted(trees, key=lambda each: each[0])]


def _root_of(origin: Origin, roots: Mapping[str, str], *ids: str) -> str:
    """Return the root of the first id of an origin's path that has one."""
    known = (roots[id] for id in (*origin.path, origin.cause or "", *ids) if id in roots)
    return next(known, next(iter(roots)))


# -- what no handler handled; on the IO thread ---------------------------------------------------------------


class NotHandled(NamedTuple):
    """An event that no handler handled, the reason, and the nearest pattern."""

    event: EventRecord
    reason: str
    nearest: str | None


async def find_unhandled(runtime: Runtime) -> list[NotHandled]:
    """Return the events that no handler handled, oldest first, without those that may still be handled."""
    log, dispatcher = runtime.log, runtime.dispatcher
    await dispatcher.handled.flush()
    events = await newest_events(log.stream, lambda _: True, limit=MAX_EXAMINED_EVENTS)
    if not events:
        return []
    position = log.position
    accepted, refused, ended = await _read_outcomes(log, events[0].sequence - 1)
    left = [event for event in events if event.id not in accepted]
    ids = [event.id for event in left]
    still = set(dispatcher.open(ids))
    held = {turn.position for turn in (await runtime.stepper.turns(MAX_EXAMINED_EVENTS))[0]}
    answers, busy = await runtime.ask_owners({"events": ids}, UNHANDLED_ANSWER_SECONDS)
    still |= {id for answer in answers for id in answer.get("open", ())}
    alive = {log.incarnation, *(answer["by"] for answer in answers if "by" in answer)}
    await dispatcher.handled.flush()
    # An event that has just ended is no longer open.
    since_then, refused_since, ended_since = await _read_outcomes(log, position)
    accepted, refused, ended = accepted | since_then, refused | refused_since, ended | ended_since
    owners = [
        _as_of_now(runtime, owner) for owner in runtime.ownership.all() if owner.incarnation is not None
    ]
    left = [
        event
        for event in left
        if event.id not in still
        and event.position not in held
        and event.id not in accepted
        and not _may_come(event, owners, runtime.ownership.replaced(), busy)
    ]
    applied = await dispatcher.progress.applied()
    handled_later = await dispatcher.durables.outstanding()
    left = [event for event in left if not applied(event, refused) and not handled_later(event, ended)]
    patterns = sorted({pattern for owner in owners for pattern in owner.patterns})
    found = []
    for event in await with_payloads(log.stream, left):
        reason = WHERE if event.id in refused else _reason(event, owners, alive)
        near = nearest(event.type, patterns) if reason in (NO_PATTERN, NO_OWNER) else None
        found.append(NotHandled(event, reason, near))
    return found


async def _read_outcomes(log: Log, since: int) -> tuple[set[str], set[str], set[str]]:
    """Return the ids of events that a handler accepted, of those refused, and of ended durable handlings."""
    accepted: set[str] = set()
    refused: set[str] = set()
    ended: set[str] = set()
    for record in await read_handled(log.stream, since=since):
        (accepted if record.accepted else refused).add(record.event)
        if record.handling is not None:
            ended.add(record.handling)
    return accepted, refused, ended


def _as_of_now(runtime: Runtime, owner: OwnerRecord) -> OwnerRecord:
    """Return the record of a node of ours with its current patterns, which are stored a little later."""
    if owner.incarnation != runtime.log.incarnation:
        return owner
    return owner._replace(patterns=runtime.registrations.patterns(owner.node))


def _may_come(
    event: EventRecord,
    owners: Iterable[OwnerRecord],
    replaced: Iterable[PastOwner],
    busy: Container[str | None],
) -> bool:
    """Return True if a process that is too busy to answer may still handle an event."""
    spans = [*((owner.node, owner.incarnation, owner.claimed, math.inf) for owner in owners), *replaced]
    return any(
        incarnation in busy and event.target in (None, node) and claimed < event.sequence < until
        for node, incarnation, claimed, until in spans
    )


def _reason(event: EventRecord, owners: Iterable[OwnerRecord], alive: Container[str | None]) -> str:
    concerned = [owner for owner in owners if event.target in (None, owner.node)]
    matching = [owner for owner in concerned if owner.handles(event.type)]
    known = [owner for owner in concerned if owner.claimed < event.sequence]
    if any(owner.incarnation in alive for owner in known if owner in matching):
        return NO_PATTERN  # when its turn came, no handler was registered for it
    if any(owner.sequence < event.sequence or owner.takeover for owner in matching):
        return OWNER_DIED
    return NO_PATTERN if known else NO_OWNER
