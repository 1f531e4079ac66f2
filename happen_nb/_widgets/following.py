"""The parts that widgets share: scripts and styles, updates at a limited rate, and static fallbacks.

A widget lives only as long as its kernel. So each is displayed by two outputs: a static one, and below it the
widget. The style of the static fallback hides it while the widget is alive, and afterwards hides the front
end's error in place of the widget.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from happen_nb._api.base import runtime_of
from happen_nb._display import resource
from happen_nb._display.live_output import Picture, beside_widget, publisher
from happen_nb._display.page import style
from happen_nb._display.plots import COLOUR_VARIABLES
from happen_nb._runtime.cells import cells
from happen_nb._runtime.io import io_thread
from happen_nb.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ipywidgets import DOMWidget

    from happen_nb._api.space import Space
    from happen_nb._runtime.log import Log


_log = logging.getLogger("happen_nb")

INTERVAL_SECONDS = 0.1
SNAPSHOT_INTERVAL_SECONDS = 1.0  # between two updates of the output in the notebook file
RECHECK_SECONDS = 1.0  # after which `changed` is asked even if nothing was stored
FINISH_SECONDS = 1.0  # that closing a space waits for the last update
CLOSED: Final = "hn-closed"  # the CSS class of a widget whose space is closed
_STATIC: Final = "_widgets/static/"
_VIEW: Final = "application/vnd.jupyter.widget-view+json"


def styles(*names: str) -> str:
    """Read the stylesheets of a widget, and put before them that of displays and what all widgets share."""
    own = "".join(resource(f"{_STATIC}{name}.css") for name in ("controls", *names))
    return f"{style()}.happen{{{COLOUR_VARIABLES}}}{own}"


def script(*names: str) -> str:
    """Read the parts of a widget's script, and put before them what all share."""
    own = (resource(f"{_STATIC}{name}.js") for name in ("elements", *names))
    return "\n".join([resource("_display/dom.js"), *own])


class Throttle:
    """Calls `update` after changes: at most every `interval` seconds, and always after the last change.

    Calls never overlap. They run on a worker thread of the space, in a copy of the context in which the
    throttle was created, so that their output appears under that cell. Without changes, no thread is used. A
    `ClosedError` stops the throttle. Any other exception is logged, and the next change calls `update` again.
    """

    def __init__(
        self, space: Space, update: Callable[[], object], interval: float = INTERVAL_SECONDS
    ) -> None:
        self._runtime = runtime_of(space)
        self._update = update
        self._interval = interval
        self._context = contextvars.copy_context()
        self._updating = threading.Lock()
        self._changed: Callable[[], bool] = lambda: False
        self._is_triggered = False
        self._is_running = False
        self._stopped = threading.Event()
        self._started_at: float | None = None  # of the running call, on the monotonic clock
        self._disconnect = self._runtime.on_closing.connect(self.finish)

    def trigger(self) -> None:
        """Request an update. Never waits; call it from any thread."""
        self._is_triggered = True
        io_thread().call_soon(self._start)

    def follow(self, changed: Callable[[], bool]) -> None:
        """Trigger whenever something is stored in the space and ``changed()`` is true.

        It runs on the IO thread, so it may only compare.
        """
        log = self._runtime.log
        self._changed = changed
        io_thread().call_soon(lambda: log.background(self._follow(log)))

    def update_now(self, timeout: float, *, last: bool = False) -> None:
        """Update in a thread, and wait up to `timeout` seconds: a user's function may never return."""
        run = contextvars.copy_context().run
        name, options = "happen_nb-throttle", {"last": last}
        thread = threading.Thread(target=run, args=(self._call,), kwargs=options, name=name, daemon=True)
        thread.start()
        thread.join(timeout)

    def stop(self) -> None:
        """Start no further updates; a running one may still finish."""
        self._stopped.set()
        self._disconnect()

    def finish(self) -> None:
        """Make the last update if one is due, and stop: the space closes.

        It runs in the context of the caller, so its output belongs to the cell that closes the space.
        """
        started = self._started_at
        if started is None or time.monotonic() - started < FINISH_SECONDS:
            self.update_now(FINISH_SECONDS, last=True)
        self.stop()

    @property
    def stopped(self) -> bool:
        return self._stopped.is_set()

    def _start(self) -> None:
        if self._is_triggered and self._is_active and not self._is_running:
            self._is_running = True
            self._runtime.workers.submit(self._run)

    def _run(self) -> None:
        # It may never return, and handlers need the threads, and their turns on a manual clock.
        with self._runtime.workers.blocked("to all"):
            while self._next():
                self._context.copy().run(self._call)
                self._stopped.wait(self._interval)
        io_thread().call_soon(self._end)

    def _next(self) -> bool:
        if not (self._is_triggered and self._is_active):
            return False
        self._is_triggered = False
        return True

    def _end(self) -> None:
        self._is_running = False
        self._start()  # it may have been triggered just now

    def _call(self, *, last: bool = False) -> None:
        with self._updating:
            if self.stopped or (last and not (self._is_triggered or self._changed())):
                return
            self._started_at = time.monotonic()
            try:
                self._update()
            except ClosedError:
                self.stop()
            except BaseException:  # the thread serves others too
                _log.exception("an update of a display failed; the next change updates it again")
            finally:
                self._started_at = None

    @property
    def _is_active(self) -> bool:
        return not (self.stopped or self._runtime.is_closing)  # while the space closes, only `finish` updates

    async def _follow(self, log: Log) -> None:
        # At most one check every `interval` seconds, however much is stored in between.
        replica = log.replica
        while not self.stopped:
            seen = replica.position
            if self._changed():
                self.trigger()
            await asyncio.sleep(self._interval)
            await replica.reached(seen + 1, RECHECK_SECONDS)


# -- static fallbacks ----------------------------------------------------------------------------------


class StaticFallback(Throttle):
    """The static fallbacks of one widget, updated at most once a second and when the space closes.

    `picture` returns what the widget shows now.
    """

    def __init__(
        self, space: Space, picture: Callable[[], Picture], interval: float = SNAPSHOT_INTERVAL_SECONDS
    ) -> None:
        super().__init__(space, self.update, interval)
        # At the end in any case: without a front end, a notebook keeps only the updates of the running cell.
        self._changed = lambda: True
        self._picture = picture
        self._display_ids: list[str] = []

    def show(self, widget: DOMWidget) -> None:
        """Display the static fallback, and below it the widget, below the current cell.

        A NotImplementedError is raised outside a notebook: IPython then displays the object in its usual way.
        """
        where = publisher()
        if where is None:
            raise NotImplementedError
        display_id = os.urandom(16).hex()
        picture = beside_widget(self._picture(), is_fallback=True)
        where.publish(picture, transient={"display_id": display_id}, update=False)
        show_widget(widget)
        self._display_ids.append(display_id)
        cells.register(lambda: self._display_ids.remove(display_id))

    def update(self) -> None:
        """Show the current picture in the static fallbacks."""
        where = publisher()
        if where is None:
            return
        picture = beside_widget(self._picture(), is_fallback=True)
        for display_id in list(self._display_ids):
            where.publish(picture, transient={"display_id": display_id}, update=True)


class FollowsSpace:
    """Base of widgets that follow a space: they stop, are closed, and have a static fallback.

    They show that their space is closed, but their static fallback does not: a notebook file is the same.
    """

    _throttle: Throttle
    _fallback: StaticFallback
    _listeners: Sequence[Callable[[], object]] = ()  # called on the IO thread when it stops
    layout: Any
    add_class: Callable[[str], object]

    def _picture(self) -> Picture:
        """Return its current content, without scripts."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self._picture()["text/plain"]

    def _follow_end(self, space: Space) -> None:
        self._forget_end = runtime_of(space).on_closed.connect(self._show_end)

    def _show_end(self) -> None:
        self.add_class(CLOSED)

    def stop(self) -> None:
        """Stop following; what is shown stays visible."""
        self._stop_updates()
        self._fallback.update()

    def close(self) -> None:
        """Stop, and remove the widget from wherever it is displayed."""
        if "_fallback" not in vars(self):
            return  # `__init__` did not complete
        self._stop_updates()
        self._close_parts()
        self.layout.close()
        super().close()  # type: ignore[misc]  # of the widget

    def _close_parts(self) -> None:
        """Close the widgets that it consists of."""

    def _stop_updates(self) -> None:
        self._forget_end()
        self._throttle.stop()
        self._fallback.stop()
        listeners, self._listeners = self._listeners, ()
        for unlisten in listeners:
            io_thread().call_soon(unlisten)

    def _ipython_display_(self) -> None:
        self._fallback.show(self)


def show_widget(widget: DOMWidget) -> None:
    """Display a widget below the current cell of a notebook, without a text in its place."""
    where = publisher()
    if where is not None:
        where.publish({"text/plain": "", _VIEW: widget.get_view_spec()}, transient={}, update=False)
