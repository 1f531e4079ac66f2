"""Where output goes: under the cell that caused it.

ipykernel keeps in context variables which cell output belongs to, so whatever runs in a cell's context, or
in a copy of it, writes under that cell, whichever thread it is and whatever other cell runs meanwhile.
"""

from __future__ import annotations

import contextvars
import os
import sys
import threading
from pathlib import Path

from happen_nb._runtime import causes
from happen_nb._runtime.cells import shell


def causing() -> contextvars.Context | None:
    """A copy of this context, for what follows from what happens here; None where no cell caused it.

    A plain thread has no cell of its own: it is given the one that its output goes to now. What a widget or
    another message of the front end causes has none at all.
    """
    context = contextvars.copy_context()
    kernel = shell()
    if causes.current() is not None or not hasattr(kernel, "set_thread_parent"):
        return context  # that of a handler is right already
    parent = kernel.get_parent()
    if parent and parent["header"]["msg_type"] != "execute_request":
        return None
    if threading.current_thread() is not threading.main_thread():
        context.run(kernel.set_thread_parent, parent)
    return context


def run() -> str | None:
    """The run of a cell that output belongs to here, in any thread; None where there are no cells."""
    kernel = shell()
    parent = kernel.get_parent() if hasattr(kernel, "get_parent") else None
    return str(parent["header"]["msg_id"]) if parent else None


def notice(text: str) -> None:
    """Write a line of news: where a notebook shows it as plain output, else to stderr."""
    stream = sys.stderr if shell() is None else sys.stdout
    stream.write(f"{text}\n")


def notebook() -> str:
    """Name the notebook of this process, if the front end says which it is."""
    return Path(os.environ.get("JPY_SESSION_NAME", "")).name
