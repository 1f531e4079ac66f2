"""The supervisor, which keeps one nats-server running for a store.

It uses the standard library only, and no module that is slow to import.

================ ==========================================================================================
module           subject
================ ==========================================================================================
``main``         the supervisor: takes the lock, restarts nats-server, ends with the last kernel
``store_folder`` the folder of a store: its lock, ``server.json``, and its other files; cleaning up after
                 killed processes
================ ==========================================================================================

What both need is here: the nats-server process, its log and a full disk; differences between operating
systems; and the private files of the user.

The lock is the only authority: the supervisor holds it and nats-server inherits it, so it is free only
after both have ended. Everything in ``server.json`` is a hint that may be stale or missing.
"""

# Importing pathlib would make each start slower.
# ruff: noqa: PTH105, PTH108, PTH116, PTH118, PTH123

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, BinaryIO

POSIX = os.name == "posix"
NO_LINK: int = getattr(os, "O_NOFOLLOW", 0)  # flag: do not follow a link in place of the file
NO_WAIT: int = getattr(os, "O_NONBLOCK", 0)
"""Flag: do not wait for the other end of a pipe in place of the file."""
MAX_FILE_BYTES = 65_536  # more than any private file of ours

if sys.platform == "win32":
    import ctypes
    import msvcrt
    import time

    KILL = signal.SIGTERM

    def try_lock(fd: int) -> bool:
        """Lock an open file; return False if another process has locked it."""
        os.lseek(fd, 0, os.SEEK_SET)
        try:
            msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        return True

    def replace(source: str, target: str) -> None:
        """Replace a file by another one; on Windows, wait until no process is reading it."""
        for _ in range(100):
            try:
                os.replace(source, target)
            except PermissionError:
                time.sleep(0.01)
            else:
                return
        os.replace(source, target)

    def detached_options() -> dict[str, Any]:
        """Return Popen options for a process that outlives the console and ignores kernel interrupts."""
        return {"creationflags": subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP}

    def child_options(_lock: int) -> dict[str, Any]:
        """Return Popen options for nats-server; Windows does not pass on the lock, so `tie` is needed."""
        return {"creationflags": subprocess.CREATE_NO_WINDOW}

    def tie(process: subprocess.Popen[bytes]) -> None:
        """Put a process into a job that the system ends together with this process."""
        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.CreateJobObjectW.restype = ctypes.c_void_p
        job = ctypes.c_void_p(kernel.CreateJobObjectW(None, None))
        # JOBOBJECT_EXTENDED_LIMIT_INFORMATION with JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
        limits = (ctypes.c_byte * (144 if sys.maxsize > 2**32 else 112))()
        ctypes.c_uint32.from_buffer(limits, 16).value = 0x2000
        handle = ctypes.c_void_p(int(process._handle))  # type: ignore[attr-defined]
        set_limits, assign = kernel.SetInformationJobObject, kernel.AssignProcessToJobObject
        if not (set_limits(job, 9, ctypes.byref(limits), len(limits)) and assign(job, handle)):
            process.kill()
            raise ctypes.WinError(ctypes.get_last_error())

else:
    import fcntl

    KILL = signal.SIGKILL

    def try_lock(fd: int) -> bool:
        """Lock an open file; return False if another process has locked it."""
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def replace(source: str, target: str) -> None:
        """Replace a file by another one in one step."""
        os.replace(source, target)

    def detached_options() -> dict[str, Any]:
        """Return Popen options for a process that outlives the terminal and ignores kernel interrupts."""
        return {"start_new_session": True}

    def child_options(lock: int) -> dict[str, Any]:
        """Return Popen options for nats-server: it inherits the lock, and on Linux ends with its parent."""
        return {"pass_fds": (lock,), "preexec_fn": _end_with_parent(os.getpid())}

    def tie(process: subprocess.Popen[bytes]) -> None:
        """Do nothing: where `child_options` do not suffice, the next supervisor ends an orphan."""


def _end_with_parent(parent: int) -> Callable[[], None] | None:
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None  # a Python without ctypes: the next supervisor ends an orphan

    def set_death_signal() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the parent's handler would swallow it until the exec
        prctl(1, int(signal.SIGTERM), 0, 0, 0)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)  # the parent ended before the signal was set

    return set_death_signal


def command_of(pid: int) -> str:
    """Return the command line of a process; empty if it does not exist or cannot be read."""
    if not POSIX or pid <= 0:
        return ""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace")
    except FileNotFoundError:
        if sys.platform == "linux":
            return ""
    except OSError:
        return ""
    listed = subprocess.run(  # noqa: S603
        ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return listed.stdout


def machine_id() -> str:
    """Return an id of this machine, which a changed host name does not affect; empty if unknown."""
    if sys.platform == "linux":
        try:
            with open("/proc/sys/kernel/random/boot_id", "rb") as file:
                return file.read().decode().strip()
        except OSError:
            return ""
    if sys.platform == "darwin":
        try:
            import ctypes

            found, wait = (ctypes.c_ubyte * 16)(), (ctypes.c_long * 2)(1, 0)
            if ctypes.CDLL(None).gethostuuid(found, wait) == 0:
                return bytes(found).hex()
        except (ImportError, OSError, AttributeError):
            return ""
    return ""


def open_own(folder: str, name: str) -> BinaryIO:
    """Open a regular file of this user, or of the owner of the folder, for reading; refuse links."""
    path = os.path.join(folder, name)
    file = os.fdopen(os.open(path, os.O_RDONLY | NO_LINK | NO_WAIT), "rb")
    found = os.fstat(file.fileno())
    trusted = not POSIX or found.st_uid in {os.geteuid(), os.stat(folder).st_uid}
    if not (trusted and stat.S_ISREG(found.st_mode)):
        file.close()
        raise PermissionError(errno.EACCES, "it is not a file of yours", path)
    return file


def read_file(folder: str, name: str) -> bytes | None:
    """Read such a file, up to a size that no file of ours reaches; None if there is none."""
    try:
        with open_own(folder, name) as file:
            return file.read(MAX_FILE_BYTES)
    except OSError:
        return None


def write_private(path: str, content: bytes) -> None:
    """Replace a file in one step by one that only its user can read."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        remove(temporary)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_LINK, 0o600)
        with open(fd, "wb") as file:
            file.write(content)
        replace(temporary, path)
    except OSError:
        remove(temporary)
        raise


def remove(path: str) -> None:
    """Remove a file if it exists."""
    try:
        os.unlink(path)
    except OSError:
        return  # it did not exist, or does no harm


# -- nats-server --------------------------------------------------------------------------------------

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
_OWN_CONFIG = (
    rb'listen: "127\.0\.0\.1:\d+"\n'
    rb'authorization \{ token: "\w+" \}\n'
    rb"max_payload: \w+\n"
    rb'log_file: "server\.log"\nlogfile_size_limit: \w+\nlogfile_max_num: \d+\n'
    rb'jetstream \{ store_dir: "\."[^{}\n]* \}\n'
)
"""The configuration that `NatsProcess` writes, in this version and in earlier ones."""


def is_own_config(content: bytes) -> bool:
    """Return whether a ``nats.conf`` was written by a supervisor, and not changed since."""
    return re.fullmatch(_OWN_CONFIG, content) is not None


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
