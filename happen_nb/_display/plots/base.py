"""What all figures have in common: clear paper, one font, sizes that fit into a cell, and text made safe."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import TYPE_CHECKING, Any, Final

from happen_nb._display.plots.colours import CLEAR, FAINT, HOVER, LINE, NUMBER, ON_HOVER, QUIET
from happen_nb._display.spans import clean, cut, cut_middle

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

WIDTH: Final = 700
"""Pixels that a figure is made for; where there are more, things are farther apart."""
FONT: Final = "system-ui, -apple-system, 'Segoe UI', sans-serif"
MONO: Final = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
ROOM: Final = 58
"""Columns of a line that is shown when something is pointed at."""
_NAME: Final = 18


def safe(text: str) -> str:
    """Text as plotly shows it: it knows a little HTML, entities, and TeX between dollars.

    Examples
    --------
    >>> safe("<b>5 $</b> & more")
    '&lt;b&gt;5 &#36;&lt;/b&gt; &amp; more'
    """
    return escape(clean(text), quote=False).replace("$", "&#36;")


def short(name: str) -> str:
    """A name where there is little room, safe.

    Examples
    --------
    >>> short("a-service-with-a-very-long-name")
    'a-service-wi…-name'
    """
    return safe(cut_middle(name, _NAME))


def lines(texts: Iterable[str]) -> str:
    """Lines to be shown where something is pointed at, each one safe already."""
    return "<br>".join(texts)


def line(text: str) -> str:
    """One such line, cut and made safe."""
    return safe(cut(text, ROOM))


def figure(traces: Iterable[Any], *, title: str, height: int, **layout: Any) -> Figure:
    """A figure on clear paper; `title` is safe already."""
    from happen_nb._display.plots.picture import Picture

    common: dict[str, Any] = {
        "template": "none",
        "paper_bgcolor": CLEAR,
        "plot_bgcolor": CLEAR,
        "height": height,
        "margin": {"l": 12, "r": 12, "t": 64, "b": 40},
        "font": {"family": FONT, "size": 12, "color": QUIET},
        "title": {"text": title, "font": {"size": 13}, "x": 0, "xref": "container", "xanchor": "left",
                  "y": 1, "yref": "container", "yanchor": "top", "pad": {"l": 12, "t": 12}},
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": HOVER, "bordercolor": QUIET, "align": "left", "namelength": 0,
            "font": {"family": MONO, "size": 11, "color": ON_HOVER},
        },
        "modebar": {
            "bgcolor": CLEAR, "color": QUIET, "activecolor": NUMBER, "remove": ["select2d", "lasso2d"],
        },
        "legend": {
            "orientation": "h", "x": 0, "xref": "paper", "xanchor": "left", "y": 1, "yanchor": "bottom",
            "font": {"size": 11}, "itemsizing": "constant", "bgcolor": CLEAR,
        },
    }  # fmt: skip
    return Picture(data=list(traces), layout={**common, **layout})


def axis(**more: Any) -> dict[str, Any]:
    """An axis with quiet lines."""
    quiet = {"gridcolor": FAINT, "linecolor": LINE, "tickcolor": LINE, "zeroline": False}
    return {**quiet, "showgrid": False, "tickfont": {"size": 11}, **more}


def message(title: str, text: str) -> Figure:
    """A figure that says why there is nothing to see; both texts are safe already."""
    note = {"text": text, "showarrow": False, "xref": "paper", "yref": "paper", "x": 0.5, "y": 0.5}
    hidden = {"visible": False}
    return figure([], title=title, height=150, annotations=[note], xaxis=hidden, yaxis=hidden)
