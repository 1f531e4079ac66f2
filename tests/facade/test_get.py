"""``state.get`` and selectors."""

from __future__ import annotations

import copy
import json
import pickle

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import happen_nb as happen

STATE = {"orders": {"o1": {"status": "open", "items": ["pen", {"n": 2}]}, "7": {"n": 7}, "o.1": {"n": 1}}}


@pytest.fixture
def orders(space):
    return space.create_node("orders", initial=STATE)


# -- selectors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("selector", "value"),
    [
        (None, STATE),
        ((), STATE),
        ("orders.o1.status", "open"),
        (("orders", "o1", "status"), "open"),
        (("orders", "o.1", "n"), 1),
        ("orders.o1.items.0", "pen"),
        ("orders.o1.items.1.n", 2),
        (("orders", "o1", "items", 1, "n"), 2),
        (("orders", "o1", "items", "0"), "pen"),
        ("orders.7.n", 7),
        (len, 1),
        (lambda s, key="orders": len(s[key]), 3),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_selector_selects(orders, selector, value):
    assert orders.state.get(selector) == value


@pytest.mark.parametrize(
    "path",
    [
        "missing",
        "orders.missing.deeper",
        "orders.o1.status.deeper",
        "orders.o1.items.2",
        "orders.o1.items.pen",
        ("orders", 7),
        ("orders", "o1", "items", 2),
        ("orders", "missing", 0),
    ],
    ids=str,
)
def test_a_missing_path_is_none(orders, path):
    assert orders.state.get(path) is None
    assert orders.space.views.orders.get(path) is None


@pytest.mark.parametrize(
    "path", ["", "a..b", ".a", "a.", ("a", 1.5), ("a", True), ("a", None), 7, ["a"], b"a"]
)
def test_an_invalid_path_is_a_clear_error(orders, path):
    with pytest.raises(ValueError, match="path"):
        orders.state.get(path)


@pytest.mark.parametrize("error", [KeyError("k"), ZeroDivisionError("z"), IndexError("i"), TypeError("t")])
def test_what_a_callable_raises_comes_out_unchanged(orders, error):
    def selector(state):
        raise error

    for read in (orders.state.get, orders.space.views.orders.get):
        with pytest.raises(type(error)) as caught:
            read(selector)
        assert caught.value is error


def test_a_callable_gets_the_frozen_state_itself(orders):
    assert orders.state.get(lambda s: s) is orders.state.get()


_words = st.sampled_from(["a", "b", "0", "1", "x.y", ""])
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=3),
    max_leaves=12,
)


def reference(value, path):
    """The rule of the contract, in words: digits index lists, and are keys on mappings."""
    for step in path:
        if isinstance(value, dict) and step in value:
            value = value[step]
        elif isinstance(value, list) and str(step).isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    state=st.dictionaries(_words, _json, max_size=4),
    paths=st.lists(st.lists(_words | st.integers(0, 2), max_size=4).map(tuple), max_size=8),
)
def test_any_path_reads_what_the_rule_says(space, state, paths):
    node = space.create_node("fuzz")
    node.state.set(state)

    for path in paths:
        assert node.state.get(path) == reference(state, path)
        if path and all(isinstance(step, str) and step and "." not in step for step in path):
            assert node.state.get(".".join(path)) == reference(state, path)


# -- what is read ------------------------------------------------------------------------------------


def test_frozen_containers_give_new_plain_values(orders):
    state = orders.state.get()

    assert state | {"n": 1} == {**STATE, "n": 1}
    assert state["orders"]["o1"]["items"] + [3] == ["pen", {"n": 2}, 3]
    assert json.loads(json.dumps(state)) == STATE
    assert pd.DataFrame([state["orders"]["o1"]])["status"].tolist() == ["open"]
    for duplicate in (
        copy.copy(state),
        copy.deepcopy(state),
        pickle.loads(pickle.dumps(state)),
        state.copy(),
    ):
        assert duplicate == STATE
        duplicate["more"] = 1
    assert state == STATE


def test_a_deep_copy_is_plain_all_the_way_down(orders):
    duplicate = copy.deepcopy(orders.state.get())

    duplicate["orders"]["o1"]["items"].append(3)

    assert orders.state.get("orders.o1.items") == ["pen", {"n": 2}]


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(a=1),
        lambda s: s.pop("orders"),
        lambda s: s.clear(),
        lambda s: s.setdefault("a", 1),
        lambda s: s.__setitem__("a", 1),
        lambda s: s.__delitem__("orders"),
        lambda s: s.__ior__({"a": 1}),
        lambda s: s["orders"]["o1"]["items"].append(1),
        lambda s: s["orders"]["o1"]["items"].__iadd__([1]),
        lambda s: s["orders"]["o1"]["items"].sort(),
        lambda s: s["orders"]["o1"]["items"][1].popitem(),
    ],
)
def test_what_is_read_refuses_every_change(orders, change):
    with pytest.raises(happen.FrozenStateError):
        change(orders.state.get())

    assert orders.state.get() == STATE


# -- fresh -------------------------------------------------------------------------------------------


def test_a_fresh_read_is_not_older_than_the_call_for_any_writer(space, other):
    node = space.create_node("orders")
    other.do('orders = space.create_node("orders")')

    for n in range(50):
        other.do(f'orders.state.set({{"n": {n}}})')
        assert node.state.get("n", fresh=True) == n
