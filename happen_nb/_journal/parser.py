"""Parse the bytes from the server, all of one read at once, without a task or a queue in between."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from nats.errors import ProtocolError
from nats.protocol.parser import Parser

if TYPE_CHECKING:
    from collections.abc import Callable

    from nats.aio.client import Client

    Receive = Callable[[bytes, bytes, bytes, bytes], object]
    """``receive(subject, reply, body, headers)`` takes a message as it arrived."""

log = logging.getLogger("happen_nb")

_MESSAGES: Final = (b"HMSG", b"MSG")
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

    def take(self, data: bytes) -> bytes:
        """Process what has arrived up to a message that is not in `direct`; return the rest, for `parse`."""
        data = self._joined(data)
        return data[self._take(data, 0) :]

    async def parse(self, data: bytes = b"") -> None:
        data, resets = self._joined(data), self._resets
        try:
            at = self._take(data, 0)
            while at < len(data) and resets == self._resets:  # else the connection was lost meanwhile
                at = self._take(data, await self._pass_on(data, at))
        except (ValueError, IndexError, TypeError, AttributeError) as error:
            raise ProtocolError(f"nats: {error}") from error

    def _joined(self, data: bytes) -> bytes:
        """Return what has arrived behind the start of a partial message; empty if that is still partial."""
        if not self._parts:
            return data
        self._parts.append(data)
        self._size += len(data)
        if self._size < self._needed:
            return b""
        data, self._parts = b"".join(self._parts), []
        return data

    def _take(self, data: bytes, at: int) -> int:
        """Process the messages from a place on; return the place of the first that is not in `direct`."""
        size, direct = len(data), self.direct
        try:
            while at < size:
                end = data.find(b"\r\n", at)
                if end < 0:
                    return self._keep(data, at, size + 1)
                words = data[at:end].split(b" ")
                if words[0] not in _MESSAGES:
                    return at
                start = end + 2
                end = start + int(words[-1])
                if end + 2 > size:
                    return self._keep(data, at, end + 2)
                receive = direct.get(words[2])
                if receive is None:
                    return at
                body = start + int(words[-2]) if words[0] == b"HMSG" else start
                reply = words[3] if len(words) == (6 if body > start else 5) else b""
                at = end + 2
                try:
                    receive(words[1], reply, data[body:end], data[start:body])
                except Exception:  # it must not end the reading
                    log.exception("a message of subscription %r was not processed", words[1])
        except (ValueError, IndexError):  # it is broken: `_pass_on` raises the error
            return at
        return at

    async def _pass_on(self, data: bytes, at: int) -> int:
        """Let nats-py process the message at a place; return the place of the next one."""
        end = data.find(b"\r\n", at) + 2
        words = data[at : end - 2].split(b" ")
        if words[0] in _MESSAGES:
            end += int(words[-1]) + 2
        await super().parse(data[at:end])
        return end

    def _keep(self, data: bytes, at: int, end: int) -> int:
        """Keep the start of a partial message until it has arrived up to its `end`; return that of `data`."""
        self._parts, self._size, self._needed = [data[at:]], len(data) - at, end - at
        return len(data)
