"""A pane of HTML that can be changed without closing what its reader has opened."""

from __future__ import annotations

from importlib.resources import files

import anywidget
import traitlets

from happen_nb._display import html as pages


def source(name: str) -> str:
    """A file of this package: a script or a stylesheet."""
    return files(__package__).joinpath("static", name).read_text(encoding="utf-8")


class Pane(anywidget.AnyWidget):
    """Shows HTML.

    Attributes
    ----------
    html : str
        It is shown as it is: whoever sets it has escaped what must be.
    """

    _esm = source("press.js") + source("pane.js")
    _css = pages.style()
    html = traitlets.Unicode().tag(sync=True)

    def show(self, markup: str) -> None:
        """Show HTML, without its style, which is there: a new one has the browser look at the whole page."""
        self.html = pages.bare(markup)
