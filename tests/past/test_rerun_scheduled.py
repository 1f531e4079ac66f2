"""Events that cells schedule, cancel and schedule again, and what handlers see of them in a rerun."""

from __future__ import annotations

import threading
import time

import pytest

import happen_nb as happen

HOUR = 3600
SOON = 1.0  # seconds; a busy machine does what comes before in less


@pytest.fixture(params=["real", "manual"])
def lab(store, request):
    """A space with each of both clocks."""
    name = request.node.name.translate(str.maketrans("[]", "__"))[-60:].strip("_")
    with happen.connect(store=store, name=name, clock=request.param, fresh=True) as space:
        yield space


@pytest.fixture
def orders(lab):
    """A node whose handlers report whether they could cancel, and what is scheduled."""
    orders = lab.create_node("orders")

    @orders.on("paid")
    def cancel(event):
        orders.broadcast("saved" if orders.cancel(event.payload) else "late")

    @orders.on("look")
    def look(event):
        orders.broadcast("seen", [[each.id, each.type] for each in lab.scheduled])

    return orders


def types(space):
    return [event.type for event in space.events()]


def test_a_handler_cancels_what_a_cell_has_scheduled(lab, orders):
    lab.broadcast("paid", "e").settle()
    orders.broadcast("expired", after=HOUR, id="e")
    lab.broadcast("paid", "e").settle()
    lab.broadcast("paid", "e").settle()
    assert types(lab) == ["paid", "late", "paid", "saved", "paid", "late"]
    again = lab.rerun()
    assert again.same, repr(again)
    assert len(again.space.scheduled) == 0


def test_a_handler_sees_what_a_cell_has_scheduled(lab, orders):
    orders.on(
        "look", lambda event: orders.broadcast("due", [str(each.due) for each in lab.scheduled]) and None
    )
    orders.broadcast("expired", after=HOUR, id="e")
    lab.broadcast("look").settle()
    orders.broadcast("expired", "another", after=2 * HOUR, id="e")
    last = orders.broadcast("reminder", after=3 * HOUR)
    lab.broadcast("look").settle()
    orders.cancel("e")
    lab.broadcast("look").settle()
    seen = [event.payload for event in lab.events("seen")]
    assert [len(each) for each in seen] == [1, 2, 1]
    again = lab.rerun()
    assert again.same, repr(again)
    assert [event.id for event in again.space.scheduled] == [last.id]


def test_what_was_scheduled_before_the_start_is_there(lab, orders):
    orders.broadcast("expired", after=HOUR, id="e")
    orders.broadcast("expired", after=HOUR, id="never")
    first = lab.broadcast("paid", "e")
    first.settle()
    again = lab.rerun(first)
    assert again.same, repr(again)
    assert types(again.space) == ["paid", "saved"]
    assert [event.id for event in again.space.scheduled] == ["never"]


def test_what_was_scheduled_after_the_end_is_not_there(lab, orders):
    last = lab.broadcast("paid", "e")
    last.settle()
    orders.broadcast("expired", after=HOUR, id="e")
    again = lab.rerun(until=last)
    assert again.same, repr(again)
    assert len(again.space.scheduled) == 0


def test_a_cell_cancels_what_a_handler_has_scheduled(lab, orders):
    orders.on("placed", lambda event: orders.broadcast("expired", after=HOUR, id="e") and None)
    lab.broadcast("placed").settle()
    assert orders.cancel("e")
    lab.broadcast("paid", "e").settle()
    assert types(lab) == ["placed", "paid", "late"]
    again = lab.rerun()
    assert again.same, repr(again)


def test_handlers_and_cells_schedule_in_each_others_place(lab, orders):
    orders.on("placed", lambda event: orders.broadcast("expired", after=2 * HOUR, id="e") and None)
    for _ in range(2):
        lab.broadcast("placed").settle()
        lab.broadcast("look").settle()
        orders.broadcast("expired", "a cell's", after=3 * HOUR, id="e")
        lab.broadcast("look").settle()
    lab.broadcast("paid", "e").settle()
    again = lab.rerun()
    assert again.same, repr(again)


def test_a_transform_of_a_cell_schedules_and_cancels(lab, orders):
    def schedule(state):
        orders.broadcast("expired", after=HOUR, id="e")
        return {"n": 1}

    orders.state.set(schedule)
    lab.broadcast("look").settle()
    orders.state.set(lambda state: {"cancelled": orders.cancel("e")})
    lab.broadcast("paid", "e").settle()
    again = lab.rerun()
    assert again.same, repr(again)


def test_what_is_emitted_at_once_in_the_place_of_a_scheduled_event(lab, orders):
    orders.on("placed", lambda event: orders.broadcast("expired", after=HOUR, id="h") and None)
    lab.broadcast("placed").settle()
    orders.broadcast("expired", after=HOUR, id="e")
    for id in "eh":
        orders.broadcast("expired", "now", id=id)
        lab.broadcast("paid", id).settle()
    assert types(lab) == ["placed", "expired", "paid", "late", "expired", "paid", "late"]
    again = lab.rerun()
    assert again.same, repr(again)


def test_a_watch_schedules_and_cancels_again(lab, orders):
    def watching(commit):
        if commit.after["n"] == 1:
            orders.broadcast("expired", after=HOUR, id="e")
        else:
            orders.cancel("e")

    watch = orders.state.watch(watching)
    for n in (1, 2):
        orders.state.set({"n": n})
        lab.settle()
        lab.broadcast("look").settle()
    again = lab.rerun()
    watch.stop()
    assert again.same, repr(again)


def test_an_edited_handler_may_cancel_what_was_delivered(lab):
    orders, ids = lab.create_node("orders"), []
    orders.on("paid", lambda event: orders.broadcast("cancelled", list(map(orders.cancel, ids))) and None)
    orders.broadcast("expired", after=SOON, id="e")
    lab.broadcast("paid").settle()
    if lab.clock == "manual":
        lab.advance(1)
    lab.wait_for("expired", since=0)
    assert lab.rerun().same
    ids.append("e")
    again = lab.rerun()
    assert types(again.space) == ["paid", "cancelled"]
    assert again.space.events("cancelled")[0].payload == [True]


def test_another_payload_or_none_also_holds_while_the_event_waits(lab, orders):
    for id in ("e", "f"):
        orders.broadcast("expired", 1, after=SOON, id=id)
    lab.broadcast("look").settle()
    if lab.clock == "manual":
        lab.advance(1)
    lab.settle()
    lab.wait_for("expired", lambda event: event.id == "f", since=0)

    def instead(event):
        return event if event.type != "expired" else 2 if event.id == "e" else None

    again = lab.rerun(instead=instead)
    assert [event.payload for event in again.space.events("expired")] == [2]
    assert [id for id, *_ in again.space.events("seen")[0].payload] == ["e"]


def test_the_server_delivers_what_a_cell_has_scheduled(space, monkeypatch):
    """It does so if the event is due later than in a minute."""
    monkeypatch.setattr("happen_nb._runtime.clock.SOON_SECONDS", 0)
    orders = space.create_node("orders")
    orders.on("look", lambda event: orders.broadcast("seen", len(space.scheduled)) and None)
    space.broadcast("look").settle()
    orders.broadcast("expired", after=SOON, id="e")
    space.broadcast("look").settle()
    space.wait_for("expired", since=0)
    space.broadcast("look").settle()
    assert [event.payload for event in space.events("seen")] == [0, 1, 0]
    again = space.rerun()
    assert again.same, repr(again)


@pytest.mark.parametrize("waits", ["reply", "event"])
def test_a_rerun_until_an_event_has_the_scheduled_event_for_which_its_handler_waited(lab, waits):
    orders, bank = lab.create_node("orders"), lab.create_node("bank", initial={"charged": 0})
    bank.on("charge", lambda event: bank.state.set({"charged": event.payload}) and None)
    later = 0.3 if lab.clock == "real" else 60

    @orders.on("placed")
    async def place(event):
        await orders.abroadcast("reminder", after=HOUR)
        if waits == "reply":
            await (await orders.asend(bank, "charge", event.payload, after=later))
        else:
            await orders.abroadcast("charge", event.payload, after=later)
            await bank.state.await_for(lambda state: state["charged"] == event.payload)
        await orders.state.aset({"paid": event.payload})

    placed = lab.broadcast("placed", 1)
    if lab.clock == "manual":
        lab.advance(minutes=5)
    placed.settle()
    orders.state.wait_for(lambda state: "paid" in state)
    lab.broadcast("placed", 2)
    if lab.clock == "manual":
        lab.advance(minutes=5)
    orders.state.wait_for(lambda state: state["paid"] == 2)
    again = lab.rerun(until=placed)
    assert again.same, repr(again)
    assert types(again.space) == ["placed", "charge"]
    assert again.space.views.orders.get() == {"paid": 1}


@pytest.fixture
def in_between(lab):
    """Run something between the first look of a handler and what it does then; not so in a rerun."""
    looked, may_go = threading.Event(), threading.Event()

    def pause(node):
        node.state.get()
        looked.set()
        assert may_go.wait(20)

    def run(event, work):
        assert looked.wait(20)
        work()
        may_go.set()
        event.settle()

    pause.run = run
    return pause


@pytest.mark.parametrize("steps", ["plain", "async", "durable"])
def test_a_cancel_that_came_too_late_does_so_again(lab, in_between, steps):
    orders = lab.create_node("orders")

    def cancel(event):
        in_between(orders)
        saved = [orders.cancel("e"), orders.cancel("e")]
        orders.broadcast("tried", saved)

    async def acancel(event):
        in_between(orders)
        saved = [await orders.acancel("e"), await orders.acancel("e")]
        await orders.abroadcast("tried", saved)

    orders.on("paid", acancel if steps == "async" else cancel, durable=steps == "durable")
    orders.broadcast("expired", after=SOON if lab.clock == "real" else HOUR, id="e")
    paid = lab.broadcast("paid")
    in_between.run(
        paid, lambda: lab.wait_for("expired", since=0) if lab.clock == "real" else orders.cancel("e")
    )
    lab.settle()
    assert lab.events("tried")[0].payload == [False, False]
    again = lab.rerun()
    assert again.same, repr(again)


def test_a_cancel_of_what_was_scheduled_meanwhile_succeeds_again(lab, in_between):
    orders = lab.create_node("orders")

    @orders.on("paid")
    def cancel(event):
        in_between(orders)
        orders.broadcast("saved" if orders.cancel("e") else "late")

    paid = lab.broadcast("paid")
    in_between.run(paid, lambda: orders.broadcast("expired", after=HOUR, id="e"))
    assert types(lab) == ["paid", "saved"]
    again = lab.rerun()
    assert again.same, repr(again)


def test_of_a_handler_and_a_cell_the_last_one_schedules_again(lab, in_between):
    orders = lab.create_node("orders")

    @orders.on("placed")
    def schedule(event):
        in_between(orders)
        orders.broadcast("expired", "a handler's", after=HOUR, id="e")

    placed = lab.broadcast("placed")
    in_between.run(placed, lambda: orders.broadcast("expired", "a cell's", after=HOUR, id="e"))
    again = lab.rerun()
    assert again.same, repr(again)
    assert [event.payload for event in again.space.scheduled] == ["a handler's"]


def test_an_edited_handler_may_cancel_what_came_too_late_to_be_cancelled(lab, in_between):
    orders, cancelled = lab.create_node("orders"), ["e"]

    @orders.on("paid")
    def cancel(event):
        in_between(orders)
        orders.broadcast("tried", [orders.cancel(id) for id in cancelled])

    for id in "ef":
        orders.broadcast("expired", after=HOUR, id=id)
    paid = lab.broadcast("paid")
    in_between.run(paid, lambda: orders.cancel("e"))
    orders.cancel("f")
    cancelled.append("f")
    again = lab.rerun()
    assert again.space.events("tried")[0].payload == [False, True]


def test_a_kept_rerun_keeps_what_is_scheduled(lab, orders):
    orders.on("placed", lambda event: orders.broadcast("expired", 1, after=HOUR, id="e") and None)
    lab.broadcast("placed").settle()
    orders.broadcast("expired", 2, after=2 * HOUR, id="f")
    orders.every(HOUR, print)
    kept = lab.rerun().keep(f"{lab.name[:50]}_kept")
    try:
        assert [(event.id, event.payload) for event in kept.scheduled] == [("e", 1), ("f", 2)]
        assert kept.create_node("orders").cancel("f")
        if lab.clock == "manual":
            kept.advance(hours=3)
            assert types(kept) == ["placed", "expired"]
    finally:
        kept.drop()


@pytest.mark.parametrize("by", ["handler", "cell"])
def test_an_event_whose_time_is_over_before_it_is_stored_is_scheduled_again(lab, orders, monkeypatch, by):
    replica = lab._runtime.log.replica
    note = replica.note_look

    def note_late():
        time.sleep(0.02)
        note()

    def expire(_=None):
        orders.broadcast("expired", after=0.01, id="e")

    if by == "handler":
        orders.on("placed", expire)
    with monkeypatch.context() as patch:
        patch.setattr(replica, "note_look", note_late)
        if by == "cell":
            expire()
        lab.broadcast("placed").settle()
        if lab.clock == "manual":
            lab.advance(1)
        while len(lab.scheduled):
            lab.settle()
    lab.broadcast("paid", "e").settle()
    assert sorted(types(lab)) == ["expired", "late", "paid", "placed"]
    again = lab.rerun()
    assert again.same, repr(again)


def test_a_handler_schedules_the_same_type_with_and_without_an_id(lab, orders):
    @orders.on("placed")
    def remind(event):
        orders.broadcast("reminder", after=0.01, id="first")
        orders.broadcast("reminder", after=0.02)

    lab.broadcast("placed").settle()
    if lab.clock == "manual":
        lab.advance(1)
    while len(lab.scheduled):
        lab.settle()
    again = lab.rerun()
    assert again.same, repr(again)
    assert [event.id for event in again.space.events()] == [event.id for event in lab.events()]
