"""Values in one line: whole, in part, or by their number of children.

Nothing here walks a whole value: the work is bounded by the room there is to fill.
"""

from __future__ import annotations

from collections.abc import Iterator

from happen_nb._display.spans import Line, Span, count, cut, key, plain, quote, quoted


def is_container(value: object) -> bool:
    """Whether a value has children."""
    return isinstance(value, (dict, list, tuple))


def children(value: object) -> Iterator[tuple[str, object]]:
    """Label and value of each child: a key, or an index."""
    if isinstance(value, dict):
        return ((key(k), v) for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ((str(index), v) for index, v in enumerate(value))
    return iter(())


def size(value: object) -> int:
    """How many children a value has."""
    return len(value) if isinstance(value, (dict, list, tuple)) else 0


def counted(value: object) -> Line:
    """A container by its number of children, or ``{}`` and ``[]``.

    Examples
    --------
    >>> plain(counted([1, 2, 3])), plain(counted({}))
    ('[3 items]', '{}')
    """
    opening, closing = _brackets(value)
    noun = "key" if opening == "{" else "item"
    number = size(value)
    return (Span(f"{opening}{count(number, noun) if number else ''}{closing}"),)


def scalar(value: object, room: int) -> Line:
    """A value without children; a string that is too long ends with its length.

    Examples
    --------
    >>> plain(scalar("x" * 5000, 30))
    '"xxxxxxxxx…"  5,000 characters'
    """
    if isinstance(value, str):
        return _string(value, room)
    if value is None or isinstance(value, bool):
        return (Span(str(value), "atom"),)
    if isinstance(value, (int, float)):
        return (Span(repr(value), "num"),)
    return (Span(f"<{cut(type(value).__name__, 40)}>"),)


def fits(value: object, room: int) -> Line | None:
    """All of a value in `room` characters, or None if it does not fit.

    Examples
    --------
    >>> plain(fits({"status": "open", "items": [1, 2]}, 40))
    '{status: "open", items: [1, 2]}'
    >>> fits(list(range(10_000)), 40) is None
    True
    """
    out: list[Span] = []
    return tuple(out) if _write(value, room, out) >= 0 else None


def summary(value: object, room: int) -> Line:
    """A value in at most about `room` characters, with the number of what is left out.

    Examples
    --------
    >>> plain(summary({"a": 1, "orders": {str(i): i for i in range(99)}, "tags": [1] * 50}, 36))
    '{a: 1, orders: {99 keys}, … 1 more}'
    """
    whole = fits(value, room)
    if whole is not None:
        return whole
    if not is_container(value):
        return scalar(value, room)
    return partly(value, room)


def partly(value: object, room: int) -> Line:
    """The beginning of a container that does not fit, and the number of what is left out."""
    opening, closing = _brackets(value)
    out = [Span(opening)]
    number = size(value)
    left = room - 2 - len(f", … {number:,} more")
    for index, (label, child) in enumerate(children(value)):
        piece: list[Span] = []
        after = _write_label(label if opening == "{" else "", index, left, piece)
        piece += _short(child, min(after, room // 2))
        after = left - len(plain(piece))
        if after < 0:
            out.append(Span(f"{', ' if index else ''}… {number - index:,} more"))
            break
        out += piece
        left = after
    return (*out, Span(closing))


def _brackets(value: object) -> tuple[str, str]:
    return ("{", "}") if isinstance(value, dict) else ("[", "]")


def _string(text: str, room: int) -> Line:
    whole = quoted(text, room)
    if whole is not None:
        return (Span(whole, "str"),)
    note = f"  {count(len(text), 'character')}"
    return (Span(quote(text, max(8, room - len(note))), "str"), Span(note))


def _write(value: object, room: int, out: list[Span]) -> int:
    """Append `value`; the room that is left, negative (and the output incomplete) if it does not fit."""
    if isinstance(value, str):
        return _write_string(value, room, out)
    if not is_container(value):
        line = scalar(value, room)
        out.extend(line)
        return room - len(plain(line))
    opening, closing = _brackets(value)
    room -= 2
    out.append(Span(opening))
    for index, (label, child) in enumerate(children(value)):
        room = _write_label(label if opening == "{" else "", index, room, out)
        room = room if room < 0 else _write(child, room, out)
        if room < 0:
            return room
    out.append(Span(closing))
    return room


def _write_string(text: str, room: int, out: list[Span]) -> int:
    whole = quoted(text, room)
    if whole is None:
        return -1
    out.append(Span(whole, "str"))
    return room - len(whole)


def _write_label(label: str, index: int, room: int, out: list[Span]) -> int:
    if index:
        out.append(Span(", "))
        room -= 2
    if label:
        out += (Span(label, "key"), Span(": "))
        room -= len(label) + 2
    return room


def _short(value: object, room: int) -> Line:
    whole = fits(value, room)
    if whole is not None:
        return whole
    if is_container(value):
        return counted(value)
    return (Span(quote(value, max(room, 8)), "str"),) if isinstance(value, str) else scalar(value, room)
