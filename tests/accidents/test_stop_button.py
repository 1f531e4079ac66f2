"""The stop button while a call waits: it ends at once, and the space stays usable."""

from __future__ import annotations

import pytest

from tests.accidents.kernels import SAY_WHEN_IT_WAITS

CALLS = {
    "set": "orders.state.set({'n': 1})",
    "set of a function": "orders.state.set(lambda s: {'n': 1})",
    "fresh get": "orders.state.get(fresh=True)",
    "history": "orders.state.history()",
    "at": "orders.state.at(datetime.datetime.now())",
    "wait_for": "orders.state.wait_for(lambda s: s['n'] == 99, timeout=600)",
    "wait_for an event": "space.wait_for('never', timeout=600)",
    "journal": "space.journal()",
    "clear": "space.clear(force=True)",
}


@pytest.fixture
def connected(shared_kernel, mortal):
    """A kernel whose space is on a server that can be frozen; its calls would wait ten minutes."""
    shared_kernel.do(
        f"{SAY_WHEN_IT_WAITS}\n"
        f"space = happen.connect({mortal.url!r}, name='stopped', timeout=600)\n"
        "orders = space.create_node('orders', initial={'n': 0})\n"
        "seen = []\n"
        "watch = orders.state.watch(lambda commit: seen.append(commit.after['n']))"
    )
    yield shared_kernel
    mortal.thaw()
    shared_kernel.do("space.close()")


def press_stop_while_waiting(kernel, call):
    run = kernel.begin(f"say_when_it_waits()\n{call}").until(lambda run: "it waits" in run.stdout)
    kernel.press_stop()
    kernel.send_anything()  # ipykernel 7.4 stops an awaiting cell when its loop wakes up next
    return run.wait()


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_that_waits_for_a_server_that_hangs_ends_before_the_server_answers(connected, mortal, call):
    mortal.freeze()

    run = press_stop_while_waiting(connected, call)

    assert run.error.startswith("KeyboardInterrupt")
    mortal.thaw()
    assert connected.ask("orders.state.get('n', fresh=True)") in (0, 1, None)
    connected.do("orders.state.set({'n': 2}); space.settle()")
    assert connected.ask("orders.state.get(fresh=True)") == {"n": 2}
    assert connected.ask("seen[-1]") == 2


def test_an_interrupted_set_is_stored_once_or_not_at_all_and_the_next_read_tells(connected, mortal):
    mortal.freeze()
    press_stop_while_waiting(connected, "orders.state.set(lambda s: {'n': s['n'] + 1})")
    mortal.thaw()

    told = connected.ask("orders.state.get('n', fresh=True)")

    for _ in range(3):
        assert connected.ask("orders.state.get('n', fresh=True)") == told
    assert told in (0, 1)
    assert connected.ask("[c.after['n'] for c in orders.state.history()]") == list(range(told + 1))


@pytest.mark.parametrize("call", ["wait_for", "wait_for an event"])
def test_wait_for_ends_though_the_server_is_well_and_watches_go_on(connected, call):
    run = press_stop_while_waiting(connected, CALLS[call])

    assert run.error.startswith("KeyboardInterrupt")
    connected.do("orders.state.set({'n': 5}); space.settle()")
    assert connected.ask("seen") == [5]


@pytest.mark.parametrize(
    "call", ["orders.state.aset({'n': 1})", "orders.state.await_for(lambda s: s['n'] == 99, 600)"]
)
def test_an_awaited_twin_ends_too(connected, mortal, call):
    mortal.freeze()

    run = press_stop_while_waiting(connected, f"await {call}")

    assert run.error.startswith("CancelledError")
    mortal.thaw()
    connected.do("orders.state.set({'n': 2}); space.settle()")
    assert connected.ask("orders.state.get(fresh=True)") == {"n": 2}


def test_settle_ends_while_a_watch_still_runs(connected):
    connected.do(
        "may_go = threading.Event()\n"
        "dawdle = orders.state.watch(lambda commit: may_go.wait(600))\n"
        "orders.state.set({'n': 1})"
    )

    run = press_stop_while_waiting(connected, "space.settle(600)")

    assert run.error.startswith("KeyboardInterrupt")
    connected.do("may_go.set(); space.settle()")
    assert connected.ask("seen") == [1]


def test_a_transform_that_never_ends_is_stopped_and_commits_nothing(connected):
    run = connected.begin(
        "def never(state):\n    print('it runs')\n    while True: pass\norders.state.set(never)"
    )
    run.until(lambda run: "it runs" in run.stdout)
    connected.press_stop()

    assert run.wait().error.startswith("KeyboardInterrupt")
    assert connected.ask("orders.state.set({'n': 1}).revision") == 2
