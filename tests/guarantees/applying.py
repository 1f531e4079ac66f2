"""A process that registers the same state handlers as others, until it is killed.

``python applying.py apply '{"url": ..., "space": ..., "nodes": 3}'`` prints "ready" when it has them, and
"settled" for each line that it reads.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import happen_nb as happen


def register(node: happen.Node) -> None:
    """Register two state handlers; the first fails, changes nothing, or emits."""

    @node.state.on("n")
    def add(state: Any, event: happen.Event) -> Any:
        if event.payload % 11 == 5:
            raise ValueError("these fail")
        if event.payload % 7 == 3:
            return state
        node.broadcast("added", [node.name, event.payload])
        return {**state, "seen": [*state.get("seen", ()), event.payload]}

    @node.state.on("n", name="second")
    def count(state: Any, event: happen.Event) -> Any:
        return {**state, "sum": state.get("sum", 0) + event.payload, "times": state.get("times", 0) + 1}


def report(what: str) -> None:
    """Print a line for the test."""
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until the end of the input."""
    arguments = json.loads(sys.argv[2])
    space = happen.connect(arguments["url"], name=arguments["space"], timeout=30)
    for number in range(arguments["nodes"]):
        register(space.create_node(f"n{number}"))
    report("ready")
    for _ in sys.stdin:
        space.settle(timeout=60)
        report("settled")


if __name__ == "__main__":
    main()
