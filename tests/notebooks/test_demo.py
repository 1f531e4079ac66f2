"""The clock of the demo ends when its cell or all cells run again, and when the space is closed."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

DEMO = Path(__file__).parent.parent.parent / "notebooks/demo.ipynb"
DAYS_PASS = "space.nodes['books'].state.wait_for(lambda state: state['day'] > 35)\nfirst = clock"
FIRST_HAS_ENDED = "from happen_nb.learn import wait_until\nwait_until(lambda: not first.running, timeout=20)"
ONE_RUNS = f"{FIRST_HAS_ENDED}\nassert clock.running"
NONE_RUNS = "space.close()\nwait_until(lambda: not clock.running, timeout=20)\nassert not space.failures"


@pytest.fixture
def demo():
    return nbformat.read(DEMO, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def run(notebook, *more):
    """Run the code cells of a notebook, and then more cells or sources, in one kernel."""
    added = [cell if isinstance(cell, dict) else nbformat.v4.new_code_cell(cell) for cell in more]
    notebook.cells = [*code_cells(notebook), *added]
    NotebookClient(notebook, kernel_name="python3", timeout=60, store_widget_state=False).execute()


def test_running_the_cell_again_leaves_one_clock_and_closing_the_space_none(demo, apart):
    [clock] = [cell for cell in code_cells(demo) if "repeat(pass_a_day" in cell.source]
    run(demo, DAYS_PASS, clock.copy(), ONE_RUNS, NONE_RUNS)


def test_running_all_again_leaves_one_clock_in_the_new_space(demo, apart):
    again = [cell.copy() for cell in code_cells(demo)]
    run(demo, DAYS_PASS, *again, ONE_RUNS, "assert space.nodes['books'].state.get('day') < 500", NONE_RUNS)
