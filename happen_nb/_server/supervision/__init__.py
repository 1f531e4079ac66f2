"""The supervisor, which keeps one nats-server running for a store.

It uses the standard library only, and no module that is slow to import.

================ ==========================================================================================
module           subject
================ ==========================================================================================
``main``         the supervisor: takes the lock, restarts nats-server, ends with the last kernel
``nats``         the nats-server process, its log, and a full disk
``store_folder`` the folder of a store: its lock, ``server.json``, and its other files; cleaning up after
                 killed processes
================ ==========================================================================================

What all of them need is here: differences between operating systems, and the private files of the user.

The lock is the only authority: the supervisor holds it and nats-server inherits it, so it is free only
after both have ended. Everything in ``server.json`` is a hint that may be stale or missing.
"""

# Importing pathlib would make each start slower.
# ruff: noqa: PTH105, PTH108, PTH116, PTH118, PTH123

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, BinaryIO

POSIX = os.name == "posix"
NO_LINK: int = getattr(os, "O_NOFOLLOW", 0)
"""Flag: do not follow a link in place of the file."""
NO_WAIT: int = getattr(os, "O_NONBLOCK", 0)
"""Flag: do not wait for the other end of a pipe in place of the file."""
MAX_FILE_BYTES = 65_536
"""More than any private file of ours."""

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
