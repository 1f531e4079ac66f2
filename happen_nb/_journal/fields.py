"""Checked reading of what any client may have written: JSON, and the types of its parts.

Each function raises one of `UNREADABLE` for what does not fit, and never anything else.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import orjson

from happen_nb._model.freeze import check_integers

UNREADABLE = (ValueError, KeyError, TypeError)
"""What reading a foreign message may raise. `read_json` turns a RecursionError into a ValueError."""

LARGEST: Final = 2**63 - 1
"""The largest number of a position, a revision or a count."""

_DIGITS: Final = re.compile(r"[0-9]{1,18}")
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LONGEST: Final = 512  # characters of an id or a label
_SUBJECT: Final = frozenset(".*>")  # what an id, a token of a subject, cannot have


def read_json(data: bytes | str) -> Any:
    """Read JSON; lone surrogates, as the text of an error may have, are kept.

    Raises
    ------
    ValueError
        It is not JSON: broken, not UTF-8, too deep, NaN, or an integer beyond 64 bits.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            value = json.loads(data, parse_constant=_refuse_constant)
        except RecursionError:
            raise ValueError("it nests too deeply") from None
    check_integers(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"))
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def mapping(value: Any) -> dict[str, Any]:
    """A JSON object."""
    if isinstance(value, dict):
        return value
    raise TypeError(f"it is {kind_of(value)}, not an object")


def array(value: Any) -> list[Any]:
    """A JSON array."""
    if isinstance(value, list):
        return value
    raise TypeError(f"it is {kind_of(value)}, not an array")


def text(value: Any) -> str:
    """Any text."""
    if isinstance(value, str):
        return value
    raise TypeError(f"it is {kind_of(value)}, not a string")


def label(value: Any) -> str:
    """A short text for people, without control characters."""
    if isinstance(value, str) and is_label(value):
        return value
    raise ValueError(f"{str(value)[:80]!r} is not a short text")


def mark(value: Any) -> str:
    """What stands for an event or a commit in a path, which is a word of a header."""
    if isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable() and " " not in value:
        return value
    raise _no_id(value)


def marks(values: list[Any]) -> tuple[str, ...]:
    """The ids of a path, which may be a thousand."""
    if not values:
        return ()
    together = " ".join(values)
    words = "  " not in together and together[0:1] != " " and together[-1:] != " "  # none is empty
    if not (together and words and together.isprintable() and together.count(" ") == len(values) - 1):
        raise _no_id(together)
    return tuple(values)


def identifier(value: Any) -> str:
    """The id of an event, which is a token of a subject too: without dots and wildcards."""
    if _SUBJECT.isdisjoint(mark(value)):
        return str(value)
    raise _no_id(value)


def _no_id(value: Any) -> ValueError:
    return ValueError(f"{str(value)[:80]!r} cannot be an id")


def name(value: Any) -> str:
    """The name of a node, a space or a process."""
    if isinstance(value, str) and is_name(value):
        return value
    raise ValueError(f"{str(value)[:80]!r} cannot be a name")


@lru_cache(4096)
def is_name(value: str) -> bool:
    """Whether a node could have that name."""
    return _NAME.fullmatch(value) is not None


@lru_cache(4096)
def is_label(value: str) -> bool:
    """Whether it is a short text for people, without control characters."""
    return 0 < len(value) <= _LONGEST and value.isprintable()


def optional(value: Any) -> str | None:
    """A `mark`, or None."""
    return None if value is None else mark(value)


def digits(value: str) -> int:
    """A number in a header."""
    if _DIGITS.fullmatch(value):
        return int(value)
    raise ValueError(f"{value[:80]!r} is not a number of up to 18 digits")


def natural(value: Any, default: int | None = None) -> int:
    """An integer from 0 to `LARGEST`; anything else is `default` if there is one."""
    if type(value) is int and 0 <= value <= LARGEST:
        return value
    if default is None:
        raise ValueError(f"{str(value)[:80]} is not a number from 0 to 2**63 - 1")
    return default


def moment(value: Any) -> str | None:
    """An ISO 8601 time as it is written; None where it is none."""
    if not isinstance(value, str):
        return None
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return None
    return value


def texts(values: Any) -> list[str]:
    """The strings of an array; other items are left out, and anything else is empty."""
    return [each for each in values if isinstance(each, str)] if isinstance(values, list) else []


def kind_of(value: Any) -> str:
    """What kind of JSON a value is, for messages."""
    kinds = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return kinds.get(type(value), "a number")
