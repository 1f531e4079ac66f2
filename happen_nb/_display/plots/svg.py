"""A scene as an SVG picture, for where plotly's script is not: exported pages, GitHub, e-mail."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import count
from math import floor, log10
from typing import Any, Final

from happen_nb._display.plots import scene
from happen_nb._display.plots.scene import (
    Axis,
    Bars,
    Label,
    Point,
    Points,
    Scene,
    Segment,
    Series,
    Tick,
    TimeAxis,
)
from happen_nb._display.spans import clean

FONT_FAMILY: Final = "system-ui, -apple-system, 'Segoe UI', sans-serif"
CHARACTER_WIDTH: Final = 0.56
"""Average width of a character, as a part of the size of its font."""
_LINE_HEIGHT: Final = 1.3
_RISE: Final = 0.35  # from the middle of a line down to its base line
_TICK: Final = 5.0  # pixels
_BAR_PADDING: Final = 6.0  # pixels beside the text of a bar
_BAR_EDGE: Final = 2.0
_LEGEND_SYMBOL, _LEGEND_GAP = 22.0, 14.0  # pixels of the symbol of an entry, and between two entries
_NS_PER_MS: Final = 1_000_000
_ANCHORS: Final[dict[scene.Anchor, str]] = {"left": "start", "center": "middle", "right": "end"}
_ABOVE: Final[dict[scene.Upright, float]] = {"top": 0.0, "middle": 0.5, "bottom": 1.0}
_DARK_PAGES: Final = (
    '[data-jp-theme-light="false"] .hn-image,.vscode-dark .hn-image,'
    '[data-theme="dark"] .hn-image,[theme="dark"] .hn-image{color-scheme:dark}'
)
"""A picture has the colour scheme of its page, which not every dark page gives."""


def draw(picture: Scene) -> str:
    """Return a scene as SVG."""
    plot = _Plot(picture)
    inside = "".join([*plot.grids(), *(part for each in picture.series for part in plot.series(each))])
    area = {"x": plot.left, "y": plot.top, "width": plot.right - plot.left, "height": plot.bottom - plot.top}
    parts = [
        _element("svg", inside, **area, viewBox=" ".join(map(_number, area.values()))),
        *plot.axis_labels(),
        *map(plot.label, picture.texts),
        *plot.legend(picture.series),
        _text(picture.facts, (12, 12), bold=picture.name, size=scene.TITLE_FONT, upright="top"),
    ]
    drawn = "".join(parts)
    return _element(
        "svg",
        _colours_by_theme(drawn) + drawn,
        xmlns="http://www.w3.org/2000/svg",
        width=scene.WIDTH,
        height=picture.height,
        viewBox=f"0 0 {scene.WIDTH} {picture.height}",
        font_family=FONT_FAMILY,
    )


def image_of_svg(drawn: str, caption: str) -> str:
    """Return a picture as an image: what sanitizes HTML takes inline SVG apart, but leaves images alone."""
    packed = b64encode(drawn.encode()).decode()
    image = f'<img src="data:image/svg+xml;base64,{packed}" alt="{escape(caption)}">'
    return f'<div class="hn-image"><style>{_DARK_PAGES}</style>{image}</div>'


def _colours_by_theme(drawn: str) -> str:
    """Return the style that gives a picture the colours of its page, where a browser knows the page."""
    rules = [
        f'[{kind}="{colour}"]{{{kind}:light-dark({light},{dark})}}'
        for colour, (light, dark) in scene.BY_THEME.items()
        for kind in ("fill", "stroke")
        if f'{kind}="{colour}"' in drawn
    ]
    return _element("style", f"svg{{color-scheme:light dark}}{''.join(rules)}")


class _Plot:
    """The pixels of a picture, from the top left."""

    def __init__(self, picture: Scene) -> None:
        self.picture = picture
        left, right, self.top, bottom = picture.margin
        self.right, self.bottom = scene.WIDTH - right, picture.height - bottom
        labels = [tick.label for row in picture.rows if row.visible for tick in _ticks(row)]
        self.left = left + max(map(_width, labels), default=0)
        self.x_axis = picture.x

    def x(self, value: float) -> float:
        low, high = self.x_axis.range
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def ends(self, row: int) -> Point:
        """Return the pixels of the bottom and the top of a row."""
        low, high = self.picture.rows[row].domain
        height = self.bottom - self.top
        return self.bottom - low * height, self.bottom - high * height

    def y(self, value: float, row: int) -> float:
        low, high = self.picture.rows[row].range
        bottom, top = self.ends(row)
        return bottom + (value - low) / (high - low) * (top - bottom)

    # -- axes ----------------------------------------------------------------------------------------

    def x_ticks(self) -> list[Tick]:
        """Return the labels of the axis from left to right at their pixels."""
        if self.x_axis.dates is None:
            return [Tick(self.x(tick.place), tick.label) for tick in _ticks(self.x_axis)]
        first, last = self.x_axis.dates
        left, right = self.x(first), self.x(last)
        return TimeAxis((Segment(round(first * _NS_PER_MS), round(last * _NS_PER_MS), left, right),)).ticks

    def grids(self) -> Iterator[str]:
        if self.x_axis.visible and self.x_axis.grid:
            ends = [self.ends(row) for row in range(len(self.picture.rows))]
            yield _grid(
                each
                for tick in self.x_ticks()
                for bottom, top in ends
                for each in ((tick.place, bottom), (tick.place, top), None)
            )
        for row, axis in enumerate(self.picture.rows):
            if axis.visible and axis.grid:
                ys = [self.y(tick.place, row) for tick in _ticks(axis)]
                yield _grid(each for y in ys for each in ((self.left, y), (self.right, y), None))

    def axis_labels(self) -> Iterator[str]:
        if self.x_axis.visible:
            yield from self._x_labels()
        for row, axis in enumerate(self.picture.rows):
            if axis.visible:
                for tick in _ticks(axis):
                    yield _text(tick.label, (self.left - 4, self.y(tick.place, row)), anchor="end")
                bottom, top = self.ends(row)
                yield _edge([(self.left, bottom), (self.left, top)])

    def _x_labels(self) -> Iterator[str]:
        edge: list[Point | None] = [(self.left, self.bottom), (self.right, self.bottom)]
        ticks = self.x_ticks()
        below = self.bottom + _TICK
        for tick in ticks:
            edge += (None, (tick.place, self.bottom), (tick.place, below))
            yield _text(tick.label, (tick.place, below + 2), anchor="middle", upright="top")
        yield _edge(edge)
        if title := self.x_axis.title:
            line = scene.FONT * _LINE_HEIGHT
            lines = max((tick.label.count("\n") + 1 for tick in ticks), default=0)
            y = min(below + lines * line + 4, self.picture.height - line)
            yield _text(title, ((self.left + self.right) / 2, y), anchor="middle", upright="top")

    # -- series --------------------------------------------------------------------------------------

    def series(self, series: Series | Bars) -> Iterator[str]:
        if isinstance(series, Bars):
            yield from self._bars(series)
            return
        points = [each and (self.x(each[0]), self.y(each[1], series.row)) for each in series.points]
        if series.line is not None:
            yield _line(series.line, points)
        if series.marks is not None:
            yield from _marks(series.marks, points)

    def _bars(self, bars: Bars) -> Iterator[str]:
        """Draw bars of one colour as one path, and their edges as another; a text where there is room."""
        bottom, top = self.ends(bars.row)
        areas: dict[str, str] = {}
        edges: dict[str, str] = {}
        labels = ""
        for bar in bars.bars:
            left, right = self.x(bar.start), self.x(bar.end)
            areas[bar.colour] = areas.get(bar.colour, "") + _area(left, right, top, bottom)
            edge = _area(left, min(left + _BAR_EDGE, right), top, bottom)
            edges[bar.colour] = edges.get(bar.colour, "") + edge
            if bar.text and _width(bar.text) + 2 * _BAR_PADDING <= right - left:
                labels += _text(bar.text, (left + _BAR_PADDING, (top + bottom) / 2), looks={})
        for drawn, opacity in ((areas, scene.BAND_TINT), (edges, None)):
            for colour, area in drawn.items():
                yield _element(
                    "path", d=area, fill=colour, fill_opacity=opacity, shape_rendering="crispEdges"
                )
        yield _element("g", labels, **_looks(scene.FONT, "start", scene.ON_BAND))

    # -- texts, legend -------------------------------------------------------------------------------

    def label(self, label: Label) -> str:
        x = self.left + label.x * (self.right - self.left)
        y = self.bottom - label.y * (self.bottom - self.top)
        text, bold = ("", label.text) if label.bold else (label.text, "")
        return _text(text, (x, y), bold=bold, anchor=_ANCHORS[label.anchor], upright=label.upright)

    def legend(self, drawn: Iterable[Series | Bars]) -> Iterator[str]:
        """List the series in one line above the plot, as many as there is room for."""
        left, y = self.left, self.top - 12
        for series in drawn:
            if isinstance(series, Bars) or not series.legend:
                continue
            width = _width(series.name)
            if left + _LEGEND_SYMBOL + width > scene.WIDTH - _LEGEND_GAP:
                yield _text("…", (left, y))
                return
            if series.marks is not None:
                yield _dots(9, series.marks.colour, [(left + 10, y)])
            elif series.line is not None:
                yield _line(series.line, [(left, y), (left + 18, y)])
            yield _text(series.name, (left + _LEGEND_SYMBOL, y))
            left += _LEGEND_SYMBOL + width + _LEGEND_GAP


def _ticks(axis: Axis) -> Sequence[Tick]:
    if axis.ticks is not None:
        return axis.ticks
    low, high = axis.range
    least = (high - low) / axis.max_ticks
    power = 10 ** floor(log10(least))
    step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= least)
    step = max(1, step) if axis.whole else step
    ticks: list[Tick] = []
    for each in count(-(-low // step)):
        if each * step > high:
            return ticks
        value = round(each * step, 12) + 0.0
        ticks.append(Tick(value, f"{value:,.0f}" if axis.whole else f"{value:,.10g}"))
    return ticks


def _grid(points: Iterable[Point | None]) -> str:
    return _element("path", d=path(points), stroke=scene.QUIET, stroke_opacity=scene.FAINT)


def _edge(points: Points) -> str:
    return _element("path", d=path(points), fill="none", stroke=scene.QUIET, stroke_opacity=scene.LINE)


def _line(look: scene.LineStyle, points: Points) -> str:
    return _element(
        "path",
        d=path(points, steps=look.steps),
        fill="none",
        stroke_width=look.width,
        stroke_linejoin="round",
        stroke=look.colour,
    )


def _marks(marks: scene.Marks, points: Points) -> Iterator[str]:
    """Draw the dots of one size as one path."""
    sizes = [marks.sizes] * len(points) if isinstance(marks.sizes, int | float) else marks.sizes
    alike: dict[float, list[Point]] = {}
    for point, size in zip(points, sizes, strict=True):
        if point is not None and size:
            alike.setdefault(size, []).append(point)
    for size, some in alike.items():
        yield _dots(size, marks.colour, some)


def _dots(size: float, colour: str, points: Iterable[Point]) -> str:
    # A line of no length with a round cap is a dot.
    drawn = "".join(f"M{_number(x)} {_number(y)}h.01" for x, y in points)
    return _element("path", d=drawn, stroke_width=size, stroke_linecap="round", stroke=colour)


def _area(left: float, right: float, top: float, bottom: float) -> str:
    return path([(left, top), (right, top), (right, bottom), (left, bottom)]) + "z"


# -- pieces of SVG -----------------------------------------------------------------------------------


def _element(name: str, inner: str = "", **attributes: Any) -> str:
    """Return an element; an attribute of None is left out, and `_` in a name stands for a hyphen.

    Examples
    --------
    >>> _element("rect", x=1.25, stroke_width=2, fill='"red"')
    '<rect x="1.25" stroke-width="2" fill="&quot;red&quot;"/>'
    """
    written = "".join(
        f' {key.replace("_", "-")}="{escape(value if isinstance(value, str) else f"{round(value, 2):.10g}")}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{inner}</{name}>" if inner else f"<{name}{written}/>"


def _number(value: float) -> str:
    """Return a length in pixels, to the tenth."""
    return f"{round(value, 1) + 0.0:.10g}"


def path(points: Iterable[Point | None], *, steps: bool = False) -> str:
    """Return the data of a path with a gap for each None; with `steps` it is level up to each next point.

    Examples
    --------
    >>> path([(0, 0), (5, 5.25), None, (7, 1), (9, 0.5)])
    'M0 0l5 5.2M7 1l2-.5'
    >>> path([(0, 0), (5, 5), (8, 5)], steps=True)
    'M0 0h5v5h3'
    """
    drawn = []
    last = None
    for point in points:
        if point is None:
            last = None
            continue
        x, y = round(point[0], 1), round(point[1], 1)
        if last is None:
            drawn.append("M" + _pair(x, y))
        else:
            across, down = x - last[0], y - last[1]
            drawn.append(_steps(across, down) if steps else "l" + _pair(across, down))
        last = x, y
    return "".join(drawn)


def _steps(across: float, down: float) -> str:
    return "".join(f"{way}{_brief(by)}" for way, by in (("h", across), ("v", down)) if round(by, 1))


def _pair(x: float, y: float) -> str:
    one, other = _brief(x), _brief(y)
    return one + other if other.startswith("-") else f"{one} {other}"


def _brief(value: float) -> str:
    written = _number(value)
    return written.replace("0.", ".", 1) if abs(value) < 1 else written


def _width(text: str) -> float:
    """Estimate the width of a text."""
    return len(text) * scene.FONT * CHARACTER_WIDTH


def _text(
    text: str,
    at: Point,
    *,
    bold: str = "",
    size: int = scene.FONT,
    anchor: str = "start",
    upright: scene.Upright = "middle",
    looks: dict[str, Any] | None = None,
) -> str:
    """Return a text, one or more lines, with a `bold` one before it.

    Without `looks` of its own, such as those of the group that contains it, it is quiet.
    """
    x, y = at
    lines = text.split("\n")
    space = size * _LINE_HEIGHT
    first = y - _ABOVE[upright] * space * len(lines) + space / 2 + size * _RISE
    inner = escape(clean(text), quote=False)
    if bold:
        inner = _element("tspan", escape(clean(bold), quote=False), font_weight="bold") + inner
    elif len(lines) > 1:
        inner = "".join(
            _element("tspan", escape(line, quote=False), x=_number(x), y=_number(first + index * space))
            for index, line in enumerate(lines)
        )
    looks = _looks(size, anchor, scene.QUIET) if looks is None else looks
    return _element("text", inner, x=_number(x), y=_number(first), **looks)


def _looks(size: int, anchor: str, colour: str) -> dict[str, Any]:
    return {"font_size": size, "text_anchor": anchor, "fill": colour}
