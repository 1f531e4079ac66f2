"""A page that describes an object: a heading over rows, tables, notes and code; as text and as HTML.

Text is for ``repr`` and terminals. Times are left out of it, unless they are always visible. HTML is one
``<div class="happen">`` with its style, without scripts and ids: lists, tables and folds still read well
where a front end removes the style.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from datetime import datetime
from functools import cache
from html import escape
from itertools import islice
from textwrap import wrap
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from happen_nb._display import (
    TIMES,
    Kind,
    Line,
    Span,
    bar_text,
    clean,
    columns,
    name,
    part,
    plain,
    resource,
    time_text,
)
from happen_nb._display.plots import WIDE, Drawing
from happen_nb._display.values import WIDTH, Row

MAX_NEWEST: Final = 20  # newest items that a table shows
_Item = TypeVar("_Item")


class Heading(NamedTuple):
    """The first line, ``Node orders · revision 3``: kind, name, further parts."""

    kind: str
    name: str | Span = ""
    parts: tuple[Line, ...] = ()


class Column(NamedTuple):
    """A column of a table; text leaves out columns of times.

    A narrow page leaves out the day of times if it is the same in all rows, but not with ``dated``.
    """

    title: str
    right: bool = False
    time: bool = False
    dated: bool = False


TIME: Final = Column("time (UTC)", time=True)


class Code(NamedTuple):
    """Lines that keep their white space, already cleaned; below a cell or a heading."""

    lines: tuple[str, ...]


class Cell(NamedTuple):
    """A cell of a table; HTML folds ``detail`` below its line."""

    line: Line = ()
    detail: Row | Code | None = None


class Table(NamedTuple):
    """Rows of cells; ``more`` counts the rows left out, before the others or after them."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    more: str = ""
    more_first: bool = False


class OutlineStep(NamedTuple):
    """A line of an outline; ``depth`` is at most one more than that of the step before it."""

    depth: int
    line: Line
    detail: Row | None = None


class Outline(NamedTuple):
    """Indented lines; HTML folds those below a line, and its detail.

    With ``folded`` the first line starts closed. HTML shows the ``drawing`` below the first line.
    """

    steps: tuple[OutlineStep, ...]
    folded: bool = False
    drawing: Drawing | None = None


class Note(NamedTuple):
    """A single line."""

    line: Line


class Fold(NamedTuple):
    """A line with blocks below it, which HTML folds."""

    line: Line
    blocks: tuple[Block, ...]


Block: TypeAlias = "Row | Table | Outline | Note | Code | Drawing | Fold"


class Page(NamedTuple):
    """A whole display."""

    heading: Heading | None
    blocks: Sequence[Block] = ()


def stored_time(item: Any) -> datetime | None:
    """Return when an event or a commit was stored, by the clock of its space if that is known."""
    found: datetime | None = item._stored
    return found


def heading_name(heading: Heading) -> Span:
    """Return the name in a heading as a piece of a line."""
    name = heading.name
    return name._replace(kind="key") if isinstance(name, Span) else Span(name, "key")


def name_cell(text: str | None) -> Cell:
    return Cell(() if text is None else part(name(text), "plain"))


def number_cell(number: int, kind: Kind = "plain") -> Cell:
    """Return a cell with a number, if it is not 0."""
    return Cell(part(f"{number:,}", kind) if number else ())


def titles(*named: str | Column) -> tuple[Column, ...]:
    """Return columns, most of which have a title only."""
    return tuple(Column(each) if isinstance(each, str) else each for each in named)


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


def first(
    items: Collection[_Item],
    columns: Sequence[Column],
    row: Callable[[_Item], tuple[Cell, ...]],
    limit: int = MAX_NEWEST,
    *,
    rest: str = "more",
    total: int | None = None,
) -> Table:
    """Build a table of the first items, with the number of the rest, of `total` if not all are here."""
    rows = [row(item) for item in islice(items, limit)]
    left = (len(items) if total is None else total) - len(rows)
    return table(columns, rows, f"… {left:,} {rest}" if left else "")


# -- text ------------------------------------------------------------------------------------------------


def render_text(page: Page) -> str:
    """Return a page as lines of text, without a newline at the end."""
    lines = [_text_heading(page.heading)] if page.heading else []
    indent = "  " if page.heading else ""
    for block in page.blocks:
        lines += (indent + line for line in _text_block(block))
    return "\n".join(lines)


def _text_heading(heading: Heading) -> str:
    title = f"{heading.kind} {heading_name(heading).text}".rstrip()
    return " · ".join([title, *(text for text in map(_text_line, heading.parts) if text)])


def _text_line(line: Line) -> str:
    return "".join(map(_text_span, line))


def _text_span(span: Span) -> str:
    if span.kind == "bar":
        return bar_text(float(span.text))
    if span.kind == "visible":
        return time_text(span)
    return "" if span.kind in TIMES else span.text


def _text_block(block: Block) -> Iterator[str]:
    if isinstance(block, Row):
        return _text_tree(block)
    if isinstance(block, Table):
        return _text_table(block)
    if isinstance(block, Outline):
        return (f"{'  ' * step.depth}{_text_line(step.line)}" for step in block.steps)
    if isinstance(block, Fold):
        return _text_fold(block)
    return iter(block.lines if isinstance(block, Code | Drawing) else wrap(_text_line(block.line), WIDTH))


def _text_fold(fold: Fold) -> Iterator[str]:
    yield _text_line(fold.line)
    for block in fold.blocks:
        yield from (f"  {line}" for line in _text_block(block))


def _text_tree(root: Row) -> Iterator[str]:
    if root.rows or root.hidden:
        yield from _text_below(root, "")
    else:
        yield plain(root.value)


def _text_below(parent: Row, indent: str) -> Iterator[str]:
    width = parent.width
    for row in parent.rows:
        sign = f"{row.sign} " if row.sign else ""
        shown = row.value if row.open or not row.preview else row.preview
        yield f"{indent}{sign}{_text_pad(row.label, width)}  {plain(shown)}"
        if row.open:
            yield from _text_below(row, indent + "  ")
    hidden = parent.hidden + len(parent.rest)
    if hidden:
        yield f"{indent}… {hidden:,} more"


def _text_table(table: Table) -> Iterator[str]:
    kept = [index for index, column in enumerate(table.columns) if not column.time]
    cells = [[table.columns[index].title for index in kept]]
    cells += ([_text_line(row[index].line) for index in kept] for row in table.rows)
    widths = [max(columns(row[at]) for row in cells) for at in range(len(kept))]
    sides = [">" if table.columns[index].right else "<" for index in kept]
    lines = ["  ".join(map(_text_pad, row, widths, sides)).rstrip() for row in cells]
    if table.more:
        lines.insert(1 if table.more_first else len(lines), table.more)
    return iter(lines)


def _text_pad(text: str, width: int, side: str = "<") -> str:
    space = " " * (width - columns(text))
    return space + text if side == ">" else text + space


# -- HTML ----------------------------------------------------------------------------------------------


_TAGS: Final[dict[Kind, tuple[str, str]]] = {
    "": ("", ""),
    "key": ("<b>", "</b>"),
    "str": ('<span class="s">', "</span>"),
    "num": ('<span class="n">', "</span>"),
    "atom": ('<span class="a">', "</span>"),
    "plain": ('<span class="p">', "</span>"),
    "name": ('<span class="p">', "</span>"),
    "err": ('<span class="e">', "</span>"),
    "add": ("<ins>", "</ins>"),
    "del": ("<del>", "</del>"),
    "+": ('<i class="x">', "</i>"),
    "-": ('<i class="y">', "</i>"),
    "~": ('<i class="z">', "</i>"),
    "bar": ("", ""),
}
_CLASSES: Final = "happen mathjax_ignore tex2jax_ignore"  # a text between dollars is not a formula
_SCROLLED: Final = 'tabindex="0" data-lm-suppress-shortcuts="true"'
"""Arrow keys scroll an element that has the focus; without it JupyterLab keeps them for its cells."""
_SIGNS: Final = frozenset("+-~")
_BESIDE = "\N{NO-BREAK SPACE}"  # in the sign's element: a browser may break a line after a bare "-"
_BY_WIDTH: Final = (
    "<style>.happen .d { container-type: inline-size; } .happen .d > :last-child { display: none; } "
    f"@container (min-width: {WIDE}px) "
    "{ .happen .d > div { display: none; } .happen .d > :last-child { display: block; } }</style>"
)
_LONG = 12  # columns from which on a cell may wrap; its minimum width in the stylesheet
_WHOLE_KEY: Final = 16  # columns up to which a path in such a cell does not wrap
_WRAP_AFTER: Final = re.compile(r"(?<=\w)([._/])(?=\w)")  # in names, whose parts stay whole where they can


@cache
def style() -> str:
    """Colours come from JupyterLab, else from VS Code, else from here, each as light-dark(light, dark)."""
    return " ".join(resource("_display/style.css").split())  # each output has it


def render_html(page: Page) -> str:
    """Return a page as one HTML element that contains its style."""
    titled = any(isinstance(block, Drawing) and block.titled for block in page.blocks)
    heading = _heading(page.heading) if page.heading and not titled else ""
    blocks = "".join(piece for block in page.blocks for piece in _block(block))
    return f'<div class="{_CLASSES}">{_styled()}{heading}{blocks}</div>'


def bare_html(markup: str) -> str:
    """Return rendered HTML without the style, for a place that has it already."""
    return markup.replace(_styled(), "")


def mime_bundle(page: Page) -> dict[str, str]:
    return {"text/plain": render_text(page), "text/html": render_html(page)}


def _styled() -> str:
    return f"<style>{style()}</style>"


def _text(text: str) -> str:
    return escape(text, quote=False)


def _line(line: Line, *, wraps: bool = False) -> str:
    return "".join(_span(span, wraps=wraps) for span in line)


def _span(span: Span, *, wraps: bool = False) -> str:
    if span.kind in TIMES:
        return _time(span)
    if span.kind == "bar":  # its content is for a page without the element
        bar = bar_text(float(span.text))
        return f'<progress value="{span.text}" max="1" title="progress">{bar}</progress>'
    before, after = _TAGS[span.kind]
    text = _text(span.text.replace(" ", _BESIDE) if span.kind in _SIGNS else span.text)
    if span.whole:
        before = f'{before[:-1]} title="{escape(span.whole)}">'
    elif wraps and span.kind == "key" and columns(span.text) <= _WHOLE_KEY:
        before = '<b class="k">'
    text = _WRAP_AFTER.sub(r"\1<wbr>", text) if wraps and span.kind != "num" else text
    return f"{before}{text}{after}"


def _time(span: Span) -> str:
    before = " " if span.kind == "duration" else ""
    text = _text(time_text(span))
    if span.kind == "time":
        day, _, rest = text.partition(" ")
        text = f"<span>{day} </span>{rest}"
    title = f' title="{escape(span.whole)}"' if span.whole else ""
    return f'{before}<time datetime="{escape(span.text)}"{title}>{text}</time>'


def _heading(heading: Heading) -> str:
    name = f" {_span(heading_name(heading))}" if heading.name else ""
    parts = "".join(f" · {text}" for text in map(_line, heading.parts) if text)
    return f'<div class="h"><span class="p">{_text(heading.kind)}</span>{name}{parts}</div>'


def _block(block: Block) -> Iterator[str]:
    if isinstance(block, Row):
        return _tree(block)
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Outline):
        return _outline(block)
    if isinstance(block, Drawing):
        return iter((_drawing(block),))
    if isinstance(block, Fold):
        return _fold(block)
    return iter((_pre(block.lines) if isinstance(block, Code) else f"<div>{_line(block.line)}</div>",))


def _fold(fold: Fold) -> Iterator[str]:
    yield f"<ul><li><details><summary>{_line(fold.line)}</summary>"
    for block in fold.blocks:
        yield from _block(block)
    yield "</details></li></ul>"


def _pre(lines: Iterable[str]) -> str:
    text = "\n".join(lines)
    return f"<pre {_SCROLLED}>{_text(text)}</pre>"


def _tree(root: Row) -> Iterator[str]:
    if root.rows or root.hidden:
        yield from _below(root)
    else:
        yield f"<div>{_line(root.value)}</div>"


def _below(parent: Row) -> Iterator[str]:
    # The width of the labels is the only inline style.
    yield f'<ul style="--w:{parent.width}ch">'
    for row in parent.rows:
        yield from _row(row)
    hidden = parent.hidden + len(parent.rest)
    if parent.rest:
        yield f'<li class="m"><details><summary>… {hidden:,} more</summary>'
        yield from _below(Row(rows=parent.rest, hidden=parent.hidden))
        yield "</details></li>"
    elif hidden:
        yield f"<li>… {hidden:,} more</li>"
    yield "</ul>"


def _row(row: Row) -> Iterator[str]:
    sign = _span(Span(f"{row.sign} ", row.sign)) if row.sign else ""
    fresh = ' class="f"' if row.fresh else ""  # a widget marks it
    label = f"{sign}<b{fresh}>{_text(row.label)}</b> "
    if row.rows:
        yield f"<li><details{' open' if row.open else ''}><summary>{label}{_folded(row)}</summary>"
        yield from _below(row)
        yield "</details></li>"
    elif row.text:
        text = _pre(map(clean, row.text.splitlines()))
        yield f"<li><details><summary>{label}{_line(row.value)}</summary>{text}</details></li>"
    else:
        yield f"<li>{label}{_line(row.preview or row.value)}</li>"


def _folded(row: Row) -> str:
    # Beside the label of a fold: a preview, which the stylesheet hides when it is opened, and the size.
    if row.open:
        return _line(row.value)
    return f'<span class="v">{_line(row.preview)}</span> <span class="c">{_line(row.value)}</span>'


def _table(table: Table) -> Iterator[str]:
    more = f'<tr><td colspan="{len(table.columns)}">{_text(table.more)}</td></tr>' if table.more else ""
    sides = [' class="r"' if column.right else "" for column in table.columns]
    titles = [_text(column.title) for column in table.columns]
    heads = "".join(f'<th scope="col"{side}>{title}</th>' for side, title in zip(sides, titles, strict=True))
    yield f'<div class="{"w" if _has_days(table) else "w o"}">'
    yield f"<table {_SCROLLED}><thead><tr>{heads}</tr></thead><tbody>"
    yield more if table.more_first else ""
    for row in table.rows:
        cells = (_cell(cell, column) for cell, column in zip(row, table.columns, strict=True))
        yield f"<tr>{''.join(cells)}</tr>"
    yield "" if table.more_first else more
    yield "</tbody></table></div>"


def _has_days(table: Table) -> bool:
    """Return True if a narrow page shows the days, too: in most tables, if they differ."""
    if any(column.dated for column in table.columns):
        return True
    times = (span.text for row in table.rows for cell in row for span in cell.line if span.kind == "time")
    return len({time[: len("2026-01-02")] for time in times}) > 1


def _drawing(drawing: Drawing) -> str:
    if not drawing.wide:
        return f"<div>{drawing.svg}</div>"
    return f'<div class="d">{_BY_WIDTH}<div>{drawing.svg}</div><div>{drawing.wide}</div></div>'


def _outline(outline: Outline) -> Iterator[str]:
    # Nested lists, without recursion.
    steps, folded = outline.steps, outline.folded
    drawn = "" if outline.drawing is None else _drawing(outline.drawing)
    yield "<ul>"
    depths = [step.depth for step in steps[1:]]
    for step, following in zip(steps, [*depths, 0], strict=True):
        line, detail = _line(step.line), "".join(_block(step.detail)) if step.detail else ""
        if following > step.depth:
            yield f"<li><details{'' if folded else ' open'}><summary>{line}</summary>{drawn}{detail}<ul>"
            folded, drawn = False, ""
        elif detail:
            yield f"<li><details><summary>{line}</summary>{detail}</details></li>"
        else:
            yield f"<li>{line}</li>"
        yield "</ul></details></li>" * (step.depth - following)
    yield "</ul>"


def _cell(cell: Cell, column: Column) -> str:
    wraps = cell.detail is not None or columns(plain(cell.line)) > _LONG
    side = ' class="r"' if column.right else ' class="l"' if wraps and not column.time else ""
    content = _line(cell.line, wraps=wraps)
    if cell.detail is not None:
        detail = "".join(_block(cell.detail))
        content = f"<details><summary>{content}</summary>{detail}</details>"
    return f"<td{side}>{content}</td>"
