"""Both forms of a display at once, for ``_repr_mimebundle_``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from happen_nb.display import failures, html, pages, text
from happen_nb.display.page import Page
from happen_nb.display.tree import Budget

_PAGES: Final[dict[str, Callable[[Any, Budget], Page]]] = {
    "node": pages.node,
    "state": pages.state,
    "view": pages.view,
    "views": pages.views,
    "commit": pages.commit,
    "history": pages.history,
    "journal": pages.journal,
    "server": pages.server,
    "space": pages.space,
    "failure": failures.failure,
    "failures": failures.failures,
    "watch": pages.watch,
    "spaces": pages.spaces,
    "value": pages.value,
}


def bundle(x: object, kind: str) -> dict[str, str]:
    """An object as a notebook shows it: text and HTML of the same content, read once.

    Parameters
    ----------
    x : object
        What is shown.
    kind : str
        As what: the name of one of the functions of `happen_nb.display.text`.

    Examples
    --------
    >>> bundle({"stock": 7}, "value")["text/plain"]
    '{stock: 7}'
    """
    page = _PAGES[kind](x, Budget())
    return {"text/plain": text.render(page), "text/html": html.render(page)}
