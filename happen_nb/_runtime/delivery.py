"""The handling of one event at one node: its handlers, and its outcome.

A `Delivery` waits in the node's queue. When its turn comes, each handler that accepts the event makes an
`Attempt`. One that raises may be repeated later, while the node handles other events.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

from happen_nb._model.quoting import error_summary
from happen_nb._model.records import HandledRecord
from happen_nb._runtime.attempt import CLOSED, UNREGISTERED, Attempt
from happen_nb._runtime.in_flight import Handling
from happen_nb._runtime.io import io_thread
from happen_nb._runtime.mailbox import Mailbox
from happen_nb.errors import FrozenStateError, HandlerError, NoHandlerError

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Container, Mapping

    from happen_nb._model.orders import Choice
    from happen_nb._model.records import Cut, EventRecord
    from happen_nb._runtime.causes import HandlerScope
    from happen_nb._runtime.dispatcher import Dispatcher
    from happen_nb._runtime.registrations import Registration
    from happen_nb._runtime.reply_ends import Responder
    from happen_nb._runtime.step_driver import StepDriver
    from happen_nb._runtime.stored_steps import DurableRun
    from happen_nb._runtime.tracebacks import CapturedError
    from happen_nb._runtime.waiting import HandlerWait
    from happen_nb._runtime.workers import Order, Workers

logger = logging.getLogger("happen_nb")

RECHECK_SECONDS: Final = 0.05  # seconds after which a handler that waits in another task is noticed


class Host(Protocol):
    """Makes the arguments of handlers, and takes their errors. The facade implements it."""

    def event(self, record: EventRecord) -> Any:
        """Return the event that a handler is called with."""

    def context(
        self,
        node: str,
        event: Any,
        handler: str,
        used: dict[str, tuple[str, int]],
        durable: DurableRun | None,
        *,
        again: bool,
    ) -> Any:
        """Return the context that a handler is called with; its ``attempt`` is set before each call.

        `again` is True if the event may have been handled before.
        """

    def time_read(self, context: Any) -> str | None:
        """Return the time that a handler has read from its context; None if it has not."""

    def reply(self, value: Any) -> Any:
        """Convert a handler's return value to the reply."""

    def failed(self, attempt: Attempt, captured: CapturedError) -> None:
        """Take the error of a handler's last attempt."""

    def missed(self, registration: Registration, count: int) -> None:
        """Take the number of events that expired before a handler could handle them."""

    def lost(self, node: str, answer: Mapping[str, Any]) -> None:
        """Report that another process took a node over; `answer` describes that process."""


class NodeQueue:
    """The events that wait at a node, and the attempt that runs."""

    def __init__(self, name: str, workers: Workers) -> None:
        self.name = name
        self.mailbox = Mailbox(workers)
        self.queued: dict[Delivery, None] = {}  # deliveries that have not started
        self.open: dict[Delivery, None] = {}  # deliveries that have not ended
        self.waiting: dict[Attempt, None] = {}  # attempts that wait for their turn or for a retry
        self.current: Attempt | None = None
        self.asleep = False
        """True while a manual clock may move on although a handler runs.

        Later deliveries then wait for it, too.
        """

    def busy(self) -> tuple[float, int]:
        """Return the seconds since the current event started, and the number of those that wait."""
        current = self.current
        return (0.0 if current is None else time.monotonic() - current.started), len(self.queued)

    def start_waiting(self, scope: HandlerScope, wait: HandlerWait) -> None:
        """Note that a handler waits. From any thread."""
        scope.waits.append(wait)
        self.update()

    def stop_waiting(self, scope: HandlerScope, wait: HandlerWait) -> None:
        """Note that a handler continues. From any thread."""
        scope.waits.remove(wait)
        current = self.current
        if scope.waits and (current is None or current.tasks is None):  # another task of it still waits
            io_thread().call_soon(io_thread().loop.call_later, RECHECK_SECONDS, self.update)
        elif self.asleep or scope.waits:
            io_thread().call_soon(self.update)

    def update(self) -> None:
        """Check whether all that runs is waiting, so that a manual clock may move on. From any thread."""
        current = self.current
        waits = [] if current is None else list(current.scope.waits)
        runs = current is not None and current.tasks is not None and current.tasks.going
        self.asleep = bool(waits) and all(each.idle for each in waits) and not runs
        for delivery in list(self.open):
            delivery.update()

    def stop(self, why: str, matches: Callable[[Attempt], bool]) -> bool:
        """Stop the attempts that run or wait; return True if there were any. From any thread."""
        current = self.current
        attempts = [*list(self.waiting), *([] if current is None else [current])]
        found = [attempt for attempt in attempts if matches(attempt)]
        for attempt in found:
            attempt.stop(why)
        return bool(found)

    def drop(self, why: str, before: int, spare: Container[str]) -> None:
        """Cancel the events stored before a position: they are deleted. From any thread."""
        for delivery in list(self.open):
            if delivery.event.sequence < before and delivery.event.id not in spare:
                delivery.forgotten = True
                delivery.cancel(why)

    def close(self) -> None:
        """Start nothing further. Events that have not started stay unhandled; attempts are recorded."""
        self.mailbox.clear()
        for attempt in list(self.waiting):
            attempt.stop(CLOSED)


def stopped_error(event: EventRecord, node: str, why: str) -> HandlerError:
    """Return the error of an event whose handling was stopped, or never began."""
    what = f'the handler of "{event.type}" at node "{node}" was stopped: {why or UNREGISTERED}'
    return HandlerError(what, node=node)


@dataclass(eq=False, repr=False)
class Delivery(Handling):
    """An event on its way through the handlers of one node."""

    dispatcher: Dispatcher
    queue: NodeQueue
    event: EventRecord
    candidates: list[Registration]
    """The handlers whose pattern matched on arrival; if all of them are gone, those that match later."""
    _context: contextvars.Context | None
    """The context in which the event was emitted, if that was in this process."""
    responder: Responder | None = None  # takes progress and result, if the event was sent to the node
    snapshot: Cut | None = None
    """The states when the event was stored, if a state handler reads them and they are at hand."""
    error: BaseException | None = None  # the error of the state handler, if it was evaluated already
    again: bool = False  # True if the event may have been handled before
    cancelled: bool = False
    forgotten: bool = False  # True if the event was deleted, so that its handling is not recorded
    awaited: bool = False  # True if a handler, in any process, waits for the reply
    ended: bool = False
    parked: bool = False  # True while it waits for the end of a pause, outside the mailbox
    idle: bool = False  # True while it waits for a manual clock, or for the end of a pause
    unaccepted: bool = False  # True if no handler accepted the event
    captured: CapturedError | None = None  # the error of the first handler that failed
    on_end: Callable[[BaseException | None], None] | None = None
    """Called at the end, with the error if a handler has failed."""
    once_names: dict[str, tuple[str, int]] = field(default_factory=dict)
    """The names of the `once` calls, with the handler and the attempt that made them."""
    _attempts: list[Attempt] = field(default_factory=list)
    _round: int = 0
    _left: int = 0
    _begun: bool = False
    _refused: Exception | None = None
    _first: Registration | None = None
    _choice: Choice = field(init=False)  # the one of `_first`
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.node = self.queue.name
        self.correlation = self.event.correlation or self.event.id
        self.queue.queued[self] = self.queue.open[self] = None
        self.update()

    def hint(self) -> str:
        current = self.queue.current
        if current is None or current.delivery is not self:
            return ""
        return self.hint_at(current.registration, current.started)

    def update(self) -> None:
        """Count it as in flight, unless it waits for a manual clock or the end of a pause. From any thread.

        So neither `settle` nor `advance` waits for it then. It waits for the clock if its node does, or if
        all of its handlers that are left are repeated later.
        """
        repeated = sum(attempt.waits_for_clock for attempt in self._attempts)
        waits_for_clock = self.queue.asleep or (self.dispatcher.clock.manual and repeated >= self._left > 0)
        self.idle = self.parked or waits_for_clock
        if not self.idle:
            self.dispatcher.in_flight.start(self)
        if self.responder is not None:  # a handler that waits for the reply counts like this one
            self.dispatcher.replies.note_idle(self.event, idle=self.idle)
        if self.idle or self.ended:
            self.dispatcher.in_flight.finish(self)

    # -- its turn ------------------------------------------------------------------------------------

    def park(self) -> bool:
        """Take it out of the mailbox until `unpark`; False if it has begun. On the IO thread."""
        with self._lock:
            if self._begun or self.ended:
                return False
            self.parked = True
        self.queue.queued.pop(self, None)
        self.update()
        return True

    def unpark(self) -> None:
        """Put it back into the mailbox, behind all others."""
        self.parked = False
        if self.ended:
            return
        self.queue.queued[self] = None
        self.update()
        self.put()

    @property
    def order(self) -> Order:
        alone = any(registration.state is None for registration in self.candidates)
        return *self.event.position, self.candidates[0].number, alone

    def put(self) -> None:
        """Put it into the mailbox of its node."""
        self.queue.mailbox.put(self.start, self.order, self.choice)

    def start(self) -> StepDriver | None:
        """Start each handler that accepts the event; the first one at once, the others after it."""
        with self._lock:
            if self.parked or self._begun:
                return None  # its place in the mailbox before it was parked
            self._begun = True
        try:
            return self._start()
        except BaseException as broken:
            self.break_off(broken)
            return None

    def choice(self) -> Choice:
        """Return the choice for a conductor: the start of the first handler."""
        first = self.candidates[0]
        if not first.active:
            first = (self._active_candidates() or self.candidates)[0]
        if self._first is not first:  # the conductor asks at each of its steps
            self._first, self._choice = first, first.begins(self.event)
        return self._choice

    def _start(self) -> StepDriver | None:
        self.queue.queued.pop(self, None)
        if self.cancelled or self.ended:
            self._end()
            return None
        self._round += 1
        started, attempts = self._round, []
        with suppress(
            FrozenStateError
        ):  # restored: the code that changed it in place got that error, or ended
            self.event.check()
        event = self.dispatcher.host.event(self.event)
        candidates = self._active_candidates()
        for registration in candidates:
            context = (self._context or registration.context).copy()
            attempt = Attempt(self, registration, event, context)
            if attempt.accepts():
                attempts.append(attempt)
            if (
                self.ended or self._round != started or attempt.scope.abandoned
            ):  # in a filter that did not end
                return None
        self._attempts = attempts
        self._left = len(attempts)
        if not attempts:
            self._refuse_unaccepted(where=bool(candidates))
            return None
        first, *others = attempts
        self.queue.waiting.update(dict.fromkeys(attempts))
        if others:
            self.queue.mailbox.put_first(others)
        return first.start()

    def _active_candidates(self) -> list[Registration]:
        current = map(self.dispatcher.durables.current, self.candidates)
        active = [registration for registration in current if registration is not None]
        if active or not any(_is_plain(registration) for registration in self.candidates):
            return active
        name = self.node
        found = self.dispatcher.registrations.candidates(self.event.type, name, self.event.tick).get(name, [])
        return [registration for registration in found if _is_plain(registration)]

    def restart(self) -> None:
        """Start the other handlers, after a filter was abandoned."""
        self._round += 1
        if self.cancelled:
            self._end()
        else:
            self._begun = False
            self.queue.mailbox.put_first([self])

    def _refuse_unaccepted(self, *, where: bool) -> None:
        """Refuse an event that no filter accepts, or whose handlers were unregistered while it waited."""
        if self.captured is not None:
            self._refuse(self._remote_error(self.captured))
            return
        self.unaccepted = True
        if not where:
            self._refuse(self.dispatcher.no_handler(self.event, self.node))
            return
        what = f'the filters (where=) of node "{self.node}" reject this "{self.event.type}"'
        self._refuse(NoHandlerError(f"send: {what}"))

    # -- how it ends ---------------------------------------------------------------------------------

    def replies(self, attempt: Attempt) -> bool:
        """Return True if this is the handler whose result is the reply."""
        plain = [each for each in self._attempts if each.registration.state is None]
        return attempt in (plain or self._attempts)[:1]

    def keep_failure(self, captured: CapturedError) -> None:
        self.captured = self.captured or (captured if self.on_end is not None else captured.without_frames())

    def attempt_ended(
        self, attempt: Attempt, outcome: str, value: Any, captured: CapturedError | None
    ) -> None:
        """Reply if this handler does, and end when all handlers have ended."""
        with self._lock:
            self._left -= 1
            left = self._left
        if outcome == "cancelled":
            self._refused = self._refused or stopped_error(self.event, self.node, attempt.why)
        if self.responder is not None and self.replies(attempt) and not self.cancelled and outcome != "left":
            if outcome == "done":
                self.responder.finish(value)
            elif captured is None:
                if attempt.why != CLOSED:  # the sender gets an error that the space was closed
                    self.responder.refuse(stopped_error(self.event, self.node, attempt.why))
            elif attempt.unconverted and isinstance(captured.error, Exception):
                self.responder.refuse(captured.error)
            else:
                self.responder.refuse(self._remote_error(captured))
        if not left:
            self._end()
        elif self.dispatcher.clock.manual:  # the others may be repeated later
            io_thread().call_soon(self.update)

    def _remote_error(self, captured: CapturedError) -> HandlerError:
        return HandlerError(
            f'the handler of "{self.event.type}" at node "{self.node}" raised {captured.summary}',
            node=self.node,
            error=captured.summary,
            remote_traceback=captured.formatted,
        )

    def give_up(self, why: Exception) -> None:
        """End without a reply; raise `why` where a retry waits for the end."""
        self._refused = self._refused or why
        self._end()

    def break_off(self, broken: BaseException) -> None:
        """End because of an error that is not a handler's, so that the node continues."""
        logger.error('node "%s" handling "%s"', self.node, self.event.type, exc_info=broken)
        self._refuse(
            HandlerError(
                f'the handling of "{self.event.type}" at node "{self.node}" ended unexpectedly: '
                f"{error_summary(broken)}",
                node=self.node,
            )
        )

    def _refuse(self, error: Exception) -> None:
        """End without a result; raise the error where the reply is awaited, or a retry waits for the end."""
        self._refused = self._refused or error
        if self.responder is not None:
            self.responder.refuse(self._refused)
        self._end()

    def _end(self) -> None:
        with self._lock:
            if self.ended:
                return
            self.ended = True
        self.queue.open.pop(self, None)
        for registration in self.candidates:
            if registration.durable is not None:  # one that has ended is not concerned
                self.dispatcher.durables.leave(registration.durable, self.event.id)
        try:
            if self.on_end is not None:
                self.on_end(self._refused if self.captured is None else self.captured.to_raise())
        finally:
            self.captured = None if self.captured is None else self.captured.without_frames()
            self._attempts, self._context = [], None  # the responder is kept for a while, and not all of this
            if self.responder is not None:
                self.responder.delivery = None
            self.dispatcher.in_flight.finish(self)

    def refuse(self, error: Exception) -> None:
        """Do not handle the event. On the IO thread, before it has started."""
        self.queue.queued.pop(self, None)
        self._record_unstarted("failed", error)
        self._refuse(error)

    def cancel(self, why: str) -> None:
        """Stop the handlers at the next await or yield; a plain one continues without effect."""
        self.cancelled = True
        if self._refused is None:
            self._refused = stopped_error(self.event, self.node, why)
        if self.responder is not None:
            self.responder.refuse(self._refused)  # ignored if there is a reply already
        parked, self.parked = self.parked, False
        if self.queue.queued.pop(self, False) is None or parked:
            self._record_unstarted("cancelled", None)
            self._end()
        self.queue.stop(why, lambda attempt: attempt.delivery is self)

    def _record_unstarted(self, outcome: str, error: Exception | None) -> None:
        """Record why it did not start, so that it does not count as unhandled."""
        name = self.candidates[0].name if self.candidates else ""
        durable = [each for each in self.candidates if each.durable is not None]
        record = HandledRecord(
            self.event.id, self.node, name, outcome, error=None if error is None else error_summary(error)
        )
        if not durable:
            self.record(record)
        for registration in durable:
            assert registration.durable is not None
            handling = registration.durable.handling(self.event.id)
            self.record(record._replace(handler=registration.name, handling=handling))
            self.dispatcher.durables.end(registration.durable, self.event.id)

    def record(self, record: HandledRecord) -> None:
        if not self.forgotten:
            self.dispatcher.handled.put(record)


def _is_plain(registration: Registration) -> bool:
    """Return whether a handler may be replaced by any other that matches, when the event's turn comes."""
    return registration.state is None and registration.durable is None
