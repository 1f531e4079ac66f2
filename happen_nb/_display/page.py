"""What a display consists of, before it becomes text or HTML: a heading over rows, tables, notes and code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from happen_nb._display.spans import Line, Span
from happen_nb._display.tree import Row


@dataclass(frozen=True, slots=True)
class Heading:
    """``Node orders · revision 3``: what it is, its name, and what else is to say."""

    kind: str
    name: str = ""
    parts: tuple[Line, ...] = ()


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; text leaves out those of times."""

    title: str
    right: bool = False
    time: bool = False


@dataclass(frozen=True, slots=True)
class Code:
    """Lines as they are, already cleaned; below a cell or a heading."""

    lines: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """A table's cell; HTML folds ``detail`` below it."""

    line: Line = ()
    detail: Row | Code | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """``more`` says what is left out: before the rows, or after them."""

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
class Outline:
    """Lines below each other; HTML folds what is below one, and the detail of one.

    ``folded`` begins with the first one closed.
    """

    steps: tuple[Step, ...]
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Note:
    """A line for itself."""

    line: Line


Block = Row | Table | Outline | Note | Code


@dataclass(frozen=True, slots=True)
class Page:
    """One display."""

    heading: Heading | None
    blocks: Sequence[Block] = ()


def part(text: str) -> Line:
    """A part of a heading, or a cell, in a quiet colour."""
    return (Span(text),)


def when(time: datetime | None, *, zone: bool = False) -> Line:
    """A time, which only HTML shows; with its zone where no column's title tells it.

    Examples
    --------
    >>> when(datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC))
    (Span(text='2026-01-02T03:04:05.678Z', kind='time'),)
    """
    if time is None:
        return ()
    utc = time.astimezone(UTC)
    iso = utc.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return (Span(iso, "moment" if zone else "time"),)


def took(seconds: float) -> Line:
    """A duration, which only HTML shows.

    Examples
    --------
    >>> took(0.25)
    (Span(text='PT0.250000S', kind='took'),)
    """
    return (Span(f"PT{seconds:.6f}S", "took"),)


def more(number: int) -> str:
    """How many are left out."""
    return f"… {number:,} more" if number else ""


def table(
    columns: Sequence[Column], rows: Sequence[tuple[Cell, ...]], more: str = "", *, more_first: bool = False
) -> Table:
    """A table without the columns in which no row has anything."""
    used = [any(row[index].line for row in rows) for index in range(len(columns))]
    kept = tuple(column for column, keep in zip(columns, used, strict=True) if keep)
    cells = tuple(tuple(cell for cell, keep in zip(row, used, strict=True) if keep) for row in rows)
    return Table(kept, cells, more, more_first)
