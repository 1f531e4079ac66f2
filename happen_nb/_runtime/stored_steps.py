"""The stored steps of durable handlers, by their keys, and how far the handlers have come."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Container, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from happen_nb._journal.decoding import Clear, Handled
from happen_nb._journal.follower import FreshStart
from happen_nb._journal.scheduled import Ended
from happen_nb._journal.slice import Entry, read_keyed, windows
from happen_nb._journal.stream import Stream
from happen_nb._model.positions import Position, StepNumber, handling_id, read_key, step_event_id, step_key
from happen_nb._model.records import CommitRecord, EventRecord
from happen_nb._runtime.waiting import POLL_SECONDS
from happen_nb.errors import NondeterminismError, NotStoredError

MAX_KNOWN: Final = 10_000
"""Maximum number of handlings whose steps are known; a handler that runs again reads older ones."""


class StoredStep(NamedTuple):
    """A commit, an event or a cancel that a step has stored."""

    sequence: int
    does: str | None  # its description for a message; None if only the cancel of a scheduled event is left
    due: str | None = None  # the time of a scheduled event


def steps_of(entry: Entry | Ended) -> list[tuple[str, StoredStep]]:
    """Return the steps that an entry of the journal shows to be done, with their keys."""
    shown: list[tuple[str | None, StoredStep]]
    if isinstance(entry, Ended):
        due = None if entry.event is None else entry.event.due
        shown = [
            (entry.key, StoredStep(entry.sequence, cancels(entry.id))),
            (entry.scheduled_key, StoredStep(entry.sequence, None, due)),
        ]
    elif isinstance(entry, CommitRecord):
        shown = [(entry.key, StoredStep(entry.sequence, commits(entry.node)))]
    else:
        does = emits(entry.type, entry.target)
        shown = [(entry.key, StoredStep(entry.sequence, does, entry.due))]
    return [(key, step) for key, step in shown if key is not None]


def commits(node: str) -> str:
    return f'commits a state of node "{node}"'


def emits(type: str, target: str | None) -> str:
    return f'broadcasts "{type}"' if target is None else f'sends "{type}" to node "{target}"'


def cancels(id: str) -> str:
    return f'cancels "{id}"'


class KnownSteps:
    """The steps of one handling that are known here."""

    def __init__(self) -> None:
        self.steps: dict[StepNumber, StoredStep] = {}
        self.ended = False  # True if a process has recorded that the handling has ended


class StoredSteps:
    """The stored steps of the handlings that have not ended, as far as this process has read the journal.

    A step is noted before the replica applies it: a snapshot is never newer than these. It is written on the
    IO thread, and read from any.
    """

    def __init__(self) -> None:
        self._known: dict[str, KnownSteps] = {}
        self._held: Counter[str] = Counter()
        self._keeping = 0
        self._since = 0
        self._position = 0
        self._states_at = 0
        """The position of the states, which a fresh start moves ahead of that of the messages."""

    # -- following, on the IO thread -----------------------------------------------------------------

    def apply(self, item: Any, sequence: int) -> None:
        """Note the next message of the journal."""
        self._position = sequence
        kind = type(item)
        if kind is CommitRecord or kind is EventRecord or kind is Ended:
            if kind is Ended or item.key is not None:
                for key, step in steps_of(item):
                    self._note(key, step)
        elif isinstance(item, Handled):
            self._note_ended(item)
        elif isinstance(item, Clear):
            self._start_over()

    def caught_up(self, position: int) -> None:
        """Note that nothing more is stored up to a position."""
        self._position = max(self._position, position)

    def reset(self, start: FreshStart, position: int) -> None:
        """Note that the states are read again; messages follow from a position on."""
        self._states_at, self._position = start.position, position
        if not start.again:
            self._since = start.position
            self._start_over()

    def _start_over(self) -> None:
        self._known = {handling: KnownSteps() for handling in self._held}

    async def reach_states(self, timeout: float) -> None:
        """Wait until the steps of all messages behind the states are noted."""
        deadline = time.monotonic() + timeout
        while self.is_behind:
            if time.monotonic() > deadline:
                raise NotStoredError(f"the steps of a durable handler could not be read within {timeout:g} s")
            await asyncio.sleep(POLL_SECONDS)

    def _note(self, key: str, step: StoredStep) -> None:
        found = read_key(key)
        if found is None:
            return
        handling, number = found
        self._known.setdefault(handling, KnownSteps()).steps.setdefault(number, step)
        if len(self._known) > MAX_KNOWN and not self._keeping:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        oldest = next((each for each in self._known if each not in self._held), None)
        if oldest is not None:
            steps = self._known.pop(oldest).steps.values()
            self._since = max(self._since, *(step.sequence for step in steps), 0)

    def _note_ended(self, handled: Handled) -> None:
        if not self._known and not self._keeping:
            return  # nothing durable is under way
        ended = [record.handling for record in handled.records() if record.handling is not None]
        for handling in ended:
            if self._keeping or handling in self._held:
                self._known.setdefault(handling, KnownSteps()).ended = True
            else:
                self._known.pop(handling, None)

    @contextmanager
    def keeping(self) -> Iterator[None]:
        """Keep all steps while the handlings that are to run are read and queued."""
        self._keeping += 1
        try:
            yield
        finally:
            self._keeping -= 1
            if not self._keeping:
                self._known = {
                    handling: known
                    for handling, known in self._known.items()
                    if handling in self._held or not known.ended
                }

    async def load(self, stream: Stream, start: int, handlings: Container[str], *, all: bool = False) -> None:
        """Read the stored steps of some handlings from a sequence on, with `all` also those noted before."""
        end = (await stream.exact_info()).last if all else self._since
        for first, last in windows(start, end):
            for entry in await read_keyed(stream, first, last):
                for key, step in steps_of(entry):
                    found = read_key(key)
                    if found is not None and found[0] in handlings:
                        self._note(key, step)

    def hold(self, handling: str) -> None:
        """Keep the steps of a handling, even if another process records that it has ended."""
        self._held[handling] += 1
        self._known.setdefault(handling, KnownSteps())

    def release(self, handling: str) -> None:
        """Stop keeping the steps of a handling longer than those of others."""
        self._held[handling] -= 1
        if self._held[handling] <= 0:
            del self._held[handling]
            known = self._known.get(handling)
            if known is not None and (known.ended or not known.steps):
                del self._known[handling]

    # -- reading, from any thread --------------------------------------------------------------------

    @property
    def is_behind(self) -> bool:
        """True if the states are newer than these steps."""
        return self._position < self._states_at

    def open_again(self, handling: str) -> None:
        """Forget that a handling has ended: it failed, and is tried again."""
        self.of(handling).ended = False

    def of(self, handling: str) -> KnownSteps:
        return self._known.get(handling) or KnownSteps()


class DurableStep:
    """One commit, broadcast, send or cancel of a durable handler."""

    def __init__(self, run: DurableRun, number: StepNumber) -> None:
        self._run = run
        self.number = number
        self.key = step_key(run.handling, number)
        self.event_id = step_event_id(run.handling, number[0])

    def stored(self, does: str) -> StoredStep | None:
        """Return the record that an earlier run of the handler stored in this step, if there is one.

        Raises NondeterminismError if that run did something different.
        """
        found = self._run.known.steps.get(self.number)
        if found is not None and found.does is not None and found.does != does:
            raise self.differs(found.does, does)
        return found

    @property
    def is_done(self) -> bool:
        """True if a run of the handler has stored this step or gone on after it, as far as is read here."""
        return self.number in self._run.known.steps or self.is_past()

    def is_past(self) -> bool:
        """Return True if an earlier run continued after this step, which therefore stored nothing."""
        known = self._run.known
        return known.ended or any(number > self.number for number in known.steps)

    def differs(self, before: str, now: str) -> NondeterminismError:
        """Return the error of a step that differs from the earlier run."""
        return self._run.differs(self.number, before, now)


class DurableRun:
    """One run of a durable handler for an event, which may have run before."""

    def __init__(self, steps: StoredSteps, handling: str, what: str) -> None:
        self.handling = handling  # its id
        self._steps = steps
        self._what = what  # its description for messages
        self._number: StepNumber = (0, 0)
        self._mark: StepNumber = (0, 0)
        self._lock = threading.Lock()

    @property
    def known(self) -> KnownSteps:
        return self._steps.of(self.handling)

    def next(self) -> DurableStep:
        with self._lock:
            number = self._number = self._number[0] + 1, 0
        return DurableStep(self, number)

    def next_cancel(self) -> DurableStep:
        """Start a cancel. It does not count as a step: most store no message."""
        with self._lock:
            number = self._number = self._number[0], self._number[1] + 1
        return DurableStep(self, number)

    def mark(self) -> None:
        """Note that a function of the handler returned: a retry starts after it."""
        self._mark = self._number

    def rewind(self) -> None:
        """Go back to where a retry starts."""
        self._number = self._mark

    def check_complete(self) -> None:
        """Raise NondeterminismError if an earlier run stored more."""
        more = [number for number in self.known.steps if number > self._number]
        if more:
            does = self.known.steps[min(more)].does or "schedules an event"
            raise self.differs(min(more), does, "the handler ends")

    def differs(self, number: StepNumber, before: str, now: str) -> NondeterminismError:
        step = f"cancel {number[1]} after step {number[0]}" if number[1] else f"step {number[0]}"
        return NondeterminismError(
            f"{self._what}: {step} differs from the earlier run of this handling. Then: {before}. "
            f"Now: {now}. A durable handler has to take the same steps in each run; decide inside of a "
            "transform, or record what the decision depends on with context.once"
        )


# -- how far a handler has come -----------------------------------------------------------------------------


class DurableHandler:
    """The progress of a durable handler in this process. Registrations that replace each other share it."""

    def __init__(self, node: str, key: str, pattern: str | None, position: Position, sequence: int) -> None:
        self.node = node
        self.key = key  # identifies it in all processes and runs
        self.pattern = pattern  # None for a predicate, which cannot be stored
        self.position = position  # the stored progress: it has ended for all events up to here
        self.sequence = sequence  # the sequence of the message that stores it
        self.live = False  # True if new events are delivered at once
        self.read_to = 0  # the sequence up to which the events that it missed were read and delivered
        self.queued: set[str] = set()  # the handlings that wait or run in this process
        self.open: dict[str, Position] = {}
        """The handlings that are known here and have not ended, with the positions of their events."""
        self.running: set[str] = set()  # the handlings that are running
        self.count = 0  # the handlings that have ended here since the progress was stored
        self.stored_at = time.monotonic()  # the time of that, by ``time.monotonic()``

    def handling(self, event: str) -> str:
        return handling_id(event, self.node, self.key)
