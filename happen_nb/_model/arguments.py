"""What callers may give: one conversion for each kind of argument, scalars of NumPy and pandas included.

An argument of a wrong type is a TypeError, one out of range a ValueError; both name the call, the value and
what to give. NumPy is never imported here: a value of its can only exist once somebody else did.
"""

from __future__ import annotations

import math
import numbers
import operator
import re
import sys
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Final

from happen_nb._model.quoting import quote
from happen_nb.errors import InvalidNameError

RESERVED = "notebook"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
UNLIMITED: Final = 1e9
"""Seconds that stand for "without limit": 30 years, which every clock and timer can count."""


def is_index(value: object) -> bool:
    """Whether a value counts as an integer: anything with ``__index__``, truth values aside.

    Examples
    --------
    >>> is_index(3), is_index(True), is_index(3.0)
    (True, False, False)
    """
    return isinstance(value, int) and not isinstance(value, bool) or _is_foreign_index(value)


def _is_foreign_index(value: object) -> bool:
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        return False
    try:
        operator.index(value)  # type: ignore[arg-type]  # it has one; an array has none of use
    except TypeError:
        return False
    return not is_truth(value)  # NumPy's have one in some versions


def is_truth(value: object) -> bool:
    """Whether a value is a truth value, of Python or NumPy.

    Examples
    --------
    >>> is_truth(False), is_truth(0)
    (True, False)
    """
    return isinstance(value, bool) or type(value).__name__ in ("bool", "bool_")


def count(value: Any, what: str, *, least: int = 0) -> int:
    """Take an argument that is a whole number.

    Parameters
    ----------
    what : str
        The call and the argument: ``"events: limit"``.
    least : int, optional
        The smallest value that makes sense.

    Raises
    ------
    TypeError
        It is not a whole number; a truth value is none.
    ValueError
        It is smaller than `least`.

    Examples
    --------
    >>> count(3, "events: limit")
    3
    >>> count(True, "events: limit")
    Traceback (most recent call last):
    ...
    TypeError: events: limit is True; give a whole number, 0 or more
    """
    if not is_index(value):
        raise TypeError(f"{what} is {quote(value)}; give a whole number, {least:,} or more")
    number = operator.index(value)
    if number < least:
        raise ValueError(f"{what} is {quote(value)}; give a whole number, {least:,} or more")
    return number


def seconds(value: Any, what: str, *, above_zero: bool = False, endless: bool = True) -> float:
    """Take an argument that is a duration: a number of seconds, or a timedelta.

    Parameters
    ----------
    what : str
        The call and the argument: ``"settle: timeout"``.
    above_zero : bool, optional
        Whether 0 makes no sense.
    endless : bool, optional
        Whether infinity makes sense; it then becomes `UNLIMITED`.

    Raises
    ------
    TypeError
        It is neither.
    ValueError
        It is negative or NaN, or 0 or infinity where that makes no sense.

    Examples
    --------
    >>> seconds(timedelta(minutes=1), "settle: timeout")
    60.0
    >>> seconds("60", "settle: timeout")
    Traceback (most recent call last):
    ...
    TypeError: settle: timeout is '60'; give seconds, 0 or more, or a timedelta
    """
    least = "above 0" if above_zero else "0 or more"
    number = _seconds(value)
    if number is None:
        raise TypeError(f"{what} is {quote(value)}; give seconds, {least}, or a timedelta")
    if not number >= 0 or (above_zero and not number) or (number == math.inf and not endless):
        raise ValueError(f"{what} is {quote(value)}; give seconds, {least}, or a timedelta")
    return min(number, UNLIMITED)


def timeout(value: Any, what: str) -> float:
    """Take a `timeout`: as `seconds`, and None waits without limit.

    Examples
    --------
    >>> timeout(None, "settle: timeout") == UNLIMITED
    True
    """
    return UNLIMITED if value is None else seconds(value, what)


def _seconds(value: Any) -> float | None:
    if isinstance(value, timedelta):
        return value.total_seconds() if value == value else math.nan  # noqa: PLR0124 - pandas.NaT
    if type(value).__name__ == "NaTType":
        return math.nan
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


def is_moment(value: object) -> bool:
    """Whether a value is a date or a datetime, of Python, pandas or NumPy; also a missing one.

    Examples
    --------
    >>> is_moment(datetime.now()), is_moment(date.today()), is_moment("2024-01-01")
    (True, True, False)
    """
    numpy = sys.modules.get("numpy")
    return isinstance(value, date) or (numpy is not None and isinstance(value, numpy.datetime64))


def moment(value: Any, what: str) -> datetime:
    """Take an argument that is a moment: a datetime, or a date, which means its first moment.

    Returns
    -------
    datetime
        Of whole microseconds; naive if `value` is.

    Raises
    ------
    TypeError
        It is none.
    ValueError
        It is a missing one (NaT), or lies outside of the years 1 to 9999.

    Examples
    --------
    >>> moment(date(2024, 1, 31), "at")
    datetime.datetime(2024, 1, 31, 0, 0)
    """
    found: Any = value
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.datetime64):
        found = None if numpy.isnat(value) else value.astype("datetime64[us]").item()
    elif type(value).__name__ == "NaTType":
        found = None
    elif isinstance(value, datetime):
        found = value.to_pydatetime(warn=False) if hasattr(value, "to_pydatetime") else value
    elif isinstance(value, date):
        found = datetime.combine(value, time())
    else:
        raise TypeError(f"{what} is {quote(value)}; give a datetime")
    if isinstance(found, datetime):
        return found
    raise ValueError(f"{what} is {quote(value)}; give a datetime of the years 1 to 9999")


def check_name(name: object, what: str) -> str:
    """Return a name, if a `what` ("node", "space") may have it.

    Raises
    ------
    InvalidNameError
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidNameError(f"a {what} cannot be named {quote(name)}: use 1 to 64 of A-Z a-z 0-9 _ -")
    if what == "node" and name == RESERVED:
        raise InvalidNameError(f'no node may be named "{RESERVED}": that is the person at the keyboard')
    return str.__str__(name)


EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
FIRST: Final = datetime.min.replace(tzinfo=UTC)
LAST: Final = datetime.max.replace(tzinfo=UTC)


def to_utc(moment: datetime) -> datetime:
    """The same moment in UTC; a naive one is local time. What would lie beyond the calendar is its end.

    Examples
    --------
    >>> to_utc(datetime.fromisoformat("2024-01-01T12:00+02:00")).isoformat()
    '2024-01-01T10:00:00+00:00'
    >>> to_utc(datetime.fromisoformat("0001-01-01T00:00+14:00")).isoformat()
    '0001-01-01T00:00:00+00:00'
    """
    try:
        return moment.astimezone(UTC)
    except (OverflowError, ValueError, OSError):  # OSError: a naive one before 1970, on Windows
        if moment.year in (FIRST.year, LAST.year):
            return FIRST if moment.year == FIRST.year else LAST
        return moment.replace(tzinfo=UTC)


def nanoseconds(moment: datetime) -> int:
    """Nanoseconds from 1970 to a moment; a naive one is local time.

    Examples
    --------
    >>> nanoseconds(datetime.fromisoformat("1970-01-01T00:00:01+00:00"))
    1000000000
    """
    return (to_utc(moment) - EPOCH) // timedelta(microseconds=1) * 1000
