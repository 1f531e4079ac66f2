"""Places for the counts of arrows, so that none is on another or on a node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import hypot
from typing import Final

from happen_nb._display.plots.circle import Point

CHARACTER: Final = 6.4
"""Pixels of a character, at most on the average."""
LINE: Final = 13.0
"""Pixels of a line."""
_BESIDE: Final = 4.0  # pixels between a line and its count
_TURNS: Final = (0.36, 0.43, 0.29, 0.5, 0.57, 0.22, 0.64, 0.71, 0.78)  # where along an arrow, best first


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle, in pixels from the middle of the circle."""

    x: float
    y: float
    width: float
    height: float

    def overlaps(self, other: Box) -> bool:
        """Whether two rectangles have something in common."""
        apart_x = abs(self.x - other.x) >= (self.width + other.width) / 2
        return not apart_x and abs(self.y - other.y) < (self.height + other.height) / 2


def box_of(lines: Iterable[str]) -> tuple[float, float]:
    """Width and height of a text."""
    texts = list(lines)
    return CHARACTER * max(map(len, texts)), LINE * len(texts)


def placed(
    ways: Sequence[Sequence[Point]], sizes: Sequence[tuple[float, float]], taken: Iterable[Box]
) -> list[Box | None]:
    """A place for the text of each way, the most important first; None where there is no room for it.

    Parameters
    ----------
    ways : sequence of sequence of point
        In pixels; one that ends where it begins is a loop, with its text outside of it.
    sizes : sequence of (float, float)
        Width and height of each text.
    taken : iterable of Box
        Where nothing may stand.
    """
    full = list(taken)
    found: list[Box | None] = []
    for way, (width, height) in zip(ways, sizes, strict=True):
        candidates = (Box(*_beside(way, turn, width, height), width, height) for turn in _turns(way))
        box = next((box for box in candidates if not any(map(box.overlaps, full))), None)
        found.append(box)
        full += [box] if box else []
    return found


def _turns(way: Sequence[Point]) -> Sequence[float]:
    return (0.5,) if way[0] == way[-1] else _TURNS


def _beside(way: Sequence[Point], turn: float, width: float, height: float) -> Point:
    """On the outer side of the bow."""
    (x0, y0), (x1, y1) = way[0], way[-1]
    x, y = way[round(turn * (len(way) - 1))]
    middle_x, middle_y = way[len(way) // 2]
    dx, dy = middle_x - (x0 + x1) / 2, middle_y - (y0 + y1) / 2
    length = hypot(dx, dy)
    return (
        x + dx / length * (width / 2 + _BESIDE),
        y + dy / length * (height / 2 + _BESIDE),
    )
