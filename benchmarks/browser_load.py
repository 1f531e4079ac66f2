"""A dashboard and two lives in JupyterLab, while another process broadcasts 1,000 events a second.

Run it with ``python benchmarks/browser_load.py [--minutes 5]``; it needs Chromium, as the browser tests do,
and takes two minutes and those for which the page's memory is watched. A round trip is from sending a cell
until its output is painted.
"""

import argparse
import contextlib
import statistics
import subprocess
import sys
import time

from in_lab import draw_all, heap, notebook, round_trip, run_cell, spread

RATE, CHANGE, CELLS, ROUNDS, LOOK = 1_000, 0.1, 60, 6, 30
SET_UP = """
import happen_nb as happen
space = happen.connect(name="load", fresh=True)
nodes = [space.create_node(f"node-{n}", initial={"n": 0}) for n in range(10)]
items = {f"o{n}": {"total": n} for n in range(200)}
orders = space.create_node("orders", initial={"open": 0, "items": items})
stock = space.create_node("stock", initial={"pens": 0})
"""
SHOWN = ["orders.state.live()", "stock.state.live('pens', render=lambda n: f'{n} pens')", "space.dashboard()"]
TIMED = len(SHOWN) + 1
PEER = f"""
import asyncio, time
import happen_nb as happen
from happen_nb._api.node import Node

async def send(space, room):
    begun, sent = time.perf_counter(), 0

    async def one(number):
        async with room:
            await space.abroadcast("order.paid", {{"id": f"o{{number}}", "total": 40}})

    async with asyncio.TaskGroup() as tasks:
        while True:
            due = int((time.perf_counter() - begun) * {RATE})
            for number in range(sent, due):
                tasks.create_task(one(number))
            if sent // {RATE} != due // {RATE}:
                print(due, flush=True)
            sent = due
            await asyncio.sleep(0.01)

async def change(space, name, path):
    node, number = Node(space, name), 0
    while True:
        number += 1
        await node.state.aset(happen.put(path, number))
        await asyncio.sleep({CHANGE})

async def main(space):
    changes = change(space, "orders", "open"), change(space, "stock", "pens")
    await asyncio.gather(send(space, asyncio.Semaphore(200)), *changes)

with happen.connect(name="load") as space:
    asyncio.run(main(space))
"""


@contextlib.contextmanager
def load(tab):
    """Another process that broadcasts, and changes both states that are shown ten times a second."""
    command = [sys.executable, "-c", PEER]
    process = subprocess.Popen(command, env=tab.lab.env, stdout=subprocess.PIPE, text=True)
    try:
        for _ in range(2):
            process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()


def round_trips(tab, number):
    return [round_trip(tab, TIMED, number * CELLS + each) for each in range(CELLS)]


def compare(tab, what, bar=None):
    """Rounds of cells without and with the load, in turn."""
    idle, loaded = [], []
    for number in range(ROUNDS):
        idle.append(round_trips(tab, 2 * number))
        with load(tab):
            loaded.append(round_trips(tab, 2 * number + 1))
        time.sleep(2)
    for name, rounds in (("idle", idle), (f"{RATE:,} events/s", loaded)):
        times = sorted(time for times in rounds for time in times)
        p99 = times[int(0.99 * len(times))]
        print(f"{what:<14} {name:<15} {spread(times)}   p99 {p99:6.1f} ms", flush=True)
    ratios = [
        statistics.median(with_load) / statistics.median(without)
        for without, with_load in zip(idle, loaded, strict=True)
    ]
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"{what:<14} ratio {middle:.2f} ({low:.2f} to {high:.2f})" + (f"   bar {bar}" if bar else ""))


def watch_heap(tab, minutes):
    """The page's memory while the load goes on."""
    with load(tab):
        begun = time.perf_counter()
        while True:
            after = time.perf_counter() - begun
            used, elements = heap(tab)
            print(f"heap after {after:4.0f} s   {used:6.1f} MB   {elements:,} DOM nodes", flush=True)
            if after >= minutes * 60:
                return
            time.sleep(min(LOOK, max(1, minutes * 60 - after)))


def main(minutes):
    with notebook([SET_UP, *SHOWN, "0"]) as tab:
        tab.page.set_viewport_size({"width": 1200, "height": 1800})
        draw_all(tab)
        run_cell(tab, 0, ".jp-InputPrompt")
        round_trips(tab, 100)
        compare(tab, "nothing shown")
        for at, drawn in enumerate([".happen", ".happen", ".hn-entry"], 1):
            run_cell(tab, at, f".jp-OutputArea-output {drawn}")
        compare(tab, "all shown", bar=2)
        watch_heap(tab, minutes)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=1)
    main(parser.parse_args().minutes)
