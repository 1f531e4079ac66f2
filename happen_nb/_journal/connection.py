"""A NATS connection whose calls survive a lost connection.

A call waits in our own table until its answer arrives. It is sent again when the connection is back, when
the server asks to retry, and when it has no answer although the server has read it. So a call must be one
that may arrive twice without harm: each of ours carries an expectation that ensures it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import secrets
import socket
from typing import TYPE_CHECKING, Any

import nats.errors
import orjson
from nats.aio.msg import Msg

from happen_nb._journal.client import (
    MIN_BYTES_PER_SECOND,
    Credentials,
    NatsClient,
    check_address,
    check_tls,
    explain,
    is_refusal,
    is_retryable,
    is_unavailable,
    redact_url,
)
from happen_nb._journal.wire import Message, space_of
from happen_nb.errors import (
    ClosedError,
    HappenConnectionError,
    HappenError,
    HappenTimeoutError,
    NotStoredError,
    OutcomeUnknownError,
    TooLargeError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
    from typing import Self

    from nats.aio.subscription import Subscription

    from happen_nb._journal.parser import Receive

log = logging.getLogger("happen_nb")
_dice = secrets.SystemRandom()  # the numbers of the global generator belong to the user

CoreMessage = Msg
"""A message as a subscription or a request delivers it; it is not stored."""

OLDEST_SERVER = (2, 12)  # the first nats-server with atomic batches and a time to live per message
NAME = "happen_nb"  # starts the name of every connection on the server
SECURE_SCHEMES = ("tls", "wss")
MAX_HEADER_SIZE = 66_000
"""Bytes of headers that a server allows, and a few more: a smaller message is not counted exactly."""
RECONNECT_SECONDS: Any = 0.05  # nats-py's annotation is int, but it sleeps any number of seconds
RETRY_SECONDS = 0.05  # delay before a call that the server could not process at the moment is sent again
CHECK_SECONDS = 1.0
"""Interval of the checks of an unanswered call: it is sent again if the server has read it."""
ANSWER_SECONDS = 0.25  # time for the answer after the server has read a call
GONE_SECONDS = 0.2  # seconds of "no responders" after which we ask whether the stream still exists
MOVE_SECONDS = 5.0  # seconds without an answer after which a client of a cluster moves to another server
MAX_KEPT_PROBLEMS = 10
_READS = ("STREAM.INFO.", "STREAM.LIST", "STREAM.MSG.GET.", "CONSUMER.")
"""The beginnings of the names of API calls that store nothing."""
_PROCESS = secrets.token_hex(3)


def process_name() -> str:
    """Return the name of this process's connections on the server: for people, and unique."""
    return f"{NAME} process {os.getpid()} on {socket.gethostname()} [{_PROCESS}]"


class _Call:
    """A call of the server that waits for its answer."""

    def __init__(
        self,
        token: str,
        messages: Sequence[Message],
        future: asyncio.Future[Any],
        deadline: float,
        what: str,
        due: float,
        started: float,
        again: Callable[[], Sequence[Message]] | None,
        *,
        reads: bool,
    ) -> None:
        self.token = token
        self.messages = messages
        self.future = future
        self.deadline = deadline
        self.what = what
        self.due = due  # the loop's time of the next check
        self.started = started
        self.again = again
        self.reads = reads
        self.sent = 0
        self.refused = 0  # the number of these sendings that the server has certainly not processed
        self.no_responders_since = 0.0
        self.tasks: set[asyncio.Task[None]] = set()


class Connection:
    """One connection to a server or cluster; everything here runs on its event loop."""

    def __init__(self, servers: Sequence[str], client: NatsClient) -> None:
        self.servers = list(servers)
        self._client = client
        self.why_closed = "the space was closed; connect again"
        """For the errors of calls that still wait when it is closed, or come later."""
        self._loop = asyncio.get_running_loop()
        self._calls: dict[str, _Call] = {}
        self._abandoned: dict[str, asyncio.Future[None]] = {}
        self._inbox = f"{self.new_inbox()}."
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._reconnected: list[Callable[[], None]] = []
        self._probe: asyncio.Task[None] | None = None
        self._gone_check: asyncio.Task[None] | None = None
        self._moved_at = 0.0
        self.stream_problem: Callable[[], Awaitable[str | None]] | None = None
        """Called when no answer arrives: returns the problem if the stream no longer exists."""
        self.diagnose: Callable[[], str | None] | None = None
        """Returns why a call may have no answer, for people; None if nothing is known."""
        self.stream_is_gone = False
        """True since the stream was last found to be deleted."""
        self.max_payload = 0
        """The bytes that the server accepts in one message, with its headers."""
        self._closed = False

    @classmethod
    async def open(cls, servers: Sequence[str], credentials: Credentials, *, timeout: float) -> Self:
        """Connect within `timeout` seconds; HappenConnectionError names the reason if that fails."""
        secure = [check_address(url).scheme in SECURE_SCHEMES for url in servers]
        credentials.check()
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
            if is_refusal(error) and not refused.done():
                refused.set_exception(error)

        async def on_reconnect() -> None:
            self.max_payload = self._client.max_payload
            if self._probe is not None:
                self._probe.cancel()
            for call in list(self._calls.values()):
                self._send_again(call)
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
        await self._client.subscribe(
            self._inbox + "*", cb=self._on_answer, pending_msgs_limit=0, pending_bytes_limit=0
        )

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
            except (nats.errors.TimeoutError, nats.errors.ConnectionReconnectingError) as late:
                log.debug("%s: %s; asking again", where, late)
                continue
            if not is_unavailable(answer):
                break
            await asyncio.sleep(RETRY_SECONDS)  # the cluster has no leader at the moment
        if answer.headers and answer.headers.get("Status") == "503":
            raise nats.errors.NoRespondersError
        if error := orjson.loads(answer.data).get("error"):
            raise HappenConnectionError(f"{where}: JetStream cannot be used: {error['description']}")

    # -- the state of the connection -----------------------------------------------------------------

    @property
    def where(self) -> str:
        """The addresses, for people: without secrets."""
        return ", ".join(redact_url(url) for url in self.servers)

    @property
    def connected(self) -> bool:
        return bool(self._client.is_connected)

    @property
    def is_closed(self) -> bool:
        return self._closed

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

    def after_reading(self, callback: Callable[[], object]) -> None:
        """Call something each time when all that has arrived is processed."""
        self._client.after_reading.append(callback)

    @property
    def reading(self) -> bool:
        """True while what has arrived is processed."""
        return self._client.reading

    def post(self, subject: str, body: bytes = b"", *, reply: str = "") -> None:
        """Send a message at once, without headers; it is not stored, and dropped as by `send`."""
        head = f"PUB {subject} {reply} {len(body)}" if reply else f"PUB {subject} {len(body)}"
        self.write([b"%s\r\n%s\r\n" % (head.encode(), body)])

    def write(self, data: list[bytes]) -> None:
        """Write encoded messages at once; they are lost if the connection is."""
        if self.connected:
            self._client.write(data)

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

    # -- calls ---------------------------------------------------------------------------------------

    async def api(self, name: str, body: dict[str, Any] | None = None, *, timeout: float) -> dict[str, Any]:
        """Call JetStream's API; an error in the answer is in the ``error`` key."""
        subject = f"$JS.API.{name}"
        message = Message(subject, orjson.dumps(body) if body is not None else b"", {})
        reads = name.startswith(_READS)
        stream = next(filter(None, map(space_of, name.split("."))), None)
        what = subject if stream is None else f'the space "{stream}"'
        if reads:
            what = "reading from the server" if stream is None else f"reading {what}"
        answer = await self.call([message], timeout=timeout, what=what, reads=reads)
        result: dict[str, Any] = orjson.loads(answer.data)
        return result

    async def call(
        self,
        messages: Sequence[Message],
        *,
        timeout: float,
        what: str,
        future: asyncio.Future[Any] | None = None,
        again: Callable[[], Sequence[Message]] | None = None,
        sent_at: float | None = None,
        unbroken: bool = False,
        reads: bool = False,
    ) -> Any:
        """Send messages and wait for the answer to the last one; `what` names the call in errors.

        The caller may resolve `future` if it learns the outcome before the answer arrives; its result is
        returned then. `again` returns the messages of later sendings, none if they must not be sent again;
        without it the same messages are sent. `sent_at` is the loop's time at which they were sent already,
        without an answer; if that was on this `unbroken` connection, they are sent again once the server has
        read them.

        Raises
        ------
        HappenTimeoutError
            A call that only `reads` has timed out.
        NotStoredError
            Timed out before anything could be sent.
        OutcomeUnknownError
            Timed out after sending.
        """
        if self._closed:
            raise ClosedError(f"{what}: {self.why_closed}")
        self.check_size(messages, what)
        self._count += 1
        now = self._loop.time()
        future = future or self._loop.create_future()
        due = now if sent_at is not None else now + min(CHECK_SECONDS, timeout)
        call = _Call(
            str(self._count), messages, future, now + timeout, what, due, sent_at or now, again, reads=reads
        )
        self._calls[call.token] = call
        self._check_at(due)
        try:
            call.sent = 0 if sent_at is None else 1
            if sent_at is None or not unbroken:
                await self._send(call)
            return await call.future
        except asyncio.CancelledError:
            if call.sent:  # it may be stored: `wait_abandoned` waits until that is known
                self._abandoned[call.token] = self._loop.create_future()
                self._loop.call_at(call.deadline, self._abandoned.pop, call.token, None)
            raise
        finally:
            del self._calls[call.token]
            for task in call.tasks:
                task.cancel()

    def waits_since(self) -> float:
        """Return the loop's time of the oldest call without an answer; infinity: none. From any thread."""
        return min((call.started for call in list(self._calls.values())), default=math.inf)

    def check_size(self, messages: Sequence[Message], what: str) -> None:
        """Raise TooLargeError if the server does not accept one of the messages. From any thread."""
        limit = self.max_payload
        for message in messages:
            if len(message.body) > limit - MAX_HEADER_SIZE and message.size > limit:
                raise TooLargeError(
                    f"{what}: {message.size:,} bytes, and the server accepts at most {limit:,}"
                )

    async def wait_abandoned(self, timeout: float) -> None:
        """Wait for the answers to interrupted calls, so that later calls see their effects."""
        if self._abandoned:
            await asyncio.wait(self._abandoned.values(), timeout=timeout)

    async def _send(self, call: _Call) -> None:
        if not self.connected:
            return
        messages = call.messages if call.again is None or call.sent == call.refused else call.again()
        if not messages:
            return
        try:
            for message in messages[:-1]:
                await self._client.publish(message.subject, message.body, headers=message.headers)
            last = messages[-1]
            await self._client.publish(
                last.subject, last.body, reply=self._inbox + call.token, headers=last.headers or None
            )
        except (nats.errors.Error, OSError) as error:
            log.debug("%s: not sent (%s); it is sent again when the connection is back", call.what, error)
        else:
            call.sent += 1

    def _send_again(self, call: _Call) -> None:
        if not call.future.done():
            task = self._loop.create_task(self._send(call))
            call.tasks.add(task)
            task.add_done_callback(call.tasks.discard)

    def _check_at(self, when: float) -> None:
        """Check the calls at this time, or before: one timer serves all, since most calls need none."""
        if self._timer is not None:
            if self._timer.when() <= when:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(when, self._check_calls)

    def _check_calls(self) -> None:
        """Fail the calls that have timed out, and see why others have no answer yet."""
        self._timer = None
        now = self._loop.time()
        overdue = any(call.due <= now and not call.future.done() for call in self._calls.values())
        reason = self.diagnosis() if overdue else None
        unanswered: list[_Call] = []
        for call in self._calls.values():
            if call.future.done():
                continue
            if call.deadline <= now:
                state = "does not answer" if self.connected else "is not connected"
                late = f"{self.where} {state}" if call.sent else f"no connection to {self.where}"
                call.future.set_exception(_unanswered(call, f"{late} in time"))
                continue
            if call.due <= now and reason:
                call.future.set_exception(_unanswered(call, reason))
                continue
            if call.due <= now:
                unanswered.append(call)
                call.due = min(now + CHECK_SECONDS, call.deadline)
            self._check_at(call.due)
        probing = self._probe is not None and not self._probe.done()
        if not unanswered or not self.connected or probing:
            return
        if self._server_fails(now):
            self._moved_at = now
            self._probe = self._loop.create_task(self._move())
        else:
            self._probe = self._loop.create_task(self._resend_if_read(unanswered))

    def _server_fails(self, now: float) -> bool:
        """Return True if this server is silent for so long that another of the cluster should be tried."""
        if not self._client.can_move or self.transferring:
            return False
        calls = list(self._calls.values())
        written = sum(message.size for call in calls for message in call.messages)
        longest = now - max(self._moved_at, min(call.started for call in calls))
        return longest > MOVE_SECONDS + written / MIN_BYTES_PER_SECOND

    async def _move(self) -> None:
        self._probe = None  # the reconnect would cancel it
        await self._client.move()

    async def _resend_if_read(self, calls: Iterable[_Call]) -> None:
        """Send calls again that have no answer although the server has read them.

        On a slow link a call may still be on its way, and its answer may wait behind a large message. A PONG
        shows that the server has read everything written before the PING; a second one, that the answer
        would have arrived by now.
        """
        try:
            await self._client.flush()
            await asyncio.sleep(ANSWER_SECONDS)
            await self._client.flush()
        except (nats.errors.Error, OSError, AttributeError, RuntimeError) as error:
            log.debug("ping: %s", error)  # the connection is being replaced: all calls are sent again then
        else:
            for call in calls:
                if call.sent != call.refused:  # else its own timer sends it
                    self._send_again(call)
        finally:
            self._probe = None

    def diagnosis(self) -> str | None:
        """Return why a call may have no answer, as far as it is known."""
        return self.diagnose() if self.diagnose is not None else None

    async def _on_answer(self, answer: Msg) -> None:
        token = answer.subject[len(self._inbox) :]
        if (abandoned := self._abandoned.pop(token, None)) is not None:
            abandoned.set_result(None)
        call = self._calls.get(token)
        if call is None or call.future.done():
            return
        if not is_retryable(answer):
            call.future.set_result(answer)
            return
        call.refused += 1
        now = self._loop.time()
        call.no_responders_since = call.no_responders_since or now
        if now - call.no_responders_since > GONE_SECONDS and self._gone_check is None:
            self._gone_check = self._loop.create_task(self._fail_if_gone())
        self._loop.call_later(RETRY_SECONDS, self._send_again, call)

    async def _fail_if_gone(self) -> None:
        """Fail the unanswered calls if the stream was deleted."""
        try:
            gone = None if self.stream_problem is None else await self.stream_problem()
            for call in list(self._calls.values()) if gone else ():
                if call.no_responders_since and not call.future.done():
                    call.future.set_exception(HappenError(f"{call.what}: {gone}"))
        except HappenError as problem:
            log.debug("does the stream exist? %s", problem)
        finally:
            self._gone_check = None

    async def close(self) -> None:
        """Close the connection; calls that still wait fail."""
        self._closed = True
        for task in (self._probe, self._gone_check):
            if task is not None:
                task.cancel()
        for call in list(self._calls.values()):
            if not call.future.done():
                call.future.set_exception(ClosedError(f"{call.what}: {self.why_closed}"))
        await self._client.close()


def _unanswered(call: _Call, reason: str) -> Exception:
    if call.reads:
        return HappenTimeoutError(f"{call.what}: {reason}")
    if not call.sent:
        return NotStoredError(f"{call.what}: {reason}; nothing was stored")
    return OutcomeUnknownError(f"{call.what}: {reason}; it may or may not be stored; read it to find out")


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
