"""The first `connect` in a new folder, which starts the embedded server, beside starting a bare nats-server.

Run it with ``python benchmarks/cold_start.py``. *Bare* starts ``nats-server -js`` on a free port in a new
folder, connects nats-py as soon as the port answers, and makes a stream. Only what happens until both can be
used is timed, not their end.
"""

import itertools
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import nats
from side_by_side import alternate, median, report, shown

import happen_nb as happen
from happen_nb._runtime.io import io_thread
from happen_nb._server import find_nats_server

ROUNDS = 15
PAUSE = 0.002
GRACE = 4
"""Seconds until the last embedded server has ended: two after its last user, and a bit."""


class Bare:
    """A nats-server with a store of its own, and a connection to it."""

    def __init__(self):
        self.folder = tempfile.mkdtemp()
        port = free_port()
        command = [find_nats_server(), "-js", "-sd", self.folder, "-a", "127.0.0.1", "-p", str(port)]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_for(port)
        self.client = io_thread().run(connect(port))

    def close(self):
        io_thread().run(self.client.close())
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_for(port):
    while True:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(PAUSE)


async def connect(port):
    client = await nats.connect(f"nats://127.0.0.1:{port}")
    await client.jetstream().add_stream(name="first", subjects=["first.>"])
    return client


def end(opened):
    opened.close()


def main():
    with tempfile.TemporaryDirectory() as folder:
        stores = (Path(folder) / str(number) for number in itertools.count())
        report(
            "connect, cold", alternate(lambda: happen.connect(store=next(stores)), Bare, ROUNDS, after=end)
        )
        store = next(stores)
        with happen.connect(store=store, name="first"):
            warm = median(lambda: happen.connect(store=store, name="second"), ROUNDS, end)
        print(f"connect to a server that runs already: {shown(warm)}")
        opened = [happen.connect(store=next(stores)) for _ in range(5)]
        print(f"close: {shown(median(lambda: opened.pop().close(), 5))}")
        time.sleep(GRACE)


if __name__ == "__main__":
    main()
