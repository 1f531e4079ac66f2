"""One space on one connection: what the facade asks of the journal. Everything here runs on the IO thread."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import socket
import time
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

import orjson

from happen_nb._journal import exchange, fields, wire
from happen_nb._journal.connection import Connection
from happen_nb._journal.follower import Follower
from happen_nb._journal.publish import RefusedError, Resend, store_messages
from happen_nb._journal.slice import read_commits
from happen_nb._journal.spaces import connected_processes
from happen_nb._journal.stream import Info, Options, Stream
from happen_nb._journal.wire import Subjects
from happen_nb._model.records import NO_ORIGIN, CommitRecord, Cut, EventRecord, Origin
from happen_nb._runtime.dispatcher import Dispatcher
from happen_nb._runtime.feed import Feed
from happen_nb._runtime.replica import Applied, Expected, Replica
from happen_nb.errors import (
    ClosedError,
    HappenError,
    HappenTimeoutError,
    NotStoredError,
    OutcomeUnknownError,
    SpaceInUseError,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from typing import Self

    from happen_nb._journal.auth import Credentials
    from happen_nb._journal.connection import CoreMessage
    from happen_nb._model.frozen import FrozenDict
    from happen_nb._model.positions import Positions

log = logging.getLogger("happen_nb")

HEADER_RESERVE_BYTES = wire.HEADER_RESERVE_BYTES
QUESTION_BYTES = 250_000
"""Bytes of the ids in one question; what asks for more asks several."""
TRIM_EVERY = 256
JUST_GONE = 0.1
"""Seconds within which the server notices that a process on its machine has ended."""
STALLED = 1.0
"""Seconds after which a wait for the follower makes it look again."""
STALLED_CLUSTER = 0.5
"""The same with replicas: the consumer may be on a server that lags, and another one is made."""


@dataclass(frozen=True, slots=True)
class Change:
    """A commit to be: what to store, and what must not have changed since it was computed.

    Parameters
    ----------
    node : str
    state : FrozenDict
    body : bytes or None
        The state as JSON; None deletes the node.
    cut : Cut
        The cut that was read; its record of the node must still be the newest.
    viewed : set of str or None
        The nodes whose state was viewed, if they too must not have changed.
    """

    node: str
    state: FrozenDict
    body: bytes | None
    cut: Cut
    viewed: frozenset[str] | None = None
    origin: Origin = NO_ORIGIN
    events: tuple[EventRecord, ...] = ()
    positions: Positions | None = None
    """How far the node's state handlers have come with it; None: as far as with the record before."""

    @property
    def base(self) -> CommitRecord | None:
        """The record that the change follows."""
        return self.cut.nodes.get(self.node)


class Session:
    """A connection, the stream of a space, and the replica that follows it.

    Parameters
    ----------
    connection : Connection
    subjects : Subjects
    incarnation : str
        Names this process in the space, until it ends.
    timeout : float
        Seconds for each call that has no other.
    """

    def __init__(self, connection: Connection, subjects: Subjects, incarnation: str, timeout: float) -> None:
        self.connection = connection
        self.subjects = subjects
        self.incarnation = incarnation
        self.timeout = timeout
        self.stream = Stream(connection, subjects, timeout)
        self.replica = Replica()
        self.feed = Feed(self.replica)
        self.dispatch = self.feed.dispatch = Dispatcher(self)
        self._follower = Follower(self.stream, self.feed)
        self._info: Info | None = None
        self.address = f"{incarnation}{secrets.token_hex(2)}"
        """Begins the ids that this connection gives, and is where replies to its events go."""
        self._count = count(1)
        self._trimmed: set[str] = set()
        self._tasks: set[asyncio.Task[Any]] = set()

    @classmethod
    async def open(
        cls,
        servers: Sequence[str],
        credentials: Credentials,
        space: str,
        options: Options,
        *,
        incarnation: str,
        timeout: float,
    ) -> Self:
        """Connect, make the space if it is new, and read its states."""
        connection = await Connection.open(servers, credentials, timeout=timeout)
        self = cls(connection, Subjects(space), incarnation, timeout)
        try:
            self._info = await self._whole(await self.stream.ensure(options))
            connection.stream_problem = self._stream_problem
            await connection.subscribe(self.subjects.who, self._answer_who)
            await connection.subscribe(self.subjects.live_prefix + incarnation, self._answer_live)
            await connection.subscribe(self.subjects.reply_prefix + self.address, self.dispatch.replies.hear)
            position = await self._follower.start(self._info)
            if not await self.replica.reached(position, timeout):
                raise HappenTimeoutError(f'the space "{space}" could not be read within {timeout:g} s')
        except BaseException:
            await self.close()
            raise
        return self

    async def _whole(self, info: Info) -> Info:
        """Start over with a space whose fork was killed.

        Raises
        ------
        SpaceInUseError
            The fork still goes on.
        """
        if not info.unfinished:
            return info
        if others := await self.others():
            raise SpaceInUseError(
                f'the space "{self.subjects.space}" is still being filled by a fork of "{info.unfinished}" '
                f"({', '.join(others)}); connect when it is whole"
            )
        log.warning(
            'the space "%s" starts over, empty: the process that forked "%s" into it was killed',
            self.subjects.space,
            info.unfinished,
        )
        return await self.stream.start_over(info)

    @property
    def info(self) -> Info:
        """The stream as it was when the session opened or last looked."""
        assert self._info is not None
        return self._info

    @property
    def identity(self) -> tuple[str, str, str]:
        """Tells this space from every other on any server, also from its copy in another store."""
        return self.subjects.stream, self.info.created, self.connection.server_id

    async def change(self, options: Options) -> None:
        """Store options that were given explicitly."""
        before, self._info = self.info, await self.stream.ensure(options)
        if self._info.created != before.created:
            await self._follower.verify()  # it was dropped, and is made anew

    async def close(self) -> None:
        """Let others take over, stop following and disconnect."""
        if self._info is not None:
            await self.dispatch.close()
        for task in self._tasks:
            task.cancel()
        closed = ClosedError(f'the space "{self.subjects.space}" was closed while this waited')
        self.feed.close(closed)
        self.dispatch.end(closed)
        await self._follower.stop()
        await self.connection.close()

    def new_id(self) -> str:
        """An id for an event or a commit; any thread may ask for one."""
        return f"{self.address}-{next(self._count)}"

    # -- committing ----------------------------------------------------------------------------------

    async def commit(self, change: Change, deadline: float) -> Applied | None:
        """Store a change and wait until this process sees it.

        Parameters
        ----------
        deadline : float
            By ``time.monotonic()``.

        Returns
        -------
        Applied or None
            None if something else was stored first: the replica has it now, compute again.

        Raises
        ------
        NotStoredError, OutcomeUnknownError
            The time was up.
        TooLargeError, ServerError
            The server does not take it.
        """
        if time.monotonic() >= deadline:
            raise NotStoredError(
                f'state.set of node "{change.node}": other writers were faster until the time was up; '
                "nothing was stored"
            )
        id = self.new_id()
        before = self.uncertain()
        messages = self._messages(change, id)
        seen = self.replica.expect(id, change.state)
        try:
            applied = await self._store(change, id, messages, seen, deadline)
        except RefusedError as refusal:
            applied = await self._after_refusal(refusal.newest, change, seen, deadline)
            if applied is None and before != self.uncertain():
                applied = await self._find_own(change, id)
                if applied is None and refusal.resent:
                    raise OutcomeUnknownError(
                        f'state.set of node "{change.node}": the answer was lost and the space was emptied '
                        "or purged meanwhile; if the commit was stored before that, it is gone"
                    ) from None
        finally:
            self.replica.forget(id)
        if applied is not None and applied.record.revision % TRIM_EVERY == 0:
            self.background(self._trim(applied.record, len(change.body or b"")))
        return applied

    def uncertain(self) -> tuple[int, int]:
        """Differs from an earlier answer if what was stored since may be gone, unseen by this process."""
        return self._follower.epoch, self._follower.cleared

    def resend(self, lives: float = float("inf")) -> Resend:
        """What goes with messages that are sent again, so that a clear cannot make them count twice."""
        return Resend(self.subjects, self._follower.cleared, lives)

    def _messages(self, change: Change, id: str) -> list[wire.Message]:
        base = change.base
        commit = wire.encode_commit(
            self.subjects,
            change.node,
            change.body,
            id=id,
            revision=1 if base is None else base.revision + 1,
            read=change.cut.position,
            expected=0 if base is None else base.sequence,
            origin=change.origin,
            positions=change.positions if change.positions is not None or base is None else base.positions,
        )
        guards: list[wire.Message] = []
        if change.viewed is not None and self.stream.replicas == 1:
            commit = wire.guard_all(self.subjects, commit, change.cut.written)
        elif change.viewed is not None:
            newest = {name: change.cut.nodes.get(name) for name in change.viewed - {change.node}}
            guards = [
                wire.encode_guard(self.subjects, self.subjects.state(name), record.sequence if record else 0)
                for name, record in newest.items()
            ]
        most, ttl = wire.MAX_BATCH_MESSAGES - len(guards), self.info.event_ttl
        return [*guards, *wire.with_events(self.subjects, commit, change.events, ttl=ttl, most=most)]

    async def _store(
        self, change: Change, id: str, messages: list[wire.Message], seen: Expected, deadline: float
    ) -> Applied | None:
        what = f'state.set of node "{change.node}"'
        left = max(0.001, deadline - time.monotonic())
        outcome = await store_messages(
            self.connection, messages, timeout=left, what=what, future=seen.future, resend=self.resend()
        )
        if isinstance(outcome, Applied):
            return outcome
        await self.reach(outcome, deadline)
        return seen.applied or await self._passed_over(outcome, change, id)

    async def _passed_over(self, sequence: int, change: Change, id: str) -> Applied:
        """A stored commit that the replica never got: a fresh start or a clear passed over it."""
        base = change.base
        revision = 1 if base is None else base.revision + 1
        now, read = time.time_ns(), change.cut.position
        record = CommitRecord(change.node, sequence, revision, now, change.body, id, read, change.origin)
        if change.body is not None:
            record.adopt(change.state)
        return await self._find_own(change, id) or Applied(record, base)

    async def _after_refusal(
        self, newest: int, change: Change, seen: Expected, deadline: float
    ) -> Applied | None:
        """Wait until the replica has what stood in the way; it may have been this very commit."""
        taken = newest > 0 and any(
            event.has_caller_id for event in change.events
        )  # whoever emits looks the id up
        if newest > self.replica.position:
            await self.reach(newest, deadline)
        elif not taken and self.replica.unchanged(change.node, change.cut):
            await self.start_afresh()  # what was expected is gone, and no message says so: expired or purged
        return seen.applied

    async def start_afresh(self) -> None:
        """Read again what is stored: something that is held is gone."""
        await self._follower.verify(gone=True)

    async def _find_own(self, change: Change, id: str) -> Applied | None:
        """Look for a commit among the stored ones, when the follower may have missed it."""
        own: Applied | None = None
        previous = change.base
        for record in await read_commits(self.stream, change.node):
            if record.id == id:
                own = Applied(record, previous)
            previous = record
        return own

    async def reach(self, sequence: int, deadline: float) -> None:
        """Wait until the replica is at `sequence`, looking again if it does not come."""
        stalled = STALLED if self.stream.replicas == 1 else STALLED_CLUSTER
        while not await self.replica.reached(sequence, min(stalled, max(0.001, deadline - time.monotonic()))):
            if time.monotonic() >= deadline:
                raise OutcomeUnknownError(
                    f'the space "{self.subjects.space}" is at {self.replica.position}, and {sequence} '
                    "does not arrive in time"
                )
            self._follower.reconnect_if_stuck()
            if self.stream.replicas > 1:  # the message may be gone; a barrier after it arrives all the same
                self.background(self._store_barrier())

    async def _store_barrier(self) -> None:
        try:
            await self.stream.store_barrier()
        except HappenError as error:
            log.debug("a barrier: %s; the next one will do", error)

    def background(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Do something that nobody waits for, until the session closes."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _trim(self, newest: CommitRecord, size: int) -> None:
        node = newest.node
        try:
            self._info = info = await self.stream.info()
            # By the server's clock, as are the times that it compares with: this machine's may be wrong.
            gone = await self.stream.trim(newest, size, info)
        except HappenError as error:
            log.debug('trimming "%s": %s; the next time will do', node, error)
            return
        if gone and node not in self._trimmed:
            self._trimmed.add(node)
            log.warning(
                'node "%s": its oldest commits are let go, the newest %s are kept; '
                "connect(history=...) keeps more",
                node,
                f"{info.history:,}",
            )

    # -- fresh reads ---------------------------------------------------------------------------------

    async def fresh(self, timeout: float, node: str | None = None) -> None:
        """Wait until the replica has everything that was stored before the call, by whomever.

        Parameters
        ----------
        timeout : float
            Seconds.
        node : str, optional
            Look, too, whether what is held of this node is still stored.
        """
        deadline = time.monotonic() + timeout
        await self.connection.wait_abandoned(min(timeout / 2, STALLED))
        if self.stream.replicas == 1:
            last = (await self._follower.verify(timeout=max(0.001, timeout))).last
        else:
            barrier = [wire.encode_barrier(self.subjects)]
            last = await store_messages(self.connection, barrier, timeout=timeout, what="a fresh read")
        await self.reach(last, deadline)
        if node is not None and self.replica.newest(node) is not None:
            await self._follower.verify_node(node)

    @property
    def position(self) -> int:
        """The sequence up to which this process has taken every message."""
        return self._follower.position

    async def _stream_problem(self) -> str | None:
        try:
            await self.stream.info()
        except HappenError as error:
            return self.stream.dropped if str(error) == self.stream.dropped else None
        return None

    # -- who is here ---------------------------------------------------------------------------------

    async def _answer_who(self, message: CoreMessage) -> None:
        me = {"incarnation": self.incarnation, "pid": os.getpid(), "host": socket.gethostname()}
        await self.connection.send(message.reply, orjson.dumps(me))

    async def _answer_live(self, message: CoreMessage) -> None:
        self.background(self._answered_live(message))

    async def _answered_live(self, message: CoreMessage) -> None:
        try:
            question = exchange.decode_question(message.data)
            answer = await self.dispatch.live(question)
            if message.reply:
                await self.connection.send(message.reply, exchange.encode(answer))
        except asyncio.CancelledError:
            raise
        except Exception as error:  # whoever asked may have sent anything
            log.info("a question on %s: %s: %s", message.subject, type(error).__name__, error)

    async def ask(self, incarnation: str, question: dict[str, Any], timeout: float) -> dict[str, Any] | None:
        """Ask another process; None if it is gone, empty if it gives no readable answer in time.

        A question about many events is asked in parts that a message can hold.
        """
        found: dict[str, Any] = {}
        parts = self._parts(question)
        for part in parts:
            answer = await self._ask_once(incarnation, part, timeout)
            if not answer or len(parts) == 1:
                return answer
            position = min(answer["position"], found.get("position", answer["position"]))
            found = {**answer, "position": position, "open": [*found.get("open", ()), *answer["open"]]}
        return found

    def _parts(self, question: dict[str, Any]) -> list[dict[str, Any]]:
        """A question, or the parts of one about more events than fit into a message."""
        if "events" not in question:
            return [question]
        room = min(QUESTION_BYTES, max(1, self.connection.max_payload - HEADER_RESERVE_BYTES))
        parts: list[list[str]] = [[]]
        size = 0
        for id in question["events"]:
            size += len(id.encode()) + 3
            if size > room and parts[-1]:
                parts.append([])
                size = len(id.encode()) + 3
            parts[-1].append(id)
        return [{**question, "events": ids} for ids in parts]

    async def _ask_once(
        self, incarnation: str, question: dict[str, Any], timeout: float
    ) -> dict[str, Any] | None:
        body = orjson.dumps({**question, "from": self.incarnation})
        data = await self.connection.request(self.subjects.live_prefix + incarnation, body, timeout=timeout)
        if not data:
            return None if data is None else {}
        try:
            return exchange.decode_answer(question, data)
        except fields.UNREADABLE as error:
            log.info("the answer of process %s cannot be read: %s", incarnation, error)
            return {}

    async def ask_owners(
        self, question: dict[str, Any], timeout: float
    ) -> tuple[list[dict[str, Any]], set[str]]:
        """Ask every other process that owns a node.

        Returns
        -------
        list of dict
            The answers.
        set of str
            The incarnations of those that listen and are too busy to answer: they may do anything later.
        """
        owners = {owner.incarnation for owner in self.dispatch.ownership.all() if owner.incarnation}
        others = sorted(owners - {self.incarnation})
        answers = await asyncio.gather(*(self.ask(other, question, timeout) for other in others))
        busy = {other for other, answer in zip(others, answers, strict=True) if answer == {}}
        return [answer for answer in answers if answer], busy

    async def others(self) -> list[str]:
        """The other processes that are connected to the space now, named for a person."""
        found = await connected_processes(self.connection, self.subjects, wait=self.timeout)
        if found:  # one that was just killed is still listed for an instant
            await asyncio.sleep(JUST_GONE)
            found = await connected_processes(self.connection, self.subjects, wait=self.timeout)
        return found

    # -- the whole space -----------------------------------------------------------------------------

    async def clear(self) -> None:
        """Empty the space, and wait until this process sees it."""
        position = await self.stream.clear(self.dispatch.ownership.all, self._follower.cleared)
        await self.reach(position, time.monotonic() + self.timeout)
