"""Recognize the embedded server's own files in a folder: only those are ever replaced or removed.

A folder given as store may hold anything. A file counts as the server's by its content; a log and data,
which prove nothing on their own, only beside such a file.
"""

# Importing pathlib would make each start slower.
# ruff: noqa: PTH118, PTH119, PTH208

from __future__ import annotations

import json
import os
import re

from . import server_info
from .lock import NAME as LOCK
from .nats import CONFIG, LOG, is_own_config
from .server_info import read_file

FOLDER = ".happen"
"""A folder of this name belongs to the library."""
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
