"""The part of a timeline that is right of now: scheduled events, in outline, with the times they are due."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from happen_nb._display.plots.scene import TimeAxis, break_gaps, clock
from happen_nb._display.plots.svg_parts import escaped, fit, line, measure
from happen_nb._display.plots.timeline import TimelineItem, type_of
from happen_nb._display.plots.timeline_marks import DOT
from happen_nb._display.spans import from_ns

_SHARE: Final = 0.3
"""Of the width, beside what has happened."""
_LEAST_WIDTH, _MOST_WIDTH = 70.0, 280.0
_GAP: Final = 12.0  # pixels left and right of the line that marks now
_LEAST_LABEL: Final = 44.0  # pixels of a type that is cut
_FROM_MARK: Final = 8.0  # pixels from the middle of a mark to its label


class Coming:
    """The scheduled events of a timeline: they have a time axis of their own, from now on.

    Parameters
    ----------
    items : sequence of TimelineItem
        The scheduled events, by due time.
    now : int
        The time of the space, in ns. It may be far from that of what has happened: on a manual clock, that
        was stored in the time of the server.
    left, right : float
        The pixels of the whole timeline.
    alone : bool
        Nothing has happened yet.
    """

    def __init__(
        self, items: Sequence[TimelineItem], now: int, left: float, right: float, *, alone: bool
    ) -> None:
        self.items = items
        width = right - left
        self.now = left + DOT if alone else right - min(_MOST_WIDTH, max(_LEAST_WIDTH, _SHARE * width))
        """The pixel of now."""
        self.left, self.right = self.now + _GAP, right
        self.axis: TimeAxis = break_gaps(
            [now, *(max(now, item.time) for item in items)], right - self.left - DOT
        )
        self._first = now

    def place(self, item: TimelineItem) -> float:
        """Return the pixel of a scheduled event."""
        return self.left + DOT / 2 + self.axis.exact_place(max(self._first, item.time))

    def ground(self, top: float, bottom: float, number: int) -> Iterator[str]:
        """Draw the line that marks now, and write how many of `number` events are to the right of it."""
        look = 'stroke="var(--soft)" stroke-dasharray="3 3"'
        yield line(self.now, top + 2, self.now, bottom, look)
        for each in self.axis.breaks:  # on the axis only: a band would be behind the labels
            x = self.left + DOT / 2 + each.place
            yield f'<path d="M{x - 4:.0f} {bottom + 4:.0f}l4 -8m2 8l4 -8" stroke="var(--soft)"/>'
        shown = len(self.items)
        text = "to come" if number <= shown else f"next {shown:,} of {number:,}"
        at = f'x="{self.now + 6:.1f}" y="{top + 12:.1f}"'
        yield f'<text class="q" {at}>{escaped(fit(text, self.right - self.now - 6))}</text>'

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
            text, due = type_of(item), self._due(item)
            room_after, room_before = following - x - _FROM_MARK, x - _FROM_MARK - taken - 4
            needed = max(measure(text), measure(due))
            if room_after >= min(needed, max(_LEAST_LABEL, room_before)):
                at, anchor, room = x + _FROM_MARK, "start", room_after
            elif room_before >= min(needed, _LEAST_LABEL):
                at, anchor, room = x - _FROM_MARK, "end", room_before
            else:
                taken = x + _FROM_MARK
                continue
            lines = [(text, y + 4, "")]
            if measure(due) <= room:
                lines.append((due, y + 18, ' class="q"'))
            for each, height, look in lines:
                place = f'x="{at:.1f}" y="{height:.1f}" text-anchor="{anchor}"'
                yield f"<text{look} {place}>{escaped(fit(each, room))}</text>"
            taken = x + _FROM_MARK + (min(room, needed) if anchor == "start" else 0)

    def _due(self, item: TimelineItem) -> str:
        time, now = from_ns(item.time), from_ns(self._first)
        text = clock(item.time)[:8]  # to the second
        return text if time.date() == now.date() else f"{time.day} {time:%b %H:%M}"
