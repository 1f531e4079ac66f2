"""Parts of a dashboard: what is to come, the pace of the space, and its changes with the ways back."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from happen_nb._api.base import runtime_of
from happen_nb._api.events import cancel_scheduled
from happen_nb._api.forks import start_from
from happen_nb._api.history import Commit
from happen_nb._api.schedule import ScheduledEvents, read_next, scheduled_events
from happen_nb._display.changes import changes, in_a_line
from happen_nb._display.spans import MAX_TYPE_CHARACTERS, count, cut, cut_middle, name
from happen_nb._display.values import Budget
from happen_nb._journal.commits import commit_at_sequence, with_previous
from happen_nb._model.arguments import nanoseconds
from happen_nb._model.frozen import diff
from happen_nb._model.records import EMPTY, CommitRecord
from happen_nb._model.schedules import from_text
from happen_nb._runtime.io import on_io, run_blocking
from happen_nb._runtime.replica import forkable_states
from happen_nb._runtime.stepping import Stepper
from happen_nb._widgets.dashboard_actions import Json, error_line, line
from happen_nb.errors import HappenError, HistoryGoneError, UnknownNodeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from happen_nb._api.node import Node
    from happen_nb._api.pausing import Steps
    from happen_nb._api.space import Space
    from happen_nb._journal.stream import Stream
    from happen_nb._model.records import EventRecord
    from happen_nb._runtime.replica import Applied
    from happen_nb._runtime.runtime import Runtime


MAX_TO_COME: Final = 100
"""Scheduled events that are listed, those that are due next."""
MANY: Final = 1_000
"""With more, they are looked at only once a second."""
_LOOK_SECONDS: Final = 1.0
_NAME_COLUMNS: Final = 30
ASK_SECONDS: Final = 1.0
"""Time between two questions to other processes how many events wait there."""
MAX_COMPARED: Final = 60  # changes that are shown between then and now
_LINE_COLUMNS: Final = 72
StateSource = CommitRecord | HistoryGoneError | None


class ScheduledList:
    """Reports the next scheduled events to the browser, when they have changed. On workers."""

    def __init__(self, space: Space, send: Callable[[dict[str, Any]], object]) -> None:
        self._space_name, self._runtime, self._send = space.name, runtime_of(space), send
        self._alarms = self._runtime.log.alarms
        self._records: list[EventRecord] = []
        self._number = 0
        self._version = -1
        self._look_at = 0.0
        self.actions: dict[str, Callable[[Mapping[str, Any]], None]] = {"cancelScheduled": self._cancel}
        """The requests that the browser may make."""

    @property
    def events(self) -> ScheduledEvents:
        """The events that were reported last."""
        return scheduled_events(self._space_name, self._records, self._runtime)

    def message(self) -> dict[str, Any]:
        """Return the events, as they were read last."""
        return {"scheduled": [_row(record) for record in self._records], "toCome": self._number}

    def news(self) -> dict[str, Any]:
        """Return the events if they have changed, else nothing."""
        if not self.has_news:
            return {}
        self._version = self._alarms.version
        self._records, self._number = run_blocking(_next(self._runtime, self._records))
        self._look_at = time.monotonic() + (_LOOK_SECONDS if self._number > MANY else 0.0)
        return self.message()

    @property
    def has_news(self) -> bool:
        """True if there is something to report. From any thread."""
        return self._alarms.version != self._version and time.monotonic() >= self._look_at

    def _cancel(self, message: Mapping[str, Any]) -> None:
        done = run_blocking(cancel_scheduled(self._runtime, str(message["id"])))
        self._send({"type": "done", "text": "cancelled" if done else "too late: it is no longer scheduled"})


async def _next(runtime: Runtime, known: list[EventRecord]) -> tuple[list[EventRecord], int]:
    found: tuple[list[EventRecord], int] = await on_io(read_next(runtime, MAX_TO_COME, known))
    return found


def _row(record: EventRecord) -> dict[str, Any]:
    due = record.due
    assert due is not None
    sender = cut_middle(name(record.sender), _NAME_COLUMNS)
    target = f" → {cut_middle(name(record.target), _NAME_COLUMNS)}" if record.target else ""
    return {
        "id": record.alarm_id,
        "ms": nanoseconds(from_text(due)) // 1_000_000,
        "sender": record.sender,
        "text": f"{cut(record.type, MAX_TYPE_CHARACTERS)} · {sender}{target}",
    }


class PaceControl:
    """Reports the pace of a space to the browser, and changes it. On workers."""

    def __init__(self, space: Space, send: Callable[[dict[str, Any]], object]) -> None:
        self._space = space
        self._runtime = runtime_of(space)
        self._send = send
        self._held_by_others = 0
        self._ask_at = 0.0
        self.actions: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "pause": lambda _: self._space.pause(),
            "resume": lambda _: self._space.resume(),
            "step": lambda _: self._step(),
        }
        """The requests that the browser may make."""

    def message(self) -> dict[str, Any]:
        """Return the pace, and how many events wait."""
        gate = self._runtime.dispatcher.gate
        if not gate.paused and gate.slow is None:
            return {"paused": None, "slow": None, "held": 0}
        pattern = gate.pace.pattern or (gate.local.pattern.text if gate.local is not None else None)
        paused = None if pattern is None or not gate.paused else name(pattern)
        return {"paused": paused, "slow": gate.slow, "held": gate.count() + self._others()}

    def _others(self) -> int:
        if self._runtime.has_other_owners() and time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + ASK_SECONDS
            self._held_by_others = run_blocking(_held_by_others(self._runtime))
        return self._held_by_others

    def _step(self) -> None:
        self._send({"type": "done", "text": _described(self._space.step())})
        self._ask_at = 0.0


async def _held_by_others(runtime: Any) -> int:
    number: int = await on_io(Stepper(runtime).count_others())
    return number


def _described(steps: Steps) -> str:
    if not len(steps):
        return "nothing is held"
    step = steps[0]
    totals = step.trace.root.totals
    emitted = len(step.trace.root.children) - totals.commits
    counts = [(totals.commits, "commit"), (emitted, "event"), (totals.failures, "failure")]
    parts = [f"{name(step.node)} handled {name(step.event.type)}"]
    return " · ".join([*parts, *(count(number, what) for number, what in counts if number)])


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
