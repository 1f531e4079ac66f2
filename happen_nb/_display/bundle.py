"""Both forms of a display at once, for ``_repr_mimebundle_``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from happen_nb._display import events, failures, html, pages, receipts, replies, text, traces, verdicts
from happen_nb._display.page import Page
from happen_nb._display.tree import Budget

_PAGES: Final[dict[str, Callable[[Any], Page]]] = {
    "node": lambda x: pages.node(x, Budget()),
    "state": lambda x: pages.state(x, Budget()),
    "view": lambda x: pages.view(x, Budget()),
    "views": pages.views,
    "commit": lambda x: pages.commit(x, Budget()),
    "history": lambda x: pages.history(x, Budget()),
    "journal": lambda x: pages.journal(x, Budget()),
    "server": pages.server,
    "space": pages.space,
    "nodes": pages.nodes,
    "moment": pages.moment,
    "failure": lambda x: failures.failure(x, Budget()),
    "failures": lambda x: failures.failures(x, Budget()),
    "retried": failures.retried,
    "watch": pages.watch,
    "spaces": pages.spaces,
    "event": lambda x: events.event(x, Budget()),
    "events": lambda x: events.events(x, Budget()),
    "trace": lambda x: traces.trace(x, Budget()),
    "receipt": lambda x: receipts.receipt(x, Budget()),
    "reply": lambda x: replies.reply(x, Budget()),
    "replay": replies.replay,
    "unhandled": events.unhandled,
    "unhandled_event": lambda x: events.unhandled_event(x, Budget()),
    "handlers": events.handlers,
    "registration": events.registration,
    "verdict": lambda x: verdicts.verdict(x, Budget()),
    "value": lambda x: pages.value(x, Budget()),
    "frozen": lambda x: pages.frozen(x, Budget()),
    "diff": lambda x: pages.diff(x, Budget()),
    "change": lambda x: pages.change(x, Budget()),
}


def bundle(x: object, kind: str) -> dict[str, str]:
    """An object as a notebook shows it: text and HTML of the same content, read once.

    Parameters
    ----------
    x : object
        What is shown.
    kind : str
        As what: the name of one of the functions of `happen_nb._display.text`.

    Examples
    --------
    >>> bundle({"stock": 7}, "value")["text/plain"]
    '{stock: 7}'
    """
    page = _PAGES[kind](x)
    return {"text/plain": text.render(page), "text/html": html.render(page)}
