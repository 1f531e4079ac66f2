"""Who says what to whom, as a figure: nodes on a circle, arrows with counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import asin, cos, degrees, dist, log10, pi, sin
from typing import TYPE_CHECKING, Any, Final

from happen_nb._display.plots import circle, colours
from happen_nb._display.plots.base import ROOM, figure, line, lines, message, safe, short
from happen_nb._display.plots.circle import Point
from happen_nb._display.plots.happened import NOTEBOOK, Happened, in_order
from happen_nb._display.plots.labels import Box, box_of, placed
from happen_nb._display.spans import count, cut_middle

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

NODES: Final = 50
"""Nodes of a figure; of more the busiest are shown."""
ARROWS: Final = 300
"""Arrows of a figure; of more the busiest are shown."""
_LABELLED: Final = 60  # so many arrows have their count beside them
_LEVEL: Final = 12  # up to so many nodes the names are not turned
_TYPES: Final = 8
_NAME: Final = 16  # columns of a name
_ABOVE: Final = 34  # pixels of the title
_GAP: Final = 8.0  # pixels from a node to its name
_LOOP_ENDS: Final = 0.75  # of what a loop is drawn out, how far it reaches
_TIP: Final = 9.0  # pixels of the tip of an arrow


@dataclass(slots=True)
class Arrow:
    """What one node said that another one handled."""

    sender: str
    handler: str
    types: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def number(self) -> int:
        """How many events it stands for."""
        return self.types.total()


def arrows_of(x: Happened) -> dict[tuple[str, str], Arrow]:
    """Sender and handling node -> what went that way; an event counts once per node."""
    arrows: dict[tuple[str, str], Arrow] = {}
    for id, records in x.handlings.items():
        event = x.by_id[id]
        taken = [record for record in records if record.accepted]
        failed = {record.node for record in taken if record.outcome == "failed"}
        for node in sorted({record.node for record in taken}):
            arrow = arrows.setdefault((event.sender, node), Arrow(event.sender, node))
            arrow.types[event.type] += 1
            arrow.failed[event.type] += node in failed
    return arrows


@dataclass(frozen=True, slots=True)
class Size:
    """How large things are, in pixels, by the number of nodes."""

    radius: float
    node: float
    height: float
    loop: float

    @property
    def reach(self) -> float:
        """Half the height in radii."""
        return self.height / 2 / self.radius


def size_of(number: int, *, loops: bool) -> Size:
    """What fits into 700 pixels with all names."""
    if number <= _LEVEL:
        radius = 100.0 + 4 * number
        return Size(radius, 20, 2 * radius + (190 if loops else 110), 48)
    return Size(185, 12, 690, 30)


def graph(x: Happened) -> Figure:
    """Draw who said what to whom.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    arrows = arrows_of(x)
    names, known = _shown(x, arrows)
    if not arrows:
        return message(f"<b>Graph of {short(x.space)}</b>", "No event has been handled here yet.")
    kept = [each for each in arrows.values() if each.sender in names and each.handler in names]
    kept = sorted(kept, key=lambda each: (-each.number, each.sender, each.handler))[:ARROWS]
    order = circle.ordered(names, [(each.sender, each.handler) for each in kept])
    loops = {each.sender: box_of(_texts(each)) for each in kept if each.sender == each.handler}
    size = size_of(len(order), loops=bool(loops))
    angles = dict(zip(order, circle.angles(len(order)), strict=True))
    ways = [_way(arrow, angles, size) for arrow in kept]
    outer = {"visible": False, "range": [-size.reach, size.reach], "fixedrange": True}
    return figure(
        [*_curves(kept, ways), _counts(kept, ways, size), _dots(x, arrows, angles, size)],
        title=_title(x, arrows, kept, (len(names), known)),
        height=round(size.height + _ABOVE),
        margin={"l": 0, "r": 0, "t": _ABOVE, "b": 0},
        showlegend=False,
        dragmode=False,
        xaxis={**outer, "scaleanchor": "y", "constrain": "range"},
        yaxis=outer,
        annotations=[
            *(_head(arrow, way, size) for arrow, way in zip(kept, ways, strict=True)),
            *_names(angles, loops, size),
        ],
    )  # fmt: skip


def _shown(x: Happened, arrows: dict[tuple[str, str], Arrow]) -> tuple[list[str], int]:
    """The nodes, the notebook first, and how many there are."""
    busy: Counter[str] = Counter()
    for arrow in arrows.values():
        busy[arrow.sender] += arrow.number
        busy[arrow.handler] += arrow.number
    names = sorted({*busy, *x.nodes}, key=lambda name: (-busy[name], name))
    return in_order(names[:NODES]), len(names)


def _title(
    x: Happened, arrows: dict[tuple[str, str], Arrow], kept: Sequence[Arrow], nodes: tuple[int, int]
) -> str:
    failed = sum(arrow.failed.total() for arrow in arrows.values())
    parts = [count(len(x.handlings), "event") + " handled"]
    parts += [count(failed, "failure")] if failed else []
    parts += [f"newest {x.newest:,}"] if x.newest is not None else []
    parts += [f"{nodes[0]:,} of {nodes[1]:,} nodes"] if nodes[0] < nodes[1] else []
    parts += [f"the {ARROWS:,} busiest ways"] if len(kept) == ARROWS else []
    return f"<b>Graph of {short(x.space)}</b> · {' · '.join(parts)}"


def _way(arrow: Arrow, angles: dict[str, float], size: Size) -> list[Point]:
    if arrow.sender == arrow.handler:
        return circle.loop(angles[arrow.sender], size.loop / size.radius, len(angles))
    return circle.curve(circle.point(angles[arrow.sender]), circle.point(angles[arrow.handler]))


def _colour(arrow: Arrow) -> str:
    """Red where most of it failed."""
    return colours.ERROR if 2 * arrow.failed.total() >= arrow.number else colours.NUMBER


def _width(arrow: Arrow) -> float:
    return round(1.2 + 0.9 * log10(arrow.number), 2)


def _curves(arrows: Sequence[Arrow], ways: Sequence[list[Point]]) -> Iterable[Scatter]:
    """The lines, those of a colour and a width in one trace."""
    from plotly import graph_objects as go

    alike: dict[tuple[str, float], list[list[Point]]] = {}
    for arrow, way in zip(arrows, ways, strict=True):
        alike.setdefault((_colour(arrow), _width(arrow)), []).append(way)
    for (colour, width), some in alike.items():
        yield go.Scatter(
            x=[each for way in some for each in (*(x for x, _ in way), None)],
            y=[each for way in some for each in (*(y for _, y in way), None)],
            mode="lines",
            name="ways",
            line={"color": colour, "width": width},
            opacity=0.75,
            hoverinfo="skip",
        )


def _head(arrow: Arrow, way: list[Point], size: Size) -> dict[str, Any]:
    """The tip of an arrow."""
    standoff = size.node / 2 + 1
    x, y = way[-1]
    far = [each for each in way[:-1] if dist(each, way[-1]) * size.radius > standoff + _TIP]
    ax, ay = far[-1] if far else way[0]
    return {
        "x": x, "y": y, "ax": ax, "ay": ay, "xref": "x", "yref": "y", "axref": "x", "ayref": "y", "text": "",
        "arrowhead": 2, "arrowsize": 1.1, "arrowwidth": 1.5, "arrowcolor": _colour(arrow),
        "standoff": standoff,
    }  # fmt: skip


def _counts(arrows: Sequence[Arrow], ways: Sequence[list[Point]], size: Size) -> Scatter:
    """How often, beside each arrow; where it is pointed at."""
    from plotly import graph_objects as go

    places, labels = [], []
    for arrow, way, box in zip(arrows, ways, _boxes(arrows, ways, size), strict=True):
        middle = way[len(way) // 2]
        places.append(middle if box is None else (box.x / size.radius, box.y / size.radius))
        labels.append("" if box is None else _label(arrow))
    return go.Scatter(
        x=[round(x, 4) for x, _ in places],
        y=[round(y, 4) for _, y in places],
        mode="markers+text",
        name="arrows",
        marker={
            "size": [20 if label else 9 for label in labels],
            "color": colours.CLEAR,
            "line": {"width": 0},
        },
        text=labels,
        textfont={"size": 11, "color": [_colour(arrow) for arrow in arrows]},
        hovertext=[lines(_told(arrow)) for arrow in arrows],
        hoverinfo="text",
    )


def _boxes(arrows: Sequence[Arrow], ways: Sequence[list[Point]], size: Size) -> list[Box | None]:
    """Where there is room for the counts; none where there are many arrows."""
    if len(arrows) > _LABELLED:
        return [None] * len(arrows)
    scaled = [[(x * size.radius, y * size.radius) for x, y in way] for way in ways]
    dots = [Box(*place, size.node, size.node) for place in dict.fromkeys(way[0] for way in scaled)]
    return placed(scaled, [box_of(_texts(arrow)) for arrow in arrows], dots)


def _texts(arrow: Arrow) -> list[str]:
    failed = arrow.failed.total()
    return [f"{arrow.number:,}", f"{failed:,} failed"] if failed else [f"{arrow.number:,}"]


def _label(arrow: Arrow) -> str:
    number, *failed = _texts(arrow)
    return "<br>".join(
        [f"<b>{number}</b>", *(f'<span style="color:{colours.ERROR}">{each}</span>' for each in failed)]
    )


def _told(arrow: Arrow) -> Iterable[str]:
    yield f"<b>{short(arrow.sender)} → {short(arrow.handler)}</b>"
    for type, number in arrow.types.most_common(_TYPES):
        failed = arrow.failed[type]
        more = f", {failed:,} failed" if failed else ""
        yield line(f"{number:6,}  {cut_middle(type, ROOM - 26)}{more}")
    if len(arrow.types) > _TYPES:
        yield f"… {len(arrow.types) - _TYPES:,} more types"


def _dots(x: Happened, arrows: dict[tuple[str, str], Arrow], angles: dict[str, float], size: Size) -> Scatter:
    from plotly import graph_objects as go

    places = [circle.point(angle) for angle in angles.values()]
    failing = {arrow.handler for arrow in arrows.values() if arrow.failed.total()}
    said = Counter(event.sender for event in x.events)
    alone = Counter(event.sender for event in x.events if _unhandled(x, event.id))
    took: Counter[str] = Counter()
    for arrow in arrows.values():
        took[arrow.handler] += arrow.number
    return go.Scatter(
        x=[x for x, _ in places],
        y=[y for _, y in places],
        mode="markers",
        name="nodes",
        marker={
            "size": size.node,
            "color": [colours.QUIET if name == NOTEBOOK else colours.STRING for name in angles],
            "symbol": ["square" if name == NOTEBOOK else "circle" for name in angles],
            "opacity": 1,
            "line": {"width": [3 if name in failing else 0 for name in angles], "color": colours.ERROR},
        },
        hovertext=[lines(_of_node(name, said[name], alone[name], took[name])) for name in angles],
        hoverinfo="text",
    )


def _unhandled(x: Happened, id: str) -> bool:
    return not any(record.accepted for record in x.handlings.get(id, ()))


def _of_node(name: str, said: int, alone: int, took: int) -> Iterable[str]:
    yield f"<b>{short(name)}</b>"
    nobody = f", {alone:,} handled by nobody" if alone else ""
    yield f"said {count(said, 'event')}{nobody}"
    if name != NOTEBOOK:
        yield f"handled {count(took, 'event')}"


def _names(
    angles: dict[str, float], loops: Mapping[str, tuple[float, float]], size: Size
) -> Iterable[dict[str, Any]]:
    """The names outside of the circle; where there are many, turned like spokes and all equally far away."""
    many = len(angles) > _LEVEL
    for name, angle in angles.items():
        looped = bool(loops) if many else name in loops
        away = size.node / 2 + _GAP + (_LOOP_ENDS * size.loop if looped else 0)
        x, y = circle.point(angle)
        label = {"x": x, "y": y, "text": _short(name), "showarrow": False, "font": {"size": 11}}
        place = _turned(name, angle, away) if many else _upright(angle, away, loops.get(name, (0, 0)))
        yield {**label, **place}


def _turned(name: str, angle: float, away: float) -> dict[str, Any]:
    level = degrees(asin(round(sin(angle), 6)))
    away += 3.1 * min(len(name), _NAME)  # half of its width
    return {
        "textangle": round(-level if _is_right(angle) else level, 1),
        "xshift": round(away * cos(angle), 1),
        "yshift": round(away * sin(angle), 1),
    }


def _upright(angle: float, away: float, between: tuple[float, float]) -> dict[str, Any]:
    """Level, and beyond the count of a loop."""
    sideways = abs(cos(angle))
    away += between[0] * sideways + between[1] * abs(sin(angle))
    anchor = "center" if sideways < sin(pi / 18) else ("left" if _is_right(angle) else "right")
    return {"xanchor": anchor, "xshift": round(away * cos(angle), 1), "yshift": round(away * sin(angle), 1)}


def _is_right(angle: float) -> bool:
    return cos(angle) > -1e-9  # noqa: PLR2004 - the top counts as right


def _short(name: str) -> str:
    return safe(cut_middle(name, _NAME))
