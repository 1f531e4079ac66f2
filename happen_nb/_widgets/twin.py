"""A static output beside a widget: what can be read where the widget cannot be shown any more.

A widget lives as long as its kernel. So each is shown by two outputs, first a static twin, then the widget.
The twin's style hides it as long as the widget beside it is alive, and afterwards the error that is there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from happen_nb._display.live_output import Picture, Publisher, publisher

if TYPE_CHECKING:
    from ipywidgets import DOMWidget

ALIVE: Final = "hn-alive"
"""The CSS class of a widget that has a twin."""

VIEW: Final = "application/vnd.jupyter.widget-view+json"

_STYLE: Final = (
    ".jp-OutputArea-child:has(.hn-twin):has(+ .jp-OutputArea-child .hn-alive),"
    ".jp-OutputArea-child:has(.hn-twin):not(:has(+ .jp-OutputArea-child .hn-alive))"
    " + .jp-OutputArea-child:has(> .jupyter-widgets)"
    " { display: none; }"
)


class Twin:
    """The static output; made by `show`."""

    def __init__(self, where: Publisher, picture: Picture) -> None:
        self._where = where
        self._display_id = os.urandom(16).hex()
        self._publish(picture, update=False)

    def update(self, picture: Picture) -> None:
        """Show the newest picture."""
        self._publish(picture, update=True)

    def _publish(self, picture: Picture, *, update: bool) -> None:
        html = f'<div class="hn-twin"><style>{_STYLE}</style>{picture["text/html"]}</div>'
        data = {"text/plain": picture["text/plain"], "text/html": html}
        self._where.publish(data, transient={"display_id": self._display_id}, update=update)


def show(widget: DOMWidget, picture: Picture) -> Twin:
    """Show a widget below the current cell, and its twin.

    Raises
    ------
    NotImplementedError
        This is no notebook: IPython then shows the object as it shows anything else.
    """
    where = publisher()
    if where is None:
        raise NotImplementedError
    twin = Twin(where, picture)
    view: Mapping[str, Any] = {"text/plain": "", VIEW: widget.get_view_spec()}
    where.publish(view, transient={}, update=False)
    return twin
