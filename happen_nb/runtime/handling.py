"""One event at one node: which handlers take it, step by step, and what becomes of it.

A `Delivery` waits in the node's mailbox. When its turn comes each handler that accepts the event makes an
`Attempt`; one that raises may be repeated later, while the node goes on with other events.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Protocol

from happen_nb.errors import CausalLoopError, FrozenStateError, HandlerError, NoHandlerError
from happen_nb.model.commits import HandledRecord
from happen_nb.model.transforms import takes_second
from happen_nb.runtime import causes, ending
from happen_nb.runtime.bridge import bridge
from happen_nb.runtime.runs import Run, on_loop
from happen_nb.runtime.tracebacks import told

if TYPE_CHECKING:
    import contextvars

    from happen_nb.model.commits import EventRecord, OwnerRecord
    from happen_nb.runtime.activity import Activity
    from happen_nb.runtime.mailbox import Mailbox, Pending, Workers
    from happen_nb.runtime.registrations import Registration, Registrations
    from happen_nb.runtime.replies import Answer

LONGEST_TEXT = 10_000
"""Characters of an error's text that are kept in the journal."""


class Result:
    """What an async generator gives as its result: ``yield happen.Result(value)``.

    Attributes
    ----------
    value : object
        Anything with a JSON form.
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class Host(Protocol):
    """What the facade gives handlers, and is told."""

    def event(self, record: EventRecord) -> Any:
        """The event that a handler is called with."""

    def context(self, node: str, event: Any) -> Any:
        """The context that a handler is called with; its ``attempt`` is set before each call."""

    def reply(self, value: Any) -> Any:
        """What is replied where a handler returns `value`."""

    def failed(self, attempt: Attempt, error: BaseException) -> None:
        """A handler has raised for the last time."""

    def lost(self, node: str, owner: OwnerRecord) -> None:
        """Another process handles a node's events from here on."""


class Box:
    """A node's mailbox, and what it does at the moment."""

    def __init__(self, name: str, mailbox: Mailbox) -> None:
        self.name = name
        self.mailbox = mailbox
        self.queued: dict[Delivery, None] = {}
        """What has not begun."""
        self.open: dict[Delivery, None] = {}
        """What has not ended."""
        self.current: Attempt | None = None

    def busy(self) -> tuple[float, int]:
        """Seconds for which it has handled the current event, and how many wait."""
        current = self.current
        return (0.0 if current is None else time.monotonic() - current.began), len(self.queued)


class Desk(Protocol):
    """What deliveries need of the place they are handed out at."""

    host: Host
    activity: Activity
    workers: Workers
    registrations: Registrations

    def handled(self, record: HandledRecord) -> None:
        """Something was handled."""


class Cancelled(BaseException):
    """A generator was stopped; never seen by a handler."""


class Delivery:
    """An event on its way through the handlers of one node.

    Parameters
    ----------
    desk : Desk
    box : Box
    event : EventRecord
    candidates : list of Registration
        Those whose pattern matched when it came; if all of them are gone, those that match later.
    context : contextvars.Context, optional
        The one in which it was emitted, if that was in this process.
    answer : Answer, optional
        Takes progress and result, if it was sent.
    """

    def __init__(
        self,
        desk: Desk,
        box: Box,
        event: EventRecord,
        candidates: list[Registration],
        context: contextvars.Context | None,
        answer: Answer | None = None,
    ) -> None:
        self.desk = desk
        self.box = box
        self.event = event
        self.answer = answer
        self.cancelled = False
        self.awaited = False
        """Whether a handler, here or elsewhere, waits for the reply."""
        self.ended = False
        self.on_end: Callable[[BaseException | None], None] | None = None
        """Called at the end, with the error if a handler has failed."""
        self._candidates = candidates
        self._context = context
        self._attempts: list[Attempt] = []
        self._left = 0
        self._error: BaseException | None = None
        self._token = desk.activity.begin(event.correlation or event.id, self._describe)
        box.queued[self] = box.open[self] = None

    def _describe(self) -> str:
        return f'node "{self.box.name}" handling "{self.event.type}"'

    def begin(self) -> Pending | None:
        """Its turn has come: let each handler that accepts it begin."""
        self.box.queued.pop(self, None)
        if self.cancelled or self.ended:
            self._end()
            return None
        present = [registration for registration in self._candidates if registration.active]
        if not present:
            matching = self.desk.registrations.candidates(self.event.type, self.box.name)
            present = matching.get(self.box.name, [])
        with suppress(FrozenStateError):  # restored: whoever changed it in place got that error, or ended
            self.event.check()
        event = self.desk.host.event(self.event)
        for registration in present:
            if self._accepts(registration, event):
                self._attempts.append(Attempt(self, registration, event, self._context_of(registration)))
        self._left = len(self._attempts)
        if not self._attempts:
            self._nobody()
            return None
        first, *others = self._attempts
        if others:
            self.box.mailbox.put_first([attempt.start for attempt in others])
        return first.start()

    def _accepts(self, registration: Registration, event: Any) -> bool:
        asked = registration.pattern.predicate, registration.where
        if asked == (None, None):
            return True
        context = self._context_of(registration)
        try:
            if not context.run(registration.pattern.matches, self.event.type):
                return False
            accepted = registration.where is None or bool(context.run(registration.where, event))
        except BaseException as error:
            failed = Attempt(self, registration, event, context)
            context.run(failed.fail, error)
            return False
        if not accepted:
            self.desk.handled(HandledRecord(self.event.id, self.box.name, registration.name, "refused"))
        return accepted

    def _context_of(self, registration: Registration) -> contextvars.Context:
        return (self._context or registration.context).copy()

    def _nobody(self) -> None:
        if self.answer is not None:
            self.answer.refuse(
                _remote(self.box.name, self.event, self._error)
                if self._error
                else NoHandlerError(
                    f'send: no handler of node "{self.box.name}" accepts this "{self.event.type}" (where)'
                )
            )
        self._end()

    def attempt_ended(self, attempt: Attempt, value: Any, error: BaseException | None) -> None:
        """One handler is through with it, after the last of its attempts."""
        self._left -= 1
        self._error = self._error or error
        if attempt is self._attempts[0] and self.answer is not None and not self.cancelled:
            if error is None:
                self.answer.finish(self.desk.host.reply(value))
            else:
                self.answer.fail(_remote(self.box.name, self.event, error))
        if not self._left:
            self._end()

    def _end(self) -> None:
        if self.ended:
            return
        self.ended = True
        self.box.open.pop(self, None)
        if self.on_end is not None:
            self.on_end(self._error)
        self.desk.activity.end(self._token)

    def refuse(self, error: Exception) -> None:
        """Do not handle it at all. On the IO thread, before it began."""
        self.box.queued.pop(self, None)
        if self.answer is not None:
            self.answer.refuse(error)
        self._not_begun("failed", error)
        self._error = error
        self._end()

    def cancel(self) -> None:
        """Stop what can be stopped: at the next await or yield; a plain handler goes on without effect."""
        self.cancelled = True
        current = self.box.current
        if current is not None and current.delivery is self:
            current.cancel()
        elif self in self.box.queued:
            self.box.queued.pop(self, None)
            self._not_begun("cancelled", None)
            self._end()

    def _not_begun(self, outcome: str, error: Exception | None) -> None:
        """Keep what became of it, so that it does not count as unhandled."""
        name = self._candidates[0].name if self._candidates else ""
        text = None if error is None else _said(error)
        self.desk.handled(HandledRecord(self.event.id, self.box.name, name, outcome, error=text))


class Attempt:
    """One handler and one event: called, perhaps called again, with one context for all its steps."""

    def __init__(
        self, delivery: Delivery, registration: Registration, event: Any, context: contextvars.Context
    ) -> None:
        self.delivery = delivery
        self.registration = registration
        self.event = event
        self.number = 0
        self.began = 0.0
        self.scope = causes.of_event(delivery.event, delivery.box.name, registration.name)
        self._context = context
        self._given = delivery.desk.host.context(delivery.box.name, event)
        self._step: Any = registration.handler
        self._spent = 0.0
        self._run: Run | None = None
        self._generating = False
        context.run(causes.scope.set, self.scope)

    def start(self) -> Pending | None:
        """Call the handler, or go on with the step that failed."""
        if self.delivery.cancelled:  # while another handler ran, or before it was to be repeated
            self._through("cancelled", None, asyncio.CancelledError())
            return None
        self.number += 1
        self._given.attempt = self.number
        self.began = time.monotonic()
        self.delivery.box.current = self
        self._run = Run(self._attempt(), self._context, self.delivery.desk.workers)
        return self._run.start()

    async def _attempt(self) -> None:
        value, error = None, None
        try:
            value = await self._steps()
            self.delivery.event.check()
        except BaseException as raised:
            error = raised
        if self.delivery.box.current is self:
            self.delivery.box.current = None
        self._spent += time.monotonic() - self.began
        if self.scope.abandoned or (error is not None and ending.explains(error)):
            return
        if error is None:
            self._through("done", value, None)
        elif self.delivery.cancelled and isinstance(error, Cancelled | asyncio.CancelledError):
            self._through("cancelled", None, error)
        elif self.number <= self.registration.retries and not isinstance(error, CausalLoopError):
            pause = self.registration.backoff * 2 ** (self.number - 1)
            bridge().soon(bridge().loop.call_later, pause, self._again)
        else:
            self.fail(error)
            self.delivery.attempt_ended(self, None, error)

    def _again(self) -> None:
        self.delivery.box.mailbox.put_first([self.start])

    def fail(self, error: BaseException) -> None:
        """It has raised for the last time."""
        self.delivery._error = error
        self._record("failed", _said(error))
        self.delivery.desk.host.failed(self, error)

    def _through(self, outcome: str, value: Any, error: BaseException | None) -> None:
        self._record(outcome, None)
        self.delivery.attempt_ended(self, value, error)

    def _record(self, outcome: str, error: str | None) -> None:
        self.delivery.desk.handled(
            HandledRecord(
                self.delivery.event.id,
                self.delivery.box.name,
                self.registration.name,
                outcome,
                self._spent,
                error,
                max(1, self.number),
            )
        )

    # -- the steps -----------------------------------------------------------------------------------

    async def _steps(self) -> Any:
        while True:
            result: Any = self._called()
            if result is None:
                return None
            if inspect.isawaitable(result):
                result = await on_loop(_awaited(result))
            elif isinstance(result, Generator):
                result = self._iterate(result)
            elif isinstance(result, AsyncGenerator):
                result = await on_loop(self._aiterate(result))
            if not callable(result):
                return result
            self._step = result

    def _called(self) -> Any:
        second = takes_second(self._step, "context")
        if second == "none":
            return self._step(self.event)
        if second == "positional":
            return self._step(self.event, self._given)
        return self._step(self.event, context=self._given)

    def _iterate(self, generator: Generator[Any, None, Any]) -> Any:
        self._generating = True
        try:
            while True:
                if self.delivery.cancelled:
                    generator.close()
                    raise Cancelled
                self._progress(next(generator))
        except StopIteration as end:
            return end.value
        finally:
            self._generating = False

    async def _aiterate(self, generator: AsyncGenerator[Any, None]) -> Any:
        result = None
        try:
            async for value in generator:
                if isinstance(value, Result):
                    result = value.value
                    break
                self._progress(value)
        finally:
            await generator.aclose()
        return result

    def _progress(self, value: Any) -> None:
        if self.delivery.answer is not None:
            self.delivery.answer.progress(value)

    def cancel(self) -> None:
        """Stop it where it can be stopped."""
        if self._generating or (self._run is not None and self._run.cancel_task()):
            return
        self.scope.abandoned = True
        self.delivery.box.current = None
        self._record("cancelled", None)
        self.delivery._end()
        self.delivery.box.mailbox.abandon()


async def _awaited(result: Any) -> Any:
    return await result


def _said(error: BaseException) -> str:
    """Its type and text, as far as there is one and it is not endless."""
    try:
        text = error.args[0] if isinstance(error, HandlerError) else str(error)  # its traceback is told once
    except Exception:
        text = "(its text cannot be had)"
    return f"{type(error).__name__}: {text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + '...'}"


def _remote(node: str, event: EventRecord, error: BaseException) -> HandlerError:
    text = _said(error)
    return HandlerError(
        f'the handler of "{event.type}" at node "{node}" raised {text}',
        node=node,
        error=text,
        remote_traceback=told(error),
    )
