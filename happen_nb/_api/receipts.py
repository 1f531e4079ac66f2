"""Receipts: below each cell what it caused, once that is done."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

from happen_nb._api.base import Displayable
from happen_nb._display.reprs_events import receipt_page
from happen_nb._model.patterns import near_miss
from happen_nb._runtime.cells import cells, current_request
from happen_nb._runtime.effects import Effects, Pending
from happen_nb._runtime.io import on_io, run_blocking
from happen_nb.errors import HappenError, HappenTimeoutError

if TYPE_CHECKING:
    from happen_nb._api.events import Event
    from happen_nb._api.space import Space
    from happen_nb._model.causality import TraceNode
    from happen_nb._model.records import EventRecord
    from happen_nb._runtime.replica import Applied
    from happen_nb._runtime.session import Session

T = TypeVar("T")

WAIT: Final = 10.0
"""Seconds that a cell waits for what it caused."""
LOOK: Final = 0.002
"""Seconds between looks whether it is done."""
FOLLOWED: Final = 1000
"""Events and commits of one cell whose effects are followed; more are counted only."""


@dataclass
class Caused:
    """What a run of a cell did by itself.

    The events and commits themselves are let go once there are too many to follow.
    """

    ids: set[str] = field(default_factory=set)
    """What stands for them in the causes of what follows."""
    made: int = 0
    changed: int = 0
    repeated: int = 0
    events: list[EventRecord] = field(default_factory=list)
    commits: list[Applied] = field(default_factory=list)

    @property
    def followed(self) -> bool:
        """Whether there are few enough of them."""
        return len(self.ids) <= FOLLOWED

    def add_event(self, event: EventRecord) -> None:
        """One that it said."""
        self.made += 1
        self._add(event.id, self.events, event)

    def add_commit(self, applied: Applied) -> None:
        """One that it made."""
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
    """What a cell caused: a line that unfolds to the tree of it.

    Attributes
    ----------
    trees : list of TraceNode
        What followed from each event and commit of the cell.
    events, commits, failures, unhandled : int
        How many there are.
    repeated : int
        Events with an ``id`` that was stored before.
    nearest : str or None
        The pattern that one of the unhandled events misses narrowly, as by a typo.
    replaced : int
        Registrations of the cell's last run that those of this run replace.
    note : str
        What still runs.
    """

    _page = receipt_page

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
        self.repeated = caused.repeated
        self.replaced = replaced
        self.note = note


class Receipts:
    """Follows the cells of a notebook, and shows below each what it caused in a space.

    Parameters
    ----------
    space : Space
    """

    def __init__(self, space: Space) -> None:
        self._space = space
        self._caused: dict[str | None, Caused] = {}
        self._lock = threading.Lock()
        self._stop: Callable[[], None] | None = None

    def show(self, *, on: bool) -> None:
        """Show them from the cell that runs now on, or no longer."""
        if on and self._stop is None:
            self._stop = cells.on_run_end(self._ended)
        elif not on and self._stop is not None:
            self._stop()
            self._stop = None

    def made(self, event: Event) -> None:
        """An event was stored by this process, or was there before. From any thread."""
        if self._stop is None or event.path:  # one with a path is a handler's
            return
        with self._lock:
            caused = self._caused.setdefault(current_request(), Caused())
            if event.repeated:
                caused.repeated += 1
            else:
                caused.add_event(event._record)

    def changed(self, applied: Applied) -> None:
        """A commit was stored by this process. From any thread."""
        if self._stop is None or applied.record.origin.path:
            return
        with self._lock:
            self._caused.setdefault(current_request(), Caused()).add_commit(applied)

    def _ended(self, replaced: int) -> None:
        """A run of a cell has ended: wait for what it caused, and show that."""
        with self._lock:
            caused = self._caused.pop(current_request(), Caused())
            self._caused.clear()
        if not (caused.ids or caused.repeated or replaced):
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
        owners = self._space._dispatch.ownership.all()
        patterns = sorted({pattern for owner in owners if owner.incarnation for pattern in owner.patterns})
        facts = self._space.facts.cover
        return Receipt(trees, caused, facts=facts, patterns=patterns, replaced=replaced, note=note)

    def _followed(self, caused: Caused) -> tuple[list[TraceNode], str]:
        """What came of it, and what else there is to say."""
        try:
            with _stop_button():
                return run_blocking(self._done(caused)), "" if caused.followed else "too many to follow"
        except HappenTimeoutError as error:
            note = str(error).partition(": ")[2]
        except KeyboardInterrupt:
            note = "not waited for any longer"
        return run_blocking(self._trees(caused, None)), note

    async def _done(self, caused: Caused) -> list[TraceNode]:
        """Wait for what follows; what other cells caused may go on."""
        activity, own = self._space._session.dispatch.in_flight, Pending(frozenset(), frozenset(caused.ids))
        deadline = time.monotonic() + WAIT
        while left := activity.remaining(own):
            if time.monotonic() > deadline:
                names = ", ".join(dict.fromkeys(token.describe() for token in left))
                raise HappenTimeoutError(f"receipt: still running: {names}")
            await on_io(asyncio.sleep(LOOK))
        return await self._trees(caused, WAIT)

    async def _trees(self, caused: Caused, timeout: float | None) -> list[TraceNode]:
        """What followed, in every process."""
        if not caused.followed:
            return []
        trees: list[TraceNode] = await on_io(_grown(self._space._session, caused, timeout))
        return trees


async def _grown(session: Session, caused: Caused, timeout: float | None) -> list[TraceNode]:
    return await Effects(session, caused.events, caused.commits).trees(timeout)


def _unhandled(tree: TraceNode) -> Iterator[str]:
    """The types of the events that no handler took."""
    for node in tree:
        if node.event is not None and not any(record.accepted for record in node.handled):
            yield node.event.type


@contextmanager
def _stop_button() -> Iterator[None]:
    """Let the stop button raise KeyboardInterrupt, also after a cell that awaits."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
