"""The timeline: a lane per node, time from left to right, lines from causes to effects.

Marks that would touch are merged; each has a text that appears beside it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import islice
from operator import attrgetter
from textwrap import wrap
from typing import TYPE_CHECKING, Final, Literal

from happen_nb._display.plots import scene
from happen_nb._display.plots.scene import (
    BREAK_WIDTH,
    HOVER_COLUMNS,
    Arrow,
    Axis,
    Label,
    Line,
    Marks,
    Point,
    Scene,
    Series,
    Stripe,
    Tick,
    TimeAxis,
    break_gaps,
    clock,
    hover_line,
    joined,
    safe,
)
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
from happen_nb._model.causality import CommitPair, JournalSlice, TimeBase, in_order
from happen_nb._model.frozen import Diff, diff
from happen_nb._model.records import EMPTY, CommitRecord, EventRecord, HandledRecord
from happen_nb.errors import HappenError

if TYPE_CHECKING:
    from happen_nb._display.plots.plotly_figure import SceneFigure

MAX_LANES: Final = 30
"""Of more nodes the busiest are shown."""
MAX_SHOWN_LINES: Final = 250
"""More lines from causes to effects are hidden at first; the legend shows them."""
MAX_LINES: Final = 1_000
"""Lines that a picture holds."""
MAX_ARROWS: Final = 300
"""Arrows that a picture holds, for its newest marks; those of a mark appear when it is pointed at."""

_MAX_ARROWS_OF_MARK: Final = 24
_PLOT_WIDTH: Final = scene.WIDTH - 150.0  # pixels of the time axis
_LANE_HEIGHT, _LOW_LANE_HEIGHT, _MAX_HIGH_LANES = 50, 36, 10  # pixels of a lane, lower where there are many
_EDGE: Final = 14.0  # pixels beside the outermost marks
_LOOKS: Final[dict[Kind, tuple[str, str]]] = {
    "event": ("circle", scene.NUMBER),
    "commit": ("square", scene.STRING),
    "failure": ("x", scene.ERROR),
}


def timeline(
    journal: JournalSlice,
    *,
    nodes: Sequence[str] | None = None,
    by: TimeBase = "time",
    before_display: Callable[[], object] | None = None,
) -> SceneFigure:
    """Draw a part of a journal, with lanes for `nodes` from top to bottom, or for all.

    `before_display` is called when a notebook is about to show a figure with marks.
    """
    from happen_nb._display.plots.plotly_figure import figure_of

    items = items_of(journal, by)
    lanes, known = _lanes(journal, items, nodes)
    lanes_set = set(lanes)
    shown = [item for item in items if item.node in lanes_set]
    if not shown:
        title = f"<b>Timeline of {scene.short(journal.space)}</b>"
        return figure_of(scene.message(title, "Nothing has happened here yet."))
    time = break_gaps((item.time for item in shown), _PLOT_WIDTH)
    marks = marks_of(shown, lanes, time.place)
    edges = edges_of(journal, marks)
    picture = Scene(
        title=_title(journal, shown, len(lanes), known),
        height=118 + len(lanes) * (_LANE_HEIGHT if len(lanes) <= _MAX_HIGH_LANES else _LOW_LANE_HEIGHT),
        margin=(12, 40, 66, 52),
        x=Axis(
            range=(-_EDGE, _PLOT_WIDTH + _EDGE),
            ticks=time.ticks,
            level=True,
            title="time, UTC" if by == "time" else "when it occurred, UTC",
        ),
        rows=[
            Axis(
                range=(0.6 - len(lanes), 0.6),
                ticks=[Tick(-number, f"{scene.short(name)} ") for number, name in enumerate(lanes)],
                grid=scene.LINE,
                fixed=True,
            )
        ],
        stripes=[*_lane_stripes(len(lanes)), *_break_stripes(time)],
        series=[_lines(edges), *_series(journal, marks)],
        texts=_break_labels(time),
        arrows=_arrows(marks, edges),
    )
    return figure_of(picture, before_display=before_display)


def _lanes(
    journal: JournalSlice, items: Iterable[TimelineItem], nodes: Sequence[str] | None
) -> tuple[list[str], int]:
    """Return the lanes from top to bottom, and how many there could be."""
    if nodes is not None:
        lanes = list(dict.fromkeys(nodes))
        return lanes, len(lanes)
    busy = Counter(item.node for item in items)
    names = sorted({*busy, *journal.nodes}, key=lambda name: (-busy[name], name))
    return in_order(names[:MAX_LANES]), len(names)


def _title(journal: JournalSlice, items: Iterable[TimelineItem], lanes: int, known: int) -> str:
    counts = Counter(item.kind for item in items)
    kinds: tuple[Kind, ...] = ("event", "commit", "failure")
    parts = [count(counts[kind], kind) for kind in kinds if counts[kind]]
    if journal.newest is not None:
        parts.append(f"newest {journal.newest:,}")
    if lanes < known:
        parts.append(f"{lanes:,} of {known:,} nodes")
    return f"<b>Timeline of {scene.short(journal.space)}</b> · {' · '.join(parts)}"


def _lane_stripes(lanes: int) -> Iterable[Stripe]:
    return (Stripe("y", -lane - 0.5, 0.5 - lane, scene.STRIPE) for lane in range(1, lanes, 2))


def _break_stripes(time: TimeAxis) -> Iterable[Stripe]:
    half = BREAK_WIDTH / 2 - 2
    return (Stripe("x", each.place - half, each.place + half, scene.FAINT) for each in time.breaks)


def _break_labels(time: TimeAxis) -> list[Label]:
    return [
        Label(text=f"{each.label} idle", x=each.place, y=0.5, y_of_plot=True, size=10, angle=-90)
        for each in time.breaks
    ]


def _lines(edges: Sequence[Edge]) -> Series:
    """Return faint lines from causes to effects."""
    newest = sorted(edges, key=lambda edge: -edge[1].at[0])[:MAX_LINES]
    return Series(
        points=[at for cause, effect in newest for at in (cause.at, effect.at, None)],
        name="cause to effect",
        line=Line(scene.QUIET, 1, opacity=0.45),
        legend=bool(edges),
        hidden=len(edges) > MAX_SHOWN_LINES,
    )


def _series(journal: JournalSlice, marks: Sequence[Mark]) -> Iterable[Series]:
    hover = HoverTexts(journal, marks)
    of_kind: dict[Kind, list[Mark]] = {"event": [], "commit": [], "failure": []}
    for mark in marks:
        of_kind[mark.kind].append(mark)
    for kind, some in of_kind.items():
        symbol, colour = _LOOKS[kind]
        merged = any(len(mark.items) > 1 for mark in some)
        yield Series(
            points=[mark.at for mark in some],
            name=kind,
            marks=Marks(
                sizes=[2 * mark.radius for mark in some],
                colours=colour,
                symbols=[_symbol(mark, symbol) for mark in some],
            ),
            labels=[tally(len(mark.items)) for mark in some] if merged else None,
            label_colours=scene.ON_MARK,
            label_size=9,
            hover=[hover.text(mark) for mark in some],
            legend=bool(some),
        )


def _symbol(mark: Mark, symbol: str) -> str:
    # An x has no room for a number.
    return "octagon" if symbol == "x" and len(mark.items) > 1 else symbol


def _arrows(marks: Iterable[Mark], edges: Iterable[Edge]) -> list[Arrow]:
    """Return the arrows from all causes of each mark and to its effects, which appear on demand."""
    causes: dict[Mark, list[Edge]] = {}
    effects: dict[Mark, list[Edge]] = {}
    for edge in edges:
        causes.setdefault(edge[1], []).append(edge)
        effects.setdefault(edge[0], []).append(edge)
    arrows = (
        Arrow(
            start=start.at,
            end=end.at,
            colour=scene.REMOVED,
            from_start=start.radius,
            to_end=end.radius + 1,
            mark=mark.at,
        )
        for mark in sorted(marks, key=lambda mark: -mark.at[0])
        for start, end in islice(_around(mark, causes, effects), _MAX_ARROWS_OF_MARK)
    )
    return list(islice(arrows, MAX_ARROWS))


def _around(mark: Mark, causes: dict[Mark, list[Edge]], effects: dict[Mark, list[Edge]]) -> Iterable[Edge]:
    """Return the edges that lead to a mark, nearest first, then those that lead away from it."""
    seen = {mark}
    waiting = deque([mark])
    while waiting:
        for edge in causes.get(waiting.popleft(), ()):
            yield edge
            if edge[0] not in seen:
                seen.add(edge[0])
                waiting.append(edge[0])
    yield from effects.get(mark, ())


# -- marks and their texts -----------------------------------------------------------------------------


Kind = Literal["event", "failure", "commit"]

OFFSETS: Final[dict[Kind, float]] = {"event": 0.26, "failure": 0.0, "commit": -0.26}
"""Distance of a mark from the middle of its lane, in lanes."""
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
    lane: int
    first: float
    last: float
    items: list[TimelineItem]

    @property
    def at(self) -> Point:
        """Its middle: the pixel, and its height in lanes, which count downwards."""
        return round((self.first + self.last) / 2, 1), round(OFFSETS[self.kind] - self.lane, 2)

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
        found += (TimelineItem(record.node, time, FailedHandling(event, record)) for record in records)
    found += (TimelineItem(pair[0].node, journal.time_of_commit(pair, by), pair) for pair in journal.commits)
    return found


def marks_of(
    items: Iterable[TimelineItem], lanes: Sequence[str], place: Callable[[int], float]
) -> list[Mark]:
    """Return the marks on some lanes, none touching another of its kind; `place` maps times to pixels."""
    numbers = {name: number for number, name in enumerate(lanes)}
    rows: dict[tuple[int, Kind], list[Mark]] = {}
    kept = (item for item in items if item.node in numbers)
    for item in sorted(kept, key=lambda item: item.time):  # a stable sort: items of one time keep their order
        lane, at = numbers[item.node], place(item.time)
        row = rows.setdefault((lane, item.kind), [])
        if not (row and row[-1].add(item, at)):
            row.append(Mark(item.kind, lane, at, at, [item]))
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
