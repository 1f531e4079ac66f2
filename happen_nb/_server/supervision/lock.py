"""The lock on a store, whose holder serves it: free only after supervisor and nats-server have ended."""

# Importing pathlib would make each start slower.
# ruff: noqa: PTH116, PTH118, PTH120, PTH208

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import time

from . import platform, server_info
from .server_info import ServerInfo

NAME = "lock"
ALIVE = "alive"
"""In the folder of an in-memory server: the file that its kernel holds locked."""
MEMORY_PREFIX = "happen-memory-"
_PING_SECONDS = 1.0
_ORPHAN_GRACE_SECONDS = 3.0
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


class ServingError(Exception):
    """The store cannot be served; the text is for the user."""


def acquire(folder: str, timeout: float) -> int | None:
    """Open and lock the lock file; None if another supervisor serves the store."""
    start = time.monotonic()
    while True:
        try:
            fd = try_acquire(os.path.join(folder, NAME))
        except OSError as error:
            if error.errno in _NO_LOCKS:
                raise ServingError(f"its file system has no file locks ({error.strerror})") from error
            raise
        if fd is not None:
            return fd
        info = server_info.read(folder)
        if info.joinable and supervisor_answers(info):
            return None
        waited = time.monotonic() - start
        _end_orphan(folder, info, force=waited > _ORPHAN_GRACE_SECONDS)
        if waited > timeout:
            raise ServingError(
                "a process holds its lock and does not answer"
                + (f" (the supervisor was process {info.supervisor})" if info.supervisor else "")
                + "; end that process, or use another folder"
            )
        time.sleep(0.01)


def try_acquire(path: str, *, create: bool = True) -> int | None:
    """Open and lock a file; None if another process holds it, or it was removed in the meantime."""
    flags = os.O_RDWR | platform.NO_LINK | getattr(os, "O_CLOEXEC", 0) | (os.O_CREAT if create else 0)
    fd = os.open(path, flags, 0o600)
    try:
        if platform.try_lock(fd) and is_at(fd, path):
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def identity(folder: str) -> tuple[int, int]:
    """Return an id of the store, which differs for a later one in the same folder; zeros if there is none."""
    try:
        found = os.stat(os.path.join(folder, NAME))
    except OSError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns  # nothing is ever written to the lock file


def is_at(fd: int, path: str) -> bool:
    """Return whether a path still leads to an open file."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False


def supervisor_answers(info: ServerInfo) -> bool:
    """Return whether the supervisor is alive, even if it is too busy to answer now."""
    try:
        with socket.create_connection(("127.0.0.1", info.control), _PING_SECONDS) as connection:
            connection.sendall(f"ping {info.ask}\n".encode())
            return connection.recv(256).split() == [b"pong", info.answer.encode()]
    except TimeoutError:
        return "supervisor.py" in platform.command_of(info.supervisor)  # else another program has its port
    except OSError:
        return False


def _end_orphan(folder: str, info: ServerInfo, *, force: bool = False) -> None:
    """End the nats-server of a supervisor that has ended.

    Its command line identifies the process, since it contains a random name: the process id alone may
    belong to another process by now.
    """
    if not info.name or f" -n {info.name} " not in f"{platform.command_of(info.pid)} ":
        return
    if vars(server_info.read(folder)) != vars(info):
        return
    try:
        os.kill(info.pid, platform.KILL if force else signal.SIGTERM)
    except OSError:
        return  # it has ended


def sweep(own: str) -> None:
    """Remove the folders of this user's in-memory servers whose kernel and supervisor were both killed."""
    parent = os.path.dirname(own)
    for name in os.listdir(parent):
        folder = os.path.join(parent, name)
        if name.startswith(MEMORY_PREFIX) and folder != own:
            try:
                if _is_private(folder):
                    _remove_if_abandoned(folder)
            except OSError:
                continue  # it is being removed


def _is_private(path: str) -> bool:
    """Return whether a path is a folder, not a link, that only this user can write or read."""
    found = os.lstat(path)
    own = not platform.POSIX or (found.st_uid == os.geteuid() and not found.st_mode & 0o077)
    return stat.S_ISDIR(found.st_mode) and own


def _remove_if_abandoned(folder: str) -> None:
    kernel = try_acquire(os.path.join(folder, ALIVE), create=False)
    if kernel is None:
        return
    try:
        lock = try_acquire(os.path.join(folder, NAME))
        if lock is None:
            info = server_info.read(folder)
            if not supervisor_answers(info):
                _end_orphan(folder, info)
            return
        try:
            remove_folder(folder)
        finally:
            os.close(lock)
    finally:
        os.close(kernel)


def remove_folder(folder: str) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
