"""Scheduled events and the manual clock: ``python benchmarks/clocks.py [ticks]``.

Raw: the same commits as the agents make, pipelined by nats-py in a loop, with an ordered consumer.
"""

from __future__ import annotations

import asyncio
import json
import resource
import statistics
import sys
import time
from datetime import timedelta

import nats

import happen_nb as happen

AGENTS = 200
TICKS = int(sys.argv[1]) if len(sys.argv) > 1 else 100
TURNS = 10  # ticks of each side in turn
MANY = 10_000
IDLE_SECONDS = 10


def quartiles(values):
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


class Raw:
    """A stream with a subject for each agent."""

    def __init__(self, space):
        self.loop = asyncio.new_event_loop()
        self.seen, self.arrived = set(), asyncio.Event()
        self.subjects = [f"RAW.n{number}" for number in range(AGENTS)]
        self.sequences = dict.fromkeys(self.subjects, 0)
        self.loop.run_until_complete(self._start(space.server))

    async def _start(self, server):
        self.client = await nats.connect(server.url, token=server.token)
        stream = self.client.jetstream()
        await stream.add_stream(name="RAW", subjects=["RAW.>"])

        async def follow(message):
            self.seen.add(message.subject)
            self.arrived.set()

        await stream.subscribe("RAW.>", ordered_consumer=True, cb=follow)

    def ticks(self, count):
        """Commit once for each agent, so many times; return the seconds."""
        begun = time.perf_counter()
        for _ in range(count):
            self.loop.run_until_complete(self._tick())
        return time.perf_counter() - begun

    def close(self):
        self.loop.run_until_complete(self.client.close())
        self.loop.close()

    async def _tick(self):
        self.seen.clear()
        self.arrived.clear()
        body, sequences = json.dumps({"n": 1}).encode(), self.sequences
        expected = "Nats-Expected-Last-Subject-Sequence"
        answers = await asyncio.gather(
            *(
                self.client.request(each, body, timeout=10, headers={expected: str(sequences[each])})
                for each in self.subjects
            )
        )
        for subject, answer in zip(self.subjects, answers, strict=True):
            sequences[subject] = json.loads(answer.data)["seq"]
        while len(self.seen) < AGENTS:
            await self.arrived.wait()
            self.arrived.clear()


def agents():
    with happen.connect(store=":memory:", name="agents", clock="manual") as space:
        for number in range(AGENTS):
            node = space.create_node(f"n{number}")
            node.state.on("tick", lambda state, _event: {"n": state.get("n", 0) + 1}, name="count")
        source = space.create_node("source")
        source.every(1, lambda _event: source.broadcast("tick"))
        raw = Raw(space)
        raw.ticks(3)
        space.advance(3)
        ratios, seconds = [], []
        for _ in range(TICKS // TURNS):
            theirs = raw.ticks(TURNS)
            begun = time.perf_counter()
            space.advance(TURNS)
            ours = time.perf_counter() - begun
            ratios.append(ours / theirs)
            seconds.append(ours / TURNS)
        raw.close()
        assert space.views.n0.get("n") >= TICKS
        print(f"{AGENTS} agents x {TICKS} ticks, manual clock / raw: {quartiles(ratios)}")
        print(f"a tick: {1000 * statistics.median(seconds):.0f} ms")


def many():
    with happen.connect(store=":memory:", name="many") as space:
        node = space.create_node("node")
        start = space.now + timedelta(seconds=20)
        for first in range(0, MANY, 500):
            node.state.set(
                lambda _state, first=first: {
                    "n": [
                        node.broadcast("due", at=start + timedelta(seconds=number / MANY)).id
                        for number in range(first, first + 500)
                    ][:1]
                },
                timeout=60,
            )
        left = start - space.now
        print(f"{MANY:,} scheduled, {left.total_seconds():.1f} s before the first is due")
        while len(space.events("due")) < MANY:
            time.sleep(0.2)
        delays = [(event.time - event.due).total_seconds() for event in space.events("due")]
        print(f"late by {quartiles(delays)} s, at most {max(delays):.2f} s")


def one_by_one():
    with happen.connect(store=":memory:", name="single") as space:
        delays = []
        for _ in range(30):
            event = space.broadcast("due", after=0.1)
            came = space.wait_for("due", since=event)
            delays.append(1000 * (came.time - came.due).total_seconds())
        print(f"one event at a time, late by {quartiles(delays)} ms")


def idle():
    with happen.connect(store=":memory:", name="idle") as space:
        node = space.create_node("node")
        node.state.set(lambda _s: {"n": [node.broadcast("due", after=3600).type for _ in range(500)][:1]})
        node.state.set(lambda _s: {"m": [node.broadcast("due", after=7200).type for _ in range(500)][:1]})
        time.sleep(1)

        def cpu():
            with open(f"/proc/{space.server.pid}/stat") as stat:  # noqa: PTH123
                fields = stat.read().split()
            used = resource.getrusage(resource.RUSAGE_SELF)
            return used.ru_utime + used.ru_stime, (int(fields[13]) + int(fields[14])) / 100

        before = cpu()
        time.sleep(IDLE_SECONDS)
        ours, server = (100 * (b - a) / IDLE_SECONDS for a, b in zip(before, cpu(), strict=True))
        print(f"idle with {space.to_come:,} scheduled: {ours:.2f} % of a core, and the server {server:.2f} %")


if __name__ == "__main__":
    agents()
    one_by_one()
    many()
    idle()
