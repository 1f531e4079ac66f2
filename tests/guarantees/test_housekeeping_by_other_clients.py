"""States that another client removes without a message, or that expire, are gone for connected processes too.

Every key-value client has `purge_deletes`, and may purge a key's subject or store a value with a time to
live. The server does not announce that such a message has gone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from nats.js.kv import KeyValue

import happen_nb as happen
from tests.guarantees.processes import Peer, Processes, eventually
from tests.guarantees.servers import Foreign

GONE_WITHIN = 10.0
"""Seconds, with some to spare: a follower checks every 5 s what is still stored."""


@pytest.fixture
def space(url: str, name: str) -> Iterator[happen.Space]:
    with happen.connect(url, name=name) as space:
        space.create_node("older", initial={"n": 1})  # so that what goes is not the oldest message
        yield space


@pytest.fixture
def follower(space: happen.Space, url: str, processes: Processes) -> Peer:
    """A process that was connected all the time."""
    return processes.peer(url, space.name)


def _put_for_a_second(foreign: Foreign, space: happen.Space, node: str, body: bytes) -> None:
    """Store a state that expires, and wait until it has."""
    subject = f"$KV.happen_{space.name}.{node}"
    sequence = foreign.publish(subject, body, {"Nats-TTL": "1"})["seq"]
    stream = f"KV_happen_{space.name}"
    eventually(lambda: "error" in foreign.api(f"STREAM.MSG.GET.{stream}", {"seq": sequence}))


def _assert_reads_and_writes(
    processes: Processes, url: str, follower: Peer, node: happen.Node, expected: dict[str, Any]
) -> None:
    """This process and one that was connected all the time read what is stored, and both write."""
    eventually(lambda: node.state.get(fresh=True) == expected, GONE_WITHIN, lambda: dict(node.state.get()))
    eventually(lambda: follower.ask("get", node=node.name, fresh=True) == expected, GONE_WITHIN)
    first = node.state.set(lambda s: {**s, "n": 1})
    second = follower.ask("add", node=node.name)

    assert first.before == expected
    assert second == [first.revision + 1, 2]
    assert node.state.get(fresh=True) == {**expected, "n": 2}
    later = processes.peer(url, node.space.name)
    assert later.ask("states")[node.name][1] == {**expected, "n": 2}


def test_a_node_that_another_client_deleted_and_purged_is_empty_and_can_be_written(
    space: happen.Space, foreign: Foreign, bucket: KeyValue, url: str, processes: Processes, follower: Peer
) -> None:
    node = space.create_node("orders", initial={"open": 1})
    foreign.run(bucket.delete("orders"))
    foreign.run(bucket.purge_deletes(olderthan=-1))

    _assert_reads_and_writes(processes, url, follower, node, {})


def test_a_node_that_was_deleted_here_can_be_written_after_another_client_purged_it(
    space: happen.Space, foreign: Foreign, bucket: KeyValue, url: str, processes: Processes, follower: Peer
) -> None:
    space.create_node("orders", initial={"open": 1}).delete()
    foreign.run(bucket.purge_deletes(olderthan=-1))

    _assert_reads_and_writes(processes, url, follower, space.create_node("orders"), {})


def test_a_node_whose_subject_another_client_purged_is_empty_and_can_be_written(
    space: happen.Space, foreign: Foreign, url: str, processes: Processes, follower: Peer
) -> None:
    node = space.create_node("orders", initial={"open": 1})
    foreign.run(
        foreign.client.jetstream().purge_stream(
            f"KV_happen_{space.name}", subject=f"$KV.happen_{space.name}.orders"
        )
    )

    _assert_reads_and_writes(processes, url, follower, node, {})


def test_a_node_whose_only_state_has_expired_is_empty_and_can_be_written(
    space: happen.Space, foreign: Foreign, url: str, processes: Processes, follower: Peer
) -> None:
    node = space.create_node("lease")
    _put_for_a_second(foreign, space, "lease", b'{"holder": "a"}')

    _assert_reads_and_writes(processes, url, follower, node, {})


def test_a_node_whose_newest_state_has_expired_has_the_one_before(
    space: happen.Space, foreign: Foreign, url: str, processes: Processes, follower: Peer
) -> None:
    node = space.create_node("lease", initial={"holder": None})
    _put_for_a_second(foreign, space, "lease", b'{"holder": "a"}')

    _assert_reads_and_writes(processes, url, follower, node, {"holder": None})


def test_a_set_of_a_node_that_has_just_gone_does_not_wait_for_the_next_check(
    space: happen.Space, foreign: Foreign
) -> None:
    node = space.create_node("orders", initial={"open": 1})
    foreign.run(
        foreign.client.jetstream().purge_stream(
            f"KV_happen_{space.name}", subject=f"$KV.happen_{space.name}.orders"
        )
    )

    commit = node.state.set(lambda s: {**s, "n": 1}, timeout=3)
    assert commit.after == {"n": 1}


def test_the_only_node_is_empty_once_another_client_purged_it(url: str, name: str, foreign: Foreign) -> None:
    with happen.connect(url, name=name) as space:
        space.broadcast("older")  # so that the state is not the oldest message
        node = space.create_node("orders", initial={"open": 1})
        jetstream = foreign.client.jetstream()
        foreign.run(jetstream.purge_stream(f"KV_happen_{name}", subject=f"$KV.happen_{name}.orders"))

        eventually(lambda: node.state.get() == {}, GONE_WITHIN, lambda: dict(node.state.get()))


def test_what_is_called_at_intervals_goes_on_after_another_client_purged_the_scheduled_events(
    url: str, name: str, foreign: Foreign
) -> None:
    with happen.connect(url, name=name) as space:
        node = space.create_node("orders")
        called: list[int] = []
        node.every(0.5, lambda event: called.append(event.payload["n"]))
        node.state.every(0.5, lambda state, event: {"n": event.payload["n"]})
        eventually(lambda: called)
        jetstream = foreign.client.jetstream()
        foreign.run(jetstream.purge_stream(f"KV_happen_{name}", subject=f"happen.{name}.alarm.>"))
        last = len(called)

        eventually(lambda: len(called) > last + 2, GONE_WITHIN)
        eventually(lambda: node.state.get().get("n", 0) > last + 2, GONE_WITHIN)


def test_a_clock_whose_record_another_client_purged_goes_on(url: str, name: str, foreign: Foreign) -> None:
    with happen.connect(url, name=name, clock="manual") as space:
        node = space.create_node("orders")
        node.broadcast("job", after=90)
        space.advance(60)
        jetstream = foreign.client.jetstream()
        foreign.run(jetstream.purge_stream(f"KV_happen_{name}", subject=f"happen.{name}.clock"))

        assert space.advance(60, timeout=20).events == 1
        assert space.advance(60, timeout=20).now.minute == 3


def test_a_clock_goes_on_after_another_client_purged_the_whole_stream(
    url: str, name: str, foreign: Foreign
) -> None:
    with happen.connect(url, name=name, clock="manual") as space:
        node = space.create_node("orders", initial={"n": 1})
        space.advance(60)
        foreign.run(foreign.client.jetstream().purge_stream(f"KV_happen_{name}"))
        eventually(lambda: node.state.get(fresh=True) == {}, GONE_WITHIN)
        assert (space.clock, space.now.minute) == ("manual", 1)

        node.broadcast("job", after=90)
        assert space.advance(120, timeout=20).events == 1
        with happen.connect(url, name=name) as second:
            assert (second.clock, second.now.minute) == ("manual", 3)


def test_a_clock_advances_right_after_another_client_purged_the_whole_stream(
    url: str, name: str, foreign: Foreign
) -> None:
    with happen.connect(url, name=name, clock="manual") as space:
        space.create_node("orders").every(20, lambda event: None)
        space.advance(60)
        foreign.run(foreign.client.jetstream().purge_stream(f"KV_happen_{name}"))

        assert space.advance(60, timeout=20).now.minute == 2
        assert space.advance(60, timeout=20).events == 3


def test_a_scheduled_event_that_another_client_purged_can_be_scheduled_emitted_and_passed_over(
    url: str, name: str, foreign: Foreign
) -> None:
    def schedule_and_purge(id: str) -> None:
        space.broadcast("job", after=60, id=id)
        jetstream = foreign.client.jetstream()
        foreign.run(jetstream.purge_stream(f"KV_happen_{name}", subject=f"happen.{name}.alarm.{id}"))

    with happen.connect(url, name=name, clock="manual") as space:
        node = space.create_node("orders")
        schedule_and_purge("again")
        assert space.broadcast("job", after=30, id="again").due is not None
        schedule_and_purge("now")
        assert space.broadcast("job", id="now").due is None
        schedule_and_purge("in-a-transform")
        node.state.set(lambda s: {"job": str(node.broadcast("job", after=20, id="in-a-transform").type)})
        schedule_and_purge("gone")

        assert space.advance(minutes=5, timeout=20).events == 2
        assert [event.id for event in space.events("job")] == ["now", "in-a-transform", "again"]
