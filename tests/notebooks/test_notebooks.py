"""Every notebook as a file, and as a plain script; nbval compares the outputs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbconvert import PythonExporter

from tests.notebooks.regenerate import client_of, masked

FOLDER = Path(__file__).parent.parent.parent / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SMALL = 300_000  # bytes
WIDTH = 88  # what JupyterLab shows in a window of 1200 pixels without a scroll bar

RUN_CELLS = """
import ast, asyncio, inspect, pathlib, sys

path = sys.argv[1]
code = compile(pathlib.Path(path).read_text("utf-8"), path, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
result = eval(code, {"__name__": "__main__"})
if inspect.iscoroutine(result):
    asyncio.run(result)
"""

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert NOTEBOOKS


@each_notebook
def test_a_notebook_runs_as_a_script_and_prints_the_same(path, apart):
    script = apart / f"{path.stem}.py"
    script.write_text(PythonExporter().from_filename(path)[0], encoding="utf-8")
    command = [sys.executable, "-c", RUN_CELLS, str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == printed(path)


def printed(path):
    outputs = [output for cell in code_cells(path) for output in cell.outputs]
    return "".join(output.text for output in outputs if output.get("name") == "stdout")


@each_notebook
def test_run_all_shows_what_is_kept_and_then_the_same_again_in_the_same_kernel(path, apart):
    """nbval compares what a cell shows when it ends; this, what it shows when the last one has ended."""
    notebook = nbformat.read(path, as_version=4)
    kept = outputs(notebook)
    client = client_of(notebook)
    with client.setup_kernel():
        first, second = run_all(client), run_all(client)
    assert first == kept
    assert second == first


def run_all(client):
    for index, cell in enumerate(client.nb.cells):
        client.execute_cell(cell, index)
    return outputs(client.nb)


def outputs(notebook):
    """The outputs of the code cells, without what varies from run to run."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    compared = [cell for cell in cells if "varies" not in cell.metadata.get("tags", [])]
    return [(cell.source, list(map(masked, cell.outputs))) for cell in compared]


@each_notebook
def test_a_notebook_is_kept_as_run_from_top_to_bottom(path):
    cells = code_cells(path)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]


@each_notebook
def test_no_cell_is_left_out_of_the_comparison(path):
    assert not [cell for cell in code_cells(path) if "nbval-skip" in cell.metadata.get("tags", [])]


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
