"""Tracebacks that show the user's own lines, and not how the library came by the error."""

from __future__ import annotations

from types import TracebackType

from happen_nb.errors import HappenError

_OURS = ("happen_nb.", "asyncio.", "concurrent.futures.", "contextvars")


def own_frames(error: BaseException) -> TracebackType | None:
    """The traceback of an error, from the first frame that is the user's own."""
    frames = error.__traceback__
    while frames is not None and _is_ours(frames):
        frames = frames.tb_next
    return frames or error.__traceback__


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
