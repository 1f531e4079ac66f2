"""The widget that a dashboard is in the browser."""

from __future__ import annotations

from typing import Final

import anywidget

from happen_nb._display import _protocols as shown
from happen_nb._display import html, pages, text
from happen_nb._display.events import events as events_page
from happen_nb._display.live import Picture
from happen_nb._display.page import Page
from happen_nb._display.tree import Budget
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


def picture(space: shown.Space, events: shown.Events) -> Picture:
    """A dashboard where it cannot be shown as a widget: the states, and the newest events."""
    states, said = pages.space(space), events_page(events, Budget())
    blocks = (*states.blocks, *said.blocks)
    page = Page(states.heading, blocks)
    return {"text/plain": text.render(page), "text/html": html.render(page)}
