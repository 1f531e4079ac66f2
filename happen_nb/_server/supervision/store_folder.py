"""The folder of a store: the lock on it, and which of the files in it are the server's own.

The holder of the lock serves the store. It is free only after supervisor and nats-server have ended.

A folder given as store may hold anything, and only the server's own files are ever replaced or removed. A
file counts as the server's by its content; a log and data, which prove nothing on their own, only beside
such a file.
"""

# Importing pathlib would make each start slower.
# ruff: noqa: PTH116, PTH118, PTH119, PTH120, PTH208

from __future__ import annotations

import errno
import json
import os
import re
import signal
import socket
import stat
import time

from . import platform, server_info
from .nats import CONFIG, LOG, is_own_config
from .server_info import ServerInfo, read_file

FOLDER = ".happen"
"""A folder of this name belongs to the library."""
LOCK = "lock"
ALIVE = "alive"
"""In the folder of an in-memory server: the file that its kernel holds locked."""
MEMORY_PREFIX = "happen-memory-"
FOREGROUND = "foreground"
"""The file that ``happen server`` holds locked."""
DATA = "jetstream"
POSITIONS = "seen.json"
"""The last known position of each space; see `happen_nb._server.store.KnownPosition`."""
_TEMPORARY = re.compile(
    rf"({re.escape(server_info.NAME)}|{re.escape(CONFIG)}|{re.escape(POSITIONS)})\.\d+\.tmp"
)
_LOGS = re.compile(rf"{re.escape(LOG)}(\.\d{{4}}(\.\d+)+)?")
"""The log, and the names to which nats-server rotates it."""
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
            fd = try_acquire(os.path.join(folder, LOCK))
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
        found = os.stat(os.path.join(folder, LOCK))
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
        lock = try_acquire(os.path.join(folder, LOCK))
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


def has_served(folder: str) -> bool:
    """Return whether an embedded server has run on a folder."""
    config, info = read_file(folder, CONFIG), read_file(folder, server_info.NAME)
    return bool(config and is_own_config(config)) or bool(info and server_info.is_own(info))


def foreign(folder: str) -> str:
    """Return why a server must not use a folder: which foreign file it would change; empty if none."""
    known = os.path.basename(folder) == FOLDER or has_served(folder)
    own = {
        CONFIG: is_own_config,
        server_info.NAME: server_info.may_be_own if known else server_info.is_own,
        LOCK: _is_blank,
        FOREGROUND: _is_blank,
        POSITIONS: _may_be_own_positions if known else _is_own_positions,
    }
    if not known:
        own[LOG] = _is_blank
        if _holds_something(os.path.join(folder, DATA)):
            return f"its {DATA} holds the data of another nats-server"
    for name, is_own in own.items():
        if not os.path.lexists(os.path.join(folder, name)):
            continue
        content = read_file(folder, name)
        if content is None:
            return f"its {name} is not a file of yours that can be read"
        if not _is_blank(content) and not is_own(content):
            return f"its {name} was not written by happen_nb, and would be overwritten"
    return ""


def of_server(folder: str) -> list[str]:
    """Return the names of all files that a server keeps in its store, without the lock, which guards them."""
    found = []
    for name in sorted(os.listdir(folder)):
        content = read_file(folder, name) or b""
        if (
            name == DATA
            or _LOGS.fullmatch(name)
            or _TEMPORARY.fullmatch(name)
            or (name == CONFIG and (is_own_config(content) or _is_blank(content)))
            or (name == server_info.NAME and (server_info.may_be_own(content) or _is_blank(content)))
            or (name == FOREGROUND and _is_blank(content))
            or (name == POSITIONS and _may_be_own_positions(content))
        ):
            found.append(name)
    return found


def are_all(folder: str) -> bool:
    """Return whether a folder holds no file but the server's; True if it is empty."""
    return set(os.listdir(folder)) <= {LOCK, ".gitignore", *of_server(folder)}


def remove_temporary(folder: str) -> None:
    """Remove the unfinished files of a killed supervisor; only the holder of the lock may do this."""
    for name in os.listdir(folder):
        if _TEMPORARY.fullmatch(name):
            server_info.remove(os.path.join(folder, name))


def _is_own_positions(content: bytes) -> bool:
    return content.startswith(b"{") and _may_be_own_positions(content)


def _may_be_own_positions(content: bytes) -> bool:
    """Return whether the file may be ours, perhaps damaged: it is not the JSON of another program."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return True
    return isinstance(found, dict) and all(name.startswith("KV_") for name in found)


def _is_blank(content: bytes) -> bool:
    return not content.strip(b"\0 \r\n\t")  # a power failure leaves zeros


def _holds_something(folder: str) -> bool:
    try:
        return bool(os.listdir(folder))
    except OSError:
        return os.path.lexists(folder)
