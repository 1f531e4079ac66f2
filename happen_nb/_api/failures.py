"""Failures of handlers and callbacks, and retrying them."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, overload

from happen_nb._api.base import Displayable, frame, node_name, shown_by, times
from happen_nb._api.history import Commit
from happen_nb._frames import is_cell
from happen_nb._model.quoting import error_summary, error_text, truncate
from happen_nb._model.records import EventRecord
from happen_nb._runtime import causes
from happen_nb._runtime.causes import output_context
from happen_nb._runtime.cells import current_request
from happen_nb._runtime.handler_loops import refuse_on_handler_loop
from happen_nb._runtime.io import on_io, run_blocking
from happen_nb._runtime.tracebacks import CapturedError, drop_frames
from happen_nb._runtime.workers import is_shutdown_error
from happen_nb.errors import ClosedError, HappenError, NoHandlerError

if TYPE_CHECKING:
    import pandas as pd

    from happen_nb._api.node import Node
    from happen_nb._api.views import Views
    from happen_nb._runtime.runtime import Runtime

MAX_ERROR_CHARS: Final = 200
MAX_KEPT_FAILURES: Final = 1000  # the oldest are dropped first
MAX_SHOWN_CHARS: Final = 2_000  # of an exception's text below a cell; the failure has it all
MAX_LINE_CHARS: Final = 200  # of a line of code below a cell
Again = Callable[[], object]
"""Repeats the failed call: raises the exception of a callback, returns that of a handler."""


class Retried(Displayable):
    """The result of a retry.

    Attributes
    ----------
    what : str
        ``"failure"`` or ``"event"``, the kind of things that were retried.
    succeeded : int
        Number of successful retries.
    failed : int
        Number of those that failed again.
    unhandled : int
        Number of events without a handler.
    errors : tuple of str
        The errors that were raised: each text once, the most frequent first.
    """

    _page = shown_by("reprs_events.retried_page")

    def __init__(self, what: str, outcomes: Iterable[BaseException | None], unhandled: int = 0) -> None:
        counts: dict[str, int] = {}
        self.what = what
        self.unhandled = unhandled
        self.succeeded = 0
        for error in outcomes:
            if error is None:
                self.succeeded += 1
            else:
                text = error_summary(error, MAX_ERROR_CHARS)
                counts[text] = counts.get(text, 0) + 1
                drop_frames(error)
        self.failed = sum(counts.values())
        self.errors = tuple(sorted(counts, key=lambda text: -counts[text]))


def refuse_retry(node: str) -> None:
    """Refuse to wait for a node's handlers where they cannot run meanwhile."""
    refuse_on_handler_loop("retry()", "write await asyncio.to_thread(...retry)")
    running = causes.current_scope()
    if running is not None and running.event is not None and running.node == node:
        raise HappenError(f"retry: called in {running.what}, it would wait for itself; call it in a cell")


async def redeliver(
    runtime: Runtime, record: EventRecord, node: str, handler: str | None = None
) -> BaseException | None:
    """Have a node handle an event again; return the handler's error."""
    refuse_retry(node)
    handled = on_io(runtime.dispatcher.redeliver(record, node, handler, output_context()))
    error: BaseException | None = await runtime.dispatcher.waits(handled)
    return error


def handle_again(runtime: Runtime, record: EventRecord, node: str, handler: str) -> BaseException | None:
    """Have a handler handle an event again; return its error."""
    return run_blocking(redeliver(runtime, record, node, handler))


class Failure(Displayable):
    """An exception that a handler or a callback raised.

    Attributes
    ----------
    node : str
        Name of the node.
    handler : str
        Name of the function.
    doing : str
        Its task: ``'handling "order.paid"'`` or ``'watching "orders"'``.
    event : Event or Commit
        The argument that it was called with.
    exception : BaseException
        The exception, without the frames that would keep its local variables alive.
    traceback : str
        The traceback, reduced to your own functions.
    attempts : int
        Number of calls that failed.
    """

    _page = shown_by("reprs_events.failure_page")
    _pickle = "pickle its text, failure.traceback"

    def __init__(
        self,
        node: str,
        handler: str,
        doing: str,
        event: Any,
        exception: BaseException,
        again: Again,
        attempts: int = 1,
        subject: str | None = None,
        trouble: CapturedError | None = None,
    ) -> None:
        self.node = node
        self.handler = handler
        self.doing = doing
        self.event = event
        self.exception = exception
        self.again = again
        self.attempts = attempts
        self.subject = subject
        """The id of the event, if each event is a failure of its own."""
        self._trouble = trouble or CapturedError.of(exception).without_frames()
        self._list: Failures | None = None

    @property
    def traceback(self) -> str:
        return self._trouble.formatted

    @property
    def kind(self) -> tuple[object, ...]:
        """The key of equal failures: the same exception of the same function at the same place."""
        place = [(frame.filename, frame.lineno) for frame in self._trouble.place]
        return self.node, self.handler, type(self.exception).__qualname__, *place

    def short(self) -> str:
        """Return the text to show below a cell: the innermost frame of the user's code, and the exception."""
        node = f'node "{self.node}": ' if self.doing.startswith("handling") else ""
        frames = "".join(map(_line, self._trouble.place))
        summary = truncate(self._trouble.summary, MAX_SHOWN_CHARS)
        notes = truncate(self._trouble.notes, MAX_SHOWN_CHARS)
        return f"{node}{self.handler}, {self.doing}, failed:\n{frames}{summary}\n{notes}"

    def retry(self) -> None:
        """Try again: call the callback, or handle the event with the node's current handlers.

        If that succeeds, the failure is removed from ``space.failures``.

        Raises
        ------
        Exception
            The retry failed; the failure stays.

        Examples
        --------
        >>> stock = orders.on("order.placed", lambda event: {"pens": 3}[event.payload])
        >>> trace = orders.broadcast("order.placed", "ink").settle()
        >>> orders.off(stock)
        >>> stock = orders.on("order.placed", lambda event: {"pens": 3, "ink": 1}[event.payload])
        >>> space.failures[-1].retry()
        >>> len(space.failures)
        0
        """
        error = self._tried()
        if error is not None:
            raise error

    def _tried(self) -> BaseException | None:
        """Retry, and return the exception. An error that prevents the retry is raised."""
        if self.subject is not None:
            refuse_retry(self.node)
        attempts = self.attempts
        try:
            answer = self.again()
        except (ClosedError, KeyboardInterrupt):
            raise
        except NoHandlerError as error:
            return error  # nothing was tried: the failure stays what it is
        except BaseException as error:
            trouble = CapturedError.of(error)
            self.attempts += 1
            self.exception, self._trouble = error, trouble.without_frames()
            return trouble.to_raise()
        failed = answer if self.subject is not None and isinstance(answer, BaseException) else None
        if self._list is not None and failed is None:
            self._list.discard(self)
        elif self._list is not None and self.attempts == attempts:
            self._list.replace(self)
        return failed

    def _take(self, later: Failure) -> None:
        """Count the attempts of a later failure, too, and show its exception."""
        self.attempts += later.attempts
        self.exception, self._trouble = later.exception, later._trouble


class Failures(Displayable, Sequence[Failure]):
    """The failures of a space, newest last."""

    _page = shown_by("reprs_events.failures_page")
    _pickle = "pickle failures.to_frame()"

    def __init__(self, views: Views) -> None:
        self._views = views
        self.shows = True
        """False if none is shown below the cell that caused it."""
        self.added = 0
        """The number of failures so far, with those that were retried or cleared."""
        # Without a lock: the code below a signal handler could have it, which waits for a handler that fails.
        self._failures: list[Failure] = []
        self._shown: dict[tuple[object, ...], object] = {}

    def add(self, failure: Failure) -> None:
        """Add a failure, and show the first of its kind below the cell that caused it.

        Each run of a cell shows a kind once. Repeated failures of a callback are counted in one item; a
        handler has one item for each event, so that each event can be retried.
        """
        if is_shutdown_error(failure.exception):
            return
        self.added += 1
        for known in self:
            if known.subject == failure.subject and known.kind == failure.kind:
                known._take(failure)
                return
        failure._list = self
        self._failures.append(failure)
        del self._failures[:-MAX_KEPT_FAILURES]
        mark = object()
        is_first = self._shown.setdefault((current_request(), failure.kind), mark) is mark
        if self.shows and is_first:
            sys.stderr.write(failure.short())

    def retry(self, node: str | Node | None = None) -> Retried:
        """Retry every failure, and remove those that succeed.

        A retry that fails again does not stop the others.

        Parameters
        ----------
        node : str or Node, optional
            Retry only the failures of this node.

        Returns
        -------
        Retried
            The number of successes and of repeated failures.

        Raises
        ------
        UnknownNodeError
            There is no such node.
        HappenError
            The space is closed, or a handler of the node calls this and would wait for itself.

        Examples
        --------
        >>> broken = orders.on("order.placed", lambda event: 1 / event.payload)
        >>> for number in (0, 0):
        ...     trace = orders.broadcast("order.placed", number).settle()
        >>> orders.off(broken)
        >>> fixed = orders.on("order.placed", lambda event: event.payload)
        >>> space.failures.retry()
        Retried 2 failures · 2 succeeded
        """
        name = node_name(node, "retry: node", self._views, [failure.node for failure in self])
        tried = [failure for failure in self if name in (None, failure.node)]
        return Retried("failure", [failure._tried() for failure in tried])

    def discard(self, failure: Failure) -> None:
        """Remove a failure if it is still listed."""
        with suppress(ValueError):
            self._failures.remove(failure)

    def replace(self, failure: Failure) -> None:
        """Replace a failure by the newest one of the same event and handler, which differs in kind."""
        subject = failure.subject, failure.node, failure.handler
        same = [each for each in self if (each.subject, each.node, each.handler) == subject]
        later = [each for each in same if each is not failure]
        if later and failure in same:
            failure._take(later[-1])
            self.discard(later[-1])

    def clear(self) -> None:
        """Remove all failures."""
        self._failures.clear()
        self._shown.clear()

    def to_frame(self) -> pd.DataFrame:
        """Return a frame with one row per failure.

        Returns
        -------
        pandas.DataFrame
            Columns: ``node``, ``handler``, ``event`` (the type), ``time`` (of the event or commit, in UTC),
            ``id`` (of the event), ``exception``, ``message``, ``attempts``.
        """
        import pandas as pd

        failures = list(self)
        data: dict[str, Any] = {
            "node": [each.node for each in failures],
            "handler": [each.handler for each in failures],
            "event": [None if isinstance(each.event, Commit) else _of(each, "type") for each in failures],
            "time": times(_of(each, "time") for each in failures),
            "id": [None if isinstance(each.event, Commit) else _of(each, "id") for each in failures],
            "exception": [type(each.exception).__name__ for each in failures],
            "message": [error_text(each.exception) for each in failures],
            "attempts": [each.attempts for each in failures],
        }
        return frame(pd.RangeIndex(len(failures)), data)

    @overload
    def __getitem__(self, index: int) -> Failure: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Failure]: ...
    def __getitem__(self, index: int | slice) -> Failure | Sequence[Failure]:
        return list(self._failures)[index]

    def __iter__(self) -> Iterator[Failure]:
        return iter(list(self._failures))

    def __len__(self) -> int:
        return len(self._failures)


def _of(failure: Failure, name: str) -> Any:
    return getattr(failure.event, name, None)


def _line(frame: traceback.FrameSummary) -> str:
    """Format the place and its line of code."""
    place = frame.filename if is_cell(frame.filename) else f'File "{frame.filename}"'
    line = truncate(frame.line or "", MAX_LINE_CHARS)
    return f"  {place}, line {frame.lineno}, in {frame.name}\n" + (f"    {line}\n" if line else "")
