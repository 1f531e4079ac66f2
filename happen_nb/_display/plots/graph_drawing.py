"""The graph as SVG: nodes in layers, with an arrow from each sender to each node that handled its events.

The first event between two nodes points forward, from left to right; where that does not fit, from top to
bottom. The types of the events stand on the arrows, in layers of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from typing import Final, NamedTuple

from happen_nb._display import clean, plots
from happen_nb._display.plots import Point, empty_note
from happen_nb._display.plots.graph import CROSS, Flow, Graph, Group, type_lines
from happen_nb._display.plots.graph_layout import (
    BOX,
    DOT,
    LINE,
    LOOP,
    LOOP_OVERHANG,
    MAX_DOTS,
    PORT,
    GraphPlan,
    Way,
)  # fmt: skip
from happen_nb._model.causality import NOTEBOOK

SIZES: Final = ((50, 300), (50, 120), (30, 60), (20, 40), (12, 24), (8, 14), (5, 8), (3, 4), (2, 2))
"""Numbers of the busiest nodes and arrows to draw; the first pair that fits is used."""
MAX_CHARACTERS: Final = 80_000  # maximum characters of a picture; a larger one gets fewer arrows
_TOP: Final = 30.0  # pixels above the nodes
_TIP: Final = 9.0


@dataclass(frozen=True)
class DrawnGraph:
    """A picture, and the groups and flows that its marks number."""

    svg: str
    groups: Sequence[Group] = ()
    flows: Sequence[Flow] = ()


def draw_graph(shown: Graph, *, width: int = plots.WIDTH, live: bool = False) -> DrawnGraph:
    """Draw a graph as SVG for light and dark pages, up to `MAX_CHARACTERS`.

    The marks of a `live` one can be pressed.
    """
    width = max(plots.LEAST_WIDTH, width)
    if not shown.flows:
        note = empty_note("handled events", shown.pattern)
        return DrawnGraph(plots.nothing("Graph of", shown.space, note, width, 90))
    drawn = DrawnGraph("")
    for nodes, ways in SIZES:
        plan = GraphPlan(shown, width, nodes, ways)
        if plan.fits or (nodes, ways) == SIZES[-1]:
            drawn = DrawnGraph(_GraphDrawing(plan, live=live).svg(), plan.groups, plan.flows)
            if len(drawn.svg) <= MAX_CHARACTERS:
                break
    return drawn


Spot = tuple[float, float]  # a place along the ways, and across them
Run = tuple[Spot, Spot]  # a straight part of a way


class _Box(NamedTuple):
    """A node: from where to where it is along the ways, its middle across them, and its place in pixels."""

    low: float
    high: float
    across: float
    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> Point:
        return self.x + self.width / 2, self.y + self.height / 2


class _GraphDrawing:
    """The pen of one graph."""

    def __init__(self, plan: GraphPlan, *, live: bool) -> None:
        self._plan, self._live, self._is_level = plan, live, plan.sizes.is_level
        across = plan.width - 2 * plots.EDGE
        extent = plan.layers.spread(None if self._is_level else across)
        self._columns = self._lay_columns()
        along = self._columns[-1][1]
        self._height = _TOP + (extent if self._is_level else along) + plots.EDGE
        # In the middle of the picture, whichever way it is shorter.
        self._shift = max(0.0, (across - (along if self._is_level else extent)) / 2)
        self._boxes = {group.name: self._box(group.name) for group in plan.groups}
        colours = plots.colours_of((group.nodes[0] for group in plan.groups), plan.shown.colours)
        self._colour = {group.name: colours[group.nodes[0]] for group in plan.groups}
        self._ports = self._assign_ports()
        self._numbers = {flow.key: number for number, flow in enumerate(plan.flows)}

    def svg(self) -> str:
        plan = self._plan
        facts = [*plan.shown.facts(), *plan.more]
        marks = [plots.heading("Graph of", plan.shown.space, facts, plan.width)]
        marks += [self._way(number, way) for number, way in enumerate(plan.ways)]
        marks += [self._loop(flow) for flow in plan.loops.values()]
        marks += [self._node(number, group) for number, group in enumerate(plan.groups)]
        about = f"Graph of {plan.shown.space}: {', '.join(plan.shown.facts())}"
        role = "group" if self._live else "img"
        return plots.svg(about, plan.width, self._height, "".join(marks), role=role)

    # -- places

    def _lay_columns(self) -> list[tuple[float, float]]:
        """Return the start and the end of each layer along the ways."""
        found, at = [], 0.0
        for size in self._plan.columns:
            found.append((at, at + size))
            at += size + self._plan.curve
        return found

    def _box(self, name: str) -> _Box:
        place = self._plan.layers.nodes[name]
        start, end = self._columns[place.layer]
        width, height = self._plan.box_width(name), self._plan.box_height(name)
        if self._is_level and self._plan.of_group[name].is_single:
            width = end - start  # as wide as the others of its layer
        low = start + (end - start - (width if self._is_level else height)) / 2
        x, y = self._point((low, place.at))
        if self._is_level:
            return _Box(low, low + width, place.at, x, y - height / 2, width, height)
        return _Box(low, low + height, place.at, x - width / 2, y, width, height)

    def _assign_ports(self) -> dict[tuple[int, str], float]:
        """Way and node -> where on the side of the node it ends, from the middle."""
        ends: dict[tuple[str, bool], list[tuple[float, int]]] = {}
        for number, way in enumerate(self._plan.ways):
            low, high = ([way.start], way.ends)[:: -1 if way.is_backward else 1]
            for name in low:
                ends.setdefault((name, True), []).append((way.places[0].at, number))
            for name in high:
                ends.setdefault((name, False), []).append((way.places[-1].at, number))
        ports = {}
        for (name, _), found in ends.items():
            box = self._boxes[name]
            side = box.height if self._is_level else box.width
            step = min(PORT + 3, (side - 8) / max(1, len(found)))
            for index, (_, number) in enumerate(sorted(found)):
                ports[number, name] = step * (index - (len(found) - 1) / 2)
        return ports

    def _point(self, spot: Spot) -> Point:
        along, across = spot
        if self._is_level:
            return plots.EDGE + self._shift + along, _TOP + across
        return plots.EDGE + self._shift + across, _TOP + along

    def _written(self, spot: Spot) -> str:
        x, y = self._point(spot)
        return f"{x:.1f} {y:.1f}"

    # -- ways

    def _runs(self, number: int, way: Way, end: str) -> list[Run]:
        """Return the straight parts of a way from its start to one of its ends."""
        low, high = (end, way.start) if way.is_backward else (way.start, end)
        found = [self._face(number, low, is_higher=True)]
        for place in way.places:
            start, stop = self._columns[place.layer]
            found.append(((start, place.at), (stop, place.at)))
        found.append(self._face(number, high, is_higher=False))
        return [(last, first) for first, last in reversed(found)] if way.is_backward else found

    def _face(self, number: int, name: str, *, is_higher: bool) -> Run:
        """Return the way from the side of a node to the edge of its layer, or from there."""
        box = self._boxes[name]
        across = box.across + self._ports[number, name]
        start, end = self._columns[self._plan.layers.nodes[name].layer]
        return ((box.high, across), (end, across)) if is_higher else ((start, across), (box.low, across))

    def _way(self, number: int, way: Way) -> str:
        marks = []
        for flow in way.flows:
            path, tip = self._curve(self._runs(number, way, flow.handler))
            marks.append(self._arrow(flow, path, tip))
        start, end = self._columns[way.label.layer]
        x, y = self._point((start, way.label.at))
        above = LINE * (len(way.texts) - 1)
        place = (x + 2, y - 5 - above) if self._is_level else (x + 6, y + (end - start) / 2 - above / 2 + 4)
        marks.append(self._label(way.texts, place, self._plan.sizes.label - 4, way.flows))
        return f'<g class="way">{"".join(marks)}</g>'

    def _curve(self, runs: Sequence[Run]) -> tuple[str, str]:
        """Return the paths of a line and of its tip, which points the way the line ends."""
        (at, _), (before, end) = runs[0], runs[-1]
        towards = end[0] - (before if before != end else runs[-2][1])[0]
        sign = 1 if towards >= 0 else -1
        base = end[0] - sign * (_TIP - 2), end[1]
        path = f"M{self._written(at)}"
        for index, (first, last) in enumerate(runs):
            is_last = index == len(runs) - 1
            start = base if is_last and first == last else first
            stop = base if is_last else last
            if index:
                middle = (at[0] + start[0]) / 2
                bend = (middle, at[1]), (middle, start[1]), start
                path += f"C{' '.join(map(self._written, bend))}"
            if stop != start:
                path += f"L{self._written(stop)}"
            at = stop
        return path, _tip(self._point(end), (sign, 0) if self._is_level else (0, sign))

    def _loop(self, flow: Flow) -> str:
        box, texts = self._boxes[flow.sender], type_lines(flow)
        x, y = box.middle
        if self._is_level:
            y = box.y
            path = f"M{x + 14:.1f} {y:.1f}v-6q0 -12 -14 -12q-14 0 -14 11"
            tip = _tip((x - 14, y), (0, 1))
            at, room = (x, y - LOOP - 4 - LINE * (len(texts) - 1)), box.width + LOOP_OVERHANG
            anchor = "middle"
        else:
            x = box.x + box.width
            path = f"M{x:.1f} {y - 10:.1f}h6q12 0 12 10q0 10 -11 10"
            tip = _tip((x, y + 10), (-1, 0))
            at, room = (x + LOOP + 4, y - LINE * (len(texts) - 1) / 2 + 4), self._plan.sizes.label - 4
            anchor = ""
        label = self._label(texts, at, room, [flow], anchor)
        return f'<g class="way">{self._arrow(flow, path, tip)}{label}</g>'

    def _arrow(self, flow: Flow, path: str, tip: str) -> str:
        number, colour = self._numbers[flow.key], self._colour[flow.sender]
        width = 1.3 + 0.8 * log10(flow.number)
        return (
            f'<path data-way="{number}" d="{path}" stroke="{colour}" stroke-width="{width:.1f}"/>'
            f'<path d="{tip}" style="fill:{colour}"/>'
        )

    def _label(
        self, texts: Sequence[str], at: Point, room: float, flows: Sequence[Flow], anchor: str = ""
    ) -> str:
        (x, y), shown = at, ""
        for index, each in enumerate(texts):
            kind = "e" if each.startswith(CROSS) else ""
            shown += plots.text(x, y + LINE * index, _fitted(each, room), kind, anchor=anchor)
        return plots.titled(_tooltip(flows), shown, key=self._key("w", self._numbers[flows[0].key]))

    # -- nodes

    def _node(self, number: int, group: Group) -> str:
        plan, box, colour = self._plan, self._boxes[group.name], self._colour[group.name]
        room, lines = box.width - 20, plan.texts[group.name]
        height = BOX + LINE * (len(lines) - 1)
        top = box.y + (box.height - height) / 2 * group.is_single + 16
        name = plots.fit(clean(group.name), room, bold=True)
        about = f"{group.name}: {', '.join(lines)}"
        frame = f'rx="{2 if group.name == NOTEBOOK else 7}" style="fill:var(--paper)" stroke="{colour}"'
        is_busy = any(plan.shown.load(group))
        x = box.x + 12
        marks = [
            plots.rect(box.x, box.y, box.width, box.height, f'{frame} stroke-width="1.6"'),
            plots.rect(box.x + 4, box.y + 6, 3, box.height - 12, f'rx="1.5" style="fill:{colour}"'),
            plots.text(x, top, name, "b"),
        ]
        marks += [
            plots.text(x, top + LINE * index, plots.fit(line, room, bold=is_busy), "b" if is_busy else "q")
            for index, line in enumerate(lines, start=1)
        ]
        if not group.is_single:
            marks.append(self._dots(group, box, box.y + height + 2, colour))
        return plots.titled(about, "".join(marks), key=self._key("n", number))

    def _dots(self, group: Group, box: _Box, top: float, colour: str) -> str:
        """Draw a dot for each node of a group, larger for those that did more."""
        shown = self._plan.shown
        columns = max(1, int((box.width - 18) / DOT))
        did = [shown.sent.get(name, 0) + shown.handled.get(name, 0) for name in group.nodes[:MAX_DOTS]]
        most = max(did, default=0) or 1
        path: dict[str, str] = {}
        for number, each in enumerate(did):
            x = box.x + 14 + DOT * (number % columns) + DOT / 2
            y = top + DOT * (number // columns)
            size = f"{1.6 + 3.8 * (each / most) ** 0.5:.1f}"
            path[size] = path.get(size, "") + f"M{x:.0f} {y:.0f}h0"
        return "".join(
            f'<path d="{d}" stroke="{colour}" stroke-width="{size}" stroke-linecap="round"/>'
            for size, d in path.items()
        )

    def _key(self, kind: str, number: int) -> str:
        return f"{kind}{number}" if self._live else ""


def _tooltip(flows: Sequence[Flow]) -> str:
    ends = ", ".join(flow.handler for flow in flows[:8])
    ends += f", … {len(flows) - 8:,} more" if len(flows) > 8 else ""  # noqa: PLR2004 - as above
    return f"{flows[0].sender} → {ends}: {', '.join(type_lines(flows[0], 12))}"


def _fitted(text: str, room: float) -> str:
    """Cut a type so that its count stays."""
    type, cross, number = text.rpartition(f" {CROSS}")
    if not cross:
        return plots.fit(text, room)
    return plots.fit(type, room - plots.measure(cross + number)) + cross + number


def _tip(at: Point, towards: tuple[int, int]) -> str:
    (x, y), (right, down) = at, towards
    back, wing = _TIP, _TIP * 0.45
    one = x - right * back - down * wing, y - down * back - right * wing
    other = x - right * back + down * wing, y - down * back + right * wing
    return f"M{x:.1f} {y:.1f}L{one[0]:.1f} {one[1]:.1f}L{other[0]:.1f} {other[1]:.1f}z"
