"""A program that owns a node without happen_nb, and sends the replies that a test wants."""

from __future__ import annotations

import asyncio
import json
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Self

import nats

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from nats.aio.msg import Msg

    import happen_nb

INCARNATION = "f0f0f0f0f0f0"


class ForeignOwner:
    """The owner of a node, in a thread with an event loop and a NATS connection of its own.

    Parameters
    ----------
    space : Space
        Names the server and the space; nothing else of it is used.
    node : str
    """

    def __init__(self, space: happen_nb.Space, node: str) -> None:
        self.questions: list[dict[str, Any]] = []
        """The questions so far."""
        self.answer: bytes = b"{}"
        """The answer to every question."""
        self._space, self._node = space.name, node
        self._url, self._token = space.server.url, space.server.token
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._client.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def reply(self, event: happen_nb.Event, body: bytes) -> None:
        """Send a reply to an event."""
        address = event.id.partition("-")[0]
        self._run(self._publish(f"_happen.{self._space}.reply.{address}", body))

    def asked(self, event: happen_nb.Event) -> int:
        """Count the questions about an event."""
        return sum(question.get("send") == event.id for question in self.questions)

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        done: Future[Any] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return done.result(20)

    async def _start(self) -> None:
        self._client = await nats.connect(self._url, token=self._token)
        await self._client.subscribe(f"_happen.{self._space}.live.{INCARNATION}", cb=self._asked)
        record = {"node": self._node, "incarnation": INCARNATION}
        subject = f"happen.{self._space}.owner.{self._node}"
        stored = await self._client.request(subject, json.dumps(record).encode(), timeout=30)
        assert "seq" in json.loads(stored.data)

    async def _asked(self, message: Msg) -> None:
        self.questions.append(json.loads(message.data))
        await message.respond(self.answer)

    async def _publish(self, subject: str, body: bytes) -> None:
        await self._client.publish(subject, body)
        await self._client.flush()
