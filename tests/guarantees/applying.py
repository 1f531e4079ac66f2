"""A process that registers the same state handlers as others, until it is killed.

``python applying.py '{"url": ..., "space": ..., "nodes": 3}'`` prints "ready" when it has them.
"""

from __future__ import annotations

import json
import sys

import happen_nb as happen

arguments = json.loads(sys.argv[2])
space = happen.connect(arguments["url"], name=arguments["space"], timeout=30)


def appended(state, number):
    return {**state, "seen": [*state.get("seen", ()), number]}


def register(node):
    @node.state.on("n")
    def add(state, event):
        if event.payload % 11 == 5:
            raise ValueError("these fail")
        if event.payload % 7 == 3:
            return state
        node.broadcast("added", [node.name, event.payload])
        return appended(state, event.payload)

    @node.state.on("n", name="second")
    def add_again(state, event):
        return {**state, "sum": state.get("sum", 0) + event.payload, "times": state.get("times", 0) + 1}


for number in range(arguments["nodes"]):
    register(space.create_node(f"n{number}"))
sys.stdout.write('"ready"\n')
sys.stdout.flush()
for _ in sys.stdin:
    space.settle(timeout=60)
    sys.stdout.write('"settled"\n')
    sys.stdout.flush()
