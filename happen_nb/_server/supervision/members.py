"""The kernels that use the server: each holds a connection, and belongs only once it was welcomed.

A line each way, so joining costs one round trip::

    kernel      hello <ask>                           the secret from server.json: others may connect too
    supervisor  hello <answer>                        at once; proves that this is not someone else's port
    supervisor  welcome <url> <name> <sync>           nats-server takes connections; again after a restart
    supervisor  error <text>                          it cannot be started
    kernel      full                                  nats-server could not write: the disk is full
    kernel      done                                  before it leaves: nobody is going to join again soon

A supervisor that asks whether another one lives says ``ping <ask>`` and gets ``pong <answer>``.
"""

from __future__ import annotations

import selectors
import socket
import time

from . import system
from .nats import bound_socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_STRANGERS = 64
_STRANGER_SECONDS = 5.0
_LINE = 256


class Connection:
    """One accepted connection; a stranger until it has said hello."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.heard = b""
        self.since = time.monotonic()
        self.done = False

    def say(self, text: str) -> bool:
        """Send a line; False if the other side is gone or reads nothing."""
        try:
            return self.sock.send(text.encode()) == len(text.encode())
        except OSError:
            return False


class Members:
    """Accepts, hears and tells the kernels."""

    def __init__(self, ask: str, answer: str, greet: Callable[[], str]) -> None:
        self._lines = {
            b"hello " + ask.encode(): f"hello {answer}\n",
            b"ping " + ask.encode(): f"pong {answer}\n",
        }
        self._greet = greet
        self._listener = _listen()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self.joined: set[Connection] = set()
        self._strangers: list[Connection] = []
        self.ever = False
        self.done = False
        """Whoever left last said that nobody is going to join again soon."""
        self.disk_is_full = False
        """A member reported that nats-server could not write; whoever makes room for it resets this."""
        self.last_left = time.monotonic()

    @property
    def control(self) -> int:
        """The port to join on."""
        return int(self._listener.getsockname()[1])

    def also_wake_on(self, sock: socket.socket) -> None:
        """End a round early when something arrives there; what arrives has no meaning."""
        self._selector.register(sock, selectors.EVENT_READ, lambda: sock.recv(4096))

    def serve(self, patience: float) -> None:
        """One round: wait for something to happen, and let it happen."""
        for key, _ in self._selector.select(patience):
            key.data()
        late = time.monotonic() - _STRANGER_SECONDS
        for stranger in [s for s in self._strangers if s.since < late] or self._strangers[:-_STRANGERS]:
            self._drop(stranger)

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            return  # it left before it was accepted
        sock.setblocking(False)
        connection = Connection(sock)
        self._strangers.append(connection)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._hear(connection))

    def _hear(self, connection: Connection) -> None:
        try:
            heard = connection.sock.recv(_LINE)
        except BlockingIOError:
            return
        except OSError:
            heard = b""
        if not heard:
            self._drop(connection)
        elif connection not in self.joined:
            self._hear_stranger(connection, heard)
        else:
            connection.done = connection.done or b"done\n" in heard
            self.disk_is_full = self.disk_is_full or b"full\n" in heard

    def _hear_stranger(self, connection: Connection, heard: bytes) -> None:
        connection.heard += heard
        line, end, _ = connection.heard.partition(b"\n")
        if not end and len(line) < _LINE:
            return
        answer = self._lines.get(line, "")
        if answer.startswith("hello"):
            self._let_in(connection, answer)
        elif not (answer and connection.say(answer)):
            self._drop(connection)

    def _let_in(self, connection: Connection, answer: str) -> None:
        self._strangers.remove(connection)
        self.joined.add(connection)
        self.ever = True
        if not connection.say(answer + self._greet()):
            self._drop(connection)

    def tell(self, line: str) -> None:
        """Say a line to every member."""
        for member in list(self.joined):
            if not member.say(line):
                self._drop(member)

    def _drop(self, connection: Connection) -> None:
        self._selector.unregister(connection.sock)
        connection.sock.close()
        if connection in self.joined:
            self.joined.remove(connection)
            self.last_left = time.monotonic()
            self.done = connection.done
        else:
            self._strangers.remove(connection)

    def close(self) -> None:
        """Let nobody in any more; whoever is still here reads the end and looks for the next supervisor."""
        self._listener.close()
        for connection in [*self.joined, *self._strangers]:
            self._drop(connection)


def _listen() -> socket.socket:
    while True:
        listener = bound_socket()
        try:
            listener.listen(128)
        except OSError:
            listener.close()  # another process listens there since the port was looked at
            continue
        listener.setblocking(False)
        if system.POSIX:
            listener.set_inheritable(False)
        return listener
