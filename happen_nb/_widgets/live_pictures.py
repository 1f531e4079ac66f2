"""The timeline and the graph of a space, which follow what happens.

The kernel draws them as SVG, again whenever something happens or the page has another width.
"""

from __future__ import annotations

import threading
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

import anywidget

from happen_nb._api.base import page_of, runtime_of
from happen_nb._api.diagrams import SvgFile
from happen_nb._api.events import Event
from happen_nb._api.handlers import handler_sources
from happen_nb._api.history import Commit
from happen_nb._display import describe_error, part
from happen_nb._display.live_output import ALIVE, Picture
from happen_nb._display.page import Block, Heading, Note, Page, bare_html, mime_bundle, render_html
from happen_nb._display.plots import WIDTH
from happen_nb._display.plots.graph import FlowKey, Graph, Load, flow_page, graph, graph_page, group_page
from happen_nb._display.plots.graph_drawing import DrawnGraph, draw_graph
from happen_nb._display.plots.timeline import (
    ItemKey,
    Timeline,
    TimelineItem,
    gone_page,
    handling_page,
    story_blocks,
    sums,
    sums_page,
    timeline_page,
    tip,
)
from happen_nb._display.plots.timeline_drawing import DrawnTimeline, draw_timeline
from happen_nb._display.values import Budget
from happen_nb._model.causality import NS, TimeBase
from happen_nb._runtime.cells import cells
from happen_nb._runtime.io import io_thread
from happen_nb._runtime.mailbox import Mailbox
from happen_nb._widgets.following import FollowsSpace, StaticFallback, Throttle, script, styles
from happen_nb.errors import HappenError

if TYPE_CHECKING:
    from happen_nb._api.pictures import JournalReader
    from happen_nb._api.space import Space
    from happen_nb._model.records import EventRecord
    from happen_nb._runtime.runtime import Runtime


FALLBACK_SECONDS: Final = 5.0  # seconds between two static fallbacks
MAX_VIEWS: Final = 8  # maximum number of views of a picture that are updated: the newest ones
_MOST_WIDTH: Final = 4000
MAX_MOVES: Final = 40  # maximum number of dots that move at once
MAX_FIND_CHARACTERS: Final = 200
_LEAST_WINDOW: Final = 10_000  # ns
Window = tuple[int, int]


@dataclass(slots=True)
class PictureView:
    """One place in a page that shows a picture."""

    width: int
    is_stale: bool = True
    opened: set[str] = field(default_factory=set)  # groups


View = TypeVar("View", bound=PictureView)


class LivePicture(FollowsSpace, SvgFile, anywidget.AnyWidget, Generic[View]):
    """A picture of a part of a journal, which follows the space while a page shows it."""

    _css = styles("live_picture")
    _default_width = WIDTH
    _make_view: ClassVar[Any] = PictureView

    def __init__(self, space: Space, reader: JournalReader) -> None:
        runtime = runtime_of(space)
        self._reader = reader
        self._space, self._runtime = space, runtime
        self._log = runtime.log  # a closed space has none: an error before there is a widget
        self._renew()
        super().__init__(_dom_classes=(ALIVE,))
        self._views: dict[str, View] = {}
        self._lock = threading.RLock()
        self._messages = Mailbox(runtime.workers)
        self._rested = 0.0  # on the monotonic clock: after a slow update, others have their turn
        self._throttle = Throttle(space, self._update)
        self._fallback = StaticFallback(space, self._picture, FALLBACK_SECONDS)
        self._follow_end(space)
        self.on_msg(self._on_message)
        cells.register(self.close)

    # -- what each picture is ------------------------------------------------------------------------

    @abstractmethod
    def _page(self) -> Page:
        """Return the static fallback, and the same as lines of text."""

    @abstractmethod
    def _drawn(self, view: View) -> dict[str, Any]:
        """Return what a page shows, with the ``svg``."""

    @abstractmethod
    def _act(self, view: View, message: Mapping[str, Any]) -> Page | None:
        """Do what the reader asks for; return a page to show below the picture, if there is one."""

    def _renew(self) -> None:
        """Update the picture's data from the reader."""

    # -- following -----------------------------------------------------------------------------------

    def _picture(self) -> Picture:
        with self._lock:
            return mime_bundle(self._page())

    def _has_news(self) -> bool:
        return self._log.replica.position > self._reader.last and time.monotonic() >= self._rested

    def _update(self) -> None:
        """Read what is new, and draw each view that does not show it."""
        with self._lock:
            started = time.monotonic()
            has_news = self._has_news()
            if has_news:
                self._reader.add_new()
                self._renew()
                self._fallback.trigger()
            self._draw(every=has_news)
            if has_news:
                self._rested = time.monotonic() + 2 * (time.monotonic() - started)

    def _draw(self, *, every: bool) -> None:
        for name, view in self._views.items():
            if every or view.is_stale:
                view.is_stale = False
                self.send({"type": "drawn", "view": name, **self._drawn(view)})

    # -- the browser ---------------------------------------------------------------------------------

    def _on_message(self, _: object, message: Mapping[str, Any], __: object) -> None:
        # On the kernel's main thread, where the next cell would wait for what this reads.
        io_thread().call_soon(self._messages.put, lambda: self._answer(message))

    def _answer(self, message: Mapping[str, Any]) -> None:
        name = str(message["view"])
        with self._lock:
            if message["do"] == "draw":
                self._show(name, message)
            elif name in self._views:
                try:
                    page = self._act(self._views[name], message)
                except HappenError as error:  # the space is closed, or the server does not answer
                    page = Page(Heading("No details"), (Note(part(describe_error(error))),))
                if page is not None:
                    html = bare_html(render_html(page))
                    self.send({"type": "panel", "view": name, "asked": message.get("asked"), "html": html})
            if self._throttle.stopped:  # the space is closed: a page that comes late gets what was read
                self._draw(every=False)
        self._throttle.trigger()

    def _show(self, name: str, message: Mapping[str, Any]) -> None:
        width = min(_MOST_WIDTH, int(message["width"]))
        if not self._views and not self._throttle.stopped:
            self._throttle.follow(self._has_news)
        if name not in self._views:
            self._views[name] = self._make_view(width)
            for oldest in list(self._views)[:-MAX_VIEWS]:
                del self._views[oldest]
        view = self._views[name]
        view.width, view.is_stale = width, True


@dataclass(slots=True)
class GraphView(PictureView):
    """A place that shows a graph, and what it shows."""

    drawn: DrawnGraph = field(default_factory=lambda: DrawnGraph(""))
    counts: Mapping[FlowKey, int] | None = None


class LiveGraph(LivePicture[GraphView]):
    """A graph of the events that nodes send to each other; made by ``space.graph``.

    It follows the space: a dot moves along an arrow for each event that is handled. Nodes whose names differ
    in a number are drawn as one; press it to open it. Press a node, or the types on an arrow, to see more.

    Examples
    --------
    >>> counting = inventory.on("order.*", lambda event: None)
    >>> trace = orders.broadcast("order.paid").settle()
    >>> space.graph()
    Graph of ... · 1 event handled
      orders → inventory  order.paid
    """

    _esm = script("live_picture", "live_graph")
    _make_view = GraphView

    def _svg(self, width: int) -> str:
        return draw_graph(self._graph(), width=width).svg

    def _page(self) -> Page:
        shown = graph(self._reader.slice)
        return graph_page(shown, lambda width: draw_graph(shown, width=width).svg)

    def _drawn(self, view: GraphView) -> dict[str, Any]:
        """Return the picture of a view, and the arrows along which events have moved since the last one."""
        shown = self._graph(view)
        view.drawn = draw_graph(shown, width=view.width, live=True)
        counts = {flow.key: flow.number for flow in view.drawn.flows}
        before, view.counts = view.counts, counts
        moves = [
            [number, min(flow.number - before.get(flow.key, 0), MAX_MOVES)]
            for number, flow in enumerate(view.drawn.flows)
            if before is not None and flow.number > before.get(flow.key, 0)
        ]
        groups = [[name, name in view.opened] for name in shown.names]
        return {"svg": view.drawn.svg, "moves": moves[:MAX_MOVES], "groups": groups}

    def _act(self, view: GraphView, message: Mapping[str, Any]) -> Page | None:
        """Open or close a group, or show the events of a node or an arrow."""
        if message["do"] == "group":
            view.opened ^= {str(message["name"])}
            view.is_stale, view.counts = True, None
            return None
        kind, number = str(message["key"])[:1], int(str(message["key"])[1:])
        if kind == "w" and number < len(view.drawn.flows):
            flow = view.drawn.flows[number]
            nodes = {group.name: group.nodes for group in view.drawn.groups}
            return flow_page(flow, (nodes[flow.sender], nodes[flow.handler]), self._reader.slice)
        if kind == "n" and number < len(view.drawn.groups):
            group = view.drawn.groups[number]
            if group.is_single:
                return group_page(group, self._graph(view))
            view.opened.add(group.name)
            view.is_stale, view.counts = True, None
        return None

    def _graph(self, view: GraphView | None = None) -> Graph:
        opened = () if view is None else view.opened
        return graph(self._reader.slice, opened=opened, loads=loads_of(self._runtime))


def loads_of(runtime: Runtime) -> dict[str, Load]:
    """Return how many events wait for each node of this process, and how many of them a pause holds."""
    queues = list(runtime.dispatcher.queues.items())
    waiting = {name: queue.busy()[1] for name, queue in queues}
    held = runtime.dispatcher.gate.counts()
    loads = {name: Load(waiting.get(name, 0), held.get(name, 0)) for name in waiting | held}
    return {name: load for name, load in loads.items() if load.waiting or load.held}


@dataclass(slots=True)
class TimelineView(PictureView):
    """A place that shows a timeline, and what it shows."""

    drawn: DrawnTimeline = field(default_factory=lambda: DrawnTimeline(""))
    window: Window | None = None
    selection: Window | None = None
    find: str = ""
    chosen: ItemKey | None = None


class LiveTimeline(LivePicture[TimelineView]):
    """A picture of the events and commits of each node over time; made by ``space.timeline``.

    A dot is an event, a bar a handling, a thin line the time that its event waited, a square a commit, a
    cross a failure, and a ring to the right of now a scheduled event. It follows the space until you zoom in.

    Examples
    --------
    >>> event = orders.broadcast("order.paid")
    >>> commit = orders.state.set({"paid": 1})
    >>> space.timeline()
    Timeline of ... · 1 event · 1 commit
      orders  1 event · 1 commit
    """

    _esm = script("live_picture", "live_timeline")
    _make_view = TimelineView

    def __init__(
        self, space: Space, reader: JournalReader, nodes: Sequence[str] | None, by: TimeBase
    ) -> None:
        self._nodes, self._by = nodes, by
        super().__init__(space, reader)

    def _svg(self, width: int) -> str:
        return draw_timeline(self._shown, width=width, chosen=self._shown.story()).svg

    def _renew(self) -> None:
        self._shown = Timeline(self._reader.slice, nodes=self._nodes, by=self._by)

    def _page(self) -> Page:
        return timeline_page(self._shown, self._svg)

    def _drawn(self, view: TimelineView) -> dict[str, Any]:
        view.drawn = draw_timeline(
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
        text = "" if item is None else tip(self._shown, item)
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
        found = sums(self._shown, view.selection, view.drawn.lanes)
        return sums_page(found, self._shown.time_of_space(first), (last - first) / NS)

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
        event, clock = None if item.event is None else self._whole(item.event), self._shown.journal.clock
        if item.commit is not None:
            whole = self._shown.journal.whole_commit(item.commit)
            if whole is None:
                return gone_page(item)
            stored: Commit | Event = Commit(*whole, moment=clock.time_of_space(whole[0].time))
        else:
            assert event is not None
            moment = clock.time_of_space(event.time) if event.time else None
            stored = Event(event, self._runtime, moment=moment)
        about = page_of(stored, Budget())
        causes = self._shown.causes(item)
        root = causes[-1].event if causes else event
        trace = None if root is None else page_of(self._space.trace(Event(root, self._runtime)), Budget())
        blocks: list[Block] = [*about.blocks, *story_blocks(trace, self._source(item))]
        if item.handling is not None:
            return handling_page(item, item.handling, self._shown.time_of_space(item.time), blocks)
        return Page(about.heading, blocks)

    def _whole(self, event: EventRecord) -> EventRecord:
        """Return an event with its payload, if it is still stored."""
        return next(iter(self._shown.journal.with_payloads([event])), event)

    def _source(self, item: TimelineItem) -> str | None:
        """Return the source of the handler that an item is of, if it is in this process."""
        if item.handling is None:
            return None
        sources = handler_sources(self._runtime.registrations, [item.node])
        return sources.get((item.node, item.handling.handler))
