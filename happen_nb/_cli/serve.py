"""``happen server``: runs the embedded server in the foreground, so that it outlives the kernels."""

from __future__ import annotations

import argparse
import logging
import signal
import time
from pathlib import Path

from happen_nb._cli.common import (
    Commands,
    add_command,
    add_store_option,
    chosen_store,
    describe_processes,
    describe_status,
    foreground,
    presence_in,
    refuse,
    store_use,
    wait_until_free,
    warn_of_nats_url,
    write,
)
from happen_nb._server import EmbeddedServer, join
from happen_nb._server.launcher import find_nats_server, version_of
from happen_nb._server.store import is_read_only, prepare_store, store_status
from happen_nb._server.supervision.server_info import NAME as SERVER_INFO
from happen_nb._server.supervision.store_files import FOLDER
from happen_nb.errors import HappenError

_DESCRIPTION = """\
Run the embedded NATS server until Ctrl-C or SIGTERM, also while no notebook is
open. Notebooks do not need this: they start and share a server automatically.
It listens on this machine only."""
_EXAMPLES = """\
  happen server                    on the store that connect() uses here
  happen server --store data/live  on a folder, which is created if necessary
  happen server --show-token       also print the token, for other NATS programs
"""
_IN_USE = ("serving", "starting", "elsewhere")


def add_to(commands: Commands) -> None:
    parser = add_command(
        commands,
        "server",
        _run,
        help="run the embedded server in the foreground",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
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


def _run(options: argparse.Namespace, _: list[str]) -> int:
    store = chosen_store(options)
    if store is None:
        return refuse(
            "server", "an in-memory server is of use to one process only; give a folder: --store FOLDER"
        )
    if is_read_only(store):
        return refuse("server", f"{store} is read-only; give another folder: --store FOLDER")
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
            time.sleep(86_400)
    except KeyboardInterrupt:
        if server is not None:
            _end(server, store)
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


def _end(server: EmbeddedServer, store: Path) -> None:
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
