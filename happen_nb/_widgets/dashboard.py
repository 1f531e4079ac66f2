"""A space at a glance, and at any moment of its past."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from happen_nb._api.events import Event, Events
from happen_nb._api.moment import Past
from happen_nb._journal.slice import Entry, events_at, read_window
from happen_nb._model.diff import diff
from happen_nb._model.paths import Steps, lookup
from happen_nb._model.records import EMPTY, CommitRecord, EventRecord
from happen_nb._runtime.cells import cells
from happen_nb._runtime.io import bridge, on_io, wait_for
from happen_nb._widgets import panel, summaries, twin
from happen_nb._widgets.actions import Desk
from happen_nb._widgets.throttle import SLOW, Pulse
from happen_nb.errors import ClosedError, HappenError, HistoryGoneError

if TYPE_CHECKING:
    from happen_nb._api.space import Space
    from happen_nb._model.frozen import FrozenDict
    from happen_nb._runtime.replica import Applied
    from happen_nb._runtime.session import Session

NODES: Final = 500
"""Nodes that are shown."""
KEPT: Final = 10_000
"""Entries of the log."""
WINDOW: Final = 1_000
"""Stored messages that are read for the log to begin with."""
EARLIER: Final = 2_000
"""And at each request for earlier ones."""
OPEN: Final = 200
"""Containers that are followed."""
CHILDREN: Final = 2_000
"""Children that one of them may show."""
MOVE: Final = 0.02
"""Seconds at least between two moments that the slider shows."""
DECODED: Final = 4
"""States that are kept decoded to look at their parts."""
NEWEST: Final = 20
"""Events that the static twin shows."""

Stored = Entry
At = CommitRecord | HistoryGoneError | None


class Dashboard(panel.Panel):
    """The states of a space, its events, and what went wrong; made by ``space.dashboard``.

    It follows the space, at most ten times a second, and its slider goes back in time. From it events can be
    sent, states be set, and what failed or was not heard be tried again.
    """

    def __init__(self, space: Space) -> None:
        session = space._session  # a closed space has none: an error before there is a widget
        super().__init__()
        self._pulse = Pulse(space, self._tick)
        self._mover = Pulse(space, self._move, MOVE)
        self._painter = Pulse(space, self._paint, SLOW, kept=True)
        self._unlisten: list[Callable[[], object]] = []
        self._space, self._session = space, session
        self._lock, self._reading = threading.RLock(), threading.Lock()
        self._fresh: deque[Stored] = deque(maxlen=KEPT)
        bridge().soon(self._listen)
        self._position = self._session.replica.position
        self._oldest = self._position + 1
        self._first = 1
        self._log: deque[list[Any]] = deque(self._read_earlier(WINDOW), maxlen=KEPT)
        self._newest = deque((event._record for event in space.events(limit=NEWEST)), maxlen=NEWEST)
        self._open: dict[tuple[str, Steps], int] = {}
        self._history = Past(session)
        self._past: tuple[int, Mapping[str, At]] | None = None
        self._summaries: dict[int, dict[str, Any]] = {}
        self._state = lru_cache(DECODED)(_state)
        self._newest_names: list[str] = []
        self._told: dict[str, At] = {name: self._record(name) for name in self._names()[0]}
        self._wanted: int | None = None
        self._twins: list[twin.Twin] = []
        self._desk = Desk(space, self.send)
        self._problems = self._desk.fingerprint()
        self.on_msg(self._hear)
        self._pulse.follow(self._changed)
        cells.register(self.close)

    def stop(self) -> None:
        """Leave it as it is."""
        for pulse in (self._pulse, self._mover, self._painter):
            pulse.stop()
        unlisten, self._unlisten = self._unlisten, []
        for end in unlisten:
            bridge().soon(end)

    def close(self) -> None:
        """Stop, and take it away where it is shown."""
        if "_desk" not in vars(self):
            return  # it was never made: its space is closed
        self.stop()
        self.layout.close()
        super().close()

    def __repr__(self) -> str:
        return self._picture()["text/plain"]

    def _ipython_display_(self) -> None:
        shown = twin.show(self, self._picture())
        self._twins.append(shown)
        cells.register(lambda: self._twins.remove(shown))

    def _picture(self) -> Mapping[str, str]:
        said = Events(self._space.name, "**", [Event(record, self._space) for record in self._newest])
        return panel.picture(self._space, said)

    def _paint(self) -> None:
        picture = self._picture()
        for each in list(self._twins):
            each.update(picture)

    # -- following -----------------------------------------------------------------------------------

    def _listen(self) -> None:
        """Note what comes by. On the IO thread, which only puts it aside."""
        fresh = self._fresh
        if self._pulse.stopped:
            return

        def commit(applied: Applied) -> None:
            fresh.append(applied.record)

        self._unlisten = [self._session.replica.listen(commit), self._session.feed.listen(fresh.append)]

    def _changed(self) -> bool:
        return self._session.replica.position != self._position or self._desk.fingerprint() != self._problems

    def _tick(self) -> None:
        """Tell what is new."""
        with self._lock:
            self._position = self._session.replica.position
            records = [self._fresh.popleft() for _ in range(len(self._fresh))]
            entries = [summaries.entry(record) for record in records]
            self._log += entries
            self._newest += (record for record in records if isinstance(record, EventRecord))
            message = {"type": "tick", "last": self._position, "log": entries}
            if self._past is None:
                before = self._told
                message |= self._news()
                message["changed"] = [
                    (name, self._paths(before.get(name), record))
                    for name, record in self._told.items()
                    if self._follows(name) and before.get(name) is not record
                ]
            problems = self._desk.fingerprint()
            if problems != self._problems:
                self._problems = problems
                message["failures"] = self._desk.failures()
            self.send(message)
        self._painter.tell()

    def _news(self) -> dict[str, Any]:
        """The nodes that changed since they were told of last, and what is open of them."""
        names, left = self._names()
        now = {name: self._record(name) for name in names}
        before, self._told = self._told, now
        whole = before.keys() != now.keys()
        changed = [name for name, record in now.items() if before.get(name, self) is not record]
        return {
            **self._listed(names if whole else changed, left, whole=whole),
            "children": [self._children(*place) for place in self._open if whole or place[0] in changed],
        }

    def _listed(self, names: list[str], left: int, *, whole: bool) -> dict[str, Any]:
        return {"nodes": [self._node(name) for name in names], "whole": whole, "left": left}

    def _follows(self, name: str) -> bool:
        return any(node == name for node, _ in self._open)

    def _paths(self, before: At, after: At) -> list[list[str | int]]:
        try:
            return summaries.changed_paths(diff(_frozen(before), _frozen(after)))
        except HappenError:
            return []

    # -- states, of now or of the past ---------------------------------------------------------------

    def _names(self) -> tuple[list[str], int]:
        """The nodes that are shown, and how many more there are; of a closed space those that there were."""
        if self._past is not None:
            names = list(self._past[1])
        elif self._space._open_session is None:
            names = self._newest_names
        else:
            names = self._newest_names = list(self._space.views)
        return names[:NODES], max(0, len(names) - NODES)

    def _record(self, name: str) -> At:
        return self._session.replica.newest(name) if self._past is None else self._past[1].get(name)

    def _node(self, name: str) -> dict[str, Any]:
        record = self._record(name)
        if not isinstance(record, CommitRecord):
            return self._summary(name, "", record)
        if len(self._summaries) > KEPT:
            self._summaries.clear()
        if record.sequence not in self._summaries:
            self._summaries[record.sequence] = self._summary(name, record.revision, record)
        return self._summaries[record.sequence]

    def _summary(self, name: str, revision: int | str, record: At) -> dict[str, Any]:
        try:
            return summaries.node(name, revision, self._state(record))
        except HappenError as error:
            return summaries.node(name, revision, error)

    def _children(self, name: str, path: Steps) -> dict[str, Any]:
        try:
            state = self._state(self._record(name))
            value = lookup(state, path) if path else state
        except HappenError:
            value = None
        return summaries.children(name, path, value, self._open.get((name, path), 0))

    async def _records(self, position: int) -> Mapping[str, At]:
        records: Mapping[str, At] = await on_io(self._history.at(position))
        return records

    def _move(self) -> None:
        """Show the moment that was asked for last."""
        wanted = self._wanted
        try:
            past = None if wanted is None else (wanted, wait_for(self._records(wanted)))
        except ClosedError:
            raise
        except HappenError as error:
            self.send({"type": "problem", "text": str(error)})
            return
        with self._lock:
            self._past = past
            self.send({"type": "moment", "at": wanted, **self._news(), **self._newest_then()})

    def _newest_then(self) -> dict[str, Any]:
        """The commit that made the moment that is shown."""
        records = () if self._past is None else self._past[1].values()
        stored = [record for record in records if isinstance(record, CommitRecord)]
        newest = max(stored, key=lambda record: record.sequence, default=None)
        return {"newest": None if newest is None else summaries.entry(newest)}

    # -- the log -------------------------------------------------------------------------------------

    def _read_earlier(self, number: int) -> list[list[Any]]:
        """Entries for so many messages before the oldest that is known."""
        end = self._oldest - 1
        self._first, records = wait_for(_window(self._session, end - number + 1, end))
        self._oldest = max(self._first, end - number + 1)
        return [summaries.entry(record, unread=True) for record in records]

    @property
    def _has_earlier(self) -> bool:
        return self._oldest > self._first and len(self._log) < KEPT

    def _earlier(self, _: Mapping[str, Any]) -> None:
        with self._reading:
            entries = self._read_earlier(EARLIER)
        with self._lock:
            self._log = deque([*entries, *self._log], maxlen=KEPT)
            self.send({"type": "earlier", "log": entries, "earlier": self._has_earlier})

    def _peek(self, message: Mapping[str, Any]) -> None:
        """Read the payloads of entries that are in sight."""
        positions = sorted((sequence, index) for sequence, index in message["positions"][: NEWEST * 5])
        found = wait_for(_payloads(self._session, positions))
        previews = [(*position, summaries.preview(record.payload)) for position, record in found.items()]
        known = {(sequence, index): line for sequence, index, line in previews}
        with self._lock:
            for entry in self._log:
                entry[7] = known.get((entry[0], entry[1]), entry[7])
        self.send({"type": "previews", "previews": previews})

    # -- what the browser asks -----------------------------------------------------------------------

    def _hear(self, _: object, message: Mapping[str, Any], __: object) -> None:
        """A request. On the kernel's main thread, so what takes longer goes to another one."""
        quick = {"hello": self._hello, "open": self._opened, "shut": self._shut, "at": self._at}.get(
            message["do"]
        )
        if quick is not None:
            with self._lock:
                quick(message)
            return
        slow = {"earlier": self._earlier, "peek": self._peek}.get(message["do"])
        self._desk.run(slow or self._desk.task(message["do"]), message)

    def _hello(self, message: Mapping[str, Any]) -> None:
        """A view has opened: all that it shows."""
        answer = {"type": "all", "ask": message["ask"], "space": self._space.name, "log": list(self._log)}
        answer |= {"first": self._first, "last": self._position, "failures": self._desk.failures()}
        answer |= {"past": self._past and self._past[0], "earlier": self._has_earlier}
        answer |= self._newest_then()
        self.send(answer | self._listed(*self._names(), whole=True))  # the others are told by `_news`

    def _opened(self, message: Mapping[str, Any]) -> None:
        place = message["node"], tuple(message["path"])
        self._open[place] = min(int(message["limit"]), CHILDREN)
        for oldest in list(self._open)[:-OPEN]:
            del self._open[oldest]
        self.send({"type": "children", **self._children(*place)})

    def _shut(self, message: Mapping[str, Any]) -> None:
        self._open.pop((message["node"], tuple(message["path"])), None)

    def _at(self, message: Mapping[str, Any]) -> None:
        self._wanted = message["sequence"]
        self._mover.tell()


def _state(record: At) -> Any:
    """The state that a record has, to be looked at.

    Raises
    ------
    HistoryGoneError, StateError
        It is not stored any more, or cannot be read.
    """
    if isinstance(record, HistoryGoneError):
        raise record
    return EMPTY if record is None else record.peek()


def _frozen(record: At) -> FrozenDict:
    return record.state if isinstance(record, CommitRecord) else EMPTY


async def _window(session: Session, start: int, end: int) -> tuple[int, list[Stored]]:
    """The first stored sequence, and the commits and events between two others, without their bodies."""
    first = (await on_io(session.stream.info())).first
    found = await on_io(read_window(session.stream, max(first, start, 1), end))
    return first, found


async def _payloads(session: Session, positions: list[tuple[int, int]]) -> dict[tuple[int, int], EventRecord]:
    """The events at some positions."""
    sequences = sorted({sequence for sequence, _ in positions})
    records = await on_io(events_at(session.stream, sequences))
    return {record.position: record for record in records if record.position in positions}
