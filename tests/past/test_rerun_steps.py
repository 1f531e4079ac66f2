"""Single steps that happen again in a rerun, and their places."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import happen_nb as happen
from happen_nb.learn import wait_until


def test_what_a_handler_emits_as_another_node_keeps_its_place(space):
    one, other = space.create_node("one"), space.create_node("other", initial={"n": 0})
    one.on("add", lambda event: other.broadcast("noted", event.payload) and None)
    other.on("never", lambda event: None)  # with it, each event waits for the end of the one before

    @other.state.on("add")
    def add(state, event):
        time.sleep(0.02)
        return {"n": state["n"] + event.payload}

    for number in range(3):
        space.broadcast("add", number).settle()
    assert [event.type for event in space.events()] == ["add", "noted"] * 3
    again = space.rerun()
    assert again.same, repr(again)


def test_events_of_one_type_keep_their_places_if_a_node_emits_them_as_several(space):
    one, other, third = (space.create_node(name) for name in ("one", "other", "third"))
    emitted = threading.Event()

    @one.on("go")
    def emit_first(event):
        other.broadcast("noted", "first")
        emitted.set()

    @one.on("go")
    def emit_last(event):
        third.state.wait_for(lambda state: "done" in state)
        one.broadcast("noted", "last")

    @third.on("go")
    def work(event):
        emitted.wait(30)
        third.state.set({"done": True})

    space.broadcast("go").settle()
    notes = space.events("noted")
    assert notes[0].sequence < third.state.history()[-1].sequence < notes[1].sequence
    again = space.rerun()
    assert again.same, repr(again)


def test_a_request_that_was_refused_before_its_start_is_refused_again(space):
    node = space.create_node("node", initial={"n": 0})

    @node.on("ask")
    def ask(event):
        with pytest.raises(happen.DeadlockError):
            node.send(node, "add").result()

    node.on("add", lambda event: node.state.set({"n": 1}) and None)
    space.broadcast("ask").settle()
    assert node.state.get() == {"n": 0}
    (request,) = space.events("add")
    again = space.rerun(request)
    assert again.same, repr(again)


def test_what_was_retried_from_outside_is_named(space):
    node, broken = space.create_node("node", initial={"n": 0}), [True]

    @node.on("add")
    def add(event):
        if broken[0]:
            raise ConnectionError
        node.state.set({"n": event.payload})

    space.broadcast("add", 1).settle()
    assert space.rerun().unrepeated == ()
    broken[0] = False
    space.failures.retry()
    broken[0] = True
    again = space.rerun()
    assert not again.same
    (name,) = again.unrepeated
    assert name.startswith("node ")
    assert "cancelled or retried then, which is not repeated: node add" in repr(again)


def test_what_was_cancelled_while_it_ran_is_named(space):
    node, runs, may_end = space.create_node("node", initial={}), threading.Event(), threading.Event()

    @node.on("work")
    async def work(event):
        runs.set()
        await asyncio.to_thread(may_end.wait, 30)
        await node.state.aset({"done": True})

    reply = space.send(node, "work")
    assert runs.wait(30)
    reply.cancel()
    may_end.set()
    space.settle()
    assert node.state.get() == {}
    again = space.rerun()
    assert not again.same
    assert [name.partition(" ")[0] for name in again.unrepeated] == ["node"]


def test_what_a_watch_stored_for_a_commit_that_is_put_in_comes_when_it_came(space):
    stock, shop, notes = (space.create_node(name, initial={}) for name in ("stock", "shop", "notes"))
    may_watch = threading.Event()

    @shop.on("buy")
    def buy(event):
        space.wait_for("began", since=event)
        notes.state.set({"by": "shop"})
        stock.state.set({"sold": True})

    @stock.state.watch
    def note(commit):
        may_watch.wait(30)
        notes.state.set({"by": "watch"})

    @notes.on("count")
    def count(event):
        stock.state.wait_for(lambda state: "sold" in state)
        stock.state.get()
        notes.state.set({"by": "count"})
        may_watch.set()

    space.broadcast("buy")
    began = space.broadcast("began")
    space.broadcast("count")
    space.settle()
    assert [commit.after["by"] for commit in notes.state.history()[-3:]] == ["shop", "count", "watch"]
    again = space.rerun(began)
    assert again.same, repr(again)


def test_a_commit_that_applies_events_before_and_after_the_start_is_not_made_twice(space):
    stock, go_on = space.create_node("stock", initial={"n": 0}), threading.Event()
    stock.on("count", lambda event: go_on.wait(30))
    stock.state.on("sold", lambda state, event: {**state, "n": state["n"] + 1}, fold=True)
    stock.state.on("so*", lambda state, event: {**state, "last": event.payload})
    space.broadcast("count")
    space.broadcast("sold", 1)
    second = space.broadcast("sold", 2)
    go_on.set()
    space.settle()
    assert [len(commit.causes) for commit in stock.state.history()] == [0, 2, 1, 1]
    again = space.rerun(second)
    assert again.same, repr(again)


@pytest.fixture
def gauge(space):
    """A node that folds the events of two handlers that have arrived while it was busy."""
    gauge, go_on = space.create_node("gauge", initial={"warm": 0, "wet": 0}), threading.Event()
    has_begun = threading.Event()

    def hold(state, event):
        has_begun.set()
        go_on.wait(30)
        return {**state, "held": True}

    gauge.state.on("hold", hold)
    gauge.state.on("warm", lambda state, event: {**state, "warm": state["warm"] + event.payload}, fold=True)
    gauge.state.on("wet", lambda state, event: {**state, "wet": state["wet"] + event.payload}, fold=True)
    space.broadcast("hold")
    has_begun.wait(30)
    return gauge, go_on


def test_two_handlers_of_a_node_fold_with_one_commit(space, gauge):
    node, go_on = gauge
    for n in range(1, 4):
        space.broadcast("warm", n)
        space.broadcast("wet", n)
    go_on.set()
    space.settle()
    assert [len(commit.causes) for commit in node.state.history()] == [0, 1, 6]
    again = space.rerun()
    assert again.same, repr(again)


def test_a_commit_does_not_wait_for_a_folded_event_that_is_not_emitted_again(space, gauge):
    node, go_on = gauge
    emits = [True]

    @space.create_node("cloud").on("warm")
    def rain(event):
        if emits:
            node.broadcast("wet", event.payload)

    space.broadcast("warm", 1)
    space.broadcast("warm", 2)
    wait_until(lambda: len(space.events()) == 5)
    go_on.set()
    space.settle()
    assert [len(commit.causes) for commit in node.state.history()] == [0, 1, 4]
    emits.clear()
    again = space.rerun()
    assert not again.same
    assert node.state.get() == {"warm": 3, "wet": 3, "held": True}
    assert again.space.views.gauge.get() == {"warm": 3, "wet": 0, "held": True}


@pytest.mark.parametrize("how", ["handler", "transform", "state handler", "scheduled"])
def test_an_id_that_was_taken_before_the_start_is_taken_in_the_rerun(space, how):
    shop = space.create_node("shop", initial={"n": 0})

    def emit(state):
        return shop.broadcast("opened", id="opened", after=0.001 if how == "scheduled" else None)

    @shop.on("come")
    def greet(event):
        if how == "transform":
            shop.state.set(lambda state: emit(state) and {"n": state["n"] + 1})
        elif how != "state handler":
            shop.state.set({"repeated": emit({}).repeated})

    if how == "state handler":
        shop.state.on("come", lambda state, event: emit(state) and {"n": state["n"] + 1})
    space.broadcast("come").settle()
    while space.scheduled:
        space.settle()
    second = space.broadcast("come")
    space.settle()
    assert len(space.events("opened")) == 1
    again = space.rerun(second)
    assert again.same, repr(again)
