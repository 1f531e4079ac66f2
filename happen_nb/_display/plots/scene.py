"""A picture as a scene: lines, marks, bars, texts and axes; and as SVG, for where plotly's script is not.

A scene has one axis from left to right, and rows, each with an axis from bottom to top. Places are values on
these axes. Texts are clean and cut, but not yet escaped. Exported pages, GitHub and e-mail show the SVG.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from itertools import count
from math import floor, log10
from typing import Any, Final, Literal, NamedTuple

from happen_nb._display import clean, cut, cut_middle
from happen_nb._display.plots import COLOURS, Point, Segment, Tick, TimeAxis, path, pixels

WIDTH: Final = 510  # pixels that a picture is made for; a wider one is stretched
HOVER_COLUMNS: Final = 58  # columns of a line of a hover text
FONT, TITLE_FONT = 12, 13
TOP, BOTTOM = 62, 48
"""Pixels above and below the rows."""
_NAME_COLUMNS: Final = 18

# Colours that read on light and on dark pages, for where a picture cannot know which of them it is on. Each
# lies between its two in `BY_THEME`, at a brightness about equally far from white and from black.
NUMBER: Final = "#387acb"
QUIET: Final = "#727983"
LINE, FAINT = 0.28, 0.13
"""Opacity of this colour in lines of an axis, and behind the plot."""
ON_BAND: Final = "#6e7884"
"""Text inside a band."""
BAND_TINT: Final = 0.16  # opacity of the colour inside a band
HOVER: Final = "#22262c"
ON_HOVER: Final = "#e8eaee"
SERIES_COLOURS: Final = (NUMBER, "#a86d11", "#7863ec", "#5c8452", "#d54398", "#ee224e")
"""In turn, for series that have no colour of their own. Each two differ for colour-blind readers too."""
BY_THEME: Final = {
    QUIET: ("#5b626c", "#a4abb5"),
    ON_BAND: ("#1f2328", "#e4e6ea"),
    **dict(zip(SERIES_COLOURS, (COLOURS[n] for n in (0, 1, 4, 2, 3, 5)), strict=True)),
}
"""These colours on light and on dark pages, for where a picture knows which of them it is on."""

Points = Sequence[Point | None]  # places; None is a gap
Hover = tuple[str, ...]  # the lines of a hover text; the first one is bold
Upright = Literal["top", "middle"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """An axis."""

    range: Point = (0.0, 1.0)  # the values at its ends
    free: bool = False  # plotly may choose the range, and choose again when the user zooms
    ticks: Sequence[Tick] | None = None  # without them, about `max_ticks` round values have labels
    dates: Point | None = None  # its values are ms since 1970, with labels between these two
    max_ticks: int = 6
    whole: bool = False  # only whole numbers have labels
    title: str = ""
    grid: bool = False  # lines at its labels
    domain: Point = (0.0, 1.0)  # the part of the plot that it takes
    fixed: bool = False  # the user cannot zoom along it
    visible: bool = True


class Series(NamedTuple):
    """Points on the axis from left to right and on that of a row."""

    points: Points
    colour: str
    hover: Sequence[Hover]  # while the pointer is on a point
    width: float = 0  # of the line that joins them
    steps: bool = False  # the line is level up to each next point
    sizes: float | Sequence[float] | None = None  # of the dots: of all or of each, 0 for none
    legend: str | None = None  # its name there, if it is in the legend


class Bar(NamedTuple):
    """A bar from left to right, as high as its row, with a text if there is room for it.

    It has a tint of its colour inside, and an edge of it on the left.
    """

    start: float
    end: float
    colour: str
    text: str
    hover: Hover


Bars = list[Bar]


class SceneRow(NamedTuple):
    """A row: series or bars on an axis from bottom to top, below a title."""

    axis: Axis
    parts: Sequence[Series | Bars] = ()
    title: str = ""


class Scene(NamedTuple):
    """A whole picture: rows, or a message that gives the reason why there is nothing to see."""

    name: str  # bold, before the facts
    facts: str
    height: float
    x: Axis
    rows: Sequence[SceneRow]
    message: str = ""

    @property
    def margin(self) -> tuple[float, float, float, float]:
        """Left (more if labels need it), right, top, bottom."""
        return (12, 12, 64, 40) if self.message else (12, 28, TOP, BOTTOM)


def message(name: str, text: str, facts: str = "") -> Scene:
    hidden = Axis(visible=False)
    return Scene(name, facts, 150, hidden, [SceneRow(hidden)], text)


def short(name: str) -> str:
    """Return a name where there is little room.

    Examples
    --------
    >>> short("a-service-with-a-very-long-name")
    'a-service-wi…-name'
    """
    return cut_middle(name, _NAME_COLUMNS)


def hover_line(text: str) -> str:
    return cut(text, HOVER_COLUMNS)


# -- as SVG -----------------------------------------------------------------------------------------

FONT_FAMILY: Final = "system-ui, -apple-system, 'Segoe UI', sans-serif"
CHARACTER_WIDTH: Final = 0.56  # average width of a character, as a part of the size of its font
_LINE_HEIGHT: Final = 1.3
_RISE: Final = 0.35  # from the middle of a line down to its base line
_TICK: Final = 5.0  # pixels
_BAR_PADDING: Final = 6.0  # pixels beside the text of a bar
_BAR_EDGE: Final = 2.0
_LEGEND_SYMBOL, _LEGEND_GAP = 22.0, 14.0  # pixels of the symbol of an entry, and between two entries
_NS_PER_MS: Final = 1_000_000
_DARK_PAGES: Final = (
    '[data-jp-theme-light="false"] .hn-image,.vscode-dark .hn-image,'
    '[data-theme="dark"] .hn-image,[theme="dark"] .hn-image{color-scheme:dark}'
)
"""A picture has the colour scheme of its page, which not every dark page gives."""


def draw(picture: Scene) -> str:
    plot = _Plot(picture)
    inside = "".join([*plot.grids(), *plot.series()])
    area = {"x": plot.left, "y": plot.top, "width": plot.right - plot.left, "height": plot.bottom - plot.top}
    parts = [
        _element("svg", inside, **area, viewBox=" ".join(map(pixels, area.values()))),
        *plot.axis_labels(),
        *plot.titles(),
        *plot.legend(),
        _text(picture.facts, (12, 12), bold=picture.name, size=TITLE_FONT, upright="top"),
    ]
    drawn = "".join(parts)
    return _element(
        "svg",
        _colours_by_theme(drawn) + drawn,
        xmlns="http://www.w3.org/2000/svg",
        width=WIDTH,
        height=plot.height,
        viewBox=f"0 0 {WIDTH} {plot.height}",
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
        for colour, (light, dark) in BY_THEME.items()
        for kind in ("fill", "stroke")
        if f'{kind}="{colour}"' in drawn
    ]
    return _element("style", f"svg{{color-scheme:light dark}}{''.join(rules)}")


class _Plot:
    """The pixels of a picture, from the top left."""

    def __init__(self, picture: Scene) -> None:
        self.picture = picture
        left, right, self.top, bottom = picture.margin
        self.right, self.bottom, self.height = WIDTH - right, picture.height - bottom, picture.height
        self.axes = [row.axis for row in picture.rows]
        labels = [tick.label for axis in self.axes if axis.visible for tick in _ticks(axis)]
        self.left = left + max(map(_width, labels), default=0)
        self.x_axis = picture.x

    def x(self, value: float) -> float:
        low, high = self.x_axis.range
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def ends(self, row: int) -> Point:
        """Return the pixels of the bottom and the top of a row."""
        low, high = self.axes[row].domain
        height = self.bottom - self.top
        return self.bottom - low * height, self.bottom - high * height

    def y(self, value: float, row: int) -> float:
        low, high = self.axes[row].range
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
            ends = [self.ends(row) for row in range(len(self.axes))]
            yield _grid(
                each
                for tick in self.x_ticks()
                for bottom, top in ends
                for each in ((tick.place, bottom), (tick.place, top), None)
            )
        for row, axis in enumerate(self.axes):
            if axis.visible and axis.grid:
                ys = [self.y(tick.place, row) for tick in _ticks(axis)]
                yield _grid(each for y in ys for each in ((self.left, y), (self.right, y), None))

    def axis_labels(self) -> Iterator[str]:
        if self.x_axis.visible:
            yield from self._x_labels()
        for row, axis in enumerate(self.axes):
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
            half = max(map(_width, tick.label.split("\n"))) / 2
            middle = min(max(tick.place, half), WIDTH - half)  # inside of the picture
            yield _text(tick.label, (middle, below + 2), anchor="middle", upright="top")
        yield _edge(edge)
        if title := self.x_axis.title:
            line = FONT * _LINE_HEIGHT
            lines = max((tick.label.count("\n") + 1 for tick in ticks), default=0)
            y = below + lines * line + 4
            self.height = max(self.height, round(y + line))
            yield _text(title, ((self.left + self.right) / 2, y), anchor="middle", upright="top")

    # -- series --------------------------------------------------------------------------------------

    def series(self) -> Iterator[str]:
        for row, content in enumerate(self.picture.rows):
            for part in content.parts:
                yield from self._bars(part, row) if isinstance(part, list) else self._series(part, row)

    def _series(self, series: Series, row: int) -> Iterator[str]:
        points = [each and (self.x(each[0]), self.y(each[1], row)) for each in series.points]
        if series.width:
            yield _line(series, points)
        if series.sizes is not None:
            yield from _marks(series, points)

    def _bars(self, bars: Bars, row: int) -> Iterator[str]:
        """Draw bars of one colour as one path, and their edges as another; a text where there is room."""
        bottom, top = self.ends(row)
        areas: dict[str, str] = {}
        edges: dict[str, str] = {}
        labels = ""
        for bar in bars:
            left, right = self.x(bar.start), self.x(bar.end)
            areas[bar.colour] = areas.get(bar.colour, "") + _area(left, right, top, bottom)
            edge = _area(left, min(left + _BAR_EDGE, right), top, bottom)
            edges[bar.colour] = edges.get(bar.colour, "") + edge
            if bar.text and _width(bar.text) + 2 * _BAR_PADDING <= right - left:
                labels += _text(bar.text, (left + _BAR_PADDING, (top + bottom) / 2), looks={})
        for drawn, opacity in ((areas, BAND_TINT), (edges, None)):
            for colour, area in drawn.items():
                yield _element(
                    "path", d=area, fill=colour, fill_opacity=opacity, shape_rendering="crispEdges"
                )
        yield _element("g", labels, **_looks(FONT, "start", ON_BAND))

    # -- texts, legend -------------------------------------------------------------------------------

    def titles(self) -> Iterator[str]:
        """Return the titles of rows, above these, and the message."""
        for row, content in enumerate(self.picture.rows):
            if content.title:
                at = self.left, self.ends(row)[1] - FONT * _LINE_HEIGHT
                yield _text("", at, bold=content.title, upright="top")
        if self.picture.message:
            middle = (self.left + self.right) / 2, (self.top + self.bottom) / 2
            yield _text(self.picture.message, middle, anchor="middle")

    def legend(self) -> Iterator[str]:
        """List the series in one line above the plot, as many as there is room for."""
        left, y = self.left, self.top - 12
        for series in named_series(self.picture):
            name = series.legend or ""
            width = _width(name)
            if left + _LEGEND_SYMBOL + width > WIDTH - _LEGEND_GAP:
                yield _text("…", (left, y))
                return
            if series.sizes is not None:
                yield _dots(9, series.colour, [(left + 10, y)])
            else:
                yield _line(series, [(left, y), (left + 18, y)])
            yield _text(name, (left + _LEGEND_SYMBOL, y))
            left += _LEGEND_SYMBOL + width + _LEGEND_GAP


def named_series(picture: Scene) -> list[Series]:
    parts = (part for row in picture.rows for part in row.parts)
    return [part for part in parts if isinstance(part, Series) and part.legend is not None]


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
    return _element("path", d=path(points), stroke=QUIET, stroke_opacity=FAINT)


def _edge(points: Points) -> str:
    return _element("path", d=path(points), fill="none", stroke=QUIET, stroke_opacity=LINE)


def _line(series: Series, points: Points) -> str:
    return _element(
        "path",
        d=path(points, steps=series.steps),
        fill="none",
        stroke_width=series.width,
        stroke_linejoin="round",
        stroke=series.colour,
    )


def _marks(series: Series, points: Points) -> Iterator[str]:
    """Draw the dots of one size as one path."""
    sizes = series.sizes if isinstance(series.sizes, Sequence) else [series.sizes or 0] * len(points)
    alike: dict[float, list[Point]] = {}
    for point, size in zip(points, sizes, strict=True):
        if point is not None and size:
            alike.setdefault(size, []).append(point)
    for size, some in alike.items():
        yield _dots(size, series.colour, some)


def _dots(size: float, colour: str, points: Iterable[Point]) -> str:
    # A line of no length with a round cap is a dot.
    drawn = "".join(f"M{pixels(x)} {pixels(y)}h.01" for x, y in points)
    return _element("path", d=drawn, stroke_width=size, stroke_linecap="round", stroke=colour)


def _area(left: float, right: float, top: float, bottom: float) -> str:
    return path([(left, top), (right, top), (right, bottom), (left, bottom)]) + "z"


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


def _width(text: str) -> float:
    return len(text) * FONT * CHARACTER_WIDTH


def _text(
    text: str,
    at: Point,
    *,
    bold: str = "",
    size: int = FONT,
    anchor: str = "start",
    upright: Upright = "middle",
    looks: dict[str, Any] | None = None,
) -> str:
    """Return a text, one or more lines, with a `bold` one before it.

    Without `looks` of its own, such as those of the group that contains it, it is quiet.
    """
    x, y = at
    lines = text.split("\n")
    space = size * _LINE_HEIGHT
    above = space * len(lines) / 2 if upright == "middle" else 0
    first = y - above + space / 2 + size * _RISE
    inner = escape(clean(text), quote=False)
    if bold:
        inner = _element("tspan", escape(clean(bold), quote=False), font_weight="bold") + inner
    elif len(lines) > 1:
        inner = "".join(
            _element("tspan", escape(line, quote=False), x=pixels(x), y=pixels(first + index * space))
            for index, line in enumerate(lines)
        )
    looks = _looks(size, anchor, QUIET) if looks is None else looks
    return _element("text", inner, x=pixels(x), y=pixels(first), **looks)


def _looks(size: int, anchor: str, colour: str) -> dict[str, Any]:
    return {"font_size": size, "text_anchor": anchor, "fill": colour}
