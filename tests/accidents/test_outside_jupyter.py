"""The library in a script: all of it works, displays are text, and the script ends by itself."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


def run(folder, script, *by, **environment):
    """Return what a script prints, run by a Python of its own without any front end."""
    kept = {key: value for key, value in os.environ.items() if key != "NATS_URL"}
    done = subprocess.run(
        [sys.executable, *by, "-c", script],
        cwd=folder,
        env={**kept, "HAPPEN_STORE": str(folder / ".happen"), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout, done.stderr, done.returncode


USE_IT = """
import sys
import happen_nb as happen

space = happen.connect(name="script")
orders = space.create_node("orders", initial={"n": 0})
seen = []
orders.state.watch(lambda commit: seen.append(commit.after["n"]))
orders.state.watch(lambda commit: seen.append(commit.after["n"]))
commit = orders.state.set(lambda s, views: {"n": views.orders.get("n") + 1})
space.settle()
for thing in (space, orders, orders.state, commit, space.views, orders.state.history(), space.failures):
    assert isinstance(repr(thing), str) and repr(thing)
print(sorted(seen), commit)
print([name for name in ("IPython", "ipykernel", "ipywidgets", "plotly", "pandas") if name in sys.modules])
"""


def test_a_script_uses_it_without_ipython_widgets_plots_or_pandas_and_ends_by_itself(tmp_path):
    stdout, stderr, code = run(tmp_path, USE_IT)

    assert (code, stderr) == (0, "")
    first, *rest = stdout.splitlines()
    assert first.startswith("[1, 1] Commit of orders")
    assert rest[-1] == "[]"


def test_importing_it_starts_nothing(tmp_path):
    stdout, stderr, code = run(
        tmp_path,
        "import sys, threading, happen_nb\n"
        "print(threading.active_count())\n"
        "print([n for n in ('IPython', 'pandas', 'numpy', 'plotly') if n in sys.modules])",
    )

    assert (stdout, stderr, code) == ("1\n[]\n", "", 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "end",
    [
        "space.close()",
        "",
        "raise SystemExit(0)",
        "orders.state.watch(lambda c: threading.Event().wait()); orders.state.set({'n': 1})",
        "threading.Thread(target=orders.state.wait_for, args=(bool, 600), daemon=True).start()",
    ],
    ids=["closed", "left open", "SystemExit", "a callback that never ends", "a waiting thread"],
)
def test_a_script_ends_by_itself_however_it_leaves(tmp_path, end):
    begin = (
        "import threading, happen_nb as happen\norders = (space := happen.connect()).create_node('orders')"
    )

    stdout, stderr, code = run(tmp_path, f"{begin}\n{end}")

    assert (stdout, stderr, code) == ("", "", 0)


ENDLESS = """
import asyncio
from concurrent.futures import ThreadPoolExecutor
import happen_nb as happen

space = happen.connect()
orders, stock = space.create_node("orders"), space.create_node("stock")
executor = ThreadPoolExecutor(1)

def answer(event):
    orders.state.set(lambda s: {"n": s.get("n", 0) + 1})
    space.broadcast("a")

async def wait(event):
    while True:
        await asyncio.to_thread(str)

def work(event):
    while True:
        executor.submit(str).result()

orders.on("a", answer)
orders.state.watch(lambda commit: stock.state.set({"n": commit.after["n"]}))
stock.on("a", wait)
space.create_node("shop").on("a", work)
space.broadcast("a")
orders.state.wait_for(lambda s: s.get("n", 0) > 20)
"""


@pytest.mark.parametrize("by", [(), ("-m", "IPython", "--no-banner")], ids=["Python", "IPython"])
def test_handlers_that_run_while_a_script_ends_say_nothing(tmp_path, by):
    _, stderr, code = run(tmp_path, ENDLESS, *by, IPYTHONDIR=str(tmp_path))

    assert (stderr, code) == ("", 0)


def test_an_error_in_a_script_is_an_ordinary_traceback(tmp_path):
    _, stderr, code = run(
        tmp_path, "import happen_nb as happen; happen.connect().create_node('orders').state.set(7)"
    )

    assert code == 1
    assert stderr.splitlines()[-1].startswith("happen_nb.errors.StateError: ")


def test_a_url_in_the_environment_where_nobody_is_is_named(tmp_path):
    _, stderr, code = run(
        tmp_path,
        "import happen_nb as happen; happen.connect(timeout=1)",
        NATS_URL="nats://127.0.0.1:9",
    )

    assert code == 1
    assert "HappenConnectionError" in stderr
    assert "nats://127.0.0.1:9" in stderr.splitlines()[-1]


def test_interrupting_a_script_is_an_ordinary_keyboard_interrupt(tmp_path):
    _, stderr, code = run(
        tmp_path,
        "import os, signal, threading, happen_nb as happen\n"
        "state = happen.connect().create_node('orders').state\n"
        "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "state.wait_for(lambda s: s.get('never'), timeout=600)\n",
    )

    assert code != 0
    assert stderr.splitlines()[-1] == "KeyboardInterrupt"
