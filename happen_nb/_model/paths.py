"""Paths and selectors, which name and read a part of a state; and masks, which hide parts by their paths."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import lru_cache
from itertools import accumulate, islice
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from happen_nb._model.arguments import is_index
from happen_nb._model.functions import check_takes, is_a
from happen_nb._model.quoting import MAX_QUOTED, escape_surrogates, near_names, quote, shorten, type_name
from happen_nb.errors import PathError

Steps: TypeAlias = tuple[str | int, ...]
Path: TypeAlias = str | Steps
Selector: TypeAlias = Callable[[Any], Any] | Path


_MAX_DIGITS: Final = 18  # no list is longer
_MAX_NAMED: Final = 3  # parts in a message
_MAX_COMPARED_KEYS: Final = 1_000


class _Missing(Enum):
    MISSING = "MISSING"

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final[Literal[_Missing.MISSING]] = _Missing.MISSING
"""Stands for a missing value, where ``None`` would be a value."""


def parse_path(path: Path) -> Steps:
    """Split a path into its steps.

    A string is split at its dots. A tuple contains strings, which may contain dots, and integers, also of
    NumPy, which index lists. Raises PathError if the path is neither string nor tuple, is empty, or has a
    step that is empty or of another type.

    Examples
    --------
    >>> parse_path("orders.o1.items.0")
    ('orders', 'o1', 'items', '0')
    >>> parse_path(("orders", "o.1", 0))
    ('orders', 'o.1', 0)
    >>> parse_path("orders..o1")
    Traceback (most recent call last):
    ...
    happen_nb.errors.PathError: the path 'orders..o1' has an empty step; a key that is empty or has a dot ...
    """
    if is_a(path, str):
        return _parse_text(path)
    if not is_a(path, tuple):
        raise PathError(
            f'a path is a string such as "orders.o1.status" or a tuple such as ("orders", "o.1", 0), '
            f"not {type_name(path)}"
        )
    for step in path:
        if type(step) is not str and type(step) is not int:
            return tuple(_parse_step(step, path) for step in path)
    return path


def _parse_step(step: Any, path: tuple[Any, ...]) -> str | int:
    if isinstance(step, str):
        return str.__str__(step)
    if is_index(step):
        return operator.index(step)
    raise PathError(
        f"the path {quote(path)} has a step of type {type_name(step)}; "
        "steps are strings (keys) or integers (list indices)"
    )


@lru_cache(maxsize=1024)
def _parse_text(path: str) -> Steps:
    if not path:
        raise PathError("the path is an empty string; use () for everything, or ('',) for an empty key")
    steps = tuple(path.split("."))
    if "" in steps:
        raise PathError(
            f"the path {quote(path)} has an empty step; a key that is empty or has a dot needs a tuple: "
            '("orders", "o.1")'
        )
    return steps


def format_path(steps: Steps) -> str:
    """Format steps as a dotted string, or as a tuple where that would be ambiguous.

    Examples
    --------
    >>> format_path(("orders", "o1", "items", 0))
    'orders.o1.items.0'
    >>> format_path(("orders", "o.1"))
    "('orders', 'o.1')"
    """
    texts = [step if isinstance(step, str) else quote(step) for step in steps]  # `str` fails at 5,000 digits
    if not texts or any(not text or "." in text for text in texts):
        return repr(tuple(steps))
    return ".".join(texts)


def list_index(step: str | int, length: int) -> int | None:
    """Return the index that a step means in a list; None if there is no such item."""
    if isinstance(step, str):
        if not (step.isascii() and step.isdigit() and len(step) <= _MAX_DIGITS):
            return None
        step = int(step)
    index = step + length if step < 0 else step
    return index if 0 <= index < length else None


def lookup(value: Any, path: Path, default: Any = None) -> Any:
    """Return the part of a value at a path; ``default`` if there is none."""
    for step in parse_path(path):
        if isinstance(value, dict):
            if step not in value:
                return default
            value = value[step]
        elif isinstance(value, list):
            index = list_index(step, len(value))
            if index is None:
                return default
            value = value[index]
        else:
            return default
    return value


def missing_hint(value: Any, path: Path) -> str:
    """Describe the parts near a missing path; return an empty string if the path exists.

    Examples
    --------
    >>> state = {"temp": 20.5, "orders": {"o1": {"status": "new"}}}
    >>> missing_hint(state, "tmp")
    'nothing at tmp; there is temp'
    >>> missing_hint(state, "orders.o1.staus")
    'nothing at orders.o1.staus; there is orders.o1.status'
    >>> missing_hint(state, "temp")
    ''
    """
    steps = parse_path(path)
    for number in range(1, len(steps) + 1):
        if lookup(value, steps[:number], MISSING) is MISSING:
            above = steps[: number - 1]
            near = _describe_part(above, lookup(value, above), steps[number - 1])
            return shorten(f"nothing at {format_path(steps)}; {near}", 3 * MAX_QUOTED)
    return ""


def _describe_part(steps: Steps, part: Any, wanted: str | int) -> str:
    """Describe the contents of a part, those nearest to `wanted` first."""
    where = format_path(steps) if steps else "the state"
    if isinstance(part, dict):
        keys = [key for key in part if isinstance(key, str)]
        near = near_names(wanted, keys, _MAX_NAMED) or keys[:_MAX_NAMED]
        names = ", ".join(format_path((*steps, key)) for key in near)
        return f"there {'is' if len(near) == 1 else 'are'} {names}" if names else f"{where} is empty"
    if isinstance(part, list):
        return f"{where} is a list of {len(part):,}"
    return f"{where} is {quote(part, 40)}, which has no parts"


def select(value: Any, selector: Selector | None = None) -> Any:
    """Apply a selector: a callable, a path (missing: ``None``), or None for everything.

    An exception of a callable propagates unchanged.
    """
    if selector is None:
        return value
    if callable(selector):
        return selector(value)
    return lookup(value, selector)


def check_selector(selector: Selector) -> None:
    """Refuse a path that is not valid, and a function that does not take a state alone.

    Where a TypeError of a selector means that a part is missing, nothing else would tell.
    """
    if callable(selector):
        check_takes(selector, "the selector", 1, [], "a state")
    else:
        parse_path(selector)


def typo_hint(state: Any, path: Path) -> str | None:
    """Describe a similar path if this one is missing and looks like a typo; else return None."""
    steps = parse_path(path)
    for at, step in enumerate(steps):
        above = lookup(state, steps[:at])
        if lookup(above, (step,), MISSING) is not MISSING:
            continue
        known = list(islice(above, _MAX_COMPARED_KEYS)) if isinstance(above, dict) else []
        return missing_hint(state, steps) or None if near_names(step, known) else None
    return None


HIDDEN: Final = "•••"  # stands for a hidden value
ANYWHERE: Final = "**"
_MIN_SCRUBBED: Final = 3  # characters of a hidden text that is also removed from error texts
_MIN_SCRUBBED_NUMBER: Final = 4  # shorter numbers are in too many texts

_STEP: Final = "\ud800"  # starts each step of a place; no key of a state or payload contains half a surrogate

_STEPS: Final = f"(?:{_STEP}[^{_STEP}]*)*"


class _Mask(NamedTuple):
    """A parsed pattern of a mask."""

    text: Path
    node: re.Pattern[str] | None  # None: also in payloads
    place: re.Pattern[str]


class Masks:
    """Hide the parts of states and payloads whose paths match a pattern.

    ``"customer.*.email"`` hides in the state of a node; ``"**.email"`` everywhere. ``*`` stands for any
    characters of one step, ``**`` for any number of steps. Keys with dots need a tuple of the steps. `what`
    is the argument, for messages.

    Examples
    --------
    >>> masks = Masks(["customer.*.email", "**.token"], "hide")
    >>> masks.state("customer", {"c1": {"email": "ada@example.org", "city": "Rome"}})
    {'c1': {'email': '•••', 'city': 'Rome'}}
    >>> masks.payload({"login": {"token": "xyz", "email": "ada@example.org"}})
    {'login': {'token': '•••', 'email': 'ada@example.org'}}
    """

    def __init__(self, patterns: Iterable[Path], what: str) -> None:
        if isinstance(patterns, str):
            patterns = [patterns]
        if not isinstance(patterns, Iterable):
            raise TypeError(f"{what} is {quote(patterns)}; pass a list of paths")
        self._patterns = [_parse_mask(pattern, what) for pattern in patterns]
        self._used: set[Path] = set()
        self._hidden_texts: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def state(self, node: str, value: Any, path: tuple[str | int, ...] = ()) -> Any:
        """Return a part of a node's state, at `path`, with the hidden values masked."""
        if self.covers(node, path):
            return self._mask(value)
        return self._masked(value, self._of_node(node), "".join(f"{_STEP}{step}" for step in path))

    def covers(self, node: str, path: tuple[str | int, ...]) -> bool:
        """Return True if a part of a node's state is hidden, or lies in one that is."""
        patterns = self._of_node(node)
        places = accumulate(f"{_STEP}{step}" for step in path)
        return any(self._is_hidden(place, patterns) for place in places)

    def payload(self, value: Any) -> Any:
        """Return a payload or a reply with the hidden values masked."""
        return self._masked(value, [each for each in self._patterns if each.node is None], "")

    @property
    def unused(self) -> list[Path]:
        """The patterns that have hidden nothing so far."""
        return [each.text for each in self._patterns if each.text not in self._used]

    def scrub(self, text: str) -> str:
        """Replace texts and numbers that were hidden so far in a text such as an error message."""
        for hidden in self._hidden_texts:
            if hidden in text:
                text = text.replace(hidden, HIDDEN)
        return text

    def _of_node(self, node: str) -> list[_Mask]:
        return [each for each in self._patterns if each.node is None or each.node.fullmatch(node)]

    def _is_hidden(self, place: str, patterns: list[_Mask]) -> bool:
        found = {each.text for each in patterns if each.place.fullmatch(place)}
        self._used |= found
        return bool(found)

    def _masked(self, value: Any, patterns: list[_Mask], place: str) -> Any:
        if not patterns:
            return value
        if isinstance(value, Mapping):
            return {
                key: self._masked_part(part, patterns, f"{place}{_STEP}{key}") for key, part in value.items()
            }
        if isinstance(value, list | tuple):
            parts = enumerate(value)
            return [self._masked_part(part, patterns, f"{place}{_STEP}{index}") for index, part in parts]
        return value

    def _masked_part(self, value: Any, patterns: list[_Mask], place: str) -> Any:
        if self._is_hidden(place, patterns):
            return self._mask(value)
        return self._masked(value, patterns, place)

    def _mask(self, value: Any) -> str:
        waiting = [value]
        while waiting:
            part = waiting.pop()
            if isinstance(part, str) and len(part) >= _MIN_SCRUBBED:
                self._hidden_texts.add(part)
            elif type(part) in {int, float} and len(str(part)) >= _MIN_SCRUBBED_NUMBER:
                self._hidden_texts.add(str(part))
            elif isinstance(part, Mapping):
                waiting.extend(part.values())
            elif isinstance(part, list | tuple):
                waiting.extend(part)
        return HIDDEN


def _parse_mask(pattern: Any, what: str) -> _Mask:
    if not isinstance(pattern, str | tuple):
        raise TypeError(f'{what}: {quote(pattern)} is not a path; pass strings such as "customer.*.email"')
    segments = pattern.split(".") if isinstance(pattern, str) else list(map(str, parse_path(pattern)))
    if "" in segments and isinstance(pattern, str):
        raise ValueError(f"{what}: the path {quote(pattern)} has an empty step")
    if len(segments) <= 1:
        text = escape_surrogates("".join(segments))
        raise ValueError(
            f'{what}: {quote(pattern)} names no part of a state; "{text}.**" hides the whole state of a '
            f'node, "**.{text}" a key everywhere'
        )
    node = None if segments[0] == ANYWHERE else re.compile(_glob(segments.pop(0)))
    steps = [_STEPS if each == ANYWHERE else _STEP + _glob(each) for each in segments]
    if segments[-1] == ANYWHERE:
        steps.append(_STEP + _glob("*"))  # all parts, but not the whole
    return _Mask(pattern, node, re.compile("".join(steps)))


def _glob(segment: str) -> str:
    return f"[^{_STEP}]*".join(map(re.escape, segment.split("*")))
