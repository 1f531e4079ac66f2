"""A cell that registers handlers is run again: only what its newest run registered handles events."""

from __future__ import annotations

import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient

NAMED = "@orders.on('go')\ndef handle(event):\n    seen.append('first')"
NAMED_EDITED = "@orders.on('go')\ndef handle(event):\n    seen.append('edited')"
LAMBDA = "orders.on('go', lambda event: seen.append('first'));"
LAMBDA_EDITED = "orders.on('go', lambda event: seen.append('edited'));"

with_and_without_ids = pytest.mark.parametrize("cell", ["cell-1", None], ids=["cell ids", "no cell ids"])
TASK = """
async def register():
    await asyncio.sleep(0)
    orders.on('go', lambda event: seen.append('first'))
await asyncio.gather(register())
"""
WAYS = {
    "decorator": NAMED,
    "lambda": LAMBDA,
    "where": "orders.on('go', seen.append, where=lambda event: seen.append('first'));",
    "predicate": "orders.on(str.isalpha, lambda event: seen.append('first'));",
    "await": f"await asyncio.sleep(0)\n{NAMED}",
    "task": TASK,
    "%%time": f"%%time\n{NAMED}",
    "%%capture": f"%%capture\n{NAMED}",
    "%time": f"%time {LAMBDA}",
    "function of another cell": "register_first()",
    "cell that fails": f"{NAMED}\nraise KeyboardInterrupt",
}


def seen_of_one_event(kernel, type="go"):
    """What the handlers note of the next event."""
    kernel.do(f"seen.clear(); orders.broadcast({type!r}); space.settle()")
    return sorted(kernel.ask("[each for each in seen if isinstance(each, str)]"))


@with_and_without_ids
@pytest.mark.parametrize("source", WAYS.values(), ids=WAYS)
def test_a_handler_of_a_cell_that_runs_again_is_there_once(kernel, cell, source):
    kernel.do(
        "import asyncio\ndef register_first():\n    orders.on('go', lambda event: seen.append('first'))"
    )
    for _ in range(3):
        kernel.run(source, cell)

    assert seen_of_one_event(kernel) == ["first"]


@pytest.mark.parametrize(
    ("source", "edited"), [(NAMED, NAMED_EDITED), (LAMBDA, LAMBDA_EDITED)], ids=["named", "lambda"]
)
def test_of_an_edited_cell_only_the_new_handler_is_there(kernel, source, edited):
    kernel.do(source, "cell-1")
    kernel.do(edited, "cell-1")

    assert seen_of_one_event(kernel) == ["edited"]


def test_of_an_edited_pattern_only_the_new_one_is_there(kernel):
    kernel.do(NAMED, "cell-1")
    kernel.do(NAMED.replace("'go'", "'went'"), "cell-1")

    assert seen_of_one_event(kernel) == []
    assert seen_of_one_event(kernel, "went") == ["first"]
    assert kernel.ask("[handler.pattern for handler in orders.handlers]") == ["went"]


def test_without_cell_ids_a_named_function_replaces_its_namesake_with_the_same_pattern(kernel):
    kernel.do(NAMED)
    kernel.do(NAMED_EDITED)

    assert seen_of_one_event(kernel) == ["edited"]


def test_without_cell_ids_an_edited_lambda_is_another_handler(kernel):
    kernel.do(LAMBDA)
    kernel.do(LAMBDA_EDITED)

    assert seen_of_one_event(kernel) == ["edited", "first"]


def test_without_cell_ids_a_namesake_with_another_pattern_stays(kernel):
    kernel.do(NAMED)
    kernel.do(NAMED_EDITED.replace("'go'", "'g*'"))

    assert seen_of_one_event(kernel) == ["edited", "first"]


def test_with_cell_ids_a_namesake_of_another_cell_stays(kernel):
    kernel.do(NAMED, "cell-1")
    kernel.do(NAMED_EDITED, "cell-2")

    assert seen_of_one_event(kernel) == ["edited", "first"]


def test_two_cells_with_the_same_source_are_two_where_they_have_ids(kernel):
    for cell in ("cell-1", "cell-2", "cell-1"):
        kernel.do(LAMBDA, cell)
    assert seen_of_one_event(kernel) == ["first", "first"]


def test_two_cells_with_the_same_source_are_one_without_ids(kernel):
    for _ in range(2):
        kernel.do(LAMBDA)
    assert seen_of_one_event(kernel) == ["first"]


@with_and_without_ids
def test_all_handlers_of_one_run_stay(kernel, cell):
    for _ in range(2):
        kernel.do(f"{NAMED}\n{NAMED_EDITED}\nfor n in range(2):\n    orders.on('go', handle)", cell)

    assert seen_of_one_event(kernel) == ["edited", "edited", "edited", "first"]


def test_what_a_thread_of_a_cell_registers_stays(kernel):
    source = (
        "import threading\n"
        "thread = threading.Thread(target=orders.on, args=['go', lambda event: seen.append('first')])\n"
        "thread.start(); thread.join()"
    )
    kernel.do(source, "cell-1")
    kernel.do(source, "cell-1")

    assert seen_of_one_event(kernel) == ["first", "first"]


def test_a_cell_that_no_longer_registers_leaves_no_handler(kernel):
    kernel.do(NAMED, "cell-1")
    kernel.do("pass", "cell-1")

    assert seen_of_one_event(kernel) == []
    assert kernel.ask("[each.event.type for each in space.unhandled]") == ["go"]


def test_the_order_is_that_of_the_newest_registration(kernel):
    kernel.do("orders.on('go', lambda event: seen.append('one'));", "cell-1")
    kernel.do("orders.on('go', lambda event: seen.append('two'));", "cell-2")
    kernel.do("orders.on('go', lambda event: seen.append('one again'));", "cell-1")
    kernel.do("orders.broadcast('go'); space.settle()")

    assert kernel.ask("seen") == ["two", "one again"]


CONNECT = "space = happen.connect(name='first')\norders = space.create_node('orders')\nseen = []"


def test_the_cell_that_connects_counts_too(own_kernel):
    for _ in range(2):
        own_kernel.do(f"{CONNECT}\n{LAMBDA}", "cell-1")

    assert seen_of_one_event(own_kernel) == ["first"]


REGISTER_LATER = """
import asyncio
async def register_later():
    while not ended:
        await asyncio.sleep(0.01)
    orders.on('go', lambda event: seen.append('task'))
    print('registered')
ended = []
task = asyncio.create_task(register_later())
get_ipython().events.register('post_run_cell', ended.append)
"""


def test_cells_are_told_apart_also_where_a_task_registered_the_first_handler_between_cells(own_kernel):
    own_kernel.do(f"{CONNECT}\n{REGISTER_LATER}").until(lambda run: "registered" in run.stdout)
    for _ in range(2):
        own_kernel.do(LAMBDA, "cell-1")

    assert seen_of_one_event(own_kernel) == ["first", "task"]


def test_events_that_wait_while_the_cell_runs_again_are_handled_once_and_by_the_new_handler(kernel):
    kernel.do(
        "import threading; may_go = threading.Event(); begun = threading.Event()\n"
        "orders.on('wait', lambda event: (begun.set(), may_go.wait(30)));"
    )
    kernel.do(NAMED, "cell-1")
    kernel.do("orders.broadcast('wait'); [orders.broadcast('go') for _ in range(3)]; begun.wait(30);")
    kernel.do(NAMED_EDITED, "cell-1")
    kernel.do("may_go.set(); space.settle()")

    assert kernel.ask("seen") == ["edited"] * 3


# -- modules -----------------------------------------------------------------------------------------


@pytest.fixture
def reloading(own_kernel):
    """A kernel with autoreload, and a way to edit the module ``mine``."""
    own_kernel.do(
        "%load_ext autoreload\n%autoreload 2\n"
        "import sys; sys.dont_write_bytecode = True; sys.path.insert(0, '.')\n"
        "space = happen.connect(name='reloaded'); orders = space.create_node('orders')\nseen = []"
    )

    def edit(source, cell=None):
        (own_kernel.folder / "mine.py").write_text(source)
        own_kernel.do("import mine", cell)

    return own_kernel, edit


def test_a_handler_of_a_module_that_autoreload_reloads_is_the_new_one(reloading):
    kernel, edit = reloading
    edit("def handle(event):\n    event.payload.append('never')\n")
    kernel.do("orders.on('go', mine.handle);")
    edit("# edited\ndef handle(event, context):\n    return f'{context.attempt}, the new one'\n")

    assert kernel.ask("orders.send('orders', 'go').result()") == "1, the new one"


def test_a_handler_that_becomes_async_when_its_module_is_reloaded_is_awaited(reloading):
    kernel, edit = reloading
    edit("def handle(event):\n    return 'old'\n")
    kernel.do("orders.on('go', mine.handle);")
    assert kernel.ask("orders.send('orders', 'go').result()") == "old"
    edit("# edited\nasync def handle(event):\n    return 'awaited'\n")

    assert kernel.ask("orders.send('orders', 'go').result()") == "awaited"


# -- other front ends --------------------------------------------------------------------------------

SETUP = (
    "import happen_nb as happen\n"
    "space = happen.connect(name={name!r})\n"
    "orders = space.create_node('orders', initial={{'n': 0}})\n"
    "seen = []"
)
TELL = "orders.broadcast('go'); space.settle()\nprint(seen)"


def test_a_notebook_run_by_nbclient_whose_cell_is_edited(tmp_path, monkeypatch, store, space):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)
    monkeypatch.setenv("HAPPEN_STORE", str(store))
    cells = [SETUP.format(name=space.name), NAMED, TELL]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(notebook, timeout=60, kernel_name="python3")

    with client.setup_kernel():
        for index in (0, 1, 1):
            client.execute_cell(notebook.cells[index], index)
        notebook.cells[1].source = NAMED_EDITED
        for index in (1, 1, 2):
            client.execute_cell(notebook.cells[index], index)

    assert notebook.cells[2].outputs[0].text == "['edited']\n"


def run_python(*arguments, cwd, text=None):
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout + done.stderr


def test_in_a_script_all_handlers_stay(tmp_path, monkeypatch, store, space):
    monkeypatch.setenv("HAPPEN_STORE", str(store))
    script = tmp_path / "script.py"
    script.write_text("\n".join([SETUP.format(name=space.name), NAMED, NAMED, LAMBDA, LAMBDA, TELL]))

    assert run_python(str(script), cwd=tmp_path) == "['first', 'first', 'first', 'first']\n"


def test_in_a_terminals_ipython_a_cell_is_known_by_its_source_and_a_function_by_its_name(
    tmp_path, monkeypatch, store, space
):
    monkeypatch.setenv("HAPPEN_STORE", str(store))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    cells = [SETUP.format(name=space.name), NAMED, NAMED, NAMED_EDITED, LAMBDA, LAMBDA, TELL]
    script = "\n".join(
        ["from IPython.core.interactiveshell import InteractiveShell", "shell = InteractiveShell.instance()"]
        + [f"shell.run_cell({cell!r}, store_history=True)" for cell in cells]
    )

    assert "['edited', 'first']" in run_python("-c", script, cwd=tmp_path)


MODULE = """
import happen_nb as happen

orders = happen.current().create_node("orders")
seen = []

@orders.on("go")
def handle(event):
    seen.append({word!r})
"""


@pytest.mark.parametrize(
    "reload", ["pass", "import importlib; importlib.reload(mine)"], ids=["auto", "reload"]
)
def test_a_module_that_registers_and_is_reloaded_handles_each_event_once(reloading, reload):
    kernel, edit = reloading
    edit(MODULE.format(word="old"))
    kernel.do("orders.broadcast('go'); space.settle()")
    assert kernel.ask("mine.seen") == ["old"]
    edit(MODULE.format(word="the new one"), "cell-2")
    kernel.do(reload)
    kernel.do("mine.seen.clear(); orders.broadcast('go'); space.settle()")

    assert kernel.ask("mine.seen") == ["the new one"]


def test_a_module_that_registers_goes_on_when_the_cell_that_imported_it_runs_again(reloading):
    kernel, edit = reloading
    edit(MODULE.format(word="mine"), "cell-1")
    kernel.do("import mine", "cell-1")
    kernel.do("orders.broadcast('go'); space.settle()")

    assert kernel.ask("mine.seen") == ["mine"]
