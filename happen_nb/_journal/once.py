"""The recorded results of calls that a handler makes once per event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from happen_nb._journal.publish import RefusedError, store_messages
from happen_nb._journal.wire import EXPECTED, HEADER_RESERVE_BYTES, TTL, Message, quote_type
from happen_nb._model.freeze import dumps, loads
from happen_nb._model.paths import MISSING
from happen_nb.errors import TooLargeError

if TYPE_CHECKING:
    from happen_nb._journal.stream import Stream
    from happen_nb._journal.wire import Subjects
    from happen_nb._model.frozen import Frozen


def encode_result(
    subjects: Subjects, event: str, node: str, name: str, value: Frozen, *, ttl: int
) -> Message:
    """Encode the result of a call, stored once; `ttl` is in seconds."""
    subject = f"{subjects.once_prefix}{event}.{node}.{quote_type(name)}"
    return Message(subject, dumps(value), {EXPECTED: "0", TTL: str(ttl)})


async def read_result(stream: Stream, event: str, node: str, name: str) -> Any:
    """Return the recorded result of a call; MISSING if there is none."""
    subject = encode_result(stream.subjects, event, node, name, None, ttl=0).subject
    found = await stream.get({"last_by_subj": subject})
    return MISSING if found is None else loads(found.body)


async def store_result(
    stream: Stream, event: str, node: str, name: str, value: Frozen, *, ttl: int, timeout: float
) -> Frozen:
    """Record the result of a call, and return it; if one is recorded already, return that.

    Raises
    ------
    TooLargeError
        The server does not accept as many bytes.
    """
    message = encode_result(stream.subjects, event, node, name, value, ttl=ttl)
    size, limit = len(message.body), stream.connection.max_payload - HEADER_RESERVE_BYTES
    if size > limit:
        raise TooLargeError(
            f'once("{name}"): a result of {size:,} bytes as JSON, and the server accepts {limit:,}; '
            "return less, or store it elsewhere and return its name"
        )
    try:
        await store_messages(stream.connection, [message], timeout=timeout, what=f'once("{name}")')
    except RefusedError:  # another process was faster, or an earlier sending of ours
        stored: Frozen = await read_result(stream, event, node, name)
        return stored
    return value
