"""A recorded stretch of a journal: encoded as JSON with differences in place of states, and decoded.

The columns of each kind of record are lists, in which sequences and times are differences from the row
before: equal neighbours compress well.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import accumulate, count, pairwise
from typing import Any, Final

from happen_nb._model.causality import CommitPair
from happen_nb._model.freeze import dumps, freeze, freeze_state
from happen_nb._model.frozen import Change, FrozenDict, diff, equal
from happen_nb._model.paths import Masks, Steps, lookup
from happen_nb._model.records import EMPTY, CommitRecord, EventRecord, HandledRecord, Origin
from happen_nb._model.schedules import from_text

FORMAT: Final = 1
MAX_SOURCE_CHARACTERS: Final = 20_000  # characters of a handler's source

_STORED, _DELETED, _UNREADABLE = 0, 1, 2  # kinds of commits
_OUTCOMES: Final = ("done", "failed", "refused", "cancelled")
_NO_NODE: Final = -1
_NO_COLOUR: Final = -1
_MIN_MOVED: Final = 5  # changes in a list, from which on it may have moved on
_MAX_MOVED: Final = 16  # items that it may have dropped
_MAX_EXACT: Final = 2**53  # JavaScript rounds larger integers
_EXACT: Final = "\x01"  # starts the text of a number that JavaScript would write differently

_MAX_NUMBER: Final = (2**63 - 1) // 1000  # µs, or a sequence
_NUMBERS: Final = {
    "events": ("sequence", "index", "time", "type", "sender", "target", "cause"),
    "commits": ("sequence", "time", "node", "revision", "kind", "read", "cause", "by"),
    "handled": ("event", "node", "handler", "outcome", "waited", "took", "attempts"),
}
"""The columns of whole numbers."""

Data = dict[str, Any]


@dataclass(frozen=True)
class RecordedJournal:
    """A stretch of a journal, in its order, with what a recording shows of it."""

    space: str
    title: str
    events: Sequence[EventRecord]
    commits: Sequence[CommitPair]
    handled: Sequence[HandledRecord] = ()
    start: Mapping[str, CommitRecord] = field(default_factory=dict)
    """The newest record of each node before the stretch, where it is known."""
    position: int = 0  # the sequence after which the stretch starts
    sources: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Node and name of a handler -> its source."""
    partial: bool = False  # True if older records were left out
    clocks: Sequence[tuple[int, int]] = ()
    """The moves of a manual clock: a sequence, and the time from it on in µs."""
    gone: Collection[str] = ()  # the nodes whose state before the stretch was no longer stored
    colours: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.events) + len(self.commits)

    def newest(self, number: int) -> RecordedJournal:
        """Return the newest `number` events and commits; those of one message stay together."""
        sequences = sorted(
            [event.sequence for event in self.events] + [pair[0].sequence for pair in self.commits]
        )
        first = sequences[-number] if number else sequences[-1] + 1
        start = dict(self.start)
        start |= {record.node: record for record, _ in self.commits if record.sequence < first}
        events = [event for event in self.events if event.sequence >= first]
        ids = {event.id for event in events}
        return replace(
            self,
            events=events,
            commits=[pair for pair in self.commits if pair[0].sequence >= first],
            handled=[record for record in self.handled if record.event in ids],
            start=start,
            position=first - 1,
            partial=True,
        )


# -- encode ------------------------------------------------------------------------------------------


_Numbers = defaultdict[Any, int]


def _numbers() -> _Numbers:
    """Return a mapping that numbers its keys in the order in which they are first asked for."""
    return defaultdict(count().__next__)


def encode(recorded: RecordedJournal, masks: Masks) -> Data:
    """Return a recorded journal as JSON values."""
    nodes, types, handlers = _numbers(), _numbers(), _numbers()
    events = {event.id: index for index, event in enumerate(recorded.events)}
    data: Data = {
        "format": FORMAT,
        "space": recorded.space,
        "title": recorded.title,
        "position": recorded.position,
        "partial": recorded.partial,
        "start": [
            [
                nodes[node],
                record.revision,
                record.sequence,
                record.time // 1000,
                _encode_value(masks.state(node, record.state)),
            ]
            for node, record in recorded.start.items()
            if record.is_readable and not record.deleted
        ],
        "events": _encode_events(recorded.events, events, nodes, types, masks),
        "commits": _encode_commits(recorded, events, nodes, masks),
        "handled": _encode_handled(recorded.handled, events, nodes, handlers, masks),
        "clocks": {
            "sequence": _deltas(sequence for sequence, _ in recorded.clocks),
            "time": _deltas(time for _, time in recorded.clocks),
        },
        "gone": [nodes[node] for node in recorded.gone if node not in recorded.start],
    }
    data["handlers"] = [
        [nodes[node], name, masks.scrub(recorded.sources.get((node, name), ""))[:MAX_SOURCE_CHARACTERS]]
        for node, name in handlers
    ]
    data["colours"] = [recorded.colours.get(node, _NO_COLOUR) for node in nodes]
    return data | {"nodes": list(nodes), "types": list(types)}


def _encode_events(
    events: Sequence[EventRecord], known: Mapping[str, int], nodes: _Numbers, types: _Numbers, masks: Masks
) -> Data:
    by_index = dict(enumerate(events))
    return {
        "sequence": _deltas(event.sequence for event in events),
        "index": [event.index for event in events],
        "time": _deltas(event.time // 1000 for event in events),
        "id": [event.id for event in events],
        "type": [types[event.type] for event in events],
        "sender": [nodes[event.sender] for event in events],
        "target": [_NO_NODE if event.target is None else nodes[event.target] for event in events],
        "cause": [_back(known, event.cause, index) for index, event in enumerate(events)],
        "origin": _origins((event.origin for event in events), known, by_index),
        "occurred": {index: event.occurred for index, event in by_index.items() if event.occurred},
        "due": {index: event.due for index, event in by_index.items() if event.due},
        "payload": [_encode_value(masks.payload(event.payload)) for event in events],
    }


def _encode_commits(
    recorded: RecordedJournal, known: Mapping[str, int], nodes: _Numbers, masks: Masks
) -> Data:
    records = [record for record, _ in recorded.commits]
    states: dict[str, FrozenDict] = {
        node: record.state for node, record in recorded.start.items() if record.is_readable
    }
    newest = {node: record.revision for node, record in recorded.start.items()}
    diffs, steps = [], []
    for record in records:
        steps.append(record.revision - newest.get(record.node, 0))
        newest[record.node] = record.revision
        before = states.get(record.node, EMPTY)
        if record.is_readable:
            states[record.node] = record.state
        changes = _differences(before, states.get(record.node, EMPTY))
        diffs.append(_encode_diff(record.node, changes, masks))
    by_index = dict(enumerate(recorded.events))
    return {
        "sequence": _deltas(record.sequence for record in records),
        "time": _deltas(record.time // 1000 for record in records),
        "id": [record.id for record in records],
        "node": [nodes[record.node] for record in records],
        "revision": steps,  # from the record of the node before
        "kind": [_kind(record) for record in records],
        "read": [record.read_position and record.sequence - record.read_position for record in records],
        "cause": _deltas(known.get(record.origin.cause or "", -1) + 1 for record in records),
        "by": [_NO_NODE if record.origin.by is None else nodes[record.origin.by] for record in records],
        "origin": _origins((record.origin for record in records), known, by_index),
        "diff": diffs,
    }


def _kind(record: CommitRecord) -> int:
    if record.deleted:
        return _DELETED
    return _STORED if record.is_readable else _UNREADABLE


def _differences(before: FrozenDict, after: FrozenDict) -> list[Change]:
    """Return the changes between two states, in which lists that have moved on are short.

    `diff` compares items in pairs. A list that drops its first items and appends others differs everywhere.
    """
    kept: list[Change] = []
    in_lists: dict[Steps, list[Change]] = {}
    for change in diff(before, after):
        path = _outermost_list(before, change.path)
        (kept if path is None else in_lists.setdefault(path, [])).append(change)
    for path, changes in in_lists.items():
        old, new = lookup(before, path), lookup(after, path)
        moved = _moved(old, new) if len(changes) >= _MIN_MOVED else 0
        if not moved:
            kept += changes
            continue
        stay = len(old) - moved
        kept += [Change("add", (*path, index), None, new[index]) for index in range(stay, len(new))]
        kept += [Change("remove", (*path, index), old[index], None) for index in range(moved)]
    return kept


def _outermost_list(state: Any, path: Steps) -> Steps | None:
    for depth, step in enumerate(path):
        if isinstance(state, list):
            return path[:depth]
        state = state.get(step)
    return None


def _moved(old: Sequence[Any], new: Sequence[Any]) -> int:
    """Return how many items a list has dropped at its start; 0 if it has not only moved on."""
    for dropped in range(1, min(_MAX_MOVED, len(old) - 1) + 1):
        stay = len(old) - dropped
        if stay <= len(new) and all(a is b or equal(a, b) for a, b in zip(old[dropped:], new, strict=False)):
            return dropped
    return 0


def _encode_diff(node: str, changes: Iterable[Change], masks: Masks) -> list[Any]:
    """Encode changes: ``[path, after]``, for an addition ``[path, after, 1]``, for a removal ``[path]``."""
    encoded: list[Any] = []
    for change in changes:
        path = list(change.path)
        if masks and masks.covers(node, change.path[:-1]):
            continue
        if change.op == "remove":
            encoded.append([path])
        elif change.op == "add":
            encoded.append([path, _encode_value(masks.state(node, change.after, change.path)), 1])
        elif not (masks and masks.covers(node, change.path)):
            encoded.append([path, _encode_value(masks.state(node, change.after, change.path))])
    return encoded


def _encode_handled(
    records: Iterable[HandledRecord],
    known: Mapping[str, int],
    nodes: _Numbers,
    handlers: _Numbers,
    masks: Masks,
) -> Data:
    records = [record for record in records if record.event in known]
    return {
        "event": _deltas(known[record.event] for record in records),
        "node": [nodes[record.node] for record in records],
        "handler": [handlers[record.node, record.handler] for record in records],
        "outcome": [_OUTCOMES.index(record.outcome) for record in records],
        "waited": [-1 if record.waited is None else round(record.waited * 1e6) for record in records],
        "took": [round(record.duration * 1e6) for record in records],
        "attempts": [record.attempts for record in records],
        "error": {i: masks.scrub(each.error) for i, each in enumerate(records) if each.error is not None},
        "reply": {i: _encode_reply(each.reply, masks) for i, each in enumerate(records) if each.reply},
    }


def _encode_reply(text: str, masks: Masks) -> Any:
    try:
        return _encode_value(masks.payload(json.loads(text)))
    except ValueError:  # another client's
        return _encode_value(masks.scrub(text))


def _deltas(numbers: Iterable[int]) -> list[int]:
    numbers = list(numbers)
    return [*numbers[:1], *(b - a for a, b in pairwise(numbers))]


def _back(known: Mapping[str, int], cause: str | None, index: int) -> int:
    """Return the distance to the cause of an event; 0 if it has none, or one that was not recorded."""
    at = known.get(cause) if cause is not None else None
    return 0 if at is None or at >= index else index - at


def _origins(
    origins: Iterable[Origin], known: Mapping[str, int], events: Mapping[int, EventRecord]
) -> dict[int, Any]:
    """Return the origins that do not follow from their recorded cause."""
    found: dict[int, Any] = {}
    for index, origin in enumerate(origins):
        cause = None if origin.cause is None else known.get(origin.cause)
        followed = Origin() if cause is None else _after(events[cause], origin.by)
        if origin._replace(by=None) != followed._replace(by=None):
            found[index] = [origin.cause, origin.correlation, list(origin.path), origin.omitted]
    return found


def _after(event: EventRecord, by: str | None) -> Origin:
    """Return the origin of the effects of an event's handler."""
    return event.origin.then(event.id, cause=event.id, correlation=event.correlation or event.id, by=by)


def _encode_value(value: Any) -> Any:
    """Encode a value for JavaScript, which rounds large integers and writes 1.0 as 1."""
    if isinstance(value, Mapping):
        return {key: _encode_value(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_encode_value(part) for part in value]
    if isinstance(value, str):
        return _EXACT + value if value.startswith(_EXACT) else value
    is_odd = isinstance(value, float) and (value.is_integer() or "e" in repr(value))
    is_large = type(value) is int and abs(value) > _MAX_EXACT
    return f"{_EXACT}{value!r}" if is_odd or is_large else value


# -- decode ------------------------------------------------------------------------------------------


def decode(data: Any) -> RecordedJournal:
    """Return the recorded journal in JSON values; ValueError if a later version made it, or they are none."""
    if not isinstance(data, dict) or type(data.get("format")) is not int:
        raise ValueError("it holds no recording")
    if data["format"] != FORMAT:
        raise ValueError(f"its format is {data['format']}, and this version reads {FORMAT}")
    try:
        _check(data)
        return _decode(data)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
        raise ValueError(f"its data are damaged ({type(error).__name__}: {error})") from error


def _check(data: Data) -> None:
    """Raise an error for a value of another type than `encode` writes."""
    texts = [data["space"], data["title"], *data["nodes"], *data["types"], *data["events"]["id"]]
    texts += [text for _, name, source in data["handlers"] for text in (name, source)]
    texts += [*data["events"]["occurred"].values(), *data["handled"]["error"].values()]
    texts += [id for id in data["commits"]["id"] if id is not None]
    numbers = [data["position"], *(number for each in data["start"] for number in each[:4])]
    for kind, columns in _NUMBERS.items():
        for column in columns:
            numbers += data[kind][column]
    for column in (*_clocks(data).values(), data.get("gone", []), data.get("colours", [])):
        numbers += column
    for kind in ("events", "commits"):
        for cause, correlation, path, omitted in data[kind]["origin"].values():
            texts += [*(each for each in (cause, correlation) if each is not None), *path]
            numbers.append(omitted)
    for values, kind_of_value in ((texts, str), (numbers, int)):
        wrong = [value for value in values if type(value) is not kind_of_value]
        if wrong:
            raise TypeError(f"{wrong[0]!r:.80} is not of type {kind_of_value.__name__}")
    for text in data["events"]["occurred"].values():
        datetime.fromisoformat(text)
    for text in data["events"].get("due", {}).values():
        from_text(text)


def _clocks(data: Data) -> Data:
    """Return the columns of the moves of a manual clock, which older files do not have."""
    columns: Data = data.get("clocks", {"sequence": [], "time": []})
    return columns


def _sums(differences: Iterable[int]) -> Iterator[int]:
    """Return the sequences or times (in µs) that are stored as differences from the one before."""
    for number in accumulate(differences):
        if not 0 <= number <= _MAX_NUMBER:
            raise ValueError(f"{number:,} is out of range")
        yield number


def _decode(data: Data) -> RecordedJournal:
    nodes, types = data["nodes"], data["types"]
    events = _decode_events(data["events"], nodes, types)
    start = {}
    for number, revision, sequence, time, encoded in data["start"]:
        state = freeze_state(_decode_value(encoded), node=nodes[number])
        start[nodes[number]] = _record(nodes[number], sequence, revision, time * 1000, state)
    handlers = [(nodes[node], name) for node, name, _ in data["handlers"]]
    return RecordedJournal(
        data["space"],
        data["title"],
        events,
        _decode_commits(data["commits"], nodes, events, start),
        _decode_handled(data["handled"], nodes, events, handlers),
        start,
        data["position"],
        {handlers[i]: source for i, (_, _, source) in enumerate(data["handlers"]) if source},
        data["partial"],
        list(zip(*(accumulate(_clocks(data)[name]) for name in ("sequence", "time")), strict=True)),
        [nodes[number] for number in data.get("gone", [])],
        {
            node: number
            for node, number in zip(nodes, data.get("colours", ()), strict=False)
            if number != _NO_COLOUR
        },
    )


def _decode_events(columns: Data, nodes: Sequence[str], types: Sequence[str]) -> list[EventRecord]:
    events: list[EventRecord] = []
    sequences, times = _sums(columns["sequence"]), _sums(columns["time"])
    for i, (sequence, time) in enumerate(zip(sequences, times, strict=True)):
        back, target = columns["cause"][i], columns["target"][i]
        origin = _origin(columns["origin"], i, events[i - back] if back else None, None)
        payload = freeze(_decode_value(columns["payload"][i]))
        events.append(
            EventRecord(
                columns["id"][i],
                types[columns["type"][i]],
                nodes[columns["sender"][i]],
                payload,
                None if target == _NO_NODE else nodes[target],
                origin.cause,
                origin.correlation,
                origin.path,
                columns["occurred"].get(str(i)),
                omitted=origin.omitted,
                sequence=sequence,
                index=columns["index"][i],
                time=time * 1000,
                body=dumps(payload),
                due=columns.get("due", {}).get(str(i)),  # older files do not have it
            )
        )
    return events


def _origin(others: Data, index: int, cause: EventRecord | None, by: str | None) -> Origin:
    if (other := others.get(str(index))) is not None:
        id, correlation, path, omitted = other
        return Origin(id, correlation, by, tuple(path), omitted)
    return Origin(by=by) if cause is None else _after(cause, by)


def _decode_commits(
    columns: Data, nodes: Sequence[str], events: Sequence[EventRecord], start: Mapping[str, CommitRecord]
) -> list[CommitPair]:
    newest = dict(start)
    states = {node: record.state for node, record in start.items()}
    pairs: list[CommitPair] = []
    sums = (_sums(columns[name]) for name in ("sequence", "time", "cause"))
    for i, (sequence, time, cause) in enumerate(zip(*sums, strict=True)):
        node, by = nodes[columns["node"][i]], columns["by"][i]
        states[node] = _applied(states.get(node, EMPTY), columns["diff"][i], node)
        before = newest.get(node)
        revision = columns["revision"][i] + (0 if before is None else before.revision)
        state = None if columns["kind"][i] == _DELETED else states[node]
        record = _record(node, sequence, revision, time * 1000, state)
        read = columns["read"][i]
        record.id, record.read_position = columns["id"][i], sequence - read if read else 0
        name = None if by == _NO_NODE else nodes[by]
        record.origin = _origin(columns["origin"], i, events[cause - 1] if cause else None, name)
        known = before is not None and before.revision == record.revision - 1
        pairs.append((record, before if known else None))
        newest[node] = record
    return pairs


def _record(node: str, sequence: int, revision: int, time: int, state: FrozenDict | None) -> CommitRecord:
    record = CommitRecord(node, sequence, revision, time, None if state is None else dumps(state))
    if state is not None:
        record.adopt(state)
    return record


def _decode_handled(
    columns: Data, nodes: Sequence[str], events: Sequence[EventRecord], handlers: Sequence[tuple[str, str]]
) -> list[HandledRecord]:
    replies = columns["reply"]
    return [
        HandledRecord(
            events[event].id,
            nodes[columns["node"][i]],
            handlers[columns["handler"][i]][1],
            _OUTCOMES[columns["outcome"][i]],
            columns["took"][i] / 1e6,
            columns["error"].get(str(i)),
            columns["attempts"][i],
            waited=None if columns["waited"][i] < 0 else columns["waited"][i] / 1e6,
            reply=dumps(freeze(_decode_value(replies[str(i)]))).decode() if str(i) in replies else None,
        )
        for i, event in enumerate(_sums(columns["event"]))
    ]


def _decode_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _decode_value(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_decode_value(part) for part in value]
    if isinstance(value, str) and value.startswith(_EXACT):
        text = value[1:]
        return text if text.startswith(_EXACT) else json.loads(text)
    return value


def _applied(state: FrozenDict, changes: Sequence[Any], node: str) -> FrozenDict:
    """Return a state with changes made to it: removals first, from the end of a list on."""
    if not changes:
        return state
    root: Any = [state]
    removals = [change for change in changes if len(change) == 1]
    for path, *after in [*reversed(removals), *(change for change in changes if len(change) > 1)]:
        _change([0, *path], root, after)
    return freeze_state(root[0], node=node)


def _change(path: Sequence[Any], part: Any, after: Sequence[Any]) -> None:
    """Change a part in place; frozen containers on the way become plain copies."""
    *above, last = path
    for step in above:
        inner = part[step]
        if type(inner) not in (dict, list):
            inner = part[step] = dict(inner) if isinstance(inner, dict) else list(inner)
        part = inner
    if not after:
        del part[last]
    elif len(after) > 1 and isinstance(part, list):
        part.insert(last, _decode_value(after[0]))
    else:
        part[last] = _decode_value(after[0])


def fit(
    recorded: RecordedJournal, write: Callable[[RecordedJournal], str], limit: int
) -> tuple[RecordedJournal, str] | None:
    """Return the newest part of a recorded journal whose text has at most `limit` bytes, and that text.

    None if the states alone are larger.
    """
    text = write(recorded)
    while (size := len(text.encode())) > limit:
        number = len(recorded)
        if not number:
            return None
        recorded = recorded.newest(min(number - 1, int(number * limit / size * 0.9)))
        text = write(recorded)
    return recorded, text
