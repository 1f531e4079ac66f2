"""State handlers that are evaluated ahead of their commits, many nodes on one worker.

An event that only changes states needs no thread of its own: the transforms of all nodes run one after the
other, each on the state that its node will have, and the commits leave together. The next commit of a node
leaves when the one before is seen. Any other commit of the node makes all that was evaluated ahead invalid;
it is evaluated again, in the order of the journal. What needs more than that, such as a reply, a failure or
plain handlers of the node, is a `Delivery`, for which the pipeline waits.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from happen_nb._model.positions import merged
from happen_nb._runtime.commit_turns import CommitTurns
from happen_nb._runtime.evaluation import (
    HANDOVER_COMMITS,
    UNKNOWN,
    Batch,
    EvaluatedStep,
    Item,
    Line,
    Pipeline,
    take_first,
)
from happen_nb._runtime.io import io_thread
from happen_nb._runtime.turns import Part
from happen_nb._runtime.waiting import RETRY_SECONDS
from happen_nb._runtime.writer import CommitRequest, Writer
from happen_nb.errors import HappenError, NotStoredError, OutcomeUnknownError

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Iterable

    from happen_nb._journal.outbox import PendingWrite
    from happen_nb._model.records import CommitRecord, EventRecord
    from happen_nb._runtime.dispatcher import Dispatcher
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.registrations import Registration
    from happen_nb._runtime.replica import Applied

logger = logging.getLogger("happen_nb")

MAX_FOLDED = 256  # maximum number of events that one commit applies
SLOW_SECONDS = 0.005  # seconds from which a transform counts as slow
SLOW_IN_A_ROW = 3  # number of slow transforms in a row after which their node gets a worker of its own
STUCK_SECONDS = 0.05  # seconds of a transform after which another worker continues with the other nodes


class Pipelines:
    """The pipelines of this process. On the IO thread, but for what a worker evaluates."""

    def __init__(self, log: Log, dispatcher: Dispatcher) -> None:
        self._log = log
        self._writer = Writer(log)
        self._dispatcher = dispatcher
        self._pipelines: dict[str, Pipeline] = {}
        self._line = self._new_line()
        self._woken: list[Pipeline] = []
        self._ended: list[Item] = []
        self._watching = False
        self._closed = False
        self._on_decided = self._decided  # one for all writes
        dispatcher.precedence.on_end.connect(self._end_pause)
        log.replica.on_commit.connect(self._on_commit)
        log.connection.after_reading(self._finish_ended)
        log.connection.after_reading(self._put_woken)
        log.on_fresh_start.connect(lambda _: self._reset_all())

    def _new_line(self) -> Line:
        return Line(self._dispatcher.workers, self._evaluate, self._hand_over)

    # -- what waits ----------------------------------------------------------------------------------

    def put(
        self,
        event: EventRecord,
        context: contextvars.Context | None,
        parts: Iterable[Part],
        *,
        in_turn: bool = False,
    ) -> list[Item]:
        """Let an event wait for the handlers of nodes, the state handlers first; return what waits for those.

        On a manual clock, state handlers are evaluated ahead if it is their turn (`in_turn`).
        """
        ahead = self._may_evaluate_ahead(event, in_turn=in_turn)
        items: list[Item] = []
        for part in parts:
            items += self._add(event, context, part, ahead=ahead)
        self._dispatcher.in_flight.start(*items)
        return items

    def put_missed(
        self, node: str, events: Iterable[tuple[EventRecord, list[Registration]]], *, fold: bool
    ) -> None:
        """Let events wait for the state handlers of a node that have missed them."""
        items: list[Item] = []
        for event, handlers in events:
            part = Part(node, handlers, None, replies=False)
            items += self._add(event, None, part, ahead=self._may_evaluate_ahead(event), fold=fold)
        self._dispatcher.in_flight.start(*items)

    def _add(
        self,
        event: EventRecord,
        context: contextvars.Context | None,
        part: Part,
        *,
        ahead: bool,
        fold: bool = False,
    ) -> list[Item]:
        """Let an event wait behind others of its node; return what waits, if it is no `Delivery`."""
        node, handlers, snapshot, replies = part
        pipeline, queue = self._pipelines.get(node), self._dispatcher.queues.get(node)
        fast = ahead and self._is_fast(part)
        needs_delivery = not fast or (queue is not None and bool(queue.open))
        if needs_delivery and (pipeline is None or pipeline.idle):
            self._dispatcher.deliver(event, node, handlers, context, snapshot, replies=replies)
            return []
        if pipeline is None:
            turns = CommitTurns(node, self._dispatcher, self._log.outbox, self._go_on_storing)
            pipeline = self._pipelines[node] = Pipeline(node, self._line, turns)
        if len(handlers) == 1 or not fast:
            items = [Item(event, node, handlers, context, snapshot, replies, not fast, fold)]
        else:
            items = [Item(event, node, [each], context, snapshot, replies, False, fold) for each in handlers]
        with pipeline.lock:
            pipeline.waiting.extend(items)
        self._wake(pipeline)
        return items

    def _may_evaluate_ahead(self, event: EventRecord, *, in_turn: bool = False) -> bool:
        """Return False if the handlers of an event run one by one, or have to reply to it."""
        conductor = self._dispatcher.conductor
        ahead = in_turn or self._log.clock is None if conductor is None else conductor.evaluates_ahead
        return ahead and not _needs_reply(event)

    def _is_fast(self, part: Part) -> bool:
        """Return True if an event that needs no reply can be applied without a `Delivery`."""
        if not self._dispatcher.registrations.only_changes_state(part.node):
            return False
        for each in part.handlers:
            state = each.state
            if state is None or each.pattern.predicate is not None:
                return False
            if state.takes_views and part.snapshot is None:
                return False
        return True

    def items(self, node: str) -> list[Item]:
        """Return the events of a node that are not done. From any thread."""
        pipeline = self._pipelines.get(node)
        return [] if pipeline is None else pipeline.items()

    def queued(self, node: str | None = None) -> int:
        """Return the number of events that wait, at one node or all. From any thread."""
        pipelines = list(self._pipelines.values()) if node is None else [self._pipelines.get(node)]
        return sum(len(each.waiting) for each in pipelines if each is not None)

    def busy(self, node: str) -> float:
        """Return the seconds since the transform of a node that runs began. From any thread."""
        pipeline = self._pipelines.get(node)
        began = [item.began for item in pipeline.evaluating if item.began] if pipeline is not None else ()
        return time.monotonic() - min(began) if began else 0.0

    def open(self) -> list[str]:
        """Return the ids of the events that are not done. From any thread."""
        return [item.event.id for each in list(self._pipelines.values()) for item in each.items()]

    def running(self) -> list[tuple[str, str]]:
        """Return the ids of the events whose transforms run, each with its node. From any thread."""
        evaluating = [item for each in list(self._pipelines.values()) for item in list(each.evaluating)]
        return [(item.event.id, item.node) for item in evaluating if item.began]

    def drop(self, before: int) -> None:
        """Drop the events stored before a position: they were deleted."""
        for pipeline in list(self._pipelines.values()):
            self._reset(pipeline, lambda item: item.event.sequence >= before)

    def withdraw(self, waits: Callable[[EventRecord], bool]) -> list[Item]:
        """Take the events out that wait, from the first one of each node on for which `waits` holds."""
        taken: list[Item] = []
        for pipeline in self._pipelines.values():
            with pipeline.lock:
                items = list(pipeline.waiting)
                first = next((at for at, item in enumerate(items) if waits(item.event)), len(items))
                pipeline.waiting = deque(items[:first])
            taken += items[first:]
        for item in taken:
            self._dispatcher.in_flight.finish(item)
        return taken

    def put_again(self, item: Item) -> None:
        """Let an event wait again that was withdrawn, behind all others of its node."""
        pipeline = self._pipelines[item.node]
        self._dispatcher.in_flight.start(item)
        with pipeline.lock:
            pipeline.waiting.append(item)
        self._wake(pipeline)

    def abandon(self, registration: Registration) -> None:
        """Go on without a handler that was unregistered, if its transform runs."""
        pipeline = self._pipelines.get(registration.node)
        if pipeline is None:
            return
        if not any(item.began and registration in item.handlers for item in pipeline.evaluating):
            return
        with pipeline.lock:
            pipeline.put_back(pipeline.evaluating)
            pipeline.evaluating = ()  # its worker finds that they are taken
            pipeline.line, pipeline.queued = self._new_line(), False
        self._wake(pipeline)

    def close(self) -> None:
        """Stop evaluating; the next process applies the waiting events."""
        self._closed = True
        for pipeline in self._pipelines.values():
            with pipeline.lock:
                pipeline.held = True
                pipeline.waiting.clear()
                pipeline.ready.clear()
                pipeline.epoch += 1
            pipeline.turns.end()

    @property
    def works(self) -> bool:
        """True while something is evaluated or on its way, and does not wait for a conductor."""
        return any(self._works(each) for each in self._pipelines.values())

    def _works(self, pipeline: Pipeline) -> bool:
        if pipeline.delivering:
            return not self._dispatcher.queue(pipeline.node).open
        return not (pipeline.turns.offered or pipeline.idle)

    @property
    def flying(self) -> bool:
        """True while commits are on their way."""
        return any(each.flying is not None for each in self._pipelines.values())

    # -- the workers ---------------------------------------------------------------------------------

    def _wake(self, pipeline: Pipeline) -> None:
        """Let a worker evaluate what waits, together with what else is put in the same turn of the loop."""
        if not pipeline.queued and pipeline.may_go_on:  # else it is woken then
            pipeline.queued = True
            if not (self._woken or self._log.connection.reading):
                io_thread().loop.call_soon(self._put_woken)
            self._woken.append(pipeline)

    def _put_woken(self) -> None:
        """Let workers evaluate what waits; called after a batch of arrivals."""
        if not self._woken:
            return
        woken, self._woken = self._woken, []
        lines: dict[Line, list[Pipeline]] = {}
        in_turn = self._dispatcher.workers.in_turn
        for pipeline in woken:
            line = self._line if in_turn else pipeline.line  # in turn, all nodes have one order
            lines.setdefault(line, []).append(pipeline)
        for line, pipelines in lines.items():
            line.put(pipelines)
        if not self._watching:
            self._watching = True
            io_thread().loop.call_later(STUCK_SECONDS, self._watch)

    def _watch(self) -> None:
        """Let another worker go on with the other nodes if a transform takes long."""
        line = self._line
        if line.since and time.monotonic() - line.since > STUCK_SECONDS:
            self._line = self._new_line()
            waiting = line.take_all()
            for pipeline in self._pipelines.values():
                if pipeline.line is line and not pipeline.evaluating:
                    pipeline.line = self._line
            self._line.put(waiting)
        self._watching = any(each.queued or each.evaluating for each in self._pipelines.values())
        if self._watching:
            io_thread().loop.call_later(STUCK_SECONDS, self._watch)

    def _evaluate(self, pipeline: Pipeline) -> int:
        """Evaluate what waits, as far ahead as it may be; return the number of commits. On a worker."""
        with pipeline.lock:
            pipeline.queued = False
            if not pipeline.may_go_on:
                return 0
            if pipeline.head is UNKNOWN and not self._load_head(pipeline):
                return 0
            waiting, epoch, recall = pipeline.waiting, pipeline.epoch, self._dispatcher.recall
            first = waiting[0]
            folds = recall is not None and recall.folded(first.event.id, first.node)
            if folds and not pipeline.turns.is_of(first):
                io_thread().call_soon(self._await_turn, pipeline, first)
                return 0
            chosen = take_first(waiting, MAX_FOLDED if first.folds else HANDOVER_COMMITS)
            pipeline.evaluating = chosen
            batch = Batch(pipeline.head, pipeline.positions, self._dispatcher.progress.carried, recall)
        evaluated = batch.evaluate(chosen)
        if batch.spent > SLOW_SECONDS or pipeline.slow:
            self._choose_line(pipeline, chosen[:evaluated])
        with pipeline.lock:
            if pipeline.evaluating is not chosen:
                return 0  # it was abandoned
            pipeline.evaluating = ()
            if epoch != pipeline.epoch:  # another commit came meanwhile
                pipeline.put_back(chosen)
                return 0
            pipeline.head, pipeline.positions = batch.head, batch.positions
            pipeline.ready.extend(batch.steps)
            pipeline.held = batch.steps[-1].slow
            if evaluated < len(chosen):
                pipeline.waiting.extendleft(reversed(chosen[evaluated:]))  # they were the first
        return batch.commits

    def _load_head(self, pipeline: Pipeline) -> bool:
        """Start from the newest commit; False if its positions have to be looked up first."""
        replica = self._log.replica
        head = replica.newest(pipeline.node)
        positions = replica.positions(pipeline.node, head)
        if positions is None:
            pipeline.held = True
            io_thread().call_soon(self._look_up, pipeline, head)
            return False
        pipeline.head, pipeline.positions = head, positions
        return True

    def _await_turn(self, pipeline: Pipeline, first: Item) -> None:
        """Let events that are folded wait for their turn, in a second run: then all of them have arrived."""
        with pipeline.lock:
            is_next = not pipeline.ready and bool(pipeline.waiting) and pipeline.waiting[0] is first
        is_idle = pipeline.flying is None and not pipeline.delivering
        if is_next and is_idle and pipeline.turns.has_come(first):
            self._wake(pipeline)

    def _choose_line(self, pipeline: Pipeline, items: list[Item]) -> None:
        """Give a node a worker of its own while its transforms take long."""
        in_turn = self._dispatcher.clock.manual  # where the nodes have one order
        slow = not in_turn and any(item.seconds > SLOW_SECONDS for item in items)
        if not slow and not pipeline.slow:
            return
        pipeline.slow = pipeline.slow + 1 if slow else 0
        shared = pipeline.line is self._line
        if shared and pipeline.slow >= SLOW_IN_A_ROW:
            pipeline.line = self._new_line()
        elif not shared and not slow:
            pipeline.line = self._line

    # -- storing, on the IO thread -------------------------------------------------------------------

    def _hand_over(self, pipelines: list[Pipeline]) -> None:
        for pipeline in pipelines:
            self._advance(pipeline)
        if self._dispatcher.conductor is not None:
            self._dispatcher.conductor.look_again()

    def _advance(self, pipeline: Pipeline) -> None:
        """Send the next commit, if none is on its way."""
        while pipeline.flying is None and not pipeline.delivering and pipeline.ready:
            if pipeline.turns.pauses():
                break
            with pipeline.lock:
                step = pipeline.ready.popleft()
            if step.slow:
                self._deliver(pipeline, step)
            elif step.outcomes and not pipeline.turns.has_come(step.items[0]):
                with pipeline.lock:
                    pipeline.ready.appendleft(step)
                break
            elif step.outcomes:
                self._send(pipeline, step)
            else:
                pipeline.turns.end()
                self._conclude(step)
        if pipeline.waiting:
            self._wake(pipeline)

    def _go_on_storing(self, node: str) -> None:
        self._advance(self._pipelines[node])

    def _end_pause(self, node: str) -> None:
        """Go on, if that was waited for: another writer of a node does not go first any more."""
        if node in self._pipelines:
            self._pipelines[node].turns.end_pause()

    def _send(self, pipeline: Pipeline, step: EvaluatedStep) -> None:
        replica, node, record = self._log.replica, pipeline.node, step.outcomes[-1].record
        base = replica.newest(node)
        record.positions, passed = step.positions, replica.positions(node, base)
        if passed and (base is None or passed is not base.positions):
            record.positions = merged(passed, step.positions)
        if len(step.items) > 1:
            record.origin, record.events, record.folded = step.origin, step.events, step.folded
        request = CommitRequest(record, base, replica.position, replica.written)
        deadline = time.monotonic() + self._log.timeout
        try:
            write = self._writer.prepare(request, f'a state handler of node "{node}"', deadline)
        except HappenError as error:  # it is too large
            step.error = error
            self._deliver(pipeline, step)
            return
        if step.events:
            for outcome in step.outcomes:
                outcome.announce()
        step.write, pipeline.flying = write, step
        if len(write.messages) == 1:
            write.send(self._on_decided)
        else:
            self._log.background(self._complete(pipeline, step, write))

    def _decided(self, write: PendingWrite[Applied]) -> None:
        pipeline = self._pipelines[write.request.record.node]
        step = pipeline.flying
        if step is None or step.write is not write:
            return
        if write.seen is not None:
            self._stored(pipeline, step, write.seen.record.events)
        elif write.refused:
            self._reset(pipeline)
        elif write.error is None:
            self._log.background(self._complete(pipeline, step, write))

    async def _complete(self, pipeline: Pipeline, step: EvaluatedStep, write: PendingWrite[Applied]) -> None:
        """Store a commit by the server's answer, or find out whether it is stored."""
        try:
            stored = await self._writer.complete(write)
        except (NotStoredError, OutcomeUnknownError) as late:
            logger.info('node "%s" applying an event: %s; trying again', pipeline.node, late)
            stored = None
        except HappenError as error:
            if pipeline.flying is step:
                pipeline.flying, step.error = None, error
                _withdraw(step)
                self._deliver(pipeline, step)
            return
        if pipeline.flying is not step:
            return
        if stored is None:
            self._reset(pipeline)
        else:
            self._stored(pipeline, step, stored[1])

    def _stored(self, pipeline: Pipeline, step: EvaluatedStep, events: Iterable[EventRecord]) -> None:
        pipeline.flying = None
        pipeline.turns.stored(more=bool(pipeline.ready or pipeline.waiting))
        if step.events:
            by_id = {event.id: event for event in events}
            for outcome in step.outcomes:
                outcome.conclude(by_id)
        self._conclude(step)
        if pipeline.ready or pipeline.waiting:
            self._advance(pipeline)

    def _conclude(self, step: EvaluatedStep) -> None:
        """Note that events are done."""
        for handler, (before, after) in step.progress.items():
            handler.pass_over(after.position, map(_position, step.items))
            if step.outcomes:
                handler.recorded(before, after)
            else:
                self._dispatcher.progress.pass_soon(step.items[0].node)
        self._ended += step.items
        if not self._log.connection.reading:
            self._finish_ended()

    def _finish_ended(self) -> None:
        """Record the events that are done, and wake the waiters; called after a batch of arrivals."""
        if self._ended:
            ended, self._ended = self._ended, []
            self._dispatcher.handled.put(*[item.handled() for item in ended if item.outcome is not None])
            self._dispatcher.in_flight.finish(*ended)

    def _deliver(self, pipeline: Pipeline, step: EvaluatedStep) -> None:
        """Hand an event over to a `Delivery`, and wait until that has ended."""
        pipeline.turns.end()
        first, *others = step.items
        error = step.error if not others else None  # else it may not be that of the first
        with pipeline.lock:
            pipeline.put_back([*others, *(item for each in pipeline.ready for item in each.items)])
            pipeline.ready.clear()
            pipeline.held = pipeline.delivering = True
        self._dispatcher.deliver(
            first.event,
            first.node,
            first.handlers,
            first.context,
            first.snapshot,
            replies=first.replies,
            error=error,
        )
        self._dispatcher.in_flight.finish(first)
        go_on = partial(io_thread().call_soon, self._go_on, pipeline)
        self._dispatcher.queue(pipeline.node).mailbox.put(go_on)

    def _go_on(self, pipeline: Pipeline) -> None:
        pipeline.delivering = False
        self._reset(pipeline)
        if self._dispatcher.conductor is not None:
            self._dispatcher.conductor.look_again()

    # -- starting again ------------------------------------------------------------------------------

    def _on_commit(self, applied: Applied) -> None:
        record = applied.record
        pipeline = self._pipelines.get(record.node)
        if pipeline is None or pipeline.delivering or pipeline.head is UNKNOWN:
            return
        flying = pipeline.flying
        if flying is None or flying.outcomes[-1].record.id != record.id:
            self._reset(pipeline)

    def _reset_all(self) -> None:
        for pipeline in self._pipelines.values():
            self._reset(pipeline)

    def _reset(self, pipeline: Pipeline, keep: Callable[[Item], bool] | None = None) -> None:
        """Queue the events of all evaluated steps again: they were computed on an outdated state."""
        step, pipeline.flying = pipeline.flying, None
        pipeline.turns.reset(lost=step is not None)
        dropped: list[Item] = []
        with pipeline.lock:
            pipeline.epoch += 1
            pipeline.head = UNKNOWN
            steps = pipeline.ready if step is None else (step, *pipeline.ready)
            pipeline.put_back(item for each in steps for item in each.items)
            pipeline.ready.clear()
            pipeline.held = pipeline.delivering or self._closed
            if keep is not None:
                dropped = [item for item in pipeline.waiting if not keep(item)]
                pipeline.waiting = deque(item for item in pipeline.waiting if keep(item))
        self._dispatcher.in_flight.finish(*dropped)
        if step is not None and step.write is not None:
            self._log.outbox.drop(step.write)
            _withdraw(step)
        self._wake(pipeline)

    def _look_up(self, pipeline: Pipeline, head: CommitRecord | None) -> None:
        """Look up the positions of a node's handlers, which its newest commit does not carry."""
        self._log.background(self._look_positions_up(pipeline, head))

    async def _look_positions_up(self, pipeline: Pipeline, head: CommitRecord | None) -> None:
        try:
            await self._dispatcher.progress.positions(pipeline.node, head)
        except HappenError as error:
            logger.info('node "%s" applying an event: %s; trying again', pipeline.node, error)
            await asyncio.sleep(RETRY_SECONDS)
        self._reset(pipeline)


_position = attrgetter("event.position")


def _needs_reply(event: EventRecord) -> bool:
    return event.target is not None and event.tick is None


def _withdraw(step: EvaluatedStep) -> None:
    for outcome in step.outcomes:
        outcome.withdraw()
