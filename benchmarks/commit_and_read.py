"""`state.set`, `aset` and `get` of 1 kB beside nats-py itself, in one process, as ratios of medians.

Run it with ``python benchmarks/commit_and_read.py``. Both sides use the same server, and a connection that
follows its stream by a push consumer. `set` is compared with a compare-and-set through the same hop to the IO
thread, `aset` with one in the loop that awaits it, without a hop.
"""

import asyncio
import statistics

import orjson
from side_by_side import Bare, aalternate, alternate, median, report, run, shown

import happen_nb as happen

BODY = {"open": 0, "pad": "x" * 900, "nested": {"list": [1, 2, 3]}}
COUNT = 60


async def open_bare(server, bucket):
    """A bucket of its own that nats-py follows, and a commit to it."""
    bare = await Bare.open(server)
    bare.kv = await bare.js.create_key_value(bucket=bucket, history=64)
    await bare.follow(f"KV_{bucket}", seen=str)
    body = orjson.dumps(BODY)
    return bare, lambda: bare.commit(f"$KV.{bucket}.key", body)


def count_up(state):
    return {**state, "open": state["open"] + 1}


def tail(who, call, count=3000):
    """Print what a median hides: the mean, and the slowest calls."""
    times = sorted(median(call, 1) for _ in range(count))
    mean, slow, slowest = shown(statistics.mean(times)), shown(times[-count // 500]), shown(times[-1])
    print(f"  {who}, {count} calls: mean {mean}   two of 1,000 over {slow}   slowest {slowest}")


async def in_one_loop(state, server):
    bare, commit = await open_bare(server, "bare_in_loop")
    pairs = await aalternate(lambda: state.aset(count_up), commit, count=COUNT)
    await bare.client.close()
    return pairs


def main():
    with happen.connect(store=":memory:", name="benchmark") as space:
        state = space.create_node("orders", initial=BODY).state
        bare, commit = run(open_bare(space.server, "bare"))
        report(
            "state.set", alternate(lambda: state.set(count_up), lambda: run(commit()), count=COUNT), bar=1.15
        )
        report("state.aset", asyncio.run(in_one_loop(state, space.server)), bar=1.2)
        pairs = alternate(state.get, lambda: run(bare.kv.get("key")), count=COUNT)
        report("state.get", pairs, peer="kv.get", bar=1 / 50)
        tail("ours", lambda: state.set(count_up))
        tail("bare", lambda: run(commit()))
        run(bare.client.close())


if __name__ == "__main__":
    main()
