"""The events that wait at one node while the space, or this process, is paused or slow."""

from __future__ import annotations

import contextvars
from bisect import bisect_left
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from happen_nb._model.pace import NodeTurn

if TYPE_CHECKING:
    from collections.abc import Callable

    from happen_nb._model.patterns import Pattern
    from happen_nb._model.positions import Position
    from happen_nb._model.records import EventRecord
    from happen_nb._runtime.delivery import Delivery
    from happen_nb._runtime.effects import Work


@dataclass(eq=False)
class LocalPause:
    """A pause of this process alone."""

    pattern: Pattern
    where: Callable[[EventRecord], bool]
    """Returns whether an event waits. Called by a worker."""
    slow: float | None = None


class Early(NamedTuple):
    """An event that waits in memory: it had arrived before the pause, and had not begun."""

    event: EventRecord
    let: Callable[[], None]
    delivery: Delivery | None = None

    @property
    def gone(self) -> bool:
        """True if it was cancelled."""
        return self.delivery is not None and not self.delivery.parked


class Missed(Protocol):
    """Handlers that catch up with an event, which waits for its turn."""

    def let(self, event: EventRecord) -> None:
        """Deliver the event to them."""

    def drop(self) -> None:
        """Forget it: it is deleted, or the node has another owner."""


@dataclass(eq=False)
class Hold:
    """The events that wait at one node, in the order of the journal."""

    node: str
    early: list[Early] = field(default_factory=list)
    stored: deque[Position] = field(default_factory=deque)
    """Those that are read again when they go."""
    missed: dict[Position, list[Missed]] = field(default_factory=dict)
    """The handlers that catch up with some of them."""
    only_missed: set[Position] = field(default_factory=set)
    """Those that have waited for no other handlers."""
    read: dict[Position, EventRecord] = field(default_factory=dict)
    """The first of the stored ones, as far as they were read again."""
    contexts: dict[Position, contextvars.Context] = field(default_factory=dict)
    ticks: set[str] = field(default_factory=set)
    recovered: int = 0
    """The sequence up to which they had waited for another process."""
    recovering: bool = False
    waits: bool = False
    """True if the first one has to wait."""
    asked: int = 0
    """Number of times that it was asked again whether it has to."""
    moving: bool = False
    work: Work | None = None
    """In flight while they go on."""

    def __len__(self) -> int:
        return len(self.early) + len(self.stored)

    @property
    def first(self) -> Position | None:
        early, stored = self.early, self.stored
        firsts = [*(each.event.position for each in early[:1]), *([stored[0]] if stored else [])]
        return min(firsts, default=None)

    def turns(self) -> set[NodeTurn]:
        """Return what waits. From any thread."""
        early = [each.event.position for each in list(self.early) if not each.gone]
        return {NodeTurn(*position, self.node) for position in (*early, *list(self.stored))}

    def count(self) -> int:
        """Return how many events wait. From any thread."""
        return len(self.turns()) if self.early else len(self.stored)

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

    def take_first(self) -> tuple[contextvars.Context | None, list[Missed], bool]:
        """Remove the first stored event; return its context, and who waits for it."""
        position = self.stored.popleft()
        only_missed = position in self.only_missed
        self.only_missed.discard(position)
        self.read.pop(position, None)
        return self.contexts.pop(position, None), self.missed.pop(position, []), only_missed

    def drop_stored(self) -> None:
        for each in self.missed.values():
            for missed in each:
                missed.drop()
        for part in (self.stored, self.missed, self.only_missed, self.read, self.contexts, self.ticks):
            part.clear()
