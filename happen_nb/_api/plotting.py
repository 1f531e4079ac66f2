"""Plots of values over time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from happen_nb._api.base import runtime_of, utc
from happen_nb._api.history import lenient, name_of, occurrences, unused
from happen_nb._api.node import Node
from happen_nb._display.plots.history_plot import (
    MAX_ROWS,
    PlottedCommits,
    PlottedLine,
    default_paths,
    plot_of_nodes,
)
from happen_nb._journal.slice import read_commits
from happen_nb._model.paths import Selector, parse_path
from happen_nb._model.quoting import quote
from happen_nb._model.records import CommitRecord
from happen_nb._runtime.io import on_io, run_blocking

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

    from happen_nb._api.space import Space
    from happen_nb._api.state import State
    from happen_nb._api.views import View
    from happen_nb._runtime.runtime import Runtime

_PARTS: Final = 2  # of a line: its node and its selector
Lines = Mapping[str, tuple[str | Node, Selector]]


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
