"""Tracebacks: the user's own lines, and two that lead into the library."""

from __future__ import annotations

import asyncio
import threading
import traceback

import pytest

import happen_nb as happen


@pytest.fixture
def orders(space):
    return space.create_node("orders", initial={"n": 1})


def lines_of(call):
    """The functions that the traceback of a call names, this test's first."""
    with pytest.raises(BaseException) as caught:
        call()
    return [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)][2:]


def bad(state):
    return {"n": state["missing"]}


def test_an_error_of_a_transform_shows_the_transform_right_below_the_call(orders):
    assert lines_of(lambda: orders.state.set(bad)) == ["set", "run_blocking", "bad"]


def test_an_error_of_the_library_ends_at_the_call(orders):
    assert lines_of(lambda: orders.state.set({"n": {1}})) == ["set", "run_blocking"]
    assert lines_of(lambda: orders.state.wait_for(lambda s: False, timeout=0.01)) == [
        "wait_for",
        "run_blocking",
    ]


def test_no_other_error_is_chained_to_it(orders):
    with pytest.raises(happen.HappenConnectionError) as caught:
        happen.connect("nats://127.0.0.1:1", timeout=0.2)

    assert len("".join(traceback.format_exception(caught.value)).splitlines()) < 20


def test_an_awaited_call_is_as_short(orders):
    async def work():
        await orders.state.aset(bad)

    names = lines_of(lambda: asyncio.run(work()))

    assert names[names.index("work") :] == ["work", "aset", "run_awaitable", "bad"]


# -- errors that are raised again ----------------------------------------------------------------------------


def length(error):
    return len(traceback.extract_tb(error.__traceback__))


def raised(call):
    with pytest.raises(Exception) as caught:
        call()
    return caught.value


def closed(store, name):
    space = happen.connect(store=store, name=name)
    node = space.create_node("orders")
    space.drop()
    return node


def test_each_error_of_a_closed_space_is_a_new_one_with_a_traceback_of_its_own(store):
    node = closed(store, "closed_and_asked")
    calls = {
        "get": node.state.get,
        "set": lambda: node.state.set({}),
        "broadcast": lambda: node.broadcast("a"),
        "settle": node.space.settle,
        "events": node.space.events,
    }
    for call in calls.values():
        errors = [raised(call) for _ in range(4)]
        assert {type(error) for error in errors} == {happen.ClosedError}
        assert len({id(error) for error in errors}) == 4
        assert len({length(error) for error in errors}) == 1


def test_all_threads_that_wait_when_a_space_is_closed_get_an_error_each(store):
    space = happen.connect(store=store, name="closed_while_many_waited")
    node = space.create_node("orders")
    errors = []

    def wait():
        errors.append(raised(lambda: node.state.wait_for(lambda state: False, timeout=30)))

    threads = [threading.Thread(target=wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    threading.Event().wait(0.1)
    space.close()
    for thread in threads:
        thread.join(10)

    assert {type(error) for error in errors} == {happen.ClosedError}
    assert len({id(error) for error in errors}) == 3


@pytest.mark.parametrize("end", ["failed", "cancelled", "no handler"])
def test_the_error_of_a_reply_does_not_grow(space, orders, end):
    may_go = threading.Event()
    if end != "no handler":
        orders.on("a", lambda event: 1 / 0 if end == "failed" else may_go.wait(20))
    reply = space.send("orders", "a")
    if end == "cancelled":
        reply.cancel()
    errors = [raised(reply.result) for _ in range(4)]

    assert len({id(error) for error in errors}) == 4
    assert len({length(error) for error in errors}) == 1
    assert len({str(error) for error in errors}) == 1
    assert type(errors[0]) is type(reply.error)
    may_go.set()
    assert vars(errors[0]) == vars(reply.error)


def test_the_error_of_a_replay_does_not_grow_and_shows_the_row_that_raised(space):
    def rows():
        yield {"n": 1}
        raise ValueError("no more rows")

    replay = space.replay(rows(), type="row")
    errors = [raised(replay.wait) for _ in range(3)]

    assert {str(error) for error in errors} == {"no more rows"}
    frames = [frame.name for frame in traceback.extract_tb(errors[-1].__traceback__)]
    assert frames.count("rows") == 1
    assert frames.count("wait") == 1
