"""Code of a value that raises when it is converted: always an error of the library, with the path."""

import collections
import dataclasses
import enum
import re
import uuid

import numpy as np
import pandas as pd
import pytest

from happen_nb._model.freeze import freeze, freeze_state
from happen_nb._model.quoting import quote
from happen_nb._model.transforms import compute
from happen_nb.errors import PayloadError, StateError


class Hint:
    @property
    def model_dump(self):
        raise RuntimeError("no hint")


class Rows(collections.abc.Mapping):
    def __getitem__(self, key):
        raise ZeroDivisionError

    def __iter__(self):
        return iter("ab")

    def __len__(self):
        return 2


class Items(tuple):
    __slots__ = ()

    def __iter__(self):
        raise OSError("x" * 5000)


class Length(list):
    def __len__(self):
        raise OSError("no length")


class Choice(enum.Enum):
    A = 1

    @property
    def value(self):
        raise KeyError("value")


class Id(uuid.UUID):
    def __str__(self):
        raise KeyError("text")


class Silent:
    def __repr__(self):
        raise ValueError

    __str__ = __repr__
    __hash__ = object.__hash__


@dataclasses.dataclass
class Receipt:
    number: int
    total: float = dataclasses.field(init=False)


class Proxy:
    @property
    def __class__(self):
        raise RuntimeError("nothing behind the proxy")


class Meta(type):
    def __getattr__(cls, name):
        if name == "__wrapped__":  # which the collector of doctests asks for
            raise AttributeError(name)
        raise RuntimeError(name)


class WithMeta(metaclass=Meta):
    pass


class Unequal:
    def __eq__(self, other):
        raise RuntimeError("not comparable")

    def __hash__(self):
        return 1


RAISING = {
    "hint": Hint(),
    "mapping": Rows(),
    "tuple": Items((1,)),
    "list": Length([1]),
    "enum": Choice.A,
    "uuid": Id(int=5),
    "unset field": Receipt(7),
    "class": Proxy(),
    "metaclass": WithMeta(),
}
ODD = {
    **RAISING,
    "broken repr": Silent(),
    "broken repr as a key": {Silent(): 1},
    "huge key": {"k" * 100_000: object()},
    "huge integer as a key": {10**5000: 1},
    "lines": {"a\nb": object()},
    "long name": type("T" * 1000, (), {})(),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("error", [StateError, PayloadError])
def test_an_odd_value_is_an_error_with_a_path_and_a_bounded_text(name, error):
    with pytest.raises(error) as raised:
        freeze({"parts": [ODD[name]]}, what="payload", error=error)
    text = str(raised.value)
    assert "payload at " in text
    assert "parts" in text
    assert len(text) < 500
    assert "\n" not in text


@pytest.mark.parametrize("name", RAISING)
def test_an_exception_of_the_values_own_code_is_the_cause(name):
    with pytest.raises(StateError, match=r"at parts\.0") as raised:
        freeze({"parts": [RAISING[name]]})
    assert raised.value.__cause__ is not None


@pytest.mark.parametrize("name", ODD)
def test_a_transform_that_returns_an_odd_value_is_a_state_error(name):
    with pytest.raises(StateError):
        compute(lambda _: ODD[name], freeze_state({}, node="n"), node="n", revision=0)


def test_keys_that_cannot_be_compared_are_a_state_error():
    keys = {Unequal(): 1}
    with pytest.raises(StateError, match="keys must be strings"):
        freeze({"parts": keys})


def test_an_unset_field_is_named():
    with pytest.raises(StateError, match=r'state at parts\.0: the field "total" of the dataclass .*Receipt'):
        freeze({"parts": [Receipt(7)]})


STRUCTURED = np.array([(1, 2.0)], dtype=[("a", int), ("b", float)])
HINTS = {
    "structured array": (STRUCTURED, r'pandas.DataFrame(x).to_dict("records")'),
    "recarray": (STRUCTURED.view(np.recarray), r'pandas.DataFrame(x).to_dict("records")'),
    "record": (STRUCTURED[0], "dict(zip(x.dtype.names, x.item()))"),
    "numpy dtype": (np.dtype(int), "str(x)"),
    "pandas dtype": (pd.CategoricalDtype(), "str(x)"),
}


@pytest.mark.parametrize(("value", "hint"), HINTS.values(), ids=HINTS)
def test_the_hint_leads_somewhere(value, hint):
    with pytest.raises(StateError, match=re.escape(hint)):
        freeze({"x": value})


def test_the_hint_for_structured_arrays_works():
    assert freeze(pd.DataFrame(STRUCTURED).to_dict("records")) == [{"a": 1, "b": 2.0}]
    assert freeze(dict(zip(STRUCTURED.dtype.names, STRUCTURED[0].item(), strict=True))) == {"a": 1, "b": 2.0}


@pytest.mark.parametrize(
    ("kind", "hint"),
    [("DataFrame", "to_dicts()"), ("Series", "to_list()"), ("LazyFrame", "collect()"), ("Int64", "str(x)")],
)
def test_frames_of_polars_have_hints_of_their_own(kind, hint):
    value = type(kind, (), {"__module__": "polars.dataframe.frame"})()
    with pytest.raises(StateError, match=re.escape(hint)):
        freeze({"x": value})


def test_a_quote_is_one_short_line():
    for value in [*ODD.values(), "x" * 10**6, list(range(10**6)), b"\n" * 200]:
        text = quote(value)
        assert len(text) <= 80
        assert "\n" not in text
        text.encode()
