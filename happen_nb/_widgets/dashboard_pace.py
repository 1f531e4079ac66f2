"""The part of a dashboard that pauses its space, steps through what waits, and resumes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from happen_nb._api.base import runtime_of
from happen_nb._display.spans import count, name
from happen_nb._runtime.io import on_io, run_blocking
from happen_nb._runtime.stepping import Stepper

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from happen_nb._api.pausing import Steps
    from happen_nb._api.space import Space

ASK_SECONDS: Final = 1.0
"""Time between two questions to other processes how many events wait there."""


class PaceControl:
    """Reports the pace of a space to the browser, and changes it. On workers."""

    def __init__(self, space: Space, send: Callable[[dict[str, Any]], object]) -> None:
        self._space = space
        self._runtime = runtime_of(space)
        self._send = send
        self._held_by_others = 0
        self._ask_at = 0.0
        self.actions: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "pause": lambda _: self._space.pause(),
            "resume": lambda _: self._space.resume(),
            "step": lambda _: self._step(),
        }
        """The requests that the browser may make."""

    def message(self) -> dict[str, Any]:
        """Return the pace, and how many events wait."""
        gate = self._runtime.dispatcher.gate
        if not gate.paused and gate.slow is None:
            return {"paused": None, "slow": None, "held": 0}
        pattern = gate.pace.pattern or (gate.local.pattern.text if gate.local is not None else None)
        paused = None if pattern is None or not gate.paused else name(pattern)
        return {"paused": paused, "slow": gate.slow, "held": gate.count() + self._others()}

    def _others(self) -> int:
        if self._runtime.has_other_owners() and time.monotonic() >= self._ask_at:
            self._ask_at = time.monotonic() + ASK_SECONDS
            self._held_by_others = run_blocking(_held_by_others(self._runtime))
        return self._held_by_others

    def _step(self) -> None:
        self._send({"type": "done", "text": _described(self._space.step())})
        self._ask_at = 0.0


async def _held_by_others(runtime: Any) -> int:
    number: int = await on_io(Stepper(runtime).count_others())
    return number


def _described(steps: Steps) -> str:
    if not len(steps):
        return "nothing is held"
    step = steps[0]
    totals = step.trace.root.totals
    emitted = len(step.trace.root.children) - totals.commits
    counts = [(totals.commits, "commit"), (emitted, "event"), (totals.failures, "failure")]
    parts = [f"{name(step.node)} handled {name(step.event.type)}"]
    return " · ".join([*parts, *(count(number, what) for number, what in counts if number)])
