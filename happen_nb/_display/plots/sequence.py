"""Sequence diagrams: a lane per node, arrows for messages and replies, and the changes of commits.

The rows of a diagram are made first. They become SVG, lines of text, or Mermaid.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Final, Literal, NamedTuple

from happen_nb._display import (
    clean,
    count,
    cut,
    cut_middle,
    human_duration,
    name,
    one_line,
    padded,
    part,
    plain,
    plots,
)
from happen_nb._display.changes import changes_of, delay
from happen_nb._display.page import Heading, Note, Page
from happen_nb._display.plots import Drawing, empty_note
from happen_nb._display.values import summary
from happen_nb._model.causality import TraceNode, end_of, start_of
from happen_nb._model.freeze import loads
from happen_nb._model.records import CommitRecord, EventRecord, HandledRecord
from happen_nb.errors import HappenError

MAX_ROWS: Final = 300  # messages, commits, replies and failures of a diagram; the others are counted
MAX_LANES: Final = 20  # lanes of a diagram; with more, nodes that send nothing share one

Kind = Literal["message", "commit", "reply", "failure"]

_TEXT_CHARACTERS: Final = 200  # of a payload, a reply or an error
_MERMAID_CHARACTERS: Final = 60
_CHANGES_CHARACTERS: Final = 60
_CROSS: Final = "\N{MULTIPLICATION SIGN}"


class DiagramRow(NamedTuple):
    """A line of a diagram."""

    kind: Kind
    node: str  # the lane in which it starts
    targets: tuple[str, ...] = ()  # the lanes to which its arrow leads
    title: str = ""  # the type of a message
    detail: str = ""  # payload of a message, changes, reply or error
    time: int = 0  # in ns since 1970; 0 if it is not stored yet
    note: str = ""  # in parentheses: no handler, a delay, or the number of messages that it stands for
    handling: int = 0  # to which it belongs; 0 for the notebook's. Its bar reaches down to this row
    opens: tuple[tuple[str, int, int], ...] = ()  # node, handling and start (ns) of each bar that starts here
    first: bool = False  # row of a causal chain


class Diagram(NamedTuple):
    """The rows of a diagram, its lanes from left to right, and the number of rows left out."""

    title: str
    rows: tuple[DiagramRow, ...]
    lanes: tuple[str, ...]
    more: int = 0
    colours: Mapping[str, int] | None = None  # the colour numbers of nodes

    def count(self, kind: Kind) -> int:
        return sum(row.kind == kind for row in self.rows)


# -- rows --------------------------------------------------------------------------------------------


def diagram(
    title: str, roots: Sequence[TraceNode], *, merge: bool = True, in_time: bool = True, limit: int = MAX_ROWS
) -> Diagram:
    """Make the diagram of causal chains.

    With ``merge``, branches that are alike but for their values are shown once. With ``in_time``, rows are
    ordered by their times; else effects follow their cause, which is the same in each run.
    """
    maker = _RowMaker(merge=merge)
    rows: list[DiagramRow] = []
    for group in maker.groups(roots):
        chain = list(maker.of(group[0], 0, len(group)))
        if in_time:
            chain.sort(key=lambda row: row.time or 1 << 62)
        rows += [chain[0]._replace(first=True), *chain[1:]] if chain else []
    shown = _with_few_lanes(rows[:limit])
    lanes: dict[str, None] = {}
    for row in sorted(shown, key=lambda row: row.kind == "commit"):  # nodes that only commit come last
        lanes |= dict.fromkeys((row.node, *row.targets))
    colours = roots[0].colours if roots else None
    return Diagram(title, shown, tuple(lanes), len(rows) - len(shown), colours)


def _with_few_lanes(rows: Sequence[DiagramRow]) -> tuple[DiagramRow, ...]:
    """Let nodes that only handle events share a lane if there are too many.

    If there still are, those that only commit share it, too.
    """
    acting = {row.node for row in rows}
    nodes = {name for row in rows for name in (row.node, *row.targets)}
    if len(nodes) <= MAX_LANES:
        return tuple(rows)
    if len(acting) > MAX_LANES:
        acting = {row.node for row in rows if row.kind != "commit"}
    shared = f"{len(nodes - acting):,} nodes"
    return tuple(
        row._replace(
            node=row.node if row.node in acting else shared,
            targets=tuple(dict.fromkeys(each if each in acting else shared for each in row.targets)),
            detail=row.detail if row.node in acting else f"{row.node}  {row.detail}",
            opens=tuple(each for each in row.opens if each[0] in acting),
        )
        for row in rows
    )


_Item = DiagramRow | tuple[TraceNode, int, int]
"""A row, or a branch with the handling that caused it and the number of branches that are like it."""


class _RowMaker:
    """Makes the rows of trees."""

    def __init__(self, *, merge: bool) -> None:
        self._merge = merge
        self._handlings = 0
        self._emitted: dict[str, EventRecord] = {}
        self._shapes: dict[TraceNode, object] = {}

    def groups(self, nodes: Sequence[TraceNode]) -> list[list[TraceNode]]:
        """Put nodes together whose branches are alike."""
        if not self._merge:
            return [[node] for node in nodes]
        groups: dict[object, list[TraceNode]] = {}
        for number, node in enumerate(nodes):
            alike = number if node.event is None else self._shape(node)
            groups.setdefault(alike, []).append(node)
        return list(groups.values())

    def _shape(self, root: TraceNode) -> object:
        """Return what is equal for branches that differ in values only; without recursion."""
        shapes = self._shapes
        if root not in shapes:
            for node in reversed([each for _, each in root.walk()]):
                below = tuple(sorted(str(shapes[child]) for child in node.children))
                handled = sorted(f"{each.node} {each.handler} {each.outcome}" for each in node.handled)
                own = (
                    f"{node.event.sender} {node.event.type} {node.event.target}"
                    if node.event is not None
                    else f"commit of {node.commit.node}"
                    if node.commit is not None
                    else ""
                )
                still = tuple(sorted((node.open or {}).items()))
                shapes[node] = hash((own, tuple(handled), still, below))
        return shapes[root]

    def of(self, root: TraceNode, handling: int, times: int) -> Iterator[DiagramRow]:
        """Yield the rows of a branch, effects below their cause; `times` branches are like it."""
        waiting: list[_Item] = [(root, handling, times)]
        while waiting:
            item = waiting.pop()
            if isinstance(item, DiagramRow):
                yield item
                continue
            node, handling, times = item
            if node.commit is not None:
                yield _commit_row(node.commit, node.before, handling)
            if node.event is not None:
                row, below = self._event(node, node.event, handling, times)
                yield row
                waiting.extend(reversed(below))
            elif node.commit is not None:
                waiting.extend((child, 0, 1) for child in reversed(node.children))

    def _event(
        self, node: TraceNode, event: EventRecord, handling: int, times: int
    ) -> tuple[DiagramRow, list[_Item]]:
        """Return the row of a message, and what its handlers did."""
        handled = sorted((each for each in node.handled if each.accepted), key=lambda each: each.node)
        numbers = list(range(self._handlings + 1, self._handlings + 1 + len(handled)))
        self._handlings += len(handled)
        still = sorted(node.open or {})
        targets = tuple(dict.fromkeys((*(each.node for each in handled), *still)))
        after = delay(event, self._emitted.get(event.cause or ""))
        self._emitted[event.id] = event
        notes = [after, node.prospect if still or not handled else ""]
        if times > 1:
            notes = [after, f"the first of {times:,}"]
        note = ", ".join(filter(None, notes))
        row = DiagramRow(
            "message",
            event.sender,
            targets or ((event.target,) if event.target else ()),
            event.type,
            "" if event.payload is None or times > 1 else _text(event.payload),
            event.time,
            f"({note})" if note else "",
            handling,
            tuple((each.node, n, start_of(event, each)) for each, n in zip(handled, numbers, strict=True)),
        )
        below: list[_Item] = []
        left = list(node.children)
        for record, number in zip(handled, numbers, strict=True):
            later = [other for other in handled[handled.index(record) + 1 :] if other.node == record.node]
            end = end_of(event, record) if later else inf  # the last one of a node has all that are left
            mine = [child for child in left if child.actor == record.node and _time(child) <= end]
            left = [child for child in left if child not in mine]
            below += self._handling(event, record, number, mine)
        return row, below + [(child, 0, 1) for child in left]

    def _handling(
        self, event: EventRecord, record: HandledRecord, number: int, effects: list[TraceNode]
    ) -> Iterator[_Item]:
        for group in self.groups(effects):
            yield group[0], number, len(group)
        end = max([end_of(event, record), *map(_time, effects)])
        if record.outcome != "done":
            yield _failure_row(record, number, end)
        elif event.target is not None and event.sender != record.node:
            yield _reply_row(event, record, number, end)


def _time(node: TraceNode) -> int:
    record = node.event or node.commit
    return 0 if record is None else record.time


def _text(value: object) -> str:
    return plain(summary(value, _TEXT_CHARACTERS))


def _commit_row(record: CommitRecord, before: CommitRecord | None, handling: int) -> DiagramRow:
    line, _ = changes_of(record, before, _CHANGES_CHARACTERS, unknown=f"revision {record.revision:,}")
    return DiagramRow("commit", record.node, (), "", plain(line), record.time, handling=handling)


def _reply_row(event: EventRecord, record: HandledRecord, handling: int, end: int) -> DiagramRow:
    try:
        text = "" if record.reply is None else _text(loads(record.reply.encode()))
    except HappenError:  # another client's
        text = one_line(record.reply or "", _TEXT_CHARACTERS)
    return DiagramRow("reply", record.node, (event.sender,), "reply", text, end, handling=handling)


def _failure_row(record: HandledRecord, handling: int, end: int) -> DiagramRow:
    tries = f" · {count(record.attempts, 'attempt')}" if record.attempts > 1 else ""
    error = one_line(record.error or record.outcome, _TEXT_CHARACTERS)
    return DiagramRow("failure", record.node, (), record.outcome, f"{error}{tries}", end, handling=handling)


# -- text --------------------------------------------------------------------------------------------


def lines(drawn: Diagram) -> list[str]:
    """Return a line for each row: ``orders → bank  charge {order: "o1"}``."""
    starts = padded([_start_text(row) for row in drawn.rows])
    texts = [" ".join(filter(None, (_words(row), row.note))) for row in drawn.rows]
    found = [cut(f"{start}  {text}", 110) for start, text in zip(starts, texts, strict=True)]
    return [*found, f"… {drawn.more:,} more"] if drawn.more else found


def _start_text(row: DiagramRow) -> str:
    names = ", ".join(cut_middle(each, 24) for each in row.targets[:4])
    names += f", … {len(row.targets) - 4:,} more" if len(row.targets) > 4 else ""  # noqa: PLR2004 - as above
    arrow = {"message": " → ", "reply": " ⇢ "}.get(row.kind, "") if row.targets else ""
    return f"{cut_middle(row.node, 24)}{arrow}{names}"


def _words(row: DiagramRow) -> str:
    title = f"{_CROSS} {row.title}:" if row.kind == "failure" else row.title
    return clean(f"{title} {row.detail}".strip())


_UNSAFE: Final = re.compile(r"[#;&<>%{}`]")


def mermaid(drawn: Diagram) -> str:
    """Return the diagram in the language of Mermaid, which GitHub and JupyterLab draw in Markdown."""
    numbers = {lane: f"n{number}" for number, lane in enumerate(drawn.lanes)}
    written = ["sequenceDiagram"]
    written += [f"  participant {number} as {_safe(lane)}" for lane, number in numbers.items()]
    for row in drawn.rows:
        lane, words = numbers[row.node], f"{_safe(_words(row))} {row.note}".rstrip()
        if not row.targets:
            written.append(f"  Note over {lane}: {words}")
        arrow = "-->>" if row.kind == "reply" else "->>"
        written += [f"  {lane}{arrow}{numbers[target]}: {words}" for target in row.targets]
    return "\n".join(written)


def _safe(text: str) -> str:
    shown = one_line(text, _MERMAID_CHARACTERS) or "-"
    return _UNSAFE.sub(lambda found: f"#{ord(found[0])};", shown)


# -- SVG ---------------------------------------------------------------------------------------------

_TOP: Final = 38  # below the names of the lanes
_LEAST_LANE, _WIDEST_LANE = 78, 190
_MESSAGE, _COMMIT, _FAILURE, _CHAIN = 34, 28, 24, 16  # pixels of a row, and between two chains
_BAR: Final = 8
_VEIL: Final = 'fill-opacity=".6"'  # of the ground of texts: the bars behind it stay visible
_LEAST_DETAIL, _WIDEST_DETAIL = 40.0, 240.0


def draw(drawn: Diagram, *, width: int, times: bool = True) -> str:
    return _Drawing(drawn, width, times=times).svg()


@dataclass(slots=True)
class _Bar:
    """A handling: its node, its start in ns, and its first and its last place."""

    node: str
    start: int
    top: float
    bottom: float


class _Drawing:
    """The pen of one diagram: the place of each lane and row, and the elements drawn so far."""

    def __init__(self, drawn: Diagram, width: int, *, times: bool) -> None:
        self._drawn = drawn
        self._times = times
        self._left = 76 if times else 12
        lanes = max(1, len(drawn.lanes))
        self._lane = max(_LEAST_LANE, min(_WIDEST_LANE, (width - self._left - 8) / lanes))
        self._end = self._left + self._lane * lanes
        self.width = round(max(self._end + 8, min(width, self._end + 230)))
        self._x = {name: self._left + self._lane * (n + 0.5) for n, name in enumerate(drawn.lanes)}
        self._colour = plots.colours_of(drawn.lanes, drawn.colours)
        self._y = float(_TOP)
        self._marks: list[str] = []
        self._bars: dict[int, _Bar] = {}  # of handlings
        self._places: list[tuple[int, float]] = []  # time and place of each row

    def svg(self) -> str:
        drawn = self._drawn
        start = 0
        for index, row in enumerate(drawn.rows):
            if row.first:
                start = row.time
                if index and row.kind == "message":
                    y = self._y + _CHAIN / 2 + 2
                    self._marks.append(plots.line(4, y, self._end, y, 'class="l"'))
                    self._y += _CHAIN
            self._row(row, start)
        if drawn.more:
            self._y += 18
            self._text(self._left, self._y, f"… {drawn.more:,} more", "q")
        height = round(self._y + 16)
        about = f"Sequence of {drawn.title}: {count(drawn.count('message'), 'message')}"
        marks = f"{self._lifelines(height)}{self._handlings()}{''.join(self._marks)}"
        return plots.svg(about, self.width, height, marks)

    # -- the ground

    def _lifelines(self, height: int) -> str:
        found = []
        for lane, x in self._x.items():
            shown, colour = plots.fit(lane, self._lane - 24, bold=True), self._colour[lane]
            half = plots.measure(shown, bold=True) / 2 + 9
            box = f'rx="4" fill="{colour}" fill-opacity=".13" stroke="{colour}"'
            found += [
                plots.line(x, 28, x, height - 4, 'class="l"'),
                plots.rect(x - half, 4, 2 * half, 22, box),
                plots.text(x, 19, shown, "b", anchor="middle"),
            ]
        return "".join(found)

    def _handlings(self) -> str:
        """Draw a bar for each handling, and a dotted line while it waited."""
        found: list[str] = []
        taken = dict.fromkeys(self._x, -1.0)
        for bar in self._bars.values():
            node, start, top, bottom = bar.node, bar.start, bar.top, bar.bottom
            x, colour = self._x[node], self._colour[node]
            earlier = [y + 4 for time, y in self._places if top < y < bottom and time and time <= start]
            begin = max(top, earlier[-1] if earlier and self._times else top, taken[node] + 3)
            begin = min(begin, bottom - _BAR)
            taken[node] = bottom
            if begin > top + _BAR:
                dots = f'stroke="{colour}" stroke-width="2" stroke-dasharray="1 3"'
                found.append(plots.line(x, top, x, begin, dots))
            looks = 'class="w" rx="2"', f'rx="2" fill="{colour}" fill-opacity=".28" stroke="{colour}"'
            found += [plots.rect(x - _BAR / 2, begin, _BAR, bottom - begin, look) for look in looks]
        return "".join(found)

    # -- rows

    def _row(self, row: DiagramRow, start: int) -> None:
        top = self._y
        if self._times and row.time:
            elapsed = max(0, row.time - start) / 1e9
            after = f"+{human_duration(elapsed)}" if elapsed else "0"
            self._text(self._left - 10, top + 15, after, "t")
        draw = {"commit": self._commit, "failure": self._failure}.get(row.kind, self._message)
        begin = len(self._marks)
        draw(row)
        self._marks[begin:] = [plots.titled(f"{row.node}: {_words(row)}", "".join(self._marks[begin:]))]
        self._places.append((row.time, top + 12))
        if row.handling in self._bars:
            bar = self._bars[row.handling]
            bar.bottom = max(bar.bottom, self._y - 6)

    def _message(self, row: DiagramRow) -> None:
        x, colour, y = self._x[row.node], self._colour[row.node], self._y + 25
        ends = [self._x[target] for target in row.targets]
        self._label(row, min([x, *ends]), max([x, *ends]))
        if not ends:
            dashes = 'stroke="var(--soft)" stroke-dasharray="3 3"'
            ring = plots.dot(x + 30, y, 'stroke="var(--soft)" fill="none"')
            self._marks += [plots.line(x, y, x + 26, y, dashes), ring]
        elif ends == [x]:
            look = f'stroke="{colour}" stroke-width="1.5"'
            self._marks.append(f'<path d="M{x + 4:.1f} {y - 3:.1f}h18v8h-12" {look}/>')
            self._head(x + 5, y + 5, -1, colour)
        else:
            dashes = ' stroke-dasharray="5 4"' if row.kind == "reply" else ""
            look = f'stroke="{colour}" stroke-width="1.5"{dashes}'
            self._marks.append(plots.line(min(x, *ends), y, max(x, *ends), y, look))
            for end in ends:
                if end != x:
                    self._head(end - 4 if end > x else end + 4, y, 1 if end > x else -1, colour)
        if row.kind == "message":
            self._marks.append(plots.dot(x, y, f'fill="{colour}"'))
        for node, number, begin in row.opens:
            self._bars[number] = _Bar(node, begin, y + (5.0 if ends == [x] else 0.0), y + 10.0)
        self._y += _MESSAGE

    def _head(self, x: float, y: float, way: int, colour: str) -> None:
        self._marks.append(f'<path d="M{x:.1f} {y:.1f}l{-8 * way} -4.5v9z" style="fill:{colour}"/>')

    def _label(self, row: DiagramRow, x: float, end: float) -> None:
        """Write type and payload above an arrow, on a ground of their own."""
        is_reply = row.kind == "reply"
        note_width = plots.measure(row.note) + 8 if row.note else 0.0
        title = "" if is_reply and row.detail else plots.fit(row.title, 260, bold=not is_reply)
        title_width = plots.measure(title, bold=not is_reply)
        needed = title_width + note_width
        left = max(float(self._left), min(x + 9, self.width - needed - 6))
        room = min(self.width - left - needed - 14, _WIDEST_DETAIL)
        if x == end and left < x + 9 and x - needed - 9 > self._left:  # on the other side of the bar
            left, room = x - needed - 9, 0.0
        if is_reply:  # the bar that ends with it stands at the end of its arrow
            room = min(room, max(end - left - title_width - 16, _LEAST_DETAIL + 1))
        detail = plots.fit(row.detail, room) if room > _LEAST_DETAIL else ""
        total = title_width + note_width + (plots.measure(detail) + 7 if detail else 0)
        y = self._y + 16
        pieces = (
            plots.tspan(title, 0, "q" if is_reply else "b"),
            plots.tspan(detail, 7 if title else 0, "" if is_reply else "q"),
            plots.tspan(row.note, 8, "q"),
        )
        self._marks += [
            plots.rect(left - 3, y - 12, total + 6, 16, f'class="w" {_VEIL}'),
            plots.tspans(left, y, *pieces),
        ]

    def _commit(self, row: DiagramRow) -> None:
        x, colour, y = self._x[row.node], self._colour[row.node], self._y + 2
        right = self.width - x >= max(x - self._left, 150)
        room = min(300.0, (self.width - x if right else x - self._left) - 30)
        text = plots.fit(row.detail, room, mono=True)
        width = plots.measure(text, mono=True) + 16
        left = x + 10 if right else x - 10 - width
        self._marks += [
            plots.line(x, y + 10, left if right else left + width, y + 10, f'stroke="{colour}"'),
            plots.rect(left, y, width, 20, f'class="w l" {_VEIL} rx="3"'),
            plots.rect(left if right else left + width - 3, y, 3, 20, f'fill="{colour}"'),
        ]
        self._text(left + (8 if right else 6), y + 14, text, "m")
        self._y += _COMMIT

    def _failure(self, row: DiagramRow) -> None:
        x, y = self._x[row.node], self._y + 11
        right = self.width - x >= max(x - self._left, 160)
        text = plots.fit(row.detail, (self.width - x if right else x - self._left) - 26, bold=True)
        width = plots.measure(text, bold=True)
        left = x + 14 if right else x - 14 - width
        cross = f'd="M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10"'
        self._marks += [
            f'<path {cross} stroke="var(--paper)" stroke-width="6"/>',
            f'<path {cross} stroke="var(--bad)" stroke-width="2.4"/>',
            plots.rect(left - 3, y - 9, width + 6, 18, f'class="w" {_VEIL}'),
        ]
        self._text(left, y + 4, text, "b e")
        self._y += _FAILURE

    def _text(self, x: float, y: float, words: str, kind: str) -> None:
        self._marks.append(plots.text(x, y, words, kind))


def sequence_page(drawn: Diagram, drawing: Drawing) -> Page:
    if not drawn.rows:
        return Page(Heading("Sequence of", name(drawn.title)), (Note(part(empty_note("messages", "**"))),))
    kinds: tuple[Kind, ...] = ("message", "commit", "failure")
    parts = tuple(part(count(drawn.count(kind), kind)) for kind in kinds if drawn.count(kind))
    return Page(Heading("Sequence of", name(drawn.title), parts), (drawing,))
