"""How failures are shown: who raised what, and a traceback that tells no path of this machine."""

from __future__ import annotations

import re
from typing import Final

from happen_nb._display import _protocols as shown
from happen_nb._display.foreign import text_of
from happen_nb._display.page import Cell, Code, Column, Heading, Note, Page, part, table
from happen_nb._display.spans import Line, Span, count, cut, function, name, one_line, weight
from happen_nb._display.tree import Budget
from happen_nb._model.quoting import escape_surrogates

NEWEST = 10
"""How many of the newest failures are shown."""

ERRORS = 5
"""How many different errors of a retry are shown."""

_LINES = 24  # last lines of a traceback
_LINE = 160  # columns of one
_BRIEF = 60  # columns of an error in the table
_MESSAGE = 600
_FILE = re.compile(r'^(\s*)File "([^"]*)", line (\d+)')
_COLUMNS: Final = (
    Column("node"),
    Column("handler"),
    Column("event"),
    Column("attempts", right=True),
    Column("error"),
)


def failure(x: shown.Failure, budget: Budget) -> Page:
    """Who raised what, and where."""
    type = _type(x)
    handler: Line = (Span(function(x.handler), "plain"),)
    parts = (handler, *((type,) if type else ()), part(count(x.attempts, "attempt")))
    error = Note((Span(one_line(message(x.exception), _MESSAGE), "err"),))
    code = _traceback(x, budget)
    return Page(Heading("Failure in", name(x.node), parts), (error, code) if code else (error,))


def failures(x: shown.Sized[shown.Failure], budget: Budget) -> Page:
    """The newest failures; where they were raised is folded below each."""
    if not len(x):
        return Page(Heading("No failures"))
    older = max(0, len(x) - NEWEST)
    rows = [_row(x[index], budget) for index in range(older, len(x))]
    blocks = (table(_COLUMNS, rows, f"… {older:,} older" if older else "", more_first=True),)
    return Page(Heading(count(len(x), "failure")), blocks)


def retried(x: shown.Retried) -> Page:
    """How many succeeded and how many failed again, and with what."""
    if not (x.succeeded or x.failed or x.unhandled):
        return Page(Heading(f"No {x.what}s to retry"))
    counts = (
        ((Span(f"{x.succeeded:,} succeeded", "add"),) if x.succeeded else ()),
        ((Span(f"{x.failed:,} failed again", "err"),) if x.failed else ()),
        (part(f"{x.unhandled:,} without a handler") if x.unhandled else ()),
    )
    total = count(x.succeeded + x.failed + x.unhandled, x.what)
    left = max(0, len(x.errors) - ERRORS)
    lines = [Note((Span(one_line(text, _MESSAGE), "err"),)) for text in x.errors[:ERRORS]]
    more = [Note(part(f"… {count(left, 'other error')}"))] if left else []
    return Page(Heading("Retried", total, tuple(filter(None, counts))), (*lines, *more))


def message(exception: BaseException | str) -> str:
    """An exception as its kind and what it says, if it does so in time."""
    if issubclass(type(exception), str):  # what isinstance asks for may raise
        return str(exception)
    text, kind = escape_surrogates(text_of(exception, what="message")), type(exception).__name__
    return f"{kind}: {text}" if text else kind


def _row(x: shown.Failure, budget: Budget) -> tuple[Cell, ...]:
    return (
        Cell((Span(name(x.node), "name"),)),
        Cell((Span(function(x.handler), "plain"),)),
        Cell(_type(x)),
        Cell((Span(f"{x.attempts:,}", "plain"),)),
        Cell((Span(one_line(message(x.exception), _BRIEF), "err"),), _traceback(x, budget)),
    )


def _type(x: shown.Failure) -> Line:
    """The type of the event that was handled; nothing where it was a commit that was watched."""
    type = getattr(x.event, "type", None)
    return (Span(name(type), "plain"),) if isinstance(type, str) else ()


def _traceback(x: shown.Failure, budget: Budget) -> Code | None:
    """The last lines without the message, which is shown above; None if no room is left for them."""
    text, said = x.traceback[-_LINES * 1000 :].rstrip(), message(x.exception)
    if text.endswith(said):
        text = text[: -len(said)].rpartition("\n")[0]
    lines = text.expandtabs(4).splitlines()
    made = [cut(_FILE.sub(_place, line), _LINE) for line in lines[-_LINES:]]
    if not made or not budget.spend(weight(map(Span, made))):
        return None
    return Code(("…", *made) if len(lines) > _LINES else tuple(made))


def _place(match: re.Match[str]) -> str:
    indent, file, line = match.groups()
    if "ipykernel_" in file or file.startswith("<"):
        return f"{indent}In a cell, line {line}"
    base = re.split(r"[\\/]", file)[-1]
    return f'{indent}File "{base}", line {line}'
