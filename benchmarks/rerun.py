"""The time of a rerun, as a multiple of the time that handling the same events took.

Both take turns on the same machine, each in a new space, so that the load of the machine matters less. The
CPU time is that of this process, without the server.

    python -m benchmarks.rerun [EVENTS] [TURNS] [AGENTS]

The last rows are models on a manual clock: each agent looks at three others once a day, for ten days.
"""

from __future__ import annotations

import statistics
import sys
import time
from datetime import timedelta
from functools import partial
from itertools import pairwise
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


def change(name: str, agents: int) -> Any:
    """Return the transform that an agent applies each day."""
    number = int(name[1:])
    met = [f"a{(number * step + step) % agents}" for step in (3, 7, 11)]

    def day(state: Any, _: happen.Event, views: Any) -> Any:
        if state["ill"]:
            return {"ill": (state["ill"] + 1) % 5}
        return {"ill": 1} if any(views[each].get()["ill"] for each in met) else state

    return day


def agents_with_state_handlers(space: happen.Space, agents: int) -> None:
    """Make agents whose state handlers read the states of others."""
    for name in (f"a{number}" for number in range(agents)):
        node = space.create_node(name, initial={"ill": int(name == "a0")})
        node.state.on("day", change(name, agents))


def agents_with_handlers(space: happen.Space, agents: int) -> None:
    """Make agents whose plain handlers commit what they compute from the states of others."""
    for name in (f"a{number}" for number in range(agents)):
        node, day = space.create_node(name, initial={"ill": int(name == "a0")}), change(name, agents)

        def handle(event: happen.Event, node: happen.Node = node, day: Any = day) -> None:
            node.state.set(lambda state, views: day(state, event, views))

        node.on("day", handle)


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
        return differences(began, handled, rerun(space))


def turn_of_agents(make: Any, agents: int) -> list[float]:
    """Return the same for ten days of a model on a manual clock."""
    with happen.connect(store=":memory:", name="bench", fresh=True, clock="manual") as space:
        make(space, agents)
        space.create_node("sun").every(timedelta(days=1), lambda _: space.broadcast("day"))
        began = times()
        space.advance(days=10)
        handled = times()
        return differences(began, handled, rerun(space))


def rerun(space: happen.Space) -> tuple[float, float]:
    """Run everything again; return the times of the end."""
    again = space.rerun(timeout=None)
    ended = times()
    assert again.same, repr(again)
    return ended


def differences(*moments: tuple[float, float]) -> list[float]:
    """Return the seconds between moments, each by both clocks."""
    return [after - before for pair in pairwise(moments) for before, after in zip(*pair, strict=True)]


def main(events: int = 10_000, turns: int = 3, agents: int = 300) -> None:
    """Print the median ratios."""
    print(f"{'handler':27}{'handling, s':>12}{'rerun, s':>10}{'ratio':>7}{'by CPU time':>13}")
    rows = [(each, partial(turn, each, events)) for each in (plain, emitting, state_handler)]
    makers = (agents_with_state_handlers, agents_with_handlers)
    rows += [(each, partial(turn_of_agents, each, agents)) for each in makers]
    for function, measure in rows:
        found = [measure() for _ in range(turns)]
        columns = zip(*found, strict=True)
        handled, handled_cpu, rerun, rerun_cpu = map(statistics.median, columns)
        ratio = statistics.median(each[2] / each[0] for each in found)
        cpu_ratio = statistics.median(each[3] / each[1] for each in found)
        print(f"{function.__name__:27}{handled:12.2f}{rerun:10.2f}{ratio:7.2f}{cpu_ratio:13.2f}")
        print(f"{'  CPU time':27}{handled_cpu:12.2f}{rerun_cpu:10.2f}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
