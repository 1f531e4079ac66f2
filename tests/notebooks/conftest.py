"""A working folder in which kernels and scripts use their own store, and nothing of the user's Jupyter."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest


@pytest.fixture
def apart(tmp_path, monkeypatch):
    """Return the working folder; kernels named python3 that are started in it run this Python."""
    monkeypatch.setenv("HAPPEN_STORE", str(tmp_path / ".happen"))
    monkeypatch.setenv("JUPYTER_PATH", str(Path(sys.prefix, "share", "jupyter")))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PATH", os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.chdir(tmp_path)
    return tmp_path
