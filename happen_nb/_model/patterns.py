"""Event types, and the patterns that select them.

================ ============================================================================
in a pattern     matches
================ ============================================================================
``*``            any run of characters without a dot, also an empty one
``**``           any run of characters, also an empty one
``{a,b}``        one of the alternatives, which may contain ``*``, ``**`` and braces
anything else    itself; a comma outside braces too
================ ============================================================================

Escaping is not possible: only a wildcard or a predicate matches a type that contains ``*``, ``{`` or ``}``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, TypeAlias, TypeVar
from urllib.parse import quote as percent_encode

from happen_nb._model.functions import check_takes, is_a, is_lazy_function, own_name, truth_of
from happen_nb._model.quoting import quote, type_name
from happen_nb.errors import EventTypeError, PatternError

Predicate: TypeAlias = Callable[[str], object]
"""A function of an event type that returns something true if it matches."""

T = TypeVar("T")

MAX_TYPE_CHARACTERS: Final = 256  # characters of an event type after percent-encoding
MAX_PATTERN_CHARACTERS: Final = 2048
"""Characters of a pattern; beyond, a predicate is faster and easier to read."""

_FORBIDDEN: Final = "[\x00-\x1f\x7f-\x9f\ud800-\udfff]"
_PARTS: Final = r"\*+|[{},]|[^*{},]+"
_BRACES: Final = r"\{([^{}]*)\}"
_MIN_LIKENESS: Final = 0.5  # share of a pattern's own characters that must fit for it to be near
_MAX_COMPARED_ALTERNATIVES: Final = 64
_MAX_COMPARED_CHARACTERS: Final = 256
_CHARACTERS_PER_TYPO: Final = 2.5
_MAX_TYPOS: Final = 2


def check_type(type: str) -> str:
    """Return an event type if it is valid, or raise EventTypeError.

    It is a string without control characters and halves of surrogate pairs, of 1 to 256 characters after
    percent-encoding, where a dot counts 3 and a letter beyond ASCII 6 to 12.
    """
    if not is_a(type, str):
        raise EventTypeError(
            f'an event type is a string such as "order.paid", not {type_name(type)}: {quote(type)}'
        )
    return _checked_type(type)


@lru_cache(4096)
def _checked_type(type: str) -> str:
    if not type:
        raise EventTypeError('the event type is an empty string; name the event, such as "order.paid"')
    _refuse_forbidden(f"the event type {quote(type)}", type, EventTypeError)
    # As one token of a subject, "." and "~" are encoded too.
    length = len(percent_encode(type, safe="")) + 2 * (type.count(".") + type.count("~"))
    if length > MAX_TYPE_CHARACTERS:
        raise EventTypeError(
            f"the event type {quote(type)} has {length} characters after percent-encoding, "
            f"at most {MAX_TYPE_CHARACTERS} are allowed; put the variable part into the payload"
        )
    return str.__str__(type)


def _refuse_forbidden(what: str, text: str, error: type[EventTypeError | PatternError]) -> None:
    found = re.search(_FORBIDDEN, text)
    if found:
        raise error(
            f"{what} has {found[0]!r} at index {found.start()}, a control character or half of a surrogate "
            "pair, which event types cannot have; leave it out"
        )


@lru_cache(maxsize=1024)
def _parsed(text: str) -> tuple[str, ...]:
    """Split a pattern into wildcards, braces, commas and the texts between them."""
    parts: list[str] = []
    opened: list[int] = []
    for found in re.finditer(_PARTS, text):
        part, index = found[0], found.start()
        if part == "{":
            opened.append(index)
        elif part == "}" and not opened:
            raise _invalid(text, f'closes a brace at index {index} that nothing opens; add a "{{" before it')
        elif part in {",", "}"} and opened and parts[-1] in {",", "{"}:
            raise _invalid(
                text,
                f"has an empty alternative before index {index}; leave it out, or write the whole types: "
                '"{order,order.paid}" instead of "order{,.paid}"',
            )
        elif part == "}":
            opened.pop()
        parts.append(part[:2] if part[0] == "*" else part)
    if opened:
        raise _invalid(text, f'opens a brace at index {opened[-1]} that nothing closes; add a "}}"')
    return tuple(parts)


def _invalid(text: str, problem: str) -> PatternError:
    return PatternError(f"the pattern {quote(text)} {problem}")


def _follow(parts: tuple[str, ...], start: T, step: Callable[[T, str], T], join: Callable[[T, T], T]) -> T:
    """Follow all ways through a pattern at once: `step` goes through a part, `join` unites alternatives.

    It is not a regular expression, which would backtrack in patterns with several wildcards and braces.
    """
    at = start
    braces: list[tuple[T, list[T]]] = []  # where each open one starts, and where its alternatives end
    for part in parts:
        if part == "{":
            braces.append((at, []))
        elif part == "," and braces:
            before, ends = braces[-1]
            ends.append(at)
            at = before
        elif part == "}":
            for end in braces.pop()[1]:
                at = join(at, end)
        else:
            at = step(at, part)
    return at


@lru_cache(maxsize=16_384)
def _accepts(parts: tuple[str, ...], type: str) -> bool:
    """Return whether a type matches: whether its end is among the indices that the pattern can reach."""

    def step(at: set[int], part: str) -> set[int]:
        if not at:
            return at
        if part == "**":
            return {*range(min(at), len(type) + 1)}
        if part != "*":
            return {index + len(part) for index in at if type.startswith(part, index)}
        reached = set(at)
        for index, character in enumerate(type):
            if character != "." and index in reached:
                reached.add(index + 1)
        return reached

    return len(type) in _follow(parts, {0}, step, set.union)


def _likeness(parts: tuple[str, ...], type: str) -> float:
    """Return the share of a pattern's own characters that fit a type, from 0 to 1.

    On the way with the fewest characters to add, drop or change, it is the share without such an edit.
    """
    edit, own = 1 << 32, -1  # one number for both: fewer edits first, then more characters of its own

    def reach(costs: list[int], free: str = "") -> list[int]:
        """Go on to later indices: by characters that a wildcard stands for, and by dropping others."""
        for index, character in enumerate(type):
            is_free = free == "**" or (free == "*" and character != ".")
            costs[index + 1] = min(costs[index + 1], costs[index] + (0 if is_free else edit))
        return costs

    def step(costs: list[int], part: str) -> list[int]:
        if part[0] == "*":
            return reach(costs[:], part)
        for wanted in part:
            added = [cost + own + edit for cost in costs]
            taken = [costs[i] + own + (0 if each == wanted else edit) for i, each in enumerate(type)]
            costs = reach([added[0], *map(min, added[1:], taken)])
        return costs

    def join(one: list[int], other: list[int]) -> list[int]:
        return list(map(min, one, other))

    start = reach([0] + [edit * edit] * len(type))
    cost = _follow(parts, start, step, join)[-1]
    edits = -(-cost // edit)
    characters = edits * edit - cost
    return 1 - edits / characters if characters else 0.0


@dataclass(slots=True, unsafe_hash=True)  # a frozen one takes twice as long to make
class Pattern:
    """A pattern of event types; made by `Pattern.of`.

    Two patterns are equal if they were made from the same string or from the same predicate.

    Examples
    --------
    >>> Pattern.of("order.*").matches("order.paid"), Pattern.of("order.*").matches("order.item.added")
    (True, False)
    >>> Pattern.of("{order,payment}.**").matches("payment.card.refused")
    True
    >>> Pattern.of(str.isupper).matches("ALARM")
    True
    """

    text: str  # the pattern as written, or the name of the predicate
    exact: str | None = None  # the only type that matches, if it is a string without wildcards and braces
    predicate: Predicate | None = None
    _parts: tuple[str, ...] = field(default=(), repr=False, compare=False)

    @classmethod
    def of(cls, pattern: str | Predicate) -> Pattern:
        """Parse a pattern: a string, or a predicate on event types.

        Raises PatternError for an empty string, unbalanced braces, an empty alternative, a control character,
        more than 2,048 characters, an async function, and what is neither a string nor callable.

        Examples
        --------
        >>> Pattern.of("order.paid").exact
        'order.paid'
        >>> Pattern.of("order.{paid,sent")
        Traceback (most recent call last):
        ...
        happen_nb.errors.PatternError: the pattern 'order.{paid,sent' opens a brace at index 6 that ...
        """
        if not is_a(pattern, str):
            return cls._of_predicate(pattern)
        text = str.__str__(pattern)
        _check_text(text)
        if any(character in text for character in "*{}"):
            return cls(text, _parts=_parsed(text))
        return cls(text, exact=text)

    @classmethod
    def _of_predicate(cls, predicate: Predicate) -> Pattern:
        if not callable(predicate):
            raise PatternError(
                'a pattern is a string such as "order.*" or a function of the event type, '
                f"not {type(predicate).__name__}: {quote(predicate)}"
            )
        name = own_name(predicate)
        if is_lazy_function(predicate):
            raise PatternError(
                f"the predicate {quote(name)} is async or a generator, and its call would always count as "
                'true; write it with "def" and "return"'
            )
        check_takes(predicate, "a pattern: the predicate", 1, [], "an event type")
        return cls(name, predicate=predicate)

    def matches(self, type: str) -> bool:
        """Return whether it matches an event type; an exception of a predicate propagates unchanged."""
        if self._parts:
            return _accepts(self._parts, type)
        if self.predicate is not None:
            answer = self.predicate(type)
            if isinstance(answer, bool):  # usually: then the text of an error is not needed
                return answer
            return truth_of(answer, f"the predicate {quote(self.text)}")
        return type == self.exact


def _check_text(text: str) -> None:
    if not text:
        raise PatternError('the pattern is an empty string; "**" matches every event')
    if len(text) > MAX_PATTERN_CHARACTERS:
        raise PatternError(
            f"the pattern {quote(text)} has {len(text):,} characters, "
            f"at most {MAX_PATTERN_CHARACTERS:,} are allowed; "
            "use a predicate, such as my_set_of_types.__contains__"
        )
    _refuse_forbidden(f"the pattern {quote(text)}", text, PatternError)


@lru_cache(maxsize=16_384)
def is_pattern(text: str) -> bool:
    r"""Return whether a string is a valid pattern."""
    try:
        Pattern.of(text)
    except PatternError:
        return False
    return True


def nearest(type: str, patterns: Iterable[str]) -> str | None:
    """Return the first pattern that a type comes nearest to; None if none is near.

    At least half of a near pattern's own characters fit the type; wildcards do not count. An invalid pattern
    is a PatternError.
    """
    best, found = _MIN_LIKENESS, None
    for text in patterns:
        _check_text(text)
        likeness = _likeness(_parsed(text), type)
        if likeness > best or (found is None and likeness == best):
            best, found = likeness, text
    return found


def near_miss(type: str, patterns: Iterable[str]) -> str | None:
    """Return the first pattern that a type misses by a typo.

    The type differs in the spelling of one word, in letter case, in the separators between words, or by a
    dot that a ``*`` does not match. Another word is another type: ``order.shipped`` is not near
    ``order.placed``.
    """
    return next((pattern for pattern in patterns if _nearly_matches(type, pattern)), None)


@lru_cache(4096)
def _nearly_matches(type: str, pattern: str) -> bool:
    if len(pattern) > _MAX_COMPARED_CHARACTERS or not pattern.strip("*") or not is_pattern(pattern):
        return False  # another client may have stored an invalid pattern
    if Pattern.of(pattern).matches(type):
        return False
    if "*" in pattern and Pattern.of(re.sub(r"\*+", "**", pattern)).matches(type):
        return True
    words = _words(type)
    return any(
        _differ_by_a_typo(words, _words(each)) for each in expand_braces(pattern, _MAX_COMPARED_ALTERNATIVES)
    )


def expand_braces(pattern: str, limit: int) -> list[str]:
    """Return the patterns without braces that a pattern stands for, at most `limit`.

    Examples
    --------
    >>> expand_braces("{order,parcel}.{paid,sent}", 10)
    ['order.paid', 'order.sent', 'parcel.paid', 'parcel.sent']
    """
    done: list[str] = []
    waiting = [pattern]
    while waiting and len(done) + len(waiting) <= limit:
        text = waiting.pop()
        if braces := re.search(_BRACES, text):
            choices = braces[1].split(",")
            waiting += [f"{text[: braces.start()]}{each}{text[braces.end() :]}" for each in choices[::-1]]
        else:
            done.append(text)
    return [*done, *waiting][:limit]


def _words(text: str) -> list[str]:
    return re.split(r"[._:/ -]", text.casefold())


def _differ_by_a_typo(words: list[str], others: list[str]) -> bool:
    if len(words) != len(others):
        return False
    pairs = zip(words, others, strict=True)
    wrong = [(word, other) for word, other in pairs if other not in {word, "*", "**"}]
    return not wrong or (len(wrong) == 1 and _is_typo(*wrong[0]))


def _is_typo(word: str, other: str) -> bool:
    allowed = min(_MAX_TYPOS, int(max(len(word), len(other)) / _CHARACTERS_PER_TYPO))
    return abs(len(word) - len(other)) <= allowed and _distance(word, other) <= allowed


def _distance(one: str, other: str) -> int:
    """Return how many characters must be replaced, added, left out, or swapped with the next one."""
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
