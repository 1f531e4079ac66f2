"""The progress of the state handlers of each node, and its records in the journal.

A commit of a node carries the positions of its state handlers. A handler that is done with events without a
commit stores its position in a record of its own, so that the next process need not read those events again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from happen_nb._journal import decoding, encoding
from happen_nb._journal.commits import read_commit_headers
from happen_nb._journal.publish import RefusedError, store_messages
from happen_nb._journal.slice import last_clear
from happen_nb._model.positions import (
    FLOOR,
    LAST_INDEX,
    START,
    Position,
    Positions,
    Progress,
    before,
    merged,
    progress_of,
    without_old,
)
from happen_nb._runtime.registrations import (
    Orphan,
    awaiting,
    count_missed,
    count_waiting,
    expired_until,
    newest_like,
)
from happen_nb._runtime.waiting import seconds_left
from happen_nb.errors import HappenError

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

    from happen_nb._model.records import CommitRecord, Cut, EventRecord
    from happen_nb._runtime.dispatcher import Dispatcher
    from happen_nb._runtime.evaluation import Outcome
    from happen_nb._runtime.lanes import CatchUp
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.registrations import Registration

logger = logging.getLogger("happen_nb")

PASS_ATTEMPTS = 3  # maximum number of attempts if others commit meanwhile; the next event tries again
EXPIRED_FRACTION = 0.1  # fraction of `event_ttl` after which the expired events are looked up again
MOVE_MESSAGES = 1_000  # number of messages after which a lagging handler without waiting events is moved on


@dataclass(eq=False)
class StateHandler:
    """The part of a registration that only state handlers have, and its progress in this process."""

    key: str  # identifies it in all processes and runs
    takes_views: bool  # True if the transform reads other nodes, as of the event
    fold: bool = False  # True if one commit applies all events that wait
    apply: Callable[[Any, Cut | None, BaseException | None], None] = field(init=False)
    """``apply(event, snapshot, error)`` commits the result of the transform, or fails with its error."""
    evaluate: Callable[[EventRecord, CommitRecord | None, Cut | None], Outcome] = field(init=False)
    """Returns the result of the transform for an event, the record before it, and a snapshot."""
    start: Position = START
    done: Position = START  # the newest event that was handled here, with or without a commit
    failed: set[Position] = field(default_factory=set)
    """Events whose transform failed, and that the journal does not name as skipped yet."""
    failing: Position | None = None  # an event that has just failed, while another process may apply it
    forgotten: set[Position] = field(default_factory=set)
    """Failed events that the journal no longer names, since too many have failed later."""
    live: bool = False  # True if new events are delivered at once
    catching_up: CatchUp | None = None  # the reading of the events that it missed, until that ends

    def start_over(self) -> None:
        """Start at the beginning: the space was recreated."""
        self.start = self.done = START
        self.failed.clear()
        self.forgotten.clear()

    def progress(self, positions: Positions) -> Progress:
        """Return the handler's progress, by the positions of the newest commit."""
        found = positions.get(self.key)
        if found is not None and found.position >= self.start and FLOOR not in positions:
            return found
        return progress_of(positions, self.key, self.start)

    def is_done(self, position: Position, progress: Progress) -> bool:
        """Return True if an event was applied, or changed nothing."""
        if position <= progress.position:
            return position not in progress.skipped
        return position <= self.done and position not in self.failed

    def pass_over(self, last: Position, applied: Iterable[Position] = ()) -> None:
        """Note that the events up to a position are done: applied, or they changed nothing.

        Those that have failed stay failed, but for the `applied` ones.
        """
        self.done = max(self.done, last)
        if self.failed:
            self.failed.difference_update(applied)

    def fail(self, position: Position) -> None:
        """Note that an event failed; the next commit names it as skipped."""
        self.done = max(self.done, position)
        self.failed.add(position)

    def recorded(self, before: Progress, now: Progress, applied: Position | None = None) -> None:
        """Note that the journal names the events that failed up to a position: any process may retry them."""
        if not (before.skipped or self.failed):
            return
        named = {*before.skipped, *(each for each in self.failed if before.position < each <= now.position)}
        self.forgotten |= named.difference(now.skipped, [applied])
        self.failed = {each for each in self.failed if each > now.position}


class HandlerProgress:
    """The progress of the state handlers of this process. On the IO thread."""

    def __init__(self, log: Log, dispatcher: Dispatcher) -> None:
        self._log = log
        self._dispatcher = dispatcher
        log.on_clear.connect(lambda _, position: log.background(self.start_again(position)))
        self._passing: set[str] = set()  # nodes whose handlers have finished an event without a commit
        self._expired = 0  # the newest position that is older than `event_ttl`, as last looked up
        self._look_up_expired_at = 0.0

    async def prepare(self, registration: Registration, start: Position | None, deadline: float) -> bool:
        """Store where a handler starts, None for now; False if the node already had it."""
        handler, node = registration.state, registration.node
        assert handler is not None
        log, stream = self._log, self._log.stream
        subject = log.subjects.start(node, handler.key)
        found = await stream.newest(subject)
        if found is not None:
            handler.start = decoding.decode_start(subject, found.body, found.sequence).position
            return False
        owner = self._dispatcher.ownership.record(node)
        if owner is not None and handler.key in owner.state_handlers:  # the space was cleared since
            start = (await last_clear(stream), 0)
        await self._store_start(registration, handler, start, deadline)
        return True

    async def _store_start(
        self, registration: Registration, handler: StateHandler, start: Position | None, deadline: float
    ) -> None:
        log, node = self._log, registration.node
        pattern = registration.pattern.text if registration.pattern.predicate is None else None
        message = encoding.encode_start(log.subjects, node, handler.key, pattern, start)
        left = seconds_left(deadline)
        what = f'a state handler of node "{node}"'
        body, sequence = await log.stream.store_first(message, timeout=left, what=what)
        await log.reach(sequence, deadline)
        handler.start = decoding.decode_start(message.subject, body, sequence).position

    async def start_again(self, cleared: int) -> None:
        """Store that the handlers of this process start at a clear, which removed their starts."""
        deadline = time.monotonic() + self._log.timeout
        for node in self._dispatcher.registrations.nodes():
            for registration in self._dispatcher.registrations.of(node):
                if registration.state is not None:
                    try:
                        await self._store_start(registration, registration.state, (cleared, 0), deadline)
                    except HappenError as error:
                        logger.debug('the start of "%s": %s; its first commit replaces it', node, error)

    async def applied(self) -> Callable[[EventRecord, Container[str]], bool]:
        """Return a test of events and refused ones: True if a state handler applied the event, or still will.

        The progress counts, not only the records of handlings: a process may end between the two.
        """
        known = await self._known(self._log.subjects.starts)
        handlers = [(progress, awaiting(start, start.position)) for progress, start in known]
        return lambda event, refused: any(
            is_for(event)
            and event.position not in progress.skipped
            and (event.position > progress.position or event.id not in refused)
            for progress, is_for in handlers
        )

    async def _known(self, subject: str) -> list[tuple[Progress, decoding.Start]]:
        """Return the state handlers that nodes have had, and how far they have come."""
        found: list[tuple[Progress, decoding.Start]] = []
        for item in await self._log.stream.read(subject):
            start = decoding.decode_start(item.subject, item.body, item.sequence)
            positions = await self.positions(start.node, self._log.replica.newest(start.node))
            found.append((progress_of(positions, start.key, start.position), start))
        return found

    async def orphan(self, registration: Registration) -> Orphan | None:
        """Return the handler that a new one may be meant to continue, if no process has it now.

        Call it before `registration` makes this process the owner.
        """
        node, log = registration.node, self._log
        served = set(self._dispatcher.registrations.state_handlers(node))
        owner = self._dispatcher.ownership.owner_of(node)
        if owner is not None and owner.incarnation != log.incarnation:
            served.update(owner.state_handlers)
        starts = f"{log.subjects.start_prefix}{node}.*"
        if len((await log.stream.info(starts)).subjects) <= 1:  # that of the new one
            return None
        known = await self._known(starts)
        found = newest_like(registration, [(each.position, start) for each, start in known], served)
        if found is None:
            return None
        position, start = found
        return Orphan(start.key, await count_waiting(log.stream, start, position, log.position))

    async def forget(self, node: str) -> None:
        """Remove the stored progress of a deleted node's handlers."""
        subjects = self._log.subjects
        await self._log.stream.remove(f"{subjects.start_prefix}{node}.*")
        await self._log.stream.remove(subjects.passed_prefix + node)

    async def positions(self, node: str, record: CommitRecord | None) -> Positions:
        """Return the positions of a node's handlers at a commit; look at earlier ones if it has none."""
        if record is not None and record.positions is None:
            record.positions = await self._look_back(record)
            self._log.replica.pass_on(record)  # commits that have come meanwhile
        return self._log.replica.positions(node, record) or {}

    async def _look_back(self, record: CommitRecord) -> Positions:
        """Return the positions before a commit that another client stored."""
        stream, following, more = self._log.stream, record.sequence, dict[str, Progress]()
        found = await stream.newest(stream.subjects.passed_prefix + record.node)
        passed = None if found is None else stream.decode(found)
        base = passed.base if isinstance(passed, decoding.Passed) else -1
        is_first = record.revision == 1 and record.id is not None
        heads = [] if is_first else await read_commit_headers(stream, record.node)
        for earlier in reversed([each for each in heads if each.sequence < record.sequence]):
            if (
                isinstance(passed, decoding.Passed)
                and earlier.sequence == base
                and passed.sequence < following
            ):
                more = dict(passed.positions)
            if earlier.positions is not None:
                return merged(earlier.positions, more)
            following = earlier.sequence
        if isinstance(passed, decoding.Passed) and base == 0 and passed.sequence < following:
            return passed.positions
        return more

    def pass_soon(self, node: str) -> None:
        """Store the progress of a node's handlers without a commit, before the records of their handlings.

        From any thread.
        """
        self._passing.add(node)

    async def flush(self) -> None:
        """Store the progress of handlers that are done with events without a commit."""
        passing, self._passing = self._passing, set()
        await asyncio.gather(*(self.store(node) for node in passing))

    async def store(self, node: str, idle: Mapping[Registration, Position] | None = None) -> None:
        """Store the progress of a node's handlers; those of `idle` have come to a position without it."""
        log = self._log
        for _ in range(PASS_ATTEMPTS):
            record = log.replica.newest(node)
            positions = await self.positions(node, record)
            passed: dict[StateHandler, tuple[Progress, Progress]] = {}
            for registration in self._dispatcher.registrations.of(node):
                if (handler := registration.state) is not None:
                    progress = handler.progress(positions)
                    done = max(handler.done, (idle or {}).get(registration, START))
                    if done > progress.position:
                        passed[handler] = progress, progress.passing(done, handler.failed)
            if not passed:
                return
            base = 0 if record is None else record.sequence
            changed = {handler.key: now for handler, (_, now) in passed.items()}
            message = encoding.encode_passed(log.subjects, node, base, {**positions, **changed})
            try:
                sequence = await store_messages(
                    log.connection, [message], timeout=log.timeout, what=f'the progress of node "{node}"'
                )
                await log.reach(sequence, time.monotonic() + log.timeout)
                for handler, (progress, now) in passed.items():
                    handler.recorded(progress, now)
            except RefusedError as refusal:  # another commit came first: the events were done before it
                await log.reach(refusal.newest, time.monotonic() + log.timeout)
                continue
            except HappenError as error:
                logger.debug('the progress of node "%s": %s; the next commit carries it', node, error)
            return

    def carried(self, registration: Registration, positions: Positions, position: Position) -> Positions:
        """Return the positions of a node's other handlers for the commit of an event. From any thread.

        Handlers that lag although no event waits for them are moved on: a takeover then reads less.
        """
        others = self._dispatcher.registrations.of(registration.node)
        if len(others) == 1 and registration.state and positions.keys() <= {registration.state.key}:
            return positions
        others = tuple(each for each in others if each.state is not None)
        moved: dict[str, Progress] = {}
        for each in others:
            handler = each.state
            if handler is None or each is registration:
                continue
            progress = handler.progress(positions)
            lags = position[0] - progress.position[0] > MOVE_MESSAGES
            if lags and handler.live and not self._waits(each, position):
                moved[handler.key] = progress.passing(before(position), handler.failed)
        served = {each.state.key for each in others if each.state}
        return without_old({**positions, **moved}, served, self._expired)

    def _waits(self, registration: Registration, position: Position) -> bool:
        """Return True if an event before a position waits for a handler."""
        held = self._dispatcher.gate.waits_at(registration.node)
        if held is not None and held < position:
            return True
        queued = list(self._dispatcher.queue(registration.node).queued)
        items = self._dispatcher.pipelines.items(registration.node)
        waiting = [
            *((each.event, each.candidates) for each in queued),
            *((i.event, i.handlers) for i in items),
        ]
        return any(registration in handlers and event.position < position for event, handlers in waiting)

    async def close(self) -> None:
        """Store the progress of the handlers, so that the next process need not read their events again."""
        idle: dict[str, dict[Registration, Position]] = {}
        for node in self._dispatcher.registrations.nodes():
            busy = self._dispatcher.queue(node).open or self._dispatcher.gate.waits_at(node)
            if not busy and not self._dispatcher.pipelines.items(node):
                for registration in self._dispatcher.registrations.of(node):
                    if registration.state is not None and registration.state.live:
                        idle.setdefault(node, {})[registration] = (self._log.position, LAST_INDEX)
        await asyncio.gather(*(self.store(node, handlers) for node, handlers in idle.items()))

    async def expired(self) -> int:
        """Return the newest position that is older than the time for which events are kept."""
        now = time.monotonic()
        if now >= self._look_up_expired_at:
            self._look_up_expired_at = now + EXPIRED_FRACTION * self._log.info.event_ttl
            self._expired = await expired_until(self._log.stream)
        return self._expired

    async def report_missed(
        self, after: Mapping[Registration, Position]
    ) -> tuple[list[Registration], Position]:
        """Report the events that expired before handlers could handle them; `after` has their positions.

        Returns those handlers, and the position up to which they pass over the events.
        """
        expired = await self.expired()
        late = {each: position for each, position in after.items() if START < position < (expired, 0)}
        if not late:
            return [], START
        missed, until = await count_missed(self._log.stream, late, expired)
        for registration, count in missed.items():
            self._dispatcher.host.missed(registration, count)
        return list(late), (until, LAST_INDEX)
