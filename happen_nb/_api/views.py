"""Follow the states of all nodes, in every process: read-only views, and callbacks of commits."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Never

from happen_nb._api.base import Displayable, shown_by, unknown_node
from happen_nb._api.failures import Failure
from happen_nb._api.history import Commit, arrived
from happen_nb._frames import refusal
from happen_nb._model.functions import check_takes, is_lazy_function, lazy_kind, own_name
from happen_nb._model.paths import MISSING, Selector, select
from happen_nb._model.positions import LAST_INDEX, Position
from happen_nb._model.quoting import quote
from happen_nb._model.records import EMPTY, CommitRecord, Cut
from happen_nb._runtime import causes
from happen_nb._runtime.cells import cells
from happen_nb._runtime.in_flight import NamedWork
from happen_nb._runtime.mailbox import Mailbox
from happen_nb._runtime.redirect import Redirected, instead_of
from happen_nb._runtime.runtime import Runtime, Watcher
from happen_nb._runtime.workers import NEXT
from happen_nb.errors import UnknownNodeError

if TYPE_CHECKING:
    from datetime import timedelta

    from happen_nb._api.node import Node
    from happen_nb._api.space import Space
    from happen_nb._api.state import State
    from happen_nb._model.frozen import FrozenDict
    from happen_nb._model.orders import Choice
    from happen_nb._runtime.replica import Applied
    from happen_nb._widgets.live import Live
    from happen_nb._widgets.live_plot import LivePlot


class Followed(Displayable):
    """The state of a node, which widgets can follow: the base of `State` and `View`."""

    _advice = '; get("{}") reads a value of the state'

    @property
    def _followed(self) -> tuple[Space, str, State | View]:
        """The space, the node, and a function that reads its newest state."""
        raise NotImplementedError

    def live(
        self, selector: Selector | None = None, *, render: Callable[[Any], object] | None = None
    ) -> Live:
        """Show the state in a widget that follows every commit, from any process.

        Parameters
        ----------
        selector : callable or path, optional
            Show only the selected part. A missing part is shown as None, with a hint such as "nothing at tmp;
            there is temp".
        render : callable, optional
            ``render(value)`` returns text, or any object that a notebook can display. A plotly figure is
            updated in place and keeps its zoom. An error is added to ``space.failures`` and shown instead of
            the value.

        Returns
        -------
        Live
            An ipywidget, updated until its cell runs again or ``.stop()`` is called.

        Examples
        --------
        >>> commit = orders.state.set({"open": 2})
        >>> orders.state.live("open")
        2
        """
        from happen_nb._widgets.live import Live

        return Live(*self._followed, selector, render)

    def live_plot(
        self,
        /,
        *selectors: Selector,
        window: str | float | timedelta | None = None,
        together: bool = False,
        **named: Selector,
    ) -> LivePlot:
        """Draw values over time in a widget that follows every commit, from any process.

        Numbers are drawn as steps, other values as bands. Drag to zoom, double-click to follow again; the
        arrow keys show the values at each change. The zoom stays while new values arrive.

        Parameters
        ----------
        *selectors, **named : path or callable
            The values to draw, one line each, named by path, function or keyword; by default the plain values
            at the top level of the state. A missing value leaves a gap.
        window : str, float or timedelta, optional
            Show only the last ``"30s"``, ``"1min"`` or ``"2h"``, or a number of seconds, by the clock of the
            space. By default, show everything that is stored, and what is added.
        together : bool, optional
            Draw all numbers in one row, with a legend. Other values keep rows of their own.

        Returns
        -------
        LivePlot
            An ipywidget, updated at most ten times a second until its cell runs again or ``.stop()`` is
            called.

        Examples
        --------
        >>> commit = orders.state.set({"open": 2})
        >>> orders.state.live_plot("open", window="1min")
        Live plot of orders
          open  2
        """
        from happen_nb._widgets.live_plot import live_plot_of_node

        return live_plot_of_node(*self._followed, selectors, named, window, together=together)


class View(Followed):
    """A read-only view of one node's state.

    Examples
    --------
    >>> commit = orders.state.set({"o1": {"status": "open"}})
    >>> space.views.orders.get("o1.status")
    'open'
    """

    _page = shown_by("reprs_state.view_page")
    _pickle = "pickle view.get()"

    _space = Redirected["Space"]()
    _states = Redirected["NodeStates"]()

    def __init__(self, name: str, space: Space, states: NodeStates) -> None:
        self.name = name
        self._space = space
        self._states = states

    def __setattr__(self, name: str, value: Never) -> None:
        if not name.startswith("_") and "name" in vars(self):
            raise AttributeError(
                f'views.{self.name}.{name} is read-only; commit a change with create_node("{self.name}").'
                f'state.set(happen.put("{name}", value))'
            )
        super().__setattr__(name, value)

    def get(self, selector: Selector | None = None) -> Any:
        """Return the frozen state, or the selected part of it.

        Parameters
        ----------
        selector : callable or path, optional
            A function of the state, or a path like ``"orders.o1.status"``; a missing path gives None.
        """
        return select(self._states.state(self.name), selector)

    @property
    def revision(self) -> int:
        """The number of the node's commits so far."""
        record = self._states.record(self.name)
        return record.revision if record else 0

    @property
    def _followed(self) -> tuple[Space, str, View]:
        return self._space, self.name, View(self.name, self._space, self._states.newest())


class Views(Displayable, Mapping[str, View]):
    """A mapping of node names to `View`, for every node of the space in every process.

    ``space.views`` always shows the newest states; the views in a transform show one snapshot. Nodes are also
    attributes, where ``_`` matches ``-`` too: ``views.customer_service``. A node with the name of a mapping
    method, such as ``items``, is available as ``views["items"]`` only.
    """

    _page = shown_by("reprs_state.views_page")
    _pickle = "pickle views.collect(...)"

    _space = Redirected["Space"]()
    _states = Redirected["NodeStates"]()

    def __init__(self, space: Space, states: NodeStates) -> None:
        self._space = space
        self._states = states

    @property
    def space(self) -> Space:
        """The space of the nodes."""
        return self._space

    def collect(self, selectors: Mapping[str, Selector], *, default: Any = MISSING) -> dict[str, Any]:
        """Read several nodes from one consistent snapshot.

        Parameters
        ----------
        selectors : mapping of str to callable or path
            Node name -> function of that node's frozen state, or a path.
        default : optional
            Value for a node that does not exist; without it, a missing node is an error.

        Returns
        -------
        dict
            Node name -> the value that its selector returned.

        Raises
        ------
        UnknownNodeError
            A node does not exist and there is no default.

        Examples
        --------
        >>> commit = inventory.state.set({"stock": 7})
        >>> orders.space.views.collect({"inventory": lambda s: s["stock"]})
        {'inventory': 7}
        """
        if not isinstance(selectors, Mapping):
            raise refusal(
                TypeError,
                f"collect: selectors is {quote(selectors)}; pass a mapping of names to functions or paths",
            )
        return self._states.snapshot().collect(selectors, default)

    def __getitem__(self, name: str) -> View:
        found = self._states.find(name)
        if found is None:
            raise self._states.unknown(name)
        return View(found, self._space, self._states)

    def __getattr__(self, name: str) -> View:
        if name.startswith("_"):
            raise AttributeError(name)
        return self[name]

    def __setattr__(self, name: str, value: Never) -> None:
        if not name.startswith("_"):
            raise refusal(
                AttributeError,
                f"views.{name} is read-only; commit a change of a node with create_node(name).state.set(...)",
            )
        super().__setattr__(name, value)

    def __iter__(self) -> Iterator[str]:
        names = self._states.names()
        self._states.viewed.update(names)
        return iter(names)

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._states.exists(name)

    def __dir__(self) -> list[str]:
        names = [name.replace("-", "_") for name in self._states.names()]
        return [*super().__dir__(), *(name for name in names if name.isidentifier())]

    def _ipython_key_completions_(self) -> list[str]:
        return self._states.names()


def space_of_view(view: View) -> Space:
    return view._space


def find_view(views: Views, name: str) -> View | None:
    """Return the view that a name denotes; None if there is no such node."""
    found = views._states.find(name)
    return None if found is None else views[found]


class NodeStates:
    """The newest states of all nodes, or those of a snapshot; notes which nodes were viewed."""

    _runtime = Redirected["Runtime"]()

    def __init__(self, runtime: Runtime, cut: Cut | None = None) -> None:
        self.viewed: set[str] = set()
        self._runtime = runtime
        self._cut = cut

    def snapshot(self) -> NodeStates:
        """Return these states if they are a snapshot, or else a snapshot of the newest ones."""
        return self if self._cut is not None else NodeStates(self._runtime, self._runtime.log.replica.cut())

    def newest(self) -> NodeStates:
        return NodeStates(self._runtime)

    def collect(self, selectors: Mapping[str, Selector], default: Any) -> dict[str, Any]:
        """Return the selected part of each node; a missing node has the default, or is an error."""
        collected = {}
        for asked, selector in selectors.items():
            record = self.record(asked)
            if record is not None and not record.deleted:
                collected[asked] = select(record.state, selector)
                continue
            name = self.find(asked)
            if name is None and default is MISSING:
                raise self.unknown(asked)
            collected[asked] = default if name is None else select(self.state(name), selector)
        return collected

    def record(self, name: str) -> CommitRecord | None:
        self.viewed.add(name)
        if self._cut is None:
            return self._runtime.log.replica.look(name)
        return self._cut.nodes.get(name)

    def state(self, name: str) -> FrozenDict:
        record = self.record(name)
        if record is not None and not record.deleted:
            return record.state
        if self.exists(name):
            return EMPTY
        raise self.unknown(name)

    def exists(self, name: str) -> bool:
        record = self.record(name)
        if (record is not None and not record.deleted) or self._runtime.local.holds(name, record):
            return True
        return self._runtime.checked.ownership.is_owned(name, record)

    def find(self, name: str) -> str | None:
        """Return the name of the node that a name, or an attribute with ``_`` for ``-``, denotes."""
        if not isinstance(name, str):
            raise refusal(TypeError, f"views: {quote(name)} is not the name of a node; names are strings")
        if self.exists(name):
            return name
        if "_" in name:
            alike = [other for other in self.names() if other.replace("-", "_") == name]
            return alike[0] if len(alike) == 1 else None
        return None

    def names(self) -> list[str]:
        records = self._runtime.log.replica.cut().nodes if self._cut is None else self._cut.nodes
        names = {name for name, record in records.items() if not record.deleted}
        local = self._runtime.local
        names |= {name for name in local if local.holds(name, records.get(name))}
        ownership = self._runtime.ownership
        names.update(name for name in ownership.names() if ownership.is_owned(name, records.get(name)))
        return sorted(names)

    def unknown(self, name: str) -> UnknownNodeError:
        return unknown_node(name, self.names(), f'the space "{self._runtime.space}"')


class Watch(Displayable):
    """A callback that is called with each commit of a node; made by ``state.watch``.

    Attributes
    ----------
    node : Node
        The node that it follows.
    callback : callable
        The function of a `Commit`.
    active : bool
        True until it is stopped.
    """

    _page = shown_by("reprs_state.watch_page")
    _pickle = "call state.watch() in the other process"

    def __init__(
        self,
        node: Node,
        callback: Callable[[Commit], object],
        runtime: Runtime,
        context: contextvars.Context | None = None,
    ) -> None:
        if not callable(callback):
            raise refusal(TypeError, f"watch: {quote(callback)} is not callable; pass a function of a commit")
        if is_lazy_function(callback):
            raise refusal(
                TypeError, f"watch: {quote(callback)} would never run; pass a plain function of a commit"
            )
        check_takes(callback, "watch: the callback", 1, [], "a commit")
        self.node = node
        self.callback = callback
        self.name = own_name(callback)
        self._runtime = runtime.checked
        self._context = contextvars.copy_context() if context is None else context
        self._mailbox = Mailbox(runtime.workers)
        self._watcher = Watcher(node.name, self._take, self)
        runtime.watchers.add(self._watcher)
        cells.register(self.stop)

    @property
    def active(self) -> bool:
        return self._watcher.active

    def stop(self) -> None:
        """Stop calling the callback."""
        watch = instead_of(self)
        runtime = watch._runtime
        if instead_of(runtime) is runtime:  # else a fork stops what it does not have
            runtime.watchers.remove(watch._watcher)

    def _take(self, applied: Applied) -> None:
        commit, scope = arrived(applied, self._runtime), causes.scope_of_commit(applied.record, self.name)
        activity = self._runtime.in_flight
        correlation = scope.origin.correlation or ""
        token = NamedWork(correlation, lambda: f"{self.name}, {self._watching}", scope.origin)
        activity.start(token)

        def work() -> None:
            try:
                if not self._watcher.is_dropped:
                    context = self._context.copy()
                    context.run(causes.enter, scope, self._runtime.dispatcher.redirect)
                    scope.join(self._mailbox.run)
                    with scope.held():
                        context.run(self._call, commit)
            finally:
                activity.finish(token)

        position = applied.record.sequence, LAST_INDEX
        self._mailbox.put(work, NEXT, lambda: self._begins(position, scope.origin.cause))

    def _begins(self, position: Position, cause: str | None) -> Choice:
        """Return what a conductor chooses when the callback begins."""
        from happen_nb._model.orders import Choice

        return Choice(self.node.name, "begin", None, self.name, position, cause=cause)

    @property
    def _watching(self) -> str:
        return f'watching "{self.node.name}"'

    def _call(self, commit: Commit) -> None:
        try:
            if (kind := lazy_kind(self.callback(commit))) is not None:
                raise refusal(
                    TypeError, f"watch: the callback returned {kind}, which never runs; pass a plain function"
                )
        except BaseException as error:  # nothing that a callback raises may end the worker
            failures = self.node.space.failures
            again = partial(self.callback, commit)
            failures.add(Failure(self.node.name, self.name, self._watching, commit, error, again))
