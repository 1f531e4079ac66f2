"""Pages of what waits while a space is paused, and of the steps through it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from happen_nb._display.page import (
    MAX_NEWEST,
    Cell,
    Column,
    Heading,
    Note,
    Page,
    name_cell,
    part,
    table,
    timestamp,
)
from happen_nb._display.reprs_events import payload_cell, type_cell
from happen_nb._display.spans import Kind, Line, Span, count, name
from happen_nb._display.traces import whole_outline

if TYPE_CHECKING:
    from happen_nb._api.pausing import Held, HeldEvent, Step, Steps
    from happen_nb._display.values import Budget

MAX_STEPS: Final = 10
"""Steps whose effects are shown."""
STEP_LINES: Final = 30
"""Lines of one of them."""

_COLUMNS: Final = (
    Column("time (UTC)", time=True),
    Column("node"),
    Column("sender"),
    Column("target"),
    Column("type"),
    Column("payload"),
)


def held_page(held: Held, budget: Budget) -> Page:
    """Show the next events that wait, and the nodes that will handle them."""
    if not len(held):
        return Page(
            Heading("Nothing is held in", name(held.space), () if held.paused else (part("not paused"),))
        )
    share = budget.share(MAX_NEWEST)
    rows = [_row(held[index], replace(share)) for index in range(min(len(held), MAX_NEWEST))]
    more = held.total - len(rows)
    block = table(_COLUMNS, rows, f"… {more:,} later" if more else "")
    return Page(Heading("Held in", name(held.space), (part(count(held.total, "event")),)), (block,))


def _row(held: HeldEvent, budget: Budget) -> tuple[Cell, ...]:
    event = held.event
    return (
        Cell(timestamp(event.time)),
        Cell(part(name(held.node), "plain")),
        Cell(part(name(event.sender), "plain")),
        name_cell(event.target),
        type_cell(event.type),
        payload_cell(event.payload, budget),
    )


def held_event_page(held: HeldEvent, budget: Budget) -> Page:
    """Show an event that waits, and the node that will handle it."""
    block = table(_COLUMNS, [_row(held, budget)], "")
    return Page(
        Heading("Held event", name(held.event.type), ((Span("at "), Span(name(held.node), "plain")),)),
        (block,),
    )


def step_page(step: Step, budget: Budget) -> Page:
    """Show what one step did."""
    return Page(Heading("Step", "", _parts(step)), (whole_outline(step.trace.root, budget),))


def steps_page(steps: Steps, budget: Budget) -> Page:
    """Show what each step did, and how many events wait after them."""
    left = [part(f"{steps.left:,} held")] if steps.left else []
    if not len(steps):
        return Page(Heading("No step", "", (part("nothing is held"),)))
    if len(steps) == 1:
        return Page(
            Heading("Step", "", (*_parts(steps[0]), *left)), (whole_outline(steps[0].trace.root, budget),)
        )
    shown = [steps[index] for index in range(min(len(steps), MAX_STEPS))]
    blocks = [whole_outline(each.trace.root, budget, limit=STEP_LINES) for each in shown]
    more = len(steps) - len(shown)
    notes = (Note(part(f"… {count(more, 'step')} more")),) if more else ()
    return Page(Heading(count(len(steps), "step"), "", tuple(left)), (*blocks, *notes))


def _parts(step: Step) -> tuple[Line, ...]:
    did = " handled " if step.trace.root.handled else " began to handle "  # it waits for the clock
    handled = (Span(name(step.node), "plain"), Span(did), Span(name(step.event.type), "plain"))
    totals, events = step.trace.root.totals, len(step.trace.root.children)
    emitted = events - totals.commits
    counts: list[tuple[int, str, Kind]] = [(totals.commits, "commit", ""), (emitted, "event", "")]
    counts.append((totals.failures, "failure", "err"))
    shown = [part(count(number, what), kind) for number, what, kind in counts if number]
    return (handled, *shown)
