"""Layers of a directed graph: the layer of each node, and the places of nodes and ways across the layers.

Nodes are in the even layers. A way from one node to others passes a place in each layer between them; its
label stands in the odd layer next to its start. So ways cross each other between two layers only, and no
way crosses a node or a label.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

SWEEPS: Final = 24
"""Passes over the layers that look for an order with few crossings."""
_SPREADS: Final = 16  # passes that bring the ends of ways to one height
GAP: Final = 12.0
"""Pixels between two places of a layer."""
_PASS: Final = 4.0  # pixels on each side of a way that passes a layer


@dataclass(slots=True, eq=False)
class Place:
    """Room in a layer: of a node, or a way that passes; in pixels on both sides of its line."""

    layer: int
    before: float
    after: float
    at: float = 0.0
    index: int = 0
    lower: list[Place] = field(default_factory=list)
    higher: list[Place] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Way:
    """A line from a node to one or more nodes of one layer, with its places from low to high layers."""

    start: str
    ends: tuple[str, ...]
    is_backward: bool
    places: list[Place] = field(default_factory=list)

    @property
    def label(self) -> Place:
        """The place next to its start."""
        return self.places[-1 if self.is_backward else 0]


Room = tuple[float, float]
"""Pixels before and after the line of a place."""


@dataclass(slots=True)
class Layers:
    """The places of a graph by layer."""

    nodes: dict[str, Place]
    ways: list[Way]
    layers: list[list[Place]]

    def extent(self) -> float:
        """Return the pixels that the layer with the most places needs."""
        return max((_needed(layer) for layer in self.layers), default=0.0)

    def spread(self, width: float | None = None) -> float:
        """Place everything so that few ways cross, within a width if there is one; return its pixels."""
        _sort(self.layers)
        return _spread(self.layers, width)


def ranks(names: Sequence[str], pairs: Iterable[tuple[str, str]]) -> dict[str, int]:
    """Return the rank of each node: the length of the longest path that leads to it.

    The first pair of two nodes points forward; one that would close a cycle points back.

    Examples
    --------
    >>> ranks(["a", "b", "c"], [("a", "b"), ("b", "c"), ("a", "c"), ("c", "a")])
    {'a': 0, 'b': 1, 'c': 2}
    """
    after: dict[str, list[str]] = {name: [] for name in names}
    for one, other in pairs:
        if one != other and not _reaches(after, other, one):
            after[one].append(other)
    found = dict.fromkeys(names, 0)
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        for other in after[name]:
            if found[other] <= found[name]:
                found[other] = found[name] + 1
                waiting.append(other)
    return found


def _reaches(after: Mapping[str, Sequence[str]], start: str, end: str) -> bool:
    seen, waiting = {start}, [start]
    while waiting:
        name = waiting.pop()
        if name == end:
            return True
        new = [each for each in after[name] if each not in seen]
        seen.update(new)
        waiting += new
    return False


def arrange(
    ranked: Mapping[str, int],
    ways: Sequence[tuple[str, tuple[str, ...]]],
    node_room: Callable[[str], Room],
    label_room: Callable[[int], Room],
) -> Layers:
    """Put nodes and ways into layers, in the order given.

    Parameters
    ----------
    ranked : mapping of str to int
        Node -> rank, in the order in which nodes of one rank are placed at first.
    ways : sequence of (str, tuple of str)
        Start and ends; all ends have one rank, which is not that of the start.
    node_room, label_room : callable
        Room for a node, and for the label of a way by its number.
    """
    nodes = {name: Place(2 * rank, *node_room(name)) for name, rank in ranked.items()}
    layers: list[list[Place]] = [[] for _ in range(2 * max(ranked.values(), default=0) + 1)]
    for place in nodes.values():
        layers[place.layer].append(place)
    made = []
    for number, (start, ends) in enumerate(ways):
        way = _way(nodes, start, ends, label_room(number))
        for place in way.places:
            layers[place.layer].append(place)
        made.append(way)
    return Layers(nodes, made, layers)


def _way(nodes: Mapping[str, Place], start: str, ends: tuple[str, ...], label: Room) -> Way:
    first, last = nodes[start], nodes[ends[0]]
    way = Way(start, ends, first.layer > last.layer)
    low, high = sorted((first.layer, last.layer))
    way.places = [Place(layer, _PASS, _PASS) for layer in range(low + 1, high)]
    way.label.before, way.label.after = label
    targets = [nodes[end] for end in ends]
    below, above = (targets, [first]) if way.is_backward else ([first], targets)
    for place in below:
        _link(place, way.places[0])
    for one, other in pairwise(way.places):
        _link(one, other)
    for place in above:
        _link(way.places[-1], place)
    return way


def _link(one: Place, other: Place) -> None:
    one.higher.append(other)
    other.lower.append(one)


# -- order -------------------------------------------------------------------------------------------


def _sort(layers: list[list[Place]]) -> None:
    """Order the places of each layer so that few ways cross."""
    _number(layers)
    best, fewest = [list(layer) for layer in layers], _crossings(layers)
    for sweep in range(SWEEPS):
        if not fewest:
            break
        upwards = sweep % 2 == 0
        for layer in layers if upwards else reversed(layers):
            layer.sort(key=_barycentre_below if upwards else _barycentre_above)
            _number([layer])
        crossings = _crossings(layers)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    layers[:] = best
    _number(layers)


def _number(layers: Iterable[Sequence[Place]]) -> None:
    for layer in layers:
        for index, place in enumerate(layer):
            place.index = index


def _barycentre_below(place: Place) -> float:
    return _mean([each.index for each in place.lower] or [place.index])


def _barycentre_above(place: Place) -> float:
    return _mean([each.index for each in place.higher] or [place.index])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _crossings(layers: Sequence[Sequence[Place]]) -> int:
    crossings = 0
    for layer in layers:
        seen: list[int] = []
        for place in layer:
            ends = [each.index for each in place.higher]
            crossings += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return crossings


# -- places ------------------------------------------------------------------------------------------


def _needed(layer: Sequence[Place]) -> float:
    return sum(place.before + place.after for place in layer) + GAP * max(0, len(layer) - 1)


def _spread(layers: Sequence[Sequence[Place]], width: float | None) -> float:
    for layer in layers:
        _put(layer, [0.0] * len(layer))
    for number in range(_SPREADS):
        upwards = number % 2 == 0
        for layer in layers if upwards else reversed(layers):
            _put(layer, [_wanted(place, upwards=upwards) for place in layer])
    _shift(layers)
    if width is not None:
        _confine(layers, width)
    return max((place.at + place.after for layer in layers for place in layer), default=0.0)


def _wanted(place: Place, *, upwards: bool) -> float:
    near = (place.lower or place.higher) if upwards else (place.higher or place.lower)
    return _mean([each.at for each in near] or [place.at])


def _offsets(layer: Sequence[Place]) -> list[float]:
    """Return the least distance of each place from the first one."""
    offsets = [0.0]
    for one, other in pairwise(layer):
        offsets.append(offsets[-1] + one.after + GAP + other.before)
    return offsets


def _put(layer: Sequence[Place], wanted: Sequence[float]) -> None:
    """Place a layer as near as it can to the wanted places, none nearer than they may be to each other.

    Without the least distances, that is a sequence that must not decrease: those that would are averaged.
    """
    offsets = _offsets(layer)
    blocks: list[tuple[float, int]] = []
    for target, offset in zip(wanted, offsets, strict=False):
        mean, size = target - offset, 1
        while blocks and blocks[-1][0] > mean:
            before, number = blocks.pop()
            mean = (mean * size + before * number) / (size + number)
            size += number
        blocks.append((mean, size))
    means = [mean for mean, size in blocks for _ in range(size)]
    for place, mean, offset in zip(layer, means, offsets, strict=False):
        place.at = mean + offset


def _shift(layers: Sequence[Sequence[Place]]) -> None:
    first = min((place.at - place.before for layer in layers for place in layer), default=0.0)
    for layer in layers:
        for place in layer:
            place.at -= first


def _confine(layers: Sequence[Sequence[Place]], width: float) -> None:
    for layer in layers:
        limit = width
        for place in reversed(layer):
            place.at = min(place.at, limit - place.after)
            limit = place.at - place.before - GAP
        limit = 0.0
        for place in layer:
            place.at = max(place.at, limit + place.before)
            limit = place.at + place.after + GAP
