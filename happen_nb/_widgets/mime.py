"""Any value as the outputs of a notebook cell and as a static picture, which also stands in for a widget.

A widget lives only as long as its kernel. So each is displayed by two outputs: a static one, and below it the
widget. The style of the static output hides it while the widget is alive, and afterwards hides the front
end's error in place of the widget.
"""

from __future__ import annotations

import json
import os
import sys
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from happen_nb._display.live_output import Picture, publisher
from happen_nb._display.page import Block, Code, Note, Page, mime_bundle
from happen_nb._display.reprs_state import value_page
from happen_nb._display.spans import Kind, Span, byte_count, clean, cut, one_line
from happen_nb._display.user_text import describe_error
from happen_nb._display.values import Budget
from happen_nb._model.frozen import FrozenDict, FrozenList
from happen_nb._runtime.cells import cells
from happen_nb._widgets.throttle import SNAPSHOT_INTERVAL_SECONDS, Throttle

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipywidgets import DOMWidget

    from happen_nb._api.space import Space
    from happen_nb._display.page import Page

MAX_CHARACTERS: Final = 4_000_000  # of what a user's object displays; more would freeze the browser
MAX_TEXT_CHARACTERS: Final = 60_000
_MAX_LINES, _MAX_COLUMNS, _MAX_ERROR_COLUMNS = 2_000, 500, 600
_IMAGES: Final = ("image/png", "image/jpeg", "image/svg+xml")
_STATIC: Final = frozenset(("text/plain", "text/html", *_IMAGES))

Bundle = Mapping[str, Any]
"""Mime type -> content."""


class UndisplayableError(Exception):
    """An object's display methods return something that cannot be shown."""


@dataclass(frozen=True)
class Content:
    """The content of a widget: outputs, or a figure."""

    outputs: tuple[Bundle, ...] = ()  # as in a notebook cell
    figure: str | None = None  # of plotly, as JSON, which can be redrawn in place
    make_picture: Callable[[], Picture] | None = None  # where that takes long

    @property
    def is_static(self) -> bool:
        """True if HTML without scripts is enough to show it."""
        return len(self.outputs) == 1 and _is_static(self.outputs[0]["data"])

    @cached_property
    def picture(self) -> Picture:
        """Its static picture: text and HTML without scripts."""
        if self.make_picture is not None:
            return self.make_picture()
        return joined([picture_of_bundle(output["data"]) for output in self.outputs])


def joined(pictures: Iterable[Picture]) -> Picture:
    """Put pictures below each other."""
    pictures = list(pictures)
    return {mime: "\n".join(each[mime] for each in pictures) for mime in ("text/plain", "text/html")}


def content_of_picture(picture: Picture) -> Content:
    """Return a picture as the one output of a cell."""
    return Content((_output(picture, {}),))


def picture_of_text(string: str) -> Picture:
    """Render a string with its line breaks.

    Examples
    --------
    >>> picture_of_text("2 open")["text/plain"]
    '2 open'
    """
    lines = string[:MAX_TEXT_CHARACTERS].expandtabs(4).splitlines()
    shown = tuple(cut(line, _MAX_COLUMNS) for line in lines[:_MAX_LINES])
    if len(shown) < len(lines) or len(string) > MAX_TEXT_CHARACTERS:
        shown = (*shown, "…")
    block: Block = Code(shown) if len(shown) > 1 else Note((Span("".join(shown), "plain"),))
    return picture_of_page(Page(None, (block,)))


def picture_of_error(error: BaseException) -> Picture:
    """Render an error in one line, in place of the value."""
    return picture_of_note(describe_error(error), "err")


def picture_of_note(note: str, kind: Kind = "") -> Picture:
    """Render a remark in one line."""
    return picture_of_page(Page(None, (Note((Span(one_line(note, _MAX_ERROR_COLUMNS), kind),)),)))


def content_of(value: object) -> Content:
    """Return the outputs with which a notebook displays an object; raise whatever its methods raise."""
    if isinstance(value, str):
        return content_of_picture(picture_of_text(str(value)))
    if isinstance(value, FrozenDict | FrozenList):
        return content_of_picture(mime_bundle(value_page(value, Budget())))
    if is_figure(value):
        return _content_of_figure(value)
    return Content(tuple(_outputs(value)))


def is_figure(value: object) -> bool:
    """Return True for a plotly figure of any kind."""
    plotly = sys.modules.get("plotly.basedatatypes")
    return plotly is not None and isinstance(value, plotly.BaseFigure)


def _content_of_figure(figure: Any) -> Content:
    from happen_nb._display.plots.plotly_figure import SceneFigure, in_colours_of_page, static

    shown = figure.to_json(validate=False)
    if isinstance(figure, SceneFigure):
        shown = json.dumps(in_colours_of_page(json.loads(shown)))
    return Content(figure=_within_limit(shown, "figure"), make_picture=lambda: static(figure))


def _outputs(value: object) -> list[Bundle]:
    # An object may display itself with `_ipython_display_`, which publishes instead of returning something.
    where = publisher()
    if where is not None:
        with _captured(where) as outputs:
            displayed = _raw(_formatter().ipython_display_formatter, value)
        if displayed:
            return [_output(output["data"], output["metadata"]) for output in outputs]
    return [_output(*_formatted(value))]


def _output(data: Bundle, metadata: Bundle) -> Bundle:
    """Return one output of a cell, after checking that a notebook file can keep it."""
    try:
        kept = {mime: _encoded(mime, content) for mime, content in data.items()}
        output = {"output_type": "display_data", "data": kept, "metadata": dict(metadata)}
        encoded = json.dumps(output)
    except (TypeError, ValueError) as error:
        raise UndisplayableError(f"it displays itself as something that is not JSON: {error}") from None
    _within_limit(encoded, ", ".join(kept))
    return output


def _encoded(mime: str, content: Any) -> Any:
    if isinstance(content, bytes):
        return b64encode(content).decode()
    if str(mime).startswith("text/") and not isinstance(content, str):
        raise UndisplayableError(
            f"it displays itself as {mime} of type {type(content).__name__}; return a str"
        )
    if mime == "text/plain" and len(content) > MAX_TEXT_CHARACTERS:
        return f"{content[:MAX_TEXT_CHARACTERS]}…"
    return content


def _within_limit(encoded: str, what: str) -> str:
    if len(encoded) > MAX_CHARACTERS:
        raise UndisplayableError(
            f"it displays itself as {byte_count(len(encoded))} ({what}); "
            f"the limit is {byte_count(MAX_CHARACTERS)}: render less of it"
        )
    return encoded


@contextmanager
def _captured(where: Any) -> Iterator[list[Any]]:
    """Collect what this thread displays inside the block, instead of displaying it."""
    outputs: list[Any] = []

    def capture(message: Any) -> None:
        content = message["content"]
        if message["header"]["msg_type"] == "clear_output":
            outputs.clear()
            return
        id = content["transient"].get("display_id")
        ids = [each["transient"].get("display_id") for each in outputs]
        if id is not None and id in ids:
            outputs[ids.index(id)] = content
        else:
            outputs.append(content)

    where.register_hook(capture)
    try:
        yield outputs
    finally:
        where.unregister_hook(capture)


def _formatted(value: object) -> tuple[Bundle, Bundle]:
    """Return an object's mime bundle and its metadata as IPython makes them, but raise the errors."""
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
        if mime in data and not _has_function_for(each, value):
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
    """Call a formatter without the wrapper that prints its errors; None if the object has no such form."""
    call = type(formatter).__call__
    call = getattr(call, "__wrapped__", call)
    try:
        return call(formatter, value, **options)
    except NotImplementedError:
        return None


def _has_function_for(formatter: Any, value: object) -> bool:
    try:
        formatter.lookup(value)
    except KeyError:
        return False
    return True


def _is_static(data: Bundle) -> bool:
    return not set(data) - _STATIC and not _has_scripts(data)


def _has_scripts(data: Bundle) -> bool:
    return "<script" in data.get("text/html", "").lower()


def picture_of_bundle(data: Bundle) -> Picture:
    """Return the static picture of a mime bundle.

    Examples
    --------
    >>> picture_of_bundle({"text/plain": "<b>", "image/png": "aGk="})["text/html"]
    '<img src="data:image/png;base64,aGk=">'
    """
    plain = data.get("text/plain", "")[:MAX_TEXT_CHARACTERS]
    if "text/html" in data and not _has_scripts(data):
        return {"text/plain": plain, "text/html": data["text/html"]}
    for mime in _IMAGES:
        if mime in data:
            return {"text/plain": plain, "text/html": f'<img src="data:{mime};base64,{_base64(data[mime])}">'}
    source = data.get("text/markdown") or data.get("text/latex") or plain
    return {**picture_of_text(source), "text/plain": plain}


def _base64(image: str) -> str:
    # A formatter returns base64 already, or the text of an SVG.
    if image.lstrip().startswith("<"):
        return b64encode(image.encode()).decode()
    return clean("".join(image.split())).replace('"', "")


# -- static outputs ------------------------------------------------------------------------------------


ALIVE: Final = "hn-alive"
"""The CSS class of a widget that has a static fallback."""

_VIEW: Final = "application/vnd.jupyter.widget-view+json"
_STYLE: Final = (
    ".jp-OutputArea-child:has(.hn-static):has(+ .jp-OutputArea-child .hn-alive),"
    ".jp-OutputArea-child:has(.hn-static):not(:has(+ .jp-OutputArea-child .hn-alive))"
    " + .jp-OutputArea-child:has(> .jupyter-widgets, > [data-mime-type$='widget-view+json'])"
    " { display: none; }"
)


class StaticFallback(Throttle):
    """The static outputs of one widget, updated at most once a second and when the space closes.

    Parameters
    ----------
    space : Space
    picture : callable
        Returns what the widget shows now.
    interval : float, optional
        Seconds between two updates, at least.
    """

    def __init__(
        self, space: Space, picture: Callable[[], Picture], interval: float = SNAPSHOT_INTERVAL_SECONDS
    ) -> None:
        super().__init__(space, self.update, interval, always_finish=True)
        self._picture = picture
        self._display_ids: list[str] = []

    def show(self, widget: DOMWidget) -> None:
        """Display the static output, and below it the widget, below the current cell."""
        display_id = show_with_fallback(widget, self._picture())
        self._display_ids.append(display_id)
        cells.register(lambda: self._display_ids.remove(display_id))

    def update(self) -> None:
        """Show the current picture in the static outputs."""
        where = publisher()
        if where is None:
            return
        picture = _marked(self._picture())
        for display_id in list(self._display_ids):
            where.publish(picture, transient={"display_id": display_id}, update=True)


class FollowsSpace:
    """Base of widgets that follow a space: they stop, are closed, and have a static output."""

    _throttle: Throttle
    _fallback: StaticFallback
    layout: Any

    def stop(self) -> None:
        """Stop following; what is shown stays visible."""
        self._stop_updates()
        self._fallback.update()

    def close(self) -> None:
        """Stop, and remove the widget from wherever it is displayed."""
        if "_fallback" not in vars(self):
            return  # `__init__` did not complete
        self._stop_updates()
        self.layout.close()
        super().close()  # type: ignore[misc]  # of the widget

    def _stop_updates(self) -> None:
        self._throttle.stop()
        self._fallback.stop()

    def _ipython_display_(self) -> None:
        self._fallback.show(self)


def show_with_fallback(widget: DOMWidget, picture: Picture) -> str:
    """Display a picture as a static output below the current cell, and below that the widget.

    Returns
    -------
    str
        The display id of the static output.

    Raises
    ------
    NotImplementedError
        This is not a notebook: IPython then displays the object in its usual way.
    """
    where = publisher()
    if where is None:
        raise NotImplementedError
    display_id = os.urandom(16).hex()
    where.publish(_marked(picture), transient={"display_id": display_id}, update=False)
    show_widget(widget)
    return display_id


def show_widget(widget: DOMWidget) -> None:
    """Display a widget below the current cell of a notebook, without a text in its place."""
    where = publisher()
    if where is not None:
        where.publish({"text/plain": "", _VIEW: widget.get_view_spec()}, transient={}, update=False)


def _marked(picture: Picture) -> Picture:
    marked = f'<div class="hn-static"><style>{_STYLE}</style>{picture["text/html"]}</div>'
    return {"text/plain": picture["text/plain"], "text/html": marked}


def picture_of_svg(drawn: str, caption: str) -> Picture:
    """Return an SVG as a static picture."""
    from happen_nb._display.plots.svg import image_of_svg

    return {"text/plain": caption, "text/html": image_of_svg(drawn, caption)}


def picture_of_page(page: Page) -> Picture:
    """Render a page as text and as HTML."""
    return mime_bundle(page)
