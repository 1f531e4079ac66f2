"""A picture as a scene: lines, marks, bars, texts and axes, which plotly and SVG both draw.

A scene has one axis from left to right and one or more axes from bottom to top, its rows. Places are values
on these axes. All texts of a scene are safe: they are plotly's markup, in which the user's texts are escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, Literal

from happen_nb._display.spans import clean, cut, cut_middle

WIDTH: Final = 700
"""Pixels that a picture is made for; a wider one is stretched."""
HOVER_COLUMNS: Final = 58
"""Columns of a line of a hover text."""
SMALL_FONT, FONT, TITLE_FONT = 11, 12, 13
_NAME_COLUMNS: Final = 18

# Colours that read on light and on dark pages: a picture does not know which of them it is on. Each lies
# between the light and the dark one of its name in style.css, at a brightness about equally far from
# white and from black.
QUIET: Final = "#727983"
NUMBER: Final = "#387acb"
STRING: Final = "#2a8866"
ATOM: Final = "#9560ca"
ERROR: Final = "#cf4d45"
REMOVED: Final = "#b16628"
LINE: Final = "rgba(114,121,131,0.28)"
FAINT: Final = "rgba(114,121,131,0.13)"
STRIPE: Final = "rgba(114,121,131,0.06)"
CLEAR: Final = "rgba(0,0,0,0)"
ON_MARK: Final = "#ffffff"
"""Text inside a mark."""
HOVER: Final = "#22262c"
ON_HOVER: Final = "#e8eaee"
SERIES_COLOURS: Final = (NUMBER, STRING, ATOM, REMOVED, "#a65b8a", "#8a7a1f")
"""In turn, for series that have no colour of their own."""

Point = tuple[float, float]
Points = Sequence[Point | None]
"""Places; None is a gap."""
Anchor = Literal["left", "center", "right"]
Upright = Literal["top", "middle", "bottom"]


@dataclass(frozen=True, slots=True)
class Tick:
    """A label at a place on an axis."""

    place: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """An axis."""

    range: Point = (0.0, 1.0)  # the values at its ends
    free: bool = False  # plotly may choose the range, and choose again when the user zooms
    ticks: Sequence[Tick] | None = None  # without them, about `max_ticks` round values have labels
    dates: Point | None = None  # its values are ms since 1970, with labels between these two
    max_ticks: int = 6
    whole: bool = False  # only whole numbers have labels
    level: bool = False  # its labels are never turned
    title: str = ""
    grid: str | None = None  # the colour of lines at its labels
    domain: Point = (0.0, 1.0)  # the part of the plot that it takes
    fixed: bool = False  # the user cannot zoom along it
    visible: bool = True


HIDDEN_AXIS: Final = Axis(visible=False)


@dataclass(frozen=True, slots=True)
class Line:
    """The line that joins the points of a series; with `steps` it is level up to each next point."""

    colour: str
    width: float
    opacity: float = 1.0
    steps: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """The look of the points of a series, one for all or one for each; rings of width 0 are not seen."""

    sizes: float | Sequence[float]
    colours: str | Sequence[str]
    symbols: str | Sequence[str] = "circle"
    rings: Sequence[float] = ()
    ring_colour: str = ERROR


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Points on the axis from left to right and on that of a row."""

    points: Points
    name: str = ""
    row: int = 0
    line: Line | None = None
    marks: Marks | None = None
    labels: Sequence[str] | None = None  # on the points
    label_colours: str | Sequence[str] = QUIET
    label_size: int = SMALL_FONT
    hover: Sequence[str] | None = None  # while the pointer is on a point
    legend: bool = False
    hidden: bool = False  # until it is chosen in the legend


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar from left to right, as high as its row, with a text if there is room for it."""

    start: float
    end: float
    colour: str
    text: str
    hover: str


@dataclass(frozen=True, slots=True)
class Bars:
    """The bars of a row."""

    bars: Sequence[Bar]
    row: int = 0


@dataclass(frozen=True, slots=True)
class Stripe:
    """A coloured stripe behind everything, across the plot: between two values of the first row or of x."""

    along: Literal["x", "y"]
    start: float
    end: float
    colour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A text at a place; a place "of the plot" goes from 0 to 1, from left to right or from bottom to top."""

    text: str
    x: float
    y: float
    x_of_plot: bool = False
    y_of_plot: bool = False
    shift: Point = (0.0, 0.0)
    """Pixels to the right and upwards."""
    size: int = SMALL_FONT
    anchor: Anchor = "center"
    upright: Upright = "middle"
    angle: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    """An arrow between two places, which keeps a distance in pixels from both.

    With `mark` it is hidden until the mark at that place is pointed at or clicked.
    """

    start: Point
    end: Point
    colour: str
    from_start: float = 0.0
    to_end: float = 0.0
    scale: float = 1.0
    mark: Point | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """A whole picture."""

    title: str
    height: float
    margin: tuple[float, float, float, float]  # left (more if labels need it), right, top, bottom
    x: Axis = HIDDEN_AXIS
    rows: Sequence[Axis] = (HIDDEN_AXIS,)
    stripes: Sequence[Stripe] = ()
    series: Sequence[Series | Bars] = ()
    texts: Sequence[Label] = ()
    arrows: Sequence[Arrow] = ()
    square: bool = False  # both axes have one scale, and the user cannot drag the plot


def message(title: str, text: str) -> Scene:
    """Return a scene that gives the reason why there is nothing to see; both texts are safe already."""
    note = Label(text=text, x=0.5, y=0.5, x_of_plot=True, y_of_plot=True, size=FONT)
    return Scene(title=title, height=150, margin=(12, 12, 64, 40), texts=[note])


def safe(text: str) -> str:
    """Return text for plotly, which reads a little HTML, entities, and TeX between dollars.

    Examples
    --------
    >>> safe("<b>5 $</b> & more")
    '&lt;b&gt;5 &#36;&lt;/b&gt; &amp; more'
    """
    return escape(clean(text), quote=False).replace("$", "&#36;")


def short(name: str, columns: int = _NAME_COLUMNS) -> str:
    """Return a name where there is little room, safe.

    Examples
    --------
    >>> short("a-service-with-a-very-long-name")
    'a-service-wi…-name'
    """
    return safe(cut_middle(name, columns))


def hover_line(text: str) -> str:
    """Return one line of a hover text, cut and made safe."""
    return safe(cut(text, HOVER_COLUMNS))


def joined(lines: Iterable[str]) -> str:
    """Return the lines of a text, each one safe already."""
    return "<br>".join(lines)
