"""What shows the arrows of the mark under the pointer, which plotly itself shows when a mark is clicked."""

from __future__ import annotations

from functools import cache
from typing import Final

import anywidget

from happen_nb._display.live_output import publisher
from happen_nb._widgets import twin
from happen_nb._widgets.pane import source

_HIDDEN: Final = "<style>.jp-OutputArea-child:has(.hn-beside) { display: none; }</style>"


class Pointing(anywidget.AnyWidget):
    """Stands hidden before a figure and listens to where the pointer is."""

    _esm = source("pointing.js")

    def __init__(self) -> None:
        super().__init__(_dom_classes=(twin.ALIVE,))


@cache
def _pointing() -> Pointing:
    """One for all figures of the process: it has no state."""
    return Pointing()


def show() -> None:
    """Put it below the current cell, before the figure; nothing where there is no notebook."""
    if publisher() is not None:
        twin.show(_pointing(), {"text/plain": "", "text/html": f'<span class="hn-beside">{_HIDDEN}</span>'})
