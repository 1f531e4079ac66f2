"""What a widget shows of what a user's function returned: text, or anything that a notebook can display."""

from __future__ import annotations

import sys
from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final

from happen_nb.display import html, text
from happen_nb.display.failures import message
from happen_nb.display.live import Picture
from happen_nb.display.page import Block, Code, Note, Page
from happen_nb.display.spans import Span, clean, cut, one_line

_LINES, _COLUMNS, _CHARACTERS, _ERROR = 2_000, 500, 60_000, 600
_IMAGES: Final = ("image/png", "image/jpeg", "image/svg+xml")
_STATIC: Final = frozenset(("text/plain", "text/html", *_IMAGES))


def of_text(said: str) -> Picture:
    """A text with its line breaks.

    Examples
    --------
    >>> of_text("2 open")["text/plain"]
    '2 open'
    """
    lines = said[:_CHARACTERS].expandtabs(4).splitlines()
    shown = tuple(cut(line, _COLUMNS) for line in lines[:_LINES])
    if len(shown) < len(lines) or len(said) > _CHARACTERS:
        shown = (*shown, "…")
    block: Block = Code(shown) if len(shown) > 1 else Note((Span("".join(shown), "plain"),))
    page = Page(None, (block,))
    return {"text/plain": text.render(page), "text/html": html.render(page)}


def of_error(error: BaseException) -> Picture:
    """An error in place of the value that it hides."""
    page = Page(None, (Note((Span(one_line(message(error), _ERROR), "err"),)),))
    return {"text/plain": text.render(page), "text/html": html.render(page)}


def bundle_of(value: object) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """An object as IPython displays it: its mime bundle, and the metadata of that."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None:
        from IPython.core.formatters import DisplayFormatter

        formatter: Any = DisplayFormatter()
    else:
        formatter = shell.display_formatter
    data, metadata = formatter.format(value)
    return data or {"text/plain": repr(value)}, metadata


def is_static(data: Mapping[str, Any]) -> bool:
    """Whether HTML without scripts is all that is needed to show it."""
    rich = set(data) - _STATIC
    return not rich and "<script" not in data.get("text/html", "").lower()


def picture_of(data: Mapping[str, Any]) -> Picture:
    """The static form of a mime bundle.

    Examples
    --------
    >>> picture_of({"text/plain": "<b>", "image/png": "aGk="})["text/html"]
    '<img src="data:image/png;base64,aGk=">'
    """
    plain = data.get("text/plain", "")
    if "text/html" in data and is_static(data):
        return {"text/plain": plain, "text/html": data["text/html"]}
    for mime in _IMAGES:
        if mime in data:
            return {"text/plain": plain, "text/html": f'<img src="data:{mime};base64,{_base64(data[mime])}">'}
    source = data.get("text/markdown") or data.get("text/latex") or plain
    return {**of_text(source), "text/plain": plain}


def _base64(image: str | bytes) -> str:
    """An image as it comes from a formatter: bytes, base64 already, or the text of an SVG."""
    if isinstance(image, bytes):
        return b64encode(image).decode()
    if image.lstrip().startswith("<"):
        return b64encode(image.encode()).decode()
    return clean("".join(image.split())).replace('"', "")
