"""Places of a graph: nodes on a circle, curves between them, and labels that do not overlap."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import cos, hypot, pi, sin
from typing import Final

from happen_nb._display.plots.scene import Point

_MAX_ROUNDS: Final = 20
_BEND, _MORE_BEND = 0.1, 0.24  # distance of a curve's middle from the straight line, as a part of its length
_STRAIGHT: Final = 0.001
_LOOP_WIDTH: Final = 0.34  # at most, in radians
_CURVE_POINTS: Final = 15
_CHARACTER_WIDTH, _LINE_HEIGHT = 6.4, 13.0  # pixels; a character is rarely wider on the average
_LABEL_GAP: Final = 4.0  # pixels between a curve and its label
_LABEL_PLACES: Final = (0.36, 0.43, 0.29, 0.5, 0.57, 0.22, 0.64, 0.71, 0.78)  # along a curve, best first


def order_nodes(names: Sequence[str], pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Order names around the circle so that connected ones are near each other.

    The first one keeps its place. Two others change places as long as that shortens the distances.

    Examples
    --------
    >>> order_nodes(["a", "b", "c", "d"], [("a", "c"), ("c", "b"), ("b", "d")])
    ['a', 'c', 'b', 'd']
    """
    at = {name: number for number, name in enumerate(names)}
    near: dict[str, set[str]] = {name: set() for name in names}
    for one, other in pairs:
        if one != other:
            near[one].add(other)
            near[other].add(one)
    for _ in range(_MAX_ROUNDS):
        if not sum(_swap(at, near, one, other) for one, other in combinations(names[1:], 2)):
            break
    return sorted(names, key=at.__getitem__)


def _swap(at: dict[str, int], near: Mapping[str, set[str]], one: str, other: str) -> bool:
    """Let two names change places if that shortens their distances; return True if so."""
    before = _distance(at, near, one) + _distance(at, near, other)
    at[one], at[other] = at[other], at[one]
    if _distance(at, near, one) + _distance(at, near, other) < before:
        return True
    at[one], at[other] = at[other], at[one]
    return False


def _distance(at: dict[str, int], near: Mapping[str, set[str]], name: str) -> int:
    """Add up the distances along the circle to all connected names."""
    steps = [abs(at[name] - at[other]) for other in near[name]]
    return sum(min(step, len(at) - step) for step in steps)


def angles(number: int) -> list[float]:
    """Return the angles of places, clockwise from the top; two places lie side by side for their names."""
    start = pi if number == 2 else pi / 2  # noqa: PLR2004
    return [start - 2 * pi * each / number for each in range(number)]


def point(angle: float, radius: float = 1.0) -> Point:
    """Return the place at an angle."""
    return round(radius * cos(angle), 4), round(radius * sin(angle), 4)


def curve(start: Point, end: Point) -> list[Point]:
    """Return a curve between two places, bent to the inside of the circle; the one back is bent more."""
    (x0, y0), (x1, y1) = start, end
    x, y = (x0 + x1) / 2, (y0 + y1) / 2
    inside = x * (y1 - y0) - y * (x1 - x0)  # positive if the centre is on the right, from start to end
    straight = abs(inside) < _STRAIGHT
    bend = 2 * (_BEND if inside > 0 or straight else -_MORE_BEND)
    control = x - bend * (y1 - y0), y + bend * (x1 - x0)
    return _bezier((1, 2, 1), (start, control, end))


def loop(angle: float, reach: float, number: int) -> list[Point]:
    """Return a curve outside of the circle from the place at an angle back to it."""
    place = point(angle)
    wide = min(_LOOP_WIDTH, pi / number)
    one, other = point(angle + wide, 1 + reach), point(angle - wide, 1 + reach)
    return _bezier((1, 3, 3, 1), (place, one, other, place))


def _bezier(binomials: Sequence[int], controls: Sequence[Point]) -> list[Point]:
    """Return the points of a Bézier curve."""
    degree = len(controls) - 1
    points = []
    for step in range(_CURVE_POINTS):
        t = step / (_CURVE_POINTS - 1)
        weights = [n * (1 - t) ** (degree - power) * t**power for power, n in enumerate(binomials)]
        x = sum(weight * each[0] for weight, each in zip(weights, controls, strict=True))
        y = sum(weight * each[1] for weight, each in zip(weights, controls, strict=True))
        points.append((round(x, 4), round(y, 4)))
    return points


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle: its middle, in pixels from the middle of the circle, and its size."""

    x: float
    y: float
    width: float
    height: float

    def overlaps(self, other: Box) -> bool:
        """Return True if two rectangles have a common part."""
        apart_x = abs(self.x - other.x) >= (self.width + other.width) / 2
        return not apart_x and abs(self.y - other.y) < (self.height + other.height) / 2


def text_size(lines: Sequence[str]) -> Point:
    """Estimate the width and height of a text, in pixels."""
    return _CHARACTER_WIDTH * max(map(len, lines)), _LINE_HEIGHT * len(lines)


def place_labels(
    curves: Sequence[Sequence[Point]], sizes: Sequence[Point], occupied: Iterable[Box]
) -> list[Box | None]:
    """Return a place for the label of each curve, the most important first; None where there is no room.

    All in pixels. A curve that ends at its start is a loop, with its label outside of it.
    """
    full = list(occupied)
    found: list[Box | None] = []
    for curve, (width, height) in zip(curves, sizes, strict=True):
        places = (0.5,) if curve[0] == curve[-1] else _LABEL_PLACES
        candidates = (Box(*_beside(curve, place, width, height), width, height) for place in places)
        box = next((box for box in candidates if not any(map(box.overlaps, full))), None)
        found.append(box)
        full += [box] if box else []
    return found


def _beside(curve: Sequence[Point], place: float, width: float, height: float) -> Point:
    """Return a place on the outer side of a curve."""
    (x0, y0), (x1, y1) = curve[0], curve[-1]
    x, y = curve[round(place * (len(curve) - 1))]
    middle_x, middle_y = curve[len(curve) // 2]
    dx, dy = middle_x - (x0 + x1) / 2, middle_y - (y0 + y1) / 2
    length = hypot(dx, dy)
    return (
        x + dx / length * (width / 2 + _LABEL_GAP),
        y + dy / length * (height / 2 + _LABEL_GAP),
    )
