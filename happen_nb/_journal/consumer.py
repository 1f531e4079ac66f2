"""Reading what the journal holds, by ephemeral consumers of our own."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

import orjson

from happen_nb._journal.client import SEQUENCE, server_error
from happen_nb.errors import HappenTimeoutError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from happen_nb._journal.connection import Connection

SILENCE = 2.5
"""Seconds without a message or heartbeat (one a second) after which a consumer counts as lost."""
CREATE_SECONDS = 1.5
"""Seconds that a cluster has at first to create a consumer: another try may go to another server."""
CREATE_MOST = 3.0
"""Seconds that it has later: a try stays with the server that it was given to, so it must not take long."""
LOOK = 0.25
"""Seconds between looks at a reading that makes no progress."""
STALL = 1.0
"""Seconds without a message after which a reading that has begun goes on with another consumer."""
NO_RESPONDERS = "503"
SPARE = 8
"""Messages that a pull asks for beyond the wanted ones: barriers may be among them."""

DELIVERED = "$JS.ACK."
"""Begins the reply subject of each stored message, whatever headers its writer gave it."""
PLAIN_TOKENS = 9
"""Tokens of a reply subject without a domain."""


class StreamMessage(NamedTuple):
    """A stored message, as a consumer delivers it."""

    subject: str
    headers: dict[str, str]
    body: bytes
    sequence: int
    delivered: int
    """The consumer's own count, without gaps."""
    time: int
    """ns since 1970, by the server's clock."""
    pending: int
    """How many more there are for this consumer."""


def stored(message: Msg) -> StreamMessage:
    """Read what the server says of a message in its reply subject.

    It is ``$JS.ACK.<stream>.<consumer>.<tries>.<sequence>.<delivered>.<time>.<pending>``; servers may put
    a domain and an account before the stream, and a token at the end (NATS ADR-15).
    """
    tokens = message.reply.split(".")
    at = 5 if len(tokens) == PLAIN_TOKENS else 7
    return StreamMessage(
        message.subject,
        message.headers or {},
        message.data,
        int(tokens[at]),
        int(tokens[at + 1]),
        int(tokens[at + 2]),
        int(tokens[at + 3]),
    )


def direct(answer: Msg) -> StreamMessage | None:
    """What a direct get gives; None if there is no such message."""
    headers = answer.headers or {}
    if SEQUENCE not in headers:
        return None
    time = round(parse_time(headers["Nats-Time-Stamp"]).timestamp() * 1e6) * 1000
    sequence = int(headers[SEQUENCE])
    return StreamMessage(headers["Nats-Subject"], headers, answer.data, sequence, 0, time, 0)


def parse_time(text: str) -> datetime:
    """A time as the server writes it: RFC 3339 in UTC, with up to nine digits of a second."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return datetime.fromisoformat(whole).replace(microsecond=int(fraction[:6].ljust(6, "0") or 0), tzinfo=UTC)


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

    Parameters
    ----------
    connection : Connection
    stream : str
    on_message : async callable
        Called with each `StreamMessage`, in order, without a gap.
    on_gap : callable
        Called once when messages were lost on the way: make a new consumer.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        on_message: Callable[[StreamMessage], None],
        on_gap: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._on_message = on_message
        self._on_gap = on_gap
        self._subscription: Subscription | None = None
        self._delivered = 0
        self._open = True
        self._inbox = ""
        self._pull: dict[str, Any] | None = None
        self._left = 0
        self._name = f"happen-{secrets.token_hex(6)}"
        self.heard = 0.0
        """When something was last heard of it, by the loop's clock."""

    async def start(
        self, config: dict[str, Any], *, timeout: float, pull: dict[str, Any] | None = None
    ) -> int:
        """Create it.

        Parameters
        ----------
        config : dict
            What to deliver.
        timeout : float
            Seconds.
        pull : dict, optional
            A pull request: the server gives what it asks for. Without one the server pushes, as fast as flow
            control allows.

        Returns
        -------
        int
            How many messages wait for it at this moment, as far as its server knows.
        """
        self.heard = asyncio.get_running_loop().time()
        self._inbox = self._connection.new_inbox()
        self._subscription = await self._connection.subscribe(self._inbox, self._received)
        pushed = {"deliver_subject": self._inbox, "flow_control": True, "idle_heartbeat": 1_000_000_000}
        request = {
            "stream_name": self._stream,
            "config": {**_EPHEMERAL, "name": self._name, **config, **({} if pull else pushed)},
        }
        name = f"CONSUMER.CREATE.{self._stream}.{self._name}"
        answer = await self._connection.api(name, request, timeout=timeout)
        if error := answer.get("error"):
            raise server_error(f"reading {self._stream}", error)
        self._pull = pull
        await self._ask()
        return int(answer["num_pending"]) + int(answer["delivered"]["consumer_seq"])

    async def _ask(self) -> None:
        """Ask for the next messages, if it pulls."""
        if self._pull is not None and self._open:
            self._left = self._pull["batch"]
            subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
            await self._connection.send(subject, orjson.dumps(self._pull), reply=self._inbox)

    async def _received(self, message: Msg) -> None:
        if not self._open:
            return
        self.heard = asyncio.get_running_loop().time()
        headers = message.headers
        if headers is not None and "Status" in headers and not message.reply.startswith(DELIVERED):
            await self._control(message, headers)
            return
        item = stored(message)
        self._delivered += 1
        if item.delivered != self._delivered:
            self._gap()
            return
        self._on_message(item)
        self._left -= 1
        if not self._left and self._pull is not None and "expires" in self._pull:
            await self._ask()

    async def _control(self, message: Msg, headers: dict[str, str]) -> None:
        if self._pull is not None:
            if headers["Status"] == NO_RESPONDERS:  # the server that had the consumer is gone
                self._gap()
            elif "expires" in self._pull:  # the time of the last request is up, or the server ended it
                await self._ask()
        elif message.reply:
            await self._connection.send(message.reply)
        elif stalled := headers.get("Nats-Consumer-Stalled"):
            await self._connection.send(stalled)
        elif int(headers.get("Nats-Last-Consumer", 0)) > self._delivered:
            self._gap()

    def _gap(self) -> None:
        self._open = False
        self._on_gap()

    async def stop(self) -> None:
        """Take it off; the server forgets it by itself if it cannot be told."""
        self._open = False
        if self._subscription is not None:
            subscription, self._subscription = self._subscription, None
            await self._connection.unsubscribe(subscription)
            await self._connection.send(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._name}")


Policy = Literal["all", "last_per_subject"]


class Barrier(Protocol):
    """What tells that a reading of a replicated stream is complete.

    A consumer may be on a server that lags behind the others, and such a server says that nothing is left
    when it has no more. So a message is stored first, and the reading ends when that message arrives.
    """

    subject: str

    def store_barrier(self, timeout: float | None = None) -> Awaitable[int]:
        """Store a message on `subject`; returns its sequence."""


async def read(
    connection: Connection,
    stream: str,
    subject: str | Sequence[str],
    *,
    timeout: float,
    start: int | str = 0,
    policy: Policy = "all",
    headers_only: bool = False,
    limit: int | None = None,
    enough: Callable[[StreamMessage], bool] | None = None,
    barrier: Barrier | None = None,
) -> list[StreamMessage]:
    """Read what is stored at this moment on a subject or several, oldest first.

    Parameters
    ----------
    timeout : float
        Seconds without progress after which it fails.
    start : int or str, optional
        The sequence, or the time (RFC 3339), to begin with.
    policy : "all" or "last_per_subject"
    headers_only : bool, optional
        Leave the bodies out.
    limit : int, optional
        Read at most so many.
    enough : callable, optional
        Stop before the first message for which it is true.
    barrier : Barrier, optional
        Needed where the stream has replicas.

    Raises
    ------
    HappenTimeoutError
        There was no progress for `timeout` seconds.
    """
    subjects = [subject] if isinstance(subject, str) else list(subject)
    config: dict[str, Any] = {"deliver_policy": policy}
    if subjects != [">"]:
        config["filter_subjects"] = [*subjects, barrier.subject] if barrier else subjects
    if isinstance(start, str):
        config |= {"deliver_policy": "by_start_time", "opt_start_time": start}
    elif start:
        config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": start}
    if headers_only:
        config["headers_only"] = True
    reading = _Reading(connection, stream, config, timeout, limit, enough, barrier)
    while not await reading.run():
        if reading.late():
            raise HappenTimeoutError(f"reading {subject}: no progress for {timeout:g} s")
    if policy == "last_per_subject" and barrier:  # a server that lagged may have sent more than one
        newest = {item.subject: item for item in reading.found}
        return sorted(newest.values(), key=lambda item: item.sequence)
    return reading.found


class _Reading:
    """One reading, over as many consumers as it takes."""

    def __init__(
        self,
        connection: Connection,
        stream: str,
        config: dict[str, Any],
        timeout: float,
        limit: int | None,
        enough: Callable[[StreamMessage], bool] | None,
        barrier: Barrier | None,
    ) -> None:
        self.found: list[StreamMessage] = []
        self._connection = connection
        self._stream = stream
        self._config = config
        self._timeout = timeout
        self._limit = limit
        self._enough = enough
        self._barrier = barrier
        self._create_seconds = CREATE_SECONDS
        self._newest_only = config["deliver_policy"] == "last_per_subject"
        self._loop = asyncio.get_running_loop()
        self._progress = self._loop.time()
        self._first = 0
        self._until = 0
        self._passed = False
        self._ended: asyncio.Future[bool]

    def late(self) -> bool:
        """Return whether it made no progress for too long."""
        return self._loop.time() - self._progress > self._timeout + self._connection.patience

    async def run(self) -> bool:
        """Read with one consumer; False if that was lost on the way."""
        self._ended = self._loop.create_future()
        self._passed = False
        config = self._resumed()
        self._first = int(config.get("opt_start_seq", 0))
        if self._barrier is not None:
            first = not self._until
            self._until = await self._barrier.store_barrier(self._timeout)
            if first:  # later ones are no progress: a reading that gets nothing must come to an end
                self._progress = self._loop.time()
            if self._until < self._first:
                return True  # nothing is stored so far on
        consumer = Consumer(self._connection, self._stream, self._take, lambda: self._end(complete=False))
        try:
            try:
                waiting = await consumer.start(config, timeout=self._patience(), pull=self._pull())
            except HappenTimeoutError:
                if self._barrier is None or self.late():
                    raise
                self._create_seconds = CREATE_MOST
                return False  # another consumer goes to another server
            if not waiting and self._barrier is None:
                return True
            await self._watch(consumer)
            return self._ended.result()
        finally:
            await consumer.stop()

    def _patience(self) -> float:
        left = max(0.1, self._progress + self._timeout - self._loop.time())
        return left if self._barrier is None else min(left, self._create_seconds)

    def _pull(self) -> dict[str, Any] | None:
        if self._limit is None:
            return None
        if self._barrier is None:
            return {"batch": self._limit, "no_wait": True}
        return {"batch": self._limit + SPARE, "expires": 1_000_000_000}

    def _resumed(self) -> dict[str, Any]:
        """The configuration of the next consumer: it goes on where the one before ended."""
        if not self.found:
            return self._config
        if self._newest_only:
            self.found = []
            return self._config
        following = {"deliver_policy": "by_start_sequence", "opt_start_seq": self.found[-1].sequence + 1}
        kept = {key: value for key, value in self._config.items() if key != "opt_start_time"}
        return {**kept, **following}

    async def _watch(self, consumer: Consumer) -> None:
        """Wait for the end; store the barrier again where it may have gone before it arrived."""
        stored = self._loop.time()
        while not self._ended.done():
            await asyncio.wait([self._ended], timeout=LOOK)
            now = self._loop.time()
            if now - consumer.heard > SILENCE + self._connection.patience or self.late():
                self._end(complete=False)
            elif self._stalled(now):
                self._end(complete=False)  # what was to come may be gone: another consumer knows
            elif self._barrier is not None and now - max(stored, self._progress) > 2 * LOOK:
                with contextlib.suppress(HappenTimeoutError):  # the reading itself ends when it is late
                    await self._barrier.store_barrier(2 * LOOK)
                stored = self._loop.time()

    def _stalled(self, now: float) -> bool:
        """Return whether a reading of one server has begun and gets no more."""
        begun = self._barrier is None and bool(self.found) and not self._newest_only
        return begun and now - self._progress > STALL + self._connection.patience

    def _take(self, item: StreamMessage) -> None:
        if self._ended.done():
            return
        self._progress = self._loop.time()
        if item.sequence < self._first:
            return  # from a server that lags: it starts with what it has next
        barrier = self._barrier
        beyond = barrier is not None and item.sequence >= self._until
        if beyond and not self._newest_only:
            self._end(complete=True)
        elif barrier is not None and item.subject == barrier.subject:
            self._passed = self._passed or beyond
        elif self._enough is not None and self._enough(item):
            self._end(complete=True)
            return
        else:
            self.found.append(item)
        nothing_left = item.pending == 0 and (barrier is None or self._passed)
        if nothing_left or (self._limit is not None and len(self.found) >= self._limit):
            self._end(complete=True)

    def _end(self, *, complete: bool) -> None:
        if not self._ended.done():
            self._ended.set_result(complete)
