"""The difference between two states: one signed row a change, or all of it in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from happen_nb._display._protocols import Change
from happen_nb._display.inline import fits, is_container, summary
from happen_nb._display.spans import Kind, Line, Span, columns, cut_middle, plain, quote
from happen_nb._display.tree import WIDTH, Budget, Row, Sign, grow, row_of, unfold
from happen_nb._model.paths import format_path

ROWS = 30
"""How many changes of a commit are shown."""

PATH = 44
"""How many columns a path takes."""

_SIGNS: Final[dict[str, Sign]] = {"add": "+", "remove": "-", "change": "~"}
_SHARED = 8  # characters of what two long strings share that are shown before their difference


def changes(diff: Sequence[Change], budget: Budget, *, limit: int = ROWS) -> Row:
    """The rows of a difference, below a root that is open.

    Parameters
    ----------
    diff : sequence of Change
    budget : Budget
        What the page may still take.
    limit : int
        How many changes are shown.
    """
    root = Row(open=True, pad=PATH)
    first = list(islice(diff, limit))
    labels = [_path(change, PATH) for change in first]
    room = WIDTH - 4 - min(PATH, max(map(columns, labels), default=0))
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
    """A difference in one line, and whether that is all of it.

    The one change with its values, several by their paths only.
    """
    if len(diff) == 1:
        label = _path(diff[0], room // 2)
        row = _row(diff[0], label, room - columns(label) - 4)
        return (*_signed(row.sign, row.label), Span("  "), *(row.preview or row.value)), not _folds(row)
    return _paths(diff, room), False


def _paths(diff: Sequence[Change], room: int) -> Line:
    out: list[Span] = []
    for index, change in enumerate(diff):
        piece = _signed(_sign(change), _path(change, 32))
        room -= len(plain(piece)) + 2
        if room < 0 and index:
            return (*out, Span(f", … {len(diff) - index:,} more"))
        out += (Span(", "), *piece) if index else piece
    return tuple(out)


def _signed(sign: Sign, label: str) -> Line:
    return Span(f"{sign} ", sign), Span(label, "key")


def _sign(change: Change) -> Sign:
    return _SIGNS[change.op]


def _path(change: Change, room: int) -> str:
    return cut_middle(format_path(change.path), room)


def _row(change: Change, label: str, room: int) -> Row:
    sign = _sign(change)
    if sign == "~":
        return Row(sign, label, _from_to(change.before, change.after, max(room, 36)))
    row = row_of(label, change.after if sign == "+" else change.before, max(room, 24), sign=sign)
    kind: Kind = "add" if sign == "+" else "del"
    row.value, row.preview = _toned(row.value, kind), _toned(row.preview, kind)
    return row


def _fold(row: Row, change: Change, budget: Budget) -> None:
    """Put what a row leaves out into its fold."""
    value = change.before if row.sign == "-" else change.after
    if row.preview:
        grow(row, value, budget)
    elif isinstance(value, str):
        unfold(row, value, budget)


def _folds(row: Row) -> bool:
    return bool(row.preview) or "…" in plain(row.value)


def _from_to(before: object, after: object, room: int) -> Line:
    half = (room - 3) // 2
    old, new = _pair(before, after, half)
    return (*_toned(old, "del"), Span(" → "), *_toned(new, "add"))


def _pair(before: object, after: object, room: int) -> tuple[Line, Line]:
    """Both values; of two long strings that begin alike, from where they differ."""
    if isinstance(before, str) and isinstance(after, str) and max(len(before), len(after)) + 2 > room:
        start = max(0, _shared(before, after) - _SHARED)
        return _from(before, start, room), _from(after, start, room)
    return _brief(before, room), _brief(after, room)


def _shared(before: str, after: str) -> int:
    """How many characters two strings begin with alike; the slices halve, as a loop over 1 MB is slow."""
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
    """All of a line in one colour."""
    return (Span(plain(line), kind),) if line else ()
