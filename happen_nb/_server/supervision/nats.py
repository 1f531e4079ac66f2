"""The nats-server process: start, ask, end."""

# Importing pathlib would make each start slower.
# ruff: noqa: PTH118, PTH123

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys

from . import system
from .hints import read_file, write_private

LOOPBACK = "127.0.0.1"
LOG = "server.log"
CONFIG = "nats.conf"
_PORTS = (20_000, 32_000)  # below the range from which systems take the ports of outgoing connections
_PROBE_TIMEOUT = 0.25
_STOP_TIMEOUT = 10.0


_OWN_CONFIG = re.compile(
    rb'listen: "127\.0\.0\.1:\d+"\n'
    rb'authorization \{ token: "\w+" \}\n'
    rb"max_payload: \w+\n"
    rb'log_file: "server\.log"\nlogfile_size_limit: \w+\nlogfile_max_num: \d+\n'
    rb'jetstream \{ store_dir: "\."[^{}\n]* \}\n'
)
"""What `NatsProcess` writes, in this version and in earlier ones."""


def is_own_config(content: bytes) -> bool:
    """Whether a ``nats.conf`` is one that a supervisor has written, and nobody has changed."""
    return _OWN_CONFIG.fullmatch(content) is not None


class NatsProcess:
    """One nats-server on one store, which can be started again."""

    def __init__(self, folder: str, binary: str, token: str, sync: str, lock: int) -> None:
        self.folder = folder
        self.binary = binary
        self.token = token
        self.sync = sync
        self.lock = lock
        self.port = 0
        self.name = ""
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid if self.process else 0

    @property
    def url(self) -> str:
        """Its address."""
        return f"nats://{LOOPBACK}:{self.port}"

    def start(self, port: int) -> None:
        """Start it; it answers a little later."""
        self.port = port
        self.name = "happen" + os.urandom(8).hex()
        config = os.path.join(self.folder, CONFIG)
        self._write_config(config)
        log = self._open_log()
        try:
            self.process = subprocess.Popen(  # noqa: S603
                [self.binary, "-c", config, "-n", self.name],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **system.bound(self.lock),
            )
        finally:
            os.close(log)
        system.tie(self.process)

    def _open_log(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | system.NO_LINK
        return os.open(os.path.join(self.folder, LOG), flags, 0o600)

    def log_to(self, fd: int) -> None:
        """Let what is written to `fd` go to the log, too."""
        log = self._open_log()
        os.dup2(log, fd)
        os.close(log)

    def _write_config(self, path: str) -> None:
        """Write it, unless it is there already: a full disk does not prevent a restart."""
        config = self._config().encode()
        if read_file(self.folder, CONFIG) != config:
            write_private(path, config)

    def _config(self) -> str:
        """Paths in it are relative to the store, so that nothing has to be quoted."""
        sync = ", sync_interval: always" if self.sync == "always" else ""
        return (
            f'listen: "{LOOPBACK}:{self.port}"\n'
            f'authorization {{ token: "{self.token}" }}\n'
            "max_payload: 8MB\n"
            f'log_file: "{LOG}"\nlogfile_size_limit: 1MB\nlogfile_max_num: 2\n'
            f'jetstream {{ store_dir: "."{sync} }}\n'
        )

    @property
    def ended(self) -> bool:
        """Whether it is not running."""
        return self.process is None or self.process.poll() is not None

    @property
    def was_killed(self) -> bool:
        """Whether somebody else ended it, so that it may well run the next time."""
        return self.process is not None and (self.process.returncode or 0) < 0

    def answers(self) -> bool:
        """Whether it takes connections: only when all it has stored is loaded."""
        return name_at(self.port) == self.name

    def kill(self) -> None:
        """End it at once; all that it has acknowledged is written."""
        if self.process is not None:
            self.process.kill()

    def stop(self, *, at_once: bool = False) -> None:
        """End it: after it has stored everything, or at once because its folder is gone."""
        if self.process is None:
            return
        if at_once:
            self.process.kill()
        else:
            self.process.terminate()
        try:
            self.process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def complaint(self) -> str:
        """The last thing it said about why it could not run."""
        lines = read_log(self.folder, 4096).splitlines()
        own = [line for line in lines if line.startswith(f"[{self.pid}]") or not line.startswith("[")]
        grave = [line for line in own if "[FTL]" in line or "[ERR]" in line or not line.startswith("[")]
        return grave[-1].partition("] ")[2] or grave[-1] if grave else "nats-server gave no reason"


def read_log(folder: str, size: int) -> str:
    """The last `size` bytes of the server's log, from the beginning of a line."""
    try:
        with open(os.path.join(folder, LOG), "rb") as file:
            skipped = max(0, file.seek(0, os.SEEK_END) - size)
            file.seek(skipped)
            found = file.read(size).decode(errors="replace")
    except OSError:
        return ""
    return found.partition("\n")[2] if skipped else found


def name_at(port: int, timeout: float = _PROBE_TIMEOUT) -> str:
    """The name of the nats-server on a port; empty if there is none."""
    try:
        with (
            socket.create_connection((LOOPBACK, port), timeout) as connection,
            connection.makefile("rb") as file,
        ):
            word, _, info = file.readline(65_536).partition(b" ")
            return str(json.loads(info)["server_name"]) if word == b"INFO" else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def free_port(preferred: int = 0) -> int:
    """A port that nobody listens on: the preferred one if possible."""
    try:
        with bound_socket(preferred) as found:
            return int(found.getsockname()[1])
    except OSError:
        if not preferred:
            raise
        return free_port()


def bound_socket(port: int = 0) -> socket.socket:
    """A socket bound to a port of the loopback, or to a free one.

    A free one is not taken from the range of outgoing connections: such a port would often be gone when
    it is needed again, and a connection to it while nobody listens could connect to itself.
    """
    if port:
        return _bind(port)
    low, high = _PORTS
    for _ in range(100):
        try:
            return _bind(low + int.from_bytes(os.urandom(4), "big") % (high - low))
        except OSError:
            continue
    return _bind(0)


def _bind(port: int) -> socket.socket:
    found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        if sys.platform == "win32":
            found.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections do not matter
        found.bind((LOOPBACK, port))
    except OSError:
        found.close()
        raise
    return found
