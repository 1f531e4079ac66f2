"""The context of a handler: results of calls that are made once, the time, and random numbers."""

from __future__ import annotations

import subprocess
import sys

import pytest

import happen_nb as happen


def calls_of(orders, function, **options):
    """Register a handler that calls `function` once, and fails at its first attempt."""
    results = []

    @orders.on("a", retries=1, backoff=0)
    def handle(event, context):
        results.append(context.once("call", function, **options))
        if context.attempt == 1:
            raise ConnectionError

    return results


def test_a_retry_gets_the_recorded_result(space, orders):
    counter = iter(range(10))
    results = calls_of(orders, lambda step: {"n": next(counter) + step}, step=5)
    orders.broadcast("a").settle()
    orders.broadcast("a").settle()
    assert results == [{"n": 5}, {"n": 5}, {"n": 6}, {"n": 6}]


def test_another_process_gets_the_recorded_result(space, orders):
    calls = []

    @orders.on("a")
    def handle(event, context):
        context.once("call", lambda: calls.append(1) or "here")
        raise ConnectionError

    event = orders.broadcast("a")
    space.settle()
    script = f"""
import happen_nb as happen
space = happen.connect({space.server.url!r}, name={space.name!r}, token={space.server.token!r})
node = space.create_node("orders")
(event,) = space.events("a")
from happen_nb._api.context import HandlerContext
context = HandlerContext("handle", {{}}, node=node, space=space, views=space.views, event=event, attempt=1)
assert context.once("call", lambda: "there") == "here"
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert (calls, event.pending) == ([1], False)


def test_a_function_that_raises_is_called_again(space, orders):
    attempts = []

    @orders.on("a", retries=2, backoff=0)
    def handle(event, context):
        def call():
            attempts.append(context.attempt)
            if context.attempt < 3:
                raise ConnectionError
            return "done"

        return context.once("call", call)

    assert orders.send("orders", "a").result() == "done"
    assert attempts == [1, 2, 3]


def test_an_async_handler_awaits_it(space, orders):
    async def fetch(n):
        return n + 1

    @orders.on("a")
    async def handle(event, context):
        return [await context.aonce("one", fetch, 1), await context.aonce("two", lambda: 7)]

    assert orders.send("orders", "a").result() == [2, 7]


def test_it_does_not_block_the_loop_of_async_handlers(space, orders):
    @orders.on("a")
    async def handle(event, context):
        return context.once("call", int)

    with pytest.raises(happen.HandlerError, match="aonce"):
        orders.send("orders", "a").result()


@pytest.mark.parametrize("name", ["", "x" * 101, 7])
def test_a_name_that_is_none_is_refused(space, orders, name):
    orders.on("a", lambda event, context: context.once(name, int))
    with pytest.raises(happen.HandlerError, match="name"):
        orders.send("orders", "a").result()


def test_the_function_may_have_any_parameters(orders):
    def mail(**given):
        return given

    async def amail(**given):
        return given

    async def handler(event, context):
        return await context.aonce("b", amail, name="Ada", function="count", self=1)

    orders.on("a", lambda event, context: context.once("a", mail, name="Ada", function="count", self=1))
    orders.on("b", handler)
    for type in ("a", "b"):
        assert orders.send("orders", type).result() == {"name": "Ada", "function": "count", "self": 1}


def test_what_is_recorded_once_is_the_result_of_a_function(orders):
    orders.on("a", lambda event, context: context.once("call", 7))
    with pytest.raises(happen.HandlerError, match="once: 7 is not callable; pass a function"):
        orders.send("orders", "a").result()


def test_the_same_name_twice_is_refused_also_in_another_handler(space, orders):
    def twice(event, context):
        context.once("call", int)
        context.once("call", int)

    orders.on("a", twice)
    orders.on("b", lambda event, context: context.once("call", int))
    orders.on("b", lambda event, context: context.once("call", str))
    orders.broadcast("a").settle()
    orders.broadcast("b").settle()
    assert [type(failure.exception) for failure in space.failures] == [ValueError, ValueError]


def test_names_may_hold_anything(space, orders):
    orders.on("a", lambda event, context: context.once("card of Zoë. *>/", lambda: 7))
    assert orders.send("orders", "a").result() == 7


def test_what_cannot_be_recorded_is_refused(space, orders):
    orders.on("object", lambda event, context: context.once("call", object))
    orders.on("large", lambda event, context: context.once("call", lambda: "x" * 20_000_000))
    with pytest.raises(happen.HandlerError, match="PayloadError"):
        orders.send("orders", "object").result()
    with pytest.raises(happen.HandlerError, match="TooLargeError"):
        orders.send("orders", "large").result()


def test_the_time_and_the_random_numbers_of_a_retry_are_those_of_the_first_attempt(space, orders):
    seen = []

    @orders.on("a", retries=1, backoff=0.05)
    def handle(event, context):
        seen.append((context.now, context.random.random(), context.random.random()))
        if context.attempt == 1:
            raise ConnectionError

    orders.broadcast("a").settle()
    orders.broadcast("a").settle()
    first, again, other, _ = seen
    assert first == again
    assert first[1] != first[2]
    assert first[1:] != other[1:]
    assert first[0].tzinfo is not None


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("is_used_before", [False, True])
def test_random_numbers_of_a_call_that_is_not_made_again_do_not_move_the_others(
    space, orders, is_async, is_used_before
):
    seen = []

    async def draw(context):
        return context.random.random()

    async def draw_later(event, context):
        numbers = [context.random.random()] if is_used_before else []
        seen.append([*numbers, await context.aonce("draw", draw, context), context.random.random()])
        if context.attempt == 1:
            raise ConnectionError

    def draw_now(event, context):
        numbers = [context.random.random()] if is_used_before else []
        seen.append([*numbers, context.once("draw", context.random.random), context.random.random()])
        if context.attempt == 1:
            raise ConnectionError

    orders.on("a", draw_later if is_async else draw_now, retries=1, backoff=0)
    orders.broadcast("a").settle()
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == len(seen[0])
    assert space.rerun().same
    assert seen[2:] == seen[:2]


def test_a_late_retry_reads_the_time_of_the_first_handling(space, orders):
    seen = []

    @orders.on("a")
    def handle(event, context):
        seen.append(context.now)
        if len(seen) < 3:
            raise ConnectionError

    orders.broadcast("a").settle()
    with pytest.raises(ConnectionError):
        space.failures[0].retry()
    space.failures[0].retry()
    assert seen == [seen[0]] * 3
    assert len(space.failures) == 0


def test_the_context_shows_what_it_holds_and_takes_attributes(space, orders):
    shown = []

    @orders.on("a")
    def handle(event, context):
        context.mine = 7
        shown.append(repr(context))

    orders.broadcast("a").settle()
    assert "mine=7" in shown[0]
    assert "_used" not in shown[0]


def test_a_function_in_place_of_the_name_is_refused_with_advice(space, orders):
    orders.on("a", lambda event, context: context.once(len, "text"))
    with pytest.raises(happen.HandlerError, match="once: the first argument, the name, is <built-in"):
        orders.send("orders", "a").result()
