"""The graph as SVG: nodes in layers, with an arrow from each sender to each node that handled its events.

The first event between two nodes points forward, from left to right; where that does not fit, from top to
bottom. The types of the events stand on the arrows, in layers of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import log10
from typing import Final

from happen_nb._display.plots.graph import CROSS, Flow, Graph, Group, below_name, type_lines
from happen_nb._display.plots.graph_layout import (
    BOX,
    DOT,
    EDGE,
    LINE,
    LOOP,
    MAX_DOTS,
    PORT,
    GraphPlan,
    Way,
)  # fmt: skip
from happen_nb._display.plots.svg_parts import COLOURS, escaped, fit, heading, measure, rect, svg, tspan
from happen_nb._display.spans import clean
from happen_nb._model.causality import NOTEBOOK

WIDTH: Final = 700
"""Pixels of a picture that nobody has chosen a width for."""
LEAST_WIDTH: Final = 300
SIZES: Final = ((50, 300), (50, 120), (30, 60), (20, 40), (12, 24), (8, 14), (5, 8), (3, 4), (2, 2))
"""Nodes and ways, the busiest, of which the first that fit are drawn."""
MAX_CHARACTERS: Final = 80_000
"""Of a picture; a larger one has fewer ways."""
_TOP: Final = 30.0  # pixels above the nodes
_TIP: Final = 9.0


@dataclass(frozen=True)
class DrawnGraph:
    """A picture, and the groups and flows that its marks number."""

    svg: str
    groups: Sequence[Group] = ()
    flows: Sequence[Flow] = ()


def draw_graph(shown: Graph, *, width: int = WIDTH, live: bool = False) -> DrawnGraph:
    """Draw a graph as SVG for light and dark pages, up to `MAX_CHARACTERS`.

    The marks of a `live` one can be pressed.
    """
    width = max(LEAST_WIDTH, width)
    if not shown.flows:
        return DrawnGraph(_empty(shown, width))
    drawn = DrawnGraph("")
    for nodes, ways in SIZES:
        plan = GraphPlan(shown, width, nodes, ways)
        if plan.fits or (nodes, ways) == SIZES[-1]:
            drawn = DrawnGraph(_GraphDrawing(plan, live=live).svg(), plan.groups, plan.flows)
            if len(drawn.svg) <= MAX_CHARACTERS:
                break
    return drawn


def _empty(shown: Graph, width: int) -> str:
    title = heading("Graph of", shown.space, (), width, EDGE)
    note = "No event has been handled here yet."
    return svg(f"{shown.space}: {note}", width, 90, f'{title}<text class="q" x="{EDGE}" y="56">{note}</text>')


@dataclass(frozen=True, slots=True)
class _Box:
    x: float
    y: float
    width: float
    height: float

    @property
    def middle(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2


class _GraphDrawing:
    """The pen of one graph."""

    def __init__(self, plan: GraphPlan, *, live: bool) -> None:
        self._plan, self._live = plan, live
        across = plan.width - 2 * EDGE
        extent = plan.layers.spread(None if plan.sizes.is_level else across)
        self._columns = self._lay_columns()
        along = self._columns[-1][1]
        self._height = _TOP + (extent if plan.sizes.is_level else along) + EDGE
        # In the middle of the picture, whichever way it is shorter.
        self._shift = max(0.0, (across - (along if plan.sizes.is_level else extent)) / 2)
        self._boxes = {group.name: self._box(group.name) for group in plan.groups}
        others = [group.name for group in plan.groups if group.name != NOTEBOOK]
        self._colour = {name: f"var(--c{number % len(COLOURS)})" for number, name in enumerate(others)}
        self._colour[NOTEBOOK] = f"var(--c{len(COLOURS)})"
        self._ports = self._assign_ports()

    def svg(self) -> str:
        plan = self._plan
        numbers = {flow.key: number for number, flow in enumerate(plan.flows)}
        ways = zip(plan.layers.ways, plan.ways, strict=True)
        facts = [*plan.shown.facts(), *plan.more]
        marks = [heading("Graph of", plan.shown.space, facts, plan.width, EDGE)]
        marks += [self._way(way, texts, flows, numbers) for way, (_, _, texts, flows) in ways]
        marks += [self._loop(flow, numbers[flow.key]) for flow in plan.loops.values()]
        marks += [self._node(number, group) for number, group in enumerate(plan.groups)]
        about = f"Graph of {plan.shown.space}: {', '.join(plan.shown.facts())}"
        role = "group" if self._live else "img"
        return svg(about, plan.width, self._height, "".join(marks), role=role)

    # -- places

    def _lay_columns(self) -> list[tuple[float, float]]:
        """Return the start and the end of each layer along the ways."""
        plan, found, at = self._plan, [], 0.0
        for number, layer in enumerate(plan.layers.layers):
            if plan.sizes.is_level:
                size = plan.sizes.label if number % 2 else plan.sizes.box
            elif number % 2:
                texts = [texts for way, (_, _, texts, _) in self._labelled() if way.label.layer == number]
                size = LINE * max(map(len, texts), default=1) + 4
            else:
                nodes = [name for name, place in plan.layers.nodes.items() if place in layer]
                size = max(map(plan.box_height, nodes), default=BOX)
            found.append((at, at + size))
            at += size + plan.sizes.curve
        return found

    def _labelled(self) -> Iterator[tuple[Way, tuple[str, tuple[str, ...], list[str], list[Flow]]]]:
        return zip(self._plan.layers.ways, self._plan.ways, strict=True)

    def _box(self, name: str) -> _Box:
        plan = self._plan
        place = plan.layers.nodes[name]
        start, end = self._columns[place.layer]
        height = plan.box_height(name)
        if plan.sizes.is_level:
            return _Box(EDGE + self._shift + start, _TOP + place.at - height / 2, end - start, height)
        x = EDGE + self._shift + place.at - plan.sizes.box / 2
        return _Box(x, _TOP + start + (end - start - height) / 2, plan.sizes.box, height)

    def _assign_ports(self) -> dict[tuple[int, str], float]:
        """Way and node -> where on the side of the node it ends, from the middle."""
        ends: dict[tuple[str, bool], list[tuple[float, int]]] = {}
        for number, way in enumerate(self._plan.layers.ways):
            first, last = way.places[0], way.places[-1]
            low, high = ((way.start,), way.ends)[:: -1 if way.is_backward else 1]
            for name in low:
                ends.setdefault((name, True), []).append((first.at, number))
            for name in high:
                ends.setdefault((name, False), []).append((last.at, number))
        ports = {}
        for (name, _), found in ends.items():
            box = self._boxes[name]
            side = box.height if self._plan.sizes.is_level else box.width
            step = min(PORT + 3, (side - 8) / max(1, len(found)))
            for index, (_, number) in enumerate(sorted(found)):
                ports[number, name] = step * (index - (len(found) - 1) / 2)
        return ports

    def _point(self, along: float, across: float) -> tuple[float, float]:
        if self._plan.sizes.is_level:
            return EDGE + self._shift + along, _TOP + across
        return EDGE + self._shift + across, _TOP + along

    # -- ways

    def _runs(self, number: int, way: Way, end: str) -> list[tuple[tuple[float, float], tuple[float, float]]]:
        """Return the straight parts of a way from its start to one of its ends."""
        found = []
        for place in way.places:
            low, high = self._columns[place.layer]
            found.append((self._point(low, place.at), self._point(high, place.at)))
        low_name, high_name = (end, way.start) if way.is_backward else (way.start, end)
        found.insert(0, self._face(number, low_name, is_higher=True))
        found.append(self._face(number, high_name, is_higher=False))
        return [(last, first) for first, last in reversed(found)] if way.is_backward else found

    def _face(
        self, number: int, name: str, *, is_higher: bool
    ) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return the way from the side of a node to the edge of its layer, or from there."""
        box, port = self._boxes[name], self._ports[number, name]
        low, high = self._columns[self._plan.layers.nodes[name].layer]
        x, y = box.middle
        if self._plan.sizes.is_level:
            side = (box.x + box.width if is_higher else box.x), y + port
            edge = self._point(high if is_higher else low, 0)[0], y + port
        else:
            side = x + port, (box.y + box.height if is_higher else box.y)
            edge = x + port, self._point(high if is_higher else low, 0)[1]
        return (side, edge) if is_higher else (edge, side)

    def _way(
        self, way: Way, texts: Sequence[str], flows: Sequence[Flow], numbers: Mapping[tuple[str, str], int]
    ) -> str:
        colour = self._colour[way.start]
        number = self._plan.layers.ways.index(way)
        marks = []
        for flow in flows:
            path, tip = self._curve(self._runs(number, way, flow.handler))
            marks.append(_arrow(flow, numbers[flow.key], path, tip, colour))
        start, end = self._columns[way.label.layer]
        x, y = self._point(start, way.label.at)
        if self._plan.sizes.is_level:
            top = y - 5 - LINE * (len(texts) - 1)
            x += 2
        else:
            top = y + (end - start) / 2 - LINE * (len(texts) - 1) / 2 + 4
            x += 6
        room = self._plan.sizes.label - 4
        marks.append(self._label(texts, (x, top), room, _said(flows), numbers[flows[0].key]))
        return f'<g class="way">{"".join(marks)}</g>'

    def _curve(self, runs: Sequence[tuple[tuple[float, float], tuple[float, float]]]) -> tuple[str, str]:
        """Return the paths of a line and of its tip, which points the way the line ends."""
        level = self._plan.sizes.is_level
        (start, _), (_, (x, y)) = runs[0], runs[-1]
        before = runs[-1][0]
        sign = 1 if (x - before[0] if level else y - before[1]) >= 0 else -1
        if runs[-1][0] == runs[-1][1]:
            there = runs[-2][1]
            sign = 1 if (x - there[0] if level else y - there[1]) >= 0 else -1
        base = (x - sign * (_TIP - 2), y) if level else (x, y - sign * (_TIP - 2))
        path = f"M{start[0]:.1f} {start[1]:.1f}"
        at = start
        for index, (first, last) in enumerate(runs):
            is_last = index == len(runs) - 1
            begin = base if is_last and first == last else first
            end = base if is_last else last
            if index:
                path += _bend(at, begin, level=level)
            if end != begin:
                path += f"L{end[0]:.1f} {end[1]:.1f}"
            at = end
        return path, _tip((x, y), (sign, 0) if level else (0, sign))

    def _loop(self, flow: Flow, number: int) -> str:
        box, colour = self._boxes[flow.sender], self._colour[flow.sender]
        texts = type_lines(flow)
        x, y = box.middle
        if self._plan.sizes.is_level:
            y = box.y
            path = f"M{x + 14:.1f} {y:.1f}v-6q0 -12 -14 -12q-14 0 -14 11"
            tip = _tip((x - 14, y), (0, 1))
            at, room = (x, y - LOOP - 4 - LINE * (len(texts) - 1)), box.width + 8
            anchor = "middle"
        else:
            x = box.x + box.width
            path = f"M{x:.1f} {y - 10:.1f}h6q12 0 12 10q0 10 -11 10"
            tip = _tip((x, y + 10), (-1, 0))
            at, room = (x + LOOP + 4, y - LINE * (len(texts) - 1) / 2 + 4), self._plan.sizes.label - 4
            anchor = ""
        label = self._label(texts, at, room, _said([flow]), number, anchor)
        return f'<g class="way">{_arrow(flow, number, path, tip, colour)}{label}</g>'

    def _label(
        self,
        texts: Sequence[str],
        at: tuple[float, float],
        room: float,
        about: str,
        number: int,
        anchor: str = "",
    ) -> str:
        x, y = at
        place = ' text-anchor="middle"' if anchor else ""
        shown = "".join(
            f'<text x="{x:.1f}" y="{y + LINE * index:.1f}"{place}>'
            f"{tspan(_fitted(text, room), 0, 'e' if text.startswith(CROSS) else '')}</text>"
            for index, text in enumerate(texts)
        )
        return f"<g{self._press(f'w{number}', about)}>{_tooltip(about)}{shown}</g>"

    # -- nodes

    def _node(self, number: int, group: Group) -> str:
        box, colour = self._boxes[group.name], self._colour[group.name]
        room = box.width - 20
        below, load = below_name(self._plan.shown, group), self._plan.shown.load(group)
        is_busy = bool(load.held or load.waiting)
        top = box.y + 16 if not group.is_single else box.y + box.height / 2 - 3
        name = fit(clean(group.name), room, bold=True)
        shorter = next((text for text in below if measure(text, bold=is_busy) <= room), below[-1])
        about = f"{group.name}: {below[0]}"
        frame = f'rx="{2 if group.name == NOTEBOOK else 7}" style="fill:var(--paper)" stroke="{colour}"'
        kind = "b" if is_busy else "q"
        x = box.x + 12
        marks = [
            rect(box.x, box.y, box.width, box.height, f'{frame} stroke-width="1.6"'),
            rect(box.x + 4, box.y + 6, 3, box.height - 12, f'rx="1.5" style="fill:{colour}"'),
            f'<text x="{x:.1f}" y="{top:.1f}">{tspan(name, 0, "b")}</text>',
            f'<text x="{x:.1f}" y="{top + 15:.1f}">{tspan(fit(shorter, room, bold=is_busy), 0, kind)}</text>',
        ]
        if not group.is_single:
            marks.append(self._dots(group, box, colour))
        return f"<g{self._press(f'n{number}', about)}>{_tooltip(about)}{''.join(marks)}</g>"

    def _dots(self, group: Group, box: _Box, colour: str) -> str:
        """Draw a dot for each node of a group, larger for those that did more."""
        shown = self._plan.shown
        columns = max(1, int((box.width - 18) / DOT))
        did = [shown.sent.get(name, 0) + shown.handled.get(name, 0) for name in group.nodes[:MAX_DOTS]]
        most = max(did, default=0) or 1
        path: dict[str, str] = {}
        for number, each in enumerate(did):
            x = box.x + 14 + DOT * (number % columns) + DOT / 2
            y = box.y + BOX + 2 + DOT * (number // columns)
            size = f"{1.6 + 3.8 * (each / most) ** 0.5:.1f}"
            path[size] = path.get(size, "") + f"M{x:.0f} {y:.0f}h0"
        return "".join(
            f'<path d="{d}" stroke="{colour}" stroke-width="{size}" stroke-linecap="round"/>'
            for size, d in path.items()
        )

    def _press(self, key: str, about: str) -> str:
        """Return the attributes of what can be pressed in a live picture."""
        if not self._live:
            return ""
        return f' data-key="{key}" tabindex="-1" role="button" aria-label="{escaped(about)}"'


def _arrow(flow: Flow, number: int, path: str, tip: str, colour: str) -> str:
    width = 1.3 + 0.8 * log10(flow.number)
    return (
        f'<path data-way="{number}" d="{path}" stroke="{colour}" stroke-width="{width:.1f}"/>'
        f'<path d="{tip}" style="fill:{colour}"/>'
    )


def _said(flows: Sequence[Flow]) -> str:
    """Return all about a way, for its tooltip."""
    ends = ", ".join(flow.handler for flow in flows[:8])
    ends += f", … {len(flows) - 8:,} more" if len(flows) > 8 else ""  # noqa: PLR2004 - as above
    return f"{flows[0].sender} → {ends}: {', '.join(type_lines(flows[0], 12))}"


def _fitted(text: str, room: float) -> str:
    """Cut a type so that its count stays."""
    type, cross, number = text.rpartition(f" {CROSS}")
    if not cross:
        return fit(text, room)
    return fit(type, room - measure(cross + number)) + cross + number


def _tooltip(text: str) -> str:
    return f"<title>{escaped(text)}</title>"


def _bend(one: tuple[float, float], other: tuple[float, float], *, level: bool) -> str:
    (x0, y0), (x1, y1) = one, other
    if level:
        middle = (x0 + x1) / 2
        return f"C{middle:.1f} {y0:.1f} {middle:.1f} {y1:.1f} {x1:.1f} {y1:.1f}"
    middle = (y0 + y1) / 2
    return f"C{x0:.1f} {middle:.1f} {x1:.1f} {middle:.1f} {x1:.1f} {y1:.1f}"


def _tip(at: tuple[float, float], towards: tuple[int, int]) -> str:
    (x, y), (right, down) = at, towards
    back, wing = _TIP, _TIP * 0.45
    one = x - right * back - down * wing, y - down * back - right * wing
    other = x - right * back + down * wing, y - down * back + right * wing
    return f"M{x:.1f} {y:.1f}L{one[0]:.1f} {one[1]:.1f}L{other[0]:.1f} {other[1]:.1f}z"
