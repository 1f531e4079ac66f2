"""The timeline as a widget: what it does when it is pressed, dragged over, searched and zoomed."""

from __future__ import annotations

import threading

import pytest

from happen_nb import put
from happen_nb.errors import ClosedError
from tests.display.hostile import PAYLOADS
from tests.widgets.receiving import receive


@pytest.fixture
def shop(space, orders):
    stock = space.create_node("stock", initial={"pen": 7})
    orders.on("order.*", lambda event: orders.broadcast("reserve", event.payload))

    @stock.on("reserve")
    def take_from_stock(event):
        stock.state.set(put("pen", lambda left: left - event.payload["number"]))
        if event.payload["number"] > 5:
            raise ValueError("too many")

    for number in (1, 9):
        space.broadcast("order.made", {"number": number}).settle()
    return space


def do(timeline, **message):
    receive(timeline, {"view": "a", **message})


def newest(sent):
    return ([each for each in sent if each["type"] == "drawn"] or [{"svg": ""}])[-1]


def tip(sent):
    return [each for each in sent if each["type"] == "tip"][-1]


def panel(sent):
    return ([each["html"] for each in sent if each["type"] == "panel"] or [""])[-1]


@pytest.fixture
def shown(shop, sent, until):
    timeline = shop.timeline()
    do(timeline, do="draw", width=900)
    until(lambda: newest(sent)["svg"])
    return timeline


def spot(timeline, kind, node):
    spots = timeline._views["a"].drawn.spots
    return [each for each in spots if each.item.kind == kind and each.item.node == node]


def choose(timeline, spot):
    do(timeline, do="choose", x=spot.x, y=spot.y)


def test_it_follows_what_happens(shop, shown, sent, until):
    shop.broadcast("order.late", {"number": 1}).settle()
    until(lambda: len(spot(shown, "event", "notebook")) == 3)
    assert "6 events" in repr(shown)
    assert f"of {shop.name}" in newest(sent)["svg"]


def test_pressing_a_failure_shows_its_error_payload_trace_and_code(shown, sent):
    choose(shown, spot(shown, "failure", "stock")[0])
    for text in ("ValueError: too many", "number", "order.made", "def take_from_stock(event):", "waited"):
        assert text in panel(sent), text


def test_pressing_a_mark_does_not_wait_for_the_server_in_the_thread_of_cells(shown, sent, monkeypatch):
    threads = []
    page = shown._item_page

    def noting_page(item):
        threads.append(threading.current_thread())
        return page(item)

    monkeypatch.setattr(shown, "_item_page", noting_page)
    choose(shown, spot(shown, "commit", "stock")[-1])
    assert "order.made" in panel(sent)
    assert threading.current_thread() not in threads


def test_pressing_a_mark_of_a_closed_space_shows_that(shop, shown, sent):
    at = spot(shown, "commit", "stock")[-1]
    shop.close()
    choose(shown, at)
    assert "connect again" in panel(sent)


def test_pressing_a_commit_shows_what_it_changed_and_its_cause(shown, sent):
    choose(shown, spot(shown, "commit", "stock")[-1])
    assert "pen" in panel(sent)
    assert "order.made" in panel(sent)


def test_of_a_long_journal_states_and_payloads_are_read_when_they_are_looked_at(
    shop, sent, until, monkeypatch
):
    monkeypatch.setattr("happen_nb._journal.slice.SMALL_BYTES", 0)
    timeline = shop.timeline()
    do(timeline, do="draw", width=900)
    until(lambda: newest(sent)["svg"])
    assert not any(record.body for record, _ in timeline._shown.journal.commits)
    (*_, last) = spot(timeline, "commit", "stock")
    choose(timeline, last)
    for text in ("revision 3", "pen", "6", "-3"):
        assert text in panel(sent), text
    choose(timeline, spot(timeline, "event", "orders")[-1])
    assert "number" in panel(sent)
    shop.clear()
    assert "no longer stored" in str(timeline._item_page(last.item))


def test_keys_lead_along_the_lane_to_the_cause_and_to_an_effect(shown, sent):
    choose(shown, spot(shown, "event", "orders")[0])
    view = shown._views["a"]
    for to, kind, node in (
        ("cause", "event", "notebook"),
        ("effect", "handling", "orders"),
        ("next", "event", "orders"),
        ("previous", "handling", "orders"),
    ):
        do(shown, do="step", to=to)
        assert view.chosen[:2] == (kind, node), to


def test_pointing_at_a_mark_names_it_and_nothing_elsewhere(shown, sent):
    at = spot(shown, "event", "notebook")[0]
    do(shown, do="point", x=at.x + 1, y=at.y, request=7)
    assert tip(sent)["request"] == 7
    assert tip(sent)["text"].startswith("order.made · notebook → all\n")
    do(shown, do="point", x=1, y=1, request=8)
    assert (tip(sent)["request"], tip(sent)["text"]) == (8, "")


def test_a_selection_is_added_up_and_can_be_zoomed_to(shown, sent, until):
    first, last = spot(shown, "event", "notebook")
    before_last = last.x - 20  # of a mark that stands alone between two breaks, so is what is nearer to it
    do(shown, **{"do": "select", "from": first.x - 1, "to": before_last})
    assert "all" in panel(sent)
    until(lambda: newest(sent)["selected"])
    do(shown, do="zoom", to="selection")
    until(lambda: newest(sent)["is_part"])
    assert len(spot(shown, "event", "notebook")) == 1
    do(shown, do="zoom", to="in")
    do(shown, do="zoom", to="out")
    do(shown, do="zoom", to="all")
    until(lambda: not newest(sent)["is_part"])
    assert len(spot(shown, "event", "notebook")) == 2


def test_what_is_not_found_steps_back(shown, sent, until):
    do(shown, do="find", text="take_from")
    until(lambda: 'opacity=".16"' in newest(sent)["svg"])


def test_a_group_opens_and_closes(space, sent, until):
    for number in range(12):
        space.create_node(f"p{number}").on("go", lambda event: None)
    space.broadcast("go").settle()
    timeline = space.timeline()
    do(timeline, do="draw", width=900)
    until(lambda: "p* (12)" in newest(sent)["svg"])
    number = [lane.name for lane in timeline._views["a"].drawn.lanes].index("p*")
    do(timeline, do="press", key=f"g{number}")
    until(lambda: ">p11<" in newest(sent)["svg"])
    assert newest(sent)["groups"] == [["p*", True]]
    do(timeline, do="group", name="p*")
    until(lambda: "p* (12)" in newest(sent)["svg"])


def test_hostile_texts_stay_text(space, sent, until):
    node = space.create_node("taker", initial={})

    @node.on("**")
    def fail(event):
        node.state.set(put((event.type,), event.payload))
        raise ValueError(event.type)

    for text in PAYLOADS:
        space.broadcast(text.replace("\x00", ""), {text: text}).settle()
    timeline = space.timeline()
    do(timeline, do="draw", width=900)
    do(timeline, do="find", text="<script>")
    until(lambda: newest(sent)["svg"])
    for kind in ("event", "handling", "failure", "commit"):
        (each, *_) = [each for each in timeline._views["a"].drawn.spots if each.item.kind == kind]
        choose(timeline, each)
        assert "<script" not in panel(sent)
        assert "<img" not in panel(sent)
    for shown in (newest(sent)["svg"], timeline._picture()["text/html"]):
        assert "<script" not in shown
        assert "<iframe" not in shown


def test_closing_it_closes_its_comms_and_a_closed_space_has_none(shop, comms):
    shop.timeline().close()
    assert comms() == 0
    shop.close()
    with pytest.raises(ClosedError):
        shop.timeline()
    assert comms() == 0
