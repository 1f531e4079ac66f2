"""The async variants, and blocking calls while an event loop is running."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import datetime as dt
import functools
import gc
import threading

import pytest

import happen_nb as happen
from happen_nb._api import connect as connecting
from happen_nb._api.registry import registry
from happen_nb._journal.connection import _unless_refused
from happen_nb._runtime.io import inbox_of, on_io, run_awaitable


def in_a_loop(test):
    """Run an async test in a loop of its own."""

    @functools.wraps(test)
    def run(**fixtures):
        asyncio.run(test(**fixtures))

    return run


@in_a_loop
async def test_every_async_variant(space):
    orders = await space.acreate_node("orders", initial={"n": 0})
    commit = await orders.state.aset(lambda s: {"n": s["n"] + 1})
    seen = []
    orders.state.watch(seen.append)

    assert await orders.state.aget("n") == await orders.state.aget("n", fresh=True) == 1
    assert (commit.revision, commit.after) == (2, {"n": 1})
    assert [c.revision for c in await orders.state.ahistory()] == [1, 2]
    assert [c.revision for c in await orders.state.ahistory(1)] == [2]
    assert await orders.state.aat(1) == {"n": 0}
    assert await orders.state.aat(commit.time) == {"n": 1}
    assert (await orders.state.arevert(1)).after == {"n": 0}
    assert await orders.state.await_for(lambda s: s["n"] == 0) == {"n": 0}
    await space.asettle()
    assert [c.revision for c in seen] == [3]
    assert dict(await space.aat(commit.time)) == {"orders": {"n": 1}}
    assert [c.revision for c in await space.ajournal(since=commit)] == [3]
    event = await orders.abroadcast("order.paid")
    assert [each.event.type for each in await space.atrace(event)] == ["order.paid"]
    assert [(each.event.id, each.reason) for each in await space.aunhandled()] == [(event.id, "no owner")]
    assert (await space.await_for("order.*", since=commit)).id == event.id
    assert [each.id for each in await space.aevents(since=commit)] == [event.id]
    fork = await space.afork(f"{space.name[:50]}_fork")
    assert fork.views.orders.get("n") == 0
    await fork.adrop()
    assert fork.name not in [each.name for each in await happen.aspaces()]
    await orders.adelete()
    assert "orders" not in space.views
    await space.aclear()
    assert len(await space.ajournal()) == 0


@in_a_loop
async def test_the_async_variants_of_the_module(store):
    space = await happen.aconnect(store=store, name="variants")
    assert happen.current() is space
    assert await happen.aconnect(store=store, name="variants", fresh=True) is space
    assert await happen.acreate_node("orders", initial={"n": 1}) is space.nodes["orders"]
    assert "variants" in [each.name for each in await happen.aspaces()]
    await space.aclose()
    with pytest.raises(happen.ClosedError):
        space.create_node("orders")


@in_a_loop
async def test_the_variants_of_the_module_connect_where_there_is_no_space(monkeypatch, tmp_path):
    monkeypatch.setenv("HAPPEN_STORE", str(tmp_path / ".happen"))
    monkeypatch.setattr(connecting.registry, "_connected", {})

    node = await happen.acreate_node("orders", initial={"n": 1})

    async with happen.current() as space:
        assert node.space is space
        assert [(each.name, each.nodes) for each in await happen.aspaces()] == [("default", 1)]


@in_a_loop
async def test_the_twins_raise_what_the_calls_raise(space):
    orders = await space.acreate_node("orders", initial={"n": 0})

    with pytest.raises(happen.InvalidNameError):
        await space.acreate_node("a.b")
    with pytest.raises(happen.StateError):
        await orders.state.aset(lambda s: None)
    with pytest.raises(ZeroDivisionError):
        await orders.state.aset(lambda s: 1 / 0)
    with pytest.raises(happen.TransformError):
        await orders.state.aset(_async_transform)
    with pytest.raises(ValueError, match="revision 9"):
        await orders.state.aat(9)
    with pytest.raises(ValueError, match="limit"):
        await orders.state.ahistory(-1)
    with pytest.raises(TimeoutError, match="orders"):
        await orders.state.await_for(lambda s: s["n"] == 1, timeout=0.05)


async def _async_transform(state):
    return state


@in_a_loop
async def test_the_loop_runs_while_a_twin_waits(space):
    orders = await space.acreate_node("orders", initial={"n": 0})
    waiting = asyncio.create_task(orders.state.await_for(lambda s: s["n"] == 5, timeout=30))

    for n in range(1, 6):
        await orders.state.aset({"n": n})

    assert await waiting == {"n": 5}


@in_a_loop
async def test_many_tasks_increment_and_lose_nothing(space):
    counter = await space.acreate_node("counter", initial={"n": 0})

    def increment(state):
        return {"n": state["n"] + 1}

    await asyncio.gather(*(counter.state.aset(increment, timeout=60) for _ in range(50)))

    assert counter.state.get("n") == 50


@in_a_loop
async def test_a_cancelled_wait_ends_at_once_and_the_space_stays_usable(space):
    orders = await space.acreate_node("orders", initial={"n": 0})
    waiting = asyncio.create_task(orders.state.await_for(lambda s: s["n"] == 1, timeout=60))
    await asyncio.sleep(0)

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (await orders.state.aset({"n": 1})).revision == 2


@pytest.mark.parametrize("call", ["afork", "aconnect"])
@in_a_loop
async def test_a_space_that_has_just_opened_when_its_call_is_cancelled_is_closed(
    space, store, monkeypatch, call
):
    loop, add = asyncio.get_running_loop(), registry.add

    def cancel_first(*args):
        cancelled = threading.Event()
        loop.call_soon_threadsafe(lambda: (opening.cancel(), cancelled.set()))
        cancelled.wait(20)
        return add(*args)

    monkeypatch.setattr(registry, "add", cancel_first)
    calls = {
        "afork": lambda: space.afork("unseen"),
        "aconnect": lambda: happen.aconnect(store=store, name="unseen"),
    }
    opening = asyncio.ensure_future(calls[call]())
    with pytest.raises(asyncio.CancelledError):
        await opening

    assert "unseen" not in [each.name for each in await happen.aspaces()]
    assert "unseen" not in [name for _, name in registry.spaces]


@pytest.mark.parametrize("others_end", ["connected", "cancelled"])
@in_a_loop
async def test_a_call_whose_space_another_cancelled_call_has_opened_gets_it(store, monkeypatch, others_end):
    loop, add = asyncio.get_running_loop(), registry.add

    def cancel(*calls):
        cancelled = threading.Event()
        loop.call_soon_threadsafe(lambda: ([each.cancel() for each in calls], cancelled.set()))
        cancelled.wait(20)

    def cancel_first(*args):
        space = add(*args)
        cancel(opening, *([other] if others_end == "cancelled" else []))
        return space

    monkeypatch.setattr(registry, "add", cancel_first)
    opening = asyncio.ensure_future(happen.aconnect(store=store, name="shared"))
    other = asyncio.ensure_future(happen.aconnect(store=store, name="shared"))
    results = await asyncio.gather(opening, other, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)

    if others_end == "cancelled":
        assert "shared" not in [name for _, name in registry.spaces]
        return
    orders = await results[1].acreate_node("orders", initial={"n": 1})
    assert orders.state.get("n") == 1
    assert await happen.aconnect(store=store, name="shared") is results[1]
    await results[1].adrop()


@in_a_loop
async def test_a_space_that_another_call_has_stays_open_when_the_call_that_opened_it_fails(
    store, monkeypatch
):
    async def refuse(*_, **__):
        others.append(happen.connect(store=store, name="shared"))
        raise happen.ClockError("another clock")

    others = []
    monkeypatch.setattr(connecting, "_check_clock", refuse)
    with pytest.raises(happen.ClockError):
        await happen.aconnect(store=store, name="shared", clock="real")

    await others[0].acreate_node("orders", initial={"n": 1})
    await others[0].adrop()


@in_a_loop
async def test_a_cancelled_call_that_ends_with_an_error_leaves_none_in_the_log(space, caplog):
    begun = threading.Event()

    async def refuse():
        begun.set()
        try:
            await asyncio.sleep(20)
        finally:
            raise happen.ClosedError("closed meanwhile")

    async def call():
        await on_io(refuse())

    calling = asyncio.ensure_future(run_awaitable(call()))
    await asyncio.to_thread(begun.wait, 20)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await space.aevents()
    gc.collect()

    assert not caplog.records


@in_a_loop
async def test_a_connection_whose_opening_is_cancelled_is_not_opened_later():
    async def connect():
        with contextlib.suppress(asyncio.CancelledError):  # as Python 3.11 does at times
            await asyncio.sleep(20)
        await asyncio.sleep(20)

    loop = asyncio.get_running_loop()
    opening = asyncio.ensure_future(_unless_refused(connect(), loop.create_future()))
    await asyncio.sleep(0.01)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening

    assert asyncio.all_tasks() == {asyncio.current_task()}


@in_a_loop
async def test_asyncio_timeout_limits_a_twin(space):
    orders = await space.acreate_node("orders", initial={"n": 0})

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await orders.state.await_for(lambda s: s["n"] == 1, timeout=60)

    assert (await orders.state.aset({"n": 1})).revision == 2


@in_a_loop
async def test_a_transform_runs_in_the_callers_thread_and_context(space):
    variable = contextvars.ContextVar("variable")
    variable.set("mine")
    orders = await space.acreate_node("orders")

    commit = await orders.state.aset(
        lambda s: {"thread": threading.current_thread() is threading.main_thread(), "context": variable.get()}
    )

    assert commit.after == {"thread": True, "context": "mine"}


def test_a_call_that_a_transform_may_not_make_leaves_no_coroutine(space, recwarn):
    orders = space.create_node("orders", initial={"n": 0})
    event = space.broadcast("order.paid", {"id": "o1"})
    with pytest.raises(happen.TransformError):
        orders.state.set(lambda state: space.dashboard() and state)
    with pytest.raises(happen.TransformError):
        orders.state.set(lambda state: space.trace(event) and state)
    gc.collect()

    assert not [each for each in recwarn if "never awaited" in str(each.message)]


@in_a_loop
async def test_a_twin_inside_a_transform_is_a_transform_error(space):
    orders = await space.acreate_node("orders", initial={"n": 0})
    inner = []

    def transform(state):
        inner.append(orders.state.aset({"n": 9}))
        with pytest.raises(happen.TransformError):
            inner[0].send(None)
        return {"n": 1}

    assert (await orders.state.aset(transform)).after == {"n": 1}


@in_a_loop
async def test_blocking_calls_work_inside_a_coroutine(space):
    orders = space.create_node("orders", initial={"n": 0})

    assert orders.state.set({"n": 1}).revision == 2
    assert orders.state.get("n", fresh=True) == 1
    assert len(orders.state.history()) == 2
    assert orders.state.at(dt.datetime.now(dt.UTC)) == {"n": 1}


@in_a_loop
async def test_twins_serve_several_loops(space):
    orders = await space.acreate_node("orders", initial={"n": 0})

    def in_another_loop():
        return asyncio.run(orders.state.aset(lambda s: {"n": s["n"] + 1}))

    await asyncio.gather(*(asyncio.to_thread(in_another_loop) for _ in range(8)))

    assert orders.state.get("n") == 8


# -- run ---------------------------------------------------------------------------------------------


def test_run_gives_the_result_of_a_coroutine_from_plain_code(space):
    async def work():
        node = await space.acreate_node("orders", initial={"n": 1})
        return await node.state.aget("n", fresh=True)

    assert happen.run(work()) == 1


def test_run_raises_what_the_coroutine_raises():
    async def work():
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        happen.run(work())


def test_run_names_what_is_no_coroutine():
    async def work():
        return 1

    with pytest.raises(TypeError, match=r"^run: .*work.* is not a coroutine; call an async function"):
        happen.run(work)


def test_what_ends_a_loop_keeps_no_call_from_it():
    loop = asyncio.new_event_loop()
    inbox, called = inbox_of(loop), []

    def end():
        inbox.put_last(lambda: called.append("last"))
        raise SystemExit

    inbox.put(end)
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert called == []

    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert called == ["last"]


def test_a_call_of_a_signal_that_comes_while_a_loop_is_woken_wakes_it_too(monkeypatch):
    loop = asyncio.new_event_loop()
    inbox, wake, called = inbox_of(loop), loop.call_soon_threadsafe, []

    def interrupted(*args, **kwargs):
        monkeypatch.setattr(loop, "call_soon_threadsafe", wake)
        inbox.put(lambda: called.append("signal"))
        loop.call_soon(loop.stop)
        loop.run_forever()  # another thread runs it, while the signal handler waits
        assert called == ["call", "signal"]
        return wake(*args, **kwargs)

    monkeypatch.setattr(loop, "call_soon_threadsafe", interrupted)
    inbox.put(lambda: called.append("call"))
    assert called == ["call", "signal"]
    loop.close()
