"""Which display each object has; a `HappenError` is shown in place of the value that it hides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

from happen_nb._display import _protocols as shown
from happen_nb._display.changes import changes, in_a_line
from happen_nb._display.events import NEWEST, handler_outline, name_cell, newest, payload_cell, type_cell
from happen_nb._display.inline import fits, summary
from happen_nb._display.page import Block, Cell, Column, Heading, Note, Page, more, part, table, when
from happen_nb._display.spans import Line, Span, byte_count, count, function, name, one_line
from happen_nb._display.tree import Budget, tree
from happen_nb.errors import ClosedError, HappenError

if TYPE_CHECKING:
    from typing_extensions import TypeIs

NODES = 30
"""How many nodes a table shows."""

_CHANGES = 12  # changes in the fold of a commit in a table
_SUMMARY = 60  # columns of a state or of a commit's changes in a table
_ERROR = 300  # characters of an error in place of a value


_Item = TypeVar("_Item")


def node(x: shown.Node, budget: Budget) -> Page:
    """A node: its state below its name, its revision and what it does; then its handlers."""
    page = _stateful("Node", x.name, x.state, budget, part(name(x.busy)))
    return replace(page, blocks=(*page.blocks, handler_outline(x.handlers))) if len(x.handlers) else page


def state(x: shown.State, budget: Budget) -> Page:
    """A node's state."""
    return _stateful("State of", x.node.name, x, budget)


def view(x: shown.View, budget: Budget) -> Page:
    """Another node's state."""
    return _stateful("View of", x.name, x, budget)


def value(x: object, budget: Budget) -> Page:
    """A state, or a part of one: in a line if it is short, else as a tree."""
    line = fits(x, _SUMMARY)
    return Page(None, (tree(x, budget) if line is None else Note(line),))


def frozen(x: object, budget: Budget) -> Page:
    """A frozen value: a mapping as the tree that its node shows, anything else as a `value`."""
    return Page(None, (tree(x, budget),)) if isinstance(x, dict) else value(x, budget)


def diff(x: Sequence[shown.Change], budget: Budget) -> Page:
    """The changes of a commit."""
    return Page(None, (changes(x, budget) if x else Note(part("no change")),))


def change(x: shown.Change, budget: Budget) -> Page:
    """One of the changes of a commit."""
    return diff((x,), budget)


def commit(x: shown.Commit, budget: Budget) -> Page:
    """What a commit changed."""
    parts = [part(f"revision {x.revision:,}")]
    if x.deleted:
        parts.append((Span("deleted", "del"),))
    if x.by is not None:
        parts.append((Span("by "), Span(name(x.by), "plain")))
    parts.append(when(x.time, zone=True))
    return Page(Heading("Commit of", name(x.node), tuple(parts)), (_difference(x, budget),))


def history(x: shown.History, budget: Budget) -> Page:
    """The newest commits of a node."""
    parts = [part(count(len(x), "commit"))]
    if x.truncated:
        parts.append(part("older ones are gone"))
    return Page(Heading("History of", name(x.node), tuple(parts)), _commits(x, budget))


def journal(x: shown.Journal, budget: Budget) -> Page:
    """The newest commits and events of a space, in one table."""
    events = sum(_is_event(x[index]) for index in range(len(x)))
    counts = [(len(x) - events, "commit"), (events, "event")]
    parts = [part(count(number, noun)) for number, noun in counts if number]
    share = budget.share(NEWEST)
    heading = Heading("Journal of", name(x.space), tuple(parts or [part("empty")]))
    return Page(heading, newest(x, _JOURNAL, lambda each: _journal_row(each, replace(share))))


def views(x: shown.Views) -> Page:
    """All nodes that the views of a space reach."""
    return _mapped("Views of", x, x.__getitem__, "no node has a state yet")


def nodes(x: shown.Nodes) -> Page:
    """All nodes that this process made."""
    return _mapped("Nodes of", x, partial(_state_of, x), _NO_NODES)


def moment(x: shown.Moment) -> Page:
    """The states of all nodes at one moment."""
    if not len(x):
        return Page(Heading("No nodes at this moment"))
    rows = [_node_row(each, partial(x._then, each), Cell()) for each in islice(x, NODES)]
    heading = Heading(f"{count(len(x), 'node')} at one moment")
    return Page(heading, (table(_STATES, rows, more(len(x) - len(rows))),))


def space(x: shown.Space) -> Page:
    """The nodes of a space: those of this process first, marked if there are others."""
    nodes, others = x.nodes, _attempt(lambda: [each for each in x.views if each not in x.nodes])
    if isinstance(others, HappenError):
        closed = type(others) is ClosedError
        shown_ = Note(part("closed; connect again to go on")) if closed else _error(others)
        return Page(Heading("Space", name(x.name)), (shown_,))
    number = len(nodes) + len(others)
    parts = [part(count(number, "node")), part(_server_of(x.server))]
    if len(x.failures):
        parts.append((Span(count(len(x.failures), "failure"), "err"),))
    heading = Heading("Space", name(x.name), tuple(parts))
    if not number:
        return Page(heading, (Note(part(_NO_NODES)),))
    mark = Cell((Span("●", "plain"),) if others else ())
    rows = [_node_row(each, partial(_state_of, nodes, each), mark) for each in islice(nodes, NODES)]
    views = x.views
    rows += [
        _node_row(each, partial(views.__getitem__, each), Cell()) for each in others[: NODES - len(rows)]
    ]
    return Page(heading, (table(_STATES, rows, more(number - len(rows))),))


def server(x: shown.Server) -> Page:
    """Whether a server runs, and what it keeps."""
    running = (Span("running", "plain") if x.running else Span("stopped", "err"),)
    return Page(Heading("Server", "", (running, part(_kept(x)))))


def watch(x: shown.Watch) -> Page:
    """What a watch follows, and whether it still does."""
    active = (Span("active", "plain"),) if x.active else part("stopped")
    return Page(Heading("Watch of", name(x.node.name), ((Span(function(x.name), "plain"),), active)))


def spaces(x: shown.Sized[shown.SpaceInfo]) -> Page:
    """The spaces of a server."""
    rows = [_space_row(x[index]) for index in range(min(len(x), NODES))]
    heading = Heading(count(len(x), "space"))
    return Page(heading, (table(_SPACES, rows, more(len(x) - len(rows))),) if rows else ())


_NO_NODES: Final = 'no nodes yet: create_node("orders") makes one'
_STATES: Final = (Column("node"), Column("here"), Column("revision", right=True), Column("state"))
_COMMITS: Final = (
    Column("revision", right=True),
    Column("time (UTC)", time=True),
    Column("by"),
    Column("changes"),
)
_JOURNAL: Final = (
    Column("time (UTC)", time=True),
    Column("node"),
    Column("target"),
    Column("commit or event"),
    Column("by"),
    Column("changes or payload"),
)
_SPACES: Final = (
    Column("space"),
    Column("nodes", right=True),
    Column("size", right=True),
    Column("last change (UTC)", time=True),
)


def _stateful(kind: str, owner: str, x: shown.Readable, budget: Budget, *parts: Line) -> Page:
    revision = _attempt(lambda: x.revision)
    known = not isinstance(revision, HappenError)
    heading = Heading(kind, name(owner), (*((part(f"revision {revision:,}"),) if known else ()), *parts))
    content = _attempt(x.get)
    return Page(heading, (_error(content) if isinstance(content, HappenError) else tree(content, budget),))


def _attempt(read: Callable[[], _Item]) -> _Item | HappenError:
    try:
        return read()
    except HappenError as error:
        return error


def _error(error: HappenError) -> Note:
    return Note((Span(one_line(str(error), _ERROR), "err"),))


def _difference(x: shown.Commit, budget: Budget) -> Block:
    if not x.changed:
        return Note(part("no change"))
    made = _attempt(lambda: changes(x.diff, budget))
    return _error(made) if isinstance(made, HappenError) else made


def _commits(x: shown.Sized[shown.Commit], budget: Budget) -> tuple[Block, ...]:
    share = budget.share(NEWEST)
    return newest(x, _COMMITS, lambda each: _commit_row(each, replace(share)))


def _commit_row(x: shown.Commit, budget: Budget) -> tuple[Cell, ...]:
    return (
        Cell((Span(f"{x.revision:,}", "plain"),)),
        Cell(when(x.time)),
        name_cell(x.by),
        _changes_cell(x, budget),
    )


def _journal_row(x: shown.Commit | shown.Event, budget: Budget) -> tuple[Cell, ...]:
    if _is_event(x):
        return (
            Cell(when(x.time)),
            Cell((Span(name(x.sender), "name"),)),
            name_cell(x.target),
            type_cell(x.type),
            Cell(),
            payload_cell(x.payload, budget),
        )
    return (
        Cell(when(x.time)),
        Cell((Span(name(x.node), "name"),)),
        Cell(),
        Cell((Span(f"revision {x.revision:,}", "plain"),)),
        name_cell(x.by),
        _changes_cell(x, budget),
    )


def _is_event(x: shown.Commit | shown.Event) -> TypeIs[shown.Event]:
    return hasattr(x, "payload")


def _changes_cell(x: shown.Commit, budget: Budget) -> Cell:
    if x.deleted:
        return Cell((Span("deleted", "del"),))
    if not x.changed:
        return Cell(part("no change"))
    made = _attempt(lambda: x.diff)
    if isinstance(made, HappenError):
        return Cell((Span(one_line(str(made), _SUMMARY), "err"),))
    line, whole = in_a_line(made, _SUMMARY)
    if whole or not budget.folds:
        return Cell(line)
    folded = changes(made, budget, limit=_CHANGES)
    return Cell(line, folded if folded.rows else None)


def _mapped(
    kind: str, x: shown.Nodes | shown.Views, find: Callable[[str], shown.Readable], none: str
) -> Page:
    """All that a live mapping of a space holds."""
    known = _attempt(lambda: list(x))
    if isinstance(known, HappenError):
        return Page(Heading(kind, name(x.space.name)), (_error(known),))
    rows = [_node_row(each, partial(find, each), Cell()) for each in known[:NODES]]
    heading = Heading(kind, name(x.space.name), (part(count(len(known), "node")),))
    left = more(len(known) - len(rows))
    return Page(heading, (table(_STATES, rows, left) if rows else Note(part(none)),))


def _state_of(nodes: Mapping[str, shown.Node] | shown.Nodes, each: str) -> shown.Readable:
    return nodes[each].state


def _node_row(each: str, find: Callable[[], shown.Readable], here: Cell) -> tuple[Cell, ...]:
    """Finding is part of reading: the mappings are live, and a node may just have been deleted."""
    revision = _attempt(lambda: find().revision)
    content = _attempt(lambda: find().get())
    if isinstance(content, HappenError):
        line: Line = (Span(one_line(str(content), _SUMMARY), "err"),)
    else:
        line = summary(content, _SUMMARY)
    count_of = () if isinstance(revision, HappenError) else (Span(f"{revision:,}", "plain"),)
    return Cell((Span(name(each), "name"),)), here, Cell(count_of), Cell(line)


def _space_row(x: shown.SpaceInfo) -> tuple[Cell, ...]:
    return (
        Cell((Span(name(x.name), "name"),)),
        Cell((Span(f"{x.nodes:,}", "plain"),)),
        Cell((Span(byte_count(x.bytes), "plain"),)),
        Cell(when(x.last_change)),
    )


def _server_of(x: shown.Server | None) -> str:
    if x is None:
        return "a server elsewhere"
    return f"server {'running' if x.running else 'stopped'}, {_kept(x)}"


def _kept(x: shown.Server) -> str:
    return "in memory" if x.store is None or str(x.store) == ":memory:" else "stored in a folder"
