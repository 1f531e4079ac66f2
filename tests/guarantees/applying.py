"""A process that registers the same state handlers as others, until it is killed.

``python applying.py apply '{"url": ..., "space": ..., "nodes": 3}'`` prints "ready" when it has them, and
"settled" for each line that it reads. With ``count``, it prints how often the transform was called.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import happen_nb as happen


def add(state: Any, event: happen.Event) -> Any:
    """Append the payload."""
    return {**state, "seen": [*state.get("seen", ()), event.payload]}


def add_again(state: Any, event: happen.Event) -> Any:
    """Append the payload, marked as that of a second handler."""
    return {**state, "seen": [*state.get("seen", ()), [event.payload]]}


def price(state: Any, event: happen.Event, views: happen.Views) -> Any:
    """Append what the lamp cost when the event was stored."""
    lamp = views["prices"].get("lamp") if "prices" in views else None
    return {**state, "paid": [*state.get("paid", ())[-20:], [event.payload, lamp]]}


def add_if_open(state: Any, event: happen.Event) -> Any:
    """Append the payload; change nothing unless the state says so."""
    return add(state, event) if state.get("open") else state


def add_but_1(state: Any, event: happen.Event) -> Any:
    """Append the payload; 1 fails, as in a process that lacks memory."""
    if event.payload == 1:
        raise MemoryError("too little memory in this process")
    return add(state, event)


def add_at_gate(state: Any, event: happen.Event) -> Any:
    """Append a number when a file exists, and emit it; each call leaves a mark in another file."""
    with Path(event.payload["calls"]).open("a") as calls:
        calls.write(".")
    while not Path(event.payload["gate"]).exists():
        time.sleep(0.01)
    number = event.payload["n"]
    happen.current().nodes["stock"].broadcast("added", number, id=f"added-{number}")  # makes a batch
    return {**state, "seen": [*state.get("seen", ()), number]}


def die(state: Any, event: happen.Event) -> Any:
    """End the process, when an earlier commit of the event is stored if there is one."""
    deadline = time.monotonic() + 2
    while not happen.current().views["stock"].get("seen") and time.monotonic() < deadline:
        time.sleep(0.01)
    os._exit(1)


TRANSFORMS = {
    each.__name__: each for each in (add, add_again, price, add_if_open, add_but_1, add_at_gate, die)
}


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


def register_counting(node: happen.Node, calls: list[int]) -> None:
    """Register a state handler that notes each of its calls."""

    def count(state: Any, event: happen.Event) -> Any:
        calls.append(event.payload)
        return add(state, event)

    node.state.on("n", count)


def report(what: Any) -> None:
    """Print a line for the test."""
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()


def main() -> None:
    """Serve until the end of the input."""
    arguments, calls = json.loads(sys.argv[2]), list[int]()
    space = happen.connect(arguments["url"], name=arguments["space"], timeout=30)
    for number in range(arguments["nodes"]):
        node = space.create_node(f"n{number}")
        if sys.argv[1] == "count":
            register_counting(node, calls)
        else:
            register(node)
    report("ready")
    for _ in sys.stdin:
        space.settle(timeout=60)
        report(len(calls) if sys.argv[1] == "count" else "settled")


if __name__ == "__main__":
    main()
