"""Storing one message or one atomic batch, and interpreting the server's answer."""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from happen_nb._journal.client import server_error
from happen_nb._journal.wire import EXPECTED_SUBJECT, MAX_BATCH_MESSAGES, batch, encode_guard
from happen_nb.errors import TooLargeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from happen_nb._journal.connection import Connection
    from happen_nb._journal.wire import Message, Subjects

WRONG_LAST_SEQUENCE = 10071
BATCH_LOST = 10176  # the server has forgotten the start of a batch (a new leader, or a lost connection)


class RefusedError(Exception):
    """An expectation did not hold; the caller decides what that means.

    The server has the sequence ``newest`` in the place of the expected one. ``resent`` is True if the message
    was sent more than once: its own first sending may have caused the refusal.
    """

    def __init__(self, newest: int, *, resent: bool) -> None:
        super().__init__(f"wrong last sequence: {newest}")
        self.newest = newest
        self.resent = resent


class Resend(NamedTuple):
    """The conditions under which messages whose answer was lost are safely sent again.

    A message carries an expectation, so the server refuses it if it is already stored. That does not help
    where it was stored and is gone again: removed by a clear, or expired. So a guard goes with each later
    sending, as one atomic batch.
    """

    subjects: Subjects
    cleared: int
    """The sequence of the newest clear at the first sending; the guard holds if there was none since."""
    lives: float = float("inf")
    """Seconds after which a first sending that was stored may have expired; it is not sent again then."""


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
) -> Any:
    """Store messages, all or none: more than one become an atomic batch (NATS ADR-50).

    Returns the sequence of the last message, or the result of `future`, which the caller resolves if the
    follower sees the message before its answer arrives. Without `resend`, the same messages are sent again if
    the answer is lost. `what` names the call in errors. `sent_at` is the loop's time at which they were sent
    already, without an answer; `unbroken` means on this connection.

    Raises
    ------
    RefusedError
        The expectation of one of them did not hold.
    TooLargeError
        There are more messages than one batch may have, or one is too large; nothing was sent.
    ServerError
        The server cannot store them.
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
            guarded.insert(0, encode_guard(resend.subjects, resend.subjects.clear, resend.cleared))
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
        answer = await connection.call(
            to_send(),
            timeout=left,
            what=what,
            future=future,
            again=again,
            sent_at=sent_at,
            unbroken=unbroken,
        )
        sent_at = None
        if not hasattr(answer, "data"):
            return answer
        result = orjson.loads(answer.data)
        if (error := result.get("error")) is None:
            return int(result["seq"])
        if error.get("err_code") != BATCH_LOST:  # of a lost batch nothing is stored: all of it is sent again
            raise _refusal(error, what, resent=resent)


def _refusal(error: dict[str, Any], what: str, *, resent: bool) -> Exception:
    if error.get("err_code") != WRONG_LAST_SEQUENCE:
        return server_error(what, error)
    match = re.search(r"\d+$", error.get("description", ""))
    return RefusedError(int(match[0]) if match else 0, resent=resent)


def _too_many(messages: Sequence[Message], what: str) -> TooLargeError:
    guards = sum(EXPECTED_SUBJECT in message.headers and not message.body for message in messages)
    advice = (
        "emit fewer events in one transform, put several into one payload, or broadcast them after the set"
    )
    if guards > len(messages) // 2:
        advice = "view fewer nodes in a serializable transform, or commit it without serializable=True"
    return TooLargeError(
        f"{what}: {len(messages):,} messages in one batch, {guards:,} of them guards of viewed nodes; "
        f"a server accepts at most {MAX_BATCH_MESSAGES} (fewer than 1,000). Nothing was stored; {advice}"
    )
