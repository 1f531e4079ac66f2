"""Compare a second run of a stretch of the past with the first one, and put both into one picture."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, Literal, NamedTuple, TypeAlias, TypeVar

from happen_nb._model.causality import NOTEBOOK, CommitPair, JournalSlice
from happen_nb._model.colours import PERSON_NUMBER
from happen_nb._model.frozen import Change, equal, is_number
from happen_nb._model.past import Key, changes_of, key_of
from happen_nb._model.records import CommitRecord, EventRecord, HandledRecord, Origin

Kind = Literal["new", "gone", "changed", "moved"]
"""Only in the second run, only in the first, with other content, or in another order."""

Entry: TypeAlias = CommitPair | EventRecord
Entries: TypeAlias = Sequence[Entry]


class EntryDifference(NamedTuple):
    """An event or a commit that is not the same in both runs."""

    kind: Kind
    before: Entry | None  # the entry in the first run
    now: Entry | None  # the entry in the second run
    root: str  # the id of the record from outside that caused it


def compare(before: Entries, now: Entries, roots: Mapping[str, str]) -> list[EntryDifference]:
    """Compare two runs, entry by entry, in the order of the second run; missing entries keep their place.

    `roots` maps the id of an event to that of the input from outside that led to it.
    """
    marks_before, marks_now = list(_marks(before)), list(_marks(now))
    at_before = {mark: index for index, mark in enumerate(marks_before)}
    at_now = {mark: index for index, mark in enumerate(marks_now)}
    shared = [at_before[mark] for mark in marks_now if mark in at_before]
    kept = _longest_rising(shared)
    found: list[tuple[float, EntryDifference]] = []
    place = 0.0
    for mark, entry in zip(marks_before, before, strict=True):
        place = at_now.get(mark, place)
        if mark not in at_now:  # just after what came before it
            found.append((place + 0.5, EntryDifference("gone", entry, None, _root(entry, roots))))
    for index, (mark, entry) in enumerate(zip(marks_now, now, strict=True)):
        there = at_before.get(mark)
        earlier = None if there is None else before[there]
        kind: Kind = "new"
        if earlier is not None and not _is_alike(earlier, entry):
            kind = "changed"
        elif earlier is not None:
            kind = "moved"
        if kind != "moved" or there not in kept:
            found.append((index, EntryDifference(kind, earlier, entry, _root(entry, roots))))
    return [difference for _, difference in sorted(found, key=lambda each: each[0])]


def _marks(entries: Entries) -> Iterator[tuple[Key, int]]:
    """Yield the identity of each entry in both runs: its key, and its number among those with this key."""
    counts: dict[Key, int] = defaultdict(int)
    for entry in entries:
        record = _record(entry)
        key = ("event", record.id) if isinstance(record, EventRecord) else key_of(record)
        counts[key] += 1
        yield key, counts[key]


def _root(entry: Entry, roots: Mapping[str, str]) -> str:
    if isinstance(entry, EventRecord):
        return roots.get(entry.id) or root_of(entry.origin, roots) or entry.id
    return root_of(entry[0].origin, roots) or entry[0].causal_id


def root_of(origin: Origin, roots: Mapping[str, str]) -> str | None:
    """Return the id of the record from outside that caused something with this origin; None if unknown."""
    path = (*reversed(origin.path), origin.correlation or "")
    return next((roots[id] for id in (origin.cause or "", *path) if id in roots), None)


def _longest_rising(numbers: Sequence[int]) -> set[int]:
    """Return the longest increasing subsequence of distinct numbers."""
    ends: list[int] = []  # of the best part of each length
    previous: dict[int, int | None] = {}
    for number in numbers:
        place = bisect_left(ends, number)
        previous[number] = ends[place - 1] if place else None
        ends[place : place + 1] = [number]
    found: set[int] = set()
    at = ends[-1] if ends else None
    while at is not None:
        found.add(at)
        at = previous[at]
    return found


def _is_alike(before: Entry, now: Entry) -> bool:
    """Return True for events with the same content, and for commits that make the same change.

    A change of a number is the same if it adds the same; the numbers themselves differ after a difference.
    """
    if isinstance(before, EventRecord) or isinstance(now, EventRecord):
        assert isinstance(before, EventRecord)
        assert isinstance(now, EventRecord)
        return before.occurred == now.occurred and equal(before.payload, now.payload)
    if before[0].deleted or now[0].deleted:
        return before[0].deleted == now[0].deleted
    if before[0].body == now[0].body or equal(before[0].state, now[0].state):
        return True
    one, other = changes_of(before), changes_of(now)
    return len(one) == len(other) and all(map(_is_same_change, one, other))


def _is_same_change(before: Change, now: Change) -> bool:
    if before.op != now.op or len(before.path) != len(now.path):
        return False
    *steps, last = before.path or ("",)
    *steps_now, last_now = now.path or ("",)
    if steps != steps_now or (last != last_now and not (isinstance(last, int) and isinstance(last_now, int))):
        return False
    numbers = (before.before, before.after, now.before, now.after)
    if before.op == "change" and all(map(is_number, numbers)):
        return bool(numbers[1] - numbers[0] == numbers[3] - numbers[2])  # type: ignore[operator]
    return equal(before.after, now.after)


# -- one picture of two runs -------------------------------------------------------------------------------

_NOW: Final = " (now)"  # after the name of a node in the second run
Name = TypeVar("Name", str, str | None)


def side_by_side(
    space: str,
    before: Entries,
    now: Entries,
    handled_before: Iterable[HandledRecord],
    handled_now: Iterable[HandledRecord],
    colours: Mapping[str, int],
) -> tuple[JournalSlice, list[str]]:
    """Return both runs as one journal, and its lanes: each node, and below it the same in the second run.

    What happened in both is at the time of the first run; the rest of the second run comes after that. A node
    has its colour in both.
    """
    times = {mark: _record(entry).time for mark, entry in zip(_marks(before), before, strict=True)}
    moved: list[Entry] = []
    time = min(times.values(), default=0)
    for mark, entry in zip(_marks(now), now, strict=True):
        time = times.get(mark, time + 1)
        moved.append(_as_second(entry, time))
    both = [*before, *moved]
    spans = {each[:3]: (each.waited, each.duration) for each in handled_before}
    handled = [
        *handled_before,
        *(_handled_second(each, *spans.get(each[:3], (None, 0.0))) for each in handled_now),
    ]
    nodes = dict.fromkeys([_node(entry) for entry in before] + [record.node for record in handled_before])
    nodes |= dict.fromkeys(_node(entry).removesuffix(_NOW) for entry in moved)
    lanes = [lane for node in nodes for lane in (node, _second(node))]
    events = [entry for entry in both if isinstance(entry, EventRecord)]
    pairs = [entry for entry in both if not isinstance(entry, EventRecord)]
    both_colours = {NOTEBOOK: PERSON_NUMBER, **colours}
    both_colours |= {_second(node): number for node, number in both_colours.items()}
    return JournalSlice(space, events, pairs, handled, lanes, colours=both_colours), lanes


def _record(entry: Entry) -> CommitRecord | EventRecord:
    return entry if isinstance(entry, EventRecord) else entry[0]


def _node(entry: Entry) -> str:
    return entry.sender if isinstance(entry, EventRecord) else entry[0].node


def _as_second(entry: Entry, time: int) -> Entry:
    """Return an entry of the second run under names and ids of its own."""
    if isinstance(entry, EventRecord):
        return replace(
            entry,
            id=_second(entry.id),
            sender=_second(entry.sender),
            target=_second(entry.target),
            cause=_second(entry.cause),
            correlation=_second(entry.correlation),
            path=tuple(map(_second, entry.path)),
            sequence=entry.sequence + _SECOND_SEQUENCES,
            time=time,
        )
    return _commit_second(entry[0], time), None if entry[1] is None else _commit_second(entry[1], time)


def _handled_second(record: HandledRecord, waited: float | None, duration: float) -> HandledRecord:
    return record._replace(
        event=_second(record.event), node=_second(record.node), waited=waited, duration=duration
    )


_SECOND_SEQUENCES: Final = 1 << 40  # no journal is that long


def _commit_second(record: CommitRecord, time: int) -> CommitRecord:
    cause, correlation, by, path, omitted = record.origin
    made = replace(
        record,
        node=_second(record.node),
        id=_second(record.id),
        origin=Origin(_second(cause), _second(correlation), _second(by), tuple(map(_second, path)), omitted),
        sequence=record.sequence + _SECOND_SEQUENCES,
        time=time,
    )
    made.adopt(record.state)
    return made


def _second(name: Name) -> Name:
    return None if name is None else f"{name}{_NOW}"


# -- names of causal chains --------------------------------------------------------------------------------


def chain_noun(roots: Iterable[EventRecord]) -> str:
    """Return a noun for the chains that start with these events: "orders" for ``order.placed``; "inputs"."""
    types = {root.type for root in roots}
    stems = {type.partition(".")[0] for type in types}
    if len(stems) == 1 and all("." in type for type in types):
        return f"{stems.pop()}s"
    return f'"{types.pop()}"' if len(types) == 1 else "inputs"


def chain_names(roots: Iterable[EventRecord]) -> dict[str, str]:
    """Return the names of chains by the ids of their first events: the ``id`` of the payload, or a number."""
    counts: dict[str, int] = defaultdict(int)
    names: dict[str, str] = {}
    for root in roots:
        counts[root.type] += 1
        given = root.payload.get("id") if isinstance(root.payload, dict) else None
        if type(given) is int:  # not a bool
            given = f"id {given}"
        names[root.id] = given if isinstance(given, str) else f"{root.type} {counts[root.type]:,}"
    return names
