"""Checked reading of JSON and its members, which any client may have written.

Each function raises one of `UNREADABLE` for a value that does not fit, and no other error.
"""

from __future__ import annotations

import json
import re
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeVar

import orjson

from happen_nb._model.freeze import check_integers

UNREADABLE = (ValueError, KeyError, TypeError)
"""Raised for a foreign message that cannot be read. `read_json` turns a RecursionError into a ValueError."""

LARGEST: Final = 2**63 - 1  # the largest position, revision or count

T = TypeVar("T")

_KINDS: Final[dict[type, str]] = {
    dict: "an object",
    list: "an array",
    str: "a string",
    bool: "a boolean",
    type(None): "null",
}
_DIGITS: Final = re.compile(r"[0-9]{1,18}")
_MAX_CHARACTERS: Final = 512  # of an id or a label
_NOT_IN_A_TOKEN: Final = frozenset(".*>")


def read_json(data: bytes | str) -> Any:
    """Read JSON; lone surrogates, as the text of an error may have, are kept.

    ValueError if it is not JSON: broken, not UTF-8, too deep, NaN, or an integer beyond 64 bits.
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


def of_type(value: Any, kind: type[T]) -> T:
    """Return a JSON value of this type; TypeError for any other."""
    if isinstance(value, kind):
        return value
    raise TypeError(f"it is {kind_of(value)}, not {_KINDS[kind]}")


def label(value: Any) -> str:
    """Return a short text for people, without control characters."""
    if isinstance(value, str) and is_label(value):
        return value
    raise ValueError(f"{str(value)[:80]!r} is not a short text")


def path_id(value: Any) -> str:
    """Return the id of an event or a commit in a path, which is a word of a header."""
    valid = isinstance(value, str) and 0 < len(value) <= _MAX_CHARACTERS
    if valid and value.isprintable() and " " not in value:  # not by `is_label`: ids would fill its cache
        return str(value)
    raise _invalid_id(value)


def optional_path_id(value: Any) -> str | None:
    return None if value is None else path_id(value)


def path_ids(values: list[Any]) -> tuple[str, ...]:
    """Return the ids of a path; all are checked at once, since there may be a thousand."""
    if not values:
        return ()
    joined = " ".join(values)
    words = "  " not in joined and joined[0:1] != " " and joined[-1:] != " "  # none is empty
    if not (joined and words and joined.isprintable() and joined.count(" ") == len(values) - 1):
        raise _invalid_id(joined)
    return tuple(values)


def event_id(value: Any) -> str:
    """Return the id of an event, which is also a token of a subject: without dots and wildcards."""
    if _NOT_IN_A_TOKEN.isdisjoint(path_id(value)):
        return str(value)
    raise _invalid_id(value)


def _invalid_id(value: Any) -> ValueError:
    return ValueError(f"{str(value)[:80]!r} cannot be an id")


@lru_cache(4096)
def is_label(value: str) -> bool:
    """Return True for a short text without control characters."""
    return 0 < len(value) <= _MAX_CHARACTERS and value.isprintable()


def digits(value: str) -> int:
    """Return the number in a header."""
    if _DIGITS.fullmatch(value):
        return int(value)
    raise ValueError(f"{value[:80]!r} is not a number of up to 18 digits")


def natural(value: Any, default: int | None = None) -> int:
    """Return an integer from 0 to `LARGEST`, or `default` for anything else."""
    if type(value) is int and 0 <= value <= LARGEST:
        return value
    if default is None:
        raise ValueError(f"{str(value)[:80]} is not a number from 0 to 2**63 - 1")
    return default


def iso_time(value: Any) -> str | None:
    """Return an ISO 8601 time as it is written; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return None
    return value


def texts(values: Any) -> list[str]:
    """Return the strings of an array without its other items; anything else is empty."""
    return [each for each in values if isinstance(each, str)] if isinstance(values, list) else []


def kind_of(value: Any) -> str:
    """Name the JSON type of a value, for messages."""
    return _KINDS.get(type(value), "a number")
