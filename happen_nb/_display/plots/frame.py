"""Where things stand in a still picture of a figure: its axes, in pixels, and their labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import count
from math import floor, isfinite, log10
from typing import Any, Final

from happen_nb._display.plots import folding, svg
from happen_nb._display.plots.base import WIDTH

Spec = Mapping[str, Any]

_HEIGHT: Final = 450  # plotly's
_MARGIN: Final = {"l": 80, "r": 80, "t": 100, "b": 80}
_AROUND: Final = 0.07  # what is beside the outermost values
_TICKS: Final = 6
_NS_IN_MS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, in pixels from the top left."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Axis:
    """One axis.

    Parameters
    ----------
    spec : mapping
        What plotly is told of it.
    values : sequence
        All that is drawn on it.
    start, end : float
        The pixels of its begin and its end.
    solid : bool
        Bars stand on it, one for each whole number.
    """

    spec: Spec
    values: Sequence[Any]
    start: float
    end: float
    solid: bool = False

    @cached_property
    def names(self) -> dict[str, int]:
        """The number of each name, where it has names."""
        if self.spec.get("type") == "date":
            return {}
        return {name: n for n, name in enumerate(dict.fromkeys(v for v in self.values if isinstance(v, str)))}

    @cached_property
    def range(self) -> tuple[float, float]:
        """The values at its begin and its end."""
        if (told := self.spec.get("range")) is not None:
            low, high = (self.read(each) for each in told)
            if low is not None and high is not None and low != high:
                return low, high
        there = [read for each in self.values if (read := self.read(each)) is not None]
        low, high = min(there, default=0.0), max(there, default=1.0)
        if self.solid or self.names:
            return low - 0.5, high + 0.5
        around = (high - low) * _AROUND or 1.0
        return low - around, high + around

    def read(self, value: Any) -> float | None:
        """A value as a number; None where there is nothing to draw."""
        if isinstance(value, str):
            if self.spec.get("type") != "date":
                return self.names.get(value)
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp() * 1000
        return float(value) if value is not None and isfinite(value) else None

    def place(self, value: Any) -> float | None:
        """The pixel of a value."""
        read = self.read(value)
        if read is None:
            return None
        low, high = self.range
        return self.start + (read - low) / (high - low) * (self.end - self.start)

    @cached_property
    def ticks(self) -> list[tuple[float, str]]:
        """The pixels that have labels."""
        labels: Iterable[tuple[Any, str]]
        if (values := self.spec.get("tickvals")) is not None:
            labels = zip(values, self.spec.get("ticktext") or map(str, values), strict=False)
        elif self.names:
            labels = zip(self.names, self.names, strict=True)
        elif self.spec.get("type") == "date":
            return self._moments()
        else:
            labels = ((each, self._label(each)) for each in self._round_numbers())
        places = ((self.place(value), label) for value, label in labels)
        return [(place, label) for place, label in places if place is not None]

    def _moments(self) -> list[tuple[float, str]]:
        """Labels from the first value to the last, as a timeline has them."""
        there = [read for each in self.values if (read := self.read(each)) is not None]
        if not there:
            return []
        low, high = self.range
        ends = max(low, min(there)), min(high, max(there))
        first, last = (round(each * _NS_IN_MS) for each in ends)
        left, right = (self.place(each) or 0.0 for each in ends)
        return [
            (tick.x, tick.label) for tick in folding.Axis((folding.Stretch(first, last, left, right),)).ticks
        ]

    def _round_numbers(self) -> Iterable[float]:
        low, high = self.range
        least = (high - low) / (self.spec.get("nticks") or _TICKS)
        power = 10 ** floor(log10(least))
        step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= least)
        if self._whole:
            step = max(1, step)
        first = -(-low // step)
        for number in count(first):
            if number * step > high:
                return
            yield round(number * step, 12) + 0.0

    @property
    def _whole(self) -> bool:
        return str(self.spec.get("tickformat", "")).endswith("d")

    def _label(self, value: float) -> str:
        return f"{value:,.0f}" if self._whole else f"{value:,.10g}"


@dataclass(frozen=True, slots=True)
class Frame:
    """A figure's size, what is drawn in, and its axes by their plotly names: ``"x"``, ``"y2"``."""

    width: float
    height: float
    box: Box
    axes: Mapping[str, Axis]


def frame_of(data: Sequence[Spec], layout: Spec) -> Frame:
    """The frame of a figure, given as plotly's JSON."""
    width, height = layout.get("width") or WIDTH, layout.get("height") or _HEIGHT
    margin = {**_MARGIN, **layout.get("margin", {})}
    names = sorted({"x", "y", *(_short(key) for key in layout if key[1:5] == "axis")})
    across = {name: layout.get(f"{name[0]}axis{name[1:]}", {}) for name in names}
    box = Box(margin["l"], margin["t"], width - margin["r"], height - margin["b"])
    axes = {name: _axis(name, spec, data, box) for name, spec in across.items()}
    beside = [
        svg.width(label, axis.spec.get("tickfont", {}).get("size", 12))
        for name, axis in axes.items()
        if name[0] == "y" and axis.spec.get("automargin") and axis.spec.get("visible", True)
        for _, label in axis.ticks
    ]
    box = Box(box.left + max(beside, default=0), box.top, box.right, box.bottom)
    axes = {name: _axis(name, spec, data, box) for name, spec in across.items()}
    return Frame(width, height, box, {name: _scaled(axis, axes) for name, axis in axes.items()})


def _short(key: str) -> str:
    """Plotly's other name of ``"yaxis2"``."""
    return key[0] + key[5:]


def _axis(name: str, spec: Spec, data: Iterable[Spec], box: Box) -> Axis:
    letter = name[0]
    drawn = [each for each in data if each.get(f"{letter}axis", letter) == name]
    values = [value for each in drawn for value in _values(each, letter)]
    solid = letter == "y" and any(each.get("type") == "bar" for each in drawn)
    begin, end = (box.left, box.right) if letter == "x" else (box.bottom, box.top)
    low, high = spec.get("domain", (0, 1))
    return Axis(spec, values, begin + low * (end - begin), begin + high * (end - begin), solid)


def _values(trace: Spec, letter: str) -> Iterable[Any]:
    """Where the points of a trace are on an axis; a bar from left to right begins at its base."""
    told: Sequence[Any] = trace.get(letter, ())
    if trace.get("type") != "bar" or letter != "x":
        return told
    bases = trace.get("base") or [0] * len(told)
    return [*bases, *(base + length for base, length in zip(bases, told, strict=True))]


def _scaled(axis: Axis, axes: Mapping[str, Axis]) -> Axis:
    """An axis with more at both ends, so that its scale is that of another one."""
    other = axes.get(axis.spec.get("scaleanchor", ""))
    if other is None:
        return axis
    low, high = other.range
    half = abs(axis.end - axis.start) / abs(other.end - other.start) * (high - low) / 2
    middle = sum(axis.range) / 2
    told = {**axis.spec, "range": (middle - half, middle + half)}
    return Axis(told, axis.values, axis.start, axis.end)
