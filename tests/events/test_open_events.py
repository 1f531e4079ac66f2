"""Traces and sequences show what this process knows of events whose handlers have not ended."""

from __future__ import annotations

import threading

import pytest

from happen_nb._api.base import bundle_of
from tests.facade.processes import OtherProcess


def line_of(page):
    """The line below the heading."""
    return repr(page).splitlines()[1].strip()


@pytest.fixture
def begin(space, orders, gate):
    """Broadcast "slow", whose handler has begun and waits for the gate."""
    begun = threading.Event()

    @orders.on("slow")
    def handle(event):
        begun.set()
        gate.wait(10)

    def begin():
        event = space.broadcast("slow")
        assert begun.wait(10)
        return event

    return begin


def test_a_handler_that_runs_is_shown_with_its_node(space, begin, gate):
    event = begin()
    assert line_of(space.trace(event)) == "slow  notebook → orders running"
    assert "orders</span> running" in bundle_of(space.trace(event))["text/html"]
    assert line_of(space.sequence()) == "notebook → orders  slow (running)"
    assert "no handler" not in repr(space.trace(event).waterfall())
    gate.set()
    event.settle()
    assert line_of(space.trace(event)) == "slow  notebook → orders"


def test_a_node_that_has_handled_an_event_stands_next_to_one_whose_handler_runs(space, stock, begin, until):
    stock.on("slow", lambda event: stock.state.set({"n": 1}))
    event = begin()
    until(lambda: event.handled_by == ("stock",))
    assert line_of(space.trace(event)) == "slow  notebook → orders running, stock"
    assert line_of(space.sequence(event)) == "notebook → stock, orders  slow (running)"


def test_an_event_behind_one_whose_handler_runs_is_not_handled_yet(space, begin):
    begin()
    event = space.broadcast("slow")
    assert line_of(space.trace(event)) == "slow  notebook → not handled yet"
    assert line_of(space.sequence(event)) == "notebook  slow (not handled yet)"


def test_a_transform_that_runs_is_shown_with_its_node(space, stock, gate):
    begun = threading.Event()

    @stock.state.on("slow")
    def apply(state, event):
        begun.set()
        gate.wait(10)
        return {"n": 1}

    event = space.broadcast("slow")
    assert begun.wait(10)
    assert line_of(space.trace(event)) == "slow  notebook → stock running"


def test_a_held_event_is_shown_with_its_nodes(space, orders, stock):
    for node in (orders, stock):
        node.on("go", lambda event: None)
    space.pause("go")
    event = space.broadcast("go")
    assert line_of(space.trace(event)) == "go  notebook → orders held, stock held"
    assert line_of(space.sequence()) == "notebook → orders, stock  go (held)"
    space.resume()
    event.settle()
    assert line_of(space.trace(event)) == "go  notebook → orders, stock"


def test_an_event_that_a_filter_refused_has_no_handler_left(space, orders):
    orders.on("go", lambda event: None, where=lambda event: False)
    event = space.broadcast("go")
    event.settle()
    assert line_of(space.trace(event)) == "go  notebook → orders refused"
    assert line_of(space.sequence()) == "notebook  go (no handler)"


def test_a_handler_of_another_process_is_known(space, store):
    other = OtherProcess(store=store, name=space.name)
    try:
        other.do("import threading; gate = threading.Event(); room = space.create_node('room')")
        other.do("room.on('slow', lambda event: gate.wait(10))")
        event = space.broadcast("slow")
        assert line_of(space.trace(event)) == "slow  notebook → not handled yet"
        unknown = space.broadcast("slaw")
        assert line_of(space.trace(unknown)) == "slaw  notebook → no handler yet"
        other.do("gate.set()")
        event.settle()
        assert line_of(space.trace(event)) == "slow  notebook → room"
    finally:
        other.end()
