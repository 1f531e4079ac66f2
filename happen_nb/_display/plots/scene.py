"""A picture as a scene: lines, marks, bars, texts and axes, which plotly and SVG both draw.

A scene has one axis from left to right and one or more axes from bottom to top, its rows. Places are values
on these axes; a time axis leaves out idle time. Texts are clean and cut, but not yet escaped.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Final, Literal, NamedTuple

from happen_nb._display.plots.svg_parts import COLOURS
from happen_nb._display.spans import cut, cut_middle, from_ns, human_duration, iso
from happen_nb._model.causality import NS

WIDTH: Final = 510
"""Pixels that a picture is made for; a wider one is stretched."""
HOVER_COLUMNS: Final = 58
"""Columns of a line of a hover text."""
FONT, TITLE_FONT = 12, 13
_NAME_COLUMNS: Final = 18

# Colours that read on light and on dark pages, for where a picture cannot know which of them it is on. Each
# lies between its two in `BY_THEME`, at a brightness about equally far from white and from black.
NUMBER: Final = "#387acb"
QUIET: Final = "#727983"
LINE, FAINT = 0.28, 0.13
"""Opacity of this colour in lines of an axis, and behind the plot."""
ON_BAND: Final = "#6e7884"
"""Text inside a band."""
BAND_TINT: Final = 0.16
"""Opacity of the colour inside a band."""
HOVER: Final = "#22262c"
ON_HOVER: Final = "#e8eaee"
SERIES_COLOURS: Final = (NUMBER, "#a86d11", "#7863ec", "#5c8452", "#d54398", "#ee224e")
"""In turn, for series that have no colour of their own. Each two differ for colour-blind readers too."""
BY_THEME: Final = {
    QUIET: ("#5b626c", "#a4abb5"),
    ON_BAND: ("#1f2328", "#e4e6ea"),
    **dict(zip(SERIES_COLOURS, (COLOURS[n] for n in (0, 1, 4, 2, 3, 5)), strict=True)),
}
"""These colours on light and on dark pages, for where a picture knows which of them it is on."""

Point = tuple[float, float]
Points = Sequence[Point | None]
"""Places; None is a gap."""
Hover = tuple[str, ...]
"""The lines of a hover text; the first one is bold."""
Anchor = Literal["left", "center", "right"]
Upright = Literal["top", "middle", "bottom"]


class Tick(NamedTuple):
    """A label at a place on an axis."""

    place: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """An axis."""

    range: Point = (0.0, 1.0)  # the values at its ends
    free: bool = False  # plotly may choose the range, and choose again when the user zooms
    ticks: Sequence[Tick] | None = None  # without them, about `max_ticks` round values have labels
    dates: Point | None = None  # its values are ms since 1970, with labels between these two
    max_ticks: int = 6
    whole: bool = False  # only whole numbers have labels
    title: str = ""
    grid: bool = False  # lines at its labels
    domain: Point = (0.0, 1.0)  # the part of the plot that it takes
    fixed: bool = False  # the user cannot zoom along it
    visible: bool = True


HIDDEN_AXIS: Final = Axis(visible=False)


class LineStyle(NamedTuple):
    """The line that joins the points of a series; with `steps` it is level up to each next point."""

    colour: str
    width: float
    steps: bool = False


class Marks(NamedTuple):
    """The dots of a series: the size of all or of each, 0 for none, and their colour."""

    sizes: float | Sequence[float]
    colour: str


class Series(NamedTuple):
    """Points on the axis from left to right and on that of a row."""

    points: Points
    name: str = ""
    row: int = 0
    line: LineStyle | None = None
    marks: Marks | None = None
    hover: Sequence[Hover] | None = None  # while the pointer is on a point
    legend: bool = False


class Bar(NamedTuple):
    """A bar from left to right, as high as its row, with a text if there is room for it.

    It has a tint of its colour inside, and an edge of it on the left.
    """

    start: float
    end: float
    colour: str
    text: str
    hover: Hover


class Bars(NamedTuple):
    """The bars of a row."""

    bars: Sequence[Bar]
    row: int = 0


class Label(NamedTuple):
    """A text at a place of the plot, from 0 to 1: from left to right and from bottom to top."""

    text: str
    x: float
    y: float
    bold: bool = False
    anchor: Anchor = "center"
    upright: Upright = "middle"


class Scene(NamedTuple):
    """A whole picture."""

    name: str  # bold, before the facts
    height: float
    margin: tuple[float, float, float, float]  # left (more if labels need it), right, top, bottom
    facts: str = ""
    x: Axis = HIDDEN_AXIS
    rows: Sequence[Axis] = (HIDDEN_AXIS,)
    series: Sequence[Series | Bars] = ()
    texts: Sequence[Label] = ()


def message(name: str, text: str, facts: str = "") -> Scene:
    """Return a scene that gives the reason why there is nothing to see."""
    note = Label(text=text, x=0.5, y=0.5)
    return Scene(name=name, facts=facts, height=150, margin=(12, 12, 64, 40), texts=[note])


def short(name: str) -> str:
    """Return a name where there is little room.

    Examples
    --------
    >>> short("a-service-with-a-very-long-name")
    'a-service-wi…-name'
    """
    return cut_middle(name, _NAME_COLUMNS)


def hover_line(text: str) -> str:
    """Return one line of a hover text."""
    return cut(text, HOVER_COLUMNS)


# -- time axes -----------------------------------------------------------------------------------------


BREAK_WIDTH: Final = 16.0
"""Pixels of a break."""
MAX_BREAKS: Final = 10

_MARK_DISTANCE: Final = 10.0  # pixels from which on two marks are seen as two
_ENOUGH: Final = 0.9  # of the most marks that can be seen as two, with which fewer breaks do
_LEAST_SHARE: Final = 0.005  # of the whole time; a shorter gap is not broken
_SHORTEST: Final = 10.0  # pixels of a segment
_BREAK_DISTANCE: Final = 52.0  # pixels from one break to the next, on the average
_LABEL_DISTANCE: Final = 82.0  # pixels from one label to the next
_MINUTE, _HOUR, _DAY = 60 * NS, 3600 * NS, 86_400 * NS
_STEPS: Final = (
    *(digit * 10**power for power in range(9) for digit in (1, 2, 5)),
    *(second * NS for second in (1, 2, 5, 10, 15, 30)),
    *(minute * _MINUTE for minute in (1, 2, 5, 10, 15, 30)),
    *(hour * _HOUR for hour in (1, 2, 3, 6, 12)),
    *(day * _DAY for day in (1, 2, 7, 14, 30, 60, 91, 182, 365, 730, 1826, 3652)),
)
"""Distances between labels, in ns."""


class Segment(NamedTuple):
    """Time from `start` to `end` (ns since 1970), shown between two pixels."""

    start: int
    end: int
    left: float
    right: float

    def place(self, at: int) -> float:
        """Return the pixel of a time."""
        start, left, scale = self.line
        return left + (at - start) * scale

    @property
    def line(self) -> tuple[int, float, float]:
        """A time, its pixel, and pixels for each ns from there on."""
        if self.start == self.end:
            return self.start, (self.left + self.right) / 2, 0.0
        return self.start, self.left, (self.right - self.left) / (self.end - self.start)


@dataclass(frozen=True)
class TimeAxis:
    """The segments, oldest first; between two of them is a break."""

    segments: tuple[Segment, ...]

    def place(self, at: int) -> float:
        """Return the pixel of one of the times for which the axis was made."""
        return round(self.exact_place(at), 1)

    def exact_place(self, at: int) -> float:
        """Return the same, not rounded."""
        number = bisect_right(self._starts, at) - 1
        return self.segments[max(0, number)].place(at)

    def exact_places(self, times: Sequence[int]) -> list[float]:
        """Return the same for many times, in less time."""
        lines = [each.line for each in self.segments]
        if len(lines) == 1:
            start, left, scale = lines[0]
            return [left + (at - start) * scale for at in times]
        starts = self._starts[1:]
        found = (lines[bisect_right(starts, at)] for at in times)
        return [left + (at - start) * scale for at, (start, left, scale) in zip(times, found, strict=True)]

    @cached_property
    def _starts(self) -> list[int]:
        return [segment.start for segment in self.segments]

    @property
    def breaks(self) -> list[Tick]:
        """The middle of each break, labelled with the time left out."""
        pairs = zip(self.segments, self.segments[1:], strict=False)
        return [
            Tick(round((before.right + after.left) / 2, 1), human_duration((after.start - before.end) / NS))
            for before, after in pairs
        ]

    @property
    def ticks(self) -> list[Tick]:
        """The labels: exact at the start of each segment, round within it."""
        labels: dict[float, tuple[int, str]] = {}
        widest = sorted(self.segments, key=lambda segment: segment.left - segment.right)
        labelled = [segment for segment in widest if _add_label(labels, segment, segment.start, "")]
        for segment in labelled:
            for at, label in _round_labels(segment):
                _add_label(labels, segment, at, label)
        ticks: list[Tick] = []
        previous = None
        for place, (at, label) in sorted(labels.items()):
            day = from_ns(at).date()
            date = f"\n{day.day} {day:%b %Y}" if day != previous else ""
            previous = day
            ticks.append(Tick(place, (label or clock(at)) + date))
        return ticks


def _add_label(labels: dict[float, tuple[int, str]], segment: Segment, at: int, label: str) -> bool:
    """Add a label if there is room for it; return True if there is."""
    place = round(segment.place(at), 1)
    if any(abs(place - other) < _LABEL_DISTANCE for other in labels):
        return False
    labels[place] = at, label
    return True


def break_gaps(times: Iterable[int], width: float, busy: Iterable[tuple[int, int]] = ()) -> TimeAxis:
    """Return the axis for times (ns since 1970), at least one, that is so many pixels wide.

    The longest gaps are broken, as few as are needed to see most of the marks apart. Gaps within a `busy`
    time are never broken.

    Examples
    --------
    >>> axis = break_gaps([0, 5_000_000, 3_600 * NS, 3_600 * NS + 5_000_000], 100)
    >>> [axis.place(at) for at in (0, 5_000_000, 3_600 * NS, 3_600 * NS + 5_000_000)]
    [0.0, 42.0, 58.0, 100.0]
    >>> axis.breaks
    [Tick(place=50.0, label='1 h')]
    """
    times = sorted(set(times))
    shortest = (times[-1] - times[0]) * _LEAST_SHARE
    gaps = [index for index, (one, next) in enumerate(pairwise(times), 1) if next - one > shortest]
    gaps = _idle(gaps, times, busy) if gaps else []
    longest = sorted(gaps, key=lambda index: times[index - 1] - times[index])
    counts = range(min(MAX_BREAKS, len(longest), int(width / _BREAK_DISTANCE)) + 1)
    axes = [_broken_before(times, sorted(longest[:number]), width) for number in counts]
    seen = [_count_columns(axis, times) for axis in axes]
    return axes[next(index for index, columns in enumerate(seen) if columns >= _ENOUGH * max(seen))]


def _idle(gaps: Iterable[int], times: Sequence[int], busy: Iterable[tuple[int, int]]) -> list[int]:
    """Return the indices of the times before which nothing was busy since the time before."""
    spans = sorted(busy)
    starts = [start for start, _ in spans]
    until = [0, *accumulate((end for _, end in spans), max)]
    return [index for index in gaps if until[bisect_right(starts, times[index - 1])] <= times[index - 1]]


def _broken_before(times: Sequence[int], indices: Sequence[int], width: float) -> TimeAxis:
    """Break an axis before the times at these indices."""
    parts = list(zip([0, *indices], [*indices, len(times)], strict=True))
    lengths = [times[end - 1] - times[start] for start, end in parts]
    room = width - BREAK_WIDTH * len(indices) - _SHORTEST * len(parts)
    scale = room / (sum(lengths) or 1)
    segments, left = [], 0.0
    for (start, end), length in zip(parts, lengths, strict=True):
        right = left + _SHORTEST + length * scale if any(lengths) else left + width / len(parts) - BREAK_WIDTH
        segments.append(Segment(times[start], times[end - 1], left, right))
        left = right + BREAK_WIDTH
    return TimeAxis(tuple(segments))


def _count_columns(axis: TimeAxis, times: Sequence[int]) -> int:
    """Count the marks that can be distinguished."""

    def column(at: int) -> int:
        return int(axis.exact_place(at) / _MARK_DISTANCE)

    # From column to column, of which there are far fewer than times.
    number = after = 0
    while after < len(times):
        after = bisect_right(times, column(times[after]), lo=after, key=column)
        number += 1
    return number


def _round_labels(segment: Segment) -> Iterable[tuple[int, str]]:
    """Return round distances from the start of a short segment, or round times within a long one."""
    length = segment.end - segment.start
    needed = _LABEL_DISTANCE * length / (segment.right - segment.left)
    step = next((step for step in _STEPS if step >= needed), 0)
    if not length or not step:
        return
    if step < NS:
        for at in range(segment.start + step, segment.end + 1, step):
            yield at, f"+{human_duration((at - segment.start) / NS)}"
        return
    for at in range(segment.start // step * step + step, segment.end + 1, step):
        time = from_ns(at)
        yield at, f"{time.day} {time:%b %Y}" if step >= _DAY else f"{time:%H:%M:%S}"


def clock(at: int) -> str:
    """Return a time of day in UTC, to the millisecond.

    Examples
    --------
    >>> clock(1_773_489_600_250_000_000)
    '12:00:00.250'
    """
    return iso(from_ns(at))[11:23]
