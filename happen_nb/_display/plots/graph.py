"""The graph: nodes on a circle, with an arrow from each sender to each node that handled its events.

Its labels are placed where they do not overlap.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import asin, cos, degrees, dist, hypot, log10, pi, sin
from typing import TYPE_CHECKING, Final

from happen_nb._display.plots import scene
from happen_nb._display.plots.scene import Anchor, Arrow, Axis, Label, Line, Marks, Point, Scene, Series
from happen_nb._display.spans import count, cut_middle
from happen_nb._model.causality import NOTEBOOK, JournalSlice, in_order

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
    order = order_nodes(names, [(flow.sender, flow.handler) for flow in kept])
    loops = {flow.sender: text_size(flow.labels) for flow in kept if flow.sender == flow.handler}
    size = size_for(len(order), loops=bool(loops))
    placed = dict(zip(order, angles(len(order)), strict=True))
    curves = [_curve(flow, placed, size) for flow in kept]
    axis = Axis(range=(-size.reach, size.reach), fixed=True, visible=False)
    picture = Scene(
        title=_title(journal, flows, kept, (len(names), known)),
        height=round(size.height + _TITLE_HEIGHT),
        margin=(0, 0, _TITLE_HEIGHT, 0),
        x=axis,
        rows=[axis],
        series=[*_lines(kept, curves), _counts(kept, curves, size), _dots(journal, flows, placed, size)],
        texts=list(_names(placed, loops, size)),
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
        return loop(angles[flow.sender], size.loop / size.radius, len(angles))
    start, end = angles[flow.sender], angles[flow.handler]
    return curve(point(start), point(end))


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
        points=[point(angle) for angle in angles.values()],
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
    x, y = point(angle)
    shift = round(away * cos(angle), 1), round(away * sin(angle), 1)
    return Label(text=scene.short(name, _NAME_COLUMNS), x=x, y=y, shift=shift, anchor=anchor, angle=turned)


def _is_right(angle: float) -> bool:
    return cos(angle) > -1e-9  # noqa: PLR2004 - the top counts as right


# -- places --------------------------------------------------------------------------------------------


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
