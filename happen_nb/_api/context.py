"""The context of a handler: where it runs, and what it has done before."""

from __future__ import annotations

import hashlib
import inspect
import random
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

from happen_nb._api.base import runtime_of
from happen_nb._api.events import Event, record_of
from happen_nb._journal.encoding import encode_result
from happen_nb._journal.slice import read_handled
from happen_nb._model import arguments
from happen_nb._model.arguments import check_label
from happen_nb._model.freeze import dumps, freeze, loads
from happen_nb._model.paths import MISSING
from happen_nb._model.quoting import quote
from happen_nb._model.schedules import from_text
from happen_nb._runtime.clock import Sleep
from happen_nb._runtime.handler_loops import refuse_on_handler_loop
from happen_nb._runtime.io import on_io, run_awaitable, run_blocking
from happen_nb.errors import PayloadError, TooLargeError

if TYPE_CHECKING:
    from happen_nb._api.node import Node
    from happen_nb._api.space import Space
    from happen_nb._api.views import Views
    from happen_nb._runtime.stored_steps import DurableRun

MAX_NAME_CHARACTERS: Final = 100


class HandlerContext(SimpleNamespace):
    """The second argument of a handler. Steps of a handler can share values as attributes of it.

    Attributes
    ----------
    node : Node
        The node that handles the event.
    space : Space
        The space of the node.
    views : Views
        The views of the space.
    event : Event
        The event.
    attempt : int
        1 for the first call, 2 for the first retry, and so on.
    """

    __slots__ = (
        "_again",
        "_called",
        "_durable",
        "_handler",
        "_now",
        "_random",
        "_used",
    )  # not shown, and not in the way of attributes

    node: Node
    space: Space
    views: Views
    event: Event
    attempt: int

    def __init__(
        self,
        handler: str,
        used: dict[str, tuple[str, int]],
        durable: DurableRun | None = None,
        *,
        again: bool = False,
        **attributes: Any,
    ) -> None:
        super().__init__(**attributes)
        self._again = again
        self._durable = durable
        self._handler = handler
        self._used = used
        self._now: datetime | None = None
        self._random: tuple[int, random.Random] | None = None
        self._called: dict[int, set[str]] = {}  # the names of the `once` calls that have ended, by attempt

    @property
    def now(self) -> datetime:
        """The time of the space at the first handling, in UTC; the same at each read, even in a retry.

        A durable handler records it at the first read, so that each run reads the same time.

        Examples
        --------
        >>> @orders.on("order.paid")
        ... def note(event, context):
        ...     orders.state.set({"paid": context.now})
        >>> trace = orders.broadcast("order.paid").settle()
        >>> orders.state.get("paid")[-6:]
        '+00:00'
        """
        if self._now is None:
            runtime = runtime_of(self.space)
            recall = runtime.recall
            known = None if recall is None else recall.now(self.event.id, self.node.name, self._handler)
            if self._again and known is None:
                known = run_blocking(self._first_now())
            self._now = runtime.clock.now() if known is None else from_text(known)
            if self._durable is not None:
                self._now = datetime.fromisoformat(run_blocking(self._recorded_now(self._durable)))
        return self._now

    async def _first_now(self) -> str | None:
        """Return the time that the handler has read when it first handled the event."""
        runtime, mine = runtime_of(self.space), (self.event.id, self.node.name, self._handler)
        await on_io(runtime.dispatcher.handled.flush())
        handled = await on_io(read_handled(runtime.log.stream, since=record_of(self.event).sequence))
        return next((each.now for each in handled if each[:3] == mine and each.now is not None), None)

    async def _recorded_now(self, durable: DurableRun) -> str:
        """Record the time of a durable handling; return the one that is recorded."""
        subject = runtime_of(self.space).log.subjects.moment(self.event.id, self.node.name, durable.handling)
        return str(await self._record(subject, str(self._now), "context.now"))

    @property
    def random(self) -> random.Random:
        """A random generator that is seeded by event, node and handler: a retry gets the same numbers.

        On a manual clock, the type, sender, payload and time of the event are the seed, so that the same
        program gets the same numbers in each run. After a call of `once`, the numbers do not depend on those
        that its function has drawn, since it is not called again.

        Examples
        --------
        >>> @orders.on("order.paid")
        ... def pick(event, context):
        ...     return context.random.choice(["a", "b"])
        >>> first = orders.send("orders", "order.paid").result()
        >>> first in ("a", "b")
        True
        """
        if self._random is None or self._random[0] != self.attempt:
            self._random = self.attempt, random.Random(self._seed())  # noqa: S311 - for simulations
        return self._random[1]

    def _seed(self) -> str:
        called = sorted(self._called.get(self.attempt, ()))
        return " ".join((self._event_seed(), self.node.name, self._handler, *called))

    def _event_seed(self) -> str:
        """Return what distinguishes the event; on a manual clock it is the same in each run of a program."""
        if not runtime_of(self.space).clock.manual:
            return self.event.id
        event = record_of(self.event)
        return f"{event.type} {event.sender} {event.target} {event.occurred} {dumps(event.payload)!r}"

    async def sleep(self, seconds: float | timedelta) -> None:
        """Wait by the clock of the space; in async handlers only.

        On a manual clock it ends when the clock has advanced far enough. Meanwhile, neither ``advance`` nor
        ``settle`` waits for the handler.

        Parameters
        ----------
        seconds : float or timedelta

        Examples
        --------
        >>> @orders.on("order.placed")
        ... async def remind(event, context):
        ...     await context.sleep(0.01)
        ...     await orders.abroadcast("order.reminder")
        >>> trace = orders.broadcast("order.placed").settle()
        >>> [node.event.type for node in trace]
        ['order.placed', 'order.reminder']
        """
        runtime = runtime_of(self.space)
        duration = arguments.seconds(seconds, "context.sleep: seconds", endless=False)
        dispatcher = runtime.dispatcher
        pause = None if dispatcher.conductor is None else dispatcher.conductor.pause()
        queue = dispatcher.queue(self.node.name)
        runtime.log.replica.note_look()  # it begins before the clock moves on, in a rerun too
        await Sleep(runtime.clock, queue, duration, pause).wait()

    def once(self, name: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        """Call a function once for this event and node, and return the recorded result from then on.

        A retry, or another process that handles the event again, gets the recorded result. If the process
        dies after the call and before its result is stored, the function is called again: pass ``event.id``
        to the outside world as an idempotency key.

        Parameters
        ----------
        name : str
            1 to 100 characters that identify the call among those of this event and node.
        function : callable
            A plain function; `aonce` calls a coroutine function.
        *args, **kwargs
            Its arguments.

        Returns
        -------
        object
            The result, as frozen JSON.

        Raises
        ------
        ValueError
            The name was used before for this event and node.
        PayloadError
            The result has a part without a JSON form.
        TooLargeError
            The result is larger than the server accepts.

        Examples
        --------
        >>> charged = []
        >>> @orders.on("order.paid", retries=1, backoff=0)
        ... def charge(event, context):
        ...     context.once("card", charged.append, event.payload)
        ...     if context.attempt == 1:
        ...         raise ConnectionError
        >>> trace = orders.broadcast("order.paid", "o1").settle()
        >>> charged
        ['o1']
        """
        refuse_on_handler_loop("context.once()", "write await context.aonce(...)")
        self._claim(name, function)
        given = _digest(args, kwargs)
        found = run_blocking(self._find(name, given))
        if found is not MISSING:
            return self._ended(name, found)
        value = function(*args, **kwargs)
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise TypeError(f"once: {quote(name)} returned an awaitable; write await context.aonce(...)")
        return self._ended(name, run_blocking(self._store(name, value, given)))

    async def aonce(
        self, name: str, function: Callable[..., Awaitable[Any]], /, *args: Any, **kwargs: Any
    ) -> Any:
        """Async variant of `once`: await the call, if the function is a coroutine function."""
        self._claim(name, function)
        given = _digest(args, kwargs)
        found = await run_awaitable(self._find(name, given))
        if found is not MISSING:
            return self._ended(name, found)
        value: Any = function(*args, **kwargs)
        if inspect.isawaitable(value):
            value = await value
        return self._ended(name, await run_awaitable(self._store(name, value, given)))

    def _ended(self, name: str, result: Any) -> Any:
        """Return the result of a call; its function may have drawn random numbers, or was not called."""
        self._called.setdefault(self.attempt, set()).add(name)
        if self._random is not None and self._random[0] == self.attempt:
            self._random[1].seed(self._seed())
        return result

    def _claim(self, name: Any, function: Any) -> None:
        """Refuse a name that another call of this event and node has, and what is not a function."""
        check_label(name, "once: the first argument, the name,", most=MAX_NAME_CHARACTERS)
        if not callable(function):
            raise TypeError(
                f"once: {quote(function)} is not callable; pass a function and its arguments: "
                f"once({quote(name)}, function, *args)"
            )
        handler, attempt = self._used.get(name, (self._handler, 0))
        if handler != self._handler or attempt == self.attempt:
            raise ValueError(
                f'once: {handler} of node "{self.node.name}" has already used the name {quote(name)} for '
                "this event; use a different name for each call"
            )
        self._used[name] = self._handler, self.attempt

    async def _find(self, name: str, given: str | None) -> Any:
        runtime = runtime_of(self.space)
        log, recall = runtime.log, runtime.recall
        subject = log.subjects.once(self.event.id, self.node.name, name)
        found = await on_io(log.stream.newest(subject))
        if found is not None:
            return loads(found.body)
        known = None if recall is None else recall.result(subject, given)
        return MISSING if known is None else await self._store(name, loads(known), given)

    async def _store(self, name: str, value: Any, given: str | None) -> Any:
        frozen = freeze(value, what=f'result of once("{name}")', error=PayloadError)
        subject = runtime_of(self.space).log.subjects.once(self.event.id, self.node.name, name)
        return await self._record(subject, frozen, f'once("{name}")', given)

    async def _record(self, subject: str, value: Any, what: str, given: str | None = None) -> Any:
        """Record a result; return the one that is recorded, which may be another process's."""
        log = runtime_of(self.space).log
        message = encode_result(subject, value, ttl=log.info.event_ttl, arguments=given)
        if len(message.body) > log.max_body:
            raise TooLargeError(
                f"{what}: the result has {len(message.body):,} bytes as JSON, but the server accepts at most "
                f"{log.max_body:,}; return less, or store it elsewhere and return its name"
            )
        stored: tuple[bytes, int] = await on_io(
            log.stream.store_first(message, timeout=log.timeout, what=what)
        )
        return loads(stored[0])


def _digest(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    """Return a digest of the arguments of a call; None if one of them has no JSON form."""
    try:
        given = dumps(
            freeze([list(args), dict(sorted(kwargs.items()))], what="arguments", error=PayloadError)
        )
    except (PayloadError, TypeError):
        return None
    return hashlib.blake2b(given, digest_size=8).hexdigest()
