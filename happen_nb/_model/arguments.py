"""Check and convert the arguments of public calls; `functions` inspects the functions among them.

An argument of a wrong type is a TypeError, one out of range a ValueError; both messages name the call, the
value and the fix. NumPy is never imported here: one of its values can only exist after its import.
"""

from __future__ import annotations

import math
import operator
import os
import re
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, Final

from happen_nb._frames import refusal
from happen_nb._model.functions import is_a, loaded
from happen_nb._model.quoting import escape_surrogates, quote
from happen_nb.errors import InvalidNameError

RESERVED = "notebook"  # the sender of events from cells, which no node may have as its name
UNLIMITED: Final = 1e9
"""Seconds that stand for "without limit": 30 years, within the range of all clocks and timers."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
FIRST: Final = datetime.min.replace(tzinfo=UTC)
LAST: Final = datetime.max.replace(tzinfo=UTC)
_UNITS: Final = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION: Final = rf"(\d+(?:\.\d+)?) ?({'|'.join(_UNITS)})"
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_index(value: object) -> bool:
    """Return whether a value counts as an integer: anything with ``__index__``, except booleans."""
    if is_truth(value) or not hasattr(type(value), "__index__"):  # NumPy's booleans have one in some versions
        return False
    try:
        operator.index(value)  # type: ignore[arg-type]  # an array's may raise
    except Exception:  # its own code
        return False
    return True


def is_truth(value: object) -> bool:
    """Return whether a value is a boolean of Python or NumPy."""
    return is_a(value, bool) or type(value).__name__ in ("bool", "bool_")


def truth(value: Any, what: str) -> bool:
    """Return an argument that must be True or False; `what` names call and argument.

    Examples
    --------
    >>> truth(True, "on: durable")
    True
    >>> truth("no", "on: durable")
    Traceback (most recent call last):
    ...
    TypeError: on: durable is 'no'; pass True or False
    """
    if not is_truth(value):
        raise TypeError(f"{what} is {quote(value)}; pass True or False")
    return bool(value)


def count(value: Any, what: str, *, least: int = 0, most: int | None = None) -> int:
    """Return an argument that must be a whole number from `least` to `most`; `what` names call and argument.

    Examples
    --------
    >>> count(3, "events: limit")
    3
    >>> count(True, "events: limit")
    Traceback (most recent call last):
    ...
    TypeError: events: limit is True; pass a whole number, 0 or more
    """
    limits = f"{least:,} or more" if most is None else f"{least:,} to {most:,}"
    message = f"{what} is {quote(value)}; pass a whole number, {limits}"
    if not is_index(value):
        raise refusal(TypeError, message)
    number = operator.index(value)
    if number < least or (most is not None and number > most):
        raise refusal(ValueError, message)
    return number


def seconds(
    value: Any, what: str, *, above_zero: bool = False, endless: bool = True, most: float = UNLIMITED
) -> float:
    """Return an argument that must be a duration: a number of seconds, or a timedelta.

    Infinity becomes `most`, if `endless` allows it.
    """
    least = "above 0" if above_zero else "0 or more"
    message = f"{what} is {quote(value)}; pass seconds, {least}, or a timedelta"
    number = _seconds(value)
    if number is None:
        raise refusal(TypeError, message)
    if not number >= 0 or (above_zero and not number) or (number == math.inf and not endless):
        raise refusal(ValueError, message)
    return min(number, most)


def timeout(value: Any, what: str) -> float:
    """Return an argument like `seconds`, where None means without limit."""
    return UNLIMITED if value is None else seconds(value, what)


def duration(value: Any, what: str) -> float:
    """Return an argument like `seconds`, above 0, that may also be a text with a unit.

    Examples
    --------
    >>> duration("1.5min", "live_plot: window"), duration(30, "live_plot: window")
    (90.0, 30.0)
    """
    if is_a(value, str):
        found = re.fullmatch(_DURATION, value.strip())
        if found is None or not float(found[1]):
            units = '"500ms", "30s", "1min", "2h", "1d"'
            raise refusal(ValueError, f"{what} is {quote(value)}; pass a number and a unit: {units}")
        return float(found[1]) * _UNITS[found[2]]
    return seconds(value, what, above_zero=True, endless=False)


def path(value: Any, what: str) -> str:
    """Return an argument that must be the path of a file or folder; `what` names call and argument.

    Examples
    --------
    >>> path("shop.html", "record: path")
    'shop.html'
    >>> path(5, "record: path")
    Traceback (most recent call last):
    ...
    TypeError: record: path is 5; pass a path
    """
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not is_a(text, str):
        raise refusal(TypeError, f"{what} is {quote(value)}; pass a path")
    if not text:  # such as that of a variable that is not set; it would mean this folder
        raise refusal(ValueError, f"{what} is empty; pass a path")
    if "\0" in text:
        raise refusal(ValueError, f"{what} is {quote(value)}; pass a path, which has no character \\0")
    return str(text)


def _is_real(value: Any) -> bool:
    """Return True for a real number of another class, such as one of NumPy."""
    from numbers import Real

    return is_a(value, Real) or type(value).__name__ == "Decimal"


def _seconds(value: Any) -> float | None:
    if _is_nat(value):
        return math.nan
    if is_a(value, timedelta):
        return value.total_seconds()
    if is_truth(value):
        return None
    numpy = loaded("numpy")
    if numpy is not None and is_a(value, numpy.timedelta64):
        return math.nan if numpy.isnat(value) else float(value / numpy.timedelta64(1, "us")) / 1e6
    if is_a(value, int) or is_a(value, float) or _is_real(value):
        try:
            return float(value)
        except OverflowError:  # an integer beyond all floats
            return math.inf if value > 0 else -math.inf
        except ValueError:  # a signaling NaN of `decimal`
            return math.nan
    return float(operator.index(value)) if is_index(value) else None


def _is_nat(value: object) -> bool:
    return type(value).__name__ == "NaTType"  # of pandas; it is a datetime and a timedelta, too


def is_moment(value: object) -> bool:
    """Return whether a value is a date or a datetime of Python, pandas or NumPy, perhaps a missing one."""
    numpy = loaded("numpy")
    return is_a(value, date) or (numpy is not None and is_a(value, numpy.datetime64))


def moment(value: Any, what: str) -> datetime:
    """Return an argument that must be a point in time: a datetime, or a date, which means its start.

    The result has whole microseconds, and is naive if `value` is.
    """
    found: Any = None
    if not is_moment(value):
        raise TypeError(f"{what} is {quote(value)}; pass a datetime")
    if hasattr(value, "to_pydatetime") and not _is_nat(value):
        found = value.to_pydatetime(warn=False)
    elif is_a(value, datetime):
        found = None if _is_nat(value) else value
    elif is_a(value, date):
        found = datetime.combine(value, time())
    elif not loaded("numpy").isnat(value):
        found = value.astype("datetime64[us]").item()
    if isinstance(found, datetime):
        return found
    raise ValueError(f"{what} is {quote(value)}; pass a datetime of the years 1 to 9999")


def to_utc(moment: datetime) -> datetime:
    """Convert a datetime to UTC, where a naive one is local time; stay within the years 1 to 9999."""
    try:
        return moment.astimezone(UTC)
    except (OverflowError, ValueError, OSError):  # OSError: a naive one before 1970, on Windows
        if moment.year in (FIRST.year, LAST.year):
            return FIRST if moment.year == FIRST.year else LAST
        return moment.replace(tzinfo=UTC)


def nanoseconds(moment: datetime) -> int:
    """Return the nanoseconds from 1970 to a datetime; a naive one is local time."""
    return (to_utc(moment) - EPOCH) // timedelta(microseconds=1) * 1000


def check_label(value: Any, what: str, *, most: int) -> None:
    """Refuse a value that is not a string of 1 to `most` characters, without lone surrogates."""
    if not is_a(value, str):
        raise TypeError(f"{what} is {quote(value)}; pass a string")
    _check_label(value, what, most)


@lru_cache(4096)
def _check_label(value: str, what: str, most: int) -> None:
    if not 0 < len(value) <= most:
        raise ValueError(f"{what} has {len(value)} characters; use 1 to {most}")
    if escape_surrogates(value) != value:
        raise ValueError(f"{what} is {quote(value)}, which contains half of a character; use whole ones")


def is_name(text: str) -> bool:
    """Return whether a text is valid as the name of a node, a space or a process."""
    return _NAME.fullmatch(text) is not None


def check_name(name: object, what: str) -> str:
    """Return a name if it is valid for `what`, "node" or "space"; else raise InvalidNameError."""
    if not is_a(name, str) or not is_name(str.__str__(name)):
        raise InvalidNameError(f"a {what} cannot be named {quote(name)}: use 1 to 64 of A-Z a-z 0-9 _ -")
    if what == "node" and name == RESERVED:
        raise InvalidNameError(f'no node may be named "{RESERVED}": it is the sender of events from cells')
    return str.__str__(name)
