"""A process that owns the node "bank": it commits, emits and replies until its input ends."""

from __future__ import annotations

import sys

import happen_nb as happen


def main(url: str, token: str, name: str) -> None:
    space = happen.connect(url, token=token, name=name)
    bank = space.create_node("bank", initial={"paid": 0})

    @bank.on("order.placed")
    def pay(event):
        bank.state.set(happen.put("paid", lambda n: n + event.payload))
        bank.broadcast("bank.paid", event.payload)

    @bank.on("limit")
    def limit(event):
        return 100 * event.payload

    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.read()
    space.settle()
    space.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
