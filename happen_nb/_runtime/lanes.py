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

from happen_nb._journal import wire
from happen_nb._journal.slice import events_between, last_clear, read_commit_headers
from happen_nb._model.patterns import Pattern
from happen_nb._model.positions import START, Position, Positions, Progress, progress_of
from happen_nb._runtime.causes import origin_after
from happen_nb._runtime.effects import NamedWork
from happen_nb.errors import HappenError

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable

    from happen_nb._model.records import CommitRecord, Cut, EventRecord
    from happen_nb._runtime.dispatcher import Dispatcher
    from happen_nb._runtime.effects import Work
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.registrations import Registration

logger = logging.getLogger("happen_nb")

WINDOW_MESSAGES = 2_000
"""Messages of the journal that are read at once while a handler catches up."""
MAX_QUEUED = 2 * WINDOW_MESSAGES
"""Events that wait for their handler while more are read."""
POLL_SECONDS = 0.01
"""Pause between checks of how many events wait."""
RETRY_SECONDS = 0.5
"""Pause after a read that failed."""


class Waiting(NamedTuple):
    """An event that has arrived while its handler catches up."""

    event: EventRecord
    context: contextvars.Context | None
    snapshot: Cut | None
    others: list[Registration]
    """The plain handlers of the node, which see the commit."""
    replies: bool
    work: Work
    """Registers the event as in flight until it is delivered, for `settle`."""


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
        ``apply(event, snapshot)`` commits what the transform returns.
    """

    key: str
    takes_views: bool
    fold: bool = False
    apply: Callable[[Any, Cut | None], None] = field(init=False)
    start: Position = START
    done: Position = START
    """The newest event that was handled here, with or without a commit."""
    failed: set[Position] = field(default_factory=set)
    """Events whose transform failed, and that no commit names as skipped yet."""
    live: bool = False
    """True if new events are delivered at once."""
    buffer: list[Waiting] | None = None
    """Events that have arrived while older ones are read; None if it does not catch up."""
    turn: int = 0

    def progress(self, positions: Positions) -> Progress:
        """Return the handler's progress, by the positions of the newest commit."""
        return progress_of(positions, self.key, self.start)

    def is_done(self, position: Position, progress: Progress) -> bool:
        """Return True if an event was applied, or changed nothing."""
        if position in self.failed:
            return False
        return progress.covers(position) or (position <= self.done and position not in progress.skipped)

    def pass_over(self, position: Position, last: Position, *, committed: bool) -> None:
        """Note that the events from `position` to `last` are done: committed, or they changed nothing."""
        self.done = max(self.done, last)
        self.failed.discard(position)
        if committed:  # the commit names those that failed before it, and another process may retry them
            self.failed = {each for each in self.failed if each > last}

    def fail(self, position: Position) -> None:
        """Note that an event failed; the next commit names it as skipped."""
        self.done = max(self.done, position)
        self.failed.add(position)

    def stop(self) -> None:
        """Deliver nothing any more; a new start reads the missed events."""
        self.live, self.buffer = False, None
        self.turn += 1


class Lanes:
    """The state handlers of this process. On the IO thread."""

    def __init__(self, log: Log, dispatcher: Dispatcher) -> None:
        self._log = log
        self._dispatcher = dispatcher
        dispatcher.ownership.on_change.connect(self.refresh)
        self._catching_up: set[StateHandler] = set()

    # -- registering ---------------------------------------------------------------------------------

    async def prepare(self, registration: Registration, start: Position | None, deadline: float) -> None:
        """Store where a handler starts, unless the node has had it before; None: now."""
        handler, node = registration.state, registration.node
        assert handler is not None
        log, stream = self._log, self._log.stream
        subject = log.subjects.start(node, handler.key)
        found = await stream.newest(subject)
        if found is not None:
            handler.start = wire.decode_start(subject, found.body, found.sequence).position
            return
        owner = self._dispatcher.ownership.record(node)
        if owner is not None and handler.key in owner.state_handlers:  # the space was cleared since
            start = (await last_clear(stream), 0)
        pattern = registration.pattern.text if registration.pattern.predicate is None else None
        message = wire.encode_start(log.subjects, node, handler.key, pattern, start)
        left = max(0.001, deadline - time.monotonic())
        what = f'a state handler of node "{node}"'
        body, sequence = await stream.store_first(message, timeout=left, what=what)
        await log.reach(sequence, deadline)
        handler.start = wire.decode_start(subject, body, sequence).position

    async def outstanding(self) -> Callable[[EventRecord], bool]:
        """Return a test of events: True for those that a state handler of any process will still apply."""
        stream = self._log.stream
        handlers: list[tuple[wire.Start, Pattern, Progress]] = []
        for item in await stream.read(stream.subjects.starts):
            start = wire.decode_start(item.subject, item.body, item.sequence)
            if start.pattern is not None:
                positions = await self.positions(self._log.replica.newest(start.node))
                progress = progress_of(positions, start.key, start.position)
                handlers.append((start, Pattern.of(start.pattern), progress))
        return lambda event: any(
            event.target in (None, start.node)
            and event.position > progress.position
            and pattern.matches(event.type)
            for start, pattern, progress in handlers
        )

    async def forget(self, node: str) -> None:
        """Remove the start positions of a deleted node's handlers."""
        await self._log.stream.remove(f"{self._log.subjects.start_prefix}{node}.*")

    async def positions(self, record: CommitRecord | None) -> Positions:
        """Return the positions of a node's handlers at a commit; look at earlier ones if it has none."""
        if record is None:
            return {}
        if record.positions is None:
            record.positions = await self._look_back(record)
        return record.positions

    async def _look_back(self, record: CommitRecord) -> Positions:
        for earlier in reversed(await read_commit_headers(self._log.stream, record.node)):
            if earlier.sequence < record.sequence and earlier.positions is not None:
                return earlier.positions
        return {}

    # -- serving -------------------------------------------------------------------------------------

    def _serves(self, registration: Registration, handler: StateHandler) -> bool:
        """Return whether this process applies it: as the owner, or because the owner lacks the handler."""
        ownership = self._dispatcher.ownership
        owner = ownership.owner_of(registration.node)
        ours = ownership.is_ours(registration.node)
        return ours or (owner is not None and handler.key not in owner.state_handlers)

    async def leave(self, registration: Registration) -> bool:
        """Leave a failing event to the process that serves the handler now; False if it is this one."""
        handler = registration.state
        assert handler is not None
        if self._serves(registration, handler):
            return False
        self._stop(handler)
        return True

    def ahead(self, registration: Registration, most: int) -> list[tuple[EventRecord, Cut | None]]:
        """Return the next events that wait for a handler, with their snapshots. From any thread."""
        waiting = list(self._dispatcher.queue(registration.node).queued)
        mine = [each for each in waiting if registration in each.candidates and not each.cancelled]
        return [(each.event, each.snapshot) for each in mine[:most]]

    def refresh(self, node: str) -> None:
        """Start or stop to serve a node's handlers, depending on who owns the node."""
        for registration in self._dispatcher.registrations.of(node):
            handler = registration.state
            if handler is None:
                continue
            if not self._serves(registration, handler):
                self._stop(handler)
            elif not handler.live and handler.buffer is None:
                self._start(registration, handler)

    def offer(
        self,
        registrations: list[Registration],
        event: EventRecord,
        context: contextvars.Context | None,
        *,
        ours: bool,
    ) -> tuple[list[Registration], Cut | None, bool]:
        """Return the handlers to deliver an event to now, the snapshot they read, and whether they reply.

        State handlers come first. While one catches up, the event and the plain handlers wait for it.
        """
        snapshot: Cut | None = None
        live: list[Registration] = []
        waiting: list[StateHandler] = []
        plain = [each for each in registrations if each.state is None] if ours else []
        for registration in registrations:
            handler = registration.state
            if handler is None or not (handler.live or handler.buffer is not None):
                continue
            if handler.takes_views and snapshot is None:
                snapshot = self._log.replica.cut()
            if handler.live:
                live.append(registration)
            else:
                waiting.append(handler)
        for handler in waiting:
            assert handler.buffer is not None
            work = NamedWork(
                event.correlation or event.id,
                lambda: f'"{event.type}" waiting for a state handler',
                origin_after(event, ""),
            )
            self._dispatcher.in_flight.start(work)
            handler.buffer.append(Waiting(event, context, snapshot, plain, ours, work))
            plain, ours = [], False
        return [*live, *plain], snapshot, ours

    def waiting(self) -> list[str]:
        """Return the ids of the events that wait for a handler that catches up."""
        return [each.event.id for handler in self._catching_up for each in handler.buffer or ()]

    def _stop(self, handler: StateHandler) -> None:
        waiting = handler.buffer or []
        handler.stop()
        self._catching_up.discard(handler)
        for each in waiting:
            self._dispatcher.in_flight.finish(each.work)

    def _start(self, registration: Registration, handler: StateHandler) -> None:
        """Start to catch up; `settle` waits for the end of it."""
        handler.buffer = []
        self._catching_up.add(handler)
        work = NamedWork(
            f"catching up {id(registration)}",
            lambda: f'node "{registration.node}" catching up with {registration.name}',
        )
        self._dispatcher.in_flight.start(work)
        self._log.background(self._catch_up(registration, handler, handler.turn, work))

    async def _catch_up(
        self, registration: Registration, handler: StateHandler, turn: int, work: Work
    ) -> None:
        """Deliver the events that were stored before, then those that have arrived meanwhile."""
        in_flight = self._dispatcher.in_flight
        try:
            while handler.turn == turn:
                try:
                    await self._read_up(registration, handler, turn)
                    break
                except HappenError as error:  # events that were delivered already are recognized
                    logger.info('node "%s" catching up: %s; once more', registration.node, error)
                    await asyncio.sleep(RETRY_SECONDS)
        finally:  # after the events that are queued now
            self._dispatcher.queue(registration.node).mailbox.put(lambda: in_flight.finish(work))

    async def _read_up(self, registration: Registration, handler: StateHandler, turn: int) -> None:
        log, node = self._log, registration.node
        end = log.position  # all later events are in the buffer
        positions = await self.positions(log.replica.newest(node))
        after = handler.progress(positions).position
        first = (await log.stream.info()).first
        at = max(first, after[0])
        while at <= end and handler.turn == turn:
            until = min(end, at + WINDOW_MESSAGES - 1)
            for event in await events_between(log.stream, at, until):
                if handler.turn == turn and event.position > after and _concerns(registration, event):
                    self._dispatcher.deliver(event, node, [registration], None, replies=False)
            at = until + 1
            while len(self._dispatcher.queue(node).queued) > MAX_QUEUED and handler.turn == turn:  # noqa: ASYNC110
                await asyncio.sleep(POLL_SECONDS)
        if handler.turn != turn:
            return
        waiting, handler.buffer, handler.live = handler.buffer or [], None, True
        self._catching_up.discard(handler)
        for event, context, snapshot, others, replies, work in waiting:
            handlers = [registration, *others] if event.sequence > end else others
            if handlers:
                self._dispatcher.deliver(event, node, handlers, context, snapshot, replies=replies)
            self._dispatcher.in_flight.finish(work)


def _concerns(registration: Registration, event: EventRecord) -> bool:
    """Return whether a handler may apply an event; a predicate is asked later, off the IO thread."""
    pattern = registration.pattern
    matches = pattern.predicate is not None or pattern.matches(event.type)
    return bool(matches) and event.target in (None, registration.node)
