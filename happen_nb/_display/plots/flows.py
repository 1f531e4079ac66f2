"""The flow of events between nodes: which sender's events each node handled, by type."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from happen_nb._display.plots.groups import Group
from happen_nb._model.causality import JournalSlice

FlowKey = tuple[str, str]
"""Sender and handling node."""


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


Flows = dict[FlowKey, Flow]
"""In the order of the first event of each."""


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
