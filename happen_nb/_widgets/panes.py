"""The small widgets that others are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import anywidget
import ipywidgets
import traitlets

from happen_nb._display.live_output import publisher
from happen_nb._display.page import Block, Page, bare_html, render_html, style
from happen_nb._runtime.cells import cells
from happen_nb._widgets.mime import ALIVE, show_widget

if TYPE_CHECKING:
    from happen_nb._api.reply import Reply
    from happen_nb._runtime.runtime import Runtime


def source(name: str) -> str:
    """Read a script or a stylesheet of this package."""
    return files(__package__).joinpath("static", name).read_text(encoding="utf-8")


def script(*names: str) -> str:
    """Read the parts of a widget's script, and put before them what starts it."""
    return "\n".join(source(f"{name}.js") for name in ("start", *names))


class HtmlPane(anywidget.AnyWidget):
    """Shows HTML; folds that the reader has opened or closed keep their state when it changes."""

    _esm = script("press", "elements", "copy", "html_pane")
    _css = style() + source("html_pane.css")
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
        """Show a figure, given as plotly's JSON."""
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

    _esm = script("elements", "cancel")
    _css = style() + source("cancel.css")

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
        """Remove the button."""
        self.layout.close()
        super().close()

    def _on_message(self, _: object, message: Mapping[str, Any], __: object) -> None:
        if message.get("do") == "cancel":
            self._runtime.workers.submit(self._reply.cancel)  # the main thread may be busy


def show_cancel(reply: Reply, runtime: Runtime, listen: Callable[[Callable[[], None]], object]) -> None:
    """Show the button below the progress of a reply, in a notebook."""
    if publisher() is None:
        return
    button = CancelButton(reply, runtime)
    listen(button.close_when_done)
    show_widget(button)
    button.close_when_done()  # it may have been done before the button listened
