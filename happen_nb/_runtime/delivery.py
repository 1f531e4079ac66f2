"""One event at one node: which handlers handle it, and how that ends.

A `Delivery` waits in the node's queue. When its turn comes each handler that accepts the event makes an
`Attempt`; one that raises may be repeated later, while the node goes on with other events.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Protocol

from happen_nb._model.quoting import error_summary
from happen_nb._model.records import HandledRecord
from happen_nb._runtime.attempt import CLOSED, UNREGISTERED, Attempt
from happen_nb.errors import FrozenStateError, HandlerError, NoHandlerError

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Callable, Container, Mapping

    from happen_nb._model.records import Cut, EventRecord
    from happen_nb._runtime.effects import InFlight
    from happen_nb._runtime.registrations import Registration, Registrations
    from happen_nb._runtime.replies import Responder
    from happen_nb._runtime.tracebacks import CapturedError
    from happen_nb._runtime.workers import Mailbox, Pending, Workers

log = logging.getLogger("happen_nb")

LONG: Final = 1.0
"""Seconds after which a handler that runs is named."""


class Host(Protocol):
    """What the facade gives handlers, and is told."""

    def event(self, record: EventRecord) -> Any:
        """Make the event that a handler is called with."""

    def context(self, node: str, event: Any) -> Any:
        """Make the context that a handler is called with; its ``attempt`` is set before each call."""

    def reply(self, value: Any) -> Any:
        """Return what is replied where a handler returns `value`."""

    def failed(self, attempt: Attempt, trouble: CapturedError) -> None:
        """A handler has raised for the last time."""

    def lost(self, node: str, answer: Mapping[str, Any]) -> None:
        """Another process handles a node's events from here on; `answer` is what it says of itself."""


class NodeQueue:
    """A node's mailbox, and what it does at the moment."""

    def __init__(self, name: str, mailbox: Mailbox) -> None:
        self.name = name
        self.mailbox = mailbox
        self.queued: dict[Delivery, None] = {}
        """What has not begun."""
        self.open: dict[Delivery, None] = {}
        """What has not ended."""
        self.waiting: dict[Attempt, None] = {}
        """What has failed and waits to be repeated."""
        self.current: Attempt | None = None

    def busy(self) -> tuple[float, int]:
        """Seconds for which it has handled the current event, and how many wait."""
        current = self.current
        return (0.0 if current is None else time.monotonic() - current.began), len(self.queued)

    def stop(self, why: str, of: Callable[[Attempt], bool]) -> bool:
        """Stop those attempts that run or wait to be repeated; whether there were any. From any thread."""
        current = self.current
        attempts = [*list(self.waiting), *([] if current is None else [current])]
        found = [attempt for attempt in attempts if of(attempt)]
        for attempt in found:
            attempt.stop(why)
        return bool(found)

    def drop(self, why: str, before: int, spare: Container[str]) -> None:
        """Cancel all that is not done of events stored before a position: they are gone. From any thread."""
        for delivery in list(self.open):
            if delivery.event.sequence < before and delivery.event.id not in spare:
                delivery.forgotten = True
                delivery.cancel(why)


class Desk(Protocol):
    """What deliveries need of the place they are handed out at."""

    host: Host
    in_flight: InFlight
    workers: Workers
    registrations: Registrations

    def handled(self, record: HandledRecord) -> None:
        """Something was handled."""


class Delivery:
    """An event on its way through the handlers of one node.

    Parameters
    ----------
    desk : Desk
    box : NodeQueue
    event : EventRecord
    candidates : list of Registration
        Those whose pattern matched when it came; if all of them are gone, those that match later.
    context : contextvars.Context, optional
        The one in which it was emitted, if that was in this process.
    answer : Responder, optional
        Takes progress and result, if it was sent.
    """

    def __init__(
        self,
        desk: Desk,
        box: NodeQueue,
        event: EventRecord,
        candidates: list[Registration],
        context: contextvars.Context | None,
        answer: Responder | None = None,
        snapshot: Cut | None = None,
    ) -> None:
        self.snapshot = snapshot
        """The states when the event was stored, if a state handler reads them and they are at hand."""
        self.desk = desk
        self.box = box
        self.event = event
        self.answer = answer
        self.cancelled = False
        self.forgotten = False
        """Whether the event is stored no more, and neither is what becomes of it."""
        self.awaited = False
        """Whether a handler, here or elsewhere, waits for the reply."""
        self.ended = False
        self.trouble: CapturedError | None = None
        """What the first handler that failed has raised."""
        self.on_end: Callable[[BaseException | None], None] | None = None
        """Called at the end, with the error if a handler has failed."""
        self._candidates = candidates
        self._context = context
        self._attempts: list[Attempt] = []
        self._round = 0
        self._left = 0
        self._refused: Exception | None = None
        self._lock = threading.Lock()
        self._token = desk.in_flight.start(event.correlation or event.id, self._describe, self._hint)
        box.queued[self] = box.open[self] = None

    def _describe(self) -> str:
        return f'node "{self.box.name}" handling "{self.event.type}"'

    def _hint(self) -> str:
        current = self.box.current
        if current is None or current.delivery is not self or time.monotonic() - current.began < LONG:
            return ""
        registration = current.registration
        what = f'node "{self.box.name}" is in {registration.name}'
        return f'{what}; its off("{registration.pattern.text}") stops that'

    # -- its turn ------------------------------------------------------------------------------------

    def begin(self) -> Pending | None:
        """Its turn has come: let each handler that accepts it begin."""
        try:
            return self._begin()
        except BaseException as broken:
            self.break_off(broken)
            return None

    def _begin(self) -> Pending | None:
        self.box.queued.pop(self, None)
        if self.cancelled or self.ended:
            self._end()
            return None
        self._round += 1
        begun, attempts = self._round, []
        with suppress(FrozenStateError):  # restored: whoever changed it in place got that error, or ended
            self.event.check()
        event = self.desk.host.event(self.event)
        for registration in self._present():
            attempt = Attempt(self, registration, event, self._context_of(registration))
            if attempt.accepts():
                attempts.append(attempt)
            if self.ended or self._round != begun or attempt.scope.abandoned:  # in a filter that did not end
                return None
        self._attempts = attempts
        self._left = len(attempts)
        if not attempts:
            self._nobody()
            return None
        first, *others = attempts
        if others:
            self.box.mailbox.put_first([attempt.start for attempt in others])
        return first.start()

    def _present(self) -> list[Registration]:
        present = [registration for registration in self._candidates if registration.active]
        if present or all(registration.state is not None for registration in self._candidates):
            return present
        found = self.desk.registrations.candidates(self.event.type, self.box.name).get(self.box.name, [])
        return [registration for registration in found if registration.state is None]

    def _context_of(self, registration: Registration) -> contextvars.Context:
        return (self._context or registration.context).copy()

    def begin_again(self) -> None:
        """A filter was abandoned: let the other handlers begin."""
        self._round += 1
        if self.cancelled:
            self._end()
        else:
            self.box.mailbox.put_first([self.begin])

    def _nobody(self) -> None:
        if self.trouble is None:
            self._refused = NoHandlerError(
                f'send: no handler of node "{self.box.name}" accepts this "{self.event.type}" (where)'
            )
        if self.answer is not None:
            self.answer.refuse(self._refused or _remote(self.box.name, self.event, self.trouble))
        self._end()

    # -- how it ends ---------------------------------------------------------------------------------

    def replies(self, attempt: Attempt) -> bool:
        """Whether this is the handler that replies."""
        plain = [each for each in self._attempts if each.registration.state is None]
        return attempt in (plain or self._attempts)[:1]

    def fails(self, trouble: CapturedError) -> None:
        """One handler has raised for the last time."""
        self.trouble = self.trouble or (trouble if self.on_end is not None else trouble.without_frames())

    def attempt_ended(
        self, attempt: Attempt, outcome: str, value: Any, trouble: CapturedError | None
    ) -> None:
        """One handler is through with it, after the last of its attempts."""
        with self._lock:
            self._left -= 1
            left = self._left
        if outcome == "cancelled":
            self._refused = self._refused or self._stopped(attempt.why)
        if self.answer is not None and self.replies(attempt) and not self.cancelled:
            if outcome == "done":
                self.answer.finish(value)
            elif trouble is None:
                if attempt.why != CLOSED:  # who waits is told so of the space
                    self.answer.refuse(self._stopped(attempt.why))
            elif attempt.unconverted and isinstance(trouble.error, Exception):
                self.answer.refuse(trouble.error)
            else:
                self.answer.refuse(_remote(self.box.name, self.event, trouble))
        if not left:
            self._end()

    def _stopped(self, why: str) -> HandlerError:
        text = (
            f'the handler of "{self.event.type}" at node "{self.box.name}" was stopped: {why or UNREGISTERED}'
        )
        return HandlerError(text, node=self.box.name)

    def give_up(self, why: Exception) -> None:
        """Let go of it: nobody handles it any more. Whoever waits for its end gets the error."""
        self._refused = self._refused or why
        self._end()

    def break_off(self, broken: BaseException) -> None:
        """Something went wrong that is no handler's: it ends here, so that the node goes on."""
        log.error('node "%s" handling "%s"', self.box.name, self.event.type, exc_info=broken)
        if self.answer is not None:
            self.answer.refuse(
                HandlerError(
                    f'the handling of "{self.event.type}" at node "{self.box.name}" broke off: '
                    f"{error_summary(broken)}",
                    node=self.box.name,
                )
            )
        self._end()

    def _end(self) -> None:
        with self._lock:
            if self.ended:
                return
            self.ended = True
        self.box.open.pop(self, None)
        try:
            if self.on_end is not None:
                self.on_end(self._refused if self.trouble is None else self.trouble.to_raise())
        finally:
            self.trouble = None if self.trouble is None else self.trouble.without_frames()
            self._attempts, self._context = [], None  # the answer is kept for a while, and not all of this
            if self.answer is not None:
                self.answer.delivery = None
            self.desk.in_flight.finish(self._token)

    def refuse(self, error: Exception) -> None:
        """Do not handle it at all. On the IO thread, before it began."""
        self.box.queued.pop(self, None)
        if self.answer is not None:
            self.answer.refuse(error)
        self._not_begun("failed", error)
        self._refused = error
        self._end()

    def cancel(self, why: str) -> None:
        """Stop what can be stopped: at the next await or yield; a plain handler goes on without effect."""
        self.cancelled = True
        if self._refused is None:
            self._refused = self._stopped(why)
        if self.answer is not None:
            self.answer.refuse(self._refused)  # ignored where there is a reply already
        if self.box.queued.pop(self, False) is None:
            self._not_begun("cancelled", None)
            self._end()
        self.box.stop(why, lambda attempt: attempt.delivery is self)

    def _not_begun(self, outcome: str, error: Exception | None) -> None:
        """Record why it did not begin, so that it does not count as unhandled."""
        name = self._candidates[0].name if self._candidates else ""
        self.record(name, outcome, None if error is None else error_summary(error), 0.0, 1)

    def record(self, handler: str, outcome: str, error: str | None, seconds: float, attempts: int) -> None:
        """Keep what a handler did with it."""
        if not self.forgotten:
            self.desk.handled(
                HandledRecord(self.event.id, self.box.name, handler, outcome, seconds, error, attempts)
            )


def _remote(node: str, event: EventRecord, trouble: CapturedError | None) -> HandlerError:
    assert trouble is not None
    return HandlerError(
        f'the handler of "{event.type}" at node "{node}" raised {trouble.summary}',
        node=node,
        error=trouble.summary,
        remote_traceback=trouble.formatted,
    )
