"""The cause of events and commits made here: the event being handled, or the commit being watched.

A context variable holds it, so asyncio tasks and ``asyncio.to_thread`` have it too. Other threads start with
an empty context, and so without a cause, unless `carry` passes it on.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import threading
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from contextvars import Context, ContextVar, copy_context
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

from happen_nb._frames import is_library, shell
from happen_nb._model.functions import is_kind, loaded, wrap
from happen_nb._model.quoting import quote
from happen_nb._model.records import NO_ORIGIN, CommitRecord, EventRecord, Origin
from happen_nb._model.transforms import compute
from happen_nb._runtime.redirect import Redirect, current_redirect, enter_redirect, redirected_to
from happen_nb._runtime.task_turns import current_turn
from happen_nb.errors import CancelledHandlingError, CausalLoopError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterator
    from types import FrameType, ModuleType

    from happen_nb._model.schedules import Alarm
    from happen_nb._runtime.runs import Run
    from happen_nb._runtime.stored_steps import DurableRun, DurableStep
    from happen_nb._runtime.waiting import HandlerWait

P = ParamSpec("P")
R = TypeVar("R")

MAX_CHAIN = 1000  # maximum length of a causal chain; a longer one counts as a loop

MAX_LATE = 100  # maximum number of late cancels that are recorded for a handling


_counting = threading.Lock()


class Evaluation:
    """A running transform, which computes the state of a node."""

    def __init__(self, node: str, space: object) -> None:
        self.node = node
        self.space = space
        self.emitted: list[Any] = []
        """The events that the transform has emitted; they are stored with the commit."""
        self.cancelled: list[Alarm] = []  # the scheduled events that the commit cancels

    @property
    def what(self) -> str:
        """Its description, for error messages."""
        return (
            "the block of happen.emitted()" if self.space is None else f'the transform of node "{self.node}"'
        )


evaluating: ContextVar[Evaluation | None] = ContextVar("evaluating", default=None)
"""The transform that runs in this context. To read it, use `current_evaluation`."""


def current_evaluation() -> Evaluation | None:
    """Return the transform that this code is a part of: it may not wait for anything.

    A signal handler that interrupts a transform is no part of it.
    """
    evaluation = evaluating.get()
    return None if evaluation is None or _is_interrupted() else evaluation


def _is_interrupted() -> bool:
    """Return whether a signal handler runs, which Python calls with the frame that it interrupts."""
    if threading.get_ident() != threading.main_thread().ident:
        return False
    frame = sys._getframe(2)
    while (interrupted := frame.f_back) is not None and (code := frame.f_code) is not compute.__code__:
        may_handle = code.co_argcount > 1 or code.co_flags & inspect.CO_VARARGS
        if may_handle and not is_library(frame) and _is_given(interrupted, frame):
            return True
        frame = interrupted
    return False


def _is_given(value: object, frame: FrameType) -> bool:
    names, rest, _, values = inspect.getargvalues(frame)
    more = values.get(rest) if rest else ()
    given = [*map(values.get, names), *(more if isinstance(more, tuple) else ())]
    return any(each is value for each in given)


class HandlerScope:
    """A running handler or callback of a node: the name of its function, and the event being handled."""

    users = 0  # the handler itself, and the tasks and functions that run in its context
    abandoned = False
    """True if the handler was cancelled but could not be stopped; its later writes are refused."""
    durable: DurableRun | None = None  # the run of a durable handler, which counts its steps
    run: Run | None = None  # the run of the handler under a conductor
    is_transform = False  # True for a state handler
    unseen: object = None  # the states of its space, until the handler first reads them or emits something
    looked: int | None = None  # the position of the journal at that first read
    late: tuple[tuple[str, int], ...] = ()
    """The ids that it could not cancel, each with the position of the journal at which it tried."""

    def __init__(
        self, node: str, function: str, origin: Origin | None = None, event: EventRecord | None = None
    ) -> None:
        self.node = node
        self.function = function
        self._origin = origin
        self.event = event
        self.waits: list[HandlerWait] = []
        """The waits of its tasks: for a time, for a reply, or for other handlers."""

    def join(self, run: Run | None) -> None:
        """Note the run of the handler, if a conductor has begun it."""
        self.run = run
        if run is not None:
            run.scope = self

    @property
    def what(self) -> str:
        doing = f'watching "{self.node}"' if self.event is None else f'handling "{self.event.type}"'
        return f"{self.function}, {doing}"

    @property
    def origin(self) -> Origin:
        if self._origin is None:  # most handlers emit and commit nothing, or once
            assert self.event is not None
            self._origin = self.event.origin_of_effects(self.node)
        return self._origin

    @contextmanager
    def handling(self, event: EventRecord) -> Iterator[None]:
        """Set the event being handled."""
        first, self.event = self.event, event
        origin, self._origin = self._origin, None
        try:
            yield
        finally:
            self.event, self._origin = first, origin

    def checked_origin(self) -> Origin:
        """Return the origin of anything stored now; raise the errors of `current_origin`."""
        if self.abandoned:
            raise CancelledHandlingError(
                f'{self.what} of node "{self.node}" was cancelled and can no longer change anything'
            )
        origin = self.origin
        if len(origin.path) + origin.omitted > MAX_CHAIN:
            raise CausalLoopError(
                f'{self.what} of node "{self.node}": a causal chain of more than {MAX_CHAIN:,} is cut '
                "off here; these handlers keep triggering each other: add a stopping condition"
            )
        return origin

    def hold(self) -> None:
        """Count one more user: the handler itself, or a task or function that runs in its context."""
        with _counting:
            self.users += 1

    def release(self, _: object = None) -> None:
        with _counting:
            self.users -= 1

    @contextmanager
    def held(self) -> Iterator[None]:
        self.hold()
        try:
            yield
        finally:
            self.release()

    def is_alone(self, *, in_task: bool) -> bool:
        """Return True if nothing else runs in it: no other task, no carried function. `in_task` in a task."""
        return self.users <= 1 + in_task

    @property
    def running(self) -> bool:
        """True until the handler, each task that it left running, and each carried function have ended."""
        # A context may be kept for much longer, as by a thread that was started in it and works for others
        # since: such a context has no cause, rather than the wrong one.
        return self.users > 0


scope: ContextVar[HandlerScope | None] = ContextVar("scope", default=None)
"""The handler or callback that this context was made in; None in a cell. It may have ended."""


def enter(found: HandlerScope, redirect: Redirect | None) -> None:
    """Turn this context, a copy of a cell's, into that of a handler or callback and its space."""
    scope.set(found)
    if current_redirect() is not redirect:
        enter_redirect(redirect)
    # A copy shares the values of context variables. The arithmetic context of `decimal` can be changed in
    # place, so a handler gets its own.
    if (decimal := loaded("decimal")) is not None and _has_arithmetic(decimal):
        decimal.setcontext(decimal.getcontext().copy())


def _has_arithmetic(decimal: ModuleType) -> bool:
    """Return True if this context has an arithmetic context; else the first calculation makes one."""
    variable = _arithmetic_variable(decimal)
    return variable is None or variable.get(None) is not None


@functools.cache
def _arithmetic_variable(decimal: ModuleType) -> ContextVar[Any] | None:
    """Return the variable of `decimal`'s arithmetic context; None if each thread has one instead."""
    context = Context()
    context.run(decimal.getcontext)
    return next(iter(context), None)


def current_scope() -> HandlerScope | None:
    """Return the handler or callback that runs in this context; None in a cell."""
    found = scope.get()
    return found if found is not None and found.running else None


@contextmanager
def calling(step: object) -> Iterator[None]:
    """Note that the code of this context waits for a call of the library, if a conductor runs it."""
    running = current_scope()
    run = None if running is None else running.run
    if run is None:
        yield
        return
    run.calls[step] = None
    try:
        yield
    finally:
        run.calls.pop(step, None)


def first_look(states: object) -> HandlerScope | None:
    """Return the handler that runs in this context, if it has not looked at these states yet."""
    found = scope.get()
    return found if found is not None and found.unseen is states else None


def note_late(id: str, position: int) -> None:
    """Note that the code of this context was too late to cancel a scheduled event."""
    running = current_scope()
    if running is not None and len(running.late) < MAX_LATE:
        running.late = (*running.late, (id, position))


def current_path() -> tuple[str, ...]:
    """Return the ids of the events that are handled in this context, directly or through others."""
    running = current_scope()
    return () if running is None else running.origin.path


def next_step() -> DurableStep | None:
    """Start the next step of the durable handler that runs in this context; None elsewhere.

    The events of a transform belong to the step of its commit.
    """
    running = current_scope()
    if running is None or running.durable is None or current_evaluation() is not None:
        return None
    return running.durable.next()


def next_cancel() -> DurableStep | None:
    """Start the next cancel of the durable handler that runs in this context; None elsewhere."""
    running = current_scope()
    return None if running is None or running.durable is None else running.durable.next_cancel()


def handling(event: EventRecord) -> AbstractContextManager[None]:
    """Set the event that the handler of this context handles: a handler that folds has several."""
    running = current_scope()
    assert running is not None
    return running.handling(event)


def scope_of_commit(record: CommitRecord, callback: str) -> HandlerScope:
    """Make the scope in which a callback is called with a commit; its path is one longer."""
    cause = record.origin
    mark = record.causal_id
    origin = cause.then(mark, cause=cause.cause, correlation=cause.correlation or mark, by=cause.by)
    return HandlerScope(record.node, callback, origin)


def current_origin() -> Origin:
    """Return the origin of events and commits made in this context.

    Raises CausalLoopError if the causal chain is so long that it must be a loop, and CancelledHandlingError
    if the handling was cancelled.
    """
    running = current_scope()
    if running is None:
        return NO_ORIGIN
    return running.checked_origin()


def output_context() -> Context | None:
    """Return a copy of this context for the output of later effects; None if no cell caused them.

    A plain thread gets the cell that its output goes to now. The effects of a widget or another message of
    the front end have no cell.
    """
    context = copy_context()
    kernel = shell()
    if current_scope() is not None or not hasattr(kernel, "set_thread_parent"):
        return context  # that of a handler is right already
    parent = kernel.get_parent()
    if parent and parent["header"]["msg_type"] != "execute_request":
        return None
    if threading.current_thread() is not threading.main_thread():
        context.run(kernel.set_thread_parent, parent)
    return context


def make_task(
    loop: asyncio.AbstractEventLoop,
    work: Coroutine[Any, Any, Any] | Generator[Any, None, Any],
    context: Context | None = None,
    **options: Any,
) -> asyncio.Task[Any]:
    """Make a task of the handlers' loop that counts as a user of its scope until it ends."""
    context = copy_context() if context is None else context
    make: Any = functools.partial(asyncio.Task, loop=loop, context=context, **options)
    turn = context.get(current_turn)
    task: asyncio.Task[Any] = make(work) if turn is None else turn.other(make, work)
    found = context.get(scope)
    if found is not None and found.running:
        found.hold()
        task.add_done_callback(found.release, context=Context())
    return task


def carry(function: Callable[P, R]) -> Callable[P, R]:
    """Wrap a function so that it runs with the current cause, in any thread.

    Events and commits have the handled event as their cause in the handler itself, in asyncio tasks, and in
    ``asyncio.to_thread``. In other threads, pools and executors they have no cause, unless the function was
    wrapped by ``carry`` in the handler. Its output is shown below the same cell. Other context variables,
    such as the arithmetic context of `decimal`, are those of the thread.

    Parameters
    ----------
    function : callable
        A plain or async function.

    Returns
    -------
    callable
        Takes the same arguments and returns the same result.

    Raises
    ------
    TypeError
        The function is not callable, or a generator function, which runs only when it is iterated over.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> pool = ThreadPoolExecutor(1)
    >>> @orders.on("order.placed")
    ... def reserve(event):
    ...     pool.submit(happen.carry(orders.broadcast), "stock.reserved").result()
    >>> trace = orders.broadcast("order.placed").settle()
    >>> [node.event.type for node in trace]
    ['order.placed', 'stock.reserved']
    """
    if not callable(function):
        raise TypeError(f"carry: {quote(function)} is not callable; pass a function")
    if is_kind(inspect.isgeneratorfunction, function) or is_kind(inspect.isasyncgenfunction, function):
        raise TypeError(
            f"carry: {quote(function)} is a generator function, which runs when it is iterated over; carry "
            "the function that iterates over it"
        )
    entered = _reentry()
    if is_kind(inspect.iscoroutinefunction, function):

        async def carried_async(*args: P.args, **kwargs: P.kwargs) -> Any:
            with entered():
                return await cast("Any", function(*args, **kwargs))

        return cast("Callable[P, R]", wrap(carried_async, function))

    def carried(*args: P.args, **kwargs: P.kwargs) -> R:
        with entered():
            return function(*args, **kwargs)

    return wrap(carried, function)


def _reentry() -> Callable[[], AbstractContextManager[None]]:
    """Return a function that enters this handler, and the cell of its output, in any thread."""
    found, redirect, kernel = current_scope(), current_redirect(), shell()
    with_cells = found is not None and hasattr(kernel, "set_thread_parent")
    cell = kernel.get_parent() if with_cells else None

    @contextmanager
    def entered() -> Iterator[None]:
        with nullcontext() if found is None else found.held(), redirected_to(redirect):
            token = scope.set(found)
            cell_token = kernel.set_thread_parent(cell) if cell else None
            try:
                yield
            finally:
                with suppress(ValueError):  # a coroutine that is dropped is closed in another context
                    scope.reset(token)
                    if cell_token is not None:
                        kernel.reset_thread_parent(cell_token)

    return entered
