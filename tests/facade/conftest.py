"""Fixtures of these tests beyond the space that each has."""

from __future__ import annotations

import pytest

from tests.facade.processes import OtherProcess


@pytest.fixture
def other(space, store):
    """Another process that is connected to the same space."""
    process = OtherProcess(store=store, name=space.name)
    yield process
    process.end()
