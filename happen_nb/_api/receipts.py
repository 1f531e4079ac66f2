"""Receipts: show below each cell what it caused, once that is done."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from happen_nb._api.base import Displayable, shown_by
from happen_nb._api.diagrams import SequenceDiagram
from happen_nb._model.patterns import near_miss
from happen_nb._runtime.cells import cells, current_request
from happen_nb._runtime.effects import Effects, read_effects, wait_handled
from happen_nb._runtime.in_flight import Work, describe_works
from happen_nb._runtime.io import on_io, run_blocking
from happen_nb.errors import HappenError

if TYPE_CHECKING:
    from happen_nb._api.unhandled import Facts
    from happen_nb._model.causality import TraceNode
    from happen_nb._model.records import EventRecord
    from happen_nb._runtime.replica import Applied
    from happen_nb._runtime.runtime import Runtime

T = TypeVar("T")
TIMEOUT_SECONDS: Final = 10.0
MAX_FOLLOWED: Final = 1000  # events and commits of one cell whose effects are followed; more are only counted


class Caused:
    """The events and commits of a run of a cell; if there are too many to follow, their number only."""

    def __init__(self) -> None:
        self.ids: set[str] = set()  # their ids in the causes of the effects
        self.made = 0
        self.changed = 0
        self.repeated = 0
        self.scheduled = 0
        self.events: list[EventRecord] = []
        self.commits: list[Applied] = []

    @property
    def followed(self) -> bool:
        """True if there are few enough to follow."""
        return len(self.ids) <= MAX_FOLLOWED

    def includes(self, work: Work) -> bool:
        """Return True for work that they have caused, in this process."""
        return work.correlation in self.ids

    def add_event(self, event: EventRecord) -> None:
        self.made += 1
        self._add(event.id, self.events, event)

    def add_commit(self, applied: Applied) -> None:
        self.changed += 1
        self._add(applied.record.causal_id, self.commits, applied)

    def _add(self, id: str, to: list[T], item: T) -> None:
        self.ids.add(id)
        if self.followed:
            to.append(item)
        else:
            self.events.clear()
            self.commits.clear()


class Receipt(Displayable):
    """The effects of a cell, in one line that unfolds to the trees of each event and commit."""

    _page = shown_by("reprs_runs.receipt_page")

    def __init__(
        self,
        trees: list[TraceNode],
        caused: Caused,
        *,
        facts: Callable[[str], bool] = lambda _: False,
        patterns: Collection[str] = (),
        replaced: int = 0,
        note: str = "",
    ) -> None:
        totals = [tree.totals for tree in trees]
        self.trees = trees
        self.events = sum(each.events for each in totals) or caused.made
        self.commits = sum(each.commits for each in totals) or caused.changed
        self.failures = sum(each.failures for each in totals)
        unhandled = [] if note else [type for tree in trees for type in _unhandled(tree) if not facts(type)]
        self.unhandled = len(unhandled)
        near = (near_miss(type, patterns) for type in dict.fromkeys(unhandled))
        self.nearest = next(filter(None, near), None)
        """The pattern that an unhandled event narrowly misses, for example because of a typo."""
        self.repeated = caused.repeated  # the number of events with an ``id`` that was already stored
        self.scheduled = caused.scheduled
        self.replaced = replaced
        """The number of registrations of the cell's previous run that this run replaced."""
        self.note = note  # the reason if the effects are incomplete, for example the handlers that still run

    def sequence(
        self, *, times: bool = True, merge: bool = True, width: int | None = None
    ) -> SequenceDiagram:
        """Draw what the cell caused as a sequence diagram; see `Trace.sequence`."""
        return SequenceDiagram("a cell", self.trees, times=times, merge=merge, width=width)


class Receipts:
    """Follows the runs of cells, and shows below each what it caused in a space."""

    def __init__(self, runtime: Runtime, facts: Facts) -> None:
        self._runtime = runtime
        self._facts = facts
        self._caused: dict[str | None, Caused] = {}
        self._stop: Callable[[], None] | None = None
        runtime.on_own_event.connect(self._count_event)
        runtime.on_own_commit.connect(self._count_commit)

    def show(self, *, on: bool) -> None:
        """Start showing receipts with the running cell, or stop."""
        if on and self._stop is None:
            self._stop = cells.on_run_end(self._ended)
        elif not on and self._stop is not None:
            self._stop()
            self._stop = None

    def _count_event(self, record: EventRecord, repeated: bool) -> None:  # noqa: FBT001 - a signal's argument
        if self._stop is None or record.path:  # one with a path comes from a handler
            return
        caused = self._caused.setdefault(current_request(), Caused())
        if repeated:
            caused.repeated += 1
        elif record.alarm is not None:
            caused.scheduled += 1
        else:
            caused.add_event(record)

    def _count_commit(self, applied: Applied) -> None:
        if self._stop is None or applied.record.origin.path:
            return
        self._caused.setdefault(current_request(), Caused()).add_commit(applied)

    def _ended(self, replaced: int) -> None:
        """Wait for everything that the finished run caused, and show it."""
        caused = self._caused.pop(current_request(), Caused())
        self._caused.clear()
        if not (caused.ids or caused.repeated or caused.scheduled or replaced):
            return
        from IPython.display import display

        display(self._receipt(caused, replaced))  # type: ignore[no-untyped-call]

    def _receipt(self, caused: Caused, replaced: int) -> Receipt:
        trees: list[TraceNode] = []
        note = ""
        if caused.ids:
            try:
                trees, note = self._followed(caused)
            except HappenError as error:  # the space was closed, or the server is away
                note = str(error)
        owners = self._runtime.ownership.all()
        patterns = sorted({pattern for owner in owners if owner.incarnation for pattern in owner.patterns})
        return Receipt(
            trees, caused, facts=self._facts.cover, patterns=patterns, replaced=replaced, note=note
        )

    def _followed(self, caused: Caused) -> tuple[list[TraceNode], str]:
        """Return the effects, and a note if they are incomplete."""
        note = "" if caused.followed else "too many effects to follow"
        try:
            with _interruptible():
                left = run_blocking(self._wait_for(caused))
            if left:
                note = f"still running: {', '.join(left)}"
        except KeyboardInterrupt:
            note = "wait interrupted"
        return run_blocking(self._trees(caused)), note

    async def _wait_for(self, caused: Caused) -> list[str]:
        """Wait for the effects of this cell, not for those of others; return what is still running."""
        runtime, deadline = self._runtime.checked, time.monotonic() + TIMEOUT_SECONDS
        if caused.followed:
            effects = Effects(caused.events, caused.commits)
            left: list[str] = await on_io(wait_handled(runtime, effects, deadline))
            return left
        works = await on_io(runtime.in_flight.drain(caused.includes, deadline))
        return [describe_works(works)] if works else []

    async def _trees(self, caused: Caused) -> list[TraceNode]:
        """Read the effects, in every process."""
        if not caused.followed:
            return []
        effects = Effects(caused.events, caused.commits)
        trees: list[TraceNode] = await on_io(read_effects(self._runtime.checked, effects))
        return trees


def _unhandled(tree: TraceNode) -> Iterator[str]:
    """Yield the types of the events that no handler handled."""
    for node in tree:
        if node.event is not None and not any(record.accepted for record in node.handled):
            yield node.event.type


@contextmanager
def _interruptible() -> Iterator[None]:
    """Make interrupting the kernel raise KeyboardInterrupt, even after a cell that awaits."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
