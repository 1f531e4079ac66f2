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
    """Return what the handlers note of the next event."""
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


@with_and_without_ids
@pytest.mark.parametrize("wanted", ["'go'", "first"])
def test_a_cell_that_replaces_a_handler_runs_again(kernel, cell, wanted):
    kernel.do("def first(event):\n    seen.append('first')\norders.on('go', first);")
    for _ in range(3):
        kernel.run(f"orders.off({wanted})\norders.on('go', lambda event: seen.append('second'));", cell)
        assert seen_of_one_event(kernel) == ["second"]


@with_and_without_ids
def test_a_cell_that_only_unregisters_a_handler_runs_again(kernel, cell):
    kernel.do("orders.on('go', lambda event: seen.append('first'));")
    for _ in range(3):
        kernel.run("orders.off('go')", cell)
        assert seen_of_one_event(kernel) == []
    assert "has no handler" in kernel.run("orders.off('go')  # in another cell").error


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


def cell_number(kernel):
    """The number of the next cell, as the kernel shows it."""
    return kernel.do("pass").number + 1


@with_and_without_ids
def test_a_named_function_of_another_cell_is_replaced_and_a_line_says_so(kernel, cell):
    first = cell_number(kernel)
    kernel.do(NAMED, cell and "cell-1")
    run = kernel.do(NAMED_EDITED, cell and "cell-2")

    assert run.stdout == (
        f'In [{first + 1}] replaces In [{first}] on node "orders": "go" -> handle; '
        "on(..., keep=True) keeps both\n"
    )
    assert run.stderr == ""
    assert seen_of_one_event(kernel) == ["edited"]


@pytest.mark.parametrize(
    ("call", "advice", "kept"),
    [
        ("on('go')", "on(..., keep=True)", "on('go', keep=True)"),
        ("on('go', durable=True)", "another function name", None),
        ("state.on('go')", "state.on(..., name=..., keep=True)", "state.on('go', name='other', keep=True)"),
        ("every(60)", "every(..., id=...)", "every(60, id='other')"),
        ("state.every(60)", "every(..., id=...)", "state.every(60, id='other')"),
    ],
)
def test_the_line_names_what_keeps_both(kernel, call, advice, kept):
    parameters = "state, event" if "state" in call else "event"
    cell = f"@orders.{{}}\ndef {{}}({parameters}): return {{{{}}}}"
    kernel.do(cell.format(call, "handle"), "cell-1")
    run = kernel.do(cell.format(call, "handle"), "cell-2")
    assert run.stdout.endswith(f"-> handle; {advice} keeps both\n")

    both = cell.format(kept or call, "handle" if kept else "another")
    assert kernel.do(both, "cell-3").stdout == ""
    assert kernel.ask("len(orders.handlers)") == 2


def test_no_line_says_so_when_the_notebook_is_run_again_from_a_fresh_space(kernel):
    kernel.do(NAMED, "cell-1")
    kernel.do(NAMED_EDITED, "cell-2")
    kernel.do("happen.connect(name=space.name, fresh=True)", "cell-0")
    assert kernel.do(NAMED, "cell-1").stdout == ""
    assert seen_of_one_event(kernel) == ["first"]
    assert " replaces In [" in kernel.do(NAMED_EDITED, "cell-2").stdout


def test_a_state_handler_with_the_name_of_a_handler_replaces_it(kernel):
    kernel.do(NAMED, "cell-1")
    run = kernel.do("@orders.state.on('go')\ndef handle(state, event):\n    return state", "cell-2")

    assert " replaces In [" in run.stdout
    assert seen_of_one_event(kernel) == []


@with_and_without_ids
def test_running_its_own_cell_again_replaces_it_without_a_line(kernel, cell):
    kernel.do(NAMED, cell)
    assert kernel.do(NAMED, cell).output == ""


def test_a_lambda_with_the_same_source_is_the_same_function(kernel):
    for cell in ("cell-1", "cell-2", "cell-3"):
        run = kernel.do(LAMBDA, cell)
    assert "replaces" in run.stdout
    assert seen_of_one_event(kernel) == ["first"]


def test_a_lambda_with_another_source_or_other_defaults_is_another_function(kernel):
    kernel.do(LAMBDA, "cell-1")
    kernel.do(LAMBDA_EDITED, "cell-2")
    for n in (3, 4):
        kernel.do(f"orders.on('go', lambda event, n='{n}': seen.append(n));", f"cell-{n}")
    assert seen_of_one_event(kernel) == ["3", "4", "edited", "first"]


def test_what_a_function_makes_is_the_same_if_it_has_closed_over_the_same(kernel):
    kernel.do("def make(word):\n    def handle(event):\n        seen.append(word)\n    return handle")
    for cell, word in enumerate(["a", "b", "b", "c"]):
        kernel.do(f"orders.on('go', make('{word}'));", f"cell-{cell}")
    assert seen_of_one_event(kernel) == ["a", "b", "c"]


@pytest.mark.parametrize("kept", ["first", "second"])
def test_keep_keeps_both(kernel, kept):
    sources = [
        NAMED.replace("'go'", "'go', keep=True" if kept == "first" else "'go'"),
        NAMED_EDITED.replace("'go'", "'go', keep=True" if kept == "second" else "'go'"),
    ]
    for n, source in enumerate(sources):
        assert kernel.do(source, f"cell-{n}").output == ""

    assert seen_of_one_event(kernel) == ["edited", "first"]
    kernel.do(sources[0], "cell-0")
    assert seen_of_one_event(kernel) == ["edited", "first"]


@with_and_without_ids
def test_another_pattern_or_node_is_another_registration(kernel, cell):
    kernel.do("other = space.create_node('other')")
    kernel.do(NAMED, cell and "cell-1")
    kernel.do(NAMED_EDITED.replace("'go'", "'g*'"), cell and "cell-2")
    kernel.do(NAMED.replace("orders", "other"), cell and "cell-3")

    assert seen_of_one_event(kernel) == ["edited", "first", "first"]


def test_a_method_of_another_object_is_another_function(kernel):
    kernel.do("class Shop:\n    def handle(self, event):\n        seen.append(self.word)\n")
    kernel.do("a, b = Shop(), Shop(); a.word, b.word = 'a', 'b'")
    for cell, name in enumerate("aab"):
        kernel.do(f"orders.on('go', {name}.handle);", f"cell-{cell}")
    assert seen_of_one_event(kernel) == ["a", "b"]


def test_the_events_that_wait_are_handled_by_what_replaces_their_handler(kernel):
    kernel.do(
        "import threading; may_go = threading.Event(); begun = threading.Event()\n"
        "orders.on('wait', lambda event: (begun.set(), may_go.wait(30)));"
    )
    kernel.do(NAMED, "cell-1")
    kernel.do("orders.broadcast('wait'); [orders.broadcast('go') for _ in range(3)]; begun.wait(30);")
    kernel.do(NAMED_EDITED, "cell-2")
    kernel.do("may_go.set(); space.settle()")

    assert kernel.ask("seen") == ["edited"] * 3


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


def test_what_a_task_of_a_cell_registers_later_belongs_to_its_run(kernel):
    task = """
def handle(event): seen.append({!r})
async def work():
    await asyncio.sleep(0)
    orders.on('go', handle)
    orders.on('went', lambda event: None)
    registered.set()
registered = asyncio.Event()
task = asyncio.create_task(work())
"""
    kernel.do("import asyncio", "cell-0")
    for name in ("first", "second"):
        kernel.do(task.format(name), "cell-1")
        kernel.do("await registered.wait()", "cell-2")
    assert kernel.ask("[handler.pattern for handler in orders.handlers]") == ["go", "went"]
    assert seen_of_one_event(kernel) == ["second"]

    number = cell_number(kernel)
    notice = (
        f'In [{number}] replaces a task on node "orders": "go" -> handle; on(..., keep=True) keeps both\n'
    )
    assert kernel.do(NAMED, "cell-3").stdout == notice


def test_what_a_task_of_an_earlier_run_registers_stays(kernel):
    task = """
async def work(go):
    await go.wait()
    orders.on('go', lambda event: seen.append({!r}))
go = asyncio.Event()
tasks.append((go, asyncio.create_task(work(go))))
"""
    kernel.do("import asyncio; tasks = []", "cell-0")
    for name in ("first", "second"):
        kernel.do(task.format(name), "cell-1")
    kernel.do("for go, task in tasks:\n    go.set()\n    await task", "cell-2")
    assert seen_of_one_event(kernel) == ["first", "second"]


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


def test_a_decorated_handler_of_a_reloaded_module_is_the_new_one_and_can_be_unregistered(reloading):
    source = (
        "# {n}\nimport functools\n"
        "def decorate(function):\n"
        "    @functools.wraps(function)\n"
        "    def wrapped(event):\n"
        "        return function(event)\n"
        "    return wrapped\n"
        "def plain(event):\n    return {n}\n"
        "@decorate\ndef decorated(event):\n    return {n}\n"
    )
    kernel, edit = reloading
    edit(source.format(n=1))
    kernel.do("orders.on('a', mine.plain); orders.on('b', mine.decorated);")
    edit(source.format(n=22))

    assert kernel.ask("[space.send('orders', kind).result() for kind in 'ab']") == [22, 22]
    kernel.do("orders.off(mine.plain); orders.off(mine.decorated)")
    assert kernel.ask("len(orders.handlers)") == 0


def test_a_state_handler_of_a_reloaded_module_is_the_new_one_and_can_be_unregistered(reloading):
    source = (
        "import happen_nb as happen\n"
        "@happen.draft\ndef count(draft, event):\n    draft['n'] = {n}\n"
        "class Shop:\n    @classmethod\n    def sell(cls, event):\n        return {n}\n"
    )
    kernel, edit = reloading
    edit(source.format(n=1))
    kernel.do("orders.state.on('go', mine.count); orders.on('sell', mine.Shop.sell);")
    edit(source.format(n=22))
    kernel.do("import importlib; importlib.reload(mine)")

    kernel.do("space.broadcast('go'); space.settle()")
    assert kernel.ask("orders.state.get('n')") == 22
    assert kernel.ask("space.send('orders', 'sell').result()") == 22
    kernel.do("orders.off(mine.count); orders.off(mine.Shop.sell)")
    assert kernel.ask("len(orders.handlers)") == 0


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

    output = run_python("-c", script, cwd=tmp_path)
    assert "['edited', 'first']" in output
    assert output.count(" replaces In [") == 1


def test_a_shell_without_a_front_end_may_give_the_id_of_a_cell(tmp_path, monkeypatch, store, space):
    monkeypatch.setenv("HAPPEN_STORE", str(store))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    runs = [(SETUP.format(name=space.name), "one"), (NAMED, "two"), (NAMED, "two"), (NAMED_EDITED, "two")]
    script = "\n".join(
        ["from IPython.core.interactiveshell import InteractiveShell", "shell = InteractiveShell.instance()"]
        + [
            f"shell.run_cell({cell!r}, store_history=True, cell_id={id!r})"
            for cell, id in [*runs, (TELL, "three")]
        ]
    )

    output = run_python("-c", script, cwd=tmp_path)
    assert "['edited']" in output
    assert " replaces In [" not in output


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
