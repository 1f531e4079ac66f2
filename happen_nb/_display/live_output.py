"""An output of a cell that follows an object until it is done.

It is an output with a display id, which is updated, and not a widget: so every front end shows it, and the
last picture stays when the page is loaded again, when the kernel ends, and in the saved notebook.
"""

from __future__ import annotations

import contextvars
import os
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Final, Protocol

from happen_nb._frames import shell

MIN_INTERVAL_SECONDS: Final = 0.1  # the time between two pictures
GRACE_SECONDS: Final = 0.1  # delay of the first picture, so that a short task is shown once
SHOW_AFTER_SECONDS: Final = 1.0  # time after which a call shows its progress

Picture = Mapping[str, str]  # mime type -> content


ALIVE: Final = "hn-alive"  # the CSS class of a widget that has an output above it
_OUTPUT: Final = ".jp-OutputArea-child"
_HAS_WIDGET: Final = ":has(> .jupyter-widgets, > [data-mime-type$='widget-view+json'])"


class Publisher(Protocol):
    """IPython's display publisher, which shows a picture below the cell that the context belongs to."""

    def publish(self, data: Picture, *, transient: dict[str, str], update: bool) -> None:
        """Show a picture, with `update` in place of the one with the same display id."""


def publisher() -> Publisher | None:
    """Return the publisher of the notebook's kernel; None where outputs cannot be updated."""
    here = shell()
    if getattr(here, "kernel", None) is None:
        return None
    found: Publisher = here.display_pub
    return found


def follow(
    draw: Callable[[], Picture], done: Callable[[], bool], listen: Callable[[Callable[[], None]], object]
) -> LiveOutput:
    """Show an unfinished object in a notebook, and follow it to its end, as a `LiveOutput` does.

    `listen` is called with the function to call on each change. A NotImplementedError is raised if the object
    is done, or this is not a notebook: IPython then shows it like any other.
    """
    where = publisher()
    if where is None:
        raise NotImplementedError
    live = LiveOutput(draw, done)
    listen(live.changed)
    if live.done_soon():
        raise NotImplementedError
    live.start(where)
    return live


def beside_widget(picture: Picture, *, is_fallback: bool = False) -> Picture:
    """Mark an output that has a widget below it, whose remains it hides once the widget is gone.

    A fallback is itself hidden while the widget is alive.
    """
    kind = "hn-static" if is_fallback else "hn-followed"
    hidden = f"{_OUTPUT}:has(.{kind}):not(:has(+ {_OUTPUT} .{ALIVE})) + {_OUTPUT}{_HAS_WIDGET}"
    if is_fallback:
        hidden = f"{_OUTPUT}:has(.{kind}):has(+ {_OUTPUT} .{ALIVE}),{hidden}"
    style = f"<style>{hidden} {{ display: none; }}</style>"
    return {**picture, "text/html": f'<div class="{kind}">{style}{picture["text/html"]}</div>'}


class LiveOutput:
    """One output that is redrawn after changes, at most every `MIN_INTERVAL_SECONDS`; and always at the end.

    A thread of its own draws and publishes, from `start` on. It ends with the object that it follows, or by
    `stop`. `draw` makes the current picture, in any thread; `done` returns True if that is the last one.
    """

    def __init__(self, draw: Callable[[], Picture], done: Callable[[], bool]) -> None:
        self._publisher: Publisher | None = None
        self._begun = time.monotonic()
        self._draw = draw
        self._done = done
        self._changes: SimpleQueue[None] = SimpleQueue()  # no lock of it is held below a signal handler
        self._stopped = threading.Event()
        self._showing = threading.RLock()
        self._display_id = os.urandom(16).hex()
        self._shown: Picture | None = None

    def changed(self) -> None:
        """Redraw soon. Any thread may call it: it only wakes the thread that draws."""
        if self._changes.empty():
            self._changes.put(None)

    def changed_late(self) -> None:
        """Redraw soon; start once it takes long, if this is a notebook: a short call shows nothing."""
        if self.started:
            self.changed()
        elif time.monotonic() - self._begun > SHOW_AFTER_SECONDS and (where := publisher()) is not None:
            self.start(where)

    @property
    def started(self) -> bool:
        return self._publisher is not None

    def done_soon(self) -> bool:
        """Return True if it is done within `GRACE_SECONDS`; only the main thread waits for that."""
        if threading.current_thread() is threading.main_thread():
            deadline = time.monotonic() + GRACE_SECONDS
            while not self._done() and (left := deadline - time.monotonic()) > 0:
                with suppress(Empty):
                    self._changes.get(timeout=left)
        return self._done()

    def start(self, where: Publisher) -> None:
        """Show it, and follow it if it is not done."""
        self._publisher = where
        done = self._done()
        self._show()
        if not done:
            run = contextvars.copy_context().run  # the output of the thread belongs to the cell
            threading.Thread(target=run, args=(self._follow,), name="happen_nb-live", daemon=True).start()

    def finish(self) -> None:
        """Show the last picture at once if it is done, before the cell that waited for it ends."""
        if self.started and self._done():
            # Even if the thread has published it: a client that runs one cell after the other, such as
            # nbclient, drops what belongs to an earlier cell.
            self._show(again=True)
            self.stop()

    def stop(self) -> None:
        """Leave the output as it is."""
        self._stopped.set()
        self.changed()

    def _follow(self) -> None:
        done = False
        while not (done or self._stopped.wait(MIN_INTERVAL_SECONDS)):
            self._changes.get()
            done = self._done()
            self._show()

    def _show(self, *, again: bool = False) -> None:
        with self._showing:
            if self._stopped.is_set() or ((picture := self._draw()) == self._shown and not again):
                return
            update = self._shown is not None
            assert self._publisher is not None
            self._publisher.publish(picture, transient={"display_id": self._display_id}, update=update)
            self._shown = picture
