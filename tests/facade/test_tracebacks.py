"""Tracebacks: the user's own lines, and the two that lead into the library."""

from __future__ import annotations

import asyncio
import traceback

import pytest

import happen_nb as happen


@pytest.fixture
def orders(space):
    return space.create_node("orders", initial={"n": 1})


def lines_of(call):
    """The functions that the traceback of a call names, this test's first."""
    with pytest.raises(BaseException) as caught:
        call()
    return [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)][2:]


def bad(state):
    return {"n": state["missing"]}


def test_an_error_of_a_transform_shows_the_transform_right_below_the_call(orders):
    assert lines_of(lambda: orders.state.set(bad)) == ["set", "wait_for", "bad"]


def test_an_error_of_the_library_ends_at_the_call(orders):
    assert lines_of(lambda: orders.state.set({"n": {1}})) == ["set", "wait_for"]
    assert lines_of(lambda: orders.state.wait_for(lambda s: False, timeout=0.01)) == ["wait_for", "wait_for"]


def test_no_other_error_is_chained_to_it(orders):
    with pytest.raises(happen.HappenConnectionError) as caught:
        happen.connect("nats://127.0.0.1:1", timeout=0.2)

    assert len("".join(traceback.format_exception(caught.value)).splitlines()) < 20


def test_an_awaited_call_is_as_short(orders):
    async def work():
        await orders.state.aset(bad)

    names = lines_of(lambda: asyncio.run(work()))

    assert names[names.index("work") :] == ["work", "aset", "wait_in_loop", "bad"]
