"""The wire format: subjects, headers, one encode and one decode.

======================================== ===============================================================
subject                                  message
======================================== ===============================================================
``$KV.happen_<space>.<node>``            a commit: the whole state as JSON, or ``KV-Operation: DEL|PURGE``
``happen.<space>.event.<sender>.<id>.*`` an event; the last token is its type, percent-encoded
``happen.<space>.event.~.<id>``          an event whose id the caller chose; sender and type in headers
``happen.<space>.event.<node>.<tick>.*`` the ticks of one ``every`` of a node; their tokens have a ``~``
``happen.<space>.alarm.<id>``             an event that the server publishes when it is due
``happen.<space>.clock``                 the time of a space with a manual clock
``happen.<space>.pace``                  whether events wait in all processes, and which one may begin
``happen.<space>.owner.<node>``          the process that handles the node's events from here on
``happen.<space>.handled.<incarnation>`` the events that a process handled, with the outcomes
``happen.<space>.start.<node>.<digest>`` where a state handler of the node starts
``happen.<space>.passed.<node>``          the events that state handlers of the node are done with, without a
                                         commit
``happen.<space>.durable.<node>.<digest>`` the progress of a durable handler of the node
``happen.<space>.once.<event>.<node>.*`` the result of a call that a handler makes once
``happen.<space>.clear``                 the space was emptied; everything before it is gone but the owners,
                                         which it carries on
``happen.<space>.sync``                  a barrier that a fresh read waits for; lives half a minute
``happen.<space>.guard``                 carries the guard of another subject in a batch; lives a second
``_happen.<space>.who``                  not stored: who is connected?
``_happen.<space>.live.<incarnation>``   not stored: is this process alive, what has it still to handle?
``_happen.<space>.reply.<address>``      not stored: progress and results for the sender with this address
``_happen.<space>.first``                not stored: a writer that others overtake asks to go first
======================================== ===============================================================

Header values are ASCII: JSON and percent-encoding ensure it.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from urllib.parse import quote

import orjson

from happen_nb._journal import fields
from happen_nb._model.arguments import is_name
from happen_nb._model.freeze import dumps, freeze, loads
from happen_nb._model.pace import NodeTurn, Pace, Since
from happen_nb._model.patterns import check_type, is_pattern
from happen_nb._model.positions import FLOOR, Progress, decode_positions, encode_positions
from happen_nb._model.records import (
    NO_ORIGIN,
    CommitRecord,
    EventRecord,
    HandledRecord,
    Origin,
    OwnerRecord,
)
from happen_nb._model.schedules import Alarm, ClockRecord, is_moment_text, utc_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from happen_nb._model.frozen import Frozen
    from happen_nb._model.positions import Position, Positions

T = TypeVar("T")

EXPECTED = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"
ROLLUP = "Nats-Rollup"
TTL = "Nats-TTL"
BATCH_ID = "Nats-Batch-Id"
BATCH_SEQUENCE = "Nats-Batch-Sequence"
BATCH_COMMIT = "Nats-Batch-Commit"
OPERATION = "KV-Operation"
MARKER = "Nats-Marker-Reason"
"""On the delete marker that the server places where a value expired or was removed."""
COMMIT = "Happen-Commit"
"""``<id> <revision> <read>``: one header, since each one costs its reader a microsecond or two."""
CAUSE = "Happen-Cause"
CORRELATION = "Happen-Correlation"
BY = "Happen-By"
PATH = "Happen-Path"
OMITTED = "Happen-Omitted"  # the number of ids that a long path leaves out after its first
EVENTS = "Happen-Events"
POSITIONS = "Happen-Handled"  # the progress of the node's state handlers
FOLDED = "Happen-Folded"  # the ids of the events that a commit applies beside its cause
KEY = "Happen-Key"  # the step of a durable handler that made the commit
ARGUMENTS = "Happen-Arguments"  # a digest of the arguments of a call whose result is stored
EVENT = "Happen-Event"
ALARM = "Happen-Alarm"  # the id of an alarm, and of one scheduling of it
DUE = "Happen-Due"  # the time at which a scheduled event is due, in the time of the space
SCHEDULE = "Nats-Schedule"
SCHEDULE_TARGET = "Nats-Schedule-Target"
SCHEDULE_TTL = "Nats-Schedule-TTL"
SCHEDULER = "Nats-Scheduler"
SCHEDULE_NEXT = "Nats-Schedule-Next"
NEVER = "2200-01-01T00:00:00Z"
"""The time of all alarms of a manual clock; beyond 2261 the server's own clock overflows, and they fire."""
CANCEL_MARGIN_SECONDS = 3600  # a cancel is stored longer than an event that the server publishes after it
CLOCK = "Happen-Clock"  # in a clear: the manual clock that goes on
CLEAR = "Happen-Clear"  # the id of a clear, which distinguishes it from another process's

_ID_MARKS: Final = ((f"\r\n{COMMIT}: ".encode(), b" "), (f'\r\n{EVENT}: {{"id":"'.encode(), b'"'))

_EVENT_MARK: Final = f"\r\n{EVENT}: ".encode()
_EVENT_NAME: Final = EVENT.encode()
_ALARM_NAME: Final = ALARM.encode()

UNREAD: Any = object()  # stands for a payload that was left out when its event was read
BARRIER_SECONDS = 30  # lifetime of a barrier: longer than a server that lags needs to reach it
MAX_HEADER_BYTES = 60_000
"""Limit of a commit's headers with events and path; a server accepts 64 kB. Larger ones become a batch."""
MAX_STATE_BYTES_WITH_EVENTS = 8_000  # the largest state beside which events still ride in the header
MAX_BATCH_MESSAGES = 999  # messages in one atomic batch; the server accepts fewer than 1,000
MAX_PATTERN_BYTES = 100_000
"""Limit of the patterns in an owner record; they only explain, so those beyond are left out."""
HEADER_RESERVE_BYTES = 4096  # room that a large body leaves for the headers of its message
MAX_HANDLINGS = 500  # handlings in one message
MAX_HANDLED_BYTES = 500_000  # limit of the handlings in one message
MAX_PAUSES = 100  # patterns in a record of the pace
MAX_HANDLER_NAME = 500  # characters of a handler's name
MAX_REPLY_BYTES = 200  # of a reply that is recorded with its handling; a longer one is not
MAX_DURABLE_REPLY_BYTES = 100_000  # the same for a reply to a durable handler
OUTCOMES: Final = frozenset(("done", "failed", "refused", "cancelled"))  # the outcomes of a handling


class Subjects:
    """The subjects and names of one space.

    Examples
    --------
    >>> Subjects("shop").state("orders")
    '$KV.happen_shop.orders'
    """

    def __init__(self, space: str) -> None:
        self.space = space
        self.stream = f"KV_happen_{space}"
        self.state_prefix = f"$KV.happen_{space}."
        self.states = f"{self.state_prefix}>"
        self.rest_prefix = f"happen.{space}."
        self.all = [self.states, f"{self.rest_prefix}>"]
        self.event_prefix = f"{self.rest_prefix}event."
        self.events = f"{self.event_prefix}>"
        self.owner_prefix = f"{self.rest_prefix}owner."
        self.owners = f"{self.owner_prefix}*"
        self.handled_prefix = f"{self.rest_prefix}handled."
        self.handled = f"{self.handled_prefix}*"
        self.start_prefix = f"{self.rest_prefix}start."
        self.starts = f"{self.start_prefix}>"
        self.passed_prefix = f"{self.rest_prefix}passed."
        self.passed = f"{self.passed_prefix}*"
        self.durable_prefix = f"{self.rest_prefix}durable."
        self.durables = f"{self.durable_prefix}>"
        self.once_prefix = f"{self.rest_prefix}once."
        self.alarm_prefix = f"{self.rest_prefix}alarm."
        self.alarms = f"{self.alarm_prefix}*"
        self.clock = f"{self.rest_prefix}clock"
        self.pace = f"{self.rest_prefix}pace"
        self.clear = f"{self.rest_prefix}clear"
        self.sync = f"{self.rest_prefix}sync"
        self.guard = f"{self.rest_prefix}guard"
        self.who = f"_happen.{space}.who"
        self.live_prefix = f"_happen.{space}.live."
        self.reply_prefix = f"_happen.{space}.reply."
        self.first = f"_happen.{space}.first"

    def state(self, node: str) -> str:
        """Return the key of a node's state."""
        return self.state_prefix + node

    def start(self, node: str, key: str) -> str:
        """Return the subject that holds where a state handler of a node starts."""
        return f"{self.start_prefix}{node}.{_digest(key)}"

    def durable(self, node: str, key: str) -> str:
        """Return the subject that holds the progress of a durable handler of a node."""
        return f"{self.durable_prefix}{node}.{_digest(key)}"

    def once(self, event: str, node: str, name: str) -> str:
        """Return the subject that holds the result of a call that a handler makes once."""
        return f"{self.once_prefix}{event}.{node}.{quote_type(name)}"

    def moment(self, event: str, node: str, handling: str) -> str:
        """Return the subject that holds the time of a durable handling."""
        return f"{self.once_prefix}{event}.{node}.~now-{handling}"

    def reply(self, event: str, node: str, key: str) -> str:
        """Return the subject that holds the reply that a step of a durable handler received."""
        return f"{self.once_prefix}{event}.{node}.~reply-{key.replace('.', '-')}"

    def ticks(self, node: str, tick: str) -> str:
        """Return the subject of the ticks of one ``every`` of a node."""
        return f"{self.event_prefix}{node}.{tick}.every"

    def event(self, event: EventRecord) -> str:
        """Return the subject of an event that does not ride on a commit."""
        if event.tick is not None:
            return self.ticks(event.sender, event.tick)
        if event.has_caller_id:
            return f"{self.event_prefix}~.{event.id}"
        return f"{self.event_prefix}{event.sender}.{event.id}.{quote_type(event.type)}"


def _digest(key: str) -> str:
    return hashlib.blake2b(key.encode(), digest_size=8).hexdigest()


@lru_cache(4096)
def quote_type(type: str) -> str:
    """Encode an event type as one subject token.

    Examples
    --------
    >>> quote_type("order.paid")
    'order%2Epaid'
    """
    return quote(type, safe="").replace(".", "%2E").replace("*", "%2A").replace("~", "%7E")


def space_of(stream: str) -> str | None:
    """Return the space that a stream belongs to; None for any other stream."""
    return stream.removeprefix("KV_happen_") if stream.startswith("KV_happen_") else None


class Message(NamedTuple):
    """A message to store."""

    subject: str
    body: bytes
    headers: dict[str, str]

    @property
    def header_size(self) -> int:
        return sum(len(key) + len(value.encode()) + 4 for key, value in self.headers.items())

    @property
    def size(self) -> int:
        """Bytes, as the server counts them."""
        return len(self.body) + self.header_size

    def with_headers(self, more: Mapping[str, str]) -> Message:
        return Message(self.subject, self.body, {**self.headers, **more})

    def without_guard(self) -> Message:
        """Return the message without its expectation: another one of its batch has it."""
        headers = {name: value for name, value in self.headers.items() if name != EXPECTED}
        return Message(self.subject, self.body, headers)


def encode_publish(message: Message) -> bytes:
    """Encode a message as the client sends it to the server, without a subject for an answer."""
    subject, body, headers = message
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    block = f"NATS/1.0\r\n{lines}\r\n".encode()
    size = len(block)
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (subject.encode(), size, size + len(body), block, body)


def peek_id(headers: bytes | Mapping[str, str]) -> str | None:
    """Return the id of a commit or event from headers that are not parsed yet; None if it is not there."""
    if isinstance(headers, bytes):
        for mark, end in _ID_MARKS:
            start = headers.find(mark) + len(mark)
            if start >= len(mark):
                return headers[start : headers.find(end, start)].decode(errors="replace")
    return None


@dataclass(frozen=True, slots=True)
class Handled:
    """The events that a process handled; the body is decoded on demand."""

    sequence: int
    by: str
    body: bytes

    def records(self) -> list[HandledRecord]:
        """Decode the handlings; unreadable ones, which another client wrote, are left out."""
        try:
            items = fields.of_type(fields.read_json(self.body), list)
        except fields.UNREADABLE:
            return []
        return [record for item in items if (record := _decode_handling(item, self.by)) is not None]


@dataclass(frozen=True, slots=True)
class Passed:
    """The progress that state handlers of a node made without a commit, after the commit at `base`.

    It counts if that still was the node's newest commit; 0 stands for a node without any.
    """

    sequence: int
    node: str
    base: int
    positions: Positions


@dataclass(frozen=True, slots=True)
class Clear:
    """The space was emptied at this position."""

    sequence: int
    time: int
    owners: tuple[OwnerRecord, ...] = ()
    id: str | None = None
    clock: ClockRecord | None = None


@dataclass(frozen=True, slots=True)
class Scheduled:
    """An event was scheduled: in the place of the one that its alarm had before."""

    sequence: int
    alarm: Alarm


@dataclass(frozen=True, slots=True)
class Ended:
    """A scheduled event was cancelled or replaced: if the server publishes it later, it does not count."""

    sequence: int
    alarm: str
    key: str | None = None
    """The key of the step of a durable handler that cancelled it."""

    @property
    def id(self) -> str:
        """The id of the event."""
        return self.alarm.partition(" ")[0]


@dataclass(frozen=True, slots=True)
class Other:
    """A message that changes nothing for its readers: a barrier, a guard, or a kind of a newer version."""

    sequence: int


Item = (
    CommitRecord
    | EventRecord
    | OwnerRecord
    | Handled
    | Passed
    | Clear
    | Scheduled
    | Ended
    | ClockRecord
    | Pace
    | Other
)
"""A decoded message of the journal."""


# -- encode ------------------------------------------------------------------------------------------


def encode_commit(
    subjects: Subjects,
    node: str,
    body: bytes | None,
    *,
    id: str,
    revision: int,
    read: int,
    expected: int,
    origin: Origin,
    positions: Positions | None = None,
    key: str | None = None,
    folded: Sequence[str] = (),
) -> Message:
    """Encode a commit, stored only if `expected` is still the sequence of the node's newest message."""
    headers = {EXPECTED: str(expected), COMMIT: f"{id} {revision} {read}"}
    cause, correlation, by, path, omitted = origin
    if cause is not None:
        headers[CAUSE] = cause
    if correlation is not None:
        headers[CORRELATION] = correlation
    if by is not None:
        headers[BY] = by
    if path:
        headers[PATH] = " ".join(path)
    if omitted:
        headers[OMITTED] = str(omitted)
    if positions:
        headers[POSITIONS] = encode_positions(positions)
    if key is not None:
        headers[KEY] = key
    if folded:
        headers[FOLDED] = " ".join(folded)
    if body is None:
        headers[OPERATION] = "DEL"
    return Message(subjects.state_prefix + node, b"" if body is None else body, headers)


def with_events(
    subjects: Subjects,
    commit: Message,
    events: Iterable[EventRecord],
    *,
    ttl: int,
    most: int = MAX_BATCH_MESSAGES,
) -> list[Message]:
    """Return the messages of a commit that emits: one if the events fit in its header, else a batch.

    Events with an id of the caller's go on subjects of their own, where an id can be unique. A batch of more
    than `most` messages carries as many of its first events as possible in the header of the commit.
    """
    events = list(events)
    if not events:
        return [commit]
    riding: list[str] = []
    if len(commit.body) <= MAX_STATE_BYTES_WITH_EVENTS and not any(event.has_caller_id for event in events):
        riding = _first_fitting(commit, events)
    if len(riding) < len(events):
        riding = _first_fitting(commit, events) if 1 + len(events) > most else []
    if riding:
        commit = commit.with_headers({EVENTS: f"[{','.join(riding)}]"})
    return [commit, *(encode_event(subjects, event, ttl=ttl) for event in events[len(riding) :])]


def _first_fitting(commit: Message, events: Iterable[EventRecord]) -> list[str]:
    """Encode the first events, as many as fit in the header of their commit."""
    room = MAX_HEADER_BYTES - commit.header_size - len(EVENTS) - len(": []\r\n")
    found: list[str] = []
    for event in events:
        if event.has_caller_id:
            break
        text = _ascii(_event_fields(event))
        room -= len(text) + 1
        if room < 0:
            break
        found.append(text)
    return found


def encode_event(subjects: Subjects, event: EventRecord, *, ttl: int, expected: int = 0) -> Message:
    """Encode an event for its own subject, which must be unused, so it is stored once; `ttl` in seconds.

    `expected` is the sequence of what may be there all the same, such as a cancel.
    """
    headers = {EXPECTED: str(expected), EVENT: _about(event), TTL: str(ttl)}
    return Message(subjects.event(event), dumps(event.payload), headers)


def encode_alarm(
    subjects: Subjects, event: EventRecord, *, ttl: int, expected: int, never: bool = False
) -> Message:
    """Encode an event that the server publishes when it is due, with `ttl` seconds to live.

    `expected` is the sequence of the alarm that it replaces. `never` is for a manual clock, whose `advance`
    publishes the event.
    """
    alarm, due = event.alarm, event.due
    assert alarm is not None
    assert due is not None
    headers = {
        EXPECTED: str(expected),
        EVENT: _about(event),
        ALARM: alarm,
        DUE: due,
        SCHEDULE: f"@at {NEVER if never else due}",
        SCHEDULE_TARGET: subjects.event(event),
        SCHEDULE_TTL: f"{ttl}s",
    }
    return Message(subjects.alarm_prefix + alarm.partition(" ")[0], dumps(event.payload), headers)


def encode_delivery(subjects: Subjects, alarm: Alarm, *, ttl: int) -> Message:
    """Encode a scheduled event that is delivered now, and removes its alarm, if that is still there."""
    event = alarm.event
    assert event is not None
    headers = {EVENT: _about(event), DUE: alarm.due, TTL: str(ttl), **_ending(subjects, alarm)}
    return Message(alarm.target, dumps(event.payload), headers)


def encode_cancel(subjects: Subjects, alarm: Alarm, *, ttl: int, key: str | None = None) -> Message:
    """Encode the cancel of a scheduled event, which removes its alarm, if that is still there.

    It is stored where the event would be: if the server publishes that later, readers find the cancel first.
    """
    headers = {TTL: str(ttl + CANCEL_MARGIN_SECONDS), **_ending(subjects, alarm)}
    if key is not None:
        headers[KEY] = key
    return Message(alarm.target, b"", headers)


def encode_replaced(alarm: Alarm, *, ttl: int) -> Message:
    """Encode that another event takes the place of a scheduled one; it goes in a batch with that."""
    return Message(alarm.target, b"", {ALARM: alarm.name, TTL: str(ttl + CANCEL_MARGIN_SECONDS)})


def _ending(subjects: Subjects, alarm: Alarm) -> dict[str, str]:
    subject = subjects.alarm_prefix + alarm.id
    return {
        ALARM: alarm.name,
        SCHEDULER: subject,
        SCHEDULE_NEXT: "purge",
        EXPECTED: str(alarm.sequence),
        EXPECTED_SUBJECT: subject,
    }


def encode_clock(subjects: Subjects, now: str, *, expected: int) -> Message:
    """Encode the time of a manual clock; `expected` is the sequence of the one before."""
    return Message(subjects.clock, orjson.dumps({"now": now}), {EXPECTED: str(expected)})


def encode_pace(subjects: Subjects, pace: Pace) -> Message:
    """Encode the pace of a space; its ``sequence`` is that of the record before.

    A pause whose sequence is 0 begins with this message.
    """
    about: dict[str, Any] = {}
    if pace.pauses:
        about["pauses"] = [
            {"pattern": each.pattern, "since": each.sequence or None} for each in pace.pauses[-MAX_PAUSES:]
        ]
    if pace.next is not None:
        about["next"] = list(pace.next)
    if pace.slow is not None:
        about["slow"] = pace.slow
    if pace.id is not None:
        about["id"] = pace.id
    return Message(subjects.pace, _ascii(about).encode(), {EXPECTED: str(pace.sequence)})


def _about(event: EventRecord) -> str:
    about = _event_fields(event)
    del about["payload"]
    return _ascii(about)


def _ascii(value: Any) -> str:
    text = orjson.dumps(value).decode()
    return text if text.isascii() else json.dumps(value, separators=(",", ":"))


def _event_fields(event: EventRecord) -> dict[str, Any]:
    about: dict[str, Any] = {"id": event.id, "type": event.type, "sender": event.sender}
    for name in ("target", "cause", "correlation", "occurred"):
        if (value := getattr(event, name)) is not None:
            about[name] = value
    if event.publish_id is not None:
        about["nonce"] = event.publish_id
    if event.key is not None:
        about["key"] = event.key
    if event.path:
        about["path"] = event.path
    if event.omitted:
        about["omitted"] = event.omitted
    return {**about, "payload": event.payload}


def batch(messages: list[Message], id: str) -> list[Message]:
    """Turn messages into one atomic batch: all are stored, or none."""
    numbered = [
        message.with_headers({BATCH_ID: id, BATCH_SEQUENCE: str(number)})
        for number, message in enumerate(messages, 1)
    ]
    return [*numbered[:-1], numbered[-1].with_headers({BATCH_COMMIT: "1"})]


def encode_guard(subjects: Subjects, subject: str, expected: int) -> Message:
    """Encode a guard: a message of a batch that stops it if `subject` has a message after `expected`."""
    return Message(subjects.guard, b"", {EXPECTED: str(expected), EXPECTED_SUBJECT: subject, TTL: "1"})


def guard_all(subjects: Subjects, commit: Message, expected: int) -> Message:
    """Return the commit, stored only if no node at all has changed since `expected`.

    Servers with replicas do not check this guard exactly; there each viewed key has an `encode_guard`.
    """
    return commit.with_headers({EXPECTED: str(expected), EXPECTED_SUBJECT: subjects.states})


def encode_owner(subjects: Subjects, owner: OwnerRecord, *, expected: int) -> Message:
    """Encode the owner of a node; `expected` is the sequence of the record that it replaces."""
    body = json.dumps(_owner_fields(owner)).encode()
    return Message(subjects.owner_prefix + owner.node, body, {EXPECTED: str(expected)})


def _owner_fields(owner: OwnerRecord, *, patterns: bool = True) -> dict[str, Any]:
    more = {
        "state_handlers": list(owner.state_handlers),
        "durable": _fitting(owner.durable) if patterns else [],
        "sources": dict(_fitting(owner.sources)) if patterns else {},
    }
    return {
        "node": owner.node,
        "incarnation": owner.incarnation,
        "patterns": _fitting(owner.patterns) if patterns else [],
        "pid": owner.pid,
        "host": owner.host,
        "since": owner.since,
        "takeover": owner.takeover,
        **{name: value for name, value in more.items() if value},
    }


def _fitting(items: tuple[T, ...]) -> list[T]:
    """Return the first items, as many as an owner record may hold."""
    sizes = accumulate(len(json.dumps(item)) + 2 for item in items)
    return [item for item, size in zip(items, sizes, strict=True) if size <= MAX_PATTERN_BYTES]


class Start(NamedTuple):
    """The start of a handler of a node: it handles the events after `position`."""

    node: str
    key: str
    pattern: str | None  # None for a predicate, which cannot be stored
    position: Position


def encode_result(subject: str, value: Frozen, *, ttl: int, arguments: str | None = None) -> Message:
    """Encode the result of a call, stored once; `ttl` is in seconds, `arguments` is a digest of them."""
    headers = {EXPECTED: "0", TTL: str(ttl)}
    if arguments is not None:
        headers[ARGUMENTS] = arguments
    return Message(subject, dumps(value), headers)


class CallResult(NamedTuple):
    """The stored result of a call: its JSON, and the digest of the arguments if that is known."""

    body: bytes
    arguments: str | None


def encode_start(
    subjects: Subjects, node: str, key: str, pattern: str | None, position: Position | None
) -> Message:
    """Encode the start of a state handler, stored once; a `position` of None means this message's."""
    return Message(subjects.start(node, key), _start_body(key, pattern, position), {EXPECTED: "0"})


def encode_durable(
    subjects: Subjects, node: str, key: str, pattern: str | None, position: Position | None, *, expected: int
) -> Message:
    """Encode the progress of a durable handler: all events up to `position` are done.

    It replaces the one before, at the sequence `expected`. None means the position of this message.
    """
    body = _start_body(key, pattern, position)
    return Message(subjects.durable(node, key), body, {EXPECTED: str(expected), ROLLUP: "sub"})


def _start_body(key: str, pattern: str | None, position: Position | None) -> bytes:
    at = None if position is None else list(position)
    return orjson.dumps({"handler": key, "pattern": pattern, "at": at})


def decode_start(subject: str, body: bytes, sequence: int) -> Start:
    """Decode the start of a state handler or the progress of a durable one.

    An unreadable message stands for its own position.
    """
    about = _json_or_none(body)
    about = about if isinstance(about, dict) else {}
    key, pattern, at = (about.get(name) for name in ("handler", "pattern", "at"))
    position = sequence, 0
    match at:
        case [int(first), int(index)] if 0 <= first <= sequence and index >= 0:
            position = first, index
    return Start(
        subject.split(".")[-2],
        key if isinstance(key, str) else "",
        pattern if isinstance(pattern, str) and is_pattern(pattern) else None,
        position,
    )


def encode_passed(subjects: Subjects, node: str, base: int, positions: Positions) -> Message:
    """Encode the progress of state handlers without a commit; it replaces the one before.

    It is stored only if `base` is still the sequence of the node's newest commit.
    """
    body = orjson.dumps({"base": base, "handled": encode_positions(positions)})
    guard = {EXPECTED: str(base), EXPECTED_SUBJECT: subjects.state(node), ROLLUP: "sub"}
    return Message(subjects.passed_prefix + node, body, guard)


def encode_handled(
    subjects: Subjects,
    records: Iterable[HandledRecord],
    *,
    by: str,
    ttl: int,
    limit: int = MAX_HANDLED_BYTES,
) -> Iterator[tuple[Message, int]]:
    """Encode handlings in messages of no more than `limit` bytes, each with the number of its records.

    `ttl` is in seconds.
    """
    items: list[bytes] = []
    size = 0
    subject, headers = subjects.handled_prefix + by, {TTL: str(ttl)}
    for record in records:
        text = _encode_handling(record, limit)
        if items and (size + len(text) > limit or len(items) == MAX_HANDLINGS):
            yield Message(subject, b"[%s]" % b",".join(items), headers), len(items)
            items, size = [], 0
        items.append(text)
        size += len(text) + 1
    if items:
        yield Message(subject, b"[%s]" % b",".join(items), headers), len(items)


_NOTHING_MORE: Final[list[object]] = [None, None, None]


def _encode_handling(record: HandledRecord, limit: int) -> bytes:
    """Encode one handling; without its reply if that does not fit, and the text of its error is halved."""
    event, node, handler, outcome, duration, error, attempts, _, waited, reply, *rest = record
    if error is None and reply is None and waited is not None and rest == _NOTHING_MORE:
        item = [event, node, handler[:MAX_HANDLER_NAME], outcome, round(duration, 6), None, attempts]
        return orjson.dumps([*item, round(waited, 6)])  # as most are
    while True:
        last = [None if waited is None else round(waited, 6), reply, *rest]
        while last and last[-1] is None:
            last.pop()
        item = [event, node, handler[:MAX_HANDLER_NAME], outcome, round(duration, 6), error, attempts, *last]
        try:
            text = orjson.dumps(item)
        except orjson.JSONEncodeError:  # half a character in the text of an error
            text = json.dumps(item).encode()
        if len(text) <= limit or not (reply or error):
            return text
        reply, error = None, error and error[: len(error) // 2]


def encode_clear(
    subjects: Subjects,
    owners: Iterable[OwnerRecord],
    *,
    limit: int,
    id: str,
    expected: int,
    clock: str | None = None,
) -> Message:
    """Encode a clear, stored only if `expected` is still the newest one.

    It carries the owners on, of nodes that have one. If they take more than `limit` bytes, it carries no
    patterns; each owner stores its own again. `clock` is the time of a manual clock, which goes on.
    """
    owners = [owner for owner in owners if owner.incarnation is not None]
    for patterns in (True, False):
        body = json.dumps([_owner_fields(owner, patterns=patterns) for owner in owners]).encode()
        if len(body) <= limit:
            break
    headers = {ROLLUP: "all", EXPECTED: str(expected), CLEAR: id}
    return Message(subjects.clear, body, headers if clock is None else {**headers, CLOCK: clock})


def encode_barrier(subjects: Subjects) -> Message:
    """Encode a barrier; it replaces the one before, whose reader waits for this one instead."""
    return Message(subjects.sync, b"", {TTL: str(BARRIER_SECONDS), ROLLUP: "sub"})


# -- decode ------------------------------------------------------------------------------------------


def decode(
    subjects: Subjects,
    subject: str,
    headers: Mapping[str, str] | None,
    body: bytes,
    sequence: int,
    time: int,
    *,
    payload: Callable[[bytes], Frozen] = loads,
) -> Item:
    """Decode a stored message; `payload` reads the body of an event.

    A commit that another client wrote, or whose headers cannot be read, has revision 0; an event that cannot
    be read is an `Other`: a follower continues whatever is stored.
    """
    headers = headers or {}
    if subject.startswith(subjects.state_prefix):
        node = subject[len(subjects.state_prefix) :]
        try:
            return _decode_commit(node, headers, body, sequence, time)
        except fields.UNREADABLE:
            return CommitRecord(node, sequence, 0, time, _state_body(headers, body))
    if subject.startswith((subjects.event_prefix, subjects.alarm_prefix)):
        try:
            if ALARM in headers and EVENT not in headers:
                return Ended(sequence, fields.label(headers[ALARM]), headers.get(KEY))
            about = fields.of_type(fields.read_json(headers[EVENT]), dict)
            record = _decode_event(about, payload(body), body, sequence, 0, time)
            if subject.startswith(subjects.alarm_prefix):
                return Scheduled(sequence, _alarm(subjects, _scheduled(record, headers), subject))
            return record if ALARM not in headers else _scheduled(record, headers)
        except fields.UNREADABLE:
            return Other(sequence)
    return _decode_other(subjects, subject, headers, body, sequence, time)


def _decode_other(
    subjects: Subjects, subject: str, headers: Mapping[str, str], body: bytes, sequence: int, time: int
) -> Item:
    """Decode a message that is neither a commit nor an event."""
    if subject.startswith(subjects.handled_prefix):
        return Handled(sequence, subject[len(subjects.handled_prefix) :], body)
    if subject.startswith(subjects.passed_prefix):
        return _decode_passed(subject[len(subjects.passed_prefix) :], _json_or_none(body), sequence)
    if subject.startswith(subjects.owner_prefix):
        node = subject[len(subjects.owner_prefix) :]
        return _decode_owner(node, _json_or_none(body), sequence) if is_name(node) else Other(sequence)
    if subject == subjects.clear and headers.get(ROLLUP) == "all":  # else nothing was removed
        now = fields.iso_time(headers.get(CLOCK))
        clock = None if now is None else ClockRecord(0, time, utc_text(now))  # its subject is empty
        return Clear(sequence, time, _carried_owners(_json_or_none(body)), headers.get(CLEAR), clock)
    if subject == subjects.clock:
        about = _json_or_none(body)
        now = fields.iso_time(about.get("now")) if isinstance(about, dict) else None
        return Other(sequence) if now is None else ClockRecord(sequence, time, utc_text(now))
    if subject == subjects.pace:
        return _decode_pace(_json_or_none(body), sequence)
    return Other(sequence)


def _decode_pace(about: Any, sequence: int) -> Pace:
    """Decode the pace of a space; what cannot be read lets no event wait."""
    about = about if isinstance(about, dict) else {}
    pauses = about.get("pauses")
    found = tuple(
        Since(each["pattern"], fields.natural(each.get("since"), 0) or sequence)
        for each in (pauses if isinstance(pauses, list) else ())
        if isinstance(each, dict) and isinstance(each.get("pattern"), str) and is_pattern(each["pattern"])
    )
    slow, id = about.get("slow"), about.get("id")
    return Pace(
        sequence,
        found,
        decode_turn(about.get("next")),
        float(slow) if type(slow) in _NUMBERS and 0 < slow < _MAX_DURATION else None,
        id if isinstance(id, str) else None,
    )


def decode_turn(item: Any) -> NodeTurn | None:
    """Decode the turn of a node to handle an event; None if it cannot be read."""
    match item:
        case [int(sequence), int(number), str(node)] if sequence > 0 and number >= 0 and is_name(node):
            return NodeTurn(sequence, number, node)
    return None


def _scheduled(event: EventRecord, headers: Mapping[str, str]) -> EventRecord:
    """Return the event with the name of its alarm and its due time."""
    id, _, one = fields.label(headers[ALARM]).partition(" ")
    due = fields.iso_time(headers[DUE])
    if not one or due is None:
        raise ValueError("it is not a scheduled event")
    return replace(event, alarm=f"{fields.event_id(id)} {one}", due=utc_text(due))


def _alarm(subjects: Subjects, event: EventRecord, subject: str) -> Alarm:
    alarm, due = event.alarm, event.due
    assert alarm is not None
    assert due is not None
    id, _, one = alarm.partition(" ")
    if subject != subjects.alarm_prefix + id:
        raise ValueError("it is the alarm of another event")
    return Alarm(id, one, event.sequence, due, subjects.event(event), event)


def _json_or_none(body: bytes) -> Any:
    try:
        return fields.read_json(body)
    except fields.UNREADABLE:
        return None


def _decode_passed(node: str, about: Any, sequence: int) -> Passed | Other:
    """Decode progress without a commit; what another client wrote may not be valid."""
    try:
        about = fields.of_type(about, dict)
        base = fields.of_type(about["base"], int)
        positions = decode_positions(fields.of_type(about["handled"], str))
    except fields.UNREADABLE:
        return Other(sequence)
    return Passed(sequence, node, base, positions) if is_name(node) else Other(sequence)


def _decode_owner(node: str, about: Any, sequence: int) -> OwnerRecord:
    """Decode an owner; where another client wrote a record that names no process, the node has no owner."""
    incarnation = about.get("incarnation") if isinstance(about, dict) else None
    if not isinstance(incarnation, str) or not is_name(incarnation):
        return OwnerRecord(node, None, sequence=sequence)
    host = about.get("host")
    return OwnerRecord(
        node,
        incarnation,
        tuple(filter(is_pattern, fields.texts(about.get("patterns")))),
        fields.natural(about.get("pid"), 0),
        host if isinstance(host, str) and fields.is_label(host) else "",
        fields.natural(about.get("since"), 0),
        about.get("takeover") is True,
        sequence,
        tuple(fields.texts(about.get("state_handlers"))),
        tuple(filter(is_pattern, fields.texts(about.get("durable")))),
        _decode_sources(about.get("sources")),
    )


def _decode_sources(about: Any) -> tuple[tuple[str, str], ...]:
    items = about.items() if isinstance(about, dict) else ()
    return tuple((key, digest) for key, digest in items if isinstance(digest, str))


def _carried_owners(items: Any) -> tuple[OwnerRecord, ...]:
    """Decode the owners of a clear; another client's may carry anything."""
    if not isinstance(items, list):
        return ()
    named = [(item.get("node"), item) for item in items if isinstance(item, dict)]
    return tuple(
        _decode_owner(node, item, 0) for node, item in named if isinstance(node, str) and is_name(node)
    )


def revision_of(headers: Mapping[str, str]) -> int:
    """Return the revision in a commit's headers; 0 if another client wrote it."""
    try:
        return fields.digits(headers[COMMIT].split(" ")[1])
    except (KeyError, ValueError, IndexError):
        return 0


_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def lifetime(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that a message lives, by its ``Nats-TTL``; None if it does not expire.

    Examples
    --------
    >>> lifetime({"Nats-TTL": "1m30s"}), lifetime({"Nats-TTL": "5"}), lifetime({"Nats-TTL": "never"})
    (90.0, 5.0, None)
    """
    text = headers.get(TTL)
    if text is None:
        return None
    if re.fullmatch(r"\d{1,12}", text):
        return float(text)
    if not re.fullmatch(r"(\d{1,12}(\.\d{1,12})?(h|ms|m|s|us|µs|ns))+", text):
        return None
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)", text)
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)


def is_deletion(headers: Mapping[str, str]) -> bool:
    """Return True if a message on a node's key ends the node: a client's mark, or the server's."""
    return headers.get(OPERATION) in ("DEL", "PURGE") or MARKER in headers


def _state_body(headers: Mapping[str, str], body: bytes) -> bytes | None:
    return None if is_deletion(headers) else body


def _decode_commit(
    node: str, headers: Mapping[str, str], body: bytes, sequence: int, time: int
) -> CommitRecord:
    get = headers.get
    state = _state_body(headers, body)
    commit = get(COMMIT)
    if commit is None:
        return CommitRecord(node, sequence, 0, time, state, positions=_floor(headers, sequence))
    id, revision, read = commit.split(" ")
    cause, correlation, by, path = get(CAUSE), get(CORRELATION), get(BY), get(PATH)
    origin = NO_ORIGIN
    if not (cause is correlation is by is path is None):
        origin = Origin(
            fields.optional_path_id(cause),
            fields.optional_path_id(correlation),
            None if by is None else fields.label(by),
            fields.path_ids(path.split(" ")) if path else (),
            fields.digits(get(OMITTED, "0")),
        )
    text = get(EVENTS)
    events: tuple[EventRecord, ...] = ()
    if text is not None:
        events = tuple(
            _decode_event(fields.of_type(about, dict), freeze(about["payload"]), None, sequence, index, time)
            for index, about in enumerate(fields.of_type(fields.read_json(text), list))
        )
    at = fields.digits(revision), fields.digits(read)
    where = get(POSITIONS)
    positions = None if where is None else decode_positions(where)
    if state is None:
        positions = {}  # the handlers of a node that is created again start anew
    ids = get(FOLDED)
    return CommitRecord(
        node,
        sequence,
        at[0],
        time,
        state,
        fields.path_id(id),
        at[1],
        origin,
        events,
        positions,
        get(KEY),
        fields.path_ids(ids.split(" ")) if ids else (),
    )


def decode_plain_event(
    headers: bytes | Mapping[str, str], body: bytes, sequence: int, time: int
) -> EventRecord | None:
    """Decode an event without parsing all its headers; None if it is not as this library writes most of them.

    There may be a hundred thousand to read.
    """
    if not isinstance(headers, bytes) or _ALARM_NAME in headers or headers.count(_EVENT_NAME) != 1:
        return None
    start = headers.find(_EVENT_MARK) + len(_EVENT_MARK)
    if start < len(_EVENT_MARK):
        return None
    try:
        about = fields.of_type(fields.read_json(headers[start : headers.find(b"\r\n", start)]), dict)
        return _decode_event(about, loads(body), body, sequence, 0, time)
    except fields.UNREADABLE:
        return None


def _floor(headers: Mapping[str, str], sequence: int) -> Positions | None:
    """Return the positions after a purge by another client, which removed those of all handlers."""
    return {FLOOR: Progress((sequence, 0))} if headers.get(OPERATION) == "PURGE" else None


def _decode_event(
    about: dict[str, Any], payload: Frozen, body: bytes | None, sequence: int, index: int, time: int
) -> EventRecord:
    get = about.get
    target, nonce, key = get("target"), get("nonce"), get("key")
    return EventRecord(
        fields.event_id(about["id"]),
        check_type(about["type"]),
        fields.label(about["sender"]),
        payload,
        None if target is None else fields.label(target),
        fields.optional_path_id(get("cause")) if "cause" in about else None,
        fields.optional_path_id(get("correlation")) if "correlation" in about else None,
        fields.path_ids(fields.of_type(about["path"], list)) if "path" in about else (),
        fields.iso_time(get("occurred")) if "occurred" in about else None,
        None if nonce is None else fields.of_type(nonce, str),
        fields.natural(get("omitted"), 0) if "omitted" in about else 0,
        key if isinstance(key, str) else None,
        sequence,
        index,
        time,
        dumps(payload) if body is None else body,
    )


# Where a writer left out the last members.
_HANDLING_DEFAULTS: Final = (None, None, None, None, 0.0, None, 1, None, None, None, None, None)
_NUMBERS: Final = (float, int)  # no bool
_MAX_DURATION: Final = 1e9  # seconds


def _decode_handling(item: Any, by: str) -> HandledRecord | None:
    """Decode one handling; None if it cannot be read. Later versions may append members."""
    if type(item) is not list:
        return None
    size = len(_HANDLING_DEFAULTS)
    whole = item if len(item) == size else [*item[:size], *_HANDLING_DEFAULTS[len(item) :]]
    event, node, handler, outcome, duration, error, attempts, waited, reply, position, handling, now = whole
    if not (type(event) is type(node) is type(handler) is type(outcome) is str):
        return None
    if not (type(duration) in _NUMBERS and type(attempts) is int and (error is None or type(error) is str)):
        return None
    if not (0 <= duration < _MAX_DURATION and 0 < attempts <= fields.LARGEST and outcome in OUTCOMES):
        return None
    if not (is_name(node) and fields.is_label(handler)):
        return None
    if not (type(waited) in _NUMBERS and 0 <= waited < _MAX_DURATION):
        waited = None
    if not (type(reply) is str and len(reply) <= MAX_DURABLE_REPLY_BYTES):
        reply = None
    if not (type(position) is int and 0 <= position <= fields.LARGEST):
        position = None
    handling = handling if type(handling) is str else None
    now = now if is_moment_text(now) else None
    return HandledRecord(
        event, node, handler, outcome, duration, error, attempts, by, waited, reply, position, handling, now
    )
