"""``happen clean``: removes a store, or some of its spaces, permanently."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from happen_nb._cli.common import (
    ANSWER_SECONDS,
    Commands,
    add_command,
    add_store_option,
    chosen_store,
    refuse,
    store_use,
    warn_of_nats_url,
    write,
)
from happen_nb._display.spans import byte_count, count
from happen_nb._journal.client import Credentials
from happen_nb._journal.connection import Connection
from happen_nb._journal.presence import list_presence
from happen_nb._journal.stream import Stream
from happen_nb._journal.wire import Subjects
from happen_nb._server import EmbeddedServer, join
from happen_nb._server.store import is_store, remove_store, size_of, spaces_on_disk
from happen_nb.errors import SpaceInUseError

_DESCRIPTION = """\
Show the spaces in the embedded server's store and their sizes, and after a
prompt remove the named ones, or the whole store if none is named. This cannot be
undone. A space that a process is connected to is not removed."""
_EXAMPLES = """\
  happen clean                       the store that connect() uses here
  happen clean lab trial             the spaces lab and trial only
  happen clean --store old/.happen   another store
  happen clean --yes                 without a prompt, for scripts
"""


def add_to(commands: Commands) -> None:
    parser = add_command(
        commands,
        "clean",
        _run,
        help="remove a store, or spaces in it",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    parser.add_argument("spaces", nargs="*", metavar="SPACE", help="only this space; the store stays")
    add_store_option(parser)
    parser.add_argument("--yes", "-y", action="store_true", help="do not prompt")


def _run(options: argparse.Namespace, _: list[str]) -> int:
    store = chosen_store(options)
    if store is None:
        return refuse("clean", "an in-memory server keeps nothing; there is nothing to remove")
    if not store.exists():
        write(f"the store {store} does not exist")
        return 1 if options.spaces else 0
    if not is_store(store):
        return refuse("clean", f"{store} is not the store of an embedded server; nothing was removed")
    warn_of_nats_url("clean")
    found = spaces_on_disk(store)
    unknown = [name for name in options.spaces if name not in found]
    if unknown:
        there = ", ".join(found) or "none"
        return refuse("clean", f"no space {', '.join(unknown)} in {store}; its spaces: {there}")
    _show(store, found)
    return _clean_spaces(store, options) if options.spaces else _clean_store(store, options)


def _show(store: Path, found: dict[str, int]) -> None:
    write(f"{store}: {count(len(found), 'space')}, {byte_count(size_of(store))} in total")
    width = max(map(len, found), default=0)
    for name, size in found.items():
        write(f"  {name:<{width}}  {byte_count(size):>10}")


def _clean_store(store: Path, options: argparse.Namespace) -> int:
    _, reason = store_use(store)
    if reason:
        return refuse("clean", f"{reason}. Close it there first; nothing was removed")
    if not _confirmed("Remove all of it permanently?", options):
        return 1
    left = remove_store(store)
    write(f"removed; {', '.join(left)} remains, which does not belong to the server" if left else "removed")
    return 0


def _clean_spaces(store: Path, options: argparse.Namespace) -> int:
    names = list(dict.fromkeys(options.spaces))
    if not _confirmed(f"Remove {', '.join(names)} permanently?", options):
        return 1
    server = join(store)
    try:
        asyncio.run(_drop(server, names))
    finally:
        server.close(at_once=True)
    write(f"removed {', '.join(names)}")
    return 0


async def _drop(server: EmbeddedServer, names: list[str]) -> None:
    """Remove spaces; if one of them is in use, remove none."""
    connection = await Connection.open((server.url,), Credentials(token=server.token), timeout=ANSWER_SECONDS)
    try:
        for space in await list_presence(connection, timeout=ANSWER_SECONDS):
            if space.space in names and space.processes:
                raise SpaceInUseError(
                    f'the space "{space.space}" is in use by {space.description}; close it there first; '
                    "nothing was removed"
                )
        for name in names:
            await Stream(connection, Subjects(name), ANSWER_SECONDS).drop()
    finally:
        await connection.close()


def _confirmed(question: str, options: argparse.Namespace) -> bool:
    if options.yes:
        return True
    try:
        answer = input(f"{question} [y/N] ")
    except EOFError:
        answer = ""
        write("")
    if answer.strip().lower() in {"y", "yes"}:
        return True
    write("nothing was removed")
    return False
