"""Applies to all tests.

Doctests are looked for in the library alone: tests have none, and each would be searched in each process.
"""

from __future__ import annotations

import gc
from collections.abc import Generator

import pytest
from _pytest.doctest import DoctestModule
from hypothesis import HealthCheck, settings

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


def pytest_collection_finish() -> None:
    """Keep what was collected out of garbage collections: it stays to the end, and there is much of it."""
    gc.freeze()
