"""A pane with one plotly figure, which is drawn anew in place."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import anywidget
import traitlets

from happen_nb._widgets.pane import source


def is_figure(value: object) -> bool:
    """Whether it is a plotly figure, of any kind."""
    plotly = sys.modules.get("plotly.basedatatypes")
    return plotly is not None and isinstance(value, plotly.BaseFigure)


class FigurePane(anywidget.AnyWidget):
    """Shows a figure.

    Attributes
    ----------
    figure : str
        The figure as plotly's JSON.
    """

    _esm = source("figure.js")
    figure = traitlets.Unicode().tag(sync=True)

    def __init__(self) -> None:
        super().__init__()
        self.on_msg(self._hear)

    def show(self, figure: str) -> None:
        """Show a figure, given as plotly's JSON, in place of the one that is there."""
        self.figure = figure

    def _hear(self, _: object, message: Mapping[str, Any], __: object) -> None:
        """The page has not got plotly's script yet."""
        if message.get("do") == "plotly":
            from plotly.offline import get_plotlyjs

            self.send({"type": "plotly"}, buffers=[get_plotlyjs().encode()])
