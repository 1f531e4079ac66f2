"""A scene as a plotly figure, which also shows a static image of itself where plotly's script is not."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from html import escape, unescape
from pathlib import Path
from typing import Any, Final

from plotly.basedatatypes import BaseFigure
from plotly.graph_objects import Figure

from happen_nb._display.plots import scene
from happen_nb._display.plots.scene import Axis, Bars, Hover, Scene, Series
from happen_nb._frames import shell

PLOTLY: Final = "application/vnd.plotly.v1+json"
MAX_SVG: Final = 72_000  # characters of a static image; encoded in its page it is a third longer

_CLEAR: Final = "rgba(0,0,0,0)"
_TAG: Final = re.compile(r"<[^>]*>")
_MONO: Final = "ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace"
_RENDERER_VARIABLES: Final = {
    "PLOTLY_RENDERER", "COLAB_NOTEBOOK_ID", "AZURE_NOTEBOOKS_HOST", "VSCODE_PID", "NTERACT_EXE",
    "COCALC_PROJECT_ID", "DATABRICKS_RUNTIME_VERSION",
}  # fmt: skip
"""Variables of the environment by which plotly chooses how it shows its figures."""
_PAGES_TEXT: Final = f"var(--jp-content-font-color1,var(--vscode-editor-foreground,{scene.QUIET}))"
_SPAN: Final = f'<span style="color:{_PAGES_TEXT}">'
_TOO_LARGE: Final = "This is too much for a static image. Run the cell to see it."
_CHANGED: Final = "There is no static image of a figure that was changed. Run the cell to see it."
_FOREIGN: Final = "There is no static image of this figure. Run the cell to see it."

Spec = dict[str, Any]  # a part of a figure as plotly's JSON


class SceneFigure(Figure):  # type: ignore[misc]  # plotly ships no types
    """A figure that carries a static image and its title beside the JSON for plotly's script.

    A front end takes the first of these that it can show: JupyterLab and VS Code the figure, an exported page
    or GitHub the static image, anything else the text.
    """

    def __init__(self, *args: Any, picture: Scene | None = None, **more: Any) -> None:
        super().__init__(*args, **more)
        self._scene = picture
        self._original = None if picture is None else self.to_plotly_json()

    def _ipython_display_(self) -> None:
        if _renderer_is_default() or _renderer_gives_json():
            raise NotImplementedError  # IPython then asks for the mime bundle
        super()._ipython_display_()

    def _repr_mimebundle_(self, *args: Any, **more: Any) -> dict[str, Any]:
        bundle: dict[str, Any]
        if _renderer_is_default():
            bundle = {PLOTLY: json.loads(self.to_json(validate=False))}
        else:
            bundle = super()._repr_mimebundle_(*args, **more)
        if PLOTLY in bundle:
            bundle[PLOTLY] = in_colours_of_page(bundle[PLOTLY])
        if PLOTLY in bundle and "text/html" not in bundle:
            bundle |= static(self)
        return bundle

    def svg(self) -> str:
        """Return a static image."""
        if self._scene is None or not _equal(self.to_plotly_json(), self._original):
            note = _FOREIGN if self._scene is None else _CHANGED
            return scene.draw(scene.message(_plain(self.layout.title.text or ""), note))
        try:
            drawn = scene.draw(self._scene)
        except (ArithmeticError, ValueError):  # the distance of two values may be more than a float can hold
            drawn = ""
        fits = 0 < len(drawn) <= MAX_SVG
        return drawn if fits else scene.draw(scene.message(self._scene.name, _TOO_LARGE, self._scene.facts))

    def __repr__(self) -> str:
        return _caption(self)


def figure_of(picture: Scene) -> SceneFigure:
    traces = [
        {**(_bars(part) if isinstance(part, list) else _series(part)), "yaxis": f"y{number or ''}"}
        for number, row in zip((0, *range(2, len(picture.rows) + 1)), picture.rows, strict=True)
        for part in row.parts
    ]
    return SceneFigure({"data": traces, "layout": _layout(picture)}, picture=picture)


def static(figure: BaseFigure) -> dict[str, str]:
    """Return the static form of a plotly figure: its title, and a picture if it is of a scene."""
    if not isinstance(figure, SceneFigure):
        figure = SceneFigure({"layout": {"title": {"text": figure.layout.title.text}}})
    caption = _caption(figure)
    return {"text/plain": caption, "text/html": scene.image_of_svg(figure.svg(), caption)}


def in_colours_of_page(figure: Spec) -> Spec:
    """Return plotly's JSON with its texts in the colour of texts on the page that shows it.

    Plotly has no such colour, but leaves the styles of spans alone. A text with a colour of its own keeps it,
    as all texts do on a ground of another colour.
    """
    layout = figure["layout"]
    grounds = {layout.get("paper_bgcolor"), layout.get("plot_bgcolor")}
    if grounds != {_CLEAR} or _colour(layout) != scene.QUIET:
        return figure
    themed = {name: _axis_in_colour(part) if "axis" in name else part for name, part in layout.items()}
    themed["title"] = _in_colour(layout["title"])
    themed["annotations"] = [_in_colour(note) for note in layout.get("annotations", ())]
    has_names = _colour(layout["legend"]) is None
    data = [_trace_in_colour(trace, has_names=has_names) for trace in figure["data"]]
    return {**figure, "data": data, "layout": themed}


def _colour(part: Spec, font: str = "font") -> str | None:
    colour: str | None = part.get(font, {}).get("color")
    return colour


def _in_colour(part: Spec) -> Spec:
    own = _colour(part) is not None or not part.get("text")
    return part if own else {**part, "text": f"{_SPAN}{part['text']}</span>"}


def _axis_in_colour(axis: Spec) -> Spec:
    own = _colour(axis, "tickfont") is not None or "tickprefix" in axis or "ticksuffix" in axis
    ticks = {} if own else {"tickprefix": _SPAN, "ticksuffix": "</span>"}
    return {**axis, "title": _in_colour(axis.get("title", {})), **ticks}


def _trace_in_colour(trace: Spec, *, has_names: bool) -> Spec:
    if has_names and "name" in trace:
        trace = {**trace, "name": f"{_SPAN}{trace['name']}</span>"}
    if _colour(trace, "textfont") == scene.ON_BAND and "texttemplate" not in trace:
        trace = {**trace, "texttemplate": f"{_SPAN}%{{text}}</span>"}
    return trace


def _caption(figure: SceneFigure) -> str:
    """Return the title, with the message that the figure shows instead of data."""
    notes = [] if figure.data else [note.text for note in figure.layout.annotations]
    return "\n".join(map(_plain, [figure.layout.title.text or "Figure", *notes]))


def _plain(markup: str) -> str:
    """Return the text of plotly's markup.

    Examples
    --------
    >>> _plain("<b>5 &lt; 7</b> · done")
    '5 < 7 · done'
    """
    return unescape(_TAG.sub("", markup.replace("<br>", "\n")))


def _equal(one: Spec, other: Spec | None) -> bool:
    try:
        return one == other
    except ValueError:  # of numpy, whose arrays a user has added
        return False


def _renderer_is_default() -> bool:
    """Return True in a Jupyter kernel in which nothing has chosen how plotly shows its figures.

    Plotly then gives its JSON. To find that out itself, it imports nbformat, which with JupyterLab in the
    same environment takes seconds.
    """
    here = shell()
    return (
        "plotly.io._renderers" not in sys.modules
        and type(here).__name__ == "ZMQInteractiveShell"
        and type(here).__module__.startswith("ipykernel.")
        and not _RENDERER_VARIABLES & os.environ.keys()
        and not Path("/kaggle/input").exists()
    )


def _renderer_gives_json() -> bool:
    from plotly.io import renderers
    from plotly.io.base_renderers import PlotlyRenderer

    names = [name.strip() for name in (renderers.default or "").split("+")]
    return any(isinstance(renderers[name], PlotlyRenderer) for name in names if name)


# -- parts of a figure -------------------------------------------------------------------------------


def _safe(text: str) -> str:
    """Return text for plotly, which reads a little HTML, entities, and TeX between dollars.

    Examples
    --------
    >>> _safe("<b>5 $</b> & more")
    '&lt;b&gt;5 &#36;&lt;/b&gt; &amp; more'
    """
    return escape(text, quote=False).replace("$", "&#36;")


def _bold(text: str) -> str:
    return f"<b>{_safe(text)}</b>"


def _hovers(texts: Iterable[Hover]) -> list[str]:
    return ["<br>".join([*map(_bold, lines[:1]), *map(_safe, lines[1:])]) for lines in texts]


def _layout(picture: Scene) -> Spec:
    left, right, top, bottom = picture.margin
    rows = {
        f"yaxis{number if number > 1 else ''}": {**_axis(row.axis), "automargin": row.axis.visible}
        for number, row in enumerate(picture.rows, start=1)
    }
    anchor = f"y{len(picture.rows)}" if len(picture.rows) > 1 else "y"
    return {
        "template": "none",
        "paper_bgcolor": _CLEAR,
        "plot_bgcolor": _CLEAR,
        "height": picture.height,
        "margin": {"l": left, "r": right, "t": top, "b": bottom},
        "font": {"family": scene.FONT_FAMILY, "size": scene.FONT, "color": scene.QUIET},
        "title": {
            "text": f"{_bold(picture.name)}{_safe(picture.facts)}",
            "font": {"size": scene.TITLE_FONT}, "pad": {"l": 12, "t": 12},
            "x": 0, "xref": "container", "xanchor": "left",
            "y": 1, "yref": "container", "yanchor": "top",
        },
        "hovermode": "closest",
        "hoverlabel": {
            "bgcolor": scene.HOVER, "bordercolor": scene.QUIET, "align": "left", "namelength": 0,
            "font": {"family": _MONO, "size": scene.FONT, "color": scene.ON_HOVER},
        },
        "modebar": {
            "bgcolor": _CLEAR, "color": scene.QUIET, "activecolor": scene.NUMBER,
            "remove": ["select2d", "lasso2d"],
        },
        "showlegend": bool(scene.named_series(picture)),
        "legend": {
            "orientation": "h", "x": 0, "xref": "paper", "xanchor": "left", "y": 1, "yanchor": "bottom",
            "font": {"size": scene.FONT}, "itemsizing": "constant", "bgcolor": _CLEAR,
        },
        "bargap": 0,
        "uniformtext": {"mode": "hide", "minsize": scene.FONT},
        "annotations": list(_annotations(picture)),
        "xaxis": {
            **_axis(picture.x),
            "anchor": anchor,
            "ticks": "outside",
        },
        **rows,
    }  # fmt: skip


def _axis(axis: Axis) -> Spec:
    ticks: Spec = {"nticks": axis.max_ticks}
    title = {"text": _safe(axis.title), "font": {"size": scene.FONT}, "standoff": 4}
    if axis.ticks is not None:
        labels = [_safe(tick.label) for tick in axis.ticks]
        ticks = {"tickvals": [tick.place for tick in axis.ticks], "ticktext": labels}
    return {
        "type": "linear" if axis.dates is None else "date",
        "domain": axis.domain,
        "visible": axis.visible,
        "fixedrange": axis.fixed,
        "gridcolor": _faded(scene.QUIET, scene.FAINT),
        "linecolor": _faded(scene.QUIET, scene.LINE),
        "tickcolor": _faded(scene.QUIET, scene.LINE),
        "zeroline": False,
        "showgrid": axis.grid,
        "tickfont": {"size": scene.FONT},
        **ticks,
        **({} if axis.free else {"range": axis.range}),
        **({"tickformat": ",d"} if axis.whole else {}),
        # Labels that are turned stay above the title.
        **({"automargin": "height", "title": title} if axis.title else {}),
    }


def _series(series: Series) -> Spec:
    modes = {"lines": series.width, "markers": series.sizes is not None}
    spec: Spec = {
        "type": "scatter",
        "mode": "+".join(mode for mode, used in modes.items() if used),
        "x": [None if point is None else point[0] for point in series.points],
        "y": [None if point is None else point[1] for point in series.points],
        "showlegend": series.legend is not None,
        "hoverinfo": "text",
        "hovertext": _hovers(series.hover),
    }
    if series.legend:
        spec["name"] = _safe(series.legend)
    if series.width:
        shape = "hv" if series.steps else "linear"
        spec["line"] = {"color": series.colour, "width": series.width, "shape": shape}
        spec["connectgaps"] = False
    if series.sizes is not None:
        spec["marker"] = {"size": series.sizes, "color": series.colour, "opacity": 1, "line": {"width": 0}}
    return spec


def _bars(bars: Bars) -> Spec:
    return {
        "type": "bar",
        "showlegend": False,
        "orientation": "h",
        "base": [bar.start for bar in bars],
        "x": [bar.end - bar.start for bar in bars],
        "y": [0] * len(bars),
        "marker": {
            "color": [_faded(bar.colour, scene.BAND_TINT) for bar in bars],
            "line": {"width": 1, "color": [bar.colour for bar in bars]},
        },
        "text": [_safe(bar.text) for bar in bars],
        "textposition": "inside",
        "insidetextanchor": "start",
        "textangle": 0,
        "textfont": {"color": scene.ON_BAND, "size": scene.FONT},
        "hovertext": _hovers(bar.hover for bar in bars),
        "hoverinfo": "text",
    }


def _faded(colour: str, opacity: float) -> str:
    red, green, blue = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def _annotations(picture: Scene) -> Iterator[Spec]:
    """Yield the titles of rows, above these, and the message."""
    common = {"showarrow": False, "font": {"size": scene.FONT}, "xref": "paper", "yref": "paper"}
    for row in picture.rows:
        if row.title:
            place = {"x": 0, "xanchor": "left", "y": row.axis.domain[1], "yanchor": "bottom"}
            yield {"text": _bold(row.title), **common, **place}
    if picture.message:
        place = {"x": 0.5, "xanchor": "center", "y": 0.5, "yanchor": "middle"}
        yield {"text": _safe(picture.message), **common, **place}
