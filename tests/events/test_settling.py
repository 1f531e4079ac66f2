"""``space.settle`` and ``event.settle``: wait until all effects are committed and handled."""

from __future__ import annotations

import asyncio
import pickle
import threading
from queue import SimpleQueue

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import happen_nb as happen
from happen_nb._journal.stream import Stream
from happen_nb._runtime.io import io_thread


def test_settle_waits_for_handlers_and_for_all_that_follows(space):
    nodes = [space.create_node(f"n{n}") for n in range(10)]
    for n, node in enumerate(nodes):
        node.on(f"step.{n}", lambda event, node=node, n=n: node.broadcast(f"step.{n + 1}"))
    done = []
    nodes[0].on("step.10", lambda event: done.append(event.type))
    space.broadcast("step.0")
    space.settle()
    assert done == ["step.10"]


def test_settle_waits_for_watches_of_handlers_and_handlers_of_watches(space, orders, stock):
    done = []
    orders.on("a", lambda event: orders.state.set({"n": 1}))
    orders.state.watch(lambda commit: stock.broadcast("b"))

    async def last(event):
        await asyncio.sleep(0.05)
        done.append(event.type)

    stock.on("b", last)
    space.broadcast("a")
    space.settle()
    assert done == ["b"]


def test_settle_waits_for_what_was_sent_without_waiting(space, orders, stock):
    done = []
    stock.on("b", lambda event: done.append(event.type))
    orders.on("a", lambda event: orders.send("stock", "b") and None)
    space.send("orders", "a")
    space.settle()
    assert done == ["b"]


def test_settle_does_not_wait_for_tasks_that_a_handler_left_behind(space, orders):
    async def handler(event):
        handler.task = asyncio.create_task(asyncio.sleep(60))

    orders.on("a", handler)
    space.broadcast("a")
    space.settle(timeout=5)
    handler.task.get_loop().call_soon_threadsafe(handler.task.cancel)


def test_settle_does_not_wait_for_what_began_after_it(space, orders, stock, gate):
    """Only for what was caused so far: an endless flood elsewhere does not keep it."""
    entered = threading.Event()
    orders.on("a", lambda event: entered.set() or gate.wait(10))
    space.broadcast("a")
    assert entered.wait(10)
    stop = threading.Event()
    stock.on("flood", lambda event: None)

    def flood():
        while not stop.wait(0.001):
            space.broadcast("flood")

    flooding = threading.Thread(target=flood)
    flooding.start()
    gate.set()
    try:
        space.settle(timeout=5)
    finally:
        stop.set()
        flooding.join()


def test_settle_names_what_still_runs(space, orders, gate):
    orders.on("slow.one", lambda event: gate.wait(10))
    for _ in range(3):
        orders.broadcast("slow.one")
    with pytest.raises(happen.HappenTimeoutError, match=r'node "orders" handling "slow\.one" \(3\)'):
        space.settle(timeout=0.05)
    gate.set()
    space.settle()


def test_settle_names_only_the_first_of_many_that_still_run(space, gate):
    for n in range(30):
        space.create_node(f"n{n}").on("slow", lambda event: gate.wait(10))
    space.broadcast("slow")
    with pytest.raises(happen.HappenTimeoutError, match=r'(node "n\d+" handling "slow", ){10}and 20 more$'):
        space.settle(timeout=0.05)
    gate.set()
    space.settle()


@pytest.mark.parametrize("kind", ["space", "event"])
def test_settle_is_woken_by_the_last_effect_instead_of_looking(space, orders, gate, monkeypatch, kind):
    orders.on("slow", lambda event: gate.wait(10))
    event = space.broadcast("slow")
    turns = []
    loop = io_thread().loop
    call_at = loop.call_at

    def counted(when, *args, **options):
        turns.append(when)
        return call_at(when, *args, **options)

    monkeypatch.setattr(loop, "call_at", counted)
    opening = threading.Timer(0.5, gate.set)
    opening.start()
    (space if kind == "space" else event).settle()
    assert gate.is_set()
    assert len(turns) < 25  # of the follower, mostly; looking every 2 ms would take 250
    opening.join()


def test_waits_end_in_any_order(space, orders, stock):
    """Each waits for its own: what ends one does not wake the others, and none is forgotten."""
    gates = [threading.Event() for _ in range(3)]
    ended = []
    for number, node in enumerate([orders, stock, space.create_node("office")]):
        node.on(f"step.{number}", lambda event, number=number: gates[number].wait(10))
    events = [space.broadcast(f"step.{number}") for number in range(3)]

    def wait(number):
        events[number].settle()
        ended.append(number)

    waits = [threading.Thread(target=wait, args=[number]) for number in range(3)]
    for each in waits:
        each.start()
    for number in (1, 2, 0):
        gates[number].set()
        waits[number].join(10)
    assert ended == [1, 2, 0]
    space.settle(timeout=0)


@pytest.mark.parametrize("kind", ["space", "event"])
def test_settle_in_a_handler_is_an_error_instead_of_a_circle(space, orders, kind):
    def handler(event):
        (space if kind == "space" else event).settle()

    orders.on("a", handler)
    space.broadcast("a")
    space.settle()
    (failure,) = space.failures
    assert isinstance(failure.exception, happen.HappenError)
    assert "wait for itself" in str(failure.exception)
    assert "orders" in str(failure.exception) or "handling" in str(failure.exception)


@pytest.mark.parametrize("kind", ["space", "event"])
def test_its_awaitable_twin_in_an_async_handler_is_an_error_too(space, orders, kind):
    async def handler(event):
        await (space if kind == "space" else event).asettle()

    orders.on("a", handler)
    space.broadcast("a")
    space.settle()
    assert "wait for itself" in str(space.failures[0].exception)


def test_settle_is_awaited_in_a_loop(space, orders):
    done = []

    async def handler(event):
        await asyncio.sleep(0.02)
        done.append(event.type)

    orders.on("a", handler)

    async def use():
        event = await space.abroadcast("a")
        await space.asettle()
        assert done == ["a"]
        return await event.asettle()

    assert [node.event.type for node in asyncio.run(use())] == ["a"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, 3), max_size=4), st.booleans())
def test_settle_leaves_nothing_of_any_tree_of_effects(space, orders, widths, slowly):
    """Each event of one level causes so many of the next; all of them are there when settle returns."""
    seen = []

    async def grow(event):
        if slowly:
            await asyncio.sleep(0.001)
        seen.append(event.payload)
        if event.payload < len(widths):
            for _ in range(widths[event.payload]):
                await orders.abroadcast("grow", event.payload + 1)

    orders.on("grow", grow)
    root = space.broadcast("grow", 0)
    space.settle()
    orders.off(grow)

    expected, size = [0], 1
    for level, width in enumerate(widths, 1):
        size *= width
        expected += [level] * size
    assert sorted(seen) == expected
    trace = root.settle()
    assert sorted(node.event.payload for node in trace) == expected


# -- event.settle and traces ---------------------------------------------------------------------------------


@pytest.fixture
def readings(monkeypatch):
    """The kinds of messages that are read from the journal."""
    kinds = []
    read = Stream.read

    async def counted(self, kind, *args, **options):
        kinds.append(kind)
        return await read(self, kind, *args, **options)

    monkeypatch.setattr(Stream, "read", counted)
    return kinds


def test_settling_an_event_reads_nothing_until_its_trace_is_looked_at(space, orders, stock, readings):
    orders.on("a", lambda event: orders.broadcast("b"))
    stock.on("b", lambda event: stock.state.set({"n": 1}))
    trace = space.broadcast("a").settle()
    assert readings == []
    assert len(list(trace)) == 3
    assert readings
    readings.clear()
    assert "b" in str(trace)
    assert readings == []  # once is enough


def test_settling_waits_for_watches_that_follow_and_for_what_they_emit(space, orders, stock, gate, until):
    done, watched = [], threading.Event()
    orders.on("a", lambda event: orders.state.set({"n": 1}))
    orders.state.watch(lambda commit: watched.set() or (gate.wait(10) and stock.broadcast("b")))
    stock.on("b", lambda event: done.append(event.type))
    event = space.broadcast("a")
    assert watched.wait(10)
    until(lambda: not space._runtime.dispatcher.queue("orders").open)  # the handler that led to it has ended
    with pytest.raises(happen.HappenTimeoutError, match='watching "orders"'):
        event.settle(timeout=0.1)
    gate.set()
    assert [node.event.type for node in event.settle() if node.event] == ["a", "b"]
    assert done == ["b"]


def test_settling_an_effect_does_not_wait_for_its_cause(space, orders, stock, gate):
    emitted = SimpleQueue()

    def handler(event):
        emitted.put(orders.broadcast("b"))
        gate.wait(10)

    orders.on("a", handler)
    stock.on("b", lambda event: stock.state.set({"n": 1}))
    space.broadcast("a")
    assert len(list(emitted.get(timeout=10).settle(timeout=5))) == 2
    assert not gate.is_set()


def test_a_trace_that_was_looked_at_outlives_its_space(space, orders, readings):
    orders.on("a", lambda event: None)
    seen, unseen, copied = (space.broadcast("a").settle() for _ in range(3))
    assert len(list(seen)) == 1
    copied = pickle.loads(pickle.dumps(copied))
    space.close()
    assert len(list(seen)) == len(list(copied)) == 1
    assert f'the space "{space.name}" was closed' in " ".join(repr(unseen).split())
    with pytest.raises(happen.ClosedError) as caught:
        list(unseen)
    assert "was not read while the space was open" in caught.value.__notes__[0]


def test_a_trace_of_an_event_that_was_cleared_meanwhile_is_an_error(space, orders):
    orders.on("a", lambda event: None)
    event = space.broadcast("a")
    trace = event.settle()
    space.clear()
    shown = repr(trace), trace._repr_mimebundle_()["text/html"]
    assert all("the space was cleared before the trace was read" in each for each in shown)
    for read in (lambda: list(trace), lambda: space.trace(event)):
        with pytest.raises(happen.HistoryGoneError, match="cleared before"):
            read()


def test_settling_an_event_gives_the_tree_of_what_it_caused(space, orders, stock):
    def pay(event):
        orders.state.set(lambda s: orders.broadcast("parcel.send") and {"paid": 1})

    orders.on("order.paid", pay)
    stock.on("parcel.send", lambda event: stock.state.set({"sent": 1}))
    other = space.broadcast("other")
    event = space.broadcast("order.paid")
    trace = event.settle()

    shape = [
        (depth, node.event.type if node.event else node.commit.node) for depth, node in trace.root.walk()
    ]
    assert shape == [(0, "order.paid"), (1, "orders"), (1, "parcel.send"), (2, "stock")]
    assert [record.node for record in trace.root.handled] == ["orders"]
    assert trace.failures == []
    assert event.handled_by == ("orders",)
    assert other.handled_by == ()
    assert other.id not in {node.event.id for node in trace if node.event}


def test_a_trace_shows_failures(space, orders):
    orders.on("a", lambda event: orders.broadcast("b"))
    orders.on("b", lambda event: 1 / 0)
    trace = space.broadcast("a").settle()
    assert trace.failures == ["ZeroDivisionError: division by zero"]
    assert "ZeroDivisionError" in str(trace)


def test_the_trace_of_an_event_is_read_later_by_it_or_its_id(space, orders):
    orders.on("a", lambda event: orders.broadcast("b"))
    event = space.broadcast("a")
    space.settle()
    for given_ in (event, event.id, space.events("a")[0]):
        assert [node.event.type for node in space.trace(given_)] == ["a", "b"]
    with pytest.raises(LookupError, match="nothing-like-it"):
        space.trace("nothing-like-it")


def test_settling_an_event_names_what_still_runs(space, orders, gate):
    begun = threading.Event()
    orders.on("a", lambda event: orders.broadcast("slow.one"))
    orders.on("slow.one", lambda event: begun.set() or gate.wait(10))
    event = space.broadcast("a")
    assert begun.wait(10)
    with pytest.raises(happen.HappenTimeoutError, match=r"slow\.one"):
        event.settle(timeout=0.2)
    gate.set()
    assert len(list(event.settle())) == 2


def test_settling_an_event_does_not_wait_for_others(space, orders, stock, gate):
    orders.on("slow", lambda event: gate.wait(10))
    stock.on("a", lambda event: stock.state.set({"n": 1}))
    space.broadcast("slow")
    assert len(list(space.broadcast("a").settle(timeout=5))) == 2
    gate.set()


def test_settling_a_pending_event_is_refused(space, orders):
    events = []
    with pytest.raises(ZeroDivisionError):
        orders.state.set(lambda s: events.append(orders.broadcast("a")) or 1 / 0)
    with pytest.raises(ValueError, match="pending"):
        events[0].settle()


def test_settling_an_event_with_an_id_that_was_there_works_too(space, orders):
    orders.on("a", lambda event: orders.broadcast("b"))
    space.broadcast("a", id="k").settle()
    assert [node.event.type for node in space.broadcast("a", id="k").settle()] == ["a", "b"]


def test_an_event_that_rode_on_a_commit_settles_without_the_commit(space, orders, stock):
    stock.on("a", lambda event: stock.state.set({"n": 1}))
    events = []
    orders.state.set(lambda s: events.append(orders.broadcast("a")) or {"n": 1})
    trace = events[-1].settle()
    assert [node.event.type if node.event else node.commit.node for node in trace] == ["a", "stock"]


def test_several_nodes_that_handled_it_are_all_in_the_trace(space, orders, stock):
    for node in (orders, stock):
        node.on("a", lambda event: None)
    stock.on("a", lambda event: None)
    event = space.broadcast("a")
    space.settle()
    assert set(event.handled_by) == {"orders", "stock"}
    assert len(event.handled_by) == 2


def test_a_trace_does_not_wait_for_what_is_handled_meanwhile(space, orders):
    """Records of handlings are stored by turns; a reading waits for its own turn only."""
    heard = []
    orders.on("row", lambda event: heard.append(event.id))
    first = space.broadcast("row")
    first.settle()
    replay = space.replay(({"n": n} for n in range(6_000)), type="row")
    space.wait_for("row", since=first)
    assert space.trace(first).root.handled
    assert len(heard) < 6_001
    replay.wait()
    space.settle(60)
