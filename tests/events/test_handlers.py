"""Handlers of every kind: in steps, with a context, in order, off the main thread."""

from __future__ import annotations

import asyncio
import threading

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import happen_nb as happen


def plain(event):
    return event.payload + 1


async def coroutine(event):
    await asyncio.sleep(0)
    return event.payload + 1


def generator(event):
    yield "half"
    return event.payload + 1


async def async_generator(event):
    yield "half"
    await asyncio.sleep(0)
    yield happen.Result(event.payload + 1)


class Callable:
    async def __call__(self, event):
        return event.payload + 1


def returns_a_coroutine(event):
    return coroutine(event)


KINDS = [plain, coroutine, generator, async_generator, Callable(), returns_a_coroutine]


@pytest.mark.parametrize("handler", KINDS)
def test_a_handler_of_any_kind_gives_the_result(space, orders, handler):
    orders.on("add", handler)
    assert space.send("orders", "add", 1).result() == 2


@pytest.mark.parametrize("handler", [generator, async_generator])
def test_what_a_generator_yields_is_progress(space, orders, handler):
    orders.on("add", handler)
    assert list(space.send("orders", "add", 1)) == ["half"]


@pytest.mark.parametrize("handler", KINDS)
def test_a_broadcast_is_handled_by_any_kind_too(space, orders, handler):
    orders.on("add", handler)
    event = space.broadcast("add", 1)
    event.settle()
    assert event.handled_by == ("orders",)
    assert len(space.failures) == 0


def test_an_async_generator_without_a_result_gives_none(space, orders):
    async def handler(event):
        yield 1
        yield 2

    orders.on("a", handler)
    reply = space.send("orders", "a")
    assert (list(reply), reply.result()) == ([1, 2], None)


def test_a_result_ends_an_async_generator_and_its_finally_runs(space, orders):
    went = []

    async def handler(event):
        try:
            yield happen.Result("enough")
            went.append("on")
        finally:
            went.append("finally")

    orders.on("a", handler)
    assert space.send("orders", "a").result() == "enough"
    space.settle()
    assert went == ["finally"]


# -- steps ---------------------------------------------------------------------------------------------------


def test_a_returned_function_is_the_next_step_with_the_same_event_and_context(space, orders):
    seen = []

    def first(event, context):
        context.total = event.payload
        seen.append(context)
        return second

    async def second(event, context):
        context.total += 1
        seen.append(context)
        return lambda event: third

    def third(event, context):
        yield context.total
        seen.append(context)
        return context.total + event.payload

    orders.on("a", first)
    reply = space.send("orders", "a", 10)

    assert (reply.result(), reply.progress) == (21, 11)
    assert seen[0] is seen[1] is seen[2]


def test_an_async_generator_may_result_in_a_next_step(space, orders):
    async def first(event):
        yield happen.Result(lambda event: "second")

    orders.on("a", first)
    assert space.send("orders", "a").result() == "second"


def test_each_event_has_a_context_of_its_own(space, orders):
    seen = []

    def handler(event, context):
        seen.append(hasattr(context, "mark"))
        context.mark = True

    orders.on("a", handler)
    for _ in range(2):
        orders.broadcast("a")
    space.settle()
    assert seen == [False, False]


def test_the_context_knows_node_space_views_event_and_attempt(space, orders, stock):
    stock.state.set({"pens": 3})
    seen = []

    def handler(event, context):
        seen.append(
            (
                context.node is orders,
                context.space is space,
                context.views.stock.get("pens"),
                context.event is event,
                context.attempt,
            )
        )

    orders.on("a", handler)
    orders.broadcast("a")
    space.settle()
    assert seen == [(True, True, 3, True, 1)]


def test_a_chain_of_ten_thousand_steps_ends(space, orders):
    def step(event, context):
        context.n = getattr(context, "n", 0) + 1
        return step if context.n < 10_000 else context.n

    orders.on("a", step)
    assert space.send("orders", "a").result() == 10_000


def test_a_step_that_takes_the_wrong_parameters_is_a_failure(space, orders):
    orders.on("a", lambda event: lambda one, two, three: None)
    with pytest.raises(happen.HandlerError, match="three"):
        space.send("orders", "a").result()


# -- order ---------------------------------------------------------------------------------------------------


def test_several_handlers_run_one_after_the_other_and_the_first_replies(space, orders):
    seen = []

    async def first(event):
        await asyncio.sleep(0.01)
        seen.append("first")
        return 1

    orders.on("a", first)
    orders.on("*", lambda event: seen.append("second") or 2)
    orders.on(lambda each: True, lambda event: seen.append("third") or 3)

    assert space.send("orders", "a").result() == 1
    space.settle()
    assert seen == ["first", "second", "third"]


def test_the_first_that_accepts_replies(space, orders):
    orders.on("a", lambda event: 1, where=lambda event: False)
    orders.on("a", lambda event: 2)
    assert space.send("orders", "a").result() == 2


def test_a_failure_of_a_later_handler_leaves_the_reply(space, orders):
    orders.on("a", lambda event: 1)
    orders.on("a", lambda event: 1 / 0)
    assert space.send("orders", "a").result() == 1
    space.settle()
    assert len(space.failures) == 1


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from("pcgx"), min_size=1, max_size=30))
def test_one_node_handles_one_event_at_a_time_in_the_order_of_the_journal(space, orders, kinds):
    order, inside = [], []

    def enter(event):
        inside.append(event)
        assert len(inside) == 1
        order.append(event.payload)

    def p(event):
        enter(event)
        inside.pop()

    async def c(event):
        enter(event)
        await asyncio.sleep(0.001)
        inside.pop()

    def g(event):
        enter(event)
        yield 1
        inside.pop()

    async def x(event):
        enter(event)
        yield 1
        inside.pop()

    handlers = [orders.on(name, function) for name, function in zip("pcgx", (p, c, g, x), strict=True)]
    for number, kind in enumerate(kinds):
        orders.broadcast(kind, number)
    space.settle()
    for handler in handlers:
        orders.off(handler)

    assert order == list(range(len(kinds)))
    assert list(space.failures) == []


def test_different_nodes_handle_side_by_side(space, orders, stock):
    meeting = threading.Barrier(2, timeout=10)
    orders.on("a", lambda event: meeting.wait())
    stock.on("a", lambda event: meeting.wait())
    space.broadcast("a")
    space.settle()
    assert len(space.failures) == 0


def test_handlers_run_off_the_main_thread_and_while_it_is_busy(space, orders, until):
    seen = []

    async def on_loop(event):
        seen.append(threading.current_thread())

    orders.on("a", lambda event: seen.append(threading.current_thread()))
    orders.on("a", on_loop)
    space.broadcast("a")
    until(lambda: len(seen) == 2)  # the main thread never waits for the system here
    assert threading.main_thread() not in seen


def test_a_blocking_plain_handler_does_not_hold_up_async_ones(space, orders, stock, gate):
    async def quick(event):
        return "quick"

    orders.on("slow", lambda event: gate.wait(10))
    stock.on("quick", quick)
    space.broadcast("slow")
    assert space.send("stock", "quick").result(timeout=5) == "quick"
    gate.set()


# -- journal order -------------------------------------------------------------------------------------------


def test_a_handler_has_seen_every_commit_before_its_event(space, orders, stock):
    behind = []

    def look(event):
        n = event.payload
        if orders.state.get("n") < n or space.views.orders.get("n") < n or orders.state.revision < n + 1:
            behind.append(n)

    async def look_too(event):
        look(event)

    stock.on("a", look)
    stock.on("a", look_too)
    for n in range(200):
        orders.state.set({"n": n})
        space.broadcast("a", n)
    space.settle()

    assert behind == []


def test_a_handler_sees_all_of_what_an_earlier_one_committed(space, orders, stock):
    seen = []
    orders.on("a", lambda event: stock.state.set(happen.put("n", lambda n: (n or 0) + 1)))
    orders.on("a", lambda event: seen.append(stock.state.get("n")))
    for _ in range(50):
        space.broadcast("a")
    space.settle()
    assert seen == list(range(1, 51))


def test_increments_of_many_nodes_handlers_lose_nothing(space, stock):
    for k in range(10):
        node = space.create_node(f"n{k}")
        node.on("a", lambda event: stock.state.set(happen.put("n", lambda n: (n or 0) + 1)))
    for _ in range(20):
        space.broadcast("a")
    space.settle()
    assert stock.state.get("n") == 200


# -- many ----------------------------------------------------------------------------------------------------


def test_a_thousand_nodes_with_handlers_need_no_thousand_threads(space, until):
    got, most = [], 0

    async def coroutine(event):
        await asyncio.sleep(0.05)
        got.append("async")

    def plain(event):
        got.append("plain")

    for n in range(1000):
        space.create_node(f"n{n}").on("a", coroutine if n % 2 else plain)
    before = threading.active_count()  # other spaces' workers may still be idle
    space.broadcast("a")

    def all_done():
        nonlocal most
        most = max(most, threading.active_count())
        return len(got) == 1000

    until(all_done)

    assert (got.count("plain"), got.count("async")) == (500, 500)
    assert most - before < 100


def test_a_hundred_plain_handlers_that_wait_for_replies_do_not_starve_the_replying_ones(space):
    answering = space.create_node("answering")
    answering.on("ask", lambda event: event.payload)
    got = []
    for n in range(100):
        node = space.create_node(f"n{n}")
        node.on("go", lambda event, context: got.append(context.node.send("answering", "ask", 1).result()))
    space.broadcast("go")
    space.settle(timeout=20)
    assert sum(got) == 100


# -- other spaces, and the whole space -----------------------------------------------------------------------


def test_a_handler_may_emit_and_commit_in_another_space(space, orders, store):
    with happen.connect(store=store, name=f"{space.name[:40]}_else") as elsewhere:
        there = elsewhere.create_node("there")
        got = []
        there.on("b", lambda event: got.append(event.payload))

        def relay(event):
            there.broadcast("b", event.payload)
            there.state.set({"n": event.payload})

        orders.on("a", relay)
        space.broadcast("a", 1)
        space.settle()
        elsewhere.settle()
        assert (got, there.state.get("n"), list(space.failures)) == ([1], 1, [])
        elsewhere.drop()


def test_handlers_stay_when_the_space_is_cleared(space, orders):
    got = []
    orders.on("a", lambda event: got.append(event.payload))
    space.broadcast("a", 1)
    space.settle()
    space.clear()
    space.broadcast("a", 2)
    space.settle()
    assert got == [1, 2]
    assert space.send("orders", "a", 3).result() is None
    assert [event.payload for event in space.events()] == [2, 3]


def test_a_fork_has_no_handlers_and_no_events(space, orders):
    got = []
    orders.state.set({"n": 1})
    orders.on("a", got.append)
    space.broadcast("a")
    space.settle()
    fork = space.fork(f"{space.name[:40]}_fork")
    try:
        assert len(fork.events()) == 0
        with pytest.raises(happen.NoHandlerError):
            fork.send("orders", "a").result()
        fork.broadcast("a")
        space.settle()
        assert len(got) == 1
    finally:
        fork.drop()
