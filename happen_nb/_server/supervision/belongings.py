"""What in a folder is the embedded server's own: only that is ever replaced or removed.

A folder given as store may hold anything. A file counts as ours by its content; a log and data, which prove
nothing by themselves, only beside such a file.
"""

# Importing pathlib would make each start slower.
# ruff: noqa: PTH118, PTH119, PTH208

from __future__ import annotations

import json
import os
import re

from . import hints as hints_file
from .hints import read_file
from .lock import NAME as LOCK
from .nats import CONFIG, LOG, is_own_config

FOLDER = ".happen"
"""A folder of this name is nobody else's."""
FOREGROUND = "foreground"
"""The file that ``happen server`` holds locked."""
DATA = "jetstream"
SEEN = "seen.json"
"""How far each space was; see `happen_nb._server.seen`."""
_TEMPORARY = re.compile(rf"({re.escape(hints_file.NAME)}|{re.escape(CONFIG)}|{re.escape(SEEN)})\.\d+\.tmp")
_LOGS = re.compile(rf"{re.escape(LOG)}(\.\d{{4}}(\.\d+)+)?")
"""The log, and as nats-server renames it."""


def is_store(folder: str) -> bool:
    """Whether an embedded server has run on a folder."""
    config, hints = read_file(folder, CONFIG), read_file(folder, hints_file.NAME)
    return bool(config and is_own_config(config)) or bool(hints and hints_file.is_own(hints))


def foreign(folder: str) -> str:
    """Why a server must not use a folder: what of its own there would be changed; empty if nothing."""
    known = os.path.basename(folder) == FOLDER or is_store(folder)
    own = {
        CONFIG: is_own_config,
        hints_file.NAME: hints_file.may_be_own if known else hints_file.is_own,
        LOCK: _is_blank,
        FOREGROUND: _is_blank,
        SEEN: _may_be_own_note if known else _is_own_note,
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
    """The names of all that a server keeps in its store, but for the lock, which guards it."""
    found = []
    for name in sorted(os.listdir(folder)):
        content = read_file(folder, name) or b""
        if (
            name == DATA
            or _LOGS.fullmatch(name)
            or _TEMPORARY.fullmatch(name)
            or (name == CONFIG and (is_own_config(content) or _is_blank(content)))
            or (name == hints_file.NAME and (hints_file.may_be_own(content) or _is_blank(content)))
            or (name == FOREGROUND and _is_blank(content))
            or (name == SEEN and _may_be_own_note(content))
        ):
            found.append(name)
    return found


def are_all(folder: str) -> bool:
    """Whether a folder holds nothing else; an empty one does not."""
    return set(os.listdir(folder)) <= {LOCK, ".gitignore", *of_server(folder)}


def remove_temporary(folder: str) -> None:
    """Remove what a killed supervisor has left unfinished; only for the lock's holder."""
    for name in os.listdir(folder):
        if _TEMPORARY.fullmatch(name):
            hints_file.remove(os.path.join(folder, name))


def _is_own_note(content: bytes) -> bool:
    """Whether a ``seen.json`` is ours."""
    return content.startswith(b"{") and _may_be_own_note(content)


def _may_be_own_note(content: bytes) -> bool:
    """Whether it may be ours and damaged: it is no JSON of another program."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return True
    return isinstance(found, dict) and all(name.startswith("KV_") for name in found)


def _is_blank(content: bytes) -> bool:
    """Whether a file holds nothing; a power failure leaves zeros."""
    return not content.strip(b"\0 \r\n\t")


def _holds_something(folder: str) -> bool:
    try:
        return bool(os.listdir(folder))
    except OSError:
        return os.path.lexists(folder)
