"""Mistakes of notebook users with events, and what should then happen."""

from __future__ import annotations

import re

import pytest

HANG = """
import asyncio, threading, time
may_go = threading.Event()
ended = []

def plain(event):
    seen.append('begun')
    may_go.wait(600)
    seen.append('it goes on')
    orders.state.set({'n': 'written by a cancelled handler'})

async def waits(event):
    seen.append('begun')
    try:
        await asyncio.sleep(600)
    finally:
        ended.append('async')

def counts(event):
    seen.append('begun')
    try:
        while True:
            yield time.monotonic()
            time.sleep(0.01)
    finally:
        ended.append('generator')

async def awaits_and_counts(event):
    seen.append('begun')
    try:
        while True:
            yield 1
            await asyncio.sleep(0.01)
    finally:
        ended.append('async generator')

def say_when_begun():
    def look():
        while not seen: time.sleep(0.005)
        print('it waits')
    threading.Thread(target=look).start()
"""


@pytest.fixture
def hanging(kernel):
    """A kernel with handlers that do not end, and one that does."""
    kernel.do(
        f"{HANG}\n"
        "for handler in (plain, waits, counts, awaits_and_counts): orders.on(handler.__name__, handler)\n"
        "orders.on('quick', lambda event: 'quick'); inventory = space.create_node('inventory')\n"
        "inventory.on('quick', lambda event: 'quick');"
    )
    yield kernel
    kernel.do("may_go.set()")


def stop(kernel, call):
    """Run a call, and press the stop button while it waits."""
    run = kernel.begin(f"say_when_begun()\n{call}").until(lambda run: "it waits" in run.stdout)
    kernel.press_stop()
    return run.wait()


# -- too late, too often -----------------------------------------------------------------------------


def test_an_event_before_its_handlers_cell_is_unhandled_until_it_is_asked_for(kernel):
    kernel.do("event = orders.broadcast('go', 1)")
    kernel.do("@orders.on('go')\ndef handle(event):\n    seen.append(event.payload)")
    kernel.do("orders.broadcast('go', 2); space.settle()")
    assert kernel.ask("seen") == [2]
    assert kernel.ask("[each.event.payload for each in space.unhandled]") == [1]

    kernel.do("space.unhandled.retry()")

    assert kernel.ask("seen") == [2, 1]
    assert kernel.ask("len(space.unhandled)") == 0


def test_a_cell_with_an_event_with_an_id_may_run_again(kernel):
    kernel.do("orders.on('go', lambda event: seen.append(event.payload));")
    cell = "event = orders.broadcast('go', 1, id='only-once'); space.settle()"

    for _ in range(3):
        kernel.do(cell, "cell-1")

    assert kernel.ask("seen") == [1]
    assert kernel.ask("event.repeated") is True


@pytest.mark.parametrize("magic", ["%%time", "%%timeit -n 20 -r 2", "%%capture", "%%prun -q"])
def test_magics_around_broadcast_work(kernel, magic):
    kernel.do("orders.on('go', lambda event: seen.append(1));")

    assert not kernel.run(f"{magic}\norders.broadcast('go')").error
    kernel.do("space.settle()")

    assert kernel.ask("len(seen)") == (40 if "timeit" in magic else 1)


# -- the stop button ---------------------------------------------------------------------------------


@pytest.mark.parametrize("handler", ["plain", "waits", "counts", "awaits_and_counts"])
def test_the_stop_button_while_a_reply_is_waited_for_cancels_the_handler(hanging, handler):
    run = stop(hanging, f"reply = orders.send('orders', {handler!r}); reply.result()")

    assert run.error.startswith("KeyboardInterrupt")
    assert hanging.ask("reply.state") == "cancelled"
    assert hanging.ask("orders.send('orders', 'quick').result()") == "quick"
    hanging.do("space.settle()")
    names = {"waits": ["async"], "counts": ["generator"], "awaits_and_counts": ["async generator"]}
    assert hanging.ask("ended") == names.get(handler, [])
    assert hanging.ask("len(space.failures)") == 0


def test_a_plain_handler_that_was_cancelled_changes_nothing_any_more(hanging):
    stop(hanging, "orders.send('orders', 'plain').result()")
    hanging.do("may_go.set()\nwhile 'it goes on' not in seen: time.sleep(0.005)")
    hanging.do("orders.broadcast('quick').settle();")

    assert hanging.ask("orders.state.get('n', fresh=True)") == 0


def test_the_stop_button_while_progress_is_read_ends_the_cell(hanging):
    run = stop(hanging, "reply = orders.send('orders', 'counts')\nfor value in reply: pass")

    assert run.error.startswith("KeyboardInterrupt")
    hanging.do("reply.cancel(); space.settle()")
    assert hanging.ask("ended") == ["generator"]


def test_the_stop_button_during_settle_lets_the_handler_go_on(hanging):
    run = stop(hanging, "event = orders.broadcast('plain'); space.settle(600)")

    assert run.error.startswith("KeyboardInterrupt")
    assert hanging.ask("inventory.send('inventory', 'quick').result()") == "quick"
    hanging.do("may_go.set(); space.settle()")
    assert hanging.ask("orders.state.get('n')") == "written by a cancelled handler"


def test_the_stop_button_during_the_settle_of_an_event(hanging):
    run = stop(hanging, "event = orders.broadcast('plain'); event.settle(600)")

    assert run.error.startswith("KeyboardInterrupt")
    hanging.do("may_go.set(); event.settle()")


def test_the_stop_button_while_an_event_is_waited_for(hanging):
    run = stop(hanging, "seen.append(1); space.wait_for('never', timeout=600)")

    assert run.error.startswith("KeyboardInterrupt")
    assert hanging.ask("orders.send('orders', 'quick').result()") == "quick"


def test_a_stopped_call_shows_the_users_frame_and_little_else(hanging):
    run = stop(hanging, "def mine():\n    orders.send('orders', 'waits').result()\nmine()")

    trace = next(m["content"]["traceback"] for m in run.messages if m["msg_type"] == "error")
    assert len([frame for frame in trace if "mine" in frame]) == 2
    assert (
        len([frame for frame in trace if "happen_nb" in frame]) <= 1
    )  # the last frame, which IPython shows in any case


# -- handlers that do not end ------------------------------------------------------------------------


def test_a_handler_that_never_ends_is_named_by_settle_and_shown_by_its_node(hanging):
    hanging.do("for _ in range(3): orders.broadcast('plain')\nwhile orders.busy == '': time.sleep(0.01)")

    assert re.search(r"busy \d+ s, 2 waiting", hanging.ask("repr(orders)"))
    run = hanging.run("space.settle(0.1)")
    assert run.error.startswith("HappenTimeoutError")
    assert 'node "orders" handling "plain" (3)' in run.error


FLOOD = """
a, b = space.create_node('a'), space.create_node('b')
a.on('ping', lambda event: a.broadcast('pong'))
b.on('pong', lambda event: b.broadcast('ping'))
started = a.broadcast('pong')
"""


def test_a_flood_of_two_nodes_is_cut_and_told(kernel):
    kernel.do(f"{FLOOD}\nspace.settle(60)")

    assert kernel.ask("[type(f.exception).__name__ for f in space.failures]") == ["CausalLoopError"]
    assert kernel.ask("space.failures[0].event.correlation == started.id")


def test_in_a_flood_the_stop_button_works_and_the_kernel_ends_when_it_is_told_to(own_kernel):
    own_kernel.do(
        f"space = happen.connect(name='flood')\n{FLOOD}\na.on('pong', lambda event: a.broadcast('ping'));"
    )
    run = own_kernel.begin("print('it waits')\nspace.settle(600)").until(lambda run: "it waits" in run.stdout)
    own_kernel.press_stop()
    assert run.wait().error.startswith("KeyboardInterrupt")

    own_kernel.ask_to_end()


@pytest.mark.parametrize(
    "handler",
    ["def handle(event):\n    threading.Event().wait()", "async def handle(event):\n    time.sleep(3600)"],
    ids=["plain", "async that blocks"],
)
def test_a_kernel_with_a_handler_that_never_ends_ends_by_itself_when_it_is_told_to(own_kernel, handler):
    own_kernel.do(
        "import threading, time\norders = happen.connect(name='busy').create_node('orders')\n"
        f"@orders.on('go')\n{handler}\n"
        "orders.broadcast('go');"
    )

    own_kernel.ask_to_end()


# -- mistakes in handlers ----------------------------------------------------------------------------


def failure_of(kernel, handler):
    """The text of what a handler raises, which also is under the cell."""
    kernel.do(f"@orders.on('go')\n{handler}")
    run = kernel.do("orders.broadcast('go', {'n': [1]}); space.settle()")
    text = kernel.ask("str(space.failures[-1].exception)")
    assert text.splitlines()[0] in run.stderr
    return text


def test_a_mutated_payload_says_how_to_change_a_copy(kernel):
    assert "{**state" in failure_of(kernel, "def handle(event):\n    event.payload['n'] = 2")
    assert "[*items, item]" in failure_of(kernel, "def handle(event):\n    event.payload['n'].append(2)")


def test_a_forgotten_return_of_a_transform_in_a_handler(kernel):
    text = failure_of(kernel, "def handle(event):\n    orders.state.set(lambda state: None)")

    assert "return" in text


def test_waiting_in_an_async_handler_where_it_would_block_the_loop_names_await(kernel):
    text = failure_of(kernel, "async def handle(event):\n    orders.send('orders', 'other').result()")

    assert "await reply" in text


def test_settle_in_a_handler_says_that_it_would_wait_for_itself(kernel):
    assert "itself" in failure_of(kernel, "def handle(event):\n    space.settle()")


@pytest.mark.parametrize(
    "error", ["SystemExit(1)", "KeyboardInterrupt()", "GeneratorExit()", "StopIteration()"]
)
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_whatever_a_handler_raises_is_a_failure_and_the_next_event_is_handled(kernel, kind, error):
    kernel.do(
        f"@orders.on('go')\n{kind} handle(event):\n    seen.append(event.payload)\n"
        f"    if event.payload == 1: raise {error}"
    )
    kernel.do("orders.broadcast('go', 1); orders.broadcast('go', 2); space.settle()")

    assert kernel.ask("seen") == [1, 2]
    assert kernel.ask("len(space.failures)") == 1


def test_blocking_calls_work_in_an_async_cell_and_in_an_async_handler(kernel):
    kernel.do(
        "import asyncio\n"
        "@orders.on('go')\nasync def handle(event):\n"
        "    await asyncio.sleep(0)\n"
        "    orders.state.set({'n': event.payload})\n"
        "    orders.broadcast('went')\n"
        "    return orders.state.get('n', fresh=True)"
    )

    run = kernel.do(
        "await asyncio.sleep(0)\n"
        "event = orders.broadcast('go', 1); event.settle()\n"
        "print(orders.send('orders', 'go', 2).result(), await orders.send('orders', 'go', 3))"
    )

    assert run.stdout == "2 3\n"
