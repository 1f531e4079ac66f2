"""A space with three replicas: the server that leads it is killed under writers."""

from __future__ import annotations

import logging
import random

import pytest

import happen_nb as happen
from tests.guarantees.processes import Processes, start_together
from tests.guarantees.servers import Cluster
from tests.guarantees.writing import Told, assert_stored_as_told, wait_for_each

log = logging.getLogger(__name__)

REPLICAS = 3


@pytest.mark.parametrize(
    ("kills", "writers"),
    [(1, 4), pytest.param(10, 12, marks=[pytest.mark.soak, pytest.mark.timeout(900)])],
)
def test_a_killed_leader_loses_nothing_and_fails_no_call(
    cluster: Cluster, name: str, processes: Processes, seed: int, kills: int, writers: int
) -> None:
    choose = random.Random(seed)
    with happen.connect(cluster.url, name=name, replicas=REPLICAS, history=1_000_000) as space:
        loads = [
            processes.load(
                "write_in_threads",
                url=cluster.url,
                space=name,
                label=f"w{process}",
                threads=writers // 4,
                replicas=REPLICAS,
            )
            for process in range(4)
        ]
        start_together(loads)
        wait_for_each(space, len(loads), writers // 4)
        for _ in range(kills):
            cluster.change_leader(f"KV_happen_{name}", lambda: choose.uniform(0.5, 2.0))
            wait_for_each(space, len(loads), writers // 4)
        told = Told.by(loads)

        log.info("%d leaders killed, %d commits, longest call %.2f s", kills, told.count, told.longest)
        assert_stored_as_told(space, told, f"seed {seed}")


@pytest.mark.parametrize(
    ("reads", "kills"),
    [(80, 1), pytest.param(2000, 5, marks=[pytest.mark.soak, pytest.mark.timeout(900)])],
)
def test_a_fresh_read_is_never_stale_whichever_server_leads(
    cluster: Cluster, name: str, processes: Processes, reads: int, kills: int
) -> None:
    with happen.connect(cluster.url, name=name, replicas=REPLICAS) as space:
        node = space.create_node("counter", initial={"n": 0})
        writer = processes.peer(cluster.url, name, replicas=REPLICAS)
        for number in range(1, reads + 1):
            killed = number % (reads // kills) == reads // kills // 2
            leader = cluster.leader(f"KV_happen_{name}") if killed else None
            if leader is not None:
                leader.kill()
            _, acknowledged = writer.ask("add", node="counter")

            assert node.state.get("n", fresh=True) == acknowledged == number
            if leader is not None:
                leader.start()
                cluster.wait_whole(f"KV_happen_{name}")


@pytest.mark.parametrize(
    ("freezes", "commits"), [(1, 8), pytest.param(4, 20, marks=[pytest.mark.soak, pytest.mark.timeout(300)])]
)
def test_a_fresh_read_is_never_stale_when_a_frozen_leader_wakes_up(
    cluster: Cluster, name: str, processes: Processes, freezes: int, commits: int
) -> None:
    with happen.connect(cluster.url, name=name, replicas=REPLICAS) as space:
        node = space.create_node("counter", initial={"n": 0})
        writer = processes.peer(cluster.url, name, replicas=REPLICAS)
        for freeze in range(freezes):
            leader = cluster.leader(f"KV_happen_{name}")
            leader.freeze()
            for commit in range(1, commits + 1):
                _, acknowledged = writer.ask("add", node="counter")
                if commit == commits // 2:
                    leader.thaw()

                assert node.state.get("n", fresh=True) == acknowledged == commits * freeze + commit
            cluster.wait_whole(f"KV_happen_{name}")


@pytest.mark.parametrize(
    "rounds", [20, pytest.param(400, marks=[pytest.mark.soak, pytest.mark.timeout(600)])]
)
def test_serializable_holds_on_replicas(
    cluster: Cluster, name: str, processes: Processes, rounds: int
) -> None:
    with happen.connect(cluster.url, name=name, replicas=REPLICAS) as space:
        names = ("alice", "bob")
        nodes = [space.create_node(doctor, initial={"on_call": True}) for doctor in names]
        doctors = [processes.peer(cluster.url, name, replicas=REPLICAS) for _ in names]
        for number in range(rounds):
            for node in nodes:
                node.state.set({"on_call": True})
            for doctor, own, other in zip(doctors, names, reversed(names), strict=True):
                doctor.tell("go_off_call", node=own, other=other, serializable=True)
            runs = [doctor.answer() for doctor in doctors]

            on_call = [node.state.get("on_call", fresh=True) for node in nodes]
            assert any(on_call), f"round {number}: the transforms ran {runs} times"
