"""Loads that emit events, in processes of their own; see ``work.py`` for how they are run."""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import happen_nb as happen
from tests.guarantees.work import report, wait_for_start

EVENTS = 3
"""Events of each commit."""
LARGE = "x" * 9_000
"""Makes a state so large that its events do not ride in the header of the commit."""


def ids(size: int) -> list[str]:
    """So many ids."""
    return [f"order-{number}" for number in range(size)]


def step_until_killed(url: str, space: str, node: str) -> None:
    """Commit one step after the other, each with events, until killed; reports each once acknowledged.

    Every second step is stored in a batch, and the events of every fourth have ids.
    """
    wait_for_start()
    stepping = happen.connect(url, name=space).create_node(node)

    def step(state: Any) -> dict[str, Any]:
        n = state.get("n", 0) + 1
        for k in range(EVENTS):
            stepping.broadcast("stepped", {"n": n, "k": k}, id=f"{n}-{k}" if n % 4 == 1 else None)
        return {"n": n, "pad": LARGE if n % 2 else ""}

    while True:
        report(stepping.state.set(step).after["n"])


def emit_with_ids(url: str, space: str, label: str, size: int, part: int, seed: int) -> None:
    """Broadcast an event with each id of one half of so many twice, in random order; at times from a commit.

    Reports for each time: the id, the sequence, whether it was repeated, and the sequence of the commit.
    """
    choose = random.Random(seed)
    with happen.connect(url, name=space, timeout=60) as connected:
        node = connected.create_node(label)
        told: list[tuple[str, int | None, bool, int | None]] = []

        def emit_from_commit(id: str) -> None:
            events = []

            def step(state: Any) -> dict[str, Any]:
                events.append(node.broadcast("named", {"of": id}, id=id))
                return {"n": state.get("n", 0) + 1}

            commit = node.state.set(step)
            told.append((id, events[-1].sequence, events[-1].repeated, commit.sequence))

        def emit(id: str) -> None:
            event = node.broadcast("named", {"of": id}, id=id)
            told.append((id, event.sequence, event.repeated, None))

        times = ids(size)[part % 2 :: 2] * 2
        choose.shuffle(times)
        wait_for_start()
        for id in times:
            (emit_from_commit if choose.random() < 0.1 else emit)(id)
    report(told)


if __name__ == "__main__":
    {load.__name__: load for load in (step_until_killed, emit_with_ids)}[sys.argv[1]](
        **json.loads(sys.argv[2])
    )
