"""Storing commits and events, each once, and seeing them in this process.

The calls run in the thread of the caller, which computes and encodes; `PendingWrite` and `on_io` are its
steps on the IO thread. A single message is sent without an answer. Where that leaves the outcome unclear, and
for everything else, the server's answer decides.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from happen_nb._journal import encoding, wire
from happen_nb._journal.commits import read_commits
from happen_nb._journal.outbox import PendingWrite
from happen_nb._journal.publish import RefusedError, Resend, lost_before_clear, part_of, store_messages
from happen_nb._journal.scheduled import Ended
from happen_nb._model.frozen import equal
from happen_nb._model.records import CommitRecord, Cut, EventRecord, unstored
from happen_nb._runtime.io import on_io
from happen_nb._runtime.replica import Applied
from happen_nb._runtime.waiting import seconds_left
from happen_nb.errors import IdTakenError, NotStoredError, OutcomeUnknownError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from happen_nb._model.schedules import Alarm
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.stored_steps import DurableStep

FOREVER = float("inf")

Stored = tuple[Applied, tuple[EventRecord, ...]]  # a commit, and those of its events that were seen


class CommitRequest(NamedTuple):
    """A commit to store, and the states that must not have changed since it was computed."""

    record: CommitRecord
    """As `unstored` makes it. When it is stored, the replica gets it, unless it has to be decoded.

    Its positions may be None: they are those of the record before then.
    """
    base: CommitRecord | None  # the record that it follows, which must still be the newest of the node
    position: int
    written: int
    viewed: Mapping[str, CommitRecord | None] | None = None
    """The records of the nodes whose state was viewed, if they too must still be the newest."""
    cancels: tuple[Alarm, ...] = ()  # scheduled events that are cancelled, if they are still to come

    @classmethod
    def after(
        cls,
        cut: Cut,
        record: CommitRecord,
        viewed: Iterable[str] | None = None,
        cancels: Iterable[Alarm] = (),
    ) -> CommitRequest:
        """Return the request of a commit that was computed on a cut."""
        nodes = cut.nodes
        seen = None if viewed is None else {name: nodes.get(name) for name in viewed}
        return cls(record, nodes.get(record.node), cut.position, cut.written, seen, tuple(cancels))

    @property
    def schedules(self) -> bool:
        """True if it schedules or cancels events."""
        return bool(self.cancels) or any(event.alarm is not None for event in self.record.events)


class Writer:
    """Stores commits and events in the journal of a space."""

    def __init__(self, log: Log) -> None:
        self._log = log

    # -- committing ----------------------------------------------------------------------------------

    async def commit(self, request: CommitRequest, deadline: float) -> Applied | None:
        """Store a commit, and wait until this process sees it.

        Returns None if something else was stored first: the replica has it now, compute again. Raises
        NotStoredError or OutcomeUnknownError if the time was up, and TooLargeError or ServerError if the
        server does not take it.
        """
        stored = await self._commit(request, deadline)
        return None if stored is None else stored[0]

    async def commit_emitting(
        self, request: CommitRequest, deadline: float, known: dict[str, EventRecord]
    ) -> tuple[Applied, dict[str, EventRecord]] | None:
        """Store a commit and its events; None if something else was stored first.

        Returns the commit, and its events by their ids, as they are stored. Adds to `known` the events with
        ids of the caller's that were there already; they are not stored again.
        """
        record = request.record
        new = record.events = tuple(event for event in record.events if event.id not in known)
        what = _set_of(record.node)
        if any(event.alarm is not None for event in new) and not self._log.info.schedules:
            with part_of(what, NotStoredError):
                await on_io(self._log.mark_schedules())
        stored = await self._commit(request, deadline)
        if stored is not None:
            applied, events = stored
            return applied, {**known, **{event.id: event for event in events}}
        with part_of(what, NotStoredError):
            for event in new:
                found = await on_io(find_stored(self._log, event)) if event.has_caller_id else None
                if found is not None:
                    known[event.id] = check_same(event, found)
        return None

    async def _commit(self, request: CommitRequest, deadline: float) -> Stored | None:
        what = _set_of(request.record.node)
        if time.monotonic() >= deadline:
            raise NotStoredError(f"{what}: other writers were faster until the timeout; nothing was stored")
        write = self.prepare(request, what, deadline)
        if len(write.messages) == 1 and request.viewed is None:
            await write
            if write.seen is not None:
                return write.seen, write.seen.record.events
            if write.refused:
                return None
        stored: Stored | None = await on_io(self.complete(write))
        return stored

    def prepare(self, request: CommitRequest, what: str, deadline: float) -> PendingWrite[Applied]:
        """Encode a commit. From any thread."""
        log, record, base = self._log, request.record, request.base
        expected, record.revision = (0, 1) if base is None else (base.sequence, base.revision + 1)
        record.id, record.read_position = log.new_id(), request.position
        if record.positions is None:
            record.positions = log.replica.positions(record.node, base)
        commit = encoding.encode_commit(log.subjects, record, expected)
        if not record.positions:
            record.positions = None  # as is decoded from a message without them
        if record.body is None:
            record.positions = {}  # the handlers of a node that is created again start anew
        messages = [commit]
        if record.events or request.cancels or request.viewed is not None:
            messages = self._with_more(commit, request)
        log.connection.check_size(messages, what)
        return PendingWrite(
            log.outbox,
            record.id,
            messages,
            what,
            deadline,
            node=record.node,
            subject=commit.subject,
            expected=expected,
            draft=record if len(messages) == 1 else None,
            request=request,
        )

    def _with_more(self, commit: wire.Message, request: CommitRequest) -> list[wire.Message]:
        """Return the messages of a commit that emits or cancels events, or has more guards than its own."""
        log, record = self._log, request.record
        guards: list[wire.Message] = []
        if request.viewed is not None and log.stream.replicas == 1:
            commit = encoding.guard_all(log.subjects, commit, request.written)
        elif request.viewed is not None:
            guards = [
                encoding.encode_guard(log.subjects, log.subjects.state(name), each.sequence if each else 0)
                for name, each in request.viewed.items()
                if name != record.node
            ]
        ttl = log.info.event_ttl
        if not (record.events or request.cancels or guards):
            return [commit]
        alarms = [
            message
            for alarm in request.cancels
            for message in log.alarms.cancel(alarm, ttl=ttl, origin=record.origin)
        ]
        for event in filter(log.alarms.concerns, record.events):
            alarms += log.alarms.messages(event, ttl=ttl)
        events = [event for event in record.events if not log.alarms.concerns(event)]
        most = wire.MAX_BATCH_MESSAGES - len(guards) - len(alarms)
        return [*guards, *encoding.with_events(log.subjects, commit, events, ttl=ttl, most=most), *alarms]

    async def complete(self, write: PendingWrite[Applied]) -> Stored | None:
        """Store a commit, or find out whether it is stored, by the server's answer. On the IO thread."""
        outbox, request = self._log.outbox, write.request
        if write.generation is None:
            outbox.expect(write)
        events: list[PendingWrite[EventRecord]] = []
        more: list[PendingWrite[Any]] = []
        if len(write.messages) > 1:  # they have messages of their own, which arrive after the commit
            coming = [each for each in request.record.events if each.alarm is None]
            events = [outbox.expect(PendingWrite(outbox, each.id)) for each in coming]
            names = [each.alarm for each in request.record.events if each.alarm is not None]
            more = [*events, *(outbox.expect(PendingWrite(outbox, name)) for name in names)]
        try:
            with part_of(write.what, OutcomeUnknownError):
                applied = await self._store(write, request)
            if applied is None:
                return None
            riding = {event.id for event in applied.record.events}
            to_come = [each.to_resolve() for each in more if each.id not in riding]
            if to_come:
                await asyncio.wait(to_come, timeout=seconds_left(write.deadline))
            arrived = [each.seen for each in events if each.seen is not None]
            at = applied.record
            scheduled = [
                replace(each, sequence=at.sequence, time=at.time)
                for each in request.record.events
                if each.alarm is not None
            ]
            return applied, (*applied.record.events, *arrived, *scheduled)
        finally:
            outbox.forget(write)
            for message in more:
                outbox.forget(message)

    async def _store(self, write: PendingWrite[Applied], request: CommitRequest) -> Applied | None:
        try:
            outcome = await self._send(write)
        except RefusedError as refusal:
            return await self._after_refusal(refusal, write, request)
        if isinstance(outcome, Applied):
            return outcome
        await self._log.reach(outcome, write.deadline)
        return write.seen or await self._passed_over(outcome, request, write.id)

    async def _send(self, write: PendingWrite[Any], lives: float = FOREVER) -> Any:
        log = self._log
        return await store_messages(
            log.connection,
            write.messages,
            timeout=seconds_left(write.deadline),
            what=write.what,
            future=write.to_resolve(),
            # so that a clear cannot make a message that is sent again count twice
            resend=Resend(log.subjects, write.cleared, lives),
            sent_at=write.sent_at,
            unbroken=write.unbroken,
        )

    def _is_certain(self, write: PendingWrite[Any]) -> bool:
        """Return True if a write that was not seen until now is not stored before that."""
        return write.unbroken and self._log.stream.replicas == 1

    def _is_cleared(self, write: PendingWrite[Applied], request: CommitRequest) -> bool:
        """Return True if a commit is gone, wherever it was stored: a clear has removed it at once.

        It is computed again then, on the emptied space. One that emits is not: others may have its events.
        """
        cleared = write.generation[1] != self._log.generation()[1]
        record = request.record
        return cleared and write.followed and not record.events and record.key is None

    async def _after_refusal(
        self, refusal: RefusedError, write: PendingWrite[Applied], request: CommitRequest
    ) -> Applied | None:
        """Wait until the replica has the conflicting message, which may be this very commit."""
        log, newest = self._log, refusal.newest
        # An event with the caller's id may be what was refused: `commit_emitting` looks it up.
        taken = newest > 0 and any(event.has_caller_id for event in request.record.events)
        if newest > log.replica.position:
            await log.reach(newest, write.deadline)
        elif request.schedules or refusal.in_flight:  # an alarm was delivered, cancelled or replaced
            await log.fresh(seconds_left(write.deadline))
            ids = [event.alarm_id for event in request.record.events if event.alarm is not None]
            replaced = [alarm for id in ids if (alarm := log.alarms.get(id)) is not None]
            await look_up(log, [*request.cancels, *replaced])
            taken = True
        lost = refusal.resent and not self._is_certain(write) and not self._is_cleared(write, request)
        if (
            newest <= log.replica.position
            and not taken
            and log.replica.unchanged(request.record.node, request.base, request.written)
        ):
            await log.start_afresh()  # it has expired or was purged, and no message reports it
        if write.seen is not None or write.generation == log.generation():
            return write.seen
        applied = await self._find_own(request, write.id)
        if applied is None and lost:
            gone = "if the commit was stored before that, it is gone"
            raise lost_before_clear(write.what, gone) from None
        return applied

    async def _passed_over(self, sequence: int, request: CommitRequest, id: str) -> Applied:
        """Return a stored commit that the replica never got: a fresh start or a clear passed over it."""
        own = request.record
        record = unstored(own.node, own.state, own.body, own.origin)
        record.id, record.revision, record.read_position = id, own.revision, own.read_position
        return await self._find_own(request, id) or Applied(
            record.as_stored(sequence, time.time_ns()), request.base
        )

    async def _find_own(self, request: CommitRequest, id: str) -> Applied | None:
        """Look for a commit among the stored ones, when the follower may have missed it."""
        own: Applied | None = None
        previous = request.base
        for record in await read_commits(self._log.stream, request.record.node):
            if record.id == id:
                own = Applied(record, previous)
            previous = record
        return own

    # -- publishing events ---------------------------------------------------------------------------

    async def publish(
        self, event: EventRecord, deadline: float, step: DurableStep | None = None
    ) -> EventRecord:
        """Store an event, and wait until this process sees it; return it as it is stored.

        It has another publish_id if the caller's id was there already, or if another process has scheduled
        the event in the same step, and cancelled it. `step` is the step of a durable handler that emits it.
        Raises IdTakenError if the caller's id was there with another content.
        """
        self._log.replica.note_look()
        write = self._prepare_event(event, deadline)
        if time.monotonic() >= deadline:
            raise NotStoredError(f"{write.what}: timed out; nothing was stored")
        if write.draft is not None:
            await write
            if write.seen is not None:
                return write.seen
        stored: EventRecord = await on_io(self._complete_event(write, event, step))
        return stored

    async def store(self, event: EventRecord, deadline: float) -> EventRecord:
        """Do what `publish` does. On the IO thread."""
        return await self._complete_event(self._prepare_event(event, deadline), event)

    def send(
        self, event: EventRecord, deadline: float, on_end: Callable[[BaseException | None], None]
    ) -> None:
        """Send an event at once, without waiting. On the IO thread.

        `on_end` is called when it is stored, or with the error.
        """
        write = self._prepare_event(event, deadline)

        def sent(_: object) -> None:
            if write.seen is None and write.error is None:
                self._log.background(complete())
            else:
                on_end(write.error)

        async def complete() -> None:
            error: BaseException | None = None
            try:
                await self._complete_event(write, event)
            except BaseException as failed:
                error = failed
            on_end(error)

        write.send(sent)

    def _prepare_event(self, event: EventRecord, deadline: float) -> PendingWrite[EventRecord]:
        """Encode an event. From any thread."""
        log, what = self._log, f'broadcast of "{event.type}"'
        messages = log.alarms.messages(event, ttl=log.info.event_ttl)
        log.connection.check_size(messages, what)
        # Else another event with the id may be there already, or the message is that of an alarm.
        plain = not event.has_caller_id and event.alarm is None
        event.body = messages[0].body
        return PendingWrite(log.outbox, event.id, messages, what, deadline, draft=event if plain else None)

    async def _complete_event(
        self, write: PendingWrite[EventRecord], event: EventRecord, step: DurableStep | None = None
    ) -> EventRecord:
        """Store an event, or find out whether it is stored, by the server's answer. On the IO thread."""
        log = self._log
        if write.generation is None:
            log.outbox.expect(write)
        try:
            while step is None or not step.is_done:
                with part_of(write.what, OutcomeUnknownError):
                    stored = await self._store_event(write, event)
                if stored is not None:
                    return check_same(event, stored)
                log.outbox.forget(write)  # what had the id is gone, or was cancelled
                log.outbox.expect(write)
                write.messages = log.alarms.messages(event, ttl=log.info.event_ttl)
                write.sent_at, write.unbroken = None, True
            return replace(event, publish_id=None)
        finally:
            log.outbox.forget(write)

    async def _store_event(self, write: PendingWrite[EventRecord], event: EventRecord) -> EventRecord | None:
        """Return the event as it is stored; None if it has to be sent anew."""
        log = self._log
        try:
            outcome = await self._send(write, log.info.event_ttl)
        except RefusedError as refusal:
            # It is stored: sent earlier by this process, or under the caller's id.
            await log.reach(refusal.newest, write.deadline)
            lost = refusal.resent and not self._is_certain(write)
            outcome = write.seen or await find_stored(self._log, event)
            if outcome is None and log.alarms.concerns(event):
                pending = log.alarms.get(event.id)
                await look_up(log, [] if pending is None else [pending])
                return None
            if outcome is None and write.generation != log.generation():
                if lost:
                    raise lost_before_clear(write.what) from None
                return None
            return outcome or await self._seen_or_stored(event, write, refusal.newest)
        if isinstance(outcome, EventRecord):
            return outcome
        await log.reach(outcome, write.deadline)
        return await self._seen_or_stored(event, write, outcome)

    async def _seen_or_stored(
        self, event: EventRecord, write: PendingWrite[EventRecord], sequence: int
    ) -> EventRecord:
        """Return the stored event: as the follower brought it, or as it is read if that was long ago."""
        if write.seen is not None:
            return write.seen
        return await find_stored(self._log, event) or EventRecord(
            event.id, event.type, event.sender, event.payload, publish_id=event.publish_id, sequence=sequence
        )


def _set_of(node: str) -> str:
    return f'state.set of node "{node}"'


async def look_up(log: Log, alarms: Iterable[Alarm]) -> None:
    """Look up what is stored on the subjects of scheduled events, after a refusal. On the IO thread."""
    for alarm in alarms:
        if log.alarms.get(alarm.id) == alarm:
            newest = await log.stream.newest(alarm.target)
            log.alarms.note_stored(alarm.target, 0 if newest is None else newest.sequence)
            if await log.stream.newest(log.subjects.alarm_prefix + alarm.id) is None:
                await log.start_afresh()  # it is gone, and perhaps no message reports it


async def find_stored(log: Log, event: EventRecord) -> EventRecord | None:
    """Return the event that is stored under the same subject, if there is one. On the IO thread."""
    # By the leader: one that was replaced may miss it, and then the server refuses the event once more.
    found = await log.stream.newest(log.subjects.event(event))
    record = None if found is None else log.stream.decode(found)
    if isinstance(record, EventRecord) and record.alarm is None:
        return record
    if found is None or not isinstance(record, EventRecord | Ended):
        return None
    delivered = await log.stream.delivered(found.subject)
    if delivered is None:
        log.alarms.note_stored(found.subject, found.sequence)
    return delivered


def check_same(event: EventRecord, stored: EventRecord) -> EventRecord:
    """Return what is stored under an event's id; IdTakenError if it has another type, payload or target."""
    if stored.publish_id != event.publish_id:
        content = (stored.type, stored.target) == (event.type, event.target)
        if not content or not equal(stored.payload, event.payload):
            raise IdTakenError(
                f'broadcast: the id "{event.id}" is taken by an event "{stored.type}" of "{stored.sender}" '
                "with another content; an id belongs to one type, payload and target"
            )
    return stored
