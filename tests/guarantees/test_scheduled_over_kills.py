"""A scheduled event is delivered once and not before its time, or cancelled, whatever is killed when."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

import happen_nb as happen
from tests.guarantees.processes import Load, Processes, eventually
from tests.guarantees.servers import Cluster, Server

log = logging.getLogger(__name__)

SOAK = [pytest.mark.soak, pytest.mark.timeout(900)]
LONGEST_SECONDS = 0.5


class Plans:
    """The reports of the scheduling processes, also of those that were killed."""

    def __init__(self) -> None:
        self.due: dict[str, datetime] = {}
        self.scheduled: set[str] = set()
        self.cancelling: set[str] = set()
        self.cancelled: dict[str, bool] = {}

    def add(self, lines: list[object]) -> None:
        """Add the lines of one process."""
        for line in lines:
            match line:
                case ["due", str(id), str(due)]:
                    self.due[id] = datetime.fromisoformat(due)
                case ["scheduled", str(id)]:
                    self.scheduled.add(id)
                case ["cancelling", str(id)]:
                    self.cancelling.add(id)
                case ["cancelled", str(id), bool(answer)]:
                    self.cancelled[id] = answer

    def check(self, space: happen.Space, handled: Counter[str]) -> None:
        """Each was delivered once or cancelled, never both or neither; and none was early."""
        events = space.events("timeout")
        came = Counter(event.id for event in events)
        assert handled == came
        assert set(came.values()) <= {1}
        assert came.keys() <= self.due.keys()
        for event in events:
            assert event.due in (self.due[event.id], None)  # None: it was past before it was sent
            assert event.time >= self.due[event.id]
        for id in self.scheduled:
            if id in self.cancelled:
                assert came[id] == (not self.cancelled[id]), id
            elif id not in self.cancelling:  # else its answer is not known
                assert came[id] == 1, id
        log.info(
            "%d events, %d delivered, %d cancelled, %d too late to cancel",
            len(self.due),
            len(came),
            sum(self.cancelled.values()),
            len(self.cancelled) - sum(self.cancelled.values()),
        )


def _run(
    space: happen.Space,
    url: str,
    processes: Processes,
    choose: random.Random,
    *,
    events: int,
    kills: int,
    disturb: Callable[[], object],
    disturbances: int,
) -> None:
    handled: Counter[str] = Counter()
    space.create_node("listener").on("timeout", lambda event: handled.update([event.id]))
    plans, number = Plans(), 0

    def start() -> Load:
        nonlocal number
        number += 1
        process = processes.load(
            "plan",
            "timing.py",
            url=url,
            space=space.name,
            prefix=f"p{number}",
            seed=choose.randrange(1_000_000),
            events=events,
        )
        assert process.hear() == ["ready"]
        process.say()
        return process

    working = [start(), start()]
    acts = ["kill"] * kills + ["disturb"] * disturbances
    choose.shuffle(acts)
    for act in acts:
        time.sleep(choose.uniform(0.2, 0.8))
        if act == "kill":
            killed = working.pop(0)
            killed.kill()
            plans.add(killed.hear_rest())
            working.append(start())
        else:
            disturb()
    for process in working:
        lines = []
        while (line := process.hear(120)) != ["done"]:
            lines.append(line)
        plans.add(lines)
        process.kill()
    due = max(plans.due.values())
    eventually(lambda: space.now > due + timedelta(seconds=0.5))
    end = space.broadcast("end", after=0.1)
    space.wait_for("end", since=end, timeout=60)
    space.settle(timeout=60)
    plans.check(space, handled)


@pytest.mark.parametrize(
    ("events", "kills", "server_kills"), [(20, 2, 1), pytest.param(400, 12, 6, marks=SOAK)]
)
def test_each_is_delivered_once_or_cancelled(
    mortal: Server,
    name: str,
    processes: Processes,
    seed: int,
    events: int,
    kills: int,
    server_kills: int,
) -> None:
    choose = random.Random(seed)

    def restart() -> None:
        mortal.kill()
        time.sleep(choose.uniform(0, LONGEST_SECONDS))
        mortal.start()

    with happen.connect(mortal.url, name=name, timeout=30) as space:
        _run(
            space,
            mortal.url,
            processes,
            choose,
            events=events,
            kills=kills,
            disturb=restart,
            disturbances=server_kills,
        )


@pytest.mark.parametrize(("events", "kills", "changes"), [(20, 1, 1), pytest.param(300, 6, 5, marks=SOAK)])
def test_it_holds_on_three_servers_whose_leader_is_killed(
    cluster: Cluster, name: str, processes: Processes, seed: int, events: int, kills: int, changes: int
) -> None:
    choose = random.Random(seed)
    with happen.connect(cluster.url, name=name, replicas=3, timeout=30) as space:
        space.create_node("before", initial={})
        _run(
            space,
            cluster.url,
            processes,
            choose,
            events=events,
            kills=kills,
            disturb=lambda: cluster.change_leader(f"KV_happen_{name}", lambda: choose.uniform(0, 0.3)),
            disturbances=changes,
        )


def test_what_became_due_while_the_server_was_away_comes_when_it_is_back(mortal: Server, name: str) -> None:
    with happen.connect(mortal.url, name=name, timeout=30) as space:
        event = space.broadcast("timeout", after=0.3)
        mortal.kill()
        time.sleep(0.5)
        mortal.start()
        came = space.wait_for("timeout", since=event, timeout=30)
        assert came.id == event.id
        assert len(space.events("timeout")) == 1


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_10_000_within_a_second_come_within_two_seconds_of_their_time(server: Server, name: str) -> None:
    with happen.connect(server.url, name=name, timeout=60) as space:
        start = space.now + timedelta(seconds=40)

        def schedule(first: int) -> None:
            def place(state: happen.FrozenDict) -> dict[str, int]:
                for number in range(first, first + 500):
                    space.broadcast("timeout", number, at=start + timedelta(seconds=number / 10_000))
                return {"placed": first}

            space.create_node("scheduler").state.set(place, timeout=60)

        for first in range(0, 10_000, 500):
            schedule(first)
        assert space.now < start
        eventually(lambda: len(space.events("timeout")) == 10_000, within=120)
        delays = [(event.time - event.due).total_seconds() for event in space.events("timeout")]
        log.info("delays of 10,000: up to %.2f s", max(delays))
        assert min(delays) >= 0
        assert max(delays) < 2
