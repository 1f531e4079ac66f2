"""Pages of the objects that hold states: nodes, views, commits, histories and spaces.

Where a value cannot be read, its page shows the `HappenError` in place of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from happen_nb._display import Line, Span, byte_count, count, function, more, name, one_line, part, timestamp
from happen_nb._display.changes import changes, in_a_line
from happen_nb._display.page import (
    MAX_NEWEST,
    TIME,
    Block,
    Cell,
    Column,
    Heading,
    Note,
    Page,
    Table,
    first,
    name_cell,
    newest,
    stored_time,
    table,
    titles,
)
from happen_nb._display.reprs_events import handler_outline, payload_cell, type_cell, value_block
from happen_nb._display.values import Budget, summary, tree
from happen_nb.errors import ClosedError, HappenError

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    from happen_nb._api.events import Event
    from happen_nb._api.history import Commit, History, Journal, Snapshot
    from happen_nb._api.node import Node, Nodes
    from happen_nb._api.recording import Recording
    from happen_nb._api.space import NatsServer, Space
    from happen_nb._api.state import State
    from happen_nb._api.views import View, Views, Watch
    from happen_nb._journal.presence import SpaceInfo
    from happen_nb._model.frozen import Change, Diff, FrozenDict


MAX_NODES: Final = 30  # nodes that a table shows

_MAX_FOLDED_CHANGES: Final = 12  # of a commit in a table
_SUMMARY_COLUMNS: Final = 60  # of a state or of a commit's changes in a table
_ERROR_CHARACTERS: Final = 300  # of an error in place of a value

_NO_NODES: Final = 'no nodes yet: create_node("orders") creates one'
_MAX_NAMED: Final = 5  # stored nodes that are not in this process
_STATE_COLUMNS: Final = titles("node", "here", Column("revision", right=True), "state")
_COMMIT_COLUMNS: Final = titles(Column("revision", right=True), TIME, "by", "changes")
_JOURNAL_COLUMNS: Final = titles(TIME, "node", "target", "commit or event", "by", "changes or payload")
_SPACE_COLUMNS: Final = titles(
    "space", Column("nodes", right=True), Column("size", right=True), Column("last change (UTC)", time=True)
)

_Item = TypeVar("_Item")


class Readable(Protocol):
    """A state or a view. Its members may raise a `HappenError`, which is then shown in their place."""

    @property
    def revision(self) -> int: ...
    def get(self) -> FrozenDict: ...


# -- one node ----------------------------------------------------------------------------------------


def node_page(node: Node, budget: Budget) -> Page:
    """Show a node's revision, state and handlers, and how long it has been busy."""
    owner = _attempt(lambda: node.owner)
    elsewhere = len(node.handlers) > 0 and not isinstance(owner, HappenError) and owner and not owner.here
    owned = part("owned by another process", "plain") if elsewhere else ()
    page = _stateful("Node", node.name, node.state, budget, owned, part(name(node.busy)))
    if not len(node.handlers):
        return page
    return page._replace(blocks=(*page.blocks, handler_outline(node.handlers)))


def state_page(state: State, budget: Budget) -> Page:
    return _stateful("State of", state.node.name, state, budget)


def view_page(view: View, budget: Budget) -> Page:
    return _stateful("View of", view.name, view, budget)


def watch_page(watch: Watch, _: Budget) -> Page:
    active = part("active", "plain") if watch.active else part("stopped")
    callback = part(function(watch.name), "plain")
    return Page(Heading("Watch of", name(watch.node.name), (callback, active)))


def _stateful(kind: str, owner: str, source: Readable, budget: Budget, *parts: Line) -> Page:
    revision = _attempt(lambda: source.revision)
    known = () if isinstance(revision, HappenError) else (part(f"revision {revision:,}"),)
    content = _attempt(source.get)
    block = _error(content) if isinstance(content, HappenError) else tree(content, budget)
    return Page(Heading(kind, name(owner), (*known, *parts)), (block,))


def _attempt(read: Callable[[], _Item]) -> _Item | HappenError:
    try:
        return read()
    except HappenError as error:
        return error


def _error(error: HappenError) -> Note:
    return Note(part(one_line(str(error), _ERROR_CHARACTERS), "err"))


# -- values ------------------------------------------------------------------------------------------


def value_page(value: object, budget: Budget) -> Page:
    return Page(None, (value_block(value, budget),))


def frozen_page(value: object, budget: Budget) -> Page:
    """Show a frozen value: a mapping as the tree that its node shows, a list as a `value_page`."""
    return Page(None, (tree(value, budget),)) if isinstance(value, dict) else value_page(value, budget)


def diff_page(diff: Sequence[Change], budget: Budget) -> Page:
    return Page(None, (_difference(diff, budget),))


def change_page(change: Change, budget: Budget) -> Page:
    return diff_page((change,), budget)


# -- commits -----------------------------------------------------------------------------------------


def commit_page(commit: Commit, budget: Budget) -> Page:
    by = () if commit.by is None else (Span("by "), Span(name(commit.by), "plain"))
    deleted = part("deleted", "del") if commit.deleted else ()
    parts = (part(f"revision {commit.revision:,}"), deleted, by, timestamp(stored_time(commit), zone=True))
    made = _attempt(lambda: _difference(commit.diff, budget))
    block = _error(made) if isinstance(made, HappenError) else made
    return Page(Heading("Commit of", name(commit.node), parts), (block,))


def history_page(history: History, budget: Budget) -> Page:
    parts = part(count(len(history), "commit")), part("older ones are gone") if history.truncated else ()
    share = budget.share(MAX_NEWEST)
    rows = newest(history, _COMMIT_COLUMNS, lambda commit: _commit_row(commit, replace(share)))
    return Page(Heading("History of", name(history.node), parts), rows)


def journal_page(journal: Journal, budget: Budget) -> Page:
    events = sum(_is_event(journal[index]) for index in range(len(journal)))
    counts = [(len(journal) - events, "commit"), (events, "event")]
    parts = [part(count(number, noun)) for number, noun in counts if number]
    share = budget.share(MAX_NEWEST)
    rows = newest(journal, _JOURNAL_COLUMNS, lambda record: _journal_row(record, replace(share)))
    return Page(Heading("Journal of", name(journal.space), tuple(parts or [part("empty")])), rows)


def _difference(diff: Sequence[Change], budget: Budget) -> Block:
    return changes(diff, budget) if diff else Note(part("no change"))


def _commit_row(commit: Commit, budget: Budget) -> tuple[Cell, ...]:
    return (
        Cell(part(f"{commit.revision:,}", "plain")),
        Cell(timestamp(stored_time(commit))),
        name_cell(commit.by),
        changes_cell(commit, budget),
    )


def _journal_row(record: Commit | Event, budget: Budget) -> tuple[Cell, ...]:
    if _is_event(record):
        return (
            Cell(timestamp(stored_time(record))),
            Cell(part(name(record.sender), "name")),
            name_cell(record.target),
            type_cell(record.type),
            Cell(),
            payload_cell(record.payload, budget),
        )
    return (
        Cell(timestamp(stored_time(record))),
        Cell(part(name(record.node), "name")),
        Cell(),
        Cell(part(f"revision {record.revision:,}", "plain")),
        name_cell(record.by),
        changes_cell(record, budget),
    )


def _is_event(record: Commit | Event) -> TypeIs[Event]:
    return hasattr(record, "payload")


def changes_cell(commit: Commit, budget: Budget) -> Cell:
    if commit.deleted:
        return Cell(part("deleted", "del"))
    diff = _attempt(lambda: commit.diff)
    if isinstance(diff, HappenError):
        return Cell(part(one_line(str(diff), _SUMMARY_COLUMNS), "err"))
    return diff_cell(diff, budget)


def diff_cell(diff: Diff, budget: Budget) -> Cell:
    """Show a difference in a line; if it is cut, HTML folds more of it below."""
    line, whole = in_a_line(diff, _SUMMARY_COLUMNS)
    if whole or not budget.folds:
        return Cell(line)
    folded = changes(diff, budget, limit=_MAX_FOLDED_CHANGES)
    return Cell(line, folded if folded.rows else None)


# -- many nodes --------------------------------------------------------------------------------------


def views_page(views: Views, _: Budget) -> Page:
    return _mapped("Views of", views, views.__getitem__, "no node has a state yet")


def nodes_page(nodes: Nodes, _: Budget) -> Page:
    stored = _attempt(lambda: list(nodes.space.views))
    none = _NO_NODES if isinstance(stored, HappenError) or not stored else _none_here(stored)
    return _mapped("Nodes of", nodes, lambda node: nodes[node].state, none)


def _none_here(stored: Sequence[str]) -> str:
    if len(stored) == 1:
        return f'no nodes here yet; create_node("{name(stored[0])}") returns the stored one'
    rest = f", … {len(stored) - _MAX_NAMED:,} more" if len(stored) > _MAX_NAMED else ""
    names = ", ".join(map(name, stored[:_MAX_NAMED]))
    return f"no nodes here yet; create_node(name) returns a stored one: {names}{rest}"


def snapshot_page(snapshot: Snapshot, _: Budget) -> Page:
    heading = Heading("Snapshot", "", (part(count(len(snapshot), "node")),))
    return Page(heading, (_nodes_table(snapshot, snapshot.state_of),) if len(snapshot) else ())


def space_page(space: Space, _: Budget) -> Page:
    """Show the nodes of a space: those of this process first, marked if there are others."""
    nodes, others = space.nodes, _attempt(lambda: [each for each in space.views if each not in space.nodes])
    if isinstance(others, HappenError):
        closed = type(others) is ClosedError
        reason = Note(part(str(others).partition(" was ")[2])) if closed else _error(others)
        return Page(Heading("Space", name(space.name)), (reason,))
    number = len(nodes) + len(others)
    parts = [part(count(number, "node")), part(_describe_server(space.server))]
    parts += _time_parts(space)
    if space.paused is not None:
        parts.append((Span("paused "), Span(name(space.paused), "str")))
    if len(space.failures):
        parts.append(part(count(len(space.failures), "failure"), "err"))
    heading = Heading("Space", name(space.name), tuple(parts))
    if not number:
        return Page(heading, (Note(part(_NO_NODES)),))
    mark = Cell(part("●", "plain") if others else ())
    rows = [_node_row(each, lambda node: nodes[node].state, mark) for each in islice(nodes, MAX_NODES)]
    rows += [_node_row(each, space.views.__getitem__, Cell()) for each in others[: MAX_NODES - len(rows)]]
    return Page(heading, (table(_STATE_COLUMNS, rows, more(number - len(rows))),))


def _time_parts(space: Space) -> list[Line]:
    """Return the time of a manual clock, and the number of scheduled events."""
    time = [part(f"at {space.now.replace(tzinfo=None)}")] if space.clock == "manual" else []
    return [*time, *([part(f"{space.to_come:,} scheduled")] if space.to_come else [])]


def _mapped(kind: str, mapping: Nodes | Views, find: Callable[[str], Readable], none: str) -> Page:
    names = _attempt(lambda: list(mapping))
    space = name(mapping.space.name)
    if isinstance(names, HappenError):
        return Page(Heading(kind, space), (_error(names),))
    block = _nodes_table(names, find) if names else Note(part(none))
    return Page(Heading(kind, space, (part(count(len(names), "node")),)), (block,))


def _nodes_table(names: Collection[str], find: Callable[[str], Readable]) -> Table:
    return first(names, _STATE_COLUMNS, lambda each: _node_row(each, find, Cell()), MAX_NODES)


def _node_row(node: str, find: Callable[[str], Readable], here: Cell) -> tuple[Cell, ...]:
    # Finding the node is part of reading it: the mappings are live, and it may just have been deleted.
    revision = _attempt(lambda: find(node).revision)
    content = _attempt(lambda: find(node).get())
    if isinstance(content, HappenError):
        line: Line = part(one_line(str(content), _SUMMARY_COLUMNS), "err")
    else:
        line = summary(content, _SUMMARY_COLUMNS)
    number = () if isinstance(revision, HappenError) else part(f"{revision:,}", "plain")
    return Cell(part(name(node), "name")), here, Cell(number), Cell(line)


# -- the server --------------------------------------------------------------------------------------


def server_page(server: NatsServer, _: Budget) -> Page:
    running = (Span("running", "plain") if server.running else Span("stopped", "err"),)
    return Page(Heading("Server", "", (running, part(_describe_store(server)))))


def spaces_page(spaces: Sequence[SpaceInfo], _: Budget) -> Page:
    heading = Heading(count(len(spaces), "space"))
    return Page(heading, (first(spaces, _SPACE_COLUMNS, _space_row, MAX_NODES),) if spaces else ())


def _space_row(info: SpaceInfo) -> tuple[Cell, ...]:
    return (
        Cell(part(name(info.name), "name")),
        Cell(part(f"{info.nodes:,}", "plain")),
        Cell(part(byte_count(info.bytes), "plain")),
        Cell(timestamp(info.last_change)),
    )


def _describe_server(server: NatsServer | None) -> str:
    if server is None:
        return "a server elsewhere"
    return f"server {'running' if server.running else 'stopped'}, {_describe_store(server)}"


def _describe_store(server: NatsServer) -> str:
    in_memory = server.store is None or str(server.store) == ":memory:"
    return "in memory" if in_memory else "stored in a folder"


def recording_page(recording: Recording, _: Budget) -> Page:
    """Show the content of a recording, and the place of its file."""
    nouns = ("event", "commit", "failure")
    parts = [
        part(count(number, noun)) for number, noun in zip(recording.counts, nouns, strict=True) if number
    ]
    if recording.partial:
        parts.append(part("the newest that fit"))
    if recording.path is not None:
        parts.append(part(name(recording.path.name)))
    prefix = "Recording of "  # of the default title
    is_default = recording.title == prefix + recording.space
    kind, title = (prefix.strip(), recording.space) if is_default else ("Recording", recording.title)
    return Page(Heading(kind, name(title), tuple(parts)))
