"""Replay rows of a table, or stored events, as new events."""

from __future__ import annotations

import contextvars
import logging
import math
import threading
import time as clock
from collections.abc import Callable, Generator, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from happen_nb._api.base import Displayable, SpacePart, refuse_in_callback
from happen_nb._api.events import Event
from happen_nb._api.node import Node
from happen_nb._api.plotting import name_here
from happen_nb._model.arguments import RESERVED, check_name, seconds
from happen_nb._model.quoting import quote
from happen_nb._runtime import causes
from happen_nb._runtime.causes import current_evaluation, output_context
from happen_nb._runtime.cells import cells
from happen_nb._runtime.io import io_thread, on_io, run_awaitable, run_blocking
from happen_nb._runtime.tracebacks import to_raise
from happen_nb._runtime.workers import refuse_at_end
from happen_nb.errors import ClosedError, HappenError, HappenTimeoutError, TransformError

if TYPE_CHECKING:
    from types import TracebackType

    import pandas as pd

    from happen_nb._api.replay_rows import ReplaySource
    from happen_nb._display.live_output import LiveOutput
    from happen_nb._display.page import Page
    from happen_nb._display.values import Budget
    from happen_nb._runtime.runtime import Runtime

logger = logging.getLogger("happen_nb")
LOG_ERROR_SECONDS: Final = 1.0  # after which an error is logged if nothing waits for the replay or shows it


class Replay(Displayable):
    """A running replay of rows as events; made by ``space.replay``.

    As the last line of a cell, it shows its progress. ``wait()`` or ``await`` waits until it is done.

    Attributes
    ----------
    what : str
        The type of its events; empty if they have several types.
    total : int or None
        Number of rows; None if it is not known.
    speed : float or None
        Speed relative to the event times; None for as fast as possible.
    """

    _pickle = "pickle what you need of it, such as replay.stored"

    def __init__(self, runtime: Runtime, rows: ReplaySource, sender: str, speed: float | None) -> None:
        from happen_nb._runtime.bulk import BulkPublisher

        self.what = rows.what
        self.total = rows.total
        self.speed = speed
        self._runtime = runtime
        self._observed = False
        self._frames: TracebackType | None = None
        self._outputs: list[LiveOutput] = []
        self._context = contextvars.copy_context()
        self._publisher = BulkPublisher(
            runtime.checked, sender, self._describe, output_context(), self._ended
        )
        reader = threading.Thread(
            target=self._context.copy().run, args=(self._read, rows), name="happen_nb-replay", daemon=True
        )
        try:
            self._publisher.start()
            reader.start()
        except BaseException:  # it was interrupted
            self._publisher.close()
            raise

    def _describe(self) -> str:
        rows = "rows" if self.total is None else f"{self.total:,} rows"
        return f"replay of {rows}, {self.stored:,} of them stored"

    @property
    def state(self) -> str:
        """``"running"``, ``"done"``, ``"stopped"`` or ``"failed"``."""
        return self._publisher.state

    @property
    def done(self) -> bool:
        """True if it will store no further events."""
        return self.state != "running"

    @property
    def stored(self) -> int:
        """Number of events that are stored so far."""
        return self._publisher.stored

    @property
    def occurred(self) -> datetime | None:
        """The event time of the newest stored event."""
        newest = self._publisher.newest
        occurred = None if newest is None else newest.occurred
        return None if occurred is None else datetime.fromisoformat(occurred)

    @property
    def error(self) -> BaseException | None:
        """The error that `wait` raises; None if there is none."""
        return self._publisher.error

    def _page(self, _: Budget) -> Page:
        from happen_nb._display.reprs_events import replay_page

        return replay_page(self, waits=self._publisher.backpressured)

    def stop(self) -> None:
        """Stop storing events; those that are already stored stay."""
        run_blocking(self._stop())

    async def _stop(self) -> None:
        await on_io(self._publisher.stop())
        self._show_end()

    def wait(self, timeout: float | timedelta | None = None) -> Replay:
        """Wait until all events are stored or the replay was stopped; ``space.settle()`` waits for handlers.

        Interrupting the wait stops the replay.

        Parameters
        ----------
        timeout : float, optional
            Seconds to wait. When the timeout expires, the replay continues.

        Returns
        -------
        Replay
            This replay.

        Raises
        ------
        PayloadError
            A part of a row has no JSON form; the rows before it are stored.
        HappenTimeoutError
            It is not done after `timeout` seconds.
        ClosedError
            The space was closed meanwhile.
        Exception
            The rows, or the function that returns their type, raised an exception.
        """
        try:
            run_blocking(self._wait(timeout))
        except KeyboardInterrupt:
            self.stop()
            raise
        return self

    def __await__(self) -> Generator[Any, None, Replay]:
        yield from run_awaitable(self._wait(None)).__await__()
        return self

    async def _wait(self, timeout: float | timedelta | None) -> None:
        timeout = None if timeout is None else seconds(timeout, "replay.wait: timeout")
        self._observed = True
        if not self.done:
            refuse_in_callback("replay.wait")
            self._runtime.check_open()  # in a forked child, nothing is replayed
            if not await on_io(self._publisher.ended(timeout)):
                raise HappenTimeoutError(f"replay.wait: not done after {timeout:g} s; the replay continues")
        self._show_end()
        if self.error is not None:
            if self._frames is None:
                self._frames = self.error.__traceback__
            raise to_raise(self.error, self._frames)

    # -- display ---------------------------------------------------------------------------------------

    def _ipython_display_(self) -> None:
        """Show the progress in a notebook; raise NotImplementedError for IPython to show the repr instead."""
        from happen_nb._display.live_output import follow

        self._observed = True
        output = follow(self._repr_mimebundle_, lambda: self.done, self._publisher.on_change.connect)
        self._outputs.append(output)
        cells.register(output.stop)

    def _show_end(self) -> None:
        """Show the final state before the waiting code continues."""
        for output in self._outputs:
            output.finish()

    def _ended(self) -> None:
        """Log an error later, unless it is waited for or shown. On the IO thread."""
        if self._publisher.state == "failed":
            io_thread().loop.call_later(LOG_ERROR_SECONDS, self._log_error)

    def _log_error(self) -> None:
        if not self._observed and not isinstance(self.error, ClosedError):
            self._context.run(logger.warning, "a replay ended at row %d: %s", self.stored, self.error)

    # -- the thread that reads the rows ----------------------------------------------------------------

    def _read(self, rows: ReplaySource) -> None:
        publisher, pace = self._publisher, ReplayPace(self.speed)
        try:
            for item in rows:
                if publisher.pause(pace.pause(item.moment)):
                    return
                if not publisher.put(item.type, item.payload, item.occurred):
                    return
        except BaseException as error:  # wait() raises it
            publisher.finish(error)
        else:
            publisher.finish()


class ReplayPace:
    """Computes when each row is due, at `speed` times the pace of the event times."""

    def __init__(self, speed: float | None) -> None:
        self._speed = speed
        self._first: datetime | None = None
        self._begun = 0.0

    def pause(self, moment: datetime | None) -> float:
        """Return the seconds until a row is due. A row that is late or has no time is due at once."""
        if self._speed is None or moment is None:
            return 0.0
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        now = clock.monotonic()
        if self._first is None:
            self._first, self._begun = moment, now
        due = self._begun + (moment - self._first).total_seconds() / self._speed
        return min(max(0.0, due - now), threading.TIMEOUT_MAX)


def _checked_speed(speed: Any) -> float:
    from numbers import Real

    problem = f"replay: speed is {quote(speed)}; pass a number above 0, such as 60"
    if isinstance(speed, bool) or not isinstance(speed, Real):
        raise TypeError(problem)
    try:
        number = float(speed)
    except OverflowError:  # an integer beyond all floats
        number = math.inf
    if not 0 < number < math.inf:
        raise ValueError(problem)
    return number


def _refuse_in_handlers_and_transforms() -> None:
    evaluation, running = current_evaluation(), causes.current_scope()
    if evaluation is not None:
        raise TransformError(
            f"replay: called in {evaluation.what}, which may run more than once; call it in a cell"
        )
    if running is not None:
        raise HappenError(
            f"replay: {running.what} would not wait for it; call it in a cell, "
            "or broadcast the events one by one"
        )


class SpaceReplay(SpacePart):
    """The part of a space that replays rows as events."""

    def replay(
        self,
        rows: pd.DataFrame | Iterable[Mapping[str, Any]] | Iterable[Event],
        *,
        type: str | Callable[[Any], str] | None = None,
        time: str | None = None,
        sender: str | Node = RESERVED,
        speed: float | None = None,
        nan: Any = None,
    ) -> Replay:
        """Broadcast many rows as events, in order, thousands per second.

        It returns immediately and continues in the background. The events are stored in the order of the
        rows, each once, even if the connection is interrupted; events of other senders may come between
        them. The replay pauses while 10,000 events wait for handlers of this process, so any number of rows
        can be replayed. Running the cell again stops the previous replay; so does closing the space.

        Parameters
        ----------
        rows : DataFrame, iterable of mappings, or ``space.events(...)``
            Each row becomes the payload of an event. Stored events, of any space, are broadcast again with
            their type, payload and ``occurred``. A generator is read as its rows are needed.
        type : str or callable, optional
            The type of all events, or a function of the row that returns the type. Optional for events,
            which have a type.
        time : str, optional
            The column (or index of a frame) that becomes ``event.occurred`` instead of a part of the
            payload: datetimes or ISO 8601 strings. It may be missing in a row.
        sender : str or Node, optional
            The sender of the events.
        speed : float, optional
            Speed relative to the event times: 60 plays an hour in a minute, also while a manual clock stands
            still. By default, as fast as possible.
        nan : optional
            Replacement for NaN, NaT and ``pd.NA``, which have no JSON form; in a frame, also for None.

        Returns
        -------
        Replay
            Shows the progress; ``.wait()`` waits for the end and raises errors; ``.stop()`` stops it.

        Raises
        ------
        ValueError
            The type or the column is missing, or `speed` is given without `time`.
        TypeError
            `rows` cannot be replayed.
        PayloadError
            A column name is not a string. A value without a JSON form stops the replay, and ``wait()`` names
            its row.
        HappenError
            Called in a handler or a transform.

        Examples
        --------
        >>> rows = [{"sensor": "a", "heat": 20.5}, {"sensor": "b", "heat": float("nan")}]
        >>> space.replay(rows, type=lambda row: f"heat.{row['sensor']}").wait()
        Replay · done · 2 events
        >>> [(event.type, event.payload["heat"]) for event in space.events()]
        [('heat.a', 20.5), ('heat.b', None)]
        """
        refuse_at_end()
        from happen_nb._api.replay_rows import ReplaySource

        _refuse_in_handlers_and_transforms()
        speed = None if speed is None else _checked_speed(speed)
        name = name_here(sender, self._space, "replay") if isinstance(sender, Node) else sender
        if not isinstance(name, str) or name != RESERVED:
            check_name(name, "node")
        given = ReplaySource(rows, type=type, time=time, nan=nan, paced=speed is not None)
        replay = Replay(self._runtime, given, name, speed)
        cells.register(replay.stop)
        return replay
