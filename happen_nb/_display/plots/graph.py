"""The graph: nodes on a circle, with an arrow from each sender to each node that handled its events."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import asin, cos, degrees, dist, log10, pi, sin
from typing import TYPE_CHECKING, Final

from happen_nb._display.plots import graph_layout, scene
from happen_nb._display.plots.graph_layout import Box, place_labels, text_size
from happen_nb._display.plots.journal_slice import NOTEBOOK, JournalSlice, in_order
from happen_nb._display.plots.scene import Anchor, Arrow, Axis, Label, Line, Marks, Point, Scene, Series
from happen_nb._display.spans import count, cut_middle

if TYPE_CHECKING:
    from happen_nb._display.plots.plotly_figure import SceneFigure

MAX_NODES: Final = 50
"""Of more nodes the busiest are shown."""
MAX_FLOWS: Final = 300
"""Of more flows the busiest are shown."""

_MAX_LABELLED: Final = 60  # with more flows, no count is beside them
_MAX_LEVEL_NAMES: Final = 12  # with more nodes, the names are turned like spokes
_MAX_TYPES: Final = 8
_NAME_COLUMNS: Final = 16
_TITLE_HEIGHT: Final = 34
_NAME_GAP: Final = 8.0  # pixels from a node to its name
_LOOP_REACH: Final = 0.75  # how far a loop reaches, as a part of the distance of its control points
_TIP: Final = 9.0  # pixels of the tip of an arrow


@dataclass(slots=True)
class Flow:
    """The events of a sender that one node handled."""

    sender: str
    handler: str
    types: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def number(self) -> int:
        """The number of events."""
        return self.types.total()

    @property
    def colour(self) -> str:
        """Red where most of them failed."""
        return scene.ERROR if 2 * self.failed.total() >= self.number else scene.NUMBER

    @property
    def labels(self) -> list[str]:
        """The lines of its count."""
        failed = self.failed.total()
        return [f"{self.number:,}", f"{failed:,} failed"] if failed else [f"{self.number:,}"]


Flows = dict[tuple[str, str], Flow]
"""Sender and handling node -> flow."""


def flows_of(journal: JournalSlice) -> Flows:
    """Return all flows; an event counts once per node."""
    flows: Flows = {}
    for id, records in journal.handlings.items():
        event = journal.by_id[id]
        accepted = [record for record in records if record.accepted]
        failed = {record.node for record in accepted if record.outcome == "failed"}
        for node in sorted({record.node for record in accepted}):
            flow = flows.setdefault((event.sender, node), Flow(event.sender, node))
            flow.types[event.type] += 1
            flow.failed[event.type] += node in failed
    return flows


@dataclass(frozen=True, slots=True)
class GraphSize:
    """Sizes in pixels."""

    radius: float
    node: float
    height: float
    loop: float

    @property
    def reach(self) -> float:
        """Half the height in radii."""
        return self.height / 2 / self.radius


def size_for(nodes: int, *, loops: bool) -> GraphSize:
    """Return the sizes with which all names fit into the width of a picture."""
    if nodes <= _MAX_LEVEL_NAMES:
        radius = 100.0 + 4 * nodes
        return GraphSize(radius, 20, 2 * radius + (190 if loops else 110), 48)
    return GraphSize(185, 12, 690, 30)


def graph(journal: JournalSlice) -> SceneFigure:
    """Draw the flows of events between senders and handling nodes."""
    from happen_nb._display.plots.plotly_figure import figure_of

    flows = flows_of(journal)
    names, known = _shown_nodes(journal, flows)
    if not flows:
        title = f"<b>Graph of {scene.short(journal.space)}</b>"
        return figure_of(scene.message(title, "No event has been handled here yet."))
    kept = [flow for flow in flows.values() if flow.sender in names and flow.handler in names]
    kept = sorted(kept, key=lambda flow: (-flow.number, flow.sender, flow.handler))[:MAX_FLOWS]
    order = graph_layout.order_nodes(names, [(flow.sender, flow.handler) for flow in kept])
    loops = {flow.sender: text_size(flow.labels) for flow in kept if flow.sender == flow.handler}
    size = size_for(len(order), loops=bool(loops))
    angles = dict(zip(order, graph_layout.angles(len(order)), strict=True))
    curves = [_curve(flow, angles, size) for flow in kept]
    axis = Axis(range=(-size.reach, size.reach), fixed=True, visible=False)
    picture = Scene(
        title=_title(journal, flows, kept, (len(names), known)),
        height=round(size.height + _TITLE_HEIGHT),
        margin=(0, 0, _TITLE_HEIGHT, 0),
        x=axis,
        rows=[axis],
        series=[*_lines(kept, curves), _counts(kept, curves, size), _dots(journal, flows, angles, size)],
        texts=list(_names(angles, loops, size)),
        arrows=[_head(flow, curve, size) for flow, curve in zip(kept, curves, strict=True)],
        square=True,
    )
    return figure_of(picture)


def _shown_nodes(journal: JournalSlice, flows: Flows) -> tuple[list[str], int]:
    """Return the nodes, the notebook first, and how many there are."""
    busy: Counter[str] = Counter()
    for flow in flows.values():
        busy[flow.sender] += flow.number
        busy[flow.handler] += flow.number
    names = sorted({*busy, *journal.nodes}, key=lambda name: (-busy[name], name))
    return in_order(names[:MAX_NODES]), len(names)


def _title(journal: JournalSlice, flows: Flows, kept: Sequence[Flow], nodes: tuple[int, int]) -> str:
    failed = sum(flow.failed.total() for flow in flows.values())
    parts = [count(len(journal.handlings), "event") + " handled"]
    parts += [count(failed, "failure")] if failed else []
    parts += [f"newest {journal.newest:,}"] if journal.newest is not None else []
    parts += [f"{nodes[0]:,} of {nodes[1]:,} nodes"] if nodes[0] < nodes[1] else []
    parts += [f"the {MAX_FLOWS:,} busiest ways"] if len(kept) == MAX_FLOWS else []
    return f"<b>Graph of {scene.short(journal.space)}</b> · {' · '.join(parts)}"


# -- flows -------------------------------------------------------------------------------------------


def _curve(flow: Flow, angles: dict[str, float], size: GraphSize) -> list[Point]:
    if flow.sender == flow.handler:
        return graph_layout.loop(angles[flow.sender], size.loop / size.radius, len(angles))
    start, end = angles[flow.sender], angles[flow.handler]
    return graph_layout.curve(graph_layout.point(start), graph_layout.point(end))


def _lines(flows: Sequence[Flow], curves: Sequence[list[Point]]) -> Iterable[Series]:
    """Return the lines, those of a colour and a width as one series."""
    alike: dict[tuple[str, float], list[Point | None]] = {}
    for flow, curve in zip(flows, curves, strict=True):
        width = round(1.2 + 0.9 * log10(flow.number), 2)
        alike.setdefault((flow.colour, width), []).extend((*curve, None))
    for (colour, width), points in alike.items():
        yield Series(points=points, name="ways", line=Line(colour, width, opacity=0.75))


def _head(flow: Flow, curve: list[Point], size: GraphSize) -> Arrow:
    to_end = size.node / 2 + 1
    far = [at for at in curve[:-1] if dist(at, curve[-1]) * size.radius > to_end + _TIP]
    start = far[-1] if far else curve[0]
    return Arrow(start=start, end=curve[-1], colour=flow.colour, to_end=to_end, scale=1.1)


def _counts(flows: Sequence[Flow], curves: Sequence[list[Point]], size: GraphSize) -> Series:
    """Return the count beside each arrow, where it can be pointed at."""
    places, labels = [], []
    for flow, curve, box in zip(flows, curves, _boxes(flows, curves, size), strict=True):
        place = curve[len(curve) // 2] if box is None else (box.x / size.radius, box.y / size.radius)
        places.append((round(place[0], 4), round(place[1], 4)))
        labels.append("" if box is None else _label(flow))
    return Series(
        points=places,
        name="arrows",
        marks=Marks(sizes=[20 if label else 9 for label in labels], colours=scene.CLEAR),
        labels=labels,
        label_colours=[flow.colour for flow in flows],
        hover=[scene.joined(_flow_hover(flow)) for flow in flows],
    )


def _boxes(flows: Sequence[Flow], curves: Sequence[list[Point]], size: GraphSize) -> list[Box | None]:
    """Return the places for the counts; None where there is no room, or where there are many flows."""
    if len(flows) > _MAX_LABELLED:
        return [None] * len(flows)
    scaled = [[(x * size.radius, y * size.radius) for x, y in curve] for curve in curves]
    dots = [Box(*place, size.node, size.node) for place in dict.fromkeys(curve[0] for curve in scaled)]
    return place_labels(scaled, [text_size(flow.labels) for flow in flows], dots)


def _label(flow: Flow) -> str:
    number, *failed = flow.labels
    return scene.joined(
        [f"<b>{number}</b>", *(f'<span style="color:{scene.ERROR}">{each}</span>' for each in failed)]
    )


def _flow_hover(flow: Flow) -> Iterable[str]:
    yield f"<b>{scene.short(flow.sender)} → {scene.short(flow.handler)}</b>"
    for type, number in flow.types.most_common(_MAX_TYPES):
        failed = flow.failed[type]
        more = f", {failed:,} failed" if failed else ""
        yield scene.hover_line(f"{number:6,}  {cut_middle(type, scene.HOVER_COLUMNS - 26)}{more}")
    if len(flow.types) > _MAX_TYPES:
        yield f"… {len(flow.types) - _MAX_TYPES:,} more types"


# -- nodes -------------------------------------------------------------------------------------------


def _dots(journal: JournalSlice, flows: Flows, angles: dict[str, float], size: GraphSize) -> Series:
    failing = {flow.handler for flow in flows.values() if flow.failed.total()}
    sent = Counter(event.sender for event in journal.events)
    unhandled = Counter(event.sender for event in journal.events if _is_unhandled(journal, event.id))
    handled: Counter[str] = Counter()
    for flow in flows.values():
        handled[flow.handler] += flow.number
    return Series(
        points=[graph_layout.point(angle) for angle in angles.values()],
        name="nodes",
        marks=Marks(
            sizes=size.node,
            colours=[scene.QUIET if name == NOTEBOOK else scene.STRING for name in angles],
            symbols=["square" if name == NOTEBOOK else "circle" for name in angles],
            rings=[3 if name in failing else 0 for name in angles],
        ),
        hover=[
            scene.joined(_node_hover(name, sent[name], unhandled[name], handled[name])) for name in angles
        ],
    )


def _is_unhandled(journal: JournalSlice, id: str) -> bool:
    return not any(record.accepted for record in journal.handlings.get(id, ()))


def _node_hover(name: str, sent: int, unhandled: int, handled: int) -> Iterable[str]:
    yield f"<b>{scene.short(name)}</b>"
    yield f"sent {count(sent, 'event')}" + (f", {unhandled:,} unhandled" if unhandled else "")
    if name != NOTEBOOK:
        yield f"handled {count(handled, 'event')}"


def _names(angles: dict[str, float], loops: Mapping[str, Point], size: GraphSize) -> Iterable[Label]:
    """Return the names outside of the circle; many are turned like spokes, all at the same distance."""
    many = len(angles) > _MAX_LEVEL_NAMES
    for name, angle in angles.items():
        looped = bool(loops) if many else name in loops
        away = size.node / 2 + _NAME_GAP + (_LOOP_REACH * size.loop if looped else 0)
        if many:
            yield _turned_name(name, angle, away)
        else:
            yield _level_name(name, angle, away, loops.get(name, (0, 0)))


def _turned_name(name: str, angle: float, away: float) -> Label:
    level = degrees(asin(round(sin(angle), 6)))
    away += 3.1 * min(len(name), _NAME_COLUMNS)  # half of its width
    return _name(name, angle, away, "center", round(-level if _is_right(angle) else level, 1))


def _level_name(name: str, angle: float, away: float, loop_label: Point) -> Label:
    sideways = abs(cos(angle))
    away += loop_label[0] * sideways + loop_label[1] * abs(sin(angle))  # beyond the count of its loop
    if sideways < sin(pi / 18):
        return _name(name, angle, away, "center")
    return _name(name, angle, away, "left" if _is_right(angle) else "right")


def _name(name: str, angle: float, away: float, anchor: Anchor, turned: float = 0.0) -> Label:
    x, y = graph_layout.point(angle)
    shift = round(away * cos(angle), 1), round(away * sin(angle), 1)
    return Label(text=scene.short(name, _NAME_COLUMNS), x=x, y=y, shift=shift, anchor=anchor, angle=turned)


def _is_right(angle: float) -> bool:
    return cos(angle) > -1e-9  # noqa: PLR2004 - the top counts as right
