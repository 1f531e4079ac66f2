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
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import orjson

from happen_nb._journal import fields
from happen_nb._model.freeze import dumps, freeze, loads
from happen_nb._model.patterns import check_type, is_pattern
from happen_nb._model.records import (
    NO_ORIGIN,
    CommitRecord,
    EventRecord,
    HandledRecord,
    Origin,
    OwnerRecord,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from happen_nb._model.frozen import Frozen

EXPECTED = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"
ROLLUP = "Nats-Rollup"
TTL = "Nats-TTL"
BATCH_ID = "Nats-Batch-Id"
BATCH_SEQUENCE = "Nats-Batch-Sequence"
BATCH_COMMIT = "Nats-Batch-Commit"
OPERATION = "KV-Operation"
MARKER = "Nats-Marker-Reason"
"""On a mark that the server leaves where a value expired or was removed."""

COMMIT = "Happen-Commit"
"""``<id> <revision> <read>``: one header, since each one costs its reader a microsecond or two."""
CAUSE = "Happen-Cause"
CORRELATION = "Happen-Correlation"
BY = "Happen-By"
PATH = "Happen-Path"
OMITTED = "Happen-Omitted"
"""How many ids a long path leaves out after its first."""
EVENTS = "Happen-Events"
EVENT = "Happen-Event"

UNREAD: Any = object()
"""Stands for a payload that was left out when its event was read."""
CLEAR = "Happen-Clear"
"""The id of a clear, which tells it from another process's."""
SYNC_SECONDS = 30
"""How long a barrier lives: longer than a server that lags needs to reach it."""
MAX_HEADER_BYTES = 60_000
"""Bytes of a commit's headers, events and path included; a server takes 64 kB. Beyond, it becomes a batch."""
MAX_STATE_BYTES_WITH_EVENTS = 8_000
"""Bytes of a body beside which events still ride in the header."""
MAX_BATCH_MESSAGES = 999
"""Messages in one atomic batch; the server takes fewer than 1,000."""
MAX_PATTERN_BYTES = 100_000
"""Bytes of the patterns in an owner record; they only explain, so those beyond are left out."""
HEADER_RESERVE_BYTES = 4096
"""Bytes of a message that are left for its headers."""


MAX_HANDLINGS: Final = 500
"""Handlings in one message."""
MAX_HANDLED_BYTES: Final = 500_000
"""Bytes of handlings in one message."""
LONGEST_NAME: Final = 500
"""Characters of a handler's name in the journal."""
OUTCOMES: Final = frozenset(("done", "failed", "refused", "cancelled"))

_LAST: Final = (None, None, None, None, 0.0, None, 1)  # where a writer left out the last members
_NUMBERS: Final = (float, int)  # no bool
_LONGEST_DURATION: Final = 1e9  # seconds


class Subjects:
    """The subjects and names of one space.

    Examples
    --------
    >>> Subjects("shop").state("orders")
    '$KV.happen_shop.orders'
    """

    def __init__(self, space: str) -> None:
        self.space = space
        self.bucket = f"happen_{space}"
        self.stream = f"KV_happen_{space}"
        self.state_prefix = f"$KV.{self.bucket}."
        self.states = f"{self.state_prefix}>"
        self.rest_prefix = f"happen.{space}."
        self.all = [self.states, f"{self.rest_prefix}>"]
        self.event_prefix = f"{self.rest_prefix}event."
        self.events = f"{self.event_prefix}>"
        self.owner_prefix = f"{self.rest_prefix}owner."
        self.owners = f"{self.owner_prefix}*"
        self.handled_prefix = f"{self.rest_prefix}handled."
        self.handled = f"{self.handled_prefix}*"
        self.clear = f"{self.rest_prefix}clear"
        self.sync = f"{self.rest_prefix}sync"
        self.guard = f"{self.rest_prefix}guard"
        self.who = f"_happen.{space}.who"
        self.live_prefix = f"_happen.{space}.live."
        self.reply_prefix = f"_happen.{space}.reply."

    def state(self, node: str) -> str:
        """The key of a node's state."""
        return self.state_prefix + node

    def event(self, event: EventRecord) -> str:
        """The subject of its own that an event is stored on."""
        if event.has_caller_id:
            return self.keyed_event(event.id)
        return f"{self.event_prefix}{event.sender}.{event.id}.{quote_type(event.type)}"

    def keyed_event(self, id: str) -> str:
        """The subject of the event whose id a caller chose."""
        return f"{self.event_prefix}~.{id}"


def quote_type(type: str) -> str:
    """An event type as one subject token.

    Examples
    --------
    >>> quote_type("order.paid")
    'order%2Epaid'
    """
    return quote(type, safe="").replace(".", "%2E").replace("*", "%2A").replace("~", "%7E")


def space_of(stream: str) -> str | None:
    """The space that a stream belongs to, None if it is no space's."""
    return stream.removeprefix("KV_happen_") if stream.startswith("KV_happen_") else None


@dataclass(frozen=True, slots=True)
class Message:
    """Something to store: a subject, headers and a body."""

    subject: str
    body: bytes
    headers: dict[str, str]

    @property
    def header_size(self) -> int:
        """Bytes of the headers."""
        return sum(len(key) + len(value.encode()) + 4 for key, value in self.headers.items())

    @property
    def size(self) -> int:
        """Bytes, as the server counts them."""
        return len(self.body) + self.header_size


@dataclass(frozen=True, slots=True)
class Handled:
    """What a process handled; its body is decoded on demand."""

    sequence: int
    by: str
    body: bytes

    def records(self) -> list[HandledRecord]:
        """Return the handlings in it, without those that another client wrote and nobody can read."""
        try:
            items = fields.array(fields.read_json(self.body))
        except fields.UNREADABLE:
            return []
        return [record for item in items if (record := _decode_handling(item, self.by)) is not None]


@dataclass(frozen=True, slots=True)
class Clear:
    """The space was emptied at this position."""

    sequence: int
    time: int
    owners: tuple[OwnerRecord, ...] = ()
    id: str | None = None


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
    if origin.omitted:
        headers[OMITTED] = str(origin.omitted)
    if body is None:
        headers[OPERATION] = "DEL"
    return Message(subjects.state(node), b"" if body is None else body, headers)


def with_events(
    subjects: Subjects,
    commit: Message,
    events: Iterable[EventRecord],
    *,
    ttl: int,
    most: int = MAX_BATCH_MESSAGES,
) -> list[Message]:
    """The messages of a commit that emits: one if the events fit in its header, else a batch.

    Events with an id of the caller's go on subjects of their own, where an id can be unique. A batch of more
    than `most` messages carries as many of its first events as possible in the header of the commit.
    """
    events = list(events)
    riding: list[str] = []
    if len(commit.body) <= MAX_STATE_BYTES_WITH_EVENTS and not any(event.has_caller_id for event in events):
        riding = _fitting(commit, events)
    if len(riding) < len(events):
        riding = _fitting(commit, events) if 1 + len(events) > most else []
    if riding:
        headers = {**commit.headers, EVENTS: f"[{','.join(riding)}]"}
        commit = Message(commit.subject, commit.body, headers)
    return [commit, *(encode_event(subjects, event, ttl=ttl) for event in events[len(riding) :])]


def _fitting(commit: Message, events: Iterable[EventRecord]) -> list[str]:
    """The first events as JSON, as many as may ride in the header of their commit."""
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


def encode_event(subjects: Subjects, event: EventRecord, *, ttl: int) -> Message:
    """An event on a subject of its own; `ttl` in seconds. It is stored once: nothing may be there yet."""
    about = _event_fields(event)
    del about["payload"]
    headers = {EXPECTED: "0", EVENT: _ascii(about), TTL: str(ttl)}
    return Message(subjects.event(event), dumps(event.payload), headers)


def _ascii(value: Any) -> str:
    """A value as JSON in ASCII, as headers must be."""
    text = orjson.dumps(value).decode()
    return text if text.isascii() else json.dumps(value, separators=(",", ":"))


def _event_fields(event: EventRecord) -> dict[str, Any]:
    about: dict[str, Any] = {"id": event.id, "type": event.type, "sender": event.sender}
    for name in ("target", "cause", "correlation", "occurred"):
        if (value := getattr(event, name)) is not None:
            about[name] = value
    if event.publish_id is not None:
        about["nonce"] = event.publish_id
    if event.path:
        about["path"] = event.path
    if event.omitted:
        about["omitted"] = event.omitted
    return {**about, "payload": event.payload}


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


def _owner_fields(owner: OwnerRecord, *, patterns: bool = True) -> dict[str, Any]:
    return {
        "node": owner.node,
        "incarnation": owner.incarnation,
        "patterns": _first(owner.patterns, MAX_PATTERN_BYTES) if patterns else [],
        "pid": owner.pid,
        "host": owner.host,
        "since": owner.since,
        "takeover": owner.takeover,
    }


def _first(texts: Iterable[str], size: int) -> list[str]:
    """The first of them, as many as fit into so many bytes of ASCII JSON."""
    sums = accumulate(len(json.dumps(text)) + 2 for text in texts)
    return [text for text, total in zip(texts, sums, strict=True) if total <= size]


def encode_handled(
    subjects: Subjects, records: Iterable[HandledRecord], *, by: str, ttl: int, limit: int = MAX_HANDLED_BYTES
) -> list[tuple[Message, int]]:
    """What a process handled, in messages of no more than `limit` bytes, each with the number of its records.

    `ttl` is in seconds.
    """
    subject, headers = subjects.handled_prefix + by, {TTL: str(ttl)}
    return [(Message(subject, body, headers), number) for body, number in encode_handlings(records, limit)]


def encode_handlings(records: Iterable[HandledRecord], limit: int) -> Iterator[tuple[bytes, int]]:
    """Bodies of no more than `limit` bytes, each with the number of its records."""
    items: list[str] = []
    size = 0
    for record in records:
        text = _encode_handling(record, limit)
        if items and (size + len(text) > limit or len(items) == MAX_HANDLINGS):
            yield f"[{','.join(items)}]".encode(), len(items)
            items, size = [], 0
        items.append(text)
        size += len(text) + 1
    if items:
        yield f"[{','.join(items)}]".encode(), len(items)


def _encode_handling(r: HandledRecord, limit: int) -> str:
    """One handling as JSON; the text of its error is halved until it fits."""
    error = r.error
    while True:
        name = r.handler[:LONGEST_NAME]
        item = [r.event, r.node, name, r.outcome, round(r.duration, 6), error, r.attempts]
        text = json.dumps(item, separators=(",", ":"))
        if len(text) <= limit or not error:
            return text
        error = error[: len(error) // 2]


def encode_clear(
    subjects: Subjects, owners: Iterable[OwnerRecord], *, limit: int, id: str, expected: int
) -> Message:
    """The message that empties a space, stored only if `expected` is still the newest clear.

    It carries the owners on, of nodes that have one. If they take more than `limit` bytes, it carries no
    patterns; each owner stores its own again.
    """
    owners = [owner for owner in owners if owner.incarnation is not None]
    for patterns in (True, False):
        body = json.dumps([_owner_fields(owner, patterns=patterns) for owner in owners]).encode()
        if len(body) <= limit:
            break
    return Message(subjects.clear, body, {ROLLUP: "all", EXPECTED: str(expected), CLEAR: id})


def encode_barrier(subjects: Subjects) -> Message:
    """The barrier of a fresh or complete reading; it replaces the one before, whose reader takes this."""
    return Message(subjects.sync, b"", {TTL: str(SYNC_SECONDS), ROLLUP: "sub"})


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
        except fields.UNREADABLE:
            return CommitRecord(node, sequence, 0, time, _stored(headers, body))
    if subject.startswith(subjects.event_prefix):
        try:
            about = fields.mapping(fields.read_json(headers[EVENT]))
            return _decode_event(about, payload(body), body, sequence, 0, time)
        except fields.UNREADABLE:
            return Other(sequence)
    if subject.startswith(subjects.handled_prefix):
        return Handled(sequence, subject[len(subjects.handled_prefix) :], body)
    if subject.startswith(subjects.owner_prefix):
        node = subject[len(subjects.owner_prefix) :]
        return _decode_owner(node, _read(body), sequence) if fields.is_name(node) else Other(sequence)
    if subject == subjects.clear and headers.get(ROLLUP) == "all":  # else nothing was removed
        return Clear(sequence, time, _carried(_read(body)), headers.get(CLEAR))
    return Other(sequence)


def _read(body: bytes) -> Any:
    """The JSON of a body; None if there is none."""
    try:
        return fields.read_json(body)
    except fields.UNREADABLE:
        return None


def _decode_owner(node: str, about: Any, sequence: int) -> OwnerRecord:
    """Who owns a node from here on: nobody, where another client wrote what names no process."""
    if not isinstance(about, dict) or not isinstance(incarnation := about.get("incarnation"), str):
        return OwnerRecord(node, None, sequence=sequence)
    if not fields.is_name(incarnation):
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
    )


def _carried(items: Any) -> tuple[OwnerRecord, ...]:
    """The owners of a clear: none in another client's mark."""
    if not isinstance(items, list):
        return ()
    named = [(item.get("node"), item) for item in items if isinstance(item, dict)]
    return tuple(
        _decode_owner(node, item, 0) for node, item in named if isinstance(node, str) and fields.is_name(node)
    )


def revision_of(headers: Mapping[str, str]) -> int:
    """The revision that a commit's headers give; 0 if another client wrote it."""
    try:
        return fields.digits(headers[COMMIT].split(" ")[1])
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
    text = headers.get(TTL)
    if text is None:
        return None
    if re.fullmatch(r"\d{1,12}", text):
        return float(text)
    if not re.fullmatch(r"(\d{1,12}(\.\d{1,12})?(h|ms|m|s|us|µs|ns))+", text):
        return None
    parts = re.findall(r"(\d+(?:\.\d+)?)(h|ms|m|s|us|µs|ns)", text)
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def is_deletion(headers: Mapping[str, str]) -> bool:
    """Whether a message on a node's key ends the node: a client's mark, or one that the server placed."""
    return headers.get(OPERATION) in ("DEL", "PURGE") or MARKER in headers


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
        origin = Origin(
            fields.optional(cause),
            fields.optional(correlation),
            None if by is None else fields.label(by),
            fields.marks(path.split(" ")) if path else (),
            fields.digits(get(OMITTED, "0")),
        )
    text = get(EVENTS)
    events: tuple[EventRecord, ...] = ()
    if text is not None:
        events = tuple(
            _decode_event(fields.mapping(about), freeze(about["payload"]), None, sequence, index, time)
            for index, about in enumerate(fields.array(fields.read_json(text)))
        )
    at = fields.digits(revision), fields.digits(read)
    return CommitRecord(node, sequence, at[0], time, stored, fields.mark(id), at[1], origin, events)


def _decode_event(
    about: dict[str, Any], payload: Frozen, body: bytes | None, sequence: int, index: int, time: int
) -> EventRecord:
    get = about.get
    target, nonce = get("target"), get("nonce")
    path = fields.marks(fields.array(get("path", [])))
    return EventRecord(
        fields.identifier(about["id"]),
        check_type(about["type"]),
        fields.label(about["sender"]),
        payload,
        None if target is None else fields.label(target),
        fields.optional(get("cause")),
        fields.optional(get("correlation")),
        path,
        fields.moment(get("occurred")),
        None if nonce is None else fields.text(nonce),
        omitted=fields.natural(get("omitted"), 0),
        sequence=sequence,
        index=index,
        time=time,
        body=dumps(payload) if body is None else body,
    )


def _decode_handling(item: Any, by: str) -> HandledRecord | None:
    """One handling; None if another client wrote what is none. More members than these may follow."""
    if type(item) is not list:
        return None
    whole = item if len(item) == len(_LAST) else [*item[: len(_LAST)], *_LAST[len(item) :]]
    event, node, handler, outcome, duration, error, attempts = whole
    if not (type(event) is type(node) is type(handler) is type(outcome) is str):
        return None
    if not (type(duration) in _NUMBERS and type(attempts) is int and (error is None or type(error) is str)):
        return None
    if not (0 <= duration < _LONGEST_DURATION and 0 < attempts <= fields.LARGEST and outcome in OUTCOMES):
        return None
    if not (fields.is_name(node) and fields.is_label(handler)):
        return None
    return HandledRecord(event, node, handler, outcome, duration, error, attempts, by)
