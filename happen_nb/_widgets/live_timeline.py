"""The timeline of a space, which follows what happens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from happen_nb._api.base import page_of, runtime_of
from happen_nb._api.events import Event
from happen_nb._api.handlers import handler_sources
from happen_nb._api.history import Commit
from happen_nb._display.page import Page
from happen_nb._display.plots.timeline import ItemKey, Timeline, TimelineItem, sums
from happen_nb._display.plots.timeline_drawing import WIDTH, DrawnTimeline, draw
from happen_nb._display.timeline_pages import (
    gone_page,
    handling_page,
    story_blocks,
    sums_page,
    timeline_page,
    tip,
)
from happen_nb._display.values import Budget
from happen_nb._widgets.live_picture import PICTURE_SCRIPTS, LivePicture, PictureView
from happen_nb._widgets.panes import script

if TYPE_CHECKING:
    from happen_nb._api.pictures import JournalReader
    from happen_nb._api.space import Space
    from happen_nb._display.page import Block
    from happen_nb._model.causality import TimeBase
    from happen_nb._model.records import EventRecord

MAX_FIND_CHARACTERS: Final = 200
_LEAST_WINDOW: Final = 10_000  # ns

Window = tuple[int, int]


@dataclass(slots=True)
class TimelineView(PictureView):
    """A place that shows a timeline, and what it shows."""

    drawn: DrawnTimeline = field(default_factory=lambda: DrawnTimeline(""))
    window: Window | None = None
    selection: Window | None = None
    find: str = ""
    chosen: ItemKey | None = None


class LiveTimeline(LivePicture[TimelineView]):
    """A picture of the events and commits of each node over time; created by ``space.timeline``.

    A dot is an event, a bar a handling, a thin line the time for which its event waited, a square a commit,
    a cross a failure, and a ring right of now a scheduled event. It follows the space until you zoom in.

    Examples
    --------
    >>> event = orders.broadcast("order.paid")
    >>> commit = orders.state.set({"paid": 1})
    >>> space.timeline()
    Timeline of ... · 1 event · 1 commit
      orders  1 event · 1 commit
    """

    _esm = script(*PICTURE_SCRIPTS, "live_timeline")
    _make_view = TimelineView

    def __init__(
        self, space: Space, reader: JournalReader, nodes: Sequence[str] | None, by: TimeBase
    ) -> None:
        self._nodes, self._by = nodes, by
        super().__init__(space, reader)
        self._runtime = runtime_of(space)

    @property
    def svg(self) -> str:
        """The picture, for light and dark pages."""
        return self._static(WIDTH)

    def _static(self, width: int) -> str:
        return draw(self._shown, width=width, chosen=self._shown.story()).svg

    def _renew(self) -> None:
        self._shown = Timeline(self._reader.slice, nodes=self._nodes, by=self._by)

    def _page(self) -> Page:
        return timeline_page(self._shown, self._static)

    def _drawn(self, view: TimelineView) -> dict[str, Any]:
        view.drawn = draw(
            self._shown,
            width=view.width,
            window=view.window,
            opened=view.opened,
            find=view.find,
            chosen=self._chosen(view) or self._shown.story(),
            live=True,
        )
        groups = [[name, True] for name in sorted(view.opened)]
        return {
            "svg": view.drawn.svg,
            "moves": [],
            "groups": groups,
            "is_part": view.window is not None,
            "selected": view.selection is not None,
        }

    def _chosen(self, view: TimelineView) -> TimelineItem | None:
        return None if view.chosen is None else self._shown.by_key.get(view.chosen)

    # -- what the reader does ------------------------------------------------------------------------

    def _act(self, view: TimelineView, message: Mapping[str, Any]) -> Page | None:
        do = message["do"]
        if do == "point":
            self._point(view, message)
            return None
        view.is_stale = True
        if do == "choose":
            return self._choose(view, view.drawn.at(float(message["x"]), float(message["y"])))
        if do == "step":
            return self._choose(view, self._next(view, str(message["to"])))
        if do == "select":
            return self._select(view, float(message["from"]), float(message["to"]))
        if do == "find":
            view.find = str(message["text"])[:MAX_FIND_CHARACTERS]
        elif do == "zoom":
            self._zoom(view, str(message["to"]))
        elif do == "group":
            view.opened ^= {str(message["name"])}
        elif do == "press":
            number = int(str(message["key"])[1:])
            if number < len(view.drawn.lanes):
                view.opened ^= {view.drawn.lanes[number].name}
        return None

    def _point(self, view: TimelineView, message: Mapping[str, Any]) -> None:
        item = view.drawn.at(float(message["x"]), float(message["y"]))
        text = "" if item is None else tip(item)
        self.send({"type": "tip", "view": message["view"], "request": message["request"], "text": text})

    def _choose(self, view: TimelineView, item: TimelineItem | None) -> Page | None:
        if item is None:
            return None
        view.chosen = item.key
        return self._item_page(item)

    def _next(self, view: TimelineView, to: str) -> TimelineItem | None:
        """Return the item to which a key leads from the chosen one."""
        item = self._chosen(view) or self._shown.story()
        if item is None:
            marks = (*self._shown.items, *self._shown.coming)
            return next((each for each in marks if each.kind != "handling"), None)
        if to in {"cause", "effect"}:
            found = self._shown.causes(item) if to == "cause" else self._shown.effects(item)
            return found[0] if found else item
        mine = [each for each in (*self._shown.items, *self._shown.coming) if each.node == item.node]
        number = mine.index(item) + (1 if to == "next" else -1)
        return mine[max(0, min(len(mine) - 1, number))]

    def _select(self, view: TimelineView, one: float, other: float) -> Page | None:
        if view.drawn.axis is None:
            return None
        first, last = sorted((view.drawn.time(one), view.drawn.time(other)))
        view.selection = first, last
        return sums_page(sums(self._shown, view.selection, view.drawn.lanes), view.selection)

    def _zoom(self, view: TimelineView, to: str) -> None:
        items = self._shown.items
        if to == "all" or not items or view.drawn.axis is None:
            view.window = view.selection = None
            return
        if to == "selection" and view.selection is not None:
            first, last = view.selection
        else:
            left, right = view.drawn.left, view.drawn.right
            away = (right - left) / 4
            first, last = view.drawn.time(left + away), view.drawn.time(right - away)
            if to == "out":
                start, end = view.window or (first, last)
                first, last = start - (end - start) // 2, end + (end - start) // 2
        view.selection = None
        view.window = first, max(last, first + _LEAST_WINDOW)
        if first <= items[0].time and last >= max(item.end for item in items):
            view.window = None

    # -- what is known of an item --------------------------------------------------------------------

    def _item_page(self, item: TimelineItem) -> Page:
        event = None if item.event is None else self._whole(item.event)
        if item.commit is not None:
            whole = self._shown.journal.whole_commit(item.commit)
            if whole is None:
                return gone_page(item)
            about = page_of(Commit(*whole), Budget())
        else:
            assert event is not None
            about = page_of(Event(event, self._runtime), Budget())
        causes = self._shown.causes(item)
        root = causes[-1].event if causes else event
        trace = None if root is None else page_of(self._space.trace(Event(root, self._runtime)), Budget())
        blocks: list[Block] = [*about.blocks, *story_blocks(trace, self._source(item))]
        if item.handling is None:
            return Page(about.heading, blocks)
        return handling_page(item, item.handling, blocks)

    def _whole(self, event: EventRecord) -> EventRecord:
        """Return an event with its payload, if it is still stored."""
        return next(iter(self._shown.journal.with_payloads([event])), event)

    def _source(self, item: TimelineItem) -> str | None:
        """Return the source of the handler that an item is of, if it is in this process."""
        if item.handling is None:
            return None
        sources = handler_sources(self._runtime.registrations, [item.node])
        return sources.get((item.node, item.handling.handler))
