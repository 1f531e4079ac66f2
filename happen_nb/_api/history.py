"""Commits, and the history of a node."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import chain, count
from numbers import Integral
from typing import TYPE_CHECKING, Any

from happen_nb._api.base import Displayable, Listing
from happen_nb._display.reprs_state import commit_page, history_page
from happen_nb._model.diff import Diff, diff
from happen_nb._model.paths import (
    MISSING,
    Selector,
    format_path,
    lookup,
    missing_hint,
    parse_path,
    select,
)
from happen_nb._model.records import EMPTY, CommitRecord
from happen_nb.errors import HistoryGoneError

if TYPE_CHECKING:
    import pandas as pd
    from plotly.graph_objects import Figure

    from happen_nb._model.frozen import FrozenDict

log = logging.getLogger("happen_nb")

NO_CHANGE = Diff()
MAX_INT64 = 2**63 - 1


class Commit(Displayable):
    """One accepted change of a node's state, shown as a colored diff.

    It has the fields `node`, `revision`, `before`, `after`, `diff`, `changed`, `deleted`, `id`, `cause`,
    `correlation`, `by`, `time` and `sequence`.

    Examples
    --------
    >>> commit = orders.state.set({"open": 2})
    >>> commit = orders.state.set({"open": 3})
    >>> commit.revision, commit.before, commit.after
    (2, {'open': 2}, {'open': 3})
    """

    _page = commit_page

    def __init__(
        self, record: CommitRecord, previous: CommitRecord | None, *, unchanged_at: int | None = None
    ) -> None:
        self._record = record
        self._previous = previous
        self._unchanged_at = unchanged_at
        self._diff: Diff | None = None

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
        """The time at which the server stored it, in UTC."""
        return utc(self._record.time)

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
            raise HistoryGoneError(f'node "{self.node}": revision {self.revision - 1} is not stored any more')
        return previous.state

    @property
    def diff(self) -> Diff:
        """The changes from `before` to `after`: a sequence of `Change`, shown in color.

        Raises
        ------
        HistoryGoneError
            The state before is no longer stored.
        """
        if self._diff is None:
            self._diff = diff(self.before, self.after) if self.changed else NO_CHANGE
        return self._diff


def _chain(records: Sequence[CommitRecord], before: dict[str, CommitRecord]) -> list[Commit]:
    newest = dict(before)
    commits = []
    for record in records:
        commits.append(Commit(record, newest.get(record.node)))
        newest[record.node] = record
    return commits


class History(Listing[Commit]):
    """The stored commits of a node: a sequence, newest last.

    Attributes
    ----------
    node : str
        The name of the node.
    truncated : bool
        True if older commits are no longer stored. A limit alone does not count.

    Examples
    --------
    >>> for open in (1, 2):
    ...     commit = orders.state.set({"open": open})
    >>> history = orders.state.history()
    >>> [commit.revision for commit in history], history.truncated
    ([1, 2], False)
    """

    _page = history_page
    _pickle = "pickle list(history), as a Commit can be pickled, or history.to_frame(...)"

    def __init__(
        self,
        node: str,
        records: Sequence[CommitRecord],
        limit: int | None,
        *,
        truncated: bool,
        occurred: Callable[[Sequence[CommitRecord]], list[datetime | None]],
    ) -> None:
        self.node = node
        self.truncated = truncated
        self._occurred = occurred
        shown = records if limit is None else records[max(0, len(records) - limit) :]
        earlier = {record.node: record for record in records[: len(records) - len(shown)]}
        self._items = _chain(shown, earlier)

    def to_frame(self, *selectors: Selector, **named: Selector) -> pd.DataFrame:
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
            Index ``revision``. Columns: ``time`` in UTC, then one for each selector.

        Examples
        --------
        >>> commit = orders.state.set({"open": 2})
        >>> orders.state.history().to_frame("open")["open"].tolist()
        [2]
        """
        import pandas as pd

        data: dict[str, Any] = {"time": times(commit.time for commit in self)}
        data |= self._columns(selectors, named, data)
        return frame(pd.Index([commit.revision for commit in self], name="revision"), data)

    def plot(self, *selectors: Selector, x: Selector = "time", **named: Selector) -> Figure:
        """Draw values over time, one row each: numbers as steps, other values as bands.

        Parameters
        ----------
        *selectors, **named : path or callable
            The values to draw, as for `to_frame`; by default the numbers, strings and booleans at the top
            level of the newest state. A missing value leaves a gap.
        x : "time", "revision", "occurred", path or callable, optional
            The horizontal axis: the time of storage, the revision, the event time of the commit's cause
            (commits without one are left out), or a part of the state. For a key "time" of the state, pass
            the path ``("time",)``.

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
        from happen_nb._display.plots.values import Commits, shown_at_first, values

        moments, revisions = [commit.time for commit in self], [commit.revision for commit in self]
        known: dict[str, tuple[str, Sequence[Any]]] = {
            "time": ("time, UTC", moments),
            "revision": ("revision", revisions),
        }
        if isinstance(x, str) and x in known:
            title, places = known[x]
        elif x == "occurred":
            title, places = "when it occurred, UTC", self._occurred([commit._record for commit in self])
        else:
            title, places = _name(x), self._values(x)
        if not selectors and not named and self:
            selectors = shown_at_first(self[-1].after)
        commits = Commits(self.node, revisions, moments, places, title)
        return values(commits, self._columns(selectors, named, ()))

    def _columns(
        self, selectors: Iterable[Selector], named: Mapping[str, Selector], taken: Collection[str]
    ) -> dict[str, list[Any]]:
        """Return the values of each selector, by its column name."""
        columns: dict[str, list[Any]] = {}
        for name, selector in [*((_name(selector), selector) for selector in selectors), *named.items()]:
            columns[_unused(name, {*taken, *columns})] = self._values(selector)
        return columns

    def _values(self, selector: Selector) -> list[Any]:
        """Return the value after each commit; log a hint if a path is missing in every state."""
        values = [lenient(commit.after, selector) for commit in self]
        if (
            not callable(selector)
            and values
            and all(value is None for value in values)
            and all(lookup(commit.after, selector, MISSING) is MISSING for commit in self)
        ):
            log.warning('history of node "%s": %s', self.node, missing_hint(self[-1].after, selector))
        return values


def frame(index: pd.Index[Any], columns: Mapping[str, Any]) -> pd.DataFrame:
    """Make a frame with a column for each list of values, keeping their types."""
    import pandas as pd

    made = {}
    for name, values in columns.items():
        exact = object if isinstance(values, list) and _mixed(values) else None
        made[name] = pd.Series(values, dtype=exact, index=index)
    return pd.DataFrame(made, index=index)


def _mixed(values: Sequence[Any]) -> bool:
    """Return True if pandas would convert some values: None to NaN, or 1 to 1.0."""
    kinds = {*map(type, values)}
    whole = [kind for kind in kinds if issubclass(kind, Integral) and not issubclass(kind, bool)]
    if type(None) in kinds or (whole and any(issubclass(kind, float) for kind in kinds)):
        return True
    return kinds == {int} and min(values) < 0 and max(values) > MAX_INT64


def utc(ns: int) -> datetime:
    """Convert a server's timestamp, in ns since 1970."""
    seconds, rest = divmod(ns, 1_000_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)


def times(moments: Iterable[datetime | None]) -> pd.Index[Any]:
    """Make a column of times in UTC."""
    import pandas as pd

    return pd.DatetimeIndex([pd.NaT if moment is None else moment for moment in moments], tz=UTC)


def lenient(state: FrozenDict, selector: Selector) -> Any:
    """Return the selected part, or None if it is missing."""
    try:
        return select(state, selector)
    except (KeyError, IndexError, TypeError):
        return None


def _name(selector: Selector) -> str:
    if isinstance(selector, Callable):  # type: ignore[arg-type]
        return getattr(selector, "__name__", "value")
    return format_path(parse_path(selector)) or "state"  # type: ignore[arg-type]


def _unused(name: str, taken: Collection[str]) -> str:
    numbered = (f"{name}_{number}" for number in count(2))
    return next(candidate for candidate in chain([name], numbered) if candidate not in taken)
