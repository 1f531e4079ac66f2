"""What led to what: the event that is handled, or the commit that is watched, in this context.

A context variable holds it, so tasks and ``asyncio.to_thread`` have it too; `inherit` sees to threads and
executors, which do not hand contexts on by themselves before Python 3.14.
"""

from __future__ import annotations

import contextvars
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Any

from happen_nb.errors import CancelledHandlingError, CausalLoopError
from happen_nb.model.commits import NO_ORIGIN, Origin
from happen_nb.runtime.bridge import evaluating

if TYPE_CHECKING:
    from collections.abc import Callable

    from happen_nb.model.commits import CommitRecord, EventRecord

LONGEST_CHAIN = 1000
"""Causes, one after the other, before a chain counts as a loop."""


@dataclass(eq=False, slots=True)
class Scope:
    """A handler or callback that runs.

    Parameters
    ----------
    node : str
        Whose it is.
    what : str
        What runs, for messages.
    origin : Origin
        Of what is emitted or committed in it.
    event : EventRecord, optional
        The event that is handled.
    waits : list
        The replies that it waits for.
    abandoned : bool
        Whether it was cancelled while it could not be stopped; it may not change anything any more.
    """

    node: str
    what: str
    origin: Origin
    event: EventRecord | None = None
    waits: list[Any] = field(default_factory=list)
    abandoned: bool = False


scope: ContextVar[Scope | None] = ContextVar("scope", default=None)
"""The handler or callback that runs in this context; None in a cell."""


def of_event(event: EventRecord, node: str, handler: str) -> Scope:
    """The scope in which a node's handler handles an event."""
    correlation = event.correlation or event.id
    origin = event.origin.then(event.id, cause=event.id, correlation=correlation, by=node)
    return Scope(node, f'{handler}, handling "{event.type}"', origin, event)


def of_commit(record: CommitRecord, callback: str) -> Scope:
    """The scope in which a callback is called with a commit: its cause, and a path that is one longer."""
    cause = record.origin
    mark = record.mark
    origin = cause.then(mark, cause=cause.cause, correlation=cause.correlation or mark, by=cause.by)
    return Scope(record.node, f'{callback}, watching "{record.node}"', origin)


def here() -> Origin:
    """Where what is emitted or committed in this context comes from.

    Raises
    ------
    CausalLoopError
        The chain of causes is too long to be anything but a loop.
    CancelledHandlingError
        The handling was cancelled.
    """
    running = scope.get()
    if running is None:
        return NO_ORIGIN
    if running.abandoned:
        raise CancelledHandlingError(
            f'{running.what} of node "{running.node}" was cancelled: it changes nothing any more'
        )
    if running.origin.depth > LONGEST_CHAIN:
        raise CausalLoopError(
            f'{running.what} of node "{running.node}": a chain of more than {LONGEST_CHAIN:,} causes is cut '
            "here; handlers that answer each other never end: make one of them stop"
        )
    return running.origin


def inherit() -> None:
    """Let threads and executors that handlers use know what they work for; done once."""
    with _installing:
        if getattr(threading.Thread.start, "_happen_nb", False):
            return
        threading.Thread.start = _with_scope(threading.Thread.start)  # type: ignore[method-assign,assignment]
        ThreadPoolExecutor.submit = _with_context(ThreadPoolExecutor.submit)  # type: ignore[method-assign]


_installing = threading.Lock()


def _with_scope(start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    """A thread that a handler starts runs in the handler's context."""

    @wraps(start)
    def started(self: threading.Thread) -> None:
        if scope.get() is not None:
            context, run = _for_another_thread(), self.run
            self.run = lambda: context.run(run)  # type: ignore[method-assign]
        start(self)

    started._happen_nb = True  # type: ignore[attr-defined]
    return started


def _with_context(submit: Callable[..., Any]) -> Callable[..., Any]:
    """Work that is given to an executor runs in the context of who gave it, whatever thread takes it."""

    @wraps(submit)
    def submitted(self: ThreadPoolExecutor, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        return submit(self, _for_another_thread().run, work, *args, **kwargs)

    return submitted


def _for_another_thread() -> contextvars.Context:
    """A copy of this context outside of a transform, which is what its own thread does and no other."""
    context = contextvars.copy_context()
    if evaluating.get() is not None:
        context.run(evaluating.set, None)
    return context
