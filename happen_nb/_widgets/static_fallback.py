"""Static outputs that show what a widget showed, where its kernel has ended.

A widget lives only as long as its kernel. So each is displayed by two outputs: a static one, and below it the
widget. The style of the static output hides it while the widget is alive, and afterwards hides the front
end's error in place of the widget.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from happen_nb._display import html
from happen_nb._display.live_output import Picture, publisher
from happen_nb._runtime.cells import cells
from happen_nb._widgets.throttle import SNAPSHOT_INTERVAL_SECONDS, Throttle

if TYPE_CHECKING:
    from collections.abc import Callable

    from ipywidgets import DOMWidget

    from happen_nb._api.space import Space
    from happen_nb._display.page import Page

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
