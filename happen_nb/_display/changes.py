"""Changes: the difference of two states, and the trace of an event.

A trace is an outline of events and commits, each below its cause. Its lines are chosen level by level, so
that a deep branch does not hide the others. Their number and length are bounded, so that neither time nor
size depends on the size of the trace.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Final

from happen_nb._display import (
    TIMES,
    Kind,
    Line,
    Span,
    columns,
    count,
    cut_middle,
    duration,
    function,
    human_duration,
    name,
    one_line,
    part,
    plain,
    quote,
    timestamp,
    type_name,
    weight,
)
from happen_nb._display.page import Heading, Note, Outline, OutlineStep, Page
from happen_nb._display.plots import Drawing
from happen_nb._display.values import (
    ROW_BYTES,
    WIDTH,
    Budget,
    Row,
    Sign,
    fits,
    grow,
    is_container,
    row_of,
    summary,
    unfold,
)
from happen_nb._model.causality import TraceNode
from happen_nb._model.frozen import Change, Diff, diff
from happen_nb._model.paths import format_path
from happen_nb._model.records import EMPTY, CommitRecord, EventRecord, HandledRecord
from happen_nb._model.schedules import ClockMoves, from_ns, from_text
from happen_nb.errors import HappenError

if TYPE_CHECKING:
    from happen_nb._api.events import Trace


MAX_CHANGES: Final = 30  # changes of a commit that are shown
PATH_COLUMNS: Final = 44  # columns that a path takes
_SIGNS: Final[dict[str, Sign]] = {"add": "+", "remove": "-", "change": "~"}
_ERROR_CHARACTERS: Final = 300
_SHARED_CHARACTERS: Final = 8  # of what two long strings share, shown before their difference


def changes(diff: Sequence[Change], budget: Budget, *, limit: int = MAX_CHANGES) -> Row:
    """Build the rows of a difference below an open root, `limit` at most."""
    root = Row(open=True, pad=PATH_COLUMNS)
    first = list(islice(diff, limit))
    labels = [_path(change, PATH_COLUMNS) for change in first]
    room = WIDTH - 4 - min(PATH_COLUMNS, max(map(columns, labels), default=0))
    made = [_row(change, label, room) for change, label in zip(first, labels, strict=True)]
    for row in made:
        if not budget.take(row):
            break
        root.rows.append(row)
    root.hidden = len(diff) - len(root.rows)
    folding = [(row, change) for row, change in zip(root.rows, first, strict=False) if _folds(row)]
    share = budget.share(len(folding))
    for row, change in folding:
        _fold(row, change, replace(share))
    return root


def in_a_line(diff: Sequence[Change], room: int) -> tuple[Line, bool]:
    """Return a difference in one line, and True if the line shows all of it.

    A single change has its values, several have their paths only.
    """
    if not diff:
        return part("no change"), True
    if len(diff) == 1:
        label = _path(diff[0], room // 2)
        row = _row(diff[0], label, room - columns(label) - 4)
        return (*_signed(row.sign, row.label), Span("  "), *(row.preview or row.value)), not _folds(row)
    return _paths(diff, room), False


def diff_of(record: CommitRecord, before: CommitRecord | None) -> Diff | None:
    """Return the changes of a commit; None if the state before it is unknown. A state may be unreadable."""
    if before is None:
        return diff(EMPTY, record.state) if record.revision == 1 else None
    return diff(before.state, record.state) if before.revision == record.revision - 1 else None


def _paths(diff: Sequence[Change], room: int) -> Line:
    return _listed((_signed(_SIGNS[change.op], _path(change, 32)) for change in diff), len(diff), room)


def _listed(pieces: Iterable[Line], number: int, room: int) -> Line:
    """Join as many of a number of pieces as there is room for, at least one."""
    out: list[Span] = []
    for index, piece in enumerate(pieces):
        room -= len(plain(span for span in piece if span.kind not in TIMES)) + 2
        if room < 0 and index:
            return (*out, Span(f", … {number - index:,} more"))
        out += (Span(", "), *piece) if index else piece
    return tuple(out)


def _signed(sign: Sign, label: str) -> Line:
    return Span(f"{sign} ", sign), Span(label, "key")


def _path(change: Change, room: int) -> str:
    return cut_middle(format_path(change.path), room)


def _row(change: Change, label: str, room: int) -> Row:
    sign = _SIGNS[change.op]
    if sign == "~":
        return Row(sign, label, _from_to(change.before, change.after, max(room, 36)))
    row = row_of(label, change.after if sign == "+" else change.before, max(room, 24), sign=sign)
    kind: Kind = "add" if sign == "+" else "del"
    row.value, row.preview = _toned(row.value, kind), _toned(row.preview, kind)
    return row


def _fold(row: Row, change: Change, budget: Budget) -> None:
    """Put the part of the value that a row leaves out into its fold."""
    value = change.before if row.sign == "-" else change.after
    if row.preview:
        grow(row, value, budget)
    elif isinstance(value, str):
        unfold(row, value, budget)


def _folds(row: Row) -> bool:
    return bool(row.preview) or "…" in plain(row.value)


def _from_to(before: object, after: object, room: int) -> Line:
    """Show both values; two long strings that start alike are shown from where they differ."""
    half = (room - 3) // 2
    if isinstance(before, str) and isinstance(after, str) and max(len(before), len(after)) + 2 > half:
        start = max(0, _shared(before, after) - _SHARED_CHARACTERS)
        old, new = _from(before, start, half), _from(after, start, half)
    else:
        old, new = _brief(before, half), _brief(after, half)
    return (*_toned(old, "del"), Span(" → "), *_toned(new, "add"))


def _shared(before: str, after: str) -> int:
    """Count the characters that two strings share at the start."""
    # By halving slices: a loop over 1 MB is slow.
    low, high = 0, min(len(before), len(after))
    while low < high:
        middle = (low + high + 1) // 2
        if before[low:middle] == after[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _from(text: str, start: int, room: int) -> Line:
    if not start:
        return (Span(quote(text, room), "str"),)
    return (Span('"…' + quote(text[start : start + room], room - 1)[1:], "str"),)


def _brief(value: object, room: int) -> Line:
    whole = fits(value, room)
    if whole is not None:
        return whole
    return summary(value, room) if is_container(value) else (Span(quote(str(value), room), "str"),)


def _toned(line: Line, kind: Kind) -> Line:
    return (Span(plain(line), kind),) if line else ()


# -- traces -----------------------------------------------------------------------------------------

MAX_TRACE_LINES: Final = 100  # events and commits that a trace shows
MAX_INDENT: Final = 12  # deeper lines are not indented further; they start with their depth

_NODE_COLUMNS: Final = 24  # of the name of a node that handled an event
_UNKNOWN: Final = "(its changes are not stored)"
_MAX_ERRORS: Final = 4  # below an event
_MAX_FOLDED_CHANGES: Final = 12  # of a commit
_MIN_COLUMNS: Final = 48  # of a line, however deep it is
_OUTCOMES: Final = ("failed", "cancelled", "done", "refused")  # the first one that occurs stands for a node


def trace_page(trace: Trace, budget: Budget, *, limit: int = MAX_TRACE_LINES) -> Page:
    """Show the effects of an event: their numbers, then the tree of them in about `limit` lines."""
    try:
        root = trace.root
    except HappenError as error:  # it is read when it is first shown, which may be too late
        return Page(Heading("Trace"), (Note(part(one_line(str(error), _ERROR_CHARACTERS), "err")),))
    totals = root.totals
    parts = [part(count(totals.events, "event")), part(count(totals.commits, "commit"))]
    if totals.failures:
        parts.append(part(count(totals.failures, "failure"), "err"))
    if totals.duration:
        parts.append(_in_handlers(totals.duration, times=trace.times))
    heading = Heading("Trace of", _title(root), tuple(parts))
    clock = trace._clock if trace.times else None
    return Page(heading, (Outline(_steps(root, budget, clock, limit=limit)),))


def outline(
    line: Line, roots: Sequence[TraceNode], budget: Budget, *, limit: int, drawing: Drawing | None = None
) -> Outline:
    """Build a line that unfolds to a drawing and the effects of each root, in about `limit` lines."""
    steps = [OutlineStep(0, line)]
    for index, root in enumerate(roots):
        if len(steps) > limit or not budget.weight:
            steps.append(OutlineStep(1, part(f"… {len(roots) - index:,} more")))
            break
        steps += (step._replace(depth=step.depth + 1) for step in _steps(root, budget))
    return Outline(tuple(steps), folded=True, drawing=drawing)


def whole_outline(root: TraceNode, budget: Budget, *, limit: int = MAX_TRACE_LINES) -> Outline:
    """Build the outline of the effects of an event, in about `limit` lines."""
    return Outline(_steps(root, budget, limit=limit))


def _title(root: TraceNode) -> str | Span:
    if root.event is not None:
        return type_name(root.event.type)
    return name(root.commit.node) if root.commit is not None else ""


@dataclass(slots=True)
class _Entry:
    """The lines of one node of the tree."""

    depth: int
    line: Line
    errors: list[Line] = field(default_factory=list)
    diff: Diff | None = None
    detail: Row | None = None

    @property
    def cost(self) -> int:
        return sum(ROW_BYTES + weight(line) for line in (self.line, *self.errors))


def _steps(
    root: TraceNode, budget: Budget, clock: ClockMoves | None = None, *, limit: int = MAX_TRACE_LINES
) -> tuple[OutlineStep, ...]:
    """Return the lines of a trace, with the times of a clock if it is given."""
    entries = _chosen(root, budget, clock, limit)
    _fold_changes(entries.values(), budget)
    sizes = _sizes(root)
    steps: list[OutlineStep] = []
    waiting: list[OutlineStep | TraceNode] = [root]
    while waiting:
        current = waiting.pop()
        if isinstance(current, OutlineStep):
            steps.append(current)
            continue
        entry = entries[current]
        steps.append(_step(entry.depth, entry.line, entry.detail))
        below = entry.depth + 1
        steps.extend(OutlineStep(min(below, MAX_INDENT), line) for line in entry.errors)
        left = [child for child in current.children if child not in entries]
        if left:
            waiting.append(_step(below, _left_out(left, sizes)))
        waiting.extend(child for child in reversed(_effects(current)) if child in entries)
    return tuple(steps)


def _effects(node: TraceNode) -> list[TraceNode]:
    # By the name of the node: nodes work in parallel, and their order in the journal varies.
    return sorted(node.children, key=lambda child: child.actor)


def _step(depth: int, line: Line, detail: Row | None = None) -> OutlineStep:
    if depth <= MAX_INDENT:
        return OutlineStep(depth, line, detail)
    return OutlineStep(MAX_INDENT, (Span(f"{depth:,} ↳ "), *line), detail)


def _chosen(root: TraceNode, budget: Budget, clock: ClockMoves | None, limit: int) -> dict[TraceNode, _Entry]:
    """Choose the nodes to show: those next to the root first, as many as there is room for."""
    entries: dict[TraceNode, _Entry] = {}
    waiting: deque[tuple[int, TraceNode, TraceNode | None]] = deque([(0, root, None)])
    while waiting and len(entries) < limit:
        depth, node, parent = waiting.popleft()
        entry = _entry(node, depth, parent, clock)
        if not budget.spend(entry.cost) and entries:
            break
        entries[node] = entry
        waiting.extend((depth + 1, child, node) for child in _effects(node))
    return entries


def _sizes(root: TraceNode) -> dict[TraceNode, tuple[int, int]]:
    """Count, for each node, the nodes of its subtree and the handlings that failed in it."""
    sizes: dict[TraceNode, tuple[int, int]] = {}
    for node in reversed(list(root)):
        below = [sizes[child] for child in node.children]
        failed = sum(record.outcome == "failed" for record in node.handled)
        sizes[node] = 1 + sum(size for size, _ in below), failed + sum(number for _, number in below)
    return sizes


def _left_out(left: Sequence[TraceNode], sizes: dict[TraceNode, tuple[int, int]]) -> Line:
    number = sum(sizes[node][0] for node in left)
    failed = sum(sizes[node][1] for node in left)
    more = Span(f"… {number:,} more")
    return (more, Span(f", {count(failed, 'failure')}", "err")) if failed else (more,)


def _entry(node: TraceNode, depth: int, parent: TraceNode | None, clock: ClockMoves | None) -> _Entry:
    room = max(_MIN_COLUMNS, WIDTH - 2 * min(depth, MAX_INDENT) - 2)
    if node.commit is not None:
        gap = _gap(node.commit.origin.cause, parent)
        line, changed = _commit(node.commit, node.before, room, clock)
        return _Entry(depth, (*gap, *line), diff=changed)
    if node.event is None:
        return _Entry(depth, part("unknown"))
    line = _event(node, node.event, parent, room, clock)
    return _Entry(depth, (*_gap(node.event.cause, parent), *line), _errors(node.handled, room))


def _gap(cause: str | None, parent: TraceNode | None) -> Line:
    """Mark a node that stands below an earlier cause because its own is no longer stored."""
    known = parent is None or parent.event is None or parent.event.id == cause
    return () if known else part("… ")


def _event(
    node: TraceNode, event: EventRecord, parent: TraceNode | None, room: int, clock: ClockMoves | None
) -> Line:
    after = delay(event, None if parent is None else parent.event)
    start: Line = (type_name(event.type, room // 2, "key"), *part(f" {after}" if after else ""), Span("  "))
    start = (*start, Span(cut_middle(event.sender, room // 4), "plain"), Span(" → "))
    handlers = _handlers(node, event, room - len(plain(start)), times=clock is not None)
    line = (*start, *handlers)
    return line if clock is None else (*line, *_position(event, event.id, clock))


def delay(event: EventRecord, cause: EventRecord | None) -> str:
    """Return how long after its cause a scheduled event was due, ``after 1 h``; else an empty string."""
    if event.due is None or cause is None or cause.id != event.cause:
        return ""
    due, begun = from_text(event.due), from_ns(cause.time)
    by_manual_clock = event.occurred is not None and datetime.fromisoformat(event.occurred) == due
    if by_manual_clock and cause.occurred is not None:
        begun = datetime.fromisoformat(cause.occurred)
    seconds = (due - begun).total_seconds()
    rounded = seconds if by_manual_clock else round(seconds)  # the handler took a moment, too
    return f"after {human_duration(rounded)}" if rounded > 0 else ""


def _acting(node: TraceNode, event: EventRecord) -> str | None:
    """Return a node whose handler has committed or emitted something, and has not ended."""
    for child in node.children:
        record = child.commit or child.event
        if record is not None and record.origin.cause == event.id:
            return child.actor
    return None


def _handlers(node: TraceNode, event: EventRecord, room: int, *, times: bool) -> Line:
    """List the nodes that handled an event or are about to, as many as there is room for, at least one."""
    nodes: dict[str, list[HandledRecord]] = {}
    for record in node.handled:
        nodes.setdefault(record.node, []).append(record)
    still = node.open or {}
    if not nodes and not still:
        return _not_handled(node, event)
    pieces = (
        _stands(each, still[each]) if each in still else _handler(each, nodes[each], times=times)
        for each in sorted({*nodes, *still})
    )
    return _listed(pieces, len({*nodes, *still}), room)


def _not_handled(node: TraceNode, event: EventRecord) -> Line:
    if (acting := _acting(node, event)) is not None:
        return _stands(acting, "not done yet")
    if event.target is not None:
        return _stands(event.target, "not yet")
    return part("no handler yet" if node.open is None else node.prospect)


def _stands(node: str, state: str) -> Line:
    return Span(cut_middle(node, _NODE_COLUMNS), "plain"), Span(f" {state}")


def _handler(node: str, records: Sequence[HandledRecord], *, times: bool) -> Line:
    outcomes = {record.outcome for record in records}
    outcome = next((each for each in _OUTCOMES if each in outcomes), "")
    result: Line = ()
    if outcome != "done":
        result = part(f" {outcome}", "" if outcome == "refused" else "err")
    seconds = sum(record.duration for record in records)
    lasted = _duration(seconds, times=times) if seconds else ()
    space = part(" ") if lasted and times else ()
    durable = part(" durable") if any(record.handling is not None for record in records) else ()
    return (Span(cut_middle(node, _NODE_COLUMNS), "plain"), *durable, *result, *space, *lasted)


def _errors(handled: Sequence[HandledRecord], room: int) -> list[Line]:
    failed = [record for record in handled if record.outcome == "failed"]
    lines = [_error(record, room) for record in failed[:_MAX_ERRORS]]
    if len(failed) > _MAX_ERRORS:
        lines.append(part(f"… {count(len(failed) - _MAX_ERRORS, 'failure')} more"))
    return lines


def _error(record: HandledRecord, room: int) -> Line:
    where = f"{cut_middle(record.node, room // 4)} {cut_middle(function(record.handler), room // 4)}"
    tries = f" · {count(record.attempts, 'attempt')}" if record.attempts > 1 else ""
    return (
        Span("! ", "err"),
        Span(where, "plain"),
        Span(f"{tries}  "),
        Span(one_line(record.error or "", room), "err"),
    )


def _commit(
    record: CommitRecord, before: CommitRecord | None, room: int, clock: ClockMoves | None
) -> tuple[Line, Diff | None]:
    by = record.origin.by
    start: Line = (Span(cut_middle(record.node, room // 4), "key"), Span(f" revision {record.revision:,}"))
    if by is not None and by != record.node:
        start = (*start, Span(" by "), Span(cut_middle(by, room // 4), "plain"))
    line, changed = changes_of(record, before, max(room // 2, room - len(plain(start)) - 2))
    end = () if clock is None else _position(record, record.id or "", clock)
    return (*start, Span("  "), *line, *end), changed


def changes_of(
    record: CommitRecord, before: CommitRecord | None, room: int, *, unknown: str = _UNKNOWN
) -> tuple[Line, Diff | None]:
    """Show the changes of a commit in a line; return them too if they do not fit."""
    if record.deleted:
        return part("deleted", "del"), None
    try:
        changed = diff_of(record, before)
    except HappenError as error:
        return part(one_line(str(error), room), "err"), None
    if changed is None:
        return part(unknown), None
    line, whole = in_a_line(changed, room)
    return line, None if whole else changed


def _fold_changes(entries: Iterable[_Entry], budget: Budget) -> None:
    """Put changes that do not fit in a line into a fold, as far as the budget goes."""
    folding = [entry for entry in entries if entry.diff]
    if not budget.folds or not folding:
        return
    share = budget.share(len(folding))
    for entry in folding:
        assert entry.diff is not None
        folded = changes(entry.diff, replace(share), limit=_MAX_FOLDED_CHANGES)
        entry.detail = folded if folded.rows else None


def _duration(seconds: float, *, times: bool) -> Line:
    return _timed(seconds, "visible" if times else "duration", "time in the handler")


def _in_handlers(seconds: float, *, times: bool) -> Line:
    if times:
        return (*_timed(seconds, "visible"), Span(" in handlers"))
    return _timed(seconds, "handling")


def _timed(seconds: float, kind: Kind, whole: str = "") -> Line:
    (span,) = duration(seconds)
    return (span._replace(kind=kind, whole=whole or span.whole),)


def _position(record: CommitRecord | EventRecord, id: str, clock: ClockMoves) -> Line:
    """Show when and where a record is stored, and its id."""
    if not record.sequence:
        return part(f"  pending {name(id)}")
    (moment,) = timestamp(from_ns(clock.time_of_space(record.time)), zone=True)
    return Span("  "), Span(moment.text, "visible"), Span(f"  #{record.sequence} {name(id)}".rstrip())
