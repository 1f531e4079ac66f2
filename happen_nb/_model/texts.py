"""Texts of exceptions. Their ``__str__`` is the user's: it may raise, or return more than anyone reads."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 10_000
"""Characters of an exception's text that are kept."""


def text_of(error: BaseException, limit: int = LONGEST) -> str:
    """Return what an exception says, cut to `limit` characters.

    Examples
    --------
    >>> text_of(ValueError("out of stock"))
    'out of stock'
    >>> text_of(ValueError("x" * 100), 5)
    'xxxxx... (100 characters)'
    """
    try:
        text = str.__str__(str(error))  # that of a subclass may be anything
    except BaseException as broken:  # nothing that it raises may end who reports the exception
        return f"(its message cannot be shown: {type(broken).__name__})"
    return encodable(shortened_text(text, limit))


def encodable(text: str) -> str:
    r"""Return a text as it can be stored: half of a surrogate pair is written as an escape.

    Examples
    --------
    >>> print(encodable("half \ud800"))
    half \ud800
    """
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def said_by(error: BaseException, limit: int = LONGEST) -> str:
    """Return an exception's type and what it says.

    Examples
    --------
    >>> said_by(ValueError("out of stock")), said_by(KeyError())
    ('ValueError: out of stock', 'KeyError')
    """
    text = text_of(error, limit)
    kind = type(error).__name__
    return f"{kind}: {text}" if text else kind


def shortened_text(text: str, limit: int) -> str:
    """Cut a text to `limit` characters, and say how long it was."""
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text):,} characters)"


def without_middle(text: str, limit: int) -> str:
    r"""Cut the middle out of a text that is longer than `limit` characters.

    Examples
    --------
    >>> without_middle("beginning" + "." * 100 + "end", 12)
    'beg\n... (100 characters left out)\n......end'
    """
    if len(text) <= limit:
        return text
    head = limit // 4
    tail = limit - head
    return f"{text[:head]}\n... ({len(text) - limit:,} characters left out)\n{text[len(text) - tail :]}"
