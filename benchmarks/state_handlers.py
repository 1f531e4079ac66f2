"""State handlers beside raw compare-and-set.

``python benchmarks/state_handlers.py [rounds] [events] [servers] [chain]``

A tick: one event, on which each of many nodes commits once, until `settle` returns. A chain: stored events
that one node applies, a commit each, or folded. Raw: as many compare-and-set publishes of nats-py in a loop,
with an ordered consumer that follows them; those of a tick are pipelined, those of a chain wait for their
answers. It is measured twice: with the guard alone, and with two more headers and a follower that parses the
JSON, as each reader of commits must. Each line has the ratios of the times, or of the CPU times of this
process, on which other processes have less influence.

With a number of `events`, so many are stored and folded, and the memory is printed. With 3 `servers`, both
sides use a cluster of three on this machine. With a `chain`, only chains of so many events are measured.
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import nats

import happen_nb as happen

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.guarantees.servers import Cluster

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 30
EVENTS = int(sys.argv[2]) if len(sys.argv) > 2 else 0
SERVERS = int(sys.argv[3]) if len(sys.argv) > 3 else 1
CHAIN = int(sys.argv[4]) if len(sys.argv) > 4 else 250
WARM_UP = 3 if CHAIN == 250 else 1
TICKS = (200, 20, 1) if CHAIN == 250 else ()
GUARD = "Nats-Expected-Last-Subject-Sequence"
STORAGE = "memory" if SERVERS == 1 else "file"
IDS = {"Happen-Id": "x" * 16, "Happen-Cause": "y" * 16}


class Raw:
    """Compare-and-set publishes on the subjects of a stream, and their follower."""

    def __init__(self, place, name, keys):
        self.loop = asyncio.new_event_loop()
        self.subjects = [f"{name}.n{number}" for number in range(keys)]
        self.sequences = dict.fromkeys(self.subjects, 0)
        self.seen = 0
        self.parses = False
        self.arrived = asyncio.Event()
        self.loop.run_until_complete(self._open(place, name))

    async def _open(self, place, name):
        self.client = await nats.connect(**place)
        stream = self.client.jetstream()
        await stream.add_stream(name=name, subjects=[f"{name}.>"], num_replicas=SERVERS, storage=STORAGE)
        self.subscription = await stream.subscribe(f"{name}.>", ordered_consumer=True, cb=self._follow)

    async def _follow(self, message):
        self.seen += 1
        if self.parses:
            json.loads(message.data)
        self.arrived.set()

    async def _commit(self, subject, more):
        headers = {GUARD: str(self.sequences[subject]), **more}
        answer = await self.client.request(subject, b'{"n": 1}', timeout=10, headers=headers)
        self.sequences[subject] = json.loads(answer.data)["seq"]

    async def _follow_to(self, count):
        while self.seen < count:
            self.arrived.clear()
            await self.arrived.wait()

    async def _tick(self, more):
        until = self.seen + len(self.subjects)
        await asyncio.gather(*(self._commit(subject, more) for subject in self.subjects))
        await self._follow_to(until)

    async def _chain(self, count, more):
        until = self.seen + count
        for _ in range(count):
            await self._commit(self.subjects[0], more)
        await self._follow_to(until)

    def tick(self, *, full=False):
        return self._timed(self._tick, full)

    def chain(self, count, *, full=False):
        return self._timed(lambda more: self._chain(count, more), full)

    def _timed(self, work, full):
        self.parses = full
        return timed(lambda: self.loop.run_until_complete(work(IDS if full else {})))

    def close(self):
        self.loop.run_until_complete(self.subscription.unsubscribe())
        self.loop.run_until_complete(self.client.close())
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))


def count(state, _event):
    return {"n": state.get("n", 0) + 1}


def timed(work):
    """The time of some work, and the CPU time of this process."""
    begun, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - begun, time.process_time() - cpu


def report(what, ours, plain, full):
    """Print the ratios to both raw sides, turn by turn: the medians and the quartiles."""
    for clock, name in ((0, "time"), (1, "CPU time")):
        texts = []
        for raw in (plain, full):
            ratios = [one[clock] / other[clock] for one, other in zip(ours, raw, strict=True)][WARM_UP:]
            low, middle, high = statistics.quantiles(ratios, n=4)
            texts.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
        milliseconds = statistics.median(each[clock] for each in ours[WARM_UP:]) * 1e3
        print(
            f"{what}: {milliseconds:.1f} ms {name}; / raw {texts[0]}; / raw with headers {texts[1]}",
            flush=True,
        )


@contextmanager
def connected(name):
    """A space in memory, or on three servers, and how nats-py connects to its server."""
    if SERVERS == 1:
        with happen.connect(store=":memory:", name=name) as space:
            yield space, {"servers": space.server.url, "token": space.server.token}
        return
    with tempfile.TemporaryDirectory(dir=".", prefix=".servers-") as folder:
        cluster = Cluster(Path(folder).absolute()).start()
        try:
            with happen.connect(servers=cluster.url, replicas=SERVERS, name=name) as space:
                yield space, {"servers": cluster.url.split(",")}
        finally:
            cluster.kill()


def ticks(nodes):
    with connected(f"tick{nodes}") as (space, place):
        raw, ours, plain, full = Raw(place, f"RAW{nodes}", nodes), [], [], []
        sender = space.create_node("sender")
        for number in range(nodes):
            space.create_node(f"n{number}").state.on("tick", count)
        space.settle()

        def tick():
            sender.broadcast("tick")
            space.settle(timeout=60)

        for _ in range(ROUNDS + WARM_UP):
            plain.append(raw.tick())
            ours.append(timed(tick))
            full.append(raw.tick(full=True))
        raw.close()
        report(f"{nodes} nodes commit once per tick", ours, plain, full)


def chains(fold):
    name = "folded" if fold else "chain"
    with connected(name) as (space, place):
        raw, ours, plain, full = Raw(place, f"RAW{name}", 1), [], [], []

        def apply(node):
            node.state.on("n", count, start="beginning", fold=fold)
            space.settle(timeout=60)

        for _ in range(ROUNDS + WARM_UP):
            space.clear(force=True)  # else it reads the commits of the turns before, too
            space.replay([{"n": n} for n in range(CHAIN)], type="n").wait(60)
            node = space.create_node("late")
            plain.append(raw.chain(CHAIN))
            ours.append(timed(lambda node=node: apply(node)))
            assert node.state.get("n") == CHAIN
            full.append(raw.chain(CHAIN, full=True))
            node.delete()
        raw.close()
        report(f"{CHAIN} stored events of one node, fold={fold}", ours, plain, full)


def catch_up(events):
    def memory():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3

    with connected("long") as (space, _):
        space.replay(({"n": n} for n in range(events)), type="n").wait(None)
        node, before = space.create_node("late"), memory()

        def apply():
            node.state.on("n", count, start="beginning")
            space.settle(timeout=600)

        seconds, cpu = timed(apply)
        assert node.state.get("n") == events
        print(
            f"{events:,} stored events: {events / seconds:,.0f} a second ({cpu / events * 1e6:.0f} us of CPU "
            f"time each) in {node.state.revision:,} commits; "
            f"memory {before:.0f} MB before, {memory():.0f} at most"
        )


def main():
    for nodes in TICKS:
        ticks(nodes)
    for fold in (False, True):
        chains(fold)
    if EVENTS:
        catch_up(EVENTS)


if __name__ == "__main__":
    main()
