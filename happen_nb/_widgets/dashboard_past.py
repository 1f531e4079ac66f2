"""The changes that a dashboard shows, and its ways back: compare with a point in time, revert, and fork."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from happen_nb._api.forks import start_from
from happen_nb._api.history import Commit
from happen_nb._display.changes import changes, in_a_line
from happen_nb._display.values import Budget
from happen_nb._journal.commits import commit_at_sequence, with_previous
from happen_nb._model.frozen import diff
from happen_nb._model.records import EMPTY, CommitRecord
from happen_nb._runtime.io import on_io, run_blocking
from happen_nb._runtime.replica import forkable_states
from happen_nb._widgets.dashboard_actions import Json, error_line, line
from happen_nb.errors import HappenError, HistoryGoneError, UnknownNodeError

if TYPE_CHECKING:
    from happen_nb._api.node import Node
    from happen_nb._api.space import Space
    from happen_nb._journal.stream import Stream
    from happen_nb._runtime.replica import Applied

MAX_COMPARED: Final = 60  # changes that are shown between then and now
_LINE_COLUMNS: Final = 72

StateSource = CommitRecord | HistoryGoneError | None


def change_lines(
    stream: Stream, sequences: Iterable[int], recent: Mapping[int, Applied]
) -> dict[int, list[list[str]]]:
    """Return what the commits at these positions changed, in a line each."""
    lines: dict[int, list[list[str]]] = {}
    for sequence in sequences:
        found = recent.get(sequence) or run_blocking(_read(stream, sequence))
        if found is not None:
            lines[sequence] = _change_line(Commit(*found))
    return lines


async def _read(stream: Stream, sequence: int) -> tuple[CommitRecord, CommitRecord | None] | None:
    record = await on_io(commit_at_sequence(stream, sequence))
    if record is None:
        return None
    ((_, before),) = await on_io(with_previous(stream, [record]))
    return record, before


def _change_line(commit: Commit) -> list[list[str]]:
    if commit.deleted:
        return [["deleted", "del"]]
    try:
        return line(in_a_line(commit.diff, _LINE_COLUMNS)[0])
    except HappenError as error:  # the state before is gone, or one of them cannot be read
        return error_line(error)


def comparison(then: StateSource, now: StateSource) -> Json:
    """Return the changes of a node from a point in time until now: sign, path and values of each."""
    try:
        found = diff(_state(then), _state(now))
    except HappenError as error:
        return {"changes": [["", "", error_line(error)]], "more": 0}
    rows = changes(found, Budget(folds=False), limit=MAX_COMPARED)
    lines = [[row.sign, row.label, line(row.preview or row.value)] for row in rows.rows]
    return {"changes": lines, "more": rows.hidden}


def _state(record: StateSource) -> Any:
    if isinstance(record, HistoryGoneError):
        raise record
    return EMPTY if record is None or record.deleted else record.state


def revert(node: Node, then: StateSource) -> str:
    """Commit the state that a node had at a point in time, and return what it did."""
    if isinstance(then, HistoryGoneError):
        raise then
    if then is None or then.deleted:
        raise UnknownNodeError(f'node "{node.name}" had no state then; go to a later point in time')
    commit = node.state.revert(then.revision)
    if not commit.changed:
        return f"{node.name} already has the state of revision {then.revision:,}"
    return f"{node.name} has the state of revision {then.revision:,} again, as revision {commit.revision:,}"


def fork(space: Space, name: str, records: Mapping[str, StateSource]) -> str:
    """Make a new space from the states at a point in time, and return what it did."""
    there = {node: record for node, record in records.items() if record is not None}
    run_blocking(start_from(space, name, forkable_states(there)))
    return f'space "{name}" starts from here: happen.connect(name="{name}")'
