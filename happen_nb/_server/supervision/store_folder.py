"""The folder of a store: the lock on it, ``server.json``, and which of its files are the server's own.

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
import shutil
import signal
import socket
import stat
import time

from . import (
    CONFIG,
    KILL,
    LOG,
    MAX_FILE_BYTES,
    NO_LINK,
    POSIX,
    command_of,
    is_own_config,
    machine_id,
    open_own,
    read_file,
    remove,
    try_lock,
    write_private,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

FOLDER = ".happen"  # a folder of this name belongs to the library
LOCK = "lock"
SERVER_INFO = "server.json"
ALIVE = "alive"  # in the folder of an in-memory server: the file that its kernel holds locked
MEMORY_PREFIX = "happen-memory-"
FOREGROUND = "foreground"  # the file that ``happen server`` holds locked
DATA = "jetstream"
POSITIONS = "seen.json"  # the last known position of each space; see `happen_nb._server.store.KnownPosition`
_TEMPORARY = rf"({re.escape(SERVER_INFO)}|{re.escape(CONFIG)}|{re.escape(POSITIONS)})\.\d+\.tmp"
_LOGS = rf"{re.escape(LOG)}(\.\d{{4}}(\.\d+)+)?"  # the log, and the names to which nats-server rotates it
_PING_SECONDS = 1.0
_ORPHAN_GRACE_SECONDS = 3.0
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


class ServingError(Exception):
    """The store cannot be served; the text is for the user."""


class ServerInfo:
    """The content of ``server.json``: where the server of a store is; invalid members have their defaults.

    It is a hint, never an authority. Only the holder of the lock writes the file, in one step, and only its
    user can read it, since it holds secrets.
    """

    host: str = ""  # the supervisor's host: its name, and the id of the machine
    serving: bool = False
    control: int = 0  # the port on which kernels join
    ask: str = ""  # the secret that a kernel sends to join
    answer: str = ""  # the secret by which the supervisor proves that it is the one
    supervisor: int = 0
    port: int = 0  # the port of nats-server; kept between sessions
    token: str = ""  # the token of nats-server; kept between sessions
    name: str = ""  # the name of nats-server, a new one at each start; its command line contains it
    pid: int = 0  # the process of nats-server
    sync: str = "default"
    lock: int = 0
    """The lock file's inode, so that the copy of a folder does not lead to the server of the original."""

    def __init__(self, **known: Any) -> None:
        self.exposed = False  # other users could read the file
        self.copied = False  # the folder is a copy of the one that the file describes
        vars(self).update(known)

    @property
    def joinable(self) -> bool:
        """True if a supervisor may serve this very folder."""
        return self.serving and not self.copied

    def in_use_elsewhere(self) -> str:
        """Return the message about the host that serves the store, if it is not this one; else empty."""
        name, _, machine = self.host.partition(" ")
        my_name, _, my_machine = this_host().partition(" ")
        if not self.serving or not name or name == my_name or (machine and machine == my_machine):
            return ""
        return (
            f'it is in use by the host "{name}", and hosts cannot share a server through a folder; use '
            "another folder, connect to a server by its URL, or, if nothing runs there now, remove its "
            f"{SERVER_INFO}"
        )

    def as_json(self) -> bytes:
        return json.dumps({name: getattr(self, name) for name in _MEMBERS}, indent=1).encode() + b"\n"


_MEMBERS = list(ServerInfo.__annotations__)


def this_host() -> str:
    """Return this host as ``server.json`` names it."""
    return f"{socket.gethostname().replace(' ', '-')} {machine_id()}".strip()


def read_info(folder: str) -> ServerInfo:
    """Read ``server.json``; the defaults if it is missing, damaged, or another user's."""
    try:
        with open_own(folder, SERVER_INFO) as file:
            info = parse_info(file.read(MAX_FILE_BYTES))
            info.exposed = POSIX and bool(os.fstat(file.fileno()).st_mode & 0o077)
            info.copied = info.lock != identity(folder)[0]
    except OSError:
        return ServerInfo()
    return info


def _loads(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def parse_info(content: bytes) -> ServerInfo:
    """Parse JSON, and ignore invalid members."""
    found = _loads(content)
    if not isinstance(found, dict):
        return ServerInfo()
    names = [name for name in _MEMBERS if name in found and _is_valid(name, found[name])]
    return ServerInfo(**{name: found[name] for name in names})


def _is_valid(name: str, value: object) -> bool:
    if type(value) is not type(getattr(ServerInfo, name)):
        return False
    if isinstance(value, str) and name != "host":
        return value.isascii() and value.isalnum()
    if isinstance(value, int) and name in {"port", "control"}:
        return 0 < value < 65_536  # noqa: PLR2004
    return True


def write_info(folder: str, info: ServerInfo) -> None:
    """Replace ``server.json`` in one step; if that fails, nothing has changed."""
    write_private(os.path.join(folder, SERVER_INFO), info.as_json())


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
        info = read_info(folder)
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
    flags = os.O_RDWR | NO_LINK | getattr(os, "O_CLOEXEC", 0) | (os.O_CREAT if create else 0)
    fd = os.open(path, flags, 0o600)
    try:
        if try_lock(fd) and is_at(fd, path):
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
        return "supervisor.py" in command_of(info.supervisor)  # else another program has its port
    except OSError:
        return False


def _end_orphan(folder: str, info: ServerInfo, *, force: bool = False) -> None:
    """End the nats-server of a supervisor that has ended.

    Its command line identifies the process, since it contains a random name: the process id alone may
    belong to another process by now.
    """
    if not info.name or f" -n {info.name} " not in f"{command_of(info.pid)} ":
        return
    if vars(read_info(folder)) != vars(info):
        return
    try:
        os.kill(info.pid, KILL if force else signal.SIGTERM)
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
    own = not POSIX or (found.st_uid == os.geteuid() and not found.st_mode & 0o077)
    return stat.S_ISDIR(found.st_mode) and own


def _remove_if_abandoned(folder: str) -> None:
    kernel = try_acquire(os.path.join(folder, ALIVE), create=False)
    if kernel is None:
        return
    try:
        lock = try_acquire(os.path.join(folder, LOCK))
        if lock is None:
            info = read_info(folder)
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
    shutil.rmtree(folder, ignore_errors=True)


def has_served(folder: str) -> bool:
    """Return whether an embedded server has run on a folder."""
    config, info = read_file(folder, CONFIG), read_file(folder, SERVER_INFO)
    return bool(config and is_own_config(config)) or bool(info and is_info(info))


def foreign(folder: str) -> str:
    """Return why a server must not use a folder: which foreign file it would change; empty if none."""
    known = os.path.basename(folder) == FOLDER or has_served(folder)
    own = {**_own_files(known=known), LOCK: _is_blank}
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


def _own_files(*, known: bool) -> dict[str, Callable[[bytes], bool]]:
    """Return which content shows that a file is the server's, by name; less suffices in a known store."""
    return {
        CONFIG: is_own_config,
        SERVER_INFO: _may_be_info if known else is_info,
        FOREGROUND: _is_blank,
        POSITIONS: _may_be_positions if known else _is_positions,
    }


def of_server(folder: str) -> list[str]:
    """Return the names of all files that a server keeps in its store, without the lock, which guards them."""
    own = _own_files(known=True)

    def is_own(name: str) -> bool:
        if name not in own:
            return name == DATA or bool(re.fullmatch(_LOGS, name) or re.fullmatch(_TEMPORARY, name))
        content = read_file(folder, name) or b""
        return _is_blank(content) or own[name](content)

    return sorted(filter(is_own, os.listdir(folder)))


def are_all(folder: str) -> bool:
    """Return whether a folder holds no file but the server's; True if it is empty."""
    return set(os.listdir(folder)) <= {LOCK, ".gitignore", *of_server(folder)}


def remove_temporary(folder: str) -> None:
    """Remove the unfinished files of a killed supervisor; only the holder of the lock may do this."""
    for name in os.listdir(folder):
        if re.fullmatch(_TEMPORARY, name):
            remove(os.path.join(folder, name))


def is_info(content: bytes) -> bool:
    """Return whether a supervisor has written a ``server.json``."""
    found = _loads(content)
    return isinstance(found, dict) and {"control", "ask", "answer", "supervisor", "lock"} <= found.keys()


def _may_be_info(content: bytes) -> bool:
    """Return whether the file may be ours, perhaps damaged: it is not the JSON of another program."""
    found = _loads(content)
    return not isinstance(found, dict) or not found or any(name in found for name in _MEMBERS)


def _is_positions(content: bytes) -> bool:
    return content.startswith(b"{") and _may_be_positions(content)


def _may_be_positions(content: bytes) -> bool:
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
