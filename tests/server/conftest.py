"""Kernel-like processes for these tests, and a store on which nothing may be left running."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from kernels import Kernel
from processes import end_everything_of


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A separate store; processes that still use it after a failed test are ended."""
    folder = tmp_path / ".happen"
    yield folder
    end_everything_of(folder)


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Kernel]]:
    """Starts a process that joins the server of `folder`, or of another store, as a kernel does."""
    started: list[Kernel] = []

    def start(store: Path | str = folder, **options: object) -> Kernel:
        kernel = Kernel(store, **options)
        started.append(kernel)
        return kernel

    yield start
    for kernel in started:
        kernel.kill()


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user of the machine can reach."""
    with tempfile.TemporaryDirectory(prefix="happen-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)
