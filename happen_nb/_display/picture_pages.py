"""The timeline and the graph as pages, and what they show of a mark, a selected time, a node or an arrow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from happen_nb._display.page import Block, Cell, Code, Column, Heading, Note, Page, name_cell, table
from happen_nb._display.plots.graph import Flow, Graph, Group, graph_lines
from happen_nb._display.plots.svg_parts import drawing
from happen_nb._display.plots.timeline import Sums, Timeline, TimelineItem, due, timeline_lines
from happen_nb._display.spans import (
    Kind,
    Line,
    clean,
    count,
    cut,
    duration,
    from_ns,
    function,
    human_duration,
    human_time,
    iso,
    more,
    name,
    one_line,
    part,
    timestamp,
    type_name,
)
from happen_nb._display.values import summary
from happen_nb._model.causality import NS, JournalSlice
from happen_nb._model.records import EventRecord, HandledRecord

MAX_CODE_LINES: Final = 60
_TIP_COLUMNS: Final = 70
_TIP_CHARACTERS: Final = 400  # of its first line, which wraps: the whole type of an event
_ERROR_COLUMNS: Final = 300
_SUMS: Final = (
    Column("lane"),
    Column("events", right=True),
    Column("handlings", right=True),
    Column("busy", right=True),
    Column("commits", right=True),
    Column("failures", right=True),
)
MAX_ROWS: Final = 12
MAX_EVENTS: Final = 5
_CELL_ERROR_COLUMNS: Final = 100  # of an error in a table
_TYPES: Final = (Column("type"), Column("events", right=True), Column("failed", right=True))
_EVENTS: Final = (Column("time, UTC", time=True), Column("type"), Column("payload"), Column("error"))


def timeline_page(shown: Timeline, draw: Callable[[int], str] | None) -> Page:
    """Show a timeline: its numbers, and the picture or a line for each lane."""
    parts = tuple(part(text) for text in shown.facts(*shown.all_lanes))
    drawn = drawing(draw, timeline_lines(shown), titled=True)
    return Page(Heading("Timeline of", name(shown.journal.space), parts), (drawn,))


def tip(item: TimelineItem) -> str:
    """Return what stands beside the pointer: what, who and when, in up to three lines."""
    when = human_time(iso(from_ns(item.time))) if item.kind != "scheduled" else f"due {due(item)}"
    record, error = item.handling, ""
    if record is not None:
        waited = f"waited {human_duration(record.waited)} · " if record.waited else ""
        when += f" · {waited}took {human_duration(record.duration)}"
        error = one_line(record.error or record.outcome, _TIP_COLUMNS) if item.kind == "failure" else ""
    return "\n".join(filter(None, (cut(_what(item), _TIP_CHARACTERS), cut(when, _TIP_COLUMNS), error)))


def _what(item: TimelineItem) -> str:
    if item.commit is not None:
        return f"{item.node} · revision {item.commit[0].revision:,}"
    type = "" if item.event is None else item.event.type
    if item.handling is not None:
        return f"{item.node} · {function(item.handling.handler)} · {type}"
    target = None if item.event is None else item.event.target
    return f"{type} · {item.node} → {target or 'all'}"


def handling_page(item: TimelineItem, record: HandledRecord, blocks: Sequence[Block]) -> Page:
    """Show a handling: how long it took and how it ended, then what is known about its event."""
    heading = Heading(
        "Failure" if item.kind == "failure" else "Handling",
        f"{name(item.node)} · {name(function(record.handler))}",
        (timestamp(from_ns(item.time), zone=True),),
    )
    line: Line = part("took ") + duration(record.duration)
    if record.waited is not None:
        line = part("waited ") + duration(record.waited) + part(" · ") + line
    if record.attempts > 1:
        line += part(f" · {count(record.attempts, 'attempt')}")
    notes = [Note(line)]
    if record.outcome != "done":
        notes.append(Note(part(one_line(record.error or record.outcome, _ERROR_COLUMNS), "err")))
    return Page(heading, (*notes, *blocks))


def gone_page(item: TimelineItem) -> Page:
    """Show a commit that was removed since it was drawn."""
    return Page(Heading("Commit", _what(item)), (Note(part("it is no longer stored")),))


def story_blocks(trace: Page | None, source: str | None) -> Iterator[Block]:
    """Yield the trace to which an item belongs, and the source of its handler."""
    if trace is not None:
        yield Note(part("Trace, from its first cause"))
        yield from trace.blocks
    if source:
        shown = [clean(each) for each in source.splitlines()]
        yield Note(part("Handler"))
        more = [f"… {len(shown) - MAX_CODE_LINES:,} more lines"] if len(shown) > MAX_CODE_LINES else []
        yield Code((*shown[:MAX_CODE_LINES], *more))


def sums_page(found: Iterable[Sums], window: tuple[int, int]) -> Page:
    """Show what happened within a time on each lane, and in all."""
    each = list(found)
    whole = Sums("all")
    for one in each:
        whole.counts += one.counts
        whole.busy += one.busy
    parts = (timestamp(from_ns(window[0]), zone=True), duration((window[1] - window[0]) / NS))
    heading = Heading("Selected", "", parts)
    if not each:
        return Page(heading, (Note(part("nothing happened in this time")),))
    rows = [_sums_row(one) for one in ([*each, whole] if len(each) > 1 else each)]
    return Page(heading, (table(_SUMS, rows),))


def _sums_row(one: Sums) -> tuple[Cell, ...]:
    counts = one.counts
    return (
        name_cell(one.lane),
        _number(counts["event"]),
        _number(counts["handling"]),
        Cell(duration(one.busy / NS) if one.busy else ()),
        _number(counts["commit"]),
        _number(counts["failure"]),
    )


def _number(number: int, kind: Kind = "num") -> Cell:
    return Cell(part(f"{number:,}", kind) if number else ())


def graph_page(shown: Graph, draw: Callable[[int], str]) -> Page:
    """Show a graph: its numbers, and the picture or a line for each arrow."""
    parts = tuple(part(text) for text in shown.facts()) if shown.flows else ()
    drawn = drawing(draw, graph_lines(shown), titled=True)
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
    heading = Heading(
        "Events of", f"{name(flow.sender)} → {name(flow.handler)}", (part(count(flow.number, "event")),)
    )
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


def _types(flows: Iterable[Flow]) -> Block:
    types: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    for flow in flows:
        types += flow.types
        failed += flow.failed
    rows = [
        (Cell((type_name(type, kind="plain"),)), _number(number), _number(failed[type], "err"))
        for type, number in types.most_common(MAX_ROWS)
    ]
    return table(_TYPES, rows, more(len(types) - len(rows)))


def _newest(journal: JournalSlice, found: Sequence[tuple[EventRecord, HandledRecord]]) -> Iterator[Block]:
    payloads = {event.id: event.payload for event in journal.with_payloads([event for event, _ in found])}
    rows = [
        (
            Cell(timestamp(from_ns(event.time))),
            Cell((type_name(event.type, kind="plain"),)),
            Cell(tuple(summary(payloads[event.id], 60)) if payloads.get(event.id) is not None else ()),
            Cell(part(cut(record.error or "", _CELL_ERROR_COLUMNS), "err")),
        )
        for event, record in found
    ]
    if rows:
        yield Note(part("the newest"))
        yield table(_EVENTS, rows)
