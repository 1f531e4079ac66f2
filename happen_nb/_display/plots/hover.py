"""What is shown when a mark is pointed at: a few lines, cut, and safe."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from operator import attrgetter
from textwrap import wrap
from typing import Final

from happen_nb._display.changes import in_a_line
from happen_nb._display.plots.base import ROOM, line, lines, safe
from happen_nb._display.plots.folding import clock
from happen_nb._display.plots.happened import Happened
from happen_nb._display.plots.marks import Failure, Happening, Mark
from happen_nb._display.spans import (
    count,
    cut_middle,
    from_ns,
    function,
    human_duration,
    human_time,
    iso,
    one_line,
    plain,
)
from happen_nb._display.value_tree import summary
from happen_nb._model.causality import CommitPair
from happen_nb._model.diff import Diff, diff
from happen_nb._model.records import EMPTY, CommitRecord, EventRecord
from happen_nb.errors import HappenError

DIFFS: Final = 8_000_000
"""Bytes of states that are read to tell what commits have changed, per figure."""
_CHANGES, _PAYLOAD, _TYPES, _NAMES, _ERRORS = 5, 3, 6, 4, 2
_MANY: Final = 500  # marks
_HALF: Final = ROOM // 2


class Hover:
    """The texts of these marks of a figure; brief ones of merged marks where there are many."""

    def __init__(self, x: Happened, marks: Sequence[Mark]) -> None:
        self._x = x
        self._brief = len(marks) > _MANY
        self._left = DIFFS
        alone = [mark.things[0].what for mark in marks if len(mark.things) == 1]
        events = sorted((each for each in alone if isinstance(each, EventRecord)), key=attrgetter("position"))
        self._payloads = {event.id: event.payload for event in x.whole(events)}
        self._takers: dict[str, set[str]] = {event.id: set() for event in events}
        for record in x.handled if events else ():
            if record.event in self._takers and record.accepted:
                self._takers[record.event].add(record.node)

    def text(self, mark: Mark) -> str:
        """What a mark stands for."""
        if len(mark.things) > 1:
            return lines(self._many(mark))
        (thing,) = mark.things
        if isinstance(thing.what, EventRecord):
            return lines(self._event(thing.what, thing.moment))
        if isinstance(thing.what, Failure):
            return lines(self._failure(thing.what, thing.moment))
        return lines(self._commit(thing.what, thing.moment))

    def _event(self, x: EventRecord, at: int) -> Iterable[str]:
        yield _bold(_type(x), f"{_name(x.sender)} → {_name(x.target or 'all')}")
        yield safe(f"{_moment(at)} · #{x.sequence}")
        payload = self._payloads.get(x.id)
        if payload is not None:
            yield from _wrapped(plain(summary(payload, _PAYLOAD * ROOM - 20)))
        takers = [_name(node) for node in sorted(self._takers[x.id])]
        yield line(f"handled by {_listed(takers)}" if takers else "handled by nobody")
        failed = self._x.failed.get(x.id, ())
        yield from (line(f"! {_name(each.node)}  {_error(each.error)}") for each in failed[:_ERRORS])
        yield from self._because(x.cause)
        if effects := self._x.effects.get(x.id):
            yield from _wrapped(f"led to {_listed([_effect(effect) for effect in effects])}")

    def _commit(self, change: CommitPair, at: int) -> Iterable[str]:
        x, _ = change
        by = x.origin.by
        yield _bold(f"{_name(x.node)} revision {x.revision:,}", "" if by in {None, x.node} else f"by {by}")
        yield safe(f"{_moment(at)} · #{x.sequence}")
        yield from self._changes(change)
        yield from self._because(x.origin.cause)

    def _failure(self, failure: Failure, at: int) -> Iterable[str]:
        event, x = failure.event, failure.record
        yield _bold(f"{_name(x.node)} failed", f"{_name(function(x.handler))}, given {_type(event)}")
        tries = f" · {count(x.attempts, 'attempt')}" if x.attempts > 1 else ""
        yield safe(f"{_moment(at)} · {human_duration(x.duration)}{tries}")
        yield from _wrapped(one_line(x.error or "", _PAYLOAD * ROOM - 20))

    def _changes(self, change: CommitPair) -> Iterable[str]:
        x, before = change
        if x.deleted:
            return ["deleted"]
        if not (x.revision == 1 if before is None else before.revision == x.revision - 1):
            return ["(what it changed is not stored any more)"]
        self._left -= sum(len(record.body or b"") for record in (x, before) if record is not None)
        if self._left < 0:
            return ["(what it changed is too much to read here)"]
        try:
            return _diff(diff(EMPTY if before is None else before.state, x.state))
        except HappenError as error:
            return [line(_error(str(error)))]

    def _because(self, cause: str | None) -> Iterable[str]:
        if cause is not None:
            event = self._x.by_id.get(cause)
            what = "an event not shown here" if event is None else f"{_type(event)} of {_name(event.sender)}"
            yield line(f"because of {what}")

    def _many(self, mark: Mark) -> Iterable[str]:
        things = mark.things
        start, end = things[0].moment, things[-1].moment
        yield _bold(count(len(things), mark.kind), "")
        yield safe(f"{clock(start)} to {_moment(end)}" if end > start else _moment(end))
        counts = Counter(map(_sort, things)).most_common()
        yield from (line(f"{number:6,}  {what}") for what, number in counts[:_TYPES])
        if len(counts) > _TYPES:
            yield safe(f"… {len(counts) - _TYPES:,} more kinds")
        failed = sum(self._failed(thing.what) for thing in things)
        if failed:
            yield line(f"! a handler failed with {failed:,} of them")
        newest = things[-1].what
        if isinstance(newest, tuple) and not self._brief:
            yield safe(f"the newest, revision {newest[0].revision:,}:")
            yield from self._changes(newest)

    def _failed(self, what: object) -> bool:
        return isinstance(what, EventRecord) and what.id in self._x.failed


def _sort(thing: Happening) -> str:
    """What is counted together."""
    if isinstance(thing.what, EventRecord):
        return _type(thing.what)
    if isinstance(thing.what, Failure):
        return _error(thing.what.record.error)
    by = thing.what[0].origin.by
    return "set directly" if by is None else f"set by a handler of {_name(by)}"


def _effect(effect: EventRecord | CommitPair) -> str:
    if isinstance(effect, EventRecord):
        return _type(effect)
    record: CommitRecord = effect[0]
    return f"{_name(record.node)} revision {record.revision:,}"


def _diff(changes: Diff) -> Iterable[str]:
    for change in changes[:_CHANGES]:
        yield line(plain(in_a_line([change], ROOM - 4)[0]))
    if len(changes) > _CHANGES:
        yield safe(f"… {len(changes) - _CHANGES:,} more changes")
    if not changes:
        yield "no change"


def _moment(at: int) -> str:
    return human_time(iso(from_ns(at)))


def _bold(first: str, rest: str) -> str:
    return f"<b>{safe(first)}</b> {line(rest)}".rstrip()


def _wrapped(text: str) -> Iterable[str]:
    return (line(each) for each in wrap(text, ROOM))


def _listed(names: Sequence[str]) -> str:
    left = len(names) - _NAMES
    return ", ".join(names[:_NAMES]) + (f", … {left:,} more" if left > 0 else "")


def _error(text: str | None) -> str:
    return one_line(text or "failed", ROOM)


def _type(x: EventRecord) -> str:
    return cut_middle(x.type, _HALF)


def _name(text: str) -> str:
    return cut_middle(text, _HALF)
