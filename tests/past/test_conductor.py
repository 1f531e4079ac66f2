"""A conductor decides what begins next and whose storing goes first, one thing at a time."""

from __future__ import annotations

import asyncio
import random
import threading

import pytest

import happen_nb as happen
from tests.past.conducting import Conducted, first, last

take_one = happen.put("lamp", lambda lamp: lamp - 1)


@pytest.fixture
def shops(space):
    return [space.create_node(name) for name in ("phone", "web")]


@pytest.fixture
def look_and_take(stock, shops):
    """Two shops that look for a lamp, and then take it."""
    for shop in shops:

        @shop.on("buy")
        def buy(event, context):
            if context.views.stock.get("lamp") > 0:
                stock.state.set(take_one)


def run(space, choose, event="buy"):
    with Conducted(space, choose) as conducted:
        space.broadcast(event)
        space.settle()
        assert conducted.quiet()
        assert [failure.exception for failure in space.failures] == []
    return conducted


def test_handlers_begin_and_store_in_the_chosen_order(space, stock, look_and_take):
    assert run(space, first).log == ["phone begin", "phone commit stock", "web begin"]
    stock.state.set({"lamp": 1})
    assert run(space, last).log == ["web begin", "web commit stock", "phone begin"]
    assert stock.state.get("lamp") == 0


def test_both_take_the_lamp_if_both_look_first(space, stock, look_and_take):
    begins_first = lambda choices: min(choices, key=lambda choice: choice.what)  # noqa: E731 - a chooser
    ran = run(space, begins_first)
    assert ran.log == ["phone begin", "web begin", "phone commit stock", "web commit stock"]
    assert ran.offered[2] == ["phone commit stock", "web commit stock"]
    assert stock.state.get("lamp") == -1


def test_the_same_choices_give_the_same_run(space, stock, shops):
    for shop in shops:

        @shop.on("buy")
        async def buy(event, context):
            seen = context.views.stock.get("lamp")
            await asyncio.gather(stock.state.aset(take_one), context.node.abroadcast("bought", seen))

    @stock.on("bought", retries=1, backoff=0)
    def count(event, context):
        if context.attempt == 1:
            raise ConnectionError
        stock.state.set(happen.put(("seen", event.sender), event.payload))

    stock.state.watch(lambda commit: space.broadcast("changed", commit.after.get("lamp")))
    runs = []
    for seed in [1, 2, 3, 1, 2, 3]:
        space.clear(force=True)
        stock.state.set({"lamp": 1})
        ran = run(space, random.Random(seed).choice)
        runs.append((ran.log, ran.offered, stock.state.get(), [event.payload for event in space.events()]))
    assert runs[:3] == runs[3:]
    assert runs[0] != runs[1]


def test_a_handler_that_waits_for_a_reply_lets_others_run(space, stock, shops):
    phone, web = shops
    stock.on("how.many", lambda event: stock.state.get("lamp"))

    @phone.on("buy")
    def ask(event, context):
        phone.state.set({"sees": phone.send(stock, "how.many").result()})

    @web.on("buy")
    async def ask_too(event, context):
        await web.state.aset({"sees": await (await web.asend(stock, "how.many"))})

    assert run(space, first).log == [
        *["phone begin", "phone emit how.many", "web begin", "web emit how.many"],
        *["stock begin", "phone commit phone", "stock begin", "web commit web"],
    ]
    assert phone.state.get() == web.state.get() == {"sees": 1}


def test_handlers_that_wait_for_a_state_an_event_or_the_time_let_others_run(space, stock, shops):
    phone, web = shops

    @phone.on("buy")
    def wait_for_state(event):
        stock.state.wait_for(lambda state: state["lamp"] == 0)
        phone.state.set({"done": True})

    @web.on("buy")
    async def wait_for_event(event, context):
        await space.await_for("sold")
        await context.sleep(0.001)
        await web.state.aset({"done": True})

    @stock.on("buy")
    def sell(event):
        stock.state.set(take_one)
        stock.broadcast("sold")

    stock_last = lambda choices: min(choices, key=lambda choice: choice.node == "stock")  # noqa: E731
    with Conducted(space, stock_last) as conducted:
        space.broadcast("buy").settle()
        assert conducted.quiet()
    assert conducted.log == [
        *["phone begin", "web begin", "stock begin", "stock commit stock"],
        *["phone commit phone", "stock emit sold", "web commit web"],
    ]
    assert web.state.get() == phone.state.get() == {"done": True}


def test_a_handler_that_waits_for_a_lock_lets_others_run_after_a_while(space, stock, shops):
    phone, web = shops
    lock = threading.Lock()

    def take(event, context):
        with lock:
            stock.state.set(take_one)

    phone.on("buy", take)
    web.on("buy", take)
    begins_first = lambda choices: min(choices, key=lambda choice: choice.what)  # noqa: E731 - a chooser
    assert run(space, begins_first).log == [
        "phone begin",
        "web begin",
        "phone commit stock",
        "web commit stock",
    ]
    assert stock.state.get("lamp") == -1


def test_each_handler_of_an_event_begins_in_its_turn(space, stock, shops):
    phone, web = shops
    phone.on("buy", lambda event: stock.state.set(happen.put("first", 1)) and None)
    phone.on("buy", lambda event: stock.state.set(happen.put("second", 2)) and None)
    web.on("buy", lambda event: stock.state.set(happen.put("web", 3)) and None)
    ran = run(space, last)
    assert ran.log[:2] == ["web begin", "web commit stock"]
    assert ran.log.count("phone begin") == 2
    assert list(stock.state.get()) == ["lamp", "web", "first", "second"]


def test_state_handlers_are_applied_in_their_turn_with_the_states_as_of_the_event(space, stock, shops):
    phone, web = shops
    for shop in shops:
        shop.state.on("buy", lambda state, event, views: {"sees": views.stock.get("lamp")})
    stock.on("buy", lambda event: stock.state.set(take_one) and None)
    ran = run(space, lambda choices: max(choices, key=lambda choice: choice.node == "stock"))
    assert ran.log == [
        *["stock begin", "stock commit stock"],
        *["phone begin", "phone commit phone", "web begin", "web commit web"],
    ]
    assert phone.state.get() == web.state.get() == {"sees": 1}
    assert ran.offered[0] == ["phone begin", "stock begin", "web begin"]


def test_a_watch_begins_in_its_turn_and_stores_in_it(space, stock, shops):
    phone, _ = shops
    stock.state.watch(lambda commit: phone.state.set({"seen": commit.revision}))
    phone.on("buy", lambda event: stock.state.set(take_one) and None)
    ran = run(space, first)
    assert ran.log == ["phone begin", "phone commit stock", "stock begin", "stock commit phone"]
    assert phone.state.get() == {"seen": 2}


def test_durable_handlers_and_steps_are_conducted(space, stock, shops):
    phone, web = shops

    @phone.on("buy", durable=True)
    def buy(event, context):
        context.once("card", dict, paid=True)
        stock.state.set(take_one)
        return lambda event: phone.broadcast("paid") and None

    @web.on("paid")
    def deliver(event):
        yield 1
        web.state.set({"delivered": True})

    ran = run(space, first)
    assert ran.log == [
        *["phone begin", "phone commit stock", "phone emit paid", "web begin", "web commit web"]
    ]


def test_a_commit_that_was_overtaken_is_computed_again_in_its_turn(space, stock, shops):
    calls = []

    def take(state):
        calls.append(state["lamp"])
        return {"lamp": state["lamp"] - 1}

    for shop in shops:
        shop.on("buy", lambda event: stock.state.set(take) and None)
    begins_first = lambda choices: min(choices, key=lambda choice: choice.what)  # noqa: E731 - a chooser
    ran = run(space, begins_first)
    assert ran.log == ["phone begin", "web begin", "phone commit stock", "web commit stock"]
    assert calls == [1, 1, 0]


def test_nothing_goes_until_it_may(space, stock, look_and_take):
    may = threading.Event()
    with Conducted(space, lambda choices: choices[0] if may.is_set() else None) as conducted:
        space.broadcast("buy")
        assert conducted.quiet()
        assert conducted.log == []
        may.set()
        conducted.look_again()
        space.settle()
    assert len(conducted.log) == 3


def test_code_outside_runs_alone_until_it_waits(space, stock, look_and_take):
    with Conducted(space, last) as conducted:
        with conducted.outside():
            space.broadcast("buy")
            space.broadcast("late")
            assert conducted.log == []
            space.settle()
            assert len(conducted.log) == 3
        assert conducted.quiet()


def test_an_error_of_the_chooser_is_raised(space, stock, look_and_take):
    def choose(choices):
        raise ZeroDivisionError("the chooser")

    with Conducted(space, choose) as conducted:
        space.broadcast("buy")
        with pytest.raises(ZeroDivisionError, match="the chooser"):
            conducted.quiet()
    space.settle()


def test_the_end_of_a_conductor_lets_everything_go(space, stock, look_and_take):
    begins = lambda choices: next((each for each in choices if each.what == "begin"), None)  # noqa: E731
    with Conducted(space, begins) as conducted:
        space.broadcast("buy")
        assert conducted.quiet()
        space.broadcast("buy")
    space.settle()
    assert stock.state.get("lamp") == -1


def test_a_space_can_be_cleared_or_closed_while_handlers_wait(store, space):
    with happen.connect(store=store, name=f"{space.name[:40]}_other") as other:
        stock, shop = other.create_node("stock", initial={"lamp": 1}), other.create_node("shop")
        shop.on("buy", lambda event: stock.state.set(take_one) and None)
        begins = lambda choices: next((each for each in choices if each.what == "begin"), None)  # noqa: E731
        with Conducted(other, begins) as conducted:
            other.broadcast("buy")
            assert conducted.quiet()
            other.clear(force=True)
            assert stock.state.get() == {}
            stock.state.set({"lamp": 5})
            other.broadcast("buy")
            assert conducted.quiet()
            assert stock.state.get() == {"lamp": 5}
            other.close()
