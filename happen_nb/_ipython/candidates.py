"""What this process knows of a space, without asking anyone: its nodes, event types, and paths of states."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Final

from happen_nb._journal.slice import read_window
from happen_nb._model.paths import lookup
from happen_nb._model.records import EventRecord
from happen_nb._runtime.io import io_thread
from happen_nb.errors import HappenError

if TYPE_CHECKING:
    from happen_nb._api.space import Space
    from happen_nb._model.frozen import FrozenDict
    from happen_nb._runtime.session import Session

log = logging.getLogger("happen_nb")

LOOKED_AT: Final = 200
"""Nodes whose states are looked at, where it may be any."""
SPELLED: Final = 100
"""Types that the braces of one pattern may stand for."""
LATELY: Final = 1000
"""Messages at the end of the journal whose event types are read."""
KEPT: Final = 1000
"""Event types that are kept of a space."""

_BRACES: Final = re.compile(r"\{([^{}]*)\}")


def node_names(space: Space | None) -> list[str]:
    """The nodes of a space, those whose events somebody handles first."""
    if space is None:
        return []
    return [*sorted(space._dispatch.ownership.names()), *space.views._names()]


def patterns(space: Space, node: str | None = None) -> Iterator[str]:
    """What handlers take, of one node or of all."""
    dispatch = space._dispatch
    for owner in dispatch.ownership.all():
        if node in {None, owner.node}:
            yield from owner.patterns
            yield from dispatch.patterns(owner.node)


def spelled(pattern: str) -> list[str]:
    """The types that a pattern stands for, if they can be told."""
    texts = [pattern]
    while len(texts) < SPELLED and (braces := _BRACES.search(texts[0])):
        choices = braces[1].split(",")
        text = texts.pop(0)
        texts += [f"{text[: braces.start()]}{choice}{text[braces.end() :]}" for choice in choices]
    return [text for text in texts if not set("*{}") & set(text)]


def states(space: Space, node: str | None) -> Iterator[FrozenDict]:
    """The newest state of one node, or of all."""
    records = space._session.replica.cut().nodes
    names = islice(records, LOOKED_AT) if node is None else [node]
    for record in filter(None, map(records.get, names)):
        try:
            if not record.deleted:
                yield record.state
        except HappenError as error:  # another client stored something that is no state
            log.debug("the paths of node %s: %s", record.node, error)


def paths(states: Iterable[FrozenDict], typed: str) -> Iterator[str]:
    """The paths that are one step longer than what is typed up to its last dot."""
    *steps, _ = typed.split(".")
    before = "".join(f"{step}." for step in steps)
    for state in states if "" not in steps else ():
        inner = lookup(state, tuple(steps))
        if isinstance(inner, dict):
            yield from (f"{before}{key}" for key in inner if key and "." not in key)
        elif isinstance(inner, list):
            yield from (f"{before}{index}" for index in range(len(inner)))


class SeenTypes:
    """The event types that were stored in a space lately, or came by since.

    Parameters
    ----------
    session : Session
    """

    def __init__(self, session: Session) -> None:
        self._types: dict[str, None] = {}
        self._stop: Callable[[], object] | None = None
        io_thread().call_soon(self._begin, session)

    def all(self) -> list[str]:
        """All of them, the oldest first. From any thread."""
        return list(self._types)

    def stop(self) -> None:
        """Follow no longer."""
        io_thread().call_soon(self._end)

    def _begin(self, session: Session) -> None:
        self._stop = session.feed.listen(self._note)
        session.background(self._read(session))

    def _end(self) -> None:
        if self._stop is not None:
            self._stop()
            self._stop = None

    def _note(self, event: EventRecord) -> None:
        self._types.pop(event.type, None)
        self._types[event.type] = None
        if len(self._types) > KEPT:
            del self._types[next(iter(self._types))]

    async def _read(self, session: Session) -> None:
        try:
            info = await session.stream.info()
            start = max(info.first, info.last - LATELY + 1)
            entries = await read_window(session.stream, start, info.last)
        except HappenError as error:
            log.debug("the event types of the journal: %s", error)
            return
        stored = [entry.type for entry in entries if isinstance(entry, EventRecord)]
        self._types = dict.fromkeys([*stored, *self._types])
