"""Orders in which concurrent steps can happen: all of them, or random ones with few steps out of turn."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from happen_nb._model.positions import Position
    from happen_nb._model.records import EventRecord

MAX_CHANGES: Final = 3  # maximum number of priority changes in one order


What = Literal["begin", "commit", "emit", "cancel"]


class Choice(NamedTuple):
    """Something that may happen next."""

    node: str  # the node whose handler or watch it is
    what: What
    """The step: it begins, also for a retry; it stores a commit; or, outside of a transform, it stores an
    event, or cancels a scheduled one. Cancels are steps of a rerun only.
    """
    event: EventRecord | None  # the event that is handled; None for a watch
    handler: str  # the name of the function
    position: Position  # the position of the event in the journal, or of the commit that is watched
    target: str = ""
    """The node that is committed, the type of the event that is emitted, or the id of the one that is
    cancelled; empty where it begins.
    """
    sender: str = ""  # the sender of the event that is emitted: another node than `node`, if it does that
    receiver: str | None = None  # the node that an event is sent to
    scheduled: bool = False  # True for an event that is due later
    transform: bool = False
    """True for a state handler. It sees the event, the states as of the event, and the newest state of its
    node; so nothing depends on the time between its begin and its commit.
    """
    cause: str | None = None
    """The cause of the commit that is watched, if it has one."""

    @property
    def order(self) -> tuple[Any, ...]:
        """Sorts choices, whenever they have arrived."""
        return self.position, self.node, self.handler, self.what, self.target, self.receiver or ""


class Search(Protocol):
    """Finds an order, one step after the other."""

    def pick(self, parties: Sequence[Hashable]) -> int:
        """Return the index of the party whose step is next."""


@dataclass
class AllOrders:
    """All orders, depth-first: each differs from the one before as late as possible."""

    complete: bool = False  # True if there are no others
    steady: bool = True
    """False if the same steps did not lead to the same choices, so that some orders may be missing."""
    _begun: bool = False
    _path: list[int] = field(default_factory=list)
    _offered: list[tuple[Hashable, ...]] = field(default_factory=list)
    _at: int = 0

    def begin(self) -> bool:
        """Begin the next order; False if there is none."""
        if self._begun and not self._move_on():
            self.complete = self.steady
            return False
        self._begun, self._at = True, 0
        return True

    def _move_on(self) -> bool:
        """Turn to the next order; False if all were tried."""
        del self._path[self._at :], self._offered[self._at :]
        while self._path and self._path[-1] + 1 >= len(self._offered[-1]):
            self._path.pop()
            self._offered.pop()
        if self._path:
            self._path[-1] += 1
        return bool(self._path)

    def pick(self, parties: Sequence[Hashable]) -> int:
        offered = tuple(parties)
        if self._at == len(self._path):
            self._path.append(0)
            self._offered.append(offered)
        elif self._offered[self._at] != offered:
            self.steady = False
            self._offered[self._at] = offered
            self._path[self._at] = min(self._path[self._at], len(offered) - 1)
        self._at += 1
        return self._path[self._at - 1]


class FewChanges:
    """Random orders in which each party has a priority, which changes a few times only (PCT).

    A bug that needs a few steps out of turn is found with a known probability, however long the order is: see
    Burckhardt et al., "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs". `steps` is the
    expected number of steps.
    """

    def __init__(self, seed: int, steps: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - for a search
        self._steps = steps
        self._priorities: dict[Hashable, float] = {}
        self._changes: frozenset[int] = frozenset()
        self._at = 0

    def begin(self) -> None:
        self._steps = max(self._steps, self._at, 1)
        self._priorities, self._at = {}, 0
        changes = self._random.randint(1, MAX_CHANGES)
        self._changes = frozenset(self._random.randrange(self._steps) for _ in range(changes))

    def pick(self, parties: Sequence[Hashable]) -> int:
        for party in parties:
            if party not in self._priorities:
                self._priorities[party] = self._random.random()
        first = max(parties, key=self._priorities.__getitem__)
        if self._at in self._changes:  # behind all others
            self._priorities[first] = min(self._priorities.values()) - 1
            first = max(parties, key=self._priorities.__getitem__)
        self._at += 1
        return list(parties).index(first)


@dataclass
class GivenOrder:
    """One order, by the indices that were picked before."""

    _path: Sequence[int]
    _at: int = 0

    def pick(self, parties: Sequence[Hashable]) -> int:
        """Return the index of the party whose step is next; the first one at the end of the order."""
        index = self._path[self._at] if self._at < len(self._path) else 0
        self._at += 1
        return min(index, len(parties) - 1)
