"""Things that listen on a port and are no server one could use."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import Self


class Listener:
    """Greets everyone with the same bytes, and answers ``PING``.

    Parameters
    ----------
    greeting : bytes
    answers : bool
    port : int
    """

    def __init__(self, greeting: bytes, *, answers: bool = False, port: int = 0) -> None:
        self._greeting = greeting
        self._answers = answers
        self._listener = socket.create_server(("127.0.0.1", port))
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self.url = f"nats://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        for each in (self._listener, *self._connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed: the end
            self._connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            connection.sendall(self._greeting)
            while data := connection.recv(4096):
                if self._answers and b"PING" in data:
                    connection.sendall(b"PONG\r\n")


def old_server(version: str) -> Listener:
    """Says that it is a nats-server of that version, as far as a version check looks."""
    info = {"server_id": "old", "version": version, "headers": True, "max_payload": 1_048_576, "proto": 1}
    return Listener(b"INFO " + json.dumps(info).encode() + b"\r\n", answers=True)
