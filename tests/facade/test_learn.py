"""Exercises that check themselves: what a verdict names."""

from __future__ import annotations

import pytest

import happen_nb as happen
from happen_nb.learn import check


def test_a_rule_that_holds_for_each_state_of_a_node(space: happen.Space) -> None:
    stock = space.create_node("stock", initial={"pens": 3})
    stock.state.set({"pens": 0})

    verdict = check("never less than no pens", stock, lambda state: state["pens"] >= 0)

    assert verdict
    assert (verdict.checked, verdict.broken, verdict.trace) == (2, (), None)
    assert repr(verdict) == "✓ never less than no pens · holds for 2 commits"


def test_the_commit_that_breaks_it_is_named_with_the_event_that_led_to_it(space: happen.Space) -> None:
    stock = space.create_node("stock", initial={"pens": 1})

    @stock.on("sold")
    def sell(event: happen.Event) -> None:
        stock.state.set(happen.put("pens", lambda pens: pens - event.payload))

    for number in (1, 2):
        sold = space.broadcast("sold", number)
    sold.settle()

    verdict = check("never less than no pens", stock, lambda state: state["pens"] >= 0)

    assert not verdict
    assert [commit.revision for commit in verdict.broken] == [3]
    assert verdict.trace is not None
    assert verdict.trace.root.event is not None
    assert verdict.trace.root.event.id == sold.id
    assert repr(verdict).splitlines() == [
        "✗ never less than no pens · broken by 1 of 3 commits",
        "  first by commit of stock · revision 3 · by stock",
        "  ~ pens  0 → -2",
        "  what led to it, and what followed:",
        "  sold  notebook → stock",
        "    stock revision 3  ~ pens  0 → -2",
    ]


def test_the_trace_of_an_event_begins_with_what_caused_it(space: happen.Space) -> None:
    orders = space.create_node("orders")
    orders.on("paid", lambda event: orders.broadcast("ready", event.payload) and None)
    for _ in range(2):
        paid = space.broadcast("paid", "o1")
        paid.settle()

    verdict = check(
        "each is ready once",
        space.events("ready"),
        lambda event, earlier: event.payload not in [each.payload for each in earlier],
    )

    assert verdict.trace is not None
    assert verdict.trace.root.event is not None
    assert verdict.trace.root.event.id == paid.id
    assert [node.event.type for node in verdict.trace if node.event] == ["paid", "ready"]


def test_a_long_trace_is_shown_in_part(space: happen.Space) -> None:
    orders = space.create_node("orders")
    orders.on("again", lambda event: event.payload and orders.broadcast("again", event.payload - 1) and None)
    space.broadcast("again", 50).settle()

    shown = repr(check("it is not said again", space.events(), lambda _, earlier: not earlier)).splitlines()

    assert "broken by 50 of 51 events" in shown[0]
    assert len(shown) < 30
    assert shown[-1].endswith("more")


def test_a_node_of_another_space_than_the_current_one_has_its_trace_too(space: happen.Space) -> None:
    stock = space.create_node("stock", initial={"pens": 1})
    stock.on("sold", lambda _: stock.state.set({"pens": 0}) and None)
    sold = space.broadcast("sold")
    sold.settle()
    with happen.connect(store=":memory:", name="current"):
        verdict = check("there are pens", stock, lambda state: state["pens"])

    assert verdict.trace is not None
    assert verdict.trace.root.event is not None
    assert verdict.trace.root.event.id == sold.id


def test_a_rule_may_look_at_all_before(space: happen.Space) -> None:
    for order in ("o1", "o2", "o1", "o1"):
        space.broadcast("shipped", order)

    verdict = check(
        "each is shipped once",
        space.events("shipped"),
        lambda event, earlier: event.payload not in [each.payload for each in earlier],
    )

    assert [event.payload for event in verdict.broken] == ["o1", "o1"]
    assert "broken by 2 of 4 events" in repr(verdict)


def test_what_the_rule_raises_breaks_it_and_is_told(space: happen.Space) -> None:
    stock = space.create_node("stock", initial={})

    verdict = check("there is a price", stock, lambda state: state["price"] > 0)

    assert not verdict
    assert verdict.error == "KeyError: 'price'"
    assert "the rule raised KeyError: 'price'" in repr(verdict)


def test_where_there_is_nothing_yet_it_does_not_hold(space: happen.Space) -> None:
    verdict = check("all were paid", space.events("paid"), lambda _: True)

    assert not verdict
    assert verdict.broken == ()
    assert repr(verdict) == "… all were paid · nothing to look at yet: run the cells above"


@pytest.mark.parametrize("what", [3, "orders", {"pens": 3}, [3]])
def test_what_is_no_commit_or_event_is_refused(what: object) -> None:
    with pytest.raises(TypeError, match=r"give a node, space\.events"):
        check("anything", what, lambda _: True)  # type: ignore[arg-type]


def test_a_rule_for_a_journal_is_looked_at_for_commits_and_events(space: happen.Space) -> None:
    orders = space.create_node("orders", initial={"n": 1})
    orders.broadcast("order.paid")

    def later(item: happen.Commit | happen.Event, earlier: list[happen.Commit | happen.Event]) -> bool:
        return all(each.sequence < item.sequence for each in earlier)

    assert repr(check("one order", space.journal(), later)) == "✓ one order · holds for 2 items"
    assert repr(check("one order", space.journal().events, later)) == "✓ one order · holds for 1 event"


def test_html_in_a_rule_or_state_is_text(space: happen.Space) -> None:
    stock = space.create_node("stock", initial={"<img src=x onerror=alert(1)>": 1})

    html = check("<script>alert(1)</script>", stock, lambda _: False)._repr_mimebundle_()["text/html"]

    assert "<script" not in html
    assert "<img" not in html
