"""Text of the user's own objects: their ``__str__`` may raise, never return, or return far too much."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import Final

PATIENCE: Final = 1.0
"""Seconds that a display waits for a method of the user's."""
LONGEST: Final = 20_000
"""Characters of a text that are kept."""
STUCK: Final = 8
"""Methods that may be running on; once there are so many, no other one is called."""

_SIMPLE = (str, int, float, bool, type(None))

_stuck: list[threading.Thread] = []
_lock = threading.Lock()


def text_of(x: object, form: Callable[[object], str] = str, *, what: str = "text") -> str:
    """What `form` makes of an object, in at most `LONGEST` characters; why there is none if it fails.

    Parameters
    ----------
    x : object
    form : callable, optional
        ``str`` or ``repr``.
    what : str, optional
        How to name the text where it cannot be shown.

    Examples
    --------
    >>> text_of(ValueError("no box is large enough"))
    'no box is large enough'
    """
    try:
        text = form(x) if _is_simple(x) else _in_time(x, form)
    except TimeoutError as error:
        return f"(its {what} cannot be shown: {error})"
    except BaseException as error:  # whatever it is, the rest can be shown
        return f"(its {what} cannot be shown: {type(error).__name__})"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def _is_simple(x: object) -> bool:
    """Whether only Python's own code makes its text."""
    if isinstance(x, BaseException):
        return type(x).__module__ == "builtins" and all(type(each) in _SIMPLE for each in x.args)
    return type(x) in _SIMPLE


def _in_time(x: object, form: Callable[[object], str]) -> str:
    """Call it on a thread of its own, which is left behind when the time is up.

    Raises
    ------
    TimeoutError
        It still runs.
    """
    made: list[str | BaseException] = []

    def call() -> None:
        try:
            made.append("".join([form(x)]))  # a subclass of str has methods of its own
        except BaseException as error:
            made.append(error)

    with _lock:
        _stuck[:] = [thread for thread in _stuck if thread.is_alive()]
        if len(_stuck) >= STUCK:
            raise TimeoutError("too many others have not been returned yet")
    run = contextvars.copy_context().run
    thread = threading.Thread(target=run, args=(call,), name="happen_nb-text", daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if not made:
        with _lock:
            _stuck.append(thread)
        raise TimeoutError(f"not returned within {PATIENCE:g} s")
    (outcome,) = made
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome
