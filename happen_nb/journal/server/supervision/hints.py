"""``server.json``: where a store's server is. A hint, never an authority; only the lock's holder writes it.

It holds secrets, so only its user can read it. It is replaced in one step and never changed in place.
"""

# Importing pathlib would make each start slower.
# ruff: noqa: PTH108, PTH116, PTH118, PTH123, PTH208

from __future__ import annotations

import json
import os
import socket

from . import system

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

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
    """What is known about the server of a store; nothing if the file is missing or damaged."""
    try:
        with open(os.path.join(folder, NAME), "rb") as file:
            hints = parse(file.read(_LIMIT))
            hints.exposed = system.POSIX and bool(os.fstat(file.fileno()).st_mode & 0o077)
            hints.copied = hints.lock != lock_id(folder)
    except OSError:
        return Hints()
    return hints


def parse(content: bytes) -> Hints:
    """Hints from JSON; of damaged ones, what still makes sense.

    Examples
    --------
    >>> parse(b'{"port": 20123, "token": "a b"}').port
    20123
    """
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return Hints()
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
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(fd, "wb") as file:
            file.write(content)
        system.replace(temporary, path)
    except OSError:
        _remove(temporary)
        raise


def remove_temporary(folder: str) -> None:
    """Remove what a killed supervisor has left unfinished; only for the lock's holder."""
    for name in os.listdir(folder):
        if name.endswith(".tmp"):
            _remove(os.path.join(folder, name))


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return  # it was never made, or is in the way of nothing
