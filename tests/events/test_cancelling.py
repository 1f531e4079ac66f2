"""Cancelling a reply: the handler stops, or its later writes are refused."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import threading

import pytest

import happen_nb as happen


class Trail:
    """The progress of a handler that is to be cancelled."""

    def __init__(self):
        self.begun = threading.Event()
        self.ended = threading.Event()
        self.what = []

    def add(self, what):
        self.what.append(what)


@pytest.fixture
def trail():
    return Trail()


def test_an_async_handler_stops_at_its_await(space, orders, trail):
    async def handler(event):
        trail.begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            trail.add("cancelled")
            raise
        finally:
            trail.ended.set()

    orders.on("a", handler)
    reply = space.send("orders", "a")
    assert trail.begun.wait(10)
    reply.cancel()

    assert trail.ended.wait(10)
    assert (trail.what, reply.done, reply.state) == (["cancelled"], True, "cancelled")
    with pytest.raises(happen.CancelledHandlingError, match='"orders" to "a" was cancelled'):
        reply.result()
    space.settle()
    assert len(space.failures) == 0


def test_a_generator_stops_at_its_yield_and_its_finally_runs(space, orders, trail, gate):
    def handler(event):
        try:
            n = 0
            while True:
                yield (n := n + 1)
                gate.wait(0.001)
        finally:
            trail.ended.set()

    orders.on("a", handler)
    reply = space.send("orders", "a")
    assert next(iter(reply)) >= 1
    reply.cancel()

    assert trail.ended.wait(10)
    space.settle()
    assert len(space.failures) == 0


def test_an_async_generator_stops_and_its_finally_runs(space, orders, trail):
    async def handler(event):
        try:
            while True:
                yield 1
                await asyncio.sleep(0.001)
        finally:
            trail.ended.set()

    orders.on("a", handler)
    reply = space.send("orders", "a")
    assert next(iter(reply)) == 1
    reply.cancel()

    assert trail.ended.wait(10)
    space.settle()
    assert len(space.failures) == 0


@pytest.mark.parametrize(
    "write",
    [
        "set",
        "broadcast",
        "send",
        "put",
        "revert",
        "delete",
        "create",
    ],
)
def test_a_plain_handler_is_abandoned_and_changes_nothing_any_more(space, orders, stock, trail, gate, write):
    stock.state.set({"n": 1})
    stock.on("b", lambda event: trail.add("b"))
    writes = {
        "set": lambda: stock.state.set({"n": 2}),
        "put": lambda: stock.state.set(happen.put("m", 2)),
        "broadcast": lambda: stock.broadcast("b"),
        "send": lambda: orders.send("stock", "b").result(),
        "revert": lambda: stock.state.revert(1),
        "delete": stock.delete,
        "create": lambda: space.create_node("new", initial={"n": 1}),
    }

    def handler(event):
        trail.begun.set()
        gate.wait(10)
        try:
            writes[write]()
        except happen.CancelledHandlingError:
            trail.add("refused")
        finally:
            trail.ended.set()

    orders.on("a", handler)
    orders.on("next", lambda event: "handled")
    reply = space.send("orders", "a")
    assert trail.begun.wait(10)
    reply.cancel()
    assert space.send("orders", "next").result(timeout=5) == "handled"  # the node does not wait for it
    gate.set()

    assert trail.ended.wait(10)
    assert trail.what == ["refused"]
    assert (stock.state.get(), stock.state.revision) == ({"n": 1}, 1)
    assert "new" not in space.views


def test_an_abandoned_handler_may_still_read(space, orders, stock, trail, gate):
    stock.state.set({"n": 1})

    def handler(event):
        trail.begun.set()
        gate.wait(10)
        trail.add(stock.state.get("n"))
        trail.ended.set()

    orders.on("a", handler)
    reply = space.send("orders", "a")
    assert trail.begun.wait(10)
    reply.cancel()
    gate.set()
    assert trail.ended.wait(10)
    assert trail.what == [1]


def test_a_thread_of_an_abandoned_handler_changes_nothing_either(space, orders, stock, trail, gate):
    def write():
        gate.wait(10)
        try:
            stock.state.set({"n": 1})
        except happen.CancelledHandlingError:
            trail.add("refused")
        trail.ended.set()

    def handler(event):
        threading.Thread(target=happen.carry(write)).start()
        trail.begun.set()
        gate.wait(10)

    orders.on("a", handler)
    reply = space.send("orders", "a")
    assert trail.begun.wait(10)
    reply.cancel()
    gate.set()
    assert trail.ended.wait(10)
    assert (trail.what, stock.state.revision) == (["refused"], 0)


def test_what_waits_for_its_turn_is_never_begun(space, orders, gate):
    got = []
    orders.on("slow", lambda event: gate.wait(10))
    orders.on("a", lambda event: got.append(event.payload))
    space.broadcast("slow")
    replies = [space.send("orders", "a", n) for n in range(3)]
    replies[1].cancel()
    gate.set()
    space.settle()
    assert got == [0, 2]


def test_what_was_cancelled_before_it_began_is_not_unhandled(space, orders, gate):
    orders.on("**", lambda event: gate.wait(10))
    space.broadcast("slow")
    reply = space.send("orders", "a")
    reply.cancel()
    gate.set()
    space.settle()
    assert [(each.event.type, each.reason) for each in space.unhandled] == []


def test_a_handler_that_waits_for_its_retry_is_not_called_again(space, orders, until):
    calls = []

    def broken(event):
        calls.append(1)
        raise ValueError

    orders.on("a", broken, retries=1, backoff=60)
    reply = space.send("orders", "a")
    until(lambda: space._runtime.dispatcher.queue("orders").waiting)
    reply.cancel()
    space.settle()
    assert calls == [1]
    assert len(space.failures) == 0


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_the_other_handlers_of_the_node_do_not_begin(space, orders, trail, gate, kind):
    def plain(event):
        trail.begun.set()
        gate.wait(10)

    async def coroutine(event):
        trail.begun.set()
        await asyncio.sleep(60)

    orders.on("a", plain if kind == "plain" else coroutine)
    orders.on("a", lambda event: trail.add("second"))
    reply = space.send("orders", "a")
    assert trail.begun.wait(10)
    reply.cancel()
    gate.set()
    space.settle()
    assert trail.what == []


def test_cancelling_what_is_done_changes_nothing(space, orders):
    orders.on("a", lambda event: 1)
    reply = space.send("orders", "a")
    assert reply.result() == 1
    reply.cancel()
    assert (reply.result(), reply.state) == (1, "done")


def test_cancelling_twice_is_cancelling_once(space, orders, trail, gate):
    def handler(event):
        trail.begun.set()
        gate.wait(10)

    orders.on("a", handler)
    reply = space.send("orders", "a")
    assert trail.begun.wait(10)
    reply.cancel()
    reply.cancel()
    assert reply.state == "cancelled"
    gate.set()


def test_cancelling_is_awaited_in_a_loop(space, orders):
    async def handler(event):
        await asyncio.sleep(60)

    orders.on("a", handler)

    async def use():
        reply = await space.asend("orders", "a")
        await reply.acancel()
        with pytest.raises(happen.CancelledHandlingError):
            await reply

    asyncio.run(use())
    space.settle()


def test_the_stop_button_while_waiting_cancels_the_handling(space, orders, trail, until):
    async def handler(event):
        trail.begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            trail.ended.set()

    main = threading.main_thread().ident

    def waits():
        frame = sys._current_frames()[main]
        return frame.f_code.co_name == "wait" and frame.f_code.co_filename.endswith("io.py")

    def press():
        until(lambda: trail.begun.is_set() and waits())
        signal.pthread_kill(main, signal.SIGINT)

    orders.on("a", handler)
    orders.on("b", lambda event: "usable")
    reply = space.send("orders", "a")
    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt):
        reply.result()

    assert trail.ended.wait(10)
    assert reply.state == "cancelled"
    assert space.send("orders", "b").result(timeout=5) == "usable"


def test_a_cancelled_handling_is_told_in_the_trace(space, orders, trail):
    async def handler(event):
        trail.begun.set()
        await asyncio.sleep(60)

    orders.on("a", handler)
    reply = space.send("orders", "a")
    assert trail.begun.wait(10)
    reply.cancel()
    trace = reply.event.settle()
    assert [record.outcome for record in trace.root.handled] == ["cancelled"]
    assert [each.event.type for each in space.unhandled] == []


def test_a_handler_may_cancel_what_it_sent(space, orders, stock, trail):
    async def slow(event):
        trail.begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            trail.ended.set()

    async def handler(event):
        reply = await orders.asend("stock", "slow")
        await asyncio.to_thread(trail.begun.wait, 10)
        await reply.acancel()
        return reply.state

    stock.on("slow", slow)
    orders.on("a", handler)
    assert space.send("orders", "a").result(timeout=5) == "cancelled"
    assert trail.ended.wait(10)


@pytest.mark.parametrize("kind", ["plain", "async"])
def test_cancelling_one_that_waits_for_another_leaves_the_other(space, orders, stock, trail, gate, kind):
    def work(event):
        trail.begun.set()
        gate.wait(10)
        trail.add("worked")

    def plain(event):
        orders.send("stock", "work").result()

    async def coroutine(event):
        await (await orders.asend("stock", "work"))

    stock.on("work", work)
    orders.on("a", plain if kind == "plain" else coroutine)
    orders.on("b", lambda event: "next")
    reply = space.send("orders", "a")
    assert trail.begun.wait(10)
    reply.cancel()
    assert space.send("orders", "b").result(timeout=5) == "next"
    gate.set()
    space.settle()
    assert trail.what == ["worked"]


async def awaits(event):
    for _ in range(5):
        await asyncio.sleep(0.0005)


def yields(event):
    for n in range(5):
        yield n
        threading.Event().wait(0.0005)


async def awaits_and_yields(event):
    for n in range(5):
        yield n
        await asyncio.sleep(0.0005)


def waits(event):
    threading.Event().wait(0.002)


KINDS = [awaits, yields, awaits_and_yields, waits, lambda event: lambda event: awaits]


def test_cancelling_at_any_moment_leaves_a_node_that_works(space, orders):
    """Whatever the handler is and wherever it is: nothing hangs, nothing fails, the next one is handled."""
    for n, handler in enumerate(KINDS):
        orders.on(f"kind.{n}", handler)
    orders.on("last", lambda event: "works")
    chance, states = random.Random(7), set()
    for n in range(150):
        reply = space.send("orders", f"kind.{n % len(KINDS)}")
        threading.Event().wait(chance.choice([0, 0, 0.0002, 0.001, 0.003]))
        reply.cancel()
        states.add(reply.state)

    assert space.send("orders", "last").result(timeout=10) == "works"
    space.settle()
    assert states <= {"cancelled", "done"}
    assert list(space.failures) == []
