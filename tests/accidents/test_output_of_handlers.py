"""The output and the errors of a handler are under the cell that caused it, in a real kernel."""

from __future__ import annotations

import sys

import pytest

SAY = """
import asyncio, logging, sys, threading, time, warnings
from concurrent.futures import ThreadPoolExecutor
from IPython.display import display
logging.basicConfig(force=True)
may_go = threading.Event()

def say(event):
    print('printed')
    print('flushed', flush=True)
    sys.stderr.write('on stderr\\n')
    logging.getLogger('mine').warning('logged')
    warnings.warn(f'warned of {event.type}')
    display('displayed')
    print('last')

async def wait():
    while not may_go.is_set():
        await asyncio.sleep(0.01)
"""

ON_STDOUT = "printed\nflushed\nlast\n"
ON_STDERR = ("on stderr", "WARNING:mine:logged", "UserWarning: warned of go")

HANDLERS = {
    "plain": """
def handle(event):
    may_go.wait(30)
    say(event)
""",
    "async": """
async def handle(event):
    await wait()
    say(event)
""",
    "generator": """
def handle(event):
    yield 1
    may_go.wait(30)
    yield 2
    say(event)
""",
    "async generator": """
async def handle(event):
    yield 1
    await wait()
    yield 2
    say(event)
""",
    "next step": """
def handle(event):
    may_go.wait(30)
    return say
""",
    "step after an async step": """
async def handle(event):
    await wait()
    return say
""",
    "retry": """
def handle(event, context):
    may_go.wait(30)
    assert context.attempt == 3
    say(event)
""",
    "where": """
def handle(event):
    pass
def where(event):
    may_go.wait(30)
    say(event)
    return True
""",
    "thread": """
def handle(event):
    may_go.wait(30)
    thread = threading.Thread(target=happen.carry(say), args=[event])
    thread.start()
    thread.join()
""",
    "timer": """
def handle(event):
    may_go.wait(30)
    timer = threading.Timer(0.01, happen.carry(say), [event])
    timer.start()
    timer.join()
""",
    "thread of a thread": """
def work(event):
    thread = threading.Thread(target=happen.carry(say), args=[event])
    thread.start()
    thread.join()
def handle(event):
    thread = threading.Thread(target=happen.carry(work), args=[event])
    may_go.wait(30)
    thread.start()
    thread.join()
""",
    "executor of a cell": """
executor = ThreadPoolExecutor(1)
executor.submit(print, end='').result()
def handle(event):
    may_go.wait(30)
    executor.submit(happen.carry(say), event).result()
""",
    "to_thread": """
async def handle(event):
    await wait()
    await asyncio.to_thread(say, event)
""",
    "run_in_executor": """
async def handle(event):
    await wait()
    await asyncio.get_running_loop().run_in_executor(None, happen.carry(say), event)
""",
    "task": """
async def work(event):
    say(event)
async def handle(event):
    await wait()
    await asyncio.create_task(work(event))
""",
}
CHAINS = {
    "broadcast": "node.broadcast('went', event.type)",
    "send": "node.send('second', 'went').result()",
    "set": "node.state.set(lambda s: node.broadcast('went') and {'n': 1})",
    "thread": "t = threading.Thread(target=happen.carry(node.broadcast), args=['went']); t.start(); t.join()",
}


@pytest.fixture
def talking(kernel):
    """A kernel with `say`, which waits for nothing, and `may_go`, which handlers wait for."""
    kernel.do(SAY)
    return kernel


def check(cause, *others):
    """Everything that `say` says is under `cause`, and nothing under the others."""
    cause.until(lambda run: "last" in run.stdout)
    assert cause.stdout == ON_STDOUT
    assert cause.shown == ["'displayed'"]
    assert all(text in cause.stderr for text in ON_STDERR)
    assert [other.output for other in others] == [""] * len(others)


@pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)
def test_output_is_under_the_cell_that_broadcast_also_when_another_cell_runs(talking, handler):
    made = talking.do(
        f"{handler}\norders.on('go', handle, where=globals().pop('where', None), retries=2, backoff=0.01);"
    )
    cause = talking.do("orders.broadcast('go');")
    other = talking.do("may_go.set(); space.settle()")

    check(cause, made, other)


@pytest.mark.parametrize("emit", CHAINS.values(), ids=CHAINS)
def test_output_of_what_a_handler_causes_is_under_the_cell_that_caused_the_first_event(talking, emit):
    made = talking.do(
        "second = space.create_node('second')\n"
        "second.on('went', lambda event: say(event))\n"
        "@orders.on('go')\n"
        "def handle(event, context):\n"
        "    node = context.node\n"
        "    may_go.wait(30)\n"
        f"    {emit}\n"
    )
    cause = talking.do("orders.broadcast('go');")
    other = talking.do("may_go.set(); space.settle()")

    cause.until(lambda run: "last" in run.stdout)
    assert cause.stdout == ON_STDOUT
    assert made.output + other.output == ""


def test_a_short_traceback_is_under_the_cell_that_caused_the_event(kernel):
    made = kernel.do(
        "@orders.on('go')\ndef handle(event):\n    may_go.wait(30)\n    return 1 / event.payload"
    )
    kernel.do("import threading; may_go = threading.Event()")
    cause = kernel.do("orders.broadcast('go', 0);")
    other = kernel.do("may_go.set(); space.settle()")

    cause.until(lambda run: "ZeroDivisionError" in run.stderr)

    assert "return 1 / event.payload" in cause.stderr
    assert "happen_nb" not in cause.stderr
    assert len(cause.stderr.splitlines()) < 10
    assert made.output + other.output == ""


def test_after_settle_all_output_is_there_when_the_cell_ends(talking):
    """So nbclient and nbval, which drop what comes later, always have it."""
    talking.do("may_go.set(); orders.on('go', say)\norders.on('fail', lambda event: 1 / 0);")

    for _ in range(20):
        cause = talking.do("orders.broadcast('go'); space.settle()")
        assert cause.stdout == ON_STDOUT
        assert cause.shown == ["'displayed'"]
    assert "ZeroDivisionError" in talking.do("orders.broadcast('fail'); space.settle()").stderr


def test_what_awaits_in_a_cell_is_of_that_cell(talking):
    made = talking.do("orders.on('go', say);")
    cause = talking.do("await orders.abroadcast('go'); await space.asettle()")

    check(cause, made)


def test_a_commit_that_emits_is_of_its_cell(talking):
    made = talking.do("orders.on('go', say);")
    cause = talking.do("orders.state.set(lambda s: orders.broadcast('go') and {'n': 1})\nspace.settle()")

    check(cause, made)


def test_a_thread_of_a_cell_is_of_the_cell_that_its_own_prints_are_under(talking):
    made = talking.do(
        "@orders.on('go')\ndef handle(event):\n    may_go.wait(30)\n    say(event)\n"
        "emitted = threading.Event()\n"
        "def work():\n    print('of the thread')\n    orders.broadcast('go')\n    emitted.set()\n"
    )
    cause = talking.do("threading.Thread(target=work).start(); emitted.wait(30);")
    other = talking.do("may_go.set(); space.settle()")

    cause.until(lambda run: "last" in run.stdout)
    assert cause.stdout == "of the thread\n" + ON_STDOUT
    assert cause.shown == ["'displayed'"]
    assert made.output + other.output == ""


def test_a_widgets_event_has_no_cell_so_its_output_is_under_the_cell_that_registered_the_handler(talking):
    made = talking.do("orders.on('go', say);")
    talking.do(
        "get_ipython().kernel.comm_manager.register_target(\n"
        "    'press', lambda comm, message: orders.broadcast('go')\n"
        ")"
    )

    talking.press("press")

    check(made)


def test_an_event_of_another_process_is_of_the_cell_that_registered_the_handler(talking):
    made = talking.do("orders.on('go', say);")
    other = talking.do(
        "import subprocess\n"
        "work = 'import happen_nb as happen, sys; happen.connect(name=sys.argv[1]).broadcast(\"go\")'\n"
        "subprocess.run([sys.executable, '-c', work, space.name], check=True);"
    )

    check(made, other)


def test_an_event_handled_again_is_of_the_cell_that_asks_for_it(talking):
    cause = talking.do(
        "@orders.on('go')\ndef handle(event):\n    1 / 0\norders.broadcast('go'); space.settle()"
    )
    assert "ZeroDivisionError" in cause.stderr
    made = talking.do("@orders.on('go')\ndef handle(event):\n    say(event)")
    asking = talking.do("space.failures.retry();")

    check(asking)
    assert " replaces In [" in made.output


def test_a_handler_without_a_kernel_prints_to_the_standard_streams(space, capsys):
    orders = space.create_node("orders")
    orders.on("go", lambda event: sys.stdout.write("printed\n"))
    orders.on("go", lambda event: 1 / 0)

    orders.broadcast("go").settle()

    out, err = capsys.readouterr()
    assert out == "printed\n"
    assert "ZeroDivisionError" in err


FAILS = "@orders.on('go')\ndef handle(event):\n    event.payload['n'] = 1"
CAUSE = "for _ in range(50): orders.broadcast('go', {})\nspace.settle()"


def test_a_cell_that_runs_again_shows_once_more_what_fails_and_once_only(kernel):
    """The front end has cleared what its last run showed."""
    kernel.do(FAILS, "cell-1")

    for _ in range(2):
        assert kernel.do(CAUSE, "cell-2").stderr.count("FrozenStateError") == 1


def test_what_a_library_raises_is_shown_with_the_users_own_line(kernel):
    kernel.do(f"{FAILS}\norders.on('read', lambda event: __import__('json').loads(event.payload));")
    run = kernel.do("orders.broadcast('go', {}); orders.broadcast('read', 'no json'); space.settle()")

    assert "event.payload['n'] = 1" in run.stderr
    assert "json').loads(event.payload)" in run.stderr
    assert "frozen.py" not in run.stderr
    assert "decoder.py" not in run.stderr
