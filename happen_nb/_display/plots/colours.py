"""Colours that read on light and on dark pages: a figure cannot ask which of them it is on.

Each lies between the light and the dark one of its name in ``style.css``, at the brightness from which white
and black are about equally far.
"""

from __future__ import annotations

from typing import Final

QUIET: Final = "#727983"
NUMBER: Final = "#387acb"
STRING: Final = "#2a8866"
ATOM: Final = "#9560ca"
ERROR: Final = "#cf4d45"
REMOVED: Final = "#b16628"

LINE: Final = "rgba(114,121,131,0.28)"
FAINT: Final = "rgba(114,121,131,0.13)"
STRIPE: Final = "rgba(114,121,131,0.06)"
CLEAR: Final = "rgba(0,0,0,0)"
ON_MARK: Final = "#ffffff"
"""Text inside a mark."""
HOVER: Final = "#22262c"
ON_HOVER: Final = "#e8eaee"

SERIES: Final = (NUMBER, STRING, ATOM, REMOVED, "#a65b8a", "#8a7a1f")
"""One after the other, for what has no colour of its own."""
