"""Timers, tasks and handlers end with their node or space, and hold nothing afterwards."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref

import pytest

import happen_nb as happen
from happen_nb._runtime import replies
from happen_nb._runtime import workers as workers_module
from happen_nb._runtime.dispatcher import Dispatcher


@pytest.fixture
def steps():
    """Return what endless handlers have done."""
    return []


def stands_still(steps):
    """Return True if nothing is added any more."""
    before = len(steps)
    threading.Event().wait(0.1)
    return len(steps) == before


ENDS = {
    "off": lambda space, node, handler: node.off(handler),
    "off by pattern": lambda space, node, handler: node.off("pay"),
    "delete": lambda space, node, handler: node.delete(),
    "clear": lambda space, node, handler: space.clear(),
    "close": lambda space, node, handler: space.close(),
    "drop": lambda space, node, handler: space.drop(),
}
ends = pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)


@ends
def test_a_handler_that_waits_to_be_repeated_is_not_called_after_its_end(space, orders, until, end):
    calls = []

    def fail(event):
        calls.append(event.payload)
        raise ValueError("down")

    orders.on("pay", fail, retries=3, backoff=0.2)
    space.broadcast("pay")
    until(lambda: space._runtime.dispatcher.queue("orders").waiting)
    end(space, orders, fail)
    before = len(calls)
    threading.Event().wait(0.5)

    assert len(calls) == before


@pytest.mark.parametrize("end", ["off", "delete"])
def test_what_was_to_be_repeated_and_is_not_is_a_failure(space, orders, until, end):
    calls = []

    def fail(event):
        calls.append(1)
        raise ValueError("down")

    orders.on("pay", fail, retries=3, backoff=60)
    reply = space.send("orders", "pay")
    until(lambda: space._runtime.dispatcher.queue("orders").waiting)
    ENDS[end](space, orders, fail)
    space.settle(5)

    with pytest.raises(happen.HandlerError, match="down"):
        reply.result(5)
    (failure,) = space.failures
    assert (failure.attempts, str(failure.exception)) == (1, "down")


def test_a_huge_number_of_retries_is_possible(space, orders, until):
    calls = []
    orders.on("a", lambda event: calls.append(1) or 1 / 0, retries=10**6, backoff=0)
    space.broadcast("a")
    until(lambda: len(calls) > 1100)
    orders.off("a")
    space.settle(5)


@pytest.fixture(params=["generator", "coroutine", "async generator", "busy async generator"])
def endless(request, steps):
    def generator(event):
        while True:
            steps.append(1)
            time.sleep(0.005)
            yield len(steps)

    async def coroutine(event):
        while True:
            steps.append(1)
            await asyncio.sleep(0.005)

    async def async_generator(event):
        while True:
            steps.append(1)
            await asyncio.sleep(0.005)
            yield len(steps)

    async def busy_async_generator(event):
        while True:
            steps.append(1)
            time.sleep(0.005)  # noqa: ASYNC251 - that is the point
            yield len(steps)

    kinds = (generator, coroutine, async_generator, busy_async_generator)
    return {kind.__name__.replace("_", " "): kind for kind in kinds}[request.param]


@ends
def test_a_handler_that_never_ends_is_stopped(space, orders, until, steps, endless, end):
    orders.on("pay", endless)
    space.broadcast("pay")
    until(lambda: steps)
    end(space, orders, endless)

    until(lambda: stands_still(steps))


@ends
def test_what_a_stopped_handler_returns_is_not_awaited(space, orders, gate, steps, until, end):
    async def go_on():
        steps.append("on")

    def begin(event):
        steps.append("begun")
        gate.wait(10)
        steps.append("returns")
        return go_on()

    orders.on("pay", begin)
    space.broadcast("pay")
    until(lambda: steps)
    end(space, orders, begin)
    gate.set()
    until(lambda: steps[1:])

    assert stands_still(steps)
    assert steps == ["begun", "returns"]


@pytest.mark.parametrize("end", ["off", "clear", "delete"])
def test_a_plain_handler_that_never_ends_is_abandoned_and_its_writes_are_refused(
    space, orders, stock, gate, until, end
):
    begun, refused = threading.Event(), []

    def endless(event):
        begun.set()
        gate.wait(10)
        try:
            stock.state.set({"n": 1})
        except happen.CancelledHandlingError:
            refused.append(1)

    orders.on("pay", endless)
    reply = space.send("orders", "pay")
    assert begun.wait(10)
    ENDS[end](space, orders, endless)
    if end != "delete":
        orders.on("ping", lambda event: "pong")
        assert space.send("orders", "ping").result(5) == "pong"
    with pytest.raises(happen.HandlerError, match="was stopped: "):
        reply.result(5)
    space.settle(5)
    gate.set()
    until(lambda: refused)
    assert stock.state.revision == 0


def test_a_handler_may_clear_its_space_and_goes_on(space, orders):
    def reset(event):
        space.clear()
        orders.state.set({"n": 0})
        return "cleared"

    orders.on("reset", reset)
    orders.state.set({"n": 5})
    assert space.send("orders", "reset").result(5) == "cleared"
    assert orders.state.get() == {"n": 0}


def test_off_of_a_handler_that_a_new_run_has_replaced_stops_it_too(space, orders, gate):
    begun = threading.Event()

    def endless(event):
        begun.set()
        gate.wait(10)

    orders.on("pay", endless)
    space.broadcast("pay")
    assert begun.wait(10)
    space._runtime.dispatcher.remove(
        space._runtime.registrations.of("orders")[0]
    )  # as running its cell again does
    orders.off(endless)
    space.settle(5)


def test_a_generator_that_does_not_yield_any_more_does_not_stop_its_node_for_ever(
    space, orders, gate, monkeypatch
):
    monkeypatch.setattr("happen_nb._runtime.attempt.STOP_PATIENCE_SECONDS", 0.05)
    begun = threading.Event()

    def stuck(event):
        yield 1
        begun.set()
        gate.wait(10)

    async def deaf(event):
        begun.set()
        while not gate.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue

    for handler in (stuck, deaf):
        begun.clear()
        orders.on("a", handler)
        reply = space.send("orders", "a")
        assert begun.wait(10)
        reply.cancel()
        orders.off(handler)
        orders.on("ping", lambda event: "pong")
        assert space.send("orders", "ping").result(5) == "pong"


def test_what_a_slow_watch_has_not_seen_is_not_seen_after_the_space_is_closed(space, orders):
    seen = []

    def slow(commit):
        threading.Event().wait(0.05)
        seen.append(commit.revision)

    orders.state.watch(slow)
    for n in range(100):
        orders.state.set({"n": n})
    space.close()
    before = len(seen)
    threading.Event().wait(0.3)
    assert len(seen) <= before + 1


# -- async handlers side by side -----------------------------------------------------------------------------


def test_an_async_generator_that_awaits_nothing_lets_others_run_and_can_be_cancelled(
    space, orders, stock, until, steps
):
    async def scan(event):
        while True:
            steps.append(1)
            yield len(steps)

    async def ping(event):
        return "pong"

    orders.on("scan", scan)
    stock.on("ping", ping)
    reply = space.send("orders", "scan")
    until(lambda: steps)
    assert space.send("stock", "ping").result(5) == "pong"
    reply.cancel()
    space.settle(5)
    until(lambda: stands_still(steps))


def test_an_async_handler_that_only_reads_in_a_loop_lets_others_run(space, orders, stock, until, steps):
    async def look(event):
        while not steps:
            await orders.state.aget()

    async def ping(event):
        steps.append(1)

    orders.on("look", look)
    stock.on("ping", ping)
    space.broadcast("look")
    space.broadcast("ping")
    space.settle(5)
    assert steps == [1]


def test_an_async_handler_that_blocks_does_not_stop_those_of_other_nodes(space, orders, stock, gate):
    begun = threading.Event()

    async def blocks(event):
        begun.set()
        gate.wait(20)

    async def ping(event):
        await asyncio.sleep(0)
        return "pong"

    orders.on("a", blocks)
    stock.on("ping", ping)
    space.broadcast("a")
    assert begun.wait(10)  # one that awaits in the loop when it gets blocked has to wait
    for _ in range(3):
        assert space.send("stock", "ping").result(10) == "pong"
    gate.set()
    space.settle(5)
    assert space.send("stock", "ping").result(10) == "pong"


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_task_that_exits_does_not_end_the_loop_of_async_handlers(space, orders, error):
    async def exits():
        raise error

    async def handler(event):
        task = asyncio.create_task(exits())
        await asyncio.sleep(0.01)
        return type(task.exception()).__name__

    orders.on("a", handler)
    for _ in range(2):
        assert space.send("orders", "a").result(5) == error.__name__


def test_many_handlers_that_block_do_not_stop_the_others(space, gate, caplog):
    for n in range(workers_module.THREADS + 5):
        space.create_node(f"w{n}").on("wait", lambda event: gate.wait(20))
    space.create_node("free").on("open", lambda event: gate.set())
    space.broadcast("wait")
    space.broadcast("open")
    space.settle(10)
    assert "more threads start" in caplog.text


# -- what is held --------------------------------------------------------------------------------------------


class Table:
    pass


@pytest.mark.parametrize("kind", ["plain", "async", "filter", "watch", "retried"])
def test_a_failure_holds_none_of_what_its_handler_has_computed(space, orders, until, kind):
    tables = []

    def load(_):
        table = Table()
        tables.append(weakref.ref(table))
        try:
            raise KeyError("a bad row")
        except KeyError as error:
            raise ValueError("a bad table") from error

    async def load_async(event):
        load(event)

    if kind == "filter":
        orders.on("load", print, where=load)
    elif kind == "watch":
        orders.state.watch(load)
    else:
        orders.on("load", load_async if kind == "async" else load)
    for n in range(5):
        orders.state.set({"n": n})
        space.broadcast("load")
    space.settle()
    if kind == "retried":
        space.failures.retry()

    def held():
        gc.collect()
        return [table for table in tables if table() is not None]

    assert tables
    until(lambda: not held())  # the thread of the last one may just be ending
    failure = space.failures[-1]
    assert isinstance(failure.exception, ValueError)
    assert isinstance(failure.exception.__cause__, KeyError)
    assert 'raise KeyError("a bad row")' in failure.traceback


def test_results_are_kept_up_to_a_number_of_bytes(space, orders, monkeypatch):
    monkeypatch.setattr(replies, "MAX_KEPT_BYTES", 100_000)
    orders.on("a", lambda event: "x" * 30_000)
    for _ in range(20):
        space.send("orders", "a").result()
    router = space._runtime.replies

    assert len(router._responders) <= 4
    assert router._size <= 100_000


def test_a_retry_that_waits_for_its_turn_returns_when_the_space_is_closed(store, gate, until):
    def fail(event):
        raise ValueError("down")

    def wait(event):
        begun.set()
        gate.wait(10)

    begun = threading.Event()
    with happen.connect(store=store, name="retry_at_close") as space:
        node = space.create_node("till")
        node.on("pay", fail)
        node.on("wait", wait)
        space.broadcast("pay").settle()
        space.broadcast("wait")
        assert begun.wait(10)
        retrying = threading.Thread(target=space.failures.retry)
        retrying.start()
        until(lambda: len(space._runtime.dispatcher.queue("till").queued) == 1)
    gate.set()
    retrying.join(10)
    assert not retrying.is_alive()


def test_a_handler_that_waits_for_its_turn_when_the_space_is_closed_is_recorded_as_cancelled(
    store, gate, monkeypatch
):
    wait_ended = Dispatcher._wait_ended

    async def open_and_wait(dispatcher, seconds):
        gate.set()  # when nothing further may begin
        await wait_ended(dispatcher, seconds)

    monkeypatch.setattr(Dispatcher, "_wait_ended", open_and_wait)
    with happen.connect(store=store, name="second_at_close") as space:
        orders, started, ran = space.create_node("orders"), threading.Event(), []

        def first(event):
            started.set()
            gate.wait(20)

        orders.on("a", first)
        orders.on("a", lambda event: ran.append(1))
        event = space.broadcast("a")
        assert started.wait(20)

    with happen.connect(store=store, name="second_at_close") as space:
        (tree,) = [node for node in space.trace(event.id) if node.event is not None]
        assert ran == []
        assert sorted(record.outcome for record in tree.handled) == ["cancelled", "done"]
        space.drop()


def test_handlers_end_though_the_close_of_their_space_was_cancelled(store, steps, until):
    async def endless(event):
        while True:
            steps.append(1)
            await asyncio.sleep(0.01)

    async def close():
        async with asyncio.timeout(0.1):
            await space.aclose()

    space = happen.connect(store=store, name="close_cancelled")
    space.create_node("orders").on("run", endless)
    space.broadcast("run")
    until(lambda: steps)
    with pytest.raises(TimeoutError):
        asyncio.run(close())

    assert stands_still(steps)


def test_an_async_handler_that_closes_its_space_is_recorded_as_cancelled(store, until, caplog):
    ended = threading.Event()

    async def close(event):
        try:
            await space.aclose()
        finally:
            ended.set()

    space = happen.connect(store=store, name="closed_by_handler")
    space.create_node("orders").on("end", close)
    event = space.broadcast("end")
    assert ended.wait(20)

    with happen.connect(store=store, name="closed_by_handler") as again:
        assert again is not space
        (tree,) = [node for node in again.trace(event.id) if node.event is not None]
        assert [record.outcome for record in tree.handled] == ["cancelled"]
        assert not caplog.records
        again.drop()


@pytest.mark.parametrize("durable", [False, True])
def test_the_reply_to_an_event_whose_handlers_were_unregistered_while_it_waited_names_what_is_left(
    space, orders, gate, durable
):
    handler = orders.on("pay", lambda event: gate.wait(5), durable=durable)
    orders.on("refund", print)
    space.send("orders", "pay")
    second = space.send("orders", "pay")
    orders.off(handler)

    with pytest.raises(happen.NoHandlerError, match='has no handler of "pay"; it handles refund'):
        second.result(10)
