"""Pages of what waits while a space is paused, of the steps through it, and of reruns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from happen_nb._display.changes import MAX_CHANGES, changes, in_a_line
from happen_nb._display.page import (
    MAX_NEWEST,
    Block,
    Cell,
    Column,
    Fold,
    Heading,
    Note,
    Page,
    name_cell,
    table,
)
from happen_nb._display.reprs_events import handler_row, payload_cell, progress_line, type_cell
from happen_nb._display.reprs_state import changes_cell
from happen_nb._display.spans import (
    Kind,
    Line,
    Span,
    count,
    cut_middle,
    more,
    name,
    part,
    plain,
    timestamp,
    type_name,
)
from happen_nb._display.traces import whole_outline
from happen_nb._display.values import Budget, summary
from happen_nb._model.paths import format_path
from happen_nb.errors import HappenError

if TYPE_CHECKING:
    from happen_nb._api.differences import BeforeNow, Difference, Differences, Rerun
    from happen_nb._api.events import Event
    from happen_nb._api.handlers import Handlers
    from happen_nb._api.history import Commit
    from happen_nb._api.pausing import Held, HeldEvent, Step, Steps
    from happen_nb._api.rerun import RerunProgress
    from happen_nb._model.frozen import Change, Diff


MAX_STEPS: Final = 10
"""Steps whose effects are shown."""
STEP_LINES: Final = 30
"""Lines of one of them."""

_HELD_COLUMNS: Final = (
    Column("time (UTC)", time=True),
    Column("node"),
    Column("sender"),
    Column("target"),
    Column("type"),
    Column("payload"),
)
MAX_DIFFERENCES: Final = 20
"""Differences that a table shows."""
MAX_STATES: Final = 20
"""Nodes whose states are compared."""
_LINE_COLUMNS: Final = 60  # of a payload or of a commit's changes
_NAME_COLUMNS: Final = 40
_VALUE_COLUMNS: Final = 24  # of a value in the heading
_MAX_STATE_CHANGES: Final = 12
_KINDS: Final[dict[str, Kind]] = {"new": "add", "gone": "del", "changed": "plain", "moved": "plain"}
_COLUMNS: Final = (
    Column("difference"),
    Column("node"),
    Column("commit or event"),
    Column("by"),
    Column("before"),
    Column("now"),
)
_STATE_COLUMNS: Final = (Column("node"), Column("state"))
_HANDLER_COLUMNS: Final = (Column("node"), Column("pattern"), Column("handler"))


def held_page(held: Held, budget: Budget) -> Page:
    """Show the next events that wait, and the nodes that will handle them."""
    if not len(held):
        return Page(
            Heading("Nothing is held in", name(held.space), () if held.paused else (part("not paused"),))
        )
    share = budget.share(MAX_NEWEST)
    rows = [_held_row(held[index], replace(share)) for index in range(min(len(held), MAX_NEWEST))]
    more = held.total - len(rows)
    block = table(_HELD_COLUMNS, rows, f"… {more:,} later" if more else "")
    return Page(Heading("Held in", name(held.space), (part(count(held.total, "event")),)), (block,))


def _held_row(held: HeldEvent, budget: Budget) -> tuple[Cell, ...]:
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
    block = table(_HELD_COLUMNS, [_held_row(held, budget)], "")
    return Page(
        Heading("Held event", type_name(held.event.type), ((Span("at "), Span(name(held.node), "plain")),)),
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
    handled = (Span(name(step.node), "plain"), Span(did), type_name(step.event.type, kind="plain"))
    totals, events = step.trace.root.totals, len(step.trace.root.children)
    emitted = events - totals.commits
    counts: list[tuple[int, str, Kind]] = [(totals.commits, "commit", ""), (emitted, "event", "")]
    counts.append((totals.failures, "failure", "err"))
    shown = [part(count(number, what), kind) for number, what, kind in counts if number]
    return (handled, *shown)


def rerun_page(rerun: Rerun, budget: Budget) -> Page:
    """Show in one line what differs, and below it, folded, each difference and the states."""
    parts = [part(count(rerun.events, "event"), "plain"), *_summary(rerun)]
    return Page(Heading("Rerun of", name(rerun.of), tuple(parts)), tuple(_blocks(rerun, budget)))


def _summary(rerun: Rerun) -> Iterator[Line]:
    if rerun.same:
        yield part("the same events and commits in the same order", "plain")
        return
    noun, number, differing = rerun.chains
    if differing:
        first = f", first {cut_middle(differing[0], _NAME_COLUMNS)}"
        yield part(f"{len(differing):,} of {number:,} {noun} {_differ(len(differing))}{first}", "plain")
    else:
        found = len(rerun.differences)
        yield part(f"{count(found, 'difference')}", "plain")
    for node, states in rerun.states.items():
        if change := next(iter(states.diff), None):
            left = sum(len(each.diff) for each in rerun.states.values()) - 1
            label = ".".join(filter(None, (node, format_path(change.path))))
            rest = f", {left:,} more" if left else ""
            yield (Span(f"{cut_middle(label, _NAME_COLUMNS)} "), *_from_to(change), Span(rest))
            return


def _from_to(change: Change) -> Line:
    before, after = (summary(value, _VALUE_COLUMNS) for value in (change.before, change.after))
    if change.op == "add":
        return (Span("+ ", "+"), *after)
    if change.op == "remove":
        return (Span("- ", "-"), *before)
    return (*before, Span(" → "), *after)


def _differ(number: int) -> str:
    return "differs" if number == 1 else "differ"


def _blocks(rerun: Rerun, budget: Budget) -> Iterator[Block]:
    if len(rerun.changed):
        names = ", ".join(f"{each.node} {each.name}" for each in rerun.changed[:MAX_STATES])
        yield Note((Span("changed since then: "), Span(name(names), "plain")))
    if rerun.missing and not rerun.same:
        names = ", ".join(rerun.missing[:MAX_STATES])
        advice = Span("; register them, then rerun again")
        yield Note((Span("gone with handlers no longer registered: "), Span(name(names), "plain"), advice))
    if rerun.elsewhere:
        names = ", ".join(list(rerun.elsewhere)[:MAX_STATES])
        number = sum(rerun.elsewhere.values())
        noun = "event or commit" if number == 1 else "events and commits"
        yield Note(
            (Span(f"not rerun, of another process: {number:,} {noun} of "), Span(name(names), "plain"))
        )
    if rerun.failures:
        more_about = Span(" in the rerun: rerun.space.failures")
        yield Note((*part(count(rerun.failures, "failure"), "err"), more_about))
    if not rerun.same:
        found = rerun.differences
        yield Fold(part(count(len(found), "difference")), (_differences(found, budget),))
    differing = {node: each for node, each in rerun.states.items() if each.diff}
    if differing:
        share = budget.share(len(differing))
        rows = [
            _state_row(node, each, replace(share)) for node, each in islice(differing.items(), MAX_STATES)
        ]
        states = table(_STATE_COLUMNS, rows, more(len(differing) - len(rows)))
        yield Fold(
            part(f"states before and now: {count(len(differing), 'node')} {_differ(len(differing))}"),
            (states,),
        )


def _state_row(node: str, states: BeforeNow, budget: Budget) -> tuple[Cell, ...]:
    line, whole = in_a_line(states.diff, _LINE_COLUMNS)
    detail = None if whole or not budget.folds else changes(states.diff, budget, limit=_MAX_STATE_CHANGES)
    return Cell(part(name(node), "name")), Cell(line, detail if detail and detail.rows else None)


def differences_page(differences: Differences, budget: Budget) -> Page:
    if not len(differences):
        return Page(Heading("No differences"))
    heading = Heading(count(len(differences), "difference"))
    return Page(heading, (_differences(differences, budget),))


def difference_page(difference: Difference, budget: Budget) -> Page:
    row = _row(difference, budget)
    return Page(Heading("Difference"), (table(_COLUMNS, [row]),))


def _differences(differences: Differences, budget: Budget) -> Block:
    shown = differences[:MAX_DIFFERENCES]
    share = budget.share(len(shown))
    rows = [_row(each, replace(share)) for each in shown]
    return table(_COLUMNS, rows, more(len(differences) - len(rows)))


def _row(difference: Difference, budget: Budget) -> tuple[Cell, ...]:
    either = difference.either
    what = getattr(either, "type", None)
    by = None if what is not None else getattr(either, "by", None)
    return (
        Cell(part(difference.kind, _KINDS[difference.kind])),
        Cell(part(name(difference.node), "name")),
        Cell(part("commit") if what is None else (type_name(what, _LINE_COLUMNS),)),
        name_cell(by),
        *_contents(difference, budget),
    )


def _contents(difference: Difference, budget: Budget) -> tuple[Cell, Cell]:
    """Show both contents; of commits that look the same, the first changes that they do not share."""
    before, now = difference.before, difference.now
    cells = _content(before, budget), _content(now, budget)
    if before is None or now is None or plain(cells[0].line) != plain(cells[1].line):
        return cells
    if hasattr(before, "payload") or hasattr(now, "payload"):
        return cells
    try:
        one, other = before.diff[:MAX_CHANGES], now.diff[:MAX_CHANGES]
    except HappenError:  # what the cells show
        return cells
    if not one or not other:
        return cells
    lines = _own(one, other), _own(other, one)
    return cells[0]._replace(line=lines[0]), cells[1]._replace(line=lines[1])


def _own(changes: Diff, others: Diff) -> Line:
    own = next((each for each in changes if each not in others), changes[0])
    rest = f", … {len(changes) - 1:,} more" if len(changes) > 1 else ""
    return (*in_a_line([own], _LINE_COLUMNS - len(rest))[0], Span(rest))


def _content(item: Event | Commit | None, budget: Budget) -> Cell:
    if item is None:
        return Cell()
    if hasattr(item, "payload"):
        return payload_cell(item.payload, budget)
    cell = changes_cell(item, budget)
    return cell if cell.line else Cell(part("no change"))


def changed_handlers_page(handlers: Handlers, _: Budget) -> Page:
    if not len(handlers):
        return Page(Heading("No changed handlers"))
    rows = [(Cell(part(name(each.node), "name")), *handler_row(each)[:2]) for each in handlers[:MAX_STATES]]
    heading = Heading(count(len(handlers), "changed handler"))
    return Page(heading, (table(_HANDLER_COLUMNS, rows, more(len(handlers) - len(rows))),))


def rerun_progress_page(progress: RerunProgress, _: Budget) -> Page:
    done = progress_line({"done": progress.done, "total": progress.total})
    return Page(Heading("Rerun of", name(progress.of), tuple(done)))
