"""The registered handlers: their patterns, filters and retries; and the events that a handler missed.

These are expired events, and events of a handler that is gone.
"""

from __future__ import annotations

import contextvars
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from happen_nb._journal import decoding
from happen_nb._journal.slice import events_between, position_at_time, windows
from happen_nb._model.functions import Second, attribute, own_name, safely_equal, takes_second
from happen_nb._model.patterns import Pattern
from happen_nb._model.positions import handler_key, source_digest
from happen_nb._model.records import CommitRecord
from happen_nb._runtime.ticks import tick_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from importlib.machinery import ModuleSpec

    from happen_nb._journal.consumer import StreamMessage
    from happen_nb._journal.stream import Stream
    from happen_nb._model.orders import Choice
    from happen_nb._model.positions import Position
    from happen_nb._model.records import EventRecord
    from happen_nb._runtime.progress import StateHandler
    from happen_nb._runtime.stored_steps import DurableHandler

MAX_FOUND = 1_000  # maximum number of event types whose handlers are remembered


@dataclass(eq=False)
class Registration:
    """A handler of a node."""

    node: str
    pattern: Pattern
    handler: Callable[..., Any]
    where: Callable[[Any], object] | None = None  # filters the events that match the pattern
    retries: int = 0  # the number of times that a handler that raises is called again
    backoff: float = 0.5  # seconds before the first retry; each further one waits twice as long
    run: object = None  # the run of the cell that registered it
    place: str = ""  # the name of that run in a notice: ``In [3]``
    keep: bool = False  # True if it stays when another cell registers the same function
    is_durable: bool = False  # True if it is run for each event until it has ended once
    state: StateHandler | None = None  # the state handler that applies it, if it is one
    durable: DurableHandler | None = None
    """Its progress through the journal, if it is durable. Set before it is registered."""
    tick: str | None = None  # the id of the ticks that it is called with, and with nothing else
    period: float = 0.0  # seconds from one tick to the next
    active: bool = True
    before_fresh: bool = False
    """True if ``connect(fresh=True)`` has emptied the space since: the notebook is run again."""
    number: int = 0  # the order of registration
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    name: str = field(init=False)
    key: str = field(init=False)  # identifies the handler on its node in all processes
    source: str = field(init=False)  # a digest of the handler's source
    _spec: ModuleSpec | None = field(init=False)

    def __post_init__(self) -> None:
        self.name = own_name(self.handler)
        pattern, state = self.pattern.text, self.state
        self.key = handler_key(pattern, self.handler, None) if state is None else state.key
        self.source = source_digest(self.handler)
        is_found = safely_equal(_found_by_name(self.handler), self.handler)
        self._spec = _spec_of(self.handler) if is_found else None

    @property
    def exact(self) -> str | None:
        """The type of the events that it handles, or what stands for its ticks; None for a pattern."""
        return self.pattern.exact if self.tick is None else _of_ticks(self.tick)

    def second(self) -> Second:
        return takes_second(self.handler, "context")

    def begins(self, event: EventRecord) -> Choice:
        """Return the choice for a conductor when the handler begins."""
        from happen_nb._model.orders import Choice

        state = self.state is not None
        return Choice(self.node, "begin", event, self.name, event.position, transform=state)

    @property
    def follows_reloads(self) -> bool:
        """True if its module may be reloaded, so that `current` returns another function."""
        return self._spec is not None

    def current(self) -> Callable[..., Any]:
        """Return the handler, or the function that has its name now if its module was reloaded."""
        # IPython's autoreload puts the new code into the old function, but cannot renew a wrapped one.
        if self._spec is not None and _spec_of(self.handler) is not self._spec:
            found: Callable[..., Any] | None = _found_by_name(self.handler)
            if callable(found):
                return found
        return self.handler


def _spec_of(function: object) -> ModuleSpec | None:
    # A reload makes a new spec. Cells and scripts have none.
    module = sys.modules.get(str(attribute(function, "__module__")))
    return getattr(module, "__spec__", None)


def _found_by_name(function: object) -> Any:
    module, name = attribute(function, "__module__"), attribute(function, "__qualname__")
    if not (isinstance(module, str) and isinstance(name, str)):
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        try:
            found = getattr(found, part, None)
        except Exception:  # a module's __getattr__ is the user's
            return None
    return found


def _of_ticks(tick: str) -> str:
    return f"\0{tick}"  # no type has a control character


class Registrations:
    """The registrations of a space, found by event type or by node.

    The IO thread changes them; any thread reads them and ends a registration.
    """

    def __init__(self) -> None:
        # The tuples are replaced, not changed, so other threads read them without a lock.
        self._nodes: dict[str, tuple[Registration, ...]] = {}
        self._exact: dict[str, tuple[Registration, ...]] = {}
        self._others: tuple[Registration, ...] = ()  # the handlers with wildcards or predicates
        self._found: dict[tuple[str, str | None, str | None], dict[str, list[Registration]]] = {}
        """The results of `candidates` since the last change."""
        self._numbers = count()

    def add(self, registration: Registration) -> None:
        registration.number = next(self._numbers)
        _put(self._nodes, registration.node, registration)
        exact = registration.exact
        if exact is None:
            self._others = (*self._others, registration)
        else:
            _put(self._exact, exact, registration)
        self._found = {}

    def end(self, registration: Registration) -> bool:
        """End a registration: it gets no more events; False if it has ended already. From any thread."""
        if not registration.active:
            return False
        registration.active = False
        self._found = {}
        return True

    def remove(self, registration: Registration) -> None:
        _take(self._nodes, registration.node, registration)
        exact = registration.exact
        if exact is None:
            self._others = tuple(each for each in self._others if each is not registration)
        else:
            _take(self._exact, exact, registration)

    def candidates(
        self, type: str, target: str | None, tick: str | None = None
    ) -> dict[str, list[Registration]]:
        """Return node -> its registrations that may match, in order; predicates are not called yet.

        For a tick, these are its own handlers. Do not change the result.
        """
        found, key = self._found, (type, target, tick)
        if key not in found:
            if len(found) >= MAX_FOUND:
                found = self._found = {}
            found[key] = self._find(type, target, tick)
        return found[key]

    def _find(self, type: str, target: str | None, tick: str | None) -> dict[str, list[Registration]]:
        if tick is not None:
            return self._by_node(self._exact.get(_of_ticks(tick), ()), target)
        # Exact patterns are looked up, so their number costs nothing; all others are tested in turn.
        exact = self._exact.get(type, ())
        others = [
            each for each in self._others if each.pattern.predicate is not None or each.pattern.matches(type)
        ]
        matching = sorted([*exact, *others], key=attrgetter("number")) if others else exact
        return self._by_node(matching, target)

    def _by_node(self, matching: Iterable[Registration], target: str | None) -> dict[str, list[Registration]]:
        found: dict[str, list[Registration]] = {}
        for registration in matching:
            if registration.active and target in (None, registration.node):
                found.setdefault(registration.node, []).append(registration)
        return found

    def of(self, node: str) -> tuple[Registration, ...]:
        return tuple([each for each in self._nodes.get(node, ()) if each.active])

    def only_changes_state(self, node: str) -> bool:
        return not [each for each in self._nodes.get(node, ()) if each.state is None and each.active]

    def patterns(self, node: str) -> tuple[str, ...]:
        """Return the patterns of a node's handlers; predicates have none."""
        mine = self.of(node)
        return tuple(dict.fromkeys(each.pattern.text for each in mine if each.pattern.predicate is None))

    def sources(self, node: str) -> tuple[tuple[str, str], ...]:
        """Return the keys of a node's handlers, each with digests of the sources, separated by a blank."""
        found: dict[str, list[str]] = {}
        for each in self.of(node):
            found.setdefault(each.key, []).append(each.source)
        return tuple((key, " ".join(dict.fromkeys(digests))) for key, digests in found.items())

    def durable(self, node: str) -> tuple[str, ...]:
        """Return the patterns of a node's durable handlers; predicates have none."""
        mine = [each for each in self.of(node) if each.is_durable]
        return tuple(dict.fromkeys(each.pattern.text for each in mine if each.pattern.predicate is None))

    def state_handlers(self, node: str) -> tuple[str, ...]:
        return tuple(each.state.key for each in self.of(node) if each.state is not None)

    def nodes(self) -> set[str]:
        return {each.node for each in self.all()}

    def all(self) -> list[Registration]:
        found = [each for mine in list(self._nodes.values()) for each in mine if each.active]
        return sorted(found, key=attrgetter("number"))


def _put(groups: dict[str, tuple[Registration, ...]], key: str, registration: Registration) -> None:
    groups[key] = (*groups.get(key, ()), registration)


def _take(groups: dict[str, tuple[Registration, ...]], key: str, registration: Registration) -> None:
    left = tuple(each for each in groups.get(key, ()) if each is not registration)
    if left:
        groups[key] = left
    else:
        groups.pop(key, None)


# -- what a handler missed -----------------------------------------------------------------------------


class Orphan(NamedTuple):
    """A state or durable handler of a node that no process has now."""

    key: str
    waiting: int  # the number of stored events that it has yet to handle


def concerns(registration: Registration, event: EventRecord) -> bool:
    """Return whether a handler may apply an event; a predicate is asked later, off the IO thread."""
    if event.target is not None and event.target != registration.node:
        return False
    if registration.tick != event.tick:
        return False
    pattern = registration.pattern
    return pattern.exact == event.type or pattern.predicate is not None or pattern.matches(event.type)


async def expired_until(stream: Stream) -> int:
    """Return the newest position that is older than the time for which events are kept."""
    await stream.info()
    return await position_at_time(stream, datetime.fromtimestamp(max(0, stream.oldest) / 1e9, UTC))


async def count_missed(
    stream: Stream, after: dict[Registration, Position], expired: int
) -> tuple[dict[Registration, int], int]:
    """Return how many events may have expired after the position of each handler, and up to which position.

    The type of an expired message is unknown, so each missing one counts. Of the events stored with a commit,
    only those that a handler would apply count. The count ends before an event that is still stored.
    """
    until = expired

    def ends(item: StreamMessage) -> bool:
        nonlocal until
        is_event = item.subject.startswith(stream.subjects.event_prefix)
        until = item.sequence - 1 if is_event else expired
        return is_event or item.sequence > expired

    first = min(after.values())[0]
    items = await stream.read(">", start=first + 1, headers_only=True, enough=ends)
    gone = {each: until - position[0] for each, position in after.items()}
    for item in items:
        record = decoding.decode(stream.subjects, item.subject, item.headers, b"", item.sequence, item.time)
        riding = record.events if isinstance(record, CommitRecord) else ()
        for each, position in after.items():
            if item.sequence > position[0]:
                gone[each] -= 1
            gone[each] += sum(event.position > position and concerns(each, event) for event in riding)
    return {each: count for each, count in gone.items() if count > 0}, until


def newest_like(
    new: Registration, known: Iterable[tuple[Position, decoding.Start]], served: Iterable[str]
) -> tuple[Position, decoding.Start] | None:
    """Return the newest handler that `new` may be meant to continue: of the same pattern or function.

    `known` are the handlers that the node has had, and how far they have come; `served` are the keys of those
    that a process has now.
    """
    excluded = {*served, new.key, ""}
    candidates = [each for each in known if each[1].key not in excluded and _resembles(each[1], new)]
    return max(candidates, default=None)


def _resembles(start: decoding.Start, new: Registration) -> bool:
    if start.pattern is not None and start.pattern == new.pattern.text:
        return True
    return start.key == f"{start.pattern} {new.name}"


def awaiting(start: decoding.Start, position: Position) -> Callable[[EventRecord], bool]:
    """Return a test of events: True for those after a position that a stored handler is for."""
    if start.pattern is None:
        return lambda _: False
    pattern, ticks = Pattern.of(start.pattern), (None, tick_id(start.node, start.key))
    return lambda event: (
        event.position > position
        and event.target in (None, start.node)
        and event.tick in ticks
        and bool(pattern.matches(event.type))
    )


async def count_waiting(
    stream: Stream,
    start: decoding.Start,
    position: Position,
    end: int,
    is_done: Callable[[EventRecord], bool] = lambda _: False,
) -> int:
    """Return how many stored events a handler has yet to handle."""
    if start.pattern is None:
        return 0
    waits, count = awaiting(start, position), 0
    for first, last in windows(position[0], end):
        events = await events_between(stream, first, last)
        count += sum(waits(event) and not is_done(event) for event in events)
    return count
