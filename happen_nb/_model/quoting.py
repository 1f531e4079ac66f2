"""Quote values and exceptions of any kind in messages, at a bounded length.

The ``__repr__`` and ``__str__`` called here are the user's: they may raise, or return too much text.
"""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final

MAX_QUOTED: Final = 80  # characters of a value in a message
MAX_ERROR_TEXT: Final = 10_000  # characters of an exception's text that are kept
_NAME: Final = type.__dict__["__name__"]


class _BoundedRepr(reprlib.Repr):
    def repr_instance(self, x: Any, level: int) -> str:  # noqa: ARG002
        return repr(x)  # `quote` catches its exceptions


_bounded: Final = _BoundedRepr()
_bounded.maxstring = _bounded.maxother = _bounded.maxlong = MAX_QUOTED
_bounded.maxlist = _bounded.maxtuple = _bounded.maxdict = _bounded.maxset = _bounded.maxfrozenset = 10


def quote(value: Any, limit: int = MAX_QUOTED) -> str:
    """Return the repr of a value on one line, cut to `limit` characters; its type if the repr fails."""
    try:
        return shorten(repr(value) if type(value) is type else _bounded.repr(value), limit)
    except Exception:  # an integer of 5,000 digits; a repr that is not a string
        return shorten(f"<a value of type {type_name(value)}>", limit)


def shorten(text: str, limit: int = MAX_QUOTED) -> str:
    r"""Write a text on one line, with lone surrogates escaped, cut to `limit` characters."""
    text = escape_surrogates(text)
    if "\n" in text or "\r" in text:
        text = " ".join(text[: 4 * limit].split())
    return text if len(text) <= limit else text[: limit - 3] + "..."


def near_names(wanted: object, known: Sequence[str], most: int = 3, cutoff: float = 0.6) -> list[str]:
    """Return the known names that are spelled like a wanted one, the most similar first."""
    from difflib import get_close_matches  # only a mistake needs it

    return get_close_matches(wanted if isinstance(wanted, str) else quote(wanted), known, most, cutoff)


def truncate(text: str, limit: int) -> str:
    """Cut a text to `limit` characters, and add its full length."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text):,} characters)"


def cut_middle(text: str, limit: int) -> str:
    r"""Cut the middle out of a text that is longer than `limit` characters."""
    if len(text) <= limit:
        return text
    head = limit // 4
    tail = limit - head
    return f"{text[:head]}\n... ({len(text) - limit:,} characters left out)\n{text[len(text) - tail :]}"


def escape_surrogates(text: str) -> str:
    r"""Escape lone surrogates, which have no UTF-8 form."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def type_name(value: Any) -> str:
    """Return the name of a value's type, with its module unless it is built in."""
    kind = type(value)
    module = type.__getattribute__(kind, "__module__")
    name = str(_NAME.__get__(kind))
    if module == "builtins" or not isinstance(module, str):
        return shorten(name)
    return shorten(f"{module}.{type.__dict__['__qualname__'].__get__(kind)}")


def error_text(error: BaseException, limit: int = MAX_ERROR_TEXT) -> str:
    """Return an exception's text, cut to `limit` characters."""
    try:
        text = str.__str__(str(error))  # a subclass of str may override anything
    except BaseException as broken:  # it must not stop the code that reports the exception
        return f"(its message cannot be shown: {type(broken).__name__})"
    return escape_surrogates(truncate(text, limit))


def error_summary(error: BaseException, limit: int = MAX_ERROR_TEXT) -> str:
    """Return an exception's type, and its text cut to `limit` characters."""
    name = str(_NAME.__get__(type(error)))
    text = error_text(error, limit)
    return f"{name}: {text}" if text else name


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an error, once; unless the error's class does not let it."""
    with suppress(Exception):
        if note not in getattr(error, "__notes__", ()):
            BaseException.add_note(error, note)
