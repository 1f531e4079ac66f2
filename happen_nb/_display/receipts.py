"""How a receipt is shown: one line below a cell that unfolds to what the cell caused."""

from __future__ import annotations

from typing import Final

from happen_nb._display import _protocols as shown
from happen_nb._display.page import Note, Page
from happen_nb._display.spans import Line, Span, count, name, one_line
from happen_nb._display.traces import SHOWN, outline
from happen_nb._display.tree import Budget

_IN_TEXT: Final = 20  # lines of what followed
_ROOM: Final = 200  # columns of what still runs


def receipt(x: shown.Receipt, budget: Budget) -> Page:
    """How much a cell caused; what, is folded."""
    line = _line(x)
    if not x.trees:
        return Page(None, (Note(line),))
    return Page(None, (outline(line, x.trees, budget, limit=SHOWN if budget.folds else _IN_TEXT),))


def _line(x: shown.Receipt) -> Line:
    parts: list[Span] = [Span(count(x.events, "event"), "plain")] if x.events else []
    parts += [Span(count(x.commits, "commit"), "plain")] if x.commits else []
    parts += [Span(count(x.failures, "failure"), "err")] if x.failures else []
    parts += [Span(_unhandled(x), "plain" if x.nearest is None else "err")] if x.unhandled else []
    parts += [Span(f"{x.repeated:,} stored before", "plain")] if x.repeated else []
    parts += [Span(f"{count(x.replaced, 'registration')} replaced", "plain")] if x.replaced else []
    parts += [Span(one_line(x.note, _ROOM))] if x.note else []
    return tuple(span for each in parts for span in (Span(", "), each))[1:]


def _unhandled(x: shown.Receipt) -> str:
    """How many were handled by nobody; with the pattern that one of them has missed by a typo."""
    near = "" if x.nearest is None else f" (nearly matches {name(x.nearest)})"
    return f"{x.unhandled:,} unhandled{near}"
