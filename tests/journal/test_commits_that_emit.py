"""A commit and its events: one message or one batch, all or nothing, read back as they were."""

import time

import pytest

from happen_nb._journal import decoding
from happen_nb._journal.consumer import read
from happen_nb._model.freeze import dumps, freeze_state
from happen_nb._model.records import CommitRecord, EventRecord, Origin, unstored
from happen_nb._runtime.io import io_thread, run_blocking
from happen_nb._runtime.writer import CommitRequest


def event(number, payload=None, *, keyed=False):
    frozen = freeze_state(payload or {"n": number}, node="")
    return EventRecord(f"e{number}", "order.paid", "orders", frozen, publish_id="try" if keyed else None)


def emit(space, state, events):
    log = space._log
    frozen = freeze_state(state, node="orders")
    record = unstored("orders", frozen, dumps(frozen), Origin("c", "r", "by"), events)
    change = CommitRequest.after(log.replica.cut(), record)
    return run_blocking(space._runtime.writer.commit(change, time.monotonic() + 5))


def stored(space):
    log = space._log
    items = io_thread().run(read(log.connection, log.subjects.stream, ">", timeout=5))
    return [decoding.decode(log.subjects, i.subject, i.headers, i.body, i.sequence, i.time) for i in items]


def essence(record):
    return record.id, record.type, record.sender, record.payload, record.has_caller_id


def test_a_few_events_ride_in_the_message_of_their_commit(space):
    events = (event(1, {"name": "Zoë\nÅ"}), event(2))
    applied = emit(space, {"n": 1}, events)

    (record,) = stored(space)
    assert isinstance(record, CommitRecord)
    assert [essence(e) for e in record.events] == [essence(e) for e in events]
    assert [(e.sequence, e.index) for e in record.events] == [(record.sequence, 0), (record.sequence, 1)]
    assert (record.id, record.origin, record.state) == (applied.record.id, Origin("c", "r", "by"), {"n": 1})


@pytest.mark.parametrize(
    ("state", "events"),
    [
        pytest.param({"pad": "x" * 9_000}, (event(1), event(2)), id="a large state"),
        pytest.param({"n": 1}, tuple(event(n, {"pad": "x" * 1_000}) for n in range(60)), id="many events"),
        pytest.param({"n": 1}, (event(1, keyed=True), event(2)), id="an id of the caller's"),
    ],
)
def test_more_of_them_follow_their_commit_on_subjects_of_their_own(space, state, events):
    emit(space, state, events)

    commit, *rest = stored(space)
    assert commit.state == state
    assert [essence(e) for e in rest] == [essence(e) for e in events]
    assert [e.sequence for e in rest] == [commit.sequence + n for n in range(1, len(events) + 1)]


def test_a_batch_that_meets_a_newer_state_stores_nothing(space):
    orders = space.create_node("orders", initial={"n": 0})
    log = space._log
    old = log.replica.cut()
    orders.state.set({"n": 1})
    state = freeze_state({"pad": "x" * 9_000}, node="orders")
    change = CommitRequest.after(old, unstored("orders", state, dumps(state), events=(event(1),)))

    assert run_blocking(space._runtime.writer.commit(change, time.monotonic() + 5)) is None
    assert [type(record) for record in stored(space)] == [CommitRecord, CommitRecord]
    assert orders.state.get() == {"n": 1}


def test_a_batch_with_an_id_that_is_stored_already_stores_nothing(space):
    emit(space, {"n": 1}, (event(1, keyed=True),))

    assert emit(space, {"n": 2}, (event(1, keyed=True),)) is None
    assert space.views.orders.get() == {"n": 1}
