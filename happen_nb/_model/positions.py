"""The progress of a node's state handlers through the journal, which each commit carries on."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import quote, unquote

from happen_nb._model.arguments import function_name

Position: TypeAlias = tuple[int, int]
"""A sequence of the journal, and the index of an event in the commit stored there."""

MAX_SKIPPED: Final = 100
"""Failed events of a handler that can be retried late."""
MAX_KEY_LENGTH: Final = 120
_MAX_POSITION_CHARACTERS: Final = 40
FLOOR: Final = ""
"""The key of the position before which the history was purged, which applies to every handler."""
START: Final[Position] = (0, 0)
"""Before every event."""


class Progress(NamedTuple):
    """The progress of one state handler.

    Attributes
    ----------
    position : (int, int)
        The newest applied event; all before it are done.
    skipped : tuple of (int, int)
        Events before `position` that failed; a retry may apply them late.
    """

    position: Position
    skipped: tuple[Position, ...] = ()

    def covers(self, position: Position) -> bool:
        """Return whether an event is done: applied, or before the handler's start."""
        return position <= self.position and position not in self.skipped

    def after(self, position: Position, failed: set[Position]) -> Progress:
        """Return the progress after applying the event at `position`, except those in `failed`."""
        newest = max(position, self.position)
        skipped = {each for each in failed.union(self.skipped) if each < newest} - {position}
        return Progress(newest, tuple(sorted(skipped)[-MAX_SKIPPED:]))


Positions: TypeAlias = Mapping[str, Progress]
"""The progress of each state handler of a node, by its key."""


def progress_of(positions: Positions, key: str, start: Position) -> Progress:
    """Return the progress of a handler that started at `start`, at least the floor of the node."""
    found = positions.get(key, Progress(start))
    floor = positions[FLOOR].position if FLOOR in positions else START
    lowest = max(start, floor)
    return found if found.position >= lowest else Progress(lowest)


def encode_positions(positions: Positions) -> str:
    """Encode them as the value of a header, in ASCII.

    Examples
    --------
    >>> encode_positions({"order.* count": Progress((120, 0), ((95, 0),))})
    'order.%2A%20count=120.0!95.0'
    """
    return " ".join(
        f"{quote(key, safe='')}=" + "!".join(f"{a}.{b}" for a, b in (found.position, *found.skipped))
        for key, found in positions.items()
    )


def decode_positions(text: str) -> Positions:
    """Decode the value of the header.

    Raises
    ------
    ValueError
        Another client wrote a value that is not valid.
    """
    found = {}
    for item in text.split(" "):
        key, equals, numbers = item.partition("=")
        if not equals:
            raise ValueError(f"no position in {item!r}")
        first, *skipped = map(_position, numbers.split("!"))
        found[unquote(key)] = Progress(first, tuple(skipped))
    return found


def _position(text: str) -> Position:
    sequence, _, index = text.partition(".")
    if not (
        sequence.isdecimal()
        and index.isdecimal()
        and text.isascii()
        and len(text) <= _MAX_POSITION_CHARACTERS
    ):
        raise ValueError(f"{text!r} is not a position")
    return int(sequence), int(index)


def handler_key(pattern: str, transform: Callable[..., Any], name: str | None) -> str:
    """Return the key that identifies a state handler of a node across processes and runs.

    It is the user's name for it, or its pattern and the name of the function; for a lambda also its source.

    Examples
    --------
    >>> handler_key("order.*", len, None), handler_key("order.*", len, "count")
    ('order.* len', 'count')
    """
    key = name or f"{pattern} {function_name(transform)}"
    if name is None and "<lambda>" in key:
        key += f" {_digest(_source(transform))}"
    return key if len(key) <= MAX_KEY_LENGTH else f"{key[:MAX_KEY_LENGTH]}~{_digest(key)}"


def _source(transform: Callable[..., Any]) -> str:
    try:
        return inspect.getsource(inspect.unwrap(transform)).strip()
    except (OSError, TypeError, ValueError):  # the source is not available
        code = getattr(inspect.unwrap(transform), "__code__", None)
        return repr(transform) if code is None else f"{code.co_code!r}{code.co_consts!r}{code.co_names!r}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()
