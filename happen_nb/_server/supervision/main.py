"""The supervisor, one for each store: starts nats-server, restarts it, and ends after the last kernel.

Each kernel that uses the server holds a connection to the supervisor. One line in each direction, so joining
costs one round trip::

    kernel      hello <ask>                           the secret from server.json: others may connect too
    supervisor  hello <answer>                        at once; proves that the port is the supervisor's
    supervisor  welcome <url> <name> <sync>           nats-server accepts connections; again after a restart
    supervisor  error <text>                          nats-server cannot be started
    kernel      full                                  nats-server could not write: the disk is full
    kernel      done                                  before it leaves: no other kernel will join soon

A supervisor that checks whether another one is alive sends ``ping <ask>`` and receives ``pong <answer>``.
"""

# Importing pathlib would make each start slower.
# ruff: noqa: PTH118

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time

from . import POSIX, NatsProcess, bound_socket, free_port, has_disk_space, store_folder
from .store_folder import SERVER_INFO, ServerInfo, ServingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

FAILED = 3  # the exit code of a supervisor that cannot serve; the reason is on stderr
GRACE_SECONDS = 2.0  # seconds that another kernel has to join after the last one has left
_FOLDER_CHECK_SECONDS = 0.5
_SHORT_LIFE_SECONDS = 1.0
_MAX_FIRST_STARTS = 4


def main(arguments: list[str]) -> int:
    """Serve a store while it is in use; return immediately if another supervisor serves it."""
    folder, binary, sync, keep, timeout = arguments
    os.umask(0o077)
    known = store_folder.parse_info(sys.stdin.buffer.readline())  # the file may have been removed
    try:
        _refuse_foreign(folder)
        lock = store_folder.acquire(folder, float(timeout))
        if lock is not None:
            Supervisor(folder, binary, sync, lock, known, temporary=keep == "remove").run()
    except (ServingError, OSError) as error:
        _print_error(str(error))
        return FAILED
    return 0


def _refuse_foreign(folder: str) -> None:
    if reason := store_folder.foreign(folder):
        raise ServingError(reason)


def _print_error(text: str) -> None:
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except OSError:
        return  # the kernel that would read it has ended


class Supervisor:
    """Keeps a nats-server running for the kernels that have joined."""

    def __init__(
        self, folder: str, binary: str, sync: str, lock: int, known: ServerInfo, *, temporary: bool
    ) -> None:
        self.folder = folder
        self.lock = lock
        self.temporary = temporary
        self.info = self._initial_info(known, sync)
        self.clients = Clients(self.info.ask, self.info.answer, self._greeting)
        self.info.control = self.clients.port
        self.server = NatsProcess(folder, binary, self.info.token, sync, lock)
        self.ready = False
        self.ever_ready = False
        self.short_lives = 0
        self.started = time.monotonic()
        self.start_at: float | None = None
        self.folder_checked = time.monotonic()
        self.stopping = self.gone = False

    def _initial_info(self, known: ServerInfo, sync: str) -> ServerInfo:
        """Keep the port and the token of the last session; make new secrets for joining."""
        last = store_folder.read_info(self.folder)
        if reason := last.in_use_elsewhere():
            raise ServingError(reason)
        store_folder.remove_temporary(self.folder)
        kept = "" if last.exposed else last.token
        return ServerInfo(
            host=store_folder.this_host(),
            serving=True,
            ask=os.urandom(16).hex(),
            answer=os.urandom(16).hex(),
            supervisor=os.getpid(),
            port=last.port or known.port,
            token=kept or known.token or os.urandom(16).hex(),
            sync=sync,
            lock=store_folder.identity(self.folder)[0],
        )

    def run(self) -> None:
        """Serve until the last kernel has left; then end nats-server and release the lock."""
        self._handle_signals()
        try:
            self._start(free_port(self.info.port))
            while not self.stopping and self._is_used():
                self.clients.serve(self._round_seconds())
                self._check_server()
                self._check_folder()
                self._check_disk()
        finally:
            self._end()

    def _handle_signals(self) -> None:
        """Wake up as soon as nats-server ends, and stop cleanly when asked to end."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        self._writer = writer
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self.clients.wake_on(reader)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        if sys.platform != "win32":
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, lambda *_: None)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True

    def _is_used(self) -> bool:
        at_once = self.clients.done or (self.temporary and self.clients.any_joined)
        grace = 0.0 if at_once else GRACE_SECONDS
        return bool(self.clients.joined) or time.monotonic() - self.clients.last_left < grace

    def _round_seconds(self) -> float:
        """Return how long the next round may wait for clients."""
        now = time.monotonic()
        if self.start_at is not None:
            return max(0.0, self.start_at - now)
        if not self.ready:
            return 0.003 if now - self.started < GRACE_SECONDS else 0.05
        if not self.clients.joined:
            return max(0.0, self.clients.last_left + GRACE_SECONDS - now)
        return _FOLDER_CHECK_SECONDS if POSIX else 0.1

    def _start(self, port: int) -> None:
        _refuse_foreign(self.folder)  # a file may have been replaced since the last start
        self.start_at = None
        self.started = time.monotonic()
        self.server.start(port)
        self.info.port, self.info.name, self.info.pid = port, self.server.name, self.server.pid
        self._publish()

    def _publish(self) -> None:
        try:
            store_folder.write_info(self.folder, self.info)
        except OSError:
            if not self.ever_ready:
                raise  # later, a full disk must not end a running server

    def _check_server(self) -> None:
        if self.start_at is not None:
            if time.monotonic() >= self.start_at:
                taken = "address already in use" in self.server.complaint()
                self._start(free_port(0 if taken else self.info.port))
        elif self.server.ended:
            self._plan_restart()
        elif not self.ready and self.server.answers():
            self._welcome_clients()

    def _welcome_clients(self) -> None:
        if not self.ever_ready:
            self.server.redirect_to_log(sys.stderr.fileno())  # the kernel stops reading it
        self.ready = self.ever_ready = True
        self.clients.disk_is_full = False  # reports so far were about the process before
        self.clients.send_all(self._greeting())

    def _greeting(self) -> str:
        return f"welcome {self.server.url} {self.server.name} {self.server.sync}\n" if self.ready else ""

    def _plan_restart(self) -> None:
        """Plan the next start: immediately, or a little later if nats-server keeps ending."""
        lived = time.monotonic() - self.started
        self.short_lives = self.short_lives + 1 if not self.ready or lived < _SHORT_LIFE_SECONDS else 0
        if not self.ever_ready and self.short_lives >= _MAX_FIRST_STARTS and not self.server.was_killed:
            reason = f"nats-server does not start: {self.server.complaint()}"
            self.clients.send_all(f"error {reason}\n")
            raise ServingError(reason)
        self.ready = False
        self.start_at = time.monotonic() + min(1.0, 0.05 * max(0, self.short_lives - 2) ** 2)

    def _check_folder(self) -> None:
        """Stop if the folder was removed or moved; restore a removed or damaged ``server.json``."""
        if time.monotonic() - self.folder_checked < _FOLDER_CHECK_SECONDS:
            return
        self.folder_checked = time.monotonic()
        if not store_folder.is_at(self.lock, os.path.join(self.folder, store_folder.LOCK)):
            self.stopping = self.gone = True
        elif not store_folder.read_info(self.folder).host and not store_folder.foreign(self.folder):
            self._publish()

    def _check_disk(self) -> None:
        """Restart nats-server once a full disk has space again; otherwise it would never store again."""
        if self.clients.disk_is_full and self.ready and not self.gone and has_disk_space(self.folder):
            self.clients.disk_is_full = False
            self.server.kill()

    def _end(self) -> None:
        """Disconnect the clients, end nats-server, and only then release the lock."""
        self.info.serving = False
        if not self.gone:
            try:
                store_folder.write_info(self.folder, self.info)
            except OSError as error:
                _print_error(f"{SERVER_INFO} still names this server, which is harmless: {error}")
        self.clients.close()
        self.server.stop(at_once=self.gone)
        if self.temporary:
            store_folder.remove_folder(self.folder)
            store_folder.sweep(self.folder)


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
        self.done = False  # the client that left last reported that no other one will join soon
        self.disk_is_full = False
        """A client reported that nats-server could not write; the supervisor resets this."""
        self.last_left = time.monotonic()

    @property
    def port(self) -> int:
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
        """Stop accepting clients, and disconnect all: they then join the next supervisor."""
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
        if POSIX:
            listener.set_inheritable(False)
        return listener
