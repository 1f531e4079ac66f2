"""Applies to all tests, and fixtures that many of them share.

Doctests are looked for in the library alone: tests have none, and each would be searched in each process.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Generator

import pytest
from _pytest.doctest import DoctestModule
from hypothesis import HealthCheck, settings

from tests.facade.processes import OtherProcess

# On a busy machine any example may be slow. In CI, Hypothesis has such a profile of its own.
settings.register_profile(
    "busy", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("busy")


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Leave out what searches a file of tests for doctests."""
    collectors = yield
    return [collector for collector in collectors if not isinstance(collector, DoctestModule)]


@pytest.fixture
def other(space, store):
    """Another process that is connected to the same space."""
    process = OtherProcess(store=store, name=space.name)
    yield process
    process.end()


@pytest.fixture
def gate():
    """An event that handlers wait for; set at the end, so that none is left waiting."""
    gate = threading.Event()
    yield gate
    gate.set()


def pytest_collection_finish() -> None:
    """Keep what was collected out of garbage collections: it stays to the end, and there is much of it."""
    gc.freeze()
