"""The wire format: subjects, headers and limits. `encoding` makes its messages, `decoding` reads them.

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
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote

from happen_nb._model.records import EventRecord

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
GOES_ON = "Happen-Goes-On"  # in the cancel of a tick: the handlers that it calls stay
SCHEDULED = "Happen-Scheduled"  # in a cancel: the event that it has ended, and when that was scheduled
READ = "Happen-Read"  # in an alarm: the position that its writer has read
DUE = "Happen-Due"  # the time at which a scheduled event is due, in the time of the space
SCHEDULE = "Nats-Schedule"
SCHEDULE_TARGET = "Nats-Schedule-Target"
SCHEDULE_TTL = "Nats-Schedule-TTL"
SCHEDULER = "Nats-Scheduler"
SCHEDULE_NEXT = "Nats-Schedule-Next"
NEVER = "2200-01-01T00:00:00Z"
"""The time of all alarms of a manual clock; beyond 2261 the server's own clock overflows, and they fire."""
CANCEL_MARGIN_SECONDS = 3600  # a cancel is kept longer than an event that the server publishes after it
CLOCK = "Happen-Clock"  # in a clear: the manual clock that continues
CLEAR = "Happen-Clear"  # the id of a clear, which distinguishes it from another process's
BARRIER_SECONDS = 30  # lifetime of a barrier: longer than a server that lags needs to reach it
MAX_HEADER_BYTES = 60_000
"""Limit of a commit's headers with events and path; a server accepts 64 kB. Larger ones become a batch."""
MAX_STATE_BYTES_WITH_EVENTS = 8_000  # the largest state with which events still fit into the header
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
        return self.state_prefix + node

    def start(self, node: str, key: str) -> str:
        return f"{self.start_prefix}{node}.{_digest(key)}"

    def durable(self, node: str, key: str) -> str:
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
        return f"{self.event_prefix}{node}.{tick}.every"

    def event(self, event: EventRecord) -> str:
        """Return the subject of an event that is not part of a commit."""
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
    block = "\r\n".join(["NATS/1.0", *map(": ".join, headers.items()), "", ""]).encode()
    size = len(block)
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (subject.encode(), size, size + len(body), block, body)


def id_token(subject: str) -> str:
    """Return the id in the subject of an event that is not part of a commit."""
    return subject.rsplit(".", 2)[-2]
