"""A trace as a waterfall: a line per handling and commit, with start and duration, on one time axis.

And the order of steps that broke a rule, with a lane for each node.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from happen_nb._display import (
    clean,
    count,
    cut_middle,
    function,
    human_duration,
    name,
    one_line,
    padded,
    part,
    plain,
    plots,
)
from happen_nb._display.changes import diff_of, in_a_line
from happen_nb._display.page import Heading, Page
from happen_nb._display.plots import COLOURS, Drawing
from happen_nb._model.causality import NS, TraceNode, end_of, start_of
from happen_nb._model.records import CommitRecord, EventRecord, HandledRecord
from happen_nb.errors import HappenError

if TYPE_CHECKING:
    from happen_nb._model.orders import Choice


MAX_ROWS: Final = 200  # lines of a waterfall; the others are counted
MAX_INDENT: Final = 10

Kind = Literal["event", "handling", "commit"]
_TEXT_COLUMNS: Final = 44  # of the label of a line of text
_BAR_COLUMNS: Final = 32
_CHANGES_COLUMNS: Final = 40
_ROW, _TOP = 22, 26  # pixels
_LABEL_SHARE: Final = 0.42  # of the width
_LEAST_BAR: Final = 2.0


class SpanBar(NamedTuple):
    """A line of a waterfall; all times in ns since 1970.

    A handling waits from `since` and runs from `start` to `end`; for events and commits all three are equal.
    """

    kind: Kind
    depth: int
    node: str
    label: str
    since: int
    start: int
    end: int
    note: str = ""
    failed: bool = False


class Waterfall(NamedTuple):
    """The bars of a trace, and the number of those left out."""

    title: str
    bars: tuple[SpanBar, ...]
    more: int
    colours: Mapping[str, int] | None = None  # the colour numbers of nodes

    @property
    def start(self) -> int:
        return min((bar.since for bar in self.bars), default=0)

    @property
    def end(self) -> int:
        return max((bar.end for bar in self.bars), default=0)


def waterfall(title: str, root: TraceNode, limit: int = MAX_ROWS) -> Waterfall:
    """Make the bars of a trace, effects below their cause."""
    bars = [bar for depth, node in root.walk() for bar in _bars(depth, node)]
    return Waterfall(title, tuple(bars[:limit]), max(0, len(bars) - limit), root.colours)


def _bars(depth: int, node: TraceNode) -> Iterator[SpanBar]:
    if node.commit is not None:
        record, time = node.commit, node.commit.time
        label = f"{record.node} revision {record.revision:,}"
        yield SpanBar("commit", depth, record.node, label, time, time, time, _changes(record, node.before))
    if node.event is None:
        return
    handled = [each for each in node.handled if each.accepted]
    yield from (_handling(depth, node.event, record) for record in handled)
    if not handled:
        event = node.event
        time = event.time
        yield SpanBar("event", depth, event.sender, event.type, time, time, time, node.prospect)


def _handling(depth: int, event: EventRecord, record: HandledRecord) -> SpanBar:
    start, end = start_of(event, record), end_of(event, record)
    label = f"{event.type} → {record.node} · {function(record.handler)}"
    failed = record.outcome != "done"
    note = (record.error or record.outcome) if failed else ""
    return SpanBar("handling", depth, record.node, label, event.time, start, end, note, failed)


def _changes(record: CommitRecord, before: CommitRecord | None) -> str:
    if record.deleted:
        return "deleted"
    try:
        changed = diff_of(record, before)
        return "" if changed is None else plain(in_a_line(changed, _CHANGES_COLUMNS)[0])
    except HappenError:
        return "unreadable"


# -- text --------------------------------------------------------------------------------------------


def lines(drawn: Waterfall) -> list[str]:
    """Return a line for each bar, in which starts, durations and bars are aligned.

    ``·`` is waiting, ``█`` handling, ``▪`` a commit, ``•`` an event that is not handled, ``x`` a failure.
    """
    labels = padded([cut_middle(_indented(bar), _TEXT_COLUMNS) for bar in drawn.bars])
    total = max(1, drawn.end - drawn.start)
    found = []
    for bar, label in zip(drawn.bars, labels, strict=True):
        picture = f"{_start(bar, drawn):>9}  {_took(bar):>8}  {_characters(bar, drawn.start, total)}"
        found.append(f"{label}  {picture}".rstrip())
    return [*found, f"… {drawn.more:,} more"] if drawn.more else found


def _indented(bar: SpanBar) -> str:
    return f"{'  ' * min(bar.depth, MAX_INDENT)}{clean(bar.label)}"


def _start(bar: SpanBar, drawn: Waterfall) -> str:
    elapsed = (bar.start - drawn.start) / NS
    return f"+{human_duration(elapsed)}" if elapsed > 0 else "0"


def _took(bar: SpanBar) -> str:
    return human_duration((bar.end - bar.start) / NS) if bar.kind == "handling" else ""


def _characters(bar: SpanBar, start: int, total: int) -> str:
    def column(time: int) -> int:
        return round((time - start) / total * (_BAR_COLUMNS - 1))

    first, begin, last = column(bar.since), column(bar.start), column(bar.end)
    if bar.kind != "handling":
        return " " * begin + ("▪" if bar.kind == "commit" else "•")
    run = "█" * max(1, last - begin + 1)
    return " " * first + "·" * (begin - first) + (f"{run[:-1]}x" if bar.failed else run)


# -- SVG ---------------------------------------------------------------------------------------------


def draw(drawn: Waterfall, *, width: int) -> str:
    label = round(width * _LABEL_SHARE)
    left, right = label + 122.0, width - 12.0  # of the bars; start and duration stand before them
    total = max(1, drawn.end - drawn.start)

    def x(time: int) -> float:
        return left + (time - drawn.start) / total * (right - left)

    height = _TOP + _ROW * (len(drawn.bars) + bool(drawn.more)) + 6
    colours = plots.colours_of((bar.node for bar in drawn.bars), drawn.colours)
    marks = [_head(label, left, right, total, height)]
    for index, bar in enumerate(drawn.bars):
        y = _TOP + _ROW * index
        texts = _label(bar, label, y) + plots.text(label + 58, y + 15, _start(bar, drawn), "t")
        texts += plots.text(label + 114, y + 15, _took(bar), "t")
        mark = _mark(bar, x(bar.since), x(bar.start), x(bar.end), y + 11, colours[bar.node])
        marks.append(plots.titled(f"{bar.label} {bar.note}".strip(), texts + mark))
    if drawn.more:
        marks.append(plots.text(4, height - 10, f"… {drawn.more:,} more", "q"))
    about = f"Waterfall of {drawn.title}: {count(len(drawn.bars), 'line')}"
    return plots.svg(about, width, height, "".join(marks))


def _head(label: int, left: float, right: float, total: int, height: int) -> str:
    found = [
        plots.text(label + 58, 15, "start", "t"),
        plots.text(label + 114, 15, "took", "t"),
        plots.text(right, 15, human_duration(total / NS), "t"),
    ]
    places = (left + (right - left) * n / 4 for n in range(5))
    found += [plots.line(x, 20, x, height - 4, 'class="l"') for x in places]
    return "".join(found)


def _label(bar: SpanBar, width: int, y: int) -> str:
    indent = 4 + 12 * min(bar.depth, MAX_INDENT)
    title = plots.fit(clean(bar.label), width - indent - 4, bold=bar.kind == "handling")
    kind = "b" if bar.kind == "handling" else "q"
    return plots.text(indent, y + 15, title, f"{kind} e" if bar.failed else kind)


def _mark(bar: SpanBar, since: float, start: float, end: float, y: float, colour: str) -> str:
    if bar.kind == "event":
        return plots.dot(start, y, f'fill="{colour}"')
    if bar.kind == "commit":
        return plots.rect(start - 3, y - 3, 6, 6, f'fill="{colour}"')
    end = max(end, start + _LEAST_BAR)
    look = f'rx="2" fill="{colour}" fill-opacity=".3" stroke="{colour}"'
    found = [
        plots.line(since, y, start, y, f'stroke="{colour}" stroke-width="1.5" opacity=".6"'),
        plots.rect(start, y - 6, end - start, 12, look),
    ]
    if bar.failed:
        cross = f'd="M{end - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8"'
        found.append(f'<path {cross} stroke="var(--bad)" stroke-width="2.2"/>')
    return "".join(found)


def waterfall_page(drawn: Waterfall, drawing: Drawing) -> Page:
    total = human_duration((drawn.end - drawn.start) / NS)
    return Page(Heading("Waterfall of", name(drawn.title), (part(total),)), (drawing,))


# -- the steps of an order --------------------------------------------------------------------------


_ORDER_ROW: Final = 22
_NAME_PIXELS: Final = 140
_VERB_PIXELS: Final = 160
_VERB_CHARACTERS: Final = 60
_GAP: Final = 26  # from the end of a label to the next one, with the mark between
_LONGEST: Final = 760.0  # of all labels in a row; in a longer one, only the marks are drawn
_MARK_GAP: Final = 16.0  # between marks without labels


def verb(step: Choice) -> str:
    if step.what != "emit":
        return f"{step.what}s"
    return f"emits {step.target}" if step.receiver is None else f"sends {step.target} to {step.receiver}"


def draw_order(steps: Sequence[Choice], about: str, left_out: int = 0) -> str:
    """Draw steps as SVG, for light and dark pages; `left_out` is the number of those before them.

    A ring stands for a begin, a square for a commit, and a dot for an event. The last mark, after which the
    rule is broken, has the colour of errors.
    """
    nodes = list(dict.fromkeys(step.node for step in steps))
    heads = [plots.fit(name(node), _NAME_PIXELS, bold=True) for node in nodes]
    left = 12 + max(plots.measure(head, bold=True) for head in heads)
    verbs = [plots.fit(one_line(verb(step), _VERB_CHARACTERS), _VERB_PIXELS) for step in steps]
    widths = [plots.measure(each) + _GAP for each in verbs]
    if left + sum(widths) > _LONGEST:
        verbs, widths = [""] * len(steps), [_MARK_GAP] * len(steps)
    width, height = left + sum(widths), _ORDER_ROW * (len(nodes) + bool(left_out)) + 4
    marks = [_lane(head, row, left, width) for row, head in enumerate(heads)]
    if left_out:
        marks.append(plots.text(2, height - 6, f"after {left_out:,} more", "q"))
    x = left + 6
    for index, (step, label, room) in enumerate(zip(steps, verbs, widths, strict=True)):
        row = nodes.index(step.node)
        last = index == len(steps) - 1
        colour = "var(--bad)" if last else f"var(--c{row % len(COLOURS)})"
        mark = _order_mark(step, x, _middle(row), colour)
        if label:
            mark += plots.rect(x + 6, _middle(row) - 7, plots.measure(label) + 4, 14, 'class="w"')
            mark += plots.text(x + 8, _middle(row) + 4, label, "e" if last else "q")
        marks.append(plots.titled(f"{index + 1}. {step.node} {verb(step)}", mark))
        x += room
    return plots.svg(about, width, height, "".join(marks))


def _middle(row: int) -> float:
    return _ORDER_ROW * (row + 0.5) + 2


def _lane(head: str, row: int, left: float, width: float) -> str:
    y = _middle(row)
    return plots.text(2, y + 4, head, "b") + plots.line(left - 4, y, width, y, 'class="l"')


def _order_mark(step: Choice, x: float, y: float, colour: str) -> str:
    if step.what == "commit":
        return plots.rect(x - 4, y - 4, 8, 8, f'fill="{colour}"')
    paper = "var(--paper)" if step.what == "begin" else colour
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{paper}" stroke="{colour}" stroke-width="1.5"/>'
