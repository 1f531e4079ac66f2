"""At the end of the interpreter, no handler starts, and nothing is printed."""

from __future__ import annotations

import subprocess
import sys
import threading

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


def test_a_thread_is_not_started_when_the_end_has_begun(monkeypatch):
    workers, ran = Workers(), []
    before = set(threading.enumerate())
    monkeypatch.setattr(workers_module, "shutdown_started", lambda: True)

    workers.submit(lambda: ran.append(1))

    assert {thread for thread in threading.enumerate() if thread.name == "happen_nb-worker"} <= before
    assert ran == []


def test_a_thread_that_the_ending_interpreter_refuses_is_no_error(monkeypatch):
    looks = iter([False, True])
    monkeypatch.setattr(workers_module, "shutdown_started", lambda: next(looks))

    def refuse(_):
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    Workers().submit(lambda: None)


def test_a_script_that_ends_while_handlers_run_prints_nothing():
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
