"""``server.json``: where a store's server is. A hint, never an authority; only the lock's holder writes it.

It holds secrets, so only its user can read it. It is replaced in one step and never changed in place.
"""

# Importing pathlib would make each start slower.
# ruff: noqa: PTH108, PTH116, PTH118, PTH123

from __future__ import annotations

import errno
import json
import os
import socket
import stat

from . import platform

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

NAME = "server.json"
_MAX_FILE_BYTES = 65_536


class ServerInfo:
    """The content of ``server.json``; missing and invalid members have their defaults."""

    host: str = ""
    """The supervisor's host: its name, and the id of the machine."""
    serving: bool = False
    control: int = 0
    """The port on which kernels join."""
    ask: str = ""
    """The secret that a kernel sends to join."""
    answer: str = ""
    """The secret by which the supervisor proves that it is the one."""
    supervisor: int = 0
    port: int = 0
    """The port of nats-server; kept between sessions."""
    token: str = ""
    """The token of nats-server; kept between sessions."""
    name: str = ""
    """The name of nats-server, a new one at each start; its command line contains it."""
    pid: int = 0
    """The process of nats-server."""
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

    def other_host(self) -> str:
        """Return the host that serves the store, if it is not this one; else an empty string."""
        name, _, machine = self.host.partition(" ")
        my_name, _, my_machine = this_host().partition(" ")
        if not self.serving or not name or name == my_name or (machine and machine == my_machine):
            return ""
        return name

    def as_json(self) -> bytes:
        return json.dumps({name: getattr(self, name) for name in _MEMBERS}, indent=1).encode() + b"\n"


_MEMBERS = [name for name in vars(ServerInfo) if name in ServerInfo.__annotations__]


def this_host() -> str:
    """Return this host as ``server.json`` names it."""
    return f"{socket.gethostname().replace(' ', '-')} {platform.machine_id()}".strip()


def in_use_elsewhere(host: str) -> str:
    """Return the message about a folder that another host serves."""
    return (
        f'it is in use by the host "{host}", and hosts cannot share a server through a folder; use another '
        f"folder, connect to a server by its URL, or, if nothing runs there any more, remove its {NAME}"
    )


def read(folder: str) -> ServerInfo:
    """Read ``server.json``; the defaults if it is missing, damaged, or another user's."""
    try:
        with open_own(folder, NAME) as file:
            info = parse(file.read(_MAX_FILE_BYTES))
            info.exposed = platform.POSIX and bool(os.fstat(file.fileno()).st_mode & 0o077)
            info.copied = info.lock != lock_inode(folder)
    except OSError:
        return ServerInfo()
    return info


def open_own(folder: str, name: str) -> BinaryIO:
    """Open a regular file of this user, or of the owner of the folder, for reading; refuse links."""
    path = os.path.join(folder, name)
    file = os.fdopen(os.open(path, os.O_RDONLY | platform.NO_LINK | platform.NO_WAIT), "rb")
    found = os.fstat(file.fileno())
    trusted = not platform.POSIX or found.st_uid in {os.geteuid(), os.stat(folder).st_uid}
    if not (trusted and stat.S_ISREG(found.st_mode)):
        file.close()
        raise PermissionError(errno.EACCES, "it is not a file of yours", path)
    return file


def read_file(folder: str, name: str) -> bytes | None:
    """Read such a file, up to a size that no file of ours reaches; None if there is none."""
    try:
        with open_own(folder, name) as file:
            return file.read(_MAX_FILE_BYTES)
    except OSError:
        return None


def is_own(content: bytes) -> bool:
    """Return whether a supervisor has written a ``server.json``."""
    found = _loads(content)
    return isinstance(found, dict) and {"control", "ask", "answer", "supervisor", "lock"} <= found.keys()


def may_be_own(content: bytes) -> bool:
    """Return whether the file may be ours, perhaps damaged: it is not the JSON of another program."""
    found = _loads(content)
    return not isinstance(found, dict) or not found or any(name in found for name in _MEMBERS)


def _loads(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def parse(content: bytes) -> ServerInfo:
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


def lock_inode(folder: str) -> int:
    """Return the inode of the lock file, another one in a copied folder; 0 if there is none."""
    try:
        return os.stat(os.path.join(folder, "lock")).st_ino
    except OSError:
        return 0


def write(folder: str, info: ServerInfo) -> None:
    """Replace the file in one step; if that fails, nothing has changed."""
    write_private(os.path.join(folder, NAME), info.as_json())


def write_private(path: str, content: bytes) -> None:
    """Replace a file in one step by one that only its user can read."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        remove(temporary)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | platform.NO_LINK, 0o600)
        with open(fd, "wb") as file:
            file.write(content)
        platform.replace(temporary, path)
    except OSError:
        remove(temporary)
        raise


def remove(path: str) -> None:
    """Remove a file if it exists."""
    try:
        os.unlink(path)
    except OSError:
        return  # it did not exist, or does no harm
