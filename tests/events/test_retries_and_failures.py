"""A handler that raises is retried as often as requested; then it is a failure that can be retried."""

from __future__ import annotations

import asyncio
import time
from itertools import pairwise

import pytest

import happen_nb as happen
from happen_nb._api.base import runtime_of


def test_a_handler_that_raises_is_called_again_until_it_works(space, orders):
    attempts = []

    def flaky(event, context):
        attempts.append(context.attempt)
        if context.attempt < 3:
            raise ValueError("not yet")
        return "worked"

    orders.on("a", flaky, retries=5, backoff=0.001)
    assert space.send("orders", "a").result() == "worked"
    assert attempts == [1, 2, 3]
    assert len(space.failures) == 0


@pytest.mark.parametrize("kind", ["plain", "async", "generator", "async generator"])
def test_every_kind_is_repeated(space, orders, kind):
    attempts = []

    def fail(event):
        attempts.append(event.type)
        if len(attempts) < 3:
            raise ValueError("not yet")

    async def coroutine(event):
        await asyncio.sleep(0)
        fail(event)

    def generator(event):
        yield 1
        fail(event)

    async def async_generator(event):
        yield 1
        fail(event)

    kinds = {"plain": fail, "async": coroutine, "generator": generator, "async generator": async_generator}
    orders.on("a", kinds[kind], retries=2, backoff=0)
    space.broadcast("a")
    space.settle()
    assert (len(attempts), len(space.failures)) == (3, 0)


def test_after_the_last_retry_it_is_one_failure_with_all_its_attempts(space, orders, capsys):
    calls = []

    def broken(event):
        calls.append(event)
        raise ValueError("never")

    orders.on("a", broken, retries=2, backoff=0.001)
    event = orders.broadcast("a", {"n": 1})
    space.settle()

    (failure,) = space.failures
    assert len(calls) == 3
    assert (failure.node, failure.attempts, failure.event.id) == ("orders", 3, event.id)
    assert failure.handler.endswith("broken")
    assert isinstance(failure.exception, ValueError)
    assert "broken" in failure.traceback
    assert 'raise ValueError("never")' in failure.traceback
    assert capsys.readouterr().err.count("ValueError: never") == 1


def test_without_retries_it_is_called_once(space, orders):
    calls = []
    orders.on("a", lambda event: calls.append(1) or 1 / 0)
    space.broadcast("a")
    space.settle()
    assert (calls, space.failures[0].attempts) == ([1], 1)


def test_other_events_of_the_node_go_on_while_a_retry_waits(space, orders):
    order = []

    def flaky(event, context):
        order.append(("flaky", context.attempt))
        if context.attempt == 1:
            raise ValueError

    orders.on("a", flaky, retries=1, backoff=1)  # longer than a busy machine takes for the others
    orders.on("b", lambda event: order.append("b"))
    space.broadcast("a")
    for _ in range(3):
        space.send("orders", "b").result()
    space.settle()

    assert order == [("flaky", 1), "b", "b", "b", ("flaky", 2)]


def test_each_retry_waits_twice_as_long_as_the_one_before(space, orders):
    times = []

    def broken(event):
        times.append(time.monotonic())
        raise ValueError

    orders.on("a", broken, retries=3, backoff=0.02)
    space.broadcast("a")
    space.settle()

    pauses = [after - before for before, after in pairwise(times)]
    assert all(pause >= least for pause, least in zip(pauses, (0.02, 0.04, 0.08), strict=True))


def test_only_the_failed_handler_is_repeated(space, orders):
    calls = []

    def flaky(event, context):
        calls.append("flaky")
        if context.attempt == 1:
            raise ValueError

    orders.on("a", lambda event: calls.append("before"))
    orders.on("a", flaky, retries=1, backoff=0.5)  # longer than a busy machine takes for the third
    orders.on("a", lambda event: calls.append("after"))
    space.broadcast("a")
    space.settle()
    assert calls == ["before", "flaky", "after", "flaky"]


def test_a_retry_goes_on_from_the_failed_step_with_the_same_context(space, orders):
    calls = []

    def first(event, context):
        calls.append("first")
        context.total = 10
        return second

    def second(event, context):
        calls.append(("second", context.attempt))
        context.total += 1
        if context.attempt < 3:
            raise ValueError
        return context.total

    orders.on("a", first, retries=2, backoff=0.001)
    assert space.send("orders", "a").result() == 13
    assert calls == ["first", ("second", 1), ("second", 2), ("second", 3)]


def test_settle_and_the_reply_wait_for_the_last_attempt(space, orders):
    done = []

    def flaky(event, context):
        if context.attempt < 3:
            raise ValueError
        done.append(context.attempt)

    orders.on("a", flaky, retries=2, backoff=0.05)
    trace = space.broadcast("a").settle()
    assert done == [3]
    assert [record.attempts for record in trace.root.handled] == [3]
    space.broadcast("a")
    space.settle()
    assert done == [3, 3]


def test_an_id_makes_an_event_that_a_retry_emits_again_stored_once(space, orders, stock):
    got = []
    stock.on("parcel.send", lambda event: got.append(event.id))

    def pay(event, context):
        orders.broadcast("parcel.send", {"of": event.id}, id=f"parcel-{event.id}")
        if context.attempt < 3:
            raise ValueError("after it was told")

    orders.on("order.paid", pay, retries=2, backoff=0.001)
    event = orders.broadcast("order.paid")
    space.settle()
    assert got == [f"parcel-{event.id}"]


# -- failures ------------------------------------------------------------------------------------------------


def test_a_failure_is_handled_again_after_a_fix(space, orders):
    broken, done = [True], []

    def handler(event):
        if broken:
            raise ValueError(event.payload)
        done.append(event.payload)

    orders.on("a", handler)
    for n in range(3):
        orders.broadcast("a", n)
    space.settle()
    assert [failure.event.payload for failure in space.failures] == [0, 1, 2]

    retried = space.failures.retry()
    assert (retried.succeeded, retried.failed) == (0, 3)
    assert [failure.attempts for failure in space.failures] == [2, 2, 2]
    with pytest.raises(ValueError, match="1"):
        space.failures[1].retry()
    broken.clear()
    space.failures[1].retry()
    assert (done, len(space.failures)) == ([1], 2)
    retried = space.failures.retry(orders)
    assert (retried.succeeded, retried.failed, done, len(space.failures)) == (2, 0, [1, 0, 2], 0)


def test_one_poison_message_does_not_stop_the_others(space, orders):
    broken, done = [True], []

    def handler(event):
        if broken or event.payload == 1:
            raise ValueError(f"poison {event.payload}")
        done.append(event.payload)

    orders.on("a", handler)
    for n in range(3):
        orders.broadcast("a", n)
    space.settle()
    broken.clear()
    retried = space.failures.retry()

    assert (retried.succeeded, retried.failed, done) == (2, 1, [0, 2])
    assert [failure.event.payload for failure in space.failures] == [1]
    assert repr(retried) == "Retried 3 failures · 2 succeeded · 1 failed again\n  ValueError: poison 1"


def test_what_fails_again_in_another_way_is_still_one_failure(space, orders):
    errors = [ValueError("first"), KeyError("second")]
    orders.on("a", lambda event: (_ for _ in ()).throw(errors.pop(0)))
    space.broadcast("a")
    space.settle()
    with pytest.raises(KeyError):
        space.failures[0].retry()

    (failure,) = space.failures
    assert (type(failure.exception), failure.attempts) == (KeyError, 2)
    assert "second" in failure.traceback


def test_a_fixed_function_of_the_same_name_is_what_retry_calls(space, orders):
    done = []

    def handler(event):
        raise ValueError

    orders.on("a", handler)
    orders.broadcast("a")
    space.settle()
    orders.off(handler)

    def handler(event):
        done.append(event.payload)

    orders.on("a", handler)
    space.failures.retry()
    assert done == [None]
    assert len(space.failures) == 0


def test_retrying_calls_the_failed_handler_only(space, orders):
    done = []
    broken = [True]

    def failing(event):
        if broken:
            raise ValueError

    orders.on("a", lambda event: done.append("other"))
    orders.on("a", failing)
    orders.broadcast("a")
    space.settle()
    broken.clear()
    space.failures.retry()
    assert done == ["other"]


def test_retrying_without_a_handler_is_a_clear_error_and_keeps_the_failure(space, orders):
    orders.on("a", lambda event: 1 / 0)
    orders.broadcast("a")
    space.settle()
    orders.off("a")
    with pytest.raises(happen.NoHandlerError, match='"a"'):
        space.failures[0].retry()
    retried = space.failures.retry()
    assert (retried.failed, len(space.failures)) == (1, 1)
    assert '"a"' in retried.errors[0]


def test_retrying_one_nodes_failures_leaves_the_others(space, orders, stock):
    broken = [True]
    for node in (orders, stock):
        node.on("a", lambda event: 1 / 0 if broken else None)
    space.broadcast("a")
    space.settle()
    broken.clear()
    space.failures.retry("stock")
    assert [failure.node for failure in space.failures] == ["orders"]
    space.failures.clear()
    assert len(space.failures) == 0


def test_failures_are_rows_of_a_frame(space, orders):
    orders.on("a", lambda event: 1 / 0)
    space.broadcast("a")
    space.settle()
    (row,) = space.failures.to_frame().itertuples(index=False)
    assert (row.node, row.event, row.exception, row.attempts) == ("orders", "a", "ZeroDivisionError", 1)
    event = space.events()[0]
    assert (row.id, row.time) == (event.id, event.time)


def test_a_failure_caused_by_another_shows_both(space, orders):
    def handler(event):
        try:
            {}["deep"]
        except KeyError as error:
            raise ValueError("high") from error

    orders.on("a", handler)
    space.broadcast("a")
    space.settle()
    assert "KeyError: 'deep'" in space.failures[0].traceback


@pytest.mark.parametrize("what", ["failures", "unhandled"])
def test_retrying_in_a_handler_of_the_same_node_is_an_error_instead_of_a_circle(space, orders, what):
    space.broadcast("early")
    orders.on("a", lambda event: 1 / 0)
    space.broadcast("a")
    space.settle()
    orders.on("early", print)
    orders.on("mend", lambda event: getattr(space, what).retry())
    with pytest.raises(happen.HandlerError, match="wait for itself"):
        space.send("orders", "mend").result(timeout=5)


def test_retrying_in_an_async_handler_is_an_error_that_names_the_way_out(space, orders, stock):
    async def mend(event):
        space.failures.retry()

    orders.on("a", lambda event: 1 / 0)
    space.broadcast("a")
    space.settle()
    stock.on("mend", mend)
    with pytest.raises(happen.HandlerError, match="to_thread"):
        space.send("stock", "mend").result(timeout=5)


def test_another_nodes_handler_may_retry(space, orders, stock):
    broken, done = [True], []
    orders.on("a", lambda event: 1 / 0 if broken else done.append(event.type))
    space.broadcast("a")
    space.settle()
    broken.clear()

    async def mend(event):
        await asyncio.to_thread(space.failures.retry)

    stock.on("mend", mend)
    stock.on("mend too", lambda event: space.failures.retry())
    space.send("stock", "mend").result(timeout=5)
    space.send("stock", "mend too").result(timeout=5)
    assert (done, len(space.failures)) == (["a"], 0)


def test_a_retry_whose_handling_breaks_off_has_not_succeeded(space, orders, monkeypatch):
    orders.on("a", lambda event: 1 / event.payload)
    orders.broadcast("a", 0).settle()
    host = runtime_of(space).dispatcher.host
    monkeypatch.setattr(host, "event", lambda record: 1 / 0)  # an error of the library, not of the handler
    with pytest.raises(happen.errors.HandlerError, match="ended unexpectedly: ZeroDivisionError"):
        space.failures[0].retry()
    assert len(space.failures) == 1
