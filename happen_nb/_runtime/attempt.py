"""The handling of one event by one handler: the filter, the steps, the retries, and how it is stopped."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import AsyncGenerator, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from happen_nb._journal.wire import MAX_DURABLE_REPLY_BYTES, MAX_REPLY_BYTES
from happen_nb._model.freeze import dumps
from happen_nb._model.functions import takes_second, truth_of
from happen_nb._model.records import HandledRecord
from happen_nb._runtime import causes
from happen_nb._runtime.io import io_thread
from happen_nb._runtime.step_driver import StepDriver, on_handler_loop
from happen_nb._runtime.task_turns import Tasks
from happen_nb._runtime.tracebacks import CapturedError
from happen_nb._runtime.workers import Order, is_shutdown_error
from happen_nb.errors import CausalLoopError, NondeterminismError

if TYPE_CHECKING:
    import contextvars

    from happen_nb._model.orders import Choice
    from happen_nb._runtime.clock import Timer
    from happen_nb._runtime.delivery import Delivery
    from happen_nb._runtime.registrations import Registration
    from happen_nb._runtime.reply_ends import Converted

STOP_PATIENCE_SECONDS: Final = 5.0
"""Seconds that a stopped async or generator handler has to end; then the node continues without it."""
UNREGISTERED: Final = "it was unregistered"
DELETED: Final = "its node was deleted"
CLOSED: Final = "the space was closed"
_MAX_DOUBLINGS: Final = 60  # maximum number of times that a backoff doubles


class Result:
    """The result of an async generator: ``yield happen.Result(value)``.

    Attributes
    ----------
    value : object
        A value with a JSON form.

    Examples
    --------
    >>> happen.Result({"shipped": 3})
    Result({'shipped': 3})
    """

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __repr__(self) -> str:
        return f"Result({self.value!r})"


class Stopped(BaseException):
    """Ends a generator that was stopped; a handler never sees it."""


class _RaisedStopIteration(BaseException):
    """A handler raised StopIteration, which a coroutine may not."""


class Attempt:
    """The handling of one event by one handler; repeated calls share one context."""

    def __init__(
        self, delivery: Delivery, registration: Registration, event: Any, context: contextvars.Context
    ) -> None:
        self.delivery = delivery
        self.registration = registration
        self.event = event
        self.number = 0
        self.started = 0.0
        self.scope = causes.HandlerScope(delivery.queue.name, registration.name, event=delivery.event)
        self.scope.is_transform = registration.state is not None
        self.scope.unseen = delivery.dispatcher.log.replica
        if registration.durable is not None:
            durables = delivery.dispatcher.durables
            self.scope.durable = durables.run(registration.durable, delivery.event, registration.name)
        self.durable = self.scope.durable
        self.tasks: Tasks | None = None  # the tasks of an async handler, if handlers run in turn
        self.why = ""  # the reason why it was stopped
        self.unconverted = False  # True if its result has no JSON form
        self._context = context
        self._given: Any = None
        self._step: Any = registration.current()
        self._spent = 0.0
        self._waited: float | None = None
        self._position: int | None = None
        self._calls = 0
        self._driver: StepDriver | None = None
        self._generating = False
        self._filtering = False
        self._open = False
        self._captured: CapturedError | None = None
        self._timer: Timer | None = None
        self._lock = threading.Lock()
        context.run(causes.enter, self.scope, delivery.dispatcher.redirect)

    # -- the filter ----------------------------------------------------------------------------------

    def accepts(self) -> bool:
        """Ask the pattern's predicate and the filter; one that raises is a failure."""
        if self.registration.pattern.predicate is None and self.registration.where is None:
            return True
        accepted: bool | None = None
        captured: CapturedError | None = None
        self._filtering = True
        self._enter()
        try:
            accepted = self._context.run(self._filter)
        except BaseException as error:
            captured = CapturedError.of(error)
        self.scope.release()
        if not self._leave():  # it took so long that it was abandoned
            return False
        self._filtering = False
        if captured is not None:
            self._fail(captured)
        elif accepted is False:
            self._record("refused", None)
        elif accepted is None:
            self._end_durable()
        return accepted is True

    def _filter(self) -> bool | None:
        """Return True if the filter accepts the event; None if the pattern does not match its type."""
        if not self.registration.pattern.matches(self.delivery.event.type):
            return None
        if self.registration.where is None:
            return True
        return truth_of(self.registration.where(self.event), "where")

    # -- one try -------------------------------------------------------------------------------------

    def start(self) -> StepDriver | None:
        """Call the handler, or continue with the step that failed, unless it was stopped meanwhile."""
        if not self._stop_waiting():
            return None
        if self.stopped:
            self._end("cancelled")
            return None
        if not self.registration.active:  # unregistered while another handler of the event ran
            self._give_up()
            return None
        if self.durable is not None and not self._begin_durable():
            return None
        self.number += 1
        if self._waited is None:  # by the clocks of the server and this process, which may differ
            self._waited = max(0.0, (time.time_ns() - self.delivery.event.time) / 1e9)
        self._enter()
        result = self._context.run(self._call_first)
        if result is None:
            return None
        workers = self.delivery.dispatcher.workers
        if workers.in_turn:
            self.tasks = Tasks(partial(io_thread().call_soon, self.delivery.queue.update))
        driver = StepDriver(self._run(result), self._context, workers, self.tasks)
        with self._lock:
            self._driver, abandoned = driver, not self._open
        if abandoned:  # while it made its first call
            driver.cancel_task()
        return driver.start()

    @property
    def order(self) -> Order:
        return *self.delivery.event.position, self.registration.number, self.registration.state is None

    def choice(self) -> Choice | None:
        """Return the choice for a conductor; None if the handler was stopped or unregistered."""
        if self.stopped or not self.registration.active:
            return None
        return self.registration.begins(self.delivery.event)

    def _call_first(self) -> Any:
        """Make the first call; return its result if the handler continues with it, or None at the end."""
        # Most handlers end here: continuing costs a coroutine and a driver.
        try:
            result = self._call_step()
            if _has_further_steps(result):
                return result
        except BaseException as error:
            self._conclude(None, CapturedError.of(_raised(error)))
            return None
        self._conclude(result, None)
        return None

    def _begin_durable(self) -> bool:
        """Start the run of a durable handler; False if another process runs it, or has run it."""
        handler, delivery = self.registration.durable, self.delivery
        assert handler is not None
        assert self.durable is not None
        is_ours = delivery.dispatcher.durables.begin(handler, delivery.event) or delivery.on_end is not None
        ended = self.durable.known.ended
        if is_ours and not ended:
            self.durable.rewind()
            return True
        self._end_durable(left=not ended)
        delivery.attempt_ended(self, "left", None, None)
        return False

    def _end_durable(self, *, left: bool = False) -> None:
        handler, durables = self.registration.durable, self.delivery.dispatcher.durables
        if handler is not None:
            (durables.leave if left else durables.end)(handler, self.delivery.event.id)

    def _enter(self) -> None:
        self.started = time.monotonic()
        self.scope.hold()
        self.scope.join(self.delivery.queue.mailbox.run)
        self._open = True
        self.delivery.queue.current = self

    def _leave(self) -> bool:
        """Release the node; False if the attempt was abandoned before."""
        with self._lock:
            if not self._open:
                return False
            self._open = False
        self._make_room()
        return True

    def _make_room(self) -> None:
        queue = self.delivery.queue
        if queue.current is self:
            queue.current = None
        if queue.asleep:  # a task that it has left waits for a reply
            io_thread().call_soon(queue.update)
        self._spent += time.monotonic() - self.started

    async def _run(self, result: Any) -> None:
        value: Any = None
        captured: CapturedError | None = None
        try:
            value = await self._steps(result)
        except BaseException as error:
            captured = CapturedError.of(_raised(error))
        self._conclude(value, captured)

    def _conclude(self, value: Any, captured: CapturedError | None) -> None:
        """End this call, with the result or the error of the handler."""
        if captured is None:
            try:
                self.delivery.event.check()
                if self.durable is not None:
                    self.durable.check_complete()
                value = self._converted(value)
            except BaseException as error:
                captured = CapturedError.of(error)
        self.scope.release()
        if not self._leave() or (captured is not None and is_shutdown_error(captured.error)):
            return
        try:
            self._decide(value, captured)
        except BaseException as broken:
            self.delivery.break_off(broken)

    def _converted(self, value: Any) -> Converted | None:
        """Convert the result as a payload, if the event was sent and this handler replies."""
        responder = self.delivery.responder
        if responder is None or not self.delivery.replies(self):
            return None
        value = self.delivery.dispatcher.host.reply(value)
        self.unconverted = True
        converted = responder.convert(value)
        self.unconverted = False
        return converted

    def _decide(self, value: Any, captured: CapturedError | None) -> None:
        if captured is None:
            self._end("done", value)
        elif self.stopped and issubclass(type(captured.error), Stopped | asyncio.CancelledError):
            self._end("cancelled")
        elif self._is_repeated(captured.error):
            self._repeat_later(captured.without_frames())
        else:
            self._fail(captured)
            self.delivery.attempt_ended(self, "failed", None, captured)

    # -- retries -------------------------------------------------------------------------------------

    def _is_repeated(self, error: BaseException) -> bool:
        return (
            self.number <= self.registration.retries
            and self.registration.active
            and not self.stopped
            and not self.unconverted  # it has done its work
            and not issubclass(type(error), CausalLoopError | NondeterminismError)
        )

    def _repeat_later(self, captured: CapturedError) -> None:
        """Retry after a pause; the node handles other events meanwhile."""
        self._captured = captured
        if self.scope.looked is None:  # it began then, whenever it will look
            self.scope.looked, self.scope.unseen = self._position, None
        if (handler := self.registration.durable) is not None:
            self.delivery.dispatcher.durables.pause(handler, self.delivery.event)
        self.delivery.queue.waiting[self] = None
        pause = self.registration.backoff * 2.0 ** min(self.number - 1, _MAX_DOUBLINGS)
        io_thread().call_soon(self._start_timer, pause)

    def _start_timer(self, pause: float) -> None:
        if self in self.delivery.queue.waiting:
            event, node = self.delivery.event.id, self.delivery.queue.name
            self._timer = self.delivery.dispatcher.clock.call_later(pause, self._repeat, event, node)
            self.delivery.update()

    @property
    def waits_for_clock(self) -> bool:
        return self._timer is not None

    def _repeat(self) -> None:
        self._timer = None
        self.delivery.update()
        if self in self.delivery.queue.waiting:
            self.delivery.queue.mailbox.put_first([self])

    def _stop_waiting(self) -> bool:
        """Stop waiting; False if it did not wait."""
        waited = self.delivery.queue.waiting.pop(self, False) is None
        timer, self._timer = self._timer, None
        if timer is not None:
            self.delivery.update()
            io_thread().call_soon(timer.cancel)
        return waited

    def _give_up(self) -> None:
        """Stop retrying: the last exception, if it ran, is a failure."""
        captured = self._captured
        if captured is None or (self.durable is not None and not self.delivery.cancelled):
            self._end("cancelled")
        else:
            self._fail(captured)
            self.delivery.attempt_ended(self, "failed", None, captured)

    # -- stopping ------------------------------------------------------------------------------------

    @property
    def stopped(self) -> bool:
        return bool(self.why) or self.delivery.cancelled

    def stop(self, why: str) -> None:
        """Stop the handler at its next await or yield. From any thread.

        A plain handler continues without effect.
        """
        self.why = self.why or why
        if self._stop_waiting():
            if self.delivery.cancelled:
                self._end("cancelled")
            else:
                self._give_up()
        elif self._generating or (self._driver is not None and self._driver.cancel_task()):
            io_thread().call_soon(io_thread().loop.call_later, STOP_PATIENCE_SECONDS, self.abandon)
        elif io_thread().here:
            self.abandon()
        else:
            io_thread().run(self._abandon())

    async def _abandon(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        """Let the node continue without it, if it still runs; from now on it cannot change anything.

        On the IO thread, which no signal handler interrupts.
        """
        with self._lock:
            if not self._open:
                return
            self._open, self.scope.abandoned = False, True
            # Before it can end: otherwise it would start the next one, too.
            self.delivery.queue.mailbox.abandon_current()
        self._make_room()
        if self._filtering:
            self._record("cancelled", None)
            self.delivery.restart()
        else:
            self._end("cancelled")
        self.delivery.queue.mailbox.go_on()

    # -- the end -------------------------------------------------------------------------------------

    def _fail(self, captured: CapturedError) -> None:
        self.delivery.keep_failure(captured)
        self._record("failed", captured.summary)
        self._context.copy().run(self.delivery.dispatcher.host.failed, self, captured.without_frames())

    def _end(self, outcome: str, value: Converted | None = None) -> None:
        reply = None
        most = MAX_REPLY_BYTES if self.delivery.event.key is None else MAX_DURABLE_REPLY_BYTES
        if value is not None and value.size <= most:
            reply = dumps(value.value).decode()
        self._record(outcome, None, reply)
        self.delivery.attempt_ended(self, outcome, value, None)

    def _record(self, outcome: str, error: str | None, reply: str | None = None) -> None:
        if self.durable is not None and outcome == "cancelled" and not self.delivery.cancelled:
            self._end_durable(left=True)  # it was unregistered, or the space is closed: another run does it
            return
        record = HandledRecord(
            self.delivery.event.id,
            self.delivery.queue.name,
            self.registration.name,
            outcome,
            self._spent,
            error,
            max(1, self.number),
            waited=self._waited,
            reply=reply,
            position=self._position if self.scope.looked is None else self.scope.looked,
            handling=None if self.durable is None else self.durable.handling,
            now=None if self._given is None else self.delivery.dispatcher.host.time_read(self._given),
            late=self.scope.late or None,
        )
        self.delivery.record(record)
        self._end_durable()

    # -- the steps -----------------------------------------------------------------------------------

    async def _steps(self, result: Any) -> Any:
        while True:
            if inspect.isawaitable(result):
                result = await on_handler_loop(self._awaited(result), result)
            elif isinstance(result, Generator):
                result = self._iterate(result)
            elif isinstance(result, AsyncGenerator):
                result = await on_handler_loop(self._aiterate(result), result)
            if not callable(result):
                return result
            self._step = result
            if self.durable is not None:
                self.durable.mark()
            if self.stopped:
                raise Stopped
            result = self._call_step()

    def _call_step(self) -> Any:
        if (handler := self.registration.state) is not None:
            self._position = self.delivery.dispatcher.log.replica.position
            return handler.apply(self.event, self.delivery.snapshot, self.delivery.error)
        second = takes_second(self._step, "context")
        self._calls += 1
        self._note_position()
        try:
            if second == "none":
                return self._step(self.event)
            if second == "positional":
                return self._step(self.event, self._argument())
            return self._step(self.event, context=self._argument())
        except StopIteration as error:
            raise _RaisedStopIteration(error) from None

    def _argument(self) -> Any:
        if self._given is None:
            self._given = self.delivery.dispatcher.host.context(
                self.delivery.queue.name,
                self.event,
                self.registration.name,
                self.delivery.once_names,
                self.durable,
                again=self.delivery.again,
            )
        self._given.attempt = self.number
        return self._given

    def _note_position(self) -> None:
        """Note the position of the journal when the first call begins; an async one begins in its loop."""
        if self._calls == 1:
            self._position = self.delivery.dispatcher.log.replica.position

    async def _awaited(self, result: Any) -> Any:
        self._note_position()
        return await result

    def _iterate(self, generator: Generator[Any, None, Any]) -> Any:
        self._generating = True
        try:
            while True:
                if self.stopped:
                    generator.close()
                    raise Stopped
                self._report_progress(next(generator))
        except StopIteration as end:
            return end.value
        finally:
            self._generating = False
            generator.close()  # it still runs if its progress has no JSON form

    async def _aiterate(self, generator: AsyncGenerator[Any, None]) -> Any:
        result = None
        self._note_position()
        try:
            async for value in generator:
                if isinstance(value, Result):
                    result = value.value
                    break
                self._report_progress(value)
                if self.stopped:
                    raise asyncio.CancelledError
                await asyncio.sleep(0)  # one that awaits nothing lets others run, and can be cancelled
        finally:
            await generator.aclose()
        return result

    def _report_progress(self, value: Any) -> None:
        if self.delivery.responder is not None:
            self.delivery.responder.progress(value)


def _has_further_steps(result: Any) -> bool:
    return result is not None and (
        inspect.isawaitable(result) or isinstance(result, Generator | AsyncGenerator) or callable(result)
    )


def _raised(error: BaseException) -> Any:
    return error.args[0] if type(error) is _RaisedStopIteration else error
