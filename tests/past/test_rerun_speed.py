"""A rerun has the recorded order at any speed of the machine, or names the handlers that were overtaken."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from happen_nb._runtime import conductor


@pytest.fixture
def impatient(monkeypatch):
    """Check for handlers that stand still so often that each slow one seems to."""
    monkeypatch.setattr(conductor, "CHECK_SECONDS", 0.002)


def noted(what):
    return lambda state: {"log": [*state.get("log", []), what]}


@pytest.fixture
def stock(space):
    return space.create_node("stock", initial={"log": []})


def test_tasks_of_a_handler_store_in_the_recorded_order_at_any_speed(space, stock):
    agent, notes, seconds = space.create_node("agent"), space.create_node("notes"), [0.03, 0]

    async def fetch(node, delay):
        await asyncio.to_thread(time.sleep, delay)
        await node.state.aset(noted("fetched"))

    @agent.on("ask")
    async def ask(event):
        await asyncio.gather(fetch(stock, seconds[0]), fetch(notes, seconds[1]))

    for _ in range(3):
        space.broadcast("ask").settle()
    seconds.reverse()
    again = space.rerun()
    assert again.same, repr(again)
    assert again.overtaken == ()


def test_a_slow_handler_stores_where_it_did(space, stock, impatient):
    slow, quick, seconds = space.create_node("slow"), space.create_node("quick"), [0, 0]

    @slow.on("go")
    def work(event):
        stock.state.get("log")
        time.sleep(seconds[0])
        stock.state.set(noted("slow"))

    @quick.on("go")
    def follow(event):
        stock.state.wait_for(lambda state: state["log"][-1:] == ["slow"])
        stock.state.set(noted("quick"))

    for _ in range(2):
        space.broadcast("go").settle()
        quick.broadcast("done", stock.state.get())
    seconds[0] = 0.15  # longer than the others wait, if what they do is recorded next
    again = space.rerun()
    assert again.same or again.overtaken, repr(again)


def test_a_handler_that_waits_for_what_came_later_is_overtaken_and_named(space, stock, impatient):
    first, second = space.create_node("first"), space.create_node("second")
    has_gone, waits = threading.Event(), []

    @first.on("go")
    def stand(event):
        if waits:
            has_gone.wait(30)
        stock.state.set(noted("first"))

    @second.on("went")
    def go(event):
        stock.state.set(noted("second"))
        has_gone.set()

    space.broadcast("go").settle()
    space.broadcast("went").settle()
    assert space.rerun().overtaken == ()
    waits.append(True)
    has_gone.clear()
    again = space.rerun()
    assert not again.same
    (name,) = again.overtaken
    assert name.startswith("first ")
    assert "overtaken, because it stood still: first stand" in repr(again)


def test_a_handler_that_waits_for_a_lock_is_not_named_if_that_was_so_before(space, stock, impatient):
    phone, web = space.create_node("phone"), space.create_node("web")
    lock, has_lock = threading.Lock(), threading.Event()

    @phone.on("buy")
    def buy(event):
        stock.state.get("log")
        with lock:
            has_lock.set()
            phone.state.set({"buys": True})
            stock.state.set(noted("phone"))

    @web.on("buy")
    def wait_and_buy(event):
        stock.state.get("log")
        has_lock.wait(30)
        with lock:
            stock.state.set(noted("web"))

    space.broadcast("buy").settle()
    has_lock.clear()
    again = space.rerun()
    assert again.same, repr(again)
    assert again.overtaken == ()
