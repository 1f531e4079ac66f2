"""State handlers at work: each event of the journal reaches each of them, in order, whoever is killed when.

A commit of the node carries how far its state handlers have come, and is stored only if nothing else was
stored first. So an event is applied once by construction; that the owner of the node does it only saves work.
A process that begins to serve a node reads what lies between that position and now, and what comes meanwhile
waits behind it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from happen_nb._journal import wire
from happen_nb._journal.publish import RefusedError, store_messages
from happen_nb._journal.slice import events_between, last_clear, read_commit_headers
from happen_nb._model.positions import START, Position, Positions, Progress, progress_of
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

WINDOW = 2_000
"""Messages of the journal that are read at once while a handler catches up."""
MAX_AHEAD = 2 * WINDOW
"""Events that wait for their handler while more are read."""
POLL_SECONDS = 0.01
"""Time between two looks at how many wait."""
RETRY_SECONDS = 0.5
"""Time after a reading that failed."""


class Waiting(NamedTuple):
    """An event that has come while its handler catches up."""

    event: EventRecord
    context: contextvars.Context | None
    snapshot: Cut | None
    others: list[Registration]
    """The plain handlers of the node, which see the commit."""
    replies: bool
    work: Work
    """It counts as work until it is delivered, for `settle`."""


@dataclass(eq=False)
class StateHandler:
    """What a state handler is, beside its registration, and how far it has come in this process.

    Parameters
    ----------
    key : str
        Identifies it over processes and runs.
    takes_views : bool
        The transform reads other nodes, as they were at the event.

    Attributes
    ----------
    apply : callable
        ``apply(event, snapshot)`` commits what the transform returns.
    """

    key: str
    takes_views: bool
    apply: Callable[[Any, Cut | None], None] = field(init=False)
    start: Position = START
    done: Position = START
    """The newest event that was handled here, with or without a commit."""
    failed: set[Position] = field(default_factory=set)
    """Events that no commit tells of yet, because their transform failed."""
    live: bool = False
    """Whether each new event is delivered at once."""
    buffer: list[Waiting] | None = None
    """What has come while older events are read; None if it does not catch up."""
    turn: int = 0

    def progress(self, positions: Positions) -> Progress:
        """How far the handler has come, by the positions that the newest commit carries."""
        return progress_of(positions, self.key, self.start)

    def is_done(self, position: Position, progress: Progress) -> bool:
        """Return whether an event needs nothing any more: it was applied, or changed nothing."""
        if position in self.failed:
            return False
        return progress.covers(position) or (position <= self.done and position not in progress.skipped)

    def pass_over(self, position: Position) -> None:
        """Note that an event is done: a commit tells of it, or it changed nothing."""
        self.done = max(self.done, position)
        self.failed.discard(position)

    def fail(self, position: Position) -> None:
        """Note that an event failed; the next commit tells of it."""
        self.done = max(self.done, position)
        self.failed.add(position)

    def stop(self) -> None:
        """Deliver nothing from here on; starting again reads what was missed."""
        self.live, self.buffer = False, None
        self.turn += 1


class Lanes:
    """The state handlers of this process. On the IO thread.

    Parameters
    ----------
    log : Log
    dispatcher : Dispatcher
    """

    def __init__(self, log: Log, dispatcher: Dispatcher) -> None:
        self._log = log
        self._dispatcher = dispatcher
        dispatcher.ownership.on_change.connect(self.refresh)
        self._catching_up: set[StateHandler] = set()

    # -- registering ---------------------------------------------------------------------------------

    async def prepare(self, registration: Registration, start: Position | None, deadline: float) -> None:
        """Store where a handler begins, unless the node has had it before; None: now."""
        handler = registration.state
        assert handler is not None
        handler.start = await self._stored_start(registration.node, handler.key, start, deadline)

    async def _stored_start(self, node: str, key: str, start: Position | None, deadline: float) -> Position:
        log, stream = self._log, self._log.stream
        subject = log.subjects.start(node, key)
        found = await stream.get({"last_by_subj": subject})
        if found is not None:
            return wire.decode_start(found.body, found.sequence)
        owner = self._dispatcher.ownership.record(node)
        if owner is not None and key in owner.state_handlers:  # the space was cleared since it began
            start = (await last_clear(stream), 0)
        message = wire.encode_start(log.subjects, node, key, start)
        left = max(0.001, deadline - time.monotonic())
        what = f'a state handler of node "{node}"'
        try:
            sequence = int(await store_messages(log.connection, [message], timeout=left, what=what))
        except RefusedError:  # another process was faster, or this one
            return await self._stored_start(node, key, start, deadline)
        await log.reach(sequence, deadline)
        return wire.decode_start(message.body, sequence)

    async def forget(self, node: str) -> None:
        """Remove where the handlers of a node begin: it is deleted."""
        await self._log.stream.remove(f"{self._log.subjects.start_prefix}{node}.*")

    async def positions(self, record: CommitRecord | None) -> Positions:
        """How far the handlers of a node had come with a commit; looks back where it does not tell."""
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

    def refresh(self, node: str) -> None:
        """Begin to serve a node's handlers, or end it, by who owns the node now."""
        owner, ours = self._dispatcher.ownership.owner_of(node), self._dispatcher.ownership.is_ours(node)
        for registration in self._dispatcher.registrations.of(node):
            handler = registration.state
            if handler is None:
                continue
            served = ours or (owner is not None and handler.key not in owner.state_handlers)
            if not served:
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
        """Return to which handlers of a node an event is delivered now, what they read, and if they reply.

        State handlers come first. While one catches up the event waits for it, and so do plain handlers.
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
            work = self._dispatcher.in_flight.start(
                event.correlation or event.id, lambda: f'"{event.type}" waiting for a state handler'
            )
            handler.buffer.append(Waiting(event, context, snapshot, plain, ours, work))
            plain, ours = [], False
        return [*live, *plain], snapshot, ours

    def waiting(self) -> list[str]:
        """Return the ids of the events that wait for handlers which catch up."""
        return [each.event.id for handler in self._catching_up for each in handler.buffer or ()]

    def _stop(self, handler: StateHandler) -> None:
        waiting = handler.buffer or []
        handler.stop()
        self._catching_up.discard(handler)
        for each in waiting:
            self._dispatcher.in_flight.finish(each.work)

    def _start(self, registration: Registration, handler: StateHandler) -> None:
        """Have it catch up; `settle` waits for that."""
        handler.buffer = []
        self._catching_up.add(handler)
        work = self._dispatcher.in_flight.start(
            f"catching up {id(registration)}",
            lambda: f'node "{registration.node}" catching up with {registration.name}',
        )
        self._log.background(self._catch_up(registration, handler, handler.turn, work))

    async def _catch_up(
        self, registration: Registration, handler: StateHandler, turn: int, work: Work
    ) -> None:
        """Deliver what was stored before, then what has come meanwhile."""
        in_flight = self._dispatcher.in_flight
        try:
            while handler.turn == turn:
                try:
                    await self._read_up(registration, handler, turn)
                    break
                except HappenError as error:  # what was delivered already is recognised
                    logger.info('node "%s" catching up: %s; once more', registration.node, error)
                    await asyncio.sleep(RETRY_SECONDS)
        finally:  # after what is queued by now
            self._dispatcher.queue(registration.node).mailbox.put(lambda: in_flight.finish(work))

    async def _read_up(self, registration: Registration, handler: StateHandler, turn: int) -> None:
        log, node = self._log, registration.node
        end = log.position  # all that comes from here on is in the buffer
        positions = await self.positions(log.replica.newest(node))
        after = handler.progress(positions).position
        first = (await log.stream.info()).first
        at = max(first, after[0])
        while at <= end and handler.turn == turn:
            until = min(end, at + WINDOW - 1)
            for event in await events_between(log.stream, at, until):
                if handler.turn == turn and event.position > after and _concerns(registration, event):
                    self._dispatcher.deliver(event, node, [registration], None, replies=False)
            at = until + 1
            while len(self._dispatcher.queue(node).queued) > MAX_AHEAD and handler.turn == turn:  # noqa: ASYNC110
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
    meant = event.target is None or event.target == registration.node
    return meant and bool(registration.pattern.matches(event.type))
