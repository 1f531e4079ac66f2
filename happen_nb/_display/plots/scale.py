"""The axis that the rows of a figure of values share: time, revisions, or whatever was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from math import isfinite
from numbers import Real
from typing import Any, Final, TypeGuard

from happen_nb._display.plots.base import short
from happen_nb._display.spans import plain
from happen_nb._display.value_tree import summary

_TAIL: Final = 0.03  # of the axis: for how long the newest value is shown
_CATEGORY: Final = 60  # columns of a value that is a name


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value is a number; truth values are not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def missing(value: Any) -> bool:
    """Whether there is nothing to draw."""
    return value is None or (isinstance(value, float) and not isfinite(value))


def text_of(value: Any) -> str:
    """A value that is not a number, as it is called in a figure; not safe yet."""
    return value if isinstance(value, str) else plain(summary(value, _CATEGORY))


@dataclass(frozen=True, slots=True)
class Scale:
    """Where on the axis each of the kept commits is.

    Parameters
    ----------
    kept : sequence of int
        The commits that have a place.
    places : sequence of float
        Of each of these; ms since 1970 on a "date" axis.
    kind : str
        Plotly's type of the axis.
    names : sequence of str
        What the whole numbers are called, if they stand for names.
    """

    kept: Sequence[int]
    places: Sequence[float]
    kind: str
    names: Sequence[str] = ()

    @property
    def forward(self) -> bool:
        """Whether it never goes back, so that a value holds until the next commit."""
        return not self.names and all(one <= other for one, other in pairwise(self.places))

    @property
    def end(self) -> float:
        """Up to where the newest value is shown."""
        if not self.forward:
            return max(self.places)
        least = 1000.0 if self.kind == "date" else 1.0
        return self.places[-1] + (_TAIL * (self.places[-1] - self.places[0]) or least)

    def axis(self) -> dict[str, Any]:
        """What plotly is told of it."""
        if not self.names:
            return {"type": self.kind}
        step = len(self.names) // 12 + 1
        numbers = range(0, len(self.names), step)
        return {
            "type": "linear",
            "tickvals": list(numbers),
            "ticktext": [short(self.names[number]) for number in numbers],
        }


def scale_of(values: Sequence[Any]) -> Scale:
    """The scale for a value of each commit: moments, numbers, or names in the order they come.

    Examples
    --------
    >>> scale_of([1, None, 2.5])
    Scale(kept=[0, 2], places=[1.0, 2.5], kind='linear', names=())
    >>> scale_of(["new", "paid", "new"])
    Scale(kept=[0, 1, 2], places=[0, 1, 0], kind='linear', names=['new', 'paid'])
    """
    kept = [index for index, value in enumerate(values) if not missing(value)]
    there = [values[index] for index in kept]
    if all(is_number(value) for value in there):
        return Scale(kept, [float(value) for value in there], "linear")
    moments = [_moment(value) for value in there]
    if None not in moments:
        return Scale(kept, [moment for moment in moments if moment is not None], "date")
    texts = [text_of(value) for value in there]
    names = list(dict.fromkeys(texts))
    numbers = {name: number for number, name in enumerate(names)}
    return Scale(kept, [numbers[text] for text in texts], "linear", names)


def _moment(value: Any) -> float | None:
    """Ms since 1970 of a moment, or of a text that is one; without a zone it is taken for UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return round(moment.timestamp() * 1000, 3)
