"""What is registered to handle events: a handler, its pattern, and how often it is tried."""

from __future__ import annotations

import contextvars
import threading
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any

from happen_nb.model.patterns import PatternIndex
from happen_nb.model.transforms import Second, takes_second

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from happen_nb.model.patterns import Pattern


@dataclass(eq=False)
class Registration:
    """A handler of a node.

    Parameters
    ----------
    node : str
    pattern : Pattern
    handler : callable
    where : callable, optional
        Filters further.
    retries : int
        How often a handler that raises is called again.
    backoff : float
        Seconds before the first of these times; each next one waits twice as long.
    run : object, optional
        The run of the cell that registered it.
    """

    node: str
    pattern: Pattern
    handler: Callable[..., Any]
    where: Callable[[Any], object] | None = None
    retries: int = 0
    backoff: float = 0.5
    run: object = None
    active: bool = True
    number: int = 0
    """How many were registered before it."""
    context: contextvars.Context = field(default_factory=contextvars.copy_context)

    @property
    def name(self) -> str:
        """The function's name."""
        return str(getattr(self.handler, "__qualname__", None) or type(self.handler).__qualname__)

    def second(self) -> Second:
        """How the handler takes its context, if it does."""
        return takes_second(self.handler, "context")


class Registrations:
    """All registrations of a space. Changed by one thread at a time, read by any."""

    def __init__(self) -> None:
        self._strings: PatternIndex[Registration] = PatternIndex()
        self._all: tuple[Registration, ...] = ()
        self._predicates: tuple[Registration, ...] = ()
        self._numbers = count()
        self._lock = threading.Lock()

    def add(self, registration: Registration) -> None:
        """Add one, after all others."""
        with self._lock:
            registration.number = next(self._numbers)
            self._all = (*self._all, registration)
            if registration.pattern.predicate is None:
                self._strings.add(registration.pattern, registration)
            else:
                self._predicates = (*self._predicates, registration)

    def remove(self, registration: Registration) -> bool:
        """Take one off; False if it was off already."""
        with self._lock:
            if not registration.active:
                return False
            registration.active = False
            self._all = tuple(other for other in self._all if other is not registration)
            self._predicates = tuple(other for other in self._predicates if other is not registration)
            self._strings.remove(registration)
        return True

    def candidates(self, type: str, target: str | None) -> dict[str, list[Registration]]:
        """Node -> its registrations that may match, in order; predicates are not asked yet."""
        found: dict[str, list[Registration]] = {}
        for registration in (*self._strings.matching(type), *self._predicates):
            if target is None or registration.node == target:
                found.setdefault(registration.node, []).append(registration)
        if self._predicates:
            for registrations in found.values():
                registrations.sort(key=lambda registration: registration.number)
        return found

    def of(self, node: str) -> list[Registration]:
        """A node's registrations, in order."""
        return [registration for registration in self._all if registration.node == node]

    def __iter__(self) -> Iterator[Registration]:
        return iter(self._all)
