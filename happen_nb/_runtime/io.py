"""The IO thread, the loops of async handlers, and the blocking and the async way to wait for them.

One thread runs one event loop with every connection of the process. Each call that waits is written once, as
a coroutine that waits by ``await on_io(...)``: `run_blocking` runs it in a plain call, `run_awaitable` in an
``await``. Either way the coroutine's own steps, and so the user's transforms, run in the caller's thread;
only the argument of `on_io` runs on the IO thread.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sys
import threading
from collections import deque
from contextvars import Context
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar
from weakref import WeakKeyDictionary, ref

from happen_nb._frames import briefly, hide, hide_all
from happen_nb._runtime import causes
from happen_nb._runtime.task_turns import turn_here
from happen_nb._runtime.tracebacks import as_raised, user_frames
from happen_nb._runtime.workers import current_workers, refuse_at_end
from happen_nb.errors import ClosedError, HappenError, TransformError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from types import FrameType

    from happen_nb._runtime.workers import GivesWay

T = TypeVar("T")
P = ParamSpec("P")

logger = logging.getLogger("happen_nb")

WAKING_TURNS = 6  # turns of the IO loop in which an event or reply wakes those that wait for it


class IoStep(Protocol):
    """Something that the IO thread does while its caller waits; awaited by yielding itself."""

    def start_here(self, wake: Callable[[], None]) -> bool:  # noqa: ARG002 - most steps cannot
        """Start it as `start` does, in the thread of the caller; False if only the IO thread can."""
        return False

    def start(self, wake: Callable[[], None]) -> None:
        """Start it; call `wake` at its end. On the IO thread."""

    def cancel(self) -> None:
        """End it soon: its caller was interrupted. On the IO thread."""

    def result(self) -> Any:
        """Return its result, or raise its error. In the thread of the caller."""


class TurnStep(IoStep):
    """A step that takes as long as others run; they may need the thread of its caller."""

    blocks = False  # True if its caller blocks its thread until the end

    def __await__(self) -> Generator[IoStep, Any, Any]:
        return (yield self)


class for_others(TurnStep):  # noqa: N801 - reads as a function where it is awaited
    """Await a step that takes as long as other handlers run."""

    def __init__(self, step: Any) -> None:
        self._step = step

    def start(self, wake: Callable[[], None]) -> None:
        self._step.start(wake)

    def cancel(self) -> None:
        self._step.cancel()

    def result(self) -> Any:
        return self._step.result()


class on_io(IoStep, Generic[T]):  # noqa: N801 - reads as a function where it is awaited
    """Await a coroutine on the IO thread; only in a coroutine that `run_blocking` or `run_awaitable` runs."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work
        self._task: asyncio.Task[T] | None = None

    def __await__(self) -> Generator[on_io[T], T, T]:
        return (yield self)

    def start(self, wake: Callable[[], None]) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work)
        self._task.add_done_callback(lambda _: wake())

    def cancel(self) -> None:
        if self._task is None:
            self._work.close()
        else:
            self._task.cancel()
            self._task.add_done_callback(_retrieve)

    def result(self) -> T:
        assert self._task is not None
        return self._task.result()


def _retrieve(task: asyncio.Task[Any]) -> None:
    """Retrieve the error of a task whose caller is gone; otherwise asyncio logs it."""
    if not task.cancelled():
        task.exception()


class Inbox:
    """Calls into an event loop from other threads."""

    # Many calls at once wake the loop once. Waking it is a write to a socket, which lets another thread take
    # over: it costs more than most calls.

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = ref(loop)  # the loop is the key of its inbox, which must not keep it alive
        self._calls: deque[Callable[[], object]] = deque()
        self._woken = False
        self._waking = 0
        self._running = False

    def put(self, call: Callable[[], object]) -> None:
        """Call it soon in the loop, in an empty context."""
        self._calls.append(call)
        thread = threading.get_ident()
        if self._woken and self._waking != thread:  # a signal or a finalizer may come while this one wakes it
            return
        try:
            self._waking, self._woken = thread, True
            loop = self._loop()
            if loop is None:
                raise RuntimeError("the event loop that waits for this is gone")
            loop.call_soon_threadsafe(self._run, context=Context())
        except BaseException:  # the kernel was interrupted, or the loop is closed
            self._woken = False
            raise
        finally:
            self._waking = 0

    def put_last(self, call: Callable[[], object]) -> None:
        """Call it when all that was put has been called, or soon. In the loop."""
        if self._running:
            self._calls.append(call)  # in this turn: another one costs a system call
        else:
            asyncio.get_running_loop().call_soon(call)

    def _run(self) -> None:
        self._woken = False  # later calls wake it again
        self._running = True
        try:
            while self._calls:
                call = self._calls.popleft()
                try:
                    call()
                except Exception as error:
                    asyncio.get_running_loop().call_exception_handler(
                        {"message": f"in {call!r}", "exception": error}
                    )
        finally:
            self._running = False
            if self._calls:  # one raised what ends a loop, as SystemExit
                asyncio.get_running_loop().call_soon(self._run)


_inboxes: WeakKeyDictionary[asyncio.AbstractEventLoop, Inbox] = WeakKeyDictionary()


def inbox_of(loop: asyncio.AbstractEventLoop) -> Inbox:
    inbox = _inboxes.get(loop)
    if inbox is None:
        inbox = _inboxes.setdefault(loop, Inbox(loop))
    return inbox


class IoThread:
    """A thread with an event loop: the IO thread of this process, or the one of async handlers."""

    def __init__(self, name: str, task_factory: Any = None) -> None:
        refuse_at_end()
        self.loop = asyncio.new_event_loop()
        self.loop.set_task_factory(task_factory)
        self._inbox = inbox_of(self.loop)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        Context().run(self._thread.start)  # it works for many, and so has no context of its own

    @property
    def here(self) -> bool:
        return threading.current_thread() is self._thread

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self.loop.is_closed():
            try:
                self.loop.run_forever()
            except BaseException:  # a task of a handler may raise SystemExit, which asyncio lets out
                logger.exception("a task tried to end the loop of %s, which continues", self._thread.name)

    def doing(self) -> str:
        """Describe the line that its thread runs."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "ended" if frame is None else f"{frame.f_code.co_name}, line {frame.f_lineno}"

    def call_soon(self, callback: Callable[..., object], *args: object) -> None:
        """Call something in its loop, without waiting for it."""
        self._inbox.put(partial(callback, *args))

    def _begin(self, step: IoStep, wake: Callable[[], None]) -> None:
        if not step.start_here(wake):
            self._inbox.put(partial(step.start, wake))

    def call_last(self, callback: Callable[[], object]) -> None:
        """Call something after all that other threads have called by now. In its loop."""
        self._inbox.put_last(callback)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` in its loop and block until it ends; an interrupt cancels it."""
        step = on_io(work)
        self.wait(step)
        return step.result()

    def wait(self, step: IoStep) -> None:
        """Start a step in its loop and block until it ends; an interrupt cancels it."""
        if self.here:
            step.cancel()
            raise HappenError("a blocking call on the IO thread would wait for itself")
        _refuse_at_end(step)
        done = threading.Lock()
        done.acquire()
        if isinstance(step, TurnStep):
            step.blocks = True
        workers = current_workers()
        try:
            if workers is None:
                self._begin(step, done.release)
                done.acquire()
            else:
                way = _gives_way(step)
                wake = workers.waker(done.release) if way == "to all" else done.release
                with causes.calling(step), workers.blocked(way):
                    self._begin(step, wake)
                    done.acquire()
        except BaseException:
            self._inbox.put(step.cancel)
            raise

    async def await_end(self, step: IoStep) -> None:
        """Start a step, and await its end in another loop; cancelling the caller cancels the step."""
        _refuse_at_end(step)
        caller = asyncio.get_running_loop()
        arrived: asyncio.Future[None] = caller.create_future()

        def wake() -> None:
            if not arrived.done():
                arrived.set_result(None)

        inbox, turn = inbox_of(caller), turn_here(caller)
        keeps = turn is not None and not isinstance(step, TurnStep)

        def end() -> None:
            if caller.is_closed():  # the caller is gone
                return
            if turn is None or keeps:
                inbox.put(wake)
            else:
                turn.await_next(partial(inbox.put, wake), lambda: not arrived.done())

        if turn is not None:
            turn.keeps = keeps
            if not keeps:
                turn.give(awaits=True)
        try:
            self._begin(step, end)
            with causes.calling(step):
                await arrived
        except BaseException:
            self._inbox.put(step.cancel)
            raise
        finally:
            if turn is not None:
                turn.keeps = False


def _gives_way(step: IoStep) -> GivesWay:
    """Return which handlers may run while what runs in this context waits for a step."""
    if isinstance(step, TurnStep):
        return "to all"
    running = causes.current_scope()
    commits = running is not None and running.is_transform and not isinstance(step, on_io)
    return "to state handlers" if commits else "no"


def _refuse_at_end(step: IoStep) -> None:
    try:
        refuse_at_end()
    except ClosedError:
        step.cancel()
        raise


class PerProcess(Generic[T]):
    """Something that a process makes when it is first needed; a forked child makes its own."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._forget()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        self.made: T | None = None
        self._making = threading.RLock()

    def get(self) -> T:
        if self.made is None:
            with self._making:
                made = self.made or self._make()
                self.made = self.made or made  # a signal handler may have made another one meanwhile
        return self.made


_io_thread = PerProcess(lambda: IoThread("happen_nb-io"))


def io_thread() -> IoThread:
    """Return the IO thread; the first call starts it."""
    return _io_thread.made or _io_thread.get()


def call_after_waking(call: Callable[[], object]) -> None:
    """Call something on the IO thread when it has woken those whose waiting has just ended."""
    io_thread().call_soon(_call_after_turns, WAKING_TURNS, call)


def _call_after_turns(turns: int, call: Callable[[], object]) -> None:
    if turns:
        io_thread().loop.call_soon(_call_after_turns, turns - 1, call)
    else:
        call()


def refuse_in_transform(work: Coroutine[Any, Any, Any]) -> None:
    """Raise TransformError in a transform, and close the coroutine that would have waited."""
    evaluation = causes.current_evaluation()
    if evaluation is not None:
        work.close()
        raise TransformError(
            f"{evaluation.what} called something that waits, but a transform only computes the new state: "
            "read with views, and do the rest before or after state.set"
        )


def run_blocking(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in this thread, as a plain call."""
    refuse_in_transform(work)
    io = io_thread()
    try:
        step: IoStep = work.send(None)
        while True:
            try:
                while True:  # inside: an interrupt comes where a loop goes back, and `work` must see it
                    io.wait(step)
                    step = work.send(step.result())
            except BaseException as error:
                if inspect.getcoroutinestate(work) == inspect.CORO_CLOSED:
                    raise
                step = work.throw(error)
    except StopIteration as end:
        result: T = end.value
        return result
    except BaseException as error:
        if isinstance(error, ImportError):  # modules are gone at the end of the interpreter, too
            refuse_at_end()
        original = as_raised(error)
        if original is not error:
            raise _shortened(original, sys._getframe()) from None
        raise _shortened(error, sys._getframe())  # noqa: B904 - it is the same one


async def run_awaitable(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in the caller's loop."""
    refuse_in_transform(work)
    io = io_thread()
    waited = False
    try:
        step: IoStep = work.send(None)
        while True:
            waited = True
            try:
                await io.await_end(step)
                answer = step.result()
            except BaseException as error:
                step = work.throw(error)
            else:
                step = work.send(answer)
    except StopIteration as end:
        result: T = end.value
        if not waited:  # a loop that only awaits what is there already lets other tasks run, too
            await asyncio.sleep(0)
        return result
    except BaseException as error:
        raise _shortened(error, sys._getframe())  # noqa: B904 - it is the same one


def _shortened(error: BaseException, caller: FrameType) -> BaseException:
    """Remove our frames from a traceback: IPython takes 10 ms for each, and they do not help the user."""
    hide(caller)
    hide_all(error.__traceback__)
    shown = briefly(error) if isinstance(error, KeyboardInterrupt) else error
    return shown.with_traceback(user_frames(error))
