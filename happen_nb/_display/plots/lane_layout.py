"""The lanes of a timeline from top to bottom, and the bars of handlings on them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

from happen_nb._display.spans import NS, count, function, human_duration
from happen_nb._model.causality import JournalSlice, in_order
from happen_nb._model.records import EventRecord, HandledRecord

MAX_LANES: Final = 30
"""Of more lanes the busiest are shown."""
MAX_SINGLE_LANES: Final = 10
"""With more lanes, nodes whose names differ in a number share one."""
MAX_BARS: Final = 3_000
"""Handlings that a picture holds, the newest."""

_LEAST_IN_GROUP: Final = 5
_GROUP_HEIGHT: Final = 3.0  # lanes
_NUMBERED: Final = re.compile(r"(.*?)\d+", re.DOTALL)
_EDGE: Final = 0.24  # lanes from the edge of a lane to the marks of events and commits
_RASTER: Final = 0.45  # lanes from the edge of a group to its first and last node
_LEAST_BAR: Final = 2.0  # pixels


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane of one or more nodes; heights count lanes, downwards from the middle of the first one."""

    name: str
    nodes: tuple[str, ...]
    middle: float
    height: float = 1.0

    @property
    def is_group(self) -> bool:
        return len(self.nodes) > 1

    def place(self, kind: str) -> float:
        """Return the height of a kind of marks."""
        inner = self.height / 2 - _EDGE
        return round({"event": inner, "commit": -inner}.get(kind, 0.0) - self.middle, 2)

    def bar_place(self, node: str) -> float:
        """Return the height of a node's handlings."""
        if not self.is_group:
            return -self.middle
        inner = self.height / 2 - _RASTER
        share = self.nodes.index(node) / (len(self.nodes) - 1)
        return round(inner - 2 * inner * share - self.middle, 3)


@dataclass(frozen=True, slots=True)
class HandlingBar:
    """Handlings of a node that touch each other, in pixels."""

    start: float
    end: float
    height: float
    since: float | None  # where a single one started to wait
    text: str
    in_group: bool


def start_of(event: EventRecord, record: HandledRecord) -> int:
    """Return when a handler was first called, in ns; the time of the event if that is not known."""
    return event.time + int((record.waited or 0.0) * NS)


def end_of(event: EventRecord, record: HandledRecord) -> int:
    return start_of(event, record) + int(record.duration * NS)


def lanes_of(
    journal: JournalSlice, busy: Counter[str], chosen: Sequence[str] | None
) -> tuple[list[Lane], int]:
    """Return the lanes in the order in which their nodes first did something, and how many nodes there are.

    Nodes that only commit come last. `chosen` are the lanes if the caller names them.
    """
    if chosen is not None:
        names = list(dict.fromkeys(chosen))
        return _stacked([(name, (name,)) for name in names]), len(names)
    found = _appeared(journal)
    rows: list[tuple[str, tuple[str, ...]]] = [(name, (name,)) for name in found]
    if len(rows) > MAX_SINGLE_LANES:
        rows = list(_grouped(found))
    if len(rows) > MAX_LANES:
        kept = sorted(rows, key=lambda row: -sum(busy[node] for node in row[1]))[:MAX_LANES]
        rows = [row for row in rows if row in kept]
    return _stacked(rows), len(found)


def _appeared(journal: JournalSlice) -> list[str]:
    first: dict[str, int] = {}
    for event in journal.events:
        first[event.sender] = min(event.time, first.get(event.sender, event.time))
    for id, records in journal.handlings.items():
        event = journal.by_id[id]
        for record in records:
            if record.accepted:
                # After the event itself, also where the start is not known.
                start = max(start_of(event, record), event.time + 1)
                first[record.node] = min(start, first.get(record.node, start))
    quiet: dict[str, int] = {}
    for record_of, _ in journal.commits:
        if record_of.node not in first:
            quiet.setdefault(record_of.node, record_of.time)
    natural = {name: number for number, name in enumerate(in_order([*first, *quiet]))}
    return [
        name
        for times in (first, quiet)
        for name in sorted(times, key=lambda name: (times[name], natural[name]))
    ]


def _grouped(names: Sequence[str]) -> Iterable[tuple[str, tuple[str, ...]]]:
    stems = {name: found[1] for name in names if (found := _NUMBERED.fullmatch(name))}
    members: dict[str, list[str]] = {}
    for name, stem in stems.items():
        members.setdefault(stem, []).append(name)
    seen: set[str] = set()
    for name in names:
        stem = stems.get(name)
        if stem is None or len(members[stem]) < _LEAST_IN_GROUP:
            yield name, (name,)
        elif stem not in seen:
            seen.add(stem)
            yield f"{stem}* ({len(members[stem]):,})", tuple(in_order(members[stem]))


def _stacked(rows: Iterable[tuple[str, tuple[str, ...]]]) -> list[Lane]:
    lanes, top = [], -0.5
    for name, nodes in rows:
        height = _GROUP_HEIGHT if len(nodes) > 1 else 1.0
        lanes.append(Lane(name, nodes, top + height / 2, height))
        top += height
    return lanes


Handling = tuple[EventRecord, HandledRecord]


def handlings_on(journal: JournalSlice, lanes: Iterable[Lane]) -> list[Handling]:
    """Return the newest handlings of the nodes on some lanes, oldest first."""
    nodes = set(chain.from_iterable(lane.nodes for lane in lanes))
    found = [
        (journal.by_id[id], record)
        for id, records in journal.handlings.items()
        for record in records
        if record.node in nodes and record.accepted
    ]
    found.sort(key=lambda each: start_of(*each))
    return found[-10 * MAX_BARS :]


def bars_of(
    handlings: Iterable[Handling], lanes: Iterable[Lane], place: Callable[[int], float]
) -> list[HandlingBar]:
    """Return the bars of handlings; `place` maps times to pixels."""
    homes = {node: lane for lane in lanes for node in lane.nodes}
    runs: dict[str, list[list[Handling]]] = {}
    ends: dict[str, float] = {}
    for event, record in handlings:
        start = place(start_of(event, record))
        own = runs.setdefault(record.node, [])
        if own and start < ends[record.node] + 1.0:
            own[-1].append((event, record))
        else:
            own.append([(event, record)])
        ends[record.node] = max(ends.get(record.node, 0.0), place(end_of(event, record)), start + _LEAST_BAR)
    bars = [_bar(run, homes[node], place) for node, found in runs.items() for run in found]
    return sorted(bars, key=lambda bar: bar.start)[-MAX_BARS:]


def _bar(run: list[Handling], lane: Lane, place: Callable[[int], float]) -> HandlingBar:
    event, record = run[0]
    start, since = place(start_of(event, record)), place(event.time)
    end = max(start + _LEAST_BAR, *(place(end_of(*each)) for each in run))
    if len(run) > 1:
        text = f"{record.node}: {count(len(run), 'handling')}"
    else:
        waited = "" if record.waited is None else f"waited {human_duration(record.waited)} · "
        took = f"took {human_duration(record.duration)}"
        text = f"{record.node} · {function(record.handler)} · {event.type}\n{waited}{took}"
    waits = since if len(run) == 1 and not lane.is_group and start - since > 1 else None
    return HandlingBar(start, round(end, 1), lane.bar_place(record.node), waits, text, lane.is_group)
