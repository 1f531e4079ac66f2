"""Values over time, as a figure: numbers as steps, everything else as bands, a row each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from happen_nb._display.plots import colours
from happen_nb._display.plots.base import axis, figure, line, lines, message, safe, short
from happen_nb._display.plots.rows import Steps, bands, numeric, steps
from happen_nb._display.plots.scale import Scale, is_number, missing, scale_of, text_of
from happen_nb._display.spans import count, cut, human_time, iso

if TYPE_CHECKING:
    from plotly.graph_objects import Bar, Figure, Scatter

ROWS: Final = 24
"""Rows of a figure."""
DEFAULT_ROWS: Final = 6
"""Rows where nobody said which."""
_NAME: Final = 24  # columns of a value in its band
_MARKED: Final = 60  # up to so many points each has a dot
_DOTS: Final = 1_000  # of a row whose axis goes back and forth, the newest
_COLOURED: Final = len(colours.SERIES)
_ROW, _BAND_ROW, _BETWEEN, _ABOVE, _BELOW = 110, 40, 34, 62, 48  # pixels


@dataclass(frozen=True, slots=True)
class Commits:
    """The commits of a node; all rows have a value for each of them.

    Parameters
    ----------
    node : str
    revisions : sequence of int
    times : sequence of datetime
    x : sequence
        Where each is on the axis.
    x_title : str
    """

    node: str
    revisions: Sequence[int]
    times: Sequence[datetime]
    x: Sequence[Any]
    x_title: str

    def label(self, index: int) -> str:
        """Which commit it is."""
        return f"revision {self.revisions[index]:,} · {human_time(iso(self.times[index]))}"


def values(commits: Commits, rows: Mapping[str, Sequence[Any]]) -> Figure:
    """Draw values over time.

    Parameters
    ----------
    commits : Commits
    rows : mapping of str to sequence
        Title -> the value after each commit, None where there is none.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    title = f"<b>History of {short(commits.node)}</b> · {count(len(commits.revisions), 'commit')}"
    if not commits.revisions:
        return message(title, "Nothing has been committed yet.")
    if not rows:
        return message(title, "Say what to draw: history.plot(&quot;orders.o1.status&quot;)")
    scale = scale_of(commits.x)
    if not scale.kept:
        return message(title, f"{short(commits.x_title)} has no value in any of them.")
    if len(rows) > ROWS:
        raise ValueError(f"plot: {len(rows)} rows are too many to read; give {ROWS} or fewer")
    drawn = [_Row(name, [each[index] for index in scale.kept]) for name, each in rows.items()]
    heights = [row.height(scale) for row in drawn]
    total = sum(heights) + _BETWEEN * (len(drawn) - 1)
    traces, axes, titles = [], {}, []
    top = float(total)
    for number, (row, height) in enumerate(zip(drawn, heights, strict=True), start=1):
        name = f"y{number}" if number > 1 else "y"
        place = [max(0.0, round((top - height) / total, 4)), round(top / total, 4)]
        axes[f"yaxis{number if number > 1 else ''}"] = row.axis(place, scale)
        traces.append(row.trace(commits, scale, name, colours.SERIES[(number - 1) % _COLOURED]))
        titles.append(_row_title(row.name, place[1]))
        top -= height + _BETWEEN
    return figure(
        traces,
        title=title,
        height=total + _ABOVE + _BELOW,
        margin={"l": 12, "r": 28, "t": _ABOVE, "b": _BELOW},
        showlegend=False,
        bargap=0,
        uniformtext={"mode": "hide", "minsize": 10},
        annotations=titles,
        xaxis=_x_axis(commits, scale, f"y{len(drawn)}" if len(drawn) > 1 else "y"),
        **axes,
    )


def shown_at_first(state: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """The paths that are drawn where nobody said which: those at the top that have no parts.

    Examples
    --------
    >>> shown_at_first({"open": 2, "orders": {}, "status": "calm"})
    (('open',), ('status',))
    """
    paths = ((key,) for key, value in state.items() if not isinstance(value, dict | list | None))
    return tuple(islice(paths, DEFAULT_ROWS))


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    values: Sequence[Any]

    @property
    def kind(self) -> str:
        return "steps" if numeric(self.values) else "bands"

    def height(self, scale: Scale) -> int:
        return _ROW if self.kind == "steps" or not scale.forward else _BAND_ROW

    def axis(self, domain: Sequence[float], scale: Scale) -> dict[str, Any]:
        if self.kind == "steps" or not scale.forward:
            return axis(domain=domain, showgrid=True, nticks=5, automargin=True)
        return axis(domain=domain, visible=False, fixedrange=True)

    def trace(self, commits: Commits, scale: Scale, yaxis: str, colour: str) -> Scatter | Bar:
        if not scale.forward:
            return _dots(self, commits, scale, yaxis, colour)
        if self.kind == "steps":
            points = steps(self.values, scale.places, scale.end)
            return _steps(points, commits, scale, yaxis, colour)
        return _bands(self, commits, scale, yaxis)


def _row_title(name: str, top: float) -> dict[str, Any]:
    return {
        "text": f"<b>{line(name)}</b>", "showarrow": False, "xref": "paper", "yref": "paper",
        "x": 0, "y": top, "xanchor": "left", "yanchor": "bottom", "font": {"size": 12},
    }  # fmt: skip


def _x_axis(commits: Commits, scale: Scale, anchor: str) -> dict[str, Any]:
    title = {"text": line(commits.x_title), "font": {"size": 11}, "standoff": 4}
    margin = 0.02 * (scale.end - min(scale.places)) or 1.0
    whole = {"tickformat": ",d"} if commits.x_title == "revision" else {}
    return axis(
        anchor=anchor,
        range=[min(scale.places) - margin, scale.end + margin / 2],
        showgrid=True,
        ticks="outside",
        nticks=8,
        title=title,
        **whole,
        **scale.axis(),
    )


def _told(value: Any, commits: Commits, scale: Scale, index: int) -> str:
    shown = f"{value:,}" if is_number(value) else text_of(value)
    return lines([f"<b>{line(shown)}</b>", line(commits.label(scale.kept[index]))])


def _steps(points: Steps, commits: Commits, scale: Scale, yaxis: str, colour: str) -> Scatter:
    from plotly import graph_objects as go

    marked = len(points) <= _MARKED
    own = [value is not None and place == scale.places[index] for place, value, index in points]
    marker = {"size": [6 if each else 0 for each in own], "color": colour, "opacity": 1, "line": {"width": 0}}
    return go.Scatter(
        x=[place for place, _, _ in points],
        y=[value for _, value, _ in points],
        yaxis=yaxis,
        mode="lines+markers" if marked else "lines",
        line={"shape": "hv", "color": colour, "width": 2},
        marker=marker if marked else None,
        connectgaps=False,
        hovertext=["" if value is None else _told(value, commits, scale, i) for _, value, i in points],
        hoverinfo="text",
    )


def _bands(row: _Row, commits: Commits, scale: Scale, yaxis: str) -> Bar:
    from plotly import graph_objects as go

    found = bands(row.values, scale.places, scale.end)
    numbers: dict[str, int] = {}
    for band in found:
        if band.values == 1:
            numbers.setdefault(band.text, len(numbers))
    palette = [
        colours.SERIES[numbers[band.text] % _COLOURED] if band.values == 1 else colours.QUIET
        for band in found
    ]
    return go.Bar(
        base=[band.start for band in found],
        x=[band.end - band.start for band in found],
        y=[0] * len(found),
        yaxis=yaxis,
        orientation="h",
        marker={"color": palette, "line": {"width": 0}},
        text=[safe(cut(band.text, _NAME)) for band in found],
        textposition="inside",
        insidetextanchor="start",
        textangle=0,
        textfont={"color": colours.ON_MARK, "size": 11},
        hovertext=[
            _told(row.values[band.index] if band.values == 1 else band.text, commits, scale, band.index)
            for band in found
        ],
        hoverinfo="text",
    )


def _dots(row: _Row, commits: Commits, scale: Scale, yaxis: str, colour: str) -> Scatter:
    """Where the axis goes back and forth: a dot a commit, in order."""
    from plotly import graph_objects as go

    there = [index for index, value in enumerate(row.values) if not missing(value)]
    kept = there[-_DOTS:]
    raw = [row.values[index] for index in kept]
    return go.Scatter(
        x=[scale.places[index] for index in kept],
        y=raw if row.kind == "steps" else [short(text_of(value)) for value in raw],
        yaxis=yaxis,
        mode="lines+markers" if row.kind == "steps" else "markers",
        line={"color": colour, "width": 1},
        marker={"size": 6, "color": colour},
        hovertext=[_told(value, commits, scale, index) for index, value in zip(kept, raw, strict=True)],
        hoverinfo="text",
    )
