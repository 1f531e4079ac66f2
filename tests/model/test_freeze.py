"""The values that can be stored, their JSON forms, and the errors about all others."""

import base64
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import math
import pathlib
import subprocess
import sys
import tracemalloc
import types
import typing
import uuid

import numpy as np
import orjson
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import happen_nb.errors
from happen_nb._model.freeze import MAX_DEPTH, biggest_part, dumps, freeze, freeze_state, loads
from happen_nb._model.frozen import FrozenDict, FrozenList, equal, thaw
from happen_nb.errors import HappenError, StateError

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)
keys = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=15,
)


def assert_deeply_frozen(value):
    assert type(value) in (FrozenDict, FrozenList, str, int, float, bool, type(None))
    if isinstance(value, dict):
        assert all(type(key) is str for key in value)
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            assert_deeply_frozen(part)


@given(values)
def test_freezing_keeps_the_value_and_makes_all_of_it_frozen(value):
    frozen = freeze(value)
    assert equal(frozen, value)
    assert_deeply_frozen(frozen)
    assert freeze(frozen) is frozen


@given(st.dictionaries(keys, values, max_size=5), values)
def test_freezing_shares_frozen_parts(state, value):
    frozen = freeze(state)
    changed = freeze({**frozen, "new": value})
    for key in frozen:
        if key != "new":
            assert changed[key] is frozen[key]


def test_a_frozen_value_does_not_follow_its_source():
    source = {"items": [1]}
    frozen = freeze(source)
    source["items"].append(2)
    assert frozen == {"items": [1]}


@given(values)
def test_encoded_values_decode_equal_and_frozen(value):
    frozen = freeze(value)
    again = loads(dumps(frozen))
    assert equal(again, frozen)
    assert_deeply_frozen(again)
    assert equal(freeze(thaw(frozen)), frozen)


class Color(enum.Enum):
    RED = "red"
    POINT = (1, 2)


class Level(enum.IntEnum):
    HIGH = 3


class Word(enum.StrEnum):
    YES = "yes"


class Flags(enum.Flag):
    A = 1
    B = 2


class Text(str):
    __slots__ = ()


@dataclasses.dataclass
class Point:
    x: int
    name: str = "p"


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    ends: tuple


class Named(typing.NamedTuple):
    a: int
    b: str


GOOD = {
    "tuple": ((1, (2,)), [1, [2]]),
    "namedtuple": (Named(1, Word.YES), [1, "yes"]),
    "datetime": (
        dt.datetime(2024, 1, 2, 3, 4, 5),  # noqa: DTZ001
        "2024-01-02T03:04:05",
    ),
    "aware datetime": (dt.datetime(2024, 1, 2, tzinfo=dt.UTC), "2024-01-02T00:00:00+00:00"),
    "date": (dt.date(2024, 1, 2), "2024-01-02"),
    "uuid": (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    "enum": (Color.RED, "red"),
    "enum of a tuple": (Color.POINT, [1, 2]),
    "int enum": (Level.HIGH, 3),
    "str enum": (Word.YES, "yes"),
    "flag": (Flags.A | Flags.B, 3),
    "str subclass": (Text("x"), "x"),
    "key of a str subclass": ({Text("x"): 1, Word.YES: 2, np.str_("n"): 3}, {"x": 1, "yes": 2, "n": 3}),
    "dataclass": (Point(1), {"x": 1, "name": "p"}),
    "slotted dataclass": (Line((Point(1), None)), {"ends": [{"x": 1, "name": "p"}, None]}),
    "ordered dict": (collections.OrderedDict(a=1), {"a": 1}),
    "default dict": (collections.defaultdict(list, a=[1]), {"a": [1]}),
    "counter": (collections.Counter("aab"), {"a": 2, "b": 1}),
    "chain map": (collections.ChainMap({"a": 1}, {"b": 2}), {"a": 1, "b": 2}),
    "user dict": (collections.UserDict(a=(1,)), {"a": [1]}),
    "mapping proxy": (types.MappingProxyType({"a": 1}), {"a": 1}),
    "numpy int": (np.int64(3), 3),
    "numpy unsigned": (np.uint64(2**64 - 1), 2**64 - 1),
    "numpy float": (np.float64(1.5), 1.5),
    "numpy float32": (np.float32(1.5), 1.5),
    "numpy float16": (np.float16(1.5), 1.5),
    "numpy long double": (np.longdouble(1.5), 1.5),
    "numpy bool": (np.bool_(True), True),
    "numpy str": (np.str_("x"), "x"),
    "numpy datetime": (np.datetime64("2024-01-02T03:04:05"), "2024-01-02T03:04:05"),
    "numpy datetime of ns": (np.datetime64("2024-01-02", "ns"), "2024-01-02T00:00:00"),
    "numpy datetime with ns": (
        np.datetime64("2024-01-02T00:00:00.000000001"),
        "2024-01-02T00:00:00.000000001",
    ),
    "numpy date": (np.datetime64("2024-01-02"), "2024-01-02"),
    "numpy NaT": (np.datetime64("NaT", "s"), None),
    "array": (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    "array of floats": (np.array([0.5]), [0.5]),
    "array of bools": (np.array([True]), [True]),
    "array of strings": (np.array(["a", "bc"]), ["a", "bc"]),
    "array of objects": (np.array([{"a": (1,)}, None], dtype=object), [{"a": [1]}, None]),
    "array of datetimes": (
        np.array([["2024-01-02", "NaT"]], dtype="datetime64[ns]"),
        [["2024-01-02T00:00:00", None]],
    ),
    "array without dimensions": (np.array(5), 5),
    "empty array": (np.zeros((0, 3)), []),
    "masked array": (np.ma.array([1, 2], mask=[False, True]), [1, None]),
    "pd.NA": (pd.NA, None),
    "pd.NaT": (pd.NaT, None),
    "timestamp": (pd.Timestamp("2024-01-02 03:04"), "2024-01-02T03:04:00"),
    "pandas array": (pd.array([1, None], dtype="Int64"), [1, None]),
    "categorical": (pd.Categorical(["a", "b"]), ["a", "b"]),
    "largest int": (2**64 - 1, 2**64 - 1),
    "smallest int": (-(2**63), -(2**63)),
    "any text": ("é\u2028\0😀", "é\u2028\0😀"),
    "empty key": ({"": 1}, {"": 1}),
}


@pytest.mark.parametrize(("value", "stored"), GOOD.values(), ids=GOOD)
def test_values_with_one_obvious_json_form_are_converted_to_it(value, stored):
    frozen = freeze({"x": [value]})
    assert equal(frozen, {"x": [stored]})
    assert_deeply_frozen(frozen)
    assert equal(loads(dumps(frozen)), frozen)


class Thing:
    def __init__(self):
        self.a = 1


class Bare:
    __slots__ = ()


async def job():
    pass


def coroutine():
    made = job()
    made.close()
    return made


BAD = {
    "NaN": (math.nan, "None"),
    "inf": (-math.inf, "None"),
    "NaN of numpy": (np.float64("nan"), "None"),
    "int beyond 64 bits": (2**64, r"str\(x\)"),
    "negative int beyond 64 bits": (-(2**63) - 1, r"str\(x\)"),
    "int too long to print": (10**5000, r"str\(x\)"),
    "Decimal": (decimal.Decimal("1.1"), r"str\(x\)"),
    "Fraction": (fractions.Fraction(1, 3), r"str\(x\)"),
    "complex": (1j, r"x\.real"),
    "numpy complex": (np.complex64(1j), r"x\.real"),
    "set": ({1}, r"sorted\(x\)"),
    "frozenset": (frozenset("a"), r"sorted\(x\)"),
    "bytes": (b"x", "base64"),
    "bytearray": (bytearray(b"x"), "base64"),
    "numpy bytes": (np.bytes_(b"x"), "base64"),
    "memoryview": (memoryview(b"x"), "base64"),
    "DataFrame": (pd.DataFrame({"a": [1]}), r'to_dict\("records"\)'),
    "Series": (pd.Series([1]), r"str\(k\): v"),
    "Index": (pd.Index([1]), r"tolist\(\)"),
    "timedelta": (dt.timedelta(1), r"total_seconds\(\)"),
    "pandas timedelta": (pd.Timedelta(1), r"total_seconds\(\)"),
    "numpy timedelta": (np.timedelta64(1, "s"), r"total_seconds\(\)"),
    "time": (dt.time(1), r"isoformat\(\)"),
    "function": (lambda: 1, "call it"),
    "builtin": (len, "call it"),
    "method": ([].append, "call it"),
    "class": (Point, "instance"),
    "module": (math, "name"),
    "generator": ((i for i in ()), r"list\(x\)"),
    "iterator": (map(str, []), r"list\(x\)"),
    "range": (range(3), r"list\(x\)"),
    "deque": (collections.deque(), r"list\(x\)"),
    "user list": (collections.UserList(), r"list\(x\)"),
    "dict keys": ({}.keys(), r"list\(x\)"),
    "dict values": ({}.values(), r"list\(x\)"),
    "dict items": ({}.items(), r"list\(x\)"),
    "coroutine": (coroutine(), "await"),
    "path": (pathlib.Path("x"), r"str\(x\)"),
    "exception": (ValueError("x"), r"repr\(x\)"),
    "object": (Thing(), "dataclass"),
    "bare object": (Bare(), r"str\(x\)"),
    "ellipsis": (..., r"str\(x\)"),
    "lone surrogate": ("a\ud800", "encode"),
    "large array": (np.zeros(200_000), "too large"),
    "large array of datetimes": (np.zeros(200_000, dtype="datetime64[s]"), "too large"),
    "large extension array": (pd.array(np.zeros(200_000), dtype="Float64"), "too large"),
    "period": (pd.Period("2024"), r"str\(x\)"),
}


@pytest.mark.parametrize(("value", "hint"), BAD.values(), ids=BAD)
def test_everything_else_is_an_error_with_its_path_and_a_hint(value, hint):
    with pytest.raises(StateError, match=rf"(?s)^state at orders\.o1\.1: .*{hint}"):
        freeze({"fine": 1, "orders": {"o1": [None, value]}})
    with pytest.raises(StateError, match=rf"(?s)^state at orders\.o1: .*{hint}"):
        freeze({"fine": 1, "orders": {"o1": value}})


@pytest.mark.parametrize(("value", "hint"), BAD.values(), ids=BAD)
def test_at_the_top_too(value, hint):
    with pytest.raises(StateError, match=rf"(?s)^state: .*{hint}"):
        freeze(value)


BAD_KEYS = {
    "int": (1, "str"),
    "None": (None, "str"),
    "tuple": ((1, 2), "str"),
    "numpy int": (np.int64(1), "str"),
    "int enum": (Level.HIGH, "str"),
    "bytes": (b"a", "str"),
    "lone surrogate": ("\udfff", "encode"),
}


@pytest.mark.parametrize(("key", "hint"), BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_key_that_is_no_text_is_an_error_at_its_mapping(key, hint):
    with pytest.raises(StateError, match=rf"^state at orders: the key .*{hint}"):
        freeze({"orders": {"a": 1, key: 2}})


def test_the_error_about_keys_contains_the_comprehension_to_use():
    with pytest.raises(StateError, match=r"\{str\(k\): v for k, v in x\.items\(\)\}"):
        freeze(pd.Series([5, 6]).to_dict())


def test_keys_that_become_the_same_text_are_an_error():
    class Odd(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other):
            return self is other

    with pytest.raises(StateError, match="same"):
        freeze({"a": 1, Odd("a"): 2})


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_nan_in_an_array_is_named_with_its_index(bad):
    with pytest.raises(StateError, match=r"^state at series\.1\.0: "):
        freeze({"series": np.array([[1.0, 2.0], [bad, 3.0]])})


def test_a_path_with_a_dotted_key_is_shown_as_a_tuple():
    with pytest.raises(StateError, match=r"^state at \('a\.b', 0\): "):
        freeze({"a.b": [{1}]})


@pytest.mark.parametrize("make", [lambda inner: {"k": inner}, lambda inner: [inner]], ids=["dict", "list"])
def test_nesting_is_limited_to_the_depth_that_json_libraries_accept(make):
    value = make(1)
    for _ in range(MAX_DEPTH - 1):
        value = make(value)
    assert equal(loads(dumps(freeze(value))), value)
    with pytest.raises(StateError, match="nests too deeply"):
        freeze(make(value))


def test_sharing_cannot_nest_deeper_than_can_be_written():
    state = freeze({})
    for _ in range(253):
        state = freeze({"inner": state})
    assert equal(loads(dumps(state)), state)
    with pytest.raises(StateError, match="nests too deeply"):
        dumps(freeze({"inner": state}))
    with pytest.raises(StateError, match="nests too deeply"):
        loads(b"[" * 255 + b"]" * 255)
    with pytest.raises(StateError, match="nests too deeply"):
        loads(b"[" * 1000 + b"]" * 1000)
    assert loads(b"[" * 254 + b"]" * 254) is not None


def test_the_error_about_a_cycle_names_its_start():
    state = {"a": {"b": []}}
    state["a"]["b"].append(state["a"])
    with pytest.raises(StateError, match=r"^state at a\.b\.0: it contains itself"):
        freeze(state)
    items = []
    items.append(items)
    with pytest.raises(StateError, match=r"^state at 0: it contains itself"):
        freeze(items)
    proxy = collections.UserDict()
    proxy["me"] = proxy
    with pytest.raises(StateError, match="nests too deeply"):
        freeze(proxy)


def test_one_part_in_two_places_is_no_cycle():
    part = {"n": [1]}
    assert freeze({"a": part, "b": [part, part]}) == {"a": part, "b": [part, part]}


class OtherError(HappenError):
    pass


def test_the_caller_names_the_value_and_the_error():
    with pytest.raises(OtherError, match=r"^payload of tick at a: "):
        freeze({"a": {1}}, what="payload of tick", error=OtherError)


def test_a_state_is_a_mapping():
    assert freeze_state(collections.OrderedDict(a=1), node="n") == {"a": 1}
    with pytest.raises(StateError, match=r'node "orders" returned None; .*forget "return"'):
        freeze_state(None, node="orders")
    with pytest.raises(StateError, match=r'node "orders" returned an int; a state is a mapping'):
        freeze_state(5, node="orders")
    with pytest.raises(StateError, match=r'node "orders" returned a list; a state is a mapping'):
        freeze_state([], node="orders")


@pytest.mark.parametrize("data", [b"", b"{", b"NaN", b"[1e999]", b"\xff", b'"\\ud800"', b"{'a':1}", b"1 2"])
def test_invalid_json_is_an_error(data):
    with pytest.raises(StateError, match="not JSON"):
        loads(data)


def test_the_biggest_part_is_named():
    state = freeze({"a": 1, "log": {"x.y": [{"blob": "b" * 5000}, 1], "z": "c" * 100}})
    assert biggest_part(state) == ("('log', 'x.y', 0, 'blob')", 5002)
    even = freeze({f"k{i}": {"v": "x" * (i + 1)} for i in range(5)})
    assert biggest_part(even)[0] == "k4.v"
    many = freeze({"rows": [[i] for i in range(100)], "n": 1})
    assert biggest_part(many) == ("rows", len(orjson.dumps(many["rows"])))


def test_the_advice_about_bytes_works():
    assert freeze({"b": base64.b64encode(b"x").decode()}) == {"b": "eA=="}


def test_the_model_is_pure():
    script = """
import sys, types
package = types.ModuleType("happen_nb")
package.__path__ = [sys.argv[1]]
sys.modules["happen_nb"] = package
import happen_nb._model.frozen, happen_nb._model.drafts, happen_nb._model.transforms
from happen_nb._model.freeze import freeze
freeze({"a": (1, 2)})
try:
    freeze({"a": object()})
except ValueError:
    print(sorted({"asyncio", "nats", "numpy", "pandas", "socket"} & set(sys.modules)))
"""
    package = pathlib.Path(happen_nb.errors.__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", script, str(package)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_json_of_a_small_state_takes_no_more_memory_than_its_bytes():
    values = [freeze({"n": number}) for number in range(1000)]
    tracemalloc.start()
    try:
        texts = list(map(dumps, values))
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken < 2 * sum(map(sys.getsizeof, texts))
