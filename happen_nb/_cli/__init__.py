"""The command ``happen``; each subcommand has a module of its own here."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from happen_nb import __version__
from happen_nb._cli import clean, doctor, lab, server
from happen_nb.errors import HappenError

INTERRUPTED = 130
"""The exit code of a command that Ctrl-C has ended, as shells have it."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows ``happen``; ``sys.argv`` without it.

    Returns
    -------
    int
        0, or 1 when something is wrong or missing; the reason stands on stderr.
    """
    parser = argparse.ArgumentParser(
        prog="happen", description="Live state and events in notebooks, on a real NATS server."
    )
    parser.add_argument("--version", action="version", version=f"happen_nb {__version__}")
    commands = parser.add_subparsers(dest="command", title="commands")
    for command in (lab, server, doctor, clean):
        command.add_to(commands)
    options, further = parser.parse_known_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    if further and options.command != "lab":
        commands.choices[options.command].error(f"unknown: {' '.join(further)}")
    return _run(options, further)


def _run(options: argparse.Namespace, further: list[str]) -> int:
    try:
        code: int = options.run(options, further)
    except KeyboardInterrupt:
        return INTERRUPTED
    except (HappenError, OSError) as error:
        print(f"happen {options.command}: {error}", file=sys.stderr)
        return 1
    return code
