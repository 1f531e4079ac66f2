"""The parts that pictures share: SVG, colours for light and dark pages, the size of texts, and time axes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from itertools import accumulate, count, pairwise
from typing import Final, NamedTuple

from happen_nb._display import clean, columns, cut, cut_middle, human_duration, iso
from happen_nb._model.causality import NOTEBOOK, NS
from happen_nb._model.colours import PERSON_NUMBER
from happen_nb._model.schedules import from_ns

Point = tuple[float, float]
COLOURS: Final = (
    ("#0853ba", "#6eb0fd"),
    ("#b55c03", "#e99951"),
    ("#005954", "#82d6af"),
    ("#bb2e6f", "#f09dcc"),
    ("#4c4b86", "#a08fcb"),
    ("#594d00", "#e1cc4b"),
    ("#078197", "#6fdefd"),
    ("#7e553f", "#c29c81"),
)
"""Colours of nodes on light and dark pages, by their numbers; colour-blind readers can tell any two apart."""
SHRUNK: Final = 440  # minimum width in pixels: narrower pages scroll, since smaller texts would be unreadable
PERSON: Final = ("#59606a", "#a4abb5")
"""The colour of the person at the notebook."""
NARROW: Final = 510  # pixels of a picture in a notebook that is 700 pixels wide
EDGE: Final = 12.0  # pixels beside a graph or a timeline
WIDTH: Final = 700  # default width in pixels of a graph or a timeline
LEAST_WIDTH: Final = 300
WIDE: Final = 760  # width in pixels of a picture on a page that is at least as wide
MAX_DRAWN: Final = 40_000  # maximum characters of a picture that also comes in a wide version
COLOUR_VARIABLES: Final = "".join(
    f"--c{n}:light-dark({light},{dark});" for n, (light, dark) in enumerate((*COLOURS, PERSON))
)
"""The colours as variables of CSS."""
STYLE: Final = (
    ".hn-diagram{color-scheme:light dark;font:12px system-ui,'DejaVu Sans',sans-serif;"
    "fill:var(--hn-text,light-dark(#1f2328,#e4e6ea));"
    "--paper:var(--hn-back,light-dark(#fff,#16181b));--rule:light-dark(#dfe2e6,#34393f);"
    "--accent:light-dark(#8f4100,#ffbd85);--soft:light-dark(#59606a,#a4abb5);--bad:light-dark(#b3261e,#ff938a);"
    f"{COLOUR_VARIABLES}}}"
    ".happen .hn-diagram{color-scheme:inherit;display:block;max-width:100%;height:auto}"
    ".hn-diagram .b{font-weight:600}.hn-diagram .q{fill:var(--soft)}"
    ".hn-diagram .m{font-family:ui-monospace,'DejaVu Sans Mono',monospace}"
    ".hn-diagram .e{fill:var(--bad)}.hn-diagram .t{fill:var(--soft);text-anchor:end}"
    ".hn-diagram .l{stroke:var(--rule)}.hn-diagram .w{fill:var(--paper)}"
    ".hn-diagram path,.hn-diagram line{fill:none}"
)


class Drawing(NamedTuple):
    """A picture: SVG, in which all texts are escaped, and the same as lines of text.

    A ``titled`` one has its own heading, so that HTML leaves out that of the page. Where a page has room,
    HTML shows the ``wide`` one.
    """

    svg: str
    lines: tuple[str, ...] = ()
    titled: bool = False
    wide: str = ""


def drawing(
    draw: Callable[[int], str] | None,
    lines: Iterable[str] = (),
    *,
    width: int | None = None,
    titled: bool = False,
) -> Drawing:
    """Draw a picture for narrow and for wide pages, or only for the width that was chosen, in pixels.

    Without `draw`, there are only the lines of text.
    """
    if draw is None:
        return Drawing("", tuple(lines), titled)
    svg = draw(width or NARROW)
    wide = draw(WIDE) if width is None and len(svg) <= MAX_DRAWN else ""
    return Drawing(svg, tuple(lines), titled, wide if len(wide) <= MAX_DRAWN else "")


def colours_of(nodes: Iterable[str], numbers: Mapping[str, int] | None) -> dict[str, str]:
    """Return the colours of nodes by their numbers; the person at the notebook has one of their own.

    Nodes without a number have the next ones in turn. After the last colour, the first one follows again.

    Examples
    --------
    >>> colours_of(["stock", "new"], {"shop": 0, "stock": 9})
    {'stock': 'var(--c1)', 'new': 'var(--c2)', 'notebook': 'var(--c8)'}
    """
    numbers = {**(numbers or {}), NOTEBOOK: PERSON_NUMBER}
    following = count(max(numbers.values()) + 1)
    shown = dict.fromkeys((*nodes, NOTEBOOK))
    found = {node: numbers[node] if node in numbers else next(following) for node in shown}
    own = len(COLOURS)
    return {
        node: f"var(--c{own if number == PERSON_NUMBER else number % own})" for node, number in found.items()
    }


def svg(about: str, width: float, height: float, marks: str, *, role: str = "img") -> str:
    """Return a picture with its style; `about` names it to screen readers.

    Its role is "group" if parts of it can be pressed.
    """
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    size += f' style="min-width:{min(width, max(SHRUNK, width / 2)):.0f}px"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="hn-diagram" role="{role}" '
        f'aria-label="{escaped(about)}" {size}><style>{STYLE}</style>{marks}</svg>'
    )


def line(x0: float, y0: float, x1: float, y1: float, look: str) -> str:
    return f'<line x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" {look}/>'


def rect(x: float, y: float, width: float, height: float, look: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" {look}/>'


def dot(x: float, y: float, look: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" {look}/>'


def text(x: float, y: float, words: str, kind: str = "", *, anchor: str = "") -> str:
    place = f' text-anchor="{anchor}"' if anchor else ""
    look = f' class="{kind}"' if kind else ""
    return f'<text{look} x="{pixels(x)}" y="{pixels(y)}"{place}>{escaped(words)}</text>'


def titled(about: str, marks: str, *, key: str = "", press: str = "") -> str:
    """Return marks with a tooltip.

    Those with a `key` can be pressed in a live picture; `press` is what that does.
    """
    label = escaped(f"{about}: {press}" if press else about)
    button = f' data-key="{key}" tabindex="-1" role="button" aria-label="{label}"' if key else ""
    return f"<g{button}><title>{escaped(about)}</title>{marks}</g>"


def tspans(x: float, y: float, *pieces: str) -> str:
    """Return a text of several pieces."""
    return f'<text x="{pixels(x)}" y="{pixels(y)}">{"".join(pieces)}</text>'


def tspan(text: str, gap: int, kind: str) -> str:
    place = f' dx="{gap}"' if gap else ""
    look = f' class="{kind}"' if kind else ""
    return f"<tspan{look}{place}>{escaped(text)}</tspan>" if text else ""


def escaped(text: str) -> str:
    return escape(clean(text))


_NARROW: Final = frozenset("ijlt.,:;|!'()[]{} \"`f-/")
_WIDE: Final = frozenset("mwMW@%…→")


def measure(text: str, *, bold: bool = False, mono: bool = False) -> float:
    """Estimate the pixels of a text at 12 px; fonts differ, so rather too many."""
    if mono:
        return 7.25 * columns(text)
    total = 0.0
    for letter in text:
        if letter in _NARROW:
            total += 4.5
        elif letter in _WIDE:
            total += 11.0
        elif letter.isascii():
            total += 8.4 if letter.isupper() else 7.5
        else:
            total += 7.5 * columns(letter)
    return total * 1.07 if bold else total


def fit(text: str, room: float, *, bold: bool = False, mono: bool = False, end: int = 0) -> str:
    """Cut a text to at most `room` pixels, but keep `end` characters at its end."""
    if measure(text, bold=bold, mono=mono) <= room:
        return text
    text, kept = text[: len(text) - end], text[len(text) - end :]
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if measure(cut(text, middle) + kept, bold=bold, mono=mono) <= room:
            low = middle
        else:
            high = middle - 1
    return cut(text, low) + kept


def heading(kind: str, name: str, facts: Sequence[str], width: float) -> str:
    """Return the first line of a picture, as a page has it: ``Graph of orders · 3 nodes``."""
    room = width - 2 * EDGE - measure(kind) - 4
    name = fit(cut_middle(name, 40), room, bold=True)
    room = max(20.0, room - measure(name, bold=True))
    rest = fit(" · ".join(["", *facts]), room)
    return tspans(EDGE, 16, tspan(kind, 0, ""), tspan(name, 4, "b"), tspan(rest, 4, "q"))


def nothing(kind: str, name: str, note: str, width: int, height: int) -> str:
    """Return a picture that gives the reason why there is nothing to see."""
    marks = heading(kind, name, (), width) + text(EDGE, height // 2 + 12, note, "q")
    return svg(f"{kind} {name}: {note}", width, height, marks)


def empty_note(what: str, pattern: str) -> str:
    """Return what stands in place of a picture of a journal in which a pattern selects nothing.

    Examples
    --------
    >>> empty_note("events", "ordr.*")
    'No events of "ordr.*" to show yet.'
    """
    selected = "" if pattern == "**" else f' of "{cut(clean(pattern), 40)}"'
    return f"No {what}{selected} to show yet."


def pixels(value: float) -> str:
    """Return a length in pixels, to the tenth."""
    return f"{round(value, 1) + 0.0:.10g}"


def path(points: Iterable[Point | None], *, steps: bool = False) -> str:
    """Return the data of a path with a gap for each None; with `steps` it is level up to each next point.

    Examples
    --------
    >>> path([(0, 0), (5, 5.25), None, (7, 1), (9, 0.5)])
    'M0 0l5 5.2M7 1l2-.5'
    >>> path([(0, 0), (5, 5), (8, 5)], steps=True)
    'M0 0h5v5h3'
    """
    drawn = []
    last = None
    for point in points:
        if point is None:
            last = None
            continue
        x, y = round(point[0], 1), round(point[1], 1)
        if last is None:
            drawn.append("M" + _pair(x, y))
        else:
            across, down = x - last[0], y - last[1]
            drawn.append(_steps(across, down) if steps else "l" + _pair(across, down))
        last = x, y
    return "".join(drawn)


def _steps(across: float, down: float) -> str:
    return "".join(f"{way}{_brief(by)}" for way, by in (("h", across), ("v", down)) if round(by, 1))


def _pair(x: float, y: float) -> str:
    one, other = _brief(x), _brief(y)
    return one + other if other.startswith("-") else f"{one} {other}"


def _brief(value: float) -> str:
    written = pixels(value)
    return written.replace("0.", ".", 1) if abs(value) < 1 else written


# -- time axes --------------------------------------------------------------------------------------


class Tick(NamedTuple):
    """A label at a place on an axis."""

    place: float
    label: str


BREAK_WIDTH: Final = 16.0  # pixels of a break
MAX_BREAKS: Final = 10
_MARK_DISTANCE: Final = 10.0  # pixels from which on two marks are seen as two
_ENOUGH: Final = 0.9  # of the most marks that can be seen as two, with which fewer breaks do
_LEAST_SHARE: Final = 0.005  # of the whole time; a shorter gap is not broken
_SHORTEST: Final = 10.0  # pixels of a segment
_BREAK_DISTANCE: Final = 52.0  # pixels from one break to the next, on the average
_LABEL_DISTANCE: Final = 82.0  # pixels from one label to the next
_MINUTE, _HOUR, _DAY = 60 * NS, 3600 * NS, 86_400 * NS
_STEPS: Final = (
    *(digit * 10**power for power in range(9) for digit in (1, 2, 5)),
    *(second * NS for second in (1, 2, 5, 10, 15, 30)),
    *(minute * _MINUTE for minute in (1, 2, 5, 10, 15, 30)),
    *(hour * _HOUR for hour in (1, 2, 3, 6, 12)),
    *(day * _DAY for day in (1, 2, 7, 14, 30, 60, 91, 182, 365, 730, 1826, 3652)),
)
"""Distances between labels, in ns."""


class Segment(NamedTuple):
    """Time from `start` to `end` (ns since 1970), shown between two pixels."""

    start: int
    end: int
    left: float
    right: float

    def place(self, at: int) -> float:
        start, left, scale = self.line
        return left + (at - start) * scale

    @property
    def line(self) -> tuple[int, float, float]:
        """A time, its pixel, and pixels for each ns from there on."""
        if self.start == self.end:
            return self.start, (self.left + self.right) / 2, 0.0
        return self.start, self.left, (self.right - self.left) / (self.end - self.start)


@dataclass(frozen=True)
class TimeAxis:
    """The segments, oldest first; between two of them is a break."""

    segments: tuple[Segment, ...]

    def place(self, at: int) -> float:
        """Return the pixel of one of the times for which the axis was made."""
        return self._segment(at).place(at)

    def _segment(self, at: int) -> Segment:
        return self.segments[max(0, bisect_right(self._starts, at) - 1)]

    def places(self, times: Sequence[int]) -> list[float]:
        """Return the same for many times, in less time."""
        lines = [each.line for each in self.segments]
        if len(lines) == 1:
            start, left, scale = lines[0]
            return [left + (at - start) * scale for at in times]
        starts = self._starts[1:]
        found = (lines[bisect_right(starts, at)] for at in times)
        return [left + (at - start) * scale for at, (start, left, scale) in zip(times, found, strict=True)]

    @cached_property
    def _starts(self) -> list[int]:
        return [segment.start for segment in self.segments]

    @property
    def breaks(self) -> list[Tick]:
        """The middle of each break, labelled with the time left out."""
        pairs = zip(self.segments, self.segments[1:], strict=False)
        return [
            Tick(round((before.right + after.left) / 2, 1), human_duration((after.start - before.end) / NS))
            for before, after in pairs
        ]

    @property
    def ticks(self) -> list[Tick]:
        """The labels: exact at the start of each segment, round within it."""
        labels: dict[float, tuple[int, str]] = {}
        widest = sorted(self.segments, key=lambda segment: segment.left - segment.right)
        labelled = [segment for segment in widest if _add_label(labels, segment, segment.start, "")]
        for segment in labelled:
            for at, label in _round_labels(segment):
                _add_label(labels, segment, at, label)
        return _dated((place, at, label or clock(at)) for place, (at, label) in sorted(labels.items()))

    def ticks_of(self, moments: Mapping[int, int]) -> list[Tick]:
        """Return the labels of another clock: its times, by the times of this axis at which they began."""
        labels: dict[float, tuple[int, str]] = {}
        for at, moment in moments.items():
            _add_label(labels, self._segment(at), at, clock(moment).removesuffix(".000"))
        return _dated((place, moments[at], label) for place, (at, label) in sorted(labels.items()))


def _dated(labels: Iterable[tuple[float, int, str]]) -> list[Tick]:
    """Return labels, each with its place and time, with the date below a time of another day."""
    ticks: list[Tick] = []
    previous = None
    for place, at, label in labels:
        day = from_ns(at).date()
        date = f"{day.day} {day:%b %Y}"
        ticks.append(Tick(place, label if day == previous or label == date else f"{label}\n{date}"))
        previous = day
    return ticks


def _add_label(labels: dict[float, tuple[int, str]], segment: Segment, at: int, label: str) -> bool:
    """Add a label if there is room for it; return True if there is."""
    place = round(segment.place(at), 1)
    if any(abs(place - other) < _LABEL_DISTANCE for other in labels):
        return False
    labels[place] = at, label
    return True


def break_gaps(times: Iterable[int], width: float, busy: Iterable[tuple[int, int]] = ()) -> TimeAxis:
    """Return the axis, `width` pixels wide, for at least one time (ns since 1970).

    The longest gaps are broken, as few as are needed to see most of the marks apart. Gaps within a `busy`
    time are never broken.

    Examples
    --------
    >>> axis = break_gaps([0, 5_000_000, 3_600 * NS, 3_600 * NS + 5_000_000], 100)
    >>> [round(axis.place(at)) for at in (0, 5_000_000, 3_600 * NS, 3_600 * NS + 5_000_000)]
    [0, 42, 58, 100]
    >>> axis.breaks
    [Tick(place=50.0, label='1 h')]
    """
    times = sorted(set(times))
    shortest = (times[-1] - times[0]) * _LEAST_SHARE
    gaps = [index for index, (one, next) in enumerate(pairwise(times), 1) if next - one > shortest]
    gaps = _idle(gaps, times, busy) if gaps else []
    longest = sorted(gaps, key=lambda index: times[index - 1] - times[index])
    counts = range(min(MAX_BREAKS, len(longest), int(width / _BREAK_DISTANCE)) + 1)
    axes = [_broken_before(times, sorted(longest[:number]), width) for number in counts]
    seen = [_count_columns(axis, times) for axis in axes]
    return axes[next(index for index, columns in enumerate(seen) if columns >= _ENOUGH * max(seen))]


def _idle(gaps: Iterable[int], times: Sequence[int], busy: Iterable[tuple[int, int]]) -> list[int]:
    """Return the indices of the times before which nothing was busy since the time before."""
    spans = sorted(busy)
    starts = [start for start, _ in spans]
    until = [0, *accumulate((end for _, end in spans), max)]
    return [index for index in gaps if until[bisect_right(starts, times[index - 1])] <= times[index - 1]]


def _broken_before(times: Sequence[int], indices: Sequence[int], width: float) -> TimeAxis:
    parts = list(zip([0, *indices], [*indices, len(times)], strict=True))
    lengths = [times[end - 1] - times[start] for start, end in parts]
    room = width - BREAK_WIDTH * len(indices) - _SHORTEST * len(parts)
    scale = room / (sum(lengths) or 1)
    segments, left = [], 0.0
    for (start, end), length in zip(parts, lengths, strict=True):
        right = left + _SHORTEST + length * scale if any(lengths) else left + width / len(parts) - BREAK_WIDTH
        segments.append(Segment(times[start], times[end - 1], left, right))
        left = right + BREAK_WIDTH
    return TimeAxis(tuple(segments))


def _count_columns(axis: TimeAxis, times: Sequence[int]) -> int:
    """Count the marks that can be distinguished."""

    def column(at: int) -> int:
        return int(axis.place(at) / _MARK_DISTANCE)

    # From column to column, of which there are far fewer than times.
    number = after = 0
    while after < len(times):
        after = bisect_right(times, column(times[after]), lo=after, key=column)
        number += 1
    return number


def _round_labels(segment: Segment) -> Iterable[tuple[int, str]]:
    """Return round distances from the start of a short segment, or round times within a long one."""
    length = segment.end - segment.start
    needed = _LABEL_DISTANCE * length / (segment.right - segment.left)
    step = next((step for step in _STEPS if step >= needed), 0)
    if not length or not step:
        return
    if step < NS:
        for at in range(segment.start + step, segment.end + 1, step):
            yield at, f"+{human_duration((at - segment.start) / NS)}"
        return
    for at in range(segment.start // step * step + step, segment.end + 1, step):
        time = from_ns(at)
        yield at, f"{time.day} {time:%b %Y}" if step >= _DAY else f"{time:%H:%M:%S}"


def clock(at: int) -> str:
    """Return a time of day in UTC, to the millisecond.

    Examples
    --------
    >>> clock(1_773_489_600_250_000_000)
    '12:00:00.250'
    """
    return iso(from_ns(at))[11:23]
