"""What followed from an event: the tree of the events and commits that it caused.

A chain of causes may be long and the stored records may be incomplete, so nothing here recurses and
nothing relies on a cause being there.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass

from happen_nb._model.records import CommitRecord, EventRecord, HandledRecord, Origin


@dataclass(frozen=True, slots=True)
class Totals:
    """What a tree holds; ``duration`` is the seconds that all its handlers took together."""

    events: int
    commits: int
    failures: int
    duration: float


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class TraceNode:
    """An event or a commit, with what followed from it; iterating goes depth first, itself included.

    Two nodes are equal only if they are the same: to compare them by their content would recurse.

    Parameters
    ----------
    event : EventRecord, optional
        The event, if it is one.
    commit : CommitRecord, optional
        The commit, if it is one.
    handled : tuple of HandledRecord
        Who handled the event, in the order given.
    children : tuple of TraceNode
        The effects, in journal order; those not stored yet come last.
    before : CommitRecord, optional
        What the commit changed, if that is known.
    """

    event: EventRecord | None = None
    commit: CommitRecord | None = None
    handled: tuple[HandledRecord, ...] = ()
    children: tuple[TraceNode, ...] = ()
    before: CommitRecord | None = None

    def walk(self) -> Iterator[tuple[int, TraceNode]]:
        """Each node with its depth, depth first: a node, then its effects one after the other."""
        waiting = [(0, self)]
        while waiting:
            depth, node = waiting.pop()
            yield depth, node
            waiting.extend((depth + 1, child) for child in reversed(node.children))

    def __iter__(self) -> Iterator[TraceNode]:
        return (node for _, node in self.walk())

    @property
    def failures(self) -> tuple[HandledRecord, ...]:
        """The handlings that failed, in this tree, depth first."""
        return tuple(record for node in self for record in node.handled if record.outcome == "failed")

    @property
    def totals(self) -> Totals:
        """How much there is in this tree, itself included."""
        nodes = list(self)
        return Totals(
            events=sum(node.event is not None for node in nodes),
            commits=sum(node.commit is not None for node in nodes),
            failures=len(self.failures),
            duration=sum(record.duration for node in nodes for record in node.handled),
        )

    def __repr__(self) -> str:
        if self.event is not None:
            return f"TraceNode(event {self.event.type!r}, {len(self.children)} effects)"
        if self.commit is not None:
            return f"TraceNode(commit of {self.commit.node!r}, revision {self.commit.revision})"
        return "TraceNode()"


CommitPair = tuple[CommitRecord, CommitRecord | None]
"""A commit, and the one before it on its node if that is known."""


def build(
    root: EventRecord,
    events: Iterable[EventRecord],
    commits: Iterable[CommitPair],
    handled: Iterable[HandledRecord],
) -> TraceNode:
    """Put together what followed from an event.

    Parameters
    ----------
    root : EventRecord
    events : iterable of EventRecord
        What may have followed, in any order. The root, repetitions and what did not follow may be among
        them. An effect whose cause is not there hangs below the last of the causes before it that is.
    commits : iterable of (CommitRecord, CommitRecord or None)
        The same of commits, each with the one before it on its node.
    handled : iterable of HandledRecord

    Returns
    -------
    TraceNode

    Examples
    --------
    >>> paid = EventRecord("e1", "order.paid", "notebook")
    >>> ship = EventRecord("e2", "parcel.send", "orders", cause="e1", sequence=2)
    >>> root = build(paid, [ship], [], [HandledRecord("e1", "orders", "on_paid", "done", 0.25)])
    >>> [(depth, node.event.type) for depth, node in root.walk()]
    [(0, 'order.paid'), (1, 'parcel.send')]
    >>> root.totals
    Totals(events=2, commits=0, failures=0, duration=0.25)
    """
    known = {root.id: root}
    for event in events:
        known.setdefault(event.id, event)
    effects = _effects(root, known, {commit.sequence: (commit, before) for commit, before in commits})
    handlings: dict[str, list[HandledRecord]] = {}
    for record in handled:
        handlings.setdefault(record.event, []).append(record)
    order = [root.id]
    for id in order:  # grows while it is read: causes stand before what followed from them
        order.extend(effect.id for effect in effects.get(id, ()) if isinstance(effect, EventRecord))
    made: dict[str, TraceNode] = {}
    for id in reversed(order):
        children = tuple(_child(effect, made) for effect in effects.get(id, ()))
        made[id] = TraceNode(known[id], handled=tuple(handlings.get(id, ())), children=children)
    return made[root.id]


_Effect = EventRecord | CommitPair


def _effects(
    root: EventRecord, known: dict[str, EventRecord], commits: dict[int, CommitPair]
) -> dict[str, list[_Effect]]:
    """The id of each event that caused something -> what, in order; the root is nobody's effect."""
    effects: dict[str, list[_Effect]] = {}
    everything: list[_Effect] = [*known.values(), *commits.values()]
    for effect in everything:
        origin = effect.origin if isinstance(effect, EventRecord) else effect[0].origin
        cause = _nearest(origin, known)
        if cause is not None and effect is not root:
            effects.setdefault(cause, []).append(effect)
    for found in effects.values():
        found.sort(key=_position)
    return effects


def _nearest(origin: Origin, known: Container[str]) -> str | None:
    """The cause, or the last before it that is known."""
    if origin.cause is None or origin.cause in known:
        return origin.cause
    return next((id for id in reversed(origin.path) if id in known), None)


def _position(effect: _Effect) -> tuple[bool, int, int]:
    """Its place in the journal: a commit stands before the events that it emitted."""
    sequence, index = effect.position if isinstance(effect, EventRecord) else (effect[0].sequence, -1)
    return not sequence, sequence, index


def _child(effect: _Effect, made: dict[str, TraceNode]) -> TraceNode:
    if isinstance(effect, EventRecord):
        return made[effect.id]
    commit, before = effect
    return TraceNode(commit=commit, before=before)
