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
from happen_nb._runtime.effects import NamedWork
from happen_nb._runtime.runtime import Watcher
from happen_nb._runtime.workers import Mailbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from happen_nb._api.node import Node
    from happen_nb._runtime.replica import Applied
    from happen_nb._runtime.runtime import Runtime


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

    def __init__(self, node: Node, callback: Callable[[Commit], object], runtime: Runtime) -> None:
        if not callable(callback):
            raise TypeError(f"watch: {callback!r} is not callable; give a function of a commit")
        if inspect.iscoroutinefunction(callback) or inspect.isgeneratorfunction(callback):
            raise TypeError(f"watch: {callback!r} would never run; give a plain function of a commit")
        self.node = node
        self.callback = callback
        self.name = getattr(callback, "__qualname__", type(callback).__name__)
        self._runtime = runtime.checked
        self._context = contextvars.copy_context()
        self._mailbox = Mailbox(runtime.workers)
        self._watcher = Watcher(node.name, self._take)
        runtime.watchers.add(self._watcher)
        cells.register(self.stop)

    @property
    def active(self) -> bool:
        return self._watcher.active

    def stop(self) -> None:
        """Stop calling the callback."""
        self._runtime.watchers.remove(self._watcher)

    def _take(self, applied: Applied) -> None:
        commit, scope = Commit(*applied), causes.scope_of_commit(applied.record, self.name)
        activity = self._runtime.in_flight
        correlation = scope.origin.correlation or ""
        token = NamedWork(correlation, lambda: f"{self.name}, {self._watching}", scope.origin)
        activity.start(token)

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
