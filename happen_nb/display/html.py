"""The displays as HTML: one ``<div class="happen">`` with its style, no script and no ids.

Without the style (where a front end removes it) lists, tables and folds still read well.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from html import escape
from importlib.resources import files
from typing import Final

from happen_nb.display import _protocols as shown
from happen_nb.display import failures as _failures
from happen_nb.display import pages
from happen_nb.display.page import Cell, Code, Column, Heading, Note, Page, Table
from happen_nb.display.spans import Kind, Line, Span, clean
from happen_nb.display.tree import Budget, Row

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
}


@cache
def style() -> str:
    """The stylesheet."""
    return files("happen_nb.display").joinpath("style.css").read_text(encoding="utf-8")


def render(page: Page) -> str:
    """A page as one HTML element that carries its style."""
    heading = _heading(page.heading) if page.heading else ""
    blocks = "".join(piece for block in page.blocks for piece in _block(block))
    return f'<div class="happen"><style>{style()}</style>{heading}{blocks}</div>'


def node(x: shown.Node) -> str:
    """A node: its name, revision and state."""
    return render(pages.node(x, Budget()))


def state(x: shown.State) -> str:
    """A node's state."""
    return render(pages.state(x, Budget()))


def view(x: shown.View) -> str:
    """A view of another node's state."""
    return render(pages.view(x, Budget()))


def views(x: shown.Views) -> str:
    """All views of a space: a line each."""
    return render(pages.views(x))


def commit(x: shown.Commit) -> str:
    """A commit: what it changed."""
    return render(pages.commit(x, Budget()))


def history(x: shown.History) -> str:
    """The commits of a node: the newest, a line each."""
    return render(pages.history(x, Budget()))


def journal(x: shown.Journal) -> str:
    """The commits of a space: the newest, a line each."""
    return render(pages.journal(x, Budget()))


def server(x: shown.Server) -> str:
    """A server: whether it runs, and whether it keeps anything."""
    return render(pages.server(x))


def space(x: shown.Space) -> str:
    """A space: its nodes, a line each."""
    return render(pages.space(x))


def failure(x: shown.Failure) -> str:
    """A failure: who raised what, and where."""
    return render(_failures.failure(x, Budget()))


def failures(x: shown.Sized[shown.Failure]) -> str:
    """The failures of a space: the newest, a line each."""
    return render(_failures.failures(x, Budget()))


def watch(x: shown.Watch) -> str:
    """A watch: what it follows, and whether it still does."""
    return render(pages.watch(x))


def spaces(x: shown.Sized[shown.SpaceInfo]) -> str:
    """The spaces of a server: a line each."""
    return render(pages.spaces(x))


def value(x: object) -> str:
    """A state or a part of one."""
    return render(pages.value(x, Budget()))


def _text(text: str) -> str:
    return escape(text, quote=False)


def _line(line: Line) -> str:
    return "".join(map(_span, line))


def _span(span: Span) -> str:
    if span.kind in ("time", "moment"):
        return _time(span)
    before, after = _TAGS[span.kind]
    return f"{before}{_text(span.text)}{after}"


def _time(span: Span) -> str:
    shown = span.text.replace("T", " ").replace("Z", " UTC" if span.kind == "moment" else "")
    return f'<time datetime="{span.text}">{shown}</time>'


def _heading(heading: Heading) -> str:
    name = f" <b>{_text(heading.name)}</b>" if heading.name else ""
    parts = "".join(f" · {_line(part)}" for part in heading.parts)
    return f'<div class="h"><span class="p">{_text(heading.kind)}</span>{name}{parts}</div>'


def _block(block: Row | Table | Note | Code) -> Iterator[str]:
    if isinstance(block, Row):
        return _tree(block)
    if isinstance(block, Table):
        return _table(block)
    return iter((_code(block) if isinstance(block, Code) else f"<div>{_line(block.line)}</div>",))


def _code(code: Code) -> str:
    return f"<pre>{_text(chr(10).join(code.lines))}</pre>"


def _tree(root: Row) -> Iterator[str]:
    if root.rows or root.hidden:
        yield from _below(root)
    else:
        yield f"<div>{_line(root.value)}</div>"


def _below(parent: Row) -> Iterator[str]:
    """The rows of a parent as a list; the width of its labels is the only inline style."""
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
    sign = f"{_span(Span(row.sign, row.sign))} " if row.sign else ""
    label = f"{sign}<b>{_text(row.label)}</b> "
    if row.rows:
        yield f"<li><details{' open' if row.open else ''}><summary>{label}{_folded(row)}</summary>"
        yield from _below(row)
        yield "</details></li>"
    elif row.text:
        yield f"<li><details><summary>{label}{_line(row.value)}</summary><pre>{_text(_lines(row.text))}</pre>"
        yield "</details></li>"
    else:
        yield f"<li>{label}{_line(row.preview or row.value)}</li>"


def _folded(row: Row) -> str:
    """What stands beside a fold's label: how much is in it, and a preview that goes when it is opened."""
    if row.open:
        return _line(row.value)
    return f'<span class="v">{_line(row.preview)}</span> <span class="c">{_line(row.value)}</span>'


def _lines(text: str) -> str:
    return "\n".join(map(clean, text.splitlines()))


def _table(table: Table) -> Iterator[str]:
    more = f'<tr><td colspan="{len(table.columns)}">{_text(table.more)}</td></tr>' if table.more else ""
    heads = "".join(f'<th scope="col"{_side(column)}>{_text(column.title)}</th>' for column in table.columns)
    yield f"<table><thead><tr>{heads}</tr></thead><tbody>"
    yield more if table.more_first else ""
    for row in table.rows:
        cells = (_cell(cell, column) for cell, column in zip(row, table.columns, strict=True))
        yield f"<tr>{''.join(cells)}</tr>"
    yield "" if table.more_first else more
    yield "</tbody></table>"


def _side(column: Column) -> str:
    return ' class="r"' if column.right else ""


def _cell(cell: Cell, column: Column) -> str:
    content = _line(cell.line)
    if cell.detail is not None:
        detail = "".join(_block(cell.detail))
        content = f"<details><summary>{content}</summary>{detail}</details>"
    return f"<td{_side(column)}>{content}</td>"
