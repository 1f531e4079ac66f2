"""Read the journal of a space: events, commits, past states, and traces."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from functools import cache

from happen_nb._api.base import SpacePart, Timeout, faces
from happen_nb._api.events import Event, Events, Trace, read_trace, stored_events_of
from happen_nb._api.history import Commit, Journal, Since, Snapshot, check_space, position_after, position_of
from happen_nb._api.unhandled import Unhandled
from happen_nb._journal.commits import with_previous
from happen_nb._journal.slice import read_entries, read_events
from happen_nb._model import arguments, functions
from happen_nb._model.frozen import FrozenDict
from happen_nb._model.patterns import Pattern
from happen_nb._model.quoting import near_names, quote
from happen_nb._model.records import CommitRecord, EventRecord
from happen_nb._model.schedules import REAL_CLOCK
from happen_nb._runtime.effects import find_unhandled
from happen_nb._runtime.io import on_io, run_awaitable, run_blocking
from happen_nb._runtime.log import Log
from happen_nb._runtime.replica import records_at
from happen_nb._runtime.runtime import Runtime
from happen_nb._runtime.waiting import NewsWait
from happen_nb.errors import HappenTimeoutError, PendingError, UnknownEventError

MAX_NAMED_TYPES = 3  # of other events, in a message


class SpaceReading(SpacePart):
    """The part of a space that reads its journal."""

    async def _events(
        self,
        pattern: str | Callable[[str], object] = "**",
        *,
        since: Since | None = None,
        limit: int | None = None,
    ) -> Events:
        """Read the stored events, newest last.

        Parameters
        ----------
        pattern : str or callable, optional
            The events to read, as for ``node.on``.
        since : Event, Commit, datetime or int, optional
            Read only later events; an int is a sequence, a naive datetime is local time.
        limit : int, optional
            Maximum number of events, the newest.

        Examples
        --------
        >>> event = orders.broadcast("order.paid", {"id": "o1"})
        >>> [event.payload for event in space.events("order.*")]
        [{'id': 'o1'}]
        """
        limit = None if limit is None else arguments.count(limit, "events: limit")
        matching = Pattern.of(pattern)
        records = await stored_events(self._log, matching, since, limit)
        return Events(self.name, matching.text, await stored_events_of(records, self._runtime))

    events, aevents = faces(_events)

    async def _wait_for(
        self,
        pattern: str | Callable[[str], object],
        where: Callable[[Event], object] | None = None,
        *,
        since: Since | None = None,
        timeout: Timeout = 10.0,
    ) -> Event:
        """Wait for the next event of a type, from any process.

        Already stored events are ignored, unless `since` is given. Interrupting the kernel ends the wait.
        While a handler waits here, ``advance`` moves a manual clock on.

        Parameters
        ----------
        pattern : str or callable
            The type, a pattern, or a predicate on the type, as for ``node.on``.
        where : callable, optional
            ``where(event)`` filters further.
        since : Event, Commit, datetime or int, optional
            Return the first event after it, even one that is already stored; an int is a sequence, a naive
            datetime is local time.
        timeout : float or timedelta, optional
            Seconds to wait; None waits without limit.

        Returns
        -------
        Event

        Raises
        ------
        HappenTimeoutError
            No such event came in time; the message names the types of those that came.

        Examples
        --------
        >>> start = orders.broadcast("start")
        >>> paid = orders.broadcast("order.paid")
        >>> space.wait_for("order.*", since=start).type
        'order.paid'
        """
        seconds = arguments.timeout(timeout, "wait_for: timeout")
        deadline, matching = time.monotonic() + seconds, Pattern.of(pattern)
        with closing(EventSearch(self._runtime, matching, where)) as search:
            reached = await position_after(self._log, since)
            stored = [] if since is None else await stored_events(self._log, matching, since, None)
            event = await search.first(stored, reached, deadline)
        if event is None:
            about = search.rejected
            if since is None and not about:
                about = "; pass since= to find one that was stored before the call"
            raise HappenTimeoutError(
                f'wait_for: no event "{matching.text}" arrived within {seconds:g} s{about}'
            )
        return event

    wait_for, await_for = faces(_wait_for, refuse=("space.wait_for()", "write await space.await_for(...)"))

    async def _journal(self, *, since: Since | None = None, limit: int | None = None) -> Journal:
        """Read the stored commits and events of the space in their one total order, newest last.

        A commit comes just before the events that it emitted.

        Parameters
        ----------
        since : Event, Commit, datetime or int, optional
            Read only later commits and events; an int is a sequence, a naive datetime is local time.
        limit : int, optional
            Maximum number of commits and events, the newest.

        Returns
        -------
        Journal
            A sequence of `Commit` and `Event`, with ``.to_frame()``, ``.commits`` and ``.events``.

        Raises
        ------
        ValueError
            `limit` is negative, or `since` is a pending event.

        Examples
        --------
        >>> commit = orders.state.set({"open": 1})
        >>> event = orders.broadcast("order.paid", {"id": "o1"})
        >>> print(space.journal())
        Journal of ... · 1 commit · 1 event
          node    commit or event  changes or payload
          orders  revision 1       + open  1
          orders  order.paid       {id: "o1"}
        """
        limit = None if limit is None else arguments.count(limit, "journal: limit")
        stream = self._log.stream
        after = await position_after(self._log, since)
        entries = await on_io(read_entries(stream, since=after, limit=limit))
        commits = [entry for entry in entries if isinstance(entry, CommitRecord)]
        changes = {each[0].sequence: each for each in await on_io(with_previous(stream, commits))}
        clock = await self._runtime.clock.moves(entries[-1].sequence if entries else 0)
        moments = [clock.time_of_space(each.time) for each in entries]
        items = [
            Commit(*changes[each.sequence], self.name, moment=moment)
            if isinstance(each, CommitRecord)
            else Event(each, self._runtime, moment=moment)
            for each, moment in zip(entries, moments, strict=True)
        ]
        return Journal(self.name, items)

    journal, ajournal = faces(_journal)

    async def _at(self, when: datetime | Event | Commit) -> Mapping[str, FrozenDict]:
        """Read the states of all nodes at one point in time.

        Parameters
        ----------
        when : datetime, Event or Commit
            A datetime (naive: local time); an event: all commits before it; or a commit: the snapshot that
            its transform read.

        Returns
        -------
        mapping of str to state
            The states by node name. Accessing a node whose state of that time was trimmed raises
            HistoryGoneError.

        Examples
        --------
        >>> first = orders.state.set({"open": 1})
        >>> second = orders.state.set({"open": 2})
        >>> dict(space.at(second))["orders"]
        {'open': 1}
        """
        log = self._log
        position = await on_io(position_of(log, when))
        return Snapshot(await on_io(records_at(log, position)), was_cleared=position < log.cleared)

    at, aat = faces(_at)

    @property
    def unhandled(self) -> Unhandled:
        """The events that no handler handled and that are not `facts`, among the newest 10,000.

        Examples
        --------
        >>> event = orders.broadcast("order.payed")
        >>> [(each.event.type, each.reason) for each in space.unhandled]
        [('order.payed', 'no owner')]
        """
        return run_blocking(self._unhandled())

    async def aunhandled(self) -> Unhandled:
        """Async variant of `unhandled`."""
        return await run_awaitable(self._unhandled())

    async def _unhandled(self) -> Unhandled:
        found = await on_io(find_unhandled(self._runtime.checked))
        found = [each for each in found if not self.facts.cover(each.event.type)]
        events = await stored_events_of([each.event for each in found], self._runtime)
        return Unhandled(self._runtime, self.views, list(zip(events, found, strict=True)))

    async def _trace(self, event: Event | str, *, times: bool = False) -> Trace:
        """Read from the journal what an event has caused so far: a tree of events and commits.

        Parameters
        ----------
        event : Event or str
            The event, or its id.
        times : bool, optional
            Show durations in its text, too.

        Raises
        ------
        UnknownEventError
            No event with this id is stored.
        HistoryGoneError
            The space was cleared after the event was stored.
        ValueError
            The event is pending.

        Examples
        --------
        >>> event = orders.broadcast("order.paid")
        >>> [node.event.type for node in space.trace(event)]
        ['order.paid']
        """
        return await self._trace_for("trace", event, times=arguments.truth(times, "trace: times"))

    trace, atrace = faces(_trace)

    async def _trace_for(self, call: str, event: Event | str, *, times: bool = False) -> Trace:
        """Read the trace of an event, for a call that messages name."""
        check_space(self._log, event, call)
        if isinstance(event, str):
            stored = await stored_events(self._log, Pattern.of("**"), None, None)
            found = next((each for each in reversed(stored) if each.id == event), None)
            if found is None:
                near = near_names(event, list({each.type for each in stored}), 1)
                hint = f"; the newest of a type is space.events({quote(near[0])})[-1]" if near else ""
                raise UnknownEventError(f"{call}: no event with the id {quote(event)} is stored{hint}")
            event = Event(found, self._runtime)
        if not isinstance(event, Event):
            raise TypeError(f"{call}: event is {quote(event)}; pass an Event, or the id of one")
        if event.pending:
            raise PendingError(
                f'{call}: the event "{event.type}" is pending until its transform has committed'
            )
        root = await read_trace(event, self._runtime)
        clock = await self._runtime.clock.moves() if times else REAL_CLOCK
        return Trace(lambda: root, times=times, clock=clock)


async def stored_events(
    log: Log, pattern: Pattern, since: Since | None, limit: int | None
) -> list[EventRecord]:
    """Read the stored events that match, oldest first."""
    after = await position_after(log, since)
    if pattern.predicate is None:
        reading = read_events(log.stream, pattern.matches, since=after, limit=limit)
        records: list[EventRecord] = await on_io(reading)
        return records
    records = await on_io(read_events(log.stream, lambda _: True, since=after))
    found = matching_events(pattern, records)
    return found if limit is None else found[max(0, len(found) - limit) :]


def matching_events(pattern: Pattern, records: Sequence[EventRecord]) -> list[EventRecord]:
    """Filter by a predicate. It is the user's code, which never runs on the IO thread."""
    matches = cache(pattern.matches)
    return [record for record in records if matches(record.type)]


class EventSearch:
    """The search for the first matching event, among stored and newly arriving ones."""

    def __init__(self, runtime: Runtime, pattern: Pattern, where: Callable[[Event], object] | None) -> None:
        if where is not None:
            functions.check_condition(where, "wait_for: where")
        self._runtime = runtime
        self._pattern = pattern
        self._where = where
        self._rejected = 0
        self._others = Counter[str]()
        self._log = runtime.log
        self._arrived: list[EventRecord] = []
        self.close = self._log.on_event.connect(self._arrived.append)

    async def first(
        self, stored: Sequence[EventRecord], reached: tuple[int, int], deadline: float
    ) -> Event | None:
        """Return the first match after the position `reached`; None at the deadline."""
        for record in stored:
            reached = record.position
            if (event := self._accepted(record)) is not None:
                return event
        dispatcher = self._runtime.dispatcher
        with dispatcher.awaiting_news() as news:
            while (left := deadline - time.monotonic()) > 0:
                for record in await dispatcher.waits(on_io(self._take(left, news))):
                    if record.position <= reached:
                        continue
                    if time.monotonic() >= deadline:  # `where` may be slow, and many events may have come
                        break
                    if not self._pattern.matches(record.type):
                        self._others[record.type] += 1
                    elif (event := self._accepted(record)) is not None:
                        return event
        return None

    async def _take(self, timeout: float, handler: NewsWait | None) -> list[EventRecord]:
        """Return the events that have arrived, as soon as there is one. On the IO thread."""
        # All at once: one by one, each would cost its caller a turn of the IO thread.
        if not self._arrived:
            await self._log.next_event(timeout, handler)
        taken = list(self._arrived)
        self._arrived.clear()
        return taken

    def _accepted(self, record: EventRecord) -> Event | None:
        event = Event(record, self._runtime)
        if self._where is None or functions.truth_of(self._where(event), "wait_for: where"):
            return event
        self._rejected += 1
        return None

    @property
    def rejected(self) -> str:
        """The description of the events that arrived and did not match, for a message."""
        found = [f"`where` rejected {self._rejected:,} of this type"] if self._rejected else []
        if self._others:
            types = ", ".join(f'"{type}"' for type, _ in self._others.most_common(MAX_NAMED_TYPES))
            more = ", …" if len(self._others) > MAX_NAMED_TYPES else ""
            found.append(f"{self._others.total():,} of other types arrived: {types}{more}")
        return "".join(f"; {each}" for each in found)
