"""A connection to a NATS server or cluster."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import nats.errors
import orjson
from nats.aio.msg import Msg

from happen_nb._journal.addresses import Credentials, check_address, check_tls, check_web_sockets, redact_url
from happen_nb._journal.calls import RETRY_SECONDS, Calls
from happen_nb._journal.client import (
    MIN_BYTES_PER_SECOND,
    NatsClient,
    explain,
    is_forbidden,
    is_refusal,
    is_unavailable,
)
from happen_nb._journal.wire import Message, space_of
from happen_nb.errors import ClosedError, HappenConnectionError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from nats.aio.subscription import Subscription

    from happen_nb._journal.parser import Receive

log = logging.getLogger("happen_nb")
_dice = secrets.SystemRandom()  # the numbers of the global generator belong to the user

CoreMessage = Msg  # a message as a subscription or a request delivers it; it is not stored

OLDEST_SERVER = (2, 12)  # the first nats-server with atomic batches and a time to live per message
NAME = "happen_nb"  # starts the name of every connection on the server
SECURE_SCHEMES = ("tls", "wss")
MAX_HEADER_SIZE = 66_000
"""Bytes of headers that a server allows, and a few more: a smaller message is not counted exactly."""
RECONNECT_SECONDS: Any = 0.05  # nats-py's annotation is int, but it sleeps any number of seconds
MAX_KEPT_PROBLEMS = 10
_READS = ("STREAM.INFO.", "STREAM.LIST", "STREAM.MSG.GET.", "CONSUMER.")
"""The beginnings of the names of API calls that store nothing."""
_LOST = nats.errors.ConnectionReconnectingError, nats.errors.OutboundBufferLimitError, OSError
"""The errors of nats-py while a connection is being lost."""
_PROCESS = secrets.token_hex(3)


def process_name() -> str:
    """Return the name of this process's connections on the server: for people, and unique."""
    return _process_name(os.getpid())


@cache  # a process finds its own connections by it
def _process_name(pid: int) -> str:
    notebook = f" ({name})" if (name := notebook_name()) else ""
    return f"{NAME} process {pid} on {socket.gethostname()}{notebook} [{_PROCESS}]"


def notebook_name() -> str:
    """Return the name of the notebook of this kernel; empty if the front end does not provide it."""
    name = Path(os.environ.get("JPY_SESSION_NAME", "")).name
    return "".join(each for each in name if each.isprintable())


class Connection:
    """One connection to a server or cluster; everything here runs on its event loop."""

    def __init__(self, servers: Sequence[str], client: NatsClient) -> None:
        self.servers = list(servers)
        self._client = client
        self.why_closed = "the space was closed; connect again"
        """The reason in the errors of calls that still wait when it is closed, or that come later."""
        self._loop = asyncio.get_running_loop()
        self._reconnected: list[Callable[[], None]] = []
        self.calls = Calls(self, client)
        self.diagnose: Callable[[], str | None] | None = None
        """Returns why a call may have no answer, for people; None if nothing is known."""
        self.stream_is_gone = False  # True since the stream was last found to be deleted
        self._forbidden: set[str] = set()
        self._refused = False  # True if the server has refused the credentials since the connection was lost
        self.max_payload = 0  # the bytes that the server accepts in one message, with its headers
        self.is_closed = False

    @classmethod
    async def open(cls, servers: Sequence[str], credentials: Credentials, *, timeout: float) -> Self:
        """Connect within `timeout` seconds; HappenConnectionError names the reason if that fails."""
        secure = [check_address(url).scheme in SECURE_SCHEMES for url in servers]
        credentials.check()
        check_web_sockets(servers, encrypted=credentials.tls is not None)
        if credentials.tls is not None or any(secure):
            await check_tls(servers, timeout=timeout)
        self = cls(servers, NatsClient())
        where = self.where
        problems: list[Exception] = []
        try:
            async with asyncio.timeout(timeout):
                await self._connect(credentials, problems)
                await self._check(where)
        except BaseException as error:
            await self._client.close()
            if isinstance(error, HappenConnectionError):  # it already names the problem
                raise
            if isinstance(error, TimeoutError | OSError | nats.errors.Error):
                raise explain(where, error, problems, timeout) from None
            raise
        return self

    async def _connect(self, credentials: Credentials, problems: list[Exception]) -> None:
        refused: asyncio.Future[None] = self._loop.create_future()

        async def on_error(error: Exception) -> None:
            problems.append(error)
            del problems[:-MAX_KEPT_PROBLEMS]
            log.debug("nats: %s", error)
            self._refused = is_refusal(error)
            if is_forbidden(error) and not self.calls.forbid(str(error)):
                self._warn_forbidden(str(error))
            if self._refused and not refused.done():
                refused.set_exception(error)

        async def on_reconnect() -> None:
            self._refused = False
            self.max_payload = self._client.max_payload
            self.calls.reconnected()
            for callback in self._reconnected:
                callback()

        connecting = self._client.connect(
            servers=_dice.sample(self.servers, len(self.servers)),
            dont_randomize=True,  # the servers are tried in turn, so never again the one that was just left
            name=process_name(),
            error_cb=on_error,
            reconnected_cb=on_reconnect,
            connect_timeout=1,
            reconnect_time_wait=RECONNECT_SECONDS,
            max_reconnect_attempts=-1,
            allow_reconnect=True,
            pending_size=0,
            **credentials.options(),
        )
        await _unless_refused(connecting, refused)
        self.max_payload = self._client.max_payload
        await self.calls.open()

    async def _check(self, where: str) -> None:
        version = self._client.connected_server_version
        if (version.major, version.minor) < OLDEST_SERVER:
            raise HappenConnectionError(
                f"{where}: this is nats-server {self.server_version}; "
                f"happen_nb needs {OLDEST_SERVER[0]}.{OLDEST_SERVER[1]} or newer (atomic batches). "
                "Upgrade the server"
            )
        while True:  # until the caller's timeout
            try:
                answer = await self._client.request("$JS.API.INFO", b"", timeout=1)
            except (nats.errors.TimeoutError, *_LOST) as late:
                log.debug("%s: %s; asking again", where, late)
            else:
                if not is_unavailable(answer):
                    break  # else the cluster has no leader at the moment
            await asyncio.sleep(RETRY_SECONDS)
        if answer.headers and answer.headers.get("Status") == "503":
            raise nats.errors.NoRespondersError
        if error := orjson.loads(answer.data).get("error"):
            raise HappenConnectionError(f"{where}: JetStream cannot be used: {error['description']}")

    def _warn_forbidden(self, text: str) -> None:
        """Log what the server does not permit, once for publishing and once for subscribing."""
        kind = text.partition('"')[0]
        if kind not in self._forbidden:
            self._forbidden.add(kind)
            log.warning("%s does not permit what a space needs: %s", self.where, text)

    # -- the state of the connection -----------------------------------------------------------------

    @property
    def where(self) -> str:
        """The addresses, for people: without secrets."""
        return ", ".join(redact_url(url) for url in self.servers)

    @property
    def connected(self) -> bool:
        return bool(self._client.is_connected)

    @property
    def transferring(self) -> bool:
        """True while a large message has arrived in part."""
        return self._client.transferring

    @property
    def transfer_seconds(self) -> float:
        """Extra seconds of silence to allow: a large message may precede the awaited one."""
        return self.max_payload / MIN_BYTES_PER_SECOND if self.transferring else 0.0

    @property
    def server_version(self) -> str:
        """The version of the server that it is connected to now."""
        version = self._client.connected_server_version
        return f"{version.major}.{version.minor}.{version.patch}"

    @property
    def server_id(self) -> str:
        """The cluster that it is connected to now, or the id of the server, which is new at each start."""
        info = self._client._server_info
        return str(info.get("cluster") or info["server_id"])

    async def wait_connected(self, timeout: float) -> bool:
        """Wait until the connection is up; False if that takes longer than `timeout` seconds."""
        deadline = self._loop.time() + timeout
        while not self.connected and self._loop.time() < deadline:  # noqa: ASYNC110 - nats-py has no event
            await asyncio.sleep(RECONNECT_SECONDS / 5)
        return self.connected

    def why_late(self, *, sent: bool) -> str:
        """Return why a call has no answer in time; `sent` is True if it has left."""
        if self._refused and not self.connected:
            return f"{self.where} refuses the credentials; connect again with valid ones"
        state = "does not answer" if self.connected else "is not connected"
        return f"{self.where} {state} in time" if sent else f"no connection to {self.where} in time"

    def use_credentials_of(self, other: Connection) -> None:
        """Connect as another connection does from now on."""
        self.servers = other.servers
        self._client.use_credentials_of(other._client)

    def on_reconnect(self, callback: Callable[[], None]) -> None:
        self._reconnected.append(callback)

    def move_to(self, url: str) -> None:
        """Use this address, at which the server is from now on."""
        if url not in self.servers:
            self.servers = [url]
            self._client.set_server_pool([url])

    # -- messages that are not stored ----------------------------------------------------------------

    async def subscribe(
        self, subject: str, callback: Callable[[CoreMessage], Awaitable[None]]
    ) -> Subscription:
        """Subscribe to a subject, with an unlimited queue; reconnects subscribe again."""
        try:
            return await self._client.subscribe(
                subject, cb=callback, pending_msgs_limit=0, pending_bytes_limit=0
            )
        except nats.errors.ConnectionClosedError:
            raise ClosedError(self.why_closed) from None

    async def subscribe_directly(self, subject: str, receive: Receive) -> Subscription:
        """Subscribe to a subject; `receive` gets each message as it arrived, without a queue between."""
        try:
            return await self._client.subscribe_directly(subject, receive)
        except nats.errors.ConnectionClosedError:
            raise ClosedError(self.why_closed) from None

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription; a lost connection has already forgotten it."""
        try:
            await self._client.unsubscribe(subscription)
        except (nats.errors.Error, OSError) as error:
            log.debug("unsubscribe: %s", error)

    async def send(
        self, subject: str, body: bytes = b"", *, reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """Send a message that is not stored; it is dropped while the connection is down."""
        if not self.connected:
            return
        try:
            await self._client.publish(subject, body, reply=reply, headers=headers)
        except nats.errors.Error as error:  # the connection was lost just now
            log.debug("%s: %s", subject, error)

    def before_reading(self, callback: Callable[[], object]) -> None:
        """Call something each time before what has arrived is processed."""
        self._client.before_reading.append(callback)

    def after_reading(self, callback: Callable[[], object]) -> None:
        """Call something whenever all received data is processed."""
        self._client.after_reading.append(callback)

    @property
    def reading(self) -> bool:
        """True while received data is processed."""
        return self._client.reading

    def post(self, subject: str, body: bytes = b"", *, reply: str = "") -> None:
        """Send a message at once, without headers; it is not stored, and dropped as by `send`."""
        head = f"PUB {subject} {reply} {len(body)}" if reply else f"PUB {subject} {len(body)}"
        self.write([b"%s\r\n%s\r\n" % (head.encode(), body)])

    def write(self, data: list[bytes]) -> None:
        """Write encoded messages at once; they are lost if the connection is."""
        if self.connected:
            self._client.write(data)

    def send_here(self, data: bytes) -> bool:
        """Send an encoded message from this thread; False if only `write` can. From any thread."""
        return self._client.send_here(data)

    async def request(self, subject: str, body: bytes, *, timeout: float) -> bytes | None:
        """Ask the subscriber of a subject, once: None if there is none, empty if no answer comes in time."""
        try:
            answer = await self._client.request(subject, body, timeout=timeout)
        except nats.errors.NoRespondersError:
            return None
        except (nats.errors.Error, OSError, TimeoutError) as error:
            log.debug("asking %s: %s", subject, error)
            return b""
        return bytes(answer.data)

    def new_inbox(self) -> str:
        """Return a subject for answers, of this connection alone."""
        return f"_INBOX.{secrets.token_hex(11)}"

    async def api(self, name: str, body: dict[str, Any] | None = None, *, timeout: float) -> dict[str, Any]:
        """Call JetStream's API; an error in the answer is in the ``error`` key."""
        subject = f"$JS.API.{name}"
        message = Message(subject, orjson.dumps(body) if body is not None else b"", {})
        reads = name.startswith(_READS)
        stream = next(filter(None, map(space_of, name.split("."))), None)
        what = subject if stream is None else f'the space "{stream}"'
        if reads:
            what = "reading from the server" if stream is None else f"reading {what}"
        answer = await self.calls.make([message], timeout=timeout, what=what, reads=reads)
        result: dict[str, Any] = orjson.loads(answer.data)
        return result

    def check_size(self, messages: Sequence[Message], what: str) -> None:
        """Raise TooLargeError if the server does not accept one of the messages. From any thread."""
        limit = self.max_payload
        for message in messages:
            if len(message.body) > limit - MAX_HEADER_SIZE and message.size > limit:
                raise TooLargeError(
                    f"{what}: {message.size:,} bytes, but the server accepts at most {limit:,}; split it"
                )

    def diagnosis(self) -> str | None:
        """Return why a call may have no answer, as far as it is known."""
        return self.diagnose() if self.diagnose is not None else None

    async def close(self) -> None:
        """Close the connection; calls that still wait fail."""
        self.is_closed = True
        self.calls.close()
        await self._client.close()


async def _unless_refused(work: Coroutine[Any, Any, None], refusal: asyncio.Future[None]) -> None:
    """Wait for `work`, but no longer than until it is refused."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task, refusal}, return_when=asyncio.FIRST_COMPLETED)
        if refusal.done() and not task.done():
            refusal.result()
        await task
    finally:
        refusal.cancel()
        while not task.done():  # Python 3.11 drops a cancel that comes when what is awaited has just ended
            task.cancel()
            await asyncio.wait({task}, timeout=RETRY_SECONDS)
        if not task.cancelled():
            task.exception()  # nothing else retrieves it
