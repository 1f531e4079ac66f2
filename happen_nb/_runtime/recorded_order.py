"""The order of a second run: what happens next is what happened next the first time."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING, Final

from happen_nb._model.past import Moment, commit_key, event_key

if TYPE_CHECKING:
    from collections.abc import Sequence

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
        self._pass(first)
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

    def _moment(self, choice: Choice) -> Moment:
        left = self._left(choice)
        if left:
            return left[0]
        sequence, index = self.next_of(choice.event.id, choice.node)
        return (sequence, index - 1) if choice.what == "begin" else (sequence, index)

    def _pass(self, choice: Choice) -> None:
        left = self._left(choice)
        if left:
            left.popleft()

    def _left(self, choice: Choice) -> deque[Moment] | None:
        """Return when this happened in the past, if it is not done again yet."""
        event, node, target = choice.event.id, choice.node, choice.target
        if choice.what == "begin":
            return self._beginnings.get((event, node, choice.handler))
        if choice.what == "commit":
            return self._storings.get(commit_key(target, node, event))
        return self._storings.get(event_key(choice.sender, choice.type, target, event))
