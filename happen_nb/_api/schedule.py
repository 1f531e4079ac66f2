"""The clock of a space: scheduled events, and moving a manual clock."""

from __future__ import annotations

import math
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from happen_nb._api.base import (
    Displayable,
    SpacePart,
    Timeout,
    bundle_of,
    faces,
    refuse_in_callback,
    shown_by,
    times,
)
from happen_nb._api.events import Event, Events
from happen_nb._journal.alarms import MAX_SCHEDULED_EVENTS
from happen_nb._journal.slice import alarms_at
from happen_nb._model import arguments
from happen_nb._model.quoting import quote
from happen_nb._model.schedules import from_text, utc_text
from happen_nb._runtime.causes import current_evaluation
from happen_nb._runtime.cells import notice
from happen_nb._runtime.clock import Advancer, Clock
from happen_nb._runtime.io import on_io, run_blocking
from happen_nb.errors import ClockError, TooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    import pandas as pd

    from happen_nb._api.failures import Failures
    from happen_nb._model.records import EventRecord, Origin
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.replica import Applied
    from happen_nb._runtime.runtime import Runtime

MAX_SCHEDULED_PATH: Final = 100
"""Maximum number of causes of a scheduled event, since a chain through time may be endless."""


def due_at(clock: Clock, after: Any, at: Any, call: str, type: str) -> str | None:
    """Return the time at which an event is due, or None if it is not scheduled.

    Raises TypeError if both are given, or one of them is not a duration or a datetime; ValueError if it is
    negative, NaN, or later than any server can deliver.
    """
    if after is None and at is None:
        return None
    if after is not None and at is not None:
        raise TypeError(f"{call}: pass after or at, not both")
    name, value = ("at", at) if after is None else ("after", after)
    try:
        if after is not None:
            moment = clock.after(arguments.seconds(after, f"{call}: after", endless=False, most=math.inf))
        else:
            moment = arguments.to_utc(arguments.moment(at, f"{call}: at"))
            clock.check(moment)
    except OverflowError:
        last = "10000" if clock.manual else "2200, which is as far as a server delivers"
        raise ValueError(f"{call}: {name} is {quote(value)}; pass a time before the year {last}") from None
    if at is not None and moment < clock.now():
        notice(f'{call}: at is in the past; "{type}" is delivered now')
    return utc_text(moment)


def check_room(log: Log, id: str, call: str, type: str) -> None:
    """Raise TooLargeError if as many events as possible are scheduled, and none under the id of this one."""
    evaluation = current_evaluation()
    pending = 0 if evaluation is None else sum(each.record.alarm is not None for each in evaluation.emitted)
    if not log.alarms.has_room(id, pending):
        raise TooLargeError(
            f'{call}: "{type}" is not scheduled: the space "{log.subjects.space}" has {len(log.alarms):,} '
            f"scheduled events, and the limit is {MAX_SCHEDULED_EVENTS:,}, since each process keeps them in "
            "memory. Wait until some are delivered, use node.every, or cancel some with "
            "space.scheduled.cancel()"
        )


def scheduled_origin(origin: Origin) -> Origin:
    """Return the origin of a scheduled event.

    A process that continues over time, such as an arrival that schedules the next one, is not a loop, so its
    path is limited.
    """
    if origin.depth < MAX_SCHEDULED_PATH:
        return origin
    return origin._replace(path=origin.path[-MAX_SCHEDULED_PATH // 2 :], omitted=0)


# -- the scheduled events --------------------------------------------------------------------------------


class ScheduledEvents(Events):
    """The scheduled events of a space: a sequence, by due time.

    Attributes
    ----------
    space : str
        The name of the space.
    """

    _page = shown_by("reprs_events.scheduled_page")

    def cancel(self) -> int:
        """Cancel all of them, and return the number of those that are never delivered.

        Each ``every`` ends: its handler is unregistered, until its cell runs again.

        Examples
        --------
        >>> for hours in (2, 1):
        ...     event = orders.broadcast("order.expired", {"hours": hours}, after=hours * 3600)
        >>> [event.payload["hours"] for event in space.scheduled]
        [1, 2]
        >>> space.scheduled.cancel(), len(space.scheduled)
        (2, 0)
        """
        return sum(event.cancel() for event in self)

    def to_frame(self, *, flatten: bool = True) -> pd.DataFrame:
        """Return the frame of ``Events.to_frame`` with a first column ``due``, in UTC.

        Parameters
        ----------
        flatten : bool, optional
            Make a column ``payload.<key>`` for each key of the payloads instead of one column ``payload``.

        Returns
        -------
        pandas.DataFrame
            One row per event, by due time.

        Examples
        --------
        >>> event = orders.broadcast("order.expired", after=3600)
        >>> due = space.scheduled.to_frame()["due"]
        >>> due.tolist() == [event.due]
        True
        """
        table = super().to_frame(flatten=flatten)
        table.insert(0, "due", times(event.due for event in self))
        return table


def scheduled_events(space: str, records: Iterable[EventRecord], runtime: Runtime) -> ScheduledEvents:
    return ScheduledEvents(space, "**", [Event(record, runtime) for record in records])


async def read_scheduled(runtime: Runtime) -> list[EventRecord]:
    """Read the scheduled events, by due time and order of scheduling. On the IO thread."""
    log = runtime.log
    await log.fresh(log.timeout)
    alarms = log.alarms.by_due()
    events = [alarm.event for alarm in alarms if alarm.event is not None]
    if len(events) == len(alarms):  # on a manual clock they are at hand
        return events
    return await alarms_at(log.stream, [alarm.sequence for alarm in alarms])


async def read_next(
    runtime: Runtime, limit: int, known: Iterable[EventRecord]
) -> tuple[list[EventRecord], int]:
    """Read the next scheduled events, by due time, and the number of all. On the IO thread.

    Those that are `known` are not read again.
    """
    log = runtime.log
    found = {event.alarm: event for event in known}
    alarms = log.alarms.next(limit)
    found |= {alarm.name: alarm.event for alarm in alarms if alarm.event is not None}
    missing = [alarm.sequence for alarm in alarms if alarm.name not in found]
    found |= {event.alarm: event for event in await alarms_at(log.stream, missing)}
    return [found[alarm.name] for alarm in alarms if alarm.name in found], len(log.alarms)


# -- moving a manual clock ---------------------------------------------------------------------------------


class Advance(Displayable):
    """The result of ``space.advance``: the time that the clock has reached, and the numbers of events.

    Attributes
    ----------
    events, commits, failures : int
        Numbers of events, commits and failures, without those that the clock has waited for before it moved.
    """

    _page = shown_by("reprs_events.advance_page")
    _pickle = "pickle its parts: advance.now, advance.events, advance.commits"

    def __init__(self, clock: Clock, target: str | None) -> None:
        from happen_nb._display.live_output import LiveOutput

        self.events = 0
        self.commits = 0
        self.failures = 0
        self.running = True
        self._clock = clock
        self._start = self._now = clock.now()
        self._target = None if target is None else from_text(target)
        self._output = LiveOutput(lambda: bundle_of(self), lambda: not self.running)

    @property
    def now(self) -> datetime:
        """The time of the space at the end, in UTC."""
        return self._clock.now() if self.running else self._now

    @property
    def share(self) -> float | None:
        """The share that is done, 0 to 1; None if the end is not known."""
        if self._target is None or self._target <= self._start:
            return None
        return (self.now - self._start) / (self._target - self._start)

    def _ipython_display_(self) -> None:
        if not self._output.started:
            raise NotImplementedError  # else it is shown already

    def _end(self) -> None:
        self._now, self.running = self._clock.now(), False
        self._output.finish()


def target_of(clock: Clock, by: Any, to: Any, parts: Mapping[str, float]) -> str | None:
    """Return the time to which ``space.advance`` moves the clock; None for the next due one."""
    given = [each for each in (by, to, parts or None) if each is not None]
    if len(given) != 1:
        raise TypeError(
            'advance: pass one of by, to, or parts such as hours=2; to="next" moves to the next due time'
        )
    now = clock.now()
    if isinstance(to, str):
        if to != "next":
            raise ValueError(f'advance: to is {quote(to)}; pass "next", a datetime or a scheduled Event')
        return None
    try:
        if to is None:
            what = "advance: by" if by is not None else f"advance: {_given(parts)}, which"
            value = _duration(parts) if by is None else by
            moment = now + timedelta(seconds=arguments.seconds(value, what, endless=False, most=math.inf))
        elif isinstance(to, Event):
            if to.due is None:
                raise ValueError(f'advance: the event "{to.type}" is not scheduled')
            moment = to.due
        else:
            moment = arguments.to_utc(arguments.moment(to, "advance: to"))
    except OverflowError:
        raise ValueError("advance: the time is beyond the year 9999") from None
    if moment < now:
        raise ValueError(
            f"advance: to is {moment.isoformat()}, but the clock is at {now.isoformat()}; it cannot go back"
        )
    return utc_text(moment)


def _given(parts: Mapping[str, float]) -> str:
    return ", ".join(f"{name}={quote(value)}" for name, value in parts.items())


def _duration(parts: Mapping[str, float]) -> timedelta:
    from numbers import Real

    message = f"advance: {_given(parts)} is not a duration; pass numbers of days, hours, minutes or seconds"
    if any(isinstance(part, bool) for part in parts.values()):
        raise TypeError(message)
    try:
        numbers = {  # those of NumPy, too
            name: float(part) if isinstance(part, Real) and not isinstance(part, int) else part
            for name, part in parts.items()
        }
        return timedelta(**numbers)
    except TypeError as error:
        raise TypeError(message) from error
    except ValueError:
        raise ValueError(message) from None  # NaN


async def advance_clock(runtime: Runtime, failures: Failures, target: str | None, timeout: float) -> Advance:
    """Move the clock from one due moment to the next, and wait each time until all is handled."""
    clock, advancer = runtime.clock, Advancer(runtime)
    advance = Advance(clock, target)
    if not runtime.advancing.acquire(blocking=False):
        raise ClockError("advance: another thread is moving the clock; advance in one thread only")

    def count_event(_: EventRecord) -> None:
        advance.events += 1

    def count_commit(_: Applied) -> None:
        advance.commits += 1

    disconnect: list[Callable[[], object]] = []
    failed = failures.added
    try:
        await on_io(advancer.wait_handled(timeout))
        failed = failures.added
        disconnect = [
            runtime.log.on_event.connect(count_event),
            runtime.log.replica.on_commit.connect(count_commit),
        ]
        while await on_io(advancer.go_on(target, timeout)):
            advance._output.changed_late()
            if target is None:
                break
        if target is not None and clock.now_text() < target:
            await on_io(advancer.move(target, timeout))
    except KeyboardInterrupt as stop:
        stop.add_note(f"advance: stopped at {clock.now().isoformat()}; what was due until then is delivered")
        raise
    finally:
        runtime.advancing.release()
        for each in disconnect:
            each()
        advance.failures = failures.added - failed
        advance._end()
    return advance


class SpaceClock(SpacePart):
    """The part of a space that keeps its time."""

    @property
    def clock(self) -> str:  # jedi completes nothing on an object with a property that is a Literal
        """The clock of the space: "real", or "manual" if it stands still until `advance`."""
        return "manual" if self._runtime.checked.clock.manual else "real"

    @property
    def to_come(self) -> int:
        """The number of scheduled events, without reading them as `scheduled` does."""
        return self._runtime.checked.clock.to_come

    @property
    def now(self) -> datetime:
        """The time of the space, in UTC: the server's, or that of a manual clock.

        Examples
        --------
        >>> with happen.connect(store=":memory:", name="lab", clock="manual") as lab:
        ...     print(lab.now)
        2000-01-01 00:00:00+00:00
        """
        runtime = self._runtime.checked
        runtime.log.replica.note_look()
        return runtime.clock.now()

    async def _advance(
        self,
        by: Timeout = None,
        *,
        to: datetime | Event | Literal["next"] | None = None,
        timeout: Timeout = 60.0,
        **parts: float,
    ) -> Advance:
        """Move the manual clock of the space.

        The clock moves from one due time to the next. At each, the due events are delivered, and the call
        waits until they and all their effects are handled in every process. Interrupting the kernel stops it
        between due times.

        Parameters
        ----------
        by : float or timedelta, optional
            The seconds by which to move it.
        to : datetime, Event or "next", optional
            Move it to this time (a naive datetime is local time), to the due time of a scheduled event, or to
            the next time at which something is due.
        timeout : float or timedelta, optional
            Seconds to wait for the handlers at each due time; None waits without limit.
        **parts : float
            Parts of a timedelta, such as ``days=30`` or ``hours=2``.

        Returns
        -------
        Advance
            The time of the space, and the numbers of events, commits and failures.

        Raises
        ------
        ClockError
            The space has a real clock, or another process moves this one.
        ValueError
            The time is in the past.
        HappenTimeoutError
            A handler still runs after `timeout` seconds.
        HappenError
            Called in a handler or callback, where it would wait for itself.

        Examples
        --------
        >>> with happen.connect(store=":memory:", name="lab", clock="manual") as lab:
        ...     orders = lab.create_node("orders")
        ...     watch = orders.on("order.expired", lambda event: print(lab.now))
        ...     event = orders.broadcast("order.expired", after=3600)
        ...     lab.advance(hours=2)
        2000-01-01 01:00:00+00:00
        Advance · 1 event · now 2000-01-01 02:00:00
        """
        refuse_in_callback("advance")
        runtime, seconds = self._runtime.checked, arguments.timeout(timeout, "advance: timeout")
        if not runtime.clock.manual:
            raise ClockError(
                f'advance: the space "{self.name}" has a real clock; connect(clock="manual", fresh=True) '
                "empties the space and starts a manual clock"
            )
        target = target_of(runtime.clock, by, to, parts)
        advance = advance_clock(runtime, self.failures, target, seconds)
        conductor = runtime.dispatcher.conductor
        return await (advance if conductor is None else conductor.aside(advance))

    advance, aadvance = faces(_advance, refuse=("space.advance()", "call it in a cell"))

    @property
    def scheduled(self) -> ScheduledEvents:
        """The scheduled events, and the next tick of each ``every``: a sequence, by due time.

        Examples
        --------
        >>> event = orders.broadcast("order.expired", {"id": "o1"}, after=3600)
        >>> [event.type for event in space.scheduled]
        ['order.expired']
        """
        runtime = self._runtime.checked
        return scheduled_events(self.name, run_blocking(_scheduled(runtime)), runtime)


async def _scheduled(runtime: Runtime) -> list[EventRecord]:
    records: list[EventRecord] = await on_io(read_scheduled(runtime))
    return records
