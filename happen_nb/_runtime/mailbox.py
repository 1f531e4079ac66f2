"""The works of a node or a watch, which run one at a time."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from happen_nb._runtime.workers import FIRST, Order, Workers

if TYPE_CHECKING:
    from happen_nb._model.orders import Choice
    from happen_nb._runtime.attempt import Attempt
    from happen_nb._runtime.delivery import Delivery
    from happen_nb._runtime.runs import Run
    from happen_nb._runtime.step_driver import StepDriver

    Work = Callable[[], StepDriver | None]
    """A function to call. If it returns something, that still has to end. Its errors are logged."""

logger = logging.getLogger("happen_nb")


class Mailbox:
    """Runs the works that are put into it, one at a time, in order."""

    def __init__(self, workers: Workers) -> None:
        self.run: Run | None = None  # the run of the work that a conductor began
        self._workers = workers
        self._waiting: deque[tuple[Order, Work, Callable[[], Choice | None] | None]] = deque()
        self.running = False
        self._turn = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._waiting)

    def put(
        self, work: Work, order: Order = FIRST, choice: Callable[[], Choice | None] | None = None
    ) -> None:
        """Add a work, with its place among those of all mailboxes, if they run in turn.

        `choice` returns the choice for a conductor, if there is one; a work without a choice begins at once.
        """
        with self._lock:
            self._waiting.append((order, work, choice))
            self._start()

    def put_first(self, works: Iterable[Attempt | Delivery]) -> None:
        """Add works before all others, in their order."""
        with self._lock:
            first = [(work.order, work.start, work.choice) for work in works]
            self._waiting.extendleft(reversed(first))
            self._start()

    def clear(self) -> None:
        self._waiting.clear()

    def abandon_current(self) -> None:
        """Abandon the running work: nothing starts at its end. `go_on` starts the next."""
        with self._lock:
            self._end_run(self._turn)
            self._turn += 1

    def go_on(self) -> None:
        """Start the next work, after `abandon_current`."""
        with self._lock:
            self.running = False
            self._start()

    def _start(self) -> None:
        if self._waiting and not self.running:
            self.running = True
            self._submit()

    def _submit(self) -> None:
        """Let the first work run in its turn."""
        order, _, choice = self._waiting[0]
        if self._workers.conductor is None or choice is None:
            turn = self._turn
            self._workers.submit(lambda: self._drain(turn), order)
        else:
            self._workers.conductor.hold(self)

    def choice(self) -> Choice | None:
        """Return the choice of a conductor that the first work is; None if it needs no turn."""
        with self._lock:
            choice = self._waiting[0][2] if self._waiting else None
            return None if choice is None else choice()

    def begin(self, run: Run | None) -> None:
        """Start the work that a conductor has held."""
        with self._lock:
            turn, self.run = self._turn, run
        self._workers.submit(lambda: self._drain(turn))

    def _end_run(self, turn: int) -> None:
        """Report to the conductor that its task has ended, unless it was abandoned."""
        if turn != self._turn:
            return
        run, self.run = self.run, None
        if run is not None and self._workers.conductor is not None:
            self._workers.conductor.ended(run)

    def _drain(self, turn: int) -> None:
        while (work := self._next(turn)) is not None:
            try:
                rest = work()
                if rest is not None and rest.on_end(lambda: self._go_on_after(turn)):
                    return
            except BaseException:  # one that breaks does not stop the next
                logger.exception("unexpected error in %r", work)
            if self._one_by_one and not self._begins_next(turn):
                self._let_others(turn)
                return

    def _begins_next(self, turn: int) -> bool:
        """Return True if a conductor lets the next begin at once, in this thread."""
        conductor = self._workers.conductor
        if conductor is None:
            return False
        with self._lock:
            choice = self._waiting[0][2] if turn == self._turn and self._waiting else None
            if choice is None or self.run is None:
                return False
            next_run = conductor.follow(self.run, choice)
            if next_run is None:
                return False
            self.run = next_run
            return True

    @property
    def _one_by_one(self) -> bool:
        return self._workers.in_turn or self._workers.conductor is not None

    def _go_on_after(self, turn: int) -> None:
        if self._one_by_one and not self._begins_next(turn):
            self._let_others(turn)
        else:
            self._drain(turn)

    def _let_others(self, turn: int) -> None:
        """Let other mailboxes have their turn before the rest."""
        with self._lock:
            if turn == self._turn and self._waiting:
                self._submit()
            elif turn == self._turn:
                self.running = False
            self._end_run(turn)

    def _next(self, turn: int) -> Work | None:
        with self._lock:
            if turn != self._turn:
                return None  # what ran was abandoned: another thread has taken over
            if not self._waiting:
                self.running = False
                self._end_run(turn)
                return None
            return self._waiting.popleft()[1]
