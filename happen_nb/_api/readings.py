"""Read the stored events, the journal, past states and unhandled events; wait for events."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from happen_nb._api.base import faces
from happen_nb._api.events import Event, Events, Journal
from happen_nb._api.history import Commit
from happen_nb._api.moment import Moment, records_at
from happen_nb._api.retrying import HandledAgainError, refuse_retry
from happen_nb._api.trace import Trace
from happen_nb._api.unhandled import Unhandled
from happen_nb._journal.slice import (
    commits_before,
    find_events,
    newest_headers,
    position_at_time,
    read_entries,
    read_events,
    read_handled,
)
from happen_nb._model import arguments
from happen_nb._model.arguments import to_utc
from happen_nb._model.patterns import Pattern
from happen_nb._model.quoting import quote
from happen_nb._model.records import CommitRecord
from happen_nb._runtime import causes
from happen_nb._runtime.causes import output_context
from happen_nb._runtime.effects import Effects, EventStream, find_unhandled
from happen_nb._runtime.io import on_io, run_awaitable, run_blocking
from happen_nb.errors import HappenError, HappenTimeoutError, PendingError, UnknownEventError

if TYPE_CHECKING:
    from happen_nb._api.facts import Facts
    from happen_nb._model.causality import TraceNode
    from happen_nb._model.frozen import FrozenDict
    from happen_nb._model.records import CommitRecord, EventRecord
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.runtime import Runtime

Since = Event | Commit | datetime | int
"""Select what comes after an event, a commit, a time (naive: local), or a sequence."""
Timeout = float | timedelta | None
"""Seconds, or a timedelta; None waits without limit."""


class Readings:
    """The part of a `Space` that reads what is stored, and waits for events."""

    name: str
    facts: Facts
    _runtime: Runtime

    @property
    def _open_runtime(self) -> Runtime:
        """The runtime; raises if the space is closed."""
        raise NotImplementedError

    @property
    def _log(self) -> Log:
        return self._open_runtime.log

    # -- waiting -------------------------------------------------------------------------------------

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
        matching, log = Pattern.of(pattern), self._log
        _check_where(where)
        seconds = arguments.timeout(timeout, "wait_for: timeout")
        deadline = time.monotonic() + seconds
        coming = EventStream(log)
        refused, others = 0, Counter[str]()
        try:
            reached = await position_after(log, since)
            for record in [] if since is None else await self._stored(matching, since, None):
                reached = record.position
                if _accepts(where, event := self._event(record)):
                    return event
                refused += 1
            while (left := deadline - time.monotonic()) > 0:
                for record in await on_io(coming.take(left)):
                    if record.position <= reached:
                        continue
                    if time.monotonic() >= deadline:  # `where` may be slow, and many events may have come
                        break
                    if not matching.matches(record.type):
                        others[record.type] += 1
                    elif _accepts(where, event := self._event(record)):
                        return event
                    else:
                        refused += 1
        finally:
            coming.close()
        instead = _instead(refused, others)
        raise HappenTimeoutError(f'wait_for: no event "{matching.text}" came within {seconds:g} s{instead}')

    wait_for, await_for = faces(_wait_for, refuse=("space.wait_for()", "await space.await_for(...)"))

    def _event(self, record: EventRecord) -> Event:
        return Event(record, self)  # type: ignore[arg-type]

    # -- reading -------------------------------------------------------------------------------------

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
        records = await self._stored(matching, since, limit)
        return Events(self.name, matching.text, [self._event(record) for record in records])

    events, aevents = faces(_events)

    async def _stored(self, pattern: Pattern, since: Since | None, limit: int | None) -> list[EventRecord]:
        log = self._log
        after = await position_after(log, since)
        if pattern.predicate is None:
            reading = read_events(log.stream, pattern.matches, since=after, limit=limit)
            records: list[EventRecord] = await on_io(reading)
            return records
        records = await on_io(read_events(log.stream, lambda _: True, since=after))
        found = _matching(pattern, records)
        return found if limit is None else found[max(0, len(found) - limit) :]

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
        newest = await on_io(commits_before(stream, commits))
        items: list[Commit | Event] = []
        for entry in entries:
            if isinstance(entry, CommitRecord):
                items.append(Commit(entry, newest.get(entry.node)))
                newest[entry.node] = entry
            else:
                items.append(self._event(entry))
        return Journal(self.name, items)

    journal, ajournal = faces(_journal)

    async def _at(self, when: Any) -> Mapping[str, FrozenDict]:
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
        return await self._moment(when)

    at, aat = faces(_at)

    async def _moment(self, when: Any) -> Moment:
        position = await on_io(position_of(self._log, when))
        return Moment(await on_io(records_at(self._log, position)))

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
        found = await on_io(find_unhandled(self._open_runtime))
        found = [each for each in found if not self.facts.cover(each.event.type)]
        return Unhandled(self, found)  # type: ignore[arg-type]

    # -- what an event caused ------------------------------------------------------------------------

    async def _trace(self, event: Event | str, *, times: bool = False) -> Trace:
        """Read from the journal what an event has caused so far: a tree of events and commits.

        Parameters
        ----------
        event : Event or str
            The event, or its id.
        times : bool, optional
            Show durations in its text, too.

        Examples
        --------
        >>> event = orders.broadcast("order.paid")
        >>> [node.event.type for node in space.trace(event)]
        ['order.paid']
        """
        check_space(self._log, event, "trace")
        if isinstance(event, Event):
            record = event._record
        elif isinstance(event, str):
            record = await self._find(event)
        else:
            raise TypeError(f"trace: event is {quote(event)}; give an Event, or the id of one")
        return Trace(await on_io(_effects(self._open_runtime, record, None)), times=times)

    trace, atrace = faces(_trace)

    async def _find(self, id: str) -> EventRecord:
        for record in reversed(await self._stored(Pattern.of("**"), None, None)):
            if record.id == id:
                return record
        raise UnknownEventError(f"trace: no event with the id {quote(id)} is stored")

    async def _settle_event(self, event: Event, timeout: Timeout) -> Trace:
        seconds = arguments.timeout(timeout, "settle: timeout")
        if event.pending:
            raise PendingError("settle: the event is pending until its transform has committed")
        refuse_in_callback("settle")
        return Trace(await on_io(_effects(self._open_runtime, event._record, seconds)))

    async def _handled_by(self, event: Event) -> tuple[str, ...]:
        if event.pending:
            return ()
        log = self._log
        await on_io(self._runtime.dispatcher.flush())
        records = await on_io(read_handled(log.stream, since=event._record.sequence))
        return tuple(dict.fromkeys(r.node for r in records if r.event == event.id and r.accepted))

    async def _again(self, record: EventRecord, node: str, handler: str | None) -> BaseException | None:
        """Handle an event again; return the handler's error."""
        refuse_retry(node)
        error: BaseException | None = await on_io(
            self._runtime.dispatcher.redeliver(record, node, handler, output_context())
        )
        return error

    def _handle_again(self, record: EventRecord, node: str, handler: str | None) -> None:
        error = run_blocking(self._again(record, node, handler))
        if error is not None:
            raise HandledAgainError(error)


def refuse_in_callback(call: str) -> None:
    """Refuse to wait in a handler or callback, which might wait for itself."""
    running = causes.current_scope()
    if running is not None:
        raise HappenError(f"{call}: in {running.what} it would wait for itself; call it in a cell")


async def newest_events(log: Log, pattern: Pattern, since: tuple[int, int], limit: int) -> list[EventRecord]:
    """Read the headers of the newest events of a pattern."""
    if pattern.predicate is None:
        reading = newest_headers(log.stream, pattern.matches, since=since, limit=limit)
        records: list[EventRecord] = await on_io(reading)
        return records
    reading = newest_headers(log.stream, lambda _: True, since=since, limit=sys.maxsize)  # all
    return _matching(pattern, await on_io(reading))[-limit:]


def _matching(pattern: Pattern, records: Sequence[EventRecord]) -> list[EventRecord]:
    """Filter by a predicate. It is the user's code, which never runs on the IO thread."""
    matches = cache(pattern.matches)
    return [record for record in records if matches(record.type)]


async def _effects(runtime: Runtime, record: EventRecord, timeout: float | None) -> TraceNode:
    (tree,) = await Effects(runtime, [record]).trees(timeout)
    return tree


MAX_NAMED_TYPES = 3  # of other events, in a message


def _instead(refused: int, others: Counter[str]) -> str:
    """Describe the events that came and did not match."""
    found = [f"`where` refused {refused:,} of this type"] if refused else []
    if others:
        types = ", ".join(f'"{type}"' for type, _ in others.most_common(MAX_NAMED_TYPES))
        found.append(
            f"{others.total():,} of other types came: {types}{', …' if len(others) > MAX_NAMED_TYPES else ''}"
        )
    return "".join(f"; {each}" for each in found)


def _check_where(where: object) -> None:
    if where is not None and not callable(where):
        raise TypeError(f"wait_for: where is {quote(where)}; give a function of an event")


def _accepts(where: Callable[[Event], object] | None, event: Event) -> bool:
    return where is None or bool(where(event))


async def position_of(log: Log, when: Any) -> int:
    """Return the journal position of the last commit that had happened at a time."""
    check_space(log, when, "at")
    if isinstance(when, Commit):
        return when.read
    if isinstance(when, Event):
        return _stored_position(when)[0]  # the commit that emitted it has the same sequence
    if arguments.is_moment(when):
        return await position_at_time(log.stream, arguments.moment(when, "at"))
    raise TypeError(
        f"at: {quote(when)} is not a time; give a datetime, an Event, a Commit, or (state.at) a revision"
    )


async def position_after(log: Log, since: Any) -> tuple[int, int]:
    """Return the position after which `since` selects."""
    check_space(log, since, "since")
    if since is None:
        return 0, 0
    if isinstance(since, Event):
        return _stored_position(since)
    if isinstance(since, Commit):
        return since.sequence, -1
    if arguments.is_index(since):
        return arguments.count(since, "since"), LAST_INDEX
    if not arguments.is_moment(since):
        raise TypeError(f"since is {quote(since)}; give an Event, a Commit, a datetime or a sequence")
    return await on_io(position_of(log, since)), LAST_INDEX


async def occurrences(log: Log, records: Sequence[CommitRecord]) -> list[datetime | None]:
    """Return the event time of each commit's nearest cause that has one, in UTC; naive times are local."""
    ids = {id for record in records for id in record.origin.path}
    if not ids:
        return [None] * len(records)
    newest = max(record.sequence for record in records)
    found = await on_io(find_events(log.stream, ids, before=newest))
    return [_occurred(record, found) for record in records]


def _occurred(record: CommitRecord, events: dict[str, EventRecord]) -> datetime | None:
    for id in reversed(record.origin.path):
        occurred = events[id].occurred if id in events else None
        if occurred is not None:
            return to_utc(datetime.fromisoformat(occurred))
    return None


LAST_INDEX = 1 << 30  # after the last event of any commit


def check_space(log: Log, given: Any, call: str) -> None:
    """Refuse an event of another space, whose position has no meaning here."""
    if not isinstance(given, Event):
        return
    here, there = log.subjects.space, given._space.name
    if here != there:
        raise ValueError(f'{call}: the event "{given.type}" belongs to the space "{there}", not to "{here}"')


def _stored_position(event: Event) -> tuple[int, int]:
    if event.pending:
        raise PendingError(
            "since: the event is pending: it has no position in the journal until its transform commits"
        )
    return event._record.position
