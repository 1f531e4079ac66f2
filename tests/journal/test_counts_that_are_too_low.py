"""A server that deletes a message while it creates a consumer may say that fewer are left than there are."""

from __future__ import annotations

import pytest

import happen_nb as happen
from happen_nb._journal import consumer
from happen_nb._journal.encoding import encode_event
from happen_nb._model.records import EventRecord
from happen_nb._runtime.io import io_thread


class TooLow(consumer.StreamMessage):
    __slots__ = ()

    def __init__(self, *about):
        *rest, pending = about
        super().__init__(*rest, max(0, pending - 1))


@pytest.fixture
def count_too_few(monkeypatch):
    """Let the server report one message less to each consumer."""
    start = consumer.Consumer.start

    async def start_too_low(self, *args, **options):
        return max(0, await start(self, *args, **options) - 1)

    def begin():
        monkeypatch.setattr(consumer, "StreamMessage", TooLow)
        monkeypatch.setattr(consumer.Consumer, "start", start_too_low)

    return begin


def test_everything_is_read(space, count_too_few):
    orders = space.create_node("orders", initial={"n": 0})
    for n in range(1, 4):
        orders.state.set({"n": n})
        space.broadcast("order.placed", n)
    later = space.broadcast("late", after=1_000)
    count_too_few()
    assert [event.payload for event in space.events()] == [1, 2, 3]
    assert [event.payload for event in space.events("order.*", limit=1)] == [3]
    assert [commit.after["n"] for commit in orders.state.history()] == [0, 1, 2, 3]
    assert len(space.journal()) == 7
    assert [event.id for event in space.scheduled] == [later.id]
    assert orders.state.at(4) == {"n": 3}


def test_a_space_opens_with_the_newest_states(store, count_too_few):
    with happen.connect(store=store, name="too_few", fresh=True) as space:
        for n in range(5):
            space.create_node(f"n{n}", initial={"n": n})
    count_too_few()
    with happen.connect(store=store, name="too_few") as space:
        assert {node: view.get("n") for node, view in space.views.items()} == {f"n{n}": n for n in range(5)}
        space.drop()


@pytest.mark.parametrize("gone", [0, 2])
def test_no_message_is_lost_when_a_connection_is_back(store, count_too_few, gone, until):
    with happen.connect(store=store, name="back", fresh=True) as space:
        seen = []
        space.create_node("orders", initial={"n": 0}).on("placed", lambda event: seen.append(event.payload))
        log = space._runtime.log

        async def miss(number):
            """Let events be stored that the present consumer does not deliver; the last ones expire."""
            log._follower._consumer._open = False
            stored = [EventRecord(f"e{n}", "placed", "notebook", payload=n) for n in range(number)]
            for event in stored:
                await log.connection.calls.make(
                    [encode_event(log.subjects, event, ttl=600)], timeout=5, what=""
                )
            for event in stored[number - gone :]:
                await log.stream._api("PURGE", {"filter": log.subjects.event(event)})
            log._follower.reconnect()

        count_too_few()
        io_thread().run(miss(5))
        until(lambda: seen == list(range(5 - gone)))
        space.broadcast("placed", "last")
        until(lambda: seen[-1] == "last")
        assert seen == [*range(5 - gone), "last"]
        assert space.create_node("orders").state.get("n", fresh=True) == 0
        space.drop()
