"""Who has a store: its server, and the processes that are connected to it."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from happen_nb._journal.auth import Credentials
from happen_nb._journal.connection import Connection
from happen_nb._journal.spaces import SpacePresence, list_presence
from happen_nb._server.supervision import lock
from happen_nb._server.supervision.belongings import FOREGROUND
from happen_nb._server.supervision.hints import in_use_elsewhere
from happen_nb._server.supervision.main import GRACE
from happen_nb._server.survey import Survey, survey

TIMEOUT = 3.0
"""Seconds for a server to answer."""
PATIENCE = GRACE + 3.0
"""Seconds in which a server that nobody uses any more has ended."""
_LOOK = 0.05


def attendance_at(servers: tuple[str, ...], credentials: Credentials) -> list[SpacePresence]:
    """The spaces of a server, and who is connected to each.

    Raises
    ------
    HappenError
        It cannot be asked; the message says why.
    """
    return asyncio.run(_attendance_at(servers, credentials))


async def _attendance_at(servers: tuple[str, ...], credentials: Credentials) -> list[SpacePresence]:
    connection = await Connection.open(servers, credentials, timeout=TIMEOUT)
    try:
        return await list_presence(connection, timeout=TIMEOUT)
    finally:
        await connection.close()


def attendance_of(found: Survey) -> list[SpacePresence]:
    """The same for the server of a store; nobody where none answers."""
    if found.state != "serving":
        return []
    return attendance_at((found.url,), Credentials(token=found.hints.token))


def people(attended: list[SpacePresence]) -> str:
    """Who is in which space, for a person; empty if nobody is anywhere."""
    return "; ".join(f'{one.description} (space "{one.space}")' for one in attended if one.processes)


def occupied(store: Path) -> tuple[Survey, str]:
    """A store, and who has it, for a person; empty if nobody does, or will when its server has ended.

    A server that nobody is connected to may be about to end: that is waited for.
    """
    found = survey(store)
    there = people(attendance_of(found))
    if not there and not _is_kept_running(store):
        found = at_rest(store)
    return found, describe(found, there) if found.held else ""


def _is_kept_running(store: Path) -> bool:
    """Whether ``happen server`` runs on a store."""
    try:
        held = lock.try_take(str(store / FOREGROUND), make=False)
    except OSError:
        return False
    if held is not None:
        os.close(held)
    return held is None


def at_rest(store: Path, seconds: float = PATIENCE) -> Survey:
    """The store when its server has ended, or as it is after so many seconds."""
    deadline = time.monotonic() + seconds
    while (found := survey(store)).held and found.state != "elsewhere" and time.monotonic() < deadline:
        time.sleep(_LOOK)
    return found


@contextmanager
def foreground(store: Path, seconds: float = PATIENCE) -> Iterator[bool]:
    """Be the only ``happen server`` of a store, which is there; False if another one serves it.

    One that has not got so far, or is about to end, is waited for.
    """
    deadline = time.monotonic() + seconds
    path = str(store / FOREGROUND)
    while (held := lock.try_take(path)) is None and survey(store).state != "serving":
        if time.monotonic() > deadline:
            break
        time.sleep(_LOOK)
    try:
        yield held is not None
    finally:
        if held is not None:
            os.close(held)


def describe(found: Survey, there: str) -> str:
    """What has a store, for a person."""
    known = found.hints
    if found.state == "serving":
        who = f"connected: {there}" if there else "no process is in a space of it, and one keeps it running"
        return f"a server runs on {found.store} already: {found.url}, process {known.pid}; {who}"
    if found.state == "elsewhere":
        return f"the store {found.store} cannot be used: {in_use_elsewhere(known.elsewhere())}"
    if found.state == "starting":
        return f"a server is being started on {found.store} (process {known.supervisor} sees to it)"
    if found.state == "orphaned":
        return f"a server runs on {found.store}: {found.url}, process {known.pid}; what started it is gone"
    return f"a process holds {found.store} and does not answer" + (
        f"; it was process {known.supervisor}" if known.supervisor else ""
    )
