"""Replay rows of a table, or stored events, as new events."""

from __future__ import annotations

import contextvars
import logging
import math
import numbers
import sys
import threading
import time as clock
from collections.abc import AsyncIterable, Callable, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, Final

from happen_nb._api.base import Displayable, refuse_in_callback
from happen_nb._api.events import Event, record_of
from happen_nb._display.live_output import LiveOutput, follow
from happen_nb._display.reprs_events import replay_page
from happen_nb._model.arguments import RESERVED, check_name, seconds
from happen_nb._model.convert import MAX_ARRAY_BYTES, plain
from happen_nb._model.freeze import freeze
from happen_nb._model.patterns import check_type
from happen_nb._model.quoting import quote, type_name
from happen_nb._runtime import causes
from happen_nb._runtime.bulk import BulkPublisher
from happen_nb._runtime.causes import evaluating, output_context
from happen_nb._runtime.cells import cells
from happen_nb._runtime.io import io_thread, on_io, run_awaitable, run_blocking
from happen_nb._runtime.tracebacks import to_raise
from happen_nb.errors import (
    ClosedError,
    EventTypeError,
    HappenError,
    HappenTimeoutError,
    PayloadError,
    TransformError,
)

if TYPE_CHECKING:
    from types import TracebackType

    import pandas as pd

    from happen_nb._api.node import Node
    from happen_nb._api.space import Space
    from happen_nb._display.page import Page
    from happen_nb._display.values import Budget
    from happen_nb._runtime.runtime import Runtime

logger = logging.getLogger("happen_nb")
LOG_ERROR_SECONDS: Final = 1.0  # after which an error is logged if nothing waits for the replay or shows it
CHUNK_ROWS: Final = 500  # of a frame, converted to mappings at once
_COMPLETE: Final = frozenset({str, int, bool, type(None)})  # types in which nothing can be missing
TypeOf = str | Callable[[Any], str]
"""The type of all events, or a function of a row."""


class Replay(Displayable):
    """A running replay of rows as events; made by ``space.replay``.

    As the last line of a cell, it shows its progress. ``wait()`` or ``await`` waits until it is done.

    Attributes
    ----------
    what : str
        The type of its events; empty if there are several.
    total : int or None
        Number of rows; None if it is not known.
    speed : float or None
        Speed relative to the event times; None for as fast as possible.
    """

    _pickle = "pickle what you need of it, such as replay.stored"

    def __init__(self, runtime: Runtime, rows: ReplaySource, sender: str, speed: float | None) -> None:
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
        threading.Thread(
            target=self._context.copy().run, args=(self._read, rows), name="happen_nb-replay", daemon=True
        ).start()

    def _describe(self) -> str:
        rows = "rows" if self.total is None else f"{self.total:,} rows"
        return f"replay of {rows}, {self.stored:,} of them stored"

    @property
    def state(self) -> str:
        """``"running"``, ``"done"``, ``"stopped"`` or ``"failed"``."""
        return self._publisher.state

    @property
    def done(self) -> bool:
        """True if it will store no more events."""
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
        return replay_page(self, waits=self._publisher.backpressured)

    def stop(self) -> None:
        """Stop storing events; the events that are already stored stay."""
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
            The rows, or the function for their type, raised it.
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
                raise HappenTimeoutError(f"replay.wait: not done after {timeout:g} s; it continues")
        self._show_end()
        if self.error is not None:
            if self._frames is None:
                self._frames = self.error.__traceback__
            raise to_raise(self.error, self._frames)

    # -- display ---------------------------------------------------------------------------------------

    def _ipython_display_(self) -> None:
        """Show the progress in a notebook; raise NotImplementedError for IPython to show the repr instead."""
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
                if publisher.closed.wait(pace.pause(item.moment)):
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
    problem = f"replay: speed is {quote(speed)}; give a number above 0, such as 60"
    if isinstance(speed, bool) or not isinstance(speed, numbers.Real):
        raise TypeError(problem)
    if not 0 < (number := float(speed)) < math.inf:
        raise ValueError(problem)
    return number


def _refuse_in_handlers_and_transforms() -> None:
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


@dataclass(frozen=True, slots=True)
class ReplayItem:
    """A row as an event to emit."""

    type: str
    payload: Any
    occurred: str | None
    moment: datetime | None


class ReplaySource:
    """The rows of a replay as an iterable of items, read one by one and only once.

    The parameters are those of ``space.replay``; `paced` requires that each row has a time.
    """

    def __init__(
        self, rows: Any, *, type: TypeOf | None, time: str | None, nan: Any, paced: bool = False
    ) -> None:
        if isinstance(type, str):
            check_type(type)
        elif type is not None and not callable(type):
            raise TypeError(f"replay: type is {quote(type)}; give a text, or a function of the row")
        self._type = type
        self._time = time
        self._nan = freeze(nan, what="replay: nan", error=PayloadError)
        self._paced = paced
        self._rows = self._of_frame(rows) if _is_frame(rows) else self._of_others(rows)
        self.total = len(rows) if isinstance(rows, Sized) else None

    @property
    def what(self) -> str:
        """The type of all events; empty if there are several."""
        return self._type if isinstance(self._type, str) else ""

    def __iter__(self) -> Iterator[ReplayItem]:
        for number, row in enumerate(self._rows):
            yield self._item(number, row)

    def _of_frame(self, frame: pd.DataFrame) -> Iterable[Mapping[str, Any]]:
        self._require_arguments()
        if self._time is not None and self._time in frame.index.names and self._time not in frame.columns:
            frame = frame.reset_index(self._time)
        columns = list(frame.columns)
        odd = [column for column in columns if not isinstance(column, str)]
        if odd:
            raise PayloadError(
                f"replay: the column {quote(odd[0])} is not a string, and keys are; "
                "name the columns: frame.set_axis([...], axis=1), or frame.rename(columns=str)"
            )
        twice = frame.columns[frame.columns.duplicated()]
        if len(twice):
            raise ValueError(f'replay: there is more than one column "{twice[0]}"; rename all but one')
        if self._time is not None and self._time not in columns:
            raise ValueError(f'replay: there is no column "{self._time}"; there are {", ".join(columns)}')
        return self._records(frame.copy(deep=False))

    def _records(self, frame: pd.DataFrame) -> Iterator[Mapping[str, Any]]:
        for start in range(0, len(frame), CHUNK_ROWS):
            records: list[dict[str, Any]] = frame.iloc[start : start + CHUNK_ROWS].to_dict("records")  # type: ignore[assignment]
            if self._nan is None:
                yield from records
            else:  # in a frame None counts as missing, too: pandas converts some missing values to it
                nan = self._nan
                yield from (
                    {key: nan if value is None else value for key, value in record.items()}
                    for record in records
                )

    def _of_others(self, rows: Any) -> Iterable[Any]:
        hint = _hint(rows)
        if hint is not None:
            raise TypeError(
                f"replay: rows is of type {type_name(rows)}; give a pandas DataFrame, an iterable "
                f"of mappings, or events; {hint}"
            )
        if isinstance(rows, Sequence) and rows and not isinstance(rows[0], Event):
            self._require_arguments()
        given: Iterable[Any] = rows
        return given

    def _require_arguments(self) -> None:
        """Refuse rows without the arguments that they need, unlike events."""
        if self._type is None:
            raise ValueError(
                'replay: rows have no type of their own; give type="reading", '
                "or a function of the row: type=lambda row: f\"reading.{row['sensor']}\""
            )
        if self._paced and self._time is None:
            raise ValueError("replay: speed needs the times of the rows; give time= the name of their column")

    def _item(self, number: int, row: Any) -> ReplayItem:
        if isinstance(row, Event):
            if self._time is not None:
                raise ValueError("replay: events have their own times; leave time out")
            type = row.type if self._type is None else self._type_of(number, row)
            record_of(row).check()
            return ReplayItem(type, row.payload, record_of(row).occurred, row.occurred or row.time)
        if not isinstance(row, Mapping):
            raise TypeError(
                f"replay: row {number} is of type {type_name(row)}, and a row is a mapping: "
                "dict(zip(names, row))"
            )
        self._require_arguments()
        moment = self._moment(number, row)
        filled = {
            key: value if value.__class__ in _COMPLETE else self._filled(value)
            for key, value in row.items()
            if key != self._time
        }
        payload = freeze(filled, what=f"replay: row {number}", error=PayloadError)
        occurred = None if moment is None else moment.isoformat()
        return ReplayItem(self._type_of(number, row), payload, occurred, moment)

    def _type_of(self, number: int, row: Any) -> str:
        if isinstance(self._type, str):
            return self._type
        assert self._type is not None
        type = self._type(row)
        try:
            check_type(type)
        except EventTypeError as error:
            raise EventTypeError(f"replay: row {number}: {error}") from None
        return type

    def _moment(self, number: int, row: Mapping[str, Any]) -> datetime | None:
        """Return the event time of a row, if it has one."""
        if self._time is None:
            return None
        if self._time not in row:
            raise ValueError(f'replay: row {number} has no "{self._time}"; it has {", ".join(map(str, row))}')
        value = row[self._time]
        if value is None or _is_missing(value):
            return None
        try:
            text = freeze(value)
            if isinstance(text, str):
                return datetime.fromisoformat(text)
        except ValueError:
            pass  # the error below covers this
        raise ValueError(
            f"replay: row {number} at {self._time}: {quote(value)} is not a time; give datetimes or ISO 8601 "
            "text, as pandas.to_datetime makes them"
        )

    def _filled(self, value: Any) -> Any:
        """Replace missing values by `nan`."""
        if value.__class__ in _COMPLETE:
            return value
        if value.__class__ is float:
            return self._nan if value != value else value  # noqa: PLR0124 - true for NaN only
        if isinstance(value, Mapping):
            return {key: self._filled(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [self._filled(part) for part in value]
        if _is_missing(value):
            return self._nan
        if hasattr(value, "dtype") and hasattr(value, "ndim"):
            return self._filled_array(value)
        if isinstance(value, Enum) or is_dataclass(value):
            return self._filled(plain(value))
        return value

    def _filled_array(self, array: Any) -> Any:
        """Replace missing items of an array; return large arrays and pandas objects unchanged."""
        import pandas as pd

        if isinstance(array, pd.Series | pd.Index | pd.DataFrame) or array.nbytes > MAX_ARRAY_BYTES:
            return array
        if not array.ndim:
            return self._nan if _is_missing(item := array[()]) else item
        whole = array.dtype != object and not hasattr(array, "mask") and not pd.isna(array).any()
        return array if whole else [self._filled(part) for part in array]


_FRAMES: Final = (
    ("polars", "LazyFrame", "rows.collect().iter_rows(named=True)"),
    ("polars", "DataFrame", "rows.iter_rows(named=True)"),
    ("pyarrow", "Table", "rows.to_pylist()"),
)


def _hint(rows: object) -> str | None:
    """Return advice for an argument that cannot be replayed; None if it can."""
    library, kind = type_name(rows).split(".")[0], type(rows).__name__
    for known, name, call in _FRAMES:
        if (library, kind) == (known, name):
            return f"here {call}"
    if isinstance(rows, AsyncIterable):
        return "make it a list"
    if isinstance(rows, Mapping | str | bytes) or not isinstance(rows, Iterable):
        return "one row is [row]"
    return None


def _is_frame(rows: Any) -> bool:
    """Return True for a DataFrame, without importing pandas for other objects."""
    kind = rows.__class__
    if not kind.__module__.startswith("pandas") and not hasattr(rows, "iloc"):
        return False
    import pandas as pd

    return isinstance(rows, pd.DataFrame)


def _is_missing(value: Any) -> bool:
    import pandas as pd

    numpy = sys.modules.get("numpy")
    return pd.isna(value) is True or (numpy is not None and value is numpy.ma.masked)


def start_replay(
    space: Space,
    runtime: Runtime,
    rows: Any,
    *,
    type: TypeOf | None,
    time: str | None,
    sender: str | Node,
    speed: float | None,
    nan: Any,
) -> Replay:
    """Check the arguments of ``space.replay``, and start it."""
    _refuse_in_handlers_and_transforms()
    speed = None if speed is None else _checked_speed(speed)
    name: Any = sender if isinstance(sender, str) else getattr(sender, "name", sender)
    if name != RESERVED:
        check_name(name, "node")
    there = getattr(getattr(sender, "space", space), "name", space.name)
    if there != space.name:
        raise ValueError(f'replay: the node "{name}" belongs to the space "{there}", not to "{space.name}"')
    given = ReplaySource(rows, type=type, time=time, nan=nan, paced=speed is not None)
    replay = Replay(runtime, given, name, speed)
    cells.register(replay.stop)
    return replay
