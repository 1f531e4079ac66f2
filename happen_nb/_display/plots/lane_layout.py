"""The lanes of a timeline from top to bottom, and when handlings began and ended."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from happen_nb._display.plots.groups import grouped
from happen_nb._display.spans import NS
from happen_nb._model.causality import JournalSlice, in_order
from happen_nb._model.records import EventRecord, HandledRecord

MAX_LANES: Final = 30
"""Of more lanes the busiest are shown, unless a group is opened."""
MAX_OPEN_LANES: Final = 240
MAX_SINGLE_LANES: Final = 10
"""With more lanes, nodes whose names differ in a number share one."""


@dataclass(frozen=True, slots=True)
class Lane:
    """A lane of one or more nodes."""

    name: str
    nodes: tuple[str, ...]

    @property
    def is_group(self) -> bool:
        return len(self.nodes) > 1


def start_of(event: EventRecord, record: HandledRecord) -> int:
    """Return when a handler was first called, in ns; the time of the event if that is not known."""
    return event.time + int((record.waited or 0.0) * NS)


def end_of(event: EventRecord, record: HandledRecord) -> int:
    return start_of(event, record) + int(record.duration * NS)


def lanes_of(found: Sequence[str], busy: Counter[str], opened: Collection[str] = ()) -> list[Lane]:
    """Return the lanes of nodes, which are in order; those of an `opened` group have lanes of their own."""
    lanes = [Lane(name, (name,)) for name in found]
    if len(lanes) > MAX_SINGLE_LANES:
        lanes = [Lane(group.name, group.nodes) for group in grouped(found, opened=opened)]
    most = MAX_OPEN_LANES if opened else MAX_LANES
    if len(lanes) > most:
        kept = set(sorted(lanes, key=lambda lane: -sum(busy[node] for node in lane.nodes))[:most])
        lanes = [lane for lane in lanes if lane in kept]
    return lanes


def appeared(journal: JournalSlice) -> list[str]:
    """Return the nodes in the order in which they first did something; those that only commit come last."""
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
