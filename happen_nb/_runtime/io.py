"""The IO thread, and the two faces of everything that waits.

One thread runs one event loop with every connection of the process. What a user calls is written once, as
a coroutine whose waiting is done by ``await on_io(...)``; `wait_for` runs it in a plain call and
`wait_in_loop` in an ``await``. Either way the coroutine's own steps, and so the user's transforms, run in
the thread of the caller; only what is handed to `on_io` runs on the IO thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from collections import deque
from contextvars import Context, ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from weakref import WeakKeyDictionary, ref

from happen_nb._frames import hide, hide_all
from happen_nb._runtime import causes
from happen_nb._runtime.mailbox import workers_here
from happen_nb._runtime.tracebacks import shortened
from happen_nb.errors import HappenError, TransformError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

T = TypeVar("T")

log = logging.getLogger("happen_nb")

BLOCKED = 0.5
"""Seconds without a turn after which the loop of async handlers counts as blocked."""
LOOPS = 16
"""Loops of async handlers at most."""


@dataclass(eq=False, slots=True)
class Evaluation:
    """A transform that runs.

    Parameters
    ----------
    node : str
        Whose state it computes.
    space : object
        The node's space.
    emitted : list
        What it has emitted; that leaves with the commit.
    """

    node: str
    space: object
    emitted: list[Any] = field(default_factory=list)


evaluating: ContextVar[Evaluation | None] = ContextVar("evaluating", default=None)
"""The transform that runs in this context: nothing may wait in there."""


class on_io(Generic[T]):  # noqa: N801 - reads as a function where it is awaited
    """Await a coroutine on the IO thread; only inside what `wait_for` or `wait_in_loop` runs."""

    __slots__ = ("work",)

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self.work = work

    def __await__(self) -> Generator[on_io[T], T, T]:
        return (yield self)


class Inbox:
    """Calls into an event loop from other threads; many at once wake the loop once.

    Waking a loop is a write to a socket, which lets another thread take over: it costs more than most calls.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = ref(loop)  # the loop is what the inbox is found by: it must not be kept
        self._calls: deque[Callable[[], object]] = deque()
        self._woken = False

    def put(self, call: Callable[[], object]) -> None:
        """Call it soon, in the loop, without a context of anybody's."""
        self._calls.append(call)
        if self._woken:
            return
        try:
            self._woken = True
            loop = self._loop()
            if loop is None:
                raise RuntimeError("the event loop that waits for this is gone")
            loop.call_soon_threadsafe(self._run, context=Context())
        except BaseException:  # the stop button, or the loop is closed
            self._woken = False
            raise

    def _run(self) -> None:
        self._woken = False  # what is put from here on wakes it again
        while self._calls:
            call = self._calls.popleft()
            try:
                call()
            except Exception as error:
                asyncio.get_running_loop().call_exception_handler(
                    {"message": f"in {call!r}", "exception": error}
                )


_inboxes: WeakKeyDictionary[asyncio.AbstractEventLoop, Inbox] = WeakKeyDictionary()


def inbox_of(loop: asyncio.AbstractEventLoop) -> Inbox:
    """The calls into a loop."""
    inbox = _inboxes.get(loop)
    if inbox is None:
        inbox = _inboxes.setdefault(loop, Inbox(loop))
    return inbox


class Bridge:
    """A thread with an event loop: the IO thread of this process, or the one of async handlers."""

    def __init__(self, name: str, task_factory: Any = None) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_task_factory(task_factory)
        self._inbox = inbox_of(self.loop)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        Context().run(self._thread.start)  # it works for many: it has no context of its own

    @property
    def here(self) -> bool:
        """Whether this is its thread."""
        return threading.current_thread() is self._thread

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        while not self.loop.is_closed():
            try:
                self.loop.run_forever()
            except BaseException:  # a task of a handler may raise SystemExit, which asyncio lets out
                log.exception("a task ended the loop of %s, which goes on", self._thread.name)

    def doing(self) -> str:
        """Where its thread is at the moment."""
        frame = sys._current_frames().get(self._thread.ident or 0)
        return "ended" if frame is None else f"{frame.f_code.co_name}, line {frame.f_lineno}"

    def soon(self, callback: Callable[..., object], *args: object) -> None:
        """Call something on the IO thread, without waiting for it."""
        self._inbox.put(partial(callback, *args))

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the IO thread and wait for it; interrupting the wait cancels it."""
        if self.here:
            work.close()
            raise HappenError("a blocking call on the IO thread would wait for itself")
        done = threading.Lock()
        done.acquire()
        task: asyncio.Task[T] | None = None

        def start() -> None:
            nonlocal task
            task = self.loop.create_task(work)
            task.add_done_callback(lambda _: done.release())

        self._inbox.put(start)
        workers = workers_here()
        try:
            if workers is None:
                done.acquire()
            else:
                with workers.blocked():
                    done.acquire()
        except BaseException:
            self._inbox.put(lambda: task.cancel() if task else None)
            raise
        assert task is not None
        return task.result()

    async def wait_in_loop(self, work: Coroutine[Any, Any, T]) -> T:
        """The same for a caller in a loop of its own; cancelling the caller cancels `work`."""
        caller = asyncio.get_running_loop()
        arrived: asyncio.Future[None] = caller.create_future()
        task: asyncio.Task[T] | None = None

        def wake() -> None:
            if not arrived.done():
                arrived.set_result(None)

        def start() -> None:
            nonlocal task
            task = self.loop.create_task(work)
            task.add_done_callback(lambda _: _call_in(caller, wake))

        self._inbox.put(start)
        try:
            await arrived
        except BaseException:
            self._inbox.put(lambda: task.cancel() if task else None)
            raise
        assert task is not None
        return task.result()


def _call_in(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
    if not loop.is_closed():  # else the one who waited is gone
        inbox_of(loop).put(callback)


class Handlers:
    """The event loop of async handlers, and others that stand in for it while a handler blocks it."""

    def __init__(self) -> None:
        self._loops = [self._make(0)]
        self._current = self._loops[0]
        self._waiting: deque[_Start] = deque()
        self._watching = False
        self._lock = threading.Lock()

    @staticmethod
    def _make(number: int) -> Bridge:
        return Bridge(f"happen_nb-handlers-{number}" if number else "happen_nb-handlers", causes.make_task)

    @property
    def here(self) -> bool:
        """Whether this is the thread of one of them."""
        return any(each.here for each in self._loops)

    def start(self, call: Callable[[], object]) -> None:
        """Call something soon in a loop that is not blocked."""
        start = _Start(call)
        with self._lock:
            self._drop_begun()
            self._waiting.append(start)
            self._current.soon(start)
            if self._watching:
                return
            self._watching = True
        bridge().soon(self._watch)

    def _watch(self) -> None:
        """Look again in a while whether what waits has begun. On the IO thread."""
        with self._lock:
            self._drop_begun()
            self._watching = bool(self._waiting)
            if self._waiting:
                bridge().loop.call_later(BLOCKED, self._look, self._waiting[0])

    def _drop_begun(self) -> None:
        while self._waiting and self._waiting[0].begun:
            self._waiting.popleft()

    def _look(self, seen: _Start) -> None:
        if not seen.begun:
            self._stand_in()
        self._watch()

    def _stand_in(self) -> None:
        """Start what waits in another loop, until the first one goes on."""
        blocked = self._current
        number = self._loops.index(blocked) + 1
        if number == LOOPS:
            return
        log.warning(
            "an async handler blocks the loop of all async handlers (%s): others start in another loop "
            "meanwhile; use await asyncio.to_thread(...) for what blocks",
            blocked.doing(),
        )
        with self._lock:
            if number == len(self._loops):
                self._loops.append(self._make(number))
            self._current = self._loops[number]
            for start in self._waiting:
                self._current.soon(start)
        blocked.soon(self._back, blocked)

    def _back(self, free: Bridge) -> None:
        with self._lock:
            self._current = min(free, self._current, key=self._loops.index)


class _Start:
    """A call that is made once, by the loop that comes to it first."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call: Callable[[], object] | None = call
        self._lock = threading.Lock()

    @property
    def begun(self) -> bool:
        return self._call is None

    def __call__(self) -> None:
        with self._lock:
            call, self._call = self._call, None
        if call is not None:
            call()


class _Process:
    """What this process has one of; a forked child has none of it yet."""

    def __init__(self) -> None:
        self.bridge: Bridge | None = None
        self.handlers: Handlers | None = None
        self.making = threading.Lock()


_process = _Process()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_process.__init__)  # type: ignore[misc]


def bridge() -> Bridge:
    """The IO thread, started when it is first needed."""
    if _process.bridge is None:
        with _process.making:
            _process.bridge = _process.bridge or Bridge("happen_nb-io")
    return _process.bridge


def handlers() -> Handlers:
    """The threads of async handlers; the first is started when it is first needed."""
    if _process.handlers is None:
        with _process.making:
            _process.handlers = _process.handlers or Handlers()
    return _process.handlers


def refuse_on_handlers(call: str, instead: str) -> None:
    """Refuse to block the loop that may have to do what is waited for.

    Raises
    ------
    HappenError
        This is the thread of async handlers.
    """
    if _process.handlers is not None and _process.handlers.here:
        raise HappenError(
            f"{call} would block the loop of all async handlers, which may have to do what it waits for: "
            f"in an async handler write {instead}"
        )


def _refuse_in_transform(work: Coroutine[Any, Any, Any]) -> None:
    evaluation = evaluating.get()
    if evaluation is not None:
        work.close()
        raise TransformError(
            f'the transform of node "{evaluation.node}" called something that waits for the system; a '
            "transform only computes the new state: read with views, and do the rest before or after the set"
        )


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in this thread, as a plain call."""
    _refuse_in_transform(work)
    io = bridge()
    try:
        step: on_io[Any] = work.send(None)
        while True:
            try:
                answer = io.wait(step.work)
            except BaseException as error:
                step = work.throw(error)
            else:
                step = work.send(answer)
    except StopIteration as end:
        result: T = end.value
        return result
    except BaseException as error:  # IPython takes 10 ms for each frame, and who reads it longer
        hide(sys._getframe())
        hide_all(error.__traceback__)
        raise error.with_traceback(shortened(error))  # noqa: B904 - it is the same one


async def wait_in_loop(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in the caller's loop, as something to await."""
    _refuse_in_transform(work)
    io = bridge()
    waited = False
    try:
        step: on_io[Any] = work.send(None)
        while True:
            waited = True
            try:
                answer = await io.wait_in_loop(step.work)
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
        hide(sys._getframe())
        hide_all(error.__traceback__)
        raise error.with_traceback(shortened(error))  # noqa: B904 - it is the same one


async def within(timeout: float, future: asyncio.Future[Any]) -> bool:
    """Wait for a future; False if it takes longer than `timeout` seconds."""
    try:
        async with asyncio.timeout(timeout):
            await future
    except TimeoutError:
        return False
    return True
