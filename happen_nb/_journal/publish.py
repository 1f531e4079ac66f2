"""Store messages with an answer: one, or one atomic batch."""

from __future__ import annotations

import asyncio
import re
import secrets
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from happen_nb._journal.client import server_error
from happen_nb._journal.encoding import batch, encode_guard
from happen_nb._journal.wire import EXPECTED_SUBJECT, MAX_BATCH_MESSAGES, Message, Subjects
from happen_nb.errors import HappenTimeoutError, NotStoredError, OutcomeUnknownError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from happen_nb._journal.connection import Connection

WRONG_LAST_SEQUENCE = 10071
IN_FLIGHT = 10164  # on replicas: another message with the expected sequence is not applied yet
BATCH_LOST = 10176  # the server has forgotten the start of a batch (a new leader, or a lost connection)


class RefusedError(Exception):
    """An expectation did not hold; the caller decides what that means.

    The server has the sequence ``newest`` in the place of the expected one. ``resent`` is True if the message
    was sent more than once: its own first sending may have caused the refusal. ``in_flight`` is True if what
    stands in the way has no sequence yet.
    """

    def __init__(self, newest: int, *, resent: bool, in_flight: bool = False) -> None:
        super().__init__(f"wrong last sequence: {newest}")
        self.newest = newest
        self.resent = resent
        self.in_flight = in_flight


class Resend(NamedTuple):
    """The conditions under which messages whose answer was lost are safely sent again.

    A message carries an expectation, so the server refuses it if it is already stored. That does not help
    where it was stored and is gone again: removed by a clear, expired, or, if it is an alarm, delivered or
    cancelled. So guards go with each later sending, as one atomic batch.
    """

    subjects: Subjects
    cleared: int
    """The sequence of the newest clear at the first sending; the guard holds if there was none since."""
    lives: float = float("inf")
    """Seconds after which a first sending that was stored may have expired; it is not sent again then."""
    target: str | None = None  # of an alarm: the subject of its event, which is unused until the alarm ends

    def guards(self) -> list[Message]:
        """Return what goes with each later sending."""
        found = [encode_guard(self.subjects, self.subjects.clear, self.cleared)]
        if self.target is not None:
            found.append(encode_guard(self.subjects, self.target, 0))
        return found


async def store_messages(
    connection: Connection,
    messages: Sequence[Message],
    *,
    timeout: float,
    what: str,
    future: asyncio.Future[Any] | None = None,
    resend: Resend | None = None,
    sent_at: float | None = None,
    unbroken: bool = False,
    reads: bool = False,
) -> Any:
    """Store messages, all or none: more than one become an atomic batch (NATS ADR-50).

    Returns the sequence of the last message, or the result of `future`, which the caller resolves if the
    follower sees the message before its answer arrives. Without `resend`, the same messages are sent again if
    the answer is lost. `what` names the call in errors. `sent_at` is the loop's time at which they were sent
    already, without an answer; `unbroken` means on this connection. `reads` means that nobody misses the
    messages: they only show that all before them has been read.

    Raises RefusedError if the expectation of one of them did not hold, ServerError if the server cannot store
    them, and TooLargeError, before anything is sent, if they or one of them are too large for a batch.
    """
    if len(messages) > MAX_BATCH_MESSAGES:
        raise _too_many(messages, what)
    loop = asyncio.get_running_loop()
    started = loop.time()
    first_sent = started if sent_at is None else sent_at
    resent = sent_at is not None

    def to_send() -> list[Message]:
        guarded = list(messages)
        if resent and resend is not None and len(messages) < MAX_BATCH_MESSAGES:
            guarded = [*resend.guards(), *guarded]
        return guarded if len(guarded) == 1 else batch(guarded, secrets.token_hex(8))

    def again() -> list[Message]:
        nonlocal resent
        resent = True
        expired = resend is not None and loop.time() - first_sent > resend.lives
        return [] if expired else to_send()

    while True:
        if future is not None and future.done():
            future = None  # an earlier answer has resolved it
        left = max(0.001, started + timeout - loop.time())
        answer = await connection.calls.make(
            to_send(),
            timeout=left,
            what=what,
            future=future,
            again=again,
            sent_at=sent_at,
            unbroken=unbroken,
            reads=reads,
        )
        sent_at = None
        if not hasattr(answer, "data"):
            return answer
        result = orjson.loads(answer.data)
        if (error := result.get("error")) is None:
            connection.stream_is_gone = False
            return int(result["seq"])
        if error.get("err_code") != BATCH_LOST:  # of a lost batch nothing is stored: all of it is sent again
            raise _refusal(error, what, resent=resent)


@contextmanager
def part_of(what: str, error: type[NotStoredError | OutcomeUnknownError]) -> Iterator[None]:
    """Report a reading that gets no answer as an error of the write that it is a part of."""
    try:
        yield
    except HappenTimeoutError as late:
        if isinstance(late, NotStoredError | OutcomeUnknownError):
            raise
        outcome = "nothing was stored" if error is NotStoredError else "it may or may not be stored"
        raise error(f"{what}: {late}; {outcome}") from None


def lost_before_clear(
    what: str, gone: str = "if the event was stored before that, it is gone"
) -> OutcomeUnknownError:
    """Return the error of a write whose answer was lost, in a space that was cleared since."""
    lost = "the answer was lost and the space was emptied or purged meanwhile"
    return OutcomeUnknownError(f"{what}: {lost}; {gone}")


def _refusal(error: dict[str, Any], what: str, *, resent: bool) -> Exception:
    if error.get("err_code") == IN_FLIGHT:
        return RefusedError(0, resent=resent, in_flight=True)
    if error.get("err_code") != WRONG_LAST_SEQUENCE:
        return server_error(what, error)
    match = re.search(r"\d+$", error.get("description", ""))
    return RefusedError(int(match[0]) if match else 0, resent=resent)


def _too_many(messages: Sequence[Message], what: str) -> TooLargeError:
    guards = sum(
        message.headers.get(EXPECTED_SUBJECT, "").startswith("$KV.") and not message.body
        for message in messages
    )
    of_views = f", {guards:,} of them guards of viewed nodes" if guards else ""
    advice = (
        "emit, schedule or cancel fewer events in one transform, put several into one payload, "
        "or do part of it after the set"
    )
    if guards > len(messages) // 2:
        advice = "view fewer nodes in a serializable transform, or commit it without serializable=True"
    return TooLargeError(
        f"{what}: {len(messages):,} messages in one batch{of_views}; "
        f"a server accepts at most {MAX_BATCH_MESSAGES}. Nothing was stored; {advice}"
    )
