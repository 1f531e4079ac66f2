"""A process that registers the same durable handlers as others, until it is killed.

``python charging.py charge '{"url": ..., "space": ..., "calls": file, "patience": 5}'`` prints "ready" when
it has them, and its failures for each line that it reads, when all is handled. Each call of a function by
``context.once`` leaves a line in the file.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import happen_nb as happen
from happen_nb._runtime import durable
from tests.guarantees.applying import report


def append(name: str, value: Any) -> Any:
    """Return a transform that appends a value to a list of the state."""
    return lambda state: {**state, name: [*state.get(name, ()), value]}


def pay(calls: Path, number: int) -> str:
    """Leave a line in the file, and return the receipt."""
    with calls.open("a") as file:
        file.write(f"{number}\n")
    return f"receipt {number}"


def register(space: happen.Space, calls: Path) -> None:
    """Register durable handlers of four kinds."""
    billing, stock, audit, mail = map(space.create_node, ("billing", "stock", "audit", "mail"))

    @stock.on("price", durable=True)
    def price(event: happen.Event) -> Any:
        return {"price": 2 * event.payload, "padding": "x" * 300}  # too long for the record of the handling

    @billing.on("order", durable=True)
    def charge(event: happen.Event, context: Any) -> None:
        number = event.payload
        receipt = context.once("card", pay, calls, number)
        at, luck = context.now, context.random.random()
        assert billing.state.set(append("paid", [number, receipt])).changed
        billing.state.set(lambda state: state)

        def sell(state: Any) -> Any:
            stock.broadcast("stock.sold", number)
            return {**state, "sold": state.get("sold", 0) + 1}

        stock.state.set(sell)
        paid = billing.broadcast("paid", [number, at.isoformat(), luck])
        assert paid.payload[0] == number
        reply = billing.send("stock", "price", number).result(30)
        billing.state.set(append("priced", [number, reply["price"]]))

    @audit.on("order", durable=True)
    async def note(event: happen.Event, context: Any) -> None:
        await audit.state.aset(append("noted", event.payload))
        await audit.abroadcast("noted", event.payload, id=f"noted-{event.payload}")
        await audit.abroadcast("reminder", event.payload, after=3600, id=f"reminder-{event.payload}")
        cancelled = [await audit.acancel(f"reminder-{event.payload}") for _ in range(2)]
        await audit.state.aset(append("cancelled", cancelled))
        await audit.state.aset(append("done", event.payload))

    @mail.on("order", durable=True)
    def write(event: happen.Event) -> Iterator[Any]:
        mail.state.set(append("written", event.payload))
        yield 0.5
        mail.broadcast("written", event.payload)

    @mail.on("paid", durable=True)
    async def thank(event: happen.Event) -> AsyncIterator[Any]:
        await mail.state.aset(append("thanked", event.payload[0]))
        yield 0.5


def register_reminder(
    space: happen.Space, before: Callable[[], object] = str, between: Callable[[], object] = str
) -> None:
    """Register a durable handler that schedules an event and cancels it; it waits before that and between."""
    audit = space.create_node("audit")

    @audit.on("order", durable=True)
    def remind(event: happen.Event) -> None:
        before()
        audit.broadcast("reminder", after=3600, id="reminder")
        between()
        audit.cancel("reminder")


def register_renewal(space: happen.Space, before: Callable[[], object] = str) -> None:
    """Register a durable handler that cancels an event and schedules it again; it waits before that."""
    audit = space.create_node("audit")

    @audit.on("order", durable=True)
    def renew(event: happen.Event) -> None:
        before()
        assert audit.cancel("reminder")
        audit.broadcast("reminder", "renewed", after=7200, id="reminder")


def register_dated(space: happen.Space, before: Callable[[], object] = str) -> None:
    """Register a durable handler that schedules an event at a time and cancels it; it waits before that."""
    audit = space.create_node("audit")

    @audit.on("order", durable=True)
    def remind(event: happen.Event) -> None:
        before()
        audit.broadcast("reminder", at=datetime.fromisoformat(event.payload), id="reminder")
        audit.cancel("reminder")


REGISTER = {"renew": register_renewal, "remind-at": register_dated}


def main() -> None:
    """Serve until the end of the input."""
    arguments = json.loads(sys.argv[2])
    durable.BUSY_SECONDS = arguments["patience"]
    space = happen.connect(arguments["url"], name=arguments["space"], timeout=30)
    if sys.argv[1] == "remind":
        register_reminder(space)
    elif sys.argv[1] == "remind-and-hang":
        register_reminder(space, between=threading.Event().wait)
        while not space.scheduled.cancel():
            time.sleep(0.01)
    elif sys.argv[1] in REGISTER:
        REGISTER[sys.argv[1]](space)
    else:
        register(space, Path(arguments["calls"]))
    report("ready")
    for _ in sys.stdin:
        space.create_node("audit").state.get(fresh=True)  # until here, every event has arrived
        space.settle(timeout=60)
        report([failure.traceback for failure in space.failures])


if __name__ == "__main__":
    main()
