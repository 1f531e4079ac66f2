"""An output of a cell that follows what it shows until that is done.

It is an output with a display id, which is updated, and no widget: so every front end shows it, and the last
picture stays when the page is loaded again, when the kernel ends, and in the saved notebook.
"""

from __future__ import annotations

import contextvars
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Protocol

INTERVAL = 0.1
"""Seconds at least between two pictures."""
GRACE = 0.1
"""Seconds for which the first picture waits, so that what is done by then is shown once."""

Picture = Mapping[str, str]
"""Mime type -> content."""


class Publisher(Protocol):
    """IPython's: puts a picture below the cell that the context belongs to."""

    def publish(self, data: Picture, *, transient: dict[str, str], update: bool) -> None:
        """Put it there, or in place of what has the same display id."""


def publisher() -> Publisher | None:
    """The publisher of the notebook's kernel; None where no output can be updated."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if getattr(shell, "kernel", None) is None:
        return None
    found: Publisher = shell.display_pub  # type: ignore[union-attr]
    return found


def follow(
    draw: Callable[[], Picture], done: Callable[[], bool], listen: Callable[[Callable[[], None]], object]
) -> Live:
    """Show in a notebook what is not done yet, until it is.

    Parameters
    ----------
    draw, done : callable
        As of `Live`.
    listen : callable
        Is given what to call when there is news.

    Raises
    ------
    NotImplementedError
        It is done, or this is no notebook: IPython then shows it as it shows anything else.
    """
    where = publisher()
    if where is None:
        raise NotImplementedError
    live = Live(where, draw, done)
    listen(live.tell)
    if live.done_soon():
        raise NotImplementedError
    live.start()
    return live


class Live:
    """One output that is drawn anew when there is news, at most every `INTERVAL`; the last picture always.

    Drawing and publishing is done by a thread of its own, which ends with what it follows, or by `stop`.

    Parameters
    ----------
    publisher : Publisher
    draw : callable
        Makes the picture of now; in any thread.
    done : callable
        Whether no other picture will follow.
    """

    def __init__(self, publisher: Publisher, draw: Callable[[], Picture], done: Callable[[], bool]) -> None:
        self._publisher = publisher
        self._draw = draw
        self._done = done
        self._news = threading.Event()
        self._stopped = threading.Event()
        self._showing = threading.Lock()
        self._display_id = os.urandom(16).hex()
        self._shown: Picture | None = None

    def tell(self) -> None:
        """There is news. Any thread may call it: it only wakes the one that draws."""
        self._news.set()

    def done_soon(self) -> bool:
        """Whether it is done, or will be within `GRACE`; it waits in the main thread only."""
        if threading.current_thread() is threading.main_thread():
            deadline = time.monotonic() + GRACE
            while not self._done() and (left := deadline - time.monotonic()) > 0:
                self._news.wait(left)
                self._news.clear()
        return self._done()

    def start(self) -> None:
        """Show it, and follow it if it is not done."""
        done = self._done()
        self._show()
        if not done:
            run = contextvars.copy_context().run  # the thread's output is the cell's
            threading.Thread(target=run, args=(self._follow,), name="happen_nb-live", daemon=True).start()

    def finish(self) -> None:
        """Show the last picture at once, if it is done: before the cell ends that waited for it."""
        if self._done():
            self._show()
            self.stop()

    def stop(self) -> None:
        """Leave it as it is."""
        self._stopped.set()
        self._news.set()

    def _follow(self) -> None:
        done = False
        while not (done or self._stopped.wait(INTERVAL)):
            self._news.wait()
            self._news.clear()
            done = self._done()
            self._show()

    def _show(self) -> None:
        with self._showing:
            if self._stopped.is_set() or (picture := self._draw()) == self._shown:
                return
            update = self._shown is not None
            self._publisher.publish(picture, transient={"display_id": self._display_id}, update=update)
            self._shown = picture
