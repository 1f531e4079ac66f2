"""The parts of a dashboard: its actions, such as send, set and retry, and its messages to the browser.

Actions run off the main thread. Messages are short JSON forms of states, events and problems.
"""

from __future__ import annotations

import contextvars
import json
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import count, islice
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from happen_nb._api.base import page_of, runtime_of, wait_on_io
from happen_nb._api.events import Event, cancel_scheduled, record_of
from happen_nb._api.failures import Failure
from happen_nb._api.forks import start_from
from happen_nb._api.history import Commit
from happen_nb._api.node import Node
from happen_nb._api.schedule import ScheduledEvents, read_next, scheduled_events
from happen_nb._api.unhandled import UnhandledEvent, retry_events
from happen_nb._display import (
    Line,
    Span,
    cut,
    cut_middle,
    describe_error,
    function,
    key,
    name,
    one_line,
    plain,
    type_name,
)
from happen_nb._display.changes import changes, in_a_line
from happen_nb._display.reprs_events import unhandled_reason
from happen_nb._display.values import Budget, is_container, size, steps, summary
from happen_nb._journal.commits import applied_at
from happen_nb._journal.slice import events_at
from happen_nb._model.arguments import nanoseconds
from happen_nb._model.frozen import FrozenDict, diff, thaw
from happen_nb._model.paths import Path, Steps
from happen_nb._model.patterns import MAX_TYPE_CHARACTERS
from happen_nb._model.records import EMPTY, CommitRecord, EventRecord
from happen_nb._model.schedules import ClockMoves, from_text
from happen_nb._model.transforms import put
from happen_nb._runtime.io import io_thread, run_blocking
from happen_nb._runtime.replica import Applied, forkable_states
from happen_nb.errors import ClosedError, HappenError, HistoryGoneError, UnknownNodeError

if TYPE_CHECKING:
    from happen_nb._api.pausing import Step
    from happen_nb._api.space import Space
    from happen_nb._journal.stream import Stream
    from happen_nb._runtime.runtime import Runtime

MAX_LISTED: Final = 200  # failures, and unhandled events
MAX_DETAIL_CHARACTERS: Final = 20_000

MAX_TO_COME: Final = 100  # maximum number of scheduled events in the list: those that are due next
MANY_SCHEDULED: Final = 1_000  # with more scheduled events, the list is updated only once a second
_LOOK_SECONDS: Final = 1.0
ASK_SECONDS: Final = 1.0  # seconds between questions to other processes how many events wait there
MAX_COMPARED: Final = 60  # changes that are shown between then and now
_LINE_COLUMNS, _CHILD_COLUMNS, _TYPE_COLUMNS, _ERROR_COLUMNS = 60, 48, 48, 200
_CHANGE_COLUMNS, _NAME_COLUMNS = 72, 30

Json = dict[str, Any]
Send = Callable[[Json], object]
StateSource = CommitRecord | HistoryGoneError | None
Message = Mapping[str, Any]


class Actions:
    """Does what the browser asks a dashboard for: a method ``_on_<do>`` for each request, on a worker."""

    _space: Space
    _runtime: Runtime
    _pace: PaceReport
    send: Send

    def _start_actions(self) -> None:
        self._context = contextvars.copy_context()  # of the dashboard's cell
        self._failures: WeakKeyDictionary[Failure, Json] = WeakKeyDictionary()
        self._next_id = count(1)
        self._unhandled: dict[str, UnhandledEvent] = {}

    def _run(self, message: Message) -> None:
        """Run the action of a message on a worker, and send the error that it raises to the browser."""

        def work() -> None:
            try:
                getattr(self, f"_on_{message['do']}")(message)
            except ClosedError:  # a view that opens later still asks for closed data
                self._answer(message, "the space is closed")
            except BaseException as error:  # the worker serves others too
                self._answer(message, describe_error(error), error=True)

        io_thread().call_soon(self._runtime.workers.submit, lambda: self._context.copy().run(work))

    def _done(self, text: str) -> None:
        self.send({"type": "done", "text": text})

    # -- failures ------------------------------------------------------------------------------------

    def _version_of_failures(self) -> tuple[int, int]:
        """Return a value that differs when the failures differ."""
        failures = list(self._space.failures)
        return len(failures), sum(failure.attempts for failure in failures)

    def _listed_failures(self) -> list[Json]:
        return [self._summary(each) for each in self._space.failures[-MAX_LISTED:]]

    def _summary(self, failure: Failure) -> Json:
        # Cached, because it asks the user's exception for its text.
        known = self._failures.get(failure)
        if known is None or known["times"] != failure.attempts:
            number = next(self._next_id) if known is None else known["id"]
            known = self._failures[failure] = failure_message(number, failure)
        return known

    def _on_retry(self, message: Message) -> None:
        self._retry([each for each in self._space.failures if self._summary(each)["id"] == message["id"]])

    def _on_retry_all(self, _: Message) -> None:
        self._retry(list(self._space.failures))

    def _retry(self, failures: Iterable[Failure]) -> None:
        errors = []
        for failure in failures:
            try:
                failure.retry()
            except BaseException as error:  # whatever a handler raises
                errors.append(describe_error(error))
        self._send_failures(f"failed again: {errors[0]}" if errors else "succeeded")

    def _on_clear_failures(self, _: Message) -> None:
        self._space.failures.clear()
        self._send_failures("")

    def _send_failures(self, status: str) -> None:
        self.send({"type": "failures", "failures": self._listed_failures(), "status": status})

    # -- unhandled events ----------------------------------------------------------------------------

    def _on_unhandled(self, _: Message) -> None:
        self._send_unhandled()

    def _send_unhandled(self, status: str = "") -> None:
        found = self._space.unhandled[-MAX_LISTED:]
        listed = [unhandled_message(each, record_of(each.event).position) for each in found]
        self._unhandled = {entry["id"]: each for entry, each in zip(listed, found, strict=True)}
        self.send({"type": "unhandled", "unhandled": listed, "status": status})

    def _on_retry_unhandled(self, message: Message) -> None:
        status = ""
        try:
            self._unhandled[message["id"]].retry()
        except Exception as error:
            status = describe_error(error)
        self._send_unhandled(status)

    def _on_retry_all_unhandled(self, _: Message) -> None:
        retry_events(self._unhandled.values())
        self._send_unhandled()

    # -- details of a log entry ----------------------------------------------------------------------

    def _on_detail(self, message: Message) -> None:
        sequence, index = message["sequence"], message["index"]
        found = self._commit(sequence) if index < 0 else self._event(sequence, index)
        text = "no longer stored" if found is None else repr(found)
        if isinstance(found, Event) and found.payload is not None:
            text += "\n\n" + json.dumps(thaw(found.payload), indent=2, ensure_ascii=False)
        text = text if len(text) <= MAX_DETAIL_CHARACTERS else text[:MAX_DETAIL_CHARACTERS] + "\n…"
        self.send({"type": "detail", "sequence": sequence, "index": index, "text": text})

    def _event(self, sequence: int, index: int) -> Event | None:
        records = wait_on_io(events_at(self._runtime.log.stream, [sequence]))
        return next((Event(each, self._runtime) for each in records if each.index == index), None)

    def _commit(self, sequence: int) -> Commit | None:
        found = wait_on_io(applied_at(self._runtime.log.stream, sequence))
        return None if found is None else Commit(*found)

    # -- the form ------------------------------------------------------------------------------------

    def _on_act(self, message: Message) -> None:
        name, value = message["name"], _parse_value(message["value"], message["kind"])
        if message["kind"] == "broadcast":
            self._answer(message, repr(self._space.broadcast(name, value)))
        elif message["kind"] == "set":
            node = self._find_node(message["node"])
            self._answer(message, repr(node.state.set(put(_parse_path(name), value))))
        else:
            reply = self._space.send(message["node"], name, value)
            if not reply.done:
                self._answer(message, repr(reply))
            for _ in reply:
                self._answer(message, repr(reply))
            self._answer(message, repr(reply))

    def _find_node(self, name: str) -> Node:
        """Return a node of the space, in whatever process it runs."""
        view = self._space.views[name]  # raises an error with the nearest names if the node does not exist
        return self._space.nodes.get(view.name) or Node(self._space, self._runtime, view.name)

    def _answer(self, message: Message, text: str, *, error: bool = False) -> None:
        answer = {"type": "answer", "request": message["request"], "error": error}
        self.send({**answer, "text": text[:MAX_DETAIL_CHARACTERS]})

    # -- the pace, and scheduled events --------------------------------------------------------------

    def _on_pause(self, _: Message) -> None:
        self._space.pause()

    def _on_resume(self, _: Message) -> None:
        self._space.resume()

    def _on_step(self, _: Message) -> None:
        done = self._space.step()
        self._done(_described(done[0]) if len(done) else "nothing is held")
        self._pace.ask_at = 0.0

    def _on_cancel_scheduled(self, message: Message) -> None:
        done = run_blocking(cancel_scheduled(self._runtime, str(message["id"])))
        self._done("cancelled" if done else "too late: the event is no longer scheduled")


def _parse_value(text: str, kind: str) -> Any:
    if not text.strip() and kind != "set":
        return None  # an empty field is no payload
    try:
        return json.loads(text)
    except ValueError as error:
        what = "the value" if kind == "set" else "the payload"
        raise ValueError(f'{what} is not JSON: {error}; put text in quotes: "open"') from None


def _parse_path(text: str) -> Path:
    """Parse a path as typed: dotted, or a JSON list where a key contains a dot.

    Examples
    --------
    >>> _parse_path("orders.o1"), _parse_path('["orders", "o.1", 0]')
    ('orders.o1', ('orders', 'o.1', 0))
    """
    return tuple(json.loads(text)) if text.startswith("[") else text


# -- messages to the browser ---------------------------------------------------------------------------


def line(spans: Line) -> list[list[str]]:
    """Return the spans of a line as text and kind, and the whole text if it was cut."""
    return [[span.text, span.kind, *([span.whole] if span.whole else [])] for span in spans]


def error_line(error: BaseException | str) -> list[list[str]]:
    return [[one_line(describe_error(error), _ERROR_COLUMNS), "err"]]


def node_message(title: str, revision: int | str, state: object, colour: int | None) -> Json:
    """Return a node with a preview of its state, or with the error that was raised instead of it."""
    node = {"name": title, "revision": revision, "colour": colour}
    if isinstance(state, BaseException):
        return {**node, "line": error_line(state), "opens": False}
    return {**node, "line": line(summary(state, _LINE_COLUMNS)), "opens": size(state) > 0}


def children_message(title: str, path: Steps, value: object, limit: int) -> Json:
    """Return the first children of a container: step, label, preview, and whether a child has children.

    Examples
    --------
    >>> children_message("orders", ("o1",), {"status": "open"}, 100)["items"]
    [['status', 'status', [['"open"', 'str']], False]]
    """
    items = [
        [step, key(step), line(summary(child, _CHILD_COLUMNS)), size(child) > 0]
        for step, child in islice(steps(value), limit)
    ]
    return {"node": title, "path": list(path), "size": size(value), "items": items}


def log_entry(
    record: CommitRecord | EventRecord, clock: ClockMoves, *, without_payload: bool = False
) -> list[Any]:
    """Return a row of the log.

    It has sequence, index, kind, time in ms, title, sender, target, a preview, and the time in ms of a manual
    clock. The preview is None, as it is unknown, for a commit, and for an event that was read
    `without_payload`.
    """
    ms = record.time // 1_000_000
    moment = clock.time_of_space(record.time) // 1_000_000 if clock.stored else None
    if isinstance(record, CommitRecord):
        title = f"{name(record.node)} · {'deleted' if record.deleted else f'{record.revision:,}'}"
        by = None if record.origin.by is None else name(record.origin.by)
        return [record.sequence, -1, "commit", ms, title, by, None, None, moment]
    target = None if record.target is None else name(record.target)
    shown_payload = None if without_payload else preview(record.payload)
    title = cut(record.type, MAX_TYPE_CHARACTERS)
    sender = name(record.sender)
    return [record.sequence, record.index, "event", ms, title, sender, target, shown_payload, moment]


def preview(payload: object) -> list[list[str]]:
    return [] if payload is None else line(summary(payload, _LINE_COLUMNS))


def failure_message(number: int, failed: Failure) -> Json:
    spans = (
        Span(name(failed.node), "name"),
        Span(" · "),
        Span(function(failed.handler), "plain"),
        Span("  "),
    )
    return {
        "id": number,
        "line": [*line(spans), *error_line(failed.exception)],
        "detail": repr(failed),
        "times": failed.attempts,
        "sequence": getattr(failed.event, "sequence", None),
    }


def unhandled_message(missed: UnhandledEvent, position: tuple[int, int]) -> Json:
    """Return an unhandled event in one line with the reason, and its payload."""
    event = missed.event
    spans = [type_name(event.type, _TYPE_COLUMNS), Span(f"  from {name(event.sender)}  ")]
    spans += unhandled_reason(missed)
    if missed.nearest is not None:
        spans += [Span("  nearest "), Span(cut(missed.nearest, _TYPE_COLUMNS), "str")]
    return {
        "id": f"{position[0]}.{position[1]}",
        "line": line(tuple(spans)),
        "detail": repr(missed) if is_container(event.payload) else "",
        "sequence": position[0],
    }


# -- parts of a dashboard -----------------------------------------------------------------------------


class ScheduledList:
    """Reports the next scheduled events to the browser, when they have changed. On workers."""

    def __init__(self, space: Space) -> None:
        self._space_name, self._runtime = space.name, runtime_of(space)
        self._alarms = self._runtime.log.alarms
        self._records: list[EventRecord] = []
        self._number = 0
        self._version = -1
        self._look_at = 0.0

    @property
    def events(self) -> ScheduledEvents:
        """The events that were reported last."""
        return scheduled_events(self._space_name, self._records, self._runtime)

    def message(self) -> Json:
        """Return the events, as they were read last."""
        return {"scheduled": [_row(record) for record in self._records], "toCome": self._number}

    def news(self) -> Json:
        """Return the events if they have changed, else nothing."""
        if not self.has_news:
            return {}
        self._version = self._alarms.version
        self._records, self._number = wait_on_io(read_next(self._runtime, MAX_TO_COME, self._records))
        self._look_at = time.monotonic() + (_LOOK_SECONDS if self._number > MANY_SCHEDULED else 0.0)
        return self.message()

    @property
    def has_news(self) -> bool:
        """True if there is something to report. From any thread."""
        return self._alarms.version != self._version and time.monotonic() >= self._look_at


def _row(record: EventRecord) -> Json:
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


class PaceReport:
    """Reports the pace of a space to the browser. On workers."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._held_by_others = 0
        self.ask_at = 0.0  # the time from which other processes may be asked again, by ``time.monotonic()``
        self._asks_later = False

    @property
    def has_news(self) -> bool:
        """True if the last message came too soon to ask other processes again, and now they may be asked."""
        return self._asks_later and time.monotonic() >= self.ask_at

    def message(self) -> Json:
        """Return the pace, and how many events wait."""
        gate = self._runtime.dispatcher.gate
        self._asks_later = False
        if not gate.paused and gate.slow is None:
            return {"paused": None, "slow": None, "held": 0}
        pattern = self._runtime.log.pace.pattern or (
            gate.local.pattern.text if gate.local is not None else None
        )
        paused = None if pattern is None or not gate.paused else name(pattern)
        return {"paused": paused, "slow": gate.slow, "held": gate.count() + self._others()}

    def _others(self) -> int:
        if not self._runtime.has_other_owners():
            self._held_by_others = 0
        elif time.monotonic() < self.ask_at:
            self._asks_later = True
        else:
            self.ask_at = time.monotonic() + ASK_SECONDS
            self._held_by_others = wait_on_io(self._runtime.stepper.count_others())
        return self._held_by_others


def _described(step: Step) -> str:
    heading = page_of(step, Budget(folds=False)).heading
    return "" if heading is None else " · ".join(map(plain, heading.parts))


def change_lines(
    stream: Stream, sequences: Iterable[int], recent: Mapping[int, Applied]
) -> dict[int, list[list[str]]]:
    """Return the changes of the commits at these positions, in a line each."""
    lines: dict[int, list[list[str]]] = {}
    for sequence in sequences:
        found = recent.get(sequence) or wait_on_io(applied_at(stream, sequence))
        if found is not None:
            lines[sequence] = _change_line(Commit(*found))
    return lines


def _change_line(commit: Commit) -> list[list[str]]:
    if commit.deleted:
        return [["deleted", "del"]]
    try:
        return line(in_a_line(commit.diff, _CHANGE_COLUMNS)[0])
    except HappenError as error:  # the state before is gone, or one of them cannot be read
        return error_line(error)


def comparison(then: StateSource, now: StateSource) -> Json:
    """Return the changes of a node from a point in time until now: sign, path and values of each."""
    try:
        found = diff(state_of(then), state_of(now))
    except HappenError as error:
        return {"changes": [["", "", error_line(error)]], "more": 0}
    rows = changes(found, Budget(folds=False), limit=MAX_COMPARED)
    lines = [[row.sign, row.label, line(row.preview or row.value)] for row in rows.rows]
    return {"changes": lines, "more": rows.hidden}


def state_of(record: StateSource) -> FrozenDict:
    """Return the state of a record; raise if it is no longer stored or unreadable."""
    if isinstance(record, HistoryGoneError):
        raise record
    return EMPTY if record is None else record.state


def revert(node: Node, then: StateSource) -> str:
    """Commit the state that a node had at a point in time, and describe the result."""
    if isinstance(then, HistoryGoneError):
        raise then
    if then is None or then.deleted:
        raise UnknownNodeError(f'node "{node.name}" had no state then; go to a later point in time')
    commit = node.state.revert(then.revision)
    if not commit.changed:
        return f"{node.name} already has the state of revision {then.revision:,}"
    return f"{node.name} has the state of revision {then.revision:,} again, as revision {commit.revision:,}"


def fork(space: Space, name: str, records: Mapping[str, StateSource]) -> str:
    """Make a new space from the states at a point in time, and describe the result."""
    there = {node: record for node, record in records.items() if record is not None}
    run_blocking(start_from(space, name, forkable_states(there)))
    return f'space "{name}" starts from here: happen.connect(name="{name}")'
