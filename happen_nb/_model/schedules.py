"""Scheduled events, and the clock of a space."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from happen_nb._model.arguments import nanoseconds, to_utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from happen_nb._model.records import EventRecord

START: Final = "2000-01-01T00:00:00.000000Z"
"""The time at which a manual clock starts, unless another is given."""


class Alarm(NamedTuple):
    """A scheduled event that is not delivered yet.

    ``id`` is that of the event, or of the ``every`` that it belongs to. Each scheduling of it has a ``nonce``
    of its own. ``target`` is the subject on which the event will be stored. ``cause`` is the id at the end of
    the event's path.
    """

    id: str
    nonce: str
    sequence: int
    due: str
    target: str
    event: EventRecord | None = None
    type: str = ""
    sender: str = ""
    cause: str | None = None

    @property
    def name(self) -> str:
        """The id and the nonce, as the journal has them."""
        return f"{self.id} {self.nonce}"


class Cancel(NamedTuple):
    """A cancel of the event that was scheduled under an id.

    ``cause`` is the id of the event that was handled, or of the commit that was watched, and ``by`` the node
    of the handler or the watch; both are None for a cell.
    """

    sequence: int
    id: str
    cause: str | None
    by: str | None


class ClockRecord(NamedTuple):
    """The time of a manual clock from a position of the journal on."""

    sequence: int
    time: int
    now: str


@dataclass(frozen=True, slots=True)
class ClockMoves:
    """The moves of a manual clock, oldest first, in ns since 1970; a real clock has none."""

    stored: Sequence[int] = ()  # when the server stored each move
    moments: Sequence[int] = ()  # the time to which each moved the clock

    def followed_by(self, records: Iterable[ClockRecord]) -> ClockMoves:
        """Return these moves and later ones."""
        pairs = [(record.time, nanoseconds(from_text(record.now))) for record in records]
        stored, moments = zip(*pairs, strict=True) if pairs else ((), ())
        return ClockMoves([*self.stored, *stored], [*self.moments, *moments])

    def time_of_space(self, stored: int) -> int:
        """Return the time of the space at the moment when the server stored something; in ns.

        Examples
        --------
        >>> moves = ClockMoves().followed_by([ClockRecord(1, 500, START), ClockRecord(5, 900, START)])
        >>> from_ns(moves.time_of_space(700)).year, ClockMoves().time_of_space(700)
        (2000, 700)
        """
        if not self.stored:
            return stored
        return self.moments[max(0, bisect_right(self.stored, stored) - 1)]


REAL_CLOCK: Final = ClockMoves()


def utc_text(moment: str | datetime) -> str:
    """Write a time in UTC so that the order of the texts is that of the times.

    Examples
    --------
    >>> utc_text("2026-01-02T03:04:05+01:00")
    '2026-01-02T02:04:05.000000Z'
    """
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment)
    if moment.tzinfo is not UTC:
        moment = to_utc(moment)
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def is_moment_text(text: object) -> bool:
    """Return True for what `utc_text` writes; another client may have written anything."""
    try:
        return isinstance(text, str) and len(text) == len(START) and utc_text(text) == text
    except ValueError:
        return False


def from_text(text: str) -> datetime:
    """Read what `utc_text` has written."""
    return datetime.fromisoformat(text)


def from_ns(ns: int) -> datetime:
    """Convert ns since 1970 to a time, in whole microseconds."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
