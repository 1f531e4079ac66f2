"""State handlers: transforms that apply events to the state of a node."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from happen_nb._api.events import Event, record_of
from happen_nb._api.handlers import check_tick, checked_tick_id, register, start_ticks, waiting_text
from happen_nb._api.history import position_after
from happen_nb._api.state_writer import announce, conclude, withdraw
from happen_nb._model.arguments import check_label, is_moment, moment, to_utc, truth
from happen_nb._model.functions import check_condition, event_call, truth_of
from happen_nb._model.patterns import Pattern
from happen_nb._model.positions import (
    LAST_INDEX,
    MAX_KEY_LENGTH,
    MAX_SKIPPED,
    START,
    Position,
    handler_key,
    has_room,
)
from happen_nb._model.quoting import quote
from happen_nb._model.records import Cut, check_viewed, checked_body, is_stored, unstored
from happen_nb._runtime import causes
from happen_nb._runtime.causes import Evaluation, output_context
from happen_nb._runtime.cells import cells, notice
from happen_nb._runtime.evaluation import Refused, Unusual
from happen_nb._runtime.io import on_io, run_blocking
from happen_nb._runtime.lanes import is_catching_up
from happen_nb._runtime.progress import StateHandler
from happen_nb._runtime.registrations import Registration
from happen_nb._runtime.replica import records_at
from happen_nb._runtime.ticks import TYPE
from happen_nb._runtime.writer import CommitRequest
from happen_nb.errors import (
    HistoryGoneError,
    NoHandlerError,
    NotStoredError,
    OutcomeUnknownError,
    TooLargeError,
)

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Sequence

    from happen_nb._api.state_writer import PendingEvent, StateWriter
    from happen_nb._model.frozen import FrozenDict
    from happen_nb._model.records import CommitRecord, EventRecord
    from happen_nb._runtime.precedence import Contender
    from happen_nb._runtime.registrations import Orphan
    from happen_nb._runtime.runtime import Runtime

logger = logging.getLogger("happen_nb")

MAX_FOLDED = 255  # maximum number of events that one commit applies besides its first
MAX_FOLDED_CHARACTERS = 10_000  # maximum length of their ids, which a header of the commit lists


async def register_state_handler(
    writer: StateWriter,
    runtime: Runtime,
    pattern: Any,
    transform: Any,
    where: Any,
    start: Any,
    name: Any,
    *,
    fold: bool,
    keep: bool,
) -> None:
    """Check the arguments of ``state.on``, store the start position, and register the handler."""
    node = writer.node
    call, takes_views = event_call(transform, f'state.on: the transform of node "{node}"')
    if where is not None:
        check_condition(where, "state.on: where")
    found = Pattern.of(pattern)
    if name is not None:
        check_label(name, "state.on: name", most=MAX_KEY_LENGTH)
    truth(fold, "state.on: fold")
    truth(keep, "state.on: keep")
    key = handler_key(found.text, transform, name)
    registration = _make(
        writer,
        runtime,
        found,
        transform,
        call,
        key,
        takes_views=takes_views,
        fold=fold,
        where=where,
        keep=keep,
    )
    position = await _start_position(runtime, start)
    stored = runtime.dispatcher.progress
    is_new = await on_io(stored.prepare(registration, position, runtime.deadline()))
    orphan = await on_io(stored.orphan(registration)) if is_new else None
    await register(runtime, registration)
    if runtime.clock.manual:  # what it catches up with comes before what happens next, in each run
        await on_io(runtime.in_flight.drain(is_catching_up, runtime.deadline()))
    if orphan is not None:
        notice(_continuation(registration, orphan))


async def register_state_every(
    writer: StateWriter, runtime: Runtime, period: float, transform: Any, id: Any
) -> None:
    """Register a transform that is applied again and again, and schedule the first time."""
    call, takes_views = event_call(transform, f'state.every: the transform of node "{writer.node}"')
    key = handler_key(TYPE, transform, checked_tick_id(id, "state.every"))
    registration = _make(writer, runtime, Pattern.of(TYPE), transform, call, key, takes_views=takes_views)
    check_tick(registration, key, period)
    await on_io(runtime.dispatcher.progress.prepare(registration, None, runtime.deadline()))
    await start_ticks(runtime, registration)


def _make(
    writer: StateWriter,
    runtime: Runtime,
    pattern: Pattern,
    transform: Any,
    call: Any,
    key: str,
    *,
    takes_views: bool,
    fold: bool = False,
    **options: Any,
) -> Registration:
    """Make the registration of a state handler; TooLargeError if the node has too many."""
    keys = {each.state.key for each in runtime.registrations.of(writer.node) if each.state is not None}
    if not has_room(keys | {key}):
        raise TooLargeError(
            f'state.on: node "{writer.node}" has {len(keys):,} state handlers; each commit carries the '
            "positions of all of them, and more do not fit. Register one handler for several types of "
            "events, or use several nodes"
        )
    handler = StateHandler(key, takes_views=takes_views, fold=fold)
    run = {"run": cells.current_run(), "place": cells.run_name()}
    registration = Registration(writer.node, pattern, transform, state=handler, **{**run, **options})
    if registration.follows_reloads:
        call = partial(_call_current, registration, call)
    applier = _Applier(writer, runtime, registration, handler, call)
    handler.apply, handler.evaluate = applier.apply, applier.evaluate
    return registration


def _call_current(registration: Registration, call: Any, state: Any, event: Any, views: Any) -> Any:
    """Call the transform as it is now: its module may have been reloaded."""
    transform = registration.current()
    if transform is not registration.handler:
        call, _ = event_call(transform, f'state.on: the transform of node "{registration.node}"')
    return call(state, event, views)


def copied_state_handler(original: Registration, writer: StateWriter, runtime: Runtime) -> Registration:
    """Return the registration of a state handler for the same node of a fork."""
    state = original.state
    assert state is not None
    call, _ = event_call(original.handler, "state.on: the transform")
    return _make(
        writer,
        runtime,
        original.pattern,
        original.handler,
        call,
        state.key,
        takes_views=state.takes_views,
        fold=state.fold,
        where=original.where,
        run=original.run,
        place=original.place,
        keep=original.keep,
        context=original.context,
        tick=original.tick,
        period=original.period,
    )


def _continuation(new: Registration, orphan: Orphan) -> str:
    waiting = waiting_text(orphan.waiting)
    return (
        f'node "{new.node}": no handler continues "{orphan.key}", {waiting} for it; to continue it, register '
        f"{new.name} with name={orphan.key!r}"
    )


async def _start_position(runtime: Runtime, start: Any) -> Position | None:
    if isinstance(start, str):
        if start not in ("now", "beginning"):
            raise ValueError(
                f'state.on: start is {quote(start)}; pass "now", "beginning", an Event, a datetime or an int'
            )
        return None if start == "now" else START
    if start is None:
        raise TypeError('state.on: start is None; pass "now", "beginning", an Event, a datetime or an int')
    if is_moment(start):
        now = runtime.clock.now()
        if not runtime.clock.manual:
            now = max(now, datetime.now(UTC))  # the server's clock may be behind the caller's
        if to_utc(moment(start, "start")) > now:
            raise ValueError(
                f"state.on: start is {start}, which is in the future (now is {now}); register the handler at "
                'that time, or pass start="now" and a where that compares event.time with it'
            )
    sequence, index = await position_after(runtime.log, start, "start")
    if sequence > (last := (await on_io(runtime.log.stream.exact_info())).last):
        raise ValueError(
            f"state.on: start is {quote(start)}, which is in the future (the newest sequence is {last:,}); "
            'pass "now" to start with the next event'
        )
    return (sequence, index) if index >= 0 else (sequence - 1, LAST_INDEX)


@dataclass(slots=True, eq=False)
class _Evaluated:
    """The result of a transform, an `Outcome`."""

    runtime: Runtime
    record: CommitRecord
    emitted: Sequence[PendingEvent] = ()
    output: contextvars.Context | None = None

    def changes(self, base: CommitRecord | None) -> bool:
        record = self.record
        return bool(record.events) or not is_stored(base, record.state, record.body or b"")

    def announce(self) -> None:
        announce(self.runtime, self.emitted, self.output)

    def withdraw(self) -> None:
        withdraw(self.runtime, self.emitted)

    def conclude(self, events: dict[str, EventRecord]) -> None:
        for each in self.emitted:
            self.runtime.dispatcher.contexts.pop(each.record.id, None)
        for request in conclude(self.emitted, events):
            self.runtime.log.background(self.runtime.dispatcher.track(request))


@dataclass(slots=True, eq=False)
class _Applier:
    """Applies events to the state of a node by a state handler."""

    writer: StateWriter
    runtime: Runtime
    registration: Registration
    handler: StateHandler
    call: Any  # call(state, event, views)

    def apply(self, event: Event, snapshot: Cut | None, error: BaseException | None) -> None:
        run_blocking(self._apply(event, snapshot, error))

    async def _apply(self, event: Event, snapshot: Cut | None, error: BaseException | None) -> None:
        """Commit the result of the transform for an event, unless that is done; or fail with its error.

        The commit is refused if anything was stored on the node since; the loop then reads that.
        """
        writer, runtime, registration, handler = self.writer, self.runtime, self.registration, self.handler
        log, dispatcher, position = runtime.log, runtime.dispatcher, record_of(event).position
        node = writer.node
        known: dict[str, EventRecord] = {}
        in_turn = False
        with runtime.precedence.contender(node) as contender:
            while True:
                newest = log.replica.cut_of(node)
                base = newest.nodes.get(node)
                positions = log.replica.positions(node, base)
                if positions is None:
                    positions = await on_io(dispatcher.progress.positions(node, base))
                progress = handler.progress(positions)
                if handler.is_done(position, progress):
                    self._check_retry(event, position)
                    return
                late = position in progress.skipped
                evaluation = Evaluation(node, writer.space)
                try:
                    _raise(error)
                    new = await self._evaluated(event, newest, snapshot, evaluation)
                    last, folded = position, tuple[str, ...]()
                    if handler.fold and not late:
                        first = record_of(event).id
                        new, last, folded = await self._fold(new, first, position, newest, evaluation)
                    body = checked_body(node, base, new)
                    writer.check_size(new, body)
                except BaseException:
                    if await on_io(dispatcher.lanes.leave(registration, position)):
                        return  # another process applies it
                    handler.fail(position)
                    dispatcher.progress.pass_soon(node)
                    raise
                emits = bool(evaluation.cancelled) or any(
                    each.record.id not in known for each in evaluation.emitted
                )
                stays = not late and not emits and is_stored(base, new, body)
                after = progress.after(last, handler.failed - {position})
                others = positions if late else dispatcher.progress.carried(registration, positions, position)
                change = CommitRequest.after(
                    newest,
                    unstored(
                        node,
                        new,
                        body,
                        causes.current_origin(),
                        positions={**others, handler.key: after},
                        folded=folded,
                    ),
                    cancels=evaluation.cancelled,
                )
                deadline = runtime.deadline()
                if stays or await self._is_committed(
                    change, deadline, evaluation, known, in_turn=in_turn, contender=contender
                ):
                    handler.pass_over(last, [position])
                    if stays:
                        dispatcher.progress.pass_soon(node)
                    else:
                        handler.recorded(progress, after, position)
                    return
                contender.lose()
                in_turn = True  # it depends on nothing but the newest state of the node

    async def _evaluated(
        self,
        event: Event,
        newest: Cut,
        snapshot: Cut | None,
        evaluation: Evaluation,
        current: FrozenDict | None = None,
    ) -> FrozenDict:
        """Run the transform on the newest state, or on `current`; views show the states as of the event."""
        if self.handler.takes_views and snapshot is None:
            snapshot = await _states_at(self.runtime.log, record_of(event).sequence)
        new, viewed = self.writer.evaluate(
            lambda stored, views: self.call(stored if current is None else current, event, views),
            newest,
            evaluation,
            snapshot or newest,
        )
        if snapshot is not None:
            check_viewed(snapshot, viewed)
        return new

    async def _fold(
        self, new: FrozenDict, first: str, position: Position, newest: Cut, evaluation: Evaluation
    ) -> tuple[FrozenDict, Position, tuple[str, ...]]:
        """Apply the events that wait, too, and return their ids; one that fails does so in its own turn.

        `first` is the id of the event that is applied. A second run applies those that the first one did.
        """
        runtime, registration = self.runtime, self.registration
        ids, size = list[str](), 0
        then = None if runtime.recall is None else runtime.recall.folded(first, self.writer.node)
        for record, snapshot in runtime.dispatcher.lanes.ahead(registration, MAX_FOLDED):
            if then is not None and then.issubset(ids):
                break
            event = Event(record, runtime)
            emitted, cancelled = len(evaluation.emitted), len(evaluation.cancelled)
            try:
                matches = registration.pattern.matches(record.type)
                where = registration.where
                with causes.handling(record):
                    if matches and (where is None or truth_of(where(event), "where")):
                        new = await self._evaluated(event, newest, snapshot, evaluation, new)
                        ids.append(record.id)
            except Exception:
                del evaluation.emitted[emitted:], evaluation.cancelled[cancelled:]
                break
            position = record.position
            size += len(record.id) + 1
            if size > MAX_FOLDED_CHARACTERS:
                break
        return new, position, tuple(ids)

    async def _is_committed(
        self,
        change: CommitRequest,
        deadline: float,
        evaluation: Evaluation,
        known: dict[str, EventRecord],
        *,
        in_turn: bool,
        contender: Contender,
    ) -> bool:
        """Store a commit; False if something was stored before it, or if that is not known."""
        try:
            applied = await self.writer.commit(
                change, deadline, evaluation.emitted, known, in_turn=in_turn, contender=contender
            )
        except (NotStoredError, OutcomeUnknownError) as error:
            logger.info('node "%s" applying an event: %s; trying again', change.record.node, error)
            return False
        return applied is not None

    def _check_retry(self, event: Event, position: Position) -> None:
        """Refuse an event that the handler never applied, although it is before its newest one."""
        handler, node, name = self.handler, self.writer.node, self.registration.name
        if position in handler.forgotten:
            raise HistoryGoneError(
                f'node "{node}": "{event.type}" can no longer be applied, since more than {MAX_SKIPPED} '
                "later events failed; broadcast it again"
            )
        if START < position <= handler.start:
            raise NoHandlerError(
                f'node "{node}": {name} starts after this "{event.type}" and does not apply it; '
                'register the handler under another name with start="beginning", or broadcast the event again'
            )

    def evaluate(self, event: EventRecord, record: CommitRecord | None, snapshot: Cut | None) -> _Evaluated:
        """Run the transform on the state of a record, in a context of its own.

        Raises Refused if the filter does not accept the event, and Unusual if the filter raised, or the
        transform gives an event an id, schedules or cancels events.
        """
        writer, runtime, registration, node = self.writer, self.runtime, self.registration, self.writer.node
        scope = causes.HandlerScope(node, registration.name, event=event)
        scope.users = 1
        causes.enter(scope, runtime.dispatcher.redirect)
        try:
            given = Event(event, runtime)
            if registration.where is not None and not _accepts(registration.where, given):
                raise Refused
            evaluation = Evaluation(node, writer.space)
            if snapshot is not None:
                current = Cut({} if record is None else {node: record}, event.sequence, 0)
                new, viewed = writer.evaluate(
                    lambda state, views: self.call(state, given, views), current, evaluation, snapshot
                )
                check_viewed(snapshot, viewed)
            else:
                new = writer.compute(self.call, record, evaluation, given, None)
            event.check()
            body = checked_body(node, record, new)
            writer.check_size(new, body)
            if evaluation.cancelled:
                raise Unusual
            emitted, origin = evaluation.emitted, scope.checked_origin()
            if not emitted:
                return _Evaluated(runtime, unstored(node, new, body, origin))
            for each in emitted:
                if each.record.has_caller_id or each.record.alarm is not None:
                    raise Unusual
                each.record.check()  # the transform could change its payload in place
            events = tuple([each.record for each in emitted])
            return _Evaluated(runtime, unstored(node, new, body, origin, events), emitted, output_context())
        finally:
            scope.release()


def _accepts(where: Callable[[Event], object], event: Event) -> bool:
    try:
        return truth_of(where(event), "where")
    except BaseException:
        raise Unusual from None


def _raise(error: BaseException | None) -> None:
    if error is not None:
        raise error


async def _states_at(log: Any, sequence: int) -> Cut:
    """Read the states of all nodes at the time when an event was stored."""
    states: dict[str, CommitRecord] = {}
    for name, record in (await on_io(records_at(log, sequence))).items():
        if isinstance(record, HistoryGoneError):
            raise record
        states[name] = record
    return Cut(states, sequence, 0)
