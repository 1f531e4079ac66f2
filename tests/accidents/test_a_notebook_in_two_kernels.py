"""The same notebook is open in two kernels: one of them handles each event, and both know which."""

from __future__ import annotations

import itertools

import pytest

from tests.accidents.kernels import Kernel

CONNECT = "import happen_nb as happen, os\nspace = happen.connect(name={name!r})\nseen = []"
REGISTER = """
orders = space.create_node('orders')
@orders.on('go')
def handle(event):
    seen.append(event.payload)
"""
_count = itertools.count()


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    """Two kernels of one folder."""
    folder = tmp_path_factory.mktemp("kernels")
    kernels = Kernel(folder), Kernel(folder)
    yield kernels
    for kernel in kernels:
        kernel.end(now=True)


@pytest.fixture
def kernels(running):
    """Two kernels in a space of the test's own."""
    name = f"twice_{next(_count)}"
    for kernel in running:
        kernel.do(CONNECT.format(name=name))
    return running


def test_the_newest_handles_both_are_told_and_running_the_cell_again_takes_it_back(kernels):
    first, second = kernels
    pids = [kernel.ask("os.getpid()") for kernel in kernels]
    made = first.do(REGISTER, "cell-1")
    taken = second.do(REGISTER, "cell-1")

    made.until(lambda run: "another process" in run.stdout)
    assert 'now owns node "orders"; re-run the cell that registers its handlers to reclaim it' in made.stdout
    assert 'this process now owns node "orders"' in taken.stdout
    assert "before: another process" in taken.stdout
    assert made.stderr + taken.stderr == ""  # which notebooks show in red
    first.do("orders.broadcast('go', 1).settle()")
    assert [first.ask("seen"), second.ask("seen")] == [[], [1]]
    assert first.ask("(orders.owner.pid, orders.owner.here)") == (pids[1], False)
    assert second.ask("orders.owner.here") is True

    back = first.do(REGISTER, "cell-1")

    assert "before: another process" in back.stdout
    taken.until(lambda run: "another process" in run.stdout)
    assert "owned by" not in first.ask("repr(orders)")
    assert "owned by another process" in second.ask("repr(orders)"), "its handlers are not called now"
    second.do("orders.broadcast('go', 2).settle()")
    assert [first.ask("seen"), second.ask("seen")] == [[2], [1]]
    assert first.ask("len(orders.handlers)") == 1


def test_each_names_the_notebook_of_the_other(kernels):
    first, second = kernels
    first.do("import os; os.environ['JPY_SESSION_NAME'] = '/home/ada/sales.ipynb'")
    second.do("import os; os.environ['JPY_SESSION_NAME'] = 'stock.ipynb'")
    made = first.do(REGISTER, "cell-1")
    taken = second.do(REGISTER, "cell-1")

    made.until(lambda run: 'stock.ipynb now owns node "orders"' in run.stdout)
    assert "before: sales.ipynb)" in taken.stdout
    assert "/home" not in taken.stdout
    for kernel in kernels:
        kernel.do("del os.environ['JPY_SESSION_NAME']")


def test_two_kernels_of_one_notebook_are_told_apart(kernels):
    first, second = kernels
    for kernel in kernels:
        kernel.do("import os; os.environ['JPY_SESSION_NAME'] = 'sales.ipynb'")
    made = first.do(REGISTER, "cell-1")
    taken = second.do(REGISTER, "cell-1")

    made.until(lambda run: 'another kernel of sales.ipynb now owns node "orders"' in run.stdout)
    assert "before: another kernel of sales.ipynb)" in taken.stdout
    for kernel in kernels:
        kernel.do("del os.environ['JPY_SESSION_NAME']")


def test_when_the_newest_is_restarted_the_other_handles_again(kernels):
    first, second = kernels
    first.do(REGISTER)
    second.do(REGISTER)

    second.restart()

    first.do("while not (orders.owner and orders.owner.here): orders.state.get(fresh=True)")
    first.do("orders.broadcast('go', 3).settle()")
    assert first.ask("seen") == [3]


def test_a_cell_that_waits_for_a_reply_of_the_other_kernel_can_be_stopped(kernels):
    first, second = kernels
    second.do(
        "import asyncio\nworker = space.create_node('worker')\n@worker.on('work')\nasync def work(event):\n"
        "    seen.append('begun')\n    try:\n        await asyncio.sleep(600)\n"
        "    finally:\n        seen.append('stopped')"
    )
    run = first.begin(
        "me = space.create_node('me'); reply = me.send('worker', 'work')\n"
        "import threading, time\n"
        "def tell():\n    while reply.state != 'accepted': time.sleep(0.01)\n    print('it waits')\n"
        "threading.Thread(target=tell).start()\nreply.result()"
    ).until(lambda run: "it waits" in run.stdout)
    second.do("import time\nwhile not seen: time.sleep(0.01)")

    first.press_stop()

    assert run.wait().error.startswith("KeyboardInterrupt")
    second.do("while len(seen) < 2: time.sleep(0.01)")
    assert second.ask("seen") == ["begun", "stopped"]
    assert first.ask("reply.state") == "cancelled"
