"""The parts of a display, before it becomes text or HTML: a heading over rows, tables, notes and code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeVar

from happen_nb._display.spans import Kind, Line, Span, iso, name
from happen_nb._display.values import Row

MAX_NEWEST: Final = 20
"""Newest items that a table shows."""

_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True)
class Heading:
    """The first line, ``Node orders · revision 3``: kind, name, further parts."""

    kind: str
    name: str = ""
    parts: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; text leaves out columns of times."""

    title: str
    right: bool = False
    time: bool = False


@dataclass(frozen=True, slots=True)
class Code:
    """Lines that keep their white space, already cleaned; below a cell or a heading."""

    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table; HTML folds ``detail`` below its line."""

    line: Line = ()
    detail: Row | Code | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of cells; ``more`` counts the rows left out, before the others or after them."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    more: str = ""
    more_first: bool = False


@dataclass(frozen=True, slots=True)
class Step:
    """A line of an outline; ``depth`` is at most one more than that of the step before it."""

    depth: int
    line: Line
    detail: Row | None = None


@dataclass(frozen=True, slots=True)
class Drawing:
    """A picture: SVG, in which all texts are escaped, and the same as lines of text."""

    svg: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outline:
    """Indented lines; HTML folds those below a line, and its detail.

    With ``folded`` the first line starts closed. HTML shows the ``drawing`` below the first line.
    """

    steps: tuple[Step, ...]
    folded: bool = False
    drawing: Drawing | None = None


@dataclass(frozen=True, slots=True)
class Note:
    """A single line."""

    line: Line


Block = Row | Table | Outline | Note | Code | Drawing


@dataclass(frozen=True, slots=True)
class Page:
    """A whole display."""

    heading: Heading | None
    blocks: Sequence[Block] = ()


def part(text: str, kind: Kind = "") -> Line:
    """Return a line of one piece, such as a part of a heading or the text of a cell."""
    return (Span(text, kind),)


def timestamp(time: datetime | None, *, zone: bool = False) -> Line:
    """Return a time, which only HTML shows; with its zone where the column's title does not name it.

    Examples
    --------
    >>> timestamp(datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC))
    (Span(text='2026-01-02T03:04:05.678Z', kind='time'),)
    """
    if time is None:
        return ()
    return (Span(iso(time.astimezone(UTC)), "moment" if zone else "time"),)


def duration(seconds: float) -> Line:
    """Return a duration, which only HTML shows.

    Examples
    --------
    >>> duration(0.25)
    (Span(text='PT0.250000S', kind='duration'),)
    """
    return part(f"PT{seconds:.6f}S", "duration")


def more(number: int) -> str:
    """Return how many are left out."""
    return f"… {number:,} more" if number else ""


def name_cell(text: str | None) -> Cell:
    """Return a cell with a name, if there is one."""
    return Cell(() if text is None else part(name(text), "plain"))


def table(
    columns: Sequence[Column], rows: Sequence[tuple[Cell, ...]], more: str = "", *, more_first: bool = False
) -> Table:
    """Build a table without the columns that are empty in all rows."""
    used = [any(row[index].line for row in rows) for index in range(len(columns))]
    kept = tuple(column for column, keep in zip(columns, used, strict=True) if keep)
    cells = tuple(tuple(cell for cell, keep in zip(row, used, strict=True) if keep) for row in rows)
    return Table(kept, cells, more, more_first)


def newest(
    items: Sequence[_Item],
    columns: Sequence[Column],
    row: Callable[[_Item], tuple[Cell, ...]],
    limit: int = MAX_NEWEST,
) -> tuple[Table, ...]:
    """Build a table of the newest items, with the number of the older ones; nothing without items."""
    older = max(0, len(items) - limit)
    rows = [row(items[index]) for index in range(older, len(items))]
    return (table(columns, rows, f"… {older:,} older" if older else "", more_first=True),) if rows else ()
