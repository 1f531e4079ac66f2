"""Events that no handler took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from happen_nb.errors import NoHandlerError
from happen_nb.events import Event
from happen_nb.runtime.bridge import wait_for
from happen_nb.shown import Listing, Shown

if TYPE_CHECKING:
    from happen_nb.node import Node
    from happen_nb.runtime.unhandled import NotHeard
    from happen_nb.space import Space


class UnhandledEvent(Shown, kind="unhandled_event"):
    """An event that nobody took.

    Attributes
    ----------
    event : Event
    reason : str
        ``"no pattern"``: nodes with handlers, but none of this type. ``"where"``: a filter refused it.
        ``"no owner"``: nobody handled events of the node, or of any, when it was stored. ``"owner died"``:
        the process that should have handled it has ended.
    nearest : str or None
        The pattern that would nearly have matched.
    """

    def __init__(self, space: Space, found: NotHeard) -> None:
        self._space = space
        self.event = Event(found.event, space)
        self.reason = found.reason
        self.nearest = found.nearest

    def retry(self, node: str | Node | None = None) -> None:
        """Handle it late, by the handlers of this process that match now, and wait for them.

        Parameters
        ----------
        node : str or Node, optional
            Only by the handlers of this node.

        Raises
        ------
        NoHandlerError
            No handler of this process matches.
        """
        name = _name_of(node)
        if not self._handle(name):
            whose = "this process" if name is None else f'node "{name}" in this process'
            raise NoHandlerError(f'retry: no handler of {whose} matches "{self.event.type}"')

    def _handle(self, node: str | None) -> bool:
        record, dispatch = self.event._record, self._space._dispatch
        candidates = dispatch.registrations.candidates(record.type, record.target)
        nodes = [name for name in candidates if node in (None, name) and dispatch.owners.is_ours(name)]
        for name in nodes:
            wait_for(self._space._again(record, name, None))
        return bool(nodes)


class Unhandled(Listing[UnhandledEvent], kind="unhandled"):
    """The events that no handler took, newest last; as of when it was asked for."""

    def __init__(self, space: Space, found: Sequence[NotHeard]) -> None:
        self._items = [UnhandledEvent(space, each) for each in found]

    def retry(self, node: str | Node | None = None) -> None:
        """Handle late those events that handlers of this process match now, and wait for them.

        Parameters
        ----------
        node : str or Node, optional
            Only by the handlers of this node.
        """
        name = _name_of(node)
        for each in self:
            each._handle(name)


def _name_of(node: Any) -> str | None:
    name = node if node is None or isinstance(node, str) else getattr(node, "name", node)
    if name is not None and not isinstance(name, str):
        raise TypeError(f"retry: {node!r} is not a node; give its name, or the Node")
    return name
