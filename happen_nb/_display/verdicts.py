"""How a verdict is shown: whether a rule holds, what breaks it, and what led to that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from happen_nb._display import _protocols as shown
from happen_nb._display import events, pages, traces
from happen_nb._display.page import Block, Heading, Note, Page, part
from happen_nb._display.spans import TIMES, Line, Span, count, name, one_line
from happen_nb._display.tree import Budget

_CLAIM = 200  # columns of the claim
_ERROR = 300
_TRACE = 20  # lines of the trace


def verdict(x: shown.Verdict, budget: Budget) -> Page:
    """The rule; the first that breaks it, with its cause."""
    kind, line, blocks = "…", part("nothing to look at yet: run the cells above"), tuple[Block, ...]()
    if x.ok:
        kind, line = "✓", (Span("holds", "add"), Span(f" for {count(x.checked, x.noun)}"))
    elif x.broken:
        broken = (Span("broken", "err"), Span(f" by {len(x.broken):,} of {count(x.checked, x.noun)}"))
        kind, line, blocks = "✗", broken, tuple(_blocks(x, budget))
    return Page(Heading(kind, one_line(x.claim, _CLAIM), (line,)), blocks)


def _blocks(x: shown.Verdict, budget: Budget) -> Iterator[Block]:
    first: Any = x.broken[0]
    page = pages.commit(first, budget) if x.noun == "commit" else events.event(first, budget)
    if page.heading is not None:
        yield Note(_in_a_line(page.heading))
    if x.error is not None:
        yield Note((Span("the rule raised "), Span(one_line(x.error, _ERROR), "err")))
    yield from page.blocks
    if x.trace is not None:
        yield Note(part("what led to it, and what followed:"))
        yield from traces.trace(x.trace, budget, limit=_TRACE).blocks


def _in_a_line(heading: Heading) -> Line:
    """Without its time, which the trace has."""
    line = [
        Span("first by "),
        Span(f"{heading.kind[0].lower()}{heading.kind[1:]} "),
        Span(name(heading.name), "key"),
    ]
    for each in heading.parts:
        line += (Span(" · "), *each) if each and each[0].kind not in TIMES else ()
    return tuple(line)
