"""`state.set` and `state.get` of 1 kB beside bare nats-py, in one process, as ratios of medians.

Run it with ``python benchmarks/commit_and_read.py``. Both sides use the same server and the same hop to
the IO thread; the bare connection follows its stream too.
"""

import asyncio
import statistics
import time

import nats
import orjson

import happen_nb as happen
from happen_nb.runtime.bridge import bridge

BODY = {"open": 0, "pad": "x" * 900, "nested": {"list": [1, 2, 3]}}
ROUNDS, COUNT = 10, 300
EXPECTED = "Nats-Expected-Last-Subject-Sequence"


class Bare:
    """A compare-and-set publish and a key-value read by nats-py itself."""

    def __init__(self, server):
        self.sequence = 0
        self.body = orjson.dumps(BODY)
        bridge().wait(self._open(server))

    async def _open(self, server):
        self.js = (await nats.connect(server.url, token=server.token)).jetstream()
        self.kv = await self.js.create_key_value(bucket="bare", history=64)

        async def seen(_):
            pass

        await self.js.subscribe("$KV.bare.>", cb=seen, ordered_consumer=True)

    async def publish(self):
        ack = await self.js.publish("$KV.bare.key", self.body, headers={EXPECTED: str(self.sequence)})
        self.sequence = ack.seq


def count_up(state):
    return {**state, "open": state["open"] + 1}


def median(call, count=COUNT):
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        call()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


async def amedian(call, count=COUNT):
    times = []
    for _ in range(count):
        begun = time.perf_counter()
        await call()
        times.append(time.perf_counter() - begun)
    return statistics.median(times)


def report(what, pairs):
    ours = statistics.median(pair[0] for pair in pairs)
    bare = statistics.median(pair[1] for pair in pairs)
    ratio = statistics.median(pair[0] / pair[1] for pair in pairs)
    print(f"{what:<10} ours {ours * 1e6:8.1f} us   bare {bare * 1e6:8.1f} us   ratio {ratio:.4g}")


def main():
    with happen.connect(store=":memory:", name="benchmark") as space:
        state = space.create_node("orders", initial=BODY).state
        bare, io = Bare(space.server), bridge()

        def ours():
            state.set(count_up)

        def theirs():
            io.wait(bare.publish())

        median(ours), median(theirs)
        report("set", [(median(ours), median(theirs)) for _ in range(ROUNDS)])

        async def in_loop():
            pairs = []
            for _ in range(ROUNDS):
                pair = (
                    await amedian(lambda: state.aset(count_up)),
                    await amedian(lambda: io.wait_in_loop(bare.publish())),
                )
                pairs.append(pair)
            return pairs

        report("aset", asyncio.run(in_loop()))
        report("get", [(median(state.get), median(lambda: io.wait(bare.kv.get("key")))) for _ in range(3)])


if __name__ == "__main__":
    main()
