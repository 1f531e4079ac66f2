"""Copying the stream of a space to one of another name, by the server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from happen_nb._journal.client import server_error
from happen_nb._journal.stream import Stream
from happen_nb._journal.wire import Subjects
from happen_nb.errors import HappenTimeoutError, SpaceNotEmptyError

if TYPE_CHECKING:
    from happen_nb._journal.connection import Connection

KINDS: Final = ("event", "owner", "handled", "start", "passed", "durable", "once")
"""The messages that are copied, with the states, the clock and the clear; alarms name their old subject."""
POLL_SECONDS: Final = 0.02


async def copy_stream(source: Stream, space: str) -> None:
    """Copy everything but what is scheduled to a new space on the same server.

    Raises
    ------
    SpaceNotEmptyError
        There is such a space already.
    """
    target = Stream(source.connection, Subjects(space), source.timeout)
    if await target.exists():
        raise SpaceNotEmptyError(f'keep: the space "{space}" exists already; take another name')
    info = await source.info()
    config = target.configuration(info.options)
    # A stream with a source cannot schedule.
    filling = {**config, "allow_msg_schedules": False, "sources": [_source(source.subjects, target.subjects)]}
    try:
        await _call(source.connection, "CREATE", filling, source.timeout)
        await _wait_copied(target, source.subjects.stream)
        await _call(source.connection, "UPDATE", config, source.timeout)
        # The positions of state handlers refer to the sequences of the original, which has more of them.
        while (await target.info()).last < info.last:
            await target.store_barrier()
    except BaseException:
        await target.drop()
        raise


def _source(here: Subjects, there: Subjects) -> dict[str, Any]:
    rest = [*(f"{kind}.>" for kind in KINDS), "clock", "clear"]
    renamed = [(here.states, there.states)]
    renamed += [(here.rest_prefix + kind, there.rest_prefix + kind) for kind in rest]
    transforms = [{"src": before, "dest": after} for before, after in renamed]
    return {"name": here.stream, "subject_transforms": transforms}


async def _call(connection: Connection, verb: str, config: dict[str, Any], timeout: float) -> None:
    answer = await connection.api(f"STREAM.{verb}.{config['name']}", config, timeout=timeout)
    if error := answer.get("error"):
        raise server_error(f'copying to the stream "{config["name"]}"', error)


async def _wait_copied(target: Stream, source: str) -> None:
    deadline = asyncio.get_running_loop().time() + target.timeout
    while not await target.has_copied(source):
        if asyncio.get_running_loop().time() > deadline:
            raise HappenTimeoutError(f"keep: the journal was not copied within {target.timeout:g} s")
        await asyncio.sleep(POLL_SECONDS)
