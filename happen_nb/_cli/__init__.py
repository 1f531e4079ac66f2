"""The command ``happen``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from happen_nb import __version__
from happen_nb._cli.commands import add_clean, add_lab, add_server
from happen_nb._cli.doctor import add_doctor
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
