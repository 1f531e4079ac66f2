"""The end of the interpreter: IPython empties its namespace then, and executors take no more work.

What a handler that still runs raises by that is no failure of its own, and there is no sense in more of them.
"""

from __future__ import annotations

import atexit
import threading
from concurrent.futures import thread as executors

_begun = threading.Event()


def expect() -> None:
    """Notice the end, before all that was registered until now has cleaned up."""
    atexit.unregister(_begun.set)
    atexit.register(_begun.set)


def begun() -> bool:
    """Whether nothing should begin any more."""
    return _begun.is_set()


def explains(error: BaseException) -> bool:
    """Whether an error is what the end leads to: executors refuse as soon as the main thread is through."""
    if begun():
        return True
    if type(error) is not RuntimeError or not getattr(executors, "_shutdown", False):
        return False
    return str(error).startswith("cannot schedule new futures after")
