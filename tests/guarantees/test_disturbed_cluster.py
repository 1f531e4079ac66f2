"""A space with three replicas, one of whose servers is late, cut off, wiped, frozen or killed.

Processes that act at random, and one that connects again and again, go on meanwhile. No call fails, nothing
that was acknowledged is lost or doubled, no read is stale, each watch sees each commit once, and each event
is handled once, since no owner dies.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

import happen_nb as happen
from tests.guarantees.histories import History
from tests.guarantees.processes import Processes
from tests.guarantees.proxy import Proxy
from tests.guarantees.servers import Cluster, Server

log = logging.getLogger(__name__)

REPLICAS = 3
WIDTH = 4
LATE = 1.0
"""Seconds."""

Disturbance = Callable[[Cluster, str, Callable[[float, float], float]], None]


def cut_off(cluster: Cluster, stream: str, pick: Callable[[float, float], float]) -> None:
    """Leave a server that does not lead the stream in a minority."""
    cluster.cut_off(cluster.followers(stream)[0])
    time.sleep(pick(2, 4))
    cluster.heal()


def cut_off_leader(cluster: Cluster, stream: str, pick: Callable[[float, float], float]) -> None:
    """Leave the server that leads the stream in a minority."""
    cluster.cut_off(cluster.leader(stream))
    time.sleep(pick(2, 4))
    cluster.heal()


def wipe(cluster: Cluster, stream: str, pick: Callable[[float, float], float]) -> None:
    """Have a server lose its store while it is down."""
    server = cluster.followers(stream)[0]
    server.kill()
    server.wipe()
    time.sleep(pick(0.5, 1.5))
    server.start()


def freeze_leader(cluster: Cluster, stream: str, pick: Callable[[float, float], float]) -> None:
    """Stop the server that leads the stream, which goes on later with what it believes."""
    leader = cluster.leader(stream)
    leader.freeze()
    time.sleep(pick(2, 4))
    leader.thaw()


def kill_leader(cluster: Cluster, stream: str, pick: Callable[[float, float], float]) -> None:
    """Kill the server that leads the stream; it comes back with its store."""
    leader = cluster.leader(stream)
    leader.kill()
    time.sleep(pick(0.5, 1.5))
    leader.start()


DISTURBANCES: Sequence[Disturbance] = (cut_off, cut_off_leader, wipe, freeze_leader, kill_leader)
SOAK = [pytest.mark.soak, pytest.mark.timeout(900)]


@pytest.mark.parametrize(
    "disturbances",
    [
        pytest.param(DISTURBANCES, marks=pytest.mark.timeout(300), id="each"),  # 84 s on a busy machine
        *(pytest.param([each] * 5, marks=SOAK, id=each.__name__) for each in DISTURBANCES),
    ],
)
def test_a_disturbed_server_costs_nothing_but_time(
    cluster: Cluster,
    name: str,
    processes: Processes,
    seed: int,
    tmp_path: Path,
    disturbances: Sequence[Disturbance],
) -> None:
    pick = random.Random(seed).uniform
    with happen.connect(cluster.url, name=name, replicas=REPLICAS, history=10_000_000) as space:
        history = History(space, processes, tmp_path, WIDTH)
        history.act([cluster.url] * 3, seed, replicas=REPLICAS)
        history.join(cluster.url, replicas=REPLICAS)
        for disturb in disturbances:
            time.sleep(pick(0.5, 1.0))  # what was done before the random moment
            disturb(cluster, f"KV_happen_{name}", pick)
            cluster.wait_whole(f"KV_happen_{name}")
            time.sleep(pick(0.5, 1.0))

        problems = history.finish()
        assert not problems, f"seed {seed}\n{problems}"


@pytest.mark.parametrize("reconnects", [5, pytest.param(50, marks=SOAK)])
def test_a_server_that_hears_late_from_the_leader_makes_no_read_stale_and_hides_nothing(
    cluster: Cluster, name: str, processes: Processes, seed: int, tmp_path: Path, reconnects: int
) -> None:
    with (
        happen.connect(cluster.url, name=name, replicas=REPLICAS, history=10_000_000) as space,
        ExitStack() as stack,
    ):
        punctual = _make_late(cluster, f"KV_happen_{name}")
        proxies = [stack.enter_context(Proxy(server.port)) for server in punctual]
        history = History(space, processes, tmp_path, WIDTH)
        history.act([proxy.url for proxy in proxies], seed, replicas=REPLICAS)
        history.join(punctual[-1].url, replicas=REPLICAS)
        for _ in range(reconnects):
            time.sleep(1.0)  # what is done over one connection
            for proxy in proxies:
                proxy.cut()
                proxy.heal()
        cluster.heal()

        problems = history.finish()
        assert not problems, f"seed {seed}\n{problems}"


@pytest.mark.parametrize("forks", [3, pytest.param(25, marks=SOAK)])
def test_a_fork_beside_a_server_that_hears_late_has_all_that_was_acknowledged(
    cluster: Cluster, name: str, processes: Processes, forks: int
) -> None:
    happen.connect(cluster.url, name=name, replicas=REPLICAS).close()
    leader, assigner = _make_late(cluster, f"KV_happen_{name}")
    writer = processes.peer(leader.url, name, timeout=15)  # it lags, and nothing here is about time
    with happen.connect(assigner.url, name=name, timeout=15) as space:
        for number in range(forks):
            _, acknowledged = writer.ask("add", node="counter", times=10)
            with space.fork(f"{name}_{number}") as fork:
                assert fork.views.counter.get("n") == acknowledged
                fork.drop()


def _make_late(cluster: Cluster, stream: str) -> list[Server]:
    """Have the stream's leader and another server hear late from each other; the two that clients use.

    These are the leader, and the server that decides on which of the three each consumer runs.
    """
    assigner = cluster.assigner()
    leader, late = (server for server in cluster.servers.values() if server is not assigner)
    cluster.move_leader(stream, leader)
    cluster.delay(leader, late, LATE)
    return [leader, assigner]
