"""The re-run rule: what a cell registers belongs to that run of the cell.

When a cell runs again, what its last run registered is taken off first. A cell is known by the front
end's cell id, or else by its source. Within one run, in a script, and from other threads, all stay.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class Cells:
    """What each cell's newest run registered."""

    def __init__(self) -> None:
        self._registered: dict[str, list[Callable[[], object]]] = {}
        self._cell: str | None = None
        self._depth = 0
        self.run: object = None
        """The run of a cell that this is; None outside of cells."""
        self.identified = False
        """Whether the front end tells one cell from another."""
        self._thread = threading.main_thread()
        self._hooked: Any = None

    def begin(self, cell: str, *, identified: bool = False) -> None:
        """A run of `cell` begins: take off what its last run registered.

        A cell that a cell runs, as ``%%capture`` does, is a part of the outer one.
        """
        self._depth += 1
        if self._depth > 1:
            return
        for stop in self._registered.pop(cell, []):
            stop()
        self._cell, self.run, self.identified = cell, object(), identified

    def end(self) -> None:
        """The run has ended: nothing registered from now on belongs to it."""
        self._depth = max(0, self._depth - 1)
        if not self._depth:
            self._cell = self.run = None

    def here(self) -> object:
        """The run of a cell that this is; None outside of cells, and in other threads."""
        self._hook()
        return self.run if threading.current_thread() is self._thread else None

    def register(self, stop: Callable[[], object]) -> None:
        """Call `stop` when the cell that runs now is run again."""
        self._hook()
        if self._cell is not None and threading.current_thread() is self._thread:
            self._registered.setdefault(self._cell, []).append(stop)

    def _hook(self) -> None:
        """Follow the runs of cells, where there are cells; the running one has begun already."""
        shell = _shell()
        if shell is None or shell is self._hooked:
            return
        self._hooked = shell
        shell.events.register("pre_run_cell", self._begin)
        shell.events.register("post_run_cell", lambda _: self.end())
        parent = getattr(shell, "parent_header", None) or {}
        if getattr(shell, "kernel", None) is not None and parent.get("content", {}).get("code"):
            cell_id = parent.get("metadata", {}).get("cellId")
            self.begin(_key(cell_id, parent["content"]["code"]), identified=bool(cell_id))

    def _begin(self, info: Any) -> None:
        self.begin(_key(info.cell_id, info.raw_cell), identified=bool(info.cell_id))


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None else None


def _key(cell_id: str | None, source: str | None) -> str:
    return cell_id or hashlib.sha256((source or "").encode()).hexdigest()


cells = Cells()
