"""Events that are stored now and delivered later, on the real clock."""
# ruff: noqa: DTZ001 - times without a zone are local times

import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

import happen_nb as happen

SOON = 0.05
HOUR = 3600


def test_an_event_is_delivered_when_it_is_due_and_not_before(space, orders):
    event = orders.broadcast("order.expired", {"id": "o1"}, after=1)  # stored before, on a busy machine too
    assert not event.pending
    assert event.due > event.time
    assert len(space.events()) == 0
    came = space.wait_for("order.expired", since=event)
    assert (came.id, came.payload, came.due) == (event.id, {"id": "o1"}, event.due)
    assert came.time >= event.due


@pytest.mark.parametrize("delay", [30, timedelta(seconds=30), np.timedelta64(30, "s"), pd.Timedelta("30s")])
def test_a_delay_is_a_number_of_seconds_or_a_duration(orders, delay):
    event = orders.broadcast("tick", after=delay)
    assert timedelta(seconds=20) < event.due - event.time <= timedelta(seconds=30)
    assert event.cancel()


def test_a_time_without_a_zone_is_local_time(orders):
    moment = datetime(2050, 7, 1, 12)
    assert orders.broadcast("tick", at=moment).due == moment.astimezone(UTC)
    assert orders.broadcast("tick", at=pd.Timestamp(moment)).due == moment.astimezone(UTC)


def test_an_event_of_the_past_is_delivered_at_once_and_that_is_said(space, orders, heard, capsys):
    orders.broadcast("late", at=datetime(2001, 1, 1))
    orders.broadcast("now", after=0)
    space.settle()
    assert heard == ["late", "now"]
    assert 'at is in the past; "late" is delivered now' in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("times", "error", "problem"),
    [
        ({"after": -1}, ValueError, "after is -1; pass seconds, 0 or more"),
        ({"after": float("nan")}, ValueError, "after is nan"),
        ({"after": float("inf")}, ValueError, "after is inf"),
        ({"after": 1e12}, ValueError, "before the year 2200"),
        ({"after": timedelta(days=99_999)}, ValueError, "before the year 2200"),
        ({"after": "1 h"}, TypeError, "after is '1 h'"),
        ({"after": True}, TypeError, "after is True"),
        ({"at": datetime(2300, 1, 1, tzinfo=UTC)}, ValueError, "before the year 2200"),
        ({"at": pd.NaT}, ValueError, "at is NaT"),
        ({"at": 5}, TypeError, "at is 5; pass a datetime"),
        ({"at": "2030-01-01"}, TypeError, "pass a datetime"),
        ({"after": 1, "at": datetime(2030, 1, 1, tzinfo=UTC)}, TypeError, "after or at, not both"),
    ],
)
def test_a_time_that_cannot_be_scheduled_is_refused(space, orders, times, error, problem):
    for call in (lambda: orders.broadcast("x", **times), lambda: orders.send("orders", "x", **times)):
        with pytest.raises(error, match=problem):
            call()
    with pytest.raises(error, match=problem):
        orders.state.set(lambda s: {**s, "n": orders.broadcast("x", **times).id})
    assert len(space.journal()) == 0


def test_a_cancelled_event_never_comes(space, orders, heard):
    event = orders.broadcast("order.expired", after=10 * SOON)  # a busy machine may take long to cancel it
    assert event.cancel()
    assert not event.cancel()
    orders.broadcast("after.it", after=11 * SOON)
    space.wait_for("after.it", since=event)
    space.settle()
    assert heard == ["after.it"]


def test_cancelling_too_late_says_so(space, orders):
    event = orders.broadcast("tick", after=SOON, id="t")
    space.wait_for("tick", since=event)
    assert not orders.cancel("t")
    assert not orders.cancel(event)
    assert not orders.broadcast("plain").cancel()
    assert not orders.cancel("no-such-id")


def test_what_cannot_be_cancelled_is_refused(orders, store):
    with pytest.raises(ValueError, match="cancel: the id is 'a b'"):
        orders.cancel("a b")
    with pytest.raises(TypeError, match="cancel: the id is 5"):
        orders.cancel(5)
    with happen.connect(store=store, name="elsewhere") as other:
        event = other.broadcast("x", after=HOUR)
        with pytest.raises(ValueError, match="does not belong to the space"):
            orders.cancel(event)
        assert event.cancel()


def test_scheduling_an_id_again_replaces_time_and_payload(space, orders):
    first = orders.broadcast("order.expired", {"n": 1}, after=HOUR, id="e")
    second = orders.broadcast("order.expired", {"n": 2}, after=SOON, id="e")
    assert not second.repeated
    assert space.wait_for("order.expired", since=first).payload == {"n": 2}
    assert [event.payload for event in space.events()] == [{"n": 2}]


def test_an_id_that_was_delivered_belongs_to_its_event(space, orders):
    event = orders.broadcast("tick", {"n": 1}, after=SOON, id="e")
    space.wait_for("tick", since=event)
    assert orders.broadcast("tick", {"n": 1}, after=HOUR, id="e").repeated
    assert orders.broadcast("tick", {"n": 1}, id="e").repeated
    with pytest.raises(happen.IdTakenError):
        orders.broadcast("tick", {"n": 2}, after=HOUR, id="e")


def test_an_id_is_free_after_its_cancel(space, orders, heard):
    for again in ("later", "now"):
        orders.broadcast("first", after=HOUR, id=f"e-{again}")
        assert orders.cancel(f"e-{again}")
    event = orders.broadcast("later", after=20 * SOON, id="e-later")
    assert not orders.broadcast("now", id="e-now").repeated
    space.wait_for("later", since=event)
    space.settle()
    assert sorted(heard) == ["later", "now"]


def test_an_event_without_delay_takes_the_place_of_the_scheduled_one(space, orders, heard):
    orders.broadcast("expired", after=HOUR, id="e")
    event = orders.broadcast("expired", id="e")
    assert (event.repeated, event.due) == (False, None)
    assert not orders.cancel("e")
    space.settle()
    assert heard == ["expired"]


def test_a_commit_and_what_it_schedules_are_one(space, orders, heard):
    def place(state):
        orders.broadcast("expired", {"id": "o1"}, after=SOON, id="expire-o1")
        orders.broadcast("placed")
        return {**state, "o1": "placed"}

    commit = orders.state.set(place)
    space.wait_for("expired", since=commit)
    space.settle()
    assert heard == ["placed", "expired"]


def test_a_transform_that_raises_schedules_and_cancels_nothing(space, orders):
    kept = orders.broadcast("kept", after=HOUR, id="kept")

    def fail(state):
        orders.broadcast("never", after=HOUR, id="never")
        assert orders.cancel("kept")
        raise KeyError

    with pytest.raises(KeyError):
        orders.state.set(fail)
    assert not orders.cancel("never")
    assert kept.cancel()


def test_a_commit_and_what_it_cancels_are_one(space, orders):
    orders.broadcast("expired", after=HOUR, id="e")
    commit = orders.state.set(lambda s: {**s, "cancelled": orders.cancel("e")})
    assert commit.after == {"cancelled": True}
    assert not orders.cancel("e")
    assert orders.state.set(lambda s: {**s, "cancelled": orders.cancel("e")}).after == {"cancelled": False}


def test_a_cancel_alone_is_committed_too(orders):
    orders.state.set({"n": 1})
    event = orders.broadcast("expired", after=HOUR, id="e")

    def only_cancel(state):
        event.cancel()
        return state

    assert orders.state.set(only_cancel).revision == 2
    assert not event.cancel()


def test_a_transform_may_cancel_what_it_has_just_scheduled(space, orders):
    def change_its_mind(state):
        event = orders.broadcast("expired", after=HOUR, id="e")
        return {**state, "cancelled": event.cancel()}

    assert orders.state.set(change_its_mind).after == {"cancelled": True}
    assert not orders.cancel("e")


def test_a_transform_may_schedule_again_what_is_scheduled(space, orders):
    orders.broadcast("expired", {"n": 1}, after=HOUR, id="e")
    commit = orders.state.set(
        lambda s: {**s, "due": orders.broadcast("expired", {"n": 2}, after=SOON, id="e").due is not None}
    )
    assert space.wait_for("expired", since=commit).payload == {"n": 2}


def test_a_state_handler_schedules_and_cancels_with_its_commit(space, orders):
    @orders.state.on("placed")
    def place(state, event):
        orders.broadcast("expired", event.payload, after=HOUR, id=f"expire-{event.payload}")
        return {**state, event.payload: "placed"}

    @orders.state.on("paid")
    def pay(state, event):
        return {**state, event.payload: "paid" if orders.cancel(f"expire-{event.payload}") else "too late"}

    for type, id in [("placed", "a"), ("placed", "b"), ("paid", "a"), ("paid", "a")]:
        orders.broadcast(type, id)
    space.settle()
    assert orders.state.get() == {"a": "too late", "b": "placed"}
    assert not orders.cancel("expire-a")
    assert orders.cancel("expire-b")


def test_a_scheduled_event_has_its_cause(space, orders):
    @orders.on("placed")
    def hold(event):
        orders.broadcast("expired", after=SOON)

    placed = orders.broadcast("placed")
    expired = space.wait_for("expired", since=placed)
    assert (expired.cause, expired.correlation, expired.path) == (placed.id, placed.id, (placed.id,))
    assert [node.event.type for node in placed.settle()] == ["placed", "expired"]


def test_settle_does_not_wait_for_what_is_scheduled(space, orders):
    @orders.on("placed")
    def hold(event):
        orders.broadcast("expired", after=HOUR)

    started = time.monotonic()
    orders.broadcast("placed").settle()
    space.settle()
    assert time.monotonic() - started < 5


def test_a_scheduled_send_replies_and_its_timeout_counts_from_then(space, orders):
    orders.on("question", lambda event: 42)
    reply = orders.send("orders", "question", after=2, timeout=1.5)
    assert not reply.done
    assert reply.result() == 42


def test_the_reply_to_a_scheduled_send_that_is_cancelled_fails(space, orders):
    orders.on("question", lambda event: 42)
    reply = orders.send("orders", "question", after=HOUR)
    assert reply.event.cancel()
    with pytest.raises(happen.CancelledHandlingError, match="scheduled event was cancelled"):
        reply.result()


def test_a_scheduled_send_whose_reply_is_cancelled_is_not_delivered(space, orders):
    orders.on("question", lambda event: 42)
    reply = orders.send("orders", "question", after=HOUR)
    reply.cancel()
    assert len(space.scheduled) == 0
    with pytest.raises(happen.CancelledHandlingError):
        reply.result()


def test_the_reply_to_a_scheduled_send_fails_when_the_space_is_cleared(space, orders):
    orders.on("question", lambda event: 42)
    reply = orders.send("orders", "question", after=HOUR)
    space.clear()
    with pytest.raises(happen.CancelledHandlingError, match="scheduled event was cancelled"):
        reply.result(timeout=10)


def test_a_scheduled_send_to_a_node_without_owner_fails_when_it_is_due(space, orders):
    reply = orders.send("nobody", "question", after=SOON)
    with pytest.raises(happen.NoHandlerError):
        reply.result()


def test_a_cleared_space_has_nothing_to_come(space, orders, heard, stored_alarm):
    before = orders.broadcast("before", after=HOUR)
    assert stored_alarm(space, before) is not None
    space.clear()
    assert stored_alarm(space, before) is None
    assert len(space.scheduled) == 0
    orders.broadcast("later", after=SOON)
    space.wait_for("later", since=0)
    space.settle()
    assert heard == ["later"]


def test_the_async_variants_do_the_same(orders):
    happen.run(_schedule_and_cancel(orders))


async def _schedule_and_cancel(orders):
    event = await orders.abroadcast("expired", after=HOUR, id="e")
    assert await orders.acancel("e")
    assert not await event.acancel()
    orders.on("question", lambda event: 42)
    assert await (await orders.asend("orders", "question", after=SOON)) == 42


# -- an event that the server was publishing when its alarm ended ----------------------------------------


def test_an_event_after_its_cancel_does_not_count(space, orders, heard, publish_late, stored_alarm, store):
    event = orders.broadcast("expired", after=HOUR, id="e")
    alarm = stored_alarm(space, event)
    assert event.cancel()
    publish_late(space, alarm)
    orders.broadcast("end").settle()
    assert heard == ["end"]
    assert [event.type for event in space.events()] == ["end"]
    assert [each.type for each in space.journal().events] == ["end"]
    assert len(space.trace(space.events()[0]).root.children) == 0
    assert not orders.broadcast("expired", id="e").repeated


def test_an_event_after_the_one_that_replaced_it_does_not_count(
    space, orders, heard, publish_late, stored_alarm
):
    event = orders.broadcast("expired", {"n": 1}, after=HOUR, id="e")
    alarm = stored_alarm(space, event)
    again = orders.broadcast("expired", {"n": 2}, after=SOON, id="e")
    publish_late(space, alarm)
    space.wait_for("expired", since=again)
    space.settle()
    assert heard == ["expired"]
    assert [event.payload for event in space.events()] == [{"n": 2}]


def test_a_second_delivery_does_not_count(space, orders, heard, publish_late, stored_alarm):
    event = orders.broadcast("expired", after=1, id="e")  # its alarm is read before, on a busy machine too
    alarm = stored_alarm(space, event)
    space.wait_for("expired", since=event)
    publish_late(space, alarm)
    orders.broadcast("end").settle()
    assert heard == ["expired", "end"]
    assert [event.type for event in space.events(limit=2)] == ["expired", "end"]


def test_an_id_is_free_though_its_cancelled_event_is_stored_once_more(space, orders, heard, store_again):
    event = orders.broadcast("expired", {"n": 1}, after=HOUR, id="e")
    again = store_again(space, event)
    assert event.cancel()
    again()
    assert len(space.scheduled) == 0
    orders.broadcast("expired", {"n": 2}, after=HOUR, id="e")
    assert [each.payload for each in space.scheduled] == [{"n": 2}]


def test_a_process_that_starts_in_between_ignores_it_too(space, orders, publish_late, stored_alarm, second):
    event = orders.broadcast("expired", after=HOUR, id="e")
    alarm = stored_alarm(space, event)
    assert event.cancel()
    types, reach = second(space)
    publish_late(space, alarm)
    reach(orders.broadcast("end").sequence)
    assert types == ["end"]


@pytest.fixture
def second(store):
    """Another connection to the same space, as another process has it, and what it handles."""
    from happen_nb._journal.addresses import Credentials
    from happen_nb._journal.stream import Options
    from happen_nb._runtime.io import io_thread
    from happen_nb._runtime.runtime import Runtime

    opened = []

    async def join(space):
        address, credentials = [space.server.url], Credentials(space.server.token)
        runtime, info = await Runtime.connect(
            address, credentials, space.name, Options(), incarnation="feedfeedfeed", timeout=5
        )
        await runtime.open(info)
        return runtime

    def open_it(space):
        runtime = io_thread().run(join(space))
        opened.append(runtime)
        types = []
        runtime.log.on_event.connect(lambda event: types.append(event.type))
        return types, lambda sequence: io_thread().run(runtime.log.reach(sequence, time.monotonic() + 5))

    yield open_it
    for runtime in opened:
        io_thread().run(runtime.close())
