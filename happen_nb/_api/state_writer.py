"""Commit the states of a node, with the events that their transforms emit."""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from happen_nb._api.events import Event, record_of, update_event
from happen_nb._api.history import Commit, arrived
from happen_nb._api.views import NodeStates, Views
from happen_nb._journal.commits import applied_at
from happen_nb._journal.publish import part_of
from happen_nb._model.arguments import seconds, truth
from happen_nb._model.freeze import biggest_part, dumps
from happen_nb._model.frozen import FrozenDict
from happen_nb._model.functions import second_of_transform
from happen_nb._model.records import (
    EMPTY,
    CommitRecord,
    Cut,
    EventRecord,
    check_viewed,
    checked_body,
    is_stored,
    note_damage,
    unstored,
)
from happen_nb._model.transforms import Transform, call_transform, compute, given_state
from happen_nb._runtime import causes
from happen_nb._runtime.causes import Evaluation, evaluating, output_context
from happen_nb._runtime.io import on_io
from happen_nb._runtime.redirect import Redirected
from happen_nb._runtime.reply_ends import PendingReply
from happen_nb._runtime.stored_steps import DurableStep, commits
from happen_nb._runtime.writer import CommitRequest
from happen_nb.errors import NotStoredError, TooLargeError

if TYPE_CHECKING:
    from contextvars import Context

    from happen_nb._api.base import Timeout
    from happen_nb._api.space import Space
    from happen_nb._runtime.precedence import Contender
    from happen_nb._runtime.replica import Applied
    from happen_nb._runtime.runtime import Runtime


class PendingEvent:
    """An event that is emitted with the commit of a transform."""

    __slots__ = ("event", "record", "request")

    def __init__(self, record: EventRecord, event: Event) -> None:
        self.record = record
        self.event = event
        self.request: PendingReply | None = None


def announce(runtime: Runtime, emitted: Sequence[PendingEvent], output: Context | None) -> None:
    """Expect events that are about to be stored, and the replies to them."""
    for each in emitted:
        runtime.dispatcher.contexts[each.record.id] = output
        if each.request is not None:
            runtime.replies.expect(each.request, each.record)


def withdraw(runtime: Runtime, emitted: Sequence[PendingEvent]) -> None:
    """Stop expecting events: they are not stored."""
    for each in emitted:
        runtime.dispatcher.contexts.pop(each.record.id, None)
        runtime.replies.forget(each.record)


def conclude(
    emitted: Sequence[PendingEvent], stored: Mapping[str, EventRecord], known: Container[str] = ()
) -> list[PendingReply]:
    """Give events their records as they are stored; return the requests whose replies to track."""
    for each in emitted:
        record, repeated = stored.get(each.record.id, each.record), each.record.id in known
        update_event(each.event, record, repeated=repeated)
    return [each.request for each in emitted if each.request is not None and each.record.alarm is None]


@contextmanager
def emitted() -> Iterator[list[Event]]:
    """Collect the events that are emitted inside the block instead of storing them, to test a transform.

    Yields
    ------
    list of Event
        The events in the order in which they are emitted.

    Raises
    ------
    TransformError
        The block calls something that waits, such as ``state.set``.

    Examples
    --------
    >>> with happen.emitted() as events:
    ...     event = orders.broadcast("stock.short", {"n": 2})
    >>> [event.type for event in events]
    ['stock.short']
    >>> len(space.events("stock.short"))
    0
    """
    evaluation = Evaluation("test", None)
    evaluation.emitted = collected = _Collected()
    token = evaluating.set(evaluation)
    try:
        yield collected.events
    finally:
        evaluating.reset(token)


class _Collected(list[PendingEvent]):
    """A list of pending events that also collects their Events."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []

    def append(self, pending: PendingEvent) -> None:
        super().append(pending)
        self.events.append(pending.event)

    def remove(self, pending: PendingEvent) -> None:
        super().remove(pending)
        self.events.remove(pending.event)


class StateWriter:
    """Commits the states of a node."""

    space = Redirected["Space"]()
    _runtime = Redirected["Runtime"]()

    def __init__(self, node: str, space: Space, runtime: Runtime) -> None:
        self.node = node
        self.space = space
        self._runtime = runtime

    async def set(
        self, transform: Transform, *, serializable: bool = False, timeout: Timeout = None
    ) -> Commit:
        """Commit the result of a transform on the newest state; on a conflict, it runs again."""
        log = self._runtime.log
        limit = log.timeout if timeout is None else seconds(timeout, "state.set: timeout")
        serializable = truth(serializable, "state.set: serializable")
        deadline, conflicts = time.monotonic() + limit, 0
        takes_views = callable(transform) and second_of_transform(transform) != "none"
        origin, step = causes.current_origin(), causes.next_step()
        known: dict[str, EventRecord] = {}
        if callable(transform) and limit and log.replica.newest(self.node) is None:
            with part_of(f'state.set of node "{self.node}"', NotStoredError):
                # Another process may just have created it.
                await on_io(log.fresh(deadline - time.monotonic()))
        with self._runtime.precedence.contender(self.node, deadline) as contender:
            while True:
                cut = log.replica.cut() if takes_views or serializable else log.replica.cut_of(self.node)
                if step is not None and (done := await self.done(step, cut.nodes.get(self.node))):
                    return done
                evaluation = Evaluation(self.node, self.space)
                new, viewed = self.evaluate(transform, cut, evaluation)
                record = cut.nodes.get(self.node)
                body = checked_body(self.node, record, new)
                check_viewed(cut, viewed)
                quiet = not evaluation.cancelled and all(
                    each.record.id in known for each in evaluation.emitted
                )
                if quiet and is_stored(record, new, body):
                    pair = record or self.nothing(), record
                    return arrived(pair, self._runtime, unchanged_at=cut.position)
                self.check_size(new, body)
                if time.monotonic() >= deadline:
                    raise self._too_late(limit, conflicts)
                change = CommitRequest.after(
                    cut,
                    unstored(self.node, new, body, origin, key=None if step is None else step.key),
                    viewed if serializable else None,
                    evaluation.cancelled,
                )
                # Its views are read again, and other writers may go before it is stored.
                in_turn, began = conflicts > 0 and not takes_views, time.monotonic()
                applied = await self.commit(
                    change, deadline, evaluation.emitted, known, in_turn=in_turn, contender=contender
                )
                if applied is not None:
                    return arrived(applied, self._runtime)
                conflicts += 1
                contender.lose()
                if self._runtime.dispatcher.conductor is not None:  # it has waited for its turn
                    deadline += time.monotonic() - began

    def _too_late(self, limit: float, conflicts: int) -> NotStoredError:
        why = (
            f"other writers were faster {conflicts:,} times"
            if conflicts
            else "it expired before the new state was computed; pass a longer timeout"
        )
        return NotStoredError(
            f'state.set of node "{self.node}": nothing was stored within the timeout of {limit:g} s: {why}'
        )

    async def commit(
        self,
        change: CommitRequest,
        deadline: float,
        emitted: Sequence[PendingEvent] = (),
        known: dict[str, EventRecord] | None = None,
        *,
        in_turn: bool = False,
        contender: Contender | None = None,
    ) -> Applied | None:
        """Store a change with its events; None if another commit was stored first.

        `in_turn` is True if the change was computed again in the turn to store that it had before. Writers
        that have lost for longer than `contender` go first.
        """
        runtime = self._runtime.checked
        if runtime.precedence.must_wait(self.node, contender):
            await on_io(runtime.precedence.wait(self.node, contender, deadline))
        if not in_turn:
            began = time.monotonic()
            await runtime.dispatcher.turn("commit", self.node)
            deadline += time.monotonic() - began
        if emitted:
            applied = await self._commit_emitting(change, deadline, emitted, {} if known is None else known)
        else:
            applied = await runtime.writer.commit(change, deadline)
        if applied is not None:
            for alarm in change.cancels:
                runtime.dispatcher.ticks.end(alarm.id)
            runtime.on_own_commit.emit(applied)
            for each in emitted:
                runtime.on_own_event.emit(record_of(each.event), each.event.repeated)
        return applied

    async def _commit_emitting(
        self,
        change: CommitRequest,
        deadline: float,
        emitted: Sequence[PendingEvent],
        known: dict[str, EventRecord],
    ) -> Applied | None:
        """Store a change with its events; add to `known` those whose caller-given ids are already stored."""
        runtime = self._runtime.checked
        for each in emitted:
            each.record.check()  # the transform could change its payload in place
        change.record.events = tuple(each.record for each in emitted)
        recall = runtime.dispatcher.recall
        if recall is not None and await recall.takes(change.record.events, known):
            return None
        announce(runtime, emitted, output_context())
        try:
            stored = await runtime.writer.commit_emitting(change, deadline, known)
        finally:
            for each in emitted:
                if runtime.log.alarms.get(each.record.id) is None:  # else it is still to come
                    runtime.dispatcher.contexts.pop(each.record.id, None)
        if stored is None:
            withdraw(runtime, emitted)  # the transform runs again, and emits others
            return None
        applied, events = stored
        for request in conclude(emitted, events, known):
            await on_io(runtime.dispatcher.track(request))
        return applied

    def evaluate(
        self, transform: Transform, cut: Cut, evaluation: Evaluation, viewed: Cut | None = None
    ) -> tuple[FrozenDict, frozenset[str]]:
        """Run the transform on a snapshot, with the views of it or another one.

        Returns the new state and the names of the viewed nodes.
        """
        record = cut.nodes.get(self.node)
        if not callable(transform):
            return given_state(transform, node=self.node), frozenset()
        states = NodeStates(self._runtime, viewed or cut)
        views = Views(self.space, states)
        new = self.compute(partial(call_transform, transform, views=views), record, evaluation)
        return new, frozenset(states.viewed)

    def compute(
        self, call: Callable[..., Any], record: CommitRecord | None, evaluation: Evaluation, *arguments: Any
    ) -> FrozenDict:
        """Call a function of the state of a record and more arguments, and return the new state."""
        state, revision = (EMPTY, 0) if record is None else (record.state, record.revision)
        token = evaluating.set(evaluation)
        try:
            return compute(call, state, *arguments, node=self.node, revision=revision)
        except Exception as error:
            note_damage(self.node, record, error)
            raise
        finally:
            evaluating.reset(token)

    def check_size(self, state: FrozenDict, body: bytes) -> None:
        limit = self._runtime.log.max_body
        if len(body) > limit:
            path, size = biggest_part(state)
            raise TooLargeError(
                f'state.set of node "{self.node}": the state has {len(body):,} bytes as JSON, but the server '
                f"accepts at most {limit:,}; the biggest part is {path} ({size:,} bytes). Split the state "
                "among several nodes"
            )

    def nothing(self) -> CommitRecord:
        nothing = CommitRecord(self.node, 0, 0, time.time_ns(), b"{}")
        nothing.adopt(EMPTY)
        return nothing

    async def commit_initial(self, initial: FrozenDict) -> None:
        """Commit `initial` if the node has no state; the first process wins."""
        log = self._runtime.log
        cut = log.replica.cut_of(self.node)
        record = cut.nodes.get(self.node)
        if record is None or record.deleted:
            body = dumps(initial)
            self.check_size(initial, body)
            change = CommitRequest.after(cut, unstored(self.node, initial, body, causes.current_origin()))
            await self.commit(change, time.monotonic() + log.timeout)

    async def done(self, step: DurableStep, newest: CommitRecord | None) -> Commit | None:
        """Return the commit that a step of a durable handler made in an earlier run; None if it is new.

        `newest` is the record of the node, read before.
        """
        log = self._runtime.log
        if log.steps.is_behind:
            await on_io(log.steps.reach_states(log.timeout))
        stored = step.stored(commits(self.node))
        if stored is None and not step.is_past():
            return None
        applied = None
        if stored is not None:
            applied = await on_io(applied_at(log.stream, stored.sequence))
        if applied is None:
            pair = newest or self.nothing(), newest
            return arrived(pair, self._runtime, unchanged_at=log.replica.position)
        return arrived(applied, self._runtime)

    async def delete(self) -> Commit | None:
        log, step = self._runtime.log, causes.next_step()
        deadline = time.monotonic() + log.timeout
        with part_of(f'delete of node "{self.node}"', NotStoredError):
            await on_io(log.fresh(log.timeout))  # another process may have just created it
        await on_io(self._runtime.dispatcher.progress.forget(self.node))
        await on_io(self._runtime.dispatcher.durables.forget(self.node))
        with self._runtime.precedence.contender(self.node, deadline) as contender:
            while True:
                cut = log.replica.cut_of(self.node)
                record = cut.nodes.get(self.node)
                exists = record is not None and not record.deleted
                if not exists and not self._runtime.ownership.is_owned(self.node, record):
                    return None
                if step is not None and await self.done(step, record):
                    return None
                key = None if step is None else step.key
                record = unstored(self.node, EMPTY, None, causes.current_origin(), key=key)
                change = CommitRequest.after(cut, record)
                applied = await self.commit(change, deadline, contender=contender)
                if applied is not None:
                    return arrived(applied, self._runtime)
                contender.lose()
