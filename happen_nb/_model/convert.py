"""Convert values that have one obvious JSON form, and advise on all others.

:func:`plain` converts a foreign value one level deep, and :mod:`happen_nb._model.freeze` then its parts.
NumPy and pandas are never imported here: one of their values can only exist after their import.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import inspect
import numbers
import os
import types
import uuid
from collections.abc import Generator, ItemsView, Iterator, KeysView, Mapping, Sequence, ValuesView
from typing import Any, Final

from happen_nb._model.freeze import UnstorableError
from happen_nb._model.functions import loaded
from happen_nb._model.quoting import MAX_QUOTED, error_summary, shorten, type_name

MAX_ARRAY_BYTES: Final = 1_000_000


def plain(value: Any) -> Any:
    """Convert a value that is not plain JSON to its one obvious JSON form, one level deep.

    Raises UnstorableError if there is none; the message names an alternative. If the value's own code
    raised, that exception is the cause.
    """
    try:
        for convert in (_from_standard_library, _from_pandas, _from_numpy):
            result = convert(value)
            if result is not NotImplemented:
                return result
    except (UnstorableError, RecursionError):
        raise
    except Exception as error:
        raised = shorten(error_summary(error), 2 * MAX_QUOTED)
        raise UnstorableError(
            f"a value of type {type_name(value)} raised {raised} when it was converted; store its parts"
        ) from error
    raise _unstorable(value)


def _from_standard_library(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, Mapping):
        return {key: value[key] for key in value}
    if isinstance(value, dt.date) and type(value).__name__ != "NaTType":
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _field(value, field.name) for field in dataclasses.fields(value)}
    return NotImplemented


def _field(value: Any, name: str) -> Any:
    try:
        return getattr(value, name)
    except AttributeError as error:
        raise UnstorableError(
            f'the field "{name}" of the dataclass {type_name(value)} has no value; set it before storing'
        ) from error


def _from_pandas(value: Any) -> Any:
    pandas = loaded("pandas")
    if pandas is None or isinstance(value, type):
        return NotImplemented
    if value is pandas.NA or value is pandas.NaT:
        return None
    if isinstance(value, pandas.api.extensions.ExtensionArray):
        return _array_items(value)
    return NotImplemented


def _from_numpy(value: Any) -> Any:
    numpy = loaded("numpy")
    if numpy is None:
        return NotImplemented
    if value is numpy.ma.masked:
        return None
    if isinstance(value, numpy.ndarray):
        if value.dtype.names is not None:
            return NotImplemented  # the names of its fields would be lost
        return _moments(value, numpy) if value.dtype.kind == "M" and value.ndim else _array_items(value)
    if isinstance(value, numpy.bool_):
        return bool(value)
    if isinstance(value, numpy.integer) and not isinstance(value, numpy.timedelta64):
        return int(value)
    if isinstance(value, numpy.floating):
        return float(value)
    if isinstance(value, numpy.datetime64):
        return None if numpy.isnat(value) else _moment_text(value)
    return NotImplemented


def _array_items(array: Any) -> Any:
    """Return the items of an array as nested lists; the only item of one without dimensions."""
    _check_size(array)
    return array[()] if array.ndim == 0 else array.tolist()


def _check_size(array: Any) -> None:
    if array.nbytes > MAX_ARRAY_BYTES:
        raise UnstorableError(
            f"an array of {array.nbytes:,} bytes is too large for a state (limit {MAX_ARRAY_BYTES:,}); "
            "store a summary, or the name of a file with the data"
        )


def _moments(array: Any, numpy: Any) -> list[Any]:
    _check_size(array)
    return [_moments(row, numpy) if array.ndim > 1 else _from_numpy(row) for row in array]


def _moment_text(moment: Any) -> str:
    item = moment.item()
    if isinstance(item, int):  # nanoseconds: as a datetime if nothing is lost
        coarse = moment.astype("datetime64[us]")
        item = coarse.item() if coarse == moment else moment
    return item.isoformat() if isinstance(item, dt.date) else str(moment)


_FUNCTIONS: Final = (types.FunctionType, types.BuiltinFunctionType, types.MethodType, types.BuiltinMethodType)

_ADVICE: Final[tuple[tuple[tuple[type, ...], str], ...]] = (
    ((dt.timedelta,), "store x.total_seconds()"),
    ((dt.time,), "store x.isoformat()"),
    ((numbers.Rational,), "store str(x), or float(x)"),
    ((numbers.Complex,), "store [x.real, x.imag]"),
    ((set, frozenset), "store sorted(x)"),
    ((bytes, bytearray, memoryview), "store base64.b64encode(x).decode()"),
    (_FUNCTIONS, "call it and store the result, if it was meant to be called"),
    ((type,), "store its name, or an instance of it"),
    ((types.ModuleType,), "store its name, x.__name__"),
    ((Generator, Iterator), "store list(x)"),
    ((KeysView, ValuesView, ItemsView, range, Sequence), "store list(x)"),
    ((os.PathLike,), "store str(x)"),
    ((BaseException,), "store repr(x)"),
)

_LIBRARY_ADVICE: Final = {
    ("decimal", "Decimal"): "store str(x), which is exact, or float(x)",
    ("pandas", "DataFrame"): 'store x.to_dict("records")',
    ("pandas", "Series"): "store x.tolist(), or {str(k): v for k, v in x.items()}",
    ("pandas", "Index"): "store x.tolist()",
    ("pandas", "Period"): "store str(x)",
    ("pandas", "Interval"): "store [x.left, x.right]",
    ("pandas", "ExtensionDtype"): "store str(x)",
    ("numpy", "dtype"): "store str(x)",
    ("numpy", "ndarray"): 'store pandas.DataFrame(x).to_dict("records"), which keeps the names of the fields',
    ("numpy", "void"): ("store dict(zip(x.dtype.names, x.item())), or x.tobytes().hex() if it has no fields"),
    ("numpy", "timedelta64"): "store x.item().total_seconds()",
    ("numpy", "complexfloating"): "store [float(x.real), float(x.imag)]",
    ("happen_nb", "Node"): "store its name, x.name",
    ("happen_nb", "Space"): "store its name, x.name",
    ("happen_nb", "State"): "store x.get()",
    ("happen_nb", "View"): "store x.get()",
    ("happen_nb", "Event"): "store parts of it, such as x.payload or x.id",
    ("happen_nb", "Commit"): "store parts of it, such as x.after or x.revision",
    ("happen_nb", "Result"): "write return value: only async generators yield happen.Result(value)",
    ("polars", "LazyFrame"): "store x.collect().to_dicts()",
    ("polars", "DataFrame"): "store x.to_dicts()",
    ("polars", "Series"): "store x.to_list()",
    ("polars", ""): "store str(x)",
    ("pyarrow", "Table"): "store x.to_pylist()",
    ("pyarrow", "Array"): "store x.to_pylist()",
    ("pyarrow", "ChunkedArray"): "store x.to_pylist()",
    ("pyarrow", "Scalar"): "store x.as_py()",
    ("xarray", "Dataset"): "store x.to_dict()",
    ("xarray", "DataArray"): "store x.to_dict()",
}
"""Advice by the name of a library, and of one of its classes or of all others."""
_PARTS: Final = "store its parts as mappings, lists, strings and numbers, or str(x)"


def _unstorable(value: Any) -> UnstorableError:
    cause, instead = None, _PARTS
    try:
        instead = _instead(value)
    except Exception as error:  # its own code raised
        cause = error
    unstorable = UnstorableError(f"a value of type {type_name(value)} has no JSON form; {instead}")
    unstorable.__cause__ = cause
    return unstorable


def _instead(value: Any) -> str:
    if inspect.isawaitable(value):
        return "await it first, and store its result"
    libraries = [(str(kind.__module__).partition(".")[0], kind.__name__) for kind in type(value).__mro__]
    for library, kind in [*libraries, (libraries[0][0], "")]:
        if (library, kind) in _LIBRARY_ADVICE:
            return _LIBRARY_ADVICE[library, kind]
    for kinds, hint in _ADVICE:
        if isinstance(value, kinds):
            return hint
    return _instead_of_object(value)


def _instead_of_object(value: Any) -> str:
    advice = (
        ("model_dump", "store x.model_dump(mode='json')"),
        ("__attrs_attrs__", "store attrs.asdict(x)"),
        ("tolist", "store x.tolist()"),
        ("__dict__", "make its class a dataclass, or store vars(x)"),
    )
    for attribute, hint in advice:
        if hasattr(value, attribute):
            return hint
    return _PARTS
