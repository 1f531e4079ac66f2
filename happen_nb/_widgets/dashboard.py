"""The dashboard of a space: its states now and at any point in its past, its events and its problems."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import anywidget

from happen_nb._api.base import page_of, runtime_of, wait_on_io
from happen_nb._api.events import Event, Events, record_of
from happen_nb._display import part
from happen_nb._display.live_output import ALIVE, Picture
from happen_nb._display.page import Note, Page, mime_bundle
from happen_nb._display.values import Budget
from happen_nb._journal.slice import Entry, events_at, read_window
from happen_nb._model.frozen import diff
from happen_nb._model.paths import Steps, lookup
from happen_nb._model.records import EMPTY, CommitRecord, EventRecord
from happen_nb._runtime.cells import cells
from happen_nb._runtime.io import io_thread, run_blocking
from happen_nb._runtime.replica import Applied, SnapshotCache
from happen_nb._widgets.dashboard_actions import (
    Actions,
    PaceReport,
    ScheduledList,
    StateSource,
    change_lines,
    children_message,
    comparison,
    fork,
    log_entry,
    node_message,
    preview,
    revert,
    state_of,
)
from happen_nb._widgets.following import FollowsSpace, StaticFallback, Throttle, script, styles
from happen_nb.errors import ClosedError, HappenError, HistoryGoneError

if TYPE_CHECKING:
    from happen_nb._api.space import Space

MAX_NODES: Final = 500
MAX_LOG_ENTRIES: Final = 10_000
FIRST_WINDOW: Final = 1_000  # stored messages that are read for the log at first,
EARLIER_WINDOW: Final = 2_000  # and at each request for earlier ones
MAX_OPEN: Final = 200  # containers whose children are kept up to date
MAX_CHILDREN: Final = 2_000  # of a container
MAX_CHANGED_PATHS: Final = 100  # of a node
MAX_PREVIEWS: Final = 100  # that one message requests
MAX_RECENT: Final = 200  # commits whose changes are known without reading
BUSY_SECONDS: Final = 1.0  # after which a node counts as busy although nothing waits
SEEK_INTERVAL_SECONDS: Final = 0.02  # between two points in time that the slider shows
CACHED_STATES: Final = 4  # decoded states
MAX_STATIC_EVENTS: Final = 20  # in the static fallback


class Dashboard(Actions, FollowsSpace, anywidget.AnyWidget):
    """Shows the states of a space, its events and its problems; made by ``space.dashboard``.

    It updates at most ten times a second, and its slider goes back in time. It can send events, set states,
    and retry failures and unhandled events.
    """

    # One module in several files: the browser gets them as one text, so nothing has to be built.
    _esm = script("activity", "moments", "states", "log", "panels", "dashboard")
    _css = styles("dashboard")

    def __init__(self, space: Space) -> None:
        runtime = runtime_of(space)
        log = runtime.log  # a closed space has none: an error before there is a widget
        super().__init__(_dom_classes=(ALIVE,))
        self._space, self._runtime, self._journal = space, runtime, log
        self._throttle = Throttle(space, self._send_news)
        self._seeker = Throttle(space, self._seek, SEEK_INTERVAL_SECONDS)
        self._lock, self._reading = threading.RLock(), threading.Lock()
        # Appended to on the IO thread, read by `_send_news`.
        self._new_records: deque[Entry] = deque(maxlen=MAX_LOG_ENTRIES)
        self._recent: deque[Applied] = deque(maxlen=MAX_RECENT)
        io_thread().call_soon(self._listen)
        self._position = log.replica.position
        self._oldest = self._position + 1
        self._first = 1
        self._read_clock()
        self._log: deque[list[Any]] = deque(self._read_earlier(FIRST_WINDOW), maxlen=MAX_LOG_ENTRIES)
        newest_events = space.events(limit=MAX_STATIC_EVENTS)
        self._newest_events = deque((record_of(event) for event in newest_events), maxlen=MAX_STATIC_EVENTS)
        # Node and path of each open container -> how many children it shows.
        self._open: dict[tuple[str, Steps], int] = {}
        self._history = SnapshotCache(log)
        self._past: tuple[int, Mapping[str, StateSource]] | None = None
        self._target: int | None = None  # the point in time that was requested last; None is now
        self._node_summaries: dict[int, dict[str, Any]] = {}
        self._state = lru_cache(CACHED_STATES)(_state)
        self._newest_names: list[str] = []
        self._sent: dict[str, StateSource] = {name: self._record(name) for name in self._names()[0]}
        self._pace = PaceReport(runtime)
        self._scheduled = ScheduledList(space)
        self._scheduled.news()
        self._start_actions()
        self._failures_version = self._version_of_failures()
        self._fallback = StaticFallback(space, self._picture)
        self._forget_closing = runtime.on_closing.connect(self._show_now)
        self._follow_end(space)
        self.on_msg(self._on_message)
        self._throttle.follow(self._has_news)
        cells.register(self.close)

    def _stop_updates(self) -> None:
        if not self._throttle.stopped:
            self._forget_closing()
        super()._stop_updates()
        self._seeker.stop()

    def _picture(self) -> Picture:
        records = [
            Event(record, self._runtime, moment=self._moves.time_of_space(record.time))
            for record in self._newest_events
        ]
        states = page_of(self._space, Budget())
        events = page_of(Events(self._space.name, "**", records), Budget())
        to_come = page_of(self._scheduled.events, Budget()).blocks
        if to_come:
            to_come = (Note(part("to come")), *to_come)
        return mime_bundle(Page(states.heading, (*states.blocks, *events.blocks, *to_come)))

    # -- following the space -------------------------------------------------------------------------

    def _listen(self) -> None:
        append = self._new_records.append
        if self._throttle.stopped:
            return

        def add_commit(applied: Applied) -> None:
            append(applied.record)
            self._recent.append(applied)

        self._listeners = [
            self._journal.replica.on_commit.connect(add_commit),
            self._journal.on_event.connect(append),
        ]

    def _has_news(self) -> bool:
        replica = self._journal.replica
        return (
            replica.position != self._position
            or self._version_of_failures() != self._failures_version
            or self._scheduled.has_news
            or self._pace.has_news
        )

    def _send_news(self) -> None:
        scheduled = self._scheduled.news()
        position = self._journal.replica.position
        records = [self._new_records.popleft() for _ in range(len(self._new_records))]
        self._read_clock()
        with self._lock:
            self._position = position
            entries = [log_entry(record, self._moves) for record in records]
            self._log += entries
            self._newest_events += (record for record in records if isinstance(record, EventRecord))
            message = {"type": "tick", "last": self._position, "log": entries, "queues": self._queues()}
            message |= {"pace": self._pace.message(), **self._now(), **scheduled}
            if self._past is None:
                before = self._sent
                message |= self._changed_nodes()
                followed = {node for node, _ in self._open}
                message["changed"] = [
                    (name, self._changed_paths(before.get(name), record))
                    for name, record in self._sent.items()
                    if name in followed and before.get(name) is not record
                ]
            version = self._version_of_failures()
            if version != self._failures_version:
                self._failures_version = version
                message["failures"] = self._listed_failures()
            self.send(message)
        self._fallback.trigger()

    def _changed_nodes(self) -> dict[str, Any]:
        """Return the nodes that changed since they were sent last, and their open containers."""
        names, more = self._names()
        now = {name: self._record(name) for name in names}
        before, self._sent = self._sent, now
        whole = before.keys() != now.keys()
        changed = [name for name, record in now.items() if before.get(name, self) is not record]
        return {
            **self._node_list(names if whole else changed, more, whole=whole),
            "children": [self._children(*place) for place in self._open if whole or place[0] in changed],
        }

    def _node_list(self, names: list[str], more: int, *, whole: bool) -> dict[str, Any]:
        return {"nodes": [self._node(name) for name in names], "whole": whole, "more": more}

    def _changed_paths(self, before: StateSource, after: StateSource) -> list[list[str | int]]:
        try:
            changes = diff(state_of(before), state_of(after))
        except HappenError:
            return []
        return [list(change.path) for change in changes[:MAX_CHANGED_PATHS]]

    def _read_clock(self) -> None:
        self._moves = run_blocking(self._runtime.clock.moves())

    def _now(self) -> dict[str, Any]:
        """Return the time in ms of a manual clock; a real clock runs on without messages."""
        moments = self._moves.moments
        return {"now": moments[-1] // 1_000_000 if moments else None}

    # -- states, now or in the past ------------------------------------------------------------------

    def _names(self) -> tuple[list[str], int]:
        """Return the nodes to show and how many more exist; of a closed space, the last known ones."""
        self._colours = self._runtime.colours()
        if self._past is not None:
            names = list(self._past[1])
        elif not self._runtime.is_open:
            names = self._newest_names
        else:
            names = self._newest_names = list(self._space.views)
        return names[:MAX_NODES], max(0, len(names) - MAX_NODES)

    def _record(self, name: str) -> StateSource:
        return self._journal.replica.newest(name) if self._past is None else self._past[1].get(name)

    def _node(self, name: str) -> dict[str, Any]:
        record = self._record(name)
        if not isinstance(record, CommitRecord):
            return self._node_summary(name, "", record)
        if len(self._node_summaries) > MAX_LOG_ENTRIES:
            self._node_summaries.clear()
        if record.sequence not in self._node_summaries:
            self._node_summaries[record.sequence] = self._node_summary(name, record.revision, record)
        return self._node_summaries[record.sequence]

    def _node_summary(self, name: str, revision: int | str, record: StateSource) -> dict[str, Any]:
        colour = self._colours.get(name)
        try:
            return node_message(name, revision, self._state(record), colour)
        except HappenError as error:
            return node_message(name, revision, error, colour)

    def _children(self, name: str, path: Steps) -> dict[str, Any]:
        try:
            state = self._state(self._record(name))
            value = lookup(state, path) if path else state
        except HappenError:
            value = None
        return children_message(name, path, value, self._open.get((name, path), 0))

    def _seek(self) -> None:
        """Show the point in time that was requested last."""
        target = self._target
        try:
            past = None if target is None else (target, wait_on_io(self._history.at(target)))
        except ClosedError:
            raise
        except HappenError as error:
            self.send({"type": "problem", "text": str(error)})
            return
        with self._lock:
            self._past = past
            self.send({"type": "snapshot", "at": target, **self._changed_nodes(), **self._newest_commit()})

    def _show_now(self) -> None:
        """Show the newest states: no other point in time can be read any more."""
        if self._past is not None:
            self._target = None
            self._seek()

    def _newest_commit(self) -> dict[str, Any]:
        records = () if self._past is None else self._past[1].values()
        commits = [record for record in records if isinstance(record, CommitRecord)]
        newest = max(commits, key=lambda record: record.sequence, default=None)
        return {"newest": None if newest is None else log_entry(newest, self._moves)}

    # -- the log -------------------------------------------------------------------------------------

    def _read_earlier(self, number: int) -> list[list[Any]]:
        """Read the entries of the `number` messages before the oldest that was read."""
        end = self._oldest - 1
        self._first = wait_on_io(self._journal.stream.info()).first
        start = max(self._first, end - number + 1, 1)
        records = wait_on_io(read_window(self._journal.stream, start, end))
        self._oldest = max(self._first, end - number + 1)
        return [log_entry(record, self._moves, without_payload=True) for record in records]

    @property
    def _has_earlier(self) -> bool:
        return self._oldest > self._first and len(self._log) < MAX_LOG_ENTRIES

    def _on_earlier(self, _: Mapping[str, Any]) -> None:
        with self._reading:
            entries = self._read_earlier(EARLIER_WINDOW)
        with self._lock:
            self._log = deque([*entries, *self._log], maxlen=MAX_LOG_ENTRIES)
            self.send({"type": "earlier", "log": entries, "earlier": self._has_earlier})

    def _on_previews(self, message: Mapping[str, Any]) -> None:
        """Read the payloads and the changes of the visible entries."""
        positions = [(sequence, index) for sequence, index in message["positions"][:MAX_PREVIEWS]]
        events = [position for position in positions if position[1] >= 0]
        records = wait_on_io(events_at(self._journal.stream, sorted({sequence for sequence, _ in events})))
        previews = {each.position: preview(each.payload) for each in records if each.position in events}
        recent = {applied.record.sequence: applied for applied in list(self._recent)}
        commits = [sequence for sequence, index in positions if index < 0]
        changed = change_lines(self._journal.stream, commits, recent)
        previews |= {(sequence, -1): line for sequence, line in changed.items()}
        with self._lock:
            for entry in self._log:
                entry[7] = previews.get((entry[0], entry[1]), entry[7])
        self.send(
            {"type": "previews", "previews": [(*position, line) for position, line in previews.items()]}
        )

    # -- then and now --------------------------------------------------------------------------------

    def _queues(self) -> dict[str, list[float]]:
        """Return the seconds that each busy node of this process has been busy, and how many events wait."""
        dispatcher = self._runtime.dispatcher
        held = dispatcher.gate.counts()
        busy = {name: queue.busy() for name, queue in list(dispatcher.queues.items())}
        busy |= dict.fromkeys(held.keys() - busy.keys(), (0.0, 0))
        return {
            name: [round(seconds, 1), waiting + held.get(name, 0)]
            for name, (seconds, waiting) in busy.items()
            if waiting or name in held or seconds >= BUSY_SECONDS
        }

    def _on_compare(self, message: Mapping[str, Any]) -> None:
        name = message["node"]
        with self._lock:
            past = self._past
        if past is not None:
            found = comparison(past[1].get(name), self._journal.replica.newest(name))
            self.send({"type": "comparison", "node": name, "at": past[0], **found})

    def _on_revert(self, message: Mapping[str, Any]) -> None:
        node = self._find_node(message["node"])
        self._done(revert(node, self._records_then()[1].get(node.name)))

    def _on_fork(self, message: Mapping[str, Any]) -> None:
        self._done(fork(self._space, message["name"], self._records_then()[1]))

    def _records_then(self) -> tuple[int, Mapping[str, StateSource]]:
        with self._lock:
            if self._past is None:
                raise HappenError("the dashboard shows the newest states; go to a point in time first")
            return self._past

    # -- requests of the browser ---------------------------------------------------------------------

    def _on_message(self, _: object, message: Mapping[str, Any], __: object) -> None:
        # Runs on the kernel's main thread, so whatever takes longer goes to a worker.
        if message["do"] not in {"hello", "open", "close", "at"}:
            self._run(message)
            return
        with self._lock:
            getattr(self, f"_on_{message['do']}")(message)

    def _on_hello(self, message: Mapping[str, Any]) -> None:
        """Send everything to a view that has opened."""
        answer = {"type": "all", "request": message["request"], "space": self._space.name}
        answer |= {"log": list(self._log), "earlier": self._has_earlier, "failures": self._listed_failures()}
        answer |= {"first": self._first, "last": self._position, "past": self._past and self._past[0]}
        answer |= self._newest_commit()
        answer |= {"queues": self._queues(), "pace": self._pace.message(), **self._scheduled.message()}
        answer |= self._now()
        self.send(answer | self._node_list(*self._names(), whole=True))  # `_sent` is of the other views

    def _on_open(self, message: Mapping[str, Any]) -> None:
        place = message["node"], tuple(message["path"])
        self._open[place] = min(int(message["limit"]), MAX_CHILDREN)
        for oldest in list(self._open)[:-MAX_OPEN]:
            del self._open[oldest]
        self.send({"type": "children", **self._children(*place)})

    def _on_close(self, message: Mapping[str, Any]) -> None:
        self._open.pop((message["node"], tuple(message["path"])), None)

    def _on_at(self, message: Mapping[str, Any]) -> None:
        self._target = message["sequence"]
        self._seeker.trigger()


def _state(record: StateSource) -> Any:
    """Return a record's state for reading; raise if it is no longer stored or unreadable."""
    if isinstance(record, HistoryGoneError):
        raise record
    return EMPTY if record is None else record.peek()
