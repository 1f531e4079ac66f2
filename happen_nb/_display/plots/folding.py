"""A time axis on which long empty stretches are folded; what is between the folds has one scale."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from happen_nb._display.spans import NS, from_ns, human_duration, iso

FOLD: Final = 16.0
"""Pixels of a fold."""
FOLDS: Final = 10
"""How many there are at most."""
_APART: Final = 10.0  # pixels from which on two marks are seen as two
_ENOUGH: Final = 0.9  # more folds must show so much more
_SHORTEST: Final = 10.0  # pixels of what is between two folds
_LABEL: Final = 82.0  # pixels from one label to the next
_MINUTE, _HOUR, _DAY = 60 * NS, 3600 * NS, 86_400 * NS
_STEPS: Final = (
    *(digit * 10**power for power in range(9) for digit in (1, 2, 5)),
    *(second * NS for second in (1, 2, 5, 10, 15, 30)),
    *(minute * _MINUTE for minute in (1, 2, 5, 10, 15, 30)),
    *(hour * _HOUR for hour in (1, 2, 3, 6, 12)),
    *(day * _DAY for day in (1, 2, 7, 14, 30, 60, 91, 182, 365, 730, 1826, 3652)),
)


@dataclass(frozen=True, slots=True)
class Stretch:
    """Time from `start` to `end` (ns since 1970), shown between two pixels."""

    start: int
    end: int
    left: float
    right: float

    def place(self, at: int) -> float:
        """The pixel of a moment."""
        if self.start == self.end:
            return (self.left + self.right) / 2
        return self.left + (at - self.start) / (self.end - self.start) * (self.right - self.left)


_start = attrgetter("start")


@dataclass(frozen=True, slots=True)
class Tick:
    """A label below a pixel."""

    x: float
    label: str


@dataclass(frozen=True, slots=True)
class Axis:
    """The stretches, oldest first; between two of them a fold of `FOLD` pixels."""

    stretches: tuple[Stretch, ...]

    def place(self, at: int) -> float:
        """The pixel of one of the moments that the axis was made for."""
        return round(self.exact(at), 1)

    def exact(self, at: int) -> float:
        """The same, not rounded."""
        number = bisect_right(self.stretches, at, key=_start) - 1
        return self.stretches[max(0, number)].place(at)

    @property
    def folds(self) -> list[Tick]:
        """Where time is left out, and how much."""
        pairs = zip(self.stretches, self.stretches[1:], strict=False)
        return [
            Tick(round((before.right + after.left) / 2, 1), human_duration((after.start - before.end) / NS))
            for before, after in pairs
        ]

    @property
    def ticks(self) -> list[Tick]:
        """Each where it is said to be: the exact begin of a stretch, round times or distances within it."""
        labels: dict[float, tuple[int, str]] = {}
        widest = sorted(self.stretches, key=lambda stretch: stretch.left - stretch.right)
        begun = [stretch for stretch in widest if _take(labels, stretch, stretch.start, "")]
        for stretch in begun:
            for at, label in _labels(stretch):
                _take(labels, stretch, at, label)
        ticks: list[Tick] = []
        day = None
        for x, (at, label) in sorted(labels.items()):
            shown = from_ns(at).date()
            date = f"<br>{shown.day} {shown:%b %Y}" if shown != day else ""
            day = shown
            ticks.append(Tick(x, (label or clock(at)) + date))
        return ticks


def _take(labels: dict[float, tuple[int, str]], stretch: Stretch, at: int, label: str) -> bool:
    """Put a label where there is room for it; tells whether there is."""
    x = round(stretch.place(at), 1)
    if any(abs(x - other) < _LABEL for other in labels):
        return False
    labels[x] = at, label
    return True


def fold(moments: Iterable[int], width: float) -> Axis:
    """The axis for some moments (ns since 1970), at least one, on so many pixels.

    The longest empty stretches are folded, as few as are needed to see most of the marks apart.

    Examples
    --------
    >>> axis = fold([0, 5_000_000, 3_600 * NS, 3_600 * NS + 5_000_000], 100)
    >>> [axis.place(at) for at in (0, 5_000_000, 3_600 * NS, 3_600 * NS + 5_000_000)]
    [0.0, 42.0, 58.0, 100.0]
    >>> axis.folds
    [Tick(x=50.0, label='1 h')]
    """
    times = sorted(set(moments))
    order = sorted(range(1, len(times)), key=lambda n: times[n - 1] - times[n])  # longest gaps first
    axes = [_axis(times, sorted(order[:number]), width) for number in range(min(FOLDS, len(order)) + 1)]
    seen = [_columns(axis, times) for axis in axes]
    return axes[next(n for n, columns in enumerate(seen) if columns >= _ENOUGH * max(seen))]


def _axis(times: Sequence[int], cuts: Sequence[int], width: float) -> Axis:
    """Cut before the times at these indices."""
    parts = list(zip([0, *cuts], [*cuts, len(times)], strict=True))
    spans = [times[end - 1] - times[begin] for begin, end in parts]
    room = width - FOLD * len(cuts) - _SHORTEST * len(parts)
    scale = room / (sum(spans) or 1)
    stretches, left = [], 0.0
    for (begin, end), length in zip(parts, spans, strict=True):
        right = left + _SHORTEST + length * scale if any(spans) else left + width / len(parts) - FOLD
        stretches.append(Stretch(times[begin], times[end - 1], left, right))
        left = right + FOLD
    return Axis(tuple(stretches))


def _columns(axis: Axis, times: Sequence[int]) -> int:
    """How many marks can be told apart. It goes from column to column, which are far fewer than the times."""

    def column(at: int) -> int:
        return int(axis.exact(at) / _APART)

    number = after = 0
    while after < len(times):
        after = bisect_right(times, column(times[after]), lo=after, key=column)
        number += 1
    return number


def _labels(stretch: Stretch) -> Iterable[tuple[int, str]]:
    """Round distances from the begin of a stretch, or round times within it."""
    length = stretch.end - stretch.start
    needed = _LABEL * length / (stretch.right - stretch.left)
    step = next((step for step in _STEPS if step >= needed), 0)
    if not length or not step:
        return
    if step < NS:
        for at in range(stretch.start + step, stretch.end + 1, step):
            yield at, f"+{human_duration((at - stretch.start) / NS)}"
        return
    for at in range(stretch.start // step * step + step, stretch.end + 1, step):
        moment = from_ns(at)
        text = f"{moment.day} {moment:%b %Y}" if step >= _DAY else f"{moment:%H:%M:%S}"
        yield at, text


def clock(at: int) -> str:
    """Return a time of day in UTC, to the millisecond.

    Examples
    --------
    >>> clock(1_773_489_600_250_000_000)
    '12:00:00.250'
    """
    return iso(from_ns(at))[11:23]
