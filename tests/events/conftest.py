"""Nodes that these tests share."""

from __future__ import annotations

import threading

import pytest


@pytest.fixture
def orders(space):
    return space.create_node("orders")


@pytest.fixture
def stock(space):
    return space.create_node("stock")


@pytest.fixture
def gate():
    """An event that handlers wait for; set at the end, so that none is left waiting."""
    gate = threading.Event()
    yield gate
    gate.set()
