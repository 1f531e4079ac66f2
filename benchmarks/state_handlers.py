"""State handlers beside raw compare-and-set: ``python benchmarks/state_handlers.py [rounds]``.

A tick: one event, on which each of many nodes commits once. Raw: the same commits, pipelined by nats-py in a
loop, with an ordered consumer that follows them.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time

import nats

import happen_nb as happen

ROUNDS = int(sys.argv[1]) if len(sys.argv) > 1 else 30


def quartiles(values):
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


async def raw_tick(client, subjects, sequences, seen, arrived):
    """Commit once on each subject, and wait until all are followed."""
    seen.clear()
    arrived.clear()
    body = json.dumps({"n": 1}).encode()
    answers = await asyncio.gather(
        *(
            client.request(
                subject,
                body,
                timeout=10,
                headers={"Nats-Expected-Last-Subject-Sequence": str(sequences[subject])},
            )
            for subject in subjects
        )
    )
    for subject, answer in zip(subjects, answers, strict=True):
        sequences[subject] = json.loads(answer.data)["seq"]
    while len(seen) < len(subjects):
        await arrived.wait()
        arrived.clear()


def ticks(space, loop, client_work, nodes):
    sender = space.create_node("sender")
    made = [space.create_node(f"n{number}") for number in range(nodes)]
    for node in made:
        node.state.on("tick", lambda state, _event: {"n": state.get("n", 0) + 1}, name="count")
    space.settle()
    ratios = []
    for number in range(ROUNDS + 3):
        theirs = loop.run_until_complete(client_work())
        begun = time.perf_counter()
        sender.broadcast("tick")
        space.settle(timeout=60)
        ours = time.perf_counter() - begun
        if number >= 3:
            ratios.append(ours / theirs)
    return ratios


def main():
    loop = asyncio.new_event_loop()
    for nodes in (200, 20, 1):
        with happen.connect(store=":memory:", name=f"tick{nodes}") as space:
            client = loop.run_until_complete(nats.connect(space.server.url, token=space.server.token))
            stream = client.jetstream()
            name = f"RAW{nodes}"
            loop.run_until_complete(stream.add_stream(name=name, subjects=[f"{name}.>"]))
            subjects = [f"{name}.n{number}" for number in range(nodes)]
            sequences = dict.fromkeys(subjects, 0)
            seen, arrived = set(), asyncio.Event()

            async def follow(message, seen=seen, arrived=arrived):
                seen.add(message.subject)
                arrived.set()

            following = stream.subscribe(f"{name}.>", ordered_consumer=True, cb=follow)
            subscription = loop.run_until_complete(following)

            async def work(client=client, subjects=subjects, sequences=sequences, seen=seen, arrived=arrived):
                begun = time.perf_counter()
                await raw_tick(client, subjects, sequences, seen, arrived)
                return time.perf_counter() - begun

            ratios = ticks(space, loop, work, nodes)
            print(f"{nodes} nodes commit once per tick / raw: {quartiles(ratios)}")
            loop.run_until_complete(subscription.unsubscribe())
            loop.run_until_complete(client.close())

    with happen.connect(store=":memory:", name="chain") as space:
        events = 2_000
        space.replay([{"n": n} for n in range(events)], type="n").wait(60)
        for fold in (False, True):
            node = space.create_node(f"fold{fold}".lower())
            begun = time.perf_counter()
            node.state.on(
                "n", lambda s, _event: {"n": s.get("n", 0) + 1}, start="beginning", name="n", fold=fold
            )
            space.settle(timeout=120)
            seconds = time.perf_counter() - begun
            assert node.state.get("n") == events
            print(f"{events:,} stored events, fold={fold}: {events / seconds:,.0f} events/s")


if __name__ == "__main__":
    main()
