"""State handlers that have their turn together, on a manual clock.

There, the handlers of one event run after those of the event before, so that each run is the same. But
transforms do not see the commits of other nodes meanwhile, so these are sent together, in the order of the
events and of their handlers. Later events have their turn when they are stored.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from happen_nb._runtime.in_flight import Work
from happen_nb._runtime.io import io_thread
from happen_nb.errors import ClosedError

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable

    from happen_nb._model.pace import NodeTurn
    from happen_nb._model.records import Cut, EventRecord
    from happen_nb._runtime.dispatcher import Dispatcher
    from happen_nb._runtime.registrations import Registration

CHECK_SECONDS: Final = 0.25  # seconds between checks that handlers make progress


class Part(NamedTuple):
    """The state handlers of one node, and the states that they view."""

    node: str
    handlers: list[Registration]
    snapshot: Cut | None
    replies: bool


class Turn(Work):
    """An event whose state handlers wait for their turn."""

    def __init__(self, event: EventRecord, context: contextvars.Context | None, parts: list[Part]) -> None:
        self.event = event
        self.context = context
        self.parts = parts
        self.correlation = event.correlation or event.id
        self.order = (*event.position, parts[0].handlers[0].number, False)

    def describe(self) -> str:
        return f'"{self.event.type}" waiting for its turn'

    def takes(self, turn: NodeTurn) -> bool:
        return any(turn == (*self.event.position, part.node) for part in self.parts)


class Turns:
    """The events whose state handlers wait for their turn."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._waiting: deque[Turn] = deque()
        self._nodes: Counter[str] = Counter()  # the number of events that wait at each node
        self._closed = False

    def put(self, turn: Turn) -> None:
        """Let the handlers of an event wait for their turn. On the IO thread."""
        if self._closed:
            return
        self._waiting.append(turn)
        self._nodes.update(part.node for part in turn.parts)
        self._dispatcher.in_flight.start(turn)
        self._dispatcher.workers.submit(self._take, turn.order)

    def waiting(self) -> list[str]:
        """Return the ids of the events that wait. From any thread."""
        return [turn.event.id for turn in list(self._waiting)]

    def waits_at(self, node: str) -> bool:
        """Return True if an event waits at a node: a later one must not overtake it. On the IO thread."""
        return self._nodes[node] > 0

    def drop(self, before: int) -> None:
        """Drop the events stored before a position: they were deleted. On the IO thread."""
        for turn in list(self._waiting):
            if turn.event.sequence < before:
                self._waiting.remove(turn)
                self._nodes.subtract(part.node for part in turn.parts)
                self._dispatcher.in_flight.finish(turn)

    def withdraw(self, waits: Callable[[EventRecord], bool]) -> list[Turn]:
        """Take the turns out that wait, from the first event of each node on for which `waits` holds.

        Each item of the result is the turn of one node.
        """
        taken: list[Turn] = []
        nodes: set[str] = set()
        for turn in list(self._waiting):
            if waits(turn.event):
                nodes.update(part.node for part in turn.parts)
            parts = [part for part in turn.parts if part.node in nodes]
            self._nodes.subtract(part.node for part in parts)
            taken += (Turn(turn.event, turn.context, [part]) for part in parts)
            turn.parts = [part for part in turn.parts if part.node not in nodes]
            if not turn.parts:
                self._waiting.remove(turn)
                self._dispatcher.in_flight.finish(turn)
        return taken

    def close(self) -> None:
        """Start nothing more: the next process applies the waiting events. On the IO thread."""
        self._closed = True
        self.withdraw(lambda _: True)

    def _take(self) -> None:
        """Start the handlers of the next events, and wait until their commits are stored. On a worker."""
        ended = threading.Lock()
        ended.acquire()
        io_thread().call_soon(self._start, ended.release)
        with self._dispatcher.workers.blocked("to transforms"):
            ended.acquire()

    def _start(self, end: Callable[[], None]) -> None:
        pipelines = self._dispatcher.pipelines
        items: set[Work] = set()
        with self._dispatcher.workers.held():  # else they would be evaluated, and sent, one by one
            for turn in self._next():
                items.update(pipelines.put(turn.event, turn.context, turn.parts, in_turn=True))
                self._dispatcher.in_flight.finish(turn)
        waiting = self._dispatcher.log.background(self._end(items))
        waiting.add_done_callback(lambda _: end())  # also if it is cancelled before it begins

    def _next(self) -> list[Turn]:
        """Return the next events whose handlers are at different nodes."""
        turns: list[Turn] = []
        nodes: set[str] = set()
        while self._waiting and nodes.isdisjoint(part.node for part in self._waiting[0].parts):
            if turns and not self._dispatcher.workers.take(self._waiting[0].order):
                break
            turns.append(self._waiting.popleft())
            there = [part.node for part in turns[-1].parts]
            nodes.update(there)
            self._nodes.subtract(there)
        return turns

    async def _end(self, items: set[Work]) -> None:
        """Wait until the handlers have ended, or until one of them hangs."""
        in_flight, workers = self._dispatcher.in_flight, self._dispatcher.workers
        left = len(items)
        with suppress(ClosedError):  # nothing ends after that
            while items := set(await in_flight.drain(items.__contains__, time.monotonic() + CHECK_SECONDS)):
                if len(items) < left:
                    workers.note_progress()
                left = len(items)
