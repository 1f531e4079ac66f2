"""The part of a graph that fits into a picture, and its layout: from left to right, or from top to bottom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from happen_nb._display.plots.flows import Flow
from happen_nb._display.plots.graph import MAX_TYPES, Graph, below_name, type_lines
from happen_nb._display.plots.layers import Layers, Room, arrange, ranks
from happen_nb._display.plots.svg_parts import measure
from happen_nb._display.spans import clean

EDGE: Final = 12.0
"""Pixels beside a picture."""
LINE: Final = 15.0
"""Pixels of a line of text."""
LOOP: Final = 20.0
"""Pixels that an arrow from a node to itself reaches."""
BOX, PORT = 38.0, 9.0  # height of a node, and the distance of two arrows at it
DOT: Final = 7.0
"""Pixels from one node of a group to the next."""
MAX_DOTS: Final = 600
_LEAST_BOX, _WIDEST_BOX = 66.0, 180.0
_LEAST_LABEL, _WIDEST_LABEL = 60.0, 240.0
_LEAST_CURVE, _WIDEST_CURVE, _DOWN_CURVE = 26.0, 90.0, 34.0  # pixels between two layers
_DOWN_SIZES: Final = (
    (150.0, 190.0),
    (150.0, 150.0),
    (110.0, 110.0),
    (84.0, 80.0),
    (_LEAST_BOX, _LEAST_LABEL),
)
_ENOUGH: Final = 0.93  # of the room that the types want
_NARROW_LABEL: Final = 90.0  # with less room, only one line of types
_MOST_HEIGHT: Final = 20  # widths


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Pixels along the ways, and the direction of these."""

    is_level: bool
    box: float
    label: float
    curve: float
    is_tight: bool = False  # many types would be cut


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
        self.loops = {flow.sender: flow for flow in self.flows if flow.is_loop}
        self.of_group = {group.name: group for group in self.groups}
        self.types = MAX_TYPES
        self.ways = self._merge_ways()
        self.sizes = self._choose_sizes()
        if self.sizes.label < _NARROW_LABEL:
            self.types = 1
            self.ways = self._merge_ways()
        self.arrows = self._count_arrows()
        self.layers = self._arrange()

    def _left_out(self, *, are_ways: bool) -> list[str]:
        nodes = sum(len(group.nodes) for group in self.groups)
        known = sum(len(group.nodes) for group in self.shown.groups)
        more = [f"{nodes:,} of {known:,} nodes"] if nodes < known else []
        return [*more, f"the {len(self.flows):,} busiest arrows"] if are_ways else more

    def _merge_ways(self) -> list[tuple[str, tuple[str, ...], list[str], list[Flow]]]:
        """Return the ways: what a node sends alike to nodes of one layer has one label."""
        found: dict[tuple[object, ...], list[Flow]] = {}
        for flow in self.flows:
            if not flow.is_loop:
                texts = tuple(type_lines(flow, self.types))
                found.setdefault((flow.sender, texts, self.ranked[flow.handler]), []).append(flow)
        return [
            (alike[0].sender, tuple(flow.handler for flow in alike), type_lines(alike[0], self.types), alike)
            for alike in found.values()
        ]

    # -- sizes, along the ways

    def _choose_sizes(self) -> Sizes:
        """Choose between left to right and top to bottom: the one with room for the types."""
        level = self._level_sizes()
        if level is not None and not level.is_tight:
            return level
        down = self._down_sizes()
        if down is not None and (level is None or down.label > level.label):
            return down
        return level or Sizes(is_level=False, box=_LEAST_BOX, label=_LEAST_LABEL, curve=_DOWN_CURVE)

    def _level_sizes(self) -> Sizes | None:
        """Return the widths of boxes, labels and curves from left to right; None if they do not fit."""
        number = max(self.ranked.values(), default=0) + 1
        room = self.width - 2 * EDGE - 2 * (number - 1) * _LEAST_CURVE
        box, label = self._wanted_box(), self._wanted_label()
        least, wanted = (
            number * one + (number - 1) * other for one, other in ((_LEAST_BOX, _LEAST_LABEL), (box, label))
        )
        if least > room:
            return None
        if wanted <= room:
            spare = (room - wanted) / max(1, 2 * (number - 1))
            curve = min(_WIDEST_CURVE, _LEAST_CURVE + spare)
            return Sizes(is_level=True, box=box, label=label, curve=curve)
        share = (room - least) / (wanted - least)
        box = _LEAST_BOX + share * (box - _LEAST_BOX)
        narrow = _LEAST_LABEL + share * (label - _LEAST_LABEL)
        tight = narrow < _ENOUGH * label
        return Sizes(is_level=True, box=box, label=narrow, curve=_LEAST_CURVE, is_tight=tight)

    def _down_sizes(self) -> Sizes | None:
        """Return the largest sizes with which the layers fit from top to bottom."""
        room, widest = self.width - 2 * EDGE, self._wanted_box()
        for box, label in _DOWN_SIZES:
            self.sizes = Sizes(is_level=False, box=min(widest, box), label=label, curve=_DOWN_CURVE)
            self.arrows = self._count_arrows()
            if self._arrange().extent() <= room:
                return self.sizes
        return None

    def _wanted_box(self) -> float:
        shown = self.shown
        widths = [
            max(measure(text, bold=True) for text in (clean(group.name), below_name(shown, group)[0])) + 24
            for group in self.groups
        ]
        return min(_WIDEST_BOX, max([_LEAST_BOX, *widths]))

    def _wanted_label(self) -> float:
        widths = [label_width(texts) for _, _, texts, _ in self.ways]
        return min(_WIDEST_LABEL, max([_LEAST_LABEL, *widths]))

    # -- rooms, across the ways

    def _arrange(self) -> Layers:
        ways = [(start, ends) for start, ends, _, _ in self.ways]
        return arrange(self.ranked, ways, self._node_room, self._label_room)

    def _count_arrows(self) -> Counter[tuple[str, bool]]:
        """Node and side (True: towards higher layers) -> ways that end there."""
        found: Counter[tuple[str, bool]] = Counter()
        for start, ends, _, _ in self.ways:
            forward = self.ranked[ends[0]] > self.ranked[start]
            found[start, forward] += 1
            for end in ends:
                found[end, not forward] += 1
        return found

    def box_height(self, name: str) -> float:
        """Return the pixels from the top of a box to its bottom."""
        group = self.of_group[name]
        height = BOX
        if not group.is_single:
            columns = max(1, int((self.sizes.box - 18) / DOT))
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
        half = self.sizes.box / 2
        return half, half + (LOOP + 8 + min(self.sizes.label, label_width(texts)) if texts else 0)

    def _label_room(self, number: int) -> Room:
        texts = self.ways[number][2]
        if self.sizes.is_level:
            return LINE * len(texts) + 3, 5.0
        return 5.0, 8 + min(self.sizes.label, label_width(texts))

    @property
    def fits(self) -> bool:
        if self.sizes.is_level:
            return self.layers.extent() <= _MOST_HEIGHT * self.width
        return self.layers.extent() <= self.width - 2 * EDGE


def label_width(texts: Sequence[str]) -> float:
    return max((measure(text) for text in texts), default=0.0) + 6
