"""The graph of a space, which follows its events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from happen_nb._api.base import runtime_of
from happen_nb._display.flow_pages import flow_page, graph_page, group_page
from happen_nb._display.page import Page
from happen_nb._display.plots.flows import FlowKey
from happen_nb._display.plots.graph import Graph, Load, graph
from happen_nb._display.plots.graph_drawing import DrawnGraph, draw
from happen_nb._widgets.live_picture import PICTURE_SCRIPTS, LivePicture, PictureView
from happen_nb._widgets.panes import script

if TYPE_CHECKING:
    from happen_nb._api.pictures import JournalReader
    from happen_nb._api.space import Space
    from happen_nb._runtime.runtime import Runtime

MAX_MOVES: Final = 40
"""Dots that move at once."""

Loads = Callable[[], Mapping[str, Load]]
"""Returns what waits for each node."""


@dataclass(slots=True)
class GraphView(PictureView):
    """A place that shows a graph, and what it shows."""

    drawn: DrawnGraph = field(default_factory=lambda: DrawnGraph(""))
    counts: Mapping[FlowKey, int] | None = None


class LiveGraph(LivePicture[GraphView]):
    """A graph of the events that nodes send to each other; created by ``space.graph``.

    It follows the space: a dot moves along an arrow for each event that is handled. Nodes whose names differ
    in a number are one, which a click opens. Pressing a node or the types on an arrow shows more.

    Examples
    --------
    >>> counting = inventory.on("order.*", lambda event: None)
    >>> trace = orders.broadcast("order.paid").settle()
    >>> space.graph()
    Graph of ... · 1 event handled
      orders → inventory  order.paid
    """

    _esm = script(*PICTURE_SCRIPTS, "live_graph")
    _make_view = GraphView

    def __init__(self, space: Space, reader: JournalReader, loads: Loads | None = None) -> None:
        runtime = runtime_of(space)
        self._loads = loads or (lambda: loads_of(runtime))
        super().__init__(space, reader)

    @property
    def svg(self) -> str:
        """The picture, for light and dark pages."""
        return draw(self._graph()).svg

    def _page(self) -> Page:
        """Return the static picture, and a line for each arrow."""
        shown = graph(self._reader.slice)
        return graph_page(shown, lambda width: draw(shown, width=width).svg)

    def _drawn(self, view: GraphView) -> dict[str, Any]:
        """Return the picture of a view, and the arrows along which events have moved since the last one."""
        shown = self._graph(view)
        view.drawn = draw(shown, width=view.width, live=True)
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
        """Open or close a group, or show what a node or an arrow stands for."""
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
        return graph(self._reader.slice, opened=opened, loads=self._loads())


def loads_of(runtime: Runtime) -> dict[str, Load]:
    """Return how many events wait for each node of this process, and how many of them a pause holds."""
    queues = list(runtime.dispatcher.queues.items())
    waiting = {name: queue.busy()[1] for name, queue in queues}
    held = runtime.dispatcher.gate.counts()
    loads = {name: Load(waiting.get(name, 0), held.get(name, 0)) for name in waiting | held}
    return {name: load for name, load in loads.items() if load.waiting or load.held}
