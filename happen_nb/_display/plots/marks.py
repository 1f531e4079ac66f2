"""The marks of a timeline: one for each thing that happened, merged where they would touch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Final, Literal

from happen_nb._display.plots.happened import By, Happened
from happen_nb._model.causality import CommitPair
from happen_nb._model.records import EventRecord, HandledRecord

Kind = Literal["event", "failure", "commit"]

OFFSETS: Final[dict[Kind, float]] = {"event": 0.26, "failure": 0.0, "commit": -0.26}
"""How far from the middle of its lane a mark is, in lanes."""


@dataclass(frozen=True, slots=True, eq=False)
class Failure:
    """A handler that failed."""

    event: EventRecord
    record: HandledRecord


@dataclass(frozen=True, slots=True, eq=False)
class Happening:
    """Something that happened at a node, at a moment (ns since 1970)."""

    node: str
    moment: int
    what: EventRecord | CommitPair | Failure

    @property
    def kind(self) -> Kind:
        """What it is."""
        if isinstance(self.what, EventRecord):
            return "event"
        return "failure" if isinstance(self.what, Failure) else "commit"

    @property
    def key(self) -> str | int | Failure:
        """What tells it from others."""
        if isinstance(self.what, EventRecord):
            return self.what.id
        return self.what if isinstance(self.what, Failure) else self.what[0].sequence


@dataclass(slots=True, eq=False)
class Mark:
    """What happened on a lane at one pixel, or too close together to be told apart."""

    kind: Kind
    lane: int
    first: float
    last: float
    things: list[Happening]

    @property
    def x(self) -> float:
        """The pixel of its middle."""
        return round((self.first + self.last) / 2, 1)

    @property
    def y(self) -> float:
        """Where it stands: lanes count downwards."""
        return round(OFFSETS[self.kind] - self.lane, 2)

    @property
    def radius(self) -> float:
        """In pixels; there is room for the count inside."""
        return _radius(len(self.things))

    def touches(self, other: Mark) -> bool:
        """Whether two marks of a lane would overlap."""
        return abs(self.x - other.x) < self.radius + other.radius

    @property
    def grew(self) -> bool:
        """Whether it has become larger with the newest that it stands for."""
        number = len(self.things)
        return number > 1 and _radius(number) > _radius(number - 1)

    def add(self, thing: Happening, at: float) -> bool:
        """Take over something at a pixel to the right, if its mark would touch this one; tells whether."""
        touched = abs(self.x - at) < self.radius + _radius(1)
        if touched:
            self.last = at
            self.things.append(thing)
        return touched

    def absorb(self, other: Mark) -> None:
        """Take over what a mark to the right stands for."""
        self.last = max(self.last, other.last)
        self.things += other.things


Edge = tuple[Mark, Mark]


def tally(number: int) -> str:
    """How many a mark stands for, in at most four characters; nothing for one.

    Examples
    --------
    >>> tally(1), tally(42), tally(1_260), tally(25_000)
    ('', '42', '1.3k', '25k')
    """
    if number < 1000:  # noqa: PLR2004
        return str(number) if number > 1 else ""
    return f"{number / 1000:.1f}k" if number < 9_950 else f"{number // 1000}k"  # noqa: PLR2004


@cache
def _radius(number: int) -> float:
    return 4.5 + 1.5 * len(tally(number))


def happenings(x: Happened, by: By) -> list[Happening]:
    """Everything that happened; events, what failed of them, and commits."""
    found = [Happening(event.sender, x.moment_of(event, by), event) for event in x.events]
    for id, records in x.failed.items():
        event = x.by_id[id]
        moment = x.moment_of(event, by)
        found += (Happening(record.node, moment, Failure(event, record)) for record in records)
    found += (Happening(each[0].node, x.moment_of_commit(each, by), each) for each in x.commits)
    return found


def marks_of(things: Iterable[Happening], lanes: Sequence[str], place: Callable[[int], float]) -> list[Mark]:
    """The marks on these lanes, none touching another of its kind; `place` gives the pixel of a moment."""
    numbers = {name: number for number, name in enumerate(lanes)}
    rows: dict[tuple[int, Kind], list[Mark]] = {}
    shown = (thing for thing in things if thing.node in numbers)
    for thing in sorted(shown, key=lambda thing: thing.moment):  # those of one moment keep their order
        lane, at = numbers[thing.node], place(thing.moment)
        row = rows.setdefault((lane, thing.kind), [])
        if not (row and row[-1].add(thing, at)):
            row.append(Mark(thing.kind, lane, at, at, [thing]))
        if not row[-1].grew:
            continue  # it only went to the right, away from the others
        while len(row) > 1 and row[-2].touches(row[-1]):
            last = row.pop()
            row[-1].absorb(last)
    return [mark for key in sorted(rows) for mark in rows[key]]


def edges_of(x: Happened, marks: Iterable[Mark]) -> list[Edge]:
    """Which marks led to which: a cause and its effect, an event and what failed of it."""
    at = {thing.key: mark for mark in marks for thing in mark.things}
    links: list[tuple[str, str | int | Failure]] = [
        (cause, effect.id if isinstance(effect, EventRecord) else effect[0].sequence)
        for cause, effects in x.effects.items()
        for effect in effects
    ]
    links += ((key.event.id, key) for key in at if isinstance(key, Failure))
    pairs = [(at[cause], at[effect]) for cause, effect in links if cause in at and effect in at]
    return list(dict.fromkeys((cause, effect) for cause, effect in pairs if cause is not effect))
