"""What went wrong in a handler or callback: kept as text, and shown once."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import InitVar, dataclass, field
from typing import TYPE_CHECKING, Any, Final, overload

from happen_nb._api.base import Shown
from happen_nb._api.history import Commit, frame, times
from happen_nb._api.retrying import HandledAgainError, Retried, refuse_retry
from happen_nb._model.quoting import error_text, truncate
from happen_nb._runtime.cells import current_request, shell
from happen_nb._runtime.tracebacks import CapturedError
from happen_nb._runtime.workers import is_shutdown_error
from happen_nb.errors import ClosedError, NoHandlerError

if TYPE_CHECKING:
    import pandas as pd

KEPT: Final = 1000
"""Failures that are kept; the oldest go first."""
_BRIEF: Final = 2_000
"""Characters of an exception's text below a cell; the whole one is in the failure."""
_LINE: Final = 200
"""Characters of a line of code below a cell."""

Again = Callable[[], object]
"""Does once more what has failed; its exception comes out, a handler's as a `HandledAgainError`."""


@dataclass(eq=False, repr=False)
class Failure(Shown, kind="failure"):
    """An exception that a handler or a callback raised.

    Attributes
    ----------
    node : str
    handler : str
        The function's name.
    doing : str
        What it did: ``'handling "order.paid"'``, ``'watching "orders"'``.
    event : Event or Commit
        What it was called with.
    exception : BaseException
        Without its frames, which would keep alive what they have computed.
    traceback : str
        Of the user's own functions.
    attempts : int
        How often it failed.
    """

    _pickle = "pickle its text, failure.traceback"

    node: str
    handler: str
    doing: str
    event: Any
    exception: BaseException
    again: Again = field(repr=False)
    attempts: int = 1
    subject: str | None = None
    """The event's id, where each one is a failure of its own."""
    trouble: InitVar[CapturedError | None] = None
    """What there is to say about the exception, if that was taken down already."""
    _trouble: CapturedError = field(init=False, repr=False)
    _list: Failures | None = field(default=None, init=False, repr=False)

    def __post_init__(self, trouble: CapturedError | None) -> None:
        self._trouble = trouble or CapturedError.of(self.exception).without_frames()

    @property
    def traceback(self) -> str:
        return self._trouble.formatted

    @property
    def kind(self) -> tuple[object, ...]:
        """What one function raises at one place."""
        place = [(frame.filename, frame.lineno) for frame in self._trouble.place]
        return self.node, self.handler, type(self.exception).__qualname__, *place

    def short(self) -> str:
        """Return the user's own frame and the exception, as they are shown below a cell."""
        who = f'node "{self.node}": ' if self.doing.startswith("handling") else ""
        frames = "".join(map(_line, self._trouble.place))
        said = truncate(self._trouble.summary, _BRIEF)
        notes = truncate(self._trouble.notes, _BRIEF)
        return f"{who}{self.handler}, {self.doing}, failed:\n{frames}{said}\n{notes}"

    def retry(self) -> None:
        """Do it again: an event is handled by the node's handlers of now. If that works, the failure is gone.

        Raises
        ------
        Exception
            What is raised this time; the failure then stays.

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
        """Do it again; what is raised. What refuses to try at all comes out."""
        if self.subject is not None:
            refuse_retry(self.node)
        attempts = self.attempts
        try:
            self.again()
        except HandledAgainError as failed:
            if self._list is not None and self.attempts == attempts:
                self._list.replace(self)
            return failed.error
        except (ClosedError, KeyboardInterrupt):
            raise
        except NoHandlerError as error:
            return error  # nothing was tried: the failure stays what it is
        except BaseException as error:
            trouble = CapturedError.of(error)
            self.attempts += 1
            self.exception, self._trouble = error, trouble.without_frames()
            return trouble.to_raise()
        if self._list is not None:
            self._list.take_off(self)
        return None

    def _repeats(self, other: Failure) -> bool:
        """Whether it is `other` once more: of a handler each event counts by itself."""
        return self.subject == other.subject and self.kind == other.kind

    def _is_of(self, other: Failure) -> bool:
        """Whether both are of one event and handler."""
        return (self.subject, self.node, self.handler) == (other.subject, other.node, other.handler)


class Failures(Shown, Sequence[Failure], kind="failures"):
    """The failures of a space, newest last."""

    _pickle = "pickle failures.to_frame()"

    def __init__(self) -> None:
        self._failures: list[Failure] = []
        self._shown: set[tuple[object, ...]] = set()
        self._lock = threading.Lock()

    def add(self, failure: Failure) -> None:
        """Keep a failure; the first of its kind is also shown, under the cell that led to it.

        One kind is what one function raises at one place; each run of a cell shows it once. A callback's
        are counted; of a handler there is one for each event, so that each can be done again.
        """
        if is_shutdown_error(failure.exception):
            return
        run, kind = current_request(), failure.kind
        with self._lock:
            for known in self._failures:
                if known._repeats(failure):
                    known.attempts += failure.attempts
                    known.exception = failure.exception
                    known._trouble = failure._trouble
                    return
            failure._list = self
            self._failures.append(failure)
            del self._failures[:-KEPT]
            shown = (run, kind) in self._shown
            self._shown.add((run, kind))
        if not shown:
            sys.stderr.write(failure.short())

    def retry(self, node: str | None = None) -> Retried:
        """Do each one again, of one node or of all; those that succeed are gone from the list.

        One that fails again does not stop the others.

        Parameters
        ----------
        node : str, optional
            Only this node's.

        Returns
        -------
        Retried
            How many succeeded, and how many failed again.

        Raises
        ------
        HappenError
            Nothing can be retried here: the space is closed, or this is a handler that would wait for itself.

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
        tried = [failure for failure in self if node in (None, failure.node)]
        return Retried("failure", [failure._tried() for failure in tried])

    def take_off(self, failure: Failure) -> None:
        """Forget one, if it is still there."""
        with self._lock:
            self._failures = [each for each in self._failures if each is not failure]

    def replace(self, failure: Failure) -> None:
        """Keep in its place what the same handler has raised last, where it failed again in another way."""
        with self._lock:
            later = [each for each in self._failures if each is not failure and each._is_of(failure)]
            if later and failure in self._failures:
                later[-1].attempts += failure.attempts
                left = [each for each in self._failures if each is not later[-1]]
                self._failures = [later[-1] if each is failure else each for each in left]

    def clear(self) -> None:
        """Forget them."""
        with self._lock:
            self._failures.clear()
            self._shown.clear()

    def to_frame(self) -> pd.DataFrame:
        """Return one row for each failure.

        Returns
        -------
        pandas.DataFrame
            ``node handler event time id exception message attempts``; ``event`` is the type, ``time`` that
            of the event or commit, in UTC, ``id`` the event's.
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
    """Where it is, as IPython names cells, and what stands there."""
    here = shell()
    cell = here.compile.format_code_name(frame.filename) if here is not None else None
    place = " ".join(cell) if cell else f'File "{frame.filename}"'
    line = truncate(frame.line or "", _LINE)
    return f"  {place}, line {frame.lineno}, in {frame.name}\n" + (f"    {line}\n" if line else "")
