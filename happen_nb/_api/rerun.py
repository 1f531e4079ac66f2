"""Run the past again: feed in the input from outside, and let the current handlers do the rest."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from happen_nb._api.base import (
    Displayable,
    SpacePart,
    Timeout,
    bundle_of,
    faces,
    refuse_in_callback,
    runtime_of,
    shown_by,
)
from happen_nb._api.events import Event
from happen_nb._api.forks import clock_at, discard_fork, drop_fork, make_stage
from happen_nb._api.history import Commit, Since, check_cleared, position_after
from happen_nb._api.schedule import read_scheduled
from happen_nb._api.views import Watch
from happen_nb._model import arguments
from happen_nb._model.freeze import dumps, freeze
from happen_nb._model.frozen import FrozenDict
from happen_nb._model.functions import check_takes, is_a, lazy_kind
from happen_nb._model.positions import LAST_INDEX, Position
from happen_nb._model.quoting import quote
from happen_nb._model.records import CommitRecord, EventRecord, HandledRecord, OwnerRecord
from happen_nb._model.schedules import REAL_CLOCK, ClockMoves, ClockRecord
from happen_nb._runtime.causes import output_context
from happen_nb._runtime.cells import notice
from happen_nb._runtime.io import io_thread, on_io, run_blocking
from happen_nb._runtime.registrations import Registration, concerns, expired_until
from happen_nb._runtime.replica import forkable_states, records_at
from happen_nb.errors import HistoryGoneError, PayloadError

if TYPE_CHECKING:
    from happen_nb._api.differences import Rerun
    from happen_nb._api.space import Space
    from happen_nb._journal.stretch import Stretch
    from happen_nb._model.past import Put
    from happen_nb._model.two_runs import Entry
    from happen_nb._runtime.runtime import Runtime
    from happen_nb._runtime.second_run import SecondRun

PROGRESS_SECONDS: Final = 0.2  # seconds between progress updates


class RerunProgress(Displayable):
    """The progress of a rerun, while it runs."""

    _page = shown_by("reprs_runs.rerun_progress_page")

    def __init__(self, of: str, second: SecondRun) -> None:
        from happen_nb._display.live_output import LiveOutput

        self.of = of
        self.total = second.total
        self._second = second
        self._running = True
        self._output = LiveOutput(lambda: bundle_of(self), lambda: not self._running)

    @property
    def done(self) -> int:
        return self._second.done

    def show(self) -> None:
        """Show it in a notebook, after a while."""
        self._output.changed_late()

    def end(self) -> None:
        """Leave the output as it is."""
        self._running = False
        self._output.finish()


# -- running -----------------------------------------------------------------------------------------------


async def _run_again(
    space: Space,
    start: Position,
    end: Position,
    instead: Callable[[Event], Any] | None,
    name: str | None,
    deadline: float,
) -> Rerun:
    """Run a stretch of the past once more, in a fork of the states before it."""
    from happen_nb._api.differences import Rerun, RunRecords
    from happen_nb._journal.stretch import read_results, read_stretch
    from happen_nb._model.past import take_apart
    from happen_nb._runtime.first_run import Recall
    from happen_nb._runtime.second_run import SecondRun

    runtime = runtime_of(space)
    log, served = runtime.log, runtime.registrations.nodes()
    await on_io(runtime.ownership.flush())
    await on_io(runtime.dispatcher.handled.flush())
    pending = await on_io(read_scheduled(runtime))
    stretch = await on_io(read_stretch(log.stream, start, end, pending))
    for record in stretch.unreadable:
        notice(
            f'rerun: revision {record.revision} of node "{record.node}" is left out: '
            "another client stored it, and it cannot be read"
        )
    handled = list(stretch.handled)
    watched = {each.node for each in runtime.watchers.all() if isinstance(each.source, Watch)}
    past = take_apart(
        stretch.entries,
        handled,
        stretch.clocks,
        lambda node: node in served or runtime.ownership.is_ours(node),
        watched.__contains__,
        stretch.scheduled,
        stretch.cancels,
        end[0],
    )
    puts = _replaced(past.puts, instead, runtime)
    position = start[0] if start[1] >= 0 else start[0] - 1  # what has emitted an event comes before it
    is_empty = position < (await on_io(log.stream.info())).first
    states = {} if is_empty else forkable_states(await on_io(records_at(log, position)))
    clock = await clock_at(log, position)
    stage = await make_stage(space, name, states, clock)
    stage.failures.shows = False  # they are those of the rerun, which counts them
    try:
        now = runtime_of(stage)
        begun = (now.log.position + 1, -1)
        results = await on_io(read_results(log.stream, start[0]))
        now.dispatcher.ticks.recall = Recall(past, results, handled, log, start)
        changed = changed_handlers(runtime.registrations.all(), stretch, handled)
        second = SecondRun(now, past, puts, output_context(), {(each.node, each.name) for each in changed})
        await _run(second, deadline, runtime)
        await on_io(now.dispatcher.handled.flush())
        again = await on_io(read_stretch(now.log.stream, begun, (now.log.position, LAST_INDEX)))
        ids = {entry.id for entry in stretch.entries if isinstance(entry, EventRecord)}
        found = Rerun(
            space,
            stage,
            RunRecords(
                runtime,
                stretch.entries,
                [record for record in handled if record.event in ids],
                _states({**await on_io(records_at(log, end[0])), **_newest(stretch.entries, end)}),
                _moves(clock, stretch.clocks),
            ),
            RunRecords(now, again.entries, list(again.handled), _states(now.log.replica.cut().nodes)),
            changed,
            past.elsewhere,
            {event.id: event for put in past.puts if (event := put.event) and event.cause is None},
            tuple(sorted(map(" ".join, second.overtaken))),
        )
    except BaseException:
        await drop_fork(stage, force=True)
        raise
    if name is None:
        found.tie(runtime, lambda: io_thread().call_soon(now.workers.submit, lambda: _drop(stage, runtime)))
    return found


def _drop(stage: Space, original: Runtime) -> None:
    """Drop the space of a rerun that is no longer needed; on a worker, after all its tasks."""
    ended = "its Rerun no longer exists"
    if original.is_closing or not original.is_open:
        ended = f'"{original.space}", of which it is a rerun, was closed'
    why = f'the space "{stage.name}" was dropped: {ended}; run it again, and keep it with rerun.keep(name)'
    with runtime_of(stage).workers.blocked("to all"):  # its handlers that wait are cancelled meanwhile
        run_blocking(discard_fork(stage, why))


async def _run(second: SecondRun, deadline: float, of: Runtime) -> None:
    """Feed everything in, and show the progress meanwhile; ClosedError if the original is closed."""
    progress = RerunProgress(of.space, second)
    try:
        await on_io(second.start(deadline))
        while not await on_io(second.ended(PROGRESS_SECONDS)):
            progress.show()
            of.check_open()
    except BaseException:
        await on_io(second.stop())
        raise
    finally:
        progress.end()


async def _limits(runtime: Runtime, since: Since | None, until: Since | None) -> tuple[Position, Position]:
    """Return the first and the last position of the stretch."""
    log = runtime.log
    last = (log.position, LAST_INDEX) if until is None else await position_after(log, until, "until")
    oldest = (await on_io(log.stream.info())).first
    expired = await on_io(expired_until(log.stream))
    if since is None:
        from happen_nb._journal.stretch import complete_from

        complete = await on_io(complete_from(log.stream, list(log.replica.cut().nodes)))
        return (max(expired + 1, complete + 1, oldest), -1), last
    sequence, index = await position_after(log, since)
    if isinstance(since, Event | Commit):
        check_cleared(log, sequence, "rerun: since")
    # Here an event or a commit is part of it; a time and a sequence are the last before it.
    first = (sequence, index) if isinstance(since, Event | Commit) else (sequence + 1, -1)
    if oldest <= first[0] <= expired:
        raise HistoryGoneError(
            "rerun: events of that time have expired; connect(event_ttl=...) keeps them longer"
        )
    if first > last and until is None:
        raise ValueError("rerun: since is after everything that is stored; pass an earlier one")
    if first > last:
        raise ValueError("rerun: until is before since; swap them")
    return first, last


def _replaced(puts: Sequence[Put], instead: Callable[[Event], Any] | None, runtime: Runtime) -> list[Put]:
    """Return the records to feed in: `instead` decides for each event."""
    if instead is None:
        return list(puts)
    events = [event for put in puts for event in (*put.events, *filter(None, [put.event]))]
    answers = {event.alarm or event.id: _instead(event, instead, runtime) for event in events}
    answered = (_answered(put, answers) for put in puts)
    return [put for put in answered if put is not None]


def _answered(put: Put, answers: Mapping[str, EventRecord | None]) -> Put | None:
    record = put.event or put.alarm
    if record is None:
        carried = (answers[event.id] for event in put.events)
        return put._replace(events=tuple(event for event in carried if event is not None))
    answer = answers.get(record.alarm or record.id, record)
    changed: dict[str, Any] = {"alarm" if put.event is None else "event": answer}
    return None if answer is None else put._replace(**changed)


def _instead(record: EventRecord, instead: Callable[[Event], Any], runtime: Runtime) -> EventRecord | None:
    event = Event(record, runtime)
    answer = instead(event)
    if answer is None or answer is event:
        return None if answer is None else record
    if is_a(answer, Event):
        raise TypeError(
            f'rerun: instead returned another event for "{record.type}"; return the event itself, another '
            "payload, or None to leave it out"
        )
    if (kind := lazy_kind(answer)) is not None:
        raise TypeError(f"rerun: instead returned {kind}; pass a plain function of an event")
    payload = freeze(answer, what=f'payload of "{record.type}" that instead returned', error=PayloadError)
    return replace(record, payload=payload, body=dumps(payload))


def _moves(start: str | None, moves: Iterable[ClockRecord]) -> ClockMoves:
    """Return the moves of a manual clock, which had a time at the start; None for a real clock."""
    return REAL_CLOCK if start is None else ClockMoves().followed_by([ClockRecord(0, 0, start), *moves])


def _newest(entries: Iterable[Entry], end: Position) -> dict[str, CommitRecord]:
    """Return the newest commit of each node after the end: an event before it has caused it."""
    commits = [entry[0] for entry in entries if not isinstance(entry, EventRecord)]
    return {record.node: record for record in commits if (record.sequence, -1) > end}


def _states(records: Mapping[str, CommitRecord | HistoryGoneError]) -> dict[str, FrozenDict]:
    return {
        name: record.state
        for name, record in records.items()
        if isinstance(record, CommitRecord) and not record.deleted and record.is_readable
    }


# -- what has changed since then -----------------------------------------------------------------------------


def changed_handlers(
    registrations: Iterable[Registration], stretch: Stretch, handled: Iterable[HandledRecord]
) -> list[Registration]:
    """Return the handlers that were not there, or had another source, when an event for them was stored."""
    events = [entry for entry in stretch.entries if isinstance(entry, EventRecord)]
    done = {(record.event, record.node, record.handler) for record in handled}
    owners: dict[str, list[OwnerRecord]] = {}
    for owner in sorted(stretch.owners, key=lambda owner: owner.sequence):
        owners.setdefault(owner.node, []).append(owner)
    return [each for each in registrations if _has_changed(each, events, done, owners.get(each.node, []))]


def _has_changed(
    registration: Registration,
    events: Iterable[EventRecord],
    done: Container[tuple[str, str, str]],
    owners: Sequence[OwnerRecord],
) -> bool:
    if not any(owner.sources for owner in owners):
        return False  # an earlier version has stored them, without the sources
    positions = [owner.sequence for owner in owners]
    sources = [dict(owner.sources).get(registration.key) for owner in owners]
    for event in events:
        if not concerns(registration, event):
            continue
        at = bisect_right(positions, event.sequence)
        then = sources[at - 1] if at else None
        if (event.id, registration.node, registration.name) in done:
            # What is registered is stored a bit later.
            then = then or next(filter(None, sources[at:]), None)
        elif registration.pattern.predicate is not None:
            continue
        if registration.source not in (then or "").split():
            return True
    return False


class SpaceRerun(SpacePart):
    """The part of a space that runs its past again."""

    async def _rerun(
        self,
        since: Since | None = None,
        *,
        until: Since | None = None,
        instead: Callable[[Event], Any] | None = None,
        name: str | None = None,
        timeout: Timeout = 60.0,
    ) -> Rerun:
        """Run the past again with the current handlers, and show the differences.

        It happens in a fork that starts from the states before `since`; this space does not change.
        Everything that came from outside is fed in unchanged: events without a cause, commits of cells,
        scheduled events, and the events and commits of nodes in other processes. Everything else happens
        again, as far as possible in the recorded order. Interrupting the kernel stops the rerun and leaves
        nothing behind.

        Parameters
        ----------
        since : Event, Commit, datetime or int, optional
            The start. Unlike in ``space.events``, an event or a commit is itself part of the rerun; after a
            time or a sequence, the rerun starts with the next record. By default, everything that is stored.
        until : Event, Commit, datetime or int, optional
            The end; an event or a commit is part of the rerun, with everything that it caused.
        instead : callable, optional
            ``instead(event)`` is called for each event that is fed in. It returns the event to leave it
            unchanged, another payload, or None to leave the event out.
        name : str, optional
            A name under which to keep the fork. By default, it exists as long as the Rerun.
        timeout : float or timedelta, optional
            Seconds for the whole rerun; None waits without limit.

        Returns
        -------
        Rerun
            Shows the differences; ``.same`` is True if there are none.

        Raises
        ------
        HistoryGoneError
            Some records of that time are no longer stored.
        HappenTimeoutError
            The rerun is not done after `timeout` seconds; the message names the unfinished work.
        SpaceNotEmptyError
            A space of that name already exists.
        HappenError
            Called in a handler or callback.

        Examples
        --------
        >>> @inventory.on("order.paid")
        ... def take(event):
        ...     inventory.state.set(happen.put("pens", lambda n: n - event.payload))
        >>> stocked = inventory.state.set({"pens": 7})
        >>> trace = orders.broadcast("order.paid", 2).settle()
        >>> print(space.rerun())
        Rerun of ... · 1 event · the same events and commits in the same order
        >>> again = space.rerun(instead=lambda event: event.payload + 1)
        >>> again.same, again.states["inventory"].now
        (False, {'pens': 4})
        """
        refuse_in_callback("rerun")
        if instead is not None:
            if not callable(instead):
                raise TypeError(f"rerun: instead is {quote(instead)}; pass a function of an event")
            check_takes(instead, "rerun: instead", 1, [])
        deadline = time.monotonic() + arguments.timeout(timeout, "rerun: timeout")
        start, end = await _limits(self._runtime.checked, since, until)
        return await _run_again(self._space, start, end, instead, name, deadline)

    rerun, arerun = faces(_rerun)
