"""One side of ``two_checkouts.py``: does what it is asked, and answers with the median in seconds."""

import asyncio
import json
import sys
import threading

from side_by_side import amedian, median

import happen_nb as happen

BODY = {"open": 0, "pad": "x" * 900, "nested": {"list": [1, 2, 3]}}
PAYLOAD = {"id": "o1", "total": 40, "pad": "x" * 100}


def count_up(state):
    return {**state, "open": state["open"] + 1}


def main(store, name):
    with happen.connect(store=store, name=name) as space:
        orders = space.create_node("orders", initial=BODY)
        handled = threading.Semaphore(0)
        orders.on("order.paid", lambda _: handled.release())

        def count_up_and_emit(state):
            orders.broadcast("counted", PAYLOAD)
            return count_up(state)

        def broadcast_and_handle():
            space.broadcast("order.paid", PAYLOAD)
            handled.acquire()

        calls = {
            "set": lambda: orders.state.set(count_up),
            "set that emits": lambda: orders.state.set(count_up_and_emit),
            "broadcast": lambda: space.broadcast("unhandled", PAYLOAD),
            "broadcast to handler": broadcast_and_handle,
        }
        with asyncio.Runner() as runner:
            print(json.dumps(happen.__file__), flush=True)
            for line in sys.stdin:
                what, count = json.loads(line)
                if what == "aset":
                    took = runner.run(amedian(lambda: orders.state.aset(count_up), count))
                else:
                    took = median(calls[what], count)
                print(json.dumps(took), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
