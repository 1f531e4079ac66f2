"""Events beside nats-py itself, in one process, as ratios of medians.

Run it with ``python benchmarks/events.py``. Both sides use the same server, the same headers and guard, and
the same two hops between threads: to the IO thread, and from there to the thread that handles. The bare side
gets its events by a push consumer.
"""

import asyncio
import itertools
import queue
import threading
import time
from statistics import quantiles

import orjson
from side_by_side import GUARD, Bare, alternate, report, run

import happen_nb as happen

PAYLOAD = {"id": "o1", "total": 40, "pad": "x" * 100}
COUNT, PIPELINED = 40, 1_000
IN_FLIGHT = 500


class BareEvents:
    """Events published with our headers and guard, and handed over to a thread that handles them."""

    def __init__(self, server):
        self.arrived = queue.SimpleQueue()
        self.handled = threading.Semaphore(0)
        threading.Thread(target=self._handle, daemon=True).start()
        self.numbers = itertools.count()
        run(self._open(server))

    def _handle(self):
        while True:
            orjson.loads(self.arrived.get())
            self.handled.release()

    async def _open(self, server):
        self.bare = await Bare.open(server)
        await self.bare.js.add_stream(name="bare", subjects=["bare.>"], allow_msg_ttl=True)
        await self.bare.follow("bare", lambda message: self.arrived.put(message.data))

        async def answer(message):
            await message.respond(message.data)

        await self.bare.client.subscribe("echo", cb=answer)

    async def publish(self):
        id = f"bare-{next(self.numbers)}"
        fields = {"id": id, "type": "order.paid", "sender": "notebook"}
        headers = {GUARD: "0", "Nats-TTL": "604800", "Happen-Event": orjson.dumps(fields).decode()}
        await self.bare.request(f"bare.event.{id}", orjson.dumps(PAYLOAD), headers)

    async def two_round_trips(self):
        await self.bare.client.request("echo", b"{}", timeout=5)
        await self.bare.client.request("echo", b"{}", timeout=5)

    def publish_and_handle(self):
        run(self.publish())
        self.handled.acquire()


async def many(emit):
    """So many at once, a part of them on its way at a time."""
    room = asyncio.Semaphore(IN_FLIGHT)

    async def one():
        async with room:
            await emit()

    await asyncio.gather(*(one() for _ in range(PIPELINED)))


def acquire_all(handled):
    for _ in range(PIPELINED):
        handled.acquire()


def main():
    with happen.connect(store=":memory:", name="events") as space:
        bare = BareEvents(space.server)
        orders = space.create_node("orders", initial={"n": 0})
        handled = threading.Semaphore(0)
        orders.on("order.paid", lambda _: handled.release())
        orders.on("stock.of", lambda _: 3)

        def broadcast_and_handle():
            space.broadcast("order.paid", PAYLOAD)
            handled.acquire()

        def count_up(state):
            return {"n": state["n"] + 1}

        def count_up_and_emit(state):
            orders.broadcast("counted", PAYLOAD)
            return {"n": state["n"] + 1}

        def send():
            space.send("orders", "stock.of").result()

        def ours():
            asyncio.run(many(lambda: space.abroadcast("order.paid", PAYLOAD)))
            acquire_all(handled)

        def theirs():
            run(many(bare.publish))
            acquire_all(bare.handled)

        def emitting():
            orders.state.set(count_up_and_emit)

        plain = alternate(emitting, lambda: orders.state.set(count_up), count=COUNT)
        report("set that emits", plain, "plain set", bar=1.3)
        pairs = alternate(broadcast_and_handle, bare.publish_and_handle, count=COUNT)
        report("broadcast to handler", pairs, bar=1.25)
        trips = alternate(send, lambda: run(bare.two_round_trips()), count=COUNT)
        report("send to result", trips, "two round trips", bar=2.5)
        pairs = alternate(ours, theirs)
        report(f"{PIPELINED:,} pipelined", pairs, bar=1 / 0.65)
        shares = quantiles([theirs / ours for ours, theirs in pairs], n=4)
        print(f"  of the rate of bare: {shares[1]:.2f} ({shares[0]:.2f} to {shares[2]:.2f}), bar 0.65")
        rates = sorted(PIPELINED / one for one, _ in pairs)
        print(f"  ours: {rates[len(rates) // 2]:,.0f} events/s published and handled, expected about 10,000")
        space.settle(30)


if __name__ == "__main__":
    begun = time.perf_counter()
    main()
    print(f"{time.perf_counter() - begun:.0f} s")
