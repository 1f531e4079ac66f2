"""The part of a journal that a picture shows, with causes and effects."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import zip_longest
from typing import Final, Literal

from happen_nb._model.arguments import nanoseconds
from happen_nb._model.causality import CommitPair, nearest_cause
from happen_nb._model.records import EventRecord, HandledRecord, Origin

TimeBase = Literal["time", "occurred"]
NOTEBOOK: Final = "notebook"
_DIGITS: Final = re.compile(r"(\d+)")


def in_order(names: Iterable[str]) -> list[str]:
    """Sort names: the notebook first, numbers in them by their value.

    Examples
    --------
    >>> in_order(["node-10", "node-9", "notebook", "api"])
    ['notebook', 'api', 'node-9', 'node-10']
    """
    return sorted(names, key=lambda name: (name != NOTEBOOK, _natural(name), name))


def _natural(name: str) -> list[tuple[str, int]]:
    parts = _DIGITS.split(name)
    return [(text, int(number or 0)) for text, number in zip_longest(parts[::2], parts[1::2])]


@dataclass(frozen=True)
class JournalSlice:
    """A part of a space's journal."""

    space: str
    events: Sequence[EventRecord] = ()
    commits: Sequence[CommitPair] = ()  # each with the previous one of its node, if that is known
    handled: Iterable[HandledRecord] = ()  # handlings of these events and of others; iterated more than once
    nodes: Sequence[str] = ()  # the current nodes of the space
    newest: int | None = None  # the limit that left out older records
    # Reads the payloads of events that were read without; events that are gone are left out.
    with_payloads: Callable[[Sequence[EventRecord]], Sequence[EventRecord]] = lambda events: events

    @cached_property
    def by_id(self) -> dict[str, EventRecord]:
        """Event id -> event."""
        return {event.id: event for event in self.events}

    @cached_property
    def handlings(self) -> dict[str, list[HandledRecord]]:
        """Event id -> its handlings."""
        return self._by_event(self.handled)

    @cached_property
    def failed(self) -> dict[str, list[HandledRecord]]:
        """Event id -> its failed handlings; only events with one."""
        return self._by_event(record for record in self.handled if record.outcome == "failed")

    def _by_event(self, records: Iterable[HandledRecord]) -> dict[str, list[HandledRecord]]:
        found: dict[str, list[HandledRecord]] = {}
        by_id = self.by_id
        for record in records:
            if record.event in by_id:
                found.setdefault(record.event, []).append(record)
        return found

    @cached_property
    def effects(self) -> dict[str, list[EventRecord | CommitPair]]:
        """Event id -> the commits and events that it caused, in journal order."""
        found: dict[str, list[EventRecord | CommitPair]] = {}
        for pair in self.commits:
            if (cause := pair[0].origin.cause) in self.by_id:
                found.setdefault(cause, []).append(pair)
        for event in self.events:
            if event.cause in self.by_id:
                found.setdefault(event.cause, []).append(event)
        return found

    def time_of(self, event: EventRecord, by: TimeBase) -> int:
        """Return when an event was stored, or the event time of it or of its nearest cause; in ns."""
        if by == "time":
            return event.time
        occurred = self._occurred(event)
        return event.time if occurred is None else occurred

    def time_of_commit(self, pair: CommitPair, by: TimeBase) -> int:
        """Return the same of a commit, whose event time is that of its cause."""
        record, _ = pair
        cause = self._cause(record.origin)
        occurred = None if cause is None or by == "time" else self._occurred(cause)
        return record.time if occurred is None else occurred

    def _occurred(self, event: EventRecord) -> int | None:
        current: EventRecord | None = event
        for _ in range(len(event.path) + 1):
            if current is None:
                return None
            if current.occurred is not None:
                return nanoseconds(datetime.fromisoformat(current.occurred))
            current = self._cause(current.origin)
        return None

    def _cause(self, origin: Origin) -> EventRecord | None:
        id = nearest_cause(origin, self.by_id)
        return None if id is None else self.by_id[id]
