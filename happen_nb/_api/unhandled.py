"""Events that no handler handled, and the types that need none."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from happen_nb._api.base import Displayable, RecordSequence, node_name, shown_by
from happen_nb._api.events import Event, record_of
from happen_nb._api.failures import Retried, redeliver, refuse_retry
from happen_nb._model.patterns import Pattern, Predicate
from happen_nb._runtime.cells import cells
from happen_nb._runtime.io import run_blocking
from happen_nb.errors import NoHandlerError

if TYPE_CHECKING:
    from happen_nb._api.node import Node
    from happen_nb._api.views import Views
    from happen_nb._runtime.effects import NotHandled
    from happen_nb._runtime.runtime import Runtime


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

    _page = shown_by("reprs_events.unhandled_event_page")
    _pickle = "pickle parts of its event, such as unhandled.event.payload"

    def __init__(self, runtime: Runtime, views: Views, event: Event, found: NotHandled) -> None:
        self._runtime = runtime
        self._views = views
        self.event = event
        self.reason = found.reason
        self.nearest = found.nearest

    def retry(self, node: str | Node | None = None) -> Retried:
        """Handle only this event; `Unhandled.retry` handles all of them.

        Parameters
        ----------
        node : str or Node, optional
            Use only the handlers of this node.

        Returns
        -------
        Retried
            The outcome: succeeded, or failed.

        Raises
        ------
        NoHandlerError
            No handler of this process matches.
        UnknownNodeError
            There is no such node.
        """
        name = node_name(node, "retry: node", self._views)
        if not self._nodes(name):
            whose = "this process" if name is None else f'node "{name}" in this process'
            raise NoHandlerError(f'retry: no handler of {whose} matches "{self.event.type}"')
        return retry_events([self], name)

    def _nodes(self, node: str | None) -> list[str]:
        """Return the nodes of this process whose handlers match."""
        record, runtime = record_of(self.event), self._runtime
        candidates = runtime.registrations.candidates(record.type, record.target, record.tick)
        return [name for name in candidates if node in (None, name) and runtime.ownership.is_ours(name)]

    def _handle(self, nodes: Iterable[str]) -> list[BaseException | None]:
        """Have nodes handle it; return the outcome of each node that has accepted it."""
        outcomes: list[BaseException | None] = []
        for name in nodes:
            refuse_retry(name)
            with suppress(NoHandlerError):  # its filters refuse the event
                outcomes.append(run_blocking(redeliver(self._runtime, record_of(self.event), name)))
        return outcomes


class Unhandled(RecordSequence[UnhandledEvent]):
    """The events that no handler handled, newest last; a snapshot."""

    _page = shown_by("reprs_events.unhandled_page")
    _pickle = "pickle parts of its events, such as unhandled[0].event.payload"

    def __init__(self, runtime: Runtime, views: Views, found: Sequence[tuple[Event, NotHandled]]) -> None:
        self._views = views
        self._items = [UnhandledEvent(runtime, views, *each) for each in found]

    def retry(self, node: str | Node | None = None) -> Retried:
        """Handle the events with the handlers of this process that match now, and wait for them.

        Failures are also added to ``space.failures``.

        Parameters
        ----------
        node : str or Node, optional
            Use only the handlers of this node.

        Returns
        -------
        Retried
            The number of events that succeeded, that failed, and that have no handler here.

        Raises
        ------
        UnknownNodeError
            There is no such node.

        Examples
        --------
        >>> event = orders.broadcast("order.placed")
        >>> late = orders.on("order.placed", lambda event: None)
        >>> space.unhandled.retry()
        Retried 1 event · 1 succeeded
        """
        return retry_events(self, node_name(node, "retry: node", self._views))


def retry_events(events: Iterable[UnhandledEvent], node: str | None = None) -> Retried:
    """Handle events with the handlers of this process that match now, and wait for them."""
    found = [each._handle(each._nodes(node)) for each in events]
    handled = [next(filter(None, outcomes), None) for outcomes in found if outcomes]
    return Retried("event", handled, len(found) - len(handled))


class Facts(Collection[str]):
    """The types of events that are declared to need no handler, in this process: ``space.facts``.

    They are not listed as unhandled in ``space.unhandled``, receipts and dashboards.

    Examples
    --------
    >>> event = orders.broadcast("order.closed")
    >>> [each.event.type for each in space.unhandled]
    ['order.closed']
    >>> space.facts.add("*.closed")
    >>> len(space.unhandled), space.facts
    (0, Facts: *.closed)
    """

    def __init__(self) -> None:
        self._patterns: tuple[Pattern, ...] = ()

    def add(self, *patterns: str | Predicate) -> None:
        """Declare types of events that need no handler.

        The declaration belongs to its cell: running the cell again replaces it.

        Parameters
        ----------
        *patterns : str or callable
            Patterns as for ``node.on``.

        Raises
        ------
        PatternError
            A pattern is not valid.
        """
        added = tuple(map(Pattern.of, patterns))
        self._patterns += added
        cells.register(lambda: self._remove(added))

    def remove(self, pattern: str | Predicate) -> None:
        """Undo `add` for one pattern: expect handlers for these events again.

        Raises
        ------
        KeyError
            The pattern was not declared.
        """
        known = Pattern.of(pattern)
        if known not in self._patterns:
            raise KeyError(f"facts: {known.text!r} is not declared; the declared facts are {list(self)}")
        self._remove((known,))

    def cover(self, type: str) -> bool:
        """Return True if events of this type need no handler."""
        return any(pattern.matches(type) for pattern in self._patterns)

    def _remove(self, patterns: tuple[Pattern, ...]) -> None:
        self._patterns = tuple(each for each in self._patterns if each not in patterns)

    def __contains__(self, pattern: object) -> bool:
        return pattern in list(self)

    def __iter__(self) -> Iterator[str]:
        return iter([pattern.text for pattern in self._patterns])

    def __len__(self) -> int:
        return len(self._patterns)

    def __repr__(self) -> str:
        return f"Facts: {', '.join(self) or 'none'}"
