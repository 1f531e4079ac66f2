"""A TCP proxy that can be cut and black-holed, between a client and a server."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from typing import Self


class Proxy:
    """Passes bytes between those who connect to `url` and a server, until told otherwise.

    Parameters
    ----------
    port : int
        The server's, on loopback.
    """

    def __init__(self, port: int) -> None:
        self._target = ("127.0.0.1", port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"nats://127.0.0.1:{self._listener.getsockname()[1]}"
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._passing = threading.Event()
        self._passing.set()
        self._refusing = False
        self._open = True
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        self._passing.set()
        self._wake.send(b"x")
        self._thread.join()
        for each in (self._listener, self._wake, self._woken, *self._pairs):
            each.close()

    def cut(self) -> None:
        """Close every connection, and all that are tried, until `heal`."""
        self._refusing = True
        self._wake.send(b"x")

    def black_hole(self) -> None:
        """Keep the connections, and pass nothing any more, until `heal`."""
        self._passing.clear()

    def heal(self) -> None:
        """Pass everything again."""
        self._refusing = False
        self._passing.set()

    def _run(self) -> None:
        while self._open:
            ready, _, _ = select.select([self._listener, self._woken, *self._pairs], [], [])
            self._passing.wait()
            for each in ready:
                if each is self._woken:
                    self._woken.recv(1024)
                elif each is self._listener:
                    self._accept()
                elif each in self._pairs:
                    self._pass_on(each)
            if self._refusing:
                for each in list(self._pairs):
                    self._drop(each)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(self._target, timeout=1)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        self._pairs |= {client: server, server: client}

    def _pass_on(self, source: socket.socket) -> None:
        try:
            data = source.recv(65536)
            if data:
                self._pairs[source].sendall(data)
                return
        except OSError:
            data = b""  # reset by one side: drop both
        self._drop(source)

    def _drop(self, one: socket.socket) -> None:
        other = self._pairs.pop(one, None)
        if other is None:
            return
        self._pairs.pop(other, None)
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
