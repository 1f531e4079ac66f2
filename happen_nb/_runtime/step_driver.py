"""Drive the steps of a handler: in a worker thread, and on the loop of async handlers."""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from happen_nb._runtime.handler_loops import handler_loops
from happen_nb._runtime.io import inbox_of
from happen_nb._runtime.task_turns import Tasks, TaskTurn

if TYPE_CHECKING:
    import contextvars

    from happen_nb._runtime.workers import Workers

T = TypeVar("T")
logger = logging.getLogger("happen_nb")


class on_handler_loop(Generic[T]):  # noqa: N801 - reads as a function where it is awaited
    """Await a coroutine on the handlers' loop; only in a coroutine that a `StepDriver` drives.

    `inner`, which it awaits, is closed too if the work is cancelled before it starts.
    """

    __slots__ = ("inner", "work")

    def __init__(self, work: Coroutine[Any, Any, T], inner: object) -> None:
        self.work = work
        self.inner = inner

    def close_unstarted(self) -> None:
        """Close the work if it has not started, so that Python does not warn of it."""
        if inspect.iscoroutine(self.work) and inspect.getcoroutinestate(self.work) == inspect.CORO_CREATED:
            self.work.close()
            if inspect.iscoroutine(self.inner):
                self.inner.close()

    def __await__(self) -> Generator[on_handler_loop[T], T, T]:
        return (yield self)


class StepDriver:
    """Drives a coroutine in a context: its own steps in worker threads, the rest on the handlers' loop.

    No thread waits during ``await on_handler_loop(...)``, so a thousand nodes may await something at once. An
    error that the coroutine raises is logged, and ends it.
    """

    def __init__(
        self,
        work: Coroutine[Any, Any, None],
        context: contextvars.Context,
        workers: Workers,
        tasks: Tasks | None,
    ) -> None:
        self._work = work
        self._context = context
        self._workers = workers
        self._tasks = tasks
        self._on_loop = False
        self._cancelled = False
        self._turn: TaskTurn | None = None
        self._task: asyncio.Task[Any] | None = None
        self._ended = False
        self._callback: Callable[[], None] | None = None
        self._lock = threading.Lock()

    def start(self) -> StepDriver | None:
        """Start in this thread; None if it has ended already."""
        self._step(self._work.send, None)
        return None if self._ended else self

    def on_end(self, callback: Callable[[], None]) -> bool:
        """Call `callback` at the end; False if it has ended already."""
        with self._lock:
            if not self._ended:
                self._callback = callback
            return not self._ended

    def cancel_task(self) -> bool:
        """Cancel what runs on the handlers' loop, or comes there next; False if nothing is there yet."""
        with self._lock:
            self._cancelled = True
            on_loop, task = self._on_loop, self._task
        if task is not None:
            inbox_of(task.get_loop()).put(task.cancel)
        return on_loop

    def _step(self, move: Callable[[Any], on_handler_loop[Any]], value: Any) -> None:
        try:
            step = self._context.run(move, value)
        except StopIteration:
            self._end()
        except BaseException:
            logger.exception("unexpected error in the run of a handler")
            self._end()
        else:
            self._on_loop = True
            self._turn = None if self._tasks is None else TaskTurn(self._workers, self._tasks)
            handler_loops().start(partial(self._start_task, step))

    def _start_task(self, step: on_handler_loop[Any]) -> None:
        work = _outcome(step.work, self._turn)
        task = asyncio.get_running_loop().create_task(work, context=self._context)
        task.add_done_callback(partial(self._task_ended, step))
        with self._lock:
            self._task = task
            cancelled = self._cancelled
        if cancelled:
            task.cancel()

    def _task_ended(
        self, step: on_handler_loop[Any], task: asyncio.Task[tuple[Any, BaseException | None]]
    ) -> None:
        step.close_unstarted()
        with self._lock:
            self._task = None
            self._on_loop = self._cancelled = False
        value, error = (None, asyncio.CancelledError()) if task.cancelled() else task.result()
        if error is None:
            self._workers.submit(lambda: self._step(self._work.send, value))
        else:
            self._workers.submit(lambda: self._step(self._work.throw, error))
        if self._turn is not None:
            self._turn.give()

    def _end(self) -> None:
        with self._lock:
            self._ended = True
            callback = self._callback
        if callback is not None:
            callback()


async def _outcome(
    work: Coroutine[Any, Any, T], turn: TaskTurn | None
) -> tuple[T | None, BaseException | None]:
    """Return the result or the error of a coroutine: SystemExit and KeyboardInterrupt would end a loop."""
    try:
        return await (work if turn is None else turn.run(work)), None
    except BaseException as error:
        return None, error
