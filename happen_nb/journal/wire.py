"""The wire format: subjects, headers, one encode and one decode.

======================================== ===============================================================
subject                                  what a message on it is
======================================== ===============================================================
``$KV.happen_<space>.<node>``            a commit: the whole state as JSON, or ``KV-Operation: DEL|PURGE``
``happen.<space>.event.<sender>.<id>.*`` an event; the last token is its type, percent-encoded
``happen.<space>.event.~.<id>``          an event whose id the caller chose; sender and type in headers
``happen.<space>.owner.<node>``          which process handles the node's events from here on
``happen.<space>.handled.<incarnation>`` what a process handled, and with which outcome
``happen.<space>.clear``                 the space was emptied; everything before it is gone but the owners,
                                         which it carries on
``happen.<space>.sync``                  a barrier that a fresh read waits for; lives half a minute
``happen.<space>.guard``                 carries the guard of another subject in a batch; lives a second
``_happen.<space>.who``                  not stored: who is connected?
``_happen.<space>.live.<incarnation>``   not stored: is this process alive, what has it still to handle?
``_happen.<space>.reply.<address>``      not stored: progress and result of what was sent from there
======================================== ===============================================================

Header values are ASCII: JSON and percent-encoding see to that.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import starmap
from typing import TYPE_CHECKING, Any

import orjson

from happen_nb.model.commits import (
    NO_ORIGIN,
    CommitRecord,
    EventRecord,
    HandledRecord,
    Origin,
    OwnerRecord,
)
from happen_nb.model.values import dumps, freeze, loads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from happen_nb.journal.subjects import Subjects
    from happen_nb.model.frozen import Frozen

EXPECTED = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"
ROLLUP = "Nats-Rollup"
TTL = "Nats-TTL"
BATCH_ID = "Nats-Batch-Id"
BATCH_SEQUENCE = "Nats-Batch-Sequence"
BATCH_COMMIT = "Nats-Batch-Commit"
OPERATION = "KV-Operation"

COMMIT = "Happen-Commit"
"""``<id> <revision> <read>``: one header, since each one costs its reader a microsecond or two."""
CAUSE = "Happen-Cause"
CORRELATION = "Happen-Correlation"
BY = "Happen-By"
PATH = "Happen-Path"
EVENTS = "Happen-Events"
EVENT = "Happen-Event"

UNREAD: Any = object()
"""Stands for a payload that was left out when its event was read."""
CLEAR = "Happen-Clear"
"""The id of a clear, which tells it from another process's."""
SYNC_SECONDS = 30
"""How long a barrier lives: longer than a server that lags needs to reach it."""
HEADER_LIMIT = 48_000
"""Bytes of events that ride in a commit's header; more go on subjects of their own."""
BODY_LIMIT = 8_000
"""Bytes of a body beside which events still ride in the header."""


@dataclass(frozen=True, slots=True)
class Message:
    """Something to store: a subject, headers and a body."""

    subject: str
    body: bytes
    headers: dict[str, str]

    @property
    def size(self) -> int:
        """Bytes, as the server counts them."""
        return len(self.body) + sum(len(key) + len(value) + 4 for key, value in self.headers.items())


@dataclass(frozen=True, slots=True)
class Clear:
    """The space was emptied at this position."""

    sequence: int
    time: int
    owners: tuple[OwnerRecord, ...] = ()
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Handled:
    """What a process handled; its body is read by who wants to know."""

    sequence: int
    by: str
    body: bytes

    def records(self) -> list[HandledRecord]:
        """The handlings in it; none if it cannot be read."""
        try:
            return list(starmap(partial(HandledRecord, by=self.by), _json(self.body)))
        except _UNREADABLE:
            return []


@dataclass(frozen=True, slots=True)
class Other:
    """A message that changes nothing a reader holds: a barrier, a guard, or a kind of a newer version."""

    sequence: int


Item = CommitRecord | EventRecord | OwnerRecord | Handled | Clear | Other
"""What the journal holds."""


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
) -> Message:
    """A commit that is stored only if `expected` is still the sequence of the node's newest message."""
    headers = {EXPECTED: str(expected), COMMIT: f"{id} {revision} {read}"}
    if origin.cause is not None:
        headers[CAUSE] = origin.cause
    if origin.correlation is not None:
        headers[CORRELATION] = origin.correlation
    if origin.by is not None:
        headers[BY] = origin.by
    if origin.path:
        headers[PATH] = " ".join(origin.path)
    if body is None:
        headers[OPERATION] = "DEL"
    return Message(subjects.state(node), b"" if body is None else body, headers)


def with_events(
    subjects: Subjects, commit: Message, events: Iterable[EventRecord], *, ttl: int
) -> list[Message]:
    """The messages of a commit that emits: one if the events fit in its header, else a batch.

    Events that a caller named go on subjects of their own, where an id can be unique.
    """
    events = list(events)
    if not events:
        return [commit]
    if len(commit.body) <= BODY_LIMIT and not any(event.keyed for event in events):
        text = _ascii([_event_fields(event) for event in events])
        if len(text) <= HEADER_LIMIT:
            return [Message(commit.subject, commit.body, {**commit.headers, EVENTS: text})]
    return [commit, *(encode_event(subjects, event, ttl=ttl) for event in events)]


def encode_event(subjects: Subjects, event: EventRecord, *, ttl: int) -> Message:
    """An event on a subject of its own; `ttl` in seconds. It is stored once: nothing may be there yet."""
    fields = _event_fields(event)
    del fields["payload"]
    headers = {EXPECTED: "0", EVENT: _ascii(fields), TTL: str(ttl)}
    return Message(subjects.event(event), dumps(event.payload), headers)


def _ascii(value: Any) -> str:
    """A value as JSON in ASCII, as headers must be."""
    text = orjson.dumps(value).decode()
    return text if text.isascii() else json.dumps(value, separators=(",", ":"))


def _event_fields(event: EventRecord) -> dict[str, Any]:
    fields: dict[str, Any] = {"id": event.id, "type": event.type, "sender": event.sender}
    for name in ("target", "cause", "correlation", "occurred", "nonce"):
        if (value := getattr(event, name)) is not None:
            fields[name] = value
    if event.path:
        fields["path"] = event.path
    return {**fields, "payload": event.payload}


def batch(messages: list[Message], id: str) -> list[Message]:
    """The same messages as one atomic batch: all are stored, or none."""
    last = len(messages)
    return [
        Message(
            message.subject,
            message.body,
            {
                **message.headers,
                BATCH_ID: id,
                BATCH_SEQUENCE: str(number),
                **({BATCH_COMMIT: "1"} if number == last else {}),
            },
        )
        for number, message in enumerate(messages, 1)
    ]


def encode_guard(subjects: Subjects, node: str, expected: int) -> Message:
    """A message of a batch that stops it if `node` has changed since `expected`."""
    return _guard(subjects, subjects.state(node), expected)


def guard_clear(subjects: Subjects, expected: int) -> Message:
    """A message of a batch that stops it if the space was cleared since `expected`."""
    return _guard(subjects, subjects.clear, expected)


def _guard(subjects: Subjects, subject: str, expected: int) -> Message:
    return Message(subjects.guard, b"", {EXPECTED: str(expected), EXPECTED_SUBJECT: subject, TTL: "1"})


def guard_all(subjects: Subjects, commit: Message, expected: int) -> Message:
    """The commit, stored only if no node at all has changed since `expected`.

    Servers with replicas do not hold this guard exactly; there each viewed key has an `encode_guard`.
    """
    guard = {EXPECTED: str(expected), EXPECTED_SUBJECT: subjects.states}
    return Message(commit.subject, commit.body, {**commit.headers, **guard})


def encode_owner(subjects: Subjects, owner: OwnerRecord, *, expected: int) -> Message:
    """Who handles a node's events from here on; `expected` is the sequence of the record that it replaces."""
    body = json.dumps(_owner_fields(owner)).encode()
    return Message(subjects.owner_prefix + owner.node, body, {EXPECTED: str(expected)})


def _owner_fields(owner: OwnerRecord) -> dict[str, Any]:
    return {
        "node": owner.node,
        "incarnation": owner.incarnation,
        "patterns": list(owner.patterns),
        "pid": owner.pid,
        "host": owner.host,
        "since": owner.since,
        "takeover": owner.takeover,
    }


def encode_handled(subjects: Subjects, records: Iterable[HandledRecord], *, by: str, ttl: int) -> Message:
    """What a process handled; `ttl` in seconds."""
    items = [
        [r.event, r.node, r.handler, r.outcome, round(r.duration, 6), r.error, r.attempts] for r in records
    ]
    body = json.dumps(items, separators=(",", ":")).encode()
    return Message(subjects.handled_prefix + by, body, {TTL: str(ttl)})


def encode_clear(subjects: Subjects, owners: Iterable[OwnerRecord], *, id: str, expected: int) -> Message:
    """The message that empties a space, stored only if `expected` is still the newest clear.

    It carries the owners on: who handles what does not change.
    """
    body = json.dumps([_owner_fields(owner) for owner in owners]).encode()
    return Message(subjects.clear, body, {ROLLUP: "all", EXPECTED: str(expected), CLEAR: id})


def encode_sync(subjects: Subjects) -> Message:
    """The barrier of a fresh or complete reading."""
    return Message(subjects.sync, b"", {TTL: str(SYNC_SECONDS)})


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
    """What a stored message is; `payload` reads the body of an event.

    A commit that another client wrote, or whose headers are not ours to read, has revision 0; an event
    that cannot be read is an `Other`: a follower goes on whatever is stored.
    """
    headers = headers or {}
    if subject.startswith(subjects.state_prefix):
        node = subject[len(subjects.state_prefix) :]
        try:
            return _decode_commit(node, headers, body, sequence, time)
        except _UNREADABLE:
            return CommitRecord(node, sequence, 0, time, _stored(headers, body))
    if subject.startswith(subjects.event_prefix):
        try:
            return _decode_event(orjson.loads(headers[EVENT]), payload(body), sequence, 0, time)
        except _UNREADABLE:
            return Other(sequence)
    if subject.startswith(subjects.handled_prefix):
        return Handled(sequence, subject[len(subjects.handled_prefix) :], body)
    if subject.startswith(subjects.owner_prefix):
        try:
            return _decode_owner(json.loads(body), sequence)
        except _UNREADABLE:
            return Other(sequence)
    if subject == subjects.clear:
        return Clear(sequence, time, _carried(body), headers.get(CLEAR))
    return Other(sequence)


def _json(body: bytes) -> Any:
    """Read JSON that may have lone surrogates, as the text of an error has: orjson reads all other."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return json.loads(body)


def _decode_owner(fields: dict[str, Any], sequence: int) -> OwnerRecord:
    patterns = tuple(fields["patterns"])
    return OwnerRecord(
        fields["node"],
        fields["incarnation"],
        patterns,
        fields["pid"],
        fields["host"],
        fields["since"],
        fields["takeover"],
        sequence,
    )


def _carried(body: bytes) -> tuple[OwnerRecord, ...]:
    try:
        return tuple(_decode_owner(fields, 0) for fields in json.loads(body))
    except _UNREADABLE:  # another client's mark
        return ()


_UNREADABLE = (ValueError, KeyError, TypeError)


def revision_of(headers: Mapping[str, str]) -> int:
    """The revision that a commit's headers give; 0 if another client wrote it."""
    try:
        return int(headers[COMMIT].split(" ")[1])
    except (KeyError, ValueError, IndexError):
        return 0


_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}


def lifetime(headers: Mapping[str, str]) -> float | None:
    """The seconds that a message lives, by its ``Nats-TTL``; None if it stays.

    Examples
    --------
    >>> lifetime({"Nats-TTL": "1m30s"}), lifetime({"Nats-TTL": "5"}), lifetime({"Nats-TTL": "never"})
    (90.0, 5.0, None)
    """
    text = headers.get(TTL, "")
    if re.fullmatch(r"\d{1,12}", text):
        return float(text)
    if not re.fullmatch(r"(\d{1,12}(\.\d{1,12})?(h|ms|m|s|us|µs|ns))+", text):
        return None
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)", text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def is_deletion(headers: Mapping[str, str]) -> bool:
    """Whether a message on a node's key ends the node."""
    return headers.get(OPERATION) in ("DEL", "PURGE")


def _stored(headers: Mapping[str, str], body: bytes) -> bytes | None:
    return None if is_deletion(headers) else body


def _decode_commit(
    node: str, headers: Mapping[str, str], body: bytes, sequence: int, time: int
) -> CommitRecord:
    get = headers.get
    stored = _stored(headers, body)
    commit = get(COMMIT)
    if commit is None:
        return CommitRecord(node, sequence, 0, time, stored)
    id, revision, read = commit.split(" ")
    cause, correlation, by, path = get(CAUSE), get(CORRELATION), get(BY), get(PATH)
    origin = NO_ORIGIN
    if not (cause is correlation is by is path is None):
        origin = Origin(cause, correlation, by, tuple(path.split(" ")) if path else ())
    text = get(EVENTS)
    events: tuple[EventRecord, ...] = ()
    if text is not None:
        events = tuple(
            _decode_event(fields, freeze(fields["payload"]), sequence, index, time)
            for index, fields in enumerate(orjson.loads(text))
        )
    return CommitRecord(node, sequence, int(revision), time, stored, id, int(read), origin, events)


def _decode_event(
    fields: dict[str, Any], payload: Frozen, sequence: int, index: int, time: int
) -> EventRecord:
    return EventRecord(
        _text(fields["id"]),
        _text(fields["type"]),
        _text(fields["sender"]),
        payload,
        _text_or_none(fields.get("target")),
        _text_or_none(fields.get("cause")),
        _text_or_none(fields.get("correlation")),
        tuple(map(_text, fields.get("path", ()))),
        _moment(fields.get("occurred")),
        fields.get("nonce"),
        sequence=sequence,
        index=index,
        time=time,
    )


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    raise TypeError("another client's: a name or an id that is no text")


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)


def _moment(value: Any) -> str | None:
    """When something occurred; None where another client did not say it in ISO 8601."""
    if not isinstance(value, str):
        return None
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return None
    return value
