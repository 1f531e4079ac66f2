"""Arithmetic on moments that never leaves the calendar, whose ends are the years 1 and 9999."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

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
