"""Looks for doctests in the library alone: tests have none, and each would be searched in each process."""

from __future__ import annotations

from collections.abc import Generator

import pytest
from _pytest.doctest import DoctestModule


@pytest.hookimpl(wrapper=True)
def pytest_collect_file() -> Generator[None, list[pytest.Collector], list[pytest.Collector]]:
    """Leave out what searches a file of tests for doctests."""
    collectors = yield
    return [collector for collector in collectors if not isinstance(collector, DoctestModule)]
