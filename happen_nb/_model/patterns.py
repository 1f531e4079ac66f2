"""Event types, and the patterns that say which of them a handler takes.

================ ============================================================================
in a pattern     what it takes
================ ============================================================================
``*``            any run of characters without a dot, also an empty one
``**``           any run of characters, dots too, also an empty one
``{a,b}``        one of the alternatives, which may hold ``*``, ``**`` and braces themselves
anything else    itself; a comma outside braces too
================ ============================================================================

There is no escaping: a type with ``*``, ``{`` or ``}`` in it is taken by a wildcard or by a predicate.

A string is compiled to an automaton that reads a type once. Nothing backtracks: for each character of the
type it takes at most one step a state, and it has about as many states as the pattern has characters.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from typing import Final, Generic, TypeAlias, TypeVar
from urllib.parse import quote as percent_encode

from happen_nb._model.automaton import Automaton, Reader
from happen_nb._model.quoting import quote
from happen_nb.errors import EventTypeError, PatternError

Predicate: TypeAlias = Callable[[str], object]
"""A function of an event type; the event is taken if what it returns is true."""

T = TypeVar("T")

LONGEST_TYPE: Final = 256
"""Characters of an event type after percent-encoding."""
LONGEST_PATTERN: Final = 2048
"""Characters of a pattern; beyond, a predicate is faster and easier to read."""

_NEAR: Final = 0.5  # of a pattern's own characters that must fit for it to be worth naming
_IMPOSSIBLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_type(type: str) -> str:
    r"""Give an event type back if events may have it.

    Raises
    ------
    EventTypeError
        It is no string, is empty, has a control character or half a surrogate pair, or is longer than 256
        characters after percent-encoding, where a dot counts 3 and a letter beyond ASCII 6 to 12.

    Examples
    --------
    >>> check_type("order.paid")
    'order.paid'
    >>> check_type("order.paid\n")
    Traceback (most recent call last):
    ...
    happen_nb.errors.EventTypeError: the event type 'order.paid\n' has '\n' at index 10, ...
    """
    if not isinstance(type, str):
        raise EventTypeError(
            f'an event type is a string such as "order.paid", not {type.__class__.__name__}: {quote(type)}'
        )
    return _checked_type(type)


@lru_cache(4096)
def _checked_type(type: str) -> str:
    if not type:
        raise EventTypeError('the event type is an empty string; name what happened, such as "order.paid"')
    _refuse_impossible(f"the event type {quote(type)}", type, EventTypeError)
    length = _encoded_length(type)
    if length > LONGEST_TYPE:
        raise EventTypeError(
            f"the event type {quote(type)} has {length} characters after percent-encoding, "
            f"{LONGEST_TYPE} are possible; put what varies into the payload"
        )
    return str.__str__(type)


def _encoded_length(type: str) -> int:
    """Count the characters of a type as one subject token: in it ``.`` and ``~`` are encoded too."""
    return len(percent_encode(type, safe="")) + 2 * (type.count(".") + type.count("~"))


def _refuse_impossible(what: str, text: str, error: type[EventTypeError | PatternError]) -> None:
    found = _IMPOSSIBLE.search(text)
    if found:
        raise error(
            f"{what} has {found[0]!r} at index {found.start()}, a control character or half of a surrogate "
            "pair, which no event type may have; leave it out"
        )


@dataclass(frozen=True, slots=True)
class Pattern:
    """Which event types are meant; made by `Pattern.of`.

    Two patterns are equal if they were made from the same string or from the same predicate.

    Attributes
    ----------
    text : str
        The pattern as it was written, or the name of the predicate.
    exact : str or None
        The one type that is meant, if the pattern is a string without wildcards and braces.
    predicate : callable or None
        The function that decides, if the pattern is one.

    Examples
    --------
    >>> Pattern.of("order.*").matches("order.paid"), Pattern.of("order.*").matches("order.item.added")
    (True, False)
    >>> Pattern.of("{order,payment}.**").matches("payment.card.refused")
    True
    >>> Pattern.of(str.isupper).matches("ALARM")
    True
    """

    text: str
    exact: str | None = None
    predicate: Predicate | None = None
    _automaton: Automaton | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, pattern: str | Predicate) -> Pattern:
        """Read a pattern: a string, or a function of an event type.

        Raises
        ------
        PatternError
            An empty string, braces that do not match, an empty alternative, a control character, more than
            2,048 characters, an async function, or neither a string nor callable.

        Examples
        --------
        >>> Pattern.of("order.paid").exact
        'order.paid'
        >>> Pattern.of("order.{paid,sent")
        Traceback (most recent call last):
        ...
        happen_nb.errors.PatternError: the pattern 'order.{paid,sent' opens a brace at index 6 that ...
        """
        if not isinstance(pattern, str):
            return cls._of_predicate(pattern)
        text = str.__str__(pattern)
        _check_text(text)
        if any(character in text for character in "*{}"):
            return cls(text, _automaton=_compiled(text))
        return cls(text, exact=text)

    @classmethod
    def _of_predicate(cls, predicate: Predicate) -> Pattern:
        if not callable(predicate):
            raise PatternError(
                'a pattern is a string such as "order.*" or a function of the event type, '
                f"not {type(predicate).__name__}: {quote(predicate)}"
            )
        name = str(getattr(predicate, "__qualname__", type(predicate).__qualname__))
        if any(map(inspect.iscoroutinefunction, (predicate, getattr(predicate, "__call__", None)))):  # noqa: B004
            raise PatternError(
                f"the predicate {quote(name)} is async, and what it returns would always count as true; "
                'write it with "def"'
            )
        return cls(name, predicate=predicate)

    def matches(self, type: str) -> bool:
        """Tell whether an event type is meant; what a predicate raises comes out unchanged.

        Examples
        --------
        >>> pattern = Pattern.of("order.{paid,item.*}")
        >>> [type for type in ("order.paid", "order.item.added", "order") if pattern.matches(type)]
        ['order.paid', 'order.item.added']
        """
        if self._automaton is not None:
            return self._automaton.accepts(type)
        if self.predicate is not None:
            return bool(self.predicate(type))
        return type == self.exact


class PatternIndex(Generic[T]):
    """What is registered under patterns, found by event type in the order of registration.

    Exact patterns are looked up, so that their number costs nothing; all others are tested in turn. One
    thread at a time may add and remove. Others may meanwhile call `matching`, iterate and ask for the
    length: what they read is replaced, never changed, so they see a registration or they do not.

    Examples
    --------
    >>> index = PatternIndex[str]()
    >>> index.add(Pattern.of("order.*"), "logs")
    >>> index.add(Pattern.of("order.paid"), "ships")
    >>> index.matching("order.paid"), index.matching("order.sent")
    (['logs', 'ships'], ['logs'])
    >>> index.remove("logs"), index.matching("order.sent")
    (True, [])
    """

    def __init__(self) -> None:
        self._numbers = count()
        self._all: dict[int, tuple[Pattern, T]] = {}
        self._exact: dict[str, tuple[tuple[int, T], ...]] = {}
        self._others: tuple[tuple[int, Pattern, T], ...] = ()

    def add(self, pattern: Pattern, item: T) -> None:
        """Register an item under a pattern; an item may stand under several, and twice under one."""
        number = next(self._numbers)
        self._all[number] = (pattern, item)
        if pattern.exact is None:
            self._others = (*self._others, (number, pattern, item))
        else:
            self._exact[pattern.exact] = (*self._exact.get(pattern.exact, ()), (number, item))

    def remove(self, item: T) -> bool:
        """Take an item off, all registrations of it; False if it has none.

        Items are compared with ``==``, so that a bound method is found again.
        """
        gone = {number: pattern for number, (pattern, its) in self._all.items() if its == item}
        for number, pattern in gone.items():
            del self._all[number]
            if pattern.exact is not None:
                self._forget(pattern.exact, number)
        self._others = tuple(other for other in self._others if other[0] not in gone)
        return bool(gone)

    def _forget(self, exact: str, number: int) -> None:
        left = tuple(entry for entry in self._exact[exact] if entry[0] != number)
        if left:
            self._exact[exact] = left
        else:
            del self._exact[exact]

    def matching(self, type: str) -> list[T]:
        """Find the items whose pattern takes a type, in the order of registration.

        What a predicate raises comes out unchanged.
        """
        exact = self._exact.get(type, ())
        others = [(number, item) for number, pattern, item in self._others if pattern.matches(type)]
        found = sorted((*exact, *others), key=_number) if others else exact
        return [item for _, item in found]

    def __iter__(self) -> Iterator[tuple[Pattern, T]]:
        return iter(self._all.copy().values())

    def __len__(self) -> int:
        return len(self._all)


def _number(entry: tuple[int, object]) -> int:
    return entry[0]


def nearest(type: str, patterns: Iterable[str]) -> str | None:
    """Find the pattern that would most nearly have taken a type; None if none comes near.

    Near is a pattern of which at least half of the own characters fit: what a wildcard takes is no likeness.
    Among equals the first one is found.

    Raises
    ------
    PatternError
        One of the patterns cannot be read.

    Examples
    --------
    >>> nearest("order.payed", ["order.sent", "order.paid", "*"])
    'order.paid'
    >>> nearest("order.item.added", ["payment.*", "order.*"])
    'order.*'
    >>> nearest("order.paid", ["alarm"]) is None
    True
    """
    best, found = _NEAR, None
    for text in patterns:
        _check_text(text)
        likeness = _compiled(text).likeness(type)
        if likeness > best or (found is None and likeness == best):
            best, found = likeness, text
    return found


@lru_cache(maxsize=16_384)
def is_pattern(text: str) -> bool:
    r"""Tell whether a string can be read as a pattern.

    Examples
    --------
    >>> is_pattern("order.*"), is_pattern("order.{paid"), is_pattern("order\n")
    (True, False, False)
    """
    try:
        Pattern.of(text)
    except PatternError:
        return False
    return True


def _check_text(text: str) -> None:
    if not text:
        raise PatternError('the pattern is an empty string; every event is "**"')
    if len(text) > LONGEST_PATTERN:
        raise PatternError(
            f"the pattern {quote(text)} has {len(text):,} characters, {LONGEST_PATTERN:,} are possible; "
            "use a predicate, such as my_set_of_types.__contains__"
        )
    _refuse_impossible(f"the pattern {quote(text)}", text, PatternError)


@lru_cache(maxsize=1024)
def _compiled(text: str) -> Automaton:
    return Automaton(Reader(text).states)


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
