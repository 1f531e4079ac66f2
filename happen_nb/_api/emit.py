"""Emit events: broadcast and send, from a node or a space."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from itertools import count
from typing import TYPE_CHECKING, Any, cast

from happen_nb._api.base import Duration, Timeout, faces
from happen_nb._api.events import Event, cancel_scheduled, cancel_with_commit, record_of, runtime_of_event
from happen_nb._api.reply import Reply
from happen_nb._api.schedule import check_room, due_at, scheduled_origin
from happen_nb._api.state_writer import PendingEvent
from happen_nb._journal.slice import event_at
from happen_nb._model import arguments, functions
from happen_nb._model.arguments import RESERVED, check_name
from happen_nb._model.freeze import dumps, freeze
from happen_nb._model.frozen import equal
from happen_nb._model.patterns import check_type
from happen_nb._model.quoting import quote
from happen_nb._model.records import EventRecord, HandledRecord, Origin
from happen_nb._runtime import causes, scheduling
from happen_nb._runtime.causes import current_evaluation, output_context
from happen_nb._runtime.io import on_io
from happen_nb._runtime.redirect import Redirected
from happen_nb._runtime.reply_ends import PendingReply
from happen_nb._runtime.stored_steps import DurableStep, emits
from happen_nb._runtime.writer import check_same
from happen_nb.errors import EventTypeError, IdTakenError, PayloadError, TooLargeError, TransformError

if TYPE_CHECKING:
    from happen_nb._api.node import Node
    from happen_nb._api.space import Space
    from happen_nb._runtime.runtime import Runtime

_ID = r"[A-Za-z0-9_-]{1,128}"
_tests = count(1)
_PARTS = frozenset(("type", "payload", "id", "occurred"))


class Sender:
    """Base of `Node` and `Space`: emits events under a name."""

    _sender: str
    _runtime: Redirected[Runtime]

    if TYPE_CHECKING:

        @property
        def _space(self) -> Space: ...

    async def _broadcast(
        self,
        type: str | Mapping[str, Any],
        payload: Any = None,
        *,
        id: str | None = None,
        occurred: datetime | str | None = None,
        after: Duration | None = None,
        at: datetime | None = None,
    ) -> Event:
        """Emit an event to every node of the space that has a handler for it, in every process.

        The event is stored when this returns. Inside a transform it is stored with the commit, and its Event
        is pending until then.

        Parameters
        ----------
        type : str or mapping
            Type of the event, 1 to 256 characters; or a mapping with ``type``, ``payload``, ``id`` and
            ``occurred``.
        payload : optional
            A value with a JSON form.
        id : str, optional
            1 to 128 of ``A-Z a-z 0-9 _ -``. An event with an id is stored once: the same id again returns
            the stored event.
        occurred : datetime, optional
            Event time, as opposed to the time of storage. By default, on a manual clock, the time of the
            space.
        after : float or timedelta, optional
            Seconds until the event is delivered, by the clock of the space. It is stored now, and is
            delivered once even if processes and servers are killed meanwhile. Until then, scheduling the same
            `id` again replaces time and payload.
        at : datetime, optional
            Deliver it at this time, or at once if that is in the past. A naive datetime is local time.

        Returns
        -------
        Event
            A scheduled one has ``.due`` and ``.cancel()``.

        Raises
        ------
        EventTypeError
            The type is not valid.
        PayloadError
            A part of the payload has no JSON form; the message names its path.
        TooLargeError
            The payload exceeds the server's limit, or the space has 200,000 scheduled events.
        ValueError
            The id belongs to an event with other content, or `after` or `at` is not a time that can be
            scheduled.
        NotStoredError, OutcomeUnknownError
            The call timed out.

        Examples
        --------
        >>> orders.broadcast("order.paid", {"id": "o1"}).payload
        {'id': 'o1'}
        >>> orders.broadcast("order.paid", {"id": "o1"}, id="pay-o1").repeated
        False
        >>> orders.broadcast("order.paid", {"id": "o1"}, id="pay-o1").repeated
        True
        >>> expiry = orders.broadcast("order.expired", {"id": "o2"}, after=3600, id="expire-o2")
        >>> orders.cancel("expire-o2")
        True
        """
        step = causes.next_step()
        record = self._make(type, payload, step, id=id, occurred=occurred, after=after, at=at)
        if current_evaluation():
            return self._pending(record).event
        return await self._store(record, step)

    broadcast, abroadcast = faces(_broadcast, in_transforms=True)

    async def _send(
        self,
        target: str | Node,
        type: str,
        payload: Any = None,
        *,
        timeout: Timeout = 30.0,
        after: Duration | None = None,
        at: datetime | None = None,
    ) -> Reply:
        """Send an event to one node, whose handler replies.

        Parameters
        ----------
        target : str or Node
            The node that handles the event.
        type : str
            Type of the event.
        payload : optional
            A value with a JSON form.
        timeout : float or timedelta, optional
            Seconds to wait for a result; None waits without limit. Each progress message restarts the
            timeout. When it expires, the handler is not cancelled. The timeout of a scheduled event starts
            when it is due.
        after, at : optional
            Deliver the event later, as for `broadcast`.

        Returns
        -------
        Reply
            ``.result()`` waits for the value that the handler returns.

        Examples
        --------
        >>> stock = inventory.on("stock.of", lambda event: {"pens": 3}[event.payload])
        >>> orders.send("inventory", "stock.of", "pens").result()
        3
        """
        seconds = arguments.timeout(timeout, "send: timeout")
        step = causes.next_step()
        target = self._name_of(target)
        if current_evaluation() or after is not None or at is not None:
            check_name(target, "node")  # the event would be stored for a node that cannot exist
        record = self._make(type, payload, step, target=target, after=after, at=at, call="send")
        if current_evaluation():
            pending = self._pending(record)
            request = pending.request = PendingReply(str(record.target), seconds)
            return Reply(request, pending.event, seconds, self._runtime)
        return await self._request(record, seconds, step)

    send, asend = faces(_send, in_transforms=True)

    async def _cancel(self, event_or_id: Event | str) -> bool:
        """Cancel a scheduled event.

        In a transform, the cancel is stored with the commit: both, or neither.

        Parameters
        ----------
        event_or_id : Event or str
            The event that ``broadcast`` returned, or the ``id`` that it was given.

        Returns
        -------
        bool
            True if the event is never delivered; False if it is too late, or nothing is scheduled.

        Examples
        --------
        >>> expiry = orders.broadcast("order.expired", after=3600, id="expire-o1")
        >>> commit = orders.state.set(lambda s: {**s, "paid": orders.cancel("expire-o1")})
        >>> commit.after
        {'paid': True}
        """
        return await cancel_scheduled(self._runtime, self._scheduled_id(event_or_id))

    cancel, acancel = faces(_cancel, in_transforms=True)

    def _scheduled_id(self, event_or_id: Any) -> str:
        if not isinstance(event_or_id, Event):
            return _checked_id(event_or_id, "cancel: the id")
        runtime, there = self._runtime, runtime_of_event(event_or_id)
        if there is not runtime:
            raise ValueError(
                f'cancel: the event "{event_or_id.type}" does not belong to the space '
                f'"{runtime.space}"; use event.cancel()'
            )
        return record_of(event_or_id).alarm_id

    def _make(
        self,
        type: Any,
        payload: Any,
        step: DurableStep | None,
        *,
        id: str | None = None,
        occurred: datetime | str | None = None,
        target: str | None = None,
        after: Any = None,
        at: Any = None,
        call: str = "broadcast",
    ) -> EventRecord:
        if isinstance(type, Mapping):
            type, payload, id, occurred = _parts(call, type, payload, id, occurred)
        runtime = self._runtime
        log = runtime.log
        type = str.__str__(check_type(type))
        origin = causes.current_origin()
        frozen = freeze(payload, what=f'payload of "{type}"', error=PayloadError)
        given = None if id is None else _checked_id(id)
        if given is None and step is not None:
            given = step.event_id
        due = due_at(runtime.clock, after, at, call, type)
        if due is not None:
            log.replica.note_look()  # at the clock: in a rerun, the handler begins before it moves on, too
        # After a delay also if its time is over by now: a rerun may be faster.
        is_delayed = bool(after) and not runtime.clock.manual
        scheduled = due is not None and (is_delayed or due > runtime.clock.now_text())
        id = (
            given
            or _recalled_id(runtime, self._sender, type, target, origin, scheduled=scheduled)
            or log.new_id()
        )
        alarm = None
        if scheduled:
            nonce = log.new_id() if step is None else f"{log.new_id()}:{step.key}"
            alarm, origin = f"{id} {nonce}", scheduled_origin(origin)
            check_room(log, id, call, type)
        time_of_space = (due if alarm else runtime.clock.now_text()) if runtime.clock.manual else None
        return EventRecord(
            id,
            type,
            self._sender,
            frozen,
            target,
            origin.cause,
            origin.correlation,
            origin.path,
            _moment(time_of_space if occurred is None else occurred),
            publish_id=None if given is None else log.new_id(),
            omitted=origin.omitted,
            due=due,
            alarm=alarm,
            key=None if step is None else step.key,
        )

    def _name_of(self, target: Any) -> str:
        if functions.is_a(target, str):
            return str.__str__(target)
        name, there = functions.attribute(target, "name"), functions.attribute(target, "space")
        if not isinstance(name, str) or there is None:
            raise TypeError(f"send: {quote(target)} is not a node; pass a Node, or its name")
        here = self._space
        if there is not here:
            raise ValueError(
                f'send: the node "{name}" belongs to the space "{there.name}", not to "{here.name}"; send '
                f'the event in that space, or pass the name "{name}" for the node of this space'
            )
        return name

    def _pending(self, record: EventRecord) -> PendingEvent:
        evaluation = current_evaluation()
        assert evaluation is not None
        space, runtime = self._space, self._runtime
        if evaluation.space is not space and evaluation.space is not None:
            raise TransformError(
                f'{evaluation.what} emits as "{self._sender}" in another space, '
                f'"{space.name}", but its events are stored with its commit; emit this one after state.set'
            )
        if record.alarm is not None:
            cancel_with_commit(runtime, evaluation, record.alarm_id)  # the same id again replaces it
            evaluation.cancelled[:] = [each for each in evaluation.cancelled if each.id != record.alarm_id]
        for earlier in evaluation.emitted if record.has_caller_id else ():
            if earlier.record.id == record.id:  # the caller's id again: one event, stored once
                check_same(record, earlier.record)
                return cast("PendingEvent", earlier)
        record = replace(record, body=dumps(record.payload))
        if evaluation.space is not None:
            _check_size(record, runtime.log.max_body)
        pending = PendingEvent(record, Event(record, runtime))
        evaluation.emitted.append(pending)
        return pending

    async def _store(self, record: EventRecord, step: DurableStep | None) -> Event:
        runtime = self._runtime
        log, contexts = runtime.log, runtime.dispatcher.contexts
        _check_size(record, log.max_body)
        if step is not None and (done := await self._done(step, record)) is not None:
            return done
        recall = runtime.dispatcher.recall
        if recall is not None and (taken := await recall.taken(record)) is not None:
            return Event(taken, runtime, repeated=True)
        await runtime.dispatcher.turn("emit", record.type, record)
        contexts[record.id] = output_context()
        waits = False
        try:
            deadline = time.monotonic() + log.timeout
            if record.alarm is None:
                stored = await runtime.writer.publish(record, deadline, step)
            else:
                stored = await on_io(scheduling.store(log, record, deadline, step))
                waits = stored.alarm is not None and stored.publish_id == record.publish_id
        except IdTakenError:
            if step is None or record.id != step.event_id:
                raise
            raise step.differs("another event", emits(record.type, record.target)) from None
        finally:
            if not waits:  # its handlers write to the cell that has scheduled it
                contexts.pop(record.id, None)
        repeated, moment = stored.publish_id != record.publish_id, runtime.clock.time_at(stored.sequence)
        event = Event(stored, runtime, repeated=repeated, moment=moment)
        runtime.on_own_event.emit(stored, event.repeated)
        return event

    async def _done(self, step: DurableStep, record: EventRecord) -> Event | None:
        """Return the event that a step of a durable handler emitted in an earlier run; None if it is new."""
        runtime = self._runtime
        log, does = runtime.log, emits(record.type, record.target)
        if log.steps.is_behind:
            await on_io(log.steps.reach_states(log.timeout))
        found = step.stored(does)
        if found is None:
            if step.is_past() and record.alarm is not None:  # it was cancelled or replaced since
                return Event(record, runtime, repeated=True)
            if step.is_past() and record.target is None:
                raise step.differs("nothing is emitted", does)
            return None
        stored = await on_io(event_at(log.stream, found.sequence, record.id))
        if stored is None:
            due = found.due or record.due
            return Event(replace(record, sequence=found.sequence, due=due), runtime, repeated=True)
        if not equal(stored.payload, record.payload):
            raise step.differs(f"{does} with the payload {quote(stored.payload)}", quote(record.payload))
        return Event(stored, runtime, repeated=True)

    async def _request(self, record: EventRecord, timeout: float, step: DurableStep | None) -> Reply:
        runtime = self._runtime
        request = PendingReply(str(record.target), timeout)
        event = Event(record, runtime)
        if step is not None:
            request.kept_at = runtime.log.subjects.reply(*_handled_by(), step.key)
            if (done := await self._done(step, record)) is not None:
                await on_io(runtime.dispatcher.resume(request, record_of(done)))
                return Reply(request, done, timeout, runtime)
            if step.is_past():  # it was not sent
                request.fail(runtime.dispatcher.no_owner(request.target, record.type))
                return Reply(request, event, timeout, runtime)
        if record.alarm is not None:
            runtime.replies.expect(request, record)
            return Reply(request, await self._store(record, step), timeout, runtime)
        if (known := _recalled_reply(runtime, record)) is not None:
            event = await self._store(record, step)
            await on_io(runtime.replies.recall(request, record_of(event), known))
            return Reply(request, event, timeout, runtime)
        if await on_io(runtime.dispatcher.prepare(request, record)):
            try:
                event = await self._store(record, step)
            except BaseException:
                runtime.replies.forget(record)
                raise
            if event.repeated:  # another process runs the handler, too, and was faster
                await on_io(runtime.dispatcher.resume(request, record_of(event)))
            else:
                await on_io(runtime.dispatcher.track(request))
        return Reply(request, event, timeout, runtime)


def event(
    type: str,
    payload: Any = None,
    *,
    sender: str = "notebook",
    target: str | None = None,
    id: str | None = None,
    occurred: datetime | str | None = None,
) -> Event:
    """Make an event for the test of a handler or a transform. It belongs to no space and is not stored.

    Parameters
    ----------
    type, payload, id, occurred
        As for ``broadcast``.
    sender : str, optional
        Name of the sender.
    target : str, optional
        Name of the node that it is sent to.

    Returns
    -------
    Event

    Raises
    ------
    EventTypeError, PayloadError, ValueError
        As for ``broadcast``; the sender or the target is not a valid name.

    Examples
    --------
    >>> def count(state, event):
    ...     return {**state, "sold": state["sold"] + event.payload["n"]}
    >>> count({"sold": 1}, happen.event("order.paid", {"n": 2}))
    {'sold': 3}
    """
    type = str.__str__(check_type(type))
    frozen = freeze(payload, what=f'payload of "{type}"', error=PayloadError)
    made = f"test-{next(_tests)}" if id is None else _checked_id(id, "event: id")
    if sender != RESERVED:
        check_name(sender, "node")
    if target is not None:
        check_name(target, "node")
    record = EventRecord(made, type, sender, frozen, target, occurred=_moment(occurred, "event: occurred"))
    return Event(record, None)  # type: ignore[arg-type]  # it belongs to no space


def _recalled_id(
    runtime: Runtime, sender: str, type: str, target: str | None, origin: Origin, *, scheduled: bool
) -> str | None:
    """Return the id that the event has in the first run, if this is a second one."""
    if runtime.recall is None:
        return None
    from happen_nb._model.past import cause_of, event_key

    key = event_key(sender, type, target, cause_of(origin), scheduled=scheduled)
    evaluation = current_evaluation()
    pending = None if evaluation is None else [each.record.id for each in evaluation.emitted]
    return runtime.recall.id_of(key, pending)


def _recalled_reply(runtime: Runtime, event: EventRecord) -> HandledRecord | None:
    """Return how a node of another process has replied in the first run, if this is a second one."""
    if runtime.recall is None or runtime.registrations.of(str(event.target)):
        return None
    return runtime.recall.reply(event.id, str(event.target))


def _handled_by() -> tuple[str, str]:
    """Return the event and the node that are handled in this context."""
    running = causes.current_scope()
    assert running is not None
    assert running.event is not None
    return running.event.id, running.node


def _checked_id(id: Any, what: str = "broadcast: id") -> str:
    problem = f"{what} is {quote(id)}; use 1 to 128 of A-Z a-z 0-9 _ -"
    if not isinstance(id, str):
        raise TypeError(problem)
    if not re.fullmatch(_ID, id):
        raise ValueError(problem)
    return str.__str__(id)


def _parts(call: str, event: Mapping[str, Any], *rest: Any) -> tuple[Any, Any, Any, Any]:
    if any(part is not None for part in rest):
        raise TypeError(f"{call}: pass a mapping with type and payload, or both as arguments")
    unknown = [key for key in event if key not in _PARTS]
    if unknown or "type" not in event:
        problem = f"{quote(unknown[0])} is not one of them" if unknown else 'it has no "type"'
        raise EventTypeError(f"{call}: an event has the keys type, payload, id and occurred; {problem}")
    return event["type"], event.get("payload"), event.get("id"), event.get("occurred")


def _moment(occurred: Any, what: str = "broadcast: occurred") -> str | None:
    if occurred is None:
        return None
    if not isinstance(occurred, str):
        return arguments.moment(occurred, what).isoformat()
    try:
        return datetime.fromisoformat(occurred).isoformat()
    except ValueError as error:
        raise ValueError(f"{what} is {quote(occurred)}; pass a datetime or an ISO 8601 string") from error


def _check_size(record: EventRecord, limit: int) -> None:
    size = len(dumps(record.payload))
    if size > limit:
        call = "broadcast" if record.target is None else "send"
        raise TooLargeError(
            f'{call} of "{record.type}": the payload has {size:,} bytes as JSON, but the server accepts '
            f"at most {limit:,}; store it elsewhere and send its name, or split it"
        )
