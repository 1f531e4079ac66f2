"""Every notebook runs completely, and again in the same kernel, where its exercise is solved.

nbval compares the outputs when each cell ends; these tests compare them when the last cell has ended.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import nbformat
import pytest

from tests.notebooks.conftest import working_in
from tests.notebooks.regenerate import client_of, masked
from tests.notebooks.test_exercises import part_of, parts, result, solution
from tests.notebooks.test_notebooks import NOTEBOOKS


@dataclass
class Ran:
    """The compared outputs of a notebook as saved and of two runs, and the results of its checks."""

    saved: list[object]
    first: list[object]
    second: list[object]
    before: list[str] = field(default_factory=list)
    fixed: list[str] = field(default_factory=list)


@pytest.fixture(scope="module", params=NOTEBOOKS, ids=lambda path: path.stem)
def ran(request, tmp_path_factory):
    """A notebook, run twice in one kernel; the second time, each exercise is solved after its check."""
    notebook = nbformat.read(request.param, as_version=4)
    cells = list(notebook.cells)
    ran = Ran(saved=outputs(cells), first=[], second=[])
    client = client_of(notebook)
    with working_in(tmp_path_factory.mktemp(request.param.stem)), client.setup_kernel():
        for index, cell in enumerate(cells):
            client.execute_cell(cell, index)
        ran.first = outputs(cells)
        for index, cell in enumerate(cells):
            client.execute_cell(cell, index)
            if part_of(cell) == "check":
                check = cell
                ran.before.append(result(check))
            if part_of(cell) == "solution":
                execute_new(client, solution(cell.source))
                ran.fixed.append(result(execute_new(client, check.source)))
        ran.second = outputs(cells)
    return ran


def execute_new(client, source):
    """Execute a cell that is not in the saved notebook."""
    cell = nbformat.v4.new_code_cell(source)
    client.nb.cells.append(cell)
    return client.execute_cell(cell, len(client.nb.cells) - 1)


def outputs(cells):
    """Return the compared outputs of the code cells, with varying parts masked."""
    compared = [cell for cell in cells if "varies" not in cell.metadata.get("tags", [])]
    return [(cell.source, list(map(masked, cell.outputs))) for cell in compared if cell.cell_type == "code"]


def test_run_all_shows_the_saved_outputs(ran):
    assert ran.first == ran.saved


def test_a_second_run_shows_them_again(ran):
    assert ran.second == ran.first


@pytest.mark.parametrize("ran", list(filter(parts, NOTEBOOKS)), ids=lambda path: path.stem, indirect=True)
def test_the_check_fails_until_the_cell_is_fixed(ran):
    assert [text[0] for text in ran.before] == ["✗"] * len(ran.before)
    assert [text[0] for text in ran.fixed] == ["✓"] * len(ran.before)
