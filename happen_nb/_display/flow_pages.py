"""The graph as a page, and what it shows of a node or of an arrow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from happen_nb._display.page import (
    Block,
    Cell,
    Column,
    Heading,
    Note,
    Page,
    drawing,
    more,
    part,
    table,
    timestamp,
)
from happen_nb._display.plots.flows import Flow
from happen_nb._display.plots.graph import Graph, lines
from happen_nb._display.plots.groups import Group
from happen_nb._display.spans import Line, count, cut, from_ns, name
from happen_nb._display.values import summary
from happen_nb._model.causality import JournalSlice
from happen_nb._model.records import EventRecord, HandledRecord

MAX_ROWS: Final = 12
MAX_EVENTS: Final = 5
_ERROR_COLUMNS: Final = 100
_TYPES: Final = (Column("type"), Column("events", right=True), Column("failed", right=True))
_EVENTS: Final = (Column("time, UTC", time=True), Column("type"), Column("payload"), Column("error"))


def graph_page(shown: Graph, draw: Callable[[int], str]) -> Page:
    """Show a graph: its numbers, and the picture or a line for each arrow."""
    parts = tuple(part(text) for text in shown.facts()) if shown.flows else ()
    drawn = drawing(draw, lines(shown), titled=True)
    return Page(Heading("Graph of", name(shown.space), parts), (drawn,))


def flow_page(flow: Flow, nodes: tuple[Sequence[str], Sequence[str]], journal: JournalSlice) -> Page:
    """Show what an arrow stands for: the types of its events, and the newest of them.

    `nodes` are those at its two ends.
    """
    senders, handlers = set(nodes[0]), set(nodes[1])
    newest: list[tuple[EventRecord, HandledRecord]] = []
    for event in reversed(journal.events):
        if event.sender in senders:
            for record in journal.handlings.get(event.id, ()):
                if record.accepted and record.node in handlers:
                    newest.append((event, record))
                    break
        if len(newest) == MAX_EVENTS:
            break
    heading = Heading("Events of", f"{name(flow.sender)} → {name(flow.handler)}", (_number(flow.number),))
    return Page(heading, (_types([flow]), *_newest(journal, newest)))


def group_page(group: Group, shown: Graph) -> Page:
    """Show what a node did: what it sent and handled, by type."""
    sent = [flow for flow in shown.flows.values() if flow.sender == group.name]
    handled = [flow for flow in shown.flows.values() if flow.handler == group.name]
    load = shown.load(group)
    parts = [part(f"{load.waiting:,} waiting")] if load.waiting else []
    parts += [part(f"{load.held:,} held")] if load.held else []
    blocks: list[Block] = []
    for title, flows in (("sent, and handled by nodes", sent), ("handled", handled)):
        if flows:
            blocks += [Note(part(title)), _types(flows)]
    return Page(Heading("Node", name(group.name), tuple(parts)), blocks or (Note(part("no events yet")),))


def _number(events: int) -> Line:
    return part(count(events, "event"))


def _types(flows: Iterable[Flow]) -> Block:
    types: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for flow in flows:
        types += flow.types
        failed += flow.failed
    rows = [
        (Cell(part(name(type), "plain")), Cell(part(f"{number:,}", "num")), _failed(failed[type]))
        for type, number in types.most_common(MAX_ROWS)
    ]
    return table(_TYPES, rows, more(len(types) - len(rows)))


def _failed(number: int) -> Cell:
    return Cell(part(f"{number:,}", "err") if number else ())


def _newest(journal: JournalSlice, found: Sequence[tuple[EventRecord, HandledRecord]]) -> Iterator[Block]:
    payloads = {event.id: event.payload for event in journal.with_payloads([event for event, _ in found])}
    rows = [
        (
            Cell(timestamp(from_ns(event.time))),
            Cell(part(name(event.type), "plain")),
            Cell(tuple(summary(payloads[event.id], 60)) if payloads.get(event.id) is not None else ()),
            Cell(part(cut(record.error or "", _ERROR_COLUMNS), "err")),
        )
        for event, record in found
    ]
    if rows:
        yield Note(part("the newest"))
        yield table(_EVENTS, rows)
