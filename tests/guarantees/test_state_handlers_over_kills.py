"""Each event changes a state exactly once per state handler, whatever is killed when."""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections import Counter

import pytest

import happen_nb as happen
from tests.guarantees.processes import Load, Processes, eventually
from tests.guarantees.servers import Cluster, Server

log = logging.getLogger(__name__)

SOAK = [pytest.mark.soak, pytest.mark.timeout(900)]


def _expected(events: int) -> list[int]:
    """The numbers that the first handler appends."""
    return [number for number in range(events) if number % 11 != 5 and number % 7 != 3]


def _check(space: happen.Space, nodes: int, events: int) -> None:
    for index in range(nodes):
        view = space.views[f"n{index}"]
        eventually(lambda view=view: view.get("times") == events, what=view.get)
        assert list(view.get("seen")) == _expected(events)
        assert view.get("sum") == sum(range(events))
    emitted = Counter(tuple(event.payload) for event in space.events("added"))
    assert emitted == Counter((f"n{index}", n) for index in range(nodes) for n in _expected(events))


@pytest.mark.parametrize(
    ("events", "kills", "freezes", "server_kills"),
    [(120, 2, 1, 1), pytest.param(300, 10, 4, 2, marks=SOAK)],
)
def test_each_event_is_applied_once_and_emits_once(
    mortal: Server,
    name: str,
    processes: Processes,
    seed: int,
    events: int,
    kills: int,
    freezes: int,
    server_kills: int,
) -> None:
    choose, nodes = random.Random(seed), 2
    space = happen.connect(mortal.url, name=name, timeout=30)
    numbers = itertools.count()

    def start() -> Load:
        process = processes.load("apply", "applying.py", url=mortal.url, space=name, nodes=nodes)
        process.wait_ready()
        return process

    alive = [start() for _ in range(3)]
    acts = ["kill"] * kills + ["freeze"] * freezes + ["server"] * server_kills
    choose.shuffle(acts)
    step = (events - 20) // (len(acts) + 1)
    for act in [*acts, ""]:
        for _ in range(step):
            space.broadcast("n", next(numbers))
            time.sleep(choose.random() * 0.004)
        if act == "kill":
            alive.pop(choose.randrange(len(alive))).kill()
            alive.append(start())
        elif act == "freeze":
            frozen = choose.choice(alive)
            frozen.pause()
            time.sleep(1.5)
            frozen.resume()
        elif act == "server":
            mortal.kill()
            mortal.start()
    for process in alive:
        process.kill()
    while (number := next(numbers)) < events:  # nobody is there
        space.broadcast("n", number)
    last = start()
    last.say()
    assert last.hear(90) == "settled"

    _check(space, nodes, events)
    log.info("%d events, %d kills, %d server kills: all applied once", events, kills, server_kills)
    space.close()


@pytest.mark.parametrize(("events", "kills"), [(60, 1), pytest.param(300, 5, marks=SOAK)])
def test_it_holds_on_three_servers_whose_leader_is_killed(
    cluster: Cluster, name: str, processes: Processes, events: int, kills: int
) -> None:
    space = happen.connect(cluster.url, name=name, replicas=3, timeout=30)

    def start() -> Load:
        process = processes.load("apply", "applying.py", url=cluster.url, space=name, nodes=2)
        process.wait_ready()
        return process

    alive = [start() for _ in range(2)]
    for number in range(events):
        space.broadcast("n", number)
        if number % (events // (kills + 1)) == events // (kills + 2):
            leader = cluster.leader(f"KV_happen_{name}")
            leader.kill()
            alive.pop(0).kill()
            alive.append(start())
            leader.start()
            cluster.wait_whole(f"KV_happen_{name}")
    alive[-1].say()
    assert alive[-1].hear(90) == "settled"
    alive[0].say()
    assert alive[0].hear(90) == "settled"
    _check(space, 2, events)
    space.close()
