"""Decide, for one space of this process, which work begins next and which one stores first.

Handlers run one at a time, each from one *choice* to the next: it begins, and then stops before each commit
and event that it stores. When nothing runs, `choose` picks one of the choices. The same choices give the same
run.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from happen_nb._runtime import causes
from happen_nb._runtime.handler_loops import handler_loops
from happen_nb._runtime.io import io_thread
from happen_nb._runtime.runs import (
    Offer,
    Pause,
    ReturnStep,
    Run,
    StoreGate,
    WaitStep,
    current_run,
    current_task,
    outside_run,
)
from happen_nb._runtime.standstill import Standstill
from happen_nb._runtime.waiting import within

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

    from happen_nb._model.orders import Choice, What
    from happen_nb._model.records import EventRecord
    from happen_nb._runtime.dispatcher import Dispatcher
    from happen_nb._runtime.mailbox import Mailbox

CHECK_SECONDS: Final = 0.25
"""Seconds between checks for handlers that wait for others outside the library, such as for a lock."""
PATIENCE_CHECKS: Final = 4
"""Checks in a row without progress after which a handler counts as waiting for others."""
TURNS: Final = 4  # turns of the event loop that a finished task gets to wake the tasks that wait for it

T = TypeVar("T")


class Conductor:
    """Decides which work begins next and which one stores first.

    A handler that waits for a reply, in ``wait_for`` or in ``context.sleep`` does not count as running; nor,
    after a second, does one that waits for anything else but the server, such as a lock. When its wait is
    over, it continues before anything else begins.

    Not conducted are tasks that a handler leaves running, threads that it starts without ``happen.carry``,
    and code outside of the space, unless it runs in `outside`. Retries begin when they are due: on a manual
    clock, when it is advanced. Other processes are not conducted.

    When it is made, nothing is in flight in the space, not even handlers that catch up.

    ``choose(choices)`` returns one of the choices, or None if nothing may go now. They are ordered by the
    positions of the events, then by node. It is called on the IO thread, and must not wait.

    ``next_one(choices)`` returns the choice that goes next, regardless of what else may be offered soon; None
    if that is not known. It is called from any thread, and saves waiting. With it, a state handler stores its
    commit when it begins, without a choice of its own, and is evaluated ahead, as without a conductor.

    Its `standstill` checks four times in a second whether a handler counts as waiting for another one. With
    `rests`, there is a known order; ``rests()`` returns True if what comes next in it comes from outside.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        choose: Callable[[list[Choice]], Choice | None],
        patience: int = PATIENCE_CHECKS,
        task_patience: int = PATIENCE_CHECKS,
        *,
        next_one: Callable[[list[Choice]], Choice | None] | None = None,
        rests: Callable[[], bool] | None = None,
    ) -> None:
        self.standstill = Standstill(patience, task_patience, in_order=rests is not None)
        self._next_one = next_one
        self._rests = rests
        self._dispatcher = dispatcher
        self._choose = choose
        self._held: dict[Mailbox, None] = {}
        self._gates: list[StoreGate] = []
        self._offers: dict[Offer, None] = {}
        self._running: set[Run] = set()
        self._returning: deque[tuple[Pause, Callable[[], None]]] = deque()
        self._resting: list[asyncio.Future[None]] = []
        self._looking = False
        self._turns = 0  # turns of the event loop that are left until the next check
        self._barriers = 0
        """The number of pauses in progress, in which tasks of the handlers' loop may still arrive."""
        self._timer: asyncio.TimerHandle | None = None
        self._error: BaseException | None = None
        self.pauses = 0  # runs that wait for others
        self._is_open = False

    @property
    def evaluates_ahead(self) -> bool:
        """True if state handlers are evaluated ahead of their commits; else they are applied one by one."""
        return self._next_one is not None

    # -- its life, on the IO thread ------------------------------------------------------------------

    def open(self) -> None:
        """Hold what begins from now on."""
        self._is_open = True
        self._dispatcher.conduct(self)
        self._check_stuck()

    def close(self) -> None:
        """Release everything, and hold nothing more."""
        if not self._is_open:
            return
        self._is_open = False
        self._dispatcher.conduct(None)
        if self._timer is not None:
            self._timer.cancel()
        while self._held:
            mailbox, _ = self._held.popitem()
            mailbox.begin(None)
        for gate in self._gates:
            gate.wake()
        for _, wake in self._returning:
            wake()
        for offer in list(self._offers):
            offer.begin(self._begin_offer(offer))
        self._gates.clear()
        self._returning.clear()
        self._rest()

    def look_again(self) -> None:
        """Ask `choose` again, after it has returned None. From any thread."""
        io_thread().call_soon(self._look_soon)

    async def quiet(self, deadline: float) -> bool:
        """Wait until nothing runs and nothing may go; False if that is not so by the deadline.

        A handler that waits for the clock, or for code outside, does not count as running; nor does one that
        waits for a lock, until it stores something: `InFlight.drain` waits for that, too. `choose` is called
        once more; its exception is raised.
        """
        rest: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._resting.append(rest)
        self._look_soon()
        is_quiet = await within(max(0.0, deadline - time.monotonic()), rest)
        if self._error is not None:
            raise self._error
        return is_quiet

    @contextmanager
    def outside(self) -> Iterator[None]:
        """Count the code of this block as running, unless it waits; it stores without a turn.

        It also counts as waiting when nothing new has happened for a second, as in a polling loop.
        """
        run = Run(None)
        token = outside_run.set(run)
        io_thread().call_soon(self._started, run)
        try:
            yield
        finally:
            outside_run.reset(token)
            self.ended(run)

    # -- what mailboxes and handlers call, from any thread -------------------------------------------

    def hold(self, mailbox: Mailbox) -> None:
        """Let a mailbox wait until its first work may begin."""
        self._held[mailbox] = None
        io_thread().call_soon(self._hold, mailbox)

    def ended(self, run: Run) -> None:
        io_thread().call_soon(self._ended, run)

    async def turn(self, what: What, target: str, event: EventRecord | None = None) -> None:
        """Wait until the code that runs here may store; CancelledHandlingError if it was cancelled."""
        running, run = causes.current_scope(), current_run()
        if running is None or run is None or run.begin is None:
            return
        if running.is_transform if self._next_one is not None else what == "cancel":
            return
        choice = run.begin._replace(
            handler=running.function, transform=running.is_transform, what=what, target=target
        )
        if event is not None:
            is_scheduled = event.alarm is not None
            choice = choice._replace(sender=event.sender, receiver=event.target, scheduled=is_scheduled)
        in_task = current_task() is not None
        if not (running.is_alone(in_task=in_task) and self._goes_at_once(run, choice)):
            await StoreGate(self, run, choice, self._note_end(run))
        causes.current_origin()

    def _goes_at_once(self, run: Run, choice: Choice) -> bool:
        """Return True if a choice of the run here goes next, and nothing else runs or waits."""
        if self._next_one is None or not self._is_open or self._running != {run}:
            return False
        if self._held or self._gates or self._offers or self._returning or self._barriers or self.pauses:
            return False
        self.standstill.checks = 0
        return self._next_one([choice]) is not None

    def follow(self, run: Run, choose: Callable[[], Choice | None]) -> Run | None:
        """Begin the next choice at the end of a run, if it is known; return its run. In the run's thread."""
        if self._next_one is None or run.ended:
            return None
        choice = choose()
        if choice is None or not self._goes_at_once(run, choice):
            return None
        following = Run(choice)
        self._running = {following}
        self.standstill.live.add(following)
        self.standstill.live.discard(run)
        run.ended = True
        return following

    def _note_end(self, run: Run) -> asyncio.Task[Any] | None:
        """Return the task that runs here, and note when it ends."""
        task = current_task() if run.begin is not None else None  # else it is the notebook's
        if task is not None:
            task.add_done_callback(lambda _: io_thread().call_soon(self._left, run, task))
        return task

    def waits(self, step: Any) -> Any:
        """Return a step during which the run here counts as waiting for others."""
        pause = self.pause()
        return step if pause is None else WaitStep(pause, step)

    async def aside(self, work: Coroutine[Any, Any, T]) -> T:
        """Await something; meanwhile, the run here counts as waiting for others."""
        pause = self.pause()
        if pause is None:
            return await work
        io_thread().call_soon(pause.begin)
        try:
            result = await work
        except Exception:
            await ReturnStep(pause)
            raise
        except BaseException:  # it was interrupted, and no longer waits
            io_thread().call_soon(pause.end)
            raise
        await ReturnStep(pause)
        return result

    def pause(self) -> Pause | None:
        """Return a pause of the run here; None if it is not conducted."""
        run = current_run()
        return None if run is None else Pause(self, run, self._note_end(run))

    # -- commits that were evaluated ahead, on the IO thread -------------------------------------------

    def offer(self, offer: Offer) -> Run | None:
        """Return a run for a commit that may be stored at once; else its `begin` is called in its turn."""
        self._offers[offer] = None
        if not self._is_busy and self._begin_known(offer):
            return offer.run
        self._look_soon()
        return None

    def withdraw(self, offer: Offer) -> None:
        self._offers.pop(offer, None)

    def end(self, run: Run) -> None:
        """Note that a commit is stored, or is evaluated again."""
        run.ended = True
        self.update(run)

    # -- on the IO thread ----------------------------------------------------------------------------

    def _hold(self, mailbox: Mailbox) -> None:
        if self._is_open:
            self._look_soon()
        elif self._held.pop(mailbox, mailbox) is None:
            mailbox.begin(None)

    def _started(self, run: Run) -> None:
        if self._is_open:
            self._running.add(run)

    def _ended(self, run: Run) -> None:
        run.ended = True
        gone = [gate for gate in self._gates if gate.run is run]
        self._gates = [gate for gate in self._gates if gate.run is not run]
        for gate in gone:  # it was abandoned there: it is refused
            gate.wake()
        self.update(run)

    def update(self, run: Run) -> None:
        """Note that a run continues, waits, or has ended."""
        self.standstill.go_on(run)
        if run.runs:
            self._running.add(run)
        else:
            self._running.discard(run)
            self._look_soon()

    def arrive(self, gate: StoreGate) -> None:
        """Let a run wait until it may store."""
        if not self._is_open or gate.run.ended:
            gate.wake()
            return
        gate.run.wait(gate.task)
        self._gates.append(gate)
        if gate.task is not None and gate.blocks:  # its other tasks cannot continue in its loop either
            gate.run.await_others(gate.run.going)
            handler_loops().avoid(gate.task.get_loop())
        elif gate.task is not None:
            self._await_tasks(gate.run)
        self.update(gate.run)

    def _left(self, run: Run, task: object) -> None:
        if self._is_open and not run.ended:
            run.leave(task)
            self._await_tasks(run)
            self.update(run)

    def _await_tasks(self, run: Run) -> None:
        """Give other tasks of a handler time to continue, and to arrive, too.

        Those that have done neither then most likely wait for the one that waits for its turn.
        """
        self._barriers += 1
        handler_loops().start(partial(self._pass_loop, run, run.going, TURNS))

    def _pass_loop(self, run: Run, going: frozenset[object], turns: int) -> None:
        if turns:
            asyncio.get_running_loop().call_soon(self._pass_loop, run, going, turns - 1)
        else:
            io_thread().call_soon(self._end_barrier, run, going)

    def _end_barrier(self, run: Run, going: frozenset[object]) -> None:
        self._barriers -= 1
        run.await_others(going)
        self.update(run)
        self._look_soon()

    def leave(self, gate: StoreGate) -> None:
        """Give up waiting: it was interrupted."""
        if gate in self._gates:
            self._gates.remove(gate)
            gate.run.go_on(gate.task)
            self.update(gate.run)

    def back(self, pause: Pause, wake: Callable[[], None]) -> None:
        """Let a run that has waited continue in its turn."""
        if not self._is_open or pause.run.ended:
            wake()
            return
        self._returning.append((pause, wake))
        self._look_soon()

    def _look_soon(self) -> None:
        if not self._is_open:
            return
        self._turns = TURNS  # again, if something has changed meanwhile
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_soon(self._count_down)

    def _count_down(self) -> None:
        if self._is_busy or (self._turns == TURNS and self._begin_known()):
            self._looking = False
        elif self._turns:
            self._turns -= 1
            asyncio.get_running_loop().call_soon(self._count_down)
        else:
            self._looking = False
            if not self._dispatcher.pipelines.works:
                self._look()

    @property
    def _is_busy(self) -> bool:
        """True if it looks again at the end of something."""
        return not self._is_open or bool(self._running) or bool(self._barriers)

    def _begin_known(self, offer: Offer | None = None) -> bool:
        """Let the next one go, if it is known whatever else may be offered soon.

        With an offer, return True if that goes; its `begin` is not called then.
        """
        if self._next_one is None or self._returning or self.pauses:
            return False
        offered = self._offered()
        chosen = self._next_one([choice for choice, _ in offered]) if offered else None
        if offer is not None and chosen is offer.choice:
            self._begin_offer(offer)
            return True
        if chosen is not None:
            self._begin(chosen, offered)
        return chosen is not None and offer is None

    def _begin_offer(self, offer: Offer) -> Run:
        del self._offers[offer]
        offer.run = Run(offer.choice)
        offer.run.calls[offer] = None
        self._running.add(offer.run)
        self.standstill.checks = 0
        return offer.run

    def _look(self) -> None:
        if self._go_back(self._blocked_loops()):
            return
        offered = self._offered()
        chosen: Choice | None = None
        if offered and self._error is None:
            try:
                chosen = self._choose([choice for choice, _ in offered])
            except BaseException as error:  # it is raised in the waiters
                self._error = error
        if chosen is not None:
            self._begin(chosen, offered)
        elif not self._go_back(set()) and (self._rests is None or self._rests()):
            self._rest()

    def _blocked_loops(self) -> set[asyncio.AbstractEventLoop]:
        """Return the loops of async handlers that a task blocks while it waits for its turn."""
        return {gate.task.get_loop() for gate in self._gates if gate.task is not None and gate.blocks}

    def _go_back(self, blocked: set[asyncio.AbstractEventLoop]) -> bool:
        """Let the first waiter whose loop is not blocked continue; False if there is none."""
        for returning in self._returning:
            pause, wake = returning
            if not _is_in(pause.task, blocked):
                self._returning.remove(returning)
                pause.end()
                wake()
                return True
        return False

    def _begin(self, chosen: Choice, offered: list[tuple[Choice, Mailbox | StoreGate | Offer]]) -> None:
        waiting = next(waiting for choice, waiting in offered if choice is chosen or choice == chosen)
        self.standstill.checks = 0
        if isinstance(waiting, StoreGate):
            self._gates.remove(waiting)
            waiting.run.go_on(waiting.task)
            self._running.add(waiting.run)
            waiting.wake()
        elif isinstance(waiting, Offer):
            waiting.begin(self._begin_offer(waiting))
        else:
            del self._held[waiting]
            run = Run(chosen)
            self._running.add(run)
            self.standstill.live.add(run)
            waiting.begin(run)

    def _offered(self) -> list[tuple[Choice, Mailbox | StoreGate | Offer]]:
        """Return the choices, in an order that does not depend on when they have arrived."""
        blocked = self._blocked_loops()
        gates = [gate for gate in self._gates if gate.blocks or not _is_in(gate.task, blocked)]
        offered: list[tuple[Choice, Mailbox | StoreGate | Offer]] = [(gate.choice, gate) for gate in gates]
        offered += [(offer.choice, offer) for offer in self._offers]
        for mailbox in list(self._held):
            choice = mailbox.choice()
            if choice is None:  # its work is gone, or needs no turn
                del self._held[mailbox]
                mailbox.begin(None)
            else:
                offered.append((choice, mailbox))
        return sorted(offered, key=lambda each: each[0].order)

    def _rest(self) -> None:
        resting, self._resting = self._resting, []
        for rest in resting:
            if not rest.done():
                rest.set_result(None)

    def _check_stuck(self) -> None:
        """Continue without runs that take long: they may wait for others."""
        if not self._is_open:
            return
        if self._resting:
            self._look_soon()
        if self.standstill.check(self._running, {gate.run for gate in self._gates}):
            self._look_soon()
        # If no thread gets a core, neither do those of the handlers.
        check_later = partial(io_thread().call_soon, self._check_later)
        self._dispatcher.workers.submit(check_later)

    def _check_later(self) -> None:
        if self._is_open:
            self._timer = io_thread().loop.call_later(CHECK_SECONDS, self._check_stuck)


def _is_in(task: asyncio.Task[Any] | None, loops: set[asyncio.AbstractEventLoop]) -> bool:
    return task is not None and task.get_loop() in loops
