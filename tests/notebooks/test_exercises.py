"""What is to be mended is broken as it stands, and mended by the folded solution, in the same kernel."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

from tests.notebooks.regenerate import client_of

FOLDER = Path(__file__).parent.parent.parent / "notebooks"
KINDS = ("mend", "check", "solution")


def tagged(cell):
    """Which part of an exercise it is, if any."""
    return next((kind for kind in KINDS if kind in cell.metadata.get("tags", [])), None)


def parts(path):
    """The parts of all exercises of a notebook, in order."""
    return [kind for cell in nbformat.read(path, as_version=4).cells if (kind := tagged(cell))]


EXERCISES = [path for path in sorted(FOLDER.glob("*.ipynb")) if parts(path)]
each_exercise = pytest.mark.parametrize("path", EXERCISES, ids=lambda path: path.stem)


def test_there_are_exercises():
    assert EXERCISES


@each_exercise
def test_an_exercise_is_a_cell_to_mend_a_check_and_a_folded_solution(path):
    found = parts(path)
    assert found == list(KINDS) * (len(found) // len(KINDS))


@each_exercise
def test_the_check_fails_until_the_cell_is_mended(path, apart):
    notebook = nbformat.read(path, as_version=4)
    client = client_of(notebook)
    with client.setup_kernel():
        for index, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                client.execute_cell(cell, index)
            if tagged(cell) == "mend":
                mend = index
            if tagged(cell) == "check":
                check = index
                assert shown(cell).startswith("✗")
            if tagged(cell) == "solution":
                notebook.cells[mend].source = solution(cell.source)
                client.execute_cell(notebook.cells[mend], mend)
                client.execute_cell(notebook.cells[check], check)
                assert shown(notebook.cells[check]).startswith("✓"), shown(notebook.cells[check])


def shown(cell):
    """The text of what the cell ended with."""
    return next(
        output.data["text/plain"] for output in cell.outputs if output.output_type == "execute_result"
    )


def solution(folded):
    """The first block of code in it."""
    assert folded.startswith("<details>")
    return re.search(r"```python\n(.*?)```", folded, re.DOTALL)[1]
