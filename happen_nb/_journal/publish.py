"""Storing: one message or one atomic batch, and what the server's answer means."""

from __future__ import annotations

import asyncio
import re
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from happen_nb._journal.client import server_error
from happen_nb._journal.wire import EXPECTED_SUBJECT, MAX_BATCH_MESSAGES, batch, guard_clear
from happen_nb.errors import TooLargeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from happen_nb._journal.connection import Connection
    from happen_nb._journal.wire import Message, Subjects

WRONG_LAST_SEQUENCE = 10071
BATCH_LOST = 10176
"""The server has forgotten the beginning of a batch (a new leader, or a lost connection)."""


class RefusedError(Exception):
    """An expectation did not hold; whoever stores decides what that means.

    Attributes
    ----------
    newest : int
        The sequence that the server has in the place of the expected one.
    resent : bool
        Whether the message was sent more than once: its own first sending may stand in the way.
    """

    def __init__(self, newest: int, *, resent: bool) -> None:
        super().__init__(f"wrong last sequence: {newest}")
        self.newest = newest
        self.resent = resent


class Resend(NamedTuple):
    """What makes it safe to send messages again whose answer was lost.

    A message carries an expectation, so the server refuses it if it is stored already. That does not help
    where it was stored and is gone again: removed by a clear, or expired. So a guard goes with each later
    sending, as one atomic batch.

    Parameters
    ----------
    subjects : Subjects
    cleared : int
        The sequence of the newest clear when it was sent first; the guard holds if there was none since.
    lives : float
        Seconds after which what was stored first may have expired; it is not sent again then.
    """

    subjects: Subjects
    cleared: int
    lives: float = float("inf")


async def store_messages(
    connection: Connection,
    messages: Sequence[Message],
    *,
    timeout: float,
    what: str,
    future: asyncio.Future[Any] | None = None,
    resend: Resend | None = None,
) -> Any:
    """Store messages, all or none.

    Parameters
    ----------
    messages : sequence of Message
        More than one become an atomic batch (NATS ADR-50).
    timeout : float
        Seconds.
    future : asyncio.Future, optional
        One that is resolved when the follower sees the message before its answer arrives.
    resend : Resend, optional
        How to send them again; without it they are sent again as they are.

    Returns
    -------
    int
        The sequence of the last message; or what `future` was resolved with.

    Raises
    ------
    RefusedError
        The expectation of one of them did not hold.
    TooLargeError
        There are more messages than one batch may have, or one is too large; nothing was sent.
    ServerError
        The server cannot store it.
    """
    if len(messages) > MAX_BATCH_MESSAGES:
        raise _too_many(messages, what)
    loop = asyncio.get_running_loop()
    began = loop.time()
    resent = False

    def as_sent() -> list[Message]:
        guarded = list(messages)
        if resent and resend is not None and len(messages) < MAX_BATCH_MESSAGES:
            guarded.insert(0, guard_clear(resend.subjects, resend.cleared))
        return guarded if len(guarded) == 1 else batch(guarded, secrets.token_hex(8))

    def again() -> list[Message]:
        nonlocal resent
        resent = True
        expired = resend is not None and loop.time() - began > resend.lives
        return [] if expired else as_sent()

    while True:
        if future is not None and future.done():
            future = None  # an earlier answer has resolved it
        left = max(0.001, began + timeout - loop.time())
        answer = await connection.call(as_sent(), timeout=left, what=what, future=future, again=again)
        if not hasattr(answer, "data"):
            return answer
        sequence = _sequence(answer.data, what, resent=resent)
        if sequence is not None:
            return sequence


def _sequence(answer: bytes, what: str, *, resent: bool) -> int | None:
    """The sequence of what was stored; None for a lost batch, of which nothing was."""
    result = orjson.loads(answer)
    code = result.get("error", {}).get("err_code")
    if code == WRONG_LAST_SEQUENCE:
        match = re.search(r"\d+$", result["error"].get("description", ""))
        raise RefusedError(int(match[0]) if match else 0, resent=resent)
    if code == BATCH_LOST:
        return None
    if code is not None:
        raise server_error(what, result["error"])
    return int(result["seq"])


def _too_many(messages: Sequence[Message], what: str) -> TooLargeError:
    guards = sum(EXPECTED_SUBJECT in message.headers and not message.body for message in messages)
    advice = (
        "emit fewer events in one transform, put several into one payload, or broadcast them after the set"
    )
    if guards > len(messages) // 2:
        advice = "view fewer nodes in a serializable transform, or commit it without serializable=True"
    return TooLargeError(
        f"{what}: {len(messages):,} messages in one batch, {guards:,} of them guards of viewed nodes; "
        f"a server takes at most {MAX_BATCH_MESSAGES} (fewer than 1,000). Nothing was stored; {advice}"
    )
