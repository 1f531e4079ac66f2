"""Check and convert the arguments of public calls: numbers, durations, points in time, and names.

An argument of a wrong type is a TypeError, one out of range a ValueError; both messages name the call, the
value and the remedy. NumPy is never imported here: one of its values can only exist after its import.
"""

from __future__ import annotations

import math
import numbers
import operator
import re
import sys
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, Final

from happen_nb._model.quoting import quote
from happen_nb.errors import InvalidNameError

RESERVED = "notebook"
"""The sender of events from cells, which no node may have as its name."""
UNLIMITED: Final = 1e9
"""Seconds that stand for "without limit": 30 years, within the range of all clocks and timers."""
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
FIRST: Final = datetime.min.replace(tzinfo=UTC)
LAST: Final = datetime.max.replace(tzinfo=UTC)
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_index(value: object) -> bool:
    """Return whether a value counts as an integer: anything with ``__index__``, except booleans."""
    if is_truth(value) or not hasattr(type(value), "__index__"):  # NumPy's booleans have one in some versions
        return False
    try:
        operator.index(value)  # type: ignore[arg-type]  # an array's may raise
    except TypeError:
        return False
    return True


def is_truth(value: object) -> bool:
    """Return whether a value is a boolean of Python or NumPy."""
    return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")


def count(value: Any, what: str, *, least: int = 0) -> int:
    """Return an argument that must be a whole number, `least` or more; `what` names call and argument.

    Examples
    --------
    >>> count(3, "events: limit")
    3
    >>> count(True, "events: limit")
    Traceback (most recent call last):
    ...
    TypeError: events: limit is True; give a whole number, 0 or more
    """
    message = f"{what} is {quote(value)}; give a whole number, {least:,} or more"
    if not is_index(value):
        raise TypeError(message)
    number = operator.index(value)
    if number < least:
        raise ValueError(message)
    return number


def seconds(value: Any, what: str, *, above_zero: bool = False, endless: bool = True) -> float:
    """Return an argument that must be a duration: a number of seconds, or a timedelta.

    Infinity becomes `UNLIMITED`, if `endless` allows it.
    """
    least = "above 0" if above_zero else "0 or more"
    message = f"{what} is {quote(value)}; give seconds, {least}, or a timedelta"
    number = _seconds(value)
    if number is None:
        raise TypeError(message)
    if not number >= 0 or (above_zero and not number) or (number == math.inf and not endless):
        raise ValueError(message)
    return min(number, UNLIMITED)


def timeout(value: Any, what: str) -> float:
    """Return an argument like `seconds`, where None means without limit."""
    return UNLIMITED if value is None else seconds(value, what)


def _seconds(value: Any) -> float | None:
    if _is_nat(value):
        return math.nan
    if isinstance(value, timedelta):
        return value.total_seconds()
    if is_truth(value):
        return None
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.timedelta64):
        return math.nan if numpy.isnat(value) else float(value / numpy.timedelta64(1, "us")) / 1e6
    if isinstance(value, numbers.Real) or type(value).__name__ == "Decimal":
        try:
            return float(value)
        except OverflowError:  # an integer beyond all floats
            return math.inf if value > 0 else -math.inf
    return float(operator.index(value)) if is_index(value) else None


def _is_nat(value: object) -> bool:
    return type(value).__name__ == "NaTType"  # of pandas; it is a datetime and a timedelta, too


def is_moment(value: object) -> bool:
    """Return whether a value is a date or a datetime of Python, pandas or NumPy, perhaps a missing one."""
    numpy = sys.modules.get("numpy")
    return isinstance(value, date) or (numpy is not None and isinstance(value, numpy.datetime64))


def moment(value: Any, what: str) -> datetime:
    """Return an argument that must be a point in time: a datetime, or a date, which means its start.

    The result has whole microseconds, and is naive if `value` is.
    """
    found: Any = None
    if not is_moment(value):
        raise TypeError(f"{what} is {quote(value)}; give a datetime")
    if hasattr(value, "to_pydatetime") and not _is_nat(value):
        found = value.to_pydatetime(warn=False)
    elif isinstance(value, datetime):
        found = None if _is_nat(value) else value
    elif isinstance(value, date):
        found = datetime.combine(value, time())
    elif not sys.modules["numpy"].isnat(value):
        found = value.astype("datetime64[us]").item()
    if isinstance(found, datetime):
        return found
    raise ValueError(f"{what} is {quote(value)}; give a datetime of the years 1 to 9999")


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


@lru_cache(4096)
def check_label(value: Any, what: str, *, most: int) -> None:
    """Refuse a value that is not a string of 1 to `most` characters.

    Raises
    ------
    TypeError, ValueError
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} is {quote(value)}; give a string")
    if not 0 < len(value) <= most:
        raise ValueError(f"{what} has {len(value)} characters; give 1 to {most}")


def is_name(text: str) -> bool:
    """Return whether a text is valid as the name of a node, a space or a process."""
    return _NAME.fullmatch(text) is not None


def check_name(name: object, what: str) -> str:
    """Return a name if it is valid for `what`: "node" or "space".

    Raises
    ------
    InvalidNameError
    """
    if not isinstance(name, str) or not is_name(str.__str__(name)):
        raise InvalidNameError(f"a {what} cannot be named {quote(name)}: use 1 to 64 of A-Z a-z 0-9 _ -")
    if what == "node" and name == RESERVED:
        raise InvalidNameError(f'no node may be named "{RESERVED}": it is the sender of events from cells')
    return str.__str__(name)
