"""A process that schedules events, and cancels some about when they are due, until it is killed.

``python timing.py plan '{"url": ..., "space": ..., "prefix": "a", "seed": 1, "events": 50}'`` prints "ready",
and after a line of input what it did: ``["due", id, time]`` before an event is scheduled, ``["scheduled",
id]`` after that, ``["cancelling", id]`` before a cancel, and ``["cancelled", id, answer]`` after it; and at
last "done".
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from datetime import timedelta
from typing import Any

import happen_nb as happen

SHORTEST, LONGEST = 0.05, 0.5
"""Seconds until an event is due."""
AT_ONCE = 10
"""Events that are scheduled side by side."""


def report(*what: Any) -> None:
    """Print a line for the test."""
    sys.stdout.write(f"{json.dumps(what)}\n")
    sys.stdout.flush()


async def one(node: happen.Node, id: str, choose: random.Random) -> None:
    """Schedule an event, and perhaps cancel it when the server is about to publish it."""
    seconds = choose.uniform(SHORTEST, LONGEST)
    due = node.space.now + timedelta(seconds=seconds)
    report("due", id, due.isoformat())
    await node.abroadcast("timeout", {"id": id}, id=id, at=due)
    report("scheduled", id)
    if choose.random() < 0.5:
        left = (due - node.space.now).total_seconds()
        await asyncio.sleep(max(0.0, left + choose.uniform(-0.02, 0.06)))
        report("cancelling", id)
        report("cancelled", id, await node.acancel(id))


async def plan(space: happen.Space, prefix: str, seed: int, events: int) -> None:
    """Schedule many events."""
    choose, node = random.Random(seed), space.create_node(prefix)
    for first in range(0, events, AT_ONCE):
        ids = [f"{prefix}-{number}" for number in range(first, min(events, first + AT_ONCE))]
        await asyncio.gather(*(one(node, id, choose) for id in ids))


def main() -> None:
    """Work until it is killed."""
    arguments = json.loads(sys.argv[2])
    space = happen.connect(arguments["url"], name=arguments["space"], timeout=30)
    report("ready")
    sys.stdin.readline()
    happen.run(plan(space, arguments["prefix"], arguments["seed"], arguments["events"]))
    report("done")
    sys.stdin.readline()


if __name__ == "__main__":
    main()
