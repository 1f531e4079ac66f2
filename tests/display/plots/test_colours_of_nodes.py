"""A node has one colour in all pictures of its space."""

import re

import pytest

import happen_nb as happen
from happen_nb._display import recording as page
from happen_nb._display.plots import COLOURS, colours_of
from happen_nb._display.plots.graph_drawing import _GraphDrawing
from happen_nb._model.colours import NodeColours
from happen_nb._widgets.dashboard import Dashboard


def test_nodes_are_numbered_as_they_are_first_seen_and_keep_their_number():
    colours = NodeColours()
    colours.of(["shop", "audit"])
    assert colours.of(["api", "audit"]) == {"shop": 0, "audit": 1, "api": 2}


def test_a_large_group_leaves_the_other_colours_to_other_nodes():
    colours = NodeColours()
    colours.of([f"sensor-{number}" for number in range(100)])
    numbers = colours.of(["hub"])
    assert [numbers[f"sensor-{number}"] for number in range(6)] == [0, 1, 2, 3, 0, 0]
    assert numbers["hub"] == 4


def test_colours_repeat_and_the_person_at_the_notebook_has_one_of_their_own():
    numbers = {f"node {letter}": number for number, letter in enumerate("abcdefghij")}
    found = colours_of([*numbers, "notebook"], numbers)
    assert found["node a"] == found["node i"] == "var(--c0)"
    assert found["notebook"] == f"var(--c{len(COLOURS)})"
    assert colours_of(["x", "y"], None)["y"] == "var(--c1)"


@pytest.fixture
def orders(space):
    """The third of the nodes, so that its colour is not the first one where it is alone."""
    for name in ("web", "stock"):
        space.create_node(name)
    orders = space.create_node("orders", initial={"open": 0})
    orders.on("order.paid", lambda event: orders.state.set({"open": 1}))
    return orders


def used(svg):
    return set(re.findall(r"var\(--c\d\)", svg.split("</style>")[1]))


def test_all_pictures_of_a_node_have_its_colour(space, orders, tmp_path, monkeypatch):
    trace = orders.broadcast("order.paid").settle()
    own = "var(--c2)"
    assert used(trace.sequence().svg) == used(trace.waterfall().svg) == used(space.sequence().svg) == {own}
    assert used(space.timeline(nodes=orders).svg) == {own}
    monkeypatch.setattr(_GraphDrawing, "svg", lambda drawing: drawing._colour["orders"])
    assert space.graph().svg == own
    space.record(tmp_path / "file.html")
    data = page.read((tmp_path / "file.html").read_text("utf-8"))
    assert dict(zip(data["nodes"], data["colours"], strict=True))["orders"] == 2
    dashboard = Dashboard(space)
    assert dashboard._node("orders")["colour"] == 2
    dashboard.close()


def test_a_node_that_comes_later_changes_no_colour_and_a_file_without_colours_is_read(
    space, orders, tmp_path
):
    orders.broadcast("order.paid").settle()
    before = used(space.timeline(nodes="orders").svg)
    space.create_node("another")
    assert used(space.timeline(nodes="orders").svg) == before
    file = tmp_path / "file.html"
    space.record(file)
    data = page.read(file.read_text("utf-8"))
    del data["colours"]
    file.write_text(page.render(data), "utf-8")
    assert happen.recorded(file).counts == space.record().counts
