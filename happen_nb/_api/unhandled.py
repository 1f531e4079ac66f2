"""Events that no handler handled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from happen_nb._api.base import Displayable, Listing
from happen_nb._api.events import Event
from happen_nb._api.retrying import Retried, refuse_retry
from happen_nb._display.reprs_events import unhandled_event_page, unhandled_page
from happen_nb._runtime.io import run_blocking
from happen_nb.errors import NoHandlerError

if TYPE_CHECKING:
    from happen_nb._api.space import Space
    from happen_nb._runtime.effects import NotHandled


class UnhandledEvent(Displayable):
    """An event that no handler handled.

    Attributes
    ----------
    event : Event
        The event.
    reason : str
        ``"no pattern"``: no handler matched its type. ``"where"``: a filter rejected it. ``"no owner"``: no
        process handled events of the node, or of any node, when it was stored. ``"owner died"``: the process
        that should have handled it has ended.
    nearest : str or None
        The registered pattern that comes nearest to its type.
    """

    _page = unhandled_event_page
    _pickle = "pickle parts of its event, such as unhandled.event.payload"

    def __init__(self, space: Space, found: NotHandled) -> None:
        self._space = space
        self.event = Event(found.event, space)
        self.reason = found.reason
        self.nearest = found.nearest

    def retry(self, node: str | None = None) -> Retried:
        """Handle it with the handlers that match now, and wait for them.

        Parameters
        ----------
        node : str, optional
            Use only the handlers of this node.

        Returns
        -------
        Retried
            The result; failures are also added to ``space.failures``.

        Raises
        ------
        NoHandlerError
            No handler of this process matches.
        """
        if not self._nodes(node):
            whose = "this process" if node is None else f'node "{node}" in this process'
            raise NoHandlerError(f'retry: no handler of {whose} matches "{self.event.type}"')
        return _retried([self], node)

    def _nodes(self, node: str | None) -> list[str]:
        """Return the nodes of this process whose handlers match."""
        record, runtime = self.event._record, self._space._runtime
        candidates = runtime.registrations.candidates(record.type, record.target)
        return [name for name in candidates if node in (None, name) and runtime.ownership.is_ours(name)]

    def _handle(self, nodes: Iterable[str]) -> BaseException | None:
        """Have nodes handle it; return the first error."""
        first: BaseException | None = None
        for name in nodes:
            refuse_retry(name)
            error = run_blocking(self._space._again(self.event._record, name, None))
            first = first or error
        return first


class Unhandled(Listing[UnhandledEvent]):
    """The events that no handler handled, newest last; a snapshot."""

    _page = unhandled_page
    _pickle = "pickle parts of its events, such as unhandled[0].event.payload"

    def __init__(self, space: Space, found: Sequence[NotHandled]) -> None:
        self._items = [UnhandledEvent(space, each) for each in found]

    def retry(self, node: str | None = None) -> Retried:
        """Handle the events with the handlers of this process that match now, and wait for them.

        Parameters
        ----------
        node : str, optional
            Use only the handlers of this node.

        Returns
        -------
        Retried
            The number of events that succeeded, failed, and have no handler here.

        Examples
        --------
        >>> event = orders.broadcast("order.placed")
        >>> late = orders.on("order.placed", lambda event: None)
        >>> space.unhandled.retry()
        Retried 1 event · 1 succeeded
        """
        return _retried(self, node)


def _retried(events: Iterable[UnhandledEvent], node: str | None) -> Retried:
    found = [(each, each._nodes(node)) for each in events]
    handled = [each._handle(nodes) for each, nodes in found if nodes]
    return Retried("event", handled, len(found) - len(handled))
