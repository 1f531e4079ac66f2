"""Misbehaving handlers: the error is reported, and the node continues."""

from __future__ import annotations

import asyncio
import re
import time

import pytest

import happen_nb as happen


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
@pytest.mark.parametrize("kind", ["plain", "async", "generator", "async generator"])
def test_whatever_a_handler_raises_is_a_failure_and_the_node_goes_on(space, orders, error, kind):
    def plain(event):
        raise error("away")

    async def coroutine(event):
        raise error("away")

    def generator(event):
        yield 1
        raise error("away")

    async def async_generator(event):
        yield 1
        raise error("away")

    kinds = {"plain": plain, "async": coroutine, "generator": generator, "async generator": async_generator}
    orders.on("a", kinds[kind])
    orders.on("b", lambda event: "still here")

    with pytest.raises(happen.HandlerError, match=error.__name__):
        space.send("orders", "a").result(timeout=5)
    assert space.send("orders", "b").result(timeout=5) == "still here"
    assert [type(failure.exception) for failure in space.failures] == [error]


def test_stop_iteration_is_a_failure_too(space, orders):
    orders.on("a", lambda event: next(iter(())))
    orders.on("b", lambda event: "still here")
    with pytest.raises(happen.HandlerError, match="StopIteration"):
        space.send("orders", "a").result(timeout=5)
    assert space.send("orders", "b").result(timeout=5) == "still here"


class UnspeakableError(Exception):
    def __str__(self):
        raise RuntimeError("no words")


class SurrogateError(Exception):
    def __str__(self):
        return "half \ud800"


class EndlessError(Exception):
    def __str__(self):
        return "x" * (9 << 20)


@pytest.mark.parametrize("error", [UnspeakableError, SurrogateError, EndlessError])
def test_an_error_that_cannot_be_shown_is_described_as_well_as_possible(space, orders, error):
    def broken(event):
        raise error

    orders.on("a", broken)
    orders.on("b", lambda event: "still here")

    with pytest.raises(happen.HandlerError):
        space.send("orders", "a").result(timeout=5)
    assert space.send("orders", "b").result(timeout=5) == "still here"
    trace = space.broadcast("a").settle(timeout=5)
    assert len(trace.failures) == 1
    assert len(trace.failures[0]) < 100_000


def test_a_result_without_a_json_form_is_an_error_of_the_reply(space, orders):
    orders.on("a", lambda event: {"x": object()})
    with pytest.raises(happen.PayloadError, match="x"):
        space.send("orders", "a").result(timeout=5)
    assert [type(failure.exception) for failure in space.failures] == [happen.PayloadError]
    orders.on("b", lambda event: object())
    space.broadcast("b")  # nobody waits for the result
    space.settle()
    assert len(space.failures) == 1


def test_a_progress_without_a_json_form_is_a_failure_of_the_handler(space, orders):
    def handler(event):
        yield {"x": {1, 2}}

    orders.on("a", handler)
    with pytest.raises(happen.HandlerError, match="PayloadError"):
        space.send("orders", "a").result(timeout=5)


def test_mutating_a_payload_is_an_error_with_a_way_out(space, orders):
    orders.on("a", lambda event: event.payload.update(n=2))
    with pytest.raises(happen.HandlerError, match="FrozenStateError"):
        space.send("orders", "a", {"n": 1}).result()


def test_a_hundred_thousand_progress_values_end_with_the_last(space, orders):
    def count(event):
        yield from range(100_000)
        return "done"

    orders.on("a", count)
    reply = space.send("orders", "a")
    values = list(reply)

    assert values[-1] == reply.progress == 99_999
    assert values == sorted(values)
    assert reply.result() == "done"


def test_a_handler_that_goes_on_for_a_second_is_named_busy(space, orders, gate, until):
    orders.on("a", lambda event: gate.wait(20))
    begun = time.monotonic()
    for _ in range(3):
        orders.broadcast("a")
    assert orders.busy == "" or time.monotonic() - begun >= 1
    until(lambda: orders.busy)
    assert re.fullmatch(r"busy [1-9] s, 2 waiting", orders.busy)
    gate.set()
    space.settle()
    assert orders.busy == ""


class AttributesRaise:
    def __getattr__(self, name):
        raise ValueError(name)


class HashRaises:
    def __hash__(self):
        raise ValueError("hash")

    def __eq__(self, other):
        raise ValueError("eq")


@pytest.mark.parametrize("base", [AttributesRaise, HashRaises])
def test_a_callable_object_whose_own_code_raises_is_a_handler_like_any_other(space, orders, base):
    class Handler(base):
        def __call__(self, event, context):
            return f"{event.type} at {context.node.name}"

    class Transform(base):
        def __call__(self, state, event):
            return {**state, "paid": event.payload}

    class Accepts(base):
        def __call__(self, given):
            return True

    handler = Handler()
    orders.on("a", handler)
    orders.on("b", Handler(), durable=True, where=Accepts())
    orders.on(Accepts(), Handler())
    orders.every(60, Handler())
    orders.state.on("paid", Transform())
    orders.state.watch(Accepts())

    assert space.send("orders", "a").result(timeout=5) == "a at orders"
    assert space.send("orders", "b").result(timeout=5) == "b at orders"
    space.broadcast("paid", 3)
    space.settle()
    assert orders.state.get("paid") == 3
    assert not space.failures
    assert len(orders.handlers) == 5
    orders.off(handler)
    assert len(orders.handlers) == 4
