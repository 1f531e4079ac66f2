"""Deliver each event of the journal to each state handler once and in order, whichever process is killed.

A commit of the node carries the positions of its state handlers, and is stored only if nothing else was
stored first. So each event is applied exactly once; that only the owner of the node applies it saves work. A
process that starts to serve a node reads the events since that position; later events wait for this.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from happen_nb._journal import decoding, encoding
from happen_nb._journal.commits import read_commit_headers
from happen_nb._journal.publish import RefusedError, store_messages
from happen_nb._journal.slice import WINDOW_MESSAGES, events_between, last_clear, windows
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
from happen_nb._runtime.effects import NamedWork
from happen_nb._runtime.io import seconds_left
from happen_nb._runtime.pipelines import Pipelines
from happen_nb._runtime.registrations import (
    Orphan,
    awaiting,
    concerns,
    count_missed,
    count_waiting,
    expired_until,
    newest_like,
)
from happen_nb._runtime.turns import Part
from happen_nb.errors import HappenError

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Container, Iterable, Mapping

    from happen_nb._model.records import CommitRecord, Cut, EventRecord
    from happen_nb._runtime.dispatcher import Dispatcher
    from happen_nb._runtime.effects import Work
    from happen_nb._runtime.evaluation import Outcome
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.registrations import Registration

logger = logging.getLogger("happen_nb")

MAX_UNFOLDED = 10_000
"""Events that wait for a handler that catches up; more are applied many at a time."""
CATCHING_UP = "catching up "
"""Starts the correlation of the works that read what handlers have missed."""
MAX_QUEUED = 2 * WINDOW_MESSAGES
"""Events that wait for their handler while more are read."""
POLL_SECONDS = 0.01
"""Pause between checks of how many events wait."""
RETRY_SECONDS = 0.5
"""Pause after a read that failed."""
PASS_ATTEMPTS = 3
"""If others commit meanwhile; the next event tries again."""
EXPIRED_FRACTION = 0.1
"""The expired events are looked up again after this part of the time for which events are kept."""
LEAVE_SECONDS = 10.0
"""Time for another process that may apply an event that fails here, where none is the owner."""
ASK_SECONDS = 0.5
"""Time for the other processes to answer whether they have a handler, before they are asked again."""
MOVE_MESSAGES = 1_000
"""Messages of the journal that a handler for which nothing waits lags behind before it is moved."""


class Waiting(NamedTuple):
    """An event that has arrived while its handlers catch up."""

    event: EventRecord
    context: contextvars.Context | None
    snapshot: Cut | None
    late: list[Registration]
    """Those of the handlers that catch up."""
    others: list[Registration]
    """State handlers that do not, and the plain handlers of the node, which see the commits."""
    replies: bool
    work: Work
    """Registers the event as in flight until it is delivered, for `settle`."""


class MissedByLane(NamedTuple):
    """An event that state handlers have missed, and that waits for its turn."""

    pipelines: Pipelines
    node: str
    handlers: list[Registration]
    fold: bool

    def let(self, event: EventRecord) -> None:
        """Let it wait for the handlers."""
        self.pipelines.put_missed(self.node, [(event, self.handlers)], fold=self.fold)

    def drop(self) -> None:
        """Forget it: the journal tells the next owner of the node that it was not applied."""


class CatchUp:
    """State handlers of a node that read the events they missed; later events wait until all have.

    So they apply those in one order, by position and then by registration.
    """

    def __init__(self) -> None:
        self.ends: dict[Registration, int] = {}
        """The position up to which each handler has read; 0 until then."""
        self.waiting: list[Waiting] = []
        """Events that have arrived meanwhile."""


@dataclass(eq=False)
class StateHandler:
    """The part of a registration that only state handlers have, and the handler's progress in this process.

    Parameters
    ----------
    key : str
        Identifies it in all processes and runs.
    takes_views : bool
        Whether the transform reads other nodes, as of the event.
    fold : bool
        Whether one commit applies all events that wait.

    Attributes
    ----------
    apply : callable
        ``apply(event, snapshot, error)`` commits what the transform returns, or fails with the error that it
        has raised.
    evaluate : callable
        ``evaluate(event, record, snapshot)`` returns what the transform makes of an event and the record
        before it.
    """

    key: str
    takes_views: bool
    fold: bool = False
    apply: Callable[[Any, Cut | None, BaseException | None], None] = field(init=False)
    evaluate: Callable[[EventRecord, CommitRecord | None, Cut | None], Outcome] = field(init=False)
    start: Position = START
    done: Position = START
    """The newest event that was handled here, with or without a commit."""
    failed: set[Position] = field(default_factory=set)
    """Events whose transform failed, and that the journal does not name as skipped yet."""
    failing: Position | None = None
    """An event that has just failed, while another process may apply it."""
    forgotten: set[Position] = field(default_factory=set)
    """Events that failed, and that the journal names no more: too many failed since."""
    live: bool = False
    """True if new events are delivered at once."""
    catching_up: CatchUp | None = None
    """The reading of the events that it missed, until that ends."""

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


def is_catching_up(work: Work) -> bool:
    """Return True if a work is the reading of events that state handlers have missed."""
    return work.correlation.startswith(CATCHING_UP)


class Lanes:
    """The state handlers of this process. On the IO thread."""

    def __init__(self, log: Log, dispatcher: Dispatcher) -> None:
        self._log = log
        self._dispatcher = dispatcher
        dispatcher.ownership.on_change.connect(self.refresh)
        self.pipelines = Pipelines(log, dispatcher)
        log.on_clear.connect(lambda _, position: log.background(self._start_again(position)))
        self._catching_up: dict[str, CatchUp] = {}
        self._passing: set[str] = set()
        """Nodes whose handlers were done with an event without a commit."""
        self._expired = 0
        """The newest position that is older than the time for which events are kept, as last looked up."""
        self._look_up_expired_at = 0.0

    # -- registering ---------------------------------------------------------------------------------

    async def prepare(self, registration: Registration, start: Position | None, deadline: float) -> bool:
        """Store where a handler starts, None for now; False if the node has had it before."""
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

    async def _start_again(self, cleared: int) -> None:
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
        """Return the handler that a new one may be meant to continue, if no process has it any more.

        Call it before `registration` makes this process the owner.
        """
        node, log = registration.node, self._log
        served = set(self._dispatcher.registrations.state_handlers(node))
        owner = self._dispatcher.ownership.owner_of(node)
        if owner is not None and owner.incarnation != log.incarnation:
            served.update(owner.state_handlers)
        known = await self._known(f"{log.subjects.start_prefix}{node}.*")
        found = newest_like(registration, [(each.position, start) for each, start in known], served)
        if found is None:
            return None
        position, start = found
        return Orphan(start.key, await count_waiting(log.stream, start, position, log.position))

    async def forget(self, node: str) -> None:
        """Remove what is stored of a deleted node's handlers."""
        subjects = self._log.subjects
        await self._log.stream.remove(f"{subjects.start_prefix}{node}.*")
        await self._log.stream.remove(subjects.passed_prefix + node)

    async def positions(self, node: str, record: CommitRecord | None) -> Positions:
        """Return the positions of a node's handlers at a commit; look at earlier ones if it has none."""
        if record is not None and record.positions is None:
            record.positions = await self._look_back(record)
        return self._log.replica.positions(node, record) or {}

    async def _look_back(self, record: CommitRecord) -> Positions:
        """Return the positions before a commit that another client stored."""
        stream, following, more = self._log.stream, record.sequence, dict[str, Progress]()
        found = await stream.newest(stream.subjects.passed_prefix + record.node)
        passed = None if found is None else stream.decode(found)
        base = passed.base if isinstance(passed, decoding.Passed) else -1
        heads = await read_commit_headers(stream, record.node)
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

    # -- progress without a commit -------------------------------------------------------------------

    def pass_soon(self, node: str) -> None:
        """Store what handlers of a node were done with without a commit, before what they handled is stored.

        From any thread.
        """
        self._passing.add(node)

    async def flush(self) -> None:
        """Store what handlers were done with without a commit."""
        passing, self._passing = self._passing, set()
        await asyncio.gather(*(self._store_passed(node, {}) for node in passing))

    async def _store_passed(self, node: str, idle: Mapping[Registration, Position]) -> None:
        """Store the progress of a node's handlers; those of `idle` have come to a position."""
        log = self._log
        for _ in range(PASS_ATTEMPTS):
            record = log.replica.newest(node)
            positions = await self.positions(node, record)
            passed: dict[StateHandler, tuple[Progress, Progress]] = {}
            for registration in self._dispatcher.registrations.of(node):
                if (handler := registration.state) is not None:
                    progress = handler.progress(positions)
                    done = max(handler.done, idle.get(registration, START))
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
            except RefusedError as refusal:  # somebody committed: what is done is done before that commit
                await log.reach(refusal.newest, time.monotonic() + log.timeout)
                continue
            except HappenError as error:
                logger.debug('the progress of node "%s": %s; the next commit carries it', node, error)
            return

    def carried(self, registration: Registration, positions: Positions, position: Position) -> Positions:
        """Return the positions of a node's other handlers for the commit of an event. From any thread.

        Those that lag though nothing waits for them are moved: a takeover then reads less.
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
        """Return whether an event before a position waits for a handler."""
        held = self._dispatcher.gate.waits_at(registration.node)
        if held is not None and held < position:
            return True
        queued = list(self._dispatcher.queue(registration.node).queued)
        items = self.pipelines.items(registration.node)
        waiting = [
            *((each.event, each.candidates) for each in queued),
            *((i.event, i.handlers) for i in items),
        ]
        return any(registration in handlers and event.position < position for event, handlers in waiting)

    async def close(self) -> None:
        """Store how far the handlers have come, so that the next process need not look at what they saw."""
        idle: dict[str, dict[Registration, Position]] = {}
        for node in self._dispatcher.registrations.nodes():
            busy = self._dispatcher.queue(node).open or self._dispatcher.gate.waits_at(node)
            if not busy and not self.pipelines.items(node):
                for registration in self._dispatcher.registrations.of(node):
                    if registration.state is not None and registration.state.live:
                        idle.setdefault(node, {})[registration] = (self._log.position, LAST_INDEX)
        await asyncio.gather(*(self._store_passed(node, handlers) for node, handlers in idle.items()))

    # -- serving -------------------------------------------------------------------------------------

    def _serves(self, registration: Registration, handler: StateHandler) -> bool:
        """Return whether this process applies it: as the owner, or because the owner lacks the handler."""
        ownership = self._dispatcher.ownership
        owner = ownership.owner_of(registration.node)
        ours = ownership.is_ours(registration.node)
        return ours or (owner is not None and handler.key not in owner.state_handlers)

    async def leave(self, registration: Registration, position: Position) -> bool:
        """Leave a failing event to another process that serves the handler; False if there is none.

        Where the owner lacks the handler, others may have it: they get some time to apply the event, unless
        they have failed, too.
        """
        handler, node = registration.state, registration.node
        assert handler is not None
        if not self._serves(registration, handler):
            self._stop(registration)
            return True
        if self._dispatcher.ownership.is_ours(node):
            return False
        replica, deadline = self._log.replica, time.monotonic() + LEAVE_SECONDS
        handler.failing = position
        try:
            while True:
                newest = replica.newest(node)
                if handler.progress(await self.positions(node, newest)).covers(position):
                    return True
                left = deadline - time.monotonic()
                peers = self._dispatcher.peers
                if left <= 0 or not await peers.may_apply(node, handler.key, position, ASK_SECONDS):
                    return False
                await replica.changed(node, newest, min(left, ASK_SECONDS))
        finally:
            handler.failing = None

    def may_apply(self, node: str, key: str, position: Position) -> bool:
        """Return True if this process has a state handler that applies an event, unless it has failed."""
        handlers = [each.state for each in self._dispatcher.registrations.of(node) if each.state]
        return any(
            each.key == key and each.failing != position and position not in each.failed for each in handlers
        )

    def ahead(self, registration: Registration, most: int) -> list[tuple[EventRecord, Cut | None]]:
        """Return the next events that wait for a handler, with their snapshots. From any thread."""
        waiting = list(self._dispatcher.queue(registration.node).queued)
        mine = [each for each in waiting if registration in each.candidates and not each.cancelled]
        return [(each.event, each.snapshot) for each in mine[:most]]

    def refresh(self, node: str) -> None:
        """Start or stop to serve a node's handlers, depending on who owns the node."""
        starting: list[Registration] = []
        for registration in self._dispatcher.registrations.of(node):
            handler = registration.state
            if handler is None:
                continue
            if not self._serves(registration, handler):
                self._stop(registration)
            elif not handler.live and handler.catching_up is None:
                starting.append(registration)
        if starting:
            self._start(node, starting)

    def offer(
        self,
        registrations: list[Registration],
        event: EventRecord,
        context: contextvars.Context | None,
        *,
        ours: bool,
    ) -> Part | None:
        """Return the handlers of one node to deliver an event to now; None if there are none.

        State handlers come first. While one of the node catches up, no event overtakes what it has missed.
        """
        snapshot: Cut | None = None
        live: list[Registration] = []
        late: list[Registration] = []
        plain = [each for each in registrations if each.state is None] if ours else []
        for registration in registrations:
            handler = registration.state
            if handler is None or not (handler.live or handler.catching_up is not None):
                continue
            if handler.takes_views and snapshot is None:
                snapshot = self._log.replica.cut()
            (live if handler.live else late).append(registration)
        if not (late or live or plain):
            return None
        reading = self._catching_up.get(registrations[0].node)
        if reading is None:
            return Part(registrations[0].node, [*live, *plain], snapshot, ours)
        work = NamedWork(
            event.correlation or event.id,
            lambda: f'"{event.type}" waiting for a state handler',
            event.origin_of_effects(""),
        )
        self._dispatcher.in_flight.start(work)
        reading.waiting.append(Waiting(event, context, snapshot, late, [*live, *plain], ours, work))
        return None

    def catches_up(self, node: str) -> bool:
        """Return whether state handlers of a node read the events that they missed."""
        return node in self._catching_up

    def waiting(self) -> list[str]:
        """Return the ids of the events that wait for a handler that catches up."""
        return [each.event.id for reading in self._catching_up.values() for each in reading.waiting]

    def _stop(self, registration: Registration) -> None:
        """Deliver nothing to a handler any more; a new start reads the missed events."""
        handler = registration.state
        assert handler is not None
        handler.live, reading, handler.catching_up = False, handler.catching_up, None
        if reading is not None:
            del reading.ends[registration]
            self._end_if_read(registration.node, reading)

    def _start(self, node: str, registrations: list[Registration]) -> None:
        """Start to catch up; `settle` waits for the end of it."""
        reading = self._catching_up.setdefault(node, CatchUp())
        for registration in registrations:
            assert registration.state is not None
            registration.state.catching_up = reading
            reading.ends[registration] = 0
        names = ", ".join(registration.name for registration in registrations)
        work = NamedWork(
            f"{CATCHING_UP}{id(registrations)}", lambda: f'node "{node}" catching up with {names}'
        )
        self._dispatcher.in_flight.start(work)
        self._log.background(self._catch_up(node, reading, registrations, work))

    async def _catch_up(
        self, node: str, reading: CatchUp, registrations: list[Registration], work: Work
    ) -> None:
        """Deliver the events that were stored before, then those that have arrived meanwhile."""
        in_flight = self._dispatcher.in_flight

        def going_on() -> list[Registration]:
            return [each for each in registrations if each.state and each.state.catching_up is reading]

        try:
            while going_on():
                try:
                    end = await self._read_up(node, going_on)
                    reading.ends |= dict.fromkeys(going_on(), end)
                    self._end_if_read(node, reading)
                    break
                except HappenError as error:  # events that were delivered already are recognized
                    logger.info('node "%s" catching up: %s; once more', node, error)
                    await asyncio.sleep(RETRY_SECONDS)
            items = set(self.pipelines.items(node))
            await in_flight.drain(lambda work: work in items, float("inf"))
            queued = set(self._dispatcher.queue(node).open)  # without those behind a handler that sleeps
            await in_flight.drain(lambda work: work in queued, float("inf"))
        finally:
            in_flight.finish(work)

    async def _read_up(self, node: str, going_on: Callable[[], list[Registration]]) -> int:
        """Deliver what handlers have missed; return the position up to which that is done."""
        log = self._log
        end = log.position  # all later events wait
        positions = await self.positions(node, log.replica.newest(node))
        after = {each: each.state.progress(positions).position for each in going_on() if each.state}
        first = (await log.stream.info()).first
        await self._report_missed(after)
        at = max(first, min(after.values(), default=START)[0])
        held: list[tuple[EventRecord, list[Registration]]] = []
        """The first events, until it is known whether there are so many that they are folded."""
        fold, hold = False, end - at > MAX_UNFOLDED
        for start, until in windows(at, end):
            if not going_on():
                break
            events = await events_between(log.stream, start, until)
            reading = [(each, after[each]) for each in going_on()]
            for event in events:
                position = event.position
                handlers = [each for each, last in reading if position > last and concerns(each, event)]
                if handlers:
                    held.append((event, handlers))
            fold = fold or len(held) > MAX_UNFOLDED
            hold = hold and not fold and until < end
            if not hold:
                self.pipelines.put_missed(node, self._without_waiting(node, held, fold=fold), fold=fold)
                held = []
            while self._queued(node) > MAX_QUEUED and going_on():  # noqa: ASYNC110 - threads
                await asyncio.sleep(POLL_SECONDS)
        return end

    def _without_waiting(
        self, node: str, events: list[tuple[EventRecord, list[Registration]]], *, fold: bool
    ) -> list[tuple[EventRecord, list[Registration]]]:
        """Return the missed events that need not wait at the gate."""
        gate, pipelines = self._dispatcher.gate, self.pipelines
        if not gate.closed:
            return events
        return [
            (event, handlers)
            for event, handlers in events
            if not gate.keep(event, node, MissedByLane(pipelines, node, handlers, fold))
        ]

    def _queued(self, node: str) -> int:
        return len(self._dispatcher.queue(node).queued) + self.pipelines.queued(node)

    async def _report_missed(self, after: dict[Registration, Position]) -> None:
        """Report the events that expired before the handlers could apply them, and pass over them."""
        expired = await self.expired()
        late = {each: position for each, position in after.items() if START < position < (expired, 0)}
        if not late:
            return
        missed, until = await count_missed(self._log.stream, late, expired)
        for registration, count in missed.items():
            self._dispatcher.host.missed(registration, count)
        for registration in late:
            assert registration.state is not None
            registration.state.pass_over((until, LAST_INDEX))
            await self._store_passed(registration.node, {})

    async def expired(self) -> int:
        """Return the newest position that is older than the time for which events are kept."""
        now = time.monotonic()
        if now >= self._look_up_expired_at:
            self._look_up_expired_at = now + EXPIRED_FRACTION * self._log.info.event_ttl
            self._expired = await expired_until(self._log.stream)
        return self._expired

    def _end_if_read(self, node: str, reading: CatchUp) -> None:
        """Deliver the events that have arrived, if all handlers of a node have read what was before."""
        if not all(reading.ends.values()) or self._catching_up.get(node) is not reading:
            return
        del self._catching_up[node]
        for registration in reading.ends:
            assert registration.state is not None
            registration.state.catching_up, registration.state.live = None, True
        for event, context, snapshot, waiting, others, replies, work in reading.waiting:
            late = [each for each in waiting if event.sequence > reading.ends.get(each, event.sequence)]
            ready = [each for each in others if each.state is None or each.state.live]
            handlers = sorted((*late, *ready), key=lambda each: (each.state is None, each.number))
            part = Part(node, handlers, snapshot, replies)
            if handlers and not self._dispatcher.durables.hold(event, context, part):
                self._dispatcher.put(event, context, [part])
            self._dispatcher.in_flight.finish(work)
