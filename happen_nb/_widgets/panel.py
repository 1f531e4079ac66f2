"""The widget that a dashboard is in the browser."""

from __future__ import annotations

from typing import Final

import anywidget

from happen_nb._api.events import Events
from happen_nb._api.space import Space
from happen_nb._display import html
from happen_nb._display.live_output import Picture
from happen_nb._display.page import Page
from happen_nb._display.value_tree import Budget
from happen_nb._widgets.pane import source
from happen_nb._widgets.twin import ALIVE

_SCRIPTS: Final = ("press", "elements", "states", "log", "form", "problems", "tabs", "dashboard")
"""One module in several files: the browser gets them as one text, and nothing has to be built."""


class Panel(anywidget.AnyWidget):
    """The script and the style; what it shows comes by messages."""

    _esm = "\n".join(source(f"{name}.js") for name in _SCRIPTS)
    _css = html.style() + source("dashboard.css")

    def __init__(self) -> None:
        super().__init__(_dom_classes=(ALIVE,))


def picture(space: Space, events: Events) -> Picture:
    """A dashboard where it cannot be shown as a widget: the states, and the newest events."""
    states, newest = space._page(Budget()), events._page(Budget())
    return html.bundle(Page(states.heading, (*states.blocks, *newest.blocks)))
