"""Events that wait in a paused space are handled in order when it resumes, whatever process is killed."""

from __future__ import annotations

import gc
import random
import tracemalloc
from functools import partial
from pathlib import Path

import pytest

import happen_nb as happen
from tests.guarantees.processes import Load, Processes, eventually
from tests.guarantees.servers import Cluster

SOAK = [pytest.mark.soak, pytest.mark.timeout(900)]
NODES = ("common", "durable", "plain", "state")


def _start(processes: Processes, url: str, name: str, calls: Path) -> Load:
    process = processes.load("orders", "pause_work.py", url=url, space=name, calls=str(calls))
    process.wait_ready()
    return process


def _holds(space: happen.Space, number: int) -> bool:
    return space.held.total == number


def _check(space: happen.Space, calls: Path, number: int) -> None:
    """Each order was handled once by each handler, in order."""
    everything = list(range(number))
    for node, member in (
        ("state", "applied"),
        ("common", "applied"),
        ("durable", "run"),
        ("common", "run"),
    ):
        assert list(space.create_node(node).state.get(fresh=True)[member]) == everything, (node, member)
    lines = [line.split() for line in calls.read_text().splitlines()]
    for node in ("plain", "common"):
        assert [int(payload) for name, payload in lines if name == node] == everything, node
    assert len(space.unhandled) == 0


@pytest.mark.parametrize(("events", "kills"), [(20, 2), pytest.param(300, 30, marks=SOAK)])
def test_nothing_that_waits_is_lost_or_handled_twice_over_kills(
    url: str, name: str, processes: Processes, tmp_path: Path, seed: int, events: int, kills: int
) -> None:
    choose, calls = random.Random(seed), tmp_path / "calls"
    calls.touch()
    space = happen.connect(url, name=name, timeout=30)
    process = _start(processes, url, name, calls)
    space.pause("order")
    kinds = len(NODES)
    taken: list[tuple[int, str]] = []
    sent = 0
    for _ in range(kills):
        for number in range(sent, sent + events // kills):
            space.broadcast("order", number)
        sent += events // kills
        assert _holds(space, kinds * sent - len(taken))
        taken += [(each.event.payload, each.node) for each in space.step(choose.randint(1, 3))]
        process.kill()
        process = _start(processes, url, name, calls)
        waiting = kinds * sent - len(taken)
        eventually(partial(_holds, space, waiting), what=lambda: space.held.total)
    assert taken == sorted(taken), "a step takes what was stored first"
    space.resume()
    process.say()
    assert process.hear(90) == []
    _check(space, calls, sent)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_it_holds_on_three_servers_whose_leader_is_killed(
    cluster: Cluster, name: str, processes: Processes, tmp_path: Path
) -> None:
    calls = tmp_path / "calls"
    calls.touch()
    space = happen.connect(cluster.url, name=name, replicas=3, timeout=30)
    process = _start(processes, cluster.url, name, calls)
    space.pause("order")
    for number in range(10):
        space.broadcast("order", number)
    leader = cluster.leader(f"KV_happen_{name}")
    leader.kill()
    process.kill()
    process = _start(processes, cluster.url, name, calls)
    leader.start()
    cluster.wait_whole(f"KV_happen_{name}")
    eventually(partial(_holds, space, len(NODES) * 10), what=lambda: space.held.total)
    assert len(space.step(3)) == 3
    space.resume()
    process.say()
    assert process.hear(90) == []
    _check(space, calls, 10)
    space.close()


def _used_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


@pytest.mark.parametrize("events", [2_000, pytest.param(10_000, marks=SOAK)])
def test_what_waits_takes_little_memory(url: str, name: str, events: int) -> None:
    space = happen.connect(url, name=name, timeout=30)
    stock = space.create_node("stock")
    stock.state.on("order", lambda state, event: {"orders": state.get("orders", 0) + 1})
    space.replay([{"lamp": number, "text": "x" * 500} for number in range(100)], type="warm").wait()
    space.pause()
    tracemalloc.start()
    try:
        space.replay([{"lamp": number, "text": "x" * 500} for number in range(events)], type="order").wait()
        space.settle()
        assert space.held.total == events
        # The record of one takes more than 2,000 bytes; threads may still clean up after the replay.
        eventually(lambda: _used_bytes() / events < 400, what=_used_bytes)
    finally:
        tracemalloc.stop()
    space.resume()
    space.settle(timeout=60)
    assert stock.state.get("orders") == events
