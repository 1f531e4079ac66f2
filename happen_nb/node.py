"""A node: a named owner of one state."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from happen_nb.errors import UnknownHandlerError, UnknownNodeError
from happen_nb.handlers import Handlers, Owner, make_registration, register
from happen_nb.model.patterns import Pattern
from happen_nb.model.quoting import quote
from happen_nb.runtime.bridge import on_io, wait_for, wait_in_loop
from happen_nb.sending import Sender
from happen_nb.shown import Shown
from happen_nb.state import State
from happen_nb.views import unknown_node

if TYPE_CHECKING:
    from happen_nb.events import Event
    from happen_nb.runtime.registrations import Registration
    from happen_nb.space import Space

F = TypeVar("F", bound=Callable[..., Any])


class Node(Shown, Sender, kind="node"):
    """A named owner of one state, which handles events; made by ``create_node``.

    Attributes
    ----------
    name : str
    space : Space
    state : State
    handlers : Handlers
        What is registered in this process.
    owner : Owner or None
        The process that handles its events.

    Examples
    --------
    >>> node = space.create_node("customer-service", initial={"customers": {}})
    >>> node.state.get()
    {'customers': {}}
    """

    _pickle = "pickle its name, then call connect() and create_node() in the other process"

    state: State

    def __init__(self, space: Space, name: str) -> None:
        self.name = name
        self.space = space
        self._emits_as = space, name
        super().__setattr__("state", State(self))

    def __setattr__(self, name: str, value: object) -> None:
        if name == "state":
            raise AttributeError(
                f'node.state of node "{self.name}" is read-only; commit a change with node.state.set({{...}})'
            )
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name == "state":
            raise AttributeError(
                f'node.state of node "{self.name}" is read-only; node.delete() removes the node and its state'
            )
        super().__delattr__(name)

    # -- handling events -----------------------------------------------------------------------------

    @overload
    def on(
        self,
        pattern: str | Callable[[str], object],
        handler: F,
        *,
        where: Callable[[Event], object] | None = None,
        retries: int = 0,
        backoff: float = 0.5,
    ) -> F: ...
    @overload
    def on(
        self,
        pattern: str,
        handler: None = None,
        *,
        where: Callable[[Event], object] | None = None,
        retries: int = 0,
        backoff: float = 0.5,
    ) -> Callable[[F], F]: ...
    def on(
        self,
        pattern: Any,
        handler: Any = None,
        *,
        where: Callable[[Event], object] | None = None,
        retries: int = 0,
        backoff: float = 0.5,
    ) -> Any:
        """Handle events; as a call, or as a decorator.

        The handler is called as ``handler(event)`` or ``handler(event, context)``, off the main thread, one
        event at a time, in the order of the journal. What it returns is the reply to ``send``; a function
        that it returns is its next step. A generator yields progress. It may be async.

        Parameters
        ----------
        pattern : str or callable
            A type; ``*`` stands for any run without a dot, ``**`` for anything, ``{a,b}`` for alternatives.
            Or a function that tells of a type whether it is handled.
        handler : callable, optional
            Plain, async, generator or async generator function.
        where : callable, optional
            ``where(event)`` filters further.
        retries : int, optional
            How often a handler that raises is called again; then it is in ``space.failures``.
        backoff : float, optional
            Seconds before the first of these times; each next one waits twice as long. Other events go on
            meanwhile.

        Returns
        -------
        callable
            The handler itself, also as a decorator.

        Raises
        ------
        TypeError
            The handler cannot be called with an event.
        PatternError
            The pattern cannot be read.

        Examples
        --------
        >>> @orders.on("order.*")
        ... def count(event):
        ...     orders.state.set(happen.put("seen", lambda n: (n or 0) + 1))
        >>> trace = orders.broadcast("order.paid").settle()
        >>> orders.state.get("seen")
        1
        """
        if handler is not None:
            wait_for(self._on(pattern, handler, where, retries, backoff))
            return handler
        if callable(pattern):
            raise TypeError(
                'on: a decorator needs a pattern: write @node.on("order.*"), or node.on(predicate, handler)'
            )
        Pattern.of(pattern)

        def register_it(function: F) -> F:
            wait_for(self._on(pattern, function, where, retries, backoff))
            return function

        return register_it

    async def _on(self, pattern: Any, handler: Any, where: Any, retries: int, backoff: float) -> None:
        registration = make_registration(self.name, pattern, handler, where, retries, backoff)
        await register(self.space, registration)

    @property
    def handlers(self) -> Handlers:
        """What is registered here to handle its events, in order."""
        return Handlers(self.name, self.space._dispatch.registrations.of(self.name))

    def off(self, function_or_pattern: Callable[..., Any] | str) -> None:
        """Take off handlers: those with this function, or with this pattern.

        Raises
        ------
        UnknownHandlerError
            There is none.
        """
        registrations = self.space._dispatch.registrations
        found = [each for each in registrations.of(self.name) if _is(each, function_or_pattern)]
        if not found:
            known = ", ".join(f'"{each.pattern}" -> {each.name}' for each in self.handlers) or "none"
            raise UnknownHandlerError(
                f'off: node "{self.name}" has no such handler {quote(function_or_pattern)}; it has {known}'
            )
        for registration in found:
            registrations.remove(registration)

    @property
    def owner(self) -> Owner | None:
        """The process that handles the node's events; None if nobody does."""
        session = self.space._session
        record = session.dispatch.owners.of(self.name)
        return None if record is None else Owner(record, session.incarnation)

    @property
    def busy(self) -> str:
        """``"busy 12 s, 3,204 waiting"``, where a handler has run for a second; else empty."""
        seconds, waiting = self.space._dispatch.box(self.name).busy()
        return f"busy {seconds:,.0f} s, {waiting:,} waiting" if seconds >= 1 else ""

    # -- the end -------------------------------------------------------------------------------------

    def delete(self) -> None:
        """Remove the node's state and handlers, for every process; its history stays, revisions count on."""
        wait_for(self._delete())

    async def adelete(self) -> None:
        """`delete`, to await."""
        await wait_in_loop(self._delete())

    async def _delete(self) -> None:
        await self.state._delete()
        self.space._forget(self)
        await on_io(self.space._dispatch.forget(self.name))


class Nodes(Shown, Mapping[str, Node], kind="nodes"):
    """The nodes that this process made and nobody has deleted."""

    _pickle = "pickle the names, list(space.nodes)"

    def __init__(self, space: Space) -> None:
        self.space = space

    def __getitem__(self, name: str) -> Node:
        newest = self.space._session.replica.newest(name)
        if not self.space._is_local(name, newest):
            raise self._unknown(name)
        return self.space._nodes[name]

    def _unknown(self, name: str) -> UnknownNodeError:
        views = self.space.views
        if name in views:
            return UnknownNodeError(
                f'node "{name}" was not made in this process: create_node("{name}") makes it, with the state '
                f'that it has; views["{name}"] only reads it'
            )
        return unknown_node(name, views._names(), f'the space: create_node("{name}") makes it')

    def __iter__(self) -> Iterator[str]:
        newest = self.space._session.replica.newest
        return iter([name for name in self.space._local if self.space._is_local(name, newest(name))])

    def __len__(self) -> int:
        return len(list(iter(self)))

    def _ipython_key_completions_(self) -> list[str]:
        return list(self)


def _is(registration: Registration, wanted: Callable[..., Any] | str) -> bool:
    pattern = registration.pattern
    if isinstance(wanted, str):
        return pattern.predicate is None and pattern.text == wanted
    return wanted in (registration.handler, pattern.predicate)
