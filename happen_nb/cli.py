"""The command ``happen``: opens JupyterLab on notebooks, with the kernel of the Python it runs in."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

_SETTINGS = Path(__file__).parent / "lab_settings"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Parameters
    ----------
    arguments : sequence of str, optional
        What follows ``happen``; ``sys.argv`` without it.

    Returns
    -------
    int
        0, or 1 when something is missing; the reason stands on stderr.
    """
    parser = _parser()
    options, for_jupyter = parser.parse_known_args(arguments)
    if options.command is None:
        parser.print_help()
        return 0
    return _lab(options, for_jupyter)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="happen", description=__doc__)
    parser.add_argument("--version", action="version", version=f"happen_nb {version('happen_nb')}")
    lab = parser.add_subparsers(dest="command").add_parser(
        "lab",
        help="open JupyterLab",
        description="Open JupyterLab on a folder of notebooks. Further options are passed on to JupyterLab.",
    )
    lab.add_argument(
        "folder", nargs="?", type=Path, help="default: ./notebooks, or this folder if there is none"
    )
    lab.add_argument("--no-browser", action="store_true", help="open no browser, only print the URL")
    lab.add_argument("--port", type=int, help="try this port first (default: 8888)")
    return parser


def _lab(options: argparse.Namespace, for_jupyter: list[str]) -> int:
    folder = options.folder or _default_folder()
    if not folder.is_dir():
        return _refuse(f"there is no folder {folder}")
    if find_spec("jupyterlab") is None:
        return _refuse("JupyterLab is not installed: pip install jupyterlab notebook")
    from jupyterlab.labapp import LabApp

    _prefer_this_python()
    server = LabApp.initialize_server(argv=[*_jupyter_options(options, folder), *for_jupyter])
    if options.no_browser:
        server.io_loop.add_callback(_print_url, server)  # runs when it listens
    server.start()
    return 0


def _print_url(server: ServerApp) -> None:
    print(server.display_url.split()[0], flush=True)


def _refuse(reason: str) -> int:
    print(f"happen lab: {reason}", file=sys.stderr)
    return 1


def _default_folder() -> Path:
    notebooks = Path("notebooks")
    return notebooks if notebooks.is_dir() else Path()


def _jupyter_options(options: argparse.Namespace, folder: Path) -> list[str]:
    chosen = [f"--ServerApp.root_dir={folder.resolve()}", "--Application.log_level=WARN"]
    chosen += ["--ServerApp.answer_yes=True"]  # Ctrl-C ends it without asking back
    if options.no_browser:
        chosen += ["--ServerApp.open_browser=False"]
    if options.port is not None:
        chosen += [f"--ServerApp.port={options.port}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        chosen += ["--ServerApp.allow_root=True"]  # the user of most containers
    return chosen


def _prefer_this_python() -> None:
    """Let this Python's kernel, scripts and quiet settings win over others of the same name."""
    _put_first("JUPYTER_PATH", Path(sys.prefix, "share", "jupyter"))
    _put_first("JUPYTER_CONFIG_PATH", _SETTINGS)
    _put_first("PATH", Path(sys.executable).parent)


def _put_first(variable: str, folder: Path) -> None:
    others = os.environ.get(variable)
    os.environ[variable] = os.pathsep.join([str(folder), others] if others else [str(folder)])


if __name__ == "__main__":
    sys.exit(main())
