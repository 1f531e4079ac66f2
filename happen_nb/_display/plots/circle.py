"""Places on a circle, for nodes that talk to each other: neighbours where possible, never on each other."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from math import cos, pi, sin
from typing import Final

Point = tuple[float, float]

_ROUNDS: Final = 20
_BEND: Final = 0.1  # how far the middle of a bow lies beside the straight line, as a part of its length
_MORE_BEND: Final = 0.24
_STRAIGHT: Final = 0.001
_LOOP: Final = 0.34  # how wide a loop opens, in radians
_POINTS: Final = 15  # of a curve


def ordered(names: Sequence[str], pairs: Iterable[tuple[str, str]]) -> list[str]:
    """The names in an order around the circle in which those that talk are near each other.

    The first one keeps its place; of the others two at a time change places, as long as that makes the ways
    along the circle shorter.

    Examples
    --------
    >>> ordered(["a", "b", "c", "d"], [("a", "c"), ("c", "b"), ("b", "d")])
    ['a', 'c', 'b', 'd']
    """
    at = {name: number for number, name in enumerate(names)}
    near: dict[str, set[str]] = {name: set() for name in names}
    for one, other in pairs:
        if one != other:
            near[one].add(other)
            near[other].add(one)
    for _ in range(_ROUNDS):
        if not sum(_swap(at, near, one, other) for one, other in combinations(names[1:], 2)):
            break
    return sorted(names, key=at.__getitem__)


def _swap(at: dict[str, int], near: Mapping[str, set[str]], one: str, other: str) -> bool:
    """Let two change places if that makes their ways shorter."""
    before = _ways(at, near, one) + _ways(at, near, other)
    at[one], at[other] = at[other], at[one]
    if _ways(at, near, one) + _ways(at, near, other) < before:
        return True
    at[one], at[other] = at[other], at[one]
    return False


def _ways(at: Mapping[str, int], near: Mapping[str, set[str]], name: str) -> int:
    """How far it is along the circle to all that it talks to."""
    steps = [abs(at[name] - at[other]) for other in near[name]]
    return sum(min(step, len(at) - step) for step in steps)


def angles(number: int) -> list[float]:
    """Of so many places, the first one on top, clockwise; two lie side by side, so that names have room."""
    start = pi if number == 2 else pi / 2  # noqa: PLR2004
    return [start - 2 * pi * each / number for each in range(number)]


def point(angle: float, radius: float = 1.0) -> Point:
    """A place at an angle."""
    return round(radius * cos(angle), 4), round(radius * sin(angle), 4)


def curve(start: Point, end: Point) -> list[Point]:
    """A bow from one place to another, bent to the inside of the circle; the one back is bent more."""
    (x0, y0), (x1, y1) = start, end
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    inside = x * (y1 - y0) - y * (x1 - x0)  # on which side the centre is, seen from start to end
    straight = abs(inside) < _STRAIGHT
    bend = 2 * (_BEND if inside > 0 or straight else -_MORE_BEND)
    control = x - bend * (y1 - y0), y + bend * (x1 - x0)
    return [_bezier(step / (_POINTS - 1), start, control, end) for step in range(_POINTS)]


def loop(angle: float, reach: float, number: int) -> list[Point]:
    """A bow outside of the circle of so many places, from the place at an angle back to it."""
    place = point(angle)
    wide = min(_LOOP, pi / number)
    one, other = point(angle + wide, 1 + reach), point(angle - wide, 1 + reach)
    return [_cubic(step / (_POINTS - 1), place, one, other, place) for step in range(_POINTS)]


def _bezier(t: float, a: Point, b: Point, c: Point) -> Point:
    u = 1 - t
    return (
        round(u * u * a[0] + 2 * u * t * b[0] + t * t * c[0], 4),
        round(u * u * a[1] + 2 * u * t * b[1] + t * t * c[1], 4),
    )


def _cubic(t: float, a: Point, b: Point, c: Point, d: Point) -> Point:
    u = 1 - t
    weights = u**3, 3 * u * u * t, 3 * u * t * t, t**3
    points = a, b, c, d
    x = sum(weight * each[0] for weight, each in zip(weights, points, strict=True))
    y = sum(weight * each[1] for weight, each in zip(weights, points, strict=True))
    return round(x, 4), round(y, 4)
