"""``happen clean``: removes a store, or some of its spaces, for good."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from happen_nb._cli.occupancy import TIMEOUT, occupied
from happen_nb._cli.parsing import (
    Commands,
    add_command,
    add_store,
    refuse,
    store_of,
    tell,
    warn_of_nats_url,
)
from happen_nb._display.spans import byte_count, count
from happen_nb._journal.auth import Credentials
from happen_nb._journal.connection import Connection
from happen_nb._journal.spaces import list_presence
from happen_nb._journal.stream import Stream
from happen_nb._journal.wire import Subjects
from happen_nb._server import NatsServer, join
from happen_nb._server.removal import is_store, remove_store
from happen_nb._server.survey import size_of, spaces_on_disk
from happen_nb.errors import SpaceInUseError

_DESCRIPTION = """\
Show the spaces in the embedded server's store and their sizes, and after asking
remove the named ones, or the whole store if none is named. There is no way back.
What a process is connected to is not removed."""
_EXAMPLES = """\
  happen clean                       the store that connect() takes here
  happen clean lab trial             the spaces lab and trial only
  happen clean --store old/.happen   another store
  happen clean --yes                 without asking, for scripts
"""


def add_to(commands: Commands) -> None:
    """Add it to the command line."""
    parser = add_command(
        commands,
        "clean",
        _run,
        help="remove a store, or spaces in it",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    parser.add_argument("spaces", nargs="*", metavar="SPACE", help="only this space; the store stays")
    add_store(parser)
    parser.add_argument("--yes", "-y", action="store_true", help="do not ask")


def _run(options: argparse.Namespace, _: list[str]) -> int:
    store = store_of(options)
    if store is None:
        return refuse("clean", "what is in memory is gone at the end; there is nothing to remove")
    if not store.exists():
        tell(f"there is no store {store}")
        return 1 if options.spaces else 0
    if not is_store(store):
        return refuse("clean", f"{store} is not the store of an embedded server; nothing was removed")
    warn_of_nats_url("clean")
    found = spaces_on_disk(store)
    unknown = [name for name in options.spaces if name not in found]
    if unknown:
        there = ", ".join(found) or "none"
        return refuse("clean", f"no space {', '.join(unknown)} in {store}; there are: {there}")
    _show(store, found)
    return _clean_spaces(store, options) if options.spaces else _clean_store(store, options)


def _show(store: Path, found: dict[str, int]) -> None:
    tell(f"{store}: {count(len(found), 'space')}, {byte_count(size_of(store))} in all")
    width = max(map(len, found), default=0)
    for name, size in found.items():
        tell(f"  {name:<{width}}  {byte_count(size):>10}")


def _clean_store(store: Path, options: argparse.Namespace) -> int:
    _, reason = occupied(store)
    if reason:
        return refuse("clean", f"{reason}. Close it there first; nothing was removed")
    if not _agreed("Remove all of it for good?", options):
        return 1
    left = remove_store(store)
    tell(f"removed; {', '.join(left)} stays, which is not the server's" if left else "removed")
    return 0


def _clean_spaces(store: Path, options: argparse.Namespace) -> int:
    names = list(dict.fromkeys(options.spaces))
    if not _agreed(f"Remove {', '.join(names)} for good?", options):
        return 1
    server = join(store)
    try:
        asyncio.run(_drop(server, names))
    finally:
        server.close(at_once=True)
    tell(f"removed {', '.join(names)}")
    return 0


async def _drop(server: NatsServer, names: list[str]) -> None:
    """Remove spaces, unless one of them is in use: then none."""
    connection = await Connection.open((server.url,), Credentials(token=server.token), timeout=TIMEOUT)
    try:
        for space in await list_presence(connection, timeout=TIMEOUT):
            if space.space in names and space.processes:
                raise SpaceInUseError(
                    f'the space "{space.space}" is in use by {space.description}; close it there first; '
                    "nothing was removed"
                )
        for name in names:
            await Stream(connection, Subjects(name), TIMEOUT).drop()
    finally:
        await connection.close()


def _agreed(question: str, options: argparse.Namespace) -> bool:
    if options.yes:
        return True
    try:
        answer = input(f"{question} [y/N] ")
    except EOFError:
        answer = ""
        tell("")
    if answer.strip().lower() in {"y", "yes"}:
        return True
    tell("nothing was removed")
    return False
