"""Paths and selectors: how one part of a state is named and read."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from enum import Enum
from functools import lru_cache
from itertools import islice
from typing import Any, Final, Literal, TypeAlias

from happen_nb.errors import PathError

Steps: TypeAlias = tuple[str | int, ...]
Path: TypeAlias = str | Steps
Selector: TypeAlias = Callable[[Any], Any] | Path


_MOST_DIGITS: Final = 18  # no list is longer
_LOOKED_AT: Final = 1_000  # keys that a hint compares
_NAMED: Final = 2  # keys that it names


class _Missing(Enum):
    MISSING = "MISSING"

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final[Literal[_Missing.MISSING]] = _Missing.MISSING
"""Stands for "not there", where ``None`` would be a value."""


def parse_path(path: Path) -> Steps:
    """Split a path into its steps.

    A string is split at its dots. A tuple is taken as it is: of strings, which may hold dots, and of
    integers, which index lists.

    Raises
    ------
    PathError
        Neither string nor tuple, an empty string, or a step that is empty or of another type.

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
    if isinstance(path, str):
        return _parse_text(path)
    if not isinstance(path, tuple):
        raise PathError(
            f'a path is a string such as "orders.o1.status" or a tuple such as ("orders", "o.1", 0), '
            f"not {type(path).__name__}"
        )
    for step in path:
        if isinstance(step, bool) or not isinstance(step, str | int):
            raise PathError(
                f"the path {path!r} has a step of type {type(step).__name__}; "
                "steps are strings (keys) or integers (list indices)"
            )
    return path


@lru_cache(maxsize=1024)
def _parse_text(path: str) -> Steps:
    if not path:
        raise PathError("the path is an empty string; everything is (), an empty key is the tuple ('',)")
    steps = tuple(path.split("."))
    if "" in steps:
        raise PathError(
            f"the path {path!r} has an empty step; a key that is empty or has a dot needs a tuple: "
            '("orders", "o.1")'
        )
    return steps


def format_path(steps: Steps) -> str:
    """Write steps as a path that can be typed: a dotted string, or a tuple where that would be unclear.

    Examples
    --------
    >>> format_path(("orders", "o1", "items", 0))
    'orders.o1.items.0'
    >>> format_path(("orders", "o.1"))
    "('orders', 'o.1')"
    """
    texts = [str(step) for step in steps]
    if not texts or any(not text or "." in text for text in texts):
        return repr(tuple(steps))
    return ".".join(texts)


def list_index(step: str | int, length: int) -> int | None:
    """Find which item of a list a step means; None if there is no such item.

    Examples
    --------
    >>> list_index("1", 3), list_index(-1, 3), list_index("3", 3), list_index("one", 3)
    (1, 2, None, None)
    """
    if isinstance(step, str):
        if not (step.isascii() and step.isdigit() and len(step) <= _MOST_DIGITS):
            return None
        step = int(step)
    index = step + length if step < 0 else step
    return index if 0 <= index < length else None


def lookup(value: Any, path: Path, default: Any = None) -> Any:
    """Read the part of a value at a path; ``default`` if it is not there.

    Examples
    --------
    >>> state = {"orders": {"7": {"items": ["pen", "ink"]}}}
    >>> lookup(state, "orders.7.items.1")
    'ink'
    >>> lookup(state, "orders.8.items", default="nothing")
    'nothing'
    """
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


def missing_hint(state: Any, path: Path) -> str | None:
    """Explain why there is nothing at a path; None if there is something, or nothing like it.

    Examples
    --------
    >>> missing_hint({"temp": 20}, "tmp")
    'nothing at tmp; there is temp'
    >>> missing_hint({"rooms": [{"temp": 20}]}, "rooms.1.temp")
    'nothing at rooms.1; rooms has 1 item'
    >>> missing_hint({"temp": 20}, "temp"), missing_hint({"temp": 20}, "people")
    (None, None)
    """
    steps = parse_path(path)
    for at, step in enumerate(steps):
        value = lookup(state, steps[:at])
        if lookup(value, (step,), MISSING) is MISSING:
            there = _near(value, steps[:at], step)
            return there and f"nothing at {format_path(steps[: at + 1])}; {there}"
    return None


def _near(value: Any, above: Steps, step: str | int) -> str | None:
    """What there is where a step was looked for, if it is of any help."""
    if isinstance(value, list):
        items = "1 item" if len(value) == 1 else f"{len(value):,} items"
        return f"{format_path(above)} has {items}"
    if not isinstance(value, dict):
        return None
    known = list(islice(value, _LOOKED_AT))
    folded = {key.casefold(): key for key in known}
    close = get_close_matches(str(step), known, n=_NAMED) or get_close_matches(str(step).casefold(), folded)
    names = [format_path((*above, key if key in value else folded[key])) for key in close]
    return f"there is {' and '.join(names)}" if names else None


def select(value: Any, selector: Selector | None = None) -> Any:
    """Apply a selector: a callable, a path (missing: ``None``), or None for everything.

    What a callable raises comes out unchanged.

    Examples
    --------
    >>> state = {"stock": {"pens": 3}}
    >>> select(state, "stock.pens"), select(state, lambda s: len(s["stock"])), select(state, "stock.ink")
    (3, 1, None)
    """
    if selector is None:
        return value
    if callable(selector):
        return selector(value)
    return lookup(value, selector)
