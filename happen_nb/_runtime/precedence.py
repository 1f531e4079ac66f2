"""Let a writer go first if others have overtaken it for a while.

A commit is refused if another commit of the node is stored first. So a process that lags, on a slow link or a
busy machine, would lose again and again against those that do not. A writer that has lost for a while asks
all processes to let it go first: the other writers of the node wait until its call has ended, those that have
lost for longer before the others. It repeats the request, so that others do not wait long for a killed
process.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING, NamedTuple, Self

from happen_nb._journal import fields
from happen_nb._journal.presence import decode_precedence, encode_precedence
from happen_nb._runtime.io import io_thread
from happen_nb._runtime.waiting import Signal, within

if TYPE_CHECKING:
    from happen_nb._journal.connection import CoreMessage
    from happen_nb._runtime.dispatcher import Dispatcher
    from happen_nb._runtime.log import Log

logger = logging.getLogger("happen_nb")

ASK_AFTER_SECONDS = 0.25  # seconds for which a writer may lose before it asks to go first
ASK_EVERY_SECONDS = 0.25
VALID_SECONDS = 1.0  # seconds for which the others wait after each request


class Contender:
    """A call that commits, and may lose against others. From any thread.

    The others wait for it until its deadline at most: its transform may wait for one of them.
    """

    def __init__(self, precedence: Precedence, node: str, id: str, deadline: float) -> None:
        self._precedence = precedence
        self.node = node
        self.id = id
        self.deadline = deadline
        self.since = time.monotonic()
        self.asking = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.leave()

    def lose(self) -> None:
        """Note that another commit was stored first; ask to go first if that has happened for long."""
        late = time.monotonic() - self.since > ASK_AFTER_SECONDS
        if late and not self.asking and self._precedence.used:
            self.asking = True
            io_thread().call_soon(self._precedence.ask, self)

    def leave(self) -> None:
        """Let the others continue."""
        if self.asking:
            self.asking = False
            io_thread().call_soon(self._precedence.release, self)


class Request(NamedTuple):
    """The request of a writer to go first."""

    since: float  # the time since when it loses, by ``time.monotonic()``
    id: str
    until: float  # the time until which the others wait, unless it asks again


class Precedence:
    """The writers of all processes that ask to go first. On the IO thread."""

    def __init__(self, log: Log, dispatcher: Dispatcher) -> None:
        self.on_end: Signal[[str]] = Signal()  # emitted with a node when a writer no longer asks to go first
        self._log = log
        self._dispatcher = dispatcher
        self._requests: dict[str, dict[str, Request]] = {}
        self._ended: dict[str, asyncio.Future[None]] = {}

    async def open(self) -> None:
        await self._log.connection.subscribe(self._log.subjects.first, self._on_message)

    def contender(self, node: str, deadline: float = math.inf) -> Contender:
        """Return a writer that has not lost yet. From any thread."""
        return Contender(self, node, self._log.new_id(), deadline)

    @property
    def used(self) -> bool:
        """False if a conductor decides which writer goes first."""
        return self._dispatcher.conductor is None

    # -- asking --------------------------------------------------------------------------------------

    def ask(self, contender: Contender) -> None:
        """Ask all processes to let a writer go first, until it leaves."""
        if contender.asking and time.monotonic() > contender.deadline:
            contender.leave()
        elif contender.asking:
            self._note(contender.node, contender.id, contender.since)
            self._send(contender, int(1000 * (time.monotonic() - contender.since)))
            io_thread().loop.call_later(ASK_EVERY_SECONDS, self.ask, contender)

    def release(self, contender: Contender) -> None:
        self._end(contender.node, contender.id)
        self._send(contender, None)

    def _send(self, contender: Contender, waited: int | None) -> None:
        log, body = self._log, encode_precedence(contender.node, contender.id, waited)
        log.background(log.connection.send(log.subjects.first, body))

    # -- letting others go first ---------------------------------------------------------------------

    def must_wait(self, node: str, contender: Contender | None) -> bool:
        """Return True if a writer of a node that has lost for longer asks to go first. From any thread."""
        if node not in self._requests:
            return False
        first = min(tuple(self._requests.get(node, {}).values()), default=None)
        return first is not None and (contender is None or first[:2] < (contender.since, contender.id))

    async def wait(self, node: str, contender: Contender | None, deadline: float) -> None:
        while (left := deadline - time.monotonic()) > 0 and self.must_wait(node, contender):
            if node not in self._ended:
                self._ended[node] = asyncio.get_running_loop().create_future()
            await within(left, asyncio.shield(self._ended[node]))

    async def _on_message(self, message: CoreMessage) -> None:
        try:
            node, id, waited = decode_precedence(message.data)
        except fields.UNREADABLE as error:
            logger.info("a message on %s: %s: %s", message.subject, type(error).__name__, error)
            return
        if id.startswith(self._log.address):  # it is noted already
            return
        if waited is None:
            self._end(node, id)
        else:
            self._note(node, id, time.monotonic() - waited / 1000)

    def _note(self, node: str, id: str, since: float) -> None:
        requests = self._requests.setdefault(node, {})
        since = requests[id].since if id in requests else since
        requests[id] = Request(since, id, time.monotonic() + VALID_SECONDS)
        io_thread().loop.call_later(VALID_SECONDS, self._expire, node, id)

    def _expire(self, node: str, id: str) -> None:
        request = self._requests.get(node, {}).get(id)
        if request is not None and request.until <= time.monotonic():
            self._end(node, id)

    def _end(self, node: str, id: str) -> None:
        requests = self._requests.get(node, {})
        if requests.pop(id, None) is None:
            return
        if not requests:
            del self._requests[node]
        ended = self._ended.pop(node, None)
        if ended is not None:
            ended.set_result(None)
        self.on_end.emit(node)
