"""The order of a second run: what happens next is what happened next the first time."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from happen_nb._model.past import Moment, commit_key, event_key, key_of
from happen_nb._model.records import CommitRecord

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from happen_nb._model.past import Key, Past
    from happen_nb._model.records import EventRecord
    from happen_nb._runtime.clock import Timer
    from happen_nb._runtime.conductor import Choice

START: Final[Moment] = (0, 0)
"""The moment of what has no counterpart in the past: it goes at once."""
END: Final[Moment] = (1 << 62, 0)


class RecordedOrder:
    """Chooses what a second run does next. On the IO thread.

    What is recorded goes in the recorded order. Where a handler does something else than it did, that goes in
    the place of what it did next, or at once.

    Parameters
    ----------
    timers : sequence of Timer
        Those of the handlers that wait now.
    """

    def __init__(self, past: Past, timers: Sequence[Timer]) -> None:
        self._timers = timers
        self._storings = {key: deque(moments) for key, moments in past.storings.items()}
        self._beginnings = {key: deque(moments) for key, moments in past.beginnings.items()}
        self._of_event: dict[str, list[Key]] = {}
        for key in past.storings:
            self._of_event.setdefault(key[-1], []).append(key)
        self._first_beginnings: dict[str, Moment] = {}
        for (event, _, _), moments in past.beginnings.items():
            self._first_beginnings[event] = min(moments[0], self._first_beginnings.get(event, END))
        recorded = [*past.storings.values(), *past.beginnings.values()]
        self._moments = sorted(moment for moments in recorded for moment in moments)
        self._flying: dict[str, Moment] = {}
        self._newest_commit = 0
        self.limit = START
        """The moment of what is put in next."""

    def until_next(self, after: Moment) -> Moment:
        """Return when a handler first began or stored something after a moment."""
        place = bisect_right(self._moments, after)
        return self._moments[place] if place < len(self._moments) else END

    def sent(self, event: EventRecord) -> None:
        """Note that an event is put in: until it arrives, nothing goes that came after its handlers began."""
        self._flying[event.id] = self._first_beginnings.get(event.id, END)

    def arrived(self, id: str) -> bool:
        """Note that an event was stored; True if something may have waited for that."""
        return self._flying.pop(id, None) is not None

    def choose(self, choices: Sequence[Choice]) -> Choice | None:
        """Return what goes next; None if something is put in first, or a handler that waits goes on."""
        if not choices:
            return None
        first = min(choices, key=self._moment)
        moment = self._moment(first)
        if moment > self.limit or any(began < moment for began in self._flying.values()):
            return None
        timer = self.next_timer()
        if timer is not None and self._end_of(timer) < moment:
            return None
        if first.what == "begin" and (left := self._beginnings.get(_begin_of(first))):
            left.popleft()
        return first

    def next_timer(self) -> Timer | None:
        """Return the timer of the handler that goes on first; None if something is put in first."""
        waiting = [timer for timer in self._timers if timer.call is not None]
        first = min(waiting, key=self._end_of, default=None)
        return None if first is None or self._end_of(first) > self.limit else first

    def _end_of(self, timer: Timer) -> Moment:
        return self.next_of(timer.event, timer.node)

    def next_of(self, event: str, node: str) -> Moment:
        """Return when the handlers of a node stored the next thing for an event; START if nothing is left."""
        keys = self._of_event.get(event, ())
        mine = (self._storings[key] for key in keys if node == key[2 if key[0] == "commit" else 1])
        return min((moments[0] for moments in mine if moments), default=START)

    def stored(self, entry: CommitRecord | EventRecord) -> None:
        """Note that something was stored: it is done again, unless it is new."""
        if isinstance(entry, CommitRecord):
            self._newest_commit = entry.sequence
        elif entry.sequence == self._newest_commit:
            return  # it was stored with its commit
        left = self._storings.get(key_of(entry))
        if left:
            left.popleft()

    def _moment(self, choice: Choice) -> Moment:
        """Return when something happened in the past; in the place of what, if it is new."""
        begins = choice.what == "begin"
        if choice.event is None:
            return START if begins else min(self._left_of_watch(choice), default=START)
        if (
            begins and choice.transform
        ):  # it sees the same whenever it begins, and what it folds has arrived then
            left = None
        else:
            left = self._beginnings.get(_begin_of(choice)) if begins else self._left_of(choice)
        if left:
            return left[0]
        sequence, index = self.next_of(*_begin_of(choice)[:2])
        return (sequence, index - 1) if begins else (sequence, index)

    def _left_of(self, choice: Choice) -> deque[Moment] | None:
        """Return when this was stored in the past and is not stored again yet."""
        node, target = choice.node, choice.target
        cause = None if choice.event is None else choice.event.id
        if choice.what == "commit":
            return self._storings.get(commit_key(target, node, cause))
        left = self._storings.get(event_key(node, target, choice.receiver, cause))
        return left or self._by_others(target, choice.receiver, cause)

    def _left_of_watch(self, choice: Choice) -> Iterator[Moment]:
        """Yield when this was stored in the past: the cause of what a watch stores is that of the commit."""
        wanted = (choice.target, choice.receiver or "")
        for key, left in self._storings.items():
            same = key[1] == choice.target if choice.what == "commit" else key[2:4] == wanted
            if left and same and key[0] == ("commit" if choice.what == "commit" else "event"):
                yield left[0]

    def _by_others(self, type: str, target: str | None, cause: str | None) -> deque[Moment] | None:
        """Return the same for an event that a handler has emitted as another node."""
        wanted = event_key("", type, target, cause)[2:]
        keys = (key for key in self._of_event.get(cause or "", ()) if key[0] == "event" and key[2:] == wanted)
        return min(filter(None, map(self._storings.get, keys)), key=itemgetter(0), default=None)


def _begin_of(choice: Choice) -> tuple[str, str, str]:
    return "" if choice.event is None else choice.event.id, choice.node, choice.handler
