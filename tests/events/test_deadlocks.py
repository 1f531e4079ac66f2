"""Handlers that wait for each other get an error with the chain immediately, instead of waiting forever."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress

import pytest

import happen_nb as happen


def ask_plain(sender, target, type_):
    def handler(event):
        return sender.send(target, type_).result()

    return handler


def ask_async(sender, target, type_):
    async def handler(event):
        return await (await sender.asend(target, type_))

    return handler


def ask_by_iterating(sender, target, type_):
    def handler(event):
        return list(sender.send(target, type_))

    return handler


def ask_by_async_for(sender, target, type_):
    async def handler(event):
        return [value async for value in await sender.asend(target, type_)]

    return handler


WAYS = [ask_plain, ask_async, ask_by_iterating, ask_by_async_for]


def fails_with_a_deadlock(reply):
    with pytest.raises(happen.HandlerError, match="DeadlockError"):
        reply.result(timeout=5)


@pytest.mark.parametrize("way", WAYS)
def test_a_node_that_waits_for_itself(space, orders, way):
    orders.on("a", way(orders, "orders", "b"))
    orders.on("b", lambda event: 1)
    fails_with_a_deadlock(space.send("orders", "a"))


@pytest.mark.parametrize("way", WAYS)
def test_a_circle_of_two(space, orders, stock, way):
    orders.on("a", way(orders, "stock", "b"))
    stock.on("b", way(stock, "orders", "c"))
    orders.on("c", lambda event: 1)
    fails_with_a_deadlock(space.send("orders", "a"))


def test_a_circle_of_four_of_all_kinds(space):
    nodes = [space.create_node(f"n{n}") for n in range(4)]
    for n, node in enumerate(nodes):
        node.on("a", WAYS[n](node, nodes[(n + 1) % 4], "a"))
    fails_with_a_deadlock(space.send("n0", "a"))


@pytest.mark.parametrize("way", WAYS)
def test_two_chains_that_cross(space, orders, stock, way):
    both = threading.Barrier(2, timeout=5)

    def meet(handler):
        if asyncio.iscoroutinefunction(handler):

            async def met(event):
                await asyncio.to_thread(both.wait)
                return await handler(event)

        else:

            def met(event):
                both.wait()
                return handler(event)

        return met

    for node in (orders, stock):
        node.on("answer", lambda event: 1)
    orders.on("a", meet(way(orders, "stock", "answer")))
    stock.on("a", meet(way(stock, "orders", "answer")))

    replies = [space.send("orders", "a"), space.send("stock", "a")]
    outcomes = []
    for reply in replies:
        try:
            outcomes.append(reply.result(timeout=8))
        except happen.HandlerError as error:
            outcomes.append("deadlock" if "DeadlockError" in str(error) else error)
    assert "deadlock" in outcomes
    assert all(outcome in ("deadlock", 1, []) for outcome in outcomes)


def test_the_message_has_the_chain_and_the_way_out(space, orders, stock):
    orders.on("a", ask_plain(orders, "stock", "b"))
    stock.on("b", ask_plain(stock, "orders", "c"))
    orders.on("c", lambda event: 1)
    with pytest.raises(happen.HandlerError, match="reply first, or") as caught:
        space.send("orders", "a").result(timeout=5)
    assert "orders" in str(caught.value)
    assert "stock" in str(caught.value)


def test_the_nodes_are_usable_afterwards(space, orders, stock):
    orders.on("a", ask_plain(orders, "orders", "b"))
    orders.on("b", lambda event: "fine")
    fails_with_a_deadlock(space.send("orders", "a"))
    assert space.send("orders", "b").result(timeout=5) == "fine"
    space.settle()


def test_a_handler_may_catch_it_and_go_on(space, orders):
    def handler(event):
        try:
            return orders.send("orders", "b").result()
        except happen.DeadlockError:
            return "did without"

    orders.on("a", handler)
    orders.on("b", lambda event: 1)
    assert space.send("orders", "a").result(timeout=5) == "did without"


def test_sending_to_itself_without_waiting_is_no_circle(space, orders):
    got = []
    replies = []
    orders.on("a", lambda event: replies.append(orders.send("orders", "b")) or "replied first")
    orders.on("b", lambda event: got.append(event.type) or "b")
    assert space.send("orders", "a").result(timeout=5) == "replied first"
    assert replies[0].result(timeout=5) == "b"
    assert got == ["b"]


def test_waiting_for_a_busy_node_that_does_not_wait_is_not_a_deadlock(space, orders, stock, gate):
    stock.on("slow", lambda event: gate.wait(10))
    stock.on("b", lambda event: "in the end")
    orders.on("a", ask_plain(orders, "stock", "b"))
    space.broadcast("slow")
    reply = space.send("orders", "a")
    gate.set()
    assert reply.result(timeout=5) == "in the end"


def test_one_after_the_other_is_no_circle(space, orders, stock):
    stock.on("b", lambda event: stock.broadcast("c") and "b")
    orders.on("c", lambda event: orders.send("stock", "d").result())
    stock.on("d", lambda event: "d")
    orders.on("a", ask_plain(orders, "stock", "b"))
    assert space.send("orders", "a").result(timeout=5) == "b"
    space.settle()
    assert len(space.failures) == 0


def test_a_diamond_is_no_circle(space):
    a, b, c, d = (space.create_node(name) for name in "abcd")
    d.on("x", lambda event: 1)
    b.on("x", ask_plain(b, "d", "x"))
    c.on("x", ask_async(c, "d", "x"))

    async def both(event):
        replies = [await a.asend("b", "x"), await a.asend("c", "x")]
        return await asyncio.gather(*replies)

    a.on("x", both)
    assert space.send("a", "x").result(timeout=5) == [1, 1]


def test_what_a_deadlock_refused_is_not_unhandled(space, orders, stock):
    orders.on("{a,c}", lambda event: orders.send("stock", "b").result())
    stock.on("b", lambda event: stock.send("orders", "c").result())
    fails_with_a_deadlock(space.send("orders", "a"))
    space.settle()
    assert [(each.event.type, each.reason) for each in space.unhandled] == []


@pytest.mark.parametrize("clock", ["real", "manual"])
def test_what_is_refused_while_it_waits_behind_state_handlers_is_not_handled(clock):
    with happen.connect(store=":memory:", name="refused", clock=clock, fresh=True) as space:
        orders, errors, got = space.create_node("orders", initial={"n": 0}), [], []

        @orders.on("a")
        def ask_myself(event):
            space.broadcast("count")
            space.broadcast("count")
            with pytest.raises(happen.DeadlockError) as raised:
                orders.send("orders", "answer").result()
            errors.append(raised)

        orders.on("answer", lambda event: got.append(event.type))
        orders.state.on("count", lambda state: {"n": state["n"] + 1})
        space.broadcast("a")
        space.settle()
        assert (len(errors), got, orders.state.get("n")) == (1, [], 2)


def test_sending_back_without_waiting_is_no_circle(space, orders, stock):
    """Follow what the message of a DeadlockError recommends."""
    got = []

    def work(event):
        stock.send("orders", "note")
        return "worked"

    stock.on("work", work)
    orders.on("note", lambda event: got.append(event.type))
    orders.on("a", ask_plain(orders, "stock", "work"))
    assert space.send("orders", "a").result(timeout=5) == "worked"
    space.settle()
    assert got == ["note"]


def test_waiting_for_a_handler_that_waits_for_another_is_not_a_deadlock(space, orders, stock, gate, until):
    """Orders waits for a third, which replies in the end: then it answers stock."""
    third = space.create_node("third")
    third.on("slow", lambda event: gate.wait(10))
    orders.on("answer", lambda event: "answered")
    stock.on("go", lambda event: stock.send("orders", "answer").result())
    replies = []

    def handler(event):
        replies.append(orders.send("stock", "go"))
        orders.send("third", "slow").result()

    orders.on("a", handler)
    reply = space.send("orders", "a")
    until(lambda: replies)
    with suppress(TimeoutError):  # as long as nobody waits in a circle, nothing can come of it
        replies[0].result(timeout=0.5)
    gate.set()
    reply.result(timeout=5)
    assert replies[0].result(timeout=5) == "answered"
