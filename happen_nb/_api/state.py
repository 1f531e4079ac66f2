"""The state of a node: read it, change it, go back in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Never, TypeVar, overload

from happen_nb._api.base import Duration, Timeout, faces, shown_by
from happen_nb._api.handlers import call_or_decorator, check_decorator, period_of
from happen_nb._api.history import Commit, History, Since, occurrences, position_of
from happen_nb._api.state_writer import StateWriter
from happen_nb._api.views import Followed, Watch
from happen_nb._frames import refusal
from happen_nb._journal.commits import commit_at_position, commit_at_revision, oldest_revision, read_commits
from happen_nb._journal.publish import part_of
from happen_nb._model import arguments, functions
from happen_nb._model.frozen import FrozenDict
from happen_nb._model.paths import Selector, select
from happen_nb._model.quoting import quote
from happen_nb._model.records import EMPTY, CommitRecord, check
from happen_nb._model.transforms import Transform
from happen_nb._runtime.io import on_io, run_awaitable, run_blocking
from happen_nb._runtime.redirect import Redirected
from happen_nb.errors import HappenTimeoutError, NotStoredError

if TYPE_CHECKING:
    from datetime import datetime

    from happen_nb._api.events import Event
    from happen_nb._api.node import Node
    from happen_nb._api.space import Space
    from happen_nb._runtime.runtime import Runtime

F = TypeVar("F", bound=Callable[..., Any])


class State(Followed):
    """The state of a node: one JSON document, changed by transforms, kept in the journal.

    Examples
    --------
    >>> commit = orders.state.set({"orders": {"o1": {"status": "open"}}})
    >>> orders.state.get("orders.o1.status")
    'open'
    """

    _page = shown_by("reprs_state.state_page")
    _pickle = "pickle state.get()"

    _node = Redirected["Node"]()
    _runtime = Redirected["Runtime"]()
    _name: str
    _writer: StateWriter

    def __init__(self, node: Node, runtime: Runtime) -> None:
        set_once = super().__setattr__
        set_once("_node", node)
        set_once("_name", node.name)
        set_once("_runtime", runtime)
        set_once("_writer", StateWriter(node.name, node.space, runtime))

    @property
    def node(self) -> Node:
        """The node whose state it is."""
        return self._node

    def __setattr__(self, name: str, value: Never) -> None:
        raise refusal(AttributeError, self._read_only(f".{name}", f'"{name}"'))

    def __delattr__(self, name: str) -> None:
        raise refusal(AttributeError, self._read_only(f".{name}", f'"{name}"'))

    def __setitem__(self, path: Any, value: Never) -> None:
        raise refusal(TypeError, self._read_only(f"[{quote(path)}]", quote(path)))

    def __delitem__(self, path: Any) -> None:
        raise refusal(TypeError, self._read_only(f"[{quote(path)}]", quote(path)))

    def _read_only(self, part: str, path: str) -> str:
        return (
            f'node "{self._name}": state{part} is read-only; commit a change with '
            f"state.set(happen.put({path}, value)), or state.set(lambda s: {{**s, ...}})"
        )

    def __getitem__(self, path: Selector) -> Any:
        """Return ``state.get(path)``."""
        return self.get(path)

    __iter__ = None
    __contains__ = None

    def get(self, selector: Selector | None = None, *, fresh: bool = False) -> Any:
        """Return the frozen state, or the selected part of it.

        It is read from this process's copy of the space, which follows every commit, without network access.

        Parameters
        ----------
        selector : callable or path, optional
            A function of the state, or a path like ``"orders.o1.status"`` or ``("orders", "o.1", 0)``. A
            missing path gives None.
        fresh : bool, optional
            First wait until this process has received everything that any process stored before the call.

        Raises
        ------
        StateError
            Another client has stored something that is not a state.
        """
        if fresh is not False and arguments.truth(fresh, "get: fresh"):
            return run_blocking(self._get(selector))
        record = self._runtime.log.replica.look(self._name)
        state = EMPTY if record is None else record.state
        return state if selector is None else select(state, selector)

    async def aget(self, selector: Selector | None = None, *, fresh: bool = False) -> Any:
        """Async variant of `get`."""
        if fresh is not False and arguments.truth(fresh, "get: fresh"):
            return await run_awaitable(self._get(selector))
        await asyncio.sleep(0)  # a loop that only reads lets others run
        return self.get(selector)

    async def _get(self, selector: Selector | None) -> Any:
        log = self._runtime.log
        await on_io(log.fresh(log.timeout, self._name))
        check(self._name, log.replica.newest(self._name))
        return self.get(selector)

    @property
    def revision(self) -> int:
        """The number of the node's commits so far; 0 before the first."""
        record = self._runtime.log.replica.newest(self._name)
        return 0 if record is None else record.revision

    async def _set(
        self, transform: Transform, *, serializable: bool = False, timeout: Timeout = None
    ) -> Commit:
        """Commit a new state.

        Returns when the server has stored it and this process has received it. If another commit of the node
        came first, the transform runs again on the newer state, so that no update is lost.

        Parameters
        ----------
        transform : callable or mapping
            ``transform(state)`` or ``transform(state, views)`` returns the new state; a mapping is the new
            state itself.
        serializable : bool, optional
            Also run the transform again if a node that it viewed has changed meanwhile. By default, two
            transforms that each view the node that the other one writes can both be stored (write skew).
        timeout : float or timedelta, optional
            Seconds to wait, instead of the timeout of the space.

        Returns
        -------
        Commit
            ``.changed`` is False if the new state is equal to the old one; nothing is stored then.

        Raises
        ------
        StateError
            The result is not a valid state; the message names the path.
        FrozenStateError
            The transform changed its argument in place.
        TransformError
            The transform called something that waits.
        NotStoredError, OutcomeUnknownError
            The call timed out: nothing was stored, or the outcome is unknown.

        Examples
        --------
        >>> orders.state.set({"open": 1}).revision
        1
        >>> orders.state.set(lambda s: {**s, "open": s["open"] + 1}).after
        {'open': 2}
        """
        return await self._writer.set(transform, serializable=serializable, timeout=timeout)

    set, aset = faces(_set)

    async def _revert(self, revision: int) -> Commit:
        """Commit the state of an earlier revision again.

        Parameters
        ----------
        revision : int
            Number of the commit whose state to restore.

        Returns
        -------
        Commit
            The new commit.

        Raises
        ------
        HistoryGoneError
            The revision is no longer stored.
        UnknownRevisionError
            The node has no such revision yet.

        Examples
        --------
        >>> one = orders.state.set({"open": 1})
        >>> two = orders.state.set({"open": 2})
        >>> orders.state.revert(1).after
        {'open': 1}
        """
        revision = arguments.count(revision, "revert: revision")
        with part_of(f'state.revert of node "{self._name}"', NotStoredError):
            state = await self._at(revision)
        return await self._writer.set(state)

    revert, arevert = faces(_revert)

    @overload
    def on(
        self,
        pattern: str | Callable[[str], object],
        transform: F,
        *,
        where: Callable[[Event], object] | None = None,
        start: str | Since = "now",
        name: str | None = None,
        fold: bool = False,
        keep: bool = False,
    ) -> F: ...
    @overload
    def on(
        self,
        pattern: str,
        transform: None = None,
        *,
        where: Callable[[Event], object] | None = None,
        start: str | Since = "now",
        name: str | None = None,
        fold: bool = False,
        keep: bool = False,
    ) -> Callable[[F], F]: ...
    def on(
        self,
        pattern: Any,
        transform: Any = None,
        *,
        where: Callable[[Event], object] | None = None,
        start: str | Since = "now",
        name: str | None = None,
        fold: bool = False,
        keep: bool = False,
    ) -> Any:
        """Register a transform that applies events to the state, each exactly once.

        Call it, or use it as a decorator. For each matching event, ``transform(state, event)`` is
        committed, in the order of the journal, even if processes or servers are killed meanwhile. The events
        that the transform emits are stored with the commit. Events that are stored while no process has the
        handler are applied when it is registered again.

        Parameters
        ----------
        pattern : str or callable
            The events to apply, as for ``node.on``.
        transform : callable, optional
            ``transform(state, event)`` returns the new state. With a third required parameter, or one named
            ``views``, it also receives the views of all nodes as of the time when the event was stored. With
            one required parameter, it receives the state only.
        where : callable, optional
            ``where(event)`` filters further.
        start : "now", "beginning", Event, datetime or int, optional
            A handler that is new on the node starts after this event, time or sequence. A time is in the
            clock of the space, and must not be in the future. A handler that the node already had continues
            where it stopped.
        name : str, optional
            Identifies the handler even if its function or pattern changes. By default, the pattern and the
            function's name identify it.
        fold : bool, optional
            Apply all events that wait in one commit. This is many times faster, but the states between them
            are not stored.
        keep : bool, optional
            Keep the registration of the same transform and pattern by another cell.

        Returns
        -------
        callable
            The transform, or a decorator that returns it.

        Raises
        ------
        TypeError
            The transform cannot be called with a state and an event.
        PatternError
            The pattern is not valid.
        ValueError
            The node already has this handler; give one of them a name. Or `start` is in the future.

        Examples
        --------
        >>> @orders.state.on("order.paid")
        ... def count(state, event):
        ...     return {**state, "paid": state.get("paid", 0) + 1}
        >>> trace = orders.broadcast("order.paid").settle()
        >>> orders.state.get("paid")
        1
        >>> count({"paid": 1}, happen.event("order.paid"))
        {'paid': 2}
        """
        from happen_nb._api.state_handlers import register_state_handler

        if transform is None:
            check_decorator(pattern, "state.on", "transform")
        return call_or_decorator(
            lambda function: register_state_handler(
                self._writer, self._runtime, pattern, function, where, start, name, fold=fold, keep=keep
            ),
            transform,
        )

    @overload
    def every(self, seconds: Duration, transform: F, *, id: str | None = None) -> F: ...
    @overload
    def every(
        self, seconds: Duration, transform: None = None, *, id: str | None = None
    ) -> Callable[[F], F]: ...
    def every(self, seconds: Duration, transform: Any = None, *, id: str | None = None) -> Any:
        """Apply a transform at regular intervals of the space's clock. Call it, or use it as a decorator.

        It is like ``node.every``, but each call is applied exactly once.

        Parameters
        ----------
        seconds : float or timedelta
            The period, 0.001 s or more.
        transform : callable, optional
            ``transform(state, event[, views])``, as for `on`. The payload of the event has the number ``n``.
        id : str, optional
            Identifies it in all processes and later runs. By default, the name of the function does.

        Returns
        -------
        callable
            The transform, or a decorator that returns it.

        Examples
        --------
        >>> with happen.connect(store=":memory:", name="lab", clock="manual") as lab:
        ...     bank = lab.create_node("bank", initial={"money": 100})
        ...     @bank.state.every(24 * 3600)
        ...     def interest(state, event):
        ...         return {"money": state["money"] + 1}
        ...     result = lab.advance(days=30)
        ...     bank.state.get("money")
        130
        """
        from happen_nb._api.state_handlers import register_state_every

        period = period_of(seconds, "state.every")
        return call_or_decorator(
            lambda function: register_state_every(self._writer, self._runtime, period, function, id),
            transform,
        )

    async def _history(self, limit: int | None = None) -> History:
        """Read the stored commits, newest last.

        Parameters
        ----------
        limit : int, optional
            Maximum number of commits, the newest.
        """
        limit = None if limit is None else arguments.count(limit, "history: limit")
        more = None if limit is None else limit + 1  # one more, for the state before the first
        stream = self._runtime.log.stream
        records = await on_io(read_commits(stream, self._name, limit=more))
        later = bool(records) and records[0].revision > 1
        truncated = later and await on_io(oldest_revision(stream, self._name)) > 1
        return History(
            self._runtime.space,
            self._name,
            records,
            limit,
            truncated=truncated,
            occurred=self._occurred,
            clock=await self._runtime.clock.moves(records[-1].sequence if records else 0),
        )

    history, ahistory = faces(_history)

    def _occurred(self, records: Sequence[CommitRecord]) -> list[datetime | None]:
        return run_blocking(occurrences(self._runtime.log, records))

    async def _at(self, when: Since) -> FrozenDict:
        """Read a past state.

        Parameters
        ----------
        when : int, datetime, Event or Commit
            A revision; a datetime (naive: local time); an event: the state before it; or a commit: the state
            that its transform read.

        Raises
        ------
        HistoryGoneError
            The state is no longer stored.
        UnknownRevisionError
            The node has no such revision yet.

        Examples
        --------
        >>> one = orders.state.set({"open": 1})
        >>> two = orders.state.set({"open": 2})
        >>> orders.state.at(1)
        {'open': 1}
        """
        log = self._runtime.log
        if arguments.is_index(when):
            revision = arguments.count(when, "at: revision")
            record = log.replica.newest(self._name)
            if not revision:
                record = None
            elif record is None or record.revision != revision:
                record = await on_io(commit_at_revision(log.stream, self._name, revision))
        else:
            position = await on_io(position_of(log, when))
            record = log.replica.newest(self._name)
            if record is None or record.sequence > position:
                record = await on_io(commit_at_position(log.stream, self._name, position))
        check(self._name, record)
        return EMPTY if record is None else record.state

    at, aat = faces(_at)

    def watch(self, callback: Callable[[Commit], object]) -> Watch:
        """Call a function with each further commit of the node, from any process.

        It is called off the main thread, in order. Its errors are added to ``space.failures``.

        Parameters
        ----------
        callback : callable
            A function of a `Commit`.

        Returns
        -------
        Watch
            ``.stop()`` stops the calls; so does running the cell again.
        """
        return Watch(self.node, callback, self._runtime)

    @property
    def _followed(self) -> tuple[Space, str, State]:
        return self._node.space, self._name, self

    async def _wait_for(
        self, predicate: Callable[[FrozenDict], object], timeout: Timeout = 10.0
    ) -> FrozenDict:
        """Wait until ``predicate(state)`` is true, and return that state; immediately if it already is.

        While a handler waits here, ``advance`` moves a manual clock on.

        Parameters
        ----------
        predicate : callable
            A function of the frozen state.
        timeout : float or timedelta, optional
            Seconds to wait; None waits without limit.

        Raises
        ------
        HappenTimeoutError
            It is not true within `timeout` seconds.
        """
        functions.check_condition(predicate, "wait_for: predicate", "the state")
        seconds = arguments.timeout(timeout, "wait_for: timeout")
        replica, dispatcher = self._runtime.log.replica, self._runtime.dispatcher
        deadline = time.monotonic() + seconds
        while True:
            record = replica.newest(self._name)
            state = EMPTY if record is None else record.state
            if functions.truth_of(predicate(state), "wait_for: predicate"):
                return state
            with dispatcher.awaiting_news() as news:
                left = deadline - time.monotonic()
                changed = await dispatcher.waits(on_io(replica.changed(self._name, record, left, news)))
            if not changed:
                raise HappenTimeoutError(
                    f'node "{self._name}": the condition did not hold within {seconds:g} s'
                )

    wait_for, await_for = faces(_wait_for, refuse=("state.wait_for()", "write await state.await_for(...)"))
