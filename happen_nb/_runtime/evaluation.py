"""The parts of a `Pipeline`: the events that wait, the steps evaluated ahead, and the worker's line."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from happen_nb._model.records import NO_ORIGIN, HandledRecord, revision_after
from happen_nb._runtime.in_flight import Handling
from happen_nb._runtime.io import io_thread

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Iterable, Sequence

    from happen_nb._journal.outbox import PendingWrite
    from happen_nb._model.positions import Position, Positions, Progress
    from happen_nb._model.records import CommitRecord, Cut, EventRecord, Origin
    from happen_nb._runtime.commit_turns import CommitTurns
    from happen_nb._runtime.first_run import Recall
    from happen_nb._runtime.progress import StateHandler
    from happen_nb._runtime.registrations import Registration
    from happen_nb._runtime.replica import Applied
    from happen_nb._runtime.workers import Workers

MAX_AHEAD = 32  # maximum number of commits of a node that are ready to be sent; evaluation pauses there
HANDOVER_COMMITS = 32  # number of commits that the worker evaluates before it hands them over
HANDOVER_SECONDS = 0.05  # seconds of transforms after which the worker hands over their results
UNKNOWN: Final[Any] = object()  # stands for the head of a pipeline that has to start from the newest commit


class Refused(Exception):  # noqa: N818 - no error
    """The filter of a handler does not accept the event."""


class Unusual(Exception):  # noqa: N818 - no error
    """The event needs a `Delivery`: its filter raised, or its transform gave an event an id or a time."""


class Outcome(Protocol):
    """The result of a transform."""

    record: CommitRecord
    """The commit, with its events. The next event may be applied to it before it is stored."""

    def changes(self, base: CommitRecord | None) -> bool:
        """Return True if it has to be stored after a commit."""

    def announce(self) -> None:
        """Expect the emitted events. On the IO thread, before they are sent."""

    def withdraw(self) -> None:
        """Expect them no more: they are not stored."""

    def conclude(self, events: dict[str, EventRecord]) -> None:
        """Take the emitted events as they are stored, by their ids."""


class Item(Handling):
    """An event that waits for a state handler of a node, or, if it is `slow`, for a `Delivery`."""

    __slots__ = (
        "began",
        "context",
        "correlation",
        "event",
        "folds",
        "handlers",
        "node",
        "outcome",
        "replies",
        "seconds",
        "slow",
        "snapshot",
        "waited",
    )

    def __init__(
        self,
        event: EventRecord,
        node: str,
        handlers: list[Registration],
        context: contextvars.Context | None,
        snapshot: Cut | None,
        replies: bool,  # noqa: FBT001 - one is made for each event and node
        slow: bool,  # noqa: FBT001
        fold: bool,  # noqa: FBT001
    ) -> None:
        self.event = event
        self.node = node
        self.handlers = handlers
        self.context = context
        self.snapshot = snapshot
        self.replies = replies
        self.slow = slow
        state = handlers[0].state
        self.folds = not slow and state is not None and (fold or state.fold)
        """True if one commit applies it together with others that wait."""
        self.outcome: str | None = "done"  # as it is recorded; None if its handler was unregistered
        self.seconds = self.waited = 0.0
        self.began = 0.0  # the time at which its transform began, by ``time.monotonic()``; 0 unless it runs
        self.correlation = event.correlation or event.id

    @property
    def order(self) -> tuple[Position, int]:
        return self.event.position, self.handlers[0].number

    def hint(self) -> str:
        began = self.began
        return self.hint_at(self.handlers[0], began) if began else ""

    def handled(self) -> HandledRecord:
        name, outcome = self.handlers[0].name, self.outcome or ""
        return HandledRecord(self.event.id, self.node, name, outcome, self.seconds, None, 1, "", self.waited)


class EvaluatedStep:
    """A commit after the one of `head` that was evaluated, or the end of events that need none."""

    origin: Origin = NO_ORIGIN
    events: tuple[EventRecord, ...] = ()  # the events that are stored with its commit
    positions: Positions  # the progress of all handlers of the node after it
    slow = False  # True for an event that needs a `Delivery`
    error: BaseException | None = None  # the error of its transform
    write: PendingWrite[Applied] | None = None
    missing: frozenset[str] = frozenset()  # in a second run, the ids of the events that it still has to fold

    def __init__(self, head: CommitRecord | None) -> None:
        self.items: list[Item] = []  # the events that it applies: one, or several that fold
        self.base = self.head = head
        """The commit before it; and the record with the events so far, which the next one is applied to."""
        self.outcomes: list[Outcome] = []
        """The results of the transforms: those with events, and the last; none if it needs no commit."""
        self.progress: dict[StateHandler, tuple[Progress, Progress]] = {}
        """The progress of the handlers before and after this step."""

    @property
    def folded(self) -> tuple[str, ...]:
        """The ids of the events that it applies beside its cause."""
        cause = self.origin.cause
        ids = (item.event.id for item in self.items if item.outcome == "done")
        return tuple(id for id in dict.fromkeys(ids) if id != cause)

    def add(self, outcome: Outcome) -> None:
        """Store the result of one more transform with its commit."""
        record = outcome.record
        record.revision = revision_after(self.base)
        if self.outcomes:
            if not self.outcomes[-1].record.events:
                self.outcomes.pop()
        else:
            self.origin = record.origin
        self.outcomes.append(outcome)
        self.head = record
        if record.events:
            self.events += record.events


class Batch:
    """Events of a node that a worker evaluates in a row, from its commit `head` on.

    `positions` is the progress of the node's handlers then. ``carried(registration, positions, position)``
    returns the positions of the other handlers that a commit carries on. A second run folds the same events
    as the first one, which `recall` knows.
    """

    def __init__(
        self,
        head: CommitRecord | None,
        positions: Positions,
        carried: Callable[[Registration, Positions, Position], Positions],
        recall: Recall | None,
    ) -> None:
        self.head = head
        self.positions = positions
        self.steps: list[EvaluatedStep] = []
        self.commits = 0  # the number of steps that need a commit
        self.spent = 0.0  # the seconds that the transforms took
        self._carried = carried
        self._recall = recall

    def evaluate(self, items: list[Item]) -> int:
        """Evaluate events until one needs a `Delivery`, or they take long; return their number."""
        evaluated, step = 0, EvaluatedStep(self.head)
        for item in items:
            if step.items and not self._joins(item, step):
                self._end(step)
                step = EvaluatedStep(self.head)
            if self._recall is not None and not step.items:
                step.missing = self._recall.folded(item.event.id, item.node)
                if step.missing and evaluated:
                    break  # it waits for its turn
            if step.missing:
                step.missing -= {item.event.id}
            evaluated += 1
            slow = self._apply(item, step)
            if slow is not None:
                self._end(step)
                self.steps.append(slow)
                return evaluated
            if self.spent > HANDOVER_SECONDS and not step.missing:
                break
        self._end(step)
        return evaluated

    def _joins(self, item: Item, step: EvaluatedStep) -> bool:
        """Return True if an event is applied with the commit of the step before it."""
        return item.folds and step.items[-1].folds and (self._recall is None or bool(step.missing))

    def _apply(self, item: Item, step: EvaluatedStep) -> EvaluatedStep | None:
        """Apply an event with the commit of a step; or return a step of its own, for a `Delivery`."""
        registration = item.handlers[0]
        handler, position = registration.state, item.event.position
        if item.slow or handler is None:
            return _slow_step(item)
        known = step.progress.get(handler)
        progress = handler.progress(self.positions) if known is None else known[1]
        if position in progress.skipped:
            return _slow_step(item)
        outcome: Outcome | None = None
        if not registration.active:
            item.outcome = None
        elif not handler.is_done(position, progress):
            context = (item.context or registration.context).copy()
            item.began = started = time.monotonic()
            item.waited = max(0.0, (time.time_ns() - item.event.time) / 1e9)
            try:
                outcome = context.run(handler.evaluate, item.event, step.head, item.snapshot)
            except Refused:
                item.outcome = "refused"
            except Unusual:
                return _slow_step(item)
            except BaseException as error:
                return _slow_step(item, error)
            finally:
                item.began = 0.0
            item.seconds = time.monotonic() - started
            self.spent += item.seconds
            before = progress if known is None else known[0]
            step.progress[handler] = before, progress.after(position, handler.failed)
        step.items.append(item)
        if outcome is not None:
            step.add(outcome)
        return None

    def _end(self, step: EvaluatedStep) -> None:
        """Decide whether a step needs a commit; the next one follows it."""
        if not step.items:
            return
        outcomes, positions = step.outcomes, self.positions
        if outcomes and (step.events or outcomes[-1].changes(step.base)):
            last = step.items[-1]
            self.head, self.commits = step.head, self.commits + 1
            positions = self._carried(last.handlers[0], positions, last.event.position)
        else:
            outcomes.clear()
        positions = dict(positions)
        for handler, (_, now) in step.progress.items():
            positions[handler.key] = now
        step.positions = self.positions = positions
        self.steps.append(step)


def _slow_step(item: Item, error: BaseException | None = None) -> EvaluatedStep:
    """Return the step of an event that needs a `Delivery`, with the error of its transform."""
    step = EvaluatedStep(None)
    step.items.append(item)
    step.slow, step.error = True, error
    return step


@dataclass(eq=False)
class Pipeline:
    """The events of one node on their way to its commits."""

    node: str
    line: Line
    turns: CommitTurns
    waiting: deque[Item] = field(default_factory=deque)  # in the order of the journal
    evaluating: Sequence[Item] = ()
    ready: deque[EvaluatedStep] = field(default_factory=deque)
    flying: EvaluatedStep | None = None
    head: CommitRecord | None = UNKNOWN  # the record that the next commit follows
    positions: Positions = field(default_factory=dict)
    epoch: int = 0
    held: bool = False  # True while evaluation pauses because a `Delivery` comes first
    delivering: bool = False
    queued: bool = False  # True while it waits for the worker
    slow: int = 0  # the number of slow transforms in a row
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def idle(self) -> bool:
        with self.lock:
            busy = self.waiting or self.evaluating or self.ready or self.flying or self.delivering
        return not busy

    @property
    def may_go_on(self) -> bool:
        """True if there is something to evaluate, and room for it. Under the lock."""
        full = len(self.ready) > MAX_AHEAD
        return not (full or self.held or self.evaluating or not self.waiting)

    def put_back(self, items: Iterable[Item]) -> None:
        """Let items wait again, in their order: one that is tried out of it would count as applied."""
        first = list(items)  # most of those that wait come later, and stay as they are
        last = max((item.order for item in first), default=None)
        while last is not None and self.waiting and self.waiting[0].order < last:
            first.append(self.waiting.popleft())
        self.waiting.extendleft(sorted(first, key=lambda item: item.order, reverse=True))

    def items(self) -> list[Item]:
        """Return the events that are not done. From any thread."""
        with self.lock:
            flying = [] if self.flying is None else self.flying.items
            ready = [item for step in self.ready for item in step.items]
            return [*flying, *ready, *self.evaluating, *self.waiting]


def take_first(waiting: deque[Item], most: int) -> list[Item]:
    """Take the first items out of those that wait."""
    if len(waiting) > most:
        return [waiting.popleft() for _ in range(most)]
    taken = list(waiting)
    waiting.clear()
    return taken


class Line:
    """Pipelines that one worker evaluates, one after the other."""

    def __init__(
        self,
        workers: Workers,
        evaluate: Callable[[Pipeline], int],
        hand_over: Callable[[list[Pipeline]], None],
    ) -> None:
        self._workers = workers
        self._evaluate = evaluate
        self._hand_over = hand_over
        self._todo: deque[Pipeline] = deque()
        self._running = False
        self._lock = threading.Lock()
        self.since = 0.0
        """The time at which the evaluation of a pipeline began, by ``time.monotonic()``; 0 between."""

    def put(self, pipelines: Iterable[Pipeline]) -> None:
        with self._lock:
            self._todo.extend(pipelines)
            if self._running or not self._todo:
                return
            self._running = True
        self._workers.submit(self._run)

    def take_all(self) -> list[Pipeline]:
        """Return the pipelines that wait, for another line."""
        with self._lock:
            taken, self._todo = list(self._todo), deque()
        return taken

    def _next(self, *, end: bool) -> Pipeline | None:
        with self._lock:
            if self._todo:
                return self._todo.popleft()
            self._running = not end
            return None

    def _run(self) -> None:
        while True:
            evaluated: list[Pipeline] = []
            commits = 0
            while commits < HANDOVER_COMMITS and (pipeline := self._next(end=not evaluated)) is not None:
                self.since = time.monotonic()
                commits += self._evaluate(pipeline)
                self.since = 0.0
                evaluated.append(pipeline)
            if not evaluated:
                return
            io_thread().call_soon(self._hand_over, evaluated)
