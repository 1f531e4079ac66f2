"""Pieces of a line: cut, cleaned and typed, the same for text and HTML."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from html import escape
from typing import Final, Literal, NamedTuple, get_args

TimeKind = Literal["time", "moment", "occurred", "took", "told"]
"""Times, in ISO: without their zone, a "moment" with it, when something "occurred", how long it "took".

Only HTML shows them; one that is "told" is in text too.
"""

Kind = (
    Literal["", "key", "str", "num", "atom", "plain", "name", "err", "add", "del", "+", "-", "~"] | TimeKind
)
"""What a piece is: "" is what may stand back, as punctuation."""

TIMES: Final = frozenset(get_args(TimeKind))

_BARE = re.compile(r"[\w.-]+")
_NAME_ROOM = 64
_SECOND, _MINUTE = 0.9995, 60
_SIZES = (("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000))


class Span(NamedTuple):
    """A piece of a line. Its text is clean: printable and bounded, but not yet escaped for HTML."""

    text: str
    kind: Kind = ""


Line = tuple[Span, ...]


def clean(text: str) -> str:
    r"""Spell out what does not print: control characters, marks that change the direction, lone surrogates.

    Examples
    --------
    >>> clean("a\x1b[31m\u202eb")
    'a\\x1b[31m\\u202eb'
    """
    if text.isprintable():
        return text
    return text.translate(_spelled)


class _Spelled(dict[int, str]):
    """What stands for a character, found out when it is met first."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        self[code] = spelled = char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        return spelled


_spelled: Final = _Spelled()


def cut(text: str, room: int) -> str:
    """The beginning of `text`, cleaned, in at most `room` characters.

    Examples
    --------
    >>> cut("shipped", 5)
    'ship…'
    """
    cleaned = clean(text[: room + 1])
    return cleaned if len(cleaned) <= room else cleaned[: room - 1] + "…"


def cut_middle(text: str, room: int) -> str:
    """Both ends of `text`, cleaned, in at most `room` characters.

    Examples
    --------
    >>> cut_middle("orders.2024-11-25.status", 12)
    'orders.2…tus'
    """
    if len(text) <= room:
        cleaned = clean(text)
        if len(cleaned) <= room:
            return cleaned
    tail = (room - 1) // 3
    head = room - 1 - tail
    return clean(text[:head])[:head] + "…" + clean(text[-tail:])[-tail:]


def name(text: str) -> str:
    """A name or a message's first part as it may stand in a heading."""
    return cut_middle(text, _NAME_ROOM)


def function(qualified: str) -> str:
    """A function's name without the function that it was made in.

    Examples
    --------
    >>> function("start.<locals>.on_order"), function("Stock.reserve")
    ('on_order', 'Stock.reserve')
    """
    return name(qualified.rpartition("<locals>.")[2])


def one_line(text: str, room: int) -> str:
    """`text` with its white space collapsed, in at most `room` characters."""
    return cut(" ".join(text[: 4 * room].split()), room)


def key(text: object, room: int = 40) -> str:
    """A key: bare if it can be told from what stands around it, else quoted.

    Examples
    --------
    >>> key("o1"), key("a b")
    ('o1', '"a b"')
    """
    text = str(text)
    return _key(text, room) if len(text) <= room else _new_key(text, room)


def quote(text: str, room: int) -> str:
    """A string between double quotes, cut at the end if there is no room.

    Examples
    --------
    >>> quote("open", 10), quote("a long story", 10)
    ('"open"', '"a long …"')
    """
    inner = _inner(text, room)
    return f'"{inner}"' if quoted(text, room) else f'"{inner[: room - 3]}…"'


def quoted(text: str, room: int) -> str | None:
    """A whole string between double quotes, or None if it takes more than `room` characters."""
    if len(text) + 2 > room:
        return None
    whole = f'"{_inner(text, room)}"'
    return whole if len(whole) <= room else None


def count(number: int, noun: str) -> str:
    """A number with its noun.

    Examples
    --------
    >>> count(1, "key"), count(9990, "item")
    ('1 key', '9,990 items')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def byte_count(number: int) -> str:
    """How much that is to store.

    Examples
    --------
    >>> byte_count(12), byte_count(1234), byte_count(5_600_000_000)
    ('12 B', '1.2 kB', '5.6 GB')
    """
    for unit, size in _SIZES:
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number} B"


def spoken(span: Span) -> str:
    """A time as it is read.

    Examples
    --------
    >>> spoken(Span("2026-01-02T03:04:05.678Z", "moment")), spoken(Span("PT0.0125S", "took"))
    ('2026-01-02 03:04:05.678 UTC', '12.5 ms')
    """
    if span.text.startswith("PT"):
        return _seconds(float(span.text[2:-1]))
    moment = span.text.replace("T", " ").replace("Z", "" if span.kind == "time" else " UTC")
    return f"occurred {moment}" if span.kind == "occurred" else moment


def plain(spans: Iterable[Span] | None) -> str:
    """The text of a line; nothing for None."""
    return "".join(span.text for span in spans or ())


def weight(spans: Iterable[Span]) -> int:
    """About how many bytes a line takes as HTML."""
    return sum(len(escape(text, quote=False).encode()) + (24 if kind else 0) for text, kind in spans)


def columns(text: str) -> int:
    """How many columns of a fixed-width font a text takes.

    Examples
    --------
    >>> columns("ab"), columns("注文")
    (2, 4)
    """
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text)


def _seconds(number: float) -> str:
    if number < _SECOND:
        return f"{number * 1000:.3g} ms"
    if number < _MINUTE:
        return f"{number:.3g} s"
    minutes, seconds = divmod(round(number), _MINUTE)
    return f"{minutes:,} min {seconds} s"


def _new_key(text: str, room: int) -> str:
    bare = _BARE.fullmatch(text[: room + 1]) is not None
    return cut_middle(text, room) if bare else quote(text, room)


_key = lru_cache(1024)(_new_key)  # the rows of a list of orders all have the same keys


def _inner(text: str, room: int) -> str:
    return clean(text[:room].replace("\\", "\\\\").replace('"', '\\"'))
