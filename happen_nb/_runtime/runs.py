"""The handlers that a `Conductor` runs, and the steps at which they wait for their turn."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from happen_nb._runtime import causes
from happen_nb._runtime.io import IoStep, TurnStep

if TYPE_CHECKING:
    from collections.abc import Callable

    from happen_nb._model.orders import Choice
    from happen_nb._runtime.causes import HandlerScope
    from happen_nb._runtime.conductor import Conductor


@dataclass(eq=False)
class Offer:
    """A commit that was evaluated ahead, and waits for its turn."""

    choice: Choice
    begin: Callable[[Run], object]  # called with its run
    run: Run | None = None  # its run, when it has its turn


class Run:
    """A handler or watch that has begun, or code outside of the space whose effects count."""

    def __init__(self, begin: Choice | None) -> None:
        self.begin = begin  # the choice that started it; None for code outside
        self.scope: HandlerScope | None = None  # that of its handler
        self.ended = False
        self._waiting = 0  # the number of its tasks that wait for their turn, or for others
        self._in_task = False  # True if what waited last was a task
        self.calls: dict[object, None] = {}  # the calls of the library in which its tasks wait for the server
        self._going: set[object] = set()
        """The tasks that have waited and now continue; the other tasks are assumed to wait for these."""

    @property
    def runs(self) -> bool:
        return not self.ended and (bool(self._going) or not self._waiting)

    @property
    def names(self) -> tuple[str, str]:
        """The node and the function of its handler."""
        return ("", "") if self.begin is None else (self.begin.node, self.begin.handler)

    def handles(self, event: str, node: str | None) -> bool:
        """Return True if it is of a handler of an event, of any node or one."""
        begin = self.begin
        is_of = begin is not None and begin.event is not None and begin.event.id == event
        return is_of and node in (None, self.names[0])

    @property
    def has_looked(self) -> bool:
        """True if the recorded place of its begin no longer matters: it has read the states, or emitted."""
        return self.scope is None or self.scope.unseen is None

    @property
    def may_store(self) -> bool:
        """True if other tasks of it than the one that waits may store something."""
        return self.scope is not None and not self.scope.is_alone(in_task=self._in_task)

    def wait(self, task: object) -> None:
        """Note that a task waits; None is the handler's own thread, or one that it has started."""
        self._waiting += 1
        self._in_task = task is not None
        self._going -= {task, None}

    def go_on(self, task: object) -> None:
        self._waiting -= 1
        self._going.add(task)

    def leave(self, task: object) -> None:
        self._going.discard(task)

    @property
    def going(self) -> frozenset[object]:
        return frozenset(self._going)

    def await_others(self, tasks: frozenset[object]) -> None:
        """Note that tasks wait for others that wait for their turn, if there are any."""
        if self._waiting and not self.calls_server:
            self._going -= tasks

    @property
    def calls_server(self) -> bool:
        """True while a task of it waits for the server."""
        return any(not isinstance(step, ConductedStep) for step in list(self.calls))


outside_run: ContextVar[Run | None] = ContextVar("outside", default=None)
"""The run of code outside of the space, such as a cell that a check runs."""


def current_task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # a thread without a loop
        return None


def current_run() -> Run | None:
    running = causes.current_scope()
    run = outside_run.get() if running is None else running.run
    return None if run is None or run.ended else run


class ConductedStep(TurnStep):
    """A step that ends when it is the turn of its caller; awaited inside `run_blocking`."""

    def result(self) -> Any:
        return None


@dataclass(eq=False)
class StoreGate(ConductedStep):
    """A task that waits for its turn to store something."""

    conductor: Conductor
    run: Run
    choice: Choice
    task: asyncio.Task[Any] | None
    wake: Callable[[], None] = field(init=False)

    def start(self, wake: Callable[[], None]) -> None:
        self.wake = wake
        self.conductor.arrive(self)

    def cancel(self) -> None:
        self.conductor.leave(self)


@dataclass(eq=False)
class Pause:
    """A time during which a run waits for others. On the IO thread."""

    conductor: Conductor
    run: Run
    task: asyncio.Task[Any] | None
    _begun: bool = False

    def begin(self) -> None:
        self._begun = True
        self.conductor.pauses += 1
        self.run.wait(self.task)
        self.conductor.update(self.run)

    def over(self, wake: Callable[[], None]) -> None:
        """Call `wake` when it is its turn to continue."""
        self.conductor.back(self, wake)

    def end(self) -> None:
        if self._begun:
            self._begun = False
            self.conductor.pauses -= 1
            self.run.go_on(self.task)
            self.conductor.update(self.run)


@dataclass(eq=False)
class ReturnStep(ConductedStep):
    """The end of a pause."""

    pause: Pause

    def start(self, wake: Callable[[], None]) -> None:
        self.pause.over(wake)

    def cancel(self) -> None:
        self.pause.end()


@dataclass(eq=False)
class WaitStep(ConductedStep):
    """A step during which a run waits for others."""

    pause: Pause
    step: IoStep

    def start(self, wake: Callable[[], None]) -> None:
        self.pause.begin()
        self.step.start(lambda: self.pause.over(wake))

    def cancel(self) -> None:
        self.step.cancel()
        self.pause.end()

    def result(self) -> Any:
        return self.step.result()
