"""The displays as plain text: what ``repr`` and a terminal show. Times are left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from textwrap import wrap

from happen_nb._display import _protocols as shown
from happen_nb._display import events as _events
from happen_nb._display import failures as _failures
from happen_nb._display import pages
from happen_nb._display import receipts as _receipts
from happen_nb._display import replies as _replies
from happen_nb._display import traces as _traces
from happen_nb._display import verdicts as _verdicts
from happen_nb._display.changes import in_a_line
from happen_nb._display.inline import fits, summary
from happen_nb._display.page import Block, Code, Column, Heading, Outline, Page, Table
from happen_nb._display.spans import TIMES, Line, columns, plain, spoken
from happen_nb._display.tree import WIDTH, Budget, Row


def render(page: Page) -> str:
    """A page as lines of text, without a newline at the end."""
    lines = [_heading(page.heading)] if page.heading else []
    indent = "  " if page.heading else ""
    for block in page.blocks:
        lines += (indent + line for line in _block(block))
    return "\n".join(lines)


def node(x: shown.Node) -> str:
    """A node: its name, revision and state."""
    return render(pages.node(x, _budget()))


def state(x: shown.State) -> str:
    """A node's state."""
    return render(pages.state(x, _budget()))


def view(x: shown.View) -> str:
    """A view of another node's state."""
    return render(pages.view(x, _budget()))


def views(x: shown.Views) -> str:
    """All views of a space: a line each."""
    return render(pages.views(x))


def commit(x: shown.Commit) -> str:
    """A commit: what it changed."""
    return render(pages.commit(x, _budget()))


def history(x: shown.History) -> str:
    """The commits of a node: the newest, a line each."""
    return render(pages.history(x, _budget()))


def journal(x: shown.Journal) -> str:
    """The commits and events of a space: the newest, a line each."""
    return render(pages.journal(x, _budget()))


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
    return render(_failures.failure(x, _budget()))


def failures(x: shown.Sized[shown.Failure]) -> str:
    """The failures of a space: the newest, a line each."""
    return render(_failures.failures(x, _budget()))


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
    return render(_events.event(x, _budget()))


def events(x: shown.Events) -> str:
    """Stored events: the newest, a line each."""
    return render(_events.events(x, _budget()))


def trace(x: shown.Trace) -> str:
    """What followed from an event: a tree of events and commits."""
    return render(_traces.trace(x, _budget()))


def receipt(x: shown.Receipt) -> str:
    """A receipt: what a cell caused."""
    return render(_receipts.receipt(x, _budget()))


def reply(x: shown.Reply) -> str:
    """A reply: how far it is, or what came out."""
    return render(_replies.reply(x, _budget()))


def replay(x: shown.Replay) -> str:
    """A replay: how far it is."""
    return render(_replies.replay(x))


def unhandled(x: shown.Sized[shown.Unhandled]) -> str:
    """Events that nobody took: the newest, a line each."""
    return render(_events.unhandled(x))


def unhandled_event(x: shown.Unhandled) -> str:
    """An event that nobody took: why, and what nearly would have."""
    return render(_events.unhandled_event(x, _budget()))


def handlers(x: shown.Handlers) -> str:
    """The handlers of a node: a line each."""
    return render(_events.handlers(x))


def registration(x: shown.Registration) -> str:
    """A handler: whose it is, and what it takes."""
    return render(_events.registration(x))


def verdict(x: shown.Verdict) -> str:
    """A verdict: whether a rule holds, and what breaks it."""
    return render(_verdicts.verdict(x, _budget()))


def value(x: object) -> str:
    """A state or a part of one.

    Examples
    --------
    >>> print(value({"stock": 7, "tags": ["new", "blue"]}))
    {stock: 7, tags: ["new", "blue"]}
    """
    return render(pages.value(x, _budget()))


def frozen(x: object) -> str:
    """A frozen value: a mapping as the tree that its node shows.

    Examples
    --------
    >>> print(frozen({"stock": 7, "tags": ["new", "blue"]}))
    stock  7
    tags   ["new", "blue"]
    """
    return render(pages.frozen(x, _budget()))


def diff(x: Sequence[shown.Change]) -> str:
    """The changes of a commit."""
    return render(pages.diff(x, _budget()))


def change(x: shown.Change) -> str:
    """One of the changes of a commit."""
    return render(pages.change(x, _budget()))


def nested(x: object, kind: str) -> str:
    """A frozen value, diff or change in one line, inside something that is not ours.

    Examples
    --------
    >>> nested({"stock": 7}, "frozen"), nested({"orders": {str(n): n for n in range(999)}}, "frozen")
    ("{'stock': 7}", '{orders: {999 keys}}')
    """
    if kind == "frozen":
        return repr(x) if fits(x, WIDTH) is not None else plain(summary(x, WIDTH))
    return plain(in_a_line(x if isinstance(x, tuple) else (x,), WIDTH)[0])


def _budget() -> Budget:
    return Budget(folds=False)


def _heading(heading: Heading) -> str:
    title = f"{heading.kind} {heading.name}".rstrip()
    return " · ".join([title, *(text for text in map(_line, heading.parts) if text)])


def _line(line: Line) -> str:
    told = (span._replace(text=spoken(span)) if span.kind == "told" else span for span in line)
    return plain(span for span in told if span.kind == "told" or span.kind not in TIMES)


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
