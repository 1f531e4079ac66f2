"""Run code in a fork repeatedly, with the handlers in a different order each time."""

from __future__ import annotations

import asyncio
import io
import math
import sys
import time
from contextlib import AbstractContextManager, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, TextIO, TypeVar

from happen_nb._api.base import runtime_of
from happen_nb._api.forks import drop_fork, fork_unnamed
from happen_nb._api.history import Commit, arrived
from happen_nb._api.space import Space
from happen_nb._api.state_writer import StateWriter
from happen_nb._display import plain
from happen_nb._display.reprs_runs import steps_line
from happen_nb._model import functions
from happen_nb._model.orders import Choice, Search
from happen_nb._model.quoting import add_note, quote
from happen_nb._model.schedules import START
from happen_nb._runtime.clock import Advancer
from happen_nb._runtime.conductor import Conductor
from happen_nb._runtime.in_flight import describe_works
from happen_nb._runtime.io import io_thread, on_io, run_blocking
from happen_nb._runtime.redirect import Redirect, current_redirect, redirected_to
from happen_nb.errors import HappenError, HappenTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from happen_nb._api.failures import Failure
    from happen_nb._model.frozen import FrozenDict
    from happen_nb._runtime.replica import Applied

T = TypeVar("T")

LOOK_SECONDS: Final = 0.05
"""Seconds between checks for handlers that wait for the clock, while the code waits."""
SETTLE_SECONDS: Final = 10.0  # seconds that the effects of `trying` have to settle


@dataclass
class Trial:
    """The outcome of one order."""

    path: list[int] = field(default_factory=list)  # the index of each choice
    steps: list[Choice] = field(default_factory=list)  # the choices that were made
    commits: list[tuple[Commit, int]] = field(default_factory=list)
    """The commits of the node that is watched, and the number of steps before each."""
    failure: Failure | None = None  # the first failure of a handler

    @property
    def key(self) -> tuple[Hashable, ...]:
        return tuple((each.node, each.what, each.handler, each.target, each.receiver) for each in self.steps)


class Trials:
    """A fork of a space with its handlers, in which code is run in one order after the other.

    The fork has a manual clock, which starts at the time of the original's manual clock, or of the year 2000.
    When everything else is done, it moves on for handlers that wait in ``context.sleep`` or for a retry; in
    place of a real clock, also while the code waits for such a handler. The commits of `node` are watched.
    """

    def __init__(self, space: Space, node: str, trying: Callable[[Space], object]) -> None:
        runtime = runtime_of(space)
        functions.check_takes(trying, "check: trying", 1, [], "a space")
        self._original = space
        self._trying = trying
        self.node = node
        self._time_passes = not runtime.clock.manual
        self._now = runtime.clock.now_text() if runtime.clock.manual else START
        self._fork()
        newest = self._runtime.log.replica.cut().nodes
        self._states = {name: record.state for name, record in newest.items() if not record.deleted}

    def _fork(self) -> None:
        self.space = run_blocking(fork_unnamed(self._original, "orders"))
        self.space.failures.shows = False  # they are those of the check, which counts them
        self._runtime = runtime_of(self.space)
        self._handlers = self._registered()

    def _registered(self) -> list[object]:
        return [*self._runtime.registrations.all(), *self._runtime.watchers.all()]

    def run(self, search: Search) -> Trial:
        """Try one order, and wait until it has settled.

        Raises
        ------
        HappenTimeoutError
            It has not settled within 10 seconds.
        Exception
            The exception of the code.
        """
        trial = Trial()
        if self._handlers != self._registered():  # each order starts with those of the original
            self.drop()
            self._fork()
        run_blocking(self._start_again(self._states))
        redirect = self._runtime.dispatcher.redirect
        conductor = Conductor(self._runtime.dispatcher, _chooser(search, trial))
        io_thread().run(_called(conductor.open))
        disconnect = self._runtime.log.replica.on_commit.connect(lambda applied: self._note(trial, applied))
        try:
            with redirect_stdout(_Muted(sys.stdout, redirect)):
                self._try(conductor)
        except Exception as error:
            add_note(error, f"check: the order was: {plain(steps_line(trial.steps))}")
            raise
        finally:
            disconnect()
            io_thread().run(_called(conductor.close))
        trial.failure = next(iter(self.space.failures), None)
        return trial

    def _try(self, conductor: Conductor) -> None:
        with self.redirected():
            with conductor.outside(), self._moving_on(conductor):
                answer = self._trying(self.space)
            if (kind := functions.lazy_kind(answer)) is not None:
                raise TypeError(
                    f"check: trying is {quote(self._trying)}, which returns {kind}; pass a plain "
                    "function of a space"
                )
            if not self._runtime.is_open:
                raise HappenError(
                    f'check: trying has closed or dropped the space "{self.space.name}"; leave that to check'
                )
            self._settle(conductor)

    @contextmanager
    def _moving_on(self, conductor: Conductor) -> Iterator[None]:
        """Let time pass while the code of this block waits, unless it moves the clock."""
        if not self._time_passes:
            yield
            return
        thread = io_thread()
        moving = thread.run(_called(partial(self._runtime.log.background, self._move_on(conductor))))
        try:
            yield
        finally:
            thread.run(_end_task(moving))

    async def _move_on(self, conductor: Conductor) -> None:
        """Move the clock to the next time for which a handler waits, whenever nothing else runs."""
        runtime = self._runtime
        while await conductor.quiet(math.inf):
            idle = not runtime.in_flight.pending().works and runtime.clock.next_timer() is not None
            if idle and runtime.advancing.acquire(blocking=False):
                try:
                    await Advancer(runtime).go_on(None, SETTLE_SECONDS)
                finally:
                    runtime.advancing.release()
            else:
                await asyncio.sleep(LOOK_SECONDS)

    def _settle(self, conductor: Conductor) -> None:
        """Wait until all is handled; move the clock on while handlers wait for it."""
        runtime, deadline = self._runtime, time.monotonic() + SETTLE_SECONDS
        thread = io_thread()
        while True:
            left = thread.run(runtime.in_flight.drain(lambda _: True, deadline))
            quiet = thread.run(conductor.quiet(deadline))
            if left or not quiet or time.monotonic() > deadline:
                raise HappenTimeoutError(
                    f"check: the handlers have not settled within {SETTLE_SECONDS:g} s: "
                    f"{describe_works(left) or 'handlers keep waiting for the clock'}"
                )
            if thread.run(_called(runtime.clock.next_timer)) is None:
                return
            self.space.advance(to="next")

    def _note(self, trial: Trial, applied: Applied) -> None:
        if applied.record.node == self.node:
            trial.commits.append((arrived(applied, self._runtime), len(trial.steps)))

    async def _start_again(self, states: dict[str, FrozenDict]) -> None:
        self.space.failures.clear()
        await on_io(self._runtime.clear(lambda: self._now))
        self._runtime.watchers.muted = True  # they have not seen how the original got its states either
        try:
            for name, state in states.items():
                await StateWriter(name, self.space, self._runtime).commit_initial(state)
        finally:
            self._runtime.watchers.muted = False
        await on_io(self._runtime.in_flight.drain(lambda _: True, self._runtime.deadline()))

    def redirected(self) -> AbstractContextManager[None]:
        """Let the objects of the original stand for those of the fork in a block."""
        return redirected_to(self._runtime.dispatcher.redirect)

    def drop(self) -> None:
        run_blocking(drop_fork(self.space))


class _Muted(io.TextIOBase):
    """The standard output, without the output of code in a fork."""

    def __init__(self, stream: TextIO, redirect: Redirect | None) -> None:
        self._stream = stream
        self._redirect = redirect

    def write(self, text: str) -> int:
        if current_redirect() is self._redirect:
            return len(text)
        return self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()


def _chooser(search: Search, trial: Trial) -> Callable[[list[Choice]], Choice]:
    """Return a chooser that asks a search, and notes what it has chosen."""

    def choose(choices: list[Choice]) -> Choice:
        last = trial.steps[-1] if trial.steps else None
        if last is not None and last.transform and last.what == "begin":
            # Nothing depends on the time between the start of a state handler and its commit.
            commit = next((each for each in choices if _is_commit_of(each, last)), None)
            if commit is not None:
                trial.steps.append(commit)
                return commit
        index = search.pick([_party(each) for each in choices])
        trial.path.append(index)
        trial.steps.append(choices[index])
        return choices[index]

    return choose


def _is_commit_of(choice: Choice, begun: Choice) -> bool:
    is_same = (choice.node, choice.position, choice.transform) == (begun.node, begun.position, True)
    return is_same and choice.what == "commit"


def _party(choice: Choice) -> tuple[str, str]:
    """Return the party that takes a step, one after the other: a node, or a watch."""
    return choice.node, choice.handler if choice.event is None else ""


async def _called(function: Callable[[], T]) -> T:
    return function()


async def _end_task(task: asyncio.Task[None]) -> None:
    """Stop a task, and wait for its end; its error is raised where the code waits."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
