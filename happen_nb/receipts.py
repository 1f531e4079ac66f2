"""Receipts: below each cell what it caused, once that is done."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from happen_nb.errors import HappenError, HappenTimeoutError
from happen_nb.runtime.activity import Snapshot
from happen_nb.runtime.bridge import on_io, wait_for
from happen_nb.runtime.cells import cells
from happen_nb.runtime.following import Effects
from happen_nb.runtime.output import run
from happen_nb.shown import Shown

if TYPE_CHECKING:
    from happen_nb.model.commits import EventRecord
    from happen_nb.model.trace import TraceNode
    from happen_nb.runtime.replica import Applied
    from happen_nb.runtime.session import Session
    from happen_nb.space import Space

WAIT: Final = 10.0
"""Seconds that a cell waits for what it caused."""
LOOK: Final = 0.002
"""Seconds between looks whether it is done."""
FOLLOWED: Final = 1000
"""Events and commits of one cell whose effects are followed; more are counted only."""


@dataclass
class Caused:
    """What a run of a cell did by itself."""

    events: list[EventRecord] = field(default_factory=list)
    commits: list[Applied] = field(default_factory=list)
    repeated: int = 0

    @property
    def ids(self) -> frozenset[str]:
        """What stands for them in the causes of what follows."""
        return frozenset([event.id for event in self.events] + [each.record.mark for each in self.commits])


class Receipt(Shown, kind="receipt"):
    """What a cell caused: a line that unfolds to the tree of it.

    Attributes
    ----------
    trees : list of TraceNode
        What followed from each event and commit of the cell.
    events, commits, failures, unheard : int
        How many there are.
    repeated : int
        Events with an ``id`` that was stored before.
    replaced : int
        Registrations of the cell's last run that those of this run replace.
    note : str
        What still runs.
    """

    def __init__(self, trees: list[TraceNode], caused: Caused, *, replaced: int = 0, note: str = "") -> None:
        totals = [tree.totals for tree in trees]
        self.trees = trees
        self.events = sum(each.events for each in totals) or len(caused.events)
        self.commits = sum(each.commits for each in totals) or len(caused.commits)
        self.failures = sum(each.failures for each in totals)
        self.unheard = 0 if note else sum(_is_unheard(node) for tree in trees for node in tree)
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
        self._stop = cells.follow(self._ended)

    def stop(self) -> None:
        """Show none any more."""
        self._stop()

    def made(self, event: EventRecord, *, repeated: bool) -> None:
        """An event was stored by this process, or was there before. From any thread."""
        if event.path:
            return  # a handler's
        with self._lock:
            caused = self._caused.setdefault(run(), Caused())
            if repeated:
                caused.repeated += 1
            else:
                caused.events.append(event)

    def changed(self, applied: Applied) -> None:
        """A commit was stored by this process. From any thread."""
        if applied.record.origin.path:
            return
        with self._lock:
            self._caused.setdefault(run(), Caused()).commits.append(applied)

    def _ended(self, replaced: int) -> None:
        """A run of a cell has ended: wait for what it caused, and show that."""
        with self._lock:
            caused = self._caused.pop(run(), Caused())
            self._caused.clear()
        if not (caused.events or caused.commits or caused.repeated or replaced):
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
        return Receipt(trees, caused, replaced=replaced, note=note)

    def _followed(self, caused: Caused) -> tuple[list[TraceNode], str]:
        """What came of it, and what else there is to say."""
        try:
            with _stop_button():
                wait_for(self._done(caused.ids))
                if len(caused.ids) > FOLLOWED:
                    return [], "too many to follow"
                return wait_for(self._trees(caused, WAIT)), ""
        except HappenTimeoutError as error:
            note = str(error).partition(": ")[2]
        except KeyboardInterrupt:
            note = "not waited for any longer"
        return ([] if len(caused.ids) > FOLLOWED else wait_for(self._trees(caused, None))), note

    async def _done(self, ids: frozenset[str]) -> None:
        """Wait for what follows here; what other cells caused may go on."""
        activity, own = self._space._session.dispatch.activity, Snapshot(frozenset(), ids)
        deadline = time.monotonic() + WAIT
        while left := activity.left(own):
            if time.monotonic() > deadline:
                names = ", ".join(dict.fromkeys(token.describe() for token in left))
                raise HappenTimeoutError(f"receipt: still running: {names}")
            await on_io(asyncio.sleep(LOOK))

    async def _trees(self, caused: Caused, timeout: float | None) -> list[TraceNode]:
        """What followed, in every process."""
        trees: list[TraceNode] = await on_io(_grown(self._space._session, caused, timeout))
        return trees


async def _grown(session: Session, caused: Caused, timeout: float | None) -> list[TraceNode]:
    return await Effects(session, caused.events, caused.commits).trees(timeout)


def _is_unheard(node: TraceNode) -> bool:
    return node.event is not None and all(record.outcome == "refused" for record in node.handled)


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
