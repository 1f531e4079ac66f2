"""Pages as plain text, for ``repr`` and terminals. Times are left out, unless they are always visible."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import wrap

from happen_nb._display.page import Block, Code, Column, Heading, Outline, Page, Table
from happen_nb._display.spans import TIMES, Line, columns, plain, time_text
from happen_nb._display.value_tree import WIDTH, Row


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
    return iter(block.lines if isinstance(block, Code) else wrap(_line(block.line), WIDTH))


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
