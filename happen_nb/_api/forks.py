"""The handlers of a space in a fork of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from happen_nb._api.state import StateWriter
from happen_nb._api.state_handlers import copied_state_handler
from happen_nb._api.views import Watch, copied_watch
from happen_nb._runtime.io import on_io
from happen_nb._runtime.lanes import is_catching_up
from happen_nb._runtime.redirect import Redirect

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from happen_nb._api.node import Node
    from happen_nb._runtime.registrations import Registration
    from happen_nb._runtime.runtime import Runtime


async def copy_handlers(
    source: Runtime, target: Runtime, nodes: Mapping[str, Node], pairs: Iterable[tuple[object, object]]
) -> None:
    """Register the handlers and watches of a space in a fork, where its objects stand for those of the fork.

    Parameters
    ----------
    nodes : mapping of str to Node
        The nodes of the fork, by name.
    pairs : iterable of (object, object)
        An object of the original space, and that of the fork.
    """
    redirect = Redirect([(source, target), *pairs], source.dispatcher.redirect)
    target.dispatcher.redirect = redirect
    for registration in source.registrations.all():
        if registration.node in nodes:
            await _register(target, _copied(registration, nodes[registration.node], target))
    for watcher in source.watchers.all():
        if isinstance(watcher.source, Watch) and watcher.node in nodes:
            redirect.add(watcher.source, copied_watch(watcher.source, nodes[watcher.node], target))
    await on_io(target.in_flight.drain(is_catching_up, target.deadline()))


def _copied(original: Registration, node: Node, runtime: Runtime) -> Registration:
    if original.state is not None:
        copied = copied_state_handler(original, StateWriter(node.name, node.space, runtime), runtime)
    else:
        copied = replace(original, durable=None, active=True, number=0)
    copied.key = original.key
    return copied


async def _register(runtime: Runtime, registration: Registration) -> None:
    dispatcher, deadline = runtime.dispatcher, runtime.deadline()
    if registration.state is not None:
        await on_io(dispatcher.lanes.prepare(registration, None, deadline))
    if registration.is_durable:
        await on_io(dispatcher.durables.prepare(registration, deadline))
    await on_io(dispatcher.add(registration, deadline))
    if registration.tick is not None:
        await on_io(dispatcher.ticks.start(registration, deadline))
