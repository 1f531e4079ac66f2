"""Fixtures of every test and doctest: one real server for the whole run, and an own space for each test."""

from __future__ import annotations

import ast
import itertools
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import happen_nb

# jsonschema checks IRIs with it, of which notebooks have none; its import takes 2 s of each process.
sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]

DOCTEST_NODES = ("orders", "inventory")
_count = itertools.count(1)


def pytest_configure() -> None:
    """Have SIGINT work in tests and in processes that they start.

    A shell without job control starts background commands with SIGINT ignored, which child processes inherit.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the embedded server that all tests of this run share."""
    return tmp_path_factory.mktemp("store") / ".happen"


@pytest.fixture(scope="session", autouse=True)
def _nothing_of_the_user(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep a plain ``connect()`` away from the user's server and out of the checkout."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("NATS_URL", raising=False)
        patch.setenv("HAPPEN_STORE", str(tmp_path_factory.mktemp("default") / ".happen"))
        yield


@pytest.fixture(scope="session")
def _server(store: Path) -> Iterator[None]:
    """Hold the server from the first test to the last, so that no test waits for its start."""
    import happen_nb

    with happen_nb.connect(store=store, name="held_by_the_test_session"):
        yield


@pytest.fixture
def space(request: pytest.FixtureRequest, store: Path, _server: None) -> Iterator[happen_nb.Space]:
    """An empty space that no other test sees, closed afterwards."""
    import happen_nb

    with happen_nb.connect(store=store, name=_space_name(request.node.name)) as space:
        yield space


def _space_name(test: str) -> str:
    readable = re.sub(r"[^A-Za-z0-9_-]+", "_", test)[:48]
    return f"{readable}_{os.getpid() % 10_000}_{next(_count)}"


@pytest.fixture(autouse=True)
def _doctest_names(request: pytest.FixtureRequest, doctest_namespace: dict[str, Any]) -> None:
    """Give doctests ``happen``, and those that use them an empty ``space`` and new nodes in it."""
    if not isinstance(request.node, pytest.DoctestItem):
        return
    import happen_nb

    doctest_namespace.clear()
    doctest_namespace["happen"] = happen_nb
    used = _names_used(request.node)
    if used.isdisjoint(("space", *DOCTEST_NODES)):
        return
    space = doctest_namespace["space"] = request.getfixturevalue("space")
    doctest_namespace.update({name: space.create_node(name) for name in DOCTEST_NODES if name in used})


def _names_used(item: pytest.DoctestItem) -> set[str]:
    trees = (ast.parse(example.source) for example in item.dtest.examples)
    return {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}


@pytest.fixture
def until() -> Callable[[Callable[[], object]], None]:
    """Wait until a condition holds; an error after ten seconds."""

    def wait(holds: Callable[[], object]) -> None:
        deadline = time.monotonic() + 10
        while not holds():
            assert time.monotonic() < deadline, "it never came"
            time.sleep(0.002)

    return wait
