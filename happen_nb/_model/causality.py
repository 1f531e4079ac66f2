"""The events and commits that an event caused: as a tree, and in the part of a journal that a picture shows.

A causal chain may be long and the stored records may be incomplete, so nothing here recurses, and a cause
may be missing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import zip_longest
from typing import Final, Literal

from happen_nb._model.arguments import nanoseconds, to_utc
from happen_nb._model.records import CommitRecord, EventRecord, HandledRecord, Origin
from happen_nb._model.schedules import REAL_CLOCK, ClockMoves

NS: Final = 1_000_000_000  # nanoseconds of a second


@dataclass(frozen=True, slots=True)
class Totals:
    """The totals of a tree; ``duration`` is the sum of its handlers' seconds."""

    events: int
    commits: int
    failures: int
    duration: float


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TraceNode:
    """An event or a commit, with its effects; iterating yields it and all effects depth first.

    Two nodes are equal only if they are identical: comparing their contents would recurse.

    Parameters
    ----------
    event : EventRecord, optional
    commit : CommitRecord, optional
        One of both is set.
    handled : tuple of HandledRecord
        The handlings of the event, in the order given.
    children : tuple of TraceNode
        The effects, in journal order; those not stored yet come last.
    before : CommitRecord, optional
        The previous commit of the node, if known.
    open : mapping of str to str, optional
        Node -> "running" or "held", for handlers of the event in the process that made the tree. Empty if a
        handler is known that may handle the event, None if there is none.
    colours : mapping of str to int, optional
        At the root: the numbers of the colours of nodes.
    """

    event: EventRecord | None = None
    commit: CommitRecord | None = None
    handled: tuple[HandledRecord, ...] = ()
    children: tuple[TraceNode, ...] = ()
    before: CommitRecord | None = None
    open: Mapping[str, str] | None = None
    colours: Mapping[str, int] | None = None

    def walk(self) -> Iterator[tuple[int, TraceNode]]:
        """Yield each node with its depth, depth first."""
        waiting = [(0, self)]
        while waiting:
            depth, node = waiting.pop()
            yield depth, node
            waiting.extend((depth + 1, child) for child in reversed(node.children))

    def __iter__(self) -> Iterator[TraceNode]:
        return (node for _, node in self.walk())

    @property
    def actor(self) -> str:
        """The node that emitted the event, or whose handler made the commit."""
        if self.commit is not None:
            return self.commit.origin.by or self.commit.node
        return "" if self.event is None else self.event.sender

    @property
    def prospect(self) -> str:
        """The state of an event that has not been handled."""
        if self.open is None:
            return "no handler"
        return ", ".join(dict.fromkeys(self.open.values())) or "not handled yet"

    @property
    def failures(self) -> tuple[HandledRecord, ...]:
        """The failed handlings in this tree, depth first."""
        return tuple(record for node in self for record in node.handled if record.outcome == "failed")

    @property
    def totals(self) -> Totals:
        nodes = list(self)
        return Totals(
            events=sum(node.event is not None for node in nodes),
            commits=sum(node.commit is not None for node in nodes),
            failures=len(self.failures),
            duration=sum(record.duration for node in nodes for record in node.handled),
        )

    def __repr__(self) -> str:
        if self.event is not None:
            return f"TraceNode(event {self.event.type!r}, {len(self.children)} effects)"
        if self.commit is not None:
            return f"TraceNode(commit of {self.commit.node!r}, revision {self.commit.revision})"
        return "TraceNode()"


def start_of(event: EventRecord, record: HandledRecord) -> int:
    """Return when a handler was first called, in ns; the time of the event if that is not known."""
    return event.time + int((record.waited or 0.0) * NS)


def end_of(event: EventRecord, record: HandledRecord) -> int:
    return start_of(event, record) + int(record.duration * NS)


CommitPair = tuple[CommitRecord, CommitRecord | None]  # a commit, and the previous one of its node if known


def build(
    root: EventRecord,
    events: Iterable[EventRecord],
    commits: Iterable[CommitPair],
    handled: Iterable[HandledRecord],
    open: Mapping[str, Mapping[str, str]] = {},
) -> TraceNode:
    """Build the tree of an event's effects.

    `events` and `commits` may be in any order, and may contain the root, repetitions, and records that are
    no effects. An effect whose cause is missing becomes a child of the nearest cause before it. `open` has
    the attribute of each `TraceNode` by the id of its event.

    Examples
    --------
    >>> paid = EventRecord("e1", "order.paid", "notebook")
    >>> ship = EventRecord("e2", "parcel.send", "orders", cause="e1", sequence=2)
    >>> root = build(paid, [ship], [], [HandledRecord("e1", "orders", "on_paid", "done", 0.25)])
    >>> [(depth, node.event.type) for depth, node in root.walk()]
    [(0, 'order.paid'), (1, 'parcel.send')]
    >>> root.totals
    Totals(events=2, commits=0, failures=0, duration=0.25)
    """
    known = {root.id: root}
    for event in events:
        known.setdefault(event.id, event)
    effects = _effects(root, known, {commit.sequence: (commit, before) for commit, before in commits})
    handlings: dict[str, list[HandledRecord]] = {}
    for record in handled:
        handlings.setdefault(record.event, []).append(record)
    order = [root.id]
    for id in order:  # grows during the loop: causes come before their effects
        order.extend(effect.id for effect in effects.get(id, ()) if isinstance(effect, EventRecord))
    made: dict[str, TraceNode] = {}
    for id in reversed(order):
        children = tuple(
            made[effect.id]
            if isinstance(effect, EventRecord)
            else TraceNode(commit=effect[0], before=effect[1])
            for effect in effects.get(id, ())
        )
        handlings_of_it = tuple(handlings.get(id, ()))
        made[id] = TraceNode(known[id], handled=handlings_of_it, children=children, open=open.get(id))
    return made[root.id]


_Effect = EventRecord | CommitPair


def _effects(
    root: EventRecord, known: dict[str, EventRecord], commits: dict[int, CommitPair]
) -> dict[str, list[_Effect]]:
    """Map the id of each event to its effects, in journal order."""
    effects: dict[str, list[_Effect]] = {}
    everything: list[_Effect] = [*known.values(), *commits.values()]
    for effect in everything:
        origin = effect.origin if isinstance(effect, EventRecord) else effect[0].origin
        cause = nearest_cause(origin, known)
        folded = () if isinstance(effect, EventRecord) else effect[0].folded
        for each in {cause, *known.keys() & set(folded)} - {None} if effect is not root else ():
            effects.setdefault(str(each), []).append(effect)
    for found in effects.values():
        found.sort(key=_position)
    return effects


def nearest_cause(origin: Origin, known: Container[str]) -> str | None:
    """Return the cause, or the last known one before it."""
    if origin.cause is None or origin.cause in known:
        return origin.cause
    return next((id for id in reversed(origin.path) if id in known), None)


def event_time(origin: Origin, events: Mapping[str, EventRecord]) -> datetime | None:
    """Return the event time, in UTC, of the nearest known cause that has one; naive times are local."""
    for _ in range(len(origin.path) + 1):
        cause = nearest_cause(origin, events)
        if cause is None:
            return None
        occurred = events[cause].occurred
        if occurred is not None:
            return to_utc(datetime.fromisoformat(occurred))
        origin = events[cause].origin
    return None


def _position(effect: _Effect) -> tuple[bool, int, int]:
    # A commit comes before the events that it emitted.
    sequence, index = effect.position if isinstance(effect, EventRecord) else (effect[0].sequence, -1)
    return not sequence, sequence, index


TimeBase = Literal["time", "occurred"]
NOTEBOOK: Final = "notebook"
_DIGITS: Final = re.compile(r"(\d+)")


def in_order(names: Iterable[str]) -> list[str]:
    """Sort names: the notebook first, numbers in them by their value.

    Examples
    --------
    >>> in_order(["node-10", "node-9", "notebook", "api"])
    ['notebook', 'api', 'node-9', 'node-10']
    """
    return sorted(names, key=lambda name: (name != NOTEBOOK, _natural(name), name))


def _natural(name: str) -> list[tuple[str, int]]:
    parts = _DIGITS.split(name)
    return [(text, int(number or 0)) for text, number in zip_longest(parts[::2], parts[1::2])]


@dataclass(frozen=True)
class JournalSlice:
    """A part of a space's journal."""

    space: str
    events: Sequence[EventRecord] = ()
    commits: Sequence[CommitPair] = ()  # each with the previous one of its node, if that is known
    handled: Iterable[HandledRecord] = ()  # handlings of these events and of others; iterated more than once
    nodes: Sequence[str] = ()  # the current nodes of the space
    newest: int | None = None  # the limit that left out older records
    scheduled: Sequence[EventRecord] = ()  # the next scheduled events, by due time
    to_come: int = 0  # how many there are in all
    now: int = 0  # the time of the space when they were read; in ns
    clock: ClockMoves = REAL_CLOCK  # of a manual clock, up to these records
    colours: Mapping[str, int] = field(default_factory=dict)  # the colour numbers of nodes
    pattern: str = "**"  # that selects the events
    # Reads the payloads of events that were read without; events that are gone are left out.
    with_payloads: Callable[[Sequence[EventRecord]], Sequence[EventRecord]] = lambda events: events
    # Reads the state of a commit that was read without, and the commit before it; None if it is gone.
    whole_commit: Callable[[CommitPair], CommitPair | None] = lambda pair: pair

    @cached_property
    def by_id(self) -> dict[str, EventRecord]:
        return {event.id: event for event in self.events}

    @cached_property
    def handlings(self) -> dict[str, list[HandledRecord]]:
        """Event id -> its handlings."""
        found: dict[str, list[HandledRecord]] = {}
        by_id = self.by_id
        for record in self.handled:
            if record.event in by_id:
                found.setdefault(record.event, []).append(record)
        return found

    @cached_property
    def failed(self) -> dict[str, list[HandledRecord]]:
        """Event id -> its failed handlings; only events with one."""
        found = {
            id: [record for record in records if record.outcome == "failed"]
            for id, records in self.handlings.items()
        }
        return {id: records for id, records in found.items() if records}

    @cached_property
    def effects(self) -> dict[str, list[EventRecord | CommitPair]]:
        """Event id -> the commits and events that it caused, in journal order."""
        found: dict[str, list[EventRecord | CommitPair]] = {}
        for pair in self.commits:
            if (cause := pair[0].origin.cause) in self.by_id:
                found.setdefault(cause, []).append(pair)
        for event in self.events:
            if event.cause in self.by_id:
                found.setdefault(event.cause, []).append(event)
        return found

    def time_of(self, event: EventRecord, by: TimeBase) -> int:
        """Return when an event was stored, or the event time of it or of its nearest cause; in ns."""
        if by == "time":
            return event.time
        if event.occurred is not None:
            return nanoseconds(datetime.fromisoformat(event.occurred))
        return self._occurred(event.origin, event.time)

    def time_of_commit(self, pair: CommitPair, by: TimeBase) -> int:
        """Return the same of a commit, whose event time is that of its cause."""
        record, _ = pair
        return record.time if by == "time" else self._occurred(record.origin, record.time)

    def _occurred(self, origin: Origin, stored: int) -> int:
        occurred = event_time(origin, self.by_id)
        return stored if occurred is None else nanoseconds(occurred)
