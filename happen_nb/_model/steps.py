"""The keys of the steps of durable handlers: what a handling stores is known by them when it runs again."""

from __future__ import annotations

import hashlib
from typing import Final

_HANDLING_BYTES: Final = 16


def handling_id(event: str, node: str, handler: str) -> str:
    """Return the id of the handling of an event by a durable handler of a node, from the handler's key.

    Examples
    --------
    >>> handling_id("5d0f9c1e7a2b44c1-98", "billing", "order.accepted charge")
    'c4b6f2d62129c1755b89d0d27630ad10'
    """
    about = f"{event}\n{node}\n{handler}"
    return hashlib.blake2b(about.encode(), digest_size=_HANDLING_BYTES).hexdigest()


def step_key(handling: str, number: int) -> str:
    """Return the key of a step of a handling; the first one has number 1."""
    return f"{handling}.{number}"


def step_event_id(handling: str, number: int) -> str:
    """Return the id of the event that a step emits."""
    return f"{handling}-{number}"


def read_key(key: str) -> tuple[str, int] | None:
    """Return the handling and the number of a step; None if another client wrote something else.

    Examples
    --------
    >>> read_key("f34e0f4b.2"), read_key("x")
    (('f34e0f4b', 2), None)
    """
    handling, _, number = key.rpartition(".")
    return (handling, int(number)) if handling and number.isascii() and number.isdecimal() else None
