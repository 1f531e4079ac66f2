"""The work in flight in this process, and waiting for its end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from happen_nb._model.records import NO_ORIGIN
from happen_nb._runtime.io import TurnStep, io_thread
from happen_nb._runtime.tracebacks import to_raise

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from happen_nb._model.pace import NodeTurn
    from happen_nb._model.records import EventRecord, Origin
    from happen_nb._runtime.registrations import Registration

LONG_RUNNING_SECONDS = 1.0  # seconds after which a message suggests stopping a running handler
MAX_NAMED = 10  # maximum number of works that a message names


class Work:
    """A delivery, callback or replay that has not ended."""

    __slots__ = ()

    correlation: str  # the causal chain it belongs to
    general: bool = False  # True if everything that waits for works waits for this one, too

    def describe(self) -> str:
        """Return its name for a message."""
        raise NotImplementedError

    def hint(self) -> str:
        """Return how to end it, if it takes long."""
        return ""

    def takes(self, turn: NodeTurn) -> bool:  # noqa: ARG002 - most works do not handle an event at a node
        """Return True if it is the handling of an event by a node."""
        return False

    def origin(self) -> Origin:
        """Return the origin of its events and commits."""
        return NO_ORIGIN


class Handling(Work):
    """The handling of an event by a node."""

    __slots__ = ()

    event: EventRecord
    node: str

    def describe(self) -> str:
        return f'node "{self.node}" handling "{self.event.type}"'

    def takes(self, turn: NodeTurn) -> bool:
        return turn == (*self.event.position, self.node)

    def origin(self) -> Origin:
        return self.event.origin_of_effects(self.node)

    def hint_at(self, registration: Registration, began: float) -> str:
        """Return how to end a handler that began then, if it takes long."""
        if time.monotonic() - began < LONG_RUNNING_SECONDS:
            return ""
        what = f'node "{self.node}" is in {registration.name}'
        return f'{what}; its off("{registration.pattern.text}") stops that'


class NamedWork(Work):
    """Work that is described by a function."""

    def __init__(self, correlation: str, describe: Callable[[], str], origin: Origin = NO_ORIGIN) -> None:
        self.correlation = correlation
        self._describe = describe
        self._origin = origin

    def describe(self) -> str:
        return self._describe()

    def origin(self) -> Origin:
        return self._origin


class Wait(TurnStep):
    """A wait until certain works have ended, and all of that kind that start meanwhile, or a deadline."""

    def __init__(self, in_flight: InFlight, belongs: Callable[[Work], bool], deadline: float) -> None:
        self.belongs = belongs
        self.left: set[Work] = set()
        self.is_complete = False  # True once `left` has all works that had started before
        self.is_over = False  # True once all works had ended
        self._in_flight = in_flight
        self._deadline = deadline
        self._wake: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, wake: Callable[[], None]) -> None:
        self._wake = wake
        seconds = max(0.0, self._deadline - time.monotonic())
        self._timer = asyncio.get_running_loop().call_later(seconds, self._end)
        self._in_flight.add(self)

    def check(self) -> None:
        """Wake the waiter if no work is left. From any thread."""
        if self.is_complete and not self.left:
            self.is_over = True
            self.end()

    def end(self) -> None:
        """Wake the waiter. From any thread."""
        if io_thread().here:
            self._end()
        else:
            io_thread().call_soon(self._end)

    def _end(self) -> None:
        wake = self._wake
        if wake is not None:
            self.cancel()
            wake()

    def cancel(self) -> None:
        self._wake = None
        if self._timer is not None:
            self._timer.cancel()
        self._in_flight.remove(self)

    def result(self) -> list[Work]:
        """Return the works that are left; ClosedError if the space was closed before they ended."""
        left = [] if self.is_over else list(self.left)
        self._in_flight.check_open(left)
        return left


class Pending(NamedTuple):
    """The work in flight at one time, and the causal chains that it belongs to.

    ``families`` are prefixes of chains: one that ends with "_" stands for all chains of a replay.
    """

    works: frozenset[Work]
    correlations: frozenset[str]
    families: tuple[str, ...] = ()
    general: bool = False  # True if it may cause any work

    def includes(self, work: Work) -> bool:
        """Return True for work that was in flight then, or has followed from it."""
        return (
            self.general
            or work.general
            or work in self.works
            or work.correlation in self.correlations
            or work.correlation.startswith(self.families)
        )


class InFlight:
    """The works in flight in this process. From any thread."""

    # Without a lock: the IO thread would wait for one that the code below a signal handler has.

    def __init__(self) -> None:
        self._works: set[Work] = set()
        self._waits: tuple[Wait, ...] = ()
        self._closed: Exception | None = None

    def start(self, *works: Work) -> None:
        """Register works; `finish` them."""
        self._works.update(works)
        for wait in self._waits:
            wait.left.update(filter(wait.belongs, works))

    def finish(self, *works: Work) -> None:
        """Remove works. Call it after the works that they triggered have been registered."""
        self._works.difference_update(works)
        for wait in self._waits:
            wait.left.difference_update(works)
            wait.check()

    def pending(self) -> Pending:
        works = frozenset(self._works)
        correlations = frozenset(work.correlation for work in works)
        families = tuple(each for each in correlations if each.endswith("_"))
        return Pending(works, correlations, families, any(work.general for work in works))

    async def drain(self, belongs: Callable[[Work], bool], deadline: float) -> list[Work]:
        """Wait until no such work is in flight; return the rest at the deadline. On the IO thread.

        Raises ClosedError if the space was closed, and such work is left.
        """
        wait, ended = Wait(self, belongs, deadline), asyncio.Event()
        wait.start(ended.set)
        try:
            await ended.wait()
        finally:
            wait.cancel()
        return wait.result()

    def add(self, wait: Wait) -> None:
        """Let a wait begin. On the IO thread."""
        self._waits = (*self._waits, wait)
        wait.left.update(filter(wait.belongs, list(self._works)))
        wait.left.intersection_update(self._works)  # some may have ended meanwhile
        wait.is_complete = True
        wait.check()
        if self._closed is not None:
            wait.end()

    def remove(self, wait: Wait) -> None:
        self._waits = tuple(each for each in self._waits if each is not wait)

    def check_open(self, left: Collection[Work]) -> None:
        if left and self._closed is not None:
            raise to_raise(self._closed)

    def close(self, why: Exception) -> None:
        """Raise `why` in every waiter: work in flight no longer ends."""
        self._closed = why
        for wait in self._waits:
            wait.end()


def describe_works(works: Collection[Work]) -> str:
    """Describe unfinished work: each name once, and how to finish it; the first ones if there are many."""
    names = Counter(work.describe() for work in works)
    hints = dict.fromkeys(hint for work in works if (hint := work.hint()))
    shown = [f"{name} ({times:,})" if times > 1 else name for name, times in names.most_common(MAX_NAMED)]
    if len(names) > MAX_NAMED:
        shown.append(f"and {len(names) - MAX_NAMED:,} more")
    return "; ".join([", ".join(shown), *islice(hints, MAX_NAMED)])
