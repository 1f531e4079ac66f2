"""The progress of handlers through the journal: positions of state handlers, and steps of durable ones.

Each commit of a node carries on the positions of its state handlers. What a durable handler stores is known
by the key of its step when it runs again.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache
from types import CodeType
from typing import Any, Final, NamedTuple, TypeAlias
from urllib.parse import quote, unquote

from happen_nb._model.functions import function_name

Position: TypeAlias = tuple[int, int]
"""A sequence of the journal, and the index of an event in the commit stored there."""

MAX_SKIPPED: Final = 100  # maximum number of failed events of a handler that can be retried late
MAX_KEY_LENGTH: Final = 120
MAX_POSITIONS_CHARACTERS: Final = 24_000
"""Maximum characters of the positions of all handlers; a server accepts headers of 64 kB."""
_MAX_READ_CHARACTERS: Final = 40_000  # more, from another client, would not fit into a commit
_MAX_POSITION_CHARACTERS: Final = 40
_ITEM_CHARACTERS: Final = 16  # of a position, without its key
FLOOR: Final = ""
"""The key of the position before which the history was purged, which applies to every handler."""
START: Final[Position] = (0, 0)  # the position before every event
LAST_INDEX: Final = 1 << 30  # an index after the last event of any commit


class Progress(NamedTuple):
    """The progress of one state handler."""

    position: Position  # the newest applied event; all before it are done
    skipped: tuple[Position, ...] = ()  # events before `position` that failed; a retry may apply them late

    def covers(self, position: Position) -> bool:
        """Return whether an event is done: applied, or before the handler's start."""
        return position <= self.position and position not in self.skipped

    def after(self, position: Position, failed: set[Position]) -> Progress:
        """Return the progress after applying the event at `position`, except those in `failed`."""
        if not failed and not self.skipped:
            return _up_to(max(position, self.position))
        return self.passing(position, failed, applied=position)

    def passing(
        self, position: Position, failed: set[Position], *, applied: Position | None = None
    ) -> Progress:
        """Return the progress when all events up to `position` are done, except those in `failed`."""
        newest = max(position, self.position)
        if not failed and not self.skipped:
            return _up_to(newest)
        new = {each for each in failed if self.position < each <= newest}  # what failed before is known
        skipped = new.union(self.skipped).difference([applied])
        return Progress(newest, tuple(sorted(skipped)[-MAX_SKIPPED:]))


_up_to = lru_cache(16)(Progress)  # the handlers of many nodes apply the same event


Positions: TypeAlias = Mapping[str, Progress]  # the progress of each state handler of a node, by its key


def merged(positions: Positions, more: Positions) -> Positions:
    """Return the further progress of each handler.

    Examples
    --------
    >>> found = merged({"count": Progress((120, 0))}, {"count": Progress((95, 0)), "sum": Progress((97, 0))})
    >>> found["count"].position, found["sum"].position
    ((120, 0), (97, 0))
    """
    further = {key: each for key, each in more.items() if each.position >= positions.get(key, each).position}
    return {**positions, **further}


def without_old(positions: Positions, served: AbstractSet[str], expired: int) -> Positions:
    """Leave out handlers that are not registered here and whose newest event has expired.

    One that returns finds no event to apply again: those before its position have expired, too. It is kept
    while another one is behind it, so that the floor that takes its place passes over no event.
    """
    if positions.keys() <= served:
        return positions
    lowest = min((each.position for key, each in positions.items() if key in served), default=(expired, 0))
    old = {
        key: each.position
        for key, each in positions.items()
        if key not in served and key != FLOOR and each.position <= lowest and each.position[0] < expired
    }
    if not old:
        return positions
    floor = max(*old.values(), positions[FLOOR].position if FLOOR in positions else START)
    kept = {key: each for key, each in positions.items() if key not in old}
    return {**kept, FLOOR: Progress(floor)}


def before(position: Position) -> Position:
    """Return the position that ends just before another one."""
    sequence, index = position
    return (sequence, index - 1) if index > 0 else (sequence - 1, LAST_INDEX)


def progress_of(positions: Positions, key: str, start: Position) -> Progress:
    """Return the progress of a handler that started at `start`, at least the floor of the node."""
    found, floor = positions.get(key), positions.get(FLOOR)
    lowest = start if floor is None else max(start, floor.position)
    return found if found is not None and found.position >= lowest else Progress(lowest)


def encode_positions(positions: Positions) -> str:
    """Encode them as the value of a header, in ASCII; if they are long, without the oldest failed events.

    Examples
    --------
    >>> encode_positions({"order.* count": Progress((120, 0), ((95, 0),))})
    'order.%2A%20count=120.0!95.0'
    """
    text, most = _encoded(positions, MAX_SKIPPED), MAX_SKIPPED
    while len(text) > MAX_POSITIONS_CHARACTERS and most:
        most //= 2
        text = _encoded(positions, most)
    return text


def _encoded(positions: Positions, most: int) -> str:
    """Encode positions, with at most `most` of the newest failed events of each handler."""
    texts = []
    for key, ((sequence, index), skipped) in positions.items():
        texts.append(f"{_quoted(key)}={sequence}.{index}")
        if skipped and most:
            texts[-1] += "".join([f"!{a}.{b}" for a, b in skipped[-most:]])
    return " ".join(texts)


def has_room(keys: Iterable[str]) -> bool:
    """Return True if the positions of handlers with these keys fit into a header.

    Examples
    --------
    >>> has_room(f"order.{i} count" for i in range(300)), has_room(f"order.{i} count" for i in range(3000))
    (True, False)
    """
    return sum(len(_quoted(key)) + _ITEM_CHARACTERS for key in keys) <= MAX_POSITIONS_CHARACTERS


@lru_cache(1024)
def _quoted(key: str) -> str:
    return quote(key, safe="")


def decode_positions(text: str) -> Positions:
    """Decode the value of the header; ValueError if another client wrote one that is not valid."""
    if len(text) > _MAX_READ_CHARACTERS:
        raise ValueError(f"positions of {len(text):,} characters")
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


_LAMBDA: Final = re.compile(r"\blambda\b")


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
        key += f" {source_digest(transform)}"
    return key if len(key) <= MAX_KEY_LENGTH else f"{key[:MAX_KEY_LENGTH]}~{_digest(key)}"


def source_digest(function: Callable[..., Any]) -> str:
    """Return a digest of the source of a function; it is the same in every process.

    Examples
    --------
    >>> source_digest(handler_key) == source_digest(source_digest)
    False
    """
    try:
        code = getattr(inspect.unwrap(function), "__code__", None)
        return _digest_of_code(code) if isinstance(code, CodeType) else _digest(_source(function))
    except Exception:  # the attributes of a callable object are the user's
        return _digest(function_name(type(function)))


@functools.lru_cache(maxsize=1024)  # lambdas made in a loop share their code
def _digest_of_code(code: CodeType) -> str:
    source = _source(code)
    number = _lambda_number(code) if len(_LAMBDA.findall(source)) > 1 else 1
    return _digest(f"{source} {number}" if number > 1 else source)


def _lambda_number(code: CodeType) -> int:
    """Return the number of a lambda among those of its statement, which have one source; else 0."""
    if code.co_name != "<lambda>":
        return 0
    spans = [(row, start or 0) for row, _, start, end in code.co_positions() if row and end and end != start]
    try:
        lines, first = inspect.findsource(code)
        row, column = min(spans)  # where the body begins
        before = [*lines[first : row - 1], lines[row - 1].encode()[:column].decode()]
    except (OSError, IndexError, ValueError):  # the source has changed, or Python keeps no columns
        return 0
    return len(_LAMBDA.findall("".join(before)))


def _source(transform: Any) -> str:
    transform = inspect.unwrap(transform)
    try:
        return inspect.getsource(transform).strip()
    except (OSError, TypeError, ValueError):  # the source is not available
        code = transform if isinstance(transform, CodeType) else getattr(transform, "__code__", None)
        return repr(transform) if code is None else f"{code.co_code!r}{code.co_consts!r}{code.co_names!r}"


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


# -- steps of durable handlers -------------------------------------------------------------------------


_HANDLING_BYTES: Final = 16
_STEP_DIGITS: Final = re.compile(r"[0-9]{1,18}")


def handling_id(event: str, node: str, handler: str) -> str:
    """Return the id of the handling of an event by a durable handler of a node, from the handler's key.

    Examples
    --------
    >>> handling_id("5d0f9c1e7a2b44c1-98", "billing", "order.accepted charge")
    'c4b6f2d62129c1755b89d0d27630ad10'
    """
    about = f"{event}\n{node}\n{handler}"
    return hashlib.blake2b(about.encode(), digest_size=_HANDLING_BYTES).hexdigest()


StepNumber = tuple[int, int]
"""The number of a step, from 1, and 0; or that of the last step before a cancel, and that of the cancel."""


def step_key(handling: str, number: StepNumber) -> str:
    """Return the key of a step of a handling.

    Examples
    --------
    >>> step_key("f34e0f4b", (2, 0)), step_key("f34e0f4b", (2, 1))
    ('f34e0f4b.2', 'f34e0f4b.2~1')
    """
    step, cancel = number
    return f"{handling}.{step}~{cancel}" if cancel else f"{handling}.{step}"


def step_event_id(handling: str, number: int) -> str:
    return f"{handling}-{number}"


def read_key(key: str) -> tuple[str, StepNumber] | None:
    """Return the handling and the number of a step; None if another client wrote something else.

    Examples
    --------
    >>> read_key("f34e0f4b.2"), read_key("f34e0f4b.2~1"), read_key("x")
    (('f34e0f4b', (2, 0)), ('f34e0f4b', (2, 1)), None)
    """
    handling, _, number = key.rpartition(".")
    step, _, cancel = number.partition("~")
    parts = step, cancel or "0"
    if not handling or not all(map(_STEP_DIGITS.fullmatch, parts)):
        return None
    return handling, (int(parts[0]), int(parts[1]))
