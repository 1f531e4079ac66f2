"""nats-py's client, aware of slow links and broken headers; addresses, credentials and error messages."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import time
from collections import deque
from collections.abc import Sequence
from contextvars import Context
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.transport import TcpTransport

from happen_nb._journal.addresses import Address
from happen_nb._journal.parser import MessageParser
from happen_nb.errors import HappenConnectionError, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.aio.client import Srv
    from nats.aio.subscription import Subscription

    from happen_nb._journal.parser import Receive

log = logging.getLogger("happen_nb")

PING_SECONDS = 1.0
SOCKET_POLL_SECONDS = 0.01  # delay before the loop tries again to take the socket
STALE_SECONDS = 10.0  # seconds without a byte from the server after which the connection counts as lost
STALE_SECONDS_CLUSTER = 3.0  # the same where another server of a cluster can take over
MIN_BYTES_PER_SECOND = 250_000  # a link that carries our data at this rate is slow, not lost
RECEIVE_BYTES = 65_536  # read at most at once; for asyncio's 256 kB, memory is mapped and unmapped each time
SEQUENCE = "Nats-Sequence"  # a header of each stored message in the response to a direct get
_UNAVAILABLE = (b'"err_code":10008,', b'"err_code":10164,')  # JetStream, or a subject's expected sequence
_DISK_FULL = (10047, 10077, 10023, 10028)
_WHITESPACE = " \t\n\r\x0b\x0c"  # around the names and values of headers


class SharedTransport(TcpTransport):
    """A TCP connection on which any thread may send a message, as long as nothing else waits to be sent.

    A sender takes the socket out of `_free` and puts it back. The loop keeps it while it has lines to send.
    """

    # A signal handler or a finalizer may interrupt a thread at the end of any call, and wait for the loop. So
    # no call ends between taking the socket and putting it back, and the loop never blocks for it.

    def __init__(self, opened: TcpTransport, process: Callable[[bytes], bytes]) -> None:
        vars(self).update(vars(opened))
        self._process = process
        self._loop = asyncio.get_running_loop()
        receiver: Any = None if self._io_writer is None else self._io_writer.transport
        if hasattr(receiver, "max_size"):  # that of another event loop may have none
            receiver.max_size = RECEIVE_BYTES
        self._socket: socket.socket | None = None
        """The socket of the other threads: a duplicate, whose number stays theirs while they send."""
        self._free: deque[socket.socket] = deque()  # the socket, while nobody sends
        self._rests: deque[bytes] = deque()
        """The rest of a message that another thread has sent in part; the socket is the loop's then."""
        self._taken = True  # True while the loop has the socket
        self._unsent: list[bytes] = []  # the lines that the loop writes as soon as it has the socket

    async def read(self, buffer_size: int) -> bytes:
        """Read what `process` leaves of the data; it gets all that arrives, without a turn of the loop."""
        reader = self._io_reader
        assert reader is not None

        def receive(data: bytes) -> None:
            if rest := self._process(data):
                stop()
                reader.feed_data(rest)

        def stop() -> None:
            vars(reader).pop("feed_data", None)

        vars(reader)["feed_data"] = receive
        try:
            return await reader.read(buffer_size)
        finally:
            stop()

    async def connect_tls(self, *args: Any, **options: Any) -> None:
        """Encrypt the connection as nats-py does."""
        await super().connect_tls(*args, **options)
        if self._io_writer is not None:  # else asyncio warns of each end of the connection
            vars(self._io_writer.transport.get_protocol())["_over_ssl"] = True

    def share(self) -> None:
        """Let other threads send until the connection is closed, unless it is encrypted. In the loop."""
        writer = self._io_writer
        if self._socket is None and writer is not None and writer is self._bare_io_writer:
            own = writer.get_extra_info("socket")
            try:
                self._socket = socket.fromfd(own.fileno(), own.family, own.type)
            except OSError as error:  # the connection is lost, or there is no file descriptor left
                log.debug("sharing the connection: %s; only the loop sends for now", error)
                return
            self._socket.setblocking(False)
            self.writelines([])

    def send_here(self, data: bytes) -> bool:
        """Send a message from this thread; False if only the loop can. From any thread."""
        shared, size, put_back, leave = self._socket, len(data), self._free.append, self._rests.append
        if shared is None or self._unsent:
            return False
        sending, done = map(socket.socket.send, iter(self._free.pop, None), (data,)), True
        try:
            for sent in sending:  # this takes the socket, and no call ends before the next line but one
                leave(data[sent:]) if sent < size else put_back(shared)
                break
        except IndexError:  # another thread has it
            return False
        except OSError:  # there is no room, or the connection is lost just now
            put_back(shared)
            done = False
        if self._unsent or self._rests:
            self._loop.call_soon_threadsafe(self.writelines, [], context=Context())
        return done

    def write(self, payload: bytes) -> None:
        self.writelines([payload])

    def writelines(self, payload: list[bytes]) -> None:
        self._unsent.extend(payload)
        if not self._take():  # the thread that has it calls this again, unless it is interrupted
            self._loop.call_later(SOCKET_POLL_SECONDS, self.writelines, [])
            return
        lines, self._unsent = self._unsent, []
        transport = None if self._io_writer is None else self._io_writer.transport
        if transport is None or transport.is_closing():
            return  # asyncio would warn that the connection is lost
        if lines:
            transport.writelines(lines)
        if self._socket is not None and not transport.get_write_buffer_size():
            self._taken = False
            self._free.append(self._socket)

    def _take(self) -> bool:
        if not self._taken:
            try:
                if self._rests:
                    self._unsent.insert(0, self._rests.pop())
                else:
                    self._free.pop()
            except IndexError:
                return False
            self._taken = True
        return True

    def close(self) -> None:
        self._unsent = []
        self._stop_sharing()
        super().close()  # type: ignore[no-untyped-call]

    def _stop_sharing(self) -> None:
        """Close the socket of the other threads, and drop the rest that one of them has not sent."""
        unsent = self._unsent.copy()
        if not self._take():
            self._loop.call_later(SOCKET_POLL_SECONDS, self._stop_sharing)
        elif self._socket is not None:
            self._socket.close()
            self._socket, self._unsent = None, unsent


class NatsClient(Client):
    """A client of nats-py that knows whether data still flows.

    nats-py counts whole messages, so one that takes longer than a few pings looks like silence.
    """

    def __init__(self) -> None:
        super().__init__()
        self._received_at = time.monotonic()
        self._written_then = 0
        self._ps = self._parser = MessageParser(self)
        parse = self._parser.parse

        self.reading = False  # True while received data is processed
        self.before_reading: list[Callable[[], object]] = []  # called before that
        self.after_reading: list[Callable[[], object]] = []  # called when that is done

        async def counted(data: bytes) -> None:
            try:
                self._begin_reading()
                await parse(data)
            finally:
                self._end_reading()

        self._ps.parse = counted  # type: ignore[method-assign,assignment]

    def _begin_reading(self) -> None:
        self._received_at = time.monotonic()
        self._written_then = self.stats["out_bytes"]
        self.reading = True
        for callback in self.before_reading:
            callback()

    def _end_reading(self) -> None:
        self.reading = False
        for callback in self.after_reading:
            callback()

    def _process(self, data: bytes) -> bytes:
        """Process what has arrived, as far as nats-py is not needed; return the rest."""
        if not self.is_connected:
            return data
        try:
            self._begin_reading()
            return self._parser.take(data)
        finally:
            self._end_reading()

    def _setup_server_pool(self, connect_url: list[str]) -> None:
        """Set up the servers as nats-py does; their secrets may have percent-encoded characters."""
        super()._setup_server_pool(connect_url)
        for server in self._server_pool:
            server.uri = Address(*server.uri)

    async def subscribe_directly(self, subject: str, receive: Receive) -> Subscription:
        """Subscribe to a subject; `receive` is called as a message arrives, without a queue and a task."""
        self._parser.direct[b"%d" % (self._sid + 1)] = receive
        return await self.subscribe(subject, pending_msgs_limit=0, pending_bytes_limit=0)

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription, and forget its callback."""
        self._parser.direct.pop(b"%d" % subscription._id, None)
        await subscription.unsubscribe()

    @property
    def transferring(self) -> bool:
        """True while a large message has arrived in part: everything behind it has to wait."""
        return self._parser.transferring

    @property
    def can_move(self) -> bool:
        """True if another server of the cluster can take over."""
        return self.is_connected and len(self._server_pool) > 1

    async def move(self) -> None:
        """Reconnect to the next server of the pool."""
        await self._process_op_err(nats.errors.StaleConnectionError())

    def write(self, data: list[bytes]) -> None:
        """Write to the server at once, after what nats-py has still to write, not in its next turn."""
        size = sum(map(len, data))
        self.stats["out_msgs"] += len(data)
        self.stats["out_bytes"] += size
        self._pending.extend(data)
        self._pending_data_size += size
        if isinstance(self._transport, SharedTransport):
            self._transport.writelines(self._pending)
            self._transport.share()
            self._pending, self._pending_data_size = [], 0
        elif self._flush_queue is not None and self._flush_queue.empty():  # a WebSocket writes when it drains
            self._flush_queue.put_nowait(asyncio.get_running_loop().create_future())

    def send_here(self, data: bytes) -> bool:
        """Send a small message from this thread; False if only the loop can. From any thread."""
        transport = self._transport
        if self._pending or not isinstance(transport, SharedTransport) or not transport.send_here(data):
            return False  # nats-py may still have to write a subscription, which comes first
        self.stats["out_bytes"] += len(data)
        return True

    def use_credentials_of(self, other: NatsClient) -> None:
        """Connect with the addresses and the credentials of another client from now on."""
        self.options, self._server_pool = other.options, other._server_pool.copy()
        self._auth_configured, self._signature_cb = other._auth_configured, other._signature_cb
        self._user_jwt_cb = other._user_jwt_cb

    async def _connect_to_server(self, s: Srv) -> None:
        await super()._connect_to_server(s)
        if type(self._transport) is TcpTransport:
            self._transport = SharedTransport(self._transport, self._process)

    async def _process_connect_init(self) -> None:
        """Greet the server as nats-py does, and try again after any error."""
        # An error that nats-py does not expect would end its reconnecting: a credentials file that is just
        # being written, or another program on the port of a server that is down.
        try:
            await super()._process_connect_init()
        except (OSError, TimeoutError, nats.errors.Error):
            raise
        except Exception as error:
            raise nats.errors.Error(f"nats: no connection: {error}") from error

    async def _process_err(self, err_msg: str) -> None:
        """Report an error of the server; if the server ends the connection too, another one follows."""
        # nats-py would close the client for good.
        await self._error_cb(nats.errors.Error(f"nats: {err_msg}"))

    async def close(self) -> None:
        """Close the connection as nats-py does, also if it is lost at this moment."""
        try:
            await self._close_once()
        except OSError as lost:  # while sending the rest, whose receiver is gone
            log.debug("closing: %s", lost)
            self._pending, self._pending_data_size = [], 0
            self._status = Client.DISCONNECTED
            await self._close_once()

    async def _close_once(self) -> None:
        try:
            await super().close()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            log.debug("closing: the connection was lost, and the wait for its end cancelled")

    async def _send_subscribe(self, sub: Subscription) -> None:
        """Subscribe as nats-py does; if the connection is lost just now, the next one subscribes again."""
        try:
            await super()._send_subscribe(sub)
        except OSError as lost:
            log.debug("subscribing to %s: %s", sub.subject, lost)

    async def _ping_interval(self) -> None:
        """Ping every second; give up the connection when nothing arrives for too long."""
        self._received_at = time.monotonic()
        self._written_then = self.stats["out_bytes"]
        while True:
            await asyncio.sleep(PING_SECONDS)
            if not self.is_connected:
                continue
            limit = STALE_SECONDS_CLUSTER if len(self._server_pool) > 1 else STALE_SECONDS
            limit += (self.stats["out_bytes"] - self._written_then) / MIN_BYTES_PER_SECOND
            if time.monotonic() - self._received_at > limit:
                await self.move()
                return
            try:
                await self._send_ping()
            except (RuntimeError, AttributeError, OSError) as error:  # the transport is being replaced
                log.debug("ping: %s", error)
                return

    async def _process_pong(self) -> None:
        """Process a pong as nats-py does, also that of a flush which gave up waiting for it."""
        # nats-py would set the result of the cancelled future, and the error would end its reading.
        if self._pongs and self._pongs[0].done():
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        """Build a message as nats-py does, also with a subject that is not UTF-8: any client may use one."""
        return Msg(
            _client=self,
            subject=subject.decode(errors="replace"),
            reply=reply.decode(errors="replace"),
            data=data,
            headers=headers,
            _sid=sid,
        )

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        """Parse headers as nats-py does, but treat an invalid block, which any client may send, as absent."""
        try:
            return await super()._process_headers(headers)
        except (ValueError, IndexError) as error:
            log.info("the headers of a message cannot be read: %s", error)
            return None

    @staticmethod
    def parse_headers(block: bytes) -> dict[str, str]:
        """Parse the headers of a message; a status in the first line is ``Status``."""
        first, _, lines = block.partition(b"\r\n")
        found = NatsClient._parse_header_lines(lines)
        status = first[len(b"NATS/1.0") :].split(maxsplit=1)
        return {"Status": status[0].decode(errors="replace"), **found} if status else found

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        """Parse headers as nats-py does, only faster; names with whitespace or non-ASCII are skipped."""
        found: dict[str, str] = {}
        for line in raw.decode("utf-8", "replace").split("\r\n"):
            text, colon, value = line.partition(":")
            if colon and (name := _header_name(text)):
                found[name] = value.strip(_WHITESPACE)
        return found


@lru_cache(256)
def _header_name(text: str) -> str | None:
    name = text.strip(_WHITESPACE)
    return name if name.split() == [name] and name.isascii() else None


# -- responses and errors of a server -------------------------------------------------------------------


def is_refusal(error: Exception) -> bool:
    """Return True if a server has refused the credentials."""
    text = str(error).lower()
    return "authorization" in text or "authentication" in text


def is_forbidden(error: BaseException) -> bool:
    """Return True if the permissions of the user do not allow something."""
    return "permissions violation" in str(error).lower()


def is_retryable(answer: Msg) -> bool:
    """Return True if the server has certainly not processed a call, and may do so later."""
    if answer.headers:  # a stored message may have any header, but then it has a sequence too
        return answer.headers.get("Status") == "503" and SEQUENCE not in answer.headers
    return is_unavailable(answer)


def is_unavailable(answer: Msg) -> bool:
    """Return True if JetStream is not available at the moment: it has no leader, or is busy."""
    return any(code in answer.data for code in _UNAVAILABLE)


def server_error(what: str, error: dict[str, Any]) -> ServerError:
    """Convert an error of JetStream's API to an exception."""
    text = error.get("description", "unknown error")
    hint = "; is its disk full?" if error.get("err_code") in _DISK_FULL else ""
    return ServerError(f"{what}: the server refused ({error.get('err_code')}: {text}){hint}")


def explain(
    where: str, error: BaseException, problems: Sequence[Exception], timeout: float
) -> HappenConnectionError:
    """Return an error that states why there is no connection, and how to get one."""
    newest = problems[-1] if problems else error
    seen = " ".join(str(problem) for problem in (*problems, error)).lower()
    seen = re.sub(r"ssl:\S+", "", seen)  # aiohttp adds its settings to each error
    if is_refusal(Exception(seen)) or "nkeys" in seen:
        what = "the server refused the credentials; check token, user and password, or credentials"
    elif is_forbidden(newest):
        what = f"the server does not permit what a space needs ({newest}); ask for these permissions"
    elif isinstance(error, nats.errors.NoRespondersError) or "no responders" in seen:
        what = "this server has no JetStream; start it with 'nats-server -js'"
    elif "tls" in seen or "ssl" in seen or "certificate" in seen:
        what = f"no TLS connection ({newest}); pass tls=ssl.create_default_context(...)"
    elif isinstance(newest, TimeoutError):
        what = f"no answer within {timeout:g} s; is the address correct?"
    else:
        what = f"no server at this address ({newest}); is it running?"
        if not re.search(r"[.:/]", where):
            what += f' To name a space, write connect(name="{where}")'
    return HappenConnectionError(f"{where}: {what}")
