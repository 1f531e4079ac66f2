"""The demo: each step of its play button is a day, and each run gives the same."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

pytestmark = pytest.mark.timeout(300)  # it takes 15 s where nothing else runs

DEMO = Path(__file__).parent.parent.parent / "notebooks/demo.ipynb"
FIRST = "first = [(entry.node, entry.after) for entry in space.journal().commits]"
A_WEEK = "for step in range(1, 8):\n    play.value = step"
IS_DAY = "assert books.state.get('day') == {}, books.state.get('day')"
STOP = "play.value = 0"
SAME = "again = [(entry.node, entry.after) for entry in space.journal().commits][:len(first)]\nassert first == again, [pair for pair in zip(first, again) if pair[0] != pair[1]][:3]"
NO_FAILURE = "assert list(space.failures) == [], [each.traceback for each in space.failures]\nspace.close()"


@pytest.fixture
def demo():
    return nbformat.read(DEMO, as_version=4)


def test_the_play_button_advances_and_running_all_again_gives_the_same(demo, apart):
    cells = [cell for cell in demo.cells if cell.cell_type == "code"]
    first = [*cells, FIRST, IS_DAY.format(30)]
    again = [*(cell.copy() for cell in cells), SAME, IS_DAY.format(30), A_WEEK, STOP, IS_DAY.format(37), NO_FAILURE]
    demo.cells = [
        cell if isinstance(cell, dict) else nbformat.v4.new_code_cell(cell) for cell in [*first, *again]
    ]
    NotebookClient(demo, kernel_name="python3", timeout=180, store_widget_state=False).execute()
