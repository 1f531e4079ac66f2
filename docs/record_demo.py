"""Record the demo for the documentation: ``python docs/record_demo.py [FILE]``."""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from IPython.core.interactiveshell import InteractiveShell

import happen_nb as happen

ROOT = Path(__file__).resolve().parent.parent
RECORDING = ROOT / "docs" / "_static" / "recording.html"
LAST_CELL = "space.advance(days=30)"  # the days after it pass as the play button asks


def main(target: str | Path = RECORDING) -> None:
    """Run the demo up to the thirtieth day, as a kernel does, and record it."""
    shell = InteractiveShell.instance()
    notebook = nbformat.read(ROOT / "notebooks" / "demo.ipynb", as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            shell.run_cell(cell.source, silent=True).raise_error()
            if LAST_CELL in cell.source:
                break
    happen.current().record(target, title="A supply chain: thirty days")
    happen.current().drop()


if __name__ == "__main__":
    main(*sys.argv[1:])
