"""A TCP proxy between clients and a server: it can be cut, hold back bytes, delay them and slow them down."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Coroutine
from typing import Any, Self

CHUNK = 16_384
BUFFER = 65_536
"""Bytes of a socket's buffer on a slow link, where the default would hide that it is slow."""

Chunks = asyncio.Queue[tuple[float, bytes]]
"""What is on its way: when each chunk is due, by the loop's clock; an empty chunk is the end."""


class Proxy:
    """Passes bytes between the clients that connect to `url` and a server on loopback.

    Parameters
    ----------
    port : int
        The server's port.
    rate : int, optional
        Bytes per second in each direction; 0 is unlimited.

    Attributes
    ----------
    delay : float
        Seconds that each byte takes, in each direction.
    sent : int
        Bytes that the clients have sent so far.
    """

    def __init__(self, port: int, *, rate: int = 0) -> None:
        self._target = port
        self._rate = rate
        self._listener = socket.socket(proto=socket.IPPROTO_TCP)  # else asyncio lets small messages wait
        if rate:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)  # inherited by connections
        self._listener.bind(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self.delay = 0.0
        self.sent = 0
        self._refusing = False
        self._up = asyncio.Event()
        self._down = asyncio.Event()
        self._connections: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Close every connection, and all new ones, until `heal`; what is on its way is lost."""
        self._do(self._cut())

    def black_hole(self) -> None:
        """Keep the connections, but pass nothing, until `heal`."""
        self._do(self._pass(up=False, down=False))

    def swallow_answers(self) -> None:
        """Pass what clients send, but nothing from the server, until `heal`."""
        self._do(self._pass(up=True, down=False))

    def heal(self) -> None:
        """Pass everything again."""
        self._do(self._pass(up=True, down=True))

    # -- on the loop of the proxy --------------------------------------------------------------------

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=10)

    async def _open(self) -> None:
        await self._pass(up=True, down=True)
        self._server = await asyncio.start_server(self._accept, sock=self._listener, limit=CHUNK)

    async def _end(self) -> None:
        self._server.close()
        await self._cut()

    async def _pass(self, *, up: bool, down: bool) -> None:
        self._refusing = False
        for event, passes in ((self._up, up), (self._down, down)):
            if passes:
                event.set()
            else:
                event.clear()

    async def _cut(self) -> None:
        self._refusing = True
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        connection = asyncio.ensure_future(self._connect(client, to_client))
        self._connections.add(connection)
        connection.add_done_callback(self._connections.discard)

    async def _connect(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        """Pass bytes both ways until one side ends the connection, or it is cut."""
        writers = [to_client]
        try:
            if self._refusing:
                return
            server, to_server = await asyncio.open_connection("127.0.0.1", self._target, limit=CHUNK)
            writers.append(to_server)
            await _first(self._carry(client, to_server, self._up), self._carry(server, to_client, self._down))
        except OSError:
            return  # the server is down: the client sees its connection closed
        finally:
            for writer in writers:
                writer.transport.abort()

    async def _carry(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, passing: asyncio.Event
    ) -> None:
        chunks = Chunks(maxsize=10_000)
        await _first(self._receive(source, chunks, passing), self._deliver(chunks, sink, passing))

    async def _receive(self, source: asyncio.StreamReader, chunks: Chunks, passing: asyncio.Event) -> None:
        data = b"-"
        while data:
            data = await source.read(CHUNK)
            await chunks.put((self._loop.time() + self.delay, data))
            if passing is self._up:
                self.sent += len(data)
            if self._rate:
                await asyncio.sleep(len(data) / self._rate)
        await asyncio.Event().wait()  # until the end is delivered

    async def _deliver(self, chunks: Chunks, sink: asyncio.StreamWriter, passing: asyncio.Event) -> None:
        while True:
            due, data = await chunks.get()
            await asyncio.sleep(due - self._loop.time())
            await passing.wait()
            if not data:
                sink.close()
                await sink.wait_closed()  # when the last bytes are through
                return
            sink.write(data)
            await sink.drain()


async def _first(*works: Coroutine[Any, Any, None]) -> None:
    """Run until the first of them ends, and cancel the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
