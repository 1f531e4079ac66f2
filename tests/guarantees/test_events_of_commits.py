"""A commit and its events are stored together or not at all, and an event with an id once."""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Iterable

import pytest

import happen_nb as happen
from tests.guarantees.event_work import EVENTS, ids
from tests.guarantees.processes import Load, Processes, start_together
from tests.guarantees.servers import Server

log = logging.getLogger(__name__)

Place = tuple[int | None, int]
"""A sequence, and which of the events of one commit."""


@pytest.mark.parametrize("kills", [6, pytest.param(100, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
def test_a_killed_writer_stores_no_commit_without_its_events_and_no_event_without_its_commit(
    server: Server, url: str, name: str, processes: Processes, seed: int, kills: int
) -> None:
    choose = random.Random(seed)
    acknowledged: list[int] = []
    ports: set[int] = set()
    with happen.connect(url, name=name, history=1_000_000) as space:
        writers = [_writer(processes, url, name) for _ in range(3)]
        _begin(writers[0])
        for _ in range(kills):
            _begin(writers[1])  # two write at the same time
            time.sleep(choose.uniform(0, 0.3))  # the random moment itself
            killed = writers.pop(0)
            ports |= killed.ports
            killed.kill()
            acknowledged += killed.hear_rest()
            writers.append(_writer(processes, url, name))
        ports |= writers[0].ports
        writers[0].kill()
        acknowledged += writers[0].hear_rest()
        server.wait_gone(ports)
        space.broadcast("end")  # is stored behind all that they have sent

        what = f"seed {seed}"
        history = space.create_node("steps").state.history()
        commits = {commit.after["n"]: commit.sequence for commit in history}
        found = _places(space.events("stepped", limit=None))
        log.info("%d kills, %d commits, %d events", kills, len(commits), len(space.events("stepped")))
        assert list(commits) == list(range(1, len(history) + 1)), what
        assert len(acknowledged) == len({*acknowledged}), what
        assert {*acknowledged} <= commits.keys(), what
        assert found == {n: _expected(n, sequence) for n, sequence in commits.items()}, what
        assert len(commits) > kills


def _writer(processes: Processes, url: str, name: str) -> Load:
    return processes.load("step_until_killed", "event_work.py", url=url, space=name, node="steps")


def _begin(writer: Load) -> None:
    writer.wait_ready()
    writer.say()


def _places(events: Iterable[happen.Event]) -> dict[int, list[tuple[Place, int]]]:
    """Step -> where its events are, and which they are."""
    found: dict[int, list[tuple[Place, int]]] = {}
    for event in events:
        place = event.sequence, event.index
        found.setdefault(event.payload["n"], []).append((place, event.payload["k"]))
    return found


def _expected(n: int, sequence: int) -> list[tuple[Place, int]]:
    """Return where the events of a step have to be: in its commit, or right after it."""
    if n % 2:
        return [((sequence + 1 + k, 0), k) for k in range(EVENTS)]
    return [((sequence, k), k) for k in range(EVENTS)]


@pytest.mark.parametrize(
    "size", [150, pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
def test_an_event_with_an_id_is_stored_once_whoever_emits_it_how_often(
    url: str, name: str, processes: Processes, seed: int, size: int
) -> None:
    with happen.connect(url, name=name, history=1_000_000) as space:
        loads = [
            processes.load(
                "emit_with_ids",
                "event_work.py",
                url=url,
                space=name,
                label=f"p{number}",
                size=size,
                part=number,
                seed=seed + number,
            )
            for number in range(4)
        ]
        begun = time.monotonic()
        start_together(loads)
        told = [tuple(each) for load in loads for each in load.hear(within=1700)]
        log.info("%d emissions of %d ids in %.1f s", len(told), size, time.monotonic() - begun)

        what = f"seed {seed}"
        stored = {event.id: event.sequence for event in space.events("named")}
        assert len(told) == 4 * size
        assert Counter(event.id for event in space.events("named")) == Counter(ids(size)), what
        assert [each for each in told if each[1] != stored[each[0]]] == [], what
        first = [each for each in told if not each[2]]
        assert sorted(id for id, *_ in first) == sorted(ids(size)), what
        with_commit = [(at, commit) for _, at, _, commit in first if commit is not None]
        assert len(with_commit) > size / 80
        assert [pair for pair in with_commit if pair[0] != pair[1] + 1] == [], what
        late = [each for each in told if each[2] and each[3] is not None and each[1] > each[3]]
        assert late == [], what  # a repeated one was there before the commit that would have emitted it
