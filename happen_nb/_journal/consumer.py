"""Reading the stored messages of a stream, by ephemeral consumers of our own."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import secrets
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import orjson

from happen_nb._journal.client import SEQUENCE, NatsClient, server_error
from happen_nb.errors import HappenTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from happen_nb._journal.connection import Connection
    from happen_nb._journal.stream import Stream

SILENCE_SECONDS = 2.5
"""Seconds without a message or heartbeat (one a second) after which a consumer counts as lost."""
FIRST_CREATE_SECONDS = 1.5
"""Time for a cluster's first try to create a consumer: another try may go to another server."""
CREATE_SECONDS = 3.0
"""Time for later tries: a try stays with the server that received it, so it must not take long."""
POLL_SECONDS = 0.25  # seconds between checks of a reading that makes no progress
STALL_SECONDS = 1.0  # seconds without a message after which a started reading continues with another consumer
NO_RESPONDERS = "503"
SPARE_MESSAGES = 8  # messages that a pull requests beyond the wanted ones: barriers may be among them
DELIVERED = b"$JS.ACK."  # starts the reply subject of each stored message, whatever its headers
PLAIN_TOKENS = 9  # tokens of a reply subject without a domain


class StreamMessage:
    """A stored message, as a consumer delivers it."""

    __slots__ = ("body", "pending", "raw_headers", "sequence", "subject", "time")

    def __init__(
        self,
        subject: str,
        headers: bytes | dict[str, str],
        body: bytes,
        sequence: int,
        time: int,
        pending: int,
    ) -> None:
        self.subject = subject
        self.raw_headers = headers
        self.body = body
        self.sequence = sequence
        self.time = time  # ns since 1970, by the server's clock
        self.pending = pending  # the number of messages that the consumer has still to deliver

    @property
    def headers(self) -> dict[str, str]:
        """The headers, parsed when they are first read."""
        if isinstance(self.raw_headers, bytes):
            self.raw_headers = NatsClient.parse_headers(self.raw_headers)
        return self.raw_headers


def parse_stored(message: dict[str, Any]) -> StreamMessage:
    """Read a message in the answer of JetStream's API."""
    lines = base64.b64decode(message.get("hdrs", "")).decode("utf-8", "replace").split("\r\n")
    parts = (line.partition(":") for line in lines[1:])  # the first one has the version
    headers = {name.strip(): value.strip() for name, colon, value in parts if colon}
    body, time = base64.b64decode(message.get("data", "")), parse_ns(message["time"])
    return StreamMessage(message["subject"], headers, body, int(message["seq"]), time, 0)


def parse_direct(answer: Msg) -> StreamMessage | None:
    """Read the answer to a direct get; None if there is no such message."""
    headers = answer.headers or {}
    if SEQUENCE not in headers:
        return None
    time, sequence = parse_ns(headers["Nats-Time-Stamp"]), int(headers[SEQUENCE])
    return StreamMessage(headers["Nats-Subject"], headers, answer.data, sequence, time, 0)


def to_ns(time: datetime) -> int:
    """Convert a time to ns since 1970, in whole microseconds."""
    return round(time.timestamp() * 1e6) * 1000


def parse_ns(text: str) -> int:
    """Parse a time as the server writes it to ns since 1970."""
    return to_ns(datetime.fromisoformat(text))


_EPHEMERAL = {
    "ack_policy": "none",
    "max_deliver": 1,
    "replay_policy": "instant",
    "inactive_threshold": 10_000_000_000,
    "mem_storage": True,
    "num_replicas": 1,
}


class Consumer:
    """An ephemeral consumer: acknowledges nothing, lives in memory, answers flow control.

    ``on_message`` is called with each message, in order, without a gap; ``on_gap`` once, when messages were
    lost on the way: create a new consumer.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        on_message: Callable[[StreamMessage], None],
        on_gap: Callable[[], None],
    ) -> None:
        self.connection = connection
        self.stream = stream
        self.on_message = on_message
        self.on_gap = on_gap
        self.active_at = 0.0  # ``time.monotonic()`` at the last message
        self.created = 0  # ns since 1970, by the server's clock
        self._subscription: Subscription | None = None
        self._delivered = 0
        self._open = True
        self._inbox = ""
        self._pull: dict[str, Any] | None = None
        self._left = 0
        self._name = f"happen-{secrets.token_hex(6)}"

    async def start(
        self, config: dict[str, Any], *, timeout: float, pull: dict[str, Any] | None = None
    ) -> int:
        """Create it on the server; returns the number of waiting messages, as far as that server knows.

        The number may be too low, as may be the `pending` of its messages: if a message is deleted while a
        consumer is created, a server may subtract it twice. Ask for the next message to be sure.

        `config` selects the messages, as JetStream's API describes it. `pull` is a pull request, which is
        repeated; without one the server pushes, as fast as flow control allows.
        """
        self.active_at = time.monotonic()
        self._inbox = self.connection.new_inbox()
        self._subscription = await self.connection.subscribe_directly(self._inbox, self._on_received)
        pushed = {"deliver_subject": self._inbox, "flow_control": True, "idle_heartbeat": 1_000_000_000}
        request = {
            "stream_name": self.stream,
            "config": {**_EPHEMERAL, "name": self._name, **config, **({} if pull else pushed)},
        }
        answer = await self.connection.api(
            f"CONSUMER.CREATE.{self.stream}.{self._name}", request, timeout=timeout
        )
        if error := answer.get("error"):
            raise server_error(f"reading {self.stream}", error)
        self.created = parse_ns(answer["created"])
        self._pull = pull
        self._request_next()
        return int(answer["num_pending"]) + int(answer["delivered"]["consumer_seq"])

    def _request_next(self) -> None:
        if self._pull is not None and self._open:
            self._left = self._pull["batch"]
            subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.stream}.{self._name}"
            self.connection.post(subject, orjson.dumps(self._pull), reply=self._inbox)

    def _on_received(self, subject: bytes, reply: bytes, body: bytes, headers: bytes) -> None:
        """Take a message; its reply subject describes it.

        It is ``$JS.ACK.<stream>.<consumer>.<tries>.<sequence>.<delivered>.<time>.<pending>``; servers may put
        a domain and an account before the stream, and a token at the end (NATS ADR-15).
        """
        if not self._open:
            return
        self.active_at = time.monotonic()
        if not reply.startswith(DELIVERED):
            control = NatsClient.parse_headers(headers)
            if "Status" in control:
                self._on_control(reply.decode(errors="replace"), control)
            return
        tokens = reply.split(b".")
        at = 5 if len(tokens) == PLAIN_TOKENS else 7
        sequence, delivered, stored, pending = map(int, tokens[at : at + 4])
        self._delivered += 1
        if delivered != self._delivered:  # the consumer's own count, without gaps
            self._lose()
            return
        name = subject.decode(errors="replace")
        self.on_message(StreamMessage(name, headers, body, sequence, stored, pending))
        if self._pull is not None:
            self._left -= 1
            if not self._left and "expires" in self._pull:
                self._request_next()

    def _on_control(self, reply: str, headers: dict[str, str]) -> None:
        if self._pull is not None:
            if headers["Status"] == NO_RESPONDERS:  # the server that had the consumer is gone
                self._lose()
            elif "expires" in self._pull:  # the last request has expired, or the server ended it
                self._request_next()
            else:  # nothing is left, or the server has counted too few
                self._lose()
        elif reply:
            self.connection.post(reply)
        elif stalled := headers.get("Nats-Consumer-Stalled"):
            self.connection.post(stalled)
        elif int(headers.get("Nats-Last-Consumer", 0)) > self._delivered:
            self._lose()

    def _lose(self) -> None:
        self._open = False
        self.on_gap()

    async def stop(self) -> None:
        """Delete it; the server does so on its own if it cannot be reached."""
        self._open = False
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            await self.connection.unsubscribe(subscription)
            self.connection.post(f"$JS.API.CONSUMER.DELETE.{self.stream}.{self._name}")


async def read(
    connection: Connection,
    stream: str,
    subject: str | Sequence[str],
    *,
    timeout: float,
    start: int | str = 0,
    policy: Literal["all", "last_per_subject"] = "all",
    headers_only: bool = False,
    limit: int | None = None,
    end: int | None = None,
    enough: Callable[[StreamMessage], bool] | None = None,
    barrier: Stream | None = None,
) -> list[StreamMessage]:
    """Read the messages that are stored at this moment on a subject or several, oldest first.

    `start` is a sequence, or a time (RFC 3339). The reading stops after the sequence `end`, after `limit`
    messages, before the first one for which `enough` is true, and with a HappenTimeoutError after `timeout`
    seconds without progress.

    Several subjects are selected here and not by the server: for each message, that would look at all
    subjects that match one of them. So they should make up most of the stream; `limit` counts the others too.

    `barrier` is the stream itself, needed where it has replicas. A consumer may be on a server that lags
    behind the others, which reports that nothing is left when it has no more. So a barrier is stored first,
    and the reading ends when that arrives.
    """
    subjects = [subject] if isinstance(subject, str) else list(subject)
    config: dict[str, Any] = {"deliver_policy": policy}
    wanted = None
    if len(subjects) > 1 and policy == "all":
        wanted = _matcher(subjects)
    elif subjects != [">"]:
        config["filter_subjects"] = [*subjects, barrier.subjects.sync] if barrier else subjects
    if isinstance(start, str):
        config |= {"deliver_policy": "by_start_time", "opt_start_time": start}
    elif start:
        config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": start}
    if headers_only:
        config["headers_only"] = True
    reading = _Reading(connection, stream, config, timeout, limit, end, enough, barrier, wanted)
    while not await reading.run():
        if reading.late():
            raise HappenTimeoutError(f"reading {subject}: no progress for {timeout:g} s")
    if policy == "last_per_subject" and barrier:  # a server that lagged may have sent more than one
        return newest_of_each(reading.found)
    return reading.found


def newest_of_each(items: Iterable[StreamMessage]) -> list[StreamMessage]:
    """Return the newest message of each subject, in order."""
    newest = {item.subject: item for item in items}
    return sorted(newest.values(), key=lambda item: item.sequence)


def _matcher(subjects: Sequence[str]) -> Callable[[str], bool]:
    """Return a function that checks if one of the subjects, which may end in a wildcard, matches."""
    prefixes = tuple(subject[:-1] for subject in subjects if subject.endswith(">"))
    parents = {subject[:-1] for subject in subjects if subject.endswith("*")}
    exact = frozenset(subjects)

    def matches(subject: str) -> bool:
        in_parent = bool(parents) and subject[: subject.rfind(".") + 1] in parents
        return subject.startswith(prefixes) or subject in exact or in_parent

    return matches


@dataclass(eq=False)
class _Reading:
    """One reading, over as many consumers as it takes."""

    connection: Connection
    stream: str
    config: dict[str, Any]
    timeout: float
    limit: int | None
    end: int | None
    enough: Callable[[StreamMessage], bool] | None
    barrier: Stream | None
    wanted: Callable[[str], bool] | None

    def __post_init__(self) -> None:
        self.found: list[StreamMessage] = []
        self._create_seconds = FIRST_CREATE_SECONDS
        self._newest_only = self.config["deliver_policy"] == "last_per_subject"
        self._loop = asyncio.get_running_loop()
        self._progress_at = self._loop.time()
        self._first = 0
        self._count = 0  # messages, also those that are not wanted
        self._last = 0  # the sequence of the newest of them
        self._until = 0
        self._passed = False
        self._nothing_left = False
        self._ended: asyncio.Future[bool]

    def late(self) -> bool:
        """Return True if it made no progress for too long."""
        return self._loop.time() - self._progress_at > self.timeout + self.connection.transfer_seconds

    async def run(self) -> bool:
        """Read with one consumer; False if that was lost on the way."""
        self._ended = self._loop.create_future()
        self._passed = self._nothing_left = False
        config = self._next_config()
        self._first = int(config.get("opt_start_seq", 0))
        if self.barrier is not None:
            first = not self._until
            self._until = await self.barrier.store_barrier(self.timeout)
            if first:  # later ones are no progress: a reading that gets nothing must come to an end
                self._progress_at = self._loop.time()
            if self._until < self._first:
                return True  # nothing is stored from there on
        seconds = max(0.1, self._progress_at + self.timeout - self._loop.time())
        if self.barrier is not None:
            seconds = min(seconds, self._create_seconds)
        consumer = Consumer(self.connection, self.stream, self._on_message, lambda: self._end(complete=False))
        try:
            try:
                waiting = await consumer.start(config, timeout=seconds, pull=self._pull())
            except HappenTimeoutError:
                if self.barrier is None or self.late():
                    raise
                self._create_seconds = CREATE_SECONDS
                return False  # another consumer goes to another server
            if waiting or self.barrier is not None:
                await self._watch(consumer)
                if not self._ended.result():
                    return False
            else:
                self._nothing_left = True
            if self._nothing_left:
                await self._take_rest(consumer.created)
            return True
        finally:
            await consumer.stop()

    def _pull(self) -> dict[str, Any] | None:
        if self.limit is None:
            return None
        if self.barrier is None:
            return {"batch": self.limit, "no_wait": True}
        return {"batch": self.limit + SPARE_MESSAGES, "expires": 1_000_000_000}

    async def _take_rest(self, created: int) -> None:
        """Take what was stored before a consumer was `created`, but was not delivered."""
        if not self._count and "opt_start_time" in self.config:
            return
        rest = []
        for subject in self.config.get("filter_subjects", [">"]):
            start = self._last + 1 if self._count else self._first or 1
            while self.end is None or start <= self.end:
                item = await self._next(start, subject)
                if item is None or item.time > created:
                    break
                rest.append(item)
                start = item.sequence + 1
        for item in sorted(rest, key=lambda item: item.sequence):
            if self._is_enough(item) or (self.limit is not None and self._count >= self.limit):
                return
            self._take(item)
        if rest and self._newest_only:
            self.found = newest_of_each(self.found)

    async def _next(self, start: int, subject: str) -> StreamMessage | None:
        request = {"seq": start, "next_by_subj": subject}
        answer = await self.connection.api(f"STREAM.MSG.GET.{self.stream}", request, timeout=self.timeout)
        return None if "message" not in answer else parse_stored(answer["message"])

    def _next_config(self) -> dict[str, Any]:
        """Return the configuration of the next consumer: it continues where the one before ended."""
        if self._newest_only:
            self.found, self._count = [], 0
        if not self._count:
            return self.config
        following = {"deliver_policy": "by_start_sequence", "opt_start_seq": self._last + 1}
        kept = {key: value for key, value in self.config.items() if key != "opt_start_time"}
        return {**kept, **following}

    async def _watch(self, consumer: Consumer) -> None:
        """Wait for the end; store the barrier again where it may have expired before it arrived."""
        stored_at = self._loop.time()
        while not self._ended.done():
            await asyncio.wait([self._ended], timeout=POLL_SECONDS)
            now = self._loop.time()
            if self.connection.is_closed:
                self._end(complete=False)  # the next consumer raises why
            elif now - consumer.active_at > SILENCE_SECONDS + self.connection.transfer_seconds or self.late():
                self._end(complete=False)
            elif self._stalled(now):
                self._end(complete=False)  # the messages to come may be gone: another consumer knows
            elif self.barrier is not None and now - max(stored_at, self._progress_at) > 2 * POLL_SECONDS:
                with contextlib.suppress(HappenTimeoutError):  # the reading itself ends when it is late
                    await self.barrier.store_barrier(2 * POLL_SECONDS)
                stored_at = self._loop.time()

    def _stalled(self, now: float) -> bool:
        """Return True if a reading of one server has started and receives no more.

        Of the newest messages, the last may be gone before it is delivered, such as an alarm.
        """
        started = self.barrier is None and (self._count > 0 or self._newest_only)
        return started and now - self._progress_at > STALL_SECONDS + self.connection.transfer_seconds

    def _on_message(self, item: StreamMessage) -> None:
        if self._ended.done():
            return
        self._progress_at = time.monotonic()
        if item.sequence < self._first:
            return  # from a server that lags: it starts with the next message that it has
        barrier = self.barrier
        beyond = barrier is not None and item.sequence >= self._until
        if beyond and not self._newest_only:
            self._end(complete=True)
        elif barrier is not None and item.subject == barrier.subjects.sync:
            self._passed = self._passed or beyond
        elif self._is_enough(item):
            self._end(complete=True)
            return
        else:
            self._take(item)
        if item.sequence == self.end or (self.limit is not None and self._count >= self.limit):
            self._end(complete=True)
        elif item.pending == 0 and (barrier is None or self._passed):
            self._nothing_left = barrier is None
            self._end(complete=True)

    def _take(self, item: StreamMessage) -> None:
        self._count, self._last = self._count + 1, item.sequence
        if self.wanted is None or self.wanted(item.subject):
            self.found.append(item)

    def _is_enough(self, item: StreamMessage) -> bool:
        if self.end is not None and item.sequence > self.end:
            return True
        return self.enough is not None and self.enough(item)

    def _end(self, *, complete: bool) -> None:
        if not self._ended.done():
            self._ended.set_result(complete)
