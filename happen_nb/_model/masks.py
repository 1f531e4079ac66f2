"""Masks: hide parts of states and payloads by their paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any, Final

from happen_nb._model.quoting import quote

HIDDEN: Final = "•••"
"""Stands for a hidden value."""
ANYWHERE: Final = "**"
_MIN_SCRUBBED: Final = 3  # characters of a hidden text that is also removed from error texts

_Places = frozenset[tuple[int, int]]
"""Positions in patterns: the number of a pattern, and of the segment that the next step must match."""


class Masks:
    """Hide the parts of states and payloads whose paths match a pattern.

    Parameters
    ----------
    patterns : iterable of str
        ``"customer.*.email"`` hides in the state of a node; ``"**.email"`` everywhere. ``*`` stands for any
        characters of one step, ``**`` for any number of steps.
    what : str
        The argument, for messages.

    Examples
    --------
    >>> masks = Masks(["customer.*.email", "**.token"], "hide")
    >>> masks.state("customer", {"c1": {"email": "ada@example.org", "city": "Rome"}})
    {'c1': {'email': '•••', 'city': 'Rome'}}
    >>> masks.payload({"login": {"token": "xyz", "email": "ada@example.org"}})
    {'login': {'token': '•••', 'email': 'ada@example.org'}}
    """

    def __init__(self, patterns: Iterable[str], what: str) -> None:
        if isinstance(patterns, str):
            patterns = [patterns]
        self._patterns = [_segments(pattern, what) for pattern in patterns]
        self._hidden_texts: set[str] = set()
        self._after = cache(self._step)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def state(self, node: str, value: Any, path: tuple[str | int, ...] = ()) -> Any:
        """Return a part of a node's state, at `path`, with the hidden values masked."""
        places = self._start(node)
        for step in path:
            places = self._after(places, str(step))
            if self._is_hidden(places):
                return self._mask(value)
        return self._masked(value, places)

    def covers(self, node: str, path: tuple[str | int, ...]) -> bool:
        """Return True if a part of a node's state is hidden, or lies in one that is."""
        places = self._start(node)
        for step in path:
            places = self._after(places, str(step))
            if self._is_hidden(places):
                return True
        return False

    def payload(self, value: Any) -> Any:
        """Return a payload or a reply with the hidden values masked."""
        return self._masked(value, self._start(None))

    def scrub(self, text: str) -> str:
        """Replace texts that were hidden so far in a text such as an error message."""
        for hidden in self._hidden_texts:
            if hidden in text:
                text = text.replace(hidden, HIDDEN)
        return text

    def _start(self, node: str | None) -> _Places:
        places: set[tuple[int, int]] = set()
        for number, segments in enumerate(self._patterns):
            if segments[0] == ANYWHERE:
                places.add((number, 0))
            elif node is not None and _matches(segments[0], node):
                places.add((number, 1))
        return frozenset(places)

    def _step(self, places: _Places, step: str) -> _Places:
        reached: set[tuple[int, int]] = set()
        for number, at in self._with_skips(places):
            segments = self._patterns[number]
            if at < len(segments) and segments[at] == ANYWHERE:
                reached |= {(number, at), (number, at + 1)}
            elif at < len(segments) and _matches(segments[at], step):
                reached.add((number, at + 1))
        return frozenset(reached)

    def _with_skips(self, places: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
        # ** may stand for no step, but at the end of a pattern.
        found = set(places)
        for number, start in list(found):
            segments = self._patterns[number]
            for at in range(start, len(segments) - 1):
                if segments[at] != ANYWHERE:
                    break
                found.add((number, at + 1))
        return found

    def _is_hidden(self, places: _Places) -> bool:
        return any(at == len(self._patterns[number]) for number, at in places)

    def _masked(self, value: Any, places: _Places) -> Any:
        if not places:
            return value
        if isinstance(value, Mapping):
            return {key: self._below(part, places, key) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [self._below(part, places, str(index)) for index, part in enumerate(value)]
        return value

    def _below(self, value: Any, places: _Places, step: str) -> Any:
        places = self._after(places, step)
        return self._mask(value) if self._is_hidden(places) else self._masked(value, places)

    def _mask(self, value: Any) -> str:
        waiting = [value]
        while waiting:
            part = waiting.pop()
            if isinstance(part, str) and len(part) >= _MIN_SCRUBBED:
                self._hidden_texts.add(part)
            elif isinstance(part, Mapping):
                waiting.extend(part.values())
            elif isinstance(part, list | tuple):
                waiting.extend(part)
        return HIDDEN


def _segments(pattern: Any, what: str) -> tuple[str, ...]:
    if not isinstance(pattern, str):
        raise TypeError(f'{what}: {quote(pattern)} is not a path; give texts such as "customer.*.email"')
    segments = tuple(pattern.split("."))
    if "" in segments:
        raise ValueError(f"{what}: the path {quote(pattern)} has an empty step")
    if len(segments) == 1:
        raise ValueError(
            f'{what}: {quote(pattern)} names no part of a state; "{pattern}.**" hides the whole state of a '
            f'node, "**.{pattern}" a key everywhere'
        )
    return segments


@cache
def _glob(segment: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, segment.split("*"))), re.DOTALL)


def _matches(segment: str, step: str) -> bool:
    return segment == step or ("*" in segment and _glob(segment).fullmatch(step) is not None)
