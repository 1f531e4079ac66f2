"""A pane of HTML that can be changed without closing what its reader has opened."""

from __future__ import annotations

from importlib.resources import files

import anywidget
import traitlets


def source(name: str) -> str:
    """A file of this package: a script or a stylesheet."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


class Pane(anywidget.AnyWidget):
    """Shows HTML.

    Attributes
    ----------
    html : str
        It is shown as it is: whoever sets it has escaped what must be.
    """

    _esm = source("pane.js")
    html = traitlets.Unicode().tag(sync=True)
