"""The parts of a first run that a second one recalls: ids, results of calls, times, replies from others."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from happen_nb._model.past import key_of

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from happen_nb._journal.decoding import CallResult
    from happen_nb._model.past import Key, Past
    from happen_nb._model.records import EventRecord, HandledRecord


class Recall:
    """The memory of a second run. From any thread.

    The events that handlers emit have the ids of their counterparts, so that everything that depends on ids
    is the same: causes, the names of calls, random numbers.

    Parameters
    ----------
    past : Past
    results : mapping of str to CallResult
        The recorded results of calls, by the rest of their subject.
    handled : iterable of HandledRecord
    """

    def __init__(
        self, past: Past, results: Mapping[str, CallResult], handled: Iterable[HandledRecord]
    ) -> None:
        records = list(handled)
        self._ids = {key: deque(ids) for key, ids in past.ids.items()}
        self._results = dict(results)
        self._moments = {(each.event, each.node, each.handler): each.now for each in records if each.now}
        self._replies = {(each.event, each.node): each for each in records if each.reply or each.error}
        self._late = {
            (each.event, each.node): each.outcome == "cancelled" and each.position is None for each in records
        }
        self.elsewhere = frozenset(past.elsewhere)
        """The nodes of other processes."""
        self._folded = past.folded
        self._lock = threading.Lock()

    # -- ids ---------------------------------------------------------------------------------------------

    def id_of(self, event: Key, pending: Collection[str] | None) -> str | None:
        """Return the id for an event that is emitted now; None if it has no counterpart.

        Parameters
        ----------
        pending : collection of str, optional
            In a transform, the ids of the events that it has emitted. It may run again: they count as used
            when these are stored.
        """
        with self._lock:
            left = self._ids.get(event)
            if not left:
                return None
            if pending is None:
                return left.popleft()
            return next((id for id in left if id not in pending), None)

    def stored(self, event: EventRecord) -> None:
        """Note that an event is stored, so that no other one gets its id."""
        with self._lock:
            left = self._ids.get(key_of(event))
            if left and event.id in left:
                left.remove(event.id)

    def folded(self, event: str) -> frozenset[str]:
        """Return the ids of the events that a state handler applied with the same commit as an event."""
        return self._folded.get(event, frozenset())

    def was_late(self, event: str, node: str) -> bool | None:
        """Return True if a node has left out a repeated call; None if it is new."""
        return self._late.get((event, node))

    # -- what handlers have learnt -------------------------------------------------------------------------

    def result(self, subject: str, arguments: str | None) -> bytes | None:
        """Return the recorded result of a call with the same arguments, as JSON; None if there is none."""
        found = self._results.get(subject.partition(".once.")[2])
        if found is None or (None not in (arguments, found.arguments) and arguments != found.arguments):
            return None
        return found.body

    def now(self, event: str, node: str, handler: str) -> str | None:
        """Return the time that a handler has read from its context."""
        return self._moments.get((event, node, handler))

    def reply(self, event: str, node: str) -> HandledRecord | None:
        """Return how a node of another process has replied to an event."""
        return self._replies.get((event, node))
