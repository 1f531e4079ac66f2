"""Every notebook as a file; nbval compares the outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parent.parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
VARYING = {"08_best_practices": 1, "09_real_data": 1, "demo": 2}  # cells whose output is not compared
SMALL = 300_000  # bytes
WIDTH = 88  # what JupyterLab shows in a window of 1200 pixels without a scroll bar

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


@each_notebook
def test_a_notebook_is_kept_as_run_from_top_to_bottom(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]


@each_notebook
def test_no_cell_is_left_out_of_the_comparison_but_those_that_measure_or_go_on(path):
    tags = [tag for cell in code_cells(path) for tag in cell.metadata.get("tags", [])]
    assert "nbval-skip" not in tags
    assert tags.count("varies") == VARYING.get(path.stem, 0)


@each_notebook
def test_a_notebook_is_valid_small_and_holds_no_widget_state(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert "widgets" not in notebook.metadata
    assert notebook.metadata.kernelspec.name == "python3"
    assert path.stat().st_size < SMALL


@each_notebook
def test_code_has_no_scroll_bars(path):
    assert not [line for cell in code_cells(path) for line in cell.source.splitlines() if len(line) >= WIDTH]
