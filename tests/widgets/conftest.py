"""What tests of widgets share: real ipywidgets models, without a browser."""

from __future__ import annotations

import pytest

from tests.facade.processes import OtherProcess


@pytest.fixture
def other(space, store):
    """Another process that is connected to the same space."""
    process = OtherProcess(store=store, name=space.name)
    yield process
    process.end()


@pytest.fixture
def orders(space):
    return space.create_node("orders", initial={"open": 1})


@pytest.fixture
def comms():
    """How many comms are open that were not when the test began."""
    from ipywidgets.widgets.widget import _instances

    before = set(_instances)
    return lambda: len(set(_instances) - before)
