"""Times of events that are to come, and the readings and results that show them."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from happen_nb._model import arguments
from happen_nb._model.quoting import quote
from happen_nb._model.schedules import utc_text
from happen_nb._runtime.cells import notice

if TYPE_CHECKING:
    from happen_nb._model.records import Origin
    from happen_nb._runtime.clock import Clock

Duration = float | timedelta
"""Seconds, or a timedelta."""
MAX_SCHEDULED_PATH: Final = 100
"""Causes that a scheduled event names; a chain through time may go on for ever."""


def due_at(clock: Clock, after: Any, at: Any, call: str, type: str) -> str | None:
    """Return the time at which an event is due, or None if it is not scheduled.

    Raises
    ------
    TypeError
        Both are given, or one is no duration or no datetime.
    ValueError
        It is negative, NaN, or later than a server can deliver.
    """
    if after is None and at is None:
        return None
    if after is not None and at is not None:
        raise TypeError(f"{call}: give after or at, not both")
    name, value = ("at", at) if after is None else ("after", after)
    try:
        if after is not None:
            moment = clock.after(arguments.seconds(after, f"{call}: after", endless=False, most=math.inf))
        else:
            moment = arguments.to_utc(arguments.moment(at, f"{call}: at"))
            clock.check(moment)
    except OverflowError:
        raise ValueError(
            f"{call}: {name} is {quote(value)}; give a time before the year 2200, which is as far as a "
            "server delivers"
        ) from None
    if at is not None and moment < clock.now():
        notice(f'{call}: at is in the past; "{type}" is delivered now')
    return utc_text(moment)


def scheduled_origin(origin: Origin) -> Origin:
    """Return the origin of a scheduled event.

    A process that goes on through time, such as an arrival that schedules the next one, is no loop: its
    path has an end.
    """
    if origin.depth < MAX_SCHEDULED_PATH:
        return origin
    return replace(origin, path=origin.path[-MAX_SCHEDULED_PATH // 2 :], omitted=0)
