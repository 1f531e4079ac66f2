"""Callbacks that follow the commits of a node."""

from __future__ import annotations

import contextvars
import inspect
from functools import partial
from typing import TYPE_CHECKING

from happen_nb._api.base import Displayable
from happen_nb._api.failures import Failure
from happen_nb._api.history import Commit
from happen_nb._display.reprs_state import watch_page
from happen_nb._runtime import causes
from happen_nb._runtime.cells import cells
from happen_nb._runtime.io import io_thread
from happen_nb._runtime.workers import Mailbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from happen_nb._api.node import Node
    from happen_nb._api.space import Space
    from happen_nb._runtime.replica import Applied


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

    _page = watch_page
    _pickle = "call state.watch() in the other process"

    def __init__(self, node: Node, callback: Callable[[Commit], object]) -> None:
        if not callable(callback):
            raise TypeError(f"watch: {callback!r} is not callable; give a function of a commit")
        if inspect.iscoroutinefunction(callback) or inspect.isgeneratorfunction(callback):
            raise TypeError(f"watch: {callback!r} would never run; give a plain function of a commit")
        self.node = node
        self.callback = callback
        self.name = getattr(callback, "__qualname__", type(callback).__name__)
        self.active = True
        self._context = contextvars.copy_context()
        self._mailbox = Mailbox(node.space._runtime.workers)
        node.space._watches.add(self)
        cells.register(self.stop)

    def stop(self) -> None:
        """Stop calling the callback."""
        self.active = False
        self.node.space._watches.remove(self)

    def _take(self, applied: Applied) -> None:
        commit, scope = Commit(*applied), causes.scope_of_commit(applied.record, self.name)
        activity = self.node.space._runtime.in_flight
        token = activity.start(scope.origin.correlation or "", lambda: f"{self.name}, {self._watching}")

        def work() -> None:
            try:
                if self.active:
                    context = self._context.copy()
                    context.run(causes.enter, scope)
                    with scope.held():
                        context.run(self._call, commit)
            finally:
                activity.finish(token)

        self._mailbox.put(work)

    @property
    def _watching(self) -> str:
        return f'watching "{self.node.name}"'

    def _call(self, commit: Commit) -> None:
        try:
            self.callback(commit)
        except BaseException as error:  # nothing that a callback raises may end the worker
            failures = self.node.space.failures
            again = partial(self.callback, commit)
            failures.add(Failure(self.node.name, self.name, self._watching, commit, error, again))


class Watches:
    """The active watches of a space, by node."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self._watches: dict[str, list[Watch]] = {}
        io_thread().call_soon(space._log.replica.on_commit.connect, self._on_commit)

    def _on_commit(self, applied: Applied) -> None:
        """Hand a commit to the watches of its node. On the IO thread."""
        for watch in self._watches.get(applied.record.node, ()):
            watch._take(applied)

    def add(self, watch: Watch) -> None:
        """Start a watch, unless the space is closed."""
        self._space._check_open()
        name = watch.node.name
        self._watches[name] = [*self._watches.get(name, ()), watch]

    def remove(self, watch: Watch) -> None:
        """Stop a watch."""
        name = watch.node.name
        self._watches[name] = [other for other in self._watches.get(name, ()) if other is not watch]

    def stop(self, node: str | None = None) -> None:
        """Stop the watches of a node, or all of them."""
        for name in list(self._watches) if node is None else [node]:
            for watch in self._watches.pop(name, ()):
                watch.active = False
