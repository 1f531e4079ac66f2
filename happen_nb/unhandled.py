"""Events that no handler took."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from happen_nb.errors import NoHandlerError
from happen_nb.events import Event
from happen_nb.runtime.bridge import wait_for
from happen_nb.shown import Listing, Shown

if TYPE_CHECKING:
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

    _pickle = "pickle parts of its event, such as unhandled.event.payload"

    def __init__(self, space: Space, found: NotHeard) -> None:
        self._space = space
        self.event = Event(found.event, space)
        self.reason = found.reason
        self.nearest = found.nearest

    def retry(self, node: str | None = None) -> None:
        """Handle it now, by the handlers that match by now; waits for them.

        Parameters
        ----------
        node : str, optional
            Only by this node's.

        Raises
        ------
        NoHandlerError
            No handler of this process matches.
        """
        if not self._handle(node):
            whose = "this process" if node is None else f'node "{node}" in this process'
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

    _pickle = "pickle parts of its events, such as unhandled[0].event.payload"

    def __init__(self, space: Space, found: Sequence[NotHeard]) -> None:
        self._items = [UnhandledEvent(space, each) for each in found]

    def retry(self, node: str | None = None) -> None:
        """Handle now what handlers of this process match by now, and wait for them."""
        for each in self:
            each._handle(node)
