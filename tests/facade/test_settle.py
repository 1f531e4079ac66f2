"""``space.settle``: waits until all effects are done."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import happen_nb as happen
from happen_nb._runtime.lanes import Lanes


@pytest.fixture
def orders(space):
    return space.create_node("orders", initial={"n": 0})


def test_settle_waits_for_the_watches_of_what_was_committed(space, orders):
    seen = []
    orders.state.watch(lambda commit: seen.append(commit.revision))
    for n in range(1, 101):
        orders.state.set({"n": n})

    space.settle()

    assert seen == list(range(2, 102))


def test_settle_waits_for_what_watches_commit_and_for_the_watches_of_that(space, orders):
    chain = [space.create_node(f"n{n}", initial={"n": 0}) for n in range(5)]
    seen = []
    for one, other in zip([orders, *chain], chain, strict=False):
        one.state.watch(lambda commit, other=other: other.state.set({"n": commit.after["n"]}))
    chain[-1].state.watch(lambda commit: seen.append(commit.after["n"]))

    orders.state.set({"n": 7})
    space.settle()

    assert seen == [7]


def test_settle_returns_at_once_when_nothing_is_going_on(space, orders):
    space.settle(timeout=0)


def test_settle_names_what_still_runs(space, orders):
    may_go = threading.Event()

    def dawdle(commit):
        may_go.wait(60)

    orders.state.watch(dawdle)
    orders.state.set({"n": 1})

    with pytest.raises(TimeoutError, match=r'dawdle.*"orders"'):
        space.settle(timeout=0.05)

    may_go.set()
    space.settle()


def test_settle_in_a_watch_callback_is_an_error_instead_of_a_circle(space, orders):
    orders.state.watch(lambda commit: space.settle())
    orders.state.set({"n": 1})

    space.settle()

    (failure,) = space.failures
    assert isinstance(failure.exception, happen.HappenError)
    assert "wait for itself" in str(failure.exception)


def test_settle_in_a_transform_is_a_transform_error(space, orders):
    with pytest.raises(happen.TransformError):
        orders.state.set(lambda s: space.settle() or s)


def test_failures_retry_calls_again_and_removes_what_succeeds(space, orders):
    broken = True
    done = []

    def callback(commit):
        if broken:
            raise ValueError(commit.after["n"])
        done.append(commit.after["n"])

    orders.state.watch(callback)
    other = space.create_node("other")
    other.state.watch(callback)
    orders.state.set({"n": 1})
    other.state.set({"n": 2})
    space.settle()

    assert space.failures.retry().failed == 2
    assert len(space.failures) == 2
    broken = False
    space.failures.retry("other")
    assert (done, [failure.node for failure in space.failures]) == ([2], ["orders"])
    space.failures.retry()
    assert (done, list(space.failures)) == ([2, 1], [])


@pytest.mark.parametrize("clock", ["real", "manual"])
def test_settle_ends_when_another_thread_closes_the_space(clock, until):
    may_go_on = threading.Event()
    with happen.connect(store=":memory:", name="closes", clock=clock) as space, ThreadPoolExecutor(1) as pool:
        node = space.create_node("node")
        node.state.on("wait", lambda _, __: may_go_on.wait(60) and {})
        for _ in range(3):
            node.broadcast("wait")
        settled = pool.submit(space.settle, timeout=60)
        try:
            until(lambda: space._runtime.in_flight._waits)
            space.close()
            with pytest.raises(happen.ClosedError, match="was closed while this waited"):
                settled.result(30)
        finally:
            may_go_on.set()


@pytest.mark.parametrize("waiting", [0, 3])
def test_settle_is_not_done_when_the_space_is_closed_while_a_state_handler_catches_up(
    monkeypatch, until, waiting
):
    async def read_on(lanes, node, going_on):
        while going_on():  # noqa: ASYNC110 - ownership changes in between
            await asyncio.sleep(0.001)
        return 0

    monkeypatch.setattr(Lanes, "_read_up", read_on)
    with happen.connect(store=":memory:", name="closes") as space, ThreadPoolExecutor(1) as pool:
        node = space.create_node("node")
        node.state.on("count", lambda state, _: {"n": state.get("n", 0) + 1}, start="beginning")
        for _ in range(waiting):
            node.broadcast("count")
        settled = pool.submit(space.settle, timeout=60)
        until(lambda: space._runtime.in_flight._waits)
        space.close()
        with pytest.raises(happen.ClosedError, match="was closed while this waited"):
            settled.result(30)
