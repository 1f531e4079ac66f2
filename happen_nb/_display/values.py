"""Values and changes as text that fits: in one line, or as a tree of rows.

No function here walks a whole value: the work is bounded by the room that there is to fill. A tree is built
level by level, so that every top-level key comes before anything deep, and within a budget, so that neither
time nor size depends on how large the value is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Literal

from happen_nb._display import Line, Span, clean, columns, count, cut, key, plain, quote, quoted, weight
from happen_nb._model.paths import Steps

Sign = Literal["", "+", "-", "~"]
WIDTH: Final = 88  # columns of a line of text
LABEL_COLUMNS: Final = 24
"""Columns up to which labels are padded, so that one long key does not push all values to the right."""
ROW_BYTES: Final = 60  # about how much markup a row takes
_MAX_TOP, _MAX_INNER = 40, 10  # children shown at the top, and of a container in it
_MAX_REST = 40  # further children in a fold
_UNFOLDED_CHARACTERS = 2000  # of a long string in its fold
_MAX_DEPTH = 12


def is_container(value: object) -> bool:
    return isinstance(value, (dict, list, tuple))


def steps(value: object) -> Iterator[tuple[str | int, object]]:
    """Iterate over the children: a key or an index, and the value."""
    if isinstance(value, dict):
        return iter(value.items())
    return enumerate(value) if isinstance(value, (list, tuple)) else iter(())


def children(value: object) -> Iterator[tuple[str, object]]:
    """Iterate over the children: the label, which is a key or an index, and the value."""
    return ((key(step), child) for step, child in steps(value))


def size(value: object) -> int:
    """Count the children of a value."""
    return len(value) if isinstance(value, (dict, list, tuple)) else 0


def counted(value: object) -> Line:
    """Return a container as its number of children, or ``{}`` and ``[]``.

    Examples
    --------
    >>> plain(counted([1, 2, 3])), plain(counted({}))
    ('[3 items]', '{}')
    """
    opening, closing = _brackets(value)
    noun = "key" if opening == "{" else "item"
    number = size(value)
    return (Span(f"{opening}{count(number, noun) if number else ''}{closing}"),)


def scalar(value: object, room: int) -> Line:
    """Return a value without children; a string that is too long ends with its length.

    Examples
    --------
    >>> plain(scalar("x" * 5000, 30))
    '"xxxxxxxxx…"  5,000 characters'
    """
    if isinstance(value, str):
        return _string(value, room)
    if value is None or isinstance(value, bool):
        return (Span(str(value), "atom"),)
    if isinstance(value, (int, float)):
        return (Span(repr(value), "num"),)
    return (Span(f"<{cut(type(value).__name__, 40)}>"),)


def fits(value: object, room: int) -> Line | None:
    """Return a whole value in `room` characters, or None if it does not fit.

    Examples
    --------
    >>> plain(fits({"status": "open", "items": [1, 2]}, 40))
    '{status: "open", items: [1, 2]}'
    >>> fits(list(range(10_000)), 40) is None
    True
    """
    out: list[Span] = []
    return tuple(out) if _write(value, room, out) >= 0 else None


def summary(value: object, room: int) -> Line:
    """Return a value in about `room` characters, with the number of children left out.

    Examples
    --------
    >>> plain(summary({"a": 1, "orders": {str(i): i for i in range(99)}, "tags": [1] * 50}, 36))
    '{a: 1, orders: {99 keys}, … 1 more}'
    """
    whole = fits(value, room)
    if whole is not None:
        return whole
    if not is_container(value):
        return scalar(value, room)
    return partly(value, room)


def partly(value: object, room: int) -> Line:
    """Return the start of a container that does not fit, with the number of children left out."""
    opening, closing = _brackets(value)
    out = [Span(opening)]
    number = size(value)
    left = room - 2 - len(f", … {number:,} more")
    for index, (label, child) in enumerate(children(value)):
        piece: list[Span] = []
        after = _write_label(label if opening == "{" else "", index, left, piece)
        piece += _short(child, min(after, room // 2))
        after = left - len(plain(piece))
        if after < 0:
            out.append(Span(f"{', ' if index else ''}… {number - index:,} more"))
            break
        out += piece
        left = after
    return (*out, Span(closing))


def _brackets(value: object) -> tuple[str, str]:
    return ("{", "}") if isinstance(value, dict) else ("[", "]")


def _string(text: str, room: int) -> Line:
    whole = quoted(text, room)
    if whole is not None:
        return (Span(whole, "str"),)
    note = f"  {count(len(text), 'character')}"
    return (Span(quote(text, max(8, room - len(note))), "str"), Span(note))


def _write(value: object, room: int, out: list[Span]) -> int:
    """Append `value` and return the room left; if negative, it does not fit and the output is incomplete."""
    if isinstance(value, str):
        return _write_string(value, room, out)
    if not is_container(value):
        line = scalar(value, room)
        out.extend(line)
        return room - len(plain(line))
    opening, closing = _brackets(value)
    room -= 2
    out.append(Span(opening))
    for index, (label, child) in enumerate(children(value)):
        room = _write_label(label if opening == "{" else "", index, room, out)
        room = room if room < 0 else _write(child, room, out)
        if room < 0:
            return room
    out.append(Span(closing))
    return room


def _write_string(text: str, room: int, out: list[Span]) -> int:
    whole = quoted(text, room)
    if whole is None:
        return -1
    out.append(Span(whole, "str"))
    return room - len(whole)


def _write_label(label: str, index: int, room: int, out: list[Span]) -> int:
    if index:
        out.append(Span(", "))
        room -= 2
    if label:
        out += (Span(label, "key"), Span(": "))
        room -= len(label) + 2
    return room


def _short(value: object, room: int) -> Line:
    whole = fits(value, room)
    if whole is not None:
        return whole
    if is_container(value):
        return counted(value)
    return (Span(quote(value, max(room, 8)), "str"),) if isinstance(value, str) else scalar(value, room)


@dataclass(slots=True)
class Budget:
    """The room that is left on a page."""

    rows: int = 40  # open ones, which are those that text shows
    weight: int = 40_000  # about how many bytes of HTML
    folds: bool = True  # text does not show them

    def take(self, row: Row) -> bool:
        """Spend the cost of a row; return False once it does not fit, and from then on."""
        cost = ROW_BYTES + weight((Span(row.label), *row.value, *row.preview))
        return self.spend(cost)

    def spend(self, cost: int) -> bool:
        """Spend a number of bytes; return False once they do not fit, and from then on."""
        self.weight = self.weight - cost if cost <= self.weight else 0
        return self.weight > 0

    def share(self, parts: int) -> Budget:
        """Return one of `parts` equal shares of the rest, for folds only."""
        return Budget(0, self.weight // max(1, parts), self.folds)


@dataclass(slots=True)
class Row:
    """A line of a tree, with the rows below it; `mark` sets whether it is fresh.

    A closed fold shows ``preview`` instead of ``value``. ``text`` is the start of a string that was cut,
    ``rest`` the rows behind "… more", and ``hidden`` the number of children without a row; ``pad`` limits
    how far the labels of its children are padded.
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
    pad: int = LABEL_COLUMNS
    fresh: bool = False

    @property
    def width(self) -> int:
        """The columns to which the labels of its rows are padded."""
        return min(self.pad, max((columns(row.label) for row in self.rows), default=0))


def tree(value: object, budget: Budget) -> Row:
    """Build the tree of a value; its root is open and has no label.

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


def mark(root: Row, value: object, path: Steps, changed: Sequence[Steps]) -> None:
    """Mark the rows of the tree of the value at a path that hold a changed path.

    Examples
    --------
    >>> state = {"open": 2, "orders": {"o1": "new"}}
    >>> root = tree(state, Budget())
    >>> mark(root, state, (), [("orders", "o1")])
    >>> [(row.label, row.fresh) for row in root.rows]
    [('open', False), ('orders', True)]
    """
    for row, (step, child) in zip((*root.rows, *root.rest), steps(value), strict=False):
        own = (*path, step)
        inside = [each for each in changed if each[: len(own)] == own[: len(each)]]
        row.fresh = any(len(each) <= len(own) for each in inside) or (bool(inside) and not row.open)
        mark(row, child, own, inside)


def grow(root: Row, value: object, budget: Budget) -> None:
    """Put the children of `value` below `root`, level by level, as far as the budget goes.

    A level is opened as a whole, so that siblings look alike, except lists that a line shows as well.
    """
    growth = _Growth(budget)
    level: list[tuple[Row, object]] = [(root, value)]
    closed: list[tuple[Row, object]] = []
    opened = root.open
    for depth in range(_MAX_DEPTH):
        limit = _MAX_INNER if depth else _MAX_TOP
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
    """Build the row of one value, without rows below it."""
    whole = fits(value, room)
    if whole is not None:
        return Row(sign, label, whole)
    if is_container(value):
        return Row(sign, label, counted(value), preview=partly(value, room))
    return Row(sign, label, scalar(value, room))


def unfold(row: Row, text: str, budget: Budget) -> None:
    """Put the start of a string that was cut into the row's fold."""
    start = text[:_UNFOLDED_CHARACTERS]
    if budget.folds and budget.spend(ROW_BYTES + weight((Span(clean(start)),))):
        row.text = start


class _Growth:
    """One tree being built: open levels first, then folds."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.left: list[tuple[Row, Iterator[tuple[str, object]]]] = []
        self.strings: list[tuple[Row, str]] = []

    def level(
        self, parents: list[tuple[Row, object]], depth: int, limit: int, *, opened: bool
    ) -> list[tuple[Row, object]]:
        """Give each parent its first children; return those that have children themselves."""
        below: list[tuple[Row, object]] = []
        for row, value in parents:
            if not self.budget.weight:
                break
            row.open = opened
            items = children(value)
            first = list(islice(items, _shown(value, limit)))
            self._fill(row, first, WIDTH - 2 * depth, below)
            row.hidden = size(value) - len(row.rows)
            self.left.append((row, items))
        return below

    def _fill(
        self, row: Row, items: list[tuple[str, object]], room: int, below: list[tuple[Row, object]]
    ) -> None:
        room -= min(LABEL_COLUMNS, max((columns(label) for label, _ in items), default=0)) + 4
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
        """Fill the rows behind "… more" and the folds of long strings, as far as the budget goes."""
        if not self.budget.folds:
            return
        for row, text in self.strings:
            unfold(row, text, self.budget)
        for row, items in self.left:
            self._fill_rest(row, items)

    def _fill_rest(self, row: Row, items: Iterator[tuple[str, object]]) -> None:
        for label, child in islice(items, min(row.hidden, _MAX_REST)):
            made = row_of(label, child, WIDTH - LABEL_COLUMNS)
            if not self.budget.take(made):
                return
            row.rest.append(made)
            row.hidden -= 1


def _is_flat(value: object, limit: int) -> bool:
    """Return True for a list without containers of which rows would show a part only."""
    return (
        isinstance(value, (list, tuple))
        and _shown(value, limit) < len(value)
        and not any(map(is_container, value[:limit]))
    )


def _shown(value: object, limit: int) -> int:
    number = size(value)
    return number if number <= limit + 2 else limit
