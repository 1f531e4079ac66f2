"""Decode the messages of the journal. Decoding is total: a message may hold anything."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from happen_nb._journal import fields
from happen_nb._journal.scheduled import Ended, Scheduled, alarm_of, as_scheduled, decode_end
from happen_nb._journal.wire import (
    ALARM,
    BY,
    CAUSE,
    CLEAR,
    CLOCK,
    COMMIT,
    CORRELATION,
    EVENT,
    EVENTS,
    FOLDED,
    KEY,
    MARKER,
    MAX_DURABLE_REPLY_BYTES,
    OMITTED,
    OPERATION,
    PATH,
    POSITIONS,
    ROLLUP,
    TTL,
    Subjects,
)
from happen_nb._model.arguments import is_name
from happen_nb._model.freeze import dumps, freeze, loads
from happen_nb._model.pace import NodeTurn, Pace, Since
from happen_nb._model.patterns import check_type, is_pattern
from happen_nb._model.positions import FLOOR, Progress, decode_positions
from happen_nb._model.records import NO_ORIGIN, CommitRecord, EventRecord, HandledRecord, Origin, OwnerRecord
from happen_nb._model.schedules import ClockRecord, is_moment_text, utc_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from happen_nb._model.frozen import Frozen
    from happen_nb._model.positions import Position, Positions


_EVENT_MARK: Final = f"\r\n{EVENT}: ".encode()
_EVENT_NAME: Final = EVENT.encode()
_ALARM_NAME: Final = ALARM.encode()

UNREAD: Any = object()  # stands for a payload that was left out when its event was read
OUTCOMES: Final = frozenset(("done", "failed", "refused", "cancelled"))  # the outcomes of a handling


class Handled(NamedTuple):
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


class Passed(NamedTuple):
    """The progress that state handlers of a node made without a commit, after the commit at `base`.

    It counts if that still was the node's newest commit; 0 stands for a node without any.
    """

    sequence: int
    node: str
    base: int
    positions: Positions


class Clear(NamedTuple):
    """The space was emptied at this position."""

    sequence: int
    time: int
    owners: tuple[OwnerRecord, ...] = ()
    id: str | None = None
    clock: ClockRecord | None = None


class Other(NamedTuple):
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


class Start(NamedTuple):
    """The start of a handler of a node: it handles the events after `position`."""

    node: str
    key: str
    pattern: str | None  # None for a predicate, which cannot be stored
    position: Position


class CallResult(NamedTuple):
    """The stored result of a call: its JSON, and the digest of the arguments if that is known."""

    body: bytes
    arguments: str | None


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
                return decode_end(subjects, subject, headers, sequence)
            about = fields.of_type(fields.read_json(headers[EVENT]), dict)
            record = _decode_event(about, payload(body), body, sequence, 0, time)
            if subject.startswith(subjects.alarm_prefix):
                return Scheduled(sequence, alarm_of(subjects, as_scheduled(record, headers), subject))
            return record if ALARM not in headers else as_scheduled(record, headers)
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
    """Decode the pace of a space; an unreadable pause is ignored."""
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
        float(slow) if type(slow) in _NUMBERS and 0 < slow <= _MAX_DURATION else None,
        id if isinstance(id, str) else None,
    )


def decode_turn(item: Any) -> NodeTurn | None:
    """Decode the turn of a node to handle an event; None if it cannot be read."""
    match item:
        case [int(sequence), int(number), str(node)] if sequence > 0 and number >= 0 and is_name(node):
            return NodeTurn(sequence, number, node)
    return None


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
        purged = get(OPERATION) == "PURGE"  # which removed the positions of all handlers
        positions: Positions | None = {FLOOR: Progress((sequence, 0))} if purged else None
        return CommitRecord(node, sequence, 0, time, state, positions=positions)
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
_HANDLING_DEFAULTS: Final = (None, None, None, None, 0.0, None, 1, None, None, None, None, None, None)
_NUMBERS: Final = (float, int)  # no bool
_MAX_DURATION: Final = 1e9  # seconds


def _decode_handling(item: Any, by: str) -> HandledRecord | None:
    """Decode one handling; None if it cannot be read. Later versions may append members."""
    if type(item) is not list:
        return None
    size = len(_HANDLING_DEFAULTS)
    whole = item if len(item) == size else [*item[:size], *_HANDLING_DEFAULTS[len(item) :]]
    event, node, handler, outcome, duration, error, attempts, waited, reply, position, *more = whole
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
    handling, now, late = more
    return HandledRecord(
        event,
        node,
        handler,
        outcome,
        duration,
        error,
        attempts,
        by,
        waited,
        reply,
        position,
        handling if type(handling) is str else None,
        now if is_moment_text(now) else None,
        _decode_late(late),
    )


def _decode_late(items: Any) -> tuple[tuple[str, int], ...] | None:
    """Decode the cancels of a handling that came too late."""
    found = []
    for item in items if type(items) is list else ():
        match item:
            case [str(id), int(position)] if 0 <= position <= fields.LARGEST:
                found.append((id, position))
    return tuple(found) or None
