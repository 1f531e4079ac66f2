"""One space at work in this process: everything below the facade, built from the bottom up."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from happen_nb._journal.connection import Connection
from happen_nb._journal.wire import Subjects
from happen_nb._runtime.cells import notebook_name
from happen_nb._runtime.dispatcher import Dispatcher
from happen_nb._runtime.log import Log
from happen_nb._runtime.ownership import Ownership
from happen_nb._runtime.peers import Peers
from happen_nb._runtime.registrations import Registrations
from happen_nb._runtime.replies import DeadlockDetector, ReplyRouter
from happen_nb._runtime.writer import Writer
from happen_nb.errors import ClosedError, HappenTimeoutError, SpaceInUseError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from happen_nb._journal.auth import Credentials
    from happen_nb._journal.stream import Info, Options

logger = logging.getLogger("happen_nb")


class Runtime:
    """The log of a space, its peers, and the handlers of this process.

    `open`, `clear`, `ask_owners` and `close` run on the IO thread.
    """

    def __init__(self, log: Log) -> None:
        self.log = log
        self.writer = Writer(log)
        self.peers = Peers(log, self._respond)
        self.registrations = Registrations()
        self.ownership = Ownership(log, self.peers, self.registrations)
        self.replies = ReplyRouter(log, self.peers)
        self.dispatcher = Dispatcher(log, self.peers, self.registrations, self.ownership, self.replies)
        self.deadlocks = DeadlockDetector(self.dispatcher.queues, self.replies)
        self.in_flight = self.dispatcher.in_flight
        self.workers = self.dispatcher.workers

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
        """Connect, create the space if it is new, and read its states."""
        connection = await Connection.open(servers, credentials, timeout=timeout)
        log = Log(connection, Subjects(space), incarnation, timeout)
        self = cls(log)
        try:
            info = await self._start_over_unfinished(await log.stream.ensure(options))
            await self.peers.open()
            await connection.subscribe(log.subjects.reply_prefix + log.address, self.replies.on_message)
            position = await log.open(info)
            if not await log.replica.reached(position, timeout):
                raise HappenTimeoutError(f'the space "{space}" could not be read within {timeout:g} s')
        except BaseException:
            await self.close()
            raise
        return self

    async def _start_over_unfinished(self, info: Info) -> Info:
        """Empty a space whose fork was killed.

        Raises
        ------
        SpaceInUseError
            The fork still goes on.
        """
        if not info.unfinished:
            return info
        space = self.log.subjects.space
        if others := await self.peers.others():
            raise SpaceInUseError(
                f'the space "{space}" is still being filled by a fork of "{info.unfinished}" '
                f"({', '.join(others)}); connect when it is whole"
            )
        logger.warning(
            'the space "%s" starts over, empty: the process that forked "%s" into it was killed',
            space,
            info.unfinished,
        )
        return await self.log.stream.start_over(info)

    async def clear(self) -> None:
        """Empty the space, and wait until this process sees it."""
        await self.log.clear(self.ownership.all)

    async def ask_owners(
        self, question: dict[str, Any], timeout: float
    ) -> tuple[list[dict[str, Any]], set[str]]:
        return await self.peers.ask_all(self.ownership.incarnations(), question, timeout)

    async def _respond(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer another process that asks what this one is doing."""
        if "events" in question:
            position, left = self.log.position, self.dispatcher.open(question["events"])
            await self.dispatcher.flush()  # last: what is not open any more is stored when the other reads it
            return {"position": position, "open": left, "by": self.log.incarnation}
        if question.get("awaited"):
            self.deadlocks.mark_awaited(question["send"])
        if "send" in question or "cancel" in question:
            return self.replies.answer(question)
        return {"waiters": self.ownership.count_askers(question.get("from", "")), "notebook": notebook_name()}

    async def close(self) -> None:
        """Let other processes take over, stop following and disconnect."""
        if self.log.is_open:
            await self.dispatcher.close()
        closed = ClosedError(f'the space "{self.log.subjects.space}" was closed while this waited')
        self.log.stop(closed)
        self.dispatcher.give_up(closed)
        await self.log.close()
