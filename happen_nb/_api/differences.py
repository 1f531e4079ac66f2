"""A second run of the past: how it differs from the first one."""

from __future__ import annotations

import weakref
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from happen_nb._api.base import Displayable, RecordSequence, faces, frame, shown_by
from happen_nb._api.diagrams import TimelineDiagram
from happen_nb._api.events import Event
from happen_nb._api.forks import keep_stage
from happen_nb._api.handlers import Handlers
from happen_nb._api.history import Commit
from happen_nb._model.frozen import Diff, FrozenDict, diff
from happen_nb._model.records import EMPTY, CommitRecord, EventRecord, HandledRecord
from happen_nb._model.schedules import REAL_CLOCK, ClockMoves
from happen_nb._model.two_runs import (
    Entry,
    EntryDifference,
    Kind,
    chain_names,
    chain_noun,
    compare,
    root_of,
    side_by_side,
)

if TYPE_CHECKING:
    import pandas as pd

    from happen_nb._api.space import Space
    from happen_nb._runtime.registrations import Registration
    from happen_nb._runtime.runtime import Runtime


class Difference(Displayable):
    """An event or a commit that is not the same in both runs.

    Attributes
    ----------
    kind : "new", "gone", "changed" or "moved"
        It is only in the second run, only in the first one, has other content, or is in another place.
    before : Event or Commit or None
        The item of the first run.
    now : Event or Commit or None
        The item of the second run.
    root : str
        The id of the event from outside, or of the commit of a cell, that caused it.
    """

    _page = shown_by("reprs_runs.difference_page")
    _pickle = "pickle differences.to_frame()"

    def __init__(self, found: EntryDifference, before: Runtime, now: Runtime) -> None:
        self.kind: Kind = found.kind
        self.before = _shown(found.before, before)
        self.now = _shown(found.now, now)
        self.root = found.root

    @property
    def either(self) -> Event | Commit:
        """The item of the first run, or else that of the second one."""
        found = self.before if self.before is not None else self.now
        assert found is not None
        return found

    @property
    def node(self) -> str:
        """The node of the commit, or the sender of the event."""
        return self.either.sender if isinstance(self.either, Event) else self.either.node


def _shown(entry: Entry | None, runtime: Runtime) -> Event | Commit | None:
    if entry is None:
        return None
    return Event(entry, runtime) if isinstance(entry, EventRecord) else Commit(*entry, runtime.space)


class Differences(RecordSequence[Difference]):
    """The events and commits that are not the same in both runs, in the order of the second run.

    Examples
    --------
    >>> event = orders.broadcast("order.paid")
    >>> again = space.rerun(instead=lambda event: None)
    >>> [(each.kind, each.node) for each in again.differences]
    [('gone', 'orders')]
    """

    _page = shown_by("reprs_runs.differences_page")
    _pickle = "pickle differences.to_frame()"

    def __init__(self, items: Sequence[Difference]) -> None:
        self._items = list(items)

    def to_frame(self) -> pd.DataFrame:
        """Return a frame with one row per difference.

        Returns
        -------
        pandas.DataFrame
            Columns: ``difference`` ("new", "gone", "changed" or "moved"), ``kind`` ("commit" or "event"),
            ``node`` (an event's sender), ``type`` (of events), ``before`` and ``now`` (the payload of an
            event, the state after a commit), ``sequence_before`` and ``sequence_now``, and ``root``.

        Examples
        --------
        >>> event = orders.broadcast("order.paid", {"id": "o1"})
        >>> frame = space.rerun(instead=lambda event: {"id": "o2"}).differences.to_frame()
        >>> frame[["difference", "type", "before", "now"]].values.tolist()
        [['changed', 'order.paid', {'id': 'o1'}, {'id': 'o2'}]]
        """
        import pandas as pd

        data: dict[str, Any] = {
            "difference": [each.kind for each in self],
            "kind": [type(each.either).__name__.lower() for each in self],
            "node": [each.node for each in self],
            "type": [getattr(each.either, "type", None) for each in self],
        }
        for name in ("before", "now"):
            data[name] = [_content(getattr(each, name)) for each in self]
            data[f"sequence_{name}"] = [getattr(getattr(each, name), "sequence", None) for each in self]
        data["root"] = [each.root for each in self]
        return frame(pd.RangeIndex(len(self)), data)


def _content(item: Event | Commit | None) -> Any:
    return item.payload if isinstance(item, Event) else None if item is None else item.after


class BeforeNow(NamedTuple):
    """The state of a node at the end of both runs."""

    before: FrozenDict
    now: FrozenDict

    @property
    def diff(self) -> Diff:
        """The changes from the first run to the second one."""
        return diff(self.before, self.now)


class RunRecords(NamedTuple):
    """One of the two runs."""

    runtime: Runtime
    entries: list[Entry]  # the events and commits, in order
    handled: Sequence[HandledRecord]  # the handlings of these events
    states: Mapping[str, FrozenDict]  # the states at its end
    clock: ClockMoves = REAL_CLOCK  # the moves of a manual clock


class ChangedHandlers(Handlers):
    """The handlers of all nodes whose source has changed since the first run."""

    _page = shown_by("reprs_runs.changed_handlers_page")

    def __init__(self, registrations: Sequence[Registration]) -> None:
        super().__init__("", registrations)


def _missing(before: RunRecords) -> tuple[str, ...]:
    """Return the handlers of the first run that this process no longer has."""
    registrations, ownership = before.runtime.registrations, before.runtime.ownership
    present = {(each.node, each.name) for each in registrations.all()}
    ended = {
        (record.node, record.handler)
        for record in before.handled
        if record.accepted and (record.node, record.handler) not in present and ownership.is_ours(record.node)
    }
    return tuple(f"{node} {handler}" for node, handler in sorted(ended))


def _unrepeated(before: RunRecords, now: RunRecords) -> tuple[str, ...]:
    """Return the handlers that were stopped or repeated from outside in the first run only."""
    one, other = _endings(before), _endings(now)
    found = {
        f"{node} {handler}"
        for (event, node, handler), outcomes in one.items()
        if (again := other.get((event, node, handler)))
        and (len(outcomes) > len(again) or outcomes.count("cancelled") > again.count("cancelled"))
    }
    return tuple(sorted(found))


def _endings(run: RunRecords) -> Mapping[tuple[str, str, str], list[str]]:
    """Return how each handler has ended for each event, as often as it was called."""
    found: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for record in dict.fromkeys(run.handled):  # one whose answer was lost may be stored twice
        if record.waited is not None:
            found[record.event, record.node, record.handler].append(record.outcome)
    return found


class Rerun(Displayable):
    """A second run of the past, and its differences; made by ``space.rerun``.

    Attributes
    ----------
    of : str
        The name of the original space.
    space : Space
        The fork in which it happened: with journal, traces and timeline. It exists until the Rerun is dropped
        or the original space is closed, unless you `keep` it.
    changed : Handlers
        The handlers whose source has changed since then.
    missing : tuple of str
        The handlers of this process that handled something then and are no longer registered: each as
        ``"node function"``. Their effects are missing in the second run.
    overtaken : tuple of str
        The handlers that stood still for so long that the others went on without them, each as ``"node
        function"``. What the others did meanwhile may have come too early.
    unrepeated : tuple of str
        The handlers for which the second run did not do what code outside of handlers did, such as
        ``reply.cancel()`` or ``failures.retry()``, each as ``"node function"``: one that was stopped then has
        run in full, or one that was repeated has run once.
    elsewhere : mapping of str to int
        The nodes of other processes, whose handlers were not rerun, with the number of their events and
        commits, which were fed in unchanged.

    Examples
    --------
    >>> @inventory.on("order.paid")
    ... def take(event):
    ...     inventory.state.set(lambda state: {"pens": state["pens"] - event.payload})
    >>> stocked = inventory.state.set({"pens": 7})
    >>> trace = orders.broadcast("order.paid", 2).settle()
    >>> space.rerun().same
    True
    >>> space.rerun(instead=lambda event: 3).states["inventory"]
    BeforeNow(before={'pens': 5}, now={'pens': 4})
    """

    _page = shown_by("reprs_runs.rerun_page")
    _pickle = "pickle rerun.differences.to_frame()"

    def __init__(
        self,
        original: Space,
        space: Space,
        before: RunRecords,
        now: RunRecords,
        changed: Sequence[Registration],
        elsewhere: Mapping[str, int],
        chains: Mapping[str, EventRecord],
        overtaken: tuple[str, ...] = (),
    ) -> None:
        self.of = original.name
        self.space = space
        self.changed: Handlers = ChangedHandlers(changed)
        self.elsewhere = elsewhere
        self.missing = _missing(before)
        self.overtaken = overtaken
        self.unrepeated = _unrepeated(before, now)
        self._before = before
        self._now = now
        self._chains = chains
        self._original = original
        self._forget: Callable[[], object] = lambda: None
        self._is_kept = False
        roots = {id: id for id in chains}
        for entry in (*before.entries, *now.entries):
            if isinstance(entry, EventRecord) and entry.id not in roots:
                roots[entry.id] = root_of(entry.origin, roots) or entry.id
        self._found = compare(before.entries, now.entries, roots)

    @property
    def same(self) -> bool:
        """True if the second run stored the same events and commits in the same order."""
        return not self._found

    @cached_property
    def differences(self) -> Differences:
        """The events and commits that are not the same in both runs, in the order of the second run."""
        before, now = self._before.runtime, self._now.runtime
        return Differences([Difference(each, before, now) for each in self._found])

    @property
    def first(self) -> Difference | None:
        """The first difference; None if there is none."""
        return self.differences[0] if self._found else None

    @property
    def states(self) -> Mapping[str, BeforeNow]:
        """The state of each node at the end of the first run, and of the second one.

        Nodes whose commits differ come first.
        """
        before, now = self._before.states, self._now.states
        first = {entry.node: None for found in self._found for entry in _commits(found)}
        names = [name for name in first if name in before or name in now]
        names += sorted(name for name in {*before, *now} if name not in first)
        return {name: BeforeNow(before.get(name, EMPTY), now.get(name, EMPTY)) for name in names}

    # -- for its display -------------------------------------------------------------------------------

    @property
    def events(self) -> int:
        """The number of events of the second run."""
        return sum(isinstance(entry, EventRecord) for entry in self._now.entries)

    @property
    def failures(self) -> int:
        """The number of handlings that failed in the second run."""
        return sum(record.outcome == "failed" for record in self._now.handled)

    @property
    def chains(self) -> tuple[str, int, list[str]]:
        """The name of the causal chains, their number, and the names of those that differ.

        If some have different effects, those whose effects differ only in their order are left out.
        """
        names = chain_names(self._chains.values())
        found = [each for each in self._found if each.kind != "moved"] or self._found
        differing = dict.fromkeys(each.root for each in found if each.root in names)
        return chain_noun(self._chains.values()), len(names), [names[id] for id in differing]

    # -- pictures and spaces -----------------------------------------------------------------------------

    def timeline(self) -> TimelineDiagram:
        """Draw both runs in one picture: a lane for each node, and one below it for the same node now.

        What happened in both runs is at the time of the first one.

        Returns
        -------
        TimelineDiagram

        Examples
        --------
        >>> event = orders.broadcast("order.paid")
        >>> space.rerun().timeline()
        Timeline of ... · 2 events
          orders        1 event
          orders (now)  1 event
        """
        before, now = self._before, self._now
        colours = before.runtime.colours()
        found, lanes = side_by_side(
            self.of, before.entries, now.entries, before.handled, now.handled, colours
        )
        return TimelineDiagram(replace(found, clock=before.clock), lanes)

    async def _keep(self, name: str | None = None) -> Space:
        """Keep the space of the rerun, which would otherwise be dropped together with the Rerun.

        Parameters
        ----------
        name : str, optional
            The name under which to keep it. By default, the one that ``rerun(name=...)`` gave it.

        Returns
        -------
        Space
            It has the journal of the rerun, and no handlers. The attribute `space` refers to it from now on.

        Raises
        ------
        SpaceNotEmptyError
            A space of that name already exists.
        ValueError
            The rerun is already kept under another name.

        Examples
        --------
        >>> event = orders.broadcast("order.paid")
        >>> kept = space.rerun().keep("what-if")
        >>> [event.type for event in kept.events()]
        ['order.paid']
        >>> kept.drop()
        """
        if self._is_kept and name not in (None, self.space.name):
            here = self.space.name
            raise ValueError(f'keep: the rerun is already kept as "{here}"; fork that space to make a copy')
        kept = await keep_stage(self._original, self.space, name)
        self._forget()
        self._forget, self._is_kept = lambda: None, True
        self.space = kept
        return kept

    keep, akeep = faces(_keep)

    def tie(self, original: Runtime, drop: Callable[[], object]) -> None:
        """Drop the space when the Rerun is dropped, or the original is closed."""
        end = weakref.finalize(self, drop)
        end.atexit = False  # the server may have ended; the space is unfinished, and the next rerun uses it
        disconnect = original.on_closing.connect(end)

        def forget() -> None:
            end.detach()
            disconnect()

        self._forget = forget


def _commits(found: EntryDifference) -> list[CommitRecord]:
    entries = (found.before, found.now)
    return [entry[0] for entry in entries if entry is not None and not isinstance(entry, EventRecord)]
