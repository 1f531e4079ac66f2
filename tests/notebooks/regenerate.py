"""Run notebooks from top to bottom and save their outputs.

``python -m tests.notebooks.regenerate [NAME ...]`` runs the named notebooks, or all. Each runs in a fresh kernel
with its own store. An output that differs only in parts that ``sanitize.cfg`` masks is left unchanged, so that a
diff shows only real changes.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import sys
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

from tests.notebooks.figures import PLOTLY, outline

FOLDER = Path(__file__).parent.parent.parent / "notebooks"
MASKS = Path(__file__).with_name("sanitize.cfg")
CELL_TIMEOUT_SECONDS = 60


def main(names: list[str]) -> None:
    """Regenerate the notebooks with these names, or all."""
    for path in [FOLDER / name for name in names] or sorted(FOLDER.glob("*.ipynb")):
        regenerate(path)


def regenerate(path: Path) -> None:
    """Run one notebook and write it as JupyterLab would save it."""
    notebook: Any = nbformat.read(path, as_version=4)
    before = [deepcopy(cell.get("outputs", [])) for cell in notebook.cells]
    run(notebook)
    for cell, old in zip(notebook.cells, before, strict=True):
        cell.metadata.pop("execution", None)  # the times of the run
        if old and same(cell.outputs, old):
            cell.outputs = [renumbered(output, cell.execution_count) for output in old]
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def run(notebook: Any) -> None:
    """Run a notebook in a fresh kernel with an empty store."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {key: value for key, value in os.environ.items() if key != "NATS_URL"}
        environment["HAPPEN_STORE"] = str(Path(folder, ".happen"))
        client_of(notebook).execute(cwd=folder, env=environment)


def client_of(notebook: Any) -> NotebookClient:
    """Return the client that runs a notebook and collects its outputs."""
    return NotebookClient(
        notebook,
        timeout=CELL_TIMEOUT_SECONDS,
        kernel_name="python3",
        store_widget_state=False,
        coalesce_streams=True,
    )


def renumbered(output: Any, count: int) -> Any:
    """Return an output with the execution count of its cell."""
    if output.output_type == "execute_result":
        output.execution_count = count
    return output


def same(new: list[Any], old: list[Any]) -> bool:
    """Return True if outputs differ only in the masked parts."""
    return [masked(output) for output in new] == [masked(output) for output in old]


def masked(output: dict[str, Any]) -> str:
    """Return an output as text, without its execution count, and with varying parts masked."""
    kept = {key: value for key, value in output.items() if key != "execution_count"}
    if kept["output_type"] == "execute_result":  # one whose progress was shown before is a display
        kept["output_type"] = "display_data"
    if PLOTLY in kept.get("data", {}):
        kept["data"] = {**kept["data"], PLOTLY: outline(kept["data"][PLOTLY])}
    return mask_varying_parts(json.dumps(kept, sort_keys=True))


def mask_varying_parts(text: str) -> str:
    """Mask all parts of a text that may differ in each run."""
    masks = configparser.RawConfigParser()
    masks.read(MASKS, "utf-8")
    for name in masks.sections():
        text = re.sub(masks[name]["regex"], masks[name]["replace"], text)
    return text


if __name__ == "__main__":
    main(sys.argv[1:])
