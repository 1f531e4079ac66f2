"""Events that a transform emits: stored with its commit, or collected by a test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from happen_nb._api.events import Event, update_event
from happen_nb._model.records import EventRecord
from happen_nb._runtime.causes import Evaluation, evaluating, output_context
from happen_nb._runtime.io import on_io
from happen_nb._runtime.reply_ends import PendingReply

if TYPE_CHECKING:
    from collections.abc import Container, Iterator
    from contextvars import Context

    from happen_nb._runtime.replica import Applied
    from happen_nb._runtime.runtime import Runtime
    from happen_nb._runtime.writer import CommitRequest


@dataclass(eq=False, slots=True)
class PendingEvent:
    """An event that is emitted with the commit of a transform."""

    record: EventRecord
    event: Event
    request: PendingReply | None = None


async def commit_emitting(
    runtime: Runtime,
    change: CommitRequest,
    emitted: Sequence[PendingEvent],
    deadline: float,
    known: dict[str, EventRecord],
) -> Applied | None:
    """Commit a transform's state together with its events; None if another commit was stored first.

    Parameters
    ----------
    known : dict of str to EventRecord
        The events whose caller-given ids are already stored; filled here.
    """
    for each in emitted:
        each.record.check()  # the transform could change its payload in place
    announce(runtime, emitted, output_context())
    try:
        change.record.events = tuple(each.record for each in emitted)
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


def announce(runtime: Runtime, emitted: Sequence[PendingEvent], output: Context | None) -> None:
    """Expect events that are about to be stored, and the replies to them."""
    for each in emitted:
        runtime.dispatcher.contexts[each.record.id] = output
        if each.request is not None:
            runtime.replies.expect(each.request, each.record)


def withdraw(runtime: Runtime, emitted: Sequence[PendingEvent]) -> None:
    """Expect events no more: they are not stored."""
    for each in emitted:
        runtime.dispatcher.contexts.pop(each.record.id, None)
        runtime.replies.forget(each.record)


def conclude(
    emitted: Sequence[PendingEvent],
    stored: Mapping[str, EventRecord],
    known: Container[str] = (),
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
    collected = _Collected()
    token = evaluating.set(Evaluation("test", None, collected))
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
