"""Cells may wait while further cells are queued, as after "Run All"."""

from __future__ import annotations

import time
from contextlib import contextmanager
from importlib.metadata import version
from queue import Empty

import nbformat
from happen_nb.learn import kernel_manager, start_kernel
from nbclient import NotebookClient

WAITING_CELLS = [
    "import asyncio, time\nimport happen_nb as happen",
    "happen.run(asyncio.sleep(0.3, 'one'))",
    "await asyncio.sleep(0.1)",
    "happen.run(asyncio.sleep(0.3, 'two'))",
    "space = happen.connect(name='waiting')\nspace.create_node('orders').state.set({'open': 1})",
    "time.sleep(0.1)",
    "happen.run(space.nodes['orders'].state.aset(happen.put('open', 2)))",
    "assert space.nodes['orders'].state.get('open') == 2",
    "space.close()",
]


def patched_by(module):
    """Return cells that re-enter the running loop with the help of a module."""
    return [
        f"import asyncio, {module}\n{module}.apply()\nloop = asyncio.get_event_loop()",
        *["loop.run_until_complete(asyncio.sleep(0.3))"] * 3,
        "'reached'",
    ]


@contextmanager
def kernel():
    manager = kernel_manager(kernel_name="python3")
    client = start_kernel(manager)
    try:
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def run_all(client, cells, deadline):
    """Queue all cells at once, as JupyterLab does, and return their status; None if a cell did not end."""
    waiting = [client.execute(cell) for cell in cells]
    statuses = dict.fromkeys(waiting)
    end = time.monotonic() + deadline
    while None in statuses.values() and (left := end - time.monotonic()) > 0:
        try:
            reply = client.get_shell_msg(timeout=left)
        except Empty:
            break
        if (request := reply["parent_header"]["msg_id"]) in statuses:
            statuses[request] = reply["content"]["status"]
    return list(statuses.values())


def test_run_all_finishes_cells_that_wait_in_every_way(apart):
    with kernel() as client:
        assert run_all(client, WAITING_CELLS, deadline=60) == ["ok"] * len(WAITING_CELLS)


def test_the_loop_is_made_reentrant_by_nest_asyncio2(apart):
    loaded = "import sys\nassert 'nest_asyncio2' in sys.modules\nassert 'nest_asyncio' not in sys.modules"
    with kernel() as client:
        assert run_all(client, [*WAITING_CELLS, loaded], deadline=60)[-1] == "ok"
    assert tuple(map(int, version("nest-asyncio2").split("."))) >= (1, 7, 3)


def test_the_kernel_loop_is_patched_only_when_needed(apart):
    untouched = "import sys\nassert 'nest_asyncio2' not in sys.modules"
    with kernel() as client:
        assert run_all(client, [*WAITING_CELLS[:1], WAITING_CELLS[4], untouched], deadline=60) == ["ok"] * 3


def test_nest_asyncio_1_6_leaves_cells_unfinished(apart):
    assert version("nest-asyncio") == "1.6.0"
    with kernel() as client:
        assert None in run_all(client, patched_by("nest_asyncio"), deadline=5)


def test_nest_asyncio2_finishes_the_same_cells(apart):
    with kernel() as client:
        assert run_all(client, patched_by("nest_asyncio2"), deadline=60) == ["ok"] * 5


def test_nbclient_finishes_cells_that_wait_in_every_way(apart):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in WAITING_CELLS])
    NotebookClient(notebook, timeout=60, kernel_name="python3", store_widget_state=False).execute()
    assert notebook.cells[3].outputs[0].data["text/plain"] == "'two'"
