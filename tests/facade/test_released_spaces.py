"""A closed or dropped space is released, with the states that it held."""

from __future__ import annotations

import gc
import weakref

import happen_nb as happen
from happen_nb._api.registry import registry


def is_gone(kept):
    gc.collect()
    return kept() is None


def used(space):
    """Use a space; return a weak reference to what it held."""
    node = space.create_node("orders", initial={"text": "x" * 1000})
    node.on("tick", lambda event: node.state.set({"n": event.payload}))
    node.state.watch(lambda commit: None)
    space.broadcast("tick", 1)
    space.settle()
    return weakref.ref(space._log)


def test_a_dropped_fork_is_released_while_its_original_is_open(space, until):
    fork = space.fork(f"{space.name[:50]}_fork")
    kept = used(fork)
    fork.drop()
    del fork

    until(lambda: is_gone(kept))


def test_a_closed_space_is_released_while_another_one_of_its_store_is_open(space, store, until):
    other = happen.connect(store=store, name=f"{space.name[:50]}_other")
    kept = used(other)
    callbacks = len(space.server._embedded._callbacks)
    other.close()
    assert len(space.server._embedded._callbacks) == callbacks - 1
    del other

    until(lambda: is_gone(kept))
    assert all(open.name != f"{space.name[:50]}_other" for open in registry.spaces.values())
