"""The other processes of a space, and questions to them. On the IO thread."""

from __future__ import annotations

import asyncio
import logging
import math
import os
import socket
import time
from typing import TYPE_CHECKING, Any, Final

import orjson

from happen_nb._journal import fields, presence
from happen_nb._journal.presence import connected_processes
from happen_nb.errors import HappenConnectionError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from happen_nb._journal.connection import CoreMessage
    from happen_nb._model.positions import Position
    from happen_nb._runtime.log import Log

    Respond = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]

logger = logging.getLogger("happen_nb")

MAX_QUESTION_BYTES: Final = 250_000
"""Maximum size of the ids in one question; a longer question is asked in parts."""
LEAVING_SECONDS: Final = 2.0
"""Seconds that an ending process has to leave: a kernel that is shut down completes its cell first."""
LEAVING_POLL_SECONDS: Final = 0.1
WAIT_SECONDS: Final = 1.0
"""Seconds that a process has to handle events before it answers; then it is asked again."""
ANSWER_SECONDS: Final = 2.0  # seconds that it then has to answer
MAX_WAIT_SECONDS: Final = 10.0
"""Maximum seconds that this process takes to handle events before it answers another one."""


def with_wait(
    question: dict[str, Any], position: int, deadline: float = math.inf
) -> tuple[dict[str, Any], float]:
    """Give a process time to read up to a position and to handle events before it answers.

    Returns the question, and the seconds after which an answer is late.
    """
    seconds = max(0.0, min(WAIT_SECONDS, deadline - time.monotonic()))
    return question | {"position": position, "wait": round(seconds * 1000)}, seconds + ANSWER_SECONDS


def deadline_of(question: dict[str, Any]) -> float:
    """Return until when this process may wait before it answers a question."""
    seconds: float = question["wait"] / 1000
    return time.monotonic() + min(seconds, MAX_WAIT_SECONDS)


class Peers:
    """Questions to the other processes of a space, and theirs, which `respond` answers."""

    def __init__(self, log: Log, respond: Respond) -> None:
        self._log = log
        self._respond = respond

    async def open(self) -> None:
        connection, subjects = self._log.connection, self._log.subjects
        await connection.subscribe(subjects.who, self._on_presence_question)
        await connection.subscribe(subjects.live_prefix + self._log.incarnation, self._on_question)

    async def _on_presence_question(self, message: CoreMessage) -> None:
        answer = {"incarnation": self._log.incarnation, "pid": os.getpid(), "host": socket.gethostname()}
        try:
            question = presence.decode_question(message.data)
            if "applies" in question:
                answer |= await self._respond(question)
        except fields.UNREADABLE as error:
            logger.info("a question on %s: %s: %s", message.subject, type(error).__name__, error)
        await self._log.connection.send(message.reply, orjson.dumps(answer))

    async def _on_question(self, message: CoreMessage) -> None:
        self._log.background(self._answer(message))

    async def _answer(self, message: CoreMessage) -> None:
        try:
            answer = await self._respond(presence.decode_question(message.data))
            if message.reply:
                await self._log.connection.send(message.reply, presence.encode_message(answer))
        except asyncio.CancelledError:
            raise
        except Exception as error:  # the question may be anything
            logger.info("a question on %s: %s: %s", message.subject, type(error).__name__, error)

    async def others(self) -> list[str]:
        """Return the other processes that are connected to the space and stay, described for people."""
        log, give_up = self._log, time.monotonic() + LEAVING_SECONDS
        while found := await connected_processes(log.connection, log.subjects, wait=log.timeout):
            if time.monotonic() > give_up:
                break
            await asyncio.sleep(LEAVING_POLL_SECONDS)
        return found

    async def may_apply(self, node: str, key: str, position: Position, timeout: float) -> bool:
        """Return True if another process has a state handler, and has not failed to apply an event.

        One that does not answer, such as a busy one, may have it.
        """
        log, answers, answered = self._log, list[bool](), asyncio.Event()

        async def on_answer(message: CoreMessage) -> None:
            applies = presence.decode_applies(message.data, log.incarnation)
            if applies is not None:
                answers.append(applies)
                answered.set()

        inbox = log.connection.new_inbox()
        subscription = await log.connection.subscribe(inbox, on_answer)
        try:
            others = len(await connected_processes(log.connection, log.subjects, wait=log.timeout))
            question = presence.encode_message({"applies": [node, key, *position]})
            await log.connection.send(log.subjects.who, question, reply=inbox)
            async with asyncio.timeout(timeout):
                while len(answers) < others and not any(answers):
                    answered.clear()
                    await answered.wait()
        except (TimeoutError, HappenConnectionError):
            return True
        finally:
            await log.connection.unsubscribe(subscription)
        return any(answers)

    async def ask(self, incarnation: str, question: dict[str, Any], timeout: float) -> dict[str, Any] | None:
        """Ask another process; None if it is gone, empty if it gives no readable answer in time.

        A question about more events than fit into a message is asked in parts.
        """
        found: dict[str, Any] = {}
        parts = self._split(question)
        for part in parts:
            answer = await self._ask_once(incarnation, part, timeout)
            if not answer or len(parts) == 1:
                return answer
            position = min(answer["position"], found.get("position", answer["position"]))
            found = {**answer, "position": position, "open": [*found.get("open", ()), *answer["open"]]}
        return found

    def _split(self, question: dict[str, Any]) -> list[dict[str, Any]]:
        if "events" not in question:
            return [question]
        room = min(MAX_QUESTION_BYTES, max(1, self._log.max_body))
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
        body = orjson.dumps({**question, "from": self._log.incarnation})
        subject = self._log.subjects.live_prefix + incarnation
        data = await self._log.connection.request(subject, body, timeout=timeout)
        if not data:
            return None if data is None else {}
        try:
            return presence.decode_answer(question, data)
        except fields.UNREADABLE as error:
            logger.info("the answer of process %s cannot be read: %s", incarnation, error)
            return {}

    async def ask_all(
        self, incarnations: Iterable[str], question: dict[str, Any], timeout: float
    ) -> dict[str, dict[str, Any] | None]:
        """Ask several processes at once; return the answer of each, as `ask` does."""
        others = list(incarnations)
        answers = await asyncio.gather(*(self.ask(other, question, timeout) for other in others))
        return dict(zip(others, answers, strict=True))
