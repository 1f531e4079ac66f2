"""Callbacks that follow a node's commits."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING

from happen_nb.commits import Commit
from happen_nb.failures import Failure
from happen_nb.runtime.cells import cells
from happen_nb.runtime.mailbox import Mailbox
from happen_nb.shown import Shown

if TYPE_CHECKING:
    from collections.abc import Callable

    from happen_nb.node import Node
    from happen_nb.runtime.replica import Applied


running: contextvars.ContextVar[Watch | None] = contextvars.ContextVar("running", default=None)
"""The watch whose callback runs in this context."""


class Watch(Shown, kind="watch"):
    """A callback that is called with each commit of a node; made by ``state.watch``.

    Attributes
    ----------
    node : Node
    callback : callable
    active : bool
        Whether it is still called.
    """

    def __init__(self, node: Node, callback: Callable[[Commit], object]) -> None:
        if not callable(callback):
            raise TypeError(f"watch: {callback!r} is not callable; give a function of a commit")
        self.node = node
        self.callback = callback
        self.name = getattr(callback, "__qualname__", type(callback).__name__)
        self.active = True
        self._context = contextvars.copy_context()
        self._mailbox = Mailbox(node.space._workers)
        node.space._watch(self)
        cells.register(self.stop)

    def stop(self) -> None:
        """Call it no longer."""
        self.active = False
        self._mailbox.empty()
        self.node.space._unwatch(self)

    @property
    def busy(self) -> bool:
        """Whether it is called now, or about to be."""
        return self._mailbox.busy

    def _take(self, applied: Applied) -> None:
        commit = Commit(*applied)
        self._mailbox.put(lambda: self._context.copy().run(self._call, commit))

    def _call(self, commit: Commit) -> None:
        if not self.active:
            return
        token = running.set(self)
        try:
            self.callback(commit)
        except BaseException as error:  # nothing that a callback raises may end the worker
            failures = self.node.space.failures
            failures.add(Failure(self.node.name, self.name, commit, error, lambda: self.callback(commit)))
        finally:
            running.reset(token)
