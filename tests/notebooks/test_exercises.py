"""Each exercise has three cells; `test_run_all` runs them."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parent.parent.parent / "notebooks"
PARTS = ("exercise", "check", "solution")


def part_of(cell):
    """Return the part of an exercise that a cell is, or None."""
    return next((part for part in PARTS if part in cell.metadata.get("tags", [])), None)


def parts(path):
    """Return the parts of all exercises of a notebook, in order."""
    return [part for cell in nbformat.read(path, as_version=4).cells if (part := part_of(cell))]


NOTEBOOKS = [path for path in sorted(FOLDER.glob("*.ipynb")) if parts(path)]
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def test_there_are_exercises():
    assert NOTEBOOKS


@each_notebook
def test_an_exercise_has_a_cell_to_fix_a_check_and_a_folded_solution(path):
    found = parts(path)
    assert found == list(PARTS) * (len(found) // len(PARTS))


def result(cell):
    """Return the result of a cell as text."""
    return next(
        output.data["text/plain"] for output in cell.outputs if output.output_type == "execute_result"
    )


def solution(folded):
    """Return the first block of code of a solution."""
    assert folded.startswith("<details>")
    return re.search(r"```python\n(.*?)```", folded, re.DOTALL)[1]
