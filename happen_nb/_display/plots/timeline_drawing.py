"""The timeline as SVG: a lane for each node, time from left to right, idle time left out.

A dot is an event, a bar a handling, a thin line the time that its event waited, a square a commit, a cross a
failure. The colour is that of the node. A group of nodes is one lane: a histogram of its events above a
raster with a row for each node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import hypot
from typing import Final

from happen_nb._display.plots.lane_layout import Lane
from happen_nb._display.plots.scene import BREAK_WIDTH, TimeAxis
from happen_nb._display.plots.svg_parts import COLOURS, escaped, fit, line, measure, rect, svg, tspan
from happen_nb._display.plots.timeline import Kind, Timeline, TimelineItem, since
from happen_nb._display.spans import clean, cut_middle
from happen_nb._model.causality import NOTEBOOK

WIDTH: Final = 700
"""Pixels of a picture that nobody has chosen a width for."""
LEAST_WIDTH: Final = 300
MAX_CHARACTERS: Final = 80_000
"""Of a picture; with more, marks that are close are drawn as one."""
_GRAINS: Final = (1.0, 2.0, 4.0, 8.0, 16.0)  # pixels from one mark to the next
_MANY_SPOTS: Final = 10_000  # with more, the finest is not tried
_TOP, _STRIP, _AXIS, _LEGEND = 24.0, 18.0, 38.0, 22.0  # pixels of title, break labels, times and legend
_EDGE: Final = 12.0
_WIDEST_NAME: Final = 150.0
_LANE, _LOW_LANE, _MANY = 44.0, 34.0, 10  # pixels of a lane, lower if there are many
_GROUP, _MOST_GROUP, _HISTOGRAM = 64.0, 150.0, 24.0  # of a group: at least, at most, and its upper part
_BIN: Final = 4.0  # pixels of a bar of the histogram
_DOT, _SQUARE, _BAR = 8.0, 7.0, 9.0
_LEAST_BAR: Final = 2.0
_REACH: Final = 12.0  # from the pointer to the mark that is meant
_MAX_CURVES: Final = 40
_SMALLEST_GAP: Final = 1.0


@dataclass(frozen=True, slots=True)
class Spot:
    """The place of an item; a handling ends at another pixel."""

    x: float
    y: float
    item: TimelineItem
    end: float


@dataclass(frozen=True, slots=True)
class _Strip:
    """A lane on the picture."""

    lane: Lane
    top: float
    height: float
    colour: str

    @property
    def middle(self) -> float:
        return self.top + self.height / 2

    def y(self, kind: Kind, row: int) -> float:
        """Return the height of an item of a node, which is in a row of its group."""
        if self.lane.is_group:
            if kind == "event":
                return self.top + _HISTOGRAM / 2 + 2
            share = (row + 0.5) / len(self.lane.nodes)
            return self.top + _HISTOGRAM + 4 + share * (self.height - _HISTOGRAM - 8)
        away = self.height / 2 - 8
        return self.middle + {"event": -away, "commit": away}.get(kind, 0.0)


@dataclass(frozen=True)
class DrawnTimeline:
    """A picture, with what is needed to know what is at a pixel."""

    svg: str
    spots: Sequence[Spot] = ()
    axis: TimeAxis | None = None
    left: float = 0.0
    right: float = 0.0
    lanes: Sequence[Lane] = ()

    def at(self, x: float, y: float) -> TimelineItem | None:
        """Return the item at a pixel: the nearest mark, else the handling whose bar is there."""
        near = [
            (hypot(spot.x - x, spot.y - y), number)
            for number, spot in enumerate(self.spots)
            if spot.item.kind != "handling" and abs(spot.x - x) <= _REACH and abs(spot.y - y) <= _REACH
        ]
        if near and min(near)[0] <= _REACH:
            return self.spots[min(near)[1]].item
        bars = [
            (abs(spot.y - y), number)
            for number, spot in enumerate(self.spots)
            if spot.item.kind == "handling" and spot.x - 3 <= x <= spot.end + 3 and abs(spot.y - y) <= _BAR
        ]
        return self.spots[min(bars)[1]].item if bars else None

    def time(self, x: float) -> int:
        """Return the time at a pixel."""
        assert self.axis is not None
        place = x - self.left
        segments = self.axis.segments
        segment = min(segments, key=lambda each: max(each.left - place, place - each.right, 0.0))
        share = (place - segment.left) / ((segment.right - segment.left) or 1.0)
        # Added to an int: a float cannot hold the nanoseconds since 1970.
        return segment.start + round(max(0.0, min(1.0, share)) * (segment.end - segment.start))


def draw(
    shown: Timeline,
    *,
    width: int = WIDTH,
    window: tuple[int, int] | None = None,
    opened: Collection[str] = (),
    find: str = "",
    chosen: TimelineItem | None = None,
    live: bool = False,
) -> DrawnTimeline:
    """Draw a timeline as SVG for light and dark pages.

    Parameters
    ----------
    shown : Timeline
    width : int
        In pixels.
    window : (int, int), optional
        The time that is shown, in ns since 1970; all without it.
    opened : collection of str
        Groups whose nodes have lanes of their own.
    find : str
        Items without this text step back.
    chosen : TimelineItem, optional
        The item whose causes and effects are shown.
    live : bool
        The names of groups can be pressed.
    """
    width = max(LEAST_WIDTH, width)
    lanes, known = shown.lanes(opened)
    nodes = {node for lane in lanes for node in lane.nodes}
    items = shown.between(window, nodes)
    if not items:
        return DrawnTimeline(_empty(shown, width, is_part=window is not None))
    matching = shown.matches(find) if find else None
    drawing = _TimelineDrawing(shown, width, lanes, items, live=live)
    return drawing.draw(shown.facts(lanes, known), matching, chosen)


def _empty(shown: Timeline, width: int, *, is_part: bool) -> str:
    title = _title(shown, [], width)
    note = "Nothing happened in this time." if is_part else "Nothing has happened here yet."
    about = f"Timeline of {shown.journal.space}: {note}"
    return svg(about, width, 80, f'{title}<text class="q" x="{_EDGE}" y="52">{note}</text>')


def _title(shown: Timeline, facts: Sequence[str], width: float) -> str:
    name = fit(f"Timeline of {cut_middle(shown.journal.space, 40)}", width - 2 * _EDGE, bold=True)
    rest = " · ".join(["", *facts])
    rest = fit(rest, max(20.0, width - 2 * _EDGE - measure(name, bold=True)))
    return f'<text x="{_EDGE:.0f}" y="16">{tspan(name, 0, "b")}{tspan(rest, 4, "q")}</text>'


class _TimelineDrawing:
    """The pen of one timeline."""

    def __init__(
        self,
        shown: Timeline,
        width: int,
        lanes: Sequence[Lane],
        items: Sequence[TimelineItem],
        *,
        live: bool,
    ) -> None:
        self._shown, self._width, self._items, self._live = shown, width, items, live
        self._grain = _GRAINS[0]
        names = [measure(_lane_title(lane), bold=True) for lane in lanes]
        self._left = _EDGE + min(_WIDEST_NAME, 0.3 * width, max(names)) + 14
        self._right = width - _EDGE
        self._axis = shown.axis(items, self._right - self._left - _DOT)
        self._strips = list(self._lay(lanes))
        self._of_node = {node: strip for strip in self._strips for node in strip.lane.nodes}
        self._rows = {node: n for strip in self._strips for n, node in enumerate(strip.lane.nodes)}
        self._bottom = self._strips[-1].top + self._strips[-1].height
        self._spots = [self._spot(item) for item in items]

    def _lay(self, lanes: Sequence[Lane]) -> Iterator[_Strip]:
        top = _TOP + (_STRIP if self._axis.breaks else 4)
        number = 0
        for lane in lanes:
            if lane.is_group:
                height = min(_MOST_GROUP, max(_GROUP, _HISTOGRAM + 8 + len(lane.nodes)))
            else:
                height = _LANE if len(lanes) <= _MANY else _LOW_LANE
            colour = f"var(--c{len(COLOURS) if lane.name == NOTEBOOK else number % len(COLOURS)})"
            number += lane.name != NOTEBOOK
            yield _Strip(lane, top, height, colour)
            top += height

    def draw(
        self, facts: Sequence[str], matching: Collection[TimelineItem] | None, chosen: TimelineItem | None
    ) -> DrawnTimeline:
        parts = [_title(self._shown, facts, self._width), *self._ground()]
        parts += [self._fitting_marks(matching), *self._story(chosen)]
        parts += [*map(self._name, range(len(self._strips))), *self._times(), self._legend()]
        about = f"Timeline of {self._shown.journal.space}: {', '.join(facts)}"
        height = self._bottom + _AXIS + _LEGEND
        lanes = [strip.lane for strip in self._strips]
        role = "group" if self._live else "img"
        drawn = svg(about, self._width, height, "".join(parts), role=role)
        left, right = self._left + _DOT / 2, self._right - _DOT / 2
        return DrawnTimeline(drawn, self._spots, self._axis, left, right, lanes)

    def _fitting_marks(self, matching: Collection[TimelineItem] | None) -> str:
        """Draw the marks, the fewer of those that are close the more there are."""
        shown, back = self._spots, []
        if matching is not None:
            shown = [spot for spot in self._spots if spot.item in matching]
            back = [spot for spot in self._spots if spot.item not in matching]
        marks = ""
        enough = len(self._spots) < _MANY_SPOTS
        for self._grain in _GRAINS if enough else _GRAINS[1:]:
            parts = ['<g opacity=".16">', *self._marks(back), "</g>"] if back else []
            marks = "".join([*parts, *self._marks(shown)])
            if len(marks) <= MAX_CHARACTERS:
                break
        return marks

    def _x(self, time: int) -> float:
        return self._left + _DOT / 2 + self._axis.exact_place(time)

    def _spot(self, item: TimelineItem) -> Spot:
        x = self._x(item.time)
        end = x if item.end == item.time else max(x + _LEAST_BAR, self._x(item.end))
        return Spot(x, self._y(item), item, end)

    def _y(self, item: TimelineItem) -> float:
        return self._of_node[item.node].y(item.kind, self._rows[item.node])

    # -- the ground

    def _ground(self) -> Iterator[str]:
        for strip in self._strips[1::2]:
            look = 'style="fill:var(--soft)" opacity=".06"'
            yield rect(0, strip.top, self._width, strip.height, look)
        for each in self._axis.breaks:
            x = self._left + _DOT / 2 + each.place
            half, top, height = BREAK_WIDTH / 2 - 2, self._strips[0].top, self._bottom - self._strips[0].top
            yield rect(x - half, top, 2 * half, height, 'style="fill:var(--soft)" opacity=".16"')
        yield from self._break_labels()

    def _break_labels(self) -> Iterator[str]:
        """Write how long each break is above the lanes; labels that would touch become one."""
        labels: list[tuple[float, str]] = []
        for each in self._axis.breaks:
            x, text = self._left + _DOT / 2 + each.place, each.label
            if labels and x - labels[-1][0] < (measure(labels[-1][1]) + measure(text)) / 2 + 46:
                before, first = labels[-1]
                labels[-1] = (before + x) / 2, f"{first}, {text}"
            else:
                labels.append((x, text))
        for x, text in labels:
            shown = fit(f"{text} idle", self._right - self._left)
            half = measure(shown) / 2
            middle = max(self._left + half, min(self._right - half, x))
            at = f'x="{middle:.1f}" y="{_TOP + 12:.0f}"'
            yield f'<text class="q" text-anchor="middle" {at}>{escaped(shown)}</text>'

    def _name(self, number: int) -> str:
        strip = self._strips[number]
        title, room = _lane_title(strip.lane), self._left - _EDGE - 14
        at = f'x="{_EDGE + 2:.0f}" y="{strip.middle + 4:.1f}"'
        about = f"{strip.lane.name}: open" if strip.lane.is_group else strip.lane.name
        press = ""
        if self._live and strip.lane.is_group:
            press = f' data-key="g{number}" tabindex="-1" role="button" aria-label="{escaped(about)}"'
        return (
            rect(_EDGE - 6, strip.top + 6, 3, strip.height - 12, f'rx="1.5" style="fill:{strip.colour}"')
            + f"<g{press}><title>{escaped(strip.lane.name)}</title>"
            + f'<text class="b" {at}>{escaped(fit(title, room, bold=True))}</text></g>'
        )

    def _times(self) -> Iterator[str]:
        y = self._bottom
        yield line(self._left, y + 0.5, self._right, y + 0.5, 'class="l"')
        taken = 0.0
        for tick in self._axis.ticks:
            x = self._left + _DOT / 2 + tick.place
            texts = tick.label.split("<br>")
            half = max(map(measure, texts)) / 2
            middle = max(self._left + half - 20, min(self._right - half, x))
            if middle - half < taken:
                continue
            taken = middle + half + 8
            yield line(x, y, x, y + 5, 'class="l"')
            for index, text in enumerate(texts):
                at = f'x="{middle:.1f}" y="{y + 17 + 14 * index:.1f}"'
                yield f'<text class="q" text-anchor="middle" {at}>{escaped(text)}</text>'

    def _legend(self) -> str:
        x, y = self._left, self._bottom + _AXIS + 12
        there = {item.kind for item in self._items}
        marks = []
        for kind, text in (
            ("event", "event"), ("handling", "handling"), ("waiting", "waiting"), ("commit", "commit"),
            ("failure", "failure"),
        ):  # fmt: skip
            if kind not in there and not (kind == "waiting" and "handling" in there):
                continue
            if x + 22 + measure(text) > self._right:
                break
            marks.append(_sample(kind, x, y - 4))
            marks.append(f'<text class="q" x="{x + 20:.1f}" y="{y:.1f}">{text}</text>')
            x += 20 + measure(text) + 14
        return "".join(marks)

    # -- the marks

    def _marks(self, spots: Sequence[Spot]) -> Iterator[str]:
        of_node: dict[str, dict[Kind, list[Spot]]] = {strip.lane.name: {} for strip in self._strips}
        names = {node: strip.lane.name for node, strip in self._of_node.items()}
        for spot in spots:
            of_node[names[spot.item.node]].setdefault(spot.item.kind, []).append(spot)
        for strip in self._strips:
            kinds = of_node[strip.lane.name]
            if kinds:
                yield from self._group(strip, kinds) if strip.lane.is_group else self._lane(strip, kinds)

    def _lane(self, strip: _Strip, kinds: Mapping[Kind, Sequence[Spot]]) -> Iterator[str]:
        stroke = f'stroke="{strip.colour}" stroke-width'
        waits, bars = self._bars(kinds.get("handling", ()), waits=True)
        yield _path(waits, f'{stroke}="1.5" opacity=".7"')
        yield _path(bars, f'{stroke}="{_BAR:.0f}" opacity=".5"')
        yield _path(self._apart(kinds.get("event", ())), f'{stroke}="{_DOT:.0f}" stroke-linecap="round"')
        squares = self._apart(kinds.get("commit", ()))
        yield _path(squares, f'{stroke}="{_SQUARE:.0f}"', _SQUARE)
        yield self._crosses(kinds.get("failure", ()))

    def _group(self, strip: _Strip, kinds: Mapping[Kind, Sequence[Spot]]) -> Iterator[str]:
        """Draw a group: a histogram of the events above, a raster with a row for each node below."""
        row = max(1.0, min(6.0, (strip.height - _HISTOGRAM - 8) / len(strip.lane.nodes)))
        yield self._histogram(strip, kinds.get("event", ()))
        _, bars = self._bars(kinds.get("handling", ()), waits=False)
        yield _path(bars, f'stroke="{strip.colour}" stroke-width="{row:.1f}" opacity=".75"')
        commits = self._apart(kinds.get("commit", ()))
        yield _path(commits, f'stroke="{strip.colour}" stroke-width="{row + 1:.1f}"', 2.0)
        yield self._crosses(kinds.get("failure", ()))

    def _histogram(self, strip: _Strip, spots: Sequence[Spot]) -> str:
        bins = Counter(int((spot.x - self._left) / _BIN) for spot in spots)
        most, across, path = max(bins.values(), default=1), _BIN - 1, ""
        for number, events in sorted(bins.items()):
            x, height = self._left + _BIN * number, max(1.5, (_HISTOGRAM - 4) * events / most)
            path += f"M{x:.0f} {strip.top + _HISTOGRAM - height:.1f}h{across:.0f}v{height:.1f}h-{across:.0f}z"
        return f'<path d="{path}" style="fill:{strip.colour}"/>' if path else ""

    def _crosses(self, spots: Sequence[Spot]) -> str:
        path = "".join(f"M{x - 4:.0f} {y - 4:.0f}l8 8m0-8l-8 8" for x, y in self._apart(spots))
        return f'<path d="{path}" stroke="var(--bad)" stroke-width="2"/>' if path else ""

    def _apart(self, spots: Iterable[Spot]) -> list[tuple[float, float]]:
        """Return the places of marks, and of those that are closer than the grain only one."""
        found: dict[tuple[int, float], tuple[float, float]] = {}
        for spot in spots:
            found.setdefault((round(spot.x / self._grain), spot.y), (spot.x, spot.y))
        return list(found.values())

    def _bars(
        self, spots: Iterable[Spot], *, waits: bool
    ) -> tuple[list[tuple[float, float, float]], list[tuple[float, float, float]]]:
        """Return the lines of waiting and of handling: start, end and height; those that touch are one."""
        waiting: list[tuple[float, float, float]] = []
        runs: dict[float, tuple[float, float, float]] = {}
        bars: list[tuple[float, float, float]] = []
        for spot in spots:
            y, end = spot.y, max(spot.x + _LEAST_BAR, spot.end)
            start = self._x(max(since(spot.item), self._items[0].time)) if waits else spot.x
            if spot.x - start > _SMALLEST_GAP:
                waiting.append((start, spot.x, y + _BAR / 2 + 2))
            run = runs.get(y)
            if run is not None and spot.x <= run[1] + self._grain:
                runs[y] = run[0], max(run[1], end), y
            else:
                bars += [run] if run is not None else []
                runs[y] = spot.x, end, y
        return _joined(waiting), [*bars, *runs.values()]

    # -- causes and effects

    def _story(self, chosen: TimelineItem | None) -> Iterator[str]:
        """Draw a ring around an item, and curves from its causes and to its effects."""
        if chosen is None or chosen.node not in self._of_node:
            return
        causes = [chosen, *self._shown.causes(chosen)]
        pairs = [(one, other) for other, one in pairwise(causes)]
        pairs += [(chosen, effect) for effect in self._shown.effects(chosen)]
        path, ends = "", ""
        visible = [pair for pair in pairs if all(map(self._is_visible, pair))][:_MAX_CURVES]
        for one, other in visible:
            (x0, y0), (x1, y1) = self._place(one), self._place(other)
            bend = max(-30.0, min(40.0, (x1 - x0) / 2)) or 12.0
            path += f"M{x0:.0f} {y0:.0f}C{x0 + bend:.0f} {y0:.0f} {x1 - bend:.0f} {y1:.0f} {x1:.0f} {y1:.0f}"
            ends += f"M{x1:.0f} {y1:.0f}h0"
        yield f'<path class="cause" d="{path}" stroke="var(--accent)" stroke-width="1.6"/>' if path else ""
        look = 'stroke="var(--accent)" stroke-width="5" stroke-linecap="round"'
        yield f'<path class="cause" d="{ends}" {look}/>' if ends else ""
        if self._is_visible(chosen):
            x, y = self._place(chosen)
            ring = 'fill="none" stroke="var(--accent)" stroke-width="2"'
            yield f'<circle class="chosen" cx="{x:.1f}" cy="{y:.1f}" r="8" {ring}/>'

    def _is_visible(self, item: TimelineItem) -> bool:
        return item.node in self._of_node and self._items[0].time <= item.time <= self._items[-1].time

    def _place(self, item: TimelineItem) -> tuple[float, float]:
        return self._x(item.time), self._y(item)


def _lane_title(lane: Lane) -> str:
    return f"▸ {clean(lane.name)} ({len(lane.nodes):,})" if lane.is_group else clean(lane.name)


def _joined(runs: Sequence[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    """Put lines that overlap together."""
    found: list[tuple[float, float, float]] = []
    for start, end, y in sorted(runs, key=lambda run: (run[2], run[0])):
        if found and found[-1][2] == y and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end), y
        else:
            found.append((start, end, y))
    return found


def _path(places: Sequence[tuple[float, ...]], look: str, least: float = 0.0) -> str:
    """Draw dots at places, or lines from start to end at a height, as one path."""
    path = ""
    for each in places:
        if len(each) == 2:  # noqa: PLR2004 - a place
            path += f"M{each[0] - least / 2:.0f} {each[1]:.1f}h{least:g}"
        else:
            path += f"M{each[0]:.0f} {each[2]:.1f}H{max(each[0] + 1, each[1]):.0f}"
    return f'<path d="{path}" {look}/>' if path else ""


def _sample(kind: str, x: float, y: float) -> str:
    stroke = 'stroke="var(--soft)"'
    if kind == "event":
        return f'<path d="M{x + 8:.0f} {y:.0f}h0" {stroke} stroke-width="8" stroke-linecap="round"/>'
    if kind == "commit":
        return f'<path d="M{x + 4:.0f} {y:.0f}h7" {stroke} stroke-width="7"/>'
    if kind == "failure":
        return f'<path d="M{x + 4:.0f} {y - 4:.0f}l8 8m0-8l-8 8" stroke="var(--bad)" stroke-width="2"/>'
    width = 9 if kind == "handling" else 1.5
    return f'<path d="M{x:.0f} {y:.0f}h15" {stroke} stroke-width="{width}" opacity=".6"/>'
