"""The command ``happen``: its subcommands ``lab``, ``server`` and ``clean``, and what all of them share."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

from happen_nb import __version__
from happen_nb._display import byte_count, count
from happen_nb._journal.addresses import Credentials
from happen_nb._journal.connection import Connection
from happen_nb._journal.presence import list_presence
from happen_nb._journal.stream import Stream
from happen_nb._journal.wire import Subjects
from happen_nb._server import EmbeddedServer, find_nats_server, join, version_of
from happen_nb._server.store import (
    ANSWER_SECONDS,
    describe_processes,
    describe_status,
    find_store,
    foreground,
    is_read_only,
    is_store,
    prepare_store,
    presence_in,
    remove_store,
    size_of,
    spaces_on_disk,
    store_status,
    store_use,
    wait_until_free,
    wanted_store,
)
from happen_nb._server.supervision.store_folder import FOLDER, SERVER_INFO
from happen_nb.errors import HappenError, SpaceInUseError

INTERRUPTED = 130  # the exit code of a command ended by Ctrl-C, as in shells


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line (default: ``sys.argv``), and return its exit code.

    It is 1 if something is wrong or missing; the reason is on stderr.
    """
    from happen_nb._cli.doctor import add_doctor  # it imports the names below

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
    """Print a line immediately; the command continues if its reader, such as ``head``, has ended."""
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


_SETTINGS = Path(__file__).parent.parent / "lab_settings"
_END_SECONDS = 5.0  # for requests to end
_MAX_PORT = 65_535
_LAB = """\
Open JupyterLab on a folder of notebooks. Its kernels run in the Python of this
command, which has happen_nb. Further options are passed on to JupyterLab."""
_LAB_EXAMPLES = """\
  happen lab                        ./notebooks, or this folder if there is none
  happen lab tutorials              the folder tutorials
  happen lab --no-browser --port=0  print the URL only; any port
"""


def add_lab(commands: Commands) -> None:
    parser = add_command(
        commands, "lab", _run_lab, help="open JupyterLab", description=_LAB, examples=_LAB_EXAMPLES
    )
    parser.add_argument(
        "folder", nargs="?", type=Path, help="default: ./notebooks, or this folder if there is none"
    )
    parser.add_argument(
        "--no-browser", action="store_true", help="print the URL instead of opening a browser"
    )
    parser.add_argument("--port", type=_port, help="try this port first (default: 8888)")


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > _MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text} is not a port; use a number from 0 to {_MAX_PORT}")
    return int(text)


def _run_lab(options: argparse.Namespace, for_jupyter: list[str]) -> int:
    notebooks = Path("notebooks")
    folder: Path = options.folder or (notebooks if notebooks.is_dir() else Path())
    if not folder.is_dir():
        return refuse("lab", f"the folder {folder} {'is a file' if folder.exists() else 'does not exist'}")
    if find_spec("jupyterlab") is None:
        return refuse("lab", 'JupyterLab is not installed: pip install ".[lab]" in the clone of happen_nb')
    # jsonschema checks IRIs with it, of which Jupyter's schemas have none; its import takes 1.5 s.
    sys.modules.setdefault("rfc3987_syntax", None)  # type: ignore[arg-type]
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
    """Prefer this Python's kernel, scripts, extension and quiet settings to others of the same name."""
    _put_first("JUPYTER_PATH", Path(sys.prefix, "share", "jupyter"))
    _put_first("JUPYTER_PATH", _SETTINGS)
    _put_first("JUPYTER_CONFIG_PATH", _SETTINGS)
    _put_first("PATH", Path(sys.executable).parent)


def _put_first(variable: str, folder: Path) -> None:
    others = os.environ.get(variable)
    os.environ[variable] = os.pathsep.join([str(folder), others] if others else [str(folder)])


_SERVER = """\
Run the embedded NATS server until Ctrl-C or SIGTERM, also while no notebook is
open. Notebooks do not need this: they start and share a server automatically.
It listens on this machine only."""
_SERVER_EXAMPLES = """\
  happen server                    on the store that connect() uses here
  happen server --store data/live  on a folder, which is created if necessary
  happen server --show-token       also print the token, for other NATS programs
"""
_IN_USE = ("serving", "starting", "elsewhere")
SLEEP_SECONDS = 1.0  # a signal that comes just before a sleep does not end it


def add_server(commands: Commands) -> None:
    parser = add_command(
        commands,
        "server",
        _run_server,
        help="run the embedded server in the foreground",
        description=_SERVER,
        examples=_SERVER_EXAMPLES,
    )
    add_store_option(parser)
    parser.add_argument(
        "--sync",
        choices=("default", "always"),
        default="default",
        help="when it writes to disk: within two minutes (default), or at each commit",
    )
    parser.add_argument(
        "--show-token", action="store_true", help="print the token that other NATS programs must present"
    )


def _run_server(options: argparse.Namespace, _: list[str]) -> int:
    store = chosen_store(options)
    if store is None:
        return refuse("server", "an in-memory server serves one process only; pass a folder: --store FOLDER")
    if is_read_only(store):
        return refuse("server", f"{store} is read-only; pass another folder: --store FOLDER")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end as by Ctrl-C
    status, reason = store_use(store)
    if status.state not in _IN_USE:
        prepare_store(store)
        with foreground(store) as alone:
            if alone:
                logging.basicConfig(format="happen server: %(message)s", level=logging.WARNING)
                return _serve(store, options)
        status = store_status(store)
        reason = describe_status(status, describe_processes(presence_in(status)))
    hint = f'. To use it: happen.connect(store="{store}")' if status.state == "serving" else ""
    return refuse("server", f"{reason}{hint}")


def _serve(store: Path, options: argparse.Namespace) -> int:
    server: EmbeddedServer | None = None
    try:
        server = join(store, sync=options.sync)
        server.on_moved(lambda url: write(f"  moved to  {url}"))
        warn_of_nats_url("server")
        _print_addresses(server, store, show_token=options.show_token)
        while True:
            time.sleep(SLEEP_SECONDS)
    except KeyboardInterrupt:
        if server is not None:
            _end_server(server, store)
    return 0


def _print_addresses(server: EmbeddedServer, store: Path, *, show_token: bool) -> None:
    version = version_of(find_nats_server())
    token = server.token if show_token else f"in {store / SERVER_INFO}, or happen server --show-token"
    write(f"nats-server {version} runs on {store}")
    write(f"  url       {server.url}")
    write(f"  token     {token}")
    if store.name == FOLDER:
        write(f"  connect   happen.connect(), in {store.parent} and the folders of its project")
    write(f'  anywhere  happen.connect(store="{store}")')
    write("Press Ctrl-C to end it.")


def _end_server(server: EmbeddedServer, store: Path) -> None:
    """Leave, and wait until the server has ended, unless other processes use it."""
    try:
        others = describe_processes(presence_in(store_status(store)))
    except HappenError:
        others = ""  # the server does not answer; report how it ends nevertheless
    server.close(at_once=True)
    if others:
        write(f"left; the server continues until these have left too: {others}")
        return
    write("ending ...")
    status = wait_until_free(store)
    write(f"left; {describe_status(status)}" if status.held else "ended; everything is stored")


_CLEAN = """\
Show the spaces in the embedded server's store and their sizes, and after a
prompt remove the named ones, or the whole store if none is named. This cannot be
undone. A space that a process is connected to is not removed."""
_CLEAN_EXAMPLES = """\
  happen clean                       the store that connect() uses here
  happen clean lab trial             the spaces lab and trial only
  happen clean --store old/.happen   another store
  happen clean --yes                 without a prompt, for scripts
"""


def add_clean(commands: Commands) -> None:
    parser = add_command(
        commands,
        "clean",
        _run_clean,
        help="remove a store, or spaces in it",
        description=_CLEAN,
        examples=_CLEAN_EXAMPLES,
    )
    parser.add_argument("spaces", nargs="*", metavar="SPACE", help="only this space; the store stays")
    add_store_option(parser)
    parser.add_argument("--yes", "-y", action="store_true", help="do not prompt")


def _run_clean(options: argparse.Namespace, _: list[str]) -> int:
    store = chosen_store(options)
    if store is None:
        return refuse("clean", "an in-memory server keeps nothing; there is nothing to remove")
    if not store.exists():
        if options.spaces:
            return refuse("clean", f"the store {store} does not exist")
        write(f"the store {store} does not exist")
        return 0
    if not is_store(store):
        return refuse("clean", f"{store} is not the store of an embedded server; nothing was removed")
    warn_of_nats_url("clean")
    found = spaces_on_disk(store)
    unknown = [name for name in options.spaces if name not in found]
    if unknown:
        there = ", ".join(found) or "none"
        return refuse("clean", f"no space {', '.join(unknown)} in {store}; its spaces: {there}")
    _show_store(store, found)
    return _clean_spaces(store, options) if options.spaces else _clean_store(store, options)


def _show_store(store: Path, found: dict[str, int]) -> None:
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
