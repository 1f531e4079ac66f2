"""A stretch of the journal is read in few calls to the server; a small and a large one give the same."""

from __future__ import annotations

import gc
import time
import tracemalloc

import pytest

from happen_nb._journal import consumer
from happen_nb._journal import slice as slice_module
from happen_nb._runtime.io import io_thread


@pytest.fixture
def calls(space, monkeypatch):
    """The subjects of the calls to JetStream's API so far."""
    client = space._log.connection._client
    publish = client.publish
    calls = []

    async def noted(subject, *arguments, **options):
        if subject.startswith("$JS.API."):
            calls.append(subject)
        return await publish(subject, *arguments, **options)

    monkeypatch.setattr(client, "publish", noted)
    return calls


@pytest.fixture
def shop(space):
    """A space whose three nodes have some history."""
    orders, stock, bills = (
        space.create_node(name, initial={"n": 0}) for name in ("orders", "stock", "bills")
    )

    @stock.on("order.*")
    def reserve(event):
        stock.state.set({"n": event.payload})
        stock.broadcast("stock.reserved", event.payload)

    bills.on("stock.*", lambda event: bills.state.set({"n": event.payload}))
    for number in range(1, 4):
        orders.state.set({"n": number})
        orders.broadcast("order.paid", number).settle()
    return space


def test_a_timeline_of_three_nodes_takes_at_most_six_server_calls(shop, calls):
    timeline = shop.timeline()
    assert len(calls) <= 6, calls
    assert "6 events · 12 commits" in repr(timeline)


def test_a_state_handler_that_has_missed_nothing_reads_no_stretch(space, calls):
    space.create_node("first").state.on("never", lambda state, _: state)  # looks up what has expired
    space.settle()
    space.broadcast("order.paid").settle()
    lamps = space.create_node("lamps", initial={"sold": 0})
    calls.clear()
    lamps.state.on("order.*", lambda state, _: {"sold": state["sold"] + 1})
    space.settle()
    assert len(calls) <= 4, calls
    assert not any("CONSUMER" in call for call in calls), calls
    space.broadcast("order.paid").settle()
    assert lamps.state.get("sold") == 1


def test_a_trace_and_a_journal_that_start_late_take_few_server_calls_too(shop, calls):
    *_, last = shop.events("order.*")
    for read in (lambda: shop.trace(last), lambda: shop.journal(since=last)):
        calls.clear()
        read()
        assert len(calls) <= 7, calls  # 6, and perhaps one that the follower makes every few seconds


READINGS = {
    "timeline": lambda space, since: space.timeline().svg,
    "timeline of a pattern": lambda space, since: space.timeline("stock.*").svg,
    "timeline of a predicate": lambda space, since: space.timeline(lambda t: t > "p").svg,
    "newest of a timeline": lambda space, since: space.timeline(limit=7, since=since).svg,
    "graph": lambda space, since: space.graph(since=since).svg,
    "journal": lambda space, since: [repr(each) for each in space.journal()],
    "newest of the journal": lambda space, since: [repr(each) for each in space.journal(limit=5)],
    "journal since": lambda space, since: [repr(each) for each in space.journal(since=since)],
    "events": lambda space, since: [repr(each) for each in space.events("stock.*", since=since)],
    "newest events": lambda space, since: [(each.id, each.payload) for each in space.events(limit=3)],
    "trace": lambda space, since: repr(space.trace(since)),
}


@pytest.mark.parametrize("read", READINGS.values(), ids=READINGS)
def test_a_large_journal_is_read_like_a_small_one(shop, monkeypatch, read):
    _, second, _ = shop.events("order.*")
    small = read(shop, second)
    monkeypatch.setattr(slice_module, "SMALL_BYTES", 0)
    monkeypatch.setattr(slice_module, "WINDOW", 3)
    assert str(read(shop, second)) == str(small)


def kept_bytes():
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def test_what_was_read_is_not_kept(space, until):
    sender = space.create_node("sender")
    for number in range(100):
        sender.broadcast("n", number)
    space.events("n")
    tracemalloc.start()
    try:
        for _ in range(10):
            space.events("n", limit=None)
        until(lambda: kept_bytes() < 100_000)  # the IO thread may still clean up after the last reading
    finally:
        tracemalloc.stop()


def test_several_kinds_are_read_up_to_a_limit_of_all_messages(shop, monkeypatch):
    monkeypatch.setattr(consumer, "STALL_SECONDS", 30.0)  # so long that a busy machine does not take it
    stream = shop._log.stream
    kinds = [stream.subjects.states, stream.subjects.handled]
    stored = io_thread().run(stream.read(">"))
    wanted = [item.sequence for item in stored if "$KV." in item.subject or ".handled." in item.subject]
    for limit in range(1, len(stored) + 1):
        began = time.monotonic()
        found = io_thread().run(stream.read(kinds, limit=limit))
        assert [item.sequence for item in found] == [
            each for each in wanted if each <= stored[limit - 1].sequence
        ]
        assert time.monotonic() - began < 20, "it has waited until the reading counted as stalled"
