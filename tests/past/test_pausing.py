"""While a space is paused, no node begins to handle a matching event; steps and the resume keep the order."""

import asyncio
import gc
import logging
import math
import signal
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

import happen_nb as happen
from happen_nb._runtime import stepping
from happen_nb._runtime.gate import Gate
from happen_nb._runtime.ownership import replace_record
from tests.facade.processes import OtherProcess


@pytest.fixture
def web(space):
    return space.create_node("web")


@pytest.fixture
def stock(space):
    return space.create_node("stock")


@pytest.fixture
def seen(stock):
    """The payloads that a plain handler of the stock has handled, in order."""
    payloads = []
    stock.on("order", lambda event: payloads.append(event.payload))
    return payloads


def turns(space):
    return [(each.node, each.event.type, each.event.payload) for each in space.held]


def send_orders(web, number):
    for each in range(number):
        web.broadcast("order", each)


# -- what waits ------------------------------------------------------------------------------------------


def test_what_matches_waits_and_goes_in_order(space, web, stock, seen):
    space.pause("order")
    send_orders(web, 3)
    space.settle()
    assert seen == []
    assert turns(space) == [("stock", "order", 0), ("stock", "order", 1), ("stock", "order", 2)]
    space.resume()
    space.settle()
    assert seen == [0, 1, 2]
    assert len(space.held) == 0


@pytest.mark.parametrize("call", ["resume", "step"])
def test_a_pause_that_was_interrupted_on_its_way_can_be_ended(space, monkeypatch, call):
    async def interrupted(*arguments):
        storing = asyncio.ensure_future(replace_record(*arguments))
        await asyncio.sleep(0)  # it is sent now
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        await storing

    with monkeypatch.context() as patch:
        patch.setattr(stepping, "replace_record", interrupted)
        with pytest.raises(KeyboardInterrupt):
            space.pause()
    getattr(space, call)()
    assert space.paused == (None if call == "resume" else "**")


def test_later_events_of_a_node_wait_behind_what_matches(space, web, stock):
    seen = []
    stock.on("**", lambda event: seen.append(event.type))
    space.pause("order")
    for type in ("before", "order", "behind"):
        web.broadcast(type)
    space.settle()
    assert seen == ["before"]
    assert [each.event.type for each in space.held] == ["order", "behind"]
    space.step()
    space.settle()
    assert seen == ["before", "order", "behind"]


def test_other_nodes_go_on(space, web, stock, seen):
    space.pause("order")
    heard = []
    space.create_node("mail").on("letter", lambda event: heard.append(event.payload))
    send_orders(web, 1)
    web.broadcast("letter", "hello").settle()
    assert (heard, seen) == (["hello"], [])


def test_what_is_handled_goes_on_and_what_has_not_begun_waits(space, web, stock):
    begun, go_on, seen = threading.Event(), threading.Event(), []

    @stock.on("order")
    def handle(event):
        begun.set()
        assert go_on.wait(10)
        seen.append(event.payload)

    send_orders(web, 3)
    assert begun.wait(10)
    space.pause()
    go_on.set()
    space.settle()
    assert seen == [0]
    assert turns(space) == [("stock", "order", 1), ("stock", "order", 2)]
    space.resume()
    space.settle()
    assert seen == [0, 1, 2]


def test_state_handlers_wait_before_they_are_evaluated(space, web, stock):
    evaluated = []

    @stock.state.on("order")
    def count(state, event):
        evaluated.append(event.payload)
        return {"orders": state.get("orders", 0) + 1}

    web.broadcast("order", 0).settle()
    space.pause()
    send_orders(web, 3)
    space.settle()
    assert evaluated == [0]
    space.step(2)
    assert (evaluated, stock.state.get("orders")) == ([0, 0, 1], 3)
    space.resume()
    space.settle()
    assert (evaluated, stock.state.get("orders")) == ([0, 0, 1, 2], 4)


def test_state_handlers_that_wait_in_line_are_held(space, web, stock):
    begun, go_on = threading.Event(), threading.Event()

    @stock.state.on("order")
    def count(state, event):
        begun.set()
        assert go_on.wait(10)
        return {"orders": [*state.get("orders", ()), event.payload]}

    send_orders(web, 100)
    assert begun.wait(10)
    space.pause()
    go_on.set()
    space.settle()
    done = len(stock.state.get("orders"))
    assert 0 < done < 100
    assert len(space.held) == 100 - done
    assert space.step().left == 99 - done
    space.resume()
    space.settle()
    assert stock.state.get("orders") == list(range(100))


def test_a_state_handler_that_catches_up_waits(space, web, stock):
    send_orders(web, 3)
    space.pause()
    stock.state.on(
        "order", lambda state, event: {"sum": state.get("sum", 0) + event.payload}, start="beginning"
    )
    space.settle()
    assert (stock.state.get(), len(space.held)) == ({}, 3)
    space.step(3)
    assert stock.state.get("sum") == 3


@pytest.mark.parametrize("kind", ["plain", "async", "generator", "async generator", "durable"])
def test_each_kind_of_handler_waits(space, web, stock, kind):
    seen = []

    def plain(event):
        seen.append(event.payload)

    async def awaiting(event):
        await asyncio.sleep(0)
        seen.append(event.payload)

    def generating(event):
        yield 0.5
        seen.append(event.payload)

    async def agenerating(event):
        yield 0.5
        seen.append(event.payload)

    handlers = {"async": awaiting, "generator": generating, "async generator": agenerating}
    stock.on("order", handlers.get(kind, plain), durable=kind == "durable")
    space.pause()
    send_orders(web, 2)
    space.settle()
    assert seen == []
    (step,) = space.step()
    assert (step.node, step.event.payload, seen) == ("stock", 0, [0])
    space.resume()
    space.settle()
    assert seen == [0, 1]


def test_a_sent_event_is_held_until_its_turn(space, web, stock):
    stock.on("price", lambda event: 2 * event.payload)
    space.pause()
    reply = web.send("stock", "price", 21)
    space.settle()
    assert (reply.state, "held" in repr(reply)) == ("held", True)
    with pytest.raises(happen.HappenTimeoutError, match="held until"):
        reply.result(0.05)
    space.step()
    assert reply.result() == 42


@pytest.mark.parametrize("way", ["async", "plain"])
def test_a_handler_that_waits_for_the_reply_of_a_held_event_is_not_waited_for(space, web, stock, way):
    stock.on("price", lambda event: 2 * event.payload)

    @web.on("plain")
    def ask(event):
        web.state.set({"price": web.send("stock", "price", 21).result()})

    @web.on("async")
    async def ask_async(event):
        await web.state.aset({"price": await (await web.asend("stock", "price", 21))})

    space.pause()
    space.broadcast(way)
    space.settle()
    assert "began" in repr(space.step(timeout=5))
    space.settle(5)
    assert (len(space.held), web.state.get()) == (1, {})
    space.step()
    space.settle()
    assert web.state.get() == {"price": 42}


def test_a_held_event_whose_reply_is_cancelled_is_not_handled(space, web, stock, seen):
    space.pause()
    reply = web.send("stock", "order", 1)
    space.settle()
    reply.cancel()
    space.resume()
    space.settle()
    assert (seen, len(space.unhandled)) == ([], 0)


def test_a_held_event_whose_reply_would_never_come_is_not_handled(space, stock):
    errors, seen = [], []

    @stock.on("order")
    def ask_myself(event):
        with pytest.raises(happen.DeadlockError) as raised:
            stock.send("stock", "price").result()
        errors.append(raised)

    stock.on("price", lambda event: seen.append(event.type))
    space.pause("price")
    space.broadcast("order")
    space.settle()
    space.resume()
    space.settle()
    assert (len(errors), seen, len(space.unhandled)) == (1, [], 0)


def test_nothing_stays_in_memory_of_such_a_reply_once_it_is_cancelled(space, stock):
    replies, errors = [], []

    @stock.on("order")
    def ask_myself(event):
        replies.append(stock.send("stock", "price"))
        try:
            replies[0].result()
        except happen.DeadlockError as error:
            errors.append(weakref.ref(error))

    stock.on("price", lambda event: None)
    space.pause("price")
    space.broadcast("order")
    space.settle()
    replies.pop().cancel()
    gc.collect()
    assert [each() for each in errors] == [None]


@pytest.mark.parametrize(
    ("end", "error"),
    [
        (lambda space, node: space.clear(), "the space was cleared"),
        (lambda space, node: node.delete(), "no handler"),
    ],
)
def test_the_reply_to_a_held_event_that_is_never_handled_fails_at_once(space, web, stock, seen, end, error):
    space.pause()
    reply = web.send("stock", "order", 1)
    space.settle()
    end(space, stock)
    with pytest.raises(happen.HappenError, match=error):
        reply.result(timeout=10)
    assert seen == []


def test_the_reply_to_an_event_that_another_process_held_fails_when_the_space_is_cleared(space, web, other):
    other.do("stock = space.create_node('stock'); stock.on('order', print)")
    space.pause()
    reply = web.send("stock", "order", 1)
    assert len(space.held) == 1
    space.clear(force=True)
    with pytest.raises(happen.HandlerError, match="the space was cleared"):
        reply.result(timeout=10)


def test_a_step_waits_for_the_last_retry(space, web, stock):
    attempts = []

    @stock.on("order", retries=2, backoff=0.01)
    def handle(event, context):
        attempts.append(context.attempt)
        if context.attempt < 3:
            raise ValueError

    space.pause()
    send_orders(web, 1)
    space.step()
    assert attempts == [1, 2, 3]


def test_ticks_and_scheduled_events_wait_and_the_clock_goes_on(store):
    with happen.connect(store=store, name="paused_clock", clock="manual", fresh=True) as space:
        heart, ticks, late = space.create_node("heart"), [], []
        heart.every(10, lambda event: ticks.append(event.payload["n"]))
        heart.on("late", lambda event: late.append(space.now.minute))
        heart.broadcast("late", after=90)
        space.pause()
        space.advance(120)
        assert (ticks, late) == ([], [])
        assert [each.event.type for each in space.held] == ["every", "late"], "one tick stands for all"
        space.resume()
        space.settle()
        assert (ticks, late) == ([1], [2])
        space.advance(10)
        assert ticks == [1, 13]


# -- steps -----------------------------------------------------------------------------------------------


def test_a_step_shows_what_it_did(space, web, stock):
    stock.state.set({"lamps": 3})

    @stock.on("order")
    def reserve(event):
        stock.state.set(lambda state: {"lamps": state["lamps"] - event.payload})
        stock.broadcast("reserved", event.payload)

    space.create_node("mail").on("reserved", lambda event: None)
    space.pause()
    web.broadcast("order", 2)
    steps = space.step()
    assert repr(steps) == (
        "Step · stock handled order · 1 commit · 1 event · 1 held\n"
        "  order  web → stock\n"
        "    stock revision 2  ~ lamps  3 → 1\n"
        "    reserved  stock → mail held"
    )
    assert (len(steps), steps.left) == (1, 1)
    assert [node.commit.node for node in steps[0].trace if node.commit] == ["stock"]


def test_each_node_of_an_event_is_a_step(space, web):
    seen = []
    for name in ("b", "c", "a"):
        space.create_node(name).on("order", lambda event, context: seen.append(context.node.name))
    space.pause()
    send_orders(web, 1)
    assert [each.node for each in space.step(3)] == seen == ["a", "b", "c"]


def test_a_step_where_nothing_waits_does_nothing(space, web, seen):
    space.pause()
    assert (len(space.step()), repr(space.step())) == (0, "No step · nothing is held")
    send_orders(web, 1)
    assert len(space.step(5)) == 1
    assert seen == [0]


def test_a_step_of_a_handler_that_takes_long_times_out(space, web, stock):
    go_on = threading.Event()
    stock.on("order", lambda event: go_on.wait(10))
    space.pause()
    send_orders(web, 1)
    with pytest.raises(happen.HappenTimeoutError, match='node "stock" is still handling "order"'):
        space.step(timeout=1)
    go_on.set()
    space.settle()


def test_a_failure_is_part_of_its_step(space, web, stock, capsys):
    stock.on("order", lambda event: 1 / 0)
    space.pause()
    send_orders(web, 1)
    assert "1 failure" in repr(space.step())
    assert len(space.failures) == 1


# -- several pauses --------------------------------------------------------------------------------------


def test_pausing_again_replaces_the_pattern(space, web, stock):
    seen = []
    stock.on("**", lambda event: seen.append(event.type))
    space.create_node("mail").on("letter", lambda event: seen.append("mail"))
    space.pause()
    web.broadcast("letter")
    web.broadcast("order")
    space.pause("order")
    space.settle()
    assert (sorted(seen), space.paused) == (["letter", "mail"], "order")
    space.pause("order")
    space.resume()
    space.settle()
    assert (sorted(seen), space.paused) == (["letter", "mail", "order"], None)


def test_where_pauses_this_process_alone(space, web, seen, other):
    other.do("heard = []; space.create_node('there').on('order', lambda event: heard.append(event.payload))")
    space.pause("order", where=lambda event: event.payload >= 1)
    send_orders(web, 3)
    space.settle()
    assert (seen, turns(space)) == ([0], [("stock", "order", 1), ("stock", "order", 2)])
    other.do("space.events(); space.settle()")
    assert other.ask("heard") == [0, 1, 2]
    space.step()
    assert seen == [0, 1]
    space.resume()
    space.settle()
    assert seen == [0, 1, 2]


def test_a_filter_that_raises_lets_the_event_wait(space, web, seen, caplog):
    space.pause(where=lambda event: event.payload["missing"])
    send_orders(web, 1)
    space.settle()
    assert (seen, len(space.held)) == ([], 1)
    assert "pause: where raised TypeError" in caplog.text
    space.resume()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_filter_that_exits_lets_the_event_wait(space, web, seen, error, capfd):
    def exits(event):
        raise error

    space.pause(where=exits)
    send_orders(web, 2)
    assert len(space.held) == 2
    space.step(timeout=10)
    assert seen == [0]
    space.resume()
    space.settle()
    assert seen == [0, 1]
    assert "Traceback" not in capfd.readouterr().err


async def coroutine_function(event):
    return False


def test_slow_waits_before_each_event(space, web, seen):
    space.pause()
    send_orders(web, 3)
    begun = time.monotonic()
    space.resume(slow=0.1)
    space.settle()
    assert seen == [0, 1, 2]
    assert time.monotonic() - begun >= 0.3
    with pytest.raises(happen.PaceError, match="runs slowly"):
        space.step()
    space.resume()
    web.broadcast("order", 3).settle()
    assert seen == [0, 1, 2, 3]


def test_slow_may_be_as_slow_as_one_likes(space, web, seen):
    space.pause()
    send_orders(web, 1)
    space.resume(slow=10**12)
    assert (space.paused, seen) == (None, [])
    space.resume()
    space.settle()
    assert seen == [0]


def test_a_handler_may_pause_its_space(space, web, stock):
    seen = []

    @stock.on("order")
    def handle(event):
        seen.append(event.payload)
        space.pause()

    send_orders(web, 1)
    space.settle()
    send_orders(web, 1)
    space.settle()
    assert (seen, len(space.held)) == ([0], 1)

    space.resume()
    space.settle()


def test_a_step_in_a_handler_is_refused(space, web, stock, capsys):
    stock.on("order", lambda event: space.step())
    web.broadcast("order").settle()
    (failure,) = space.failures
    assert "would wait for itself" in str(failure.exception)


# -- wrong arguments -------------------------------------------------------------------------------------


def test_a_space_that_is_not_paused_has_no_steps(space):
    for call in (space.step, lambda: space.resume(slow=0.1)):
        with pytest.raises(happen.PaceError, match=r"is not paused; space.pause\(\) pauses it"):
            call()


def test_resuming_again_does_nothing(space, web, seen):
    space.resume()
    space.pause()
    space.resume()
    space.resume()
    send_orders(web, 1)
    space.settle()
    assert (space.paused, seen) == (None, [0])


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda space: space.pause("order.{a"), happen.PatternError, "brace"),
        (lambda space: space.pause(""), happen.PatternError, "empty"),
        (lambda space: space.pause(len), TypeError, "where="),
        (lambda space: space.pause(where="x"), TypeError, "pause: where is 'x'"),
        (lambda space: space.pause(where=coroutine_function), TypeError, "pass a plain function"),
        (lambda space: space.pause(where=lambda: True), TypeError, "is called with an event"),
        (lambda space: space.step(0), ValueError, "step: count is 0; pass a whole number, 1 or more"),
        (lambda space: space.step(1.5), TypeError, "step: count"),
        (lambda space: space.resume(slow=-1), ValueError, "resume: slow is -1"),
        (lambda space: space.resume(slow=math.nan), ValueError, "resume: slow is nan"),
        (lambda space: space.resume(slow="fast"), TypeError, "resume: slow is 'fast'"),
    ],
)
def test_wrong_arguments_are_named(space, call, error, match):
    space.pause()
    with pytest.raises(error, match=match):
        call(space)
    assert space.paused == "**"


# -- other calls -----------------------------------------------------------------------------------------


def test_settle_names_what_is_held(space, web, seen, capfd):
    space.pause()
    send_orders(web, 2)
    space.settle()
    assert "settle: 2 events are held; space.step()" in capfd.readouterr().err
    web.broadcast("order").settle()
    assert "settle: 3 events are held" in capfd.readouterr().err


def test_held_events_are_not_unhandled(space, web, seen):
    space.pause()
    send_orders(web, 2)
    space.settle()
    assert len(space.unhandled) == 0


def test_clearing_ends_the_pause(space, web, seen):
    space.pause()
    send_orders(web, 2)
    space.settle()
    space.clear()
    assert (space.paused, len(space.held)) == (None, 0)
    web.broadcast("order", 7).settle()
    assert seen == [7]


def test_a_fork_is_not_paused(space, web, seen):
    space.pause()
    with space.fork(f"{space.name}_fork") as fork:
        assert fork.paused is None
        fork.drop()


def test_held_as_a_frame(space, web, seen):
    space.pause()
    event = web.broadcast("order", {"lamps": 2})
    frame = space.held.to_frame()
    assert frame.index.tolist() == [event.sequence]
    assert frame[["node", "type", "payload.lamps"]].values.tolist() == [["stock", "order", 2]]


def test_the_async_variants(space, web, seen):
    async def work():
        await space.apause()
        await web.abroadcast("order", 1)
        held = await space.aheld()
        steps = await space.astep()
        await space.aresume()
        return len(held), len(steps)

    assert happen.run(work()) == (1, 1)
    assert seen == [1]


def test_the_cell_of_a_handler_may_run_again_while_its_events_wait(space, web, stock):
    seen = []
    old = stock.on("order", lambda event: seen.append("old"))
    space.pause()
    send_orders(web, 1)
    space.settle()
    stock.off(old)
    stock.on("order", lambda event: seen.append("new"))
    space.resume()
    space.settle()
    assert seen == ["new"]


def test_what_waits_is_held_again_when_its_process_starts_again(store, request):
    name, names = request.node.name[:60], []
    for number in range(3):
        with happen.connect(store=store, name=name) as space:
            web, stock = space.create_node("web"), space.create_node("stock")
            stock.on("order", lambda event: names.append(event.payload))
            if number == 0:
                space.pause()
            web.broadcast("order", number)
            assert turns(space) == [("stock", "order", each) for each in range(number + 1)]
    with happen.connect(store=store, name=name) as space:
        stock = space.create_node("stock")
        stock.on("order", lambda event: names.append(event.payload))
        assert [each.event.payload for each in space.step()] == names == [0]
        space.drop()


def test_a_step_of_a_handler_that_waits_for_the_clock_says_so(store, request):
    with happen.connect(store=store, name=request.node.name[:60], clock="manual") as space:
        web, stock = space.create_node("web"), space.create_node("stock")

        @stock.on("order")
        async def take(event, context):
            await stock.state.aset({"taken": True})
            await context.sleep(5)

        space.pause()
        web.broadcast("order")
        assert repr(space.step()).splitlines() == [
            "Step · stock began to handle order · 1 commit",
            "  order  web → stock not done yet",
            "    stock revision 1  + taken  True",
        ]
        space.resume()


def test_a_step_that_still_looks_for_events_ends_when_the_space_is_closed(tmp_path, monkeypatch):
    monkeypatch.setattr(Gate, "_is_looking", True)
    with ThreadPoolExecutor(1) as pool, happen.connect(store=tmp_path, name="closes") as space:
        space.pause()
        step = pool.submit(space.step)
        with pytest.raises(TimeoutError):
            step.result(0.2)
        space.close()
        with pytest.raises(happen.ClosedError):
            step.result(5)


def test_a_space_that_closes_while_events_go_on_logs_no_error(tmp_path, caplog):
    for _ in range(10):
        with happen.connect(store=tmp_path, name="closes", fresh=True) as space:
            web, stock = space.create_node("web"), space.create_node("stock")
            web.on("order", lambda _: None)
            stock.on("order", lambda _: None)
            space.pause("order")
            send_orders(web, 4)
            assert len(space.held) == 8
            space.resume()
    gc.collect()  # asyncio logs the error of a task when the task is gone
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []


# -- other processes -------------------------------------------------------------------------------------


def test_other_processes_are_paused_and_stepped_through(space, web, seen, other):
    other.do("heard = []; space.create_node('there').on('order', lambda event: heard.append(event.payload))")
    other.do("space.pause()")
    send_orders(web, 2)
    assert [each.node for each in space.held] == ["stock", "there", "stock", "there"]
    steps = space.step(3)
    assert [(each.node, each.event.payload) for each in steps] == [("stock", 0), ("there", 0), ("stock", 1)]
    assert steps.left == 1
    assert other.ask("heard") == [0]
    assert seen == [0, 1]
    (step,) = other.ask("[(each.node, each.event.payload) for each in space.step()]")
    assert step == ["there", 1]
    other.do("space.resume()")
    web.broadcast("order", 2).settle()
    assert (seen, other.ask("heard")) == ([0, 1, 2], [0, 1, 2])


def test_two_processes_that_step_at_once_take_two_events(space, web, seen, other):
    space.pause()
    send_orders(web, 20)
    space.settle()
    taken = []
    stepping = threading.Thread(
        target=lambda: taken.extend(other.ask("[each.event.payload for each in space.step(10)]"))
    )
    stepping.start()
    taken += [each.event.payload for each in space.step(10)]
    stepping.join()
    assert sorted(taken) == seen == list(range(20))


def test_a_process_that_connects_later_is_paused(space, web, store, capfd):
    space.pause("order")
    late = OtherProcess(store=store, name=space.name)
    late.do("heard = []; space.create_node('late').on('order', lambda event: heard.append(event.payload))")
    send_orders(web, 1)
    assert [each.node for each in space.held] == ["late"]
    assert (late.ask("heard"), late.ask("space.paused")) == ([], "order")
    assert "is paused" in capfd.readouterr().err
    assert len(space.step()) == 1
    assert late.ask("heard") == [0]
    late.end()


def test_what_waits_at_a_node_goes_to_its_new_owner(space, web, stock, seen, other):
    space.pause()
    send_orders(web, 2)
    space.settle()
    other.do("heard = []; space.create_node('stock').on('order', lambda event: heard.append(event.payload))")
    send_orders(web, 1)
    assert [each.event.payload for each in space.held] == [0, 1, 0]
    space.step()
    assert (seen, other.ask("heard")) == ([], [0])
    space.resume()
    other.do("import time\nwhile len(heard) < 3: time.sleep(0.01)")
    assert (seen, other.ask("heard")) == ([], [0, 1, 0])
