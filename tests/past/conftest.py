"""Nodes and forks that these tests share."""

from __future__ import annotations

import itertools

import pytest

_count = itertools.count(1)


@pytest.fixture
def stock(space):
    return space.create_node("stock", initial={"lamp": 1})


@pytest.fixture
def shop(space):
    return space.create_node("shop")


@pytest.fixture
def forked(space):
    """Fork the space with its handlers; the forks are dropped at the end."""
    forks = []

    def fork(of=space, **options):
        made = of.fork(f"{space.name[:40]}_fork_{next(_count)}", handlers=True, **options)
        forks.append(made)
        return made

    yield fork
    for each in forks:
        each.drop()
