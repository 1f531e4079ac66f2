"""Many processes that change one node lose nothing, double nothing, and read what they wrote."""

from __future__ import annotations

import pytest

import happen_nb as happen
from tests.guarantees.processes import Processes, start_together


@pytest.mark.parametrize(
    ("writers", "count"),
    [(4, 100), pytest.param(8, 500, marks=[pytest.mark.soak, pytest.mark.timeout(600)])],
)
def test_concurrent_increments_lose_nothing(
    url: str, name: str, processes: Processes, writers: int, count: int
) -> None:
    with happen.connect(url, name=name, history=100_000) as space:
        node = space.create_node("counter", initial={"n": 0})
        loads = [
            processes.load("increment", url=url, space=name, node="counter", count=count)
            for _ in range(writers)
        ]
        start_together(loads)
        reports = [load.hear(within=300) for load in loads]

        commits = sorted(tuple(commit) for report in reports for commit in report["commits"])
        total = writers * count
        assert node.state.get("n", fresh=True) == total
        assert commits == [(n + 1, n - 1, n) for n in range(1, total + 1)]
        assert [report["unread"] for report in reports] == [0] * writers
        assert [commit.revision for commit in node.state.history()] == list(range(1, total + 2))
