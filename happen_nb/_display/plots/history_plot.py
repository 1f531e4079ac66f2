"""The plot of a history: numbers as steps, everything else as bands, a row each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice, pairwise
from math import isfinite
from numbers import Real
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeGuard

from happen_nb._display import count, cut, human_time, iso, plain
from happen_nb._display.plots import Point, Tick, scene
from happen_nb._display.plots.scene import BOTTOM, TOP, Axis, Bar, Bars, Hover, Scene, SceneRow, Series
from happen_nb._display.values import summary
from happen_nb._model.arguments import truth
from happen_nb._model.frozen import equal

if TYPE_CHECKING:
    from happen_nb._display.plots.plotly_figure import SceneFigure

MAX_ROWS: Final = 24
DEFAULT_ROWS: Final = 6  # rows that are chosen without selectors
MAX_POINTS: Final = 1_000
"""Points of a row; of more, the first, the last, the lowest and the highest of each stretch are kept."""
MAX_BANDS: Final = 250  # bands of a row; of more, those too narrow to be seen are shown as one

_POINTS_KEPT: Final = 4  # of a stretch
_BAND_COLUMNS: Final = 24  # of a value in its band
_CATEGORY_COLUMNS: Final = 60  # of a value that is a name
_MAX_TICK_NAMES: Final = 12
_MAX_MARKED: Final = 60  # points of a line with dots
_MAX_DOTS: Final = 1_000  # of a row whose axis goes back and forth, the newest
_TAIL: Final = 0.03  # of the axis: how long the newest value is shown
_TICK_MS: Final = 0.1  # plotly rounds times to that
_AROUND: Final = 0.07  # of an axis: space beside the outermost values
_STEPS_HEIGHT, _TOGETHER_HEIGHT, _BANDS_HEIGHT = 110, 220, 40  # pixels of a row
_ROW_GAP: Final = 34
_JSON_TYPES: Final = (str, bool, int, float, dict, list)


class PlottedCommits(NamedTuple):
    """The commits of a node; each row has a value for each of them."""

    node: str
    revisions: Sequence[int]
    times: Sequence[datetime]
    x: Sequence[Any]  # their places on the axis
    x_title: str

    def label(self, index: int) -> str:
        return f"revision {self.revisions[index]:,} · {human_time(iso(self.times[index]))}"


class PlottedLine(NamedTuple):
    """A value after each commit of a node; None where there is none."""

    name: str
    values: Sequence[Any]
    commits: PlottedCommits


def history_plot(
    commits: PlottedCommits, rows: Mapping[str, Sequence[Any]], *, together: bool = False
) -> SceneFigure:
    """Draw values over time; `rows` maps a title to the value after each commit, None where there is none.

    With `together`, all numbers share one row.
    """
    title, facts = f"History of {scene.short(commits.node)}", f" · {count(len(commits.revisions), 'commit')}"
    if not commits.revisions:
        return _figure(scene.message(title, "Nothing has been committed yet.", facts))
    if not rows:
        hint = 'Choose what to draw: history.plot("orders.o1.status")'
        return _figure(scene.message(title, hint, facts))
    lines = [PlottedLine(name, values, commits) for name, values in rows.items()]
    return _figure(scene_of_lines(title, lines, facts=facts, together=together))


def plot_of_nodes(space: str, lines: Sequence[PlottedLine], *, together: bool) -> SceneFigure:
    """Draw values of several nodes over time, all numbers in one row if they are drawn together."""
    return _figure(scene_of_lines(f"Plot of {scene.short(space)}", lines, together=together))


def _figure(picture: Scene) -> SceneFigure:
    from happen_nb._display.plots.plotly_figure import figure_of

    return figure_of(picture)


def default_paths(state: Mapping[str, Any]) -> tuple[tuple[str, ...], ...]:
    """Return the paths that are drawn without selectors: plain values at the top.

    Examples
    --------
    >>> default_paths({"open": 2, "orders": {}, "status": "calm"})
    (('open',), ('status',))
    """
    paths = ((key,) for key, value in state.items() if not isinstance(value, dict | list | None))
    return tuple(islice(paths, DEFAULT_ROWS))


def scene_of_lines(
    title: str,
    lines: Sequence[PlottedLine],
    *,
    together: bool,
    facts: str = "",
    span: tuple[float, float] | None = None,
) -> Scene:
    """Return the picture of lines that share an axis; `span` is the part of it that is shown."""
    together = truth(together, "plot: together")
    first = lines[0].commits if lines else None
    x_title = "" if first is None else first.x_title
    scales = {id(line.commits): scale_of(line.commits.x) for line in lines}
    drawn = [_HistoryLine(line, number, scales[id(line.commits)]) for number, line in enumerate(lines)]
    drawn = [line for line in drawn if line.scale.kept]
    if not drawn:
        return scene.message(title, f"{scene.short(x_title)} has no value in any of them.", facts)
    rows = list(_rows(drawn, together=together))
    if len(rows) > MAX_ROWS:
        raise ValueError(f"plot: {len(rows)} rows are too many to read; pass {MAX_ROWS} or fewer")
    start = min(min(line.scale.places) for line in drawn)
    end = max(line.scale.end for line in drawn)
    start, end = span or (start, end)
    total = sum(row.height for row in rows) + _ROW_GAP * (len(rows) - 1)
    made = []
    top = float(total)
    for row in rows:
        domain = max(0.0, round((top - row.height) / total, 4)), round(top / total, 4)
        made.append(row.draw(domain, end))
        top -= row.height + _ROW_GAP
    is_of_times = all(line.scale.dates for line in drawn)
    margin = max(0.02 * (end - start), 3 * _TICK_MS if is_of_times else 0.0) or 1.0
    x_axis = Axis(
        range=(start - margin, end + margin / 2),
        ticks=drawn[0].scale.ticks,
        dates=(start, end) if is_of_times else None,
        max_ticks=4,  # beside each other in a narrow figure, too
        whole=x_title == "revision",
        title=scene.hover_line(x_title),
        grid=True,
    )
    return Scene(title, facts, total + TOP + BOTTOM, x_axis, made)


def _rows(lines: Iterable[_HistoryLine], *, together: bool) -> Iterator[_Row]:
    """Put each line into a row of its own; with `together`, all lines of numbers into the first one."""
    joined = [line for line in lines if together and line.is_numeric]
    if joined:
        yield _Row(joined, has_legend=True)
    yield from (_Row([line]) for line in lines if line not in joined)


class _Row(NamedTuple):
    lines: Sequence[_HistoryLine]
    has_legend: bool = False

    @property
    def height(self) -> int:
        if self.has_legend:
            return _TOGETHER_HEIGHT
        (line,) = self.lines
        return _STEPS_HEIGHT if line.is_numeric or not line.scale.forward else _BANDS_HEIGHT

    def draw(self, domain: Point, end: float) -> SceneRow:
        drawn = [line.draw(domain, end, legend=self.has_legend) for line in self.lines]
        if not self.has_legend:
            return SceneRow(drawn[0][0], [drawn[0][1]], scene.hover_line(self.lines[0].name))
        values = [value for line in self.lines for value in line.values if not is_missing(value)]
        return SceneRow(_number_axis(values, domain), [series for _, series in drawn])


class _HistoryLine:
    """A line, with its colour by its place among all of them, and those of its values that have a place."""

    def __init__(self, line: PlottedLine, number: int, scale: Scale) -> None:
        self.name, self.commits, self.scale = line.name, line.commits, scale
        self.values = [line.values[index] for index in scale.kept]
        self.colour = scene.SERIES_COLOURS[number % len(scene.SERIES_COLOURS)]
        there = [value for value in self.values if not is_missing(value)]
        self.is_numeric = bool(there) and all(is_number(value) for value in there)

    def draw(self, domain: Point, end: float, *, legend: bool) -> tuple[Axis, Series | Bars]:
        name = scene.hover_line(self.name) if legend else None
        if not self.scale.forward:
            return self._dots(domain, name)
        return self._steps(domain, end, name) if self.is_numeric else self._bands(domain, end)

    def _steps(self, domain: Point, end: float, name: str | None) -> tuple[Axis, Series]:
        points = steps(self.values, self.scale.places, end)
        own = [value is not None and place == self.scale.places[index] for place, value, index in points]
        series = Series(
            points=[None if value is None else (place, value) for place, value, _ in points],
            colour=self.colour,
            hover=[() if value is None else self._hover(value, index) for _, value, index in points],
            width=2,
            steps=True,
            sizes=[6 if each else 0 for each in own] if len(points) <= _MAX_MARKED else None,
            legend=name,
        )
        return _number_axis([value for _, value, _ in points if value is not None], domain), series

    def _bands(self, domain: Point, end: float) -> tuple[Axis, Bars]:
        found = bands(self.values, self.scale.places, end)
        texts = dict.fromkeys(band.text for band in found if band.values == 1)
        numbers = {text: number for number, text in enumerate(texts)}
        axis = Axis(range=(-0.5, 0.5), domain=domain, visible=False, fixed=True)
        return axis, [self._bar(band, numbers) for band in found]

    def _bar(self, band: Band, numbers: Mapping[str, int]) -> Bar:
        """Return the bar of a band; equal values have one colour."""
        colour, value = scene.QUIET, band.text
        if band.values == 1:
            colour = scene.SERIES_COLOURS[numbers[band.text] % len(scene.SERIES_COLOURS)]
            value = self.values[band.index]
        text = cut(band.text, _BAND_COLUMNS)
        return Bar(band.start, band.end, colour, text, self._hover(value, band.index))

    def _dots(self, domain: Point, name: str | None) -> tuple[Axis, Series]:
        """Draw a dot per commit, in order, where the axis goes back and forth."""
        there = [index for index, value in enumerate(self.values) if not is_missing(value)]
        kept = there[-_MAX_DOTS:]
        values = [self.values[index] for index in kept]
        if self.is_numeric:
            axis, heights = _number_axis(values, domain), values
        else:
            names = [scene.short(text_of(value)) for value in values]
            numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
            heights = [numbers[name] for name in names]
            ticks = [Tick(number, name) for name, number in numbers.items()]
            axis = Axis(range=(-0.5, len(ticks) - 0.5), ticks=ticks, grid=True, domain=domain)
        places = [self.scale.places[index] for index in kept]
        series = Series(
            points=list(zip(places, heights, strict=True)),
            colour=self.colour,
            hover=[self._hover(value, index) for index, value in zip(kept, values, strict=True)],
            width=1 if self.is_numeric else 0,
            sizes=6,
            legend=name,
        )
        return axis, series

    def _hover(self, value: Any, index: int) -> Hover:
        shown = f"{value:,}" if is_number(value) else text_of(value)
        commit = self.commits.label(self.scale.kept[index])
        return scene.hover_line(shown), scene.hover_line(commit)


def _number_axis(values: Sequence[float], domain: Point) -> Axis:
    low, high = min(values, default=0.0), max(values, default=1.0)
    around = (high - low) * _AROUND or 1.0
    return Axis(range=(low - around, high + around), free=True, max_ticks=5, grid=True, domain=domain)


# -- the axis that all rows share --------------------------------------------------------------------


def is_number(value: Any) -> TypeGuard[float]:
    """Return True for a number; a bool is not one."""
    return isinstance(value, Real) and not isinstance(value, bool)


def is_missing(value: Any) -> bool:
    """Return True if there is nothing to draw: no value, or a number that is not finite as a float."""
    if not is_number(value):
        return value is None
    try:
        return not isfinite(value)
    except OverflowError:
        return True


def text_of(value: Any) -> str:
    """Return the name of a value that is not a number; not safe yet."""
    return value if isinstance(value, str) else plain(summary(value, _CATEGORY_COLUMNS))


class Scale(NamedTuple):
    """The places of commits on the axis."""

    kept: Sequence[int]  # the commits that have a place
    places: Sequence[float]
    dates: bool = False  # the places are ms since 1970
    names: Sequence[str] = ()  # the names for which the places stand

    @property
    def forward(self) -> bool:
        """True if the places never go back, so that a value holds until the next commit."""
        return not self.names and all(one <= other for one, other in pairwise(self.places))

    @property
    def end(self) -> float:
        """The place up to which the newest value is shown."""
        if not self.forward:
            return max(self.places)
        tail = _TAIL * (self.places[-1] - self.places[0]) or (1000.0 if self.dates else 1.0)
        return self.places[-1] + (max(tail, 3 * _TICK_MS) if self.dates else tail)

    @property
    def ticks(self) -> list[Tick] | None:
        """The labels, if the places stand for names."""
        step = len(self.names) // _MAX_TICK_NAMES + 1
        numbers = range(0, len(self.names), step)
        return [Tick(number, scene.short(self.names[number])) for number in numbers] or None


def scale_of(values: Sequence[Any]) -> Scale:
    """Return the scale for a value of each commit: times, numbers, or names in the order of their first use.

    Examples
    --------
    >>> scale_of([1, None, 2.5])
    Scale(kept=[0, 2], places=[1.0, 2.5], dates=False, names=())
    >>> scale_of(["new", "paid", "new"])
    Scale(kept=[0, 1, 2], places=[0, 1, 0], dates=False, names=['new', 'paid'])
    """
    kept = [index for index, value in enumerate(values) if not is_missing(value)]
    there = [values[index] for index in kept]
    if all(is_number(value) for value in there):
        return Scale(kept, [float(value) for value in there])
    times = [_milliseconds(value) for value in there]
    if None not in times:
        return Scale(kept, [time for time in times if time is not None], dates=True)
    texts = [text_of(value) for value in there]
    names = list(dict.fromkeys(texts))
    numbers = {name: number for number, name in enumerate(names)}
    return Scale(kept, [numbers[text] for text in texts], names=names)


def _milliseconds(value: Any) -> float | None:
    """Return a time, or a text that is one, as ms since 1970; without a zone it is in UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if not isinstance(value, datetime):
        return None
    time = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return round(time.timestamp() * 1000, 3)


# -- steps and bands ---------------------------------------------------------------------------------

Steps = list[tuple[float, float | None, int]]  # place, value (None where a gap is) and index of each point


@dataclass(slots=True)
class Band:
    """A value that holds from one place to another; `values` is how many it stands for."""

    start: float
    end: float
    text: str
    index: int
    values: int = 1


def thinned(values: Sequence[Any], most: int = MAX_POINTS) -> list[int]:
    """Return the indices of about `most` values that look the same when drawn.

    Examples
    --------
    >>> thinned([0, 5, 1, 2, -3, 1, 1, 0], most=4)
    [0, 1, 4, 7]
    """
    if len(values) <= most:
        return list(range(len(values)))
    size = -(-len(values) * _POINTS_KEPT // most)
    kept: set[int] = set()
    for start in range(0, len(values), size):
        stretch = range(start, min(start + size, len(values)))
        there = [index for index in stretch if not is_missing(values[index])]
        gone = [index for index in stretch if is_missing(values[index])]
        kept |= {stretch[0], stretch[-1], *gone[:1]}
        if there:
            kept |= {min(there, key=values.__getitem__), max(there, key=values.__getitem__)}
    return sorted(kept)


def steps(values: Sequence[Any], places: Sequence[float], end: float) -> Steps:
    """Return the points of a line of steps; each value holds up to the next commit, the last one up to `end`.

    Examples
    --------
    >>> steps([1, None, 2], [10, 20, 30], 31)
    [(10, 1, 0), (20, 1, 0), (20, None, 1), (30, 2, 2), (31, 2, 2)]
    """
    points: Steps = []
    held: tuple[float, int] | None = None
    for index in thinned(values):
        value, place = values[index], places[index]
        if is_missing(value):
            points += [(place, *held)] if held else []
            points.append((place, None, index))
            held = None
        else:
            held = int(value) if isinstance(value, int) else float(value), index
            points.append((place, *held))
    return [*points, (end, *held)] if held else points


def bands(values: Sequence[Any], places: Sequence[float], end: float) -> list[Band]:
    """Return the stretches of equal values; where there is none, there is no band.

    Examples
    --------
    >>> for band in bands(["new", "new", "paid", None], [0, 1, 2, 3], 4):
    ...     print(band.start, band.end, band.text)
    0 2 new
    2 3 paid
    """
    found: list[Band] = []
    for index, value in enumerate(values):
        place = places[index]
        if index and _same(value, values[index - 1]):
            continue
        if found and found[-1].end == end:
            found[-1].end = place
        if not is_missing(value):
            found.append(Band(place, end, text_of(value), index))
    return found if len(found) <= MAX_BANDS else _merged(found, (end - places[0]) / MAX_BANDS)


def _merged(found: Iterable[Band], narrow: float) -> list[Band]:
    """Merge neighbours that are too narrow to be seen as bands of their own."""
    merged: list[Band] = []
    for band in found:
        last = merged[-1] if merged else None
        if last is not None and max(band.end - band.start, last.end - last.start) < narrow:
            last.end = band.end
            last.values += 1
            last.text = f"{last.values:,} values"
        else:
            merged.append(band)
    return merged


def _same(one: Any, other: Any) -> bool:
    if one is other or (is_missing(one) and is_missing(other)):
        return True
    if type(one) is type(other) and isinstance(one, _JSON_TYPES):
        return equal(one, other)
    return type(one) is type(other) and text_of(one) == text_of(other)
