"""Fixtures of the tests of scheduled events."""

from __future__ import annotations

import time
from contextlib import suppress

import pytest

import happen_nb as happen
from happen_nb._journal import encoding, wire
from happen_nb._journal.publish import store_messages
from happen_nb._runtime.io import io_thread


@pytest.fixture
def orders(space):
    return space.create_node("orders")


@pytest.fixture
def heard(space):
    """The types of the events that a node has handled, in order."""
    types = []
    space.create_node("listener").on("**", lambda event: types.append(event.type))
    return types


@pytest.fixture
def manual(store):
    """An empty space with a manual clock."""
    with happen.connect(store=store, name="manual", clock="manual", fresh=True) as space:
        yield space
        with suppress(happen.HappenError):
            space.clear(force=True)


@pytest.fixture
def publish_late():
    """Store what a server stores that had begun to publish an event when its alarm was removed."""

    def publish(space, alarm):
        log = space._log
        message = encoding.encode_delivery(log.subjects, alarm, ttl=60).without_guard()
        for name in (wire.EXPECTED_SUBJECT, wire.SCHEDULER, wire.SCHEDULE_NEXT):
            message.headers.pop(name)
        stored = io_thread().run(store_messages(log.connection, [message], timeout=5, what="a late event"))
        io_thread().run(log.reach(stored, time.monotonic() + 5))

    return publish


@pytest.fixture
def stored_alarm():
    """Read the alarm of a scheduled event; None if the server does not have it."""

    def read(space, event):
        log = space._log
        found = io_thread().run(log.stream.newest(log.subjects.alarm_prefix + event.id))
        return None if found is None else log.stream.decode(found).alarm

    return read


@pytest.fixture
def store_again():
    """Store what schedules an event once more, as a link does that holds it back and is lost meanwhile."""

    def read(space, event):
        log, record = space._log, event._record
        found = io_thread().run(log.stream.newest(log.subjects.alarm_prefix + record.alarm_id))
        headers = {name: value for name, value in found.headers.items() if "Batch" not in name}
        message = wire.Message(found.subject, found.body, {**headers, wire.EXPECTED: "0"})

        def again():
            stored = io_thread().run(store_messages(log.connection, [message], timeout=5, what="an alarm"))
            io_thread().run(log.reach(stored, time.monotonic() + 5))

        return again

    return read
