"""A manual clock is that of all processes of a space."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import happen_nb as happen
from tests.guarantees.processes import Load, Processes

START = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture
def space(url: str, name: str) -> Iterator[happen.Space]:
    """A space with a manual clock."""
    with happen.connect(url, name=name, clock="manual") as space:
        yield space


@pytest.fixture
def other(space: happen.Space, url: str, processes: Processes) -> Load:
    """Another process, which owns the node "worker"."""
    process = processes.load("take", "clock_work.py", url=url, space=space.name)
    process.wait_ready()
    return process


def test_advancing_waits_for_the_handlers_of_another_process(space: happen.Space, other: Load) -> None:
    order = []
    space.create_node("here").on("{job,done}", lambda event: order.append(event.type))
    for number in (1, 2):
        space.broadcast("job", number, after=60 * number)
    advance = space.advance(minutes=10)
    assert order == ["job", "done", "job", "done"]
    assert (advance.events, advance.now) == (4, START + timedelta(minutes=10))
    assert [event.payload["at"][14:19] for event in space.events("done")] == ["01:00", "02:00"]
    other.say("now")
    assert other.hear() == str(space.now)


def test_a_handler_of_another_process_sleeps_by_the_clock(space: happen.Space, other: Load) -> None:
    space.broadcast("nap", 600)
    assert space.advance(hours=1).now == START + timedelta(hours=1)
    (rested,) = space.events("rested")
    assert rested.payload == str(START + timedelta(minutes=10))
    assert rested.occurred == START + timedelta(minutes=10)


def test_a_handler_waits_for_one_of_another_process_that_sleeps_by_the_clock(
    space: happen.Space, other: Load
) -> None:
    here = space.create_node("here")

    @here.on("nap")
    async def nap(event: happen.Event, context: Any) -> str:
        await context.sleep(event.payload)
        return str(space.now)

    @here.on("go")
    async def go(event: happen.Event) -> None:
        reply = await here.asend("worker", "nap", event.payload)
        await here.abroadcast("answered", {"reply": await reply, "at": str(space.now)})

    for type in ("go", "ask"):  # this process asks the other one, and the other way round
        began = space.now
        space.broadcast(type, 600)
        space.advance(60, timeout=10)
        assert len(space.events("answered", since=began)) == 0
        space.advance(hours=1, timeout=10)
        (answered,) = space.events("answered", since=began)
        due = str(began + timedelta(minutes=10))
        assert answered.payload == {"reply": due, "at": due}


def test_a_process_that_is_killed_does_not_keep_the_clock(space: happen.Space, other: Load) -> None:
    space.broadcast("job", 1, after=60)
    space.broadcast("job", 2, after=120)
    space.advance(60)
    other.kill()
    assert space.advance(hours=1).now == START + timedelta(hours=1, minutes=1)
    assert len(space.events("job")) == 2


def test_of_two_processes_that_advance_one_does_it(space: happen.Space, other: Load) -> None:
    numbers = range(1, 40)
    for number in numbers:
        space.broadcast("job", number, after=number)
    other.say("advance 60")
    outcomes = []
    try:
        space.advance(60)
        outcomes.append("advanced")
    except happen.ClockError:
        outcomes.append("ClockError")
    outcomes.append(other.hear(60))
    assert "advanced" in outcomes or outcomes == ["ClockError", "ClockError"]
    if space.now < START + timedelta(seconds=60):
        space.advance(to=START + timedelta(seconds=60))
    assert [event.payload for event in space.events("job")] == list(numbers)
    assert sorted(event.payload["job"] for event in space.events("done")) == list(numbers)
