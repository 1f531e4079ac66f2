"""The nats-server process, its log, and whether its disk is full."""

# Importing pathlib would make each start slower.
# ruff: noqa: PTH118, PTH123

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys

from . import NO_LINK, child_options, read_file, remove, tie, write_private

LOOPBACK = "127.0.0.1"
LOG = "server.log"
CONFIG = "nats.conf"
_PORTS = (20_000, 32_000)  # below the range from which systems take the ports of outgoing connections
_PROBE_SECONDS = 0.25
_STOP_SECONDS = 10.0
_FULL_BELOW_BYTES = 1_000_000
ENOUGH_BYTES = 16_000_000
"""Free bytes with which a write cannot fail for lack of disk space: twice the largest message."""
_FULL_COMPLAINTS = ("no space left on device", "not enough space on the disk", "disk quota exceeded")
_DISK_LOG_BYTES = 65_536
_OWN_CONFIG = re.compile(
    rb'listen: "127\.0\.0\.1:\d+"\n'
    rb'authorization \{ token: "\w+" \}\n'
    rb"max_payload: \w+\n"
    rb'log_file: "server\.log"\nlogfile_size_limit: \w+\nlogfile_max_num: \d+\n'
    rb'jetstream \{ store_dir: "\."[^{}\n]* \}\n'
)
"""The configuration that `NatsProcess` writes, in this version and in earlier ones."""


def is_own_config(content: bytes) -> bool:
    """Return whether a ``nats.conf`` was written by a supervisor, and not changed since."""
    return _OWN_CONFIG.fullmatch(content) is not None


class NatsProcess:
    """A nats-server on one store, which can be started again."""

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
        return self.process.pid if self.process else 0

    @property
    def url(self) -> str:
        return f"nats://{LOOPBACK}:{self.port}"

    def start(self, port: int) -> None:
        """Start it; it accepts connections a little later."""
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
                **child_options(self.lock),
            )
        finally:
            os.close(log)
        tie(self.process)

    def _open_log(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | NO_LINK
        return os.open(os.path.join(self.folder, LOG), flags, 0o600)

    def redirect_to_log(self, fd: int) -> None:
        log = self._open_log()
        os.dup2(log, fd)
        os.close(log)

    def _write_config(self, path: str) -> None:
        """Write it if it has changed, so that a full disk does not prevent a restart."""
        config = self._config().encode()
        if read_file(self.folder, CONFIG) != config:
            write_private(path, config)

    def _config(self) -> str:
        sync = ", sync_interval: always" if self.sync == "always" else ""
        return (  # paths are relative to the store, so that none needs quoting
            f'listen: "{LOOPBACK}:{self.port}"\n'
            f'authorization {{ token: "{self.token}" }}\n'
            "max_payload: 8MB\n"
            f'log_file: "{LOG}"\nlogfile_size_limit: 1MB\nlogfile_max_num: 2\n'
            f'jetstream {{ store_dir: "."{sync} }}\n'
        )

    @property
    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    @property
    def was_killed(self) -> bool:
        """True if a signal from elsewhere ended it, so that the next start may succeed."""
        return self.process is not None and (self.process.returncode or 0) < 0

    def answers(self) -> bool:
        """Return whether it accepts connections, which it does after loading its data."""
        return server_name_at(self.port) == self.name

    def kill(self) -> None:
        """End it immediately; acknowledged messages are stored."""
        if self.process is not None:
            self.process.kill()

    def stop(self, *, at_once: bool = False) -> None:
        """End it: after it has stored everything, or immediately because its folder was removed."""
        if self.process is None:
            return
        if at_once:
            self.process.kill()
        else:
            self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def complaint(self) -> str:
        """Return the last error in its log."""
        lines = read_log(self.folder, 4096).splitlines()
        own = [line for line in lines if line.startswith(f"[{self.pid}]") or not line.startswith("[")]
        errors = [line for line in own if "[FTL]" in line or "[ERR]" in line or not line.startswith("[")]
        return errors[-1].partition("] ")[2] or errors[-1] if errors else "nats-server gave no reason"


def read_log(folder: str, size: int) -> str:
    """Return the last `size` bytes of the server's log, from the start of a line."""
    try:
        with open(os.path.join(folder, LOG), "rb") as file:
            skipped = max(0, file.seek(0, os.SEEK_END) - size)
            file.seek(skipped)
            found = file.read(size).decode(errors="replace")
    except OSError:
        return ""
    return found.partition("\n")[2] if skipped else found


def server_name_at(port: int) -> str:
    """Return the name of the nats-server on a port; empty if there is none."""
    try:
        with (
            socket.create_connection((LOOPBACK, port), _PROBE_SECONDS) as connection,
            connection.makefile("rb") as file,
        ):
            word, _, info = file.readline(65_536).partition(b" ")
            return str(json.loads(info)["server_name"]) if word == b"INFO" else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def free_port(preferred: int = 0) -> int:
    """Return a free port: the preferred one if possible."""
    try:
        with bound_socket(preferred) as found:
            return int(found.getsockname()[1])
    except OSError:
        if not preferred:
            raise
        return free_port()


def bound_socket(port: int = 0) -> socket.socket:
    """Return a socket bound to a port of the loopback interface, or to a free one.

    A free one lies outside the range of outgoing connections: a port in it is often taken when it is needed
    again, and a connection to it while no process listens can connect to itself.
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
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections may linger
        found.bind((LOOPBACK, port))
    except OSError:
        found.close()
        raise
    return found


def free_bytes(folder: str) -> int:
    """Return the bytes that this user can still write on the disk of a folder."""
    return shutil.disk_usage(folder).free


def has_disk_space(folder: str) -> bool:
    """Return whether a server can continue: a megabyte is free, and can be written despite any quota."""
    if free_bytes(folder) < 2 * _FULL_BELOW_BYTES:
        return False
    probe = os.path.join(folder, f"{CONFIG}.{os.getpid()}.tmp")
    try:
        remove(probe)
        fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINK, 0o600)
        try:
            return os.write(fd, bytes(_FULL_BELOW_BYTES)) == _FULL_BELOW_BYTES
        finally:
            os.close(fd)
    except OSError:
        return False
    finally:
        remove(probe)


def failed_write(folder: str, pid: int) -> bool:
    """Return whether this process logged a failed write, or the disk is too full to log one."""
    own = [line for line in read_log(folder, _DISK_LOG_BYTES).splitlines() if line.startswith(f"[{pid}]")]
    complained = any(complaint in line.lower() for line in own for complaint in _FULL_COMPLAINTS)
    return complained or free_bytes(folder) < _FULL_BELOW_BYTES
