"""Pausing a space: what waits, and stepping through it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from happen_nb._api.base import (
    Displayable,
    RecordSequence,
    SpacePart,
    Timeout,
    faces,
    refuse_in_callback,
    shown_by,
)
from happen_nb._api.events import Event, Trace, event_frame, stored_events_of
from happen_nb._model import arguments, functions
from happen_nb._model.patterns import Pattern
from happen_nb._model.quoting import error_summary, quote
from happen_nb._runtime.io import on_io, run_awaitable, run_blocking

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

    from happen_nb._model.pace import NodeTurn
    from happen_nb._model.records import EventRecord
    from happen_nb._runtime.runtime import Runtime
    from happen_nb._runtime.stepping import StepResult

logger = logging.getLogger("happen_nb")


class HeldEvent(Displayable):
    """An event that waits at a node while the space is paused.

    Attributes
    ----------
    event : Event
        The event, which is stored.
    node : str
        The name of the node that will handle it.
    """

    _page = shown_by("reprs_runs.held_event_page")
    _pickle = "pickle held.to_frame()"

    def __init__(self, event: Event, node: str) -> None:
        self.event = event
        self.node = node


class Held(RecordSequence[HeldEvent]):
    """The events that wait while a space is paused, one item for each event and node, the next one first.

    Attributes
    ----------
    space : str
        The name of the space.
    paused : bool
        True if the space is paused, so that events wait for a step.
    total : int
        Number of all events that wait; the items are at most the next 10,000.
    """

    _page = shown_by("reprs_runs.held_page")
    _pickle = "pickle held.to_frame()"

    def __init__(self, space: str, items: list[HeldEvent], *, paused: bool, total: int) -> None:
        self.space = space
        self._items = items
        self.paused = paused
        self.total = total

    def to_frame(self, *, flatten: bool = True) -> pd.DataFrame:
        """Return a frame with one row per event and node.

        Parameters
        ----------
        flatten : bool, optional
            Make a column ``payload.<key>`` for each key of the payloads instead of one column ``payload``.

        Returns
        -------
        pandas.DataFrame
            Index ``sequence``. Columns: ``node``, ``time`` in UTC, ``type``, ``sender``, ``id``,
            ``space_time`` on a manual clock, ``occurred`` if an event has it, then the payload.

        Examples
        --------
        >>> counting = inventory.on("order.*", lambda event: None)
        >>> space.pause()
        >>> event = orders.broadcast("order.placed", {"lamps": 2})
        >>> space.held.to_frame()[["node", "type", "payload.lamps"]].values.tolist()
        [['inventory', 'order.placed', 2]]
        """
        events, nodes = [each.event for each in self], [each.node for each in self]
        return event_frame(events, ("type", "sender", "id"), flatten=flatten, node=nodes)


class Step(Displayable):
    """An event that ``space.step`` released and a node handled.

    Attributes
    ----------
    event : Event
        The event.
    node : str
        The name of the node that has handled it.
    trace : Trace
        The handling: its outcome, its commits, and the events that it emitted, which may now wait too.
    """

    _page = shown_by("reprs_runs.step_page")
    _pickle = "pickle step.trace, or its text, str(step)"

    def __init__(self, runtime: Runtime, taken: StepResult) -> None:
        self.event = Event(taken.event, runtime)
        self.node = taken.turn.node
        self.trace = Trace(lambda: taken.tree)


class Steps(RecordSequence[Step]):
    """The steps of one call of ``space.step``, in order.

    Attributes
    ----------
    left : int
        Number of events that wait after them.
    """

    _page = shown_by("reprs_runs.steps_page")
    _pickle = "pickle the trace of each step, or their text, str(steps)"

    def __init__(self, items: list[Step], left: int) -> None:
        self._items = items
        self.left = left


class SpacePause(SpacePart):
    """The part of a space that pauses it."""

    async def _pause(self, pattern: str = "**", *, where: Callable[[Event], object] | None = None) -> None:
        """Pause the space, so that no node of any process begins to handle a matching event.

        Handlers that are already running continue, including their retries. Waiting events stay stored, and
        later events of their node wait behind them, so that each node handles them in order. The pause lasts
        until `resume`, even if this process ends: a process that connects meanwhile is paused, too. If the
        space is already paused, the new pattern replaces the old one.

        Parameters
        ----------
        pattern : str, optional
            The type of the events that wait, or a pattern; all by default.
        where : callable, optional
            Only events for which ``where(event)`` is true wait, and only in this process. A pause of all
            processes is not affected.

        Raises
        ------
        PatternError
            The pattern is not valid.

        Examples
        --------
        >>> counting = inventory.on("order.*", lambda event: inventory.state.set({"orders": 1}))
        >>> space.pause()
        >>> event = orders.broadcast("order.placed")
        >>> [(held.node, held.event.type) for held in space.held]
        [('inventory', 'order.placed')]
        >>> space.step()
        Step · inventory handled order.placed · 1 commit
          order.placed  orders → inventory
            inventory revision 1  + orders  1
        >>> space.resume()
        """
        if not isinstance(pattern, str):
            raise TypeError(f"pause: pattern is {quote(pattern)}; pass a string, and a function as where=")
        matching = Pattern.of(pattern)
        if where is not None:
            functions.check_condition(where, "pause: where")
        runtime = self._runtime.checked
        waits = None if where is None else _record_filter(where, runtime)
        await on_io(runtime.stepper.pause(matching, waits, runtime.deadline()))

    pause, apause = faces(_pause)

    async def _step(self, count: int = 1, *, timeout: Timeout = 60.0) -> Steps:
        """Release the next event, and wait until its node has handled it.

        The next event is the oldest one that waits in any process. If it waits at several nodes, each of them
        needs a step of its own, in the order of their names.

        Parameters
        ----------
        count : int, optional
            Number of steps, one after the other.
        timeout : float or timedelta, optional
            Seconds to wait for each handling; None waits without limit.

        Returns
        -------
        Steps
            For each step, the commits of the handling and the events that it emitted.

        Raises
        ------
        PaceError
            The space is not paused.
        HappenTimeoutError
            The event is still handled after `timeout` seconds.
        HappenError
            Called in a handler or callback, where it would wait for itself.
        """
        number = arguments.count(count, "step: count", least=1)
        seconds = arguments.timeout(timeout, "step: timeout")
        refuse_in_callback("step")
        runtime = self._runtime.checked
        stepper, taken = runtime.stepper, list[Step]()
        while len(taken) < number:
            found = await on_io(stepper.step(seconds))
            if found is None:
                break
            taken.append(Step(runtime, found))
        held: tuple[list[NodeTurn], int] = await on_io(stepper.turns(0))
        return Steps(taken, held[1])

    step, astep = faces(_step, refuse=("space.step()", "call it in a cell"))

    async def _resume(self, *, slow: Timeout = None) -> None:
        """End the pause, and release all waiting events in order. A space that is not paused stays so.

        Parameters
        ----------
        slow : float or timedelta, optional
            Seconds that each process waits before each of these events, so that you can watch them. Call
            ``resume`` again without `slow` for full speed.

        Raises
        ------
        PaceError
            The space is not paused, and `slow` is given.
        """
        pause = None if slow is None else arguments.seconds(slow, "resume: slow", endless=False) or None
        runtime = self._runtime.checked
        await on_io(runtime.stepper.resume(pause, runtime.deadline()))

    resume, aresume = faces(_resume)

    @property
    def paused(self) -> str | None:
        """The pattern of the events that wait; None if the space is not paused.

        Examples
        --------
        >>> space.pause("order.*")
        >>> space.paused
        'order.*'
        """
        gate, pace = self._runtime.checked.dispatcher.gate, self._log.pace
        if pace.paused:
            return pace.pattern
        return gate.local.pattern.text if gate.paused and gate.local is not None else None

    @property
    def held(self) -> Held:
        """The events that wait while the space is paused, in all processes: a sequence, the next one first.

        See Also
        --------
        pause : Let events wait.
        """
        return run_blocking(self._held())

    async def aheld(self) -> Held:
        """Async variant of `held`: the events that wait while the space is paused."""
        return await run_awaitable(self._held())

    async def _held(self) -> Held:
        from happen_nb._runtime.stepping import MAX_NAMED

        runtime = self._runtime.checked
        stepper = runtime.stepper
        await on_io(runtime.dispatcher.gate.first(runtime.deadline()))
        held: tuple[list[NodeTurn], int] = await on_io(stepper.turns(MAX_NAMED))
        found: list[tuple[NodeTurn, EventRecord]] = await on_io(stepper.events(held[0][:MAX_NAMED]))
        events = await stored_events_of([record for _, record in found], runtime)
        items = [HeldEvent(event, turn.node) for event, (turn, _) in zip(events, found, strict=True)]
        return Held(self.name, items, paused=self.paused is not None, total=max(held[1], len(items)))


def _record_filter(where: Callable[[Event], object], runtime: Runtime) -> Callable[[EventRecord], bool]:
    """Return the filter as a function of the record; if the filter raises, the event waits."""

    def waits(record: EventRecord) -> bool:
        try:
            return functions.truth_of(where(Event(record, runtime)), "where")
        except BaseException as error:  # the event would never go
            logger.warning('pause: where raised %s; the event "%s" waits', error_summary(error), record.type)
            return True

    return waits
