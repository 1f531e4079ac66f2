"""What some processes do and see at random is as if all happened in the order of the journal."""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from pathlib import Path

import pytest

import happen_nb as happen
from tests.guarantees.checker import Operation, Stored, check
from tests.guarantees.history_work import DEEPEST
from tests.guarantees.processes import Load, Processes, start_together

log = logging.getLogger(__name__)


@pytest.mark.parametrize(
    ("size", "width", "times"),
    [(3, 5, 900), pytest.param(5, 20, 40_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])],
)
def test_what_processes_do_and_see_is_as_if_one_thing_happened_after_the_other(
    url: str, name: str, processes: Processes, seed: int, tmp_path: Path, size: int, width: int, times: int
) -> None:
    nodes = [f"n{number}" for number in range(width)]
    paths = [tmp_path / f"record-{number}" for number in range(size)]
    with happen.connect(url, name=name, history=10_000_000) as space:
        loads = [
            processes.load(
                "act_at_random",
                "history_work.py",
                url=url,
                space=name,
                label=f"p{number}",
                nodes=nodes,
                own=nodes[number::size],
                times=times // size,
                seed=seed + number,
                path=str(path),
            )
            for number, path in enumerate(paths)
        ]
        begun = time.monotonic()
        start_together(loads)
        for load in loads:
            assert load.hear(within=3000) == "acted"
        _await_all_handled(space, nodes)
        acted = time.monotonic() - begun
        failures = [failure for load in loads for failure in _end(load)]

        operations = [op for path in paths for op in _operations(path)]
        journal = _journal(space)
        log.info("%s in %.1f s", dict(Counter(op.kind for op in operations)), acted)
        assert failures == [], f"seed {seed}"
        assert check(operations, journal) == [], f"seed {seed}"
        assert len(operations) >= 4 / 3 * times


def _await_all_handled(space: happen.Space, nodes: list[str]) -> None:
    """Each node handles in order, so what came before the last one is handled; and so what that caused."""
    for _ in range(DEEPEST + 1):
        for event in [space.broadcast(f"for.{node}", "last") for node in nodes]:
            event.settle(timeout=600)


def _end(load: Load) -> list[str]:
    load.say()
    failures: list[str] = load.hear(within=600)
    return failures


def _operations(path: Path) -> list[Operation]:
    return [Operation(**json.loads(line)) for line in path.read_text().splitlines()]


def _journal(space: happen.Space) -> list[Stored]:
    """All that is stored, in its order."""
    commits = [
        Stored((commit.sequence, -1), commit.node, commit.revision, commit.after["token"], cause=commit.cause)
        for commit in space.journal().commits
    ]
    events = [
        Stored(
            (event.sequence or 0, event.index),
            event.sender,
            event=event.id,
            target=event.type.removeprefix("for."),
            cause=event.cause,
        )
        for event in space.events("for.*")
    ]
    return sorted(commits + events, key=lambda entry: entry.place)
