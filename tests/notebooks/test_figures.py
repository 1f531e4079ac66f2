"""What is compared of a figure: its data, but not its times."""

from __future__ import annotations

import json

import pytest

from happen_nb import put
from tests.notebooks.figures import outline


def spec(figure):
    return json.loads(figure.to_json())


@pytest.fixture
def figures(space):
    """Makes the figures of a space in which the same has happened, with another number of orders each time."""
    orders = space.create_node("orders", initial={"open": 0})
    orders.on("order", lambda event: orders.state.set(put("open", event.payload)))

    def make(number):
        space.clear()
        orders.state.set({"open": 0})
        for n in range(number):
            space.broadcast("order", n + 1).settle()
        history = orders.state.history()
        made = space.timeline(), space.graph(), history.plot("open"), history.plot("open", x="revision")
        return [outline(spec(figure)) for figure in made]

    return make


def test_two_runs_are_equal_and_other_data_are_not(figures):
    first, second, other = figures(5), figures(5), figures(6)
    assert first == second
    assert all(one != another for one, another in zip(first, other, strict=True))


@pytest.mark.parametrize(("value", "is_equal"), [(2.5, True), (2.5004, True), (2.51, False)])
def test_values_are_compared_to_three_digits(space, value, is_equal):
    node = space.create_node("node")
    shown = []
    for last in (2.5, value):
        space.clear()
        node.state.set({"value": 1})
        node.state.set({"value": last})
        shown.append(outline(spec(node.state.history().plot("value"))))
    assert (shown[0] == shown[1]) is is_equal
