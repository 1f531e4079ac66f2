"""Objects whose own code raises when they are inspected: an error of the library, or they work."""

from __future__ import annotations

import numpy as np
import pytest

import happen_nb as happen
from happen_nb.learn import check


class Unreadable:
    def __getattr__(self, name):
        raise RuntimeError("not ready")


class Nothing:
    """A proxy that stands for nothing now."""

    @property
    def __class__(self):
        raise RuntimeError("nothing behind the proxy")


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no text")


class Unequal:
    def __eq__(self, other):
        raise RuntimeError("not comparable")

    __hash__ = object.__hash__


class Uncounted:
    def __len__(self):
        raise RuntimeError("no length")

    def __index__(self):
        raise RuntimeError("no number")


ODD = [Unreadable, Nothing, Unprintable, Unequal, Uncounted]


def made_callable(kind):
    return type(kind.__name__, (kind,), {"__call__": lambda self, *arguments: arguments[0]})()


@pytest.fixture
def orders(space):
    orders = space.create_node("orders", initial={"n": 1})
    space.broadcast("placed", {"n": 1})
    return orders


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize(
    ("put", "place"),
    [
        (lambda orders, odd: orders.state.set(odd), 'node "orders"|get the state'),
        (lambda orders, odd: orders.state.set(lambda _: odd), 'the transform of node "orders"|state: '),
        (lambda orders, odd: orders.state.set(lambda _: {"a": [odd]}), r"state at a\.0"),
        (lambda orders, odd: orders.state.set(happen.put("a.b", odd)), r"state at a\.b"),
        (lambda orders, odd: orders.state.set(happen.draft(lambda d: odd)), "draft: the edit returned"),
        (lambda orders, odd: orders.state.set(happen.draft(lambda d: d.update(a=odd))), "state at a"),
        (lambda orders, odd: orders.broadcast("placed", {"a": odd}), 'payload of "placed" at a'),
        (lambda orders, odd: orders.space.rerun(instead=lambda event: odd), 'payload of "placed"'),
    ],
)
def test_an_odd_object_is_an_error_that_names_its_place(orders, kind, put, place):
    with pytest.raises(happen.HappenError, match=place):
        put(orders, kind())


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_object_is_not_taken_for_a_function(space, orders, kind):
    odd = kind()
    for call in (
        lambda: happen.draft(odd),
        lambda: happen.carry(odd),
        lambda: orders.on("placed", odd),
        lambda: orders.on("placed", print, where=odd),
        lambda: orders.state.watch(odd),
        lambda: orders.state.wait_for(odd, timeout=0.1),
        lambda: space.wait_for("placed", odd, timeout=0.1),
        lambda: check("the claim", orders, odd),
        lambda: orders.state.live(render=odd),
    ):
        with pytest.raises(TypeError, match=r"pass a|is not callable"):
            call()
    assert not orders.handlers


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_object_is_no_path_number_name_or_choice(space, orders, kind):
    odd = kind()
    for call in (
        lambda: orders.state.get(odd),
        lambda: happen.put(odd, 1),
        lambda: orders.state.history(odd),
        lambda: space.settle(odd),
        lambda: space.create_node(odd),
        lambda: space.send(odd, "placed"),
        lambda: space.replay(odd, type="placed"),
        lambda: space.failures.retry(odd),
        lambda: happen.bind(odd, orders, "n"),
    ):
        with pytest.raises((TypeError, ValueError, happen.HappenError)):
            call()


def test_a_choice_is_compared_with_texts_only(space, store):
    for odd in (Unequal(), np.array([1, 2])):
        for call in (
            lambda odd=odd: happen.connect(store=store, name="odd", clock=odd),
            lambda odd=odd: happen.connect(store=store, name="odd", sync=odd),
            lambda odd=odd: space.timeline(by=odd),
        ):
            with pytest.raises(ValueError, match="pass "):
                call()


@pytest.mark.parametrize("kind", ODD)
def test_a_callable_odd_object_works_as_a_function(space, orders, kind):
    function = made_callable(kind)
    assert orders.state.set(function).changed is False
    assert orders.state.set(happen.draft(function)).changed is False
    assert orders.state.set(happen.compose(function, happen.put("n", 2))).after == {"n": 2}
    assert happen.carry(function)(5) == 5
    orders.on("asked", function, where=function)
    orders.state.watch(function)
    assert orders.state.wait_for(function) == {"n": 2}
    assert check("there is a state", orders, function)
