"""The re-run rule: registrations belong to the run of the cell that made them.

When a cell runs again, the registrations of its last run are removed first. The front end's cell id
identifies a cell, or else its source. What an asyncio task registers belongs to the run that has started the
task, also after the end of the cell. Within one run, in a script, and from other threads, all registrations
stay. Those of the body of an imported module belong to the module, until it is reloaded.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from happen_nb._frames import shell

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import FrameType


MODULE: Final = "module "
_started_by: ContextVar[tuple[str, object] | None] = ContextVar("started_by", default=None)
"""The cell that has started this code, and its run; tasks inherit it."""


class Cells:
    """The registrations of each cell's newest run."""

    def __init__(self) -> None:
        self._registered: dict[str, list[Callable[[], object]]] = {}
        self._unregistered: dict[str, list[object]] = {}
        self._newest: dict[str, object] = {}
        """The newest run of each cell."""
        self._modules: dict[str, ModuleSpec] = {}
        self._cell: str | None = None
        self._request: str | None = None
        self._depth = 0
        self.run: object = None  # the current run of a cell; None outside of cells
        self._thread = threading.main_thread()
        self._hooked: Any = None
        self._followers: list[Callable[[int], object]] = []
        self._removed = 0
        self.gone: list[object] = []
        """The registrations that earlier runs of the current cell have made or ended."""

    def start(self, cell: str, *, request: str | None = None) -> None:
        """Start a run of `cell`, by a `request` of the front end: remove its last run's registrations."""
        # A cell that a cell runs, as ``%%capture`` does, is a part of the outer one.
        if self._depth and request == self._request:
            self._depth += 1
            return
        self.gone = self._unregistered.pop(cell, [])
        self._removed = self._remove(cell)
        self._cell, self.run = cell, object()
        self._newest[cell] = self.run
        _started_by.set((cell, self.run))
        self._request, self._depth = request, 1

    def end(self) -> None:
        """End the run; call the followers."""
        self._depth = max(0, self._depth - 1)
        if self._depth or self._cell is None:
            return
        replaced = min(self._removed, len(self._registered.get(self._cell, ())))
        self._cell = self.run = None
        _started_by.set(None)
        self.gone = []
        for follower in list(self._followers):
            follower(replaced)

    def on_run_end(self, follower: Callable[[int], object]) -> Callable[[], None]:
        """Call `follower` at the end of each run of a cell; return a function that ends this.

        Its argument is the number of registrations of the last run that were replaced.
        """
        self.follow_runs()
        self._followers.append(follower)
        return lambda: self._followers.remove(follower)

    def current_run(self) -> object:
        """Return the current run of a cell or of a module's body; None elsewhere, and in other threads."""
        return self._place()[1]

    def run_name(self) -> str:
        """Return the name of the current run as in a notebook: ``In [3]``; empty if there is none."""
        place, run = self._place()
        if place is None or place.startswith(MODULE):
            return place or ""
        if run is not self.run:
            return "a task"
        # Whether the shell's counter is already that of the next cell depends on the version of IPython.
        inputs = getattr(getattr(shell(), "history_manager", None), "input_hist_raw", None)
        return f"In [{len(inputs) - 1 if inputs else '?'}]"

    def register(self, stop: Callable[[], object]) -> None:
        """Call `stop` when the current cell is run again."""
        place, _ = self._place()
        if place is not None:
            self._registered.setdefault(place, []).append(stop)

    def note_gone(self, what: object) -> None:
        """Put something in `gone` when the current cell is run again."""
        place, _ = self._place()
        if place is not None and place == self._cell:
            self._unregistered.setdefault(place, []).append(what)

    def _place(self) -> tuple[str | None, object]:
        """Return the cell or module that registers, and its run."""
        self.follow_runs()
        body = _module_body()
        if body is not None:
            module: ModuleSpec = body.f_globals["__spec__"]
            place = f"{MODULE}{module.name}"
            if self._modules.setdefault(place, module) is not module:  # a reload makes a new one
                self._modules[place] = module
                self._remove(place)
            return place, body.f_code
        if threading.current_thread() is not self._thread:
            return None, None
        cell, run = _started_by.get() or (self._cell, self.run)
        if cell is None or run is not self._newest[cell]:  # a task of an earlier run of the cell
            return None, None
        return cell, run

    def _remove(self, place: str) -> int:
        registered = self._registered.pop(place, [])
        for stop in registered:
            stop()
        return len(registered)

    def follow_runs(self) -> None:
        """Follow the runs of cells from now on, if there are any; the current one has started already."""
        here = shell()
        if here is None or here is self._hooked:
            return
        self._hooked = here
        here.events.register("pre_run_cell", self._begin)
        here.events.register("post_run_cell", lambda _: self.end())
        request = _request(here)
        source = request["content"].get("code") if request else _newest_input(here)
        if source:
            self._started(request.get("metadata", {}).get("cellId"), source, request)

    def _begin(self, info: Any) -> None:
        self._started(info.cell_id, info.raw_cell, _request(shell()))

    def _started(self, cell_id: str | None, source: str | None, request: dict[str, Any]) -> None:
        cell = cell_id or hashlib.sha256((source or "").encode()).hexdigest()
        id = request["header"]["msg_id"] if request else None
        self.start(cell, request=id)


def _request(here: Any) -> dict[str, Any]:
    """Return the front end's request that is being executed; empty in a terminal."""
    return here.get_parent() if hasattr(here, "get_parent") else {}


def _module_body() -> FrameType | None:
    """Return the frame of the module's body that calls this, unless that is the program or a cell."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code.co_name != "<module>":
        frame = frame.f_back
    if frame is None or frame.f_globals.get("__name__") == "__main__":
        return None
    return frame if frame.f_globals.get("__spec__") is not None else None


def _newest_input(terminal: Any) -> str:
    """Return the newest input of a terminal, which runs now; empty if it runs a script."""
    return str(getattr(terminal.history_manager, "input_hist_raw", [""])[-1])


def current_request() -> str | None:
    """Return the id of the request that output belongs to here, in any thread; None without cells."""
    kernel = shell()
    parent = kernel.get_parent() if hasattr(kernel, "get_parent") else None
    return str(parent["header"]["msg_id"]) if parent else None


def notice(text: str) -> None:
    """Print a line: in a notebook as plain output, else to stderr."""
    stream = sys.stderr if shell() is None else sys.stdout
    stream.write(f"{text}\n")


cells = Cells()
