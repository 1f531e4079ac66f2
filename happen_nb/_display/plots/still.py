"""A figure as a still picture, for where plotly's script is not: exported pages, GitHub, e-mail.

It draws what the figures of this package consist of: lines, marks, bars from left to right, texts, arrows and
rectangles. Of what a user adds to a figure it draws that, and leaves out the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import hypot
from typing import Any, Final, Literal

from happen_nb._display.plots import svg
from happen_nb._display.plots.base import FONT
from happen_nb._display.plots.colours import CLEAR, NUMBER, QUIET
from happen_nb._display.plots.frame import Axis, Frame, Spec, frame_of

_SIZE: Final = 12.0  # of a text, if it is not told
_TICK: Final = 5.0  # pixels
_LEGEND: Final = 22.0  # pixels from the begin of an entry to its text
_TIP: Final = 4.5  # how long the tip of an arrow is, in widths of its line
_PAD: Final = 4.0  # pixels beside the text of a bar
_CAPS: Final = {"square": "square"}


def still(data: Sequence[Spec], layout: Spec) -> str:
    """Draw a figure, given as plotly's JSON, as SVG."""
    frame = frame_of(data, layout)
    box = frame.box
    seen = [trace for trace in data if trace.get("visible", True) is True]
    inside = "".join([
        *(_shape(each, frame) for each in layout.get("shapes", ())),
        *(part for axis in frame.axes for part in _grid(axis, frame)),
        *(part for trace in seen for part in _trace(trace, frame, layout)),
    ])  # fmt: skip
    across, down = box.right - box.left, box.bottom - box.top
    area = {"x": box.left, "y": box.top, "width": across, "height": down}
    view = " ".join(map(svg.number, area.values()))
    parts = [
        svg.element("svg", inside, **area, viewBox=view),
        *(part for name in frame.axes for part in _labels(name, frame, layout)),
        *(part for each in layout.get("annotations", ()) for part in _annotation(each, frame, layout)),
        *_legend(seen, frame, layout),
        *_title(layout),
    ]
    size = {"width": frame.width, "height": frame.height}
    return svg.element(
        "svg",
        "".join(parts),
        xmlns="http://www.w3.org/2000/svg",
        **size,
        viewBox=f"0 0 {frame.width} {frame.height}",
        font_family=layout.get("font", {}).get("family", FONT),
    )


def _each(value: Any, number: int) -> Sequence[Any]:
    """One for each point, of what is told for all or for each."""
    if isinstance(value, str) or not hasattr(value, "__len__"):
        return [value] * number
    return [*value, *[None] * (number - len(value))]


def _colour(layout: Spec) -> str:
    return str(layout.get("font", {}).get("color", QUIET))


def _at(ref: str, value: Any, frame: Frame, letter: Literal["x", "y"]) -> float:
    """The pixel of a place on an axis, or on the paper, which has its zero at the bottom."""
    if ref != "paper":
        return frame.axes[ref].place(value) or 0.0
    box = frame.box
    if letter == "x":
        return box.left + float(value) * (box.right - box.left)
    return box.bottom - float(value) * (box.bottom - box.top)


def _shape(spec: Spec, frame: Frame) -> str:
    if spec.get("type") != "rect":
        return ""
    xs = sorted(_at(spec.get("xref", "x"), spec[key], frame, "x") for key in ("x0", "x1"))
    ys = sorted(_at(spec.get("yref", "y"), spec[key], frame, "y") for key in ("y0", "y1"))
    return svg.element("path", d=_area(*xs, *ys), **svg.paint("fill", spec.get("fillcolor", CLEAR)))


def _area(left: float, right: float, top: float, bottom: float) -> str:
    return svg.closed((left, top), (right, top), (right, bottom), (left, bottom))


# -- axes --------------------------------------------------------------------------------------------


def _grid(name: str, frame: Frame) -> Iterator[str]:
    axis = frame.axes[name]
    if not axis.spec.get("visible", True) or not axis.spec.get("showgrid", True):
        return
    others = [each for key, each in frame.axes.items() if key[0] != name[0]]
    if name[0] == "y":
        others = others[:1]
    along = [each for at, _ in axis.ticks for other in others for each in _segment(name, at, other)]
    yield svg.element("path", d=svg.line(along), **svg.paint("stroke", axis.spec.get("gridcolor", QUIET)))


def _segment(name: str, at: float, other: Axis) -> list[svg.Point | None]:
    if name[0] == "x":
        return [(at, other.start), (at, other.end), None]
    return [(other.start, at), (other.end, at), None]


def _labels(name: str, frame: Frame, layout: Spec) -> Iterator[str]:
    axis, box = frame.axes[name], frame.box
    if not axis.spec.get("visible", True):
        return
    font = {"size": axis.spec.get("tickfont", {}).get("size", _SIZE), "colour": _colour(layout)}
    out = _TICK if axis.spec.get("ticks") == "outside" else 0.0
    edge: list[svg.Point | None]
    if name[0] == "x":
        edge = [(axis.start, box.bottom), (axis.end, box.bottom)]
        edge += [
            each for at, _ in axis.ticks if out for each in (None, (at, box.bottom), (at, box.bottom + out))
        ]
        for at, label in axis.ticks:
            yield svg.text(label, (at, box.bottom + out + 2), anchor="middle", upright="top", **font)
    else:
        edge = [(box.left, axis.start), (box.left, axis.end)]
        for at, label in axis.ticks:
            yield svg.text(label, (box.left - 4, at), anchor="end", **font)
    if "linecolor" in axis.spec:
        yield svg.element(
            "path", d=svg.line(edge), fill="none", **svg.paint("stroke", axis.spec["linecolor"])
        )
    title = axis.spec.get("title", {})
    if name[0] == "x" and title.get("text"):
        size = title.get("font", {}).get("size", _SIZE)
        lines = max((svg.height(label, font["size"]) for _, label in axis.ticks), default=0.0)
        below = box.bottom + out + lines + title.get("standoff", 4)
        place = (axis.start + axis.end) / 2, min(below, frame.height - svg.height(title["text"], size))
        yield svg.text(title["text"], place, size=size, colour=font["colour"], anchor="middle", upright="top")


# -- traces ------------------------------------------------------------------------------------------


def _trace(trace: Spec, frame: Frame, layout: Spec) -> Iterator[str]:
    x, y = frame.axes[trace.get("xaxis", "x")], frame.axes[trace.get("yaxis", "y")]
    if trace.get("type") == "bar" and trace.get("orientation") == "h":
        yield from _bars(trace, x, y)
    elif trace.get("type", "scatter") == "scatter":
        places = zip(trace.get("x", ()), trace.get("y", ()), strict=False)
        points = [_point(x.place(across), y.place(up)) for across, up in places]
        mode = trace.get("mode", "lines")
        if "lines" in mode:
            yield _line(trace, points)
        if "markers" in mode:
            yield from _marks(trace, points)
        if "text" in mode:
            yield from _texts(trace, points, layout)


def _point(x: float | None, y: float | None) -> svg.Point | None:
    return None if x is None or y is None else (x, y)


def _line(trace: Spec, points: Iterable[svg.Point | None]) -> str:
    line = trace.get("line", {})
    return svg.element(
        "path",
        d=svg.line(points, steps=line.get("shape") == "hv"),
        fill="none",
        stroke_width=line.get("width", 2),
        stroke_linejoin="round",
        opacity=trace.get("opacity"),
        **svg.paint("stroke", line.get("color", NUMBER)),
    )


def _marks(trace: Spec, points: Sequence[svg.Point | None]) -> Iterator[str]:
    """Those that look alike as one path: a line of no length with a cap, which is a dot or a square."""
    marker = trace.get("marker", {})
    looks = zip(
        points,
        _each(marker.get("symbol", "circle"), len(points)),
        _each(marker.get("size", 6), len(points)),
        _each(marker.get("color", NUMBER), len(points)),
        _each(marker.get("line", {}).get("width", 0), len(points)),
        strict=True,
    )
    alike: dict[tuple[str, float, str], list[svg.Point]] = {}
    for point, symbol, size, colour, ring in looks:
        if point is not None and size and not svg.is_clear(colour):
            if ring:
                around = marker["line"].get("color", QUIET)
                alike.setdefault((symbol, size + ring, around), []).append(point)
            alike.setdefault((symbol, size - ring, colour), []).append(point)
    for (symbol, size, colour), some in alike.items():
        yield _alike(symbol, size, colour, some)


def _alike(symbol: str, size: float, colour: str, points: Iterable[svg.Point]) -> str:
    paint = svg.paint("stroke", colour)
    if symbol == "x":
        arm = size * 0.36
        arms = [each for x, y in points for each in (
            (x - arm, y - arm), (x + arm, y + arm), None, (x - arm, y + arm), (x + arm, y - arm), None,
        )]  # fmt: skip
        return svg.element("path", d=svg.line(arms), stroke_width=size * 0.3, **paint)
    dots = "".join(f"M{svg.number(x)} {svg.number(y)}h.01" for x, y in points)
    return svg.element("path", d=dots, stroke_width=size, stroke_linecap=_CAPS.get(symbol, "round"), **paint)


def _texts(trace: Spec, points: Sequence[svg.Point | None], layout: Spec) -> Iterator[str]:
    font = trace.get("textfont", {})
    colours = _each(font.get("color", _colour(layout)), len(points))
    alike: dict[str, list[tuple[str, svg.Point]]] = {}
    for point, label, colour in zip(points, _each(trace.get("text"), len(points)), colours, strict=True):
        if point and label:
            alike.setdefault(colour, []).append((str(label), point))
    for colour, some in alike.items():
        yield svg.texts(some, size=font.get("size", _SIZE), colour=colour, anchor="middle")


def _bars(trace: Spec, x: Axis, y: Axis) -> Iterator[str]:
    number = len(trace.get("x", ()))
    colours = _each(trace.get("marker", {}).get("color", NUMBER), number)
    bases, labels = _each(trace.get("base", 0), number), _each(trace.get("text"), number)
    font = trace.get("textfont", {})
    size = font.get("size", _SIZE)
    alike: dict[str, str] = {}
    said = []
    for base, length, colour, label in zip(bases, trace.get("x", ()), colours, labels, strict=True):
        left, right = x.place(base), x.place(base + length)
        if left is None or right is None:
            continue
        alike[colour] = alike.get(colour, "") + _area(left, right, y.end, y.start)
        if label and svg.width(label, size) + 2 * _PAD <= right - left:
            said.append((label, (left + _PAD, (y.start + y.end) / 2)))
    for colour, areas in alike.items():
        yield svg.element("path", d=areas, shape_rendering="crispEdges", **svg.paint("fill", colour))
    yield svg.texts(said, size=size, colour=font.get("color", QUIET))


# -- what stands beside ------------------------------------------------------------------------------


def _annotation(spec: Spec, frame: Frame, layout: Spec) -> Iterator[str]:
    if not spec.get("visible", True):
        return
    x = _at(spec.get("xref", "x"), spec.get("x", 0), frame, "x")
    y = _at(spec.get("yref", "y"), spec.get("y", 0), frame, "y")
    if spec.get("showarrow", True):
        ax, ay = spec.get("ax", -10), spec.get("ay", -30)
        tail_x = _at(spec["axref"], ax, frame, "x") if spec.get("axref", "pixel") != "pixel" else x + ax
        tail_y = _at(spec["ayref"], ay, frame, "y") if spec.get("ayref", "pixel") != "pixel" else y + ay
        yield from _arrow(spec, (tail_x, tail_y), (x, y))
        x, y = tail_x, tail_y
    if spec.get("text"):
        font = spec.get("font", {})
        yield svg.text(
            spec["text"],
            (x + spec.get("xshift", 0), y - spec.get("yshift", 0)),
            size=font.get("size", _SIZE),
            colour=font.get("color", _colour(layout)),
            anchor={"left": "start", "right": "end"}.get(spec.get("xanchor", ""), "middle"),
            upright=spec.get("yanchor", "middle") if spec.get("yanchor") != "auto" else "middle",
            angle=spec.get("textangle", 0),
        )


def _arrow(spec: Spec, tail: svg.Point, head: svg.Point) -> Iterator[str]:
    length = hypot(head[0] - tail[0], head[1] - tail[1])
    if not length:
        return
    x, y = (head[0] - tail[0]) / length, (head[1] - tail[1]) / length
    width, colour = spec.get("arrowwidth", 1), spec.get("arrowcolor", QUIET)
    tip = _TIP * width * spec.get("arrowsize", 1)
    end, start = spec.get("standoff", 0), spec.get("startstandoff", 0)
    front = head[0] - x * end, head[1] - y * end
    back = front[0] - x * tip, front[1] - y * tip
    if length > end + start + tip:
        begin = tail[0] + x * start, tail[1] + y * start
        yield svg.element(
            "path", d=svg.line([begin, back]), stroke_width=width, **svg.paint("stroke", colour)
        )
    wings = [(back[0] - side * y * tip / 2, back[1] + side * x * tip / 2) for side in (1, -1)]
    yield svg.element("path", d=svg.closed(front, *wings), **svg.paint("fill", colour))


def _legend(data: Sequence[Spec], frame: Frame, layout: Spec) -> Iterator[str]:
    """In one line above what is drawn."""
    if not layout.get("showlegend", len(data) > 1):
        return
    size = layout.get("legend", {}).get("font", {}).get("size", _SIZE)
    left, y = frame.box.left, frame.box.top - 12
    for trace in data:
        name = trace.get("name")
        if not name or not trace.get("showlegend", True):
            continue
        if "markers" in trace.get("mode", ""):
            marker = trace.get("marker", {})
            symbol, colour = (_each(marker.get(key), 1)[0] for key in ("symbol", "color"))
            yield _alike(symbol or "circle", 9, colour or NUMBER, [(left + 10, y)])
        else:
            yield _line(trace, [(left, y), (left + 18, y)])
        yield svg.text(name, (left + _LEGEND, y), size=size, colour=_colour(layout))
        left += _LEGEND + svg.width(name, size) + 14


def _title(layout: Spec) -> Iterator[str]:
    title = layout.get("title", {})
    if title.get("text"):
        size = title.get("font", {}).get("size", _SIZE)
        yield svg.text(title["text"], (12, 12), size=size, colour=_colour(layout), upright="top")
