"""A scene as an SVG picture, for where plotly's script is not: exported pages, GitHub, e-mail.

Text that comes from elsewhere is escaped.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from html import escape, unescape
from itertools import count
from math import floor, log10
from typing import Any, Final, Literal

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
_TAG: Final = re.compile(r"(<[^>]*>)")
_DARK_PAGES: Final = (
    '[data-jp-theme-light="false"] .hn-image,.vscode-dark .hn-image,'
    '[data-theme="dark"] .hn-image,[theme="dark"] .hn-image{color-scheme:dark}'
)
"""A picture has the colour scheme of its page, which not every dark page gives."""
_RGBA: Final = re.compile(r"rgba\((\d+), ?(\d+), ?(\d+), ?([\d.]+)\)")


def draw(picture: Scene) -> str:
    """Return a scene as SVG."""
    plot = _Plot(picture)
    inside = "".join([
        *plot.grids(),
        *(part for each in picture.series for part in plot.series(each)),
    ])  # fmt: skip
    area = {"x": plot.left, "y": plot.top, "width": plot.right - plot.left, "height": plot.bottom - plot.top}
    view = " ".join(map(number, area.values()))
    parts = [
        element("svg", inside, **area, viewBox=view),
        *plot.axis_labels(),
        *(plot.text(each) for each in picture.texts),
        *plot.legend(picture.series),
        text(picture.title, (12, 12), size=scene.TITLE_FONT, colour=scene.QUIET, upright="top"),
    ]
    drawn_parts = "".join(parts)
    return element(
        "svg",
        _colours_by_theme(drawn_parts) + drawn_parts,
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
    return element("style", f"svg{{color-scheme:light dark}}{''.join(rules)}")


class _Plot:
    """The pixels of a picture, from the top left."""

    def __init__(self, picture: Scene) -> None:
        self.picture = picture
        left, right, self.top, bottom = picture.margin
        self.right, self.bottom = scene.WIDTH - right, picture.height - bottom
        labels = [tick.label for row in picture.rows if row.visible for tick in _ticks(row)]
        self.left = left + max((width(label, scene.SMALL_FONT) for label in labels), default=0)
        self.x_axis = picture.x

    def x(self, value: float) -> float:
        low, high = self.x_axis.range
        return self.left + (value - low) / (high - low) * (self.right - self.left)

    def ends(self, row: int) -> Point:
        """Return the pixels of the bottom and the top of a row."""
        low, high = self.picture.rows[row].domain
        height = self.bottom - self.top
        return self.bottom - low * height, self.bottom - high * height

    def y(self, value: float, row: int = 0) -> float:
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
        points: list[Point | None] = []
        if self.x_axis.visible and self.x_axis.grid is not None:
            for at in (tick.place for tick in self.x_ticks()):
                for row in range(len(self.picture.rows)):
                    bottom, top = self.ends(row)
                    points += [(at, bottom), (at, top), None]
            yield _grid(points, self.x_axis.grid)
        for row, axis in enumerate(self.picture.rows):
            if axis.visible and axis.grid is not None:
                ys = [self.y(tick.place, row) for tick in _ticks(axis)]
                points = [each for y in ys for each in ((self.left, y), (self.right, y), None)]
                yield _grid(points, axis.grid)

    def axis_labels(self) -> Iterator[str]:
        if self.x_axis.visible:
            yield from self._x_labels()
        for row, axis in enumerate(self.picture.rows):
            if axis.visible:
                for tick in _ticks(axis):
                    at = self.left - 4, self.y(tick.place, row)
                    yield text(tick.label, at, size=scene.SMALL_FONT, colour=scene.QUIET, anchor="end")
                bottom, top = self.ends(row)
                yield _edge([(self.left, bottom), (self.left, top)])

    def _x_labels(self) -> Iterator[str]:
        edge: list[Point | None] = [(self.left, self.bottom), (self.right, self.bottom)]
        ticks = self.x_ticks()
        below = self.bottom + _TICK
        for tick in ticks:
            edge += (None, (tick.place, self.bottom), (tick.place, below))
            yield _centred(tick.label, (tick.place, below + 2))
        yield _edge(edge)
        if title := self.x_axis.title:
            lines = max((height(tick.label, scene.SMALL_FONT) for tick in ticks), default=0.0)
            lowest = self.picture.height - height(title, scene.SMALL_FONT)
            at = (self.left + self.right) / 2, min(below + lines + 4, lowest)
            yield _centred(title, at)

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
        labels: list[tuple[str, Point]] = []
        for bar in bars.bars:
            left, right = self.x(bar.start), self.x(bar.end)
            areas[bar.colour] = areas.get(bar.colour, "") + _area(left, right, top, bottom)
            edge = _area(left, min(left + _BAR_EDGE, right), top, bottom)
            edges[bar.colour] = edges.get(bar.colour, "") + edge
            if bar.text and width(bar.text, scene.SMALL_FONT) + 2 * _BAR_PADDING <= right - left:
                labels.append((bar.text, (left + _BAR_PADDING, (top + bottom) / 2)))
        for drawn, opacity in ((areas, scene.BAND_TINT), (edges, None)):
            for colour, area in drawn.items():
                yield element("path", d=area, fill=colour, fill_opacity=opacity, shape_rendering="crispEdges")
        yield texts(labels, size=scene.SMALL_FONT, colour=scene.ON_BAND)

    # -- texts, arrows, legend -----------------------------------------------------------------------

    def text(self, each: Label) -> str:
        x = self.left + each.x * (self.right - self.left) if each.x_of_plot else self.x(each.x)
        y = self.bottom - each.y * (self.bottom - self.top) if each.y_of_plot else self.y(each.y)
        anchor = _ANCHORS[each.anchor]
        return text(
            each.text, (x, y), size=each.size, colour=scene.QUIET, anchor=anchor, upright=each.upright
        )

    def legend(self, drawn: Iterable[Series | Bars]) -> Iterator[str]:
        """List the series in one line above the plot, as many as there is room for."""
        left, y = self.left, self.top - 12
        for series in drawn:
            if isinstance(series, Bars) or not series.legend:
                continue
            if left + _LEGEND_SYMBOL + width(series.name, scene.SMALL_FONT) > scene.WIDTH - _LEGEND_GAP:
                yield text("…", (left, y), size=scene.SMALL_FONT, colour=scene.QUIET)
                return
            if series.marks is not None:
                yield _dots(9, series.marks.colour, [(left + 10, y)])
            elif series.line is not None:
                yield _line(series.line, [(left, y), (left + 18, y)])
            yield text(series.name, (left + _LEGEND_SYMBOL, y), size=scene.SMALL_FONT, colour=scene.QUIET)
            left += _LEGEND_SYMBOL + width(series.name, scene.SMALL_FONT) + _LEGEND_GAP


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


def _grid(points: Points, colour: str) -> str:
    return element("path", d=line(points), **paint("stroke", colour))


def _edge(points: Points) -> str:
    return element("path", d=line(points), fill="none", **paint("stroke", scene.LINE))


def _centred(label: str, at: Point) -> str:
    return text(label, at, size=scene.SMALL_FONT, colour=scene.QUIET, anchor="middle", upright="top")


def _line(look: scene.LineStyle, points: Points) -> str:
    return element(
        "path",
        d=line(points, steps=look.steps),
        fill="none",
        stroke_width=look.width,
        stroke_linejoin="round",
        **paint("stroke", look.colour),
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
    drawn = "".join(f"M{number(x)} {number(y)}h.01" for x, y in points)
    return element("path", d=drawn, stroke_width=size, stroke_linecap="round", **paint("stroke", colour))


def _area(left: float, right: float, top: float, bottom: float) -> str:
    return closed((left, top), (right, top), (right, bottom), (left, bottom))


# -- pieces of SVG -----------------------------------------------------------------------------------


def element(name: str, inner: str = "", **attributes: Any) -> str:
    """Return an element; an attribute of None is left out, and `_` in a name stands for a hyphen.

    Examples
    --------
    >>> element("rect", x=1.25, stroke_width=2, fill='"red"')
    '<rect x="1.25" stroke-width="2" fill="&quot;red&quot;"/>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{written}>{inner}</{name}>" if inner else f"<{name}{written}/>"


def number(value: float) -> str:
    """Return a length in pixels, to the tenth.

    Examples
    --------
    >>> number(3.0), number(2.449)
    ('3', '2.4')
    """
    return f"{round(value, 1) + 0.0:.10g}"


def _value(value: str | float) -> str:
    return clean(value) if isinstance(value, str) else f"{round(value, 2):.10g}"


def paint(kind: Literal["fill", "stroke"], colour: str) -> dict[str, str]:
    """Return a colour as attributes that every renderer knows.

    Examples
    --------
    >>> paint("fill", "rgba(1, 2, 3, 0.5)")
    {'fill': '#010203', 'fill_opacity': '0.5'}
    """
    found = _RGBA.fullmatch(colour)
    if found is None:
        return {kind: colour}
    red, green, blue = (int(part) for part in found.groups()[:3])
    return {kind: f"#{red:02x}{green:02x}{blue:02x}", f"{kind}_opacity": found[4]}


def line(points: Points, *, steps: bool = False) -> str:
    """Return the data of a path with a gap for each None; with `steps` it is level up to each next point.

    Examples
    --------
    >>> line([(0, 0), (5, 5.25), None, (7, 1), (9, 0.5)])
    'M0 0l5 5.2M7 1l2-.5'
    >>> line([(0, 0), (5, 5), (8, 5)], steps=True)
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


def closed(*points: Point) -> str:
    """Return the data of a closed path.

    Examples
    --------
    >>> closed((0, 0), (5, 0), (5, 3))
    'M0 0l5 0l0 3z'
    """
    return line(points) + "z"


def _steps(across: float, down: float) -> str:
    return "".join(f"{way}{_brief(by)}" for way, by in (("h", across), ("v", down)) if round(by, 1))


def _pair(x: float, y: float) -> str:
    one, other = _brief(x), _brief(y)
    return one + other if other.startswith("-") else f"{one} {other}"


def _brief(value: float) -> str:
    written = number(value)
    return written.replace("0.", ".", 1) if abs(value) < 1 else written


def width(markup: str, size: float) -> float:
    """Estimate the width of a text."""
    return (
        max((len(unescape(_TAG.sub("", each))) for each in _lines(markup)), default=0)
        * size
        * CHARACTER_WIDTH
    )


def height(markup: str, size: float) -> float:
    return len(_lines(markup)) * size * _LINE_HEIGHT


def plain(markup: str) -> str:
    """Return the text of plotly's markup.

    Examples
    --------
    >>> plain("<b>5 &lt; 7</b> · done")
    '5 < 7 · done'
    """
    return "\n".join(unescape(_TAG.sub("", each)) for each in _lines(markup))


def text(
    markup: str,
    at: Point,
    *,
    size: float,
    colour: str | None = None,
    anchor: str = "start",
    upright: scene.Upright = "middle",
) -> str:
    """Return a text that plotly's markup describes, of which ``<b>`` and ``<br>`` are kept.

    Without a colour it has the font and the anchor of the group that contains it.
    """
    x, y = at
    lines = _lines(markup)
    space = size * _LINE_HEIGHT
    above = {"top": 0.0, "middle": 0.5, "bottom": 1.0}[upright] * space * len(lines)
    first = y - above + space / 2 + size * _RISE
    inner = "".join(
        element("tspan", _styled(each), x=number(x), y=number(first + index * space))
        if len(lines) > 1
        else _styled(each)
        for index, each in enumerate(lines)
    )
    return element(
        "text",
        inner,
        x=number(x),
        y=number(first),
        **({} if colour is None else _font(size, colour, anchor)),
    )


def texts(labels: Iterable[tuple[str, Point]], *, size: float, colour: str) -> str:
    """Return texts that look alike."""
    drawn = "".join(text(label, at, size=size) for label, at in labels)
    return element("g", drawn, **_font(size, colour, "start"))


def _font(size: float, colour: str, anchor: str) -> dict[str, Any]:
    return {"font_size": size, "text_anchor": anchor, **paint("fill", colour)}


def _lines(markup: str) -> list[str]:
    return markup.split("<br>")


def _styled(markup: str) -> str:
    written, weight = [], None
    for piece in _TAG.split(markup):
        if _TAG.fullmatch(piece):
            weight = {"<b>": "bold", "</b>": None}.get(piece, weight)
        elif piece:
            safe = escape(clean(unescape(piece)), quote=False)
            written.append(element("tspan", safe, font_weight=weight) if weight else safe)
    return "".join(written)
