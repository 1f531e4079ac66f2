"""Calls of the server, which survive a lost connection.

A call waits in our own table until its answer arrives. It is sent again when the connection is back, when
the server asks to retry, and when it has no answer although the server has read it. So a call must be one
that may arrive twice without harm: each of ours carries an expectation that ensures it.
"""

from __future__ import annotations

import asyncio
import logging
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import nats.errors

from happen_nb._journal.client import MIN_BYTES_PER_SECOND, NatsClient, is_retryable
from happen_nb.errors import (
    ClosedError,
    HappenError,
    HappenTimeoutError,
    NotStoredError,
    OutcomeUnknownError,
    ServerError,
    TooLargeError,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from nats.aio.msg import Msg

    from happen_nb._journal.connection import Connection
    from happen_nb._journal.wire import Message

log = logging.getLogger("happen_nb")

RETRY_SECONDS = 0.05  # delay before a call that the server could not process at the moment is sent again
CHECK_SECONDS = 1.0
"""Interval of the checks of an unanswered call: it is sent again if the server has read it."""
ANSWER_SECONDS = 0.25  # time for the answer after the server has read a call
GONE_SECONDS = 0.2  # seconds of "no responders" after which we ask whether the stream still exists
MOVE_SECONDS = 5.0  # seconds without an answer after which a client of a cluster moves to another server


@dataclass(eq=False)
class _Call:
    """A call of the server that waits for its answer."""

    token: str
    messages: Sequence[Message]
    future: asyncio.Future[Any]
    deadline: float
    what: str
    due: float  # the loop's time of the next check
    started: float
    again: Callable[[], Sequence[Message]] | None
    reads: bool
    sent: int = 0
    refused: int = 0  # the number of these sendings that the server has certainly not processed
    no_responders_since: float = 0.0
    tasks: set[asyncio.Task[None]] = field(default_factory=set)


class Calls:
    """The calls of one connection; everything here runs on its event loop."""

    def __init__(self, connection: Connection, client: NatsClient) -> None:
        self._connection = connection
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._calls: dict[str, _Call] = {}
        self._abandoned: dict[str, asyncio.Future[None]] = {}
        self._inbox = f"{connection.new_inbox()}."
        self._count = 0
        self._timer: asyncio.TimerHandle | None = None
        self._probe: asyncio.Task[None] | None = None
        self._gone_check: asyncio.Task[None] | None = None
        self._moved_at = 0.0
        self.stream_problem: Callable[[], Awaitable[str | None]] | None = None
        """Called when no answer arrives: returns the problem if the stream no longer exists."""

    async def open(self) -> None:
        """Receive the answers."""
        await self._client.subscribe(
            self._inbox + "*", cb=self._on_answer, pending_msgs_limit=0, pending_bytes_limit=0
        )

    async def make(
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

        If it times out, it raises HappenTimeoutError for a call that only `reads`, NotStoredError if nothing
        could be sent, or OutcomeUnknownError.
        """
        if self._connection.is_closed:
            raise ClosedError(f"{what}: {self._connection.why_closed}")
        self._connection.check_size(messages, what)
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
        """Return the loop's time of the oldest call without an answer, or infinity. From any thread."""
        return min((call.started for call in list(self._calls.values())), default=math.inf)

    async def wait_abandoned(self, timeout: float) -> None:
        """Wait for the answers to interrupted calls, so that later calls see their effects."""
        if self._abandoned:
            await asyncio.wait(self._abandoned.values(), timeout=timeout)

    async def _send(self, call: _Call) -> None:
        if not self._connection.connected:
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
        if call.future.done():
            return
        try:
            self._connection.check_size(call.messages, call.what)
        except TooLargeError as error:  # the server accepts less than before
            call.future.set_exception(error)
            return
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
        reason = self._connection.diagnosis() if overdue else None
        unanswered: list[_Call] = []
        for call in self._calls.values():
            if call.future.done():
                continue
            if call.deadline <= now:
                late = self._connection.why_late(sent=bool(call.sent))
                call.future.set_exception(_unanswered(call, late))
                continue
            if call.due <= now and reason:
                call.future.set_exception(_unanswered(call, reason))
                continue
            if call.due <= now:
                unanswered.append(call)
                call.due = min(now + CHECK_SECONDS, call.deadline)
            self._check_at(call.due)
        probing = self._probe is not None and not self._probe.done()
        if not unanswered or not self._connection.connected or probing:
            return
        if self._server_fails(now):
            self._moved_at = now
            self._probe = self._loop.create_task(self._move())
        else:
            self._probe = self._loop.create_task(self._resend_if_read(unanswered))

    def _server_fails(self, now: float) -> bool:
        """Return True if this server is silent for so long that another of the cluster should be tried."""
        if not self._client.can_move or self._connection.transferring:
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

    def forbid(self, text: str) -> bool:
        """Fail the calls that the server does not permit, as its message says; False if there are none."""
        found = False
        for call in self._calls.values():
            if any(f'"{message.subject.lower()}"' in text.lower() for message in call.messages):
                found = True
                if not call.future.done():
                    problem = f"{call.what}: {self._connection.where} does not permit it ({text})"
                    call.future.set_exception(ServerError(problem))
        return found

    def reconnected(self) -> None:
        """Make the calls again that have no answer: the connection is a new one."""
        if self._probe is not None:
            self._probe.cancel()
        for call in list(self._calls.values()):
            self._send_again(call)

    def close(self) -> None:
        """Fail the calls that still wait: the connection was closed."""
        for task in (self._probe, self._gone_check):
            if task is not None:
                task.cancel()
        for call in list(self._calls.values()):
            if not call.future.done():
                call.future.set_exception(ClosedError(f"{call.what}: {self._connection.why_closed}"))


def _unanswered(call: _Call, reason: str) -> Exception:
    if call.reads:
        return HappenTimeoutError(f"{call.what}: {reason}")
    if not call.sent:
        return NotStoredError(f"{call.what}: {reason}; nothing was stored")
    return OutcomeUnknownError(f"{call.what}: {reason}; it may or may not be stored; read it to find out")
