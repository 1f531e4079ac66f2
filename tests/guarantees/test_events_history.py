"""Random work of some processes is as if all of it happened in the order of the journal."""

from __future__ import annotations

from pathlib import Path

import pytest

import happen_nb as happen
from tests.guarantees.histories import History
from tests.guarantees.processes import Processes

OPERATIONS_PER_ACT = 2.5
"""What an act leads to, with its events and their handling, at least."""


@pytest.mark.parametrize(
    ("size", "width", "times"),
    [(3, 5, 900), pytest.param(5, 20, 40_000, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])],
)
def test_what_processes_do_and_see_is_as_if_one_thing_happened_after_the_other(
    url: str, name: str, processes: Processes, seed: int, tmp_path: Path, size: int, width: int, times: int
) -> None:
    with happen.connect(url, name=name, history=10_000_000) as space:
        history = History(space, processes, tmp_path, width)
        history.act([url] * size, seed, times=times, timeout=60)

        problems = history.finish(within=3000)
        assert not problems, f"seed {seed}\n{problems}"
        assert (
            sum(op.kind not in ("watch", "seen") for op in history.operations) >= OPERATIONS_PER_ACT * times
        )
