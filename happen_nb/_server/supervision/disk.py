"""Whether the disk of a store is full: nats-server then stores nothing, also when there is room again."""

# Importing pathlib would make each start slower.
# ruff: noqa: PTH118

from __future__ import annotations

import os
import shutil

from . import system
from .hints import remove
from .nats import CONFIG, read_log

LITTLE = 1_000_000
"""Bytes below which a disk counts as full."""
ENOUGH = 16_000_000
"""Bytes from which a failed write cannot be for want of room: twice the largest message."""
_COMPLAINTS = ("no space left on device", "not enough space on the disk", "disk quota exceeded")
_LOG_BYTES = 65_536


def free(folder: str) -> int:
    """The bytes that this user can still write on the disk of a folder."""
    return shutil.disk_usage(folder).free


def has_room(folder: str) -> bool:
    """Whether a server can go on: a megabyte is free, and can be written, which a quota may prevent."""
    if free(folder) < 2 * LITTLE:
        return False
    probe = os.path.join(folder, f"{CONFIG}.{os.getpid()}.tmp")
    try:
        remove(probe)
        fd = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | system.NO_LINK, 0o600)
        try:
            return os.write(fd, bytes(LITTLE)) == LITTLE
        finally:
            os.close(fd)
    except OSError:
        return False
    finally:
        remove(probe)


def failed_write(folder: str, pid: int) -> bool:
    """Whether the log says that this process could not write, or there is no room to say so."""
    own = [line for line in read_log(folder, _LOG_BYTES).splitlines() if line.startswith(f"[{pid}]")]
    complained = any(complaint in line.lower() for line in own for complaint in _COMPLAINTS)
    return complained or free(folder) < LITTLE
