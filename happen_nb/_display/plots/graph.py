"""The graph: the events that each node handled, and their senders; as data, as text, and on pages.

Nodes whose names differ in a number, such as ``p1`` to ``p160``, form a group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Final, NamedTuple

from happen_nb._display import clean, count, cut, cut_middle, more, name, padded, part, timestamp, type_name
from happen_nb._display.page import Block, Cell, Column, Heading, Note, Page, number_cell, table, titles
from happen_nb._display.plots import drawing, empty_note
from happen_nb._display.values import summary
from happen_nb._model.causality import JournalSlice, in_order
from happen_nb._model.colours import LEAST_IN_GROUP, group_of
from happen_nb._model.records import EventRecord, HandledRecord
from happen_nb._model.schedules import from_ns

FlowKey = tuple[str, str]  # sender and handling node
MAX_SINGLE_NODES: Final = 10
"""Maximum number of nodes before those whose names differ in a number are drawn as one."""
MAX_TYPES: Final = 3  # maximum number of types on an arrow
MAX_LINES: Final = 60  # maximum number of arrows in the text
CROSS: Final = "\N{MULTIPLICATION SIGN}"
MAX_ROWS: Final = 12
MAX_EVENTS: Final = 5
_CELL_ERROR_COLUMNS: Final = 100  # of an error in a table
_TYPES: Final = titles("type", Column("events", right=True), Column("failed", right=True))
_EVENTS: Final = titles(Column("time, UTC", time=True), "type", "payload", "error")


class Group(NamedTuple):
    """One node, or nodes that are shown together."""

    name: str
    nodes: tuple[str, ...]

    @property
    def is_single(self) -> bool:
        return len(self.nodes) == 1


def grouped(names: Sequence[str], *, opened: Collection[str] = ()) -> list[Group]:
    """Put nodes together whose names differ in a number, in the order of the first of each group.

    The nodes of an opened group stay apart.

    Examples
    --------
    >>> [each.name for each in grouped(["api", "p1", "p2", "p3", "p4", "p5"])]
    ['api', 'p*']
    >>> [each.name for each in grouped(["p1", "p2", "p3", "p4", "p5"], opened=["p*"])]
    ['p1', 'p2', 'p3', 'p4', 'p5']
    """
    whole = {title: Group(title, tuple(in_order(nodes))) for title, nodes in _members(names).items()}
    homes = [whole.get(group_of(name)) for name in names]
    groups = [
        Group(name, (name,)) if home is None or home.name in opened else home
        for name, home in zip(names, homes, strict=True)
    ]
    return list(dict.fromkeys(groups))


def _members(names: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for node in names:
        if title := group_of(node):
            found.setdefault(title, []).append(node)
    return {title: members for title, members in found.items() if len(members) >= LEAST_IN_GROUP}


@dataclass(slots=True)
class Flow:
    """The events of a sender that one node handled."""

    sender: str
    handler: str
    types: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)

    @property
    def key(self) -> FlowKey:
        return self.sender, self.handler

    @property
    def number(self) -> int:
        return self.types.total()

    @property
    def is_loop(self) -> bool:
        return self.sender == self.handler


Flows = dict[FlowKey, Flow]  # in the order of the first event of each


def flows_of(journal: JournalSlice) -> Flows:
    """Return all flows; an event counts once per node."""
    flows: Flows = {}
    for event in journal.events:
        accepted = [record for record in journal.handlings.get(event.id, ()) if record.accepted]
        failed = {record.node for record in accepted if record.outcome == "failed"}
        for node in sorted({record.node for record in accepted}):
            flow = flows.setdefault((event.sender, node), Flow(event.sender, node))
            flow.types[event.type] += 1
            flow.failed[event.type] += node in failed
    return flows


def merged_flows(flows: Flows, groups: Mapping[str, Group]) -> Flows:
    """Return the flows between groups, in which each flow between their nodes is a part; node -> group."""
    merged: Flows = {}
    for flow in flows.values():
        sender, handler = groups[flow.sender].name, groups[flow.handler].name
        whole = merged.setdefault((sender, handler), Flow(sender, handler))
        whole.types += flow.types
        whole.failed += flow.failed
    return merged


class Load(NamedTuple):
    """Events that wait until a node has time, and those that a pause holds back."""

    waiting: int = 0
    held: int = 0


@dataclass(frozen=True)
class Graph:
    """The content of a picture: groups of nodes and the flows between them."""

    space: str
    groups: Sequence[Group]
    flows: Flows
    loads: Mapping[str, Load] = field(default_factory=dict)  # of nodes
    events: int = 0
    newest: int | None = None
    names: Sequence[str] = ()  # the groups among all nodes, also those that are opened
    sent: Mapping[str, int] = field(default_factory=dict)  # node -> events
    handled: Mapping[str, int] = field(default_factory=dict)
    colours: Mapping[str, int] = field(default_factory=dict)  # of nodes
    pattern: str = "**"

    @property
    def failures(self) -> int:
        return sum(flow.failed.total() for flow in self.flows.values())

    @cached_property
    def busy(self) -> Counter[str]:
        """Group -> events that it sent or handled."""
        found: Counter[str] = Counter()
        for flow in self.flows.values():
            found[flow.sender] += flow.number
            found[flow.handler] += flow.number
        return found

    def facts(self) -> list[str]:
        parts = [f"{count(self.events, 'event')} handled"]
        parts += [count(self.failures, "failure")] if self.failures else []
        parts += [f"newest {self.newest:,}"] if self.newest is not None else []
        return parts

    def load(self, group: Group) -> Load:
        loads = [self.loads[name] for name in group.nodes if name in self.loads]
        return Load(sum(each.waiting for each in loads), sum(each.held for each in loads))


def graph(
    journal: JournalSlice, *, opened: Collection[str] = (), loads: Mapping[str, Load] | None = None
) -> Graph:
    """Return the graph of a part of a journal.

    The nodes of the `opened` groups are shown one by one; `loads` are the events that wait for nodes.
    """
    flows = flows_of(journal)
    names = list(dict.fromkeys([*(name for key in flows for name in key), *journal.nodes]))
    together = grouped(names, opened=opened) if len(names) > MAX_SINGLE_NODES or opened else None
    groups = together or [Group(name, (name,)) for name in names]
    homes = {name: group for group in groups for name in group.nodes}
    sent = Counter(event.sender for event in journal.events)
    handled: Counter[str] = Counter()
    for flow in flows.values():
        handled[flow.handler] += flow.number
    return Graph(
        journal.space,
        groups,
        merged_flows(flows, homes),
        loads or {},
        len(journal.handlings),
        journal.newest,
        list(_members(names)) if len(names) > MAX_SINGLE_NODES else (),
        sent,
        handled,
        journal.colours,
        journal.pattern,
    )


# -- text --------------------------------------------------------------------------------------------


def graph_lines(shown: Graph) -> list[str]:
    """Return a line for each flow: ``orders → stock  reserve`` and how often."""
    if not shown.flows:
        return [empty_note("handled events", shown.pattern)]
    flows = list(shown.flows.values())[:MAX_LINES]
    starts = padded([f"{cut_middle(each.sender, 24)} → {cut_middle(each.handler, 24)}" for each in flows])
    texts = [", ".join(type_lines(flow, 6)) for flow in flows]
    found = [cut(clean(f"{start}  {text}"), 110) for start, text in zip(starts, texts, strict=True)]
    left = len(shown.flows) - len(flows)
    return [*found, f"… {left:,} more"] if left else found


def type_lines(flow: Flow, most: int = MAX_TYPES) -> list[str]:
    """Return the types of a flow with their counts, and how many events failed."""
    common = flow.types.most_common()
    if len(common) > 1 == most:
        found = [_counted(f"{len(common):,} types", flow.number)]
    else:
        shown = common if len(common) <= most else common[: most - 1]
        found = [_counted(type, number) for type, number in shown]
        left = len(common) - len(shown)
        found += [f"… {left:,} more types"] if left else []
    failed = flow.failed.total()
    return [*found, f"{CROSS} {failed:,} failed"] if failed else found


def _counted(type: str, number: int) -> str:
    return f"{clean(type)} {CROSS}{number:,}" if number > 1 else clean(type)


def below_name(shown: Graph, group: Group) -> list[str]:
    """Return the lines below the name of a node: what waits for it, else what it did."""
    load = shown.load(group)
    lines = [f"{load.held:,} held"] if load.held else []
    lines += [f"{load.waiting:,} waiting"] if load.waiting else []
    if not lines and not group.is_single:
        lines = [count(len(group.nodes), "node")]
    if not lines:
        sent, handled = shown.sent.get(group.name, 0), shown.handled.get(group.name, 0)
        lines = [f"{sent:,} sent"] if sent else []
        lines += [f"{handled:,} handled"] if handled else []
    return lines or ["no events"]


# -- pages -----------------------------------------------------------------------------------------


def graph_page(shown: Graph, draw: Callable[[int], str]) -> Page:
    parts = tuple(part(text) for text in shown.facts()) if shown.flows else ()
    drawn = drawing(draw, graph_lines(shown), titled=True)
    return Page(Heading("Graph of", name(shown.space), parts), (drawn,))


def flow_page(flow: Flow, nodes: tuple[Sequence[str], Sequence[str]], journal: JournalSlice) -> Page:
    """Show the events of an arrow: their types, and the newest of them.

    `nodes` are those at its two ends.
    """
    senders, handlers = set(nodes[0]), set(nodes[1])

    def handling(event: EventRecord) -> HandledRecord | None:
        records = journal.handlings.get(event.id, ()) if event.sender in senders else ()
        return next((each for each in records if each.accepted and each.node in handlers), None)

    found = ((event, record) for event in reversed(journal.events) if (record := handling(event)))
    newest = list(islice(found, MAX_EVENTS))
    heading = Heading(
        "Events of", f"{name(flow.sender)} → {name(flow.handler)}", (part(count(flow.number, "event")),)
    )
    return Page(heading, (_types([flow]), *_newest(journal, newest)))


def group_page(group: Group, shown: Graph) -> Page:
    """Show the events that a node sent and handled, by type."""
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
        (Cell((type_name(type, kind="plain"),)), number_cell(number, "num"), number_cell(failed[type], "err"))
        for type, number in types.most_common(MAX_ROWS)
    ]
    return table(_TYPES, rows, more(len(types) - len(rows)))


def _newest(journal: JournalSlice, found: Sequence[tuple[EventRecord, HandledRecord]]) -> Iterator[Block]:
    payloads = {event.id: event.payload for event in journal.with_payloads([event for event, _ in found])}
    rows = [
        (
            Cell(timestamp(from_ns(journal.clock.time_of_space(event.time)))),
            Cell((type_name(event.type, kind="plain"),)),
            Cell(tuple(summary(payloads[event.id], 60)) if payloads.get(event.id) is not None else ()),
            Cell(part(cut(record.error or "", _CELL_ERROR_COLUMNS), "err")),
        )
        for event, record in found
    ]
    if rows:
        yield Note(part("the newest"))
        yield table(_EVENTS, rows)
