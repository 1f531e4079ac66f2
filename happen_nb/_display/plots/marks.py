"""The marks of a timeline, merged where they would touch, and the text that appears on each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from operator import attrgetter
from textwrap import wrap
from typing import Final, Literal

from happen_nb._display.plots.lane_layout import Lane, end_of
from happen_nb._display.plots.scene import HOVER_COLUMNS, Point, clock, hover_line, joined, safe
from happen_nb._display.spans import (
    count,
    cut_middle,
    from_ns,
    function,
    human_duration,
    human_time,
    iso,
    one_line,
    plain,
)
from happen_nb._display.values import in_a_line, summary
from happen_nb._model.causality import CommitPair, JournalSlice, TimeBase
from happen_nb._model.frozen import Diff, diff
from happen_nb._model.records import EMPTY, CommitRecord, EventRecord, HandledRecord
from happen_nb.errors import HappenError

Kind = Literal["event", "failure", "commit"]

MAX_DIFF_BYTES: Final = 8_000_000
"""States of a picture that are read to show the changes of commits."""

_MAX_CHANGES, _MAX_PAYLOAD_LINES, _MAX_TYPES, _MAX_NAMES, _MAX_ERRORS = 5, 3, 6, 4, 2
_MAX_DETAILED_MARKS: Final = 500  # with more marks, merged ones do not show their newest change
_HALF: Final = HOVER_COLUMNS // 2


@dataclass(frozen=True, slots=True, eq=False)
class FailedHandling:
    """A handler that failed."""

    event: EventRecord
    record: HandledRecord


@dataclass(frozen=True, slots=True, eq=False)
class TimelineItem:
    """An event, commit or failed handling of a node, at a time (ns since 1970)."""

    node: str
    time: int
    what: EventRecord | CommitPair | FailedHandling

    @property
    def kind(self) -> Kind:
        if isinstance(self.what, EventRecord):
            return "event"
        return "failure" if isinstance(self.what, FailedHandling) else "commit"

    @property
    def key(self) -> str | int | FailedHandling:
        """Identifies it among all items."""
        if isinstance(self.what, EventRecord):
            return self.what.id
        return self.what if isinstance(self.what, FailedHandling) else self.what[0].sequence


@dataclass(slots=True, eq=False)
class Mark:
    """Items of one kind on a lane, at one pixel or too close to be distinguished."""

    kind: Kind
    height: float
    first: float
    last: float
    items: list[TimelineItem]

    @property
    def at(self) -> Point:
        """Its middle: the pixel, and its height in lanes."""
        return round((self.first + self.last) / 2, 1), self.height

    @property
    def radius(self) -> float:
        """In pixels, with room for the number of items inside."""
        return _radius(len(self.items))

    def touches(self, other: Mark) -> bool:
        """Return True if two marks of a lane would overlap."""
        return abs(self.at[0] - other.at[0]) < self.radius + other.radius

    @property
    def grew(self) -> bool:
        """True if the last item has made it larger."""
        number = len(self.items)
        return number > 1 and _radius(number) > _radius(number - 1)

    def add(self, item: TimelineItem, place: float) -> bool:
        """Add an item at a pixel to the right if its mark would touch this one; return True if so."""
        touched = abs(self.at[0] - place) < self.radius + _radius(1)
        if touched:
            self.last = place
            self.items.append(item)
        return touched

    def absorb(self, other: Mark) -> None:
        """Take over the items of a mark to the right."""
        self.last = max(self.last, other.last)
        self.items += other.items


Edge = tuple[Mark, Mark]
"""A cause and its effect."""


def tally(number: int) -> str:
    """Return the number of items of a mark in at most four characters; nothing for one.

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


def items_of(journal: JournalSlice, by: TimeBase) -> list[TimelineItem]:
    """Return the items of a journal: events, their failed handlings, and commits."""
    found = [TimelineItem(event.sender, journal.time_of(event, by), event) for event in journal.events]
    for id, records in journal.failed.items():
        event = journal.by_id[id]
        time = journal.time_of(event, by)
        for record in records:
            at = end_of(event, record) if by == "time" else time
            found.append(TimelineItem(record.node, at, FailedHandling(event, record)))
    found += (TimelineItem(pair[0].node, journal.time_of_commit(pair, by), pair) for pair in journal.commits)
    return found


def marks_of(
    items: Iterable[TimelineItem], lanes: Sequence[Lane], place: Callable[[int], float]
) -> list[Mark]:
    """Return the marks on some lanes, none touching another of its kind; `place` maps times to pixels."""
    numbers = {node: number for number, lane in enumerate(lanes) for node in lane.nodes}
    rows: dict[tuple[int, Kind], list[Mark]] = {}
    kept = (item for item in items if item.node in numbers)
    for item in sorted(kept, key=lambda item: item.time):  # a stable sort: items of one time keep their order
        lane, at = numbers[item.node], place(item.time)
        row = rows.setdefault((lane, item.kind), [])
        if not (row and row[-1].add(item, at)):
            row.append(Mark(item.kind, lanes[lane].place(item.kind), at, at, [item]))
        if not row[-1].grew:
            continue  # it moved to the right at most, away from the others
        while len(row) > 1 and row[-2].touches(row[-1]):
            last = row.pop()
            row[-1].absorb(last)
    return [mark for key in sorted(rows) for mark in rows[key]]


def edges_of(journal: JournalSlice, marks: Iterable[Mark]) -> list[Edge]:
    """Return the edges from causes to their effects, and from events to their failed handlings."""
    at = {item.key: mark for mark in marks for item in mark.items}
    links: list[tuple[str, str | int | FailedHandling]] = [
        (cause, effect.id if isinstance(effect, EventRecord) else effect[0].sequence)
        for cause, effects in journal.effects.items()
        for effect in effects
    ]
    links += ((key.event.id, key) for key in at if isinstance(key, FailedHandling))
    pairs = [(at[cause], at[effect]) for cause, effect in links if cause in at and effect in at]
    return list(dict.fromkeys((cause, effect) for cause, effect in pairs if cause is not effect))


class HoverTexts:
    """The texts of a picture's marks; brief for merged marks where there are many."""

    def __init__(self, journal: JournalSlice, marks: Sequence[Mark]) -> None:
        self._journal = journal
        self._brief = len(marks) > _MAX_DETAILED_MARKS
        self._bytes_left = MAX_DIFF_BYTES
        alone = [mark.items[0].what for mark in marks if len(mark.items) == 1]
        events = sorted((each for each in alone if isinstance(each, EventRecord)), key=attrgetter("position"))
        self._payloads = {event.id: event.payload for event in journal.with_payloads(events)}
        self._handled_by: dict[str, set[str]] = {event.id: set() for event in events}
        for record in journal.handled if events else ():
            if record.event in self._handled_by and record.accepted:
                self._handled_by[record.event].add(record.node)

    def text(self, mark: Mark) -> str:
        if len(mark.items) > 1:
            return joined(self._merged(mark))
        (item,) = mark.items
        if isinstance(item.what, EventRecord):
            return joined(self._event(item.what, item.time))
        if isinstance(item.what, FailedHandling):
            return joined(self._failure(item.what, item.time))
        return joined(self._commit(item.what, item.time))

    def _event(self, event: EventRecord, at: int) -> Iterable[str]:
        yield _bold(_type(event), f"{_name(event.sender)} → {_name(event.target or 'all')}")
        yield safe(f"{_time(at)} · #{event.sequence}")
        payload = self._payloads.get(event.id)
        if payload is not None:
            yield from _wrapped(plain(summary(payload, _MAX_PAYLOAD_LINES * HOVER_COLUMNS - 20)))
        nodes = [_name(node) for node in sorted(self._handled_by[event.id])]
        yield hover_line(f"handled by {_listed(nodes)}" if nodes else "unhandled")
        failed = self._journal.failed.get(event.id, ())[:_MAX_ERRORS]
        yield from (hover_line(f"! {_name(each.node)}  {_error(each.error)}") for each in failed)
        yield from self._because(event.cause)
        if effects := self._journal.effects.get(event.id):
            yield from _wrapped(f"led to {_listed([_effect(effect) for effect in effects])}")

    def _commit(self, pair: CommitPair, at: int) -> Iterable[str]:
        record, _ = pair
        by = record.origin.by
        author = "" if by in {None, record.node} else f"by {by}"
        yield _bold(f"{_name(record.node)} revision {record.revision:,}", author)
        yield safe(f"{_time(at)} · #{record.sequence}")
        yield from self._changes(pair)
        yield from self._because(record.origin.cause)

    def _failure(self, failed: FailedHandling, at: int) -> Iterable[str]:
        event, record = failed.event, failed.record
        yield _bold(
            f"{_name(record.node)} failed", f"{_name(function(record.handler))}, given {_type(event)}"
        )
        tries = f" · {count(record.attempts, 'attempt')}" if record.attempts > 1 else ""
        yield safe(f"{_time(at)} · {human_duration(record.duration)}{tries}")
        yield from _wrapped(one_line(record.error or "", _MAX_PAYLOAD_LINES * HOVER_COLUMNS - 20))

    def _changes(self, pair: CommitPair) -> Iterable[str]:
        record, before = pair
        if record.deleted:
            return ["deleted"]
        if not (record.revision == 1 if before is None else before.revision == record.revision - 1):
            return ["(what it changed is not stored any more)"]
        self._bytes_left -= sum(len(each.body or b"") for each in (record, before) if each is not None)
        if self._bytes_left < 0:
            return ["(what it changed is too much to read here)"]
        try:
            return _diff(diff(EMPTY if before is None else before.state, record.state))
        except HappenError as error:
            return [hover_line(_error(str(error)))]

    def _because(self, cause: str | None) -> Iterable[str]:
        if cause is not None:
            event = self._journal.by_id.get(cause)
            what = "an event not shown here" if event is None else f"{_type(event)} of {_name(event.sender)}"
            yield hover_line(f"because of {what}")

    def _merged(self, mark: Mark) -> Iterable[str]:
        items = mark.items
        start, end = items[0].time, items[-1].time
        yield _bold(count(len(items), mark.kind), "")
        yield safe(f"{clock(start)} to {_time(end)}" if end > start else _time(end))
        counts = Counter(map(_group, items)).most_common()
        yield from (hover_line(f"{number:6,}  {group}") for group, number in counts[:_MAX_TYPES])
        if len(counts) > _MAX_TYPES:
            yield safe(f"… {len(counts) - _MAX_TYPES:,} more kinds")
        events = [item.what for item in items if isinstance(item.what, EventRecord)]
        if failed := sum(event.id in self._journal.failed for event in events):
            yield hover_line(f"! a handler failed with {failed:,} of them")
        newest = items[-1].what
        if isinstance(newest, tuple) and not self._brief:
            yield safe(f"the newest, revision {newest[0].revision:,}:")
            yield from self._changes(newest)


def _group(item: TimelineItem) -> str:
    """Return the name under which an item of a merged mark is counted."""
    if isinstance(item.what, EventRecord):
        return _type(item.what)
    if isinstance(item.what, FailedHandling):
        return _error(item.what.record.error)
    by = item.what[0].origin.by
    return "set directly" if by is None else f"set by a handler of {_name(by)}"


def _effect(effect: EventRecord | CommitPair) -> str:
    if isinstance(effect, EventRecord):
        return _type(effect)
    record: CommitRecord = effect[0]
    return f"{_name(record.node)} revision {record.revision:,}"


def _diff(changes: Diff) -> Iterable[str]:
    for change in changes[:_MAX_CHANGES]:
        yield hover_line(plain(in_a_line([change], HOVER_COLUMNS - 4)[0]))
    if len(changes) > _MAX_CHANGES:
        yield safe(f"… {len(changes) - _MAX_CHANGES:,} more changes")
    if not changes:
        yield "no change"


def _time(at: int) -> str:
    return human_time(iso(from_ns(at)))


def _bold(first: str, rest: str) -> str:
    return f"<b>{safe(first)}</b> {hover_line(rest)}".rstrip()


def _wrapped(text: str) -> Iterable[str]:
    return (hover_line(each) for each in wrap(text, HOVER_COLUMNS))


def _listed(names: Sequence[str]) -> str:
    left = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f", … {left:,} more" if left > 0 else "")


def _error(text: str | None) -> str:
    return one_line(text or "failed", HOVER_COLUMNS)


def _type(event: EventRecord) -> str:
    return cut_middle(event.type, _HALF)


def _name(text: str) -> str:
    return cut_middle(text, _HALF)
