"""The days of the demo end: with the run of their cell, with the space, and with the next run of it all."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

DEMO = Path(__file__).parent.parent.parent / "notebooks/demo.ipynb"
DAYS_PASS = "space.nodes['books'].state.wait_for(lambda state: state['day'] > 35)\nfirst = clock"
FIRST_HAS_ENDED = "first.join(20)\nassert not first.is_alive()"
ONE_LIVES = f"{FIRST_HAS_ENDED}\nassert clock.is_alive()"
NONE_LIVES = "space.close()\nclock.join(20)\nassert not clock.is_alive()\nassert not space.failures"


@pytest.fixture
def demo():
    return nbformat.read(DEMO, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def run(notebook, *more):
    """Run its code cells, and after them other cells and sources, in one kernel."""
    added = [cell if isinstance(cell, dict) else nbformat.v4.new_code_cell(cell) for cell in more]
    notebook.cells = [*code_cells(notebook), *added]
    NotebookClient(notebook, kernel_name="python3", timeout=60, store_widget_state=False).execute()


def test_running_the_cell_again_leaves_one_clock_and_closing_the_space_none(demo, apart):
    [clock] = [cell for cell in code_cells(demo) if "def pass_days" in cell.source]
    run(demo, DAYS_PASS, clock.copy(), ONE_LIVES, NONE_LIVES)


def test_running_all_again_leaves_one_clock_in_the_new_space(demo, apart):
    again = [cell.copy() for cell in code_cells(demo)]
    run(demo, DAYS_PASS, *again, ONE_LIVES, "assert space.nodes['books'].state.get('day') < 500", NONE_LIVES)
