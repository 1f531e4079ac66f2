"""Connecting to a space of 5,000 nodes of 1 kB amid 105,000 messages: the time, and the memory a node takes.

Run it with ``python benchmarks/start.py``. *Bare* is nats-py: it connects and receives the newest message of
each node by a push consumer, and does nothing with them.
"""

import asyncio
import gc
import tracemalloc

import nats
import orjson
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from side_by_side import alternate, report

import happen_nb as happen
from happen_nb._journal.encoding import encode_commit
from happen_nb._journal.wire import Subjects
from happen_nb._model.records import CommitRecord
from happen_nb._runtime.io import io_thread

NAME, NODES, REVISIONS = "large", 5_000, 21
WINDOW, ROUNDS = 1_000, 15
SUBJECTS = Subjects(NAME)


def commit(sequence):
    """The commit that is stored at `sequence`: all nodes take turns."""
    revision, number = divmod(sequence - 1, NODES)
    body = orjson.dumps({"number": number, "pad": "x" * 900, "nested": {"list": [revision, 2, 3]}})
    id = f"benchmark-{sequence}"
    record = CommitRecord(f"node-{number}", 0, revision + 1, 0, body, id, sequence - 1)
    return encode_commit(SUBJECTS, record, max(0, sequence - NODES))


async def fill(server):
    """Store all the commits; the server answers the last one of each window only."""
    client = await nats.connect(server.url, token=server.token)
    last = NODES * REVISIONS
    for sequence in range(1, last + 1):
        message = commit(sequence)
        if sequence % WINDOW and sequence < last:
            await client.publish(message.subject, message.body, headers=message.headers)
        else:
            ack = await client.request(message.subject, message.body, headers=message.headers, timeout=10)
            assert orjson.loads(ack.data)["seq"] == sequence, ack.data
    await client.close()


async def receive(server):
    """Connect and receive the newest message of each node."""
    client = await nats.connect(server.url, token=server.token)
    received = []
    complete = asyncio.Event()

    async def take(message):
        received.append(message)
        if len(received) == NODES:
            complete.set()

    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
        ack_policy=AckPolicy.NONE,
        flow_control=True,
        idle_heartbeat=1,
        mem_storage=True,
    )
    await client.jetstream().subscribe(SUBJECTS.states, stream=SUBJECTS.stream, config=config, cb=take)
    await complete.wait()
    return client


def connect(server, name=NAME):
    return happen.connect(server.url, token=server.token, name=name)


def traced():
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def memory(server):
    """Bytes a node, beside a space with no nodes."""
    tracemalloc.start()
    before = traced()
    connect(server, "empty").close()
    with connect(server, "empty"):
        empty = traced() - before
    before = traced()
    with connect(server) as space:
        unread = traced() - before - empty
        for view in space.views.values():
            view.get()
        read = traced() - before - empty
    size = len(commit(NODES * REVISIONS).body)
    print(f"a node of {size} bytes of JSON takes {unread / NODES:,.0f} bytes until its state is looked at,")
    print(f"and then {read / NODES:,.0f} bytes")


def end(opened):
    """Close what one side or the other has opened."""
    opened.close() if isinstance(opened, happen.Space) else io_thread().run(opened.close())


def main():
    with happen.connect(store=":memory:", name="base") as base:
        connect(base.server).close()
        io_thread().run(fill(base.server))
        pairs = alternate(
            lambda: connect(base.server), lambda: io_thread().run(receive(base.server)), ROUNDS, after=end
        )
        report("connect", pairs, bar=2)
        memory(base.server)


if __name__ == "__main__":
    main()
