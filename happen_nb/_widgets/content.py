"""What a widget shows of what a user's function returned: text, or anything that a notebook can display."""

from __future__ import annotations

import json
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from happen_nb._display import html
from happen_nb._display.live_output import Picture, publisher
from happen_nb._display.page import Block, Code, Note, Page
from happen_nb._display.reprs_state import value_page
from happen_nb._display.spans import Span, byte_count, clean, cut, one_line
from happen_nb._display.user_text import describe_error
from happen_nb._display.value_tree import Budget
from happen_nb._model.frozen import FrozenDict, FrozenList
from happen_nb._widgets.figure import is_figure

MOST: Final = 4_000_000
"""Characters of what a user's object makes of itself; more would stop the browser."""

_LINES, _COLUMNS, _CHARACTERS, _ERROR = 2_000, 500, 60_000, 600
_IMAGES: Final = ("image/png", "image/jpeg", "image/svg+xml")
_STATIC: Final = frozenset(("text/plain", "text/html", *_IMAGES))

Bundle = Mapping[str, Any]
"""Mime type -> content, with ``metadata`` apart."""


class UndisplayableError(Exception):
    """An object displays itself in a way that cannot be shown."""


@dataclass(frozen=True)
class Content:
    """What a widget shows.

    Attributes
    ----------
    outputs : tuple of mapping
        As a notebook's cell has them.
    figure : str or None
        A plotly figure as JSON, which can be drawn in place.
    still : callable or None
        Makes the static form, where that takes long.
    """

    outputs: tuple[Bundle, ...] = ()
    figure: str | None = None
    still: Callable[[], Picture] | None = None

    @property
    def is_static(self) -> bool:
        """Whether HTML without scripts is all that is needed to show it."""
        return len(self.outputs) == 1 and is_static(self.outputs[0]["data"])

    @cached_property
    def picture(self) -> Picture:
        """Its static form."""
        if self.still is not None:
            return self.still()
        pictures = [picture_of(output["data"]) for output in self.outputs]
        return {mime: "\n".join(each[mime] for each in pictures) for mime in ("text/plain", "text/html")}


def of_picture(picture: Picture) -> Content:
    """Text and HTML of our own."""
    return Content((_output(picture, {}),))


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
    return _picture(block)


def of_error(error: BaseException) -> Picture:
    """An error in place of the value that it hides."""
    return _picture(Note((Span(one_line(describe_error(error), _ERROR), "err"),)))


def of_hint(hint: str) -> Picture:
    """A remark below a value."""
    return _picture(Note((Span(one_line(hint, _ERROR)),)))


def _picture(block: Block) -> Picture:
    return html.bundle(Page(None, (block,)))


def of_value(value: object) -> Content:
    """An object as a notebook displays it.

    Raises
    ------
    UndisplayableError
        It makes too much of itself, or something that cannot be shown.
    Exception
        What one of its methods raises.
    """
    if isinstance(value, str):
        return of_picture(of_text(str(value)))
    if isinstance(value, FrozenDict | FrozenList):
        return of_picture(html.bundle(value_page(value, Budget())))
    if is_figure(value):
        return _of_figure(value)
    return Content(tuple(_outputs(value)))


def _of_figure(figure: Any) -> Content:
    """A plotly figure; its still picture is drawn when it is asked for."""
    from happen_nb._display.plots.picture import static

    return Content(figure=_checked(figure.to_json(validate=False), "figure"), still=lambda: static(figure))


def _outputs(value: object) -> list[Bundle]:
    """What displaying it would put below a cell."""
    where = publisher()
    if where is not None:
        with _captured(where) as outputs:
            displayed = _raw(_formatter().ipython_display_formatter, value)
        if displayed:
            return [_output(output["data"], output["metadata"]) for output in outputs]
    return [_output(*_bundle(value))]


def _output(data: Bundle, metadata: Bundle) -> Bundle:
    """One output of a cell, checked.

    Raises
    ------
    UndisplayableError
        It is not what a notebook can keep.
    """
    try:
        kept = {mime: _packed(mime, content) for mime, content in data.items()}
        output = {"output_type": "display_data", "data": kept, "metadata": dict(metadata)}
        packed = json.dumps(output)
    except (TypeError, ValueError) as error:
        raise UndisplayableError(f"it displays itself as something that is not JSON: {error}") from None
    _checked(packed, ", ".join(kept))
    return output


def _packed(mime: str, content: Any) -> Any:
    """Content as JSON; of a text type it has to be text, also where it is an image's."""
    if isinstance(content, bytes):
        return b64encode(content).decode()
    if str(mime).startswith("text/") and not isinstance(content, str):
        raise UndisplayableError(
            f"it displays itself as {mime} of type {type(content).__name__}; return a str"
        )
    if mime == "text/plain" and len(content) > _CHARACTERS:
        return f"{content[:_CHARACTERS]}…"
    return content


def _checked(packed: str, what: str) -> str:
    if len(packed) > MOST:
        raise UndisplayableError(
            f"it displays itself as {byte_count(len(packed))} ({what}); "
            f"at most {byte_count(MOST)} are shown: render less of it"
        )
    return packed


@contextmanager
def _captured(where: Any) -> Iterator[list[Any]]:
    """What is displayed in this thread meanwhile, instead of displaying it."""
    outputs: list[Any] = []

    def keep(message: Any) -> None:
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "clear_output":
            outputs.clear()
            return
        id = content["transient"].get("display_id")
        ids = [each["transient"].get("display_id") for each in outputs]
        if id is not None and id in ids:
            outputs[ids.index(id)] = content
        else:
            outputs.append(content)

    where.register_hook(keep)
    try:
        yield outputs
    finally:
        where.unregister_hook(keep)


def _bundle(value: object) -> tuple[Bundle, Bundle]:
    """The mime bundle of an object, and the metadata of that, as IPython makes them; errors come out."""
    data: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    formatter = _formatter()
    made = _raw(formatter.mimebundle_formatter, value, include=None, exclude=None)
    if made is not None:
        parts = made if isinstance(made, tuple) else (made, {})
        if not all(isinstance(part, Mapping) for part in parts):
            raise UndisplayableError(f"its mime bundle is of type {type(made).__name__}; return a dict")
        data, metadata = map(dict, parts)
    for mime, each in formatter.formatters.items():
        if mime in data and not _is_registered(each, value):
            continue
        made = _raw(each, value)
        if made is None:
            continue
        data[mime], more = made if isinstance(made, tuple) and len(made) == 2 else (made, None)  # noqa: PLR2004
        metadata |= {mime: more} if more else {}
    return data, metadata


def _formatter() -> Any:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is not None:
        return shell.display_formatter
    from IPython.core.formatters import DisplayFormatter

    return DisplayFormatter()


def _raw(formatter: Any, value: object, **options: Any) -> Any:
    """Call a formatter without what shows its errors below a cell; None if the object has no such form."""
    call = type(formatter).__call__
    call = getattr(call, "__wrapped__", call)
    try:
        return call(formatter, value, **options)
    except NotImplementedError:
        return None


def _is_registered(formatter: Any, value: object) -> bool:
    """Whether somebody has registered a function for this type and this form."""
    try:
        formatter.lookup(value)
    except KeyError:
        return False
    return True


def is_static(data: Bundle) -> bool:
    """Whether HTML without scripts is all that is needed to show it."""
    return not set(data) - _STATIC and not _has_scripts(data)


def _has_scripts(data: Bundle) -> bool:
    return "<script" in data.get("text/html", "").lower()


def picture_of(data: Bundle) -> Picture:
    """The static form of a mime bundle.

    Examples
    --------
    >>> picture_of({"text/plain": "<b>", "image/png": "aGk="})["text/html"]
    '<img src="data:image/png;base64,aGk=">'
    """
    plain = data.get("text/plain", "")[:_CHARACTERS]
    if "text/html" in data and not _has_scripts(data):
        return {"text/plain": plain, "text/html": data["text/html"]}
    for mime in _IMAGES:
        if mime in data:
            return {"text/plain": plain, "text/html": f'<img src="data:{mime};base64,{_base64(data[mime])}">'}
    source = data.get("text/markdown") or data.get("text/latex") or plain
    return {**of_text(source), "text/plain": plain}


def _base64(image: str) -> str:
    """An image as it comes from a formatter: base64 already, or the text of an SVG."""
    if image.lstrip().startswith("<"):
        return b64encode(image.encode()).decode()
    return clean("".join(image.split())).replace('"', "")
