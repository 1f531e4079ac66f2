"""Tracebacks that show the user's own lines, and not how the library came by the error."""

from __future__ import annotations

import traceback
from types import TracebackType

from happen_nb.errors import HappenError

_OURS = ("happen_nb.", "asyncio.", "concurrent.futures.", "contextvars")


def told(error: BaseException) -> str:
    """An error and those that led to it as text, with the frames of the user's own functions."""
    whole = traceback.TracebackException.from_exception(error)
    found = [(whole, error)]
    for shown, each in found:
        shown.stack = traceback.extract_tb(shortened(each))
        found += _parts(shown, each)
    return "".join(whole.format())


def _parts(
    shown: traceback.TracebackException, error: BaseException
) -> list[tuple[traceback.TracebackException, BaseException]]:
    """What an error came of, and those that it is a group of."""
    pairs = [(shown.__cause__, error.__cause__), (shown.__context__, error.__context__)]
    if isinstance(error, BaseExceptionGroup):
        pairs += zip(shown.exceptions or (), error.exceptions, strict=False)
    return [(one, other) for one, other in pairs if one is not None and other is not None]


def shortened(error: BaseException) -> TracebackType | None:
    """Only the frames of the user's own functions, where the library's tell nothing more.

    They do where Python itself refused something: such an error keeps all of them, if no frame is the user's.
    """
    frames: list[TracebackType] = []
    each = error.__traceback__
    while each is not None:
        if not _is_ours(each):
            frames.append(each)
        each = each.tb_next
    if not frames and not isinstance(error, HappenError | KeyboardInterrupt):
        return error.__traceback__
    short: TracebackType | None = None
    for frame in reversed(frames):
        short = TracebackType(short, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return short


def _is_ours(frame: TracebackType) -> bool:
    return str(frame.tb_frame.f_globals.get("__name__", "")).startswith(_OURS)
