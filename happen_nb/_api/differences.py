"""The differences between the two runs of a stretch of the past."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from happen_nb._api.base import Displayable, RecordSequence, frame
from happen_nb._api.events import Event
from happen_nb._api.history import Commit
from happen_nb._display.reprs_runs import difference_page, differences_page
from happen_nb._model.causality import CommitPair
from happen_nb._model.frozen import Diff, FrozenDict, diff
from happen_nb._model.past import EntryDifference
from happen_nb._model.records import EventRecord

if TYPE_CHECKING:
    import pandas as pd

    from happen_nb._runtime.runtime import Runtime

Entry = CommitPair | EventRecord
Kind = Literal["new", "gone", "changed", "moved"]


class Difference(Displayable):
    """An event or a commit that is not the same in both runs.

    Attributes
    ----------
    kind : "new", "gone", "changed" or "moved"
        It happened only in the second run, only in the first one, with other content, or in another order.
    before : Event or Commit or None
        What happened in the first run.
    now : Event or Commit or None
        What happened in the second run.
    root : str
        The id of the event from outside, or of the commit of a cell, that led to it.
    """

    _page = difference_page
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
    return Event(entry, runtime) if isinstance(entry, EventRecord) else Commit(*entry)


class Differences(RecordSequence[Difference]):
    """The events and commits that are not the same in both runs, in the order of the second run.

    Examples
    --------
    >>> event = orders.broadcast("order.paid")
    >>> again = space.rerun(instead=lambda event: None)
    >>> [(each.kind, each.node) for each in again.differences]
    [('gone', 'orders')]
    """

    _page = differences_page
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
