"""What happened, as a figure: a lane per node, time from left to right, causes and effects as arrows."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from happen_nb._display.plots import colours
from happen_nb._display.plots.base import WIDTH, axis, figure, message, short
from happen_nb._display.plots.folding import FOLD, Axis, fold
from happen_nb._display.plots.happened import By, Happened, in_order
from happen_nb._display.plots.hover import Hover
from happen_nb._display.plots.marks import Edge, Happening, Kind, Mark, edges_of, happenings, marks_of, tally
from happen_nb._display.spans import count

if TYPE_CHECKING:
    from plotly.graph_objects import Figure, Scatter

LANES: Final = 30
"""Lanes of a figure; of more nodes the busiest are shown."""
LINES: Final = 250
"""So many faint lines from causes to effects are shown at first; of more, the legend switches them on."""
MOST_LINES: Final = 1_000
"""Lines that a figure holds."""
ARROWS: Final = 300
"""Arrows that a figure holds, for the newest marks; those of a mark appear where it is pointed at."""
_ARROWS_OF_A_MARK: Final = 24
_PLOT: Final = WIDTH - 150.0  # pixels of the time axis
_LANE, _LOW_LANE, _FEW = 50, 36, 10  # pixels of a lane; the lower ones where there are more than a few
_EDGE: Final = 14.0  # pixels beside the outermost marks
_LOOKS: Final[dict[Kind, tuple[str, str]]] = {
    "event": ("circle", colours.NUMBER),
    "commit": ("square", colours.STRING),
    "failure": ("x", colours.ERROR),
}


def timeline(x: Happened, *, nodes: Sequence[str] | None = None, by: By = "time") -> Figure:
    """Draw a part of a journal.

    Parameters
    ----------
    x : Happened
    nodes : sequence of str, optional
        The lanes, from top to bottom; all without it.
    by : "time" or "occurred"
        When things were stored, or when what they tell of happened.

    Returns
    -------
    plotly.graph_objects.Figure
    """
    things = happenings(x, by)
    lanes, known = _lanes(x, things, nodes)
    wanted = set(lanes)
    shown = [thing for thing in things if thing.node in wanted]
    if not shown:
        return message(f"<b>Timeline of {short(x.space)}</b>", "Nothing has happened here yet.")
    time = fold((thing.moment for thing in shown), _PLOT)
    marks = marks_of(shown, lanes, time.place)
    edges = edges_of(x, marks)
    traces = [_lines(edges), *_traces(x, marks)]
    made = figure(
        traces,
        title=_title(x, shown, len(lanes), known),
        height=118 + len(lanes) * (_LANE if len(lanes) <= _FEW else _LOW_LANE),
        margin={"l": 12, "r": 40, "t": 66, "b": 52},
        xaxis=_time_axis(time, by),
        yaxis=_lane_axis(lanes),
        shapes=[*_stripes(len(lanes)), *_folds(time)],
        annotations=[*_fold_labels(time), *_arrows(marks, edges)],
    )
    made._points = True
    return made


def _lanes(x: Happened, things: Iterable[Happening], nodes: Sequence[str] | None) -> tuple[list[str], int]:
    """The lanes from top to bottom, and how many there could be."""
    if nodes is not None:
        lanes = list(dict.fromkeys(nodes))
        return lanes, len(lanes)
    busy = Counter(thing.node for thing in things)
    names = sorted({*busy, *x.nodes}, key=lambda name: (-busy[name], name))
    return in_order(names[:LANES]), len(names)


def _title(x: Happened, things: Iterable[Happening], lanes: int, known: int) -> str:
    counts = Counter(thing.kind for thing in things)
    kinds: tuple[Kind, ...] = ("event", "commit", "failure")
    parts = [count(counts[kind], kind) for kind in kinds if counts[kind]]
    if x.newest is not None:
        parts.append(f"newest {x.newest:,}")
    if lanes < known:
        parts.append(f"{lanes:,} of {known:,} nodes")
    return f"<b>Timeline of {short(x.space)}</b> · {' · '.join(parts)}"


def _time_axis(time: Axis, by: By) -> dict[str, Any]:
    ticks = time.ticks
    what = "time" if by == "time" else "when it occurred"
    return axis(
        range=[-_EDGE, _PLOT + _EDGE],
        tickvals=[tick.x for tick in ticks],
        ticktext=[tick.label for tick in ticks],
        ticks="outside",
        tickangle=0,
        title={"text": f"{what}, UTC", "font": {"size": 11}, "standoff": 4},
    )


def _lane_axis(lanes: Sequence[str]) -> dict[str, Any]:
    return axis(
        range=[0.6 - len(lanes), 0.6],
        tickvals=[-number for number in range(len(lanes))],
        ticktext=[f"{short(name)} " for name in lanes],
        showgrid=True,
        gridcolor=colours.LINE,
        fixedrange=True,
        automargin=True,
    )


def _stripes(lanes: int) -> list[dict[str, Any]]:
    """A stripe behind every other lane."""
    common = {"type": "rect", "xref": "paper", "x0": 0, "x1": 1, "line": {"width": 0}, "layer": "below"}
    return [
        {**common, "y0": -lane - 0.5, "y1": 0.5 - lane, "fillcolor": colours.STRIPE}
        for lane in range(1, lanes, 2)
    ]


def _folds(time: Axis) -> list[dict[str, Any]]:
    common = {"type": "rect", "yref": "paper", "y0": 0, "y1": 1, "line": {"width": 0}, "layer": "below"}
    half = FOLD / 2 - 2
    return [
        {**common, "x0": each.x - half, "x1": each.x + half, "fillcolor": colours.FAINT}
        for each in time.folds
    ]


def _fold_labels(time: Axis) -> list[dict[str, Any]]:
    common = {"yref": "paper", "y": 0.5, "textangle": -90, "showarrow": False, "font": {"size": 10}}
    return [{**common, "x": each.x, "text": f"{each.label} of nothing"} for each in time.folds]


def _lines(edges: Sequence[Edge]) -> Scatter:
    """Faint lines from causes to effects."""
    from plotly import graph_objects as go

    newest = sorted(edges, key=lambda edge: -edge[1].x)[:MOST_LINES]
    return go.Scatter(
        x=[at for cause, effect in newest for at in (cause.x, effect.x, None)],
        y=[at for cause, effect in newest for at in (cause.y, effect.y, None)],
        mode="lines",
        name="cause to effect",
        line={"color": colours.QUIET, "width": 1},
        opacity=0.45,
        hoverinfo="skip",
        visible=True if len(edges) <= LINES else "legendonly",
        showlegend=bool(edges),
    )


def _traces(x: Happened, marks: Sequence[Mark]) -> Iterable[Scatter]:
    from plotly import graph_objects as go

    hover = Hover(x, marks)
    of_kind: dict[Kind, list[Mark]] = {"event": [], "commit": [], "failure": []}
    for mark in marks:
        of_kind[mark.kind].append(mark)
    for kind, some in of_kind.items():
        symbol, colour = _LOOKS[kind]
        merged = any(len(mark.things) > 1 for mark in some)
        yield go.Scatter(
            x=[mark.x for mark in some],
            y=[mark.y for mark in some],
            mode="markers+text" if merged else "markers",
            name=kind,
            marker={
                "symbol": [_symbol(mark, symbol) for mark in some],
                "size": [2 * mark.radius for mark in some],
                "color": colour,
                "opacity": 1,
                "line": {"width": 0},
            },
            text=[tally(len(mark.things)) for mark in some] if merged else None,
            textfont={"size": 9, "color": colours.ON_MARK} if merged else None,
            hovertext=[hover.text(mark) for mark in some],
            hoverinfo="text",
            showlegend=bool(some),
        )


def _symbol(mark: Mark, symbol: str) -> str:
    """The same for all of a kind, but an x has no room for a count."""
    return "octagon" if symbol == "x" and len(mark.things) > 1 else symbol


def _arrows(marks: Iterable[Mark], edges: Iterable[Edge]) -> list[dict[str, Any]]:
    """Hidden arrows from all causes of a mark and to its effects, for when it is pointed at or clicked."""
    causes: dict[Mark, list[Edge]] = {}
    effects: dict[Mark, list[Edge]] = {}
    for edge in edges:
        causes.setdefault(edge[1], []).append(edge)
        effects.setdefault(edge[0], []).append(edge)
    arrows = (
        {"x": to.x, "y": to.y, "ax": origin.x, "ay": origin.y, "xclick": mark.x, "yclick": mark.y,
         "axref": "x", "ayref": "y", "clicktoshow": "onout", "visible": False, "text": "",
         "arrowhead": 2, "arrowwidth": 1.5, "arrowcolor": colours.REMOVED,
         "standoff": to.radius + 1, "startstandoff": origin.radius}
        for mark in sorted(marks, key=lambda mark: -mark.x)
        for origin, to in islice(_around(mark, causes, effects), _ARROWS_OF_A_MARK)
    )  # fmt: skip
    return list(islice(arrows, ARROWS))


def _around(mark: Mark, causes: dict[Mark, list[Edge]], effects: dict[Mark, list[Edge]]) -> Iterable[Edge]:
    """The edges that lead to a mark, nearest first, then those that lead away from it."""
    seen = {mark}
    waiting = deque([mark])
    while waiting:
        for edge in causes.get(waiting.popleft(), ()):
            yield edge
            if edge[0] not in seen:
                seen.add(edge[0])
                waiting.append(edge[0])
    yield from effects.get(mark, ())
