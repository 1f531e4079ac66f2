"""The saved notebooks; nbval compares their outputs."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parent.parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
VARYING = {"08_best_practices": 1, "demo": 3}  # number of cells whose output is not compared
MAX_BYTES = 300_000
MAX_COLUMNS = 88  # JupyterLab shows as many in a window of 1200 pixels without a scroll bar
MAX_LINES = 12  # of a cell

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


@each_notebook
def test_a_notebook_is_saved_as_run_from_top_to_bottom(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]


@each_notebook
def test_only_cells_that_measure_or_keep_running_are_excluded_from_the_comparison(path):
    tags = [tag for cell in code_cells(path) for tag in cell.metadata.get("tags", [])]
    assert "nbval-skip" not in tags
    assert tags.count("varies") == VARYING.get(path.stem, 0)


@each_notebook
def test_a_notebook_is_valid_small_and_has_no_widget_state(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata
    assert notebook.metadata.kernelspec.name == "python3"
    assert path.stat().st_size < MAX_BYTES


@each_notebook
def test_a_text_that_ends_with_a_colon_is_followed_by_the_code_that_it_announces(path):
    cells = nbformat.read(path, as_version=4).cells
    announced = [after for text, after in pairwise(cells) if text.source.endswith(":")]
    assert [cell.source for cell in announced if cell.cell_type != "code"] == []


@each_notebook
def test_code_has_no_scroll_bars(path):
    lines = [line for cell in code_cells(path) for line in cell.source.splitlines()]
    assert [line for line in lines if len(line) >= MAX_COLUMNS] == []


@each_notebook
def test_no_cell_is_longer_than_a_dozen_lines(path):
    sources = [cell.source for cell in code_cells(path)]
    assert [source for source in sources if len(source.splitlines()) > MAX_LINES] == []
