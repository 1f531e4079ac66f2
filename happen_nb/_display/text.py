"""Pages as plain text, for ``repr`` and terminals; and the text of the user's own objects.

Times are left out of pages, unless they are always visible. The ``__str__`` of a user's object may raise,
never return, or return far too much.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator
from textwrap import wrap
from typing import Final, cast

from happen_nb._display.page import Block, Code, Column, Drawing, Heading, Outline, Page, Table
from happen_nb._display.spans import TIMES, Line, columns, plain, time_text
from happen_nb._display.values import WIDTH, Row
from happen_nb._model.quoting import error_summary, unavailable


def render(page: Page) -> str:
    """Return a page as lines of text, without a newline at the end."""
    lines = [_heading(page.heading)] if page.heading else []
    indent = "  " if page.heading else ""
    for block in page.blocks:
        lines += (indent + line for line in _block(block))
    return "\n".join(lines)


def _heading(heading: Heading) -> str:
    title = f"{heading.kind} {heading.name}".rstrip()
    return " · ".join([title, *(text for text in map(_line, heading.parts) if text)])


def _line(line: Line) -> str:
    return "".join(
        time_text(span) if span.kind == "visible" else span.text
        for span in line
        if span.kind == "visible" or span.kind not in TIMES
    )


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Row):
        return _tree(block)
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Outline):
        return (f"{'  ' * step.depth}{_line(step.line)}" for step in block.steps)
    return iter(block.lines if isinstance(block, Code | Drawing) else wrap(_line(block.line), WIDTH))


def _tree(root: Row) -> Iterator[str]:
    if root.rows or root.hidden:
        yield from _below(root, "")
    else:
        yield plain(root.value)


def _below(parent: Row, indent: str) -> Iterator[str]:
    width = parent.width
    for row in parent.rows:
        sign = f"{row.sign} " if row.sign else ""
        shown = row.value if row.open or not row.preview else row.preview
        yield f"{indent}{sign}{_pad(row.label, width)}  {plain(shown)}"
        if row.open:
            yield from _below(row, indent + "  ")
    hidden = parent.hidden + len(parent.rest)
    if hidden:
        yield f"{indent}… {hidden:,} more"


def _table(table: Table) -> Iterator[str]:
    kept = [index for index, column in enumerate(table.columns) if not column.time]
    heads = [table.columns[index] for index in kept]
    cells = [[column.title for column in heads]]
    cells += ([_line(row[index].line) for index in kept] for row in table.rows)
    widths = [max(columns(row[index]) for row in cells) for index in range(len(heads))]
    lines = [_columns(row, heads, widths) for row in cells]
    yield lines[0]
    if table.more and table.more_first:
        yield table.more
    yield from lines[1:]
    if table.more and not table.more_first:
        yield table.more


def _columns(cells: list[str], heads: list[Column], widths: list[int]) -> str:
    padded = map(_pad, cells, widths, [">" if head.right else "<" for head in heads])
    return "  ".join(padded).rstrip()


def _pad(text: str, width: int, side: str = "<") -> str:
    space = " " * (width - columns(text))
    return space + text if side == ">" else text + space


# -- the user's own objects ----------------------------------------------------------------------------


TEXT_TIMEOUT_SECONDS: Final = 1.0
"""Time that a display waits for a method of the user."""
MAX_CHARACTERS: Final = 20_000
"""Characters of a text that are kept."""
MAX_STUCK_THREADS: Final = 8
"""Calls that may still be running after their time; with so many, no other method is called."""

_SIMPLE = (str, int, float, bool, type(None))

_stuck: list[threading.Thread] = []
_lock = threading.Lock()


def bounded_text(value: object, form: Callable[[object], str] = str, *, what: str = "text") -> str:
    """Return the text of an object, cut to `MAX_CHARACTERS`; or why it cannot be shown.

    Parameters
    ----------
    value : object
    form : callable, optional
        ``str`` or ``repr``.
    what : str, optional
        How to name the text where it cannot be shown.

    Examples
    --------
    >>> bounded_text(ValueError("no box is large enough"))
    'no box is large enough'
    """
    try:
        text = form(value) if _is_simple(value) else _in_time(value, form)
    except TimeoutError as error:
        return unavailable(what, str(error))
    except BaseException as error:  # anything may be raised, and the rest can still be shown
        return unavailable(what, type(error).__name__)
    return text if len(text) <= MAX_CHARACTERS else f"{text[:MAX_CHARACTERS]}…"


def describe_error(exception: BaseException | str) -> str:
    """Return the class of an exception and its message; a text as it is."""
    if issubclass(type(exception), str):  # isinstance() reads __class__, which may raise
        return str(exception)
    return error_summary(cast("BaseException", exception), text=bounded_text(exception, what="message"))


def _is_simple(value: object) -> bool:
    """Return True if only Python's own code makes its text."""
    if isinstance(value, BaseException):
        return type(value).__module__ == "builtins" and all(type(each) in _SIMPLE for each in value.args)
    return type(value) in _SIMPLE


def _in_time(value: object, form: Callable[[object], str]) -> str:
    """Call `form` in a thread of its own, and abandon the thread if it does not return in time.

    Raises
    ------
    TimeoutError
        It is still running.
    """
    made: list[str | BaseException] = []

    def call() -> None:
        try:
            made.append("".join([form(value)]))  # a subclass of str has methods of its own
        except BaseException as error:
            made.append(error)

    with _lock:
        _stuck[:] = [thread for thread in _stuck if thread.is_alive()]
        if len(_stuck) >= MAX_STUCK_THREADS:
            raise TimeoutError("too many others have not been returned yet")
    run = contextvars.copy_context().run
    thread = threading.Thread(target=run, args=(call,), name="happen_nb-text", daemon=True)
    thread.start()
    thread.join(TEXT_TIMEOUT_SECONDS)
    if not made:
        with _lock:
            _stuck.append(thread)
        raise TimeoutError(f"not returned within {TEXT_TIMEOUT_SECONDS:g} s")
    (outcome,) = made
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome
