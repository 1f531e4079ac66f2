"""The lock: who may serve a store. It is free only when the supervisor and its nats-server are gone."""

# Importing pathlib would make each start slower.
# ruff: noqa: PTH116, PTH118, PTH120, PTH208

from __future__ import annotations

import errno
import os
import signal
import socket
import stat
import time

from . import hints as hints_file
from . import system
from .hints import Hints

NAME = "lock"
ALIVE = "alive"
"""In a folder that is removed at the end: the file that its kernel holds locked."""
PREFIX = "happen-memory-"
ASK_TIMEOUT = 1.0
PATIENCE_WITH_ORPHANS = 3.0
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


class Failure(Exception):  # noqa: N818 - never leaves the supervisor
    """Why the store cannot be served; the text is for the user."""


def take(folder: str, patience: float) -> int | None:
    """The open, locked lock file; None if another supervisor serves the store."""
    start = time.monotonic()
    while True:
        try:
            fd = try_take(os.path.join(folder, NAME))
        except OSError as error:
            if error.errno in _NO_LOCKS:
                raise Failure(f"its file system has no file locks ({error.strerror})") from error
            raise
        if fd is not None:
            return fd
        known = hints_file.read(folder)
        if known.joinable and supervisor_answers(known):
            return None
        waited = time.monotonic() - start
        end_orphan(folder, known, force=waited > PATIENCE_WITH_ORPHANS)
        if waited > patience:
            raise Failure(
                "a process holds its lock and does not answer"
                + (f" (the supervisor was process {known.supervisor})" if known.supervisor else "")
                + "; end that process, or use another folder"
            )
        time.sleep(0.01)


def try_take(path: str, *, make: bool = True) -> int | None:
    """Open and lock a file; None if another process holds it, or it was removed meanwhile."""
    flags = os.O_RDWR | system.NO_LINK | getattr(os, "O_CLOEXEC", 0) | (os.O_CREAT if make else 0)
    fd = os.open(path, flags, 0o600)
    try:
        if system.try_lock(fd) and is_at(fd, path):
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return None


def identity(folder: str) -> tuple[int, int]:
    """What tells the store in a folder from one that is made there later; zeros if there is none."""
    try:
        found = os.stat(os.path.join(folder, NAME))
    except OSError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns  # nothing is ever written to the lock file


def is_at(fd: int, path: str) -> bool:
    """Whether an open file still is the one of that path."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except OSError:
        return False


def supervisor_answers(known: Hints) -> bool:
    """Whether the supervisor of these hints lives, even if it is too busy to answer now."""
    try:
        with socket.create_connection(("127.0.0.1", known.control), ASK_TIMEOUT) as connection:
            connection.sendall(f"ping {known.ask}\n".encode())
            return connection.recv(256).split() == [b"pong", known.answer.encode()]
    except TimeoutError:
        return "supervisor.py" in system.command_of(known.supervisor)  # else its port is another program's
    except OSError:
        return False


def end_orphan(folder: str, known: Hints, *, force: bool = False) -> None:
    """End the nats-server of these hints, whose supervisor is gone.

    The process is known by its command line, which holds a name that was drawn for it: a process id
    alone may be another process by now.
    """
    if not known.name or f" -n {known.name} " not in f"{system.command_of(known.pid)} ":
        return
    if vars(hints_file.read(folder)) != vars(known):
        return
    try:
        os.kill(known.pid, system.KILL if force else signal.SIGTERM)
    except OSError:
        return  # it ended by itself


def sweep(own: str) -> None:
    """Remove the folders of in-memory servers of this user whose kernel and supervisor were both killed."""
    parent = os.path.dirname(own)
    for name in os.listdir(parent):
        folder = os.path.join(parent, name)
        if name.startswith(PREFIX) and folder != own:
            try:
                if is_private(folder):
                    _remove_if_abandoned(folder)
            except OSError:
                continue  # it is being removed


def is_private(path: str) -> bool:
    """Whether a path is a folder, and no link, that only this user can write in or read."""
    found = os.lstat(path)
    own = not system.POSIX or (found.st_uid == os.geteuid() and not found.st_mode & 0o077)
    return stat.S_ISDIR(found.st_mode) and own


def _remove_if_abandoned(folder: str) -> None:
    kernel = try_take(os.path.join(folder, ALIVE), make=False)
    if kernel is None:
        return
    try:
        lock = try_take(os.path.join(folder, NAME))
        if lock is None:
            known = hints_file.read(folder)
            if not supervisor_answers(known):
                end_orphan(folder, known)
            return
        try:
            remove_folder(folder)
        finally:
            os.close(lock)
    finally:
        os.close(kernel)


def remove_folder(folder: str) -> None:
    """Remove a folder and all that is in it."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
