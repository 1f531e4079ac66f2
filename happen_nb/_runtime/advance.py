"""Move a manual clock from one due moment to the next, in all processes of the space. On the IO thread."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from happen_nb._journal import wire
from happen_nb._journal.publish import RefusedError, Resend, store_messages
from happen_nb._runtime.effects import describe_works
from happen_nb.errors import ClockError, HappenError, HappenTimeoutError

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from happen_nb._model.schedules import Alarm
    from happen_nb._runtime.runtime import Runtime

logger = logging.getLogger("happen_nb")

ANSWER_SECONDS: Final = 2.0
"""Time for another process to answer, beyond the time that it is given to handle its events."""
WAIT_SECONDS: Final = 1.0
"""Time that another process is given before it is asked again."""
MAX_AT_ONCE: Final = 1000
"""Events that are delivered at once."""
MAX_KEPT_MOVES: Final = 100_000
"""Moves of the clock that are kept, by which times are found in the journal."""
TRIM_EVERY_MOVES: Final = 1000


class Advancer:
    """Moves the clock of a space, and waits until what is due then is handled."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._log = runtime.log
        self._others_next: list[str] = []
        self._moves = 0

    async def next_moment(self, until: str | None) -> str | None:
        """Return the next time at which something is due; None if nothing is until then."""
        clock, alarms = self._runtime.clock, self._log.alarms
        moments = [alarms.next_due(), clock.next_timer(), *self._others_next]
        first = min((each for each in moments if each is not None), default=None)
        if first is None or (until is not None and first > until):
            return None
        return max(first, clock.now_text())

    async def move(self, moment: str, timeout: float) -> None:
        """Move the clock to a time, and deliver what is due then, in order.

        Raises
        ------
        ClockError
            Another process has moved the clock meanwhile.
        """
        # They are no batch, which takes the server much longer: each message has a guard of its own, and
        # what is due and was not delivered before a kill is delivered by the next advance.
        log, deadline = self._log, time.monotonic() + timeout
        self._others_next = [each for each in self._others_next if each > moment]
        clock, due = log.clock, log.alarms.due(moment)
        if clock is None or clock.now > moment:
            raise self._moved_by_others()
        now = self._store(wire.encode_clock(log.subjects, moment, expected=clock.sequence), deadline)
        stored = await asyncio.gather(now, *(self._deliver(alarm, deadline) for alarm in due[:MAX_AT_ONCE]))
        if not stored[0] and (log.clock is None or log.clock.now != moment):
            raise self._moved_by_others()
        await log.reach(max(stored), deadline)
        while due := log.alarms.due(moment)[:MAX_AT_ONCE]:
            stored = await asyncio.gather(*(self._deliver(alarm, deadline) for alarm in due))
            await log.reach(max(stored), deadline)
        self._moves += 1
        if self._moves % TRIM_EVERY_MOVES == 0:
            log.background(self._trim())

    def _deliver(self, alarm: Alarm, deadline: float) -> Coroutine[Any, Any, int]:
        message = wire.encode_delivery(self._log.subjects, alarm, ttl=self._log.info.event_ttl)
        return self._store(message, deadline)

    async def _store(self, message: wire.Message, deadline: float) -> int:
        """Store a message; return its sequence, or 0 if it was refused, once that is known here."""
        log = self._log
        try:
            sequence = await store_messages(
                log.connection,
                [message],
                timeout=max(0.001, deadline - time.monotonic()),
                what="advance",
                resend=Resend(log.subjects, log.cleared),
            )
        except RefusedError:  # the event was cancelled or scheduled again, or its answer was lost
            await log.fresh(max(0.001, deadline - time.monotonic()))
            return 0
        return int(sequence)

    def _moved_by_others(self) -> ClockError:
        return ClockError(
            f'advance: another process moves the clock of the space "{self._log.subjects.space}", too; '
            "let one of them advance"
        )

    async def _trim(self) -> None:
        try:
            await self._log.stream.keep_newest(self._log.subjects.clock, MAX_KEPT_MOVES)
        except HappenError as error:
            logger.debug("old times: %s; the next trimming will do", error)

    async def wait_handled(self, timeout: float) -> None:
        """Wait until everything that has happened is handled, in every process.

        What waits for the clock is not waited for.

        Raises
        ------
        HappenTimeoutError
            Something still runs after so many seconds.
        """
        runtime, log = self._runtime, self._log
        deadline = time.monotonic() + timeout
        while True:
            left = await runtime.in_flight.drain(lambda _: True, deadline)
            if left:
                raise HappenTimeoutError(
                    f"advance: still running after {timeout:g} s at {runtime.clock.now_text()}: "
                    f"{describe_works(left)}"
                )
            if not runtime.has_other_owners():
                return
            position = log.position
            if await self._others_are_done(position, deadline) and log.position == position:
                return
            if time.monotonic() > deadline:
                raise HappenTimeoutError(
                    f"advance: another process still handles events after {timeout:g} s at "
                    f"{runtime.clock.now_text()}"
                )

    async def _others_are_done(self, position: int, deadline: float) -> bool:
        """Ask the other processes that own nodes, and reach what they have stored."""
        seconds = max(0.0, min(WAIT_SECONDS, deadline - time.monotonic()))
        question = {"clock": True, "position": position, "wait": round(seconds * 1000)}
        answers, busy = await self._runtime.ask_owners(question, seconds + ANSWER_SECONDS)
        self._others_next = [answer["next"] for answer in answers if answer["next"]]
        for answer in answers:
            await self._log.reach(answer["position"], deadline)
        return not busy and not any(answer["busy"] for answer in answers)
