"""Small widgets, and the static outputs that show what a widget showed, where its kernel has ended.

A widget lives only as long as its kernel. So each is displayed by two outputs: a static one, and below it the
widget. The style of the static output hides it while the widget is alive, and afterwards hides the front
end's error in place of the widget.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import anywidget
import ipywidgets
import traitlets

from happen_nb._display import html
from happen_nb._display import html as pages
from happen_nb._display.live_output import Picture, publisher
from happen_nb._display.page import Block, Page
from happen_nb._runtime.cells import cells
from happen_nb._widgets.throttle import SNAPSHOT_INTERVAL_SECONDS, Throttle

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipywidgets import DOMWidget

    from happen_nb._api.space import Space
    from happen_nb._display.page import Page

_HIDDEN: Final = "<style>.jp-OutputArea-child:has(.hn-beside) { display: none; }</style>"


def source(name: str) -> str:
    """Read a script or a stylesheet of this package."""
    return files(__package__).joinpath("static", name).read_text(encoding="utf-8")


class HtmlPane(anywidget.AnyWidget):
    """Shows HTML; folds that the reader has opened or closed keep their state when it changes."""

    _esm = source("press.js") + source("html_pane.js")
    _css = pages.style()
    html = traitlets.Unicode().tag(sync=True)  # shown as it is: the caller has escaped it

    def show(self, markup: str) -> None:
        """Show HTML without its style, which the widget has: a new one makes the browser restyle the page."""
        self.html = pages.bare(markup)


class FigurePane(anywidget.AnyWidget):
    """Shows a plotly figure, and redraws it in place."""

    _esm = source("figure_pane.js")
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


def is_figure(value: object) -> bool:
    """Return True for a plotly figure of any kind."""
    plotly = sys.modules.get("plotly.basedatatypes")
    return plotly is not None and isinstance(value, plotly.BaseFigure)


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
            self._notes.show(pages.render(Page(None, notes)))
        self.children = (self._widget, self._notes) if notes else (self._widget,)

    def close(self) -> None:
        """Close everything but the widget, which belongs to the user."""
        self.children = ()
        for each in (self._notes.layout, self._notes, self.layout):
            each.close()
        super().close()


class HoverArrows(anywidget.AnyWidget):
    """Draws the arrows of the mark under the pointer, which plotly draws only when a mark is clicked.

    The widget itself is hidden. It stands before a figure and follows the pointer.
    """

    _esm = source("arrows.js")

    def __init__(self) -> None:
        super().__init__(_dom_classes=(ALIVE,))


@cache
def _arrows() -> HoverArrows:
    return HoverArrows()  # without state, so one serves all figures of the process


def show_arrows() -> None:
    """Add the arrows to the figure that the current cell displays next; nothing outside of a notebook."""
    if publisher() is not None:
        picture = {"text/plain": "", "text/html": f'<span class="hn-beside">{_HIDDEN}</span>'}
        show_with_fallback(_arrows(), picture)


# -- static outputs ------------------------------------------------------------------------------------


ALIVE: Final = "hn-alive"
"""The CSS class of a widget that has a static fallback."""

_VIEW: Final = "application/vnd.jupyter.widget-view+json"
_STYLE: Final = (
    ".jp-OutputArea-child:has(.hn-static):has(+ .jp-OutputArea-child .hn-alive),"
    ".jp-OutputArea-child:has(.hn-static):not(:has(+ .jp-OutputArea-child .hn-alive))"
    " + .jp-OutputArea-child:has(> .jupyter-widgets)"
    " { display: none; }"
)


class StaticFallback(Throttle):
    """The static outputs of one widget, updated at most once a second and when the space closes.

    Parameters
    ----------
    space : Space
    picture : callable
        Returns what the widget shows now.
    """

    def __init__(self, space: Space, picture: Callable[[], Picture]) -> None:
        super().__init__(space, self.update, SNAPSHOT_INTERVAL_SECONDS, always_finish=True)
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
    where.publish({"text/plain": "", _VIEW: widget.get_view_spec()}, transient={}, update=False)
    return display_id


def _marked(picture: Picture) -> Picture:
    marked = f'<div class="hn-static"><style>{_STYLE}</style>{picture["text/html"]}</div>'
    return {"text/plain": picture["text/plain"], "text/html": marked}


def picture_of_page(page: Page) -> Picture:
    """Render a page as text and as HTML."""
    return html.bundle(page)
