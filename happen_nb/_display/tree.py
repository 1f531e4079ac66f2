"""The tree of a value: what is open, what is folded, and what is only counted.

It is built level by level, so that every top-level key is there before anything deep, and within a
budget, so that neither time nor size depends on how large the value is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from happen_nb._display.inline import children, counted, fits, is_container, partly, scalar, size
from happen_nb._display.spans import Line, Span, clean, columns, weight

Sign = Literal["", "+", "-", "~"]

WIDTH = 88
"""How many columns a line of text has."""

LABEL = 24
"""How far labels are padded, so that one long key does not push all values to the right."""

ROW = 60
"""About how many bytes of markup a row takes."""

_TOP, _INNER = 40, 10  # children shown at the top, and of a container in it
_REST = 40  # children more in a fold, where there are too many
_UNFOLDED = 2000  # characters of a long string in its fold
_DEPTH = 12


@dataclass(slots=True)
class Budget:
    """What a page may still take.

    Parameters
    ----------
    rows : int
        Rows that are open, which is what text shows.
    weight : int
        About how many bytes of HTML.
    folds : bool
        Whether to build what is folded, which text does not show.
    """

    rows: int = 40
    weight: int = 40_000
    folds: bool = True

    def take(self, row: Row) -> bool:
        """Spend what a row costs. Once there is too little left, nothing is taken any more."""
        cost = ROW + weight((Span(row.label), *row.value, *row.preview))
        return self.spend(cost)

    def spend(self, cost: int) -> bool:
        """Spend so many bytes, if they are left."""
        self.weight = self.weight - cost if cost <= self.weight else 0
        return self.weight > 0

    def share(self, parts: int) -> Budget:
        """One of so many equal parts of what is left, for folds only."""
        return Budget(0, self.weight // max(1, parts), self.folds)


@dataclass(slots=True)
class Row:
    """A line of a tree, with what is below it.

    ``preview`` is what a closed fold shows instead of ``value``; ``text`` the beginning of a string that
    was cut; ``rest`` what is behind "... more", and ``hidden`` how many children are in neither; ``pad`` how
    far the labels of its children are padded at most.
    """

    sign: Sign = ""
    label: str = ""
    value: Line = ()
    preview: Line = ()
    text: str = ""
    open: bool = False
    rows: list[Row] = field(default_factory=list)
    rest: list[Row] = field(default_factory=list)
    hidden: int = 0
    pad: int = LABEL

    @property
    def width(self) -> int:
        """The columns that the labels of its rows are padded to."""
        return min(self.pad, max((columns(row.label) for row in self.rows), default=0))


def tree(value: object, budget: Budget) -> Row:
    """The tree of a value; its root is open and has no label.

    Examples
    --------
    >>> root = tree({"stock": 7, "orders": {str(i): {"total": i} for i in range(9990)}}, Budget())
    >>> [row.label for row in root.rows]
    ['stock', 'orders']
    >>> orders = root.rows[1]
    >>> len(orders.rows), len(orders.rest), orders.hidden
    (10, 40, 9940)
    """
    root = Row(value=counted(value) if is_container(value) else scalar(value, WIDTH), open=True)
    grow(root, value, budget)
    return root


def grow(root: Row, value: object, budget: Budget, *, room: int = WIDTH) -> None:
    """Put the children of `value` below `root`, level by level, as far as the budget goes.

    A level is opened as a whole, so that siblings look alike; but not what a line shows as well as rows do.
    """
    growth = _Growth(budget, room)
    level: list[tuple[Row, object]] = [(root, value)]
    closed: list[tuple[Row, object]] = []
    opened = root.open
    for depth in range(_DEPTH):
        limit = _INNER if depth else _TOP
        if opened and depth:
            closed += (each for each in level if _is_flat(each[1], limit))
            level = [each for each in level if not _is_flat(each[1], limit)]
            opened = bool(level) and sum(_shown(v, limit) for _, v in level) <= budget.rows
        if not opened:
            level, closed = [*level, *closed], []
        if not level or not (opened or budget.folds):
            break
        level = growth.level(level, depth, limit, opened=opened)
    growth.folds()


def row_of(label: str, value: object, room: int, *, sign: Sign = "") -> Row:
    """A row for one value, without what is below it."""
    whole = fits(value, room)
    if whole is not None:
        return Row(sign, label, whole)
    if is_container(value):
        return Row(sign, label, counted(value), preview=partly(value, room))
    return Row(sign, label, scalar(value, room))


def unfold(row: Row, text: str, budget: Budget) -> None:
    """Put the beginning of a string that was cut into the row's fold."""
    beginning = text[:_UNFOLDED]
    if budget.folds and budget.spend(ROW + weight((Span(clean(beginning)),))):
        row.text = beginning


class _Growth:
    """One tree being built: open levels first, then what is folded."""

    def __init__(self, budget: Budget, room: int) -> None:
        self.budget = budget
        self.room = room
        self.left: list[tuple[Row, Iterator[tuple[str, object]]]] = []
        self.strings: list[tuple[Row, str]] = []

    def level(
        self, parents: list[tuple[Row, object]], depth: int, limit: int, *, opened: bool
    ) -> list[tuple[Row, object]]:
        """Give each parent its first children; those that have children themselves come back."""
        below: list[tuple[Row, object]] = []
        for row, value in parents:
            if not self.budget.weight:
                break
            row.open = opened
            items = children(value)
            first = list(islice(items, _shown(value, limit)))
            self._fill(row, first, self.room - 2 * depth, below)
            row.hidden = size(value) - len(row.rows)
            self.left.append((row, items))
        return below

    def _fill(
        self, row: Row, items: list[tuple[str, object]], room: int, below: list[tuple[Row, object]]
    ) -> None:
        room -= min(LABEL, max((columns(label) for label, _ in items), default=0)) + 4
        for label, child in items:
            made = row_of(label, child, max(room, 24))
            if not self.budget.take(made):
                return
            self.budget.rows -= row.open
            row.rows.append(made)
            if made.preview:
                below.append((made, child))
            elif isinstance(child, str) and len(made.value) > 1:
                self.strings.append((made, child))

    def folds(self) -> None:
        """What is behind "... more", and long strings, with what is left of the budget."""
        if not self.budget.folds:
            return
        for cut, text in self.strings:
            unfold(cut, text, self.budget)
        for row, items in self.left:
            self._fill_rest(row, items)

    def _fill_rest(self, row: Row, items: Iterator[tuple[str, object]]) -> None:
        for label, child in islice(items, min(row.hidden, _REST)):
            made = row_of(label, child, self.room - LABEL)
            if not self.budget.take(made):
                return
            row.rest.append(made)
            row.hidden -= 1


def _is_flat(value: object, limit: int) -> bool:
    """Whether it is a list of which rows would show a part only, and nothing that has children."""
    return (
        isinstance(value, (list, tuple))
        and _shown(value, limit) < len(value)
        and not any(map(is_container, value[:limit]))
    )


def _shown(value: object, limit: int) -> int:
    number = size(value)
    return number if number <= limit + 2 else limit
