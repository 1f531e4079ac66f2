"""Pages of held events, steps, reruns, receipts of cells, and verdicts on rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from textwrap import wrap
from typing import TYPE_CHECKING, Final, cast

from happen_nb._display import (
    TIMES,
    Kind,
    Line,
    Span,
    count,
    cut_middle,
    describe_error,
    function,
    name,
    one_line,
    part,
    plain,
    timestamp,
    type_name,
)
from happen_nb._display.changes import (
    MAX_CHANGES,
    MAX_TRACE_LINES,
    in_a_line,
    outline,
    trace_page,
    whole_outline,
)
from happen_nb._display.page import (
    MAX_NEWEST,
    TIME,
    Block,
    Cell,
    Fold,
    Heading,
    Note,
    Page,
    first,
    heading_name,
    name_cell,
    stored_time,
    table,
    titles,
)
from happen_nb._display.plots import Drawing, drawing, sequence
from happen_nb._display.plots.waterfall import draw_order, verb
from happen_nb._display.reprs_events import handler_row, payload_cell, progress_line, type_cell
from happen_nb._display.reprs_state import changes_cell, diff_cell
from happen_nb._display.values import WIDTH, Budget, summary
from happen_nb._model.paths import format_path
from happen_nb.errors import HappenError

if TYPE_CHECKING:
    from happen_nb._api.checks import Verdict
    from happen_nb._api.differences import BeforeNow, Difference, Differences, Rerun
    from happen_nb._api.events import Event
    from happen_nb._api.failures import Failure
    from happen_nb._api.handlers import Handler, Handlers
    from happen_nb._api.history import Commit
    from happen_nb._api.pausing import Held, HeldEvent, Step, Steps
    from happen_nb._api.receipts import Receipt
    from happen_nb._api.rerun import RerunProgress
    from happen_nb._model.frozen import Change, Diff
    from happen_nb._model.orders import Choice


MAX_STEPS: Final = 10  # steps whose effects are shown
STEP_LINES: Final = 30  # lines of one of them

_HELD_COLUMNS: Final = titles(TIME, "node", "sender", "target", "type", "payload")
MAX_DIFFERENCES: Final = 20  # differences that a table shows
MAX_STATES: Final = 20  # nodes whose states are compared
_LINE_COLUMNS: Final = 60  # of a payload or of a commit's changes
_NAME_COLUMNS: Final = 40
_VALUE_COLUMNS: Final = 24  # of a value in the heading
_INPUTS: Final = "An input is an event from outside; it differs if its effects do."
_KINDS: Final[dict[str, Kind]] = {"new": "add", "gone": "del", "changed": "plain", "moved": "plain"}
_COLUMNS: Final = titles("difference", "node", "commit or event", "by", "before", "now")
_STATE_COLUMNS: Final = titles("node", "state")
_HANDLER_COLUMNS: Final = titles("node", "pattern", "handler")
_NOTE_CHARACTERS: Final = 200  # of what still runs, in a receipt
_RECEIPT_LINES: Final = 20  # of what a cell caused, in text
_RECEIPT_ROWS: Final = 40  # of its sequence diagram
_ORDER_STEPS: Final = 12  # of an order, the last
_STEP_CHARACTERS: Final = 60
_RULE_CHARACTERS: Final = 200
_RULE_ERROR_CHARACTERS: Final = 300
_VERDICT_TRACE_LINES: Final = 20


def held_page(held: Held, budget: Budget) -> Page:
    """Show the next events that wait, and the nodes that will handle them."""
    if not len(held):
        return Page(
            Heading("Nothing is held in", name(held.space), () if held.paused else (part("not paused"),))
        )
    share = budget.share(MAX_NEWEST)
    block = first(
        held, _HELD_COLUMNS, lambda each: _held_row(each, replace(share)), rest="later", total=held.total
    )
    return Page(Heading("Held in", name(held.space), (part(count(held.total, "event")),)), (block,))


def _held_row(held: HeldEvent, budget: Budget) -> tuple[Cell, ...]:
    event = held.event
    return (
        Cell(timestamp(stored_time(event))),
        name_cell(held.node),
        name_cell(event.sender),
        name_cell(event.target),
        type_cell(event.type),
        payload_cell(event.payload, budget),
    )


def held_event_page(held: HeldEvent, budget: Budget) -> Page:
    block = table(_HELD_COLUMNS, [_held_row(held, budget)], "")
    return Page(
        Heading("Held event", type_name(held.event.type), ((Span("at "), Span(name(held.node), "plain")),)),
        (block,),
    )


def step_page(step: Step, budget: Budget) -> Page:
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
        text = f"{len(differing):,} of {number:,} {noun} {_differ(len(differing))}{first}"
        yield (Span(text, "plain", whole=_INPUTS),)
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


def _first_names(names: Sequence[str]) -> Line:
    left = len(names) - MAX_STATES
    shown = ", ".join(map(name, names[:MAX_STATES]))
    return part(f"{shown}, … {left:,} more" if left > 0 else shown, "plain")


def _function_names(handlers: Iterable[str]) -> list[str]:
    parts = (each.partition(" ") for each in handlers)
    return [f"{node} {function(handler)}" for node, _, handler in parts]


def _blocks(rerun: Rerun, budget: Budget) -> Iterator[Block]:
    if len(rerun.changed):
        names = [f"{each.node} {function(each.name)}" for each in rerun.changed]
        yield Note((Span("changed since then: "), *_first_names(names)))
    if rerun.missing and not rerun.same:
        advice = Span("; register them, then rerun")
        names = _function_names(rerun.missing)
        yield Note((Span("missing, no longer registered: "), *_first_names(names), advice))
    if rerun.unrepeated and not rerun.same:
        names = _function_names(rerun.unrepeated)
        yield Note((Span("cancelled or retried then, which is not repeated: "), *_first_names(names)))
    if rerun.overtaken and not rerun.same:
        stood = "it stood" if len(rerun.overtaken) == 1 else "they stood"
        names = _function_names(rerun.overtaken)
        yield Note((Span(f"overtaken, because {stood} still: "), *_first_names(names)))
    if rerun.elsewhere:
        number = sum(rerun.elsewhere.values())
        noun = "event or commit" if number == 1 else "events and commits"
        of = Span(f"not rerun, of another process: {number:,} {noun} of ")
        yield Note((of, *_first_names(list(rerun.elsewhere))))
    if rerun.failures:
        more_about = Span(" in the rerun: rerun.space.failures")
        yield Note((*part(count(rerun.failures, "failure"), "err"), more_about))
    if not rerun.same:
        found = rerun.differences
        yield Fold(part(count(len(found), "difference")), (_differences(found, budget),))
    differing = {node: each for node, each in rerun.states.items() if each.diff}
    if differing:
        share = budget.share(len(differing))
        states = first(
            differing.items(), _STATE_COLUMNS, lambda item: _state_row(*item, replace(share)), MAX_STATES
        )
        noted = f"states before and now: {count(len(differing), 'node')} {_differ(len(differing))}"
        yield Fold(part(noted), (states,))


def _state_row(node: str, states: BeforeNow, budget: Budget) -> tuple[Cell, ...]:
    return Cell(part(name(node), "name")), diff_cell(states.diff, budget)


def differences_page(differences: Differences, budget: Budget) -> Page:
    if not len(differences):
        return Page(Heading("No differences"))
    heading = Heading(count(len(differences), "difference"))
    return Page(heading, (_differences(differences, budget),))


def difference_page(difference: Difference, budget: Budget) -> Page:
    row = _row(difference, budget)
    return Page(Heading("Difference"), (table(_COLUMNS, [row]),))


def _differences(differences: Differences, budget: Budget) -> Block:
    share = budget.share(min(len(differences), MAX_DIFFERENCES))
    return first(differences, _COLUMNS, lambda each: _row(each, replace(share)), MAX_DIFFERENCES)


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
    except HappenError:  # shown in the cells
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
    return changes_cell(item, budget)


def changed_handlers_page(handlers: Handlers, _: Budget) -> Page:
    if not len(handlers):
        return Page(Heading("No changed handlers"))
    heading = Heading(count(len(handlers), "changed handler"))
    return Page(heading, (first(handlers, _HANDLER_COLUMNS, _changed_row, MAX_STATES),))


def _changed_row(handler: Handler) -> tuple[Cell, ...]:
    return Cell(part(name(handler.node), "name")), *handler_row(handler)[:2]


def rerun_progress_page(progress: RerunProgress, _: Budget) -> Page:
    done = progress_line({"done": progress.done, "total": progress.total})
    return Page(Heading("Rerun of", name(progress.of), tuple(done)))


# -- receipts ---------------------------------------------------------------------------------------


def receipt_page(receipt: Receipt, budget: Budget) -> Page:
    """Count what a cell caused, in a line that unfolds to the events and commits themselves."""
    line = _receipt_line(receipt)
    if not receipt.trees:
        return Page(None, (Note(line),))
    if not budget.folds:
        return Page(None, (outline(line, receipt.trees, budget, limit=_RECEIPT_LINES),))
    # Without times, and with effects below their cause: the same in each run of the cell.
    drawn = sequence.diagram("a cell", receipt.trees, in_time=False, limit=_RECEIPT_ROWS)
    picture = None
    if drawn.count("message"):
        picture = drawing(lambda width: sequence.draw(drawn, width=width, times=False))
        budget.spend(len(picture.svg) + len(picture.wide))
    return Page(None, (outline(line, receipt.trees, budget, limit=MAX_TRACE_LINES, drawing=picture),))


def _receipt_line(receipt: Receipt) -> Line:
    nearest = receipt.nearest
    near = "" if nearest is None else f" (nearly matches {name(nearest)})"
    unhandled = Span(f"{receipt.unhandled:,} unhandled{near}", "plain" if nearest is None else "err")
    parts = [
        *([Span(count(receipt.events, "event"), "plain")] if receipt.events else ()),
        *([Span(count(receipt.commits, "commit"), "plain")] if receipt.commits else ()),
        *([Span(count(receipt.failures, "failure"), "err")] if receipt.failures else ()),
        *([unhandled] if receipt.unhandled else ()),
        *([Span(f"{receipt.scheduled:,} scheduled", "plain")] if receipt.scheduled else ()),
        *([Span(f"{receipt.repeated:,} already stored", "plain")] if receipt.repeated else ()),
        *([Span(f"{count(receipt.replaced, 'registration')} replaced", "plain")] if receipt.replaced else ()),
        *([Span(one_line(receipt.note, _NOTE_CHARACTERS))] if receipt.note else ()),
    ]
    return tuple(span for each in parts for span in (Span(", "), each))[1:]


# -- verdicts ---------------------------------------------------------------------------------------


def verdict_page(verdict: Verdict, first: Page | None, budget: Budget) -> Page:
    """Show whether a rule holds; if not, `first`, the first record that breaks it, with its trace."""
    kind, line, blocks = "…", part("nothing to check yet: run the cells above"), tuple[Block, ...]()
    if verdict.orders is not None:
        return _orders_page(verdict, first, budget)
    if verdict.ok:
        kind, line = "✓", (Span("holds", "add"), Span(f" for {count(verdict.checked, verdict.noun)}"))
    elif first is not None:
        broken = f" by {len(verdict.broken):,} of {count(verdict.checked, verdict.noun)}"
        kind, line = "✗", (Span("broken", "err"), Span(broken))
        blocks = tuple(_breaking(verdict, first, budget))
    return Page(Heading(kind, one_line(verdict.claim, _RULE_CHARACTERS), (line,)), blocks)


def _orders_page(verdict: Verdict, first: Page | None, budget: Budget) -> Page:
    """Show in how many orders a rule holds or is broken, and the shortest that breaks it."""
    number = count(verdict.orders or 0, "order")
    orders = f"all {number}" if verdict.all else f"the {number} tried"
    if verdict.all and verdict.orders == 1:
        orders = "the only order"
    notes = [Note(part(verdict.note))] if verdict.note else []
    if verdict.failure is not None:
        notes.append(_failing(verdict.failure, verdict.failing))
    if first is None:
        line: Line = (Span("holds", "add"), Span(f" in {orders}"))
        return Page(Heading("✓", one_line(verdict.claim, _RULE_CHARACTERS), (line,)), tuple(notes))
    several = "" if verdict.orders == 1 else f"{len(verdict.broken):,} of "
    line = (Span("broken", "err"), Span(f" in {several}{orders}"))
    blocks = (_steps(verdict.steps, budget), *_broken_commit(verdict, first), *notes)
    return Page(Heading("✗", one_line(verdict.claim, _RULE_CHARACTERS), (line,)), blocks)


def _failing(first: Failure, orders: int) -> Note:
    """Show in how many orders handlers failed, and the first failure."""
    where = (Span(" first "), Span(f"{name(first.node)} {function(first.handler)}", "plain"), Span(": "))
    error = one_line(describe_error(first.exception), _RULE_ERROR_CHARACTERS)
    return Note((*part(f"handlers failed in {count(orders, 'order')},", "err"), *where, Span(error, "err")))


def _steps(steps: Sequence[Choice], budget: Budget) -> Block:
    """Show the last steps of an order: in HTML as a lane for each node, as text in a line."""
    text = steps_line(steps)
    if not steps or not budget.folds:
        return Note(text)
    shown = steps[-_ORDER_STEPS:]
    drawn = draw_order(shown, plain(text), len(steps) - len(shown))
    return Drawing(drawn, tuple(wrap(plain(text), WIDTH)))


def steps_line(steps: Sequence[Choice]) -> Line:
    shown = steps[-_ORDER_STEPS:]
    left = len(steps) - len(shown)
    line: list[Span] = [Span(f"… {left:,} more")] if left else []
    for step in shown:
        line += [Span(" · ")] if line else []
        line += [Span(name(step.node), "key"), Span(f" {one_line(verb(step), _STEP_CHARACTERS)}")]
    return tuple(line) or part("no handler begins")


def _broken_commit(verdict: Verdict, page: Page) -> Iterator[Block]:
    """Show the commit that breaks the rule, with its changes in the same line if they fit."""
    commit = cast("Commit", verdict.broken[0])
    by = (Span("by "), Span(name(commit.node), "key"), Span(f" · revision {commit.revision:,}"))
    line, whole = in_a_line(commit.diff, _LINE_COLUMNS)
    yield Note((*by, Span("   "), *line) if whole else by)
    yield from _rule_error(verdict)
    if not whole:
        yield from page.blocks


def _rule_error(verdict: Verdict) -> Iterator[Block]:
    if verdict.error is not None:
        error = one_line(verdict.error, _RULE_ERROR_CHARACTERS)
        yield Note((Span("the rule raised "), Span(error, "err")))


def _breaking(verdict: Verdict, page: Page, budget: Budget) -> Iterator[Block]:
    if page.heading is not None:
        yield Note(_heading_line(page.heading))
    yield from _rule_error(verdict)
    yield from page.blocks
    if verdict.trace is not None:
        yield Note(part("causes and effects:"))
        yield from trace_page(verdict.trace, budget, limit=_VERDICT_TRACE_LINES).blocks


def _heading_line(heading: Heading) -> Line:
    # Without its time, which the trace below shows.
    kind = f"{heading.kind[0].lower()}{heading.kind[1:]} "
    line = [Span("first by "), Span(kind), heading_name(heading)]
    for each in heading.parts:
        line += (Span(" · "), *each) if each and each[0].kind not in TIMES else ()
    return tuple(line)
