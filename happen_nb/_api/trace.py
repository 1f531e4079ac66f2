"""The tree of what an event caused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from happen_nb._api.base import Displayable
from happen_nb._display.traces import trace_page

if TYPE_CHECKING:
    from collections.abc import Iterator

    from happen_nb._model.causality import TraceNode


class Trace(Displayable):
    """The tree of events and commits that an event caused, with their handlers, durations and errors.

    Iterating yields each `TraceNode` of the tree.

    Attributes
    ----------
    root : TraceNode
        The event itself; its ``children`` are its direct effects, and so on.
    times : bool
        True if its text shows durations.

    Examples
    --------
    >>> trace = orders.broadcast("order.paid").settle()
    >>> [node.event.type for node in trace]
    ['order.paid']
    """

    _page = trace_page

    def __init__(self, root: TraceNode, *, times: bool = False) -> None:
        self.root = root
        self.times = times

    def __iter__(self) -> Iterator[TraceNode]:
        return iter(self.root)

    @property
    def failures(self) -> list[str]:
        """The error of each handling that failed."""
        return [each.error or "" for node in self for each in node.handled if each.outcome == "failed"]
