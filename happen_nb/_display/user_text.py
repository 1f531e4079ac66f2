"""Text of the user's own objects: their ``__str__`` may raise, never return, or return far too much."""

from __future__ import annotations

import contextvars
import threading
from typing import Final, cast

from happen_nb._model.quoting import error_summary, unavailable

TEXT_TIMEOUT_SECONDS: Final = 1.0
"""Time that a display waits for a method of the user."""
MAX_CHARACTERS: Final = 20_000
"""Characters of a text that are kept."""
MAX_STUCK_THREADS: Final = 8
"""Calls that may still be running after their time; with so many, no other method is called."""

_SIMPLE = (str, int, float, bool, type(None))

_stuck: list[threading.Thread] = []
_lock = threading.Lock()


def bounded_text(value: object, *, what: str = "text") -> str:
    """Return the text of an object, cut to `MAX_CHARACTERS`; or why it cannot be shown.

    Parameters
    ----------
    value : object
    what : str, optional
        How to name the text where it cannot be shown.

    Examples
    --------
    >>> bounded_text(ValueError("no box is large enough"))
    'no box is large enough'
    """
    try:
        text = str(value) if _is_simple(value) else _in_time(value)
    except TimeoutError as error:
        return unavailable(what, str(error))
    except BaseException as error:  # anything may be raised, and the rest can still be shown
        return unavailable(what, type(error).__name__)
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"


def describe_error(exception: BaseException | str) -> str:
    """Return the class of an exception and its message; a text as it is."""
    if issubclass(type(exception), str):  # isinstance() reads __class__, which may raise
        return str(exception)
    return error_summary(cast("BaseException", exception), text=bounded_text(exception, what="message"))


def _is_simple(value: object) -> bool:
    """Return True if only Python's own code makes its text."""
    if isinstance(value, BaseException):
        return type(value).__module__ == "builtins" and all(type(each) in _SIMPLE for each in value.args)
    return type(value) in _SIMPLE


def _in_time(value: object) -> str:
    """Call ``str`` in a thread of its own, and abandon the thread if it does not return in time.

    Raises
    ------
    TimeoutError
        It is still running.
    """
    made: list[str | BaseException] = []

    def call() -> None:
        try:
            made.append("".join([str(value)]))  # a subclass of str has methods of its own
        except BaseException as error:
            made.append(error)

    with _lock:
        _stuck[:] = [thread for thread in _stuck if thread.is_alive()]
        if len(_stuck) >= MAX_STUCK_THREADS:
            raise TimeoutError("too many others have not been returned yet")
    run = contextvars.copy_context().run
    thread = threading.Thread(target=run, args=(call,), name="happen_nb-text", daemon=True)
    thread.start()
    thread.join(TEXT_TIMEOUT_SECONDS)
    if not made:
        with _lock:
            _stuck.append(thread)
        raise TimeoutError(f"not returned within {TEXT_TIMEOUT_SECONDS:g} s")
    (outcome,) = made
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome
