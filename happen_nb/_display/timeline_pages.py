"""The timeline as a page, and what it shows of a mark and of a selected time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from happen_nb._display.page import (
    Block,
    Cell,
    Code,
    Column,
    Heading,
    Note,
    Page,
    drawing,
    duration,
    part,
    table,
    timestamp,
)
from happen_nb._display.plots.timeline import Sums, Timeline, TimelineItem, due, lines
from happen_nb._display.spans import (
    NS,
    Line,
    clean,
    count,
    cut,
    from_ns,
    function,
    human_duration,
    human_time,
    iso,
    name,
    one_line,
)
from happen_nb._model.records import HandledRecord

MAX_CODE_LINES: Final = 60
_TIP_COLUMNS: Final = 70
_ERROR_COLUMNS: Final = 300
_SUMS: Final = (
    Column("lane"),
    Column("events", right=True),
    Column("handlings", right=True),
    Column("busy", right=True),
    Column("commits", right=True),
    Column("failures", right=True),
)


def timeline_page(shown: Timeline, draw: Callable[[int], str] | None) -> Page:
    """Show a timeline: its numbers, and the picture or a line for each lane."""
    parts = tuple(part(text) for text in shown.facts(*shown.all_lanes))
    drawn = drawing(draw, lines(shown), titled=True)
    return Page(Heading("Timeline of", name(shown.journal.space), parts), (drawn,))


def tip(item: TimelineItem) -> str:
    """Return what stands beside the pointer: what, who and when, in up to three lines."""
    found = [_what(item), human_time(iso(from_ns(item.time)))]
    if item.kind == "scheduled":
        found[1] = f"due {due(item)}"
    record = item.handling
    if record is not None:
        waited = f"waited {human_duration(record.waited)} · " if record.waited else ""
        found[1] += f" · {waited}took {human_duration(record.duration)}"
    if item.kind == "failure" and record is not None:
        found.append(one_line(record.error or record.outcome, _TIP_COLUMNS))
    return "\n".join(cut(clean(each), _TIP_COLUMNS) for each in found)


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
    events, handlings, commits, failures = (
        _number(one.counts[kind]) for kind in ("event", "handling", "commit", "failure")
    )
    busy = Cell(duration(one.busy / NS)) if one.busy else Cell()
    return (Cell(part(name(one.lane), "plain")), events, handlings, busy, commits, failures)


def _number(number: int) -> Cell:
    return Cell(part(f"{number:,}", "num")) if number else Cell()
