"""``node.on``: which handlers receive which events, and invalid arguments."""

from __future__ import annotations

import functools
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import happen_nb as happen
from happen_nb._model.patterns import Pattern
from happen_nb._runtime.ownership import RENEW_SECONDS


def collector(into, mark=None):
    return lambda event: into.append(mark or event.type)


# -- forms ---------------------------------------------------------------------------------------------------


def test_the_call_and_the_decorator_give_the_function_back(space, orders):
    got = []

    @orders.on("a")
    def first(event):
        got.append("first")

    second = orders.on("a", lambda event: got.append("second"))
    orders.broadcast("a")
    space.settle()

    assert got == ["first", "second"]
    assert callable(second)
    assert [handler.function for handler in orders.handlers] == [first, second]


def test_one_function_may_be_decorated_twice(space, orders):
    got = []

    @orders.on("a")
    @orders.on("b.*")
    def take(event):
        got.append(event.type)

    orders.broadcast("a")
    orders.broadcast("b.c")
    space.settle()

    assert got == ["a", "b.c"]


def test_a_bare_decorator_is_a_type_error_with_advice(space, orders):
    with pytest.raises(TypeError, match=r'@node\.on\("order\.\*"\)'):

        @orders.on
        def handler(event): ...

    assert len(orders.handlers) == 0


def test_a_decorator_with_a_bad_pattern_is_refused_before_the_function_is_there(space, orders):
    with pytest.raises(happen.PatternError):
        orders.on("a{b")


def test_a_bound_method_and_a_callable_object_handle(space, orders):
    class Counter:
        def __init__(self):
            self.seen = []

        def take(self, event):
            self.seen.append(event.type)

        def __call__(self, event, context):
            self.seen.append((event.type, context.node.name))

    counter = Counter()
    orders.on("a", counter.take)
    orders.on("b", counter)
    orders.broadcast("a")
    orders.broadcast("b")
    space.settle()
    orders.off(counter.take)
    orders.broadcast("a")
    space.settle()

    assert counter.seen == ["a", ("b", "orders")]


# -- signatures ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda event: 1, "event"),
        (lambda event, other: other.attempt, "context"),
        (lambda event, context=None: context.attempt, "context"),
        (lambda event, n=5: n, 5),
        (lambda event, *, context: context.attempt, "context"),
        (lambda *args: len(args), "event"),
        (functools.partial(lambda n, event: n, 1), "event"),
        (functools.partial(lambda n, event, context: context.attempt, 0), "context"),
    ],
)
def test_the_second_parameter_gets_the_context_only_if_it_is_meant_to(space, orders, function, expected):
    orders.on("a", function)
    assert orders.send("orders", "a").result() == (1 if expected in ("event", "context") else expected)


def test_a_handler_with_the_parameters_of_a_state_handler_is_refused_with_what_to_write(orders):
    with pytest.raises(TypeError, match=r"register it with node\.state\.on, or write \(event\) or"):
        orders.on("a", lambda state, event: {**state, "n": event.payload})
    assert len(orders.handlers) == 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: None,
        lambda event, context, third: None,
        lambda *, event: None,
        lambda event, *, other: None,
        functools.partial(lambda event: None, 1),
        lambda **named: None,
    ],
)
def test_a_handler_that_cannot_be_called_with_an_event_is_refused_at_once(space, orders, wrong):
    with pytest.raises(TypeError):
        orders.on("a", wrong)
    assert len(orders.handlers) == 0
    assert orders.owner is None


@pytest.mark.parametrize("wrong", [lambda: True, lambda event, context: True, lambda *, event: True])
def test_a_filter_that_cannot_be_called_with_an_event_is_refused_at_once(space, orders, wrong):
    with pytest.raises(TypeError, match="where"):
        orders.on("a", print, where=wrong)


async def async_filter(event):
    return True


def generator_filter(event):
    yield True


@pytest.mark.parametrize("wrong", [async_filter, generator_filter])
def test_a_filter_that_would_always_be_true_is_refused_at_once(space, orders, wrong):
    with pytest.raises(TypeError, match="where"):
        orders.on("a", print, where=wrong)


@pytest.mark.parametrize("wrong", [5, "print", [], object()])
def test_what_is_no_function_is_refused(space, orders, wrong):
    with pytest.raises(TypeError, match="pass a function"):
        orders.on("a", wrong)
    with pytest.raises(TypeError, match="where"):
        orders.on("a", print, where=wrong)


@pytest.mark.parametrize(
    ("retries", "backoff", "error"),
    [
        (-1, 0, ValueError),
        (1, -1, ValueError),
        (1, float("inf"), ValueError),
        (1.5, 0, TypeError),
        (True, 0, TypeError),
        ("1", 0, TypeError),
        (1, True, TypeError),
        (1, "x", TypeError),
    ],
)
def test_numbers_that_make_no_sense_are_refused(space, orders, retries, backoff, error):
    with pytest.raises(error, match=r"retries|backoff"):
        orders.on("a", print, retries=retries, backoff=backoff)


def test_a_not_a_number_backoff_is_refused(space, orders):
    with pytest.raises(ValueError, match="backoff"):
        orders.on("a", print, retries=1, backoff=float("nan"))


@pytest.mark.parametrize("wrong", ["", "a{b", "a}b", "a\n", "x" * 3000, 5, None, b"a"])
def test_a_pattern_that_cannot_be_read_is_refused(space, orders, wrong):
    with pytest.raises((happen.PatternError, TypeError)):
        orders.on(wrong, lambda event: None)
    assert len(orders.handlers) == 0


# -- patterns ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "taken"),
    [
        ("order.paid", ["order.paid"]),
        ("order.*", ["order.paid", "order."]),
        ("order.**", ["order.paid", "order.", "order.item.added"]),
        ("**", ["order.paid", "order.", "order.item.added", "payment", "ORDER.PAID"]),
        ("*", ["payment"]),
        ("{order.paid,payment}", ["order.paid", "payment"]),
        ("{order,payment}**", ["order.paid", "order.", "order.item.added", "payment"]),
        (str.isupper, ["ORDER.PAID"]),
        (lambda each: each.count(".") == 2, ["order.item.added"]),
    ],
)
def test_a_pattern_takes_what_it_says(space, orders, pattern, taken):
    got = []
    orders.on(pattern, collector(got))
    for type_ in ["order.paid", "order.", "order.item.added", "payment", "ORDER.PAID"]:
        orders.broadcast(type_)
    space.settle()
    assert got == taken


PARTS = st.sampled_from(["a", "b", ".", "*", "**", "{a,b}", "{a.b,*}"])


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(PARTS, min_size=1, max_size=4).map("".join), min_size=1, max_size=6),
    st.lists(st.text("ab.", min_size=1, max_size=5), min_size=1, max_size=6),
    st.data(),
)
def test_each_event_meets_the_handlers_that_match_in_the_order_of_registration(
    space, orders, patterns, types, data
):
    got = []
    functions = []
    for number, pattern in enumerate(patterns):
        matching = Pattern.of(pattern)
        chosen = matching.matches if data.draw(st.booleans()) else pattern
        functions.append(orders.on(chosen, lambda event, n=number: got.append((event.type, n))))
    for type_ in types:
        orders.broadcast(type_)
    space.settle()
    for function in functions:
        orders.off(function)

    compiled = [Pattern.of(pattern) for pattern in patterns]
    assert got == [(type_, n) for type_ in types for n, each in enumerate(compiled) if each.matches(type_)]


def test_where_filters_further(space, orders):
    got = []
    orders.on("pay", lambda event: got.append(event.payload), where=lambda event: event.payload > 1)
    for n in range(4):
        orders.broadcast("pay", n)
    space.settle()
    assert got == [2, 3]


def test_a_filter_or_predicate_that_raises_is_a_failure_and_others_still_handle(space, orders):
    got = []
    orders.on("a", lambda event: got.append("filtered"), where=lambda event: 1 / 0)
    orders.on(lambda each: {}["no"], lambda event: got.append("predicate"))
    orders.on("a", lambda event: got.append("other"))

    orders.broadcast("a")
    space.settle()

    assert got == ["other"]
    assert {type(failure.exception) for failure in space.failures} == {ZeroDivisionError, KeyError}


def test_a_send_that_only_a_broken_filter_would_accept_is_a_clear_error(space, orders):
    orders.on("a", lambda event: 1, where=lambda event: 1 / 0)
    with pytest.raises(happen.HandlerError, match="ZeroDivisionError"):
        orders.send("orders", "a").result()


def test_many_patterns_are_stored_together(space, orders):
    before, began = space._log.replica.position, time.monotonic()
    for n in range(300):
        orders.on(f"type.{n}", print)
    space.broadcast("type.7").settle()
    stored, seconds = space._log.replica.position - before, time.monotonic() - began

    assert stored <= seconds / RENEW_SECONDS + 10
    assert len(orders.handlers) == 300
