"""Who is connected to a space: each process answers for itself, outside the stream."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson

from happen_nb.journal.stream import space_states
from happen_nb.journal.subjects import Subjects

if TYPE_CHECKING:
    from happen_nb.journal.connection import Answer, Connection

WAIT = 0.1
"""Seconds in which the processes of a space answer who they are."""
LONG_WAIT = 0.5
"""The same for a question that nothing hangs on, so that a process with much to do can answer too."""


async def present(connection: Connection, subjects: Subjects, *, wait: float = WAIT) -> list[dict[str, Any]]:
    """The processes that are connected to a space now: ``incarnation``, ``pid`` and ``host`` each.

    A process that is too busy to answer within `wait` seconds is not among them.
    """
    found: dict[str, dict[str, Any]] = {}

    async def heard(message: Answer) -> None:
        if message.data:
            answer = orjson.loads(message.data)
            found[answer["incarnation"]] = answer

    inbox = connection.new_inbox()
    subscription = await connection.subscribe(inbox, heard)
    try:
        await connection.publish(subjects.who, reply=inbox)
        await asyncio.sleep(wait)
    finally:
        await connection.unsubscribe(subscription)
    return list(found.values())


@dataclass(frozen=True, slots=True)
class Attendance:
    """A space as one sees it without being in it.

    Parameters
    ----------
    space : str
    bytes : int
        What it takes on the server's disk.
    processes : tuple of dict
        As `present` gives them.
    """

    space: str
    bytes: int
    processes: tuple[dict[str, Any], ...]

    @property
    def people(self) -> str:
        """Who is there, for a person."""
        return ", ".join(f"process {process['pid']} on {process['host']}" for process in self.processes)


async def attendance(connection: Connection, *, timeout: float) -> list[Attendance]:
    """The spaces of a server, by name, and who is connected to each; nothing is changed by asking."""
    states = await space_states(connection, timeout)
    asked = [present(connection, Subjects(name), wait=LONG_WAIT) for name in states]
    found = await asyncio.gather(*asked)
    return [
        Attendance(name, state["bytes"], tuple(who))
        for (name, state), who in zip(states.items(), found, strict=True)
    ]
