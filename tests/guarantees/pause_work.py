"""A process that handles orders in three ways, while its space is paused from outside, until it is killed.

``python pause_work.py orders '{"url": ..., "space": ..., "calls": file}'`` prints "ready" when it has its
handlers, and its failures for each line that it reads, when all is handled. The plain handler leaves a line
in the file for each call.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import happen_nb as happen
from tests.guarantees.applying import report
from tests.guarantees.charging import append


def register(space: happen.Space, calls: Path) -> None:
    """Register a handler of each kind, at nodes of their own and at a common one."""
    for names in (("plain", "state", "durable"), ("common",) * 3):
        plain, state, durable = map(space.create_node, names)

        @plain.on("order")
        def note(event: happen.Event, context: Any) -> None:
            with calls.open("a") as file:
                file.write(f"{context.node.name} {event.payload}\n")

        @state.state.on("order")
        def apply(state: Any, event: happen.Event) -> Any:
            return append("applied", event.payload)(state)

        @durable.on("order", durable=True)
        def run(event: happen.Event, context: Any) -> None:
            context.node.state.set(append("run", event.payload))


def main() -> None:
    """Serve until the end of the input."""
    arguments = json.loads(sys.argv[2])
    space = happen.connect(arguments["url"], name=arguments["space"], timeout=30)
    register(space, Path(arguments["calls"]))
    report("ready")
    for _ in sys.stdin:
        space.nodes["plain"].state.get(fresh=True)  # until here, every event has arrived
        space.settle(timeout=60)
        report([failure.traceback for failure in space.failures])


if __name__ == "__main__":
    main()
