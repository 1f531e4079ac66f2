"""Storing: one message or one atomic batch, and what the server's answer means."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any

import orjson

from happen_nb.errors import TooLargeError
from happen_nb.journal.connection import server_error
from happen_nb.journal.wire import EXPECTED_SUBJECT, MOST_MESSAGES, batch

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from nats.aio.msg import Msg

    from happen_nb.journal.connection import Connection
    from happen_nb.journal.wire import Message

WRONG_LAST_SEQUENCE = 10071
BATCH_LOST = 10176
"""The server has forgotten the beginning of a batch (a new leader, or a lost connection)."""
PAUSE = 0.01
"""Seconds before a commit is computed again when nothing new was seen that stood in its way."""


class RefusedError(Exception):
    """The expectation did not hold; `newest` is the sequence that the server had in its place.

    It is no user's error: whoever stores decides what it means.
    """

    def __init__(self, newest: int) -> None:
        super().__init__(f"wrong last sequence: {newest}")
        self.newest = newest


class BatchLostError(Exception):
    """A batch did not arrive whole: nothing of it was stored, send it under a new id."""


async def store(
    connection: Connection,
    messages: Sequence[Message],
    *,
    timeout: float,
    what: str,
    future: asyncio.Future[Any] | None = None,
) -> Any:
    """Store messages, all or none.

    Parameters
    ----------
    messages : sequence of Message
        More than one become an atomic batch (NATS ADR-50).
    future : asyncio.Future, optional
        One that is resolved when the follower sees the message before its answer arrives.

    Returns
    -------
    int
        The sequence of the last message; or what `future` was resolved with.

    Raises
    ------
    RefusedError
        The expectation of one of them did not hold. If the message was sent more than once, it may be
        its own first sending that stands in the way.
    TooLargeError
        There are more messages than one batch may have, or one is too large; nothing was sent.
    ServerError
        The server cannot store it.
    """
    if len(messages) > MOST_MESSAGES:
        raise _too_many(messages, what)
    sent = messages if len(messages) == 1 else batch(list(messages), secrets.token_hex(8))
    answer = await connection.call(sent, timeout=timeout, what=what, future=future)
    return _sequence(answer, what) if hasattr(answer, "data") else answer


def _too_many(messages: Sequence[Message], what: str) -> TooLargeError:
    guards = sum(EXPECTED_SUBJECT in message.headers and not message.body for message in messages)
    advice = (
        "emit fewer events in one transform, put several into one payload, or broadcast them after the set"
    )
    if guards > len(messages) // 2:
        advice = "view fewer nodes in a serializable transform, or commit it without serializable=True"
    return TooLargeError(
        f"{what}: {len(messages):,} messages in one batch, {guards:,} of them guards of viewed nodes; "
        f"a server takes at most {MOST_MESSAGES} (fewer than 1,000). Nothing was stored; {advice}"
    )


def _sequence(answer: Msg, what: str) -> int:
    result = orjson.loads(answer.data)
    error = result.get("error")
    if not error:
        return int(result["seq"])
    code = error.get("err_code")
    if code == WRONG_LAST_SEQUENCE:
        match = re.search(r"\d+$", error.get("description", ""))
        raise RefusedError(int(match[0]) if match else 0)
    if code == BATCH_LOST:
        raise BatchLostError(what)
    raise server_error(what, error)
