"""Changes of a state, as a tree and in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from happen_nb._display.spans import Kind, Line, Span, columns, cut_middle, plain, quote
from happen_nb._display.values import (
    WIDTH,
    Budget,
    Row,
    Sign,
    fits,
    grow,
    is_container,
    row_of,
    summary,
    unfold,
)
from happen_nb._model.frozen import Change, Diff, diff
from happen_nb._model.paths import format_path
from happen_nb._model.records import EMPTY, CommitRecord

MAX_CHANGES: Final = 30
"""Changes of a commit that are shown."""
PATH_COLUMNS: Final = 44
"""Columns that a path takes."""
_SIGNS: Final[dict[str, Sign]] = {"add": "+", "remove": "-", "change": "~"}
_SHARED_CHARACTERS: Final = 8  # of what two long strings share, shown before their difference


def changes(diff: Sequence[Change], budget: Budget, *, limit: int = MAX_CHANGES) -> Row:
    """Build the rows of a difference below an open root, `limit` at most."""
    root = Row(open=True, pad=PATH_COLUMNS)
    first = list(islice(diff, limit))
    labels = [_path(change, PATH_COLUMNS) for change in first]
    room = WIDTH - 4 - min(PATH_COLUMNS, max(map(columns, labels), default=0))
    made = [_row(change, label, room) for change, label in zip(first, labels, strict=True)]
    for row in made:
        if not budget.take(row):
            break
        root.rows.append(row)
    root.hidden = len(diff) - len(root.rows)
    folding = [(row, change) for row, change in zip(root.rows, first, strict=False) if _folds(row)]
    share = budget.share(len(folding))
    for row, change in folding:
        _fold(row, change, replace(share))
    return root


def in_a_line(diff: Sequence[Change], room: int) -> tuple[Line, bool]:
    """Return a difference in one line, and True if the line shows all of it.

    A single change has its values, several have their paths only.
    """
    if len(diff) == 1:
        label = _path(diff[0], room // 2)
        row = _row(diff[0], label, room - columns(label) - 4)
        return (*_signed(row.sign, row.label), Span("  "), *(row.preview or row.value)), not _folds(row)
    return _paths(diff, room), False


def diff_of(record: CommitRecord, before: CommitRecord | None) -> Diff | None:
    """Return what a commit changed; None if the state before it is not known.

    Raises
    ------
    HappenError
        One of both states cannot be read.
    """
    if before is None:
        return diff(EMPTY, record.state) if record.revision == 1 else None
    return diff(before.state, record.state) if before.revision == record.revision - 1 else None


def _paths(diff: Sequence[Change], room: int) -> Line:
    out: list[Span] = []
    for index, change in enumerate(diff):
        piece = _signed(_SIGNS[change.op], _path(change, 32))
        room -= len(plain(piece)) + 2
        if room < 0 and index:
            return (*out, Span(f", … {len(diff) - index:,} more"))
        out += (Span(", "), *piece) if index else piece
    return tuple(out)


def _signed(sign: Sign, label: str) -> Line:
    return Span(f"{sign} ", sign), Span(label, "key")


def _path(change: Change, room: int) -> str:
    return cut_middle(format_path(change.path), room)


def _row(change: Change, label: str, room: int) -> Row:
    sign = _SIGNS[change.op]
    if sign == "~":
        return Row(sign, label, _from_to(change.before, change.after, max(room, 36)))
    row = row_of(label, change.after if sign == "+" else change.before, max(room, 24), sign=sign)
    kind: Kind = "add" if sign == "+" else "del"
    row.value, row.preview = _toned(row.value, kind), _toned(row.preview, kind)
    return row


def _fold(row: Row, change: Change, budget: Budget) -> None:
    """Put the part of the value that a row leaves out into its fold."""
    value = change.before if row.sign == "-" else change.after
    if row.preview:
        grow(row, value, budget)
    elif isinstance(value, str):
        unfold(row, value, budget)


def _folds(row: Row) -> bool:
    return bool(row.preview) or "…" in plain(row.value)


def _from_to(before: object, after: object, room: int) -> Line:
    """Show both values; two long strings that start alike are shown from where they differ."""
    half = (room - 3) // 2
    if isinstance(before, str) and isinstance(after, str) and max(len(before), len(after)) + 2 > half:
        start = max(0, _shared(before, after) - _SHARED_CHARACTERS)
        old, new = _from(before, start, half), _from(after, start, half)
    else:
        old, new = _brief(before, half), _brief(after, half)
    return (*_toned(old, "del"), Span(" → "), *_toned(new, "add"))


def _shared(before: str, after: str) -> int:
    """Count the characters that two strings share at the start."""
    # By halving slices: a loop over 1 MB is slow.
    low, high = 0, min(len(before), len(after))
    while low < high:
        middle = (low + high + 1) // 2
        if before[low:middle] == after[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _from(text: str, start: int, room: int) -> Line:
    if not start:
        return (Span(quote(text, room), "str"),)
    return (Span('"…' + quote(text[start : start + room], room - 1)[1:], "str"),)


def _brief(value: object, room: int) -> Line:
    whole = fits(value, room)
    if whole is not None:
        return whole
    return summary(value, room) if is_container(value) else (Span(quote(str(value), room), "str"),)


def _toned(line: Line, kind: Kind) -> Line:
    return (Span(plain(line), kind),) if line else ()
