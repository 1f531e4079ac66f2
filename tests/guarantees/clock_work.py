"""A process that takes part in a space with a manual clock.

``python clock_work.py take '{"url": ..., "space": ...}'`` prints "ready"; after that it answers each line of
input, a JSON string: "now" with the time, and "advance <seconds>" with "advanced", or the name of the error.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import happen_nb as happen
from tests.guarantees.applying import report


def main() -> None:
    """Serve until the end of the input."""
    arguments = json.loads(sys.argv[2])
    space = happen.connect(arguments["url"], name=arguments["space"], timeout=30)
    worker = space.create_node("worker")

    @worker.on("job")
    def work(event: happen.Event) -> None:
        time.sleep(0.05)  # the process that advances has to wait for it
        worker.broadcast("done", {"job": event.payload, "at": str(space.now)})

    @worker.on("nap")
    async def nap(event: happen.Event, context: Any) -> str:
        await context.sleep(event.payload)
        await worker.abroadcast("rested", str(space.now))
        return str(space.now)

    @worker.on("ask")
    async def ask(event: happen.Event) -> None:
        reply = await worker.asend("here", "nap", event.payload)
        await worker.abroadcast("answered", {"reply": await reply, "at": str(space.now)})

    report("ready")
    for line in sys.stdin:
        match json.loads(line).split():
            case ["now"]:
                report(str(space.now))
            case ["advance", seconds]:
                try:
                    space.advance(float(seconds))
                except happen.HappenError as error:
                    report(type(error).__name__)
                else:
                    report("advanced")


if __name__ == "__main__":
    main()
