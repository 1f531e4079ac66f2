"""``happen server``: the embedded server in the foreground, for who wants it to outlive the kernels."""

from __future__ import annotations

import argparse
import logging
import signal
import time
from pathlib import Path

from happen_nb._cli.occupancy import at_rest, attendance_of, describe, foreground, occupied, people
from happen_nb._cli.parsing import (
    Commands,
    add_command,
    add_store,
    refuse,
    store_of,
    tell,
    warn_of_nats_url,
)
from happen_nb._server import NatsServer, join
from happen_nb._server.spawn import find_nats_server, version_of
from happen_nb._server.store import is_read_only, prepare_store
from happen_nb._server.supervision.belongings import FOLDER
from happen_nb._server.supervision.hints import NAME as HINTS
from happen_nb._server.survey import survey
from happen_nb.errors import HappenError

_DESCRIPTION = """\
Run the embedded NATS server until Ctrl-C or SIGTERM, also while no notebook is
open. Notebooks need no such thing: they start and share a server by themselves.
It listens on this machine only."""
_EXAMPLES = """\
  happen server                    on the store that connect() takes here
  happen server --store data/live  on a folder, which is made if it is not there
  happen server --show-token       print what other NATS programs need, too
"""
_DAY = 86_400.0
_TAKEN = ("serving", "starting", "elsewhere")


def add_to(commands: Commands) -> None:
    """Add it to the command line."""
    parser = add_command(
        commands,
        "server",
        _run,
        help="run the embedded server in the foreground",
        description=_DESCRIPTION,
        examples=_EXAMPLES,
    )
    add_store(parser)
    parser.add_argument(
        "--sync",
        choices=("default", "always"),
        default="default",
        help="when it writes to disk: within two minutes (default), or at each commit",
    )
    parser.add_argument(
        "--show-token", action="store_true", help="print the token that other NATS programs must show"
    )


def _run(options: argparse.Namespace, _: list[str]) -> int:
    store = store_of(options)
    if store is None:
        return refuse(
            "server", "a server in memory is of use to one process only; give a folder: --store FOLDER"
        )
    if is_read_only(store):
        return refuse("server", f"{store} is read-only; give another folder: --store FOLDER")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # the same end as by Ctrl-C
    found, reason = occupied(store)
    if found.state not in _TAKEN:
        prepare_store(store)
        with foreground(store) as alone:
            if alone:
                logging.basicConfig(format="happen server: %(message)s", level=logging.WARNING)
                return _serve(store, options)
        found = survey(store)
        reason = describe(found, people(attendance_of(found)))
    hint = f'. Use it by happen.connect(store="{store}")' if found.state == "serving" else ""
    return refuse("server", f"{reason}{hint}")


def _serve(store: Path, options: argparse.Namespace) -> int:
    server: NatsServer | None = None
    try:
        server = join(store, sync=options.sync)
        server.on_moved(lambda url: tell(f"  moved to  {url}"))
        warn_of_nats_url("server")
        _introduce(server, store, show_token=options.show_token)
        while True:
            time.sleep(_DAY)
    except KeyboardInterrupt:
        if server is not None:
            _end(server, store)
    return 0


def _introduce(server: NatsServer, store: Path, *, show_token: bool) -> None:
    version = version_of(find_nats_server())
    token = server.token if show_token else f"in {store / HINTS}, or happen server --show-token"
    tell(f"nats-server {version} runs on {store}")
    tell(f"  url       {server.url}")
    tell(f"  token     {token}")
    if store.name == FOLDER:
        tell(f"  connect   happen.connect(), in {store.parent} and the folders of its project")
    tell(f'  anywhere  happen.connect(store="{store}")')
    tell("Ctrl-C ends it.")


def _end(server: NatsServer, store: Path) -> None:
    """Leave; and wait until nothing runs any more, unless others are there."""
    there = _others(store)
    server.close(at_once=True)
    if there:
        tell(f"left; the server runs on until these have left too: {there}")
        return
    tell("ending ...")
    found = at_rest(store)
    tell(f"left; {describe(found, '')}" if found.held else "ended; everything is stored")


def _others(store: Path) -> str:
    try:
        return people(attendance_of(survey(store)))
    except HappenError:
        return ""  # it is the server that does not answer; how it ends is told all the same
