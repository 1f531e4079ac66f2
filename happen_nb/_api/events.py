"""Events of a space, and the tree of what an event caused."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from happen_nb._api.base import (
    Displayable,
    RecordSequence,
    Timeout,
    faces,
    frame,
    more_times,
    refuse_in_callback,
    shown_by,
    times,
)
from happen_nb._api.diagrams import SequenceDiagram, WaterfallDiagram
from happen_nb._journal.slice import read_handled
from happen_nb._model import arguments
from happen_nb._model.schedules import REAL_CLOCK, ClockMoves, from_ns, from_text
from happen_nb._runtime import causes, scheduling
from happen_nb._runtime.causes import Evaluation, current_evaluation
from happen_nb._runtime.effects import Effects, notice_held, read_effects, wait_handled
from happen_nb._runtime.io import on_io, run_blocking
from happen_nb._runtime.redirect import Redirected
from happen_nb._runtime.stored_steps import cancels
from happen_nb.errors import ClosedError, HappenError, HappenTimeoutError, HistoryGoneError, PendingError

if TYPE_CHECKING:
    import pandas as pd

    from happen_nb._model.causality import TraceNode
    from happen_nb._model.records import EventRecord
    from happen_nb._runtime.runtime import Runtime


class Event(Displayable):
    """A message in a space: ``broadcast`` emits it to every node, ``send`` to one.

    It has the fields `type`, `payload`, `id`, `sender`, `target`, `cause`, `correlation`, `path`, `time`,
    `occurred`, `due`, `sequence`, `index`, `pending`, `repeated` and `handled_by`. Two are equal if they are
    the same event of the same space, wherever you have them from.

    Attributes
    ----------
    repeated : bool
        True if an event with the same ``id`` was already stored, so that this one was not stored again.

    Examples
    --------
    >>> event = orders.broadcast("order.paid", {"id": "o1"})
    >>> event.type, event.payload, event.sender
    ('order.paid', {'id': 'o1'}, 'orders')
    """

    _page = shown_by("reprs_events.event_page")
    _pickle = "pickle its parts: event.type, event.payload, event.id"
    _runtime = Redirected["Runtime"]()

    def __init__(
        self, record: EventRecord, runtime: Runtime, *, repeated: bool = False, moment: int | None = None
    ) -> None:
        self._record = record
        self._runtime = runtime
        self.repeated = repeated
        self._moment = moment  # the time of the space at which it was stored, in ns; None if not looked up

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Event):
            return NotImplemented
        return self.id == other.id and space_of_event(self) == space_of_event(other)

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def type(self) -> str:
        """The type, by which handlers select events: ``"order.paid"``."""
        return self._record.type

    @property
    def payload(self) -> Any:
        """The payload: a frozen JSON value, or None."""
        return self._record.payload

    @property
    def id(self) -> str:
        """The id, unique in the space: generated, or the one that its sender gave."""
        return self._record.id

    @property
    def sender(self) -> str:
        """The name of the node that emitted it; ``"notebook"`` for the person at the notebook."""
        return self._record.sender

    @property
    def target(self) -> str | None:
        """The name of the node that it was sent to; None if it was broadcast."""
        return self._record.target

    @property
    def cause(self) -> str | None:
        """The id of the event whose handler emitted it; None for an event from a cell or a script."""
        return self._record.cause

    @property
    def correlation(self) -> str:
        """The id of the first event of its causal chain; its own id if it is the first."""
        return self._record.correlation or self._record.id

    @property
    def path(self) -> tuple[str, ...]:
        """The ids of its causes, from the first one to `cause`; empty for the first event of a chain."""
        return self._record.path

    @property
    def pending(self) -> bool:
        """True until the transform that emitted it has committed."""
        return not self._record.sequence

    @property
    def sequence(self) -> int | None:
        """The position in the space's journal; None while it is pending.

        The events of one commit share the sequence of the commit; `index` distinguishes them. The Event that
        the scheduling call returned has the position at which it was scheduled.
        """
        return self._record.sequence or None

    @property
    def index(self) -> int:
        """The position among the events of one commit, from 0."""
        return self._record.index

    @property
    def time(self) -> datetime | None:
        """The time at which the server stored it, in UTC and by its clock; None while it is pending."""
        return from_ns(self._record.time) if self._record.time else None

    @property
    def _stored(self) -> datetime | None:
        """The time of storage, for a display: by the clock of the space, if that is known without a look."""
        moment, runtime = self._moment, self._runtime
        if moment is None and runtime is not None:
            moment = runtime.clock.time_at(self._record.sequence)
        return self.time if moment is None else from_ns(moment)

    @property
    def occurred(self) -> datetime | None:
        """The event time that the sender gave, as opposed to the time of storage; None if it gave none."""
        occurred = self._record.occurred
        return None if occurred is None else datetime.fromisoformat(occurred)

    @property
    def due(self) -> datetime | None:
        """The time at which a scheduled event is delivered, in UTC and in the time of the space; else None.

        Examples
        --------
        >>> from datetime import UTC, datetime
        >>> event = orders.broadcast("order.expired", at=datetime(2050, 1, 1, tzinfo=UTC))
        >>> event.due.year
        2050
        """
        return None if self._record.due is None else from_text(self._record.due)

    async def _cancel(self) -> bool:
        """Cancel a scheduled event.

        In a transform, the cancel is stored with the commit. Cancelling the next call of an ``every`` also
        unregisters its handler, until its cell runs again.

        Returns
        -------
        bool
            True if it is never delivered. False if it is too late, or the event was not scheduled.

        Examples
        --------
        >>> event = orders.broadcast("order.expired", after=3600)
        >>> event.cancel(), event.cancel()
        (True, False)
        """
        self._check_space("cancel")
        return await cancel_scheduled(self._runtime, self._record.alarm_id)

    cancel, acancel = faces(_cancel, in_transforms=True)

    @property
    def handled_by(self) -> tuple[str, ...]:
        """The names of the nodes that have handled it, in any process, read from the journal.

        It is empty while the event is pending.

        Examples
        --------
        >>> counting = inventory.on("order.*", lambda event: None)
        >>> event = orders.broadcast("order.paid")
        >>> trace = event.settle()
        >>> event.handled_by
        ('inventory',)
        """
        return () if self.pending else run_blocking(self._handled_by())

    async def _handled_by(self) -> tuple[str, ...]:
        self._check_space("handled_by")
        log = self._runtime.log
        await on_io(self._runtime.dispatcher.handled.flush())
        records = await on_io(read_handled(log.stream, since=self._record.sequence))
        return tuple(dict.fromkeys(each.node for each in records if each.event == self.id and each.accepted))

    async def _settle(self, timeout: Timeout = 10.0) -> Trace:
        """Wait until everything that the event caused is committed and handled, in every process.

        Interrupting the kernel ends the wait.

        Parameters
        ----------
        timeout : float or timedelta, optional
            Seconds to wait; None waits without limit.

        Returns
        -------
        Trace
            The tree of its effects. It is read from the journal when you first access it.

        Raises
        ------
        HappenTimeoutError
            Something still runs after `timeout` seconds; the message names it.
        HappenError
            Called in a handler or callback, where it would wait for itself.
        ValueError
            The event is pending.

        Examples
        --------
        >>> counting = orders.on("order.*", lambda e: orders.state.set({"paid": 1}))
        >>> print(orders.broadcast("order.paid").settle())
        Trace of order.paid ...
        """
        seconds = arguments.timeout(timeout, "settle: timeout")
        self._check_space("settle")
        if self.pending:
            raise PendingError("settle: the event is pending until its transform has committed")
        refuse_in_callback("settle")
        runtime, effects = self._runtime.checked, Effects([self._record])
        handled = on_io(wait_handled(runtime, effects, time.monotonic() + seconds))
        left = await runtime.dispatcher.waits(handled)
        if left:
            raise HappenTimeoutError(f"settle: still running after {seconds:g} s: {', '.join(left)}")
        notice_held(runtime)
        return Trace(lambda: run_blocking(read_trace(self, self._runtime)))

    settle, asettle = faces(_settle)

    def _check_space(self, call: str) -> None:
        if self._runtime is None:
            raise HappenError(
                f'{call}: the event "{self.type}" belongs to no space; it comes from a recording or a test'
            )


async def read_trace(event: Event, runtime: Runtime) -> TraceNode:
    """Read from the journal of a space what an event has caused so far."""
    record, what = record_of(event), f'trace of "{event.type}"'
    try:
        log = runtime.log
    except ClosedError as error:
        error.add_note(
            f"The {what} was not read while the space was open; print it before you close the space."
        )
        raise
    if record.sequence <= log.cleared:
        raise HistoryGoneError(f"{what}: the space was cleared before the trace was read")
    (root,) = await on_io(read_effects(runtime, Effects([record])))
    return root


def record_of(event: Event) -> EventRecord:
    return event._record


async def stored_events_of(records: Sequence[EventRecord], runtime: Runtime) -> list[Event]:
    """Return stored events with their times by the clock of the space."""
    clock = await runtime.clock.moves(max((record.sequence for record in records), default=0))
    return [Event(record, runtime, moment=clock.time_of_space(record.time)) for record in records]


async def cancel_scheduled(runtime: Runtime, id: str) -> bool:
    """Cancel the event scheduled under an id, in a transform with its commit; False if it is too late."""
    evaluation = current_evaluation()
    if evaluation is not None:
        return cancel_with_commit(runtime, evaluation, id)
    log = runtime.log
    log.replica.note_look()
    await runtime.dispatcher.turn("cancel", id)
    origin = causes.current_origin()  # a handler that was cancelled cannot change anything
    step = causes.next_cancel()
    if step is not None and log.steps.is_behind:
        await on_io(log.steps.reach_states(log.timeout))
    deadline = time.monotonic() + log.timeout
    late: int | None = await on_io(scheduling.cancel(log, id, deadline, step, origin=origin))
    if step is not None and late is not None and step.stored(cancels(id)) is not None:
        late = None  # an earlier run, or one in another process, has done it
    if late is not None:
        causes.note_late(id, late)
        return False
    runtime.dispatcher.contexts.pop(id, None)
    runtime.dispatcher.ticks.end(id)
    return True


def cancel_with_commit(runtime: Runtime, evaluation: Evaluation, id: str) -> bool:
    """Cancel the event that is scheduled under an id together with the commit of a transform."""
    dropped = [each for each in evaluation.emitted if each.record.alarm and each.record.alarm_id == id]
    for each in dropped:
        evaluation.emitted.remove(each)
    alarm = runtime.log.alarms.get(id)
    if alarm is not None and alarm not in evaluation.cancelled:
        evaluation.cancelled.append(alarm)
    return alarm is not None or bool(dropped)


def runtime_of_event(event: Event) -> Runtime | None:
    """Return the runtime of an event's space; None for an event of a test."""
    return event._runtime


def space_of_event(event: Event) -> str | None:
    """Return the name of an event's space; None for an event of a test or a recording."""
    runtime = runtime_of_event(event)
    return None if runtime is None else runtime.space


def update_event(event: Event, record: EventRecord, *, repeated: bool) -> None:
    """Give a pending event the record that was stored with the commit of its transform."""
    event._record = record
    event.repeated = repeated


class Events(RecordSequence[Event]):
    """Stored events of a space: a sequence, newest last.

    Attributes
    ----------
    space : str
        The name of the space.
    pattern : str
        The pattern that their types match.
    """

    _page = shown_by("reprs_events.events_page")
    _pickle = "pickle events.to_frame()"

    def __init__(self, space: str, pattern: str, events: Sequence[Event]) -> None:
        self.space = space
        self.pattern = pattern
        self._items = list(events)

    def to_frame(self, *, flatten: bool = True) -> pd.DataFrame:
        """Return a frame with one row per event.

        Parameters
        ----------
        flatten : bool, optional
            Make a column ``payload.<key>`` for each key of the payloads instead of one column ``payload``.

        Returns
        -------
        pandas.DataFrame
            Index ``sequence``. Columns: ``time`` in UTC, ``type``, ``sender``, ``id``, ``cause``,
            ``correlation``, ``space_time`` on a manual clock, ``occurred`` if given, and the payload. Values
            keep their types; ``frame.convert_dtypes()`` makes numbers with None numeric.

        Examples
        --------
        >>> event = orders.broadcast("order.paid", {"id": "o1", "price": 3})
        >>> space.events().to_frame()[["type", "payload.price"]].values.tolist()
        [['order.paid', 3]]
        """
        return event_frame(self, ("type", "sender", "id", "cause", "correlation"), flatten=flatten)


def event_frame(
    events: Sequence[Event], names: Sequence[str], *, flatten: bool, **first: Sequence[Any]
) -> pd.DataFrame:
    """Make a frame with the `first` columns, then the times of events, named attributes, and payloads."""
    import pandas as pd

    data: dict[str, Any] = {**first, "time": times(event.time for event in events)}
    for name in names:
        data[name] = [getattr(event, name) for event in events]
    data |= more_times(events)
    payloads = [event.payload for event in events]
    is_flat = arguments.truth(flatten, "to_frame: flatten")
    data |= flattened(payloads) if is_flat else {"payload": payloads}
    return frame(pd.Index([event.sequence for event in events], name="sequence"), data)


def flattened(payloads: Sequence[Any]) -> dict[str, list[Any]]:
    """Make a column for each key of the payloads, and one for payloads that are not mappings."""
    mappings = [payload if isinstance(payload, Mapping) else {} for payload in payloads]
    keys = dict.fromkeys(key for payload in mappings for key in payload)
    columns = {f"payload.{key}": [payload.get(key) for payload in mappings] for key in keys}
    others = [None if isinstance(payload, Mapping) else payload for payload in payloads]
    return {**columns, "payload": others} if any(other is not None for other in others) else columns


class Trace(Displayable):
    """The tree of events and commits that an event caused, with their handlers, durations and errors.

    Iterating yields each `TraceNode` of the tree.

    Attributes
    ----------
    times : bool
        True if its text shows durations.

    Examples
    --------
    >>> trace = orders.broadcast("order.paid").settle()
    >>> [node.event.type for node in trace]
    ['order.paid']
    """

    _page = shown_by("changes.trace_page")

    def __init__(
        self, read: Callable[[], TraceNode], *, times: bool = False, clock: ClockMoves = REAL_CLOCK
    ) -> None:
        self._read = read
        self.times = times
        self._clock = clock

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "times": self.times, "_clock": self._clock}

    @cached_property
    def root(self) -> TraceNode:
        """The event itself; its ``children`` are its direct effects, and so on.

        The trace that ``event.settle`` returns is read from the journal when you first access it.
        """
        return self._read()

    def __iter__(self) -> Iterator[TraceNode]:
        return iter(self.root)

    def sequence(
        self, *, times: bool = True, merge: bool = True, width: int | None = None
    ) -> SequenceDiagram:
        """Draw the trace as a sequence diagram.

        Parameters
        ----------
        times : bool, optional
            Show the time since the start at each row.
        merge : bool, optional
            Show branches that differ only in their values once, with their number.
        width : int, optional
            Width in pixels, if the lanes fit into it. By default, the picture fits narrow and wide pages.

        Returns
        -------
        SequenceDiagram

        Examples
        --------
        >>> print(orders.broadcast("order.paid").settle().sequence().mermaid)
        sequenceDiagram
          participant n0 as orders
          Note over n0: order.paid (no handler)
        """
        return SequenceDiagram(self._title, [self.root], times=times, merge=merge, width=width)

    def waterfall(self, *, width: int | None = None) -> WaterfallDiagram:
        """Draw the handlings and commits on one time axis, with start and duration.

        Parameters
        ----------
        width : int, optional
            Width in pixels. Without it, the picture fits narrow and wide pages.

        Returns
        -------
        WaterfallDiagram

        Examples
        --------
        >>> counting = inventory.on("order.*", lambda event: None)
        >>> trace = orders.broadcast("order.paid").settle()
        >>> trace.waterfall()
        Waterfall of order.paid · ...
          order.paid → inventory · <lambda> ...
        """
        return WaterfallDiagram(self._title, self.root, width=width)

    @property
    def _title(self) -> str:
        return "a commit" if self.root.event is None else self.root.event.type

    @property
    def failures(self) -> list[str]:
        """The error of each handling that failed."""
        return [each.error or "" for each in self.root.failures]
