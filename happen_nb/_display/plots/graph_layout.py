"""The layout of a graph: the part that fits into a picture, in layers from left to right or top to bottom.

Nodes are in the even layers. A way from one node to others passes a place in each layer between them; its
label stands in the odd layer next to its start. So ways cross each other between two layers only, and no
way crosses a node or a label.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from math import ceil, sqrt
from typing import Final, NamedTuple

from happen_nb._display import clean
from happen_nb._display.plots import EDGE, measure
from happen_nb._display.plots.graph import MAX_TYPES, Flow, Graph, Group, below_name, type_lines

SWEEPS: Final = 24  # passes over the layers that look for an order with few crossings
_SPREADS: Final = 16  # passes that bring the ends of ways to one height
GAP: Final = 12.0  # pixels between two places of a layer
_PASS: Final = 4.0  # pixels on each side of a way that passes a layer
Room = tuple[float, float]  # pixels before and after the line of a place
LINE: Final = 15.0  # pixels of a line of text
LOOP: Final = 20.0  # pixels that an arrow from a node to itself reaches
LOOP_OVERHANG: Final = 8.0  # pixels by which the label above such an arrow may be wider than the node
BOX, PORT = 38.0, 9.0  # height of a node, and the distance of two arrows at it
DOT: Final = 7.0  # pixels from one node of a group to the next
MAX_DOTS: Final = 600
_LEAST_BOX: Final = 66.0
_LEAST_CURVE, _WIDEST_CURVE, _DOWN_CURVE = 26.0, 90.0, 34.0  # pixels between two layers
_SIZES: Final = (
    (260.0, 260.0),
    (180.0, 190.0),
    (180.0, 150.0),
    (180.0, 130.0),
    (150.0, 110.0),
    (150.0, 90.0),
    (110.0, 80.0),
    (110.0, 70.0),
    (110.0, 60.0),
    (_LEAST_BOX, 60.0),
)
"""The most pixels of a node and of a label; the first pair that fits is used."""
_NARROW_LABEL: Final = 90.0  # with less room, only one line of types
_MOST_HEIGHT: Final = 20  # widths


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
    """A line from a node to one or more nodes of one layer, to which it sends alike.

    Its places are from low to high layers.
    """

    start: str
    texts: Sequence[str]
    flows: list[Flow] = field(default_factory=list)
    is_backward: bool = False
    places: list[Place] = field(default_factory=list)

    @property
    def ends(self) -> list[str]:
        return [flow.handler for flow in self.flows]

    @property
    def label(self) -> Place:
        """The place next to its start."""
        return self.places[-1 if self.is_backward else 0]


@dataclass(slots=True)
class Layers:
    """The places of a graph by layer."""

    nodes: dict[str, Place]
    layers: list[list[Place]]

    def extent(self) -> float:
        return max(
            sum(place.before + place.after for place in layer) + GAP * (len(layer) - 1)
            for layer in self.layers
        )

    def spread(self, width: float | None = None) -> float:
        """Place everything so that few ways cross, within a width if there is one; return its pixels."""
        layers = self.layers
        _sort(layers)
        for layer in layers:
            _put(layer, [0.0] * len(layer))
        for number in range(_SPREADS):
            upwards = number % 2 == 0
            for layer in layers if upwards else reversed(layers):
                _put(layer, [_wanted(place, upwards=upwards) for place in layer])
        _shift(layers)
        if width is not None:
            _confine(layers, width)
        return max(place.at + place.after for layer in layers for place in layer)


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


def _lay(way: Way, nodes: Mapping[str, Place]) -> None:
    """Give a way its places, and link them with those of its nodes."""
    start, ends = nodes[way.start], [nodes[end] for end in way.ends]
    low, high = sorted((start.layer, ends[0].layer))
    way.is_backward = start.layer == high
    way.places = [Place(layer, _PASS, _PASS) for layer in range(low + 1, high)]
    below, above = (ends, [start]) if way.is_backward else ([start], ends)
    for place in below:
        _link(place, way.places[0])
    for one, other in pairwise(way.places):
        _link(one, other)
    for place in above:
        _link(way.places[-1], place)


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
            layer.sort(key=partial(_barycentre, upwards=upwards))
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


def _barycentre(place: Place, *, upwards: bool) -> float:
    near = place.lower if upwards else place.higher
    return _mean([each.index for each in near] or [place.index])


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


class Sizes(NamedTuple):
    """The direction of the ways, and the most pixels of a node and of a label."""

    is_level: bool
    box: float
    label: float


class GraphPlan:
    """The part of a graph that is drawn, and its layout: from left to right, or from top to bottom."""

    def __init__(self, shown: Graph, width: int, nodes: int, ways: int) -> None:
        self.shown, self.width = shown, width
        kept = {name for name, _ in shown.busy.most_common(nodes)}
        idle = [group for group in shown.groups if group.name not in shown.busy]
        self.groups = [group for group in shown.groups if group.name in kept]
        self.groups += idle[: max(0, nodes - len(self.groups))]
        of_kept = [flow for flow in shown.flows.values() if kept.issuperset(flow.key)]
        busiest = {flow.key for flow in sorted(of_kept, key=lambda flow: -flow.number)[:ways]}
        self.flows = [flow for flow in of_kept if flow.key in busiest]
        self.more = self._left_out(are_ways=len(of_kept) > ways)
        self.ranked = ranks([each.name for each in self.groups], [flow.key for flow in self.flows])
        self._rank_lone_nodes()
        self.loops = {flow.sender: flow for flow in self.flows if flow.is_loop}
        self.of_group = {group.name: group for group in self.groups}
        self.texts = {group.name: below_name(shown, group) for group in self.groups}
        self._wanted = {group.name: self._wanted_box(group) for group in self.groups}
        self._choose_sizes()

    def _left_out(self, *, are_ways: bool) -> list[str]:
        nodes = sum(len(group.nodes) for group in self.groups)
        known = sum(len(group.nodes) for group in self.shown.groups)
        more = [f"{nodes:,} of {known:,} nodes"] if nodes < known else []
        return [*more, f"the {len(self.flows):,} busiest arrows"] if are_ways else more

    def _rank_lone_nodes(self) -> None:
        """Put the nodes without arrows to others where the fewest nodes are."""
        linked = {name for flow in self.flows if not flow.is_loop for name in flow.key}
        nodes = Counter(dict.fromkeys(range(max(self.ranked.values(), default=0) + 1), 0))
        nodes.update(self.ranked[name] for name in linked)
        for name in [each for each in self.ranked if each not in linked]:
            self.ranked[name] = min(nodes, key=nodes.__getitem__)
            nodes[self.ranked[name]] += 1

    def _merge_ways(self, types: int) -> list[Way]:
        """Return the ways: equal events of a node to several nodes of one layer share a label."""
        found: dict[tuple[object, ...], Way] = {}
        for flow in self.flows:
            if not flow.is_loop:
                texts = tuple(type_lines(flow, types))
                alike = flow.sender, texts, self.ranked[flow.handler]
                found.setdefault(alike, Way(flow.sender, texts)).flows.append(flow)
        return list(found.values())

    # -- sizes, along the ways

    def _choose_sizes(self) -> None:
        """Choose the largest sizes that fit, or the smallest ones."""
        if self._is_narrow_with(*_SIZES[-1]):
            for size in _SIZES:
                if self._is_narrow_with(*size):
                    break

    def _is_narrow_with(self, box: float, label: float) -> bool:
        """Try sizes: from left to right or, if only that fits, from top to bottom."""
        self.ways = self._merge_ways(1 if label < _NARROW_LABEL else MAX_TYPES)
        self.arrows = self._count_arrows()
        for is_level in (True, False):
            self.sizes = Sizes(is_level, box, label)
            self.layers = self._arrange()
            self.columns = self._column_sizes()
            if self._is_narrow():
                return True
        return False

    def _is_narrow(self) -> bool:
        return (self.length if self.sizes.is_level else self.layers.extent()) <= self.width - 2 * EDGE

    @property
    def length(self) -> float:
        """The pixels of all layers along the ways, with the least curves between them."""
        least = _LEAST_CURVE if self.sizes.is_level else _DOWN_CURVE
        return sum(self.columns) + least * (len(self.columns) - 1)

    @property
    def curve(self) -> float:
        """The pixels between two layers."""
        if not self.sizes.is_level:
            return _DOWN_CURVE
        spare = (self.width - 2 * EDGE - self.length) / max(1, len(self.columns) - 1)
        return min(_WIDEST_CURVE, _LEAST_CURVE + spare)

    def _column_sizes(self) -> list[float]:
        """Return the pixels of each layer along the ways."""
        found = [0.0] * len(self.layers.layers)
        for name, place in self.layers.nodes.items():
            size = self.box_width(name) if self.sizes.is_level else self.box_height(name)
            found[place.layer] = max(found[place.layer], size)
        for way in self.ways:
            size = self._label_width(way.texts) if self.sizes.is_level else LINE * len(way.texts) + 4
            found[way.label.layer] = max(found[way.label.layer], size)
        return found

    def box_width(self, name: str) -> float:
        wanted = self._wanted[name]
        if self.sizes.is_level and (loop := self.loops.get(name)):
            wanted = max(wanted, self._label_width(type_lines(loop)) - LOOP_OVERHANG)
        return min(self.sizes.box, max(_LEAST_BOX, wanted))

    def _wanted_box(self, group: Group) -> float:
        is_busy = any(self.shown.load(group))
        lines = [measure(line, bold=is_busy) for line in self.texts[group.name]]
        # The dots of a group are twice as wide as they are high.
        dots = 0 if group.is_single else 18 + DOT * ceil(sqrt(2 * min(len(group.nodes), MAX_DOTS)))
        return max(measure(clean(group.name), bold=True) + 24, max(lines) + 24, dots)

    def _label_width(self, texts: Sequence[str]) -> float:
        return min(self.sizes.label, label_width(texts))

    # -- rooms, across the ways

    def _arrange(self) -> Layers:
        """Put nodes and ways into layers, at first in the order given; the ways get new places."""
        nodes = {name: Place(2 * rank, *self._node_room(name)) for name, rank in self.ranked.items()}
        layers: list[list[Place]] = [[] for _ in range(2 * max(self.ranked.values(), default=0) + 1)]
        for way in self.ways:
            _lay(way, nodes)
            way.label.before, way.label.after = self._label_room(way)
        for place in (*nodes.values(), *(place for way in self.ways for place in way.places)):
            layers[place.layer].append(place)
        return Layers(nodes, layers)

    def _count_arrows(self) -> Counter[tuple[str, bool]]:
        """Node and side (True: towards higher layers) -> ways that end there."""
        found: Counter[tuple[str, bool]] = Counter()
        for way in self.ways:
            forward = self.ranked[way.ends[0]] > self.ranked[way.start]
            found[way.start, forward] += 1
            for end in way.ends:
                found[end, not forward] += 1
        return found

    def box_height(self, name: str) -> float:
        group = self.of_group[name]
        height = BOX + LINE * (len(self.texts[name]) - 1)
        if not group.is_single:
            columns = max(1, int((self.box_width(name) - 18) / DOT))
            height += 6 + DOT * -(-min(len(group.nodes), MAX_DOTS) // columns)
        if self.sizes.is_level:
            most = max(self.arrows[name, False], self.arrows[name, True])
            height = max(height, PORT * most + 8)
        return height

    def _node_room(self, name: str) -> Room:
        loop = self.loops.get(name)
        texts = [] if loop is None else type_lines(loop)
        if self.sizes.is_level:
            half = self.box_height(name) / 2
            return half + (LOOP + 4 + LINE * len(texts) if texts else 0), half
        half = self.box_width(name) / 2
        return half, half + (LOOP + 8 + self._label_width(texts) if texts else 0)

    def _label_room(self, way: Way) -> Room:
        if self.sizes.is_level:
            return LINE * len(way.texts) + 3, 5.0
        return 5.0, 8 + self._label_width(way.texts)

    @property
    def fits(self) -> bool:
        height = self.layers.extent() if self.sizes.is_level else self.length
        return self._is_narrow() and height <= _MOST_HEIGHT * self.width


def label_width(texts: Sequence[str]) -> float:
    return max((measure(text) for text in texts), default=0.0) + 6
