"""Who is connected to a space: whoever listens, whether it answers or is busy.

The server lists the listeners of a subject when a message that nobody receives asks for it (message
tracing, NATS ADR-41). So a process counts while its connection is up, also one that is stopped, or that
computes for a minute.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from happen_nb._journal.connection import NAME, process_name
from happen_nb._journal.stream import space_states
from happen_nb._journal.wire import Subjects
from happen_nb.errors import HappenConnectionError

if TYPE_CHECKING:
    from happen_nb._journal.connection import Connection, CoreMessage

WAIT = 5.0
"""Seconds in which every server of a cluster must have listed its listeners."""
_CLIENT, _ROUTER, _GATEWAY, _LEAF = 0, 1, 2, 4


@dataclass(slots=True)
class _Listing:
    """The listeners of a subject, as the servers of a cluster report them one by one.

    Parameters
    ----------
    subject : str
    complete : asyncio.Event
        Set when every server that the question reached has reported.
    """

    subject: str
    complete: asyncio.Event
    listeners: list[str] = field(default_factory=list)
    reached: dict[str, str] = field(default_factory=dict)
    reported: set[str] = field(default_factory=set)

    async def report(self, message: CoreMessage) -> None:
        """Take one server's report: its own listeners, and the servers to which it passed the question on."""
        report = orjson.loads(message.data)
        hop = "".join(report["request"]["header"].get("Nats-Trace-Hop", ()))
        self.reported.add(hop)
        for event in report["events"]:
            if event["type"] != "eg":
                continue
            if event["kind"] == _CLIENT and event.get("sub") == self.subject:
                self.listeners.append(_described(event))
            elif event["kind"] in (_ROUTER, _GATEWAY, _LEAF) and "hop" in event:
                self.reached[event["hop"]] = event.get("name", "")
        if self.reported >= {"", *self.reached}:
            self.complete.set()

    @property
    def silent(self) -> list[str]:
        """The servers that have not reported."""
        return sorted(name for hop, name in self.reached.items() if hop not in self.reported)


def _described(event: dict[str, Any]) -> str:
    name = event.get("name", "")
    if name.startswith(f"{NAME} process "):
        return str(name)
    return f'a process of which only its connection is known (number {event.get("cid")}, named "{name}")'


async def connected_processes(connection: Connection, subjects: Subjects, *, wait: float = WAIT) -> list[str]:
    """The other processes that are connected to a space now, named for a person.

    Parameters
    ----------
    wait : float, optional
        Seconds in which the servers must answer; the processes themselves are not asked.

    Raises
    ------
    HappenConnectionError
        The server does not list the listeners.
    """
    listing = _Listing(subjects.who, asyncio.Event())
    inbox = connection.new_inbox()
    subscription = await connection.subscribe(inbox, listing.report)
    try:
        ask = {"Nats-Trace-Dest": inbox, "Nats-Trace-Only": "true"}
        async with asyncio.timeout(wait):
            await connection.wait_connected(wait)
            await connection.send(subjects.who, headers=ask)
            await listing.complete.wait()
    except TimeoutError:
        if not listing.reported:
            why = f'may this user publish to "{subjects.who}"?' if connection.connected else "is it running?"
            raise HappenConnectionError(
                f'{connection.where} did not report which processes are connected to the space "'
                f'{subjects.space}" within {wait:g} s; {why}'
            ) from None
    finally:
        await connection.unsubscribe(subscription)
    me = process_name()
    found = [name.removeprefix(f"{NAME} ").partition(" [")[0] for name in listing.listeners if name != me]
    unknown = [f"whoever is connected to the server {name}, which does not answer" for name in listing.silent]
    return list(dict.fromkeys(found)) + unknown


@dataclass(frozen=True, slots=True)
class SpacePresence:
    """A space as one sees it without being in it.

    Parameters
    ----------
    space : str
    bytes : int
        What it takes on the server's disk.
    processes : tuple of str
        As `connected_processes` names them.
    """

    space: str
    bytes: int
    processes: tuple[str, ...]

    @property
    def description(self) -> str:
        """Who is there, for a person."""
        return ", ".join(self.processes)


async def list_presence(connection: Connection, *, timeout: float) -> list[SpacePresence]:
    """The spaces of a server, by name, and who is connected to each; nothing is changed by asking."""
    states = await space_states(connection, timeout)
    asked = [connected_processes(connection, Subjects(name), wait=timeout) for name in states]
    found = await asyncio.gather(*asked)
    return [
        SpacePresence(name, state["bytes"], tuple(who))
        for (name, state), who in zip(states.items(), found, strict=True)
    ]
