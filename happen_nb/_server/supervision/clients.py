"""The kernels that use the server: each holds a connection to the supervisor.

One line in each direction, so joining costs one round trip::

    kernel      hello <ask>                           the secret from server.json: others may connect too
    supervisor  hello <answer>                        at once; proves that the port is the supervisor's
    supervisor  welcome <url> <name> <sync>           nats-server accepts connections; again after a restart
    supervisor  error <text>                          nats-server cannot be started
    kernel      full                                  nats-server could not write: the disk is full
    kernel      done                                  before it leaves: no other kernel will join soon

A supervisor that checks whether another one is alive sends ``ping <ask>`` and receives ``pong <answer>``.
"""

from __future__ import annotations

import selectors
import socket
import time

from . import platform
from .nats import bound_socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_STRANGERS = 64
_STRANGER_SECONDS = 5.0
_MAX_LINE_BYTES = 256


class Client:
    """An accepted connection; a stranger until it has sent its hello."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.received = b""
        self.since = time.monotonic()
        self.done = False

    def send(self, text: str) -> bool:
        """Send a line; return False if the other side has left or does not read."""
        try:
            return self.sock.send(text.encode()) == len(text.encode())
        except OSError:
            return False


class Clients:
    """Accepts the kernels, and exchanges lines with them."""

    def __init__(self, ask: str, answer: str, greeting: Callable[[], str]) -> None:
        self._answers = {
            b"hello " + ask.encode(): f"hello {answer}\n",
            b"ping " + ask.encode(): f"pong {answer}\n",
        }
        self._greeting = greeting
        self._listener = _listen()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self.joined: set[Client] = set()
        self._strangers: list[Client] = []
        self.any_joined = False
        self.done = False
        """The client that left last reported that no other one will join soon."""
        self.disk_is_full = False
        """A client reported that nats-server could not write; the supervisor resets this."""
        self.last_left = time.monotonic()

    @property
    def port(self) -> int:
        """The port to join on."""
        return int(self._listener.getsockname()[1])

    def wake_on(self, sock: socket.socket) -> None:
        """End a round early when something arrives there, and discard it."""
        self._selector.register(sock, selectors.EVENT_READ, lambda: sock.recv(4096))

    def serve(self, timeout: float) -> None:
        """Run one round: wait for connections and lines, and handle them."""
        for key, _ in self._selector.select(timeout):
            key.data()
        late = time.monotonic() - _STRANGER_SECONDS
        for stranger in [s for s in self._strangers if s.since < late] or self._strangers[:-_MAX_STRANGERS]:
            self._drop(stranger)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # it left before it was accepted
        sock.setblocking(False)
        client = Client(sock)
        self._strangers.append(client)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._receive(client))

    def _receive(self, client: Client) -> None:
        try:
            received = client.sock.recv(_MAX_LINE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self._drop(client)
        elif client not in self.joined:
            self._receive_from_stranger(client, received)
        else:
            client.done = client.done or b"done\n" in received
            self.disk_is_full = self.disk_is_full or b"full\n" in received

    def _receive_from_stranger(self, client: Client, received: bytes) -> None:
        client.received += received
        line, end, _ = client.received.partition(b"\n")
        if not end and len(line) < _MAX_LINE_BYTES:
            return
        answer = self._answers.get(line, "")
        if answer.startswith("hello"):
            self._admit(client, answer)
        elif not (answer and client.send(answer)):
            self._drop(client)

    def _admit(self, client: Client, answer: str) -> None:
        self._strangers.remove(client)
        self.joined.add(client)
        self.any_joined = True
        if not client.send(answer + self._greeting()):
            self._drop(client)

    def send_all(self, line: str) -> None:
        """Send a line to every client that has joined."""
        for client in list(self.joined):
            if not client.send(line):
                self._drop(client)

    def _drop(self, client: Client) -> None:
        self._selector.unregister(client.sock)
        client.sock.close()
        if client in self.joined:
            self.joined.remove(client)
            self.last_left = time.monotonic()
            self.done = client.done
        else:
            self._strangers.remove(client)

    def close(self) -> None:
        """Accept no client any more, and disconnect all: they then join the next supervisor."""
        self._listener.close()
        for client in [*self.joined, *self._strangers]:
            self._drop(client)


def _listen() -> socket.socket:
    while True:
        listener = bound_socket()
        try:
            listener.listen(128)
        except OSError:
            listener.close()  # another process has started to listen on this port
            continue
        listener.setblocking(False)
        if platform.POSIX:
            listener.set_inheritable(False)
        return listener
