"""Events and commits of handlers know their cause: in threads, tasks, steps, retries and callbacks."""

from __future__ import annotations

import asyncio
import contextvars
import decimal
import random
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from multiprocessing.pool import ThreadPool

import pytest

import happen_nb as happen

# -- the ways in which a handler may do something ------------------------------------------------------------


def directly(act):
    def handler(event):
        act()

    return handler


def in_a_coroutine(act):
    async def handler(event):
        await asyncio.sleep(0)
        act()

    return handler


def in_a_generator(act):
    def handler(event):
        yield 1
        act()

    return handler


def in_an_async_generator(act):
    async def handler(event):
        yield 1
        await asyncio.sleep(0)
        act()

    return handler


def in_a_next_step(act):
    return lambda event: lambda event: act() and None


def in_an_async_next_step(act):
    return lambda event: in_a_coroutine(act)


def in_a_retry(act):
    def handler(event, context):
        if context.attempt == 1:
            raise ValueError
        act()

    return handler


def in_a_thread(act):
    def handler(event):
        thread = threading.Thread(target=happen.carry(act))
        thread.start()
        thread.join()

    return handler


def in_a_thread_class(act):
    class Worker(threading.Thread):
        def __init__(self):
            super().__init__()
            self.act = happen.carry(act)

        def run(self):
            self.act()

    def handler(event):
        worker = Worker()
        worker.start()
        worker.join()

    return handler


def in_a_timer(act):
    def handler(event):
        timer = threading.Timer(0.001, happen.carry(act))
        timer.start()
        timer.join()

    return handler


def in_a_thread_of_a_thread(act):
    return in_a_thread(lambda: in_a_thread(act)(None))


def in_to_thread(act):
    async def handler(event):
        await asyncio.to_thread(act)

    return handler


def in_run_in_executor(act):
    async def handler(event):
        await asyncio.get_running_loop().run_in_executor(None, happen.carry(act))

    return handler


def in_a_carried_coroutine_of_another_loop(act):
    async def work():
        await asyncio.sleep(0)
        act()

    def handler(event):
        thread = threading.Thread(target=lambda work: asyncio.run(work()), args=[happen.carry(work)])
        thread.start()
        thread.join()

    return handler


def in_a_task(act):
    async def task():
        await asyncio.sleep(0)
        act()

    async def handler(event):
        await asyncio.create_task(task())

    return handler


def in_an_executor_made_inside(act):
    def handler(event):
        with ThreadPoolExecutor() as pool:
            pool.submit(happen.carry(act)).result()

    return handler


OUTSIDE = ThreadPoolExecutor(2)
wait([OUTSIDE.submit(int) for _ in range(10)])


def in_an_executor_made_outside(act):
    def handler(event):
        OUTSIDE.submit(happen.carry(act)).result()

    return handler


def in_an_executors_map(act):
    def handler(event):
        list(OUTSIDE.map(happen.carry(lambda _: act()), [1]))

    return handler


def in_a_loop_of_its_own(act):
    async def work():
        await asyncio.sleep(0)
        act()

    def handler(event):
        asyncio.run(work())

    return handler


def in_happen_run(act):
    async def work():
        await asyncio.sleep(0)
        act()

    def handler(event):
        happen.run(work())

    return handler


WAYS = [
    directly,
    in_a_coroutine,
    in_a_generator,
    in_an_async_generator,
    in_a_next_step,
    in_an_async_next_step,
    in_a_retry,
    in_a_thread,
    in_a_thread_class,
    in_a_timer,
    in_a_thread_of_a_thread,
    in_to_thread,
    in_run_in_executor,
    in_a_carried_coroutine_of_another_loop,
    in_a_task,
    in_an_executor_made_inside,
    in_an_executor_made_outside,
    in_an_executors_map,
    in_a_loop_of_its_own,
    in_happen_run,
]


@pytest.mark.parametrize("way", WAYS)
def test_what_a_handler_does_has_its_event_as_cause(space, orders, stock, way):
    def act():
        stock.broadcast("told")
        stock.state.set({"n": 1})

    orders.on("a", way(act), retries=1, backoff=0)
    root = space.broadcast("root")
    event = space.broadcast("a")
    space.settle()

    (told,) = space.events("told")
    (commit,) = stock.state.history()
    assert list(space.failures) == []
    assert (told.cause, told.correlation, told.path) == (event.id, event.id, (event.id,))
    assert (commit.cause, commit.by) == (event.id, "orders")
    assert root.id not in told.path


@pytest.mark.parametrize("way", ["directly", "in a task", "gathered"])
def test_the_awaitable_twins_have_it_too(space, orders, stock, way):
    async def directly(event):
        await stock.abroadcast("told")
        await stock.state.aset({"n": 1})

    async def in_a_task(event):
        await asyncio.create_task(directly(event))

    async def gathered(event):
        await asyncio.gather(directly(event))

    orders.on("a", {"directly": directly, "in a task": in_a_task, "gathered": gathered}[way])
    event = space.broadcast("a")
    space.settle()
    assert space.events("told")[0].cause == event.id
    assert stock.state.history()[0].cause == event.id


def test_a_chain_has_one_correlation_and_a_path_that_grows(space):
    nodes = [space.create_node(f"n{n}") for n in range(5)]
    for n, node in enumerate(nodes):
        node.on(f"step.{n}", lambda event, node=node, n=n: node.broadcast(f"step.{n + 1}"))
    first = space.broadcast("step.0")
    first.settle()

    events = space.events()
    ids = [event.id for event in events]
    assert [event.type for event in events] == [f"step.{n}" for n in range(6)]
    assert [event.cause for event in events] == [None, *ids[:-1]]
    assert {event.correlation for event in events} == {first.id}
    assert [event.path for event in events] == [tuple(ids[:n]) for n in range(6)]
    assert [event.sender for event in events] == ["notebook", *(f"n{n}" for n in range(5))]


def test_sent_events_and_those_of_transforms_have_causes_too(space, orders, stock):
    def pay(event):
        orders.state.set(lambda s: orders.broadcast("told") and {"n": 1})
        orders.send("stock", "sent").result()

    stock.on("sent", lambda event: stock.state.set({"n": 1}) and None)
    orders.on("a", pay)
    event = space.broadcast("a")
    space.settle()
    assert [other.cause for other in space.events("{told,sent}")] == [event.id, event.id]
    sent = space.events("sent")[0]
    commit = stock.state.history()[0]
    assert (commit.cause, commit.by) == (sent.id, "stock")


def test_what_a_cell_does_has_no_cause_also_after_a_handler_ran(space, orders):
    orders.on("a", directly(lambda: orders.state.set({"n": 1})))
    space.broadcast("a").settle()
    commit = orders.state.set({"n": 2})
    assert (commit.cause, commit.by) == (None, None)
    assert space.broadcast("b").cause is None
    assert OUTSIDE.submit(partial(space.broadcast, "c")).result().cause is None


def test_a_pool_that_a_handler_made_works_for_the_cell_without_its_cause(space, orders):
    pools = []

    def handler(event):
        pools.append(ThreadPoolExecutor(1))
        pools[0].submit(int).result()

    orders.on("a", handler)
    space.broadcast("a").settle()
    with pools[0] as pool:
        assert pool.submit(partial(space.broadcast, "b")).result().cause is None


def test_what_a_long_lived_thread_of_a_handler_does_has_no_cause_rather_than_an_old_one(space, orders):
    pool = []

    def handler(event):
        pool[:] = pool or [ThreadPool(1)]
        return pool[0].apply(lambda: orders.broadcast("made").cause)

    orders.on("a", handler)
    causes = [space.send("orders", "a").result() for _ in range(2)]

    assert [*causes, pool[0].apply(lambda: orders.broadcast("made").cause)] == [None, None, None]


def test_a_pool_that_works_for_many_takes_the_cause_of_each_carried_function(space, orders):
    def handler(event):
        return OUTSIDE.submit(happen.carry(lambda: orders.broadcast("made").cause)).result()

    orders.on("a", handler)
    replies = [space.send("orders", "a") for _ in range(3)]

    assert [reply.result() for reply in replies] == [reply.event.id for reply in replies]
    assert OUTSIDE.submit(lambda: orders.broadcast("made").cause).result() is None


def test_a_context_that_outlives_its_handling_has_no_cause(space, orders):
    contexts = []
    orders.on("a", lambda event: contexts.append(contextvars.copy_context()))
    space.broadcast("a").settle()

    assert contexts[0].run(orders.broadcast, "b").cause is None
    contexts[0].run(space.settle)  # it is no handler that would wait for itself


def test_a_function_that_was_carried_keeps_its_cause_after_the_handling(space, orders):
    carried = []
    orders.on("a", lambda event: carried.append(happen.carry(orders.broadcast)))
    event = space.broadcast("a")
    event.settle()

    assert carried[0]("b").cause == event.id
    assert orders.broadcast("b").cause is None


@pytest.mark.parametrize("way", ["directly", "in to_thread"])
def test_a_task_that_a_handler_leaves_running_still_has_its_cause(space, orders, gate, way):
    told = []

    async def later():
        await asyncio.to_thread(gate.wait, 10)
        broadcast = orders.broadcast if way == "directly" else partial(asyncio.to_thread, orders.broadcast)
        event = broadcast("told")
        told.append(event if way == "directly" else await event)

    async def handler(event):
        handler.task = asyncio.create_task(later())

    orders.on("a", handler)
    event = space.broadcast("a")
    event.settle()
    gate.set()

    assert space.wait_for("told").cause == event.id


def test_only_the_cause_is_carried(space, orders):
    def handler(event):
        decimal.getcontext().prec = 3
        carried = happen.carry(lambda: decimal.getcontext().prec)
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(carried).result()

    orders.on("a", handler)
    assert space.send("orders", "a").result() == decimal.DefaultContext.prec


@pytest.mark.parametrize("used", [True, False])
def test_each_handler_has_an_arithmetic_context_of_its_own(space, orders, used):
    def precision():
        before, decimal.getcontext().prec = decimal.getcontext().prec, 3
        return before

    def cell():
        if used:
            decimal.getcontext().prec = 11
        orders.on("a", lambda _: precision())
        orders.state.on("b", lambda state, _: {"found": [*state.get("found", ()), precision()]})
        for _ in range(2):
            space.broadcast("b")
        replies = [space.send("orders", "a").result() for _ in range(2)]
        space.settle()
        return replies, decimal.getcontext().prec

    expected = 11 if used else decimal.DefaultContext.prec
    assert contextvars.Context().run(cell) == (2 * [expected], expected)
    assert orders.state.get("found") == 2 * [expected]


def test_the_numbers_of_the_global_generator_are_left_to_the_user(space, store):
    orders = space.create_node("orders", initial={"open": 1})
    orders.on("a", lambda event, context: context.random.random())
    before = random.getstate()
    with happen.connect(store=store, name="generator"):
        space.send(orders, "a").result()
        space.fork("copy").drop()
        space.rerun()
    assert random.getstate() == before


def test_threads_and_executors_of_the_process_are_left_as_they_are(space, orders):
    before = threading.Thread.start, ThreadPoolExecutor.submit, ThreadPoolExecutor.map
    orders.on("a", print)
    assert (threading.Thread.start, ThreadPoolExecutor.submit, ThreadPoolExecutor.map) == before
    assert {each.__module__ for each in before} == {
        "threading",
        "concurrent.futures.thread",
        "concurrent.futures._base",
    }


def test_what_cannot_be_carried_is_refused():
    def generator():
        yield

    with pytest.raises(TypeError, match="generator"):
        happen.carry(generator)
    with pytest.raises(TypeError, match="not callable"):
        happen.carry(1)


def test_a_carried_object_with_an_async_call_keeps_the_cause(space, orders):
    class Emit:
        async def __call__(self):
            await asyncio.sleep(0)
            return orders.broadcast("made").cause

    with ThreadPoolExecutor(1) as pool:
        orders.on("work", lambda event: pool.submit(asyncio.run, happen.carry(Emit())()).result())
        reply = space.send(orders, "work")
        assert reply.result(10) == space.events("work")[-1].id


def test_carrying_keeps_name_arguments_and_result():
    def add(a, b=1):
        """Add."""
        return a + b

    carried = happen.carry(add)
    assert (carried.__name__, carried.__doc__, carried(1), carried(1, b=2)) == ("add", "Add.", 2, 3)


def test_two_handlers_at_once_do_not_mix_their_causes(space):
    def tell(event, context):
        broadcast = happen.carry(context.node.broadcast)
        threads = [threading.Thread(target=broadcast, args=("told", n)) for n in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    nodes = [space.create_node(f"n{n}") for n in range(5)]
    for n, node in enumerate(nodes):
        node.on(f"go.{n}", tell)
    events = [space.broadcast(f"go.{n}") for n in range(5)]
    space.settle()

    told = space.events("told")
    assert len(told) == 25
    assert {(event.sender, event.cause) for event in told} == {
        (f"n{n}", event.id) for n, event in enumerate(events)
    }


def test_a_watch_callback_has_the_commits_cause_and_a_longer_path(space, orders, stock):
    orders.on("a", directly(lambda: orders.state.set({"n": 1})))
    orders.state.watch(lambda commit: stock.broadcast("told"))
    event = space.broadcast("a")
    space.settle()

    (told,) = space.events("told")
    assert (told.cause, told.correlation) == (event.id, event.id)
    assert told.path[:-1] == (event.id,)
    assert len(told.path) == 2


def test_a_watch_of_a_commit_from_a_cell_begins_a_chain_of_its_own(space, orders, stock):
    orders.state.watch(lambda commit: stock.broadcast("told"))
    orders.state.set({"n": 1})
    space.settle()
    (told,) = space.events("told")
    assert told.cause is None
    assert len(told.path) == 1


def test_a_node_that_a_handler_made_with_a_state_has_it_as_cause(space, orders):
    orders.on("a", directly(lambda: space.create_node("new", initial={"n": 1})))
    event = space.broadcast("a")
    space.settle()
    (commit,) = space.nodes["new"].state.history()
    assert commit.cause == event.id


# -- loops ---------------------------------------------------------------------------------------------------


def test_a_loop_is_cut_after_a_thousand_causes(space, orders, stock):
    longest = []
    orders.on("ping", lambda event: orders.broadcast("pong"))
    stock.on("pong", lambda event: longest.append(len(event.path)) or stock.broadcast("ping"))
    space.broadcast("ping")
    space.settle(timeout=60)

    (failure,) = space.failures
    assert isinstance(failure.exception, happen.CausalLoopError)
    assert "1,000" in str(failure.exception)
    assert len(failure.event.path) == 1000
    assert len(space.events()) == 1001


def test_a_loop_through_a_watch_is_cut_too(space, orders):
    orders.state.watch(lambda commit: orders.state.set(happen.put("n", lambda n: n + 1)))
    orders.state.set({"n": 0})
    space.settle(timeout=60)
    assert isinstance(space.failures[0].exception, happen.CausalLoopError)
    assert 990 <= orders.state.get("n") <= 1010


def test_a_loop_is_not_retried(space, orders):
    calls = []

    def loop(event):
        calls.append(len(event.path))
        orders.broadcast("a")

    orders.on("a", loop, retries=3, backoff=0)
    space.broadcast("a")
    space.settle(timeout=60)
    assert calls == list(range(1001))


def test_a_chain_of_the_longest_ids_is_cut_at_1000_causes_too(space, orders):
    def go_on(event):
        orders.broadcast("a", event.payload + 1, id=f"{event.payload + 1:0>128}")

    orders.on("a", go_on)
    first = space.broadcast("a", 0)
    space.settle(timeout=60)

    (failure,) = space.failures
    assert isinstance(failure.exception, happen.CausalLoopError)
    assert "1,000" in str(failure.exception)
    events = space.events()
    assert len(events) == 1001
    path = failure.event.path
    assert path[0] == first.id
    assert list(path[1:]) == [event.id for event in events][-len(path) : -1]  # the newest, without a gap
    assert failure.event.correlation == first.id
    assert len(list(events[500].settle(timeout=60))) == 501


def test_a_commit_at_the_end_of_a_long_chain_emits_as_much_as_at_its_beginning(space, orders):
    commits = []

    def go_on(event):
        if event.payload < 985:
            orders.broadcast("a", event.payload + 1)
        else:
            commits.append(
                orders.state.set(lambda state: (orders.broadcast("end", "x" * 19_000), {"n": 1})[1])
            )

    orders.on("a", go_on)
    space.broadcast("a", 0)
    space.settle(timeout=60)
    assert [type(failure.exception) for failure in space.failures] == []
    assert commits[0].changed
    (end,) = space.events("end")
    assert len(end.path) == 986
