"""A node: a named owner of one state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from happen_nb._api.base import Displayable, Duration, faces, shown_by, unknown_node
from happen_nb._api.emit import Sender
from happen_nb._api.handlers import (
    Handlers,
    Owner,
    call_or_decorator,
    check_decorator,
    make_registration,
    period_of,
    register,
    register_every,
)
from happen_nb._api.state import State
from happen_nb._api.state_writer import StateWriter
from happen_nb._frames import refusal
from happen_nb._model.arguments import is_name
from happen_nb._model.functions import is_a, is_namesake, safely_equal
from happen_nb._model.quoting import quote
from happen_nb._runtime import causes
from happen_nb._runtime.cells import cells
from happen_nb._runtime.io import io_thread, on_io
from happen_nb._runtime.redirect import Redirected
from happen_nb._runtime.registrations import Registration
from happen_nb.errors import UnknownHandlerError, UnknownNodeError

if TYPE_CHECKING:
    from happen_nb._api.events import Event
    from happen_nb._api.space import Space
    from happen_nb._runtime.runtime import Runtime

F = TypeVar("F", bound=Callable[..., Any])


class Node(Displayable, Sender):
    """A named part of a system: it has one state and handles events. Made by ``create_node``.

    Attributes
    ----------
    name : str
        Name of the node.

    Examples
    --------
    >>> node = space.create_node("customer-service", initial={"customers": {}})
    >>> node.state.get()
    {'customers': {}}
    """

    _page = shown_by("reprs_state.node_page")
    _pickle = "pickle its name, then call connect() and create_node() in the other process"

    _space = Redirected["Space"]()
    _runtime = Redirected["Runtime"]()
    _state = Redirected["State"]()

    def __init__(self, space: Space, runtime: Runtime, name: str) -> None:
        self.name = self._sender = name
        self._space = space
        self._runtime = runtime
        self._state = State(self, runtime)

    @property
    def space(self) -> Space:
        """The space that it belongs to."""
        return self._space

    @property
    def state(self) -> State:
        """Its state: ``get`` reads it, ``set`` changes it, and ``history`` shows its commits."""
        return self._state

    def __setattr__(self, name: str, value: object) -> None:
        if name == "state":
            raise refusal(
                AttributeError,
                f'node.state of node "{self.name}" is read-only; '
                "commit a change with node.state.set({...})",
            )
        if name == "name" and name in vars(self):
            raise AttributeError(
                f'node "{self.name}" keeps its name; create_node({quote(value)}) creates another node'
            )
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name == "state":
            raise refusal(
                AttributeError,
                f'node.state of node "{self.name}" is read-only; '
                "node.delete() removes the node and its state",
            )
        super().__delattr__(name)

    @overload
    def on(
        self,
        pattern: str | Callable[[str], object],
        handler: F,
        *,
        where: Callable[[Event], object] | None = None,
        retries: int = 0,
        backoff: Duration = 0.5,
        durable: bool = False,
        keep: bool = False,
    ) -> F: ...
    @overload
    def on(
        self,
        pattern: str,
        handler: None = None,
        *,
        where: Callable[[Event], object] | None = None,
        retries: int = 0,
        backoff: Duration = 0.5,
        durable: bool = False,
        keep: bool = False,
    ) -> Callable[[F], F]: ...
    def on(
        self,
        pattern: Any,
        handler: Any = None,
        *,
        where: Callable[[Event], object] | None = None,
        retries: int = 0,
        backoff: Duration = 0.5,
        durable: bool = False,
        keep: bool = False,
    ) -> Any:
        """Register a handler of events. Call it, or use it as a decorator.

        The handler is called as ``handler(event)`` or ``handler(event, context)``, off the main thread, one
        event at a time, in the order of the journal. Its return value is the reply to ``send``; a returned
        callable is its next step. The values that a generator yields are progress.

        Parameters
        ----------
        pattern : str or callable
            An event type, in which ``*`` matches any run of characters without a dot, ``**`` matches
            anything, and ``{a,b}`` stands for alternatives; or a predicate on the type.
        handler : callable, optional
            A plain function, an async function, a generator or an async generator.
        where : callable, optional
            ``where(event)`` filters further.
        retries : int, optional
            Number of further calls of a handler that raises. After the last one, the error is added to
            ``space.failures``.
        backoff : float or timedelta, optional
            Time before the first retry; each further retry waits twice as long. The node handles other
            events meanwhile.
        durable : bool, optional
            Run the handler until it has completed once for each event, if necessary later or in another
            process after this one was killed. Each of its commits, broadcasts and sends is stored once: if
            the handler runs again for an event, ``set`` returns the stored Commit, ``broadcast`` the stored
            Event, and ``send`` the stored reply. It must therefore take the same steps in each run: decide
            inside a transform, and record answers from the outside world with ``context.once``. The handler
            starts where it is first registered on the node; a later registration with the same pattern and
            function name continues.
        keep : bool, optional
            Keep the registration of the same function and pattern by another cell. By default, the new
            registration replaces it, and a notice is shown.

        Returns
        -------
        callable
            The handler, or a decorator that returns it.

        Raises
        ------
        TypeError
            The handler cannot be called with an event.
        PatternError
            The pattern is not valid.
        ValueError
            The node already has a durable handler with this pattern and name.

        Examples
        --------
        >>> @orders.on("order.*")
        ... def count(event):
        ...     orders.state.set(happen.put("seen", lambda n: (n or 0) + 1))
        >>> trace = orders.broadcast("order.paid").settle()
        >>> orders.state.get("seen")
        1

        A durable handler that was interrupted repeats nothing when it is called again:

        >>> @orders.on("order.accepted", durable=True, retries=1, backoff=0)
        ... def charge(event, context):
        ...     orders.broadcast("order.charged", event.payload)
        ...     orders.state.set(happen.put("charged", lambda n: (n or 0) + 1))
        ...     if context.attempt == 1:
        ...         raise ConnectionError
        >>> trace = orders.broadcast("order.accepted", "o1").settle()
        >>> len(space.events("order.charged")), orders.state.get("charged")
        (1, 1)
        """

        async def registered(function: Any) -> None:
            made = make_registration(
                self.name, pattern, function, where, retries, backoff, durable=durable, keep=keep
            )
            await register(self._runtime, made)

        if handler is None:
            check_decorator(pattern, "on", "handler")
        return call_or_decorator(registered, handler)

    @overload
    def every(self, seconds: Duration, handler: F, *, id: str | None = None) -> F: ...
    @overload
    def every(
        self, seconds: Duration, handler: None = None, *, id: str | None = None
    ) -> Callable[[F], F]: ...
    def every(self, seconds: Duration, handler: Any = None, *, id: str | None = None) -> Any:
        """Call a handler at regular intervals of the space's clock. Call it, or use it as a decorator.

        The handler receives an event of type ``every``, whose payload has the number ``n`` of the call, from
        1. No other handler receives it. The first call comes after one period. Calls never overlap: while one
        is running, no further call is made. If no process had the handler for some time, a single call makes
        up for all missed ones. Only the owner of the node calls the handler. The calls end with ``off``, or
        when the cell runs again without ``every``. They end in all processes when the next call is cancelled.

        Parameters
        ----------
        seconds : float or timedelta
            The period, 0.001 s or more.
        handler : callable, optional
            As for `on`.
        id : str, optional
            Identifies the calls in all processes and later runs. By default, the name of the function does.

        Returns
        -------
        callable
            The handler, or a decorator that returns it.

        Raises
        ------
        TypeError
            The handler cannot be called with an event.
        ValueError
            The period is not valid, or the node already has an ``every`` with this function.

        Examples
        --------
        >>> with happen.connect(store=":memory:", name="lab", clock="manual") as lab:
        ...     heart = lab.create_node("heart")
        ...     @heart.every(10)
        ...     def beat(event):
        ...         print(event.payload["n"], lab.now.time())
        ...     lab.advance(25)
        1 00:00:10
        2 00:00:20
        Advance · 2 events · now 2000-01-01 00:00:25
        """
        period = period_of(seconds, "every")
        return call_or_decorator(
            lambda function: register_every(self._runtime, self.name, period, function, id), handler
        )

    @property
    def handlers(self) -> Handlers:
        """The handlers that are registered in this process, in order."""
        return Handlers(self.name, self._runtime.registrations.of(self.name))

    def off(self, function_or_pattern: Callable[..., Any] | str) -> None:
        """Unregister the handlers with this function or this pattern, and stop them if they are running.

        An async or generator handler stops at its next await or yield. A plain handler cannot be stopped: the
        node continues without it, and its later commits and events are refused. A function that was
        registered before its module was reloaded is found by its name.

        Parameters
        ----------
        function_or_pattern : callable or str
            A registered function, or a pattern.

        Raises
        ------
        UnknownHandlerError
            No handler matches, and no earlier run of the same cell has unregistered one that does.

        Examples
        --------
        >>> endless = orders.on("order.placed", lambda event: None)
        >>> orders.off("order.placed")
        >>> len(orders.handlers)
        0
        """
        if not isinstance(function_or_pattern, str) and not callable(function_or_pattern):
            raise TypeError(f"off: {quote(function_or_pattern)} is neither a function nor a pattern")
        dispatcher = self._runtime.checked.dispatcher
        registered = dispatcher.registrations.of(self.name)
        # If this cell runs again, its earlier runs have unregistered some.
        gone = [each for each in cells.gone if isinstance(each, Registration) and each.node == self.name]
        wanted = _matcher([*registered, *gone], function_or_pattern)
        found = [registration for registration in registered if wanted(registration)]
        for registration in found:
            dispatcher.remove(registration)
        stopped = dispatcher.stop(self.name, lambda each: not each.active and wanted(each))
        were_found = list(filter(wanted, gone))
        if not found and not stopped and not were_found:
            known = ", ".join(f'"{each.pattern}" -> {each.name}' for each in self.handlers) or "none"
            raise UnknownHandlerError(
                f'off: node "{self.name}" has no handler with this function or pattern, '
                f"{quote(function_or_pattern)}; it has {known}"
            )
        for registration in found or were_found[-1:]:
            cells.note_gone(registration)
        for registration in found:
            if registration.tick is not None:  # its next call is then no longer scheduled
                io_thread().run(dispatcher.ticks.stop(registration))

    @property
    def owner(self) -> Owner | None:
        """The process that handles the node's events; None if there is none."""
        runtime = self._runtime.checked
        record = runtime.ownership.owner_of(self.name)
        return None if record is None else Owner(record, runtime.log.incarnation)

    @property
    def busy(self) -> str:
        """``"busy 12 s, 3,204 waiting"`` if a handler has been running for a second; otherwise empty."""
        seconds, waiting = self._runtime.dispatcher.busy(self.name)
        return f"busy {seconds:,.0f} s, {waiting:,} waiting" if seconds >= 1 else ""

    async def _delete(self) -> None:
        """Remove the node's state and handlers, for every process.

        Its history is kept, and its revisions continue. The watches of this process end with the deletion.
        """
        await StateWriter(self.name, self.space, self._runtime).delete()
        self._runtime.local.delete(self.name)
        if self._runtime.dispatcher.recall is None:
            self._runtime.watchers.end(self.name)
        await on_io(self._runtime.dispatcher.release(self.name, causes.current_path()))

    delete, adelete = faces(_delete)


class Nodes(Displayable, Mapping[str, Node]):
    """The nodes that this process has created: a mapping of names to nodes, without deleted ones."""

    _page = shown_by("reprs_state.nodes_page")
    _pickle = "pickle the names, list(space.nodes)"
    _advice = '; nodes["{}"] is the node with this name'

    _space = Redirected["Space"]()
    _runtime = Redirected["Runtime"]()
    _made = Redirected["Mapping[str, Node]"]()

    def __init__(self, space: Space, runtime: Runtime, made: Mapping[str, Node]) -> None:
        self._space = space
        self._runtime = runtime
        self._made = made

    @property
    def space(self) -> Space:
        """The space of the nodes."""
        return self._space

    def __getitem__(self, name: str) -> Node:
        if not self._holds(name):
            raise self._unknown(name)
        return self._made[name]

    def _holds(self, name: str) -> bool:
        """Return True for a node that was not deleted, or has a state or a handler again."""
        runtime = self._runtime
        newest = runtime.log.replica.newest(name)
        if runtime.local.holds(name, newest):
            return True
        return bool(runtime.registrations.of(name)) and runtime.ownership.is_owned(name, newest)

    def _unknown(self, name: str) -> UnknownNodeError:
        views = self.space.views
        if name in views:
            return UnknownNodeError(
                f'node "{name}" was not created in this process: create_node("{name}") returns it with '
                f'its current state; views["{name}"] only reads it'
            )
        creates = f': create_node("{name}") creates it' if is_a(name, str) and is_name(name) else ""
        return unknown_node(name, list(views), f"the space{creates}")

    def __iter__(self) -> Iterator[str]:
        return iter([name for name in self._runtime.local if self._holds(name)])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)


def _matcher(
    registered: Iterable[Registration], wanted: Callable[..., Any] | str
) -> Callable[[Registration], bool]:
    """Return a predicate for the registrations with a pattern or a function, or else with its name."""
    if isinstance(wanted, str):
        return lambda each: each.pattern.predicate is None and each.pattern.text == wanted

    def is_same(each: Registration) -> bool:
        return safely_equal(each.handler, wanted) or safely_equal(each.pattern.predicate, wanted)

    if any(map(is_same, registered)):
        return is_same
    return lambda each: is_same(each) or is_namesake(each.handler, wanted)
