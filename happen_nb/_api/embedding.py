"""Keep an open space in touch with its embedded server."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from happen_nb._runtime.io import io_thread
from happen_nb._server.store import KnownPosition

if TYPE_CHECKING:
    from happen_nb._runtime.log import Log
    from happen_nb._server import EmbeddedServer

NOTE_INTERVAL_SECONDS = 1.0
"""Interval at which the position of a space is written down."""


class Embedding:
    """Follow the embedded server to another port, ask it about failures, and note the space's position."""

    def __init__(self, log: Log, server: EmbeddedServer) -> None:
        self._log = log
        self._server = server
        server.on_moved(self._moved)
        diagnose_by(log, server)
        if (seen := self._seen()) is not None:
            seen.warn_of_loss(log.subjects.space, log.info.last)
            log.background(self._keep_noting())

    def end(self) -> None:
        """Stop after the space was closed."""
        self._server.off_moved(self._moved)
        self._note()

    def _moved(self, url: str) -> None:
        io_thread().call_soon(self._log.connection.move_to, url)

    def _seen(self) -> KnownPosition | None:
        if self._server.store is None:
            return None
        return KnownPosition(self._server.store, self._log.subjects.stream, self._log.info.created)

    def _note(self) -> None:
        if (seen := self._seen()) is not None:
            seen.update(self._log.replica.position)

    async def _keep_noting(self) -> None:
        noted = 0
        while True:
            if self._log.replica.position != noted:
                noted = self._log.replica.position
                self._note()
            await asyncio.sleep(NOTE_INTERVAL_SECONDS)


def diagnose_by(log: Log, server: EmbeddedServer) -> None:
    """Ask the server for the reason when a call has no answer."""
    log.connection.diagnose = partial(server.diagnose, server.identity)
