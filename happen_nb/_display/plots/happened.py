"""What a timeline is drawn from, and who caused what in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from itertools import zip_longest
from typing import Literal

from happen_nb._model.arguments import nanoseconds
from happen_nb._model.causality import CommitPair
from happen_nb._model.records import EventRecord, HandledRecord

By = Literal["time", "occurred"]
NOTEBOOK = "notebook"
_DIGITS = re.compile(r"(\d+)")


def in_order(names: Iterable[str]) -> list[str]:
    """Names as one looks for them: the notebook first, numbers by their size.

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
class Happened:
    """A part of a space's journal.

    Parameters
    ----------
    space : str
        Its name.
    events : sequence of EventRecord
    commits : sequence of (CommitRecord, CommitRecord or None)
        Each with the one before it on its node, if that is known.
    handled : iterable of HandledRecord
        What became of the events; of others too. It is iterated more than once.
    nodes : sequence of str
        The nodes of the space at present.
    newest : int, optional
        So many of the newest were asked for, and there are older ones.
    whole : callable
        Gives events with their payloads, where these were not read yet; those that are gone are left out.
    """

    space: str
    events: Sequence[EventRecord] = ()
    commits: Sequence[CommitPair] = ()
    handled: Iterable[HandledRecord] = ()
    nodes: Sequence[str] = field(default=())
    newest: int | None = None
    whole: Callable[[Sequence[EventRecord]], Sequence[EventRecord]] = lambda events: events

    @cached_property
    def by_id(self) -> dict[str, EventRecord]:
        """The events by their ids."""
        return {event.id: event for event in self.events}

    @cached_property
    def handlings(self) -> dict[str, list[HandledRecord]]:
        """Event id -> what became of it."""
        return self._of_events(self.handled)

    @cached_property
    def failed(self) -> dict[str, list[HandledRecord]]:
        """Event id -> which of its handlings failed; only of events of which one did."""
        return self._of_events(record for record in self.handled if record.outcome == "failed")

    def _of_events(self, records: Iterable[HandledRecord]) -> dict[str, list[HandledRecord]]:
        found: dict[str, list[HandledRecord]] = {}
        shown = self.by_id
        for record in records:
            if record.event in shown:
                found.setdefault(record.event, []).append(record)
        return found

    @cached_property
    def effects(self) -> dict[str, list[EventRecord | CommitPair]]:
        """Event id -> what it caused, in journal order."""
        found: dict[str, list[EventRecord | CommitPair]] = {}
        for change in self.commits:
            if (cause := change[0].origin.cause) in self.by_id:
                found.setdefault(cause, []).append(change)
        for event in self.events:
            if event.cause in self.by_id:
                found.setdefault(event.cause, []).append(event)
        return found

    def moment_of(self, event: EventRecord, by: By) -> int:
        """When it was stored, or when what it or the nearest of its causes tells of happened; in ns."""
        if by == "time":
            return event.time
        told = self._told(event)
        return event.time if told is None else told

    def moment_of_commit(self, change: CommitPair, by: By) -> int:
        """The same of a commit, which tells of what its cause tells of."""
        record, _ = change
        cause = self._cause(record.origin.cause, record.origin.path)
        told = None if cause is None or by == "time" else self._told(cause)
        return record.time if told is None else told

    def _told(self, event: EventRecord) -> int | None:
        seen: EventRecord | None = event
        for _ in range(len(event.path) + 1):
            if seen is None:
                return None
            if seen.occurred is not None:
                return nanoseconds(datetime.fromisoformat(seen.occurred))
            seen = self._cause(seen.cause, seen.path)
        return None

    def _cause(self, cause: str | None, path: Sequence[str]) -> EventRecord | None:
        """The cause, or the last before it that is known."""
        if cause is None or cause in self.by_id:
            return None if cause is None else self.by_id[cause]
        return next((self.by_id[id] for id in reversed(path) if id in self.by_id), None)
