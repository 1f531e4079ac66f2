"""The memory of a first run for a second one: its order, and its ids, results, times and replies."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, deque
from itertools import chain
from typing import TYPE_CHECKING, Final

from happen_nb._model.past import (
    AFTER,
    WATCHED,
    Moment,
    cancel_key,
    commit_key,
    event_key,
    key_of,
    storer_of,
)
from happen_nb._model.records import CommitRecord
from happen_nb._runtime.io import on_io
from happen_nb._runtime.writer import check_same, find_stored

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from happen_nb._journal.decoding import CallResult
    from happen_nb._journal.scheduled import Ended
    from happen_nb._model.orders import Choice
    from happen_nb._model.past import Key, Past, Put
    from happen_nb._model.positions import Position
    from happen_nb._model.records import EventRecord, HandledRecord
    from happen_nb._model.schedules import Alarm
    from happen_nb._runtime.clock import Timer
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.registrations import Registration


START: Final[Moment] = (0, 0)
"""The moment of a step without a counterpart in the first run: it may go at once."""
END: Final[Moment] = (1 << 62, 0)
MAX_FLYING: Final = 250  # maximum number of events that are fed in before the first of them has arrived


class _Remaining:
    """The moments of the past that were not repeated yet, in order."""

    def __init__(self, moments: Iterable[Moment]) -> None:
        self._counts = Counter(moments)
        self._moments = sorted(self._counts)
        self._place = 0

    @property
    def first(self) -> Moment:
        """The first of them; END if there is none."""
        moments, counts = self._moments, self._counts
        while self._place < len(moments) and not counts[moments[self._place]]:
            self._place += 1
        return moments[self._place] if self._place < len(moments) else END

    def is_single(self, moment: Moment) -> bool:
        """Return True if a moment stands for one thing alone."""
        return self._counts[moment] == 1

    def mark_repeated(self, moment: Moment) -> None:
        """Note that a step of a moment was repeated."""
        if self._counts[moment]:
            self._counts[moment] -= 1

    def skip(self, moment: Moment) -> bool:
        """Skip everything before a moment: it does not happen again, or happens out of its turn.

        Returns True if there was something.
        """
        skips = self.first < moment
        self._place = max(self._place, bisect_left(self._moments, moment))
        return skips


class RecordedOrder:
    """Chooses what a second run does next. From any thread.

    Recorded steps go in the recorded order. A step that differs from the record takes the place of the
    handler's next recorded step, or goes at once. Of the input from outside, the `puts`, ``put_in(put)`` puts
    in plain events, without waiting for anything, as soon as everything before them was repeated; for all
    other input, the second run waits. `timers` are those of the handlers that wait now.
    """

    def __init__(
        self, past: Past, puts: Sequence[Put], put_in: Callable[[Put], None], timers: Sequence[Timer]
    ) -> None:
        self._puts = deque(puts)
        self._put_in = put_in
        self._timers = timers
        self._storings = {key: deque(moments) for key, moments in past.storings.items()}
        self._beginnings = {key: deque(moments) for key, moments in past.beginnings.items()}
        self._folded = past.folded
        self._of_event: dict[str, list[Key]] = {}
        for key in past.storings:
            self._of_event.setdefault(key[-1], []).append(key)
        committing = ((key[-1], key[2]) for key in past.storings if key[0] == "commit")
        self._handled = {*((event, node) for event, node, _ in past.beginnings), *committing}
        """The events and the nodes whose handlers did something for them."""
        self._first_steps: dict[str, Moment] = {}
        """The first step of the handlers of each event; state handlers store without a recorded beginning."""
        of_beginnings = ((event, moments[0]) for (event, _, _), moments in past.beginnings.items())
        of_storings = ((key[-1], moments[0]) for key, moments in past.storings.items())
        for event, moment in chain(of_beginnings, of_storings):
            self._first_steps[event] = min(moment, self._first_steps.get(event, END))
        recorded = [*past.storings.values(), *past.beginnings.values(), [put.at for put in puts]]
        self._remaining = _Remaining(moment for moments in recorded for moment in moments)
        self._flying: dict[str, Moment] = {}
        self.comes: Callable[[str, str | None], bool] = lambda *_: False
        """Returns True if a handler of an event, of any node or one, may still do what comes next."""
        self._by: dict[Moment, list[tuple[str, str | None]]] = {}
        """The events whose handlers stored something at a moment, and the nodes, if they are known."""
        for key, moments in past.storings.items():
            node = storer_of(key)
            by = key[-1], node if (key[-1], node) in self._handled else None
            for moment in moments:
                self._by.setdefault(moment, []).append(by)
        self.landed = 0  # the number of events that were put in and have arrived
        self.skipped = 0  # the number of times that recorded steps were passed over
        self._newest_commit = 0
        records = (each for put in puts for each in (put.event, put.alarm, *put.events))
        self._put_ids = {each.id for each in records if each is not None}
        self._wanted = False  # True if a step has waited for an event to arrive
        self._lock = threading.RLock()

    # -- putting in --------------------------------------------------------------------------------------

    @property
    def limit(self) -> Moment:
        """The moment of the next input."""
        return self._puts[0].at if self._puts else END

    @property
    def is_in_flight(self) -> bool:
        """True while an event that was put in has not arrived."""
        return bool(self._flying)

    def next_put(self) -> Put | None:
        """Put in the next plain events, or return the next other input; None at the end.

        No earlier step is still to be repeated, and no later one is until `note_put_stored` is called.
        """
        with self._lock:
            if not self._puts:
                return None
            self.skipped += self._remaining.skip(self.limit)
            if not self._puts[0].is_plain:
                return self._puts[0]
            self._put_in_plain()
            return None

    def note_put_stored(self) -> None:
        """Note that the record that `next_put` has returned is stored."""
        with self._lock:
            self._remaining.mark_repeated(self._puts.popleft().at)

    def _put_in_plain(self) -> None:
        """Put in the plain events that come before anything else."""
        while self._puts and self._puts[0].is_plain and self._puts[0].at == self._remaining.first:
            if len(self._flying) >= MAX_FLYING:
                self._wanted = True
                return
            put = self._puts.popleft()
            assert put.event is not None
            self._remaining.mark_repeated(put.at)
            self._flying[put.event.id] = self._first_steps.get(put.event.id, END)
            self._put_in(put)

    def arrived(self, id: str) -> bool:
        """Note that an event was stored; True if something may have waited for that."""
        with self._lock:
            if self._flying.pop(id, None) is None:
                return False
            self.landed += 1
            wanted = self._wanted or not self._flying
            self._wanted = False
            return wanted

    # -- choosing ----------------------------------------------------------------------------------------

    def next_one(self, choices: Sequence[Choice]) -> Choice | None:
        """Return the choice that came next in the past; None if that is not among them."""
        with self._lock:
            self._put_in_plain()
            first = min(choices, key=self._moment)
            moment = self._recorded(first)
            if moment is None or moment != self._remaining.first or not self._remaining.is_single(moment):
                return None
            waiting = (timer for timer in self._timers if timer.call is not None)
            if self._is_early(first) or any(self._end_of(timer) < moment for timer in waiting):
                return None
            self._begin(first)
            return first

    def rests(self) -> bool:
        """Return True if input, or a handler that waits for the clock, comes next."""
        with self._lock:
            timer = self._first_timer()
            return not self._is_to_come(self.limit if timer is None else self._end_of(timer))

    def _is_to_come(self, before: Moment) -> bool:
        """Return True if a handler that runs may do what came first in the past, before a moment."""
        first = self._remaining.first
        if first >= before:
            return False
        return any(self.comes(*by) for by in self._by.get(first, [("", None)]))

    def choose(self, choices: Sequence[Choice]) -> Choice | None:
        """Return the next choice; None if something is put in first, or a handler that runs comes first."""
        with self._lock:
            first = min(choices, key=self._moment)
            moment = self._moment(first)
            if moment > self.limit or self._is_to_come(moment):
                return None
            if self._is_early(first) or any(began < moment for began in self._flying.values()):
                self._wanted = True
                return None
            timer = self._first_timer()
            if timer is not None and self._end_of(timer) < moment:
                self._wanted = True
                return None
            self.skipped += self._remaining.skip(moment)
            self._begin(first)
            return first

    def _is_early(self, choice: Choice) -> bool:
        """Return True if an event that a state handler folds with this one has not arrived."""
        if not choice.transform or choice.event is None or not self._folded:
            return False
        is_early = not self._flying.keys().isdisjoint(self._folded.get((choice.event.id, choice.node), ()))
        self._wanted = self._wanted or is_early
        return is_early

    def _begin(self, choice: Choice) -> None:
        if (choice.what == "begin" or choice.transform) and (left := self._beginnings.get(_begin_of(choice))):
            self._remaining.mark_repeated(left.popleft())
        if choice.what == "cancel" and (left := self._left_of(choice)) and left[0][1] == AFTER:
            self._remaining.mark_repeated(left.popleft())  # nothing will be stored

    def next_timer(self) -> Timer | None:
        """Return the timer of the handler that continues first; None if something else comes first."""
        return None if self._flying else self._first_timer()  # their handlers may come first

    def _first_timer(self) -> Timer | None:
        waiting = [timer for timer in self._timers if timer.call is not None]
        first = min(waiting, key=self._end_of, default=None)
        return None if first is None or self._end_of(first) > self.limit else first

    def _end_of(self, timer: Timer) -> Moment:
        # The handler may go on to emit as the space, or as a node that does not handle the event.
        event, node = timer.event, timer.node
        return self._next(event, lambda by: by == node or (event, by) not in self._handled)

    def next_of(self, event: str, node: str) -> Moment:
        """Return when the handlers of a node stored the next thing for an event; START if nothing is left."""
        return self._next(event, node.__eq__)

    def _next(self, event: str, is_by: Callable[[str], bool]) -> Moment:
        keys = self._of_event.get(event, ())
        mine = (self._storings[key] for key in keys if is_by(storer_of(key)))
        return min((moments[0] for moments in mine if moments), default=START)

    def note_put(self, commit: CommitRecord) -> None:
        """Note that a commit is put in: what it has caused may have its key."""
        assert commit.id is not None
        self._put_ids.add(commit.id)

    def stored(self, entry: CommitRecord | EventRecord) -> None:
        """Note that something was stored: it is done again, unless it is new, or was put in."""
        if isinstance(entry, CommitRecord):
            self._newest_commit = entry.sequence
        elif entry.sequence == self._newest_commit:
            return  # it was stored with its commit
        if entry.id not in self._put_ids:
            self._mark_repeated(key_of(entry))

    def scheduled(self, alarm: Alarm) -> None:
        """Note that a handler has scheduled an event."""
        if alarm.event is not None and alarm.event.id not in self._put_ids:
            self._mark_repeated(key_of(alarm.event))

    def cancelled(self, end: Ended) -> None:
        """Note that a scheduled event was cancelled."""
        self._mark_repeated(cancel_key(end.by, end.id, end.cause))

    def _mark_repeated(self, key: Key) -> None:
        with self._lock:
            left = self._storings.get(key)
            if left:
                self._remaining.mark_repeated(left.popleft())

    def _recorded(self, choice: Choice) -> Moment | None:
        """Return the moment of the step that a choice leads to, if it happened in the past."""
        if choice.event is None:
            return None
        left = self._left_of(choice)
        return left[0] if left else None

    def _moment(self, choice: Choice) -> Moment:
        """Return when a step happened in the past; for a new one, when the step that it replaces did."""
        begins = choice.what == "begin"
        if choice.event is None:
            return START if begins else min(self._left_of_watch(choice), default=START)
        left = self._left_of(choice)
        if left:
            return left[0]
        if begins and (choice.transform or left is not None):
            return START  # nothing is changed, or it is a retry, whose time has come
        if choice.scheduled or choice.what == "cancel":
            return START  # an earlier version has not recorded it
        sequence, index = self.next_of(*_begin_of(choice)[:2])
        return (sequence, index - 1) if begins else (sequence, index)

    def _left_of(self, choice: Choice) -> deque[Moment] | None:
        """Return when this was done in the past and is not done again yet."""
        node, target = choice.node, choice.target
        cause = None if choice.event is None else choice.event.id
        if choice.what == "begin" and choice.transform:
            # It sees the same states whenever it begins, and the events that it folds have arrived.
            return self._storings.get(commit_key(node, node, cause))
        if choice.what == "begin":
            return self._beginnings.get(_begin_of(choice))
        if choice.what == "commit":
            return self._storings.get(commit_key(target, node, cause))
        if choice.what == "cancel":
            return self._storings.get(cancel_key(node, target, cause))
        key = event_key(choice.sender, target, choice.receiver, cause, scheduled=choice.scheduled)
        return self._storings.get(key)

    def _left_of_watch(self, choice: Choice) -> Iterator[Moment]:
        """Yield when a watch stored this in the past: its records have the cause of the commit."""
        wanted = (choice.target, choice.receiver or "")
        for key in self._of_event.get(WATCHED + (choice.cause or ""), ()):
            same = key[1] == choice.target if choice.what == "commit" else key[2:4] == wanted
            left = self._storings[key]
            if left and same and key[0] == ("commit" if choice.what == "commit" else "event"):
                yield left[0]


def _has_begun(record: HandledRecord) -> bool:
    """Return False if the handling was cancelled before its begin, or refused, as a reply to itself."""
    ended_early = record.outcome in ("cancelled", "failed")
    return not ended_early or record.waited is not None or record.position is not None


def _begin_of(choice: Choice) -> tuple[str, str, str]:
    return "" if choice.event is None else choice.event.id, choice.node, choice.handler


class Recall:
    """The memory of a second run. From any thread.

    The events that handlers emit have the ids of their counterparts, so that everything that depends on ids
    is the same: causes, the names of calls, random numbers. Recorded results of calls are known by the rest
    of their subject. The ids of the caller's that had an event before the `start` in the first run's `log`
    are taken in the second run, too.
    """

    def __init__(
        self,
        past: Past,
        results: Mapping[str, CallResult],
        handled: Iterable[HandledRecord],
        log: Log,
        start: Position,
    ) -> None:
        records = list(handled)
        self._ids = {key: deque(ids) for key, ids in past.ids.items()}
        self._results = dict(results)
        self._moments = {(each.event, each.node, each.handler): each.now for each in records if each.now}
        self._replies = {(each.event, each.node): each for each in records if each.reply or each.error}
        self._late = {
            (each.event, each.node): each.outcome == "cancelled" and each.position is None for each in records
        }
        begun = {(each.event, each.node) for each in records if _has_begun(each)}
        put_in = {put.event.id for put in past.puts if put.event is not None}
        self._cancelled = {
            (each.event, each.node)
            for each in records
            if each.event in put_in and (each.event, each.node) not in begun
        }
        self.elsewhere = frozenset(past.elsewhere)  # the nodes of other processes
        self._folded = past.folded
        self._applied = past.applied
        self._log = log
        self._start = start
        self._lock = threading.Lock()

    # -- ids ---------------------------------------------------------------------------------------------

    def id_of(self, event: Key, pending: Collection[str] | None) -> str | None:
        """Return the id for an event that is emitted now; None if it has no counterpart.

        In a transform, `pending` are the ids of the events that it has emitted. It may run again: they count
        as used when these are stored.
        """
        with self._lock:
            left = self._ids.get(event)
            if not left:
                return None
            if pending is None:
                return left.popleft()
            return next((id for id in left if id not in pending), None)

    async def taken(self, event: EventRecord) -> EventRecord | None:
        """Return the event that had the caller's id before the start; None if there was none.

        Raises IdTakenError if its content was another one.
        """
        found = await on_io(find_stored(self._log, event)) if event.has_caller_id else None
        return None if found is None or found.position >= self._start else check_same(event, found)

    async def takes(self, events: Iterable[EventRecord], known: dict[str, EventRecord]) -> bool:
        """Add to `known` those whose ids were taken before the start; return True if there are any."""
        found = [await self.taken(event) for event in events if event.id not in known]
        taken = {event.id: event for event in found if event is not None}
        known.update(taken)
        return bool(taken)

    def stored(self, event: EventRecord) -> None:
        """Note that an event is stored, so that no other one gets its id."""
        with self._lock:
            left = self._ids.get(key_of(event))
            if left and event.id in left:
                left.remove(event.id)

    def folded(self, event: str, node: str) -> frozenset[str]:
        """Return the ids of the events that a state handler applied with the same commit as an event."""
        return self._folded.get((event, node), frozenset())

    def left(self, event: EventRecord, handlers: list[Registration]) -> list[Registration]:
        """Return the handlers of a node without those whose commit of the event is put in."""
        id = event.id
        return [
            each
            for each in handlers
            if not each.state or (id, each.node, each.state.key) not in self._applied
        ]

    def was_late(self, event: str, node: str) -> bool | None:
        """Return True if a node has left out a repeated call; None if it is new."""
        return self._late.get((event, node))

    def was_cancelled(self, event: EventRecord, node: str) -> bool:
        """Return True if code outside cancelled or refused an event before a node began to handle it."""
        return event.tick is None and (event.id, node) in self._cancelled

    # -- results, times and replies -------------------------------------------------------------------------

    def result(self, subject: str, arguments: str | None) -> bytes | None:
        """Return the recorded result of a call with the same arguments, as JSON; None if there is none."""
        found = self._results.get(subject.partition(".once.")[2])
        if found is None or (None not in (arguments, found.arguments) and arguments != found.arguments):
            return None
        return found.body

    def now(self, event: str, node: str, handler: str) -> str | None:
        """Return the time that a handler has read from its context."""
        return self._moments.get((event, node, handler))

    def reply(self, event: str, node: str) -> HandledRecord | None:
        """Return how a node of another process has replied to an event."""
        return self._replies.get((event, node))
