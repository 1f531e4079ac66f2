"""A fork with handlers: their code names the objects of the original, and acts on the fork only."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import pytest

import happen_nb as happen
from happen_nb.learn import wait_until

take_one = happen.put("lamp", lambda lamp: lamp - 1)


@pytest.fixture(autouse=True)
def _untouched(space, stock):
    """Whatever a fork does, the original stays as it was when the fork was made."""
    yield
    assert stock.state.get() == {"lamp": 1}
    assert [event.type for event in space.events()] == []
    assert not space.failures
    assert list(space.nodes) == ["stock", "shop"] or list(space.nodes) == ["stock"]


def handle(space, type="buy", payload=None):
    space.broadcast(type, payload)
    space.settle()
    assert [failure.exception for failure in space.failures] == []


def test_a_handler_commits_to_the_node_of_the_fork(stock, shop, forked):
    shop.on("buy", lambda event: stock.state.set(take_one) and None)
    fork = forked()
    handle(fork)
    assert fork.views.stock.get() == {"lamp": 0}


def test_every_way_to_read_reads_the_fork(space, stock, shop, forked):
    views, state, view, states = space.views, stock.state, space.views.stock, space.nodes
    seen = {}

    @shop.on("buy")
    async def look(event, context):
        seen["get"] = stock.state.get("lamp")
        seen["aget"] = await state.aget("lamp", fresh=True)
        seen["item"] = stock.state["lamp"]
        seen["view"] = view.get("lamp")
        seen["views"] = views.stock.get("lamp")
        seen["collect"] = views.collect({"stock": "lamp"})["stock"]
        seen["context"] = context.views.stock.get("lamp")
        seen["nodes"] = states["stock"].state.get("lamp")
        seen["create"] = (await space.acreate_node("stock")).state.get("lamp")
        seen["current"] = happen.current().views.stock.get("lamp")
        seen["history"] = (await state.ahistory())[-1].after["lamp"]
        seen["at"] = (await space.aat(event))["stock"]["lamp"]
        seen["wait"] = (await state.await_for(lambda now: now["lamp"] == 7))["lamp"]

    fork = forked()
    fork.create_node("stock").state.set({"lamp": 7})
    handle(fork)
    assert set(seen.values()) == {7}
    assert len(seen) == 13


def test_every_way_to_change_changes_the_fork(space, stock, shop, forked):
    state = stock.state

    @shop.on("buy")
    def buy(event, context):
        state.set(take_one)
        stock.state.set(happen.draft(lambda draft: draft.update(seen=draft["lamp"])))
        happen.create_node("stock").state.set(happen.put("views", 1))
        context.node.state.set({"mine": True})
        happen.current().create_node("late", initial={"made": "here"})
        state.revert(1)

    @shop.on("buy")
    async def buy_later(event):
        await state.aset(take_one)

    fork = forked()
    handle(fork)
    assert fork.views.stock.get() == {"lamp": 0}
    assert fork.views.shop.get() == {"mine": True}
    assert fork.views.late.get() == {"made": "here"}
    assert "late" not in space.views


def test_events_stay_in_the_fork(space, stock, shop, forked):
    @shop.on("buy")
    async def buy(event, context):
        stock.broadcast("plain")
        await shop.abroadcast("async")
        space.broadcast("space")
        context.space.broadcast("context")
        stock.state.set(lambda state: stock.broadcast("inside") and {**state, "lamp": 5})
        answer = await space.asend(stock, "ask")
        await context.node.asend("stock", "ask")
        shop.broadcast("answer", await answer)
        space.cancel(stock.broadcast("scheduled", after=1000))

    stock.on("ask", lambda event: stock.state.get("lamp"))
    fork = forked()
    handle(fork)
    types = [event.type for event in fork.events()]
    assert types == ["buy", "plain", "async", "space", "context", "inside", "ask", "ask", "answer"]
    assert fork.events("answer")[0].payload == 5
    assert space.to_come == 0


def test_state_handlers_apply_to_the_fork_and_view_it(space, stock, shop, forked):
    def reserve(state, event, views):
        stock.broadcast("reserved", views.shop.get("name"))
        return {"lamp": stock.state.get("lamp") - 1, "viewed": space.views.shop.get("name")}

    stock.state.on("buy", reserve, where=lambda event: stock.state.get("lamp") > 0)
    fork = forked()
    fork.nodes["shop"].state.set({"name": "web"})
    handle(fork)
    handle(fork)
    assert fork.views.stock.get() == {"lamp": 0, "viewed": "web"}
    assert [event.payload for event in fork.events("reserved")] == ["web"]
    assert fork.nodes["stock"].handlers[0].function is reserve


def test_filters_ask_the_fork(stock, shop, forked):
    shop.on(
        "buy", lambda event: shop.state.set({"bought": True}), where=lambda _: stock.state.get("lamp") > 1
    )
    fork = forked()
    handle(fork)
    assert fork.views.shop.get() == {}
    fork.nodes["stock"].state.set({"lamp": 2})
    handle(fork)
    assert fork.views.shop.get() == {"bought": True}


def test_watches_are_called_with_the_commits_of_the_fork(stock, shop, forked):
    watch = stock.state.watch(lambda commit: shop.broadcast("seen", commit.after))
    fork = forked()
    fork.nodes["stock"].state.set(take_one)
    fork.settle()
    assert [event.payload for event in fork.events("seen")] == [{"lamp": 0}]
    shop.on("stop", lambda event: watch.stop())
    other = forked()
    handle(other, "stop")
    other.nodes["stock"].state.set(take_one)
    other.settle()
    assert len(other.events("seen")) == 0
    assert watch.active
    watch.stop()


def test_steps_generators_tasks_and_carried_functions_stay_in_the_fork(stock, shop, forked):
    def take():
        stock.state.set(take_one)

    @shop.on("steps")
    def first(event):
        return lambda event: take()

    @shop.on("generator")
    def generate(event):
        yield 1
        take()

    @shop.on("async")
    async def wait(event):
        await asyncio.create_task(stock.state.aset(take_one))
        await asyncio.to_thread(take)
        with ThreadPoolExecutor(1) as pool:
            await asyncio.wrap_future(pool.submit(happen.carry(take)))

    fork = forked()
    for type in ("steps", "generator", "async"):
        handle(fork, type)
    assert fork.views.stock.get() == {"lamp": -4}


def test_functions_of_a_module_stay_in_the_fork(stock, shop, forked):
    module = types.ModuleType("shop_rules")
    sys.modules[module.__name__] = module
    exec(
        "import happen_nb as happen\n"
        "def take(event):\n"
        "    happen.create_node('stock').state.set(lambda s: {'lamp': s['lamp'] - 1})\n",
        module.__dict__,
    )
    shop.on("buy", module.take)
    happen.connect(store=stock.space.server.store, name=stock.space.name)
    fork = forked()
    handle(fork)
    assert fork.views.stock.get() == {"lamp": 0}
    del sys.modules[module.__name__]


def test_durable_handlers_retries_and_once_work_in_the_fork(stock, shop, forked):
    charged = []

    @shop.on("buy", durable=True, retries=2, backoff=0)
    def charge(event, context):
        stock.state.set(take_one)
        context.once("card", charged.append, event.id)
        if context.attempt < 3:
            raise ConnectionError

    fork = forked()
    handle(fork)
    assert fork.views.stock.get() == {"lamp": 0}
    assert len(charged) == 1


def test_ticks_come_in_the_fork(store, forked, space, stock):
    with happen.connect(store=store, name=f"{space.name[:40]}_clock", clock="manual") as lab:
        heart = lab.create_node("heart", initial={"beats": 0})
        heart.every(10, lambda event: heart.state.set(happen.put("beats", event.payload["n"])))
        heart.state.every(10, lambda state: {**state, "folds": state.get("folds", 0) + 1}, id="fold")
        fork = forked(lab)
        fork.advance(25)
        assert fork.views.heart.get() == {"beats": 2, "folds": 2}
        assert heart.state.get() == {"beats": 0}
        assert lab.now.second == 0


def test_handlers_that_a_handler_registers_belong_to_the_fork(stock, shop, forked):
    @shop.on("open")
    def begin(event):
        stock.on("buy", lambda event: stock.state.set(take_one) and None)
        shop.off(begin)

    fork = forked()
    handle(fork, "open")
    handle(fork)
    assert fork.views.stock.get() == {"lamp": 0}
    assert len(stock.handlers) == 0
    assert len(shop.handlers) == 1
    assert len(fork.nodes["shop"].handlers) == 0


def test_what_a_handler_hands_out_belongs_to_the_fork(space, stock, shop, forked):
    kept = {}

    @shop.on("buy")
    def keep(event, context):
        kept.update(state=stock.state, views=space.views, node=space.nodes["stock"])
        kept.update(event=event, space=stock.space)
        kept["sent"] = shop.broadcast("sent")

    fork = forked()
    fork.nodes["stock"].state.set({"lamp": 3})
    handle(fork)
    assert kept["state"].get("lamp") == kept["views"].stock.get("lamp") == 3
    assert kept["node"] is fork.nodes["stock"]
    assert kept["space"] is fork
    assert kept["event"].handled_by == ("shop",)
    assert [node.event.type for node in kept["sent"].settle()] == ["sent"]


def test_failures_are_those_of_the_fork(stock, shop, forked):
    @shop.on("buy")
    def fail(event):
        raise ZeroDivisionError(stock.state.get("lamp"))

    fork = forked()
    fork.broadcast("buy")
    fork.settle()
    assert [failure.exception.args for failure in fork.failures] == [(1,)]


def test_a_fork_of_a_fork_has_the_handlers_too(stock, shop, forked):
    shop.on("buy", lambda event: stock.state.set(take_one) and None)
    first = forked()
    second = forked(first)
    handle(second)
    assert second.views.stock.get() == {"lamp": 0}
    assert first.views.stock.get() == {"lamp": 1}


def test_a_fork_of_the_past_handles_events_anew(space, stock, shop, forked):
    then = stock.state.set({"lamp": 5})
    stock.state.set({"lamp": 1})
    shop.on("buy", lambda event: stock.state.set(take_one) and None)
    fork = forked(at=stock.state.history()[-1])
    handle(fork)
    assert then.after == {"lamp": 5}
    assert fork.views.stock.get() == {"lamp": 4}


def test_an_event_or_reply_of_the_original_is_not_touched(space, stock, shop, forked):
    expiry = stock.broadcast("expired", after=1000)
    cancelled = []
    shop.on("buy", lambda event: cancelled.append(expiry.cancel()))
    fork = forked()
    handle(fork)
    assert cancelled == [False]
    assert expiry.cancel()


def test_a_wrong_argument_is_refused(space):
    with pytest.raises(TypeError, match="fork: handlers is 'yes'; pass True or False"):
        space.fork("x", handlers="yes")


def test_an_interrupted_fork_leaves_no_space(monkeypatch, space):
    async def interrupt(*_):
        os.kill(os.getpid(), signal.SIGINT)
        await asyncio.sleep(20)

    name = f"{space.name[:40]}_interrupted"
    for step in ("happen_nb._runtime.log.Log.open", "happen_nb._api.forks._is_empty"):
        with monkeypatch.context() as patch:
            patch.setattr(step, interrupt)
            with pytest.raises(KeyboardInterrupt):
                space.fork(name)
        wait_until(lambda: name not in [each.name for each in happen.spaces()])
    space.fork(name).drop()
