"""A time axis with breaks in place of long empty gaps; all segments between the breaks have one scale."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from happen_nb._display.plots.scene import Tick
from happen_nb._display.spans import NS, from_ns, human_duration, iso

BREAK_WIDTH: Final = 16.0
"""Pixels of a break."""
MAX_BREAKS: Final = 10

_MARK_DISTANCE: Final = 10.0  # pixels from which on two marks are seen as two
_ENOUGH: Final = 0.9  # of the most marks that can be seen as two, with which fewer breaks do
_SHORTEST: Final = 10.0  # pixels of a segment
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


@dataclass(frozen=True, slots=True)
class Segment:
    """Time from `start` to `end` (ns since 1970), shown between two pixels."""

    start: int
    end: int
    left: float
    right: float

    def place(self, at: int) -> float:
        """Return the pixel of a time."""
        if self.start == self.end:
            return (self.left + self.right) / 2
        return self.left + (at - self.start) / (self.end - self.start) * (self.right - self.left)


_start = attrgetter("start")


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """The segments, oldest first; between two of them is a break."""

    segments: tuple[Segment, ...]

    def place(self, at: int) -> float:
        """Return the pixel of one of the times for which the axis was made."""
        return round(self.exact_place(at), 1)

    def exact_place(self, at: int) -> float:
        """Return the same, not rounded."""
        number = bisect_right(self.segments, at, key=_start) - 1
        return self.segments[max(0, number)].place(at)

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
            date = f"<br>{day.day} {day:%b %Y}" if day != previous else ""
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


def break_gaps(times: Iterable[int], width: float) -> TimeAxis:
    """Return the axis for times (ns since 1970), at least one, that is so many pixels wide.

    The longest gaps are broken, as few as are needed to see most of the marks apart.

    Examples
    --------
    >>> axis = break_gaps([0, 5_000_000, 3_600 * NS, 3_600 * NS + 5_000_000], 100)
    >>> [axis.place(at) for at in (0, 5_000_000, 3_600 * NS, 3_600 * NS + 5_000_000)]
    [0.0, 42.0, 58.0, 100.0]
    >>> axis.breaks
    [Tick(place=50.0, label='1 h')]
    """
    times = sorted(set(times))
    longest = sorted(range(1, len(times)), key=lambda index: times[index - 1] - times[index])
    counts = range(min(MAX_BREAKS, len(longest)) + 1)
    axes = [_broken_before(times, sorted(longest[:number]), width) for number in counts]
    seen = [_count_columns(axis, times) for axis in axes]
    return axes[next(index for index, columns in enumerate(seen) if columns >= _ENOUGH * max(seen))]


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
