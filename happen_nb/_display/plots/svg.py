"""Pieces of an SVG picture, as text. Whatever comes from elsewhere is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from html import escape, unescape
from typing import Any, Final, Literal

from happen_nb._display.spans import clean

Point = tuple[float, float]
Upright = Literal["top", "middle", "bottom"]

CHARACTER: Final = 0.56
"""How wide a character is on the average, as a part of the size of its font."""
_LINE: Final = 1.3  # from one line to the next
_RISE: Final = 0.35  # from the middle of a line down to what it stands on
_TAG: Final = re.compile(r"(<[^>]*>)")
_SPAN: Final = re.compile(r"<span style=\"color:([^\";]+)")
_RGBA: Final = re.compile(r"rgba\((\d+), ?(\d+), ?(\d+), ?([\d.]+)\)")


def element(name: str, inner: str = "", **attributes: Any) -> str:
    """An element; what is None is left out, and `_` in a name stands for a hyphen.

    Examples
    --------
    >>> element("rect", x=1.25, stroke_width=2, fill='"red"')
    '<rect x="1.25" stroke-width="2" fill="&quot;red&quot;"/>'
    """
    said = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_value(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{said}>{inner}</{name}>" if inner else f"<{name}{said}/>"


def number(value: float) -> str:
    """A length in pixels, to the tenth.

    Examples
    --------
    >>> number(3.0), number(2.449)
    ('3', '2.4')
    """
    return f"{round(value, 1) + 0.0:.10g}"


def _value(value: str | float) -> str:
    return clean(value) if isinstance(value, str) else f"{round(value, 2):.10g}"


def paint(kind: Literal["fill", "stroke"], colour: str) -> dict[str, str]:
    """A colour as attributes that every renderer knows.

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


def is_clear(colour: str) -> bool:
    """Whether nothing is seen of it."""
    return paint("fill", colour).get("fill_opacity") == "0"


def line(points: Iterable[Point | None], *, steps: bool = False) -> str:
    """The description of a line; a gap where a point is None, level up to each next one if it has steps.

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
    """The description of an area.

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
    said = number(value)
    return said.replace("0.", ".", 1) if abs(value) < 1 else said


def width(markup: str, size: float) -> float:
    """About how wide a text is."""
    return max((len(unescape(_TAG.sub("", each))) for each in _lines(markup)), default=0) * size * CHARACTER


def height(markup: str, size: float) -> float:
    """How high a text is."""
    return len(_lines(markup)) * size * _LINE


def plain(markup: str) -> str:
    """The text of plotly's markup.

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
    upright: Upright = "middle",
    angle: float = 0,
) -> str:
    """A text as plotly marks it up: ``<b>``, ``<br>``, and ``<span style="color:...">``.

    Without a colour it has the font and the anchor of the group that it is in.
    """
    x, y = at
    lines = _lines(markup)
    space = size * _LINE
    above = {"top": 0.0, "middle": 0.5, "bottom": 1.0}[upright] * space * len(lines)
    first = y - above + space / 2 + size * _RISE
    inner = "".join(
        element("tspan", _styled(each), x=number(x), y=number(first + index * space))
        if len(lines) > 1
        else _styled(each)
        for index, each in enumerate(lines)
    )
    turn = f"rotate({number(angle)} {number(x)} {number(y)})" if angle else None
    return element(
        "text",
        inner,
        x=number(x),
        y=number(first),
        transform=turn,
        **({} if colour is None else _font(size, colour, anchor)),
    )


def texts(labels: Iterable[tuple[str, Point]], *, size: float, colour: str, anchor: str = "start") -> str:
    """Texts that look alike."""
    return element(
        "g", "".join(text(label, at, size=size) for label, at in labels), **_font(size, colour, anchor)
    )


def _font(size: float, colour: str, anchor: str) -> dict[str, Any]:
    return {"font_size": size, "text_anchor": anchor, **paint("fill", colour)}


def _lines(markup: str) -> list[str]:
    return markup.split("<br>")


def _styled(markup: str) -> str:
    return "".join(
        element("tspan", escape(clean(unescape(said)), quote=False), font_weight=weight, fill=colour)
        if weight or colour
        else escape(clean(unescape(said)), quote=False)
        for said, weight, colour in _runs(markup)
    )


def _runs(markup: str) -> Iterator[tuple[str, str | None, str | None]]:
    """The pieces of a line, each with its weight and its colour."""
    weight = colour = None
    for piece in _TAG.split(markup):
        if not _TAG.fullmatch(piece):
            if piece:
                yield piece, weight, colour
        elif piece in {"<b>", "</b>"}:
            weight = "bold" if piece == "<b>" else None
        elif found := _SPAN.match(piece):
            colour = found[1]
        elif piece == "</span>":
            colour = None
