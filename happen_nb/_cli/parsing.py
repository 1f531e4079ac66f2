"""What the subcommands' options have in common."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from happen_nb._server.store import MEMORY, wanted_store

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"
Run: TypeAlias = Callable[[argparse.Namespace, list[str]], int]


def add_command(
    commands: Commands, name: str, run: Run, *, help: str, description: str, examples: str
) -> argparse.ArgumentParser:
    """Add a subcommand; `run` gets its options and what was not understood, and gives the exit code."""
    parser = commands.add_parser(
        name,
        help=help,
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def add_store(parser: argparse.ArgumentParser) -> None:
    """Let a store be named."""
    parser.add_argument(
        "--store",
        metavar="FOLDER",
        help="the embedded server's folder; default: the one that connect() takes here, which is "
        "$HAPPEN_STORE, else the nearest .happen upwards in the project, else ./.happen",
    )


def store_of(options: argparse.Namespace) -> Path | None:
    """The store that is meant, None for one in memory."""
    if options.store is None:
        return wanted_store()
    return None if options.store == MEMORY else Path(options.store).expanduser().absolute()


def tell(text: str) -> None:
    """Say something to who called."""
    print(text, flush=True)


def refuse(command: str, reason: str) -> int:
    """Say why nothing was done, and give the exit code of that."""
    print(f"happen {command}: {reason}", file=sys.stderr, flush=True)
    return 1


def warn_of_nats_url(command: str) -> None:
    """A plain ``connect()`` does not use the store that this is about."""
    if os.environ.get("NATS_URL"):
        print(
            f"happen {command}: $NATS_URL is set, so a plain connect() goes there, not to this store",
            file=sys.stderr,
            flush=True,
        )
