"""Forks: new spaces that start from the states of another one, and may have its handlers."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Final

from happen_nb._api.base import SpacePart, faces, runtime_of
from happen_nb._api.history import Commit, check_cleared, position_of
from happen_nb._api.schedule import read_scheduled
from happen_nb._api.state_writer import StateWriter
from happen_nb._api.views import Watch
from happen_nb._journal.slice import newest_events
from happen_nb._model import arguments
from happen_nb._model.arguments import check_name
from happen_nb._runtime.io import on_io
from happen_nb._runtime.lanes import is_catching_up
from happen_nb._runtime.redirect import Redirect, instead_of
from happen_nb._runtime.replica import forkable_states, records_at
from happen_nb.errors import SpaceInUseError, SpaceNotEmptyError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from happen_nb._api.events import Event
    from happen_nb._api.node import Node
    from happen_nb._api.space import Space
    from happen_nb._model.frozen import FrozenDict
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.registrations import Registration
    from happen_nb._runtime.runtime import Runtime

MAX_NAME_LENGTH: Final = 64
_filling: Final[dict[Space, object]] = {}  # the new spaces that states are being copied to
_unnamed: set[str] = set()  # generated names of forks that exist or are being deleted


class SpaceForks(SpacePart):
    """The part of a space that forks it."""

    async def _fork(
        self, name: str, *, at: datetime | Event | Commit | None = None, handlers: bool = False
    ) -> Space:
        """Make a new space on the same server that starts from the states of this one.

        Its states start at revision 1; it has no events, and never becomes the current space. This space
        stays unchanged. Invalid states that other clients have stored are left out and logged.

        Parameters
        ----------
        name : str
            The name of the new space.
        at : datetime, Event or Commit, optional
            Start from the states at that time, as for `at`. A manual clock starts at the time that it had
            then.
        handlers : bool, optional
            Also register the handlers and watches of this process in the fork. Their code runs unchanged, but
            the objects of this space that the code names stand for those of the fork: nodes, states, views,
            events, the space, and ``happen.current()``. That includes the functions that they call, asyncio
            tasks, ``asyncio.to_thread`` and ``happen.carry``. A thread that they start without ``carry`` acts
            on this space. Variables of the notebook are not forked. The first tick of an `every` is due one
            period after the fork.

        Returns
        -------
        Space
            The new space, connected.

        Raises
        ------
        SpaceNotEmptyError
            The target holds states or events already.
        HistoryGoneError
            Some states of that time are no longer stored; the message names the nodes.

        Examples
        --------
        >>> first = orders.state.set({"open": 1})
        >>> second = orders.state.set({"open": 2})
        >>> what_if = space.fork("what-if", at=second)
        >>> what_if.views.orders.get(), orders.state.get()
        ({'open': 1}, {'open': 2})
        >>> what_if.drop()

        With the handlers, which name the node of this space:

        >>> @orders.on("order.placed")
        ... def count(event):
        ...     orders.state.set(happen.put("open", lambda n: n + 1))
        >>> what_if = space.fork("what-if", handlers=True)
        >>> trace = what_if.broadcast("order.placed").settle()
        >>> what_if.views.orders.get(), orders.state.get()
        ({'open': 3}, {'open': 2})
        >>> what_if.drop()
        """
        check_name(name, "space")
        arguments.truth(handlers, "fork: handlers")
        log, clock = self._log, None
        if at is None:
            await on_io(log.fresh(log.timeout))
            states = forkable_states(log.replica.cut().nodes)
        else:
            position = await on_io(position_of(log, at, "fork: at"))
            states = forkable_states(await on_io(records_at(log, position)))
            check_cleared(log, position, "fork: at")  # nodes that were not written since are not known
            clock = await clock_at(log, position)
        fork = await start_from(self._space, name, states, clock)
        return await _with_handlers(self._space, fork) if handlers else fork

    fork, afork = faces(_fork)


async def clock_at(log: Log, position: int) -> str | None:
    """Return the time of a manual clock at a position of the journal; None for a real one."""
    from happen_nb._journal.stretch import clock_at

    return None if log.clock is None else await on_io(clock_at(log.stream, position))


async def copy_handlers(space: Space, fork: Space) -> None:
    """Register the handlers and watches of a space in a fork, whose objects stand for its own there."""
    source, target = runtime_of(space), runtime_of(fork)
    originals = dict(space.nodes)
    nodes = {name: await fork._create_node(name) for name in originals}
    pairs: list[tuple[object, object]] = [(source, target), (instead_of(space), fork)]
    pairs += [(originals[name], nodes[name]) for name in nodes]
    pairs += [(space.views, fork.views), (space.views._states, fork.views._states)]
    redirect = Redirect(pairs, source.dispatcher.redirect)
    target.dispatcher.redirect = redirect
    for registration in source.registrations.all():
        if registration.node in nodes:
            await _register(target, _copied(registration, nodes[registration.node], target))
    for watcher in source.watchers.all():
        if isinstance(watcher.source, Watch) and watcher.node in nodes:
            watch = watcher.source
            redirect.add(watch, Watch(nodes[watcher.node], watch.callback, target, watch._context))
    await on_io(target.in_flight.drain(is_catching_up, target.deadline()))


def _copied(original: Registration, node: Node, runtime: Runtime) -> Registration:
    if original.state is not None:
        from happen_nb._api.state_handlers import copied_state_handler

        copied = copied_state_handler(original, StateWriter(node.name, node.space, runtime), runtime)
    else:
        copied = replace(original, durable=None, active=True, number=0)
    copied.key = original.key
    return copied


async def _register(runtime: Runtime, registration: Registration) -> None:
    dispatcher, deadline = runtime.dispatcher, runtime.deadline()
    if registration.state is not None:
        await on_io(dispatcher.progress.prepare(registration, None, deadline))
    if registration.is_durable:
        await on_io(dispatcher.durables.prepare(registration, deadline))
    await on_io(dispatcher.add(registration, deadline))
    if registration.tick is not None:
        await on_io(dispatcher.ticks.start(registration, deadline))


async def start_from(
    space: Space,
    name: str,
    states: Mapping[str, FrozenDict],
    clock: str | None = None,
    *,
    finish: bool = True,
    call: str = "fork",
) -> Space:
    """Make a new space on the server of another one from the states of its nodes.

    A manual clock starts at the time `clock`, by default that of the other space. Without `finish`, the new
    space is dropped if this process ends without closing it.
    """
    claim = await space._opener(name)
    target, mine = claim.space, object()
    is_first = _filling.setdefault(target, mine) is mine  # a fork in another thread may be filling it
    try:
        try:
            if target is instead_of(space) or not (
                is_first and await on_io(_is_empty(runtime_of(target).log))
            ):
                raise SpaceNotEmptyError(
                    f'{call}: the space "{name}" is not empty; choose another name, or drop() it first'
                )
            await target._refuse_others(call, "choose another name, or close it there first")
        except BaseException as error:
            await claim.give_up(drop=not isinstance(error, SpaceNotEmptyError | SpaceInUseError))
            raise
        claim.keep()
        await _fill(target, space, states, clock, finish=finish)
    finally:
        if is_first:
            del _filling[target]
    return target


async def _fill(
    target: Space, space: Space, states: Mapping[str, FrozenDict], clock: str | None, *, finish: bool
) -> None:
    """Copy the options, the clock and the states to a new space; drop it if that fails."""
    try:
        await on_io(runtime_of(target).log.change(runtime_of(space).log.info.options))
        # Until every state is there.
        await on_io(runtime_of(target).log.mark_unfinished(space.name, temporary=not finish))
        if runtime_of(space).clock.manual:
            now = runtime_of(space).clock.now_text() if clock is None else clock
            await on_io(runtime_of(target).clear(lambda: now))
        for node, state in states.items():
            await target._create_node(node, initial=state)
        if finish:
            await on_io(runtime_of(target).log.mark_unfinished(""))
    except BaseException:
        await target._drop_stream()
        raise
    runtime_of(target).local.clear()


async def _is_empty(log: Log) -> bool:
    """Return True if no node has or had a state, and no event is stored. On the IO thread."""
    return log.replica.empty() and not await newest_events(log.stream, lambda _: True, limit=1)


async def make_stage(
    space: Space, name: str | None, states: Mapping[str, FrozenDict], clock: str | None
) -> Space:
    """Make a fork with the handlers of this process, for a rerun; without a name, one that is dropped."""
    if name is not None:
        stage = await start_from(space, check_name(name, "space"), states, clock, call="rerun")
    else:
        stage = await _make_unnamed(space, "rerun", states, clock)
    runtime_of(stage).clock.hold()
    return await _with_handlers(space, stage)


async def fork_unnamed(space: Space, purpose: str) -> Space:
    """Fork a space with its handlers under a name that is free; `drop_fork` deletes it."""
    log = runtime_of(space).log
    await on_io(log.fresh(log.timeout))
    fork = await _make_unnamed(space, purpose, forkable_states(log.replica.cut().nodes))
    return await _with_handlers(space, fork)


async def _with_handlers(space: Space, fork: Space) -> Space:
    try:
        await copy_handlers(space, fork)
    except BaseException:
        await drop_fork(fork, force=True)
        raise
    return fork


async def _make_unnamed(
    space: Space, purpose: str, states: Mapping[str, FrozenDict], clock: str | None = None
) -> Space:
    """Make a space under a name that is free.

    It is never finished: if this process is killed, the next one that takes its name starts it over.
    """
    for number in count(1):
        end = f"-{purpose}-{number}"
        name = space.name[: MAX_NAME_LENGTH - len(end)] + end
        if name in _unnamed:
            continue
        _unnamed.add(name)
        try:
            return await start_from(space, name, states, clock, finish=False)
        except BaseException as error:
            _unnamed.discard(name)
            if not isinstance(error, SpaceNotEmptyError | SpaceInUseError):  # else another process has it
                raise
    raise AssertionError("numbers do not end")


async def keep_stage(space: Space, stage: Space, name: str | None) -> Space:
    """Keep the journal of a fork under a name."""
    from happen_nb._journal.stretch import copy_stream

    log = runtime_of(stage).log
    if name is None and log.info.unfinished:
        raise ValueError('keep: pass a name for the space, as in rerun.keep("what-if")')
    if name is None or name == stage.name:
        return stage
    check_name(name, "space")
    await on_io(runtime_of(stage).dispatcher.close())
    scheduled = await on_io(read_scheduled(runtime_of(stage)))
    # The next tick would keep an `every` that is registered there from starting.
    kept = [event for event in scheduled if event.tick is None]
    await on_io(copy_stream(log.stream, name, kept))
    await drop_fork(stage, force=True)
    claim = await space._opener(name)
    claim.keep()
    return claim.space


async def discard_fork(space: Space, why: str) -> None:
    """Delete a fork that belongs to an object which has ended; `why` is the error of its later use."""
    try:
        await space._discard(why)
    finally:
        _unnamed.discard(space.name)


async def drop_fork(space: Space, *, force: bool = False) -> None:
    """Delete a fork, and close it, unless it was closed.

    Raises SpaceInUseError if another process is connected, and it is not deleted by `force`.
    """
    try:
        if runtime_of(space).is_open:
            await (space._drop_stream() if force else space._drop())
    finally:
        _unnamed.discard(space.name)
