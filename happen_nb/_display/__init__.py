"""Objects as text and HTML. Here are the pieces of a line: cut, cleaned and typed, the same for both.

Times are written as a person reads them.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime
from functools import cache, lru_cache
from html import escape
from importlib.resources import files
from typing import Final, Literal, NamedTuple, cast, get_args

from happen_nb._model.patterns import MAX_TYPE_CHARACTERS
from happen_nb._model.quoting import error_summary

TimeKind = Literal["time", "moment", "due", "occurred", "duration", "handling", "left", "rate", "visible"]
"""Times, in ISO: without their zone, a "moment" with it, a time when an event is "due", an event time
("occurred"), a "duration".

What is "left" of a duration, the duration of one item of a "rate", and the time in "handling" of a trace.

Only HTML shows them, but a "visible" one is in text too.
"""

Kind = (
    Literal["", "key", "str", "num", "atom", "plain", "name", "err", "add", "del", "+", "-", "~", "bar"]
    | TimeKind
)
"""The role of a piece, which gives it its colour: "" is quiet, as for punctuation.

The text of a "bar" is the share that is done, from 0 to 1.
"""

TIMES: Final = frozenset(get_args(TimeKind))

_BARE = re.compile(r"[\w.-]+")
_EMOJI = r"[\u2190-\u2bff\U0001f000-\U0001faff][\ufe0f\U0001f3fb-\U0001f3ff]?"
_FLAG = r"\U0001f3f4[\U000e0061-\U000e007a]{5}\U000e007f"  # of a part of a country
_JOINED_EMOJI: Final = re.compile(rf"({_EMOJI}(?:\u200d{_EMOJI})+|{_FLAG})")
_NAME_COLUMNS = 64
_KEY_COLUMNS = 40
_ALMOST_MS, _ALMOST_SECOND = 0.000_999_5, 0.9995  # from where on rounding reaches the next unit
_MINUTE = 60
_UNITS: Final = ((86_400, "d"), (3600, "h"), (_MINUTE, "min"))
_TENTHS: Final = 10
_BAR_COLUMNS: Final = 20
_SIZES = (("GB", 1_000_000_000), ("MB", 1_000_000), ("kB", 1000))


class Span(NamedTuple):
    """A piece of a line. Its text is clean: printable and bounded, but not yet escaped for HTML.

    If the text was cut, `whole` is all of it, which HTML shows while the pointer is on the piece.
    """

    text: str
    kind: Kind = ""
    whole: str = ""


Line = tuple[Span, ...]


@cache
def resource(path: str) -> str:
    """Read a file of the package, such as a script or a stylesheet."""
    return files("happen_nb").joinpath(path).read_text(encoding="utf-8")


def part(text: str, kind: Kind = "") -> Line:
    """Return a line of one piece, such as a part of a heading or the text of a cell."""
    return (Span(text, kind),)


def clean(text: str) -> str:
    r"""Escape characters that do not print: control characters, direction marks, lone surrogates.

    Those that join emoji to one, such as that of a family or a flag, stay.

    Examples
    --------
    >>> clean("a\x1b[31m\u202eb")
    'a\\x1b[31m\\u202eb'
    """
    if text.isprintable():
        return text
    pieces = _JOINED_EMOJI.split(text)  # each second one is an emoji
    return "".join(each if i % 2 else each.translate(_escapes) for i, each in enumerate(pieces))


class _Escapes(dict[int, str]):
    """Character code -> what stands for it; filled when a character first occurs."""

    def __missing__(self, code: int) -> str:
        char = chr(code)
        self[code] = escaped = char if char.isprintable() else char.encode("unicode_escape").decode("ascii")
        return escaped


_escapes: Final = _Escapes()


def cut(text: str, room: int) -> str:
    """Return the start of `text`, cleaned, in at most `room` characters.

    Examples
    --------
    >>> cut("shipped", 5)
    'ship…'
    """
    cleaned = clean(text[: room + 1])
    return cleaned if len(cleaned) <= room else cleaned[: room - 1] + "…"


def cut_middle(text: str, room: int) -> str:
    """Return both ends of `text`, cleaned, in at most `room` characters.

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
    """Return a name cut for a heading."""
    return cut_middle(text, _NAME_COLUMNS)


def type_name(type: str, room: int = _NAME_COLUMNS, kind: Kind = "name") -> Span:
    """Return the type of an event, cut if there is no room for it.

    Examples
    --------
    >>> type_name("order.paid"), type_name("order.paid", 8)
    (Span(text='order.paid', kind='name', whole=''), Span(text='order…id', kind='name', whole='order.paid'))
    """
    shown, whole = cut_middle(type, room), cut(type, MAX_TYPE_CHARACTERS)
    return Span(shown, kind, "" if shown == whole else whole)


def function(qualified: str) -> str:
    """Return a function's name without the function that it was defined in.

    Examples
    --------
    >>> function("start.<locals>.on_order"), function("Stock.reserve")
    ('on_order', 'Stock.reserve')
    """
    return name(qualified.rpartition("<locals>.")[2])


def one_line(text: str, room: int) -> str:
    """Return `text` with its white space collapsed, in at most `room` characters."""
    return cut(" ".join(text[: 4 * room].split()), room)


def key(text: object) -> str:
    """Return a key: bare if it cannot be mistaken for anything else, otherwise quoted.

    Examples
    --------
    >>> key("o1"), key("a b")
    ('o1', '"a b"')
    """
    text = str(text)
    return _key(text) if len(text) <= _KEY_COLUMNS else _new_key(text)


def quote(text: str, room: int) -> str:
    """Return a string between double quotes, cut at the end if there is no room.

    Examples
    --------
    >>> quote("open", 10), quote("a long story", 10)
    ('"open"', '"a long …"')
    """
    inner = _inner(text, room)
    return f'"{inner}"' if quoted(text, room) else f'"{inner[: room - 3]}…"'


def quoted(text: str, room: int) -> str | None:
    """Return a whole string between double quotes, or None if it takes more than `room` characters."""
    if len(text) + 2 > room:
        return None
    whole = f'"{_inner(text, room)}"'
    return whole if len(whole) <= room else None


def count(number: int, noun: str) -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> count(1, "key"), count(9990, "item")
    ('1 key', '9,990 items')
    """
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def more(number: int) -> str:
    return f"… {number:,} more" if number else ""


def byte_count(number: int) -> str:
    """Return a size in its unit.

    Examples
    --------
    >>> byte_count(12), byte_count(1234), byte_count(5_600_000_000)
    ('12 B', '1.2 kB', '5.6 GB')
    """
    for unit, size in _SIZES:
        if number >= size:
            return f"{number / size:,.1f} {unit}"
    return f"{number} B"


def iso(time: datetime) -> str:
    """Return a time in UTC, in ISO; as its sender wrote it if it has no zone or UTC cannot hold it.

    Examples
    --------
    >>> iso(datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC))
    '2026-01-02T03:04:05.678Z'
    """
    try:
        known = time if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:
        known = time
    return known.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def timestamp(time: datetime | None, *, zone: bool = False) -> Line:
    """Return a time, which only HTML shows; with its zone where the column's title does not name it.

    Examples
    --------
    >>> timestamp(datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC))
    (Span(text='2026-01-02T03:04:05.678Z', kind='time', whole=''),)
    """
    if time is None:
        return ()
    return (Span(iso(time.astimezone(UTC)), "moment" if zone else "time"),)


def duration(seconds: float) -> Line:
    """Return a duration, which only HTML shows.

    Examples
    --------
    >>> duration(0.25)
    (Span(text='PT0.250000S', kind='duration', whole=''),)
    """
    return part(f"PT{seconds:.6f}S", "duration")


def human_time(iso: str, *, zone: bool = True) -> str:
    """Return an ISO time as a person reads it.

    Examples
    --------
    >>> human_time("2026-01-02T03:04:05.678Z")
    '2026-01-02 03:04:05.678 UTC'
    """
    return iso.replace("T", " ").replace("Z", " UTC" if zone else "")


def human_duration(seconds: float) -> str:
    """Return a duration as a person reads it.

    Examples
    --------
    >>> [human_duration(each) for each in (0.00025, 0.0125, 90, 3 * 3600, 50 * 3600, 400 * 86_400)]
    ['250 µs', '12.5 ms', '1.5 min', '3 h', '2.1 d', '400 d']
    """
    if seconds < _ALMOST_MS:
        return f"{seconds * 1_000_000:.3g} µs"
    if seconds < _ALMOST_SECOND:
        return f"{seconds * 1000:.3g} ms"
    if seconds < _MINUTE:
        return f"{seconds:.3g} s"
    size, unit = next(each for each in _UNITS if round(_TENTHS * seconds / each[0]) >= _TENTHS)
    tenths = round(_TENTHS * seconds / size)
    return f"{tenths / _TENTHS:g} {unit}" if tenths < _TENTHS**2 else f"{round(seconds / size):,} {unit}"


def time_text(span: Span) -> str:
    """Return the text of a time's span as a person reads it.

    Examples
    --------
    >>> time_text(Span("2026-01-02T03:04:05.678Z", "occurred")), time_text(Span("PT0.0125S", "duration"))
    ('occurred 2026-01-02 03:04:05.678 UTC', '12.5 ms')
    >>> time_text(Span("PT0.0125S", "handling"))
    '12.5 ms in handlers'
    >>> time_text(Span("PT3S", "left")), time_text(Span("PT0.25S", "rate"))
    ('3 s left', '4/s')
    """
    if span.text.startswith("PT"):
        seconds = float(span.text[2:-1])
        if span.kind == "rate":
            return f"{1 / seconds:,.3g}/s"
        if span.kind == "left":  # whole seconds: it is an estimate
            return f"{human_duration(math.ceil(seconds) if seconds >= 1 else seconds)} left"
        return human_duration(seconds) + (" in handlers" if span.kind == "handling" else "")
    text = human_time(span.text, zone=span.kind != "time")
    return f"{span.kind} {text}" if span.kind in {"due", "occurred"} else text


def bar_text(share: float) -> str:
    """Return a progress bar as text.

    Examples
    --------
    >>> bar_text(0.4)
    '████████░░░░░░░░░░░░'
    """
    full = round(_BAR_COLUMNS * share)
    return "█" * full + "░" * (_BAR_COLUMNS - full)


def plain(spans: Iterable[Span] | None) -> str:
    """Return the text of a line; nothing for None."""
    return "".join(span.text for span in spans or ())


def weight(spans: Collection[Span]) -> int:
    """Estimate the bytes of a line in HTML."""
    texts = sum(len(escape(span.text + span.whole, quote=False).encode()) for span in spans)
    return texts + sum(24 for span in spans if span.kind)


def columns(text: str) -> int:
    """Count the columns that a text takes in a fixed-width font.

    Examples
    --------
    >>> columns("ab"), columns("注文"), columns("👩\u200d💻")
    (2, 4, 2)
    """
    if text.isascii():
        return len(text)
    text = _JOINED_EMOJI.sub("👩", text)
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else not unicodedata.combining(c) for c in text)


def padded(texts: Sequence[str]) -> list[str]:
    """Return texts with spaces after them, up to the width of the longest."""
    width = max(map(columns, texts), default=0)
    return [text + " " * (width - columns(text)) for text in texts]


def _new_key(text: str) -> str:
    bare = _BARE.fullmatch(text[: _KEY_COLUMNS + 1]) is not None
    return cut_middle(text, _KEY_COLUMNS) if bare else quote(text, _KEY_COLUMNS)


_key = lru_cache(1024)(_new_key)  # all rows of a list of orders have the same keys


def _inner(text: str, room: int) -> str:
    return clean(text[:room].replace("\\", "\\\\").replace('"', '\\"'))


def describe_error(exception: BaseException | str) -> str:
    """Return the class of an exception and its message; a text as it is."""
    if issubclass(type(exception), str):  # isinstance() reads __class__, which may raise
        return str(exception)
    return error_summary(cast("BaseException", exception))
