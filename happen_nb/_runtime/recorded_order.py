"""The order of a second run: what happens next is what happened next the first time."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING, Final

from happen_nb._model.past import Moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from happen_nb._model.past import Past
    from happen_nb._model.records import EventRecord
    from happen_nb._runtime.conductor import Choice

START: Final[Moment] = (0, 0)
LATER: Final[Moment] = (1 << 62, 0)
"""The moment of what has no counterpart in the past."""


class RecordedOrder:
    """Chooses what a second run does next. On the IO thread.

    What is recorded goes in the recorded order. What has no counterpart in the past goes when nothing
    recorded is left that can go before the next thing from outside.
    """

    def __init__(self, past: Past) -> None:
        self._storings = {key: deque(moments) for key, moments in past.storings.items()}
        self._beginnings = {key: deque(moments) for key, moments in past.beginnings.items()}
        self._first_beginnings: dict[str, Moment] = {}
        for (event, _, _), moments in past.beginnings.items():
            self._first_beginnings[event] = min(moments[0], self._first_beginnings.get(event, LATER))
        recorded = [*past.storings.values(), *past.beginnings.values()]
        self._moments = sorted(moment for moments in recorded for moment in moments)
        self._flying: dict[str, Moment] = {}
        self.limit = START
        """The moment of what is put in next."""

    def until_next(self, after: Moment) -> Moment:
        """Return when a handler first began or stored something after a moment."""
        place = bisect_right(self._moments, after)
        return self._moments[place] if place < len(self._moments) else LATER

    def sent(self, event: EventRecord) -> None:
        """Note that an event is put in: until it arrives, nothing goes that came after its handlers began."""
        self._flying[event.id] = self._first_beginnings.get(event.id, LATER)

    def arrived(self, id: str) -> bool:
        """Note that an event was stored; True if something may have waited for that."""
        return self._flying.pop(id, None) is not None

    def choose(self, choices: Sequence[Choice]) -> Choice | None:
        """Return what goes next; None if something is put in first."""
        if not choices:
            return None
        first = min(choices, key=self._moment)
        moment = self._moment(first)
        if any(began < moment for began in self._flying.values()):
            return None
        if moment > self.limit:
            new = [each for each in choices if self._moment(each) == LATER]
            if not new or self._flying:
                return None
            first = new[0]
        self._pass(first)
        return first

    def _left(self, choice: Choice) -> deque[Moment]:
        """Return when something happened in the past that is not done again yet."""
        raise NotImplementedError

    def _moment(self, choice: Choice) -> Moment:
        left = self._left(choice)
        return left[0] if left else LATER

    def _pass(self, choice: Choice) -> None:
        left = self._left(choice)
        if left:
            left.popleft()
