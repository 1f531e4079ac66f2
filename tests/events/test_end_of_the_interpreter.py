"""At the end of the interpreter, no handler starts, and nothing is printed."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from happen_nb._runtime import workers as workers_module
from happen_nb._runtime.workers import Workers

SCRIPT = """
import threading
import happen_nb as happen

space = happen.connect(store=":memory:", name="ending")
nodes = [space.create_node(f"n{i}") for i in range(30)]
for node in nodes:
    node.on("tick", lambda event, node=node: node.broadcast("tick", event.payload + 1))
nodes[0].broadcast("tick", 0)
space.wait_for("tick", where=lambda event: event.payload > 2)
"""


WAITED_FOR = """
import threading
import happen_nb as happen

space = happen.connect(store=":memory:", name="waited_for")
begun, gate = threading.Event(), threading.Event()
for i in range(30):
    space.create_node(f"n{i}").on("tick", lambda event: gate.wait(20))


def start(event):
    begun.set()
    threading.Thread(target=int).start()


space.create_node("starts").on("tick", start)


def late():
    threading.main_thread().join()  # the interpreter is ending, and waits for this thread
    space.broadcast("tick")
    begun.wait(0.2)  # it does not begin if no thread can start
    gate.set()


threading.Thread(target=late).start()
"""

ENDING = "the interpreter is shutting down and has closed every space; call it earlier, or in atexit"

LATE = """
import happen_nb as happen


class Shop:
    def __init__(self):
        self.space = happen.connect(store=":memory:", name="late")
        self.orders = self.space.create_node("orders")
        self.orders.on("ask", print)
        self.reply = self.space.send("orders", "ask", after=3600)

    def __del__(self):
        for call in (
            lambda: self.orders.state.set({"n": 1}),
            lambda: self.space.send("orders", "ask"),
            lambda: self.reply.result(),
            self.space.events,
            self.space.pause,
            lambda: self.space.replay([{"n": 1}], type="late"),
        ):
            try:
                call()
            except happen.ClosedError as error:
                print(error)
        self.space.close()


shop = Shop()
"""


CYCLE = """
import happen_nb as happen
from happen_nb.learn import repeat


class Failing(Exception):
    def __str__(self):
        return "failed"


def fail(event):
    raise Failing


space = happen.connect(store=":memory:", name="cycle")
space.failures.shows = False
orders = space.create_node("orders", initial={"n": 1})
orders.on("fail", fail)
space.broadcast("fail")
space.settle()
space.replay([{"n": 1}], type="imported").wait()
repr(space.failures[0])


async def read():
    return await orders.state.aget(fresh=True)


class Late:
    def __init__(self):
        self.me = self  # it is collected while modules can still be imported
        self.calls = (
            lambda: space.replay([{"n": 1}], type="late"),
            lambda: orders.state.live("n"),
            lambda: happen.run(read()),
            lambda: repeat(print),
            space.rerun,
            space.pause,
        )

    def __del__(self):
        for call in self.calls:
            try:
                call()
            except happen.ClosedError as error:
                print(error)
        print(repr(space.failures[0]).splitlines()[1])


Late()
"""


def test_a_thread_is_not_started_when_the_end_has_begun(monkeypatch):
    workers, ran = Workers(lambda: False, lambda call: call()), []
    before = set(threading.enumerate())
    monkeypatch.setattr(workers_module, "shutdown_started", lambda: True)

    workers.submit(lambda: ran.append(1))

    assert {thread for thread in threading.enumerate() if thread.name == "happen_nb-worker"} <= before
    assert ran == []


@pytest.mark.parametrize("noticed", [True, False])
def test_a_thread_that_the_ending_interpreter_refuses_is_no_error(monkeypatch, caplog, noticed):
    looks = iter([False, noticed])
    monkeypatch.setattr(workers_module, "shutdown_started", lambda: next(looks))

    def refuse(_):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    Workers(lambda: False, lambda call: call()).submit(lambda: None)
    assert caplog.records == []


@pytest.mark.parametrize("script", [SCRIPT, WAITED_FOR])
def test_a_script_that_ends_while_handlers_run_prints_nothing(script):
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_call_after_the_end_of_the_interpreter_is_an_error_and_does_not_hang():
    done = subprocess.run(
        [sys.executable, "-c", LATE], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [ENDING] * 6


def test_a_call_of_a_cycle_that_is_collected_at_the_end_does_not_hang():
    done = subprocess.run(
        [sys.executable, "-c", CYCLE], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [*[ENDING] * 6, "  Failing: failed"]
