"""`state.set` and `state.get` of 1 kB beside bare nats-py, in one process, as ratios of medians.

Run it with ``python benchmarks/commit_and_read.py``. Both sides use the same server and the same hop to
the IO thread; the bare connection follows its stream too.
"""

import asyncio
import statistics

import nats
import orjson
from side_by_side import alternate, amedian, median, report, shown

import happen_nb as happen
from happen_nb.journal.wire import EXPECTED
from happen_nb.runtime.bridge import bridge

BODY = {"open": 0, "pad": "x" * 900, "nested": {"list": [1, 2, 3]}}
ROUNDS, COUNT = 10, 300


class Bare:
    """A compare-and-set publish and a key-value read by nats-py itself."""

    def __init__(self, server):
        self.sequence = 0
        self.body = orjson.dumps(BODY)
        bridge().wait(self._open(server))

    async def _open(self, server):
        self.client = await nats.connect(server.url, token=server.token)
        self.js = self.client.jetstream()
        self.kv = await self.js.create_key_value(bucket="bare", history=64)

        async def seen(_):
            pass

        await self.js.subscribe("$KV.bare.>", cb=seen, ordered_consumer=True)

    async def publish(self):
        ack = await self.js.publish("$KV.bare.key", self.body, headers={EXPECTED: str(self.sequence)})
        self.sequence = ack.seq


def count_up(state):
    return {**state, "open": state["open"] + 1}


def tail(who, call, count=3000):
    """What a median hides: the mean, and the slowest calls."""
    times = sorted(median(call, 1) for _ in range(count))
    mean, slow, slowest = shown(statistics.mean(times)), shown(times[-count // 500]), shown(times[-1])
    print(f"  {who}, {count} calls: mean {mean}   two of 1,000 over {slow}   slowest {slowest}")


async def in_loop(state, bare):
    pairs = []
    for _ in range(ROUNDS):
        ours = await amedian(lambda: state.aset(count_up), COUNT)
        theirs = await amedian(lambda: bridge().wait_in_loop(bare.publish()), COUNT)
        pairs.append((ours, theirs))
    return pairs


def main():
    with happen.connect(store=":memory:", name="benchmark") as space:
        state = space.create_node("orders", initial=BODY).state
        bare, io = Bare(space.server), bridge()
        pairs = alternate(lambda: state.set(count_up), lambda: io.wait(bare.publish()), ROUNDS, COUNT)
        report("state.set", pairs, bar="1.15")
        tail("ours", lambda: state.set(count_up))
        tail("bare", lambda: io.wait(bare.publish()))
        report("state.aset", asyncio.run(in_loop(state, bare)), bar="1.2")
        pairs = alternate(state.get, lambda: io.wait(bare.kv.get("key")), 3, COUNT)
        report("state.get", pairs, peer="kv.get", bar="1/50")
        io.wait(bare.client.close())


if __name__ == "__main__":
    main()
