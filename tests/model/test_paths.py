"""Paths and selectors."""

import enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from happen_nb._model.freeze import freeze
from happen_nb._model.paths import (
    MISSING,
    format_path,
    list_index,
    lookup,
    missing_hint,
    parse_path,
    select,
    typo_hint,
)
from happen_nb.errors import PathError

STATE = freeze({"orders": {"o1": {"items": ["pen", "ink"]}, "7": "seven", "o.1": 1, "": 2}, "none": None})


class Key(enum.StrEnum):
    ORDERS = "orders"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ((), STATE),
        ("none", None),
        ("orders.o1.items.1", "ink"),
        ("orders.7", "seven"),
        (("orders", "o1", "items", 0), "pen"),
        (("orders", "o1", "items", "0"), "pen"),
        (("orders", "o1", "items", -1), "ink"),
        (("orders", "o.1"), 1),
        (("orders", ""), 2),
        ((Key.ORDERS, "7"), "seven"),
    ],
)
def test_a_path_reads_one_place(path, found):
    assert lookup(STATE, path, MISSING) == found


@pytest.mark.parametrize(
    "path",
    [
        "x",
        "orders.x.y",
        "orders.o.1",
        "orders.o1.items.2",
        "orders.o1.items.-1",
        "orders.o1.items.pen",
        "orders.o1.items.\N{ARABIC-INDIC DIGIT ZERO}",
        "orders.o1.items." + "9" * 5000,
        ("orders", 7),
        ("orders", "o1", "items", 2),
        ("orders", "o1", "items", -3),
        "none.x",
        "orders.7.0",
    ],
)
def test_a_missing_path_returns_the_default(path):
    assert lookup(STATE, path) is None
    assert lookup(STATE, path, MISSING) is MISSING
    assert select(STATE, path) is None


@pytest.mark.parametrize(
    "path", ["", ".", "a.", ".a", "a..b", ["a"], 5, None, b"a", ("a", 1.0), ("a", True), {}]
)
def test_an_invalid_path_is_an_error(path):
    with pytest.raises(PathError):
        parse_path(path)


def test_an_error_about_a_path_shows_how_to_write_it():
    with pytest.raises(PathError, match="tuple"):
        parse_path("a..b")
    with pytest.raises(PathError, match=r"\(\)"):
        parse_path("")


@given(st.lists(st.text(min_size=1).filter(lambda step: "." not in step), min_size=1))
def test_a_path_that_is_formatted_can_be_parsed(steps):
    assert parse_path(format_path(tuple(steps))) == tuple(steps)


def test_steps_that_a_string_cannot_hold_are_shown_as_a_tuple():
    assert format_path(("a.b", 0)) == "('a.b', 0)"
    assert format_path(()) == "()"


def test_a_selector_is_a_callable_a_path_or_nothing():
    assert select(STATE, None) is STATE
    assert select(STATE, "orders.7") == "seven"
    assert select(STATE, lambda state: state["orders"]["7"] * 2) == "sevenseven"
    with pytest.raises(PathError):
        select(STATE, 5)


def test_an_exception_of_a_selector_propagates_unchanged():
    error = KeyError("mine")

    def fails(state):
        raise error

    with pytest.raises(KeyError) as caught:
        select(STATE, fails)
    assert caught.value is error
    assert not hasattr(error, "__notes__")


def test_missing_is_false_and_shows_its_name():
    assert not MISSING
    assert repr(MISSING) == "MISSING"


HINTS = {
    "tmp": "nothing at tmp; there is temp",
    "orders.o1.staus": "nothing at orders.o1.staus; there is orders.o1.status",
    "orders.o7.status": "nothing at orders.o7.status; there is orders.o1",
    "items.5": "nothing at items.5; items is a list of 2",
    "temp.x": "nothing at temp.x; temp is 20.5, which has no parts",
    "empty.x": "nothing at empty.x; empty is empty",
    "qqqq": "nothing at qqqq; there are temp, orders, items",
    "temp": "",
    "none": "",
    "items.0": "",
    (): "",
}


@pytest.mark.parametrize(("path", "hint"), HINTS.items(), ids=map(str, HINTS))
def test_a_hint_names_the_nearest_parts(path, hint):
    state = freeze(
        {"temp": 20.5, "orders": {"o1": {"status": "new"}}, "items": [1, 2], "empty": {}, "none": None}
    )
    assert missing_hint(state, path) == hint


def test_a_hint_is_bounded():
    state = freeze({"k" * 10_000: 1, "l" * 10_000: 2})
    assert len(missing_hint(state, "m" * 10_000)) <= 240


def test_integers_of_numpy_are_indices():
    import numpy as np

    assert parse_path(("items", np.int64(1), np.str_("a"))) == ("items", 1, "a")
    assert [type(step) for step in parse_path(("items", np.int64(1), np.str_("a")))] == [str, int, str]
    for wrong in (True, np.bool_(1), 1.0, None):
        with pytest.raises(PathError):
            parse_path(("items", wrong))


def test_only_a_path_that_looks_like_a_typo_has_a_hint():
    assert typo_hint({"temp": 20}, "tmp") == "nothing at tmp; there is temp"
    assert typo_hint({"temp": 20}, "temp") is None
    assert typo_hint({"temp": 20}, "people") is None


def test_a_step_is_an_index_of_a_list_if_there_is_such_an_item():
    assert [list_index(step, 3) for step in ("1", -1, "3", "one")] == [1, 2, None, None]
