"""The tree of causes and effects of an event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from happen_nb._api.base import Shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from happen_nb._model.causality import TraceNode


class Trace(Shown, kind="trace"):
    """What an event caused: events and commits, who handled them, how long it took, what failed.

    Attributes
    ----------
    root : TraceNode
        The event itself; its ``children`` are what it caused, and so on.
    times : bool
        Whether its text tells how long things took.

    Examples
    --------
    >>> trace = orders.broadcast("order.paid").settle()
    >>> [node.event.type for node in trace]
    ['order.paid']
    """

    def __init__(self, root: TraceNode, *, times: bool = False) -> None:
        self.root = root
        self.times = times

    def __iter__(self) -> Iterator[TraceNode]:
        return iter(self.root)

    @property
    def failures(self) -> list[str]:
        """The errors of the handlings that failed."""
        return [each.error or "" for node in self for each in node.handled if each.outcome == "failed"]
