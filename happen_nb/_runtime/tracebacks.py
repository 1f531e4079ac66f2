"""Tracebacks of the user's own lines, without those of the library."""

from __future__ import annotations

import copy
import traceback
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

from happen_nb._frames import cell_name, of_user
from happen_nb._model.quoting import MAX_ERROR_TEXT, cut_middle, error_summary, escape_surrogates, truncate
from happen_nb.errors import HappenError

MAX_TRACEBACK_LENGTH: Final = 30_000  # characters of a traceback that are kept

_REPLACED: Final = (("coroutine raised StopIteration",), ("generator raised StopIteration",))


class CapturedError(NamedTuple):
    """An exception as text, without its frames, which keep their local variables alive."""

    error: BaseException
    summary: str  # its type and text, without the traceback that a `HandlerError` has in its text
    notes: str  # a line for each of its notes
    formatted: str  # its traceback, of the user's own functions
    place: tuple[traceback.FrameSummary, ...]  # the innermost frame that is the user's own, if there is one
    frames: TracebackType | None  # the user's frames, to raise it again at once

    @classmethod
    def of(cls, error: BaseException) -> CapturedError:
        """Capture an exception, and drop its frames."""
        error = as_raised(error)
        text, place = format_error(error), innermost_user_frame(error)
        captured = cls(error, _own_message(error), _notes(error), text, place, user_frames(error))
        drop_frames(error)
        return captured

    def to_raise(self) -> BaseException:
        """Return the exception with its frames, to be raised once more."""
        return BaseException.with_traceback(self.error, self.frames)

    def without_frames(self) -> CapturedError:
        return self._replace(frames=None)


def _own_message(error: BaseException) -> str:
    if issubclass(type(error), HappenError) and error.args and type(error.args[0]) is str:
        return f"{type(error).__name__}: {escape_surrogates(truncate(error.args[0], MAX_ERROR_TEXT))}"
    return error_summary(error)


def _notes(error: BaseException) -> str:
    try:
        notes = [note for note in getattr(error, "__notes__", ()) if isinstance(note, str)]
    except BaseException:  # it may be a property of the user's
        return ""
    return escape_surrogates(truncate("".join(f"{note}\n" for note in notes), MAX_ERROR_TEXT))


def format_error(error: BaseException) -> str:
    """Return an error and those that led to it as text, with the frames of the user's own functions."""
    try:
        whole = traceback.TracebackException.from_exception(error)
        found = [(whole, error)]
        for shown, each in found:
            shown.stack = _extract(user_frames(each))
            found += _parts(shown, each)
        text = "".join(truncate(part, MAX_ERROR_TEXT) for part in whole.format())
    except BaseException:  # an exception's attributes are the user's code, too
        frames = _extract(user_frames(error))
        text = "".join(["Traceback (most recent call last):\n", *frames.format(), error_summary(error), "\n"])
    return escape_surrogates(cut_middle(text, MAX_TRACEBACK_LENGTH))


def _extract(frames: TracebackType | None) -> traceback.StackSummary:
    """Extract the lines of frames; cells are named as IPython does, not by their temporary files."""
    lines = traceback.extract_tb(frames)
    for line in lines:
        line.filename = cell_name(line.filename) or line.filename
    return lines


def _parts(
    shown: traceback.TracebackException, error: BaseException
) -> list[tuple[traceback.TracebackException, BaseException]]:
    """Return the causes of an error, and the errors of a group."""
    pairs = [(shown.__cause__, error.__cause__), (shown.__context__, error.__context__)]
    if isinstance(error, BaseExceptionGroup):
        pairs += zip(shown.exceptions or (), error.exceptions, strict=False)
    return [(one, other) for one, other in pairs if one is not None and other is not None]


@cache
def _installed() -> tuple[str, ...]:
    """Return the prefixes of the files that are not the user's own."""
    import sysconfig  # takes long to import, and only an error needs it

    packages = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return (str(Path(__file__).parent.parent), *packages, "<frozen ")


def innermost_user_frame(error: BaseException) -> tuple[traceback.FrameSummary, ...]:
    """Return the innermost frame that is the user's own: not of an installed package, nor of Python."""
    frames = _extract(_traceback(error))
    own = [frame for frame in frames if not frame.filename.startswith(_installed())]
    if not own and issubclass(type(error), HappenError):
        return ()
    return tuple((own or frames)[-1:])


def drop_frames(error: BaseException) -> None:
    """Drop the frames of an error and of its causes: their local variables may be large."""
    left, seen = [error], {0}
    while left:
        each = left.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        BaseException.with_traceback(each, None)
        left += [other for other in (_slot(each, "__cause__"), _slot(each, "__context__")) if other]
        if issubclass(type(each), BaseExceptionGroup):
            left += BaseExceptionGroup.exceptions.__get__(each)


def _slot(error: BaseException, name: str) -> Any:
    """Read an attribute of BaseException, also if the error's class overrides it."""
    return vars(BaseException)[name].__get__(error)


def _traceback(error: BaseException) -> TracebackType | None:
    found: TracebackType | None = _slot(error, "__traceback__")
    return found


def to_raise(error: BaseException, frames: TracebackType | None = None) -> BaseException:
    """Return a stored exception to raise once more; its traceback does not grow each time.

    One of ours is copied. Any other exception can only be raised itself; its traceback starts with `frames`.
    """
    if isinstance(error, HappenError):
        new = copy.copy(error)
        new.__cause__, new.__context__ = error.__cause__, error.__context__
        new.__suppress_context__ = error.__suppress_context__
        return new
    return BaseException.with_traceback(error, frames)


def as_raised(error: BaseException) -> BaseException:
    """Return the StopIteration that Python replaces if it leaves a coroutine or generator, or the error."""
    if type(error) is RuntimeError and error.args in _REPLACED and type(error.__cause__) is StopIteration:
        return error.__cause__
    return error


def user_frames(error: BaseException) -> TracebackType | None:
    """Return the frames of the user's own functions only."""
    # If Python itself refused something in the library, the library's frames are all there is: they stay.
    whole = _traceback(error)
    short = of_user(whole)
    if short is None and not issubclass(type(error), HappenError | KeyboardInterrupt):
        return whole
    return short
