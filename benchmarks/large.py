"""One changed order of 10,000 (1.4 MB of JSON): the whole `state.set`, and where its time goes.

Run it with ``python benchmarks/large.py``. *Bare* is nats-py's own compare-and-set publish of the same body
through the same hop to the IO thread, on a connection that follows its stream too.
"""

import asyncio
import random
import statistics
import time

import nats
from side_by_side import alternate, median, report, shown

import happen_nb as happen
from happen_nb._journal.wire import EXPECTED
from happen_nb._model.freeze import dumps, freeze_state, loads
from happen_nb._model.frozen import diff, equal
from happen_nb._runtime.io import io_thread

ROUNDS, COUNT = 15, 10


def order(number):
    return {"status": "open", "customer": f"customer-{number}", "items": [number, 2], "note": "x" * 58}


ORDERS = {"orders": {f"order-{number:05}": order(number) for number in range(10_000)}}


def ship(state, key=None):
    """The transform: one order of 10,000 changes."""
    key = key or f"order-{random.randrange(10_000):05}"
    changed = {**state["orders"][key], "status": f"shipped-{random.random()}"}
    return {**state, "orders": {**state["orders"], key: changed}}


class Bare:
    """A compare-and-set publish of the body, with and without a follower of the stream."""

    def __init__(self, server, body):
        self.body = body
        self.sequence = dict.fromkeys(("alone", "followed"), 0)
        io_thread().run(self._open(server))

    async def _open(self, server):
        self.client = await nats.connect(server.url, token=server.token)
        self.js = self.client.jetstream()
        for stream in self.sequence:
            await self.js.add_stream(name=stream, subjects=[stream])
        self.received = asyncio.Event()

        async def seen(_):
            self.received.set()

        await self.js.subscribe("followed", cb=seen, ordered_consumer=True)

    async def publish(self, stream):
        headers = {EXPECTED: str(self.sequence[stream])}
        self.sequence[stream] = (await self.js.publish(stream, self.body, headers=headers)).seq

    async def publish_and_receive(self):
        """Until both have come: the answer, and the message itself."""
        self.received.clear()
        await self.publish("followed")
        await self.received.wait()


def part(what, call, count=30):
    call()
    print(f"  {what:<62} {shown(median(call, count))}")


def parts_of_computing(state):
    after = freeze_state(ship(state, "order-09999"), node="orders")
    body = dumps(after)
    pair = (state, after)
    part("the transform itself: copying a dict of 10,000", lambda: ship(state))
    unfrozen = [ship(state) for _ in range(31)]
    part("freeze: looking at 10,000 values, one of them new", lambda: freeze_state(unfrozen.pop(), node=""))
    part("has it changed? looking up to the last order", lambda: equal(*pair))
    part("orjson.dumps of the whole state", lambda: dumps(after))
    part("not in set: the diff, when it is looked at", lambda: diff(*pair))
    part("not in set: another process decodes it, when it is looked at", lambda: loads(body), count=10)
    return body


def parts_of_storing(bare):
    io = io_thread()
    part("publish and answer, nobody follows", lambda: io.wait(bare.publish("alone")))
    part("publish and answer, followed on the same connection", lambda: io.wait(bare.publish("followed")))
    part("... until the follower has it too", lambda: io.wait(bare.publish_and_receive()))


def small_sets(space):
    state = space.create_node("small", initial={"open": 0, "pad": "x" * 900}).state
    state.set(lambda s: {**s, "open": s["open"] + 1})
    return median(lambda: state.set(lambda s: {**s, "open": s["open"] + 1}), 200)


def main():
    with happen.connect(store=":memory:", name="benchmark") as space:
        state = space.create_node("orders", initial=ORDERS).state
        print(f"a state of {len(dumps(state.get())):,} bytes\ncomputing, on the caller's thread")
        bare, io = Bare(space.server, parts_of_computing(state.get())), io_thread()
        print("storing, by bare nats-py")
        parts_of_storing(bare)
        print("all of it")
        pairs = alternate(lambda: state.set(ship), lambda: io.wait(bare.publish_and_receive()), ROUNDS, COUNT)
        report("state.set", pairs, peer="bare, received")
        large, small = statistics.median(ours for ours, _ in pairs), small_sets(space)
        print(f"a small set {shown(small)}, so the large one is {large / small:.0f} times it")
        io.wait(bare.client.close())


if __name__ == "__main__":
    begun = time.perf_counter()
    main()
    print(f"{time.perf_counter() - begun:.0f} s in all")
