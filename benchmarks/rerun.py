"""The time of a rerun, as a multiple of the time that handling the same events took.

Both take turns on the same machine, each in a new space, so that the load of the machine matters less. The
CPU time is that of this process, without the server.

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


def times() -> tuple[float, float]:
    """Return the time by the clock, and the CPU time of this process."""
    return time.perf_counter(), time.process_time()


def turn(register: Any, events: int) -> list[float]:
    """Return the seconds that handling and the rerun took, and the same by CPU time."""
    with happen.connect(store=":memory:", name="bench", fresh=True, history=2 * events) as space:
        register(space.create_node("counter", initial={"n": 0}))
        began = times()
        space.replay(({"n": n} for n in range(events)), type="sold").wait()
        space.settle(None)
        handled = times()
        again = space.rerun(timeout=None)
        ended = times()
        assert again.same, repr(again)
    spans = ((began, handled), (handled, ended))
    return [span[1][clock] - span[0][clock] for span in spans for clock in (0, 1)]


def main(events: int = 10_000, turns: int = 3) -> None:
    """Print the median ratios."""
    print(f"{'handler':15}{'handling, s':>12}{'rerun, s':>10}{'ratio':>7}{'by CPU time':>13}")
    for register in (plain, emitting, state_handler):
        found = [turn(register, events) for _ in range(turns)]
        columns = zip(*found, strict=True)
        handled, handled_cpu, rerun, rerun_cpu = map(statistics.median, columns)
        ratio = statistics.median(each[2] / each[0] for each in found)
        cpu_ratio = statistics.median(each[3] / each[1] for each in found)
        print(f"{register.__name__:15}{handled:12.2f}{rerun:10.2f}{ratio:7.2f}{cpu_ratio:13.2f}")
        print(f"{'  CPU time':15}{handled_cpu:12.2f}{rerun_cpu:10.2f}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
