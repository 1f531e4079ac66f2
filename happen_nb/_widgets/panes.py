"""Any value as outputs of a notebook cell and as a static fallback, and the small widgets that show it."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import anywidget
import ipywidgets
import traitlets

from happen_nb._display import Kind, Span, byte_count, clean, cut, one_line
from happen_nb._display.live_output import ALIVE, Picture, publisher
from happen_nb._display.page import Block, Code, Note, Page, bare_html, mime_bundle, render_html
from happen_nb._display.reprs_state import value_page
from happen_nb._display.values import Budget
from happen_nb._frames import shell
from happen_nb._model.frozen import FrozenDict, FrozenList
from happen_nb._model.functions import loaded
from happen_nb._runtime.cells import cells
from happen_nb._runtime.io import io_thread
from happen_nb._widgets.following import script, show_widget, styles

if TYPE_CHECKING:
    from happen_nb._api.reply import Reply
    from happen_nb._runtime.runtime import Runtime

MAX_CHARACTERS: Final = 4_000_000  # of what a user's object displays; more would freeze the browser
MAX_TEXT_CHARACTERS: Final = 60_000
_MAX_LINES, _MAX_COLUMNS, _MAX_ERROR_COLUMNS = 2_000, 500, 600
_IMAGES: Final = ("image/png", "image/jpeg", "image/svg+xml")
_STATIC: Final = frozenset(("text/plain", "text/html", *_IMAGES))

Bundle = Mapping[str, Any]  # mime type -> content


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
        if len(self.outputs) != 1:
            return False
        data = self.outputs[0]["data"]
        return not set(data) - _STATIC and not _has_scripts(data)

    @cached_property
    def picture(self) -> Picture:
        """Its static fallback: text and HTML without scripts."""
        if self.make_picture is not None:
            return self.make_picture()
        return joined([picture_of_bundle(output["data"]) for output in self.outputs])


def joined(pictures: Iterable[Picture]) -> Picture:
    pictures = list(pictures)
    return {mime: "\n".join(each[mime] for each in pictures) for mime in ("text/plain", "text/html")}


def content_of_picture(picture: Picture) -> Content:
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
    return mime_bundle(Page(None, (block,)))


def picture_of_note(note: str, kind: Kind = "") -> Picture:
    return mime_bundle(Page(None, (Note((Span(one_line(note, _MAX_ERROR_COLUMNS), kind),)),)))


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
    plotly = loaded("plotly.basedatatypes")
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
        raise UndisplayableError(f"its display is not JSON: {error}") from None
    _within_limit(encoded, ", ".join(kept))
    return output


def _encoded(mime: str, content: Any) -> Any:
    if isinstance(content, bytes):
        return b64encode(content).decode()
    if str(mime).startswith("text/") and not isinstance(content, str):
        raise UndisplayableError(f"its {mime} display is of type {type(content).__name__}; return a str")
    if mime == "text/plain" and len(content) > MAX_TEXT_CHARACTERS:
        return f"{content[:MAX_TEXT_CHARACTERS]}…"
    return content


def _within_limit(encoded: str, what: str) -> str:
    if len(encoded) > MAX_CHARACTERS:
        raise UndisplayableError(
            f"its display takes {byte_count(len(encoded))} ({what}); "
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
    here = shell()
    if here is not None:
        return here.display_formatter
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


def _has_scripts(data: Bundle) -> bool:
    return "<script" in data.get("text/html", "").lower()


def picture_of_bundle(data: Bundle) -> Picture:
    """Return the static fallback of a mime bundle.

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


# -- widgets -------------------------------------------------------------------------------------------


class HtmlPane(anywidget.AnyWidget):
    """Shows HTML; folds that the reader has opened or closed keep their state when it changes."""

    _esm = script("html_pane")
    _css = styles()
    html = traitlets.Unicode().tag(sync=True)  # shown as it is: the caller has escaped it

    def show(self, markup: str) -> None:
        """Show HTML without its style, which the widget has: a new one makes the browser restyle the page."""
        self.html = bare_html(markup)


class FigurePane(anywidget.AnyWidget):
    """Shows a plotly figure, and redraws it in place."""

    _esm = script("figure_pane")
    figure = traitlets.Unicode().tag(sync=True)  # plotly's JSON

    def __init__(self) -> None:
        super().__init__()
        self.on_msg(self._on_message)

    def show(self, figure: str) -> None:
        self.figure = figure

    def _on_message(self, _: object, message: Mapping[str, Any], __: object) -> None:
        if message.get("do") == "plotly":  # the page does not have plotly's script yet
            from plotly.offline import get_plotlyjs

            self.send({"type": "plotly"}, buffers=[get_plotlyjs().encode()])


class BindingView(ipywidgets.VBox):  # type: ignore[misc]  # ipywidgets ships no types
    """A bound widget, and below it the problem with its binding, if there is one."""

    children: tuple[ipywidgets.Widget, ...]

    def __init__(self, widget: ipywidgets.Widget) -> None:
        self._widget = widget
        self._notes = HtmlPane()
        super().__init__((widget,), _dom_classes=(ALIVE,))

    def show_notes(self, notes: tuple[Block, ...]) -> None:
        """Show notes below the widget, or none."""
        if notes:
            self._notes.show(render_html(Page(None, notes)))
        self.children = (self._widget, self._notes) if notes else (self._widget,)

    def close(self) -> None:
        """Close everything but the widget, which belongs to the user."""
        self.children = ()
        for each in (self._notes.layout, self._notes, self.layout):
            each.close()
        super().close()


class CancelButton(anywidget.AnyWidget):
    """A button below the progress of a reply, which cancels it; it closes when the reply is done."""

    _esm = script("cancel")
    _css = styles()

    def __init__(self, reply: Reply, runtime: Runtime) -> None:
        super().__init__(_dom_classes=(ALIVE,))
        self._reply, self._runtime = reply, runtime
        self.on_msg(self._on_message)
        cells.register(self.close)

    def close_when_done(self) -> None:
        """Close if the reply is done; called on the IO thread at each change."""
        if self._reply.done and self.comm is not None:
            self._runtime.workers.submit(self.close)

    def close(self) -> None:
        self.layout.close()
        super().close()

    def _on_message(self, _: object, message: Mapping[str, Any], __: object) -> None:
        if message.get("do") == "cancel":
            # The main thread may be busy.
            io_thread().call_soon(self._runtime.workers.submit, self._reply.cancel)


def show_cancel(reply: Reply, runtime: Runtime, listen: Callable[[Callable[[], None]], object]) -> None:
    """Show the button below the progress of a reply, in a notebook."""
    if publisher() is None:
        return
    button = CancelButton(reply, runtime)
    listen(button.close_when_done)
    show_widget(button)
    button.close_when_done()  # it may have been done before the button listened
