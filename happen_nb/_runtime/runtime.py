"""One space at work in this process: everything below the facade, built from the bottom up."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final, Self

from happen_nb._journal.connection import Connection, notebook_name
from happen_nb._journal.wire import Subjects
from happen_nb._model.colours import NodeColours
from happen_nb._model.records import CommitRecord, EventRecord
from happen_nb._runtime.dispatcher import Dispatcher
from happen_nb._runtime.log import Log
from happen_nb._runtime.ownership import Ownership
from happen_nb._runtime.peers import Peers, deadline_of
from happen_nb._runtime.registrations import Registrations
from happen_nb._runtime.replies import DeadlockDetector, ReplyRouter
from happen_nb._runtime.tracebacks import to_raise
from happen_nb._runtime.waiting import Closing, Signal
from happen_nb._runtime.writer import Writer
from happen_nb.errors import ClosedError, HappenError, HappenTimeoutError, SpaceInUseError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from happen_nb._journal.addresses import Credentials
    from happen_nb._journal.stream import Info, Options
    from happen_nb._runtime.first_run import Recall
    from happen_nb._runtime.replica import Applied, Replica
    from happen_nb._runtime.stepping import Stepper

logger = logging.getLogger("happen_nb")


class LocalNodes(dict[str, CommitRecord | None]):
    """The names of the nodes that this process has created, with the newest commit of each at that time."""

    def delete(self, name: str) -> None:
        """Leave out a node until it has a state again, or is created again."""
        if name in self:
            self[name] = _DELETED

    def keep(self, replica: Replica) -> None:
        """Keep the nodes that have a state again after their deletion; the space is about to be cleared."""
        for name in list(self):  # another thread may create a node
            newest = replica.newest(name)
            if newest is not None and self.holds(name, newest):
                self[name] = None

    def holds(self, name: str, newest: CommitRecord | None) -> bool:
        """Return True if this process has created the node, and it was not deleted since."""
        if name not in self:
            return False
        created = self[name]
        return created is not _DELETED if newest is None else not newest.deleted or newest is created


_DELETED: Final = CommitRecord("", 0, 0, 0, b"")


class Watcher:
    """A function that is called with each commit of a node, on the IO thread."""

    def __init__(self, node: str, take: Callable[[Applied], None], source: object = None) -> None:
        self.node = node
        self.take = take
        self.source = source  # the public object of the watch, if a user created it
        self.active = True
        self.is_dropped = False
        """True if it shall not be called with the commits that it still has, either."""


class Watchers:
    """The active watchers, by node."""

    def __init__(self) -> None:
        self.muted = False  # True while no watcher is called
        self._watchers: dict[str, list[Watcher]] = {}

    def on_commit(self, applied: Applied) -> None:
        if self.muted:
            return
        for watcher in self._watchers.get(applied.record.node, ()):
            watcher.take(applied)

    def all(self) -> list[Watcher]:
        return [watcher for watchers in list(self._watchers.values()) for watcher in watchers]

    def add(self, watcher: Watcher) -> None:
        self._watchers[watcher.node] = [*self._watchers.get(watcher.node, ()), watcher]

    def remove(self, watcher: Watcher) -> None:
        watcher.active, watcher.is_dropped = False, True
        node = watcher.node
        self._watchers[node] = [each for each in self._watchers.get(node, ()) if each is not watcher]

    def end(self, node: str) -> None:
        """End the watchers of a deleted node, after the commits that they have received."""
        for watcher in self._watchers.pop(node, ()):
            watcher.active = False

    def stop(self) -> None:
        """Stop all watchers."""
        for watcher in self.all():
            self.remove(watcher)


class Runtime:
    """The log of a space, its peers, and the handlers of this process.

    `open`, `clear`, `ask_owners` and `close` run on the IO thread. The other parts may be asked after `shut`,
    too; `checked` and `log` then raise the reason.
    """

    def __init__(self, log: Log) -> None:
        self.space = log.subjects.space
        self.is_open = True
        self.is_closing = False
        self._closing = Closing(self._close)
        self.on_closing: Signal[[]] = Signal()
        self.on_closed: Signal[[]] = Signal()
        # What this process has stored; the flag of an event is True if it was stored before.
        self.on_own_event: Signal[EventRecord, bool] = Signal()
        self.on_own_commit: Signal[Applied] = Signal()
        self._why_shut: Exception = ClosedError(
            f'the space "{self.space}" was closed; connect again, and create its nodes again'
        )
        self._log = log
        self.writer = Writer(log)
        self.peers = Peers(log, self._respond)
        self.registrations = Registrations()
        self.ownership = Ownership(log, self.peers, self.registrations)
        self.replies = ReplyRouter(log, self.peers)
        self.dispatcher = Dispatcher(log, self.peers, self.registrations, self.ownership, self.replies)
        self.deadlocks = DeadlockDetector(self.dispatcher.queues, self.replies)
        self.clock = self.dispatcher.clock
        self.precedence = self.dispatcher.precedence
        self.advancing = threading.Lock()  # held by the thread that advances a manual clock
        self.in_flight = self.dispatcher.in_flight
        self.workers = self.dispatcher.workers
        self.local = LocalNodes()
        self.watchers = Watchers()
        self._colours = NodeColours()
        log.replica.on_commit.connect(self.watchers.on_commit)
        log.on_clear.connect(lambda *_: self.local.keep(log.replica))

    @property
    def log(self) -> Log:
        """The log; raises if the space is closed."""
        if not self.is_open:
            self.check_open()
        return self._log

    def colours(self) -> dict[str, int]:
        """Return the numbers of the colours of all nodes. From any thread."""
        owned = (owner.node for owner in self.ownership.all())
        return self._colours.of([*self.local, *owned, *self._log.replica.cut().nodes])

    @property
    def recall(self) -> Recall | None:
        """In the space of a second run, the memory of the first one."""
        return self.dispatcher.ticks.recall

    @property
    def checked(self) -> Self:
        """The runtime itself; raises if the space is closed."""
        self.check_open()
        return self

    @property
    def stepper(self) -> Stepper:
        """Pauses the space and steps through it; most programs never do."""
        from happen_nb._runtime.stepping import Stepper

        return Stepper(self)

    def check_open(self) -> None:
        if not self.is_open:
            raise to_raise(self._why_shut)

    def shut(self, why: Exception | None = None) -> None:
        """Refuse every further use of the space, with an error that states the reason."""
        if why is not None:
            self._why_shut, self._log.connection.why_closed = why, str(why)
        self.is_open = False
        self.watchers.stop()

    def deadline(self) -> float:
        return time.monotonic() + self.log.timeout

    @classmethod
    async def connect(
        cls,
        servers: Sequence[str],
        credentials: Credentials,
        space: str,
        options: Options,
        *,
        incarnation: str,
        timeout: float,
    ) -> tuple[Self, Info]:
        """Connect, and create the space if it is new; `open` opens it, or it is closed."""
        connection = await Connection.open(servers, credentials, timeout=timeout)
        self = cls(Log(connection, Subjects(space), incarnation, timeout))
        async with self._closed_on_error():
            return self, await self._log.stream.ensure(options)

    async def open(self, info: Info) -> None:
        """Read the states, and take part in the space. Once in a process: two would share its nodes."""
        log = self._log
        async with self._closed_on_error():
            info = await self._start_over_unfinished(info)
            await self.peers.open()
            await self.precedence.open()
            subject = log.subjects.reply_prefix + log.address
            await log.connection.subscribe(subject, self.replies.on_message)
            position = await log.open(info)
            if not await log.replica.reached(position, log.timeout):
                what = f'the space "{self.space}" could not be read within {log.timeout:g} s'
                raise HappenTimeoutError(f"{what}; connect with a longer timeout")

    @asynccontextmanager
    async def _closed_on_error(self) -> AsyncIterator[None]:
        """Disconnect after an error; after an interrupt, also delete a space that is new."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                with suppress(HappenError):
                    await self._log.stream.drop_new()
            await self.close()
            raise

    async def _start_over_unfinished(self, info: Info) -> Info:
        """Empty a space whose fork was killed; SpaceInUseError if the fork is still in progress."""
        if not info.unfinished:
            return info
        space = self.space
        if others := await self.peers.others():
            raise SpaceInUseError(
                f'the space "{space}" is still being filled by a fork of "{info.unfinished}" '
                f"({', '.join(others)}); connect when it is complete"
            )
        if not info.temporary:  # else nobody has named it
            logger.warning(
                'the space "%s" starts over, empty: the process that was forking "%s" into it was killed',
                space,
                info.unfinished,
            )
        return await self._log.stream.start_over(info)

    async def clear(self, clock: Callable[[], str | None] | None = None) -> None:
        """Empty the space, and wait until this process sees it.

        `clock` returns the time at which a manual clock continues, or None for a real clock. By default, the
        clock stays as it is.
        """
        await self._log.clear(self.ownership.all, clock or self._manual_time)

    def _manual_time(self) -> str | None:
        return self.clock.now_text() if self.clock.manual else None

    def has_other_owners(self) -> bool:
        """Return True if another process may have something to handle."""
        return bool(self._other_owners())

    def _other_owners(self) -> set[str]:
        replaced = {each.incarnation for each in self.ownership.replaced()}
        return (self.ownership.incarnations() | replaced) - {self._log.incarnation}

    async def ask_owners(
        self, question: dict[str, Any], timeout: float
    ) -> tuple[list[dict[str, Any]], set[str]]:
        """Ask the other processes that own or have owned nodes.

        Returns their answers, and those that are too busy to answer: these may do anything later.
        """
        answers = await self.peers.ask_all(self._other_owners(), question, timeout)
        self.ownership.forget({by for by, answer in answers.items() if answer is None})
        busy = {by for by, answer in answers.items() if answer == {}}
        return [answer for answer in answers.values() if answer], busy

    async def _respond(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer a question of another process."""
        if "events" in question:
            await self._wait_handled(question)
            position, left = self._log.position, self.dispatcher.open(question["events"])
            runs = self.dispatcher.durables.run_on(question.get("durable", ""))
            # Last: ended handlings are stored before the other process reads.
            await self.dispatcher.handled.flush()
            return {"position": position, "open": left, "durable": runs, "by": self._log.incarnation}
        if "applies" in question:
            return {"applies": self.dispatcher.lanes.may_apply(*question["applies"])}
        if "clock" in question:
            return await self._wait_idle(question)
        if "held" in question:
            return await self.stepper.answer_held(question)
        if "step" in question:
            return await self.stepper.answer_step(question)
        if question.get("awaited"):
            self.deadlocks.mark_awaited(question["send"])
        if "send" in question or "cancel" in question:
            return self.replies.answer(question)
        return {"waiters": self.ownership.count_askers(question.get("from", "")), "notebook": notebook_name()}

    async def _wait_idle(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer a process that advances the clock: when all is handled here, or after the time it gives."""
        deadline = deadline_of(question)
        await self._log.replica.reached(question["position"], deadline - time.monotonic())
        left = await self.in_flight.drain(lambda _: True, deadline)
        position = self._log.position
        busy = bool(left) or position < question["position"]
        return {
            "position": position,
            "busy": busy,
            "next": self.clock.next_timer(),
            "by": self._log.incarnation,
        }

    async def _wait_handled(self, question: dict[str, Any]) -> None:
        """Take up to the time that the question allows, to read events and handle their effects."""
        deadline = deadline_of(question)
        ids = frozenset(question["events"])
        if question["wait"]:
            await self._log.replica.reached(question["position"], deadline - time.monotonic())
            await self.in_flight.drain(
                lambda work: work.general or not ids.isdisjoint(work.origin().path), deadline
            )

    async def discard(self) -> None:
        """Delete the space, and disconnect."""
        try:
            await self.dispatcher.close()  # it still stores handlings, for which it needs the stream
            await self._log.stream.drop()
        finally:
            await self.close()

    async def close(self) -> None:
        """Let other processes take over, stop following and disconnect.

        It continues if its caller is interrupted.
        """
        await self._closing.run()

    async def _close(self) -> None:
        if self._log.is_open:
            await self.dispatcher.close()
        closed = self._log.closed_meanwhile()
        self._log.stop(closed)
        self.in_flight.close(closed)  # first: abandoned work does not count as done
        self.dispatcher.give_up(closed)
        await self._log.close()
