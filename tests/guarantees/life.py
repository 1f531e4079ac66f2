"""A process that has some cells of a game of life; each cell is a node that views its neighbours.

``python life.py live '{"url": ..., "space": ..., "size": 20, "part": 0, "parts": 3}'`` prints "ready" when it
has its cells, and lives until the end of the input.
"""

from __future__ import annotations

import json
import sys
from itertools import product
from typing import Any

import happen_nb as happen
from tests.guarantees.applying import report


def name(x: int, y: int, size: int) -> str:
    """The node of a cell; the board is a torus."""
    return f"c{x % size}-{y % size}"


def register(space: happen.Space, x: int, y: int, size: int) -> None:
    """Let a cell live on at each tick."""
    around = [name(x + i, y + j, size) for i, j in product((-1, 0, 1), repeat=2) if i or j]

    def live(state: Any, event: happen.Event, views: happen.Views) -> Any:
        alive = sum(views[each].get("alive") for each in around)
        return {"alive": int(alive == 3 or (alive == 2 and state["alive"]))}

    space.create_node(name(x, y, size)).state.on("tick", live)


def main() -> None:
    """Live until the end of the input."""
    arguments = json.loads(sys.argv[2])
    size, part, parts = arguments["size"], arguments["part"], arguments["parts"]
    with happen.connect(arguments["url"], name=arguments["space"], timeout=30) as space:
        for x, y in list(product(range(size), repeat=2))[part::parts]:
            register(space, x, y, size)
        report("ready")
        sys.stdin.read()


if __name__ == "__main__":
    main()
