"""The threads that run handlers and callbacks, and the end of the interpreter."""

from __future__ import annotations

import atexit
import contextvars
import heapq
import logging
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import thread as executors
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Final, Literal

from happen_nb.errors import ClosedError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from happen_nb._runtime.conductor import Conductor

    Entry = tuple["Order", int, Callable[[], None]]

logger = logging.getLogger("happen_nb")

IDLE_SECONDS: Final = 5.0  # seconds after which a thread without work ends
THREADS: Final = 64
"""Maximum number of working threads; threads blocked in a call of the library do not count."""
MAX_THREADS: Final = 1024  # maximum number of threads if all of them have been blocked for a while
Order = tuple[int, int, int, bool]
"""The position of an event in the journal, the place of a node among those that handle it, and True if its
handlers wait for the commits of state handlers."""
FIRST: Final[Order] = (0, 0, 0, False)
"""The order of a work without effects on states, which need not wait for the commits of state handlers."""
NEXT: Final[Order] = (0, 0, 1, False)  # the order of a work that runs before all events
NOWHERE: Final = (-1, -1)
GivesWay = Literal["no", "to transforms", "to state handlers", "to all"]
PATIENCE_SECONDS: Final = 1.0  # seconds for which one handler delays the others if they run in turn
STUCK_SECONDS: Final = 0.1  # seconds for which work waits for a thread before more threads start
PATIENCE_CHECKS: Final = round(PATIENCE_SECONDS / STUCK_SECONDS)


class Workers:
    """A pool of threads that exist while there is work.

    If handlers block all of them, more start, so that nothing waits forever behind a handler that it has
    nothing to do with.

    In turn, one thing runs at a time, in the order of the journal, so that the same events have the same
    effects in the same order. Only the state handlers of one event need not wait for each other's commits.

    While `server_lags` returns True, what waits for the server does not hang. `call_after_waking` calls a
    function soon, after waking everything whose wait has just ended. From any thread.
    """

    def __init__(
        self, server_lags: Callable[[], bool], call_after_waking: Callable[[Callable[[], object]], object]
    ) -> None:
        self.in_turn = False  # True if one thing runs at a time
        self.conductor: Conductor | None = None  # decides what begins next; None: all that can begin does
        self._server_lags = server_lags
        self._call_after_waking = call_after_waking
        self._calls: deque[Callable[[], None]] = deque()  # the works that may start at any time
        self._nexts: deque[Callable[[], None]] = deque()  # the works that run before all events, in turn
        self._events: list[Entry] = []  # the works that belong to an event, in the order of events
        self._count = count()
        self._running: set[object] = set()
        """The turns of the running works. A handler that hangs loses its turn."""
        self._committing: set[object] = set()  # the turns of the works that wait for their commits
        self._awaiting: set[object] = set()  # the turns of the works that wait for others
        self._returning: dict[object, None] = {}
        """Of these, the turns that continue before any other work starts, in this order."""
        self._joined = 0  # the number of works that continue once all that may overlap with them have started
        self._holds = 0
        self._progress = 0  # a counter of starts and progress, if handlers run in turn
        self._position = NOWHERE  # the position of the event whose handlers run
        self._changed = threading.Condition()
        self._idle = 0
        self._threads = 0
        self._blocked = 0
        self._taken = 0
        self._limit = THREADS
        self._growing = False

    def submit(self, work: Callable[[], None], order: Order = FIRST) -> None:
        """Run `work` soon on a thread of the pool."""
        with self._changed:
            if order == FIRST or not self.in_turn:
                self._calls.append(work)
            elif order == NEXT:
                self._nexts.append(work)
            else:
                heapq.heappush(self._events, (order, next(self._count), work))
                self._let_waiters_wake()
            self._provide()

    def take(self, order: Order) -> bool:
        """Take the work of the next event, if it has this order. In its turn, on a worker."""
        with self._changed:
            if not self._events or self._events[0][0] != order:
                return False
            heapq.heappop(self._events)
            return True

    @property
    def _waiting(self) -> int:
        """The number of works that wait for a thread."""
        return len(self._calls) + len(self._nexts) + len(self._events)

    @contextmanager
    def held(self) -> Iterator[None]:
        """If works run in turn, start none inside this block, so that all of them arrive first."""
        with self._changed:
            self._holds += 1
        try:
            yield
        finally:
            self._end_hold()

    def note_progress(self) -> None:
        """Note that the running work makes progress: the others keep waiting."""
        self._progress += 1

    def begin(self, turn: object) -> None:
        """Note that a task has its turn."""
        with self._changed:
            self._awaiting.discard(turn)
            self._running.add(turn)
            self._progress += 1

    def end(self, turn: object, *, awaits: bool = False) -> None:
        """Note that a task lets others have their turn; it may await one of them."""
        with self._changed:
            if awaits:
                self._awaiting.add(turn)
            if turn in self._running:
                self._release(turn)

    def waker(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Return a function that wakes this worker, so that it continues before another work starts."""
        turn = _local.turn

        def wake_next() -> None:
            with self._changed:
                if turn in self._awaiting:
                    self._returning[turn] = None
            wake()

        return wake_next

    def _provide(self) -> None:
        """Wake or start a thread, as far as the limit allows."""
        if self._idle >= (1 if self.in_turn else self._waiting):
            if not self.in_turn or self._may_start():
                self._wake()
        elif self._threads - self._blocked < self._limit:
            self._add()
        elif not self._growing and self._limit < MAX_THREADS and not shutdown_started():
            self._growing = True
            try:
                _start_thread(self._grow, "happen_nb-workers")
            except RuntimeError as refused:  # as for a worker: the existing ones continue
                self._growing = False
                _warn_unless_ending(refused)

    def _add(self) -> None:
        if shutdown_started():
            return
        try:
            _start_thread(self._run, "happen_nb-worker")
        except RuntimeError as refused:  # the system has no more threads: the existing ones continue
            _warn_unless_ending(refused)
        else:
            self._threads += 1

    def _grow(self) -> None:
        """Add threads as long as work waits and none of them takes any."""
        with self._changed:
            while self._waiting and self._limit < MAX_THREADS:
                taken = self._taken
                self._changed.wait_for(lambda: not self._waiting, STUCK_SECONDS)
                if self._waiting and taken == self._taken and not self._idle:
                    self._add_more()
            self._growing = False

    def _add_more(self) -> None:
        if self._limit == THREADS:
            logger.warning(
                "%d handlers or callbacks block their threads while others wait, so more threads start; "
                "use async handlers and await if many wait at once",
                self._threads - self._blocked,
            )
        more = min(THREADS, self._waiting, MAX_THREADS - self._limit)
        self._limit += more
        for _ in range(more):
            self._add()

    @contextmanager
    def blocked(self, gives_way: GivesWay = "no") -> Iterator[None]:
        """Mark this worker as blocked in a library call, so that the pool may start a replacement.

        In turn, nothing else starts meanwhile unless it gives way: to all others, which it waits for; to
        state handlers of the same event, while it waits for its own commit; or to works without an order.
        """
        turn = _local.turn
        with self._changed:
            self._blocked += 1
            self._give_way(turn, gives_way)
            if self._waiting:
                self._provide()
        try:
            yield
        finally:
            with self._changed:
                self._blocked -= 1
                self._go_on(turn, gives_way)

    def _give_way(self, turn: object, gives_way: GivesWay) -> None:
        if gives_way != "no":
            (self._awaiting if gives_way == "to all" else self._committing).add(turn)
            if gives_way == "to transforms":
                self._position = NOWHERE
            self._release(turn)

    def _release(self, turn: object) -> None:
        """Let others have their turn: first those whose wait has just ended."""
        self._running.discard(turn)
        self._let_waiters_wake()
        self._pass_on()

    def _let_waiters_wake(self) -> None:
        """Start nothing until those whose wait has just ended are awake."""
        if self._awaiting and self.in_turn:
            self._holds += 1
            self._call_after_waking(self._end_hold)

    def _end_hold(self) -> None:
        with self._changed:
            self._holds -= 1
            self._changed.notify_all()

    def _pass_on(self) -> None:
        """Wake the waiter that may take the turn now."""
        if self._returning or self._joined or (self.in_turn and self._waiting):
            self._wake()

    def _wake(self) -> None:
        if self._returning or self._joined:
            self._changed.notify_all()
        else:
            self._changed.notify()

    def _go_on(self, turn: object, gives_way: GivesWay) -> None:
        if gives_way == "to all":
            self._awaiting.discard(turn)
            if self.in_turn:
                self._returning[turn] = None
                self._changed.wait_for(lambda: self._is_next(turn), PATIENCE_SECONDS)
            self._returning.pop(turn, None)
        elif gives_way == "to state handlers" and self.in_turn:  # whether the server answers soon or late
            self._joined += 1
            self._changed.wait_for(lambda: not (self._running or self._may_join()), PATIENCE_SECONDS)
            self._joined -= 1
        if gives_way != "no":
            self._running.add(turn)
            self._committing.discard(turn)
            self._pass_on()

    def _is_next(self, turn: object) -> bool:
        return not self._running and next(iter(self._returning)) is turn

    def _may_start(self) -> bool:
        """Return True if there is work, and it is its turn."""
        if not self._waiting or not self.in_turn:
            return self._waiting > 0
        if self._holds or self._running or self._returning:
            return False
        return bool(self._calls) or not self._committing or self._may_join()

    def _may_join(self) -> bool:
        """Return True if the next event is the one whose state handlers commit, for another of these."""
        if not self._events:
            return False
        order = self._events[0][0]
        return order[:2] == self._position and not order[3]

    def _pop(self) -> Callable[[], None]:
        """Take the work that begins."""
        if self._calls:
            return self._calls.popleft()
        if self._nexts and not (self._committing and self._may_join()):
            self._position = NOWHERE
            return self._nexts.popleft()
        order, _, work = heapq.heappop(self._events)
        self._position = order[:2]
        return work

    def _run(self) -> None:
        _local.workers = self
        while (work := self._next()) is not None:
            try:
                work()
            except BaseException:  # it is the library's: a handler's own is a failure
                logger.exception("unexpected error in %r", work)
            with self._changed:
                self._release(_local.turn)

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            self._idle += 1
            try:
                if not self._wait_for_turn():
                    self._threads -= 1
                    return None
                if shutdown_started():
                    return None
                self._taken += 1
                _local.turn = object()
                self._running.add(_local.turn)
                self._progress += 1
                work = self._pop()
                if self.in_turn and self._waiting and self._idle == 1:
                    self._add()  # so that one watches how long it takes
                return work
            finally:
                self._idle -= 1

    def _wait_for_turn(self) -> bool:
        """Wait until there is something to do; False if there was nothing for a while."""
        deadline = time.monotonic() + IDLE_SECONDS
        progress, checks = self._progress, 0
        while not self._may_start():
            # By checks, not by the clock: on a busy machine, nothing may get a core for a second.
            if checks >= PATIENCE_CHECKS and not self._holds:
                self._running.clear()  # else one that hangs would stop all
                self._committing.clear()
                return True
            left = deadline - time.monotonic()
            if left <= 0 and not self._waiting:
                return False
            changed = self._changed.wait(STUCK_SECONDS if self._waiting else min(left, PATIENCE_SECONDS))
            goes_on = changed or progress != self._progress or self._server_lags()
            checks = 0 if goes_on or not self._waiting else checks + 1
            progress = self._progress
        return True


def _warn_unless_ending(refused: RuntimeError) -> None:
    """Say that the system has no more threads, unless it is the shutdown that has started just now."""
    if not is_shutdown_error(refused):
        logger.warning("cannot start more threads for handlers: %s", refused)


def _start_thread(run: Callable[[], None], name: str) -> None:
    thread = threading.Thread(target=run, name=name, daemon=True)
    contextvars.Context().run(thread.start)  # it works for many, and so has no context of its own


class _Local(threading.local):
    workers: Workers | None = None
    turn: object = None  # the turn of the work that the thread does


_local = _Local()


def current_workers() -> Workers | None:
    """Return the pool that the current thread belongs to."""
    return _local.workers


# -- the end of the interpreter ----------------------------------------------------------------------------
# IPython empties its namespace then, and executors accept no work. An error that this causes in a running
# handler is not a failure of that handler, and no further handlers should start.

_shutdown = threading.Event()
_REFUSED_THREAD: Final = "can't create new thread at interpreter shutdown"


def expect_shutdown() -> None:
    """Notice the shutdown before anything registered until now cleans up."""
    atexit.unregister(_shutdown.set)
    atexit.register(_shutdown.set)


def shutdown_started() -> bool:
    return _shutdown.is_set()


def refuse_at_end() -> None:
    """Raise ClosedError at the end of the interpreter, in a ``__del__``: no other thread runs then."""
    if sys.is_finalizing():
        raise ClosedError(
            "the interpreter is shutting down and has closed every space; call it earlier, or in atexit"
        )


def is_shutdown_error(error: BaseException) -> bool:
    """Return True if the shutdown led to the error.

    As soon as the main thread ends, executors refuse work, and Python 3.12 refuses threads.
    `shutdown_started` is true only when the threads have ended for which the interpreter waits.
    """
    if shutdown_started():
        return True
    if type(error) is not RuntimeError:
        return False
    text = str(error)
    if getattr(executors, "_shutdown", False) and text.startswith("cannot schedule new futures after"):
        return True
    return text == _REFUSED_THREAD
