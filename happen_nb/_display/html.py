"""Pages as HTML: one ``<div class="happen">`` with its style, without scripts and ids.

Lists, tables and folds still read well where a front end removes the style.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from html import escape
from importlib.resources import files
from typing import Final

from happen_nb._display import text as plain_text
from happen_nb._display.page import Block, Cell, Code, Column, Drawing, Heading, Outline, Page, Table
from happen_nb._display.spans import TIMES, Kind, Line, Span, clean, columns, plain, time_text
from happen_nb._display.values import Row

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
_CLASSES: Final = "happen mathjax_ignore tex2jax_ignore"  # a text between dollars is not a formula
_SCROLLED: Final = 'tabindex="0" data-lm-suppress-shortcuts="true"'
"""Arrow keys scroll an element that has the focus; without it JupyterLab keeps them for its cells."""
_SIGNS: Final = frozenset("+-~")
_BESIDE = "\N{NO-BREAK SPACE}"  # in the sign's element: a browser may break a line after a bare "-"
_LONG = 36  # columns from which on a cell may wrap; its minimum width in the stylesheet


@cache
def style() -> str:
    """Return the stylesheet."""
    return files("happen_nb._display").joinpath("style.css").read_text(encoding="utf-8")


def render(page: Page) -> str:
    """Return a page as one HTML element that contains its style."""
    heading = _heading(page.heading) if page.heading else ""
    blocks = "".join(piece for block in page.blocks for piece in _block(block))
    return f'<div class="{_CLASSES}">{_styled()}{heading}{blocks}</div>'


def bare(markup: str) -> str:
    """Return rendered HTML without the style, for a place that has it already."""
    return markup.replace(_styled(), "")


def bundle(page: Page) -> dict[str, str]:
    """Return a page as text and HTML, by their mime types."""
    return {"text/plain": plain_text.render(page), "text/html": render(page)}


def _styled() -> str:
    return f"<style>{style()}</style>"


def _text(text: str) -> str:
    return escape(text, quote=False)


def _line(line: Line) -> str:
    return "".join(map(_span, line))


def _span(span: Span) -> str:
    if span.kind in TIMES:
        return _time(span)
    before, after = _TAGS[span.kind]
    text = span.text.replace(" ", _BESIDE) if span.kind in _SIGNS else span.text
    return f"{before}{_text(text)}{after}"


def _time(span: Span) -> str:
    before = " " if span.kind == "duration" else ""
    return f'{before}<time datetime="{escape(span.text)}">{_text(time_text(span))}</time>'


def _heading(heading: Heading) -> str:
    name = f" <b>{_text(heading.name)}</b>" if heading.name else ""
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
        return iter((f'<div class="d">{block.svg}</div>',))
    return iter((_pre(block.lines) if isinstance(block, Code) else f"<div>{_line(block.line)}</div>",))


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
    label = f"{sign}<b>{_text(row.label)}</b> "
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
    yield f"<table {_SCROLLED}><thead><tr>{heads}</tr></thead><tbody>"
    yield more if table.more_first else ""
    for row in table.rows:
        cells = (_cell(cell, column) for cell, column in zip(row, table.columns, strict=True))
        yield f"<tr>{''.join(cells)}</tr>"
    yield "" if table.more_first else more
    yield "</tbody></table>"


def _outline(outline: Outline) -> Iterator[str]:
    # Nested lists, without recursion.
    steps, folded = outline.steps, outline.folded
    drawing = f'<div class="d">{outline.drawing.svg}</div>' if outline.drawing is not None else ""
    yield "<ul>"
    depths = [step.depth for step in steps[1:]]
    for step, following in zip(steps, [*depths, 0], strict=True):
        line, detail = _line(step.line), "".join(_block(step.detail)) if step.detail else ""
        if following > step.depth:
            yield f"<li><details{'' if folded else ' open'}><summary>{line}</summary>{drawing}{detail}<ul>"
            folded, drawing = False, ""
        elif detail:
            yield f"<li><details><summary>{line}</summary>{detail}</details></li>"
        else:
            yield f"<li>{line}</li>"
        yield "</ul></details></li>" * (step.depth - following)
    yield "</ul>"


def _cell(cell: Cell, column: Column) -> str:
    content = _line(cell.line)
    long = cell.detail is not None or columns(plain(cell.line)) > _LONG
    side = ' class="r"' if column.right else ' class="l"' if long else ""
    if cell.detail is not None:
        detail = "".join(_block(cell.detail))
        content = f"<details><summary>{content}</summary>{detail}</details>"
    return f"<td{side}>{content}</td>"
