"""Sequence diagrams: who sent what to whom, in SVG, in text and for Mermaid."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

import happen_nb as happen
from tests.display.hostile import PAYLOADS

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def shop(space):
    """Orders ask the bank, which replies; an odd one fails."""
    orders, bank = space.create_node("orders"), space.create_node("bank", initial={"taken": 0})

    @orders.on("order.placed")
    def keep(event):
        receipt = orders.send(bank, "charge", event.payload).result()
        orders.state.set(happen.put("receipt", receipt["number"]))
        orders.broadcast("order.paid")

    @bank.on("charge")
    def charge(event):
        if event.payload["total"] < 0:
            raise ValueError("nothing to take")
        bank.state.set(happen.put("taken", lambda taken: taken + event.payload["total"]))
        return {"number": event.payload["total"] + 1}

    return space


def place(shop, total):
    return shop.broadcast("order.placed", {"total": total}).settle()


def texts(svg):
    return ["".join(each.itertext()) for each in ET.fromstring(svg).iter(f"{SVG}text")]


def test_messages_replies_and_commits_stand_in_their_order(shop):
    drawn = place(shop, 40).sequence()
    assert [line.strip() for line in repr(drawn).splitlines()] == [
        "Sequence of order.placed · 3 messages · 2 commits",
        "notebook → orders  order.placed {total: 40}",
        "orders → bank      charge {total: 40}",
        "bank               ~ taken  0 → 40",
        "bank ⇢ orders      reply {number: 41}",
        "orders             + receipt  41",
        "orders             order.paid (no handler)",
    ]
    assert drawn.mermaid.splitlines() == [
        "sequenceDiagram",
        "  participant n0 as notebook",
        "  participant n1 as orders",
        "  participant n2 as bank",
        "  n0->>n1: order.placed #123;total: 40#125;",
        "  n1->>n2: charge #123;total: 40#125;",
        "  Note over n2: ~ taken 0 → 40",
        "  n2-->>n1: reply #123;number: 41#125;",
        "  Note over n1: + receipt 41",
        "  Note over n1: order.paid (no handler)",
    ]
    shown = texts(drawn.svg)
    assert [name for name in shown if name in {"notebook", "orders", "bank"}] == [
        "notebook",
        "orders",
        "bank",
    ]
    assert "charge{total: 40}" in shown
    assert "0" in shown


def test_bars_stay_visible_behind_texts(shop):
    grounds = [
        each for each in ET.fromstring(place(shop, -40).sequence().svg).iter(f"{SVG}rect") if is_ground(each)
    ]
    assert len(grounds) > 2
    assert all(float(each.get("fill-opacity")) < 1 for each in grounds)


def is_ground(rect):
    return "w" in rect.get("class", "").split() and float(rect.get("height")) in {16.0, 18.0, 20.0}


def test_a_failure_is_shown_at_its_node_with_its_error(shop):
    drawn = place(shop, -1).sequence()
    assert "bank               \N{MULTIPLICATION SIGN} failed: ValueError: nothing to take" in repr(drawn)
    assert any("ValueError: nothing" in text for text in texts(drawn.svg))


def test_branches_that_differ_in_values_only_are_shown_once(shop):
    for total in (1, 2, 3):
        place(shop, total)
    place(shop, -1)
    merged, whole = shop.sequence(), shop.sequence(merge=False)
    assert repr(merged).count("order.placed") == 2
    assert "order.placed (the first of 3)" in repr(merged)
    assert repr(whole).count("order.placed") == 4
    assert repr(shop.sequence(limit=1)).count("order.placed") == 1


def test_a_space_an_event_and_a_trace_have_the_same_diagram(shop):
    trace = place(shop, 40)
    event = shop.events("order.placed")[0]
    assert repr(shop.sequence(event)) == repr(shop.sequence(event.id)) == repr(trace.sequence())
    since = repr(shop.sequence(since=shop.events()[-1]))
    assert since == f"Sequence of {shop.name}\n  No messages to show yet."


def test_a_diagram_of_a_large_journal_has_the_payloads(shop, monkeypatch):
    place(shop, 40)
    small = repr(shop.sequence())
    assert "order.placed {total: 40}" in small
    monkeypatch.setattr("happen_nb._journal.slice.SMALL_BYTES", 0)  # only headers are read
    assert repr(shop.sequence()) == small


def test_a_diagram_is_shown_without_script_and_saved_as_a_picture(shop, tmp_path):
    drawn = place(shop, 40).sequence()
    shown = drawn._repr_mimebundle_()
    assert shown["text/plain"] == repr(drawn)
    assert "<svg" in shown["text/html"]
    assert "<script" not in shown["text/html"]
    root = ET.parse(drawn.save(tmp_path / "shop.svg")).getroot()
    assert root.tag == f"{SVG}svg"
    assert "light-dark(" in root.find(f"{SVG}style").text


def test_texts_of_users_are_never_markup_and_stay_in_the_picture(space):
    node = space.create_node("node")
    handled = [text for text in PAYLOADS if text.isprintable()]

    @node.on("**")
    def fail(event):
        node.state.set({event.payload: event.payload})
        raise ValueError(event.payload)

    for text in handled:
        space.broadcast(text[:200], text)
    space.settle()
    drawn = space.sequence(limit=100)
    root = ET.fromstring(drawn.svg)
    assert {each.tag.removeprefix(SVG) for each in root.iter()} == {
        "svg", "style", "line", "rect", "text", "tspan", "g", "title", "circle", "path",
    }  # fmt: skip
    width, height = float(root.get("width")), float(root.get("height"))
    assert all(
        0 <= float(each.get("x")) < width and 0 <= float(each.get("y")) < height
        for each in root.iter(f"{SVG}text")
    )
    lines = drawn.mermaid.splitlines()[1:]
    assert len(lines) == 2 + 3 * len(handled)
    assert not any(set(line.partition(": ")[2]) & set("<>{}`") for line in lines)


def test_a_long_sequence_is_cut_and_stays_small(space):
    node = space.create_node("node")
    node.state.on("tick", lambda state, event: {"n": event.payload})
    space.replay(({"n": n} for n in range(400)), type="tick").wait()
    space.settle()
    drawn = space.sequence(limit=1_000, merge=False)
    assert repr(drawn).splitlines()[-1].strip() == "… 500 more"
    assert len(drawn._repr_mimebundle_()["text/html"]) < 200_000


def test_wrong_arguments_are_refused(space):
    with pytest.raises(ValueError, match="sequence: limit"):
        space.sequence(limit=0)
    with pytest.raises(ValueError, match="sequence: width"):
        space.sequence(width=10)
    with pytest.raises(happen.UnknownEventError):
        space.sequence("unknown")


def test_many_nodes_that_only_handle_share_a_lane(shop):
    for number in range(200):
        shop.create_node(f"till-{number}").on("day.*", lambda event: None)
    till = shop.nodes["till-7"]
    till.on("day.ended", lambda event: till.broadcast("counted"))
    drawn = shop.broadcast("day.ended").settle(60).sequence()
    assert drawn.diagram.lanes == ("notebook", "199 nodes", "till-7")
    assert {"199 nodes", "till-7"} <= set(texts(drawn.svg))


def test_many_nodes_that_only_commit_share_a_lane(space):
    for number in range(60):
        node = space.create_node(f"person-{number}")
        node.on("day", lambda event, context: context.node.state.set({"day": event.payload}))
    drawn = space.broadcast("day", 1).settle(60).sequence()
    assert drawn.diagram.lanes == ("notebook", "60 nodes")
    assert len(drawn.diagram.rows) == 61
    assert "  60 nodes             person-7  + day  1" in repr(drawn).splitlines()
    assert "person-7" in "".join(texts(drawn.svg))
    assert len(drawn._repr_mimebundle_()["text/html"]) < 100_000


@pytest.mark.usefixtures("_server")
def test_a_scheduled_event_shows_how_long_after_its_cause_it_was_due(store):
    with happen.connect(store=store, name="sequence-later", clock="manual", fresh=True) as space:
        node = space.create_node("shop")
        node.on("order.placed", lambda event: node.broadcast("order.expired", after=3600))
        node.on("order.expired", lambda event: node.state.set({"expired": True}))
        space.broadcast("order.placed")
        space.advance(hours=2)
        assert [line.strip() for line in repr(space.sequence()).splitlines()[1:]] == [
            "notebook → shop  order.placed",
            "shop → shop      order.expired (after 1 h)",
            "shop             + expired  True",
        ]
