"""Commit the states of a node."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from happen_nb._api.events import record_of
from happen_nb._api.history import Commit
from happen_nb._api.transform_events import commit_emitting
from happen_nb._api.views import NodeStates, Views
from happen_nb._journal.commits import applied_at
from happen_nb._model.freeze import biggest_part, dumps
from happen_nb._model.frozen import FrozenDict
from happen_nb._model.records import EMPTY, CommitRecord, Cut, note_damage, unstored
from happen_nb._model.transforms import Transform, call_transform, compute, evaluate
from happen_nb._runtime import causes
from happen_nb._runtime.causes import Evaluation, evaluating
from happen_nb._runtime.io import on_io
from happen_nb._runtime.redirect import Redirected
from happen_nb._runtime.stored_steps import commits
from happen_nb._runtime.writer import CommitRequest
from happen_nb.errors import TooLargeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from happen_nb._api.space import Space
    from happen_nb._api.transform_events import PendingEvent
    from happen_nb._model.records import EventRecord
    from happen_nb._runtime.precedence import Contender
    from happen_nb._runtime.replica import Applied
    from happen_nb._runtime.runtime import Runtime
    from happen_nb._runtime.stored_steps import DurableStep


class StateWriter:
    """Commits the states of a node."""

    space = Redirected["Space"]()
    _runtime = Redirected["Runtime"]()

    def __init__(self, node: str, space: Space, runtime: Runtime) -> None:
        self.node = node
        self.space = space
        self._runtime = runtime

    async def commit(
        self,
        change: CommitRequest,
        deadline: float,
        emitted: Sequence[PendingEvent] = (),
        known: dict[str, EventRecord] | None = None,
        *,
        in_turn: bool = False,
        contender: Contender | None = None,
    ) -> Applied | None:
        """Store a change with its events; None if another commit was stored first.

        `in_turn` is True if the change was computed again in the turn to store that it had before. Writers
        that have lost for longer than `contender` go first.
        """
        runtime = self._runtime.checked
        if runtime.precedence.must_wait(self.node, contender):
            await on_io(runtime.precedence.wait(self.node, contender, deadline))
        if not in_turn:
            began = time.monotonic()
            await runtime.dispatcher.turn("commit", self.node)
            deadline += time.monotonic() - began
        if emitted:
            applied = await commit_emitting(
                runtime, change, emitted, deadline, {} if known is None else known
            )
        else:
            applied = await runtime.writer.commit(change, deadline)
        if applied is not None:
            runtime.on_own_commit.emit(applied)
            for each in emitted:
                runtime.on_own_event.emit(record_of(each.event), each.event.repeated)
        return applied

    def evaluate(
        self, transform: Transform, cut: Cut, evaluation: Evaluation, viewed: Cut | None = None
    ) -> tuple[FrozenDict, frozenset[str]]:
        """Run the transform on a snapshot, with the views of it or another one.

        Returns the new state and the names of the viewed nodes.
        """
        record = cut.nodes.get(self.node)
        if not callable(transform):
            return evaluate(transform, EMPTY, None, node=self.node, revision=0), frozenset()
        states = NodeStates(self._runtime, viewed or cut)
        views = Views(self.space, states)
        new = self.compute(partial(call_transform, transform, views=views), record, evaluation)
        return new, frozenset(states.viewed)

    def compute(
        self, call: Callable[..., Any], record: CommitRecord | None, evaluation: Evaluation, *arguments: Any
    ) -> FrozenDict:
        """Call a function of the state of a record and more arguments, and return the new state."""
        state, revision = (EMPTY, 0) if record is None else (record.state, record.revision)
        token = evaluating.set(evaluation)
        try:
            return compute(call, state, *arguments, node=self.node, revision=revision)
        except Exception as error:
            note_damage(self.node, record, error)
            raise
        finally:
            evaluating.reset(token)

    def check_size(self, state: FrozenDict, body: bytes) -> None:
        limit = self._runtime.log.max_body
        if len(body) > limit:
            path, size = biggest_part(state)
            raise TooLargeError(
                f'state.set of node "{self.node}": {len(body):,} bytes as JSON, and the server accepts at '
                f"most {limit:,}; the biggest part is {path} ({size:,} bytes). Split the state over several "
                "nodes"
            )

    def nothing(self) -> CommitRecord:
        nothing = CommitRecord(self.node, 0, 0, time.time_ns(), b"{}")
        nothing.adopt(EMPTY)
        return nothing

    async def commit_initial(self, initial: FrozenDict) -> None:
        """Commit `initial` if the node has no state; the first process wins."""
        log = self._runtime.log
        cut = log.replica.cut_of(self.node)
        record = cut.nodes.get(self.node)
        if record is None or record.deleted:
            body = dumps(initial)
            self.check_size(initial, body)
            change = CommitRequest(unstored(self.node, initial, body, causes.current_origin()), cut)
            await self.commit(change, time.monotonic() + log.timeout)

    async def done(self, step: DurableStep, newest: CommitRecord | None) -> Commit | None:
        """Return the commit that a step of a durable handler made in an earlier run; None if it is new.

        `newest` is the record of the node, read before.
        """
        log = self._runtime.log
        if log.steps.is_behind:
            await on_io(log.steps.reach_states(log.timeout))
        stored = step.stored(commits(self.node))
        if stored is None and not step.is_past():
            return None
        applied = None
        if stored is not None:
            applied = await on_io(applied_at(log.stream, stored.sequence))
        if applied is None:
            return Commit(newest or self.nothing(), newest, unchanged_at=log.replica.position)
        return Commit(*applied)

    async def delete(self) -> Commit | None:
        log, step = self._runtime.log, causes.next_step()
        deadline = time.monotonic() + log.timeout
        await on_io(log.fresh(log.timeout))  # another process may have just created it
        await on_io(self._runtime.dispatcher.lanes.forget(self.node))
        await on_io(self._runtime.dispatcher.durables.forget(self.node))
        with self._runtime.precedence.contender(self.node, deadline) as contender:
            while True:
                cut = log.replica.cut_of(self.node)
                record = cut.nodes.get(self.node)
                if record is None or record.deleted or (step is not None and await self.done(step, record)):
                    return None
                key = None if step is None else step.key
                record = unstored(self.node, EMPTY, None, causes.current_origin(), key=key)
                change = CommitRequest(record, cut)
                applied = await self.commit(change, deadline, contender=contender)
                if applied is not None:
                    return Commit(*applied)
                contender.lose()
