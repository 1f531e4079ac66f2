"""The command ``happen``: its subcommands, what they share, and which processes use a store."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from happen_nb import __version__
from happen_nb._journal.client import Credentials
from happen_nb._journal.connection import Connection
from happen_nb._journal.presence import SpacePresence, list_presence
from happen_nb._server.store import StoreStatus, find_store, is_unlocked, store_status, wanted_store
from happen_nb._server.supervision import store_folder
from happen_nb._server.supervision.main import GRACE_SECONDS
from happen_nb._server.supervision.store_folder import FOREGROUND
from happen_nb.errors import HappenError

INTERRUPTED = 130
"""The exit code of a command ended by Ctrl-C, as in shells."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        The arguments after ``happen``; default: ``sys.argv``.

    Returns
    -------
    int
        0, or 1 if something is wrong or missing; the reason is on stderr.
    """
    from happen_nb._cli.commands import add_clean, add_lab, add_server  # they import what is below
    from happen_nb._cli.doctor import add_doctor

    parser = argparse.ArgumentParser(
        prog="happen", description="Live state and events in notebooks, on a real NATS server."
    )
    parser.add_argument("--version", action="version", version=f"happen_nb {__version__}")
    commands = parser.add_subparsers(dest="command", title="commands")
    for add in (add_lab, add_server, add_doctor, add_clean):
        add(commands)
    options, unknown = parser.parse_known_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    if unknown and options.command != "lab":
        commands.choices[options.command].error(f"unknown: {' '.join(unknown)}")
    try:
        code: int = options.run(options, unknown)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (HappenError, OSError) as error:
        print(f"happen {options.command}: {error}", file=sys.stderr)
        return 1
    return code


Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run: TypeAlias = Callable[[argparse.Namespace, list[str]], int]

ANSWER_SECONDS = 3.0
"""Time for a server to answer."""
_END_SECONDS = GRACE_SECONDS + 3.0  # an unused server ends within this time
_POLL_SECONDS = 0.05


def add_command(
    commands: Commands, name: str, run: Run, *, help: str, description: str, examples: str
) -> argparse.ArgumentParser:
    """Add a subcommand; `run` receives its options and the unknown arguments, and returns the exit code."""
    parser = commands.add_parser(
        name,
        help=help,
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_store_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store",
        metavar="FOLDER",
        type=_not_empty,
        help="the embedded server's folder; default: the one that connect() uses here, which is "
        "$HAPPEN_STORE, else the nearest .happen upwards in the project, else ./.happen",
    )


def _not_empty(folder: str) -> str:
    if not folder:
        raise argparse.ArgumentTypeError("the folder is empty")
    return folder


def chosen_store(options: argparse.Namespace) -> Path | None:
    """Return the store that the options name, or the default; None for one in memory."""
    return wanted_store() if options.store is None else find_store(options.store)


def write(text: str) -> None:
    """Print a line immediately; the command goes on if its reader has ended, such as ``head``."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def refuse(command: str, reason: str) -> int:
    """Print the reason on stderr, and return the exit code."""
    print(f"happen {command}: {reason}", file=sys.stderr, flush=True)
    return 1


def warn_of_nats_url(command: str) -> None:
    """Warn if a plain ``connect()`` does not use the embedded server."""
    if os.environ.get("NATS_URL"):
        refuse(command, "$NATS_URL is set, so a plain connect() goes there, not to this store")


def presence_at(servers: tuple[str, ...], credentials: Credentials) -> list[SpacePresence]:
    """Return the spaces of a server with the processes in them; HappenError if it cannot be queried."""

    async def query() -> list[SpacePresence]:
        connection = await Connection.open(servers, credentials, timeout=ANSWER_SECONDS)
        try:
            return await list_presence(connection, timeout=ANSWER_SECONDS)
        finally:
            await connection.close()

    return asyncio.run(query())


def presence_in(status: StoreStatus) -> list[SpacePresence]:
    """Return the same for the server of a store; empty if none answers."""
    if status.state != "serving":
        return []
    return presence_at((status.url,), Credentials(token=status.info.token))


def describe_processes(spaces: list[SpacePresence]) -> str:
    """Describe the processes in each space, for the user; empty if there are none."""
    return "; ".join(f'{each.description} (space "{each.space}")' for each in spaces if each.processes)


def store_use(store: Path) -> tuple[StoreStatus, str]:
    """Return the status of a store and a description of its users; empty if it is free.

    A server that is starting, or unused and about to end, is waited for.
    """
    status = _wait_for(store, lambda status: status.state != "starting")
    processes = describe_processes(presence_in(status))
    if not processes and not _is_kept_running(store):
        status = wait_until_free(store)
    return status, describe_status(status, processes) if status.held else ""


def _is_kept_running(store: Path) -> bool:
    """Return whether ``happen server`` runs on a store."""
    try:
        return not is_unlocked(store / FOREGROUND)
    except OSError:
        return False


def wait_until_free(store: Path) -> StoreStatus:
    """Wait until the server of a store has ended, and return the status of the store."""
    return _wait_for(store, lambda status: not status.held or status.state == "elsewhere")


def _wait_for(store: Path, condition: Callable[[StoreStatus], bool]) -> StoreStatus:
    """Return the status of a store when it meets a condition, or after a few seconds."""
    deadline = time.monotonic() + _END_SECONDS
    while not condition(status := store_status(store)) and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    return status


@contextmanager
def foreground(store: Path) -> Iterator[bool]:
    """Hold the lock of ``happen server`` on an existing store; False if another process holds it.

    A process that is starting or ending is waited for.
    """
    deadline = time.monotonic() + _END_SECONDS
    path = str(store / FOREGROUND)
    while (held := store_folder.try_acquire(path)) is None and store_status(store).state != "serving":
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    try:
        yield held is not None
    finally:
        if held is not None:
            os.close(held)


def describe_status(status: StoreStatus, processes: str = "") -> str:
    """Describe what uses a store, for the user."""
    info = status.info
    if status.state == "serving":
        users = f"connected: {processes}" if processes else "kept running, but no process is in its spaces"
        return f"a server already runs on {status.store}: {status.url}, process {info.pid}; {users}"
    if status.state == "elsewhere":
        return f"the store {status.store} cannot be used: {info.in_use_elsewhere()}"
    if status.state == "starting":
        return f"a server is starting on {status.store} (supervised by process {info.supervisor})"
    if status.state == "orphaned":
        return f"a server runs on {status.store}: {status.url}, process {info.pid}; its supervisor has ended"
    return f"a process holds {status.store} and does not answer" + (
        f"; it was process {info.supervisor}" if info.supervisor else ""
    )
