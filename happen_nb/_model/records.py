"""What the journal keeps: records of commits, of events, of who handles and who handled them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import compress
from operator import is_not
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import orjson

from happen_nb._model.diff import diff
from happen_nb._model.freeze import check_integers, dumps, freeze_state, loads
from happen_nb._model.frozen import Frozen, FrozenDict, FrozenList, equal
from happen_nb._model.paths import MISSING, Steps, format_path, lookup
from happen_nb.errors import FrozenStateError, StateError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

LARGE: Final = 16_384
"""Bytes from which on comparing two texts costs less than writing one more."""
_FEW: Final = 8
"""Changed parts of one container that are looked at one by one."""
_WRITERS: Final = {
    dict: ("mapping", "dict.update(state, ...) or exec(code, state)"),
    list: ("list", "heapq, bisect.insort, random.shuffle or list.append(x, ...)"),
}


def is_intact(value: Frozen, body: bytes) -> bool:
    """Whether `value` is still what `body` says, which :func:`happen_nb._model.freeze.dumps` wrote.

    Examples
    --------
    >>> import heapq
    >>> from happen_nb._model.freeze import freeze
    >>> queue = freeze([2, 5])
    >>> is_intact(queue, b"[2,5]")
    True
    >>> heapq.heappush(queue, 1)
    >>> is_intact(queue, b"[2,5]")
    False
    """
    try:
        return orjson.dumps(value) == body
    except orjson.JSONEncodeError:  # whatever was put in is not even JSON
        return False


def shares_intact(old: Frozen, body: bytes, new: Frozen, new_body: bytes) -> bool:
    """Whether a large `old` is intact, judged by what was made of it; False also where that is unclear.

    The new text must be the old one with another text in the place of each part that was replaced.
    """
    if len(body) < LARGE:
        return False
    replaced: list[tuple[bytes, bytes]] = []
    try:
        _find_replaced(old, new, replaced)
    except orjson.JSONEncodeError:
        return False
    pieces, at = [], 0
    for was, becomes in replaced:
        start = body.find(was, at)
        if start < 0:
            return False
        pieces += [body[at:start], becomes]
        at = start + len(was)
    return b"".join([*pieces, body[at:]]) == new_body


def _find_replaced(old: Any, new: Any, found: list[tuple[bytes, bytes]]) -> None:
    """Collect the texts of the parts of `old` that `new` has replaced, and the keys that lead there."""
    if old is new:
        return
    if type(old) is type(new) is FrozenDict and len(old) == len(new):
        keys = list(compress(new, map(is_not, new.values(), old.values())))
        if len(keys) <= _FEW and all(key in old for key in keys):
            for key in keys:
                name = orjson.dumps(key) + b":"
                found.append((name, name))
                _find_replaced(old[key], new[key], found)
            return
    if type(old) is type(new) is FrozenList and len(old) == len(new):
        indices = list(compress(range(len(new)), map(is_not, new, old)))
        if len(indices) <= _FEW:
            for index in indices:
                _find_replaced(old[index], new[index], found)
            return
    found.append((orjson.dumps(old), orjson.dumps(new)))


def restore(value: Frozen, body: bytes, what: str) -> tuple[Frozen, FrozenStateError] | None:
    """The stored value and the error to raise, if `value` is damaged; None if it only was written otherwise.

    Parameters
    ----------
    what : str
        What the value is, as the error calls it: ``'the state of node "orders"'``.
    """
    stored = loads(body)
    if is_intact(value, body) or equal(stored, value):
        return None
    steps = _damaged(stored, value)
    part = lookup(value, steps, MISSING) if steps else value
    kind, writers = _WRITERS[list if isinstance(part, list) else dict]
    place = f" at {format_path(steps)}" if steps else ""
    return stored, FrozenStateError(
        f"{what} was changed in place{place}: {writers} writes into a {kind} without calling its methods, "
        "which refuse that. Its stored value is restored; repeat the call with code that changes a copy: "
        "list(x), {**x} or copy.deepcopy(x)"
    )


def _damaged(stored: Frozen, value: Frozen) -> Steps:
    """Where the innermost container is that holds all of the damage."""
    paths = [change.path for change in diff(stored, value)]
    if not paths:
        return ()
    shared = paths[0][:-1]
    for path in paths[1:]:
        while path[: len(shared)] != shared:
            shared = shared[:-1]
    return shared


LONGEST_PATH = 40_000
"""Characters of the ids of a path, as JSON: it has to fit into a header."""
EMPTY: FrozenDict = freeze_state({}, node="")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a change comes from.

    Parameters
    ----------
    cause : str, optional
        The id of the event whose handling made the change.
    correlation : str, optional
        The id of the event that began the chain.
    by : str, optional
        The node whose handler made the change.
    path : tuple of str, optional
        The ids of all that led to it, from the first cause to the last.
    omitted : int, optional
        How many ids a long path leaves out after its first.
    """

    cause: str | None = None
    correlation: str | None = None
    by: str | None = None
    path: tuple[str, ...] = ()
    omitted: int = 0

    @property
    def depth(self) -> int:
        """The number of causes, one after the other."""
        return len(self.path) + self.omitted

    def then(self, id: str, *, cause: str | None, correlation: str | None, by: str | None) -> Origin:
        """The origin of what follows from `id`, which has this origin itself.

        A path that gets too long for a header keeps its first id and its newest ones.
        """
        path = (*self.path, id)
        over = sum(map(_size, path)) - LONGEST_PATH
        kept = 1
        while over > 0 and kept < len(path) - 1:
            over -= _size(path[kept])
            kept += 1
        return Origin(cause, correlation, by, (*path[:1], *path[kept:]), self.omitted + kept - 1)


def _size(id: str) -> int:
    """Characters of an id in a JSON array in ASCII."""
    return 3 + (len(id) if id.isascii() else 6 * len(id))


NO_ORIGIN = Origin()


@dataclass(frozen=True, slots=True)
class EventRecord:
    """An event as the journal stores it; ``sequence`` and ``time`` (ns) are 0 until it is stored."""

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
    """Given where the id is the caller's, unique over all senders and types: tells one try to store it from
    another's."""
    omitted: int = 0
    """How many ids a long path leaves out after its first."""
    sequence: int = 0
    index: int = 0
    time: int = 0
    body: bytes | None = field(default=None, repr=False, compare=False)
    """The payload as JSON, by which `check` notices what changes it in place."""

    @property
    def has_caller_id(self) -> bool:
        """Whether the id is the caller's."""
        return self.publish_id is not None

    @property
    def position(self) -> tuple[int, int]:
        """Where it stands in the journal's order."""
        return self.sequence, self.index

    @property
    def origin(self) -> Origin:
        """What led to the event."""
        return Origin(self.cause, self.correlation, None, self.path, self.omitted)

    def check(self) -> None:
        """Make sure that the payload is what it was; if it is not, restore it and raise.

        Raises
        ------
        FrozenStateError
            Code that does not call the methods of dicts and lists has changed it in place.
        """
        payload, body = self.payload, self.body
        if body is None or type(payload) not in (FrozenDict, FrozenList) or is_intact(payload, body):
            return
        restored = restore(payload, body, f'the payload of "{self.type}"')
        if restored is None:  # another client wrote the same otherwise
            object.__setattr__(self, "body", dumps(payload))
            return
        object.__setattr__(self, "payload", restored[0])
        raise restored[1]


class HandledRecord(NamedTuple):
    """One handling of an event by a handler of a node.

    ``outcome`` is "done", "failed", "refused" (a ``where`` said no) or "cancelled"; ``duration`` is in
    seconds; ``by`` is the incarnation of the process that handled it. A tuple is made fastest, and of these
    there are a hundred thousand where ten nodes hear ten thousand events.
    """

    event: str
    node: str
    handler: str
    outcome: str
    duration: float = 0.0
    error: str | None = None
    attempts: int = 1
    by: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the handler took the event, and its filter did not refuse it."""
        return self.outcome != "refused"


@dataclass(frozen=True, slots=True)
class OwnerRecord:
    """Which process handles the events of a node; `incarnation` is None where nobody does.

    ``sequence`` is the position of the record, 0 where a clear carried it on: nothing is on its subject.
    ``since`` is that of the first record of this ownership, 0 if it is this one. ``takeover`` says that the
    owner before had died.
    """

    node: str
    incarnation: str | None
    patterns: tuple[str, ...] = ()
    pid: int = 0
    host: str = ""
    since: int = 0
    takeover: bool = False
    sequence: int = 0

    @property
    def claimed(self) -> int:
        """The position from which on the process owns the node."""
        return self.since or self.sequence


class CommitRecord:
    """One stored state of a node; its body is decoded when it is first looked at.

    Parameters
    ----------
    node : str
    sequence : int
        Its position in the journal.
    revision : int
        How many commits the node has had, this one included.
    time : int
        The server's time stamp, in ns since 1970.
    body : bytes or None
        The state as JSON; None for a deletion. It stays beside the decoded state, to notice what changes that
        in place.
    id : str, optional
        The commit's id; None when another key-value client wrote it.
    read_position : int
        The journal position of the cut that the transform read; 0 if unknown.
    origin : Origin
    events : tuple of EventRecord
        What the commit emitted in the same message.
    """

    __slots__ = (
        "_state",
        "body",
        "events",
        "id",
        "node",
        "origin",
        "read_position",
        "revision",
        "sequence",
        "time",
    )

    def __init__(
        self,
        node: str,
        sequence: int,
        revision: int,
        time: int,
        body: bytes | None,
        id: str | None = None,
        read_position: int = 0,
        origin: Origin = NO_ORIGIN,
        events: tuple[EventRecord, ...] = (),
    ) -> None:
        self.node = node
        self.sequence = sequence
        self.revision = revision
        self.time = time
        self.body = body
        self.id = id
        self.read_position = read_position
        self.origin = origin
        self.events = events
        self._state: FrozenDict | None = EMPTY if body is None else None

    @property
    def deleted(self) -> bool:
        """Whether this is the end of the node; it then reads as ``{}``."""
        return self.body is None

    @property
    def state(self) -> FrozenDict:
        """The frozen state.

        Raises
        ------
        StateError
            Another client stored something that is not a JSON object.
        """
        state = self._state
        if state is None:
            state = self._decode(self.body)
            self.body = dumps(state)  # as this process writes it; another may have written it otherwise
            self._state = state
        return state

    def peek(self) -> dict[str, Any]:
        """The state for who only looks at it: it need not be frozen, which takes longest.

        Raises
        ------
        StateError
            As for `state`.
        """
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
        """What stands for it in the paths of what follows from it: its id, if it has one."""
        return self.id or f"{self.node}.{self.sequence}"

    @property
    def is_readable(self) -> bool:
        """Whether `state` can be decoded."""
        try:
            return self.state is not None
        except StateError:
            return False

    def adopt(self, state: FrozenDict) -> None:
        """Take over the state that this process wrote as `body`, so that it is not decoded again."""
        self._state = state

    def check(self, new: Frozen = None, new_body: bytes | None = None) -> None:
        """Make sure that the state is what is stored; if it is not, restore it and raise.

        Parameters
        ----------
        new, new_body : optional
            A state that was made of this one, and its JSON, by which a large state is checked faster.

        Raises
        ------
        FrozenStateError
            Code that does not call the methods of dicts and lists has changed it in place.
        """
        state, body = self._state, b"{}" if self.body is None else self.body
        if state is None:
            return  # nobody has had it
        if new_body is not None and (
            new_body == body if new is state else shares_intact(state, body, new, new_body)
        ):
            return
        if is_intact(state, body):
            return
        restored = restore(state, body, f'the state of node "{self.node}"')
        if restored is not None:
            stored, error = restored
            if state is EMPTY:
                dict.clear(EMPTY)
            else:
                assert isinstance(stored, FrozenDict)
                self._state = stored
            raise error

    def _decode(self, body: bytes | None) -> FrozenDict:
        assert body is not None
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


def revision_after(previous: CommitRecord | None) -> int:
    """The revision that follows `previous`."""
    return 1 if previous is None else previous.revision + 1


@dataclass(frozen=True, slots=True)
class Cut:
    """The states of all nodes at one position of the journal.

    ``nodes`` holds the newest record of each node, deletions included; it never changes once handed out.
    """

    nodes: Mapping[str, CommitRecord] = field(default_factory=dict)
    position: int = 0
    written: int = 0
    """The sequence of the newest commit of any node."""


def check(node: str, record: CommitRecord | None) -> None:
    """Make sure that the state of a node is what is stored; if it is not, restore it and raise.

    Raises
    ------
    FrozenStateError
        Code that does not call the methods of dicts and lists has changed it in place.
    """
    if record is not None:
        record.check()
    elif EMPTY:  # what nodes without commits share
        CommitRecord(node, 0, 0, 0, None).check()


def checked_body(node: str, record: CommitRecord | None, new: FrozenDict) -> bytes:
    """The JSON of a new state, made of one that still is what is stored; `check` tells what it raises."""
    body = None
    try:
        body = dumps(new)
    finally:  # an error of the JSON may come of the damage
        if record is None:
            check(node, None)
        else:
            record.check(new, body)
    return body


def check_viewed(cut: Cut, viewed: Collection[str]) -> None:
    """Check the states that a transform viewed; a large one is only checked when its own node commits."""
    for name in viewed:
        record = cut.nodes.get(name)
        if record is not None and len(record.body or b"") < LARGE:
            record.check()


def note_damage(node: str, record: CommitRecord | None, error: Exception) -> None:
    """Restore what a transform has changed in place before it raised, and add a note to its error."""
    try:
        check(node, record)
    except FrozenStateError as damage:
        error.add_note(str(damage))
