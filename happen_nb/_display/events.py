"""How events are shown, those that nobody took, and the handlers that wait for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final, TypeVar

from happen_nb._display import _protocols as shown
from happen_nb._display.inline import fits, is_container, summary
from happen_nb._display.page import (
    Block,
    Cell,
    Column,
    Heading,
    Note,
    Outline,
    Page,
    Step,
    Table,
    more,
    part,
    table,
    when,
)
from happen_nb._display.spans import Line, Span, count, cut_middle, function, name
from happen_nb._display.tree import Budget, tree
from happen_nb._model.patterns import near_miss

NEWEST = 20
"""How many of the newest events a table shows."""

HANDLERS = 20
"""How many handlers of a node are shown."""

_PAYLOAD = 60  # columns of a payload in a table, or beside which it becomes a tree
_ALL = "**"
_LOST = "owner died"  # the reason of an event that should have been handled

_Item = TypeVar("_Item")

_EVENTS: Final = (
    Column("time (UTC)", time=True),
    Column("occurred", time=True),
    Column("sender"),
    Column("target"),
    Column("type"),
    Column("payload"),
)
_UNHANDLED: Final = (
    Column("time (UTC)", time=True),
    Column("type"),
    Column("sender"),
    Column("target"),
    Column("reason"),
    Column("nearest pattern"),
)
_HANDLERS: Final = (
    Column("pattern"),
    Column("function"),
    Column("where"),
    Column("retries", right=True),
)


def event(x: shown.Event, budget: Budget) -> Page:
    """Who said what to whom. Who handled it is not read: a display costs no reading of the journal."""
    parts: list[Line] = [_from_to(x.sender, x.target)]
    if x.pending:
        parts.append(part("pending"))
    if x.repeated:
        parts.append(part("stored before"))
    if x.occurred is not None:
        parts.append((Span(iso(x.occurred), "occurred"),))
    parts.append(when(x.time, zone=True))
    return Page(Heading("Event", name(x.type), tuple(parts)), _payload(x.payload, budget))


def events(x: shown.Events, budget: Budget) -> Page:
    """The newest events; a payload that is cut is folded below it."""
    parts = [part(count(len(x), "event"))]
    if x.pattern != _ALL:
        parts.append((Span("matching "), Span(name(x.pattern), "plain")))
    share = budget.share(NEWEST)
    return Page(
        Heading("Events of", name(x.space), tuple(parts)),
        newest(x, _EVENTS, lambda each: _event_row(each, replace(share))),
    )


def unhandled(x: shown.Sized[shown.Unhandled]) -> Page:
    """The newest events that nobody took, and why."""
    if not len(x):
        return Page(Heading("No unhandled events"))
    return Page(Heading(count(len(x), "unhandled event")), newest(x, _UNHANDLED, _unhandled_row))


def unhandled_event(x: shown.Unhandled, budget: Budget) -> Page:
    """An event that nobody took, why, and what nearly would have."""
    said, parts = x.event, [_from_to(x.event.sender, x.event.target), reason(x)]
    if x.nearest is not None:
        parts.append((Span("nearest pattern "), Span(name(x.nearest), "str")))
    parts.append(when(said.time, zone=True))
    heading = Heading("Unhandled event", name(said.type), tuple(parts))
    return Page(heading, _payload(said.payload, budget))


def handlers(x: shown.Handlers) -> Page:
    """All handlers of a node."""
    heading = Heading("Handlers of", name(x.node), (part(count(len(x), "handler")),))
    if not len(x):
        return Page(heading, (Note(part('none yet: on("order.paid", function) registers one')),))
    rows = [_handler_row(x[index]) for index in range(min(len(x), HANDLERS))]
    return Page(heading, (table(_HANDLERS, rows, more(len(x) - len(rows))),))


def handler_outline(x: shown.Sized[shown.Registration]) -> Outline:
    """The same below what else there is of a node."""
    steps = [Step(1, _handler_line(x[index])) for index in range(min(len(x), HANDLERS))]
    if len(x) > len(steps):
        steps.append(Step(1, part(more(len(x) - len(steps)))))
    return Outline((Step(0, part(count(len(x), "handler"))), *steps))


def registration(x: shown.Registration) -> Page:
    """Whose handler it is, and what it takes."""
    parts = (_handler_line(x), part("" if x.active else "taken off"))
    return Page(Heading("Handler of", name(x.node), parts))


def _from_to(sender: str, target: str | None) -> Line:
    to = Span("all") if target is None else Span(name(target), "plain")
    return Span(name(sender), "plain"), Span(" → "), to


def reason(x: shown.Unhandled) -> Line:
    """Why nobody took it; that is an error where something has gone wrong, as where a pattern has a typo."""
    wrong = x.reason == _LOST or (x.nearest is not None and near_miss(x.event.type, [x.nearest]) is not None)
    return (Span(name(x.reason), "err" if wrong else "plain"),)


def iso(moment: datetime) -> str:
    """A moment in UTC; one without a zone, or at the end of all times, as its sender wrote it."""
    try:
        known = moment if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:
        known = moment
    return known.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _payload(payload: object, budget: Budget) -> tuple[Block, ...]:
    if payload is None:
        return ()
    line = fits(payload, _PAYLOAD)
    return (tree(payload, budget) if line is None else Note(line),)


def newest(
    x: shown.Sized[_Item], columns: Sequence[Column], row: Callable[[_Item], tuple[Cell, ...]]
) -> tuple[Table, ...]:
    """A table of the newest items, which says how many are older."""
    older = max(0, len(x) - NEWEST)
    rows = [row(x[index]) for index in range(older, len(x))]
    return (table(columns, rows, f"… {older:,} older" if older else "", more_first=True),) if rows else ()


def _event_row(x: shown.Event, budget: Budget) -> tuple[Cell, ...]:
    occurred = () if x.occurred is None else (Span(iso(x.occurred), "moment"),)
    return (
        Cell(when(x.time)),
        Cell(occurred),
        Cell((Span(name(x.sender), "plain"),)),
        name_cell(x.target),
        type_cell(x.type),
        payload_cell(x.payload, budget),
    )


def _unhandled_row(x: shown.Unhandled) -> tuple[Cell, ...]:
    return (
        Cell(when(x.event.time)),
        type_cell(x.event.type),
        Cell((Span(name(x.event.sender), "plain"),)),
        name_cell(x.event.target),
        Cell(reason(x)),
        Cell((Span(name(x.nearest), "str"),) if x.nearest is not None else ()),
    )


def _handler_row(x: shown.Registration) -> tuple[Cell, ...]:
    return (
        Cell((Span(name(x.pattern), "str"),)),
        Cell((Span(function(x.name), "plain"),)),
        Cell(part("yes") if x.where else ()),
        Cell((Span(f"{x.retries:,}", "plain"),) if x.retries else ()),
    )


def _handler_line(x: shown.Registration) -> Line:
    where = " · where" if x.where else ""
    retries = f" · {_retries(x.retries)}" if x.retries else ""
    return (
        Span(name(x.pattern), "str"),
        Span(" → "),
        Span(function(x.name), "plain"),
        Span(f"{where}{retries}"),
    )


def type_cell(type: str) -> Cell:
    """The type of an event."""
    return Cell((Span(cut_middle(type, _PAYLOAD), "name"),))


def name_cell(text: str | None) -> Cell:
    """A name, if there is one."""
    return Cell(() if text is None else (Span(name(text), "plain"),))


def payload_cell(payload: object, budget: Budget) -> Cell:
    """A payload in a line; if it is cut, HTML folds more of it below."""
    if payload is None:
        return Cell()
    whole = fits(payload, _PAYLOAD)
    if whole is not None:
        return Cell(whole)
    line = summary(payload, _PAYLOAD)
    folded = tree(payload, budget) if budget.folds and is_container(payload) else None
    return Cell(line, folded if folded and folded.rows else None)


def _retries(number: int) -> str:
    return f"{number:,} retry" if number == 1 else f"{number:,} retries"
