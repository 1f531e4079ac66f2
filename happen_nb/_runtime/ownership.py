"""The ownership of nodes: one process of a space handles the events of each.

It is the newest to register a handler, until it ends. The journal holds an owner record for each node, so
every process knows, in journal order, which one owned a node when an event was stored. Everything here runs
on the IO thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from typing import TYPE_CHECKING, NamedTuple

from happen_nb._journal import encoding
from happen_nb._journal.publish import RefusedError, store_messages
from happen_nb._model.records import CommitRecord, OwnerRecord
from happen_nb._runtime.waiting import Signal, seconds_left
from happen_nb.errors import HappenError, NotStoredError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from happen_nb._journal.decoding import Clear
    from happen_nb._journal.follower import FreshStart
    from happen_nb._journal.wire import Message
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.peers import Peers
    from happen_nb._runtime.registrations import Registrations

logger = logging.getLogger("happen_nb")

ASK_EVERY_SECONDS = 0.15  # seconds between questions whether an owner is alive, if few processes ask
MAX_ASKERS = 5  # number of processes that ask one owner at full rate; if there are more, each asks less often
MAX_UNANSWERED = 2  # number of unanswered questions in a row after which a node is taken over
STEADY_SECONDS = 1.0  # seconds that this connection must have been up before the silence of an owner counts
MAX_KEPT_RECORDS = 100  # number of owner records that are kept of each node
ASKED_RECENTLY_SECONDS = 3.0  # seconds for which a process counts as waiting after a question
RENEW_SECONDS = 0.05  # seconds after which changed patterns are stored


class PastOwner(NamedTuple):
    """A process that owned a node until another process, or none, did."""

    node: str
    incarnation: str
    claimed: int  # the position from which it owned the node
    until: int


class Ownership:
    """The owner of each node, as of the position that the replica has reached.

    This process wants to own the nodes of its registrations.
    """

    def __init__(self, log: Log, peers: Peers, registrations: Registrations) -> None:
        self.on_lost: Signal[[str, OwnerRecord]] = Signal()
        """Emitted when another process takes a node over from this one."""
        self.on_change: Signal[[str]] = Signal()
        """Emitted when a node may have another owner, or its owner handles something else."""
        self.leaving = False  # True if this process gives up all its nodes, and acquires no others
        self._log = log
        self._peers = peers
        self._registrations = registrations
        self._owners: dict[str, OwnerRecord] = {}
        self._previous: dict[str, str] = {}
        self._replaced: dict[tuple[str, str], PastOwner] = {}  # by node and process
        self._unanswered: dict[str, int] = {}
        self._renewing: set[str] = set()
        self._watching: asyncio.Task[None] | None = None
        self._up_since = time.monotonic()
        self._askers: dict[str, float] = {}
        log.connection.on_reconnect(self._reconnected)
        log.on_owner.connect(self._on_record)
        log.on_fresh_start.connect(self._on_fresh_start)
        log.on_clear.connect(self._on_clear)

    def _reconnected(self) -> None:
        self._up_since = time.monotonic()

    # -- reading -------------------------------------------------------------------------------------

    def owner_of(self, node: str) -> OwnerRecord | None:
        owner = self._owners.get(node)
        return owner if owner is not None and owner.incarnation is not None else None

    def is_owned(self, node: str, record: CommitRecord | None) -> bool:
        """Return True if a node has an owner, other than one from before the deletion that `record` is.

        A process that has ended does not give up a node that was deleted afterwards.
        """
        owner = self.owner_of(node)
        return owner is not None and (
            record is None or not record.deleted or owner.sequence > record.sequence
        )

    def is_ours(self, node: str) -> bool:
        """Return True if this process handles the node's events."""
        owner = self._owners.get(node)
        return owner is not None and owner.incarnation == self._log.incarnation

    def record(self, node: str) -> OwnerRecord | None:
        """Return the newest record of a node, also of one that has no owner."""
        return self._owners.get(node)

    def previous(self, node: str) -> str | None:
        return self._previous.get(node)

    def all(self) -> list[OwnerRecord]:
        """Return all records, also of nodes that have no owner."""
        return list(self._owners.values())

    def names(self) -> list[str]:
        return [name for name, owner in list(self._owners.items()) if owner.incarnation is not None]

    def incarnations(self) -> set[str]:
        """Return the processes that own a node."""
        return {owner.incarnation for owner in self._owners.values() if owner.incarnation}

    def replaced(self) -> list[PastOwner]:
        """Return former owners, which may still handle events from before they were replaced."""
        return list(self._replaced.values())

    def forget(self, incarnations: set[str]) -> None:
        """Note that processes have ended."""
        self._replaced = {
            key: each for key, each in self._replaced.items() if each.incarnation not in incarnations
        }

    # -- following -----------------------------------------------------------------------------------

    def _on_fresh_start(self, start: FreshStart) -> None:
        unknown = start.unknown if start.again else ()
        kept = {node: self._owners[node] for node in unknown if node in self._owners}
        self._reset(kept, start.owners)

    def _on_clear(self, clear: Clear, _: int) -> None:
        self._reset({}, clear.owners)

    def _reset(self, kept: dict[str, OwnerRecord], owners: Iterable[OwnerRecord]) -> None:
        self._owners = kept | {owner.node: owner for owner in owners}
        for node in self._registrations.nodes():
            if self.is_ours(node) and self._owners[node].patterns != self._registrations.patterns(node):
                self.renew(node)  # a clear carried the owner, but not all of its patterns
            self.on_change.emit(node)
        self._watch_others()

    def _on_record(self, owner: OwnerRecord) -> None:
        before = self._owners.get(owner.node)
        self._owners[owner.node] = owner
        if before is not None and before.incarnation not in (None, owner.incarnation):
            gone = self._previous[owner.node] = before.incarnation or ""
            first = self._replaced.get((owner.node, gone))
            claimed = before.claimed if first is None else first.claimed
            self._replaced[owner.node, gone] = PastOwner(owner.node, gone, claimed, owner.sequence)
        me = self._log.incarnation
        if before is not None and before.incarnation == me and owner.incarnation not in (me, None):
            self.on_lost.emit(owner.node, owner)
        if owner.incarnation != me:
            self._watch_others()
        self.on_change.emit(owner.node)

    def count_askers(self, incarnation: str) -> int:
        """Note that another process asks if this one is alive; return how many have asked lately."""
        now = time.monotonic()
        self._askers[incarnation] = now
        recent = ((each, when) for each, when in self._askers.items() if now - when < ASKED_RECENTLY_SECONDS)
        self._askers = dict(recent)
        return len(self._askers)

    # -- acquiring and releasing ---------------------------------------------------------------------

    async def acquire(self, node: str, deadline: float) -> OwnerRecord | None:
        """Become the owner of a node; the newest to acquire it wins. Return the previous owner."""
        if self.is_ours(node):  # another process may have acquired it just now
            await self._log.fresh(seconds_left(deadline))
        while not self.is_ours(node):
            before = self._owners.get(node)
            if await self._store(node, before, self._our_record(node), deadline):
                return before
        self.renew(node)
        return None

    def _our_record(self, node: str) -> OwnerRecord:
        return OwnerRecord(
            node,
            self._log.incarnation,
            self._registrations.patterns(node),
            os.getpid(),
            socket.gethostname(),
            state_handlers=self._registrations.state_handlers(node),
            durable=self._registrations.durable(node),
            sources=self._registrations.sources(node),
        )

    async def _store(
        self, node: str, before: OwnerRecord | None, owner: OwnerRecord, deadline: float
    ) -> bool:
        """Replace a node's record, and wait until this process sees it; False if another was faster."""
        log, what = self._log, f'the owner of node "{node}"'
        if time.monotonic() >= deadline:
            raise NotStoredError(f'node "{node}": its owner could not be stored in time')
        message = encoding.encode_owner(log.subjects, owner, expected=before.sequence if before else 0)
        if not await replace_record(log, message, what, deadline, lambda: self._owners.get(node) is before):
            return False
        if before is not None:
            # Some are kept: a process that was cut off replays them to learn what it no longer owned.
            log.background(log.stream.keep_newest(log.subjects.owner_prefix + node, MAX_KEPT_RECORDS))
        return True

    def renew(self, node: str) -> None:
        """Store the patterns of our handlers, soon: other processes show them for unhandled events."""
        if node not in self._renewing and self.is_ours(node) and not self.leaving:
            self._renewing.add(node)
            self._log.background(self._renew_later(node))

    async def flush(self) -> None:
        """Store now what `renew` stores soon."""
        await asyncio.gather(*map(self._renew, self._registrations.nodes()))

    async def _renew_later(self, node: str) -> None:
        await asyncio.sleep(RENEW_SECONDS)
        if node in self._renewing:
            await self._renew(node)

    async def _renew(self, node: str) -> None:
        self._renewing.discard(node)
        owner = self._owners.get(node)
        if owner is None or not self.is_ours(node):
            return
        ours = self._our_record(node)._replace(since=owner.claimed, takeover=owner.takeover)
        if _handlers_of(owner) != _handlers_of(ours):
            try:
                await self._store(node, owner, ours, time.monotonic() + self._log.timeout)
            except HappenError as error:
                logger.debug('the patterns of "%s": %s', node, error)

    async def release(self, node: str, deadline: float) -> None:
        """Give up a node if it is ours, so that it has no owner."""
        while self.is_ours(node):
            await self._store(node, self._owners.get(node), OwnerRecord(node, None), deadline)

    async def release_all(self, seconds: float) -> None:
        """Give up all our nodes, so that others need not wait, and take over no others."""
        self.leaving = True
        if self._watching is not None:
            self._watching.cancel()
        ours = [node for node in self._owners if self.is_ours(node)]
        deadline = time.monotonic() + seconds
        await asyncio.gather(*(self.release(node, deadline) for node in ours), return_exceptions=True)

    # -- taking over ---------------------------------------------------------------------------------

    def _watch_others(self) -> None:
        """Watch the owners of nodes that we have handlers for too, as long as there are any."""
        if self.leaving:
            return
        if self._watching is None and any(not self.is_ours(node) for node in self._registrations.nodes()):
            self._watching = self._log.background(self._watch())

    async def _watch(self) -> None:
        """Ask the owners of nodes that we have handlers for; take over from one that is gone."""
        askers = 0
        try:
            while waiting := [node for node in self._registrations.nodes() if not self.is_ours(node)]:
                for node in waiting:
                    if self.owner_of(node) is None:
                        await self._take_over(node, self._owners.get(node))
                owners = {owner.incarnation for node in waiting if (owner := self.owner_of(node))}
                askers = max([0, *[await self._ask(owner) for owner in owners if owner]])
                await asyncio.sleep(ASK_EVERY_SECONDS * max(1.0, askers / MAX_ASKERS))
        finally:
            self._watching = None

    async def _ask(self, incarnation: str) -> int:
        """Return how many others wait for an owner; take over its nodes if it is gone."""
        answer = await self._peers.ask(incarnation, {}, ASK_EVERY_SECONDS)
        if answer is not None:
            self._unanswered.pop(incarnation, None)
            return int(answer.get("waiters", 0))
        steady = self._log.connection.connected and time.monotonic() - self._up_since > STEADY_SECONDS
        self._unanswered[incarnation] = self._unanswered.get(incarnation, 0) + 1 if steady else 0
        if self._unanswered[incarnation] >= MAX_UNANSWERED:
            for node in self._registrations.nodes():
                owner = self.owner_of(node)
                if owner is not None and owner.incarnation == incarnation:
                    await self._take_over(node, owner)
        return 0

    async def _take_over(self, node: str, before: OwnerRecord | None) -> None:
        died = before is not None and before.incarnation is not None
        ours = self._our_record(node)._replace(takeover=died)
        try:
            await self._store(node, before, ours, time.monotonic() + self._log.timeout)
        except HappenError as error:
            logger.debug('taking over "%s": %s', node, error)


async def replace_record(
    log: Log, message: Message, what: str, deadline: float, is_unchanged: Callable[[], bool]
) -> bool:
    """Store a record in the place of the one that it expects, and wait until this process sees it.

    Returns False if there is another; `is_unchanged` shows if this process still sees the expected one then.
    """
    try:
        left = seconds_left(deadline)
        sequence = await store_messages(log.connection, [message], timeout=left, what=what)
    except RefusedError as refusal:
        await log.reach(refusal.newest, deadline)
        if is_unchanged():
            await log.start_afresh()  # the expected record is gone, and no message reports it
        return False
    await log.reach(sequence, deadline)
    return True


def _handlers_of(owner: OwnerRecord) -> tuple[object, ...]:
    return owner.patterns, owner.state_handlers, owner.durable, owner.sources
