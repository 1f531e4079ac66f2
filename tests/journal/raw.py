"""A client that writes the NATS protocol itself, so that it can send what no client library would."""

from __future__ import annotations

import json
import socket
from typing import Self


class Raw:
    """One connection to a server on loopback.

    Parameters
    ----------
    url : str
    token : str, optional
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        host, port = url.rpartition("//")[2].split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        self._file = self._socket.makefile("rb")
        assert self._file.readline().startswith(b"INFO ")
        options = {"verbose": False, "headers": True, "no_responders": True, "auth_token": token or ""}
        self._socket.sendall(b"CONNECT " + json.dumps(options).encode() + b"\r\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def publish(
        self, subject: bytes, body: bytes, headers: bytes | None = None, *, reply: bytes = b""
    ) -> None:
        """Send one message; `headers` is the whole block, from its first byte to its last."""
        to = subject + (b" " + reply if reply else b"")
        if headers is None:
            line = b"PUB %b %d\r\n" % (to, len(body))
        else:
            line = b"HPUB %b %d %d\r\n" % (to, len(headers), len(headers) + len(body))
        self._socket.sendall(line + (headers or b"") + body + b"\r\n")

    def flush(self) -> None:
        """Wait until the server has taken all of it."""
        self._socket.sendall(b"PING\r\n")
        while (line := self._file.readline()) != b"PONG\r\n":
            if line == b"PING\r\n":
                self._socket.sendall(b"PONG\r\n")
            else:
                assert line.startswith(b"INFO "), line

    def store(self, subject: bytes, body: bytes, headers: bytes | None = None) -> None:
        """Send one message, and wait until a stream has stored it, and so all that was sent before."""
        self._socket.sendall(b"SUB _INBOX.raw 1\r\n")
        self.publish(subject, body, headers, reply=b"_INBOX.raw")
        while not (line := self._file.readline()).startswith(b"MSG _INBOX.raw "):
            if line == b"PING\r\n":
                self._socket.sendall(b"PONG\r\n")
        answer = self._file.readline()
        assert b'"seq"' in answer, answer
