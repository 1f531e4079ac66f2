"""Trimming depends on the server's clock, not on the clock of the process that trims."""

from __future__ import annotations

from typing import Any

import pytest

from tests.guarantees.processes import Processes

COMMITS = 600
TWO_HOURS = 7200.0


def _kept(processes: Processes, url: str, name: str, **arguments: Any) -> dict[str, int]:
    """Return what is left of many commits by a process with a wrong clock, which trims twice meanwhile."""
    load = processes.load("commit_by_a_wrong_clock", url=url, space=name, commits=COMMITS, **arguments)
    load.wait_ready()
    load.say()
    kept: dict[str, int] = load.hear()
    return kept


@pytest.mark.parametrize("ahead", [TWO_HOURS, -TWO_HOURS], ids=["ahead", "behind"])
def test_a_wrong_clock_trims_no_young_commit(url: str, name: str, processes: Processes, ahead: float) -> None:
    kept = _kept(processes, url, name, ahead=ahead, young=60.0, emit=False)

    assert kept["commits"] == COMMITS


@pytest.mark.parametrize("ahead", [TWO_HOURS, -TWO_HOURS], ids=["ahead", "behind"])
def test_a_wrong_clock_trims_no_event(url: str, name: str, processes: Processes, ahead: float) -> None:
    kept = _kept(processes, url, name, ahead=ahead, young=0.0, emit=True)

    assert kept["events"] == COMMITS // 10


@pytest.mark.parametrize("ahead", [0.0, TWO_HOURS, -TWO_HOURS], ids=["right", "ahead", "behind"])
def test_a_wrong_clock_keeps_no_old_commit(url: str, name: str, processes: Processes, ahead: float) -> None:
    kept = _kept(processes, url, name, ahead=ahead, young=0.0, emit=False)

    assert kept["commits"] < COMMITS - 200
