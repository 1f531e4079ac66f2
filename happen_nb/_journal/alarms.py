"""Scheduled events: the pending ones, and the published ones that count.

The server publishes a scheduled event when it is due, and removes its alarm. A cancel removes the alarm too,
if it is still there. That guard alone is not exact: the server may just be publishing the event, which is
then stored a few messages after its cancel. So the order of the journal decides. An event that comes after
its cancel, after the one that replaced it, or after its own first delivery, does not count. Those marks are
stored on the subject of the event and carry the name of the alarm.

With replicas, the event may also be stored a few messages before its cancel. So there the cancel has a guard
on the subject of the event, too, which notices a message that is on its way.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

from happen_nb._journal.decoding import Item, Other
from happen_nb._journal.encoding import (
    encode_alarm,
    encode_cancel,
    encode_delivery,
    encode_event,
    encode_guard,
    encode_replaced,
)
from happen_nb._journal.scheduled import Ended, Scheduled
from happen_nb._model.records import NO_ORIGIN, EventRecord, Origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from happen_nb._journal.wire import Message, Subjects
    from happen_nb._model.schedules import Alarm

LOOK_BACK: Final = 1000
"""Messages between a mark and a late event; 17 was the most seen, across a change of leader."""
MAX_SCHEDULED_EVENTS: Final = 200_000
"""Scheduled events of a space: each process reads all of them when it connects, and keeps them in memory."""
MAX_REMEMBERED: Final = 20_000  # names of ended alarms in memory


class Deliveries:
    """Accepts only the first delivery of each scheduled event, and none after its cancel.

    Items are given in the order of the journal.
    """

    def __init__(self) -> None:
        self._ended: dict[str, int] = {}

    def admit(self, item: Item) -> Item:
        """Return the item, or an `Other` in its place if it does not count."""
        if isinstance(item, EventRecord) and item.alarm is not None:
            if self._ended.get(item.alarm, item.sequence) < item.sequence:
                return Other(item.sequence)
            self._end(item.alarm, item.sequence)
        elif isinstance(item, Ended):
            self._end(item.alarm, item.sequence)
        elif isinstance(item, Scheduled) and item.alarm.name in self._ended:
            return Other(item.sequence)  # sent again, because the answer to its first sending was lost
        return item

    def _end(self, name: str, sequence: int) -> None:
        self._ended.setdefault(name, sequence)
        if len(self._ended) > MAX_REMEMBERED:
            newest = list(self._ended.items())[MAX_REMEMBERED // 2 :]
            self._ended = dict(newest)


class Alarms:
    """The scheduled events of a space, as of the position that the follower has reached.

    Changed on the IO thread; `get` and `of_event` may be called from any thread.
    """

    def __init__(
        self, subjects: Subjects, replicated: Callable[[], bool], position: Callable[[], int]
    ) -> None:
        self._subjects = subjects
        self._replicated = replicated
        self._position = position
        self._alarms: dict[str, Alarm] = {}
        self._by_due: list[tuple[str, int, str]] = []
        self._stored: dict[str, int] = {}
        """The sequences of the cancels on subjects of caller-given ids that are free again."""
        self.manual = False
        """True on a manual clock, which delivers the events: they are kept with their payloads."""
        self.version = 0  # changes whenever the alarms change

    def __len__(self) -> int:
        return len(self._alarms)

    def has_room(self, id: str, more: int) -> bool:
        """Return True if an event may be scheduled under an id, besides `more` that are not stored yet."""
        return len(self._alarms) + more < MAX_SCHEDULED_EVENTS or id in self._alarms

    def by_due(self) -> list[Alarm]:
        """Return all alarms, by due time and order of scheduling."""
        return sorted(self._alarms.values(), key=lambda alarm: (alarm.due, alarm.sequence))

    def next(self, limit: int) -> list[Alarm]:
        """Return the alarms that are due next, in the same order. On the IO thread."""
        return heapq.nsmallest(limit, self._alarms.values(), key=lambda alarm: (alarm.due, alarm.sequence))

    def get(self, id: str) -> Alarm | None:
        return self._alarms.get(id)

    def due(self, until: str) -> list[Alarm]:
        """Return the alarms that are due until a time, in the order of their times and of scheduling."""
        found = []
        while (first := self._first()) is not None and first.due <= until:
            heapq.heappop(self._by_due)
            found.append(first)
        for alarm in found:  # until they are delivered
            heapq.heappush(self._by_due, (alarm.due, alarm.sequence, alarm.id))
        return found

    def next_due(self) -> str | None:
        first = self._first()
        return None if first is None else first.due

    def _first(self) -> Alarm | None:
        while self._by_due:
            _, sequence, id = self._by_due[0]
            alarm = self._alarms.get(id)
            if alarm is not None and alarm.sequence == sequence:
                return alarm
            heapq.heappop(self._by_due)
        return None

    # -- following -----------------------------------------------------------------------------------

    def reset(self, alarms: Iterable[Alarm]) -> None:
        """Start with these."""
        self._alarms, self._by_due = {}, []
        self.version += 1
        self._stored.clear()
        for alarm in alarms:
            self.add(alarm)

    def add(self, alarm: Alarm) -> None:
        """Add a scheduled event, in place of the one under its id."""
        if not self.manual:
            alarm = alarm._replace(event=None)
        else:
            heapq.heappush(self._by_due, (alarm.due, alarm.sequence, alarm.id))
        self._alarms[alarm.id] = alarm
        self.version += 1

    def end(self, name: str) -> Alarm | None:
        """Remove an event that was delivered, cancelled or replaced."""
        id = name.partition(" ")[0]
        found = self._alarms.get(id)
        if found is None or found.name != name:
            return None
        self.version += 1
        return self._alarms.pop(id)

    def cancelled(self, name: str, sequence: int) -> None:
        """Remove the event that a cancel or a replacement at this position of the journal has ended."""
        alarm = self.end(name)
        if alarm is not None:
            self.note_stored(alarm.target, sequence)

    def clear(self, before: int) -> list[Alarm]:
        """Remove the events that were scheduled before a clear, and return them."""
        alarms = list(self._alarms.values())
        self.reset([alarm for alarm in alarms if alarm.sequence > before])
        return [alarm for alarm in alarms if alarm.sequence <= before]

    # -- encoding ------------------------------------------------------------------------------------

    def concerns(self, event: EventRecord) -> bool:
        """Return True if an event is scheduled, or delivered in the place of a scheduled one."""
        if event.alarm is not None:
            return True
        return event.has_caller_id and (
            event.id in self._alarms or self._subjects.event(event) in self._stored
        )

    def note_stored(self, subject: str, sequence: int) -> None:
        """Note that the messages on the subject of an event, up to a sequence, do not count."""
        self._stored[subject] = sequence
        if len(self._stored) > MAX_REMEMBERED:
            self._stored = dict(list(self._stored.items())[MAX_REMEMBERED // 2 :])

    def messages(self, event: EventRecord, *, ttl: int, left: int = 0) -> list[Message]:
        """Encode an event, scheduled or not, that replaces the one scheduled under its id.

        They are stored together, and only if the event with that id has not been delivered meanwhile. `left`
        is the sequence of an alarm that is stored under the id and does not count.
        """
        subject = self._subjects.event(event)
        stored = self._stored.get(subject, 0)
        before = self._alarms.get(event.alarm_id) if event.tick is None else None  # a tick replaces none
        if event.alarm is None:
            message = encode_event(self._subjects, event, ttl=ttl, expected=stored)
            if before is None:
                return [message]
            origin = Origin(event.cause, by=event.sender, path=event.origin.path)
            return [*self.cancel(before, ttl=ttl, origin=origin), message.without_guard()]
        alarm = encode_alarm(
            self._subjects,
            event,
            ttl=ttl,
            expected=left if before is None else before.sequence,
            read=self._position(),
            never=self.manual,
        )
        if before is not None:
            return [*self._guard(before), encode_replaced(before, ttl=ttl), alarm]
        if event.has_caller_id:
            return [encode_guard(self._subjects, subject, stored), alarm]
        return [alarm]

    def cancel(
        self,
        alarm: Alarm,
        *,
        ttl: int,
        origin: Origin = NO_ORIGIN,
        key: str | None = None,
        goes_on: bool = False,
    ) -> list[Message]:
        """Encode the cancel of a scheduled event; `key` is that of a step of a durable handler.

        `goes_on` is True for a tick whose handlers stay.
        """
        return [
            *self._guard(alarm),
            encode_cancel(self._subjects, alarm, ttl=ttl, origin=origin, key=key, goes_on=goes_on),
        ]

    def deliver(self, alarm: Alarm, *, ttl: int) -> list[Message]:
        return [*self._guard(alarm), encode_delivery(self._subjects, alarm, ttl=ttl)]

    def _guard(self, alarm: Alarm) -> list[Message]:
        if not self._replicated():
            return []
        return [encode_guard(self._subjects, alarm.target, self._stored.get(alarm.target, 0))]
