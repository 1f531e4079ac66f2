"""The timeline: a lane per node, time from left to right, lines from causes to effects."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from happen_nb._display.plots import scene
from happen_nb._display.plots.marks import (
    Edge,
    HoverTexts,
    Kind,
    Mark,
    TimelineItem,
    edges_of,
    items_of,
    marks_of,
    tally,
)
from happen_nb._display.plots.scene import (
    BREAK_WIDTH,
    Arrow,
    Axis,
    Label,
    Line,
    Marks,
    Scene,
    Series,
    Stripe,
    Tick,
    TimeAxis,
    break_gaps,
)
from happen_nb._display.spans import count
from happen_nb._model.causality import JournalSlice, TimeBase, in_order

if TYPE_CHECKING:
    from happen_nb._display.plots.plotly_figure import SceneFigure

MAX_LANES: Final = 30
"""Of more nodes the busiest are shown."""
MAX_SHOWN_LINES: Final = 250
"""More lines from causes to effects are hidden at first; the legend shows them."""
MAX_LINES: Final = 1_000
"""Lines that a picture holds."""
MAX_ARROWS: Final = 300
"""Arrows that a picture holds, for its newest marks; those of a mark appear when it is pointed at."""

_MAX_ARROWS_OF_MARK: Final = 24
_PLOT_WIDTH: Final = scene.WIDTH - 150.0  # pixels of the time axis
_LANE_HEIGHT, _LOW_LANE_HEIGHT, _MAX_HIGH_LANES = 50, 36, 10  # pixels of a lane, lower where there are many
_EDGE: Final = 14.0  # pixels beside the outermost marks
_LOOKS: Final[dict[Kind, tuple[str, str]]] = {
    "event": ("circle", scene.NUMBER),
    "commit": ("square", scene.STRING),
    "failure": ("x", scene.ERROR),
}


def timeline(
    journal: JournalSlice,
    *,
    nodes: Sequence[str] | None = None,
    by: TimeBase = "time",
    before_display: Callable[[], object] | None = None,
) -> SceneFigure:
    """Draw a part of a journal, with lanes for `nodes` from top to bottom, or for all.

    `before_display` is called when a notebook is about to show a figure with marks.
    """
    from happen_nb._display.plots.plotly_figure import figure_of

    items = items_of(journal, by)
    lanes, known = _lanes(journal, items, nodes)
    lanes_set = set(lanes)
    shown = [item for item in items if item.node in lanes_set]
    if not shown:
        title = f"<b>Timeline of {scene.short(journal.space)}</b>"
        return figure_of(scene.message(title, "Nothing has happened here yet."))
    time = break_gaps((item.time for item in shown), _PLOT_WIDTH)
    marks = marks_of(shown, lanes, time.place)
    edges = edges_of(journal, marks)
    picture = Scene(
        title=_title(journal, shown, len(lanes), known),
        height=118 + len(lanes) * (_LANE_HEIGHT if len(lanes) <= _MAX_HIGH_LANES else _LOW_LANE_HEIGHT),
        margin=(12, 40, 66, 52),
        x=Axis(
            range=(-_EDGE, _PLOT_WIDTH + _EDGE),
            ticks=time.ticks,
            level=True,
            title="time, UTC" if by == "time" else "when it occurred, UTC",
        ),
        rows=[
            Axis(
                range=(0.6 - len(lanes), 0.6),
                ticks=[Tick(-number, f"{scene.short(name)} ") for number, name in enumerate(lanes)],
                grid=scene.LINE,
                fixed=True,
            )
        ],
        stripes=[*_lane_stripes(len(lanes)), *_break_stripes(time)],
        series=[_lines(edges), *_series(journal, marks)],
        texts=_break_labels(time),
        arrows=_arrows(marks, edges),
    )
    return figure_of(picture, before_display=before_display)


def _lanes(
    journal: JournalSlice, items: Iterable[TimelineItem], nodes: Sequence[str] | None
) -> tuple[list[str], int]:
    """Return the lanes from top to bottom, and how many there could be."""
    if nodes is not None:
        lanes = list(dict.fromkeys(nodes))
        return lanes, len(lanes)
    busy = Counter(item.node for item in items)
    names = sorted({*busy, *journal.nodes}, key=lambda name: (-busy[name], name))
    return in_order(names[:MAX_LANES]), len(names)


def _title(journal: JournalSlice, items: Iterable[TimelineItem], lanes: int, known: int) -> str:
    counts = Counter(item.kind for item in items)
    kinds: tuple[Kind, ...] = ("event", "commit", "failure")
    parts = [count(counts[kind], kind) for kind in kinds if counts[kind]]
    if journal.newest is not None:
        parts.append(f"newest {journal.newest:,}")
    if lanes < known:
        parts.append(f"{lanes:,} of {known:,} nodes")
    return f"<b>Timeline of {scene.short(journal.space)}</b> · {' · '.join(parts)}"


def _lane_stripes(lanes: int) -> Iterable[Stripe]:
    return (Stripe("y", -lane - 0.5, 0.5 - lane, scene.STRIPE) for lane in range(1, lanes, 2))


def _break_stripes(time: TimeAxis) -> Iterable[Stripe]:
    half = BREAK_WIDTH / 2 - 2
    return (Stripe("x", each.place - half, each.place + half, scene.FAINT) for each in time.breaks)


def _break_labels(time: TimeAxis) -> list[Label]:
    return [
        Label(text=f"{each.label} idle", x=each.place, y=0.5, y_of_plot=True, size=10, angle=-90)
        for each in time.breaks
    ]


def _lines(edges: Sequence[Edge]) -> Series:
    """Return faint lines from causes to effects."""
    newest = sorted(edges, key=lambda edge: -edge[1].at[0])[:MAX_LINES]
    return Series(
        points=[at for cause, effect in newest for at in (cause.at, effect.at, None)],
        name="cause to effect",
        line=Line(scene.QUIET, 1, opacity=0.45),
        legend=bool(edges),
        hidden=len(edges) > MAX_SHOWN_LINES,
    )


def _series(journal: JournalSlice, marks: Sequence[Mark]) -> Iterable[Series]:
    hover = HoverTexts(journal, marks)
    of_kind: dict[Kind, list[Mark]] = {"event": [], "commit": [], "failure": []}
    for mark in marks:
        of_kind[mark.kind].append(mark)
    for kind, some in of_kind.items():
        symbol, colour = _LOOKS[kind]
        merged = any(len(mark.items) > 1 for mark in some)
        yield Series(
            points=[mark.at for mark in some],
            name=kind,
            marks=Marks(
                sizes=[2 * mark.radius for mark in some],
                colours=colour,
                symbols=[_symbol(mark, symbol) for mark in some],
            ),
            labels=[tally(len(mark.items)) for mark in some] if merged else None,
            label_colours=scene.ON_MARK,
            label_size=9,
            hover=[hover.text(mark) for mark in some],
            legend=bool(some),
        )


def _symbol(mark: Mark, symbol: str) -> str:
    # An x has no room for a number.
    return "octagon" if symbol == "x" and len(mark.items) > 1 else symbol


def _arrows(marks: Iterable[Mark], edges: Iterable[Edge]) -> list[Arrow]:
    """Return the arrows from all causes of each mark and to its effects, which appear on demand."""
    causes: dict[Mark, list[Edge]] = {}
    effects: dict[Mark, list[Edge]] = {}
    for edge in edges:
        causes.setdefault(edge[1], []).append(edge)
        effects.setdefault(edge[0], []).append(edge)
    arrows = (
        Arrow(
            start=start.at,
            end=end.at,
            colour=scene.REMOVED,
            from_start=start.radius,
            to_end=end.radius + 1,
            mark=mark.at,
        )
        for mark in sorted(marks, key=lambda mark: -mark.at[0])
        for start, end in islice(_around(mark, causes, effects), _MAX_ARROWS_OF_MARK)
    )
    return list(islice(arrows, MAX_ARROWS))


def _around(mark: Mark, causes: dict[Mark, list[Edge]], effects: dict[Mark, list[Edge]]) -> Iterable[Edge]:
    """Return the edges that lead to a mark, nearest first, then those that lead away from it."""
    seen = {mark}
    waiting = deque([mark])
    while waiting:
        for edge in causes.get(waiting.popleft(), ()):
            yield edge
            if edge[0] not in seen:
                seen.add(edge[0])
                waiting.append(edge[0])
    yield from effects.get(mark, ())
