"""The spaces of a server, the processes that are connected to each, and the messages between processes.

A server lists the subscribers of a subject when a message that is not delivered asks for it (message
tracing, NATS ADR-41). So a process counts while its connection is up, also one that is stopped, or that
computes for a minute.

Questions, answers and replies go over core NATS, without being stored. Any client may have sent them: each
decoder raises one of `fields.UNREADABLE` for a message that it cannot read, and ignores unknown members.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime
from typing import Any, Final, NamedTuple

import orjson

from happen_nb._journal import fields
from happen_nb._journal.connection import NAME, Connection, CoreMessage, process_name
from happen_nb._journal.consumer import read
from happen_nb._journal.decoding import decode_turn, is_deletion
from happen_nb._journal.stream import UNFINISHED
from happen_nb._journal.wire import Subjects, space_of
from happen_nb._model.arguments import is_name
from happen_nb._model.freeze import dumps, freeze
from happen_nb.errors import HappenConnectionError, ServerError

LISTING_SECONDS = 5.0  # for every server of a cluster to list its subscribers
ASK_AGAIN_SECONDS = 1.0  # if no server has reported
_CLIENT, _ROUTER, _GATEWAY, _LEAF = 0, 1, 2, 4


class SpaceInfo(NamedTuple):
    """A space in the list of ``happen.spaces()``.

    Parameters
    ----------
    name : str
    nodes : int
        The number of nodes that have a state.
    bytes : int
        Its size on the server's disk.
    last_change : datetime or None
        The time of its newest message, in UTC; None if nothing was stored yet.
    """

    name: str
    nodes: int
    bytes: int
    last_change: datetime | None


class SpacePresence(NamedTuple):
    """The size of a space in bytes, and its processes as `connected_processes` names them."""

    space: str
    bytes: int
    processes: tuple[str, ...]

    @property
    def description(self) -> str:
        """The processes, for people."""
        return ", ".join(self.processes)


async def list_spaces(connection: Connection, timeout: float) -> list[SpaceInfo]:
    """Return the spaces on a server, by name, without unfinished forks."""
    found: list[SpaceInfo] = []
    for name, state in (await _stream_states(connection, timeout)).items():
        if state["unfinished"]:
            continue
        try:
            nodes = await _count_nodes(connection, Subjects(name), timeout)
        except ServerError:
            if name in await _stream_states(connection, timeout):
                raise
            continue  # it was dropped meanwhile
        last_change = datetime.fromisoformat(state["last_ts"]) if state["last_seq"] else None
        found.append(SpaceInfo(name, nodes, state["bytes"], last_change))
    return found


async def list_presence(connection: Connection, *, timeout: float) -> list[SpacePresence]:
    """Return the spaces of a server, by name, with the connected processes; change nothing."""
    states = await _stream_states(connection, timeout)
    asked = [connected_processes(connection, Subjects(name), wait=timeout) for name in states]
    found = await asyncio.gather(*asked)
    return [
        SpacePresence(name, state["bytes"], tuple(processes))
        for (name, state), processes in zip(states.items(), found, strict=True)
    ]


async def _stream_states(connection: Connection, timeout: float) -> dict[str, dict[str, Any]]:
    """Return the states of the streams that are spaces, by the name of the space."""
    found: dict[str, dict[str, Any]] = {}
    offset = 0
    while True:
        answer = await connection.api("STREAM.LIST", {"offset": offset}, timeout=timeout)
        if error := answer.get("error"):
            raise HappenConnectionError(f"listing the spaces: {error['description']}")
        streams = answer.get("streams") or []
        for stream in streams:
            name = space_of(stream["config"]["name"])
            if name is not None:
                unfinished = stream["config"].get("metadata", {}).get(UNFINISHED, "")
                found[name] = {**stream["state"], "unfinished": unfinished}
        offset += len(streams)
        if not streams or offset >= answer["total"]:
            return dict(sorted(found.items()))


async def _count_nodes(connection: Connection, subjects: Subjects, timeout: float) -> int:
    newest = await read(
        connection,
        subjects.stream,
        subjects.states,
        policy="last_per_subject",
        headers_only=True,
        timeout=timeout,
    )
    return sum(not is_deletion(item.headers) for item in newest)


class _Listing:
    """The subscribers of a subject, as the servers of a cluster report them one by one."""

    def __init__(self, subject: str) -> None:
        self.subject = subject
        self.complete = asyncio.Event()  # set when every server that the question reached has reported
        self.subscribers: list[str] = []
        self.reached: dict[str, str] = {}
        self.reported: set[str] = set()

    async def report(self, message: CoreMessage) -> None:
        """Process a server's report: its subscribers, and the servers that it forwarded the question to."""
        report = orjson.loads(message.data)
        hop = "".join(report["request"]["header"].get("Nats-Trace-Hop", ()))
        self.reported.add(hop)
        for event in report["events"]:
            if event["type"] != "eg":
                continue
            if event["kind"] == _CLIENT and event.get("sub") == self.subject:
                self.subscribers.append(_described(event))
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
    return f'an unidentified process (connection {event.get("cid")}, named "{name}")'


async def connected_processes(
    connection: Connection, subjects: Subjects, *, wait: float = LISTING_SECONDS
) -> list[str]:
    """Return the other processes that are connected to a space now, named for people.

    The servers must answer within `wait` seconds, or it is a HappenConnectionError; the processes themselves
    are not asked.
    """
    listing = _Listing(subjects.who)
    inbox = connection.new_inbox()
    subscription = await connection.subscribe(inbox, listing.report)
    try:
        headers = {"Nats-Trace-Dest": inbox, "Nats-Trace-Only": "true"}
        async with asyncio.timeout(wait):
            while not listing.reported:  # a server that was killed may have lost the question
                await connection.wait_connected(wait)
                await connection.send(subjects.who, headers=headers)
                with suppress(TimeoutError):
                    await asyncio.wait_for(listing.complete.wait(), ASK_AGAIN_SECONDS)
            await listing.complete.wait()
    except TimeoutError:
        if not listing.reported:
            why = f'may this user publish to "{subjects.who}"?' if connection.connected else "is it running?"
            raise HappenConnectionError(
                f"{connection.where} did not report which processes are connected to the space "
                f'"{subjects.space}" within {wait:g} s; {why}'
            ) from None
    finally:
        await connection.unsubscribe(subscription)
    me = process_name()
    others = [name.removeprefix(f"{NAME} ").rsplit(" [", 1)[0] for name in listing.subscribers if name != me]
    unknown = [f"any process on the server {name}, which did not answer" for name in listing.silent]
    return list(dict.fromkeys(others)) + unknown


STATES: Final = frozenset(("accepted", "done", "failed"))  # the states of a reply
_TIMED: Final = ("events", "clock", "held", "step")  # the questions that give time to answer
_TRACE_MEMBERS: Final = ("node", "error", "remote_traceback")


def encode_message(message: dict[str, Any]) -> bytes:
    return dumps(freeze(message))


def decode_question(data: bytes) -> dict[str, Any]:
    """Decode a question to a live process; known members of another type are left out."""
    question = fields.of_type(fields.read_json(data), dict) if data else {}
    for name in ("send", "cancel", "from", "durable"):
        if not isinstance(question.get(name, ""), str):
            del question[name]
    if "events" in question:
        question["events"] = fields.texts(question["events"])
    if "held" in question:
        question["held"] = fields.natural(question["held"], 0)
    if "step" in question:
        question["step"] = decode_turn(question["step"])
    if "applies" in question:
        node, key, sequence, index = fields.of_type(question["applies"], list)
        label, handler = fields.label(node), fields.of_type(key, str)
        question["applies"] = (label, handler, (fields.natural(sequence), fields.natural(index)))
    if not question.keys().isdisjoint(_TIMED):
        for name in ("position", "wait"):
            question[name] = fields.natural(question.get(name), 0)
    return question


def decode_answer(question: dict[str, Any], data: bytes) -> dict[str, Any]:
    answer = fields.of_type(fields.read_json(data), dict)
    if not isinstance(answer.get("by", ""), str):
        del answer["by"]
    if "events" in question:
        position, open = fields.natural(answer.get("position")), fields.of_type(answer.get("open"), list)
        runs = answer.get("durable") is True
        return {**answer, "position": position, "open": fields.texts(open), "durable": runs}
    if "clock" in question:
        position, next = fields.natural(answer.get("position")), fields.iso_time(answer.get("next"))
        return {**answer, "position": position, "next": next, "busy": answer.get("busy") is not False}
    if "held" in question:
        turns = fields.of_type(answer.get("held"), list)
        found = [turn for item in turns if (turn := decode_turn(item)) is not None]
        return {**answer, "held": found, "count": fields.natural(answer.get("count"), 0)}
    if "step" in question:
        return {**answer, "done": answer.get("done") is True}
    return {**answer, "waiters": fields.natural(answer.get("waiters"), 0)}


def decode_applies(data: bytes, me: str) -> bool | None:
    """Decode another process's answer whether it will apply an event; None if it is this process's own."""
    try:
        answer = fields.of_type(fields.read_json(data), dict)
    except fields.UNREADABLE:
        return False
    return None if answer.get("incarnation") == me else answer.get("applies") is True


def decode_reply(id: str, reply: Any) -> dict[str, Any]:
    """Decode the reply to the event with this id from parsed JSON; its values are frozen.

    A failure always has ``kind``, ``message`` and the three texts of ``trace``.
    """
    reply = fields.of_type(reply, dict)
    state = reply.get("state")
    if not isinstance(state, str) or state not in STATES:
        raise ValueError(f'"state" is {_quoted(state)}; it is one of {", ".join(sorted(STATES))}')
    found: dict[str, Any] = {"event": id, "state": state}
    if reply.get("by") is not None:
        found["by"] = _text(reply, "by")
        if not is_name(found["by"]):
            raise ValueError(f'"by" is {_quoted(found["by"])}, which cannot be the name of a process')
    if reply.get("progress") is not None:
        if not isinstance(reply["progress"], list):
            raise TypeError(f'"progress" is {fields.kind_of(reply["progress"])}, not an array of values')
        found["progress"] = _frozen(reply, "progress")
    if state == "done":
        found["value"] = _frozen(reply, "value")
    elif state == "failed":
        found["kind"] = _text(reply, "kind", "HandlerError")
        found["message"] = _text(reply, "message", "the handler failed")
        trace = reply.get("trace")
        if trace is None or isinstance(trace, str):  # absent, or only the text of a traceback
            trace = {"remote_traceback": trace}
        if not isinstance(trace, dict):
            raise TypeError(f'"trace" is {fields.kind_of(trace)}, not an object or a string')
        found["trace"] = {member: _text(trace, member, "") for member in _TRACE_MEMBERS}
    return found


def encode_precedence(node: str, id: str, waited: int | None) -> bytes:
    """Encode the request of a writer to go first, with the ms for which it has lost; None withdraws it."""
    return encode_message(
        {"node": node, "id": id, **({"done": True} if waited is None else {"waited": waited})}
    )


def decode_precedence(data: bytes) -> tuple[str, str, int | None]:
    request = fields.of_type(fields.read_json(data), dict)
    node, id = fields.label(request.get("node")), fields.label(request.get("id"))
    return node, id, None if request.get("done") is True else fields.natural(request.get("waited"))


def _text(members: dict[str, Any], name: str, default: str | None = None) -> str:
    value = members.get(name)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise TypeError(f'"{name}" is {fields.kind_of(value)}, not a string')
    return value


def _frozen(members: dict[str, Any], name: str) -> Any:
    return freeze(members.get(name), what=f'"{name}"', error=ValueError)


def _quoted(value: Any) -> str:
    return f'"{value[:80]}"' if isinstance(value, str) else fields.kind_of(value)
