"""``happen lab``: opens JupyterLab on notebooks, with the kernel of its own Python."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from happen_nb._cli.common import Commands, add_command, refuse, write

_SETTINGS = Path(__file__).parent.parent / "lab_settings"
_END_SECONDS = 5.0  # for requests to end
_DESCRIPTION = """\
Open JupyterLab on a folder of notebooks. Its kernels run in the Python of this
command, which has happen_nb. Further options are passed on to JupyterLab."""
_EXAMPLES = """\
  happen lab                        ./notebooks, or this folder if there is none
  happen lab tutorials              the folder tutorials
  happen lab --no-browser --port=0  print the URL only; any port
"""


def add_to(commands: Commands) -> None:
    parser = add_command(
        commands, "lab", _run, help="open JupyterLab", description=_DESCRIPTION, examples=_EXAMPLES
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, help="default: ./notebooks, or this folder if there is none"
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="print the URL instead of opening a browser"
    )
    parser.add_argument("--port", type=int, help="try this port first (default: 8888)")


def _run(options: argparse.Namespace, for_jupyter: list[str]) -> int:
    notebooks = Path("notebooks")
    folder: Path = options.folder or (notebooks if notebooks.is_dir() else Path())
    if not folder.is_dir():
        return refuse("lab", f"the folder {folder} does not exist")
    if find_spec("jupyterlab") is None:
        return refuse("lab", 'JupyterLab is not installed: pip install ".[lab]" in the clone of happen_nb')
    from jupyterlab.labapp import LabApp

    _prefer_this_python()
    # jupyter_server passes milliseconds to tornado for seconds; the warning means nothing
    logging.getLogger("tornado.general").addFilter(
        lambda record: "websocket_ping_timeout" not in record.getMessage()
    )
    server = LabApp.initialize_server(argv=[*_jupyter_options(options, folder), *for_jupyter])
    if options.no_browser:
        server.io_loop.add_callback(lambda: write(server.display_url.split()[0]))  # runs after it listens
    server.start()
    _cancel_requests(server.io_loop.asyncio_loop)
    return 0


def _cancel_requests(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel the requests that still run, as `asyncio.run` does; jupyter_server only stops its loop.

    Otherwise the process would never end: anyio stops a thread that reads a file when the request ends.
    """
    requests = asyncio.all_tasks(loop)
    if not requests:
        return
    for request in requests:
        request.cancel()
    waiting = loop.create_task(asyncio.wait(requests, timeout=_END_SECONDS))
    while not waiting.done():
        with contextlib.suppress(KeyboardInterrupt):  # tornado raises that of an interrupted request again
            loop.run_until_complete(waiting)


def _jupyter_options(options: argparse.Namespace, folder: Path) -> list[str]:
    chosen = [f"--ServerApp.root_dir={folder.resolve()}", "--Application.log_level=WARN"]
    chosen += ["--ServerApp.answer_yes=True"]  # Ctrl-C ends it without a prompt
    if options.no_browser:
        chosen += ["--ServerApp.open_browser=False"]
    if options.port is not None:
        chosen += [f"--ServerApp.port={options.port}"]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        chosen += ["--ServerApp.allow_root=True"]  # the user of most containers
    return chosen


def _prefer_this_python() -> None:
    """Prefer this Python's kernel, scripts and quiet settings to others of the same name."""
    _put_first("JUPYTER_PATH", Path(sys.prefix, "share", "jupyter"))
    _put_first("JUPYTER_CONFIG_PATH", _SETTINGS)
    _put_first("PATH", Path(sys.executable).parent)


def _put_first(variable: str, folder: Path) -> None:
    others = os.environ.get(variable)
    os.environ[variable] = os.pathsep.join([str(folder), others] if others else [str(folder)])
