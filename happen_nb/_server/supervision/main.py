"""The supervisor: one a store. It starts nats-server, starts it again, and ends with the last kernel."""

# Importing pathlib would make each start slower.
# ruff: noqa: PTH118

from __future__ import annotations

import os
import signal
import socket
import sys
import time

from . import belongings, disk, system
from . import hints as hints_file
from . import lock as lock_file
from .hints import Hints
from .lock import Failure
from .members import Members
from .nats import NatsProcess, free_port

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

FAILED = 3
"""The exit code of a supervisor that has said on stderr why it cannot serve."""
GRACE = 2.0
_FOLDER_CHECK_SECONDS = 0.5
_SHORT_LIFE = 1.0
_ATTEMPTS = 4


def main(arguments: list[str]) -> int:
    """Serve a store until nobody uses it; at once back if another supervisor does."""
    folder, binary, sync, keep, patience = arguments
    os.umask(0o077)
    remembered = hints_file.parse(sys.stdin.buffer.readline())  # the file may be gone
    try:
        _refuse_foreign(folder)
        lock = lock_file.take(folder, float(patience))
        if lock is not None:
            Supervisor(folder, binary, sync, lock, remembered, temporary=keep == "remove").run()
    except (Failure, OSError) as error:
        _say(str(error))
        return FAILED
    return 0


def _refuse_foreign(folder: str) -> None:
    """Raise Failure for a folder in which a server would change what is not its own."""
    if reason := belongings.foreign(folder):
        raise Failure(reason)


def _say(text: str) -> None:
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except OSError:
        return  # the kernel that would read it is gone


class Supervisor:
    """Keeps one nats-server running for the kernels that have joined."""

    def __init__(
        self, folder: str, binary: str, sync: str, lock: int, remembered: Hints, *, temporary: bool
    ) -> None:
        self.folder = folder
        self.lock = lock
        self.temporary = temporary
        self.hints = self._take_over(remembered, sync)
        self.members = Members(self.hints.ask, self.hints.answer, self._greeting)
        self.hints.control = self.members.control
        self.server = NatsProcess(folder, binary, self.hints.token, sync, lock)
        self.ready = False
        self.ever_ready = False
        self.short_lives = 0
        self.started = time.monotonic()
        self.start_at: float | None = None
        self.folder_checked = time.monotonic()
        self.stopping = self.gone = False

    def _take_over(self, remembered: Hints, sync: str) -> Hints:
        """What stays from the last session: the port and the token. The secrets for joining are new."""
        last = hints_file.read(self.folder)
        host = last.elsewhere()
        if host:
            raise Failure(hints_file.in_use_elsewhere(host))
        belongings.remove_temporary(self.folder)
        kept = "" if last.exposed else last.token
        return Hints(
            host=hints_file.this_host(),
            serving=True,
            ask=os.urandom(16).hex(),
            answer=os.urandom(16).hex(),
            supervisor=os.getpid(),
            port=last.port or remembered.port,
            token=kept or remembered.token or os.urandom(16).hex(),
            sync=sync,
            lock=hints_file.lock_id(self.folder),
        )

    def run(self) -> None:
        """Serve until nobody is left; then leave nothing running and the lock free."""
        self._hear_signals()
        try:
            self._start(free_port(self.hints.port))
            while not self.stopping and self._is_used():
                self.members.serve(self._patience())
                self._look_after_server()
                self._look_after_folder()
                self._look_after_disk()
        finally:
            self._end()

    def _hear_signals(self) -> None:
        """Wake up at once when nats-server ends, and end in good order when asked to."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        self._writer = writer
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        self.members.also_wake_on(reader)
        for ending in (signal.SIGTERM, signal.SIGINT):
            signal.signal(ending, self._stop)
        if sys.platform != "win32":
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGCHLD, lambda *_: None)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self.stopping = True

    def _is_used(self) -> bool:
        at_once = self.members.done or (self.temporary and self.members.ever)
        grace = 0.0 if at_once else GRACE
        return bool(self.members.joined) or time.monotonic() - self.members.last_left < grace

    def _patience(self) -> float:
        """How long a round may wait for something to happen."""
        now = time.monotonic()
        if self.start_at is not None:
            return max(0.0, self.start_at - now)
        if not self.ready:
            return 0.003 if now - self.started < GRACE else 0.05
        if not self.members.joined:
            return max(0.0, self.members.last_left + GRACE - now)
        return _FOLDER_CHECK_SECONDS if system.POSIX else 0.1

    # the server

    def _start(self, port: int) -> None:
        _refuse_foreign(self.folder)  # a file may have been replaced since the last start
        self.start_at = None
        self.started = time.monotonic()
        self.server.start(port)
        self.hints.port, self.hints.name, self.hints.pid = port, self.server.name, self.server.pid
        self._publish()

    def _publish(self) -> None:
        try:
            hints_file.write(self.folder, self.hints)
        except OSError:
            if not self.ever_ready:
                raise  # later a full disk must not end a server that runs

    def _look_after_server(self) -> None:
        if self.start_at is not None:
            if time.monotonic() >= self.start_at:
                self._start(free_port(self.hints.port if self._port_may_do() else 0))
        elif self.server.ended:
            self._server_has_ended()
        elif not self.ready and self.server.answers():
            self._server_is_ready()

    def _port_may_do(self) -> bool:
        return "address already in use" not in self.server.complaint()

    def _server_is_ready(self) -> None:
        if not self.ever_ready:
            self.server.log_to(sys.stderr.fileno())  # the kernel that has read it so far goes its own way
        self.ready = self.ever_ready = True
        self.members.disk_is_full = False  # what was reported meanwhile was of the one before
        self.members.tell(self._greeting())

    def _greeting(self) -> str:
        return f"welcome {self.server.url} {self.server.name} {self.server.sync}\n" if self.ready else ""

    def _server_has_ended(self) -> None:
        """Plan its next start: at once, or a little later if it keeps ending."""
        lived = time.monotonic() - self.started
        self.short_lives = self.short_lives + 1 if not self.ready or lived < _SHORT_LIFE else 0
        if not self.ever_ready and self.short_lives >= _ATTEMPTS and not self.server.was_killed:
            reason = f"nats-server does not start: {self.server.complaint()}"
            self.members.tell(f"error {reason}\n")
            raise Failure(reason)
        self.ready = False
        self.start_at = time.monotonic() + min(1.0, 0.05 * max(0, self.short_lives - 2) ** 2)

    # the folder

    def _look_after_folder(self) -> None:
        """Notice that the folder was removed or moved, and that ``server.json`` was removed or damaged."""
        if time.monotonic() - self.folder_checked < _FOLDER_CHECK_SECONDS:
            return
        self.folder_checked = time.monotonic()
        if not lock_file.is_at(self.lock, os.path.join(self.folder, lock_file.NAME)):
            self.stopping = self.gone = True
        elif not hints_file.read(self.folder).host and not belongings.foreign(self.folder):
            self._publish()

    def _look_after_disk(self) -> None:
        """Start nats-server anew when there is room again: until then it stores nothing, and never would."""
        if self.members.disk_is_full and self.ready and not self.gone and disk.has_room(self.folder):
            self.members.disk_is_full = False
            self.server.kill()

    def _end(self) -> None:
        """Say that nobody serves, let nobody in, end the server, and only then let go of the lock."""
        self.hints.serving = False
        if not self.gone:
            self._publish_end()
        self.members.close()
        self.server.stop(at_once=self.gone)
        if self.temporary:
            lock_file.remove_folder(self.folder)
            lock_file.sweep(self.folder)

    def _publish_end(self) -> None:
        try:
            hints_file.write(self.folder, self.hints)
        except OSError as error:
            _say(f"{hints_file.NAME} still says that somebody serves, which is harmless: {error}")
