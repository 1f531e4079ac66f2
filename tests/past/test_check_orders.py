"""`check(trying=)` tries every order in which handlers can begin and store."""

from __future__ import annotations

import functools
import gc
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import happen_nb as happen
from happen_nb._api.registry import registry
from happen_nb._api.trials import Trials
from happen_nb._model.orders import FewChanges
from happen_nb.learn import check, wait_until
from tests.past import mixed

CLAIM = "never fewer than zero lamps"
take_one = happen.put("lamp", lambda lamp: lamp - 1)


def never_negative(state):
    return state["lamp"] >= 0


def rush(space):
    space.broadcast("buy")


@pytest.fixture
def shops(space):
    return [space.create_node(name) for name in ("web", "phone")]


@pytest.fixture
def look_and_take(stock, shops):
    for shop in shops:

        @shop.on("buy")
        def buy(event):
            if stock.state.get("lamp") > 0:
                stock.state.set(take_one)


def orders_of(space):
    """Return the names of the open spaces that checks have made of a space."""
    return [each.name for each in registry.spaces.values() if "-orders-" in each.name]


def test_async_handlers_with_blocking_calls_do_not_wait_for_each_other(space, stock, shops, caplog):
    for shop in shops:

        @shop.on("buy")
        async def buy(event):
            if stock.state.get("lamp") > 0:
                stock.state.set(take_one)

    began = time.monotonic()
    verdict = check(CLAIM, stock, never_negative, trying=rush)
    assert (verdict.orders, len(verdict.broken), verdict.all) == (6, 4, True)
    assert time.monotonic() - began < 5  # without a patience of half a second for each step
    assert "blocks the loop" not in caplog.text


async def sleep_first(stock, context):
    await context.sleep(10)
    stock.state.set(take_one)


async def await_first(stock, context):
    await stock.state.aset(take_one)
    stock.state.set(take_one)


@pytest.mark.parametrize(("take", "orders"), [(sleep_first, 2), (await_first, 12)])
def test_async_handlers_that_go_on_in_the_loop_that_another_one_blocks_go_on_after_it(
    space, stock, shops, take, orders
):
    for shop in shops:

        @shop.on("buy")
        async def buy(event, context):
            await take(stock, context)

    began = time.monotonic()
    verdict = check(CLAIM, stock, never_negative, trying=rush)
    assert (verdict.orders, len(verdict.broken), verdict.all, verdict.note) == (orders, orders, True, "")
    assert time.monotonic() - began < 0.5 * orders + 2  # without a patience of a second in each order


def test_two_shops_that_look_and_then_take_are_broken_in_4_of_6_orders(space, stock, look_and_take):
    verdict = check(CLAIM, stock, never_negative, trying=rush)
    assert not verdict
    assert (verdict.orders, len(verdict.broken), verdict.all, verdict.seed) == (6, 4, True, 0)
    assert {commit.after["lamp"] for commit in verdict.broken} == {-1}
    assert repr(verdict).splitlines() == [
        "✗ never fewer than zero lamps · broken in 4 of all 6 orders",
        "  phone begins · web begins · phone commits · web commits",
        "  by stock · revision 3   ~ lamp  0 → -1",
    ]
    html = verdict._repr_mimebundle_()["text/html"]
    assert "broken" in html
    assert "4 of all 6 orders" in html
    assert re.findall("<title>(.*?)</title>", html) == [
        "1. phone begins",
        "2. web begins",
        "3. phone commits",
        "4. web commits",
    ]
    heights = [float(each) for each in re.findall(r'<circle [^>]* cy="([\d.]+)"', html)]
    assert len(set(heights)) == 2, "the two shops have a lane each"
    assert stock.state.get() == {"lamp": 1}
    assert len(space.events()) == 0


def test_a_transform_that_checks_holds_in_all_6_orders(stock, shops):
    def take(state):
        return {"lamp": state["lamp"] - 1} if state["lamp"] else state

    for shop in shops:
        shop.on("buy", lambda event: stock.state.set(take) and None)
    verdict = check(CLAIM, stock, never_negative, trying=rush)
    assert verdict
    assert (verdict.orders, verdict.broken, verdict.all, verdict.space) == (6, (), True, None)
    assert repr(verdict) == "✓ never fewer than zero lamps · holds in all 6 orders"


def test_write_skew_is_found(space, shops):
    web, phone = shops
    for mine, other in ((web, "phone"), (phone, "web")):
        mine.state.set({"on_call": True})

        @mine.on("leave")
        def leave(event, context, mine=mine, other=other):
            mine.state.set(lambda state, views: {"on_call": not views[other].get("on_call")})

    def somebody(state):
        return state["on_call"] or phone.state.get("on_call")

    verdict = check("somebody is on call", web, somebody, trying=lambda space: space.broadcast("leave"))
    assert not verdict
    assert (verdict.orders, len(verdict.broken)) == (6, 4)


def test_the_shortest_run_that_breaks_the_rule_is_a_space(space, stock, look_and_take):
    verdict = check(CLAIM, stock, never_negative, trying=rush)
    found = verdict.space
    assert found.views.stock.get() == {"lamp": -1}
    assert [event.type for event in found.events()] == ["buy"]
    assert [commit.by for commit in found.nodes["stock"].state.history()][1:] == ["phone", "web"]
    assert "2 commits" in repr(found.trace(found.events()[0]))
    assert "stock revision 3" in repr(verdict.trace)
    assert verdict.broken[0].sequence == found.nodes["stock"].state.history()[-1].sequence


def test_the_space_is_deleted_with_the_verdict(space, stock, look_and_take):
    verdict = check(CLAIM, stock, never_negative, trying=rush)
    assert len(orders_of(space)) == 1
    del verdict
    gc.collect()
    wait_until(lambda: not orders_of(space))


def test_the_space_is_deleted_when_the_original_is_closed(caplog, store, space):
    with happen.connect(store=store, name=f"{space.name[:40]}_other") as other:
        stock = other.create_node("stock", initial={"lamp": 1})
        stock.on("buy", lambda event: stock.state.set({"lamp": -1}) and None)
        verdict = check(CLAIM, stock, never_negative, trying=rush)
        assert verdict.space.views.stock.get() == {"lamp": -1}
    assert orders_of(space) == []
    with pytest.raises(happen.ClosedError):
        verdict.space.views.stock.get()
    assert repr(verdict).startswith("✗")
    del verdict
    gc.collect()
    shop = space.create_node("shop")
    shop.on("next", lambda event: None)
    space.broadcast("next").settle()
    assert caplog.records == []


def test_the_space_is_deleted_at_the_end_of_python(tmp_path, store, space):
    script = f"""
import happen_nb as happen
from happen_nb.learn import check
space = happen.connect(store={str(store)!r}, name="ends_{space.name[:30]}")
stock = space.create_node("stock", initial={{"lamp": 1}})
stock.on("buy", lambda event: stock.state.set({{"lamp": -1}}) and None)
verdict = check("never", stock, lambda state: state["lamp"] >= 0, trying=lambda there: there.broadcast("buy"))
print(verdict.space.name)
"""
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert made.stdout.startswith("ends_")
    assert made.stderr == ""
    streams = [path.name for path in store.rglob("KV_happen_ends_*")]
    assert streams == [f"KV_happen_ends_{space.name[:30]}"]


def test_several_verdicts_have_a_space_each(space, stock, look_and_take):
    verdicts = [check(CLAIM, stock, never_negative, trying=rush) for _ in range(2)]
    assert len({verdict.space.name for verdict in verdicts}) == 2


def test_with_too_many_orders_random_ones_are_tried_and_the_same_seed_tries_the_same(space, stock, shops):
    for name in ("desk", "mail", "post"):
        shops.append(space.create_node(name))
    for shop in shops:

        @shop.on("buy")
        def buy(event):
            for _ in range(2):
                if stock.state.get("lamp") > 0:
                    stock.state.set(take_one)

    stock.state.set({"lamp": 8})
    found = [check(CLAIM, stock, never_negative, trying=rush, orders=12, seed=seed) for seed in (7, 7, 8)]
    assert not any(verdict.all for verdict in found)
    assert [verdict.orders for verdict in found] == [24, 24, 24]
    assert [step.node for step in found[0].steps] == [step.node for step in found[1].steps]
    assert len(found[0].broken) == len(found[1].broken) > 0
    assert "of the 24 orders tried" in repr(found[0])


def runs_of(space, seeds):
    """Try one random order for each seed, and return all that happened in each."""
    trials = Trials(space, mixed.register(space).name, mixed.rush)
    try:
        for seed in seeds:
            search = FewChanges(seed, steps=40)
            search.begin()
            trial = trials.run(search)
            there = trials.space
            assert not there.failures
            events = [(event.type, event.payload, event.sender) for event in there.events()]
            yield trial.key, events, {name: there.views[name].get() for name in there.views}
    finally:
        trials.drop()


def test_the_same_seed_gives_the_same_run_of_handlers_of_all_kinds(space):
    first, second, again, *_ = runs = list(runs_of(space, [1, 2, 1, 2]))
    assert (first, second) == (again, runs[3])
    assert first != second


@pytest.mark.soak
def test_each_of_many_seeds_gives_the_same_run_twice(space):
    runs = list(runs_of(space, [seed for seed in range(200) for _ in range(2)]))
    assert runs[::2] == runs[1::2]
    assert len({run[0] for run in runs}) > 190


def test_what_is_tried_may_wait_send_and_store_in_between(space, stock, shops):
    web, _ = shops
    stock.on("how.many", lambda event: stock.state.get("lamp"))
    web.on("buy", lambda event: stock.state.set(take_one) and None)
    seen = []

    def work(space):
        seen.append(space.send("stock", "how.many").result())
        space.broadcast("buy").settle()
        seen.append(stock.state.get("lamp"))
        stock.state.set({"lamp": 5})
        seen.append(space.wait_for("buy", since=0).type)

    verdict = check(CLAIM, stock, never_negative, trying=work)
    assert verdict
    assert seen[:3] == [1, 0, "buy"]
    assert verdict.checked == 2 * verdict.orders
    assert stock.state.get() == {"lamp": 1}


def test_what_is_tried_may_look_again_and_again(space, stock, shops):
    shops[0].on("buy", lambda event: stock.state.set(take_one) and None)

    def work(space):
        space.broadcast("buy")
        wait_until(lambda: stock.state.get("lamp") == 0)

    assert check(CLAIM, stock, never_negative, trying=work, orders=1)


def test_what_is_tried_may_retry_failures(space, stock, shops):
    fails = [True]

    @shops[0].on("buy")
    def buy(event):
        if fails[0]:
            raise ConnectionError
        stock.state.set(take_one)

    def work(space):
        fails[0] = True
        space.broadcast("buy").settle()
        fails[0] = False
        assert space.failures.retry().succeeded == 1

    verdict = check("sold", stock, lambda state: state["lamp"] == 0, trying=work)
    assert (verdict.ok, verdict.orders, verdict.checked) == (True, 1, 1)


def test_state_handlers_begin_and_commit_in_one_step(space, stock, shops):
    for shop in shops:
        shop.state.on("buy", lambda state, event: {"bought": state.get("bought", 0) + 1})
    verdict = check("one", shops[0], lambda state: state["bought"] == 1, trying=rush)
    assert verdict
    assert (verdict.orders, verdict.all) == (2, True)


def test_retries_and_sleeps_end_although_the_clock_stands_still(space, stock, shops):
    web, phone = shops

    @web.on("buy", retries=2, backoff=3600)
    def buy(event, context):
        if context.attempt < 3:
            raise ConnectionError
        stock.state.set(take_one)

    @phone.on("buy")
    async def wait(event, context):
        await context.sleep(3600)
        await stock.state.aset(happen.put("slept", context.space.now.hour))

    verdict = check(CLAIM, stock, never_negative, trying=rush)
    assert verdict
    assert verdict.checked >= 2 * verdict.orders > 0


@pytest.mark.parametrize("way", ["replies", "events", "states"])
def test_the_code_may_wait_for_a_handler_that_sleeps(space, stock, shops, way):
    web, phone = shops

    @phone.on("serve")
    async def serve(event, context):
        await context.sleep(3600)
        return context.space.now.hour

    @web.on("ask")
    def ask(event):
        stock.state.set(happen.put("hour", web.send(phone, "serve").result()))
        web.broadcast("done")

    def work(space):
        reply = space.send(web, "ask", timeout=5)
        if way == "replies":
            reply.result()
        elif way == "events":
            space.wait_for("done", timeout=5)
        else:
            stock.state.wait_for(lambda state: state.get("hour") == 1, timeout=5)

    verdict = check("an hour", stock, lambda state: state["hour"] == 1, trying=work)
    assert verdict
    assert (verdict.checked, verdict.all) == (verdict.orders, True)


def test_scheduled_events_come_when_the_clock_is_moved(space, stock, shops):
    web, _ = shops
    web.on("late", lambda event: stock.state.set(take_one) and None)

    def work(space):
        web.broadcast("late", after=3600)
        space.advance(hours=2)

    verdict = check("positive", stock, lambda state: state["lamp"] > 0, trying=work)
    assert (verdict.orders, len(verdict.broken)) == (1, 1)


def test_a_rule_that_raises_is_broken_and_earlier_states_are_given(space, stock, look_and_take):
    verdict = check(CLAIM, stock, lambda state: state["pens"], trying=rush)
    assert "the rule raised KeyError: 'pens'" in repr(verdict)
    falling = check(
        "each is lower", stock, lambda state, earlier: state not in earlier, trying=rush, orders=6
    )
    assert falling


def test_an_error_of_what_is_tried_is_raised_with_the_order(space, stock, look_and_take):
    def work(space):
        space.broadcast("buy").settle()
        raise ZeroDivisionError("in the cell")

    with pytest.raises(ZeroDivisionError, match="in the cell") as raised:
        check(CLAIM, stock, never_negative, trying=work)
    assert raised.value.__notes__ == ["check: the order was: phone begins · phone commits · web begins"]
    assert orders_of(space) == []


def test_what_does_not_settle_is_an_error(monkeypatch, space, stock, shops):
    monkeypatch.setattr("happen_nb._api.trials.SETTLE_SECONDS", 1)
    gate = threading.Event()
    shops[0].on("buy", lambda event: gate.wait(5) and None)
    with pytest.raises(happen.HappenTimeoutError, match='node "web" handling "buy"'):
        check(CLAIM, stock, never_negative, trying=rush)
    gate.set()
    assert orders_of(space) == []


def test_wrong_arguments_are_refused(space, stock):
    with pytest.raises(TypeError, match="pass a node: trying= checks its commits"):
        check(CLAIM, space.events(), never_negative, trying=rush)
    with pytest.raises(ValueError, match="orders"):
        check(CLAIM, stock, never_negative, trying=rush, orders=0)
    with pytest.raises(TypeError, match="seed"):
        check(CLAIM, stock, never_negative, trying=rush, seed="x")
    with pytest.raises(TypeError, match="check: trying is 'rush'; pass a function of a space"):
        check(CLAIM, stock, never_negative, trying="rush")

    with pytest.raises(TypeError, match="check: rule is 'positive'; pass a function"):
        check(CLAIM, stock, "positive", trying=lambda there: None)

    with pytest.raises(TypeError, match=r"check: trying .* is called with a space"):
        check(CLAIM, stock, never_negative, trying=lambda: None)
    with pytest.raises(TypeError, match="check: says is 5"):
        check(5, stock, never_negative, trying=rush)
    assert orders_of(space) == []


async def coroutine_work(space):
    await space.abroadcast("buy")


def generator_work(space):
    yield space.broadcast("buy")


async def async_generator_work(space):
    yield await space.abroadcast("buy")


@pytest.mark.parametrize("work", [coroutine_work, generator_work, async_generator_work])
def test_what_is_tried_and_runs_nothing_is_refused(space, stock, work, recwarn):
    for trying in (work, functools.partial(work), lambda _: work(space)):
        with pytest.raises(TypeError, match=r"trying is .*, which returns an? .*; pass a plain"):
            check(CLAIM, stock, never_negative, trying=trying)
    assert (orders_of(space), list(recwarn)) == ([], [])


async def coroutine_rule(state):
    return True


@pytest.mark.parametrize("rule", [coroutine_rule, lambda state: (part > 0 for part in state.values())])
def test_a_rule_that_is_always_true_is_refused(space, stock, rule, recwarn):
    for options in ({}, {"trying": lambda there: stock.state.set({"lamp": 5})}):
        with pytest.raises(TypeError, match=r"rule returned a .*, which is always true"):
            check(CLAIM, stock, rule, **options)
    assert (orders_of(space), list(recwarn)) == ([], [])


def test_a_rule_whose_answer_has_no_truth_is_broken(stock):
    verdict = check(CLAIM, stock, lambda state: np.array([1, 2]) > 0)
    assert not verdict
    assert "truth value" in repr(verdict)


def test_what_is_tried_may_return_a_reply(space, stock):
    stock.on("ask", lambda event: stock.state.set({"lamp": event.payload}))
    assert check(CLAIM, stock, never_negative, trying=lambda there: there.send("stock", "ask", 3)).all


class NoNotesError(Exception):
    def add_note(self, note):
        raise RuntimeError(note)


def test_an_error_that_takes_no_notes_is_raised_as_it_is(space, stock):
    def fail(_):
        raise NoNotesError

    with pytest.raises(NoNotesError):
        check(CLAIM, stock, never_negative, trying=fail)
    with pytest.raises(NoNotesError):
        stock.state.set(fail)


def test_a_space_that_is_closed_in_between_is_an_error(space, stock, look_and_take):
    for end in (lambda there: there.close(), lambda there: there.drop()):
        with pytest.raises(happen.HappenError, match="trying has closed or dropped the space"):
            check(CLAIM, stock, never_negative, trying=end)
    assert orders_of(space) == []


def test_failures_are_counted_and_not_shown_for_each_order(capsys, space, stock, shops):
    for shop in shops:

        @shop.on("buy")
        def buy(event, context):
            if stock.state.set(take_one).after["lamp"] < 0:
                raise LookupError(f"{context.node.name} is too late")

    verdict = check("fewer than two lamps", stock, lambda state: state["lamp"] < 2, trying=rush)
    assert verdict
    assert verdict.failing == verdict.orders == 6
    assert (verdict.failure.node, str(verdict.failure.exception)) == ("web", "web is too late")
    assert "handlers failed in 6 orders, first web buy: LookupError: web is too late" in repr(verdict)
    assert len(space.failures) == 0
    assert capsys.readouterr().err == ""


def test_a_node_that_is_deleted_in_one_order_has_its_handlers_in_the_next(space, stock, shops):
    shops[0].on("buy", lambda event: shops[1].delete())

    @shops[1].on("buy")
    def buy(event):
        stock.state.set(take_one)

    verdict = check("sold", stock, lambda state: state["lamp"] == 1, trying=rush)
    assert (verdict.orders, len(verdict.broken), verdict.all, verdict.note) == (6, 5, True, "")


def test_what_is_tried_may_register_handlers_and_each_order_starts_without_them(space, stock, shops):
    web, phone = shops

    @phone.on("buy")
    def take(event):
        if stock.state.get("lamp") > 0:
            stock.state.set(take_one)

    def open_web(there):
        web.on("buy", take)
        rush(there)

    def close_phone(there):
        phone.off(take)
        rush(there)

    verdict = check(CLAIM, stock, never_negative, trying=open_web)
    assert (verdict.orders, len(verdict.broken), verdict.all) == (6, 4, True)
    assert check(CLAIM, stock, never_negative, trying=close_phone).orders == 1
    assert [len(each.handlers) for each in (web, phone)] == [0, 1]


def test_where_no_order_commits_the_verdict_says_so(space, stock, look_and_take):
    verdict = check(CLAIM, stock, never_negative, trying=lambda there: there.broadcast("bought"))
    assert verdict
    assert 'nothing was checked: no order committed to node "stock"' in repr(verdict)


def test_the_stop_button_leaves_no_fork_behind(space, stock, look_and_take):
    count = iter(range(100))

    def work(space):
        space.broadcast("buy")
        if next(count) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            space.wait_for("never")

    with pytest.raises(KeyboardInterrupt):
        check(CLAIM, stock, never_negative, trying=work)
    assert orders_of(space) == []
    assert check("again", stock, lambda state: True, trying=rush)


def test_handlers_that_depend_on_more_than_the_space_are_reported(space, stock, shops):
    chance = random.Random(1)
    for shop in shops:

        @shop.on("buy")
        def buy(event):
            for _ in range(chance.choice([0, 1, 2])):
                stock.broadcast("looked")
            stock.state.set(take_one)

    verdict = check(CLAIM, stock, never_negative, trying=rush, orders=20)
    assert not verdict.all
    assert "handlers took different steps in different runs" in repr(verdict)


def test_what_is_printed_while_orders_are_tried_is_not_shown(capsys, space, stock, shops):
    for shop in shops:
        shop.on("buy", lambda event: sys.stdout.write("sold") and None)

    def work(space):
        sys.stdout.write("rush")
        space.broadcast("buy")

    check(CLAIM, stock, never_negative, trying=work)
    sys.stdout.write("after\n")
    assert capsys.readouterr().out == "after\n"


def test_a_long_order_shows_its_last_steps(space, stock, shops):
    @shops[0].on("buy")
    def buy(event):
        for _ in range(10):
            stock.state.set(take_one)
            shops[0].broadcast("sold", {"n": 1})

    verdict = check("more than -8", stock, lambda state: state["lamp"] > -8, trying=rush)
    order = " ".join(" ".join(repr(verdict).splitlines()[1:-1]).split())
    assert order.startswith("… 6 more · web ")
    assert order.endswith("web emits sold · web commits")
    assert "after 6 more" in verdict._repr_mimebundle_()["text/html"]


def test_state_view_and_history_are_checked_as_before(stock):
    stock.state.set({"lamp": -1})
    verdict = check(CLAIM, stock.state, never_negative)
    assert (verdict.orders, verdict.all, verdict.seed, verdict.space) == (None, True, None, None)
    assert repr(verdict).startswith("✗ never fewer than zero lamps · broken by 1 of 2 commits")
