"""Pages of events, handlers, replies, replays, failures and retries."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from happen_nb._display import (
    Kind,
    Line,
    Span,
    count,
    cut,
    describe_error,
    function,
    iso,
    more,
    name,
    one_line,
    part,
    timestamp,
    type_name,
    weight,
)
from happen_nb._display.page import (
    MAX_NEWEST,
    TIME,
    Block,
    Cell,
    Code,
    Column,
    Heading,
    Note,
    Outline,
    OutlineStep,
    Page,
    first,
    name_cell,
    newest,
    number_cell,
    stored_time,
    titles,
)
from happen_nb._display.values import Budget, fits, is_container, summary, tree
from happen_nb._frames import is_cell
from happen_nb._model.frozen import is_number
from happen_nb._model.patterns import near_miss

if TYPE_CHECKING:
    from happen_nb._api.events import Event, Events
    from happen_nb._api.failures import Failure, Failures, Retried
    from happen_nb._api.handlers import Handler, Handlers
    from happen_nb._api.replay import Replay
    from happen_nb._api.reply import Reply
    from happen_nb._api.schedule import Advance, ScheduledEvents
    from happen_nb._api.unhandled import Unhandled, UnhandledEvent


MAX_HANDLERS: Final = 20  # handlers of a node that are shown

_VALUE_COLUMNS: Final = 60  # of a value in a line; a larger one is a tree
_ERROR_CHARACTERS: Final = 300
_FULL: Final = 100.0
_OWNER_DIED: Final = "owner died"  # the reason of an event that should have been handled
_STATE_KINDS: Final[dict[str, Kind]] = {"done": "+", "failed": "err", "cancelled": "err", "stopped": "err"}

_EVENT_COLUMNS: Final = titles(TIME, Column("occurred", time=True), "sender", "target", "type", "payload")
_SCHEDULED_COLUMNS: Final = titles(Column("due (UTC)", time=True, dated=True), *_EVENT_COLUMNS[2:])
_UNHANDLED_COLUMNS: Final = titles(TIME, "type", "sender", "target", "reason", "nearest pattern")
_HANDLER_COLUMNS: Final = titles("pattern", "function", "where", Column("retries", right=True), "durable")

MAX_FAILURES: Final = 10  # newest failures that are shown
MAX_ERRORS: Final = 5  # different errors of a retry that are shown
_TRACEBACK_LINES: Final = 24  # the last ones
_TRACEBACK_COLUMNS: Final = 160
_TABLE_ERROR_COLUMNS: Final = 60
_MESSAGE_CHARACTERS: Final = 600
_FILE: Final = re.compile(r'^(\s*)File "([^"]*)", line (\d+)')
_FAILURE_COLUMNS: Final = titles("node", "handler", "event", Column("attempts", right=True), "error")

# -- events ------------------------------------------------------------------------------------------


def event_page(event: Event, budget: Budget) -> Page:
    """Show an event, but not its handlers: a display does not read the journal."""
    own = _own_time(event)
    parts = (
        _from_to(event.sender, event.target),
        part("pending") if event.pending else (),
        part("already stored") if event.repeated else (),
        part("scheduled") if event.due is not None else (),
        () if event.due is None else part(iso(event.due), "due"),
        () if own is None else part(iso(own), "occurred"),
        timestamp(stored_time(event), zone=True),
    )
    return Page(Heading("Event", type_name(event.type), parts), _payload(event.payload, budget))


def events_page(events: Events, budget: Budget) -> Page:
    """Show the newest events; a payload that is cut is folded below its row."""
    parts = [part(count(len(events), "event"))]
    if events.pattern != "**":
        parts.append((Span("matching "), Span(name(events.pattern), "plain")))
    share = budget.share(MAX_NEWEST)
    times = any(map(_own_time, events[-MAX_NEWEST:]))
    rows = newest(events, _EVENT_COLUMNS, lambda event: _event_row(event, replace(share), occurred=times))
    return Page(Heading("Events of", name(events.space), tuple(parts)), rows)


def _from_to(sender: str, target: str | None) -> Line:
    to = Span("all") if target is None else Span(name(target), "plain")
    return Span(name(sender), "plain"), Span(" → "), to


def _payload(payload: object, budget: Budget) -> tuple[Block, ...]:
    return () if payload is None else (value_block(payload, budget),)


def value_block(value: object, budget: Budget) -> Block:
    """Show a value in a line if it is short, else as a tree."""
    line = fits(value, _VALUE_COLUMNS)
    return tree(value, budget) if line is None else Note(line)


def _own_time(event: Event) -> datetime | None:
    """Return the event time if it is not that of storage, which on a manual clock it mostly is."""
    return None if event.occurred == stored_time(event) else event.occurred


def _event_row(event: Event, budget: Budget, *, occurred: bool = False) -> tuple[Cell, ...]:
    moment = part(iso(event.occurred), "moment") if occurred and event.occurred is not None else ()
    return (
        Cell(timestamp(stored_time(event))),
        Cell(moment),
        name_cell(event.sender),
        name_cell(event.target),
        type_cell(event.type),
        payload_cell(event.payload, budget),
    )


def type_cell(type: str) -> Cell:
    return Cell((type_name(type, _VALUE_COLUMNS),))


def payload_cell(payload: object, budget: Budget) -> Cell:
    """Show a payload in a line; if it is cut, HTML folds more of it below."""
    if payload is None:
        return Cell()
    whole = fits(payload, _VALUE_COLUMNS)
    if whole is not None:
        return Cell(whole)
    line = summary(payload, _VALUE_COLUMNS)
    folded = tree(payload, budget) if budget.folds and is_container(payload) else None
    return Cell(line, folded if folded and folded.rows else None)


# -- unhandled events --------------------------------------------------------------------------------


def unhandled_page(unhandled: Unhandled, _: Budget) -> Page:
    if not len(unhandled):
        return Page(Heading("No unhandled events"))
    rows = newest(unhandled, _UNHANDLED_COLUMNS, _unhandled_row)
    return Page(Heading(count(len(unhandled), "unhandled event")), rows)


def unhandled_event_page(unhandled: UnhandledEvent, budget: Budget) -> Page:
    event = unhandled.event
    near = unhandled.nearest
    nearest = () if near is None else (Span("nearest pattern "), Span(name(near), "str"))
    moment = timestamp(stored_time(event), zone=True)
    parts = (_from_to(event.sender, event.target), unhandled_reason(unhandled), nearest, moment)
    return Page(Heading("Unhandled event", type_name(event.type), parts), _payload(event.payload, budget))


def unhandled_reason(unhandled: UnhandledEvent) -> Line:
    """Name the reason; as an error where something went wrong, such as a typo in a pattern."""
    nearest = unhandled.nearest
    typo = nearest is not None and near_miss(unhandled.event.type, [nearest]) is not None
    wrong = typo or unhandled.reason == _OWNER_DIED
    return part(name(unhandled.reason), "err" if wrong else "plain")


def _unhandled_row(unhandled: UnhandledEvent) -> tuple[Cell, ...]:
    event, nearest = unhandled.event, unhandled.nearest
    return (
        Cell(timestamp(stored_time(event))),
        type_cell(event.type),
        name_cell(event.sender),
        name_cell(event.target),
        Cell(unhandled_reason(unhandled)),
        Cell(part(name(nearest), "str") if nearest is not None else ()),
    )


# -- handlers ----------------------------------------------------------------------------------------


def handlers_page(handlers: Handlers, _: Budget) -> Page:
    heading = Heading("Handlers of", name(handlers.node), (part(count(len(handlers), "handler")),))
    if not len(handlers):
        return Page(heading, (Note(part('none yet: on("order.paid", function) registers one')),))
    return Page(heading, (first(handlers, _HANDLER_COLUMNS, handler_row, MAX_HANDLERS),))


def handler_page(handler: Handler, _: Budget) -> Page:
    parts = (_handler_line(handler), part("" if handler.active else "unregistered"))
    return Page(Heading("Handler of", name(handler.node), parts))


def handler_outline(handlers: Sequence[Handler]) -> Outline:
    steps = [OutlineStep(1, _handler_line(handler)) for handler in handlers[:MAX_HANDLERS]]
    if len(handlers) > len(steps):
        steps.append(OutlineStep(1, part(more(len(handlers) - len(steps)))))
    return Outline((OutlineStep(0, part(count(len(handlers), "handler"))), *steps))


def handler_row(handler: Handler) -> tuple[Cell, ...]:
    return (
        Cell(part(name(handler.pattern), "str")),
        Cell(part(function(handler.name), "plain")),
        Cell(part("yes") if handler.where else ()),
        number_cell(handler.retries),
        Cell(part("yes") if handler.durable else ()),
    )


def _handler_line(handler: Handler) -> Line:
    where = " · where" if handler.where else ""
    durable = " · durable" if handler.durable else ""
    noun = "retry" if handler.retries == 1 else "retries"
    retries = f" · {handler.retries:,} {noun}" if handler.retries else ""
    return (
        Span(name(handler.pattern), "str"),
        Span(" → "),
        Span(function(handler.name), "plain"),
        Span(f"{where}{retries}{durable}"),
    )


# -- replies and replays -----------------------------------------------------------------------------


def reply_page(reply: Reply, value: Any, budget: Budget, pace: ProgressPace | None = None) -> Page:
    """Show the state of a reply: its progress with its pace, and once it is done its result or its error."""
    state = Span(name(reply.state), _STATE_KINDS.get(reply.state, "plain"))
    parts: list[Line] = [(type_name(reply.event.type, kind="plain"),), (state,)]
    blocks: tuple[Block, ...] = ()
    if reply.error is not None:
        blocks = (Note(part(_brief_error(reply.error), "err")),)
    elif reply.state == "done":
        blocks = (value_block(value, budget),)
    elif reply.progress is not None:
        parts += progress_line(reply.progress, pace)
    return Page(Heading("Reply of", name(reply.target), tuple(parts)), blocks)


def scheduled_page(scheduled: ScheduledEvents, budget: Budget) -> Page:
    parts = [part(count(len(scheduled), "event")), part("to come", "plain")]
    share = budget.share(MAX_NEWEST)

    def row(event: Event) -> tuple[Cell, ...]:
        return Cell(timestamp(event.due)), *_event_row(event, replace(share))[2:]

    blocks = (first(scheduled, _SCHEDULED_COLUMNS, row, rest="later"),) if len(scheduled) else ()
    return Page(Heading("Scheduled in", name(scheduled.space), tuple(parts)), blocks)


def advance_page(advance: Advance, _: Budget) -> Page:
    counts = [(advance.events, "event"), (advance.commits, "commit"), (advance.failures, "failure")]
    parts: list[Line] = [part(count(number, what), "plain") for number, what in counts if number]
    if advance.running and advance.share is not None:
        parts += progress_line(advance.share)
    now = advance.now.replace(tzinfo=None)
    parts.append(part(f"now {now}", "plain"))
    return Page(Heading("Advance", "", tuple(parts)), ())


def replay_page(replay: Replay, *, waits: bool) -> Page:
    parts: list[Line] = [part(replay.state, _STATE_KINDS.get(replay.state, "plain"))]
    if replay.state == "running" and replay.total is not None:
        parts += progress_line({"done": replay.stored, "total": replay.total})
    elif replay.state == "done" or replay.total is None:
        parts.append(part(count(replay.stored, "event"), "plain"))
    else:
        parts.append(part(f"{replay.stored:,} of {count(replay.total, 'event')}", "plain"))
    if waits:
        parts.append(part("waits for handlers", "plain"))
    if replay.occurred is not None:
        parts.append(part(iso(replay.occurred), "occurred"))
    error = () if replay.error is None else (Note(part(_brief_error(replay.error), "err")),)
    return Page(Heading("Replay of" if replay.what else "Replay", name(replay.what), tuple(parts)), error)


def _brief_error(error: BaseException) -> str:
    # The first line only: an error that came from another process carries its traceback below it.
    return one_line(describe_error(error).partition("\n")[0], _ERROR_CHARACTERS)


_MIN_PACE_SECONDS: Final = 0.1  # progress that arrives at once has no pace


class ProgressPace(NamedTuple):
    """The first progress value, and the seconds from then to the newest one."""

    first: Any
    seconds: float


def progress_line(progress: Any, pace: ProgressPace | None = None) -> list[Line]:
    """Draw a bar for the number in a progress value, if there is one, and show the rest of the value."""
    share, label, rest = _read_progress(progress)
    lines: list[Line] = []
    if share is not None:
        lines.append((Span(f"{share:.4f}", "bar"), Span(f" {label}", "plain")))
        lines += _pace(progress, share, pace)
    if rest not in (None, {}):
        lines.append(summary(rest, _VALUE_COLUMNS))
    return lines


def _pace(progress: Any, share: float, pace: ProgressPace | None) -> Iterator[Line]:
    """Return the rate since the first progress value, and the time that is left at this rate."""
    if pace is None or pace.seconds < _MIN_PACE_SECONDS:
        return
    before = _read_progress(pace.first)[0]
    if before is None or not share > before:
        return
    seconds = pace.seconds / (share - before)  # for all of it
    if isinstance(progress, dict) and is_number(total := progress.get("total")):
        yield part(f"PT{seconds / total:.6f}S", "rate")
    if share < 1:
        yield part(f"PT{seconds * (1 - share):.6f}S", "left")


def _read_progress(progress: Any) -> tuple[float | None, str, Any]:
    """Split a progress value into the share that is done (0 to 1), its label, and the rest.

    Examples
    --------
    >>> _read_progress(0.4), _read_progress(40), _read_progress({"done": 3, "total": 12, "file": "a"})
    ((0.4, '40 %', None), (0.4, '40 %', None), (0.25, '3 of 12', {'file': 'a'}))
    >>> _read_progress("reading")
    (None, '', 'reading')
    """
    if not isinstance(progress, dict):
        share = _share(progress)
        return (None, "", progress) if share is None else (share, _percent(share), None)
    share = _share(progress.get("progress"))
    if share is not None:
        return share, _percent(share), _without(progress, "progress")
    done, total = progress.get("done"), progress.get("total")
    if is_number(done) and is_number(total) and total > 0 and done >= 0:
        label = f"{_number(done)} of {_number(total)}"
        return min(1.0, done / total), label, _without(progress, "done", "total")
    return None, "", progress


def _share(value: Any) -> float | None:
    """Read a number as a share: a float up to 1.0 is one, any other up to 100 counts percent.

    Examples
    --------
    >>> _share(0.5), _share(1.0), _share(1), _share(50), _share(50.5), _share(1000), _share(True)
    (0.5, 1.0, 0.01, 0.5, 0.505, None, None)
    """
    if not is_number(value) or not 0 <= value <= _FULL:
        return None
    return value if isinstance(value, float) and value <= 1 else value / _FULL


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"


def _percent(share: float) -> str:
    return f"{int(share * _FULL + 1e-9)} %"


def _without(progress: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in progress.items() if key not in keys}


# -- failures ---------------------------------------------------------------------------------------


def failure_page(failure: Failure, budget: Budget) -> Page:
    type = _event_type(failure)
    handler: Line = part(function(failure.handler), "plain")
    parts = (handler, *((type,) if type else ()), part(count(failure.attempts, "attempt")))
    error = Note(part(one_line(describe_error(failure.exception), _MESSAGE_CHARACTERS), "err"))
    code = _traceback(failure, budget)
    return Page(Heading("Failure in", name(failure.node), parts), (error, code) if code else (error,))


def failures_page(failures: Failures, budget: Budget) -> Page:
    """Show the newest failures, each with its traceback folded below it."""
    if not len(failures):
        return Page(Heading("No failures"))
    rows = newest(failures, _FAILURE_COLUMNS, lambda each: _failure_row(each, budget), MAX_FAILURES)
    return Page(Heading(count(len(failures), "failure")), rows)


def retried_page(retried: Retried, _: Budget) -> Page:
    if not (retried.succeeded or retried.failed or retried.unhandled):
        return Page(Heading(f"No {retried.what}s to retry"))
    counts = (
        part(f"{retried.succeeded:,} succeeded", "add") if retried.succeeded else (),
        part(f"{retried.failed:,} failed again", "err") if retried.failed else (),
        part(f"{retried.unhandled:,} without a handler") if retried.unhandled else (),
    )
    total = count(retried.succeeded + retried.failed + retried.unhandled, retried.what)
    notes = [Note(part(one_line(each, _MESSAGE_CHARACTERS), "err")) for each in retried.errors[:MAX_ERRORS]]
    left = max(0, len(retried.errors) - MAX_ERRORS)
    more = [Note(part(f"… {count(left, 'other error')}"))] if left else []
    return Page(Heading("Retried", total, counts), (*notes, *more))


def _failure_row(failure: Failure, budget: Budget) -> tuple[Cell, ...]:
    error = one_line(describe_error(failure.exception), _TABLE_ERROR_COLUMNS)
    return (
        Cell(part(name(failure.node), "name")),
        Cell(part(function(failure.handler), "plain")),
        Cell(_event_type(failure)),
        number_cell(failure.attempts),
        Cell(part(error, "err"), _traceback(failure, budget)),
    )


def _event_type(failure: Failure) -> Line:
    """Name the type of the event; nothing where a commit was watched."""
    type = getattr(failure.event, "type", None)
    return (type_name(type, kind="plain"),) if isinstance(type, str) else ()


def _traceback(failure: Failure, budget: Budget) -> Code | None:
    """Return the last lines without the message, which is shown above; None if the budget is spent."""
    message = describe_error(failure.exception)
    text = failure.traceback[-_TRACEBACK_LINES * 1000 :].rstrip()
    if text.endswith(message):
        text = text[: -len(message)].rpartition("\n")[0]
    lines = text.expandtabs(4).splitlines()
    made = [cut(_FILE.sub(_place, line), _TRACEBACK_COLUMNS) for line in lines[-_TRACEBACK_LINES:]]
    if not made or not budget.spend(weight([*map(Span, made)])):
        return None
    return Code(("…", *made) if len(lines) > _TRACEBACK_LINES else tuple(made))


def _place(match: re.Match[str]) -> str:
    # Without the folder: a display does not reveal the paths of this machine.
    indent, file, line = match.groups()
    if is_cell(file):
        return f"{indent}{file}, line {line}"
    if "ipykernel_" in file or file.startswith("<"):
        return f"{indent}In a cell, line {line}"
    base = re.split(r"[\\/]", file)[-1]
    return f'{indent}File "{base}", line {line}'
