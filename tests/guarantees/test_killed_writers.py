"""A process that is killed while it writes: what it was told is stored stays stored."""

from __future__ import annotations

import random
import time

import pytest

import happen_nb as happen
from tests.guarantees.processes import Load, Processes
from tests.guarantees.servers import Server


@pytest.mark.parametrize("kills", [5, pytest.param(100, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
def test_a_killed_writer_loses_nothing_acknowledged(
    server: Server, url: str, name: str, processes: Processes, seed: int, kills: int
) -> None:
    choose = random.Random(seed)
    with happen.connect(url, name=name, history=1_000_000) as space:
        node = space.create_node("counter", initial={"n": 0})
        before = node.state.revision
        following = _writer(processes, url, name)
        for number in range(kills):
            writer, following = following, _writer(processes, url, name)
            acknowledged = _kill_after(writer, choose.uniform(0, 0.3), server)
            space.broadcast("end")  # is stored behind all that the writer has sent
            stored = node.state.get("n", fresh=True)
            now = node.state.revision

            what = f"seed {seed}, kill {number}"
            told = before + len(acknowledged)
            assert acknowledged == [[n, n - 1] for n in range(before + 1, told + 1)], what
            assert now == stored + 1, what
            assert now - told in (0, 1), what  # one may be stored and not yet told
            before = now
        assert before > kills
        commits = [(commit.revision, commit.after["n"]) for commit in node.state.history()]
        assert commits == [(n + 1, n) for n in range(before)], f"seed {seed}"


def _writer(processes: Processes, url: str, name: str) -> Load:
    return processes.load("increment_until_killed", url=url, space=name, node="counter")


def _kill_after(writer: Load, seconds: float, server: Server) -> list[list[int]]:
    """Let it write for so long; what was acknowledged to it, when the server has all that it has sent."""
    writer.wait_ready()
    writer.say()
    time.sleep(seconds)  # the random moment itself
    ports = writer.ports
    writer.kill()
    server.wait_gone(ports)
    return writer.hear_rest()
