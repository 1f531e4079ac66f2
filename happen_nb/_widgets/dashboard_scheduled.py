"""The part of a dashboard that lists what is to come, and cancels it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from happen_nb._api.base import runtime_of
from happen_nb._api.events import cancel_scheduled
from happen_nb._api.schedule import ScheduledEvents, read_next, scheduled_events
from happen_nb._display.spans import cut, cut_middle, name
from happen_nb._model.arguments import nanoseconds
from happen_nb._model.schedules import from_text
from happen_nb._runtime.io import on_io, run_blocking

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from happen_nb._api.space import Space
    from happen_nb._model.records import EventRecord
    from happen_nb._runtime.runtime import Runtime

MAX_SCHEDULED: Final = 100
"""Scheduled events that are listed, those that are due next."""
MANY: Final = 1_000
"""With more, they are looked at only once a second."""
_LOOK_SECONDS: Final = 1.0
_NAME_COLUMNS, _TYPE_COLUMNS = 30, 60


class ScheduledList:
    """Reports the next scheduled events to the browser, when they have changed. On workers."""

    def __init__(self, space: Space, send: Callable[[dict[str, Any]], object]) -> None:
        self._space_name, self._runtime, self._send = space.name, runtime_of(space), send
        self._alarms = self._runtime.log.alarms
        self._records: list[EventRecord] = []
        self._number = 0
        self._version = -1
        self._look_at = 0.0
        self.actions: dict[str, Callable[[Mapping[str, Any]], None]] = {"cancelScheduled": self._cancel}
        """The requests that the browser may make."""

    @property
    def events(self) -> ScheduledEvents:
        """The events that were reported last."""
        return scheduled_events(self._space_name, self._records, self._runtime)

    def message(self) -> dict[str, Any]:
        """Return the events, as they were read last."""
        return {"scheduled": [_row(record) for record in self._records], "toCome": self._number}

    def news(self) -> dict[str, Any]:
        """Return the events if they have changed, else nothing."""
        if not self.has_news:
            return {}
        self._version = self._alarms.version
        self._records, self._number = run_blocking(_next(self._runtime, self._records))
        self._look_at = time.monotonic() + (_LOOK_SECONDS if self._number > MANY else 0.0)
        return self.message()

    @property
    def has_news(self) -> bool:
        """True if there is something to report. From any thread."""
        return self._alarms.version != self._version and time.monotonic() >= self._look_at

    def _cancel(self, message: Mapping[str, Any]) -> None:
        done = cancel_scheduled(self._runtime, str(message["id"]))
        self._send({"type": "done", "text": "cancelled" if done else "too late: it is no longer scheduled"})


async def _next(runtime: Runtime, known: list[EventRecord]) -> tuple[list[EventRecord], int]:
    found: tuple[list[EventRecord], int] = await on_io(read_next(runtime, MAX_SCHEDULED, known))
    return found


def _row(record: EventRecord) -> dict[str, Any]:
    due = record.due
    assert due is not None
    sender = cut_middle(name(record.sender), _NAME_COLUMNS)
    target = f" → {cut_middle(name(record.target), _NAME_COLUMNS)}" if record.target else ""
    return {
        "id": record.alarm_id,
        "ms": nanoseconds(from_text(due)) // 1_000_000,
        "sender": record.sender,
        "text": f"{cut(name(record.type), _TYPE_COLUMNS)} · {sender}{target}",
    }
