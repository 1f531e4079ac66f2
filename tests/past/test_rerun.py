"""The past once more, with the handlers of now."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import happen_nb as happen
from happen_nb._journal.publish import store_messages
from happen_nb._journal.wire import Message
from happen_nb._runtime.io import io_thread
from happen_nb._runtime.second_run import SecondRun
from happen_nb.learn import wait_until


@pytest.fixture
def orders(space):
    """Orders that are placed, accepted by one node, and taken from the stock by another."""
    orders = space.create_node("orders", initial={"count": 0})
    stock = space.create_node("stock", initial={"lamp": 2})

    @orders.on("order.placed")
    def accept(event):
        orders.state.set(happen.put("count", lambda n: n + 1))
        orders.broadcast("order.accepted", event.payload)

    @stock.on("order.accepted")
    def take(event):
        commit = stock.state.set(happen.put("lamp", lambda n: n - event.payload["n"]))
        stock.broadcast("stock.booked", {"left": commit.after["lamp"]})

    return orders


def place(space, *ids):
    """Place orders one after the other; return the events."""
    events = []
    for id in ids:
        events.append(space.broadcast("order.placed", {"id": id, "n": 1}))
        space.settle()
    return events


def outcome(space):
    """Return the types and payloads of all events, and the states."""
    events = [(event.type, event.sender, event.payload) for event in space.events()]
    return events, {name: view.get() for name, view in space.views.items()}


def test_unchanged_handlers_store_the_same(space, orders):
    place(space, "o1", "o2", "o3")
    before = outcome(space)
    again = space.rerun()
    assert again.same
    assert again.first is None
    assert len(again.differences) == len(again.changed) == 0
    assert outcome(again.space) == before == outcome(space)
    assert [event.id for event in again.space.events()] == [event.id for event in space.events()]
    assert repr(again).endswith(" · 9 events · the same events and commits in the same order")


def test_an_edited_handler_shows_what_differs(space, orders):
    place(space, "o1", "o2", "o3", "o4")
    stock = space.nodes["stock"]
    stock.off("order.accepted")

    @stock.on("order.accepted")
    def take(event):
        def taken(state):
            if state["lamp"] < event.payload["n"]:
                stock.broadcast("stock.short", event.payload)
                return state
            return {**state, "lamp": state["lamp"] - event.payload["n"]}

        commit = stock.state.set(taken)
        if commit.diff:
            stock.broadcast("stock.booked", {"left": commit.after["lamp"]})

    again = space.rerun()
    assert not again.same
    assert [(each.node, each.name.rpartition(".")[2]) for each in again.changed] == [("stock", "take")]
    assert again.states["stock"] == ({"lamp": -2}, {"lamp": 0})
    assert again.first.before.after == {"lamp": -1}
    assert again.first.now.after == {"lamp": 0}
    kinds = {each.kind for each in again.differences}
    assert kinds == {"changed", "gone", "new"}
    heading, *lines = repr(again).splitlines()
    assert heading.endswith(" · 12 events · 2 of 4 orders differ, first o3 · stock.lamp -2 → 0")
    assert ' title="An input is an event from outside; ' in again._repr_mimebundle_()["text/html"]
    assert "  changed since then: stock take" in lines
    assert space.nodes["stock"].state.get() == {"lamp": -2}


def test_two_handlers_with_one_name_have_not_changed(space):
    node = space.create_node("node")

    @node.on("note")
    def note(event):
        node.state.set(happen.put("one", event.payload))

    @node.on("note")
    def note(event):  # noqa: F811 - both stay: they are from one run
        node.state.set(happen.put("two", event.payload))

    def changed():
        event = space.broadcast("note", 1)
        event.settle()
        return space.rerun(since=event).changed

    wait_until(lambda: not changed(), timeout=5)


def test_handlers_that_are_no_longer_registered_are_named_with_what_to_do(space, orders):
    place(space, "o1")
    handler = space.nodes["stock"].on("order.placed", print)
    assert space.rerun().missing == ()

    place(space, "o2")
    space.nodes["stock"].off(handler)
    space.nodes["stock"].off("order.accepted")
    again = space.rerun()
    ended = [each.rpartition(".")[2] for each in again.missing]
    assert (again.same, ended) == (False, ["take", "stock print"])
    line = "missing, no longer registered: stock take, stock print; register them, then rerun"
    assert line in " ".join(repr(again).split())


def test_commits_that_change_the_same_paths_show_what_they_do_not_share(space, orders):
    place(space, "o1")
    notes = iter(["the first time", "the second time"])
    kept = {"note": ""}

    def take(event):
        orders.state.set({"count": 9, "seen": True, "note": kept["note"]})

    orders.off("order.placed")
    orders.on("order.placed", take)
    kept["note"] = next(notes)
    event = place(space, "o2")[0]
    kept["note"] = next(notes)
    [row] = [line for line in repr(space.rerun(event).differences).splitlines() if "the first" in line]
    assert re.search(r'note +"the first time", … 2 more +.* note +"the second time", … 2 more', row)


def test_since_and_until_are_part_of_it(space, orders):
    events = place(space, "o1", "o2", "o3", "o4")
    again = space.rerun(events[1], until=space.events("stock.booked")[2])
    assert again.same
    assert [event.payload["id"] for event in again.space.events("order.placed")] == ["o2", "o3"]
    assert again.states["stock"] == ({"lamp": -1}, {"lamp": -1})
    commit = space.nodes["stock"].state.history()[2]
    assert space.rerun(commit, until=commit).same
    after = space.rerun(events[3].sequence)
    assert len(after.space.events("order.placed")) == 0
    with pytest.raises(ValueError, match="until is before since"):
        space.rerun(events[2], until=events[0])
    with pytest.raises(ValueError, match="since is after everything that is stored"):
        space.rerun(since=1_000_000)


def test_what_events_before_the_start_still_caused_is_put_in_as_it_was(space):
    node, told = space.create_node("node", initial={"log": []}), space.create_node("told")
    may_go, edited = threading.Event(), []

    def add(text):
        node.state.set(happen.put("log", lambda log: [*log, text]))

    @node.on("first")
    def first(event):
        add("first begins")
        assert may_go.wait(20)
        add("first ends")
        node.broadcast("told", "by the first")

    @told.on("*")
    def tell(event):
        told.state.set(happen.put(event.type, edited or event.payload))

    space.broadcast("first")
    node.state.wait_for(lambda state: len(state["log"]) == 1)
    second = space.broadcast("second", "by a cell")
    told.state.wait_for(lambda state: "second" in state)
    may_go.set()
    space.settle()
    assert space.rerun(second).same
    edited.append("edited")
    again = space.rerun(second)
    assert [event.payload for event in again.space.events()] == ["by a cell", "by the first"]
    assert again.states["node"].now == {"log": ["first begins", "first ends"]}
    assert again.states["told"].now == {"first": None, "second": ["edited"], "told": ["edited"]}


def test_a_rerun_shows_its_progress_in_a_notebook(space, monkeypatch):
    node, shown, begun, texts = space.create_node("node"), threading.Event(), [], []

    class Publisher:
        def publish(self, picture, *, transient, update):
            texts.append(picture["text/plain"])
            shown.set()

    @node.on("work")
    def work(event):
        begun.append(event)
        assert len(begun) <= 10 or shown.wait(20)

    for _ in range(10):
        space.broadcast("work")
    space.settle()
    monkeypatch.setattr("happen_nb._display.live_output.SHOW_AFTER_SECONDS", 0)
    monkeypatch.setattr("happen_nb._display.live_output.publisher", Publisher)
    assert space.rerun().same
    assert re.fullmatch(rf"Rerun of {space.name} · .* of 10", texts[0])
    assert texts[-1].endswith("10 of 10")


def test_an_empty_first_state_is_put_in(space):
    space.create_node("idle", initial={})
    again = space.rerun()
    assert again.same
    assert again.space.nodes["idle"].state.revision == 1


def test_a_rerun_since_an_event_of_a_transform_starts_after_the_commit(space, orders, stock):
    stock.on("placed", lambda event: stock.state.set(happen.put("seen", orders.state.get("open"))))

    def place(state):
        orders.broadcast("placed")
        return {**state, "open": 1}

    orders.state.set(place)
    space.settle()
    again = space.rerun(space.events()[0])
    assert again.same, repr(again)
    assert again.space.views.orders.get("open") == 1


def test_a_rerun_until_an_event_has_what_the_event_caused(space, orders):
    events = place(space, "o1", "o2", "o3")
    again = space.rerun(until=events[1])
    assert again.same
    assert [event.payload["id"] for event in again.space.events("order.placed")] == ["o1", "o2"]
    assert again.space.events("stock.booked")[-1].payload == {"left": 0}
    assert again.states["stock"].now == again.states["stock"].before
    with pytest.raises(TypeError, match="until is"):
        space.rerun(until="yesterday")


def test_all_that_is_stored_is_what_came_after_a_clear(space, orders):
    place(space, "o1")
    space.clear()
    space.nodes["orders"].state.set({"count": 0})
    space.nodes["stock"].state.set({"lamp": 2})
    place(space, "o2")
    again = space.rerun()
    assert again.same, repr(again)
    assert again.space.views.stock.get() == {"lamp": 1}


@pytest.mark.parametrize("by", ["a cell", "a handler"])
def test_a_node_that_was_deleted_and_registered_again_is_rerun(space, by):
    count = happen.put("count", lambda n: (n or 0) + 1)

    def register():
        node = space.create_node("node")
        node.state.on("work", count, name="count")
        node.on("work", lambda event: node.state.set(happen.put("plain", event.payload)) and None)
        durable = happen.put("durable", lambda n: (n or 0) + 1)
        node.on("work", lambda event: node.state.set(durable) and None, durable=True)
        return node

    node, other = register(), space.create_node("other")
    other.on("end", lambda event: node.delete())
    space.broadcast("work", 1).settle()
    if by == "a cell":
        node.delete()
    else:
        space.broadcast("end").settle()
    register()
    space.broadcast("work", 2).settle()
    assert space.views.node.get() == {"count": 1, "plain": 2, "durable": 1}
    again = space.rerun()
    assert again.same, repr(again)
    assert len(again.space.views.node.get()) == 3


def test_instead_changes_and_leaves_out_what_is_put_in(space, orders):
    place(space, "o1", "o2", "o3")
    given = []

    def instead(event):
        given.append(event.payload["id"])
        if event.payload["id"] == "o1":
            return None
        return {**event.payload, "n": 2} if event.payload["id"] == "o2" else event

    again = space.rerun(instead=instead)
    assert given == ["o1", "o2", "o3"]
    placed = again.space.events("order.placed")
    assert [(event.payload["id"], event.payload["n"]) for event in placed] == [("o2", 2), ("o3", 1)]
    assert again.states["orders"] == ({"count": 3}, {"count": 2})
    with pytest.raises(ZeroDivisionError):
        space.rerun(instead=lambda event: 1 / 0)
    with pytest.raises(TypeError, match="instead returned another event"):
        space.rerun(instead=lambda event: happen.event("order.placed"))
    with pytest.raises(TypeError, match="instead is 3"):
        space.rerun(instead=3)


async def coroutine(event):
    return event


def generator(event):
    yield event


async def async_generator(event):
    yield event


@pytest.mark.parametrize("instead", [coroutine, generator, async_generator, lambda event: generator(0)])
def test_instead_that_runs_nothing_is_refused(space, orders, instead, recwarn):
    place(space, "o1")
    with pytest.raises(TypeError, match=r"instead returned an? (async |)(coroutine|generator); pass a plain"):
        space.rerun(instead=instead)
    assert not list(recwarn)


def test_commits_of_cells_are_made_again_as_differences(space, orders):
    place(space, "o1")
    space.nodes["stock"].state.set(happen.put("desk", 1))
    place(space, "o2")
    again = space.rerun(instead=lambda event: {**event.payload, "n": 5})
    assert again.states["stock"] == ({"lamp": 0, "desk": 1}, {"lamp": -8, "desk": 1})


@pytest.mark.parametrize(
    "emits",
    [
        lambda node: node.broadcast("order", "short"),
        lambda node: node.broadcast("order", "with an id", id="o1"),
        lambda node: node.broadcast("order", "later", after=3600),
        lambda node: node.cancel("scheduled"),
    ],
)
def test_commits_of_cells_that_change_nothing_and_emit_are_made_again(space, orders, emits):
    orders.broadcast("order", after=3600, id="scheduled")
    orders.state.set(lambda state: (emits(orders), state)[1])
    space.settle()
    again = space.rerun()
    assert again.same, repr(again)
    assert again.space.views.orders.revision == orders.state.revision


def test_a_handler_that_pauses_its_space_pauses_no_rerun(space, orders):
    @orders.on("order")
    def check(event):
        space.pause()
        space.resume(slow=0.001)
        space.pause("shipped")
        orders.broadcast("shipped", event.payload)

    orders.on("shipped", lambda event: orders.state.set(happen.put("shipped", event.payload)))
    space.broadcast("order", 1)
    space.settle()
    space.resume()
    space.settle()
    again = space.rerun()
    assert again.same, repr(again)
    assert again.space.paused is None


def test_a_race_of_four_shops_comes_out_the_same(space):
    race = Race(space)
    for _ in range(3):
        again = race.run()
        assert again.same, repr(again)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_fifty_races_of_four_shops_come_out_the_same(space):
    race, differing = Race(space), []
    for _ in range(50):
        again = race.run()
        if not again.same:
            differing.append(repr(again))
    assert differing == []


class Race:
    """Four shops that look for a lamp and then sell it, each with a handler of another kind."""

    def __init__(self, space):  # noqa: C901 - all its handlers
        self.space = space
        self.stock = stock = space.create_node("stock")
        self.notes = notes = space.create_node("notes")
        self.shops = shops = [space.create_node(f"shop{number}") for number in range(4)]

        def sell(shop):
            return lambda state: {"lamp": state["lamp"] - 1, "log": [*state["log"], shop]}

        def sold(state):
            return {"sold": state["sold"] + 1}

        @shops[0].on("buy")
        async def buy_async(event, context):
            if context.views.stock.get("lamp") > 0:
                await stock.state.aset(sell(0))
                await shops[0].state.aset(sold)
                await shops[0].abroadcast("sold", 0)

        @shops[1].on("buy")
        def buy_plain(event):
            if stock.state.get("lamp") > 0:
                stock.state.set(sell(1))
                shops[1].state.set(sold)
                shops[1].broadcast("sold", 1)

        @shops[2].on("buy")
        def buy_generator(event, context):
            if context.views.stock.get("lamp") > 0:
                yield "there is one"
                stock.state.set(sell(2))
                shops[2].state.set(sold)
                yield "sold"
                shops[2].broadcast("sold", 2)

        @shops[3].on("buy")
        async def buy_async_generator(event, context):
            if context.views.stock.get("lamp") > 0:
                await stock.state.aset(sell(3))
                yield "sold"
                await shops[3].state.aset(sold)
                await shops[3].abroadcast("sold", 3)

        @stock.on("restock")
        def restock(event):
            stock.state.set(happen.put("lamp", lambda n: n + event.payload))

        @notes.state.on("sold")
        def note(state, event, views):
            left = views.stock.get("lamp")
            return {"sold": [*state["sold"], [event.payload, left]]}

    def run(self):
        """Run it with 25 events from outside, and once more."""
        space = self.space
        self.stock.state.set({"lamp": 3, "log": []})
        self.notes.state.set({"sold": []})
        for shop in self.shops:
            shop.state.set({"sold": 0})
        first = space.broadcast("buy")
        for number in range(24):
            space.broadcast("buy") if number % 3 else space.broadcast("restock", 3)
            if random.random() < 0.3:
                time.sleep(0.004)
        space.settle(30)
        again = space.rerun(first)
        assert all(states.before == states.now for states in again.states.values()) or not again.same
        return again


def test_a_call_is_made_anew_only_with_other_arguments(space):
    agent, calls = space.create_node("agent"), []

    def model(prompt):
        calls.append(prompt)
        return f"answer {len(calls)} to {prompt}"

    prompt = ["summarize"]

    @agent.on("ask")
    def answer(event, context):
        style = context.once("style", model, "style")
        agent.broadcast("answer", context.once("model", model, f"{prompt[0]} {event.payload} {style}"))

    space.broadcast("ask", "a").settle()
    assert len(calls) == 2
    assert space.rerun().same
    assert len(calls) == 2
    prompt[0] = "translate"
    again = space.rerun()
    assert calls[2:] == ["translate a answer 1 to style"]
    assert again.first.now.payload == "answer 3 to translate a answer 1 to style"


def test_the_context_gives_the_same_time_and_random_numbers(space):
    node = space.create_node("node")

    @node.on("throw")
    def throw(event, context):
        node.broadcast("thrown", [context.random.random(), str(context.now), event.id])

    for _ in range(3):
        space.broadcast("throw")
    space.settle()
    assert space.rerun().same


def test_replies_and_several_handlers_of_a_node_are_rerun(space):
    orders, stock = space.create_node("orders"), space.create_node("stock", initial={"lamp": 3})

    @stock.on("take")
    async def take(event):
        return (await stock.state.aset(happen.put("lamp", lambda n: n - 1))).after["lamp"]

    @stock.on("take")
    def note(event):
        stock.broadcast("noted", event.payload)

    @orders.on("order.placed")
    def ask(event):
        orders.state.set({"left": orders.send(stock, "take", event.payload).result()})

    @orders.on("order.placed")
    async def ask_async(event):
        reply = await orders.asend(stock, "take", event.payload)
        await orders.abroadcast("left", await reply)

    for number in range(5):
        space.broadcast("order.placed", number)
    space.send(stock, "take", "cell").result()
    space.settle()
    again = space.rerun()
    assert again.same, repr(again)
    assert again.space.views.stock.get("lamp") == -8


def test_state_handlers_fold_the_same_events(space):
    node, may_go = space.create_node("node", initial={"n": 0}), threading.Event()

    @node.state.on("add", fold=True)
    def add(state, event):
        assert may_go.wait(20)
        return {"n": state["n"] + event.payload}

    for number in range(1, 40):
        space.broadcast("add", number)
        if number == 20:
            may_go.set()
    space.settle()
    folds = [len(commit.causes) for commit in node.state.history()[1:]]
    assert max(folds) > 1
    again = space.rerun()
    assert again.same, repr(again)
    assert [len(commit.causes) for commit in again.space.create_node("node").state.history()[1:]] == folds


def test_events_that_were_not_folded_are_not_folded_again(space):
    node = space.create_node("node", initial={"n": 0})
    node.state.on("add", count, fold=True)
    for number in range(10):
        space.broadcast("add", {"n": number}).settle()
    assert node.state.revision == 10
    again = space.rerun()
    assert again.same, repr(again)


def test_each_node_folds_the_events_that_it_folded(space):
    nodes = fast, slow = [space.create_node(name, initial={"n": 0}) for name in ("fast", "slow")]
    may_go = threading.Event()

    @slow.state.on("add", fold=True)
    def add_late(state, event):
        assert may_go.wait(20)
        return count(state, event)

    fast.state.on("add", count, fold=True)
    for number in range(1, 31):
        space.broadcast("add", {"n": number})
        if number < 10:  # one by one, while they wait at the other node
            fast.state.wait_for(lambda state, number=number: state["n"] == number * (number + 1) / 2)
    may_go.set()
    space.settle()
    folds = [[len(commit.causes) for commit in node.state.history()[1:]] for node in nodes]
    assert folds[0] != folds[1]
    again = space.rerun()
    assert again.same, repr(again)


def test_events_that_a_filter_leaves_out_do_not_end_a_fold(space):
    node = space.create_node("node", initial={"n": 0})
    node.state.on("add", count, fold=True, where=lambda event: event.payload["n"] % 2)
    space.replay([{"n": n} for n in range(100)], type="add").wait(30)
    space.settle()
    assert node.state.revision < 50
    again = space.rerun()
    assert again.same, repr(again)


def test_events_emitted_in_a_fold_are_the_same(space):
    node = space.create_node("node", initial={"n": 0})

    @node.state.on("add", fold=True)
    def emit(state, event):
        node.broadcast("added", event.payload)
        return count(state, event)

    space.replay([{"n": n} for n in range(100)], type="add").wait(30)
    space.settle()
    assert node.state.revision < 100
    again = space.rerun()
    assert again.same, repr(again)


def count(state, event):
    return {"n": state["n"] + event.payload["n"]}


@pytest.mark.parametrize("kind", ["plain", "durable", "state"])
def test_an_event_that_a_cell_cancelled_before_it_was_handled_is_not_handled_again(space, kind):
    node = space.create_node("node", initial={"n": 0})
    if kind == "state":
        node.state.on("add", count)
    else:
        node.on(
            "add", lambda event: node.state.set({"n": event.payload["n"]}) and None, durable=kind != "plain"
        )
    space.pause("add")
    reply = space.send(node, "add", {"n": 1})
    space.send(node, "add", {"n": 2})
    reply.cancel()
    space.resume()
    space.settle()
    assert node.state.get() == {"n": 2}
    again = space.rerun()
    assert again.same, repr(again)
    assert len(again.space.unhandled) == 0


def test_retries_and_failures_are_rerun(space):
    node, tries = space.create_node("node", initial={"done": []}), {}

    @node.on("work", retries=2, backoff=0.03)
    def work(event, context):
        tries[event.payload] = tries.get(event.payload, 0) + 1
        if context.attempt <= event.payload % 3:
            raise ConnectionError("once more")
        node.state.set(happen.put("done", lambda done: [*done, event.payload]))

    @node.on("work")
    def other(event):
        if event.payload == 3:
            raise ValueError("never")
        node.broadcast("seen", event.payload)

    for number in range(6):
        space.broadcast("work", number)
        time.sleep(0.01)
    space.settle()
    again = space.rerun()
    assert again.same, repr(again)
    assert again.failures == 1
    assert all(tries[number] == 2 * (number % 3 + 1) for number in range(6))


def test_failures_of_a_rerun_belong_to_it(space, orders, capsys):
    @orders.on("order.placed")
    def fail(event):
        raise ValueError("never")

    place(space, "o1")
    assert "ValueError: never" in capsys.readouterr().err
    again = space.rerun()
    assert capsys.readouterr().err == ""
    assert "1 failure in the rerun: rerun.space.failures" in repr(again)
    assert [str(failure.exception) for failure in again.space.failures] == ["never"]
    assert len(space.failures) == 1


def test_durable_handlers_and_watches_are_rerun(space):
    billing, seen = space.create_node("billing", initial={"paid": 0}), []

    @billing.on("order.paid", durable=True)
    def charge(event, context):
        receipt = context.once("card", lambda payload: f"receipt {len(seen)}", event.payload)
        billing.state.set(happen.put("paid", lambda n: n + 1))
        billing.broadcast("charged", [receipt, str(context.now)])

    def notice(commit):
        if commit.after["paid"] % 2 == 0:
            space.broadcast("even", commit.after["paid"])
        seen.append(commit.after["paid"])

    watch = billing.state.watch(notice)
    events = []
    for number in range(4):
        events.append(space.broadcast("order.paid", number))
        space.settle()
    billing.state.set({"paid": 10})
    space.settle()
    again = space.rerun(events[0])
    watch.stop()
    assert again.same, repr(again)
    assert seen == [1, 2, 3, 4, 10, 1, 2, 3, 4, 10]


def test_a_retry_that_emits_as_the_space_comes_when_it_came(space, stock):
    shop = space.create_node("shop", initial={"log": []})

    @shop.on("order", retries=1, backoff=0.05)
    def check(event, context):
        space.broadcast("checked", context.attempt)
        if context.attempt == 1:
            raise ValueError("again")

    stock.on("order", lambda event: stock.broadcast("counted"))
    shop.on("counted", lambda event: shop.state.set(happen.put("log", lambda log: [*log, "counted"])))
    shop.state.on("checked", lambda state, event: {"log": [*state["log"], event.payload]})
    for _ in range(3):
        space.broadcast("order")
        space.settle()
    again = space.rerun()
    assert again.same, repr(again)


def test_what_a_watch_stored_late_is_stored_late_again_beside_handlers_and_cells(space, stock):
    shop, calls = space.create_node("shop"), []

    def note(commit):
        if len(calls) < 2:  # in the first run
            calls.append(commit)
            shop.state.wait_for(lambda state: state.get("placed") == 2 * len(calls))
        shop.state.set(happen.put("lamp", commit.after["lamp"]))
        stock.broadcast("noted", commit.after["lamp"])

    start = space.broadcast("start")
    stock.state.watch(note)

    @shop.on("order")
    def place(event):
        shop.state.set(happen.put("placed", lambda n: (n or 0) + 1))
        stock.broadcast("noted", "placed")
        shop.state.set(happen.put("placed", lambda n: n + 1))

    for number in (5, 6):
        stock.state.set({"lamp": number})
        shop.state.set(happen.put("cell", number))
        stock.broadcast("noted", "by a cell")
        space.broadcast("order")
        space.settle()
    again = space.rerun(start)
    assert again.same, repr(again)


def test_an_async_handler_that_sleeps_and_its_tasks_are_rerun(space):
    node = space.create_node("node", initial={"n": 0})

    @node.on("tick")
    async def tick(event, context):
        await context.sleep(0.02)

        async def add():
            await node.state.aset(happen.put("n", lambda n: n + 1))

        await asyncio.create_task(add())
        await node.abroadcast("added", event.payload)

    for number in range(3):
        space.broadcast("tick", number)
    space.settle()
    again = space.rerun()
    assert again.same, repr(again)


def test_what_another_process_did_is_put_in_and_named(space):
    shop = space.create_node("shop", initial={"paid": [], "limits": []})

    @shop.on("bank.paid")
    def paid(event):
        shop.state.set(happen.put("paid", lambda paid: [*paid, event.payload]))

    @shop.on("ask")
    def ask(event):
        limit = shop.send("bank", "limit", event.payload).result()
        shop.state.set(happen.put("limits", lambda limits: [*limits, limit]))

    arguments = [space.server.url, space.server.token, space.name]
    script = Path(__file__).with_name("other_process.py")
    with subprocess.Popen(
        [sys.executable, script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        for number in (1, 2, 3):
            space.broadcast("order.placed", number).settle(30)
        space.broadcast("ask", 5).settle(30)
        again = space.rerun()
        assert again.same, repr(again)
        assert again.elsewhere == {"bank": 6}
        assert again.states["shop"].now == {"paid": [1, 2, 3], "limits": [500]}
        assert "  not rerun, of another process: 6 events and commits of bank" in repr(again).splitlines()
        process.stdin.close()
        assert process.wait(30) == 0


def test_a_timeout_names_what_was_not_done_and_leaves_nothing(space):
    node, hangs = space.create_node("node"), threading.Event()
    hangs.set()

    @node.on("work")
    def work(event):
        assert hangs.wait(20)

    space.broadcast("work")
    space.broadcast("work")
    space.settle()
    hangs.clear()
    with pytest.raises(happen.HappenTimeoutError, match=r'rerun: .*node "node" handling "work"'):
        space.rerun(timeout=3)
    hangs.set()
    assert not [each.name for each in happen.spaces() if each.name.startswith(f"{space.name[:48]}-rerun")]


def test_an_interrupt_at_the_start_stops_what_has_started(space, monkeypatch):
    space.create_node("node").on("work", lambda event: None)
    space.broadcast("work").settle()
    start, stop, stopped = SecondRun.start, SecondRun.stop, []

    async def interrupted(second, deadline):
        await start(second, deadline)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        await asyncio.sleep(20)

    async def noted(second):
        await stop(second)
        stopped.append(second)

    monkeypatch.setattr(SecondRun, "start", interrupted)
    monkeypatch.setattr(SecondRun, "stop", noted)
    with pytest.raises(KeyboardInterrupt):
        space.rerun()
    assert stopped
    monkeypatch.undo()
    assert space.rerun().same


def test_interrupting_leaves_nothing(space):
    node, hangs = space.create_node("node"), threading.Event()
    hangs.set()

    @node.on("work")
    def work(event):
        if not hangs.is_set():
            os.kill(os.getpid(), signal.SIGINT)
            assert hangs.wait(20)

    space.broadcast("work").settle()
    hangs.clear()
    with pytest.raises(KeyboardInterrupt):
        space.rerun()
    hangs.set()
    assert len(space.events()) == 1
    # The same name is free again, and empty.
    assert space.rerun().same


def test_a_rerun_is_dropped_with_its_object_or_kept(space, orders):
    place(space, "o1")
    again = space.rerun()
    stage = again.space
    with pytest.raises(ValueError, match="pass a name"):
        again.keep()
    del again
    gc.collect()  # the error holds it
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            stage.events()
        except happen.HappenError:
            break
    else:
        pytest.fail("the space of the rerun still exists")
    name = f"{space.name[:40]}_kept"
    kept = space.rerun().keep(name)
    try:
        assert name in [each.name for each in happen.spaces()]
        assert outcome(kept) == outcome(space)
        assert kept.create_node("stock").state.set(happen.put("lamp", 7)).revision == 3
        with pytest.raises(happen.SpaceNotEmptyError):
            space.rerun().keep(name)
    finally:
        kept.drop()


def test_a_rerun_is_kept_under_one_name(space, orders):
    place(space, "o1")
    again = space.rerun()
    name = f"{space.name[:40]}_one"
    kept = again.keep(name)
    try:
        assert again.keep() is again.keep(name) is kept
        with pytest.raises(ValueError, match=f'already kept as "{name}"'):
            again.keep(f"{name}_2")
        assert outcome(kept) == outcome(space)
    finally:
        kept.drop()


def test_what_earlier_events_still_caused_is_fed_into_a_rerun_of_one_event(space):
    """The handlers of a node are behind: after an event, they first handle those before it."""
    hold, first, second = threading.Event(), space.create_node("first"), space.create_node("second")

    @first.on("place")
    def pass_on(event):
        hold.wait(10)
        first.state.set({"last": event.payload})
        first.broadcast("placed", event.payload)

    @second.on("placed")
    def count(event):
        second.state.set(lambda state: {"all": [*state.get("all", []), event.payload]})

    events = [space.broadcast("place", number) for number in range(5)]
    hold.set()
    space.settle()
    for number, event in enumerate(events):
        again = space.rerun(event, until=event)
        assert again.same, again.differences.to_frame().to_string()
        assert again.space.views.second.get("all") == list(range(number + 1))


def test_closing_the_original_drops_its_reruns(store):
    with happen.connect(store=store, name="closed_after_a_rerun", fresh=True) as space:
        space.broadcast("something")
        again = space.rerun()
    deadline = time.monotonic() + 5
    while again.space._open_session is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    reason = '"closed_after_a_rerun", of which it is a rerun, was closed'
    with pytest.raises(happen.ClosedError, match=f'^the space "{again.space.name}" was dropped: {reason}'):
        again.space.events()


def test_both_runs_are_in_one_timeline(space, orders):
    place(space, "o1", "o2")
    drawn = space.rerun(instead=lambda event: {**event.payload, "n": 2}).timeline()
    lanes = [line.split("  ")[1] for line in repr(drawn).splitlines()[1:]]
    assert sorted(lanes) == ["notebook", "notebook (now)", "orders", "orders (now)", "stock", "stock (now)"]
    assert all(lanes[index + 1] == f"{lanes[index]} (now)" for index in (0, 2, 4))
    assert ">notebook (now)</text>" in drawn._repr_mimebundle_()["text/html"]


def test_differences_are_a_frame(space, orders):
    place(space, "o1", "o2")
    again = space.rerun(instead=lambda event: event if event.payload["id"] == "o1" else None)
    frame = again.differences.to_frame()
    assert list(frame["difference"].unique()) == ["gone"]
    assert frame["type"].dropna().tolist() == ["order.placed", "order.accepted", "stock.booked"]
    assert frame["root"].nunique() == 1
    assert frame["sequence_now"].isna().all()


def test_it_is_refused_in_a_handler(space):
    node = space.create_node("node")
    node.on("work", lambda event: space.rerun())
    with pytest.raises(happen.HandlerError, match="rerun"):
        space.send(node, "work").result()


def test_what_another_client_stored_and_cannot_be_read_is_left_out_with_a_notice(space, orders, capsys):
    place(space, "o1")
    log = space._log
    nonsense = Message(log.subjects.state("stock"), b"nonsense", {})
    position = io_thread().run(
        store_messages(log.connection, [nonsense], timeout=5, what="a commit of another client")
    )
    io_thread().run(log.reach(position, time.monotonic() + 5))
    space.nodes["stock"].state.set({"lamp": 5})
    place(space, "o2")
    capsys.readouterr()

    again = space.rerun()
    text = 'rerun: revision 3 of node "stock" is left out: another client stored it, and it cannot be read'
    assert text in "".join(capsys.readouterr())
    assert again.same
    assert again.space.views["stock"].get() == {"lamp": 4}


@pytest.mark.parametrize("first", ["handler", "watch"])
def test_a_handler_and_a_watch_emit_the_same_type_because_of_the_same_event(space, first):
    stock, emitted = space.create_node("stock"), {"handler": threading.Event(), "watch": threading.Event()}

    def emit(who):
        if who != first:
            emitted[first].wait(10)
        stock.broadcast("sold", who)
        emitted[who].set()

    @stock.on("buy")
    def buy(event):
        stock.state.set({"n": 1})
        emit("handler")

    @stock.state.watch
    def tell(commit):
        if commit.cause is not None:
            emit("watch")

    space.broadcast("buy").settle()
    again = space.rerun()
    assert again.same, repr(again)
    assert [event.payload for event in again.space.events()] == [event.payload for event in space.events()]
