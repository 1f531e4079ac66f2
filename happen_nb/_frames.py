"""Frames of a traceback: separate the user's from the library's, and hide the latter from IPython.

And the IPython shell, if there is one.
"""

from __future__ import annotations

import sys
from functools import partial
from types import FrameType, TracebackType
from typing import Any, Final, TypeVar

E = TypeVar("E", bound=BaseException)
_LIBRARY: Final = ("happen_nb.", "asyncio.", "concurrent.futures.", "contextvars")


def is_library(frame: FrameType) -> bool:
    """Return whether a frame belongs to this library, or to modules that run its functions."""
    return str(frame.f_globals.get("__name__", "")).startswith(_LIBRARY)


def of_user(traceback: TracebackType | None) -> TracebackType | None:
    """Return a traceback with the user's frames only; None if there are none."""
    frames: list[TracebackType] = []
    while traceback is not None:
        if not is_library(traceback.tb_frame):
            frames.append(traceback)
        traceback = traceback.tb_next
    short: TracebackType | None = None
    for each in reversed(frames):
        # An interrupt may come between two lines.
        line = each.tb_lineno or each.tb_frame.f_code.co_firstlineno
        short = TracebackType(short, each.tb_frame, each.tb_lasti, line)
    return short


def hide(frame: FrameType | None) -> None:
    """Hide a frame of the library, and the library's frames that called it, from IPython and pytest."""
    while frame is not None and is_library(frame):
        frame.f_locals["__tracebackhide__"] = True
        frame = frame.f_back


def refusal(kind: type[E], text: str) -> E:
    """Return an error to raise about an argument; IPython and pytest show it without the library's frames."""
    hide(sys._getframe(1))
    return briefly(kind(text))


def briefly(error: E) -> E:
    """Let IPython show an error with the user's frames only; otherwise it shows the last one, too."""
    vars(error)["_render_traceback_"] = partial(render, error)
    return error


def hide_all(traceback: TracebackType | None) -> None:
    """Hide the library's frames of a traceback."""
    while traceback is not None:
        if is_library(traceback.tb_frame):
            traceback.tb_frame.f_locals["__tracebackhide__"] = True
        traceback = traceback.tb_next


def shell() -> Any:
    """Return the IPython shell; None in a script."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)  # another thread may import it now
    return None if get_ipython is None else get_ipython()


def cell_name(file: str) -> str | None:
    """Return the name that IPython shows for the cell in a file, "Cell In[3]"; None for another file."""
    here = shell()
    name = None if here is None else here.compile.format_code_name(file)
    return None if name is None else " ".join(name)


def is_cell(name: str) -> bool:
    """Return True if this is the name of a cell, not of a file."""
    return name.startswith("Cell In[")


def render(error: BaseException) -> list[str] | None:
    """Render an error as IPython does, with the user's frames only; None without IPython."""
    here = shell()
    if here is None:
        return None
    shown = here.InteractiveTB
    frames = of_user(error.__traceback__)
    lines: list[str] = shown.structured_traceback(type(error), error, frames, tb_offset=shown.tb_offset)
    return lines
