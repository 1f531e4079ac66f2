"""The events that wait at one node while the space, or this process, is paused or slow."""

from __future__ import annotations

import contextvars
from bisect import bisect_left
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from happen_nb._model.pace import NodeTurn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from happen_nb._model.patterns import Pattern
    from happen_nb._model.positions import Position
    from happen_nb._model.records import EventRecord
    from happen_nb._runtime.delivery import Delivery
    from happen_nb._runtime.in_flight import Work


class LocalPause(NamedTuple):
    """A pause of this process alone."""

    pattern: Pattern
    where: Callable[[EventRecord], bool]
    """Returns whether an event waits. Called by a worker."""
    slow: float | None = None


class HeldInMemory(NamedTuple):
    """An event that waits in memory: it had arrived before the pause, and had not begun."""

    event: EventRecord
    release: Callable[[], None]
    delivery: Delivery | None = None

    @property
    def gone(self) -> bool:
        """True if it was cancelled."""
        return self.delivery is not None and not self.delivery.parked


class HeldForCatchUp(NamedTuple):
    """Handlers that catch up with an event, which waits for its turn."""

    release: Callable[[EventRecord], None]  # delivers the event to them
    drop: Callable[[], None] | None = None
    """Forgets it: it is deleted, or the node has another owner, which reads it in the journal."""


def drop_all(missed: Iterable[HeldForCatchUp]) -> None:
    for each in missed:
        if each.drop is not None:
            each.drop()


class Hold:
    """The events that wait at one node, in the order of the journal."""

    def __init__(self, node: str) -> None:
        self.node = node
        self.in_memory: list[HeldInMemory] = []
        self.stored: deque[Position] = deque()  # the events that are read again when they are released
        self.missed: dict[Position, list[HeldForCatchUp]] = {}
        """The handlers that catch up with an event, by its position."""
        self.only_missed: set[Position] = set()  # the positions of events for which only such handlers wait
        self.read: dict[Position, EventRecord] = {}
        """The first of the stored events, as far as they were read again."""
        self.contexts: dict[Position, contextvars.Context] = {}
        self.ticks: set[str] = set()
        self.recovered = 0  # the sequence up to which they had waited for another process
        self.recovering = False
        self.waits = False  # True if the first one has to wait
        self.asked = 0  # the number of further checks
        self.moving = False
        self.work: Work | None = None  # in flight while the events are released

    def __len__(self) -> int:
        return len(self.in_memory) + len(self.stored)

    @property
    def first(self) -> Position | None:
        in_memory, stored = self.in_memory, self.stored
        firsts = [*(each.event.position for each in in_memory[:1]), *([stored[0]] if stored else [])]
        return min(firsts, default=None)

    def turns(self) -> set[NodeTurn]:
        """Return the turns that wait. From any thread."""
        in_memory = [each.event.position for each in list(self.in_memory) if not each.gone]
        return {NodeTurn(*position, self.node) for position in (*in_memory, *list(self.stored))}

    def count(self) -> int:
        """Return how many events wait. From any thread."""
        return len(self.turns()) if self.in_memory else len(self.stored)

    def insert(self, position: Position) -> bool:
        """Add a stored event; False if it waits already."""
        if not self.stored or position > self.stored[-1]:
            self.stored.append(position)
            return True
        at = bisect_left(self.stored, position)
        if self.stored[at] == position:
            return False
        self.stored.insert(at, position)
        return True

    def take_first(self) -> tuple[contextvars.Context | None, list[HeldForCatchUp], bool]:
        """Remove the first stored event; return its context and the handlers that wait for it."""
        position = self.stored.popleft()
        only_missed = position in self.only_missed
        self.only_missed.discard(position)
        self.read.pop(position, None)
        return self.contexts.pop(position, None), self.missed.pop(position, []), only_missed

    def drop_stored(self) -> None:
        for each in self.missed.values():
            drop_all(each)
        for part in (self.stored, self.missed, self.only_missed, self.read, self.contexts, self.ticks):
            part.clear()
