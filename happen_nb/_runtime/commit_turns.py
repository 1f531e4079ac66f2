"""Decide when a pipeline may store its next commit: other writers, and a conductor, may go first."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from happen_nb._runtime.io import io_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from happen_nb._journal.outbox import Outbox
    from happen_nb._runtime.dispatcher import Dispatcher
    from happen_nb._runtime.evaluation import Item
    from happen_nb._runtime.precedence import Contender
    from happen_nb._runtime.runs import Offer, Run

MAX_IN_A_ROW = 100  # number of commits of a node after which other writers may go first
PAUSE_SHARE = 0.05
"""Length of that pause, as a share of the time of the commits: others are slower on a busy machine, too."""
PAUSE_SECONDS = 0.003  # minimum length of that pause
LOST_SECONDS = 0.01  # minimum length of the pause if a commit of this process was refused
MAX_PAUSE_SECONDS = 0.5


class CommitTurns:
    """The turns of one node's commits; `go_on` is called when the next may be stored. On the IO thread."""

    def __init__(
        self, node: str, dispatcher: Dispatcher, outbox: Outbox, go_on: Callable[[str], object]
    ) -> None:
        self._node = node
        self._dispatcher = dispatcher
        self._refused_nodes = outbox.refused_nodes
        self._go_on = go_on
        self._paused = False
        self._in_a_row = 0  # the number of commits since the last pause, or since nothing waited
        self._row_began = 0.0  # the time of the first of these commits, by ``time.monotonic()``
        self._contender: Contender | None = None  # asks to go first, if others have overtaken it
        self._offered: Offer | None = None  # the commit that is ready, while it waits for a conductor
        self._run: Run | None = None  # the run of the commit that has its turn, where a conductor decides
        self._first: Item | None = None  # the first event of the commit that is offered, or has its turn

    @property
    def offered(self) -> bool:
        """True while a commit waits for a conductor."""
        return self._offered is not None

    def stored(self, *, more: bool) -> None:
        """Note that a commit is stored, and whether `more` of the node wait."""
        self.end()
        self._in_a_row = self._in_a_row + 1 if more else 0
        if self._in_a_row == 1:
            self._row_began = time.monotonic()

    def end(self) -> None:
        """Let others have their turn, and go on if they have waited for this writer."""
        self._end_run()
        if self._contender is not None:
            self._contender.leave()
            self._contender = None

    def reset(self, *, lost: bool) -> None:
        """Note that the next commit is evaluated anew; `lost` if another was stored before the one sent."""
        self._paused = False
        self._end_run()
        if lost:
            self._contender = self._contender or self._dispatcher.precedence.contender(self._node)
            self._contender.lose()
        self._refused_nodes.discard(self._node)

    # -- other writers of the node -------------------------------------------------------------------

    def pauses(self) -> bool:
        """Let other writers go first now and then: they take longer than the next commit here."""
        if self._dispatcher.precedence.must_wait(self._node, self._contender):
            self._paused = True
            return True
        lost = self._node in self._refused_nodes
        if self._paused or not (lost or self._in_a_row >= MAX_IN_A_ROW):
            return self._paused
        self._refused_nodes.discard(self._node)
        share = PAUSE_SHARE * (time.monotonic() - self._row_began) if self._in_a_row else 0.0
        seconds = min(MAX_PAUSE_SECONDS, max(LOST_SECONDS if lost else PAUSE_SECONDS, share))
        self._paused, self._in_a_row = True, 0
        io_thread().loop.call_later(seconds, self.end_pause)
        return True

    def end_pause(self) -> None:
        """Go on, if it pauses."""
        if self._paused:
            self._paused = False
            self._go_on(self._node)

    # -- a conductor ---------------------------------------------------------------------------------

    def is_of(self, first: Item) -> bool:
        """Return True if the commit of an event, and of those after it, has its turn."""
        return self._run is not None and self._first is first

    def has_come(self, first: Item) -> bool:
        """Return True if a commit may be stored now; else a conductor calls `go_on` when it may."""
        conductor = self._dispatcher.conductor
        if conductor is None or self.is_of(first):
            return True
        if self._first is not first:
            self._end_run()
            self._first = first
        if self._offered is None:
            begins = first.handlers[0].begins(first.event)
            choice = begins._replace(what="commit", target=self._node)
            from happen_nb._runtime.runs import Offer

            self._offered = Offer(choice, self._take)
            self._run = conductor.offer(self._offered)
            if self._run is not None:
                self._offered = None
        return self._run is not None

    def _take(self, run: Run) -> None:
        self._offered, self._run = None, run
        self._go_on(self._node)

    def _end_run(self) -> None:
        if self._run is None and self._offered is None:
            return
        run, self._run = self._run, None
        offered, self._offered = self._offered, None
        conductor = self._dispatcher.conductor
        if conductor is None:
            return
        if offered is not None:
            conductor.withdraw(offered)
        if run is not None:
            conductor.end(run)
