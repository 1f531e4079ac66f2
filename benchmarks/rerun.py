"""The time of a rerun, as a multiple of the time that handling the same events took.

Both take turns on the same machine, each in a new space, so that the load of the machine matters less.

    python -m benchmarks.rerun [EVENTS] [TURNS]
"""

from __future__ import annotations

import statistics
import sys
import time
from typing import Any

import happen_nb as happen


def plain(node: happen.Node) -> None:
    """Register a handler that commits once."""

    @node.on("sold")
    def count(_: happen.Event) -> None:
        node.state.set(lambda state: {"n": state["n"] + 1})


def emitting(node: happen.Node) -> None:
    """Register an async handler that commits and emits."""

    @node.on("sold")
    async def count(_: happen.Event) -> None:
        await node.state.aset(lambda state: {"n": state["n"] + 1})
        await node.abroadcast("counted")


def state_handler(node: happen.Node) -> None:
    """Register a state handler."""

    @node.state.on("sold")
    def count(state: Any, _: happen.Event) -> dict[str, int]:
        return {"n": state["n"] + 1}


def turn(register: Any, events: int) -> tuple[float, float]:
    """Return the seconds that handling and the rerun took."""
    with happen.connect(store=":memory:", name="bench", fresh=True, history=2 * events) as space:
        register(space.create_node("counter", initial={"n": 0}))
        began = time.perf_counter()
        space.replay(({"n": n} for n in range(events)), type="sold").wait()
        space.settle(None)
        handled = time.perf_counter() - began
        began = time.perf_counter()
        again = space.rerun(timeout=None)
        rerun = time.perf_counter() - began
        assert again.same, repr(again)
    return handled, rerun


def main(events: int = 10_000, turns: int = 3) -> None:
    """Print the median ratios."""
    print(f"{'handler':15}{'handling, s':>12}{'rerun, s':>10}{'ratio':>7}")
    for register in (plain, emitting, state_handler):
        found = [turn(register, events) for _ in range(turns)]
        ratio = statistics.median(rerun / handled for handled, rerun in found)
        handled, rerun = (statistics.median(each[index] for each in found) for index in (0, 1))
        print(f"{register.__name__:15}{handled:12.2f}{rerun:10.2f}{ratio:7.2f}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
