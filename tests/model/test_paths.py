"""Paths and selectors."""

import enum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from happen_nb.errors import PathError
from happen_nb.model.paths import MISSING, format_path, lookup, parse_path, select
from happen_nb.model.values import freeze

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
def test_a_path_to_nothing_gives_the_default(path):
    assert lookup(STATE, path) is None
    assert lookup(STATE, path, MISSING) is MISSING
    assert select(STATE, path) is None


@pytest.mark.parametrize(
    "path", ["", ".", "a.", ".a", "a..b", ["a"], 5, None, b"a", ("a", 1.0), ("a", True), {}]
)
def test_what_is_no_path_is_an_error(path):
    with pytest.raises(PathError):
        parse_path(path)


def test_an_error_about_a_path_says_how_to_write_it():
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


def test_what_a_selector_raises_comes_out_unchanged():
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
