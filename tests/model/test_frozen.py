"""Frozen containers refuse every change, and give plain ones where a copy is asked for."""

import copy
import json
import operator
import pickle

import orjson
import pandas as pd
import pytest

from happen_nb._model.freeze import freeze
from happen_nb._model.frozen import FrozenDict, FrozenList, equal, thaw
from happen_nb.errors import FrozenStateError

STATE = {"a": {"b": [1, {"c": None}]}, "list": [3, 1, 2]}


def set_class(frozen):
    frozen.__class__ = dict


MAPPING_CHANGES = {
    "setitem": lambda d: operator.setitem(d, "a", 1),
    "delitem": lambda d: operator.delitem(d, "a"),
    "ior": lambda d: operator.ior(d, {"a": 1}),
    "update": lambda d: d.update(a=1),
    "update with nothing": lambda d: d.update(),
    "setdefault of a key that is there": lambda d: d.setdefault("a", 1),
    "pop": lambda d: d.pop("a"),
    "pop of a missing key": lambda d: d.pop("x", None),
    "popitem": lambda d: d.popitem(),
    "clear": lambda d: d.clear(),
    "init again": lambda d: d.__init__({"x": 1}),
    "setattr": lambda d: setattr(d, "x", 1),
    "delattr": lambda d: delattr(d, "x"),
    "class": set_class,
}
LIST_CHANGES = {
    "setitem": lambda x: operator.setitem(x, 0, 1),
    "set slice": lambda x: operator.setitem(x, slice(None), []),
    "delitem": lambda x: operator.delitem(x, 0),
    "del slice": lambda x: operator.delitem(x, slice(None)),
    "iadd": lambda x: operator.iadd(x, [1]),
    "imul": lambda x: operator.imul(x, 2),
    "append": lambda x: x.append(1),
    "extend": lambda x: x.extend([]),
    "insert": lambda x: x.insert(0, 1),
    "pop": lambda x: x.pop(),
    "remove": lambda x: x.remove(3),
    "reverse": lambda x: x.reverse(),
    "sort": lambda x: x.sort(key=str),
    "clear": lambda x: x.clear(),
    "init again": lambda x: x.__init__([1]),
    "setattr": lambda x: setattr(x, "x", 1),
    "class": set_class,
}


@pytest.mark.parametrize("change", MAPPING_CHANGES.values(), ids=MAPPING_CHANGES)
def test_a_frozen_mapping_refuses_every_change(change):
    state = freeze(STATE)
    with pytest.raises(FrozenStateError):
        change(state)
    assert state == STATE
    assert type(state) is FrozenDict


@pytest.mark.parametrize("change", LIST_CHANGES.values(), ids=LIST_CHANGES)
def test_a_frozen_list_refuses_every_change(change):
    items = freeze(STATE)["list"]
    with pytest.raises(FrozenStateError):
        change(items)
    assert items == STATE["list"]
    assert type(items) is FrozenList


def test_every_method_of_dict_and_list_that_changes_is_refused():
    changing = {"__delitem__", "__init__", "__iadd__", "__imul__", "__ior__", "__setitem__"}
    changing |= {"append", "clear", "extend", "insert", "pop", "popitem", "remove", "reverse", "setdefault"}
    changing |= {"sort", "update"}
    for frozen, plain in ((FrozenDict, dict), (FrozenList, list)):
        left = {name for name in changing if hasattr(plain, name) and name not in vars(frozen)}
        assert not left


def test_the_error_names_the_remedy():
    with pytest.raises(FrozenStateError, match=r"\{\*\*state, .*happen\.draft"):
        freeze(STATE)["a"] = 1


def test_a_frozen_container_is_only_made_by_freezing():
    with pytest.raises(FrozenStateError):
        FrozenDict({"a": []})
    with pytest.raises(FrozenStateError):
        FrozenList([[]])
    with pytest.raises(FrozenStateError):
        FrozenDict.fromkeys("ab")


SHALLOW = {
    "copy()": lambda x: x.copy(),
    "copy.copy": copy.copy,
    "operator": lambda x: x | {} if isinstance(x, dict) else operator.add(x, []),
    "reflected": lambda x: {} | x if isinstance(x, dict) else operator.add([], x),
    "times": lambda x: x.copy() if isinstance(x, dict) else x * 1,
    "slice": lambda x: x.copy() if isinstance(x, dict) else x[:],
}


@pytest.mark.parametrize("make", SHALLOW.values(), ids=SHALLOW)
@pytest.mark.parametrize("key", ["a", "list"])
def test_a_shallow_copy_is_plain_and_its_parts_stay_frozen(make, key):
    original = freeze({"a": {"b": {}}, "list": [{}]})[key]
    result = make(original)
    assert type(result) in (dict, list)
    assert result == original
    part = result["b"] if key == "a" else result[0]
    assert type(part) is FrozenDict


@pytest.mark.parametrize(
    "make", [copy.deepcopy, thaw, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "thaw", "pickle"]
)
def test_a_deep_copy_is_plain_and_mutable_all_the_way_down(make):
    result = make(freeze(STATE))
    assert result == STATE
    assert type(result) is dict
    result["a"]["b"][1]["c"] = 1
    result["a"]["b"].append(2)
    assert type(result["a"]["b"]) is list


def test_json_orjson_and_pandas_take_frozen_containers():
    state = freeze({"rows": [{"n": 1, "tags": ["x"]}, {"n": 2, "tags": []}]})
    assert json.loads(json.dumps(state)) == state
    assert orjson.loads(orjson.dumps(state)) == state
    assert pd.DataFrame(state["rows"])["n"].tolist() == [1, 2]
    assert pd.json_normalize(state["rows"]).shape == (2, 2)
    assert pd.Series(state["rows"][0]).to_dict() == {"n": 1, "tags": ["x"]}


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (True, 1, False),
        (1, 1.0, False),
        (0, False, False),
        (None, False, False),
        ("1", 1, False),
        (1.0, 1.0, True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
        ({"a": 1}, {"a": True}, False),
        ({"a": None}, {"b": None}, False),
        ({"a": 1}, {"a": 1, "b": None}, False),
        ([1, 2], [2, 1], False),
        ([1], [1, 1], False),
        ([[1]], [[1.0]], False),
        ({}, [], False),
    ],
)
def test_equality_is_that_of_json(a, b, same):
    assert equal(freeze(a), freeze(b)) is same
    assert equal(freeze(b), freeze(a)) is same
