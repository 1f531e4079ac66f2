"""Every notebook runs completely, and again in the same kernel."""

from __future__ import annotations

import nbformat

from tests.notebooks.regenerate import client_of, masked
from tests.notebooks.test_notebooks import each_notebook


@each_notebook
def test_run_all_shows_the_saved_outputs_and_a_second_run_shows_them_again(path, apart):
    """nbval compares the outputs when each cell ends; this compares them when the last cell has ended."""
    notebook = nbformat.read(path, as_version=4)
    saved = outputs(notebook)
    client = client_of(notebook)
    with client.setup_kernel():
        first, second = run_all(client), run_all(client)
    assert first == saved
    assert second == first


def run_all(client):
    for index, cell in enumerate(client.nb.cells):
        client.execute_cell(cell, index)
    return outputs(client.nb)


def outputs(notebook):
    """Return the compared outputs of the code cells, with varying parts masked."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    compared = [cell for cell in cells if "varies" not in cell.metadata.get("tags", [])]
    return [(cell.source, list(map(masked, cell.outputs))) for cell in compared]
