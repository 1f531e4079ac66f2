"""Whether a type of events has missed a pattern narrowly, as by a typo."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from happen_nb._model.patterns import Pattern
from happen_nb.errors import PatternError

_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_MOST: Final = 64  # alternatives of a pattern that are compared
_LONGEST: Final = 256  # characters of a pattern that is compared
_SHARE: Final = 2.5  # so many characters of a word for each one that may be wrong
_WRONG: Final = 2  # characters that may be wrong


def near_miss(type: str, patterns: Iterable[str]) -> str | None:
    """Find the first pattern that a type misses narrowly.

    That is by one word with a typo, by letter case or the sign between words, or by a ``*`` that matches no
    dot. Another word is another type: ``order.shipped`` does not nearly match ``order.placed``.

    Examples
    --------
    >>> near_miss("order.payed", ["stock.*", "order.paid"])
    'order.paid'
    >>> near_miss("order.item.added", ["order.*"])
    'order.*'
    >>> near_miss("order.shipped", ["order.placed", "order.{paid,sent}"]) is None
    True
    """
    return next((pattern for pattern in patterns if _nearly_matches(type, pattern)), None)


@lru_cache(4096)
def _nearly_matches(type: str, pattern: str) -> bool:
    if len(pattern) > _LONGEST or not pattern.strip("*"):
        return False
    try:
        if Pattern.of(pattern).matches(type):
            return False
    except PatternError:  # another client stores what it likes
        return False
    if "*" in pattern and Pattern.of(re.sub(r"\*+", "**", pattern)).matches(type):
        return True
    words = _words(type)
    return any(_differ_by_a_typo(words, _words(each)) for each in _alternatives(pattern))


def _alternatives(pattern: str) -> list[str]:
    """The patterns without braces that one with braces stands for."""
    found = [pattern]
    while _BRACES.search(found[0]) and len(found) < _MOST:
        found = [
            f"{each[: inner.start()]}{word}{each[inner.end() :]}"
            for each in found
            if (inner := _BRACES.search(each))
            for word in inner[1].split(",")
        ]
    return found[:_MOST]


def _words(text: str) -> list[str]:
    return re.split(r"[._:/ -]", text.casefold())


def _differ_by_a_typo(words: list[str], others: list[str]) -> bool:
    if len(words) != len(others):
        return False
    pairs = zip(words, others, strict=True)
    wrong = [(word, other) for word, other in pairs if other not in {word, "*", "**"}]
    return not wrong or (len(wrong) == 1 and _is_typo(*wrong[0]))


def _is_typo(word: str, other: str) -> bool:
    room = min(_WRONG, int(max(len(word), len(other)) / _SHARE))
    return abs(len(word) - len(other)) <= room and _distance(word, other) <= room


def _distance(one: str, other: str) -> int:
    """How many characters have to be replaced, added, left out, or swapped with the next."""
    rows = [list(range(len(other) + 1))]
    for at, char in enumerate(one, start=1):
        row, above = [at], rows[-1]
        for to, its in enumerate(other, start=1):
            best = min(above[to] + 1, row[to - 1] + 1, above[to - 1] + (char != its))
            if at > 1 and to > 1 and (char, one[at - 2]) == (other[to - 2], its):
                best = min(best, rows[-2][to - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]
