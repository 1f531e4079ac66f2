"""Events of a space: waiting for them, reading what is stored, and what no handler handled."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from happen_nb.commits import Commit
from happen_nb.errors import HappenError, HappenTimeoutError
from happen_nb.events import Event, Events
from happen_nb.journal import eventlog, history
from happen_nb.model.patterns import Pattern
from happen_nb.retrying import HandledAgainError, refuse_retry
from happen_nb.runtime import causes
from happen_nb.runtime.bridge import on_io, refuse_on_handlers, wait_for, wait_in_loop
from happen_nb.runtime.following import Effects, Stored
from happen_nb.runtime.output import causing
from happen_nb.runtime.unhandled import find_unhandled
from happen_nb.trace import Trace
from happen_nb.unhandled import Unhandled

if TYPE_CHECKING:
    from happen_nb.model.commits import CommitRecord, EventRecord
    from happen_nb.model.trace import TraceNode
    from happen_nb.runtime.dispatch import Dispatch
    from happen_nb.runtime.session import Session

Since = Event | Commit | datetime | int
"""After which moment: an event, a commit, a time (naive: local), or a sequence."""


class Readings:
    """The part of a `Space` that reads and waits for events."""

    name: str
    _dispatch: Dispatch

    @property
    def _session(self) -> Session:
        """The open connection; an error if there is none."""
        raise NotImplementedError

    # -- waiting -------------------------------------------------------------------------------------

    def wait_for(
        self,
        pattern: str | Callable[[str], object],
        where: Callable[[Event], object] | None = None,
        *,
        since: Since | None = None,
        timeout: float = 10.0,
    ) -> Event:
        """Wait for the next event of a kind, from any process.

        Parameters
        ----------
        pattern : str or callable
            As for ``node.on``.
        where : callable, optional
            Filters further.
        since : Event, Commit, datetime or int, optional
            The first one after it, also if it is stored already.
        timeout : float, optional
            Seconds.

        Raises
        ------
        HappenTimeoutError
            None came in time.

        Examples
        --------
        >>> start = orders.broadcast("start")
        >>> paid = orders.broadcast("order.paid")
        >>> space.wait_for("order.*", since=start).type
        'order.paid'
        """
        refuse_on_handlers("space.wait_for()", "await space.await_for(...)")
        return wait_for(self._wait_for(pattern, where, since, timeout))

    async def await_for(
        self,
        pattern: str | Callable[[str], object],
        where: Callable[[Event], object] | None = None,
        *,
        since: Since | None = None,
        timeout: float = 10.0,
    ) -> Event:
        """`wait_for`, to await."""
        return await wait_in_loop(self._wait_for(pattern, where, since, timeout))

    async def _wait_for(self, pattern: Any, where: Any, since: Since | None, timeout: float) -> Event:
        matching, session = Pattern.of(pattern), self._session
        deadline = time.monotonic() + timeout
        coming = Stored(session)
        try:
            reached = await position_after(session, since)
            for record in [] if since is None else await self._stored(matching, since, None):
                reached = record.position
                if _accepts(where, event := self._event(record)):
                    return event
            while (left := deadline - time.monotonic()) > 0:
                record_ = await on_io(coming.next(left))
                if record_ is None or record_.position <= reached or not matching.matches(record_.type):
                    continue
                if _accepts(where, event := self._event(record_)):
                    return event
        finally:
            coming.close()
        raise HappenTimeoutError(f'wait_for: no event "{matching.text}" came within {timeout:g} s')

    def _event(self, record: EventRecord) -> Event:
        return Event(record, self)  # type: ignore[arg-type]

    # -- reading -------------------------------------------------------------------------------------

    def events(
        self,
        pattern: str | Callable[[str], object] = "**",
        *,
        since: Since | None = None,
        limit: int | None = None,
    ) -> Events:
        """The stored events, newest last.

        Parameters
        ----------
        pattern : str or callable, optional
            As for ``node.on``.
        since : Event, Commit, datetime or int, optional
            Only what came after it; an int is a sequence.
        limit : int, optional
            Only the newest so many.

        Examples
        --------
        >>> event = orders.broadcast("order.paid", {"id": "o1"})
        >>> [event.payload for event in space.events("order.*")]
        [{'id': 'o1'}]
        """
        return wait_for(self._events(pattern, since, limit))

    async def aevents(
        self,
        pattern: str | Callable[[str], object] = "**",
        *,
        since: Since | None = None,
        limit: int | None = None,
    ) -> Events:
        """`events`, to await."""
        return await wait_in_loop(self._events(pattern, since, limit))

    async def _events(self, pattern: Any, since: Since | None, limit: int | None) -> Events:
        if limit is not None and limit < 0:
            raise ValueError(f"events: limit is {limit}; give 0 or more, or none for all")
        matching = Pattern.of(pattern)
        records = await self._stored(matching, since, limit)
        return Events(self.name, matching.text, [self._event(record) for record in records])

    async def _stored(self, pattern: Pattern, since: Since | None, limit: int | None) -> list[EventRecord]:
        session = self._session
        after = await position_after(session, since)
        if pattern.predicate is None:
            reading = eventlog.events(session.stream, pattern.matches, since=after, limit=limit)
            records: list[EventRecord] = await on_io(reading)
            return records
        records = await on_io(eventlog.events(session.stream, lambda _: True, since=after))
        matches = cache(pattern.matches)  # the user's code never runs on the IO thread
        found = [record for record in records if matches(record.type)]
        return found if limit is None else found[max(0, len(found) - limit) :]

    @property
    def unhandled(self) -> Unhandled:
        """Events that no handler took, with the reason; of the newest 10,000.

        Examples
        --------
        >>> event = orders.broadcast("order.payed")
        >>> [(each.event.type, each.reason) for each in space.unhandled]
        [('order.payed', 'no owner')]
        """
        return wait_for(self._unhandled())

    async def _unhandled(self) -> Unhandled:
        return Unhandled(self, await on_io(find_unhandled(self._session)))  # type: ignore[arg-type]

    # -- what an event caused ------------------------------------------------------------------------

    def trace(self, event: Event | str, *, times: bool = False) -> Trace:
        """What an event has caused until now: a tree of events and commits, read from the journal.

        Parameters
        ----------
        event : Event or str
            Or its id.
        times : bool, optional
            Show in its text too how long things took.

        Examples
        --------
        >>> event = orders.broadcast("order.paid")
        >>> [node.event.type for node in space.trace(event)]
        ['order.paid']
        """
        return wait_for(self._trace(event, times=times))

    async def _trace(self, event: Event | str, *, times: bool) -> Trace:
        record = event._record if isinstance(event, Event) else await self._find(event)
        return Trace(await on_io(_effects(self._session, record, None)), times=times)

    async def _find(self, id: str) -> EventRecord:
        for record in reversed(await self._stored(Pattern.of("**"), None, None)):
            if record.id == id:
                return record
        raise LookupError(f'trace: no event with the id "{id}" is stored')

    async def _settle_event(self, event: Event, timeout: float) -> Trace:
        if event.pending:
            raise ValueError("settle: the event is pending: it leaves with the commit of its transform")
        refuse_in_callback("settle")
        return Trace(await on_io(_effects(self._session, event._record, timeout)))

    async def _handled_by(self, event: Event) -> tuple[str, ...]:
        if event.pending:
            return ()
        session = self._session
        await on_io(session.dispatch.flush())
        records = await on_io(eventlog.handled(session.stream, since=event._record.sequence))
        return tuple(dict.fromkeys(r.node for r in records if r.event == event.id and r.took))

    async def _again(self, record: EventRecord, node: str, handler: str | None) -> BaseException | None:
        """Handle an event once more; the error if it failed."""
        refuse_retry(node)
        error: BaseException | None = await on_io(self._dispatch.again(record, node, handler, causing()))
        return error

    def _handle_again(self, record: EventRecord, node: str, handler: str | None) -> None:
        error = wait_for(self._again(record, node, handler))
        if error is not None:
            raise HandledAgainError(error)


def refuse_in_callback(call: str) -> None:
    """Refuse to wait, in a handler or callback, for what may be that handler itself.

    Raises
    ------
    HappenError
    """
    running = causes.current()
    if running is not None:
        raise HappenError(f"{call}: in {running.what} it would wait for itself; call it in a cell")


async def _effects(session: Session, record: EventRecord, timeout: float | None) -> TraceNode:
    (tree,) = await Effects(session, [record]).trees(timeout)
    return tree


def _accepts(where: Callable[[Event], object] | None, event: Event) -> bool:
    return where is None or bool(where(event))


async def position_of(session: Session, when: Any) -> int:
    """The journal position that a moment means: all commits up to it are in."""
    if isinstance(when, Commit):
        return when.read
    if isinstance(when, Event):
        return _stored_position(when)[0]  # the commit that it rides on comes before it
    if isinstance(when, datetime):
        return await history.position_at(session.stream, when)
    raise TypeError(
        f"at: {when!r} is no moment; give a datetime, an Event, a Commit, or (state.at) a revision"
    )


async def position_after(session: Session, since: Any) -> tuple[int, int]:
    """The position after which `since` means."""
    if since is None:
        return 0, 0
    if isinstance(since, Event):
        return _stored_position(since)
    if isinstance(since, Commit):
        return since.sequence, -1
    if isinstance(since, int) and not isinstance(since, bool):
        return since, LAST
    return await on_io(position_of(session, since)), LAST


async def occurrences(session: Session, records: Sequence[CommitRecord]) -> list[datetime | None]:
    """When that happened which the nearest cause of each commit tells of, in UTC; naive times are local."""
    ids = {id for record in records for id in record.origin.path}
    if not ids:
        return [None] * len(records)
    newest = max(record.sequence for record in records)
    found = await on_io(eventlog.by_id(session.stream, ids, before=newest))
    return [_occurred(record, found) for record in records]


def _occurred(record: CommitRecord, events: dict[str, EventRecord]) -> datetime | None:
    for id in reversed(record.origin.path):
        occurred = events[id].occurred if id in events else None
        if occurred is not None:
            return datetime.fromisoformat(occurred).astimezone(UTC)
    return None


LAST = 1 << 30
"""After the last event of any commit."""


def _stored_position(event: Event) -> tuple[int, int]:
    if event.pending:
        raise ValueError(
            "since: the event is pending: it has no place in the journal before its transform commits"
        )
    return event._record.position
