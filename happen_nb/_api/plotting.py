"""Plots of values over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from happen_nb._api.base import SpacePart, runtime_of, wait_on_io
from happen_nb._api.history import lenient, name_of, occurrences, times_of, unused
from happen_nb._api.node import Node
from happen_nb._frames import refusal
from happen_nb._journal.commits import read_commits
from happen_nb._model.paths import Selector, check_selector
from happen_nb._model.quoting import quote
from happen_nb._model.records import CommitRecord
from happen_nb._runtime.io import run_blocking

if TYPE_CHECKING:
    from datetime import timedelta

    from plotly.graph_objects import Figure

    from happen_nb._api.space import Space
    from happen_nb._api.state import State
    from happen_nb._api.views import View
    from happen_nb._display.plots.history_plot import PlottedCommits
    from happen_nb._runtime.runtime import Runtime
    from happen_nb._widgets.live_plot import LivePlot

_PARTS: Final = 2  # of a line: its node and its selector
Lines = Mapping[str, tuple[str | Node, Selector]]


class LineSource(NamedTuple):
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
    from happen_nb._display.plots.history_plot import default_paths

    if not selectors and not named:
        selectors = default_paths(source.get())
        if not selectors:
            raise refusal(
                ValueError,
                f'{call}: node "{node}" has no number, string or boolean at the top level; pass a path: '
                f'{call}("open")',
            )
    sources: list[LineSource] = []
    for title, selector in [*((name_of(each), each) for each in selectors), *named.items()]:
        taken = {each.name for each in sources}
        sources.append(LineSource(unused(title, taken), node, _checked(selector)))
    return _limited(sources, call)


def sources_of_space(space: Space, lines: Lines, call: str, *, others: bool = False) -> list[LineSource]:
    """Return the lines that a mapping describes; with `others`, their nodes may belong to other spaces."""
    example = f'{call}({{"lamps": ("stock", "lamp")}})'
    if not isinstance(lines, Mapping) or not lines:
        raise refusal(
            TypeError, f"{call}: lines is {quote(lines)}; map titles to a node and a path: {example}"
        )
    sources = []
    for title, pair in lines.items():
        if not isinstance(title, str) or not isinstance(pair, (tuple, list)) or len(pair) != _PARTS:
            raise refusal(
                TypeError,
                f"{call}: the line {quote(title)} is {quote(pair)}; pass its node and a path: {example}",
            )
        node, selector = pair
        home = node.space if others and isinstance(node, Node) else space
        name = name_here(node, home, call) if isinstance(node, Node) else space.views[node].name
        sources.append(LineSource(title, name, _checked(selector)))
    return _limited(sources, call)


def name_here(node: Node, space: Space, call: str) -> str:
    """Return the name of a node; refuse one of another space."""
    if node.space.name != space.name:
        raise refusal(
            ValueError,
            f'{call}: the node "{node.name}" belongs to the space "{node.space.name}", not to "{space.name}"',
        )
    return node.name


def _checked(selector: Selector) -> Selector:
    check_selector(selector)
    return selector


def _limited(sources: list[LineSource], call: str) -> list[LineSource]:
    from happen_nb._display.plots.history_plot import MAX_ROWS

    if len(sources) > MAX_ROWS:
        raise refusal(
            ValueError, f"{call}: {len(sources)} lines are too many to read; pass {MAX_ROWS} or fewer"
        )
    return sources


def read_commits_of(runtime: Runtime, node: str) -> list[CommitRecord]:
    """Read the stored commits of a node, oldest first."""
    return wait_on_io(read_commits(runtime.log.stream, node))


def _plotted(runtime: Runtime, node: str, records: Sequence[CommitRecord], by: str) -> PlottedCommits:
    from happen_nb._display.plots.history_plot import PlottedCommits

    clock = run_blocking(runtime.clock.moves(records[-1].sequence if records else 0))
    title, moments = times_of(records, clock)
    revisions = [record.revision for record in records]
    if by == "time":
        return PlottedCommits(node, revisions, moments, moments, title)
    places = run_blocking(occurrences(runtime.log, records))
    return PlottedCommits(node, revisions, moments, places, "when it occurred, UTC")


class SpacePlots(SpacePart):
    """The part of a space that plots values over time."""

    def plot(
        self, lines: Mapping[str, tuple[str | Node, Selector]], *, x: str = "time", together: bool = True
    ) -> Figure:
        """Draw values of several nodes over time in one figure.

        Parameters
        ----------
        lines : mapping of str to (node, path or callable)
            The title of each line, with its node and the part of the node's state. The node may belong to
            another space, such as a fork, so that you can compare two runs.
        x : "time" or "occurred"
            Place the values by the time of storage, by the clock of the space, or by the event time of the
            commit's cause.
        together : bool, optional
            Draw all numbers in one row, with a legend. Other values have rows of their own.

        Returns
        -------
        plotly.graph_objects.Figure

        Raises
        ------
        UnknownNodeError
            A node does not exist.

        Examples
        --------
        >>> commits = orders.state.set({"open": 2}), inventory.state.set({"stock": 7})
        >>> figure = space.plot({"open": ("orders", "open"), "stock": ("inventory", "stock")})
        >>> [line.name for line in figure.data]
        ['open', 'stock']

        >>> what_if = space.fork("what-if")
        >>> commit = what_if.create_node("orders").state.set({"open": 5})
        >>> figure = space.plot({"now": (orders, "open"), "what if": (what_if.nodes["orders"], "open")})
        >>> [line.y[-1] for line in figure.data]
        [2, 5]
        >>> what_if.drop()
        """
        from happen_nb._display.plots.history_plot import PlottedLine, plot_of_nodes

        if x not in {"time", "occurred"}:
            raise refusal(ValueError, f'plot: x is {quote(x)}; pass "time" or "occurred"')
        drawn, known = [], {}
        sources = sources_of_space(self._space, lines, "space.plot", others=True)
        for source, (node, _) in zip(sources, lines.values(), strict=True):
            runtime = runtime_of(node.space) if isinstance(node, Node) else self._runtime
            if (runtime, source.node) not in known:
                records = read_commits_of(runtime, source.node)
                known[runtime, source.node] = records, _plotted(runtime, source.node, records, x)
            records, commits = known[runtime, source.node]
            drawn.append(PlottedLine(source.name, list(map(source.value, records)), commits))
        return plot_of_nodes(self.name, drawn, together=together)

    def live_plot(
        self,
        lines: Mapping[str, tuple[str | Node, Selector]],
        *,
        window: str | float | timedelta | None = None,
        together: bool = True,
    ) -> LivePlot:
        """Draw values of several nodes over time in a widget that follows every commit.

        Parameters
        ----------
        lines : mapping of str to (node, path or callable)
            The lines, as for `plot`.
        window : str, float or timedelta, optional
            Show only the last ``"1min"``, or a number of seconds, as for ``state.live_plot``.
        together : bool, optional
            Draw all numbers in one row, with a legend. Other values have rows of their own.

        Returns
        -------
        LivePlot
            An ipywidget.

        Examples
        --------
        >>> commits = orders.state.set({"open": 2}), inventory.state.set({"stock": 7})
        >>> lines = {"open": ("orders", "open"), "stock": (inventory, "stock")}
        >>> plot = space.live_plot(lines, window="1min")
        >>> plot.stop()
        """
        from happen_nb._widgets.live_plot import LivePlot

        space = self._space
        sources = sources_of_space(space, lines, "space.live_plot")
        return LivePlot(space, space.name, sources, window, together=together)
