"""The timeline: what happened on each node and when, as data, as lines of text, and on pages.

There are also pages about a mark, and about a selected time.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from operator import attrgetter
from typing import Final, Literal

from happen_nb._display import (
    Line,
    clean,
    count,
    cut,
    cut_middle,
    duration,
    function,
    human_duration,
    human_time,
    iso,
    name,
    one_line,
    padded,
    part,
    timestamp,
)
from happen_nb._display.page import (
    Block,
    Cell,
    Code,
    Column,
    Heading,
    Note,
    Page,
    name_cell,
    number_cell,
    table,
    titles,
)
from happen_nb._display.plots import Tick, TimeAxis, break_gaps, drawing, empty_note
from happen_nb._display.plots.graph import Group, grouped
from happen_nb._model.arguments import nanoseconds
from happen_nb._model.causality import NS, CommitPair, JournalSlice, TimeBase, end_of, in_order, start_of
from happen_nb._model.records import EventRecord, HandledRecord
from happen_nb._model.schedules import from_ns, from_text

MAX_LANES: Final = 30  # maximum number of lanes: the busiest are shown, unless a group is opened
MAX_OPEN_LANES: Final = 240
MAX_SINGLE_LANES: Final = 10  # maximum number of lanes before nodes whose names differ in a number share one
Kind = Literal["event", "failure", "commit", "handling", "scheduled"]
MAX_LINES: Final = 40  # maximum number of lanes in the text
MAX_NEXT_LINES: Final = 5  # maximum number of scheduled events in the text
ItemKey = tuple[Kind, str, str | int]
_KINDS: Final[dict[Kind, str]] = {
    "event": "event", "handling": "handling", "commit": "commit", "failure": "failure",
    "scheduled": "scheduled event",
}  # fmt: skip
_time = attrgetter("time")


def lanes_of(found: Sequence[str], busy: Counter[str], opened: Collection[str] = ()) -> list[Group]:
    """Return the lanes of nodes, which are in order; those of an `opened` group have lanes of their own."""
    lanes = [Group(name, (name,)) for name in found]
    if len(lanes) > MAX_SINGLE_LANES:
        lanes = grouped(found, opened=opened)
    most = MAX_OPEN_LANES if opened else MAX_LANES
    if len(lanes) > most:
        kept = set(sorted(lanes, key=lambda lane: -sum(busy[node] for node in lane.nodes))[:most])
        lanes = [lane for lane in lanes if lane in kept]
    return lanes


def appeared(journal: JournalSlice) -> list[str]:
    """Return the nodes in the order in which they first did something; those that only commit come last."""
    first: dict[str, int] = {}
    for event in journal.events:
        first[event.sender] = min(event.time, first.get(event.sender, event.time))
    for id, records in journal.handlings.items():
        event = journal.by_id[id]
        for record in records:
            if record.accepted:
                # After the event itself, also where the start is not known.
                start = max(start_of(event, record), event.time + 1)
                first[record.node] = min(start, first.get(record.node, start))
    quiet: dict[str, int] = {}
    for record_of, _ in journal.commits:
        if record_of.node not in first:
            quiet.setdefault(record_of.node, record_of.time)
    natural = {name: number for number, name in enumerate(in_order([*first, *quiet]))}
    return [
        name
        for times in (first, quiet)
        for name in sorted(times, key=lambda name: (times[name], natural[name]))
    ]


@dataclass(slots=True, eq=False)  # not frozen: that takes three times as long to make, and there are many
class TimelineItem:
    """An event, a commit, a handling, a failure, or a scheduled event, of a node; in ns since 1970."""

    kind: Kind
    node: str
    time: int
    end: int
    event: EventRecord | None = None  # it is, or it handles
    handling: HandledRecord | None = None
    commit: CommitPair | None = None

    @property
    def key(self) -> ItemKey:
        """Identifies it among all items, also after more was read."""
        if self.commit is not None:
            return self.kind, self.node, self.commit[0].sequence
        return self.kind, self.node, "" if self.event is None else self.event.id

    @property
    def cause(self) -> str | None:
        if self.commit is not None:
            return self.commit[0].origin.cause
        if self.event is None:
            return None
        return self.event.cause if self.kind in {"event", "scheduled"} else self.event.id


class Timeline:
    """The items of a part of a journal."""

    def __init__(
        self, journal: JournalSlice, *, nodes: Sequence[str] | None = None, by: TimeBase = "time"
    ) -> None:
        self.journal, self.by, self.nodes = journal, by, nodes
        self.items = sorted(chain(_marks(journal, by), _handlings(journal, by)), key=_time)
        self.coming = list(_scheduled(journal))
        """The scheduled events, by due time: they are not among the items."""

    @cached_property
    def all_lanes(self) -> tuple[list[Group], int]:
        """The lanes in which all groups are closed, and how many nodes there are."""
        return self.lanes()

    def lanes(self, opened: Collection[str] = ()) -> tuple[list[Group], int]:
        """Return the lanes from top to bottom, and how many nodes there are."""
        if self.nodes is not None:
            names = list(dict.fromkeys(self.nodes))
            return [Group(name, (name,)) for name in names], len(names)
        return lanes_of(self._appeared, self._busy, opened), len(self._appeared)

    @cached_property
    def _appeared(self) -> list[str]:
        return list(dict.fromkeys([*appeared(self.journal), *(item.node for item in self.coming)]))

    @cached_property
    def _busy(self) -> Counter[str]:
        return Counter(item.node for item in chain(self.items, self.coming))

    def between(self, window: tuple[int, int] | None, nodes: Collection[str]) -> list[TimelineItem]:
        """Return the items of some nodes within a time, in order."""
        items = self.items
        if window is not None:
            first = bisect_left(items, window[0], key=_time)
            items = items[first : bisect_right(items, window[1], key=_time)]
        return [item for item in items if item.node in nodes]

    def axis(self, items: Sequence[TimelineItem], width: float) -> TimeAxis:
        """Return the time axis for some items, with the longest idle times left out."""
        times = list(chain(map(_time, items), (item.end for item in items))) or [0]
        busy = [(since(item), item.end) for item in items if item.kind == "handling"]
        return break_gaps(times, width, busy)

    def time_of_space(self, at: int) -> int:
        """Return the time of the space at a time of the axis; they differ if its clock is manual."""
        return self.journal.clock.time_of_space(at) if self.by == "time" else at

    @cached_property
    def by_manual_clock(self) -> bool:
        """True if a manual clock labels the axis, whose distances are those of the server's clock."""
        return self.by == "time" and bool(self.journal.clock.stored)

    def ticks(self, axis: TimeAxis, items: Sequence[TimelineItem]) -> list[Tick]:
        """Return the labels of the axis for some items, in the time of the space.

        A manual clock stands still most of the time: its labels are where the first item of a time is.
        """
        if not self.by_manual_clock:
            return axis.ticks
        times = {self.time_of_space(item.time): item.time for item in reversed(items)}
        return axis.ticks_of({at: moment for moment, at in reversed(times.items())})

    @cached_property
    def by_key(self) -> dict[ItemKey, TimelineItem]:
        return {item.key: item for item in chain(self.items, self.coming)}

    def causes(self, item: TimelineItem) -> list[TimelineItem]:
        """Return the events that led to an item, the nearest first."""
        found: list[TimelineItem] = []
        id = item.cause
        while id in self.journal.by_id and len(found) < len(self.items):
            cause = self.journal.by_id[str(id)]
            found.append(self.by_key["event", cause.sender, cause.id])
            id = cause.cause
        return found

    def effects(self, item: TimelineItem) -> list[TimelineItem]:
        """Return the effects of an event: its handlings, and their events and commits."""
        if item.event is None:
            return []
        event = item.event
        keys: list[ItemKey] = []
        if item.kind == "event":
            keys += (
                ("handling", record.node, event.id) for record in self.journal.handlings.get(event.id, ())
            )
        keys += (each.key for each in self.coming if each.cause == event.id)
        for effect in self.journal.effects.get(event.id, ()):
            if isinstance(effect, EventRecord):
                keys.append(("event", effect.sender, effect.id))
            else:
                keys.append(("commit", effect[0].node, effect[0].sequence))
        found = [self.by_key[key] for key in dict.fromkeys(keys) if key in self.by_key]
        return found if item.kind == "event" else [each for each in found if each.node == item.node]

    def story(self) -> TimelineItem | None:
        """Return the item to show at first: the first failure."""
        return next((item for item in self.items if item.kind == "failure"), None)

    def facts(self, lanes: Sequence[Group], known: int) -> list[str]:
        shown = {node for lane in lanes for node in lane.nodes}
        counts = Counter(item.kind for item in self.items if item.node in shown)
        parts = [count(counts[kind], kind) for kind in ("event", "commit", "failure") if counts[kind]]
        parts += [f"{self.journal.to_come:,} scheduled"] if self.journal.to_come else []
        parts += [f"newest {self.journal.newest:,}"] if self.journal.newest is not None else []
        parts += [f"{len(shown):,} of {known:,} nodes"] if len(shown) < known else []
        return parts

    def matches(self, text: str) -> Collection[TimelineItem]:
        """Return the items with a text in their type, node, handler, error or id; all without a text."""
        wanted = text.casefold()
        return {item for item in chain(self.items, self.coming) if wanted in _searched(item)}


@dataclass(slots=True)
class Sums:
    """The items of a lane within a time."""

    lane: str
    counts: Counter[Kind] = field(default_factory=Counter)
    busy: int = 0  # ns

    def add(self, item: TimelineItem, window: tuple[int, int]) -> None:
        if item.kind == "handling":
            self.busy += max(0, min(item.end, window[1]) - max(item.time, window[0]))
        if window[0] <= item.time <= window[1]:
            self.counts[item.kind] += 1


def sums(shown: Timeline, window: tuple[int, int], lanes: Iterable[Group]) -> list[Sums]:
    """Add up what happened within a time, for each lane with something."""
    by_lane = {lane: Sums(lane.name) for lane in lanes}
    found = {node: sums for lane, sums in by_lane.items() for node in lane.nodes}
    for item in shown.items:
        if item.node in found and item.time <= window[1] and item.end >= window[0]:
            found[item.node].add(item, window)
    return [each for each in by_lane.values() if each.counts or each.busy]


def since(item: TimelineItem) -> int:
    """Return when a handling began to wait."""
    event = item.event
    return item.time if event is None or item.kind != "handling" else min(event.time, item.time)


def _marks(journal: JournalSlice, by: TimeBase) -> Iterable[TimelineItem]:
    for event in journal.events:
        time = journal.time_of(event, by)
        yield TimelineItem("event", event.sender, time, time, event)
    for id, records in journal.failed.items():
        event = journal.by_id[id]
        for record in records:
            time = end_of(event, record) if by == "time" else journal.time_of(event, by)
            yield TimelineItem("failure", record.node, time, time, event, record)
    for pair in journal.commits:
        time = journal.time_of_commit(pair, by)
        yield TimelineItem("commit", pair[0].node, time, time, commit=pair)


def _handlings(journal: JournalSlice, by: TimeBase) -> Iterable[TimelineItem]:
    if by != "time":  # handlings have no event time
        return
    for id, records in journal.handlings.items():
        event = journal.by_id[id]
        for record in records:
            if record.accepted:
                start, end = start_of(event, record), end_of(event, record)
                yield TimelineItem("handling", record.node, start, end, event, record)


def _scheduled(journal: JournalSlice) -> Iterable[TimelineItem]:
    for event in journal.scheduled:
        if event.due is not None and event.id not in journal.by_id:
            due = nanoseconds(from_text(event.due))
            yield TimelineItem("scheduled", event.sender, due, due, event)


def _searched(item: TimelineItem) -> str:
    parts = [item.node]
    if item.event is not None:
        parts += [item.event.type, item.event.id]
    if item.handling is not None:
        parts += [item.handling.handler, item.handling.error or ""]
    return "\n".join(parts).casefold()


# -- text --------------------------------------------------------------------------------------------


def timeline_lines(shown: Timeline) -> list[str]:
    """Return a line for each lane with its numbers."""
    lanes, _ = shown.all_lanes
    homes = {node: lane.name for lane in lanes for node in lane.nodes}
    counts: dict[str, Counter[Kind]] = {lane.name: Counter() for lane in lanes}
    for item in chain(shown.items, shown.coming):
        if item.node in homes:
            counts[homes[item.node]][item.kind] += 1
    if not any(counts.values()):
        return [empty_note("events or commits", shown.journal.pattern)]
    names = padded([cut_middle(name, 24) for name in counts])
    found = []
    for lane, numbers in zip(names, counts.values(), strict=True):
        parts = [count(numbers[kind], noun) for kind, noun in _KINDS.items() if numbers[kind]]
        found.append(cut(f"{lane}  {' · '.join(parts) or 'nothing'}", 110))
    more = len(found) - MAX_LINES
    found = [*found[:MAX_LINES], f"… {more:,} more"] if more > 0 else found
    return [*found, *_next_lines(shown, homes)]


def _next_lines(shown: Timeline, homes: Collection[str]) -> list[str]:
    """Return a line for each of the next scheduled events: when it is due, its sender and its type."""
    coming = [item for item in shown.coming if item.node in homes]
    found = [f"due {due(item)}  {item.node}  {type_of(item)}" for item in coming[:MAX_NEXT_LINES]]
    more = max(len(coming), shown.journal.to_come) - len(found)
    found += [f"… {more:,} more scheduled"] if more > 0 else []
    return [cut(each, 110) for each in found]


def due(item: TimelineItem) -> str:
    """Return when a scheduled event is due, as a person reads it."""
    return human_time(iso(from_ns(item.time))).replace(".000", "")


def type_of(item: TimelineItem) -> str:
    return "" if item.event is None else item.event.type


# -- pages -----------------------------------------------------------------------------------------

MAX_CODE_LINES: Final = 60
_TIP_COLUMNS: Final = 70
_TIP_CHARACTERS: Final = 400  # of its first line, which wraps: the whole type of an event
_ERROR_COLUMNS: Final = 300
_SUMS: Final = titles(
    "lane", *(Column(each, right=True) for each in ("events", "handlings", "busy", "commits", "failures"))
)


def timeline_page(shown: Timeline, draw: Callable[[int], str] | None) -> Page:
    parts = tuple(part(text) for text in shown.facts(*shown.all_lanes))
    drawn = drawing(draw, timeline_lines(shown), titled=True)
    return Page(Heading("Timeline of", name(shown.journal.space), parts), (drawn,))


def tip(shown: Timeline, item: TimelineItem) -> str:
    """Return the tooltip of an item: what, where and when, in up to three lines."""
    happened = human_time(iso(from_ns(shown.time_of_space(item.time))))
    when = happened if item.kind != "scheduled" else f"due {due(item)}"
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


def handling_page(item: TimelineItem, record: HandledRecord, began: int, blocks: Sequence[Block]) -> Page:
    """Show a handling: when it began (ns), how long it took, how it ended, and its event."""
    heading = Heading(
        "Failure" if item.kind == "failure" else "Handling",
        f"{name(item.node)} · {name(function(record.handler))}",
        (timestamp(from_ns(began), zone=True),),
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


def sums_page(found: Iterable[Sums], start: int, seconds: float) -> Page:
    """Show what happened on each lane, and in all, from a time (ns) on for some seconds."""
    each = list(found)
    whole = Sums("all")
    for one in each:
        whole.counts += one.counts
        whole.busy += one.busy
    parts = (timestamp(from_ns(start), zone=True), duration(seconds))
    heading = Heading("Selected", "", parts)
    if not each:
        return Page(heading, (Note(part("nothing happened in this time")),))
    rows = [_sums_row(one) for one in ([*each, whole] if len(each) > 1 else each)]
    return Page(heading, (table(_SUMS, rows),))


def _sums_row(one: Sums) -> tuple[Cell, ...]:
    counts = one.counts
    return (
        name_cell(one.lane),
        number_cell(counts["event"], "num"),
        number_cell(counts["handling"], "num"),
        Cell(duration(one.busy / NS) if one.busy else ()),
        number_cell(counts["commit"], "num"),
        number_cell(counts["failure"], "num"),
    )
