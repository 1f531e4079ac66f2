"""Read the journal for the figures of a space: its timeline and graph, and plots of values over time."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, Any, Final

from happen_nb._api.base import runtime_of, utc
from happen_nb._api.history import Since, lenient, name_of, occurrences, position_after, unused
from happen_nb._api.node import Node
from happen_nb._api.views import unknown_node
from happen_nb._display.plots.history_plot import (
    MAX_ROWS,
    PlottedCommits,
    PlottedLine,
    default_paths,
    plot_of_nodes,
)
from happen_nb._journal.slice import (
    Entry,
    Handlings,
    entry_position,
    newest_slice,
    read_changes,
    read_commits,
    with_payloads,
)
from happen_nb._model.causality import NOTEBOOK, CommitPair, JournalSlice
from happen_nb._model.paths import Selector, parse_path
from happen_nb._model.patterns import Pattern
from happen_nb._model.quoting import quote
from happen_nb._model.records import CommitRecord, EventRecord
from happen_nb._runtime.io import on_io, run_blocking

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from happen_nb._api.space import Space
    from happen_nb._api.state import State
    from happen_nb._api.views import View
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.runtime import Runtime

_PARTS: Final = 2  # of a line: its node and its selector
Lines = Mapping[str, tuple[str | Node, Selector]]


async def read_journal(
    runtime: Runtime,
    nodes: Iterable[str],
    pattern: Pattern,
    since: Since | None,
    limit: int,
    *,
    commits: bool,
) -> JournalSlice:
    """Read the newest events and commits, `limit` of both together, and how the events were handled."""
    log = runtime.log
    after = await position_after(log, since)
    await on_io(runtime.dispatcher.flush())
    every, asked = pattern.text == "**", pattern.predicate is not None
    matches = (lambda _: True) if asked else cache(pattern.matches)

    def keep(entry: Entry) -> bool:
        return commits if isinstance(entry, CommitRecord) else bool(matches(entry.type))

    found = await on_io(
        newest_slice(
            log.stream,
            keep,
            since=after,
            limit=sys.maxsize if asked else limit + 1,
            counts=lambda entry: every or isinstance(entry, EventRecord),
        )
    )
    events = matching_events(pattern, found.events) if asked else found.events
    ids = {event.id for event in events}
    entries: list[Entry] = [each for each in found.commits if every or each.origin.cause in ids]
    entries = sorted([*entries, *events], key=entry_position)
    shown = entries[-limit:]
    start = shown[0].sequence if shown else found.last + 1
    changes: list[CommitPair]
    handled: Handlings
    changes, handled = await on_io(read_changes(log.stream, found, start, states=commits))
    sequences = {entry.sequence for entry in shown if isinstance(entry, CommitRecord)}
    return JournalSlice(
        runtime.space,
        [entry for entry in shown if isinstance(entry, EventRecord)],
        [change for change in changes if change[0].sequence in sequences],
        handled,
        sorted({*nodes, *runtime.ownership.names()}),
        limit if len(entries) > limit else None,
        partial(_whole, log),
    )


def checked_lanes(space: Space, nodes: Iterable[str | Node] | str | Node, found: JournalSlice) -> list[str]:
    """Return the names of nodes; refuse unknown nodes and those of another space."""
    given: Iterable[Any] = [nodes] if isinstance(nodes, str | Node) else nodes
    names = [each if isinstance(each, str) else _name_here(each, space.name) for each in given]
    for name in names:
        _check_known(space, name, found)
    return names


def _name_here(node: Node, space: str) -> str:
    if node.space.name != space:
        raise ValueError(
            f'timeline: the node "{node.name}" belongs to the space "{node.space.name}", not to "{space}"'
        )
    return node.name


def _check_known(space: Space, name: str, found: JournalSlice) -> None:
    known = {NOTEBOOK, *found.nodes, *(event.sender for event in found.events)}
    known |= {change[0].node for change in found.commits} | {record.node for record in found.handled}
    if name not in known:
        raise unknown_node(name, sorted(known), f'the timeline of "{space.name}"')


def _whole(log: Log, events: Sequence[EventRecord]) -> Sequence[EventRecord]:
    async def read() -> Sequence[EventRecord]:
        whole: Sequence[EventRecord] = await on_io(with_payloads(log.stream, events))
        return whole

    return run_blocking(read())


def matching_events(pattern: Pattern, records: Sequence[EventRecord]) -> list[EventRecord]:
    """Filter by a predicate. It is the user's code, which never runs on the IO thread."""
    matches = cache(pattern.matches)
    return [record for record in records if matches(record.type)]


def show_arrows() -> None:
    """Show the arrows of the mark under the pointer, in the figures below the current cell."""
    from happen_nb._widgets import panes

    panes.show_arrows()


@dataclass(frozen=True, slots=True)
class LineSource:
    """A line: its title, its node, and the part of the node's state."""

    name: str
    node: str
    selector: Selector

    def value(self, record: CommitRecord) -> Any:
        """Return the value after a commit; None if it is missing."""
        return lenient(record.state, self.selector)


def sources_of_state(
    source: State | View, node: str, selectors: Sequence[Selector], named: Mapping[str, Selector], call: str
) -> list[LineSource]:
    """Return the lines of one node: the selected parts, or else the plain values at the top of its state."""
    if not selectors and not named:
        selectors = default_paths(source.get())
        if not selectors:
            raise ValueError(
                f'{call}: node "{node}" has no plain value at the top; give a path: {call}("open")'
            )
    sources: list[LineSource] = []
    for title, selector in [*((name_of(each), each) for each in selectors), *named.items()]:
        taken = {each.name for each in sources}
        sources.append(LineSource(unused(title, taken), node, _checked(selector)))
    return _few(sources, call)


def sources_of_space(space: Space, lines: Lines, call: str) -> list[LineSource]:
    """Return the lines that a mapping of titles to nodes and selectors describes."""
    example = f'{call}({{"S": ("people", "s")}})'
    if not isinstance(lines, Mapping) or not lines:
        raise TypeError(f"{call}: lines is {quote(lines)}; map titles to a node and a path: {example}")
    sources = []
    for title, pair in lines.items():
        if not isinstance(title, str) or not isinstance(pair, (tuple, list)) or len(pair) != _PARTS:
            raise TypeError(
                f"{call}: the line {quote(title)} is {quote(pair)}; give its node and a path: {example}"
            )
        node, selector = pair
        sources.append(LineSource(title, _name(space, node, call), _checked(selector)))
    return _few(sources, call)


def _name(space: Space, node: object, call: str) -> str:
    if isinstance(node, Node):
        if node.space is not space:
            raise ValueError(
                f'{call}: the node "{node.name}" belongs to the space "{node.space.name}", '
                f'not to "{space.name}"'
            )
        return node.name
    return space.views[node].name  # type: ignore[index]  # it names what is wrong with the name


def _checked(selector: Selector) -> Selector:
    if not callable(selector):
        parse_path(selector)
    return selector


def _few(sources: list[LineSource], call: str) -> list[LineSource]:
    if len(sources) > MAX_ROWS:
        raise ValueError(f"{call}: {len(sources)} lines are too many to read; give {MAX_ROWS} or fewer")
    return sources


def read_commits_of(runtime: Runtime, nodes: Iterable[str]) -> dict[str, list[CommitRecord]]:
    """Read the stored commits of nodes, oldest first."""

    async def read() -> dict[str, list[CommitRecord]]:
        stream = runtime.log.stream
        return {node: await on_io(read_commits(stream, node)) for node in nodes}

    return run_blocking(read())


def plot_space(space: Space, lines: Lines, *, by: str, together: bool) -> Figure:
    """Draw values of several nodes over time."""
    if by not in {"time", "occurred"}:
        raise ValueError(f'plot: x is {by!r}; give "time" or "occurred"')
    sources = sources_of_space(space, lines, "space.plot")
    runtime = runtime_of(space)
    records = read_commits_of(runtime, dict.fromkeys(source.node for source in sources))
    commits = {node: _plotted(runtime, node, found, by) for node, found in records.items()}
    drawn = [
        PlottedLine(
            source.name, [source.value(record) for record in records[source.node]], commits[source.node]
        )
        for source in sources
    ]
    return plot_of_nodes(space.name, drawn, together=together)


def _plotted(runtime: Runtime, node: str, records: Sequence[CommitRecord], by: str) -> PlottedCommits:
    moments = [utc(record.time) for record in records]
    revisions = [record.revision for record in records]
    if by == "time":
        return PlottedCommits(node, revisions, moments, moments, "time, UTC")
    places = run_blocking(occurrences(runtime.log, records))
    return PlottedCommits(node, revisions, moments, places, "when it occurred, UTC")
