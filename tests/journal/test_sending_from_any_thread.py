"""Messages that several threads send on one connection arrive whole, however little it takes at once."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
import socket
import threading
import time
from unittest.mock import MagicMock
from urllib.parse import urlparse

import pytest
from nats.aio.transport import TcpTransport

from happen_nb._journal.client import NatsClient, SharedTransport
from happen_nb._journal.outbox import Outbox, PendingWrite

SIZES = [10, 500, 3_000, 30_000]
FRAMES = 300


class Wire:
    """A shared connection that takes a few kilobytes at once, its loop in a thread, and what arrives."""

    def __enter__(self):
        self.received, self._ended = bytearray(), threading.Event()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()
        self.run(self._connect())
        return self

    async def _connect(self):
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        self._server = await asyncio.start_server(self._receive, sock=listener, limit=1_000)
        opened = TcpTransport()
        await opened.connect(urlparse(f"nats://127.0.0.1:{listener.getsockname()[1]}"), 65_536, 5)
        opened._io_writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_096)
        self.shared = SharedTransport(opened, bytes)
        self.shared.share()

    async def _receive(self, reader, writer):
        dice = random.Random(0)
        while data := await reader.read(60_000):
            self.received.extend(data)
            if dice.random() < 0.01:  # the connection is full now and then
                await asyncio.sleep(0.01)
        writer.close()
        self._ended.set()

    def run(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)

    async def write(self, *data):
        self.shared.writelines(data)

    async def _close(self):
        while self.shared._socket and not self.shared._free:
            self.shared.writelines([])
            await asyncio.sleep(0.01)
        self.shared.close()
        await asyncio.to_thread(self._ended.wait, 30)
        self._server.close()
        await self._server.wait_closed()

    def __exit__(self, *_):
        self.run(self._close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def frames(self):
        """The numbers of each thread's frames, as they have arrived."""
        found = {}
        for line in bytes(self.received).split(b"\n")[:-1]:
            thread, number, size, pad = line.split(b" ")
            assert pad == b"x" * int(size)
            found.setdefault(int(thread), []).append(int(number))
        return found


def frame(thread, number, size):
    return b"%d %d %d %b\n" % (thread, number, size, b"x" * size)


@pytest.mark.parametrize("seed", range(4))
def test_the_frames_of_all_threads_and_of_the_loop_arrive_whole(seed):
    direct = []
    with Wire() as wire:

        def send(thread):
            dice = random.Random(100 * seed + thread)
            for number in range(FRAMES):
                data = frame(thread, number, dice.choice(SIZES) if thread else 10)
                if thread and wire.shared.send_here(data):
                    direct.append(len(data))
                else:
                    wire.run(wire.write(data))
                    time.sleep(0.002)  # the connection is free again

        threads = [threading.Thread(target=send, args=(number,)) for number in range(4)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert wire.frames() == {thread: list(range(FRAMES)) for thread in range(4)}
    assert direct  # else only the loop has sent


def test_nothing_is_sent_on_a_closed_connection():
    with Wire() as wire:
        assert wire.shared.send_here(frame(0, 1, 10))
        wire.run(asyncio.sleep(0))
        wire.shared.close()
        assert not wire.shared.send_here(frame(0, 2, 10))
    assert wire.frames() == {0: [1]}


def test_what_is_written_to_a_lost_connection_is_dropped_without_a_warning(caplog):
    with Wire() as wire:
        wire.loop.call_soon_threadsafe(wire.shared._io_writer.transport.abort)
        for number in range(20):
            wire.run(wire.write(frame(0, number, 10)))
        assert not wire.shared.send_here(frame(1, 1, 10))
        wire.loop.call_soon_threadsafe(wire.shared.close)
    assert not caplog.records


def test_an_interrupt_loses_no_part_of_a_frame():
    """It comes while the main thread sends, also when the connection takes only a part."""
    sent, dice, stopped = [], random.Random(1), threading.Event()

    def interrupt(_signal, frame):
        if frame.f_code is SharedTransport.send_here.__code__:
            raise KeyboardInterrupt

    def keep_interrupting():
        while not stopped.wait(0.0002):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    interrupting = threading.Thread(target=keep_interrupting)
    before = signal.signal(signal.SIGINT, interrupt)
    try:
        with Wire() as wire:
            interrupting.start()
            for number in range(4_000):
                try:
                    if wire.shared.send_here(frame(0, number, dice.choice(SIZES))):
                        sent.append(number)
                    else:
                        wire.loop.call_soon_threadsafe(wire.shared.writelines, [])
                        time.sleep(0.001)
                except KeyboardInterrupt:
                    continue
            stopped.set()
            interrupting.join()
    finally:
        stopped.set()
        signal.signal(signal.SIGINT, before)
    arrived = wire.frames()[0]
    assert set(sent) <= set(arrived)  # and a few whose sending was interrupted
    assert arrived == sorted(set(arrived))
    assert len(sent) > 100


def test_a_message_does_not_overtake_what_the_client_has_still_to_write():
    with Wire() as wire:
        client = NatsClient()
        client._transport = wire.shared
        client._pending = [frame(1, 0, 10)]
        assert not client.send_here(frame(0, 0, 10))
        client._pending = []
        assert client.send_here(frame(0, 0, 10))


def test_concurrent_calls_of_one_thread_are_stored_in_order(space):
    async def all_at_once():
        for _ in range(30):
            await asyncio.gather(*(space.abroadcast("tick", next(numbers)) for _ in range(100)))

    numbers = itertools.count()
    asyncio.run(all_at_once())
    assert [event.payload for event in space.events("tick")] == list(range(3_000))


def counted(state):
    return {"n": state["n"] + 1}


def test_a_signal_handler_writes_while_it_interrupts_a_write(space):
    slow, stopped = [], threading.Event()
    orders = space.create_node("orders", initial={"n": 0})
    stock = space.create_node("stock", initial={"n": 0})

    def handle(*_):
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        started = time.monotonic()
        stock.state.set(counted)
        slow.append(time.monotonic() - started > 2)
        signal.signal(signal.SIGUSR1, handle)

    def keep_interrupting():
        dice = random.Random(2)
        while not stopped.wait(dice.uniform(0.0005, 0.004)):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)

    interrupting = threading.Thread(target=keep_interrupting)
    before = signal.signal(signal.SIGUSR1, handle)
    try:
        interrupting.start()
        for _ in range(1_000):
            orders.state.set(counted)
    finally:
        stopped.set()
        interrupting.join()
        signal.signal(signal.SIGUSR1, before)
    assert orders.state["n"] == 1_000
    assert stock.state["n"] == len(slow) > 20
    assert not any(slow)


class Handing:
    """An outbox whose connection takes every message, and a commit that another thread hands over."""

    def __init__(self):
        self.newest, self.generation, self.when_sent = 3, (1, 0), lambda: None
        connection = MagicMock(stream_is_gone=False, transfer_seconds=0.0)
        connection.send_here = lambda _: (self.when_sent(), True)[1]
        self.outbox = Outbox(connection, lambda _: self.newest, lambda: self.generation, MagicMock())
        self.outbox._check_later()
        self.write = self.commit()
        self._decided = asyncio.Event()

    def commit(self):
        deadline = time.monotonic() + 9
        return PendingWrite(self.outbox, "id", deadline=deadline, node="n", subject="s", expected=3)

    async def refused(self):
        """True if the commit is refused at once."""
        assert self.write.start_here(self._decided.set)
        async with asyncio.timeout(10):
            await self._decided.wait()
        return self.write.refused and self.write.followed


def test_a_commit_that_arrives_before_another_one_is_handed_over_refuses_it():
    async def run():
        handing = Handing()
        handing.when_sent = lambda: setattr(handing, "newest", 4)
        return await handing.refused()

    assert asyncio.run(run())


def test_a_clear_refuses_a_commit_that_is_just_handed_over():
    async def run():
        handing = Handing()

        def clear():
            handing.generation, handing.newest = (1, 5), 0
            handing.outbox.clear(5)
            handing.outbox.report()

        handing.when_sent = clear
        return await handing.refused()

    assert asyncio.run(run())


def test_no_write_overtakes_one_that_is_left_to_the_loop():
    async def run():
        handing = Handing()
        outbox, waiting, later, last = handing.outbox, *(handing.commit() for _ in range(3))
        assert handing.write.start_here(lambda: None)
        assert not waiting.start_here(lambda: None)
        outbox._take_handed()
        assert not later.start_here(lambda: None)
        waiting.start(lambda: None)
        later.start(lambda: None)
        assert not last.start_here(lambda: None)
        last.cancel()  # as an interrupt does
        outbox._write()
        assert handing.commit().start_here(lambda: None)

    asyncio.run(run())
