"""A live plot: values of one or more nodes over time, redrawn in place while they change."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anywidget

from happen_nb._api.base import runtime_of
from happen_nb._api.failures import Failure
from happen_nb._api.history import TIME, TIME_OF_SPACE, Commit
from happen_nb._api.plotting import LineSource, read_commits_of, sources_of_state
from happen_nb._display import clean, cut, describe_error, name, plain
from happen_nb._display.live_output import ALIVE, Picture
from happen_nb._display.plots import scene
from happen_nb._display.plots.history_plot import (
    PlottedCommits,
    PlottedLine,
    is_missing,
    is_number,
    scene_of_lines,
    text_of,
    thinned,
)
from happen_nb._display.values import summary
from happen_nb._model.arguments import duration, truth
from happen_nb._model.paths import Selector, typo_hint
from happen_nb._model.schedules import REAL_CLOCK
from happen_nb._runtime.cells import cells
from happen_nb._runtime.io import io_thread, run_blocking
from happen_nb._widgets.following import FollowsSpace, StaticFallback, Throttle, script, styles
from happen_nb.errors import ClosedError

if TYPE_CHECKING:
    from happen_nb._api.space import Space
    from happen_nb._api.state import State
    from happen_nb._api.views import View
    from happen_nb._model.records import CommitRecord
    from happen_nb._runtime.replica import Applied

MAX_POINTS: Final = 5_000  # of a line; beyond that, it is thinned to half of them
MAX_WAITING: Final = 20_000  # commits between two updates
CLOCK_SECONDS: Final = 1.0  # after which a plot with a window moves on although nothing is committed
FALLBACK_SECONDS: Final = 5.0  # between two static fallbacks
_TEXT_COLUMNS: Final = 60
_MS: Final = 1_000_000  # nanoseconds

logger = logging.getLogger("happen_nb")

Point = tuple[float, float | int | str | None]
"""A moment, in ms since 1970, and the value from then on; None where there is none."""


@dataclass(slots=True)
class _LiveLine:
    """A line, and what of it is shown."""

    source: LineSource
    points: list[Point] = field(default_factory=list)
    has_failed: bool = False

    def add(self, ms: float, value: Any) -> Point | None:
        """Add a value if it differs from the one before; return the new point."""
        drawable = _drawable(value)
        if self.points and self.points[-1][1] == drawable and type(self.points[-1][1]) is type(drawable):
            return None
        point = (max(ms, self.points[-1][0]) if self.points else ms, drawable)
        self.points.append(point)
        return point

    def drop_before(self, ms: float) -> None:
        """Forget what ended before a moment."""
        later = next((at for at, point in enumerate(self.points) if point[0] > ms), len(self.points))
        del self.points[: max(0, later - 1)]

    def thin(self) -> bool:
        """Leave out points that are not seen; return True if there were too many."""
        if len(self.points) <= MAX_POINTS:
            return False
        kept = self.points
        if all(value is None or is_number(value) for _, value in kept):
            chosen = thinned([value for _, value in kept], MAX_POINTS // 2)
            self.points = [kept[at] for at in chosen]
        else:
            self.points = kept[-MAX_POINTS // 2 :]
        return True


class LivePlot(FollowsSpace, anywidget.AnyWidget):
    """Values over time that follow every commit; made by ``live_plot`` of a state, a view or a space.

    It updates at most ten times a second. The zoom stays while new values arrive. The static
    picture in the notebook file updates every five seconds.

    Examples
    --------
    >>> commit = orders.state.set({"open": 2})
    >>> plot = orders.state.live_plot("open", window="1min")
    >>> plot
    Live plot of orders
      open  2
    >>> plot.stop()
    """

    _esm = script("live_plot")
    _css = styles("live_plot")

    def __init__(
        self, space: Space, title: str, sources: Sequence[LineSource], window: Any, *, together: bool
    ) -> None:
        span = None if window is None else duration(window, "live_plot: window")
        runtime = runtime_of(space)
        replica = runtime.log.replica  # a closed space has none: an error before there is a widget
        self._lines = [_LiveLine(each) for each in sources]
        self._new: deque[CommitRecord] = deque(maxlen=MAX_WAITING)  # appended to on the IO thread
        self._nodes = {each.node for each in sources}
        self._space, self._replica, self._title = space, replica, title
        self._together = truth(together, "live_plot: together")
        self._span = None if span is None else span * 1000
        self._lock = threading.RLock()
        self._note = ""
        self._moves = REAL_CLOCK
        self._clock_ahead = time.time() * 1000 - time.monotonic() * 1000  # of the server, until it is known
        self._knows_clock = False
        self._updated = time.monotonic()
        self._read = dict.fromkeys(self._nodes, 0)  # node -> sequence of the newest commit that is drawn
        io_thread().call_soon(self._listen)
        self._read_history()
        super().__init__(_dom_classes=(ALIVE,))
        self._throttle = Throttle(space, self._update)
        self._fallback = StaticFallback(space, self._picture, FALLBACK_SECONDS)
        self._follow_end(space)
        self.on_msg(self._on_message)
        self._throttle.follow(self._has_news)
        cells.register(self.close)

    def __repr__(self) -> str:
        values = [f"  {name(line.source.name)}  {_text_of(line)}" for line in self._lines]
        return "\n".join([f"Live plot of {name(self._title)}", *values])

    # -- following -----------------------------------------------------------------------------------

    def _listen(self) -> None:
        self._listeners = [self._replica.on_commit.connect(self._take)]

    def _take(self, applied: Applied) -> None:
        record = applied.record
        if record.node in self._nodes:
            ahead = record.time / _MS - time.monotonic() * 1000
            # A message that was late makes the server's clock look slow, never fast.
            self._clock_ahead = max(ahead, self._clock_ahead) if self._knows_clock else ahead
            self._knows_clock = True
            self._new.append(record)

    def _read_clock(self) -> None:
        self._moves = run_blocking(runtime_of(self._space).clock.moves())

    def _read_history(self) -> None:
        self._read_clock()
        for node in self._nodes:
            records = read_commits_of(runtime_of(self._space), node)
            for record in records:
                self._draw(record, strict=True)
            self._read[node] = records[-1].sequence if records else 0
            if records:
                self._hint_at_typos(records[-1])
        self._tidy()

    def _hint_at_typos(self, newest: CommitRecord) -> None:
        for source in (line.source for line in self._lines if line.source.node == newest.node):
            hint = None if callable(source.selector) else typo_hint(newest.state, source.selector)
            if hint is not None:
                logger.warning('live plot of node "%s": %s', source.node, hint)

    def _has_news(self) -> bool:
        is_late = self._span is not None and time.monotonic() - self._updated >= CLOCK_SECONDS
        return bool(self._new) or is_late or self._is_emptied()

    def _is_emptied(self) -> bool:
        """Return True if the space was cleared, which removes states without a commit."""
        return any(self._read[node] and self._replica.newest(node) is None for node in self._nodes)

    def _update(self) -> None:
        count = len(self._new)
        self._read_clock()  # it waits for the server
        with self._lock:
            self._updated = time.monotonic()
            points = []
            for _ in range(count):
                points += self._draw(self._new.popleft())
            if self._is_emptied():
                points += self._end_lines()
            if self._tidy():
                self.send(self._everything())
            else:
                self.send({"type": "points", "now": self._now, "points": points})
        if points:
            self._fallback.trigger()

    def _draw(self, record: CommitRecord, *, strict: bool = False) -> list[tuple[int, *Point]]:
        """Add a commit to the lines of its node; return the new points."""
        if record.sequence <= self._read[record.node]:
            return []
        self._read[record.node] = record.sequence
        points: list[tuple[int, *Point]] = []
        for number, line in enumerate(self._lines):
            if line.source.node == record.node:
                value = line.source.value(record) if strict else self._value(line, record)
                point = line.add(round(self._moves.time_of_space(record.time) / _MS, 1), value)
                points += [] if point is None else [(number, *point)]
        return points

    def _value(self, line: _LiveLine, record: CommitRecord) -> Any:
        """Return the value after a commit; an error of the user's function leaves a gap, and is recorded."""
        try:
            value = line.source.value(record)
        except ClosedError:
            raise
        except BaseException as error:  # nothing that a callback raises may end the worker
            if not line.has_failed:
                self._report(line, record, error)
            line.has_failed = True
            return None
        line.has_failed = False
        return value

    def _report(self, line: _LiveLine, record: CommitRecord, error: BaseException) -> None:
        source, doing = line.source, f'plotting "{line.source.node}"'
        retry = partial(source.value, record)
        self._space.failures.add(Failure(source.node, source.name, doing, Commit(record, None), error, retry))
        self._note = f"{source.name}: {describe_error(error)}"
        self.send({"type": "note", "note": cut(self._note, 300)})

    def _end_lines(self) -> list[tuple[int, *Point]]:
        """Leave a gap from now on in the lines of nodes that are gone."""
        points: list[tuple[int, *Point]] = []
        for number, line in enumerate(self._lines):
            if self._replica.newest(line.source.node) is None:
                point = line.add(self._now, None)
                points += [] if point is None else [(number, *point)]
        for node in self._nodes:
            if self._replica.newest(node) is None:
                self._read[node] = 0
        return points

    def _tidy(self) -> bool:
        """Forget what is out of the window; return True if lines were thinned."""
        if self._span is not None:
            for line in self._lines:
                line.drop_before(self._now - self._span)
        thinned = [line.thin() for line in self._lines]
        return any(thinned)

    @property
    def _now(self) -> float:
        """The time of the space, in ms since 1970."""
        if self._moves.moments:
            return round(self._moves.moments[-1] / _MS, 1)
        newest = max((line.points[-1][0] for line in self._lines if line.points), default=0.0)
        return round(max(newest, time.monotonic() * 1000 + self._clock_ahead), 1)

    # -- the browser ---------------------------------------------------------------------------------

    def _on_message(self, _: object, message: Mapping[str, Any], __: object) -> None:
        if message.get("do") == "hello":
            with self._lock:
                self.send(self._everything())

    def _everything(self) -> dict[str, Any]:
        lines = [[clean(line.source.name), line.points] for line in self._lines]
        shown = {"title": clean(self._title), "together": self._together, "span": self._span}
        return {"type": "all", **shown, "now": self._now, "lines": lines, "note": cut(self._note, 300)}

    def _picture(self) -> Picture:
        with self._lock:
            now, title = self._now, TIME_OF_SPACE if self._moves.stored else TIME
            lines = [
                PlottedLine(line.source.name, *_plotted(line, now, self._span, title)) for line in self._lines
            ]
        span = None if self._span is None else (now - self._span, now)
        drawn = scene_of_lines(scene.short(self._title), lines, together=self._together, span=span)
        caption = repr(self)
        return {"text/plain": caption, "text/html": scene.image_of_svg(scene.draw(drawn), caption)}


def live_plot_of_node(
    space: Space,
    node: str,
    source: State | View,
    selectors: Sequence[Selector],
    named: Mapping[str, Selector],
    window: Any,
    *,
    together: bool,
) -> LivePlot:
    sources = sources_of_state(source, node, selectors, named, "live_plot")
    return LivePlot(space, node, sources, window, together=together)


def _plotted(line: _LiveLine, now: float, span: float | None, title: str) -> tuple[list[Any], PlottedCommits]:
    """Return the visible part of a line, up to now, as values and moments of commits."""
    start = None if span is None else now - span
    points = [*line.points, *([(now, line.points[-1][1])] if line.points else [])]
    moments = [
        datetime.fromtimestamp((ms if start is None else max(ms, start)) / 1000, UTC) for ms, _ in points
    ]
    numbers = range(1, len(points) + 1)
    return [value for _, value in points], PlottedCommits(line.source.node, numbers, moments, moments, title)


def _drawable(value: Any) -> float | int | str | None:
    """Return a value as a number or a short text; None if there is nothing to draw."""
    if is_missing(value):
        return None
    if is_number(value):
        return int(value) if isinstance(value, int) else float(value)
    return cut(text_of(value), _TEXT_COLUMNS)


def _text_of(line: _LiveLine) -> str:
    """Return the newest value of a line as text."""
    value = line.points[-1][1] if line.points else None
    return value if isinstance(value, str) else plain(summary(value, _TEXT_COLUMNS))
