"""Pause a space, step through what waits, and resume."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from happen_nb._journal.commits import with_previous
from happen_nb._journal.encoding import encode_pace
from happen_nb._journal.slice import events_at, events_between, read_entries, read_handled, windows
from happen_nb._model.causality import TraceNode
from happen_nb._model.pace import NodeTurn, Pace, Since
from happen_nb._model.positions import LAST_INDEX
from happen_nb._model.records import CommitRecord, EventRecord
from happen_nb._runtime.effects import open_here
from happen_nb._runtime.holds import LocalPause
from happen_nb._runtime.ownership import replace_record
from happen_nb._runtime.peers import deadline_of, with_wait
from happen_nb._runtime.waiting import POLL_SECONDS, seconds_left
from happen_nb.errors import HappenTimeoutError, PaceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from happen_nb._model.patterns import Pattern
    from happen_nb._runtime.runtime import Runtime

MAX_NAMED: Final = 10_000  # maximum number of waiting events that a process names in an answer
SPARSE: Final = 50  # if fewer events than this wait, they are read one by one


class StepResult(NamedTuple):
    """A turn that a step has released, with its result."""

    turn: NodeTurn
    event: EventRecord
    tree: TraceNode


class Stepper:
    """Changes the pace of a space. On the IO thread."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._log = runtime.log
        self._gate = runtime.dispatcher.gate

    # -- the pace ------------------------------------------------------------------------------------

    async def pause(
        self, pattern: Pattern, where: Callable[[EventRecord], bool] | None, deadline: float
    ) -> None:
        """Let the events of a pattern wait in every process; with `where`, those that it chooses, here."""
        if self._runtime.dispatcher.recall is not None:
            return  # its order is the recorded one, and the cell that has ended the pause does not run again
        if where is not None:
            self._gate.pause_here(LocalPause(pattern, where))
            return
        while not ((pace := self._log.pace).paused and pace.pattern == pattern.text):
            pauses = (*(pace.pauses if pace.paused else ()), Since(pattern.text, 0))
            await self._store(pace._replace(pauses=pauses, next=None, slow=None), deadline)

    async def resume(self, slow: float | None, deadline: float) -> None:
        """Release all events, at once or slowly; without `slow`, it may be called again."""
        gate = self._gate
        if self._runtime.dispatcher.recall is not None:
            return
        if gate.local is None and not self._log.pace.pauses:
            await self._log.fresh(seconds_left(deadline))  # it was paused just now, by an interrupted call
        local = gate.local
        if local is None and not self._log.pace.pauses and slow is not None:
            raise self.not_paused("resume")
        if local is not None:
            gate.pause_here(None if slow is None else local._replace(slow=slow))
        while (pace := self._log.pace).pauses and (pace.paused or pace.slow != slow):
            pauses = () if slow is None else pace.pauses[-1:]
            await self._store(Pace(pace.sequence, pauses, None, slow), deadline)
        if not self._log.pace.pauses:
            self._log.background(self._log.stream.keep_newest(self._log.subjects.pace, 1))

    async def _store(self, pace: Pace, deadline: float) -> bool:
        """Store the pace in the place of the one that its `sequence` names; False if there is another."""
        log, expected = self._log, pace.sequence
        pace = pace._replace(id=log.new_id())
        message, what = encode_pace(log.subjects, pace), "the pace of the space"
        stored = await replace_record(log, message, what, deadline, lambda: log.pace.sequence == expected)
        return stored or log.pace.id == pace.id  # if it was stored, and the answer was lost

    def not_paused(self, call: str) -> PaceError:
        now = "runs slowly" if self._gate.slow else "is not paused"
        return PaceError(f'{call}: the space "{self._log.subjects.space}" {now}; space.pause() pauses it')

    # -- what waits ----------------------------------------------------------------------------------

    async def turns(self, most: int) -> tuple[list[NodeTurn], int]:
        """Return the next turns in all processes, at most `most` of each, and the number of all."""
        mine = self._gate.turns()
        answers, _ = await self._ask(most)
        found = {*mine[:most], *(turn for answer in answers for turn in answer["held"])}
        return sorted(found), len(mine) + sum(answer["count"] for answer in answers)

    async def count_others(self) -> int:
        answers, _ = await self._ask(0)
        return sum(answer["count"] for answer in answers)

    async def _ask(self, most: int) -> tuple[list[dict[str, Any]], set[str]]:
        if not (self._log.pace.pauses and self._runtime.has_other_owners()):
            return [], set()
        return await self._runtime.ask_owners(*with_wait({"held": most}, self._log.position))

    async def answer_held(self, question: dict[str, Any]) -> dict[str, Any]:
        log, gate = self._log, self._gate
        deadline = deadline_of(question)
        await log.replica.reached(question["position"], seconds_left(deadline))
        await gate.first(deadline)
        turns = gate.turns() if log.pace.pauses else []
        named = turns[: min(question["held"], MAX_NAMED)]
        return {
            "held": [list(turn) for turn in named],
            "count": len(turns),
            "position": log.position,
            "by": log.incarnation,
        }

    async def events(self, turns: list[NodeTurn]) -> list[tuple[NodeTurn, EventRecord]]:
        """Read the events of turns; those that have expired are left out."""
        stream = self._log.stream
        sequences = sorted({turn.sequence for turn in turns})
        found: dict[tuple[int, int], EventRecord] = {}
        if len(sequences) < SPARSE:
            found = {event.position: event for event in await events_at(stream, sequences)}
        else:
            wanted = {turn.position for turn in turns}
            for start, end in windows(sequences[0], sequences[-1]):
                events = await events_between(stream, start, end)
                found |= {event.position: event for event in events if event.position in wanted}
        return [(turn, found[turn.position]) for turn in turns if turn.position in found]

    # -- steps ---------------------------------------------------------------------------------------

    async def step(self, timeout: float) -> StepResult | None:
        """Release the next event, and wait until its node has handled it; None if no event waits.

        Raises PaceError if the space is not paused, and HappenTimeoutError if the event is still handled
        after `timeout` seconds.
        """
        gate, deadline = self._gate, time.monotonic() + timeout
        if not gate.paused:
            await self._log.fresh(self._log.timeout)  # as in `resume`
        while True:
            pace = self._log.pace  # first: another process may take the same turn meanwhile
            if not gate.paused:
                raise self.not_paused("step")
            mine = await gate.first(deadline)
            answers, _ = await self._ask(1)
            offers = {
                turn: answer["by"] for answer in answers for turn in answer["held"][:1] if "by" in answer
            }
            turn = min([*offers, *([mine] if mine is not None else [])], default=None)
            if turn is None:
                return None
            if found := await self.events([turn]):
                break
            await asyncio.sleep(POLL_SECONDS)  # it has expired just now
        event, start = found[0][1], self._log.position
        if not await self._release(turn, pace, deadline):
            return await self.step(timeout)  # another process has changed the pace
        done = await self._wait(turn, None if turn == mine else offers[turn], deadline)
        if not done:
            raise HappenTimeoutError(
                f'step: node "{turn.node}" is still handling "{event.type}" after {timeout:g} s'
            )
        return StepResult(turn, event, await self._effects(turn, event, start))

    async def _release(self, turn: NodeTurn, pace: Pace, deadline: float) -> bool:
        if pace.paused:
            return await self._store(pace._replace(next=turn), deadline)
        self._gate.release_next_here(turn)
        return True

    async def _wait(self, turn: NodeTurn, process: str | None, deadline: float) -> bool:
        """Wait until a turn is taken, here or in another process."""
        if process is None:
            done = await self._gate.handled(turn, deadline)
            await self._runtime.dispatcher.handled.flush()
            return done
        position = self._log.position
        while time.monotonic() < deadline:
            question, timeout = with_wait({"step": list(turn)}, position, deadline)
            answer = await self._runtime.peers.ask(process, question, timeout)
            if answer is None:
                return True  # it has ended, and does nothing further
            if answer.get("done"):
                await self._log.reach(answer["position"], deadline)
                return True
        return False

    async def answer_step(self, question: dict[str, Any]) -> dict[str, Any]:
        log, turn = self._log, question["step"]
        deadline = deadline_of(question)
        reached = await log.replica.reached(question["position"], seconds_left(deadline))
        done = reached and (turn is None or await self._gate.handled(turn, deadline))
        await self._runtime.dispatcher.handled.flush()
        return {"done": done, "position": log.position, "by": log.incarnation}

    async def _effects(self, turn: NodeTurn, event: EventRecord, start: int) -> TraceNode:
        """Read the result of a turn since a position: its outcome, its commits, and the emitted events."""
        stream, id = self._log.stream, event.id
        entries = await read_entries(stream, since=(start, LAST_INDEX))
        ended = dict.fromkeys(await read_handled(stream, since=start))
        handled = [each for each in ended if each.event == id]
        others = {each.node for each in handled} - {turn.node}
        commits = [entry for entry in entries if isinstance(entry, CommitRecord)]
        children: list[tuple[tuple[int, int], TraceNode]] = []
        for record, before in await with_previous(stream, commits):
            of_event = record.origin.cause == id or id in record.folded
            if of_event and (record.origin.by or record.node) not in others:
                children.append(((record.sequence, -1), TraceNode(commit=record, before=before)))
        emitted = [
            entry
            for entry in entries
            if isinstance(entry, EventRecord) and entry.cause == id and entry.sender not in others
        ]
        still = open_here(self._runtime, emitted, {each.event for each in ended})
        for entry in emitted:
            of_it = tuple(each for each in ended if each.event == entry.id)
            children.append((entry.position, TraceNode(event=entry, handled=of_it, open=still.get(entry.id))))
        children.sort(key=lambda each: each[0])
        mine = tuple(each for each in handled if each.node == turn.node)
        effects = tuple(node for _, node in children)
        return TraceNode(event=event, handled=mine, children=effects, colours=self._runtime.colours())
