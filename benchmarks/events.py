"""Events beside bare nats-py, in one process, as ratios of medians.

Run it with ``python benchmarks/events.py``. Both sides use the same server, the same headers and guard, and
the same two hops between threads: to the IO thread, and from there to the thread that handles.
"""

import asyncio
import itertools
import queue
import threading
import time

import nats
import orjson
from side_by_side import alternate, report

import happen_nb as happen
from happen_nb.runtime.bridge import bridge

PAYLOAD = {"id": "o1", "total": 40, "pad": "x" * 100}
ROUNDS, COUNT, PIPELINED = 8, 200, 5000
IN_FLIGHT = 500


class Bare:
    """A publish with our headers and guard, and a push consumer that hands over to a thread."""

    def __init__(self, server):
        self.arrived = queue.SimpleQueue()
        self.handled = threading.Semaphore(0)
        threading.Thread(target=self._handle, daemon=True).start()
        self.numbers = itertools.count()
        bridge().wait(self._open(server))

    def _handle(self):
        while True:
            orjson.loads(self.arrived.get())
            self.handled.release()

    async def _open(self, server):
        self.client = await nats.connect(server.url, token=server.token)
        self.js = self.client.jetstream()
        await self.js.add_stream(name="bare", subjects=["bare.>"], allow_msg_ttl=True)

        async def seen(message):
            self.arrived.put(message.data)

        await self.js.subscribe(
            "bare.>", cb=seen, ordered_consumer=True, pending_msgs_limit=0, pending_bytes_limit=0
        )

        async def answer(message):
            await message.respond(message.data)

        await self.client.subscribe("echo", cb=answer)

    async def publish(self):
        id = f"bare-{next(self.numbers)}"
        fields = {"id": id, "type": "order.paid", "sender": "notebook"}
        headers = {
            "Nats-Expected-Last-Subject-Sequence": "0",
            "Nats-TTL": "604800",
            "Happen-Event": orjson.dumps(fields).decode(),
        }
        await self.js.publish(f"bare.event.{id}", orjson.dumps(PAYLOAD), headers=headers, timeout=30)

    async def publish_many(self, count):
        room = asyncio.Semaphore(IN_FLIGHT)

        async def one():
            async with room:
                await self.publish()

        await asyncio.gather(*(one() for _ in range(count)))

    async def two_round_trips(self):
        await self.client.request("echo", b"{}", timeout=5)
        await self.client.request("echo", b"{}", timeout=5)

    def publish_and_handle(self):
        bridge().wait(self.publish())
        self.handled.acquire()


def main():
    with happen.connect(store=":memory:", name="events") as space:
        bare = Bare(space.server)
        orders = space.create_node("orders", initial={"n": 0})
        handled = threading.Semaphore(0)
        orders.on("order.paid", lambda _: handled.release())
        orders.on("stock.of", lambda _: 3)

        def broadcast_and_handle():
            space.broadcast("order.paid", PAYLOAD)
            handled.acquire()

        def count_up(state):
            return {"n": state["n"] + 1}

        def count_up_and_tell(state):
            orders.broadcast("counted", PAYLOAD)
            return {"n": state["n"] + 1}

        pairs = alternate(
            lambda: orders.state.set(count_up_and_tell), lambda: orders.state.set(count_up), ROUNDS, COUNT
        )
        report("set that emits", pairs, "plain set", bar=1.3)
        report(
            "broadcast to handler",
            alternate(broadcast_and_handle, bare.publish_and_handle, ROUNDS, COUNT),
            bar=1.3,
        )
        pairs = alternate(
            lambda: space.send("orders", "stock.of").result(),
            lambda: bridge().wait(bare.two_round_trips()),
            ROUNDS,
            COUNT,
        )
        report("send to result", pairs, "two round trips", bar="2.5 expected")

        async def broadcast_many():
            room = asyncio.Semaphore(IN_FLIGHT)

            async def one():
                async with room:
                    await space.abroadcast("order.paid", PAYLOAD)

            await asyncio.gather(*(one() for _ in range(PIPELINED)))

        def ours():
            asyncio.run(broadcast_many())
            for _ in range(PIPELINED):
                handled.acquire()

        def theirs():
            bridge().wait(bare.publish_many(PIPELINED))
            for _ in range(PIPELINED):
                bare.handled.acquire()

        pairs = alternate(ours, theirs, 3)
        report(f"{PIPELINED} pipelined", pairs, bar="2 (half as many a second)")
        fastest = min(pair[0] for pair in pairs)
        print(f"  ours: {PIPELINED / fastest:,.0f} events/s published and handled")
        space.settle(30)


if __name__ == "__main__":
    begun = time.perf_counter()
    main()
    print(f"{time.perf_counter() - begun:.0f} s")
