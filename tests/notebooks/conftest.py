"""A working folder in which kernels and scripts use their own store, and nothing of the user's Jupyter."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.notebooks.nbval_follow import show_only_results

RUN_NOTEBOOKS = ("test_run_all.py", "test_scripts.py")


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Work in a folder; kernels named python3 that are started in it run this Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HAPPEN_STORE", str(folder / ".happen"))
        patch.setenv("JUPYTER_PATH", str(Path(sys.prefix, "share", "jupyter")))
        patch.setenv("IPYTHONDIR", show_only_results(folder / "ipython"))
        patch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
        patch.chdir(folder)
        yield


@pytest.fixture
def apart(tmp_path: Path) -> Iterator[Path]:
    """The folder in which the test works."""
    with working_in(tmp_path):
        yield tmp_path


class NotebookByNotebook(LoadScopeScheduling):
    """Hand out the tests of a file together, but those that run notebooks for each notebook."""

    def _split_scope(self, nodeid: str) -> str:
        file, _, test = nodeid.partition("::")
        return file + test.partition("[")[2] if file.endswith(RUN_NOTEBOOKS) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> NotebookByNotebook:
    """Keep no process busy alone with one file."""
    return NotebookByNotebook(config, log)
