"""The events that a state handler missed: those that have expired, and those of a handler that is gone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from happen_nb._journal import wire
from happen_nb._journal.slice import events_between, position_at_time
from happen_nb._model.patterns import Pattern
from happen_nb._model.records import CommitRecord

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from happen_nb._journal.consumer import StreamMessage
    from happen_nb._journal.stream import Stream
    from happen_nb._model.positions import Position, Progress
    from happen_nb._model.records import EventRecord
    from happen_nb._runtime.registrations import Registration

WINDOW_MESSAGES = 2_000


class Orphan(NamedTuple):
    """A state handler that a node has had, and that no process has now."""

    key: str
    waiting: int
    """The stored events that it has still to apply."""


def concerns(registration: Registration, event: EventRecord) -> bool:
    """Return whether a handler may apply an event; a predicate is asked later, off the IO thread."""
    pattern = registration.pattern
    matches = pattern.predicate is not None or pattern.matches(event.type)
    return bool(matches) and event.target in (None, registration.node)


async def expired_until(stream: Stream) -> int:
    """Return the newest position that is older than the time for which events are kept."""
    await stream.info()
    return await position_at_time(stream, datetime.fromtimestamp(max(0, stream.oldest) / 1e9, UTC))


async def count_missed(
    stream: Stream, after: dict[Registration, Position], expired: int
) -> tuple[dict[Registration, int], int]:
    """Return how many events may have expired after the position of each handler, and up to which position.

    An expired message does not show what it was, so each one that is gone counts. Of the events that rode on
    a commit, only those that a handler would apply count. The count ends before an event that is still there.
    """
    until = expired

    def ends(item: StreamMessage) -> bool:
        nonlocal until
        is_event = item.subject.startswith(stream.subjects.event_prefix)
        until = item.sequence - 1 if is_event else expired
        return is_event or item.sequence > expired

    first = min(after.values())[0]
    items = await stream.read(">", start=first + 1, headers_only=True, enough=ends)
    gone = {each: until - position[0] for each, position in after.items()}
    for item in items:
        record = wire.decode(stream.subjects, item.subject, item.headers, b"", item.sequence, item.time)
        riding = record.events if isinstance(record, CommitRecord) else ()
        for each, position in after.items():
            if item.sequence > position[0]:
                gone[each] -= 1
            gone[each] += sum(event.position > position and concerns(each, event) for event in riding)
    return {each: count for each, count in gone.items() if count > 0}, until


async def find_orphan(
    stream: Stream,
    new: Registration,
    known: Iterable[tuple[wire.Start, Progress]],
    served: Collection[str],
    end: int,
) -> Orphan | None:
    """Find the newest handler that `new` may be meant to continue: of the same pattern or function.

    Parameters
    ----------
    known : iterable of (Start, Progress)
        The handlers that the node has had.
    served : collection of str
        The keys of those that a process has now.
    """
    assert new.state is not None
    candidates = [
        (progress.position, start)
        for start, progress in known
        if start.key not in {*served, new.state.key, ""} and _resembles(start, new)
    ]
    if not candidates:
        return None
    position, start = max(candidates)
    return Orphan(start.key, await _count_waiting(stream, start, position, end))


def _resembles(start: wire.Start, new: Registration) -> bool:
    if start.pattern is not None and start.pattern == new.pattern.text:
        return True
    return start.key == f"{start.pattern} {new.name}"


async def _count_waiting(stream: Stream, start: wire.Start, position: Position, end: int) -> int:
    if start.pattern is None:
        return 0
    pattern, count = Pattern.of(start.pattern), 0
    for at in range(position[0], end + 1, WINDOW_MESSAGES):
        events = await events_between(stream, at, min(end, at + WINDOW_MESSAGES - 1))
        count += sum(
            event.position > position
            and event.target in (None, start.node)
            and bool(pattern.matches(event.type))
            for event in events
        )
    return count
