"""Following events from here on: the next one of a kind, and all that one has caused. On the IO thread."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING

from happen_nb.errors import HappenTimeoutError
from happen_nb.journal import eventlog, history
from happen_nb.model.trace import TraceNode, build

if TYPE_CHECKING:
    from happen_nb.model.commits import CommitRecord, EventRecord
    from happen_nb.runtime.replica import Applied
    from happen_nb.runtime.session import Session

LOOK = 0.01
"""Seconds between looks whether something is still handled."""
SLOWER = 1.5
"""Each next look comes so much later, up to `SLOWEST`."""
SLOWEST = 0.2
ANSWER = 2.0
"""Seconds for which another process may take to answer."""


class Stored:
    """The events from now on, one after the other."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._events: deque[EventRecord] = deque()
        self._stop = session.feed.listen(self._events.append)

    async def next(self, timeout: float) -> EventRecord | None:
        """The next event; None after `timeout` seconds."""
        if not self._events:
            await self._session.feed.next(timeout)
        return self._events.popleft() if self._events else None

    def close(self) -> None:
        """Follow no longer."""
        self._stop()


class Effects:
    """What an event causes, collected as it comes by."""

    def __init__(self, session: Session, event: EventRecord) -> None:
        self._session = session
        self._event = event
        self._events: dict[str, EventRecord] = {event.id: event}
        self._commits: dict[int, tuple[CommitRecord, CommitRecord | None]] = {}
        self._stops = [session.feed.listen(self._event_came), session.replica.listen(self._commit_came)]

    def _event_came(self, event: EventRecord) -> None:
        if self._event.id in event.path:
            self._events[event.id] = event

    def _commit_came(self, applied: Applied) -> None:
        if self._follows(applied.record):
            self._commits[applied.record.sequence] = (applied.record, applied.previous)

    async def tree(self, timeout: float | None) -> TraceNode:
        """The tree of it as it is now, or when all of it is handled, in every process."""
        try:
            await self._read_stored()
            if timeout is None:
                await self._session.dispatch.flush()
            else:
                await self._wait(time.monotonic() + timeout, timeout)
            handled = await eventlog.handled(self._session.stream, since=self._event.sequence)
        finally:
            for stop in self._stops:
                stop()
        known = [record for record in handled if record.event in self._events]
        return build(self._event, self._events.values(), self._commits.values(), known)

    async def _read_stored(self) -> None:
        """What was stored before this began to listen."""
        stream = self._session.stream
        start = self._event.sequence
        for event in await eventlog.events(stream, lambda _: True, since=(start, 0)):
            self._event_came(event)
        commits = await history.commits(stream, None, since=start - 1)
        newest = await history.before_each(stream, [each for each in commits if self._follows(each)])
        for record in commits:
            if self._follows(record):
                self._commits.setdefault(record.sequence, (record, newest.get(record.node)))
            newest[record.node] = record

    def _follows(self, record: CommitRecord) -> bool:
        return self._event.id in record.origin.path

    async def _wait(self, deadline: float, timeout: float) -> None:
        pause = LOOK
        while True:
            known = len(self._events)
            still = await self._open()
            if not still and len(self._events) == known:
                return
            if time.monotonic() > deadline:
                types = ", ".join(sorted({self._events[id].type for id in still if id in self._events}))
                raise HappenTimeoutError(f"settle: still handled after {timeout:g} s: {types}")
            if still:
                await asyncio.sleep(pause)
                pause = min(SLOWEST, pause * SLOWER)

    async def _open(self) -> set[str]:
        """Those of the events that some process has still to handle."""
        session = self._session
        ids = list(self._events)
        newest = max(event.sequence for event in self._events.values())
        still = set(session.dispatch.open(ids))
        for answer in await session.ask_owners({"events": ids}, ANSWER):  # others are gone, or stopped
            behind = answer["position"] < newest
            still |= set(ids[-1:]) if behind else set(answer["open"])
            await session.reach(answer["position"], time.monotonic() + session.timeout)
        await session.dispatch.flush()
        return still
