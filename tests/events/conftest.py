"""Nodes that these tests share."""

from __future__ import annotations

import pytest


@pytest.fixture
def orders(space):
    return space.create_node("orders")


@pytest.fixture
def stock(space):
    return space.create_node("stock")
