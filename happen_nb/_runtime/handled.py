"""The records of handled events, which are stored together."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from happen_nb._journal.encoding import encode_handled
from happen_nb._journal.publish import store_messages
from happen_nb._journal.wire import MAX_HANDLED_BYTES, MAX_HANDLINGS
from happen_nb._runtime.io import io_thread
from happen_nb.errors import HappenError, NotStoredError, OutcomeUnknownError

if TYPE_CHECKING:
    from happen_nb._model.records import HandledRecord
    from happen_nb._runtime.log import Log
    from happen_nb._runtime.progress import HandlerProgress

logger = logging.getLogger("happen_nb")

RECORD_SECONDS = 0.02  # seconds within which the record of a handled event is stored


class HandledRecords:
    """The records of this process that wait to be stored, behind the progress of state handlers."""

    def __init__(self, log: Log, progress: HandlerProgress) -> None:
        self._log = log
        self._progress = progress
        self._waiting: list[HandledRecord] = []
        self._storing: asyncio.Task[None] | None = None
        self._flushing = asyncio.Lock()

    def put(self, *records: HandledRecord) -> None:
        """Store soon that events were handled. From any thread."""
        self._waiting.extend(records)
        if self._storing is None:
            io_thread().call_soon(self._store_soon)

    def _store_soon(self) -> None:
        if self._storing is None and self._waiting:
            self._storing = self._log.background(self._flush_later())

    async def _flush_later(self) -> None:
        try:
            await asyncio.sleep(RECORD_SECONDS)
            await self.flush()
        finally:
            self._storing = None
            if self._waiting:
                io_thread().call_soon(self._store_soon)

    async def flush(self) -> None:
        """Store the records of the events handled so far; do not wait for later ones."""
        async with self._flushing:
            await self._progress.flush()
            left = len(self._waiting)
            while left > 0:
                number = min(left, MAX_HANDLINGS)  # and no more: threads may append between the slices
                records, self._waiting[:number] = self._waiting[:number], []
                left -= number
                if not await self._store(records):
                    return

    async def _store(self, records: list[HandledRecord]) -> bool:
        """Store records in messages that the server accepts; False if it cannot be reached."""
        log = self._log
        if log.stream.is_dropped:
            return True
        messages = encode_handled(
            log.subjects,
            records,
            by=log.incarnation,
            ttl=log.info.event_ttl,
            limit=min(MAX_HANDLED_BYTES, log.max_body),
        )
        for message, number in messages:
            try:
                sequence = await store_messages(
                    log.connection, [message], timeout=log.timeout, what="the records of handled events"
                )
            except (NotStoredError, OutcomeUnknownError):
                self._waiting[:0] = records  # for the next time: stored twice does no harm, lost does
                return False
            except HappenError as error:
                logger.warning("%d records of handled events are not stored: %s", number, error)
            except BaseException:  # the caller was interrupted, not the handlers
                self._waiting[:0] = records
                io_thread().call_soon(self._store_soon)
                raise
            else:
                try:
                    await log.reach(sequence, time.monotonic() + log.timeout)
                except HappenError as error:
                    logger.debug("records of handled events are stored at %d: %s", sequence, error)
            records = records[number:]
        return True
