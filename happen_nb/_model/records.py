"""Records in the journal: commits, events, handlings and owners."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from happen_nb._model.freeze import (
    check_integers,
    dumps,
    freeze_state,
    is_intact,
    loads,
    shares_intact,
    stored_value,
)
from happen_nb._model.frozen import Frozen, FrozenDict, FrozenList, equal
from happen_nb._model.patterns import Pattern
from happen_nb._model.quoting import add_note
from happen_nb.errors import FrozenStateError, StateError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from happen_nb._model.positions import Positions

MAX_PATH_CHARACTERS: Final = 40_000  # characters of the ids of a path, as JSON: it must fit into a header
EMPTY: FrozenDict = freeze_state({}, node="")
_LARGE_BYTES: Final = 16_384  # from here on, comparing two texts costs less than encoding a state once more


class Origin(NamedTuple):
    """The cause of a change.

    Parameters
    ----------
    cause : str, optional
        The id of the event whose handling made the change.
    correlation : str, optional
        The id of the first event of the causal chain.
    by : str, optional
        The node whose handler made the change.
    path : tuple of str, optional
        The ids of the causal chain, from the first cause to the last.
    omitted : int, optional
        The number of ids that a long path omits after its first.
    """

    cause: str | None = None
    correlation: str | None = None
    by: str | None = None
    path: tuple[str, ...] = ()
    omitted: int = 0

    @property
    def depth(self) -> int:
        """The length of the causal chain."""
        return len(self.path) + self.omitted

    def then(self, id: str, *, cause: str | None, correlation: str | None, by: str | None) -> Origin:
        """Return the origin of the effects of `id`, which has this origin itself.

        A path that gets too long for a header keeps its first id and its newest ones.
        """
        path, omitted = _extended(self.path, self.omitted, id)
        return Origin(cause, correlation, by, path, omitted)


def _extended(path: tuple[str, ...], omitted: int, id: str) -> tuple[tuple[str, ...], int]:
    """Return a path with one more id, and the number of ids that it omits."""
    if not path:
        return (id,), omitted
    path = (*path, id)
    excess = _encoded_size(path) - MAX_PATH_CHARACTERS
    kept = 1
    while excess > 0 and kept < len(path) - 1:
        excess -= _encoded_size((path[kept],))
        kept += 1
    return (*path[:1], *path[kept:]), omitted + kept - 1


def _encoded_size(ids: tuple[str, ...]) -> int:
    """Return the characters of ids in a JSON array in ASCII."""
    joined = "".join(ids)
    if joined.isascii():  # a long chain has a thousand of them, and asks for each event
        return 3 * len(ids) + len(joined)
    return sum(3 + (len(id) if id.isascii() else 6 * len(id)) for id in ids)


NO_ORIGIN = Origin()


@dataclass(slots=True, unsafe_hash=True)  # a frozen one takes five times as long to make
class EventRecord:
    """An event as the journal stores it; ``sequence`` and ``time`` (ns) are 0 until it is stored.

    It is immutable, except for `check`.
    """

    id: str
    type: str
    sender: str
    payload: Any = None
    target: str | None = None
    cause: str | None = None
    correlation: str | None = None
    path: tuple[str, ...] = ()
    occurred: str | None = None
    publish_id: str | None = None
    """Set if the caller chose the id: unique for all senders and types, it identifies an attempt to store."""
    omitted: int = 0  # the number of ids that a long path omits after its first
    key: str | None = None  # the key of the step of a durable handler that emitted it
    sequence: int = 0
    index: int = 0
    time: int = 0
    body: bytes | None = field(default=None, repr=False, compare=False)
    """The payload as JSON, by which `check` detects a change in place."""
    due: str | None = None  # the time at which a scheduled event is due, as `schedules.utc_text` writes it
    alarm: str | None = None
    """The id of the alarm of a scheduled event and, after a space, of this scheduling."""
    scheduled: int = field(default=0, compare=False)
    """The sequence at which it was scheduled, or the first at which it can have been; 0 if unknown."""
    _path: tuple[tuple[str, ...], int] | None = field(default=None, init=False, repr=False, compare=False)
    """The path of its effects."""

    def as_stored(self, sequence: int, time: int, index: int = 0) -> EventRecord:
        """Return the event as it is stored at a position."""
        return EventRecord(  # in a tenth of the time of `dataclasses.replace`
            self.id,
            self.type,
            self.sender,
            self.payload,
            self.target,
            self.cause,
            self.correlation,
            self.path,
            self.occurred,
            self.publish_id,
            self.omitted,
            self.key,
            sequence,
            index,
            time,
            self.body,
            self.due,
            self.alarm,
            self.scheduled,
        )

    @property
    def alarm_id(self) -> str:
        """The id under which it is scheduled; its own, if it is not the tick of an ``every``."""
        return self.id if self.alarm is None else self.alarm.partition(" ")[0]

    @property
    def tick(self) -> str | None:
        """The id of the ``every`` that calls its handler with this event."""
        return self.alarm_id if self.alarm is not None and "~" in self.alarm else None

    @property
    def has_caller_id(self) -> bool:
        return self.publish_id is not None

    @property
    def position(self) -> tuple[int, int]:
        """Its position in the journal's order."""
        return self.sequence, self.index

    @property
    def origin(self) -> Origin:
        return Origin(self.cause, self.correlation, None, self.path, self.omitted)

    def origin_of_effects(self, node: str) -> Origin:
        """Return the origin of what a node emits and commits when it handles the event."""
        if self._path is None:  # many nodes handle it
            self._path = _extended(self.path, self.omitted, self.id)
        path, omitted = self._path
        return Origin(self.id, self.correlation or self.id, node, path, omitted)

    def check(self) -> None:
        """Restore the payload and raise FrozenStateError if code has changed it in place."""
        payload, body = self.payload, self.body
        if body is None or type(payload) not in (FrozenDict, FrozenList) or is_intact(payload, body):
            return
        restored = stored_value(payload, body, f'the payload of "{self.type}"')
        if restored is None:  # another client encoded the same value differently
            self.body = dumps(payload)
            return
        self.payload = restored[0]
        raise restored[1]


class HandledRecord(NamedTuple):
    """One handling of an event by a handler of a node.

    ``outcome`` is "done", "failed", "refused" (by its ``where`` filter) or "cancelled"; ``duration`` is in
    seconds; ``by`` is the incarnation of the process that handled it. ``waited`` is the time in seconds from
    the storage of the event to the first call of the handler, or None; ``reply`` is a short reply as JSON;
    ``position`` is the journal position of that process when the handler first read or emitted something,
    else at the first call; ``handling`` identifies the handling if the handler is durable; ``now`` is the
    time that the handler has read from its context; ``late`` has the ids of scheduled events that it could
    not cancel, each with the position of the journal.
    """

    # A tuple is the fastest to create, and ten nodes that handle ten thousand events need 100,000 of them.

    event: str
    node: str
    handler: str
    outcome: str
    duration: float = 0.0
    error: str | None = None
    attempts: int = 1
    by: str = ""
    waited: float | None = None
    reply: str | None = None
    position: int | None = None
    handling: str | None = None
    now: str | None = None
    late: tuple[tuple[str, int], ...] | None = None

    @property
    def accepted(self) -> bool:
        """True unless the handler's filter refused the event."""
        return self.outcome != "refused"


class OwnerRecord(NamedTuple):
    """The process that handles the events of a node; `incarnation` is None if there is none.

    ``sequence`` is the position of the record; 0 if a clear carried it over, and its subject has no message.
    ``since`` is the position of the first record of this ownership; 0 if it is this one. ``takeover`` is True
    if the previous owner had died.
    """

    node: str
    incarnation: str | None
    patterns: tuple[str, ...] = ()
    pid: int = 0
    host: str = ""
    since: int = 0
    takeover: bool = False
    sequence: int = 0
    state_handlers: tuple[str, ...] = ()  # the keys of its state handlers
    durable: tuple[str, ...] = ()  # the patterns of its durable handlers
    sources: tuple[tuple[str, str], ...] = ()  # the keys of its handlers, each with a digest of the source

    @property
    def claimed(self) -> int:
        """The position from which on the process owns the node."""
        return self.since or self.sequence

    def handles(self, type: str) -> bool:
        return any(Pattern.of(each).matches(type) for each in self.patterns)


@dataclass(slots=True, eq=False, repr=False)
class CommitRecord:
    """A stored state of a node; its body is decoded on first access.

    Parameters
    ----------
    node : str
    sequence : int
        Its position in the journal.
    revision : int
        Its number among the node's commits, from 1.
    time : int
        The server's time stamp, in ns since 1970.
    body : bytes or None
        The state as JSON; None for a deletion. It is kept with the decoded state, to detect changes in
        place.
    id : str, optional
        The commit's id; None if another key-value client wrote it.
    read_position : int
        The journal position of the snapshot that the transform read; 0 if unknown.
    origin : Origin
    events : tuple of EventRecord
        The events that the commit emitted in the same message.
    positions : mapping of str to Progress, optional
        The progress of the node's state handlers; None if the message does not carry it.
    key : str, optional
        The key of the step of a durable handler that made the commit.
    folded : tuple of str
        The ids of the events that a state handler applied with this commit, besides its cause.
    """

    node: str
    sequence: int
    revision: int
    time: int
    body: bytes | None
    id: str | None = None
    read_position: int = 0
    origin: Origin = NO_ORIGIN
    events: tuple[EventRecord, ...] = ()
    positions: Positions | None = None
    key: str | None = None
    folded: tuple[str, ...] = ()
    _state: FrozenDict | None = field(default=None, init=False)

    @property
    def deleted(self) -> bool:
        """True if the commit deletes the node, which then reads as ``{}``."""
        return self.body is None

    @property
    def state(self) -> FrozenDict:
        """The frozen state.

        Raises
        ------
        StateError
            Another client stored something else than a JSON object.
        """
        if self.body is None:
            return EMPTY
        state = self._state
        if state is None:
            state = self._decode(self.body)
            self.body = dumps(state)  # as this process encodes it, which may differ from the stored body
            self._state = state
        return state

    def peek(self) -> dict[str, Any]:
        """Return the state for reading only; it may be unfrozen, since freezing takes most of the time."""
        body, state = self.body, self._state
        if state is not None or body is None:
            return self.state
        try:
            value = orjson.loads(body)
            check_integers(body)
        except ValueError:
            return self.state
        return value if type(value) is dict else self.state

    @property
    def causal_id(self) -> str:
        """The id that stands for it in causal paths: its own, if it has one."""
        return self.id or f"{self.node}.{self.sequence}"

    @property
    def is_readable(self) -> bool:
        """True if `state` can be decoded."""
        if self._state is not None:
            return True
        try:
            return self.state is not None
        except StateError:
            return False

    def adopt(self, state: FrozenDict) -> None:
        """Set the state that this process encoded as `body`, so that it need not be decoded."""
        self._state = state

    def as_stored(self, sequence: int, time: int) -> CommitRecord:
        """Take the position and the time at which this process has stored it."""
        self.sequence, self.time = sequence, time
        if self.events:
            stored = [event.as_stored(sequence, time, index) for index, event in enumerate(self.events)]
            self.events = tuple(stored)
        return self

    def check(self, new: Frozen = None, new_body: bytes | None = None) -> None:
        """Restore the state and raise FrozenStateError if code has changed it in place.

        `new` and `new_body` may be a state derived from this one and its JSON, by which a large state is
        checked faster.
        """
        state, body = (EMPTY, b"{}") if self.body is None else (self._state, self.body)
        if state is None:
            return  # it was never decoded
        if new_body is not None and new is state and new_body == body:
            return
        is_large = new_body is not None and new is not state and len(body) >= _LARGE_BYTES
        if is_large and shares_intact(state, body, new, new_body or b""):
            return
        if is_intact(state, body):
            return
        restored = stored_value(state, body, f'the state of node "{self.node}"')
        if restored is not None:
            stored, error = restored
            if state is EMPTY:
                dict.clear(EMPTY)
            else:
                assert isinstance(stored, FrozenDict)
                self._state = stored
            raise error

    def _decode(self, body: bytes) -> FrozenDict:
        try:
            state = loads(body)
        except ValueError as error:
            problem = str(error)
        else:
            if type(state) is FrozenDict:
                return state
            problem = f"it is a JSON {type(state).__name__.removeprefix('Frozen').lower()}, not an object"
        raise StateError(
            f'node "{self.node}" holds no readable state at revision {self.revision}: another client wrote '
            f"{len(body)} bytes there ({problem}). Replace it with state.set({{...}}), or go back with "
            f"state.revert({self.revision - 1})"
        )


def unstored(
    node: str,
    state: FrozenDict,
    body: bytes | None,
    origin: Origin = NO_ORIGIN,
    events: tuple[EventRecord, ...] = (),
    positions: Positions | None = None,
    key: str | None = None,
    folded: tuple[str, ...] = (),
) -> CommitRecord:
    """Return the record of a commit to store; its writer gives it an id and a revision."""
    record = CommitRecord(node, 0, 0, 0, body, None, 0, origin, events, positions, key, folded)
    if body is not None:
        record.adopt(state)
    return record


def revision_after(previous: CommitRecord | None) -> int:
    return 1 if previous is None else previous.revision + 1


class Cut(NamedTuple):
    """A consistent snapshot: the states of all nodes at one position of the journal.

    ``nodes`` maps each node to its newest record, deletions included; it never changes.
    """

    nodes: Mapping[str, CommitRecord] = MappingProxyType({})
    position: int = 0
    written: int = 0  # the sequence of the newest commit of any node


def is_stored(record: CommitRecord | None, state: FrozenDict, body: bytes) -> bool:
    """Return True if a record holds this state; False where another client stored what cannot be read."""
    if record is None or record.body is None:
        return not state
    if not record.is_readable or len(record.body) != len(body):  # equal JSON is equally long
        return False
    if record.body == body:
        return True
    return record.state == state and equal(record.state, state)  # the first is faster, and takes 1 for True


def check(node: str, record: CommitRecord | None) -> None:
    """Restore the state of a node and raise FrozenStateError if code has changed it in place."""
    if record is not None:
        record.check()
    elif EMPTY:  # all nodes without commits share it
        empty = CommitRecord(node, 0, 0, 0, None)
        empty.adopt(EMPTY)
        empty.check()


def checked_body(node: str, record: CommitRecord | None, new: FrozenDict) -> bytes:
    """Return the JSON of a new state after the `check` of the state it was made from."""
    body = None
    try:
        body = dumps(new)
    finally:  # a change in place may be the reason for an error of the JSON
        if record is None:
            check(node, None)
        else:
            record.check(new, body)
    return body


def check_viewed(cut: Cut, viewed: Collection[str]) -> None:
    """Check the states that a transform viewed, but large ones only when their own node commits."""
    for name in viewed:
        record = cut.nodes.get(name)
        if record is not None and len(record.body or b"") < _LARGE_BYTES:
            record.check()


def note_damage(node: str, record: CommitRecord | None, error: Exception) -> None:
    """Restore a state that a transform changed in place before it raised, and add a note to its error."""
    try:
        check(node, record)
    except FrozenStateError as damage:
        add_note(error, str(damage))
