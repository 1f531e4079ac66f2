"""The reply to an event that was sent to one node: progress, then a result or an error."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from happen_nb._api.base import Displayable, bundle_of, faces
from happen_nb._api.events import Event, cancel_scheduled, record_of
from happen_nb._model.arguments import seconds
from happen_nb._runtime import causes
from happen_nb._runtime.cells import cells
from happen_nb._runtime.handler_loops import refuse_on_handler_loop
from happen_nb._runtime.io import on_io, run_awaitable, run_blocking
from happen_nb._runtime.redirect import instead_of
from happen_nb._runtime.tracebacks import to_raise
from happen_nb.errors import CancelledHandlingError, HappenTimeoutError, PendingError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

    from happen_nb._display.live_output import LiveOutput
    from happen_nb._display.page import Page
    from happen_nb._display.values import Budget
    from happen_nb._runtime.reply_ends import PendingReply
    from happen_nb._runtime.runtime import Runtime


class Reply(Displayable):
    """The reply to an event that was sent to one node; made by ``send``.

    Iterating yields progress as it arrives; ``result()`` or ``await`` returns the result. Interrupting the
    kernel during ``for value in reply`` or ``result()`` cancels the handling.

    Attributes
    ----------
    event : Event
        The event that was sent.
    target : str
        Name of the node that it was sent to.
    timeout : float
        Seconds to wait for a result; each progress message restarts the timeout.
    """

    _pickle = "pickle reply.result()"

    def __init__(self, request: PendingReply, event: Event, timeout: float, runtime: Runtime) -> None:
        self.event = event
        self.target = request.target
        self.timeout = timeout
        self._request = request
        self._runtime = runtime
        self._outputs: list[LiveOutput] = []

    @property
    def state(self) -> str:
        """``"waiting"``, ``"held"``, ``"accepted"``, ``"done"``, ``"failed"`` or ``"cancelled"``."""
        request = self._request
        return "held" if request.held and request.state == "waiting" else request.state

    @property
    def done(self) -> bool:
        """True if there is a result or an error."""
        return self._request.done

    @property
    def progress(self) -> Any:
        """The newest progress value; None before the first."""
        return self._request.progress

    @property
    def error(self) -> BaseException | None:
        """The error that `result` raises; None if there is none."""
        return self._request.error

    def _page(self, budget: Budget) -> Page:
        from happen_nb._display.reprs_events import ProgressPace, reply_page

        request = self._request
        begun = request.first_progress
        pace = None if begun is None else ProgressPace(begun[1], request.newest_at - begun[0])
        return reply_page(self, request.value, budget, pace)

    def _ipython_display_(self) -> None:
        """Show the progress in a notebook; raise NotImplementedError for IPython to show the repr instead."""
        from happen_nb._display.live_output import beside_widget, follow

        listen = self._request.on_change.connect
        output = follow(lambda: beside_widget(bundle_of(self)), lambda: self.done, listen)
        self._outputs.append(output)
        cells.register(output.stop)
        if not self.done:
            from happen_nb._widgets.panes import show_cancel

            show_cancel(self, self._runtime, listen)

    def result(self, timeout: float | timedelta | None = None) -> Any:
        """Wait for the result, the return value of the handler.

        Interrupting the wait cancels the handling.

        Parameters
        ----------
        timeout : float or timedelta, optional
            Seconds to wait, instead of the timeout of ``send``.

        Returns
        -------
        object
            The result, converted and frozen like a payload.

        Raises
        ------
        HandlerError
            The handler raised; the message ends with its traceback.
        NoHandlerError
            The node has no handler for the event.
        ReplyLostError
            The process that handled the event has ended.
        DeadlockError
            The handler waits for the handler that waits here.
        HappenTimeoutError
            The timeout expired; the handling continues.
        """
        refuse_on_handler_loop("reply.result()", "write await reply")
        try:
            return run_blocking(self._result(timeout))
        except KeyboardInterrupt as stop:
            self._interrupted(stop)
            raise

    def _interrupted(self, stop: KeyboardInterrupt) -> None:
        """Cancel the handling, and add a note about the effect."""
        run_blocking(self._cancel_because(stop))
        stop.add_note(
            f'the reply of "{self.target}" to "{self.event.type}" was cancelled: an async or generator '
            "handler stops at its next await or yield; a plain one is abandoned, and its later writes are "
            "refused"
        )

    def __await__(self) -> Generator[Any, None, Any]:
        return run_awaitable(self._result(None)).__await__()

    async def _result(self, timeout: float | timedelta | None) -> Any:
        timeout = None if timeout is None else seconds(timeout, "result: timeout")
        request = self._request
        begun = time.monotonic()
        while not request.done:
            await self._change(request.changes, begun, timeout)
        await self._keep()
        self._end()
        return request.value

    async def _keep(self) -> None:
        """Store the reply if a durable handler receives it."""
        if self._request.kept_at is not None:
            await on_io(self._runtime.checked.replies.keep_received(self._request))

    async def _change(self, seen: int, begun: float, timeout: float | None) -> None:
        """Wait until there are more than `seen` changes."""
        if self.event.pending and not self.done:
            raise PendingError(
                f'the reply of "{self.target}" to "{self.event.type}" is pending: the event is sent when its '
                "transform commits, and never if the transform raises or runs again"
            )
        request, scope = self._request, causes.current_scope()
        deadlocks = self._runtime.checked.deadlocks
        await on_io(deadlocks.start_waiting(scope, request))
        try:
            while request.changes <= seen and not request.done:
                most = self.timeout if timeout is None else timeout
                since = max(begun, request.newest_at) if timeout is None else begun
                left = since + most - time.monotonic()
                if left <= 0:
                    goes_on = "the handling continues"
                    if self.state == "held":
                        goes_on = "the event is held until space.step() or space.resume()"
                    raise HappenTimeoutError(
                        f'the reply of "{self.target}" to "{self.event.type}" has not arrived within '
                        f"{most:g} s; {goes_on}: wait again, or cancel()"
                    )
                await self._runtime.dispatcher.waits(on_io(request.changed(seen, left)))
        finally:
            deadlocks.stop_waiting(scope, request)

    async def _next(self, seen: int, begun: float) -> list[tuple[int, Any]]:
        """Wait for progress after number `seen`; empty if there is no more."""
        request = self._request
        while True:
            changes, done = request.changes, request.done  # read first, so that no later change is missed
            values = request.since(seen)
            if done and not values:
                await self._keep()
            if values or done:
                return values
            await self._change(changes, begun, None)

    def __iter__(self) -> Iterator[Any]:
        refuse_on_handler_loop("iterating over a reply", "write async for value in reply")
        seen, begun = 0, time.monotonic()
        while True:
            try:
                values = run_blocking(self._next(seen, begun))
            except KeyboardInterrupt as stop:
                self._interrupted(stop)
                raise
            if not values:
                break
            for seen, value in values:  # noqa: B007 - the next values come after it
                yield value
        self._end()

    async def __aiter__(self) -> AsyncIterator[Any]:
        seen, begun = 0, time.monotonic()
        while values := await run_awaitable(self._next(seen, begun)):
            for seen, value in values:  # noqa: B007 - the next values come after it
                yield value
        self._end()

    def _end(self) -> None:
        """Show the final state before the waiting code continues; raise the error of the handling."""
        for output in self._outputs:
            output.finish()
        if self._request.error is not None:
            raise to_raise(self._request.error)

    async def _cancel(self) -> None:
        """Cancel the handling.

        An async or generator handler stops at its next await or yield; a plain handler is abandoned, and its
        later writes are refused. A scheduled event is not delivered.
        """
        await self._cancel_because(None)

    cancel, acancel = faces(_cancel)

    async def _cancel_because(self, stop: BaseException | None) -> None:
        if instead_of(self._runtime) is not self._runtime:
            return  # in a fork, nothing was sent
        why = CancelledHandlingError(f'the reply of "{self.target}" to "{self.event.type}" was cancelled')
        why.__cause__ = stop
        runtime = self._runtime.checked
        if self._request.postponed:
            await cancel_scheduled(runtime, record_of(self.event).alarm_id)
        await on_io(runtime.replies.cancel(self._request, why))
