"""Pages of failures, retries and verdicts, with the order that broke a rule as a picture."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from textwrap import wrap
from typing import TYPE_CHECKING, Final, cast

from happen_nb._display.changes import in_a_line
from happen_nb._display.page import Block, Cell, Code, Column, Heading, Note, Page, heading_name, newest
from happen_nb._display.plots.svg_parts import COLOURS, Drawing, escaped, fit, line, measure, rect, svg, tspan
from happen_nb._display.spans import (
    TIMES,
    Line,
    Span,
    count,
    cut,
    function,
    name,
    one_line,
    part,
    plain,
    type_name,
    weight,
)
from happen_nb._display.traces import trace_page
from happen_nb._display.user_text import describe_error
from happen_nb._display.values import WIDTH, Budget

if TYPE_CHECKING:
    from happen_nb._api.checks import Verdict
    from happen_nb._api.failures import Failure, Failures, Retried
    from happen_nb._api.history import Commit
    from happen_nb._model.orders import Choice


_ROW: Final = 22
_NAME_PIXELS: Final = 140
_VERB_PIXELS: Final = 160
_VERB_CHARACTERS: Final = 60
_GAP: Final = 26  # from the end of a label to the next one, with the mark between
_LONGEST: Final = 760.0  # of all labels in a row; in a longer one, only the marks are drawn
_MARK_GAP: Final = 16.0  # between marks without labels
_ORDER_STEPS: Final = 12  # of an order, the last
_STEP_CHARACTERS: Final = 60
_VALUE_COLUMNS: Final = 60  # of a value in a line; a larger one is a tree
MAX_FAILURES: Final = 10
"""Newest failures that are shown."""
MAX_ERRORS: Final = 5
"""Different errors of a retry that are shown."""
_TRACEBACK_LINES: Final = 24  # the last ones
_TRACEBACK_COLUMNS: Final = 160
_TABLE_ERROR_COLUMNS: Final = 60
_MESSAGE_CHARACTERS: Final = 600
_RULE_CHARACTERS: Final = 200
_RULE_ERROR_CHARACTERS: Final = 300
_VERDICT_TRACE_LINES: Final = 20
_FILE: Final = re.compile(r'^(\s*)File "([^"]*)", line (\d+)')
_FAILURE_COLUMNS: Final = (
    Column("node"),
    Column("handler"),
    Column("event"),
    Column("attempts", right=True),
    Column("error"),
)


def verb(step: Choice) -> str:
    """Describe what a node does in a step of an order."""
    if step.what != "emit":
        return f"{step.what}s"
    return f"emits {step.target}" if step.receiver is None else f"sends {step.target} to {step.receiver}"


def draw(steps: Sequence[Choice], about: str, left_out: int = 0) -> str:
    """Draw steps as SVG, for light and dark pages; `left_out` is the number of those before them.

    A ring stands for a begin, a square for a commit, and a dot for an event. The last mark, after which the
    rule is broken, has the colour of errors.
    """
    nodes = list(dict.fromkeys(step.node for step in steps))
    heads = [fit(name(node), _NAME_PIXELS, bold=True) for node in nodes]
    left = 12 + max(measure(head, bold=True) for head in heads)
    verbs = [fit(one_line(verb(step), _VERB_CHARACTERS), _VERB_PIXELS) for step in steps]
    widths = [measure(each) + _GAP for each in verbs]
    if left + sum(widths) > _LONGEST:
        verbs, widths = [""] * len(steps), [_MARK_GAP] * len(steps)
    width, height = left + sum(widths), _ROW * (len(nodes) + bool(left_out)) + 4
    marks = [_lane(head, row, left, width) for row, head in enumerate(heads)]
    if left_out:
        marks.append(f'<text class="q" x="2" y="{height - 6}">{escaped(f"after {left_out:,} more")}</text>')
    x = left + 6
    for index, (step, label, room) in enumerate(zip(steps, verbs, widths, strict=True)):
        row = nodes.index(step.node)
        last = index == len(steps) - 1
        marks.append(f"<g><title>{escaped(f'{index + 1}. {step.node} {verb(step)}')}</title>")
        marks.append(_mark(step, x, _middle(row), "var(--bad)" if last else f"var(--c{row % len(COLOURS)})"))
        if label:
            paper = rect(x + 6, _middle(row) - 7, measure(label) + 4, 14, 'class="w"')
            text = tspan(label, 0, "e" if last else "q")
            marks.append(f'{paper}<text x="{x + 8:.1f}" y="{_middle(row) + 4:.1f}">{text}</text>')
        marks.append("</g>")
        x += room
    return svg(about, width, height, "".join(marks))


def _middle(row: int) -> float:
    return _ROW * (row + 0.5) + 2


def _lane(head: str, row: int, left: float, width: float) -> str:
    y = _middle(row)
    return f'<text x="2" y="{y + 4:.1f}">{tspan(head, 0, "b")}</text>' + line(
        left - 4, y, width, y, 'class="l"'
    )


def _mark(step: Choice, x: float, y: float, colour: str) -> str:
    if step.what == "commit":
        return rect(x - 4, y - 4, 8, 8, f'fill="{colour}"')
    paper = "var(--paper)" if step.what == "begin" else colour
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{paper}" stroke="{colour}" stroke-width="1.5"/>'


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
        (part(f"{retried.succeeded:,} succeeded", "add") if retried.succeeded else ()),
        (part(f"{retried.failed:,} failed again", "err") if retried.failed else ()),
        (part(f"{retried.unhandled:,} without a handler") if retried.unhandled else ()),
    )
    total = count(retried.succeeded + retried.failed + retried.unhandled, retried.what)
    notes = [Note(part(one_line(each, _MESSAGE_CHARACTERS), "err")) for each in retried.errors[:MAX_ERRORS]]
    left = max(0, len(retried.errors) - MAX_ERRORS)
    more = [Note(part(f"… {count(left, 'other error')}"))] if left else []
    return Page(Heading("Retried", total, tuple(filter(None, counts))), (*notes, *more))


def _failure_row(failure: Failure, budget: Budget) -> tuple[Cell, ...]:
    error = one_line(describe_error(failure.exception), _TABLE_ERROR_COLUMNS)
    return (
        Cell(part(name(failure.node), "name")),
        Cell(part(function(failure.handler), "plain")),
        Cell(_event_type(failure)),
        Cell(part(f"{failure.attempts:,}", "plain")),
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
    if "ipykernel_" in file or file.startswith("<"):
        return f"{indent}In a cell, line {line}"
    base = re.split(r"[\\/]", file)[-1]
    return f'{indent}File "{base}", line {line}'


def verdict_page(verdict: Verdict, first: Page | None, budget: Budget) -> Page:
    """Show if a rule holds; if not, `first`, the first record that breaks it, with its trace."""
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
    drawn = draw(shown, plain(text), len(steps) - len(shown))
    return Drawing(drawn, tuple(wrap(plain(text), WIDTH)))


def steps_line(steps: Sequence[Choice]) -> Line:
    """Show the last steps of an order in a line."""
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
    line, whole = in_a_line(commit.diff, _VALUE_COLUMNS)
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
        yield Note(part("what led to it, and what followed:"))
        yield from trace_page(verdict.trace, budget, limit=_VERDICT_TRACE_LINES).blocks


def _heading_line(heading: Heading) -> Line:
    # Without its time, which the trace below shows.
    kind = f"{heading.kind[0].lower()}{heading.kind[1:]} "
    line = [Span("first by "), Span(kind), heading_name(heading)]
    for each in heading.parts:
        line += (Span(" · "), *each) if each and each[0].kind not in TIMES else ()
    return tuple(line)
