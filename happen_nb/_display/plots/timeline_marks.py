"""The marks of a timeline and of scheduled events: their places, and paths that draw many at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Final, NamedTuple

from happen_nb._display import plots
from happen_nb._display.plots import Tick, TimeAxis, break_gaps, clock
from happen_nb._display.plots.graph import Group
from happen_nb._display.plots.timeline import Kind, TimelineItem, since, type_of
from happen_nb._model.schedules import from_ns

MAX_CHARACTERS: Final = 80_000  # maximum characters of all marks; with more, neighbouring marks are merged
DOT: Final = 8.0
BAR: Final = 9
LEAST_BAR: Final = 2.0
_SQUARE: Final = 7
_RING: Final = 6  # pixels from one scheduled event to the next, at least
HISTOGRAM: Final = 24.0  # pixels of the upper part of a group
_BIN: Final = 4.0  # pixels of a bar of the histogram
_GRAINS: Final = (1, 2, 4, 8, 16)  # pixels from one mark to the next
_MANY_SPOTS: Final = 10_000  # with more, the finest is not tried
_SMALLEST_GAP: Final = 1.0
Numbers = list[int]  # the numbers of some spots
Places = Callable[[Sequence[int]], list[float]]
_SHARE: Final = 0.3  # share of the width for scheduled events
_LEAST_WIDTH, _MOST_WIDTH = 70.0, 280.0
_GAP: Final = 12.0  # pixels left and right of the line that marks now
_LEAST_LABEL: Final = 44.0  # pixels of a type that is cut
_FROM_MARK: Final = 8.0  # pixels from the middle of a mark to its label


class Strip(NamedTuple):
    """A lane on the picture."""

    lane: Group
    top: float
    height: float
    colour: str

    @property
    def middle(self) -> float:
        return self.top + self.height / 2

    def y(self, kind: Kind, row: int) -> float:
        """Return the height of an item of a node, which is in a row of its group."""
        if not self.lane.is_single:
            if kind in {"event", "scheduled"}:
                return self.top + HISTOGRAM / 2 + 2
            share = (row + 0.5) / len(self.lane.nodes)
            return self.top + HISTOGRAM + 4 + share * (self.height - HISTOGRAM - 8)
        away = self.height / 2 - 8
        return self.middle + {"event": -away, "scheduled": -away, "commit": away}.get(kind, 0.0)


class Spot(NamedTuple):
    """The place of an item; a handling ends at another pixel."""

    x: float
    y: float
    item: TimelineItem
    end: float


@dataclass(frozen=True, slots=True)
class Spots:
    """The places of all items, in columns: making an object for each would take longer than drawing them."""

    items: Sequence[TimelineItem] = ()
    xs: Sequence[float] = ()
    ys: Sequence[float] = ()
    ends: Sequence[float] = ()

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Spot]:
        return map(Spot, self.xs, self.ys, self.items, self.ends)


class MarkPen:
    """Draws the marks of one timeline.

    `places` returns the pixels of times; the bars of a histogram begin at the pixel `left`.
    """

    def __init__(self, spots: Spots, strips: Sequence[Strip], places: Places, left: float) -> None:
        self._spots, self._strips, self._places, self._left = spots, strips, places, left
        self._grain: int = _GRAINS[0]

    def draw(self, front: Iterable[int], back: Iterable[int]) -> str:
        """Draw the marks, those in `back` pale; the more there are, the more close ones are merged."""
        marks = ""
        strips, pale = self._by_strip(front), self._by_strip(back)
        # A grain that is twice as large leaves out half of the marks, at most.
        least = 1.0 if len(self._spots) < _MANY_SPOTS else 2.0
        for self._grain in _GRAINS:
            if self._grain < min(least, _GRAINS[-1]):
                continue
            parts = ['<g opacity=".16">', *self._drawn(pale), "</g>"] if pale else []
            marks = "".join([*parts, *self._drawn(strips)])
            if len(marks) <= MAX_CHARACTERS:
                break
            least = self._grain * len(marks) / MAX_CHARACTERS
        return marks

    def _by_strip(self, numbers: Iterable[int]) -> list[tuple[Strip, dict[Kind, Numbers]]]:
        found: list[tuple[Strip, dict[Kind, Numbers]]] = [(strip, {}) for strip in self._strips]
        of_node = {node: kinds for strip, kinds in found for node in strip.lane.nodes}
        items = self._spots.items
        for number in numbers:
            item = items[number]
            kinds = of_node[item.node]
            if item.kind in kinds:
                kinds[item.kind].append(number)
            else:
                kinds[item.kind] = [number]
        return [(strip, kinds) for strip, kinds in found if kinds]

    def _drawn(self, strips: Iterable[tuple[Strip, Mapping[Kind, Numbers]]]) -> Iterator[str]:
        for strip, kinds in strips:
            yield from self._lane(strip, kinds) if strip.lane.is_single else self._group(strip, kinds)

    def _lane(self, strip: Strip, kinds: Mapping[Kind, Numbers]) -> Iterator[str]:
        stroke = f'stroke="{strip.colour}" stroke-width'
        handlings = kinds.get("handling", [])
        yield _lines(self._waits(handlings), f'{stroke}="1.5" opacity=".7"')
        yield _lines(self._bars(handlings), f'{stroke}="{BAR}" opacity=".5"')
        yield _dots(self._apart(kinds.get("event", ())), f'{stroke}="{DOT:.0f}" stroke-linecap="round"')
        yield _dots(self._apart(kinds.get("commit", ())), f'{stroke}="{_SQUARE}"', _SQUARE)
        yield self._crosses(kinds.get("failure", ()))
        yield _rings(self._apart(kinds.get("scheduled", ()), _RING), strip.colour)

    def _group(self, strip: Strip, kinds: Mapping[Kind, Numbers]) -> Iterator[str]:
        """Draw a group: a histogram of the events above, a raster with a row for each node below."""
        row = max(1.0, min(6.0, (strip.height - HISTOGRAM - 8) / len(strip.lane.nodes)))
        stroke = f'stroke="{strip.colour}" stroke-width'
        yield self._histogram(strip, kinds.get("event", ()))
        yield _lines(self._bars(kinds.get("handling", ())), f'{stroke}="{row:.1f}" opacity=".75"')
        yield _dots(self._apart(kinds.get("commit", ())), f'{stroke}="{row + 1:.1f}"', 2)
        yield self._crosses(kinds.get("failure", ()))
        yield _rings(self._apart(kinds.get("scheduled", ()), _RING), strip.colour)

    def _histogram(self, strip: Strip, numbers: Iterable[int]) -> str:
        xs, left = self._spots.xs, self._left
        bins = Counter(int((xs[number] - left) / _BIN) for number in numbers)
        most, across, path = max(bins.values(), default=1), _BIN - 1, ""
        for number, events in sorted(bins.items()):
            x, height = left + _BIN * number, max(1.5, (HISTOGRAM - 4) * events / most)
            path += f"M{x:.0f} {strip.top + HISTOGRAM - height:.1f}h{across:.0f}v{height:.1f}h-{across:.0f}z"
        return f'<path d="{path}" style="fill:{strip.colour}"/>' if path else ""

    def _crosses(self, numbers: Iterable[int]) -> str:
        path = "".join(f"M{x - 4:.0f} {y - 4:.0f}l8 8m0-8l-8 8" for x, y in self._apart(numbers))
        return f'<path d="{path}" stroke="var(--bad)" stroke-width="2"/>' if path else ""

    def _apart(self, numbers: Iterable[int], least: int = 1) -> Iterable[tuple[float, float]]:
        """Return the places of marks, and of those that are closer than the grain only one."""
        xs, ys, grain = self._spots.xs, self._spots.ys, max(self._grain, least)
        return {(round(xs[each] / grain), ys[each]): (xs[each], ys[each]) for each in numbers}.values()

    def _bars(self, numbers: Iterable[int]) -> list[tuple[float, float, float]]:
        """Return the lines of handlings: start, end and height; those that touch are one."""
        xs, ys, ends, grain = self._spots.xs, self._spots.ys, self._spots.ends, self._grain
        runs: dict[float, tuple[float, float]] = {}
        bars: list[tuple[float, float, float]] = []
        for number in numbers:
            x, y = xs[number], ys[number]
            end = max(x + LEAST_BAR, ends[number])
            run = runs.get(y)
            if run is None:
                runs[y] = x, end
            elif x <= run[1] + grain:
                if end > run[1]:
                    runs[y] = run[0], end
            else:
                bars.append((*run, y))
                runs[y] = x, end
        return [*bars, *((start, end, y) for y, (start, end) in runs.items())]

    def _waits(self, numbers: Numbers) -> list[tuple[float, float, float]]:
        """Return the lines of waiting, below the bars."""
        items, xs, ys = self._spots.items, self._spots.xs, self._spots.ys
        starts = self._places([max(since(items[each]), items[0].time) for each in numbers])
        return _joined(
            (start, xs[each], ys[each] + BAR / 2 + 2)
            for start, each in zip(starts, numbers, strict=True)
            if xs[each] - start > _SMALLEST_GAP
        )


def _joined(runs: Iterable[tuple[float, float, float]]) -> list[tuple[float, float, float]]:
    found: list[tuple[float, float, float]] = []
    for start, end, y in sorted(runs, key=itemgetter(2, 0)):
        if found and found[-1][2] == y and start <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], end), y
        else:
            found.append((start, end, y))
    return found


def _rings(places: Iterable[tuple[float, float]], colour: str) -> str:
    """Draw scheduled events: dots in outline."""
    path = "".join(f"M{x - 3.5:.1f} {y:.1f}a3.5 3.5 0 1 0 7 0a3.5 3.5 0 1 0 -7 0" for x, y in places)
    return f'<path class="due" d="{path}" stroke="{colour}" stroke-width="1.8"/>' if path else ""


def _dots(places: Iterable[tuple[float, float]], look: str, length: int = 0) -> str:
    """Draw dots, or short lines, at places as one path."""
    return _path([(round(x - length / 2), length, y) for x, y in places], look)


def _lines(runs: Iterable[tuple[float, float, float]], look: str) -> str:
    """Draw lines from start to end at a height as one path."""
    return _path([(round(start), max(1, round(end - start)), y) for start, end, y in runs], look)


def _path(lines: list[tuple[int, int, float]], look: str) -> str:
    """Draw lines from a pixel, with a length, at a height; coordinates are relative, to be short."""
    parts: list[str] = []
    at, height = 0, -1.0
    for start, length, y in sorted(lines, key=itemgetter(2, 0)):
        parts.append(f"m{start - at} 0h{length}" if y == height else f"M{start} {y:.1f}h{length}")
        at, height = start + length, y
    return f'<path d="{"".join(parts)}" {look}/>' if parts else ""


def sample(kind: str, x: float, y: float) -> str:
    stroke = 'stroke="var(--soft)"'
    if kind == "event":
        return f'<path d="M{x + 8:.0f} {y:.0f}h0" {stroke} stroke-width="8" stroke-linecap="round"/>'
    if kind == "commit":
        return f'<path d="M{x + 4:.0f} {y:.0f}h7" {stroke} stroke-width="7"/>'
    if kind == "scheduled":
        return _rings([(x + 8, y)], "var(--soft)")
    if kind == "failure":
        return f'<path d="M{x + 4:.0f} {y - 4:.0f}l8 8m0-8l-8 8" stroke="var(--bad)" stroke-width="2"/>'
    width = 9 if kind == "handling" else 1.5
    return f'<path d="M{x:.0f} {y:.0f}h15" {stroke} stroke-width="{width}" opacity=".6"/>'


class ScheduledMarks:
    """The scheduled events of a timeline, by due time: they have a time axis of their own, from now on.

    `now` is the time of the space, in ns. It may be far from the times of past events: on a manual clock,
    these were stored in the time of the server. Where nothing has happened yet, they are `alone` between the
    pixels `left` and `right` of the timeline.
    """

    def __init__(
        self, items: Sequence[TimelineItem], now: int, left: float, right: float, *, alone: bool
    ) -> None:
        self.items = items
        width = right - left
        self.now = left + DOT if alone else right - min(_MOST_WIDTH, max(_LEAST_WIDTH, _SHARE * width))
        """The horizontal pixel of the present."""
        self.left, self.right = self.now + _GAP, right
        self.axis: TimeAxis = break_gaps(
            [now, *(max(now, item.time) for item in items)], right - self.left - DOT
        )
        self._first = now

    @property
    def ticks(self) -> list[Tick]:
        """The labels of the axis; scheduled events are often due at a whole second."""
        return [Tick(tick.place, tick.label.replace(".000", "")) for tick in self.axis.ticks]

    def place(self, item: TimelineItem) -> float:
        return self.left + DOT / 2 + self.axis.place(max(self._first, item.time))

    def ground(self, top: float, bottom: float, number: int) -> Iterator[str]:
        """Draw the line that marks now, and write how many of `number` events are to the right of it."""
        look = 'stroke="var(--soft)" stroke-dasharray="3 3"'
        yield plots.line(self.now, top + 2, self.now, bottom, look)
        for each in self.axis.breaks:  # on the axis only: a band would be behind the labels
            x = self.left + DOT / 2 + each.place
            yield f'<path d="M{x - 4:.0f} {bottom + 4:.0f}l4 -8m2 8l4 -8" stroke="var(--soft)"/>'
        shown = len(self.items)
        coming = "to come" if number <= shown else f"next {shown:,} of {number:,}"
        yield plots.text(self.now + 6, top + 12, plots.fit(coming, self.right - self.now - 6), "q")

    def labels(self, heights: Mapping[str, float]) -> Iterator[str]:
        """Write the types of the events beside their marks, and below when they are due, where there is room.

        `heights` are those of the marks of each node that has a lane of its own.
        """
        by_node: dict[str, list[TimelineItem]] = {}
        for item in self.items:
            if item.node in heights:
                by_node.setdefault(item.node, []).append(item)
        for node, items in by_node.items():
            yield from self._lane_labels(items, heights[node])

    def _lane_labels(self, items: Sequence[TimelineItem], y: float) -> Iterator[str]:
        places = [self.place(item) for item in items]
        taken = self.now
        for number, (item, x) in enumerate(zip(items, places, strict=True)):
            following = places[number + 1] - _FROM_MARK if number + 1 < len(items) else self.right
            type, due = type_of(item), self._due(item)
            room_after, room_before = following - x - _FROM_MARK, x - _FROM_MARK - taken - 4
            needed = max(plots.measure(type), plots.measure(due))
            if room_after >= min(needed, max(_LEAST_LABEL, room_before)):
                at, anchor, room = x + _FROM_MARK, "start", room_after
            elif room_before >= min(needed, _LEAST_LABEL):
                at, anchor, room = x - _FROM_MARK, "end", room_before
            else:
                taken = x + _FROM_MARK
                continue
            shown = plots.fit(type, room)
            written = plots.text(at, y + 4, shown, anchor=anchor)
            yield written if shown == type else plots.titled(type, written)
            if plots.measure(due) <= room:
                yield plots.text(at, y + 18, due, "q", anchor=anchor)
            taken = x + _FROM_MARK + (min(room, needed) if anchor == "start" else 0)

    def _due(self, item: TimelineItem) -> str:
        time, now = from_ns(item.time), from_ns(self._first)
        text = clock(item.time)[:8]  # to the second
        return text if time.date() == now.date() else f"{time.day} {time:%b %H:%M}"
