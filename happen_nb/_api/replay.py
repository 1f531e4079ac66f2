"""Replaying: the rows of a table, or what was said before, as events."""

from __future__ import annotations

import contextvars
import logging
import math
import numbers
import threading
import time as clock
from collections.abc import Callable, Generator, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from happen_nb._api.base import Displayable
from happen_nb._api.readings import refuse_in_callback
from happen_nb._api.rows import Rows
from happen_nb._display.live_output import LiveOutput, follow
from happen_nb._display.reprs_events import replay_page
from happen_nb._model.arguments import RESERVED, check_name, seconds
from happen_nb._model.quoting import quote
from happen_nb._runtime import causes
from happen_nb._runtime.bulk import BulkPublisher
from happen_nb._runtime.causes import evaluating, output_context
from happen_nb._runtime.cells import cells
from happen_nb._runtime.io import io_thread, on_io, run_awaitable, run_blocking
from happen_nb._runtime.tracebacks import to_raise
from happen_nb.errors import ClosedError, HappenError, HappenTimeoutError, TransformError

if TYPE_CHECKING:
    from types import TracebackType

    import pandas as pd

    from happen_nb._api.events import Event
    from happen_nb._api.node import Node
    from happen_nb._api.space import Space

log = logging.getLogger("happen_nb")

UNMINDED: Final = 1.0
"""Seconds after which an error that nobody waits for, and that is not shown, is logged."""


class Replay(Displayable):
    """Rows on their way to become events; made by ``space.replay``.

    As the last line of a cell it shows how far it is. ``wait()`` or ``await`` waits for its end, ``stop()``
    ends it.

    Attributes
    ----------
    what : str
        The type of its events; empty if they are of several.
    total : int or None
        How many rows there are; None if the rows do not say.
    speed : float or None
        How many times as fast as it occurred.
    """

    _page = replay_page
    _pickle = "pickle what you need of it, such as replay.stored"

    def __init__(self, space: Space, rows: Rows, sender: str, speed: float | None) -> None:
        self.what = rows.what
        self.total = rows.total
        self.speed = speed
        self._space = space
        self._minded = False
        self._frames: TracebackType | None = None
        self._lives: list[LiveOutput] = []
        self._context = contextvars.copy_context()
        self._line = BulkPublisher(space._session, sender, self._describe, output_context(), self._ended)
        threading.Thread(
            target=self._context.copy().run, args=(self._read, rows), name="happen_nb-replay", daemon=True
        ).start()

    def _describe(self) -> str:
        rows = "rows" if self.total is None else f"{self.total:,} rows"
        return f"replay of {rows}, {self.stored:,} of them stored"

    @property
    def state(self) -> str:
        """``"running"``, ``"done"``, ``"stopped"`` or ``"failed"``."""
        return self._line.state

    @property
    def done(self) -> bool:
        """Whether nothing more of it will be stored."""
        return self.state != "running"

    @property
    def stored(self) -> int:
        """How many events are stored by now."""
        return self._line.stored

    @property
    def occurred(self) -> datetime | None:
        """The time of the newest of them."""
        newest = self._line.newest
        occurred = None if newest is None else newest.occurred
        return None if occurred is None else datetime.fromisoformat(occurred)

    @property
    def error(self) -> BaseException | None:
        """What `wait` raises; None as long as there is no error."""
        return self._line.error

    @property
    def _held(self) -> bool:
        return self._line.backpressured

    def stop(self) -> None:
        """End it here. What is stored stays; when this returns nothing more of it will be stored."""
        run_blocking(self._stop())

    async def _stop(self) -> None:
        await on_io(self._line.stop())
        self._show_end()

    def wait(self, timeout: float | timedelta | None = None) -> Replay:
        """Wait until all its events are stored, or it was stopped; ``space.settle()`` waits for handlers too.

        Interrupting the wait, as the stop button does, stops it.

        Parameters
        ----------
        timeout : float, optional
            Seconds; at their end the replay goes on.

        Returns
        -------
        Replay
            Itself.

        Raises
        ------
        PayloadError
            A row has a part without a JSON form. What came before it is stored.
        HappenTimeoutError
            It is not done after `timeout` seconds.
        ClosedError
            The space was closed meanwhile.
        Exception
            What the rows, or the function of their type, have raised.
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
        self._minded = True
        if not self.done:
            refuse_in_callback("replay.wait")
            self._space._session  # noqa: B018 - in a forked child nothing is replayed
            if not await on_io(self._line.ended(timeout)):
                raise HappenTimeoutError(f"replay.wait: not done after {timeout:g} s; it goes on")
        self._show_end()
        if self.error is not None:
            if self._frames is None:
                self._frames = self.error.__traceback__
            raise to_raise(self.error, self._frames)

    # -- how it is shown -----------------------------------------------------------------------------

    def _ipython_display_(self) -> None:
        """Show how far it is, in a notebook, until it is done.

        Raises
        ------
        NotImplementedError
            It is done, or this is no notebook: IPython then shows it as it shows anything else.
        """
        self._minded = True
        live = follow(self._repr_mimebundle_, lambda: self.done, self._line.listen)
        self._lives.append(live)
        cells.register(live.stop)

    def _show_end(self) -> None:
        """Show the last picture before who waited for it goes on."""
        for live in self._lives:
            live.finish()

    def _ended(self) -> None:
        """It has ended. On the IO thread."""
        if self._line.state == "failed":
            io_thread().loop.call_later(UNMINDED, self._mind)

    def _mind(self) -> None:
        if not self._minded and not isinstance(self.error, ClosedError):
            self._context.run(log.warning, "a replay ended at row %d: %s", self.stored, self.error)

    # -- the thread that reads the rows --------------------------------------------------------------

    def _read(self, rows: Rows) -> None:
        line, pace = self._line, Pace(self.speed)
        try:
            for said in rows:
                if line.closed.wait(pace.pause(said.moment)):
                    return
                if not line.put(said.type, said.payload, said.occurred):
                    return
        except BaseException as error:  # raised to who waits
            line.finish(error)
        else:
            line.finish()


class Pace:
    """When each row is due, as fast as things occurred or `speed` times as fast."""

    def __init__(self, speed: float | None) -> None:
        self._speed = speed
        self._first: datetime | None = None
        self._begun = 0.0

    def pause(self, moment: datetime | None) -> float:
        """Seconds until a row is due. One that is late, or does not know its time, is due at once."""
        if self._speed is None or moment is None:
            return 0.0
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        now = clock.monotonic()
        if self._first is None:
            self._first, self._begun = moment, now
        due = self._begun + (moment - self._first).total_seconds() / self._speed
        return min(max(0.0, due - now), threading.TIMEOUT_MAX)


class Replaying:
    """The part of a `Space` that replays."""

    name: str

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
        """Broadcast many rows as events, in their order; thousands a second.

        It returns at once, and goes on beside the notebook. Events are stored in the order of the rows, each
        once, whatever happens to the connection; those of other senders may come between them. It waits for
        handlers of this process where 10,000 events wait for them, so rows of any number can be replayed.
        A cell that runs again first stops the replay that it began before; so does closing the space.

        Parameters
        ----------
        rows : DataFrame, iterable of mappings, or ``space.events(...)``
            A row is the payload of an event. Events are broadcast anew, each with its type, payload and
            ``occurred``, of whatever space they are. A generator is read as its rows are needed.
        type : str or callable, optional
            The type of all events, or a function that is given a row and returns its type. Only events
            have one of their own.
        time : str, optional
            The column, or index of a frame, that becomes ``event.occurred``; it is no part of the payload.
            Datetimes, or ISO 8601 text; of a naive one no zone is known. A row without has none.
        sender : str or Node, optional
            Who says it.
        speed : float, optional
            How many times as fast as it occurred: 60 plays an hour in a minute. Without, as fast as it goes.
        nan : optional
            Stands in the payload in the place of NaN, NaT and ``pd.NA``, which have no JSON form; in a frame
            in that of None too.

        Returns
        -------
        Replay
            Shows how far it is; ``.wait()`` waits, and raises what went wrong; ``.stop()`` ends it.

        Raises
        ------
        ValueError
            Rows without a type, a speed without times, or a column that is not there.
        TypeError
            What is given is not rows.
        PayloadError
            A column has no name. A value without a JSON form ends the replay: ``wait()`` tells the row.
        HappenError
            It was called in a handler or a transform.

        Examples
        --------
        >>> rows = [{"sensor": "a", "heat": 20.5}, {"sensor": "b", "heat": float("nan")}]
        >>> space.replay(rows, type=lambda row: f"heat.{row['sensor']}").wait()
        Replay · done · 2 events
        >>> [(event.type, event.payload["heat"]) for event in space.events()]
        [('heat.a', 20.5), ('heat.b', None)]
        """
        _refuse_in_code_that_reacts()
        speed = None if speed is None else _checked_speed(speed)
        name = sender if isinstance(sender, str) else getattr(sender, "name", sender)
        if name != RESERVED:
            check_name(name, "node")
        there = getattr(getattr(sender, "space", self), "name", self.name)
        if there != self.name:
            raise ValueError(
                f'replay: the node "{name}" belongs to the space "{there}", not to "{self.name}"'
            )
        given = Rows(rows, type=type, time=time, nan=nan, paced=speed is not None)
        replay = Replay(self, given, name, speed)  # type: ignore[arg-type]
        cells.register(replay.stop)
        return replay


def _checked_speed(speed: Any) -> float:
    problem = f"replay: speed is {quote(speed)}; give a number above 0, such as 60"
    if isinstance(speed, bool) or not isinstance(speed, numbers.Real):
        raise TypeError(problem)
    if not 0 < (number := float(speed)) < math.inf:
        raise ValueError(problem)
    return number


def _refuse_in_code_that_reacts() -> None:
    evaluation, running = evaluating.get(), causes.current_scope()
    if evaluation is not None:
        raise TransformError(
            f'replay: the transform of node "{evaluation.node}" may run more than once, and a replay should '
            "not; call it in a cell"
        )
    if running is not None:
        raise HappenError(
            f"replay: {running.what} would leave it behind; call it in a cell, "
            "or broadcast one event after the other"
        )
