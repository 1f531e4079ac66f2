"""``send``: one node, one reply: progress as it arrives, then a result or an error."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading

import pytest

import happen_nb as happen


def test_the_result_is_what_the_handler_returns(space, orders, stock):
    stock.on("stock.of", lambda event: {"pens": 3}[event.payload])
    for target in ("stock", stock):
        reply = orders.send(target, "stock.of", "pens")
        assert (reply.result(), reply.done, reply.state, reply.error) == (3, True, "done", None)
    assert reply.event.target == "stock"
    assert reply.event.sender == "orders"
    assert space.send("stock", "stock.of", "pens").event.sender == "notebook"


def test_only_the_target_handles_it(space, orders, stock):
    got = []
    for node in (orders, stock):
        node.on("a", lambda event, context: got.append(context.node.name))
    space.send("stock", "a").result()
    space.settle()
    assert got == ["stock"]


def test_results_are_converted_and_frozen_in_the_same_process_too(space, orders):
    mine = {"items": [1]}
    orders.on("a", lambda event: (mine, {"t": (1, 2)}))
    result = space.send("orders", "a").result()
    assert result == [{"items": [1]}, {"t": [1, 2]}]
    with pytest.raises(happen.FrozenStateError):
        result[0]["items"].append(2)
    mine["items"].append(2)
    assert result[0] == {"items": [1]}


def test_the_result_may_be_asked_for_again_and_from_many_threads(space, orders, gate):
    orders.on("a", lambda event: gate.wait(10) and "done")
    reply = space.send("orders", "a")
    got = []
    threads = [threading.Thread(target=lambda: got.append(reply.result())) for _ in range(10)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join(10)
    assert got == ["done"] * 10
    assert reply.result() == "done"


# -- progress ------------------------------------------------------------------------------------------------


def test_iterating_gives_progress_as_it_comes(space, orders):
    heard = threading.Event()

    def handler(event):
        for n in range(5):
            heard.clear()
            yield {"done": n, "total": 5}
            assert heard.wait(10)
        return "all"

    orders.on("a", handler)
    reply = space.send("orders", "a")
    seen = []
    for value in reply:
        seen.append(value["done"])
        assert reply.progress == {"done": value["done"], "total": 5}
        heard.set()

    assert (seen, reply.result()) == ([0, 1, 2, 3, 4], "all")


def test_each_progress_value_arrives_before_the_next_is_made(space, orders):
    """Whoever iterates never sleeps over a value that has come."""
    turns = threading.Semaphore(0)

    def handler(event):
        for n in range(50):
            yield n
            assert turns.acquire(timeout=10)

    orders.on("a", handler)
    seen = []
    for value in space.send("orders", "a", timeout=8):
        seen.append(value)
        turns.release()
    assert seen == list(range(50))


def test_nothing_is_progress_too(space, orders):
    def handler(event):
        yield None
        yield None

    orders.on("a", handler)
    assert list(space.send("orders", "a")) == [None, None]


def test_iterating_ends_with_the_error(space, orders):
    def handler(event):
        yield 1
        raise ValueError("broken")

    orders.on("a", handler)
    seen = []
    with pytest.raises(happen.HandlerError, match="broken"):
        seen.extend(space.send("orders", "a"))
    assert seen == [1]


def test_a_late_iteration_gets_the_newest_progress(space, orders):
    def handler(event):
        yield from range(1000)

    orders.on("a", handler)
    reply = space.send("orders", "a")
    reply.result()
    values = list(reply)
    assert values == list(range(1000 - len(values), 1000))
    assert values
    assert list(reply) == values


def test_in_a_loop_it_is_awaited_and_iterated(space, orders):
    async def handler(event):
        for n in range(3):
            yield n
            await asyncio.sleep(0.001)
        yield happen.Result("all")

    orders.on("a", handler)

    async def use():
        reply = await space.asend("orders", "a")
        values = [value async for value in reply]
        return values, await reply, await space.send("orders", "a")

    assert asyncio.run(use()) == ([0, 1, 2], "all", "all")


def test_awaiting_raises_what_went_wrong(space, orders):
    orders.on("a", lambda event: 1 / 0)

    async def use():
        await (await space.asend("orders", "a"))

    with pytest.raises(happen.HandlerError, match="ZeroDivisionError"):
        asyncio.run(use())


def test_many_are_awaited_at_once(space):
    async def double(event):
        await asyncio.sleep(0.01)
        return 2 * event.payload

    for n in range(20):
        space.create_node(f"n{n}").on("double", double)

    async def use():
        replies = [await space.asend(f"n{n % 20}", "double", n) for n in range(100)]
        return await asyncio.gather(*replies)

    assert asyncio.run(use()) == [2 * n for n in range(100)]


# -- time ----------------------------------------------------------------------------------------------------


def test_a_timeout_is_an_error_and_the_handling_goes_on(space, orders, gate):
    orders.on("a", lambda event: gate.wait(10) and "late")
    reply = space.send("orders", "a", timeout=0.05)
    with pytest.raises(happen.HappenTimeoutError, match=r"0\.05 s; the handling continues"):
        reply.result()
    with pytest.raises(TimeoutError):
        reply.result(timeout=0.01)
    assert not reply.done
    gate.set()
    assert reply.result(timeout=5) == "late"


def test_each_progress_begins_the_timeout_anew(space, orders, gate):
    def handler(event):
        for n in range(6):
            gate.wait(0.4)
            yield n
        return "slow but steady"

    orders.on("a", handler)
    assert space.send("orders", "a", timeout=2).result() == "slow but steady"


def test_a_timeout_of_result_is_of_the_whole_wait(space, orders, gate):
    def handler(event):
        while not gate.wait(0.02):
            yield 1

    orders.on("a", handler)
    with pytest.raises(TimeoutError):
        space.send("orders", "a").result(timeout=0.2)
    gate.set()


def test_nothing_at_all_within_the_timeout_ends_iterating(space, orders, gate):
    orders.on("a", lambda event: gate.wait(10))
    with pytest.raises(TimeoutError):
        list(space.send("orders", "a", timeout=0.05))
    gate.set()


# -- errors --------------------------------------------------------------------------------------------------


def test_the_error_of_a_handler_comes_with_its_traceback(space, orders):
    def deep():
        raise ValueError("too deep")

    def handler(event):
        deep()

    orders.on("a", handler)
    with pytest.raises(happen.HandlerError) as caught:
        space.send("orders", "a").result()

    error = caught.value
    assert (error.node, error.error) == ("orders", "ValueError: too deep")
    assert "in deep" in error.remote_traceback
    assert 'raise ValueError("too deep")' in str(error)
    assert "runs.py" not in error.remote_traceback


def test_an_error_that_went_through_several_nodes_shows_each_of_their_lines_once(space, orders, stock):
    def fail(state):
        return {"n": state["missing"]}

    def take(event):
        stock.state.set(fail)

    async def ask(event):
        return await orders.send("stock", "take")

    stock.on("take", take)
    orders.on("buy", ask)
    with pytest.raises(happen.HandlerError) as caught:
        space.send("orders", "buy").result()

    said, lines = str(caught.value), str(caught.value).splitlines()
    functions = [line.rpartition(" in ")[2] for line in lines if line.startswith("  File ")]
    assert functions == ["ask", "take", "fail"]
    assert said.count("KeyError: 'missing'") == 1
    assert lines[-1] == 'in the transform of node "stock" at revision 0'


def test_a_failure_shows_the_lines_of_the_users_functions_only(space, orders):
    def fail(state):
        raise ValueError("never")

    def handler(event):
        try:
            orders.state.set(fail)
        except ValueError as error:
            raise LookupError from error

    orders.on("a", handler)
    space.broadcast("a")
    space.settle()

    lines = space.failures[0].traceback.splitlines()
    assert [line.rpartition(" in ")[2] for line in lines if "File " in line] == ["handler", "fail", "handler"]


def test_an_unknown_target_is_an_immediate_error_with_the_nearest_name(space, orders):
    space.create_node("customer-service").on("a", print)
    reply = space.send("customer-servic", "a")
    assert reply.done
    with pytest.raises(happen.NoHandlerError, match="customer-service"):
        reply.result()
    assert len(space.events()) == 0


@pytest.mark.parametrize("target", ["a b", "*", "", "x" * 65, "notebook", "\ud800"])
def test_nothing_is_stored_for_a_node_that_cannot_exist(space, orders, target):
    for call in (
        lambda: space.send(target, "a", after=60),
        lambda: orders.state.set(lambda state: [orders.send(target, "a"), {"n": 1}][1]),
    ):
        with pytest.raises(happen.InvalidNameError, match="node"):
            call()
    with pytest.raises(happen.NoHandlerError) as caught:
        space.send(target, "a").result()
    assert str(caught.value).encode()
    assert len(space.scheduled) == 0
    assert orders.state.get() == {}


def test_a_node_without_handlers_cannot_be_sent_to(space, orders):
    with pytest.raises(happen.NoHandlerError):
        space.send(orders, "a").result()


def test_no_handler_of_that_type_is_an_error_that_names_the_patterns(space, orders):
    orders.on("order.*", print)
    with pytest.raises(happen.NoHandlerError, match=r"order\.\*"):
        space.send("orders", "parcel.sent").result()


def test_a_filter_that_refuses_is_no_handler(space, orders):
    orders.on("a", print, where=lambda event: False)
    with pytest.raises(happen.NoHandlerError, match="where"):
        space.send("orders", "a").result()


def test_a_node_whose_handlers_are_all_unregistered_has_none(space, orders):
    orders.on("a", print)
    orders.off("a")
    with pytest.raises(happen.NoHandlerError):
        space.send("orders", "a").result()


@pytest.mark.parametrize("wrong", [None, 5, b"orders", object()])
def test_a_target_that_is_no_node_is_refused(space, orders, wrong):
    with pytest.raises(TypeError, match="not a node"):
        space.send(wrong, "a")


def test_a_payload_without_a_json_form_is_refused(space, orders):
    orders.on("a", print)
    with pytest.raises(happen.PayloadError):
        space.send("orders", "a", {"x": {1}})


def test_a_reply_returned_by_a_handler_is_passed_on(space, orders, stock):
    stock.on("deep", lambda event: "from the deep")
    orders.on("a", lambda event: orders.send("stock", "deep"))
    assert space.send("orders", "a").result(timeout=5) == "from the deep"


def test_closing_the_space_ends_the_wait(store, gate):
    space = happen.connect(store=store, name="closed_while_waiting")
    node = space.create_node("orders")
    node.on("a", lambda event: gate.wait(10))
    reply = space.send("orders", "a")
    error = []

    def wait():
        try:
            reply.result()
        except happen.HappenError as raised:
            error.append(raised)

    waiter = threading.Thread(target=wait)
    waiter.start()
    space.close()
    gate.set()
    waiter.join(10)
    assert isinstance(error[0], happen.ClosedError)


# -- in handlers ---------------------------------------------------------------------------------------------


def test_a_plain_handler_may_wait_for_another_nodes_reply(space, orders, stock):
    stock.on("reserve", lambda event: event.payload * 2)
    orders.on("order", lambda event: orders.send("stock", "reserve", event.payload).result() + 1)
    assert space.send("orders", "order", 3).result() == 7


def test_an_async_handler_awaits_another_nodes_reply(space, orders, stock):
    async def reserve(event):
        await asyncio.sleep(0)
        return event.payload * 2

    async def order(event):
        reply = await orders.asend("stock", "reserve", event.payload)
        return await reply + 1

    stock.on("reserve", reserve)
    orders.on("order", order)
    assert space.send("orders", "order", 3).result() == 7


def test_an_async_handler_follows_anothers_progress(space, orders, stock):
    def count(event):
        yield from range(3)
        return "counted"

    async def relay(event):
        reply = await orders.asend("stock", "count")
        async for value in reply:
            yield value
        yield happen.Result(await reply)

    stock.on("count", count)
    orders.on("relay", relay)
    reply = space.send("orders", "relay")
    assert (list(reply), reply.result()) == ([0, 1, 2], "counted")


@pytest.mark.parametrize(
    "block",
    [
        lambda space, reply: reply.result(),
        lambda space, reply: list(reply),
        lambda space, reply: space.settle(),
        lambda space, reply: space.wait_for("never"),
        lambda space, reply: space.nodes["orders"].state.wait_for(lambda s: False),
    ],
    ids=["result", "iterating", "settle", "wait_for", "state.wait_for"],
)
def test_blocking_the_loop_of_async_handlers_is_an_error_that_names_await(space, orders, stock, block):
    stock.on("a", lambda event: 1)

    async def handler(event):
        reply = await space.asend("stock", "a")
        block(space, reply)

    orders.on("go", handler)
    with pytest.raises(happen.HandlerError, match=r"write await|write async for|call it in a cell"):
        space.send("orders", "go").result(timeout=5)


def test_blocking_calls_that_need_no_handler_work_in_an_async_handler(space, orders, stock):
    async def handler(event):
        stock.state.set({"n": 1})
        stock.broadcast("b")
        space.create_node("new", initial={"m": 2})
        return stock.state.get("n", fresh=True) + space.views.new.get("m") + len(space.events("b"))

    orders.on("go", handler)
    assert space.send("orders", "go").result(timeout=5) == 4


def test_a_node_of_another_space_is_refused(store, space, orders, stock):
    with happen.connect(store=store, name="another_with_a_stock") as other:
        theirs = other.create_node("stock")
        for send in (orders.send, space.send):
            with pytest.raises(ValueError, match='belongs to the space "another_with_a_stock"'):
                send(theirs, "a")
        with pytest.raises(TypeError, match="not a node"):
            orders.send(space, "a")
        other.drop()


def test_the_stop_button_while_iterating_cancels_the_handling(space, orders, until):
    steps, pressed = [], threading.Event()
    main = threading.main_thread().ident

    def slow(event):
        while True:
            steps.append(1)
            if len(steps) == 4:  # so that nothing comes between the look at the main thread and the signal
                pressed.wait(10)
            threading.Event().wait(0.01)
            yield len(steps)

    def waits():
        frame = sys._current_frames()[main]
        return frame.f_code.co_name == "wait" and frame.f_code.co_filename.endswith("io.py")

    def press():
        until(lambda: len(steps) > 3 and waits())
        signal.pthread_kill(main, signal.SIGINT)
        pressed.set()

    orders.on("a", slow)
    reply = space.send("orders", "a")
    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt) as caught:
        for _ in reply:
            pass

    assert "was cancelled" in caught.value.__notes__[0]
    assert reply.state == "cancelled"
    space.settle(5)


def test_interrupting_settle_names_what_is_still_running(space, orders, gate, until):
    main = threading.main_thread().ident
    begun = threading.Event()

    def spin(event):
        begun.set()
        gate.wait(20)

    def press():
        until(lambda: orders.busy)
        signal.pthread_kill(main, signal.SIGINT)

    orders.on("a", spin)
    space.broadcast("a")
    assert begun.wait(10)
    threading.Thread(target=press).start()
    with pytest.raises(KeyboardInterrupt) as caught:
        space.settle(20)
    assert 'off("a") stops that' in caught.value.__notes__[0]
    with pytest.raises(happen.HappenTimeoutError, match=r'spin; its off\("a"\) stops that'):
        space.settle(0.01)
    orders.off("a")
    space.settle(5)
