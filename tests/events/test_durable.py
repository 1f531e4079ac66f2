"""A durable handler is run for each event until it has ended once, and each of its steps is stored once."""

from __future__ import annotations

import re
import threading
import time
from datetime import timedelta

import pytest

import happen_nb as happen
from happen_nb._model.records import CommitRecord
from happen_nb._runtime.io import on_io, run_awaitable
from tests.events.applying import elsewhere


@pytest.fixture
def billing(space):
    return space.create_node("billing")


class Stumbles:
    """A call that raises at its first times, in place of a process that is killed there."""

    def __init__(self, times=1):
        self.left = times

    def __call__(self):
        self.left -= 1
        if self.left >= 0:
            raise ConnectionError("stumbled")


def count(name):
    return happen.put(name, lambda number: (number or 0) + 1)


def types(space):
    return [event.type for event in space.events()]


# -- a second run --------------------------------------------------------------------------------------------


def test_a_second_run_stores_no_step_again_and_sees_what_the_first_one_saw(space, billing, stock):
    stumble, seen = Stumbles(), []
    stock.on("price", lambda event: {"price": 2 * event.payload, "text": "x" * 1000})

    @billing.on("order", durable=True)
    def charge(event, context):
        receipt = context.once("card", lambda: f"receipt {len(seen)}")
        first = billing.state.set(count("paid"))

        def sell(state):
            stock.broadcast("sold", event.payload)
            return {**state, "sold": state.get("sold", 0) + 1}

        second = stock.state.set(sell)
        paid = billing.broadcast("paid", receipt)
        reply = billing.send("stock", "price", event.payload).result()
        found = [receipt, context.now, context.random.random(), paid.id, paid.sequence, paid.payload]
        seen.append([*found, first.sequence, first.before, second.after, reply])
        stumble()
        billing.state.set(count("done"))

    space.broadcast("order", 3).settle()
    assert space.failures[0].exception.args == ("stumbled",)
    assert space.failures.retry().succeeded == 1
    assert seen[0] == seen[1]
    assert billing.state.get() == {"paid": 1, "done": 1}
    assert stock.state.get() == {"sold": 1}
    assert types(space) == ["order", "sold", "paid", "price"]
    assert len(space.failures) == 0


def test_a_retry_repeats_no_step_and_goes_on_from_the_step_that_failed(space, billing):
    stumble, steps = Stumbles(2), []

    def second(event, context):
        steps.append("second")
        billing.state.set(count("second"))
        stumble()
        billing.broadcast("done")

    @billing.on("order", durable=True, retries=2, backoff=0)
    def first(event, context):
        steps.append("first")
        billing.state.set(count("first"))
        return second

    space.broadcast("order").settle()
    assert steps == ["first", "second", "second", "second"]
    assert billing.state.get() == {"first": 1, "second": 1}
    assert types(space) == ["order", "done"]


def test_a_step_that_stored_nothing_is_not_computed_again(space, billing):
    stumble, computed, commits = Stumbles(), [], []

    @billing.on("order", durable=True)
    def handle(event):
        commits.append(billing.state.set(lambda state: computed.append(1) or state))
        billing.broadcast("done")
        stumble()

    space.broadcast("order").settle()
    billing.state.set({"later": 1})
    space.failures.retry()
    assert len(computed) == 1
    assert [commit.changed for commit in commits] == [False, False]
    assert types(space) == ["order", "done"]


def test_async_and_generator_handlers_are_durable_too(space, billing):
    stumbles = [Stumbles() for _ in range(3)]

    @billing.on("order", durable=True)
    async def asynchronous(event):
        await billing.state.aset(count("async"))
        await billing.abroadcast("async.done")
        stumbles[0]()

    @billing.on("order", durable=True)
    def generator(event):
        billing.state.set(count("generator"))
        yield 0.5
        stumbles[1]()
        billing.broadcast("generator.done")

    @billing.on("order", durable=True)
    async def both(event, context):
        now = context.now
        await billing.state.aset(happen.put("now", str(now)))
        yield 0.5
        stumbles[2]()
        await billing.state.aset(happen.put("same", billing.state.get("now") == str(context.now)))
        yield happen.Result(await context.aonce("call", anext_number))

    space.broadcast("order").settle()
    assert len(space.failures) == 3
    assert space.failures.retry().succeeded == 3
    state = billing.state.get()
    assert (state["async"], state["generator"], state["same"]) == (1, 1, True)
    assert types(space) == ["order", "async.done", "generator.done"]


async def anext_number():
    return 7


def test_an_id_of_its_own_is_kept_by_an_event(space, billing):
    stumble = Stumbles()

    @billing.on("order", durable=True)
    def handle(event):
        paid = billing.broadcast("paid", 1, id=f"paid-{event.payload}")
        assert paid.id == "paid-o1"
        stumble()

    space.broadcast("order", "o1").settle()
    space.failures.retry()
    assert len(space.failures) == 0
    assert types(space) == ["order", "paid"]


@pytest.mark.parametrize("meanwhile", ["is scheduled", "was delivered", "was cancelled", "was replaced"])
def test_the_due_time_of_a_scheduled_event_is_the_stored_one(meanwhile):
    with happen.connect(store=":memory:", name="due", clock="manual", fresh=True) as space:
        billing, stumble, seen = space.create_node("billing"), Stumbles(), []

        @billing.on("order", durable=True)
        def handle(event):
            reminder = billing.broadcast("remind", after=3600, id="reminder")
            billing.broadcast("expected", {"at": reminder.due})
            seen.append(reminder.due)
            stumble()

        space.broadcast("order").settle()
        if meanwhile == "was cancelled":
            space.cancel("reminder")
        elif meanwhile == "was replaced":
            space.broadcast("remind", after=7200, id="reminder")
        space.advance(hours=2 if meanwhile == "was delivered" else 0.5)
        space.failures.retry()
        assert len(space.failures) == 0
        assert seen[0] == seen[1]


def test_another_payload_of_a_scheduled_event_in_a_second_run_is_named(space, billing):
    stumble, payloads = Stumbles(), iter("ab")

    @billing.on("order", durable=True)
    def handle(event):
        billing.broadcast("remind", next(payloads), after=3600)
        stumble()

    space.broadcast("order").settle()
    space.failures.retry()
    assert "with the payload 'a'" in str(space.failures[0].exception)


def test_a_cancel_is_done_once(space, billing):
    stumble, seen = Stumbles(), []

    @billing.on("order", durable=True)
    def charge(event):
        seen.append((billing.cancel("late"), billing.cancel("never"), billing.cancel("later")))
        billing.broadcast("reminded", after=3600, id="late")
        stumble()

    for id in ("late", "later"):
        space.broadcast("reminder", after=3600, id=id)
    space.broadcast("order").settle()
    for id in ("never", "later"):
        space.broadcast("reminder", after=3600, id=id)
    assert space.failures.retry().succeeded == 1
    assert seen == [(True, False, True)] * 2
    assert {event.id: event.type for event in space.scheduled} == {
        "late": "reminded",
        "never": "reminder",
        "later": "reminder",
    }


def test_a_cancel_of_another_event_in_a_second_run_is_named(space, billing):
    ids = ["one", "two"]

    @billing.on("order", durable=True)
    def charge(event):
        billing.cancel(ids.pop(0))
        raise ConnectionError

    space.broadcast("reminder", after=3600, id="one")
    space.broadcast("order").settle()
    space.failures.retry()
    error = space.failures[0].exception
    assert isinstance(error, happen.NondeterminismError)
    assert "cancel 1 after step 0 differs from the earlier run" in str(error)
    assert 'Then: cancels "one". Now: cancels "two"' in str(error)


def test_a_deletion_is_a_step(space, billing, stock):
    stumble = Stumbles()
    stock.state.set({"n": 1})

    @billing.on("order", durable=True)
    def handle(event):
        stock.delete()
        stumble()

    space.broadcast("order").settle()
    space.create_node("stock").state.set({"n": 2})
    space.failures.retry()
    assert space.views.stock.get() == {"n": 2}


# -- handlers that do something else -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("then", "now", "text"),
    [
        (
            lambda billing, stock: billing.state.set({"a": 1}),
            lambda billing, stock: stock.state.set({"a": 1}),
            'step 1 .* Then: commits a state of node "billing". Now: commits a state of node "stock"',
        ),
        (
            lambda billing, stock: billing.broadcast("a"),
            lambda billing, stock: billing.state.set({"a": 1}),
            'Then: broadcasts "a". Now: commits a state of node "billing"',
        ),
        (
            lambda billing, stock: billing.broadcast("a", 1),
            lambda billing, stock: billing.broadcast("a", 2),
            'Then: broadcasts "a" with the payload 1. Now: 2',
        ),
        (
            lambda billing, stock: billing.send("stock", "a"),
            lambda billing, stock: billing.broadcast("a"),
            'Then: sends "a" to node "stock". Now: broadcasts "a"',
        ),
        (
            lambda billing, stock: [stock.state.set({"a": 1}), billing.broadcast("b")],
            lambda billing, stock: stock.state.set({"a": 1}),
            'step 2 .* Then: broadcasts "b". Now: the handler ends',
        ),
        (
            lambda billing, stock: [stock.state.set({}), billing.broadcast("b")],
            lambda billing, stock: [billing.broadcast("c"), billing.broadcast("b")],
            'step 1 .* Then: nothing is emitted. Now: broadcasts "c"',
        ),
    ],
)
def test_the_first_step_that_differs_is_named(space, billing, stock, then, now, text):
    stumble = Stumbles()
    stock.on("a", lambda event: None)

    @billing.on("order", durable=True, retries=3, backoff=0)
    def handle(event):
        (then if stumble.left == 1 else now)(billing, stock)
        stumble()

    space.broadcast("order").settle()
    (failure,) = space.failures
    assert isinstance(failure.exception, happen.NondeterminismError)
    assert re.search(text, str(failure.exception)), failure.exception
    assert failure.attempts == 2
    assert "node " in str(failure.exception)


# -- which events --------------------------------------------------------------------------------------------


def test_a_handler_starts_now_and_handles_later_what_is_stored_while_it_is_gone(space, billing):
    handled = []

    def handle(event):
        handled.append(event.payload)

    space.broadcast("order", 1)
    billing.on("order", handle, durable=True)
    space.broadcast("order", 2)
    space.settle()
    billing.off(handle)
    space.broadcast("order", 3)
    space.send("billing", "order", 4)
    assert [each.event.payload for each in space.unhandled] == [1]
    billing.on("order", handle, durable=True)
    space.broadcast("order", 5)
    space.settle()
    assert handled == [2, 3, 4, 5]
    assert [each.event.payload for each in space.unhandled] == [1]


def test_events_that_expired_while_it_was_gone_are_one_failure(store):
    with happen.connect(store=store, name="expiring", fresh=True, event_ttl=timedelta(seconds=1)) as space:
        billing, handled = space.create_node("billing"), []

        @billing.on("order", durable=True)
        def charge(event):
            handled.append(event.payload)

        space.broadcast("order", 0).settle()
        billing.off("order")
        for number in (1, 2):
            space.broadcast("order", number)
        while space.events("order"):
            time.sleep(0.02)
        billing.on("order", charge, durable=True)
        space.broadcast("order", 3).settle()
        assert handled == [0, 3]
        (failure,) = space.failures
        assert isinstance(failure.exception, happen.HistoryGoneError)
        assert re.search(r"on: up to \d+ events expired before node .billing", str(failure.exception))
        billing.off("order")
        billing.on("order", charge, durable=True)
        space.settle()
        assert len(space.failures) == 1  # reported once


def test_its_filter_refuses_events_for_good(space, billing):
    handled = []
    billing.on("order", lambda event: handled.append(event.payload), where=lambda event: event.payload > 1)
    billing.off("order")

    def handle(event):
        handled.append(event.payload)

    billing.on("order", handle, where=lambda event: event.payload > 1, durable=True)
    for number in (1, 2):
        space.broadcast("order", number)
    space.settle()
    billing.off(handle)
    assert [(each.event.payload, each.reason) for each in space.unhandled] == [(1, "where")]
    billing.on("order", handle, durable=True)
    space.settle()
    assert handled == [2]


def test_another_process_goes_on_where_this_one_stopped(space):
    code = """
    def handle(event):
        stock.state.set(happen.put(str(event.payload), space.name))
        stock.broadcast("handled", event.payload)
    stock.on("n", handle, durable=True)
    """
    elsewhere(space, code)
    for number in (1, 2):
        space.broadcast("n", number)
    assert len(space.unhandled) == 0
    elsewhere(space, f"{code}\n    space.settle()")
    elsewhere(space, f"{code}\n    space.settle()")
    assert set(space.views.stock.get()) == {"1", "2"}
    assert [event.payload for event in space.events("handled")] == [1, 2]


def test_a_live_owner_ends_what_it_runs_before_the_next_one_goes_on(space, billing, gate):
    handled = []

    def handle(event, context):
        context.once("call", handled.append, event.payload)
        gate.wait(20)
        billing.broadcast("handled", event.payload)

    handle.__qualname__ = "handle"
    billing.on("order", handle, durable=True)
    for number in range(3):
        space.broadcast("order", number)
    opener = threading.Thread(target=open_when_owned_elsewhere, args=(billing, gate))
    opener.start()
    elsewhere(
        space,
        """
        billing = space.create_node("billing")
        def handle(event, context):
            assert context.once("call", lambda: "elsewhere") == "elsewhere"
            billing.broadcast("handled", event.payload)
        billing.on("order", handle, durable=True)
        space.settle()
        assert not space.failures
        """,
    )
    opener.join()
    assert handled == [0]
    assert [event.payload for event in space.events("handled")] == [0, 1, 2]


def open_when_owned_elsewhere(node, gate):
    deadline = time.monotonic() + 20
    while node.owner.here and time.monotonic() < deadline:
        time.sleep(0.01)
    gate.set()


# -- registering ---------------------------------------------------------------------------------------------


def test_it_shows_as_durable_in_handlers_and_traces(space, billing):
    @billing.on("order", durable=True)
    def charge(event):
        billing.broadcast("paid")

    billing.on("paid", lambda event: None)
    assert [handler.durable for handler in billing.handlers] == [True, False]
    assert repr(billing.handlers[0]) == "Handler of billing · order → charge · durable"
    assert "order  notebook → billing durable" in repr(space.broadcast("order").settle())


def test_two_equal_ones_in_one_run_are_refused(billing):
    def charge(event):
        pass

    billing.on("order", charge, durable=True)
    with pytest.raises(ValueError, match=r'on: node "billing" already has "order" -> .*charge; rename one'):
        billing.on("order", charge, durable=True)
    billing.on("paid", charge, durable=True)
    billing.on("order", charge)
    assert len(billing.handlers) == 3


def test_a_notice_names_a_handler_that_nobody_continues(space, billing, capsys):
    def charge(event):
        pass

    def charge_card(event):
        pass

    charge.__qualname__, charge_card.__qualname__ = "charge", "charge_card"
    billing.on("order", charge, durable=True)
    space.broadcast("order").settle()
    billing.off(charge)
    for number in range(2):
        space.broadcast("order", number)
    capsys.readouterr()
    billing.on("order", charge_card, durable=True)
    shown = "".join(capsys.readouterr())
    assert (
        'node "billing": no handler continues "order charge", 2 events wait for it; to continue it' in shown
    )
    billing.on("order", charge, durable=True)
    space.settle()
    assert len(space.unhandled) == 0


def test_state_handlers_come_first_for_what_was_missed(space, billing):
    seen = []

    def count_it(state, event):
        return {**state, "n": event.payload}

    def look(event):
        seen.append((event.payload, billing.state.get("n")))

    billing.state.on("order", count_it)
    billing.on("order", look, durable=True)
    billing.off("order")
    for number in range(3):
        space.broadcast("order", number)
    billing.state.on("order", count_it)
    billing.on("order", look, durable=True)
    space.broadcast("order", 3)
    space.settle()
    assert [number for number, _ in seen] == [0, 1, 2, 3]
    assert all(state >= number for number, state in seen)


def test_a_stopped_handler_is_run_again_when_it_is_registered_again(space, billing, gate):
    starts = []

    def charge(event):
        starts.append(event.payload)
        billing.state.set(count("paid"))
        gate.wait(20)
        billing.broadcast("paid")

    billing.on("order", charge, durable=True)
    space.broadcast("order", 1)
    billing.state.wait_for(lambda state: state)
    billing.off(charge)
    assert len(space.unhandled) == 0
    gate.set()
    billing.on("order", charge, durable=True)
    space.settle()
    assert starts == [1, 1]
    assert billing.state.get() == {"paid": 1}
    assert types(space) == ["order", "paid"]
    assert len(space.failures) == 0


# -- failures and replies ------------------------------------------------------------------------------------


def test_a_failed_event_does_not_hold_up_the_later_ones_and_is_not_run_again_by_itself(space, billing):
    def charge(event):
        billing.state.set(happen.put(str(event.payload), True))
        if event.payload == 1 and not billing.state.get("repaired"):
            raise ValueError("broken")

    billing.on("order", charge, durable=True)
    for number in range(3):
        space.broadcast("order", number)
    space.settle()
    assert set(billing.state.get()) == {"0", "1", "2"}
    billing.off(charge)
    billing.on("order", charge, durable=True)
    space.settle()
    assert len(space.failures) == 1
    billing.state.set(happen.put("repaired", True))
    failure = space.failures[0]
    space.failures.retry()
    revision = billing.state.revision
    failure.retry()  # it is done
    assert billing.state.revision == revision
    assert len(space.failures) == 0


def test_it_replies_its_result_or_its_error(space, billing):
    billing.on("price", lambda event: 2 * event.payload, durable=True)
    billing.on("fail", lambda event: 1 / event.payload, durable=True)
    assert billing.send("billing", "price", 3).result() == 6
    with pytest.raises(happen.HandlerError, match="ZeroDivisionError"):
        billing.send("billing", "fail", 0).result()


def test_a_second_run_receives_the_error_that_the_first_one_received(space, billing, stock):
    stumble, calls, errors = Stumbles(), [], []

    @stock.on("take")
    def take(event):
        calls.append(1)
        raise ValueError(f"sold out {len(calls)}")

    @billing.on("order", durable=True)
    def charge(event):
        try:
            billing.send("stock", "take").result()
        except happen.HandlerError as error:
            errors.append(str(error))
        stumble()

    space.broadcast("order").settle()
    for failure in space.failures:
        if failure.node == "billing":
            failure.retry()
    assert len(calls) == 1
    assert errors[0] == errors[1]
    assert "sold out 1" in errors[0]


# -- the space -----------------------------------------------------------------------------------------------


def test_it_goes_on_after_a_clear(space, billing):
    handled = []
    billing.on("order", lambda event: handled.append(event.payload), durable=True)
    space.broadcast("order", 1).settle()
    space.clear()
    space.broadcast("order", 2).settle()
    assert handled == [1, 2]
    billing.off("order")
    space.broadcast("order", 3)
    assert len(space.unhandled) == 0


def test_a_deleted_node_starts_anew(space, billing):
    handled = []

    def charge(event):
        handled.append(event.payload)

    billing.on("order", charge, durable=True)
    space.broadcast("order", 1).settle()
    billing.delete()
    space.broadcast("order", 2)
    again = space.create_node("billing")
    again.on("order", charge, durable=True)
    space.broadcast("order", 3).settle()
    assert handled == [1, 3]


def test_a_fork_has_no_durable_handlers(space, billing):
    @billing.on("order", durable=True)
    def charge(event):
        billing.state.set(count("paid"))

    space.broadcast("order").settle()
    fork = space.fork("durable-fork")
    try:
        copy = fork.create_node("billing")
        assert len(copy.handlers) == 0
        fork.broadcast("order")
        assert len(fork.unhandled) == 1
        copy.on("order", charge, durable=True)
        fork.settle()
        assert copy.state.get() == billing.state.get() == {"paid": 1}
    finally:
        fork.drop()


def test_the_commits_of_a_handling_that_has_not_ended_are_not_trimmed(space, billing):
    stumble, revisions = Stumbles(), []

    @billing.on("order", durable=True)
    def charge(event):
        revisions.append(billing.state.set(count("paid")).revision)
        stumble()

    def trimmed():
        log = space._runtime.log
        newest = log.replica.newest("billing")
        later = CommitRecord("billing", newest.sequence, newest.revision, newest.time + 120 * 10**9, b"{}")
        info = happen.run(on_stream(log.stream.info))._replace(history=1)
        return happen.run(on_stream(log.stream.trim, later, 2, info))

    billing.state.set({"paid": 0})
    space.broadcast("order").settle()
    for number in range(3):
        billing.state.set(happen.put("n", number))
    assert trimmed() == 1
    space.failures.retry()
    assert revisions == [2, 2]
    happen.run(on_stream(space._runtime.dispatcher.handled.flush))
    assert trimmed() == 3


async def on_stream(call, *arguments):
    return await run_awaitable(_on_io(call, *arguments))


async def _on_io(call, *arguments):
    return await on_io(call(*arguments))


@pytest.mark.parametrize("name", ["a\nb", "\u202eabc", "half \ud800", "x" * 2_000])
def test_a_handling_counts_whatever_the_handler_is_called(space, orders, name):
    def charge(event):
        orders.state.set({"paid": event.payload})

    charge.__qualname__ = name
    orders.on("pay", charge, durable=True)
    event = orders.broadcast("pay", 1)
    space.settle()
    assert event.handled_by == ("orders",)
