"""Run notebooks from top to bottom and keep their outputs.

``python -m tests.notebooks.regenerate [NAME ...]``: without names it does all of them. Each runs in a fresh
kernel with a store of its own. An output that differs only in what ``sanitize.cfg`` masks stays as it was, so
that a change of a notebook shows what has changed.
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
CELL_LIMIT = 60  # seconds


def main(names: list[str]) -> None:
    """Regenerate the notebooks with these names, or all."""
    for path in [FOLDER / name for name in names] or sorted(FOLDER.glob("*.ipynb")):
        regenerate(path)


def regenerate(path: Path) -> None:
    """Run one notebook, and write what a person who ran and saved it would have in the file."""
    notebook: Any = nbformat.read(path, as_version=4)
    before = [deepcopy(cell.get("outputs", [])) for cell in notebook.cells]
    run(notebook)
    for cell, old in zip(notebook.cells, before, strict=True):
        cell.metadata.pop("execution", None)  # when it ran
        if old and same(cell.outputs, old):
            cell.outputs = [renumbered(output, cell.execution_count) for output in old]
    nbformat.validate(notebook)
    nbformat.write(notebook, path)


def run(notebook: Any) -> None:
    """Run it in a fresh kernel, with nothing of what other spaces hold."""
    with tempfile.TemporaryDirectory() as folder:
        surroundings = {key: value for key, value in os.environ.items() if key != "NATS_URL"}
        surroundings["HAPPEN_STORE"] = str(Path(folder, ".happen"))
        client_of(notebook).execute(cwd=folder, env=surroundings)


def client_of(notebook: Any) -> NotebookClient:
    """What runs it, and gives the outputs that are kept."""
    return NotebookClient(
        notebook,
        timeout=CELL_LIMIT,
        kernel_name="python3",
        store_widget_state=False,
        coalesce_streams=True,
    )


def renumbered(output: Any, count: int) -> Any:
    """An output as that of the cell that ran as number `count`."""
    if output.output_type == "execute_result":
        output.execution_count = count
    return output


def same(new: list[Any], old: list[Any]) -> bool:
    """Whether outputs are equal but for what varies from run to run."""
    return [masked(output) for output in new] == [masked(output) for output in old]


def masked(output: dict[str, Any]) -> str:
    """An output as text, without its number and what varies."""
    kept = {key: value for key, value in output.items() if key != "execution_count"}
    if PLOTLY in kept.get("data", {}):
        kept["data"] = {**kept["data"], PLOTLY: outline(kept["data"][PLOTLY])}
    return without_what_varies(json.dumps(kept, sort_keys=True))


def without_what_varies(text: str) -> str:
    """A text with all masked that may be another in each run."""
    masks = configparser.RawConfigParser()
    masks.read(MASKS, "utf-8")
    for name in masks.sections():
        text = re.sub(masks[name]["regex"], masks[name]["replace"], text)
    return text


if __name__ == "__main__":
    main(sys.argv[1:])
