"""Parse the bytes from the server, all of one read at once, without a task or a queue in between."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from nats.errors import ProtocolError
from nats.protocol.parser import Parser

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.aio.client import Client

    Receive = Callable[[bytes, bytes, bytes, bytes], object]
    """``receive(subject, reply, body, headers)`` takes a message as it arrived."""

log = logging.getLogger("happen_nb")

LARGE_MESSAGE_BYTES = 64_000  # a message that occupies a slow link for a while


class MessageParser(Parser):
    """Takes the messages out of the stream of bytes; nats-py's own parser reads the rest.

    A message of a subscription in `direct` goes to its callback at once, and all others to nats-py.
    """

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.direct: dict[bytes, Receive] = {}
        """The callbacks by the id of the subscription, as the server writes it."""

    def reset(self) -> None:
        """Forget a message that has arrived in part: the connection is a new one."""
        super().reset()
        self._parts: list[bytes] = []
        self._size = 0
        self._needed = 0
        self._resets = getattr(self, "_resets", 0) + 1

    @property
    def transferring(self) -> bool:
        """True while a large message has arrived in part: everything behind it has to wait."""
        return bool(self._parts) and self._needed > LARGE_MESSAGE_BYTES

    async def parse(self, data: bytes = b"") -> None:
        if self._parts:
            self._parts.append(data)
            self._size += len(data)
            if self._size < self._needed:
                return
            data = b"".join(self._parts)
            self._parts = []
        try:
            await self._parse(data)
        except (ValueError, IndexError, TypeError, AttributeError) as error:
            raise ProtocolError(f"nats: {error}") from error

    async def _parse(self, data: bytes) -> None:
        at, size, direct, resets = 0, len(data), self.direct, self._resets
        while at < size:
            end = data.find(b"\r\n", at)
            if end < 0:
                self._keep(data[at:], size - at + 1)
                return
            words = data[at:end].split(b" ")
            kind = words[0]
            if kind not in (b"HMSG", b"MSG"):
                await super().parse(data[at : end + 2])
                at = end + 2
            else:
                start = end + 2
                end = start + int(words[-1])
                if end + 2 > size:
                    self._keep(data[at:], end + 2 - at)
                    return
                at = end + 2
                body = start + int(words[-2]) if kind == b"HMSG" else start
                reply = words[3] if len(words) == (6 if body > start else 5) else b""
                receive = direct.get(words[2])
                if receive is None:
                    headers = data[start:body] if body > start else None
                    await self.nc._process_msg(int(words[2]), words[1], reply, data[body:end], headers)
                else:
                    try:
                        receive(words[1], reply, data[body:end], data[start:body])
                    except Exception:  # it must not end the reading
                        log.exception("a message of subscription %r was not processed", words[1])
            if resets != self._resets:
                return  # the connection was lost meanwhile

    def _keep(self, rest: bytes, needed: int) -> None:
        """Keep the start of a partial message until `needed` bytes have arrived."""
        self._parts, self._size, self._needed = [rest], len(rest), needed
