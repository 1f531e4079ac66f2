"""A notebook that closes its space at its end shows the last values where it is saved without a front end."""

from __future__ import annotations

import nbformat
import pytest

from tests.notebooks.regenerate import client_of

CONNECT = """
import happen_nb as happen
space = happen.connect(store=":memory:", name="saved", fresh=True)
orders = space.create_node("orders", initial={"open": 0})
"""
SHOWN = [
    "orders.state.live()",
    "space.views.orders.live('open', render=lambda n: f'{n} open')",
    "space.dashboard()",
    "import ipywidgets\nhappen.bind(ipywidgets.IntSlider(max=200), orders, 'open')",
]
HANG = "import threading\norders.state.live(render=lambda state: state['open'] and threading.Event().wait());"


def saved(folder, *cells):
    """The HTML of each output below each cell."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client_of(notebook).execute(cwd=str(folder))
    return [
        [output["data"]["text/html"] for output in cell.outputs if "text/html" in output["data"]]
        for cell in notebook.cells
    ]


@pytest.fixture(autouse=True)
def outside_of_a_test(monkeypatch):
    monkeypatch.delenv("PYTEST_CURRENT_TEST")  # it stops ipykernel capturing child processes


def test_what_follows_shows_the_last_value(tmp_path):
    change = "for number in range(37):\n    orders.state.set({'open': 100 + number})\n"
    cells, shown = [], []
    for wait in ("", "import time\ntime.sleep(1.5)\n"):
        for close in ("space.close()", "await space.aclose()"):
            shown += range(len(cells) + 1, len(cells) + 1 + len(SHOWN))
            cells += [CONNECT, *SHOWN, change + wait, close]
    outputs = saved(tmp_path, *cells)
    for index in shown:
        assert len(outputs[index]) == 1, cells[index]
        assert "136" in outputs[index][0], cells[index]


def test_a_picture_that_never_comes_keeps_no_space_open(tmp_path):
    assert saved(tmp_path, CONNECT, HANG, "orders.state.set({'open': 1});\nspace.close()")[2] == []
