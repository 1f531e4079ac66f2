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
from typing import Final, Generic, Literal, NoReturn, TypeAlias, TypeVar
from urllib.parse import quote

from happen_nb.errors import EventTypeError, PatternError

Predicate: TypeAlias = Callable[[str], object]
"""A function of an event type; the event is taken if what it returns is true."""

T = TypeVar("T")

LONGEST_TYPE: Final = 256
"""Characters of an event type after percent-encoding."""
LONGEST_PATTERN: Final = 2048
"""Characters of a pattern; beyond, a predicate is faster and easier to read."""

_NEAR: Final = 0.5  # of a pattern's own characters that must fit for it to be worth naming
_SHOWN: Final = 80  # characters of a type or pattern in a message
_PARTS: Final = re.compile(r"\*+|.", re.DOTALL)
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
            'an event type is a string such as "order.paid", '
            f"not {type.__class__.__name__}: {_shown(repr(type))}"
        )
    return _checked_type(type)


@lru_cache(4096)
def _checked_type(type: str) -> str:
    if not type:
        raise EventTypeError('the event type is an empty string; name what happened, such as "order.paid"')
    _refuse_impossible(f"the event type {_shown(type)}", type, EventTypeError)
    length = _encoded_length(type)
    if length > LONGEST_TYPE:
        raise EventTypeError(
            f"the event type {_shown(type)} has {length} characters after percent-encoding, "
            f"{LONGEST_TYPE} are possible; put what varies into the payload"
        )
    return str.__str__(type)


def _encoded_length(type: str) -> int:
    """Count the characters of a type as one subject token: in it ``.`` and ``~`` are encoded too."""
    return len(quote(type, safe="")) + 2 * (type.count(".") + type.count("~"))


def _refuse_impossible(what: str, text: str, error: type[EventTypeError | PatternError]) -> None:
    found = _IMPOSSIBLE.search(text)
    if found:
        raise error(
            f"{what} has {found[0]!r} at index {found.start()}, a control character or half of a surrogate "
            "pair, which no event type may have; leave it out"
        )


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}...")


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
    _automaton: _Automaton | None = field(default=None, repr=False, compare=False)

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
                f"not {type(predicate).__name__}: {_shown(repr(predicate))}"
            )
        name = str(getattr(predicate, "__qualname__", type(predicate).__qualname__))
        if any(map(inspect.iscoroutinefunction, (predicate, getattr(predicate, "__call__", None)))):  # noqa: B004
            raise PatternError(
                f"the predicate {_shown(name)} is async, and what it returns would always count as true; "
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


def _check_text(text: str) -> None:
    if not text:
        raise PatternError('the pattern is an empty string; every event is "**"')
    if len(text) > LONGEST_PATTERN:
        raise PatternError(
            f"the pattern {_shown(text)} has {len(text):,} characters, {LONGEST_PATTERN:,} are possible; "
            "use a predicate, such as my_set_of_types.__contains__"
        )
    _refuse_impossible(f"the pattern {_shown(text)}", text, PatternError)


@lru_cache(maxsize=1024)
def _compiled(text: str) -> _Automaton:
    return _Automaton(_Reader(text).states)


@dataclass(slots=True)
class _State:
    """A place in a pattern: what may be read here, and where it leads."""

    reads: str | None = None
    """The character that leads to the next state."""
    stays: Literal["", "*", "**"] = ""
    """Reads any character, or any but a dot, and stays."""
    jumps: list[int] = field(default_factory=list)
    """States, all of them later ones, that are reached without reading."""


@dataclass(slots=True)
class _Braces:
    """Braces that are still open: states where they and the alternative begin, and where others ended."""

    index: int
    begin: int
    alternative: int
    ends: list[int] = field(default_factory=list)


class _Reader:
    """Turns a pattern into states, of which the first is the start and the last the end."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.states = [_State()]
        self.open: list[_Braces] = []
        for part in _PARTS.finditer(text):
            self._read(part[0], part.start())
        if self.open:
            self._refuse(f'opens a brace at index {self.open[-1].index} that nothing closes; add a "}}"')

    def _read(self, part: str, index: int) -> None:
        last = len(self.states) - 1
        if part[0] == "*":
            self.states[-1].stays = "*" if part == "*" else "**"
        elif part[0] == "{":
            self.open.append(_Braces(index, last, self._new(last)))
        elif part[0] == "}":
            self._end_alternative(index)
            self._new(*self.open.pop().ends)
        elif part[0] == "," and self.open:
            self._end_alternative(index)
            self.open[-1].alternative = self._new(self.open[-1].begin)
        else:
            self.states[-1].reads = part
            self._new()

    def _new(self, *origins: int) -> int:
        """Add a state, and jumps to it."""
        new = len(self.states)
        self.states.append(_State())
        for origin in origins:
            self.states[origin].jumps.append(new)
        return new

    def _end_alternative(self, index: int) -> None:
        if not self.open:
            self._refuse(f'closes a brace at index {index} that nothing opens; add a "{{" before it')
        last = len(self.states) - 1
        if last == self.open[-1].alternative and not self.states[last].stays:
            self._refuse(
                f"has an empty alternative before index {index}; leave it out, or write the whole types: "
                '"{order,order.paid}" instead of "order{,.paid}"'
            )
        self.open[-1].ends.append(last)

    def _refuse(self, problem: str) -> NoReturn:
        raise PatternError(f"the pattern {_shown(self.text)} {problem}")


class _Automaton:
    """Follows all ways through a pattern at once: a set of states is an integer, a state one of its bits."""

    def __init__(self, states: list[_State]) -> None:
        self._states = states
        self._reads: dict[str, int] = {}
        self._stays = {"": 0, "*": 0, "**": 0}
        self._jumps = 0
        self._reached: dict[int, int] = {}
        for number in reversed(range(len(states))):
            self._add(states[number], 1 << number)
        self._start = self._jumped(1)
        self._end = 1 << len(states) - 1

    def _add(self, state: _State, bit: int) -> None:
        """Add a state to the sets it belongs to, after all later ones."""
        self._stays[state.stays] |= bit
        if state.reads is not None:
            self._reads[state.reads] = self._reads.get(state.reads, 0) | bit
        if state.jumps:
            self._jumps |= bit
            self._reached[bit] = bit | self._jumped(sum(1 << target for target in state.jumps))

    def _jumped(self, active: int) -> int:
        """Add the states that are reached without reading."""
        jumps = active & self._jumps
        while jumps:
            reached = self._reached[jumps & -jumps]
            active |= reached
            jumps &= ~reached
        return active

    def accepts(self, type: str) -> bool:
        """Tell whether a way through the pattern reads the whole type."""
        everything = self._stays["**"]
        no_dots = everything | self._stays["*"]
        active = self._start
        for character in type:
            read = (active & self._reads.get(character, 0)) << 1
            active = self._jumped(read | active & (everything if character == "." else no_dots))
            if not active:
                return False
        return bool(active & self._end)

    def likeness(self, type: str) -> float:
        """Tell how much of the pattern's own characters fits a type; 1.0 is all.

        On the way with the fewest characters to add, drop or change, it is the share that needs no such edit.
        """
        edit, own = 1 << 32, -1  # one number for both: fewer edits first, then more characters of its own
        costs = self._skipped([0] + [edit * edit] * (len(self._states) - 1), edit + own)
        for character in type:
            after = [cost + edit for cost in costs]
            for number, state in enumerate(self._states):
                if state.stays == "**" or (state.stays and character != "."):
                    after[number] = min(after[number], costs[number])
                if state.reads is not None:
                    changed = 0 if state.reads == character else edit
                    after[number + 1] = min(after[number + 1], costs[number] + changed + own)
            costs = self._skipped(after, edit + own)
        edits = -(-costs[-1] // edit)
        characters = edits * edit - costs[-1]
        return 1 - edits / characters if characters else 0.0

    def _skipped(self, costs: list[int], skip: int) -> list[int]:
        """Add what is reached by jumps, and by leaving out characters of the pattern."""
        for number, state in enumerate(self._states):
            if state.reads is not None:
                costs[number + 1] = min(costs[number + 1], costs[number] + skip)
            for target in state.jumps:
                costs[target] = min(costs[target], costs[number])
        return costs
