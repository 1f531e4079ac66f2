"""The timeline as SVG: a lane for each node, time from left to right, idle time left out.

A dot is an event, a bar a handling, a thin line the time that its event waited, a square a commit, a cross a
failure. Scheduled events are rings to the right of now. The colour is that of the node. A group of nodes is
one lane: a histogram of its events above a raster with a row for each node.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import hypot
from typing import Final

from happen_nb._display import clean, plots
from happen_nb._display.plots import BREAK_WIDTH, TimeAxis, empty_note
from happen_nb._display.plots.graph import Group
from happen_nb._display.plots.timeline import Timeline, TimelineItem
from happen_nb._display.plots.timeline_marks import (
    BAR,
    DOT,
    HISTOGRAM,
    LEAST_BAR,
    MarkPen,
    ScheduledMarks,
    Spots,
    Strip,
    sample,
)

_TOP, _STRIP, _AXIS, _LEGEND = 24.0, 18.0, 38.0, 22.0  # pixels of title, break labels, times and legend
_KINDS: Final = (
    "event", "handling", "waiting", "commit", "failure", "scheduled",
)  # fmt: skip
_KEPT_END: Final = 6  # characters of the name of a lane, such as " (now)"
_WIDEST_NAME: Final = 150.0
_LANE, _LOW_LANE, _MANY = 44.0, 34.0, 10  # pixels of a lane, lower if there are many
_GROUP, _MOST_GROUP = 64.0, 150.0  # of a group: at least, at most
_BETWEEN: Final = 8.0  # pixels between two labels of breaks
_REACH: Final = 12.0  # from the pointer to the mark that is meant
_MAX_CURVES: Final = 40


@dataclass(frozen=True)
class DrawnTimeline:
    """A picture, with the data to find the item at a pixel."""

    svg: str
    spots: Spots = field(default_factory=Spots)
    axis: TimeAxis | None = None
    left: float = 0.0
    right: float = 0.0
    lanes: Sequence[Group] = ()

    def at(self, x: float, y: float) -> TimelineItem | None:
        """Return the item at a pixel: the nearest mark, else the handling whose bar is there."""
        spots = self.spots
        near = [
            (hypot(left - x, top - y), number)
            for number, (left, top) in enumerate(zip(spots.xs, spots.ys, strict=True))
            if abs(left - x) <= _REACH and abs(top - y) <= _REACH and spots.items[number].kind != "handling"
        ]
        if near and min(near)[0] <= _REACH:
            return spots.items[min(near)[1]]
        bars = [
            (abs(top - y), number)
            for number, top in enumerate(spots.ys)
            if abs(top - y) <= BAR
            and spots.xs[number] - 3 <= x <= spots.ends[number] + 3
            and spots.items[number].kind == "handling"
        ]
        return spots.items[min(bars)[1]] if bars else None

    def time(self, x: float) -> int:
        assert self.axis is not None
        place = x - self.left
        segments = self.axis.segments
        segment = min(segments, key=lambda each: max(each.left - place, place - each.right, 0.0))
        share = (place - segment.left) / ((segment.right - segment.left) or 1.0)
        # Added to an int: a float cannot hold the nanoseconds since 1970.
        return segment.start + round(max(0.0, min(1.0, share)) * (segment.end - segment.start))


def draw_timeline(
    shown: Timeline,
    *,
    width: int = plots.WIDTH,
    window: tuple[int, int] | None = None,
    opened: Collection[str] = (),
    find: str = "",
    chosen: TimelineItem | None = None,
    live: bool = False,
) -> DrawnTimeline:
    """Draw a timeline as SVG for light and dark pages.

    Without a `window` (ns since 1970), all of the time is shown. The nodes of the `opened` groups have lanes
    of their own. Items without the text to `find` step back, and the causes and effects of the `chosen` one
    are shown. The names of groups in a `live` picture can be pressed.
    """
    width = max(plots.LEAST_WIDTH, width)
    lanes, known = shown.lanes(opened)
    nodes = {node for lane in lanes for node in lane.nodes}
    items = shown.between(window, nodes)
    coming = [item for item in shown.coming if item.node in nodes] if window is None else []
    if not (items or coming):
        note = "Nothing happened in this time."
        if window is None:
            note = empty_note("events or commits", shown.journal.pattern)
        return DrawnTimeline(plots.nothing("Timeline of", shown.journal.space, note, width, 80))
    matching = shown.matches(find) if find else None
    drawing = _TimelineDrawing(shown, width, lanes, items, coming, live=live)
    return drawing.draw(shown.facts(lanes, known), matching, chosen)


class _TimelineDrawing:
    """The pen of one timeline."""

    def __init__(
        self,
        shown: Timeline,
        width: int,
        lanes: Sequence[Group],
        items: Sequence[TimelineItem],
        coming: Sequence[TimelineItem],
        *,
        live: bool,
    ) -> None:
        self._shown, self._width, self._items, self._live = shown, width, items, live
        names = [plots.measure(_lane_title(lane), bold=True) for lane in lanes]
        self._name_room = min(_WIDEST_NAME, 0.3 * width, max(names))
        self._left = plots.EDGE + self._name_room + 14
        self._right = self._end = width - plots.EDGE
        self._coming: ScheduledMarks | None = None
        if coming:
            now = shown.journal.now
            self._coming = ScheduledMarks(coming, now, self._left, self._right, alone=not items)
            self._end = self._coming.now - DOT
        self._axis = shown.axis(items, self._end - self._left - DOT)
        self._labels_breaks = bool(self._axis.breaks) and not shown.by_manual_clock
        self._strips = list(self._lay(lanes))
        self._of_node = {node: strip for strip in self._strips for node in strip.lane.nodes}
        self._rows = {node: n for strip in self._strips for n, node in enumerate(strip.lane.nodes)}
        self._bottom = self._strips[-1].top + self._strips[-1].height
        self._spots = self._find_spots()

    def _lay(self, lanes: Sequence[Group]) -> Iterator[Strip]:
        top = _TOP + (_STRIP if self._labels_breaks or self._coming else 4)
        colours = plots.colours_of((lane.nodes[0] for lane in lanes), self._shown.journal.colours)
        for lane in lanes:
            if not lane.is_single:
                height = min(_MOST_GROUP, max(_GROUP, HISTOGRAM + 8 + len(lane.nodes)))
            else:
                height = _LANE if len(lanes) <= _MANY else _LOW_LANE
            yield Strip(lane, top, height, colours[lane.nodes[0]])
            top += height

    def draw(
        self, facts: Sequence[str], matching: Collection[TimelineItem] | None, chosen: TimelineItem | None
    ) -> DrawnTimeline:
        title = plots.heading("Timeline of", self._shown.journal.space, facts, self._width)
        parts = [title, *self._ground()]
        parts += [self._marks(matching), *self._labels(), *self._story(chosen)]
        legend, height = self._legend()
        parts += [*map(self._name, range(len(self._strips))), *self._times(), legend]
        about = f"Timeline of {self._shown.journal.space}: {', '.join(facts)}"
        lanes = [strip.lane for strip in self._strips]
        role = "group" if self._live else "img"
        drawn = plots.svg(about, self._width, height, "".join(parts), role=role)
        left, right = self._left + DOT / 2, self._end - DOT / 2
        return DrawnTimeline(drawn, self._spots, self._axis, left, right, lanes)

    def _marks(self, matching: Collection[TimelineItem] | None) -> str:
        pen = MarkPen(self._spots, self._strips, self._places, self._left)
        items = self._spots.items
        if matching is None:
            return pen.draw(range(len(items)), ())
        front = [number for number, item in enumerate(items) if item in matching]
        return pen.draw(front, [number for number, item in enumerate(items) if item not in matching])

    def _places(self, times: Sequence[int]) -> list[float]:
        away = self._left + DOT / 2
        return [away + place for place in self._axis.places(times)]

    def _find_spots(self) -> Spots:
        items = [*self._items, *self._coming.items] if self._coming else self._items
        xs = self._places([item.time for item in self._items])
        ends = self._places([item.end for item in self._items])
        if self._coming:
            later = list(map(self._coming.place, self._coming.items))
            xs, ends = xs + later, ends + later
        of_kind = {
            kind: {node: strip.y(kind, self._rows[node]) for node, strip in self._of_node.items()}
            for kind in {item.kind for item in items}
        }
        ys = [of_kind[item.kind][item.node] for item in items]
        ends = [max(x + LEAST_BAR, end) if end > x else x for x, end in zip(xs, ends, strict=True)]
        return Spots(items, xs, ys, ends)

    # -- the ground

    def _ground(self) -> Iterator[str]:
        for strip in self._strips[1::2]:
            look = 'style="fill:var(--soft)" opacity=".06"'
            yield plots.rect(0, strip.top, self._width, strip.height, look)
        for each in self._axis.breaks:
            x = self._left + DOT / 2 + each.place
            half, top, height = BREAK_WIDTH / 2 - 2, self._strips[0].top, self._bottom - self._strips[0].top
            yield plots.rect(x - half, top, 2 * half, height, 'style="fill:var(--soft)" opacity=".16"')
        yield from self._break_labels()
        if self._coming:
            yield from self._coming.ground(_TOP, self._bottom, self._shown.journal.to_come)

    def _break_labels(self) -> Iterator[str]:
        """Write above a break how long it is, if there is room between its neighbours."""
        breaks = self._axis.breaks if self._labels_breaks else []
        places = [self._left + DOT / 2 + each.place for each in breaks]
        nexts = [place - BREAK_WIDTH / 2 for place in places[1:]]
        taken = 0.0
        for each, place, until in zip(breaks, places, [*nexts, self._width], strict=False):
            label = f"{each.label} idle"
            half = plots.measure(label) / 2
            middle = max(self._left + half, min(self._end - half, place))
            if taken <= middle - half and middle + half <= until:
                yield plots.text(middle, _TOP + 12, label, "q", anchor="middle")
                taken = middle + half + _BETWEEN
            taken = max(taken, place + BREAK_WIDTH / 2)

    def _name(self, number: int) -> str:
        strip = self._strips[number]
        title = plots.fit(_lane_title(strip.lane), self._name_room, bold=True, end=_KEPT_END)
        key = f"g{number}" if self._live and not strip.lane.is_single else ""
        bar = plots.rect(
            plots.EDGE - 6, strip.top + 6, 3, strip.height - 12, f'rx="1.5" style="fill:{strip.colour}"'
        )
        name = plots.text(plots.EDGE + 2, strip.middle + 4, title, "b")
        return bar + plots.titled(strip.lane.name, name, key=key, press="open")

    def _times(self) -> Iterator[str]:
        y = self._bottom
        yield plots.line(self._left, y + 0.5, self._right, y + 0.5, 'class="l"')
        taken = 0.0
        axes = []
        if self._items:
            axes.append((self._shown.ticks(self._axis, self._items), self._left, self._end))
        if self._coming:
            axes.append((self._coming.ticks, self._coming.left, self._right))
        places = [
            (left + DOT / 2 + tick.place, tick.label, right) for ticks, left, right in axes for tick in ticks
        ]
        for x, label, right in places:
            texts = label.split("\n")
            half = max(map(plots.measure, texts)) / 2
            middle = max(self._left + half - 20, min(right - half, x))
            if middle - half < taken:
                continue
            taken = middle + half + 8
            yield plots.line(x, y, x, y + 5, 'class="l"')
            for index, each in enumerate(texts):
                yield plots.text(middle, y + 17 + 14 * index, each, "q", anchor="middle")

    def _legend(self) -> tuple[str, float]:
        """Draw a sample of each kind, in as many rows as they need; return also the lower end."""
        y = self._bottom + _AXIS + 12
        there = {item.kind for item in self._spots.items}
        named = [kind for kind in _KINDS if ("handling" if kind == "waiting" else kind) in there]
        whole = sum(20 + plots.measure(kind) + 14 for kind in named)
        x = max(plots.EDGE, min(self._left, self._right - whole))
        marks = []
        for kind in named:
            if x + 22 + plots.measure(kind) > self._right:
                x, y = plots.EDGE, y + 18
            marks.append(sample(kind, x, y - 4))
            marks.append(plots.text(x + 20, y, kind, "q"))
            x += 20 + plots.measure(kind) + 14
        return "".join(marks), y - 12 + _LEGEND

    def _labels(self) -> Iterator[str]:
        if self._coming:
            tops = {
                node: strip.y("scheduled", 0) for node, strip in self._of_node.items() if strip.lane.is_single
            }
            yield from self._coming.labels(tops)

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
        if item.node not in self._of_node:
            return False
        if item.kind == "scheduled":
            return self._coming is not None
        return bool(self._items) and self._items[0].time <= item.time <= self._items[-1].time

    def _place(self, item: TimelineItem) -> tuple[float, float]:
        y = self._of_node[item.node].y(item.kind, self._rows[item.node])
        if self._coming is not None and item.kind == "scheduled":
            return self._coming.place(item), y
        return self._left + DOT / 2 + self._axis.place(item.time), y


def _lane_title(lane: Group) -> str:
    return f"▸ {clean(lane.name)} ({len(lane.nodes):,})" if not lane.is_single else clean(lane.name)
