"""Every notebook run in a kernel as a whole, twice."""

from __future__ import annotations

import nbformat

from tests.notebooks.regenerate import client_of, masked
from tests.notebooks.test_notebooks import each_notebook


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
