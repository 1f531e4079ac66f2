"""The places of the texts and marks of an SVG picture."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from xml.etree import ElementTree as ET

from happen_nb._display.plots import measure

SVG = "{http://www.w3.org/2000/svg}"
_NUMBERS = {"M": 2, "L": 2, "C": 6, "Q": 4, "H": 1, "V": 1, "Z": 0}
_STEPS = 10  # points of a curve


@dataclass(frozen=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def holds(self, other: Box) -> bool:
        return (
            self.left <= other.left
            and other.right <= self.right
            and self.top <= other.top
            and other.bottom <= self.bottom
        )

    def has(self, point: tuple[float, float]) -> bool:
        return self.left < point[0] < self.right and self.top < point[1] < self.bottom


def parsed(svg: str) -> ET.Element:
    return ET.fromstring(svg)


def words(drawn: ET.Element) -> list[str]:
    return ["".join(each.itertext()) for each in drawn.iter(f"{SVG}text")]


def texts(drawn: ET.Element) -> list[tuple[str, Box]]:
    """Each text with the place that it takes; it is a little narrower than its measure, which is a bound."""
    found = []
    for each in drawn.iter(f"{SVG}text"):
        text = "".join(each.itertext())
        bold = "b" in (each.get("class") or "").split() or any(
            "b" in (part.get("class") or "").split() for part in each
        )
        width = measure(text, bold=bold)
        x, y = float(each.get("x")), float(each.get("y"))
        middle = each.get("text-anchor") == "middle"
        left = x - width / 2 if middle else x - width if each.get("text-anchor") == "end" else x
        found.append((text, Box(left, y - 10, left + width, y + 2.5)))
    return found


def boxes(drawn: ET.Element, least: float = 20.0) -> list[Box]:
    """The rectangles that are at least so wide and high."""
    found = []
    for each in drawn.iter(f"{SVG}rect"):
        x, y, width, height = (float(each.get(name)) for name in ("x", "y", "width", "height"))
        if min(width, height) >= least:
            found.append(Box(x, y, x + width, y + height))
    return found


def ways(drawn: ET.Element) -> list[list[tuple[float, float]]]:
    """Points on each line that leads from one node to another."""
    return [list(points_of(each.get("d"))) for each in drawn.iter(f"{SVG}path") if each.get("data-way")]


def points_of(path: str) -> Iterator[tuple[float, float]]:
    """Points on a path."""
    at = (0.0, 0.0)
    for command, rest in re.findall(r"([A-Za-z])([^A-Za-z]*)", path):
        numbers = [float(each) for each in re.findall(r"-?[\d.]+", rest)]
        upper = command.upper()
        for start in range(0, max(1, len(numbers)), _NUMBERS[upper] or 1):
            given = numbers[start : start + _NUMBERS[upper]]
            if upper in "HV":
                given = [given[0], 0.0] if upper == "H" else [0.0, given[0]]
                assert command.islower()
            ends = [(given[n], given[n + 1]) for n in range(0, len(given), 2)]
            if command.islower():
                ends = [(at[0] + x, at[1] + y) for x, y in ends]
            if not ends:
                continue
            controls = [at, *ends] if upper != "M" else [ends[-1]]
            for step in range(_STEPS + 1):
                yield _bezier(controls, step / _STEPS)
            at = ends[-1]


def _bezier(points: list[tuple[float, float]], share: float) -> tuple[float, float]:
    while len(points) > 1:
        points = [(x0 + (x1 - x0) * share, y0 + (y1 - y0) * share) for (x0, y0), (x1, y1) in pairwise(points)]
    return points[0]
