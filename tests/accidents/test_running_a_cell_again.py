"""A cell is run again: what its last run registered is taken off first."""

from __future__ import annotations

import nbformat
import pytest
from nbclient import NotebookClient

WATCH = "watch = orders.state.watch(lambda commit: seen.append('first'))"
EDITED = "watch = orders.state.watch(lambda commit: seen.append('edited'))"
NAMED = "def follow(commit):\n    seen.append({word!r})\nwatch = orders.state.watch(follow)"

with_and_without_ids = pytest.mark.parametrize("cell", ["cell-1", None], ids=["cell ids", "no cell ids"])


def seen_of_one_commit(kernel):
    """Return what the watches note of the next commit."""
    kernel.do("seen.clear(); orders.state.set(lambda s: {'n': s['n'] + 1}); space.settle()")
    return sorted(kernel.ask("seen"))


@with_and_without_ids
def test_a_watch_of_a_cell_that_runs_again_is_there_once(kernel, cell):
    for _ in range(3):
        kernel.do(WATCH, cell)

    assert seen_of_one_commit(kernel) == ["first"]


def test_of_an_edited_cell_only_the_new_watch_is_there(kernel):
    kernel.do(WATCH, "cell-1")
    kernel.do(EDITED, "cell-1")

    assert seen_of_one_commit(kernel) == ["edited"]


def test_an_edited_cell_without_an_id_is_another_cell(kernel):
    kernel.do(WATCH)
    kernel.do(EDITED)

    assert seen_of_one_commit(kernel) == ["edited", "first"]


def test_a_named_function_does_not_replace_a_namesakes_watch(kernel):
    """That is for `on`, whose patterns tell two of the same name apart."""
    kernel.do(NAMED.format(word="first"), "cell-1")
    kernel.do(NAMED.format(word="second"), "cell-2")

    assert seen_of_one_commit(kernel) == ["first", "second"]


@with_and_without_ids
def test_all_watches_of_one_run_stay(kernel, cell):
    for _ in range(2):
        kernel.do(
            f"{WATCH}\n{EDITED}\nfor _ in range(2):\n    orders.state.watch(lambda c: seen.append('loop'))",
            cell,
        )

    assert seen_of_one_commit(kernel) == ["edited", "first", "loop", "loop"]


def test_cells_with_the_same_source_and_their_own_ids_do_not_disturb_each_other(kernel):
    kernel.do(WATCH, "cell-1")
    kernel.do(WATCH, "cell-2")
    kernel.do(WATCH, "cell-1")

    assert seen_of_one_commit(kernel) == ["first", "first"]


def test_a_cell_that_no_longer_watches_leaves_no_watch(kernel):
    kernel.do(WATCH, "cell-1")
    kernel.do("pass", "cell-1")

    assert seen_of_one_commit(kernel) == []


@with_and_without_ids
def test_a_cell_that_fails_after_its_watch_is_taken_off_by_the_next_run_too(kernel, cell):
    for _ in range(2):
        assert "ZeroDivisionError" in kernel.run(f"{WATCH}\n1 / 0", cell).error

    assert seen_of_one_commit(kernel) == ["first"]


@with_and_without_ids
def test_an_async_cell_is_a_cell_like_others(kernel, cell):
    for _ in range(2):
        kernel.do(f"import asyncio\nawait asyncio.sleep(0)\n{WATCH}", cell)

    assert seen_of_one_commit(kernel) == ["first"]


@with_and_without_ids
def test_a_cell_with_a_magic_is_a_cell_like_others(kernel, cell):
    for _ in range(2):
        kernel.do(f"%%time\n{WATCH}", cell)

    assert seen_of_one_commit(kernel) == ["first"]


def test_what_is_watched_after_a_cell_that_a_cell_runs_belongs_to_the_outer_cell(kernel):
    for _ in range(2):
        kernel.do(f"get_ipython().run_cell('pass')\n{WATCH}", "cell-1")

    assert seen_of_one_commit(kernel) == ["first"]


def test_what_is_watched_under_capture_belongs_to_the_cell(kernel):
    kernel.do(f"%%capture\n{WATCH}", "cell-1")
    kernel.do(f"%%capture\n{EDITED}", "cell-1")

    assert seen_of_one_commit(kernel) == ["edited"]


def test_the_very_first_cell_that_watches_counts(own_kernel):
    cell = (
        "space = happen.connect(name='first'); orders = space.create_node('orders', initial={'n': 0})\n"
        f"seen = []\n{WATCH}"
    )
    own_kernel.do(cell)
    own_kernel.do(cell)

    assert seen_of_one_commit(own_kernel) == ["first"]


def test_a_notebook_run_by_nbclient(tmp_path, monkeypatch, store, space):
    """nbclient sends no cell ids."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTEST_CURRENT_TEST", raising=False)
    monkeypatch.setenv("HAPPEN_STORE", str(store))
    connect = (
        "import happen_nb as happen\n"
        f"space = happen.connect(name={space.name!r})\n"
        "orders = space.create_node('orders', initial={'n': 0})\n"
        "seen = []"
    )
    cells = [
        connect,
        WATCH,
        "orders.state.set(lambda s: {'n': s['n'] + 1}); space.settle()\nprint(seen)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = NotebookClient(notebook, timeout=60, kernel_name="python3")

    with client.setup_kernel():
        for index in (0, 1, 1, 1, 2):
            client.execute_cell(notebook.cells[index], index)

    assert notebook.cells[2].outputs[0].text == "['first']\n"
