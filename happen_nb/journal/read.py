"""Reading what the journal holds, by ephemeral consumers of our own."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import orjson

from happen_nb.errors import HappenTimeoutError
from happen_nb.journal.connection import SEQUENCE, server_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nats.aio.msg import Msg
    from nats.aio.subscription import Subscription

    from happen_nb.journal.connection import Connection

SILENCE = 2.5
"""Seconds without a message or heartbeat (one a second) after which a consumer counts as lost."""


DELIVERED = "$JS.ACK."
"""Begins the reply subject of each stored message, whatever headers its writer gave it."""
PLAIN_TOKENS = 9
"""Tokens of a reply subject without a domain."""


class Stored(NamedTuple):
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


def stored(message: Msg) -> Stored:
    """Read what the server says of a message in its reply subject.

    It is ``$JS.ACK.<stream>.<consumer>.<tries>.<sequence>.<delivered>.<time>.<pending>``; servers may put
    a domain and an account before the stream, and a token at the end (NATS ADR-15).
    """
    tokens = message.reply.split(".")
    at = 5 if len(tokens) == PLAIN_TOKENS else 7
    return Stored(
        message.subject,
        message.headers or {},
        message.data,
        int(tokens[at]),
        int(tokens[at + 1]),
        int(tokens[at + 2]),
        int(tokens[at + 3]),
    )


def direct(answer: Msg) -> Stored | None:
    """What a direct get gives; None if there is no such message."""
    headers = answer.headers or {}
    if SEQUENCE not in headers:
        return None
    time = round(parse_time(headers["Nats-Time-Stamp"]).timestamp() * 1e6) * 1000
    sequence = int(headers[SEQUENCE])
    return Stored(headers["Nats-Subject"], headers, answer.data, sequence, 0, time, 0)


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
        Called with each `Stored`, in order, without a gap.
    on_gap : callable
        Called once when messages were lost on the way: make a new consumer.
    """

    def __init__(
        self,
        connection: Connection,
        stream: str,
        on_message: Callable[[Stored], None],
        on_gap: Callable[[], None],
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._on_message = on_message
        self._on_gap = on_gap
        self._subscription: Subscription | None = None
        self._delivered = 0
        self._open = True
        self._name = f"happen-{secrets.token_hex(6)}"
        self.heard = 0.0
        """When something was last heard of it, by the loop's clock."""

    async def start(self, config: dict[str, Any], *, timeout: float, limit: int | None = None) -> int:
        """Create it; `config` says what to deliver, and `limit` how many at most.

        Without a limit the server pushes, as fast as flow control allows; with one it gives so many.

        Returns
        -------
        int
            How many messages wait for it at this moment.
        """
        self.heard = asyncio.get_running_loop().time()
        inbox = self._connection.new_inbox()
        self._subscription = await self._connection.subscribe(inbox, self._received)
        pushed = {"deliver_subject": inbox, "flow_control": True, "idle_heartbeat": 1_000_000_000}
        request = {
            "stream_name": self._stream,
            "config": {**_EPHEMERAL, "name": self._name, **config, **({} if limit else pushed)},
        }
        name = f"CONSUMER.CREATE.{self._stream}.{self._name}"
        answer = await self._connection.api(name, request, timeout=timeout)
        if error := answer.get("error"):
            raise server_error(f"reading {self._stream}", error)
        if limit:
            next_ = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._name}"
            ask = orjson.dumps({"batch": limit, "no_wait": True})
            await self._connection.publish(next_, ask, reply=inbox)
        return int(answer["num_pending"]) + int(answer["delivered"]["consumer_seq"])

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
        else:
            self._on_message(item)

    async def _control(self, message: Msg, headers: dict[str, str]) -> None:
        if message.reply:
            await self._connection.publish(message.reply)
        elif stalled := headers.get("Nats-Consumer-Stalled"):
            await self._connection.publish(stalled)
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
            await self._connection.publish(f"$JS.API.CONSUMER.DELETE.{self._stream}.{self._name}")


Policy = Literal["all", "last_per_subject"]


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
    enough: Callable[[Stored], bool] | None = None,
) -> list[Stored]:
    """What is stored at this moment on a subject or several, oldest first.

    Parameters
    ----------
    start : int or str, optional
        The sequence, or the time (RFC 3339), to begin with.
    policy : "all" or "last_per_subject"
    headers_only : bool, optional
        Leave the bodies out.
    limit : int, optional
        Read no more than so many.
    enough : callable, optional
        Stop before the first message for which it is true.

    Raises
    ------
    HappenTimeoutError
        It took longer than `timeout` seconds without an end in sight.
    """
    subjects = [subject] if isinstance(subject, str) else list(subject)
    config: dict[str, Any] = {"deliver_policy": policy}
    if subjects != [">"]:
        config["filter_subjects"] = subjects
    if isinstance(start, str):
        config |= {"deliver_policy": "by_start_time", "opt_start_time": start}
    elif start:
        config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": start}
    if headers_only:
        config["headers_only"] = True
    deadline = asyncio.get_running_loop().time() + timeout
    while True:
        found = await _read_once(connection, stream, config, deadline, limit, enough)
        if found is not None:
            return found
        if asyncio.get_running_loop().time() > deadline:
            raise HappenTimeoutError(f"reading {subject}: not complete within {timeout:g} s")


async def _read_once(
    connection: Connection,
    stream: str,
    config: dict[str, Any],
    deadline: float,
    limit: int | None,
    enough: Callable[[Stored], bool] | None,
) -> list[Stored] | None:
    """One try: None if the consumer was lost on the way."""
    loop = asyncio.get_running_loop()
    found: list[Stored] = []
    ended: asyncio.Future[bool] = loop.create_future()

    def end(*, complete: bool) -> None:
        if not ended.done():
            ended.set_result(complete)

    def take(item: Stored) -> None:
        if ended.done():
            return
        if enough is not None and enough(item):
            end(complete=True)
            return
        found.append(item)
        if item.pending == 0 or len(found) == limit:
            end(complete=True)

    consumer = Consumer(connection, stream, take, lambda: end(complete=False))
    try:
        left = max(0.1, deadline - loop.time())
        if not await consumer.start(config, timeout=left, limit=limit):
            return found
        while not ended.done():
            await asyncio.wait([ended], timeout=0.25)
            if loop.time() - consumer.heard > SILENCE or loop.time() > deadline:
                end(complete=False)
        return found if ended.result() else None
    finally:
        await consumer.stop()
