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

from . import system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO

NAME = "server.json"
_LIMIT = 65_536


class Hints:
    """What ``server.json`` says; what is missing or makes no sense there has its default."""

    host: str = ""
    """The supervisor's host: its name and what identifies the machine."""
    serving: bool = False
    control: int = 0
    """The port on which kernels join."""
    ask: str = ""
    """What a kernel says to be let in."""
    answer: str = ""
    """What the supervisor says to prove that it is the one."""
    supervisor: int = 0
    port: int = 0
    """The port of nats-server; kept between sessions."""
    token: str = ""
    """The token of nats-server; kept between sessions."""
    name: str = ""
    """The name of nats-server, another one at each start; its command line holds it."""
    pid: int = 0
    """The process of nats-server."""
    sync: str = "default"
    lock: int = 0
    """The lock file's number, so that the copy of a folder does not lead to the server of the original."""

    def __init__(self, **known: Any) -> None:
        self.exposed = False  # whether others could read the file
        self.copied = False  # whether the folder is a copy of the one that they are about
        vars(self).update(known)

    @property
    def joinable(self) -> bool:
        """Whether a supervisor may be there for this very folder."""
        return self.serving and not self.copied

    def elsewhere(self) -> str:
        """The host that serves the store, if it is another one than this."""
        name, _, machine = self.host.partition(" ")
        my_name, _, my_machine = this_host().partition(" ")
        if not self.serving or not name or name == my_name or (machine and machine == my_machine):
            return ""
        return name

    def as_json(self) -> bytes:
        """The contents of the file."""
        return json.dumps({name: getattr(self, name) for name in _FIELDS}, indent=1).encode() + b"\n"


_FIELDS = [name for name in vars(Hints) if name in Hints.__annotations__]


def this_host() -> str:
    """How this host is named in ``server.json``."""
    return f"{socket.gethostname().replace(' ', '-')} {system.machine()}".strip()


def in_use_elsewhere(host: str) -> str:
    """What to say about a folder that another host serves."""
    return (
        f'it is in use by the host "{host}", and hosts cannot share a server by a folder; use another '
        f"folder, connect to a server by its URL, or, if nothing runs there any more, remove its {NAME}"
    )


def read(folder: str) -> Hints:
    """What is known about the server of a store; nothing if the file is missing, damaged or not ours."""
    try:
        with open_own(folder, NAME) as file:
            hints = parse(file.read(_LIMIT))
            hints.exposed = system.POSIX and bool(os.fstat(file.fileno()).st_mode & 0o077)
            hints.copied = hints.lock != lock_id(folder)
    except OSError:
        return Hints()
    return hints


def open_own(folder: str, name: str) -> BinaryIO:
    """Open a regular file of this user, or of the user whose folder it is, to read it.

    Raises
    ------
    OSError
        There is no such file: a link, a folder and another user's file are none.
    """
    path = os.path.join(folder, name)
    file = os.fdopen(os.open(path, os.O_RDONLY | system.NO_LINK | system.NO_WAIT), "rb")
    found = os.fstat(file.fileno())
    trusted = not system.POSIX or found.st_uid in {os.geteuid(), os.stat(folder).st_uid}
    if not (trusted and stat.S_ISREG(found.st_mode)):
        file.close()
        raise PermissionError(errno.EACCES, "it is not a file of yours", path)
    return file


def read_file(folder: str, name: str) -> bytes | None:
    """The beginning of such a file, more than any of ours has; None if there is none."""
    try:
        with open_own(folder, name) as file:
            return file.read(_LIMIT)
    except OSError:
        return None


def is_own(content: bytes) -> bool:
    """Whether a ``server.json`` is one that a supervisor has written.

    Examples
    --------
    >>> is_own(Hints().as_json()), is_own(b'{"host": "0.0.0.0", "port": 80}')
    (True, False)
    """
    found = _loads(content)
    return isinstance(found, dict) and {"control", "ask", "answer", "supervisor", "lock"} <= found.keys()


def may_be_own(content: bytes) -> bool:
    """Whether it may be one that was damaged: it is no JSON of another program."""
    found = _loads(content)
    return not isinstance(found, dict) or not found or any(name in found for name in _FIELDS)


def _loads(content: bytes) -> object:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def parse(content: bytes) -> Hints:
    """Hints from JSON; of damaged ones, what still makes sense.

    Examples
    --------
    >>> parse(b'{"port": 20123, "token": "a b"}').port
    20123
    """
    found = _loads(content)
    if not isinstance(found, dict):
        return Hints()
    return Hints(**{name: found[name] for name in _FIELDS if name in found and _is_sound(name, found[name])})


def lock_id(folder: str) -> int:
    """The lock file's number on its disk: that of a copied folder is another one; 0 if there is none."""
    try:
        return os.stat(os.path.join(folder, "lock")).st_ino
    except OSError:
        return 0


def _is_sound(name: str, value: object) -> bool:
    if type(value) is not type(getattr(Hints, name)):
        return False
    if isinstance(value, str) and name != "host":
        return value.isascii() and value.isalnum()
    if isinstance(value, int) and name in {"port", "control"}:
        return 0 < value < 65_536  # noqa: PLR2004
    return True


def write(folder: str, hints: Hints) -> None:
    """Replace the file in one step; if that fails, nothing has changed."""
    write_private(os.path.join(folder, NAME), hints.as_json())


def write_private(path: str, content: bytes) -> None:
    """Replace a file in one step by one that only its user can read."""
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        remove(temporary)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | system.NO_LINK, 0o600)
        with open(fd, "wb") as file:
            file.write(content)
        system.replace(temporary, path)
    except OSError:
        remove(temporary)
        raise


def remove(path: str) -> None:
    """Remove a file that may not be there."""
    try:
        os.unlink(path)
    except OSError:
        return  # it was never made, or is in the way of nothing
