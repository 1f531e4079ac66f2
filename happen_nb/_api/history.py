"""Commits, a node's history, the journal of a space, and the states at one point in time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import chain, count
from typing import TYPE_CHECKING, Any

from happen_nb._api.base import Displayable, RecordSequence, frame, more_times, shown_by, times, unknown_node
from happen_nb._api.events import Event, flattened, record_of, space_of_event
from happen_nb._frames import refusal
from happen_nb._journal.slice import find_events, position_at_space_time, position_at_time
from happen_nb._model import arguments, functions
from happen_nb._model.frozen import Diff, FrozenDict, diff
from happen_nb._model.paths import (
    MISSING,
    Selector,
    check_selector,
    format_path,
    lookup,
    missing_hint,
    parse_path,
    select,
)
from happen_nb._model.positions import LAST_INDEX
from happen_nb._model.quoting import quote
from happen_nb._model.records import EMPTY, CommitRecord
from happen_nb._model.schedules import ClockMoves, from_ns
from happen_nb._runtime.io import on_io
from happen_nb.errors import HistoryGoneError, PendingError

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from happen_nb._model.causality import CommitPair
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.runtime import Runtime

logger = logging.getLogger("happen_nb")
NO_CHANGE = Diff()
TIME, TIME_OF_SPACE = "time, UTC", "time of the space, UTC"
"""Titles of an axis of times, on a real and on a manual clock."""


class Commit(Displayable):
    """A stored change of a node's state, shown as a coloured diff.

    It has the fields `node`, `revision`, `before`, `after`, `diff`, `changed`, `deleted`, `id`, `cause`,
    `causes`, `correlation`, `by`, `time` and `sequence`. Two are equal if they are the same stored change.

    Examples
    --------
    >>> commit = orders.state.set({"open": 2})
    >>> commit = orders.state.set({"open": 3})
    >>> commit.revision, commit.before, commit.after
    (2, {'open': 2}, {'open': 3})
    """

    _page = shown_by("reprs_state.commit_page")

    def __init__(
        self,
        record: CommitRecord,
        previous: CommitRecord | None,
        space: str | None = None,
        *,
        unchanged_at: int | None = None,
        moment: int | None = None,
    ) -> None:
        self._record = record
        self._space = space
        self._moment = moment  # the time of the space, in ns; None if it is not known
        self._previous = previous
        self._unchanged_at = unchanged_at
        self._diff: Diff | None = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Commit):
            return NotImplemented
        return _identity(self) == _identity(other)

    def __hash__(self) -> int:
        return hash(_identity(self))

    @property
    def node(self) -> str:
        """The name of the node."""
        return self._record.node

    @property
    def revision(self) -> int:
        """The revision: 1 for the node's first commit, 2 for its second."""
        return self._record.revision

    @property
    def changed(self) -> bool:
        """False if the new state was equal to the old one, so that nothing was stored."""
        return self._unchanged_at is None

    @property
    def deleted(self) -> bool:
        """True if the commit deleted the node, which then reads as ``{}``."""
        return self._record.deleted

    @property
    def cause(self) -> str | None:
        """The id of the event whose handler made the commit; None for one from a cell or a script."""
        return self._record.origin.cause

    @property
    def causes(self) -> tuple[str, ...]:
        """The ids of all events that the commit applied: one, or several if a state handler folds."""
        cause = self._record.origin.cause
        return () if cause is None else (cause, *self._record.folded)

    @property
    def id(self) -> str | None:
        """The generated id of the commit; None if another client of the server wrote it."""
        return self._record.id

    @property
    def correlation(self) -> str | None:
        """The id of the first event of its causal chain; None for a commit from a cell or a script."""
        return self._record.origin.correlation

    @property
    def by(self) -> str | None:
        """The name of the node whose handler made the commit; None for one from a cell or a script."""
        return self._record.origin.by

    @property
    def sequence(self) -> int:
        """The position in the space's journal, which counts commits, events and other messages from 1."""
        return self._record.sequence

    @property
    def time(self) -> datetime:
        """The time at which the server stored it, in UTC and by its clock."""
        return from_ns(self._record.time)

    @property
    def _stored(self) -> datetime:
        """The time of storage, for a display: by the clock of the space, if that is known."""
        return self.time if self._moment is None else from_ns(self._moment)

    @property
    def read(self) -> int:
        """The journal position of the snapshot that its transform read."""
        if self._unchanged_at is not None:
            return self._unchanged_at
        record = self._record  # a commit of another client does not contain the position
        return record.sequence - 1 if record.id is None else record.read_position

    @property
    def after(self) -> FrozenDict:
        """The frozen state after the commit."""
        return self._record.state

    @property
    def before(self) -> FrozenDict:
        """The frozen state before the commit.

        Raises
        ------
        HistoryGoneError
            That state is no longer stored.
        """
        if not self.changed:
            return self.after
        previous = self._previous
        if self.revision <= 1:
            return EMPTY
        if previous is None or previous.revision != self.revision - 1:
            raise HistoryGoneError(f'node "{self.node}": revision {self.revision - 1} is no longer stored')
        return previous.state

    @property
    def diff(self) -> Diff:
        """The changes from `before` to `after`: a sequence of `Change`, shown in colour.

        Raises
        ------
        HistoryGoneError
            The state before is no longer stored.
        """
        if self._diff is None:
            self._diff = diff(self.before, self.after) if self.changed else NO_CHANGE
        return self._diff


def commit_record(commit: Commit) -> CommitRecord:
    return commit._record


def arrived(pair: CommitPair, runtime: Runtime, *, unchanged_at: int | None = None) -> Commit:
    """Return a commit that this process has just seen, with its time by the clock of the space."""
    moment = runtime.clock.time_at(pair[0].sequence)
    return Commit(*pair, runtime.space, unchanged_at=unchanged_at, moment=moment)


def _identity(commit: Commit) -> tuple[object, ...]:
    record = commit_record(commit)  # with its time, since a commit of another client has no id
    return record.node, record.sequence, record.time, record.id, commit.changed


class History(RecordSequence[Commit]):
    """The stored commits of a node: a sequence, newest last.

    Attributes
    ----------
    node : str
        The name of the node.
    truncated : bool
        True if older commits are no longer stored, regardless of the limit.

    Examples
    --------
    >>> for open in (1, 2):
    ...     commit = orders.state.set({"open": open})
    >>> history = orders.state.history()
    >>> [commit.revision for commit in history], history.truncated
    ([1, 2], False)
    """

    _page = shown_by("reprs_state.history_page")
    _pickle = "pickle list(history), as a Commit can be pickled, or history.to_frame(...)"

    def __init__(
        self,
        space: str,
        node: str,
        records: Sequence[CommitRecord],
        limit: int | None,
        *,
        truncated: bool,
        occurred: Callable[[Sequence[CommitRecord]], list[datetime | None]],
        clock: ClockMoves,
    ) -> None:
        self.node = node
        self.truncated = truncated
        self._occurred = occurred
        self._clock = clock
        commits = [
            Commit(record, before, space, moment=clock.time_of_space(record.time))
            for record, before in zip(records, [None, *records], strict=False)
        ]
        self._items = commits if limit is None else commits[max(0, len(commits) - limit) :]

    def to_frame(self, /, *selectors: Selector, **named: Selector) -> pd.DataFrame:
        """Return a frame with one row per commit.

        Parameters
        ----------
        *selectors, **named : path or callable
            Makes one column each, named by its path, function or keyword; a name that is taken gets a suffix
            ``_2`` and so on. The value is None if the path is missing, or if the callable raises KeyError,
            IndexError or TypeError. A path that is missing in every state is logged with the nearest one.

        Returns
        -------
        pandas.DataFrame
            Index ``revision``. Columns: ``time`` in UTC, ``space_time`` on a manual clock, the selectors.

        Examples
        --------
        >>> commit = orders.state.set({"open": 2})
        >>> orders.state.history().to_frame("open")["open"].tolist()
        [2]
        """
        import pandas as pd

        data: dict[str, Any] = {"time": times(commit.time for commit in self), **more_times(self)}
        data |= self._columns(selectors, named, data)
        return frame(pd.Index([commit.revision for commit in self], name="revision"), data)

    def plot(
        self, /, *selectors: Selector, x: Selector = "time", together: bool = False, **named: Selector
    ) -> Figure:
        """Draw values over time, one row each: numbers as steps, other values as bands.

        Parameters
        ----------
        *selectors, **named : path or callable
            The values to draw, as for `to_frame`; by default the numbers, strings and booleans at the top
            level of the newest state. A missing value leaves a gap.
        x : "time", "revision", "occurred", path or callable, optional
            The horizontal axis: the time of storage, by the clock of the space; the revision; the event time
            of the commit's cause (commits without one are left out); or a part of the state. For a key "time"
            of the state, pass the path ``("time",)``.
        together : bool, optional
            Draw all numbers in one row, with a legend. Other values keep rows of their own.

        Returns
        -------
        plotly.graph_objects.Figure

        Examples
        --------
        >>> for open in (1, 3, 2):
        ...     commit = orders.state.set({"open": open, "status": "busy" if open > 2 else "calm"})
        >>> figure = orders.state.history().plot("open", "status", x="revision")
        >>> [row.type for row in figure.data]
        ['scatter', 'bar']
        """
        from happen_nb._display.plots.history_plot import PlottedCommits, default_paths, history_plot

        records, revisions = list(map(commit_record, self)), [commit.revision for commit in self]
        title, moments = times_of(records, self._clock)
        known: dict[str, tuple[str, Sequence[Any]]] = {
            "time": (title, moments),
            "revision": ("revision", revisions),
        }
        if isinstance(x, str) and x in known:
            title, places = known[x]
        elif isinstance(x, str) and x == "occurred":
            title, places = "when it occurred, UTC", self._occurred(records)
        else:
            title, places = name_of(x), self._values(x)
        if not selectors and not named and self:
            selectors = default_paths(self[-1].after)
        commits = PlottedCommits(self.node, revisions, moments, places, title)
        return history_plot(commits, self._columns(selectors, named, ()), together=together)

    def _columns(
        self, selectors: Iterable[Selector], named: Mapping[str, Selector], taken: Collection[str]
    ) -> dict[str, list[Any]]:
        columns: dict[str, list[Any]] = {}
        for name, selector in [*((name_of(selector), selector) for selector in selectors), *named.items()]:
            columns[unused(name, {*taken, *columns})] = self._values(selector)
        return columns

    def _values(self, selector: Selector) -> list[Any]:
        """Return the value after each commit; log a hint if a path is missing in every state."""
        check_selector(selector)
        values = [lenient(commit.after, selector) for commit in self]
        if (
            not callable(selector)
            and values
            and all(value is None for value in values)
            and all(lookup(commit.after, selector, MISSING) is MISSING for commit in self)
        ):
            logger.warning('history of node "%s": %s', self.node, missing_hint(self[-1].after, selector))
        return values


def lenient(state: FrozenDict, selector: Selector) -> Any:
    """Return the selected part, or None if it is missing."""
    try:
        return select(state, selector)
    except (KeyError, IndexError, TypeError):
        return None


def name_of(selector: Selector) -> str:
    """Return the title of a selector: its path, or its function's name."""
    if callable(selector):
        return functions.attribute(selector, "__name__") or "value"
    return format_path(parse_path(selector)) or "state"


def unused(name: str, taken: Collection[str]) -> str:
    """Return a name, with a number if it is taken."""
    numbered = (f"{name}_{number}" for number in count(2))
    return next(candidate for candidate in chain([name], numbered) if candidate not in taken)


class Journal(RecordSequence[Commit | Event]):
    """Commits and events of a space in their one total order, newest last.

    Attributes
    ----------
    space : str
        The name of the space.

    Examples
    --------
    >>> commit = orders.state.set({"open": 1})
    >>> event = orders.broadcast("order.paid", {"id": "o1"})
    >>> [type(each).__name__ for each in space.journal()]
    ['Commit', 'Event']
    """

    _page = shown_by("reprs_state.journal_page")
    _pickle = "pickle journal.to_frame(...)"

    def __init__(self, space: str, items: Sequence[Commit | Event]) -> None:
        self.space = space
        self._items = list(items)

    @property
    def commits(self) -> Journal:
        """The commits only."""
        return Journal(self.space, [each for each in self if isinstance(each, Commit)])

    @property
    def events(self) -> Journal:
        """The events only."""
        return Journal(self.space, [each for each in self if isinstance(each, Event)])

    def to_frame(self, *, flatten: bool = False) -> pd.DataFrame:
        """Return a frame with one row per commit or event.

        Parameters
        ----------
        flatten : bool, optional
            Add a column ``payload.<key>`` for each key of the payloads, and a column ``payload`` if there
            are payloads that are not mappings.

        Returns
        -------
        pandas.DataFrame
            Index ``sequence``, which a commit shares with the events that it emitted. Columns: ``kind``
            ("commit" or "event"), ``time`` in UTC, ``node`` (an event's sender), ``type`` (of events),
            ``revision`` (of commits), ``id``, ``cause``, ``correlation``, ``by``, the node whose handler made
            the commit, ``space_time`` on a manual clock, and ``occurred`` if an event has it.

        Examples
        --------
        >>> commit = orders.state.set({"open": 1})
        >>> event = orders.broadcast("order.paid", {"id": "o1"})
        >>> frame = space.journal().to_frame(flatten=True)
        >>> frame[["kind", "node", "revision", "type", "payload.id"]].values.tolist()
        [['commit', 'orders', 1, None, None], ['event', 'orders', None, 'order.paid', 'o1']]
        """
        import pandas as pd

        data: dict[str, Any] = {
            "kind": [type(each).__name__.lower() for each in self],
            "time": times(each.time for each in self),
        }
        for name in ("node", "type", "revision", "id", "cause", "correlation", "by"):
            data[name] = [_attribute(each, name) for each in self]
        data |= more_times(self)
        if arguments.truth(flatten, "to_frame: flatten"):
            data |= flattened([each.payload if isinstance(each, Event) else None for each in self])
        return frame(pd.Index([each.sequence for each in self], name="sequence"), data)


def _attribute(item: Commit | Event, name: str) -> Any:
    """Return an attribute of an item, if it has one; the node of an event is its sender."""
    return getattr(item, "sender" if name == "node" and isinstance(item, Event) else name, None)


class Snapshot(Displayable, Mapping[str, "FrozenDict"]):
    """The states of all nodes at one point in time, by name; made by ``space.at``."""

    _page = shown_by("reprs_state.snapshot_page")

    def __init__(
        self, records: Mapping[str, CommitRecord | HistoryGoneError], *, was_cleared: bool = False
    ) -> None:
        self._records = records
        self._was_cleared = was_cleared

    def __contains__(self, name: object) -> bool:
        return name in self._records  # also one whose state is gone

    def __getitem__(self, name: str) -> FrozenDict:
        return self.state_of(name).get()

    def __iter__(self) -> Iterator[str]:
        return iter(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def state_of(self, name: str) -> StateAt:
        """Return the state of a node with its revision."""
        record = self._records.get(name)
        if record is None:
            since = ", which is from before the space was cleared" if self._was_cleared else ""
            raise unknown_node(name, list(self), f"the snapshot{since}")
        if isinstance(record, HistoryGoneError):
            raise record
        return StateAt(record)


class StateAt:
    """A node's state at that time."""

    def __init__(self, record: CommitRecord) -> None:
        self.record = record

    @property
    def revision(self) -> int:
        return self.record.revision

    def get(self) -> FrozenDict:
        return self.record.state


Since = Event | Commit | datetime | int
"""Select what comes after an event, a commit, a time (naive: local), or a sequence."""


async def position_of(log: Log, when: Any, name: str = "at") -> int:
    """Return the position of the last commit at a time; `name` is what the caller's parameter is called."""
    check_space(log, when, name)
    if isinstance(when, Commit):
        return when.read
    if isinstance(when, Event):
        return _stored_position(when, name)[0]  # the commit that emitted it has the same sequence
    if arguments.is_moment(when):
        moment = arguments.moment(when, name)
        find = position_at_time if log.clock is None else position_at_space_time
        return await find(log.stream, moment)
    raise refusal(
        TypeError,
        f"{name}: {quote(when)} is not a time; pass a datetime, an Event, a Commit, or (state.at) a revision",
    )


async def position_after(log: Log, since: Any, name: str = "since") -> tuple[int, int]:
    """Return the position after which `since` selects; `name` is the name of the caller's parameter."""
    check_space(log, since, name)
    if since is None:
        return 0, 0
    if isinstance(since, Event):
        return _stored_position(since, name)
    if isinstance(since, Commit):
        return since.sequence, -1
    if arguments.is_index(since):
        return arguments.count(since, name), LAST_INDEX
    if not arguments.is_moment(since):
        raise refusal(
            TypeError, f"{name} is {quote(since)}; pass an Event, a Commit, a datetime or a sequence"
        )
    return await on_io(position_of(log, since, name)), LAST_INDEX


def times_of(records: Iterable[CommitRecord], clock: ClockMoves) -> tuple[str, list[datetime]]:
    """Return the title of an axis of times, and the time of each commit by the clock of the space."""
    title = TIME_OF_SPACE if clock.stored else TIME
    return title, [from_ns(clock.time_of_space(record.time)) for record in records]


async def occurrences(log: Log, records: Sequence[CommitRecord]) -> list[datetime | None]:
    """Return the event time of each commit's nearest cause that has one, in UTC; a naive time is local."""
    from happen_nb._model.causality import event_time

    ids = {id for record in records for id in record.origin.path}
    newest = max((record.sequence for record in records), default=0)
    found = await on_io(find_events(log.stream, ids, before=newest)) if ids else {}
    return [event_time(record.origin, found) for record in records]


def check_space(log: Log, given: Any, call: str) -> None:
    """Refuse an event or a commit of another space, whose position has no meaning here."""
    if not isinstance(given, Event | Commit):
        return
    here, there = log.subjects.space, space_of(given)
    what = f'event "{given.type}"' if isinstance(given, Event) else f'commit of node "{given.node}"'
    if there is None:
        raise refusal(ValueError, f"{call}: the {what} belongs to no space; pass a stored one")
    if here != there:
        raise refusal(ValueError, f'{call}: the {what} belongs to the space "{there}", not to "{here}"')


def check_cleared(log: Log, position: int, call: str) -> None:
    """Refuse a position from before the space was cleared."""
    if position < log.cleared:
        raise HistoryGoneError(f'{call}: the space "{log.subjects.space}" has been cleared since then')


def space_of(given: Event | Commit) -> str | None:
    """Return the name of the space of an event or a commit; None if it belongs to none."""
    return given._space if isinstance(given, Commit) else space_of_event(given)


def _stored_position(event: Event, name: str) -> tuple[int, int]:
    if event.pending:
        raise PendingError(
            f"{name}: the event is pending; it has no position in the journal until its transform commits"
        )
    return record_of(event).position
