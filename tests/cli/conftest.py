"""A separate store, and processes that end with the test."""

from __future__ import annotations

import shutil

import pytest

import happen_nb
from tests.cli.commands import Visitor
from tests.server.processes import end_everything_of, eventually, is_at_rest


@pytest.fixture
def folder(tmp_path):
    """An unused store; processes that still use it after the test are ended."""
    store = tmp_path / ".happen"
    yield store
    end_everything_of(store)


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A store with the spaces lab and shop, to be copied."""
    store = tmp_path_factory.mktemp("model") / ".happen"
    for name in ("lab", "shop"):
        with happen_nb.connect(store=store, name=name) as space:
            space.create_node("orders", initial={"open": 1})
    assert eventually(lambda: is_at_rest(store))
    return store


@pytest.fixture
def filled(model, folder):
    """A separate, unused store with the spaces lab and shop."""
    shutil.copytree(model, folder)
    return folder


@pytest.fixture
def start():
    """Starts one of the processes in `commands`."""
    started = []

    def start(kind, *arguments, **options):
        process = kind(*arguments, **options)
        started.append(process)
        return process

    yield start
    for process in started:
        if isinstance(process, Visitor):
            process.put_back()
        else:
            process.kill()


@pytest.fixture(scope="session", autouse=True)
def _visitors():
    """End the visitors that no test needs any more."""
    yield
    for idle in Visitor.idle:
        idle.kill()
