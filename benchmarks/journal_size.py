"""A long journal: memory of a process that handles it, the newest events, and what an idle space costs.

Run it with ``python benchmarks/journal_size.py [events]`` (1,000,000 without it; 100,000 take a tenth of the
time). The events are published raw, pipelined, in the wire format; a process follows and handles them.
"""

import asyncio
import statistics
import sys
import threading
import time

import nats
import psutil

import happen_nb as happen
from happen_nb._journal.encoding import encode_event
from happen_nb._journal.wire import Subjects
from happen_nb._model.freeze import freeze
from happen_nb._model.records import EventRecord

IN_FLIGHT, PARTS, IDLE_NODES, IDLE = 2000, 5, 20, 60.0


async def publish(server, space, first, count):
    client = await nats.connect(server.url, token=server.token)
    jetstream = client.jetstream(publish_async_max_pending=IN_FLIGHT)
    subjects = Subjects(space)
    payload = freeze({"id": "o1", "total": 40})
    for number in range(first, first + count):
        record = EventRecord(f"raw-{number}", "order.paid", "notebook", payload)
        message = encode_event(subjects, record, ttl=604_800)
        await jetstream.publish_async(message.subject, message.body, headers=message.headers, wait_stall=60)
    await jetstream.publish_async_completed()
    await client.close()


def megabytes():
    return psutil.Process().memory_info().rss / 1e6


def main(total):
    with happen.connect(store=":memory:", name="size", timeout=30) as space:
        orders = space.create_node("orders")
        handled, done = [0], threading.Event()

        def count(_):
            handled[0] += 1
            if handled[0] == wanted:
                done.set()

        orders.on("order.paid", count)
        print(f"{'events':>10} {'RSS':>8} {'handled a second':>18} {'newest 100 of **':>18}")
        part = total // PARTS
        for number in range(PARTS):
            wanted = (number + 1) * part
            done.clear()
            begun = time.perf_counter()
            publisher = threading.Thread(
                target=lambda first=number * part: asyncio.run(publish(space.server, "size", first, part))
            )
            publisher.start()
            publisher.join()
            done.wait(600)
            took = time.perf_counter() - begun
            space.settle(60)
            tails = []
            for _ in range(5):
                started = time.perf_counter()
                assert len(space.events(limit=100)) == 100
                tails.append(time.perf_counter() - started)
            tail = statistics.median(tails) * 1e3
            print(f"{handled[0]:>10,} {megabytes():>5.0f} MB {part / took:>18,.0f} {tail:>15.1f} ms")


def idle():
    with happen.connect(store=":memory:", name="idle") as space:
        for number in range(IDLE_NODES):
            space.create_node(f"node-{number}", initial={"n": number}).on("never", print)
        space.settle()
        processes = [psutil.Process(), *psutil.Process().children(recursive=True)]
        before, memory = sum(sum(p.cpu_times()[:2]) for p in processes), megabytes()
        time.sleep(IDLE)
        used = sum(sum(p.cpu_times()[:2]) for p in processes) - before
        print(
            f"idle, {IDLE_NODES} nodes, {IDLE:.0f} s: {100 * used / IDLE:.2f} % of a core, "
            f"{megabytes() - memory:+.1f} MB (this process and what it started)"
        )
        own = psutil.Process().cpu_times()
        print(f"  of it this process: {own.user + own.system:.1f} s since its start")


if __name__ == "__main__":
    idle()
    main(int(sys.argv[1].replace(",", "")) if len(sys.argv) > 1 else 1_000_000)
