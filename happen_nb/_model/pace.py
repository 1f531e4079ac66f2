"""The pace of a space: paused, slow, or at once; and the turns that are taken meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from happen_nb._model.patterns import Pattern

if TYPE_CHECKING:
    from happen_nb._model.positions import Position


class NodeTurn(NamedTuple):
    """One node handling one event. Turns are ordered by the position of the event, then by node."""

    sequence: int
    number: int
    node: str

    @property
    def position(self) -> Position:
        return self.sequence, self.number


class Since(NamedTuple):
    """A pattern whose events wait, from a position of the journal on."""

    pattern: str
    sequence: int

    def matches(self, type: str) -> bool:
        """Return True if events of this type wait."""
        return bool(Pattern.of(self.pattern).matches(type))


class Pace(NamedTuple):
    """The pace of a space from a position of the journal on."""

    sequence: int = 0  # the sequence of the record
    pauses: tuple[Since, ...] = ()
    """The pattern whose events wait comes last; before it are those that waited since the space was paused.
    Empty if all events are handled at once.
    """
    next: NodeTurn | None = None  # the step: a turn that is taken despite the pause
    slow: float | None = None  # seconds to wait before each event, instead of waiting for a step
    id: str | None = None  # the id of the record, by which its process recognizes it

    @property
    def pattern(self) -> str | None:
        """The pattern of the events that wait; None if none do."""
        return self.pauses[-1].pattern if self.pauses else None

    @property
    def paused(self) -> bool:
        """True if events wait for a step, or the end of the pause."""
        return bool(self.pauses) and self.slow is None

    def matches(self, type: str) -> bool:
        """Return True if events of this type wait."""
        return bool(self.pauses) and self.pauses[-1].matches(type)

    def has_held(self, type: str, sequence: int) -> bool:
        """Return True if an event has waited since it was stored, unless it was the turn of a step."""
        if not self.paused or sequence <= self.pauses[0].sequence:
            return False
        before = [each for each in self.pauses if each.sequence < sequence]
        return all(each.matches(type) for each in self.pauses[len(before) - 1 :])
