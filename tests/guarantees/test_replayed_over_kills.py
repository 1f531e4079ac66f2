"""nats-server is killed in the middle of a replay and started again: nothing lost, doubled or reordered."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator

import pytest

import happen_nb as happen
from happen_nb._journal.encoding import encode_event
from happen_nb._journal.publish import store_messages
from happen_nb._model.records import EventRecord
from happen_nb._runtime.bulk import store_all
from happen_nb._runtime.io import io_thread
from tests.guarantees.servers import Cluster, Server


@pytest.mark.parametrize(
    ("kills", "rows"),
    [(3, 10_000), pytest.param(25, 120_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])],
)
def test_a_killed_server_loses_doubles_and_reorders_nothing(
    mortal: Server, name: str, seed: int, kills: int, rows: int
) -> None:
    choose, got, killed = random.Random(seed), [], threading.Event()

    def payloads() -> Iterator[dict[str, int]]:
        for n in range(rows):
            if n == rows * 19 // 20:
                killed.wait(600)  # so that it is not done before the last kill, however late that is
            yield {"n": n}

    with happen.connect(mortal.url, name=name) as space:
        node = space.create_node("node")
        node.on("row", lambda event: got.append(event.payload["n"]))
        replay = space.replay(payloads(), type="row")
        for kill in range(kills):
            wanted = 0.9 * rows * (kill + choose.random()) / kills
            while replay.stored < wanted:
                time.sleep(0.001)
            mortal.kill()
            time.sleep(choose.uniform(0.0, 0.5))  # how long it is away
            assert not replay.done, f"seed {seed}"
            mortal.start()
        killed.set()
        replay.wait(60)
        space.settle(120)

        assert [event.payload["n"] for event in space.events("row")] == list(range(rows)), f"seed {seed}"
        assert got == list(range(rows)), f"seed {seed}"
        assert replay.stored == rows


def test_an_answer_that_is_lost_is_not_asked_for_by_storing_twice(mortal: Server, name: str) -> None:
    with happen.connect(mortal.url, name=name) as space:
        replay = space.replay(({"n": n} for n in range(10_000)), type="row")
        for wanted in (1_000, 4_000):
            while replay.stored < wanted:
                time.sleep(0.001)
            mortal.freeze()
            time.sleep(1.5)  # longer than a call waits before it is sent again
            mortal.thaw()
        replay.wait(60)

        assert [event.payload["n"] for event in space.events("row")] == list(range(10_000))


def test_a_server_that_stays_away_ends_it_and_what_is_stored_is_the_beginning(
    mortal: Server, name: str
) -> None:
    with happen.connect(mortal.url, name=name, timeout=3) as space:
        replay = space.replay(({"n": n} for n in range(1_000_000)), type="row")
        while replay.stored < 1000:
            time.sleep(0.001)
        mortal.kill()
        with pytest.raises((happen.NotStoredError, happen.OutcomeUnknownError)):
            replay.wait(60)
        assert replay.state == "failed"
        mortal.start()
        stored = [event.payload["n"] for event in space.events("row")]
        assert stored == list(range(len(stored)))
        assert len(stored) >= replay.stored


def test_a_new_leader_of_a_cluster_loses_doubles_and_reorders_nothing(cluster: Cluster, name: str) -> None:
    with happen.connect(cluster.url, name=name, replicas=3) as space:
        stream = f"KV_happen_{name}"
        cluster.wait_whole(stream)
        replay = space.replay(({"n": n} for n in range(12_000)), type="row")
        while replay.stored < 3_000:
            time.sleep(0.001)
        leader = cluster.leader(stream)
        threading.Thread(target=leader.kill).start()
        replay.wait(100)

        assert [event.payload["n"] for event in space.events("row")] == list(range(12_000))


@pytest.mark.parametrize("stored", [0, 1, 3, 5])
def test_of_a_batch_that_is_stored_in_part_only_the_rest_is_stored(
    server: Server, name: str, stored: int
) -> None:
    with happen.connect(server.url, name=name) as space:
        log = space._log
        records = [EventRecord(f"{log.new_id()}_{n}", "row", "notebook", n) for n in range(5)]
        batch = [(record, encode_event(log.subjects, record, ttl=60)) for record in records]
        for _, message in batch[:stored]:
            io_thread().run(store_messages(log.connection, [message], timeout=5, what="a part"))
        space.settle()

        for _ in range(2):
            io_thread().run(store_all(log, batch, time.monotonic() + 5))

        assert [event.payload for event in space.events("row")] == [0, 1, 2, 3, 4]
