"""Tools for tutorials: verdicts, and concurrency and failures that repeat exactly."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import happen_nb as happen
from happen_nb.learn import (
    check,
    count_calls,
    kill_server,
    meanwhile,
    median_ms,
    repeat,
    second_kernel,
    wait_until,
)


def test_a_rule_holds_for_each_state_of_a_node(space: happen.Space) -> None:
    stock = space.create_node("stock", initial={"pens": 3})
    stock.state.set({"pens": 0})

    verdict = check("never fewer than zero pens", stock, lambda state: state["pens"] >= 0)

    assert verdict
    assert (verdict.checked, verdict.broken, verdict.trace) == (2, (), None)
    assert repr(verdict) == "✓ never fewer than zero pens · holds for 2 commits"


def test_the_commit_that_breaks_a_rule_is_shown_with_the_event_that_caused_it(space: happen.Space) -> None:
    stock = space.create_node("stock", initial={"pens": 1})

    @stock.on("sold")
    def sell(event: happen.Event) -> None:
        stock.state.set(happen.put("pens", lambda pens: pens - event.payload))

    for number in (1, 2):
        sold = space.broadcast("sold", number)
    sold.settle()

    verdict = check("never fewer than zero pens", stock, lambda state: state["pens"] >= 0)

    assert not verdict
    assert [commit.revision for commit in verdict.broken] == [3]
    assert verdict.trace is not None
    assert verdict.trace.root.event is not None
    assert verdict.trace.root.event.id == sold.id
    assert repr(verdict).splitlines() == [
        "✗ never fewer than zero pens · broken by 1 of 3 commits",
        "  first by commit of stock · revision 3 · by stock",
        "  ~ pens  0 → -2",
        "  causes and effects:",
        "  sold  notebook → stock",
        "    stock revision 3  ~ pens  0 → -2",
    ]


def test_the_trace_of_an_event_starts_at_its_cause(space: happen.Space) -> None:
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


def test_a_long_trace_is_shortened(space: happen.Space) -> None:
    orders = space.create_node("orders")
    orders.on("again", lambda event: event.payload and orders.broadcast("again", event.payload - 1) and None)
    space.broadcast("again", 50).settle()

    shown = repr(check("it is broadcast once", space.events(), lambda _, earlier: not earlier)).splitlines()

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


def test_a_rule_may_receive_all_earlier_items(space: happen.Space) -> None:
    for order in ("o1", "o2", "o1", "o1"):
        space.broadcast("shipped", order)

    verdict = check(
        "each is shipped once",
        space.events("shipped"),
        lambda event, earlier: event.payload not in [each.payload for each in earlier],
    )

    assert [event.payload for event in verdict.broken] == ["o1", "o1"]
    assert "broken by 2 of 4 events" in repr(verdict)


def test_an_exception_breaks_the_rule_and_is_shown(space: happen.Space) -> None:
    stock = space.create_node("stock", initial={})

    verdict = check("there is a price", stock, lambda state: state["price"] > 0)

    assert not verdict
    assert verdict.error == "KeyError: 'price'"
    assert "the rule raised KeyError: 'price'" in repr(verdict)


def test_a_rule_does_not_hold_when_there_is_nothing_to_check(space: happen.Space) -> None:
    verdict = check("all were paid", space.events("paid"), lambda _: True)

    assert not verdict
    assert verdict.broken == ()
    assert repr(verdict) == "… all were paid · nothing to check yet: run the cells above"


@pytest.mark.parametrize("subject", [3, "orders", {"pens": 3}, [3]])
def test_anything_but_commits_and_events_is_refused(subject: object) -> None:
    with pytest.raises(TypeError, match=r"pass a node, space\.events"):
        check("anything", subject, lambda _: True)  # type: ignore[arg-type]


def test_a_claim_that_is_no_text_is_refused(space: happen.Space) -> None:
    with pytest.raises(TypeError, match="says is 5"):
        check(5, space.events(), lambda _: True)  # type: ignore[arg-type]


def test_a_journal_is_checked_commit_by_commit_and_event_by_event(space: happen.Space) -> None:
    orders = space.create_node("orders", initial={"n": 1})
    orders.broadcast("order.paid")

    def later(item: happen.Commit | happen.Event, earlier: list[happen.Commit | happen.Event]) -> bool:
        return all(each.sequence < item.sequence for each in earlier)

    assert repr(check("one order", space.journal(), later)) == "✓ one order · holds for 2 items"
    assert repr(check("one order", space.journal().events, later)) == "✓ one order · holds for 1 event"


def test_markup_in_a_claim_or_a_state_is_escaped(space: happen.Space) -> None:
    stock = space.create_node("stock", initial={"<img src=x onerror=alert(1)>": 1})

    html = check("<script>alert(1)</script>", stock, lambda _: False)._repr_mimebundle_()["text/html"]

    assert "<script" not in html
    assert "<img" not in html


def test_a_transform_is_disturbed_once_and_its_calls_are_counted(space: happen.Space) -> None:
    stock = space.create_node("stock", initial={"pens": 3})
    sell_one = happen.put("pens", lambda pens: pens - 1)
    another_sale = meanwhile(lambda: stock.state.set(sell_one))

    @count_calls
    def sell(state: Mapping[str, Any]) -> Mapping[str, Any]:
        another_sale()
        return sell_one(state)

    assert stock.state.set(sell).after == {"pens": 1}
    assert sell.calls == 2


def test_what_goes_wrong_meanwhile_is_raised_in_the_transform(space: happen.Space) -> None:
    stock = space.create_node("stock", initial={"pens": 3})
    wrong = meanwhile(lambda: stock.state.set({"pens": {1}}))

    with pytest.raises(happen.StateError, match="set"):
        stock.state.set(lambda state: wrong() or state)

    assert stock.state.get() == {"pens": 3}


def test_a_condition_that_never_holds_is_a_timeout() -> None:
    with pytest.raises(happen.HappenTimeoutError, match=r"did not hold within 0\.01 s"):
        wait_until(lambda: False, timeout=0.01)


def test_a_repeater_stops_when_asked_and_when_its_space_is_closed(space: happen.Space, store: Path) -> None:
    days = space.create_node("days", initial={"day": 0})
    one_more = happen.put("day", lambda day: day + 1)

    clock = repeat(days.state.set, one_more, pause=0.001)
    days.state.wait_for(lambda state: state["day"] > 3)
    clock.stop()
    wait_until(lambda: not clock.running)

    with happen.connect(store=store, name=f"{space.name}_2") as other:
        nights = other.create_node("nights", initial={"day": 0})
        clock = repeat(nights.state.set, one_more, pause=0.001)
        nights.state.wait_for(lambda state: state["day"] > 3)
    wait_until(lambda: not clock.running)


def test_a_second_kernel_prints_here_raises_here_and_can_be_killed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = second_kernel()
    try:
        other.run("import sys; print('out'); print('err', file=sys.stderr)")
        assert capsys.readouterr() == ("out\n", "err\n")
        with pytest.raises(RuntimeError, match="the second kernel raised ZeroDivisionError"):
            other.run("1 / 0")
        before = other.pid
        other.kill()
        other.restart()
        other.run("print('again')")
        assert capsys.readouterr().out == "again\n"
        assert other.pid != before
    finally:
        other.stop()


def test_a_second_kernel_does_not_go_by_the_name_of_this_notebook(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "sales.ipynb")
    other = second_kernel()
    try:
        other.run("import os; print(os.environ.get('JPY_SESSION_NAME'))")
        assert capsys.readouterr().out == "None\n"
    finally:
        other.stop()


def test_a_server_of_your_own_is_not_killed() -> None:
    space = SimpleNamespace(name="orders", server=None)
    with pytest.raises(ValueError, match="on your own server"):
        kill_server(space)  # type: ignore[arg-type]


def test_the_time_of_an_async_function_is_refused(space):
    orders = space.create_node("orders")
    with pytest.raises(TypeError, match="median_ms: the function is async"):
        median_ms(lambda: orders.state.aset({"n": 1}), 3)
    assert median_ms(orders.state.get, 3) > 0
