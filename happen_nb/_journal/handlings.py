"""What processes handled, as their messages in the journal hold it: an array for each handling."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from happen_nb._journal import fields
from happen_nb._model.records import HandledRecord

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MOST_HANDLINGS: Final = 500
"""Handlings in one message."""
HANDLED_BYTES: Final = 500_000
"""Bytes of handlings in one message."""
LONGEST_NAME: Final = 500
"""Characters of a handler's name in the journal."""
OUTCOMES: Final = frozenset(("done", "failed", "refused", "cancelled"))

_LAST: Final = (None, None, None, None, 0.0, None, 1)  # where a writer left out the last members
_NUMBERS: Final = (float, int)  # no bool
_LONGEST_DURATION: Final = 1e9  # seconds


@dataclass(frozen=True, slots=True)
class Handled:
    """What a process handled; its body is decoded on demand."""

    sequence: int
    by: str
    body: bytes

    def records(self) -> list[HandledRecord]:
        """Return the handlings in it, without those that another client wrote and nobody can read."""
        try:
            items = fields.array(fields.read_json(self.body))
        except fields.UNREADABLE:
            return []
        return [record for item in items if (record := _decode(item, self.by)) is not None]


def encode_handlings(records: Iterable[HandledRecord], limit: int) -> Iterator[tuple[bytes, int]]:
    """Bodies of no more than `limit` bytes, each with the number of its records."""
    items: list[str] = []
    size = 0
    for record in records:
        text = _encode(record, limit)
        if items and (size + len(text) > limit or len(items) == MOST_HANDLINGS):
            yield f"[{','.join(items)}]".encode(), len(items)
            items, size = [], 0
        items.append(text)
        size += len(text) + 1
    if items:
        yield f"[{','.join(items)}]".encode(), len(items)


def _encode(r: HandledRecord, limit: int) -> str:
    """One handling as JSON; the text of its error is halved until it fits."""
    error = r.error
    while True:
        name = r.handler[:LONGEST_NAME]
        item = [r.event, r.node, name, r.outcome, round(r.duration, 6), error, r.attempts]
        text = json.dumps(item, separators=(",", ":"))
        if len(text) <= limit or not error:
            return text
        error = error[: len(error) // 2]


def _decode(item: Any, by: str) -> HandledRecord | None:
    """One handling; None if another client wrote what is none. More members than these may follow."""
    if type(item) is not list:
        return None
    whole = item if len(item) == len(_LAST) else [*item[: len(_LAST)], *_LAST[len(item) :]]
    event, node, handler, outcome, duration, error, attempts = whole
    if not (type(event) is type(node) is type(handler) is type(outcome) is str):
        return None
    if not (type(duration) in _NUMBERS and type(attempts) is int and (error is None or type(error) is str)):
        return None
    if not (0 <= duration < _LONGEST_DURATION and 0 < attempts <= fields.LARGEST and outcome in OUTCOMES):
        return None
    if not (fields.is_name(node) and fields.is_label(handler)):
        return None
    return HandledRecord(event, node, handler, outcome, duration, error, attempts, by)
