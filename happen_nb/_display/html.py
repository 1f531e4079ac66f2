"""The displays as HTML: one ``<div class="happen">`` with its style, no script and no ids.

Without the style (where a front end removes it) lists, tables and folds still read well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import Final

from happen_nb._display import _protocols as shown
from happen_nb._display import events as _events
from happen_nb._display import failures as _failures
from happen_nb._display import pages
from happen_nb._display import receipts as _receipts
from happen_nb._display import replies as _replies
from happen_nb._display import traces as _traces
from happen_nb._display import verdicts as _verdicts
from happen_nb._display.page import Block, Cell, Code, Column, Heading, Outline, Page, Step, Table
from happen_nb._display.spans import TIMES, Kind, Line, Span, clean, columns, plain, spoken
from happen_nb._display.tree import Budget, Row

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
_CLASSES: Final = "happen mathjax_ignore tex2jax_ignore"  # a text between dollars is no formula
_SCROLLED: Final = 'tabindex="0" data-lm-suppress-shortcuts="true"'
"""Keys scroll what is too large for its place; elsewhere JupyterLab keeps the arrow keys for its cells."""
_SIGNS: Final = frozenset("+-~")
_BESIDE = "\N{NO-BREAK SPACE}"  # in the sign's element: a line may be broken after a bare "-"
_LONG = 36  # columns from which on a cell may be broken into lines; what the style gives it at least


@cache
def style() -> str:
    """The stylesheet."""
    return files("happen_nb._display").joinpath("style.css").read_text(encoding="utf-8")


def render(page: Page) -> str:
    """A page as one HTML element that carries its style."""
    heading = _heading(page.heading) if page.heading else ""
    blocks = "".join(piece for block in page.blocks for piece in _block(block))
    return f'<div class="{_CLASSES}">{_styled()}{heading}{blocks}</div>'


def bare(markup: str) -> str:
    """The same without the style, for a place that has it already."""
    return markup.replace(_styled(), "")


def _styled() -> str:
    return f"<style>{style()}</style>"


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
    """The commits and events of a space: the newest, a line each."""
    return render(pages.journal(x, Budget()))


def server(x: shown.Server) -> str:
    """A server: whether it runs, and whether it keeps anything."""
    return render(pages.server(x))


def space(x: shown.Space) -> str:
    """A space: its nodes, a line each."""
    return render(pages.space(x))


def nodes(x: shown.Nodes) -> str:
    """The nodes of this process: a line each."""
    return render(pages.nodes(x))


def moment(x: shown.Moment) -> str:
    """The states of all nodes at one moment: a line each."""
    return render(pages.moment(x))


def failure(x: shown.Failure) -> str:
    """A failure: who raised what, and where."""
    return render(_failures.failure(x, Budget()))


def failures(x: shown.Sized[shown.Failure]) -> str:
    """The failures of a space: the newest, a line each."""
    return render(_failures.failures(x, Budget()))


def retried(x: shown.Retried) -> str:
    """What a retry came to."""
    return render(_failures.retried(x))


def watch(x: shown.Watch) -> str:
    """A watch: what it follows, and whether it still does."""
    return render(pages.watch(x))


def spaces(x: shown.Sized[shown.SpaceInfo]) -> str:
    """The spaces of a server: a line each."""
    return render(pages.spaces(x))


def event(x: shown.Event) -> str:
    """An event: who said what to whom."""
    return render(_events.event(x, Budget()))


def events(x: shown.Events) -> str:
    """Stored events: the newest, a line each."""
    return render(_events.events(x, Budget()))


def trace(x: shown.Trace) -> str:
    """What followed from an event: a tree of events and commits."""
    return render(_traces.trace(x, Budget()))


def receipt(x: shown.Receipt) -> str:
    """A receipt: what a cell caused."""
    return render(_receipts.receipt(x, Budget()))


def reply(x: shown.Reply) -> str:
    """A reply: how far it is, or what came out."""
    return render(_replies.reply(x, Budget()))


def replay(x: shown.Replay) -> str:
    """A replay: how far it is."""
    return render(_replies.replay(x))


def unhandled(x: shown.Sized[shown.Unhandled]) -> str:
    """Events that nobody took: the newest, a line each."""
    return render(_events.unhandled(x))


def unhandled_event(x: shown.Unhandled) -> str:
    """An event that nobody took: why, and what nearly would have."""
    return render(_events.unhandled_event(x, Budget()))


def handlers(x: shown.Handlers) -> str:
    """The handlers of a node: a line each."""
    return render(_events.handlers(x))


def registration(x: shown.Registration) -> str:
    """A handler: whose it is, and what it takes."""
    return render(_events.registration(x))


def verdict(x: shown.Verdict) -> str:
    """A verdict: whether a rule holds, and what breaks it."""
    return render(_verdicts.verdict(x, Budget()))


def value(x: object) -> str:
    """A state or a part of one."""
    return render(pages.value(x, Budget()))


def frozen(x: object) -> str:
    """A frozen value: a mapping as the tree that its node shows."""
    return render(pages.frozen(x, Budget()))


def diff(x: Sequence[shown.Change]) -> str:
    """The changes of a commit."""
    return render(pages.diff(x, Budget()))


def change(x: shown.Change) -> str:
    """One of the changes of a commit."""
    return render(pages.change(x, Budget()))


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
    before = " " if span.kind == "took" else ""
    return f'{before}<time datetime="{escape(span.text)}">{_text(spoken(span))}</time>'


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
        return _outline(block.steps, folded=block.folded)
    return iter((_code(block) if isinstance(block, Code) else f"<div>{_line(block.line)}</div>",))


def _code(code: Code) -> str:
    return _pre(chr(10).join(code.lines))


def _pre(text: str) -> str:
    return f"<pre {_SCROLLED}>{_text(text)}</pre>"


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
    sign = _span(Span(f"{row.sign} ", row.sign)) if row.sign else ""
    label = f"{sign}<b>{_text(row.label)}</b> "
    if row.rows:
        yield f"<li><details{' open' if row.open else ''}><summary>{label}{_folded(row)}</summary>"
        yield from _below(row)
        yield "</details></li>"
    elif row.text:
        yield f"<li><details><summary>{label}{_line(row.value)}</summary>{_pre(_lines(row.text))}"
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
    yield f"<table {_SCROLLED}><thead><tr>{heads}</tr></thead><tbody>"
    yield more if table.more_first else ""
    for row in table.rows:
        cells = (_cell(cell, column) for cell, column in zip(row, table.columns, strict=True))
        yield f"<tr>{''.join(cells)}</tr>"
    yield "" if table.more_first else more
    yield "</tbody></table>"


def _outline(steps: tuple[Step, ...], *, folded: bool) -> Iterator[str]:
    """Lists in lists, without recursion; the outline itself bounds how deep."""
    yield "<ul>"
    depths = [step.depth for step in steps[1:]]
    for step, following in zip(steps, [*depths, 0], strict=True):
        line, detail = _line(step.line), "".join(_block(step.detail)) if step.detail else ""
        if following > step.depth:
            yield f"<li><details{'' if folded else ' open'}><summary>{line}</summary>{detail}<ul>"
            folded = False
        elif detail:
            yield f"<li><details><summary>{line}</summary>{detail}</details></li>"
        else:
            yield f"<li>{line}</li>"
        yield "</ul></details></li>" * (step.depth - following)
    yield "</ul>"


def _side(column: Column) -> str:
    return ' class="r"' if column.right else ""


def _kind(cell: Cell, column: Column) -> str:
    long = cell.detail is not None or columns(plain(cell.line)) > _LONG
    return ' class="l"' if long and not column.right else _side(column)


def _cell(cell: Cell, column: Column) -> str:
    content = _line(cell.line)
    if cell.detail is not None:
        detail = "".join(_block(cell.detail))
        content = f"<details><summary>{content}</summary>{detail}</details>"
    return f"<td{_kind(cell, column)}>{content}</td>"
