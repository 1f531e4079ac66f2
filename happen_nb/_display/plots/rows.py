"""The rows of a figure of values: where the steps and the bands begin and end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from happen_nb._display.plots.scale import is_number, missing, text_of
from happen_nb._model.frozen import equal

POINTS: Final = 1_000
"""Points of a row; of more, the first, the last, the lowest and the highest of each stretch are kept."""
BANDS: Final = 250
"""Bands of a row; of more, those too narrow to be seen are shown as one."""
_KEPT: Final = 4  # points of a stretch
_JSON: Final = (str, bool, int, float, dict, list)

Steps = list[tuple[float, float | None, int]]
"""Place, value (None where a gap is) and index of each point."""


@dataclass(slots=True)
class Band:
    """A value that holds from one place to another; `values` is how many it stands for."""

    start: float
    end: float
    text: str
    index: int
    values: int = 1


def numeric(values: Iterable[Any]) -> bool:
    """Whether all values that are there are numbers."""
    there = [value for value in values if not missing(value)]
    return bool(there) and all(is_number(value) for value in there)


def thinned(values: Sequence[Any], most: int = POINTS) -> list[int]:
    """The indices of at most about `most` values that look the same when drawn.

    Examples
    --------
    >>> thinned([0, 5, 1, 2, -3, 1, 1, 0], most=4)
    [0, 1, 4, 7]
    """
    if len(values) <= most:
        return list(range(len(values)))
    size = -(-len(values) * _KEPT // most)
    kept: set[int] = set()
    for start in range(0, len(values), size):
        part = range(start, min(start + size, len(values)))
        there = [index for index in part if not missing(values[index])]
        gone = [index for index in part if missing(values[index])]
        kept |= {part[0], part[-1], *gone[:1]}
        if there:
            kept |= {min(there, key=values.__getitem__), max(there, key=values.__getitem__)}
    return sorted(kept)


def steps(values: Sequence[Any], places: Sequence[float], end: float) -> Steps:
    """The points of a line of steps; each value holds up to the next commit, the last one up to `end`.

    Examples
    --------
    >>> steps([1, None, 2], [10, 20, 30], 31)
    [(10, 1, 0), (20, 1, 0), (20, None, 1), (30, 2, 2), (31, 2, 2)]
    """
    points: Steps = []
    held: tuple[float, int] | None = None
    for index in thinned(values):
        value, place = values[index], places[index]
        if missing(value):
            points += [(place, *held)] if held else []
            points.append((place, None, index))
            held = None
        else:
            held = _number(value), index
            points.append((place, *held))
    return [*points, (end, *held)] if held else points


def _number(value: Any) -> float:
    return int(value) if isinstance(value, int) else float(value)


def bands(values: Sequence[Any], places: Sequence[float], end: float) -> list[Band]:
    """Where each value begins and ends; where there is none, there is no band.

    Examples
    --------
    >>> for band in bands(["new", "new", "paid", None], [0, 1, 2, 3], 4):
    ...     print(band.start, band.end, band.text)
    0 2 new
    2 3 paid
    """
    found: list[Band] = []
    for index, value in enumerate(values):
        place = places[index]
        if index and _same(value, values[index - 1]):
            continue
        if found and found[-1].end == end:
            found[-1].end = place
        if not missing(value):
            found.append(Band(place, end, text_of(value), index))
    return found if len(found) <= BANDS else _merged(found, (end - places[0]) / BANDS)


def _merged(found: Iterable[Band], narrow: float) -> list[Band]:
    """Those too narrow to be seen as one, where they stand side by side."""
    merged: list[Band] = []
    for band in found:
        last = merged[-1] if merged else None
        if last is not None and max(band.end - band.start, last.end - last.start) < narrow:
            last.end = band.end
            last.values += 1
            last.text = f"{last.values:,} values"
        else:
            merged.append(band)
    return merged


def _same(one: Any, other: Any) -> bool:
    if one is other or (missing(one) and missing(other)):
        return True
    if type(one) is type(other) and isinstance(one, _JSON):
        return equal(one, other)
    return type(one) is type(other) and text_of(one) == text_of(other)
