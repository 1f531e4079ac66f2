"""A space is a JetStream key-value bucket: other clients read it and write to it, even garbage."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from nats.js.errors import KeyNotFoundError
from nats.js.kv import KeyValue

import happen_nb as happen
from tests.guarantees.processes import Processes, eventually
from tests.guarantees.servers import Foreign


@pytest.fixture
def space(url: str, name: str) -> Iterator[happen.Space]:
    with happen.connect(url, name=name) as space:
        yield space


def test_another_client_gets_what_was_committed(
    space: happen.Space, foreign: Foreign, bucket: KeyValue
) -> None:
    commit = space.create_node("orders").state.set({"open": 1})

    entry = foreign.run(bucket.get("orders"))

    assert entry.value is not None
    assert json.loads(entry.value) == {"open": 1}
    assert entry.revision == commit.sequence


def test_what_another_client_puts_is_a_commit_without_a_cause(
    space: happen.Space, foreign: Foreign, bucket: KeyValue
) -> None:
    orders = space.create_node("orders", initial={"open": 1})
    told: list[happen.Commit] = []
    orders.state.watch(told.append)

    foreign.run(bucket.put("orders", b'{"open": 2}'))
    orders.state.wait_for(lambda s: s["open"] == 2)
    orders.state.set(lambda s: {"open": s["open"] + 1})

    eventually(lambda: len(told) == 2)
    assert [(c.revision, c.after["open"], c.cause, c.by) for c in told] == [
        (2, 2, None, None),
        (3, 3, None, None),
    ]
    assert [c.revision for c in orders.state.history()] == [1, 2, 3]
    assert orders.state.at(2) == {"open": 2}


def test_a_timeline_numbers_what_another_client_puts(
    space: happen.Space, foreign: Foreign, bucket: KeyValue, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders = space.create_node("orders", initial={"open": 1})
    foreign.run(bucket.put("orders", b'{"open": 2}'))
    orders.state.wait_for(lambda s: s["open"] == 2)
    orders.state.set({"open": 3})
    monkeypatch.setattr("happen_nb._journal.slice.SMALL_BYTES", 0)  # only headers are read

    journal = space.timeline()._shown.journal

    assert [record.revision for record, _ in journal.commits] == [1, 2, 3]
    whole = journal.whole_commit(journal.commits[1])
    assert whole is not None
    assert whole[0].state == {"open": 2}


def test_another_client_makes_a_node(space: happen.Space, foreign: Foreign, bucket: KeyValue) -> None:
    foreign.run(bucket.put("stock", b'{"apples": 3}'))

    eventually(lambda: "stock" in space.views)
    assert space.views.stock.get("apples") == 3
    assert space.create_node("stock", initial={"apples": 0}).state.get("apples") == 3


def test_updates_of_both_sides_are_never_lost(
    space: happen.Space, foreign: Foreign, bucket: KeyValue
) -> None:
    counter = space.create_node("counter", initial={"n": 0})
    for n in range(0, 20, 2):
        entry = foreign.run(bucket.get("counter"))
        assert entry.value is not None
        assert json.loads(entry.value) == {"n": n}
        foreign.run(bucket.update("counter", b'{"n": %d}' % (n + 1), last=entry.revision))
        counter.state.set(lambda s: {"n": s["n"] + 1})

    assert counter.state.get() == {"n": 20}
    assert counter.state.revision == 21


@pytest.mark.parametrize("way", ["delete", "purge"])
def test_another_client_ends_a_node_and_revisions_count_on(
    space: happen.Space, foreign: Foreign, bucket: KeyValue, way: str, url: str, processes: Processes
) -> None:
    orders = space.create_node("orders")
    orders.state.set({"open": 1})
    orders.state.set({"open": 2})

    foreign.run(getattr(bucket, way)("orders"))
    eventually(lambda: orders.state.revision == 3)

    assert orders.state.get() == {}
    assert processes.peer(url, space.name).ask("states") == {}
    assert orders.state.set({"open": 9}).revision == 4
    assert processes.peer(url, space.name).ask("states") == {"orders": [4, {"open": 9}]}


def test_another_client_sees_a_deleted_node_as_deleted(
    space: happen.Space, foreign: Foreign, bucket: KeyValue
) -> None:
    orders = space.create_node("orders", initial={"open": 1})
    orders.delete()

    with pytest.raises(KeyNotFoundError):
        foreign.run(bucket.get("orders"))


def test_another_client_follows_and_reads_the_history(
    space: happen.Space, foreign: Foreign, bucket: KeyValue
) -> None:
    orders = space.create_node("orders")

    async def follow() -> list[tuple[str | None, bytes | None]]:
        watcher: Any = await bucket.watch("orders")
        await watcher.updates()  # the end of what was there
        for n in (1, 2, 3):
            await orders.state.aset({"open": n})
        await orders.adelete()
        updates = [await watcher.updates(timeout=5) for _ in range(4)]
        await watcher.stop()
        return [(update.operation, update.value) for update in updates if update]

    seen = foreign.run(asyncio.wait_for(follow(), 30))
    history = foreign.run(bucket.history("orders"))

    values = [b'{"open":1}', b'{"open":2}', b'{"open":3}']
    assert seen == [*((None, value) for value in values), ("DEL", b"")]
    assert [entry.value for entry in history][:3] == values


def test_a_client_that_connects_later_counts_the_commits_of_others(
    space: happen.Space, url: str, foreign: Foreign, bucket: KeyValue, processes: Processes
) -> None:
    orders = space.create_node("orders", initial={"open": 0})
    for n in range(1, 6):
        foreign.run(bucket.put("orders", b'{"open": %d}' % n))
    eventually(lambda: orders.state.revision == 6)

    assert processes.peer(url, space.name).ask("states") == {"orders": [6, {"open": 5}]}


GARBAGE = {
    "broken JSON": b'{"open": ',
    "a JSON list": b"[1, 2, 3]",
    "not a number": b'{"open": NaN}',
    "not UTF-8": b'{"open": "\xff"}',
    "7 MB of nothing readable": b"x" * 7_000_000,
    "an empty value": b"",
}


@pytest.fixture(params=list(GARBAGE.values()), ids=list(GARBAGE))
def spoilt(
    request: pytest.FixtureRequest, space: happen.Space, foreign: Foreign, bucket: KeyValue
) -> happen.Node:
    """A node whose second revision is another client's garbage."""
    orders = space.create_node("orders", initial={"open": 1})
    space.create_node("other", initial={"fine": True})
    foreign.run(bucket.put("orders", request.param))
    eventually(lambda: orders.state.revision == 2)
    return orders


def test_garbage_stops_nobody_who_reads_other_nodes(
    spoilt: happen.Node, url: str, processes: Processes
) -> None:
    other = spoilt.space.create_node("other")
    later = processes.peer(url, spoilt.space.name)

    assert other.state.set(lambda s: {**s, "n": 1}).after == {"fine": True, "n": 1}
    assert spoilt.space.views.collect({"other": "fine"}) == {"other": True}
    assert later.ask("get", node="other", fresh=True) == {"fine": True, "n": 1}
    assert later.ask("add", node="other") == [3, 2]


def test_the_reader_of_garbage_is_told_the_way_out(
    spoilt: happen.Node, url: str, processes: Processes
) -> None:
    later = processes.peer(url, spoilt.space.name)

    with pytest.raises(happen.StateError, match=r"state\.set\(\{\.\.\.\}\).*state\.revert\(1\)"):
        spoilt.state.get()
    with pytest.raises(happen.StateError, match=r"revert\(1\)"):
        spoilt.space.views.orders.get()
    with pytest.raises(happen.StateError, match=r"revert\(1\)"):
        spoilt.state.set(lambda s: {**s, "open": 2})
    error, text = later.fail("get", node="orders")
    assert error == "StateError"
    assert "state.revert(1)" in text


def test_a_new_state_is_a_way_out_of_garbage(spoilt: happen.Node, url: str, processes: Processes) -> None:
    commit = spoilt.state.set({})

    assert (commit.revision, commit.changed, commit.after) == (3, True, {})
    assert spoilt.state.get() == {}
    assert processes.peer(url, spoilt.space.name).ask("get", node="orders") == {}


def test_going_back_is_a_way_out_of_garbage(spoilt: happen.Node, url: str, processes: Processes) -> None:
    commit = spoilt.state.revert(1)

    assert (commit.revision, commit.after) == (3, {"open": 1})
    assert spoilt.state.get() == {"open": 1}
    assert processes.peer(url, spoilt.space.name).ask("states")["orders"] == [3, {"open": 1}]
    assert [c.revision for c in spoilt.state.history()] == [1, 2, 3]


@pytest.mark.parametrize(
    "headers",
    [
        {"Happen-Commit": "x"},
        {"Happen-Commit": "x", "Happen-Revision": "many"},
        {"Happen-Commit": "x", "Happen-Revision": "-7"},
        {"Happen-Commit": "x", "Happen-Revision": "2", "Happen-Events": "[{]"},
        {"KV-Operation": "WHATEVER"},
    ],
    ids=str,
)
def test_garbage_in_headers_is_a_commit_of_another_client(
    space: happen.Space, url: str, foreign: Foreign, processes: Processes, headers: dict[str, str]
) -> None:
    orders = space.create_node("orders", initial={"open": 1})
    stored = foreign.publish(f"$KV.happen_{space.name}.orders", b'{"open": 2}', headers=headers)
    assert "seq" in stored

    orders.state.wait_for(lambda s: s["open"] == 2)
    assert orders.state.revision == 2
    assert orders.state.set({"open": 3}).revision == 3
    assert processes.peer(url, space.name).ask("states") == {"orders": [3, {"open": 3}]}
    assert [c.revision for c in orders.state.history()] == [1, 2, 3]


def said(foreign: Foreign, space: happen.Space, **fields: Any) -> None:
    """Another client stores an event with these fields."""
    headers = {"Happen-Event": json.dumps({"id": "x", "type": "a", "sender": "abroad", **fields})}
    assert "seq" in foreign.publish(f"happen.{space.name}.event.~.x", b"1", headers=headers)


@pytest.mark.parametrize("occurred", ["yesterday", "", 7, ["2026"], {}])
def test_an_event_that_does_not_say_in_iso_when_it_occurred_is_shown_without(
    space: happen.Space, foreign: Foreign, occurred: object
) -> None:
    taken: list[happen.Event] = []
    space.create_node("orders").on("a", taken.append)
    said(foreign, space, occurred=occurred)
    eventually(lambda: taken)

    (event,) = space.events()
    assert (event.type, event.sender, event.payload, event.occurred) == ("a", "abroad", 1, None)
    assert "abroad" in repr(event)
    assert "abroad" in repr(space.events())
    assert "abroad" in event._repr_mimebundle_()["text/html"]


def test_an_event_at_the_end_of_all_times_is_shown_as_its_sender_wrote_it(
    space: happen.Space, foreign: Foreign
) -> None:
    said(foreign, space, occurred="0001-01-01T00:00:00+05:00")

    (event,) = space.events()
    assert "0001-01-01T00:00:00.000+05:00" in event._repr_mimebundle_()["text/html"]


@pytest.mark.parametrize(
    "fields", [{"id": 7}, {"type": 7}, {"type": None}, {"sender": []}, {"cause": {}}, {"path": [1]}], ids=str
)
def test_what_has_no_text_where_an_event_has_one_is_no_event(
    space: happen.Space, foreign: Foreign, fields: dict[str, Any]
) -> None:
    orders = space.create_node("orders")
    orders.on("**", lambda event: 1)
    said(foreign, space, **fields)

    assert space.send("orders", "b").result() == 1
    assert [event.type for event in space.events()] == ["b"]
