"""The outline of a figure, which comparisons use, has its data but not its times."""

from __future__ import annotations

import json

import pytest

from happen_nb import put
from tests.notebooks.figures import outline


def spec(figure):
    return json.loads(figure.to_json())


@pytest.fixture
def figures(space):
    """Return a function that draws the figures of a space after a number of orders."""
    orders = space.create_node("orders", initial={"open": 0})
    orders.on("order", lambda event: orders.state.set(put("open", event.payload)))

    def make(number):
        space.clear()
        orders.state.set({"open": 0})
        for n in range(number):
            space.broadcast("order", n + 1).settle()
        history = orders.state.history()
        drawn = history.plot("open"), history.plot("open", x="revision")
        return [outline(spec(figure)) for figure in drawn]

    return make


def test_equal_runs_have_equal_outlines_and_other_data_do_not(figures):
    first, second, other = figures(5), figures(5), figures(6)
    assert first == second
    assert all(one != another for one, another in zip(first, other, strict=True))


@pytest.mark.parametrize(("value", "is_equal"), [(2.5, True), (2.5004, True), (2.51, False)])
def test_values_are_compared_to_three_digits(space, value, is_equal):
    node = space.create_node("node")
    outlines = []
    for last in (2.5, value):
        space.clear()
        node.state.set({"value": 1})
        node.state.set({"value": last})
        outlines.append(outline(spec(node.state.history().plot("value"))))
    assert (outlines[0] == outlines[1]) is is_equal
