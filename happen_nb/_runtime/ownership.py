"""Which process handles the events of a node: the newest to register a handler, until it ends.

The journal holds an owner record for each node, so every process knows, in journal order, which one owned a
node when an event was stored. Everything here runs on the IO thread.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

from happen_nb._journal import wire
from happen_nb._journal.publish import RefusedError, store_messages
from happen_nb._model.records import OwnerRecord
from happen_nb.errors import HappenError, NotStoredError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from happen_nb._runtime.session import Session

log = logging.getLogger("happen_nb")

ASK_EVERY = 0.15
"""Seconds between questions whether an owner is alive, where few ask."""
FEW = 5
"""More than so many that ask the same owner ask less often each."""
SURE = 2
"""Questions in a row that nobody answers before a node is taken over."""
STEADY = 1.0
"""Seconds that our own connection must have been up before silence means anything."""
KEPT = 100
"""Records that are kept of a node."""
LATELY = 3.0
"""Seconds for which a process that has asked counts as one that waits."""
RENEW = 0.05
"""Seconds after which changed patterns are stored."""


class Wanted(Protocol):
    """What a process has handlers for."""

    def nodes(self) -> Iterable[str]:
        """The nodes with handlers here."""

    def patterns(self, node: str) -> tuple[str, ...]:
        """The patterns of a node's handlers here."""

    def state_handlers(self, node: str) -> tuple[str, ...]:
        """The keys of the node's state handlers here."""

    def owner_changed(self, node: str) -> None:
        """Another process may own a node, or this one, or its owner handles something else."""

    def lost(self, node: str, owner: OwnerRecord) -> None:
        """Another process took a node over."""


class Ownership:
    """The owner of each node, as of the position that the replica has reached.

    Parameters
    ----------
    session : Session
    wanted : Wanted
    """

    def __init__(self, session: Session, wanted: Wanted) -> None:
        self._session = session
        self._wanted = wanted
        self._owners: dict[str, OwnerRecord] = {}
        self._silent: dict[str, int] = {}
        self._renewing: set[str] = set()
        self._keeping: asyncio.Task[None] | None = None
        self.leaving = False
        """Whether this process lets go of all its nodes, and takes no more."""
        self._up_since = time.monotonic()
        self._askers: dict[str, float] = {}
        session.connection.on_reconnect(self._back)

    def _back(self) -> None:
        self._up_since = time.monotonic()

    # -- reading -------------------------------------------------------------------------------------

    def owner_of(self, node: str) -> OwnerRecord | None:
        """The owner of a node, None if it has none."""
        owner = self._owners.get(node)
        return owner if owner is not None and owner.incarnation is not None else None

    def is_ours(self, node: str) -> bool:
        """Whether this process handles the node's events."""
        owner = self._owners.get(node)
        return owner is not None and owner.incarnation == self._session.incarnation

    def record(self, node: str) -> OwnerRecord | None:
        """Return the newest record of a node, also of one that nobody owns."""
        return self._owners.get(node)

    def all(self) -> list[OwnerRecord]:
        """All records, of nodes that nobody owns too."""
        return list(self._owners.values())

    def names(self) -> list[str]:
        """The nodes that some process handles."""
        return [name for name, owner in list(self._owners.items()) if owner.incarnation is not None]

    # -- following -----------------------------------------------------------------------------------

    def reset(self, owners: Iterable[OwnerRecord], *, keep: Iterable[str] = ()) -> None:
        """Start with these; of the nodes in `keep` with what was known before."""
        kept = {node: self._owners[node] for node in keep if node in self._owners}
        self._owners = kept | {owner.node: owner for owner in owners}
        for node in self._wanted.nodes():
            if self.is_ours(node) and self._owners[node].patterns != self._wanted.patterns(node):
                self.renew(node)  # a clear carried the owner, but not all of its patterns
            self._wanted.owner_changed(node)
        self._keep()

    def apply(self, owner: OwnerRecord) -> None:
        """A record came by."""
        before = self._owners.get(owner.node)
        self._owners[owner.node] = owner
        me = self._session.incarnation
        if before is not None and before.incarnation == me and owner.incarnation not in (me, None):
            self._wanted.lost(owner.node, owner)
        if owner.incarnation != me:
            self._keep()
        self._wanted.owner_changed(owner.node)

    def asked_by(self, incarnation: str) -> int:
        """Another process asks whether this one is alive; returns how many have asked lately."""
        now = time.monotonic()
        self._askers[incarnation] = now
        self._askers = {who: when for who, when in self._askers.items() if now - when < LATELY}
        return len(self._askers)

    def _keep(self) -> None:
        """Watch the owners of nodes that we would handle too, as long as there are some."""
        if self.leaving:
            return
        if self._keeping is None and any(not self.is_ours(node) for node in self._wanted.nodes()):
            self._keeping = self._session.background(self._watch())

    # -- claiming ------------------------------------------------------------------------------------

    async def claim(self, node: str, deadline: float) -> OwnerRecord | None:
        """Become the owner of a node; the newest to claim it wins. Returns the owner before."""
        if self.is_ours(node):  # another process may have claimed it just now
            await self._session.fresh(max(0.001, deadline - time.monotonic()))
        while not self.is_ours(node):
            before = self._owners.get(node)
            if await self._store(node, before, self._mine(node), deadline):
                return before
        self.renew(node)
        return None

    def _mine(self, node: str) -> OwnerRecord:
        me = self._session.incarnation
        return OwnerRecord(
            node,
            me,
            self._wanted.patterns(node),
            os.getpid(),
            socket.gethostname(),
            state_handlers=self._wanted.state_handlers(node),
        )

    async def _store(
        self, node: str, before: OwnerRecord | None, owner: OwnerRecord, deadline: float
    ) -> bool:
        """Replace a node's record, and wait until this process sees it; False if another was faster."""
        left = deadline - time.monotonic()
        if left <= 0:
            raise NotStoredError(f'node "{node}": who handles its events could not be stored in time')
        message = wire.encode_owner(self._session.subjects, owner, expected=before.sequence if before else 0)
        what = f'the owner of node "{node}"'
        try:
            sequence = await store_messages(self._session.connection, [message], timeout=left, what=what)
        except RefusedError as refusal:
            await self._session.reach(refusal.newest, deadline)
            if self._owners.get(node) is before:
                await self._session.start_afresh()  # what was expected is gone, and no message says so
            return False
        await self._session.reach(sequence, deadline)
        if before is not None:
            self._session.background(self._thin(node))
        return True

    async def _thin(self, node: str) -> None:
        """Let go of old records; who was away needs those that it missed, to know what was not its own."""
        try:
            await self._session.stream.keep_newest(self._session.subjects.owner_prefix + node, KEPT)
        except HappenError as error:
            log.debug('old owners of "%s": %s', node, error)

    def renew(self, node: str) -> None:
        """Store the patterns of our handlers, soon: others name them where nobody handles an event."""
        if node not in self._renewing and self.is_ours(node) and not self.leaving:
            self._renewing.add(node)
            self._session.background(self._renewed(node))

    async def _renewed(self, node: str) -> None:
        await asyncio.sleep(RENEW)
        self._renewing.discard(node)
        owner = self._owners.get(node)
        if owner is None or not self.is_ours(node):
            return
        mine = replace(self._mine(node), since=owner.claimed, takeover=owner.takeover)
        if (owner.patterns, owner.state_handlers) != (mine.patterns, mine.state_handlers):
            try:
                await self._store(node, owner, mine, time.monotonic() + self._session.timeout)
            except HappenError as error:
                log.debug('the patterns of "%s": %s', node, error)

    async def release(self, node: str, deadline: float) -> None:
        """Let nobody own a node that is ours."""
        while self.is_ours(node):
            await self._store(node, self._owners.get(node), OwnerRecord(node, None), deadline)

    async def release_all(self, seconds: float) -> None:
        """Let go of all nodes that are ours, so that others need not wait, and take over none any more."""
        self.leaving = True
        if self._keeping is not None:
            self._keeping.cancel()
        ours = [node for node in self._owners if self.is_ours(node)]
        deadline = time.monotonic() + seconds
        await asyncio.gather(*(self.release(node, deadline) for node in ours), return_exceptions=True)

    # -- taking over ---------------------------------------------------------------------------------

    async def _watch(self) -> None:
        """Ask the owners of nodes that we have handlers for, and take over from one that is gone."""
        crowd = 0
        try:
            while waiting := [node for node in self._wanted.nodes() if not self.is_ours(node)]:
                for node in waiting:
                    if self.owner_of(node) is None:
                        await self._take_over(node, self._owners.get(node))
                owners = {owner.incarnation for node in waiting if (owner := self.owner_of(node))}
                crowd = max([0, *[await self._ask(owner) for owner in owners if owner]])
                await asyncio.sleep(ASK_EVERY * max(1.0, crowd / FEW))
        finally:
            self._keeping = None

    async def _ask(self, incarnation: str) -> int:
        """How many others wait for an owner; takes over its nodes when it is gone."""
        answer = await self._session.ask(incarnation, {}, ASK_EVERY)
        if answer is not None:
            self._silent.pop(incarnation, None)
            return int(answer.get("waiters", 0))
        steady = self._session.connection.connected and time.monotonic() - self._up_since > STEADY
        self._silent[incarnation] = self._silent.get(incarnation, 0) + 1 if steady else 0
        if self._silent[incarnation] >= SURE:
            for node in self._wanted.nodes():
                owner = self.owner_of(node)
                if owner is not None and owner.incarnation == incarnation:
                    await self._take_over(node, owner)
        return 0

    async def _take_over(self, node: str, before: OwnerRecord | None) -> None:
        died = before is not None and before.incarnation is not None
        mine = replace(self._mine(node), takeover=died)
        try:
            await self._store(node, before, mine, time.monotonic() + self._session.timeout)
        except HappenError as error:
            log.debug('taking over "%s": %s', node, error)
