"""Handlers that stand still while a conductor waits for them: when the others go on without them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container

    from happen_nb._runtime.runs import Run


class Standstill:
    """Decides which handlers count as waiting for others outside the library. On the IO thread.

    It counts the checks in a row without progress, so that nothing depends on the speed of the machine: a
    check takes place only if the threads of handlers get a core. After `patience` checks, or `task_patience`
    if another of its tasks waits for its turn, a handler counts as waiting, unless it waits for the server:
    such a call has a timeout of its own.

    `in_order` is True if the order is known that the handlers should have. Then a handler first is one of the
    `slow`: the others do only what comes next in that order, and nothing if it has not looked at the states.
    It counts as waiting after twice as many checks.
    """

    def __init__(self, patience: int, task_patience: int, *, in_order: bool) -> None:
        self._patience = patience
        self._task_patience = task_patience
        self._in_order = in_order
        self.checks = 0  # the number of checks since the last progress
        self.live: set[Run] = set()  # the handlers that have begun, and have not ended
        self.slow: set[Run] = set()
        self.given_up: set[Run] = set()  # the handlers that count as waiting
        self.unsteady: set[tuple[str, str]] = set()
        """The nodes and functions of handlers that may leave out what comes next in the order."""
        self._awaited: set[Run] = set()  # the handlers for whose next step the others wait

    def go_on(self, run: Run) -> None:
        """Note that a handler continues, waits or has ended."""
        self.checks = 0
        self.slow.discard(run)
        self.given_up.discard(run)
        if run.ended:
            self.live.discard(run)

    def comes(self, event: str, node: str | None) -> bool:
        """Return True if a handler of an event, of any node or one, may do something before it waits."""
        found = {run for run in list(self.live) if run.handles(event, node) and run.may_store}
        found = {run for run in found if run.names not in self.unsteady}
        self._awaited |= found
        return bool(found or self.slow)

    def check(self, running: set[Run], at_gates: Container[Run]) -> bool:
        """Take the handlers out of `running` for which nobody waits any longer; True if there are any."""
        self.checks += 1
        found = False
        for run in [*running, *self.slow]:
            patience = self._task_patience if run in at_gates else self._patience
            if self.checks <= patience or run.calls_server:
                continue
            is_over = not self._in_order or self.checks > 2 * patience
            if is_over or run.has_looked:
                running.discard(run)
                self.slow.discard(run)
                (self.given_up if is_over else self.slow).add(run)
                found = True
        if self.checks > self._patience:
            self.unsteady |= {run.names for run in self._awaited}
        self._awaited.clear()
        return found
