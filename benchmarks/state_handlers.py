"""State handlers beside raw compare-and-set: ``python benchmarks/state_handlers.py [rounds] [events]``.

A tick: one event, on which each of many nodes commits once, until `settle` returns. A chain: stored events
that one node applies, a commit each, or folded. Raw: as many compare-and-set publishes of nats-py in a loop,
with an ordered consumer that follows them; those of a tick are pipelined, those of a chain wait for their
answers. It is measured twice: with the guard alone, and with two more headers and a follower that parses the
JSON, as each reader of commits must. With a number of `events`, so many are stored and folded, and the memory
is printed.
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import sys
import time

import nats

import happen_nb as happen

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 30
EVENTS = int(sys.argv[2]) if len(sys.argv) > 2 else 0
WARM_UP = 3
TICKS = (200, 20, 1)
CHAIN = 250
GUARD = "Nats-Expected-Last-Subject-Sequence"
IDS = {"Happen-Id": "x" * 16, "Happen-Cause": "y" * 16}


class Raw:
    """Compare-and-set publishes on the subjects of a stream, and their follower."""

    def __init__(self, server, name, keys):
        self.loop = asyncio.new_event_loop()
        self.subjects = [f"{name}.n{number}" for number in range(keys)]
        self.sequences = dict.fromkeys(self.subjects, 0)
        self.seen = 0
        self.parses = False
        self.arrived = asyncio.Event()
        self.loop.run_until_complete(self._open(server, name))

    async def _open(self, server, name):
        self.client = await nats.connect(server.url, token=server.token)
        stream = self.client.jetstream()
        await stream.add_stream(name=name, subjects=[f"{name}.>"])
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
        begun = time.perf_counter()
        self.loop.run_until_complete(work(IDS if full else {}))
        return time.perf_counter() - begun

    def close(self):
        self.loop.run_until_complete(self.subscription.unsubscribe())
        self.loop.run_until_complete(self.client.close())
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(0))


def count(state, _event):
    return {"n": state.get("n", 0) + 1}


def report(what, ours, plain, full):
    """Print the ratios to both raw sides, turn by turn: the median and the quartiles."""
    texts = []
    for raw in (plain, full):
        ratios = [one / other for one, other in zip(ours, raw, strict=True)][WARM_UP:]
        low, middle, high = statistics.quantiles(ratios, n=4)
        texts.append(f"{middle:.2f} ({low:.2f} to {high:.2f})")
    milliseconds = statistics.median(ours[WARM_UP:]) * 1e3
    print(f"{what}: {milliseconds:.1f} ms; / raw {texts[0]}; / raw with headers {texts[1]}", flush=True)


def ticks(nodes):
    with happen.connect(store=":memory:", name=f"tick{nodes}") as space:
        raw, ours, plain, full = Raw(space.server, f"RAW{nodes}", nodes), [], [], []
        sender = space.create_node("sender")
        for number in range(nodes):
            space.create_node(f"n{number}").state.on("tick", count)
        space.settle()
        for _ in range(ROUNDS + WARM_UP):
            plain.append(raw.tick())
            begun = time.perf_counter()
            sender.broadcast("tick")
            space.settle(timeout=60)
            ours.append(time.perf_counter() - begun)
            full.append(raw.tick(full=True))
        raw.close()
        report(f"{nodes} nodes commit once per tick", ours, plain, full)


def chains(fold):
    name = "folded" if fold else "chain"
    with happen.connect(store=":memory:", name=name) as space:
        raw, ours, plain, full = Raw(space.server, f"RAW{name}", 1), [], [], []
        for _ in range(ROUNDS + WARM_UP):
            space.clear(force=True)  # else it reads the commits of the turns before, too
            space.replay([{"n": n} for n in range(CHAIN)], type="n").wait(60)
            node = space.create_node("late")
            plain.append(raw.chain(CHAIN))
            begun = time.perf_counter()
            node.state.on("n", count, start="beginning", fold=fold)
            space.settle(timeout=60)
            ours.append(time.perf_counter() - begun)
            assert node.state.get("n") == CHAIN
            full.append(raw.chain(CHAIN, full=True))
            node.delete()
        raw.close()
        report(f"{CHAIN} stored events of one node, fold={fold}", ours, plain, full)


def catch_up(events):
    def memory():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3

    with happen.connect(store=":memory:", name="long") as space:
        space.replay(({"n": n} for n in range(events)), type="n").wait(None)
        node, before = space.create_node("late"), memory()
        begun = time.perf_counter()
        node.state.on("n", count, start="beginning")
        space.settle(timeout=600)
        seconds = time.perf_counter() - begun
        assert node.state.get("n") == events
        print(
            f"{events:,} stored events: {events / seconds:,.0f} a second in {node.state.revision:,} commits; "
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
