"""What went wrong in a handler or callback: kept, and shown once."""

from __future__ import annotations

import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from happen_nb.runtime import ending, output
from happen_nb.runtime.cells import shell
from happen_nb.runtime.tracebacks import told
from happen_nb.shown import Shown

if TYPE_CHECKING:
    import pandas as pd

KEPT = 1000
"""Failures that are kept; the oldest go first."""

_PACKAGES = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
_INSTALLED = (str(Path(__file__).parent), *_PACKAGES, "<frozen ")
"""How the files begin whose lines are nobody's own."""

Again = Callable[[], object]
"""Does once more what has failed; its exception comes out."""


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
    traceback : str
    attempts : int
        How often it failed in this way.
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

    @property
    def traceback(self) -> str:
        """The traceback, of the user's own functions."""
        return told(self.exception)

    def retry(self) -> None:
        """Do it again: an event is handled by the node's handlers of now. An exception comes out."""
        self.again()


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
        if ending.explains(failure.exception):
            return
        kind = _kind(failure)
        with self._lock:
            for known in self._failures:
                if known.subject == failure.subject and _kind(known) == kind:
                    known.attempts += failure.attempts
                    known.exception = failure.exception
                    return
            self._failures.append(failure)
            del self._failures[:-KEPT]
            shown = (output.run(), kind) in self._shown
            self._shown.add((output.run(), kind))
        if not shown:
            sys.stderr.write(_short(failure))

    def retry(self, node: str | None = None) -> None:
        """Do each one again, of one node or of all; those that work are taken off.

        Raises
        ------
        Exception
            What the first one that fails again raises; it and the later ones stay.
        """
        for failure in [failure for failure in self if node in (None, failure.node)]:
            failure.retry()
            self.take_off(failure)

    def take_off(self, failure: Failure) -> None:
        """Forget one, if it is still there."""
        with self._lock:
            self._failures = [each for each in self._failures if each is not failure]

    def clear(self) -> None:
        """Forget them."""
        with self._lock:
            self._failures.clear()
            self._shown.clear()

    def to_frame(self) -> pd.DataFrame:
        """One row a failure: ``node handler exception message attempts``."""
        import pandas as pd

        rows = [(f.node, f.handler, type(f.exception).__name__, str(f.exception), f.attempts) for f in self]
        return pd.DataFrame(rows, columns=["node", "handler", "exception", "message", "attempts"])

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


def _kind(failure: Failure) -> tuple[object, ...]:
    """What one function raises at one place."""
    place = [(frame.filename, frame.lineno) for frame in _place(failure.exception)]
    return failure.node, failure.handler, type(failure.exception), *place


def _place(error: BaseException) -> list[traceback.FrameSummary]:
    """The innermost frame that is the user's own: not of an installed package, nor of Python."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(_INSTALLED)]
    return (own or frames)[-1:]


def _short(failure: Failure) -> str:
    """The user's own frame, and the error."""
    error = failure.exception
    who = f'node "{failure.node}": ' if failure.doing.startswith("handling") else ""
    lines = [f"{who}{failure.handler}, {failure.doing}, failed:\n", *map(_line, _place(error))]
    return "".join([*lines, *traceback.format_exception_only(error)])


def _line(frame: traceback.FrameSummary) -> str:
    """Where it is, as IPython names cells, and what stands there."""
    here = shell()
    cell = here.compile.format_code_name(frame.filename) if here is not None else None
    place = " ".join(cell) if cell else f'File "{frame.filename}"'
    return f"  {place}, line {frame.lineno}, in {frame.name}\n    {frame.line}\n"
