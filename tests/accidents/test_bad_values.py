"""Values without a JSON form: an error with path and hint; nothing is stored or converted silently."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import math
import uuid
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest

import happen_nb as happen

NAIVE = dt.datetime(2026, 11, 25, 12, 30)  # noqa: DTZ001 - what happens to one is what is tested


class Plain:
    def __init__(self):
        self.x = 1


class Color(enum.Enum):
    RED = "red"


@dataclass
class Point:
    x: int
    y: float


def function():
    pass


BAD = {
    "set": ({1, 2}, "sorted"),
    "frozenset": (frozenset({1}), "sorted"),
    "bytes": (b"x", "base64"),
    "DataFrame": (pd.DataFrame({"a": [1]}), r'to_dict\("records"\)'),
    "Series": (pd.Series([1]), "tolist"),
    "object": (Plain(), "dataclass|vars"),
    "function": (function, "called"),
    "lambda": (lambda: 1, "called"),
    "class": (Plain, "name"),
    "module": (math, "name"),
    "generator": ((x for x in [1]), "list"),
    "Decimal": (decimal.Decimal("1.5"), "str"),
    "complex": (1j, "real"),
    "timedelta": (dt.timedelta(1), "total_seconds"),
    "nan": (math.nan, "None"),
    "inf": (math.inf, "None"),
    "-inf": (-math.inf, "None"),
    "numpy nan": (np.float32("nan"), "None"),
    "nan in an array": (np.array([1.0, math.nan]), "None"),
    "large int": (2**64, "str"),
    "small int": (-(2**63) - 1, "str"),
    "large array": (np.zeros(200_000), "summary|file"),
    "lone surrogate": ("\ud800", "encode"),
    "exception": (ValueError("x"), "repr"),
}


@pytest.fixture
def orders(space):
    return space.create_node("orders", initial={"n": 0})


@pytest.mark.parametrize(("value", "hint"), BAD.values(), ids=BAD)
def test_a_value_without_a_json_form_is_an_error_with_its_path_and_a_hint(orders, value, hint):
    ways = [
        lambda: orders.state.set({"deep": {"list": [0, value]}}),
        lambda: orders.state.set(lambda s: {**s, "deep": {"list": [0, value]}}),
        lambda: orders.state.set(happen.draft(lambda d: d.update({"deep": {"list": [0, value]}}))),
        lambda: orders.state.set(happen.put("deep", {"list": [0, value]})),
        lambda: orders.space.create_node("other", initial={"deep": {"list": [0, value]}}),
    ]
    for way in ways:
        with pytest.raises(happen.StateError, match=rf"(?s)deep\.list\.1.*({hint})"):
            way()

    assert orders.state.get(fresh=True) == {"n": 0}
    assert orders.state.revision == 1


@pytest.mark.parametrize(
    ("part", "hint"),
    [
        (lambda node: node, r"x\.name"),
        (lambda node: node.space, r"x\.name"),
        (lambda node: node.state, r"x\.get\(\)"),
        (lambda node: node.space.views.orders, r"x\.get\(\)"),
        (lambda node: node.broadcast("order.paid"), r"x\.payload or x\.id"),
        (lambda node: node.state.set({"n": 1}), r"x\.after or x\.revision"),
    ],
    ids=["node", "space", "state", "view", "event", "commit"],
)
def test_an_object_of_the_library_is_an_error_that_names_the_part_to_store(orders, part, hint):
    with pytest.raises(happen.StateError, match=hint):
        orders.state.set({"deep": part(orders)})


def test_a_generator_that_yields_a_result_as_an_async_one_does_is_told_to_return_it(orders):
    def count(event):
        yield happen.Result(5)

    orders.on("count", count)
    with pytest.raises(happen.HandlerError, match="write return value: only async generators yield"):
        orders.space.send("orders", "count").result(10)


@pytest.mark.parametrize("key", [1, 1.5, None, True, (1, 2), dt.date(2026, 1, 1)], ids=repr)
def test_a_key_that_is_no_string_is_an_error_that_gives_the_one_line_fix(orders, key):
    with pytest.raises(happen.StateError, match=r"stock.*\{str\(k\): v for k, v in x\.items\(\)\}"):
        orders.state.set({"stock": {key: 1}})
    with pytest.raises(happen.StateError, match=r"str\(k\): v"):
        orders.state.set({key: 1})


def test_the_dict_of_a_series_has_such_keys(orders):
    with pytest.raises(happen.StateError, match=r"str\(k\): v"):
        orders.state.set({"by_row": pd.Series([5, 6]).to_dict()})


def test_a_state_that_contains_itself_is_an_error(orders):
    circle = {"name": "circle"}
    circle["self"] = circle

    with pytest.raises(happen.StateError, match="itself"):
        orders.state.set({"circle": circle})


OBVIOUS = {
    "tuple": ((1, (2,)), [1, [2]]),
    "naive datetime": (NAIVE, "2026-11-25T12:30:00"),
    "aware datetime": (dt.datetime(2026, 11, 25, 12, 30, tzinfo=dt.UTC), "2026-11-25T12:30:00+00:00"),
    "date": (dt.date(2026, 11, 25), "2026-11-25"),
    "UUID": (uuid.UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    "Enum": (Color.RED, "red"),
    "dataclass": (Point(1, 2.5), {"x": 1, "y": 2.5}),
    "numpy int": (np.int64(7), 7),
    "numpy float": (np.float64(1.5), 1.5),
    "numpy bool": (np.bool_(True), True),
    "array": (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    "Timestamp": (pd.Timestamp("2026-11-25 12:30"), "2026-11-25T12:30:00"),
    "pd.NA": (pd.NA, None),
    "NaT": (pd.NaT, None),
    "largest int": (2**64 - 1, 2**64 - 1),
    "smallest int": (-(2**63), -(2**63)),
}


@pytest.mark.parametrize(("value", "stored"), OBVIOUS.values(), ids=OBVIOUS)
def test_what_has_one_obvious_json_form_is_converted_at_the_commit(orders, value, stored):
    commit = orders.state.set({"value": value})

    assert commit.after == {"value": stored}
    assert type(commit.after["value"]) is type(orders.state.history()[-1].after["value"])
    assert orders.state.history()[-1].after == {"value": stored}


def test_a_moment_is_read_back_as_text_in_every_process(orders):
    """A naive one is stored as written: no time zone is made up."""
    orders.state.set({"at": NAIVE})

    assert orders.state.get("at") == "2026-11-25T12:30:00"


# -- forgotten, or too much --------------------------------------------------------------------------


def test_a_forgotten_return_is_an_error_with_the_one_line_fix(orders):
    def forgot(state):
        {**state, "n": 1}  # noqa: B018

    with pytest.raises(happen.StateError, match=r'"orders" returned None; .*forget "return"'):
        orders.state.set(forgot)


@pytest.mark.parametrize("result", [7, "text", [1], True], ids=repr)
def test_a_transform_that_returns_no_mapping_is_told_what_a_state_is(orders, result):
    with pytest.raises(happen.StateError, match="mapping at the top"):
        orders.state.set(lambda s: result)


@pytest.mark.parametrize("result", [7, {"n": 1}, [], False], ids=repr)
def test_a_draft_that_returns_something_is_an_error_with_the_one_line_fix(orders, result):
    with pytest.raises(happen.StateError, match='remove the "return"'):
        orders.state.set(happen.draft(lambda d: result))

    assert orders.state.revision == 1


def test_a_draft_that_returns_a_part_of_itself_is_an_error(space):
    node = space.create_node("n", initial={"deep": {"n": 1}})

    with pytest.raises(happen.StateError, match='remove the "return"'):
        node.state.set(happen.draft(lambda d: d["deep"]))


def test_a_draft_may_return_itself(orders):
    def edit(d):
        d["n"] = 1
        return d

    assert orders.state.set(happen.draft(edit)).after == {"n": 1}


def test_a_draft_that_is_kept_is_refused_afterwards(orders):
    kept = []
    orders.state.set(happen.draft(kept.append))

    with pytest.raises(happen.FrozenStateError, match="transform had ended"):
        kept[0]["n"] = 5
    assert orders.state.get() == {"n": 0}


@pytest.mark.parametrize("what", [None, 7, "text", [("n", 1)]], ids=repr)
def test_set_of_what_is_neither_function_nor_mapping_says_what_to_write(orders, what):
    with pytest.raises(
        happen.StateError, match=r"neither a function of the state nor a mapping.*set\(lambda state"
    ):
        orders.state.set(what)
