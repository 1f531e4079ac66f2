"""The pictures that a space and a history give, from a real server."""

from __future__ import annotations

import re

import pytest

import happen_nb as happen
from happen_nb._display.plots.timeline import tip


@pytest.fixture
def orders(space):
    return space.create_node("orders")


@pytest.fixture
def stock(space):
    return space.create_node("stock")


def found(timeline, kind):
    return [each for each in timeline._shown.items if each.kind == kind]


def test_a_timeline_has_events_handlings_commits_and_failures(space, orders, stock):
    @orders.on("order.*")
    def take(event):
        orders.state.set({"last": event.payload})
        raise ValueError("no <b>card</b>")

    space.broadcast("order.made", "o1").settle()
    timeline = space.timeline(nodes=["notebook", "orders"])
    assert repr(timeline).splitlines()[1:] == [
        "  notebook  1 event",
        "  orders    1 handling · 1 commit · 1 failure",
    ]
    (commit,) = found(timeline, "commit")
    assert [each.event.type for each in timeline._shown.causes(commit)] == ["order.made"]


def test_payloads_that_are_not_shown_are_not_read(space):
    space.replay(({"text": "x" * 20_000} for _ in range(300)), type=lambda _: "large").wait()
    received = space._log.connection._client.stats
    before = received["in_bytes"]
    assert "300 events" in repr(space.timeline())
    assert received["in_bytes"] - before < 2_000_000


def test_a_failure_whose_error_is_no_proper_text_is_shown(space, orders):
    @orders.on("order.*")
    def fail(event):
        raise ValueError("\ud800")

    space.broadcast("order.made").settle()
    timeline = space.timeline()
    (failure,) = found(timeline, "failure")
    assert "ValueError" in tip(timeline._shown, failure)


def test_with_a_pattern_only_its_events_and_their_commits_are_shown(space, orders, stock):
    orders.on("order.*", lambda event: orders.state.set({"last": event.type}))
    stock.state.set({"pen": 7})
    for type in ("order.made", "parcel.sent"):
        space.broadcast(type).settle()
    timeline = space.timeline("order.*")
    assert [each.event.type for each in found(timeline, "event")] == ["order.made"]
    assert [each.node for each in found(timeline, "commit")] == ["orders"]


def test_since_and_limit_choose_the_newest(space, orders):
    events = [orders.broadcast(f"type.{number}") for number in range(6)]
    assert "3 events" in repr(space.timeline(since=events[2]))
    assert "2 events · newest 2" in repr(space.timeline(limit=2))
    assert "· newest" not in repr(space.timeline(limit=6))


def test_the_limit_counts_events_and_commits_together(space, orders):
    for number in range(4):
        orders.broadcast("count")
        orders.state.set({"n": number})
    assert "2 events · 2 commits · newest 4" in repr(space.timeline(limit=4))


def test_events_that_left_with_a_commit_are_shown(space, orders):
    def pay(state):
        orders.broadcast("order.paid")
        return {**state, "paid": True}

    orders.state.set(pay)
    assert [each.event.type for each in found(space.timeline(), "event")] == ["order.paid"]


def test_nodes_may_be_given_as_nodes_and_a_wrong_name_is_an_error(space, orders, stock):
    orders.broadcast("order.made")
    stock.state.set({"pen": 7})
    assert repr(space.timeline(nodes=orders)).splitlines()[1:] == ["  orders  1 event"]
    with pytest.raises(happen.UnknownNodeError, match="did you mean stock"):
        space.timeline(nodes=["stok"])
    for wrong in (5, [5], b"orders", [None]):
        with pytest.raises(TypeError, match=r"timeline: nodes is .*; pass nodes"):
            space.timeline(nodes=wrong)
    with pytest.raises(ValueError, match=r"timeline: by is \[\]"):
        space.timeline(by=[])


def test_a_node_that_was_made_and_has_done_nothing_may_be_named(space, orders, stock):
    orders.broadcast("order.made")
    assert repr(space.timeline(nodes=[orders, stock])).splitlines()[2] == "  stock   nothing"


@pytest.mark.parametrize("wrong", [{"by": "day"}, {"limit": 0}])
def test_wrong_arguments_are_refused(space, wrong):
    with pytest.raises(ValueError, match="timeline: "):
        space.timeline(**wrong)


def test_by_occurred_the_axis_shows_event_times(space, orders):
    orders.broadcast("reading", occurred="2020-01-01T00:00:00+00:00")
    assert "1 Jan 2020" in space.timeline(by="occurred").svg
    assert "2020" not in space.timeline().svg.replace("w3.org/2000", "")


def test_a_picture_of_a_pattern_that_matches_nothing_names_the_pattern(space, orders):
    orders.broadcast("order.placed")
    timeline, graph = space.timeline("order.paid"), space.graph("order.paid")
    assert repr(timeline).splitlines()[1:] == ['  No events or commits of "order.paid" to show yet.']
    assert repr(graph).splitlines()[1:] == ['  No handled events of "order.paid" to show yet.']
    assert all("of &quot;order.paid&quot; to show" in picture.svg for picture in (timeline, graph))


def test_an_empty_space_gives_friendly_figures(space):
    assert "No events or commits" in repr(space.timeline())
    assert "No handled events" in repr(space.graph())


def test_a_graph_counts_events_by_sender_and_handling_node(space, orders, stock):
    orders.on("order.made", lambda _: orders.broadcast("reserve"))
    stock.on("reserve", lambda _: None)
    for _ in range(3):
        space.broadcast("order.made").settle()
    assert repr(space.graph()).splitlines()[1:] == [
        "  notebook → orders  order.made \N{MULTIPLICATION SIGN}3",
        "  orders → stock     reserve \N{MULTIPLICATION SIGN}3",
    ]
    assert len(repr(space.graph("reserve")).splitlines()) == 2
    assert "newest 1" in repr(space.graph(limit=1))


def test_a_history_is_drawn_by_paths_functions_and_names(orders):
    for number in range(3):
        orders.state.set({"open": number, "by": {"who": "ada"}} if number != 1 else {"by": {}})
    history = orders.state.history()
    figure = history.plot("open", lambda state: state["open"] * 2, x="revision", who="by.who")
    assert [each.text for each in figure.layout.annotations][::2] == ["<b>open</b>", "<b>who</b>"]
    assert list(figure.data[1].y) == [0, 0, None, 4, 4]


def test_without_selectors_the_plain_values_at_the_top_are_drawn(orders):
    orders.state.set({"open": 1, "status": "calm", "orders": {}, "none": None})
    figure = orders.state.history().plot()
    assert [each.text for each in figure.layout.annotations] == ["<b>open</b>", "<b>status</b>"]


def test_a_part_of_the_state_called_time_is_a_path_of_its_own(orders):
    for number in range(2):
        orders.state.set({"time": 10 * number, "n": number})
    assert list(orders.state.history().plot("n", x=("time",)).data[0].x[:2]) == [0, 10]


def test_a_node_without_commits_gives_a_friendly_figure(orders):
    assert "Nothing has been committed" in orders.state.history().plot("open").layout.annotations[0].text


def test_errors_of_a_selector_are_raised(orders):
    orders.state.set({"n": 0})
    with pytest.raises(ZeroDivisionError):
        orders.state.history().plot(lambda state: 1 / state["n"])


def test_a_figures_repr_is_short(space, orders):
    for n in range(30):
        orders.state.set({"n": n})
    orders.broadcast("order.paid")

    timeline, graph = space.timeline(), space.graph()
    plot = orders.state.history().plot("n")

    assert repr(timeline) == str(timeline)
    assert re.fullmatch(
        "Timeline of .* · 1 event · 30 commits\n  orders  1 event · 30 commits", repr(timeline)
    )
    assert re.fullmatch("Graph of .*\n  No handled events to show yet.", repr(graph))
    assert repr(plot) == "History of orders · 30 commits"
