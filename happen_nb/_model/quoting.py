"""Values in error messages: whatever they are, on one line, of bounded length."""

from __future__ import annotations

import reprlib
from typing import Any, Final

LONGEST: Final = 80
_NAME: Final = type.__dict__["__name__"]


class _Brief(reprlib.Repr):
    def repr_instance(self, x: Any, level: int) -> str:  # noqa: ARG002
        return repr(x)  # what it raises is dealt with by `quote`


_brief: Final = _Brief()
_brief.maxstring = _brief.maxother = _brief.maxlong = LONGEST
_brief.maxlist = _brief.maxtuple = _brief.maxdict = _brief.maxset = _brief.maxfrozenset = LONGEST // 8


def quote(value: Any, longest: int = LONGEST) -> str:
    """Quote a value for a message: its repr, cut off at the end; its type where the repr fails.

    Examples
    --------
    >>> quote("orders")
    "'orders'"
    >>> quote(list(range(10)), 12)
    '[0, 1, 2,...'
    """
    try:
        text = repr(value) if type(value) is type else _brief.repr(value)
        text = text.encode("utf-8", "backslashreplace").decode()
    except Exception:  # an integer of 5,000 digits; a repr that is no text
        text = f"<a value of type {type_name(value)}>"
    return shorten(text, longest)


def shorten(text: str, longest: int = LONGEST) -> str:
    r"""Write a text on one line, cut off at the end.

    Examples
    --------
    >>> shorten("one\ntwo and three", 10)
    'one two...'
    """
    if "\n" in text or "\r" in text:
        text = " ".join(text[: 4 * longest].split())
    return text if len(text) <= longest else text[: longest - 3] + "..."


def type_name(value: Any) -> str:
    """The name of a value's type; its module too, if it is not built in.

    Examples
    --------
    >>> import decimal
    >>> type_name(1), type_name(decimal.Decimal(1))
    ('int', 'decimal.Decimal')
    """
    kind = type(value)
    module = type.__getattribute__(kind, "__module__")
    name = str(_NAME.__get__(kind))
    if module == "builtins" or not isinstance(module, str):
        return shorten(name)
    return shorten(f"{module}.{type.__dict__['__qualname__'].__get__(kind)}")


def describe(error: BaseException, longest: int = 2 * LONGEST) -> str:
    """The type and the text of an exception, as far as it has one.

    Examples
    --------
    >>> describe(ValueError("no such thing"))
    'ValueError: no such thing'
    """
    name = str(_NAME.__get__(type(error)))
    try:
        text = str(error)
    except Exception:
        return f"{name} (its text cannot be had)"
    return shorten(f"{name}: {text}" if text else name, longest)
