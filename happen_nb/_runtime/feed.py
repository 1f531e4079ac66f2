"""The journal as it comes by: to the replica, to who owns what, and to all that waits for events."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from happen_nb._journal.wire import Clear
from happen_nb._model.records import CommitRecord, EventRecord, OwnerRecord
from happen_nb._runtime.io import within
from happen_nb._runtime.tracebacks import to_raise

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from happen_nb._journal.wire import Item
    from happen_nb._runtime.dispatcher import Dispatcher
    from happen_nb._runtime.replica import Replica


class Awaited:
    """An event of ours that is on its way; ``future`` may also be resolved by the server's answer."""

    __slots__ = ("future", "record")

    def __init__(self) -> None:
        self.future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.record: EventRecord | None = None


class Feed:
    """Takes what the follower brings; on the IO thread, one message after the other.

    Whoever is told of an event finds every commit before it in the replica.
    """

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.dispatch: Dispatcher | None = None
        self._expected: dict[str, list[Awaited]] = {}
        self._listeners: list[Callable[[EventRecord], None]] = []
        self._waiting: set[asyncio.Future[None]] = set()

    def reset(
        self,
        records: list[CommitRecord],
        owners: list[OwnerRecord],
        position: int,
        *,
        again: bool,
        unknown: set[str],
    ) -> None:
        """Start with these records and owners."""
        if self.dispatch is not None:
            self.dispatch.ownership.reset(owners, keep=unknown if again else ())
        self.replica.reset(records, position, again=again)

    def apply(self, item: Item, sequence: int) -> None:
        """Take the next message."""
        if self.dispatch is not None:
            if isinstance(item, OwnerRecord):
                self.dispatch.ownership.apply(item)
            elif isinstance(item, Clear):
                self.dispatch.ownership.reset(item.owners)
                self.dispatch.cleared(sequence)
        self.replica.apply(item, sequence)
        if isinstance(item, EventRecord):
            self._tell(item)
        elif isinstance(item, CommitRecord):
            if item.deleted and item.id is not None and self.dispatch is not None:
                self.dispatch.deleted(item.node, item.origin.path)
            for event in item.events:
                self._tell(event)

    def caught_up(self, position: int) -> None:
        """There is nothing more at or before `position`."""
        self.replica.caught_up(position)

    def held(self) -> Mapping[str, CommitRecord]:
        """The newest record of each node that is held."""
        return self.replica.cut().nodes

    async def reached(self, position: int, timeout: float) -> bool:
        """Wait until the replica is at `position`; False if it takes longer than `timeout` seconds."""
        return await self.replica.reached(position, timeout)

    def expect(self, id: str) -> Awaited:
        """Look out for an event."""
        awaited = Awaited()
        self._expected.setdefault(id, []).append(awaited)
        return awaited

    def forget(self, id: str, awaited: Awaited) -> None:
        """It is not looked out for any more."""
        waiting = self._expected.get(id, [])
        if awaited in waiting:
            waiting.remove(awaited)
        if not waiting:
            self._expected.pop(id, None)

    def listen(self, listener: Callable[[EventRecord], None]) -> Callable[[], None]:
        """Call `listener` with each event from now on; returns what ends that."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    async def next(self, timeout: float) -> None:
        """Wait for the next event, or `timeout` seconds."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await within(timeout, future)
        finally:
            self._waiting.discard(future)

    def close(self, why: Exception) -> None:
        """Nothing comes any more: whoever waits is told `why`."""
        self.replica.close(why)
        futures: list[asyncio.Future[Any]] = [*self._waiting]
        futures += [awaited.future for waiting in self._expected.values() for awaited in waiting]
        for future in futures:
            if not future.done():
                future.set_exception(to_raise(why))

    def _tell(self, event: EventRecord) -> None:
        if self.dispatch is not None:
            self.dispatch.dispatch(event)
        for awaited in self._expected.pop(event.id, ()):
            awaited.record = event
            if not awaited.future.done():
                awaited.future.set_result(event)
        for listener in list(self._listeners):
            listener(event)
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)
