"""The graph as a widget: what it draws for each view, and how it follows the space."""

from __future__ import annotations

import pytest

from happen_nb._display.plots.graph import Load
from happen_nb._widgets import live_pictures
from happen_nb.errors import ClosedError
from tests.display.hostile import PAYLOADS
from tests.widgets.receiving import receive


@pytest.fixture
def stock(space, orders):
    stock = space.create_node("stock")
    orders.on("order.*", lambda event: orders.send("stock", "reserve", {"id": event.payload}).result())
    stock.on("reserve", lambda event: None)
    return stock


def draw(graph, view="a", width=900):
    receive(graph, {"do": "draw", "view": view, "width": width})


def press(graph, key, view="a"):
    receive(graph, {"do": "press", "view": view, "key": key})


def drawn(sent, view="a"):
    return [each for each in sent if each["type"] == "drawn" and each["view"] == view]


def panel(sent):
    """The newest panel; the picture may be drawn again at any moment."""
    return [each["html"] for each in sent if each["type"] == "panel"][-1]


def newest(sent, view="a"):
    return "".join(each["svg"] for each in drawn(sent, view)[-1:])


def test_each_view_is_drawn_for_its_width_and_again_when_that_changes(space, stock, sent, until):
    space.broadcast("order.made", 1).settle()
    graph = space.graph()
    for view, width in (("a", 700), ("b", 1200)):
        draw(graph, view, width)
        until(lambda view=view, width=width: f'width="{width}"' in newest(sent, view))
    draw(graph, "a", 1000)
    until(lambda: 'width="1000"' in newest(sent))
    assert len(drawn(sent, "b")) == 1


def test_it_follows_the_space_and_a_dot_moves_for_each_event(space, stock, sent, until):
    space.broadcast("order.made", 1).settle()
    graph = space.graph()
    draw(graph)
    until(lambda: len(drawn(sent)) == 1)
    for number in range(3):
        space.broadcast("order.made", number).settle()

    def moved():
        moves = [move for each in drawn(sent) for move in each["moves"]]
        return {key: sum(number for way, number in moves if way == key) for key in (0, 1)} == {0: 3, 1: 3}

    until(moved)
    assert "order.made \N{MULTIPLICATION SIGN}4" in drawn(sent)[-1]["svg"]
    assert "3 events" not in repr(graph)
    assert "8 events handled" in repr(graph)


def test_without_a_view_it_does_not_read_on(space, stock, sent):
    space.broadcast("order.made", 1).settle()
    graph = space.graph()
    space.broadcast("order.made", 2).settle()
    assert "2 events handled" in repr(graph)
    assert not sent


def test_pressing_a_group_opens_it_and_its_button_closes_it(space, orders, sent, until):
    for number in range(12):
        space.create_node(f"p{number}").on("go", lambda event: None)
    space.broadcast("go").settle()
    graph = space.graph()
    draw(graph)
    until(lambda: drawn(sent))
    assert drawn(sent)[-1]["groups"] == [["p*", False]]
    number = [group.name for group in graph._views["a"].drawn.groups].index("p*")
    press(graph, f"n{number}")
    until(lambda: drawn(sent)[-1]["groups"] == [["p*", True]])
    assert ">p11<" in drawn(sent)[-1]["svg"]
    receive(graph, {"do": "group", "view": "a", "name": "p*"})
    until(lambda: drawn(sent)[-1]["groups"] == [["p*", False]])


def test_pressing_an_arrow_or_a_node_shows_its_events(space, stock, sent, until):
    space.broadcast("order.made", 41).settle()
    graph = space.graph()
    draw(graph)
    until(lambda: drawn(sent))
    press(graph, "w0")
    assert "order.made" in panel(sent)
    assert "41" in panel(sent)
    press(graph, "n1")
    assert "reserve" in panel(sent)
    press(graph, "w99")
    assert panel(sent).count("reserve") == 1


def test_what_waits_for_nodes_is_asked_at_each_picture(space, stock, sent, until, monkeypatch):
    space.broadcast("order.made", 1).settle()
    loads = {}
    monkeypatch.setattr(live_pictures, "loads_of", lambda _: loads)
    graph = space.graph()
    loads["stock"] = Load(waiting=7, held=2)
    draw(graph)
    until(lambda: drawn(sent))
    assert "2 held" in drawn(sent)[-1]["svg"]


def test_what_a_pause_holds_stands_in_its_node(space, stock, sent, until):
    space.broadcast("order.made", 1).settle()
    graph = space.graph()
    draw(graph)
    space.pause("order.*")
    space.broadcast("order.made", 2)
    until(lambda: "1 held" in newest(sent))
    space.resume()
    until(lambda: "1 held" not in newest(sent))


def test_clearing_the_space_empties_it(space, stock, sent, until):
    space.broadcast("order.made", 1).settle()
    graph = space.graph()
    draw(graph)
    until(lambda: drawn(sent))
    space.clear()
    until(lambda: "No handled events" in drawn(sent)[-1]["svg"])
    space.broadcast("order.again", 1).settle()
    until(lambda: "order.again" in drawn(sent)[-1]["svg"])


def test_hostile_texts_stay_text(space, sent, until):
    node = space.create_node("taker", initial={})
    node.on("**", lambda event: None)
    for text in PAYLOADS:
        space.broadcast(text.replace("\x00", ""), {text: text}).settle()
    graph = space.graph()
    draw(graph)
    until(lambda: drawn(sent))
    press(graph, "w0")
    for shown in (drawn(sent)[-1]["svg"], panel(sent), graph._picture()["text/html"]):
        assert "<script" not in shown
        assert "<img" not in shown
        assert "<iframe" not in shown


def test_closing_it_closes_its_comms_and_a_closed_space_has_none(space, stock, comms):
    graph = space.graph()
    graph.close()
    assert comms() == 0
    space.close()
    with pytest.raises(ClosedError):
        space.graph()
    assert comms() == 0


def test_a_file_holds_the_picture(space, stock, tmp_path):
    space.broadcast("order.made", 1).settle()
    graph = space.graph()
    assert graph.save(tmp_path / "graph.svg").read_text() == graph.svg


@pytest.mark.parametrize("picture", ["graph", "timeline"])
def test_a_page_that_shows_it_only_after_the_space_was_closed_gets_what_was_read(space, stock, sent, picture):
    space.broadcast("order.made", 1).settle()
    shown = getattr(space, picture)()
    space.close()
    draw(shown)
    assert "stock" in newest(sent)
