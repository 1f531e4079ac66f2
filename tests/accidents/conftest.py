"""Real kernels, and a server that a test may freeze."""

from __future__ import annotations

import itertools

import pytest

from tests.accidents.kernels import Kernel
from tests.guarantees.servers import Server

_count = itertools.count()


@pytest.fixture(scope="package")
def shared_kernel(tmp_path_factory):
    """One kernel for all tests that leave it as it was."""
    kernel = Kernel(tmp_path_factory.mktemp("kernel"))
    kernel.do("import happen_nb as happen")
    yield kernel
    kernel.end()


@pytest.fixture
def kernel(shared_kernel):
    """A kernel with an empty `space`, a node `orders` in it, and a list `seen`."""
    shared_kernel.do(
        f"space = happen.connect(name='space_{next(_count)}')\n"
        "orders = space.create_node('orders', initial={'n': 0})\n"
        "seen = []"
    )
    yield shared_kernel
    shared_kernel.do("space.drop()")


@pytest.fixture
def own_kernel(tmp_path):
    """A kernel that the test may restart or end."""
    kernel = Kernel(tmp_path)
    kernel.do("import happen_nb as happen")
    yield kernel
    kernel.end(now=True)


@pytest.fixture
def mortal(tmp_path):
    """A server of the test's own, which it may freeze, kill and start again."""
    server = Server(tmp_path / "server").start()
    yield server
    server.kill()
