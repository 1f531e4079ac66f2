"""Events that no handler handled, with the reason, and how they are handled late."""

from __future__ import annotations

import threading

import pytest

import happen_nb as happen


def reasons(space):
    return [(each.event.type, each.reason, each.nearest) for each in space.unhandled]


def test_what_a_handler_took_is_not_unhandled(space, orders):
    orders.on("a", print)
    orders.on("b", lambda event: 1 / 0)
    space.broadcast("a")
    space.broadcast("b")
    space.send("orders", "a").result()
    space.settle()
    assert reasons(space) == []


def test_without_any_handlers_the_reason_is_no_owner(space, orders):
    space.broadcast("order.payed")
    assert reasons(space) == [("order.payed", "no owner", None)]


def test_a_misspelt_type_is_no_pattern_with_the_nearest(space, orders):
    orders.on("order.paid", print)
    orders.on("parcel.*", print)
    space.broadcast("order.payed")
    assert reasons(space) == [("order.payed", "no pattern", "order.paid")]


def test_a_filter_that_refused_is_where(space, orders):
    orders.on("a", print, where=lambda event: event.payload > 1)
    for n in range(4):
        space.broadcast("a", n)
    space.settle()
    assert [(each.event.payload, each.reason) for each in space.unhandled] == [(0, "where"), (1, "where")]


def test_an_event_that_one_node_rejects_and_another_accepts_is_handled(space, orders, stock):
    orders.on("a", print, where=lambda event: False)
    stock.on("a", print)
    space.broadcast("a")
    space.settle()
    assert reasons(space) == []


def test_a_handler_registered_after_the_event_has_not_handled_it(space, orders):
    space.broadcast("a")
    got = []
    orders.on("a", lambda event: got.append(event.type))
    space.settle()
    assert got == []
    assert reasons(space) == [("a", "no owner", "a")]


def test_what_was_sent_to_a_node_without_such_a_handler_is_no_pattern(space, orders):
    orders.on("order.paid", print)
    with pytest.raises(happen.NoHandlerError):
        space.send("orders", "order.payed").result()
    assert reasons(space) == [("order.payed", "no pattern", "order.paid")]


def test_what_still_waits_for_its_turn_is_not_unhandled(space, orders, gate):
    orders.on("a", lambda event: gate.wait(10))
    for _ in range(3):
        space.broadcast("a")
    assert reasons(space) == []
    gate.set()


def test_what_waits_for_its_retry_is_not_unhandled(space, orders, until):
    calls = []

    def broken(event):
        calls.append(1)
        raise ValueError

    orders.on("a", broken, retries=1, backoff=0.3)
    space.broadcast("a")
    until(lambda: calls)
    assert reasons(space) == []
    space.settle()


def test_a_predicate_that_does_not_match_leaves_it_unhandled(space, orders):
    orders.on(str.isupper, print)
    space.broadcast("a")
    space.settle()
    assert [reason for _, reason, _ in reasons(space)] == ["no pattern"]


# -- handled late --------------------------------------------------------------------------------------------


def test_retry_handles_late_what_matches_by_now(space, orders):
    for n in range(3):
        space.broadcast("a", n)
    space.broadcast("b")
    got = []
    orders.on("a", lambda event: got.append(event.payload))
    unhandled = space.unhandled
    assert len(unhandled) == 4

    unhandled.retry()

    assert got == [0, 1, 2]
    assert [each.event.type for each in space.unhandled] == ["b"]


def test_one_is_handled_late_alone(space, orders):
    for n in range(3):
        space.broadcast("a", n)
    got = []
    orders.on("a", lambda event: got.append(event.payload))
    space.unhandled[1].retry()
    assert got == [1]
    assert [each.event.payload for each in space.unhandled] == [0, 2]


def test_only_one_node_handles_it_late_if_so_asked(space, orders, stock):
    space.broadcast("a")
    got = []
    for node in (orders, stock):
        node.on("a", lambda event, context: got.append(context.node.name))
    space.unhandled.retry("stock")
    assert got == ["stock"]


def test_retry_without_a_node_is_for_all_of_them(space, orders, stock):
    space.broadcast("a")
    got = []
    for node in (orders, stock):
        node.on("a", lambda event, context: got.append(context.node.name))
    space.unhandled.retry()
    assert sorted(got) == ["orders", "stock"]


def test_retrying_an_event_without_a_handler_here_is_a_clear_error(space, orders):
    space.broadcast("a")
    with pytest.raises(happen.NoHandlerError, match='"a"'):
        space.unhandled[0].retry()
    with pytest.raises(happen.NoHandlerError, match='node "orders"'):
        space.unhandled[0].retry("orders")
    space.unhandled.retry()
    assert len(space.unhandled) == 1


def test_what_fails_late_is_a_failure(space, orders):
    space.broadcast("a")
    orders.on("a", lambda event: 1 / 0)
    space.unhandled.retry()
    assert [type(failure.exception) for failure in space.failures] == [ZeroDivisionError]
    assert reasons(space) == []


def test_what_was_handled_late_has_it_as_cause(space, orders):
    event = space.broadcast("a")
    orders.on("a", lambda event: orders.state.set({"n": 1}))
    space.unhandled.retry()
    assert orders.state.history()[0].cause == event.id
    assert event.handled_by == ("orders",)


def test_many_unhandled_events_have_their_own_reasons(space, orders):
    orders.on("even", print, where=lambda event: True)
    for n in range(500):
        space.broadcast("even" if n % 2 == 0 else "odd", n)
    space.settle()
    assert [each.event.payload for each in space.unhandled] == list(range(1, 500, 2))


@pytest.mark.parametrize("end", ["off", "delete", "replaced"])
def test_what_was_unregistered_before_its_events_turn_came_has_lost_no_owner(space, orders, gate, until, end):
    begun = threading.Event()

    @orders.on("job")
    def work(event):
        begun.set()
        gate.wait(10)

    for n in range(3):
        space.broadcast("job", n)
    assert begun.wait(10)
    if end == "delete":
        orders.delete()
    else:
        orders.off(work)
    gate.set()
    space.settle()
    if end == "replaced":
        orders.on("job", print)
    assert {each.reason for each in space.unhandled} == {"no owner" if end == "delete" else "no pattern"}
    assert [each.event.payload for each in space.unhandled] == [1, 2]


def test_a_retry_counts_successes_failures_and_events_without_handler(space, orders):
    for n in range(4):
        space.broadcast("job", n)
    space.broadcast("other")
    orders.on("job", lambda event: 1 / event.payload)
    retried = space.unhandled.retry()

    assert (retried.succeeded, retried.failed, retried.unhandled) == (3, 1, 1)
    assert repr(retried) == (
        "Retried 5 events · 3 succeeded · 1 failed again · 1 without a handler\n"
        "  ZeroDivisionError: division by zero"
    )
    assert [each.event.type for each in space.unhandled] == ["other"]
    assert [failure.event.payload for failure in space.failures] == [0]


def test_a_retry_counts_an_event_that_only_filters_refuse_as_one_without_a_handler(space, orders):
    space.broadcast("a", 1)
    space.broadcast("a", 2)
    orders.on("a", lambda event: None, where=lambda event: event.payload == 2)
    orders.on(str.isupper, lambda event: None)
    retried = space.unhandled.retry()
    assert (retried.succeeded, retried.failed, retried.unhandled) == (1, 0, 1)
