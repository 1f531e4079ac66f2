"""nats-py's client, with a faster header parser, and a ping that can tell a slow link from a lost one."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.protocol.parser import AWAITING_MSG_PAYLOAD

from happen_nb.errors import HappenConnectionError, ServerError

if TYPE_CHECKING:
    from collections.abc import Sequence

log = logging.getLogger("happen_nb")

PING_INTERVAL = 1.0
STALE_SECONDS = 10.0
"""Seconds without a byte from the server after which the connection counts as lost."""
STALE_SECONDS_CLUSTER = 3.0
"""The same where another server of a cluster can take over."""
SLOWEST_LINK = 250_000
"""Bytes per second; a link that carries what we wrote at this rate is slow, not lost."""
LARGE = 64_000
"""Bytes of a message that a slow link needs a while for."""
_SPACE = " \t\n\r\x0b\x0c"  # around the names and values of headers


class NatsClient(Client):
    """A client of nats-py that knows what the link does.

    nats-py counts whole messages, so one that takes longer than a few pings looks like silence.
    """

    def __init__(self) -> None:
        super().__init__()
        self._received_at = time.monotonic()
        self._written_then = 0
        parse = self._ps.parse

        async def counted(data: bytes) -> None:
            self._received_at = time.monotonic()
            self._written_then = self.stats["out_bytes"]
            await parse(data)

        self._ps.parse = counted  # type: ignore[method-assign,assignment]

    @property
    def transferring(self) -> bool:
        """Whether a large message has arrived in part: what comes behind it has to wait."""
        return self._ps.state == AWAITING_MSG_PAYLOAD and self._ps.needed > LARGE

    @property
    def can_move(self) -> bool:
        """Whether there is another server to go to."""
        return self.is_connected and len(self._server_pool) > 1

    async def move(self) -> None:
        """Go to the next server of the pool."""
        await self._process_op_err(nats.errors.StaleConnectionError())

    async def _ping_interval(self) -> None:
        """Ping every second; give the connection up when nothing arrives although it should have by now."""
        self._received_at = time.monotonic()
        self._written_then = self.stats["out_bytes"]
        while True:
            await asyncio.sleep(PING_INTERVAL)
            if not self.is_connected:
                continue
            limit = STALE_SECONDS_CLUSTER if len(self._server_pool) > 1 else STALE_SECONDS
            limit += (self.stats["out_bytes"] - self._written_then) / SLOWEST_LINK
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
        """Build a message as nats-py does, also for subjects that are not UTF-8: any client may use them."""
        return Msg(
            _client=self,
            subject=subject.decode(errors="replace"),
            reply=reply.decode(errors="replace"),
            data=data,
            headers=headers,
            _sid=sid,
        )

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        """Read headers as nats-py does; an invalid block, which any client may send, counts as none."""
        try:
            return await super()._process_headers(headers)
        except (ValueError, IndexError) as error:
            log.info("the headers of a message cannot be read: %s", error)
            return None

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        """The headers; those whose name has white space or is not ASCII are left out, as they are there."""
        found: dict[str, str] = {}
        for line in raw.decode("utf-8", "replace").split("\r\n"):
            told, colon, value = line.partition(":")
            if colon and (name := _header_name(told)):
                found[name] = value.strip(_SPACE)
        return found


@lru_cache(256)
def _header_name(told: str) -> str | None:
    name = told.strip(_SPACE)
    return name if name.split() == [name] and name.isascii() else None


# -- what the answers and errors of a server mean

SEQUENCE = "Nats-Sequence"
"""A header of each stored message that is the answer to a direct get."""
_AGAIN_CODES = (b'"err_code":10008,', b'"err_code":10164,')
"""JetStream, or the expected sequence of a subject, is not available for the moment."""


def is_refusal(error: Exception) -> bool:
    """Return whether a server has refused the credentials."""
    text = str(error).lower()
    return "authorization" in text or "authentication" in text


def ask_again(answer: Msg) -> bool:
    """Return whether the server could not take a call at the moment, and certainly has not."""
    if answer.headers:  # a stored message may have any header, and then it has its sequence too
        return answer.headers.get("Status") == "503" and SEQUENCE not in answer.headers
    return is_unavailable(answer)


def is_unavailable(answer: Msg) -> bool:
    """Return whether JetStream is not available for the moment: nobody leads, or something is under way."""
    return any(code in answer.data for code in _AGAIN_CODES)


def server_error(what: str, error: dict[str, Any]) -> ServerError:
    """An error that the server gave, in words for a person."""
    text = error.get("description", "unknown error")
    hint = "; is its disk full?" if error.get("err_code") in (10047, 10077, 10023, 10028) else ""
    return ServerError(f"{what}: the server refused ({error.get('err_code')}: {text}){hint}")


def explain(
    where: str, error: BaseException, problems: Sequence[Exception], timeout: float
) -> HappenConnectionError:
    """Explain to a person why there is no connection, and what to do."""
    newest = problems[-1] if problems else error
    seen = " ".join(str(problem) for problem in (*problems, error)).lower()
    if is_refusal(Exception(seen)) or "nkeys" in seen:
        what = "the server does not accept these credentials; check token, user and password, or credentials"
    elif isinstance(error, nats.errors.NoRespondersError) or "no responders" in seen:
        what = "this server has no JetStream; start it with 'nats-server -js'"
    elif "tls" in seen or "ssl" in seen or "certificate" in seen:
        what = f"no TLS connection ({newest}); give tls=ssl.create_default_context(...)"
    elif isinstance(error, TimeoutError) and not problems:
        what = f"no answer within {timeout:g} s; is it the right address?"
    else:
        what = f"no server there ({newest}); is it running?"
        if not re.search(r"[.:/]", where):
            what += f' To name a space write connect(name="{where}")'
    return HappenConnectionError(f"{where}: {what}")
