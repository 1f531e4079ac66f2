"""The turns of async handlers on a manual clock, where handlers run one at a time.

The task of an async handler keeps its turn while a call of the library waits for the server, as a plain
handler does. It gives its turn up while it waits for the clock, for other handlers, or for anything else.
"""

from __future__ import annotations

import asyncio
import inspect
import types
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar
from typing import Any

from happen_nb._runtime.workers import NEXT, Workers


class Tasks:
    """The tasks of one async handler."""

    def __init__(self, on_change: Callable[[], object]) -> None:
        self._on_change = on_change
        """Called when all of them wait, or one continues. From any thread."""
        self._going: set[TaskTurn] = set()

    @property
    def going(self) -> bool:
        """True unless all of them wait for the clock, for other handlers, or for anything else."""
        return bool(self._going)

    def note(self, turn: TaskTurn, *, going: bool) -> None:
        before = self.going
        (self._going.add if going else self._going.discard)(turn)
        if self.going != before:
            self._on_change()


class TaskTurn:
    """The turn of one task of an async handler."""

    def __init__(self, workers: Workers, tasks: Tasks) -> None:
        self._workers = workers
        self.tasks = tasks
        self.keeps = False  # True while the task waits for the server
        self.loop: asyncio.AbstractEventLoop | None = None
        self.take()

    def take(self) -> None:
        """Run from now on, regardless of what else runs."""
        self.tasks.note(self, going=True)
        self._workers.begin(self)

    def give(self, *, awaits: bool = False) -> None:
        """Let others have their turn; `awaits` is True if the task waits for one of them."""
        self._workers.end(self, awaits=awaits)
        self.tasks.note(self, going=False)

    def await_next(self, go_on: Callable[[], object], waits: Callable[[], bool]) -> None:
        """Call `go_on` when the task has its turn again, if it still waits then."""

        def begin() -> None:
            if waits():
                self.take()
                go_on()

        self.tasks.note(self, going=True)
        self._workers.submit(begin, NEXT)

    def other(self, task: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]], work: Any) -> Any:
        """Make another task of the handler, with a turn of its own."""
        turn = TaskTurn(self._workers, self.tasks)

        def end(_: object) -> None:
            turn.give()
            if inspect.iscoroutine(work):
                work.close()  # else Python warns of one that was cancelled before it began

        made = task(turn.run(work))
        made.add_done_callback(end, context=Context())
        return made

    async def run(self, work: Any) -> Any:
        self.loop = asyncio.get_running_loop()
        current_turn.set(self)
        try:
            return await _steps(work, self)
        finally:
            current_turn.set(None)


current_turn: ContextVar[TaskTurn | None] = ContextVar("turn", default=None)
"""The turn of the task that runs in this context."""


def turn_here(loop: asyncio.AbstractEventLoop) -> TaskTurn | None:
    """Return the turn of the task of an async handler that runs in a loop; None elsewhere."""
    turn = current_turn.get()
    return turn if turn is not None and turn.loop is loop else None


@types.coroutine
def _steps(work: Any, turn: TaskTurn) -> Generator[Any, Any, Any]:
    """Run a coroutine step by step; between two steps, its task waits."""
    move, value = work.send, None
    while True:
        try:
            awaited = move(value)
        except StopIteration as end:
            return end.value
        if awaited is not None and not turn.keeps:  # None: it only lets other tasks run
            turn.give()
        try:
            move, value = work.send, (yield awaited)
        except GeneratorExit:  # it is no longer run
            work.close()
            raise
        except BaseException as error:
            move, value = work.throw, error
        turn.take()
