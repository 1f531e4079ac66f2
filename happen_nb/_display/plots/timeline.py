"""The timeline: a lane per node, time from left to right, lines from causes to effects."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Final

from happen_nb._display.plots import scene
from happen_nb._display.plots.lane_layout import (
    MAX_SINGLE_LANES,
    HandlingBar,
    Lane,
    bars_of,
    end_of,
    handlings_on,
    lanes_of,
    start_of,
)
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
from happen_nb._model.causality import JournalSlice, TimeBase

if TYPE_CHECKING:
    from happen_nb._display.plots.plotly_figure import SceneFigure

MAX_SHOWN_LINES: Final = 250
"""More lines from causes to effects are hidden at first; the legend shows them."""
MAX_LINES: Final = 1_000
"""Lines that a picture holds."""
MAX_HOVERS: Final = 400
"""With more bars, pointing at them shows nothing."""
MAX_ARROWS: Final = 300
"""Arrows that a picture holds, for its newest marks; those of a mark appear when it is pointed at."""

_MAX_ARROWS_OF_MARK: Final = 24
_PLOT_WIDTH: Final = scene.WIDTH - 150.0  # pixels of the time axis
_LANE_HEIGHT, _LOW_LANE_HEIGHT = 50, 36  # pixels of a lane, lower where there are many
_STRIP_HEIGHT: Final = 20  # pixels above the lanes, for the labels of breaks
_LABEL_LETTER: Final = 6.5  # pixels of a letter of such a label
_BAR_SHARE: Final = 0.2  # of the height of a lane
_WAIT_BELOW: Final = 0.14  # lanes from the middle of a bar to the line of waiting
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
    lanes, known = lanes_of(journal, Counter(item.node for item in items), nodes)
    on_lanes = {node for lane in lanes for node in lane.nodes}
    shown = [item for item in items if item.node in on_lanes]
    if not shown:
        title = f"<b>Timeline of {scene.short(journal.space)}</b>"
        return figure_of(scene.message(title, "Nothing has happened here yet."))
    # Handlings have no event time.
    handlings = handlings_on(journal, lanes) if by == "time" else []
    busy = [(event.time, end_of(event, record)) for event, record in handlings]
    times = [item.time for item in shown] + [
        at for each in handlings for at in (start_of(*each), end_of(*each))
    ]
    time = break_gaps(times, _PLOT_WIDTH, busy)
    marks = marks_of(shown, lanes, time.place)
    edges = edges_of(journal, marks)
    height = sum(lane.height for lane in lanes)
    lane_height = _LANE_HEIGHT if height <= MAX_SINGLE_LANES else _LOW_LANE_HEIGHT
    strip = _STRIP_HEIGHT / lane_height if time.breaks else 0.0  # above the lanes: no line leads there
    picture = Scene(
        title=_title(journal, shown, len(on_lanes), known),
        height=118 + (height + strip) * lane_height,
        margin=(12, 40, 66, 52),
        x=Axis(
            range=(-_EDGE, _PLOT_WIDTH + _EDGE),
            ticks=time.ticks,
            level=True,
            title="time, UTC" if by == "time" else "when it occurred, UTC",
        ),
        rows=[
            Axis(
                range=(0.4 - height, 0.6 + strip),
                ticks=[Tick(-lane.middle, f"{scene.short(lane.name)} ") for lane in lanes],
                grid=scene.LINE,
                fixed=True,
            )
        ],
        stripes=[*_lane_stripes(lanes), *_break_stripes(time)],
        series=[
            *_bars(bars_of(handlings, lanes, time.place), lane_height),
            _lines(edges),
            *_series(journal, marks),
        ],
        texts=_break_labels(time, 0.6 + strip / 2),
        arrows=_arrows(marks, edges),
    )
    return figure_of(picture, before_display=before_display)


def _title(journal: JournalSlice, items: Iterable[TimelineItem], lanes: int, known: int) -> str:
    counts = Counter(item.kind for item in items)
    kinds: tuple[Kind, ...] = ("event", "commit", "failure")
    parts = [count(counts[kind], kind) for kind in kinds if counts[kind]]
    if journal.newest is not None:
        parts.append(f"newest {journal.newest:,}")
    if lanes < known:
        parts.append(f"{lanes:,} of {known:,} nodes")
    return f"<b>Timeline of {scene.short(journal.space)}</b> · {' · '.join(parts)}"


def _lane_stripes(lanes: Sequence[Lane]) -> Iterable[Stripe]:
    edges = ((-lane.middle, lane.height / 2) for lane in lanes[1::2])
    return (Stripe("y", middle - half, middle + half, scene.STRIPE) for middle, half in edges)


def _break_stripes(time: TimeAxis) -> Iterable[Stripe]:
    half = BREAK_WIDTH / 2 - 2
    return (Stripe("x", each.place - half, each.place + half, scene.FAINT) for each in time.breaks)


def _break_labels(time: TimeAxis, height: float) -> list[Label]:
    """Return the length of each break, above the lanes; labels that would touch become one."""
    found: list[tuple[list[float], str]] = []
    for each in time.breaks:
        places, text = found[-1] if found else ([], "")
        room = (len(text) + len(each.label) + 10) / 2 * _LABEL_LETTER
        if places and each.place - sum(places) / len(places) < room:
            found[-1] = [*places, each.place], f"{text}, {each.label}"
        else:
            found.append(([each.place], each.label))
    return [
        Label(text=f"{text} idle", x=round(sum(places) / len(places), 1), y=height) for places, text in found
    ]


def _bars(bars: Sequence[HandlingBar], lane_height: float) -> Iterable[Series]:
    """Return thin lines for waiting, and thick ones for handlings."""
    waits = [bar for bar in bars if bar.since is not None]
    yield Series(
        points=[
            at
            for bar in waits
            for at in (
                (bar.since or 0.0, bar.height - _WAIT_BELOW),
                (bar.start, bar.height - _WAIT_BELOW),
                None,
            )
        ],
        name="waiting",
        line=Line(scene.QUIET, 1.5, opacity=0.8),
        legend=bool(waits),
    )
    for in_group in (False, True):
        mine = [bar for bar in bars if bar.in_group is in_group]
        hover = (
            [text for bar in mine for text in (*[_hover(bar)] * 2, "")] if len(mine) <= MAX_HOVERS else None
        )
        yield Series(
            points=[at for bar in mine for at in ((bar.start, bar.height), (bar.end, bar.height), None)],
            name="handling" if not in_group else "handling of a group",
            line=Line(scene.NUMBER, 1.5 if in_group else round(lane_height * _BAR_SHARE), opacity=0.45),
            hover=hover,
            legend=bool(mine) and not in_group,
        )


def _hover(bar: HandlingBar) -> str:
    return scene.joined(scene.hover_line(each) for each in bar.text.split("\n"))


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
