"""Checks what several processes did and saw against what is stored, and against what may be.

An `Operation` is what a thread of a process did, with the moments when it began and had ended, by one clock
for all processes. A `Stored` is one entry of the journal. Each check returns what is wrong, in words.

The states that are read and written carry their own revision, so the order of the versions of a node is
known, and whether a history is linearizable can be decided exactly and in one pass: each operation has a
place in that order (a write its version, a read the version it saw), and no operation may have a place
before that of another which had ended when it began.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

WORST = 5
"""Problems of one kind that are told."""

Place = tuple[int, int]
"""A sequence, and which of the events of one commit; -1 is the commit itself."""


@dataclass(frozen=True)
class Operation:
    """Something that a process did.

    Parameters
    ----------
    kind : str
        ``"set"``; ``"fresh"``, a read of what is newest; ``"get"``, a read of what the process has;
        ``"events"``, a reading of all events; ``"broadcast"``; ``"handle"``, of which `seen` is what the
        handler read when it was called; ``"watch"``, the registration of one; or ``"seen"``, a call of it.
    process : str
    began, ended : float
        Moments, by one clock for all processes.
    node : str
        What was set or read, or handled the event.
    seen : mapping of str to int
        Node -> the revision that was read, in one cut.
    token : str
        Of a set: what it wrote. Of a read of one node: what was there.
    wrote : int
        The revision that a set made, or that a watch was called with; the number of events or commits that a
        reading returned.
    event : str
        The id of the event that was broadcast or handled.
    sequence : int
        Of the commit or event; of the last one in a reading.
    """

    kind: str
    process: str
    began: float
    ended: float
    node: str = ""
    seen: Mapping[str, int] = field(default_factory=dict)
    token: str = ""
    wrote: int = 0
    event: str = ""
    sequence: int = 0

    def __str__(self) -> str:
        what = f"{self.kind} {self.node or self.event}"
        return f"{what} of {self.process} at {self.began:.6f}-{self.ended:.6f}, {dict(self.seen)}"


@dataclass(frozen=True)
class Stored:
    """An entry of the journal: a commit, or an event if it has an id.

    Parameters
    ----------
    place : (int, int)
    node : str
        Of a commit: whose. Of an event: who emitted it.
    revision : int
    token : str
        What the commit wrote.
    event : str
        The event's id.
    target : str
        The node that handles it.
    cause : str or None
        The id of the event whose handling led to it.
    seen : mapping of str to int
        Of a commit of a state handler: node -> the revision that it viewed.
    """

    place: Place
    node: str = ""
    revision: int = 0
    token: str = ""
    event: str = ""
    target: str = ""
    cause: str | None = None
    seen: Mapping[str, int] = field(default_factory=dict)


def check(operations: Sequence[Operation], journal: Sequence[Stored], *, applying: bool = False) -> list[str]:
    """All that is wrong with a history; `applying` if state handlers handle the events."""
    kinds: tuple[Callable[[Sequence[Operation], Sequence[Stored]], Iterable[str]], ...] = (
        check_stored,
        check_linearizable,
        *((check_applied,) if applying else (check_causes, check_handlers, check_order)),
        check_cuts,
        check_watches,
        check_readings,
    )
    return [problem for kind in kinds for problem in _few(kind(operations, journal), kind.__name__)]


def _few(problems: Iterable[str], kind: str) -> list[str]:
    found = list(problems)
    more = [f"{kind}: and {len(found) - WORST} more"] if len(found) > WORST else []
    return [f"{kind}: {problem}" for problem in found[:WORST]] + more


def check_stored(operations: Sequence[Operation], journal: Sequence[Stored]) -> Iterable[str]:
    """Check that what was acknowledged is stored once, as reported, and that revisions are consecutive."""
    commits = {(entry.node, entry.revision): entry for entry in journal if not entry.event}
    newest: dict[str, int] = {}
    for entry in journal:
        if not entry.event:
            if entry.revision != newest.get(entry.node, 0) + 1:
                yield f"{entry.node} has revision {entry.revision} after {newest.get(entry.node, 0)}"
            newest[entry.node] = entry.revision
    events = {entry.event: entry for entry in journal if entry.event}
    for id, times in Counter(entry.event for entry in journal if entry.event).items():
        if times > 1:
            yield f"event {id} is stored {times} times"
    for op in operations:
        if op.kind == "set":
            found = commits.get((op.node, op.wrote))
            if found is None or (found.token, found.place[0]) != (op.token, op.sequence):
                yield f"{op} was told revision {op.wrote} with {op.token!r}, stored is {found}"
        elif op.kind == "broadcast" and (op.event not in events or events[op.event].place[0] != op.sequence):
            yield f"{op} was told {op.sequence}, stored is {events.get(op.event)}"


def check_linearizable(operations: Sequence[Operation], journal: Sequence[Stored]) -> Iterable[str]:
    """Each node is a register that is compared and set: as if one operation came after the other."""
    tokens = {(entry.node, entry.revision): entry.token for entry in journal if not entry.event}
    for node, ops in _by_node(op for op in operations if op.kind in ("set", "fresh")).items():
        writers = Counter(op.wrote for op in ops if op.kind == "set")
        for revision, times in writers.items():
            if times > 1:
                yield f"{times} writers of {node} were told revision {revision}"
        for op in ops:
            if op.kind == "fresh" and op.token != tokens.get((node, op.seen[node]), ""):
                yield f"{op} read {op.token!r}, which is not what was written"
            if op.kind == "set" and op.seen[node] + 1 != op.wrote:
                yield f"{op} wrote {op.wrote} over {op.seen[node]}"
        for before, after in _reversed(ops, _version):
            yield f"{after} came before {before}, which had ended when it began"


def _version(op: Operation) -> tuple[int, int]:
    return (op.wrote, 0) if op.kind == "set" else (op.seen[op.node], 1)


def _by_node(operations: Iterable[Operation]) -> dict[str, list[Operation]]:
    found: dict[str, list[Operation]] = defaultdict(list)
    for op in operations:
        found[op.node].append(op)
    return found


def _reversed(
    operations: Iterable[Operation], place: Callable[[Operation], tuple[int, int]]
) -> Iterable[tuple[Operation, Operation]]:
    """Operations, each with one that had ended when it began and has a later place."""
    ending: list[tuple[float, int, Operation]] = []
    highest: Operation | None = None
    for number, op in enumerate(sorted(operations, key=lambda op: op.began)):
        while ending and ending[0][0] < op.began:
            ended = heapq.heappop(ending)[2]
            if highest is None or place(ended) > place(highest):
                highest = ended
        if highest is not None and place(op) < place(highest):
            yield highest, op
        heapq.heappush(ending, (op.ended, number, op))


def check_causes(operations: Sequence[Operation], journal: Sequence[Stored]) -> Iterable[str]:
    """A cause is stored before its effects, and was handled by who made them."""
    events = {entry.event: entry for entry in journal if entry.event}
    handled = {(op.event, op.node) for op in operations if op.kind == "handle"}
    for entry in journal:
        if entry.cause is None:
            continue
        cause = events.get(entry.cause)
        if cause is None:
            yield f"{entry} has a cause that is not stored"
        elif cause.place >= entry.place:
            yield f"{entry} is stored before its cause {cause}"
        elif (entry.cause, entry.node) not in handled:
            yield f"{entry.node} has not handled the cause of {entry}"


class _Journal:
    """The newest revision of each node at any sequence."""

    def __init__(self, journal: Iterable[Stored]) -> None:
        self._sequences: dict[str, list[int]] = defaultdict(list)
        self._made: dict[tuple[str, int], int] = {}
        for entry in journal:
            if not entry.event:
                self._sequences[entry.node].append(entry.place[0])
                self._made[entry.node, entry.revision] = entry.place[0]

    def cut(self, op: Operation) -> int:
        """The newest sequence of what an operation saw."""
        return max((self._made.get(version, 0) for version in op.seen.items()), default=0)

    def missing(self, op: Operation, sequence: int) -> list[str]:
        """Return what an operation did not see, of what is stored up to a sequence."""
        stored = {node: bisect_right(self._sequences[node], sequence) for node in op.seen}
        return [
            f"{node} {stored[node]} but {revision}"
            for node, revision in op.seen.items()
            if revision < stored[node]
        ]


def check_cuts(operations: Sequence[Operation], journal: Sequence[Stored]) -> Iterable[str]:
    """Check that a process sees one snapshot after the other: an effect never before its cause."""
    stored = _Journal(journal)
    by_process: dict[str, list[Operation]] = defaultdict(list)
    for op in operations:
        by_process[op.process].append(op)
    for ops in by_process.values():
        yield from _check_cuts_of_process(ops, stored)


def _check_cuts_of_process(operations: Iterable[Operation], stored: _Journal) -> Iterable[str]:
    ending: list[tuple[float, int]] = []
    reached = 0
    for op in sorted(operations, key=lambda op: op.began):
        while ending and ending[0][0] < op.began:
            reached = max(reached, heapq.heappop(ending)[1])
        if missing := stored.missing(op, reached):
            yield f"{op} did not see {', '.join(missing)}, though the process had seen {reached}"
        elif missing := stored.missing(op, stored.cut(op)):
            yield f"{op} is no cut: it saw {stored.cut(op)}, and not {', '.join(missing)}"
        heapq.heappush(ending, (op.ended, max(op.sequence, stored.cut(op))))


def check_handlers(operations: Sequence[Operation], journal: Sequence[Stored]) -> Iterable[str]:
    """Each event is handled once by whom it is for, who has seen by then all that is stored before it."""
    stored = _Journal(journal)
    events = {entry.event: entry for entry in journal if entry.event}
    handlings = [op for op in operations if op.kind == "handle"]
    for (event, node), times in Counter((op.event, op.node) for op in handlings).items():
        if times > 1:
            yield f"{node} has handled event {event} {times} times"
    handled = {(op.event, op.node) for op in handlings}
    for entry in journal:
        if entry.target and (entry.event, entry.target) not in handled:
            yield f"{entry.target} has not handled {entry}"
    for op in handlings:
        if op.event not in events:
            yield f"{op} is of an event that is not stored"
        elif missing := stored.missing(op, events[op.event].place[0]):
            yield f"{op} did not see {', '.join(missing)}, which is stored before the event"


def check_order(operations: Sequence[Operation], journal: Sequence[Stored]) -> Iterable[str]:
    """A node handles one event after the other, in the order of the journal."""
    events = {entry.event: entry for entry in journal if entry.event}
    handlings = [op for op in operations if op.kind == "handle" and op.event in events]
    for node, ops in _by_node(handlings).items():
        for one, next in pairwise(sorted(ops, key=lambda op: op.began)):
            if next.process == one.process and events[one.event].place > events[next.event].place:
                yield f"{node} handled {next} after {one}, which is stored later"
            if next.process == one.process and next.began < one.ended:
                yield f"{node} handled {next} while it handled {one}"


def check_applied(_: Sequence[Operation], journal: Sequence[Stored]) -> Iterable[str]:
    """Each event changed the state of its node once, in order, by what all could see when it was stored."""
    targets: dict[str, list[str]] = defaultdict(list)
    applied: dict[str, list[str]] = defaultdict(list)
    newest: dict[str, int] = {}
    then: dict[str, dict[str, int]] = {}
    for entry in journal:
        if entry.event:
            targets[entry.target].append(entry.event)
            then[entry.event] = dict(newest)
            continue
        newest[entry.node] = entry.revision
        if entry.seen:
            applied[entry.node].append(entry.token)
            known = then.get(entry.token)
            if known is None or entry.cause != entry.token:
                yield f"{entry} applied an event that was not stored before, or has another cause"
            elif dict(entry.seen) != {node: known.get(node, 0) for node in entry.seen}:
                yield f"{entry} did not view the states of the time when its event was stored"
    for node, events in targets.items():
        if events != applied[node]:
            missing = list(Counter(events) - Counter(applied[node]))[:WORST]
            again = list(Counter(applied[node]) - Counter(events))[:WORST]
            yield f"{node} has not applied {missing}, and once too often {again}; else the order is another"


def check_watches(operations: Sequence[Operation], journal: Sequence[Stored]) -> Iterable[str]:
    """A watch is called once with each commit from its registration on, in their order."""
    stored = {(entry.node, entry.revision): entry for entry in journal if not entry.event}
    newest = Counter(entry.node for entry in journal if not entry.event)
    calls: dict[tuple[str, str], list[Operation]] = defaultdict(list)
    for op in operations:
        if op.kind == "seen":
            calls[op.process, op.node].append(op)
    for watch in operations:
        if watch.kind != "watch":
            continue
        called = calls[watch.process, watch.node]
        due = range(watch.seen[watch.node] + 1, newest[watch.node] + 1)
        times = Counter(op.wrote for op in called)
        missed = [revision for revision in due if not times[revision]]
        again = [revision for revision in times if times[revision] > 1]
        if missed or again:
            yield f"{watch} missed {_start_of(missed)} and was called again with {_start_of(again)}"
        for one, next in pairwise(called):
            if next.wrote < one.wrote:
                yield f"{watch} was called with {next.wrote} after {one.wrote}"
        for op in called:
            found = stored.get((op.node, op.wrote))
            if found is None or (found.token, found.place[0]) != (op.token, op.sequence):
                yield f"{watch} was called with {op.wrote}, {op.token!r}; stored is {found}"


def _start_of(revisions: Sequence[int]) -> str:
    more = f" ... ({len(revisions)})" if len(revisions) > WORST else ""
    return ", ".join(map(str, revisions[:WORST])) + more or "none"


def check_readings(operations: Sequence[Operation], journal: Sequence[Stored]) -> Iterable[str]:
    """A reading has all up to its last entry, and all that was acknowledged before it began."""
    sequences = sorted(entry.place[0] for entry in journal if entry.event)
    acknowledged = sorted((op.ended, op.sequence) for op in operations if op.kind == "broadcast")
    ends = [ended for ended, _ in acknowledged]
    newest = list(accumulate((sequence for _, sequence in acknowledged), max, initial=0))
    for op in operations:
        if op.kind == "events":
            if op.wrote != (complete := bisect_right(sequences, op.sequence)):
                yield f"{op} returned {op.wrote} of the {complete} events up to {op.sequence}"
            if op.sequence < (known := newest[bisect_left(ends, op.began)]):
                yield f"{op} ends at {op.sequence}, and {known} was acknowledged before"
        elif op.kind == "fresh" and op.wrote and op.wrote != op.seen[op.node]:
            yield f"{op} returned {op.wrote} of {op.seen[op.node]} commits"


def longest(operations: Iterable[Operation]) -> Operation:
    """The call that took the longest."""
    return max(
        (op for op in operations if op.kind in ("set", "broadcast", "fresh", "events")),
        key=lambda op: op.ended - op.began,
    )
