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
    from happen_nb.model.commits import CommitRecord, EventRecord, HandledRecord
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
        if self._event.id in applied.record.origin.path:
            self._commits[applied.record.sequence] = (applied.record, applied.previous)

    async def settled(self, timeout: float) -> TraceNode:
        """Wait until all of it is handled, in every process; gives the tree."""
        try:
            await self._read_stored()
            await self._wait(time.monotonic() + timeout, timeout)
            return await self._tree()
        finally:
            for stop in self._stops:
                stop()

    async def now(self) -> TraceNode:
        """The tree as it is now."""
        try:
            await self._session.dispatch.flush()
            await self._read_stored()
            return await self._tree()
        finally:
            for stop in self._stops:
                stop()

    async def _read_stored(self) -> None:
        """What was stored before this began to listen."""
        stream = self._session.stream
        start = self._event.sequence
        for event in await eventlog.events(stream, lambda _: True, since=(start, 0)):
            self._event_came(event)
        commits = await history.commits(stream, None, since=start - 1)
        effects = [record for record in commits if self._event.id in record.origin.path]
        newest = await history.before_each(stream, effects)
        for record in commits:
            if record in effects and record.sequence not in self._commits:
                self._commits[record.sequence] = (record, newest.get(record.node))
            newest[record.node] = record

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
        others = {owner.incarnation for owner in session.dispatch.owners.all() if owner.incarnation}
        still = set(session.dispatch.open(ids))
        for incarnation in others - {session.incarnation}:
            answer = await session.ask(incarnation, {"events": ids}, ANSWER)
            if answer:  # else it is gone, or stopped: what it has not handled is unheard
                behind = answer["position"] < newest
                still |= set(ids[-1:]) if behind else set(answer["open"])
                await session.reach(answer["position"], time.monotonic() + session.timeout)
        await session.dispatch.flush()
        return still

    async def _tree(self) -> TraceNode:
        records = await self._handled()
        return build(self._event, self._events.values(), self._commits.values(), records)

    async def _handled(self) -> list[HandledRecord]:
        stored = await eventlog.handled(self._session.stream, since=self._event.sequence)
        return [record for record in stored if record.event in self._events]
