"""The status of a store as seen from outside: its server, and its spaces."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from happen_nb._journal.wire import space_of
from happen_nb._server.supervision import lock, server_info
from happen_nb._server.supervision.nats import server_name_at
from happen_nb._server.supervision.server_info import ServerInfo

State = Literal["idle", "killed", "serving", "starting", "orphaned", "stuck", "elsewhere"]
_STREAMS = Path("jetstream", "$G", "streams")


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """The status of a store at one point in time."""

    store: Path
    state: State
    """``"idle"``: not served. ``"killed"``: not served, and the last server did not end cleanly.
    ``"serving"``. ``"starting"``: a supervisor serves it, and nats-server does not answer yet.
    ``"orphaned"``: nats-server runs without its supervisor. ``"stuck"``: a process holds the lock, and
    none answers. ``"elsewhere"``: another host serves it."""
    info: ServerInfo
    """The content of ``server.json``, with secrets."""

    @property
    def url(self) -> str:
        """The URL of its current or last server."""
        return f"nats://127.0.0.1:{self.info.port}"

    @property
    def held(self) -> bool:
        """True if a process uses the store."""
        return self.state not in ("idle", "killed")


def store_status(store: Path) -> StoreStatus:
    """Return the status of a store, which need not exist."""
    info = server_info.read(str(store))
    return StoreStatus(store, _state(store, info), info)


def _state(store: Path, info: ServerInfo) -> State:
    if info.other_host():
        return "elsewhere"
    answers = info.name != "" and server_name_at(info.port) == info.name
    if info.joinable and lock.supervisor_answers(info):
        return "serving" if answers else "starting"
    if is_unlocked(store / lock.NAME):
        return "killed" if info.joinable else "idle"
    return "orphaned" if answers else "stuck"


def is_unlocked(file: Path) -> bool:
    """Return whether no process holds the lock of a file; it is taken and released for this."""
    try:
        held = lock.try_acquire(str(file), create=False)
    except FileNotFoundError:
        return True
    if held is None:
        return False
    os.close(held)
    return True


def spaces_on_disk(store: Path) -> dict[str, int]:
    """Return the spaces in a store with their sizes in bytes; no server needs to run."""
    try:
        folders = sorted((store / _STREAMS).iterdir())
    except FileNotFoundError:
        return {}
    named = {space_of(folder.name): folder for folder in folders}
    return {name: size_of(folder) for name, folder in named.items() if name is not None}


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    size = 0
    for where, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):  # a running server has removed it
                size += Path(where, name).lstat().st_size
    return size
