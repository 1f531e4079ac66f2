"""The record of a stretch of the past.

The input from outside is fed in again. Everything else happens again; the record only knows its order.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

from happen_nb._model.causality import CommitPair
from happen_nb._model.frozen import Change, Frozen, diff, thaw
from happen_nb._model.records import EMPTY, CommitRecord, EventRecord, HandledRecord, Origin
from happen_nb._model.schedules import Cancel, ClockRecord

Key: TypeAlias = tuple[str, ...]  # identifies the handling and the place to which a stored record belongs

WATCHED: Final = "watched "
"""Begins the cause in the key of what a watch stores, so that it is no id of an event."""
AFTER: Final = 1 << 30
"""The index of a moment after all that is stored at a sequence: a begin, or a cancel that came too late."""


def commit_key(node: str, by: str | None, cause: str | None) -> Key:
    return "commit", node, by or "", cause or ""


def event_key(
    sender: str, type: str, target: str | None, cause: str | None, *, scheduled: bool = False
) -> Key:
    return "scheduled" if scheduled else "event", sender, type, target or "", cause or ""


def cancel_key(by: str | None, id: str, cause: str | None) -> Key:
    return "cancel", by or "", id, "", cause or ""


def storer_of(key: Key) -> str:
    """Return the node whose handler commits or cancels, or the sender of an event."""
    return key[2 if key[0] == "commit" else 1]


def key_of(entry: CommitRecord | EventRecord) -> Key:
    cause = cause_of(entry.origin)
    if isinstance(entry, CommitRecord):
        return commit_key(entry.node, entry.origin.by, cause)
    return event_key(entry.sender, entry.type, entry.target, cause, scheduled=entry.alarm is not None)


def cause_of(origin: Origin) -> str | None:
    """Return the cause in a key, which tells what a watch stores from what a handler does."""
    by_watch = bool(origin.path) and origin.path[-1] != origin.cause  # the path ends with its commit
    return WATCHED + (origin.cause or "") if by_watch else origin.cause


Moment: TypeAlias = tuple[int, int]  # a place in the order of the past: a sequence, and an index


class Put(NamedTuple):
    """Input from outside: an event, a commit with its events, or a move of the clock.

    Scheduling an event is one, too; its delivery, if there was one, is another.
    """

    at: Moment
    event: EventRecord | None = None
    commit: CommitPair | None = None
    clock: ClockRecord | None = None
    events: tuple[EventRecord, ...] = ()
    expected: bool = False
    """True for the delivery of an event that is scheduled in the second run: put in, or by a handler."""
    alarm: EventRecord | None = None  # an event that was scheduled at this moment
    cancel: str | None = None  # the id of a scheduled event that was cancelled

    @property
    def is_plain(self) -> bool:
        """True for an event that is stored regardless of anything else."""
        return self.event is not None and self.event.alarm is None and not self.event.has_caller_id

    @property
    def time(self) -> int:
        """The time at which it was stored, in ns; 0 if that does not matter."""
        if self.event is not None:
            return self.event.time
        return 0 if self.commit is None else self.commit[0].time


class Past(NamedTuple):
    """A stretch of the journal, taken apart."""

    puts: list[Put]  # all input from outside, in order
    storings: Mapping[Key, list[Moment]]
    """The moments at which handlers stored something, or tried to cancel something, by its key; in order."""
    beginnings: Mapping[tuple[str, str, str], list[Moment]]  # the moments at which handlers began
    ids: Mapping[Key, list[str]]  # the ids of the events that handlers emitted without giving one
    folded: Mapping[tuple[str, str], frozenset[str]]
    """The event and the node of a commit, and the other events that the state handler applied with it."""
    applied: frozenset[tuple[str, str, str]] = frozenset()
    """Events that commits apply that are put in, with the node and the key of their state handler."""
    elsewhere: Mapping[str, int] = MappingProxyType({})
    """The nodes of other processes, and how many of their events and commits were put in as they were."""


class _Separator:
    """Separates the input from outside from the effects of the handlers of this process."""

    def __init__(
        self,
        handled: Iterable[HandledRecord],
        is_ours: Callable[[str], bool],
        is_watched: Callable[[str], bool],
        end: float,
    ) -> None:
        self.puts: list[Put] = []
        self.storings: dict[Key, list[Moment]] = defaultdict(list)
        self.ids: dict[Key, list[str]] = defaultdict(list)
        self.folded: dict[tuple[str, str], frozenset[str]] = {}
        self.applied: set[tuple[str, str, str]] = set()
        self.elsewhere: dict[str, int] = defaultdict(int)
        self.events: set[str] = set()
        self._commits: dict[str, str] = {}
        self._nodes: dict[str, set[str]] = defaultdict(set)
        self._is_ours = is_ours
        self._is_watched = is_watched
        self._end = end
        self._carrier: tuple[int, bool] = (0, False)
        """The newest commit, and True if a handler here made it: its events are made with it."""
        for record in handled:
            self._nodes[record.event].add(record.node)

    def take_commit(self, pair: CommitPair) -> None:
        record = pair[0]
        self._commits[record.causal_id] = record.node
        inside = self._is_made_again(record.origin, record.origin.by)
        self._carrier = record.sequence, inside
        if inside:
            self.storings[key_of(record)].append((record.sequence, -1))
            if record.folded:
                self.folded[record.origin.cause or "", record.node] = frozenset(record.folded)
            return
        if record.folded:  # with an event before the stretch
            before = (pair[1] and pair[1].positions) or {}
            moved = [key for key, now in (record.positions or {}).items() if before.get(key) != now]
            self.applied |= {(id, record.node, key) for id in record.folded for key in moved}
        self._count_elsewhere(record.origin, record.origin.by or record.node)
        self.puts.append(Put((record.sequence, -1), commit=pair, events=record.events))

    def take_event(self, event: EventRecord) -> None:
        self.events.add(event.id)
        carried = event.sequence == self._carrier[0]
        inside = self._carrier[1] if carried else self._is_made_again(event.origin, event.sender)
        if inside and not event.has_caller_id:  # else the handler gives it again
            self.ids[key_of(event)].append(event.id)
        if event.alarm is not None:
            known = inside or (event.scheduled > 0 and event.tick is None)
            self.puts.append(Put(event.position, event=event, expected=known))
        elif inside and not carried:
            self.storings[key_of(event)].append(event.position)
        elif not inside and not carried:
            self._count_elsewhere(event.origin, event.sender)
            self.puts.append(Put(event.position, event=event))

    def take_scheduled(self, event: EventRecord, late: Iterable[tuple[str, int]]) -> None:
        """Take that an event was scheduled; after all entries.

        Each cancel that was too late found nothing under its id at its position.
        """
        # What the server has delivered only shows after which position it was scheduled.
        found = [position for id, position in late if id == event.id and position < event.sequence]
        at = max([event.scheduled, *(position + 1 for position in found)]), -1
        if self._is_made_again(event.origin, event.sender):
            self.storings[key_of(event)].append(at)
        elif at[0] <= self._end:
            self.puts.append(Put(at, alarm=event))

    def take_cancel(self, cancel: Cancel) -> None:
        """Take a cancel of a scheduled event; after all entries."""
        at = cancel.sequence, -1
        if self._is_made_again(Origin(cancel.cause), cancel.by):
            self.storings[cancel_key(cancel.by, cancel.id, cancel.cause)].append(at)
        elif cancel.sequence <= self._end:
            self.puts.append(Put(at, cancel=cancel.id))

    def _is_made_again(self, origin: Origin, by: str | None) -> bool:
        """Return True if a handler or a watch here made something because of the stretch."""
        last = origin.path[-1] if origin.path else origin.cause
        if last in self._commits:  # for a watch, the path ends with its commit
            return self._is_watched(self._commits[last])
        if last not in self.events:
            return False
        nodes = self._nodes[last]
        by = by or ""
        return any(map(self._is_ours, {by} & nodes or nodes or {by}))

    def _count_elsewhere(self, origin: Origin, node: str) -> None:
        if origin.cause in self.events:
            self.elsewhere[node] += 1


def take_apart(
    entries: Iterable[CommitPair | EventRecord],
    handled: Iterable[HandledRecord],
    clocks: Iterable[ClockRecord],
    is_ours: Callable[[str], bool],
    is_watched: Callable[[str], bool] = lambda _: False,
    scheduled: Iterable[EventRecord] = (),
    cancels: Iterable[Cancel] = (),
    end: float = math.inf,
) -> Past:
    """Separate the input from outside from the effects of the handlers of this process.

    The `entries` of the stretch are in order; a commit comes before the events that it carries. `is_ours` is
    True for a node whose handlers this process has, `is_watched` for one that it watches. `scheduled` are the
    events that were scheduled when the stretch began or later, as far as that is known, in order; `cancels`
    are those after the start. `end` is the last sequence of the stretch.
    """
    records = list(handled)
    taker = _Separator(records, is_ours, is_watched, end)
    for entry in entries:
        if isinstance(entry, EventRecord):
            taker.take_event(entry)
        else:
            taker.take_commit(entry)
    late = [each for record in records for each in record.late or ()]
    for event in scheduled:
        taker.take_scheduled(event, late)
    for cancel in cancels:
        taker.take_cancel(cancel)
    for record in records:
        if record.late and record.event in taker.events and is_ours(record.node):
            for id, position in record.late:
                key = cancel_key(record.node, id, record.event)
                taker.storings[key].append((position, AFTER))
                taker.storings[key].sort()
    puts = [*taker.puts, *(Put((clock.sequence, -1), clock=clock) for clock in clocks)]
    beginnings: dict[tuple[str, str, str], list[Moment]] = defaultdict(list)
    for record in records:
        if record.position is not None and record.event in taker.events and is_ours(record.node):
            beginnings[record.event, record.node, record.handler].append((record.position, AFTER))
    return Past(
        sorted(puts, key=lambda put: put.at),
        taker.storings,
        beginnings,
        taker.ids,
        taker.folded,
        frozenset(taker.applied),
        dict(taker.elsewhere),
    )


# -- making a change again ---------------------------------------------------------------------------------


def changes_of(pair: CommitPair) -> Sequence[Change]:
    record, previous = pair
    return diff(EMPTY if previous is None else previous.state, record.state)


def redo(changes: Sequence[Change], state: Frozen) -> Any:
    """Make changes again, on a state that may differ from the original one; return a plain value.

    Examples
    --------
    >>> old, new = {"lamp": 3, "log": ["a"]}, {"lamp": 2, "log": ["a", "b"]}
    >>> redo(diff(old, new), {"lamp": 3, "log": [], "desk": 1})
    {'lamp': 2, 'log': ['b'], 'desk': 1}
    """
    made = thaw(state)
    for change in sorted(changes, key=_removals_last):
        if not change.path:
            return thaw(change.after)
        _redo(change, made)
    return made


def _removals_last(change: Change) -> tuple[bool, int]:
    # Within a list, the last one goes first, so that the indices of the others stay valid.
    last = change.path[-1] if change.path else 0
    return change.op == "remove", -last if isinstance(last, int) and change.op == "remove" else 0


def _redo(change: Change, state: Any) -> None:
    *steps, last = change.path
    part = state
    for step in steps:
        if isinstance(part, dict) and isinstance(step, str):
            part = part.setdefault(step, {})
        elif isinstance(part, list) and isinstance(step, int) and step < len(part):
            part = part[step]
        else:
            return  # the changed part does not exist now
    after = thaw(change.after)
    if isinstance(part, dict) and isinstance(last, str):
        if change.op == "remove":
            part.pop(last, None)
        else:
            part[last] = after
    elif isinstance(part, list) and isinstance(last, int):
        if change.op == "add":
            part.insert(last, after)
        elif last < len(part) and change.op == "remove":
            del part[last]
        elif last < len(part):
            part[last] = after
