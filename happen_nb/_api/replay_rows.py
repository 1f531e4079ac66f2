"""The rows of a replay: a table, mappings or stored events, made into events to emit."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterable, Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import is_dataclass
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from happen_nb._api.events import Event, record_of
from happen_nb._frames import refusal
from happen_nb._model.convert import MAX_ARRAY_BYTES, plain
from happen_nb._model.freeze import freeze
from happen_nb._model.functions import attribute, is_a, loaded
from happen_nb._model.patterns import check_type
from happen_nb._model.quoting import escape_surrogates, quote, type_name
from happen_nb.errors import EventTypeError, PayloadError

if TYPE_CHECKING:
    import pandas as pd


logger = logging.getLogger("happen_nb")

CHUNK_ROWS: Final = 500  # of a frame, converted to mappings at once
_COMPLETE: Final = frozenset({str, int, bool, type(None)})  # types in which nothing can be missing
TypeOf = str | Callable[[Any], str]  # the type of all events, or a function of a row


class ReplayItem(NamedTuple):
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
            raise TypeError(f"replay: type is {quote(type)}; pass a string, or a function of the row")
        if time is not None and not isinstance(time, str):
            raise TypeError(f"replay: time is {quote(time)}; pass the name of a column")
        self._type = type
        self._time = time
        self._nan = freeze(nan, what="replay: nan", error=PayloadError)
        self._paced = paced
        self._rows = self._of_frame(rows) if _is_frame(rows) else self._of_others(rows)
        self.total = len(rows) if isinstance(rows, Sized) else None

    @property
    def what(self) -> str:
        """The type of all events; empty if they have several types."""
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
                f"replay: the column {quote(odd[0])} is not a string; "
                "rename the columns: frame.set_axis([...], axis=1), or frame.rename(columns=str)"
            )
        twice = frame.columns[frame.columns.duplicated()]
        if len(twice):
            raise ValueError(f'replay: there is more than one column "{twice[0]}"; rename all but one')
        if self._time is not None and self._time not in columns:
            raise ValueError(
                f'replay: there is no column "{escape_surrogates(self._time)}"; '
                f"the columns are {_listed(columns)}"
            )
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
            raise refusal(
                TypeError,
                f"replay: rows is of type {type_name(rows)}; pass a pandas DataFrame, an iterable "
                f"of mappings, or events; {hint}",
            )
        if isinstance(rows, Sequence) and rows and not isinstance(rows[0], Event):
            self._require_arguments()
        given: Iterable[Any] = rows
        return given

    def _require_arguments(self) -> None:
        """Refuse rows without the arguments that they need, unlike events."""
        if self._type is None:
            raise refusal(
                ValueError,
                'replay: rows have no type of their own; pass type="reading", '
                "or a function of the row: type=lambda row: f\"reading.{row['sensor']}\"",
            )
        if self._paced and self._time is None:
            raise ValueError("replay: speed needs the times of the rows; pass their column as time=")

    def _item(self, number: int, row: Any) -> ReplayItem:
        if isinstance(row, Event):
            if self._time is not None:
                raise ValueError("replay: events have their own times; leave time out")
            type = row.type if self._type is None else self._type_of(number, row)
            record_of(row).check()
            return ReplayItem(type, row.payload, record_of(row).occurred, row.occurred or row.time)
        if not isinstance(row, Mapping):
            raise refusal(
                TypeError,
                f"replay: row {number} is of type {type_name(row)}; pass mappings, such as "
                "dict(zip(names, row))",
            )
        self._require_arguments()
        moment = self._moment(number, row)
        values = {key: value for key, value in row.items() if key != self._time}
        try:
            values = {
                key: value if value.__class__ in _COMPLETE else self._filled(value)
                for key, value in values.items()
            }
        except Exception as error:  # of a value's own code, or a cycle: `freeze` names the value
            logger.debug("row %d: %s", number, type_name(error))
        payload = freeze(values, what=f"replay: row {number}", error=PayloadError)
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
            time = escape_surrogates(self._time)
            raise ValueError(f'replay: row {number} has no "{time}"; it has {_listed(row)}')
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
            f"replay: row {number} at {self._time}: {quote(value)} is not a time; pass datetimes, as from "
            "pandas.to_datetime, or ISO 8601 strings"
        )

    def _filled(self, value: Any) -> Any:
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
    if is_a(rows, AsyncIterable):
        return "make it a list"
    if not is_a(rows, Iterable) or isinstance(rows, Mapping | str | bytes):
        return "one row is [row]"
    return None


def _listed(names: Iterable[Any]) -> str:
    return ", ".join(escape_surrogates(name) if isinstance(name, str) else quote(name) for name in names)


def _is_frame(rows: Any) -> bool:
    """Return True for a DataFrame, without importing pandas for other objects."""
    if attribute(rows, "iloc") is None:
        return False
    import pandas as pd

    return isinstance(rows, pd.DataFrame)


def _is_missing(value: Any) -> bool:
    import pandas as pd

    numpy = loaded("numpy")
    return pd.isna(value) is True or (numpy is not None and value is numpy.ma.masked)
